//! A runtime that gives a container another address at every start, as Apple Container does: what Kubernetes calls a node's
//! address stays all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kina::api::Cluster;
use kina::runtime::sim::{Fault, Operation};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use crate::world::{self, Simulation};

const SOON: Duration = Duration::from_secs(600);

fn manifest(control_planes: u32, workers: u32, more: &str) -> String {
    format!(
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  controlPlane:\n    replicas: \
         {control_planes}\n  workers:\n    - name: pool\n      replicas: {workers}\n{more}"
    )
}

/// What the runtime says of every container, by name.
pub async fn addresses(simulation: &Simulation) -> BTreeMap<String, Ipv4Addr> {
    let listing = simulation.listing().await;
    let running = listing.containers.iter().filter_map(|container| Some((container.name.clone(), container.address?)));
    running.collect()
}

/// What the cluster says of every node.
pub async fn internal_addresses(simulation: &Simulation) -> BTreeMap<String, String> {
    let nodes = simulation.nodes("dev").await;
    let internal = |node: &k8s_openapi::api::core::v1::Node| {
        let addresses = node.status.as_ref().unwrap().addresses.as_ref().unwrap();
        addresses.iter().find(|address| address.type_ == "InternalIP").unwrap().address.clone()
    };
    nodes.iter().map(|node| (node.metadata.name.clone().unwrap(), internal(node))).collect()
}

pub async fn leave_a_mark(simulation: &Simulation) {
    let maps: Api<ConfigMap> = Api::namespaced(simulation.cluster_client("dev").await, "default");
    let mut mark = ConfigMap::default();
    mark.metadata.name = Some("mark".to_owned());
    maps.create(&PostParams::default(), &mark).await.unwrap();
}

pub async fn has_mark(simulation: &Simulation) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(simulation.cluster_client("dev").await, "default");
    maps.get_opt("mark").await.unwrap().is_some()
}

#[test]
fn nodes_are_called_by_addresses_of_the_clusters_subnet_and_not_by_those_of_the_runtime() {
    let run = world::run_where_addresses_move(201, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest(1, 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        let (below, above) = (addresses(&simulation).await, internal_addresses(&simulation).await);
        let stay: BTreeSet<&str> = above.values().map(String::as_str).collect();
        assert_eq!(stay, BTreeSet::from(["10.160.0.10", "10.160.0.11", "10.160.0.12"]));
        assert!(below.values().all(|address| address.octets()[0] == 172), "{below:?}");
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

/// Twice everything starts with other addresses, and each time the machines of `dev` are Ready again, with those that nodes keep
/// and with the mark.
pub async fn restarts(simulation: &mut Simulation, machines: u32) {
    let (below, above) = (addresses(simulation).await, internal_addresses(simulation).await);
    for again in [true, false] {
        simulation.hands().restart_runtime(again).unwrap();
        simulation.advance(Duration::from_secs(1)).await;
        simulation.until_ready("dev", machines, SOON).await;
        let moved = addresses(simulation).await;
        assert_eq!(moved.len(), below.len());
        assert!(moved.iter().all(|(name, address)| below[name] != *address), "{below:?} {moved:?}");
        assert_eq!(internal_addresses(simulation).await, above);
        assert!(has_mark(simulation).await);
    }
}

#[test]
fn everything_restarted_with_all_addresses_changed_is_ready_again_with_its_data() {
    for (seed, control_planes, workers) in [(202, 1, 0), (203, 1, 2), (204, 3, 1)] {
        let run = world::run_where_addresses_move(seed, move |mut simulation: Simulation| async move {
            simulation.write("dev.yaml", &manifest(control_planes, workers, ""));
            simulation.until_ready("dev", control_planes + workers, SOON).await;
            leave_a_mark(&simulation).await;
            restarts(&mut simulation, control_planes + workers).await;
            simulation.remove("dev.yaml");
            simulation.until_gone("dev", SOON).await;
            simulation
        });
        assert_eq!(run.left_behind, Vec::<String>::new());
    }
}

#[test]
fn what_restarted_is_not_called_ready_by_what_its_controllers_said_before() {
    world::run_where_addresses_move(208, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest(1, 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        simulation.hands().restart_runtime(true).unwrap();
        let restarted = Instant::now();
        let because = |cluster: &Cluster| {
            let conditions = &cluster.status.as_ref().unwrap().conditions;
            conditions.iter().any(|condition| condition.type_ == "AddonsReady" && condition.reason == "LeaseNotRenewed")
        };
        simulation.until_cluster("dev", "known to be restarted", SOON, because).await;
        simulation.until_ready("dev", 2, SOON).await;
        // The Lease of those who led before has to run out.
        assert!((15..30).contains(&restarted.elapsed().as_secs()), "{:?}", restarted.elapsed());
        simulation
    });
}

#[test]
fn what_moved_while_kina_was_away_is_found_again() {
    world::run_where_addresses_move(205, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest(1, 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        leave_a_mark(&simulation).await;
        simulation.write("dev.yaml", &manifest(1, 1, "  paused: true\n"));
        simulation.until_cluster("dev", "paused", SOON, |cluster| cluster.spec.paused).await;
        simulation.hands().restart_runtime(true).unwrap();
        simulation = simulation.crash().await;
        // As long as it is paused nothing is told to anybody.
        simulation.advance(Duration::from_secs(120)).await;
        assert!(simulation.cluster("dev").await.spec.paused);
        simulation.write("dev.yaml", &manifest(1, 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        assert!(has_mark(&simulation).await);
        simulation
    });
}

#[test]
fn one_machine_that_cannot_be_told_keeps_nobody_else_from_coming_back() {
    world::run_where_addresses_move(206, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest(1, 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        simulation.fault(Operation::Exec, "dev-pool-1", Fault::Hang);
        simulation.hands().restart_runtime(true).unwrap();
        simulation.advance(Duration::from_secs(1)).await;
        simulation
            .until_machine("dev-pool-0", SOON, |machine| {
                let status = machine.status.as_ref().unwrap();
                kina::api::conditions::is_true(&status.conditions, "Ready")
            })
            .await;
        simulation.no_more_faults();
        simulation.until_ready("dev", 3, SOON).await;
        simulation
    });
}

#[test]
fn scaling_rolling_and_a_lost_store_are_as_on_any_runtime() {
    let run = world::run_where_addresses_move(207, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest(1, 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let above = internal_addresses(&simulation).await;
        simulation.write("dev.yaml", &manifest(3, 1, "      resources: { memory: 2Gi }\n"));
        simulation.until_ready("dev", 4, SOON).await;
        let rolled = |listing: &kina::runtime::Listing| {
            let limited = |c: &&std::sync::Arc<kina::runtime::Container>| c.resources.memory_bytes == Some(2 << 30);
            listing.containers.iter().filter(limited).count() == 1
        };
        simulation.until_listing(SOON, rolled).await;
        simulation.until_ready("dev", 4, SOON).await;
        leave_a_mark(&simulation).await;
        let later = internal_addresses(&simulation).await;
        assert!(above.iter().all(|(name, address)| later[name] == *address), "{above:?} {later:?}");
        simulation = simulation.lose_store().await;
        simulation.until_ready("dev", 4, SOON).await;
        assert_eq!(internal_addresses(&simulation).await, later);
        assert!(has_mark(&simulation).await);
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}
