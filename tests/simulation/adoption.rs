//! What a user sees when Kina's record and the host part: a lost or older store, an orphan, things without a record.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use kina::api::conditions;
use kina::api::machine::BootstrapMethod;
use kina::api::{Cluster, Machine, annotations};
use kina::runtime::Listing;

use crate::stories::{SOON, containers, manifest};
use crate::world::{self, Simulation};

/// Leaves something in a cluster that only the same cluster can still have later.
async fn leave_a_mark(simulation: &Simulation, cluster: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(simulation.cluster_client(cluster).await, "kube-system");
    let mark = serde_json::from_value(json!({"metadata": {"name": "mark"}, "data": {"of": cluster}})).unwrap();
    maps.create(&PostParams::default(), &mark).await.unwrap();
}

async fn has_mark(simulation: &Simulation, cluster: &str) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(simulation.cluster_client(cluster).await, "kube-system");
    maps.get_opt("mark").await.unwrap().is_some()
}

async fn events(simulation: &Simulation, reason: &str) -> Vec<String> {
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(simulation.client(), "default");
    let all = events.list(&ListParams::default()).await.unwrap().items;
    all.into_iter().filter(|event| event.reason.as_deref() == Some(reason)).filter_map(|event| event.note).collect()
}

/// Everything on the host but when it was looked at.
fn things(listing: Listing) -> Vec<String> {
    let mut all: Vec<String> = listing.containers.iter().map(|object| format!("{object:?}")).collect();
    all.extend(listing.networks.iter().map(|object| format!("{object:?}")));
    all.extend(listing.volumes.iter().map(|object| format!("{object:?}")));
    all
}

fn lose(simulation: &Simulation, machines: &[&str]) {
    for machine in machines {
        simulation.hands().remove_container(machine).unwrap();
        simulation.hands().remove_volume(machine).unwrap();
    }
}

fn volumes(listing: &Listing) -> Vec<String> {
    listing.volumes.iter().map(|volume| volume.name.clone()).collect()
}

fn stalls_without_volume(machine: &Machine) -> bool {
    machine.status.as_ref().is_some_and(|status| {
        conditions::is_true(&status.conditions, conditions::STALLED)
            && status.waiting.as_ref().is_some_and(|waiting| waiting.reason == "VolumeLost")
    })
}

fn of_control_planes(replicas: usize) -> String {
    manifest("ha", 0, &format!("  controlPlane:\n    replicas: {replicas}\n"))
}

/// Until a Cluster says that it cannot adopt, and why.
async fn refusal(simulation: &mut Simulation, name: &str) -> String {
    let stalled = |cluster: &Cluster| {
        cluster.status.as_ref().is_some_and(|status| {
            conditions::is_true(&status.conditions, conditions::STALLED)
                && status.waiting.as_ref().is_some_and(|waiting| waiting.reason == "NotAdopted")
        })
    };
    let cluster = simulation.until_cluster(name, "stalled", SOON, stalled).await;
    cluster.status.unwrap().waiting.unwrap().message
}

