//! What a Cluster does next: a pure function of what is wanted and what is.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::MachineSpec;
use crate::api::cluster::{ClusterSpec, DriftMode};
use crate::api::defaults::Resolved;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::drift::Finding;
use crate::controllers::host::Found;
use crate::runtime::ContainerState;

use super::slots;
use super::turns;

/// Everything that is known when planning.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the Cluster.
    pub name: String,
    /// What is wanted.
    pub spec: ClusterSpec,
    /// The same, in types; `None` while a Cluster that goes was never resolved.
    pub resolved: Option<Resolved>,
    /// It is to go.
    pub deleting: bool,
    /// What is on the host stays there when it goes.
    pub orphan: bool,
    /// Nothing is to be changed on the host.
    pub paused: bool,
    /// Fields that need everything made anew may change.
    pub may_recreate: bool,
    /// Its time is over, and no file declares it.
    pub expired: bool,
    /// What is on the host.
    pub host: HostFacts,
    /// Whether the load balancer's image is on the host.
    pub image_present: bool,
    /// Whether the load balancer knows the control planes.
    pub backends_current: bool,
    /// Its machines, in order of name.
    pub machines: Vec<MachineFacts>,
    /// Whether its API server answers; `None` where nobody knows.
    pub api_answers: Option<bool>,
    /// Pod network and storage class are applied.
    pub addons_applied: bool,
    /// Its certificates are kept.
    pub has_certificates: bool,
    /// Its context in the kubeconfig is as wanted: there, or gone when it goes.
    pub context_done: bool,
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
        /// Its network.
        network: Found<NetworkFacts>,
        /// Its load balancer.
        balancer: Found<BalancerFacts>,
        /// What carries its labels, as `(runtime, kind, name)`, that no Machine and no plan accounts for.
        left: Vec<Left>,
    },
}

/// Something on a host that carries the Cluster's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The runtime.
    pub runtime: crate::api::cluster::RuntimeName,
    /// `container`, `volume` or `network`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    /// It has the wanted subnet.
    pub current: bool,
    /// The subnet that it has.
    pub subnet: String,
}

/// The load balancer's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerFacts {
    /// What it does.
    pub state: ContainerState,
    /// It was made from the spec as it is now, and nobody changed it.
    pub current: bool,
}

/// One Machine, as its status tells.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineFacts {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What it is.
    pub spec: MachineSpec,
    /// It is to go.
    pub deleting: bool,
    /// It was made for the cluster as it is now.
    pub of_this_cluster: bool,
    /// Everything about it works.
    pub ready: bool,
    /// kubeadm has succeeded on it; `None` where nobody knows.
    pub bootstrapped: Option<bool>,
    /// Its container was made from another spec than the one now, or changed by somebody.
    pub outdated: bool,
    /// The word for what it waits for, empty where for nothing.
    pub waiting: String,
}

impl MachineFacts {
    /// Whether it runs the control plane.
    #[must_use]
    pub fn is_control_plane(&self) -> bool {
        self.spec.role == MachineRole::ControlPlane
    }

    /// Whether it asks for repair.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.waiting == "WaitingForRepair"
    }
}

/// One effect, or a few that are one thought.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Makes certificates.
    MakeCertificates,
    /// Makes the network.
    CreateNetwork,
    /// Makes the load balancer's image present.
    PullImage,
    /// Makes the load balancer.
    CreateBalancer,
    /// Tells it the control planes.
    WriteBackends,
    /// Starts it.
    StartBalancer,
    /// Removes it.
    RemoveBalancer,
    /// Removes the network.
    RemoveNetwork,
    /// Makes a Machine of this name.
    CreateMachine(String, Box<MachineSpec>),
    /// Gives a Machine another spec.
    UpdateMachine(String, String, Box<MachineSpec>),
    /// Has a Machine go: name and UID.
    DeleteMachine(String, String),
    /// Applies pod network and storage class.
    ApplyAddons,
    /// Brings the context in the kubeconfig to what is wanted.
    WriteContext,
    /// Removes something that is left.
    RemoveLeft(Left),
    /// Removes the certificates.
    RemoveCertificates,
    /// Deletes the Cluster itself, whose time is over.
    Expire,
    /// Lets the Cluster go.
    RemoveFinalizer,
}

