//! `kina apply`: manifests to the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{ObjectMeta, Patch, PatchParams, ValidationDirective};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::follow::{self, Follow, Goal};
use super::inputs::{self, Inputs, Origin};
use super::kinds::{self, Which};
use super::output::{self, Format, Headings};
use super::printer::Stream;
use super::progress;
use super::session::{Need, Runs, Session};
use crate::api::cluster::RuntimeName;
use crate::api::{API_VERSION, Cluster};
use crate::apiserver::kind::Kind;
use crate::sources::manifest::Document;

/// Field manager of what is applied by hand.
pub const FIELD_MANAGER: &str = "kina";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: inputs::Options,
    #[command(flatten)]
    mounts: inputs::AllowedMounts,
    /// Change nothing: `server` asks the API what would come of it, `client` only prints what would be sent
    #[arg(long, value_enum, value_name = "WHERE", num_args = 0..=1, default_missing_value = "client", conflicts_with_all = ["wait", "no_wait", "progress"])]
    dry_run: Option<DryRun>,
    /// Wait until everything applied is Ready (without a running kina that is so anyway)
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Only record what is wanted; without a running kina nothing happens until `kina serve`
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting after this long, such as `5m`
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    timeout: Option<Duration>,
    /// Where contexts go, if kina runs in this process [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    progress: progress::Flag,
    /// Print the objects that were applied instead of what was done, in a format of `kina get`
    #[arg(short, long, value_name = "FORMAT", value_parser = Format::parse, conflicts_with = "progress")]
    output: Option<Format>,
}

/// Who takes a command for a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRun {
    /// This command.
    Client,
    /// The API: defaults and refusals are as they would be.
    Server,
}

/// What became of a Cluster.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// Its generation now.
    pub generation: i64,
    /// `created`, `configured` or `unchanged`.
    pub outcome: &'static str,
    /// The object.
    pub object: Cluster,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    context.progress = args.progress.progress;
    args.mounts.allow(context)?;
    let inputs = read_to_apply(args.inputs.clone(), context).await?;
    match args.dry_run {
        None => {}
        Some(DryRun::Client) => return tell_what_is_sent(context, &inputs, args.output.as_ref()),
        Some(DryRun::Server) => return try_on_server(context, &inputs, args.output.as_ref()).await,
    }
    let need = if args.no_wait { Need::Record } else { Need::Converge };
    let session = Session::open(context, need, args.kubeconfig.as_deref()).await?;
    let (client, runs) = (session.client.clone(), session.runs());
    let work = async {
        let mut failures = Failures::default();
        let applied = all(context, &client, &inputs, &params(), &mut failures).await?;
        tell(context, &applied, "", args.output.as_ref())?;
        if args.wait || runs == Runs::Here {
            settle(context, &client, &applied, (args.timeout, runs)).await?;
        }
        if runs == Runs::Here && !applied.is_empty() {
            let simulated = simulated(&client, &applied).await?;
            farewell(context, !simulated.is_empty());
        }
        failures.end()
    };
    session.run(work).await
}

/// `--dry-run=client`: nobody is asked.
fn tell_what_is_sent(context: &mut Context, inputs: &Inputs, format: Option<&Format>) -> Result<(), CliError> {
    let kind = Which::Clusters.kind()?;
    let documents = inputs.documents.iter().map(|(_, document)| document);
    match format {
        None => {
            let line = |document: &Document| format!("{} valid (dry run)", kinds::short(&kind, &document.name));
            output::lines(&mut context.printer, documents.map(line).collect())
        }
        Some(format) => print(context, &kind, documents.map(manifest).collect(), format),
    }
}

/// `--dry-run=server`: what the API would make of it.
async fn try_on_server(context: &mut Context, inputs: &Inputs, format: Option<&Format>) -> Result<(), CliError> {
    let session = Session::open(context, Need::Read, None).await?;
    let client = session.client.clone();
    let work = async {
        let mut failures = Failures::default();
        let applied = all(context, &client, inputs, &params().dry_run(), &mut failures).await?;
        tell(context, &applied, " (server dry run)", format)?;
        failures.end()
    };
    session.run(work).await
}

/// Reads manifests for a verb that makes them happen: what those from the web mount has to be allowed.
pub async fn read_to_apply(options: inputs::Options, context: &mut Context) -> Result<Inputs, CliError> {
    let options = inputs::Options { mounts: Some(context.home.mount_policy()), ..options };
    read(&options, context).await
}

/// Reads manifests, and says what is left alone.
pub async fn read(options: &inputs::Options, context: &mut Context) -> Result<Inputs, CliError> {
    if options.filenames.is_empty() {
        return Err(CliError::new(Exit::Usage, "no manifest is given")
            .hint("name files, directories, an `https://` address or `-` with `-f`"));
    }
    let inputs = options.read(context).await?;
    inputs.tell(&mut context.printer);
    if inputs.documents.is_empty() {
        let error = CliError::new(Exit::Invalid, "there is no Cluster in what was given");
        return Err(error.hint(
            "a manifest begins with `apiVersion: kina.dev/v1alpha1` and `kind: Cluster`; kind's configurations are read, too",
        ));
    }
    Ok(inputs)
}

/// Applies every Cluster, going on after failures, which are told and remembered.
pub async fn all(
    context: &mut Context,
    client: &Client,
    inputs: &Inputs,
    params: &PatchParams,
    failures: &mut Failures,
) -> Result<Vec<Applied>, CliError> {
    let mut applied = Vec::new();
    for (origin, document) in &inputs.documents {
        match one(client, origin, document, params).await {
            Ok(done) => applied.push(done),
            Err(error) => failures.add(context, error)?,
        }
    }
    Ok(applied)
}

