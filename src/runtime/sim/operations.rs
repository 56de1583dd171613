//! Containers, networks and volumes: what the runtime's operations do to the world.

use std::net::{IpAddr, Ipv4Addr};

use super::images;
use super::subnet::Subnet;
use super::time::At;
use super::world::{Change, ContainerRecord, FileRecord, Inside, Life, NetworkRecord, Owner, State, Tx, VolumeRecord};
use crate::api::cidr::Cidr6;
use crate::api::cluster::NodeNetwork;
use crate::runtime::{Cause, ContainerSpec, Labels, NetworkSpec, NodeFile, PublishedPort, VolumeSpec, image_name};

/// Why an operation is refused: its cause, and in the runtime's words.
pub(super) type Refused = (Cause, String);

/// The network that a runtime has by itself.
pub(super) const DEFAULT_NETWORK: &str = NodeNetwork::Default.as_str();

pub(super) fn create_network(tx: &mut Tx<'_>, spec: &NetworkSpec, duplicates: bool) -> Result<(), Refused> {
    if !duplicates && networks_named(tx.state, &spec.name).next().is_some() {
        return Err((Cause::AlreadyExists, format!("network with name {} already exists", spec.name)));
    }
    let text = match &spec.subnet {
        Some(text) => text.clone(),
        None => free_subnet(tx.state).ok_or_else(|| (Cause::Exhausted, "no subnet is left".to_owned()))?,
    };
    let subnet =
        Subnet::parse(&text).ok_or_else(|| (Cause::Invalid, format!("{text:?} is not an IPv4 subnet in CIDR form")))?;
    if let Some(taken) = taken(tx.state, &subnet) {
        let message = format!("the subnet {text} overlaps with that of network {}", taken.spec.name);
        return Err((Cause::Conflict, message));
    }
    if spec.ipv6_subnet.is_some() {
        let wanted = ipv6_subnet(spec)
            .ok_or_else(|| (Cause::Invalid, format!("{:?} is not an IPv6 subnet in CIDR form", spec.ipv6_subnet)))?;
        let overlaps =
            |network: &&NetworkRecord| ipv6_subnet(&network.spec).is_some_and(|other| other.overlaps(wanted));
        if let Some(taken) = tx.state.networks.values().find(overlaps) {
            return Err((
                Cause::Conflict,
                format!("the subnet {wanted} overlaps with that of network {}", taken.spec.name),
            ));
        }
    }
    let id = tx.state.next_network;
    tx.apply(Change::NextNetwork { id: id + 1 });
    let record = NetworkRecord { spec: NetworkSpec { subnet: Some(text), ..spec.clone() }, handed_out: None };
    tx.apply(Change::Network { id, record: Some(record) });
    Ok(())
}

/// Makes the network that the runtime has by itself, where it is not there yet.
pub(super) fn ensure_default_network(tx: &mut Tx<'_>) -> Result<(), Refused> {
    if networks_named(tx.state, DEFAULT_NETWORK).next().is_some() {
        return Ok(());
    }
    let (name, labels) = (DEFAULT_NETWORK.to_owned(), Labels::new());
    create_network(tx, &NetworkSpec { name, subnet: None, ipv6_subnet: None, labels }, false)
}

fn taken<'a>(state: &'a State, subnet: &Subnet) -> Option<&'a NetworkRecord> {
    state.networks.values().find(|network| network.subnet().is_some_and(|other| other.overlaps(subnet)))
}

/// The lowest of those that the simulated runtime chooses from by itself.
fn free_subnet(state: &State) -> Option<String> {
    let mut all = (16..=31).flat_map(|second| (0..=u8::MAX).map(move |third| format!("172.{second}.{third}.0/24")));
    all.find(|text| Subnet::parse(text).is_some_and(|subnet| taken(state, &subnet).is_none()))
}

fn ipv6_subnet(spec: &NetworkSpec) -> Option<Cidr6> {
    spec.ipv6_subnet.as_ref()?.parse().ok()
}

