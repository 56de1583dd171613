//! A cluster, as its clients see it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::lab::Lab;
use crate::runtime::Runtime;

pub async fn settle(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

pub async fn ready(client: &kube::Client) -> Vec<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let listed = nodes.list(&ListParams::default()).await.unwrap();
    let is_ready = |node: &&Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    listed.items.iter().filter(is_ready).map(|node| node.metadata.name.clone().unwrap()).collect()
}

pub async fn whole_cluster(latency: crate::runtime::sim::Latency) -> Lab {
    let options = crate::runtime::sim::SimOptions { latency, ..Default::default() };
    let mut lab = Lab::new(options).await;
    lab.cluster(&[("cp", 10)], &[("w1", 11), ("w2", 12)]).await;
    lab.apply_manifest("cp", "/kind/manifests/default-cni.yaml").await;
    lab.apply_manifest("cp", "/kind/manifests/default-storage.yaml").await;
    settle(20).await;
    lab
}

async fn small() -> Lab {
    whole_cluster(crate::runtime::sim::Latency::small()).await
}

#[tokio::test(start_paused = true)]
async fn nodes_become_ready_with_the_pod_network_and_not_before() {
    let mut lab = Lab::new(Default::default()).await;
    lab.cluster(&[("cp", 10)], &[("w1", 11)]).await;
    let client = lab.client().await;
    settle(60).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let worker = nodes.get("w1").await.unwrap();
    assert!(ready(&client).await.is_empty());
    assert_eq!(worker.metadata.labels.as_ref().unwrap()["tier"], "apps");
    let conditions = worker.status.unwrap().conditions.unwrap();
    let last = conditions.last().unwrap();
    assert_eq!((last.type_.as_str(), last.reason.as_deref()), ("Ready", Some("KubeletNotReady")));
    assert!(last.message.as_ref().unwrap().contains("cni plugin not initialized"));
    lab.apply_manifest("cp", "/kind/manifests/default-cni.yaml").await;
    settle(10).await;
    assert_eq!(ready(&client).await, ["cp", "w1"]);
    let control_plane = nodes.get("cp").await.unwrap();
    let labels = control_plane.metadata.labels.unwrap();
    assert!(labels.contains_key("node-role.kubernetes.io/control-plane") && labels["pool"] == "control-plane");
    let taints = control_plane.spec.unwrap().taints.unwrap();
    assert_eq!(taints.len(), 1);
    assert_eq!(taints[0].key, "node-role.kubernetes.io/control-plane");
}

#[tokio::test(start_paused = true)]
async fn core_dns_and_the_daemons_run_everywhere_they_should() {
    let lab = small().await;
    let client = lab.client().await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let status = deployments.get("coredns").await.unwrap().status.unwrap();
    assert_eq!((status.available_replicas, status.updated_replicas), (Some(2), Some(2)));
    let available = status.conditions.unwrap();
    assert!(available.iter().any(
        |condition| condition.type_.as_deref() == Some("Available") && condition.status.as_deref() == Some("True")
    ));
    for name in ["kube-proxy", "kindnet"] {
        let sets: Api<DaemonSet> = Api::namespaced(client.clone(), "kube-system");
        assert_eq!(sets.get(name).await.unwrap().status.unwrap().number_ready, 3, "{name}");
    }
    let pods: Api<Pod> = Api::all(client.clone());
    let listed = pods.list(&ListParams::default()).await.unwrap();
    let count = |prefix: &str| {
        listed.items.iter().filter(|pod| pod.metadata.name.as_ref().unwrap().starts_with(prefix)).count()
    };
    assert_eq!((count("kube-apiserver-cp"), count("etcd-cp"), count("coredns-")), (1, 1, 2));
    assert_eq!(count("local-path-provisioner-"), 1);
    let service: Api<Service> = Api::namespaced(client, "kube-system");
    let address = service.get("kube-dns").await.unwrap().spec.unwrap().cluster_ip;
    assert_eq!(address.as_deref(), Some("10.96.0.10"));
}

fn deployment(replicas: i32, image: &str) -> serde_json::Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
           "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}},
                                 "spec": {"containers": [{"name": "web", "image": image}]}}}})
}

