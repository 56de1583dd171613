//! The store on files that are sound, damaged, newer, locked; and on a medium that fails or loses power.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;

fn batch(revision: u64, writes: &[(&str, Option<&str>)]) -> Batch {
    let own = |value: &str| Bytes::copy_from_slice(value.as_bytes());
    let writes = writes.iter().map(|(key, value)| ((*key).to_owned(), value.map(own))).collect();
    Batch { revision, dropped: Vec::new(), writes }
}

fn rows(store: &dyn Store, prefix: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let snapshot = store.snapshot().unwrap();
    snapshot
        .visit(prefix, "", &mut |key, value| {
            rows.push(format!("{key}={}", String::from_utf8_lossy(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

#[test]
fn a_store_in_a_file_keeps_what_it_was_told_and_its_identity() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("kina.redb");
    {
        let store = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "first").unwrap();
        assert_eq!(store.snapshot().unwrap().revision(), 1);
        store.commit(batch(7, &[("t/a//x", Some("1")), ("t/a//y", Some("2")), ("u/a//x", Some("3"))])).unwrap();
        store.commit(batch(8, &[("t/a//y", None)])).unwrap();
        let again = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "second").unwrap_err();
        assert!(matches!(again, StoreError::InUse { .. }), "{again}");
    }
    let store = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "second").unwrap();
    assert_eq!((store.id(), store.snapshot().unwrap().revision()), ("first", 8));
    assert_eq!(rows(&store, "t/"), ["t/a//x=1"]);
    let before = store.snapshot().unwrap();
    store.commit(Batch { revision: 9, dropped: vec!["t/".into()], writes: Vec::new() }).unwrap();
    assert_eq!(rows(&store, ""), ["u/a//x=3"]);
    assert_eq!(before.get("t/a//x").unwrap().as_deref(), Some(&b"1"[..]), "a snapshot stays as it was");
    assert!(!home.path().join("kina.redb.new").exists());
}

#[test]
fn a_damaged_empty_or_newer_store_is_refused_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("kina.redb");
    for content in [&b""[..], &b"not a database, but long enough to be read as one"[..], &[0; 8192][..]] {
        std::fs::write(&path, content).unwrap();
        let error = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "id").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    std::fs::remove_file(&path).unwrap();
    drop(RedbStore::open(&path, DEFAULT_CACHE_BYTES, "id").unwrap());
    let half = std::fs::metadata(&path).unwrap().len() / 2;
    std::fs::copy(&path, home.path().join("half")).unwrap();
    std::fs::File::options().write(true).open(home.path().join("half")).unwrap().set_len(half).unwrap();
    let error = RedbStore::open(&home.path().join("half"), DEFAULT_CACHE_BYTES, "id").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    redb::tests_only_set_format(&path, "2");
    let error = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "id").unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error:?}");
}

/// A medium that outlives the store on it, and can lose power or space.
#[derive(Clone, Debug, Default)]
pub(in crate::apiserver) struct Medium {
    state: Arc<Mutex<State>>,
    pub full: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    /// The call at which the power goes; 0 for never.
    dies_at: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    synced: Vec<u8>,
    /// 512-byte sectors written since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Medium {
    fn step(&self, writes: bool) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let dies_at = self.dies_at.load(Ordering::SeqCst);
        if dies_at != 0 && call >= dies_at {
            return Err(io::Error::other("the power is gone"));
        }
        if writes && self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Power comes back: of what was not synced, a part chosen by `seed` has reached the medium.
    fn lose_power(&self, seed: u64) {
        let mut state = self.state.lock().unwrap();
        let mut content = std::mem::take(&mut state.synced);
        let mut random = seed;
        for (at, sector) in std::mem::take(&mut state.pending) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if seed != 0 && random >> 63 == 1 {
                if content.len() < at + sector.len() {
                    content.resize(at + sector.len(), 0);
                }
                content[at..at + sector.len()].copy_from_slice(&sector);
            }
        }
        (state.synced, state.content) = (content.clone(), content);
        self.dies_at.store(0, Ordering::SeqCst);
    }
}

