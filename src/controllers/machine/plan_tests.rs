//! From any state, planning and doing leads to what is wanted, in bounded steps, and then nothing is planned any more.

use std::time::Duration;

use proptest::prelude::*;

use super::facts::{
    Ailing, ApiFacts, ClusterState, ContainerFacts, Containerd, Drain, Facts, HostFacts, Inside, Membership, NodeFacts,
    PodNetwork,
};
use super::member_tests::peer;
use super::plan::{Plan, Step, plan};
use super::wait::Wait;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::drift::Repair;
use crate::controllers::host::Found;
use crate::kubeadm::etcd::MemberId;
use crate::kubeadm::overlay::Peers;
use crate::kubeadm::units::UnitState;
use crate::runtime::ContainerState;

/// A machine's world: what a runtime, a node and an API server would hold.
#[derive(Clone, Debug)]
struct Model {
    role: MachineRole,
    method: BootstrapMethod,
    turn: Option<Turn>,
    deleting: bool,
    cluster: ClusterState,
    image: bool,
    volume: bool,
    container: Option<ContainerFacts>,
    foreign: bool,
    marker: bool,
    /// What status says, as of the last pass.
    recorded: bool,
    /// kubeadm once succeeded on it: what it made is never to be taken back while it lives.
    formed: bool,
    leftovers: bool,
    bootstrap: UnitState,
    reset: UnitState,
    /// So many attempts of kubeadm fail first.
    failures: u8,
    node: Option<NodeFacts>,
    /// The node's services hang until they are restarted.
    hangs: bool,
    ailed: Duration,
    restarts: u32,
    pods: usize,
    /// The next listing begins after every wish.
    fresh: bool,
    gone: bool,
    destroyed_without_wish: bool,
    /// Its pod network is Kina's own.
    routed: bool,
    network: PodNetwork,
    /// It was made Ready by a configuration that Kina wrote.
    opened: bool,
    /// Its containerd is to be patched.
    patched: bool,
    /// The runtime gives it another address at every start.
    moves: bool,
    containerd: Containerd,
    /// etcd counts it.
    member: bool,
}

impl Model {
    fn membership(&self) -> Membership {
        match (self.role, self.member) {
            (MachineRole::Worker, _) => Membership::NotAsked,
            (MachineRole::ControlPlane, false) if self.deleting && self.bootstrap != UnitState::Running => {
                Membership::Left
            }
            (MachineRole::ControlPlane, false) => Membership::Absent,
            (MachineRole::ControlPlane, true) => Membership::Present { member: MemberId::new(1), via: peer() },
        }
    }

    /// Who loses its data while it is counted can never vote again.
    fn loses_its_data(&self) {
        assert!(!self.member || self.cluster.ends(), "etcd counts a member without its data");
    }

    fn facts(&self) -> Facts {
        let running = self.container.as_ref().is_some_and(|c| c.state == ContainerState::Running);
        let container = match &self.container {
            _ if self.foreign => Found::Foreign,
            None => Found::Absent,
            Some(container) => Found::Ours(container.clone()),
        };
        let volume = if self.volume { Found::Ours(()) } else { Found::Absent };
        let inside = Inside::Up {
            marker: self.marker,
            leftovers: self.leftovers,
            bootstrap: self.bootstrap,
            reset: self.reset,
            log: String::new(),
        };
        let to_evict = (0..self.pods).map(|index| ("default".to_owned(), format!("p{index}"))).collect();
        Facts {
            role: self.role,
            method: self.method,
            turn: self.turn,
            deleting: self.deleting,
            membership: self.membership(),
            cluster: self.cluster,
            host: HostFacts::Known { fresh: self.fresh, network: true, volume, container },
            image_present: self.image,
            was_node: self.node.is_some() || self.marker || self.recorded,
            recorded: self.recorded,
            inside: if running { inside } else { Inside::NotAsked { bootstrapped: false } },
            api: ApiFacts { answers: Some(true), listed: true, node: self.node.clone() },
            ailing: Ailing { lasted: self.ailed, restarts: self.restarts },
            drain: Drain::Left { to_evict, count: self.pods, budgets: Vec::new(), overdue: false },
            has_place: true,
            containerd: if running { self.containerd } else { Containerd::Current },
            network: if running { self.network.clone() } else { PodNetwork::Current },
            stops_before_kubernetes: false,
            unmountable: None,
            replaceable: None,
        }
    }