impl Step {
    /// Whether something is lost by it that was there on the host.
    #[must_use]
    pub fn destroys(&self) -> bool {
        matches!(
            self,
            Self::RemoveBalancer
                | Self::RemoveNetwork
                | Self::RemoveLeft(_)
                | Self::RemoveCertificates
                | Self::RemoveFinalizer
        )
    }

    /// Whether it only writes into Kina's own API.
    #[must_use]
    pub fn is_record(&self) -> bool {
        matches!(self, Self::CreateMachine(..) | Self::UpdateMachine(..) | Self::DeleteMachine(..) | Self::Expire)
    }

    /// What it is called while it is under way.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MakeCertificates => "MakingCertificates",
            Self::CreateNetwork => "CreatingNetwork",
            Self::PullImage => "PullingImage",
            Self::CreateBalancer => "CreatingLoadBalancer",
            Self::WriteBackends => "WritingBackends",
            Self::StartBalancer => "StartingLoadBalancer",
            Self::RemoveBalancer => "RemovingLoadBalancer",
            Self::RemoveNetwork => "RemovingNetwork",
            Self::CreateMachine(..) => "CreatingMachine",
            Self::UpdateMachine(..) => "UpdatingMachine",
            Self::DeleteMachine(..) => "DeletingMachine",
            Self::ApplyAddons => "ApplyingAddons",
            Self::WriteContext => "WritingKubeconfig",
            Self::RemoveLeft(_) => "RemovingLeftovers",
            Self::RemoveCertificates => "RemovingCertificates",
            Self::Expire => "Expiring",
            Self::RemoveFinalizer => "LettingGo",
        }
    }
}

/// Why a Cluster waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is paused.
    Paused,
    /// A default could not be resolved.
    Unresolved(String),
    /// The runtime does not answer.
    RuntimeSilent(String),
    /// What was done last is not seen yet.
    Observing,
    /// Something of somebody else has the name.
    NameTaken(&'static str, String),
    /// The load balancer's image is being pulled.
    PullingImage,
    /// An operation is under way.
    Working(&'static str),
    /// Everything is being made anew: so many machines still go.
    Recreating(usize),
    /// Everything would have to be made anew, and that is not permitted.
    RecreateNotAllowed,
    /// These machines are to go still.
    MachinesLeaving(usize),
    /// The API server does not answer.
    ControlPlane,
    /// Control planes come and go one at a time, while all others are Ready.
    ControlPlaneTurn(String),
    /// A roll goes on only while all others are Ready.
    RollHeld(String),
    /// A machine is being made anew.
    Rolling(String),
    /// Machines that are not Ready.
    Machines(Vec<String>),
    /// The context in the kubeconfig.
    Kubeconfig,
    /// Pod network and storage class.
    Addons,
    /// Name resolution, or system pods.
    SystemPods(String),
}

impl Wait {
    /// One word in CamelCase.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::Unresolved(_) => "DefaultsUnresolved",
            Self::RuntimeSilent(_) => "RuntimeSilent",
            Self::Observing => "Observing",
            Self::NameTaken(..) => "NameTakenByOthers",
            Self::PullingImage => "ImagePulling",
            Self::Working(step) => step,
            Self::Recreating(_) => "Recreating",
            Self::RecreateNotAllowed => "RecreateNotAllowed",
            Self::MachinesLeaving(_) => "MachinesLeaving",
            Self::ControlPlane => "ControlPlaneAway",
            Self::ControlPlaneTurn(_) => "ControlPlaneTurn",
            Self::RollHeld(_) => "RollHeld",
            Self::Rolling(_) => "Rolling",
            Self::Machines(_) => "MachinesNotReady",
            Self::Kubeconfig => "KubeconfigPending",
            Self::Addons => "AddonsPending",
            Self::SystemPods(_) => "SystemPodsNotReady",
        }
    }

    /// For a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Paused => "the cluster is paused: nothing is changed on the host".to_owned(),
            Self::Unresolved(message) => message.clone(),
            Self::RuntimeSilent(message) => format!("the container runtime does not answer: {message}"),
            Self::Observing => "looking at what the last step did".to_owned(),
            Self::NameTaken(what, name) => {
                format!("a {what} named {name} exists that Kina did not make for this cluster: rename or remove it")
            }
            Self::PullingImage => "the load balancer's image is being pulled".to_owned(),
            Self::Working(step) => format!("under way: {step}"),
            Self::Recreating(count) => format!("the cluster is being made anew; {count} machines still go"),
            Self::RecreateNotAllowed => {
                "the spec asks for what only a new cluster can give: set `allowRecreate: true`, or go back".to_owned()
            }
            Self::MachinesLeaving(count) => format!("{count} machines still go"),
            Self::ControlPlane => "the cluster's API server does not answer yet".to_owned(),
            Self::ControlPlaneTurn(other) => {
                format!("control planes come and go one at a time while all others are Ready; {other} is not")
            }
            Self::RollHeld(other) => format!("machines are made anew only while all others are Ready; {other} is not"),
            Self::Rolling(machine) => format!("{machine} is being made anew"),
            Self::Machines(names) => format!("not Ready: {}", some_of(names)),
            Self::Kubeconfig => "the context is not in the kubeconfig yet".to_owned(),
            Self::Addons => "pod network and storage class are not applied yet".to_owned(),
            Self::SystemPods(what) => what.clone(),
        }
    }

    /// Whether nothing gets better without a person or another spec.
    #[must_use]
    pub fn stalls(&self) -> bool {
        matches!(self, Self::NameTaken(..) | Self::RecreateNotAllowed)
    }
}

