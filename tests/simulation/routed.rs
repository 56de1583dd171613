//! `cni: routed`: the pod network that Kina makes itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use kina::api::{Machine, conditions};
use kina::runtime::Cause;
use kina::runtime::sim::{Fault, Operation};

use crate::stories::{SOON, containers, manifest};
use crate::world::{self, Simulation};

const CONFIGURATION: &str = "/etc/cni/net.d/10-kina.conflist";

fn routed(workers: u32) -> String {
    manifest("dev", workers, "  networking: { cni: routed }\n")
}

/// Addresses and ranges of pods of all machines, by name.
async fn ranges(simulation: &Simulation) -> BTreeMap<String, (Ipv4Addr, String)> {
    let machines: Api<Machine> = Api::all(simulation.client());
    let machines = machines.list(&ListParams::default()).await.unwrap();
    let range = |machine: &Machine| {
        let (address, range) = (machine.spec.address.parse().unwrap(), machine.spec.pod_cidr.clone().unwrap());
        (machine.name_any(), (address, range))
    };
    machines.iter().map(range).collect()
}

/// Every node has a route to the pods of every other one, and no other route; and tells its range.
async fn expect_routes(simulation: &Simulation) {
    let ranges = ranges(simulation).await;
    assert_eq!(ranges.values().map(|(_, range)| range).collect::<BTreeSet<_>>().len(), ranges.len(), "{ranges:?}");
    for (name, (_, range)) in &ranges {
        let others = ranges.iter().filter(|(other, _)| *other != name);
        let wanted: BTreeMap<String, Ipv4Addr> =
            others.map(|(_, (address, range))| (range.clone(), *address)).collect();
        assert_eq!(simulation.hands().routes(name), Some(wanted), "{name}");
        let configured = String::from_utf8(simulation.hands().file(name, CONFIGURATION).unwrap()).unwrap();
        assert!(configured.contains(range.as_str()), "{name}: {configured}");
    }
    let nodes = simulation.nodes("dev").await;
    let told = |node: &Node| (node.name_any(), node.spec.clone().unwrap_or_default().pod_cidr.unwrap_or_default());
    let told: BTreeMap<String, String> = nodes.iter().map(told).collect();
    assert_eq!(told, ranges.into_iter().map(|(name, (_, range))| (name, range)).collect());
}

#[test]
fn nodes_route_to_each_other_from_the_file_to_a_cluster_that_grows_and_shrinks() {
    let run = world::run(41, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(2));
        simulation.until_ready("dev", 3, SOON).await;
        expect_routes(&simulation).await;
        let pods: Api<Pod> = Api::namespaced(simulation.cluster_client("dev").await, "kube-system");
        let pods = pods.list(&ListParams::default()).await.unwrap();
        assert!(pods.iter().all(|pod| !pod.name_any().starts_with("kindnet")), "there is no daemon");
        let ready = |cluster: &kina::api::Cluster| {
            let conditions = cluster.status.clone().unwrap_or_default().conditions;
            conditions::get(&conditions, conditions::NETWORK_READY).cloned().unwrap()
        };
        let told = ready(&simulation.cluster("dev").await).message;
        assert_eq!(told, "the pod network `routed` does not enforce NetworkPolicy");
        let before = ranges(&simulation).await;

        simulation.write("dev.yaml", &routed(4));
        simulation.until_ready("dev", 5, SOON).await;
        expect_routes(&simulation).await;
        let after = ranges(&simulation).await;
        assert!(before.iter().all(|(name, place)| after.get(name) == Some(place)), "{before:?} became {after:?}");

        simulation.write("dev.yaml", &routed(1));
        simulation.until_ready("dev", 2, SOON).await;
        simulation.advance(Duration::from_secs(5)).await;
        expect_routes(&simulation).await;

        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn a_healthy_routed_cluster_is_left_alone() {
    world::run(42, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(1));
        simulation.until_ready("dev", 2, SOON).await;
        simulation.advance(Duration::from_secs(120)).await;
        let before = simulation.quiet_marks().await;
        simulation.advance(Duration::from_secs(600)).await;
        assert_eq!(simulation.quiet_marks().await, before);
        simulation
    });
}