    /// The machine's Cluster, and time: turns are granted where they are asked for, units end, kubelets register.
    fn pass_time(&mut self, planned: &Plan) {
        self.fresh = true;
        self.recorded = planned.bootstrapped;
        match planned.wait {
            Some(Wait::Turn(turn)) => self.turn = Some(turn),
            None if planned.ready && self.turn != Some(Turn::Bootstrap) => self.turn = None,
            _ => {}
        }
        if self.bootstrap == UnitState::Running && self.container.is_some() {
            if self.failures > 0 {
                self.failures -= 1;
                self.bootstrap = UnitState::Failed { code: Some(1) };
            } else {
                self.bootstrap = UnitState::Succeeded;
                (self.marker, self.formed) = (true, true);
                self.node.get_or_insert_default();
            }
        }
        if self.reset == UnitState::Running {
            self.reset = UnitState::Succeeded;
            (self.leftovers, self.marker) = (false, false);
            // What ends a reset removes the configuration.
            self.opened = false;
        }
        if matches!(self.network, PodNetwork::Untold(_)) {
            self.network = PodNetwork::Closed;
        }
        let running = self.container.as_ref().is_some_and(|c| c.state == ContainerState::Running);
        if let Some(node) = &mut self.node {
            let ready = running && !self.hangs && (self.opened || !self.routed);
            (node.ready, node.renewed, node.lacks_network) = (ready, ready, self.routed && !self.opened);
        }
        if self.node.as_ref().is_some_and(|node| node.ready) {
            (self.ailed, self.restarts) = (Duration::ZERO, 0);
        } else {
            self.ailed += planned.again.unwrap_or(Duration::from_secs(1));
        }
    }

    fn act(&mut self, step: &Step) {
        let wished = self.deleting || self.turn == Some(Turn::Roll) || !self.formed;
        match step {
            Step::PullImage => self.image = true,
            Step::CreateVolume => self.volume = true,
            Step::CreateContainer => {
                assert!(self.volume && self.container.is_none() && !self.foreign);
                // It ran here before: what is there of its image is not looked for once it goes.
                assert!(self.image || self.deleting);
                let state = ContainerState::Created;
                self.container =
                    Some(ContainerFacts { state, current: true, altered: Vec::new(), in_vain: false, untold: None });
                (self.bootstrap, self.reset) = (UnitState::Absent, UnitState::Absent);
                self.containerd = if self.patched { Containerd::Outdated } else { Containerd::Current };
                self.opened = false;
            }
            Step::Connect(_) => {
                let container = self.container.as_mut().filter(|c| c.state == ContainerState::Running);
                assert!(container.and_then(|container| container.untold.take()).is_some(), "it runs and does not know");
            }
            Step::ConfigureContainerd => self.containerd = Containerd::Current,
            Step::StartContainer => {
                if let Some(container) = &mut self.container {
                    (container.state, container.untold) = (ContainerState::Running, self.moves.then(Peers::new));
                }
                (self.bootstrap, self.reset) = (UnitState::Absent, UnitState::Absent);
                self.network = if self.routed { PodNetwork::Outdated } else { PodNetwork::Current };
            }
            Step::WriteRoutes => self.network = PodNetwork::Untold(vec!["peer".to_owned()]),
            Step::OpenNetwork => {
                assert_eq!(self.network, PodNetwork::Closed, "the others are told first");
                assert_eq!(self.reset, UnitState::Absent, "a reset would take it back");
                (self.network, self.opened) = (PodNetwork::Current, true);
            }
            Step::WriteFiles => {}
            Step::StartBootstrap => {
                assert_eq!(self.bootstrap, UnitState::Absent, "kubeadm is never started twice");
                assert!(!self.leftovers || self.method == BootstrapMethod::Init, "a join starts from scratch");
                let joins = self.method == BootstrapMethod::Join && self.role == MachineRole::ControlPlane;
                assert!(!joins || !self.member, "etcd takes nobody back without its data");
                (self.bootstrap, self.leftovers) = (UnitState::Running, true);
                self.member |= self.role == MachineRole::ControlPlane;
            }
            Step::StartReset => {
                assert!(self.deleting || !self.formed, "what is formed is not reset");
                let first = self.method == BootstrapMethod::Init;
                assert!(self.deleting || !first, "what the first have of etcd the others may need");
                assert_ne!(self.bootstrap, UnitState::Running, "nothing is taken back that still goes on");
                self.loses_its_data();
                self.reset = UnitState::Running;
                self.network = if self.routed { PodNetwork::Outdated } else { PodNetwork::Current };
            }
            Step::ForgetUnits => (self.bootstrap, self.reset) = (UnitState::Absent, UnitState::Absent),
            Step::RestartServices(_) => {
                self.node.get_or_insert_default();
                (self.hangs, self.ailed, self.restarts) = (false, Duration::ZERO, self.restarts + 1);
            }
            Step::PatchNode(_) => self.node.iter_mut().for_each(|node| node.patch = None),
            Step::Cordon => self.node.iter_mut().for_each(|node| (node.cordoned, node.cordoned_by_kina) = (true, true)),
            Step::Uncordon => {
                self.node.iter_mut().for_each(|node| (node.cordoned, node.cordoned_by_kina) = (false, false));
            }
            // One budget lets one pod go at a time.
            Step::Evict(_) => self.pods -= 1,
            Step::RemoveMember { .. } => {
                let joins = self.bootstrap == UnitState::Running
                    && self.container.as_ref().is_some_and(|container| container.state == ContainerState::Running);
                assert!(!joins, "it would become one again");
                self.member = false;
            }
            Step::DeleteNode(_) => self.node = None,
            Step::RemoveContainer => {
                self.destroyed_without_wish |= !wished || !self.fresh;
                self.container = None;
            }
            Step::RemoveVolume => {
                self.loses_its_data();
                self.destroyed_without_wish |= !self.deleting || !self.fresh;
                (self.volume, self.marker, self.leftovers) = (false, false, false);
            }
            Step::RemoveFinalizer => self.gone = true,
        }
    }
}

