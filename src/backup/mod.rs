//! A copy of what a home cannot do without: the store's contents, the installation id and the keys of the clusters'
//! certificate authorities, in one tar file.
//!
//! ```text
//! backup.json      what this is: format, of which store, when, and the SHA-256 of every other member
//! store.jsonl      the objects of Kina's API
//! installation-id  the mark on everything that Kina made on this host
//! pki/UID/…        keys and certificates of a cluster
//! ```
//!
//! The store comes first and the keys after it: a cluster made meanwhile has keys too many, never too few.

mod restore;
mod tar;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use restore::{Restored, restore};
pub use tar::TarError;

use crate::apiserver::store::{Contents, ContentsError, RedbStore, StoreError};
use crate::home::{Home, HomeError};
use crate::world::FileSystem;
use tar::Member;

/// Where the kina that serves a home gives the contents of its store.
pub const STORE_PATH: &str = "/kina/v1/store";
/// The format that this program writes, and the newest that it reads.
const FORMAT: u64 = 1;
/// The largest backup that is read: the contents of the largest store, and as much again for keys and quotes.
const BYTES_MAX: u64 = 1 << 30;
/// A cluster's keys and certificates are some 10 KiB.
const KEYS_BYTES_MAX: u64 = 1 << 20;
const ABOUT: &str = "backup.json";
const STORE: &str = "store.jsonl";
const INSTALLATION: &str = "installation-id";
const PKI: &str = "pki/";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The format of the backup.
    pub format: u64,
    /// The version of Kina that made it.
    pub kina: String,
    /// When.
    pub created: Timestamp,
    /// The store it was made of.
    pub store: AboutStore,
    /// SHA-256 of every other member, by name.
    pub sha256: BTreeMap<String, String>,
}

/// The store of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutStore {
    /// Its identifier.
    pub id: String,
    /// How often it was restored.
    pub epoch: u64,
    /// Its revision counter.
    pub revision: u64,
}

/// A backup, whole and verified.
#[derive(Clone, Debug)]
pub struct Backup {
    /// What it is.
    pub about: About,
    /// The objects.
    pub contents: Contents,
    /// Files of the home, by their path in it.
    files: BTreeMap<String, Vec<u8>>,
}

/// A backup could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("could not {operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Not a backup, or not whole.
    #[error("{path} is not a whole backup of Kina: {detail}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Made by a newer Kina.
    #[error("the backup {path} has format {found}, this program knows formats up to {FORMAT}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u64,
    },
    /// It cannot be written as a tar file.
    #[error("could not put the backup together")]
    Form(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a store already.
    #[error("the home {home} has a store already")]
    Occupied {
        /// The home.
        home: PathBuf,
    },
    /// The home belongs to another installation.
    #[error("the home {home} carries another installation id than the backup")]
    OtherInstallation {
        /// The home.
        home: PathBuf,
    },
}

impl BackupError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some("take another copy: nothing of this one was used".to_owned()),
            Self::Newer { .. } => Some("use the version of Kina that made it, or a newer one".to_owned()),
            Self::Home(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Occupied { .. } => {
                Some("with `--force` the backup takes its place, and the present store is kept beside it".to_owned())
            }
            Self::OtherInstallation { .. } => Some(
                "containers made under the present id would be strangers afterwards; `--force` if that is meant"
                    .to_owned(),
            ),
            Self::Io { .. } | Self::Form(_) => None,
        }
    }
}