pub(super) fn remove_network(tx: &mut Tx<'_>, name: &str) -> Result<(), Refused> {
    let id = the_network(tx.state, name)?.0;
    if name == DEFAULT_NETWORK {
        return Err((Cause::Invalid, format!("{name} is the runtime's own network, and cannot be removed")));
    }
    if let Some((_, user)) = tx.state.in_network(name).next() {
        let message = format!("network {name} has active endpoints (name:\"{}\")", user.spec.name);
        return Err((Cause::InUse, message));
    }
    tx.apply(Change::Network { id, record: None });
    Ok(())
}

/// Removes a network from under containers that do not run.
pub(super) fn force_remove_network(tx: &mut Tx<'_>, name: &str) -> Result<(), Refused> {
    let id = the_network(tx.state, name)?.0;
    if let Some((_, user)) = tx.state.in_network(name).find(|(_, record)| record.runs()) {
        return Err((Cause::InUse, format!("container {} runs in network {name}", user.spec.name)));
    }
    tx.apply(Change::Network { id, record: None });
    Ok(())
}

/// Makes a network be what it was not created as.
pub(super) fn alter_network(tx: &mut Tx<'_>, name: &str, alter: impl FnOnce(&mut NetworkSpec)) -> Result<(), Refused> {
    let (id, mut record) = the_network(tx.state, name).map(|(id, record)| (id, record.clone()))?;
    alter(&mut record.spec);
    tx.apply(Change::Network { id, record: Some(record) });
    Ok(())
}

pub(super) fn create_volume(tx: &mut Tx<'_>, spec: &VolumeSpec) -> Result<(), Refused> {
    if tx.state.volumes.contains_key(&spec.name) {
        return Err((Cause::AlreadyExists, format!("volume {} already exists", spec.name)));
    }
    let record = VolumeRecord { labels: spec.labels.clone() };
    tx.apply(Change::Volume { name: spec.name.clone(), record: Some(record) });
    Ok(())
}

pub(super) fn remove_volume(tx: &mut Tx<'_>, name: &str) -> Result<(), Refused> {
    if !tx.state.volumes.contains_key(name) {
        return Err((Cause::NotFound, format!("no such volume: {name}")));
    }
    let mounts = |record: &&ContainerRecord| record.spec.mounts.iter().any(|mount| mount.volume == name);
    if let Some(user) = tx.state.containers.values().find(mounts) {
        return Err((Cause::InUse, format!("volume is in use by container {}", user.spec.name)));
    }
    tx.delete_owner(&Owner::Volume(name.to_owned()));
    tx.apply(Change::Volume { name: name.to_owned(), record: None });
    Ok(())
}

/// `id` is the one that the container gets.
pub(super) fn create_container(tx: &mut Tx<'_>, id: String, spec: &ContainerSpec, now: At) -> Result<(), Refused> {
    if let Some((_, other)) = tx.state.by_name(&spec.name) {
        return Err((Cause::AlreadyExists, format!("the container name {} is already in use", other.spec.name)));
    }
    if spec.name.is_empty() || spec.mounts.iter().any(|mount| !mount.target.starts_with('/')) {
        return Err((Cause::Invalid, "a container needs a name, and absolute mount targets".into()));
    }
    if tx.state.images.get(&spec.image).is_none_or(|present| *present > now) {
        return Err((Cause::NotFound, format!("no such image: {}", spec.image)));
    }
    let (_, network) = the_network(tx.state, &spec.network)?;
    if let Some(address) = spec.address {
        if !network.subnet().is_some_and(|subnet| subnet.allows(address)) {
            let subnet = network.spec.subnet.as_deref().unwrap_or_default();
            return Err((Cause::Invalid, format!("{address} is no free address of {subnet}")));
        }
        address_is_free(tx.state, &spec.network, IpAddr::V4(address), None)?;
    }
    if let Some(address) = spec.ipv6_address {
        if !ipv6_subnet(&network.spec).is_some_and(|subnet| subnet.contains(address)) {
            return Err((Cause::Invalid, format!("network {} has no address {address}", network.spec.name)));
        }
        address_is_free(tx.state, &spec.network, IpAddr::V6(address), None)?;
    }
    if let Some(missing) = spec.mounts.iter().find(|mount| !tx.state.volumes.contains_key(&mount.volume)) {
        return Err((Cause::NotFound, format!("no such volume: {}", missing.volume)));
    }
    ports_are_free(tx.state, &spec.ports, None)?;
    let record = ContainerRecord { spec: spec.clone(), life: Life::Created, address: None, inside: Inside::default() };
    tx.apply(Change::Container { id, record: Some(Box::new(record)) });
    Ok(())
}

