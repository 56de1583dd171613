//! The Cluster controller: network, load balancer, machines and their turns, addons, kubeconfig; and all of it back.

pub mod act;
pub mod addon_drift;
pub mod addons;
pub mod adopt;
pub mod balancer;
pub mod facts;
pub mod forecast;
pub mod node_network;
pub mod observe;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod reach;
pub mod report;
pub mod resolve;
#[cfg(test)]
mod single_node_tests;
pub mod slots;
pub mod turns;
pub mod wait;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use self::adopt::Adoption;
use self::facts::{Facts, HostFacts};
use self::observe::Subject;
use self::plan::{Plan, Step};
use self::resolve::Adopted;
use self::wait::Wait;
use super::backoff::Mark;
use super::context::Shared;
use super::contexts::Wished;
use super::error::ReconcileError;
use super::events::Tone;
use super::finalizer;
use super::machine::facts::{ends, going};
use super::machine::observe::is_paused;
use super::operations::{Load, Progress};
use super::retry::{EffectError, with_retries};
use crate::api::cluster::{ClusterStatus, Drift, DriftLayer, DriftMode};
use crate::api::conditions::{self, READY};
use crate::api::defaults;
use crate::api::machine::{MachineRole, Turn};
use crate::api::{Cluster, Machine, annotations};
use crate::observability::metrics::LAYERS;
use crate::runtime::ClusterAccess;

/// How often a Cluster is compared in any case; a shorter wish of its own counts.
const COMPARE: Duration = Duration::from_secs(30);
/// All Clusters together are compared at most eight times a second, besides events: half a millisecond each.
const APART: Duration = Duration::from_millis(125);

/// One pass.
///
/// # Errors
/// Where Kina's own API refuses; everything else is part of the Cluster's status.
pub async fn reconcile(cluster: Arc<Cluster>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    let name = cluster.name_any();
    let Some(cluster) = shared.clusters.get(&name) else { return Ok(Action::await_change()) };
    let api: Api<Cluster> = Api::all(shared.context.client.clone());
    if !cluster.finalizers().iter().any(|finalizer| finalizer == annotations::CLUSTER_FINALIZER) {
        if cluster.metadata.deletion_timestamp.is_none() {
            let (finalizer, annotations) = (annotations::CLUSTER_FINALIZER, reach::at_first(&cluster));
            let kept = finalizer::add_with_annotations(&api, &*cluster, finalizer, annotations).await?;
            shared.clusters.wrote(kept);
            shared.waker.clusters.wake(&name);
        } else if let Some(uid) = cluster.uid() {
            forget(&shared, &name, &uid);
        }
        return Ok(Action::await_change());
    }
    let Some(subject) = Subject::of(&shared, cluster) else { return Ok(Action::await_change()) };
    wake_machines(&shared, &subject, "purpose", &purpose(&subject));
    let has_open_ports = defaults::open_ports(&subject.cluster.spec) > 0;
    if (subject.resolved().is_none() || has_open_ports) && !subject.deleting() {
        let wait = match subject.resolved() {
            None => resolve::resolve(&shared, &subject).await?,
            Some(_) => resolve::ports(&shared, &subject).await?,
        };
        return match wait {
            None => {
                shared.waker.clusters.wake(&name);
                Ok(Action::await_change())
            }
            Some(wait) => unresolved(&shared, &subject, wait).await,
        };
    }
    shared.reservations.release(&subject.uid);
    if let Some(spec) = subject.resolved().filter(|_| !subject.deleting() && !is_paused(&subject.cluster)) {
        // Nothing was left to resolve, where it is judged otherwise.
        if let Some(wait) = resolve::unsupported(&shared, spec, &subject.cluster.spec) {
            return unresolved(&shared, &subject, wait).await;
        }
        match resolve::adopt(&shared, &subject, spec).await? {
            Adopted::Nothing => {}
            Adopted::Stored => {
                shared.waker.clusters.wake(&name);
                return Ok(Action::await_change());
            }
            Adopted::Wait(wait) => return unresolved(&shared, &subject, wait).await,
        }
    }
    pass(&shared, &subject).await
}

