//! Nodes: registered by kubelets, and judged by the node lifecycle controller.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::time::At;
use super::engine::{Pass, Scene, View};
use super::families;
use super::kubelets::{GRACE, Kubelet, micro_time};
use super::model::{Node, core, resource};
use crate::api::cidr::{AnyCidr, Cidr, Cidr6};
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;

/// Whether a Node object says that it is ready.
pub(super) fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// `key=value:Effect` as an object.
pub(super) fn taint(text: &str) -> Option<Value> {
    let (key, effect) = text.rsplit_once(':')?;
    Some(match key.split_once('=') {
        Some((key, value)) if !value.is_empty() => json!({"key": key, "value": value, "effect": effect}),
        Some((key, _)) => json!({"key": key, "effect": effect}),
        None => json!({"key": key, "effect": effect}),
    })
}

/// What a node's condition `Ready` should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    /// The kubelet is well, its network is not.
    NoNetwork,
    /// Nothing was heard for too long.
    Lost,
}

pub(super) fn sync(
    session: &mut Session<'_, '_>,
    scene: &Scene<'_>,
    view: &View,
    pass: &mut Pass,
) -> Result<bool, ApiError> {
    let mut wrote = false;
    for kubelet in scene.infra.kubelets.iter().filter(|kubelet| kubelet.connected) {
        let node = view.nodes.iter().find(|node| node.metadata.name == kubelet.node);
        match node {
            None if kubelet.registered => continue,
            None => {
                register(session, scene, kubelet)?;
                wrote = true;
            }
            Some(_) => {
                let verdict = if view.has_network(kubelet) { Verdict::Ready } else { Verdict::NoNetwork };
                wrote |= judge(session, scene, pass, &kubelet.node, Some(kubelet), verdict)?;
            }
        }
        if !kubelet.registered {
            pass.registered.push(kubelet.container.clone());
        }
    }
    if !scene.is_led() {
        return Ok(wrote);
    }
    for node in &view.nodes {
        wrote |= look_after(session, scene, node, pass)?;
    }
    wrote |= hand_out_ranges(session, view)?;
    Ok(wrote)
}

/// Judges a node that is not heard of.
fn look_after(
    session: &mut Session<'_, '_>,
    scene: &Scene<'_>,
    node: &Node,
    pass: &mut Pass,
) -> Result<bool, ApiError> {
    let name = &node.metadata.name;
    if scene.kubelet(name).is_some() {
        return Ok(false);
    }
    let Some((since, beat)) = scene.pulse.silent_since(session.tenant(), name, scene.now) else { return Ok(false) };
    let lost = since.plus(GRACE);
    if scene.now < lost {
        pass.again_at(lost);
        return Ok(false);
    }
    let already = node.ready().is_some_and(|ready| ready.status == "Unknown");
    if let (false, Some(beat)) = (already, beat) {
        lease(session, name, beat)?;
    }
    judge(session, scene, pass, name, None, Verdict::Lost)
}

fn lease(session: &mut Session<'_, '_>, node: &str, renewed: At) -> Result<(), ApiError> {
    let leases = resource("coordination.k8s.io", "leases");
    let mut lease = session
        .get(&leases, "kube-node-lease", node)?
        .unwrap_or_else(|| json!({"metadata": {"name": node, "namespace": "kube-node-lease"}}));
    lease["spec"] = json!({"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": micro_time(renewed)});
    session.put(&leases, lease).map(drop)
}

