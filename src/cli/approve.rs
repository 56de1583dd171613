//! `kina approve`: lets a held set happen, once.

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::session::{Need, Session};
use crate::api::source::HeldAction;
use crate::api::{Source, annotations};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Id of the held set, as `kina status` shows it
    id: String,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let session = Session::open(context, Need::Record, None).await?;
    let client = session.client.clone();
    session.run(approve(&args.id, context, &client)).await
}

async fn approve(id: &str, context: &mut Context, client: &Client) -> Result<(), CliError> {
    let api: Api<Source> = Api::all(client.clone());
    let sources = api.list(&ListParams::default()).await.map_err(|error| CliError::request("list sources", error))?;
    let held = |source: &Source| source.status.iter().flat_map(|status| status.held.clone()).collect::<Vec<_>>();
    let found =
        sources.iter().find_map(|source| Some((source.name_any(), held(source).into_iter().find(|set| set.id == id)?)));
    let Some((name, set)) = found else {
        let ids: Vec<String> = sources.iter().flat_map(held).map(|set| format!("`{}`", set.id)).collect();
        let error = CliError::new(Exit::NotFound, format!("nothing is held under the id `{id}`"));
        return Err(match ids.is_empty() {
            true => error.hint("nothing is held at all; a set that changed has another id"),
            false => error.hint(format!("held are {}; `kina status` tells what they are", ids.join(", "))),
        });
    };
    let patch = Patch::Merge(json!({"metadata": {"annotations": {annotations::APPROVE: id}}}));
    api.patch(&name, &PatchParams::default(), &patch)
        .await
        .map_err(|error| CliError::request(&format!("approve `{id}`"), error))?;
    let action = match set.action {
        HeldAction::Delete => "deletion",
        HeldAction::Recreate => "recreation",
    };
    context.printer.data_line(&format!("source/{name} approved: {action} of {}", set.clusters.join(", ")))
}
