//! What a Machine does next: a pure function of what is wanted and what is.
//!
//! Steps come in order and leave no choice to whoever performs them. Where a Machine waits, it says for what. A step that
//! destroys something is planned only from a listing that began after the wish for it.

use serde_json::Value;

use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::drift::Finding;
use crate::controllers::host::Found;
use crate::kubeadm::units::UnitState;
use crate::runtime::ContainerState;

/// Everything that is known when planning.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What it is.
    pub role: MachineRole,
    /// How it becomes a node.
    pub method: BootstrapMethod,
    /// What its Cluster granted.
    pub turn: Option<Turn>,
    /// It is to go.
    pub deleting: bool,
    /// What its Cluster is about.
    pub cluster: ClusterState,
    /// What is on the host.
    pub host: HostFacts,
    /// Whether its image is on the host.
    pub image_present: bool,
    /// There is evidence that it has been a node: its Node, its marker, or what status said.
    pub was_node: bool,
    /// What is inside its container.
    pub inside: Inside,
    /// What its cluster's API server shows.
    pub api: ApiFacts,
    /// How far a drain is.
    pub drain: Drain,
    /// It may use the host's processors now.
    pub has_place: bool,
}

/// What a Machine's Cluster is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It is not known.
    Gone,
    /// It is to go as a whole.
    Deleting {
        /// What is on the host stays there.
        orphan: bool,
    },
    /// It is to be made anew as a whole.
    Recreating,
    /// Nothing is to be changed.
    Paused,
    /// It lives.
    Live,
}

impl ClusterState {
    /// Whether single machines can go without a thought for the others.
    fn ends(self) -> bool {
        matches!(self, Self::Gone | Self::Deleting { .. } | Self::Recreating)
    }
}

/// What is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFacts {
    /// Nobody knows.
    Unknown(String),
    /// What is known is older than what was done last.
    Stale,
    /// As of a listing.
    Known {
        /// It began after the wish for what destroys something.
        fresh: bool,
        /// The cluster's network is there.
        network: bool,
        /// The Machine's volume.
        volume: Found<()>,
        /// The Machine's container.
        container: Found<ContainerFacts>,
    },
}

/// A container of the Machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    /// What it does.
    pub state: ContainerState,
    /// It was made from the spec as it is now.
    pub current: bool,
    /// What somebody else changed: field, wanted, seen.
    pub altered: Vec<(&'static str, String, String)>,
}

/// What is inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// It was not asked: it does not run, or what matters is known.
    NotAsked {
        /// kubeadm has succeeded in it.
        bootstrapped: bool,
    },
    /// It does not answer.
    Silent(String),
    /// systemd is starting.
    Booting,
    /// systemd gave up.
    Broken,
    /// It is up.
    Up {
        /// kubeadm has succeeded, once.
        marker: bool,
        /// Something of an earlier attempt is there.
        leftovers: bool,
        /// kubeadm's unit.
        bootstrap: UnitState,
        /// The reset's unit.
        reset: UnitState,
        /// The end of what the failed unit wrote.
        log: String,
    },
}

/// What the cluster's API server shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiFacts {
    /// It answers; `None` where nobody knows.
    pub answers: Option<bool>,
    /// The nodes were listed since it answers.
    pub listed: bool,
    /// This Machine's Node.
    pub node: Option<NodeFacts>,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its UID.
    pub uid: String,
    /// It says that it is Ready.
    pub ready: bool,
    /// Its lease was renewed since its machine runs.
    pub renewed: bool,
    /// In its own words.
    pub message: String,
    /// What would bring labels and taints to what is wanted.
    pub patch: Option<Value>,
    /// Somebody else changed labels or taints that Kina set, and Kina is only to report it.
    pub patch_is_drift_to_report: bool,
    /// No new pods come.
    pub cordoned: bool,
    /// Kina cordoned it.
    pub cordoned_by_kina: bool,
}

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nobody looked: none is wanted.
    NotAsked,
    /// The pods could not be listed.
    Unknown,
    /// These pods are still there.
    Left {
        /// `NAMESPACE/NAME` of those not on their way yet.
        to_evict: Vec<(String, String)>,
        /// How many are there in all.
        count: usize,
        /// The time for it is over.
        overdue: bool,
    },
}

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
    /// Writes kubeadm's configuration, and keys where it is a control plane.
    WriteFiles,
    /// Starts kubeadm, as a unit.
    StartBootstrap,
    /// Starts kubeadm's reset, as a unit.
    StartReset,
    /// Has systemd forget both units.
    ForgetUnits,
    /// Brings labels and taints to what is wanted.
    PatchNode(Value),
    /// Keeps new pods away.
    Cordon,
    /// Lets new pods come again.
    Uncordon,
    /// Asks pods to go.
    Evict(Vec<(String, String)>),
    /// Removes the Node of this UID.
    DeleteNode(String),
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
            Self::WriteFiles => "WritingFiles",
            Self::StartBootstrap => "StartingBootstrap",
            Self::StartReset => "StartingReset",
            Self::ForgetUnits => "ForgettingUnits",
            Self::PatchNode(_) => "LabellingNode",
            Self::Cordon => "Cordoning",
            Self::Uncordon => "Uncordoning",
            Self::Evict(_) => "Evicting",
            Self::DeleteNode(_) => "DeletingNode",
            Self::RemoveContainer => "RemovingContainer",
            Self::RemoveVolume => "RemovingVolume",
            Self::RemoveFinalizer => "LettingGo",
        }
    }
}

