//! What a listing shows, kept beside the world and made anew only where something changed: a listing of ten thousand objects
//! costs as many pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::world::{ContainerRecord, Life, NetworkRecord, VolumeRecord};
use crate::runtime::{Container, ContainerId, ContainerState, Listing, Network, Volume};

/// All objects by name; networks by name and number.
#[derive(Debug, Default)]
pub(super) struct Observed {
    containers: BTreeMap<String, Arc<Container>>,
    networks: BTreeMap<(String, u64), Arc<Network>>,
    volumes: BTreeMap<String, Arc<Volume>>,
}

impl Observed {
    /// A container changed.
    pub fn container(&mut self, id: &str, was: Option<&ContainerRecord>, is: Option<&ContainerRecord>) {
        if let Some(was) = was.filter(|was| is.is_none_or(|is| is.spec.name != was.spec.name)) {
            self.containers.remove(&was.spec.name);
        }
        let Some(is) = is else { return };
        let shows_the_same =
            was.is_some_and(|was| (&was.spec, &was.life, was.address) == (&is.spec, &is.life, is.address));
        if !(shows_the_same && self.containers.contains_key(&is.spec.name)) {
            self.containers.insert(is.spec.name.clone(), Arc::new(container(id, is)));
        }
    }

    /// A network changed.
    pub fn network(&mut self, id: u64, was: Option<&NetworkRecord>, is: Option<&NetworkRecord>) {
        if let Some(was) = was {
            self.networks.remove(&(was.spec.name.clone(), id));
        }
        if let Some(NetworkRecord { spec, .. }) = is {
            let (name, labels) = (spec.name.clone(), spec.labels.clone());
            let (subnet, ipv6_subnet) = (spec.subnet.clone(), spec.ipv6_subnet.clone());
            let network = Network { name, subnet, ipv6_subnet, labels };
            self.networks.insert((spec.name.clone(), id), Arc::new(network));
        }
    }

    /// A volume changed.
    pub fn volume(&mut self, name: &str, is: Option<&VolumeRecord>) {
        match is {
            Some(is) => {
                let volume = Volume { name: name.to_owned(), labels: is.labels.clone() };
                self.volumes.insert(name.to_owned(), Arc::new(volume));
            }
            None => drop(self.volumes.remove(name)),
        }
    }

    /// Everything.
    pub fn listing(&self, began: Instant) -> Listing {
        Listing {
            began,
            containers: self.containers.values().cloned().collect(),
            networks: self.networks.values().cloned().collect(),
            volumes: self.volumes.values().cloned().collect(),
            routes: Vec::new(),
        }
    }
}

fn container(id: &str, record: &ContainerRecord) -> Container {
    Container {
        id: ContainerId(id.to_owned()),
        name: record.spec.name.clone(),
        state: match record.life {
            Life::Created => ContainerState::Created,
            Life::Running { .. } => ContainerState::Running,
            Life::Stopped { code } => ContainerState::Stopped { exit_code: Some(code) },
        },
        labels: record.spec.labels.clone(),
        image: record.spec.image.clone(),
        network: Some(record.spec.network.clone()),
        address: record.address,
        ipv6_address: record.spec.ipv6_address.filter(|_| record.runs()),
        mounts: record.spec.mounts.clone(),
        host_mounts: record.spec.host_mounts.clone(),
        ports: record.spec.ports.clone(),
        resources: record.spec.resources,
    }
}