async fn unresolved(shared: &Shared, subject: &Subject, wait: Wait) -> Result<Action, ReconcileError> {
    let facts = observe::observe(shared, subject, None, Adoption::default());
    let plan = Plan { wait: Some(wait), ..Plan::default() };
    report(shared, subject, &facts, &plan, None).await?;
    Ok(Action::requeue(Duration::from_secs(5)))
}

async fn pass(shared: &Arc<Shared>, subject: &Subject) -> Result<Action, ReconcileError> {
    let mark = mark(subject);
    let access = access(shared, subject, &mark);
    if let Some(access) = &access {
        watch_api(shared, subject, access).await;
    }
    let working = end_of_operations(shared, subject, &mark).await;
    let adoption = if subject.deleting() { Adoption::default() } else { adopt::look(shared, subject).await? };
    let facts = observe::observe(shared, subject, access.as_ref(), adoption);
    let mut plan = plan::plan(&facts);
    if let HostFacts::Known { network, .. } = &facts.host {
        wake_machines(shared, subject, "network", &format!("{:?}", network.ours()));
    }
    wake_machines(shared, subject, "api", &format!("{:?}", facts.api_answers));
    wake_machines(shared, subject, "pod ranges", &pod_ranges(subject));
    if plan.needs_listing {
        for host in shared.hosts.values() {
            host.ask_for_cluster(&subject.name, tokio::time::Instant::now());
        }
    }
    for step in plan.steps.iter().filter(|step| step.is_record()) {
        act::record(shared, subject, step).await?;
        tell_record(shared, subject, step).await;
    }
    if plan.steps.iter().any(|step| matches!(step, Step::CreateMachine(..))) && facts.machines.is_empty() {
        // A cluster that begins has none of what an earlier one was told to have.
        shared.memory.drop_text(&subject.uid, "addons");
        shared.memory.drop_text(&subject.uid, addons::SYSTEM);
        shared.addons.forget(&subject.uid);
    }
    let addons_held_back = shared.backoff.wait(&addons_operation(subject), &mark);
    if addons_held_back.is_some() {
        plan.steps.retain(|step| !matches!(step, Step::ApplyAddons));
    }
    let held_back = shared.backoff.wait(&subject.uid, &mark);
    if held_back.is_none() {
        start(shared, subject, &plan, access.as_ref(), working.is_some());
    }
    if let Some(step) = working {
        plan.wait = plan.wait.or(step);
    } else if plan.steps.is_empty() && plan.wait.is_none() {
        shared.backoff.reset(&subject.uid);
    }
    tell_policy(shared, subject, &facts).await;
    report(shared, subject, &facts, &plan, access.as_ref()).await?;
    let pause = next(shared, subject, &plan, held_back);
    Ok(Action::requeue(addons_held_back.map_or(pause, |held_back| held_back.min(pause))))
}

/// What a failure depends on: while it is the same, trying sooner is in vain.
fn mark(subject: &Subject) -> Mark {
    Mark(purpose(subject))
}

/// What an operation is for: where that changed, it is not wanted any more.
fn purpose(subject: &Subject) -> String {
    let ends = ends(subject.machines.iter().map(|machine| going(machine)));
    let (generation, paused) = (subject.cluster.metadata.generation, is_paused(&subject.cluster));
    format!("{generation:?} {} {paused} {ends}", subject.deleting())
}

fn operation(subject: &Subject) -> String {
    format!("cluster/{}", subject.uid)
}

fn addons_operation(subject: &Subject) -> String {
    format!("addons/{}", subject.uid)
}

fn image_operation(subject: &Subject) -> Option<String> {
    let spec = subject.resolved()?;
    Some(format!("image/{}/{}", spec.runtime.as_str(), balancer::image(spec)))
}

