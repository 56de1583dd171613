//! Objects for screens.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::View;

pub(super) const NOW: &str = "2026-01-01T01:00:00Z";

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// `seconds` before [`NOW`].
pub(super) fn ago(seconds: i64) -> String {
    Timestamp::from_second(now().as_second() - seconds).unwrap().to_string()
}

pub(super) fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(8)})
}

pub(super) fn cluster(name: &str, runtime: &str, status: Value) -> Value {
    json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name, "creationTimestamp": ago(125), "resourceVersion": "7", "generation": 1, "uid": format!("uid-{name}")},
        "spec": {"runtime": runtime, "kubernetesVersion": "v1.35.5", "workers": [{"name": "default", "replicas": 2}]},
        "status": status})
}

pub(super) fn machine(cluster: &str, pool: &str, ordinal: u32, status: Value) -> Value {
    let role = if pool == "control-plane" { "control-plane" } else { "worker" };
    json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
        "metadata": {"name": format!("{cluster}-{pool}-{ordinal}"), "creationTimestamp": ago(120), "resourceVersion": "8"},
        "spec": {"cluster": cluster, "role": role, "pool": pool, "ordinal": ordinal, "runtime": "sim",
            "image": "docker.io/kindest/node:v1.35.5", "kubernetesVersion": "v1.35.5", "address": format!("10.160.0.{}", 2 + ordinal),
            "bootstrap": {"method": if ordinal == 0 && role == "control-plane" { "Init" } else { "Join" }}},
        "status": status})
}

pub(super) fn running() -> Value {
    json!({"phase": "Running", "conditions": [condition("Ready", "True", "NodeReady", "")]})
}

pub(super) fn event(name: &str, seconds: i64, type_: &str, object: (&str, &str), reason: &str, message: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "involvedObject": {"kind": object.0, "name": object.1},
        "type": type_, "reason": reason, "message": message, "lastTimestamp": ago(seconds), "count": 1})
}

/// One cluster on its way, one in trouble, one simulated and fine; a source with a bad file and a held deletion.
pub(super) fn busy_house() -> View {
    let read = |value: Value| serde_json::from_value(value).unwrap();
    let new = json!({"phase": "Provisioning", "machines": {"desired": 3, "ready": 1, "summary": "1/3"},
        "waiting": {"reason": "MachinesJoining", "message": "2 of 2 workers are joining", "since": ago(12)},
        "conditions": [condition("Ready", "False", "MachinesJoining", "2 of 2 workers are joining"),
            condition("WorkersReady", "False", "Joining", "")]});
    let sick = json!({"phase": "Degraded", "version": "v1.35.5", "machines": {"desired": 3, "ready": 2, "summary": "2/3"},
        "conditions": [condition("Ready", "False", "MachineFailed", "machine prod-default-1 cannot be started"),
            condition("Stalled", "True", "ForeignContainer", "a container named prod-default-1 belongs to somebody else")],
        "drift": [{"layer": "network", "object": "kina-prod", "field": "subnet", "severity": "Warning", "desired": "10.160.1.0/24",
            "observed": "10.160.9.0/24", "since": ago(60), "action": "reported"}]});
    let fine = json!({"phase": "Running", "version": "v1.35.5", "endpoint": "https://127.0.0.1:40001",
        "machines": {"desired": 13, "ready": 12, "summary": "12/13"},
        "conditions": [condition("Ready", "True", "AllReady", ""), condition("Drifted", "False", "NoDrift", "")]});
    let clusters = vec![cluster("new", "docker", new), cluster("prod", "apple", sick), cluster("toy", "sim", fine)];
    let failed = json!({"phase": "Failed", "failure": {"class": "Foreign", "reason": "NameTaken", "attempts": 3, "since": ago(300),
        "message": "creating container prod-default-1: a container of that name exists and is not Kina's"},
        "drift": [{"layer": "container", "object": "prod-default-1", "field": "state", "severity": "Critical", "desired": "running",
            "observed": "gone", "since": ago(301), "action": ""}]});
    let joining = |message: &str| json!({"phase": "Bootstrapping", "waiting": {"reason": "Joining", "message": message, "since": ago(9)}});
    let mut machines = vec![
        machine("new", "control-plane", 0, running()),
        machine("new", "default", 0, joining("kubeadm join runs in the node")),
        machine("new", "default", 1, joining("kubeadm join runs in the node")),
        machine("prod", "control-plane", 0, running()),
        machine("prod", "default", 0, running()),
        machine("prod", "default", 1, failed),
        machine("toy", "control-plane", 0, running()),
    ];
    machines.extend((0..11).map(|ordinal| machine("toy", "default", ordinal, running())));
    machines.push(machine("toy", "default", 11, json!({"phase": "NotReady"})));
    let source = json!({"metadata": {"name": "clusters"}, "spec": {"path": "/home/me/.kina/clusters"},
        "status": {"clusters": 3, "errors": 1, "heldCount": 1,
            "conditions": [condition("Available", "True", "Scanned", "")],
            "files": [{"path": "team/broken.yaml", "clusters": ["prod"], "errors": [{"line": 7, "column": 12,
                "message": "`replicas` must be a number from 0 to 1000, found a text",
                "snippet": "error: `replicas` must be a number\n --> team/broken.yaml:7:12\n7 |   replicas: three\n  |             ^^^^^ expected a number"}]}],
            "held": [{"id": "h-3f2c", "action": "Delete", "clusters": ["old", "older"], "since": ago(200),
                "message": "2 clusters would be deleted; at most 1 may be deleted or made anew within an hour"}],
            "protected": [{"cluster": "dear", "since": ago(90)}],
            "ignored": [{"cluster": "let-go", "path": "let-go.yaml", "hash": "00", "reason": "Detached"}]}});
    let events = vec![
        event("a", 5, "Normal", ("Machine", "new-default-0"), "Bootstrapping", "kubeadm join has started"),
        event("b", 301, "Warning", ("Machine", "prod-default-1"), "ContainerGone", "container prod-default-1 is gone"),
        event(
            "c",
            400,
            "Warning",
            ("Source", "clusters"),
            "FileInvalid",
            "team/broken.yaml:7:12: `replicas` must be a number",
        ),
    ];
    View::of(
        clusters.into_iter().map(read_cluster).collect(),
        machines.into_iter().map(|value| serde_json::from_value(value).unwrap()).collect(),
        vec![read(source)],
        events.into_iter().map(|value| serde_json::from_value(value).unwrap()).collect(),
    )
}

pub(super) fn read_cluster(value: Value) -> crate::api::Cluster {
    serde_json::from_value(value).unwrap()
}
