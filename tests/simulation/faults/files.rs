//! Files behind the gate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kina::world::{FileSystem, Metadata, Watching};

use super::effect::Effect;
use super::gate::{Failure, Life};

#[derive(Debug)]
pub struct GatedFiles {
    pub life: Life,
    pub inner: Arc<dyn FileSystem>,
}

fn failed(failure: Failure) -> io::Error {
    match failure {
        Failure::Full => io::ErrorKind::StorageFull.into(),
        other => io::Error::other(format!("injected: {other:?}")),
    }
}

impl GatedFiles {
    fn perform<T>(&self, effect: Effect, path: &Path, act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.life.perform_now(effect, &path.to_string_lossy(), failed, act)
    }
}

impl FileSystem for GatedFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.perform(Effect::FileRead, path, || self.inner.read(path, limit))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        self.perform(Effect::FileRead, path, || self.inner.open(path))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.perform(Effect::FileLook, path, || self.inner.metadata(path))
    }

    fn link_metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.perform(Effect::FileLook, path, || self.inner.link_metadata(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.perform(Effect::FileLook, path, || self.inner.list(path))
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.perform(Effect::FileLook, path, || self.inner.canonical(path))
    }

    fn create_directories(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.perform(Effect::FileWrite, path, || self.inner.create_directories(path, mode))
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        self.perform(Effect::FileWrite, path, || self.inner.write(path, content, mode))
    }

    fn create_new(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        self.perform(Effect::FileWrite, path, || self.inner.create_new(path, content, mode))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(Effect::FileRemove, path, || self.inner.remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.perform(Effect::FileRemove, path, || self.inner.remove_directory(path))
    }

    fn watch(&self, path: &Path) -> io::Result<Watching> {
        self.perform(Effect::FileLook, path, || self.inner.watch(path))
    }
}
