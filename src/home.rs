//! Kina's home directory: where everything lies, whose it is, and who may serve it.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::host_mounts::MountPolicy;
use crate::runtime::InstallationId;
use crate::world::{FileKind, FileSystem, Random, uuid};

/// Longest accepted text in `installation-id`.
const INSTALLATION_ID_BYTES_MAX: u64 = 128;

/// Paths below one home (`$KINA_HOME`, by default `~/.kina`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    allowed_mounts: Vec<PathBuf>,
}

/// The home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Belongs to somebody else.
    #[error("the home {path} belongs to user {owner}, not to user {user}")]
    Foreign {
        /// Path of the home.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this.
        user: u32,
    },
    /// Others may write into it.
    #[error("the home {path} is writable by others (mode {mode:04o})")]
    Writable {
        /// Path of the home.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a directory.
    #[error("the home {path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The id beside the store is unreadable as one.
    #[error("the installation id in {path} is damaged")]
    InstallationId {
        /// Path of the file.
        path: PathBuf,
    },
    /// Another process serves this home.
    #[error("another kina serves the home {path}")]
    Busy {
        /// Path of the home.
        path: PathBuf,
    },
    /// Something failed on the way.
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
}

impl HomeError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => Some("set KINA_HOME to a directory of your own".to_owned()),
            Self::Writable { path, .. } => Some(format!("chmod go-w {}", path.display())),
            Self::InstallationId { path } => Some(format!(
                "restore {} from a backup: the containers on this host carry it as a label",
                path.display()
            )),
            Self::Busy { .. } => Some(
                "every other command talks to that one (`kina status`); end it first, or take another home with `--home DIR`"
                    .to_owned(),
            ),
            Self::NotADirectory { .. } => Some("set KINA_HOME to a directory of your own".to_owned()),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("the home must be writable; KINA_HOME or `--home DIR` names another".to_owned())
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
                    Some("KINA_HOME or `--home DIR` names another home".to_owned())
                }
                io::ErrorKind::StorageFull => Some("make room on the disk of the home".to_owned()),
                _ => None,
            },
        }
    }
}

