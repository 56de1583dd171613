//! Clusters that are declared: made, changed, taken over, let go of, or at the end of their time.

use std::sync::Arc;

use jiff::SignedDuration;

use super::budget::{self, Wish};
use super::declarations::{Declarations, Declared};
use super::{Action, Effect, Input, Live, Owner, Plan, Release, Removal, differences};
use crate::api::class::{Class, heaviest};
use crate::api::source::{HeldAction, IgnoredDocument, IgnoredReason};
use crate::api::{annotations, quantity};

/// Lets go of the Clusters for which somebody asked it. Their documents are ignored until they change.
pub(super) fn detach(input: &Input<'_>, declarations: Option<&Declarations<'_>>, plan: &mut Plan) {
    for (name, live) in input.mine().filter(|(_, live)| live.annotation(annotations::DETACH).is_some()) {
        let declared = declarations.and_then(|declarations| declarations.good.get(name.as_str()));
        let hash = declared.map(|declared| declared.document.hash.as_str());
        let path = declared.map(|declared| declared.path).or(live.annotation(annotations::SOURCE_PATH));
        if let Some(hash) = hash.or(live.annotation(annotations::SOURCE_HASH)) {
            remember(plan, name, path.unwrap_or_default(), hash, IgnoredReason::Detached);
        }
        let message = "detached from its file: it is changed and deleted by hand from now on".to_owned();
        plan.notice(Some(name), false, "Detached", message);
        plan.actions.push(Action::Release { cluster: name.clone(), uid: live.uid.clone(), why: Release::Detached });
    }
}

/// Applies what is declared, where it is not like that yet.
pub(super) fn apply(input: &Input<'_>, declarations: &Declarations<'_>, plan: &mut Plan) {
    let mut recreations = Vec::new();
    for (&name, &declared) in &declarations.good {
        let Some(live) = input.clusters.get(name) else {
            if ignored(plan, declared).is_none() && !is_refused(input, declared) {
                push(plan, declared, Effect::Create);
            }
            continue;
        };
        let owner = input.owner(live);
        // What is being deleted is made again once it is gone; what is let go of is not taken back at once.
        if live.is_deleting || owner != Owner::Hand && live.annotation(annotations::DETACH).is_some() {
            continue;
        }
        if let Some(reason) = ignored(plan, declared) {
            if owner == Owner::Mine {
                resume(input, name, live, reason, declarations, plan);
            }
            continue;
        }
        if owner == Owner::Mine && expire(input, declared, live, declarations, plan) || is_refused(input, declared) {
            continue;
        }
        if let Some(effect) = effect(input, name, live, declared, owner) {
            let is_recreation = heaviest(&differences::spec_changes(live, declared.document)) == Some(Class::Recreate);
            if is_recreation && differences::permits_recreation(live, declared.document) {
                recreations.push((declared, effect));
            } else {
                // A recreation that nobody permitted is refused by the API, which says so best.
                push(plan, declared, effect);
            }
        }
    }
    recreate(input, recreations, plan);
}

/// Recreations lose data as surely as deletions do: they come out of the same budget.
fn recreate(input: &Input<'_>, recreations: Vec<(Declared<'_>, Effect)>, plan: &mut Plan) {
    let wishes: Vec<Wish> = recreations
        .iter()
        .map(|(declared, _)| Wish { cluster: declared.document.name.clone(), key: declared.document.hash.clone() })
        .collect();
    let granted = budget::grant(input, HeldAction::Recreate, &wishes, None, plan);
    for (declared, effect) in recreations {
        if granted.contains(&declared.document.name) {
            push(plan, declared, effect);
        }
    }
}

fn push(plan: &mut Plan, declared: Declared<'_>, effect: Effect) {
    let document = Box::new(declared.document.clone());
    plan.actions.push(Action::Apply { path: declared.path.to_owned(), document, effect });
}