/// The first few of many names.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
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
    /// Network and load balancer are as wanted.
    pub network_ready: bool,
    /// A listing that begins from now on is needed.
    pub needs_listing: bool,
}

impl Plan {
    fn wait(wait: Wait) -> Self {
        Self { wait: Some(wait), ..Self::default() }
    }
}

/// Plans.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let mut plan = if facts.deleting { removal(facts) } else { life(facts) };
    let fresh = matches!(facts.host, HostFacts::Known { fresh: true, .. });
    if let Some(at) = plan.steps.iter().position(Step::destroys).filter(|_| !fresh && !facts.orphan) {
        plan.steps.truncate(at);
        plan.needs_listing = true;
        plan.wait = Some(Wait::Observing);
    }
    plan
}

fn life(facts: &Facts) -> Plan {
    if facts.expired {
        return Plan { steps: vec![Step::Expire], ..Plan::default() };
    }
    let mut plan = on_host(facts);
    let stale: Vec<&MachineFacts> = facts.machines.iter().filter(|machine| !machine.of_this_cluster).collect();
    if plan.steps.contains(&Step::RemoveNetwork) {
        // Machines have addresses of the network that is to come.
    } else if stale.is_empty() {
        let machines = machines(facts);
        plan.steps.extend(machines.steps);
        plan.wait = plan.wait.or(machines.wait);
    } else if facts.may_recreate {
        let leave = stale.iter().filter(|machine| !machine.deleting);
        plan.steps = leave.map(|machine| Step::DeleteMachine(machine.name.clone(), machine.uid.clone())).collect();
        plan.wait = Some(Wait::Recreating(stale.len()));
    } else {
        return Plan { findings: plan.findings, ..Plan::wait(Wait::RecreateNotAllowed) };
    }
    inside(facts, &mut plan);
    if facts.paused {
        plan.steps.clear();
        plan.needs_listing = false;
        plan.wait = Some(Wait::Paused);
    }
    plan
}

