//! kubeadm, systemd and etcd inside nodes.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchParams};
use serde_json::json;

use super::cluster::{ready, settle, whole_cluster};
use super::lab::{BALANCER, Lab, NODE, TOKEN, file, init_config, join_files};
use crate::kubeadm::stored;
use crate::runtime::sim::pki;
use crate::runtime::sim::time::At;
use crate::runtime::sim::{Latency, SimOptions};
use crate::runtime::{Labels, NodeFile, Runtime, VolumeSpec};

async fn failing(lab: &Lab, node: &str, verb: &str) -> String {
    assert_eq!(lab.bootstrap(node, verb).await.code, 0);
    assert_eq!(lab.outcome(node).await, "failed");
    lab.journal(node).await
}

async fn again(lab: &Lab, node: &str) {
    assert_eq!(lab.exec(node, &["systemctl", "reset-failed", "kina-bootstrap.service"]).await.code, 0);
}

#[tokio::test(start_paused = true)]
async fn units_go_through_the_states_that_systemd_shows() {
    let mut lab = Lab::new(SimOptions::default()).await;
    lab.load_balancer(&[10]).await;
    lab.start("cp", 10, NODE).await;
    let show = [
        "systemctl",
        "show",
        "kina-bootstrap.service",
        "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus",
    ];
    let shown = async |lab: &Lab| String::from_utf8(lab.exec("cp", &show).await.stdout).unwrap();
    assert_eq!(lab.exec("cp", &["systemctl", "is-system-running"]).await.stdout, b"starting\n");
    lab.booted("cp").await;
    assert!(shown(&lab).await.starts_with("LoadState=not-found\nActiveState=inactive\n"));
    let journal = failing(&lab, "cp", "init").await;
    assert!(journal.contains("open /kind/kubeadm.conf: no such file or directory"), "{journal}");
    assert_eq!(
        shown(&lab).await,
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=1\n"
    );
    assert_eq!(lab.exec("cp", &["systemctl", "is-system-running"]).await.stdout, b"degraded\n");
    again(&lab, "cp").await;
    lab.copy_pki("cp").await;
    lab.copy("cp", &[file("/kind/kubeadm.conf", &init_config(&[("cp", 10)]))]).await;
    assert_eq!(lab.bootstrap("cp", "init").await.code, 0);
    let second = lab.bootstrap("cp", "init").await;
    assert_eq!(second.code, 1);
    let refusal = "Failed to start transient service unit: Unit kina-bootstrap.service was already loaded or has a fragment file.\n";
    assert_eq!(String::from_utf8(second.stderr).unwrap(), refusal);
    assert!(shown(&lab).await.contains("ActiveState=activating\nSubState=start\n"));
    assert_eq!(lab.outcome("cp").await, "active");
    assert_eq!(
        shown(&lab).await,
        "LoadState=loaded\nActiveState=active\nSubState=exited\nResult=success\nExecMainStatus=0\n"
    );
    let marker = lab.sim.read_file(&lab.ids["cp"], "/etc/kubernetes/kina-bootstrapped").await.unwrap();
    assert!(marker.is_some());
    assert_eq!(lab.exec("cp", &["systemctl", "stop", "kina-bootstrap.service"]).await.code, 0);
    assert!(shown(&lab).await.starts_with("LoadState=not-found\n"));
    assert_eq!(lab.exec("cp", &["apt-get", "install", "vim"]).await.code, 127);
}

