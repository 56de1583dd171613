//! Slots: which Machines are missing, which are too many, and what each should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::adopt::Earlier;
use super::facts::{Facts, MachineFacts, control_plane_in_work, is_formed};
use super::wait::Wait;
use crate::api::cidr::Cidr;
use crate::api::cluster::{Cni, IpFamily, MachineResources, NodeNetwork, Taint, TaintEffect};
use crate::api::defaults::Resolved;
use crate::api::machine::{Bootstrap, BootstrapMethod, ContainerdPatches, Identity, MachineRole, MachineSpec, Turn};
use crate::api::names::CONTROL_PLANE_POOL;
use crate::api::node::{HostMount, PortMapping};
use crate::controllers::machine::container::FIRST_MACHINE_INDEX;
use crate::controllers::machine::wait::WAITING_FOR_REPLACEMENT;
use crate::kubeadm::{CONTROL_PLANE_TAINT, routed};

/// A pool as the spec has it.
struct Pool<'a> {
    name: &'a str,
    role: MachineRole,
    replicas: u32,
    image: Option<&'a String>,
    resources: Option<&'a MachineResources>,
    labels: &'a BTreeMap<String, String>,
    taints: Vec<Taint>,
    mounts: &'a [HostMount],
    ports: &'a [PortMapping],
}

fn pools(facts: &Facts) -> Vec<Pool<'_>> {
    let control_plane = &facts.spec.control_plane;
    let mut taints = control_plane.taints.clone();
    // Without workers the control planes run workloads, too.
    if facts.spec.workers.iter().any(|pool| pool.replicas > 0) {
        let own = Taint { key: CONTROL_PLANE_TAINT.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
        if !taints.contains(&own) {
            taints.push(own);
        }
    }
    let first = Pool {
        name: CONTROL_PLANE_POOL,
        role: MachineRole::ControlPlane,
        replicas: control_plane.replicas,
        image: control_plane.image.as_ref(),
        resources: control_plane.resources.as_ref(),
        labels: &control_plane.labels,
        taints,
        mounts: &control_plane.extra_mounts,
        ports: &control_plane.extra_port_mappings,
    };
    let workers = facts.spec.workers.iter().map(|pool| Pool {
        name: &pool.name,
        role: MachineRole::Worker,
        replicas: pool.replicas,
        image: pool.image.as_ref(),
        resources: pool.resources.as_ref(),
        labels: &pool.labels,
        taints: pool.taints.clone(),
        mounts: &pool.extra_mounts,
        ports: &pool.extra_port_mappings,
    });
    std::iter::once(first).chain(workers).collect()
}

fn containerd(facts: &Facts) -> ContainerdPatches {
    let spec = &facts.spec;
    ContainerdPatches {
        merge: spec.containerd_config_patches.clone(),
        json: spec.containerd_config_patches_json6902.clone(),
    }
}

/// How many machines are wanted in all.
#[must_use]
pub fn wanted_count(facts: &Facts) -> u32 {
    pools(facts).iter().map(|pool| pool.replicas).sum()
}

fn of_pool<'a>(facts: &'a Facts, pool: &str) -> Vec<&'a MachineFacts> {
    facts.machines.iter().filter(|machine| machine.spec.pool == pool).collect()
}

/// Machines to be made.
#[must_use]
pub fn missing(facts: &Facts, resolved: &Resolved) -> (Vec<(String, MachineSpec)>, Option<Wait>) {
    let mut taken: BTreeSet<String> = facts.machines.iter().map(|machine| machine.spec.address.clone()).collect();
    let (mut new, mut wait) = (Vec::new(), None);
    for pool in pools(facts) {
        let there = of_pool(facts, pool.name);
        let live = u32::try_from(there.iter().filter(|machine| !machine.deleting).count()).unwrap_or(u32::MAX);
        let count = pool.replicas.saturating_sub(live);
        if count == 0 {
            continue;
        }
        // A slot that is being emptied is not free yet: its name is still on the host.
        let used: BTreeSet<u32> = there.iter().map(|machine| machine.spec.ordinal).collect();
        let ordinals: Vec<u32> =
            (0..).filter(|ordinal| !used.contains(ordinal)).take(usize::try_from(count).unwrap_or(0)).collect();
        let places: Vec<(u32, String)> = ordinals
            .into_iter()
            .map_while(|ordinal| Some((ordinal, reserve(resolved, facts, &pool, ordinal, &mut taken)?)))
            .collect();
        if places.len() < usize::try_from(count).unwrap_or(usize::MAX) {
            wait = Some(Wait::NoAddress);
        }
        match bootstraps(facts, &pool, &there, &places) {
            Ok(bootstraps) => {
                for ((ordinal, address), bootstrap) in places.into_iter().zip(bootstraps) {
                    let name = machine_name(facts, pool.name, ordinal);
                    new.push((name, spec(facts, resolved, &pool, ordinal, address, bootstrap)));
                }
            }
            Err(reason) => wait = Some(reason),
        }
    }
    (new, wait)
}