fn unit() -> impl Strategy<Value = UnitState> {
    prop_oneof![
        3 => Just(UnitState::Absent),
        1 => Just(UnitState::Running),
        1 => Just(UnitState::Succeeded),
        1 => Just(UnitState::Failed { code: Some(1) }),
    ]
}

fn container() -> impl Strategy<Value = Option<ContainerFacts>> {
    let state = prop_oneof![
        1 => Just(ContainerState::Created),
        3 => Just(ContainerState::Running),
        1 => Just(ContainerState::Stopped { exit_code: Some(137) }),
    ];
    let altered = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![("resources", "a".to_owned(), "b".to_owned())])];
    proptest::option::weighted(
        0.8,
        (state, any::<bool>(), altered).prop_map(|(state, current, altered)| ContainerFacts {
            state,
            current,
            altered,
            in_vain: false,
            untold: None,
        }),
    )
}

fn node() -> impl Strategy<Value = NodeFacts> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(patched, cordoned_by_kina, ready)| NodeFacts {
        uid: "u".into(),
        ready,
        renewed: ready,
        patch: (!patched).then(|| serde_json::json!({})),
        cordoned: cordoned_by_kina,
        cordoned_by_kina,
        ..NodeFacts::default()
    })
}

prop_compose! {
    fn model()(
        control_plane in any::<bool>(), init in any::<bool>(),
        turn in prop_oneof![Just(None), Just(Some(Turn::Bootstrap)), Just(Some(Turn::Roll)), Just(Some(Turn::Repair))],
        image in any::<bool>(), volume in any::<bool>(), container in container(), stage in 0_u8..5,
        bootstrap in unit(), reset in unit(), failures in 0_u8..3, node in node(), pods in 0_usize..4,
        fresh in any::<bool>(), ailing in 0_u8..3, (patched, moves, routed) in any::<(bool, bool, bool)>(),
        counted in any::<bool>(),
    ) -> Model {
        let was_node = stage >= 2;
        let mut container = container;
        if let Some(container) = container.as_mut().filter(|c| moves && c.state == ContainerState::Running) {
            container.untold = Some(Peers::new());
        }
        let mut node = node;
        if ailing == 2 {
            (node.ready, node.renewed) = (false, false);
        }
        Model {
            role: if control_plane { MachineRole::ControlPlane } else { MachineRole::Worker },
            method: if init && control_plane { BootstrapMethod::Init } else { BootstrapMethod::Join },
            turn,
            deleting: false,
            cluster: ClusterState::Live,
            image,
            // The data of what was a node is there: what happens without it is another story.
            volume: volume || container.is_some() || was_node,
            container,
            foreign: false,
            // In the last stage somebody has removed the marker.
            marker: was_node && stage < 4,
            recorded: was_node,
            formed: was_node,
            leftovers: stage >= 1,
            // A unit that succeeded has left its marker.
            bootstrap: match bootstrap {
                UnitState::Succeeded if !was_node => UnitState::Absent,
                _ if stage == 4 => UnitState::Absent,
                _ => bootstrap,
            },
            // Neither of the two units is begun while the other runs.
            reset: if was_node || bootstrap == UnitState::Running { UnitState::Absent } else { reset },
            failures,
            node: (was_node && ailing != 1).then_some(node),
            hangs: was_node && ailing == 2,
            ailed: Duration::ZERO,
            restarts: 0,
            pods,
            fresh,
            gone: false,
            destroyed_without_wish: false,
            routed,
            // Whatever was done before, this process did not do it.
            network: if routed { PodNetwork::Outdated } else { PodNetwork::Current },
            opened: was_node,
            patched,
            moves,
            containerd: if patched { Containerd::Outdated } else { Containerd::Current },
            // One that kubeadm was at work on may be one or not.
            member: control_plane && (was_node || counted && stage == 1),
        }
    }
}

