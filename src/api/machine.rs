//! Machine: one node, made by its Cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{Drift, IpFamily, MachineResources, NodeNetwork, RuntimeName, Taint};
use super::conditions::Waiting;
use super::node::{HostMount, PortMapping, Registry};

/// One node of a Cluster: its container, its volume and its Node. Made by Kina; not meant to be written by people.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kina.dev",
    version = "v1alpha1",
    kind = "Machine",
    doc = "One node of a Cluster: its container, its volume and its Node. Made by Kina; not meant to be written by people.",
    shortname = "ma",
    category = "kina",
    status = "MachineStatus",
    derive = "PartialEq",
    selectable = ".spec.cluster",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".spec.kubernetesVersion"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Address","type":"string","priority":1,"jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Waiting","type":"string","priority":1,"jsonPath":".status.waiting.reason"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    /// Name of the Cluster it belongs to.
    pub cluster: String,
    /// Control plane or worker.
    pub role: MachineRole,
    /// The pool it belongs to; `control-plane` for control planes.
    pub pool: String,
    /// Its slot in the pool, from 0. Slots may have gaps.
    pub ordinal: u32,
    /// Where it runs; never `auto`.
    pub runtime: RuntimeName,
    /// Node image.
    pub image: String,
    /// Kubernetes version of the image.
    pub kubernetes_version: String,
    /// Limits of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<MachineResources>,
    /// Kina chose `resources` when the machine was made, since its pool names none. The machine keeps them.
    #[serde(default, skip_serializing_if = "super::cluster::is_false")]
    pub default_resources: bool,
    /// Labels of the Node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node. On a control plane of a Cluster with workers, kubeadm's own is among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key", "effect"]))]
    pub taints: Vec<Taint>,
    /// Files and directories of the host in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_mounts: Vec<HostMount>,
    /// Its ports that the host publishes, each with its port of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_port_mappings: Vec<PortMapping>,
    /// Its DNS search domains; the host's where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    /// What containerd's configuration is changed by.
    #[serde(default, skip_serializing_if = "ContainerdPatches::is_empty")]
    pub containerd: ContainerdPatches,
    /// How its containerd reaches registries. Missing where its Cluster never said anything about them: there is nothing to
    /// take back then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registries: Option<Vec<Registry>>,
    /// Images of the host that it is to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Its address for life, inside the cluster's node subnet.
    pub address: String,
    /// The addresses of its pods for life, CIDR, where the pod network is Kina's own.
    #[serde(default, rename = "podCIDR", skip_serializing_if = "Option::is_none")]
    pub pod_cidr: Option<String>,
    /// Of its cluster, where that is not IPv4 alone. Its address of IPv6 follows from the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<IpFamily>,
    /// `ADDRESS:PORT` of the host at which its own API server is published: of the only machine of a cluster in the runtime's
    /// network `default`. All others are in a network of their cluster's, behind its load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_endpoint: Option<String>,
    /// How it becomes a node.
    pub bootstrap: Bootstrap,
    /// What the Cluster has granted it to do. Without a grant it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// Under which UIDs its things on the host are known, where those are not the present ones.
    #[serde(default, skip_serializing_if = "Identity::is_own")]
    pub identity: Identity,
}

impl MachineSpec {
    /// The network that its container is in.
    #[must_use]
    pub fn network(&self) -> NodeNetwork {
        match self.api_endpoint {
            None => NodeNetwork::Cluster,
            Some(_) => NodeNetwork::Default,
        }
    }
}

/// Patches of containerd's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerdPatches {
    /// TOML, merged in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merge: Vec<String>,
    /// JSON patches (RFC 6902), applied after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<String>,
}

impl ContainerdPatches {
    /// Whether the image's own configuration stays as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.merge.is_empty() && self.json.is_empty()
    }
}

/// The UIDs that labels on the host carry. Labels cannot change once something is made: so what an earlier Cluster or
/// Machine of the same name left is adopted by taking over its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// UID of the earlier Cluster; the owner's own where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// UID of the earlier Machine; its own where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

impl Identity {
    /// Whether nothing was taken over.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::default()
    }
}

/// Control plane or worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MachineRole {
    /// Runs the control plane.
    ControlPlane,
    /// Runs workloads only.
    Worker,
}

/// How a machine becomes a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bootstrap {
    /// `Init` for the control planes of the first day, which all start together; `Join` for every other machine.
    pub method: BootstrapMethod,
    /// For `Init`: the first members of etcd by name, with their addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, String>,
}

/// How a machine becomes a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BootstrapMethod {
    /// `kubeadm init`.
    Init,
    /// `kubeadm join`.
    Join,
}

/// What its Cluster has granted it to do. Without a grant it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Turn {
    /// Become a node.
    Bootstrap,
    /// Be made anew from the current spec, drained before, with its volume kept.
    Roll,
    /// Be repaired: restarted, or made anew where it is gone.
    Repair,
}

/// What is known of a Machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// One word for people: Pending, Provisioning, Bootstrapping, Running, NotReady, Updating, Failed, Deleting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The generation of the spec that this status reflects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, ContainerReady, Bootstrapped, NodeReady, Drifted, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Id of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Hash of the spec that its container was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_hash: Option<String>,
    /// What is being waited for, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The last failure, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What differs from what is wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub drift: Vec<Drift>,
}

/// A failure that lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What can be done about it.
    pub class: FailureClass,
    /// One word in CamelCase.
    pub reason: String,
    /// What was attempted on what, and the cause.
    pub message: String,
    /// How often in a row.
    pub attempts: u32,
    /// Since when.
    pub since: Time,
}

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FailureClass {
    /// It is tried again.
    Transient,
    /// It waits for another spec.
    Terminal,
    /// It waits for a person, since something of somebody else is in the way.
    Foreign,
}
