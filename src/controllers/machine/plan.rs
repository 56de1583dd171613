//! What a Machine does next: a pure function of what is wanted and what is.
//!
//! Steps come in order and leave no choice to whoever performs them. Where a Machine waits, it says for what. A step that
//! destroys something is planned only from a listing that began after the wish for it.

use std::time::Duration;

use serde_json::Value;

use super::facts::{
    ClusterState, ContainerFacts, Containerd, Drain, Facts, HostFacts, Inside, NodeFacts, Peer, PodNetwork,
};
use super::removal;
use super::wait::Wait;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::drift::{Finding, Repair};
use crate::controllers::host::Found;
use crate::kubeadm::etcd::MemberId;
use crate::kubeadm::overlay::Peers;
use crate::kubeadm::units::UnitState;
use crate::runtime::ContainerState;

/// How long a Node may be missing before its kubelet is restarted: somebody who deletes one may be about to do more.
const MISSING_GRACE: Duration = Duration::from_secs(15);
/// Before that it is told: one that has just joined is seen a moment later.
const MISSING_TOLD: Duration = Duration::from_secs(5);
/// How long a Node may be not Ready before its services are: Kubernetes itself takes 40 s to notice, and a busy node
/// recovers by itself.
const NOT_READY_GRACE: Duration = Duration::from_secs(180);
/// How often services are restarted for the same trouble, after twice the time each; then it is only told.
const RESTARTS_MAX: u32 = 2;

/// How long the data of a control plane have to be gone before another one takes its place.
const REPLACED_AFTER: Duration = Duration::from_secs(60);
/// How soon is looked whether other nodes were told of one.
const TOLD_SOON: Duration = Duration::from_secs(1);

/// One effect, or a few that are one thought.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Makes the image present.
    PullImage,
    /// Makes the volume.
    CreateVolume,
    /// Makes the container.
    CreateContainer,
    /// Starts it.
    StartContainer,
    /// Tells it where the others of its cluster are.
    Connect(Peers),
    /// Tells the node of all nodes: routes to their pods, and none to those of nodes that are gone.
    WriteRoutes,
    /// Proves the way to the others, and then makes the node Ready.
    OpenNetwork,
    /// Restarts the node's containerd with the patches of its configuration.
    ConfigureContainerd,
    /// Writes kubeadm's configuration, and keys where it is a control plane.
    WriteFiles,
    /// Starts kubeadm, as a unit.
    StartBootstrap,
    /// Starts kubeadm's reset, as a unit.
    StartReset,
    /// Has systemd forget both units.
    ForgetUnits,
    /// Restarts services of the node's systemd.
    RestartServices(&'static [&'static str]),
    /// Brings labels and taints to what is wanted.
    PatchNode(Value),
    /// Keeps new pods away.
    Cordon,
    /// Lets new pods come again.
    Uncordon,
    /// Asks pods to go.
    Evict(Vec<(String, String)>),
    /// Takes a control plane out of etcd.
    RemoveMember {
        /// Which member it is.
        member: MemberId,
        /// Another one, which does it.
        via: Peer,
        /// Nothing in it can make it a member again.
        for_good: bool,
    },
    /// Removes the Node of this UID; without one, whichever has the name.
    DeleteNode(Option<String>),
    /// Removes the container.
    RemoveContainer,
    /// Removes the volume with its data.
    RemoveVolume,
    /// Lets the Machine go.
    RemoveFinalizer,
}

impl Step {
    /// Whether something is lost by it that was there.
    #[must_use]
    pub fn destroys(&self) -> bool {
        matches!(self, Self::RemoveContainer | Self::RemoveVolume | Self::RemoveFinalizer)
    }

