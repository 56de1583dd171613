//! The world's file: a journal of changes, each entry written whole before its effect can be seen.
//!
//! A kill at any point leaves a prefix of the entries: an effect that was visible is there, one that was not is there
//! or not. A killed process loses nothing that it wrote, so entries are not synced one by one; what a loss of power takes
//! are the newest entries since the last sync, never a part of one. `durable.rs` says when they are synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::world::{Change, State};

const HEADER: &str = "kina simulated world 1\n";
/// A journal is rewritten once it is larger than this and than three times what it was when last rewritten: the work
/// of rewriting stays below a half of the work of writing.
const COMPACT_ABOVE: u64 = 8 * 1024 * 1024;

/// Why the world's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Another process has it open.
    #[error("the simulated world {path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened, read or created.
    #[error("cannot open the simulated world {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is there, but is not what this program writes. It is left as it is.
    #[error("the simulated world {path} is damaged at byte {offset}: restore a copy, or move it away to start anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The network that is there by itself cannot be made.
    #[error("the simulated runtime's own network cannot be made: {0}")]
    Network(String),
    /// The store of the clusters' objects cannot be used.
    #[error("the objects of the simulated clusters cannot be opened")]
    Objects(#[source] crate::apiserver::store::StoreError),
}

/// Where changes are written.
#[derive(Debug)]
pub(super) enum Journal {
    /// Nowhere: the world ends with the process.
    Memory,
    /// In a file.
    File(JournalFile),
}

impl Journal {
    /// Writes one entry. When this fails, nothing of the entry will be read again.
    pub fn append(&mut self, changes: &[Change], state: &State) -> io::Result<()> {
        match self {
            Self::Memory => Ok(()),
            Self::File(file) => file.append(changes, state),
        }
    }

    /// The file with all that was written, to be synced.
    pub fn file(&self) -> Option<Arc<File>> {
        match self {
            Self::Memory => None,
            Self::File(journal) => Some(Arc::clone(&journal.synced)),
        }
    }
}

/// The journal's file, locked while open.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    file: File,
    /// The same, opened apart so that whoever syncs it does not hold the lock.
    synced: Arc<File>,
    length: u64,
    compacted: u64,
    /// An entry may be half written and could not be taken back: nothing more is written.
    broken: bool,
}

impl JournalFile {
    /// Opens or creates the file and reads the world from it. Half an entry at the end is what a kill left: it goes.
    pub fn open(path: &Path) -> Result<(Self, State), SimError> {
        let failed = |source: io::Error| SimError::Open { path: path.to_owned(), source: source.into() };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        lock(&file, path)?;
        let (state, length) = replay(path, &file)?;
        let found = file.metadata().map_err(failed)?.len();
        if found > length {
            file.set_len(length).map_err(failed)?;
        }
        if length == 0 {
            file.write_all(HEADER.as_bytes()).map_err(failed)?;
            file.sync_all().and_then(|()| sync_directory(path)).map_err(failed)?;
        }
        let length = length.max(HEADER.len() as u64);
        let synced = Arc::new(File::open(path).map_err(failed)?);
        Ok((Self { path: path.to_owned(), file, synced, length, compacted: length, broken: false }, state))
    }

    fn append(&mut self, changes: &[Change], state: &State) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the simulated world failed half-way"));
        }
        let entry = encode(changes)?;
        if let Err(error) = self.file.write_all(&entry) {
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += entry.len() as u64;
        if self.length > COMPACT_ABOVE && self.length > 3 * self.compacted {
            // A rewriting that fails leaves the longer journal, which is as good.
            if let Err(error) = self.compact(state) {
                tracing::warn!(path = %self.path.display(), %error, "cannot shorten the simulated world's journal");
                self.compacted = self.length;
            }
        }
        Ok(())
    }

    fn compact(&mut self, state: &State) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&fresh)?;
        let mut length = HEADER.len() as u64;
        file.write_all(HEADER.as_bytes())?;
        let mut pending = Vec::new();
        for change in state.changes() {
            pending.push(change);
            if pending.len() == 256 {
                let entry = encode(&pending)?;
                file.write_all(&entry)?;
                length += entry.len() as u64;
                pending.clear();
            }
        }
        let entry = encode(&pending)?;
        file.write_all(&entry)?;
        length += entry.len() as u64;
        file.sync_all()?;
        drop(file);
        let file = OpenOptions::new().read(true).append(true).open(&fresh)?;
        lock(&file, &fresh).map_err(io::Error::other)?;
        fs::rename(&fresh, &self.path)?;
        self.synced = Arc::new(File::open(&self.path)?);
        (self.file, self.length, self.compacted) = (file, length, length);
        sync_directory(&self.path)
    }
}

