//! Contexts in the user's kubeconfig: many clusters, one file, few writes.
//!
//! A kubeconfig of 1,000 clusters is some 4 MB. Written once for each of them it would be read and written 1,000 times;
//! so wishes are collected for a moment and carried out together. What was written is compared when a file shows another
//! time, length or inode, so that idle clusters cost one look at the file for all of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::wake::Waker;
use crate::kubeconfig::{self, Comparison, ContextEntry, Current, Edit, KubeconfigError, Target};
use crate::observability::Metrics;
use crate::observability::metrics::Outcome;
use crate::world::{Metadata, World};

/// How long wishes are collected at least; and four times as long as the last write took, so that many clusters that come
/// up together cost a fifth of the time in writing at most.
const COLLECT: Duration = Duration::from_millis(30);
const COLLECT_SHARE: u32 = 4;
/// How soon a file that somebody else is changing is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon after a failure that a person has to mend, such as a directory that cannot be written; doubled each time, up
/// to the longest.
const FAILED_FIRST: Duration = Duration::from_secs(2);
const FAILED_MAX: Duration = Duration::from_secs(60);

/// How often the files are looked at, whether somebody changed them: one question each to the file system.
const COMPARE: Duration = Duration::from_secs(5);

/// The one writer of the user's kubeconfig. One entry a Cluster.
#[derive(Clone, Debug)]
pub struct Contexts {
    world: World,
    target: Target,
    waker: Waker,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// By Cluster: the edit, and whether what is current stays in any case.
    wanted: BTreeMap<String, (Edit, bool)>,
    /// By Cluster: the last edit, and why it failed if it did.
    done: BTreeMap<String, (Edit, Option<String>)>,
    /// By Cluster: how its entry differs from what was written.
    altered: BTreeMap<String, String>,
    /// The files when they were compared last.
    compared: Vec<Option<Metadata>>,
}

/// How far a wish is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wished {
    /// It is carried out.
    Done,
    /// It was, and somebody else undid it: in what way.
    Undone(String),
    /// Nobody has looked since this process began.
    Unknown,
    /// It is about to be.
    Pending,
    /// It cannot be, for this reason.
    Failed(String),
}

impl Contexts {
    /// Nothing wished yet.
    #[must_use]
    pub fn new(world: World, target: Target, waker: Waker, metrics: Metrics) -> Self {
        Self { world, target, waker, metrics, state: Arc::default(), news: Arc::default() }
    }

    /// How far a wish is, without wishing it.
    #[must_use]
    pub fn look(&self, cluster: &str, edit: &Edit) -> Wished {
        let state = self.lock();
        match state.done.get(cluster) {
            Some((done, None)) if done == edit => {
                state.altered.get(cluster).cloned().map_or(Wished::Done, Wished::Undone)
            }
            Some((done, Some(error))) if done == edit => Wished::Failed(error.clone()),
            None => Wished::Unknown,
            Some(_) => Wished::Pending,
        }
    }

    /// Wishes an edit; the Cluster is woken when it is carried out, or failed. One that failed is tried again. An entry
    /// that was there before (`again`) never becomes the current context.
    pub fn wish(&self, cluster: &str, edit: Edit, again: bool) {
        let wish = (edit, again);
        let before = self.lock().wanted.insert(cluster.to_owned(), wish.clone());
        // One that is wished still is tried again by itself, ever later.
        if before != Some(wish) {
            self.news.notify_one();
        }
    }

    /// Takes note that an entry which an earlier process wrote is gone, where it is: it is not to be written again by
    /// itself. One that differs is written: nobody knows whether it or the wish changed.
    pub fn is_gone(&self, cluster: &str, edit: &Edit) -> bool {
        let Edit::Merge { entry, .. } = edit else { return false };
        let found = kubeconfig::inspect(&*self.world.files, &self.target, entry);
        if !matches!(found, Ok(Comparison::Missing)) {
            return false;
        }
        let mut state = self.lock();
        state.done.insert(cluster.to_owned(), (edit.clone(), None));
        state.altered.insert(cluster.to_owned(), GONE.to_owned());
        true
    }

    /// A Cluster is gone.
    pub fn forget(&self, cluster: &str) {
        let mut state = self.lock();
        state.wanted.remove(cluster);
        state.done.remove(cluster);
        state.altered.remove(cluster);
    }

