//! What status says of a Cluster: derived from one pass, written only where its substance differs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::facts::{Facts, HostFacts, MachineFacts};
use super::observe::Subject;
use super::plan::Plan;
use super::slots;
use super::wait::Wait;
use crate::api::annotations;
use crate::api::cluster::{ClusterStatus, Cni, Declared, Drift, DriftMode, MachineCounts};
use crate::api::conditions::{
    self, ADDONS_READY, CONTROL_PLANE_READY, DRIFTED, Holds, IMAGES_LOADED, KUBECONFIG_READY, NETWORK_READY, READY,
    STALLED, Verdict, WORKERS_READY, Waiting, whole_seconds,
};
use crate::api::machine::{Failure, FailureClass, Turn};
use crate::controllers::clusters_api::ApiView;
use crate::controllers::contexts::Wished;

/// The reason of a context that somebody else removed or changed.
pub const CONTEXT_DIFFERS: &str = "ContextDiffers";

/// What a report is made from.
#[derive(Debug)]
pub struct Report<'a> {
    /// The Cluster.
    pub subject: &'a Subject,
    /// What was seen.
    pub facts: &'a Facts,
    /// What was planned.
    pub plan: &'a Plan,
    /// What its API server shows.
    pub api: &'a ApiView,
    /// How far its context is.
    pub context: Wished,
    /// The last failure, while it lasts.
    pub failure: Option<Failure>,
    /// The last failure of the addons, while it lasts.
    pub addons_failure: Option<Failure>,
    /// Now.
    pub now: Timestamp,
}