fn machine_name(facts: &Facts, pool: &str, ordinal: u32) -> String {
    format!("{}-{pool}-{ordinal}", facts.name)
}

/// The range of pod addresses of the machine with this address, where they are Kina's to give. The addresses of two machines
/// differ, and so do their ranges; what a machine's address is known by, its range is known by, too.
fn pod_range(resolved: &Resolved, address: &str) -> Option<Cidr> {
    let address: Ipv4Addr = address.parse().ok()?;
    let place = resolved.node_subnet.place(address)?.checked_sub(FIRST_MACHINE_INDEX)?;
    resolved.pod_subnet.v4()?.part(routed::RANGE_LENGTH, place)
}

/// The lowest free address; for a slot that was promised one as a first member of etcd, that one.
fn reserve(
    resolved: &Resolved,
    facts: &Facts,
    pool: &Pool<'_>,
    ordinal: u32,
    taken: &mut BTreeSet<String>,
) -> Option<String> {
    let promised = (pool.role == MachineRole::ControlPlane && !is_formed(facts))
        .then(|| first_members(facts)?.get(&machine_name(facts, pool.name, ordinal)))
        .flatten()
        .filter(|address| !taken.contains(*address))
        .cloned();
    // .255 is the subnet's broadcast address.
    let free = || {
        (FIRST_MACHINE_INDEX..255)
            .filter_map(|index| Some(resolved.node_subnet.address(index)?.to_string()))
            .filter(|address| resolved.cni != Cni::Routed || pod_range(resolved, address).is_some())
            .find(|address| !taken.contains(address))
    };
    let address = promised.or_else(free)?;
    taken.insert(address.clone());
    Some(address)
}

fn first_members(facts: &Facts) -> Option<&BTreeMap<String, String>> {
    let first = facts.machines.iter().find(|machine| machine.spec.bootstrap.method == BootstrapMethod::Init)?;
    Some(&first.spec.bootstrap.members)
}

/// How a machine comes to a cluster that is there.
fn join() -> Bootstrap {
    Bootstrap { method: BootstrapMethod::Join, members: BTreeMap::new() }
}

/// How the new machines of a pool become nodes.
fn bootstraps(
    facts: &Facts,
    pool: &Pool<'_>,
    there: &[&MachineFacts],
    places: &[(u32, String)],
) -> Result<Vec<Bootstrap>, Wait> {
    if pool.role == MachineRole::Worker || is_formed(facts) {
        return Ok(places.iter().map(|_| join()).collect());
    }
    let named = |(ordinal, address): &(u32, String)| (machine_name(facts, pool.name, *ordinal), address.clone());
    let init = |members: BTreeMap<String, String>| Bootstrap { method: BootstrapMethod::Init, members };
    if there.is_empty() {
        let members: BTreeMap<String, String> = places.iter().map(named).collect();
        return Ok(places.iter().map(|_| init(members.clone())).collect());
    }
    // Some of the first control planes are recorded, others not: made so by a crash, or by a removal. Which of both is
    // known only once those that are there have told whether they are nodes.
    if there.iter().any(|machine| machine.bootstrapped.is_none()) {
        return Err(Wait::ControlPlane);
    }
    let members = first_members(facts).cloned().unwrap_or_default();
    let is_member = |place: &(u32, String)| members.get(&machine_name(facts, pool.name, place.0)) == Some(&place.1);
    Ok(places.iter().map(|place| if is_member(place) { init(members.clone()) } else { join() }).collect())
}

