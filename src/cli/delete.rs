//! `kina delete`: clusters, by name or by manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::follow::{self, Follow, Goal};
use super::get;
use super::inputs;
use super::kinds::{self, Which};
use super::printer::Stream;
use super::progress;
use super::session::{Need, Session};
use crate::api::Cluster;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// `cluster NAME...` or `cluster/NAME...`; `clusters` with `--all`
    #[arg(value_name = "WHAT", required_unless_present = "filenames", conflicts_with = "filenames")]
    what: Vec<String>,
    /// The cluster, as kind takes it: `delete cluster --name NAME`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["filenames", "all"])]
    name: Option<String>,
    /// All clusters
    #[arg(short = 'A', long, conflicts_with = "filenames")]
    all: bool,
    #[command(flatten)]
    inputs: inputs::Options,
    /// Take what does not exist for deleted
    #[arg(long)]
    ignore_not_found: bool,
    /// Do not wait until everything is gone
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    progress: progress::Flag,
    /// Give up waiting after this long, such as `5m`
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    timeout: Option<Duration>,
    /// Where contexts are, if kina runs in this process [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    context.progress = args.progress.progress;
    let wanted = wanted(&args, context).await?;
    let need = if args.no_wait { Need::Record } else { Need::Converge };
    let session = Session::open(context, need, args.kubeconfig.as_deref()).await?;
    let client = session.client.clone();
    let work = async {
        let mut failures = Failures::default();
        let mut going = BTreeMap::new();
        let names = match wanted {
            Some(names) => names,
            None => all(context, &client).await?,
        };
        for name in names {
            match one(&client, &name).await {
                Ok(Some(uid)) => drop(going.insert(name, uid)),
                Ok(None) if args.ignore_not_found => {}
                Ok(None) => failures.add(context, get::absent(&client, &name).await)?,
                Err(error) => failures.add(context, error)?,
            }
        }
        let words = if args.no_wait { "is to be deleted" } else { "deleted" };
        let names: Vec<String> = going.keys().cloned().collect();
        if !args.no_wait && !going.is_empty() {
            let goal = Goal::Gone(going);
            let follow =
                Follow { goal, stream: Stream::Err, only: names.clone(), timeout: args.timeout, is_fresh: false };
            follow::follow(context, &client, &follow).await?.into_result().map_err(follow::left_off)?;
        }
        if context.is_read_by_a_program() {
            let outcome = if args.no_wait { "recorded" } else { "gone" };
            for name in &names {
                let object = format!("cluster/{name}");
                context.tell(json!({"type": "deleted", "object": object, "outcome": outcome}))?;
            }
            return failures.end();
        }
        context.printer.data(&names.iter().map(|name| format!("cluster/{name} {words}\n")).collect::<String>())?;
        failures.end()
    };
    session.run(work).await
}

/// The names of all clusters, told before anything of them goes.
async fn all(context: &mut Context, client: &Client) -> Result<Vec<String>, CliError> {
    let list = Api::<Cluster>::all(client.clone()).list_metadata(&ListParams::default()).await;
    let list = list.map_err(|error| CliError::request("list clusters", error))?;
    let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
    context.printer.talk(&match names.len() {
        0 => "No clusters.".to_owned(),
        1 => format!("1 cluster is to go: {}", names.join(", ")),
        number => format!("{number} clusters are to go: {}", names.join(", ")),
    });
    Ok(names)
}

/// The names of what is to go; `None` for everything there is.
async fn wanted(args: &Args, context: &mut Context) -> Result<Option<Vec<String>>, CliError> {
    if !args.inputs.filenames.is_empty() {
        let inputs = super::apply::read(&args.inputs, context).await?;
        return Ok(Some(inputs.documents.into_iter().map(|(_, document)| document.name).collect()));
    }
    if args.all || args.name.is_some() {
        let flag = if args.all { "--all" } else { "--name" };
        return match kinds::targets(&args.what)?.as_slice() {
            [(Which::Clusters, None)] => Ok(args.name.clone().map(|name| vec![name])),
            _ => {
                let error = CliError::new(Exit::Usage, format!("`{flag}` goes with `cluster`, and no other name"));
                Err(error.hint(format!("`kina delete cluster {flag}{}`", if args.all { "" } else { " NAME" })))
            }
        };
    }
    named(args).map(Some)
}

fn named(args: &Args) -> Result<Vec<String>, CliError> {
    let mut names = Vec::new();
    let targets = kinds::targets(&args.what).map_err(|error| match args.what.as_slice() {
        [name] if !name.contains(['/', ',']) => {
            error.hint(format!("to delete a cluster: `kina delete cluster {name}`"))
        }
        _ => error,
    })?;
    for (which, name) in targets {
        match (which, name) {
            (Which::Clusters, Some(name)) => names.push(name),
            (Which::Clusters, None) => {
                let error = CliError::new(Exit::Usage, "no cluster is named");
                return Err(error.hint(
                    "`kina delete cluster NAME`, or `kina delete clusters --all`; `kina get clusters` lists them",
                ));
            }
            (Which::Machines, _) => {
                let error =
                    CliError::new(Exit::Refused, "machines belong to their cluster and are made and deleted by Kina");
                return Err(error.hint("change the number of replicas in the Cluster"));
            }
            (Which::Sources, _) => {
                let error =
                    CliError::new(Exit::Refused, "sources follow from the directories that `kina serve` watches");
                return Err(error.hint("`kina serve --unwatch DIR` ends that: its clusters stay, without a source"));
            }
            (Which::Events, _) => return Err(CliError::new(Exit::Usage, "events go by themselves")),
        }
    }
    Ok(names)
}

/// Asks for the deletion; the UID of what is to go, `None` where there is nothing.
async fn one(client: &Client, name: &str) -> Result<Option<String>, CliError> {
    let attempted = format!("delete cluster/{name}");
    let api: Api<Cluster> = Api::all(client.clone());
    let request = |error| CliError::request(&attempted, error);
    let Some(cluster) = api.get_opt(name).await.map_err(request)? else { return Ok(None) };
    let uid = cluster.uid().unwrap_or_default();
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(Some(uid)),
        Err(kube::Error::Api(status)) if status.reason == "NotFound" => Ok(Some(uid)),
        Err(error) => Err(request(error)),
    }
}
