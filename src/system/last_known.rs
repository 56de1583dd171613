//! What was recorded last, corrected by one look at the hosts: what is shown while no Kina runs.
//!
//! What the store says of a cluster was true when the last Kina ended. Nothing of it may be shown as if it were so now:
//! what the look contradicts is `False`, what it cannot tell is `Unknown`, and what was wrong before stays told. Pure:
//! objects and sights in, corrected objects out.
//!
//! | container | Machine's phase | its `Ready` |
//! |---|---|---|
//! | is gone, or has stopped | `Gone`, `Stopped` | False |
//! | would run, but ends with Kina (simulated) | `Stopped` | False |
//! | runs | `Unknown` | Unknown: nobody asked its node |
//! | could not be listed | `Unknown` | Unknown |

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use crate::api::cluster::RuntimeName;
use crate::api::conditions::{
    self, ADDONS_READY, CONTAINER_READY, CONTROL_PLANE_READY, DRIFTED, Holds, KUBECONFIG_READY, NETWORK_READY,
    NODE_READY, READY, STALLED, Verdict, WORKERS_READY, Waiting, whole_seconds,
};
use crate::api::{Cluster, Machine};
use crate::controllers::host::{self, Found};
use crate::controllers::machine::container::owner;
use crate::runtime::{ContainerState, InstallationId, Listing};

/// The reason of everything that is not so, or not known, because no Kina runs.
pub const NOT_RUNNING: &str = "KinaNotRunning";

/// What a look at the runtimes showed.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    /// Which Kina's containers count; `None` where this home never made any.
    pub installation: Option<InstallationId>,
    /// Each runtime that this Kina can drive.
    pub hosts: BTreeMap<RuntimeName, Sight>,
}

/// What a look at one runtime showed.
#[derive(Clone, Debug)]
pub enum Sight {
    /// Everything there is.
    Seen {
        /// The listing.
        listing: Listing,
        /// Its containers run in Kina's own process: none runs now, whatever the listing says.
        ends_with_process: bool,
    },
    /// Nothing: what the runtime said instead.
    Silent(String),
}

/// A Machine's container, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Running,
    /// As it was left, and none of it lives while no Kina does.
    Asleep,
    Stopped,
    Gone,
    /// It was never made.
    Unmade,
    /// Nobody knows: why.
    Unknown(String),
}

impl Sights {
    /// Corrects Machines.
    pub fn correct_machines(&self, machines: &mut [Machine], now: Timestamp) {
        for machine in machines {
            let seen = self.container(machine);
            correct_machine(machine, &seen, now);
        }
    }

    /// Corrects Clusters. `machines` are all Machines, corrected or not.
    pub fn correct_clusters(&self, clusters: &mut [Cluster], machines: &[Machine], now: Timestamp) {
        for cluster in clusters {
            let name = cluster.name_any();
            let own = machines.iter().filter(|machine| machine.spec.cluster == name);
            let seen: Vec<Seen> = own.map(|machine| self.container(machine)).collect();
            correct_cluster(cluster, &seen, now);
        }
    }

    fn container(&self, machine: &Machine) -> Seen {
        let runtime = machine.spec.runtime;
        let (listing, ends_with_process) = match self.hosts.get(&runtime) {
            Some(Sight::Seen { listing, ends_with_process }) => (listing, *ends_with_process),
            Some(Sight::Silent(message)) => return Seen::Unknown(message.clone()),
            None => return Seen::Unknown(format!("this version of Kina cannot look at {}", runtime.as_str())),
        };
        let owner = self.installation.as_ref().and_then(|installation| owner(installation, machine));
        let found = owner.map_or(Found::Absent, |owner| host::container(listing, &machine.name_any(), &owner));
        match found.ours().map(|container| &container.state) {
            None if machine.status.as_ref().is_none_or(|status| status.container_id.is_none()) => Seen::Unmade,
            None => Seen::Gone,
            Some(ContainerState::Running) if ends_with_process => Seen::Asleep,
            Some(ContainerState::Running) => Seen::Running,
            Some(ContainerState::Created | ContainerState::Stopped { .. }) => Seen::Stopped,
            Some(ContainerState::Unknown) => Seen::Unknown("the runtime does not say what it does".to_owned()),
        }
    }
}

fn correct_machine(machine: &mut Machine, seen: &Seen, now: Timestamp) {
    let is_deleting = machine.metadata.deletion_timestamp.is_some();
    let Some(status) = machine.status.as_mut() else { return };
    // What was being waited for goes on when a Kina does.
    status.waiting = None;
    let (phase, container, ready, reason, message) = match seen {
        Seen::Unmade => return,
        Seen::Running => {
            ("Unknown", Holds::True, Holds::Unknown, NOT_RUNNING, "its container runs; nobody asks its node".to_owned())
        }
        Seen::Asleep => ("Stopped", Holds::False, Holds::False, NOT_RUNNING, "simulated: it ends with Kina".to_owned()),
        Seen::Stopped => {
            ("Stopped", Holds::False, Holds::False, "ContainerStopped", "its container has stopped".into())
        }
        Seen::Gone => ("Gone", Holds::False, Holds::False, "ContainerMissing", "its container is gone".to_owned()),
        Seen::Unknown(message) => ("Unknown", Holds::Unknown, Holds::Unknown, "RuntimeSilent", message.clone()),
    };
    let generation = status.observed_generation;
    let verdict = |type_, status, reason, message: &str| Verdict { type_, status, reason, message: message.to_owned() };
    let because = if container == Holds::True { "Running" } else { reason };
    conditions::set(&mut status.conditions, &verdict(CONTAINER_READY, container, because, ""), generation, now);
    for type_ in [NODE_READY, READY] {
        worsen(&mut status.conditions, &verdict(type_, ready, reason, &message), generation, now);
    }
    forget_agreement(&mut status.conditions, generation, now);
    if !is_deleting && !conditions::is_true(&status.conditions, STALLED) {
        status.phase = Some(phase.to_owned());
    }
}

