//! From any state, planning and doing leads to what is wanted, in bounded steps, and then nothing is planned any more;
//! on the way, what must not happen at the same time does not.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::adopt::{Adoption, Earlier, Slot};
use super::facts::{BalancerFacts, Facts, HostFacts, MachineFacts, NetworkFacts, control_plane_in_work};
use super::plan::{Plan, Step, plan};
use super::reach::Reach;
use super::slots;
use super::wait::Wait;
use crate::api::cluster::{ClusterSpec, Cni, NodeNetwork, RuntimeName, WorkerPool};
use crate::api::defaults::{self, HostDefaults, Resolved};
use crate::api::machine::{BootstrapMethod, MachineRole, MachineSpec, Turn};
use crate::api::names::CONTROL_PLANE_POOL;
use crate::controllers::host::Found;
use crate::controllers::machine::wait::WAITING_FOR_REPLACEMENT;
use crate::kubeadm::overlay::Peers;
use crate::runtime::ContainerState;

/// A cluster's world.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) facts: Facts,
    pub(super) gone: bool,
}

fn resolved(spec: &ClusterSpec) -> (ClusterSpec, Resolved) {
    let host = HostDefaults {
        runtime: RuntimeName::Sim,
        node_network: NodeNetwork::Cluster,
        node_subnet: "10.160.0.0/24".parse().unwrap(),
        api_port: 40_000,
        mapped_ports: Vec::new(),
    };
    let spec = defaults::resolve(spec, &host);
    let resolved = Resolved::of(&spec).unwrap();
    (spec, resolved)
}

pub(super) fn spec(control_planes: u32, pools: &[(&str, u32)]) -> ClusterSpec {
    let mut spec = ClusterSpec::default();
    spec.control_plane.replicas = control_planes;
    spec.networking.cni = Some(Cni::Auto);
    let pool = |(name, replicas): &(&str, u32)| WorkerPool {
        name: (*name).into(),
        replicas: *replicas,
        ..WorkerPool::default()
    };
    spec.workers = pools.iter().map(pool).collect();
    spec
}

pub(super) fn empty(spec: &ClusterSpec) -> Model {
    let (spec, resolved) = resolved(spec);
    let facts = Facts {
        name: "dev".into(),
        spec,
        resolved: Some(resolved),
        deleting: false,
        orphan: false,
        paused: false,
        may_recreate: false,
        expired: false,
        reach: Reach::nowhere(),
        host: HostFacts::Known { fresh: true, network: Found::Absent, balancer: Found::Absent, left: Vec::new() },
        image_present: false,
        backends_current: false,
        node_resources: None,
        machines: Vec::new(),
        api_answers: Some(false),
        api_unwell: None,
        addons_applied: false,
        has_certificates: false,
        policy: None,
        addons_due: false,
        addons_differing: Vec::new(),
        context_altered: None,
        foreign_nodes: Vec::new(),
        context_done: false,
        adoption: Adoption { slots: Some(Vec::new()), ..Adoption::default() },
    };
    Model { facts, gone: false }
}

impl Model {
    pub(super) fn want(&mut self, spec: &ClusterSpec) {
        let (spec, resolved) = resolved(spec);
        (self.facts.spec, self.facts.resolved) = (spec, Some(resolved));
    }

    pub(super) fn host(&mut self) -> (&mut Found<NetworkFacts>, &mut Found<BalancerFacts>) {
        match &mut self.facts.host {
            HostFacts::Known { network, balancer, .. } => (network, balancer),
            _ => unreachable!("the model's host is known"),
        }
    }

