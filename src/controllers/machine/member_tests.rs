//! Control planes are members of etcd: how they begin again, and how they go.

use super::facts::{
    Ailing, ApiFacts, ClusterState, ContainerFacts, Containerd, Drain, Facts, HostFacts, Inside, NodeFacts, PodNetwork,
};
use super::plan::{Step, plan};
use super::wait::Wait;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::host::Found;
use crate::kubeadm::units::UnitState;
use crate::runtime::ContainerState;

/// A control plane in which kubeadm was at work, and did not get to its end.
fn half_way(method: BootstrapMethod, bootstrap: UnitState) -> Facts {
    let container = ContainerFacts { state: ContainerState::Running, current: true, altered: Vec::new(), untold: None };
    Facts {
        role: MachineRole::ControlPlane,
        method,
        turn: Some(Turn::Bootstrap),
        deleting: false,
        overdue: false,
        cluster: ClusterState::Live,
        host: HostFacts::Known {
            fresh: true,
            network: true,
            volume: Found::Ours(()),
            container: Found::Ours(container),
        },
        image_present: true,
        was_node: false,
        recorded: false,
        inside: Inside::Up { marker: false, leftovers: true, bootstrap, reset: UnitState::Absent, log: String::new() },
        api: ApiFacts { answers: Some(false), listed: false, node: None },
        ailing: Ailing::default(),
        drain: Drain::NotAsked,
        has_place: true,
        containerd: Containerd::Current,
        network: PodNetwork::Current,
        stops_before_kubernetes: false,
        unmountable: None,
    }
}

#[test]
fn a_first_control_plane_goes_on_with_what_it_has_of_etcd() {
    let interrupted = plan(&half_way(BootstrapMethod::Init, UnitState::Absent));
    assert_eq!(interrupted.steps, [Step::WriteFiles, Step::StartBootstrap]);
    let failed = plan(&half_way(BootstrapMethod::Init, UnitState::Failed { code: Some(1) }));
    assert_eq!(failed.steps, [Step::ForgetUnits]);
    assert!(failed.failed.is_some());
}

#[test]
fn a_control_plane_that_joins_is_reset_only_where_its_member_can_be_taken_out_of_etcd() {
    let mut interrupted = half_way(BootstrapMethod::Join, UnitState::Absent);
    let mut failed = half_way(BootstrapMethod::Join, UnitState::Failed { code: Some(1) });
    let (first, second) = (plan(&interrupted), plan(&failed));
    assert_eq!((first.steps, first.wait), (vec![], Some(Wait::ApiAway)));
    assert_eq!(second.steps, []);
    assert!(second.failed.is_some());
    for facts in [&mut interrupted, &mut failed] {
        facts.api.answers = Some(true);
        assert_eq!(plan(facts).steps, [Step::StartReset]);
    }
}

#[test]
fn a_control_plane_that_goes_half_way_into_etcd_is_taken_out_of_it_first() {
    let mut facts = half_way(BootstrapMethod::Join, UnitState::Running);
    facts.deleting = true;
    assert_eq!(plan(&facts).wait, Some(Wait::ApiAway));
    (facts.api.answers, facts.api.listed) = (Some(true), true);
    assert_eq!(plan(&facts).steps, [Step::ForgetUnits]);
    let inside = |leftovers, reset| {
        let bootstrap = UnitState::Absent;
        Inside::Up { marker: false, leftovers, bootstrap, reset, log: String::new() }
    };
    facts.inside = inside(true, UnitState::Absent);
    assert_eq!(plan(&facts).steps, [Step::StartReset]);
    facts.inside = inside(false, UnitState::Succeeded);
    assert_eq!(plan(&facts).steps, [Step::RemoveContainer, Step::RemoveVolume]);
    // Where kubeadm has not begun there is nothing to take out.
    facts.inside = inside(false, UnitState::Absent);
    facts.api.answers = Some(false);
    assert_eq!(plan(&facts).steps, [Step::RemoveContainer, Step::RemoveVolume]);
}

#[test]
fn a_control_plane_that_stopped_leaves_etcd_before_it_goes() {
    let mut facts = half_way(BootstrapMethod::Init, UnitState::Absent);
    (facts.deleting, facts.was_node, facts.recorded) = (true, true, true);
    facts.inside = Inside::NotAsked { bootstrapped: false };
    let host = |container| HostFacts::Known { fresh: true, network: true, volume: Found::Ours(()), container };
    let stopped = ContainerFacts {
        state: ContainerState::Stopped { exit_code: Some(137) },
        current: true,
        altered: Vec::new(),
        untold: None,
    };
    // The others may lack it for their majority, so that their API is away.
    facts.host = host(Found::Ours(stopped));
    assert_eq!(plan(&facts).steps, [Step::StartContainer]);
    facts.host = host(Found::Absent);
    assert_eq!(plan(&facts).steps, [Step::CreateContainer, Step::StartContainer]);
    // Or not: it is counted as a member all the same.
    facts.api = ApiFacts { answers: Some(true), listed: true, node: Some(NodeFacts::default()) };
    assert_eq!(plan(&facts).steps, [Step::CreateContainer, Step::StartContainer]);
    // What does not start holds nothing up for ever, and what has left is not brought back.
    facts.overdue = true;
    assert_eq!(plan(&facts).steps, [Step::DeleteNode(Some(String::new())), Step::RemoveVolume]);
    (facts.overdue, facts.api.node) = (false, None);
    assert_eq!(plan(&facts).steps, [Step::RemoveVolume]);
}
