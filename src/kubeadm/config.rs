//! From plain facts to the one file that kubeadm reads.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::documents::{
    ApiEndpoint, ApiServer, Argument, ClusterConfiguration, Component, ConfigVersion, Discovery, Etcd, FileDiscovery,
    InitConfiguration, JoinConfiguration, JoinControlPlane, KubeProxyConfiguration, KubeletConfiguration, Networking,
    NodeRegistration, PatchDirectory, ProxyConntrack, ProxyIptables, Taint,
};
use super::patches::{self, PatchError};
use super::token::BootstrapToken;
use super::{API_PORT, DISCOVERY_PATH, ETCD_PEER_PORT, PATCHES_PATH};
use crate::api::cluster::{IpFamily, KubeProxyMode};
use crate::api::defaults::{Components, Patches};

/// What holds for a whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Name of the cluster.
    pub name: String,
    /// Kubernetes version, `v1.35.5`.
    pub version: String,
    /// Name of the load balancer, as every node resolves it.
    pub endpoint_host: String,
    /// Addresses of the load balancer in the cluster's network.
    pub endpoint_addresses: Vec<IpAddr>,
    /// Address of this host under which people reach the API.
    pub host_address: String,
    /// Addresses of nodes, pods and services.
    pub ip_family: IpFamily,
    /// Addresses of pods, CIDR; of both families, parted by a comma.
    pub pod_subnet: String,
    /// Addresses of services, likewise.
    pub service_subnet: String,
    /// Kina itself gives nodes their ranges of pod addresses, and no controller does.
    pub gives_ranges: bool,
    /// Feature gates, APIs, kube-proxy, and patches for every node.
    pub components: Components,
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
    /// Its addresses for life, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Whether it runs the control plane.
    pub control_plane: bool,
    /// Labels at registration.
    pub labels: BTreeMap<String, String>,
    /// Taints at registration: these and no others.
    pub taints: Vec<TaintFacts>,
    /// Where containers run, for the provider id.
    pub runtime: String,
    /// Patches of its documents, after the cluster's.
    pub patches: Patches,
}

/// What a node's kubeadm is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// All documents, for [`super::CONFIG_PATH`].
    pub text: String,
    /// A merge patch of the kubelet's configuration on this node alone, for [`super::KUBELET_PATCH_PATH`]. The document itself
    /// is the whole cluster's: kubeadm stores the first control plane's, and gives that to every node that joins.
    pub kubelet_patch: Option<String>,
}

/// The configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not write the kubeadm configuration of {node}")]
pub struct ConfigError {
    /// The node it was for.
    pub node: String,
    /// Why.
    #[source]
    pub source: ConfigFault,
}

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// A patch does not fit.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// It could not be written as YAML.
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::ser_error::Error),
    /// It could not be written as JSON, which patches work on.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// `/kind/kubeadm.conf` of a control plane of the first day. `members` are the first members of etcd, names to
/// addresses, the node itself among them.
///
/// # Errors
/// [`ConfigError`] when the documents cannot be written.
pub fn init_file(
    cluster: &ClusterFacts,
    node: &NodeFacts,
    members: &BTreeMap<String, IpAddr>,
) -> Result<NodeConfig, ConfigError> {
    let init = |patches| InitConfiguration {
        api_version: ConfigVersion::of(&cluster.version).api_version(),
        kind: "InitConfiguration",
        local_api_endpoint: api_endpoint(node),
        node_registration: registration(cluster, node),
        skip_phases: skip_phases(cluster),
        patches,
    };
    file(cluster, node, &cluster_configuration(cluster, members), init)
}

