//! What a user sees, with a whole Kina: from file to Ready to gone, and what happens on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use kina::api::cluster::{DeletionPolicy, Severity};
use kina::api::conditions;
use kina::api::source::HeldAction;
use kina::api::{Cluster, Machine, Source, annotations};
use kina::runtime::sim::{Fault, Operation};
use kina::runtime::{Cause, ContainerState, Listing};

use crate::world::{self, Simulation};

/// Longer than any story's step takes in virtual time, and than the longest backoff.
pub const SOON: Duration = Duration::from_secs(600);

/// A manifest with one control plane and a pool of workers.
pub fn manifest(name: &str, workers: u32, more: &str) -> String {
    format!(
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\nspec:\n  workers:\n    - name: pool\n      replicas: {workers}\n{more}"
    )
}

/// Container ids by name.
pub async fn containers(simulation: &Simulation) -> BTreeMap<String, String> {
    let containers = simulation.listing().await.containers;
    containers.iter().map(|container| (container.name.clone(), container.id.0.clone())).collect()
}

pub async fn annotate(simulation: &Simulation, name: &str, annotation: &str, value: Option<&str>) {
    let clusters: Api<Cluster> = Api::all(simulation.client());
    let patch = json!({"metadata": {"annotations": {annotation: value}}});
    clusters.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[test]
fn a_file_becomes_a_cluster_that_kubectl_could_use_and_goes_again() {
    let run = world::run(11, |mut simulation: Simulation| async move {
        let clusters: Api<Cluster> = Api::all(simulation.client());
        let phases = Arc::new(Mutex::new(BTreeSet::new()));
        let watched = tokio::spawn({
            let (clusters, phases) = (watcher(clusters, watcher::Config::default()), Arc::clone(&phases));
            clusters.applied_objects().for_each(move |cluster| {
                phases.lock().unwrap().extend(cluster.ok().and_then(|cluster| cluster.status?.phase));
                std::future::ready(())
            })
        });
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        watched.abort();
        let phases: Vec<String> = phases.lock().unwrap().iter().cloned().collect();
        assert_eq!(phases, ["Pending", "Provisioning", "Running"], "what never worked yet is not degraded");

        let nodes = simulation.nodes("dev").await;
        let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["dev-control-plane-0", "dev-pool-0", "dev-pool-1"]);
        let kubeconfig = simulation.read(Path::new("/home/me/.kube/config"));
        assert!(kubeconfig.contains("current-context: kina-dev"), "{kubeconfig}");

        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn a_healthy_cluster_is_left_alone() {
    world::run(12, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        let before = simulation.quiet_marks().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(simulation.quiet_marks().await, before, "something was changed although nothing had to be");
        simulation
    });
}

#[test]
fn pools_grow_and_shrink_and_come_and_go() {
    world::run(13, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 3, ""));
        simulation.until_ready("dev", 4, SOON).await;
        let before = containers(&simulation).await;

        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let after = containers(&simulation).await;
        assert_eq!(after.keys().collect::<Vec<_>>(), ["dev-control-plane-0", "dev-lb", "dev-pool-0"]);
        assert!(after.iter().all(|(name, id)| before.get(name) == Some(id)), "what stays is not made anew");

        simulation.write("dev.yaml", &manifest("dev", 1, "    - name: other\n      replicas: 1\n"));
        simulation.until_ready("dev", 3, SOON).await;
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        assert_eq!(simulation.nodes("dev").await.len(), 1);
        simulation
    });
}

#[test]
fn one_control_plane_becomes_three_and_one_again_behind_the_same_endpoint() {
    world::run(14, |mut simulation: Simulation| async move {
        let with = |replicas: u32| manifest("ha", 0, &format!("  controlPlane:\n    replicas: {replicas}\n"));
        simulation.write("ha.yaml", &with(1));
        simulation.until_ready("ha", 1, SOON).await;
        let endpoint = simulation.cluster("ha").await.status.unwrap().endpoint;
        simulation.write("ha.yaml", &with(3));
        simulation.until_ready("ha", 3, SOON).await;
        simulation.write("ha.yaml", &with(1));
        simulation.until_ready("ha", 1, SOON).await;
        assert_eq!(simulation.cluster("ha").await.status.unwrap().endpoint, endpoint);
        simulation
    });
}