    /// What it is called while it is under way.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PullImage => "PullingImage",
            Self::CreateVolume => "CreatingVolume",
            Self::CreateContainer => "CreatingContainer",
            Self::StartContainer => "StartingContainer",
            Self::Connect(_) => "Connecting",
            Self::WriteRoutes => "WritingRoutes",
            Self::OpenNetwork => "OpeningNetwork",
            Self::ConfigureContainerd => "ConfiguringContainerd",
            Self::WriteFiles => "WritingFiles",
            Self::StartBootstrap => "StartingBootstrap",
            Self::StartReset => "StartingReset",
            Self::ForgetUnits => "ForgettingUnits",
            Self::RestartServices(_) => "RestartingServices",
            Self::PatchNode(_) => "LabellingNode",
            Self::Cordon => "Cordoning",
            Self::Uncordon => "Uncordoning",
            Self::Evict(_) => "Evicting",
            Self::RemoveMember { .. } => "RemovingMember",
            Self::DeleteNode(_) => "DeletingNode",
            Self::RemoveContainer => "RemovingContainer",
            Self::RemoveVolume => "RemovingVolume",
            Self::RemoveFinalizer => "LettingGo",
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Where nothing can be done now, or something is missing still.
    pub wait: Option<Wait>,
    /// What differs.
    pub findings: Vec<Finding>,
    /// kubeadm has succeeded on it.
    pub bootstrapped: bool,
    /// Its container was made from another spec than the one now.
    pub outdated: bool,
    /// Everything asked for is there and works.
    pub ready: bool,
    /// A listing that begins from now on is needed.
    pub needs_listing: bool,
    /// Another control plane is to be asked whether etcd counts this one, before anything else is planned.
    pub needs_membership: bool,
    /// Something is due after so long, if nothing changes before.
    pub again: Option<Duration>,
    /// kubeadm failed: this is to be counted as a failure, with the end of its log.
    pub failed: Option<String>,
}

impl Plan {
    pub(super) fn wait(wait: Wait) -> Self {
        Self { wait: Some(wait), ..Self::default() }
    }

    pub(super) fn steps(steps: Vec<Step>) -> Self {
        Self { steps, ..Self::default() }
    }
}

/// Plans.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let mut plan = if facts.deleting { removal::removal(facts) } else { life(facts) };
    if plan.needs_membership {
        return plan;
    }
    plan.bootstrapped |= facts.recorded;
    connect(facts, &mut plan);
    let destroys = plan.steps.iter().any(Step::destroys);
    let fresh = matches!(facts.host, HostFacts::Known { fresh: true, .. });
    let orphaned = facts.deleting && facts.cluster == ClusterState::Deleting { orphan: true };
    if destroys && !fresh && !orphaned {
        // Everything before the destructive step can be done meanwhile.
        let at = plan.steps.iter().position(Step::destroys).unwrap_or_default();
        plan.steps.truncate(at);
        plan.needs_listing = true;
        plan.wait = Some(Wait::Observing);
    }
    plan
}

/// Whoever runs is told where the others are, before anything else that needs them.
fn connect(facts: &Facts, plan: &mut Plan) {
    let HostFacts::Known { container: Found::Ours(ContainerFacts { untold: Some(peers), .. }), .. } = &facts.host
    else {
        return;
    };
    let goes = plan.steps.iter().any(Step::destroys);
    if !goes && !facts.cluster.ends() && facts.cluster != ClusterState::Paused {
        plan.steps.insert(0, Step::Connect(peers.clone()));
    }
}

fn life(facts: &Facts) -> Plan {
    match facts.cluster {
        ClusterState::Gone | ClusterState::Deleting { .. } | ClusterState::Recreating => {
            return Plan::wait(Wait::ClusterGone);
        }
        ClusterState::Paused | ClusterState::Live => {}
    }
    let mut plan = match &facts.host {
        HostFacts::Unknown(message) => Plan::wait(Wait::RuntimeSilent(message.clone())),
        HostFacts::Stale => Plan { needs_listing: true, ..Plan::wait(Wait::Observing) },
        HostFacts::Known { container: Found::Foreign, .. } => Plan::wait(Wait::NameTaken("container")),
        HostFacts::Known { volume: Found::Foreign, .. } => Plan::wait(Wait::NameTaken("volume")),
        HostFacts::Known { network, volume, container: Found::Absent, .. } => making(facts, *network, volume),
        HostFacts::Known { volume, container: Found::Ours(container), .. } => existing(facts, container, volume),
    };
    if facts.cluster == ClusterState::Paused {
        // What is goes on being reported.
        plan.steps.clear();
        (plan.needs_listing, plan.needs_membership) = (false, false);
        if !plan.ready || plan.wait.is_some() {
            plan.wait = Some(Wait::Paused);
        }
    }
    plan
}

