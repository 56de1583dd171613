//! Status and events of a source.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::declarations::Declarations;
use super::{Action, Input, Plan};
use crate::api::annotations;
use crate::api::conditions::{self, AVAILABLE, HELD, Holds, SETTLED, Verdict, whole_seconds};
use crate::api::source::{HeldSet, SourceFile};
use crate::sources::manifest::hash;

/// The directory is there.
pub(super) fn present(
    input: &Input<'_>,
    declarations: &Declarations<'_>,
    root: &str,
    is_confirming: bool,
    plan: &mut Plan,
) {
    let replaced = input.status.root.as_deref().is_some_and(|known| known != root);
    let is_missing_something = plan.absent.keys().any(|name| input.clusters.contains_key(name))
        || !plan.status.protected.is_empty()
        || plan.status.held.iter().any(|set| set.action == crate::api::source::HeldAction::Delete);
    // Another directory at the path is taken for the source once it declares everything that the old one did.
    let is_healthy = super::applications::is_healthy(input, declarations);
    if !replaced || is_healthy && !is_missing_something {
        plan.status.root = Some(root.to_owned());
    }
    let known = plan.status.root.as_deref() == Some(root);
    let available = if known {
        verdict(AVAILABLE, Holds::True, "Readable", "the directory is there and can be read")
    } else {
        let message =
            "the directory is not the one it was: what it does not declare is not deleted without an approval";
        verdict(AVAILABLE, Holds::False, "RootReplaced", message)
    };
    files(input, declarations, plan);
    plan.status.commit = input.commit.map(str::to_owned);
    let settled = settled(input, declarations, is_confirming, plan);
    let held = held(plan);
    finish(input, plan, &[available, settled, held]);
}

/// The directory is gone, or cannot be read.
pub(super) fn unavailable(input: &Input<'_>, why: &str, plan: &mut Plan) {
    let message = format!("{why}: nothing that it declared is changed or deleted");
    let available = verdict(AVAILABLE, Holds::False, "RootUnavailable", message);
    let settled = verdict(SETTLED, Holds::Unknown, "RootUnavailable", "the files cannot be seen");
    let held = held(plan);
    finish(input, plan, &[available, settled, held]);
}

/// Git is at work in the directory.
pub(super) fn git_operation(input: &Input<'_>, operation: &str, plan: &mut Plan) {
    let message = format!("{operation} is under way in the checkout: its end is waited for");
    let settled = verdict(SETTLED, Holds::False, "GitOperation", message);
    let held = held(plan);
    let available = verdict(AVAILABLE, Holds::True, "Readable", "the directory is there and can be read");
    finish(input, plan, &[available, settled, held]);
}

fn verdict(type_: &'static str, status: Holds, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { type_, status, reason, message: message.into() }
}

fn finish(input: &Input<'_>, plan: &mut Plan, verdicts: &[Verdict]) {
    for verdict in verdicts {
        let before = conditions::get(&input.status.conditions, verdict.type_).map(|condition| condition.status.clone());
        let turned = before.as_deref() != Some(verdict.status.as_str());
        if verdict.type_ == AVAILABLE && turned && (before.is_some() || verdict.status == Holds::False) {
            let is_warning = verdict.status == Holds::False;
            let reason = if is_warning { "SourceUnavailable" } else { "SourceAvailable" };
            plan.notice(None, is_warning, reason, verdict.message.clone());
        }
        conditions::set(&mut plan.status.conditions, verdict, input.generation, input.now);
    }
    plan.status.held_count = count(plan.status.held.iter().map(|set| set.clusters.len()).sum());
    plan.status.observed_generation = input.generation;
    if let Some(id) = input.approve
        && may_judge_approval(input, plan, id)
    {
        plan.actions.push(Action::ClearApproval);
        let was_granted = plan.notices.iter().any(|notice| notice.reason == "Approved");
        if !was_granted {
            let message = format!("nothing is held under the id {id}: the set has changed, or was carried out");
            plan.notice(None, true, "ApprovalRefused", message);
        }
    }
}

/// An approval waits while the set it names is held and nothing can be decided; otherwise it was used, or names nothing.
fn may_judge_approval(input: &Input<'_>, plan: &Plan, id: &str) -> bool {
    let is_held = plan.status.held.iter().any(|set| set.id == id);
    !is_held && matches!(input.root, crate::sources::scan::Root::Present(_))
}

