//! What there is in the simulated world, and how it changes: one transaction at a time, written before it is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::core::Ticket;
use super::etcd::EtcdCluster;
use super::images;
use super::observed::Observed;
use super::operations::DEFAULT_NETWORK;
use super::overlay::{self, Overlay};
use super::subnet::Subnet;
use super::systemd::Unit;
use super::time::At;
use crate::runtime::{ContainerSpec, Labels, Mount, NetworkSpec};

/// What holds files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Owner {
    /// A container's own layer, by id: gone with the container.
    Container(String),
    /// A volume, by name.
    Volume(String),
}

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub mode: u32,
    #[serde(with = "content")]
    pub content: Bytes,
}

/// Text stays text in the journal; anything else is written as base64.
mod content {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form<'a> {
        Text(std::borrow::Cow<'a, str>),
        Base64 { base64: String },
    }

    pub fn serialize<S: Serializer>(content: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(content) {
            Ok(text) => Form::Text(text.into()).serialize(serializer),
            Err(_) => Form::Base64 { base64: STANDARD.encode(content) }.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Bytes::from(text.into_owned())),
            Form::Base64 { base64 } => STANDARD.decode(base64).map(Bytes::from).map_err(serde::de::Error::custom),
        }
    }
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Life {
    Created,
    Running { since: At },
    Stopped { code: i32 },
}

/// What runs inside a node since its container started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inside {
    /// When systemd is up, until it is.
    pub boot_due: Option<At>,
    /// Since when the kubelet runs.
    pub kubelet: Option<At>,
    /// When the static pods run, until they do.
    pub static_pods_due: Option<At>,
    /// The static pods run (not: the API answers, that takes a quorum).
    pub static_pods: bool,
    /// Transient units.
    pub units: BTreeMap<String, Unit>,
    /// Last words of an etcd that refuses to run.
    pub etcd_failure: Option<String>,
    /// The kubelet has registered its node; it does so once in its life.
    #[serde(default)]
    pub registered: bool,
    /// Routes to the pods of other nodes, by range, since somebody set them.
    #[serde(default)]
    pub routes: Option<BTreeMap<String, Ipv4Addr>>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub spec: ContainerSpec,
    pub life: Life,
    /// The address it has while it runs.
    pub address: Option<Ipv4Addr>,
    pub inside: Inside,
}

impl ContainerRecord {
    pub fn runs(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// Whether the runtime gave it this address, while it runs.
    pub fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.address == Some(address),
            IpAddr::V6(address) => self.spec.ipv6_address.filter(|_| self.runs()) == Some(address),
        }
    }

    /// Whether it forwards to API servers, in place of being a node.
    pub fn balances(&self) -> bool {
        self.spec.command.iter().any(|word| word == super::route::SCRIPT)
    }

    /// The Kubernetes version of a node's image.
    pub fn version(&self) -> Option<&str> {
        images::version_of(&self.spec.image)
    }

    /// The same, of a container that is a node: a load balancer has a node's image and boots nothing.
    pub fn node_version(&self) -> Option<&str> {
        self.version().filter(|_| !self.balances())
    }

    /// When something next happens in it by itself.
    fn due(&self) -> Option<At> {
        if !self.runs() {
            return None;
        }
        let units = self.inside.units.values().filter_map(|unit| unit.due);
        units.chain(self.inside.boot_due).chain(self.inside.static_pods_due).min()
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetworkRecord {
    /// As asked for, with the subnet that was chosen where none was.
    pub spec: NetworkSpec,
    /// The address that was handed out last, of those that nobody asked for.
    #[serde(default)]
    pub handed_out: Option<Ipv4Addr>,
}

impl NetworkRecord {
    pub fn subnet(&self) -> Option<Subnet> {
        Subnet::parse(self.spec.subnet.as_deref()?)
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRecord {
    pub labels: Labels,
}

/// One change; `None` removes. What the journal's entries consist of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    Container {
        id: String,
        record: Option<Box<ContainerRecord>>,
    },
    Network {
        id: u64,
        record: Option<NetworkRecord>,
    },
    Volume {
        name: String,
        record: Option<VolumeRecord>,
    },
    File {
        owner: Owner,
        path: String,
        file: Option<FileRecord>,
    },
    /// An image, and from when on it is present.
    Image {
        name: String,
        present: Option<At>,
    },
    Etcd {
        id: String,
        record: Option<EtcdCluster>,
    },
    NextNetwork {
        id: u64,
    },
}

/// Where a node's etcd keeps its data: what says which cluster's data a volume holds.
pub(super) const ETCD_DATA: &str = "/var/lib/etcd/member/snap/db";
const ETCD_DATA_END: &str = "member/snap/db";

/// Everything there is, with the indexes that follow from it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub containers: BTreeMap<String, ContainerRecord>,
    /// In order of creation.
    pub networks: BTreeMap<u64, NetworkRecord>,
    pub volumes: BTreeMap<String, VolumeRecord>,
    pub images: BTreeMap<String, At>,
    pub files: BTreeMap<Owner, BTreeMap<String, FileRecord>>,
    pub etcd: BTreeMap<String, EtcdCluster>,
    pub next_network: u64,
    /// Ids of containers by name.
    by_name: BTreeMap<String, String>,
    /// Ids of containers by network.
    by_network: BTreeMap<String, BTreeSet<String>>,
    /// Ids of etcd clusters by network.
    etcd_by_network: BTreeMap<String, BTreeSet<String>>,
    /// Who holds data of an etcd cluster.
    etcd_holders: BTreeMap<String, BTreeSet<Owner>>,
    /// Containers by the time at which something next happens in them.
    due: BTreeSet<(At, String)>,
    /// Containers by the host ports that they publish.
    by_port: BTreeMap<u16, BTreeSet<String>>,
    /// The hosts that load balancers forward to, by container.
    backends: BTreeMap<String, Vec<String>>,
    /// Addresses on top of the runtime's, by container.
    overlays: BTreeMap<String, Overlay>,
    /// What a listing shows.
    pub observed: Observed,
    /// What runs of kubeadm under way have read.
    pub configurations: super::kubeadm::Configurations,
}

