//! Deployments, ReplicaSets and DaemonSets, as their controllers in kube-controller-manager handle them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::admission::complete_pod;
use super::engine::{Scene, View};
use super::model::{Node, OfTemplate, Pod, PodSpec, Taint, Toleration, Workload, apps, controller_reference, core};
use super::revisions;
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;
use crate::apiserver::kind::ResourceId;

/// Old ReplicaSets kept (`revisionHistoryLimit`).
const HISTORY: usize = 10;

/// Whether a pod's node selector and required node affinity let it run on a node.
pub(super) fn fits_node(pod: &PodSpec, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    let selected = pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let terms = pod
        .affinity
        .as_ref()
        .and_then(|affinity| {
            affinity.pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")
        })
        .and_then(Value::as_array);
    selected && terms.is_none_or(|terms| terms.iter().any(|term| term_fits(term, node)))
}

fn term_fits(term: &Value, node: &Node) -> bool {
    let list = |name: &str| term.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |key: &str| (key == "metadata.name").then(|| node.metadata.name.clone());
    let label = |key: &str| node.metadata.labels.get(key).cloned();
    let (fields, expressions) = (list("matchFields"), list("matchExpressions"));
    !(fields.is_empty() && expressions.is_empty())
        && fields.iter().all(|requirement| requirement_holds(requirement, &name))
        && expressions.iter().all(|requirement| requirement_holds(requirement, &label))
}

fn requirement_holds(requirement: &Value, find: &dyn Fn(&str) -> Option<String>) -> bool {
    let found = find(requirement["key"].as_str().unwrap_or_default());
    let values = || requirement["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || values().next().and_then(number);
    match (requirement["operator"].as_str().unwrap_or_default(), found) {
        ("In", Some(found)) => values().any(|value| value == found),
        ("NotIn", Some(found)) => values().all(|value| value != found),
        ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
        ("Gt", Some(found)) => number(&found).zip(bound()).is_some_and(|(found, bound)| found > bound),
        ("Lt", Some(found)) => number(&found).zip(bound()).is_some_and(|(found, bound)| found < bound),
        _ => false,
    }
}

/// A pod from a template, owned by its controller.
fn pod_from(
    session: &Session<'_, '_>,
    owner: &Workload,
    kind: &str,
    labels: &[(&str, &str)],
    node: Option<&str>,
) -> Value {
    let template = &owner.spec.template;
    let base: String = owner.metadata.name.chars().take(57).collect();
    let mut metadata = json!({
        "name": format!("{base}-{}", session.suffix()), "generateName": format!("{base}-"),
        "namespace": owner.metadata.namespace,
        "ownerReferences": controller_reference("apps/v1", kind, &owner.metadata.name, &owner.metadata.uid),
        "labels": template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({})),
    });
    if let Some(annotations) = template.pointer("/metadata/annotations").filter(|value| value.is_object()) {
        metadata["annotations"] = annotations.clone();
    }
    for (key, value) in labels {
        metadata["labels"][*key] = json!(value);
    }
    let mut pod = json!({"metadata": metadata, "spec": template.get("spec").cloned().unwrap_or_else(|| json!({}))});
    if let Some(node) = node {
        pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}});
        let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        tolerations.extend(DAEMON_TOLERATIONS.iter().map(
            |(key, effect)| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": effect}),
        ));
        pod["spec"]["tolerations"] = Value::Array(tolerations);
    }
    complete_pod(&mut pod);
    pod
}

/// What daemon pods tolerate by themselves (`daemon/util.AddOrUpdateDaemonPodTolerations`).
const DAEMON_TOLERATIONS: [(&str, &str); 6] = [
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
];

fn owned<'a>(view: &'a View, owner: &'a Workload) -> impl Iterator<Item = &'a Pod> {
    view.pods.iter().filter(|pod| pod.metadata.controller() == Some(owner.metadata.uid.as_str()))
}

/// Daemon pods: one on each node that they may run on. They are bound as they are made: the scheduler would have no
/// choice.
pub(super) fn daemon_sets(session: &mut Session<'_, '_>, scene: &Scene<'_>, view: &View) -> Result<bool, ApiError> {
    let mut wrote = false;
    for set in view.daemon_sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()) {
        wrote |= daemon_set(session, scene, view, set)?;
    }
    Ok(wrote)
}

