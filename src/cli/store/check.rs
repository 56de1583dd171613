//! `kina store check`: what the store holds, and what is wrong with it.

use std::path::PathBuf;

use crate::apiserver::audit::Audit;
use crate::apiserver::store::{RedbStore, Store};
use crate::backup::Backup;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Memory for pages.
const CACHE_BYTES: usize = 16 << 20;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A backup to verify, instead of the home's store
    #[arg(value_name = "FILE")]
    backup: Option<PathBuf>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let (store, name) = match &args.backup {
        Some(path) => {
            let backup = Backup::read(&*context.world.files, path)?;
            let text =
                format!("{}: whole, made at {} by kina {}", path.display(), backup.about.created, backup.about.kina);
            context.printer.data_line(&text)?;
            (backup.store()?, path.display().to_string())
        }
        None => {
            let path = context.home.store();
            if context.world.files.metadata(&path).is_err() {
                let error = CliError::new(Exit::NotFound, format!("there is no store at {}", path.display()));
                return Err(error.hint("`kina serve` makes an empty one; `kina store restore FILE` one from a backup"));
            }
            // Held until everything is read: nobody writes meanwhile.
            let _lock = super::alone(context, "`kina store check`")?;
            let store = RedbStore::inspect(&path, CACHE_BYTES)?;
            context.printer.data_line(&format!("{}: every page in use is as it was written", path.display()))?;
            return report(&store, &path.display().to_string(), context);
        }
    };
    report(&store, &name, context)
}

fn report(store: &dyn Store, name: &str, context: &mut Context) -> Result<(), CliError> {
    let audit = Audit::of(store)?;
    let restored = match store.epoch() {
        0 => String::new(),
        1 => ", restored once".to_owned(),
        times => format!(", restored {times} times"),
    };
    context.printer.data_line(&format!("store {}, revision {}{restored}", store.id(), audit.revision))?;
    for (resource, count) in &audit.objects {
        context.printer.data_line(&format!("  {count:>7}  {resource}"))?;
    }
    context.printer.data_line(&format!("  {:>7}  rows of owners", audit.owners))?;
    context.printer.data_line(&format!("  {:>7}  rows of what expires", audit.expiries))?;
    context.printer.data_line(&format!("  {:>7}  rows of work to do", audit.work))?;
    if audit.is_sound() {
        return context.printer.data_line("sound");
    }
    for finding in &audit.findings {
        context.printer.data_line(&format!("  wrong: {finding}"))?;
    }
    let error = CliError::new(Exit::Failure, format!("{name} is not sound: {} findings", audit.findings.len()));
    Err(error.hint(
        "Kina may go on with it, and may stumble there: take a backup now, report this, and restore an older backup if it does",
    ))
}