impl ::redb::StorageBackend for Medium {
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
        state.pending.retain(|(at, sector)| at + sector.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step(true)?;
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        for (at, sector) in state.pending.drain(..) {
            if state.synced.len() < at + sector.len() {
                state.synced.resize(at + sector.len(), 0);
            }
            state.synced[at..at + sector.len()].copy_from_slice(&sector);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(true)?;
        let (mut state, offset) = (self.state.lock().unwrap(), usize::try_from(offset).unwrap());
        let end = offset + data.len();
        if state.content.len() < end {
            state.content.resize(end, 0);
        }
        state.content[offset..end].copy_from_slice(data);
        for (index, sector) in data.chunks(512).enumerate() {
            state.pending.push((offset + index * 512, sector.to_vec()));
        }
        Ok(())
    }
}

pub(in crate::apiserver) fn on(medium: &Medium) -> Result<RedbStore, StoreError> {
    let medium = medium.clone();
    // No cache: every read and write reaches the medium.
    RedbStore::with_backends(move || medium.clone(), 0, "id")
}

#[test]
fn a_full_medium_refuses_writes_and_leaves_reads_working() {
    let medium = Medium::default();
    let store = on(&medium).unwrap();
    store.commit(batch(2, &[("a", Some("1"))])).unwrap();
    medium.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let error = store.commit(batch(3, &[("a", Some("2"))])).unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert_eq!((rows(&store, ""), store.snapshot().unwrap().revision()), (vec!["a=1".to_owned()], 2));
    }
    medium.full.store(false, Ordering::SeqCst);
    store.commit(batch(3, &[("a", Some("3")), ("b", Some("1"))])).unwrap();
    assert_eq!(rows(&store, ""), ["a=3", "b=1"]);
    drop(store);
    assert_eq!(rows(&on(&medium).unwrap(), ""), ["a=3", "b=1"]);
}

/// Commits until the power goes; returns the last revision that was acknowledged.
fn work(store: &RedbStore, upto: u64) -> u64 {
    for revision in 2..=upto {
        let text = revision.to_string();
        let key = format!("k/{}", revision % 5);
        if store.commit(batch(revision, &[(&key, Some(&text)), ("last", Some(&text))])).is_err() {
            return revision - 1;
        }
    }
    upto
}

fn state_at(revision: u64) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for revision in 2..=revision {
        state.insert(format!("k/{}", revision % 5), revision.to_string());
        state.insert("last".to_owned(), revision.to_string());
    }
    state
}

#[test]
fn power_lost_at_any_call_costs_no_acknowledged_commit_and_tears_none() {
    const COMMITS: u64 = 4;
    let calls = {
        let medium = Medium::default();
        work(&on(&medium).unwrap(), COMMITS);
        medium.calls.load(Ordering::SeqCst)
    };
    for dies_at in 1..=calls {
        for seed in 0..2 {
            let medium = Medium::default();
            medium.dies_at.store(dies_at, Ordering::SeqCst);
            // Created by one that lost power as well.
            let acknowledged = on(&medium).map_or(1, |store| work(&store, COMMITS));
            medium.lose_power(seed);
            let store = match on(&medium) {
                Ok(store) => store,
                // Power went before the store was made: nothing was acknowledged, and it says so.
                Err(StoreError::Damaged { .. }) if acknowledged == 1 => continue,
                Err(error) => panic!("at call {dies_at}: {error:?}"),
            };
            let found = store.snapshot().unwrap().revision();
            assert!(found >= acknowledged && found <= acknowledged + 1, "call {dies_at}: {found}, {acknowledged}");
            let rows: BTreeMap<String, String> = rows(&store, "")
                .iter()
                .map(|row| row.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap())
                .collect();
            assert_eq!(rows, state_at(found), "call {dies_at}, seed {seed}");
            store.commit(batch(found + 1, &[("last", Some("new"))])).unwrap();
        }
    }
}