/// The status after a pass.
#[must_use]
pub fn status(report: &Report<'_>) -> ClusterStatus {
    let before = report.subject.cluster.status.clone().unwrap_or_default();
    let generation = report.subject.cluster.metadata.generation;
    let verdicts = verdicts(report);
    let mut conditions = before.conditions;
    for verdict in &verdicts {
        conditions::set(&mut conditions, verdict, generation, report.now);
    }
    let wait = report.plan.wait.clone().or_else(|| missing(report));
    let mut status = ClusterStatus {
        observed_generation: generation,
        conditions,
        version: version(report).or(before.version),
        endpoint: report.subject.resolved().map(|spec| spec.url()),
        machines: Some(counts(report.facts)),
        waiting: wait.map(|wait| waiting(&wait, before.waiting.as_ref(), report.now)),
        drift: drift(report, &before.drift),
        source: declared(report.subject),
        phase: None,
    };
    status.phase = Some(phase(report, &status).to_owned());
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

fn verdicts(report: &Report<'_>) -> Vec<Verdict> {
    let mut all = vec![
        network(report),
        control_plane(report),
        workers(report),
        kubeconfig(report),
        addons(report),
        drifted(report),
        stalled(report),
    ];
    all.push(ready(report, &all));
    all
}

fn verdict(type_: &'static str, status: Holds, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { type_, status, reason, message: message.into() }
}

fn network(report: &Report<'_>) -> Verdict {
    match &report.facts.host {
        HostFacts::Unknown(message) => verdict(NETWORK_READY, Holds::Unknown, "RuntimeSilent", message),
        HostFacts::Stale => verdict(NETWORK_READY, Holds::Unknown, "Observing", ""),
        HostFacts::Known { .. } if report.plan.network_ready => {
            verdict(NETWORK_READY, Holds::True, "NetworkReady", unenforced(report))
        }
        HostFacts::Known { .. } => match &report.plan.wait {
            Some(wait) if wait.is_of_network() => verdict(NETWORK_READY, Holds::False, wait.reason(), wait.message()),
            _ => {
                verdict(NETWORK_READY, Holds::False, "NetworkPending", "network or load balancer is not as wanted yet")
            }
        },
    }
}

/// What a pod network of Kina's own does not do.
fn unenforced(report: &Report<'_>) -> String {
    let is_routed = report.subject.resolved().is_some_and(|spec| spec.cni == Cni::Routed);
    match &report.facts.policy {
        _ if !is_routed => String::new(),
        None => "the pod network `routed` does not enforce NetworkPolicy".to_owned(),
        Some(policy) => format!("the pod network `routed` does not enforce NetworkPolicy, and there is {policy}"),
    }
}

fn unready(facts: &Facts, of: impl Fn(&MachineFacts) -> bool) -> Vec<&MachineFacts> {
    facts.machines.iter().filter(|machine| !machine.deleting && of(machine) && !machine.ready).collect()
}

fn control_plane(report: &Report<'_>) -> Verdict {
    let facts = report.facts;
    let live = facts.machines.iter().filter(|machine| machine.is_control_plane() && !machine.deleting).count();
    let wanted = usize::try_from(facts.spec.control_plane.replicas).unwrap_or(usize::MAX);
    let unready = unready(facts, MachineFacts::is_control_plane);
    let type_ = CONTROL_PLANE_READY;
    if let Some(unwell) = facts.api_unwell {
        return verdict(type_, Holds::Unknown, unwell.reason(), unwell.message());
    }
    if facts.api_answers != Some(true) {
        let holds = if facts.api_answers.is_none() { Holds::Unknown } else { Holds::False };
        return verdict(type_, holds, "ApiAway", "the cluster's API server does not answer");
    }
    if unready.is_empty() && live == wanted {
        return verdict(type_, Holds::True, "ControlPlaneReady", "");
    }
    verdict(
        type_,
        Holds::False,
        "MachinesNotReady",
        format!("{} of {wanted} control planes are Ready", live - unready.len()),
    )
}

fn workers(report: &Report<'_>) -> Verdict {
    let facts = report.facts;
    let live = facts.machines.iter().filter(|machine| !machine.is_control_plane() && !machine.deleting).count();
    let wanted: usize =
        facts.spec.workers.iter().map(|pool| usize::try_from(pool.replicas).unwrap_or(usize::MAX)).sum();
    let unready = unready(facts, |machine| !machine.is_control_plane());
    if unready.is_empty() && live == wanted {
        return verdict(WORKERS_READY, Holds::True, "WorkersReady", "");
    }
    if let Some(unwell) = facts.api_unwell.filter(|_| live == wanted) {
        return verdict(WORKERS_READY, Holds::Unknown, unwell.reason(), unwell.message());
    }
    let ready = live - unready.len();
    verdict(WORKERS_READY, Holds::False, "MachinesNotReady", format!("{ready} of {wanted} workers are Ready"))
}

/// Whether the context was written once, as far as status tells, and was as wanted when it was looked at last.
#[must_use]
pub fn was_written(subject: &Subject) -> Option<Holds> {
    let conditions = &subject.cluster.status.as_ref()?.conditions;
    let found = conditions::get(conditions, KUBECONFIG_READY)?;
    match (found.status.as_str(), found.reason.as_str()) {
        ("True", _) => Some(Holds::True),
        (_, CONTEXT_DIFFERS) => Some(Holds::False),
        _ => None,
    }
}

fn kubeconfig(report: &Report<'_>) -> Verdict {
    match &report.context {
        Wished::Done if !report.facts.deleting => verdict(KUBECONFIG_READY, Holds::True, "KubeconfigReady", ""),
        // Where it is repaired, that takes no longer than telling it.
        Wished::Undone(_) if report.facts.spec.drift.mode == DriftMode::Enforce && !report.facts.deleting => {
            verdict(KUBECONFIG_READY, Holds::True, "KubeconfigReady", "")
        }
        Wished::Undone(how) => verdict(KUBECONFIG_READY, Holds::False, CONTEXT_DIFFERS, how),
        Wished::Failed(message) => verdict(KUBECONFIG_READY, Holds::False, "KubeconfigFailed", message),
        Wished::Unknown if was_written(report.subject) == Some(Holds::True) && !report.facts.deleting => {
            verdict(KUBECONFIG_READY, Holds::True, "KubeconfigReady", "")
        }
        Wished::Unknown if was_written(report.subject) == Some(Holds::False) => {
            verdict(KUBECONFIG_READY, Holds::False, CONTEXT_DIFFERS, "")
        }
        _ => verdict(KUBECONFIG_READY, Holds::False, "KubeconfigPending", ""),
    }
}

fn addons(report: &Report<'_>) -> Verdict {
    if let Some(unwell) = report.facts.api_unwell {
        return verdict(ADDONS_READY, Holds::Unknown, unwell.reason(), unwell.message());
    }
    if report.facts.api_answers != Some(true) {
        return verdict(ADDONS_READY, Holds::Unknown, "ApiAway", "");
    }
    if !report.facts.addons_applied {
        return match &report.addons_failure {
            Some(failure) => verdict(ADDONS_READY, Holds::False, "AddonsFailed", &failure.message),
            None => verdict(ADDONS_READY, Holds::False, "AddonsPending", Wait::Addons.message()),
        };
    }
    if let Some((reason, message)) = images_missing(report) {
        return verdict(ADDONS_READY, Holds::False, reason, message);
    }
    if !report.api.controlled {
        let message = "kube-controller-manager has not renewed its Lease since the API server answers: what Deployments and \
                       DaemonSets say may be of before";
        return verdict(ADDONS_READY, Holds::Unknown, "LeaseNotRenewed", message);
    }
    if let Some((name, state)) = report.api.daemons_unready.first_key_value() {
        return verdict(ADDONS_READY, Holds::False, "SystemPodsNotReady", format!("{name}: {state}"));
    }
    match report.api.dns {
        Some(true) => verdict(ADDONS_READY, Holds::True, "AddonsReady", ""),
        Some(false) => verdict(ADDONS_READY, Holds::False, "DnsNotAvailable", "CoreDNS is not Available"),
        None => verdict(ADDONS_READY, Holds::False, "DnsMissing", "there is no Deployment coredns in kube-system"),
    }
}

/// The first machine that lacks images of the host, and why.
fn images_missing(report: &Report<'_>) -> Option<(&'static str, String)> {
    if report.facts.spec.images.is_empty() {
        return None;
    }
    let live = report.subject.machines.iter().filter(|machine| machine.metadata.deletion_timestamp.is_none());
    live.filter_map(|machine| {
        let conditions = machine.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let found = conditions::get(conditions, IMAGES_LOADED);
        let is_current = |found: &&Condition| found.observed_generation == machine.metadata.generation;
        match found.filter(is_current) {
            Some(found) if found.status == "True" => None,
            Some(found) if found.reason == "ImagesNotLoaded" => {
                Some(("ImagesNotLoaded", format!("{}: {}", machine.name_any(), found.message)))
            }
            _ => Some(("LoadingImages", format!("{}: images of the host are being loaded", machine.name_any()))),
        }
    })
    // What failed says more than what is under way.
    .max_by_key(|(reason, _)| *reason == "ImagesNotLoaded")
}

fn drift(report: &Report<'_>, before: &[Drift]) -> Vec<Drift> {
    let mode = report.facts.spec.drift.mode;
    let name = |what: &str| match what {
        "network" => format!("kina-{}", report.subject.name),
        _ => format!("{}-lb", report.subject.name),
    };
    let own = report.plan.findings.iter().map(|finding| finding.told(&name(&finding.what), mode, before, report.now));
    let of_machines = report.subject.machines.iter().filter_map(|machine| machine.status.as_ref());
    own.chain(of_machines.flat_map(|status| status.drift.clone())).collect()
}

fn drifted(report: &Report<'_>) -> Verdict {
    let found = drift(report, &[]);
    match found.first() {
        None => verdict(DRIFTED, Holds::False, "AsWanted", ""),
        Some(first) => {
            let more = if found.len() > 1 { format!(", and {} more", found.len() - 1) } else { String::new() };
            let message = format!("{} {}: {}{more}", first.object, first.field, first.observed);
            verdict(DRIFTED, Holds::True, "Differs", message)
        }
    }
}

fn stalled(report: &Report<'_>) -> Verdict {
    if let Some(wait) = report.plan.wait.as_ref().filter(|wait| wait.stalls()) {
        return verdict(STALLED, Holds::True, wait.reason(), wait.message());
    }
    if let Some(failure) = report.failure.as_ref().filter(|failure| failure.class != FailureClass::Transient) {
        let reason = if failure.class == FailureClass::Foreign { "Foreign" } else { "Terminal" };
        return verdict(STALLED, Holds::True, reason, &failure.message);
    }
    let of_machine = report.subject.machines.iter().find_map(|machine| {
        let conditions = &machine.status.as_ref()?.conditions;
        let stalled = conditions::get(conditions, STALLED).filter(|condition| condition.status == "True")?;
        Some(format!("{}: {}", machine.name_any(), stalled.message))
    });
    match of_machine {
        Some(message) => verdict(STALLED, Holds::True, "MachineStalled", message),
        None => verdict(STALLED, Holds::False, "Progressing", ""),
    }
}

fn ready(report: &Report<'_>, others: &[Verdict]) -> Verdict {
    if report.facts.deleting {
        return verdict(
            READY,
            Holds::False,
            "Deleting",
            report.plan.wait.as_ref().map(Wait::message).unwrap_or_default(),
        );
    }
    if report.subject.resolved().is_none() {
        let wait = report.plan.wait.as_ref();
        return verdict(
            READY,
            Holds::False,
            wait.map_or("Pending", Wait::reason),
            wait.map(Wait::message).unwrap_or_default(),
        );
    }
    let parts = [NETWORK_READY, CONTROL_PLANE_READY, WORKERS_READY, KUBECONFIG_READY, ADDONS_READY];
    let of = |type_: &str| others.iter().find(|verdict| verdict.type_ == type_);
    let worst = parts.iter().filter_map(|type_| of(type_)).find(|verdict| verdict.status == Holds::False);
    let worst =
        worst.or_else(|| parts.iter().filter_map(|type_| of(type_)).find(|verdict| verdict.status != Holds::True));
    match worst {
        Some(part) => verdict(READY, part.status, part.reason, &part.message),
        None => verdict(READY, Holds::True, "Ready", "every node, the pod network and DNS work"),
    }
}

/// What is missing where the plan has nothing more to do.
fn missing(report: &Report<'_>) -> Option<Wait> {
    if report.facts.deleting {
        return None;
    }
    let names: Vec<String> = unready(report.facts, |_| true).iter().map(|machine| machine.name.clone()).collect();
    if report.facts.api_answers != Some(true) && !report.facts.machines.is_empty() {
        return Some(Wait::ControlPlane);
    }
    if !names.is_empty() {
        return Some(Wait::Machines(names));
    }
    if !report.facts.addons_applied {
        let failed = report.addons_failure.as_ref();
        return Some(failed.map_or(Wait::Addons, |failure| Wait::Wanted("AddonsFailed", failure.message.clone())));
    }
    if !report.facts.context_done {
        return Some(Wait::Kubeconfig);
    }
    if let Some((reason, message)) = images_missing(report) {
        return Some(Wait::Wanted(reason, message));
    }
    let addons = addons(report);
    (addons.status != Holds::True).then(|| Wait::SystemPods(format!("{} ({})", addons.message, addons.reason)))
}

fn counts(facts: &Facts) -> MachineCounts {
    let desired = slots::wanted_count(facts);
    let ready = facts.machines.iter().filter(|machine| machine.ready && !machine.deleting).count();
    let ready = u32::try_from(ready).unwrap_or(u32::MAX);
    MachineCounts { desired, ready, summary: format!("{ready}/{desired}") }
}

fn version(report: &Report<'_>) -> Option<String> {
    let planes = report.facts.machines.iter().filter(|machine| machine.is_control_plane());
    let versions = planes.filter_map(|machine| report.api.nodes.get(&machine.name)).map(|node| node.version.clone());
    versions.filter(|version| !version.is_empty()).min()
}

fn declared(subject: &Subject) -> Option<Declared> {
    let annotation = |key: &str| subject.cluster.annotations().get(key).cloned();
    Some(Declared {
        name: annotation(annotations::SOURCE)?,
        path: annotation(annotations::SOURCE_PATH),
        commit: annotation(annotations::SOURCE_COMMIT),
    })
}

/// What never worked yet is not degraded. For people only: nothing is decided by it.
fn has_run(report: &Report<'_>) -> bool {
    let before = report.subject.cluster.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(before, None | Some("Pending" | "Provisioning"))
}

fn phase(report: &Report<'_>, status: &ClusterStatus) -> &'static str {
    let facts = report.facts;
    let live = || facts.machines.iter().filter(|machine| !machine.deleting);
    let updating = facts.machines.iter().any(|machine| machine.deleting)
        || live().any(|machine| machine.spec.turn == Some(Turn::Roll))
        || matches!(report.plan.wait, Some(Wait::Recreating(_) | Wait::Rolling(_)));
    if facts.deleting {
        "Deleting"
    } else if facts.paused {
        "Paused"
    } else if conditions::is_true(&status.conditions, STALLED) {
        "Failed"
    } else if updating {
        "Updating"
    } else if conditions::is_true(&status.conditions, READY) {
        "Running"
    } else if facts.machines.is_empty() {
        "Pending"
    } else if has_run(report) && live().all(|machine| machine.bootstrapped == Some(true)) && facts.context_done {
        "Degraded"
    } else {
        "Provisioning"
    }
}