/// There is no container.
fn making(facts: &Facts, network: bool, volume: &Found<()>) -> Plan {
    let mut plan = Plan::default();
    if facts.was_node {
        plan.findings.push(Finding::gone("container"));
        if *volume == Found::Absent {
            plan.findings.push(Finding::gone("volume"));
        }
        if facts.has_lost_data() {
            return Plan { findings: plan.findings, ..data_lost(facts) };
        }
        if !matches!(facts.turn, Some(Turn::Repair | Turn::Roll)) {
            plan.wait = Some(Wait::Turn(Turn::Repair));
            return plan;
        }
    }
    if !network {
        plan.wait = Some(Wait::Network);
    } else if let Some(wait) = &facts.unmountable {
        plan.wait = Some(wait.clone());
    } else if !facts.image_present {
        plan.steps = vec![Step::PullImage];
        plan.wait = Some(Wait::PullingImage);
    } else {
        if *volume == Found::Absent {
            plan.steps.push(Step::CreateVolume);
        }
        plan.steps.extend([Step::CreateContainer, Step::StartContainer]);
    }
    plan
}

/// There is a container of ours.
fn existing(facts: &Facts, container: &ContainerFacts, volume: &Found<()>) -> Plan {
    let repair = if container.in_vain { Repair::None } else { Repair::Replace };
    let altered = |(field, wanted, seen): &(&'static str, String, String)| Finding {
        repair,
        ..Finding::altered(field, wanted, seen)
    };
    let mut findings: Vec<Finding> = container.altered.iter().map(altered).collect();
    let outdated = !container.current || (!container.altered.is_empty() && !container.in_vain);
    let mut plan = match container.state {
        ContainerState::Running => networked(facts, running(facts, outdated)),
        ContainerState::Unknown => Plan::wait(Wait::ContainerUnknown),
        ContainerState::Created | ContainerState::Stopped { .. } => {
            if facts.was_node {
                findings.insert(0, Finding::stopped(container.state));
            }
            if facts.was_node && *volume == Found::Absent { without_volume(facts) } else { stopped(facts, outdated) }
        }
    };
    plan.findings.splice(0..0, findings);
    plan.outdated = outdated;
    plan
}

/// A container that cannot start any more: what it kept its data on is gone.
fn without_volume(facts: &Facts) -> Plan {
    let plan = match (facts.role, facts.turn) {
        (MachineRole::ControlPlane, _) => data_lost(facts),
        (MachineRole::Worker, Some(Turn::Repair | Turn::Roll)) => Plan::steps(vec![Step::RemoveContainer]),
        (MachineRole::Worker, None | Some(Turn::Bootstrap)) => Plan::wait(Wait::Turn(Turn::Repair)),
    };
    Plan { findings: vec![Finding::gone("volume")], ..plan }
}

/// Nothing brings back to a control plane what it kept. Where others have it, another one may take its place, after a while:
/// a person may be about to restore the volume, and a runtime that was restarted may not show all it has at first.
fn data_lost(facts: &Facts) -> Plan {
    let Some(lasted) = facts.replaceable else { return Plan::wait(Wait::VolumeLost) };
    match REPLACED_AFTER.checked_sub(lasted).filter(|left| !left.is_zero()) {
        Some(left) => Plan { again: Some(left), ..Plan::wait(Wait::VolumeMissing) },
        None => Plan::wait(Wait::Replacement),
    }
}

