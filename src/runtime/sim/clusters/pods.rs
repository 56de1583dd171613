//! Pods: bound to nodes by the scheduler, run and ended by kubelets, removed where nobody else would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::time::At;
use super::engine::{Pass, Scene, View};
use super::kubelets::Kubelet;
use super::model::{Node, Pod, PodSpec, Taint, controller_reference, core};
use super::workloads::fits_node;
use crate::api::cidr::AnyCidr;
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;

/// Binds pods that have no node yet: to the fitting node with the fewest pods, the first by name among equals.
pub(super) fn schedule(session: &mut Session<'_, '_>, scene: &Scene<'_>, view: &View) -> Result<bool, ApiError> {
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in view.pods.iter().filter(|pod| !pod.is_over()) {
        *load.entry(&pod.spec.node_name).or_default() += 1;
    }
    let mut wrote = false;
    for pod in &view.pods {
        if !pod.spec.node_name.is_empty() || pod.is_deleting() || pod.is_over() {
            continue;
        }
        let fitting = view.nodes.iter().filter(|node| fits(&pod.spec, node));
        let chosen = fitting.min_by_key(|node| load.get(node.metadata.name.as_str()).copied().unwrap_or_default());
        wrote |= match chosen {
            Some(node) => {
                *load.entry(&node.metadata.name).or_default() += 1;
                bind(session, scene, pod, &node.metadata.name)?
            }
            None => unschedulable(session, scene, pod, view.nodes.len())?,
        };
    }
    Ok(wrote)
}

fn fits(pod: &PodSpec, node: &Node) -> bool {
    let cordon =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    let cordon = node.spec.unschedulable.then_some(cordon);
    let mut taints = node.spec.taints.iter().chain(&cordon).filter(|taint| taint.effect != "PreferNoSchedule");
    node.metadata.deletion_timestamp.is_none()
        && taints.all(|taint| pod.tolerations.iter().any(|toleration| toleration.tolerates(taint)))
        && fits_node(pod, node)
}

fn bind(session: &mut Session<'_, '_>, scene: &Scene<'_>, pod: &Pod, node: &str) -> Result<bool, ApiError> {
    change(session, pod, |object| {
        object["spec"]["nodeName"] = json!(node);
        object["status"]["phase"] = json!("Pending");
        set_condition(object, scene.now, "PodScheduled", "True", None);
    })
}

fn unschedulable(session: &mut Session<'_, '_>, scene: &Scene<'_>, pod: &Pod, nodes: usize) -> Result<bool, ApiError> {
    let message = format!(
        "0/{nodes} nodes are available: {nodes} node(s) didn't match the pod's node selector or had untolerated taints. \
         preemption: 0/{nodes} nodes are available: {nodes} Preemption is not helpful for scheduling."
    );
    change(session, pod, |object| {
        object["status"]["phase"] = json!("Pending");
        set_condition(object, scene.now, "PodScheduled", "False", Some(("Unschedulable", &message)));
    })
}

/// Reads a pod, changes it, stores it if it differs.
fn change(session: &mut Session<'_, '_>, pod: &Pod, change: impl FnOnce(&mut Value)) -> Result<bool, ApiError> {
    session.change(&core("pods"), &pod.metadata.namespace, &pod.metadata.name, |object| {
        if object["metadata"]["uid"] != pod.metadata.uid.as_str() {
            return;
        }
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        change(object);
    })
}

fn set_condition(object: &mut Value, now: At, kind: &str, status: &str, why: Option<(&str, &str)>) {
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let before = conditions.iter().position(|condition| condition["type"] == kind);
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": now.rfc3339()});
    if let Some((reason, message)) = why {
        condition["reason"] = json!(reason);
        condition["message"] = json!(message);
    }
    match before {
        Some(at) => {
            if conditions[at]["status"] == status {
                condition["lastTransitionTime"] = conditions[at]["lastTransitionTime"].clone();
            }
            conditions[at] = condition;
        }
        None => conditions.push(condition),
    }
    object["status"]["conditions"] = Value::Array(conditions);
}

/// What kubelets do with the pods on their nodes, and the collector with pods that no kubelet has.
pub(super) fn run(
    session: &mut Session<'_, '_>,
    scene: &Scene<'_>,
    view: &View,
    pass: &mut Pass,
) -> Result<bool, ApiError> {
    let mut addresses: BTreeSet<String> =
        view.pods.iter().flat_map(|pod| &pod.status.pod_ips).map(|address| address.ip.clone()).collect();
    let mut wrote = static_pods(session, scene, view)?;
    for pod in view.pods.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
        let node = view.nodes.iter().find(|node| node.metadata.name == pod.spec.node_name);
        wrote |= match (node, node.and_then(|node| scene.kubelet(&node.metadata.name))) {
            (Some(node), Some(kubelet)) => {
                with_kubelet(session, scene, view, pod, node, kubelet, &mut addresses, pass)?
            }
            _ if !scene.is_led() => false,
            (Some(node), None) => without_kubelet(session, scene, pod, node, pass)?,
            (None, _) => {
                session.delete(&core("pods"), &pod.metadata.namespace, &pod.metadata.name, Some(0))?;
                true
            }
        };
    }
    Ok(wrote)
}

