//! What a Cluster will do until it has nothing more to do: the planner, asked again and again in a world in which every
//! step succeeds. For people who ask beforehand; nothing is carried out by it.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::adopt::Adoption;
use super::facts::{BalancerFacts, Facts, HostFacts, MachineFacts, NetworkFacts};
use super::plan::{self, Step};
use super::reach::Reach;
use super::wait::Wait;
use crate::api::cluster::{ClusterSpec, DeletionPolicy, NodeNetwork};
use crate::api::conditions::{self, BOOTSTRAPPED, READY};
use crate::api::machine::{BootstrapMethod, MachineSpec, Turn};
use crate::api::{Cluster, Machine, annotations};
use crate::controllers::derived::OfCluster;
use crate::controllers::host::Found;
use crate::controllers::identity;
use crate::controllers::machine::container;
use crate::controllers::machine::observe::is_paused;
use crate::runtime::ContainerState;

/// Passes after which a forecast ends. A thousand machines come side by side, or are rolled with two passes each.
const PASSES_MAX: usize = 4_000;

/// Something that will be done, in the order in which it will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something about the cluster as a whole, by its name.
    Host(&'static str),
    /// A machine is made.
    Create(String),
    /// A machine that is there becomes a node.
    Bootstrap(String),
    /// A machine is made anew, with its data kept.
    Roll(String),
    /// A machine is repaired.
    Repair(String),
    /// Labels, taints and the like of a machine are set.
    Update(String),
    /// A machine goes.
    Delete(String),
    /// A machine goes with its data, since the cluster is made anew.
    Discard(String),
}

/// What will be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// In this order.
    pub actions: Vec<Action>,
    /// Why it does not go on, where it does not.
    pub wait: Option<Wait>,
    /// It ended only because it became too long.
    pub is_cut: bool,
}

/// What is taken for so, as far as Kina's own records tell: what is on the host was not looked at, and is taken to be as
/// it was reported last. `spec` is resolved; `cluster` is missing where it is to be made.
#[must_use]
pub fn presumed(name: &str, spec: &ClusterSpec, cluster: Option<&Cluster>, machines: &[Machine]) -> Facts {
    let of_cluster = OfCluster::of(spec);
    let facts: Vec<MachineFacts> =
        machines.iter().filter_map(|machine| machine_facts(machine, of_cluster.as_ref())).collect();
    let is_there = !facts.is_empty();
    let subnet = spec.networking.node_subnet.clone().unwrap_or_default();
    let current = facts.iter().all(|machine| machine.of_this_cluster);
    let network = Found::Ours(NetworkFacts { current, subnet });
    let balancer = Found::Ours(BalancerFacts { state: ContainerState::Running, current, untold: None });
    let has_network = facts.iter().any(|machine| machine.spec.network() == NodeNetwork::Cluster);
    let (network, balancer) = if has_network { (network, balancer) } else { (Found::Absent, Found::Absent) };
    let answers = facts.iter().any(|machine| machine.is_control_plane() && machine.ready);
    Facts {
        name: name.to_owned(),
        spec: spec.clone(),
        resolved: of_cluster.map(|of_cluster| of_cluster.resolved),
        deleting: cluster.is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_some()),
        orphan: spec.deletion_policy == DeletionPolicy::Orphan,
        paused: spec.paused || cluster.is_some_and(is_paused),
        may_recreate: spec.allow_recreate
            || cluster.is_some_and(|cluster| cluster.annotations().contains_key(annotations::RECREATE)),
        expired: false,
        reach: Reach::nowhere(),
        host: HostFacts::Known { fresh: true, network, balancer, left: Vec::new() },
        image_present: is_there,
        backends_current: is_there,
        node_resources: None,
        machines: facts,
        api_answers: Some(answers),
        api_unwell: None,
        addons_applied: is_there,
        addons_due: false,
        addons_differing: Vec::new(),
        policy: None,
        has_certificates: is_there,
        context_done: is_there,
        context_altered: None,
        foreign_nodes: Vec::new(),
        adoption: Adoption { slots: Some(Vec::new()), ..Adoption::default() },
    }
}

