//! What rots, is cut off or was never a store.

use super::medium::PAGE;
use super::workload::{State, found, seeds, tell, transaction};
use super::*;

/// A store of some pages, closed in order or as by a crash.
fn bytes(in_order: bool) -> Vec<u8> {
    let medium = Medium::default();
    let store = on(&medium).unwrap();
    for n in 1..=41 {
        store.commit(transaction(n, n + 1)).unwrap();
    }
    if in_order {
        drop(store);
    } else {
        std::mem::forget(store);
    }
    medium.bytes()
}

/// Opens what is there; whether it was refused. What is not refused is as it was.
fn is_refused(bytes: &[u8], expected: &(u64, State), what: &str) -> bool {
    let medium = Medium::of(bytes);
    match on(&medium).and_then(|store| found(&store)) {
        Err(StoreError::Damaged { .. }) => {
            assert_eq!(medium.bytes(), bytes, "{what}: refused and left as it is");
            true
        }
        Err(error) => panic!("{what}: {error:?}"),
        Ok(found) => {
            assert_eq!(found.0, expected.0, "{what}: an older state");
            assert!(found == *expected, "{what}: another state");
            false
        }
    }
}

#[test]
fn a_page_that_rotted_is_refused_or_not_in_use() {
    for in_order in [true, false] {
        let sound = bytes(in_order);
        let expected = found(&on(&Medium::of(&sound)).unwrap()).unwrap();
        let (mut runs, mut refused) = (0, 0);
        for (page, content) in sound.chunks(PAGE).enumerate() {
            // A page of zeros was never used. The first is the header, all fields of which are tried.
            if content.iter().all(|byte| *byte == 0) {
                continue;
            }
            let somewhere = |seed: u64| usize::try_from(seed * 2_654_435_761 % PAGE as u64).unwrap();
            let places: Vec<usize> =
                if page == 0 { (0..320).step_by(7).collect() } else { (1..=seeds(1)).map(somewhere).collect() };
            for place in places {
                let at = page * PAGE + place;
                let mut rotten = sound.clone();
                rotten[at] ^= 1 << (place % 8);
                runs += 1;
                refused +=
                    u64::from(is_refused(&rotten, &expected, &format!("byte {place} of page {page}, {in_order}")));
            }
            let mut zero = sound.clone();
            zero[page * PAGE..(page + 1) * PAGE].fill(0);
            runs += 1;
            refused += u64::from(is_refused(&zero, &expected, &format!("page {page} zero, {in_order}")));
        }
        tell(&format!("closed in order: {in_order}; {runs} damages, {refused} refused, the others harmless"));
        assert!(refused > 0);
    }
}

#[test]
fn a_store_that_was_cut_off_is_refused() {
    let sound = bytes(true);
    let expected = found(&on(&Medium::of(&sound)).unwrap()).unwrap();
    let cuts = (1..sound.len()).step_by(if seeds(0) > 0 { 4093 } else { 3 * 4096 + 7 });
    let refused = cuts.map(|length| is_refused(&sound[..length], &expected, &format!("cut at {length}")));
    assert!(refused.filter(|refused| *refused).count() > 10);
}
