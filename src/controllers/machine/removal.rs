//! How a Machine goes: first from its cluster, where that lives on, then from the host.

use super::facts::{ClusterState, ContainerFacts, Facts, HostFacts, Inside, Membership};
use super::plan::{Plan, Step, draining};
use super::wait::Wait;
use crate::api::machine::MachineRole;
use crate::controllers::host::Found;
use crate::kubeadm::units::UnitState;
use crate::runtime::ContainerState;

/// Plans the next step of it.
pub(super) fn removal(facts: &Facts) -> Plan {
    if facts.cluster == (ClusterState::Deleting { orphan: true }) {
        return Plan::steps(vec![Step::RemoveFinalizer]);
    }
    let (network, volume, container) = match &facts.host {
        HostFacts::Unknown(message) => return Plan::wait(Wait::RuntimeSilent(message.clone())),
        HostFacts::Stale => return Plan { needs_listing: true, ..Plan::wait(Wait::Observing) },
        HostFacts::Known { network, volume, container, .. } => (*network, volume, container),
    };
    if facts.cluster == ClusterState::Paused {
        return Plan::wait(Wait::Paused);
    }
    let stays = !facts.cluster.ends();
    let is_asked = facts.role == MachineRole::ControlPlane && facts.api.is_known();
    let mut steps = Vec::new();
    if stays && (facts.was_node || is_asked || may_be_member(facts, container, volume)) {
        let back = volume.ours().and_then(|()| back_up(facts, network, container));
        match back.map_or_else(|| parting(facts, container), |plan| Err(Box::new(plan))) {
            Ok(before) => steps = before,
            Err(plan) => return *plan,
        }
    }
    if container.ours().is_some() {
        steps.push(Step::RemoveContainer);
        if stays && facts.membership != Membership::Alone && may_be_member(facts, container, volume) {
            // Until its container is gone it may become a member still: only then what etcd says of it is the last word.
            return Plan::steps(steps);
        }
    }
    if volume.ours().is_some() {
        steps.push(Step::RemoveVolume);
    }
    if steps.is_empty() {
        if !facts.cluster.ends() && facts.api.answers == Some(true) {
            // A kubelet may have registered in its last moment, unseen by the watch; now there is none any more.
            steps.push(Step::DeleteNode(None));
        }
        steps.push(Step::RemoveFinalizer);
    }
    Plan::steps(steps)
}

/// What a living cluster needs before one of its nodes goes; the error is a plan that comes first.
fn parting(facts: &Facts, container: &Found<ContainerFacts>) -> Result<Vec<Step>, Box<Plan>> {
    let runs = container.ours().is_some_and(|container| container.state == ContainerState::Running);
    if !facts.api.is_known() {
        return Err(Box::new(Plan::wait(Wait::ApiAway)));
    }
    if runs
        && let Some(node) = facts.api.node.as_ref().filter(|node| node.ready)
        && let Some(plan) = draining(facts, node)
    {
        return Err(Box::new(plan));
    }
    if runs
        && facts.role == MachineRole::ControlPlane
        && matches!(facts.inside, Inside::Up { bootstrap: UnitState::Running, .. })
    {
        // What is half way in would go on joining after it has left.
        return Err(Box::new(Plan::steps(vec![Step::ForgetUnits])));
    }
    if let Some(mut plan) = leaving_etcd(facts) {
        // What is no member any more serves nobody, and must not go on answering.
        let goes = container.ours().is_some() && !plan.steps.is_empty();
        plan.steps.extend(goes.then_some(Step::RemoveContainer));
        return Err(Box::new(plan));
    }
    if container.ours().is_some() && facts.role == MachineRole::ControlPlane {
        // The way to the API may lead through this very one.
        return Ok(Vec::new());
    }
    Ok(facts.api.node.iter().map(|node| Step::DeleteNode(Some(node.uid.clone()))).collect())
}

/// What comes before the data of a control plane may be lost: a member that is counted and has none can never vote again.
/// `None` where etcd does not count it.
pub(super) fn leaving_etcd(facts: &Facts) -> Option<Plan> {
    match &facts.membership {
        _ if facts.role == MachineRole::Worker => None,
        Membership::Alone | Membership::Absent | Membership::Left => None,
        Membership::NotAsked => Some(Plan { needs_membership: true, ..Plan::wait(Wait::Observing) }),
        Membership::Unknown(message) => Some(Plan::wait(Wait::EtcdSilent(message.clone()))),
        Membership::Present { member, via } => {
            let for_good = facts.is_quiet();
            Some(Plan::steps(vec![Step::RemoveMember { member: *member, via: via.clone(), for_good }]))
        }
    }
}

/// A control plane that does not run any more may be what the others lack for their majority, without which their API is
/// away and it cannot be let go: it runs once more. `None` where that is no use.
fn back_up(facts: &Facts, network: bool, container: &Found<ContainerFacts>) -> Option<Plan> {
    if facts.role != MachineRole::ControlPlane || facts.api.is_known() || facts.membership == Membership::Left {
        return None;
    }
    match container {
        Found::Ours(ContainerFacts { state: ContainerState::Created | ContainerState::Stopped { .. }, .. }) => {
            Some(Plan::steps(vec![Step::StartContainer]))
        }
        Found::Absent if !network => Some(Plan::wait(Wait::Network)),
        Found::Absent => Some(Plan::steps(vec![Step::CreateContainer, Step::StartContainer])),
        Found::Ours(_) | Found::Foreign => None,
    }
}

/// Whether a control plane may be a member of etcd though it is not known as a node: its data may be there, and nobody can tell
/// that it is none. One in which kubeadm has not begun has no data.
fn may_be_member(facts: &Facts, container: &Found<ContainerFacts>, volume: &Found<()>) -> bool {
    let is_running = container.ours().is_some_and(|container| container.state == ContainerState::Running);
    let is_empty = matches!(facts.inside, Inside::Up { leftovers: false, marker: false, bootstrap, .. }
        if bootstrap != UnitState::Running);
    let is_none = facts.membership == Membership::Left || is_running && is_empty;
    facts.role == MachineRole::ControlPlane && volume.ours().is_some() && !is_none
}
