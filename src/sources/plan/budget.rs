//! The budget for what loses data, and what is held beyond it.
//!
//! Within a rolling hour a source may delete or recreate one Cluster, or a fifth of those that it declared at the hour's
//! start, whichever is more. A set of wishes that does not fit as a whole is held as a whole: to carry out an arbitrary
//! part of it would help nobody. What is held stays so until it is approved, or the wish is gone.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Input, Plan};
use crate::api::conditions::whole_seconds;
use crate::api::source::{HeldAction, HeldSet, ProtectedCluster, SpentBudget};
use crate::sources::manifest::hash;

/// The window over which the budget counts.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// Share of the declared Clusters: a fifth.
const SHARE: usize = 5;
/// Digits of an id. Two sets of one source that are held at a time must differ, nothing else.
const ID_DIGITS: usize = 8;

/// One deletion or recreation that is wished for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wish {
    pub cluster: String,
    /// What exactly is meant; see [`SpentBudget::key`].
    pub key: String,
}

/// Which wishes may be carried out now. The rest is held in the plan's status. With `only_held` nothing is granted
/// without an approval, for the reason that it names.
pub(super) fn grant(
    input: &Input<'_>,
    action: HeldAction,
    wishes: &[Wish],
    only_held: Option<&str>,
    plan: &mut Plan,
) -> BTreeSet<String> {
    forget_old(plan, input.now);
    let already = |wish: &Wish| {
        plan.status
            .spent
            .iter()
            .any(|spent| spent.action == action && spent.cluster == wish.cluster && spent.key == wish.key)
    };
    let (going_on, wishes): (Vec<&Wish>, Vec<&Wish>) = wishes.iter().partition(|wish| already(wish));
    let mut granted: BTreeSet<String> = going_on.into_iter().map(|wish| wish.cluster.clone()).collect();

    let before = take_held(plan, action);
    let was_held = |wish: &&Wish| before.as_ref().is_some_and(|set| set.clusters.contains(&wish.cluster));
    let (held, new): (Vec<&Wish>, Vec<&Wish>) = wishes.into_iter().partition(|wish| was_held(wish));

    let fits = plan.status.spent.len() + new.len() <= limit(input, plan);
    let (held, now) = if new.is_empty() || only_held.is_none() && fits {
        (held, new)
    } else {
        (held.into_iter().chain(new).collect(), Vec::new())
    };
    spend(plan, action, &now, input.now, &mut granted);
    if held.is_empty() {
        return granted;
    }
    let set = held_set(input, action, &held, only_held, before.as_ref(), plan);
    if input.approve == Some(set.id.as_str()) {
        plan.notice(None, false, "Approved", format!("{} approved: {}", set.id, set.clusters.join(", ")));
        spend(plan, action, &held, input.now, &mut granted);
    } else {
        announce(plan, &set, before.as_ref());
        plan.status.held.push(set);
    }
    granted
}

/// Shows protected Clusters that no file declares any more: their deletion is never sent, and no approval helps.
pub(super) fn show_protected(input: &Input<'_>, clusters: &[&String], plan: &mut Plan) {
    let before = std::mem::take(&mut plan.status.protected);
    for &cluster in clusters {
        let known = before.iter().find(|known| known.cluster == *cluster).cloned();
        if known.is_none() {
            let message = "no file declares it any more, and it stays: it is protected".to_owned();
            plan.notice(Some(cluster), true, "DeletionRefused", message);
        }
        let new = || ProtectedCluster { cluster: cluster.clone(), since: Time(whole_seconds(input.now)) };
        plan.status.protected.push(known.unwrap_or_else(new));
    }
}

/// Drops from the deletions that are held whatever is not wished for any more, while nothing can be decided.
pub(super) fn keep_held(plan: &mut Plan, still_wished: impl Fn(&str) -> bool) {
    for set in plan.status.held.iter_mut().filter(|set| set.action == HeldAction::Delete) {
        set.clusters.retain(|cluster| still_wished(cluster));
    }
    plan.status.held.retain(|set| !set.clusters.is_empty());
    plan.status.protected.retain(|protected| still_wished(&protected.cluster));
}

