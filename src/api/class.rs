//! The class of every field: what it takes to change it in a cluster that is there.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::cluster::{ClusterSpec, Networking, PoolSettings, WorkerPool, spec_schema};
use super::defaults::{self, Resolved};
use super::node::PortMapping;

/// What it takes to change a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Changed in place.
    Live,
    /// Machines are made anew one by one, drained, with their data kept.
    Roll,
    /// The cluster is made anew, with loss of its data.
    Recreate,
}

impl Class {
    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Roll => "roll",
            Self::Recreate => "recreate",
        }
    }
}

/// One field that differs between two specs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Dotted path; pools are named, not numbered: `spec.workers[default].replicas`.
    pub field: String,
    /// What it takes.
    pub class: Class,
    /// Before, as JSON; `null` where it was not set.
    pub from: Value,
    /// After, as JSON; `null` where it is not set any more.
    pub to: Value,
}

/// Every field that differs, in the order of the manifest. A default that was resolved at creation and is not named by
/// the new spec does not count: nothing but naming it changes it.
#[must_use]
pub fn changes(old: &ClusterSpec, new: &ClusterSpec) -> Vec<Change> {
    let mut found = Found::default();
    found.resolved("spec.kubernetesVersion", Class::Recreate, &old.kubernetes_version, &new.kubernetes_version);
    found.resolved("spec.image", Class::Roll, &old.image, &new.image);
    // `auto`, and port 0 below, ask for a default as much as saying nothing does: on both sides.
    let named = |spec: &ClusterSpec| spec.runtime.filter(|name| !name.is_auto());
    found.resolved("spec.runtime", Class::Recreate, &named(old), &named(new));
    control_plane(&mut found, old, new);
    workers(&mut found, &old.workers, &new.workers);
    networking(&mut found, old, new);
    components(&mut found, old, new);
    found.always("spec.registries", Class::Live, &old.registries, &new.registries);
    found.always("spec.images", Class::Live, &old.images, &new.images);
    found.always("spec.addons", Class::Live, &old.addons, &new.addons);
    found.always("spec.drift.mode", Class::Live, &old.drift.mode, &new.drift.mode);
    found.always("spec.drift.interval", Class::Live, &old.drift.interval, &new.drift.interval);
    found.always("spec.deletionPolicy", Class::Live, &old.deletion_policy, &new.deletion_policy);
    found.always("spec.paused", Class::Live, &old.paused, &new.paused);
    found.always("spec.stopBeforeKubernetes", Class::Live, &old.stop_before_kubernetes, &new.stop_before_kubernetes);
    found.always("spec.protect", Class::Live, &old.protect, &new.protect);
    found.always("spec.allowRecreate", Class::Live, &old.allow_recreate, &new.allow_recreate);
    found.always("spec.ttl", Class::Live, &old.ttl, &new.ttl);
    found.0
}

/// The heaviest class among the differences; `None` where nothing differs.
#[must_use]
pub fn heaviest(changes: &[Change]) -> Option<Class> {
    changes.iter().map(|change| change.class).max()
}

/// `new` with the defaults that were resolved for `old` where it does not name them itself.
#[must_use]
pub fn keep_resolved(old: &ClusterSpec, mut new: ClusterSpec) -> ClusterSpec {
    fn keep<T: Clone>(new: &mut Option<T>, old: &Option<T>) {
        if new.is_none() {
            new.clone_from(old);
        }
    }
    keep(&mut new.kubernetes_version, &old.kubernetes_version);
    keep(&mut new.image, &old.image);
    if new.runtime.is_none_or(|name| name.is_auto()) {
        new.runtime = old.runtime;
    }
    keep_subnets(&mut new.networking, &old.networking);
    keep(&mut new.networking.node_network, &old.networking.node_network);
    keep(&mut new.networking.node_subnet, &old.networking.node_subnet);
    keep(&mut new.networking.cni, &old.networking.cni);
    keep(&mut new.networking.api_server.address, &old.networking.api_server.address);
    if new.networking.api_server.port.is_none_or(|port| port == 0) {
        new.networking.api_server.port = old.networking.api_server.port;
    }
    keep_ports(&mut new.control_plane.extra_port_mappings, &old.control_plane.extra_port_mappings);
    for pool in &mut new.workers {
        if let Some(before) = old.workers.iter().find(|before| before.name == pool.name) {
            keep_ports(&mut pool.extra_port_mappings, &before.extra_port_mappings);
        }
    }
    new
}