impl State {
    pub fn by_name(&self, name: &str) -> Option<(&str, &ContainerRecord)> {
        let id = self.by_name.get(name)?;
        Some((id.as_str(), self.containers.get(id)?))
    }

    pub fn in_network(&self, network: &str) -> impl Iterator<Item = (&str, &ContainerRecord)> {
        let ids = self.by_network.get(network).into_iter().flatten();
        ids.filter_map(|id| Some((id.as_str(), self.containers.get(id)?)))
    }

    /// The running container with this address in a network.
    pub fn at_address(&self, network: &str, address: Ipv4Addr) -> Option<(&str, &ContainerRecord)> {
        self.in_network(network).find(|(_, record)| record.runs() && record.address == Some(address))
    }

    /// The address by which others know a container that runs: the one that stays, where it has one.
    pub fn address_of(&self, id: &str) -> Option<Ipv4Addr> {
        let own = self.containers.get(id)?.address;
        own.map(|own| self.overlays.get(id).map_or(own, |overlay| overlay.address))
    }

    /// All addresses by which others know a container that runs.
    pub fn addresses_of(&self, id: &str) -> impl Iterator<Item = IpAddr> {
        let record = self.containers.get(id).filter(|record| record.runs());
        let six = record.and_then(|record| record.spec.ipv6_address);
        self.address_of(id).map(IpAddr::V4).into_iter().chain(six.map(IpAddr::V6))
    }

    pub fn has_address(&self, id: &str, address: IpAddr) -> bool {
        self.addresses_of(id).any(|own| own == address)
    }

    /// The running container that another one reaches at an address: both have to know where the other is. On the runtime's own
    /// network each reaches itself alone.
    pub fn reached(&self, from: &str, address: Ipv4Addr) -> Option<(&str, &ContainerRecord)> {
        let record = self.containers.get(from)?;
        self.routed(from, address).filter(|(id, _)| *id == from || record.spec.network != DEFAULT_NETWORK)
    }

    fn routed(&self, from: &str, address: Ipv4Addr) -> Option<(&str, &ContainerRecord)> {
        let record = self.containers.get(from)?;
        let Some(overlay) = self.overlays.get(from).filter(|overlay| overlay.spans(address)) else {
            return self.at_address(&record.spec.network, address);
        };
        if overlay.address == address {
            return self.containers.get_key_value(from).map(|(id, record)| (id.as_str(), record));
        }
        let (id, other) = self.at_address(&record.spec.network, *overlay.peers.get(&address)?)?;
        let back = self.overlays.get(id).filter(|other| other.address == address)?.peers.get(&overlay.address)?;
        (record.address == Some(*back)).then_some((id, other))
    }