/// How many deletions and recreations the window may have.
fn limit(input: &Input<'_>, plan: &Plan) -> usize {
    let start = input.now.checked_sub(WINDOW).unwrap_or(Timestamp::MIN);
    let still_there = input.mine().filter(|(_, live)| live.created.is_some_and(|created| created <= start)).count();
    let is_gone = |spent: &&SpentBudget| {
        spent.action == HeldAction::Delete && !input.mine().any(|(_, live)| live.uid == spent.key)
    };
    let gone = plan.status.spent.iter().filter(is_gone).count();
    ((still_there + gone) / SHARE).max(1)
}

/// What was spent before the window. Times to come (the clock was set back) count on.
fn forget_old(plan: &mut Plan, now: Timestamp) {
    let start = now.checked_sub(WINDOW).unwrap_or(Timestamp::MIN);
    plan.status.spent.retain(|spent| spent.at.0 > start);
}

fn take_held(plan: &mut Plan, action: HeldAction) -> Option<HeldSet> {
    let position = plan.status.held.iter().position(|set| set.action == action)?;
    Some(plan.status.held.remove(position))
}

fn spend(plan: &mut Plan, action: HeldAction, wishes: &[&Wish], now: Timestamp, granted: &mut BTreeSet<String>) {
    for wish in wishes {
        granted.insert(wish.cluster.clone());
        let at = Time(whole_seconds(now));
        plan.status.spent.push(SpentBudget { cluster: wish.cluster.clone(), action, key: wish.key.clone(), at });
    }
}

fn held_set(
    input: &Input<'_>,
    action: HeldAction,
    held: &[&Wish],
    only_held: Option<&str>,
    before: Option<&HeldSet>,
    plan: &Plan,
) -> HeldSet {
    let mut held = held.to_vec();
    held.sort();
    let id = id_of(action, &held);
    let why = match only_held {
        Some(why) => why.to_owned(),
        None => too_many(action, held.len(), limit(input, plan), plan.status.spent.len()),
    };
    // The reason it was held for stays: the budget that is free meanwhile does not change that it was too much.
    let (message, since) = match before.filter(|before| before.id == id) {
        Some(before) => (before.message.clone(), before.since.clone()),
        None => (why, Time(whole_seconds(input.now))),
    };
    HeldSet { id, action, clusters: held.into_iter().map(|wish| wish.cluster.clone()).collect(), message, since }
}

fn too_many(action: HeldAction, wished: usize, limit: usize, spent: usize) -> String {
    let clusters = if wished == 1 { "cluster" } else { "clusters" };
    let done = match action {
        HeldAction::Delete => "deleted",
        HeldAction::Recreate => "made anew",
    };
    let already = match spent {
        0 => String::new(),
        1 => ", and 1 was already".to_owned(),
        spent => format!(", and {spent} were already"),
    };
    format!("{wished} {clusters} would be {done}; at most {limit} may be deleted or made anew within an hour{already}")
}

fn id_of(action: HeldAction, wishes: &[&Wish]) -> String {
    let members: Vec<String> = wishes.iter().map(|wish| format!("{}={}", wish.cluster, wish.key)).collect();
    let mut id = hash(format!("{action:?} {}", members.join(" ")).as_bytes());
    id.truncate(ID_DIGITS);
    id
}

fn announce(plan: &mut Plan, set: &HeldSet, before: Option<&HeldSet>) {
    if before.is_some_and(|before| before.id == set.id) {
        return;
    }
    let reason = match set.action {
        HeldAction::Delete => "DeletionHeld",
        HeldAction::Recreate => "RecreationHeld",
    };
    let mut clusters = set.clusters.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    if set.clusters.len() > 10 {
        clusters.push_str(&format!(" and {} more", set.clusters.len() - 10));
    }
    plan.notice(None, true, reason, format!("{clusters}: {} (`kina approve {}` lets it happen)", set.message, set.id));
}
