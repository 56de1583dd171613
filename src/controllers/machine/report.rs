//! What status says of a Machine: derived from one pass, written only where its substance differs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{ClusterState, Facts, HostFacts, Inside};
use super::observe::Subject;
use super::plan::Plan;
use super::wait::Wait;
use crate::api::conditions::{
    self, BOOTSTRAPPED, CONTAINER_READY, DRIFTED, Holds, NODE_READY, READY, STALLED, Verdict, Waiting, whole_seconds,
};
use crate::api::machine::{Failure, FailureClass, MachineStatus, Turn};
use crate::controllers::host::Found;
use crate::runtime::ContainerState;

/// The status after a pass.
#[must_use]
pub fn status(
    subject: &Subject,
    facts: &Facts,
    plan: &Plan,
    failure: Option<Failure>,
    now: Timestamp,
) -> MachineStatus {
    let before = subject.machine.status.clone().unwrap_or_default();
    let generation = subject.machine.metadata.generation;
    let mut status = MachineStatus {
        observed_generation: generation,
        conditions: before.conditions,
        container_id: before.container_id,
        container_hash: before.container_hash,
        waiting: plan.wait.as_ref().map(|wait| waiting(wait, before.waiting.as_ref(), now)),
        failure: failure.filter(|_| !plan.ready || plan.wait.is_some()),
        ..MachineStatus::default()
    };
    let mode = subject.drift_mode();
    status.drift = plan.findings.iter().map(|finding| finding.told(&subject.name, mode, &before.drift, now)).collect();
    for verdict in verdicts(facts, plan, status.failure.as_ref()) {
        conditions::set(&mut status.conditions, &verdict, generation, now);
    }
    status.phase = Some(phase(subject, facts, plan, &status).to_owned());
    status
}

/// What is waited for, since it is waited for that.
#[must_use]
pub fn waiting(wait: &Wait, before: Option<&Waiting>, now: Timestamp) -> Waiting {
    let since = before.filter(|before| before.reason == wait.reason()).map(|before| before.since.clone());
    Waiting {
        reason: wait.reason().to_owned(),
        message: wait.message(),
        since: since.unwrap_or_else(|| Time(whole_seconds(now))),
    }
}

fn verdicts(facts: &Facts, plan: &Plan, failure: Option<&Failure>) -> Vec<Verdict> {
    let verdict = |type_, status, reason, message: String| Verdict { type_, status, reason, message };
    let because =
        |fallback: &'static str| plan.wait.as_ref().map_or((fallback, String::new()), |w| (w.reason(), w.message()));
    let mut all = vec![container_ready(facts, plan)];
    all.push(match (plan.bootstrapped, &facts.inside) {
        (true, _) => verdict(BOOTSTRAPPED, Holds::True, "Bootstrapped", String::new()),
        (false, Inside::Silent(_)) => verdict(BOOTSTRAPPED, Holds::Unknown, "NodeSilent", String::new()),
        (false, _) => verdict(BOOTSTRAPPED, Holds::False, because("Pending").0, because("").1),
    });
    all.push(match (&facts.api.node, facts.api.answers) {
        (Some(node), Some(true)) if node.ready && node.renewed => {
            verdict(NODE_READY, Holds::True, "NodeReady", String::new())
        }
        (Some(node), Some(true)) if node.ready => {
            verdict(NODE_READY, Holds::Unknown, "LeaseNotRenewed", Wait::LeaseNotRenewed.message())
        }
        (Some(node), Some(true)) => verdict(NODE_READY, Holds::False, "NodeNotReady", node.message.clone()),
        (None, Some(true)) if facts.api.listed => verdict(NODE_READY, Holds::False, "NodeMissing", String::new()),
        _ => verdict(NODE_READY, Holds::Unknown, "ApiAway", Wait::ApiAway.message()),
    });
    let ready = match &plan.wait {
        _ if plan.ready && !facts.deleting => verdict(READY, Holds::True, "Ready", String::new()),
        Some(wait @ (Wait::RuntimeSilent(_) | Wait::ApiAway | Wait::NodeSilent(_) | Wait::LeaseNotRenewed)) => {
            verdict(READY, Holds::Unknown, wait.reason(), wait.message())
        }
        _ if facts.deleting => verdict(READY, Holds::False, "Deleting", because("").1),
        _ => verdict(READY, Holds::False, because("Pending").0, because("").1),
    };
    all.push(ready);
    all.push(if plan.findings.is_empty() {
        verdict(DRIFTED, Holds::False, "AsWanted", String::new())
    } else {
        let found: Vec<String> =
            plan.findings.iter().map(|f| format!("{} {}: {}", f.what, f.field, f.observed)).collect();
        verdict(DRIFTED, Holds::True, "Differs", found.join("; "))
    });
    all.push(stalled(plan, failure));
    all
}

fn stalled(plan: &Plan, failure: Option<&Failure>) -> Verdict {
    let (status, reason, message) = match (&plan.wait, failure) {
        (Some(wait), _) if wait.stalls() => (Holds::True, wait.reason(), wait.message()),
        (_, Some(failure)) if failure.class != FailureClass::Transient => {
            let reason = if failure.class == FailureClass::Foreign { "Foreign" } else { "Terminal" };
            (Holds::True, reason, failure.message.clone())
        }
        _ => (Holds::False, "Progressing", String::new()),
    };
    Verdict { type_: STALLED, status, reason, message }
}

fn container_ready(facts: &Facts, plan: &Plan) -> Verdict {
    let (status, reason, message) = match &facts.host {
        HostFacts::Unknown(message) => (Holds::Unknown, "RuntimeSilent", message.clone()),
        HostFacts::Stale => (Holds::Unknown, "Observing", String::new()),
        HostFacts::Known { container: Found::Foreign, .. } => {
            (Holds::False, "NameTakenByOthers", Wait::NameTaken("container").message())
        }
        HostFacts::Known { container: Found::Absent, .. } => (Holds::False, "ContainerMissing", String::new()),
        HostFacts::Known { container: Found::Ours(container), .. } => match container.state {
            ContainerState::Running if plan.outdated => (Holds::True, "Outdated", String::new()),
            ContainerState::Running => (Holds::True, "Running", String::new()),
            ContainerState::Created => (Holds::False, "ContainerCreated", String::new()),
            ContainerState::Stopped { .. } => (Holds::False, "ContainerStopped", String::new()),
            ContainerState::Unknown => (Holds::Unknown, "ContainerUnknown", String::new()),
        },
    };
    Verdict { type_: CONTAINER_READY, status, reason, message }
}

fn phase(subject: &Subject, facts: &Facts, plan: &Plan, status: &MachineStatus) -> &'static str {
    if subject.deleting() {
        "Deleting"
    } else if conditions::is_true(&status.conditions, STALLED) {
        "Failed"
    } else if facts.cluster == ClusterState::Paused && plan.wait == Some(Wait::Paused) {
        "Pending"
    } else if facts.turn == Some(Turn::Roll) {
        "Updating"
    } else if plan.ready {
        "Running"
    } else if plan.bootstrapped {
        "NotReady"
    } else {
        match &facts.inside {
            Inside::Up { .. } => "Bootstrapping",
            Inside::Booting | Inside::Silent(_) | Inside::Broken => "Provisioning",
            Inside::NotAsked { .. } if facts.image_present => "Provisioning",
            Inside::NotAsked { .. } => "Pending",
        }
    }
}
