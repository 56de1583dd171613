//! Adoption: what an earlier Cluster or Machine of the same name left on the host, after its record was lost.
//!
//! Labels cannot change once something is made. So a Cluster adopts by taking over the UID that the labels carry, as its
//! identity, and so do its Machines. Nothing is adopted before a look at the API has proven that nobody of that UID lives,
//! and a listing that began after it still shows the things; and only what a comparison finds to be what this Cluster
//! would have made. Everything else is left as it is, and told.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::observe::Subject;
use super::wait::{Wait, some_of};
use crate::api::cidr::Cidr;
use crate::api::cluster::{NodeNetwork, RuntimeName};
use crate::api::defaults::Resolved;
use crate::api::machine::MachineRole;
use crate::api::names::CONTROL_PLANE_POOL;
use crate::api::{Cluster, Machine, annotations};
use crate::controllers::context::Shared;
use crate::controllers::error::ReconcileError;
use crate::controllers::host::{Named, Seen, Things};
use crate::controllers::identity;
use crate::controllers::machine::container as machine;
use crate::kubeadm::API_PORT;
use crate::runtime::{Container, NodeLabels, OwnerLabels, Role, Volume};

/// Length of a cluster's subnet for machines.
const NODE_SUBNET_LENGTH: u8 = 24;

/// What there is to adopt by a Cluster whose identity is settled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adoption {
    /// The identity of the Cluster, where it is not its own UID.
    pub identity: Option<String>,
    /// Things of machines that no Machine accounts for; `None` while nobody knows.
    pub slots: Option<Vec<Slot>>,
    /// It is proven that their Machines are gone, and they were seen after that.
    pub proven: bool,
}

/// A machine of this cluster's on the host, without a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// What can be adopted, or why it cannot.
    pub found: Result<Earlier, String>,
}

/// A machine that can be adopted.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// UID of the Machine that it was made for.
    pub identity: String,
    /// Its role.
    pub role: MachineRole,
    /// Its pool.
    pub pool: String,
    /// Its slot in the pool.
    pub ordinal: u32,
    /// Its address for life.
    pub address: String,
}

/// What an earlier Cluster left.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// Its UID.
    pub identity: String,
    /// Node image.
    pub image: Option<String>,
    /// Kubernetes version.
    pub version: Option<String>,
    /// The network that its machines were in; `None` where no container of them is left.
    pub node_network: Option<NodeNetwork>,
    /// Addresses of its machines.
    pub node_subnet: Option<Cidr>,
    /// Port of the API endpoint on the host.
    pub port: Option<u16>,
    /// Of what its machines were made for.
    pub fingerprint: Option<String>,
    /// How many machines.
    pub machines: usize,
}

impl Remains {
    /// Compares with what is wanted: nothing may differ that only a new cluster can give.
    ///
    /// # Errors
    /// What differs, and what can be done.
    pub fn compare(&self, wanted: &Resolved) -> Result<(), Wait> {
        if self.fingerprint.as_ref().is_none_or(|found| *found == identity::of_machines(wanted)) {
            return Ok(());
        }
        let version = self.version.as_ref().filter(|version| **version != wanted.version.to_string());
        let what = match version {
            Some(version) => format!("it runs Kubernetes {version}, and {} is wanted", wanted.version),
            None => "its subnets, its pod network, its kubeadm settings or the address of its API server are not those wanted".to_owned(),
        };
        Err(Wait::NotAdopted(what))
    }
}

