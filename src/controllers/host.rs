//! What a runtime's host has on it: one listing a tick for all reconciles.
//!
//! A listing is taken when the runtime says that something changed, when somebody needs one that began after a certain
//! moment, and in any case now and then. Only those whose objects differ from the listing before are woken. Where a
//! listing fails, nothing is known: what was seen before says nothing about what is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limit::Places;
use super::owned::{Kind, Owned};
use super::wake::Waker;
use crate::api::cidr::{Cidr, Cidr6};
use crate::api::cluster::RuntimeName;
use crate::runtime::{Container, Labels, Listing, Network, OwnerLabels, Runtime, RuntimeError, Volume};

/// Between two listings pass at least this long, and more where there is much to list: a listing costs some 20 µs an
/// object, so at most a fifth of the time goes into listing.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_PER_OBJECT: Duration = Duration::from_micros(20);
/// How often a runtime without events is asked while something is in work, and how often otherwise.
const POLL_BUSY: Duration = Duration::from_secs(1);
/// How often in any case.
const POLL_QUIET: Duration = Duration::from_secs(30);
/// How long a runtime without events counts as busy after the last change or wish.
const BUSY_FOR: Duration = Duration::from_secs(60);
/// How soon a listing that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// One runtime's host.
#[derive(Debug)]
pub struct Host {
    /// Its name in manifests.
    pub name: RuntimeName,
    /// The runtime itself.
    pub runtime: Arc<dyn Runtime>,
    /// Places for machines in work on it.
    pub places: Places,
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug)]
struct State {
    seen: Seen,
    /// What of the listing belongs to which Cluster.
    owned: Owned,
    /// Who waits for a listing that begins later than this.
    waiting: BTreeMap<Waiter, Instant>,
    busy_until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiter {
    Cluster(String),
    Machine(String),
}

/// What is known.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Nothing, since no listing succeeded: not that there is nothing.
    Unknown(String),
    /// Everything, as of a time.
    Known(Arc<Listing>),
}

/// One object of a wanted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// There is none.
    Absent,
    /// Ours, made for this very object.
    Ours(T),
    /// Of somebody else: never touched.
    Foreign,
}

impl<T> Found<T> {
    /// What is ours.
    pub fn ours(&self) -> Option<&T> {
        match self {
            Self::Ours(object) => Some(object),
            Self::Absent | Self::Foreign => None,
        }
    }
}

impl Host {
    /// A host that has not been looked at yet, on which so many machines are in work at once.
    #[must_use]
    pub fn new(name: RuntimeName, runtime: Arc<dyn Runtime>, parallelism: usize) -> Self {
        let seen = Seen::Unknown("not asked yet".to_owned());
        let (owned, waiting) = (Owned::default(), BTreeMap::new());
        let state = State { seen, owned, waiting, busy_until: Instant::now() + BUSY_FOR };
        Self { name, runtime, places: Places::new(parallelism), state: Mutex::new(state), asked: Notify::new() }
    }