fn stopped(facts: &Facts, outdated: bool) -> Plan {
    match facts.turn {
        // It runs no pods: made anew at once.
        Some(Turn::Roll) if outdated => Plan::steps(vec![Step::RemoveContainer]),
        None | Some(Turn::Bootstrap) if facts.was_node => Plan::wait(Wait::Turn(Turn::Repair)),
        _ if outdated && !facts.was_node => Plan::steps(vec![Step::RemoveContainer]),
        _ => Plan::steps(vec![Step::StartContainer]),
    }
}

/// The pod network of a node that is up is brought along with everything else that is done to it.
fn networked(facts: &Facts, mut plan: Plan) -> Plan {
    let (is_up, is_reset) = match &facts.inside {
        Inside::NotAsked { bootstrapped } => (*bootstrapped, false),
        // A reset ends with the removal of what makes a node Ready.
        Inside::Up { reset, .. } => (true, *reset != UnitState::Absent || plan.steps.contains(&Step::StartReset)),
        Inside::Silent(_) | Inside::Booting | Inside::Broken => (false, false),
    };
    if !is_up || plan.steps.iter().any(Step::destroys) {
        return plan;
    }
    match &facts.network {
        PodNetwork::Current => {}
        PodNetwork::Outdated => plan.steps.insert(0, Step::WriteRoutes),
        PodNetwork::Closed if is_reset => {}
        PodNetwork::Closed => plan.steps.insert(0, Step::OpenNetwork),
        PodNetwork::Untold(names) => {
            // They are told by their own Machines, and this one looks again meanwhile.
            plan.again = Some(plan.again.map_or(TOLD_SOON, |again| again.min(TOLD_SOON)));
            if matches!(plan.wait, Some(Wait::NodeNotReady(_))) && plan.steps.is_empty() {
                plan.wait = Some(Wait::Peers(names.clone()));
            }
        }
    }
    plan
}

fn running(facts: &Facts, outdated: bool) -> Plan {
    let is_up = matches!(facts.inside, Inside::NotAsked { bootstrapped: true } | Inside::Up { .. });
    match facts.containerd {
        // One that is to be made anew gets its configuration then.
        Containerd::Outdated if is_up && !outdated => return Plan::steps(vec![Step::ConfigureContainerd]),
        Containerd::Booting if is_up && !outdated => return Plan::wait(Wait::Booting),
        _ => {}
    }
    match &facts.inside {
        Inside::NotAsked { bootstrapped: true } => as_node(facts, outdated),
        Inside::NotAsked { bootstrapped: false } => Plan::wait(Wait::Observing),
        Inside::Silent(message) => Plan::wait(Wait::NodeSilent(message.clone())),
        Inside::Booting => Plan::wait(Wait::Booting),
        Inside::Broken => Plan::wait(Wait::BootBroken),
        Inside::Up { marker: true, .. } | Inside::Up { bootstrap: UnitState::Succeeded, .. } => {
            as_node(facts, outdated)
        }
        Inside::Up { .. } if outdated && !facts.was_node => Plan::steps(vec![Step::RemoveContainer]),
        // Only its marker is gone: what kubeadm made is there, and no unit of this boot did it. A reset would take the data
        // of a control plane with it.
        Inside::Up { leftovers: true, bootstrap: UnitState::Absent, reset: UnitState::Absent, .. }
            if facts.recorded =>
        {
            as_node(facts, outdated)
        }
        Inside::Up { .. } if facts.has_lost_data() => {
            Plan { findings: vec![Finding::gone("volume")], ..data_lost(facts) }
        }
        Inside::Up { leftovers, bootstrap, reset, log, .. } => becoming(facts, *leftovers, *bootstrap, *reset, log),
    }
}

