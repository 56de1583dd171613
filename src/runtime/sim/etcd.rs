//! The etcd of each simulated cluster: who its members are, who of them runs, and whether they are a majority.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::exec::{fails, says};
use super::manifests;
use super::pki;
use super::world::{Change, ContainerRecord, ETCD_DATA, State, Tx};
use crate::kubeadm::ETCD_PEER_PORT;
use crate::kubeadm::etcd::peer_address as address_of;
use crate::runtime::ExecOutput;
use crate::world::Random;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// `https://ADDRESS:2380`.
    pub peer: String,
    /// It ran at least once: its data are somewhere, or lost.
    pub started: bool,
    /// It was announced and has not caught up yet: it does not vote and does not count. kubeadm adds members so, from 1.29
    /// on, and promotes them once they run.
    #[serde(default)]
    pub learner: bool,
}

/// The members that share one set of data. Its id is the tenant under which the API server keeps the cluster's objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EtcdCluster {
    pub id: String,
    /// The network its members speak over.
    pub network: String,
    /// Fingerprint of the CA of its peers.
    pub etcd_ca: String,
    /// Fingerprint of the CA of the API server on top.
    pub cluster_ca: String,
    pub members: BTreeMap<String, Member>,
    /// Nobody holds its data any more: its objects are about to go, then it goes itself.
    #[serde(default)]
    pub gone: bool,
}

/// What a member's data directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    pub cluster: String,
    pub member: String,
}

impl Data {
    pub fn parse(content: &[u8]) -> Option<Self> {
        serde_json::from_slice(content).ok()
    }

    fn of(state: &State, id: &str) -> Option<Self> {
        Self::parse(&state.file(id, ETCD_DATA)?)
    }
}

impl EtcdCluster {
    fn majority(&self) -> usize {
        self.members.values().filter(|member| !member.learner).count() / 2 + 1
    }
}

pub(super) const CA_FILE: &str = "/etc/kubernetes/pki/etcd/ca.crt";
pub(super) const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// The cluster of which this container is a voting member that runs: with the cluster's data, CA and its own peer address.
fn votes<'a>(state: &'a State, id: &str, record: &ContainerRecord) -> Option<&'a EtcdCluster> {
    if !record.runs() || !record.inside.static_pods || record.inside.etcd_failure.is_some() {
        return None;
    }
    let data = Data::of(state, id)?;
    let cluster = state.etcd.get(&data.cluster).filter(|cluster| cluster.network == record.spec.network)?;
    let member = cluster.members.get(&data.member)?;
    (!member.learner && address_of(&member.peer).is_some_and(|address| state.has_address(id, address)))
        .then_some(cluster)
}

/// The cluster that this container serves: its own member runs and votes, and a majority with it.
pub(super) fn serving<'a>(state: &'a State, id: &str) -> Option<&'a EtcdCluster> {
    let cluster = votes(state, id, state.containers.get(id)?)?;
    let reached = voters(state, cluster).filter(|other| reach(state, id, other));
    (reached.count() >= cluster.majority()).then_some(cluster)
}

/// Whether a majority of the members run, and reach each other.
pub(super) fn has_quorum(state: &State, cluster: &EtcdCluster) -> bool {
    voters(state, cluster)
        .any(|id| voters(state, cluster).filter(|other| reach(state, id, other)).count() >= cluster.majority())
}

fn voters<'a>(state: &'a State, cluster: &'a EtcdCluster) -> impl Iterator<Item = &'a str> {
    let here = state.in_network(&cluster.network);
    here.filter(|(id, record)| votes(state, id, record).is_some_and(|other| other.id == cluster.id)).map(|(id, _)| id)
}

fn reach(state: &State, from: &str, to: &str) -> bool {
    let found = state.address_of(to).and_then(|address| state.reached(from, address));
    found.is_some_and(|(id, _)| id == to)
}

/// Starts the etcd of a node as its manifest says.
pub(super) fn start(tx: &mut Tx<'_>, id: &str, random: &dyn Random) {
    let failure = try_start(tx, id, random).err();
    tx.update(id, |record| record.inside.etcd_failure = failure);
}

