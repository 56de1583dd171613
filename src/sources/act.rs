//! Carrying out a plan against the API. Every action can be repeated, and none trusts what is remembered where it could
//! do harm.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::manifest::Document;
use super::plan::{Live, Release};
use crate::api::{API_VERSION, Cluster, Source, SourceSpec, SourceStatus, annotations};

/// The one field manager of the file source.
pub const FIELD_MANAGER: &str = "kina-source";
/// The field manager of `kina apply`, to whom the fields of a Cluster go that a source lets go of: what the next
/// `kina apply` leaves out is removed then, as it would have been from the file.
pub const HAND_FIELD_MANAGER: &str = "kina";

/// Why an action did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActError {
    /// The API will not have it, however often it is asked.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// It may work the next time.
    #[error("cannot {what}")]
    Transient {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
}

impl ActError {
    fn of(what: impl FnOnce() -> String, error: kube::Error) -> Self {
        match &error {
            // A conflict is about a version or another write; everything else of the 400s is about what was asked for.
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422) => Self::Refused(status.clone()),
            _ => Self::Transient { what: what(), source: Box::new(error) },
        }
    }
}

/// Applies a document; the Cluster as it is then.
pub(super) async fn apply(
    client: &Client,
    source: &str,
    path: &str,
    commit: Option<&str>,
    document: &Document,
) -> Result<Cluster, ActError> {
    let mut annotations = document.annotations.clone();
    let origin = [
        (annotations::SOURCE, source),
        (annotations::SOURCE_PATH, path),
        (annotations::SOURCE_LINE, &document.line.to_string()),
        (annotations::SOURCE_HASH, &document.hash),
    ];
    let commit = commit.map(|commit| (annotations::SOURCE_COMMIT, commit));
    annotations.extend(origin.into_iter().chain(commit).map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut metadata = json!({ "name": document.name, "annotations": annotations });
    if !document.labels.is_empty() {
        metadata["labels"] = json!(document.labels);
    }
    let object = json!({ "apiVersion": API_VERSION, "kind": "Cluster", "metadata": metadata, "spec": document.spec });
    let clusters: Api<Cluster> = Api::all(client.clone());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    clusters
        .patch(&document.name, &parameters, &Patch::Apply(object))
        .await
        .map_err(|error| ActError::of(|| format!("apply cluster {}", document.name), error))
}

/// What came of a deletion.
#[derive(Debug)]
pub(super) struct Deletion {
    /// It has begun now.
    pub begun: bool,
    /// The Cluster of that name as it is then; `None` where there is none.
    pub left: Option<Cluster>,
}

/// Deletes exactly the Cluster that is meant, as it is now.
pub(super) async fn delete(client: &Client, source: &str, name: &str, uid: &str) -> Result<Deletion, ActError> {
    let clusters: Api<Cluster> = Api::all(client.clone());
    let what = || format!("delete cluster {name}");
    let Some(cluster) = clusters.get_opt(name).await.map_err(|error| ActError::of(what, error))? else {
        return Ok(Deletion { begun: false, left: None });
    };
    let live = Live::of(&cluster);
    let is_meant =
        live.uid == uid && live.source() == Some(source) && !live.annotations.contains_key(annotations::DETACH);
    // A deletion that would be refused is never sent: it could not be taken back.
    if !is_meant || live.is_protected() || live.is_deleting {
        return Ok(Deletion { begun: false, left: Some(cluster) });
    }
    let preconditions =
        Preconditions { uid: Some(live.uid), resource_version: cluster.metadata.resource_version.clone() };
    let parameters = DeleteParams::default().preconditions(preconditions);
    match clusters.delete(name, &parameters).await {
        Ok(answer) => Ok(Deletion { begun: true, left: answer.left() }),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Deletion { begun: false, left: None }),
        Err(error) => Err(ActError::of(what, error)),
    }
}