fn waiter(subject: &Subject) -> String {
    format!("cluster/{}", subject.name)
}

/// How the cluster is reached, once it has certificates and as long as it is not about to go. Those that are due are made anew;
/// a failure to is one of the Cluster, and it is not tried again before its time.
fn access(shared: &Shared, subject: &Subject, mark: &Mark) -> Option<ClusterAccess> {
    let spec = subject.resolved()?;
    let identity = &subject.owner.cluster_uid;
    if subject.deleting() || !shared.has_certificates(identity) {
        return None;
    }
    if shared.backoff.wait(&subject.uid, mark).is_none()
        && let Err(error) = shared.certificates(identity)
    {
        shared.backoff.failed(&subject.uid, mark, &error);
    }
    let pki = shared.known_certificates(identity)?;
    Some(ClusterAccess {
        server: spec.url(),
        ca_certificate: pki.ca.certificate.clone(),
        client_certificate: pki.admin.certificate.clone(),
        client_key: pki.admin.key.clone(),
    })
}

async fn watch_api(shared: &Shared, subject: &Subject, access: &ClusterAccess) {
    // Before the machines are recorded nothing can answer; and what answered before they were there was another cluster.
    if subject.machines.is_empty() {
        return shared.api.forget(&subject.uid);
    }
    let Some(host) = subject.host(shared) else { return };
    let connector = host.runtime.connector();
    if let Err(error) = shared.api.ensure(&subject.uid, &subject.name, access, &*connector).await {
        tracing::warn!(cluster = subject.name, error = %error.chain(), "no client");
    }
    if shared.memory.keep_text(&subject.uid, "begun", &begun(subject)) {
        shared.api.nudge(&subject.uid);
    }
}

/// The control planes that are becoming nodes: where these change, an API server is about to come up.
fn begun(subject: &Subject) -> String {
    let is_at_work = |machine: &&Arc<Machine>| {
        let status = machine.status.as_ref();
        machine.spec.role == MachineRole::ControlPlane
            && status.and_then(|status| status.waiting.as_ref()).is_some_and(|wait| wait.reason == "Bootstrapping")
    };
    subject.machines.iter().filter(is_at_work).map(|machine| machine.name_any() + " ").collect()
}

/// Reads how operations went; `Some` while the one on the host is under way, with what to tell of it.
async fn end_of_operations(shared: &Shared, subject: &Subject, mark: &Mark) -> Option<Option<Wait>> {
    let waiter = waiter(subject);
    for name in [operation(subject), addons_operation(subject)] {
        shared.operations.cancel_unless(&name, &purpose(subject));
    }
    let mut under_way = None;
    match shared.operations.take(&operation(subject), &waiter) {
        Progress::None => {}
        Progress::Running { step, since } => {
            under_way = Some((since.elapsed() >= Duration::from_secs(1)).then_some(Wait::Working(step)));
        }
        Progress::Done { at, result } => {
            shared.memory.settle(&subject.uid, at);
            if let Err(error) = result {
                note_error(shared, subject, mark, &error).await;
            }
        }
    }
    if let Progress::Done { result, .. } = shared.operations.take(&addons_operation(subject), &waiter) {
        match result {
            Ok(()) => shared.backoff.reset(&addons_operation(subject)),
            // Nothing but addons waits for them.
            Err(error) => note_failure(shared, subject, &addons_operation(subject), mark, &error).await,
        }
    }
    if let Some(image) = image_operation(subject) {
        if subject.deleting() {
            shared.operations.leave(&image, &waiter);
        } else if let Progress::Done { result, .. } = shared.operations.take(&image, &waiter) {
            match (result, subject.resolved()) {
                (Ok(()), Some(spec)) => shared.memory.image_seen(spec.runtime.as_str(), balancer::image(spec)),
                (Err(error), _) => note_error(shared, subject, mark, &error).await,
                _ => {}
            }
        }
    }
    under_way
}

