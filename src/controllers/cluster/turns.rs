//! Turns: what must not happen at the same time is granted here, and nowhere else.
//!
//! The brake: no more than a quarter of the machines, but at least one, is under repair at once. Control planes are made
//! anew one at a time, and only while the others keep a quorum. Where the quorum is lost already, all that are down are
//! started together: nothing else brings it back.

use std::collections::BTreeSet;

use super::facts::{Facts, MachineFacts, control_plane_in_work};
use super::wait::Wait;
use crate::api::cluster::DriftMode;
use crate::api::machine::{BootstrapMethod, Turn};

/// What to grant and to take back.
#[derive(Debug, Default)]
pub struct Granted {
    /// Machines whose turn changes.
    pub turns: Vec<(String, Option<Turn>)>,
    /// What a turn waits for.
    pub wait: Option<Wait>,
}

/// Decides; machines in `going` are about to be deleted.
#[must_use]
pub fn turns(facts: &Facts, going: &BTreeSet<&str>) -> Granted {
    let live: Vec<&MachineFacts> =
        facts.machines.iter().filter(|m| !m.deleting && !going.contains(m.name.as_str())).collect();
    let mut granted = Granted::default();
    let ended: BTreeSet<&str> = live.iter().filter(|m| has_ended(m)).map(|m| m.name.as_str()).collect();
    granted.turns.extend(ended.iter().map(|name| ((*name).to_owned(), None)));
    if facts.spec.drift.mode == DriftMode::Enforce {
        repairs(&live, &ended, &mut granted);
    }
    joins(facts, &live, going, &mut granted);
    if granted.turns.iter().all(|(_, turn)| turn.is_none()) {
        rolls(facts, &live, going, &ended, &mut granted);
    }
    granted
}

fn has_ended(machine: &MachineFacts) -> bool {
    // Past what a repair can do: what is missing then is kubelet's or the control plane's to bring.
    let as_node = matches!(
        machine.waiting.as_str(),
        "ApiAway" | "NodeNotReady" | "LeaseNotRenewed" | "NodeMissing" | "WaitingForRoll"
    );
    match machine.spec.turn {
        Some(Turn::Repair) => machine.ready || as_node || machine.has_lost_data(),
        Some(Turn::Roll) => machine.ready && !machine.outdated,
        Some(Turn::Bootstrap) | None => false,
    }
}

fn repairs(live: &[&MachineFacts], ended: &BTreeSet<&str>, granted: &mut Granted) {
    let repairing =
        |machine: &&&MachineFacts| machine.spec.turn == Some(Turn::Repair) && !ended.contains(machine.name.as_str());
    let broken = |machine: &&&MachineFacts| machine.needs_repair() && !repairing(machine);
    let planes: Vec<&MachineFacts> = live.iter().copied().filter(|m| m.is_control_plane()).collect();
    let healthy = planes.iter().filter(|machine| machine.ready).count();
    let quorum = planes.len() / 2 + 1;
    let at_once = if healthy < quorum { planes.len() } else { 1 };
    let under_way = planes.iter().filter(repairing).count();
    let repair = |machine: &&MachineFacts| (machine.name.clone(), Some(Turn::Repair));
    granted.turns.extend(planes.iter().filter(broken).take(at_once.saturating_sub(under_way)).map(repair));

    let share = live.len().div_ceil(4).max(1);
    let under_way = live.iter().filter(repairing).count();
    let workers: Vec<&MachineFacts> = live.iter().copied().filter(|m| !m.is_control_plane()).collect();
    granted.turns.extend(workers.iter().filter(broken).take(share.saturating_sub(under_way)).map(repair));
}

fn joins(facts: &Facts, live: &[&MachineFacts], going: &BTreeSet<&str>, granted: &mut Granted) {
    let asks = |machine: &&&MachineFacts| {
        let unmade = machine.bootstrapped != Some(true) && !machine.needs_repair();
        machine.spec.turn.is_none() && (machine.waiting == "WaitingForTurn" || unmade)
    };
    let workers =
        live.iter().filter(|m| !m.is_control_plane() && m.waiting == "WaitingForTurn" && m.spec.turn.is_none());
    granted.turns.extend(workers.map(|machine| (machine.name.clone(), Some(Turn::Bootstrap))));
    let Some(next) =
        live.iter().filter(|m| m.is_control_plane() && m.spec.bootstrap.method == BootstrapMethod::Join).find(asks)
    else {
        return;
    };
    let leaving = || facts.machines.iter().find(|m| m.is_control_plane() && going.contains(m.name.as_str()));
    let busy = control_plane_in_work(facts).or_else(leaving).map(|machine| machine.name.clone());
    let unready = || {
        let others = live.iter().filter(|m| m.is_control_plane() && m.spec.turn.is_some());
        others.clone().find(|machine| !machine.ready).map(|machine| machine.name.clone())
    };
    match busy.or_else(unready) {
        Some(other) => granted.wait = Some(Wait::ControlPlaneTurn(other)),
        None if facts.api_answers != Some(true) => granted.wait = Some(Wait::ControlPlane),
        None => granted.turns.push((next.name.clone(), Some(Turn::Bootstrap))),
    }
}

/// One slot at a time; those that do not work first, since a roll may be what mends them.
fn rolls(facts: &Facts, live: &[&MachineFacts], going: &BTreeSet<&str>, ended: &BTreeSet<&str>, granted: &mut Granted) {
    if let Some(rolling) = live.iter().find(|m| m.spec.turn == Some(Turn::Roll) && !ended.contains(m.name.as_str())) {
        granted.wait = Some(Wait::Rolling(rolling.name.clone()));
        return;
    }
    let mut outdated: Vec<&&MachineFacts> =
        live.iter().filter(|machine| machine.outdated && machine.bootstrapped == Some(true)).collect();
    outdated.sort_by_key(|machine| (machine.ready, !machine.is_control_plane(), machine.spec.ordinal));
    let Some(next) = outdated.first() else { return };
    let others = || live.iter().filter(|machine| machine.name != next.name);
    if next.ready
        && let Some(other) = others().find(|machine| !machine.ready)
    {
        granted.wait = Some(Wait::RollHeld(other.name.clone()));
        return;
    }
    let leaves = |machine: &&MachineFacts| machine.deleting || going.contains(machine.name.as_str());
    if let Some(leaving) = facts.machines.iter().find(leaves) {
        granted.wait = Some(Wait::RollHeld(leaving.name.clone()));
        return;
    }
    if let Some(busy) = control_plane_in_work(facts).filter(|_| next.is_control_plane()) {
        granted.wait = Some(Wait::RollHeld(busy.name.clone()));
        return;
    }
    let planes = live.iter().filter(|machine| machine.is_control_plane()).count();
    let healthy = others().filter(|machine| machine.is_control_plane() && machine.ready).count();
    if next.is_control_plane() && planes > 1 && healthy < planes / 2 + 1 {
        granted.wait = Some(Wait::RollHeld("the quorum of the control plane".to_owned()));
        return;
    }
    granted.turns.push((next.name.clone(), Some(Turn::Roll)));
}
