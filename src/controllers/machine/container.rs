//! The container that a Machine asks for, as a function of the Machine alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::cluster::{MachineResources, NodeNetwork, Quantity};
use crate::api::machine::{ContainerdPatches, MachineRole, MachineSpec};
use crate::api::node::{HostMount, MountPropagation, PortMapping, Protocol};
use crate::api::{Machine, ipv6, quantity};
use crate::controllers::identity::{self, FINGERPRINT};
use crate::host_mounts::plain;
use crate::kubeadm::API_PORT;
use crate::runtime::{
    Container, ContainerSpec, InstallationId, Labels, Mount, NodeLabels, OwnerLabels, Privileges, PublishedPort,
    Resources, Role,
};

/// The load balancer's place in every cluster's subnet.
pub const LOAD_BALANCER_INDEX: u8 = 2;
/// Where the storage class that comes with node images keeps what is claimed.
const LOCAL_VOLUMES: &str = "/var/local-path-provisioner";
/// The first place of a machine; those below are kept free.
pub const FIRST_MACHINE_INDEX: u32 = 10;

/// The UID of the Cluster that owns a Machine.
#[must_use]
pub fn cluster_uid(machine: &Machine) -> Option<&str> {
    let owners: &[OwnerReference] = machine.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.kind == "Cluster").map(|owner| owner.uid.as_str())
}

/// The UID under which a Machine's things on the host are known: its own, unless it adopted them.
#[must_use]
pub fn identity(machine: &Machine) -> Option<&str> {
    machine.spec.identity.machine.as_deref().or(machine.metadata.uid.as_deref())
}

/// Labels of everything that is made for a Machine.
#[must_use]
pub fn owner(installation: &InstallationId, machine: &Machine) -> Option<OwnerLabels> {
    Some(OwnerLabels {
        installation: installation.clone(),
        cluster: machine.spec.cluster.clone(),
        cluster_uid: machine.spec.identity.cluster.as_deref().or(cluster_uid(machine))?.to_owned(),
        machine_uid: Some(identity(machine)?.to_owned()),
        role: Some(match machine.spec.role {
            MachineRole::ControlPlane => Role::ControlPlane,
            MachineRole::Worker => Role::Worker,
        }),
        spec_hash: None,
    })
}

/// What never changes about a Machine's node, on its container and on its volume.
#[must_use]
pub fn node_labels(machine: &Machine) -> Labels {
    let fingerprint = machine.metadata.annotations.as_ref().and_then(|all| all.get(FINGERPRINT));
    let (address, fingerprint) = (machine.spec.address.parse::<Ipv4Addr>(), fingerprint.cloned());
    let (Ok(address), Some(fingerprint)) = (address, fingerprint) else { return Labels::new() };
    NodeLabels { address, version: machine.spec.kubernetes_version.clone(), fingerprint }.to_labels()
}

/// The container, its labels with its hash among them, which is [`wanted_hash`]. `None` for an address that is none.
#[must_use]
pub fn wanted(name: &str, spec: &MachineSpec, owner: &OwnerLabels, hash: &str) -> Option<ContainerSpec> {
    let mut container = unlabelled(name, spec)?;
    container.labels = OwnerLabels { spec_hash: Some(hash.to_owned()), ..owner.clone() }.to_labels();
    Some(container)
}

fn unlabelled(name: &str, spec: &MachineSpec) -> Option<ContainerSpec> {
    let address: Ipv4Addr = spec.address.parse().ok()?;
    Some(ContainerSpec {
        name: name.to_owned(),
        image: spec.image.clone(),
        labels: BTreeMap::new(),
        network: match spec.network() {
            NodeNetwork::Cluster => format!("kina-{}", spec.cluster),
            NodeNetwork::Default => NodeNetwork::Default.as_str().to_owned(),
        },
        address: Some(address),
        ipv6_address: spec.ip_family.filter(|family| family.has_v6()).map(|_| ipv6::beside(address)),
        environment: environment(&spec.containerd),
        mounts: mounts(name, spec.role, &spec.extra_mounts),
        host_mounts: spec.extra_mounts.clone(),
        ports: api_port(spec)?.into_iter().chain(ports(&spec.extra_port_mappings)).collect(),
        resources: resources(spec.resources.as_ref()),
        hosts: BTreeMap::from([(format!("{}-lb", spec.cluster), endpoint_address(spec)?)]),
        dns_search: spec.dns_search.clone(),
        privileges: Privileges::Node,
        command: Vec::new(),
    })
}

