//! A backup takes the place of a home's store.
//!
//! Revisions are never handed out twice: a client that kept one from before must find it too old, never believe that
//! it has seen what it has not. The backup does not know how far the lost store went, so the counter leaps to where no
//! store can have come by counting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Backup, BackupError, INSTALLATION, io_error, optional};
use crate::apiserver::store::{Contents, RedbStore, Store};
use crate::home::Home;
use crate::world::FileSystem;

/// Memory for pages while a store is made or looked at.
const CACHE_BYTES: usize = 16 << 20;
/// Revisions that a second has room for after a restore: 2^21, far more commits than a disk takes. Until the year 2106
/// the counter stays below 2^53, up to which every JSON reader is exact.
const REVISIONS_A_SECOND: u32 = 21;
/// Where the Sources of Kina lie in the store.
const SOURCES: &str = "kina/sources.kina.dev/";

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The store that was there before, kept.
    pub kept: Option<PathBuf>,
    /// Why the store that was there before could not be read.
    pub unreadable: Option<String>,
    /// How often the store was restored now.
    pub epoch: u64,
    /// Where its revisions go on.
    pub revision: u64,
    /// Files of keys that were not there and are now.
    pub keys: usize,
    /// Files of keys that were there and stayed.
    pub keys_kept: usize,
}

/// Restores a backup into a home that nobody serves: the caller holds its lock.
///
/// Keys come first and the store last, in one step: whatever interrupts it, running it again finishes it.
///
/// # Errors
/// [`BackupError`]; the store is as it was then.
pub fn restore(
    home: &Home,
    files: &dyn FileSystem,
    backup: &Backup,
    force: bool,
    now: Timestamp,
) -> Result<Restored, BackupError> {
    let path = home.store();
    let is_there = fs::symlink_metadata(&path).is_ok();
    if is_there && !force {
        return Err(BackupError::Occupied { home: home.root().to_owned() });
    }
    restore_installation(home, files, backup, force)?;
    let (keys, keys_kept) = restore_keys(home, files, backup)?;
    let (before, unreadable) = match is_there.then(|| position(&path)) {
        None => ((0, 0), None),
        Some(Ok(before)) => (before, None),
        Some(Err(error)) => ((0, 0), Some(error.to_string())),
    };
    let contents = restored(&backup.contents, before, now);
    let fresh = path.with_file_name("store.redb.restored");
    remove(&fresh)?;
    contents.create(&fresh, CACHE_BYTES)?;
    let kept = if is_there { Some(keep(&path, now)?) } else { None };
    // In one step: at no moment is there a home without a store, which would begin with an empty one.
    fs::rename(&fresh, &path).map_err(|source| io_error("replace", &path, source))?;
    fs::File::open(home.root())
        .and_then(|directory| directory.sync_all())
        .map_err(|source| io_error("sync", home.root(), source))?;
    Ok(Restored { kept, unreadable, epoch: contents.epoch, revision: contents.revision, keys, keys_kept })
}

/// The contents as they go on: in another epoch, with revisions that nobody has seen.
fn restored(backup: &Contents, (epoch, revision): (u64, u64), now: Timestamp) -> Contents {
    let leap = u64::try_from(now.as_second()).unwrap_or_default() << REVISIONS_A_SECOND;
    let mut contents = backup.clone();
    contents.epoch = backup.epoch.max(epoch) + 1;
    contents.revision = backup.revision.max(revision).max(leap) + 1;
    for (_, value) in contents.rows.iter_mut().filter(|(key, _)| key.starts_with(SOURCES)) {
        if let Some(text) = unrooted(value) {
            *value = text;
        }
    }
    contents
}

/// A Source that does not know the directory before it any more: what its files do not declare is held then, and
/// deleted only when a person says so. The files may be older or newer than the store now.
fn unrooted(source: &str) -> Option<String> {
    let mut source: Value = serde_json::from_str(source).ok()?;
    *source.pointer_mut("/status/root")? = json!("restored");
    serde_json::to_string(&source).ok()
}

/// Epoch and revision of the store that is replaced.
fn position(path: &Path) -> Result<(u64, u64), crate::apiserver::store::StoreError> {
    let store = RedbStore::inspect(path, CACHE_BYTES)?;
    let revision = store.snapshot()?.revision();
    Ok((store.epoch(), revision))
}

fn restore_installation(home: &Home, files: &dyn FileSystem, backup: &Backup, force: bool) -> Result<(), BackupError> {
    let Some(id) = backup.files.get(INSTALLATION) else { return Ok(()) };
    let path = home.root().join(INSTALLATION);
    match optional(files, &path)? {
        Some(present) if present.trim_ascii() == id.trim_ascii() => return Ok(()),
        Some(_) if !force => return Err(BackupError::OtherInstallation { home: home.root().to_owned() }),
        _ => {}
    }
    files.write(&path, id, 0o600).map_err(|source| io_error("write", &path, source))
}

/// Puts back keys that are not there. Those that are stay: a cluster's authority is made once.
fn restore_keys(home: &Home, files: &dyn FileSystem, backup: &Backup) -> Result<(usize, usize), BackupError> {
    let (mut restored, mut kept) = (0, 0);
    for (name, content) in backup.files.iter().filter(|(name, _)| *name != INSTALLATION) {
        let path = home.root().join(name);
        if optional(files, &path)?.is_some() {
            kept += 1;
            continue;
        }
        let directory = path.parent().unwrap_or(home.root());
        files.create_directories(directory, 0o700).map_err(|source| io_error("create", directory, source))?;
        files.write(&path, content, 0o600).map_err(|source| io_error("write", &path, source))?;
        restored += 1;
    }
    Ok((restored, kept))
}

/// Gives the present store a second name, under which it stays.
fn keep(path: &Path, now: Timestamp) -> Result<PathBuf, BackupError> {
    let kept = path.with_file_name(format!("store.redb.before-{}", now.strftime("%Y%m%dT%H%M%SZ")));
    remove(&kept)?;
    // Not every file system has links; a copy is as good.
    if fs::hard_link(path, &kept).is_err() {
        fs::copy(path, &kept).map_err(|source| io_error("keep a copy as", &kept, source))?;
    }
    Ok(kept)
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, source)),
        _ => Ok(()),
    }
}
