//! Where the machines of a cluster are just now, on a runtime that gives another address at every start: each of them is
//! told, and again whenever one has moved. What a machine is called by never changes (decision 0019).

use std::net::Ipv4Addr;

use super::host::Things;
use super::identity;
use super::machine::container::LOAD_BALANCER_INDEX;
use super::memory::Memory;
use crate::kubeadm::overlay::{self, Peers};
use crate::runtime::{Container, ContainerId, ContainerState, Listing, NodeLabels, OwnerLabels, Role};

/// Under which key it is kept what a container was told last.
const TOLD: &str = "peers";

/// What a container that runs is to be told of the others of its cluster; `None` where it knows. `own` is its address
/// that stays, `uid` whose container it is.
#[must_use]
pub fn untold(
    memory: &Memory,
    uid: &str,
    listing: &Listing,
    cluster: &OwnerLabels,
    container: &Container,
    own: Ipv4Addr,
) -> Option<Peers> {
    if container.state != ContainerState::Running {
        return None;
    }
    let peers = peers(listing, cluster, own);
    (memory.text(uid, TOLD) != Some(told_as(&container.id, &peers))).then_some(peers)
}

/// Keeps what a container was told.
pub fn told(memory: &Memory, uid: &str, container: &ContainerId, peers: &Peers) {
    memory.keep_text(uid, TOLD, &told_as(container, peers));
}

/// A container keeps what it was told over its restarts, and nobody else tells it anything.
fn told_as(container: &ContainerId, peers: &Peers) -> String {
    identity::hash(&format!("{container} {}", overlay::text(peers)))
}

/// Everyone of the cluster but the one itself that has an address now.
fn peers(listing: &Listing, cluster: &OwnerLabels, own: Ipv4Addr) -> Peers {
    let things = Things::of_cluster(listing, cluster);
    let containers = things.containers.into_iter();
    let ours = containers.filter(|(_, owner)| owner.cluster_uid == cluster.cluster_uid);
    let places = ours.filter_map(|(container, owner)| {
        let stays = match owner.role {
            Some(Role::LoadBalancer) => balancer(own),
            _ => NodeLabels::from_labels(&container.labels)?.address,
        };
        let runs = container.state == ContainerState::Running;
        Some((stays, container.address.filter(|_| runs)?))
    });
    places.filter(|(stays, _)| *stays != own).collect()
}

/// The load balancer's address in the subnet that a machine's is of.
fn balancer(machine: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = machine.octets();
    Ipv4Addr::new(a, b, c, LOAD_BALANCER_INDEX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::{InstallationId, Resources};

    fn owner(uid: &str) -> OwnerLabels {
        OwnerLabels {
            installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            cluster: "dev".into(),
            cluster_uid: uid.into(),
            machine_uid: None,
            role: None,
            spec_hash: None,
        }
    }

    fn container(name: &str, uid: &str, stays: Option<u8>, now: Option<u8>) -> Arc<Container> {
        let role = if stays.is_some() { Role::Worker } else { Role::LoadBalancer };
        let mut labels = OwnerLabels { role: Some(role), ..owner(uid) }.to_labels();
        if let Some(last) = stays {
            let address = Ipv4Addr::new(10, 160, 0, last);
            labels.extend(NodeLabels { address, version: "v1.35.5".into(), fingerprint: "f".into() }.to_labels());
        }
        Arc::new(Container {
            id: ContainerId(format!("id-{name}")),
            name: name.into(),
            state: if now.is_some() { ContainerState::Running } else { ContainerState::Created },
            labels,
            image: "image".into(),
            network: Some("kina-dev".into()),
            ipv6_address: None,
            address: now.map(|last| Ipv4Addr::new(192, 168, 64, last)),
            mounts: Vec::new(),
            host_mounts: Vec::new(),
            ports: Vec::new(),
            resources: Resources::default(),
        })
    }

    fn listing(containers: &[Arc<Container>]) -> Listing {
        Listing {
            began: tokio::time::Instant::now(),
            containers: containers.to_vec(),
            networks: Vec::new(),
            volumes: Vec::new(),
            routes: Vec::new(),
        }
    }

    fn stays(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 160, 0, last)
    }

    #[test]
    fn a_machine_is_told_of_those_of_its_cluster_that_run() {
        let mut all = vec![
            container("dev-a-0", "u1", Some(10), Some(3)),
            container("dev-a-1", "u1", Some(11), Some(4)),
            container("dev-a-2", "u1", Some(12), None),
            container("dev-b-0", "another", Some(13), Some(6)),
            container("dev-lb", "u1", None, Some(7)),
        ];
        let memory = Memory::default();
        let untold = |all: &[Arc<Container>]| untold(&memory, "m", &listing(all), &owner("u1"), &all[0], stays(10));
        let peers = untold(&all).unwrap();
        let at = |last| Ipv4Addr::new(192, 168, 64, last);
        assert_eq!(peers, Peers::from([(stays(2), at(7)), (stays(11), at(4))]));
        told(&memory, "m", &all[0].id, &peers);
        assert_eq!(untold(&all), None, "it is told once");
        all[1] = container("dev-a-1", "u1", Some(11), Some(9));
        assert_eq!(untold(&all).unwrap()[&stays(11)], at(9));
        all[1] = container("dev-a-1", "u1", Some(11), Some(4));
        assert_eq!(untold(&all), None, "what it knows is true again");
        let mut other = (*all[0]).clone();
        other.id = ContainerId("made-anew".into());
        all[0] = Arc::new(other);
        assert!(untold(&all).is_some(), "another container knows nothing");
        all[0] = container("dev-a-0", "u1", Some(10), None);
        assert_eq!(untold(&all), None, "one that does not run is told later");
    }
}
