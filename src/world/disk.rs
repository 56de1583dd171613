//! The real file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use notify::Watcher;
use tokio::sync::watch;

use super::files::{FileIdentity, FileKind, FileSystem, Metadata, Watching};

/// The host's disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl FileSystem for Disk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        Ok(content)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(regular(path)?))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(facts(&fs::metadata(path)?))
    }

    fn link_metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(facts(&fs::symlink_metadata(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn create_directories(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        // Through a link the file behind it is replaced: a kubeconfig kept in a dotfiles checkout stays a link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let directory = target.parent().unwrap_or(Path::new("."));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.kina-{}", std::process::id()));
        let written = write_new(&temporary, content, mode, true)
            .and_then(|()| fs::rename(&temporary, &target))
            .and_then(|()| File::open(directory)?.sync_all());
        if written.is_err() {
            // Best effort: the cause to report is the first error.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn create_new(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn watch(&self, path: &Path) -> io::Result<Watching> {
        let (sender, changes) = watch::channel(0_u64);
        // The handler runs on notify's thread; an error (overflow, lost root) is news as much as an event is.
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !matches!(&event, Ok(event) if event.kind.is_access()) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        })
        .map_err(io::Error::other)?;
        watcher.watch(path, notify::RecursiveMode::Recursive).map_err(io::Error::other)?;
        Ok(Watching { changes, _guard: Box::new(std::sync::Mutex::new(watcher)) })
    }
}

/// Opens a regular file.
fn regular(path: &Path) -> io::Result<File> {
    // Non-blocking, so that opening a FIFO returns; what was opened is examined, not what the name led to before.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Writes a file under a name of our own; a leftover of a crash under that name is replaced.
fn write_new(path: &Path, content: &[u8], mode: u32, replace: bool) -> io::Result<()> {
    match Disk.create_new(path, content, mode) {
        Err(error) if replace && error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            write_new(path, content, mode, false)
        }
        result => {
            result?;
            // The umask took bits away at creation; the caller's mode is meant exactly.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
    }
}

fn facts(metadata: &fs::Metadata) -> Metadata {
    let kind = if metadata.is_file() {
        FileKind::File
    } else if metadata.is_dir() {
        FileKind::Directory
    } else if metadata.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Other
    };
    Metadata {
        kind,
        length: metadata.len(),
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        identity: FileIdentity { device: metadata.dev(), inode: metadata.ino() },
        modified: Timestamp::new(metadata.mtime(), i32::try_from(metadata.mtime_nsec()).unwrap_or_default())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_has_the_mode_asked_for_and_leaves_no_temporary() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config");
        Disk.write(&path, b"one", 0o644).unwrap();
        Disk.write(&path, b"two", 0o600).unwrap();
        assert_eq!(Disk.read(&path, 10).unwrap(), b"two");
        assert_eq!(Disk.metadata(&path).unwrap().mode, 0o600);
        assert_eq!(Disk.list(home.path()).unwrap(), ["config"]);
    }

    #[test]
    fn a_file_behind_a_link_is_replaced_and_the_link_stays() {
        let home = tempfile::tempdir().unwrap();
        let (target, link) = (home.path().join("target"), home.path().join("link"));
        Disk.write(&target, b"one", 0o600).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        Disk.write(&link, b"two", 0o600).unwrap();
        assert_eq!(Disk.link_metadata(&link).unwrap().kind, FileKind::Link);
        assert_eq!(Disk.read(&target, 10).unwrap(), b"two");
    }

    #[test]
    fn a_fifo_and_a_file_above_the_limit_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let fifo = home.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        assert_eq!(Disk.read(&fifo, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let large = home.path().join("large");
        Disk.write(&large, &[b'x'; 11], 0o600).unwrap();
        assert_eq!(Disk.read(&large, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