/// Looks for things of an earlier Cluster of this name while this one has none of its own. `Ok(Ok(None))` where there is
/// nothing to adopt.
///
/// # Errors
/// Where Kina's own API refuses.
pub async fn remains(
    shared: &Shared,
    subject: &Subject,
    runtime: RuntimeName,
) -> Result<Result<Option<Remains>, Wait>, ReconcileError> {
    const PROOF: &str = "earlier clusters";
    let Some(host) = shared.host(runtime) else { return Ok(Ok(None)) };
    let Seen::Known(listing) = host.seen() else { return Ok(Ok(None)) };
    let pins = host.runtime.capabilities().pins_addresses;
    let things = Things::of_cluster(&listing, &subject.owner);
    let identities = things.identities();
    if identities.is_empty() || identities.contains(&subject.owner.cluster_uid) {
        return Ok(Ok(None));
    }
    let since = match proven(shared, subject, PROOF, &identities) {
        Some(since) => since,
        None => {
            let clusters: Api<Cluster> = Api::all(shared.context.client.clone());
            let living = clusters.list(&ListParams::default()).await;
            let living = living.map_err(|error| ReconcileError::api("list", "clusters", error))?;
            let has = |cluster: &&Cluster| {
                cluster.uid().is_some_and(|uid| identities.contains(&uid))
                    || cluster.annotations().get(annotations::IDENTITY).is_some_and(|uid| identities.contains(uid))
            };
            if let Some(living) = living.iter().find(has) {
                let what = format!("it belongs to cluster {}, which lives", living.name_any());
                return Ok(Err(Wait::NotAdopted(what)));
            }
            prove(shared, subject, PROOF, &identities)
        }
    };
    if listing.began <= since {
        for host in shared.hosts.values() {
            host.ask_for_cluster(&subject.name, Instant::now());
        }
        return Ok(Err(Wait::Observing));
    }
    Ok(examine(&things, &subject.name, &identities, pins).map_err(Wait::NotAdopted).and_then(|found| {
        let has_keys = shared.has_certificates(&found.identity);
        if found.machines > 0 && !has_keys {
            let directory = shared.context.pki_directory.join(&found.identity);
            let what = format!("its keys are gone: restore {}", directory.display());
            return Err(Wait::NotAdopted(what));
        }
        Ok(Some(found))
    }))
}

/// What all the things say together.
fn examine(
    things: &Things<'_>,
    name: &str,
    identities: &BTreeSet<String>,
    pins_addresses: bool,
) -> Result<Remains, String> {
    let mut each = identities.iter();
    let (Some(identity), None) = (each.next(), each.next()) else {
        let uids: Vec<&str> = identities.iter().map(String::as_str).collect();
        return Err(format!("it is of several clusters, with the UIDs {}", uids.join(", ")));
    };
    let slots = slots(things, name, identity, &BTreeSet::new());
    let refused: Vec<String> =
        slots.iter().filter_map(|slot| Some(format!("{}: {}", slot.name, slot.found.as_ref().err()?))).collect();
    if !refused.is_empty() {
        return Err(some_of(&refused));
    }
    let planes = slots.iter().filter(|slot| slot.name.starts_with(&format!("{name}-{CONTROL_PLANE_POOL}-"))).count();
    if !slots.is_empty() && planes == 0 {
        return Err("the volumes of its control planes are gone, and its data with them".to_owned());
    }
    let nodes: Vec<NodeLabels> =
        things.of_machines().filter_map(|(_, labels, _)| NodeLabels::from_labels(labels)).collect();
    let fingerprints: BTreeSet<&str> = nodes.iter().map(|node| identity::of_cluster(&node.fingerprint)).collect();
    if fingerprints.len() > 1 {
        return Err("its machines were made from different specs".to_owned());
    }
    let planes_first = |container: &&(&Container, OwnerLabels)| container.1.role != Some(Role::ControlPlane);
    // Where the runtime does not pin addresses, its networks have subnets of their own.
    let mut networks = things.networks.iter().filter(|_| pins_addresses);
    let subnet = networks.find_map(|(network, _)| network.subnet.as_ref()?.parse().ok());
    let mut of_machines = things.containers.iter().filter(|(_, owner)| owner.machine_uid.is_some());
    let in_network = of_machines.find_map(|(container, _)| container.network.as_deref());
    let node_network = in_network.map(|name| match name == NodeNetwork::Default.as_str() {
        true => NodeNetwork::Default,
        false => NodeNetwork::Cluster,
    });
    // Where there is no load balancer, the only machine publishes the port.
    let entry = match node_network {
        Some(NodeNetwork::Default) => Role::ControlPlane,
        Some(NodeNetwork::Cluster) | None => Role::LoadBalancer,
    };
    let mut entries = things.containers.iter().filter(|(_, owner)| owner.role == Some(entry));
    Ok(Remains {
        identity: identity.clone(),
        image: things
            .containers
            .iter()
            .filter(|(_, owner)| owner.machine_uid.is_some())
            .min_by_key(planes_first)
            .map(|(container, _)| container.image.clone()),
        version: nodes.first().map(|node| node.version.clone()),
        node_network,
        node_subnet: subnet.or_else(|| Some(Cidr::containing(nodes.first()?.address, NODE_SUBNET_LENGTH))),
        port: entries.find_map(|(container, _)| api_port(container)),
        fingerprint: fingerprints.first().map(|found| (*found).to_owned()),
        machines: slots.len(),
    })
}

/// The port of the host that leads to an API server.
fn api_port(container: &Container) -> Option<u16> {
    container.ports.iter().find(|port| port.container_port == API_PORT).map(|port| port.host_port)
}