    pub(super) fn act(&mut self, step: &Step) {
        match step {
            Step::RecordReach(runtimes) => self.facts.reach.recorded = Some(runtimes.clone()),
            Step::MakeCertificates => self.facts.has_certificates = true,
            Step::CreateNetwork => {
                *self.host().0 = Found::Ours(NetworkFacts { current: true, subnet: "10.160.0.0/24".into() });
            }
            Step::PullImage => self.facts.image_present = true,
            Step::CreateBalancer => {
                let state = ContainerState::Created;
                *self.host().1 = Found::Ours(BalancerFacts { state, current: true, untold: None });
            }
            Step::WriteBackends => self.facts.backends_current = true,
            Step::StartBalancer => {
                if let Found::Ours(balancer) = self.host().1 {
                    (balancer.state, balancer.untold) = (ContainerState::Running, Some(Peers::new()));
                }
            }
            Step::Connect(_) => {
                if let Found::Ours(balancer) = self.host().1 {
                    assert!(balancer.untold.take().is_some(), "it runs and does not know");
                }
            }
            Step::RemoveBalancer => *self.host().1 = Found::Absent,
            Step::RemoveNetwork => *self.host().0 = Found::Absent,
            Step::CreateMachine(name, spec) => self.add(name, spec),
            Step::UpdateMachine(name, _, spec) => {
                let machine = self.facts.machines.iter_mut().find(|machine| machine.name == *name).unwrap();
                machine.outdated |= machine.spec.image != spec.image || machine.spec.resources != spec.resources;
                machine.spec = (**spec).clone();
            }
            Step::DeleteMachine(name, _) => {
                self.facts.machines.iter_mut().filter(|machine| machine.name == *name).for_each(|m| m.deleting = true);
            }
            Step::ApplyAddons => self.facts.addons_applied = true,
            Step::CompareAddons => self.facts.addons_due = false,
            Step::WriteContext => self.facts.context_done = true,
            Step::RemoveLeft(_) => {}
            Step::RemoveCertificates => self.facts.has_certificates = false,
            Step::Expire => self.facts.deleting = true,
            Step::RemoveFinalizer => self.gone = true,
        }
    }

    fn add(&mut self, name: &str, spec: &MachineSpec) {
        assert!(self.facts.machines.iter().all(|machine| machine.name != name), "{name} is made twice");
        assert!(self.facts.machines.iter().all(|m| m.spec.address != spec.address), "{} is given twice", spec.address);
        let address: Ipv4Addr = spec.address.parse().unwrap();
        assert!((10..255).contains(&address.octets()[3]));
        self.facts.backends_current = false;
        self.facts.machines.push(MachineFacts::recorded(name, &format!("uid-{name}"), spec));
        self.facts.machines.sort_by(|left, right| left.name.cmp(&right.name));
    }

    /// Machines do what they were granted.
    pub(super) fn pass_time(&mut self) {
        let etcd = |machine: &&MachineFacts| machine.is_control_plane() && machine.bootstrapped == Some(true);
        self.facts.machines.retain(|machine| !machine.deleting);
        let answers = self.facts.api_answers == Some(true);
        for machine in &mut self.facts.machines {
            match machine.spec.turn {
                Some(Turn::Bootstrap)
                    if machine.bootstrapped != Some(true)
                        && (machine.spec.bootstrap.method == BootstrapMethod::Init || answers) =>
                {
                    (machine.bootstrapped, machine.ready, machine.waiting) = (Some(true), true, String::new());
                }
                Some(Turn::Roll) if machine.outdated => (machine.outdated, machine.ready) = (false, true),
                Some(Turn::Repair) => (machine.ready, machine.waiting) = (true, String::new()),
                _ => {}
            }
        }
        let members = self.facts.machines.iter().filter(etcd).count();
        let healthy = self.facts.machines.iter().filter(etcd).filter(|machine| machine.ready).count();
        self.facts.api_answers = Some(members > 0 && healthy > members / 2);
    }