#[tokio::test(start_paused = true)]
async fn init_refuses_what_kubeadm_refuses() {
    let mut lab = Lab::zero().await;
    lab.start("cp", 10, NODE).await;
    lab.copy("cp", &[file("/kind/kubeadm.conf", "apiVersion: kubeadm.k8s.io/v1beta1\nkind: InitConfiguration\n")])
        .await;
    assert!(failing(&lab, "cp", "init").await.contains("old or unknown API spec"));
    again(&lab, "cp").await;
    lab.copy_pki("cp").await;
    lab.copy("cp", &[file("/etc/kubernetes/pki/ca.key", &lab.cas["etcd/ca"].key)]).await;
    let config = init_config(&[("cp", 10)]);
    lab.copy("cp", &[file("/kind/kubeadm.conf", &config)]).await;
    assert!(failing(&lab, "cp", "init").await.contains("the certificate and private key do not match"));
    again(&lab, "cp").await;
    lab.copy_pki("cp").await;
    lab.copy(
        "cp",
        &[file("/kind/kubeadm.conf", &config.replace("kubernetesVersion: v1.35.5", "kubernetesVersion: v1.33.0"))],
    )
    .await;
    assert!(
        failing(&lab, "cp", "init")
            .await
            .contains("only supports deploying clusters with the control plane version >= 1.34.0")
    );
    again(&lab, "cp").await;
    lab.copy("cp", &[file("/kind/kubeadm.conf", &config)]).await;
    lab.load_balancer(&[10]).await;
    assert_eq!(lab.bootstrap("cp", "init").await.code, 0);
    assert_eq!(lab.outcome("cp").await, "active");
    // With preflight, a second init finds the first.
    lab.exec("cp", &["systemctl", "stop", "kina-bootstrap.service"]).await;
    lab.copy("cp", &[file("/kind/kubeadm.conf", &config.replace("skipPhases: [preflight]\n", ""))]).await;
    let journal = failing(&lab, "cp", "init").await;
    assert!(journal.contains("FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml"), "{journal}");
    assert!(journal.contains("DirAvailable--var-lib-etcd"), "{journal}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_died_amid_init_is_half_initialised_and_init_again_completes_it() {
    let mut lab = Lab::new(SimOptions::default()).await;
    lab.load_balancer(&[10]).await;
    for steps in 1..9 {
        let name = format!("cp{steps}");
        lab.sim.hands().stop_container("dev-lb").unwrap();
        lab.sim.hands().start_container("dev-lb").unwrap();
        lab.start(&name, 10, NODE).await;
        lab.copy_pki(&name).await;
        lab.copy(&name, &[file("/kind/kubeadm.conf", &init_config(&[(&name, 10)]))]).await;
        assert_eq!(lab.bootstrap(&name, "init").await.code, 0);
        tokio::time::sleep(Duration::from_millis(200 * steps)).await;
        lab.sim.hands().stop_container(&name).unwrap();
        lab.sim.hands().start_container(&name).unwrap();
        assert_eq!(lab.outcome(&name).await, "inactive", "transient units end with the container");
        lab.copy(&name, &[file("/kind/kubeadm.conf", &init_config(&[(&name, 10)]))]).await;
        assert_eq!(lab.bootstrap(&name, "init").await.code, 0);
        assert_eq!(lab.outcome(&name).await, "active", "after {steps}: {}", lab.journal(&name).await);
        lab.sim.remove_container(&lab.ids[&name]).await.unwrap();
        lab.sim.remove_volume(&name).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn join_refuses_a_wrong_token_a_wrong_ca_and_an_endpoint_that_is_away() {
    let mut lab = whole_cluster(Latency::zero()).await;
    lab.start("w3", 13, NODE).await;
    let (ca, other) = (&lab.cas["ca"].certificate, &lab.cas["etcd/ca"].certificate);
    let refused = async |files: &[NodeFile], words: &str| {
        lab.copy("w3", files).await;
        let begun = tokio::time::Instant::now();
        let journal = failing(&lab, "w3", "join").await;
        assert!(journal.contains(words), "{journal}");
        again(&lab, "w3").await;
        begun.elapsed()
    };
    let within = Duration::from_secs(300);
    let join = |ca: &str, token: &str| join_files("dev-lb", ca, token, false);
    let unknown = "x509: certificate signed by unknown authority";
    assert!(refused(&join(other, TOKEN), unknown).await >= within, "kubeadm gives up after its own timeout");
    assert!(refused(&join(ca, "abcdef.ffffffffffffffff"), "Unauthorized").await >= within);
    assert!(refused(&join(ca, "ffffff.0123456789abcdef"), "Unauthorized").await >= within);
    let [config, _] = join(ca, TOKEN);
    refused(&[config, file("/kind/discovery.conf", "{}")], "couldn't find authentication credentials").await;
    lab.sim.hands().stop_container("dev-lb").unwrap();
    lab.copy("w3", &join(ca, TOKEN)).await;
    assert_eq!(lab.bootstrap("w3", "join").await.code, 0);
    settle(60).await;
    assert_eq!(lab.exec("w3", &["systemctl", "is-active", "kina-bootstrap"]).await.stdout, b"activating\n");
    lab.sim.hands().start_container("dev-lb").unwrap();
    assert_eq!(lab.outcome("w3").await, "active", "an endpoint that comes back in time is found");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_until_it_expires() {
    let mut lab = whole_cluster(Latency::zero()).await;
    settle(25 * 3600).await;
    lab.start("w3", 13, NODE).await;
    lab.copy("w3", &lab.join_files(false)).await;
    assert!(failing(&lab, "w3", "join").await.contains("Unauthorized"));
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_ready_node_is_refused_and_that_of_a_deleted_one_is_not() {
    let mut lab = whole_cluster(Latency::zero()).await;
    lab.sim.remove_container(&lab.ids["w1"]).await.unwrap();
    lab.sim.remove_volume("w1").await.unwrap();
    lab.start("w1", 11, NODE).await;
    lab.copy("w1", &lab.join_files(false)).await;
    assert!(failing(&lab, "w1", "join").await.contains("a Node with name \"w1\" and status \"Ready\" already exists"));
    again(&lab, "w1").await;
    let nodes: Api<Node> = Api::all(lab.client().await);
    nodes.delete("w1", &DeleteParams::default()).await.unwrap();
    assert_eq!(lab.bootstrap("w1", "join").await.code, 0);
    assert_eq!(lab.outcome("w1").await, "active");
    settle(5).await;
    assert_eq!(ready(&lab.client().await).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_container_made_anew_over_its_volume_is_the_same_node() {
    let mut lab = whole_cluster(Latency::small()).await;
    let nodes: Api<Node> = Api::all(lab.client().await);
    let mut before = Vec::new();
    for name in ["cp", "w1"] {
        before.push(nodes.get(name).await.unwrap().metadata.uid);
    }
    for (name, address) in [("w1", 11), ("cp", 10)] {
        lab.sim.remove_container(&lab.ids[name]).await.unwrap();
        lab.start(name, address, NODE).await;
        settle(15).await;
    }
    assert_eq!(ready(&lab.client().await).await, ["cp", "w1", "w2"]);
    assert_eq!(before, [nodes.get("cp").await.unwrap().metadata.uid, nodes.get("w1").await.unwrap().metadata.uid]);
}

#[tokio::test(start_paused = true)]
async fn three_control_planes_form_one_cluster_that_answers_while_a_majority_runs() {
    let mut lab = Lab::new(SimOptions::default()).await;
    lab.cluster(&[("a", 10), ("b", 11), ("c", 12)], &[("w", 13)]).await;
    lab.apply_manifest("a", "/kind/manifests/default-cni.yaml").await;
    settle(20).await;
    let client = lab.client().await;
    assert_eq!(ready(&client).await, ["a", "b", "c", "w"]);
    lab.sim.hands().stop_container("a").unwrap();
    settle(45).await;
    assert_eq!(ready(&client).await, ["b", "c", "w"]);
    lab.sim.hands().stop_container("b").unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    assert!(nodes.list(&ListParams::default()).await.is_err(), "one of three is no majority");
    lab.sim.hands().start_container("a").unwrap();
    settle(45).await;
    assert_eq!(ready(&client).await, ["a", "c", "w"]);
    // A member whose data are lost cannot just start again.
    lab.sim.remove_container(&lab.ids["b"]).await.unwrap();
    lab.sim.remove_volume("b").await.unwrap();
    lab.start("b", 11, NODE).await;
    lab.copy_pki("b").await;
    lab.copy("b", &[file("/kind/kubeadm.conf", &init_config(&[("a", 10), ("b", 11), ("c", 12)]))]).await;
    let journal = failing(&lab, "b", "init").await;
    assert!(journal.contains("member b has already been bootstrapped"), "{journal}");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_joins_and_leaves_a_living_cluster() {
    let mut lab = Lab::new(SimOptions::default()).await;
    lab.cluster(&[("a", 10)], &[]).await;
    let members = |lab: &Lab| lab.sim.core.read(|state| state.etcd.values().next().unwrap().members.len());
    lab.start("b", 11, NODE).await;
    lab.copy("b", &lab.join_files(true)).await;
    assert!(failing(&lab, "b", "join").await.contains("couldn't load the certificate file /etc/kubernetes/pki/ca.crt"));
    again(&lab, "b").await;
    lab.copy_pki("b").await;
    // What the first members were told of each other goes before what kubeadm computes for this one.
    let maps: Api<ConfigMap> = Api::namespaced(lab.client().await, "kube-system");
    let map = maps.get(stored::CONFIG_MAP).await.unwrap();
    let without = stored::without_first_members(&map.data.unwrap()[stored::KEY]).unwrap().unwrap();
    let patch = Patch::Merge(json!({ "data": { stored::KEY: without } }));
    maps.patch(stored::CONFIG_MAP, &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(lab.bootstrap("b", "join").await.code, 0);
    assert_eq!(lab.outcome("b").await, "active", "{}", lab.journal("b").await);
    assert_eq!(members(&lab), 2);
    let nodes: Api<Node> = Api::all(lab.client().await);
    let labels = nodes.get("b").await.unwrap().metadata.labels.unwrap();
    assert!(labels.contains_key("node-role.kubernetes.io/control-plane"));
    let reset = [
        "systemd-run",
        "--unit=kina-reset",
        "--property=Type=oneshot",
        "--property=RemainAfterExit=yes",
        "--no-block",
        "--",
        "kubeadm",
        "reset",
        "--force",
    ];
    assert_eq!(lab.exec("b", &reset).await.code, 0);
    settle(5).await;
    assert_eq!(members(&lab), 1);
    assert!(lab.sim.read_file(&lab.ids["b"], "/etc/kubernetes/admin.conf").await.unwrap().is_none());
    assert!(nodes.get("a").await.is_ok(), "the remaining member is its own majority");
}

#[tokio::test(start_paused = true)]
async fn the_server_shows_a_certificate_of_its_ca_and_hears_clients_of_it_only() {
    let mut lab = Lab::zero().await;
    lab.cluster(&[("cp", 10)], &[]).await;
    let now = At::of(lab.world.clock.now());
    let list = async |access| {
        let nodes: Api<Node> = Api::all(lab.sim.connector().connect(&access).await.unwrap());
        nodes.list(&ListParams::default()).await
    };
    assert_eq!(list(lab.access()).await.unwrap().items.len(), 1);
    let other = pki::new_ca("kubernetes", now).unwrap();
    let mut access = lab.access();
    access.ca_certificate.clone_from(&other.certificate);
    assert!(
        matches!(list(access).await, Err(kube::Error::Service(error)) if error.to_string().contains("invalid peer certificate"))
    );
    let request = pki::Request { name: "eve", organisations: &["system:masters"], alternative_names: &[] };
    let eve = pki::issue(&other, request, now).unwrap();
    let mut access = lab.access();
    (access.client_certificate, access.client_key) = (eve.certificate, eve.key);
    assert!(matches!(list(access).await, Err(kube::Error::Api(status)) if status.code == 401));
    let request = pki::Request { organisations: &["developers"], ..request };
    let dev = pki::issue(&lab.cas["ca"], request, now).unwrap();
    let mut access = lab.access();
    (access.client_certificate, access.client_key) = (dev.certificate.clone(), dev.key);
    assert!(matches!(list(access.clone()).await, Err(kube::Error::Api(status)) if status.code == 403));
    access.client_key.clone_from(&lab.cas["ca"].key);
    assert!(lab.sim.connector().connect(&access).await.is_err(), "a key that is not the certificate's");
}

#[tokio::test(start_paused = true)]
async fn a_watch_breaks_when_the_load_balancer_or_the_server_goes_away() {
    let mut lab = Lab::zero().await;
    lab.cluster(&[("cp", 10)], &[]).await;
    let nodes: Api<Node> = Api::all(lab.client().await);
    for broken in ["dev-lb", "cp"] {
        let mut watch = nodes.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        assert!(watch.next().await.unwrap().is_ok());
        lab.sim.hands().stop_container(broken).unwrap();
        let end = tokio::time::timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = watch.next().await {} });
        end.await.expect("the watch ends");
        assert!(nodes.list(&ListParams::default()).await.is_err());
        lab.sim.hands().start_container(broken).unwrap();
        settle(5).await;
        assert!(nodes.list(&ListParams::default()).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_what_happens_beside_it() {
    let mut lab = Lab::zero().await;
    lab.cluster(&[("cp", 10)], &[("w1", 11)]).await;
    let nodes: Api<Node> = Api::all(lab.client().await);
    let mut watch = nodes.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    lab.sim.hands().stop_container("w1").unwrap();
    lab.copy("dev-lb", &[file("/kina/balancer/backends", "10.160.0.10\n10.160.0.12\nend\n")]).await;
    lab.start("w2", 12, NODE).await;
    let later = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(event) = watch.next().await {
            event.expect("no break");
        }
    });
    assert!(later.await.is_err(), "it ended");
}

#[tokio::test(start_paused = true)]
async fn what_a_cluster_held_goes_with_its_last_volume() {
    let mut lab = whole_cluster(Latency::zero()).await;
    let tenant = lab.sim.core.read(|state| state.etcd.keys().next().unwrap().clone());
    for name in ["cp", "w1", "w2", "dev-lb"] {
        lab.sim.remove_container(&lab.ids[name]).await.unwrap();
    }
    settle(1).await;
    assert_eq!(lab.sim.core.read(|state| state.etcd.len()), 1, "the volume still holds it");
    lab.sim.remove_volume("cp").await.unwrap();
    settle(1).await;
    assert_eq!(lab.sim.core.read(|state| state.etcd.len()), 0);
    assert_eq!(lab.sim.clusters.objects_of(&tenant).await, 0);
    // The same names and the same CA again: a new cluster, empty.
    lab.sim.remove_volume("w1").await.unwrap();
    lab.sim.remove_volume("w2").await.unwrap();
    lab.cluster(&[("cp", 10)], &[]).await;
    let nodes: Api<Node> = Api::all(lab.client().await);
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_without_its_script_refuses() {
    let mut lab = Lab::zero().await;
    lab.start("dev-lb", 2, BALANCER).await;
    let nodes: Api<Node> = Api::all(lab.client().await);
    assert!(nodes.list(&ListParams::default()).await.is_err());
    let volume = VolumeSpec { name: "x".into(), labels: Labels::new() };
    lab.sim.create_volume(&volume).await.unwrap();
}