/// Things of machines in the Cluster's own runtime that no Machine accounts for.
///
/// # Errors
/// Where Kina's own API refuses.
pub async fn look(shared: &Shared, subject: &Subject) -> Result<Adoption, ReconcileError> {
    const PROOF: &str = "earlier machines";
    let own = Some(&subject.owner.cluster_uid) == subject.cluster.metadata.uid.as_ref();
    let identity = (!own).then(|| subject.owner.cluster_uid.clone());
    let Some(Seen::Known(listing)) = subject.host(shared).map(|host| host.seen()) else {
        return Ok(Adoption { identity, slots: None, proven: false });
    };
    let things = Things::of_cluster(&listing, &subject.owner);
    let known: BTreeSet<String> =
        subject.machines.iter().filter_map(|found| machine::identity(found).map(str::to_owned)).collect();
    let mut slots = slots(&things, &subject.name, &subject.owner.cluster_uid, &known);
    // One that is about to go gives its name free first.
    slots.retain(|slot| !subject.machines.iter().any(|m| m.name_any() == slot.name && is_leaving(m)));
    if slots.is_empty() {
        return Ok(Adoption { identity, slots: Some(slots), proven: true });
    }
    let unknown: BTreeSet<String> =
        things.of_machines().filter_map(|(_, _, owner)| owner.machine_uid.clone()).collect();
    let unknown: BTreeSet<String> = unknown.difference(&known).cloned().collect();
    let since = match proven(shared, subject, PROOF, &unknown) {
        Some(since) => Some(since),
        None => {
            let machines: Api<Machine> = Api::all(shared.context.client.clone());
            let of_cluster = ListParams::default().fields(&format!("spec.cluster={}", subject.name));
            let living = machines.list(&of_cluster).await;
            let living = living.map_err(|error| ReconcileError::api("list the machines of", &subject.name, error))?;
            let lives = living.iter().any(|found| machine::identity(found).is_some_and(|uid| unknown.contains(uid)));
            // One that lives after all is about to be seen by the watch, too.
            (!lives).then(|| prove(shared, subject, PROOF, &unknown))
        }
    };
    let fingerprint = subject.of_cluster.as_ref().map(|of_cluster| of_cluster.fingerprint.as_str());
    for slot in &mut slots {
        let there = subject.machines.iter().find(|machine| machine.name_any() == slot.name);
        let fits = fits_record(shared, &things, there.map(|machine| &**machine))
            .and_then(|()| fits_cluster(&things, &slot.name, fingerprint));
        if let (Ok(found), Err(why)) = (&slot.found, fits) {
            tracing::debug!(machine = slot.name, identity = found.identity, why, "not adopted");
            slot.found = Err(why);
        }
        let address = there.map(|machine| machine.spec.address.clone());
        if let (Ok(found), Some(address)) =
            (&slot.found, address.filter(|a| slot.found.as_ref().is_ok_and(|f| f.address != *a)))
        {
            slot.found = Err(format!("it has the address {}, and its record says {address}", found.address));
        }
    }
    let proven = since.is_some_and(|since| listing.began > since);
    Ok(Adoption { identity, slots: Some(slots), proven })
}

fn is_leaving(machine: &Machine) -> bool {
    machine.metadata.deletion_timestamp.is_some()
}

/// A Machine of that name has nothing of its own that would be lost from sight.
fn fits_record(shared: &Shared, things: &Things<'_>, there: Option<&Machine>) -> Result<(), String> {
    let Some(there) = there else { return Ok(()) };
    let Some(owner) = machine::owner(&shared.context.installation, there) else { return Ok(()) };
    let own = |found: &OwnerLabels| found.machine_uid == owner.machine_uid;
    match things.of_machines().any(|(_, _, found)| own(found)) {
        true => Err("its container and its volume are of two machines".to_owned()),
        false => Ok(()),
    }
}

fn fits_cluster(things: &Things<'_>, name: &str, fingerprint: Option<&str>) -> Result<(), String> {
    let Some(fingerprint) = fingerprint else { return Ok(()) };
    let of_slot = things.of_machines().filter(|(found, _, _)| *found == name);
    match of_slot
        .filter_map(|(_, labels, _)| NodeLabels::from_labels(labels))
        .all(|node| identity::of_cluster(&node.fingerprint) == fingerprint)
    {
        true => Ok(()),
        false => {
            Err("it was made for another version, other subnets, another pod network or other kubeadm settings"
                .to_owned())
        }
    }
}

