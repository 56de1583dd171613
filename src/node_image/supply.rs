//! A source on its way into a container: an archive, piece by piece.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::source::{PACKING_BYTES, Packing};
use crate::world::FileSystem;

/// Of a file, at a time.
const PIECE_BYTES: usize = 256 << 10;
/// So many pieces may wait: the engine sets the pace.
const PIECES: usize = 4;

/// Pieces as they come, until one could not be read.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// An archive that comes.
pub struct Supply {
    /// How it is packed.
    pub packing: Packing,
    /// How long it is, where that is known.
    pub bytes: Option<u64>,
    /// It.
    pub pieces: Pieces,
}

/// What comes is no archive that can be read.
#[derive(Debug, thiserror::Error)]
pub enum SupplyError {
    /// It is something else.
    #[error("it is no tarball: neither `.tar` nor `.tar.gz`")]
    NoArchive,
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Supply {
    /// A tarball that comes in pieces, of which the first tell how it is packed.
    ///
    /// # Errors
    /// Where it is something else, or cannot be read.
    pub async fn of_archive(mut pieces: Pieces, bytes: Option<u64>) -> Result<Self, SupplyError> {
        let (mut first, mut length) = (Vec::new(), 0);
        while length < PACKING_BYTES
            && let Some(piece) = pieces.try_next().await?
        {
            length += piece.len();
            first.push(piece);
        }
        let packing = Packing::of(&first.concat()).ok_or(SupplyError::NoArchive)?;
        let pieces = futures::stream::iter(first.into_iter().map(Ok)).chain(pieces).boxed();
        Ok(Self { packing, bytes, pieces })
    }

    /// Files of this host, as an archive.
    #[must_use]
    pub fn of_files(entries: Vec<Entry>, files: Arc<dyn FileSystem>) -> Self {
        // Each with a header, and filled up to whole blocks; two empty blocks end it.
        let bytes = entries.iter().map(|entry| 512 + entry.bytes.div_ceil(512) * 512).sum::<u64>() + 1024;
        let pieces = written(move |mut archive| {
            for entry in &entries {
                append(&mut archive, entry, files.as_ref())?;
            }
            archive.into_inner().map(drop)
        });
        Self { packing: Packing::Tar, bytes: Some(bytes), pieces }
    }
}

/// The pieces of one file of this host.
#[must_use]
pub fn pieces_of(path: PathBuf, files: Arc<dyn FileSystem>) -> Pieces {
    flowing(move |mut to| {
        let mut file = files.open(&path)?;
        io::copy(&mut file, &mut to).map(drop)
    })
}

/// A file to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies on this host.
    pub path: PathBuf,
    /// Its name in the archive.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
}

fn append(archive: &mut Builder<Flow>, entry: &Entry, files: &dyn FileSystem) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o755);
    header.set_size(entry.bytes);
    // One that grows or shrinks meanwhile would shift everything behind it.
    let mut file = Counted { inner: files.open(&entry.path)?.take(entry.bytes), bytes: 0 };
    archive.append_data(&mut header, &entry.name, &mut file)?;
    if file.bytes == entry.bytes {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} became shorter", entry.path.display())))
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(to)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

fn written(write: impl FnOnce(Builder<Flow>) -> io::Result<()> + Send + 'static) -> Pieces {
    flowing(move |to| write(Builder::new(to)))
}

/// What `write` writes, as a stream. It waits where nobody takes it, and ends where nobody wants it.
fn flowing(write: impl FnOnce(Flow) -> io::Result<()> + Send + 'static) -> Pieces {
    let (to, from) = mpsc::channel(PIECES);
    let errors = to.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(Flow { to, piece: Vec::with_capacity(PIECE_BYTES) }) {
            // Nobody may be there to hear it.
            let _ = errors.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(from, |mut from| async move { Some((from.recv().await?, from)) }).boxed()
}

struct Flow {
    to: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Flow {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&data[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sent = self.to.blocking_send(Ok(Bytes::from(piece)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if !self.piece.is_empty() {
            let _ = self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::world::World;

    fn files() -> Arc<dyn FileSystem> {
        let files = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap()).files;
        files.create_directories(Path::new("/bin"), 0o755).unwrap();
        files.write(Path::new("/bin/kubeadm"), &vec![7; PIECE_BYTES + 3], 0o644).unwrap();
        files
    }

    fn entry(name: &str, bytes: u64) -> Entry {
        Entry { path: "/bin/kubeadm".into(), name: name.into(), bytes }
    }

    async fn all(pieces: Pieces) -> io::Result<Vec<u8>> {
        Ok(pieces.try_collect::<Vec<Bytes>>().await?.concat())
    }

    #[tokio::test]
    async fn files_become_an_archive_of_the_length_that_was_told() {
        let bytes = PIECE_BYTES as u64 + 3;
        let supply = Supply::of_files(vec![entry("kubeadm", bytes), entry("b", bytes)], files());
        let told = supply.bytes;
        let whole = all(supply.pieces).await.unwrap();
        assert_eq!(told, Some(whole.len() as u64));
        let mut archive = tar::Archive::new(whole.as_slice());
        let seen: Vec<(String, u64, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.size(), entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(seen, [("kubeadm".to_owned(), bytes, 0o755), ("b".to_owned(), bytes, 0o755)]);
    }

    #[tokio::test]
    async fn a_file_that_changes_meanwhile_or_goes_breaks_the_stream() {
        let longer = Supply::of_files(vec![entry("kubeadm", 1 << 20)], files());
        assert!(all(longer.pieces).await.unwrap_err().to_string().contains("became shorter"));
        let gone = Entry { path: "/bin/none".into(), ..entry("kubeadm", 3) };
        assert_eq!(
            all(Supply::of_files(vec![gone], files()).pieces).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn a_tarball_is_known_by_its_first_bytes_and_loses_none() {
        let pieces = |parts: Vec<&'static [u8]>| {
            futures::stream::iter(parts.into_iter().map(|part| Ok(Bytes::from_static(part)))).boxed()
        };
        let supply = Supply::of_archive(pieces(vec![b"\x1f", b"\x8b\x08", b"rest"]), None).await.unwrap();
        assert_eq!((supply.packing, all(supply.pieces).await.unwrap().len()), (Packing::Gzip, 7));
        for other in [vec![], vec![b"<html>".as_slice()]] {
            let refused = Supply::of_archive(pieces(other), None).await;
            assert!(matches!(refused, Err(SupplyError::NoArchive)));
        }
    }
}
