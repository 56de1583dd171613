//! The lock files that client-go and kind use too: `FILE.lock`, made with `O_EXCL`.

use std::io;
use std::path::{Path, PathBuf};

use super::{KubeconfigError, Target};
use crate::world::FileSystem;

/// Longest lock file that is read to see whose it is.
const LOCK_BYTES_MAX: u64 = 256;

/// Locks every file of the target in order of path, as client-go does so that two programs cannot block each other.
/// Directories that are missing are made (0700), since a lock lies beside its file.
pub(super) fn acquire(files: &dyn FileSystem, target: &Target) -> Result<Vec<PathBuf>, KubeconfigError> {
    let mut paths: Vec<&PathBuf> = target.files.iter().collect();
    paths.sort_unstable();
    let mut held = Vec::new();
    for path in paths {
        if let Err(error) = acquire_one(files, path, target.owner.as_deref()) {
            // What cannot be let go of now is met as a leftover by the next try.
            let _ = release(files, &held);
            return Err(error);
        }
        held.push(lock_path(path));
    }
    Ok(held)
}

/// Lets go of locks, of as many as can be.
///
/// # Errors
/// Where one cannot be removed. It carries our mark, so the next change takes it over and tries again; until then other
/// programs wait for it.
pub(super) fn release(files: &dyn FileSystem, held: &[PathBuf]) -> Result<(), KubeconfigError> {
    let mut failed = None;
    for lock in held.iter().rev() {
        if let Err(source) = files.remove_file(lock) {
            failed = Some(KubeconfigError::Write { path: lock.clone(), source });
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Whether a lock of ours was left behind: by a crash, or because it could not be removed.
pub(super) fn is_left_behind(files: &dyn FileSystem, target: &Target) -> bool {
    let mark = mark(target.owner.as_deref());
    target.files.iter().any(|path| is_ours(files, &lock_path(path), &mark))
}

/// Whether a lock carries our mark. One without a mark is never known as ours.
fn is_ours(files: &dyn FileSystem, lock: &Path, mark: &str) -> bool {
    !mark.is_empty() && files.read(lock, LOCK_BYTES_MAX).is_ok_and(|found| found == mark.as_bytes())
}

fn mark(owner: Option<&str>) -> String {
    owner.map(|owner| format!("kina {owner}\n")).unwrap_or_default()
}

fn acquire_one(files: &dyn FileSystem, path: &Path, owner: Option<&str>) -> Result<(), KubeconfigError> {
    let lock = lock_path(path);
    let failed = |source| KubeconfigError::Write { path: lock.clone(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        files.create_directories(directory, 0o700).map_err(failed)?;
    }
    let mark = mark(owner);
    match files.create_new(&lock, mark.as_bytes(), 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result.map_err(failed),
    }
    if !is_ours(files, &lock, &mark) {
        return Err(KubeconfigError::Busy { path: path.to_path_buf(), lock });
    }
    // Whoever carries this mark takes turns, so nobody is at work behind this lock: it was left by a crash, and is
    // simply kept on.
    Ok(())
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