#[test]
fn labels_and_taints_change_in_place() {
    world::run(15, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;
        let more = "      labels: { tier: apps }\n      taints: [{ key: dedicated, value: db, effect: NoSchedule }]\n";
        simulation.write("dev.yaml", &manifest("dev", 1, more));
        simulation
            .until_node("dev", "dev-pool-0", SOON, |node| {
                let labelled = node.labels().get("tier").is_some_and(|tier| tier == "apps");
                let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
                labelled && taints.iter().any(|taint| taint.key == "dedicated")
            })
            .await;
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation
            .until_node("dev", "dev-pool-0", SOON, |node| {
                let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
                !node.labels().contains_key("tier") && taints.iter().all(|taint| taint.key != "dedicated")
            })
            .await;
        assert_eq!(containers(&simulation).await, before);
        simulation
    });
}

#[test]
fn a_change_of_resources_rolls_machines_and_keeps_their_names_addresses_and_data() {
    world::run(16, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        let before = simulation.listing().await;
        simulation.write("dev.yaml", &manifest("dev", 2, "      resources: { memory: 2Gi }\n"));
        simulation
            .until_listing(SOON, |listing| {
                let workers = listing.containers.iter().filter(|container| container.name.starts_with("dev-pool"));
                workers.filter(|worker| worker.resources.memory_bytes == Some(2 << 30)).count() == 2
            })
            .await;
        simulation.until_ready("dev", 3, SOON).await;
        let after = simulation.listing().await;
        let facts = |listing: &kina::runtime::Listing| -> Vec<_> {
            listing.containers.iter().map(|c| (c.name.clone(), c.address, c.mounts.clone())).collect()
        };
        assert_eq!(facts(&after), facts(&before));
        assert_eq!(after.volumes, before.volumes);
        simulation
    });
}

#[test]
fn a_roll_waits_for_a_disruption_budget_and_says_for_which() {
    world::run(17, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        let client = simulation.cluster_client("dev").await;
        let create = PostParams::default();
        let labels = json!({"app": "web"});
        let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}});
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
        deployments.create(&create, &serde_json::from_value(web).unwrap()).await.unwrap();
        let available = |web: &Option<Deployment>| {
            web.as_ref().and_then(|web| web.status.as_ref()).and_then(|status| status.available_replicas) == Some(2)
        };
        simulation.until(&deployments, "web", "available", available, SOON).await;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, "default");
        let none =
            json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}}});
        budgets.create(&create, &serde_json::from_value(none).unwrap()).await.unwrap();

        let before = containers(&simulation).await;
        simulation.write("dev.yaml", &manifest("dev", 2, "      resources: { cpus: 3 }\n"));
        let waits = |machine: &Machine| {
            let conditions = machine.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| {
                condition.reason == "DisruptionBudget" && condition.message.contains("PodDisruptionBudget default/web")
            })
        };
        simulation.until_machine("dev-pool-0", SOON, waits).await;
        simulation.advance(Duration::from_secs(60)).await;
        assert_eq!(containers(&simulation).await, before, "no node goes while the budget forbids it");

        let one = json!({"spec": {"maxUnavailable": 1}});
        budgets.patch("web", &PatchParams::default(), &Patch::Merge(&one)).await.unwrap();
        simulation.until_machine("dev-pool-0", Duration::from_secs(60), |machine| !waits(machine)).await;
        simulation.until_ready("dev", 3, SOON).await;
        let after = containers(&simulation).await;
        assert!(["dev-pool-0", "dev-pool-1"].iter().all(|name| before[*name] != after[*name]), "{after:?}");
        simulation
    });
}

#[test]
fn what_needs_a_new_cluster_is_refused_until_the_file_allows_it() {
    world::run(17, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        let uid = simulation.cluster("dev").await.uid();
        let changed = "  networking: { podSubnet: 10.99.0.0/16 }\n";
        simulation.write("dev.yaml", &manifest("dev", 0, changed));
        let source = simulation.until_source(SOON, |source| source.errors == 1).await;
        let message = &source.files[0].errors[0].message;
        assert!(message.contains("spec.networking.podSubnet cannot change in place"), "{message}");

        let before = containers(&simulation).await;
        simulation.write("dev.yaml", &manifest("dev", 0, &format!("{changed}  allowRecreate: true\n")));
        simulation
            .until_listing(SOON, |listing| {
                let node = listing.containers.iter().find(|container| container.name == "dev-control-plane-0");
                node.is_some_and(|node| before.get(&node.name) != Some(&node.id.0))
            })
            .await;
        simulation.until_ready("dev", 1, SOON).await;
        assert_eq!(simulation.cluster("dev").await.uid(), uid, "the Cluster object stays the same");
        simulation
    });
}

