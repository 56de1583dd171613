//! What a Cluster does next: a pure function of what is wanted and what is.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::MachineSpec;
use crate::api::cluster::{DriftMode, NodeNetwork, RuntimeName};
use crate::api::defaults::Resolved;
use crate::api::machine::Turn;
use crate::controllers::drift::Finding;
use crate::controllers::host::Found;
use crate::kubeadm::overlay::Peers;
use crate::runtime::ContainerState;

use super::adopt::{self, Earlier, Slot};
use super::facts::{BalancerFacts, Facts, HostFacts, Left, MachineFacts, NetworkFacts, is_ending};
use super::slots;
use super::turns;
use super::wait::Wait;

/// One effect, or a few that are one thought.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Records which runtimes may have something of it.
    RecordReach(BTreeSet<RuntimeName>),
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
    /// Tells it where the machines are.
    Connect(Peers),
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
    /// Compares what was applied with what is there.
    CompareAddons,
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
        matches!(
            self,
            Self::RecordReach(_)
                | Self::CreateMachine(..)
                | Self::UpdateMachine(..)
                | Self::DeleteMachine(..)
                | Self::Expire
        )
    }

    /// What it is called while it is under way.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RecordReach(_) => "RecordingRuntimes",
            Self::MakeCertificates => "MakingCertificates",
            Self::CreateNetwork => "CreatingNetwork",
            Self::PullImage => "PullingImage",
            Self::CreateBalancer => "CreatingLoadBalancer",
            Self::WriteBackends => "WritingBackends",
            Self::Connect(_) => "Connecting",
            Self::StartBalancer => "StartingLoadBalancer",
            Self::RemoveBalancer => "RemovingLoadBalancer",
            Self::RemoveNetwork => "RemovingNetwork",
            Self::CreateMachine(..) => "CreatingMachine",
            Self::UpdateMachine(..) => "UpdatingMachine",
            Self::DeleteMachine(..) => "DeletingMachine",
            Self::ApplyAddons => "ApplyingAddons",
            Self::CompareAddons => "ComparingAddons",
            Self::WriteContext => "WritingKubeconfig",
            Self::RemoveLeft(_) => "RemovingLeftovers",
            Self::RemoveCertificates => "RemovingCertificates",
            Self::Expire => "Expiring",
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
    let ends = is_ending(facts);
    let stale: Vec<&MachineFacts> = facts.machines.iter().filter(|machine| ends || !machine.of_this_cluster).collect();
    if plan.steps.contains(&Step::RemoveNetwork) {
        // Machines have addresses of the network that is to come.
    } else if stale.is_empty() {
        let machines = machines(facts);
        plan.steps.extend(machines.steps);
        plan.needs_listing |= machines.needs_listing;
        // What needs a person is told before what only takes its time.
        plan.wait = machines.wait.clone().filter(Wait::stalls).or(plan.wait).or(machines.wait);
    } else if ends || facts.may_recreate {
        // Control planes last: whatever comes between, a cluster without one has nothing that stays.
        let mut leave: Vec<&&MachineFacts> = stale.iter().filter(|machine| !machine.deleting).collect();
        leave.sort_by_key(|machine| machine.is_control_plane());
        plan.steps =
            leave.into_iter().map(|machine| Step::DeleteMachine(machine.name.clone(), machine.uid.clone())).collect();
        plan.wait = Some(Wait::Recreating(stale.len()));
    } else {
        return Plan { findings: plan.findings, ..Plan::wait(Wait::RecreateNotAllowed) };
    }
    inside(facts, &mut plan);
    // Before anything else is made, also before Machines that would make something.
    if let Some(runtimes) = facts.reach.to_record() {
        plan.steps.insert(0, Step::RecordReach(runtimes.clone()));
    }
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
    let occupied = facts.machines.iter().any(|machine| !machine.of_this_cluster)
        || !facts.machines.is_empty()
        || facts.adoption.slots.as_ref().is_none_or(|slots| !slots.is_empty());
    if facts.resolved.as_ref().is_some_and(|spec| spec.node_network == NodeNetwork::Default) {
        single_node(facts, network, balancer, &mut plan);
        return plan;
    }
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
            let wanted = facts.resolved.as_ref().map(node_subnets).unwrap_or_default();
            plan.findings.push(Finding::network_altered(&wanted, &network.subnet));
        }
        Found::Ours(_) => {}
    }
    balance(facts, balancer, known, repairs, &mut plan);
    plan
}

