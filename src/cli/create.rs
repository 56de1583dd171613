//! `kina create cluster`: as kind makes one, over the way of `kina apply`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::apply::{self, Applied};
use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::follow::{self, Follow, Goal};
use super::inputs::{self, Inputs, Origin};
use super::printer::Stream;
use super::progress;
use super::session::{Need, Runs, Session};
use super::up;
use crate::api::Cluster;
use crate::api::cluster::ClusterSpec;
use crate::api::names::ClusterName;
use crate::api::versions::KubernetesVersion;
use crate::sources::manifest::Document;

/// The name where none is given.
const DEFAULT_NAME: &str = "kina";
/// How long what failed to come up may take to go again: a removal that takes longer goes on where a kina runs.
const REMOVAL: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Make a cluster, and stay until it is Ready
    Cluster(ClusterArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ClusterArgs {
    /// Its name [default: the one in `--config`, then `kina`]
    #[arg(value_name = "NAME", conflicts_with = "name")]
    cluster: Option<String>,
    /// Its name, as kind takes it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Manifest that says what it is like, `https://...`, or `-` for stdin; without it, one control plane
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Node image of all its machines; a tag such as `v1.35.5` also tells the Kubernetes version
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Wait this long until it is Ready; `0` does not wait, and keeps what fails
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = super::duration_or_zero)]
    wait: Duration,
    /// Bring its machines up, and leave Kubernetes out
    #[arg(long)]
    stop_before_kubernetes: bool,
    #[command(flatten)]
    mounts: inputs::AllowedMounts,
    #[command(flatten)]
    progress: progress::Flag,
    /// Keep a cluster that failed to come up, to look into it
    #[arg(long)]
    retain: bool,
    /// Where its context goes, if kina runs in this process [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let What::Cluster(args) = args.what;
    context.progress = args.progress.progress;
    args.mounts.allow(context)?;
    let inputs = wanted(&args, context).await?;
    let name = inputs.documents.first().map(|(_, document)| document.name.clone()).unwrap_or_default();
    let need = if args.wait.is_zero() { Need::Record } else { Need::Converge };
    let session = Session::open(context, need, args.kubeconfig.as_deref()).await?;
    let (client, runs) = (session.client.clone(), session.runs());
    let work = async {
        refuse_existing(&client, &name).await?;
        let mut failures = Failures::default();
        let applied = apply::all(context, &client, &inputs, &apply::params(), &mut failures).await?;
        failures.end()?;
        apply::tell(context, &applied, "", None)?;
        if args.wait.is_zero() {
            return Ok(());
        }
        if let Err(error) = apply::settle(context, &client, &applied, (Some(args.wait), runs)).await {
            return Err(after_failure(error, &applied, args.retain, context, &client).await);
        }
        let simulated = apply::simulated(&client, &applied).await?;
        for done in &applied {
            up::tell_ready(context, done, simulated.contains(&done.name))?;
        }
        if runs == Runs::Here {
            apply::farewell(context, !simulated.is_empty());
        }
        Ok(())
    };
    session.run(work).await
}

/// The one Cluster to make: that of the file, or one of defaults, with what the flags say.
async fn wanted(args: &ClusterArgs, context: &mut Context) -> Result<Inputs, CliError> {
    let mut inputs = match &args.config {
        Some(path) => {
            let options = inputs::Options { filenames: vec![path.clone()], ..inputs::Options::default() };
            apply::read_to_apply(options, context).await?
        }
        None => Inputs { documents: vec![(Origin::Flags, of_defaults())], ..Inputs::default() },
    };
    let number = inputs.documents.len();
    let (Some((_, document)), 1) = (inputs.documents.first_mut(), number) else {
        let error =
            CliError::new(Exit::Usage, format!("the configuration declares {number} clusters, and one is made"));
        return Err(error.hint("`kina up -f FILE` makes all of them"));
    };
    if let Some(name) = args.name.as_ref().or(args.cluster.as_ref()) {
        document.name.clone_from(name);
    }
    ClusterName::parse(&document.name)
        .map_err(|error| CliError::new(Exit::Usage, format!("a cluster cannot be called so: {error}")))?;
    if args.stop_before_kubernetes {
        set(document, "stopBeforeKubernetes", json!(true));
    }
    if let Some(image) = &args.image {
        set_image(document, image)?;
    }
    Ok(inputs)
}

fn of_defaults() -> Document {
    Document {
        name: DEFAULT_NAME.to_owned(),
        line: 1,
        hash: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: json!({}),
        typed: ClusterSpec::default(),
        places: Vec::new(),
    }
}

/// Sets a field of the spec, as if it were written there.
fn set(document: &mut Document, field: &str, value: Value) {
    if !document.spec.is_object() {
        document.spec = json!({});
    }
    document.spec[field] = value;
}

