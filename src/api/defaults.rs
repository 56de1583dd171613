//! Defaults that depend on the host or on Kina's version: resolved once, at creation, and stored in the spec.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::cidr::{Cidr, Cidr6, Subnets};
use super::cluster::{ClusterSpec, Cni, IpFamily, KubeProxyMode, NodeNetwork, PoolSettings, RuntimeName};
use super::ipv6;
use super::node::{JsonPatch6902, PortMapping};
use super::quantity;
use super::versions::{self, KubernetesVersion};

/// Addresses of pods where the spec names none, as kind has them.
pub const POD_SUBNET: &str = "10.244.0.0/16";
/// Addresses of services where the spec names none, as kind has them.
pub const SERVICE_SUBNET: &str = "10.96.0.0/16";
/// The same of IPv6, as kind has them.
pub const POD_SUBNET6: &str = "fd00:10:244::/56";
/// The same of IPv6, as kind has them.
pub const SERVICE_SUBNET6: &str = "fd00:10:96::/112";
/// Where /24s for machines are taken from: 8,192 of them, apart from the defaults for pods and services.
pub const NODE_SUBNETS: &str = "10.160.0.0/11";

/// What only the host can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDefaults {
    /// The runtime that `auto` means here; never `auto`.
    pub runtime: RuntimeName,
    /// The network for machines.
    pub node_network: NodeNetwork,
    /// A free /24 for machines.
    pub node_subnet: Cidr,
    /// A free port for the API endpoint.
    pub api_port: u16,
    /// Free ports for the mappings that name none: as many as [`open_ports`] counts.
    pub mapped_ports: Vec<u16>,
}

/// Subnets of pods and of services where the spec names none.
#[must_use]
pub fn subnets(family: IpFamily) -> (String, String) {
    match family {
        IpFamily::Ipv4 => (POD_SUBNET.to_owned(), SERVICE_SUBNET.to_owned()),
        IpFamily::Ipv6 => (POD_SUBNET6.to_owned(), SERVICE_SUBNET6.to_owned()),
        IpFamily::Dual => (format!("{POD_SUBNET},{POD_SUBNET6}"), format!("{SERVICE_SUBNET},{SERVICE_SUBNET6}")),
    }
}

/// Whether a default is still to be resolved.
#[must_use]
pub fn is_resolved(spec: &ClusterSpec) -> bool {
    Resolved::of(spec).is_some() && open_ports(spec) == 0
}

/// How many port mappings leave the port of the host open.
#[must_use]
pub fn open_ports(spec: &ClusterSpec) -> usize {
    mappings(spec).filter(|mapping| mapping.is_open()).count()
}

/// Every port mapping of a Cluster: control planes first.
pub fn mappings(spec: &ClusterSpec) -> impl Iterator<Item = &PortMapping> {
    let workers = spec.workers.iter().flat_map(|pool| &pool.extra_port_mappings);
    spec.control_plane.extra_port_mappings.iter().chain(workers)
}

/// The spec with every default in place. What is already there stays as it is.
#[must_use]
pub fn resolve(spec: &ClusterSpec, host: &HostDefaults) -> ClusterSpec {
    let mut spec = spec.clone();
    // An image of somebody else's may have a tag of its own kind, which is no version of Kubernetes.
    let named = spec.image.as_deref().or(spec.control_plane.image.as_deref()).and_then(KubernetesVersion::of_tag);
    let named = named.map(|(_, version)| version).filter(|version| version.is_supported());
    let version = spec.kubernetes_version.get_or_insert_with(|| named.unwrap_or(versions::DEFAULT).to_string()).clone();
    if spec.image.is_none() {
        spec.image = KubernetesVersion::parse(&version).map(KubernetesVersion::node_image);
    }
    if spec.runtime.is_none_or(RuntimeName::is_auto) {
        spec.runtime = Some(host.runtime);
    }
    let networking = &mut spec.networking;
    let (pods, services) = subnets(networking.family());
    networking.pod_subnet.get_or_insert(pods);
    networking.service_subnet.get_or_insert(services);
    // Saying nothing is saying `cluster`, then as later.
    if host.node_network != NodeNetwork::default() {
        networking.node_network.get_or_insert(host.node_network);
    }
    networking.node_subnet.get_or_insert_with(|| host.node_subnet.to_string());
    networking.cni.get_or_insert(Cni::Auto);
    networking.api_server.address.get_or_insert_with(|| Ipv4Addr::LOCALHOST.to_string());
    if networking.api_server.port.is_none_or(|port| port == 0) {
        networking.api_server.port = Some(host.api_port);
    }
    let workers = spec.workers.iter_mut().flat_map(|pool| &mut pool.extra_port_mappings);
    let open = spec.control_plane.extra_port_mappings.iter_mut().chain(workers).filter(|mapping| mapping.is_open());
    for (mapping, port) in open.zip(&host.mapped_ports) {
        mapping.host_port = Some(*port);
    }
    spec
}

