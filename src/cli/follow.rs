//! Progress towards a goal: a live tree on a terminal, a line a step when piped.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use kube::{Client, ResourceExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::printer::{Printer, Stream};
use super::progress;
use crate::api::conditions;
use crate::api::{Cluster, Machine};
use crate::ui::screen::{self, Screen};
use crate::ui::steps::Steps;
use crate::ui::{View, feed, tree};

/// News are gathered this long before anything is drawn: often enough to look live, seldom enough to cost nothing.
const FRAME: Duration = Duration::from_millis(50);
/// Frames after which a terminal is drawn again without news, for the ages in it: once a second.
const FRAMES_IDLE: u32 = 20;
/// What was stuck when Kina ended may get on now that it runs again: a verdict counts when controllers have had this
/// long to look again.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// What was recorded when Kina ended may not hold any more: controllers get this long to say so.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// What a machine waits for that is up, and has no Kubernetes as its cluster wishes.
const BEFORE_KUBERNETES: &str = "StoppedBeforeKubernetes";
/// What a machine waits for that works, and is to be made anew.
const BEFORE_ROLL: &str = "WaitingForRoll";
/// Events below the tree.
const EVENTS: usize = 5;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// These Clusters are Ready, by name with the generation that must have been seen.
    Ready(BTreeMap<String, i64>),
    /// These Clusters are gone, by name with the UID that must be gone.
    Gone(BTreeMap<String, String>),
    /// Nothing: it goes on until Ctrl-C.
    Never,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There.
    Reached,
    /// Not yet: what is missing, a line each.
    Pending(Vec<String>),
    /// It will not get there by itself: why, a line each.
    Stuck(Vec<String>),
}

/// How following ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The goal is reached, or cannot be.
    Judged(Verdict),
    /// The time was over: how long it was, and what was missing.
    TimedOut(Duration, Vec<String>),
    /// Ctrl-C.
    Interrupted,
}

/// What to follow, and where to show it.
#[derive(Clone, Debug)]
pub struct Follow {
    /// What is waited for.
    pub goal: Goal,
    /// Where progress shows.
    pub stream: Stream,
    /// Only these Clusters; all if empty.
    pub only: Vec<String>,
    /// No longer than this.
    pub timeout: Option<Duration>,
    /// Whether Kina started with this command: what is recorded may then be older than what is.
    pub is_fresh: bool,
}

impl Goal {
    /// How far it is.
    #[must_use]
    pub fn judge(&self, view: &View) -> Verdict {
        let mut pending = Vec::new();
        let mut stuck = Vec::new();
        match self {
            Self::Ready(wanted) => {
                for (name, generation) in wanted {
                    match view.cluster(name) {
                        None => stuck.push(format!("cluster/{name} was deleted meanwhile")),
                        Some(cluster) if cluster.spec.stop_before_kubernetes => {
                            judge_up(cluster, *generation, &view.machines_of(name), (&mut pending, &mut stuck));
                        }
                        Some(cluster) => {
                            judge_ready(cluster, *generation, &view.machines_of(name), (&mut pending, &mut stuck));
                        }
                    }
                }
            }
            Self::Gone(unwanted) => {
                for (name, uid) in unwanted {
                    if let Some(cluster) = view.cluster(name).filter(|cluster| cluster.uid().as_ref() == Some(uid)) {
                        pending.push(format!("cluster/{name} is still there{}", why(cluster)));
                    }
                }
            }
            Self::Never => pending.push(String::new()),
        }
        match (stuck.is_empty(), pending.is_empty()) {
            (true, true) => Verdict::Reached,
            // What can still move may; the verdict comes when nothing moves any more.
            (_, false) => Verdict::Pending(pending.into_iter().chain(stuck).collect()),
            (false, true) => Verdict::Stuck(stuck),
        }
    }
}