async fn note_error(shared: &Shared, subject: &Subject, mark: &Mark, error: &EffectError) {
    note_failure(shared, subject, &subject.uid, mark, error).await;
}

async fn note_failure(shared: &Shared, subject: &Subject, of: &str, mark: &Mark, error: &EffectError) {
    if matches!(error, EffectError::Cancelled) {
        return;
    }
    tracing::warn!(cluster = subject.name, error = %error.chain(), "a step failed");
    shared.backoff.failed(of, mark, error);
    shared.events.tell(&*subject.cluster, Tone::Warning, error.reason(), &error.chain()).await;
}

async fn tell_record(shared: &Shared, subject: &Subject, step: &Step) {
    let (reason, note) = match step {
        Step::CreateMachine(name, spec) if spec.identity.machine.is_some() => {
            ("Adopted", format!("adopted machine {name} with its data"))
        }
        Step::CreateMachine(name, _) => ("MachineCreated", format!("created machine {name}")),
        Step::DeleteMachine(name, _) => ("MachineDeleted", format!("deleting machine {name}")),
        Step::Expire => ("Expired", "its time is over".to_owned()),
        Step::UpdateMachine(name, _, spec) => {
            let Some(before) = subject.machines.iter().find(|machine| machine.name_any() == *name) else { return };
            match spec.turn {
                _ if spec.identity.machine != before.spec.identity.machine => {
                    ("Adopted", format!("machine {name} adopted what is there of it, with its data"))
                }
                turn if turn == before.spec.turn => return,
                Some(Turn::Repair) => ("Repairing", format!("machine {name} is repaired")),
                Some(Turn::Roll) => ("Rolling", format!("machine {name} is made anew, with its data kept")),
                Some(Turn::Bootstrap) => ("Joining", format!("machine {name} becomes a node")),
                None => return,
            }
        }
        _ => return,
    };
    shared.events.tell(&*subject.cluster, Tone::Normal, reason, &note).await;
}

fn start(shared: &Arc<Shared>, subject: &Subject, plan: &Plan, access: Option<&ClusterAccess>, working: bool) {
    for step in &plan.steps {
        match step {
            Step::PullImage => pull(shared, subject),
            Step::ApplyAddons => {
                let (there, subject_there) = (Arc::clone(shared), subject.clone());
                let name = addons_operation(subject);
                shared.operations.start(Load::Wait, &name, &purpose(subject), &waiter(subject), |handle| {
                    addons::apply(there, subject_there, handle).boxed()
                });
            }
            Step::CompareAddons => {
                let (there, subject_there) = (Arc::clone(shared), subject.clone());
                let name = addons_operation(subject);
                shared.operations.start(Load::Wait, &name, &purpose(subject), &waiter(subject), |handle| {
                    addon_drift::compare(there, subject_there, handle).boxed()
                });
            }
            Step::WriteContext => write_context(shared, subject, access),
            _ => {}
        }
    }
    let elsewhere =
        |step: &&Step| !matches!(step, Step::PullImage | Step::ApplyAddons | Step::CompareAddons | Step::WriteContext);
    let steps: Vec<Step> = plan.steps.iter().filter(|step| !step.is_record()).filter(elsewhere).cloned().collect();
    if working || steps.is_empty() {
        return;
    }
    let (there, subject_there) = (Arc::clone(shared), subject.clone());
    shared.operations.start(Load::Work, &operation(subject), &purpose(subject), &waiter(subject), |handle| {
        act::perform(there, subject_there, steps, handle).boxed()
    });
}

fn write_context(shared: &Shared, subject: &Subject, access: Option<&ClusterAccess>) {
    let Some(edit) = subject.context_edit(access) else { return };
    let was_written = report::was_written(subject).is_some();
    let repairs = subject.cluster.spec.drift.mode == DriftMode::Enforce;
    if was_written && !repairs && shared.contexts.is_gone(&subject.name, &edit) {
        return shared.waker.clusters.wake(&subject.name);
    }
    shared.contexts.wish(&subject.name, edit, was_written);
}

