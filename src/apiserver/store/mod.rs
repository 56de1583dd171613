//! The transactional store underneath: ordered keys, bytes, one revision counter, one atomic durable commit.
//!
//! The server knows the store by this synchronous trait alone. Keys are `TENANT/RESOURCE/NAMESPACE/NAME`, so one store
//! holds many tenants and a tenant goes with its prefix.

mod contents;
mod error;
mod medium;
mod overlay;
mod redb;
mod tables;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

pub use self::contents::{Contents, ContentsError};
pub use self::error::StoreError;
pub use self::redb::{DEFAULT_CACHE_BYTES, RedbStore};
pub use self::tables::FORMAT_VERSION;

/// One atomic change of the store.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The revision counter after the change; never less than before.
    pub revision: u64,
    /// Prefixes all of whose keys go, before `writes` are applied.
    pub dropped: Vec<String>,
    /// Keys with their new value, in order of key; `None` removes the key.
    pub writes: Vec<(String, Option<Bytes>)>,
}

/// The store as it was at one commit. It stays as it is while the store moves on.
pub trait Snapshot: Send {
    /// The revision counter at that commit.
    fn revision(&self) -> u64;

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Read`] where the medium fails.
    fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Visits the keys that begin with `prefix` and are not less than `from`, in ascending order, until `visit` breaks.
    ///
    /// # Errors
    /// [`StoreError::Read`] where the medium fails: what was visited until then is not the whole.
    fn visit(
        &self,
        prefix: &str,
        from: &str,
        visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// Visits keys as [`Snapshot::visit`] does, as if the rows of `overlay` were written over the snapshot.
pub(crate) fn visit_over(
    snapshot: &dyn Snapshot,
    mut overlay: BTreeMap<&str, Option<&[u8]>>,
    prefix: &str,
    from: &str,
    visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    overlay.retain(|key, _| key.starts_with(prefix) && *key >= from);
    let mut broken = false;
    snapshot.visit(prefix, from, &mut |key, value| {
        let mut flow = ControlFlow::Continue(());
        while let Some(entry) = overlay.first_entry().filter(|entry| *entry.key() < key) {
            let (key, value) = entry.remove_entry();
            if let Some(value) = value.filter(|_| flow.is_continue()) {
                flow = visit(key, value);
            }
        }
        if flow.is_continue() {
            flow = match overlay.remove(key) {
                Some(Some(value)) => visit(key, value),
                Some(None) => ControlFlow::Continue(()),
                None => visit(key, value),
            };
        }
        broken = flow.is_break();
        flow
    })?;
    for (key, value) in overlay {
        if broken {
            break;
        }
        broken = value.is_some_and(|value| visit(key, value).is_break());
    }
    Ok(())
}

/// A transactional key-value store.
pub trait Store: Send + Sync {
    /// The state of the last commit. Never waits for a commit in progress.
    ///
    /// # Errors
    /// [`StoreError::Read`] where the medium fails.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Applies a batch as one; when this returns `Ok`, the batch is durable and visible to new snapshots.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Write`]: nothing of the batch is visible.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// The identifier drawn when the store was created; another store, or a new one in its place, has another.
    fn id(&self) -> &str;

    /// How often the store was restored from a copy; 0 for one that never was.
    fn epoch(&self) -> u64 {
        0
    }

    /// Closes the medium: what opens it next finds it whole. Whatever is asked afterwards is [`StoreError::Closed`].
    fn close(&self);
}
