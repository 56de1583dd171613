//! `kina up`: apply, watch it become Ready, and stay where it would end with this process.

use std::path::PathBuf;
use std::time::Duration;

use kube::{Api, Client};

use super::apply::{self, Applied};
use super::context::{Context, Failures};
use super::error::CliError;
use super::inputs;
use super::session::{Need, Runs, Session};
use crate::api::Cluster;
use crate::api::cluster::RuntimeName;
use crate::api::names::ClusterName;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: inputs::Options,
    /// Leave once everything is Ready, also where that ends simulated clusters
    #[arg(long)]
    exit: bool,
    /// Give up after this long, such as `5m`
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    timeout: Option<Duration>,
    /// Where contexts go, if kina runs in this process [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let inputs = apply::read(&args.inputs, context)?;
    let session = Session::open(context, Need::Converge, args.kubeconfig.as_deref()).await?;
    let result = async {
        let mut failures = Failures::default();
        let applied = apply::all(context, &session.client, &inputs, &mut failures).await?;
        apply::tell(context, &applied, None)?;
        apply::settle(context, &session.client, &applied, args.timeout).await?;
        let simulated = tell_ready(context, &session.client, &applied).await?;
        if session.runs() == Runs::Here {
            stay(context, &simulated, args.exit).await;
        }
        failures.end()
    }
    .await;
    session.close().await;
    result
}

/// Says how each cluster is reached; returns those that are simulated.
async fn tell_ready(context: &mut Context, client: &Client, applied: &[Applied]) -> Result<Vec<String>, CliError> {
    let api: Api<Cluster> = Api::all(client.clone());
    let mut simulated = Vec::new();
    for done in applied {
        // Again: what was resolved at creation, such as the runtime, was not all there when it was applied.
        let attempted = format!("look at cluster/{}", done.name);
        let cluster = api.get(&done.name).await.map_err(|error| CliError::request(&attempted, error))?;
        let is_simulated = cluster.spec.runtime == Some(RuntimeName::Sim);
        let marked = if is_simulated { " (simulated: no container of it is real)" } else { "" };
        let context_name = ClusterName::parse(&done.name).map(|name| name.context()).unwrap_or_default();
        context
            .printer
            .talk(&format!("cluster/{} is Ready{marked}: `kubectl --context {context_name} get nodes`", done.name));
        if is_simulated {
            simulated.push(done.name.clone());
        }
    }
    Ok(simulated)
}

/// Simulated clusters answer from within this process: it stays until it is told to go. Others live on by themselves.
async fn stay(context: &mut Context, simulated: &[String], exit: bool) {
    if simulated.is_empty() {
        context.printer.talk("note: no kina runs any more: what drifts is repaired when one does (`kina serve`)");
        return;
    }
    if exit {
        context.printer.talk("note: simulated clusters do not answer while no kina runs (`kina serve`)");
        return;
    }
    context.printer.talk("Simulated clusters answer only while Kina runs: it stays until Ctrl-C (`--exit` leaves).");
    let interrupt = context.interrupt.clone();
    interrupt.first().await;
}
