//! kind's configuration, `kind.x-k8s.io/v1alpha4`, as a Cluster.
//!
//! What both have keeps its name. What Kina has no equivalent for is named in a warning, at its line; nothing is left out
//! in silence. Source: <https://kind.sigs.k8s.io/docs/user/configuration/>.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::faults::Found;
use super::schema;
use super::tree::Node;

/// The group of kind's configuration.
pub(super) const GROUP: &str = "kind.x-k8s.io";
/// The only version that kind still reads.
pub(super) const API_VERSION: &str = "kind.x-k8s.io/v1alpha4";
/// What kind calls a cluster without a name.
const DEFAULT_NAME: &str = "kind";
/// Fields that a node of kind and a pool of Kina have under one name.
const COMMON: [&str; 6] =
    ["image", "labels", "extraMounts", "extraPortMappings", "kubeadmConfigPatches", "kubeadmConfigPatchesJSON6902"];
/// Fields that both have at the top.
const TOP: [&str; 6] = [
    "featureGates",
    "runtimeConfig",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "containerdConfigPatches",
    "containerdConfigPatchesJSON6902",
];

/// A configuration of kind, converted.
#[derive(Debug)]
pub(super) struct Converted {
    pub name: String,
    /// `spec` of the Cluster.
    pub spec: Value,
    pub origin: Origin,
    pub warnings: Vec<Found>,
}

/// Where the fields of the Cluster are written in kind's configuration.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Index of the node that all control planes are like.
    control_plane: Option<usize>,
    /// For every pool the index of its first node.
    pools: Vec<usize>,
}

impl Origin {
    /// The path in kind's configuration of a path in the Cluster.
    pub(super) fn of(&self, path: &[String]) -> Vec<String> {
        let texts: Vec<&str> = path.iter().map(String::as_str).collect();
        let node = |index: Option<&usize>, rest: &[&str]| {
            let index = index.map(usize::to_string);
            std::iter::once("nodes".to_owned()).chain(index).chain(rest.iter().map(|&key| key.to_owned())).collect()
        };
        match texts.as_slice() {
            ["metadata", rest @ ..] => rest.iter().map(|&key| key.to_owned()).collect(),
            ["spec", "image", rest @ ..] => node(self.control_plane.as_ref(), &[&["image"][..], rest].concat()),
            ["spec", "controlPlane", "replicas"] => vec!["nodes".to_owned()],
            ["spec", "controlPlane", rest @ ..] => node(self.control_plane.as_ref(), rest),
            ["spec", "workers", index, "replicas" | "name", ..] => {
                node(index.parse::<usize>().ok().and_then(|index| self.pools.get(index)), &[])
            }
            ["spec", "workers", index, rest @ ..] => {
                node(index.parse::<usize>().ok().and_then(|index| self.pools.get(index)), rest)
            }
            ["spec", "networking", "apiServer", "port"] => vec!["networking".to_owned(), "apiServerPort".to_owned()],
            ["spec", "networking", "apiServer", "address"] => {
                vec!["networking".to_owned(), "apiServerAddress".to_owned()]
            }
            ["spec", "networking", "cni"] => vec!["networking".to_owned(), "disableDefaultCNI".to_owned()],
            ["spec", rest @ ..] => rest.iter().map(|&key| key.to_owned()).collect(),
            _ => path.to_vec(),
        }
    }
}

/// Converts a configuration; `None` where it is none, with what is wrong among the faults.
pub(super) fn convert(root: &Node, faults: &mut Vec<Found>) -> Option<Converted> {
    let count = faults.len();
    let config = schema::check(root, configuration(), "", faults)?;
    if faults.len() > count {
        return None;
    }
    let mut conversion = Conversion { root, warnings: Vec::new(), origin: Origin::default() };
    let mut spec = Map::new();
    let (plane, workers) = conversion.nodes(&config, &mut spec);
    spec.insert("controlPlane".to_owned(), Value::Object(plane));
    if !workers.is_empty() {
        spec.insert("workers".to_owned(), Value::Array(workers));
    }
    let networking = networking(&config["networking"]);
    if !networking.is_empty() {
        spec.insert("networking".to_owned(), Value::Object(networking));
    }
    copy(&config, &TOP, &mut spec);
    let name = config["name"].as_str().unwrap_or(DEFAULT_NAME).to_owned();
    Some(Converted { name, spec: Value::Object(spec), origin: conversion.origin, warnings: conversion.warnings })
}

