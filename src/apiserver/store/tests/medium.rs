//! A medium that outlives the store on it, and can fail at any call, be full, or lose power.
//!
//! It has two faces: what programs see (`content`, a page cache) and what would be there after a loss of power
//! (`synced`).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What a disk writes as one.
const SECTOR: usize = 512;
/// What a store reads and writes as one.
pub(super) const PAGE: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(in crate::apiserver) struct Medium {
    state: Arc<Mutex<State>>,
    pub full: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    /// The call at which it begins, counted from 1: of all calls for [`Fault::Once`], else of those that change the
    /// medium. Whether power goes amid a read or at the next write makes no difference to what is on the disk.
    pub at: u64,
    pub kind: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The power goes: no call succeeds any more.
    Power,
    /// This one call fails; a sync that fails forgets what it should have synced, as Linux does.
    Once,
    /// This write and all later ones find no space.
    Full,
}

/// What of the unsynced has reached the disk when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    /// Some writes, whichever the seed says. Those to one place keep their order, as on any disk; between places there
    /// is none.
    Some(u64),
    /// All but the last, and of that some sectors.
    TornLast(u64),
    /// Any sectors of any write.
    Sectors(u64),
}

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    synced: Vec<u8>,
    /// Written since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

/// A sequence of bits that a seed gives.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32).count_ones() % 2 == 1
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl Medium {
    pub(super) fn begin(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = Some(trouble);
    }

    pub(super) fn end_trouble(&self) {
        *self.trouble.lock().unwrap() = None;
    }

    /// Calls so far, as they count for a fault.
    pub(super) fn calls(&self, kind: Fault) -> u64 {
        let counter = if kind == Fault::Once { &self.calls } else { &self.writes };
        counter.load(Ordering::SeqCst)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().content.clone()
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        let medium = Self::default();
        (medium.state.lock().unwrap().content, medium.state.lock().unwrap().synced) = (bytes.to_vec(), bytes.to_vec());
        medium
    }

    fn step(&self, is_write: bool) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let write = self.writes.fetch_add(u64::from(is_write), Ordering::SeqCst) + u64::from(is_write);
        if is_write && self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        match *self.trouble.lock().unwrap() {
            Some(Trouble { at, kind: Fault::Power }) if write >= at => Err(io::Error::other("the power is gone")),
            Some(Trouble { at, kind: Fault::Once }) if call == at => Err(io::Error::other("the disk failed")),
            Some(Trouble { at, kind: Fault::Full }) if write >= at && is_write => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }

    /// Power comes back: of what was not synced, a part has reached the disk.
    pub(super) fn lose_power(&self, kept: Kept) {
        let mut state = self.state.lock().unwrap();
        let mut disk = std::mem::take(&mut state.synced);
        let pending = std::mem::take(&mut state.pending);
        let last = pending.len().saturating_sub(1);
        let (Kept::Some(seed) | Kept::TornLast(seed) | Kept::Sectors(seed)) = kept else {
            (state.synced, state.content) = (disk.clone(), disk);
            return self.end_trouble();
        };
        let mut bits = Bits(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ pending.len() as u64);
        for (index, (at, data)) in pending.iter().enumerate() {
            match kept {
                Kept::TornLast(_) if index < last => put(&mut disk, *at, data),
                Kept::Some(_) if bits.next() => put(&mut disk, *at, data),
                Kept::TornLast(_) | Kept::Sectors(_) => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        if bits.next() {
                            put(&mut disk, at + number * SECTOR, sector);
                        }
                    }
                }
                _ => {}
            }
        }
        (state.synced, state.content) = (disk.clone(), disk);
        self.end_trouble();
    }
}

impl redb::StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.step(false)?;
        Ok(self.state.lock().unwrap().content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.step(false)?;
        let (state, offset) = (self.state.lock().unwrap(), usize::try_from(offset).unwrap());
        out.copy_from_slice(state.content.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(true)?;
        let (mut state, len) = (self.state.lock().unwrap(), usize::try_from(len).unwrap());
        state.content.resize(len, 0);
        // File systems order lengths with their journal: taken as synced, so that only contents are lost.
        state.synced.resize(len, 0);
        state.pending.retain(|(at, data)| at + data.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.step(true);
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        if result.is_err() {
            if matches!(*self.trouble.lock().unwrap(), Some(Trouble { kind: Fault::Once, .. })) {
                state.pending.clear();
            }
            return result;
        }
        for (at, data) in state.pending.drain(..) {
            put(&mut state.synced, at, &data);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = self.step(true);
        let (mut state, offset) = (self.state.lock().unwrap(), usize::try_from(offset).unwrap());
        // The write amid which the power goes may reach the disk in part.
        if result.is_ok() || matches!(*self.trouble.lock().unwrap(), Some(Trouble { kind: Fault::Power, .. })) {
            state.pending.push((offset, data.to_vec()));
        }
        result?;
        put(&mut state.content, offset, data);
        Ok(())
    }
}
