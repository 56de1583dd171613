//! Cluster: what people write.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::addon::Addon;
use super::annotations;
use super::conditions::Waiting;
use super::node::{HostMount, JsonPatch6902, PortMapping, Registry};

/// A Kubernetes cluster of machines on this host.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kina.dev",
    version = "v1alpha1",
    kind = "Cluster",
    doc = "A Kubernetes cluster of machines on this host.",
    shortname = "cl",
    category = "kina",
    status = "ClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Machines","type":"string","jsonPath":".status.machines.summary"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Runtime","type":"string","jsonPath":".spec.runtime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Endpoint","type":"string","priority":1,"jsonPath":".status.endpoint"}"#,
    printcolumn = r#"{"name":"Source","type":"string","priority":1,"jsonPath":".status.source.path"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// Kubernetes version, such as `v1.35.5`. Default: the newest that Kina knows, resolved at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Node image. Default: the image of the version, resolved at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where the machines run. Default `auto`, resolved at creation to a runtime that is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeName>,
    /// The machines that run the control plane.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// Pools of machines that run workloads only. Without any, the control planes run them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub workers: Vec<WorkerPool>,
    /// Subnets, pod network and API endpoint.
    #[serde(default)]
    pub networking: Networking,
    /// Feature gates of Kubernetes' components: `{ SomeFeature: true }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    /// APIs that the API server serves besides its own choice, or not: `{ "api/alpha": "false" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtime_config: BTreeMap<String, String>,
    /// Patches (RFC 7386) of kubeadm's documents, as YAML with the `kind` that each is for. One that fits nothing is an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 65536)), length(max = 64))]
    pub kubeadm_config_patches: Vec<String>,
    /// JSON patches (RFC 6902) of kubeadm's documents. One that fits nothing is an error.
    #[serde(default, rename = "kubeadmConfigPatchesJSON6902", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kubeadm_config_patches_json6902: Vec<JsonPatch6902>,
    /// Patches of containerd's configuration on every machine, as TOML.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 65536)), length(max = 64))]
    pub containerd_config_patches: Vec<String>,
    /// JSON patches (RFC 6902) of containerd's configuration on every machine, each a list of operations as JSON.
    #[serde(default, rename = "containerdConfigPatchesJSON6902", skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 65536)), length(max = 64))]
    pub containerd_config_patches_json6902: Vec<String>,
    /// Mirrors and certificates of registries, for containerd on every machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["host"]), length(max = 64))]
    pub registries: Vec<Registry>,
    /// Images of this host, such as `myapp:dev`, that are loaded into every machine. They are not pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 512)), length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub images: Vec<String>,
    /// Objects that are applied in the cluster once its API answers, kept as they are written, and removed when they go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]), length(max = 64))]
    pub addons: Vec<Addon>,
    /// What to do about differences between what is wanted and what is.
    #[serde(default)]
    pub drift: DriftPolicy,
    /// What becomes of containers, networks and volumes when the Cluster is deleted. Default `Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// While true nothing is changed on the host; status goes on being reported.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// While true machines are brought up, and kubeadm is not begun on those that are no nodes yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stop_before_kubernetes: bool,
    /// While true the Cluster can be neither deleted nor recreated.
    #[serde(default, skip_serializing_if = "is_false")]
    pub protect: bool,
    /// Permits changes that need the whole cluster to be made anew, with loss of its data.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_recreate: bool,
    /// Delete the Cluster this long after its creation, such as `8h` or `30m`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// Where machines run. Default `auto`, resolved at creation to a runtime that is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeName {
    /// The one that is installed; the simulator only where none is.
    #[default]
    Auto,
    /// Apple Container (macOS).
    Apple,
    /// Docker or Podman (Linux).
    Docker,
    /// The simulator built into Kina.
    Sim,
}

impl RuntimeName {
    /// Whether the choice is Kina's.
    #[must_use]
    pub fn is_auto(self) -> bool {
        self == Self::Auto
    }

