//! The Machine controller: one node, from its image to its Node and back.
//!
//! It never reasons about its siblings: what must not happen at the same time is granted to it by its Cluster, as a turn.
//! The way to their pods is all that it looks for at them (`network`).

pub mod act;
pub mod container;
pub mod facts;
pub mod images;
#[cfg(test)]
mod member_tests;
mod membership;
pub mod network;
pub mod observe;
pub mod plan;
#[cfg(test)]
mod plan_tests;
mod removal;
pub mod report;
pub mod wait;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use self::facts::{Facts, HostFacts};
use self::observe::Subject;
use self::plan::{Plan, Step};
use self::wait::Wait;
use super::backoff::Mark;
use super::context::Shared;
use super::error::ReconcileError;
use super::events::Tone;
use super::finalizer;
use super::operations::{Load, Progress};
use super::retry::{EffectError, with_retries};
use crate::api::conditions::{self, READY, Verdict};
use crate::api::machine::{BootstrapMethod, MachineStatus};
use crate::api::{Machine, annotations};
use crate::runtime::{ContainerId, ContainerState};

/// How often a Machine that waits for nothing that can be polled is looked at in any case.
const NOW_AND_THEN: Duration = Duration::from_secs(600);

/// One pass.
///
/// # Errors
/// Where Kina's own API refuses; everything else is part of the Machine's status.
pub async fn reconcile(machine: Arc<Machine>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    let name = machine.name_any();
    let Some(machine) = shared.machines.get(&name) else { return Ok(Action::await_change()) };
    let api: Api<Machine> = Api::all(shared.context.client.clone());
    if !machine.finalizers().iter().any(|finalizer| finalizer == annotations::MACHINE_FINALIZER) {
        if machine.metadata.deletion_timestamp.is_none() {
            let kept = finalizer::add(&api, &*machine, annotations::MACHINE_FINALIZER).await?;
            shared.machines.wrote(kept);
            shared.waker.machines.wake(&name);
        } else {
            forget(&shared, &machine);
        }
        return Ok(Action::await_change());
    }
    let Some(subject) = Subject::of(&shared, Arc::clone(&machine)) else {
        tracing::warn!(machine = name, "a machine whose runtime or owner is not known");
        return Ok(Action::requeue(NOW_AND_THEN));
    };
    pass(&shared, &subject).await
}

async fn pass(shared: &Arc<Shared>, subject: &Subject) -> Result<Action, ReconcileError> {
    let mark = mark(shared, subject);
    if let Some(again) = end_of_operations(shared, subject, &mark).await {
        return Ok(again);
    }
    let mut facts = observe::observe(shared, subject).await;
    let mut plan = plan::plan(&facts);
    if plan.needs_membership {
        facts.membership = membership::look(shared, subject, facts.is_quiet()).await;
        plan = plan::plan(&facts);
    }
    let holder = place_holder(subject);
    if plan.steps.contains(&Step::StartBootstrap) && !subject.host.places.take(&holder, &subject.name) {
        facts.has_place = false;
        plan = plan::plan(&facts);
    }
    if plan.bootstrapped || plan.failed.is_some() || facts.deleting {
        for waiting in subject.host.places.give_back(&holder) {
            shared.waker.machines.wake(&waiting);
        }
    }
    if plan.needs_listing {
        let moment = shared.memory.settled(&subject.uid).unwrap_or_else(tokio::time::Instant::now);
        subject.host.ask_for_machine(&subject.name, moment.max(tokio::time::Instant::now()));
    }
    count_failure(shared, subject, &plan, &mark).await;
    let held_back = shared.backoff.wait(&subject.uid, &mark).filter(|_| !facts.deleting || !plan.steps.is_empty());
    let started = held_back.is_none() && !plan.steps.is_empty() && start(shared, subject, &plan, &mark);
    if plan.ready && plan.steps.is_empty() {
        shared.backoff.reset(&subject.uid);
    }
    let tended = images::tend(shared, subject, &facts, running(subject).as_ref()).await;
    report(shared, subject, &facts, &plan, tended.verdict).await?;
    plan.again = plan.again.into_iter().chain(tended.again).min();
    Ok(next(shared, subject, &plan, started, held_back))
}

/// Its container, while that runs.
fn running(subject: &Subject) -> Option<ContainerId> {
    subject.container().filter(|found| found.state == ContainerState::Running).map(|found| found.id.clone())
}

/// What a failure depends on: while it is the same, trying sooner is in vain.
fn mark(shared: &Shared, subject: &Subject) -> Mark {
    let answers = shared.api.with(&subject.cluster_uid, |view| view.answers).flatten();
    Mark(format!(
        "{:?} {} {:?} {answers:?}",
        subject.machine.metadata.generation,
        subject.deleting(),
        subject.cluster_state()
    ))
}