#[test]
fn routes_are_there_again_after_every_container_started_anew_and_after_kina_did() {
    world::run(43, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(2));
        simulation.until_ready("dev", 3, SOON).await;
        let before = ranges(&simulation).await;
        simulation.hands().restart_runtime(true).unwrap();
        simulation.advance(Duration::from_secs(60)).await;
        simulation.until_ready("dev", 3, SOON).await;
        expect_routes(&simulation).await;

        simulation.hands().restart_runtime(false).unwrap();
        simulation
            .until_cluster("dev", "not Ready", SOON, |cluster| {
                !conditions::is_true(&cluster.status.clone().unwrap_or_default().conditions, conditions::READY)
            })
            .await;
        simulation.until_ready("dev", 3, SOON).await;
        expect_routes(&simulation).await;

        // What this process did not do itself it does again.
        simulation = simulation.crash().await;
        simulation.until_ready("dev", 3, SOON).await;
        expect_routes(&simulation).await;
        simulation = simulation.lose_store().await;
        simulation.until_ready("dev", 3, SOON).await;
        expect_routes(&simulation).await;
        assert_eq!(ranges(&simulation).await, before, "adopted as they were");
        simulation
    });
}

#[test]
fn a_machine_that_is_made_anew_keeps_its_range_and_is_proven_again() {
    world::run(44, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(2));
        simulation.until_ready("dev", 3, SOON).await;
        let (before, ids) = (ranges(&simulation).await, containers(&simulation).await);
        let memory = "      resources: { memory: 2Gi }\n  networking: { cni: routed }\n";
        simulation.write("dev.yaml", &manifest("dev", 2, memory));
        let is_anew = |container: &std::sync::Arc<kina::runtime::Container>| ids[&container.name] != container.id.0;
        let are_anew = |listing: &kina::runtime::Listing| {
            let workers = listing.containers.iter().filter(|container| container.name.starts_with("dev-pool-"));
            workers.filter(|container| is_anew(container)).count() == 2
        };
        simulation.until_listing(SOON, are_anew).await;
        simulation.until_ready("dev", 3, SOON).await;
        assert_eq!(ranges(&simulation).await, before);
        expect_routes(&simulation).await;
        simulation
    });
}

#[test]
fn a_node_is_not_ready_before_the_others_are_told_of_it_and_a_dead_one_is_not_waited_for() {
    world::run(45, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(2));
        simulation.until_ready("dev", 3, SOON).await;
        // Nothing can be done in a node that runs and is Ready: nobody has the route to the new one's pods there.
        simulation.fault(Operation::Exec, "dev-pool-0", Fault::FailBefore(Cause::Unknown));
        simulation.write("dev.yaml", &routed(3));
        simulation
            .until_machine("dev-pool-2", SOON, |machine| {
                let waiting = machine.status.as_ref().and_then(|status| status.waiting.clone());
                waiting.is_some_and(|waiting| {
                    waiting.reason == "WaitingForPeers" && waiting.message.ends_with(": dev-pool-0")
                })
            })
            .await;
        assert_eq!(simulation.hands().file("dev-pool-2", CONFIGURATION), None);
        // Its kubelet ends: nobody hears of that node any more.
        simulation.hands().stop_kubelet("dev-pool-0").unwrap();
        simulation
            .until_node("dev", "dev-pool-2", SOON, |node| {
                let conditions = node.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
            })
            .await;
        simulation.no_more_faults();
        simulation
    });
}

#[test]
fn a_configuration_that_somebody_removed_is_written_again() {
    world::run(46, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(1));
        simulation.until_ready("dev", 2, SOON).await;
        simulation.advance(Duration::from_secs(60)).await;
        simulation.hands().remove_file("dev-pool-0", CONFIGURATION).unwrap();
        simulation
            .until_machine("dev-pool-0", SOON, |machine| {
                !conditions::is_true(&machine.status.clone().unwrap_or_default().conditions, conditions::READY)
            })
            .await;
        simulation.until_ready("dev", 2, SOON).await;
        expect_routes(&simulation).await;
        simulation
    });
}

#[test]
fn a_network_policy_that_nobody_enforces_is_told_once() {
    world::run(47, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &routed(0));
        simulation.until_ready("dev", 1, SOON).await;
        let policies: Api<NetworkPolicy> = Api::namespaced(simulation.cluster_client("dev").await, "default");
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
                            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
        let says = |cluster: &kina::api::Cluster| {
            let conditions = cluster.status.clone().unwrap_or_default().conditions;
            conditions::get(&conditions, conditions::NETWORK_READY)
                .is_some_and(|found| found.message.ends_with("there is default/deny"))
        };
        simulation.until_cluster("dev", "warned", SOON, says).await;
        simulation.advance(Duration::from_secs(300)).await;
        let events: Api<Event> = Api::all(simulation.client());
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let warned: Vec<&Event> =
            events.iter().filter(|event| event.reason.as_deref() == Some("NetworkPolicyNotEnforced")).collect();
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert_eq!(warned[0].count.unwrap_or(1), 1);
        policies.delete("deny", &DeleteParams::default()).await.unwrap();
        simulation.until_cluster("dev", "no longer warned", SOON, |cluster| !says(cluster)).await;
        simulation
    });
}
