//! What differs from what is wanted, and an API server that does not answer: found, told, and repaired or left.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use kina::api::{Cluster, conditions};
use kina::runtime::sim::{Fault, Operation};

use crate::stories::{SOON, containers, manifest};
use crate::world::{self, Simulation};

/// Reasons of a condition of a Cluster: `status/reason`.
fn condition(cluster: &Cluster, type_: &str) -> String {
    let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::get(conditions, type_).map_or_else(String::new, |found| format!("{}/{}", found.status, found.reason))
}

#[test]
fn an_api_server_that_hangs_is_told_within_half_a_minute_and_nothing_is_destroyed() {
    world::run(51, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;
        simulation.fault(Operation::ClusterRequest, "", Fault::Hang);
        let silent = |cluster: &Cluster| {
            condition(cluster, conditions::CONTROL_PLANE_READY) == "Unknown/ApiSilent"
                && condition(cluster, conditions::READY) == "Unknown/ApiSilent"
        };
        simulation.until_cluster("dev", "silent", Duration::from_secs(30), silent).await;
        tokio::time::sleep(Duration::from_secs(1800)).await;
        assert_eq!(containers(&simulation).await, before, "unknown is never different");
        assert!(silent(&simulation.cluster("dev").await));

        simulation.no_more_faults();
        simulation.until_ready("dev", 2, Duration::from_secs(30)).await;
        assert_eq!(containers(&simulation).await, before);
        simulation
    });
}

#[test]
fn an_api_server_that_never_answers_is_told_also_while_a_cluster_comes_up() {
    world::run(52, |mut simulation: Simulation| async move {
        simulation.fault(Operation::ClusterRequest, "", Fault::Hang);
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation
            .until_cluster("dev", "silent", SOON, |cluster| {
                condition(cluster, conditions::CONTROL_PLANE_READY) == "Unknown/ApiSilent"
            })
            .await;
        simulation.no_more_faults();
        simulation.until_ready("dev", 1, Duration::from_secs(60)).await;
        simulation
    });
}

/// Deletes a Node as somebody with kubectl does.
async fn delete_node(simulation: &Simulation, cluster: &str, node: &str) {
    let nodes: Api<Node> = Api::all(simulation.cluster_client(cluster).await);
    nodes.delete(node, &DeleteParams::default()).await.unwrap();
}

#[test]
fn a_node_that_somebody_deleted_comes_back_as_it_was() {
    world::run(53, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, "      labels: { tier: apps }\n"));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;
        for name in ["dev-pool-0", "dev-control-plane-0"] {
            let labels = |nodes: Vec<Node>| -> BTreeMap<String, BTreeMap<String, String>> {
                nodes.into_iter().map(|node| (node.name_any(), node.labels().clone())).collect()
            };
            let labelled = labels(simulation.nodes("dev").await);
            delete_node(&simulation, "dev", name).await;
            let drifted = simulation
                .until_cluster("dev", "drifted", SOON, |cluster| {
                    cluster.status.as_ref().is_some_and(|status| !status.drift.is_empty())
                })
                .await;
            let finding = drifted.status.unwrap().drift.remove(0);
            assert_eq!((finding.object.as_str(), finding.action.as_str()), (&*format!("node {name}"), "restarting"));
            simulation.until_ready("dev", 2, Duration::from_secs(60)).await;
            assert_eq!(labels(simulation.nodes("dev").await), labelled);
        }
        assert_eq!(containers(&simulation).await, before, "a kubelet is restarted, not a container");
        simulation
    });
}

#[test]
fn a_deleted_node_is_only_told_where_drift_is_audited() {
    world::run(54, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, "  drift: { mode: Audit }\n"));
        simulation.until_ready("dev", 2, SOON).await;
        delete_node(&simulation, "dev", "dev-pool-0").await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        let drift = simulation.cluster("dev").await.status.unwrap().drift;
        assert_eq!((drift[0].object.as_str(), drift[0].action.as_str()), ("node dev-pool-0", "reported"));
        assert_eq!(simulation.nodes("dev").await.len(), 1);
        simulation
    });
}