fn spec(
    facts: &Facts,
    resolved: &Resolved,
    pool: &Pool<'_>,
    ordinal: u32,
    address: String,
    bootstrap: Bootstrap,
) -> MachineSpec {
    // First control planes start together and workers side by side, as soon as there is something to join; control planes
    // that come later wait for their turn.
    let at_once = pool.role == MachineRole::Worker || bootstrap.method == BootstrapMethod::Init;
    let (resources, default_resources) = new_resources(facts, pool);
    MachineSpec {
        cluster: facts.name.clone(),
        role: pool.role,
        pool: pool.name.to_owned(),
        ordinal,
        runtime: resolved.runtime,
        image: pool.image.unwrap_or(&resolved.image).clone(),
        kubernetes_version: resolved.version.to_string(),
        resources,
        default_resources,
        labels: pool.labels.clone(),
        taints: pool.taints.clone(),
        extra_mounts: pool.mounts.to_vec(),
        extra_port_mappings: ports(pool.ports, resolved),
        dns_search: facts.spec.networking.dns_search.clone(),
        containerd: containerd(facts),
        images: facts.spec.images.clone(),
        registries: (!facts.spec.registries.is_empty()).then(|| facts.spec.registries.clone()),
        pod_cidr: (resolved.cni == Cni::Routed)
            .then(|| pod_range(resolved, &address))
            .flatten()
            .map(|range| range.to_string()),
        address,
        api_endpoint: api_endpoint(resolved),
        ip_family: Some(resolved.ip_family).filter(|family| family.has_v6()),
        bootstrap,
        turn: at_once.then_some(Turn::Bootstrap),
        identity: Identity { cluster: facts.adoption.identity.clone(), machine: None },
    }
}

/// Machines to be made for what is on the host without a record, each under the identity that its things carry.
///
/// Their number does not count: what is too many leaves as machines do, drained and from etcd.
#[must_use]
pub fn adopted(facts: &Facts, resolved: &Resolved, found: &[(&str, &Earlier)]) -> Vec<(String, MachineSpec)> {
    let is_plane = |earlier: &Earlier| earlier.role == MachineRole::ControlPlane;
    let members = found.iter().filter(|(_, earlier)| is_plane(earlier));
    let members: BTreeMap<String, String> =
        members.map(|(name, earlier)| ((*name).to_owned(), earlier.address.clone())).collect();
    // Whether they were nodes is seen in them. Where none was, they begin together, as on their first day.
    let first = facts.api_answers != Some(true) && !facts.machines.iter().any(MachineFacts::is_control_plane);
    let pools = pools(facts);
    let (labels, taints) = (BTreeMap::new(), Vec::new());
    let machine = |(name, earlier): &(&str, &Earlier)| {
        let known = pools.iter().find(|pool| pool.name == earlier.pool);
        let pool = Pool {
            name: &earlier.pool,
            role: earlier.role,
            replicas: 0,
            image: known.and_then(|pool| pool.image),
            resources: known.and_then(|pool| pool.resources),
            labels: known.map_or(&labels, |pool| pool.labels),
            taints: known.map_or(&taints, |pool| &pool.taints).clone(),
            mounts: known.map_or(&[], |pool| pool.mounts),
            ports: known.map_or(&[], |pool| pool.ports),
        };
        let bootstrap = match is_plane(earlier) && first {
            true => Bootstrap { method: BootstrapMethod::Init, members: members.clone() },
            false => join(),
        };
        let mut spec = spec(facts, resolved, &pool, earlier.ordinal, earlier.address.clone(), bootstrap);
        spec.identity.machine = Some(earlier.identity.clone());
        ((*name).to_owned(), spec)
    };
    found.iter().map(machine).collect()
}

/// Where a machine publishes its API server itself: with nothing in front of it.
fn api_endpoint(resolved: &Resolved) -> Option<String> {
    match resolved.node_network {
        NodeNetwork::Cluster => None,
        NodeNetwork::Default => Some(resolved.endpoint.to_string()),
    }
}

/// On the host they lead to the machine's address of the same family: where pods have none of IPv4, neither do they listen
/// on one unless that is asked for.
fn ports(mappings: &[PortMapping], resolved: &Resolved) -> Vec<PortMapping> {
    let mut mappings = mappings.to_vec();
    if resolved.ip_family == IpFamily::Ipv6 {
        for mapping in mappings.iter_mut().filter(|mapping| mapping.listen_address.is_none()) {
            mapping.listen_address = Some(Ipv6Addr::LOCALHOST.to_string());
        }
    }
    mappings
}