fn machine_facts(machine: &Machine, of_cluster: Option<&OfCluster>) -> Option<MachineFacts> {
    let status = machine.status.clone().unwrap_or_default();
    let waiting = status.waiting.map(|waiting| waiting.reason).unwrap_or_default();
    let bootstrapped = conditions::get(&status.conditions, BOOTSTRAPPED);
    Some(MachineFacts {
        name: machine.name_any(),
        uid: machine.uid()?,
        spec: machine.spec.clone(),
        deleting: machine.metadata.deletion_timestamp.is_some(),
        of_this_cluster: of_cluster.is_none_or(|of_cluster| identity::fits(machine, of_cluster)),
        ready: conditions::is_true(&status.conditions, READY),
        bootstrapped: bootstrapped.map(|condition| condition.status == "True"),
        outdated: waiting == "WaitingForRoll" || machine.spec.turn == Some(Turn::Roll),
        just_adopted: false,
        waiting,
    })
}

/// Asks the planner until it has nothing more to do, waits for something that no step of its own brings, or lets go.
#[must_use]
pub fn forecast(facts: Facts) -> Forecast {
    let mut world = World { facts, made: BTreeSet::new(), forecast: Forecast::default(), gone: false };
    let mut before = None;
    for _ in 0..PASSES_MAX {
        let planned = plan::plan(&world.facts);
        for step in &planned.steps {
            world.carry_out(step);
        }
        world.pass_time(planned.steps.is_empty());
        let is_still = planned.steps.is_empty() && before.as_ref() == Some(&planned.wait);
        if is_still || world.gone {
            world.forecast.wait = planned.wait.filter(|_| !world.gone);
            return world.forecast;
        }
        before = planned.steps.is_empty().then_some(planned.wait);
    }
    world.forecast.is_cut = true;
    world.forecast
}

/// A world in which every step succeeds.
struct World {
    facts: Facts,
    /// Machines of which it was told already that they are made.
    made: BTreeSet<String>,
    forecast: Forecast,
    gone: bool,
}

