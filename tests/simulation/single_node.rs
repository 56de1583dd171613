//! A runtime that makes no networks, as Apple Container before macOS 26: a cluster is one control plane alone, on the network
//! that the runtime has by itself (decision 0029).

use std::time::Duration;

use kina::api::conditions;
use kina::api::{Cluster, cluster::NodeNetwork};
use kina::runtime::{Listing, Networks};

use crate::moving::{has_mark, internal_addresses, leave_a_mark, restarts};
use crate::world::{self, Simulation};

const SOON: Duration = Duration::from_secs(600);

/// A story of the cluster `dev`, which goes in the end. The runtime's own network is all that may be left.
fn story(seed: u64, networks: Networks, told: impl AsyncFnOnce(Simulation) -> Simulation + Send + 'static) {
    let run = world::run_with_networks(seed, networks, |simulation: Simulation| async move {
        let mut simulation = told(simulation).await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, ["network default"]);
}

fn manifest(name: &str, more: &str) -> String {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\nspec:\n  paused: false\n{more}")
}

fn workers(replicas: u32) -> String {
    format!("  workers:\n    - name: pool\n      replicas: {replicas}\n")
}

fn containers(listing: &Listing) -> Vec<&str> {
    listing.containers.iter().map(|container| container.name.as_str()).collect()
}

fn networks(listing: &Listing) -> Vec<&str> {
    listing.networks.iter().map(|network| network.name.as_str()).collect()
}

fn waits_for(cluster: &Cluster, reason: &str) -> bool {
    let status = cluster.status.as_ref();
    status.and_then(|status| status.waiting.as_ref()).is_some_and(|waiting| waiting.reason == reason)
}

fn network_reason(cluster: &Cluster) -> Option<&str> {
    let conditions = &cluster.status.as_ref()?.conditions;
    Some(conditions::get(conditions, conditions::NETWORK_READY)?.reason.as_str())
}

#[test]
fn one_node_is_a_whole_cluster_and_its_api_is_where_it_publishes_it() {
    story(301, Networks::OnlyDefault, async |mut simulation: Simulation| {
        simulation.write("dev.yaml", &manifest("dev", ""));
        simulation.until_ready("dev", 1, SOON).await;
        let listing = simulation.listing().await;
        assert_eq!((containers(&listing), networks(&listing)), (vec!["dev-control-plane-0"], vec!["default"]));
        assert!(listing.networks[0].labels.is_empty(), "it is nobody's");
        let node = &listing.containers[0];
        let cluster = simulation.cluster("dev").await;
        let spec = &cluster.spec.networking;
        assert_eq!((spec.node_network, network_reason(&cluster)), (Some(NodeNetwork::Default), Some("NetworkReady")));
        assert_eq!(node.network.as_deref(), Some("default"));
        assert_eq!(
            node.ports.iter().map(|port| (Some(port.host_port), port.container_port)).collect::<Vec<_>>(),
            [(spec.api_server.port, 6443)]
        );
        assert_eq!(internal_addresses(&simulation).await["dev-control-plane-0"], "10.160.0.10");
        simulation
    });
}

#[test]
fn restarted_with_another_address_it_is_ready_again_with_its_data() {
    story(302, Networks::OnlyDefault, async |mut simulation: Simulation| {
        simulation.write("dev.yaml", &manifest("dev", ""));
        simulation.until_ready("dev", 1, SOON).await;
        leave_a_mark(&simulation).await;
        restarts(&mut simulation, 1).await;
        simulation
    });
}

#[test]
fn more_nodes_are_refused_before_anything_is_made_and_those_that_come_later_too() {
    story(303, Networks::OnlyDefault, async |mut simulation: Simulation| {
        simulation.write("dev.yaml", &manifest("dev", &workers(1)));
        let refused = |cluster: &Cluster| waits_for(cluster, "RuntimeUnsupported");
        simulation.until_cluster("dev", "refused", SOON, refused).await;
        simulation.advance(Duration::from_secs(120)).await;
        assert_eq!(containers(&simulation.listing().await), Vec::<&str>::new());
        // Nothing was settled by it: one that is asked for alone is made.
        simulation.write("dev.yaml", &manifest("dev", ""));
        simulation.until_ready("dev", 1, SOON).await;
        leave_a_mark(&simulation).await;
        let before = simulation.listing().await.containers[0].clone();
        for more in [workers(2), "  controlPlane:\n    replicas: 3\n".to_owned()] {
            simulation.write("dev.yaml", &manifest("dev", &more));
            simulation.until_cluster("dev", "refused", SOON, refused).await;
            simulation.advance(Duration::from_secs(300)).await;
            let cluster = simulation.cluster("dev").await;
            assert_eq!(network_reason(&cluster), Some("RuntimeUnsupported"));
            assert_eq!(simulation.listing().await.containers, std::slice::from_ref(&before));
            let taints = simulation.nodes("dev").await[0].spec.as_ref().and_then(|spec| spec.taints.clone());
            assert_eq!(taints.unwrap_or_default(), [], "the living node runs what it ran");
        }
        simulation.write("dev.yaml", &manifest("dev", ""));
        simulation.until_ready("dev", 1, SOON).await;
        assert_eq!(simulation.listing().await.containers, [before]);
        assert!(has_mark(&simulation).await);
        simulation
    });
}

#[test]
fn several_share_the_network_and_each_goes_for_itself() {
    story(304, Networks::OnlyDefault, async |mut simulation: Simulation| {
        for name in ["dev", "test"] {
            simulation.write(&format!("{name}.yaml"), &manifest(name, ""));
        }
        simulation.until_ready("dev", 1, SOON).await;
        simulation.until_ready("test", 1, SOON).await;
        leave_a_mark(&simulation).await;
        simulation.remove("test.yaml");
        simulation.until_gone("test", SOON).await;
        simulation.until_ready("dev", 1, SOON).await;
        assert!(has_mark(&simulation).await);
        assert_eq!(containers(&simulation.listing().await), ["dev-control-plane-0"]);
        // One an hour goes by itself.
        simulation.advance(Duration::from_secs(3700)).await;
        simulation
    });
}

#[test]
fn rolled_lost_and_adopted_it_keeps_its_data_and_its_port() {
    story(305, Networks::OnlyDefault, async |mut simulation: Simulation| {
        simulation.write("dev.yaml", &manifest("dev", ""));
        simulation.until_ready("dev", 1, SOON).await;
        leave_a_mark(&simulation).await;
        let ports = simulation.listing().await.containers[0].ports.clone();
        simulation.write("dev.yaml", &manifest("dev", "  controlPlane:\n    resources: { memory: 2Gi }\n"));
        let rolled = |listing: &Listing| listing.containers.iter().any(|c| c.resources.memory_bytes == Some(2 << 30));
        simulation.until_listing(SOON, rolled).await;
        simulation.until_ready("dev", 1, SOON).await;
        assert!(has_mark(&simulation).await);
        let before = simulation.listing().await.containers[0].clone();
        simulation = simulation.lose_store().await;
        simulation.until_ready("dev", 1, SOON).await;
        let after = simulation.listing().await.containers[0].clone();
        assert_eq!((&after.id, &after.ports), (&before.id, &ports));
        assert!(has_mark(&simulation).await);
        simulation.hands().remove_container("dev-control-plane-0").unwrap();
        simulation.until_listing(SOON, |listing| listing.containers.iter().all(|c| c.id != before.id)).await;
        simulation.until_ready("dev", 1, SOON).await;
        assert!(has_mark(&simulation).await);
        simulation
    });
}

/// As after an update to macOS 26.
#[test]
fn where_networks_can_be_made_it_stays_as_it_is_until_it_may_be_made_anew_and_can_go_back() {
    const LONE: &str = "  networking: { nodeNetwork: default }\n";
    const OWN: &str = "  networking: { nodeNetwork: cluster }\n";
    story(306, Networks::PerClusterOrDefault, async |mut simulation: Simulation| {
        simulation.write("dev.yaml", &manifest("dev", LONE));
        simulation.until_ready("dev", 1, SOON).await;
        let before = simulation.listing().await;
        assert_eq!((containers(&before), networks(&before)), (vec!["dev-control-plane-0"], vec!["default"]));
        simulation = simulation.crash().await;
        simulation.until_ready("dev", 1, SOON).await;
        simulation.write("dev.yaml", &manifest("dev", &format!("{LONE}{}", workers(1))));
        simulation.until_cluster("dev", "refused", SOON, |cluster| waits_for(cluster, "SingleNode")).await;
        simulation.advance(Duration::from_secs(120)).await;
        assert_eq!(simulation.listing().await.containers, before.containers);

        let anew = format!("{OWN}  allowRecreate: true\n{}", workers(1));
        simulation.write("dev.yaml", &manifest("dev", &anew));
        let has_own = |listing: &Listing| networks(listing) == ["default", "kina-dev"];
        simulation.until_listing(SOON, has_own).await;
        simulation.until_ready("dev", 2, SOON).await;
        let listing = simulation.listing().await;
        assert_eq!(containers(&listing), ["dev-control-plane-0", "dev-lb", "dev-pool-0"]);
        assert!(listing.containers.iter().all(|container| container.network.as_deref() == Some("kina-dev")));

        // One an hour is made anew by itself.
        simulation.advance(Duration::from_secs(3700)).await;
        simulation.write("dev.yaml", &manifest("dev", &format!("{LONE}  allowRecreate: true\n")));
        simulation.until_listing(SOON, |listing| networks(listing) == ["default"]).await;
        simulation.until_ready("dev", 1, SOON).await;
        assert_eq!(containers(&simulation.listing().await), ["dev-control-plane-0"]);
        simulation.advance(Duration::from_secs(3700)).await;
        simulation
    });
}