struct Conversion<'r> {
    root: &'r Node,
    warnings: Vec<Found>,
    origin: Origin,
}

impl Conversion<'_> {
    /// The control plane and the pools of workers; an image that all nodes share goes to the cluster.
    fn nodes(&mut self, config: &Value, spec: &mut Map<String, Value>) -> (Map<String, Value>, Vec<Value>) {
        let nodes: Vec<(usize, &Value)> = config["nodes"].as_array().into_iter().flatten().enumerate().collect();
        let is_worker = |node: &Value| node["role"] == "worker";
        let planes: Vec<(usize, &Value)> = nodes.iter().copied().filter(|(_, node)| !is_worker(node)).collect();
        let shared = nodes.first().map(|(_, node)| &node["image"]).filter(|image| image.is_string());
        let shared = shared.filter(|image| nodes.iter().all(|(_, node)| node["image"] == **image));
        if let Some(image) = shared {
            spec.insert("image".to_owned(), image.clone());
        }
        let everywhere = if config["networking"]["ipFamily"] == "ipv6" { "::" } else { "0.0.0.0" };
        let settings = |node: &Value| settings(node, shared.is_some(), everywhere);
        let mut plane = planes.first().map(|(_, node)| settings(node)).unwrap_or_default();
        self.origin.control_plane = planes.first().map(|(index, _)| *index);
        self.unlike(&planes, settings);
        if planes.len() > 1 && plane.remove("extraPortMappings").is_some() {
            let message = "a port of the host cannot lead to one of several control planes: it is left out";
            self.warn(&["nodes", &planes[0].0.to_string(), "extraPortMappings"], message, "put it on a worker");
        }
        plane.insert("replicas".to_owned(), json!(planes.len().max(usize::from(nodes.is_empty()))));
        (plane, self.pools(nodes.iter().copied().filter(|(_, node)| is_worker(node)), settings))
    }

    /// Control planes are all alike in Kina.
    fn unlike(&mut self, planes: &[(usize, &Value)], settings: impl Fn(&Value) -> Map<String, Value>) {
        let Some((first, others)) = planes.split_first() else { return };
        let wanted = settings(first.1);
        for (index, node) in others {
            let found = settings(node);
            for field in COMMON.iter().filter(|field| found.get(**field) != wanted.get(**field)) {
                if *field == "extraPortMappings" && !found.contains_key(*field) {
                    continue;
                }
                let message = format!("control planes are all alike in Kina: `{field}` is that of the first one");
                let at = ["nodes", &index.to_string(), field];
                self.warn(&at, &message, "give all control planes the same settings");
            }
        }
    }

    /// Workers with the same settings are one pool; one with ports of its own is a pool of its own.
    fn pools<'n>(
        &mut self,
        workers: impl Iterator<Item = (usize, &'n Value)>,
        settings: impl Fn(&Value) -> Map<String, Value>,
    ) -> Vec<Value> {
        let mut pools: Vec<(Map<String, Value>, u32)> = Vec::new();
        for (index, node) in workers {
            let found = settings(node);
            let alike = pools.iter_mut().find(|(pool, _)| *pool == found && !found.contains_key("extraPortMappings"));
            match alike {
                Some((_, count)) => *count += 1,
                None => {
                    pools.push((found, 1));
                    self.origin.pools.push(index);
                }
            }
        }
        let named = |(index, (mut pool, count)): (usize, (Map<String, Value>, u32))| {
            // As kind numbers its nodes: worker, worker2.
            let name = if index == 0 { "worker".to_owned() } else { format!("worker-{}", index + 1) };
            pool.insert("name".to_owned(), json!(name));
            pool.insert("replicas".to_owned(), json!(count));
            Value::Object(pool)
        };
        pools.into_iter().enumerate().map(named).collect()
    }

    fn warn(&mut self, path: &[&str], message: &str, help: &str) {
        let path: Vec<String> = path.iter().map(|&key| key.to_owned()).collect();
        let span = schema::locate(self.root, &path);
        self.warnings.push(Found::at(span, message.to_owned()).labelled("no equivalent").helped(help));
    }
}

/// What a node asks for, as a pool of Kina has it.
fn settings(node: &Value, without_image: bool, everywhere: &str) -> Map<String, Value> {
    let mut found = Map::new();
    copy(node, &COMMON, &mut found);
    if without_image {
        found.remove("image");
    }
    if let Some(Value::Array(mappings)) = found.get_mut("extraPortMappings") {
        mappings.iter_mut().for_each(|mapping| complete(mapping, everywhere));
    }
    found
}