fn daemon_set(session: &mut Session<'_, '_>, scene: &Scene<'_>, view: &View, set: &Workload) -> Result<bool, ApiError> {
    let OfTemplate { hash, pod: spec } = set.of_template();
    let mut by_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in owned(view, set) {
        by_node.entry(&pod.spec.node_name).or_default().push(pod);
    }
    let current = |pod: &Pod| pod.metadata.labels.get("controller-revision-hash") == Some(hash);
    let (mut wrote, mut counts) = (false, Counts::default());
    let mut doomed: Vec<&Pod> = Vec::new();
    for node in view.nodes.iter().filter(|node| node.metadata.deletion_timestamp.is_none()) {
        let mut here = by_node.remove(node.metadata.name.as_str()).unwrap_or_default();
        if !daemon_fits(spec, node) {
            doomed.extend(here.iter().filter(|pod| !pod.is_deleting()));
            continue;
        }
        counts.desired += 1;
        here.sort_by_key(|pod| (pod.is_deleting() || pod.is_over(), !current(pod), pod.metadata.name.clone()));
        match here.split_first() {
            None => {
                let mut pod = pod_from(
                    session,
                    set,
                    "DaemonSet",
                    &[("controller-revision-hash", hash), ("pod-template-generation", "1")],
                    Some(&node.metadata.name),
                );
                pod["spec"]["nodeName"] = json!(node.metadata.name);
                pod["status"]["conditions"] =
                    json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": scene.now.rfc3339()}]);
                session.put(&core("pods"), pod)?;
                wrote = true;
            }
            Some((first, others)) => {
                counts.count(first, current(first));
                doomed.extend(others.iter().filter(|pod| !pod.is_deleting()));
                if first.is_over() && !first.is_deleting() {
                    doomed.push(first);
                }
            }
        }
        counts.outdated.extend(
            here.first().filter(|pod| !current(pod) && !pod.is_deleting()).map(|pod| pod.metadata.name.clone()),
        );
    }
    let replaces = set.spec.update_strategy.get("type").and_then(Value::as_str) != Some("OnDelete");
    let most =
        int_or_percent(set.spec.update_strategy.pointer("/rollingUpdate/maxUnavailable"), counts.desired, true, 1)
            .max(1);
    let room = usize::try_from(most - (counts.desired - counts.ready)).unwrap_or_default();
    for name in counts.outdated.iter().take(if replaces { room } else { 0 }) {
        session.delete(&core("pods"), &set.metadata.namespace, name, None)?;
        wrote = true;
    }
    for pod in doomed {
        session.delete(&core("pods"), &pod.metadata.namespace, &pod.metadata.name, None)?;
        wrote = true;
    }
    let status = json!({
        "currentNumberScheduled": counts.scheduled, "desiredNumberScheduled": counts.desired,
        "numberAvailable": counts.ready, "numberMisscheduled": 0, "numberReady": counts.ready,
        "numberUnavailable": counts.desired - counts.ready, "observedGeneration": set.metadata.generation,
        "updatedNumberScheduled": counts.updated,
    });
    Ok(wrote | set_status(session, &apps("daemonsets"), set, status)?)
}

#[derive(Default)]
struct Counts {
    desired: i64,
    scheduled: i64,
    ready: i64,
    updated: i64,
    outdated: Vec<String>,
}

impl Counts {
    fn count(&mut self, pod: &Pod, current: bool) {
        self.scheduled += 1;
        self.ready += i64::from(pod.is_ready() && !pod.is_deleting());
        self.updated += i64::from(current);
    }
}

fn daemon_fits(spec: &PodSpec, node: &Node) -> bool {
    let own = |taint: &Taint| {
        taint.key.strip_prefix("node.kubernetes.io/").is_some_and(|key| {
            DAEMON_TOLERATIONS.contains(&(key, taint.effect.as_str()))
                // Scheduled as if the node were ready: that is what makes it ready.
                || (key == "not-ready" || key == "unreachable")
        })
    };
    let tolerated = |taint: &Taint| {
        taint.effect == "PreferNoSchedule"
            || own(taint)
            || spec.tolerations.iter().any(|t: &Toleration| t.tolerates(taint))
    };
    fits_node(spec, node) && node.spec.taints.iter().all(tolerated)
}

/// `5` or `25%` of a number, rounded up or down.
pub(super) fn int_or_percent(value: Option<&Value>, of: i64, up: bool, default: i64) -> i64 {
    match value {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(default),
        Some(Value::String(text)) => match text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()) {
            Some(percent) if up => (of * percent + 99) / 100,
            Some(percent) => of * percent / 100,
            None => default,
        },
        _ => default,
    }
}