#[test]
fn who_goes_back_while_everything_is_made_anew_has_a_cluster_that_works() {
    let amid = Arc::new(AtomicUsize::new(0));
    for (seed, control_planes, after) in [(220, 1, 10), (221, 1, 30), (222, 1, 60), (223, 3, 20), (224, 3, 60)] {
        let amid = Arc::clone(&amid);
        let run = world::run(seed, move |mut simulation: Simulation| async move {
            let spec = json!({
                "controlPlane": {"replicas": control_planes}, "workers": [{"name": "pool", "replicas": 4}],
                "networking": {"podSubnet": "10.98.0.0/16"}, "allowRecreate": true, "drift": {"mode": "Audit"},
            });
            let cluster = json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "dev"}, "spec": spec});
            let clusters: Api<Cluster> = Api::all(simulation.client());
            clusters.create(&PostParams::default(), &serde_json::from_value(cluster).unwrap()).await.unwrap();
            simulation.until_ready("dev", control_planes + 4, SOON).await;
            let change = async |subnet: &str| {
                let patch = json!({"spec": {"networking": {"podSubnet": subnet}}});
                clusters.patch("dev", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            };
            change("10.99.0.0/16").await;
            simulation.advance(Duration::from_millis(after)).await;
            let machines: Api<Machine> = Api::all(simulation.client());
            let machines = machines.list(&ListParams::default()).await.unwrap();
            let goes = |machine: &Machine| machine.metadata.deletion_timestamp.is_some();
            amid.fetch_add(usize::from(machines.iter().any(goes)), Ordering::SeqCst);
            change("10.98.0.0/16").await;
            simulation.until_ready("dev", control_planes + 4, SOON).await;
            let names = containers(&simulation).await;
            assert!((0..4).all(|nth| names.contains_key(&format!("dev-pool-{nth}"))), "{names:?}");
            clusters.delete("dev", &DeleteParams::default()).await.unwrap();
            simulation.until_gone("dev", SOON).await;
            simulation
        });
        assert_eq!(run.left_behind, Vec::<String>::new());
    }
    assert!(amid.load(Ordering::SeqCst) >= 3, "{amid:?} of these moments were amid it");
}

#[test]
fn what_goes_stays_where_its_cluster_is_paused_and_goes_on_afterwards() {
    world::run(225, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        simulation.fault(Operation::RemoveContainer, "dev-pool-1", Fault::FailBefore(Cause::Unknown));
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        let goes = |machine: &Machine| machine.metadata.deletion_timestamp.is_some();
        simulation.until_machine("dev-pool-1", SOON, goes).await;
        annotate(&simulation, "dev", annotations::PAUSED, Some("true")).await;
        let paused = |machine: &Machine| {
            let waiting = machine.status.as_ref().and_then(|status| status.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason == "Paused")
        };
        simulation.until_machine("dev-pool-1", SOON, paused).await;
        simulation.no_more_faults();
        let before = containers(&simulation).await;
        simulation.advance(Duration::from_secs(300)).await;
        assert_eq!(containers(&simulation).await, before);
        assert!(before.contains_key("dev-pool-1"));
        annotate(&simulation, "dev", annotations::PAUSED, None).await;
        let has_gone = |listing: &Listing| listing.containers.iter().all(|container| container.name != "dev-pool-1");
        simulation.until_listing(SOON, has_gone).await;
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn a_paused_cluster_is_not_changed_and_catches_up_afterwards() {
    world::run(18, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        annotate(&simulation, "dev", annotations::PAUSED, Some("true")).await;
        let before = containers(&simulation).await;
        simulation.write("dev.yaml", &manifest("dev", 3, ""));
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(containers(&simulation).await, before);
        annotate(&simulation, "dev", annotations::PAUSED, None).await;
        simulation.until_ready("dev", 4, SOON).await;
        simulation
    });
}

#[test]
fn what_is_stopped_is_started_and_what_is_gone_is_made_anew_with_its_data() {
    world::run(19, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        let before = containers(&simulation).await;
        simulation.hands().stop_container("dev-pool-0").unwrap();
        simulation
            .until_listing(SOON, |listing| listing.containers.iter().all(|c| c.state == ContainerState::Running))
            .await;
        simulation.until_ready("dev", 3, SOON).await;
        assert_eq!(containers(&simulation).await, before);

        simulation.hands().remove_container("dev-control-plane-0").unwrap();
        simulation.until_listing(SOON, |listing| listing.containers.len() == 4).await;
        simulation.until_ready("dev", 3, SOON).await;
        assert_eq!(simulation.nodes("dev").await.len(), 3, "the control plane came back with its data");

        simulation.hands().remove_container("dev-lb").unwrap();
        simulation.until_listing(SOON, |listing| listing.containers.len() == 4).await;
        simulation.until_ready("dev", 3, SOON).await;
        simulation
    });
}