/// How Clusters are applied.
pub fn params() -> PatchParams {
    // As with `kubectl apply`: what the file says wins over what was edited since.
    PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(FIELD_MANAGER).force() }
}

async fn one(client: &Client, origin: &Origin, document: &Document, params: &PatchParams) -> Result<Applied, CliError> {
    let attempted = format!("apply cluster/{}", document.name);
    let api: Api<Cluster> = Api::all(client.clone());
    let before = api.get_metadata_opt(&document.name).await.map_err(|error| CliError::request(&attempted, error))?;
    let object = send(&api, &attempted, origin, document, params).await?;
    let outcome = match before {
        None => "created",
        Some(before) if is_same(&before.metadata, &object.metadata) => "unchanged",
        Some(_) => "configured",
    };
    Ok(Applied {
        name: document.name.clone(),
        generation: object.metadata.generation.unwrap_or_default(),
        outcome,
        object,
    })
}

/// Whether nothing was wished for that was not there. A dry run leaves the resource version as it was.
fn is_same(before: &ObjectMeta, after: &ObjectMeta) -> bool {
    let wishes = |meta: &ObjectMeta| (meta.generation, meta.labels.clone(), meta.annotations.clone());
    before.resource_version == after.resource_version && wishes(before) == wishes(after)
}

/// Sends a document; what is refused is told with its place.
pub async fn send(
    api: &Api<Cluster>,
    attempted: &str,
    origin: &Origin,
    document: &Document,
    params: &PatchParams,
) -> Result<Cluster, CliError> {
    let sent = api.patch(&document.name, params, &Patch::Apply(&manifest(document))).await;
    sent.map_err(|error| refused(attempted, origin, document, error))
}

/// With the place of what was refused.
fn refused(attempted: &str, origin: &Origin, document: &Document, error: kube::Error) -> CliError {
    let (line, column) = match &error {
        kube::Error::Api(status) => document.place_of(status),
        _ => (document.line, 1),
    };
    CliError::request(attempted, error).details([format!("in {}", origin.place(line, column))])
}

/// A document as it is sent.
fn manifest(document: &Document) -> Value {
    let mut metadata = json!({"name": document.name});
    for (key, map) in [("labels", &document.labels), ("annotations", &document.annotations)] {
        if !map.is_empty() {
            metadata[key] = json!(map);
        }
    }
    json!({"apiVersion": API_VERSION, "kind": "Cluster", "metadata": metadata, "spec": document.spec})
}

/// Tells what was done, each line with a word more, or prints the objects.
pub fn tell(context: &mut Context, applied: &[Applied], more: &str, format: Option<&Format>) -> Result<(), CliError> {
    let kind = Which::Clusters.kind()?;
    if context.is_read_by_a_program() {
        let event = |done: &Applied| {
            json!({"type": "applied", "object": kinds::short(&kind, &done.name), "outcome": done.outcome,
                "generation": done.generation})
        };
        return applied.iter().try_for_each(|done| context.tell(event(done)));
    }
    match format {
        None => {
            let line = |done: &Applied| format!("{} {}{more}", kinds::short(&kind, &done.name), done.outcome);
            output::lines(&mut context.printer, applied.iter().map(line).collect())
        }
        Some(format) => {
            let objects = applied.iter().filter_map(|done| serde_json::to_value(&done.object).ok()).collect();
            print(context, &kind, objects, format)
        }
    }
}

fn print(context: &mut Context, kind: &Kind, objects: Vec<Value>, format: &Format) -> Result<(), CliError> {
    let is_list = objects.len() != 1;
    output::print(&mut context.printer, kind, objects, is_list, (format, Headings::Shown), context.world.clock.now())
}

/// Waits until everything applied is Ready, with progress on stderr.
pub async fn settle(
    context: &mut Context,
    client: &Client,
    applied: &[Applied],
    (timeout, runs): (Option<Duration>, Runs),
) -> Result<(), CliError> {
    let wanted: BTreeMap<String, i64> = applied.iter().map(|done| (done.name.clone(), done.generation)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let only = wanted.keys().cloned().collect();
    let follow = Follow { goal: Goal::Ready(wanted), stream: Stream::Err, only, timeout, is_fresh: runs == Runs::Here };
    follow::follow(context, client, &follow).await?.into_result().map_err(follow::left_off)
}

/// Those of the Clusters that are simulated. Asked again: `auto` was not resolved yet when they were applied.
pub async fn simulated(client: &Client, applied: &[Applied]) -> Result<Vec<String>, CliError> {
    let api: Api<Cluster> = Api::all(client.clone());
    let mut simulated = Vec::new();
    for done in applied {
        let attempted = format!("look at cluster/{}", done.name);
        let cluster = api.get(&done.name).await.map_err(|error| CliError::request(&attempted, error))?;
        if cluster.spec.runtime == Some(RuntimeName::Sim) {
            simulated.push(done.name.clone());
        }
    }
    Ok(simulated)
}

/// What ends with this process.
pub fn farewell(context: &mut Context, has_simulated: bool) {
    let what = if has_simulated { "simulated clusters do not answer" } else { "what drifts is not repaired" };
    context.printer.talk(&format!("note: {what} while no kina runs (`kina serve`)"));
}