fn register(session: &mut Session<'_, '_>, scene: &Scene<'_>, kubelet: &Kubelet) -> Result<(), ApiError> {
    let name = &kubelet.node;
    let mut labels: Map<String, Value> = [
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
    ]
    .map(|(key, value)| (key.to_owned(), json!(value)))
    .into_iter()
    .collect();
    labels.extend(kubelet.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    let mut spec = json!({});
    if !kubelet.provider_id.is_empty() {
        spec["providerID"] = json!(kubelet.provider_id);
    }
    let taints: Vec<Value> = kubelet.taints.iter().filter_map(|text| taint(text)).collect();
    if !taints.is_empty() {
        spec["taints"] = Value::Array(taints);
    }
    let annotations = json!({"node.alpha.kubernetes.io/ttl": "0",
                             "volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    let mut node = json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}, "spec": spec});
    apply(&mut node, scene, Some(kubelet), Verdict::NoNetwork);
    let (uid, _) = session.put(&core("nodes"), node)?;
    lease(session, name, scene.now)?;
    // The Lease goes with its node.
    let leases = resource("coordination.k8s.io", "leases");
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
    session.change(&leases, "kube-node-lease", name, |lease| lease["metadata"]["ownerReferences"] = owner).map(drop)
}

/// Gives nodes that have none a range of each pod subnet, the lowest that no node has: a /24, of IPv6 a /64; none where the
/// controller that does it is off. The controller manager knows the subnets by its flags; here they are known once kubeadm
/// has stored them.
fn hand_out_ranges(session: &mut Session<'_, '_>, view: &View) -> Result<bool, ApiError> {
    let mut without = view.nodes.iter().filter(|node| node.spec.pod_cidrs.is_empty()).peekable();
    if without.peek().is_none() {
        return Ok(false);
    }
    let Some(config) = session.get(&core("configmaps"), "kube-system", "kubeadm-config")? else { return Ok(false) };
    if families::gives_no_ranges(&config) {
        return Ok(false);
    }
    let subnets = families::pod_subnets(Some(&config));
    let mut taken: BTreeSet<String> = view.nodes.iter().flat_map(|node| node.spec.pod_cidrs.clone()).collect();
    let mut wrote = false;
    for node in without {
        let free =
            |subnet: &AnyCidr| (0..256).map_while(|nth| range(*subnet, nth)).find(|range| !taken.contains(range));
        // Where a subnet has run out, whoever comes later has no range, as on other clusters.
        let Some(ranges) = subnets.iter().map(free).collect::<Option<Vec<String>>>() else { break };
        taken.extend(ranges.iter().cloned());
        wrote |= session.change(&core("nodes"), "", &node.metadata.name, |object| {
            object["spec"]["podCIDR"] = json!(ranges.first());
            object["spec"]["podCIDRs"] = json!(ranges);
        })?;
    }
    Ok(wrote)
}

/// The nth range for a node.
fn range(subnet: AnyCidr, nth: u32) -> Option<String> {
    Some(match subnet {
        AnyCidr::V4(subnet) => Cidr::containing(subnet.address(nth << 8)?, 24).to_string(),
        AnyCidr::V6(subnet) => Cidr6::containing(subnet.address(u128::from(nth) << 64)?, 64).to_string(),
    })
}

fn judge(
    session: &mut Session<'_, '_>,
    scene: &Scene<'_>,
    pass: &mut Pass,
    name: &str,
    kubelet: Option<&Kubelet>,
    verdict: Verdict,
) -> Result<bool, ApiError> {
    // Nothing else of what a judgement says changes amid a look.
    if pass.judged.insert(name.to_owned(), verdict) == Some(verdict) {
        return Ok(false);
    }
    session.change(&core("nodes"), "", name, |node| apply(node, scene, kubelet, verdict))
}

/// Writes what the kubelet says and what is judged into a Node.
fn apply(node: &mut Value, scene: &Scene<'_>, kubelet: Option<&Kubelet>, verdict: Verdict) {
    let old = node.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let condition = |kind: &str, healthy: (&str, &str, &str)| {
        let (status, reason, message) = match verdict {
            Verdict::Lost => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
            _ => healthy,
        };
        let before = old.iter().find(|condition| condition["type"] == kind);
        let same = before.filter(|condition| condition["status"] == status);
        let since =
            same.map_or_else(|| json!(scene.now.rfc3339()), |condition| condition["lastTransitionTime"].clone());
        // What readers see of the heartbeat is computed; here is when it last meant a change.
        let heard = match before.filter(|_| verdict == Verdict::Lost || same.is_some()) {
            Some(before) => before["lastHeartbeatTime"].clone(),
            None => json!(scene.now.rfc3339()),
        };
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": heard,
               "lastTransitionTime": since})
    };
    let ready = match verdict {
        Verdict::Ready => ("True", "KubeletReady", "kubelet is posting ready status"),
        _ => (
            "False",
            "KubeletNotReady",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin \
             returns error: cni plugin not initialized",
        ),
    };
    let conditions = json!([
        condition("MemoryPressure", ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available")),
        condition("DiskPressure", ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")),
        condition("PIDPressure", ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available")),
        condition("Ready", ready),
    ]);
    if let Some(kubelet) = kubelet {
        node["status"] = status(kubelet);
    }
    node["status"]["conditions"] = conditions;
    set_lifecycle_taints(node, scene, verdict);
}

fn status(kubelet: &Kubelet) -> Value {
    let internal = kubelet.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address}));
    let addresses: Vec<Value> = internal.chain([json!({"type": "Hostname", "address": kubelet.node})]).collect();
    let capacity = json!({
        "cpu": kubelet.cpu_millis.div_ceil(1000).to_string(), "memory": format!("{}Ki", kubelet.memory_bytes / 1024),
        "pods": "110", "ephemeral-storage": "100Gi",
    });
    json!({
        "addresses": addresses,
        "capacity": capacity, "allocatable": capacity, "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": "Kina simulated node",
            "kernelVersion": "6.12.0-sim", "containerRuntimeVersion": "containerd://2.3.4",
            "kubeletVersion": kubelet.version, "kubeProxyVersion": "", "machineID": &kubelet.container[..32],
            "systemUUID": &kubelet.container[..32], "bootID": &kubelet.container[32..],
        },
    })
}

/// `GOARCH` of this host.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The taints by which the node lifecycle controller keeps pods from nodes that are not well.
fn set_lifecycle_taints(node: &mut Value, scene: &Scene<'_>, verdict: Verdict) {
    let (not_ready, unreachable) = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable");
    let wanted = match verdict {
        Verdict::Ready => None,
        Verdict::NoNetwork => Some(not_ready),
        Verdict::Lost => Some(unreachable),
    };
    let old = node.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let ours = |taint: &Value| taint["key"] == not_ready || taint["key"] == unreachable;
    let mut taints: Vec<Value> = old.iter().filter(|taint| !ours(taint)).cloned().collect();
    if let Some(key) = wanted {
        for effect in ["NoSchedule", "NoExecute"] {
            let before = old.iter().find(|taint| taint["key"] == key && taint["effect"] == effect).cloned();
            let fresh = || json!({"key": key, "effect": effect, "timeAdded": scene.now.rfc3339()});
            taints.push(before.unwrap_or_else(fresh));
        }
    }
    if taints.is_empty() {
        if let Some(spec) = node.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("taints");
        }
    } else {
        node["spec"]["taints"] = Value::Array(taints);
    }
}