/// Far more than the longest way: three failed attempts, a drain and a roll.
const PASSES_MAX: usize = 100;

fn run(model: &mut Model, mut until: impl FnMut(&Model, &Plan) -> bool) -> Option<usize> {
    for pass in 0..PASSES_MAX {
        let planned = plan(&model.facts());
        if until(model, &planned) {
            return Some(pass);
        }
        for step in &planned.steps {
            model.act(step);
        }
        model.pass_time(&planned);
    }
    None
}

proptest! {
    #[test]
    fn from_any_state_a_machine_becomes_ready_and_then_is_left_alone(mut model in model()) {
        let settled = |_: &Model, planned: &Plan| planned.ready && planned.steps.is_empty() && planned.wait.is_none();
        prop_assert!(run(&mut model, settled).is_some(), "{model:?}\n{:?}", plan(&model.facts()));
        prop_assert!(!model.destroyed_without_wish);
        prop_assert!(model.container.as_ref().is_some_and(|container| container.current && container.altered.is_empty()));
        for _ in 0..3 {
            let again = plan(&model.facts());
            prop_assert!(again.steps.is_empty() && again.findings.is_empty(), "{again:?}");
            model.pass_time(&again);
        }
    }

    #[test]
    fn from_any_state_a_machine_goes_and_leaves_nothing(
        mut model in model(),
        cluster in prop_oneof![
            Just(ClusterState::Live), Just(ClusterState::Gone), Just(ClusterState::Recreating),
            Just(ClusterState::Deleting { orphan: false })
        ],
    ) {
        (model.deleting, model.cluster) = (true, cluster);
        prop_assert!(run(&mut model, |model, _| model.gone).is_some(), "{model:?}\n{:?}", plan(&model.facts()));
        prop_assert!(model.container.is_none() && !model.volume && !model.destroyed_without_wish);
        if cluster == ClusterState::Live {
            prop_assert!(model.node.is_none());
        }
    }

    #[test]
    fn what_is_foreign_or_orphaned_or_paused_or_unknown_is_never_touched(mut model in model(), what in 0_u8..4, deleting in any::<bool>()) {
        let mut facts = model.facts();
        match what {
            0 => {
                model.foreign = true;
                facts = model.facts();
            }
            1 => {
                (facts.deleting, facts.cluster) = (true, ClusterState::Deleting { orphan: true });
            }
            2 => (facts.deleting, facts.cluster) = (deleting, ClusterState::Paused),
            _ => {
                facts.host = HostFacts::Unknown("silent".into());
                facts.inside = Inside::NotAsked { bootstrapped: false };
                facts.deleting = deleting;
            }
        }
        let planned = plan(&facts);
        prop_assert!(planned.steps.iter().all(|step| *step == Step::RemoveFinalizer && what == 1), "{:?}", planned.steps);
    }

    #[test]
    fn no_data_of_a_control_plane_is_lost_before_somebody_was_asked_whether_etcd_counts_it(mut model in model()) {
        (model.role, model.deleting, model.pods) = (MachineRole::ControlPlane, true, 0);
        let facts = Facts { membership: Membership::NotAsked, ..model.facts() };
        let planned = plan(&facts);
        prop_assert!(!planned.steps.iter().any(Step::destroys), "{:?}", planned.steps);
    }

    #[test]
    fn nothing_is_destroyed_by_an_old_listing(mut model in model(), deleting in any::<bool>()) {
        (model.fresh, model.deleting) = (false, deleting);
        let planned = plan(&model.facts());
        prop_assert!(!planned.steps.iter().any(Step::destroys), "{:?}", planned.steps);
    }
}