#[test]
fn audit_reports_what_differs_and_leaves_it() {
    world::run(20, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, "  drift: { mode: Audit }\n"));
        simulation.until_ready("dev", 2, SOON).await;
        simulation.hands().stop_container("dev-pool-0").unwrap();
        let status = simulation
            .until_cluster("dev", "drifted", SOON, |cluster| {
                cluster.status.as_ref().is_some_and(|status| !status.drift.is_empty())
            })
            .await
            .status
            .unwrap();
        let finding = &status.drift[0];
        assert_eq!((finding.object.as_str(), finding.field.as_str()), ("container dev-pool-0", "state"));
        assert_eq!(finding.severity, Severity::Critical);
        assert!(conditions::is_true(&status.conditions, conditions::DRIFTED));
        tokio::time::sleep(Duration::from_secs(120)).await;
        let stopped = simulation.listing().await.containers.into_iter().find(|c| c.name == "dev-pool-0").unwrap();
        assert_ne!(stopped.state, ContainerState::Running, "only reported, not repaired");
        simulation
    });
}

#[test]
fn something_foreign_under_a_wanted_name_is_never_touched() {
    world::run(21, |mut simulation: Simulation| async move {
        simulation
            .hands()
            .add_network(&kina::runtime::NetworkSpec {
                name: "other".into(),
                subnet: Some("192.168.7.0/24".into()),
                ipv6_subnet: None,
                labels: BTreeMap::new(),
            })
            .unwrap();
        let labels = BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]);
        let foreign = world::others_container("dev-pool-0", "docker.io/kindest/node:v1.35.5", "other", labels);
        let id = simulation.hands().add_container(&foreign).unwrap();
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation
            .until_machine("dev-pool-0", SOON, |machine| {
                machine.status.as_ref().is_some_and(|status| {
                    conditions::is_true(&status.conditions, conditions::STALLED)
                        && status.waiting.as_ref().is_some_and(|waiting| waiting.reason == "NameTakenByOthers")
                })
            })
            .await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        let left = containers(&simulation).await;
        assert_eq!(left, BTreeMap::from([("dev-pool-0".to_owned(), id.0)]));
        simulation.hands().remove_container("dev-pool-0").unwrap();
        simulation.hands().remove_network("other").unwrap();
        simulation
    });
}

#[test]
fn a_crash_at_any_time_of_creation_loses_and_doubles_nothing() {
    for (seed, pause) in [(31, 300), (32, 700), (33, 1500), (34, 2500), (35, 4000)] {
        let run = world::run(seed, move |mut simulation: Simulation| async move {
            for index in 0..3 {
                simulation.write(&format!("c{index}.yaml"), &manifest(&format!("c{index}"), 1, ""));
            }
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                simulation = simulation.crash().await;
            }
            for index in 0..3 {
                simulation.until_ready(&format!("c{index}"), 2, SOON).await;
            }
            assert_eq!(simulation.listing().await.containers.len(), 9);
            for index in 0..3 {
                simulation.remove(&format!("c{index}.yaml"));
                simulation.until_gone(&format!("c{index}"), SOON).await;
                simulation.advance(Duration::from_secs(3700)).await;
            }
            simulation
        });
        assert_eq!(run.left_behind, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn deletions_beyond_the_budget_are_held_until_approved() {
    world::run(41, |mut simulation: Simulation| async move {
        for index in 0..4 {
            simulation.write(&format!("c{index}.yaml"), &manifest(&format!("c{index}"), 0, ""));
        }
        for index in 0..4 {
            simulation.until_ready(&format!("c{index}"), 1, SOON).await;
        }
        simulation.remove_all(&["c0.yaml", "c1.yaml", "c2.yaml"]);
        let source = simulation.until_source(SOON, |source| !source.held.is_empty()).await;
        let held = source.held[0].clone();
        assert_eq!(held.action, HeldAction::Delete);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let left = simulation.cluster_names().await;
        assert_eq!(left.len(), 4 - (3 - held.clusters.len()), "one is within the budget: {left:?}");

        let sources: Api<Source> = Api::all(simulation.client());
        let approve = json!({"metadata": {"annotations": {annotations::APPROVE: held.id}}});
        sources.patch("clusters", &PatchParams::default(), &Patch::Merge(&approve)).await.unwrap();
        for name in &held.clusters {
            simulation.until_gone(name, SOON).await;
        }
        assert_eq!(simulation.cluster_names().await, ["c3"]);
        simulation
    });
}

#[test]
fn a_protected_cluster_stays_until_protection_is_lifted() {
    world::run(42, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, "  protect: true\n"));
        simulation.until_ready("dev", 1, SOON).await;
        simulation.remove("dev.yaml");
        tokio::time::sleep(Duration::from_secs(120)).await;
        let cluster = simulation.cluster("dev").await;
        assert_eq!(cluster.metadata.deletion_timestamp, None, "a refused deletion is never sent");
        let clusters: Api<Cluster> = Api::all(simulation.client());
        let refused = clusters.delete("dev", &DeleteParams::default()).await.unwrap_err().to_string();
        assert!(refused.contains("protect"), "{refused}");

        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_cluster("dev", "unprotected", SOON, |cluster| !cluster.spec.protect).await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        simulation
    });
}

