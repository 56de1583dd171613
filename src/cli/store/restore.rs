//! `kina store restore`: a backup takes the place of the store.

use std::path::PathBuf;

use crate::backup::{self, Backup};
use crate::cli::context::Context;
use crate::cli::error::CliError;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A file that `kina store backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also where there is a store, or another installation id: the present store is kept beside
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let files = context.world.files.clone();
    // Read and verified before anything is touched.
    let backup = Backup::read(&*files, &args.file)?;
    context.home.prepare(&*files, rustix::process::geteuid().as_raw())?;
    let _lock = super::alone(context, "`kina store restore`")?;
    let restored = backup::restore(&context.home, &*files, &backup, args.force, context.world.clock.now())?;
    context.printer.data_line(&format!(
        "{}: restored as of {}; revisions go on at {}",
        context.home.store().display(),
        backup.about.created,
        restored.revision
    ))?;
    if let Some(kept) = &restored.kept {
        context.printer.data_line(&format!("kept what was there as {}", kept.display()))?;
    }
    if let Some(why) = &restored.unreadable {
        context.printer.talk(&format!("note: what was there could not be read: {why}"));
    }
    if restored.keys + restored.keys_kept > 0 {
        let text = format!("keys: {} restored, {} were there and stayed", restored.keys, restored.keys_kept);
        context.printer.data_line(&text)?;
    }
    context.printer.talk(&format!(
        "note: bring your manifests back to {} before you start Kina; what they do not declare is held until `kina approve`",
        context.home.clusters().display()
    ));
    Ok(())
}