/// A cluster that is to have machines and no Kubernetes: they are up.
fn judge_up(
    cluster: &Cluster,
    generation: i64,
    machines: &[&Machine],
    (pending, stuck): (&mut Vec<String>, &mut Vec<String>),
) {
    let is_up = |machine: &&&Machine| {
        waits_for(machine) == Some(BEFORE_KUBERNETES)
            || machine.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, conditions::READY))
    };
    let up = machines.iter().filter(is_up).count();
    let counts = cluster.status.as_ref().and_then(|status| status.machines.as_ref());
    let desired = counts.map_or(0, |counts| counts.desired as usize);
    let seen = cluster.status.as_ref().and_then(|status| status.observed_generation);
    if seen.is_some_and(|seen| seen >= generation) && desired > 0 && up == desired && machines.len() == desired {
        return;
    }
    let before = (pending.len(), stuck.len());
    judge_ready(cluster, generation, machines, (&mut *pending, &mut *stuck));
    // Why it is not Ready is no reason here.
    if stuck.len() == before.1 {
        pending.truncate(before.0);
        pending.push(format!("cluster/{} is not up: {up} of {desired} machines are", cluster.name_any()));
    }
}

fn judge_ready(
    cluster: &Cluster,
    generation: i64,
    machines: &[&Machine],
    (pending, stuck): (&mut Vec<String>, &mut Vec<String>),
) {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    if cluster.metadata.deletion_timestamp.is_some() {
        stuck.push(format!("cluster/{name} is being deleted"));
        return;
    }
    if status.observed_generation.is_none_or(|seen| seen < generation) {
        pending.push(format!("cluster/{name} is not taken up yet"));
        return;
    }
    let current = |type_: &str| {
        conditions::get(&status.conditions, type_)
            .filter(|condition| condition.observed_generation.is_none_or(|seen| seen >= generation))
    };
    if let Some(stalled) = current(conditions::STALLED).filter(|condition| condition.status == "True") {
        stuck.push(format!("cluster/{name}: {}: {}", stalled.reason, stalled.message));
        return;
    }
    match current(conditions::READY) {
        // Nothing will change while it is paused: as far as it can get.
        _ if cluster.spec.paused || status.phase.as_deref() == Some("Paused") => {}
        // What works while its machines are made anew one by one is not what was asked for yet.
        Some(ready) if ready.status == "True" && status.phase.as_deref() == Some("Updating") => {
            pending.push(format!("cluster/{name} is being updated{}", why(cluster)));
        }
        Some(ready) if ready.status == "True" => {
            pending.extend(machines.iter().filter(|machine| is_outdated(machine)).map(|machine| {
                let name = machine.name_any();
                format!("machine/{name} is not as it was asked for yet")
            }));
        }
        Some(ready) => pending.push(format!("cluster/{name} is not Ready: {}: {}", ready.reason, ready.message)),
        None => pending.push(format!("cluster/{name} is not Ready")),
    }
}

/// Whether nobody has looked at what is asked of a machine, or it works and is to be made anew.
fn is_outdated(machine: &Machine) -> bool {
    let seen = machine.status.as_ref().and_then(|status| status.observed_generation);
    seen < machine.metadata.generation || waits_for(machine) == Some(BEFORE_ROLL)
}

/// The reason why a machine waits, if it does.
fn waits_for(machine: &Machine) -> Option<&str> {
    Some(machine.status.as_ref()?.waiting.as_ref()?.reason.as_str())
}

/// What a cluster waits for, to be said after something else; nothing where it waits for nothing.
fn why(cluster: &Cluster) -> String {
    let waiting = cluster.status.as_ref().and_then(|status| status.waiting.as_ref());
    waiting.map(|waiting| format!(": {}: {}", waiting.reason, waiting.message)).unwrap_or_default()
}