/// Starts a container. `boot` is when its systemd will be up.
pub(super) fn start_container(tx: &mut Tx<'_>, id: &str, now: At, boot: At) -> Result<(), Refused> {
    let record = the_container(tx.state, id)?;
    if record.runs() {
        return Ok(());
    }
    ports_are_free(tx.state, &record.spec.ports, Some(id))?;
    let (number, network) = the_network(tx.state, &record.spec.network)?;
    let address = match record.spec.address {
        Some(address) => {
            address_is_free(tx.state, &record.spec.network, IpAddr::V4(address), Some(id))?;
            address
        }
        None => next_address(tx.state, network, id)?,
    };
    let node = record.node_version().is_some();
    if record.spec.address.is_none() {
        let network = NetworkRecord { handed_out: Some(address), ..network.clone() };
        tx.apply(Change::Network { id: number, record: Some(network) });
    }
    tx.update(id, |record| {
        record.life = Life::Running { since: now };
        record.address = Some(address);
        record.inside = Inside { boot_due: node.then_some(boot), ..Inside::default() };
    });
    Ok(())
}

/// Ends what runs in a container with this exit code.
pub(super) fn stop_container(tx: &mut Tx<'_>, id: &str, code: i32) -> Result<(), Refused> {
    if the_container(tx.state, id)?.runs() {
        tx.update(id, |record| {
            record.life = Life::Stopped { code };
            record.address = None;
            record.inside = Inside::default();
        });
    }
    Ok(())
}

pub(super) fn remove_container(tx: &mut Tx<'_>, id: &str) -> Result<(), Refused> {
    let network = the_container(tx.state, id)?.spec.network.clone();
    tx.delete_owner(&Owner::Container(id.to_owned()));
    tx.apply(Change::Container { id: id.to_owned(), record: None });
    tx.touched.insert(network);
    Ok(())
}

pub(super) fn copy_in(tx: &mut Tx<'_>, id: &str, files: &[NodeFile]) -> Result<(), Refused> {
    let network = the_container(tx.state, id)?.spec.network.clone();
    for file in files {
        let (owner, path) = tx
            .state
            .locate(id, &file.path)
            .filter(|(_, path)| !path.is_empty())
            .ok_or_else(|| (Cause::Invalid, format!("{:?} is no absolute path of a file", file.path)))?;
        let record = FileRecord { mode: file.mode, content: bytes::Bytes::copy_from_slice(&file.content) };
        tx.apply(Change::File { owner, path, file: Some(record) });
    }
    tx.touched.insert(network);
    Ok(())
}

pub(super) fn load_images(tx: &mut Tx<'_>, id: &str, images: &[String]) -> Result<(), Refused> {
    let record = the_container(tx.state, id)?;
    if !record.runs() {
        return Err((Cause::NotRunning, format!("container {id} is not running")));
    }
    let before = tx.state.text(id, images::LOADED_PATH).unwrap_or_default();
    let mut loaded = before.clone();
    for name in images.iter().map(|image| image_name::full(image)) {
        if loaded.lines().all(|known| known != name) {
            loaded.push_str(&format!("{name}\n"));
        }
    }
    if loaded != before {
        tx.write(id, images::LOADED_PATH, 0o644, loaded);
    }
    Ok(())
}

pub(super) fn the_container<'a>(state: &'a State, id: &str) -> Result<&'a ContainerRecord, Refused> {
    state.containers.get(id).ok_or_else(|| (Cause::NotFound, format!("no such container: {id}")))
}

fn networks_named<'a>(state: &'a State, name: &str) -> impl Iterator<Item = (u64, &'a NetworkRecord)> {
    state.networks.iter().filter(move |(_, network)| network.spec.name == name).map(|(id, network)| (*id, network))
}

