//! A medium whose writes stay in memory: redb's recovery runs over it when the real one takes no writes, so that a
//! full disk still can be read.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

const PAGE: u64 = 4096;
/// Bytes that recovery may write: it rebuilds the allocator's state, some 100 KiB for each GiB of store.
const LIMIT: usize = 64 * 1024 * 1024;

/// Reads from `base`, writes to memory.
pub(super) struct Overlay<B> {
    base: B,
    written: Mutex<Written>,
}

struct Written {
    pages: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// Beyond this, the base has nothing that counts.
    base_len: u64,
}

impl<B: StorageBackend> Overlay<B> {
    pub fn new(base: B) -> io::Result<Self> {
        let len = base.len()?;
        Ok(Self { base, written: Mutex::new(Written { pages: BTreeMap::new(), len, base_len: len }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it is, from memory or from the base; zero where neither has anything.
    fn page(&self, written: &Written, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(page) = written.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; to_usize(PAGE)?].into_boxed_slice();
        let start = number * PAGE;
        let there = to_usize(written.base_len.saturating_sub(start).min(PAGE))?;
        if let Some(part) = page.get_mut(..there).filter(|part| !part.is_empty()) {
            self.base.read(start, part)?;
        }
        Ok(page)
    }

    /// Splits a range into `(page, offset in the page, offset in the range, length)`.
    fn parts(offset: u64, len: usize) -> io::Result<Vec<(u64, usize, usize, usize)>> {
        let (mut parts, mut done) = (Vec::new(), 0);
        while done < len {
            let at = offset + done as u64;
            let within = to_usize(at % PAGE)?;
            let length = (to_usize(PAGE)? - within).min(len - done);
            parts.push((at / PAGE, within, done, length));
            done += length;
        }
        Ok(parts)
    }
}

fn to_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

impl<B: StorageBackend> fmt::Debug for Overlay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("base", &self.base).finish_non_exhaustive()
    }
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        for (number, within, done, length) in Self::parts(offset, out.len())? {
            let page = self.page(&written, number)?;
            if let (Some(to), Some(from)) = (out.get_mut(done..done + length), page.get(within..within + length)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        // What was cut off must not come back when the length grows again.
        written.base_len = written.base_len.min(len);
        written.pages.retain(|number, _| number * PAGE < len);
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (number, within, done, length) in Self::parts(offset, data.len())? {
            if (written.pages.len() + 1) * to_usize(PAGE)? > LIMIT {
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too much to recover in memory"));
            }
            let mut page = self.page(&written, number)?;
            if let (Some(to), Some(from)) = (page.get_mut(within..within + length), data.get(done..done + length)) {
                to.copy_from_slice(from);
            }
            written.pages.insert(number, page);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.base.close()
    }

    // Locks are the base's: nobody else may write what is read here.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_base_stays_as_it_was() {
        let base = redb::backends::InMemoryBackend::new();
        base.set_len(10_000).unwrap();
        base.write(4090, &[1; 20]).unwrap();
        let overlay = Overlay::new(base).unwrap();
        overlay.write(4095, &[2; 4098]).unwrap();
        let mut out = [9; 12];
        overlay.read(4088, &mut out).unwrap();
        assert_eq!(out, [0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        overlay.set_len(4092).unwrap();
        overlay.set_len(9000).unwrap();
        assert_eq!(overlay.len().unwrap(), 9000);
        let mut out = [9; 3];
        overlay.read(8500, &mut out).unwrap();
        assert_eq!(out, [0; 3]);
        let mut under = [0; 2];
        overlay.base.read(4095, &mut under).unwrap();
        assert_eq!(under, [1; 2]);
    }
}
