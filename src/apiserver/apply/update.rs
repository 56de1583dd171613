//! The two operations on managed fields: update and apply (`structured-merge-diff/merge/update.go`).

use std::sync::OnceLock;

use serde_json::Value;

use super::compare::{Comparison, compare, equal};
use super::fields::{fields_of, with_named_fields, without};
use super::managers::{Entry, Manager, Managers};
use super::merge::merge;
use super::set::{Set, Step, print_path};
use super::types::Type;
use super::{ApplyError, Conflict};

/// Where and when an operation happens.
pub(super) struct At<'a> {
    pub(super) of: Type<'a>,
    pub(super) api_version: &'a str,
    pub(super) time: String,
}

/// Gives what an update changed to its manager, and takes it from all others.
pub(super) fn update(at: &At<'_>, old: &Value, new: &Value, managers: &mut Managers, manager: Manager) {
    let comparison = compare(at.of, old, new);
    take_over(&comparison, managers, None);
    let Comparison { added, modified: mut taken, .. } = comparison;
    taken.absorb(added);
    taken.remove(never_managed());
    if taken.is_empty() {
        return;
    }
    let mut set = managers.0.remove(&manager).map(|entry| entry.set).unwrap_or_default();
    set.absorb(taken);
    managers.0.insert(manager, Entry { set, api_version: at.api_version.to_owned(), time: Some(at.time.clone()) });
}

/// Merges a configuration, removes what the manager applied before and does not now, and settles who manages what.
pub(super) fn apply(
    at: &At<'_>,
    live: &Value,
    config: &Value,
    managers: &Managers,
    manager: &Manager,
    force: bool,
) -> Result<(Value, Managers), ApplyError> {
    let mut managers = managers.clone();
    let merged = merge(at.of, Some(live), Some(config)).unwrap_or_default();
    let last = managers.0.get(manager).cloned();
    let set = fields_of(at.of, config);
    managers.0.insert(
        manager.clone(),
        Entry { set, api_version: at.api_version.to_owned(), time: last.as_ref().and_then(|last| last.time.clone()) },
    );
    let object = match &last {
        Some(last) if !last.set.is_empty() => prune(at.of, &merged, &managers, &last.set),
        _ => merged,
    };
    let comparison = compare(at.of, live, &object);
    let conflicts = conflicts(&comparison, &managers, manager);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    take_over(&comparison, &mut managers, Some(manager));
    let unchanged = equal(live, &object);
    if let Some(mut entry) = managers.0.remove(manager) {
        entry.set.remove(never_managed());
        let known = last.is_some_and(|last| last.set == entry.set && last.time.is_some());
        if !unchanged || !known {
            entry.time = Some(at.time.clone());
        }
        if !entry.set.is_empty() {
            managers.0.insert(manager.clone(), entry);
        }
    }
    Ok((object, managers))
}

fn conflicts(comparison: &Comparison, managers: &Managers, except: &Manager) -> Vec<Conflict> {
    let changed = comparison.modified.union(&comparison.added);
    let others = managers.0.iter().filter(|(id, _)| *id != except);
    others
        .flat_map(|(id, entry)| {
            let manager = id.print();
            let paths = entry.set.intersection(&changed).paths();
            paths.into_iter().map(move |path| Conflict { manager: manager.clone(), field: print_path(&path) })
        })
        .collect()
}

/// Takes changed and removed fields from every manager but one, and drops managers that manage nothing any more.
fn take_over(comparison: &Comparison, managers: &mut Managers, except: Option<&Manager>) {
    for (_, entry) in managers.0.iter_mut().filter(|(id, _)| Some(*id) != except) {
        for gone in [&comparison.modified, &comparison.added, &comparison.removed] {
            entry.set.remove(gone);
        }
    }
    managers.0.retain(|_, entry| !entry.set.is_empty());
}

/// Removes from the merged object what was applied last time, is not now, and nobody else manages.
fn prune(of: Type<'_>, merged: &Value, managers: &Managers, last: &Set) -> Value {
    let last = with_named_fields(of, last);
    let pruned = without(of, merged, &last);
    // What others, or the new configuration, manage comes back …
    let managed = managers.0.values().fold(Set::default(), |all, entry| all.union(&entry.set));
    let kept = with_named_fields(of, &fields_of(of, &pruned)).union(&with_named_fields(of, &managed));
    let merged_fields = with_named_fields(of, &fields_of(of, merged));
    let pruned = without(of, merged, &merged_fields.difference(&kept));
    // … and so does what was never applied by this manager.
    let pruned_fields = with_named_fields(of, &fields_of(of, &pruned));
    without(of, merged, &merged_fields.difference(&pruned_fields).intersection(&last))
}

/// Fields that nobody manages: identity, and what the server sets (`stripmeta.go`).
fn never_managed() -> &'static Set {
    static SET: OnceLock<Set> = OnceLock::new();
    SET.get_or_init(|| {
        let mut set = Set::default();
        for field in ["apiVersion", "kind", "metadata"] {
            set.insert(&[Step::field(field)]);
        }
        for field in [
            "clusterName",
            "creationTimestamp",
            "generation",
            "managedFields",
            "name",
            "namespace",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            set.insert(&[Step::field("metadata"), Step::field(field)]);
        }
        set
    })
}