    /// What must not happen at the same time.
    fn check(&mut self, planned: &Plan) {
        let planes: Vec<&MachineFacts> = self.facts.machines.iter().filter(|m| m.is_control_plane()).collect();
        let formed = planes.iter().any(|machine| machine.bootstrapped == Some(true));
        let leaving = planned.steps.iter().filter(
            |step| matches!(step, Step::DeleteMachine(name, _) if planes.iter().any(|machine| machine.name == *name)),
        );
        let rolling = planned.steps.iter().filter(|step| {
            matches!(step, Step::UpdateMachine(name, _, spec) if spec.turn == Some(Turn::Roll)
                && planes.iter().any(|machine| machine.name == *name && machine.spec.turn != Some(Turn::Roll)))
        });
        let disturbed = leaving.count() + rolling.count();
        if formed && !self.facts.deleting && !self.facts.may_recreate {
            assert!(disturbed <= 1, "two control planes at once: {:?}", planned.steps);
            let name = planned.steps.iter().find_map(|step| match step {
                Step::DeleteMachine(name, _) => Some(name),
                Step::UpdateMachine(name, _, spec) if spec.turn == Some(Turn::Roll) => Some(name),
                _ => None,
            });
            if disturbed == 1 && planes.iter().any(|machine| Some(&machine.name) == name) {
                let busy = control_plane_in_work(&self.facts).filter(|busy| Some(&busy.name) != name);
                assert!(busy.is_none(), "another one is in work: {:?}", planned.steps);
                let others = || planes.iter().filter(|machine| Some(&machine.name) != name);
                let healthy = others().filter(|machine| machine.ready).count();
                assert!(planes.len() == 1 || healthy > others().count() / 2, "the quorum: {:?}", planned.steps);
            }
        }
        let repairing =
            |machine: &&MachineFacts| machine.spec.turn == Some(Turn::Repair) && !machine.is_control_plane();
        let share = self.facts.machines.len().div_ceil(4).max(1);
        assert!(self.facts.machines.iter().filter(repairing).count() <= share, "too many under repair");
    }
}

/// Far more than the longest way: each of some twenty machines once rolled and once repaired, one after the other.
const PASSES_MAX: usize = 200;

pub(super) fn run(model: &mut Model, until: impl Fn(&Model, &Plan) -> bool) -> bool {
    for _ in 0..PASSES_MAX {
        let planned = plan(&model.facts);
        model.check(&planned);
        if until(model, &planned) {
            return true;
        }
        for step in &planned.steps {
            model.act(step);
        }
        model.pass_time();
    }
    false
}

pub(super) fn settled(model: &Model, planned: &Plan) -> bool {
    planned.steps.is_empty() && planned.wait.is_none() && model.facts.machines.iter().all(|machine| machine.ready)
}

fn counts(model: &Model) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for machine in &model.facts.machines {
        *counts.entry(machine.spec.pool.clone()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

fn replicas() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1_u32), Just(3), Just(5)]
}

