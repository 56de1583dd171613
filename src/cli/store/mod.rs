//! `kina store`: looks after what Kina remembers.

mod backup;
mod check;
mod restore;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use crate::home::HomeLock;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Verify the store, or a backup, without changing it
    Check(check::Args),
    /// Copy what a home cannot do without into one file; also while a kina runs
    Backup(backup::Args),
    /// Put a backup in the place of the store
    Restore(restore::Args),
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.verb {
        Verb::Check(args) => check::run(&args, context),
        Verb::Backup(args) => backup::run(&args, context).await,
        Verb::Restore(args) => restore::run(&args, context),
    }
}

/// The home for this command alone. Nobody is waited for: whoever holds it serves it.
fn alone(context: &Context, what: &str) -> Result<HomeLock, CliError> {
    context.home.check(&*context.world.files, rustix::process::geteuid().as_raw())?;
    context.home.lock().map_err(|error| {
        let error = CliError::from(error);
        match error.exit() {
            Exit::Busy => error.hint(format!("{what} needs the home for itself: end `kina serve` first")),
            _ => error,
        }
    })
}
