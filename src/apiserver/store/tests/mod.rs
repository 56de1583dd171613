//! The store on files that are sound, damaged, newer, locked; and on a medium that fails or loses power.

mod damage;
mod failures;
mod medium;
mod power;
mod workload;

use std::ops::ControlFlow;

use bytes::Bytes;

pub(in crate::apiserver) use medium::Medium;

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
    // Somebody else's database, and one without anything in it.
    for table in [Some("theirs"), None] {
        std::fs::remove_file(&path).unwrap();
        tables::tests_only_foreign(&path, table);
        let content = std::fs::read(&path).unwrap();
        let error = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "id").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(std::fs::read(&path).unwrap() == content, "left as it is");
    }
    std::fs::remove_file(&path).unwrap();
    drop(RedbStore::open(&path, DEFAULT_CACHE_BYTES, "id").unwrap());
    let half = std::fs::metadata(&path).unwrap().len() / 2;
    std::fs::copy(&path, home.path().join("half")).unwrap();
    std::fs::File::options().write(true).open(home.path().join("half")).unwrap().set_len(half).unwrap();
    let error = RedbStore::open(&home.path().join("half"), DEFAULT_CACHE_BYTES, "id").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    tables::tests_only_set_format(&path, "2");
    let error = RedbStore::open(&path, DEFAULT_CACHE_BYTES, "id").unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error:?}");
}

pub(in crate::apiserver) fn on(medium: &Medium) -> Result<RedbStore, StoreError> {
    let medium = medium.clone();
    // No cache: every read and write reaches the medium.
    RedbStore::with_backends(move || medium.clone(), 0, "id")
}
