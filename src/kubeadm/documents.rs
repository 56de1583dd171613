//! kubeadm's documents, `kubeadm.k8s.io/v1beta4` or `v1beta3`, with the fields that Kina sets.
//!
//! Source: <https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/> and its neighbours for v1beta3, kubelet
//! and kube-proxy.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::versions::KubernetesVersion;

/// Version of kubeadm's own documents. Of what Kina sets, they write arguments differently, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigVersion {
    /// Before Kubernetes 1.31.
    V1beta3,
    /// The same since then; kubeadm has begun to drop the older one.
    V1beta4,
}

impl ConfigVersion {
    /// The one for a Kubernetes version such as `v1.35.5`: the newest that its kubeadm reads.
    #[must_use]
    pub fn of(kubernetes: &str) -> Self {
        match KubernetesVersion::parse(kubernetes) {
            Some(version) if version.minor < 31 => Self::V1beta3,
            _ => Self::V1beta4,
        }
    }

    /// The API version of its documents.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// Arguments, in its form.
    #[must_use]
    pub fn arguments(self, arguments: impl IntoIterator<Item = Argument>) -> Arguments {
        match self {
            Self::V1beta3 => {
                Arguments::Map(arguments.into_iter().map(|Argument { name, value }| (name, value)).collect())
            }
            Self::V1beta4 => Arguments::List(arguments.into_iter().collect()),
        }
    }
}

/// Arguments of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Arguments {
    /// Of v1beta3.
    Map(BTreeMap<String, String>),
    /// Of v1beta4.
    List(Vec<Argument>),
}

impl Arguments {
    fn is_empty(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            Self::List(list) => list.is_empty(),
        }
    }
}

/// An argument of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Name, without dashes.
    pub name: String,
    /// Value.
    pub value: String,
}

impl Argument {
    /// An argument.
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }
}

/// What holds for the whole cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfiguration {
    /// [`ConfigVersion::api_version`].
    pub api_version: &'static str,
    /// Always `ClusterConfiguration`.
    pub kind: &'static str,
    /// Version to install: no look-up on the network.
    pub kubernetes_version: String,
    /// Name of the cluster.
    pub cluster_name: String,
    /// `HOST:PORT` that every node uses.
    pub control_plane_endpoint: String,
    /// Subnets.
    pub networking: Networking,
    /// API server.
    pub api_server: ApiServer,
    /// Controller manager.
    pub controller_manager: Component,
    /// Scheduler.
    #[serde(skip_serializing_if = "Component::is_empty")]
    pub scheduler: Component,
    /// etcd.
    pub etcd: Etcd,
}

/// Subnets of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// Of pods.
    pub pod_subnet: String,
    /// Of services.
    pub service_subnet: String,
}

/// Settings of the API server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// Names and addresses in its certificate besides kubeadm's own.
    #[serde(rename = "certSANs")]
    pub cert_sans: Vec<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Arguments::is_empty")]
    pub extra_args: Arguments,
}

/// Settings of a component.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Arguments.
    pub extra_args: Arguments,
}

impl Component {
    fn is_empty(&self) -> bool {
        self.extra_args.is_empty()
    }
}

/// Settings of etcd.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    /// The member on the node itself.
    pub local: Component,
}

/// How the first control planes start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitConfiguration {
    /// [`ConfigVersion::api_version`].
    pub api_version: &'static str,
    /// Always `InitConfiguration`.
    pub kind: &'static str,
    /// Where the node's API server listens.
    #[serde(rename = "localAPIEndpoint")]
    pub local_api_endpoint: ApiEndpoint,
    /// How the node registers.
    pub node_registration: NodeRegistration,
    /// Phases left out.
    pub skip_phases: Vec<&'static str>,
    /// What is patched on this node alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<PatchDirectory>,
}

/// Where patches of what kubeadm writes lie.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchDirectory {
    /// Absolute path in the node.
    pub directory: &'static str,
}

/// How a node joins.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinConfiguration {
    /// [`ConfigVersion::api_version`].
    pub api_version: &'static str,
    /// Always `JoinConfiguration`.
    pub kind: &'static str,
    /// How the node learns whom to trust.
    pub discovery: Discovery,
    /// How the node registers.
    pub node_registration: NodeRegistration,
    /// For control planes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<JoinControlPlane>,
    /// Phases left out.
    pub skip_phases: Vec<&'static str>,
    /// What is patched on this node alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<PatchDirectory>,
}

/// What a joining control plane adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinControlPlane {
    /// Where the node's API server listens.
    #[serde(rename = "localAPIEndpoint")]
    pub local_api_endpoint: ApiEndpoint,
}

/// Address and port of an API server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiEndpoint {
    /// The node's address.
    pub advertise_address: String,
    /// Port.
    pub bind_port: u16,
}

/// How a joining node learns whom to trust.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// By a kubeconfig in the node.
    pub file: FileDiscovery,
}

/// Discovery by a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileDiscovery {
    /// Where the kubeconfig is.
    pub kube_config_path: &'static str,
}

/// How a node registers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRegistration {
    /// Name of the Node.
    pub name: String,
    /// containerd's socket.
    pub cri_socket: &'static str,
    /// Taints; an empty list means none, not kubeadm's default.
    pub taints: Vec<Taint>,
    /// Arguments of the kubelet.
    pub kubelet_extra_args: Arguments,
}

/// A taint of a Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, maybe empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Settings of every kubelet, as kind has them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeletConfiguration {
    /// `kubelet.config.k8s.io/v1beta1`.
    pub api_version: &'static str,
    /// `KubeletConfiguration`.
    pub kind: &'static str,
    /// `systemd`.
    pub cgroup_driver: &'static str,
    /// Below the node's own tree, so that nothing escapes to the host's.
    pub cgroup_root: &'static str,
    /// Hosts have swap.
    #[serde(rename = "failSwapOn")]
    pub fail_swap_on: bool,
    /// The kubelet sees the host's disk, which is not its to tidy.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// For the same reason.
    pub eviction_hard: BTreeMap<&'static str, &'static str>,
    /// Kubelets from 1.35 on refuse hosts of the older kind otherwise; those before 1.31 do not know it.
    #[serde(rename = "failCgroupV1", skip_serializing_if = "Option::is_none")]
    pub fail_cgroup_v1: Option<bool>,
    /// Where it listens, where that is not its own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<&'static str>,
    /// Where its health is asked, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthz_bind_address: Option<&'static str>,
    /// Feature gates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
}

/// Settings of kube-proxy, as kind has them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeProxyConfiguration {
    /// `kubeproxy.config.k8s.io/v1alpha1`.
    pub api_version: &'static str,
    /// `KubeProxyConfiguration`.
    pub kind: &'static str,
    /// `iptables`, `ipvs` or `nftables`.
    pub mode: &'static str,
    /// iptables mode.
    pub iptables: ProxyIptables,
    /// Connection tracking.
    pub conntrack: ProxyConntrack,
    /// Feature gates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
}

/// iptables mode of kube-proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyIptables {
    /// Shortest time between two syncs.
    pub min_sync_period: &'static str,
}

/// Connection tracking of kube-proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConntrack {
    /// 0: the host-wide setting is not kube-proxy's to write.
    pub max_per_core: u32,
    /// With nftables, as <https://github.com/kubernetes/kubernetes/issues/117924> asks for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tcp_be_liberal: bool,
}
