//! The store over redb: one file, or any [`StorageBackend`].

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    StorageError, TableDefinition,
};

use super::overlay::Overlay;
use super::{Batch, Snapshot, Store, StoreError};

/// The format this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u64 = 1;
/// Memory for redb's page cache, unless told otherwise: a few thousand objects of 2 KB, twice.
pub const DEFAULT_CACHE_BYTES: usize = 16 * 1024 * 1024;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// `format` and `revision` as decimal text, `id` as text.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// How the medium is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Writable,
    /// What recovery writes stays in memory: for a medium that takes no writes.
    ReadOnly,
}

type Opener = Box<dyn Fn(Access) -> Result<Database, DatabaseError> + Send + Sync>;

/// A [`Store`] in one redb database.
///
/// redb refuses all use after an I/O error until it is opened again, which restores the last commit. The store does so
/// by itself, so that a full disk costs no more than the writes that did not fit.
pub struct RedbStore {
    path: PathBuf,
    id: String,
    open: RwLock<Open>,
    /// Opens the same medium again; absent where that cannot be done.
    reopen: Option<Opener>,
}

struct Open {
    /// Absent while the medium cannot be read at all.
    database: Option<Arc<Database>>,
    access: Access,
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
        let file = path.to_owned();
        let opener: Opener = Box::new(move |access| match access {
            Access::Writable => builder(cache_bytes).open(&file),
            Access::ReadOnly => {
                let file = fs::OpenOptions::new().read(true).write(true).open(&file)?;
                builder(cache_bytes).create_with_backend(Overlay::new(FileBackend::new(file)?)?)
            }
        });
        let database = opener(Access::Writable).map_err(|error| open_error(path, error))?;
        Self::check(path.to_owned(), database, Some(opener))
    }

    /// A store in memory, gone when dropped.
    ///
    /// # Errors
    /// [`StoreError::Open`] where redb refuses, which memory gives no cause for.
    pub fn in_memory(new_id: &str) -> Result<Self, StoreError> {
        Self::with_backend(InMemoryBackend::new(), DEFAULT_CACHE_BYTES, new_id)
    }

    /// A store on a medium of the caller's: a file with faults, or memory that outlives the store. An empty medium
    /// gets a new store with `new_id`.
    ///
    /// # Errors
    /// As for [`RedbStore::open`].
    pub fn with_backend(backend: impl StorageBackend, cache_bytes: usize, new_id: &str) -> Result<Self, StoreError> {
        let path = PathBuf::from("(memory)");
        let database = builder(cache_bytes).create_with_backend(backend).map_err(|error| open_error(&path, error))?;
        if is_blank(&database).map_err(|error| damaged(&path, error))? {
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
        let mut store = Self::with_backend(backends(), cache_bytes, new_id)?;
        store.reopen = Some(Box::new(move |access| match access {
            Access::Writable => builder(cache_bytes).create_with_backend(backends()),
            Access::ReadOnly => builder(cache_bytes).create_with_backend(Overlay::new(backends())?),
        }));
        Ok(store)
    }

    fn check(path: PathBuf, database: Database, reopen: Option<Opener>) -> Result<Self, StoreError> {
        let id = {
            let read = database.begin_read().map_err(|error| damaged(&path, error))?;
            let meta = read.open_table(META).map_err(|error| damaged(&path, error))?;
            let format = number(&meta, "format").map_err(|detail| damaged(&path, detail))?;
            if format > FORMAT_VERSION {
                return Err(StoreError::Newer { path, found: format, known: FORMAT_VERSION });
            }
            number(&meta, "revision").map_err(|detail| damaged(&path, detail))?;
            read.open_table(OBJECTS).map_err(|error| damaged(&path, error))?;
            let id = meta.get("id").map_err(|error| damaged(&path, error))?;
            id.map(|id| id.value().to_owned()).ok_or_else(|| damaged(&path, "it has no identifier"))?
        };
        let open = Open { database: Some(Arc::new(database)), access: Access::Writable };
        Ok(Self { path, id, open: RwLock::new(open), reopen })
    }

    fn database(&self) -> Option<(Arc<Database>, Access)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.database.clone().map(|database| (database, open.access))
    }

    /// Opens the medium again in place of `failed`, unless another thread has done so, for writing where it can be
    /// written.
    fn recover(&self, failed: Option<Arc<Database>>) -> Result<(), StoreError> {
        let closed = || StoreError::Read("the store is closed after a failed write".into());
        let reopen = self.reopen.as_ref().ok_or_else(closed)?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if failed.as_ref().map(Arc::as_ptr) != open.database.as_ref().map(Arc::as_ptr) {
            return Ok(());
        }
        // The medium's lock is free only when the database is closed.
        drop(failed);
        open.database = None;
        let (database, access) = match reopen(Access::Writable) {
            Ok(database) => (database, Access::Writable),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the store cannot be written");
                (reopen(Access::ReadOnly).map_err(read_error)?, Access::ReadOnly)
            }
        };
        *open = Open { database: Some(Arc::new(database)), access };
        Ok(())
    }

    /// The database for writing; where it was opened for reading only, that is tried again.
    fn writable(&self) -> Result<Arc<Database>, StoreError> {
        match self.database() {
            Some((database, Access::Writable)) => return Ok(database),
            other => self.recover(other.map(|(database, _)| database))?,
        }
        match self.database() {
            Some((database, Access::Writable)) => Ok(database),
            _ => Err(StoreError::Full("it can be read only".into())),
        }
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let database = self.database().map(|(database, _)| database);
        if let Some(snapshot) = database.as_ref().and_then(|database| RedbSnapshot::new(database).ok()) {
            return Ok(Box::new(snapshot));
        }
        self.recover(database)?;
        let (database, _) = self.database().ok_or_else(|| StoreError::Read("the store is closed".into()))?;
        Ok(Box::new(RedbSnapshot::new(&database)?))
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
}