impl End {
    /// The end of a command that waits.
    ///
    /// # Errors
    /// Unless the goal is reached.
    pub fn into_result(self) -> Result<(), CliError> {
        match self {
            Self::Judged(Verdict::Reached) => Ok(()),
            Self::Judged(Verdict::Stuck(why) | Verdict::Pending(why)) => {
                let hint = of_runtime(&why);
                let error = CliError::new(Exit::Failure, "it does not get any further by itself").details(why);
                Err(error.hint(hint).hint("`kina describe cluster NAME` tells everything about one"))
            }
            Self::TimedOut(timeout, missing) => {
                let hint = of_runtime(&missing);
                let error = CliError::new(Exit::Timeout, format!("gave up after {}s", timeout.as_secs()));
                Err(error.details(missing).hint(hint))
            }
            Self::Interrupted => Err(CliError::silent(Exit::Interrupted)),
        }
    }
}

/// Who explains what a runtime lacks, where that is what is waited for.
fn of_runtime(why: &[String]) -> &'static str {
    let is_of_runtime = |line: &String| line.contains("RuntimeSilent: ") || line.contains("RuntimeUnsupported: ");
    if why.iter().any(is_of_runtime) { "`kina doctor` explains what is missing on this host" } else { "" }
}

/// Where a person left off waiting for a wish: it was not taken back.
#[must_use]
pub fn left_off(error: CliError) -> CliError {
    if error.exit() != Exit::Interrupted {
        return error;
    }
    CliError::new(Exit::Interrupted, "interrupted before it was done")
        .hint("the wish stays recorded, and a kina that runs goes on with it: `kina status`, `kina serve`")
}

/// Follows until the goal is reached, cannot be, the time is over, or Ctrl-C.
///
/// # Errors
/// When the output cannot be written.
pub async fn follow(context: &mut Context, client: &Client, follow: &Follow) -> Result<End, CliError> {
    let begin = Instant::now();
    let deadline = follow.timeout.map(|timeout| Instant::now() + timeout);
    let interrupt = context.interrupt.clone();
    let mut feed = feed::feed(client);
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawing = Drawing::new(context, follow);
    let mut view = View::default();
    let (mut has_news, mut is_away, mut idle) = (false, false, 0);
    let mut verdict = Verdict::Pending(Vec::new());
    loop {
        tokio::select! {
            biased;
            () = interrupt.first() => return Ok(End::Interrupted),
            () = reach(deadline) => {
                let missing = match verdict {
                    Verdict::Pending(missing) | Verdict::Stuck(missing) => missing,
                    Verdict::Reached => Vec::new(),
                };
                return Ok(End::TimedOut(follow.timeout.unwrap_or_default(), missing));
            }
            _ = frames.tick() => {
                idle += 1;
                if view.is_complete() && (has_news || idle >= FRAMES_IDLE) {
                    drawing.draw(context, &view)?;
                    verdict = follow.goal.judge(&view);
                    (has_news, idle) = (false, 0);
                }
                match &verdict {
                    Verdict::Pending(_) => {}
                    Verdict::Reached if follow.is_fresh && begin.elapsed() < FIRST_LOOK => {}
                    Verdict::Stuck(_) if begin.elapsed() < SECOND_LOOK => {}
                    Verdict::Stuck(_) | Verdict::Reached => return Ok(End::Judged(verdict)),
                }
            }
            update = feed.next() => match update {
                Some(Ok(update)) => {
                    has_news |= view.apply(update);
                    is_away = false;
                }
                Some(Err(error)) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "a watch broke");
                    drawing.note(context, "note: the API does not answer; trying again")?;
                }
                Some(Err(_)) => {}
                None => return Ok(End::Interrupted),
            },
        }
    }
}

