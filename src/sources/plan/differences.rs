//! What applying a document would change in a Cluster that is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Live;
use crate::api::ClusterSpec;
use crate::api::class::{self, Change};
use crate::api::cluster::spec_schema;
use crate::sources::manifest::Document;

/// The spec as it would be, with defaults that were resolved kept. Fields that the document used to set and does not
/// set any more are not seen here: the document's hash tells of those.
fn applied(live: &ClusterSpec, document: &Document) -> Option<ClusterSpec> {
    let mut value = serde_json::to_value(live).ok()?;
    overlay(&mut value, &document.spec, spec_schema());
    serde_json::from_value(value).ok().map(|spec| class::keep_resolved(live, spec))
}

/// Fields of the spec that would change.
pub(super) fn spec_changes(live: &Live, document: &Document) -> Vec<Change> {
    applied(&live.spec, document).map(|spec| class::changes(&live.spec, &spec)).unwrap_or_default()
}

/// Whether the document, or the file, may have the Cluster made anew.
pub(super) fn permits_recreation(live: &Live, document: &Document) -> bool {
    let by_annotation =
        live.annotation(crate::api::annotations::RECREATE) == Some(live.generation.to_string().as_str());
    let by_spec = applied(&live.spec, document).is_some_and(|spec| spec.allow_recreate);
    !live.is_protected() && (by_spec || by_annotation)
}

/// Paths of everything the document sets that the Cluster has otherwise.
fn differing(live: &Live, document: &Document) -> Vec<String> {
    let mut found: Vec<String> = spec_changes(live, document).into_iter().map(|change| change.field).collect();
    // What has no class cannot be told field by field; it is a difference all the same.
    if found.is_empty() && applied(&live.spec, document).is_some_and(|spec| spec != live.spec) {
        found.push("spec".to_owned());
    }
    let labels = document.labels.iter().filter(|(key, value)| live.labels.get(*key) != Some(value));
    found.extend(labels.map(|(key, _)| format!("metadata.labels[{key}]")));
    let annotations = document.annotations.iter().filter(|(key, value)| live.annotations.get(*key) != Some(value));
    found.extend(annotations.map(|(key, _)| format!("metadata.annotations[{key}]")));
    found
}

/// What was found for Clusters and documents that have not changed since: a source with a thousand of them is planned anew
/// whenever one changes. Of each Cluster the last comparison alone is kept.
#[derive(Debug, Default)]
pub struct Compared(Mutex<BTreeMap<String, Comparison>>);

#[derive(Debug)]
struct Comparison {
    live: Arc<Live>,
    path: String,
    hash: String,
    differing: Vec<String>,
}

impl Compared {
    /// Paths of everything the document sets that the Cluster has otherwise.
    pub(super) fn differing(&self, name: &str, live: &Arc<Live>, path: &str, document: &Document) -> Vec<String> {
        let is_same =
            |known: &&Comparison| Arc::ptr_eq(&known.live, live) && known.path == path && known.hash == document.hash;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name).filter(is_same) {
            return known.differing.clone();
        }
        let differing = differing(live, document);
        let (path, hash) = (path.to_owned(), document.hash.clone());
        let comparison = Comparison { live: Arc::clone(live), path, hash, differing: differing.clone() };
        all.insert(name.to_owned(), comparison);
        differing
    }

    /// Forgets Clusters that are gone.
    pub(super) fn keep(&self, clusters: &BTreeMap<String, Arc<Live>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > clusters.len() {
            all.retain(|name, _| clusters.contains_key(name));
        }
    }
}

/// Lays one value over another as server-side apply does: maps by key, lists of type `map` by their elements' keys,
/// everything else as a whole.
fn overlay(base: &mut Value, over: &Value, schema: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                let inner = schema.pointer(&format!("/properties/{key}")).unwrap_or(&Value::Null);
                overlay(base.entry(key.clone()).or_insert(Value::Null), value, inner);
            }
        }
        (Value::Array(base), Value::Array(over)) if schema.get("x-kubernetes-list-type") == Some(&"map".into()) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            let keys: Vec<&str> = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for value in over {
                let same = |element: &&mut Value| keys.iter().all(|key| element.get(key) == value.get(key));
                match base.iter_mut().find(same) {
                    Some(element) => overlay(element, value, inner),
                    None => base.push(value.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::manifest::Manifest;

    fn document(spec: &str) -> Document {
        let text = format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: dev}}\nspec:\n{spec}");
        let manifest = Manifest::parse("dev.yaml", text.as_bytes());
        assert_eq!(manifest.faults, []);
        manifest.documents[0].clone()
    }

    fn live(spec: Value) -> Live {
        Live { spec: serde_json::from_value(spec).unwrap(), ..Live::default() }
    }

    #[test]
    fn what_the_document_does_not_name_is_no_difference() {
        let live = live(serde_json::json!({
            "kubernetesVersion": "v1.35.5", "runtime": "sim", "drift": {"mode": "Audit", "interval": "60s"},
            "networking": {"apiServer": {"address": "127.0.0.1", "port": 40001}},
            "workers": [{"name": "a", "replicas": 2}, {"name": "by-hand"}],
            "controlPlane": {"resources": {"cpus": 2}},
        }));
        let document = document(
            "  runtime: auto\n  networking: {apiServer: {port: 0}}\n  controlPlane: {resources: {cpus: \"2\"}}\n  workers: [{name: a, replicas: 2}]\n",
        );
        assert_eq!(differing(&live, &document), [""; 0]);
    }

    #[test]
    fn what_it_names_otherwise_is_one() {
        let live = live(serde_json::json!({"runtime": "sim", "workers": [{"name": "a", "replicas": 2}]}));
        let document = document("  protect: true\n  workers: [{name: a, replicas: 3}, {name: b}]\n");
        assert_eq!(
            differing(&live, &document),
            ["spec.workers[a].replicas", "spec.workers[b].replicas", "spec.protect"]
        );
    }
}