fn held(plan: &Plan) -> Verdict {
    match plan.status.held.as_slice() {
        [] => verdict(HELD, Holds::False, "NothingHeld", "nothing waits for an approval"),
        sets => {
            let text = |set: &HeldSet| format!("{} (`kina approve {}` lets it happen)", set.message, set.id);
            let texts: Vec<String> = sets.iter().map(text).collect();
            verdict(HELD, Holds::True, "Held", texts.join("; "))
        }
    }
}

fn settled(input: &Input<'_>, declarations: &Declarations<'_>, is_confirming: bool, plan: &Plan) -> Verdict {
    let not = |reason, message: String| verdict(SETTLED, Holds::False, reason, message);
    if let Some((path, errors)) = declarations.errors.iter().next() {
        let line = errors.first().map_or(0, |error| error.line);
        let more = match declarations.errors.len() {
            1 => String::new(),
            files => format!(" and {} more files", files - 1),
        };
        return not("FileErrors", format!("{path}:{line}{more}: nothing is deleted until this is mended"));
    }
    if let Some(problem) = input.problems.first() {
        return not(
            "Incomplete",
            format!("{}: {}: nothing is deleted until it can be seen", problem.path, problem.message),
        );
    }
    if let Some(path) = input.settled.restless.first() {
        return not("Settling", format!("{path} keeps changing"));
    }
    if !input.settled.moving.is_empty() {
        return not("Settling", format!("{} files are changing", input.settled.moving.len()));
    }
    let works = plan.actions.iter().filter(|action| **action != Action::ClearApproval).count();
    if works > 0 {
        return not("Applying", format!("{works} changes are carried out"));
    }
    if is_confirming {
        return not("Confirming", "waiting whether what is missing comes back".to_owned());
    }
    let waiting = declarations.good.keys().find(|name| input.clusters.get(**name).is_some_and(|live| live.is_deleting));
    if let Some(name) = waiting {
        return not("Deleting", format!("{name} is made again once its deletion is over"));
    }
    verdict(SETTLED, Holds::True, "Applied", "every file is applied as it is")
}

fn files(input: &Input<'_>, declarations: &Declarations<'_>, plan: &mut Plan) {
    let mut files = Vec::new();
    for (path, manifest) in input.files {
        let errors = declarations.errors.get(path.as_str()).cloned().unwrap_or_default();
        if errors.is_empty() && manifest.is_foreign() {
            continue;
        }
        let mut clusters: Vec<String> = if errors.is_empty() {
            manifest.documents.iter().map(|document| document.name.clone()).collect()
        } else {
            let of_file = |live: &super::Live| live.annotation(annotations::SOURCE_PATH) == Some(path.as_str());
            input.mine().filter(|(_, live)| of_file(live)).map(|(name, _)| name.clone()).collect()
        };
        clusters.sort();
        files.push(SourceFile { path: path.clone(), clusters, errors });
    }
    for file in files.iter().filter(|file| !file.errors.is_empty()) {
        let before = input.status.files.iter().find(|before| before.path == file.path);
        if before.is_none_or(|before| before.errors != file.errors) {
            announce(file, plan);
        }
    }
    let revision = revision(input, &files);
    if plan.status.revision.as_deref() != Some(revision.as_str()) {
        plan.status.revision = Some(revision);
        plan.status.last_change = Some(Time(whole_seconds(input.now)));
    }
    plan.status.clusters = count(files.iter().map(|file| file.clusters.len()).sum());
    plan.status.errors = count(files.iter().map(|file| file.errors.len()).sum());
    plan.status.files = files;
}

fn announce(file: &SourceFile, plan: &mut Plan) {
    let Some(first) = file.errors.first() else { return };
    let place = match (first.line, first.column) {
        (0, _) => file.path.clone(),
        (line, column) => format!("{}:{line}:{column}", file.path),
    };
    let more = match file.errors.len() {
        1 => String::new(),
        errors => format!(" (and {} more)", errors - 1),
    };
    plan.notice(None, true, "SourceInvalid", format!("{place}: {}{more}", first.message));
}

fn revision(input: &Input<'_>, files: &[SourceFile]) -> String {
    let line = |file: &SourceFile| {
        let hash = input.hashes.get(&file.path).map(String::as_str).unwrap_or_default();
        format!("{} {hash}\n", file.path)
    };
    hash(files.iter().map(line).collect::<String>().as_bytes())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