/// `/kind/kubeadm.conf` of a node that joins by [`discovery`].
///
/// # Errors
/// [`ConfigError`] when the documents cannot be written.
pub fn join_file(cluster: &ClusterFacts, node: &NodeFacts) -> Result<NodeConfig, ConfigError> {
    let join = |patches| JoinConfiguration {
        api_version: ConfigVersion::of(&cluster.version).api_version(),
        kind: "JoinConfiguration",
        discovery: Discovery { file: FileDiscovery { kube_config_path: DISCOVERY_PATH } },
        node_registration: registration(cluster, node),
        control_plane: node.control_plane.then(|| JoinControlPlane { local_api_endpoint: api_endpoint(node) }),
        skip_phases: vec!["preflight"],
        patches,
    };
    file(cluster, node, &cluster_configuration(cluster, &BTreeMap::new()), join)
}

/// `/kind/discovery.conf` of a node that joins: a kubeconfig (in JSON, which is YAML) with the cluster's CA and a token. A
/// secret.
///
/// Discovery by the token alone would have to wait until the controller manager has signed `cluster-info`, some ten seconds
/// after the API first answers; whom to trust is known without it. The token is in the file, and not in `tlsBootstrapToken`,
/// so that nothing is asked anonymously, which a cluster may forbid: with credentials that may not read `cluster-info`
/// kubeadm goes on (`ValidateConfigInfo` in `cmd/kubeadm/app/discovery/file`).
#[must_use]
pub fn discovery(cluster: &ClusterFacts, token: &BootstrapToken, ca: &str) -> String {
    let (name, user) = ("kubernetes", "tls-bootstrap-token-user");
    let server = format!("https://{}", endpoint(cluster));
    let ca = STANDARD.encode(ca);
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": {"token": token.to_secret_string()}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    })
    .to_string()
}

/// Every node gets all documents: kind's entrypoint runs `kubeadm init phase certs apiserver` with them after an
/// address moved, also on nodes that joined.
fn file<T: serde::Serialize>(
    facts: &ClusterFacts,
    node: &NodeFacts,
    cluster: &ClusterConfiguration,
    step: impl Fn(Option<PatchDirectory>) -> T,
) -> Result<NodeConfig, ConfigError> {
    let components = &facts.components;
    let proxy = (components.proxy_mode != KubeProxyMode::None).then(|| kube_proxy(components));
    let made = match (&components.patches, &node.patches) {
        (all, own) if all.is_empty() && own.is_empty() => {
            let documents = texts(cluster, &step(None), &kubelet(facts), proxy.as_ref());
            documents.map(|documents| (documents, None))
        }
        (all, own) => patched(cluster, step, &kubelet(facts), proxy.as_ref(), all, own),
    };
    let (documents, kubelet_patch) = made.map_err(|source| ConfigError { node: node.name.clone(), source })?;
    let text = documents.iter().map(|document| format!("---\n{}\n", document.trim_end())).collect();
    Ok(NodeConfig { text, kubelet_patch })
}

fn texts<T: serde::Serialize>(
    cluster: &ClusterConfiguration,
    step: &T,
    kubelet: &KubeletConfiguration,
    proxy: Option<&KubeProxyConfiguration>,
) -> Result<Vec<String>, ConfigFault> {
    let mut texts =
        vec![serde_saphyr::to_string(cluster)?, serde_saphyr::to_string(step)?, serde_saphyr::to_string(kubelet)?];
    if let Some(proxy) = proxy {
        texts.push(serde_saphyr::to_string(proxy)?);
    }
    Ok(texts)
}