async fn web_pods(client: &kube::Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.list(&ListParams::default().labels("app=web")).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_deployment_runs_rolls_scales_and_goes_with_all_that_is_its() {
    let lab = small().await;
    let client = lab.client().await;
    lab.apply(deployment(3, "nginx:1")).await;
    settle(10).await;
    let pods = web_pods(&client).await;
    let running = |pod: &Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running");
    assert!(pods.len() == 3 && pods.iter().all(running));
    assert!(pods.iter().all(|pod| pod.spec.as_ref().unwrap().node_name.as_deref().unwrap().starts_with('w')));
    lab.apply(deployment(2, "nginx:2")).await;
    settle(30).await;
    let pods = web_pods(&client).await;
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("nginx:2")));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments.delete("web", &DeleteParams::default()).await.unwrap();
    settle(30).await;
    assert!(web_pods(&client).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_template_that_comes_back_is_the_newest_revision() {
    let lab = small().await;
    let deployments: Api<Deployment> = Api::namespaced(lab.client().await, "default");
    let sets: Api<ReplicaSet> = Api::namespaced(lab.client().await, "default");
    let annotation = |annotations: Option<BTreeMap<String, String>>, name: &str| {
        annotations.unwrap_or_default().get(&format!("deployment.kubernetes.io/{name}")).cloned().unwrap_or_default()
    };
    for image in ["nginx:1", "nginx:2", "nginx:1"] {
        let mut wanted = deployment(1, image);
        wanted["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": image});
        lab.apply(wanted).await;
        settle(30).await;
    }
    // kubectl rolls back to what these say, and gives the Deployment back its annotations.
    let web = deployments.get("web").await.unwrap();
    assert_eq!(annotation(web.metadata.annotations, "revision"), "3");
    let mut found = Vec::new();
    for set in sets.list(&ListParams::default().labels("app=web")).await.unwrap().items {
        let annotations = set.metadata.annotations.unwrap_or_default();
        let past = annotation(Some(annotations.clone()), "revision-history");
        found.push((
            annotation(Some(annotations.clone()), "revision"),
            past,
            annotations["kubernetes.io/change-cause"].clone(),
        ));
    }
    found.sort();
    let wanted = [("2", "", "nginx:2"), ("3", "1", "nginx:1")];
    assert_eq!(found, wanted.map(|(number, past, why)| (number.to_owned(), past.to_owned(), why.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_ends_with_grace_and_another_comes_where_it_may() {
    let lab = small().await;
    let client = lab.client().await;
    lab.apply(deployment(2, "nginx:1")).await;
    settle(10).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let cordon = json!({"spec": {"unschedulable": true}});
    nodes.patch("w1", &PatchParams::default(), &Patch::Merge(&cordon)).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for pod in web_pods(&client).await {
        if pod.spec.unwrap().node_name.as_deref() == Some("w1") {
            pods.evict(&pod.metadata.name.unwrap(), &EvictParams::default()).await.unwrap();
        }
    }
    settle(10).await;
    let after = web_pods(&client).await;
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("w2")));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_stays_pending_and_says_why() {
    let lab = small().await;
    let client = lab.client().await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = serde_json::from_value(json!({"metadata": {"name": "lonely"}, "spec": {"nodeSelector": {"disk": "ssd"},
                                            "containers": [{"name": "a", "image": "a"}]}}))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    settle(5).await;
    let status = pods.get("lonely").await.unwrap().status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let condition = &status.conditions.unwrap()[0];
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    let nodes: Api<Node> = Api::all(pods.into_client());
    nodes
        .patch("w2", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"disk": "ssd"}}})))
        .await
        .unwrap();
    settle(5).await;
    let pods: Api<Pod> = Api::namespaced(lab.client().await, "default");
    assert_eq!(pods.get("lonely").await.unwrap().status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_everything_nothing_is_controlled_until_the_lease_of_those_before_has_run_out() {
    let lab = small().await;
    let client = lab.client().await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let renewed = async || leases.get("kube-controller-manager").await.unwrap().spec.unwrap().renew_time.unwrap().0;
    let age = async || lab.world.clock.now().duration_since(renewed().await);
    assert!(age().await <= jiff::SignedDuration::from_secs(2));
    let before = renewed().await;
    lab.sim.hands().restart_runtime(true).unwrap();
    settle(8).await;
    assert!(renewed().await.duration_since(before) <= jiff::SignedDuration::from_secs(2));
    let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}});
    let deployments: Api<Deployment> = Api::namespaced(client, "default");
    deployments.create(&PostParams::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
    settle(5).await;
    assert_eq!(replica_sets.list(&ListParams::default()).await.unwrap().items.len(), 0);
    settle(5).await;
    assert_eq!(replica_sets.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(age().await <= jiff::SignedDuration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_an_address_of_the_clusters_range() {
    let lab = small().await;
    let services: Api<Service> = Api::namespaced(lab.client().await, "default");
    let service =
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})).unwrap();
    let made = services.create(&PostParams::default(), &service).await.unwrap();
    assert_eq!(made.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.11"));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_seen_without_being_written_and_end_with_the_node() {
    let lab = small().await;
    let client = lab.client().await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let renewed = async || {
        let lease = leases.get("w1").await.unwrap();
        (lease.spec.unwrap().renew_time.unwrap().0, lease.metadata.resource_version.unwrap())
    };
    let before = renewed().await;
    settle(600).await;
    let after = renewed().await;
    assert_eq!(before.1, after.1, "no write");
    assert!(after.0.duration_since(before.0) >= jiff::SignedDuration::from_secs(590));
    assert!(lab.world.clock.now().duration_since(after.0) <= jiff::SignedDuration::from_secs(10));
    lab.sim.stop_container(&lab.ids["w1"]).await.unwrap();
    settle(35).await;
    assert_eq!(ready(&client).await.len(), 3, "within the grace it still counts as ready");
    settle(10).await;
    assert_eq!(ready(&client).await, ["cp", "w2"]);
    assert!(renewed().await.0.duration_since(after.0) <= jiff::SignedDuration::from_secs(10));
    lab.sim.start_container(&lab.ids["w1"]).await.unwrap();
    settle(10).await;
    assert_eq!(ready(&client).await.len(), 3);
    let node: Api<Node> = Api::all(client);
    assert_eq!(node.get("w1").await.unwrap().spec.unwrap().taints, None);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_lost_node_come_back_elsewhere_after_five_minutes() {
    let lab = small().await;
    let client = lab.client().await;
    lab.apply(deployment(2, "nginx:1")).await;
    settle(10).await;
    lab.sim.hands().stop_container("w1").unwrap();
    settle(330).await;
    let on_w2 = web_pods(&client)
        .await
        .iter()
        .filter(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("w2"))
        .count();
    assert_eq!(on_w2, 1, "not before their toleration ends");
    settle(30).await;
    let pods = web_pods(&client).await;
    let on_w2 = pods.iter().filter(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("w2")).count();
    assert_eq!((pods.len(), on_w2), (3, 2), "the lost pod waits for its kubelet to say that it ended");
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.delete("w1", &DeleteParams::default()).await.unwrap();
    settle(5).await;
    assert_eq!(web_pods(&client).await.len(), 2);
}

async fn allowed(client: &kube::Client, name: &str) -> (i32, i32, i32, String) {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "default");
    let status = budgets.get(name).await.unwrap().status.unwrap();
    let reason = status.conditions.unwrap_or_default().into_iter().map(|condition| condition.reason).collect();
    let count = |count: Option<i32>| count.unwrap();
    (count(status.disruptions_allowed), count(status.current_healthy), count(status.desired_healthy), reason)
}

#[tokio::test(start_paused = true)]
async fn budgets_count_what_is_healthy_and_forbid_evictions_beyond() {
    let lab = small().await;
    let client = lab.client().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "default");
    let selector = json!({"matchLabels": {"app": "web"}});
    for (name, bound) in [("number", json!({"minAvailable": 3})), ("share", json!({"maxUnavailable": "30%"}))] {
        let mut budget = json!({"metadata": {"name": name}, "spec": bound});
        budget["spec"]["selector"] = selector.clone();
        budgets.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
    }
    settle(5).await;
    assert_eq!(allowed(&client, "share").await, (0, 0, 0, "InsufficientPods".to_owned()), "there are no pods yet");
    lab.apply(deployment(4, "nginx:1")).await;
    settle(10).await;
    assert_eq!(allowed(&client, "number").await, (1, 4, 3, "SufficientPods".to_owned()));
    // 30 % of four, rounded up.
    assert_eq!(allowed(&client, "share").await, (2, 4, 2, "SufficientPods".to_owned()));
    budgets.delete("share", &DeleteParams::default()).await.unwrap();

    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let names: Vec<String> = web_pods(&client).await.into_iter().filter_map(|pod| pod.metadata.name).collect();
    pods.evict(&names[0], &EvictParams::default()).await.unwrap();
    let refused = pods.evict(&names[1], &EvictParams::default()).await;
    let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(status.details.unwrap().causes[0].reason, "DisruptionBudget");
    settle(10).await;
    // Another pod has come in the place of the one that went.
    assert_eq!(allowed(&client, "number").await, (1, 4, 3, "SufficientPods".to_owned()));
    pods.evict(&names[1], &EvictParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_says_which_kubernetes_it_is() {
    let lab = small().await;
    let version = lab.client().await.apiserver_version().await.unwrap();
    assert_eq!((version.git_version.as_str(), version.minor.as_str()), ("v1.35.5", "35"));
}
