//! The tables of the store in redb, and what is read from and written to them.

use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Batch, Contents, StoreError};

/// The format this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u64 = 1;
pub(super) const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// `format`, `revision` and `epoch` as decimal text, `id` as text.
pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// Whether nothing was ever committed: a medium whose first use was interrupted is like an empty one.
pub(super) fn is_blank(database: &Database) -> Result<bool, redb::Error> {
    let read = database.begin_read()?;
    Ok(read.list_tables()?.next().is_none())
}

pub(super) fn initialise(path: &Path, database: &Database, new_id: &str) -> Result<(), StoreError> {
    // Revision 0 means "any" in the API, so the first state of a store is revision 1.
    fill(path, database, &Contents { id: new_id.to_owned(), epoch: 0, revision: 1, rows: Vec::new() })
}

/// Puts everything but rows into an empty database.
pub(super) fn fill(path: &Path, database: &Database, contents: &Contents) -> Result<(), StoreError> {
    let fill = || -> Result<(), redb::Error> {
        let write = begin_write(database)?;
        {
            let mut meta = write.open_table(META)?;
            meta.insert("format", FORMAT_VERSION.to_string().as_str())?;
            meta.insert("revision", contents.revision.to_string().as_str())?;
            meta.insert("id", contents.id.as_str())?;
            if contents.epoch > 0 {
                meta.insert("epoch", contents.epoch.to_string().as_str())?;
            }
            write.open_table(OBJECTS)?;
        }
        write.commit()?;
        Ok(())
    };
    fill().map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })
}

/// A transaction whose data is synced before the header that leads to it (docs/decisions/0008). With one sync for both, as
/// redb has it by itself,
/// - a newest commit that rotted looks after a crash like one that was never finished: redb would go back to the one
///   before, without a word;
/// - after a sync that failed, the system may show pages that the disk never got, and redb would build on them. So it
///   leads to no data but what a sync that succeeded has covered, and the header is written anew at every opening.
fn begin_write(database: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_two_phase_commit(true);
    Ok(write)
}

/// Applies a batch as one.
pub(super) fn write(database: &Database, batch: Batch) -> Result<(), StoreError> {
    let apply = || -> Result<(), redb::Error> {
        let write = begin_write(database)?;
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
    apply()
        .map_err(|error| if is_full(&error) { StoreError::Full(error.into()) } else { StoreError::Write(error.into()) })
}

pub(super) fn is_full(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(io) if matches!(io.kind(), StorageFull | QuotaExceeded))
}

/// What a store says of itself.
pub(super) struct Facts {
    pub id: String,
    pub epoch: u64,
    format: u64,
}

/// Reads what a store says of itself.
pub(super) fn facts(path: &Path, database: &Database) -> Result<Facts, StoreError> {
    let read = || -> Result<Result<Facts, String>, redb::Error> {
        let read = database.begin_read()?;
        let meta = read.open_table(META)?;
        let format = match number(&meta, "format")? {
            Ok(format) => format,
            Err(detail) => return Ok(Err(detail)),
        };
        if format > FORMAT_VERSION {
            return Ok(Ok(Facts { id: String::new(), epoch: 0, format }));
        }
        read.open_table(OBJECTS)?;
        let Some(id) = meta.get("id")?.map(|id| id.value().to_owned()) else {
            return Ok(Err("it has no identifier".to_owned()));
        };
        // Absent in a store that was never restored.
        let epoch = if meta.get("epoch")?.is_some() { number(&meta, "epoch")? } else { Ok(0) };
        let numbers = number(&meta, "revision")?.and(epoch);
        Ok(numbers.map(|epoch| Facts { id, epoch, format }))
    };
    let facts = read().map_err(|error| unreadable(path, error))?.map_err(|detail| damaged(path, detail))?;
    if facts.format > FORMAT_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found: facts.format, known: FORMAT_VERSION });
    }
    Ok(facts)
}

/// A number among what a store says of itself, or why there is none.
pub(super) fn number(
    meta: &impl ReadableTable<&'static str, &'static str>,
    key: &str,
) -> Result<Result<u64, String>, redb::Error> {
    let Some(value) = meta.get(key)? else { return Ok(Err(format!("it has no {key}"))) };
    Ok(value.value().parse().map_err(|_| format!("its {key} is not a number")))
}

/// A failure to read: of the medium, which says nothing of what is on it, or of what was read.
pub(super) fn unreadable(path: &Path, error: redb::Error) -> StoreError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        // Not a database at all, or one that was cut off: that is what was read, not a failure to read.
        redb::Error::Io(io) if !matches!(io.kind(), InvalidData | UnexpectedEof) => {
            StoreError::Open { path: path.to_owned(), source: io.into() }
        }
        error @ redb::Error::PreviousIo => StoreError::Open { path: path.to_owned(), source: error.into() },
        error => damaged(path, error),
    }
}

pub(super) fn damaged(path: &Path, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), detail: detail.to_string() }
}

pub(super) fn read_error(error: impl Into<redb::Error>) -> StoreError {
    let error: redb::Error = error.into();
    StoreError::Read(error.into())
}

pub(super) fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        other => unreadable(path, other.into()),
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

/// Makes a database that is no store of Kina's.
#[cfg(test)]
pub(super) fn tests_only_foreign(path: &Path, table: Option<&str>) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    if let Some(table) = table {
        write.open_table(TableDefinition::<&str, &str>::new(table)).unwrap().insert("a", "b").unwrap();
    }
    write.commit().unwrap();
}