#[test]
fn a_kubelet_that_died_is_started_again_in_time() {
    world::run(55, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 2, ""));
        simulation.until_ready("dev", 3, SOON).await;
        let before = containers(&simulation).await;
        simulation.hands().stop_kubelet("dev-pool-1").unwrap();
        simulation
            .until_machine("dev-pool-1", SOON, |machine| {
                let status = machine.status.clone().unwrap_or_default();
                status.waiting.is_some_and(|waiting| waiting.reason == "NodeNotReady")
            })
            .await;
        simulation.until_ready("dev", 3, Duration::from_secs(240)).await;
        assert_eq!(containers(&simulation).await, before);
        simulation
    });
}

const KUBECONFIG: &str = "/home/me/.kube/config";

/// The one finding of a cluster's status: object, observed, action.
fn only_finding(cluster: &Cluster) -> Option<(String, String, String)> {
    match cluster.status.as_ref()?.drift.as_slice() {
        [one] => Some((one.object.clone(), one.observed.clone(), one.action.clone())),
        _ => None,
    }
}

#[test]
fn a_context_that_somebody_removed_or_changed_is_written_again_and_nothing_else_is_touched() {
    world::run(56, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, ""));
        simulation.write("other.yaml", &manifest("other", 0, ""));
        simulation.until_ready("dev", 1, SOON).await;
        simulation.until_ready("other", 1, SOON).await;
        let path = Path::new(KUBECONFIG);
        let written = simulation.read(path);
        let foreign = "apiVersion: v1\nkind: Config\nclusters:\n- name: mine\n  cluster: {server: \"https://a:1\"}\n";
        simulation.replace(path, foreign);
        simulation
            .until_text(path, Duration::from_secs(20), |text| {
                text.contains("name: kina-dev") && text.contains("name: kina-other")
            })
            .await;
        let repaired = simulation.read(path);
        assert!(repaired.contains("name: mine") && !repaired.contains("current-context: kina"), "{repaired}");

        let server = simulation.cluster("dev").await.status.unwrap().endpoint.unwrap();
        simulation.replace(path, &written.replace(&server, "https://127.0.0.1:1"));
        simulation.until_text(path, Duration::from_secs(20), |text| text.contains(&server)).await;
        assert_eq!(simulation.read(path), written);
        simulation.until_cluster("dev", "as wanted", SOON, |cluster| only_finding(cluster).is_none()).await;
        simulation
    });
}

#[test]
fn a_context_that_somebody_removed_is_only_told_where_drift_is_audited_also_after_a_restart() {
    world::run(57, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, "  drift: { mode: Audit }\n"));
        simulation.until_ready("dev", 1, SOON).await;
        let path = Path::new(KUBECONFIG);
        let written = simulation.read(path);
        simulation.replace(path, "apiVersion: v1\nkind: Config\n");
        let told = |cluster: &Cluster| {
            only_finding(cluster) == Some(("context kina-dev".into(), "gone".into(), "reported".into()))
                && condition(cluster, conditions::KUBECONFIG_READY) == "False/ContextDiffers"
        };
        simulation.until_cluster("dev", "drifted", Duration::from_secs(20), told).await;
        simulation = simulation.crash().await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert!(told(&simulation.cluster("dev").await));
        assert!(!simulation.read(path).contains("kina-dev"));
        simulation.replace(path, &written);
        simulation.until_ready("dev", 1, Duration::from_secs(20)).await;
        simulation
    });
}

/// The DaemonSet of the pod network, as somebody with kubectl reaches it.
async fn pod_network(simulation: &Simulation) -> Api<DaemonSet> {
    Api::namespaced(simulation.cluster_client("dev").await, "kube-system")
}

