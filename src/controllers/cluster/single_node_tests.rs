//! A cluster that is one control plane alone, on the runtime's own network: it is made, goes and becomes another without a step
//! about a network or a load balancer, but for those that it had before.

use proptest::prelude::*;

use super::facts::{BalancerFacts, HostFacts, NetworkFacts};
use super::plan::{Step, plan};
use super::plan_tests::{Model, created, empty, run, settled, spec};
use crate::api::cluster::{ClusterSpec, NodeNetwork};
use crate::controllers::host::Found;
use crate::controllers::machine::container;
use crate::runtime::{ContainerState, InstallationId, OwnerLabels};

fn lone() -> ClusterSpec {
    let mut spec = spec(1, &[]);
    spec.networking.node_network = Some(NodeNetwork::Default);
    spec
}

fn makes(step: &Step) -> bool {
    matches!(
        step,
        Step::CreateNetwork
            | Step::PullImage
            | Step::CreateBalancer
            | Step::WriteBackends
            | Step::Connect(_)
            | Step::StartBalancer
    )
}

fn found<T>(which: u8, ours: T) -> Found<T> {
    match which {
        0 => Found::Absent,
        1 => Found::Foreign,
        _ => Found::Ours(ours),
    }
}

proptest! {
    #[test]
    fn whatever_is_there_it_makes_no_network_and_no_load_balancer_and_leaves_none(
        network in 0_u8..3, balancer in 0_u8..3, current in any::<bool>(), passes in 0_usize..8,
    ) {
        let mut model = empty(&lone());
        let subnet = "10.160.0.0/24".to_owned();
        *model.host().0 = found(network, NetworkFacts { current, subnet });
        *model.host().1 = found(balancer, BalancerFacts { state: ContainerState::Running, current, untold: None });
        for _ in 0..passes {
            let planned = plan(&model.facts);
            prop_assert!(!planned.steps.iter().any(makes), "{:?}", planned.steps);
            planned.steps.iter().for_each(|step| model.act(step));
            model.pass_time();
        }
        let mut going = model.clone();
        let never = |_: &Model, planned: &super::plan::Plan| planned.steps.iter().any(makes);
        prop_assert!(!run(&mut model.clone(), never));
        prop_assert!(run(&mut model, settled), "{:?}", plan(&model.facts));
        prop_assert!(plan(&model.facts).network_ready);
        prop_assert_eq!(model.facts.machines.len(), 1);
        (going.facts.deleting, going.facts.context_done) = (true, false);
        prop_assert!(run(&mut going, |model, _| model.gone));
        for model in [&mut model, &mut going] {
            // What is somebody else's is no trouble, and nothing of it is touched.
            prop_assert_eq!(matches!(model.host().0, Found::Foreign), network == 1);
            prop_assert_eq!(matches!(model.host().1, Found::Foreign), balancer == 1);
            prop_assert!(model.host().0.ours().is_none() && model.host().1.ours().is_none());
        }
    }
}

#[test]
fn it_becomes_one_with_a_network_of_its_own_and_back_only_by_being_made_anew() {
    let mut model = empty(&lone());
    assert!(run(&mut model, settled));
    for wanted in [spec(1, &[("a", 1)]), lone()] {
        model.want(&wanted);
        model.facts.machines.iter_mut().for_each(|machine| machine.of_this_cluster = false);
        model.facts.may_recreate = false;
        assert_eq!(plan(&model.facts).steps, []);
        model.facts.may_recreate = true;
        assert!(plan(&model.facts).steps.iter().all(|step| matches!(step, Step::DeleteMachine(..))));
        assert!(run(&mut model, settled), "{:?}", plan(&model.facts));
        let is_lone = wanted.networking.nodes() == NodeNetwork::Default;
        assert_eq!(model.host().0.ours().is_none() && model.host().1.ours().is_none(), is_lone);
        assert!(model.facts.machines.iter().all(|machine| machine.spec.network() == wanted.networking.nodes()));
    }
}

#[test]
fn what_it_had_stays_until_nobody_is_in_it_and_its_machine_comes_after() {
    let mut model = empty(&lone());
    *model.host().0 = Found::Ours(NetworkFacts { current: true, subnet: "10.160.0.0/24".into() });
    let planned = plan(&model.facts);
    assert!(planned.steps.contains(&Step::RemoveNetwork) && created(&planned).is_empty() && !planned.network_ready);
    if let HostFacts::Known { fresh, .. } = &mut model.facts.host {
        *fresh = false;
    }
    assert!(!plan(&model.facts).steps.iter().any(Step::destroys));
}

#[test]
fn its_container_publishes_the_api_and_calls_itself_by_the_endpoints_name() {
    let model = empty(&lone());
    let planned = plan(&model.facts);
    let made = created(&planned);
    let [(name, machine)] = made.as_slice() else { panic!("{made:?}") };
    let owner = OwnerLabels {
        installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
        cluster: "dev".into(),
        cluster_uid: "u".into(),
        machine_uid: None,
        role: None,
        spec_hash: None,
    };
    let wanted = container::wanted(name, machine, &owner, "0").unwrap();
    assert_eq!(wanted.network, "default");
    assert_eq!(wanted.hosts["dev-lb"].to_string(), machine.address);
    let [port] = wanted.ports.as_slice() else { panic!("{:?}", wanted.ports) };
    assert_eq!(
        (port.host_address.to_string().as_str(), port.host_port, port.container_port),
        ("127.0.0.1", 40_000, 6443)
    );
    let usual = empty(&spec(1, &[]));
    let planned = plan(&usual.facts);
    let (_, usual) = created(&planned)[0];
    let usual = container::wanted(name, usual, &owner, "0").unwrap();
    assert_eq!((usual.network.as_str(), usual.ports.len()), ("kina-dev", 0));
    assert_eq!(usual.hosts["dev-lb"].to_string(), "10.160.0.2");
}