proptest! {
    #[test]
    fn any_change_of_replicas_and_image_leads_to_what_is_wanted(
        first in replicas(), then in replicas(), a in 0_u32..4, b in 0_u32..4, c in 0_u32..4,
        broken in proptest::collection::vec(any::<bool>(), 12), image in any::<bool>(),
    ) {
        let mut model = empty(&spec(first, &[("a", a), ("b", b)]));
        prop_assert!(run(&mut model, settled), "{:?}", plan(&model.facts));
        // Some break down, less than half of the control planes; then the spec changes.
        let mut allowed = (first / 2) as usize;
        for (machine, broken) in model.facts.machines.iter_mut().zip(&broken) {
            let is_plane = machine.is_control_plane();
            if *broken && (!is_plane || allowed > 0) {
                allowed -= usize::from(is_plane);
                (machine.ready, machine.waiting) = (false, "WaitingForRepair".into());
            }
        }
        let mut wanted = spec(then, &[("a", c), ("c", b)]);
        if image {
            wanted.image = Some("docker.io/kindest/node:other".into());
        }
        model.want(&wanted);
        prop_assert!(run(&mut model, settled), "{:?}\n{:?}", plan(&model.facts), model.facts.machines);
        let expected: Vec<(String, usize)> = [("a", c), ("c", b), (CONTROL_PLANE_POOL, then)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count as usize))
            .collect();
        prop_assert_eq!(counts(&model), expected);
        prop_assert!(model.facts.machines.iter().all(|machine| !machine.outdated));
        for _ in 0..3 {
            prop_assert_eq!(plan(&model.facts).steps, vec![]);
        }
    }

    #[test]
    fn a_cluster_that_goes_leaves_nothing_and_nothing_goes_by_an_old_listing(
        planes in replicas(), workers in 0_u32..4, passes in 0_usize..12,
    ) {
        let mut model = empty(&spec(planes, &[("a", workers)]));
        for _ in 0..passes {
            let planned = plan(&model.facts);
            planned.steps.iter().for_each(|step| model.act(step));
            model.pass_time();
        }
        (model.facts.deleting, model.facts.context_done) = (true, false);
        let mut old = model.facts.clone();
        if let HostFacts::Known { fresh, .. } = &mut old.host {
            *fresh = false;
        }
        prop_assert!(!plan(&old).steps.iter().any(Step::destroys));
        prop_assert!(run(&mut model, |model, _| model.gone));
        let (network, balancer) = model.host();
        prop_assert!(network.ours().is_none() && balancer.ours().is_none());
        prop_assert!(!model.facts.has_certificates && model.facts.machines.is_empty());
    }
}

#[test]
fn the_first_control_planes_know_each_other_and_later_ones_join() {
    let mut model = empty(&spec(3, &[]));
    let planned = plan(&model.facts);
    let members: Vec<_> = planned
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::CreateMachine(_, spec) => Some((spec.bootstrap.clone(), spec.turn)),
            _ => None,
        })
        .collect();
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|(bootstrap, turn)| {
        bootstrap.method == BootstrapMethod::Init && bootstrap.members.len() == 3 && *turn == Some(Turn::Bootstrap)
    }));
    assert!(run(&mut model, settled));
    model.want(&spec(5, &[]));
    let planned = plan(&model.facts);
    let joining = planned.steps.iter().filter_map(|step| match step {
        Step::CreateMachine(_, spec) => Some((spec.bootstrap.method, spec.turn)),
        _ => None,
    });
    assert_eq!(joining.collect::<Vec<_>>(), [(BootstrapMethod::Join, None); 2]);
}

#[test]
fn a_lost_quorum_is_brought_back_by_all_at_once() {
    let mut model = empty(&spec(3, &[]));
    assert!(run(&mut model, settled));
    for machine in &mut model.facts.machines {
        (machine.ready, machine.waiting) = (false, "WaitingForRepair".into());
    }
    model.facts.api_answers = Some(false);
    let planned = plan(&model.facts);
    let granted = planned
        .steps
        .iter()
        .filter(|step| matches!(step, Step::UpdateMachine(_, _, spec) if spec.turn == Some(Turn::Repair)));
    assert_eq!(granted.count(), 3);
}