/// The documents, and the patch of the kubelet's: the node's own patches of that one stay beside the file.
fn patched<T: serde::Serialize>(
    cluster: &ClusterConfiguration,
    step: impl Fn(Option<PatchDirectory>) -> T,
    kubelet: &KubeletConfiguration,
    proxy: Option<&KubeProxyConfiguration>,
    all: &Patches,
    own: &Patches,
) -> Result<(Vec<String>, Option<String>), ConfigFault> {
    let kubelets = serde_json::to_value(kubelet)?;
    let (mut clusters, mut nodes) = (vec![kubelets.clone()], vec![kubelets]);
    patches::apply(&mut clusters, &[all])?;
    patches::apply(&mut nodes, &[all, own])?;
    let patch = patches::difference(&clusters[0], &nodes[0]);
    let directory = patch.is_some().then_some(PatchDirectory { directory: PATCHES_PATH });
    let mut documents = vec![serde_json::to_value(cluster)?, serde_json::to_value(step(directory))?];
    if let Some(proxy) = proxy {
        documents.push(serde_json::to_value(proxy)?);
    }
    patches::apply(&mut documents, &[all, own])?;
    documents.insert(2, clusters.remove(0));
    let texts = documents.iter().map(serde_saphyr::to_string).collect::<Result<_, _>>()?;
    Ok((texts, patch.map(|patch| format!("{patch}\n"))))
}

fn endpoint(cluster: &ClusterFacts) -> String {
    format!("{}:{API_PORT}", cluster.endpoint_host)
}

fn cluster_configuration(cluster: &ClusterFacts, members: &BTreeMap<String, IpAddr>) -> ClusterConfiguration {
    let mut sans = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    sans.extend(cluster.ip_family.has_v6().then(|| "::1".to_owned()));
    sans.push(cluster.endpoint_host.clone());
    sans.extend(cluster.endpoint_addresses.iter().map(IpAddr::to_string));
    if !sans.contains(&cluster.host_address) {
        sans.push(cluster.host_address.clone());
    }
    let etcd = if members.is_empty() {
        Vec::new()
    } else {
        let peers: Vec<String> =
            members.iter().map(|(name, address)| format!("{name}=https://{}", peer(*address))).collect();
        vec![Argument::new("initial-cluster", peers.join(",")), Argument::new("initial-cluster-state", "new")]
    };
    let version = ConfigVersion::of(&cluster.version);
    let components = &cluster.components;
    let gates = gates(components);
    let served = (!components.runtime_config.is_empty()).then(|| {
        let apis: Vec<String> = components.runtime_config.iter().map(|(api, value)| format!("{api}={value}")).collect();
        Argument::new("runtime-config", apis.join(","))
    });
    // For the hostPath fallback of images without a storage manifest, as kind does.
    let fallback = Argument::new("enable-hostpath-provisioner", "true");
    // kubeadm itself sets it where there is a subnet for pods; what is given here goes before that.
    let ranges = cluster.gives_ranges.then(|| Argument::new("allocate-node-cidrs", "false"));
    let listen = |address| (cluster.ip_family == IpFamily::Ipv6).then(|| Argument::new("bind-address", address));
    ClusterConfiguration {
        api_version: version.api_version(),
        kind: "ClusterConfiguration",
        kubernetes_version: cluster.version.clone(),
        cluster_name: cluster.name.clone(),
        control_plane_endpoint: endpoint(cluster),
        networking: Networking {
            pod_subnet: cluster.pod_subnet.clone(),
            service_subnet: cluster.service_subnet.clone(),
        },
        api_server: ApiServer { cert_sans: sans, extra_args: version.arguments(gates.iter().cloned().chain(served)) },
        controller_manager: Component {
            extra_args: version
                .arguments([fallback].into_iter().chain(ranges).chain(listen("::")).chain(gates.clone())),
        },
        scheduler: Component { extra_args: version.arguments(listen("::1").into_iter().chain(gates)) },
        etcd: Etcd { local: Component { extra_args: version.arguments(etcd) } },
    }
}

/// As an argument of the control plane's components.
fn gates(components: &Components) -> Option<Argument> {
    let gates: Vec<String> = components.feature_gates.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
    (!gates.is_empty()).then(|| Argument::new("feature-gates", gates.join(",")))
}

/// With brackets around an address of IPv6.
fn peer(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, ETCD_PEER_PORT)
}

fn api_endpoint(node: &NodeFacts) -> ApiEndpoint {
    let primary = node.addresses.first().map(IpAddr::to_string).unwrap_or_default();
    ApiEndpoint { advertise_address: primary, bind_port: API_PORT }
}