/// Hands a Cluster over to whoever works by hand.
pub(super) async fn release(
    client: &Client,
    source: &str,
    name: &str,
    uid: &str,
    why: Release,
) -> Result<Option<Cluster>, ActError> {
    let clusters: Api<Cluster> = Api::all(client.clone());
    let what = || format!("release cluster {name}");
    let Some(cluster) = clusters.get_opt(name).await.map_err(|error| ActError::of(what, error))? else {
        return Ok(None);
    };
    let live = Live::of(&cluster);
    if live.uid != uid || live.source() != Some(source) {
        return Ok(Some(cluster));
    }
    let mut annotations = json!({
        annotations::SOURCE: annotations::SOURCE_CLI,
        annotations::SOURCE_PATH: Value::Null,
        annotations::SOURCE_LINE: Value::Null,
        annotations::SOURCE_HASH: Value::Null,
        annotations::SOURCE_COMMIT: Value::Null,
    });
    if why == Release::Detached {
        annotations[annotations::DETACH] = Value::Null;
    }
    // A merge patch, not an application: applying less would take away the fields that the file had set.
    let managers = handed_over(cluster.metadata.managed_fields.unwrap_or_default());
    let patch = json!({
        "metadata": {
            "resourceVersion": cluster.metadata.resource_version,
            "annotations": annotations,
            "managedFields": managers,
        },
    });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match clusters.patch(name, &parameters, &Patch::Merge(patch)).await {
        Ok(cluster) => Ok(Some(cluster)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(ActError::of(what, error)),
    }
}

/// Managed fields, with those of the source under the name of `kina apply`, together with what that manages already.
fn handed_over(mut entries: Vec<ManagedFieldsEntry>) -> Vec<ManagedFieldsEntry> {
    let is_of = |entry: &ManagedFieldsEntry, manager: &str| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    let Some(ours) = entries.iter().position(|entry| is_of(entry, FIELD_MANAGER)) else { return entries };
    let mut ours = entries.remove(ours);
    match entries.iter_mut().find(|entry| is_of(entry, HAND_FIELD_MANAGER)) {
        Some(theirs) => {
            let fields = ours.fields_v1.take().map(|fields| fields.0).unwrap_or_default();
            match &mut theirs.fields_v1 {
                Some(known) => unite(&mut known.0, fields),
                None => theirs.fields_v1 = Some(FieldsV1(fields)),
            }
        }
        None => {
            ours.manager = Some(HAND_FIELD_MANAGER.to_owned());
            entries.push(ours);
        }
    }
    entries
}

/// The union of two sets of fields in the `FieldsV1` format: nested objects whose keys are path elements.
fn unite(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                unite(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Makes sure that a Source is there, with this path.
pub(super) async fn ensure_source(client: &Client, name: &str, path: &str) -> Result<Source, ActError> {
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": "Source",
        "metadata": { "name": name },
        "spec": SourceSpec { path: path.to_owned() },
    });
    let sources: Api<Source> = Api::all(client.clone());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    sources
        .patch(name, &parameters, &Patch::Apply(object))
        .await
        .map_err(|error| ActError::of(|| format!("write source {name}"), error))
}

/// Stores a status, over exactly the version that it was planned from.
pub(super) async fn write_status(client: &Client, source: &Source, status: SourceStatus) -> Result<Source, ActError> {
    let name = source.metadata.name.clone().unwrap_or_default();
    let mut object = source.clone();
    object.metadata.managed_fields = None;
    object.status = Some(status);
    let sources: Api<Source> = Api::all(client.clone());
    sources
        .replace_status(&name, &kube::api::PostParams::default(), &object)
        .await
        .map_err(|error| ActError::of(|| format!("write the status of source {name}"), error))
}

/// Takes an approval away, if it is still the one that was used.
pub(super) async fn clear_approval(client: &Client, source: &Source) -> Result<Source, ActError> {
    let name = source.metadata.name.clone().unwrap_or_default();
    let patch = json!({
        "metadata": {
            "resourceVersion": source.metadata.resource_version,
            "annotations": { annotations::APPROVE: Value::Null },
        },
    });
    let sources: Api<Source> = Api::all(client.clone());
    sources
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(|error| ActError::of(|| format!("clear the approval of source {name}"), error))
}

/// Removes a Source that is not watched any more.
pub(super) async fn delete_source(client: &Client, name: &str) -> Result<(), ActError> {
    let sources: Api<Source> = Api::all(client.clone());
    match sources.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(ActError::of(|| format!("delete source {name}"), error)),
    }
}