    /// What is known now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    /// What is known now, and what of it carries a Cluster's UID and this installation, as `(kind, name)`.
    #[must_use]
    pub fn seen_of(&self, owner: &OwnerLabels) -> (Seen, Vec<(&'static str, String)>) {
        let state = self.lock();
        (state.seen.clone(), state.owned.of(owner))
    }

    /// Asks for a listing that begins after `moment`; the Cluster of this name is woken by it.
    pub fn ask_for_cluster(&self, name: &str, moment: Instant) {
        self.ask(Waiter::Cluster(name.to_owned()), moment);
    }

    /// Asks for a listing that begins after `moment`; the Machine of this name is woken by it.
    pub fn ask_for_machine(&self, name: &str, moment: Instant) {
        self.ask(Waiter::Machine(name.to_owned()), moment);
    }

    fn ask(&self, waiter: Waiter, moment: Instant) {
        let mut state = self.lock();
        state.busy_until = Instant::now() + BUSY_FOR;
        state.waiting.insert(waiter, moment);
        drop(state);
        self.asked.notify_one();
    }

    /// Looks, again and again, until the end.
    pub async fn watch(self: Arc<Self>, waker: Waker, end: CancellationToken) {
        let events = self.runtime.capabilities().supports_events;
        let mut stream = self.runtime.events();
        loop {
            let pause = self.look(&waker).await;
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if self.is_awaited() {
                continue;
            }
            let poll = self.poll(events);
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = self.asked.notified() => {}
                event = stream.next(), if events => {
                    if event.is_none() {
                        // The runtime went away: look for it again, not in a hot loop.
                        tokio::time::sleep(AGAIN).await;
                        stream = self.runtime.events();
                    }
                }
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    fn is_awaited(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    fn poll(&self, events: bool) -> Duration {
        let state = self.lock();
        match &state.seen {
            Seen::Unknown(_) => AGAIN,
            Seen::Known(_) if !events && Instant::now() < state.busy_until => POLL_BUSY,
            Seen::Known(_) => POLL_QUIET,
        }
    }

    /// Takes one listing and wakes whom it concerns; tells how long to pause.
    async fn look(&self, waker: &Waker) -> Duration {
        match self.runtime.list().await {
            Ok(listing) => {
                let objects = listing.containers.len() + listing.networks.len() + listing.volumes.len();
                self.note(Arc::new(listing), waker);
                PAUSE + PAUSE_PER_OBJECT * u32::try_from(objects).unwrap_or(u32::MAX)
            }
            Err(error) => {
                self.note_failure(&error, waker);
                AGAIN
            }
        }
    }

    fn note(&self, listing: Arc<Listing>, waker: &Waker) {
        let mut state = self.lock();
        let before = match &state.seen {
            Seen::Known(before) => Arc::clone(before),
            Seen::Unknown(_) => Arc::new(Listing {
                began: listing.began,
                containers: Vec::new(),
                networks: Vec::new(),
                volumes: Vec::new(),
                routes: Vec::new(),
            }),
        };
        let State { owned, .. } = &mut *state;
        let mut changed = false;
        differing(&before.containers, &listing.containers, |was, is| {
            changed = true;
            owned.replace(
                Kind::Container,
                was.map(|was| (&was.name, was.owner())),
                is.map(|is| (&is.name, is.owner())),
            );
            is.or(was).into_iter().for_each(|object| wake_for(waker, &object.name, object.owner()));
        });
        differing(&before.volumes, &listing.volumes, |was, is| {
            changed = true;
            owned.replace(Kind::Volume, was.map(|was| (&was.name, was.owner())), is.map(|is| (&is.name, is.owner())));
            is.or(was).into_iter().for_each(|object| wake_for(waker, &object.name, object.owner()));
        });
        differing(&before.networks, &listing.networks, |was, is| {
            changed = true;
            owned.replace(Kind::Network, was.map(|was| (&was.name, was.owner())), is.map(|is| (&is.name, is.owner())));
            is.or(was).into_iter().for_each(|object| wake_for(waker, &object.name, object.owner()));
        });
        if changed {
            state.busy_until = Instant::now() + BUSY_FOR;
        }
        if matches!(state.seen, Seen::Unknown(_)) {
            // Whoever waits for the runtime to answer is not among the changed.
            tracing::info!(runtime = self.name.as_str(), "the runtime answers");
        }
        if !self.runtime.capabilities().pins_addresses {
            wake_for_moves(waker, &before, &listing);
        }
        let began = listing.began;
        state.seen = Seen::Known(listing);
        state.waiting.retain(|waiter, moment| {
            let served = began > *moment;
            if served {
                match waiter {
                    Waiter::Cluster(name) => waker.clusters.wake(name),
                    Waiter::Machine(name) => waker.machines.wake(name),
                }
            }
            !served
        });
    }

    fn note_failure(&self, error: &RuntimeError, waker: &Waker) {
        let mut state = self.lock();
        if let Seen::Known(before) = &state.seen {
            tracing::warn!(runtime = self.name.as_str(), %error, "the runtime does not answer");
            for container in &before.containers {
                wake_for(waker, &container.name, container.owner());
            }
        }
        state.owned = Owned::default();
        state.seen = Seen::Unknown(error.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Machines whose neighbours came, went or moved: they are to be told.
fn wake_for_moves(waker: &Waker, before: &Listing, now: &Listing) {
    let mut moved = BTreeSet::new();
    differing(&before.containers, &now.containers, |was, is| {
        let place = |container: Option<&Arc<Container>>| container.and_then(|container| container.address);
        if place(was) != place(is) {
            moved.extend(is.or(was).and_then(|container| container.owner()).map(|owner| owner.cluster));
        }
    });
    for container in &now.containers {
        if container.owner().is_some_and(|owner| moved.contains(&owner.cluster)) {
            waker.machines.wake(&container.name);
        }
    }
}

fn wake_for(waker: &Waker, name: &str, owner: Option<OwnerLabels>) {
    if let Some(owner) = owner {
        waker.clusters.wake(&owner.cluster);
    }
    // By name as well: somebody else's object of a wanted name is news for whoever wants the name.
    waker.machines.wake(name);
    if let Some(cluster) = name.strip_prefix("kina-").or_else(|| name.strip_suffix("-lb")) {
        waker.clusters.wake(cluster);
    }
}

impl<T: Named> Named for Arc<T> {
    fn name(&self) -> &str {
        (**self).name()
    }
}

/// What has a name that a listing is ordered by.
pub trait Named {
    /// Its name.
    fn name(&self) -> &str;
}

macro_rules! named {
    ($($kind:ty),*) => {$(
        impl Named for $kind {
            fn name(&self) -> &str {
                &self.name
            }
        }
    )*};
}
named!(Container, Network, Volume);

/// Calls for everything that is in one list and not, or not the same, in the other: with what was, and what is. Both are
/// ordered by name.
fn differing<T: Named + PartialEq>(before: &[T], now: &[T], mut call: impl FnMut(Option<&T>, Option<&T>)) {
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    loop {
        match (before.peek(), now.peek()) {
            (None, None) => return,
            (Some(old), Some(new)) if old.name() == new.name() => {
                if old != new {
                    call(Some(old), Some(new));
                }
                before.next();
                now.next();
            }
            (Some(old), new) if new.is_none_or(|new| old.name() < new.name()) => {
                call(Some(old), None);
                before.next();
            }
            (_, Some(new)) => {
                call(None, Some(new));
                now.next();
            }
            (Some(_), None) => return,
        }
    }
}

/// All objects of a name in a list that is ordered by it.
fn by_name<'a, T: Named>(list: &'a [T], name: &str) -> &'a [T] {
    let from = list.partition_point(|object| object.name() < name);
    let to = list.partition_point(|object| object.name() <= name);
    &list[from..to]
}

/// All objects whose name begins so, in a list that is ordered by name.
fn by_beginning<'a, T: Named>(list: &'a [T], beginning: &str) -> &'a [T] {
    let from = list.partition_point(|object| object.name() < beginning);
    let length = list[from..].partition_point(|object| object.name().starts_with(beginning));
    &list[from..from + length]
}

/// Everything of this installation that carries a Cluster's name, whatever its UID.
#[derive(Debug)]
pub struct Things<'a> {
    /// Containers.
    pub containers: Vec<(&'a Container, OwnerLabels)>,
    /// Volumes.
    pub volumes: Vec<(&'a Volume, OwnerLabels)>,
    /// Networks.
    pub networks: Vec<(&'a Network, OwnerLabels)>,
}

impl<'a> Things<'a> {
    /// Looks among the names that a Cluster wants.
    #[must_use]
    pub fn of_cluster(listing: &'a Listing, cluster: &OwnerLabels) -> Self {
        let ours = |owner: &OwnerLabels| owner.installation == cluster.installation && owner.cluster == cluster.cluster;
        let beginning = format!("{}-", cluster.cluster);
        let containers = by_beginning(&listing.containers, &beginning).iter();
        let volumes = by_beginning(&listing.volumes, &beginning).iter();
        let networks = by_name(&listing.networks, &format!("kina-{}", cluster.cluster)).iter();
        Self {
            containers: containers.filter_map(|found| Some((&**found, found.owner().filter(ours)?))).collect(),
            volumes: volumes.filter_map(|found| Some((&**found, found.owner().filter(ours)?))).collect(),
            networks: networks.filter_map(|found| Some((&**found, found.owner().filter(ours)?))).collect(),
        }
    }

    /// Names, labels and owners of all.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Labels, &OwnerLabels)> {
        let containers = self.containers.iter().map(|(found, owner)| (found.name(), &found.labels, owner));
        let volumes = self.volumes.iter().map(|(found, owner)| (found.name(), &found.labels, owner));
        let networks = self.networks.iter().map(|(found, owner)| (found.name(), &found.labels, owner));
        containers.chain(volumes).chain(networks)
    }

    /// Those that were made for machines.
    pub fn of_machines(&self) -> impl Iterator<Item = (&str, &Labels, &OwnerLabels)> {
        self.all().filter(|(_, _, owner)| owner.machine_uid.is_some())
    }

    /// UIDs of the Clusters that they were made for.
    #[must_use]
    pub fn identities(&self) -> BTreeSet<String> {
        self.all().map(|(_, _, owner)| owner.cluster_uid.clone()).collect()
    }
}

/// The container of a wanted name.
#[must_use]
pub fn container(listing: &Listing, name: &str, owner: &OwnerLabels) -> Found<Arc<Container>> {
    find(by_name(&listing.containers, name), |container| is_ours(container.owner(), owner))
}

/// The volume of a wanted name.
#[must_use]
pub fn volume(listing: &Listing, name: &str, owner: &OwnerLabels) -> Found<Arc<Volume>> {
    find(by_name(&listing.volumes, name), |volume| is_ours(volume.owner(), owner))
}

/// The network of a wanted name. Where a runtime allows several of one name, ours counts.
#[must_use]
pub fn network(listing: &Listing, name: &str, owner: &OwnerLabels) -> Found<Arc<Network>> {
    find(by_name(&listing.networks, name), |network| is_ours(network.owner(), owner))
}

fn find<T: Clone>(named: &[T], is_ours: impl Fn(&T) -> bool) -> Found<T> {
    match named.iter().find(|object| is_ours(object)) {
        Some(ours) => Found::Ours(ours.clone()),
        None if named.is_empty() => Found::Absent,
        None => Found::Foreign,
    }
}

/// Whether an owner is this very one: installation, Cluster and Machine, whatever the rest says.
fn is_ours(found: Option<OwnerLabels>, wanted: &OwnerLabels) -> bool {
    found.is_some_and(|found| {
        found.installation == wanted.installation
            && found.cluster_uid == wanted.cluster_uid
            && found.machine_uid == wanted.machine_uid
    })
}

/// Subnets that the host's networks have, or that it reaches otherwise.
#[must_use]
pub fn subnets(listing: &Listing) -> Vec<Cidr> {
    let cidr = |text: &str| {
        let (address, length) = text.split_once('/')?;
        Some(Cidr::containing(address.parse::<Ipv4Addr>().ok()?, length.parse().ok()?))
    };
    let networks = listing.networks.iter().filter_map(|network| network.subnet.as_deref());
    networks.chain(listing.routes.iter().map(String::as_str)).filter_map(cidr).collect()
}

/// The same of IPv6.
#[must_use]
pub fn ipv6_subnets(listing: &Listing) -> Vec<Cidr6> {
    let networks = listing.networks.iter().filter_map(|network| network.ipv6_subnet.as_deref());
    networks.chain(listing.routes.iter().map(String::as_str)).filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, label: &str) -> Volume {
        Volume { name: name.into(), labels: [("l".to_owned(), label.to_owned())].into() }
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = [volume("a", "1"), volume("b", "1"), volume("d", "1")];
        let now = [volume("b", "2"), volume("c", "1"), volume("d", "1"), volume("e", "1")];
        let told = |now: &[Volume]| {
            let mut told = Vec::new();
            let label = |volume: Option<&Volume>| volume.map_or("-".to_owned(), |volume| volume.labels["l"].clone());
            differing(&before, now, |was, is| {
                let name = &is.or(was).unwrap().name;
                told.push(format!("{name} {}>{}", label(was), label(is)));
            });
            told
        };
        assert_eq!(told(&now), ["a 1>-", "b 1>2", "c ->1", "e ->1"]);
        assert_eq!(told(&[]), ["a 1>-", "b 1>-", "d 1>-"]);
    }

    #[test]
    fn an_object_with_another_machines_labels_is_foreign() {
        let owner = |machine: &str| OwnerLabels {
            installation: crate::runtime::InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            cluster: "dev".into(),
            cluster_uid: "u1".into(),
            machine_uid: Some(machine.into()),
            role: None,
            spec_hash: None,
        };
        let named = |labels| [Volume { name: "v".into(), labels }];
        let find = |labels, wanted: &OwnerLabels| find(&named(labels), |volume| is_ours(volume.owner(), wanted));
        assert!(matches!(find(owner("m1").to_labels(), &owner("m1")), Found::Ours(_)));
        assert_eq!(find(owner("m1").to_labels(), &owner("m2")), Found::Foreign);
        assert_eq!(find(Default::default(), &owner("m1")), Found::Foreign);
    }
}