/// Certificates, network and load balancer.
fn on_host(facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    if !facts.has_certificates {
        plan.steps.push(Step::MakeCertificates);
    }
    let (network, balancer, left) = match &facts.host {
        HostFacts::Unknown(message) => return Plan::wait(Wait::RuntimeSilent(message.clone())),
        HostFacts::Stale => return Plan { needs_listing: true, ..Plan::wait(Wait::Observing) },
        HostFacts::Known { network, balancer, left, .. } => (network, balancer, left),
    };
    plan.steps.extend(left.iter().cloned().map(Step::RemoveLeft));
    let occupied = facts.machines.iter().any(|machine| !machine.of_this_cluster) || !facts.machines.is_empty();
    let repairs = facts.spec.drift.mode == DriftMode::Enforce;
    let known = facts.machines.iter().any(|machine| machine.bootstrapped == Some(true));
    match network {
        Found::Foreign => {
            plan.wait = Some(Wait::NameTaken("network", format!("kina-{}", facts.name)));
            return plan;
        }
        Found::Absent => {
            if known {
                plan.findings.push(Finding::gone("network"));
            }
            if !known || repairs {
                plan.steps.push(Step::CreateNetwork);
            } else {
                return plan;
            }
        }
        Found::Ours(network) if !network.current && !occupied => {
            // Made anew for another subnet: nothing is in it any more but the load balancer.
            if balancer.ours().is_some() {
                plan.steps.push(Step::RemoveBalancer);
            }
            plan.steps.push(Step::RemoveNetwork);
            return plan;
        }
        Found::Ours(network) if !network.current => {
            let wanted = facts.resolved.as_ref().map(|spec| spec.node_subnet.to_string()).unwrap_or_default();
            plan.findings.push(Finding::network_altered(&wanted, &network.subnet));
        }
        Found::Ours(_) => {}
    }
    balance(facts, balancer, known, repairs, &mut plan);
    plan
}

fn balance(facts: &Facts, balancer: &Found<BalancerFacts>, known: bool, repairs: bool, plan: &mut Plan) {
    // Records are written before anything is done on the host: the first machines are there when it is told of them.
    let has_backends = facts.machines.is_empty() || facts.machines.iter().any(MachineFacts::is_control_plane);
    match balancer {
        Found::Foreign => plan.wait = Some(Wait::NameTaken("container", format!("{}-lb", facts.name))),
        Found::Absent => {
            if known {
                plan.findings.push(Finding::gone("container"));
            }
            if known && !repairs {
                return;
            }
            if !facts.image_present {
                plan.steps.push(Step::PullImage);
                plan.wait = Some(Wait::PullingImage);
            } else if has_backends {
                plan.steps.extend([Step::CreateBalancer, Step::WriteBackends, Step::StartBalancer]);
            }
        }
        Found::Ours(found) if !found.current => {
            plan.findings.push(Finding::altered("spec", "as in the cluster's spec", "another"));
            // A changed port is a changed spec, and carried out; what somebody else changed is repaired only where
            // drift is. Both look the same here, and neither holds data.
            if repairs {
                plan.steps.push(Step::RemoveBalancer);
            }
        }
        Found::Ours(found) if found.state != ContainerState::Running => {
            if known {
                plan.findings.push(Finding::stopped(found.state));
            }
            if !known || repairs {
                plan.steps.extend([Step::WriteBackends, Step::StartBalancer]);
            }
        }
        Found::Ours(_) if !facts.backends_current && has_backends => plan.steps.push(Step::WriteBackends),
        Found::Ours(_) => plan.network_ready = plan.findings.is_empty(),
    }
}