    pub fn etcd_in(&self, network: &str) -> impl Iterator<Item = &EtcdCluster> {
        self.etcd_by_network.get(network).into_iter().flatten().filter_map(|id| self.etcd.get(id))
    }

    /// Whether any volume or container still holds data of an etcd cluster.
    pub fn etcd_held(&self, cluster: &str) -> bool {
        self.etcd_holders.get(cluster).is_some_and(|holders| !holders.is_empty())
    }

    /// The networks of the etcd clusters whose data somebody holds.
    pub fn networks_of_data(&self, owner: &Owner) -> Vec<String> {
        let files = self.files.get(owner).into_iter().flatten().filter(|(path, _)| path.ends_with(ETCD_DATA_END));
        let clusters = files.filter_map(|(_, file)| super::etcd::Data::parse(&file.content));
        clusters.filter_map(|data| Some(self.etcd.get(&data.cluster)?.network.clone())).collect()
    }

    /// Containers that publish a host port, running or not.
    pub fn publishing(&self, port: u16) -> impl Iterator<Item = (&str, &ContainerRecord)> {
        let ids = self.by_port.get(&port).into_iter().flatten();
        ids.filter_map(|id| Some((id.as_str(), self.containers.get(id)?)))
    }

    /// The hosts that a load balancer forwards to.
    pub fn backends(&self, id: &str) -> &[String] {
        self.backends.get(id).map_or(&[], Vec::as_slice)
    }

    /// When something next happens by itself.
    pub fn next_due(&self) -> Option<(At, String)> {
        self.due.first().cloned()
    }

    /// Where a path of a container lies: in a volume where one is mounted over it, else in the container.
    /// `None` for a path that is not absolute or climbs.
    pub fn locate(&self, id: &str, path: &str) -> Option<(Owner, String)> {
        let path = normal(path)?;
        let mounts = &self.containers.get(id)?.spec.mounts;
        let below = |mount: &Mount| {
            let rest = path.strip_prefix(mount.target.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
        };
        let deepest = mounts.iter().filter_map(|mount| Some((mount, below(mount)?)));
        Some(match deepest.max_by_key(|(mount, _)| mount.target.len()) {
            Some((mount, rest)) => {
                let subdirectory = mount.subdirectory.trim_matches('/');
                let inside = if subdirectory.is_empty() { rest } else { format!("{subdirectory}/{rest}") };
                (Owner::Volume(mount.volume.clone()), inside)
            }
            None => (Owner::Container(id.to_owned()), path),
        })
    }

    /// The paths of files below a directory that were written into a container or one of its volumes; what its image brings
    /// is not among them.
    pub fn written_below(&self, id: &str, directory: &str) -> Vec<String> {
        let Some(record) = self.containers.get(id) else { return Vec::new() };
        let own = (Owner::Container(id.to_owned()), String::new(), String::new());
        let mounted = record.spec.mounts.iter().map(|mount| {
            let subdirectory = mount.subdirectory.trim_matches('/');
            let inside = if subdirectory.is_empty() { String::new() } else { format!("{subdirectory}/") };
            (Owner::Volume(mount.volume.clone()), inside, format!("{}/", mount.target.trim_end_matches('/')))
        });
        let below = format!("{}/", directory.trim_end_matches('/'));
        let paths = std::iter::once(own).chain(mounted).flat_map(|(owner, inside, target)| {
            let files = self.files.get(&owner).into_iter().flat_map(|files| files.keys());
            files.filter_map(move |path| Some(format!("{target}{}", path.strip_prefix(&inside)?))).collect::<Vec<_>>()
        });
        paths.filter(|path| path.starts_with(&below)).collect()
    }

    /// A file as a container sees it; what its image brings is beneath.
    pub fn file(&self, id: &str, path: &str) -> Option<Bytes> {
        let (owner, inside) = self.locate(id, path)?;
        let written = self.files.get(&owner).and_then(|files| files.get(&inside));
        match written {
            Some(file) => Some(file.content.clone()),
            None if matches!(owner, Owner::Container(_)) => {
                super::node_files::of_image(self.containers.get(id)?.version()?, &inside)
            }
            None => None,
        }
    }

    /// A file as text.
    pub fn text(&self, id: &str, path: &str) -> Option<String> {
        String::from_utf8(self.file(id, path)?.to_vec()).ok()
    }

    /// Paths of the files below a directory, as they lie in what holds them.
    pub fn below(&self, id: &str, directory: &str) -> Vec<(Owner, String)> {
        let Some((owner, inside)) = self.locate(id, directory) else { return Vec::new() };
        let prefix = format!("{}/", inside.trim_end_matches('/'));
        let files = self.files.get(&owner).into_iter().flat_map(|files| files.keys());
        files.filter(|path| path.starts_with(&prefix)).map(|path| (owner.clone(), path.clone())).collect()
    }

    /// Everything, as changes that make it from nothing.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let containers = self.containers.iter();
        let files = self.files.iter().flat_map(|(owner, files)| {
            files.iter().map(|(path, file)| Change::File {
                owner: owner.clone(),
                path: path.clone(),
                file: Some(file.clone()),
            })
        });
        let networks = self.networks.iter();
        let volumes = self.volumes.iter();
        let images = self.images.iter();
        std::iter::once(Change::NextNetwork { id: self.next_network })
            .chain(networks.map(|(id, record)| Change::Network { id: *id, record: Some(record.clone()) }))
            .chain(volumes.map(|(name, record)| Change::Volume { name: name.clone(), record: Some(record.clone()) }))
            .chain(
                containers
                    .map(|(id, record)| Change::Container { id: id.clone(), record: Some(Box::new(record.clone())) }),
            )
            .chain(files)
            .chain(images.map(|(name, at)| Change::Image { name: name.clone(), present: Some(*at) }))
            .chain(self.etcd.iter().map(|(id, record)| Change::Etcd { id: id.clone(), record: Some(record.clone()) }))
    }