/// The world as its file tells it, for who only looks: nothing is made, mended or locked. Empty where there is no file.
pub(super) fn read(path: &Path) -> Result<State, SimError> {
    match File::open(path) {
        Ok(file) => Ok(replay(path, &file)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(SimError::Open { path: path.to_owned(), source: error.into() }),
    }
}

/// Makes durable that a file of this name is there.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn lock(file: &File, path: &Path) -> Result<(), SimError> {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| SimError::InUse { path: path.to_owned() })
}

/// `LENGTH CHECKSUM JSON\n`: the length of the JSON and the first eight bytes of its SHA-256, both in hexadecimal.
fn encode(changes: &[Change]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(changes).map_err(io::Error::other)?;
    let mut entry = format!("{:08x} {:016x} ", json.len(), checksum(&json)).into_bytes();
    entry.extend_from_slice(&json);
    entry.push(b'\n');
    Ok(entry)
}

fn decode(line: &[u8]) -> Option<Vec<Change>> {
    let line = line.strip_suffix(b"\n")?;
    let (head, json) = line.split_at_checked(26)?;
    let head = std::str::from_utf8(head).ok()?;
    let length = usize::from_str_radix(head.get(..8)?, 16).ok()?;
    let sum = u64::from_str_radix(head.get(9..25)?, 16).ok()?;
    if json.len() != length || checksum(json) != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn checksum(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes).iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The world, and the length of the sound part of the file.
fn replay(path: &Path, file: &File) -> Result<(State, u64), SimError> {
    let failed = |source: io::Error| SimError::Open { path: path.to_owned(), source: source.into() };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut state = State::default();
    let mut offset = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            return Ok((state, offset));
        }
        if offset == 0 {
            if line != HEADER.as_bytes() {
                let torn = HEADER.as_bytes().starts_with(&line);
                return if torn { Ok((state, 0)) } else { Err(SimError::Damaged { path: path.to_owned(), offset }) };
            }
        } else if let Some(changes) = decode(&line) {
            for change in changes {
                state.apply(change);
            }
        } else if reader.fill_buf().map_err(failed)?.is_empty() {
            // The last entry: a kill or a loss of power came in between.
            return Ok((state, offset));
        } else {
            return Err(SimError::Damaged { path: path.to_owned(), offset });
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{Owner, VolumeRecord};
    use super::*;

    fn volume(name: &str) -> Vec<Change> {
        let record = VolumeRecord { labels: [("a".to_owned(), "b".to_owned())].into() };
        vec![Change::Volume { name: name.into(), record: Some(record) }]
    }

    fn write(path: &Path, count: usize) {
        let (mut file, mut state) = JournalFile::open(path).unwrap();
        for number in 0..count {
            let changes = volume(&format!("v{number}"));
            file.append(&changes, &state).unwrap();
            for change in changes {
                state.apply(change);
            }
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_holds_the_entries_before_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("world");
        write(&path, 3);
        let whole = fs::read(&path).unwrap();
        let mut seen = Vec::new();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (file, state) = JournalFile::open(&path).unwrap();
            drop(file);
            seen.push(state.volumes.len());
            // What was cut off is gone for good: the next entry follows the last whole one.
            write(&path, 1);
            assert!(JournalFile::open(&path).is_ok(), "cut at {length}");
        }
        assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&3));
    }

    #[test]
    fn damage_before_the_end_is_refused_and_the_file_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("world");
        write(&path, 3);
        let mut bytes = fs::read(&path).unwrap();
        let middle = HEADER.len() + 40;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(
            matches!(JournalFile::open(&path), Err(SimError::Damaged { offset, .. }) if offset == HEADER.len() as u64)
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_second_process_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("world");
        let first = JournalFile::open(&path).unwrap();
        assert!(matches!(JournalFile::open(&path), Err(SimError::InUse { .. })));
        drop(first);
        assert!(JournalFile::open(&path).is_ok());
    }

    #[test]
    fn a_long_journal_is_shortened_and_holds_the_same_world() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("world");
        let (mut file, mut state) = JournalFile::open(&path).unwrap();
        let content = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        for number in 0..40 {
            let file_record = super::super::world::FileRecord { mode: 0o600, content: content.clone() };
            let change = Change::File {
                owner: Owner::Volume("v".into()),
                path: format!("f{}", number % 2),
                file: Some(file_record),
            };
            state.apply(change.clone());
            file.append(&[change], &state).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 12 << 20);
        drop(file);
        let (_file, reread) = JournalFile::open(&path).unwrap();
        assert_eq!(reread.files, state.files);
    }
}
