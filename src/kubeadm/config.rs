//! From plain facts to the one file that kubeadm reads.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::documents::{
    ApiEndpoint, ApiServer, Argument, ClusterConfiguration, Component, Discovery, Etcd, InitConfiguration,
    JoinConfiguration, JoinControlPlane, KUBEADM, KubeProxyConfiguration, KubeletConfiguration, Networking,
    NodeRegistration, ProxyConntrack, ProxyIptables, Taint, TokenDiscovery,
};
use super::token::BootstrapToken;
use super::{API_PORT, ETCD_PEER_PORT};

/// What holds for a whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Name of the cluster.
    pub name: String,
    /// Kubernetes version, `v1.35.5`.
    pub version: String,
    /// Name of the load balancer, as every node resolves it.
    pub endpoint_host: String,
    /// Address of the load balancer in the cluster's network.
    pub endpoint_address: Ipv4Addr,
    /// Address of this host under which people reach the API.
    pub host_address: String,
    /// Addresses of pods, CIDR.
    pub pod_subnet: String,
    /// Addresses of services, CIDR.
    pub service_subnet: String,
}

/// A taint of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintFacts {
    /// Key.
    pub key: String,
    /// Value, maybe empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// What holds for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the Machine and of the Node.
    pub name: String,
    /// Its address for life.
    pub address: Ipv4Addr,
    /// Whether it runs the control plane.
    pub control_plane: bool,
    /// Labels at registration.
    pub labels: BTreeMap<String, String>,
    /// Taints at registration: these and no others.
    pub taints: Vec<TaintFacts>,
    /// Where containers run, for the provider id.
    pub runtime: String,
}

/// The configuration could not be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("could not write the kubeadm configuration of {node}")]
pub struct ConfigError {
    /// The node it was for.
    pub node: String,
    /// What the YAML library says.
    #[source]
    pub source: serde_saphyr::ser_error::Error,
}

/// `/kind/kubeadm.conf` of a control plane of the first day. `members` are the first members of etcd, names to
/// addresses, the node itself among them.
///
/// # Errors
/// [`ConfigError`] when the documents cannot be written.
pub fn init_file(
    cluster: &ClusterFacts,
    node: &NodeFacts,
    members: &BTreeMap<String, String>,
) -> Result<String, ConfigError> {
    let init = InitConfiguration {
        api_version: KUBEADM,
        kind: "InitConfiguration",
        local_api_endpoint: api_endpoint(node),
        node_registration: registration(cluster, node),
        skip_phases: skip_phases(),
    };
    file(node, &cluster_configuration(cluster, members), &init)
}

/// `/kind/kubeadm.conf` of a node that joins.
///
/// # Errors
/// [`ConfigError`] when the documents cannot be written.
pub fn join_file(
    cluster: &ClusterFacts,
    node: &NodeFacts,
    token: &BootstrapToken,
    ca_hash: &str,
) -> Result<String, ConfigError> {
    let bootstrap_token = TokenDiscovery {
        api_server_endpoint: endpoint(cluster),
        token: token.to_secret_string(),
        ca_cert_hashes: vec![ca_hash.to_owned()],
    };
    let join = JoinConfiguration {
        api_version: KUBEADM,
        kind: "JoinConfiguration",
        discovery: Discovery { bootstrap_token },
        node_registration: registration(cluster, node),
        control_plane: node.control_plane.then(|| JoinControlPlane { local_api_endpoint: api_endpoint(node) }),
        skip_phases: skip_phases(),
    };
    file(node, &cluster_configuration(cluster, &BTreeMap::new()), &join)
}

/// Every node gets all documents: kind's entrypoint runs `kubeadm init phase certs apiserver` with them after an
/// address moved, also on nodes that joined.
fn file<T: serde::Serialize>(
    node: &NodeFacts,
    cluster: &ClusterConfiguration,
    step: &T,
) -> Result<String, ConfigError> {
    let wrap = |source| ConfigError { node: node.name.clone(), source };
    let documents = [
        serde_saphyr::to_string(cluster).map_err(wrap)?,
        serde_saphyr::to_string(step).map_err(wrap)?,
        serde_saphyr::to_string(&kubelet()).map_err(wrap)?,
        serde_saphyr::to_string(&kube_proxy()).map_err(wrap)?,
    ];
    Ok(documents.iter().map(|document| format!("---\n{}\n", document.trim_end())).collect())
}

fn endpoint(cluster: &ClusterFacts) -> String {
    format!("{}:{API_PORT}", cluster.endpoint_host)
}

