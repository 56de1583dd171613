//! How much is in work at once.

use std::collections::BTreeMap;
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

/// Places for those in work. The control planes of a cluster's first day share one place: they need each other.
#[derive(Clone, Debug)]
pub struct Places {
    capacity: usize,
    held: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), held: Arc::default() }
    }

    /// Takes a place, or keeps the one that is held; `false` while all are taken.
    #[must_use]
    pub fn take(&self, holder: &str) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        held.retain(|_, since| now.duration_since(*since) < HELD_MAX);
        if held.contains_key(holder) {
            return true;
        }
        if held.len() >= self.capacity {
            return false;
        }
        held.insert(holder.to_owned(), now);
        true
    }

    /// Gives a place back; `true` where one was held.
    pub fn give_back(&self, holder: &str) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(holder).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn places_are_limited_shared_and_given_back() {
        let places = Places::new(2);
        assert!(places.take("a") && places.take("b") && places.take("a"));
        assert!(!places.take("c"));
        assert!(places.give_back("a") && !places.give_back("a"));
        assert!(places.take("c"));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_stuck_loses_its_place() {
        let places = Places::new(1);
        assert!(places.take("stuck"));
        tokio::time::advance(HELD_MAX).await;
        assert!(places.take("next"));
    }
}
