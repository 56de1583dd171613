//! The disk fails or is full, at every call of the medium in turn; the process goes on.

use std::sync::atomic::Ordering;

use super::medium::{Fault, Kept, Trouble};
use super::workload::{State, after, commits, found, seeds, tell, transaction};
use super::*;

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

/// Works as the server does: each commit takes the revision after the last that it saw. Returns what is there at the
/// end, and how many commits were refused.
fn work(store: &RedbStore, medium: &Medium, fault: Fault, context: &str) -> (u64, State, u64) {
    let (mut revision, mut state) = found(store).unwrap_or((1, State::new()));
    let mut refused = 0;
    for n in 1..=commits() {
        if fault == Fault::Full && n == commits() {
            medium.end_trouble();
        }
        let batch = transaction(n, revision + 1);
        let next = after(state.clone(), &batch);
        match store.commit(batch) {
            Ok(()) => (revision, state) = (revision + 1, next),
            Err(error) => {
                refused += 1;
                match error {
                    StoreError::Full(_) => assert_eq!(fault, Fault::Full, "{context}"),
                    StoreError::Write(_) | StoreError::Read(_) => {
                        assert_eq!(fault, Fault::Once, "{context}: {error:?}")
                    }
                    other => panic!("{context}: {other:?}"),
                }
                // Reads go on, and tell whether the commit was made after all.
                let seen = found(store).or_else(|_| found(store)).unwrap();
                let made = (revision + 1, next);
                assert!(seen == (revision, state.clone()) || seen == made, "{context}: torn by a refused commit");
                (revision, state) = seen;
            }
        }
    }
    (revision, state, refused)
}

/// Runs the workload with a fault at one call, then loses power with nothing unsynced kept.
fn fails(at: u64, kind: Fault) -> u64 {
    let context = format!("{kind:?} at call {at}");
    let medium = Medium::default();
    let store = on(&medium).unwrap();
    medium.begin(Trouble { at: medium.calls(kind) + at, kind });
    let (revision, state, refused) = work(&store, &medium, kind, &context);
    medium.end_trouble();
    assert_eq!(found(&store).or_else(|_| found(&store)).unwrap(), (revision, state.clone()), "{context}");
    let batch = transaction(commits() + 1, revision + 1);
    let state = after(state, &batch);
    store.commit(batch).unwrap_or_else(|error| panic!("{context}: works again: {error:?}"));
    // The process ends as a crash would: nothing is closed in order.
    std::mem::forget(store);
    medium.lose_power(Kept::Nothing);
    let store = on(&medium).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    assert_eq!(found(&store).unwrap(), (revision + 1, state), "{context}: what was acknowledged is there");
    refused
}

fn sweep(kind: Fault) {
    let calls = {
        let medium = Medium::default();
        let store = on(&medium).unwrap();
        let before = medium.calls(kind);
        work(&store, &medium, Fault::Power, "no fault");
        medium.calls(kind) - before
    };
    // The long run also looks where no call of the plain workload is: into recovery.
    let upto = if seeds(0) > 0 { calls * 2 } else { calls };
    let refused: u64 = (1..=upto).map(|at| fails(at, kind)).sum();
    tell(&format!("{kind:?}: {upto} runs, {refused} commits refused"));
    assert!(refused > 0);
}

#[test]
fn a_call_that_fails_refuses_a_write_and_nothing_acknowledged_is_lost_later() {
    sweep(Fault::Once);
}

#[test]
fn space_that_runs_out_at_any_call_refuses_writes_until_there_is_some_again() {
    sweep(Fault::Full);
}

#[test]
fn a_disk_that_fails_while_the_store_is_opened_is_not_taken_for_damage() {
    let sound = {
        let medium = Medium::default();
        let store = on(&medium).unwrap();
        store.commit(transaction(1, 2)).unwrap();
        drop(store);
        medium.bytes()
    };
    let calls = {
        let medium = Medium::of(&sound);
        let _store = on(&medium).unwrap();
        medium.calls(Fault::Once)
    };
    for at in 1..=calls {
        let medium = Medium::of(&sound);
        medium.begin(Trouble { at, kind: Fault::Once });
        match on(&medium) {
            // Where looking at it ends, nothing is written any more: a failure there hurts nobody.
            Err(StoreError::Open { .. }) | Ok(_) => {}
            Err(error) => panic!("call {at}: {error:?}"),
        }
        assert_eq!(found(&on(&medium).unwrap()).unwrap().0, 2, "call {at}: the next start finds it");
    }
}
