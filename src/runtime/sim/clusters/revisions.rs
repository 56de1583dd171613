//! Revisions of a Deployment: numbers on its ReplicaSets by which `kubectl rollout history` and `undo` find a template
//! (`pkg/controller/deployment/util`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::model::{Workload, apps};
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;

const REVISION: &str = "deployment.kubernetes.io/revision";
const PAST: &str = "deployment.kubernetes.io/revision-history";
/// What a ReplicaSet does not take over from its Deployment (`annotationsToSkip`).
const OWN: [&str; 6] = [
    REVISION,
    PAST,
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// Gives the ReplicaSet of the current template the highest number, and the Deployment the same; a number that it had
/// before is remembered. With it go the Deployment's annotations, such as the cause of the change.
pub(super) fn number(
    session: &mut Session<'_, '_>,
    deployment: &Workload,
    current: &Workload,
    old: &[&Workload],
) -> Result<bool, ApiError> {
    let next = old.iter().map(|set| revision(&set.metadata.annotations)).max().unwrap_or(0) + 1;
    let had = revision(&current.metadata.annotations);
    let mut annotations = current.metadata.annotations.clone();
    let taken = deployment.metadata.annotations.iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
    annotations.extend(taken.map(|(key, value)| (key.clone(), value.clone())));
    if had < next {
        annotations.insert(REVISION.into(), next.to_string());
        if had > 0 {
            let past = annotations.get(PAST).filter(|past| !past.is_empty());
            let past = past.map_or_else(|| had.to_string(), |past| format!("{past},{had}"));
            annotations.insert(PAST.into(), past);
        }
    }
    let mut of_deployment = deployment.metadata.annotations.clone();
    of_deployment.insert(REVISION.into(), annotations.get(REVISION).cloned().unwrap_or_default());
    Ok(annotate(session, "replicasets", current, &annotations)?
        | annotate(session, "deployments", deployment, &of_deployment)?)
}

fn revision(annotations: &BTreeMap<String, String>) -> u64 {
    annotations.get(REVISION).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn annotate(
    session: &mut Session<'_, '_>,
    plural: &str,
    of: &Workload,
    annotations: &BTreeMap<String, String>,
) -> Result<bool, ApiError> {
    if of.metadata.annotations == *annotations {
        return Ok(false);
    }
    session.change(&apps(plural), &of.metadata.namespace, &of.metadata.name, |object| {
        let annotations = annotations.iter().map(|(key, value)| (key.clone(), json!(value)));
        object["metadata"]["annotations"] = Value::Object(annotations.collect());
    })
}
