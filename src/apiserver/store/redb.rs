//! The store over redb: one file, or any [`StorageBackend`].

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageBackend};

use super::medium::{Access, Medium, builder};
use super::tables::{
    Facts, META, OBJECTS, damaged, facts, fill, initialise, is_blank, is_full, number, open_error, read_error,
    unreadable, write,
};
use super::{Batch, Contents, Snapshot, Store, StoreError};

/// Memory for redb's page cache, unless told otherwise: a few thousand objects of 2 KB, twice.
pub const DEFAULT_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A [`Store`] in one redb database.
///
/// redb refuses all use after an I/O error until it is opened again, which restores the last commit. The store does so
/// by itself, so that a full disk costs no more than the writes that did not fit. A sync that failed is not tried again:
/// `tables::begin_write` tells why nothing is built on what it may have forgotten.
pub struct RedbStore {
    path: PathBuf,
    id: String,
    epoch: u64,
    open: RwLock<Open>,
    /// Opens the same medium again; absent where that cannot be done.
    medium: Option<Medium>,
}

struct Open {
    /// Absent while the medium cannot be read at all, and once it is closed.
    database: Option<Arc<Database>>,
    /// Why it cannot be written, where that is so.
    unwritable: Option<Unwritable>,
    /// For good.
    closed: bool,
}

/// Why a medium cannot be written now.
#[derive(Clone, Debug)]
struct Unwritable {
    is_full: bool,
    cause: String,
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.path).field("id", &self.id).finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens the store in `path`, or creates it (with `new_id` as its identifier) where there is no such file.
    /// `cache_bytes` bounds the page cache.
    ///
    /// # Errors
    /// See [`StoreError`]; a damaged or newer file is never replaced or written.
    pub fn open(path: &Path, cache_bytes: usize, new_id: &str) -> Result<Self, StoreError> {
        match fs::metadata(path) {
            Ok(found) if found.len() == 0 => return Err(damaged(path, "the file is empty")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create_file(path, cache_bytes, new_id)?,
            Err(error) => return Err(StoreError::Open { path: path.to_owned(), source: error.into() }),
        }
        // A store is created beside its place: a database without anything in it is none of Kina's.
        Self::over(path.to_owned(), Medium::file(path, cache_bytes), None)
    }

    /// Looks at a medium without writing to it, then opens it. One that is blank becomes a store where there is an id
    /// for it.
    fn over(path: PathBuf, medium: Medium, new_id: Option<&str>) -> Result<Self, StoreError> {
        let examined = medium.examine().map_err(|error| open_error(&path, error))?;
        let blank = is_blank(&examined.database).map_err(|error| unreadable(&path, error))?;
        if !blank || new_id.is_none() {
            facts(&path, &examined.database)?;
        }
        drop(examined.database);
        let mut database = medium.open(Access::Writable).map_err(|error| open_error(&path, error))?;
        if !examined.sound {
            // The trees are whole and what redb derives from them is not: it is derived again, or pages in use could
            // be given away.
            tracing::warn!(path = %path.display(), "the store's list of free pages was wrong and is made anew");
            database.check_integrity().map_err(|error| open_error(&path, error))?;
        }
        if let Some(new_id) = new_id.filter(|_| blank) {
            initialise(&path, &database, new_id)?;
        }
        Self::check(path, database, Some(medium))
    }

    /// Opens the store in `path` to look at it: every page is verified, nothing is written to the file, and commits are
    /// refused.
    ///
    /// # Errors
    /// As for [`RedbStore::open`]; also where there is no such file.
    pub fn inspect(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let found =
            fs::metadata(path).map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })?;
        if found.len() == 0 {
            return Err(damaged(path, "the file is empty"));
        }
        let examined = Medium::file(path, cache_bytes).examine().map_err(|error| open_error(path, error))?;
        let store = Self::check(path.to_owned(), examined.database, None)?;
        let cause = "it was opened to be looked at".to_owned();
        store.open.write().unwrap_or_else(PoisonError::into_inner).unwritable =
            Some(Unwritable { is_full: false, cause });
        Ok(store)
    }

    /// A store in memory, gone when dropped.
    ///
    /// # Errors
    /// [`StoreError::Open`] where redb refuses, which memory gives no cause for.
    pub fn in_memory(new_id: &str) -> Result<Self, StoreError> {
        Self::with_backend(InMemoryBackend::new(), DEFAULT_CACHE_BYTES, new_id)
    }

    /// A store in memory with these contents.
    ///
    /// # Errors
    /// As for [`RedbStore::in_memory`].
    pub fn of(contents: &Contents) -> Result<Self, StoreError> {
        let path = PathBuf::from("(memory)");
        let database = builder(DEFAULT_CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| open_error(&path, error))?;
        fill(&path, &database, contents)?;
        if !contents.rows.is_empty() {
            write(&database, contents.batch())?;
        }
        Self::check(path, database, None)
    }

    /// A store on a medium of the caller's: a file with faults, or memory that outlives the store. An empty medium
    /// gets a new store with `new_id`.
    ///
    /// # Errors
    /// As for [`RedbStore::open`].
    pub fn with_backend(backend: impl StorageBackend, cache_bytes: usize, new_id: &str) -> Result<Self, StoreError> {
        let path = PathBuf::from("(memory)");
        let database = builder(cache_bytes).create_with_backend(backend).map_err(|error| open_error(&path, error))?;
        if is_blank(&database).map_err(|error| unreadable(&path, error))? {
            initialise(&path, &database, new_id)?;
        }
        Self::check(path, database, None)
    }

    /// As [`RedbStore::with_backend`], on a medium that can be opened more than once, so that the store recovers from
    /// a failed write as it does on a file.
    ///
    /// # Errors
    /// As for [`RedbStore::open`].
    pub fn with_backends<B: StorageBackend>(
        backends: impl Fn() -> B + Send + Sync + 'static,
        cache_bytes: usize,
        new_id: &str,
    ) -> Result<Self, StoreError> {
        Self::over(PathBuf::from("(memory)"), Medium::new(move || Ok(backends()), cache_bytes), Some(new_id))
    }

    fn check(path: PathBuf, database: Database, medium: Option<Medium>) -> Result<Self, StoreError> {
        let Facts { id, epoch, .. } = facts(&path, &database)?;
        let open = Open { database: Some(Arc::new(database)), unwritable: None, closed: false };
        Ok(Self { path, id, epoch, open: RwLock::new(open), medium })
    }

    /// Opens the medium again in place of `failed`, unless another thread has done so, for writing where it can be
    /// written.
    fn recover(&self, failed: Option<Arc<Database>>) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.closed {
            return Err(StoreError::Closed);
        }
        let closed = || StoreError::Read("the store is closed after a failed write".into());
        let medium = self.medium.as_ref().ok_or_else(closed)?;
        if failed.as_ref().map(Arc::as_ptr) != open.database.as_ref().map(Arc::as_ptr) {
            return Ok(());
        }
        // The medium's lock is free only when the database is closed.
        drop(failed);
        open.database = None;
        let error = match medium.open(Access::Writable) {
            Ok(database) => {
                *open = Open { database: Some(Arc::new(database)), unwritable: None, closed: false };
                return Ok(());
            }
            Err(error) => redb::Error::from(error),
        };
        tracing::warn!(path = %self.path.display(), %error, "the store cannot be written");
        open.unwritable = Some(Unwritable { is_full: is_full(&error), cause: error.to_string() });
        open.database = Some(Arc::new(medium.open(Access::ReadOnly).map_err(read_error)?));
        Ok(())
    }

    /// The database for writing; where it was opened for reading only, that is tried again.
    fn writable(&self) -> Result<Arc<Database>, StoreError> {
        for may_recover in [true, false] {
            let (database, unwritable) = {
                let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
                (open.database.clone(), open.unwritable.clone())
            };
            match (database, unwritable) {
                (Some(database), None) => return Ok(database),
                (database, _) if may_recover => self.recover(database)?,
                (_, Some(Unwritable { is_full: true, cause })) => return Err(StoreError::Full(cause.into())),
                (_, Some(Unwritable { cause, .. })) => return Err(StoreError::Write(cause.into())),
                (None, None) => {}
            }
        }
        Err(StoreError::Write("the store is closed".into()))
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let failed = {
            // Held while a snapshot is taken, so that `close` finds nobody else with the database.
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(snapshot) = open.database.as_ref().and_then(|database| RedbSnapshot::new(database).ok()) {
                return Ok(Box::new(snapshot));
            }
            open.database.clone()
        };
        self.recover(failed)?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let database = open.database.as_ref().ok_or_else(|| StoreError::Read("it cannot be opened".into()))?;
        Ok(Box::new(RedbSnapshot::new(database)?))
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let database = self.writable()?;
        let result = write(&database, batch);
        if result.is_err()
            && let Err(error) = self.recover(Some(database))
        {
            tracing::error!(path = %self.path.display(), %error, "the store cannot be read");
        }
        result
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn close(&self) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.closed = true;
        // redb writes down that it was closed when the database is dropped; else the next start would have to repair.
        open.database = None;
    }
}

