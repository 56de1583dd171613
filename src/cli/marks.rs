//! `kina detach`, `pause` and `resume`: annotations on Clusters, which are free also where a file declares them.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::context::{Context, Failures};
use super::error::CliError;
use super::get;
use super::session::{Need, Session};
use crate::api::cluster::ClusterStatus;
use crate::api::{Cluster, annotations};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Names of clusters
    #[arg(value_name = "CLUSTER", required = true)]
    clusters: Vec<String>,
}

/// What is asked of a Cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// That its source lets go of it.
    Detach,
    /// That nothing of it changes.
    Pause,
    /// That things go on.
    Resume,
}

impl Mark {
    fn annotation(self) -> (&'static str, Value) {
        match self {
            Self::Detach => (annotations::DETACH, json!("true")),
            Self::Pause => (annotations::PAUSED, json!("true")),
            Self::Resume => (annotations::PAUSED, Value::Null),
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Detach => "detached",
            Self::Pause => "paused",
            Self::Resume => "resumed",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

pub async fn run(args: Args, mark: Mark, context: &mut Context) -> Result<(), CliError> {
    let session = Session::open(context, Need::Record, None).await?;
    let client = session.client.clone();
    let work = async {
        let mut failures = Failures::default();
        for name in &args.clusters {
            match one(&client, name, mark).await {
                Ok(line) => context.printer.data_line(&line)?,
                Err(error) => failures.add(context, error)?,
            }
        }
        failures.end()
    };
    session.run(work).await
}

async fn one(client: &Client, name: &str, mark: Mark) -> Result<String, CliError> {
    let attempted = format!("{} cluster/{name}", mark.verb());
    let request = |error| CliError::request(&attempted, error);
    let api: Api<Cluster> = Api::all(client.clone());
    let Some(cluster) = api.get_opt(name).await.map_err(request)? else {
        return Err(get::absent(client, name).await);
    };
    // The annotation is there with the Cluster; its status follows when a controller has looked.
    let reported = cluster.status.as_ref().and_then(|status: &ClusterStatus| status.source.as_ref());
    let source = cluster.annotations().get(annotations::SOURCE).or(reported.map(|source| &source.name));
    if mark == Mark::Detach && source.is_none_or(|source| source == annotations::SOURCE_CLI) {
        return Ok(format!("cluster/{name} unchanged: no file declares it"));
    }
    let (key, value) = mark.annotation();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
    api.patch(name, &PatchParams::default(), &patch).await.map_err(request)?;
    let still =
        if mark == Mark::Resume && cluster.spec.paused { ", but its spec pauses it still (`spec.paused`)" } else { "" };
    Ok(format!("cluster/{name} {}{still}", mark.done()))
}