fn try_start(tx: &mut Tx<'_>, id: &str, random: &dyn Random) -> Result<(), String> {
    let state = &*tx.state;
    let record = state.containers.get(id).ok_or("no container")?;
    let network = record.spec.network.clone();
    let manifest = state.text(id, MANIFEST).ok_or("no manifest")?;
    let arguments = manifests::arguments(&manifest);
    let get = |name: &str| arguments.get(name).cloned().unwrap_or_default();
    let (name, peer) = (get("name"), get("initial-advertise-peer-urls"));
    if !address_of(&peer).is_some_and(|address| state.has_address(id, address)) {
        return Err(format!(
            "listen tcp {}: bind: cannot assign requested address",
            peer.trim_start_matches("https://")
        ));
    }
    if let Some(data) = Data::of(state, id) {
        return match state.etcd.get(&data.cluster).map(|cluster| cluster.members.contains_key(&data.member)) {
            Some(true) => Ok(()),
            _ => Err("the member has been permanently removed from the cluster".to_owned()),
        };
    }
    let etcd_ca = fingerprint(state, id, CA_FILE)?;
    let cluster_ca = fingerprint(state, id, super::kubeadm::CA_FILE)?;
    let wanted = members(&get("initial-cluster"))?;
    if wanted.get(&name) != Some(&peer) {
        return Err(format!("--initial-cluster does not list {name}={peer}"));
    }
    let existing = state.etcd_in(&network).find(|cluster| {
        let shared = wanted.iter().any(|(name, peer)| cluster.members.get(name).is_some_and(|m| m.peer == *peer));
        cluster.etcd_ca == etcd_ca && shared && state.etcd_held(&cluster.id)
    });
    let mut cluster = match existing {
        Some(cluster) => cluster.clone(),
        None if get("initial-cluster-state") == "existing" => {
            return Err("error validating peerURLs: no member of the cluster answers".to_owned());
        }
        None => EtcdCluster {
            id: format!("{:016x}", random.next_u64()),
            network,
            etcd_ca,
            cluster_ca,
            gone: false,
            members: wanted
                .into_iter()
                .map(|(name, peer)| (name, Member { peer, started: false, learner: false }))
                .collect(),
        },
    };
    let has_leader = has_quorum(state, &cluster);
    match cluster.members.get_mut(&name) {
        Some(member) if member.started => return Err(format!("member {name} has already been bootstrapped")),
        Some(member) if member.learner && !has_leader => {
            return Err("etcdserver: no leader: the learner cannot catch up".to_owned());
        }
        Some(member) if member.peer == peer => (member.started, member.learner) = (true, false),
        _ => return Err(format!("error validating peerURLs: {name}={peer} is no member of the cluster")),
    }
    let data = Data { cluster: cluster.id.clone(), member: name };
    let content = serde_json::to_vec(&data).map_err(|error| error.to_string())?;
    tx.apply(Change::Etcd { id: cluster.id.clone(), record: Some(cluster) });
    tx.write(id, ETCD_DATA, 0o600, content);
    Ok(())
}

/// Adds a member that has not run yet, as a learner; returns the `--initial-cluster` that it starts with.
///
/// # Errors
/// In etcd's words, where the cluster has no quorum.
pub(super) fn add_member(tx: &mut Tx<'_>, cluster: &str, name: &str, address: IpAddr) -> Result<String, String> {
    let mut record = tx.state.etcd.get(cluster).cloned().ok_or("etcdserver: no leader")?;
    if !has_quorum(tx.state, &record) {
        return Err("context deadline exceeded: etcdserver: no leader".to_owned());
    }
    let peer = format!("https://{}", SocketAddr::new(address, ETCD_PEER_PORT));
    // kubeadm looks for its own peer URL first and adds nothing where it finds it. A member that already ran and lost
    // its data is found too, and then refuses to start.
    let known = record.members.get(name).is_some_and(|member| member.peer == peer);
    if !known && record.members.values().any(|member| member.learner) {
        // `max-learners` is 1.
        return Err("etcdserver: too many learner members in cluster".to_owned());
    }
    if !known {
        record.members.insert(name.to_owned(), Member { peer, started: false, learner: true });
        tx.apply(Change::Etcd { id: cluster.to_owned(), record: Some(record.clone()) });
    }
    Ok(record.members.iter().map(|(name, member)| format!("{name}={}", member.peer)).collect::<Vec<_>>().join(","))
}

/// Removes the member that this container is, unless it is the last.
///
/// # Errors
/// In etcd's words, where the others would be no majority.
pub(super) fn remove_own_member(tx: &mut Tx<'_>, id: &str) -> Result<(), String> {
    let Some(data) = Data::of(tx.state, id) else { return Ok(()) };
    let Some(cluster) = tx.state.etcd.get(&data.cluster).cloned() else { return Ok(()) };
    if !cluster.members.contains_key(&data.member) || cluster.members.len() == 1 {
        return Ok(());
    }
    if !has_quorum(tx.state, &cluster) {
        return Err("context deadline exceeded: etcdserver: no leader".to_owned());
    }
    remove_member(tx, cluster, &data.member)
}

