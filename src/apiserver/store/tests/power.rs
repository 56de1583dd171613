//! The power goes, at every call of the medium in turn.

use super::medium::{Fault, Kept, Trouble};
use super::workload::{State, after, commits, found, seeds, tell, transaction};
use super::*;

/// Commits until a commit fails; what was acknowledged, and what it would be with the one that failed.
fn work(store: &RedbStore) -> (State, Option<State>) {
    let mut state = State::new();
    for n in 1..=commits() {
        let batch = transaction(n, n + 1);
        let next = after(state.clone(), &batch);
        if store.commit(batch).is_err() {
            return (state, Some(next));
        }
        state = next;
    }
    (state, None)
}

#[test]
fn power_lost_at_any_call_costs_no_acknowledged_commit_and_tears_none() {
    let calls = {
        let medium = Medium::default();
        let store = on(&medium).unwrap();
        work(&store);
        drop(store);
        medium.calls(Fault::Power)
    };
    let (mut runs, mut kept_after_all) = (0_u64, 0_u64);
    for at in 1..=calls {
        let modes = (1..=seeds(1)).flat_map(|seed| {
            let seed = seed * 1_000_003 + at;
            [Kept::Some(seed), Kept::TornLast(seed), Kept::Sectors(seed)]
        });
        for kept in std::iter::once(Kept::Nothing).chain(modes) {
            runs += 1;
            kept_after_all += u64::from(lost(at, kept));
        }
    }
    tell(&format!("{runs} losses of power at {calls} calls; {kept_after_all} times a commit in flight was kept"));
    assert!(kept_after_all > 0, "commits in flight are lost and kept");
}

/// One loss of power. Whether the commit in flight was there afterwards.
fn lost(at: u64, kept: Kept) -> bool {
    let medium = Medium::default();
    medium.begin(Trouble { at, kind: Fault::Power });
    // Created by one that lost power as well.
    let opened = on(&medium).ok();
    let (acknowledged, in_flight) = opened.as_ref().map_or((State::new(), None), work);
    let was_opened = opened.is_some();
    drop(opened);
    medium.lose_power(kept);
    let store = match on(&medium) {
        Ok(store) => store,
        // Power went before the store was made: nothing was acknowledged, and it says so.
        Err(StoreError::Damaged { .. }) if !was_opened => return false,
        Err(error) => panic!("at call {at}, {kept:?}: {error:?}"),
    };
    let (revision, state) = found(&store).unwrap();
    let is_kept = in_flight.as_ref() == Some(&state);
    assert!(state == acknowledged || is_kept, "at call {at}, {kept:?}: neither before nor after");
    assert_eq!(expected_revision(&state), revision, "at call {at}, {kept:?}: the revision belongs to the rows");
    // And it goes on, through another loss.
    let batch = transaction(revision, revision + 1);
    let next = after(state, &batch);
    store.commit(batch).unwrap();
    drop(store);
    medium.lose_power(Kept::Nothing);
    assert_eq!(found(&on(&medium).unwrap()).unwrap(), (revision + 1, next), "at call {at}, {kept:?}");
    is_kept
}

/// The revision of the newest transaction of which there are rows.
fn expected_revision(state: &State) -> u64 {
    let newest = state.iter().filter(|(key, _)| key.starts_with("last/")).map(|(_, value)| number(value)).max();
    newest.unwrap_or(0) + 1
}

fn number(value: &str) -> u64 {
    value.split(':').next().unwrap().parse().unwrap()
}