fn correct_cluster(cluster: &mut Cluster, seen: &[Seen], now: Timestamp) {
    let runtime = cluster.spec.runtime.unwrap_or_default();
    let is_deleting = cluster.metadata.deletion_timestamp.is_some();
    let mut status = cluster.status.take().unwrap_or_default();
    let before = last_known(&status.phase, status.waiting.as_ref());
    let message = told(runtime, seen) + &before;
    let made: Vec<&Seen> = seen.iter().filter(|seen| **seen != Seen::Unmade).collect();
    let number = |one: fn(&Seen) -> bool| made.iter().filter(|seen| one(seen)).count();
    let unknown = number(|seen| matches!(seen, Seen::Unknown(_)));
    let running = number(|seen| *seen == Seen::Running);
    let (phase, ready, reason) = match made.len() {
        0 => (None, Holds::Unknown, NOT_RUNNING),
        _ if unknown > 0 => (Some("Unknown"), Holds::Unknown, "RuntimeSilent"),
        all if running == all => (Some("Unknown"), Holds::Unknown, NOT_RUNNING),
        _ if running > 0 => (Some("Degraded"), Holds::False, "ContainersNotRunning"),
        _ if number(|seen| *seen == Seen::Asleep) > 0 => (Some("Stopped"), Holds::False, NOT_RUNNING),
        _ => (Some("Stopped"), Holds::False, "ContainersNotRunning"),
    };
    let generation = status.observed_generation;
    let verdict = |type_, status, message: &str| Verdict { type_, status, reason, message: message.to_owned() };
    worsen(&mut status.conditions, &verdict(READY, ready, &message), generation, now);
    for type_ in [NETWORK_READY, CONTROL_PLANE_READY, WORKERS_READY, KUBECONFIG_READY, ADDONS_READY] {
        worsen(&mut status.conditions, &verdict(type_, Holds::Unknown, ""), generation, now);
    }
    forget_agreement(&mut status.conditions, generation, now);
    if let Some(counts) = status.machines.as_mut() {
        counts.ready = 0;
        counts.summary = format!("0/{}", counts.desired);
    }
    // What a phase promises to be alive is what the look tells of; the others stay as the last thing known.
    let stays =
        is_deleting || matches!(status.phase.as_deref(), None | Some("Pending" | "Paused" | "Failed" | "Deleting"));
    if !stays && phase.is_some() {
        status.phase = phase.map(str::to_owned);
    }
    status.waiting = Some(Waiting { reason: NOT_RUNNING.to_owned(), message, since: Time(whole_seconds(now)) });
    cluster.status = Some(status);
}

/// What the look told of a Cluster's containers, as a sentence.
fn told(runtime: RuntimeName, seen: &[Seen]) -> String {
    if let Some(message) = seen.iter().find_map(|seen| match seen {
        Seen::Unknown(message) => Some(message),
        _ => None,
    }) {
        return format!("{} could not be looked at ({message})", runtime.as_str());
    }
    let number = |wanted: &Seen| seen.iter().filter(|seen| *seen == wanted).count();
    let (running, asleep, stopped, gone) =
        (number(&Seen::Running), number(&Seen::Asleep), number(&Seen::Stopped), number(&Seen::Gone));
    let made = running + asleep + stopped + gone;
    if made == 0 {
        return "nothing happens until `kina serve` runs".to_owned();
    }
    let is_simulated = runtime == RuntimeName::Sim;
    let mut parts = Vec::new();
    if running > 0 {
        parts.push(format!("{running} of {made} containers run, and nobody looks after them until `kina serve` does"));
    }
    if is_simulated {
        parts.push("simulated clusters answer only while Kina runs (`kina serve`)".to_owned());
    }
    let be = |number: usize| if number == 1 { "is" } else { "are" };
    let have = |number: usize| if number == 1 { "has" } else { "have" };
    if stopped > 0 {
        parts.push(format!("{stopped} of {made} containers {} stopped", have(stopped)));
    }
    if gone > 0 {
        parts.push(format!("{gone} of {made} containers {} gone", be(gone)));
    }
    parts.join("; ")
}

fn last_known(phase: &Option<String>, waiting: Option<&Waiting>) -> String {
    match (phase, waiting) {
        (None, _) => String::new(),
        (Some(phase), None) => format!("; last known: {phase}"),
        (Some(phase), Some(waiting)) => format!("; last known: {phase}, {}: {}", waiting.reason, waiting.message),
    }
}

/// Sets a condition that is there, unless it is worse already: an Unknown says less than what was wrong before.
fn worsen(conditions: &mut Vec<Condition>, verdict: &Verdict, generation: Option<i64>, now: Timestamp) {
    let says_more = match conditions::get(conditions, verdict.type_) {
        None => false,
        Some(before) => before.status == "True" || verdict.status == Holds::False,
    };
    if says_more {
        conditions::set(conditions, verdict, generation, now);
    }
}

/// That nothing differs is not known either.
fn forget_agreement(conditions: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
    if conditions::get(conditions, DRIFTED).is_some_and(|drifted| drifted.status == "False") {
        let verdict = Verdict { type_: DRIFTED, status: Holds::Unknown, reason: NOT_RUNNING, message: String::new() };
        conditions::set(conditions, &verdict, generation, now);
    }
}

#[cfg(test)]
#[path = "last_known_tests.rs"]
mod tests;