/// Why a Machine waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its Cluster is paused.
    Paused,
    /// Its Cluster is not known.
    ClusterGone,
    /// The runtime does not answer.
    RuntimeSilent(String),
    /// What was done last is not seen yet.
    Observing,
    /// The cluster's network is not there yet.
    Network,
    /// Something of somebody else has the name.
    NameTaken(&'static str),
    /// Its data is gone, and it cannot be made anew by itself.
    VolumeLost,
    /// The image is being pulled.
    PullingImage,
    /// The runtime does not say what the container does.
    ContainerUnknown,
    /// The node does not answer.
    NodeSilent(String),
    /// systemd is starting.
    Booting,
    /// systemd gave up.
    BootBroken,
    /// Others are in work.
    Queued,
    /// Its Cluster has not granted the turn.
    Turn(Turn),
    /// kubeadm is at work.
    Bootstrapping,
    /// kubeadm takes back what it did.
    Resetting,
    /// kubeadm failed.
    BootstrapFailed(String),
    /// The cluster's API server does not answer.
    ApiAway,
    /// There is no Node of its name.
    NodeMissing,
    /// The Node is not Ready.
    NodeNotReady(String),
    /// The Node says Ready, from before its machine started.
    LeaseNotRenewed,
    /// Pods are on their way to other nodes.
    Draining(usize),
    /// An operation is under way.
    Working(&'static str),
}

impl Wait {
    /// One word in CamelCase.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::ClusterGone => "ClusterGone",
            Self::RuntimeSilent(_) => "RuntimeSilent",
            Self::Observing => "Observing",
            Self::Network => "NetworkMissing",
            Self::NameTaken(_) => "NameTakenByOthers",
            Self::VolumeLost => "VolumeLost",
            Self::PullingImage => "ImagePulling",
            Self::ContainerUnknown => "ContainerUnknown",
            Self::NodeSilent(_) => "NodeSilent",
            Self::Booting => "Booting",
            Self::BootBroken => "BootBroken",
            Self::Queued => "Queued",
            Self::Turn(Turn::Bootstrap) => "WaitingForTurn",
            Self::Turn(Turn::Roll) => "WaitingForRoll",
            Self::Turn(Turn::Repair) => "WaitingForRepair",
            Self::Bootstrapping => "Bootstrapping",
            Self::Resetting => "Resetting",
            Self::BootstrapFailed(_) => "BootstrapFailed",
            Self::ApiAway => "ApiAway",
            Self::NodeMissing => "NodeMissing",
            Self::NodeNotReady(_) => "NodeNotReady",
            Self::LeaseNotRenewed => "LeaseNotRenewed",
            Self::Draining(_) => "Draining",
            Self::Working(step) => step,
        }
    }

    /// For a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Paused => "the cluster is paused".to_owned(),
            Self::ClusterGone => "the cluster it belongs to is not known".to_owned(),
            Self::RuntimeSilent(message) => format!("the container runtime does not answer: {message}"),
            Self::Observing => "looking at what the last step did".to_owned(),
            Self::Network => "the cluster's network is not there yet".to_owned(),
            Self::NameTaken(what) => {
                format!("a {what} of this name exists that Kina did not make for this machine: rename or remove it")
            }
            Self::VolumeLost => "its volume is gone, and with it the data of this control plane".to_owned(),
            Self::PullingImage => "its image is being pulled".to_owned(),
            Self::ContainerUnknown => "the container runtime does not say what its container does".to_owned(),
            Self::NodeSilent(message) => format!("commands in the node fail: {message}"),
            Self::Booting => "the node is booting".to_owned(),
            Self::BootBroken => "the node's systemd has given up".to_owned(),
            Self::Queued => "other machines are in work on this host".to_owned(),
            Self::Turn(Turn::Bootstrap) => "its cluster has not granted its turn to become a node".to_owned(),
            Self::Turn(Turn::Roll) => "it was made from an older spec; its cluster has not granted the roll".to_owned(),
            Self::Turn(Turn::Repair) => "it needs repair; its cluster has not granted it".to_owned(),
            Self::Bootstrapping => "kubeadm is at work".to_owned(),
            Self::Resetting => "kubeadm takes back what it did".to_owned(),
            Self::BootstrapFailed(log) => format!("kubeadm failed: {log}"),
            Self::ApiAway => "the cluster's API server does not answer".to_owned(),
            Self::NodeMissing => "the cluster has no Node of this name".to_owned(),
            Self::NodeNotReady(message) if message.is_empty() => "its Node is not Ready".to_owned(),
            Self::NodeNotReady(message) => format!("its Node is not Ready: {message}"),
            Self::LeaseNotRenewed => "its Node has not renewed its lease since the machine started".to_owned(),
            Self::Draining(count) => format!("{count} pods are still on their way to other nodes"),
            Self::Working(step) => format!("under way: {step}"),
        }
    }

    /// Whether nothing gets better without a person or another spec.
    #[must_use]
    pub fn stalls(&self) -> bool {
        matches!(self, Self::NameTaken(_) | Self::VolumeLost)
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
    /// kubeadm failed: this is to be counted as a failure, with the end of its log.
    pub failed: Option<String>,
}