/// What kubeadm is told besides subnets and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Components {
    /// Feature gates of all components.
    pub feature_gates: BTreeMap<String, bool>,
    /// APIs that the API server serves, or not.
    pub runtime_config: BTreeMap<String, String>,
    /// How kube-proxy works.
    pub proxy_mode: KubeProxyMode,
    /// Patches for every node.
    pub patches: Patches,
    /// Patches for control planes.
    pub control_plane: Patches,
    /// Patches for the workers of pools that have any.
    pub workers: BTreeMap<String, Patches>,
}

/// Patches of kubeadm's documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    /// RFC 7386, YAML.
    pub merge: Vec<String>,
    /// RFC 6902.
    pub json: Vec<JsonPatch6902>,
}

impl Patches {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.merge.is_empty() && self.json.is_empty()
    }
}

impl Components {
    fn of(spec: &ClusterSpec) -> Self {
        let patches = |merge: &[String], json: &[JsonPatch6902]| Patches { merge: merge.to_vec(), json: json.to_vec() };
        let of_pool =
            |pool: PoolSettings<'_>| patches(pool.kubeadm_config_patches, pool.kubeadm_config_patches_json6902);
        let workers = spec.workers.iter().map(|pool| (pool.name.clone(), of_pool(pool.settings())));
        Self {
            feature_gates: spec.feature_gates.clone(),
            runtime_config: spec.runtime_config.clone(),
            proxy_mode: spec.networking.kube_proxy_mode.unwrap_or_default(),
            patches: patches(&spec.kubeadm_config_patches, &spec.kubeadm_config_patches_json6902),
            control_plane: of_pool(spec.control_plane.settings()),
            workers: workers.filter(|(_, patches)| !patches.is_empty()).collect(),
        }
    }
}

/// A spec whose defaults are all resolved, in types: what planners work with.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Kubernetes version.
    pub version: KubernetesVersion,
    /// Node image.
    pub image: String,
    /// Node image of the control planes, where it is another one.
    pub control_plane_image: Option<String>,
    /// Runtime, never `auto`.
    pub runtime: RuntimeName,
    /// Addresses of nodes, pods and services.
    pub ip_family: IpFamily,
    /// Addresses of pods.
    pub pod_subnet: Subnets,
    /// Addresses of services.
    pub service_subnet: Subnets,
    /// The network that machines are in.
    pub node_network: NodeNetwork,
    /// Addresses of machines.
    pub node_subnet: Cidr,
    /// Pod network.
    pub cni: Cni,
    /// Where the API is reached from the host.
    pub endpoint: SocketAddr,
    /// What kubeadm is told besides.
    pub components: Components,
    /// Time between comparisons.
    pub drift_interval: Duration,
    /// Time until the Cluster is deleted by itself.
    pub ttl: Option<Duration>,
}