/// What an operation is for: where that changed, it is not wanted any more.
fn purpose(subject: &Subject) -> String {
    format!("{:?} {} {:?}", subject.machine.metadata.generation, subject.deleting(), subject.cluster_state())
}

fn operation(subject: &Subject) -> String {
    format!("machine/{}", subject.uid)
}

fn image_operation(subject: &Subject) -> String {
    format!("image/{}/{}", subject.machine.spec.runtime.as_str(), subject.machine.spec.image)
}

fn waiter(subject: &Subject) -> String {
    format!("machine/{}", subject.name)
}

/// The control planes of the first day share one place: they need each other to come up.
fn place_holder(subject: &Subject) -> String {
    match subject.machine.spec.bootstrap.method {
        BootstrapMethod::Init => format!("cluster/{}", subject.cluster_uid),
        BootstrapMethod::Join => format!("machine/{}", subject.uid),
    }
}

/// Reads how operations went. `Some` while one is under way: nothing else is done meanwhile.
async fn end_of_operations(shared: &Shared, subject: &Subject, mark: &Mark) -> Option<Action> {
    let (name, waiter) = (operation(subject), waiter(subject));
    shared.operations.cancel_unless(&name, &purpose(subject));
    match shared.operations.take(&name, &waiter) {
        Progress::None => {}
        Progress::Running { step, since } => {
            if since.elapsed() >= Duration::from_secs(1) {
                // Long enough to be worth telling.
                let _ = report_wait(shared, subject, &Wait::Working(step)).await;
            }
            return Some(Action::requeue(Duration::from_secs(2)));
        }
        Progress::Done { at, result } => {
            shared.memory.settle(&subject.uid, at);
            if let Err(error) = result {
                note_error(shared, subject, mark, &error).await;
            }
        }
    }
    let image = image_operation(subject);
    if subject.deleting() {
        shared.operations.leave(&image, &waiter);
    } else if let Progress::Done { result, .. } = shared.operations.take(&image, &waiter) {
        let spec = &subject.machine.spec;
        match result {
            Ok(()) => shared.memory.image_seen(spec.runtime.as_str(), &spec.image),
            Err(error) => note_error(shared, subject, mark, &error).await,
        }
    }
    None
}

async fn note_error(shared: &Shared, subject: &Subject, mark: &Mark, error: &EffectError) {
    if matches!(error, EffectError::Cancelled) {
        return;
    }
    tracing::warn!(machine = subject.name, error = %error.chain(), "a step failed");
    shared.backoff.failed(&subject.uid, mark, error);
    shared.events.tell(&*subject.machine, Tone::Warning, error.reason(), &error.chain()).await;
}

/// kubeadm that failed is counted once a failure, not once a pass.
async fn count_failure(shared: &Shared, subject: &Subject, plan: &Plan, mark: &Mark) {
    const NOTE: &str = "bootstrap failed";
    match &plan.failed {
        Some(log) if shared.memory.note(&subject.uid, NOTE) => {
            let message = format!("kubeadm failed: {log}");
            shared.backoff.note(&subject.uid, mark, super::retry::Class::Transient, "BootstrapFailed", message.clone());
            shared.events.tell(&*subject.machine, Tone::Warning, "BootstrapFailed", &message).await;
        }
        Some(_) => {}
        None => shared.memory.unnote(&subject.uid, NOTE),
    }
}

fn start(shared: &Arc<Shared>, subject: &Subject, plan: &Plan, _mark: &Mark) -> bool {
    if plan.steps == [Step::PullImage] {
        return pull(shared, subject);
    }
    let (shared_there, subject_there, steps) = (Arc::clone(shared), subject.clone(), plan.steps.clone());
    shared.operations.start(Load::Work, &operation(subject), &purpose(subject), &waiter(subject), |handle| {
        act::perform(shared_there, subject_there, steps, handle).boxed()
    })
}

fn pull(shared: &Arc<Shared>, subject: &Subject) -> bool {
    let (runtime, image) = (Arc::clone(&subject.host.runtime), subject.machine.spec.image.clone());
    shared.operations.start(Load::Wait, &image_operation(subject), "", &waiter(subject), |handle| {
        async move {
            handle.at("PullingImage");
            with_retries(&handle.cancelled, || async { Ok(runtime.ensure_image(&image).await.map(|_| ())?) }).await
        }
        .boxed()
    })
}