#[test]
fn what_needs_a_new_cluster_waits_for_a_permission() {
    let mut model = empty(&spec(1, &[("a", 1)]));
    assert!(run(&mut model, settled));
    model.facts.machines.iter_mut().for_each(|machine| machine.of_this_cluster = false);
    let planned = plan(&model.facts);
    assert_eq!((planned.steps.len(), planned.wait), (0, Some(Wait::RecreateNotAllowed)));
    model.facts.may_recreate = true;
    let leaving: Vec<String> = plan(&model.facts)
        .steps
        .into_iter()
        .map(|step| match step {
            Step::DeleteMachine(name, _) => name,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(leaving, ["dev-a-0", "dev-control-plane-0"], "whoever is interrupted has a control plane still");
}

#[test]
fn what_is_being_made_anew_is_so_to_the_end_though_its_machines_are_wanted_again() {
    let mut model = empty(&spec(1, &[("a", 2)]));
    assert!(run(&mut model, settled));
    // The control plane goes already; its workers are recorded still.
    model.facts.machines.iter_mut().filter(|machine| machine.is_control_plane()).for_each(|m| m.deleting = true);
    let planned = plan(&model.facts);
    assert_eq!(planned.wait, Some(Wait::Recreating(3)));
    let leaving = |step: &Step| matches!(step, Step::DeleteMachine(name, _) if name.starts_with("dev-a-"));
    assert!(planned.steps.len() == 2 && planned.steps.iter().all(leaving), "{:?}", planned.steps);
    planned.steps.iter().for_each(|step| model.act(step));
    assert_eq!(plan(&model.facts).steps, []);
    // The control plane is gone before its workers are.
    model.facts.machines.retain(|machine| !machine.is_control_plane());
    let planned = plan(&model.facts);
    assert_eq!((planned.steps, planned.wait), (Vec::new(), Some(Wait::Recreating(2))));
    // The API server that is gone may be thought to answer still.
    model.facts.machines.clear();
    let planned = plan(&model.facts);
    let methods = created(&planned).into_iter().map(|(_, spec)| (spec.role, spec.bootstrap.method));
    let first = |(role, method)| (role == MachineRole::ControlPlane) == (method == BootstrapMethod::Init);
    assert!(methods.clone().count() == 3 && methods.into_iter().all(first));
    assert!(run(&mut model, settled));
}

#[test]
fn no_control_plane_is_replaced_where_no_other_one_stays_whatever_the_api_seems_to_say() {
    let mut model = empty(&spec(3, &[]));
    assert!(run(&mut model, settled));
    model.want(&spec(1, &[]));
    model.facts.machines.truncate(2);
    (model.facts.machines[0].ready, model.facts.machines[0].waiting) = (false, WAITING_FOR_REPLACEMENT.into());
    assert_eq!(model.facts.api_answers, Some(true));
    let leaving = |model: &Model| plan(&model.facts).steps.iter().any(|step| matches!(step, Step::DeleteMachine(..)));
    assert!(leaving(&model));
    model.facts.machines[1].deleting = true;
    assert!(!leaving(&model));
}

fn earlier(pool: &str, ordinal: u32, address: &str) -> Slot {
    let role = if pool == CONTROL_PLANE_POOL { MachineRole::ControlPlane } else { MachineRole::Worker };
    let (name, identity) = (format!("dev-{pool}-{ordinal}"), format!("earlier-{pool}-{ordinal}"));
    let found = Earlier { identity, role, pool: pool.into(), ordinal, address: address.into() };
    Slot { name, found: Ok(found) }
}

pub(super) fn created(planned: &Plan) -> Vec<(&str, &MachineSpec)> {
    let created = planned.steps.iter().filter_map(|step| match step {
        Step::CreateMachine(name, spec) => Some((name.as_str(), &**spec)),
        _ => None,
    });
    created.collect()
}

#[test]
fn what_is_there_without_a_record_is_adopted_before_anything_is_made_or_removed() {
    let mut model = empty(&spec(3, &[("a", 1)]));
    let found = vec![
        earlier("a", 0, "10.160.0.20"),
        earlier("a", 4, "10.160.0.21"),
        earlier(CONTROL_PLANE_POOL, 1, "10.160.0.22"),
    ];
    model.facts.adoption = Adoption { identity: Some("earlier".into()), slots: Some(found), proven: false };
    assert_eq!(created(&plan(&model.facts)), []);
    assert!(plan(&model.facts).needs_listing);

    model.facts.adoption.proven = true;
    let planned = plan(&model.facts);
    let made = created(&planned);
    let names: Vec<&str> = made.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["dev-a-0", "dev-a-4", "dev-control-plane-1"]);
    for (name, spec) in &made {
        assert_eq!(spec.identity.cluster.as_deref(), Some("earlier"));
        assert_eq!(spec.identity.machine, Some(name.replace("dev", "earlier")));
    }
    assert_eq!(made[2].1.address, "10.160.0.22");
    assert_eq!(made[2].1.bootstrap.members.keys().collect::<Vec<_>>(), ["dev-control-plane-1"]);

    planned.steps.iter().for_each(|step| model.act(step));
    model.facts.adoption.slots = Some(Vec::new());
    assert!(run(&mut model, settled), "{:?}", plan(&model.facts));
    assert_eq!(counts(&model), [("a".to_owned(), 1), (CONTROL_PLANE_POOL.to_owned(), 3)]);
}

#[test]
fn where_something_cannot_be_adopted_nothing_is_made_in_its_place() {
    let mut model = empty(&spec(3, &[("a", 1)]));
    let refused = Slot { name: "dev-control-plane-0".into(), found: Err("its volume is gone".into()) };
    model.facts.adoption = Adoption { identity: None, slots: Some(vec![refused]), proven: true };
    let planned = plan(&model.facts);
    assert_eq!(created(&planned), []);
    assert!(matches!(planned.wait, Some(Wait::NotAdopted(why)) if why == "dev-control-plane-0: its volume is gone"));
}

#[test]
fn while_the_runtime_is_silent_no_machine_is_recorded() {
    let mut model = empty(&spec(1, &[("a", 1)]));
    model.facts.adoption.slots = None;
    assert_eq!(created(&plan(&model.facts)), []);
}

#[test]
fn a_first_control_plane_that_failed_begins_again_also_where_another_is_a_node() {
    let mut model = empty(&spec(3, &[]));
    plan(&model.facts).steps.iter().for_each(|step| model.act(step));
    model.facts.machines[1].waiting = "BootstrapFailed".into();
    let node = &mut model.facts.machines[0];
    (node.bootstrapped, node.ready, node.waiting) = (Some(true), true, String::new());
    // What it has of etcd may be what makes the majority: it is not made to join from scratch.
    let changed = plan(&model.facts).steps.into_iter().any(|step| matches!(step, Step::UpdateMachine(..)));
    assert!(!changed);
    assert!(run(&mut model, settled), "{:?}", plan(&model.facts));
}

#[test]
fn a_machine_keeps_the_limits_that_were_chosen_for_it_whatever_the_host_is_by_then() {
    let limits = |gib: u64| {
        let limits = crate::runtime::Resources { cpu_millis: Some(2000), memory_bytes: Some(gib << 30) };
        Some(crate::controllers::machine::container::machine_resources(limits))
    };
    let mut facts = empty(&ClusterSpec::default()).facts;
    let resolved = facts.resolved.clone().unwrap();
    facts.node_resources = limits(2);
    let (made, _) = slots::missing(&facts, &resolved);
    let (_, machine) = made.into_iter().next().unwrap();
    assert_eq!((machine.resources.clone(), machine.default_resources), (limits(2), true));
    facts.node_resources = limits(8);
    assert_eq!(slots::updated(&facts, &resolved, &machine), machine, "the host has grown");
    facts.node_resources = None;
    assert_eq!(slots::updated(&facts, &resolved, &machine), machine, "nobody knows the host");
    // One from before there was a choice has none.
    facts.node_resources = limits(8);
    let before = MachineSpec { resources: None, default_resources: false, ..machine.clone() };
    assert_eq!(slots::updated(&facts, &resolved, &before), before);
    // What the pool names counts; once it names nothing any more, the machine is as a new one.
    facts.spec.control_plane.resources = limits(3);
    let named = slots::updated(&facts, &resolved, &machine);
    assert_eq!((named.resources.clone(), named.default_resources), (limits(3), false));
    facts.spec.control_plane.resources = None;
    let unnamed = slots::updated(&facts, &resolved, &named);
    assert_eq!((unnamed.resources, unnamed.default_resources), (limits(8), true));
}
