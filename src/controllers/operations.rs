//! Named operations: whatever may take longer than a pass may wait.
//!
//! A pass starts an operation under a name, or finds it under way; later passes observe it. Whoever started it is woken
//! when it ends. An operation ends early when its object changed or goes: between two effects, never amid one, since an
//! effect that was begun happens whether somebody waits for it or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::retry::EffectError;

/// Operations under way or unread at once. One for each object (5,000 for 1,000 clusters), and images.
const OPERATIONS_MAX: usize = 16_384;

/// What an operation costs this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Its processors and disk: only so many at a time.
    Work,
    /// Mostly the network.
    Wait,
}

/// What an operation is told, and tells.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Its object changed or goes: no further effect is wanted.
    pub cancelled: CancellationToken,
    step: Arc<Mutex<&'static str>>,
}

impl Handle {
    /// Tells what it is at.
    pub fn at(&self, step: &'static str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }
}

/// Called with the names of those who wait.
type Wake = Arc<dyn Fn(&BTreeSet<String>) + Send + Sync>;

/// The registry.
#[derive(Clone)]
pub struct Operations {
    shared: Arc<Mutex<Registry>>,
    places: Arc<Semaphore>,
    wake: Wake,
}

#[derive(Default)]
struct Registry {
    entries: BTreeMap<String, Entry>,
    last_id: u64,
}

struct Entry {
    id: u64,
    began: Instant,
    mark: String,
    handle: Handle,
    waiting: BTreeSet<String>,
    outcome: Option<(Instant, Result<(), Arc<EffectError>>)>,
}

/// How far an operation is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// There is none of this name.
    None,
    /// It is under way.
    Running {
        /// What it is at.
        step: &'static str,
        /// Since when.
        since: Instant,
    },
    /// It ended.
    Done {
        /// When: what is observed before says nothing about what it did.
        at: Instant,
        /// How.
        result: Result<(), Arc<EffectError>>,
    },
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}

impl Operations {
    /// No operations yet; at most `parallelism` are at work at the same time, the others wait for their turn.
    pub fn new(parallelism: usize, wake: impl Fn(&BTreeSet<String>) + Send + Sync + 'static) -> Self {
        Self { shared: Arc::default(), places: Arc::new(Semaphore::new(parallelism.max(1))), wake: Arc::new(wake) }
    }