fn registration(cluster: &ClusterFacts, node: &NodeFacts) -> NodeRegistration {
    let labels: Vec<String> =
        node.labels.iter().filter(|(key, _)| is_kubelets(key)).map(|(key, value)| format!("{key}={value}")).collect();
    let addresses: Vec<String> = node.addresses.iter().map(IpAddr::to_string).collect();
    let mut arguments = vec![
        Argument::new("node-ip", addresses.join(",")),
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
        kubelet_extra_args: ConfigVersion::of(&cluster.version).arguments(arguments),
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
fn skip_phases(cluster: &ClusterFacts) -> Vec<&'static str> {
    match cluster.components.proxy_mode {
        KubeProxyMode::None => vec!["preflight", "addon/kube-proxy"],
        _ => vec!["preflight"],
    }
}

fn kubelet(cluster: &ClusterFacts) -> KubeletConfiguration {
    // Where there is no IPv4, everybody asks in IPv6 (as kind does).
    let listen = (cluster.ip_family == IpFamily::Ipv6).then_some("::");
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
        fail_cgroup_v1: (ConfigVersion::of(&cluster.version) == ConfigVersion::V1beta4).then_some(false),
        address: listen,
        healthz_bind_address: listen,
        feature_gates: cluster.components.feature_gates.clone(),
    }
}