#[expect(clippy::too_many_arguments, reason = "one step of a loop, with all of the loop's state")]
fn with_kubelet(
    session: &mut Session<'_, '_>,
    scene: &Scene<'_>,
    view: &View,
    pod: &Pod,
    node: &Node,
    kubelet: &Kubelet,
    addresses: &mut BTreeSet<String>,
    pass: &mut Pass,
) -> Result<bool, ApiError> {
    if let Some(deletion) = pod.metadata.deletion_timestamp {
        let grace = Duration::from_secs(u64::try_from(pod.metadata.deletion_grace_period_seconds).unwrap_or_default());
        let asked = At(At::of(deletion).0 - i64::try_from(grace.as_micros()).unwrap_or_default());
        let gone = asked.plus(scene.latency.pod_stop.min(grace));
        if scene.now < gone {
            pass.again_at(gone);
            return Ok(false);
        }
        session.delete(&core("pods"), &pod.metadata.namespace, &pod.metadata.name, Some(0))?;
        return Ok(true);
    }
    if pod.is_over() || pod.metadata.annotations.contains_key(MIRROR) {
        return Ok(false);
    }
    let network = pod.spec.host_network || view.has_network(kubelet);
    let started = pod.started().map(At::of);
    // Pods that ran before their kubelet started ended with its container. Starts are known by the second.
    let survived =
        started.is_some_and(|started| started.0.div_euclid(1_000_000) >= kubelet.since.0.div_euclid(1_000_000));
    if survived && pod.is_ready() {
        return Ok(false);
    }
    let began = match (survived, started) {
        (true, _) => None,
        (false, Some(_)) => Some(kubelet.since),
        (false, None) => pod.condition("PodScheduled").and_then(|condition| condition.since).map(At::of),
    };
    let ready = began.unwrap_or(kubelet.since).plus(scene.latency.pod_start);
    if !network || (!survived && scene.now < ready) {
        if network {
            pass.again_at(ready);
        }
        return creating(session, scene, pod, kubelet);
    }
    let own = match pod.spec.host_network {
        true => kubelet.addresses.clone(),
        false if !pod.status.pod_ips.is_empty() => {
            pod.status.pod_ips.iter().map(|address| address.ip.clone()).collect()
        }
        false => free_addresses(node, kubelet, addresses),
    };
    if own.is_empty() {
        // Its node has no range yet.
        return creating(session, scene, pod, kubelet);
    }
    addresses.extend(own.iter().cloned());
    let restarts = pod.status.container_statuses.first().map_or(0, |status| status.restart_count);
    let restarts = if !survived && started.is_some() { restarts + 1 } else { restarts };
    let since = started.filter(|_| survived).unwrap_or(scene.now);
    change(session, pod, |object| running(object, scene.now, kubelet, &own, since, restarts, &pod.spec))
}

/// The lowest address of each of a node's ranges that no pod has; that of the node's primary family comes first, as the
/// kubelet sorts them. No address where a node has no range.
fn free_addresses(node: &Node, kubelet: &Kubelet, taken: &BTreeSet<String>) -> Vec<String> {
    let free = |range: &String| {
        let range: AnyCidr = range.parse().ok()?;
        // The first one is the node's own end. A node runs at most 110 pods (kubelet's maxPods).
        let mut addresses = (2..255).map_while(|nth| range.address(nth)).map(|address| address.to_string());
        addresses.find(|address| !taken.contains(address))
    };
    // Where its pod network was told a range of its own, that one counts.
    let told = kubelet.pod_range.as_ref().map(std::slice::from_ref);
    let mut found: Vec<String> = told.unwrap_or(&node.spec.pod_cidrs).iter().filter_map(free).collect();
    let is_v6 = |address: &str| address.contains(':');
    found.sort_by_key(|address| is_v6(address) != is_v6(kubelet.address()));
    found
}

fn creating(session: &mut Session<'_, '_>, scene: &Scene<'_>, pod: &Pod, kubelet: &Kubelet) -> Result<bool, ApiError> {
    change(session, pod, |object| {
        let statuses: Vec<Value> = pod
            .spec
            .containers
            .iter()
            .map(|container| {
                let restarts = pod.status.container_statuses.first().map_or(0, |status| status.restart_count);
                // A container that ran keeps the time at which it did: that it ended is what its restart is known by.
                let state = match pod.started() {
                    Some(_) => pod.status.container_statuses.first().map(|status| status.state.clone()).unwrap_or_default(),
                    None => json!({"waiting": {"reason": "ContainerCreating"}}),
                };
                json!({"name": container.name, "image": container.image, "imageID": "", "ready": false, "started": false,
                       "restartCount": restarts, "state": state})
            })
            .collect();
        let status = &mut object["status"];
        status["hostIP"] = json!(kubelet.address());
        status["containerStatuses"] = Value::Array(statuses);
        if status["startTime"].is_null() {
            status["startTime"] = json!(scene.now.rfc3339());
        }
        set_condition(object, scene.now, "Initialized", "True", None);
        let why = Some(("ContainersNotReady", "containers with unready status"));
        for kind in ["Ready", "ContainersReady"] {
            set_condition(object, scene.now, kind, "False", why);
        }
    })
}