impl Plan {
    fn wait(wait: Wait) -> Self {
        Self { wait: Some(wait), ..Self::default() }
    }

    fn steps(steps: Vec<Step>) -> Self {
        Self { steps, ..Self::default() }
    }
}

/// Plans.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let mut plan = if facts.deleting { removal(facts) } else { life(facts) };
    plan.bootstrapped |= facts.was_node;
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
        HostFacts::Known { container: Found::Ours(container), .. } => existing(facts, container),
    };
    if facts.cluster == ClusterState::Paused {
        // What is goes on being reported.
        plan.steps.clear();
        plan.needs_listing = false;
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
            if facts.role == MachineRole::ControlPlane {
                // An empty etcd member under an old name would be a cluster without its data.
                plan.wait = Some(Wait::VolumeLost);
                return plan;
            }
        }
        if !matches!(facts.turn, Some(Turn::Repair | Turn::Roll)) {
            plan.wait = Some(Wait::Turn(Turn::Repair));
            return plan;
        }
    }
    if !network {
        plan.wait = Some(Wait::Network);
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
fn existing(facts: &Facts, container: &ContainerFacts) -> Plan {
    let mut findings: Vec<Finding> =
        container.altered.iter().map(|(field, wanted, seen)| Finding::altered(field, wanted, seen)).collect();
    let outdated = !container.current || !container.altered.is_empty();
    let mut plan = match container.state {
        ContainerState::Running => running(facts, outdated),
        ContainerState::Unknown => Plan::wait(Wait::ContainerUnknown),
        ContainerState::Created | ContainerState::Stopped { .. } => {
            if facts.was_node {
                findings.insert(0, Finding::stopped(container.state));
            }
            stopped(facts, outdated)
        }
    };
    plan.findings.splice(0..0, findings);
    plan.outdated = outdated;
    plan
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

fn running(facts: &Facts, outdated: bool) -> Plan {
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
        Inside::Up { leftovers, bootstrap, reset, log, .. } => becoming(facts, *leftovers, *bootstrap, *reset, log),
    }
}

/// kubeadm has not succeeded yet.
fn becoming(facts: &Facts, leftovers: bool, bootstrap: UnitState, reset: UnitState, log: &str) -> Plan {
    match (bootstrap, reset) {
        (UnitState::Running, _) => return Plan::wait(Wait::Bootstrapping),
        (_, UnitState::Running) => return Plan::wait(Wait::Resetting),
        (_, UnitState::Succeeded | UnitState::Failed { .. }) => return Plan::steps(vec![Step::ForgetUnits]),
        (UnitState::Failed { .. }, UnitState::Absent) => {
            // kubeadm is not made to go on where it failed: from scratch is the simplest that is right.
            let wait = Some(Wait::BootstrapFailed(log.to_owned()));
            return Plan { steps: vec![Step::StartReset], wait, failed: Some(log.to_owned()), ..Plan::default() };
        }
        (UnitState::Absent | UnitState::Succeeded, UnitState::Absent) => {}
    }
    if facts.turn.is_none() {
        return Plan::wait(Wait::Turn(Turn::Bootstrap));
    }
    if leftovers {
        return Plan::steps(vec![Step::StartReset]);
    }
    if facts.method == BootstrapMethod::Join && facts.api.answers != Some(true) {
        return Plan::wait(Wait::ApiAway);
    }
    if !facts.has_place {
        return Plan::wait(Wait::Queued);
    }
    Plan { wait: Some(Wait::Bootstrapping), ..Plan::steps(vec![Step::WriteFiles, Step::StartBootstrap]) }
}

/// It is a node, or should be one.
fn as_node(facts: &Facts, outdated: bool) -> Plan {
    let mut plan = Plan { bootstrapped: true, ..Plan::default() };
    let rolling = outdated && facts.turn == Some(Turn::Roll);
    match (facts.api.answers, &facts.api.node) {
        (Some(true), Some(node)) if rolling => return Plan { bootstrapped: true, ..leaving(facts, node) },
        (Some(true), Some(node)) => at_work(&mut plan, node),
        (Some(true), None) if facts.api.listed => {
            plan.findings.push(Finding::missing_node());
            plan.wait = Some(Wait::NodeMissing);
        }
        _ => plan.wait = Some(Wait::ApiAway),
    }
    if rolling && (plan.wait == Some(Wait::NodeMissing) || is_alone_away(facts)) {
        // Nothing to drain.
        return Plan { bootstrapped: true, ..Plan::steps(vec![Step::RemoveContainer]) };
    }
    if outdated && plan.wait.is_none() {
        plan.wait = Some(Wait::Turn(Turn::Roll));
    }
    plan
}

/// A control plane whose API is away is rolled without a drain: it may be the very one that keeps it away.
fn is_alone_away(facts: &Facts) -> bool {
    facts.role == MachineRole::ControlPlane && facts.api.answers == Some(false)
}

fn at_work(plan: &mut Plan, node: &NodeFacts) {
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
fn draining(facts: &Facts, node: &NodeFacts) -> Option<Plan> {
    if !node.cordoned_by_kina {
        return Some(Plan { wait: Some(Wait::Draining(0)), ..Plan::steps(vec![Step::Cordon]) });
    }
    match &facts.drain {
        Drain::NotAsked | Drain::Unknown => Some(Plan::wait(Wait::ApiAway)),
        Drain::Left { overdue: true, .. } | Drain::Left { count: 0, .. } => None,
        Drain::Left { to_evict, count, .. } => {
            let steps = if to_evict.is_empty() { Vec::new() } else { vec![Step::Evict(to_evict.clone())] };
            Some(Plan { wait: Some(Wait::Draining(*count)), ..Plan::steps(steps) })
        }
    }
}

fn removal(facts: &Facts) -> Plan {
    if facts.cluster == (ClusterState::Deleting { orphan: true }) {
        return Plan::steps(vec![Step::RemoveFinalizer]);
    }
    let (volume, container) = match &facts.host {
        HostFacts::Unknown(message) => return Plan::wait(Wait::RuntimeSilent(message.clone())),
        HostFacts::Stale => return Plan { needs_listing: true, ..Plan::wait(Wait::Observing) },
        HostFacts::Known { volume, container, .. } => (volume, container),
    };
    let mut steps = Vec::new();
    if !facts.cluster.ends() && facts.was_node {
        match parting(facts, container) {
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
    let Some(node) = &facts.api.node else { return Ok(Vec::new()) };
    if runs && node.ready {
        if let Some(plan) = draining(facts, node) {
            return Err(Box::new(plan));
        }
    }
    if runs && facts.role == MachineRole::ControlPlane {
        match &facts.inside {
            Inside::Up { reset: UnitState::Absent, .. } => return Err(Box::new(Plan::steps(vec![Step::StartReset]))),
            Inside::Up { reset: UnitState::Running, .. } => return Err(Box::new(Plan::wait(Wait::Resetting))),
            // A reset that failed was tried: the node goes all the same, since it was asked to.
            Inside::Up { .. } | Inside::Broken => {}
            Inside::Booting => return Err(Box::new(Plan::wait(Wait::Booting))),
            Inside::Silent(message) => return Err(Box::new(Plan::wait(Wait::NodeSilent(message.clone())))),
            Inside::NotAsked { .. } => return Err(Box::new(Plan::wait(Wait::Observing))),
        }
    }
    Ok(vec![Step::DeleteNode(node.uid.clone())])
}
