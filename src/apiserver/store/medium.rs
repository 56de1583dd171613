//! A medium that can be opened more than once: looked at without a write, for writing, for reading only.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::overlay::Overlay;

/// How the medium is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Writable,
    /// What recovery writes stays in memory: for a medium that takes no writes, or must get none.
    ReadOnly,
}

type Opener = Box<dyn Fn(Access, &mut Builder) -> Result<Database, DatabaseError> + Send + Sync>;

/// Opens the same medium as often as needed.
pub(super) struct Medium {
    opener: Opener,
    cache_bytes: usize,
}

/// A database that was looked at; what it writes stays in memory.
pub(super) struct Examined {
    pub database: Database,
    /// Whether what redb derives from its trees fits them.
    pub sound: bool,
}

impl Medium {
    /// A medium that `backends` opens.
    pub fn new<B, F>(backends: F, cache_bytes: usize) -> Self
    where
        B: StorageBackend,
        F: Fn() -> Result<B, DatabaseError> + Send + Sync + 'static,
    {
        let opener: Opener = Box::new(move |access, builder| match access {
            Access::Writable => builder.create_with_backend(backends()?),
            Access::ReadOnly => builder.create_with_backend(Overlay::new(backends()?).map_err(StorageError::Io)?),
        });
        Self { opener, cache_bytes }
    }

    /// A file that is there.
    pub fn file(path: &Path, cache_bytes: usize) -> Self {
        let path = path.to_owned();
        let backends = move || {
            let file = fs::OpenOptions::new().read(true).write(true).open(&path).map_err(StorageError::Io)?;
            FileBackend::new(file)
        };
        Self::new(backends, cache_bytes)
    }

    /// Opens it.
    pub fn open(&self, access: Access) -> Result<Database, DatabaseError> {
        (self.opener)(access, &mut builder(self.cache_bytes))
    }

    /// Opens it without a write and verifies every page in use against its checksum. redb itself does so only after a
    /// crash: what rotted in a file that was closed in order would be served, and copied on, as if it were sound.
    pub fn examine(&self) -> Result<Examined, DatabaseError> {
        let repaired = Arc::new(AtomicBool::new(false));
        let mut builder = builder(self.cache_bytes);
        let seen = Arc::clone(&repaired);
        builder.set_repair_callback(move |_| seen.store(true, Ordering::SeqCst));
        // redb 4.4 reads a part of the trees before it verifies them, and panics over some damage in it
        // (`tree_store/btree.rs`: unreachable). Nothing outlives the attempt but memory.
        let examined = catch_unwind(AssertUnwindSafe(|| {
            let mut database = (self.opener)(Access::ReadOnly, &mut builder)?;
            // A repair has verified everything already.
            let sound = repaired.load(Ordering::SeqCst) || database.check_integrity()?;
            Ok(Examined { database, sound })
        }));
        examined.unwrap_or_else(|_| Err(StorageError::Corrupted("a page is not what it should be".to_owned()).into()))
    }
}

pub(super) fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}