fn kube_proxy(components: &Components) -> KubeProxyConfiguration {
    KubeProxyConfiguration {
        api_version: "kubeproxy.config.k8s.io/v1alpha1",
        kind: "KubeProxyConfiguration",
        mode: components.proxy_mode.as_str(),
        iptables: ProxyIptables { min_sync_period: "1s" },
        conntrack: ProxyConntrack { max_per_core: 0, tcp_be_liberal: components.proxy_mode == KubeProxyMode::Nftables },
        feature_gates: components.feature_gates.clone(),
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
            endpoint_addresses: vec![[10, 160, 0, 2].into()],
            ip_family: IpFamily::Ipv4,
            host_address: "127.0.0.1".into(),
            pod_subnet: "10.244.0.0/16".into(),
            service_subnet: "10.96.0.0/16".into(),
            gives_ranges: false,
            components: Components::default(),
        }
    }

    fn node(name: &str, control_plane: bool) -> NodeFacts {
        NodeFacts {
            name: name.into(),
            addresses: vec![[10, 160, 0, 10].into()],
            control_plane,
            labels: BTreeMap::from([("tier".into(), "apps".into()), ("zone".into(), "a".into())]),
            taints: vec![],
            runtime: "sim".into(),
            patches: Patches::default(),
        }
    }

    #[test]
    fn feature_gates_apis_and_patches_reach_every_document() {
        let mut cluster = cluster();
        cluster.components.feature_gates = BTreeMap::from([("SomeGate".to_owned(), true)]);
        cluster.components.runtime_config = BTreeMap::from([("api/alpha".to_owned(), "false".to_owned())]);
        cluster.components.proxy_mode = KubeProxyMode::Nftables;
        cluster.components.patches.merge = vec!["kind: KubeletConfiguration\nmaxPods: 20\n".to_owned()];
        let mut node = node("dev-control-plane-0", true);
        node.patches.merge = vec![
            "kind: InitConfiguration\nnodeRegistration: {kubeletExtraArgs: {node-labels: ingress=true}}\n".to_owned(),
        ];
        let members = BTreeMap::from([("dev-control-plane-0".to_owned(), [10, 160, 0, 10].into())]);
        insta::assert_snapshot!(init_file(&cluster, &node, &members).unwrap().text);
    }

    #[test]
    fn kubeadm_before_1_31_gets_v1beta3_with_arguments_as_maps() {
        let mut cluster = ClusterFacts { version: "v1.30.14".into(), ..cluster() };
        let members = BTreeMap::from([("dev-control-plane-0".to_owned(), [10, 160, 0, 10].into())]);
        let control_plane = node("dev-control-plane-0", true);
        insta::assert_snapshot!(init_file(&cluster, &control_plane, &members).unwrap().text);
        // Patches keep the form, whichever they are written in.
        cluster.components.patches.merge = vec![
            "kind: ClusterConfiguration\nscheduler: {extraArgs: [{name: v, value: '4'}]}\n".to_owned(),
            "kind: JoinConfiguration\nnodeRegistration: {kubeletExtraArgs: {v: '5', provider-id: null}}\n".to_owned(),
        ];
        let text = join_file(&cluster, &node("dev-default-0", false)).unwrap().text;
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(documents[0]["scheduler"]["extraArgs"], serde_json::json!({"v": "4"}), "{text}");
        let wanted = serde_json::json!({"node-ip": "10.160.0.10", "node-labels": "tier=apps,zone=a", "v": "5"});
        assert_eq!(documents[1]["nodeRegistration"]["kubeletExtraArgs"], wanted, "{text}");
        assert_eq!(documents[1]["apiVersion"], "kubeadm.k8s.io/v1beta3");
    }

    #[test]
    fn a_pools_patch_of_the_kubelet_is_the_nodes_alone() {
        let mut cluster = cluster();
        cluster.components.patches.merge = vec!["kind: KubeletConfiguration\nmaxPods: 20\n".to_owned()];
        let mut worker = node("dev-default-0", false);
        let own = "kind: KubeletConfiguration\nmaxPods: 30\nfailSwapOn: null\nevictionHard: {nodefs.available: 1%}\n";
        worker.patches.merge = vec![own.to_owned()];
        let made = join_file(&cluster, &worker).unwrap();
        assert!(made.text.contains("maxPods: 20") && made.text.contains("directory: /kind/patches"), "{}", made.text);
        let patch: serde_json::Value = serde_json::from_str(&made.kubelet_patch.unwrap()).unwrap();
        let wanted = serde_json::json!({"maxPods": 30, "failSwapOn": null, "evictionHard": {"nodefs.available": "1%"}});
        assert_eq!(patch, wanted);
        let alike = join_file(&cluster, &node("dev-default-0", false)).unwrap();
        assert!(alike.kubelet_patch.is_none() && !alike.text.contains("patches"), "{}", alike.text);
    }

    #[test]
    fn without_kube_proxy_its_phase_is_skipped() {
        let mut cluster = cluster();
        cluster.components.proxy_mode = KubeProxyMode::None;
        let file = init_file(&cluster, &node("dev-control-plane-0", true), &BTreeMap::new()).unwrap().text;
        assert!(file.contains("addon/kube-proxy") && !file.contains("KubeProxyConfiguration"), "{file}");
    }

    #[test]
    fn where_kina_gives_ranges_of_pods_no_controller_does() {
        let with = |gives_ranges| {
            let cluster = ClusterFacts { gives_ranges, ..cluster() };
            init_file(&cluster, &node("dev-control-plane-0", true), &BTreeMap::new()).unwrap().text
        };
        assert!(!with(false).contains("allocate-node-cidrs"));
        let text = with(true);
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        let arguments = documents[0]["controllerManager"]["extraArgs"].as_array().unwrap();
        assert!(arguments.contains(&serde_json::json!({"name": "allocate-node-cidrs", "value": "false"})), "{text}");
        assert_eq!(documents[0]["networking"]["podSubnet"], "10.244.0.0/16", "kube-proxy is told it");
    }

    #[test]
    fn the_first_control_planes_know_all_members_of_etcd() {
        let members = BTreeMap::from([
            ("dev-control-plane-0".to_owned(), [10, 160, 0, 10].into()),
            ("dev-control-plane-1".to_owned(), [10, 160, 0, 11].into()),
        ]);
        insta::assert_snapshot!(init_file(&cluster(), &node("dev-control-plane-0", true), &members).unwrap().text);
    }

    /// A cluster of this family, and its node in it, with the primary address first.
    fn of_family(ip_family: IpFamily, services: &str) -> (ClusterFacts, NodeFacts) {
        let four = |last: u8| IpAddr::from([10, 160, 0, last]);
        let six = |last: u16| IpAddr::from([0xfd6b, 0x696e, 0x610a, 0xa000, 0, 0, 0, last]);
        let mut cluster = ClusterFacts {
            endpoint_addresses: vec![four(2), six(2)],
            ip_family,
            service_subnet: services.into(),
            ..cluster()
        };
        let mut node = node("dev-control-plane-0", true);
        node.addresses = vec![four(10), six(10)];
        if services.starts_with("fd") {
            node.addresses.reverse();
        }
        if ip_family == IpFamily::Ipv6 {
            node.addresses.truncate(1);
            cluster.pod_subnet = "fd00:10:244::/56".into();
        } else {
            cluster.pod_subnet = "10.244.0.0/16,fd00:10:244::/56".into();
        }
        (cluster, node)
    }

    #[test]
    fn a_cluster_of_ipv6_listens_advertises_and_forms_its_etcd_in_ipv6() {
        let (cluster, node) = of_family(IpFamily::Ipv6, "fd00:10:96::/112");
        let members = BTreeMap::from([
            ("dev-control-plane-0".to_owned(), node.addresses[0]),
            ("dev-control-plane-1".to_owned(), "fd6b:696e:610a:a000::b".parse().unwrap()),
        ]);
        insta::assert_snapshot!(init_file(&cluster, &node, &members).unwrap().text);
    }

    #[test]
    fn a_node_of_a_dual_cluster_has_both_addresses_and_the_first_of_services_is_primary() {
        let members = |node: &NodeFacts| BTreeMap::from([("dev-control-plane-0".to_owned(), node.addresses[0])]);
        let (cluster, node) = of_family(IpFamily::Dual, "10.96.0.0/16,fd00:10:96::/112");
        insta::assert_snapshot!(init_file(&cluster, &node, &members(&node)).unwrap().text);
        let (cluster, node) = of_family(IpFamily::Dual, "fd00:10:96::/112,10.96.0.0/16");
        let text = init_file(&cluster, &node, &members(&node)).unwrap().text;
        for wanted in [
            "value: \"fd6b:696e:610a:a000::a,10.160.0.10\"",
            "advertiseAddress: fd6b:696e:610a:a000::a\n",
            "dev-control-plane-0=https://[fd6b:696e:610a:a000::a]:2380",
            "serviceSubnet: \"fd00:10:96::/112,10.96.0.0/16\"",
        ] {
            assert!(text.contains(wanted) || text.contains(&wanted.replace('"', "")), "{wanted} is not in\n{text}");
        }
        assert!(!text.contains("bind-address") && !text.contains("healthzBindAddress"), "{text}");
    }

    #[test]
    fn a_worker_joins_by_a_file_with_the_ca_and_a_token() {
        let mut worker = node("dev-default-0", false);
        worker.taints = vec![TaintFacts { key: "dedicated".into(), value: String::new(), effect: "NoSchedule".into() }];
        let file = join_file(&cluster(), &worker).unwrap().text;
        insta::assert_snapshot!(file);
        assert!(!file.contains("controlPlane:"));
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
        let discovery: serde_json::Value = serde_json::from_str(&discovery(&cluster(), &token, "the CA")).unwrap();
        let wanted = serde_json::json!({"server": "https://dev-lb:6443", "certificate-authority-data": "dGhlIENB"});
        assert_eq!(discovery["clusters"][0]["cluster"], wanted);
        assert_eq!(discovery["users"][0]["user"]["token"], "abcdef.0123456789abcdef");
        let joining = join_file(&cluster(), &node("dev-control-plane-1", true)).unwrap().text;
        assert!(joining.contains("controlPlane:"), "{joining}");
    }
}
