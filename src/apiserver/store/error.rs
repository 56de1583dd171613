//! What can go wrong with a store.

use std::path::PathBuf;

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was closed.
    #[error("the store is closed")]
    Closed,
    /// Another process has the store open.
    #[error("the store {path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or created.
    #[error("cannot open the store {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the medium said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is there but is not a sound store. It is left as it is.
    #[error("the store {path} is damaged ({detail}); it was left untouched")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer program wrote the store.
    #[error("the store {path} has format {found}, this program knows formats up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format this program reads.
        known: u64,
    },
    /// Reading failed.
    #[error("cannot read the store")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The medium has no space left; nothing was written.
    #[error("no space left for the store")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Writing failed; nothing of the change is visible.
    #[error("cannot write the store")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { path, .. } => Some(format!(
                "`kina store restore FILE --force` puts a backup in its place; without one, move {} away to begin with \
                 an empty store (see \"The store is damaged\" in docs/troubleshooting.md first)",
                path.display()
            )),
            Self::Newer { .. } => Some(
                "use the version of Kina that wrote it, or a newer one; or restore a backup made before".to_owned(),
            ),
            Self::InUse { .. } => Some("talk to that process, or stop it first".to_owned()),
            Self::Full(_) => Some("make room on the disk: Kina goes on by itself".to_owned()),
            Self::Closed | Self::Open { .. } | Self::Read(_) | Self::Write(_) => None,
        }
    }
}