impl Home {
    /// The home at this absolute path.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), allowed_mounts: Vec::new() }
    }

    /// With paths of the host that clusters of this home may mount besides.
    #[must_use]
    pub fn allowing_mounts(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.allowed_mounts.extend(paths);
        self
    }

    /// What clusters of this home may mount.
    #[must_use]
    pub fn mount_policy(&self) -> MountPolicy {
        MountPolicy::new(&self.root, &self.allowed_mounts)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that is always watched.
    #[must_use]
    pub fn clusters(&self) -> PathBuf {
        self.root.join("clusters")
    }

    /// The store of the embedded API.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// How clients reach the API of the process that serves this home.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// Keys of the clusters' certificate authorities.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// The simulated runtime's world.
    #[must_use]
    pub fn simulator(&self) -> PathBuf {
        self.root.join("sim")
    }

    /// What was written for containers of Apple Container while they did not run, one directory each.
    #[must_use]
    pub fn apple(&self) -> PathBuf {
        self.root.join("apple")
    }

    fn installation_id(&self) -> PathBuf {
        self.root.join("installation-id")
    }

    /// Makes the store and the simulator's directory private, where they are. The home is already; whoever copies it with
    /// other modes should not open them.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn restrict(&self) -> Result<(), HomeError> {
        for (path, mode) in [(self.store(), 0o600), (self.simulator(), 0o700)] {
            match fs::set_permissions(&path, Permissions::from_mode(mode)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(HomeError::Io { operation: "restrict", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Makes the home and its watched directory where they are missing, and refuses one that is not ours.
    ///
    /// # Errors
    /// [`HomeError`] when it is not a directory of `user` that nobody else may write to.
    pub fn prepare(&self, files: &dyn FileSystem, user: u32) -> Result<(), HomeError> {
        let io = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { operation, path, source }
        };
        files.create_directories(&self.root, 0o700).map_err(io("create", &self.root))?;
        self.check(files, user)?;
        files.create_directories(&self.clusters(), 0o700).map_err(io("create", &self.clusters()))
    }

    /// Refuses a home that is not ours, or that others may write to.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn check(&self, files: &dyn FileSystem, user: u32) -> Result<(), HomeError> {
        let path = self.root.clone();
        let metadata = files.metadata(&self.root).map_err(|source| HomeError::Io {
            operation: "look at",
            path: path.clone(),
            source,
        })?;
        if metadata.kind != FileKind::Directory {
            return Err(HomeError::NotADirectory { path });
        }
        if metadata.owner != user {
            return Err(HomeError::Foreign { path, owner: metadata.owner, user });
        }
        if metadata.mode & 0o022 != 0 {
            return Err(HomeError::Writable { path, mode: metadata.mode });
        }
        Ok(())
    }

    /// The id of this installation, made at the first use. It lies beside the store, so that what carries it is known
    /// again after the store is lost.
    ///
    /// # Errors
    /// [`HomeError::InstallationId`] when the file is there and holds no id: a new one would disown every container.
    pub fn installation(&self, files: &dyn FileSystem, random: &dyn Random) -> Result<InstallationId, HomeError> {
        if let Some(known) = self.known_installation(files)? {
            return Ok(known);
        }
        let path = self.installation_id();
        let text = uuid(random);
        files.write(&path, format!("{text}\n").as_bytes(), 0o600).map_err(|source| HomeError::Io {
            operation: "write",
            path: path.clone(),
            source,
        })?;
        InstallationId::parse(&text).ok_or(HomeError::InstallationId { path })
    }

    /// The id of this installation, if it was made already.
    ///
    /// # Errors
    /// [`HomeError::InstallationId`] when the file is there and holds no id.
    pub fn known_installation(&self, files: &dyn FileSystem) -> Result<Option<InstallationId>, HomeError> {
        let path = self.installation_id();
        match files.read(&path, INSTALLATION_ID_BYTES_MAX) {
            Ok(content) => std::str::from_utf8(&content)
                .ok()
                .and_then(|text| InstallationId::parse(text.trim()))
                .ok_or(HomeError::InstallationId { path })
                .map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Io { operation: "read", path, source }),
        }
    }

    /// Takes the right to serve this home, until the result is dropped or the process ends.
    ///
    /// # Errors
    /// [`HomeError::Busy`] while another process has it.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.lock_file();
        let io = |operation, source| HomeError::Io { operation, path: path.clone(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io("open", source))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(HomeError::Busy { path: self.root.clone() }),
            Err(TryLockError::Error(source)) => Err(io("lock", source)),
        }
    }
}

/// The right to serve a home. The operating system takes it back when the process ends, however it ends.
pub struct HomeLock {
    _file: File,
}

impl fmt::Debug for HomeLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HomeLock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::world::{Disk, MemoryFiles, SeededRandom, SystemClock};

    const USER: u32 = 1000;

    #[test]
    fn a_new_home_is_private_and_keeps_its_id() {
        let files = MemoryFiles::new(Arc::new(SystemClock));
        let home = Home::at("/home/me/.kina");
        home.prepare(&files, USER).unwrap();
        assert_eq!(files.metadata(home.root()).unwrap().mode, 0o700);
        let id = home.installation(&files, &SeededRandom::new(1)).unwrap();
        assert_eq!(home.installation(&files, &SeededRandom::new(2)).unwrap(), id);
    }

    #[test]
    fn a_home_of_others_or_writable_by_others_is_refused() {
        let files = MemoryFiles::new(Arc::new(SystemClock));
        let home = Home::at("/home/me/.kina");
        files.create_directories(home.root(), 0o777).unwrap();
        assert!(matches!(home.prepare(&files, USER), Err(HomeError::Writable { mode: 0o777, .. })));
        let home = Home::at("/home/other/.kina");
        assert!(matches!(home.prepare(&files, USER + 1), Err(HomeError::Foreign { owner: USER, .. })));
    }

    #[test]
    fn a_damaged_id_is_never_replaced() {
        let files = MemoryFiles::new(Arc::new(SystemClock));
        let home = Home::at("/home/me/.kina");
        home.prepare(&files, USER).unwrap();
        files.write(&home.root().join("installation-id"), b"\xff\xfe", 0o600).unwrap();
        assert!(matches!(home.installation(&files, &SeededRandom::new(1)), Err(HomeError::InstallationId { .. })));
    }

    #[test]
    fn one_process_at_a_time_serves_a_home() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        Disk.create_directories(home.root(), 0o700).unwrap();
        let held = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Busy { .. })));
        drop(held);
        home.lock().unwrap();
    }
}
