//! How much is in work at once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// However many CPUs a host has, more machines in work at once do not come up sooner: they share one disk.
const MACHINES_MAX: usize = 8;
/// A machine that has been in work for longer gives its place to others: it may be stuck, and one that is must never
/// block its neighbours. kubeadm itself gives up after some four minutes.
const HELD_MAX: Duration = Duration::from_secs(300);

/// How many machines this host brings up at once.
#[must_use]
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MACHINES_MAX)
}

/// How many simulated machines come up at once: they share nothing but this process, and their units take time without
/// working.
#[must_use]
pub fn simulated() -> usize {
    64
}

/// Places for those in work. The control planes of a cluster's first day share one place: they need each other.
#[derive(Clone, Debug)]
pub struct Places {
    capacity: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Instant>,
    waiting: BTreeSet<String>,
}

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), state: Arc::default() }
    }

    /// Takes a place, or keeps the one that is held; `false` while all are taken: `waiting` is then told of the next one
    /// that is given back.
    #[must_use]
    pub fn take(&self, holder: &str, waiting: &str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.held.retain(|_, since| now.duration_since(*since) < HELD_MAX);
        if state.held.contains_key(holder) {
            return true;
        }
        if state.held.len() >= self.capacity {
            state.waiting.insert(waiting.to_owned());
            return false;
        }
        state.waiting.remove(waiting);
        state.held.insert(holder.to_owned(), now);
        true
    }

    /// Whether [`Self::take`] would find a place.
    #[must_use]
    pub fn has_room(&self, holder: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let held = || state.held.values().filter(|since| now.duration_since(**since) < HELD_MAX).count();
        state.held.contains_key(holder) || held() < self.capacity
    }

    /// Gives a place back, if one was held, and names those to be told.
    #[must_use]
    pub fn give_back(&self, holder: &str) -> Vec<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.held.remove(holder).is_none() {
            return Vec::new();
        }
        // More than one, since the first may not want it any more.
        (0..self.capacity).map_while(|_| state.waiting.pop_first()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn places_are_limited_shared_and_given_back() {
        let places = Places::new(2);
        assert!(places.take("a", "a") && places.take("b", "b") && places.take("a", "a"));
        assert!(!places.take("c", "c") && !places.has_room("c") && places.has_room("a"));
        assert_eq!(places.give_back("a"), ["c"]);
        assert!(places.give_back("a").is_empty());
        assert!(places.take("c", "c"));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_stuck_loses_its_place() {
        let places = Places::new(1);
        assert!(places.take("stuck", "stuck"));
        tokio::time::advance(HELD_MAX).await;
        assert!(places.has_room("next") && places.take("next", "next"));
    }
}