impl World {
    fn tell(&mut self, action: Action) {
        if self.forecast.actions.last() != Some(&action) {
            self.forecast.actions.push(action);
        }
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::CreateMachine(name, spec) => self.create(name, spec),
            Step::UpdateMachine(name, _, spec) => self.update(name, spec),
            Step::DeleteMachine(name, _) => self.delete(name),
            other => {
                self.on_host(other);
                if let Some(told) = told(other) {
                    self.tell(Action::Host(told));
                }
            }
        }
    }

    fn on_host(&mut self, step: &Step) {
        let subnet = self.facts.spec.networking.node_subnet.clone().unwrap_or_default();
        match step {
            Step::MakeCertificates => self.facts.has_certificates = true,
            Step::RemoveCertificates => self.facts.has_certificates = false,
            Step::PullImage => self.facts.image_present = true,
            Step::WriteBackends => self.facts.backends_current = true,
            Step::ApplyAddons => (self.facts.addons_applied, self.facts.addons_differing) = (true, Vec::new()),
            Step::CompareAddons => self.facts.addons_due = false,
            Step::WriteContext => (self.facts.context_done, self.facts.context_altered) = (true, None),
            Step::Expire => self.facts.deleting = true,
            Step::RemoveFinalizer => self.gone = true,
            _ => {}
        }
        let HostFacts::Known { network, balancer, left, .. } = &mut self.facts.host else { return };
        match step {
            Step::CreateNetwork => *network = Found::Ours(NetworkFacts { current: true, subnet }),
            Step::RemoveNetwork => *network = Found::Absent,
            Step::CreateBalancer => {
                *balancer = Found::Ours(BalancerFacts { state: ContainerState::Created, current: true, untold: None });
            }
            Step::StartBalancer => {
                if let Found::Ours(balancer) = balancer {
                    balancer.state = ContainerState::Running;
                }
            }
            Step::RemoveBalancer => *balancer = Found::Absent,
            Step::RemoveLeft(what) => left.retain(|other| other != what),
            _ => {}
        }
    }

    fn create(&mut self, name: &str, spec: &MachineSpec) {
        self.made.insert(name.to_owned());
        self.facts.machines.push(MachineFacts::recorded(name, name, spec));
        self.facts.machines.sort_by(|left, right| left.name.cmp(&right.name));
        self.tell(Action::Create(name.to_owned()));
    }

    fn update(&mut self, name: &str, spec: &MachineSpec) {
        let Some(machine) = self.facts.machines.iter_mut().find(|machine| machine.name == name) else { return };
        let before = std::mem::replace(&mut machine.spec, spec.clone());
        machine.outdated |= container::wanted_hash(name, &before) != container::wanted_hash(name, spec);
        let is_live = before.labels != spec.labels || before.taints != spec.taints;
        let granted = spec.turn.filter(|_| spec.turn != before.turn);
        let is_new = self.made.contains(name);
        if is_live {
            self.tell(Action::Update(name.to_owned()));
        }
        match granted {
            Some(Turn::Roll) => self.tell(Action::Roll(name.to_owned())),
            Some(Turn::Repair) => self.tell(Action::Repair(name.to_owned())),
            Some(Turn::Bootstrap) if !is_new => self.tell(Action::Bootstrap(name.to_owned())),
            Some(Turn::Bootstrap) | None => {}
        }
    }

    fn delete(&mut self, name: &str) {
        let Some(machine) = self.facts.machines.iter_mut().find(|machine| machine.name == name) else { return };
        machine.deleting = true;
        let is_discarded = !machine.of_this_cluster;
        self.tell(if is_discarded { Action::Discard(name.to_owned()) } else { Action::Delete(name.to_owned()) });
    }

    /// Machines do what they were granted. Where nothing else is to be done, what only takes its time gets there.
    fn pass_time(&mut self, is_idle: bool) {
        self.facts.machines.retain(|machine| !machine.deleting);
        let answers = self.facts.api_answers == Some(true);
        for machine in &mut self.facts.machines {
            let may_begin = machine.spec.bootstrap.method == BootstrapMethod::Init || answers;
            match machine.spec.turn {
                Some(Turn::Bootstrap) if machine.bootstrapped != Some(true) && may_begin => {
                    (machine.bootstrapped, machine.ready, machine.waiting) = (Some(true), true, String::new());
                }
                Some(Turn::Roll) if machine.outdated => {
                    (machine.outdated, machine.ready, machine.waiting) = (false, true, String::new());
                }
                Some(Turn::Repair) => (machine.ready, machine.waiting) = (true, String::new()),
                _ if is_idle && !machine.needs_repair() && machine.bootstrapped == Some(true) => machine.ready = true,
                _ => {}
            }
        }
        let members = || self.facts.machines.iter().filter(|m| m.is_control_plane() && m.bootstrapped == Some(true));
        let healthy = members().filter(|machine| machine.ready).count();
        self.facts.api_answers = Some(members().count() > 0 && healthy > members().count() / 2);
        if self.facts.machines.is_empty() && !self.facts.deleting {
            // What comes after machines of another cluster begins anew.
            self.facts.addons_applied = false;
            self.facts.backends_current = false;
        }
    }
}