async fn reach(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The tree in place, or a line a step.
enum Drawing {
    Live(Screen, Stream, Vec<String>),
    Lines(Steps, Stream),
    Events(Steps),
}

impl Drawing {
    fn new(context: &Context, follow: &Follow) -> Self {
        let printer = &context.printer;
        if context.is_read_by_a_program() {
            return Self::Events(Steps::of(follow.only.clone()));
        }
        let is_terminal = match follow.stream {
            Stream::Out => printer.out_is_terminal(),
            Stream::Err => printer.err_is_terminal(),
        };
        if is_terminal {
            Self::Live(Screen::default(), follow.stream, follow.only.clone())
        } else {
            Self::Lines(Steps::of(follow.only.clone()), follow.stream)
        }
    }

    /// Says something beside the drawing.
    fn note(&mut self, context: &mut Context, text: &str) -> Result<(), CliError> {
        if let Self::Live(screen, stream, _) = self {
            let cleared = screen.clear(context.printer.stream(*stream));
            cleared.map_err(|error| Printer::lost("the terminal", error))?;
        }
        context.printer.talk(text);
        Ok(())
    }

    fn draw(&mut self, context: &mut Context, view: &View) -> Result<(), CliError> {
        match self {
            Self::Live(screen, stream, only) => {
                let style = match stream {
                    Stream::Out => context.printer.out_style(),
                    Stream::Err => context.printer.err_style(),
                };
                let size = screen::size();
                let now = context.world.clock.now();
                let only = only.clone();
                let mut options = tree::Options { width: size.0, style, now, only, events: EVENTS, folded: false };
                let mut lines = tree::lines(view, &options);
                if !screen::fits(&lines, size) {
                    options.folded = true;
                    lines = tree::lines(view, &options);
                }
                screen
                    .draw(context.printer.stream(*stream), &lines, size, style)
                    .map_err(|error| Printer::lost("the terminal", error))
            }
            Self::Events(steps) => steps.news(view).iter().try_for_each(|step| context.tell(progress::step(step))),
            Self::Lines(steps, stream) => {
                let lines = steps.observe(view);
                match stream {
                    Stream::Out => context.printer.data_lines(&lines),
                    Stream::Err => {
                        context.printer.talk_lines(&lines);
                        Ok(())
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SINCE: &str = "2026-01-01T00:00:00Z";

    fn waiting(reason: &str) -> Value {
        json!({"reason": reason, "message": "dev-default-0", "since": SINCE})
    }

    /// A cluster of one machine, both of generation 2, where everything works.
    fn judged(phase: &str, machine: Value) -> Verdict {
        let status = json!({"phase": phase, "observedGeneration": 2, "waiting": waiting("Rolling"),
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 2,
                "lastTransitionTime": SINCE}]});
        let cluster = json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "dev", "generation": 2, "uid": "u"}, "spec": {}, "status": status});
        let machine = json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
            "metadata": {"name": "dev-default-0", "generation": 2},
            "spec": {"cluster": "dev", "role": "worker", "pool": "default", "ordinal": 0, "runtime": "sim", "image": "i",
                "kubernetesVersion": "v1.35.5", "address": "10.160.0.10", "bootstrap": {"method": "Join"}},
            "status": machine});
        let view = View::of(
            vec![serde_json::from_value(cluster).unwrap()],
            vec![serde_json::from_value(machine).unwrap()],
            Vec::new(),
            Vec::new(),
        );
        Goal::Ready(BTreeMap::from([("dev".to_owned(), 2)])).judge(&view)
    }

    #[test]
    fn what_works_while_it_is_made_anew_is_not_there_yet() {
        let current = json!({"observedGeneration": 2});
        assert_eq!(judged("Running", current.clone()), Verdict::Reached);
        let pending = |text: &str| Verdict::Pending(vec![text.to_owned()]);
        assert_eq!(judged("Updating", current), pending("cluster/dev is being updated: Rolling: dev-default-0"));
        let outdated = pending("machine/dev-default-0 is not as it was asked for yet");
        assert_eq!(judged("Running", json!({"observedGeneration": 1})), outdated);
        let waits = json!({"observedGeneration": 2, "waiting": waiting("WaitingForRoll")});
        assert_eq!(judged("Running", waits.clone()), outdated);
        assert_eq!(judged("Paused", waits), Verdict::Reached, "nothing more happens to it");
    }
}