#[test]
fn a_control_plane_without_its_data_waits_for_a_person() {
    let mut facts = Facts {
        role: MachineRole::ControlPlane,
        method: BootstrapMethod::Init,
        turn: Some(Turn::Repair),
        deleting: false,
        membership: Membership::NotAsked,
        cluster: ClusterState::Live,
        host: HostFacts::Known { fresh: true, network: true, volume: Found::Absent, container: Found::Absent },
        image_present: true,
        was_node: true,
        recorded: true,
        inside: Inside::NotAsked { bootstrapped: false },
        api: ApiFacts::default(),
        ailing: Ailing::default(),
        drain: Drain::NotAsked,
        has_place: true,
        containerd: Containerd::Current,
        network: PodNetwork::Current,
        stops_before_kubernetes: false,
        unmountable: None,
        replaceable: None,
    };
    let planned = plan(&facts);
    assert_eq!((planned.steps, planned.wait), (vec![], Some(Wait::VolumeLost)));

    // Its volume is there, and empty: an empty cluster under the old name would be no better.
    let container = ContainerFacts {
        state: ContainerState::Running,
        current: true,
        altered: Vec::new(),
        in_vain: false,
        untold: None,
    };
    facts.host =
        HostFacts::Known { fresh: true, network: true, volume: Found::Ours(()), container: Found::Ours(container) };
    let (bootstrap, reset) = (UnitState::Absent, UnitState::Absent);
    facts.inside = Inside::Up { marker: false, leftovers: false, bootstrap, reset, log: String::new() };
    for turn in [None, Some(Turn::Bootstrap), Some(Turn::Repair)] {
        facts.turn = turn;
        let planned = plan(&facts);
        assert_eq!((planned.steps, planned.wait), (vec![], Some(Wait::VolumeLost)));
    }
    // Others have it: one of them may take its place, but not at once.
    for (seconds, wait) in [(10, Wait::VolumeMissing), (60, Wait::Replacement)] {
        facts.replaceable = Some(Duration::from_secs(seconds));
        let planned = plan(&facts);
        assert_eq!((planned.steps, planned.wait), (vec![], Some(wait)));
    }
}