fn pull(shared: &Arc<Shared>, subject: &Subject) {
    let (Some(host), Some(name)) = (subject.host(shared), image_operation(subject)) else { return };
    let Some(image) = subject.resolved().map(|spec| balancer::image(spec).to_owned()) else { return };
    let runtime = Arc::clone(&host.runtime);
    shared.operations.start(Load::Wait, &name, "", &waiter(subject), |handle| {
        async move {
            handle.at("PullingImage");
            with_retries(&handle.cancelled, || async { Ok(runtime.ensure_image(&image).await.map(|_| ())?) }).await
        }
        .boxed()
    });
}

fn next(shared: &Shared, subject: &Subject, plan: &Plan, held_back: Option<Duration>) -> Duration {
    let interval = subject.resolved().map_or(COMPARE, |spec| spec.drift_interval);
    let mut pause = match plan.wait {
        Some(Wait::Observing | Wait::Working(_) | Wait::Kubeconfig) => Duration::from_secs(2).min(interval),
        // One that is as it should be hears of what changes.
        None if plan.steps.is_empty() => compared_every(interval, shared.clusters.len()),
        _ => interval,
    };
    if let Some(end) = observe::ends(&subject.cluster, &subject.cluster.spec) {
        let left = shared.context.world.clock.now().until(end).ok();
        let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or_default();
        pause = pause.min(left.max(Duration::from_millis(100)));
    }
    held_back.map_or(pause, |held_back| held_back.min(pause))
}

/// How often each of so many Clusters is compared that wishes to be so after `interval`.
fn compared_every(interval: Duration, clusters: usize) -> Duration {
    interval.max(APART * u32::try_from(clusters).unwrap_or(u32::MAX))
}

/// What a Machine takes from its Cluster is not in the Machine: it is told when it changed.
fn wake_machines(shared: &Shared, subject: &Subject, what: &'static str, now: &str) {
    if shared.memory.keep_text(&subject.uid, what, now) {
        for machine in &subject.machines {
            shared.waker.machines.wake(&machine.name_any());
        }
    }
}

/// That nobody enforces a NetworkPolicy is told once, when the first appears.
async fn tell_policy(shared: &Shared, subject: &Subject, facts: &Facts) {
    const NOTE: &str = "unenforced NetworkPolicy";
    match &facts.policy {
        None => shared.memory.unnote(&subject.uid, NOTE),
        Some(policy) if shared.memory.note(&subject.uid, NOTE) => {
            let note = format!(
                "NetworkPolicy {policy} has no effect: the pod network `routed` enforces none. `networking.cni: none` is for one \
                 of your own that does"
            );
            shared.events.tell(&*subject.cluster, Tone::Warning, "NetworkPolicyNotEnforced", &note).await;
        }
        Some(_) => {}
    }
}

/// What all machines of a Cluster are told of each other: changed where one came or went.
fn pod_ranges(subject: &Subject) -> String {
    let named = |machine: &Arc<Machine>| Some(format!("{} {}\n", machine.name_any(), machine.spec.pod_cidr.as_ref()?));
    subject.machines.iter().filter_map(named).collect()
}

async fn report(
    shared: &Shared,
    subject: &Subject,
    facts: &Facts,
    plan: &Plan,
    access: Option<&ClusterAccess>,
) -> Result<(), ReconcileError> {
    if facts.host == HostFacts::Stale || plan.steps.contains(&Step::RemoveFinalizer) {
        // The next listing is milliseconds away, and tells more.
        return Ok(());
    }
    let api = shared.api.view(&subject.uid);
    let context =
        subject.context_edit(access).map_or(Wished::Pending, |edit| shared.contexts.look(&subject.name, &edit));
    let failure = shared.backoff.failure(&subject.uid);
    let addons_failure = shared.backoff.failure(&addons_operation(subject));
    let now = shared.context.world.clock.now();
    let status =
        report::status(&report::Report { subject, facts, plan, api: &api, context, failure, addons_failure, now });
    write(shared, subject, status).await
}

