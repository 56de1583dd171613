//! The gate, and hands behind Kina's back.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

use super::cluster::{ready, settle};
use super::lab::{self, Lab, NODE, command, file};
use crate::runtime::sim::{Fault, Gate, Latency, Lie, Operation, SimOptions, SimRuntime, SimStore};
use crate::runtime::{Cause, ContainerState, Labels, NetworkSpec, Runtime, RuntimeError, VolumeSpec};

/// One fault at the next operation of a kind, and a record of what passed.
#[derive(Debug, Default)]
struct Once {
    next: Mutex<Option<(Operation, Fault)>>,
    seen: Mutex<Vec<(Operation, String)>>,
}

impl Once {
    fn set(&self, operation: Operation, fault: Fault) {
        *self.next.lock().unwrap() = Some((operation, fault));
    }
}

impl Gate for Once {
    fn decide(&self, operation: Operation, object: &str) -> Fault {
        self.seen.lock().unwrap().push((operation, object.to_owned()));
        let mut next = self.next.lock().unwrap();
        match next.take() {
            Some((wanted, fault)) if wanted == operation => fault,
            other => {
                *next = other;
                Fault::None
            }
        }
    }
}

async fn gated() -> (Arc<Once>, Lab) {
    let gate = Arc::new(Once::default());
    let options =
        SimOptions { latency: Latency::zero(), gate: Arc::clone(&gate) as Arc<dyn Gate>, ..SimOptions::default() };
    (gate, Lab::new(options).await)
}

/// Performs an operation that has an effect or asks a question, on a world with one running and one created container.
async fn perform(lab: &Lab, operation: Operation) -> Result<(), RuntimeError> {
    let (sim, running) = (&lab.sim, &lab.ids["a"]);
    let network = NetworkSpec {
        name: "n".into(),
        subnet: Some("10.200.0.0/24".into()),
        ipv6_subnet: None,
        labels: Labels::new(),
    };
    let volume = VolumeSpec { name: "v".into(), labels: Labels::new() };
    match operation {
        Operation::Info => sim.info().await.map(drop),
        Operation::List => sim.list().await.map(drop),
        Operation::EnsureImage => sim.ensure_image("kindest/node:v1.34.0").await.map(drop),
        Operation::CreateNetwork => sim.create_network(&network).await,
        Operation::RemoveNetwork => sim.remove_network("spare").await,
        Operation::CreateVolume => sim.create_volume(&volume).await,
        Operation::RemoveVolume => sim.remove_volume("spare").await,
        Operation::CreateContainer => sim.create_container(&bare("c")).await.map(drop),
        Operation::StartContainer => sim.start_container(&lab.ids["b"]).await,
        Operation::StopContainer => sim.stop_container(running).await,
        Operation::RemoveContainer => sim.remove_container(running).await,
        Operation::Exec => sim.exec(running, &command(&["touch", "/touched"])).await.map(drop),
        Operation::CopyIn => sim.copy_in(running, &[file("/copied", "x")]).await,
        Operation::ReadFile => sim.read_file(running, "/kind/version").await.map(drop),
        Operation::Logs => sim.logs(running, 1).await.map(drop),
        Operation::ClusterRequest => Ok(()),
    }
}

fn bare(name: &str) -> crate::runtime::ContainerSpec {
    let mut spec = Lab::spec(name, 0, NODE);
    (spec.mounts, spec.address) = (Vec::new(), None);
    spec
}

/// A picture of everything that operations change.
async fn picture(lab: &Lab) -> String {
    let listing = lab.sim.list().await.unwrap();
    let mut files = Vec::new();
    for container in &listing.containers {
        for path in ["/touched", "/copied"] {
            files.push(lab.sim.read_file(&container.id, path).await.unwrap());
        }
    }
    let containers: Vec<_> = listing.containers.iter().map(|container| (&container.name, container.state)).collect();
    let images = lab.sim.core.read(|state| state.images.keys().cloned().collect::<Vec<_>>());
    format!("{containers:?} {:?} {:?} {files:?} {images:?}", listing.networks, listing.volumes)
}