/// The address that the name of the cluster's endpoint has in a machine: the load balancer's, or its own where none is in
/// front of it. `None` for an address that is none.
#[must_use]
pub fn endpoint_address(spec: &MachineSpec) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = spec.address.parse().ok()?;
    let [a, b, c, _] = address.octets();
    Some(match spec.network() {
        NodeNetwork::Cluster => Ipv4Addr::new(a, b, c, LOAD_BALANCER_INDEX),
        NodeNetwork::Default => address,
    })
}

/// The port of its API server, where it publishes that itself. `None` for an endpoint that is none.
fn api_port(spec: &MachineSpec) -> Option<Option<PublishedPort>> {
    let Some(endpoint) = &spec.api_endpoint else { return Some(None) };
    let endpoint: SocketAddr = endpoint.parse().ok()?;
    Some(Some(PublishedPort {
        host_address: endpoint.ip(),
        host_port: endpoint.port(),
        container_port: API_PORT,
        protocol: Protocol::Tcp,
    }))
}

/// Hash of what a container is made from, its labels apart.
#[must_use]
pub fn hash(spec: &ContainerSpec) -> String {
    // Debug output of our own plain data: it changes only where the fields do, and then a roll is due, or the meaning
    // of a container has changed.
    let unlabelled = ContainerSpec { labels: BTreeMap::new(), ..spec.clone() };
    // What nobody asks for says nothing: containers from before there was such a field stay as they are.
    identity::hash(&format!("{unlabelled:?}").replace(" ipv6_address: None,", ""))
}

/// The hash that the container of a spec would carry.
#[must_use]
pub fn wanted_hash(name: &str, spec: &MachineSpec) -> Option<String> {
    unlabelled(name, spec).map(|container| hash(&container))
}

/// What a runtime shows otherwise than it was asked for: `(field, wanted, seen)`.
#[must_use]
pub fn altered(wanted: &ContainerSpec, seen: &Container) -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    let mut compare = |field, wanted: String, seen: String| {
        if wanted != seen {
            found.push((field, wanted, seen));
        }
    };
    compare("image", wanted.image.clone(), seen.image.clone());
    compare("resources", limits(&wanted.resources), limits(&seen.resources));
    compare("mounts", targets(&wanted.mounts), targets(&seen.mounts));
    let extra: Vec<HostMount> = wanted.host_mounts.iter().map(cleaned).collect();
    let seen_extra: Vec<HostMount> = seen.host_mounts.iter().map(|seen| as_asked(cleaned(seen), &extra)).collect();
    compare("extraMounts", host_mounts(&extra), host_mounts(&seen_extra));
    compare("ports", published(&wanted.ports), published(&seen.ports));
    compare("network", wanted.network.clone(), seen.network.clone().unwrap_or_else(|| "none".to_owned()));
    found
}

/// Whether a container has the mounts of a machine, from the machine's own volume.
#[must_use]
pub fn has_mounts(seen: &Container, volume: &str, role: MachineRole) -> bool {
    targets(&seen.mounts) == targets(&mounts(volume, role, &seen.host_mounts))
        && seen.mounts.iter().all(|mount| mount.volume == volume)
}

fn limits(resources: &Resources) -> String {
    let cpus = resources.cpu_millis.map_or_else(|| "any".to_owned(), |millis| format!("{millis}m"));
    let memory = resources.memory_bytes.map_or_else(|| "any".to_owned(), |bytes| bytes.to_string());
    format!("cpus {cpus}, memory {memory}")
}

fn targets(mounts: &[Mount]) -> String {
    let mut targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
    targets.sort_unstable();
    targets.join(" ")
}

/// Its paths as runtimes show them: Docker and Podman take away slashes too many.
fn cleaned(mount: &HostMount) -> HostMount {
    let cleaned = |path: &str| plain(Path::new(path)).display().to_string();
    HostMount { host_path: cleaned(&mount.host_path), container_path: cleaned(&mount.container_path), ..mount.clone() }
}