impl Resolved {
    /// The types of a spec; `None` while a default is missing, or a value is no valid one.
    #[must_use]
    pub fn of(spec: &ClusterSpec) -> Option<Self> {
        let networking = &spec.networking;
        let subnets =
            |text: &Option<String>| text.as_ref().and_then(|text| Subnets::parse(text, networking.family()).ok());
        let address: IpAddr = networking.api_server.address.as_ref()?.parse().ok()?;
        Some(Self {
            version: KubernetesVersion::parse(spec.kubernetes_version.as_ref()?)?,
            image: spec.image.clone()?,
            control_plane_image: spec.control_plane.image.clone(),
            runtime: spec.runtime.filter(|name| !name.is_auto())?,
            ip_family: networking.family(),
            pod_subnet: subnets(&networking.pod_subnet)?,
            service_subnet: subnets(&networking.service_subnet)?,
            node_network: networking.nodes(),
            node_subnet: networking.node_subnet.as_ref()?.parse().ok()?,
            cni: networking.cni?,
            endpoint: SocketAddr::new(address, networking.api_server.port.filter(|&port| port != 0)?),
            components: Components::of(spec),
            drift_interval: quantity::duration(&spec.drift.interval)?,
            ttl: match &spec.ttl {
                Some(ttl) => Some(quantity::duration(ttl)?),
                None => None,
            },
        })
    }

    /// Addresses of machines in IPv6, where they have any.
    #[must_use]
    pub fn node_subnet6(&self) -> Option<Cidr6> {
        self.ip_family.has_v6().then(|| ipv6::node_subnet(self.node_subnet))
    }

    /// The addresses of what has this one in the network of machines, the primary one first: that of the family that
    /// services have first.
    #[must_use]
    pub fn addresses(&self, address: Ipv4Addr) -> Vec<IpAddr> {
        let (four, six) = (IpAddr::V4(address), IpAddr::V6(ipv6::beside(address)));
        match self.ip_family {
            IpFamily::Ipv4 => vec![four],
            IpFamily::Ipv6 => vec![six],
            IpFamily::Dual if self.service_subnet.begins_with_v6() => vec![six, four],
            IpFamily::Dual => vec![four, six],
        }
    }

    /// All addresses of what has this one in the network of machines, whether Kubernetes knows them or not.
    #[must_use]
    pub fn all_addresses(&self, address: Ipv4Addr) -> Vec<IpAddr> {
        let six = self.ip_family.has_v6().then(|| IpAddr::V6(ipv6::beside(address)));
        std::iter::once(IpAddr::V4(address)).chain(six).collect()
    }