/// Since when it is proven that nobody of these UIDs lives; `None` where that is to be looked up.
fn proven(shared: &Shared, subject: &Subject, proof: &'static str, uids: &BTreeSet<String>) -> Option<Instant> {
    let known = shared.memory.text(&subject.uid, proof)?;
    (known == join(uids)).then(|| shared.memory.wished(&subject.uid, proof))
}

fn prove(shared: &Shared, subject: &Subject, proof: &'static str, uids: &BTreeSet<String>) -> Instant {
    shared.memory.keep_text(&subject.uid, proof, &join(uids));
    shared.memory.unwish(&subject.uid, proof);
    shared.memory.wished(&subject.uid, proof)
}

fn join(uids: &BTreeSet<String>) -> String {
    uids.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Machines of a cluster's identity whose own UID nobody is known to have.
fn slots(things: &Things<'_>, cluster: &str, identity: &str, known: &BTreeSet<String>) -> Vec<Slot> {
    let is_unknown = |owner: &OwnerLabels| {
        owner.cluster_uid == identity && owner.machine_uid.as_ref().is_some_and(|uid| !known.contains(uid))
    };
    let mut by_name: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
    for found in things.containers.iter().filter(|(_, owner)| is_unknown(owner)) {
        by_name.entry(found.0.name()).or_default().container = Some(found);
    }
    for found in things.volumes.iter().filter(|(_, owner)| is_unknown(owner)) {
        by_name.entry(found.0.name()).or_default().volume = Some(found);
    }
    let slot =
        |(name, pair): (&str, Pair<'_>)| Slot { name: name.to_owned(), found: examine_slot(cluster, name, pair) };
    by_name.into_iter().map(slot).collect()
}

/// What is there of one machine.
#[derive(Clone, Copy, Default)]
struct Pair<'a> {
    container: Option<&'a (&'a Container, OwnerLabels)>,
    volume: Option<&'a (&'a Volume, OwnerLabels)>,
}

fn examine_slot(cluster: &str, name: &str, Pair { container, volume }: Pair<'_>) -> Result<Earlier, String> {
    let slot = name.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('-')?.rsplit_once('-'));
    let slot = slot.and_then(|(pool, ordinal)| Some((pool, ordinal.parse::<u32>().ok()?)));
    let (pool, ordinal) = slot.ok_or("it has no name of a machine of this cluster")?;
    let (role, label) = match pool {
        CONTROL_PLANE_POOL => (MachineRole::ControlPlane, Role::ControlPlane),
        _ => (MachineRole::Worker, Role::Worker),
    };
    let identities: BTreeSet<&str> = [container.map(|(_, owner)| owner), volume.map(|(_, owner)| owner)]
        .into_iter()
        .flatten()
        .filter_map(|owner| owner.machine_uid.as_deref())
        .collect();
    let mut each = identities.iter();
    let (Some(identity), None) = (each.next(), each.next()) else {
        return Err("its container and its volume are of two machines".to_owned());
    };
    if role == MachineRole::ControlPlane && volume.is_none() {
        return Err("its volume is gone, and its data with it".to_owned());
    }
    let nodes = [container.map(|(found, _)| &found.labels), volume.map(|(found, _)| &found.labels)];
    let nodes: Vec<Option<NodeLabels>> = nodes.into_iter().flatten().map(NodeLabels::from_labels).collect();
    let node = nodes.first().cloned().flatten().ok_or("its labels do not tell its address and version")?;
    if nodes.iter().any(|other| other.as_ref() != Some(&node)) {
        return Err("its container and its volume do not agree about its address and version".to_owned());
    }
    if let Some((container, owner)) = container {
        if owner.role != Some(label) {
            return Err(format!("its container was not made as a {}", label.as_str()));
        }
        let is_known =
            |network: &String| *network == format!("kina-{cluster}") || *network == NodeNetwork::Default.as_str();
        if !container.network.as_ref().is_none_or(is_known) {
            return Err("its container is in another network".to_owned());
        }
        if !machine::has_mounts(container, name, role) {
            return Err("its container has other mounts".to_owned());
        }
    }
    Ok(Earlier {
        identity: (*identity).to_owned(),
        role,
        pool: pool.to_owned(),
        ordinal,
        address: node.address.to_string(),
    })
}

/// Names of the slots that cannot be adopted, and why.
#[must_use]
pub fn refusals(slots: &[Slot]) -> Option<Wait> {
    let refused: Vec<String> =
        slots.iter().filter_map(|slot| Some(format!("{}: {}", slot.name, slot.found.as_ref().err()?))).collect();
    (!refused.is_empty()).then(|| Wait::NotAdopted(some_of(&refused)))
}
