//! When the world's journal is on the disk: a sync of its own for each wait, shared by all who wait.
//!
//! Whoever created or removed something is answered only when that is durable, and a cluster's first objects are written
//! only when the world that they belong to is. What happens inside of nodes is synced every [`RHYTHM`]: a loss of power
//! takes at most that much of it, which the nodes then do again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::core::Core;

/// Longest time that an entry nobody waits for is not on the disk.
pub(super) const RHYTHM: Duration = Duration::from_millis(500);

/// How far the journal is synced, in entries.
#[derive(Debug, Default)]
pub(super) struct Synced {
    reached: AtomicU64,
    /// Held by whoever syncs: those who wait for it mostly find that it was done for them, too.
    turn: tokio::sync::Mutex<()>,
}

impl Core {
    /// Whether entries are not synced yet.
    pub fn is_dirty(&self) -> bool {
        self.unsynced().is_some()
    }

    /// Returns when all that was written until now is on the disk.
    ///
    /// # Errors
    /// What the disk says. What was written is there, and may be lost with the power.
    pub async fn durable(&self) -> io::Result<()> {
        let Some((wanted, _)) = self.unsynced() else { return Ok(()) };
        let _turn = self.synced.turn.lock().await;
        if self.synced.reached.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        // Entries that came while others had the turn are synced with it.
        let Some((reached, file)) = self.unsynced() else { return Ok(()) };
        tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)??;
        self.synced.reached.fetch_max(reached, Ordering::AcqRel);
        Ok(())
    }

    fn unsynced(&self) -> Option<(u64, Arc<std::fs::File>)> {
        let (written, file) = self.journal()?;
        (written > self.synced.reached.load(Ordering::Acquire)).then_some((written, file))
    }
}
