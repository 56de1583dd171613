//! The host's files.

use std::any::Any;
use std::fmt::{self, Debug};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::sync::watch;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (only from [`FileSystem::link_metadata`]).
    Link,
    /// A FIFO, socket or device.
    Other,
}

/// What stays the same while a file or directory is the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// Facts about one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes.
    pub length: u64,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Numeric owner.
    pub owner: u32,
    /// Device and inode.
    pub identity: FileIdentity,
    /// Last change of content.
    pub modified: Timestamp,
}

/// Notice that something below a directory changed. It says only *that*: whoever receives it looks again.
pub struct Watching {
    /// Changes its value at every change.
    pub changes: watch::Receiver<u64>,
    /// Ends the watch when dropped.
    pub(super) _guard: Box<dyn Any + Send + Sync>,
}

impl Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").finish_non_exhaustive()
    }
}

/// The operations Kina performs on files. All are synchronous and short.
pub trait FileSystem: Send + Sync + Debug {
    /// The content of a regular file of at most `limit` bytes, following links.
    ///
    /// # Errors
    /// `FileTooLarge` above the limit, `InvalidInput` for what is no regular file (never blocks on a FIFO), or what the
    /// operating system says.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// A regular file to be read piece by piece, however long it is, following links.
    ///
    /// # Errors
    /// `InvalidInput` for what is no regular file (never blocks on a FIFO), or what the operating system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Facts about what a path leads to, following links.
    ///
    /// # Errors
    /// What the operating system says.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Facts about the path itself, not following a last link.
    ///
    /// # Errors
    /// What the operating system says.
    fn link_metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// What the operating system says; also when only a part could be read.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// The absolute path without links.
    ///
    /// # Errors
    /// What the operating system says.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// Creates a directory and its parents, new ones with `mode`. One that exists is left as it is.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_directories(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Replaces a file's content as a whole: after a crash it has the old or the new content. Links are followed.
    ///
    /// # Errors
    /// What the operating system says; the old content then stays.
    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()>;

    /// Creates a file that must not exist.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the operating system says.
    fn create_new(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()>;

    /// Removes one file or link.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it; links in it are removed, not followed.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Starts to watch a directory and everything below it.
    ///
    /// # Errors
    /// When the host cannot watch (no such directory, watch limit reached): the caller then scans periodically.
    fn watch(&self, path: &Path) -> io::Result<Watching>;
}