    /// URL of the API as seen from the host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostDefaults {
        HostDefaults {
            runtime: RuntimeName::Sim,
            node_network: NodeNetwork::Cluster,
            node_subnet: "10.160.3.0/24".parse().unwrap(),
            api_port: 40_001,
            mapped_ports: vec![40_002, 40_003],
        }
    }

    #[test]
    fn an_empty_spec_is_resolved_once_and_then_stays() {
        let spec = ClusterSpec::default();
        assert!(!is_resolved(&spec));
        let resolved = resolve(&spec, &host());
        assert_eq!(Resolved::of(&resolved).unwrap().url(), "https://127.0.0.1:40001");
        assert_eq!(resolved.image.as_deref(), Some("docker.io/kindest/node:v1.35.5"));
        let other = HostDefaults { runtime: RuntimeName::Docker, api_port: 1, ..host() };
        assert_eq!(resolve(&resolved, &other), resolved);
    }

    #[test]
    fn the_network_of_machines_is_the_clusters_own_and_stored_only_where_it_is_not() {
        let spec = ClusterSpec::default();
        let own = resolve(&spec, &host());
        assert_eq!((own.networking.node_network, own.networking.nodes()), (None, NodeNetwork::Cluster));
        let lone = HostDefaults { node_network: NodeNetwork::Default, ..host() };
        let resolved = resolve(&spec, &lone);
        assert_eq!(Resolved::of(&resolved).unwrap().node_network, NodeNetwork::Default);
        assert_eq!(resolve(&resolved, &host()), resolved);
        let mut named = spec;
        named.networking.node_network = Some(NodeNetwork::Cluster);
        assert_eq!(resolve(&named, &lone).networking.nodes(), NodeNetwork::Cluster);
    }

    #[test]
    fn the_version_is_that_of_the_image_where_only_the_image_is_named() {
        let version = |image: &str| {
            let spec = ClusterSpec { image: Some(image.into()), ..Default::default() };
            resolve(&spec, &host()).kubernetes_version.unwrap()
        };
        assert_eq!(version("kindest/node:v1.33.1@sha256:00"), "v1.33.1");
        assert_eq!(version("localhost:5000/nodes/mine:v1.34.4"), "v1.34.4");
        for silent in ["mine:latest", "mine:v0.9.1", "mine"] {
            assert_eq!(version(silent), versions::DEFAULT.to_string(), "{silent}");
        }
    }

    #[test]
    fn what_the_user_names_is_kept() {
        let mut spec = ClusterSpec { runtime: Some(RuntimeName::Auto), ..Default::default() };
        spec.networking.api_server.port = Some(7443);
        spec.networking.pod_subnet = Some("10.1.0.0/16".into());
        let resolved = Resolved::of(&resolve(&spec, &host())).unwrap();
        assert_eq!(resolved.endpoint.port(), 7443);
        assert_eq!(resolved.pod_subnet.to_string(), "10.1.0.0/16");
        assert_eq!(resolved.runtime, RuntimeName::Sim);
    }

    #[test]
    fn ports_of_the_host_are_chosen_for_mappings_that_name_none() {
        let mut spec = ClusterSpec::default();
        let mapping = |container_port, host_port| PortMapping { container_port, host_port, ..Default::default() };
        spec.control_plane.extra_port_mappings =
            vec![mapping(80, None), mapping(443, Some(8443)), mapping(53, Some(0))];
        assert_eq!(open_ports(&spec), 2);
        let resolved = resolve(&spec, &host());
        assert!(is_resolved(&resolved) && !is_resolved(&spec));
        let ports: Vec<_> = mappings(&resolved).map(|mapping| mapping.host_port.unwrap()).collect();
        assert_eq!(ports, [40_002, 8443, 40_003]);
    }

    #[test]
    fn each_family_has_its_own_default_subnets_and_the_first_of_services_is_primary() {
        let resolved = |family, services: Option<&str>| {
            let mut spec = ClusterSpec::default();
            (spec.networking.ip_family, spec.networking.service_subnet) = (family, services.map(str::to_owned));
            Resolved::of(&resolve(&spec, &host())).unwrap()
        };
        let told = |family, services| {
            let found = resolved(Some(family), services);
            let addresses = found.addresses(Ipv4Addr::new(10, 160, 3, 10));
            let nodes = found.node_subnet6().map(|subnet| subnet.to_string());
            format!("{} {} {:?} {addresses:?}", found.pod_subnet, found.service_subnet, nodes)
        };
        assert_eq!(resolved(None, None), resolved(Some(IpFamily::Ipv4), None));
        insta::assert_snapshot!([
            told(IpFamily::Ipv4, None),
            told(IpFamily::Ipv6, None),
            told(IpFamily::Dual, None),
            told(IpFamily::Dual, Some("fd00:10:96::/112,10.96.0.0/16")),
        ].join("\n"), @r#"
        10.244.0.0/16 10.96.0.0/16 None [10.160.3.10]
        fd00:10:244::/56 fd00:10:96::/112 Some("fd6b:696e:610a:a003::/64") [fd6b:696e:610a:a003::a]
        10.244.0.0/16,fd00:10:244::/56 10.96.0.0/16,fd00:10:96::/112 Some("fd6b:696e:610a:a003::/64") [10.160.3.10, fd6b:696e:610a:a003::a]
        10.244.0.0/16,fd00:10:244::/56 fd00:10:96::/112,10.96.0.0/16 Some("fd6b:696e:610a:a003::/64") [fd6b:696e:610a:a003::a, 10.160.3.10]
        "#);
    }

    #[test]
    fn the_default_subnets_do_not_overlap() {
        let subnets: Vec<Cidr> =
            [POD_SUBNET, SERVICE_SUBNET, NODE_SUBNETS].iter().map(|text| text.parse().unwrap()).collect();
        for (index, left) in subnets.iter().enumerate() {
            assert!(subnets[index + 1..].iter().all(|right| !left.overlaps(*right)));
        }
        let subnets: Vec<Cidr6> =
            [POD_SUBNET6, SERVICE_SUBNET6, ipv6::NODE_SUBNETS].iter().map(|text| text.parse().unwrap()).collect();
        for (index, left) in subnets.iter().enumerate() {
            assert!(subnets[index + 1..].iter().all(|right| !left.overlaps(*right)));
        }
    }
}