/// The defaults of one family are none of another's: there they are resolved anew.
fn keep_subnets(new: &mut Networking, old: &Networking) {
    let is_same_family = new.family() == old.family();
    let (pods, services) = defaults::subnets(old.family());
    let keep = |new: &mut Option<String>, old: &Option<String>, default: String| {
        if is_same_family {
            *new = new.take().or_else(|| old.clone());
        } else if new.as_ref() == Some(&default) {
            *new = None;
        }
    };
    keep(&mut new.pod_subnet, &old.pod_subnet, pods);
    keep(&mut new.service_subnet, &old.service_subnet, services);
}

/// Ports of the host that were chosen stay with their ports of the node.
fn keep_ports(new: &mut [PortMapping], old: &[PortMapping]) {
    for mapping in new.iter_mut().filter(|mapping| mapping.is_open()) {
        let key = (mapping.container_port, mapping.protocol);
        let before = old.iter().find(|before| (before.container_port, before.protocol) == key);
        mapping.host_port = before.and_then(|before| before.host_port).or(mapping.host_port);
    }
}

/// What it takes to change a field, by its path below `spec` (`workers.resources.memory`): tried on an example that has
/// every field of the schema. `None` for what is no field of its own.
#[must_use]
pub fn of_field(path: &str) -> Option<Class> {
    let schema = spec_schema();
    let old = example(schema, Variant::First);
    let mut new = old.clone();
    let (mut place, mut part) = (&mut new, schema);
    for word in path.split('.') {
        if let Some(items) = part.get("items") {
            (place, part) = (place.get_mut(0)?, items);
        }
        (place, part) = (place.get_mut(word)?, part.get("properties")?.get(word)?);
    }
    *place = example(part, Variant::Second);
    let spec = |value: Value| serde_json::from_value::<ClusterSpec>(value).ok();
    heaviest(&changes(&spec(old)?, &spec(new)?))
}

/// Which of two examples that differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    First,
    Second,
}

/// A value that a schema allows.
fn example(schema: &Value, variant: Variant) -> Value {
    let is_first = variant == Variant::First;
    if let Some(words) = schema["enum"].as_array() {
        // `auto` asks for a default, as saying nothing does: it comes last.
        let (named, auto): (Vec<&Value>, Vec<&Value>) =
            words.iter().filter(|word| !word.is_null()).partition(|word| **word != "auto");
        let mut words = named.into_iter().chain(auto);
        return if is_first { words.next() } else { words.nth(1) }.cloned().unwrap_or_default();
    }
    let text = |first: &str, second: &str| Value::from(if is_first { first } else { second });
    match schema["type"].as_str() {
        Some("object") => match (&schema["properties"], is_first) {
            (Value::Object(properties), _) => {
                properties.iter().map(|(name, schema)| (name.clone(), example(schema, variant))).collect()
            }
            (_, first) => {
                let value = example(&schema["additionalProperties"], Variant::First);
                serde_json::json!({ if first { "a" } else { "b" }: value })
            }
        },
        Some("array") if is_first => Value::Array(vec![example(&schema["items"], variant)]),
        Some("array") => Value::Array(Vec::new()),
        Some("integer" | "number") => {
            let least = schema["minimum"].as_f64().map_or(1, |least| least as u64).max(1);
            Value::from(if is_first { least } else { least + 1 })
        }
        Some("boolean") => Value::Bool(!is_first),
        _ if schema["x-kubernetes-int-or-string"] == true => text("1", "2"),
        _ => text("a", "b"),
    }
}

#[derive(Default)]
struct Found(Vec<Change>);