/// Writes a status where it differs.
fn set_status(session: &mut Session<'_, '_>, id: &ResourceId, of: &Workload, status: Value) -> Result<bool, ApiError> {
    if of.status == status {
        return Ok(false);
    }
    session.change(id, &of.metadata.namespace, &of.metadata.name, |object| object["status"] = status)
}

pub(super) fn replica_sets(session: &mut Session<'_, '_>, view: &View) -> Result<bool, ApiError> {
    let mut wrote = false;
    for set in view.replica_sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()) {
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default();
        let mut active: Vec<&Pod> = owned(view, set).filter(|pod| !pod.is_deleting() && !pod.is_over()).collect();
        for _ in active.len()..wanted {
            let pod = pod_from(session, set, "ReplicaSet", &[], None);
            session.put(&core("pods"), pod)?;
            wrote = true;
        }
        // Those go first that are worth least: without a node, not ready, the newest.
        active.sort_by_key(|pod| {
            let age = std::cmp::Reverse(pod.metadata.creation_timestamp);
            (!pod.spec.node_name.is_empty(), pod.is_ready(), age, pod.metadata.name.clone())
        });
        for pod in active.iter().take(active.len().saturating_sub(wanted)) {
            session.delete(&core("pods"), &pod.metadata.namespace, &pod.metadata.name, None)?;
            wrote = true;
        }
        let ready = active.iter().filter(|pod| pod.is_ready()).count();
        let mut status = json!({"replicas": active.len(), "fullyLabeledReplicas": active.len(),
                                "observedGeneration": set.metadata.generation});
        if ready > 0 {
            status["readyReplicas"] = json!(ready);
            status["availableReplicas"] = json!(ready);
        }
        wrote |= set_status(session, &apps("replicasets"), set, status)?;
    }
    Ok(wrote)
}

pub(super) fn deployments(session: &mut Session<'_, '_>, view: &View) -> Result<bool, ApiError> {
    let mut wrote = false;
    for deployment in view.deployments.iter().filter(|deployment| deployment.metadata.deletion_timestamp.is_none()) {
        wrote |= deployment_sets(session, view, deployment)?;
    }
    Ok(wrote)
}

fn number(set: &Workload, field: &str) -> i64 {
    set.status.get(field).and_then(Value::as_i64).unwrap_or_default()
}

fn deployment_sets(session: &mut Session<'_, '_>, view: &View, deployment: &Workload) -> Result<bool, ApiError> {
    let uid = deployment.metadata.uid.as_str();
    let hash = &deployment.of_template().hash;
    let replicas = deployment.spec.replicas.unwrap_or(1).max(0);
    let sets = view.replica_sets.iter().filter(|set| set.metadata.controller() == Some(uid));
    let (new, mut old): (Vec<&Workload>, Vec<&Workload>) =
        sets.partition(|set| set.metadata.labels.get("pod-template-hash") == Some(hash));
    let rolling = deployment.spec.strategy.get("type").and_then(Value::as_str) != Some("Recreate");
    let limit = |name: &str, up: bool| {
        let set = deployment.spec.strategy.pointer(&format!("/rollingUpdate/{name}")).cloned().unwrap_or(json!("25%"));
        int_or_percent(Some(&set), replicas, up, 1)
    };
    let (surge, unavailable) = (limit("maxSurge", true), limit("maxUnavailable", false));
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    let old_total: i64 = old.iter().map(|set| set.spec.replicas.unwrap_or(1)).sum();
    let old_pods: i64 = old.iter().map(|set| number(set, "replicas")).sum();
    let Some(new) = new.first() else {
        let first = match (deployment.spec.paused, rolling, old_total) {
            (true, _, _) => return Ok(false),
            (_, _, 0) => replicas,
            (_, true, _) => (replicas + surge - old_total).clamp(0, replicas),
            (_, false, _) => 0,
        };
        session.put(&apps("replicasets"), replica_set(deployment, hash, first))?;
        return Ok(true);
    };
    let mut wrote = revisions::number(session, deployment, new, &old)?;
    let current = new.spec.replicas.unwrap_or(1);
    let wanted = match (old_total, rolling) {
        (0, _) if rolling || old_pods == 0 => replicas,
        (_, true) => (replicas + surge - old_total).clamp(current.min(replicas), replicas),
        (_, false) => 0,
    };
    wrote |= scale(session, new, wanted)?;
    // Of the old ones as many may go as leave enough that are available.
    let available =
        number(new, "availableReplicas") + old.iter().map(|set| number(set, "availableReplicas")).sum::<i64>();
    let mut spare = if rolling { (available - (replicas - unavailable)).max(0) } else { old_total };
    old.sort_by_key(|set| set.metadata.creation_timestamp);
    for set in old.iter().filter(|set| set.spec.replicas.unwrap_or(1) > 0) {
        let have = set.spec.replicas.unwrap_or(1);
        // Pods that are not available are no loss.
        let idle = (have - number(set, "availableReplicas")).max(0);
        let down = have.min(idle + spare);
        spare -= (down - idle).max(0);
        wrote |= scale(session, set, have - down)?;
    }
    let surplus = old.iter().filter(|set| set.spec.replicas == Some(0) && number(set, "replicas") == 0);
    let surplus: Vec<&&Workload> = surplus.collect();
    for set in surplus.iter().take(surplus.len().saturating_sub(HISTORY)) {
        session.delete(&apps("replicasets"), &set.metadata.namespace, &set.metadata.name, None)?;
        wrote = true;
    }
    Ok(wrote | deployment_status(session, deployment, new, &old, replicas - unavailable)?)
}

