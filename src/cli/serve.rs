//! `kina serve`: a whole Kina in this process, until it is told to go.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use kube::api::ListParams;
use kube::{Api, Client};

use super::context::Context;
use super::engine::Start;
use super::error::CliError;
use super::exit::Exit;
use super::inputs::AllowedMounts;
use super::session;
use crate::api::Source;
use crate::world::FileKind;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Also watch this directory for manifests, from now on; may be given several times
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// Do not watch this directory any more; its clusters stay. May be given several times
    #[arg(long, value_name = "DIR")]
    unwatch: Vec<PathBuf>,
    #[command(flatten)]
    mounts: AllowedMounts,
    /// Where contexts go [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    args.mounts.allow(context)?;
    let (watch, unwatch) = (absolute(&args.watch)?, absolute(&args.unwatch)?);
    if let Some(both) = watch.iter().find(|path| unwatch.contains(path)) {
        let message = format!("`{}` is to be watched, and not to be", both.display());
        return Err(CliError::new(Exit::Usage, message));
    }
    for directory in &watch {
        absent(directory, context)?;
    }
    let kubeconfig = session::target(context, args.kubeconfig.as_deref());
    let start = Start { home: context.home.clone(), kubeconfig, watch, unwatch };
    let mut started = context.engine.start(&start).await?;
    context.printer.talk(&format!("Kina serves {}", context.home.root().display()));
    context.printer.talk(&format!("  watches    {}", context.home.clusters().display()));
    for directory in watched(&started.client, &start).await? {
        context.printer.talk(&format!("             {}", directory.display()));
    }
    context.printer.talk(&format!("  API        kubectl --kubeconfig {}", context.home.kubeconfig().display()));
    context.printer.talk("Ctrl-C ends it; clusters stay as they are.");
    let interrupt = context.interrupt.clone();
    let result = tokio::select! {
        biased;
        () = interrupt.first() => Ok(()),
        error = started.handle.failed() => Err(error),
    };
    context.printer.talk("Ending: what is being written is finished first (Ctrl-C again aborts).");
    started.handle.stop().await;
    result
}

fn absolute(directories: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let absolute = |directory: &PathBuf| {
        std::path::absolute(directory).map_err(|source| {
            CliError::new(Exit::Failure, format!("cannot watch `{}`", directory.display())).because(source)
        })
    };
    directories.iter().map(absolute).collect()
}

/// Refuses what is no directory, and tells of one that is not there: a disk may be mounted later, and a slip of the pen would
/// be watched for good.
fn absent(directory: &Path, context: &mut Context) -> Result<(), CliError> {
    let shown = directory.display();
    match context.world.files.metadata(directory) {
        Ok(metadata) if metadata.kind == FileKind::Directory => {}
        Ok(_) => {
            let error = CliError::new(Exit::Usage, format!("cannot watch `{shown}`: it is not a directory"));
            return Err(error.hint("a single file is applied with `kina apply -f FILE`"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "is not there: it is watched once it is";
            context.printer.talk(&format!("note: {shown} {what}; `kina serve --unwatch {shown}` ends that"));
        }
        // The Source tells what is wrong with it.
        Err(_) => {}
    }
    Ok(())
}

/// What is watched besides the home's own directory: what was before, and what is from now on.
async fn watched(client: &Client, start: &Start) -> Result<BTreeSet<PathBuf>, CliError> {
    let sources = Api::<Source>::all(client.clone()).list(&ListParams::default()).await;
    let sources = sources.map_err(|error| CliError::request("list sources", error))?.items;
    let known = sources.into_iter().map(|source| PathBuf::from(source.spec.path));
    let mut watched: BTreeSet<PathBuf> = known.chain(start.watch.iter().cloned()).collect();
    watched.remove(&start.home.clusters());
    watched.retain(|path| !start.unwatch.contains(path));
    Ok(watched)
}
