//! Wall clocks that jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use kina::world::{Clock, VirtualClock};

/// A clock that advances with virtual time, and can be set. Clones of the offset share it.
#[derive(Clone, Debug)]
pub struct SettableClock {
    base: VirtualClock,
    offsets: Vec<Arc<AtomicI64>>,
}

impl SettableClock {
    pub fn new(base: VirtualClock, offsets: Vec<Arc<AtomicI64>>) -> Self {
        Self { base, offsets }
    }
}

impl Clock for SettableClock {
    fn now(&self) -> Timestamp {
        let seconds: i64 = self.offsets.iter().map(|offset| offset.load(Ordering::Relaxed)).sum();
        self.base.now() + SignedDuration::from_secs(seconds)
    }
}