/// Who asks for no propagation leaves it to the engine: Docker gives paths that hold its own data `rslave`.
fn as_asked(seen: HostMount, wanted: &[HostMount]) -> HostMount {
    let asks_for_none = |mount: &&HostMount| mount.propagation == MountPropagation::None;
    let asked = wanted.iter().find(|mount| mount.container_path == seen.container_path).filter(asks_for_none);
    match (asked, seen.propagation) {
        (Some(_), MountPropagation::HostToContainer) => HostMount { propagation: MountPropagation::None, ..seen },
        _ => seen,
    }
}

fn host_mounts(mounts: &[HostMount]) -> String {
    let text = |mount: &HostMount| {
        let HostMount { host_path, container_path, read_only, propagation, .. } = mount;
        let mode = if *read_only { "ro" } else { "rw" };
        format!("{host_path}:{container_path}:{mode}:{propagation:?}")
    };
    let mut mounts: Vec<String> = mounts.iter().map(text).collect();
    mounts.sort_unstable();
    mounts.join(" ")
}

fn published(ports: &[PublishedPort]) -> String {
    let text = |port: &PublishedPort| {
        let PublishedPort { host_address, host_port, container_port, protocol } = port;
        format!("{}:{container_port}/{protocol:?}", SocketAddr::new(*host_address, *host_port))
    };
    let mut ports: Vec<String> = ports.iter().map(text).collect();
    ports.sort_unstable();
    ports.join(" ")
}

/// Those without a port of the host are none yet: it is being chosen.
fn ports(mappings: &[PortMapping]) -> Vec<PublishedPort> {
    let published = |mapping: &PortMapping| {
        let (host_address, host_port) = mapping.listens_on()?;
        let PortMapping { container_port, protocol, .. } = *mapping;
        Some(PublishedPort { host_address, host_port, container_port, protocol })
    };
    mappings.iter().filter_map(published).collect()
}

/// The first process of a node has no use for it: a container whose configuration is to be another is made anew.
fn environment(containerd: &ContainerdPatches) -> BTreeMap<String, String> {
    match containerd.is_empty() {
        true => BTreeMap::new(),
        false => BTreeMap::from([("KINA_CONTAINERD".to_owned(), containerd_hash(containerd))]),
    }
}

/// Of everything that a node's containerd is told.
#[must_use]
pub fn containerd_settings_hash(spec: &MachineSpec) -> String {
    match spec.registries.as_deref().unwrap_or_default() {
        [] => containerd_hash(&spec.containerd),
        registries => identity::hash(&format!("{:?} {registries:?}", spec.containerd)),
    }
}

/// Of the patches that a node's containerd is started with.
#[must_use]
pub fn containerd_hash(patches: &ContainerdPatches) -> String {
    identity::hash(&format!("{patches:?}"))
}

/// Directories of a machine's volume. One place is the user's where they want it: claims then lie on the host.
fn mounts(volume: &str, role: MachineRole, extra: &[HostMount]) -> Vec<Mount> {
    let mount = |subdirectory: &str, target: &str| Mount {
        volume: volume.to_owned(),
        subdirectory: subdirectory.to_owned(),
        target: target.to_owned(),
    };
    let mut mounts = vec![mount("etc-kubernetes", "/etc/kubernetes"), mount("kubelet", "/var/lib/kubelet")];
    if !extra.iter().any(|extra| plain(Path::new(&extra.container_path)) == Path::new(LOCAL_VOLUMES)) {
        mounts.push(mount("local-volumes", LOCAL_VOLUMES));
    }
    if role == MachineRole::ControlPlane {
        mounts.push(mount("etcd", "/var/lib/etcd"));
    }
    mounts
}

/// Limits, as a Machine has them.
#[must_use]
pub fn machine_resources(limits: Resources) -> MachineResources {
    let Resources { cpu_millis, memory_bytes } = limits;
    let cpus =
        cpu_millis.map(|millis| if millis % 1000 == 0 { (millis / 1000).to_string() } else { format!("{millis}m") });
    let memory = memory_bytes.map(|bytes| match bytes % (1 << 30) {
        0 => format!("{}Gi", bytes >> 30),
        _ => bytes.to_string(),
    });
    MachineResources { cpus: cpus.map(Quantity), memory: memory.map(Quantity) }
}