    /// As manifests spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Apple => "apple",
            Self::Docker => "docker",
            Self::Sim => "sim",
        }
    }

    /// The runtime of this name; `None` for `auto`, which is none, and for names that do not exist.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Apple, Self::Docker, Self::Sim].into_iter().find(|runtime| runtime.as_str() == name)
    }
}

/// Control plane machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlane {
    /// How many: 1, 3, 5 or 7. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 7))]
    pub replicas: u32,
    /// Node image of these machines. Default: the Cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Limits of each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<MachineResources>,
    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the nodes besides kubeadm's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key", "effect"]))]
    pub taints: Vec<Taint>,
    /// Files and directories of the host in these machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["containerPath"]), length(max = 64))]
    pub extra_mounts: Vec<HostMount>,
    /// Ports of the machine, reachable through the host. Only where there is one machine: a port has one owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["containerPort", "protocol"]), length(max = 64))]
    pub extra_port_mappings: Vec<PortMapping>,
    /// Patches (RFC 7386) of kubeadm's documents for these machines, after the Cluster's, as YAML.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 65536)), length(max = 64))]
    pub kubeadm_config_patches: Vec<String>,
    /// JSON patches (RFC 6902) of kubeadm's documents for these machines, after all merge patches.
    #[serde(default, rename = "kubeadmConfigPatchesJSON6902", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kubeadm_config_patches_json6902: Vec<JsonPatch6902>,
}

/// What control planes and a pool of workers have alike.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings<'a> {
    /// Node image, where it is not the Cluster's.
    pub image: &'a Option<String>,
    /// Limits of each machine.
    pub resources: &'a Option<MachineResources>,
    /// Labels of the nodes.
    pub labels: &'a BTreeMap<String, String>,
    /// Taints of the nodes.
    pub taints: &'a [Taint],
    /// Files and directories of the host.
    pub extra_mounts: &'a [HostMount],
    /// Ports that the host publishes.
    pub extra_port_mappings: &'a [PortMapping],
    /// Merge patches of kubeadm's documents.
    pub kubeadm_config_patches: &'a [String],
    /// JSON patches of kubeadm's documents.
    pub kubeadm_config_patches_json6902: &'a [JsonPatch6902],
}

macro_rules! has_settings {
    ($($kind:ty),*) => {$(
        impl $kind {
            /// What both kinds of pools have.
            #[must_use]
            pub fn settings(&self) -> PoolSettings<'_> {
                PoolSettings {
                    image: &self.image,
                    resources: &self.resources,
                    labels: &self.labels,
                    taints: &self.taints,
                    extra_mounts: &self.extra_mounts,
                    extra_port_mappings: &self.extra_port_mappings,
                    kubeadm_config_patches: &self.kubeadm_config_patches,
                    kubeadm_config_patches_json6902: &self.kubeadm_config_patches_json6902,
                }
            }
        }
    )*};
}
has_settings!(ControlPlane, WorkerPool);

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            replicas: 1,
            image: None,
            resources: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            extra_mounts: Vec::new(),
            extra_port_mappings: Vec::new(),
            kubeadm_config_patches: Vec::new(),
            kubeadm_config_patches_json6902: Vec::new(),
        }
    }
}

/// A pool of worker machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerPool {
    /// Name, unique in the Cluster, up to 20 characters. It is part of the machines' names.
    #[schemars(length(min = 1, max = 20))]
    pub name: String,
    /// How many machines, from 0. Default 1.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    pub replicas: u32,
    /// Node image of these machines. Default: the Cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Limits of each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<MachineResources>,
    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key", "effect"]))]
    pub taints: Vec<Taint>,
    /// Files and directories of the host in these machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["containerPath"]), length(max = 64))]
    pub extra_mounts: Vec<HostMount>,
    /// Ports of the machine, reachable through the host. Only where there is one machine: a port has one owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["containerPort", "protocol"]), length(max = 64))]
    pub extra_port_mappings: Vec<PortMapping>,
    /// Patches (RFC 7386) of kubeadm's documents for these machines, after the Cluster's, as YAML.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 65536)), length(max = 64))]
    pub kubeadm_config_patches: Vec<String>,
    /// JSON patches (RFC 6902) of kubeadm's documents for these machines, after all merge patches.
    #[serde(default, rename = "kubeadmConfigPatchesJSON6902", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kubeadm_config_patches_json6902: Vec<JsonPatch6902>,
}