#[test]
fn after_the_store_is_lost_a_cluster_with_a_file_goes_on_with_its_containers_and_data() {
    let run = world::run(61, |mut simulation: Simulation| async move {
        let ha = "  controlPlane:\n    replicas: 3\n";
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.write("ha.yaml", &manifest("ha", 0, ha));
        simulation.until_ready("dev", 3, SOON).await;
        simulation.until_ready("ha", 3, SOON).await;
        leave_a_mark(&simulation, "dev").await;
        leave_a_mark(&simulation, "ha").await;
        let uid = simulation.cluster("dev").await.uid().unwrap();
        let (before, endpoint) =
            (containers(&simulation).await, simulation.cluster("dev").await.status.unwrap().endpoint);

        simulation = simulation.lose_store().await;
        simulation.until_ready("dev", 3, SOON).await;
        simulation.until_ready("ha", 3, SOON).await;
        assert_eq!(containers(&simulation).await, before);
        assert!(has_mark(&simulation, "dev").await && has_mark(&simulation, "ha").await);
        let cluster = simulation.cluster("dev").await;
        assert_ne!(cluster.uid().unwrap(), uid);
        assert_eq!(cluster.annotations().get(annotations::IDENTITY), Some(&uid));
        assert_eq!(cluster.status.unwrap().endpoint, endpoint);
        assert_eq!(simulation.nodes("dev").await.len(), 3);
        let told = events(&simulation, "Adopted").await;
        assert!(
            told.iter().any(|note| note.contains("an earlier cluster of this name left, with 3 machines")),
            "{told:?}"
        );

        // It is as any other: it grows, is repaired, and can lose its store again.
        simulation.write("dev.yaml", &manifest("dev", 3, ""));
        simulation.until_ready("dev", 4, SOON).await;
        let grown = containers(&simulation).await;
        simulation = simulation.lose_store().await;
        simulation.until_ready("dev", 4, SOON).await;
        assert_eq!(containers(&simulation).await, grown);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let quiet = simulation.quiet_marks().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(simulation.quiet_marks().await, quiet);

        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation.advance(Duration::from_secs(3700)).await;
        simulation.remove("ha.yaml");
        simulation.until_gone("ha", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn an_orphan_is_adopted_by_a_cluster_of_its_name_and_then_goes_with_it() {
    let run = world::run(62, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, "  deletionPolicy: Orphan\n"));
        simulation.until_ready("dev", 2, SOON).await;
        leave_a_mark(&simulation, "dev").await;
        let before = containers(&simulation).await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        assert_eq!(containers(&simulation).await, before);

        // One worker less: what is there is adopted, and then becomes what is wanted.
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_listing(SOON, |listing| listing.containers.len() == 2).await;
        simulation.until_ready("dev", 1, SOON).await;
        let after = containers(&simulation).await;
        assert_eq!(after.keys().collect::<Vec<_>>(), ["dev-control-plane-0", "dev-lb"]);
        assert!(after.iter().all(|(name, id)| before.get(name) == Some(id)));
        assert!(has_mark(&simulation, "dev").await);
        // Two deletions within an hour are more than the budget of one.
        simulation.advance(Duration::from_secs(3700)).await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn an_empty_store_collects_nothing() {
    world::run(63, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        simulation = simulation.lose_store_and(|meanwhile| meanwhile.remove("dev.yaml")).await;
        let before = things(simulation.listing().await);
        simulation.write("other.yaml", &manifest("other", 0, ""));
        simulation.until_ready("other", 1, SOON).await;
        simulation.advance(Duration::from_secs(7200)).await;
        let after = things(simulation.listing().await);
        assert!(before.iter().all(|thing| after.contains(thing)), "{before:#?}\n{after:#?}");
        simulation
    });
}

#[test]
fn what_was_stopped_and_removed_while_the_store_was_lost_comes_back_with_its_data() {
    world::run(64, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        leave_a_mark(&simulation, "dev").await;
        simulation = simulation.crash().await;
        simulation.write("dev.yaml", &manifest("dev", 1, "  paused: true\n"));
        simulation.until_cluster("dev", "paused", SOON, |cluster| cluster.spec.paused).await;
        simulation.hands().restart_runtime(false).unwrap();
        simulation.hands().remove_container("dev-control-plane-0").unwrap();
        simulation.hands().remove_container("dev-lb").unwrap();
        simulation.hands().remove_network("kina-dev").unwrap();
        simulation = simulation.lose_store().await;
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        assert!(has_mark(&simulation, "dev").await);
        simulation
    });
}

#[test]
fn things_of_two_clusters_under_one_name_are_left_alone() {
    world::run(65, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        simulation = simulation.lose_store_and(|meanwhile| meanwhile.remove("dev.yaml")).await;
        let other = |labels: &mut BTreeMap<String, String>| {
            labels.insert("dev.kina.cluster-uid".into(), "another-uid".into());
        };
        simulation.hands().alter_container("dev-pool-0", |spec| other(&mut spec.labels)).unwrap();
        let before = things(simulation.listing().await);
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        let message = refusal(&mut simulation, "dev").await;
        assert!(
            message.contains("it is of several clusters, with the UIDs") && message.contains("another-uid"),
            "{message}"
        );
        simulation.advance(Duration::from_secs(600)).await;
        assert_eq!(things(simulation.listing().await), before);
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        assert_eq!(things(simulation.listing().await), before);
        simulation
    });
}

#[test]
fn a_cluster_whose_keys_are_lost_is_not_adopted() {
    world::run(66, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        let uid = simulation.cluster("dev").await.uid().unwrap();
        simulation = simulation.lose_store_and(|meanwhile| meanwhile.remove_keys()).await;
        let before = things(simulation.listing().await);
        let message = refusal(&mut simulation, "dev").await;
        assert!(message.contains(&format!("its keys are gone: restore /home/me/.kina/pki/{uid}")), "{message}");
        simulation.advance(Duration::from_secs(600)).await;
        assert_eq!(things(simulation.listing().await), before);
        simulation
    });
}