impl Found {
    fn always<T: Serialize>(&mut self, field: &str, class: Class, old: &T, new: &T) {
        let json = |value: &T| serde_json::to_value(value).unwrap_or_default();
        let (from, to) = (json(old), json(new));
        if from != to {
            self.0.push(Change { field: field.to_owned(), class, from, to });
        }
    }

    /// A port of the host that is left open is no difference to the one that was chosen for it.
    fn ports(&mut self, field: &str, old: &[PortMapping], new: &[PortMapping]) {
        let mut new = new.to_vec();
        keep_ports(&mut new, old);
        self.always(field, Class::Roll, &old, &new.as_slice());
    }

    fn resolved<T: Serialize>(&mut self, field: &str, class: Class, old: &Option<T>, new: &Option<T>) {
        // Before resolution there is nothing on the host yet that a change could cost.
        if old.is_some() && new.is_some() {
            self.always(field, class, old, new);
        }
    }
}

/// What kubeadm and containerd are told for the whole cluster.
fn components(found: &mut Found, old: &ClusterSpec, new: &ClusterSpec) {
    found.always("spec.featureGates", Class::Recreate, &old.feature_gates, &new.feature_gates);
    found.always("spec.runtimeConfig", Class::Recreate, &old.runtime_config, &new.runtime_config);
    let (merge, json) = (&old.kubeadm_config_patches, &old.kubeadm_config_patches_json6902);
    found.always("spec.kubeadmConfigPatches", Class::Recreate, merge, &new.kubeadm_config_patches);
    found.always("spec.kubeadmConfigPatchesJSON6902", Class::Recreate, json, &new.kubeadm_config_patches_json6902);
    let (merge, json) = (&old.containerd_config_patches, &old.containerd_config_patches_json6902);
    found.always("spec.containerdConfigPatches", Class::Roll, merge, &new.containerd_config_patches);
    found.always("spec.containerdConfigPatchesJSON6902", Class::Roll, json, &new.containerd_config_patches_json6902);
}

fn control_plane(found: &mut Found, old: &ClusterSpec, new: &ClusterSpec) {
    let (old, new) = (&old.control_plane, &new.control_plane);
    found.always("spec.controlPlane.replicas", Class::Live, &old.replicas, &new.replicas);
    settings(found, "spec.controlPlane", old.settings(), new.settings());
}

fn settings(found: &mut Found, path: &str, old: PoolSettings<'_>, new: PoolSettings<'_>) {
    let field = |rest: &str| format!("{path}.{rest}");
    found.always(&field("image"), Class::Roll, old.image, new.image);
    found.always(&field("resources"), Class::Roll, old.resources, new.resources);
    found.always(&field("labels"), Class::Live, old.labels, new.labels);
    found.always(&field("taints"), Class::Live, &old.taints, &new.taints);
    found.always(&field("extraMounts"), Class::Roll, &old.extra_mounts, &new.extra_mounts);
    found.ports(&field("extraPortMappings"), old.extra_port_mappings, new.extra_port_mappings);
    let (merge, json) = (&old.kubeadm_config_patches, &old.kubeadm_config_patches_json6902);
    found.always(&field("kubeadmConfigPatches"), Class::Recreate, merge, &new.kubeadm_config_patches);
    let field = field("kubeadmConfigPatchesJSON6902");
    found.always(&field, Class::Recreate, json, &new.kubeadm_config_patches_json6902);
}

fn workers(found: &mut Found, old: &[WorkerPool], new: &[WorkerPool]) {
    let by_name = |pools: &[WorkerPool]| -> BTreeMap<String, WorkerPool> {
        pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let path = format!("spec.workers[{name}]");
        let (old, new) = (old.get(name), new.get(name));
        let replicas = |pool: Option<&WorkerPool>| pool.map(|pool| pool.replicas);
        found.always(&format!("{path}.replicas"), Class::Live, &replicas(old), &replicas(new));
        if let (Some(old), Some(new)) = (old, new) {
            settings(found, &path, old.settings(), new.settings());
        }
    }
}