/// Machines: their number, their specs, their turns.
fn machines(facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let Some(resolved) = &facts.resolved else { return plan };
    let (new, mut wait) = slots::missing(facts, resolved);
    plan.steps.extend(new.into_iter().map(|(name, spec)| Step::CreateMachine(name, Box::new(spec))));
    let (leaving, held) = slots::surplus(facts);
    wait = wait.or(held);
    let going: BTreeSet<&str> = leaving.iter().map(|machine| machine.name.as_str()).collect();
    let granted = turns::turns(facts, &going);
    let turns: BTreeMap<&str, Option<Turn>> = granted.turns.iter().map(|(name, turn)| (name.as_str(), *turn)).collect();
    for machine in facts.machines.iter().filter(|machine| !machine.deleting && !going.contains(machine.name.as_str())) {
        let mut wanted = slots::updated(facts, resolved, &machine.spec);
        if let Some(turn) = turns.get(machine.name.as_str()) {
            wanted.turn = *turn;
        }
        if wanted != machine.spec {
            plan.steps.push(Step::UpdateMachine(machine.name.clone(), machine.uid.clone(), Box::new(wanted)));
        }
    }
    plan.steps.extend(leaving.iter().map(|m| Step::DeleteMachine(m.name.clone(), m.uid.clone())));
    plan.wait = wait.or(granted.wait);
    plan
}

/// What is done through the cluster's own API, and what needs it.
fn inside(facts: &Facts, plan: &mut Plan) {
    if facts.api_answers == Some(true) && facts.machines.iter().any(|machine| machine.of_this_cluster) {
        if !facts.addons_applied {
            plan.steps.push(Step::ApplyAddons);
        }
        if !facts.context_done {
            plan.steps.push(Step::WriteContext);
        }
    }
}

fn removal(facts: &Facts) -> Plan {
    let leave = |machines: Vec<&MachineFacts>| {
        let going = machines.iter().filter(|machine| !machine.deleting);
        Plan {
            steps: going.map(|machine| Step::DeleteMachine(machine.name.clone(), machine.uid.clone())).collect(),
            ..Plan::wait(Wait::MachinesLeaving(facts.machines.len()))
        }
    };
    let workers: Vec<&MachineFacts> = facts.machines.iter().filter(|machine| !machine.is_control_plane()).collect();
    if !workers.is_empty() {
        return leave(workers);
    }
    if !facts.machines.is_empty() {
        return leave(facts.machines.iter().collect());
    }
    if facts.orphan {
        return Plan { steps: vec![Step::RemoveFinalizer], ..Plan::default() };
    }
    let (network, balancer, left) = match &facts.host {
        HostFacts::Unknown(message) => return Plan::wait(Wait::RuntimeSilent(message.clone())),
        HostFacts::Stale => return Plan { needs_listing: true, ..Plan::wait(Wait::Observing) },
        HostFacts::Known { network, balancer, left, .. } => (network, balancer, left),
    };
    let mut plan = Plan::default();
    if balancer.ours().is_some() {
        plan.steps.push(Step::RemoveBalancer);
    }
    plan.steps.extend(left.iter().cloned().map(Step::RemoveLeft));
    if network.ours().is_some() {
        plan.steps.push(Step::RemoveNetwork);
    }
    if !facts.context_done {
        plan.steps.push(Step::WriteContext);
        plan.wait = Some(Wait::Kubeconfig);
    }
    if facts.has_certificates {
        plan.steps.push(Step::RemoveCertificates);
    }
    if plan.steps.is_empty() {
        plan.steps.push(Step::RemoveFinalizer);
    }
    plan
}

/// Whether an etcd of this cluster's was ever formed, as far as anybody knows.
#[must_use]
pub fn is_formed(facts: &Facts) -> bool {
    facts.api_answers == Some(true)
        || facts.machines.iter().any(|m| m.is_control_plane() && m.bootstrapped == Some(true))
}

/// Whether a control plane comes, goes or is being made anew.
#[must_use]
pub fn control_plane_in_work(facts: &Facts) -> Option<&MachineFacts> {
    facts.machines.iter().filter(|machine| machine.is_control_plane()).find(|machine| {
        let joins = machine.spec.bootstrap.method == BootstrapMethod::Join
            && machine.spec.turn == Some(Turn::Bootstrap)
            && !machine.ready;
        machine.deleting || joins || matches!(machine.spec.turn, Some(Turn::Roll | Turn::Repair))
    })
}