/// Limits of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineResources {
    /// CPUs: `2`, `0.5` or `1500m`. Default: no limit; on Apple Container a share of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub cpus: Option<Quantity>,
    /// Memory: `4Gi`, `512Mi`. Default: no limit; on Apple Container a share of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub memory: Option<Quantity>,
}

/// A number, or a text with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(pub String);

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Key, such as `dedicated`.
    pub key: String,
    /// Value, maybe empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods stay away where they can.
    PreferNoSchedule,
    /// Running pods leave too.
    NoExecute,
}

/// Subnets, pod network and API endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Networking {
    /// Addresses of pods, CIDR; for `dual` one of each family, such as `10.244.0.0/16,fd00:10:244::/56`. Default
    /// `10.244.0.0/16`, of IPv6 `fd00:10:244::/56`, resolved at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_subnet: Option<String>,
    /// Addresses of services, CIDR; for `dual` one of each family, of which the first one's is primary. Default `10.96.0.0/16`,
    /// of IPv6 `fd00:10:96::/112`, resolved at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_subnet: Option<String>,
    /// Addresses of machines, a /24 of IPv4, from which those of IPv6 follow. Default: a free one of `10.160.0.0/11`, resolved at
    /// creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_subnet: Option<String>,
    /// The network that machines are in. Default `cluster`; `default`, resolved at creation, for a Cluster of one control plane
    /// alone on a runtime that makes no networks, such as Apple Container before macOS 26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_network: Option<NodeNetwork>,
    /// The pod network. Default `auto`: the one that comes with the node image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<Cni>,
    /// Families of addresses of nodes, pods and services. Default `ipv4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<IpFamily>,
    /// How kube-proxy directs traffic to services. Default `iptables`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy_mode: Option<KubeProxyMode>,
    /// DNS search domains of the machines. Default: the host's; an empty list means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(inner(length(min = 1, max = 253)), length(max = 32))]
    pub dns_search: Option<Vec<String>>,
    /// Where the API server is reached from the host.
    #[serde(default)]
    pub api_server: ApiServerEndpoint,
}

impl Networking {
    /// The family, where none is named the default.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        self.ip_family.unwrap_or_default()
    }

    /// The network of machines, where none is named the default.
    #[must_use]
    pub fn nodes(&self) -> NodeNetwork {
        self.node_network.unwrap_or_default()
    }
}

/// The network that machines are in. Default `cluster`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeNetwork {
    /// One of the cluster's own, on which its machines reach each other, with a load balancer in front.
    #[default]
    Cluster,
    /// The one that the runtime has by itself, on which they do not: for a single machine, whose API server the host publishes
    /// with no load balancer in front.
    Default,
}

impl NodeNetwork {
    /// As manifests spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Default => "default",
        }
    }
}

/// Families of addresses of nodes, pods and services. Default `ipv4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4 alone.
    #[default]
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Dual,
}

impl IpFamily {
    /// Whether there are addresses of IPv6.
    #[must_use]
    pub fn has_v6(self) -> bool {
        self != Self::Ipv4
    }

    /// As manifests spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        }
    }
}

/// How kube-proxy directs traffic to services. Default `iptables`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubeProxyMode {
    /// By iptables.
    #[default]
    Iptables,
    /// By ipvs.
    Ipvs,
    /// By nftables.
    Nftables,
    /// There is no kube-proxy.
    None,
}

impl KubeProxyMode {
    /// As manifests and kube-proxy spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
            Self::None => "none",
        }
    }
}

