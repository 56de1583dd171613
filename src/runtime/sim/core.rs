//! The world behind one lock: time that passed, effects, and what follows from them, written before it is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::durable::Synced;
use super::etcd;
use super::kubeadm::{self, Answer, Ask, Context};
use super::operations::{self, Refused};
use super::options::{SimOptions, Sockets};
use super::ports::{self, Ports};
use super::route::{self, Backend, NoRoute};
use super::state::Journal;
use super::time::At;
use super::world::{Change, State, Tx};
use crate::runtime::{Cause, Listing};
use crate::world::{Random, World};

/// Rounds in which what happened lets others go on, until nothing more follows. Each round moves at least one of a
/// network's few units; a world that never settles is a fault of this program, not of its user.
const ROUNDS: usize = 1000;

/// A question on its way: which unit of which run of a container asked it.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub container: String,
    pub unit: String,
    since: At,
    pub ask: Ask,
}

/// What the engine has to look at.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Questions of units, at most one each.
    pub tickets: Vec<Ticket>,
    /// Clusters in whose nodes something changed.
    pub changed: BTreeSet<String>,
    /// Clusters whose data nobody holds any more.
    pub dropped: BTreeSet<String>,
    /// Ports may have opened or closed.
    pub ports: bool,
    /// Networks in which something changed.
    networks: BTreeSet<String>,
}

#[derive(Debug)]
struct Guarded {
    state: State,
    journal: Journal,
    /// Entries written since the world was opened.
    written: u64,
    news: News,
    previous: Option<Listing>,
    /// Ends connections through or to a container; made when the first needs it.
    cuts: BTreeMap<String, CancellationToken>,
}

/// The world, shared by all handles.
#[derive(Debug)]
pub(super) struct Core {
    pub world: World,
    pub options: SimOptions,
    guarded: Mutex<Guarded>,
    /// Changes its value whenever containers, networks or volumes changed.
    pub events: watch::Sender<u64>,
    /// Wakes whoever drives the world.
    pub wake: Notify,
    /// Ports of this host.
    pub ports: Ports,
    /// How far the journal is on the disk.
    pub synced: Synced,
}