    /// Carries out wishes, until the end.
    pub async fn run(self, end: CancellationToken) {
        let mut due: Option<Instant> = None;
        let mut failures = 0_u32;
        let mut collect = COLLECT;
        loop {
            let next = due;
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = self.news.notified() => {
                    let soon = Instant::now() + collect;
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                }
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let began = Instant::now();
                    let carried = self.carry_out();
                    collect = COLLECT.max(began.elapsed() * COLLECT_SHARE);
                    failures = if carried == Carried::Failed { failures.saturating_add(1) } else { 0 };
                    due = match carried {
                        Carried::All => None,
                        Carried::Busy => Some(Instant::now() + AGAIN),
                        Carried::Failed => Some(Instant::now() + after_failure(failures)),
                    };
                }
                () = tokio::time::sleep(COMPARE) => self.compare(),
            }
        }
    }

    fn carry_out(&self) -> Carried {
        let wanted: Vec<(String, (Edit, bool))> =
            self.lock().wanted.iter().map(|(cluster, wish)| (cluster.clone(), wish.clone())).collect();
        if wanted.is_empty() {
            return Carried::All;
        }
        let edits: Vec<Edit> = wanted.iter().map(|(_, (edit, again))| edit_now(edit, *again)).collect();
        let files = &*self.world.files;
        let timed = self.metrics.begin("kubeconfig", "write");
        let error = match kubeconfig::apply(files, &self.target, &edits) {
            Ok(_) => {
                timed.end(Outcome::Ok);
                None
            }
            Err(error) if error.is_transient() => {
                timed.end(Outcome::Transient);
                return Carried::Busy;
            }
            Err(error) => {
                timed.end(Outcome::Foreign);
                Some(describe(&error))
            }
        };
        let mut state = self.lock();
        for (cluster, wish) in wanted {
            if error.is_none() && state.wanted.get(&cluster) == Some(&wish) {
                state.wanted.remove(&cluster);
            }
            state.altered.remove(&cluster);
            let outcome = (wish.0, error.clone());
            // Who knows that it failed need not be told so again.
            if state.done.get(&cluster) != Some(&outcome) || error.is_none() {
                state.done.insert(cluster.clone(), outcome);
                self.waker.clusters.wake(&cluster);
            }
        }
        match error {
            Some(_) => Carried::Failed,
            None if state.wanted.is_empty() => Carried::All,
            // Wished meanwhile.
            None => Carried::Busy,
        }
    }

    /// Compares everything that was written with what is there, where a file is another than before.
    fn compare(&self) {
        let files = &*self.world.files;
        let mut now = Vec::new();
        for path in self.target.files() {
            match files.metadata(path) {
                Ok(metadata) => now.push(Some(metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => now.push(None),
                // What cannot be seen is not different.
                Err(_) => return,
            }
        }
        let written: Vec<(String, ContextEntry)> = {
            let state = self.lock();
            if state.compared == now {
                return;
            }
            let entry = |(cluster, (edit, error)): (&String, &(Edit, Option<String>))| match edit {
                Edit::Merge { entry, .. } if error.is_none() => Some((cluster.clone(), entry.clone())),
                _ => None,
            };
            state.done.iter().filter_map(entry).collect()
        };
        let mut found = BTreeMap::new();
        for (cluster, entry) in written {
            match kubeconfig::inspect(files, &self.target, &entry) {
                Ok(Comparison::Same) => {}
                Ok(Comparison::Missing) => drop(found.insert(cluster, GONE.to_owned())),
                Ok(Comparison::Differs(fields)) => {
                    drop(found.insert(cluster, format!("changed: {}", fields.join(", "))));
                }
                Err(error) => {
                    tracing::debug!(%error, "the kubeconfig cannot be compared");
                    return;
                }
            }
        }
        let mut state = self.lock();
        for cluster in state.altered.keys().chain(found.keys()) {
            if state.altered.get(cluster) != found.get(cluster) {
                self.waker.clusters.wake(cluster);
            }
        }
        (state.altered, state.compared) = (found, now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// Nothing is wished any more.
    All,
    /// Somebody else is at the files.
    Busy,
    /// They cannot be changed.
    Failed,
}

fn after_failure(failures: u32) -> Duration {
    FAILED_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(FAILED_MAX)
}

/// How an entry that is not there any more is told.
const GONE: &str = "gone";

fn edit_now(edit: &Edit, again: bool) -> Edit {
    match edit {
        Edit::Merge { entry, .. } if again => Edit::Merge { entry: entry.clone(), current: Current::Keep },
        edit => edit.clone(),
    }
}

fn describe(error: &KubeconfigError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause} ({})", error.hint())
}