#[test]
fn a_node_that_stays_away_is_restarted_ever_later_and_then_only_told() {
    let mut facts = Facts {
        role: MachineRole::Worker,
        method: BootstrapMethod::Join,
        turn: Some(Turn::Bootstrap),
        deleting: false,
        membership: Membership::NotAsked,
        cluster: ClusterState::Live,
        host: HostFacts::Known {
            fresh: true,
            network: true,
            volume: Found::Ours(()),
            container: Found::Ours(ContainerFacts {
                state: ContainerState::Running,
                current: true,
                altered: vec![],
                in_vain: false,
                untold: None,
            }),
        },
        image_present: true,
        was_node: true,
        recorded: true,
        inside: Inside::NotAsked { bootstrapped: true },
        api: ApiFacts { answers: Some(true), listed: true, node: None },
        ailing: Ailing::default(),
        drain: Drain::NotAsked,
        has_place: true,
        containerd: Containerd::Current,
        network: PodNetwork::Current,
        stops_before_kubernetes: false,
        unmountable: None,
        replaceable: None,
    };
    let at = |facts: &mut Facts, seconds: u64, restarts: u32, turn: Option<Turn>| {
        facts.ailing = Ailing { lasted: Duration::from_secs(seconds), restarts };
        facts.turn = turn;
        let planned = plan(facts);
        (planned.steps, planned.wait, planned.again.map(|again| again.as_secs()), planned.findings[0].repair)
    };
    let (missing, turn) = (Some(Wait::NodeMissing), Some(Wait::Turn(Turn::Repair)));
    let restart = vec![Step::RestartServices(&["kubelet.service"])];
    facts.ailing = Ailing { lasted: Duration::from_secs(2), restarts: 0 };
    let joined = plan(&facts);
    assert_eq!((joined.findings, joined.again), (vec![], Some(Duration::from_secs(3))), "it may just have joined");
    assert_eq!(at(&mut facts, 5, 0, None), (vec![], missing.clone(), Some(10), Repair::Restart));
    assert_eq!(at(&mut facts, 15, 0, None), (vec![], turn, None, Repair::Restart));
    assert_eq!(at(&mut facts, 16, 0, Some(Turn::Repair)), (restart, None, None, Repair::Restart));
    assert_eq!(at(&mut facts, 15, 1, None), (vec![], missing.clone(), Some(15), Repair::Restart));
    assert_eq!(at(&mut facts, 9999, 2, Some(Turn::Repair)), (vec![], missing.clone(), None, Repair::None));
    assert_eq!(facts.api.ailment(&facts.inside), Some("missing"));
    let becoming = Inside::NotAsked { bootstrapped: false };
    assert_eq!(facts.api.ailment(&becoming), None, "however long it takes to join, it is not missing");
    facts.api.answers = None;
    assert_eq!(facts.api.ailment(&facts.inside), None);
    let unknown = plan(&facts);
    assert_eq!((unknown.steps, unknown.findings), (vec![], vec![]), "unknown is never different");
}

#[test]
fn a_worker_without_its_volume_becomes_a_node_anew() {
    let mut model = Model {
        recorded: false,
        formed: false,
        role: MachineRole::Worker,
        method: BootstrapMethod::Join,
        turn: Some(Turn::Bootstrap),
        deleting: false,
        cluster: ClusterState::Live,
        image: true,
        volume: false,
        container: None,
        foreign: false,
        marker: false,
        leftovers: false,
        bootstrap: UnitState::Absent,
        reset: UnitState::Absent,
        failures: 0,
        node: Some(NodeFacts { uid: "before".into(), ready: true, renewed: true, ..NodeFacts::default() }),
        hangs: false,
        ailed: Duration::ZERO,
        restarts: 0,
        pods: 0,
        fresh: true,
        gone: false,
        destroyed_without_wish: false,
        routed: false,
        network: PodNetwork::Current,
        opened: false,
        patched: false,
        moves: false,
        containerd: Containerd::Current,
        member: false,
    };
    let planned = plan(&model.facts());
    assert_eq!(planned.wait, Some(Wait::Turn(Turn::Repair)));
    assert_eq!(
        planned.findings.iter().map(|finding| finding.what.as_ref()).collect::<Vec<_>>(),
        ["container", "volume"]
    );
    let mut deleted = false;
    assert!(
        run(&mut model, |_, planned| {
            deleted |= planned.steps.contains(&Step::DeleteNode(Some("before".into())));
            planned.ready && planned.steps.is_empty()
        })
        .is_some()
    );
    assert!(deleted, "the Node of its earlier life goes first");
}

/// A worker that is a node, Ready.
fn at_work(container: ContainerFacts) -> Facts {
    let node = NodeFacts { uid: "u".into(), ready: true, renewed: true, ..NodeFacts::default() };
    Facts {
        role: MachineRole::Worker,
        method: BootstrapMethod::Join,
        turn: None,
        deleting: false,
        membership: Membership::NotAsked,
        cluster: ClusterState::Live,
        host: HostFacts::Known {
            fresh: true,
            network: true,
            volume: Found::Ours(()),
            container: Found::Ours(container),
        },
        image_present: true,
        was_node: true,
        recorded: true,
        inside: Inside::NotAsked { bootstrapped: true },
        api: ApiFacts { answers: Some(true), listed: true, node: Some(node) },
        ailing: Ailing::default(),
        drain: Drain::NotAsked,
        has_place: true,
        containerd: Containerd::Current,
        network: PodNetwork::Current,
        stops_before_kubernetes: false,
        unmountable: None,
        replaceable: None,
    }
}