fn networking(found: &mut Found, old: &ClusterSpec, new: &ClusterSpec) {
    // One that is resolved and says nothing about it is in a network of its own.
    let of_resolved = || Resolved::of(old).map(|resolved| resolved.node_network);
    let before = old.networking.node_network.or_else(of_resolved);
    let (old, new) = (&old.networking, &new.networking);
    found.resolved("spec.networking.podSubnet", Class::Recreate, &old.pod_subnet, &new.pod_subnet);
    found.resolved("spec.networking.serviceSubnet", Class::Recreate, &old.service_subnet, &new.service_subnet);
    found.resolved("spec.networking.nodeSubnet", Class::Recreate, &old.node_subnet, &new.node_subnet);
    found.resolved("spec.networking.nodeNetwork", Class::Recreate, &before, &new.node_network);
    found.resolved("spec.networking.cni", Class::Recreate, &old.cni, &new.cni);
    found.always("spec.networking.ipFamily", Class::Recreate, &old.family(), &new.family());
    let mode = |networking: &Networking| networking.kube_proxy_mode.unwrap_or_default();
    found.always("spec.networking.kubeProxyMode", Class::Recreate, &mode(old), &mode(new));
    found.always("spec.networking.dnsSearch", Class::Roll, &old.dns_search, &new.dns_search);
    let (old, new) = (&old.api_server, &new.api_server);
    found.resolved("spec.networking.apiServer.address", Class::Recreate, &old.address, &new.address);
    let named = |port: Option<u16>| port.filter(|&port| port != 0);
    found.resolved("spec.networking.apiServer.port", Class::Recreate, &named(old.port), &named(new.port));
}

#[cfg(test)]
mod tests {
    use super::super::cluster::{MachineResources, NodeNetwork, Quantity, RuntimeName};
    use super::*;

    fn resolved() -> ClusterSpec {
        ClusterSpec {
            kubernetes_version: Some("v1.35.5".into()),
            runtime: Some(RuntimeName::Sim),
            workers: vec![WorkerPool { name: "default".into(), replicas: 2, ..WorkerPool::default() }],
            ..ClusterSpec::default()
        }
    }

    fn classes(old: &ClusterSpec, new: &ClusterSpec) -> Vec<(String, Class)> {
        changes(old, new).into_iter().map(|change| (change.field, change.class)).collect()
    }

    #[test]
    fn every_field_of_the_schema_has_a_class() {
        fn leaves(schema: &Value, path: &str, found: &mut Vec<String>) {
            let properties = schema["properties"].as_object().or_else(|| schema["items"]["properties"].as_object());
            match properties {
                None => found.push(path.to_owned()),
                Some(properties) => properties.iter().for_each(|(name, schema)| {
                    leaves(schema, &format!("{path}{}{name}", if path.is_empty() { "" } else { "." }), found);
                }),
            }
        }
        let mut fields = Vec::new();
        leaves(spec_schema(), "", &mut fields);
        let without: Vec<&String> = fields.iter().filter(|field| of_field(field).is_none()).collect();
        assert!(fields.len() > 20 && without.is_empty(), "{without:?}");
        assert_eq!(of_field("workers.replicas"), Some(Class::Live));
        assert_eq!(of_field("workers.resources.memory"), Some(Class::Roll));
        assert_eq!(of_field("runtime"), Some(Class::Recreate));
        assert_eq!(of_field("workers.nope"), None);
    }

    #[test]
    fn what_the_new_spec_does_not_name_stays_resolved() {
        let mut named_less = resolved();
        named_less.kubernetes_version = None;
        named_less.runtime = Some(RuntimeName::Auto);
        assert_eq!(classes(&resolved(), &named_less), []);
        assert_eq!(keep_resolved(&resolved(), named_less), resolved());
    }

    #[test]
    fn resolving_what_was_asked_for_by_name_is_no_change() {
        let mut asked = resolved();
        asked.runtime = Some(RuntimeName::Auto);
        asked.networking.api_server.port = Some(0);
        let mut found = resolved();
        found.networking.api_server.port = Some(40_001);
        assert_eq!(classes(&asked, &found), []);
    }