/// Limits of a container, as a Machine or its pool has them.
#[must_use]
pub fn resources(wanted: Option<&MachineResources>) -> Resources {
    Resources {
        cpu_millis: wanted.and_then(|r| r.cpus.as_ref()).and_then(|cpus| quantity::cpu_millis(&cpus.0)),
        memory_bytes: wanted.and_then(|r| r.memory.as_ref()).and_then(|memory| quantity::bytes(&memory.0)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::{ContainerId, ContainerState};

    const VOLUME: &str = "dev-default-0";

    fn extra(host_path: &str, container_path: &str, propagation: MountPropagation) -> HostMount {
        HostMount {
            host_path: host_path.to_owned(),
            container_path: container_path.to_owned(),
            propagation,
            ..HostMount::default()
        }
    }

    fn asked(extra_mounts: &[HostMount]) -> ContainerSpec {
        let spec = serde_json::from_value(json!({
            "cluster": "dev", "role": "worker", "pool": "default", "ordinal": 0, "runtime": "docker",
            "image": "kindest/node:v1.35.5", "kubernetesVersion": "v1.35.5", "address": "10.160.0.10",
            "extraMounts": extra_mounts, "bootstrap": {"method": "Join"},
        }));
        let spec: MachineSpec = spec.unwrap();
        unlabelled(VOLUME, &spec).unwrap()
    }

    /// The container of a spec, with these mounts of the host.
    fn shown(wanted: &ContainerSpec, host_mounts: &[HostMount]) -> Container {
        Container {
            id: ContainerId("1".to_owned()),
            name: wanted.name.clone(),
            state: ContainerState::Running,
            labels: Labels::new(),
            image: wanted.image.clone(),
            network: Some(wanted.network.clone()),
            address: wanted.address,
            ipv6_address: None,
            mounts: wanted.mounts.clone(),
            host_mounts: host_mounts.to_vec(),
            ports: wanted.ports.clone(),
            resources: wanted.resources,
        }
    }

    #[test]
    fn slashes_too_many_are_no_difference() {
        let wanted = asked(&[extra("/srv//data/", "/data/", MountPropagation::None)]);
        let seen = |path: &str| shown(&wanted, &[extra("/srv/data", path, MountPropagation::None)]);
        assert_eq!(altered(&wanted, &seen("/data")), []);
        assert_eq!(altered(&wanted, &seen("/other")).len(), 1);
    }

    #[test]
    fn a_propagation_that_nobody_asked_for_is_the_engines() {
        let seen = |wanted, seen| {
            let wanted = asked(&[extra("/var/lib", "/host", wanted)]);
            altered(&wanted, &shown(&wanted, &[extra("/var/lib", "/host", seen)])).len()
        };
        assert_eq!(seen(MountPropagation::None, MountPropagation::HostToContainer), 0);
        assert_eq!(seen(MountPropagation::None, MountPropagation::Bidirectional), 1);
        assert_eq!(seen(MountPropagation::Bidirectional, MountPropagation::HostToContainer), 1);
    }

    #[test]
    fn claims_lie_on_the_host_where_a_mount_says_so_and_the_container_is_adopted_as_such() {
        let targets = |wanted: &ContainerSpec| super::targets(&wanted.mounts);
        let usual = asked(&[extra("/srv", "/srv", MountPropagation::None)]);
        assert_eq!(targets(&usual), "/etc/kubernetes /var/lib/kubelet /var/local-path-provisioner");
        let claims = [extra("/srv", "/var/local-path-provisioner/", MountPropagation::None)];
        let wanted = asked(&claims);
        assert_eq!(targets(&wanted), "/etc/kubernetes /var/lib/kubelet");
        assert!(has_mounts(&shown(&wanted, &claims), VOLUME, MachineRole::Worker));
        assert!(!has_mounts(&shown(&wanted, &[]), VOLUME, MachineRole::Worker));
    }
}
