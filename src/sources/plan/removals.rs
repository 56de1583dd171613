//! Clusters that no file declares any more.

use super::applications::is_healthy;
use super::budget::{self, Wish};
use super::declarations::Declarations;
use super::{ABSENCE, Action, Input, Live, Plan, Removal};
use crate::api::annotations;
use crate::api::source::HeldAction;

/// Deletes what is missing, within the budget, once it has been missing for long enough; and forgets ignored documents
/// that changed or are gone. Whether something is missing, but not for long enough.
pub(super) fn remove(input: &Input<'_>, declarations: &Declarations<'_>, root: &str, plan: &mut Plan) -> bool {
    let is_named = |name: &str| declarations.named.contains(name) || input.elsewhere.contains_key(name);
    if !is_healthy(input, declarations) {
        forget_changed(declarations, plan);
        budget::keep_held(plan, |name| !is_named(name) && input.mine().any(|(mine, _)| mine == name));
        return false;
    }
    let missing: Vec<(&String, &Live)> =
        input.mine().filter(|(name, live)| !is_named(name) && live.annotation(annotations::DETACH).is_none()).collect();
    let ignored = plan.status.ignored.iter().map(|entry| &entry.cluster).filter(|name| !is_named(name));
    let absent: Vec<String> = missing.iter().map(|(name, _)| *name).chain(ignored).cloned().collect();
    for name in absent {
        let since = input.absent.get(&name).copied().unwrap_or(input.uptime);
        plan.absent.insert(name, since);
    }
    forget_changed(declarations, plan);
    let is_sure = plan.absent.values().all(|&since| is_sure(input, since));
    if !is_sure {
        let wake = plan.absent.values().max().map_or(input.uptime, |&last| last + ABSENCE);
        plan.wake_at(wake.max(input.uptime + std::time::Duration::from_millis(250)));
        let is_missing = |name: &str| missing.iter().any(|(missing, _)| *missing == name);
        budget::keep_held(plan, is_missing);
        return true;
    }
    forget_gone(&is_named, plan);
    delete(input, &missing, root, plan);
    false
}

/// Whether what has been missing since then is missing for good: everybody else has looked since.
fn is_sure(input: &Input<'_>, since: std::time::Duration) -> bool {
    let others_know = input.others.is_empty() || input.others_looked.is_some_and(|looked| looked >= since);
    input.uptime.saturating_sub(since) >= ABSENCE && others_know
}

fn delete(input: &Input<'_>, missing: &[(&String, &Live)], root: &str, plan: &mut Plan) {
    let wish = |(name, live): (&String, &Live)| Wish { cluster: name.clone(), key: live.uid.clone() };
    let (protected, free): (Vec<_>, Vec<_>) = missing.iter().copied().partition(|(_, live)| live.is_protected());
    budget::show_protected(input, &protected.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), plan);
    let wishes: Vec<Wish> = free.into_iter().map(wish).collect();
    let replaced = input.status.root.as_deref().is_some_and(|known| known != root);
    let only_held = replaced.then_some("the directory is not the one it was, and declares less");
    let granted = budget::grant(input, HeldAction::Delete, &wishes, only_held, plan);
    for wish in wishes.into_iter().filter(|wish| granted.contains(&wish.cluster)) {
        plan.notice(Some(&wish.cluster), false, "Undeclared", "no file declares it any more: it is deleted".to_owned());
        plan.actions.push(Action::Delete { cluster: wish.cluster, uid: wish.key, why: Removal::Undeclared });
    }
}

/// Documents that changed are not ignored any more.
fn forget_changed(declarations: &Declarations<'_>, plan: &mut Plan) {
    plan.status.ignored.retain(|entry| {
        let declared = declarations.good.get(entry.cluster.as_str());
        declared.is_none_or(|declared| declared.document.hash == entry.hash)
    });
}

/// Documents that are gone cannot be ignored: what is declared anew is a new wish.
fn forget_gone(is_named: &dyn Fn(&str) -> bool, plan: &mut Plan) {
    plan.status.ignored.retain(|entry| is_named(&entry.cluster));
}
