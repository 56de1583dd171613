//! A file system in memory, for worlds that follow from a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::clock::Clock;
use super::files::{FileIdentity, FileKind, FileSystem, Metadata, Watching};

/// Directories, regular files and links under absolute paths.
pub struct MemoryFiles {
    tree: Arc<Mutex<Tree>>,
    clock: Arc<dyn Clock>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    last_inode: u64,
}

struct Node {
    entry: Entry,
    metadata: Metadata,
    failure: Option<io::ErrorKind>,
}

enum Entry {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Links followed before a path counts as a loop, as Linux does (`ELOOP` after 40).
const LINKS_MAX: usize = 40;

impl MemoryFiles {
    /// An empty file system with a root directory.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let files = Self { tree: Arc::default(), clock, changes: watch::Sender::new(0) };
        files.insert(&mut files.lock(), PathBuf::from("/"), Entry::Directory, 0o755);
        files
    }

    /// Makes a symbolic link, replacing one that is there (as `ln -sfn`, or a rename over it, does).
    ///
    /// # Errors
    /// When the parent is no directory.
    pub fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let mut tree = self.lock();
        tree.parent_of(path)?;
        self.insert(&mut tree, path.to_path_buf(), Entry::Link(target.to_path_buf()), 0o777);
        drop(tree);
        self.changed();
        Ok(())
    }

    /// Moves a file or a whole directory, replacing what is at the target.
    ///
    /// # Errors
    /// When there is nothing to move.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.lock();
        if !tree.nodes.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        tree.nodes.retain(|path, _| !path.starts_with(to));
        let moved: Vec<PathBuf> = tree.nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            if let (Some(node), Ok(rest)) = (tree.nodes.remove(&path), path.strip_prefix(from)) {
                let target = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
                tree.nodes.insert(target, node);
            }
        }
        drop(tree);
        self.changed();
        Ok(())
    }

    /// From now on reading or listing this path fails so; `None` mends it.
    pub fn set_failure(&self, path: &Path, failure: Option<io::ErrorKind>) {
        if let Some(node) = self.lock().nodes.get_mut(path) {
            node.failure = failure;
        }
        self.changed();
    }

    fn insert(&self, tree: &mut Tree, path: PathBuf, entry: Entry, mode: u32) {
        tree.last_inode += 1;
        let kind = match &entry {
            Entry::Directory => FileKind::Directory,
            Entry::File(_) => FileKind::File,
            Entry::Link(_) => FileKind::Link,
        };
        let length = if let Entry::File(content) = &entry { content.len() as u64 } else { 0 };
        let metadata = Metadata {
            kind,
            length,
            mode,
            owner: 1000,
            identity: FileIdentity { device: 1, inode: tree.last_inode },
            modified: self.clock.now(),
        };
        tree.nodes.insert(path, Node { entry, metadata, failure: None });
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Tree {
    /// The path behind all links; its last component need not exist.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut pending = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            match self.resolve_once(&pending) {
                Ok(resolved) => return Ok(resolved),
                Err(next) => pending = next,
            }
        }
        Err(io::Error::other("too many levels of symbolic links"))
    }

    /// Follows the first link on the way, if any: the path to go on with is then the error.
    fn resolve_once(&self, path: &Path) -> Result<PathBuf, PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut components = path.components();
        while let Some(component) = components.next() {
            match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
                Component::ParentDir => {
                    resolved.pop();
                }
                Component::Normal(name) => {
                    let here = resolved.join(name);
                    if let Some(Node { entry: Entry::Link(target), .. }) = self.nodes.get(&here) {
                        return Err(resolved.join(target).join(components.as_path()));
                    }
                    resolved = here;
                }
            }
        }
        Ok(resolved)
    }

    fn node(&self, path: &Path) -> io::Result<&Node> {
        self.nodes.get(&self.resolve(path)?).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent_of(&self, path: &Path) -> io::Result<()> {
        match self.node(path.parent().unwrap_or(Path::new("/")))?.entry {
            Entry::Directory => Ok(()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}

impl FileSystem for MemoryFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let tree = self.lock();
        let node = tree.node(path)?;
        match (&node.entry, node.failure) {
            (_, Some(failure)) => Err(failure.into()),
            (Entry::File(content), None) if content.len() as u64 > limit => Err(io::ErrorKind::FileTooLarge.into()),
            (Entry::File(content), None) => Ok(content.clone()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.read(path, u64::MAX)?)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(self.lock().node(path)?.metadata)
    }

    fn link_metadata(&self, path: &Path) -> io::Result<Metadata> {
        let tree = self.lock();
        let Some(name) = path.file_name() else { return Ok(tree.node(path)?.metadata) };
        let parent = tree.resolve(path.parent().unwrap_or(Path::new("/")))?;
        tree.nodes.get(&parent.join(name)).map(|node| node.metadata).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let tree = self.lock();
        let directory = tree.resolve(path)?;
        let node = tree.node(&directory)?;
        if let Some(failure) = node.failure {
            return Err(failure.into());
        }
        if !matches!(node.entry, Entry::Directory) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let children = tree.nodes.keys().filter(|path| path.parent() == Some(&directory));
        Ok(children.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let tree = self.lock();
        let resolved = tree.resolve(path)?;
        tree.node(&resolved).map(|_| resolved)
    }

    fn create_directories(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut tree = self.lock();
        let path = tree.resolve(path)?;
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for directory in above {
            match tree.nodes.get(directory).map(|node| &node.entry) {
                Some(Entry::Directory) => {}
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => self.insert(&mut tree, directory.to_path_buf(), Entry::Directory, mode),
            }
        }
        drop(tree);
        self.changed();
        Ok(())
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let mut tree = self.lock();
        let target = tree.resolve(path)?;
        tree.parent_of(&target)?;
        if matches!(tree.nodes.get(&target), Some(Node { entry: Entry::Directory, .. })) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.insert(&mut tree, target, Entry::File(content.to_vec()), mode);
        drop(tree);
        self.changed();
        Ok(())
    }

    fn create_new(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        if self.link_metadata(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.write(path, content, mode)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.lock();
        match tree.nodes.get(path).map(|node| &node.entry) {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(Entry::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) => tree.nodes.remove(path),
        };
        drop(tree);
        self.changed();
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.lock();
        tree.node(path)?;
        tree.nodes.retain(|inside, _| !inside.starts_with(path));
        drop(tree);
        self.changed();
        Ok(())
    }

    fn watch(&self, path: &Path) -> io::Result<Watching> {
        self.metadata(path)?;
        Ok(Watching { changes: self.changes.subscribe(), _guard: Box::new(()) })
    }
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFiles").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::SystemClock;
    use super::*;

    fn files() -> MemoryFiles {
        let files = MemoryFiles::new(Arc::new(SystemClock));
        files.create_directories(Path::new("/home/clusters"), 0o700).unwrap();
        files
    }

    #[test]
    fn files_are_listed_read_and_removed() {
        let files = files();
        files.write(Path::new("/home/clusters/b.yaml"), b"b", 0o600).unwrap();
        files.write(Path::new("/home/clusters/a.yaml"), b"a", 0o600).unwrap();
        assert_eq!(files.list(Path::new("/home/clusters")).unwrap(), ["a.yaml", "b.yaml"]);
        files.remove_file(Path::new("/home/clusters/a.yaml")).unwrap();
        let gone = files.read(Path::new("/home/clusters/a.yaml"), 10).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn links_are_followed_and_loops_end() {
        let files = files();
        files.create_directories(Path::new("/home/clusters/..v1"), 0o700).unwrap();
        files.write(Path::new("/home/clusters/..v1/a.yaml"), b"one", 0o600).unwrap();
        files.link(Path::new("..v1"), Path::new("/home/clusters/..data")).unwrap();
        files.link(Path::new("..data/a.yaml"), Path::new("/home/clusters/a.yaml")).unwrap();
        assert_eq!(files.read(Path::new("/home/clusters/a.yaml"), 10).unwrap(), b"one");
        files.link(Path::new("loop"), Path::new("/home/loop")).unwrap();
        assert!(files.read(Path::new("/home/loop"), 10).is_err());
    }

    #[test]
    fn a_moved_directory_takes_its_files_along_and_a_new_one_is_another() {
        let files = files();
        files.write(Path::new("/home/clusters/a.yaml"), b"a", 0o600).unwrap();
        let before = files.metadata(Path::new("/home/clusters")).unwrap().identity;
        files.rename(Path::new("/home/clusters"), Path::new("/home/away")).unwrap();
        files.create_directories(Path::new("/home/clusters"), 0o700).unwrap();
        assert_ne!(files.metadata(Path::new("/home/clusters")).unwrap().identity, before);
        assert_eq!(files.read(Path::new("/home/away/a.yaml"), 10).unwrap(), b"a");
    }
}