    #[test]
    fn replicas_are_live_resources_roll_and_subnets_recreate() {
        let mut new = resolved();
        new.workers[0].replicas = 3;
        new.control_plane.resources = Some(MachineResources { cpus: Some(Quantity("2".into())), memory: None });
        new.kubernetes_version = Some("v1.34.1".into());
        let found = changes(&resolved(), &new);
        assert_eq!(
            classes(&resolved(), &new),
            [
                ("spec.kubernetesVersion".to_owned(), Class::Recreate),
                ("spec.controlPlane.resources".to_owned(), Class::Roll),
                ("spec.workers[default].replicas".to_owned(), Class::Live),
            ]
        );
        assert_eq!(heaviest(&found), Some(Class::Recreate));
    }

    #[test]
    fn another_family_has_its_own_default_subnets_and_keeps_those_that_were_chosen() {
        use super::super::cluster::IpFamily;
        let mut old = resolved();
        let (pods, services) = defaults::subnets(IpFamily::Ipv4);
        (old.networking.pod_subnet, old.networking.service_subnet) = (Some(pods), Some(services));
        let mut new = old.clone();
        new.networking.ip_family = Some(IpFamily::Dual);
        new.networking.service_subnet = Some("10.97.0.0/16,fd00:10:97::/112".into());
        assert_eq!(
            classes(&old, &new).last().map(|(field, class)| (field.as_str(), *class)),
            Some(("spec.networking.ipFamily", Class::Recreate))
        );
        let kept = keep_resolved(&old, new.clone()).networking;
        assert_eq!((kept.pod_subnet, kept.service_subnet), (None, new.networking.service_subnet.clone()));
        // What a file does not name any more is as it was within one family, and open in another.
        (new.networking.pod_subnet, new.networking.service_subnet) = (None, None);
        assert_eq!(keep_resolved(&old, new.clone()).networking.pod_subnet, None);
        new.networking.ip_family = None;
        assert_eq!(keep_resolved(&old, new), old);
    }

    #[test]
    fn a_pool_that_comes_or_goes_is_a_live_change() {
        let mut new = resolved();
        new.workers[0].name = "other".into();
        assert_eq!(
            classes(&resolved(), &new),
            [
                ("spec.workers[default].replicas".to_owned(), Class::Live),
                ("spec.workers[other].replicas".to_owned(), Class::Live),
            ]
        );
    }

    #[test]
    fn another_network_of_machines_is_another_cluster_and_saying_nothing_is_saying_what_it_has() {
        let of = |network: Option<NodeNetwork>| {
            let mut spec = defaults::resolve(
                &ClusterSpec::default(),
                &defaults::HostDefaults {
                    runtime: RuntimeName::Sim,
                    node_network: NodeNetwork::Cluster,
                    node_subnet: "10.160.0.0/24".parse().unwrap(),
                    api_port: 40_000,
                    mapped_ports: Vec::new(),
                },
            );
            spec.networking.node_network = network;
            spec
        };
        let (own, lone) = (Some(NodeNetwork::Cluster), Some(NodeNetwork::Default));
        let anew = vec![("spec.networking.nodeNetwork".to_owned(), Class::Recreate)];
        for (old, new, differs) in [
            (None, own, false),
            (None, lone, true),
            (own, lone, true),
            (lone, own, true),
            (lone, None, false),
            (lone, lone, false),
        ] {
            assert_eq!(classes(&of(old), &of(new)), if differs { anew.clone() } else { Vec::new() }, "{old:?} {new:?}");
        }
        assert_eq!(keep_resolved(&of(lone), ClusterSpec::default()).networking.node_network, lone);
        // Before anything is resolved there is nothing to lose.
        let mut wish = ClusterSpec::default();
        wish.networking.node_network = lone;
        assert_eq!(classes(&ClusterSpec::default(), &wish), []);
    }
}
