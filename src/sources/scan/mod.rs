//! A walk through a directory: every manifest file with the hash of its content, and everything that could not be seen.
//!
//! Whatever is not a plain answer (a directory that cannot be listed, a link that leads nowhere, too many files) is a
//! [`Problem`]: what is missing from a scan with problems is not known to be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::git;
use super::manifest::{self, FILE_BYTES_MAX, hash};
use crate::world::{FileIdentity, FileKind, FileSystem, Metadata};

/// Most manifest files of a source. Ten times the thousand clusters that Kina is made for.
pub const FILES_MAX: usize = 10_000;
/// Most directories walked; and most entries looked at in all of them.
const DIRECTORIES_MAX: usize = 10_000;
const ENTRIES_MAX: usize = 200_000;
/// Deepest directory, counted from the root. Links cannot loop, as every directory is walked once.
const DEPTH_MAX: usize = 32;
/// Most bytes of new content held at a time. What is above is read by the next scan, once this has been taken over.
const NEW_BYTES_MAX: usize = 32 << 20;

/// What a walk found.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The directory itself.
    pub root: Root,
    /// Manifest files by their path relative to the root.
    pub files: BTreeMap<String, Seen>,
    /// What could not be seen.
    pub problems: Vec<Problem>,
    /// Commit that is checked out.
    pub commit: Option<String>,
    /// Whether it lies in a git checkout.
    pub is_checkout: bool,
}

/// The directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// It is there.
    Present(FileIdentity),
    /// It is gone, or no directory, or cannot be read.
    Unavailable(String),
    /// A git operation is under way in it; named for people, such as `a rebase`.
    GitOperation(&'static str),
}

/// One manifest file.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// SHA-256 of the content (of the reason where it cannot be read).
    pub hash: String,
    /// Device, inode, length and time of change: what changes although the content is the same says that somebody
    /// still works on the file.
    pub stamp: Stamp,
    /// Whether it ends as manifests do: with the end of a line, or of a JSON value.
    pub ends_whole: bool,
    /// What is in it.
    pub content: Content,
}

/// Facts that tell two states of a file apart.
pub type Stamp = (FileIdentity, u64, jiff::Timestamp);

/// Content of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The hash is the one that the caller knows already.
    Known,
    /// New content.
    New(Vec<u8>),
    /// Beyond the bytes held at a time: read by a later scan.
    Later,
    /// Cannot be read, for this reason.
    Unreadable(String),
}

/// Something below the root that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path relative to the root.
    pub path: String,
    /// What went wrong, for people.
    pub message: String,
}

/// Walks a directory. `known` has the hashes of contents that need not be returned again.
#[must_use]
pub fn scan(files: &dyn FileSystem, path: &Path, known: &BTreeMap<String, String>) -> Scan {
    let mut scan = Scan {
        root: Root::Unavailable(String::new()),
        files: BTreeMap::new(),
        problems: Vec::new(),
        commit: None,
        is_checkout: false,
    };
    let (root, before) = match open(files, path) {
        Ok(opened) => opened,
        Err(message) => return Scan { root: Root::Unavailable(message), ..scan },
    };
    let checkout = git::find(files, &root);
    scan.is_checkout = checkout.is_some();
    if let Some(operation) = checkout.as_ref().and_then(|checkout| checkout.operation(files)) {
        return Scan { root: Root::GitOperation(operation), ..scan };
    }
    let mut walk = Walk {
        files,
        root: &root,
        known,
        scan: &mut scan,
        visited: BTreeSet::new(),
        taken: BTreeSet::new(),
        links: Vec::new(),
        entries: 0,
        new_bytes: 0,
    };
    walk.directory(&root, "", 0);
    walk.follow_links();
    // What began during the walk makes its result worthless.
    match open(files, path) {
        Ok((_, after)) if after == before => scan.root = Root::Present(before),
        Ok(_) => {
            return Scan {
                root: Root::Unavailable(format!("{} was replaced while it was read", path.display())),
                files: BTreeMap::new(),
                ..scan
            };
        }
        Err(message) => return Scan { root: Root::Unavailable(message), files: BTreeMap::new(), ..scan },
    }
    if let Some(checkout) = checkout {
        if let Some(operation) = checkout.operation(files) {
            return Scan { root: Root::GitOperation(operation), files: BTreeMap::new(), ..scan };
        }
        scan.commit = checkout.commit(files);
    }
    scan
}

/// The real path of the root, and which directory it is.
fn open(files: &dyn FileSystem, path: &Path) -> Result<(PathBuf, FileIdentity), String> {
    let because = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("cannot open {}: {error}", path.display()),
    };
    let root = files.canonical(path).map_err(because)?;
    let metadata = files.metadata(&root).map_err(because)?;
    if metadata.kind != FileKind::Directory {
        return Err(format!("{} is not a directory", path.display()));
    }
    files.list(&root).map_err(|error| format!("cannot list {}: {error}", path.display()))?;
    Ok((root, metadata.identity))
}

