//! A medium that remembers what it was told to write until a sync has succeeded.
//!
//! After a failed sync an operating system may hold pages that it takes for written and that the disk never got: reads
//! show them, a second sync succeeds without them, and they are gone when the power goes. A sync is therefore never
//! tried again by itself. When the medium is opened anew, everything since the last sync that succeeded is first
//! written and synced once more; until that succeeds the store takes no writes.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// What was written since the last sync that succeeded. At most one commit: its bytes are bounded by what the writer
/// puts into one.
#[derive(Default)]
pub(super) struct Unsynced(Mutex<Vec<Write>>);

enum Write {
    Bytes { offset: u64, data: Box<[u8]> },
    Length(u64),
}

impl Unsynced {
    fn writes(&self) -> MutexGuard<'_, Vec<Write>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes everything on, and remembers what is not synced.
pub(super) struct Rewriting<B> {
    base: B,
    unsynced: Arc<Unsynced>,
}

impl<B: StorageBackend> Rewriting<B> {
    /// Over a medium, to which `unsynced` is written first.
    pub fn new(base: B, unsynced: Arc<Unsynced>) -> io::Result<Self> {
        let mut writes = unsynced.writes();
        if !writes.is_empty() {
            for write in writes.iter() {
                match write {
                    Write::Bytes { offset, data } => base.write(*offset, data)?,
                    Write::Length(length) => base.set_len(*length)?,
                }
            }
            base.sync_data()?;
            writes.clear();
        }
        drop(writes);
        Ok(Self { base, unsynced })
    }
}

impl<B: StorageBackend> fmt::Debug for Rewriting<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriting").field("base", &self.base).finish_non_exhaustive()
    }
}

impl<B: StorageBackend> StorageBackend for Rewriting<B> {
    fn len(&self) -> io::Result<u64> {
        self.base.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.base.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut writes = self.unsynced.writes();
        self.base.set_len(len)?;
        writes.push(Write::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Held meanwhile, so that a write during the sync is not forgotten with it.
        let mut writes = self.unsynced.writes();
        self.base.sync_data()?;
        writes.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut writes = self.unsynced.writes();
        self.base.write(offset, data)?;
        writes.push(Write::Bytes { offset, data: data.into() });
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.base.close()
    }

    // Locks are the base's.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.query_lock_range(start, end)
    }
}
