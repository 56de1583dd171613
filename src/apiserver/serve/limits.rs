//! What clients may take of a server, all together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long requests may go on after shutdown began, unless said otherwise.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections whose client is not known yet. When one more comes, the oldest has to go: a client that means it is known
/// within milliseconds.
const HALF_OPEN: usize = 64;
/// Requests that are being answered, watches among them. A watch that nobody reads holds some 64 KiB: 256 MiB in all.
const REQUESTS: usize = 4096;
/// Bodies that are being read, of 3 MiB at most each: 192 MiB in all. Further ones wait.
const BODIES: usize = 64;

/// What all listeners that hold a clone share.
#[derive(Clone, Debug)]
pub struct Limits {
    pub(super) connections: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    half_open: Arc<Mutex<HalfOpen>>,
    pub(super) drain: Duration,
}

#[derive(Debug, Default)]
struct HalfOpen {
    next: u64,
    open: BTreeMap<u64, CancellationToken>,
}

/// A connection whose client is not known yet, until it is dropped.
#[derive(Debug)]
pub(super) struct Unknown {
    id: u64,
    half_open: Arc<Mutex<HalfOpen>>,
    /// Cancelled when it has to go.
    pub(super) out: CancellationToken,
}

impl Limits {
    /// At most so many connections of clients that are known; further ones wait.
    pub fn connections(most: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(most)),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            bodies: Arc::new(Semaphore::new(BODIES)),
            half_open: Arc::default(),
            drain: DRAIN,
        }
    }

    /// How long requests may go on after shutdown began; 5 seconds without this.
    #[must_use]
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// At most so many requests that are being answered; further ones are refused. 4,096 without this.
    #[must_use]
    pub fn requests(mut self, most: usize) -> Self {
        self.requests = Arc::new(Semaphore::new(most));
        self
    }

    /// A place for a connection that begins; the oldest of those that are not known yet may have to go for it.
    pub(super) fn begin(&self) -> Unknown {
        let out = CancellationToken::new();
        let mut half_open = self.half_open.lock().unwrap_or_else(PoisonError::into_inner);
        let id = half_open.next;
        half_open.next += 1;
        half_open.open.insert(id, out.clone());
        if half_open.open.len() > HALF_OPEN
            && let Some((_, oldest)) = half_open.open.pop_first()
        {
            oldest.cancel();
        }
        Unknown { id, half_open: Arc::clone(&self.half_open), out }
    }

    /// A place for a request; `None` when all are taken.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).try_acquire_owned().ok()
    }

    /// A place for a body, as soon as there is one.
    pub(super) async fn body(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.bodies).acquire_owned().await.ok()
    }
}

impl Default for Limits {
    /// 512 connections: a file descriptor each, half of the usual limit of 1,024.
    fn default() -> Self {
        Self::connections(512)
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.id);
    }
}
