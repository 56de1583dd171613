//! Transactions of every kind, and what must be there after them.

use std::collections::BTreeMap;

use super::*;

/// What a store holds.
pub(super) type State = BTreeMap<String, String>;

/// The `n`-th transaction, as this revision: several rows that belong together, small ones and ones that span pages,
/// a removal, and now and then a whole prefix dropped.
pub(super) fn transaction(n: u64, revision: u64) -> Batch {
    let text = |length: usize| Some(Bytes::from(format!("{n}:").repeat(length)));
    let slot = n % 3;
    let mut writes = vec![
        (format!("idx/{slot}/{n}"), Some(Bytes::new())),
        (format!("last/{}", n % 2), text(1)),
        (format!("obj/{slot}"), text(if n.is_multiple_of(2) { 3000 } else { 40 })),
    ];
    if let Some(older) = n.checked_sub(3) {
        writes.push((format!("idx/{slot}/{older}"), None));
    }
    writes.sort();
    let dropped = if n.is_multiple_of(4) { vec!["obj/".to_owned()] } else { Vec::new() };
    Batch { revision, dropped, writes }
}

/// A state after a batch.
pub(super) fn after(mut state: State, batch: &Batch) -> State {
    state.retain(|key, _| !batch.dropped.iter().any(|prefix| key.starts_with(prefix)));
    for (key, value) in &batch.writes {
        match value {
            Some(value) => state.insert(key.clone(), String::from_utf8(value.to_vec()).unwrap()),
            None => state.remove(key),
        };
    }
    state
}

/// Revision and content of one snapshot.
pub(super) fn found(store: &dyn Store) -> Result<(u64, State), StoreError> {
    let snapshot = store.snapshot()?;
    let mut state = State::new();
    snapshot.visit("", "", &mut |key, value| {
        state.insert(key.to_owned(), String::from_utf8_lossy(value).into_owned());
        ControlFlow::Continue(())
    })?;
    Ok((snapshot.revision(), state))
}

/// How many seeds a sweep takes: `KINA_STORE_SEEDS` for a long run, else `few`.
pub(super) fn seeds(few: u64) -> u64 {
    std::env::var("KINA_STORE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Transactions of a sweep: each kind once, or more in a long run.
pub(super) fn commits() -> u64 {
    if seeds(0) > 0 { 15 } else { 5 }
}

/// Tells what a sweep went through, where somebody looks (`--nocapture`).
#[expect(clippy::print_stderr, reason = "figures of a test")]
pub(super) fn tell(figures: &str) {
    eprintln!("{figures}");
}
