//! Wakes everyone who waits, in the order in which they began to wait.
//!
//! A watch channel of tokio's would do, but for its order: it wakes by groups, each receiver being in one drawn at random
//! from numbers that no seed of ours controls, and a simulation's order of events has to follow from its seed.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts what happened, for any number of tasks that wait for more.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    count: AtomicU64,
    waiting: Notify,
}

impl Wake {
    /// Something happened.
    pub fn tell(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.waiting.notify_waiters();
    }

    /// How much has happened. Taken before looking, so that nothing that happens meanwhile is missed.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until more than `seen` has happened.
    pub async fn after(&self, seen: u64) {
        loop {
            let mut told = std::pin::pin!(self.waiting.notified());
            // Waits from here on, so that what is told after the count is read wakes.
            told.as_mut().enable();
            if self.count() != seen {
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn all_are_woken_in_the_order_in_which_they_waited() {
        let (wake, order) = (Arc::new(Wake::default()), Arc::new(Mutex::new(Vec::new())));
        let tasks: Vec<_> = (0..40)
            .map(|index| {
                let (wake, order) = (Arc::clone(&wake), Arc::clone(&order));
                tokio::spawn(async move {
                    wake.after(0).await;
                    order.lock().unwrap().push(index);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        wake.tell();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_happened_before_the_wait_is_not_missed() {
        let wake = Wake::default();
        let seen = wake.count();
        wake.tell();
        wake.after(seen).await;
    }
}
