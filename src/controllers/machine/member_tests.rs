//! Control planes are members of etcd: how they begin again, and how they go.

use super::facts::{
    Ailing, ApiFacts, ClusterState, ContainerFacts, Containerd, Drain, Facts, HostFacts, Inside, Membership, NodeFacts,
    Peer, PodNetwork,
};
use super::plan::{Step, plan};
use super::wait::Wait;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::host::Found;
use crate::kubeadm::etcd::MemberId;
use crate::kubeadm::units::UnitState;
use crate::runtime::{ContainerId, ContainerState};

/// A control plane in which kubeadm was at work, and did not get to its end.
fn half_way(method: BootstrapMethod, bootstrap: UnitState) -> Facts {
    let container = ContainerFacts {
        state: ContainerState::Running,
        current: true,
        altered: Vec::new(),
        in_vain: false,
        untold: None,
    };
    Facts {
        role: MachineRole::ControlPlane,
        method,
        turn: Some(Turn::Bootstrap),
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
        replaceable: None,
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

pub(super) fn peer() -> Peer {
    Peer { name: "other".to_owned(), container: ContainerId("other".to_owned()) }
}

fn present() -> Membership {
    Membership::Present { member: MemberId::new(7), via: peer() }
}

fn remove_member() -> Step {
    Step::RemoveMember { member: MemberId::new(7), via: peer(), for_good: true }
}

#[test]
fn a_control_plane_that_joins_is_reset_only_once_it_is_taken_out_of_etcd() {
    let mut interrupted = half_way(BootstrapMethod::Join, UnitState::Absent);
    let mut failed = half_way(BootstrapMethod::Join, UnitState::Failed { code: Some(1) });
    let (first, second) = (plan(&interrupted), plan(&failed));
    assert_eq!((first.steps, first.wait), (vec![], Some(Wait::ApiAway)));
    assert_eq!(second.steps, []);
    assert!(second.failed.is_some());
    for facts in [&mut interrupted, &mut failed] {
        facts.api.answers = Some(true);
        assert!(plan(facts).needs_membership);
        facts.membership = Membership::Unknown("no etcd runs here".to_owned());
        let silent = plan(facts);
        assert_eq!((silent.steps, silent.wait), (vec![], Some(Wait::EtcdSilent("no etcd runs here".to_owned()))));
        facts.membership = present();
        assert_eq!(plan(facts).steps, [remove_member()]);
        facts.membership = Membership::Absent;
        assert_eq!(plan(facts).steps, [Step::StartReset]);
    }
    assert!(plan(&failed).failed.is_some(), "it is told all the same");
}

#[test]
fn a_control_plane_whose_volume_is_new_joins_once_etcd_counts_the_old_one_no_more() {
    let mut facts = half_way(BootstrapMethod::Join, UnitState::Absent);
    let (bootstrap, reset) = (UnitState::Absent, UnitState::Absent);
    facts.inside = Inside::Up { marker: false, leftovers: false, bootstrap, reset, log: String::new() };
    facts.api.answers = Some(true);
    facts.membership = present();
    assert_eq!(plan(&facts).steps, [remove_member()]);
    facts.membership = Membership::Absent;
    assert_eq!(plan(&facts).steps, [Step::WriteFiles, Step::StartBootstrap]);
}

#[test]
fn a_control_plane_that_goes_half_way_into_etcd_is_taken_out_of_it_first() {
    let mut facts = half_way(BootstrapMethod::Join, UnitState::Running);
    facts.deleting = true;
    assert_eq!(plan(&facts).wait, Some(Wait::ApiAway));
    (facts.api.answers, facts.api.listed, facts.membership) = (Some(true), true, present());
    assert_eq!(plan(&facts).steps, [Step::ForgetUnits]);
    let inside = |leftovers| {
        let (bootstrap, reset) = (UnitState::Absent, UnitState::Absent);
        Inside::Up { marker: false, leftovers, bootstrap, reset, log: String::new() }
    };
    facts.inside = inside(true);
    // What serves nobody any more goes at once.
    assert_eq!(plan(&facts).steps, [remove_member(), Step::RemoveContainer]);
    facts.membership = Membership::Left;
    assert_eq!(plan(&facts).steps, [Step::RemoveContainer, Step::RemoveVolume]);
    // Where nobody knows what goes on in it, it may become one until its container is gone.
    facts.inside = Inside::Silent("timeout".to_owned());
    facts.membership = Membership::Absent;
    assert_eq!(plan(&facts).steps, [Step::RemoveContainer]);
    // Where kubeadm has not begun there is nothing to take out, unless etcd says so.
    facts.inside = inside(false);
    (facts.api.answers, facts.membership) = (Some(false), Membership::NotAsked);
    assert_eq!(plan(&facts).steps, [Step::RemoveContainer, Step::RemoveVolume]);
    (facts.api.answers, facts.membership) = (Some(true), present());
    assert_eq!(plan(&facts).steps, [remove_member(), Step::RemoveContainer]);
}

#[test]
fn a_control_plane_that_left_etcd_is_not_brought_back_while_the_api_is_away() {
    let mut facts = half_way(BootstrapMethod::Join, UnitState::Absent);
    (facts.deleting, facts.was_node, facts.recorded) = (true, true, true);
    facts.host = HostFacts::Known { fresh: true, network: true, volume: Found::Ours(()), container: Found::Absent };
    facts.inside = Inside::NotAsked { bootstrapped: false };
    // Somebody has to know: it may be what the others lack.
    assert_eq!(plan(&facts).steps, [Step::CreateContainer, Step::StartContainer]);
    facts.membership = Membership::Left;
    let away = plan(&facts);
    assert_eq!((away.steps, away.wait), (vec![], Some(Wait::ApiAway)));
    facts.api = ApiFacts { answers: Some(true), listed: true, node: Some(NodeFacts::default()) };
    assert_eq!(plan(&facts).steps, [Step::DeleteNode(Some(String::new())), Step::RemoveVolume]);
}

#[test]
fn a_control_plane_that_stopped_runs_once_more_only_where_the_others_have_no_majority() {
    let mut facts = half_way(BootstrapMethod::Init, UnitState::Absent);
    (facts.deleting, facts.was_node, facts.recorded) = (true, true, true);
    facts.inside = Inside::NotAsked { bootstrapped: false };
    let host = |container| HostFacts::Known { fresh: true, network: true, volume: Found::Ours(()), container };
    let stopped = Found::Ours(ContainerFacts {
        state: ContainerState::Stopped { exit_code: Some(137) },
        current: true,
        altered: Vec::new(),
        in_vain: false,
        untold: None,
    });
    // Their API is away: it may be what they lack.
    facts.host = host(stopped.clone());
    assert_eq!(plan(&facts).steps, [Step::StartContainer]);
    facts.host = host(Found::Absent);
    assert_eq!(plan(&facts).steps, [Step::CreateContainer, Step::StartContainer]);
    // They are a majority: they let go of it where it is.
    facts.api = ApiFacts { answers: Some(true), listed: true, node: Some(NodeFacts::default()) };
    for container in [stopped, Found::Absent] {
        facts.host = host(container);
        facts.membership = Membership::Unknown("no etcd runs here".to_owned());
        assert_eq!(plan(&facts).wait, Some(Wait::EtcdSilent("no etcd runs here".to_owned())));
        facts.membership = present();
        assert_eq!(plan(&facts).steps.first(), Some(&remove_member()));
        facts.membership = Membership::Left;
        assert_eq!(plan(&facts).steps.last(), Some(&Step::RemoveVolume));
    }
}