    /// Starts an operation, unless one of this name is there already; `waiting` is woken when it ends. `mark` says what
    /// it is for: see [`Self::cancel_unless`]. `false` where there are too many.
    pub fn start(
        &self,
        load: Load,
        name: &str,
        mark: &str,
        waiting: &str,
        work: impl FnOnce(Handle) -> BoxFuture<'static, Result<(), EffectError>>,
    ) -> bool {
        let mut registry = self.lock();
        if let Some(entry) = registry.entries.get_mut(name)
            && entry.outcome.is_none()
        {
            entry.waiting.insert(waiting.to_owned());
            return true;
        }
        if registry.entries.len() >= OPERATIONS_MAX {
            return false;
        }
        registry.last_id += 1;
        let id = registry.last_id;
        let handle = Handle { cancelled: CancellationToken::new(), step: Arc::new(Mutex::new("Queued")) };
        let entry = Entry {
            id,
            began: Instant::now(),
            mark: mark.to_owned(),
            handle: handle.clone(),
            waiting: BTreeSet::from([waiting.to_owned()]),
            outcome: None,
        };
        registry.entries.insert(name.to_owned(), entry);
        drop(registry);
        let future = work(handle.clone());
        let (operations, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let result = tokio::select! {
                biased;
                // Waiting for a place ends with the wish; work does not.
                () = handle.cancelled.cancelled() => Err(EffectError::Cancelled),
                place = operations.place(load) => {
                    let _place = place;
                    future.await
                }
            };
            operations.finish(&name, id, result);
        });
        true
    }

    async fn place(&self, load: Load) -> Option<OwnedSemaphorePermit> {
        match load {
            // The semaphore is never closed.
            Load::Work => Arc::clone(&self.places).acquire_owned().await.ok(),
            Load::Wait => None,
        }
    }

    /// How far an operation is. Whoever reads the end of one takes it away, where nobody else waits for it.
    #[must_use]
    pub fn take(&self, name: &str, waiting: &str) -> Progress {
        let mut registry = self.lock();
        let Some(entry) = registry.entries.get_mut(name) else { return Progress::None };
        let progress = match &entry.outcome {
            None => {
                let step = *entry.handle.step.lock().unwrap_or_else(PoisonError::into_inner);
                return Progress::Running { step, since: entry.began };
            }
            Some((at, result)) => Progress::Done { at: *at, result: result.clone() },
        };
        entry.waiting.remove(waiting);
        if entry.waiting.is_empty() {
            registry.entries.remove(name);
        }
        progress
    }

    /// Has an operation end early where it was begun for something else.
    pub fn cancel_unless(&self, name: &str, mark: &str) {
        let registry = self.lock();
        if let Some(entry) = registry.entries.get(name)
            && entry.mark != mark
        {
            entry.handle.cancelled.cancel();
        }
    }

    /// `waiting` does not want the operation any more; it ends early when nobody does.
    pub fn leave(&self, name: &str, waiting: &str) {
        let mut registry = self.lock();
        let Some(entry) = registry.entries.get_mut(name) else { return };
        entry.waiting.remove(waiting);
        if entry.waiting.is_empty() {
            entry.handle.cancelled.cancel();
            if entry.outcome.is_some() {
                registry.entries.remove(name);
            }
        }
    }

    fn finish(&self, name: &str, id: u64, result: Result<(), EffectError>) {
        let mut registry = self.lock();
        let Some(entry) = registry.entries.get_mut(name).filter(|entry| entry.id == id) else { return };
        entry.outcome = Some((Instant::now(), result.map_err(Arc::new)));
        let waiting = entry.waiting.clone();
        if waiting.is_empty() {
            registry.entries.remove(name);
        }
        drop(registry);
        (self.wake)(&waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn operations(parallelism: usize) -> (Operations, Arc<Mutex<Vec<String>>>) {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&woken);
        let wake = move |names: &BTreeSet<String>| log.lock().unwrap().extend(names.iter().cloned());
        (Operations::new(parallelism, wake), woken)
    }

    fn sleeping(seconds: u64) -> impl FnOnce(Handle) -> BoxFuture<'static, Result<(), EffectError>> {
        move |handle| {
            async move {
                handle.at("Sleeping");
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(())
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_operation_serves_all_who_wait_for_it_and_is_read_once_by_each() {
        let (operations, woken) = operations(4);
        assert!(operations.start(Load::Work, "image/a", "", "m1", sleeping(5)));
        assert!(operations.start(Load::Work, "image/a", "", "m2", sleeping(5)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(matches!(operations.take("image/a", "m1"), Progress::Running { step: "Sleeping", .. }));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(*woken.lock().unwrap(), ["m1", "m2"]);
        assert!(matches!(operations.take("image/a", "m1"), Progress::Done { result: Ok(()), .. }));
        assert!(matches!(operations.take("image/a", "m2"), Progress::Done { .. }));
        assert!(matches!(operations.take("image/a", "m2"), Progress::None));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_are_at_work() {
        let (operations, _) = operations(1);
        operations.start(Load::Work, "a", "", "m1", sleeping(5));
        operations.start(Load::Work, "b", "", "m2", sleeping(5));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(matches!(operations.take("a", "m1"), Progress::Done { .. }));
        assert!(matches!(operations.take("b", "m2"), Progress::Running { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wanted_by_nobody_ends_while_it_waits_for_its_place() {
        let (operations, _) = operations(1);
        operations.start(Load::Work, "a", "", "m1", sleeping(500));
        operations.start(Load::Work, "b", "1", "m2", sleeping(5));
        tokio::time::sleep(Duration::from_secs(1)).await;
        operations.cancel_unless("b", "1");
        assert!(matches!(operations.take("b", "m2"), Progress::Running { .. }));
        operations.cancel_unless("b", "2");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Progress::Done { result: Err(error), .. } = operations.take("b", "m2") else { panic!() };
        assert!(matches!(*error, EffectError::Cancelled));
    }
}