/// kubeadm has not succeeded yet.
fn becoming(facts: &Facts, leftovers: bool, bootstrap: UnitState, reset: UnitState, log: &str) -> Plan {
    if facts.stops_before_kubernetes && bootstrap == UnitState::Absent {
        return Plan::wait(Wait::BeforeKubernetes);
    }
    match (bootstrap, reset) {
        (UnitState::Running, _) => return Plan::wait(Wait::Bootstrapping),
        (_, UnitState::Running) => return Plan::wait(Wait::Resetting),
        (_, UnitState::Succeeded | UnitState::Failed { .. }) => return Plan::steps(vec![Step::ForgetUnits]),
        (UnitState::Failed { .. }, UnitState::Absent) => {
            let first = match facts.method {
                BootstrapMethod::Init => Plan::steps(vec![Step::ForgetUnits]),
                BootstrapMethod::Join if may_reset(facts) => {
                    removal::leaving_etcd(facts).unwrap_or_else(|| Plan::steps(vec![Step::StartReset]))
                }
                BootstrapMethod::Join => Plan::default(),
            };
            let wait = first.wait.clone().or_else(|| Some(Wait::BootstrapFailed(log.to_owned())));
            return Plan { wait, failed: Some(log.to_owned()), ..first };
        }
        (UnitState::Absent | UnitState::Succeeded, UnitState::Absent) => {}
    }
    if facts.turn.is_none() {
        return Plan::wait(Wait::Turn(Turn::Bootstrap));
    }
    // `kubeadm init` goes on with what it finds, and has to: what a first control plane has of etcd, the others may need
    // for their quorum. A join begins from scratch, which is the simplest that is right: etcd takes no member back either
    // that lost its data.
    if facts.method == BootstrapMethod::Join {
        if leftovers && may_reset(facts) {
            return removal::leaving_etcd(facts).unwrap_or_else(|| Plan::steps(vec![Step::StartReset]));
        }
        if facts.api.answers != Some(true) {
            return Plan::wait(Wait::ApiAway);
        }
        if let Some(first) = removal::leaving_etcd(facts) {
            return first;
        }
    }
    if !facts.has_place {
        return Plan::wait(Wait::Queued);
    }
    let mut steps = vec![Step::WriteFiles, Step::StartBootstrap];
    if let Some(node) = facts.api.node.as_ref().filter(|_| facts.method == BootstrapMethod::Join) {
        // Of an earlier life, whose data is gone: kubeadm refuses a name that a Ready Node has, and what runs there
        // according to it does not.
        steps.insert(0, Step::DeleteNode(Some(node.uid.clone())));
    }
    Plan { wait: Some(Wait::Bootstrapping), ..Plan::steps(steps) }
}

/// Before a reset a control plane's member leaves etcd, which only the others can grant: without them the member would be
/// counted for ever, and its data be gone.
fn may_reset(facts: &Facts) -> bool {
    facts.role == MachineRole::Worker || facts.api.answers == Some(true)
}

/// It is a node, or should be one.
fn as_node(facts: &Facts, outdated: bool) -> Plan {
    let mut plan = Plan { bootstrapped: true, ..Plan::default() };
    // A machine that works is not taken away for one that could not be made.
    let rolling = outdated && facts.turn == Some(Turn::Roll) && facts.unmountable.is_none();
    match (facts.api.answers, &facts.api.node) {
        (Some(true), Some(node)) if rolling => return Plan { bootstrapped: true, ..leaving(facts, node) },
        (Some(true), Some(node)) => at_work(facts, &mut plan, node),
        (Some(true), None) if facts.api.listed => {
            plan.wait = Some(Wait::NodeMissing);
            // A kubelet registers its Node when it starts, and never again.
            let repair = restart(facts, &mut plan, MISSING_GRACE, &["kubelet.service"]);
            match MISSING_TOLD.checked_sub(facts.ailing.lasted).filter(|left| !left.is_zero()) {
                Some(left) if facts.ailing.restarts == 0 => plan.again = Some(left),
                _ => plan.findings.push(Finding::missing_node(repair)),
            }
        }
        _ => plan.wait = Some(Wait::ApiAway),
    }
    let is_missing = facts.api.is_known() && facts.api.node.is_none();
    if rolling && (is_missing || is_alone_away(facts)) {
        // Nothing to drain.
        return Plan { bootstrapped: true, ..Plan::steps(vec![Step::RemoveContainer]) };
    }
    if outdated && plan.wait.is_none() {
        plan.wait = Some(facts.unmountable.clone().unwrap_or(Wait::Turn(Turn::Roll)));
    }
    plan
}