/// Removes a member of a cluster that has a quorum.
///
/// # Errors
/// As etcd's `mayRemoveMember` (`server/etcdserver/server.go`): where of those that stay too few run. One that is down is no
/// part of the majority, and may always go.
fn remove_member(tx: &mut Tx<'_>, mut cluster: EtcdCluster, name: &str) -> Result<(), String> {
    let runs = |name: &str| {
        let mut here = tx.state.in_network(&cluster.network);
        here.any(|(id, record)| {
            votes(tx.state, id, record).is_some_and(|other| other.id == cluster.id)
                && Data::of(tx.state, id).is_some_and(|data| data.member == name)
        })
    };
    let was_active = runs(name);
    let active = cluster.members.keys().filter(|other| *other != name && runs(other)).count();
    cluster.members.remove(name);
    if was_active && active < cluster.majority() {
        return Err("etcdserver: unhealthy cluster".to_owned());
    }
    tx.apply(Change::Etcd { id: cluster.id.clone(), record: Some(cluster) });
    Ok(())
}

/// What etcdctl does beside the etcd of the control plane of this name.
pub(super) fn etcdctl(tx: &mut Tx<'_>, id: &str, name: &str, arguments: &[&str]) -> ExecOutput {
    let runs = |record: &ContainerRecord| record.runs() && record.inside.static_pods && record.spec.name == name;
    if !tx.state.containers.get(id).is_some_and(runs) || tx.state.file(id, MANIFEST).is_none() {
        return fails(1, "no etcd runs here\n");
    }
    let Some(cluster) = serving(tx.state, id).cloned() else {
        return fails(1, "Error: context deadline exceeded\n");
    };
    match arguments {
        ["member", "list", "--write-out=json"] => says(list(&cluster)),
        ["member", "remove", member] => {
            let found = cluster.members.keys().find(|name| format!("{:x}", member_id(&cluster, name)) == *member);
            match found.cloned().map(|name| remove_member(tx, cluster.clone(), &name)) {
                Some(Ok(())) => says(format!("Member {member} removed from cluster {}\n", cluster.id)),
                Some(Err(error)) => fails(1, format!("Error: {error}\n")),
                None => fails(1, "Error: etcdserver: member not found\n"),
            }
        }
        _ => fails(1, "Error: unknown command\n"),
    }
}

/// One that was only announced has no name.
fn list(cluster: &EtcdCluster) -> String {
    let members = cluster.members.iter().map(|(name, member)| {
        let shown = if member.started { name.as_str() } else { "" };
        let mut shown = json!({"ID": member_id(cluster, name), "name": shown, "peerURLs": [member.peer]});
        if member.learner {
            shown["isLearner"] = true.into();
        }
        shown
    });
    json!({"header": {}, "members": members.collect::<Vec<_>>()}).to_string()
}

/// As with etcd, another one for one that comes from another address.
fn member_id(cluster: &EtcdCluster, name: &str) -> u64 {
    let peer = cluster.members.get(name).map_or("", |member| &member.peer);
    let digest = Sha256::digest(format!("{} {name} {peer}", cluster.id));
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Gives up clusters whose data nobody holds any more; returns their ids, whose objects are to go.
pub(super) fn collect(tx: &mut Tx<'_>, network: &str) -> Vec<String> {
    let state = &*tx.state;
    let lost = state.etcd_in(network).filter(|cluster| !cluster.gone && !state.etcd_held(&cluster.id));
    let lost: Vec<EtcdCluster> = lost.map(|cluster| EtcdCluster { gone: true, ..cluster.clone() }).collect();
    let ids = lost.iter().map(|cluster| cluster.id.clone()).collect();
    for cluster in lost {
        tx.apply(Change::Etcd { id: cluster.id.clone(), record: Some(cluster) });
    }
    ids
}

fn fingerprint(state: &State, id: &str, path: &str) -> Result<String, String> {
    let certificate = state.text(id, path).ok_or_else(|| format!("open {path}: no such file or directory"))?;
    pki::fingerprint(&certificate).ok_or_else(|| format!("{path}: not a certificate"))
}

/// `A=https://ADDRESS:2380,B=…`
fn members(text: &str) -> Result<BTreeMap<String, String>, String> {
    let parse = |entry: &str| Some(entry.split_once('=')?).map(|(name, peer)| (name.to_owned(), peer.to_owned()));
    let parsed = text.split(',').map(|entry| parse(entry).filter(|(_, peer)| address_of(peer).is_some()));
    parsed.collect::<Option<_>>().ok_or_else(|| format!("invalid value {text:?} for flag --initial-cluster"))
}