impl Backup {
    /// Puts the contents of a home's store together with what else is needed of the home.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn gather(
        home: &Home,
        files: &dyn FileSystem,
        contents: Contents,
        now: Timestamp,
    ) -> Result<Self, BackupError> {
        let mut found = BTreeMap::new();
        if let Some(id) = optional(files, &home.root().join(INSTALLATION))? {
            found.insert(INSTALLATION.to_owned(), id);
        }
        for uid in names(files, &home.pki())? {
            for name in names(files, &home.pki().join(&uid))? {
                // What was removed since it was listed belongs to a Cluster that is gone.
                if let Some(content) = optional(files, &home.pki().join(&uid).join(&name))? {
                    found.insert(format!("{PKI}{uid}/{name}"), content);
                }
            }
        }
        let store = AboutStore { id: contents.id.clone(), epoch: contents.epoch, revision: contents.revision };
        let kina = env!("CARGO_PKG_VERSION").to_owned();
        let about = About { format: FORMAT, kina, created: now, store, sha256: BTreeMap::new() };
        Ok(Self { about, contents, files: found })
    }

    /// The backup as bytes of a tar file.
    ///
    /// # Errors
    /// [`BackupError::Form`] where a name does not fit.
    pub fn encode(&self) -> Result<Vec<u8>, BackupError> {
        let form = |error: serde_json::Error| BackupError::Form(error.into());
        let store = self.contents.to_lines().map_err(form)?.into_bytes();
        let mut members = vec![Member { name: STORE.to_owned(), content: store }];
        let file = |(name, content): (&String, &Vec<u8>)| Member { name: name.clone(), content: content.clone() };
        members.extend(self.files.iter().map(file));
        let mut about = self.about.clone();
        about.sha256 = members.iter().map(|member| (member.name.clone(), hash(&member.content))).collect();
        let content = serde_json::to_vec_pretty(&about).map_err(form)?;
        members.insert(0, Member { name: ABOUT.to_owned(), content });
        let seconds = u64::try_from(about.created.as_second()).unwrap_or_default();
        tar::write(&members, seconds).map_err(|error| BackupError::Form(error.into()))
    }

    /// Reads a backup and verifies all of it. `path` is for messages.
    ///
    /// # Errors
    /// [`BackupError::Damaged`], [`BackupError::Newer`].
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, BackupError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let damaged = |detail: String| BackupError::Damaged { path: path.to_owned(), detail, source: None };
        let because = |detail: &str, source: Box<dyn std::error::Error + Send + Sync>| BackupError::Damaged {
            path: path.to_owned(),
            detail: detail.to_owned(),
            source: Some(source),
        };
        let members = tar::read(bytes).map_err(|error| because("it is not the tar file it was", error.into()))?;
        let mut members: BTreeMap<String, Vec<u8>> =
            members.into_iter().map(|member| (member.name, member.content)).collect();
        let about = members.remove(ABOUT).ok_or_else(|| damaged(format!("it has no {ABOUT}")))?;
        let Format { format } =
            serde_json::from_slice(&about).map_err(|error| because("backup.json is none", error.into()))?;
        if format > FORMAT {
            return Err(BackupError::Newer { path: path.to_owned(), found: format });
        }
        let about: About =
            serde_json::from_slice(&about).map_err(|error| because("backup.json is none", error.into()))?;
        let found: BTreeMap<String, String> =
            members.iter().map(|(name, content)| (name.clone(), hash(content))).collect();
        if let Some(name) =
            about.sha256.keys().chain(found.keys()).find(|name| about.sha256.get(*name) != found.get(*name))
        {
            return Err(damaged(format!("{name} is not what was backed up")));
        }
        let store = members.remove(STORE).ok_or_else(|| damaged(format!("it has no {STORE}")))?;
        let text = String::from_utf8(store).map_err(|error| because("store.jsonl is not text", error.into()))?;
        let contents = Contents::from_lines(&text).map_err(|error| match error {
            ContentsError::Newer { found } => BackupError::Newer { path: path.to_owned(), found },
            error => because("store.jsonl cannot be read", error.into()),
        })?;
        if let Some(name) = members.keys().find(|name| *name != INSTALLATION && !name.starts_with(PKI)) {
            return Err(damaged(format!("it holds {name}, which Kina does not back up")));
        }
        Ok(Self { about, contents, files: members })
    }

    /// Reads and verifies the backup in a file.
    ///
    /// # Errors
    /// As for [`Backup::decode`], and [`BackupError::Io`].
    pub fn read(files: &dyn FileSystem, path: &Path) -> Result<Self, BackupError> {
        let bytes = files.read(path, BYTES_MAX).map_err(|source| io_error("read", path, source))?;
        Self::decode(path, &bytes)
    }

    /// Writes the backup as a whole or not at all, for its owner alone: it holds private keys.
    ///
    /// # Errors
    /// [`BackupError::Form`], [`BackupError::Io`].
    pub fn write(&self, files: &dyn FileSystem, path: &Path) -> Result<(), BackupError> {
        files.write(path, &self.encode()?, 0o600).map_err(|source| io_error("write", path, source))
    }

    /// Its objects as a store in memory, to look at.
    ///
    /// # Errors
    /// [`BackupError::Store`], which memory gives no cause for.
    pub fn store(&self) -> Result<RedbStore, BackupError> {
        Ok(RedbStore::of(&self.contents)?)
    }

    /// How many clusters' keys are in it.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.files.keys().filter(|name| name.starts_with(PKI)).count()
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> BackupError {
    BackupError::Io { operation, path: path.to_owned(), source }
}

fn optional(files: &dyn FileSystem, path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    match files.read(path, KEYS_BYTES_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source)),
    }
}

/// The names in a directory, without what is being written just now.
fn names(files: &dyn FileSystem, path: &Path) -> Result<Vec<String>, BackupError> {
    match files.list(path) {
        Ok(names) => Ok(names.into_iter().filter(|name| !name.starts_with('.')).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error("list", path, source)),
    }
}

fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