struct Walk<'a> {
    files: &'a dyn FileSystem,
    root: &'a Path,
    known: &'a BTreeMap<String, String>,
    scan: &'a mut Scan,
    /// Directories walked, so that links cannot loop or show one twice.
    visited: BTreeSet<FileIdentity>,
    /// Files taken, so that a link to a manifest is not a second declaration.
    taken: BTreeSet<FileIdentity>,
    /// Links, followed once everything real is known.
    links: Vec<(PathBuf, String, usize)>,
    entries: usize,
    new_bytes: usize,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, relative: &str, depth: usize) {
        let identity = match self.files.metadata(directory) {
            Ok(metadata) => metadata.identity,
            Err(error) => return self.problem(relative, &error),
        };
        if !self.visited.insert(identity) {
            return;
        }
        if depth > DEPTH_MAX || self.visited.len() > DIRECTORIES_MAX {
            return self
                .problem(relative, &format!("deeper than {DEPTH_MAX} or more than {DIRECTORIES_MAX} directories"));
        }
        let names = match self.files.list(directory) {
            Ok(names) => names,
            // A directory that is removed during the walk takes its files along.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
            Err(error) => return self.problem(relative, &error),
        };
        for name in names {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return self.problem(relative, &format!("more than {ENTRIES_MAX} entries"));
            }
            if !name.starts_with('.') {
                let relative = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
                self.entry(&directory.join(&name), relative, &name, depth);
            }
        }
    }

    fn entry(&mut self, path: &Path, relative: String, name: &str, depth: usize) {
        match self.files.link_metadata(path) {
            // The replacement character stands for bytes that are not UTF-8: such a name leads nowhere.
            Err(_) if name.contains('\u{fffd}') => self.problem(&relative, &"the name is not UTF-8: rename it"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.problem(&relative, &error),
            Ok(metadata) => match metadata.kind {
                FileKind::Directory => self.directory(path, &relative, depth + 1),
                FileKind::File if is_manifest(name) => self.file(path, relative, &metadata),
                FileKind::Link => self.links.push((path.to_path_buf(), relative, depth)),
                FileKind::File | FileKind::Other => {}
            },
        }
    }

    fn follow_links(&mut self) {
        // Directories behind links may hold links themselves; every directory is walked once, so this ends.
        while let Some((path, relative, depth)) = self.links.pop() {
            let named_manifest = is_manifest(&relative);
            let target = match self.files.canonical(&path) {
                Ok(target) => target,
                Err(error) if named_manifest => {
                    self.problem(&relative, &format!("the link cannot be followed: {error}"));
                    continue;
                }
                Err(_) => continue,
            };
            let Ok(metadata) = self.files.metadata(&target) else { continue };
            let is_wanted = metadata.kind == FileKind::Directory || metadata.kind == FileKind::File && named_manifest;
            if !is_wanted {
                continue;
            }
            if !target.starts_with(self.root) {
                self.problem(&relative, &"the link leads out of the watched directory".to_owned());
            } else if metadata.kind == FileKind::Directory {
                self.directory(&target, &relative, depth + 1);
            } else {
                self.file(&target, relative, &metadata);
            }
        }
    }

    fn file(&mut self, path: &Path, relative: String, metadata: &Metadata) {
        if !self.taken.insert(metadata.identity) {
            return;
        }
        if self.scan.files.len() >= FILES_MAX {
            return self.problem(&relative, &format!("more than {FILES_MAX} manifest files"));
        }
        let (hash, ends_whole, content) = match self.files.read(path, FILE_BYTES_MAX) {
            Ok(bytes) => {
                let hash = hash(&bytes);
                let ends_whole = !bytes.is_empty() && manifest::ends_whole(&bytes);
                let content = self.content(&relative, &hash, bytes);
                (hash, ends_whole, content)
            }
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let message = match error.kind() {
                    io::ErrorKind::FileTooLarge => {
                        format!("the file is larger than {} KiB, the most that Kina reads", FILE_BYTES_MAX >> 10)
                    }
                    _ => format!("the file cannot be read: {error}"),
                };
                (hash(message.as_bytes()), true, Content::Unreadable(message))
            }
        };
        let stamp = (metadata.identity, metadata.length, metadata.modified);
        self.scan.files.insert(relative, Seen { hash, stamp, ends_whole, content });
    }

    fn content(&mut self, relative: &str, hash: &str, bytes: Vec<u8>) -> Content {
        if self.known.get(relative).is_some_and(|known| known == hash) {
            return Content::Known;
        }
        self.new_bytes += bytes.len();
        if self.new_bytes > NEW_BYTES_MAX { Content::Later } else { Content::New(bytes) }
    }

    fn problem(&mut self, relative: &str, message: &impl ToString) {
        // As many as anybody reads; one is enough to make the scan incomplete.
        if self.scan.problems.len() < 20 {
            let path = if relative.is_empty() { "." } else { relative };
            self.scan.problems.push(Problem { path: path.to_owned(), message: message.to_string() });
        }
    }
}

/// Whether a name is one of a manifest, in watched directories as with `-f`. Editors' own files do not end like one (`x.yaml~`, `x.yaml.swp`, `#x.yaml#`,
/// `4913`, `x.tmp`) or begin with a dot.
#[must_use]
pub fn is_manifest(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
    let is_known =
        ending.is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known)));
    is_known && !name.starts_with(['.', '#'])
}

#[cfg(test)]
mod tests;
