//! `kina up`: apply, watch it become Ready, and stay where it would end with this process.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::apply::{self, Applied};
use super::context::{Context, Failures};
use super::error::CliError;
use super::inputs;
use super::progress;
use super::session::{Need, Runs, Session};
use crate::api::names::ClusterName;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: inputs::Options,
    #[command(flatten)]
    mounts: inputs::AllowedMounts,
    #[command(flatten)]
    progress: progress::Flag,
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
    context.progress = args.progress.progress;
    args.mounts.allow(context)?;
    let inputs = apply::read_to_apply(args.inputs.clone(), context).await?;
    let session = Session::open(context, Need::Converge, args.kubeconfig.as_deref()).await?;
    let (client, runs) = (session.client.clone(), session.runs());
    let work = async {
        let mut failures = Failures::default();
        let applied = apply::all(context, &client, &inputs, &apply::params(), &mut failures).await?;
        apply::tell(context, &applied, "", None)?;
        apply::settle(context, &client, &applied, (args.timeout, runs)).await?;
        let simulated = apply::simulated(&client, &applied).await?;
        for done in &applied {
            tell_ready(context, done, simulated.contains(&done.name))?;
        }
        if runs == Runs::Here && !applied.is_empty() {
            stay_or_leave(context, !simulated.is_empty(), args.exit).await;
        }
        failures.end()
    };
    session.run(work).await
}

/// Says how a cluster is reached.
pub fn tell_ready(context: &mut Context, done: &Applied, is_simulated: bool) -> Result<(), CliError> {
    let marked = if is_simulated { " (simulated: no container of it is real)" } else { "" };
    let name = ClusterName::parse(&done.name).map(|name| name.context()).unwrap_or_default();
    let has_kubernetes = !done.object.spec.stop_before_kubernetes;
    if context.is_read_by_a_program() {
        let object = format!("cluster/{}", done.name);
        return context.tell(json!({"type": "ready", "object": object, "context": name, "simulated": is_simulated,
            "kubernetes": has_kubernetes}));
    }
    if !has_kubernetes {
        let machine = format!("`kina exec {}-control-plane-0 -- …`", done.name);
        context.printer.talk(&format!("cluster/{} is up{marked}, without Kubernetes: {machine}", done.name));
        return Ok(());
    }
    context.printer.talk(&format!("cluster/{} is Ready{marked}: `kubectl --context {name} get nodes`", done.name));
    Ok(())
}

/// Simulated clusters answer from within this process: it stays until it is told to go. Others live on by themselves.
async fn stay_or_leave(context: &mut Context, has_simulated: bool, exit: bool) {
    if exit || !has_simulated {
        return apply::farewell(context, has_simulated);
    }
    context.printer.talk("Simulated clusters answer only while Kina runs: it stays until Ctrl-C (`--exit` leaves).");
    let interrupt = context.interrupt.clone();
    interrupt.first().await;
}