/// In the runtime's own network, which is not the cluster's to make, to compare or to remove, and with no load balancer: what
/// there is of both is from when it had them, and goes once nobody is in it any more.
fn single_node(facts: &Facts, network: &Found<NetworkFacts>, balancer: &Found<BalancerFacts>, plan: &mut Plan) {
    let is_used = facts.machines.iter().any(|machine| machine.spec.network() == NodeNetwork::Cluster);
    let has_earlier = network.ours().is_some() || balancer.ours().is_some();
    plan.network_ready = !has_earlier;
    if has_earlier && !is_used {
        plan.steps.extend(balancer.ours().map(|_| Step::RemoveBalancer));
        plan.steps.extend(network.ours().map(|_| Step::RemoveNetwork));
    }
}

/// Of the network of machines, as it shows them.
fn node_subnets(spec: &Resolved) -> String {
    let six = spec.node_subnet6().map(|subnet| format!(",{subnet}"));
    format!("{}{}", spec.node_subnet, six.unwrap_or_default())
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
        Found::Ours(found) => {
            plan.steps.extend(found.untold.clone().map(Step::Connect));
            if !facts.backends_current && has_backends {
                plan.steps.push(Step::WriteBackends);
            } else {
                // What else differs is looked at later.
                plan.network_ready = plan.findings.is_empty();
            }
        }
    }
}

/// What is on the host without a record comes before everything else that is done about machines: the error is a plan
/// that comes first.
fn adoption<'a>(facts: &'a Facts, resolved: &Resolved) -> Result<&'a [Slot], Box<Plan>> {
    let Some(found) = &facts.adoption.slots else { return Err(Box::default()) };
    if !found.is_empty() && !facts.adoption.proven {
        return Err(Box::new(Plan { needs_listing: true, ..Plan::wait(Wait::Observing) }));
    }
    let recorded: BTreeSet<&str> = facts.machines.iter().map(|machine| machine.name.as_str()).collect();
    let lost: Vec<(&str, &Earlier)> = found
        .iter()
        .filter(|slot| !recorded.contains(slot.name.as_str()))
        .filter_map(|slot| Some((slot.name.as_str(), slot.found.as_ref().ok()?)))
        .collect();
    if lost.is_empty() {
        return Ok(found);
    }
    let adopted = slots::adopted(facts, resolved, &lost);
    let steps = adopted.into_iter().map(|(name, spec)| Step::CreateMachine(name, Box::new(spec))).collect();
    Err(Box::new(Plan { steps, ..Plan::default() }))
}

/// Machines: their number, their specs, their turns.
fn machines(facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let Some(resolved) = &facts.resolved else { return plan };
    let found = match adoption(facts, resolved) {
        Ok(found) => found,
        Err(first) => return *first,
    };
    // While something cannot be adopted, nothing is made in its place.
    let (new, mut wait) = match adopt::refusals(found) {
        Some(refused) => (Vec::new(), Some(refused)),
        None => slots::missing(facts, resolved),
    };
    plan.steps.extend(new.into_iter().map(|(name, spec)| Step::CreateMachine(name, Box::new(spec))));
    let (mut leaving, held) = slots::surplus(facts);
    if facts.spec.drift.mode == DriftMode::Enforce
        && let Some(lost) = slots::lost(facts)
    {
        leaving.retain(|machine| !machine.is_control_plane());
        leaving.push(lost);
    }
    wait = wait.or(held);
    let going: BTreeSet<&str> = leaving.iter().map(|machine| machine.name.as_str()).collect();
    let granted = turns::turns(facts, &going);
    let turns: BTreeMap<&str, Option<Turn>> = granted.turns.iter().map(|(name, turn)| (name.as_str(), *turn)).collect();
    for machine in facts.machines.iter().filter(|machine| !machine.deleting && !going.contains(machine.name.as_str())) {
        let mut wanted = slots::updated(facts, resolved, &machine.spec);
        let slot = found.iter().find(|slot| slot.name == machine.name);
        if let Some(Ok(earlier)) = slot.map(|slot| &slot.found) {
            wanted.identity.machine = Some(earlier.identity.clone());
        }
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
        plan.findings.extend(facts.addons_differing.iter().map(|(kind, name, how)| Finding::addon(kind, name, how)));
        let repairs = facts.spec.drift.mode == DriftMode::Enforce && !facts.addons_differing.is_empty();
        if !facts.addons_applied || repairs {
            plan.steps.push(Step::ApplyAddons);
        } else if facts.addons_due {
            plan.steps.push(Step::CompareAddons);
        }
        if !facts.context_done {
            plan.steps.push(Step::WriteContext);
        }
    }
    if let Some(how) = &facts.context_altered {
        plan.findings.push(Finding::context(&format!("kina-{}", facts.name), how));
        if facts.spec.drift.mode == DriftMode::Enforce {
            plan.steps.push(Step::WriteContext);
        }
    }
    plan.findings.extend(facts.foreign_nodes.iter().map(|name| Finding::foreign_node(name)));
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
