//! `kina diff`: what applying manifests would change, and what that takes.

use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::apply;
use super::context::{Context, Failures};
use super::differing;
use super::error::CliError;
use super::exit::Exit;
use super::inputs::{self, Origin};
use super::session::{Need, Session};
use crate::api::class::{self, Change, Class};
use crate::api::{Cluster, annotations};
use crate::sources::manifest::Document;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Clusters, instead of manifests: what of them is not as their spec says, and what their file says otherwise
    #[arg(value_name = "CLUSTER", conflicts_with = "filenames")]
    clusters: Vec<String>,
    #[command(flatten)]
    inputs: inputs::Options,
}

/// As with kubectl: 0 where nothing differs, 1 where something does, more where it could not be told.
pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match all(args, context).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(CliError::silent(Exit::Failure)),
        Err(error) if error.exit() == Exit::Failure => Err(error.with_exit(Exit::Usage)),
        Err(error) => Err(error),
    }
}

async fn all(args: Args, context: &mut Context) -> Result<bool, CliError> {
    if !args.clusters.is_empty() {
        return differing::all(&args.clusters, context).await;
    }
    if args.inputs.filenames.is_empty() {
        let error = CliError::new(Exit::Usage, "neither a manifest nor a cluster is given");
        return Err(error.hint("`kina diff -f FILE`, or `kina diff CLUSTER`"));
    }
    let inputs = apply::read(&args.inputs, context).await?;
    let session = Session::open(context, Need::Read, None).await?;
    let client = session.client.clone();
    let work = async {
        let mut differs = false;
        let mut failures = Failures::default();
        for (origin, document) in &inputs.documents {
            match one(&client, origin, document).await {
                Ok(difference) => {
                    differs |= difference.is_some();
                    if let Some(difference) = difference {
                        context.printer.data(&difference.told())?;
                    }
                }
                Err(error) => failures.add(context, error)?,
            }
        }
        failures.end().map(|()| differs)
    };
    session.run(work).await
}

/// How a Cluster differs from its manifest.
#[derive(Clone, Debug, PartialEq)]
struct Difference {
    cluster: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    /// There is no such Cluster.
    Missing,
    /// These fields of its spec differ, and these labels and annotations: path, before, after.
    Fields { spec: Vec<Change>, metadata: Vec<(String, Value, Value)> },
}

async fn one(client: &Client, origin: &Origin, document: &Document) -> Result<Option<Difference>, CliError> {
    let attempted = format!("compare cluster/{}", document.name);
    let api: Api<Cluster> = Api::all(client.clone());
    let before = api.get_opt(&document.name).await.map_err(|error| CliError::request(&attempted, error))?;
    let after = apply::send(&api, &attempted, origin, document, &apply::params().dry_run()).await?;
    let what = match before {
        None => What::Missing,
        Some(before) => {
            let spec = class::changes(&before.spec, &after.spec);
            let metadata = metadata_changes(&before, &after);
            if spec.is_empty() && metadata.is_empty() {
                return Ok(None);
            }
            What::Fields { spec, metadata }
        }
    };
    Ok(Some(Difference { cluster: document.name.clone(), what }))
}

fn metadata_changes(before: &Cluster, after: &Cluster) -> Vec<(String, Value, Value)> {
    let mut changes = Vec::new();
    // What Kina itself keeps there is no wish of the manifest.
    let is_own = |key: &str| key == annotations::SOURCE || key == annotations::IDENTITY;
    for (kind, before, after) in
        [("labels", before.labels(), after.labels()), ("annotations", before.annotations(), after.annotations())]
    {
        let mut keys: Vec<&String> = before.keys().chain(after.keys()).filter(|key| !is_own(key)).collect();
        keys.sort();
        keys.dedup();
        for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
            let value = |of: Option<&String>| of.map_or(Value::Null, |text| text.clone().into());
            changes.push((format!("metadata.{kind}[{key}]"), value(before.get(key)), value(after.get(key))));
        }
    }
    changes
}

/// Differences of a spec as text: what there is, what is wanted, and what that takes.
#[must_use]
pub fn fields(cluster: &str, spec: &[Change]) -> String {
    let what = What::Fields { spec: spec.to_vec(), metadata: Vec::new() };
    Difference { cluster: cluster.to_owned(), what }.told()
}

impl Difference {
    fn told(&self) -> String {
        let Self { cluster, what } = self;
        let What::Fields { spec, metadata } = what else {
            return format!("cluster/{cluster}: would be created\n");
        };
        let heaviest = class::heaviest(spec);
        let mut text = format!("cluster/{cluster}: {}\n", heaviest.map_or("live", Class::as_str));
        let fields = spec.iter().map(|change| (&change.field, &change.from, &change.to, change.class));
        let metadata = metadata.iter().map(|(field, from, to)| (field, from, to, Class::Live));
        for (field, from, to, class) in fields.chain(metadata) {
            text.push_str(&format!("  {field}: {} -> {}  ({})\n", shown(from), shown(to), class.as_str()));
        }
        text.push_str(match heaviest {
            None | Some(Class::Live) => "  changed in place: nothing is interrupted\n",
            Some(Class::Roll) => {
                "  machines are made anew one after the other, drained first; their data, names and addresses stay\n"
            }
            Some(Class::Recreate) => "  THE CLUSTER IS MADE ANEW, AND ITS DATA IS LOST\n",
        });
        text
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(field: &str, class: Class, from: Value, to: Value) -> Change {
        Change { field: field.to_owned(), class, from, to }
    }

    #[test]
    fn differences_are_told_with_what_they_take() {
        let replicas = change("spec.workers[default].replicas", Class::Live, json!(1), json!(3));
        let memory = change("spec.workers[default].resources.memory", Class::Roll, Value::Null, json!("2Gi"));
        let label = ("metadata.labels[team]".to_owned(), Value::Null, json!("a"));
        let of =
            |spec: Vec<Change>, metadata| Difference { cluster: "dev".into(), what: What::Fields { spec, metadata } };
        insta::assert_snapshot!(of(vec![replicas.clone(), memory], vec![label]).told(), @r"
        cluster/dev: roll
          spec.workers[default].replicas: 1 -> 3  (live)
          spec.workers[default].resources.memory: (not set) -> 2Gi  (roll)
          metadata.labels[team]: (not set) -> a  (live)
          machines are made anew one after the other, drained first; their data, names and addresses stay
        ");
        insta::assert_snapshot!(of(vec![replicas], vec![]).told(), @r"
        cluster/dev: live
          spec.workers[default].replicas: 1 -> 3  (live)
          changed in place: nothing is interrupted
        ");
        let missing = Difference { cluster: "dev".into(), what: What::Missing };
        assert_eq!(missing.told(), "cluster/dev: would be created\n");
    }
}
