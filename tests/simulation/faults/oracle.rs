//! What must be true at every effect and every commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kina::api::annotations;
use kina::apiserver::store::{Batch, Store};
use kina::home::Home;
use kina::runtime::sim::SimRuntime;
use kina::runtime::{ContainerId, ContainerState, Listing, OwnerLabels, Role};
use kina::world::FileSystem;
use serde_json::Value;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);
/// For so long after something went wrong a status may lag behind the truth.
const LAG: Duration = Duration::from_secs(180);

/// How long a deletion may take from its decision to its commit.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// What the oracle looks at, past every gate.
#[derive(Clone)]
pub struct Ground {
    pub simulator: Arc<SimRuntime>,
    pub files: Arc<dyn FileSystem>,
    pub home: Home,
    pub kubeconfig: std::path::PathBuf,
    /// Seconds that the host has slept: wall clocks went on.
    pub slept: Arc<AtomicI64>,
}

/// Watches a run.
pub struct Oracle {
    ground: Ground,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    violations: Vec<String>,
    /// What was acknowledged, and what may or may not have been written besides.
    rows: BTreeMap<String, Bytes>,
    uncertain: Option<Batch>,
    revision: u64,
    commits: u64,
    /// Kina's own objects by key, parsed.
    objects: BTreeMap<String, Value>,
    /// UIDs of objects that were there and are gone, and when others were marked for deletion.
    gone: BTreeSet<String>,
    marked: BTreeMap<String, Instant>,
    listed: Option<Instant>,
    /// Clusters whose deletion was wished for by a file's removal, or by a person.
    wished: BTreeMap<String, (Wish, Option<Instant>)>,
    /// Deletions that count against the budget, by the time on the wall.
    spent: VecDeque<Duration>,
    approved: BTreeSet<String>,
    /// Containers of living Machines may be replaced: a roll or a recreation was wished for.
    replaceable: bool,
    orphaning: bool,
    disturbed: Option<Instant>,
    /// When the host woke up last, and what the wall clock showed when it fell asleep.
    asleep: Option<(Instant, Duration)>,
}

/// Who wished for a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    File,
    Person,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}