fn running(
    object: &mut Value,
    now: At,
    kubelet: &Kubelet,
    addresses: &[String],
    since: At,
    restarts: i64,
    spec: &PodSpec,
) {
    let statuses: Vec<Value> = spec
        .containers
        .iter()
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": container.image, "ready": true,
                   "started": true, "restartCount": restarts, "state": {"running": {"startedAt": since.rfc3339()}}})
        })
        .collect();
    let status = &mut object["status"];
    status["phase"] = json!("Running");
    status["hostIP"] = json!(kubelet.address());
    status["podIP"] = json!(addresses.first());
    status["podIPs"] = addresses.iter().map(|address| json!({"ip": address})).collect();
    status["containerStatuses"] = Value::Array(statuses);
    if status["startTime"].is_null() {
        status["startTime"] = json!(now.rfc3339());
    }
    for kind in ["PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready"] {
        set_condition(object, now, kind, "True", None);
    }
}

/// What controllers do with a pod whose kubelet is away: it is not ready, and it goes when its tolerations end.
fn without_kubelet(
    session: &mut Session<'_, '_>,
    scene: &Scene<'_>,
    pod: &Pod,
    node: &Node,
    pass: &mut Pass,
) -> Result<bool, ApiError> {
    let Some(lost) = node.ready().filter(|ready| ready.status == "Unknown") else { return Ok(false) };
    let mut wrote = false;
    if pod.is_ready() {
        wrote = change(session, pod, |object| set_condition(object, scene.now, "Ready", "False", None))?;
    }
    let Some(since) = lost.since.map(At::of).filter(|_| !pod.is_deleting() && !pod.is_over()) else { return Ok(wrote) };
    let Some(patience) = patience(pod, node) else { return Ok(wrote) };
    let evicted = since.plus(patience);
    if scene.now < evicted {
        pass.again_at(evicted);
        return Ok(wrote);
    }
    session.delete(&core("pods"), &pod.metadata.namespace, &pod.metadata.name, None)?;
    Ok(true)
}

/// How long a pod tolerates the `NoExecute` taints of its node; `None` for ever.
fn patience(pod: &Pod, node: &Node) -> Option<Duration> {
    let taints = node.spec.taints.iter().filter(|taint| taint.effect == "NoExecute");
    let each = taints.filter_map(|taint| {
        let mut tolerating = pod.spec.tolerations.iter().filter(|toleration| toleration.tolerates(taint)).peekable();
        if tolerating.peek().is_none() {
            return Some(Duration::ZERO);
        }
        let seconds = tolerating.map(|toleration| toleration.toleration_seconds).collect::<Option<Vec<i64>>>()?;
        seconds.into_iter().min().map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    });
    each.min()
}

const MIRROR: &str = "kubernetes.io/config.mirror";

/// The pods by which a kubelet shows its static pods.
fn static_pods(session: &mut Session<'_, '_>, scene: &Scene<'_>, view: &View) -> Result<bool, ApiError> {
    let mut wrote = false;
    let running_here = scene.infra.kubelets.iter().filter(|kubelet| kubelet.connected && kubelet.static_pods);
    for kubelet in running_here.filter(|kubelet| kubelet.control_plane) {
        let Some(node) = view.nodes.iter().find(|node| node.metadata.name == kubelet.node) else { continue };
        for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            let name = format!("{component}-{}", kubelet.node);
            if view.pods.iter().any(|pod| pod.metadata.namespace == "kube-system" && pod.metadata.name == name) {
                continue;
            }
            session.put(&core("pods"), mirror(scene.now, kubelet, node, component, &name))?;
            wrote = true;
        }
    }
    Ok(wrote)
}

fn mirror(now: At, kubelet: &Kubelet, node: &Node, component: &str, name: &str) -> Value {
    let tag = if component == "etcd" { "3.6.6-0" } else { kubelet.version.as_str() };
    let image = format!("registry.k8s.io/{component}:{tag}");
    let mut owner = controller_reference("v1", "Node", &node.metadata.name, &node.metadata.uid);
    owner[0]["blockOwnerDeletion"] = json!(false);
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "kube-system", "ownerReferences": owner,
                     "labels": {"component": component, "tier": "control-plane"},
                     "annotations": {MIRROR: name, "kubernetes.io/config.source": "file"}},
        "spec": {"nodeName": kubelet.node, "hostNetwork": true, "priorityClassName": "system-node-critical",
                 "restartPolicy": "Always", "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
                 "terminationGracePeriodSeconds": 30, "containers": [{"name": component, "image": image}]},
        "status": {"qosClass": "BestEffort"},
    });
    let spec: PodSpec = serde_json::from_value(pod["spec"].clone()).unwrap_or_default();
    running(&mut pod, now, kubelet, &kubelet.addresses, now, 0, &spec);
    pod
}
