//! What kubeadm is told, and how: configuration documents, commands inside nodes, certificates, tokens, the load
//! balancer in front of the API servers, and the pod network of Kina's own.
//!
//! Nothing here performs I/O but through its arguments, and nothing knows controllers or runtimes' objects: plain data
//! in, files and argument arrays out.

pub mod balancer;
pub mod commands;
pub mod config;
pub mod containerd;
pub mod documents;
pub mod etcd;
pub mod kubelet;
pub mod overlay;
pub mod patches;
pub mod pki;
pub mod routed;
pub mod stored;
pub mod token;
pub mod units;

pub use config::{ClusterFacts, NodeConfig, NodeFacts, TaintFacts};
pub use pki::{Pki, PkiError};
pub use token::BootstrapToken;

/// Port of every API server inside its node, and of the load balancer in front of them.
pub const API_PORT: u16 = 6443;
/// Port on which etcd members speak to each other.
pub const ETCD_PEER_PORT: u16 = 2380;
/// Where nodes find kubeadm's configuration; kind's entrypoint looks for it there, too.
pub const CONFIG_PATH: &str = "/kind/kubeadm.conf";
/// The kubeconfig by which a node that joins finds the cluster, and proves that it may. A secret.
pub const DISCOVERY_PATH: &str = "/kind/discovery.conf";
/// Where nodes find what kubeadm is to patch on them alone.
pub const PATCHES_PATH: &str = "/kind/patches";
/// The patch of a kubelet's configuration among them, by the name that kubeadm wants: target, order and kind of the patch.
pub const KUBELET_PATCH_PATH: &str = "/kind/patches/kubeletconfiguration0+merge.json";
/// Exists on a node's volume once kubeadm has succeeded there.
pub const MARKER_PATH: &str = "/etc/kubernetes/kina-bootstrapped";
/// The pod network that comes with a node image.
pub const CNI_MANIFEST_PATH: &str = "/kind/manifests/default-cni.yaml";
/// The storage class that comes with a node image.
pub const STORAGE_MANIFEST_PATH: &str = "/kind/manifests/default-storage.yaml";
/// The taint that kubeadm puts on control planes.
pub const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane";
