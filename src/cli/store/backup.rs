//! `kina store backup`: one file with what a home cannot do without.

use std::path::PathBuf;

use crate::apiserver::store::{Contents, RedbStore};
use crate::backup::{Backup, STORE_PATH};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Memory for pages.
const CACHE_BYTES: usize = 16 << 20;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where it goes; replaced as a whole. It holds private keys: mode 0600
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let contents = match context.engine.connect(&context.home).await? {
        Some(client) => served(&client).await?,
        None => {
            let path = context.home.store();
            if context.world.files.metadata(&path).is_err() {
                let error = CliError::new(Exit::NotFound, format!("there is no store at {}", path.display()));
                return Err(error.hint("set KINA_HOME or --home to the home that is meant"));
            }
            let _lock = super::alone(context, "`kina store backup`")?;
            Contents::of(&RedbStore::inspect(&path, CACHE_BYTES)?)?
        }
    };
    let files = context.world.files.clone();
    let backup = Backup::gather(&context.home, &*files, contents, context.world.clock.now())?;
    let path = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    backup.write(&*files, &path)?;
    let rows = backup.contents.rows.len();
    context.printer.data_line(&format!(
        "{}: store {} at revision {}, {rows} rows, keys of {} clusters",
        args.file.display(),
        backup.contents.id,
        backup.contents.revision,
        backup.keys()
    ))?;
    context.printer.talk("note: it holds private keys, and neither your manifests nor data inside of clusters");
    Ok(())
}

/// The contents of the store of the kina that serves the home, as of one commit.
async fn served(client: &kube::Client) -> Result<Contents, CliError> {
    let request = http::Request::get(STORE_PATH)
        .body(Vec::new())
        .map_err(|error| CliError::new(Exit::Failure, "cannot ask for the store").because(error))?;
    let text = client.request_text(request).await.map_err(|error| CliError::request("read the store", error))?;
    Contents::from_lines(&text)
        .map_err(|error| CliError::new(Exit::Failure, "the kina that runs answered with something else").because(error))
}