async fn write(shared: &Shared, subject: &Subject, status: ClusterStatus) -> Result<(), ReconcileError> {
    let before = subject.cluster.status.as_ref();
    for layer in LAYERS {
        let of_layer = status.drift.iter().filter(|drift| layer_name(drift.layer) == layer);
        shared.context.metrics.drift(&subject.name, layer, of_layer.count());
    }
    if before == Some(&status) {
        return Ok(());
    }
    let mode = subject.cluster.spec.drift.mode;
    let known = |drift: &&Drift| {
        before
            .is_none_or(|before| before.drift.iter().all(|old| old.object != drift.object || old.field != drift.field))
    };
    let new: Vec<Drift> = status.drift.iter().filter(known).cloned().collect();
    let api: Api<Cluster> = Api::all(shared.context.client.clone());
    let patch = serde_json::json!([{ "op": "add", "path": "/status", "value": status }]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(ReconcileError::Json)?;
    let was_ready = before.is_some_and(|before| conditions::is_true(&before.conditions, READY));
    let is_ready = conditions::is_true(&status.conditions, READY);
    match api.patch_status(&subject.name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
        Ok(written) => shared.clusters.wrote(written),
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
        Err(error) => return Err(ReconcileError::api("report the status of", &subject.name, error)),
    }
    tell_drift(shared, subject, &new, mode).await;
    if is_ready && !was_ready {
        shared.events.tell(&*subject.cluster, Tone::Normal, "Ready", "every node, the pod network and DNS work").await;
    }
    Ok(())
}

/// Each difference is counted, and told, when it begins.
async fn tell_drift(shared: &Shared, subject: &Subject, new: &[Drift], mode: DriftMode) {
    /// As many as are worth an event each; status lists them all.
    const TOLD: usize = 5;
    let mode_name = match mode {
        DriftMode::Enforce => "enforce",
        DriftMode::Audit => "audit",
        DriftMode::Monitor => "monitor",
    };
    for drift in new {
        shared.context.metrics.drift_found(layer_name(drift.layer), mode_name);
    }
    for drift in new.iter().filter(|_| mode != DriftMode::Monitor).take(TOLD) {
        let note = format!("{} {}: {} ({})", drift.object, drift.field, drift.observed, drift.action);
        shared.events.tell(&*subject.cluster, Tone::Warning, "Drifted", &note).await;
    }
}

fn layer_name(layer: DriftLayer) -> &'static str {
    match layer {
        DriftLayer::Container => "container",
        DriftLayer::Network => "network",
        DriftLayer::Kubernetes => "kubernetes",
        DriftLayer::Addons => "addons",
        DriftLayer::Kubeconfig => "kubeconfig",
    }
}

/// A Cluster is gone: so is everything that was remembered of it.
pub fn forget(shared: &Shared, name: &str, uid: &str) {
    shared.memory.forget(uid);
    shared.derived.forget(uid);
    shared.backoff.reset(uid);
    shared.backoff.reset(&format!("addons/{uid}"));
    shared.api.forget(uid);
    shared.contexts.forget(name);
    shared.addons.forget(uid);
    shared.reservations.release(uid);
    shared.give_place_back(&format!("cluster/{uid}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_clusters_each_is_compared_less_often_and_of_few_as_often_as_it_wishes() {
        let every = |seconds: u64, clusters: usize| compared_every(Duration::from_secs(seconds), clusters).as_secs();
        assert_eq!(
            [every(30, 1), every(30, 240), every(30, 1000), every(5, 1000), every(600, 1000)],
            [30, 30, 125, 125, 600]
        );
    }
}