struct RedbSnapshot {
    objects: ReadOnlyTable<&'static str, &'static [u8]>,
    revision: u64,
}

impl RedbSnapshot {
    fn new(database: &Database) -> Result<Self, StoreError> {
        let read: ReadTransaction = database.begin_read().map_err(read_error)?;
        let meta = read.open_table(META).map_err(read_error)?;
        let revision =
            number(&meta, "revision").map_err(read_error)?.map_err(|detail| StoreError::Read(detail.into()))?;
        Ok(Self { objects: read.open_table(OBJECTS).map_err(read_error)?, revision })
    }
}

impl Snapshot for RedbSnapshot {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let value = self.objects.get(key).map_err(read_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn visit(
        &self,
        prefix: &str,
        from: &str,
        visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let start = from.max(prefix);
        for row in self.objects.range(start..).map_err(read_error)? {
            let (key, value) = row.map_err(read_error)?;
            if !key.value().starts_with(prefix) || visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Creates the store beside its place and moves it there when whole, so that a crash in between leaves no half store
/// that the next start would have to refuse.
fn create_file(path: &Path, cache_bytes: usize, new_id: &str) -> Result<(), StoreError> {
    let open = |error: std::io::Error| StoreError::Open { path: path.to_owned(), source: error.into() };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(open(error)),
        _ => {}
    }
    let database = builder(cache_bytes).create(&fresh).map_err(|error| open_error(path, error))?;
    initialise(path, &database, new_id)?;
    drop(database);
    fs::rename(&fresh, path).map_err(open)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(open)
}

/// Puts contents into an empty file.
pub(super) fn create_with(path: &Path, cache_bytes: usize, contents: &Contents) -> Result<(), StoreError> {
    let database = builder(cache_bytes).create(path).map_err(|error| open_error(path, error))?;
    fill(path, &database, contents)?;
    if contents.rows.is_empty() { Ok(()) } else { write(&database, contents.batch()) }
}