struct RedbSnapshot {
    objects: ReadOnlyTable<&'static str, &'static [u8]>,
    revision: u64,
}

impl RedbSnapshot {
    fn new(database: &Database) -> Result<Self, StoreError> {
        let read: ReadTransaction = database.begin_read().map_err(read_error)?;
        let meta = read.open_table(META).map_err(read_error)?;
        let revision = number(&meta, "revision").map_err(|detail| StoreError::Read(detail.into()))?;
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

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
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

/// Whether nothing was ever committed: a medium whose first use was interrupted is like an empty one.
fn is_blank(database: &Database) -> Result<bool, redb::Error> {
    let read = database.begin_read()?;
    Ok(read.list_tables()?.next().is_none())
}

fn initialise(path: &Path, database: &Database, new_id: &str) -> Result<(), StoreError> {
    let fill = || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            meta.insert("format", FORMAT_VERSION.to_string().as_str())?;
            // Revision 0 means "any" in the API, so the first state of a store is revision 1.
            meta.insert("revision", "1")?;
            meta.insert("id", new_id)?;
            write.open_table(OBJECTS)?;
        }
        write.commit()?;
        Ok(())
    };
    fill().map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })
}

fn write(database: &Database, batch: Batch) -> Result<(), StoreError> {
    let apply = || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        {
            let mut objects = write.open_table(OBJECTS)?;
            for prefix in &batch.dropped {
                // '/' ends every prefix that is dropped and '0' is the next character: the range is the prefix.
                let end = format!("{}0", prefix.trim_end_matches('/'));
                objects.retain_in::<&str, _>(prefix.as_str()..end.as_str(), |_, _| false)?;
            }
            for (key, value) in &batch.writes {
                match value {
                    Some(value) => objects.insert(key.as_str(), value.as_ref())?,
                    None => objects.remove(key.as_str())?,
                };
            }
            write.open_table(META)?.insert("revision", batch.revision.to_string().as_str())?;
        }
        write.commit()?;
        Ok(())
    };
    apply().map_err(|error| match &error {
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => StoreError::Full(error.into()),
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::QuotaExceeded => StoreError::Full(error.into()),
        _ => StoreError::Write(error.into()),
    })
}

fn number(meta: &impl ReadableTable<&'static str, &'static str>, key: &str) -> Result<u64, String> {
    let value = meta.get(key).map_err(|error| error.to_string())?.ok_or_else(|| format!("it has no {key}"))?;
    value.value().parse().map_err(|_| format!("its {key} is not a number"))
}

fn damaged(path: &Path, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), detail: detail.to_string() }
}

fn read_error(error: impl Into<redb::Error>) -> StoreError {
    let error: redb::Error = error.into();
    StoreError::Read(error.into())
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(io)) if io.kind() != std::io::ErrorKind::InvalidData => {
            StoreError::Open { path: path.to_owned(), source: io.into() }
        }
        other => damaged(path, other),
    }
}

/// Rewrites the format of a store, as a newer program would have.
#[cfg(test)]
pub(super) fn tests_only_set_format(path: &Path, format: &str) {
    let database = Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", format).unwrap();
    write.commit().unwrap();
}