#[test]
fn what_a_file_declares_others_can_neither_delete_nor_respecify_until_it_is_detached() {
    world::run(43, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        let clusters: Api<Cluster> = Api::all(simulation.client());
        let refused = clusters.delete("dev", &DeleteParams::default()).await.unwrap_err().to_string();
        assert!(refused.contains("dev.yaml:1") && refused.contains("kina detach dev"), "{refused}");
        let spec = json!({"spec": {"workers": [{"name": "pool", "replicas": 5}]}});
        let refused =
            clusters.patch("dev", &PatchParams::default(), &Patch::Merge(&spec)).await.unwrap_err().to_string();
        assert!(refused.contains("dev.yaml:1"), "{refused}");
        let label = json!({"metadata": {"labels": {"team": "a"}}});
        clusters.patch("dev", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();

        annotate(&simulation, "dev", annotations::DETACH, Some("true")).await;
        simulation
            .until_cluster("dev", "detached", SOON, |cluster| {
                cluster.annotations().get(annotations::SOURCE).is_some_and(|source| source == annotations::SOURCE_CLI)
            })
            .await;
        clusters.delete("dev", &DeleteParams::default()).await.unwrap();
        simulation.until_gone("dev", SOON).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(simulation.cluster_names().await, Vec::<String>::new(), "a detached document is not applied again");
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn nothing_is_deleted_when_the_root_vanishes_or_a_file_is_broken() {
    world::run(44, |mut simulation: Simulation| async move {
        simulation.write("a.yaml", &manifest("a", 0, ""));
        simulation.write("b.yaml", &manifest("b", 0, ""));
        simulation.until_ready("a", 1, SOON).await;
        simulation.until_ready("b", 1, SOON).await;

        simulation
            .write("a.yaml", "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec: {workers: 3}\n");
        simulation.remove("b.yaml");
        let source = simulation.until_source(SOON, |source| source.errors > 0).await;
        let broken = source.files.iter().find(|file| file.path == "a.yaml").unwrap();
        assert_eq!(broken.errors[0].line, 4);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(simulation.cluster_names().await, ["a", "b"], "amid errors nothing is deleted");

        simulation.write("a.yaml", &manifest("a", 0, ""));
        simulation.until_gone("b", SOON).await;
        simulation.remove_root();
        let unavailable = |source: &kina::api::SourceStatus| {
            conditions::get(&source.conditions, conditions::AVAILABLE).is_some_and(|c| c.status == "False")
        };
        simulation.until_source(SOON, unavailable).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(simulation.cluster_names().await, ["a"]);
        simulation
    });
}

#[test]
fn files_removed_while_kina_was_down_are_deletions_like_others() {
    let run = world::run(45, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        simulation = simulation.crash_and(|simulation| simulation.remove("dev.yaml")).await;
        simulation.until_gone("dev", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn a_cluster_whose_time_is_over_goes_and_comes_back_only_with_another_file() {
    world::run(46, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, "  ttl: 10m\n"));
        simulation.until_ready("dev", 1, Duration::from_secs(300)).await;
        simulation.until_gone("dev", Duration::from_secs(1200)).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(simulation.cluster_names().await, Vec::<String>::new());
        simulation.write("dev.yaml", &manifest("dev", 0, "  ttl: 11m\n"));
        simulation.until_ready("dev", 1, Duration::from_secs(300)).await;
        simulation
    });
}

#[test]
fn an_orphaned_cluster_leaves_its_containers_on_the_host() {
    world::run(47, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, "  deletionPolicy: Orphan\n"));
        simulation.until_ready("dev", 1, SOON).await;
        assert_eq!(simulation.cluster("dev").await.spec.deletion_policy, DeletionPolicy::Orphan);
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", SOON).await;
        assert_eq!(containers(&simulation).await.len(), 2);
        let machines: Api<Machine> = Api::all(simulation.client());
        assert_eq!(machines.list(&ListParams::default()).await.unwrap().items.len(), 0);
        simulation
    });
}