async fn furnished() -> (Arc<Once>, Lab) {
    let (gate, mut lab) = gated().await;
    let hands = lab.sim.hands();
    hands
        .add_network(&NetworkSpec {
            name: "spare".into(),
            subnet: Some("10.201.0.0/24".into()),
            ipv6_subnet: None,
            labels: Labels::new(),
        })
        .unwrap();
    hands.add_volume(&VolumeSpec { name: "spare".into(), labels: Labels::new() }).unwrap();
    for name in ["a", "b"] {
        let id = hands.add_container(&bare(name)).unwrap();
        lab.ids.insert(name.into(), id);
    }
    lab.sim.hands().start_container("a").unwrap();
    (gate, lab)
}

const EFFECTS: [Operation; 11] = [
    Operation::EnsureImage,
    Operation::CreateNetwork,
    Operation::RemoveNetwork,
    Operation::CreateVolume,
    Operation::RemoveVolume,
    Operation::CreateContainer,
    Operation::StartContainer,
    Operation::StopContainer,
    Operation::RemoveContainer,
    Operation::Exec,
    Operation::CopyIn,
];

#[tokio::test(start_paused = true)]
async fn every_operation_passes_the_gate_once_and_under_its_name() {
    for operation in Operation::ALL.into_iter().filter(|operation| *operation != Operation::ClusterRequest) {
        let (gate, lab) = furnished().await;
        gate.seen.lock().unwrap().clear();
        perform(&lab, operation).await.unwrap();
        let seen = gate.seen.lock().unwrap().clone();
        assert_eq!(seen.iter().map(|(operation, _)| *operation).collect::<Vec<_>>(), [operation]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_and_a_timeout_have_no_effect_and_a_lost_reply_has_it() {
    for operation in EFFECTS {
        let (_, lab) = furnished().await;
        let untouched = picture(&lab).await;
        perform(&lab, operation).await.unwrap();
        let done = picture(&lab).await;
        assert_ne!(untouched, done, "{operation}");

        let (gate, lab) = furnished().await;
        gate.set(operation, Fault::FailBefore(Cause::Unavailable));
        assert_eq!(perform(&lab, operation).await.unwrap_err().cause, Cause::Unavailable);
        assert_eq!(picture(&lab).await, untouched, "{operation}");

        let begun = Instant::now();
        gate.set(operation, Fault::Timeout);
        assert_eq!(perform(&lab, operation).await.unwrap_err().cause, Cause::Timeout);
        assert!(begun.elapsed() >= Duration::from_secs(30), "{operation}");
        assert_eq!(picture(&lab).await, untouched, "{operation}");

        gate.set(operation, Fault::ReplyLost);
        assert_eq!(perform(&lab, operation).await.unwrap_err().cause, Cause::Unknown);
        assert_eq!(picture(&lab).await, done, "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_operation_takes_its_time_and_a_hanging_one_never_ends() {
    for operation in EFFECTS {
        let (gate, lab) = furnished().await;
        let untouched = picture(&lab).await;
        gate.set(operation, Fault::Hang);
        let hanging = tokio::time::timeout(Duration::from_secs(25), perform(&lab, operation)).await;
        assert!(hanging.is_err(), "{operation}");
        assert_eq!(picture(&lab).await, untouched, "{operation}");
        let begun = Instant::now();
        gate.set(operation, Fault::Slow(Duration::from_secs(7)));
        perform(&lab, operation).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(7), "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn lies_are_told_where_they_fit() {
    let (gate, lab) = furnished().await;
    let before = lab.sim.list().await.unwrap();
    lab.sim.hands().remove_container("b").unwrap();
    gate.set(Operation::List, Fault::Lie(Lie::StaleList));
    let stale = lab.sim.list().await.unwrap();
    assert_eq!(stale.containers, before.containers);
    assert_eq!(lab.sim.list().await.unwrap().containers.len(), 1);
    gate.set(Operation::StopContainer, Fault::Lie(Lie::StopNoop));
    lab.sim.stop_container(&lab.ids["a"]).await.unwrap();
    assert_eq!(lab.sim.list().await.unwrap().containers[0].state, ContainerState::Running);
    gate.set(Operation::StopContainer, Fault::Lie(Lie::StaleList));
    lab.sim.stop_container(&lab.ids["a"]).await.unwrap();
    assert!(matches!(lab.sim.list().await.unwrap().containers[0].state, ContainerState::Stopped { .. }));
}

#[tokio::test(start_paused = true)]
async fn requests_to_clusters_pass_the_gate_too() {
    let (gate, mut lab) = gated().await;
    lab.cluster(&[("cp", 10)], &[]).await;
    let client = lab.client().await;
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(client);
    let named = |name: &str| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    for fault in [Fault::FailBefore(Cause::Unavailable), Fault::Timeout] {
        gate.set(Operation::ClusterRequest, fault);
        assert!(matches!(maps.create(&PostParams::default(), &named("a")).await, Err(kube::Error::Service(_))));
        assert!(maps.get_opt("a").await.unwrap().is_none());
    }
    gate.set(Operation::ClusterRequest, Fault::ReplyLost);
    assert!(maps.create(&PostParams::default(), &named("a")).await.is_err());
    assert!(maps.get_opt("a").await.unwrap().is_some());
    let seen = gate.seen.lock().unwrap();
    let post = "POST https://127.0.0.1:40001/api/v1/namespaces/default/configmaps";
    assert!(
        seen.iter().any(|(operation, object)| *operation == Operation::ClusterRequest && object == post),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_effect_is_most_of_an_operations_time() {
    let sim = SimRuntime::open(lab::world(), SimStore::Memory, SimOptions::default()).unwrap();
    let spec = VolumeSpec { name: "v".into(), labels: Labels::new() };
    // Whoever goes away early leaves nothing, whoever goes away late leaves the effect.
    assert!(tokio::time::timeout(Duration::from_millis(2), sim.create_volume(&spec)).await.is_err());
    assert!(sim.list().await.unwrap().volumes.is_empty());
    assert!(tokio::time::timeout(Duration::from_micros(8500), sim.create_volume(&spec)).await.is_err());
    assert_eq!(sim.list().await.unwrap().volumes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_networks_of_one_name_are_possible_where_asked_for_and_then_ambiguous() {
    let options = SimOptions { duplicate_network_names: true, latency: Latency::zero(), ..SimOptions::default() };
    let sim = SimRuntime::open(lab::world(), SimStore::Memory, options).unwrap();
    for third in 1..=2 {
        let spec = NetworkSpec {
            name: "n".into(),
            subnet: Some(format!("10.1.{third}.0/24")),
            ipv6_subnet: None,
            labels: Labels::new(),
        };
        sim.create_network(&spec).await.unwrap();
    }
    assert_eq!(sim.list().await.unwrap().networks.len(), 2);
    assert_eq!(sim.remove_network("n").await.unwrap_err().cause, Cause::Conflict);
}

#[tokio::test(start_paused = true)]
async fn hands_behind_kinas_back_are_seen_in_the_next_listing() {
    let (_, lab) = furnished().await;
    let hands = lab.sim.hands();
    hands.alter_container("a", |spec| spec.image = "foreign/node:v1.33.0".into()).unwrap();
    hands.alter_network("spare", |spec| spec.subnet = Some("10.202.0.0/24".into())).unwrap();
    hands.stop_container("a").unwrap();
    hands.remove_volume("spare").unwrap();
    let listing = lab.sim.list().await.unwrap();
    assert_eq!(listing.containers[0].image, "foreign/node:v1.33.0");
    assert_eq!(listing.containers[0].state, ContainerState::Stopped { exit_code: Some(137) });
    assert!(listing.volumes.is_empty());
    assert!(listing.networks.iter().any(|network| network.subnet.as_deref() == Some("10.202.0.0/24")));
    assert!(hands.stop_container("nobody").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_runtime_ends_in_the_same_cluster() {
    let lab = super::cluster::whole_cluster(Latency::small()).await;
    let client = lab.client().await;
    lab.sim.hands().restart_runtime(false).unwrap();
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::all(client.clone());
    let away = pods.list(&ListParams::default()).await.unwrap_err();
    let kube::Error::Service(source) = away else { panic!("{away}") };
    let source = source.downcast::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    for name in ["dev-lb", "cp", "w1", "w2"] {
        lab.sim.hands().start_container(name).unwrap();
    }
    settle(20).await;
    assert_eq!(ready(&client).await, ["cp", "w1", "w2"]);
    let restarted = pods.list(&ListParams::default().labels("k8s-app=kindnet")).await.unwrap();
    let counts = restarted
        .items
        .iter()
        .map(|pod| pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count);
    assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 1]);
}