/// The network of this name. As in Docker, a name that two networks share serves for nothing.
fn the_network<'a>(state: &'a State, name: &str) -> Result<(u64, &'a NetworkRecord), Refused> {
    let mut named = networks_named(state, name);
    let first = named.next().ok_or_else(|| (Cause::NotFound, format!("network {name} not found")))?;
    match named.count() {
        0 => Ok(first),
        more => Err((Cause::Conflict, format!("network {name} is ambiguous ({} matches found on name)", more + 1))),
    }
}

/// The next address that nobody has, after the one that was handed out last: whoever starts again has another one.
fn next_address(state: &State, network: &NetworkRecord, id: &str) -> Result<Ipv4Addr, Refused> {
    let all: Vec<Ipv4Addr> = network.subnet().into_iter().flat_map(|subnet| subnet.usable()).collect();
    let after = all.iter().position(|address| Some(*address) > network.handed_out).unwrap_or_default();
    let mut turn = all.iter().cycle().skip(after).take(all.len()).copied();
    turn.find(|address| address_is_free(state, &network.spec.name, IpAddr::V4(*address), Some(id)).is_ok()).ok_or_else(
        || (Cause::Exhausted, format!("no address is left in {}", network.spec.subnet.as_deref().unwrap_or_default())),
    )
}

/// A pinned address belongs to its container also while that is stopped.
fn address_is_free(state: &State, network: &str, address: IpAddr, except: Option<&str>) -> Result<(), Refused> {
    let pinned = |record: &ContainerRecord| match address {
        IpAddr::V4(address) => record.spec.address == Some(address),
        IpAddr::V6(address) => record.spec.ipv6_address == Some(address),
    };
    let holds = |(id, record): &(&str, &ContainerRecord)| {
        Some(*id) != except && (record.has_address(address) || pinned(record))
    };
    match state.in_network(network).find(holds) {
        Some((_, other)) => {
            Err((Cause::Conflict, format!("address {address} is already in use by {}", other.spec.name)))
        }
        None => Ok(()),
    }
}

/// Host ports belong to running containers.
fn ports_are_free(state: &State, ports: &[PublishedPort], except: Option<&str>) -> Result<(), Refused> {
    if ports.is_empty() {
        return Ok(());
    }
    let clash = |one: &PublishedPort, other: &PublishedPort| {
        let addresses = one.host_address == other.host_address;
        let any = one.host_address.is_unspecified() || other.host_address.is_unspecified();
        one.host_port == other.host_port && one.protocol == other.protocol && (addresses || any)
    };
    for (id, record) in &state.containers {
        if Some(id.as_str()) == except || !record.runs() {
            continue;
        }
        if let Some(port) = ports.iter().find(|port| record.spec.ports.iter().any(|other| clash(port, other))) {
            let message = format!("port {}:{} is already allocated", port.host_address, port.host_port);
            return Err((Cause::Conflict, message));
        }
    }
    Ok(())
}

/// What a container's first process wrote, its last lines.
pub(super) fn logs(state: &State, id: &str, lines: usize) -> Result<String, Refused> {
    let record = the_container(state, id)?;
    let mut all: Vec<&str> = Vec::new();
    if record.life != Life::Created {
        if record.node_version().is_some() {
            all.extend(["INFO: detected cgroup v2", "INFO: starting init"]);
        }
        if record.runs() && record.node_version().is_some() && record.inside.boot_due.is_none() {
            all.push("[  OK  ] Reached target multi-user.target - Multi-User System.");
        }
    }
    let skipped = all.len().saturating_sub(lines);
    Ok(all.iter().skip(skipped).map(|line| format!("{line}\n")).collect())
}

/// Makes an image present from `present` on, unless it is there or being pulled; tells from when on it is.
pub(super) fn pull(tx: &mut Tx<'_>, image: &str, present: At) -> Result<At, Refused> {
    if images::version_of(image).is_none() {
        let message = format!("manifest for {image} not found: manifest unknown");
        return Err((Cause::Invalid, message));
    }
    if let Some(present) = tx.state.images.get(image) {
        return Ok(*present);
    }
    tx.apply(Change::Image { name: image.to_owned(), present: Some(present) });
    Ok(present)
}