fn next(shared: &Shared, subject: &Subject, plan: &Plan, started: bool, held_back: Option<Duration>) -> Action {
    if !plan.wait.as_ref().is_some_and(is_polled) {
        shared.memory.rests(&subject.uid);
    }
    if started {
        // The operation's end wakes; this is for what takes long, to be told.
        return Action::requeue(Duration::from_secs(2));
    }
    if let Some(held_back) = held_back.filter(|_| !plan.steps.is_empty()) {
        // What the plan waits for would come of the steps: until they are tried again, looking shows nothing new.
        return Action::requeue(held_back.min(NOW_AND_THEN));
    }
    let pause = match &plan.wait {
        Some(wait) => pause(shared, subject, wait),
        None => NOW_AND_THEN,
    };
    let pause = plan.again.map_or(pause, |again| again.min(pause));
    Action::requeue(held_back.map_or(pause, |held_back| held_back.min(pause)))
}

/// How soon to look again. What a listing, a watch or another object's pass tells wakes by itself.
fn pause(shared: &Shared, subject: &Subject, wait: &Wait) -> Duration {
    let poll = || shared.memory.poll(&subject.uid, wait.reason());
    match wait {
        Wait::NodeSilent(_) | Wait::EtcdSilent(_) | Wait::BootBroken => poll().max(Duration::from_secs(1)),
        _ if is_polled(wait) => poll(),
        Wait::Observing | Wait::Network | Wait::HostPathMissing(_) | Wait::HostPathRefused { .. } => {
            Duration::from_secs(5)
        }
        // Whoever gives a place back wakes; one that was lost by somebody stuck is found in any case.
        Wait::Queued => Duration::from_secs(30),
        Wait::RuntimeSilent(_) | Wait::ApiAway | Wait::BootstrapFailed(_) => Duration::from_secs(15),
        _ => NOW_AND_THEN,
    }
}

/// Whether nobody tells of the end of a wait.
fn is_polled(wait: &Wait) -> bool {
    matches!(
        wait,
        Wait::Booting
            | Wait::Peers(_)
            | Wait::Bootstrapping
            | Wait::Resetting
            | Wait::Draining(_)
            | Wait::DisruptionBudget { .. }
            | Wait::LeaseNotRenewed
            | Wait::EtcdSilent(_)
            | Wait::NodeSilent(_)
            | Wait::BootBroken
    )
}

async fn report(
    shared: &Shared,
    subject: &Subject,
    facts: &Facts,
    plan: &Plan,
    images: Option<Verdict>,
) -> Result<(), ReconcileError> {
    if facts.deleting && plan.steps.contains(&Step::RemoveFinalizer) {
        return Ok(());
    }
    if matches!(facts.host, HostFacts::Stale) {
        // The next listing is milliseconds away, and tells more.
        return Ok(());
    }
    let now = shared.context.world.clock.now();
    let mut status = report::status(subject, facts, plan, shared.backoff.failure(&subject.uid), now);
    match images {
        Some(verdict) => conditions::set(&mut status.conditions, &verdict, subject.machine.metadata.generation, now),
        None => status.conditions.retain(|condition| condition.type_ != conditions::IMAGES_LOADED),
    }
    if let super::host::Seen::Known(listing) = subject.host.seen() {
        let container = super::host::container(&listing, &subject.name, &subject.owner);
        status.container_id = container.ours().map(|container| container.id.to_string());
        status.container_hash = container.ours().and_then(|container| container.owner()?.spec_hash);
    }
    write(shared, subject, status).await
}

async fn report_wait(shared: &Shared, subject: &Subject, wait: &Wait) -> Result<(), ReconcileError> {
    let mut status = subject.machine.status.clone().unwrap_or_default();
    status.waiting = Some(report::waiting(wait, status.waiting.as_ref(), shared.context.world.clock.now()));
    write(shared, subject, status).await
}

async fn write(shared: &Shared, subject: &Subject, status: MachineStatus) -> Result<(), ReconcileError> {
    let before = subject.machine.status.as_ref();
    if before == Some(&status) {
        return Ok(());
    }
    let api: Api<Machine> = Api::all(shared.context.client.clone());
    let patch = serde_json::json!([{ "op": "add", "path": "/status", "value": status }]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(ReconcileError::Json)?;
    let was_ready = before.is_some_and(|before| conditions::is_true(&before.conditions, READY));
    let is_ready = conditions::is_true(&status.conditions, READY);
    match api.patch_status(&subject.name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
        Ok(written) => shared.machines.wrote(written),
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
        Err(error) => return Err(ReconcileError::api("report the status of", &subject.name, error)),
    }
    if is_ready && !was_ready {
        shared.events.tell(&*subject.machine, Tone::Normal, "Ready", "the node is Ready").await;
    }
    Ok(())
}

/// A Machine is gone: so is everything that was remembered of it.
pub fn forget(shared: &Shared, machine: &Machine) {
    let Some(uid) = machine.uid() else { return };
    shared.memory.forget(&uid);
    shared.derived.forget(&uid);
    shared.backoff.reset(&uid);
    shared.give_place_back(&format!("machine/{uid}"));
}