/// What a Machine that is there should be: everything that changes while it lives.
#[must_use]
pub fn updated(facts: &Facts, resolved: &Resolved, now: &MachineSpec) -> MachineSpec {
    let mut wanted = now.clone();
    wanted.identity.cluster.clone_from(&facts.adoption.identity);
    wanted.api_endpoint = api_endpoint(resolved);
    wanted.dns_search.clone_from(&facts.spec.networking.dns_search);
    wanted.containerd = containerd(facts);
    wanted.images.clone_from(&facts.spec.images);
    // Once there were some, a machine may have something to take back.
    if wanted.registries.is_some() || !facts.spec.registries.is_empty() {
        wanted.registries = Some(facts.spec.registries.clone());
    }
    if let Some(pool) = pools(facts).into_iter().find(|pool| pool.name == now.pool) {
        wanted.image.clone_from(pool.image.unwrap_or(&resolved.image));
        wanted.extra_mounts = pool.mounts.to_vec();
        wanted.extra_port_mappings = ports(pool.ports, resolved);
        (wanted.resources, wanted.default_resources) = kept_resources(facts, &pool, now);
        wanted.labels.clone_from(pool.labels);
        wanted.taints = pool.taints;
    }
    wanted
}

/// Limits of a new Machine, and whether they are Kina's choice.
fn new_resources(facts: &Facts, pool: &Pool<'_>) -> (Option<MachineResources>, bool) {
    match pool.resources {
        Some(named) => (Some(named.clone()), false),
        None => (facts.node_resources.clone(), facts.node_resources.is_some()),
    }
}

/// Limits of a Machine that is there, and whether they are Kina's choice: what was chosen stays, whatever the host is by now;
/// one that never had any gets none; and one whose pool names its limits no more is as a new one.
fn kept_resources(facts: &Facts, pool: &Pool<'_>, now: &MachineSpec) -> (Option<MachineResources>, bool) {
    match (pool.resources, &now.resources) {
        (None, None) => (None, false),
        (None, chosen @ Some(_)) if now.default_resources => (chosen.clone(), true),
        _ => new_resources(facts, pool),
    }
}

/// Machines that are too many: broken ones first, then the highest ordinals.
#[must_use]
pub fn surplus(facts: &Facts) -> (Vec<&MachineFacts>, Option<Wait>) {
    let pools = pools(facts);
    let (mut leaving, mut wait) = (Vec::new(), None);
    let names: BTreeSet<&str> = facts.machines.iter().map(|machine| machine.spec.pool.as_str()).collect();
    for name in names {
        let replicas = pools.iter().find(|pool| pool.name == name).map_or(0, |pool| pool.replicas);
        let mut live: Vec<&MachineFacts> =
            of_pool(facts, name).into_iter().filter(|machine| !machine.deleting).collect();
        let count = live.len().saturating_sub(usize::try_from(replicas).unwrap_or(usize::MAX));
        if count == 0 || live.iter().any(|machine| machine.just_adopted) {
            continue;
        }
        live.sort_by_key(|machine| (machine.ready, std::cmp::Reverse(machine.spec.ordinal)));
        if name == CONTROL_PLANE_POOL {
            match next_control_plane_to_go(facts, &live) {
                Ok(machine) => leaving.push(machine),
                Err(reason) => wait = Some(reason),
            }
        } else {
            leaving.extend(live.into_iter().take(count));
        }
    }
    (leaving, wait)
}

/// A control plane whose data is gone, and whose place another one is to take: it leaves as every machine does, and what is
/// made then joins. While the API answers the others have a majority without it, and whatever else comes or goes is the
/// better off: etcd lets nobody go who runs while it counts too many who do not.
#[must_use]
pub fn lost(facts: &Facts) -> Option<&MachineFacts> {
    let is_lost = |machine: &&MachineFacts| {
        machine.is_control_plane() && !machine.deleting && machine.waiting == WAITING_FOR_REPLACEMENT
    };
    let lost = facts.machines.iter().find(is_lost).filter(|_| facts.api_answers == Some(true))?;
    // That it answers may be old news. Without another one that stays the cluster would end.
    let stays = |other: &MachineFacts| other.is_control_plane() && !other.deleting && other.name != lost.name;
    facts.machines.iter().any(stays).then_some(lost)
}

/// One at a time, and only while all the others are Ready: a member of etcd leaves, and the rest must have a quorum.
fn next_control_plane_to_go<'a>(facts: &'a Facts, live: &[&'a MachineFacts]) -> Result<&'a MachineFacts, Wait> {
    let Some((first, others)) = live.split_first() else { return Err(Wait::ControlPlane) };
    if let Some(other) = control_plane_in_work(facts).filter(|other| other.name != first.name) {
        return Err(Wait::ControlPlaneTurn(other.name.clone()));
    }
    if facts.api_answers != Some(true) {
        return Err(Wait::ControlPlane);
    }
    match others.iter().find(|other| !other.ready) {
        Some(other) => Err(Wait::ControlPlaneTurn(other.name.clone())),
        None => Ok(first),
    }
}
