//! `kina serve`: a whole Kina in this process, until it is told to go.

use std::path::PathBuf;

use super::context::Context;
use super::engine::Start;
use super::error::CliError;
use super::exit::Exit;
use super::session;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Also watch this directory for manifests; may be given several times
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// Where contexts go [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let mut watch = Vec::new();
    for directory in args.watch {
        let absolute = std::path::absolute(&directory).map_err(|source| {
            CliError::new(Exit::Failure, format!("cannot watch `{}`", directory.display())).because(source)
        })?;
        watch.push(absolute);
    }
    let kubeconfig = session::target(context, args.kubeconfig.as_deref());
    let start = Start { home: context.home.clone(), kubeconfig, watch: Some(watch) };
    let mut started = context.engine.start(&start).await?;
    context.printer.talk(&format!("Kina serves {}", context.home.root().display()));
    context.printer.talk(&format!("  watches    {}", context.home.clusters().display()));
    for directory in start.watch.iter().flatten() {
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
