//! Everything that a store holds at one commit, and its form outside of a store: lines of JSON, which outlive any
//! format of the database.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// The form that this program writes, and the newest that it reads.
const FORM: u64 = 1;
/// The largest contents that are taken out in one piece. A thousand Clusters with their machines are some 20 MB.
const BYTES_MAX: usize = 512 << 20;

/// Everything in a store at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The identifier of the store.
    pub id: String,
    /// How often it was restored.
    pub epoch: u64,
    /// The revision counter.
    pub revision: u64,
    /// Keys with their values, in order of key.
    pub rows: Vec<(String, String)>,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    form: u64,
    id: String,
    epoch: u64,
    revision: u64,
    rows: usize,
}

/// Contents that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// Written by a newer program.
    #[error("the contents have form {found}, this program knows forms up to {FORM}")]
    Newer {
        /// The form found.
        found: u64,
    },
    /// A line is not what it should be.
    #[error("line {line} is not what Kina writes")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// There are not as many rows as the first line says.
    #[error("there are {found} rows, the first line says {wanted}")]
    Short {
        /// Rows found.
        found: usize,
        /// Rows there should be.
        wanted: usize,
    },
    /// Keys are not in order, or one is there twice.
    #[error("line {line} is out of order")]
    Order {
        /// Counted from 1.
        line: usize,
    },
}

impl Contents {
    /// Takes everything out of a store, as of its last commit.
    ///
    /// # Errors
    /// Where the store cannot be read, holds what is not text, or is too large.
    pub fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let (mut rows, mut bytes, mut broken) = (Vec::new(), 0, None);
        snapshot.visit("", "", &mut |key, value| {
            bytes += key.len() + value.len();
            match std::str::from_utf8(value) {
                Ok(value) if bytes <= BYTES_MAX => rows.push((key.to_owned(), value.to_owned())),
                Ok(_) => broken = Some(format!("it holds more than {BYTES_MAX} bytes")),
                Err(_) => broken = Some(format!("the value of {key} is not text")),
            }
            if broken.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if let Some(detail) = broken {
            return Err(StoreError::Read(detail.into()));
        }
        Ok(Self { id: store.id().to_owned(), epoch: store.epoch(), revision: snapshot.revision(), rows })
    }

    /// As lines: what they are of, then `["KEY","VALUE"]` for each row.
    ///
    /// # Errors
    /// Never: strings and numbers can be written.
    pub fn to_lines(&self) -> Result<String, serde_json::Error> {
        let Self { id, epoch, revision, rows } = self;
        let head = Head { form: FORM, id: id.clone(), epoch: *epoch, revision: *revision, rows: rows.len() };
        let mut text = serde_json::to_string(&head)? + "\n";
        for row in rows {
            text += &serde_json::to_string(row)?;
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads what [`Contents::to_lines`] writes.
    ///
    /// # Errors
    /// [`ContentsError`]: nothing of it is usable then.
    pub fn from_lines(text: &str) -> Result<Self, ContentsError> {
        #[derive(Deserialize)]
        struct Form {
            form: u64,
        }
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let first = lines.next().map(|(_, line)| line).unwrap_or_default();
        let broken = |line: usize| move |source| ContentsError::Line { line, source };
        let Form { form } = serde_json::from_str(first).map_err(broken(1))?;
        if form > FORM {
            return Err(ContentsError::Newer { found: form });
        }
        let head: Head = serde_json::from_str(first).map_err(broken(1))?;
        let mut rows: Vec<(String, String)> = Vec::new();
        for (line, text) in lines {
            let row: (String, String) = serde_json::from_str(text).map_err(broken(line))?;
            if rows.last().is_some_and(|last| last.0 >= row.0) {
                return Err(ContentsError::Order { line });
            }
            rows.push(row);
        }
        if rows.len() != head.rows {
            return Err(ContentsError::Short { found: rows.len(), wanted: head.rows });
        }
        Ok(Self { id: head.id, epoch: head.epoch, revision: head.revision, rows })
    }

    /// Makes a store with these contents in a file of its own, which must not be there yet; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; half a file may be left then.
    pub fn create(&self, path: &Path, cache_bytes: usize) -> Result<(), StoreError> {
        let open = |source: std::io::Error| StoreError::Open { path: path.to_owned(), source: source.into() };
        fs::File::create_new(path).map_err(open)?;
        super::redb::create_with(path, cache_bytes, self)?;
        fs::File::open(path).and_then(|file| file.sync_all()).map_err(open)
    }

    /// The rows as a store has them.
    pub(super) fn batch(&self) -> super::Batch {
        let writes = self.rows.iter().map(|(key, value)| (key.clone(), Some(Bytes::from(value.clone())))).collect();
        super::Batch { revision: self.revision, dropped: Vec::new(), writes }
    }
}
