//! How a Machine goes: first from its cluster, where that lives on, then from the host.

use super::facts::{ClusterState, ContainerFacts, Facts, HostFacts, Inside};
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
    let mut steps = Vec::new();
    if !facts.cluster.ends() && (facts.was_node || is_member(facts, container)) {
        let back = volume.ours().and_then(|()| back_up(facts, network, container));
        match back.map_or_else(|| parting(facts, container), |plan| Err(Box::new(plan))) {
            Ok(before) => steps = before,
            Err(plan) => return *plan,
        }
    }
    if container.ours().is_some() {
        steps.push(Step::RemoveContainer);
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
    if facts.api.answers != Some(true) || !facts.api.listed {
        return Err(Box::new(Plan::wait(Wait::ApiAway)));
    }
    if runs
        && let Some(node) = facts.api.node.as_ref().filter(|node| node.ready)
        && let Some(plan) = draining(facts, node)
    {
        return Err(Box::new(plan));
    }
    if runs && facts.role == MachineRole::ControlPlane && (facts.api.node.is_some() || is_member(facts, container)) {
        match &facts.inside {
            // What is half way in would go on joining behind the reset.
            Inside::Up { bootstrap: UnitState::Running, .. } => {
                return Err(Box::new(Plan::steps(vec![Step::ForgetUnits])));
            }
            Inside::Up { reset: UnitState::Absent, .. } => return Err(Box::new(Plan::steps(vec![Step::StartReset]))),
            Inside::Up { reset: UnitState::Running, .. } => return Err(Box::new(Plan::wait(Wait::Resetting))),
            // A reset that failed was tried: the node goes all the same, since it was asked to.
            Inside::Up { .. } | Inside::Broken => {}
            Inside::Booting => return Err(Box::new(Plan::wait(Wait::Booting))),
            Inside::Silent(message) => return Err(Box::new(Plan::wait(Wait::NodeSilent(message.clone())))),
            Inside::NotAsked { .. } => return Err(Box::new(Plan::wait(Wait::Observing))),
        }
    }
    Ok(facts.api.node.iter().map(|node| Step::DeleteNode(Some(node.uid.clone()))).collect())
}

/// A control plane that does not run any more has to run once more before it goes: its member of etcd leaves from within
/// it, and may be what the others lack for the majority that lets it leave. `None` where that is done or no use.
fn back_up(facts: &Facts, network: bool, container: &Found<ContainerFacts>) -> Option<Plan> {
    let is_known = facts.api.answers == Some(true) && facts.api.listed;
    // No deletion is held up for ever by what does not start.
    if facts.role != MachineRole::ControlPlane || is_known && facts.overdue {
        return None;
    }
    match container {
        Found::Ours(ContainerFacts { state: ContainerState::Created | ContainerState::Stopped { .. }, .. }) => {
            Some(Plan::steps(vec![Step::StartContainer]))
        }
        // Its Node goes after its member, and before its container.
        Found::Absent if is_known && facts.api.node.is_none() => None,
        Found::Absent if !network => Some(Plan::wait(Wait::Network)),
        Found::Absent => Some(Plan::steps(vec![Step::CreateContainer, Step::StartContainer])),
        Found::Ours(_) | Found::Foreign => None,
    }
}

/// Whether a control plane may be a member of etcd though it is not known as a node: kubeadm has been at work in it, or
/// nobody can tell.
fn is_member(facts: &Facts, container: &Found<ContainerFacts>) -> bool {
    facts.role == MachineRole::ControlPlane
        && match container.ours().map(|container| container.state) {
            None | Some(ContainerState::Created) => false,
            Some(ContainerState::Running) => !matches!(facts.inside, Inside::Up { leftovers: false, .. }),
            Some(ContainerState::Stopped { .. } | ContainerState::Unknown) => true,
        }
}
