//! What a git checkout says about itself, read from its files: which commit it is at, and whether git is at work in it.
//!
//! Git itself is not run: it would have to be installed, and it would read configuration of a repository that may not
//! be ours to trust.

use std::path::{Path, PathBuf};

use crate::world::{FileKind, FileSystem};

/// Largest file of git's that is read. `packed-refs` has about 60 bytes a reference.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What git leaves in its directory while it works (gitrepository-layout, and `git/wt-status.c`).
const OPERATIONS: [(&str, &str); 9] = [
    ("index.lock", "a git command"),
    ("HEAD.lock", "a git command"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_LOG", "a bisection"),
    ("sequencer", "a cherry-pick or revert"),
];

/// A checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkout {
    /// Where `HEAD` and the index lie.
    directory: PathBuf,
    /// Where the references lie: elsewhere in a linked worktree.
    common: PathBuf,
}

/// The checkout that a directory lies in, if any.
pub(super) fn find(files: &dyn FileSystem, root: &Path) -> Option<Checkout> {
    root.ancestors().find_map(|directory| {
        let dot_git = directory.join(".git");
        let git = match files.metadata(&dot_git).ok()?.kind {
            FileKind::Directory => dot_git,
            // A linked worktree or a submodule: the file names the directory.
            FileKind::File => {
                let text = text(files, &dot_git)?;
                directory.join(text.strip_prefix("gitdir:")?.trim())
            }
            FileKind::Link | FileKind::Other => return None,
        };
        files.metadata(&git.join("HEAD")).ok()?;
        let common = text(files, &git.join("commondir")).map_or_else(|| git.clone(), |path| git.join(path.trim()));
        Some(Checkout { directory: git, common })
    })
}

impl Checkout {
    /// What git is doing in it, named for people.
    pub(super) fn operation(&self, files: &dyn FileSystem) -> Option<&'static str> {
        let marker = OPERATIONS.iter().find(|(marker, _)| files.link_metadata(&self.directory.join(marker)).is_ok());
        marker.map(|(_, operation)| *operation)
    }

    /// The commit that is checked out. `None` before the first commit, or where references are kept in another format.
    pub(super) fn commit(&self, files: &dyn FileSystem) -> Option<String> {
        let head = text(files, &self.directory.join("HEAD"))?;
        let Some(name) = head.trim().strip_prefix("ref:").map(str::trim) else { return object_id(head.trim()) };
        let is_plain = name.starts_with("refs/") && !name.split('/').any(|part| part.is_empty() || part == "..");
        if !is_plain {
            return None;
        }
        let loose = text(files, &self.common.join(name)).and_then(|text| object_id(text.trim()));
        loose.or_else(|| {
            let packed = text(files, &self.common.join("packed-refs"))?;
            packed.lines().find_map(|line| {
                line.split_once(' ').filter(|(_, found)| *found == name).and_then(|(id, _)| object_id(id))
            })
        })
    }
}

fn object_id(text: &str) -> Option<String> {
    let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| text.to_owned())
}

fn text(files: &dyn FileSystem, path: &Path) -> Option<String> {
    String::from_utf8(files.read(path, FILE_BYTES_MAX).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::world::Disk;

    fn git(directory: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "commit.gpgsign=false",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .current_dir(directory)
            .env_remove("GIT_DIR")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn the_commit_is_read_loose_packed_detached_and_in_a_worktree() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap().join("checkout");
        std::fs::create_dir_all(root.join("clusters")).unwrap();
        git(&root, &["init", "-q"]);
        let commit = || find(&Disk, &root.join("clusters")).unwrap().commit(&Disk);
        assert_eq!(commit(), None);
        git(&root, &["commit", "-q", "--allow-empty", "-m", "one"]);
        let one = git(&root, &["rev-parse", "HEAD"]);
        assert_eq!(commit(), Some(one.clone()));
        git(&root, &["pack-refs", "--all"]);
        assert_eq!(commit(), Some(one.clone()));
        git(&root, &["checkout", "-q", "--detach"]);
        assert_eq!(commit(), Some(one.clone()));
        let linked = root.with_file_name("linked");
        git(&root, &["worktree", "add", "-q", "-b", "other", linked.to_str().unwrap()]);
        assert_eq!(find(&Disk, &linked).unwrap().commit(&Disk), Some(one));
    }

    #[test]
    fn a_merge_that_waits_for_a_person_is_an_operation() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        git(root, &["init", "-q"]);
        std::fs::write(root.join("a"), "1").unwrap();
        git(root, &["add", "a"]);
        git(root, &["commit", "-q", "-m", "one"]);
        git(root, &["branch", "other"]);
        std::fs::write(root.join("a"), "2").unwrap();
        git(root, &["commit", "-q", "-am", "two"]);
        git(root, &["checkout", "-q", "other"]);
        std::fs::write(root.join("a"), "3").unwrap();
        git(root, &["commit", "-q", "-am", "three"]);
        let operation = || find(&Disk, root).unwrap().operation(&Disk);
        assert_eq!(operation(), None);
        let merged = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "merge", "main"])
            .current_dir(root)
            .output()
            .unwrap();
        assert!(!merged.status.success());
        assert_eq!(operation(), Some("a merge"));
        std::fs::write(root.join(".git/index.lock"), "").unwrap();
        assert_eq!(operation(), Some("a git command"));
    }

    #[test]
    fn no_git_directory_is_no_checkout() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".git")).unwrap();
        assert_eq!(find(&Disk, home.path()), None);
    }
}