/// `clusters.kina.dev` of `kina/clusters.kina.dev//dev`.
fn resource(key: &str) -> Option<&str> {
    key.strip_prefix("kina/")?.split('/').next().filter(|resource| resource.ends_with(".kina.dev"))
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The UID that what is on the host carries: the object's own, or the one that it took over when it adopted.
fn identity(object: &Value) -> &str {
    let taken = object["metadata"]["annotations"][annotations::IDENTITY].as_str();
    taken.or(object["spec"]["identity"]["machine"].as_str()).unwrap_or_else(|| meta(object, "uid"))
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    ready && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

impl Oracle {
    pub fn new(ground: Ground) -> Self {
        Self { ground, began: Instant::now(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Time since the run began, as a clock on the wall shows it: an hour of the budget passes while the host sleeps.
    fn wall_time(&self) -> Duration {
        let slept = u64::try_from(self.ground.slept.load(Ordering::Relaxed)).unwrap();
        self.began.elapsed() + Duration::from_secs(slept)
    }

    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    pub fn violated(&self, what: impl Into<String>) {
        self.lock().violated(what.into());
    }

    /// Something goes wrong now.
    pub fn disturbed(&self) {
        self.lock().disturbed = Some(Instant::now());
    }

    /// The host falls asleep, and wakes up at once as far as anything but wall clocks knows.
    pub fn sleeps(&self) {
        let before = self.wall_time();
        self.lock().asleep = Some((Instant::now(), before));
    }

    /// Somebody wishes that a cluster goes, or stays after all.
    pub fn wish(&self, cluster: &str, wish: Option<Wish>) {
        let mut state = self.lock();
        match wish {
            Some(wish) => {
                state.wished.insert(cluster.to_owned(), (wish, None));
            }
            None => {
                if let Some((_, revoked)) = state.wished.get_mut(cluster) {
                    *revoked = Some(Instant::now());
                }
            }
        }
    }

    /// Somebody approved the deletion of these.
    pub fn approve(&self, clusters: &[String]) {
        self.lock().approved.extend(clusters.iter().cloned());
    }

    pub fn permit_replacement(&self) {
        self.lock().replaceable = true;
    }

    /// Kina's own objects of a resource, such as `clusters`.
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        let prefix = format!("kina/{resource}.kina.dev/");
        let state = self.lock();
        state.objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, object)| object.clone()).collect()
    }

    pub fn commits(&self, batch: &Batch) {
        self.lock().uncertain = Some(batch.clone());
    }

    pub fn count_of_commits(&self) -> u64 {
        self.lock().commits
    }

    /// A listing that Kina took began then, and succeeded.
    pub fn listed(&self, began: Instant) {
        let mut state = self.lock();
        state.listed = state.listed.max(Some(began));
    }

    /// The store is lost, with everything that was acknowledged.
    pub fn lost_store(&self) {
        let mut state = self.lock();
        state.rows.clear();
        state.objects.clear();
        (state.uncertain, state.revision) = (None, 0);
    }

    /// A store was opened: what was acknowledged must be in it, and what was not may be, as a whole.
    pub fn opened(&self, store: &impl Store) {
        let mut found = BTreeMap::new();
        let snapshot = store.snapshot().unwrap();
        let visited = snapshot.visit("", "", &mut |key, value| {
            found.insert(key.to_owned(), Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        });
        visited.unwrap();
        let mut state = self.lock();
        if snapshot.revision() < state.revision {
            let (now, before) = (snapshot.revision(), state.revision);
            state.violated(format!("revision {before} was acknowledged, and the store is at {now}"));
        }
        let mut with_uncertain = state.rows.clone();
        if let Some(batch) = &state.uncertain {
            for prefix in &batch.dropped {
                with_uncertain.retain(|key, _| !key.starts_with(prefix));
            }
            for (key, value) in &batch.writes {
                match value {
                    Some(value) => with_uncertain.insert(key.clone(), value.clone()),
                    None => with_uncertain.remove(key),
                };
            }
        }
        if found != state.rows && found != with_uncertain {
            let differs = |key: &&String| found.get(*key) != state.rows.get(*key);
            let keys: BTreeSet<&String> = state.rows.keys().chain(found.keys()).filter(differs).collect();
            let message = format!("the store lost or half kept what was written: {keys:?}");
            state.violated(message);
        }
        if found == with_uncertain
            && let Some(batch) = state.uncertain.take()
        {
            self.apply(&mut state, &batch);
        }
        state.uncertain = None;
        state.revision = snapshot.revision();
        state.rows = found;
    }

    /// A commit was made.
    pub fn committed(&self, batch: Batch) {
        let mut state = self.lock();
        // Events that an hour has passed over are taken away whoever is still.
        let is_of_somebody =
            |(key, value): &(String, Option<Bytes>)| value.is_some() && !key.contains('~') || resource(key).is_some();
        state.commits += u64::from(batch.writes.iter().any(is_of_somebody));
        // Rows with a tilde are the server's own notes, of owners and of expiry: they change without a new state of anything.
        let of_objects = batch.writes.iter().any(|(key, _)| !key.contains('~')) || !batch.dropped.is_empty();
        if batch.revision < state.revision || of_objects && batch.revision == state.revision {
            let message = format!("a commit at revision {} after one at {}", batch.revision, state.revision);
            state.violated(message);
        }
        self.apply(&mut state, &batch);
        state.revision = batch.revision;
        state.uncertain = None;
        for (key, value) in batch.writes {
            match value {
                Some(value) => state.rows.insert(key, value),
                None => state.rows.remove(&key),
            };
        }
    }

    fn apply(&self, state: &mut State, batch: &Batch) {
        for (key, value) in batch.writes.iter().filter(|(key, _)| resource(key).is_some()) {
            let old = state.objects.get(key).cloned();
            match value {
                Some(bytes) => {
                    let new: Value = serde_json::from_slice(bytes).unwrap();
                    self.check_write(state, key, old.as_ref(), &new);
                    state.objects.insert(key.clone(), new);
                }
                None => {
                    if let Some(old) = old {
                        self.check_removal(state, key, &old);
                        state.gone.insert(identity(&old).to_owned());
                    }
                    state.objects.remove(key);
                }
            }
        }
    }

    fn check_write(&self, state: &mut State, key: &str, old: Option<&Value>, new: &Value) {
        let name = meta(new, "name").to_owned();
        let Some(old) = old else { return };
        let content = |object: &Value| {
            let mut object = object.clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
                metadata.remove("managedFields");
            }
            object
        };
        if content(old) == content(new) {
            state.violated(format!("{key} was written and nothing changed"));
        }
        if meta(old, "deletionTimestamp").is_empty() && !meta(new, "deletionTimestamp").is_empty() {
            state.marked.insert(identity(new).to_owned(), Instant::now());
            if resource(key) == Some("clusters.kina.dev") {
                state.check_deletion(&name, self.wall_time());
            }
        }
        if resource(key) == Some("clusters.kina.dev") && is_ready(new) && !is_ready(old) {
            self.check_claim(state, &name);
        }
    }

    /// A Cluster says that it is Ready.
    fn check_claim(&self, state: &mut State, cluster: &str) {
        if state.disturbed.is_some_and(|at| at.elapsed() < LAG) {
            return;
        }
        let listing = self.ground.simulator.hands().listing();
        let machines = state.objects.iter().filter(|(key, machine)| {
            resource(key) == Some("machines.kina.dev")
                && machine["metadata"]["labels"]["kina.dev/cluster"] == cluster
                && meta(machine, "deletionTimestamp").is_empty()
        });
        let runs = |uid: &str| {
            listing.containers.iter().any(|container| {
                container.state == ContainerState::Running
                    && container.owner().is_some_and(|owner| owner.machine_uid.as_deref() == Some(uid))
            })
        };
        let lies: Vec<String> = machines
            .filter(|(_, machine)| !runs(identity(machine)))
            .map(|(_, machine)| meta(machine, "name").to_owned())
            .collect();
        if !lies.is_empty() {
            state.violated(format!("{cluster} was said to be Ready while {lies:?} did not run"));
        }
    }

    /// The last finalizer went.
    fn check_removal(&self, state: &mut State, key: &str, old: &Value) {
        let (name, uid) = (meta(old, "name"), identity(old));
        if state.orphaning || old["spec"]["deletionPolicy"] == "Orphan" {
            return;
        }
        let listing = self.ground.simulator.hands().listing();
        let is_of = |owner: Option<OwnerLabels>| match resource(key) {
            Some("clusters.kina.dev") => owner.is_some_and(|owner| owner.cluster_uid == uid),
            Some("machines.kina.dev") => owner.is_some_and(|owner| owner.machine_uid.as_deref() == Some(uid)),
            _ => false,
        };
        let containers =
            listing.containers.iter().filter(|c| is_of(c.owner())).map(|c| format!("container {}", c.name));
        let networks = listing.networks.iter().filter(|n| is_of(n.owner())).map(|n| format!("network {}", n.name));
        let volumes = listing.volumes.iter().filter(|v| is_of(v.owner())).map(|v| format!("volume {}", v.name));
        let mut left: Vec<String> = containers.chain(networks).chain(volumes).collect();
        if resource(key) == Some("clusters.kina.dev") {
            if self.ground.files.metadata(&self.ground.home.pki().join(uid)).is_ok() {
                left.push("keys".to_owned());
            }
            let kubeconfig = self.ground.files.read(Path::new(&self.ground.kubeconfig), 1 << 20).unwrap_or_default();
            if String::from_utf8_lossy(&kubeconfig).contains(&format!("kina-{name}\n")) {
                left.push("its context".to_owned());
            }
        }
        if !left.is_empty() {
            state.violated(format!("{key} is gone, and left {left:?}"));
        }
    }

    /// A container was created: a Machine has one at most.
    pub fn created_container(&self, listing: &Listing) {
        let mut seen = BTreeSet::new();
        for container in &listing.containers {
            let Some(owner) = container.owner() else { continue };
            if !seen.insert((owner.cluster_uid.clone(), owner.machine_uid.clone(), container.name.clone())) {
                self.violated(format!("two containers for {}", container.name));
            }
            if owner.machine_uid.is_some()
                && listing
                    .containers
                    .iter()
                    .filter(|c| c.owner().is_some_and(|o| o.machine_uid == owner.machine_uid))
                    .count()
                    > 1
            {
                self.violated(format!("the machine of {} has two containers", container.name));
            }
        }
    }

    /// kubeadm is to take back what it did on a node.
    pub fn resets(&self, listing: &Listing, id: &ContainerId) {
        let found = listing.containers.iter().find(|container| container.id == *id);
        let uid = found.and_then(|container| container.owner()?.machine_uid);
        let mut state = self.lock();
        let machine = state.objects.values().find(|object| uid.as_deref() == Some(identity(object)));
        let Some(machine) = machine.filter(|machine| meta(machine, "deletionTimestamp").is_empty()) else { return };
        let conditions = machine["status"]["conditions"].as_array();
        let formed = conditions.into_iter().flatten().any(|c| c["type"] == "Bootstrapped" && c["status"] == "True");
        if formed && machine["spec"]["role"] == "ControlPlane" {
            let name = meta(machine, "name").to_owned();
            state.violated(format!("{name} is a control plane of a living cluster, and was reset"));
        }
    }

    pub fn removes_network(&self, listing: &Listing, name: &str) {
        let found = listing.networks.iter().find(|network| network.name == name);
        if let Some(network) = found {
            self.lock().check_destruction(&format!("network {name}"), network.owner(), true);
        }
    }

    pub fn removes_volume(&self, listing: &Listing, name: &str) {
        let found = listing.volumes.iter().find(|volume| volume.name == name);
        if let Some(volume) = found {
            self.lock().check_destruction(&format!("volume {name}"), volume.owner(), true);
        }
    }

    pub fn removes_container(&self, listing: &Listing, id: &ContainerId) {
        if let Some(container) = listing.containers.iter().find(|container| container.id == *id) {
            let strict = container.state == ContainerState::Running;
            self.lock().check_destruction(&format!("container {}", container.name), container.owner(), strict);
        }
    }

    pub fn stops_container(&self, listing: &Listing, id: &ContainerId) {
        if let Some(container) = listing.containers.iter().find(|container| container.id == *id) {
            self.lock().check_destruction(&format!("container {}", container.name), container.owner(), true);
        }
    }
}

impl State {
    fn violated(&mut self, what: String) {
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    /// A Cluster is marked for deletion.
    fn check_deletion(&mut self, cluster: &str, now: Duration) {
        // What was granted before the wish was taken back is under way.
        let wish = self.wished.get(cluster).filter(|(_, revoked)| revoked.is_none_or(|at| at.elapsed() < UNDER_WAY));
        match wish.map(|(wish, _)| *wish) {
            None => self.violated(format!("{cluster} is deleted, and nobody wished for that")),
            Some(Wish::Person) => {}
            Some(Wish::File) if self.approved.remove(cluster) => {}
            Some(Wish::File) => {
                while self.spent.front().is_some_and(|first| now.saturating_sub(*first) >= HOUR) {
                    self.spent.pop_front();
                }
                // What is deleted just after the host woke up was granted before it fell asleep.
                let granted =
                    self.asleep.filter(|(woke, _)| woke.elapsed() < UNDER_WAY).map_or(now, |(_, before)| before);
                self.spent.push_back(granted);
                // No workload declares ten clusters: the budget is one.
                if self.spent.len() > 1 {
                    self.violated(format!("{} deletions within an hour", self.spent.len()));
                }
            }
        }
    }

    /// Something of `owner` is removed or, strictly, would do harm if it were.
    fn check_destruction(&mut self, what: &str, owner: Option<OwnerLabels>, strict: bool) {
        let Some(owner) = owner else {
            self.violated(format!("{what} is foreign, and was touched"));
            return;
        };
        let wanted = |uid: &str| {
            let object = self.objects.values().find(|object| identity(object) == uid);
            object.map(|object| !meta(object, "deletionTimestamp").is_empty())
        };
        let cluster = wanted(&owner.cluster_uid);
        let machine = owner.machine_uid.as_deref().and_then(wanted);
        let unknown = |uid: &str| !self.gone.contains(uid) && !self.objects.values().any(|o| identity(o) == uid);
        if unknown(&owner.cluster_uid) {
            self.violated(format!("{what} belongs to a Cluster that the store does not know, and was touched"));
            return;
        }
        let leaves = cluster != Some(false) || owner.machine_uid.is_some() && machine != Some(false);
        if leaves {
            let uids = [Some(&owner.cluster_uid), owner.machine_uid.as_ref()];
            let since = uids.into_iter().flatten().filter_map(|uid| self.marked.get(uid)).min().copied();
            if let Some(since) = since
                && self.listed.is_none_or(|listed| listed < since)
            {
                self.violated(format!("{what} was removed without a look after the wish"));
            }
        } else if strict && !self.replaceable && owner.role != Some(Role::LoadBalancer) && self.disturbed.is_none() {
            self.violated(format!("{what} is wanted, and was destroyed"));
        }
    }
}
