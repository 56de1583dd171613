//! The store behind the gate, on a disk that loses what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use kina::apiserver::store::{Batch, RedbStore, Snapshot, Store, StoreError};
use redb::StorageBackend;

use super::effect::{Effect, Fault};
use super::gate::{Failure, Life};
use super::plan::mixed;

/// Pages kept in memory: any number does.
const CACHE_BYTES: usize = 1 << 20;
/// What a disk writes as one.
const SECTOR: usize = 512;

/// The bytes on a disk. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    /// What was written since the last sync: where, what was there before, what is there now.
    unsynced: Vec<Write>,
    /// After so many more writes the power goes.
    writes_left: Option<u64>,
}

#[derive(Debug)]
enum Write {
    Bytes { offset: usize, before: Vec<u8>, after: Vec<u8> },
    Length { before: usize, after: usize },
}

impl Disk {
    /// The power goes after so many more writes.
    fn lose_power_after(&self, writes: u64) {
        self.0.lock().unwrap().writes_left = Some(writes);
    }

    /// What the next life of Kina finds: after a kill everything that was written.
    #[must_use]
    pub fn after_death(&self, seed: u64) -> Self {
        let bytes = self.0.lock().unwrap();
        if bytes.writes_left.is_some() {
            drop(bytes);
            return self.after_power_loss(seed);
        }
        Self(Arc::new(Mutex::new(Bytes { now: bytes.now.clone(), ..Bytes::default() })))
    }

    /// What is left after a loss of power: everything synced, and of the rest what `seed` says, by sectors.
    fn after_power_loss(&self, seed: u64) -> Self {
        let mut bytes = self.0.lock().unwrap();
        let unsynced: Vec<Write> = std::mem::take(&mut bytes.unsynced);
        let mut now = bytes.now.clone();
        drop(bytes);
        for write in unsynced.iter().rev() {
            match write {
                Write::Bytes { offset, before, .. } => now[*offset..offset + before.len()].copy_from_slice(before),
                Write::Length { before, .. } => now.resize(*before, 0),
            }
        }
        let mut random = seed;
        for write in &unsynced {
            random = mixed(random);
            match write {
                Write::Length { after, .. } if !random.is_multiple_of(4) => now.resize(*after, 0),
                Write::Length { .. } => {}
                Write::Bytes { offset, after, .. } => {
                    for (index, sector) in after.chunks(SECTOR).enumerate() {
                        random = mixed(random);
                        let at = offset + index * SECTOR;
                        if random.is_multiple_of(2) && at + sector.len() <= now.len() {
                            now[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        Self(Arc::new(Mutex::new(Bytes { now, ..Bytes::default() })))
    }
}

fn no_power() -> io::Error {
    io::Error::other("injected: no power")
}

impl Bytes {
    fn tick(&mut self) -> io::Result<()> {
        match &mut self.writes_left {
            Some(0) => Err(no_power()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let bytes = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let found = bytes.now.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut bytes = self.0.lock().unwrap();
        bytes.tick()?;
        let (before, after) = (bytes.now.len(), usize::try_from(len).unwrap());
        bytes.unsynced.push(Write::Length { before, after });
        bytes.now.resize(after, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut bytes = self.0.lock().unwrap();
        bytes.tick()?;
        bytes.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut bytes = self.0.lock().unwrap();
        bytes.tick()?;
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        if bytes.now.len() < end {
            let before = bytes.now.len();
            bytes.unsynced.push(Write::Length { before, after: end });
            bytes.now.resize(end, 0);
        }
        let before = bytes.now[start..end].to_vec();
        bytes.unsynced.push(Write::Bytes { offset: start, before, after: data.to_vec() });
        bytes.now[start..end].copy_from_slice(data);
        Ok(())
    }
}

/// A store of one life of Kina.
pub struct GatedStore {
    life: Life,
    inner: RedbStore,
    disk: Disk,
}

impl GatedStore {
    /// Opens the store on a disk; the oracle compares what is there with what was acknowledged.
    pub fn open(life: Life, disk: &Disk) -> Result<Self, StoreError> {
        let inner = RedbStore::with_backend(disk.clone(), CACHE_BYTES, "a-store")?;
        life.gate.oracle.opened(&inner);
        Ok(Self { life, inner, disk: disk.clone() })
    }

    fn commit_and_tell(&self, batch: Batch) -> Result<(), StoreError> {
        self.life.gate.oracle.commits(&batch);
        self.inner.commit(batch.clone())?;
        self.life.gate.oracle.committed(batch);
        Ok(())
    }
}

fn failed(failure: Failure) -> StoreError {
    let cause = io::Error::other(format!("injected: {failure:?}")).into();
    if failure == Failure::Full { StoreError::Full(cause) } else { StoreError::Write(cause) }
}

impl Store for GatedStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if self.life.is_dead() {
            return Err(failed(Failure::Dead));
        }
        let (fault, random) = self.life.decide(Effect::Commit, "");
        match fault {
            Some(Fault::FailBefore) => Err(failed(Failure::Refused)),
            Some(Fault::Full) => Err(failed(Failure::Full)),
            Some(Fault::ReplyLost) => {
                self.commit_and_tell(batch)?;
                Err(failed(Failure::Lost))
            }
            Some(Fault::CrashBefore) => {
                self.life.kill();
                Err(failed(Failure::Dead))
            }
            Some(Fault::CrashAfter) => {
                self.commit_and_tell(batch)?;
                self.life.kill();
                Err(failed(Failure::Dead))
            }
            Some(Fault::Torn) => {
                self.life.gate.oracle.commits(&batch);
                self.disk.lose_power_after(random % 12);
                let committed = self.inner.commit(batch);
                self.life.kill();
                committed.and(Err(failed(Failure::Dead)))
            }
            _ => self.commit_and_tell(batch),
        }
    }

    fn id(&self) -> &str {
        self.inner.id()
    }

    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    fn close(&self) {
        self.inner.close();
    }
}