impl Core {
    pub fn new(world: World, options: SimOptions, state: State, journal: Journal) -> Arc<Self> {
        let all = state.etcd.values().map(|cluster| (cluster.id.clone(), cluster.gone));
        let (dropped, changed): (Vec<_>, Vec<_>) = all.partition(|(_, gone)| *gone);
        let ids = |list: Vec<(String, bool)>| list.into_iter().map(|(id, _)| id).collect();
        let news = News { changed: ids(changed), dropped: ids(dropped), ..News::default() };
        let guarded = Mutex::new(Guarded { state, journal, written: 0, news, previous: None, cuts: BTreeMap::new() });
        Arc::new(Self {
            world,
            options,
            guarded,
            events: watch::Sender::new(0),
            wake: Notify::new(),
            ports: Ports::default(),
            synced: Synced::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many entries were written, and where, if in a file.
    pub fn journal(&self) -> Option<(u64, Arc<std::fs::File>)> {
        let guarded = self.lock();
        guarded.journal.file().map(|file| (guarded.written, file))
    }

    pub fn now(&self) -> At {
        At::of(self.world.clock.now())
    }

    /// Reads the world as it is now.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let mut guarded = self.lock();
        self.advance(&mut guarded);
        read(&guarded.state)
    }

    /// Changes the world: all of it or, where `change` refuses or the journal cannot be written, nothing.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tx<'_>, At) -> Result<T, Refused>) -> Result<T, Refused> {
        let mut guarded = self.lock();
        self.advance(&mut guarded);
        self.transact(&mut guarded, change)
    }

    /// Starts a container.
    pub fn start(&self, id: &str) -> Result<(), Refused> {
        let latency = &self.options.latency;
        let boot = latency.jittered(latency.boot, self.world.random.next_u64());
        self.change(|tx, now| {
            operations::start_container(tx, id, now, now.plus(boot))?;
            if self.options.sockets == Sockets::Listen {
                self.bind(tx.state, id)?;
            }
            Ok(())
        })
    }

    /// Takes the host's ports for a load balancer; others' ports have nobody to answer.
    fn bind(&self, state: &State, id: &str) -> Result<(), Refused> {
        let record = operations::the_container(state, id)?;
        for port in record.spec.ports.iter().filter(|_| record.balances()) {
            let address = std::net::SocketAddr::new(port.host_address, port.host_port);
            self.ports
                .bind(address)
                .map_err(|error| (Cause::Conflict, format!("failed to bind host port {address}: {error}")))?;
        }
        Ok(())
    }

    /// Keeps a listing for the lie that shows it again, and returns the one before.
    pub fn remember(&self, listing: &Listing) -> Option<Listing> {
        self.lock().previous.replace(listing.clone())
    }

    /// Makes a connection: what `find` finds, and the tokens that end it when an end of it goes away.
    pub fn attach<T>(
        &self,
        find: impl FnOnce(&State) -> Result<(Backend, T), NoRoute>,
    ) -> Result<(Backend, T, Vec<CancellationToken>), NoRoute> {
        let mut guarded = self.lock();
        self.advance(&mut guarded);
        let (backend, found) = find(&guarded.state)?;
        let ends = backend.entry.iter().chain([&backend.container]);
        let cuts = ends.map(|id| guarded.cuts.entry(id.clone()).or_default().clone()).collect();
        Ok((backend, found, cuts))
    }

    /// Ends the connections through containers that no longer carry any.
    fn cut(guarded: &mut Guarded, networks: &BTreeSet<String>, changed: &BTreeSet<String>) {
        let Guarded { state, cuts, .. } = guarded;
        if cuts.is_empty() {
            return;
        }
        let there = networks.iter().flat_map(|network| state.in_network(network)).map(|(id, _)| id.to_owned());
        for id in there.chain(changed.iter().cloned()) {
            let carries = state.containers.get(&id).is_some_and(|record| match record.node_version() {
                Some(_) => route::answers(state, &id).is_some(),
                None => record.runs(),
            });
            if !carries && let Some(cut) = cuts.remove(&id) {
                cut.cancel();
            }
        }
    }

    /// Takes what the engine has to look at, after letting time pass.
    pub fn take_news(&self) -> News {
        let mut guarded = self.lock();
        self.advance(&mut guarded);
        std::mem::take(&mut guarded.news)
    }

    /// When something next happens by itself.
    pub fn next_due(&self) -> Option<At> {
        self.lock().state.next_due().map(|(due, _)| due)
    }

    /// Brings the answer to a unit's question, unless its container ended meanwhile.
    pub fn answer(&self, ticket: &Ticket, answer: Answer) {
        let answered = self.change(|tx, now| {
            let record = tx.state.containers.get(&ticket.container);
            if record.and_then(|record| started(&record.life)) != Some(ticket.since) {
                return Ok(());
            }
            self.resume(tx, now, &ticket.container, &ticket.unit, Some(answer));
            Ok(())
        });
        if let Err((_, message)) = answered {
            tracing::error!(%message, "cannot record what a simulated kubeadm was told");
        }
    }

    /// Forgets a cluster that was given up and whose objects are gone.
    pub fn forget_cluster(&self, cluster: &str) {
        let forgotten = self.change(|tx, _| {
            if tx.state.etcd.get(cluster).is_some_and(|cluster| cluster.gone) {
                tx.apply(Change::Etcd { id: cluster.to_owned(), record: None });
            }
            Ok(())
        });
        if let Err((_, message)) = forgotten {
            tracing::error!(%message, "cannot forget a simulated cluster");
        }
    }

    /// Notes that the kubelets of these containers have registered their nodes.
    pub fn registered(&self, containers: &[String]) {
        if containers.is_empty() {
            return;
        }
        let noted = self.change(|tx, _| {
            for id in containers {
                tx.update(id, |record| record.inside.registered = record.inside.kubelet.is_some());
            }
            Ok(())
        });
        if let Err((_, message)) = noted {
            tracing::error!(%message, "cannot record that simulated nodes registered");
        }
    }

    /// Lets all units that wait for an API server ask again: what they asked before a restart is forgotten.
    pub fn ask_again(&self) {
        let all = self.change(|tx, _| {
            tx.touched = tx.state.containers.values().map(|record| record.spec.network.clone()).collect();
            Ok(())
        });
        if let Err((_, message)) = all {
            tracing::error!(%message, "cannot resume the simulated world");
        }
    }

    /// Does what became due, one container at a time in order of time.
    fn advance(&self, guarded: &mut Guarded) {
        let now = self.now();
        while let Some((due, id)) = guarded.state.next_due().filter(|(due, _)| *due <= now) {
            let ticked = self.transact(guarded, |tx, _| {
                self.tick(tx, &id, due);
                Ok(())
            });
            if let Err((_, message)) = ticked {
                // The disk is full: time stands still until it is not.
                tracing::error!(%message, "the simulated world cannot go on");
                break;
            }
        }
    }

    fn transact<T>(
        &self,
        guarded: &mut Guarded,
        change: impl FnOnce(&mut Tx<'_>, At) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let now = self.now();
        let mut tx = Tx::new(&mut guarded.state);
        let result = change(&mut tx, now);
        let value = match result {
            Ok(value) => value,
            Err(refused) => {
                tx.roll_back();
                return Err(refused);
            }
        };
        let mut news = self.settle(&mut tx, now);
        if tx.changes().is_empty() {
            guarded.news.add(news);
            return Ok(value);
        }
        news.ports = tx.changes().iter().any(ports::concerns);
        let visible = tx.changes().iter().any(is_visible);
        if let Err(error) = guarded.journal.append(tx.changes(), tx.state) {
            tx.roll_back();
            return Err((Cause::Exhausted, format!("cannot write the simulated world: {error}")));
        }
        let changed = tx.changes().iter().filter_map(|change| match change {
            Change::Container { id, .. } => Some(id.clone()),
            _ => None,
        });
        let changed: BTreeSet<String> = changed.collect();
        drop(tx);
        guarded.written += 1;
        Self::cut(guarded, &std::mem::take(&mut news.networks), &changed);
        guarded.news.add(news);
        if visible {
            self.events.send_modify(|count| *count = count.wrapping_add(1));
        }
        self.wake.notify_one();
        Ok(value)
    }

    /// What follows from a change: whoever waited for it goes on, until nothing more follows.
    fn settle(&self, tx: &mut Tx<'_>, now: At) -> News {
        let mut news = News::default();
        for _ in 0..ROUNDS {
            news.tickets.append(&mut tx.asks.drain(..).collect());
            let Some(network) = tx.touched.pop_first() else { break };
            news.networks.insert(network.clone());
            news.changed.extend(tx.state.etcd_in(&network).map(|cluster| cluster.id.clone()));
            news.dropped.extend(etcd::collect(tx, &network));
            let here: Vec<String> = tx.state.in_network(&network).map(|(id, _)| id.to_owned()).collect();
            for id in here {
                self.retry(tx, now, &id);
            }
        }
        news
    }

    /// Lets go on what waits in a container.
    fn retry(&self, tx: &mut Tx<'_>, now: At, id: &str) {
        let Some(record) = tx.state.containers.get(id).filter(|record| record.runs()) else { return };
        let waiting: Vec<String> = record
            .inside
            .units
            .iter()
            .filter(|(_, unit)| unit.waiting && !unit.asked)
            .map(|(name, _)| name.clone())
            .collect();
        if record.inside.static_pods && record.inside.etcd_failure.is_some() {
            etcd::start(tx, id, &*self.world.random);
        }
        for unit in waiting {
            self.resume(tx, now, id, &unit, None);
        }
    }

    fn resume(&self, tx: &mut Tx<'_>, now: At, id: &str, unit: &str, answer: Option<Answer>) {
        let context = Context { now, latency: &self.options.latency };
        if let Some(ask) = kubeadm::resume(tx, context, id, unit, answer)
            && let Some(since) = tx.state.containers.get(id).and_then(|record| started(&record.life))
        {
            tx.asks.push(Ticket { container: id.to_owned(), unit: unit.to_owned(), since, ask });
        }
    }

    /// What becomes due in a container.
    fn tick(&self, tx: &mut Tx<'_>, id: &str, due: At) {
        let now = self.now();
        let Some(record) = tx.state.containers.get(id) else { return };
        let inside = &record.inside;
        if inside.boot_due.is_some_and(|at| at <= due) {
            kubeadm::boot(tx, id, due, &self.options.latency);
        } else if inside.static_pods_due.is_some_and(|at| at <= due) {
            tx.update(id, |record| (record.inside.static_pods_due, record.inside.static_pods) = (None, true));
            if tx.state.file(id, etcd::MANIFEST).is_some() {
                etcd::start(tx, id, &*self.world.random);
            }
        } else {
            let units = inside.units.iter().filter(|(_, unit)| unit.due.is_some_and(|at| at <= due));
            for unit in units.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                // Its time is used up, whatever comes of it: time never stands still before one unit.
                tx.update(id, |record| {
                    if let Some(unit) = record.inside.units.get_mut(&unit) {
                        unit.due = None;
                    }
                });
                self.resume(tx, now, id, &unit, None);
            }
        }
    }
}

impl News {
    fn add(&mut self, mut other: Self) {
        self.tickets.append(&mut other.tickets);
        self.changed.append(&mut other.changed);
        self.dropped.append(&mut other.dropped);
        self.ports |= other.ports;
    }
}

fn started(life: &super::world::Life) -> Option<At> {
    match life {
        super::world::Life::Running { since } => Some(*since),
        _ => None,
    }
}

/// Whether a listing shows the change.
fn is_visible(change: &Change) -> bool {
    matches!(change, Change::Container { .. } | Change::Network { .. } | Change::Volume { .. })
}

/// 64 hexadecimal digits, as container runtimes name containers.
pub(super) fn new_id(random: &dyn Random) -> String {
    (0..4).map(|_| format!("{:016x}", random.next_u64())).collect()
}
