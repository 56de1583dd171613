//! What `kubectl get` prints of the built-in kinds (`pkg/printers/internalversion/printers.go`).

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apiserver::kind::{Printer, PrinterColumn};
use crate::apiserver::table::age;

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

/// Columns by heading; those after `|` are for wide output only.
fn printer(headings: &str, row: fn(&Value, Timestamp) -> Vec<Value>) -> Printer {
    let (narrow, wide) = headings.split_once('|').unwrap_or((headings, ""));
    let column = |(heading, priority): (&str, i32)| PrinterColumn {
        name: heading.trim().into(),
        type_: "string".into(),
        format: if heading.trim() == "Name" { "name".into() } else { String::new() },
        description: String::new(),
        priority,
        json_path: String::new(),
    };
    let narrow = narrow.split(',').map(|heading| (heading, 0));
    let wide = wide.split(',').filter(|heading| !heading.trim().is_empty()).map(|heading| (heading, 1));
    Printer { columns: narrow.chain(wide).map(column).collect(), row }
}

pub(super) fn namespace() -> Printer {
    printer("Name, Status, Age", |object, now| {
        vec![name(object), text(object, "/status/phase", ""), created(object, now)]
    })
}

/// Reviews have no names: kubectl never prints them.
pub(super) fn review() -> Printer {
    printer("Name", |object, _| vec![name(object)])
}

pub(super) fn lease() -> Printer {
    printer("Name, Holder, Age", |object, now| {
        vec![name(object), text(object, "/spec/holderIdentity", ""), created(object, now)]
    })
}

pub(super) fn config_map() -> Printer {
    printer("Name, Data, Age", |object, now| {
        vec![name(object), json!(size(&object["data"]) + size(&object["binaryData"])), created(object, now)]
    })
}

pub(super) fn secret() -> Printer {
    printer("Name, Type, Data, Age", |object, now| {
        vec![name(object), text(object, "/type", ""), json!(size(&object["data"])), created(object, now)]
    })
}

pub(super) fn service_account() -> Printer {
    printer("Name, Secrets, Age", |object, now| {
        vec![name(object), json!(size(&object["secrets"])), created(object, now)]
    })
}

pub(super) fn event() -> Printer {
    printer("Last Seen, Type, Reason, Object, Message | Subobject, Source, First Seen, Count, Name", event_row)
}

fn event_row(event: &Value, now: Timestamp) -> Vec<Value> {
    let mut event = event.clone();
    super::event_to_core(&mut event);
    let text = |pointer| text(&event, pointer, "");
    let time = |pointers: &[&str]| -> Value {
        let found = pointers.iter().find_map(|pointer| event.pointer(pointer)?.as_str()?.parse::<Timestamp>().ok());
        found.map_or(UNKNOWN.into(), |time| age(time, now).into())
    };
    let object = &event["involvedObject"];
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let component =
        event.pointer("/source/component").or_else(|| event.get("reportingComponent")).and_then(Value::as_str);
    let host = event.pointer("/source/host").or_else(|| event.get("reportingInstance")).and_then(Value::as_str);
    let source = [component, host].into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let count = event.pointer("/series/count").or_else(|| event.get("count")).and_then(Value::as_i64).unwrap_or(1);
    let message = event["message"].as_str().unwrap_or_default().trim();
    vec![
        time(&["/series/lastObservedTime", "/lastTimestamp", "/firstTimestamp", "/eventTime"]),
        text("/type"),
        text("/reason"),
        format!("{kind}/{}", object["name"].as_str().unwrap_or_default()).into(),
        message.into(),
        text("/involvedObject/fieldPath"),
        source.into(),
        time(&["/firstTimestamp", "/eventTime"]),
        count.into(),
        name(&event),
    ]
}

pub(super) fn node() -> Printer {
    printer(
        "Name, Status, Roles, Age, Version | Internal-IP, External-IP, OS-Image, Kernel-Version, Container-Runtime",
        node_row,
    )
}

fn node_row(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = condition(node, "Ready");
    let mut status = match ready {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or_default() {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()),
            _ => None,
        })
        .collect();
    let roles = if roles.is_empty() { NONE.to_owned() } else { roles.join(",") };
    let address = |kind: &str| -> Value {
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
        let found = addresses.into_iter().flatten().find(|address| address["type"] == kind);
        found.map_or(NONE.into(), |address| address["address"].clone())
    };
    vec![
        name(node),
        status.into(),
        roles.into(),
        created(node, now),
        text(node, "/status/nodeInfo/kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        text(node, "/status/nodeInfo/osImage", UNKNOWN),
        text(node, "/status/nodeInfo/kernelVersion", UNKNOWN),
        text(node, "/status/nodeInfo/containerRuntimeVersion", UNKNOWN),
    ]
}

pub(super) fn pod() -> Printer {
    printer("Name, Ready, Status, Restarts, Age | IP, Node, Nominated Node, Readiness Gates", pod_row)
}

fn pod_row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let containers = size(&pod["spec"]["containers"]);
    let statuses =
        pod.pointer("/status/containerStatuses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let restarts: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let mut waiting = statuses.iter().rev().filter_map(|status| {
        let state = &status["state"];
        let reason = state["waiting"]["reason"].as_str().or_else(|| state["terminated"]["reason"].as_str());
        reason.filter(|reason| !reason.is_empty())
    });
    let phase = || pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Unknown");
    let status = if pod.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null()) {
        "Terminating"
    } else {
        let reason = pod.pointer("/status/reason").and_then(Value::as_str).filter(|reason| !reason.is_empty());
        waiting.next().or(reason).unwrap_or_else(phase)
    };
    let gates = pod.pointer("/spec/readinessGates").map_or(0, size);
    let met = pod.pointer("/spec/readinessGates").and_then(Value::as_array).into_iter().flatten();
    let met =
        met.filter(|gate| condition(pod, gate["conditionType"].as_str().unwrap_or_default()) == Some("True")).count();
    vec![
        name(pod),
        format!("{ready}/{containers}").into(),
        status.into(),
        restarts.to_string().into(),
        created(pod, now),
        text(pod, "/status/podIP", NONE),
        text(pod, "/spec/nodeName", NONE),
        text(pod, "/status/nominatedNodeName", NONE),
        if gates == 0 { NONE.into() } else { format!("{met}/{gates}").into() },
    ]
}