/// A control plane whose API is away is rolled without a drain: it may be the very one that keeps it away.
fn is_alone_away(facts: &Facts) -> bool {
    facts.role == MachineRole::ControlPlane && facts.api.answers == Some(false)
}

/// Restarts what is overdue, in its turn, ever later and not for ever.
fn restart(facts: &Facts, plan: &mut Plan, grace: Duration, services: &'static [&'static str]) -> Repair {
    if facts.ailing.restarts >= RESTARTS_MAX {
        return Repair::None;
    }
    let due = grace * 2_u32.pow(facts.ailing.restarts);
    match due.checked_sub(facts.ailing.lasted).filter(|left| !left.is_zero()) {
        Some(left) => plan.again = Some(left),
        None if facts.turn == Some(Turn::Repair) => {
            // Without a wait: the turn ends with what a node waits for by itself.
            (plan.steps, plan.wait) = (vec![Step::RestartServices(services)], None);
        }
        None => plan.wait = Some(Wait::Turn(Turn::Repair)),
    }
    Repair::Restart
}

fn at_work(facts: &Facts, plan: &mut Plan, node: &NodeFacts) {
    if let Some(patch) = &node.patch {
        if node.patch_is_drift_to_report {
            plan.findings.push(Finding::node_changed());
        } else {
            plan.steps.push(Step::PatchNode(patch.clone()));
        }
    }
    if node.cordoned_by_kina {
        plan.steps.push(Step::Uncordon);
    }
    if !node.ready {
        plan.wait = Some(Wait::NodeNotReady(node.message.clone()));
        if !node.lacks_network {
            let repair = restart(facts, plan, NOT_READY_GRACE, &["containerd.service", "kubelet.service"]);
            if facts.ailing.lasted >= NOT_READY_GRACE || facts.ailing.restarts > 0 {
                plan.findings.push(Finding::node_not_ready(&node.message, repair));
            }
        }
    } else if !node.renewed {
        plan.wait = Some(Wait::LeaseNotRenewed);
    } else {
        plan.ready = true;
    }
}

/// Pods leave before the container goes, to be made anew.
fn leaving(facts: &Facts, node: &NodeFacts) -> Plan {
    draining(facts, node).unwrap_or_else(|| Plan::steps(vec![Step::RemoveContainer]))
}

/// The next step of a drain; `None` once it is over.
pub(super) fn draining(facts: &Facts, node: &NodeFacts) -> Option<Plan> {
    if !node.cordoned_by_kina {
        return Some(Plan { wait: Some(Wait::Draining(0)), ..Plan::steps(vec![Step::Cordon]) });
    }
    match &facts.drain {
        Drain::NotAsked | Drain::Unknown => Some(Plan::wait(Wait::ApiAway)),
        Drain::Left { overdue: true, .. } | Drain::Left { count: 0, .. } => None,
        Drain::Left { to_evict, count, budgets, .. } => {
            let steps = if to_evict.is_empty() { Vec::new() } else { vec![Step::Evict(to_evict.clone())] };
            let wait = match budgets.as_slice() {
                [] => Wait::Draining(*count),
                budgets => Wait::DisruptionBudget { budgets: budgets.to_vec(), count: *count },
            };
            Some(Plan { wait: Some(wait), ..Plan::steps(steps) })
        }
    }
}