/// Changes the image that Kina set, and a label that it did not.
async fn meddle(simulation: &Simulation) -> String {
    let daemons = pod_network(simulation).await;
    let before = daemons.get("kindnet").await.unwrap();
    let image = |set: &DaemonSet| set.spec.clone().template.spec.unwrap().containers[0].image.clone().unwrap();
    let name = before.spec.clone().template.spec.unwrap().containers[0].name.clone();
    let patch = json!({
        "metadata": {"labels": {"team": "mine"}},
        "spec": {"template": {"spec": {"containers": [{"name": name, "image": "example.org/evil:1"}]}}},
    });
    daemons.patch("kindnet", &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
    assert_eq!(image(&daemons.get("kindnet").await.unwrap()), "example.org/evil:1");
    image(&before)
}

#[test]
fn what_kina_installed_is_restored_and_what_others_added_stays() {
    world::run(58, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let image = meddle(&simulation).await;
        let daemons = pod_network(&simulation).await;
        simulation
            .until_object(&daemons, "kindnet", Duration::from_secs(40), |set| {
                set.as_ref().is_some_and(|set| {
                    let pod = set.spec.clone().template.spec.unwrap();
                    pod.containers[0].image.as_deref() == Some(image.as_str())
                        && set.labels().get("team").is_some_and(|team| team == "mine")
                })
            })
            .await;
        daemons.delete("kindnet", &DeleteParams::default()).await.unwrap();
        simulation.until_object(&daemons, "kindnet", Duration::from_secs(40), |set| set.is_none()).await;
        simulation.until_object(&daemons, "kindnet", Duration::from_secs(40), |set| set.is_some()).await;
        let records: Api<ConfigMap> = Api::namespaced(simulation.cluster_client("dev").await, "kube-system");
        records.delete("kina-addons", &DeleteParams::default()).await.unwrap();
        simulation.until_object(&records, "kina-addons", Duration::from_secs(60), |record| record.is_some()).await;
        simulation.until_ready("dev", 2, SOON).await;
        simulation.until_cluster("dev", "as wanted", SOON, |cluster| only_finding(cluster).is_none()).await;
        let before = simulation.quiet_marks().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(simulation.quiet_marks().await, before);
        simulation
    });
}

#[test]
fn what_kina_installed_is_only_told_where_drift_is_audited_also_after_a_restart() {
    world::run(59, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 0, "  drift: { mode: Audit }\n"));
        simulation.until_ready("dev", 1, SOON).await;
        meddle(&simulation).await;
        let told = |cluster: &Cluster| {
            only_finding(cluster).is_some_and(|(object, observed, action)| {
                object == "daemonset kube-system/kindnet"
                    && observed.contains("spec.template.spec.containers[0].image")
                    && action == "reported"
            })
        };
        simulation.until_cluster("dev", "drifted", Duration::from_secs(60), told).await;
        simulation = simulation.crash().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        simulation.until_cluster("dev", "drifted", Duration::from_secs(60), told).await;
        simulation
    });
}

#[test]
fn metrics_tell_what_was_asked_of_the_world_and_what_was_found() {
    world::run(60, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, "  drift: { mode: Audit }\n"));
        simulation.write("broken.yaml", "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nspec: []\n");
        simulation.until_ready("dev", 2, SOON).await;
        simulation.until_source(SOON, |source| source.errors > 0).await;
        simulation.hands().stop_container("dev-pool-0").unwrap();
        let drifted = |cluster: &Cluster| cluster.status.as_ref().is_some_and(|status| !status.drift.is_empty());
        simulation.until_cluster("dev", "drifted", SOON, drifted).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let text = simulation.metrics().await;
        let value = |series: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
        };
        let calls = |room: &str, operation: &str| {
            value(&format!("kina_calls_total{{room=\"{room}\",operation=\"{operation}\",outcome=\"ok\"}}"))
        };
        assert_eq!(calls("runtime", "create_container"), 3, "two machines and the load balancer");
        assert_eq!(calls("runtime", "create_network"), 1);
        assert_eq!(calls("kubeconfig", "write"), 1);
        assert!(calls("runtime", "list") > 3 && calls("cluster", "watch") >= 3 && calls("cluster", "probe") >= 1);
        let commits = calls("store", "commit");
        assert!((20..2000).contains(&commits), "{commits}");
        assert_eq!(
            value("kina_call_duration_seconds_count{room=\"store\",operation=\"commit\"}"),
            commits,
            "what is counted is timed"
        );
        assert!(value("kina_reconciles_total{controller=\"cluster\",outcome=\"ok\"}") > 5);
        assert!(value("kina_reconciles_total{controller=\"machine\",outcome=\"ok\"}") > 5);
        assert_eq!(value("kina_drift{cluster=\"dev\",layer=\"container\"}"), 1);
        assert_eq!(value("kina_drift_found_total{layer=\"container\",mode=\"audit\"}"), 1);
        assert_eq!(value("kina_source_held{source=\"clusters\"}"), 0);
        assert!(value("kina_source_errors{source=\"clusters\"}") > 0);
        simulation
    });
}