pub(super) fn deployment() -> Printer {
    printer("Name, Ready, Up-to-date, Available, Age | Containers, Images, Selector", |object, now| {
        let ready = format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas"));
        let mut row = vec![
            name(object),
            ready.into(),
            number(object, "/status/updatedReplicas").into(),
            number(object, "/status/availableReplicas").into(),
            created(object, now),
        ];
        row.extend(template(object));
        row
    })
}

pub(super) fn replica_set() -> Printer {
    printer("Name, Desired, Current, Ready, Age | Containers, Images, Selector", |object, now| {
        let mut row = vec![
            name(object),
            number(object, "/spec/replicas").into(),
            number(object, "/status/replicas").into(),
            number(object, "/status/readyReplicas").into(),
            created(object, now),
        ];
        row.extend(template(object));
        row
    })
}

pub(super) fn daemon_set() -> Printer {
    let headings =
        "Name, Desired, Current, Ready, Up-to-date, Available, Node Selector, Age | Containers, Images, Selector";
    printer(headings, |object, now| {
        let mut row = vec![
            name(object),
            number(object, "/status/desiredNumberScheduled").into(),
            number(object, "/status/currentNumberScheduled").into(),
            number(object, "/status/numberReady").into(),
            number(object, "/status/updatedNumberScheduled").into(),
            number(object, "/status/numberAvailable").into(),
            pairs(&object["spec"]["template"]["spec"]["nodeSelector"]).into(),
            created(object, now),
        ];
        row.extend(template(object));
        row
    })
}

pub(super) fn pod_disruption_budget() -> Printer {
    printer("Name, Min Available, Max Unavailable, Allowed Disruptions, Age", |object, now| {
        let bound = |name: &str| match &object["spec"][name] {
            Value::Null => json!("N/A"),
            Value::String(share) => json!(share),
            number => json!(number.to_string()),
        };
        vec![
            name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            number(object, "/status/disruptionsAllowed").into(),
            created(object, now),
        ]
    })
}

pub(super) fn network_policy() -> Printer {
    printer("Name, Pod-Selector, Age", |object, now| {
        let labels = pairs(&object["spec"]["podSelector"]["matchLabels"]);
        vec![name(object), labels.into(), created(object, now)]
    })
}

pub(super) fn service() -> Printer {
    printer("Name, Type, Cluster-IP, External-IP, Port(s), Age | Selector", |object, now| {
        let ports = object.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten().map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            match port["nodePort"].as_i64().filter(|port| *port > 0) {
                Some(node) => format!("{}:{node}/{protocol}", port["port"]),
                None => format!("{}/{protocol}", port["port"]),
            }
        });
        let ports = ports.collect::<Vec<_>>().join(",");
        vec![
            name(object),
            text(object, "/spec/type", ""),
            text(object, "/spec/clusterIP", NONE),
            external_ip(object).into(),
            if ports.is_empty() { NONE.into() } else { ports.into() },
            created(object, now),
            pairs(&object["spec"]["selector"]).into(),
        ]
    })
}

fn external_ip(service: &Value) -> String {
    let listed = |pointer: &str, of: fn(&Value) -> Option<&str>| -> Vec<String> {
        let items = service.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(of).map(str::to_owned).collect()
    };
    let mut external = listed("/spec/externalIPs", Value::as_str);
    let kind = service.pointer("/spec/type").and_then(Value::as_str).unwrap_or_default();
    if kind == "ExternalName" {
        return service["spec"]["externalName"].as_str().unwrap_or(NONE).to_owned();
    }
    if kind == "LoadBalancer" {
        external.extend(listed("/status/loadBalancer/ingress", |ingress| {
            ingress["ip"].as_str().or_else(|| ingress["hostname"].as_str())
        }));
        if external.is_empty() {
            return "<pending>".into();
        }
    }
    if external.is_empty() { NONE.into() } else { external.join(",") }
}

/// Containers, images and selector of what has a pod template.
fn template(object: &Value) -> [Value; 3] {
    let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let listed = |field: &str| -> Value {
        let names = containers.into_iter().flatten().filter_map(|container| container[field].as_str());
        names.collect::<Vec<_>>().join(",").into()
    };
    [listed("name"), listed("image"), pairs(&object["spec"]["selector"]["matchLabels"]).into()]
}

fn name(object: &Value) -> Value {
    text(object, "/metadata/name", "")
}

fn created(object: &Value, now: Timestamp) -> Value {
    let time = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    time.and_then(|time| time.parse().ok()).map_or(UNKNOWN.into(), |time| age(time, now).into())
}

fn text(object: &Value, pointer: &str, missing: &str) -> Value {
    let found = object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.unwrap_or(missing).into()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn size(value: &Value) -> usize {
    value.as_object().map_or_else(|| value.as_array().map_or(0, Vec::len), serde_json::Map::len)
}

fn pairs(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { NONE.into() } else { pairs.join(",") }
}

fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o str> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind)?["status"].as_str()
}