/// The pod network. Default `auto`: the one that comes with the node image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// The one that comes with the node image.
    #[default]
    Auto,
    /// Kina's own: routes between the nodes, without a daemon. It does not enforce NetworkPolicy.
    Routed,
    /// None: nodes become Ready once somebody installs one.
    None,
}

/// Where the API server is reached from the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiServerEndpoint {
    /// Address of the host to listen on. Default `127.0.0.1`, resolved at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port of the host. Default: a free one, resolved at creation; 0 means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What to do about differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftPolicy {
    /// Repair, report or count. Default `Enforce`.
    #[serde(default)]
    pub mode: DriftMode,
    /// How often everything is compared besides events, such as `30s`; from `5s`. Default `30s`.
    #[serde(default = "drift_interval")]
    pub interval: String,
}

impl Default for DriftPolicy {
    fn default() -> Self {
        Self { mode: DriftMode::default(), interval: drift_interval() }
    }
}

/// What to do about differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftMode {
    /// Repair what differs.
    #[default]
    Enforce,
    /// Report each difference with its severity.
    Audit,
    /// Only count.
    Monitor,
}

/// What becomes of containers, networks and volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are removed.
    #[default]
    Delete,
    /// They stay as they are; Kina forgets them.
    Orphan,
}

/// What is known of a Cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// One word for people: Pending, Provisioning, Running, Updating, Degraded, Paused, Failed, Deleting. Programs read conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The generation of the spec that this status reflects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, NetworkReady, ControlPlaneReady, WorkersReady, KubeconfigReady, AddonsReady, Drifted, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The Kubernetes version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// URL of the API server as seen from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Counts of machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<MachineCounts>,
    /// What is being waited for, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// What differs from what is wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub drift: Vec<Drift>,
    /// Where the Cluster is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Declared>,
}

/// Counts of machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineCounts {
    /// How many the spec asks for.
    pub desired: u32,
    /// How many are Ready.
    pub ready: u32,
    /// `READY/DESIRED`, for the column.
    pub summary: String,
}

/// Where a Cluster is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// Name of the Source, or `cli`.
    pub name: String,
    /// Path of the file, relative to the Source's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Commit that the file came from, in a git checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// One difference between what is wanted and what is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The layer: container, network, kubernetes, addons or kubeconfig.
    pub layer: DriftLayer,
    /// The object that differs.
    pub object: String,
    /// What differs: `state`, `image`, `labels`.
    pub field: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wanted.
    pub desired: String,
    /// What is.
    pub observed: String,
    /// Since when Kina has seen it.
    pub since: Time,
    /// What was done about it.
    pub action: String,
}

/// Where a difference lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftLayer {
    /// A container or volume.
    Container,
    /// A network.
    Network,
    /// A node or its labels and taints.
    Kubernetes,
    /// An object that Kina installed in the cluster.
    Addons,
    /// The context in the kubeconfig.
    Kubeconfig,
}

/// How bad a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// Nothing suffers.
    Info,
    /// Something works less well than asked for.
    Warning,
    /// The cluster, or a part of it, does not work.
    Critical,
}

/// The schema of `spec` of a Cluster, as its definition carries it.
#[must_use]
pub fn spec_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let definition = serde_json::to_value(Cluster::crd()).unwrap_or_default();
        definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned().unwrap_or_default()
    })
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A plain number goes back as it came, so that a manifest is the same after a round.
        match self.0.parse::<u64>() {
            Ok(number) => serializer.serialize_u64(number),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a text such as `1500m` or `4Gi`")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-int-or-string": true })
}

fn one() -> u32 {
    1
}

fn drift_interval() -> String {
    "30s".to_owned()
}

pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

impl Cluster {
    /// The UID by which what is on the host is known as its own: of an earlier Cluster whose things it adopted, or its
    /// own. `None` without a UID, which every Cluster of a server has.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        let taken = self.metadata.annotations.as_ref().and_then(|all| all.get(annotations::IDENTITY));
        taken.or(self.metadata.uid.as_ref()).map(String::as_str)
    }
}