#[test]
fn a_container_that_is_shown_otherwise_is_made_anew_unless_others_were_so_before() {
    let shown = |in_vain| ContainerFacts {
        state: ContainerState::Running,
        current: true,
        altered: vec![("extraMounts", "/data".to_owned(), "/other".to_owned())],
        in_vain,
        untold: None,
    };
    for (in_vain, repair) in [(false, Repair::Replace), (true, Repair::None)] {
        let mut facts = at_work(shown(in_vain));
        let planned = plan(&facts);
        let found: Vec<Repair> = planned.findings.iter().map(|finding| finding.repair).collect();
        assert_eq!((planned.outdated, planned.steps, found), (!in_vain, vec![], vec![repair]));
        // One that is no node yet goes at once, or becomes one.
        (facts.was_node, facts.recorded, facts.turn) = (false, false, Some(Turn::Bootstrap));
        (facts.api, facts.cluster) = (ApiFacts::default(), ClusterState::Live);
        let (bootstrap, reset) = (UnitState::Absent, UnitState::Absent);
        facts.inside = Inside::Up { marker: false, leftovers: false, bootstrap, reset, log: String::new() };
        assert_eq!(plan(&facts).steps == [Step::RemoveContainer], !in_vain);
    }
}

#[test]
fn a_node_at_work_is_told_of_others_and_stays_ready() {
    let container = ContainerFacts {
        state: ContainerState::Running,
        current: true,
        altered: Vec::new(),
        in_vain: false,
        untold: None,
    };
    let mut facts = Facts { network: PodNetwork::Outdated, ..at_work(container) };
    let planned = plan(&facts);
    assert_eq!((planned.steps.as_slice(), planned.ready, planned.wait), ([Step::WriteRoutes].as_slice(), true, None));
    facts.network = PodNetwork::Untold(vec!["dev-pool-1".into()]);
    let planned = plan(&facts);
    assert_eq!((planned.steps, planned.ready, planned.again), (vec![], true, Some(Duration::from_secs(1))));
    // A new one says for whom it waits.
    let lacking = NodeFacts { uid: "u".into(), lacks_network: true, ..NodeFacts::default() };
    facts.api.node = Some(lacking);
    assert_eq!(plan(&facts).wait, Some(Wait::Peers(vec!["dev-pool-1".into()])));
    facts.network = PodNetwork::Closed;
    assert_eq!(plan(&facts).steps, [Step::OpenNetwork]);
    // While kubeadm takes everything back, nothing is opened: it would be taken back, too.
    let (bootstrap, reset) = (UnitState::Absent, UnitState::Running);
    facts.inside = Inside::Up { marker: false, leftovers: true, bootstrap, reset, log: String::new() };
    facts.recorded = false;
    assert_eq!(plan(&facts).steps, []);
}

#[test]
fn a_container_that_stopped_without_its_volume_is_made_anew_only_where_no_cluster_is_lost_by_it() {
    let stopped = ContainerFacts {
        state: ContainerState::Stopped { exit_code: None },
        current: true,
        altered: vec![],
        in_vain: false,
        untold: None,
    };
    let mut facts = Facts {
        role: MachineRole::Worker,
        method: BootstrapMethod::Join,
        turn: Some(Turn::Repair),
        deleting: false,
        membership: Membership::NotAsked,
        cluster: ClusterState::Live,
        host: HostFacts::Known { fresh: true, network: true, volume: Found::Absent, container: Found::Ours(stopped) },
        image_present: true,
        was_node: true,
        recorded: true,
        inside: Inside::NotAsked { bootstrapped: false },
        api: ApiFacts::default(),
        ailing: Ailing::default(),
        drain: Drain::NotAsked,
        has_place: true,
        containerd: Containerd::Current,
        network: PodNetwork::Current,
        stops_before_kubernetes: false,
        unmountable: None,
        replaceable: None,
    };
    assert_eq!(plan(&facts).steps, [Step::RemoveContainer]);
    facts.role = MachineRole::ControlPlane;
    assert_eq!((plan(&facts).steps, plan(&facts).wait), (vec![], Some(Wait::VolumeLost)));
}