fn cluster_configuration(cluster: &ClusterFacts, members: &BTreeMap<String, String>) -> ClusterConfiguration {
    let mut sans = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        cluster.endpoint_host.clone(),
        cluster.endpoint_address.to_string(),
    ];
    if !sans.contains(&cluster.host_address) {
        sans.push(cluster.host_address.clone());
    }
    let etcd = if members.is_empty() {
        Vec::new()
    } else {
        let peers: Vec<String> =
            members.iter().map(|(name, address)| format!("{name}=https://{address}:{ETCD_PEER_PORT}")).collect();
        vec![Argument::new("initial-cluster", peers.join(",")), Argument::new("initial-cluster-state", "new")]
    };
    ClusterConfiguration {
        api_version: KUBEADM,
        kind: "ClusterConfiguration",
        kubernetes_version: cluster.version.clone(),
        cluster_name: cluster.name.clone(),
        control_plane_endpoint: endpoint(cluster),
        networking: Networking {
            pod_subnet: cluster.pod_subnet.clone(),
            service_subnet: cluster.service_subnet.clone(),
        },
        api_server: ApiServer { cert_sans: sans },
        // For the hostPath fallback of images without a storage manifest, as kind does.
        controller_manager: Component { extra_args: vec![Argument::new("enable-hostpath-provisioner", "true")] },
        etcd: Etcd { local: Component { extra_args: etcd } },
    }
}

fn api_endpoint(node: &NodeFacts) -> ApiEndpoint {
    ApiEndpoint { advertise_address: node.address.to_string(), bind_port: API_PORT }
}

fn registration(cluster: &ClusterFacts, node: &NodeFacts) -> NodeRegistration {
    let labels: Vec<String> =
        node.labels.iter().filter(|(key, _)| is_kubelets(key)).map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments = vec![
        Argument::new("node-ip", node.address.to_string()),
        Argument::new("provider-id", format!("kina://{}/{}/{}", node.runtime, cluster.name, node.name)),
    ];
    if !labels.is_empty() {
        arguments.push(Argument::new("node-labels", labels.join(",")));
    }
    let taints = node.taints.iter().map(|taint| Taint {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: taint.effect.clone(),
    });
    NodeRegistration {
        name: node.name.clone(),
        cri_socket: "unix:///run/containerd/containerd.sock",
        taints: taints.collect(),
        kubelet_extra_args: arguments,
    }
}

/// Whether a kubelet may set this label on its own Node; it refuses to start with others of the system's prefixes
/// (`--node-labels`). Those are set through the API afterwards.
fn is_kubelets(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    !["kubernetes.io", "k8s.io"]
        .iter()
        .any(|reserved| prefix == *reserved || prefix.strip_suffix(reserved).is_some_and(|rest| rest.ends_with('.')))
}

/// Preflight would pull images and check the host, which is not ours to judge (as kind does).
fn skip_phases() -> Vec<&'static str> {
    vec!["preflight"]
}

fn kubelet() -> KubeletConfiguration {
    KubeletConfiguration {
        api_version: "kubelet.config.k8s.io/v1beta1",
        kind: "KubeletConfiguration",
        cgroup_driver: "systemd",
        cgroup_root: "/kubelet",
        fail_swap_on: false,
        image_gc_high_threshold_percent: 100,
        eviction_hard: BTreeMap::from([
            ("imagefs.available", "0%"),
            ("nodefs.available", "0%"),
            ("nodefs.inodesFree", "0%"),
        ]),
    }
}

fn kube_proxy() -> KubeProxyConfiguration {
    KubeProxyConfiguration {
        api_version: "kubeproxy.config.k8s.io/v1alpha1",
        kind: "KubeProxyConfiguration",
        mode: "iptables",
        iptables: ProxyIptables { min_sync_period: "1s" },
        conntrack: ProxyConntrack { max_per_core: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterFacts {
        ClusterFacts {
            name: "dev".into(),
            version: "v1.35.5".into(),
            endpoint_host: "dev-lb".into(),
            endpoint_address: Ipv4Addr::new(10, 160, 0, 2),
            host_address: "127.0.0.1".into(),
            pod_subnet: "10.244.0.0/16".into(),
            service_subnet: "10.96.0.0/16".into(),
        }
    }

    fn node(name: &str, control_plane: bool) -> NodeFacts {
        NodeFacts {
            name: name.into(),
            address: Ipv4Addr::new(10, 160, 0, 10),
            control_plane,
            labels: BTreeMap::from([("tier".into(), "apps".into()), ("zone".into(), "a".into())]),
            taints: vec![],
            runtime: "sim".into(),
        }
    }

    #[test]
    fn the_first_control_planes_know_all_members_of_etcd() {
        let members = BTreeMap::from([
            ("dev-control-plane-0".to_owned(), "10.160.0.10".to_owned()),
            ("dev-control-plane-1".to_owned(), "10.160.0.11".to_owned()),
        ]);
        insta::assert_snapshot!(init_file(&cluster(), &node("dev-control-plane-0", true), &members).unwrap());
    }

    #[test]
    fn a_worker_joins_by_token_and_hash_of_the_ca() {
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
        let mut worker = node("dev-default-0", false);
        worker.taints = vec![TaintFacts { key: "dedicated".into(), value: String::new(), effect: "NoSchedule".into() }];
        let file = join_file(&cluster(), &worker, &token, "sha256:00").unwrap();
        insta::assert_snapshot!(file);
        assert!(!file.contains("controlPlane:"));
        let joining = join_file(&cluster(), &node("dev-control-plane-1", true), &token, "sha256:00").unwrap();
        assert!(joining.contains("controlPlane:"), "{joining}");
    }
}