/// A port that kind or the engine chooses is one that Kina chooses; and kind listens on all addresses of the family.
fn complete(mapping: &mut Value, everywhere: &str) {
    let Some(fields) = mapping.as_object_mut() else { return };
    if fields.get("hostPort").and_then(Value::as_i64).is_none_or(|port| port <= 0) {
        fields.remove("hostPort");
    }
    if fields.get("listenAddress").and_then(Value::as_str).is_none_or(str::is_empty) {
        fields.insert("listenAddress".to_owned(), json!(everywhere));
    }
    let protocol = fields.get("protocol").and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("TCP");
    let protocol = protocol.to_ascii_uppercase();
    fields.insert("protocol".to_owned(), json!(protocol));
}

fn networking(kinds: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    copy(kinds, &["ipFamily", "podSubnet", "serviceSubnet", "kubeProxyMode", "dnsSearch"], &mut found);
    if kinds["disableDefaultCNI"] == true {
        found.insert("cni".to_owned(), json!("none"));
    }
    let mut endpoint = Map::new();
    if let Some(address) = kinds.get("apiServerAddress").filter(|address| *address != "") {
        endpoint.insert("address".to_owned(), address.clone());
    }
    if let Some(port) = kinds["apiServerPort"].as_i64().filter(|port| *port > 0) {
        endpoint.insert("port".to_owned(), json!(port));
    }
    if !endpoint.is_empty() {
        found.insert("apiServer".to_owned(), Value::Object(endpoint));
    }
    found
}

/// Fields that are set, and not to what means "not set".
fn copy(from: &Value, fields: &[&str], to: &mut Map<String, Value>) {
    for field in fields {
        let is_set = |value: &&Value| match value {
            Value::Array(items) => !items.is_empty() || *field == "dnsSearch",
            Value::Object(entries) => !entries.is_empty(),
            Value::String(text) => !text.is_empty(),
            value => !value.is_null(),
        };
        if let Some(value) = from.get(*field).filter(is_set) {
            to.insert((*field).to_owned(), value.clone());
        }
    }
}

/// kind's types, as a schema.
fn configuration() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let object = |properties: Value| json!({ "type": "object", "properties": properties });
        let list = |items: &Value| json!({ "type": "array", "items": items });
        let map = |values: &Value| json!({ "type": "object", "additionalProperties": values });
        let (text, switch) = (json!({ "type": "string" }), json!({ "type": "boolean" }));
        let port = json!({ "type": "integer", "minimum": -1, "maximum": 65535 });
        let one_of = |words: &[&str]| json!({ "type": "string", "enum": words });
        let mount = object(json!({
            "containerPath": text, "hostPath": text, "readOnly": switch, "selinuxRelabel": switch,
            "propagation": one_of(&["None", "HostToContainer", "Bidirectional"]),
        }));
        let mapping = object(json!({
            "containerPort": port, "hostPort": port, "listenAddress": text,
            "protocol": one_of(&["TCP", "UDP", "SCTP", "tcp", "udp", "sctp"]),
        }));
        let json_patch = object(json!({ "group": text, "version": text, "kind": text, "patch": text }));
        let node = object(json!({
            "role": one_of(&["control-plane", "worker"]), "image": text, "labels": map(&text),
            "extraMounts": list(&mount), "extraPortMappings": list(&mapping),
            "kubeadmConfigPatches": list(&text), "kubeadmConfigPatchesJSON6902": list(&json_patch),
        }));
        let networking = object(json!({
            "ipFamily": one_of(&["ipv4", "ipv6", "dual"]), "apiServerPort": port, "apiServerAddress": text,
            "podSubnet": text, "serviceSubnet": text, "disableDefaultCNI": switch,
            "kubeProxyMode": one_of(&["iptables", "ipvs", "nftables", "none"]), "dnsSearch": list(&text),
        }));
        object(json!({
            "apiVersion": text, "kind": text, "name": text, "nodes": list(&node), "networking": networking,
            "featureGates": map(&switch), "runtimeConfig": map(&text),
            "kubeadmConfigPatches": list(&text), "kubeadmConfigPatchesJSON6902": list(&json_patch),
            "containerdConfigPatches": list(&text), "containerdConfigPatchesJSON6902": list(&text),
        }))
    })
}