    /// Applies a change and returns the one that takes it back.
    pub fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::Container { id, record } => self.apply_container(id, record),
            Change::Network { id, record } => {
                let old = replace(&mut self.networks, id, record);
                self.observed.network(id, old.as_ref(), self.networks.get(&id));
                Change::Network { id, record: old }
            }
            Change::Volume { name, record } => {
                let old = replace(&mut self.volumes, name.clone(), record);
                self.observed.volume(&name, self.volumes.get(&name));
                Change::Volume { name, record: old }
            }
            Change::File { owner, path, file } => self.apply_file(owner, path, file),
            Change::Image { name, present } => {
                let old = replace(&mut self.images, name.clone(), present);
                Change::Image { name, present: old }
            }
            Change::Etcd { id, record } => {
                let old = replace(&mut self.etcd, id.clone(), record);
                if let Some(old) = &old {
                    unlink(&mut self.etcd_by_network, &old.network, &id);
                }
                if let Some(new) = self.etcd.get(&id) {
                    self.etcd_by_network.entry(new.network.clone()).or_default().insert(id.clone());
                }
                Change::Etcd { id, record: old }
            }
            Change::NextNetwork { id } => Change::NextNetwork { id: std::mem::replace(&mut self.next_network, id) },
        }
    }

    fn apply_container(&mut self, id: String, record: Option<Box<ContainerRecord>>) -> Change {
        let old = replace(&mut self.containers, id.clone(), record.map(|record| *record));
        self.observed.container(&id, old.as_ref(), self.containers.get(&id));
        if let Some(old) = &old {
            self.by_name.remove(&old.spec.name);
            for port in &old.spec.ports {
                if let Some(ids) = self.by_port.get_mut(&port.host_port) {
                    ids.remove(&id);
                }
            }
            unlink(&mut self.by_network, &old.spec.network, &id);
            if let Some(due) = old.due() {
                self.due.remove(&(due, id.clone()));
            }
        }
        if let Some(new) = self.containers.get(&id) {
            self.by_name.insert(new.spec.name.clone(), id.clone());
            for port in &new.spec.ports {
                self.by_port.entry(port.host_port).or_default().insert(id.clone());
            }
            self.by_network.entry(new.spec.network.clone()).or_default().insert(id.clone());
            if let Some(due) = new.due() {
                self.due.insert((due, id.clone()));
            }
        }
        Change::Container { id, record: old.map(Box::new) }
    }

    fn apply_file(&mut self, owner: Owner, path: String, file: Option<FileRecord>) -> Change {
        let files = self.files.entry(owner.clone()).or_default();
        let old = replace(files, path.clone(), file);
        if path.ends_with(ETCD_DATA_END) {
            let cluster = |file: &FileRecord| super::etcd::Data::parse(&file.content).map(|data| data.cluster);
            if let Some(cluster) = old.as_ref().and_then(cluster) {
                unlink(&mut self.etcd_holders, &cluster, &owner);
            }
            if let Some(cluster) = files.get(&path).and_then(cluster) {
                self.etcd_holders.entry(cluster).or_default().insert(owner.clone());
            }
        }
        if let Owner::Container(id) = &owner
            && path == super::route::BACKENDS
        {
            match files.get(&path) {
                Some(file) => self.backends.insert(id.clone(), super::route::parse_backends(&file.content)),
                None => self.backends.remove(id),
            };
        }
        if let Owner::Container(id) = &owner
            && (path == overlay::CONFIG_PATH || path == overlay::PEERS_PATH)
        {
            let content = |path: &str| files.get(path).map(|file| &*file.content);
            match Overlay::parse(content(overlay::CONFIG_PATH), content(overlay::PEERS_PATH)) {
                Some(found) => self.overlays.insert(id.clone(), found),
                None => self.overlays.remove(id),
            };
        }
        if files.is_empty() {
            self.files.remove(&owner);
        }
        Change::File { owner, path, file: old }
    }
}

fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

fn unlink<M: Ord>(index: &mut BTreeMap<String, BTreeSet<M>>, key: &str, member: &M) {
    if let Some(members) = index.get_mut(key) {
        members.remove(member);
        if members.is_empty() {
            index.remove(key);
        }
    }
}

/// An absolute path without doubled or trailing slashes; `None` for one that is relative or climbs.
fn normal(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let mut whole = String::with_capacity(path.len());
    for part in rest.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." || part.contains('\0') {
            return None;
        }
        whole.push('/');
        whole.push_str(part);
    }
    Some(whole)
}

/// Changes made together: all are written and seen, or none.
pub(super) struct Tx<'a> {
    pub state: &'a mut State,
    done: Vec<Change>,
    undo: Vec<Change>,
    /// Networks in which something happened that others there may wait for.
    pub touched: BTreeSet<String>,
    /// What units asked of API servers.
    pub asks: Vec<Ticket>,
}

impl<'a> Tx<'a> {
    pub fn new(state: &'a mut State) -> Self {
        Self { state, done: Vec::new(), undo: Vec::new(), touched: BTreeSet::new(), asks: Vec::new() }
    }

    pub fn apply(&mut self, change: Change) {
        self.done.push(change.clone());
        self.undo.push(self.state.apply(change));
    }

    /// Changes a container that exists.
    pub fn update(&mut self, id: &str, change: impl FnOnce(&mut ContainerRecord)) {
        if let Some(record) = self.state.containers.get(id) {
            let mut new = Box::new(record.clone());
            change(&mut new);
            if *new != *record {
                self.touched.insert(new.spec.network.clone());
                self.apply(Change::Container { id: id.to_owned(), record: Some(new) });
            }
        }
    }

    /// Says that something changed around a container that others there may wait for.
    pub fn touch(&mut self, id: &str) {
        if let Some(record) = self.state.containers.get(id) {
            self.touched.insert(record.spec.network.clone());
        }
    }

    /// Writes a file where a container sees it under `path`. Paths come from this program: absolute, not climbing.
    pub fn write(&mut self, id: &str, path: &str, mode: u32, content: impl Into<Bytes>) {
        if let Some((owner, path)) = self.state.locate(id, path) {
            // Copied, so that nothing is held but what is in it.
            let file = Some(FileRecord { mode, content: Bytes::copy_from_slice(&content.into()) });
            self.apply(Change::File { owner, path, file });
        }
    }

    /// Removes a file, or all files below a directory.
    pub fn delete(&mut self, id: &str, path: &str) {
        let mut gone = self.state.below(id, path);
        gone.extend(self.state.locate(id, path));
        for (owner, path) in gone {
            if self.state.files.get(&owner).is_some_and(|files| files.contains_key(&path)) {
                self.apply(Change::File { owner, path, file: None });
            }
        }
    }

    /// Removes all files of a container's layer or of a volume.
    pub fn delete_owner(&mut self, owner: &Owner) {
        self.touched.extend(self.state.networks_of_data(owner));
        let paths: Vec<String> =
            self.state.files.get(owner).into_iter().flat_map(|files| files.keys().cloned()).collect();
        for path in paths {
            self.apply(Change::File { owner: owner.clone(), path, file: None });
        }
    }

    /// What was changed, for the journal.
    pub fn changes(&self) -> &[Change] {
        &self.done
    }

    /// Takes everything back.
    pub fn roll_back(self) {
        for change in self.undo.into_iter().rev() {
            self.state.apply(change);
        }
    }
}
