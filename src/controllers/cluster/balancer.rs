//! The load balancer and the network, as functions of a Cluster.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::api::defaults::Resolved;
use crate::api::machine::MachineRole;
use crate::api::node::Protocol;
use crate::api::{Machine, ipv6};
use crate::controllers::identity;
use crate::controllers::machine::container::{self, LOAD_BALANCER_INDEX};
use crate::kubeadm::{API_PORT, balancer, overlay};
use crate::runtime::{ContainerSpec, NetworkSpec, NodeFile, OwnerLabels, Privileges, PublishedPort, Resources, Role};

/// Labels of the load balancer.
#[must_use]
pub fn owner(cluster: &OwnerLabels) -> OwnerLabels {
    OwnerLabels { role: Some(Role::LoadBalancer), ..cluster.clone() }
}

/// The network. Where the runtime does not pin addresses, those of the Cluster's subnet are on top of its network, which has
/// whatever subnet the runtime gives it.
#[must_use]
pub fn network(name: &str, spec: &Resolved, owner: &OwnerLabels, pins_addresses: bool) -> NetworkSpec {
    let labels = OwnerLabels { spec_hash: Some(identity::of_network(spec)), ..owner.clone() }.to_labels();
    let pinned = |subnet: Option<String>| subnet.filter(|_| pins_addresses);
    NetworkSpec {
        name: format!("kina-{name}"),
        subnet: pinned(Some(spec.node_subnet.to_string())),
        ipv6_subnet: pinned(spec.node_subnet6().map(|subnet| subnet.to_string())),
        labels,
    }
}

/// The image of the load balancer: the one that the control planes need anyway.
#[must_use]
pub fn image(spec: &Resolved) -> &str {
    spec.control_plane_image.as_ref().unwrap_or(&spec.image)
}

/// The load balancer's container.
#[must_use]
pub fn wanted(name: &str, spec: &Resolved, cluster: &OwnerLabels) -> ContainerSpec {
    let address = spec.node_subnet.address(LOAD_BALANCER_INDEX.into());
    let mut wanted = ContainerSpec {
        name: format!("{name}-lb"),
        image: image(spec).to_owned(),
        labels: BTreeMap::new(),
        network: format!("kina-{name}"),
        address,
        // It forwards in IPv4 alone, which API servers of every family take. One that the engine chose could be a machine's.
        ipv6_address: address.filter(|_| spec.ip_family.has_v6()).map(ipv6::beside),
        environment: BTreeMap::new(),
        mounts: Vec::new(),
        ports: vec![PublishedPort {
            host_address: spec.endpoint.ip(),
            host_port: spec.endpoint.port(),
            container_port: API_PORT,
            protocol: Protocol::Tcp,
        }],
        resources: Resources::default(),
        hosts: BTreeMap::new(),
        dns_search: None,
        host_mounts: Vec::new(),
        privileges: Privileges::Network,
        command: balancer::command(),
    };
    let labels = OwnerLabels { spec_hash: Some(hash(&wanted)), ..owner(cluster) };
    wanted.labels = labels.to_labels();
    wanted
}

/// Hash of what it is made from. Any node image does: one that was made from another stays.
#[must_use]
pub fn hash(wanted: &ContainerSpec) -> String {
    container::hash(&ContainerSpec { image: String::new(), ..wanted.clone() })
}

/// The files that tell it the control planes, and its own address where that is on top of the runtime's.
#[must_use]
pub fn files(backends: &[Ipv4Addr], stays: Option<Ipv4Addr>) -> Vec<NodeFile> {
    let files = stays.into_iter().flat_map(overlay::files).chain(balancer::files(backends));
    let file = |(path, content): (&str, String)| NodeFile {
        path: path.to_owned(),
        mode: 0o644,
        content: content.into_bytes(),
    };
    files.map(file).collect()
}

/// Addresses of the control planes that are not about to go, in order.
pub fn backends<'a>(machines: impl IntoIterator<Item = &'a Machine>) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = machines
        .into_iter()
        .filter(|m| m.spec.role == MachineRole::ControlPlane && m.metadata.deletion_timestamp.is_none())
        .filter_map(|machine| machine.spec.address.parse().ok())
        .collect();
    found.sort_unstable();
    found
}