/// What an application would do; `None` where everything is as declared.
fn effect(input: &Input<'_>, name: &str, live: &Arc<Live>, declared: Declared<'_>, owner: Owner) -> Option<Effect> {
    match owner {
        Owner::Hand => return Some(Effect::Adopt),
        // The other source does not declare it any more: it moved here.
        Owner::Other => return Some(Effect::Update),
        Owner::Mine => {}
    }
    let document = declared.document;
    if live.annotation(annotations::SOURCE_HASH) != Some(document.hash.as_str()) {
        return Some(Effect::Update);
    }
    let differing = input.compared.differing(name, live, declared.path, document);
    if !differing.is_empty() {
        return Some(Effect::Revert(differing));
    }
    let has_moved = live.annotation(annotations::SOURCE_PATH) != Some(declared.path)
        || live.annotation(annotations::SOURCE_LINE) != Some(document.line.to_string().as_str());
    has_moved.then_some(Effect::Update)
}

fn is_refused(input: &Input<'_>, declared: Declared<'_>) -> bool {
    let refusal = input.refusals.get(&declared.document.name);
    refusal.is_some_and(|refusal| refusal.hash == declared.document.hash && !refusal.is_due)
}

fn ignored(plan: &Plan, declared: Declared<'_>) -> Option<IgnoredReason> {
    let document = declared.document;
    let entry = plan.status.ignored.iter().find(|entry| entry.cluster == document.name && entry.hash == document.hash);
    entry.map(|entry| entry.reason)
}

fn remember(plan: &mut Plan, name: &str, path: &str, hash: &str, reason: IgnoredReason) {
    plan.status.ignored.retain(|entry| entry.cluster != name);
    let entry = IgnoredDocument { cluster: name.to_owned(), path: path.to_owned(), hash: hash.to_owned(), reason };
    plan.status.ignored.push(entry);
    plan.status.ignored.sort_by(|a, b| a.cluster.cmp(&b.cluster));
}

/// Whether a Cluster's time is over. Its document is remembered first, or it would be made again at once.
fn expire(
    input: &Input<'_>,
    declared: Declared<'_>,
    live: &Live,
    declarations: &Declarations<'_>,
    plan: &mut Plan,
) -> bool {
    let ttl = live.spec.ttl.as_deref().and_then(quantity::duration).and_then(|ttl| SignedDuration::try_from(ttl).ok());
    let end = live.created.zip(ttl).and_then(|(created, ttl)| created.checked_add(ttl).ok());
    let Some(end) = end else { return false };
    if let Ok(rest) = std::time::Duration::try_from(end.duration_since(input.now))
        && !rest.is_zero()
    {
        plan.wake_at(input.uptime + rest);
        return false;
    }
    if live.is_protected() || !is_healthy(input, declarations) {
        return false;
    }
    // Another document may give it more time.
    if declared.document.typed.ttl.as_ref().is_some_and(|ttl| live.spec.ttl.as_ref() != Some(ttl)) {
        return false;
    }
    let document = declared.document;
    remember(plan, &document.name, declared.path, &document.hash, IgnoredReason::Expired);
    let message = format!("its time of {} is over", live.spec.ttl.as_deref().unwrap_or_default());
    plan.notice(Some(&document.name), false, "Expired", message);
    delete_expired(plan, &document.name, live);
    true
}

/// What a crash interrupted between remembering and doing.
fn resume(
    input: &Input<'_>,
    name: &str,
    live: &Live,
    reason: IgnoredReason,
    declarations: &Declarations<'_>,
    plan: &mut Plan,
) {
    match reason {
        IgnoredReason::Detached => {
            plan.actions.push(Action::Release {
                cluster: name.to_owned(),
                uid: live.uid.clone(),
                why: Release::Detached,
            });
        }
        IgnoredReason::Expired if !live.is_protected() && is_healthy(input, declarations) => {
            delete_expired(plan, name, live);
        }
        IgnoredReason::Expired => {}
    }
}

fn delete_expired(plan: &mut Plan, name: &str, live: &Live) {
    plan.actions.push(Action::Delete { cluster: name.to_owned(), uid: live.uid.clone(), why: Removal::Expired });
}

/// Whether what is not there may be taken for removed.
pub(super) fn is_healthy(input: &Input<'_>, declarations: &Declarations<'_>) -> bool {
    input.problems.is_empty() && declarations.errors.is_empty() && input.settled.moving.is_empty()
}