/// A step on the host as people are told it; `None` for what goes with the one before it.
fn told(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::MakeCertificates => "make certificates",
        Step::CreateNetwork => "make the network",
        Step::CreateBalancer => "make the load balancer",
        Step::RemoveBalancer => "remove the load balancer",
        Step::RemoveNetwork => "remove the network",
        Step::ApplyAddons => "apply the pod network and the storage class",
        Step::WriteContext => "write the context into the kubeconfig",
        Step::RemoveLeft(_) => "remove what is left of it elsewhere",
        Step::RemoveCertificates => "remove the certificates",
        Step::Expire => "delete the cluster: its time is over",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::cidr::Cidr;
    use crate::api::cluster::{MachineResources, Quantity, RuntimeName, WorkerPool};
    use crate::api::defaults::{self, HostDefaults};
    use crate::api::node::HostMount;

    fn spec() -> ClusterSpec {
        let workers = vec![WorkerPool { name: "default".into(), replicas: 2, ..WorkerPool::default() }];
        let host = HostDefaults {
            runtime: RuntimeName::Sim,
            node_network: NodeNetwork::Cluster,
            node_subnet: "10.160.0.0/24".parse::<Cidr>().unwrap(),
            api_port: 40_001,
            mapped_ports: Vec::new(),
        };
        defaults::resolve(&ClusterSpec { workers, ..ClusterSpec::default() }, &host)
    }

    /// The machines of a cluster as the forecast for it ended, all Ready.
    fn machines(spec: &ClusterSpec) -> Vec<Machine> {
        let mut world = World {
            facts: presumed("dev", spec, None, &[]),
            made: BTreeSet::new(),
            forecast: Forecast::default(),
            gone: false,
        };
        for _ in 0..20 {
            let planned = plan::plan(&world.facts);
            planned.steps.iter().for_each(|step| world.carry_out(step));
            world.pass_time(planned.steps.is_empty());
        }
        let of_cluster = OfCluster::of(spec).unwrap();
        let machine = |facts: &MachineFacts| {
            let mut machine = Machine::new(&facts.name, facts.spec.clone());
            machine.metadata.uid = Some(facts.uid.clone());
            let fingerprint = identity::of_pool(&of_cluster, &facts.spec.pool);
            machine.annotations_mut().insert(identity::FINGERPRINT.to_owned(), fingerprint);
            let condition = |type_: &str| {
                json!({"type": type_, "status": "True", "reason": type_, "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            };
            machine.status = serde_json::from_value(
                json!({"phase": "Running", "conditions": [condition(READY), condition(BOOTSTRAPPED)]}),
            )
            .unwrap();
            machine
        };
        world.facts.machines.iter().map(machine).collect()
    }

    fn told(spec: &ClusterSpec, machines: &[Machine]) -> Vec<Action> {
        let forecast = forecast(presumed("dev", spec, None, machines));
        assert!(!forecast.is_cut && forecast.wait.is_none(), "{:?}", forecast.wait);
        forecast.actions
    }

    #[test]
    fn a_cluster_that_is_as_wanted_has_nothing_to_do() {
        assert_eq!(told(&spec(), &machines(&spec())), []);
    }

    #[test]
    fn a_new_cluster_is_made_in_order() {
        let create = |name: &str| Action::Create(format!("dev-{name}"));
        assert_eq!(
            told(&spec(), &[]),
            [
                Action::Host("make certificates"),
                Action::Host("make the network"),
                create("control-plane-0"),
                create("default-0"),
                create("default-1"),
                Action::Host("make the load balancer"),
                Action::Host("apply the pod network and the storage class"),
                Action::Host("write the context into the kubeconfig"),
            ]
        );
    }

    #[test]
    fn one_on_the_runtimes_own_network_has_none_made_and_none_removed() {
        let mut lone = spec();
        lone.workers.clear();
        lone.networking.node_network = Some(NodeNetwork::Default);
        assert_eq!(
            told(&lone, &[]),
            [
                Action::Host("make certificates"),
                Action::Create("dev-control-plane-0".into()),
                Action::Host("apply the pod network and the storage class"),
                Action::Host("write the context into the kubeconfig"),
            ]
        );
        let there = machines(&lone);
        assert_eq!(told(&lone, &there), []);
        let facts = Facts { deleting: true, ..presumed("dev", &lone, None, &there) };
        let gone = forecast(facts).actions;
        assert_eq!(gone, [Action::Delete("dev-control-plane-0".into()), Action::Host("remove the certificates")]);
    }

    #[test]
    fn what_rolls_is_rolled_one_by_one_and_what_scales_comes_before() {
        let mut wanted = spec();
        wanted.workers[0].replicas = 3;
        wanted.workers[0].resources = Some(MachineResources { cpus: Some(Quantity("2".into())), memory: None });
        let roll = |name: &str| Action::Roll(format!("dev-{name}"));
        assert_eq!(
            told(&wanted, &machines(&spec())),
            [Action::Create("dev-default-2".into()), roll("default-0"), roll("default-1")]
        );
        wanted.workers.clear();
        let going = told(&wanted, &machines(&spec()));
        assert!(going.contains(&Action::Delete("dev-default-1".into())), "{going:?}");
    }

    #[test]
    fn everything_that_a_container_is_made_from_rolls() {
        let roll = |name: &str| Action::Roll(format!("dev-{name}"));
        let mut mounted = spec();
        mounted.workers[0].extra_mounts =
            vec![HostMount { host_path: "/srv".into(), container_path: "/data".into(), ..HostMount::default() }];
        assert_eq!(told(&mounted, &machines(&spec())), [roll("default-0"), roll("default-1")]);
        let mut patched = spec();
        patched.containerd_config_patches = vec!["[debug]".into()];
        let all = told(&patched, &machines(&spec()));
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all.iter().all(|action| matches!(action, Action::Roll(_))), "{all:?}");
    }

    #[test]
    fn a_pool_with_patches_of_its_own_is_of_the_cluster() {
        let mut spec = spec();
        spec.workers[0].kubeadm_config_patches = vec!["kind: JoinConfiguration".into()];
        assert_eq!(told(&spec, &machines(&spec)), []);
    }

    #[test]
    fn what_does_not_work_is_rolled_first_and_what_only_takes_its_time_is_waited_for() {
        let mut wanted = spec();
        wanted.workers[0].resources = Some(MachineResources { cpus: Some(Quantity("2".into())), memory: None });
        let mut machines = machines(&spec());
        let last = machines.iter_mut().find(|machine| machine.name_any() == "dev-default-1").unwrap();
        last.status.as_mut().unwrap().conditions.retain(|condition| condition.type_ != READY);
        let roll = |name: &str| Action::Roll(format!("dev-{name}"));
        assert_eq!(told(&wanted, &machines), [roll("default-1"), roll("default-0")]);
        let plane = machines.iter_mut().find(|machine| machine.name_any() == "dev-control-plane-0").unwrap();
        plane.status.as_mut().unwrap().conditions.retain(|condition| condition.type_ != READY);
        assert_eq!(told(&wanted, &machines), [roll("default-1"), roll("default-0")]);
    }

    #[test]
    fn what_recreates_discards_everything_first_where_it_may() {
        let mut wanted = spec();
        wanted.networking.pod_subnet = Some("10.8.0.0/16".into());
        let held = forecast(presumed("dev", &wanted, None, &machines(&spec())));
        assert_eq!((held.actions, held.wait), (Vec::new(), Some(Wait::RecreateNotAllowed)));
        wanted.allow_recreate = true;
        let actions = told(&wanted, &machines(&spec()));
        let discarded = actions.iter().filter(|action| matches!(action, Action::Discard(_))).count();
        let made = actions.iter().filter(|action| matches!(action, Action::Create(_))).count();
        assert_eq!((discarded, made), (3, 3), "{actions:?}");
    }

    #[test]
    fn what_is_paused_stays() {
        let mut wanted = spec();
        wanted.paused = true;
        wanted.workers[0].replicas = 3;
        let forecast = forecast(presumed("dev", &wanted, None, &machines(&spec())));
        assert_eq!((forecast.actions, forecast.wait), (Vec::new(), Some(Wait::Paused)));
    }
}
