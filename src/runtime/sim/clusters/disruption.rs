//! PodDisruptionBudgets, as their controller in kube-controller-manager handles them (`pkg/controller/disruption`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::engine::{Scene, View};
use super::model::{Budget, Meta, Pod, resource};
use super::workloads::int_or_percent;
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;
use crate::apiserver::kind::ResourceId;

/// The resource.
pub(super) fn budgets() -> ResourceId {
    resource("policy", "poddisruptionbudgets")
}

/// Says in each budget's status how many of its pods may go now.
pub(super) fn sync(session: &mut Session<'_, '_>, scene: &Scene<'_>, view: &View) -> Result<bool, ApiError> {
    let mut wrote = false;
    for budget in view.budgets.iter().filter(|budget| budget.metadata.deletion_timestamp.is_none()) {
        let status = status(scene, view, budget);
        if budget.status == status {
            continue;
        }
        let Meta { namespace, name, .. } = &budget.metadata;
        wrote |= session.change(&budgets(), namespace, name, |object| object["status"] = status)?;
    }
    Ok(wrote)
}

fn status(scene: &Scene<'_>, view: &View, budget: &Budget) -> Value {
    let selects = |pod: &&Pod| {
        let selector = budget.spec.selector.as_ref();
        pod.metadata.namespace == budget.metadata.namespace
            && !pod.is_over()
            && selector.is_some_and(|selector| selector.selects(&pod.metadata.labels))
    };
    let pods: Vec<&Pod> = view.pods.iter().filter(selects).collect();
    let healthy = pods.iter().filter(|pod| pod.is_ready() && !pod.is_deleting()).count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let generation = budget.metadata.generation;
    let (expected, desired) = match wanted(view, budget, &pods) {
        Ok(wanted) => wanted,
        Err(message) => {
            // No disruption while it is not known how many there should be.
            let count = |name: &str| budget.status.get(name).and_then(Value::as_i64).unwrap_or_default();
            return json!({
                "observedGeneration": generation, "disruptionsAllowed": 0, "currentHealthy": count("currentHealthy"),
                "desiredHealthy": count("desiredHealthy"), "expectedPods": count("expectedPods"),
                "conditions": [condition(scene, budget, false, "SyncFailed", &message)],
            });
        }
    };
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    json!({
        "observedGeneration": generation, "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": desired, "expectedPods": expected,
        "conditions": [condition(scene, budget, allowed > 0, reason, "")],
    })
}

fn condition(scene: &Scene<'_>, budget: &Budget, allowed: bool, reason: &str, message: &str) -> Value {
    let status = if allowed { "True" } else { "False" };
    let before = budget.status.pointer("/conditions/0").filter(|old| old["status"] == status);
    let since = before.map_or_else(|| json!(scene.now.rfc3339()), |old| old["lastTransitionTime"].clone());
    json!({"type": "DisruptionAllowed", "status": status, "reason": reason, "message": message,
           "lastTransitionTime": since, "observedGeneration": budget.metadata.generation})
}

/// How many pods there should be, and how many of them healthy.
fn wanted(view: &View, budget: &Budget, pods: &[&Pod]) -> Result<(i64, i64), String> {
    if let Some(most) = &budget.spec.max_unavailable {
        let expected = expected(view, pods)?;
        return Ok((expected, (expected - int_or_percent(Some(most), expected, true, 0)).max(0)));
    }
    match &budget.spec.min_available {
        Some(Value::String(share)) => {
            let expected = expected(view, pods)?;
            Ok((expected, int_or_percent(Some(&json!(share)), expected, true, 0)))
        }
        number => {
            let there = i64::try_from(pods.len()).unwrap_or(i64::MAX);
            Ok((there, number.as_ref().and_then(Value::as_i64).unwrap_or_default()))
        }
    }
}

/// How many pods the controllers of these want, each counted once. Pods without one are not counted.
fn expected(view: &View, pods: &[&Pod]) -> Result<i64, String> {
    let mut scales: BTreeMap<&str, i64> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = pod.metadata.owner() else { continue };
        let set = view.replica_sets.iter().find(|set| owner.kind == "ReplicaSet" && set.metadata.uid == owner.uid);
        let Some(set) = set else {
            return Err(format!(
                "found no controllers with replicas for pod {:?}: its {} {:?} has none",
                pod.metadata.name, owner.kind, owner.name
            ));
        };
        let deployment = set.metadata.controller();
        let deployment = view.deployments.iter().find(|found| Some(found.metadata.uid.as_str()) == deployment);
        let controller = deployment.unwrap_or(set);
        scales.insert(&controller.metadata.uid, controller.spec.replicas.unwrap_or(1));
    }
    Ok(scales.values().sum())
}
