//! How far a node's pod network is, where it is Kina's own (`cni: routed`).
//!
//! A node is told of all the others, and they of it; only once a packet has come back from each of them that lives is it made
//! Ready. Of two nodes that come up together, the one that was told later proves the way between them: it sees that the other
//! was told before. What this process did not do itself it does again: a restart of Kina, of a container or of both costs two
//! commands a node.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::container;
use super::facts::{NodeFacts, PodNetwork};
use super::observe::Subject;
use crate::api::Machine;
use crate::controllers::clusters_api::ApiView;
use crate::controllers::context::Shared;
use crate::controllers::host::{self, Seen};
use crate::controllers::identity;
use crate::kubeadm::routed::{self, Book, Member};
use crate::runtime::{ContainerId, ContainerState};

/// Of what a node was told, and in which container.
const TOLD: &str = "told of nodes";
/// In which container it was made Ready.
const OPEN: &str = "pod network";
/// How long a kubelet may take to see its configuration: it looks every 5 s, and tells every 10 s.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// All nodes of the cluster that a Machine belongs to. `None` where its pod network is not Kina's.
#[must_use]
pub fn book(shared: &Shared, subject: &Subject) -> Option<Book> {
    subject.machine.spec.pod_cidr.as_ref()?;
    let pods = subject.of_cluster.as_ref()?.resolved.pod_subnet.v4()?;
    let mut members: Vec<Member> =
        subject.of_its_cluster(shared).iter().filter_map(|machine| member(machine)).collect();
    members.sort();
    Some(Book { pods, members })
}

/// One that goes is a member until it is gone: its pods are still on their way.
fn member(machine: &Machine) -> Option<Member> {
    let (address, range) = (machine.spec.address.parse().ok()?, machine.spec.pod_cidr.as_ref()?.parse().ok()?);
    Some(Member { name: machine.name_any(), address, range })
}

/// Tells one set of nodes from another, and one script.
fn hash(book: &Book) -> String {
    identity::hash(&format!("{}{}", routed::SCRIPT, book.common()))
}

/// A container since it was first seen to run: what a restart takes away is made anew.
fn place(id: &ContainerId, since: Timestamp) -> String {
    format!("{id} {since}")
}

/// A node was told of all in the book.
pub fn told(shared: &Shared, subject: &Subject, id: &ContainerId, book: &Book) {
    let since = shared.memory.running(&subject.uid, id, shared.context.world.clock.now());
    shared.memory.keep_text(&subject.uid, TOLD, &format!("{} {}", place(id, since), hash(book)));
    // Whoever waited for this one to be told of it need not look for it.
    for other in shared.machines.of(&subject.machine.spec.cluster) {
        if other.uid().is_some_and(|uid| shared.memory.text(&uid, OPEN).is_none()) {
            shared.waker.machines.wake(&other.name_any());
        }
    }
}

/// A node was made Ready.
pub fn opened(shared: &Shared, subject: &Subject, id: &ContainerId) {
    let since = shared.memory.running(&subject.uid, id, shared.context.world.clock.now());
    shared.memory.keep_text(&subject.uid, OPEN, &place(id, since));
    shared.memory.unwish(&subject.uid, OPEN);
    shared.memory.wished(&subject.uid, OPEN);
}

/// Something may have taken away what was made.
pub fn forget(shared: &Shared, subject: &Subject) {
    shared.memory.drop_text(&subject.uid, TOLD);
    shared.memory.drop_text(&subject.uid, OPEN);
}

/// How far the pod network of a node is that runs in this container since then.
#[must_use]
pub fn look(
    shared: &Shared,
    subject: &Subject,
    running: Option<(&ContainerId, Timestamp)>,
    node: Option<&NodeFacts>,
) -> PodNetwork {
    let Some((id, since)) = running.filter(|_| !subject.deleting()) else { return PodNetwork::Current };
    let Some(book) = book(shared, subject) else { return PodNetwork::Current };
    let (place, hash) = (place(id, since), hash(&book));
    let is_open = shared.memory.text(&subject.uid, OPEN).as_ref() == Some(&place);
    let is_lost = node.is_some_and(|node| node.lacks_network);
    if is_open && is_lost && shared.memory.wished(&subject.uid, OPEN).elapsed() >= SEEN_WITHIN {
        // Its kubelet says that there is none: somebody removed the configuration.
        forget(shared, subject);
        return PodNetwork::Outdated;
    }
    if shared.memory.text(&subject.uid, TOLD) != Some(format!("{place} {hash}")) {
        return PodNetwork::Outdated;
    }
    if is_open {
        return PodNetwork::Current;
    }
    let untold = peers(shared, subject).into_iter().filter(|peer| peer.told.as_ref() != Some(&hash));
    let untold: Vec<String> = untold.map(|peer| peer.name).collect();
    if untold.is_empty() { PodNetwork::Closed } else { PodNetwork::Untold(untold) }
}

/// Another node that lives.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Of which nodes it was told last, as a hash.
    told: Option<String>,
}

/// The other nodes from which a packet has to come back: those whose container runs, and which either are Ready or were told of
/// all nodes by this process. One that only comes up proves the way itself, once it was told; one that has frozen is not waited
/// for any more once its cluster says that it is not heard of.
#[must_use]
pub fn peers(shared: &Shared, subject: &Subject) -> Vec<Peer> {
    let Seen::Known(listing) = subject.host.seen() else { return Vec::new() };
    let ready = |name: &str| {
        let seen = |view: &ApiView| Some(view.nodes.get(name).filter(|_| view.answers == Some(true))?.ready);
        shared.api.with(&subject.cluster_uid, seen).flatten()
    };
    let lives = |machine: &Machine| {
        let (name, uid) = (machine.name_any(), machine.uid()?);
        if name == subject.name || machine.metadata.deletion_timestamp.is_some() || machine.spec.pod_cidr.is_none() {
            return None;
        }
        let owner = container::owner(&shared.context.installation, machine)?;
        let found = host::container(&listing, &name, &owner);
        let running = found.ours().filter(|found| found.state == ContainerState::Running)?;
        let told = shared.memory.text(&uid, TOLD);
        let told = told.as_deref().and_then(|told| told.strip_prefix(&format!("{} ", running.id))?.rsplit_once(' '));
        let told = told.map(|(_, hash)| hash.to_owned());
        let lives = match ready(&name) {
            Some(None) => false,
            Some(Some(true)) => true,
            Some(Some(false)) | None => told.is_some(),
        };
        lives.then_some(Peer { name, told })
    };
    subject.of_its_cluster(shared).iter().filter_map(|machine| lives(machine)).collect()
}
