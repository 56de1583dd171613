//! One root: its files as they have settled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::board;
use super::manifest::{Fault, Manifest, Reading};
use super::plan::Place;
use super::roots::Root;
use super::scan::{self, Content, Problem, Scan};
use super::settle::{Settled, Settler};
use crate::host_mounts::{self, Declared, MountPolicy};
use crate::world::{FileIdentity, FileSystem, Watching, World};

/// Between scans while the host tells of changes: what it did not tell is found then.
pub const RESCAN: Duration = Duration::from_secs(30);
/// Between scans while it does not: no such directory yet, or no watches left.
pub const POLL: Duration = Duration::from_secs(2);

/// Between scans while git is at work.
const GIT_POLL: Duration = Duration::from_millis(250);
/// Least pause between two looks, besides three times what the last one took: a thousand changes are not a thousand
/// scans, and scanning takes a quarter of the time at most.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Files of a root between scans.
#[derive(Debug)]
pub(super) struct Watched {
    root: Root,
    mounts: MountPolicy,
    settler: Settler,
    watching: Option<(FileIdentity, Watching)>,
    /// Files in their settled state.
    pub files: BTreeMap<String, Arc<Manifest>>,
    pub hashes: BTreeMap<String, String>,
    pub state: scan::Root,
    pub problems: Vec<Problem>,
    pub settled: Settled,
    pub commit: Option<String>,
    /// When the last look began.
    pub looked: Duration,
    /// When the next one may begin at the earliest.
    rested: Duration,
}

impl Watched {
    pub(super) fn new(root: Root, mounts: MountPolicy) -> Self {
        Self {
            root,
            mounts,
            settler: Settler::default(),
            watching: None,
            files: BTreeMap::new(),
            hashes: BTreeMap::new(),
            state: scan::Root::Unavailable("not looked at yet".to_owned()),
            problems: Vec::new(),
            settled: Settled::default(),
            commit: None,
            looked: Duration::ZERO,
            rested: Duration::ZERO,
        }
    }

    /// Looks at the directory once. `clock` is the time since any fixed beginning.
    pub(super) fn look(&mut self, world: &World, clock: impl Fn() -> Duration) {
        let began = clock();
        self.look_at(world.files.as_ref(), began);
        let ended = clock();
        self.rested = ended + LOOK_PAUSE + ended.saturating_sub(began) * 3;
    }

    fn look_at(&mut self, files: &dyn FileSystem, uptime: Duration) {
        // Before the scan, so that what changes during it is told.
        self.watch(files);
        if let Some((_, watching)) = &mut self.watching {
            watching.changes.mark_unchanged();
        }
        let mut scan = scan::scan(files, &self.root.path, &self.hashes);
        self.looked = uptime;
        self.state = scan.root.clone();
        self.problems = std::mem::take(&mut scan.problems);
        self.settled = Settled::default();
        if !matches!(scan.root, scan::Root::Present(_)) {
            return;
        }
        self.commit = scan.commit.take();
        self.take(files, &mut scan, uptime);
    }

    /// Becomes ready when the host tells of a change; never, where it cannot.
    pub(super) fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.watching.as_ref().map(|(_, watching)| watching.changes.clone())
    }

    /// When to look again though nothing was told.
    pub(super) fn next_look(&self) -> Duration {
        let regular = match self.state {
            // What git leaves behind need not lie below the root, where it would be told.
            scan::Root::GitOperation(_) => GIT_POLL,
            _ if self.watching.is_some() => RESCAN,
            _ => POLL,
        };
        let wake = self.settled.wake.unwrap_or(Duration::MAX);
        wake.min(self.looked + regular).max(self.rested)
    }

    /// When to look again at the earliest, whatever is told.
    pub(super) fn rested(&self) -> Duration {
        self.rested
    }

    /// What the files declare, for other roots. `None` while they cannot be seen whole.
    pub(super) fn declared(&self) -> Option<BTreeMap<String, Place>> {
        let is_whole = matches!(self.state, scan::Root::Present(_))
            && self.problems.is_empty()
            && self.settled.moving.len() <= self.settled.restless.len();
        let documents = self.files.iter().flat_map(|(path, manifest)| {
            let place = |line| board::outside(&self.root.path, path, line);
            manifest.documents.iter().map(move |document| (document.name.clone(), place(document.line)))
        });
        is_whole.then(|| documents.collect())
    }

    fn watch(&mut self, files: &dyn FileSystem) {
        let identity = files.metadata(&self.root.path).ok().map(|metadata| metadata.identity);
        let watched = self.watching.as_ref().map(|(identity, _)| *identity);
        if identity.is_some() && identity == watched {
            return;
        }
        self.watching = identity.and_then(|identity| match files.watch(&self.root.path) {
            Ok(watching) => Some((identity, watching)),
            Err(error) => {
                tracing::debug!(%error, path = %self.root.path.display(), "no notice of changes here: scanning instead");
                None
            }
        });
    }

    fn take(&mut self, disk: &dyn FileSystem, scan: &mut Scan, uptime: Duration) {
        let declared = if scan.is_checkout { Declared::Git } else { Declared::Here };
        let count = scan.files.len();
        scan.files.retain(|_, seen| seen.content != Content::Later);
        let is_whole = scan.files.len() == count;
        self.settled = self.settler.observe(&scan.files, is_whole && self.problems.is_empty(), uptime);
        if !is_whole {
            self.settled.moving.push("(files yet to be read)".to_owned());
            self.settled.wake = Some(self.settled.wake.unwrap_or(uptime + super::settle::QUIET));
        }
        for path in &self.settled.removed {
            self.files.remove(path);
        }
        for path in &self.settled.changed {
            let Some(seen) = scan.files.remove(path) else { continue };
            let manifest = match seen.content {
                Content::New(bytes) => {
                    let file = self.root.path.join(path);
                    let judge = |path: &Path| self.mounts.refuse(disk, path, declared);
                    let directory = Some(file.parent().unwrap_or(&self.root.path));
                    // What lies in the source itself is as much its word as the manifest is.
                    let judge_file = |path: &Path| match is_inside(disk, &self.root.path, path) {
                        true => None,
                        false => self.mounts.refuse(disk, path, declared),
                    };
                    let reading = Reading { directory, judge: Some(&judge), judge_file: Some(&judge_file) };
                    Manifest::read(path, reading, &bytes)
                }
                Content::Unreadable(why) => {
                    Manifest { faults: vec![Fault::of_file(path, why)], mentions_kina: true, ..Manifest::default() }
                }
                Content::Known | Content::Later => continue,
            };
            self.files.insert(path.clone(), Arc::new(manifest));
        }
        self.hashes = self.settler.known();
    }
}

/// Whether a path leads to somewhere below a directory; for one that is not there, whether it would lie there.
fn is_inside(files: &dyn FileSystem, directory: &Path, path: &Path) -> bool {
    files.canonical(directory).is_ok_and(|directory| host_mounts::real(files, path).starts_with(directory))
}