/// Who names an image of kind's means the version in its tag, too.
fn set_image(document: &mut Document, image: &str) -> Result<(), CliError> {
    set(document, "image", json!(image));
    let Some((_, version)) = KubernetesVersion::of_tag(image) else { return Ok(()) };
    match document.spec["kubernetesVersion"].as_str() {
        None => set(document, "kubernetesVersion", Value::String(version.to_string())),
        Some(named) if KubernetesVersion::parse(named) == Some(version) => {}
        Some(named) => {
            let error = CliError::new(Exit::Usage, format!("the image is of {version}, the configuration of {named}"));
            return Err(error.hint("leave out `kubernetesVersion` there, or name an image of that version"));
        }
    }
    Ok(())
}

async fn refuse_existing(client: &Client, name: &str) -> Result<(), CliError> {
    let attempted = format!("create cluster/{name}");
    let api: Api<Cluster> = Api::all(client.clone());
    let found = api.get_metadata_opt(name).await.map_err(|error| CliError::request(&attempted, error))?;
    let Some(found) = found else { return Ok(()) };
    let error = CliError::new(Exit::Failure, format!("cannot {attempted}: there is a cluster of this name already"));
    Err(match found.metadata.deletion_timestamp {
        Some(_) => error.hint(format!("it is being deleted: `kina wait --for=delete cluster/{name}`")),
        None => error.hint(format!(
            "another name (`--name`), `kina delete cluster {name}` before, or `kina apply -f FILE` to change it"
        )),
    })
}

/// As kind: what failed to come up is deleted again, unless it is to be kept. What only takes longer, or was left, is not
/// failed, and stays.
async fn after_failure(
    error: CliError,
    applied: &[Applied],
    retain: bool,
    context: &mut Context,
    client: &Client,
) -> CliError {
    let names: Vec<String> = applied.iter().map(|done| done.name.clone()).collect();
    let kept = names.join(", ");
    if error.exit() != Exit::Failure {
        return error.hint(format!("the cluster is kept: `kina wait --for=condition=Ready cluster/{kept}`"));
    }
    if retain {
        let hint = format!("the cluster is kept (`--retain`); `kina delete cluster {kept}` deletes it");
        return error.hint(hint);
    }
    context.report(&error);
    context.printer.talk(&format!("cluster/{kept} failed to come up and is deleted again (`--retain` keeps it)"));
    match remove(applied, context, client).await {
        Ok(()) => CliError::silent(error.exit()),
        Err(failed) => failed.hint(format!("`kina delete cluster {kept}` tries again")),
    }
}

/// Deletes exactly what was made here.
async fn remove(applied: &[Applied], context: &mut Context, client: &Client) -> Result<(), CliError> {
    let api: Api<Cluster> = Api::all(client.clone());
    let mut going = BTreeMap::new();
    for done in applied {
        let uid = done.object.uid().unwrap_or_default();
        let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match api.delete(&done.name, &params).await {
            Ok(_) => drop(going.insert(done.name.clone(), uid)),
            Err(kube::Error::Api(status)) if matches!(status.reason.as_str(), "NotFound" | "Conflict") => {}
            Err(error) => return Err(CliError::request(&format!("delete cluster/{}", done.name), error)),
        }
    }
    if going.is_empty() {
        return Ok(());
    }
    let only = going.keys().cloned().collect();
    let follow = Follow { goal: Goal::Gone(going), stream: Stream::Err, only, timeout: Some(REMOVAL), is_fresh: false };
    follow::follow(context, client, &follow).await?.into_result().map_err(follow::left_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_image_tells_its_version() {
        let told = |image: &str| KubernetesVersion::of_tag(image).map(|(_, version)| version.to_string());
        let digest = "kindest/node:v1.34.1@sha256:0123";
        assert_eq!(told(digest).as_deref(), Some("v1.34.1"));
        assert_eq!(told("localhost:5000/kindest/node:v1.35.5").as_deref(), Some("v1.35.5"));
        for image in ["kindest/node", "kindest/node:latest", "localhost:5000/node", "node@sha256:v1"] {
            assert_eq!(told(image), None, "{image}");
        }
    }

    #[test]
    fn an_image_of_another_version_than_the_configuration_names_is_refused() {
        let mut document = of_defaults();
        set_image(&mut document, "kindest/node:v1.34.1").unwrap();
        assert_eq!(document.spec, json!({"image": "kindest/node:v1.34.1", "kubernetesVersion": "v1.34.1"}));
        assert_eq!(set_image(&mut document, "kindest/node:v1.35.5").unwrap_err().exit(), Exit::Usage);
    }
}