fn scale(session: &mut Session<'_, '_>, set: &Workload, replicas: i64) -> Result<bool, ApiError> {
    if set.spec.replicas == Some(replicas) {
        return Ok(false);
    }
    let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
    session.change(&apps("replicasets"), namespace, name, |object| object["spec"]["replicas"] = json!(replicas))
}

fn replica_set(deployment: &Workload, hash: &str, replicas: i64) -> Value {
    let mut template = deployment.spec.template.clone();
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    let mut selector = json!({"matchLabels": deployment.spec.selector.match_labels});
    selector["matchLabels"]["pod-template-hash"] = json!(hash);
    let expressions: Vec<Value> = deployment
        .spec
        .selector
        .match_expressions
        .iter()
        .map(|expression| json!({"key": expression.key, "operator": expression.operator, "values": expression.values}))
        .collect();
    if !expressions.is_empty() {
        selector["matchExpressions"] = Value::Array(expressions);
    }
    let owner = &deployment.metadata;
    json!({
        "metadata": {
            "name": format!("{}-{hash}", owner.name), "namespace": owner.namespace,
            "labels": template.pointer("/metadata/labels").cloned().unwrap_or_default(),
            "ownerReferences": controller_reference("apps/v1", "Deployment", &owner.name, &owner.uid),
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
        "status": {"replicas": 0},
    })
}

fn deployment_status(
    session: &mut Session<'_, '_>,
    deployment: &Workload,
    new: &Workload,
    old: &[&Workload],
    enough: i64,
) -> Result<bool, ApiError> {
    let total = |field: &str| number(new, field) + old.iter().map(|set| number(set, field)).sum::<i64>();
    let (replicas, ready, available) = (total("replicas"), total("readyReplicas"), total("availableReplicas"));
    let updated = number(new, "replicas");
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let now = super::super::time::At::of(session.now()).rfc3339();
    let before = deployment.status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let condition = |kind: &str, status: &str, reason: &str, message: String| {
        let same = before.iter().find(|old| old["type"] == kind && old["status"] == status);
        let since = same.map_or(json!(now), |old| old["lastTransitionTime"].clone());
        let updated =
            same.filter(|old| old["reason"] == reason).map_or(json!(now), |old| old["lastUpdateTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
               "lastUpdateTime": updated})
    };
    let is_available = available >= enough;
    let complete = updated == wanted && replicas == wanted && available == wanted;
    let conditions = [
        match is_available {
            true => condition(
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".into(),
            ),
            false => condition(
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.".into(),
            ),
        },
        match complete {
            true => condition(
                "Progressing",
                "True",
                "NewReplicaSetAvailable",
                format!("ReplicaSet \"{}\" has successfully progressed.", new.metadata.name),
            ),
            false => condition(
                "Progressing",
                "True",
                "ReplicaSetUpdated",
                format!("ReplicaSet \"{}\" is progressing.", new.metadata.name),
            ),
        },
    ];
    let mut status = json!({"observedGeneration": deployment.metadata.generation, "conditions": conditions});
    for (field, count) in [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", (wanted.max(replicas) - available).max(0)),
    ] {
        if count > 0 {
            status[field] = json!(count);
        }
    }
    set_status(session, &apps("deployments"), deployment, status)
}