#[test]
fn a_cluster_of_another_version_is_not_adopted_until_the_file_says_what_is_there() {
    world::run(67, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, "  kubernetesVersion: v1.34.3\n"));
        simulation.until_ready("dev", 1, SOON).await;
        let before = containers(&simulation).await;
        simulation = simulation.lose_store_and(|meanwhile| meanwhile.remove("dev.yaml")).await;
        simulation.write("dev.yaml", &manifest("dev", 0, "  kubernetesVersion: v1.35.5\n"));
        let message = refusal(&mut simulation, "dev").await;
        assert!(message.contains("it runs Kubernetes v1.34.3, and v1.35.5 is wanted"), "{message}");
        // Without a word about the version it is the one that is there.
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        assert_eq!(simulation.cluster("dev").await.spec.kubernetes_version.as_deref(), Some("v1.34.3"));
        assert_eq!(containers(&simulation).await, before);
        simulation
    });
}

#[test]
fn an_older_store_takes_up_the_cluster_that_was_made_since() {
    let run = world::run(68, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let backup = simulation.back_up_store();
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        leave_a_mark(&simulation, "dev").await;
        let (before, uid) = (containers(&simulation).await, simulation.cluster("dev").await.uid());

        simulation = simulation.restore_store(&backup).await;
        simulation.until_ready("dev", 3, SOON).await;
        let after = containers(&simulation).await;
        // The port of the endpoint is the one that the record says: the load balancer, which has no data, is made for it.
        assert!(
            after.iter().all(|(name, id)| name == "dev-lb" || before.get(name) == Some(id)),
            "{after:?} {before:?}"
        );
        assert_eq!(after.len(), before.len());
        assert!(has_mark(&simulation, "dev").await);
        assert_ne!(simulation.cluster("dev").await.uid(), uid);
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn an_older_store_takes_up_control_planes_that_came_since() {
    world::run(69, |mut simulation: Simulation| async move {
        simulation.write("ha.yaml", &of_control_planes(1));
        simulation.until_ready("ha", 1, SOON).await;
        let backup = simulation.back_up_store();
        simulation.write("ha.yaml", &of_control_planes(3));
        simulation.until_ready("ha", 3, SOON).await;
        leave_a_mark(&simulation, "ha").await;
        let before = containers(&simulation).await;
        simulation = simulation.restore_store(&backup).await;
        simulation.until_ready("ha", 3, SOON).await;
        assert_eq!(containers(&simulation).await, before);
        // Where they are not wanted any more, they leave as control planes do.
        simulation.write("ha.yaml", &of_control_planes(1));
        simulation.until_ready("ha", 1, SOON).await;
        assert!(has_mark(&simulation, "ha").await);
        simulation
    });
}

#[test]
fn what_a_machine_left_whose_finalizer_was_taken_away_is_swept() {
    let run = world::run(70, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_machine("dev-pool-1", SOON, |machine| machine.metadata.deletion_timestamp.is_some()).await;
        let machines: Api<Machine> = Api::all(simulation.client());
        let without = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        machines.patch("dev-pool-1", &PatchParams::default(), &without).await.unwrap();
        assert!(machines.get_opt("dev-pool-1").await.unwrap().is_none());
        let left = simulation.listing().await;
        assert!(left.volumes.iter().any(|volume| volume.name == "dev-pool-1"), "the story is about what is left");

        simulation.until_listing(SOON, |listing| listing.volumes.len() == 2 && listing.containers.len() == 3).await;
        simulation.until_ready("dev", 2, SOON).await;
        assert_eq!(simulation.nodes("dev").await.len(), 2);
        // The Machine that swept it goes after what it swept.
        simulation.until_object(&machines, "dev-pool-1", SOON, Option::is_none).await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn a_worker_whose_volume_is_lost_joins_anew_under_its_name() {
    world::run(71, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let uid = |nodes: Vec<k8s_openapi::api::core::v1::Node>| {
            nodes.iter().find(|node| node.name_any() == "dev-pool-0").and_then(ResourceExt::uid)
        };
        let before = uid(simulation.nodes("dev").await);
        lose(&simulation, &["dev-pool-0"]);
        let listed = |listing: &Listing| listing.containers.iter().any(|container| container.name == "dev-pool-0");
        simulation.until_listing(SOON, listed).await;
        simulation.until_ready("dev", 2, SOON).await;
        let after = uid(simulation.nodes("dev").await);
        assert!(after.is_some() && after != before, "it is another Node of the same name: {before:?} {after:?}");
        assert_eq!(simulation.listing().await.volumes.len(), 2);
        simulation
    });
}

#[test]
fn a_control_plane_whose_volume_is_lost_is_never_silently_begun_anew() {
    world::run(72, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        lose(&simulation, &["dev-control-plane-0"]);
        simulation.until_machine("dev-control-plane-0", SOON, stalls_without_volume).await;
        simulation
            .until_cluster("dev", "stalled", SOON, |cluster| {
                let status = cluster.status.clone().unwrap_or_default();
                let stalled = conditions::get(&status.conditions, conditions::STALLED).cloned();
                stalled.is_some_and(|stalled| stalled.status == "True" && stalled.message.contains("volume is gone"))
            })
            .await;
        simulation.advance(Duration::from_secs(3600)).await;
        assert_eq!(volumes(&simulation.listing().await), ["dev-pool-0"]);

        // Also where the store is lost as well: what is left says that there was a control plane.
        simulation = simulation.lose_store().await;
        let message = refusal(&mut simulation, "dev").await;
        assert!(message.contains("the volumes of its control planes are gone"), "{message}");
        simulation.advance(Duration::from_secs(600)).await;
        assert_eq!(volumes(&simulation.listing().await), ["dev-pool-0"]);
        simulation
    });
}

#[test]
fn control_planes_whose_volumes_are_lost_are_replaced_where_others_have_their_data() {
    let cases: [(u64, usize, &[&str]); 3] = [
        (78, 3, &["ha-control-plane-0"]),
        (79, 3, &["ha-control-plane-2"]),
        (80, 5, &["ha-control-plane-1", "ha-control-plane-3"]),
    ];
    for (seed, replicas, lost) in cases {
        world::run(seed, move |mut simulation: Simulation| async move {
            simulation.write("ha.yaml", &of_control_planes(replicas));
            simulation.until_ready("ha", u32::try_from(replicas).unwrap(), SOON).await;
            leave_a_mark(&simulation, "ha").await;
            lose(&simulation, lost);
            // A person may be about to restore them.
            simulation.advance(Duration::from_secs(30)).await;
            let left = volumes(&simulation.listing().await);
            assert_eq!(left.len(), replicas - lost.len(), "{left:?}");
            let is_replaced = |listing: &Listing| {
                volumes(listing).len() == replicas
                    && lost.iter().all(|lost| !volumes(listing).contains(&(*lost).to_owned()))
            };
            simulation.until_listing(SOON, is_replaced).await;
            simulation.until_ready("ha", u32::try_from(replicas).unwrap(), SOON).await;
            assert!(has_mark(&simulation, "ha").await);
            let nodes = simulation.nodes("ha").await;
            let is_old = |name: &str| lost.contains(&name);
            assert!(nodes.len() == replicas && nodes.iter().all(|node| !is_old(&node.name_any())), "{nodes:?}");
            // etcd counts those that are there and no others: all but a majority of them may stop.
            for name in volumes(&simulation.listing().await).iter().take(lost.len()) {
                simulation.hands().stop_container(name).unwrap();
            }
            assert!(has_mark(&simulation, "ha").await);
            simulation
        });
    }
}

#[test]
fn where_no_majority_has_its_data_a_person_is_told_so_for_as_long_as_it_takes() {
    world::run(81, |mut simulation: Simulation| async move {
        simulation.write("ha.yaml", &of_control_planes(3));
        simulation.until_ready("ha", 3, SOON).await;
        lose(&simulation, &["ha-control-plane-0", "ha-control-plane-1"]);
        simulation.until_machine("ha-control-plane-0", SOON, stalls_without_volume).await;
        simulation.advance(Duration::from_secs(3600)).await;
        for machine in ["ha-control-plane-0", "ha-control-plane-1"] {
            simulation.until_machine(machine, Duration::from_secs(1), stalls_without_volume).await;
        }
        assert_eq!(volumes(&simulation.listing().await), ["ha-control-plane-2"]);
        simulation
    });
}

#[test]
fn a_control_plane_that_drains_is_no_reason_to_keep_one_whose_volume_is_lost() {
    world::run(82, |mut simulation: Simulation| async move {
        simulation.write("ha.yaml", &of_control_planes(3));
        simulation.until_ready("ha", 3, SOON).await;
        leave_a_mark(&simulation, "ha").await;
        simulation.write("ha.yaml", &of_control_planes(1));
        let goes = |machine: &Machine| machine.metadata.deletion_timestamp.is_some();
        simulation.until_machine("ha-control-plane-2", SOON, goes).await;
        // etcd, which counts three, lets nobody go of the two that run.
        lose(&simulation, &["ha-control-plane-1"]);
        simulation.until_listing(SOON, |listing| volumes(listing) == ["ha-control-plane-0"]).await;
        simulation.until_ready("ha", 1, SOON).await;
        assert!(has_mark(&simulation, "ha").await);
        simulation
    });
}

#[test]
fn one_control_plane_may_lose_its_container_whenever_another_one_goes() {
    for after in (150..700).step_by(75) {
        world::run(after, move |mut simulation: Simulation| async move {
            simulation.write("ha.yaml", &of_control_planes(3));
            simulation.until_ready("ha", 3, SOON).await;
            leave_a_mark(&simulation, "ha").await;
            simulation.write("ha.yaml", &of_control_planes(1));
            simulation.advance(Duration::from_millis(after)).await;
            simulation.hands().remove_container("ha-control-plane-0").unwrap();
            // What is broken goes first: it may be this one.
            simulation.until_listing(SOON, |listing| listing.containers.len() == 2).await;
            simulation.until_ready("ha", 1, SOON).await;
            assert!(has_mark(&simulation, "ha").await);
            simulation
        });
    }
}

#[test]
fn a_first_control_plane_that_stops_whenever_it_may_goes_on_where_it_was() {
    for after in [500, 1000, 1500, 2000, 2250, 2500, 2750, 3000] {
        world::run(after, move |mut simulation: Simulation| async move {
            simulation.write("ha.yaml", &of_control_planes(3));
            for index in 0..3 {
                simulation.until_machine(&format!("ha-control-plane-{index}"), SOON, is_bootstrapping).await;
            }
            simulation.advance(Duration::from_millis(after)).await;
            simulation.hands().stop_container("ha-control-plane-2").unwrap();
            simulation.until_ready("ha", 3, Duration::from_secs(3600)).await;
            assert_eq!(simulation.nodes("ha").await.len(), 3);
            // It keeps its data, so it stays the member of etcd that it was to be.
            let machines: Api<Machine> = Api::all(simulation.client());
            let method = machines.get("ha-control-plane-2").await.unwrap().spec.bootstrap.method;
            assert_eq!(method, BootstrapMethod::Init, "stopped after {after} ms");
            simulation
        });
    }
}

fn is_bootstrapping(machine: &Machine) -> bool {
    let waiting = machine.status.as_ref().and_then(|status| status.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason == "Bootstrapping")
}
