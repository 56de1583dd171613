//! Clusters where there are two runtimes, one of which may not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{House, one_worker};
use crate::api::annotations;
use crate::api::cluster::RuntimeName;
use crate::runtime::sim::{Fault, Gate, Operation, SimOptions, SimRuntime, SimStore};
use crate::runtime::{Cause, Runtime};

/// Does not answer while it is silent.
#[derive(Debug, Default)]
struct Silence(AtomicBool);

impl Gate for Silence {
    fn decide(&self, _: Operation, _: &str) -> Fault {
        if self.0.load(Ordering::Relaxed) { Fault::FailBefore(Cause::Unavailable) } else { Fault::None }
    }
}

/// A Kina with the simulator, and another one in the place of Docker.
struct Two {
    house: House,
    docker: Arc<SimRuntime>,
    silence: Arc<Silence>,
}

impl Two {
    async fn new(docker_is_silent: bool) -> Self {
        let silence = Arc::new(Silence(docker_is_silent.into()));
        let (mut docker, gate) = (None, Arc::clone(&silence));
        let house = House::with_others(SimOptions::default(), |world| {
            let options = SimOptions { gate, ..SimOptions::default() };
            let made = SimRuntime::open(world.clone(), SimStore::Memory, options).unwrap();
            let driven = Arc::clone(&made);
            tokio::spawn(async move { driven.run().await });
            docker = Some(Arc::clone(&made));
            BTreeMap::from([(RuntimeName::Docker, made as Arc<dyn Runtime>)])
        })
        .await;
        Self { house, docker: docker.unwrap(), silence }
    }

    fn docker_is_silent(&self, silent: bool) {
        self.silence.0.store(silent, Ordering::Relaxed);
    }

    async fn create(&self, runtime: &str) {
        let mut spec = one_worker();
        spec["runtime"] = Value::from(runtime);
        spec["allowRecreate"] = Value::from(true);
        self.house.create("dev", spec).await;
    }

    async fn recorded(&self) -> Option<String> {
        self.house.cluster("dev").await.annotations().get(annotations::RUNTIMES).cloned()
    }

    async fn delete(&self) {
        self.house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
    }

    /// It goes at once, and leaves nothing behind.
    async fn goes(&self) {
        self.delete().await;
        self.house.gone("dev").await;
        self.house.nothing_left().await;
    }

    /// It goes only once docker answers, and leaves nothing behind.
    async fn goes_once_docker_answers(&self) {
        self.delete().await;
        self.stays().await;
        self.docker_is_silent(false);
        self.house.until(600, "gone", async |house| house.clusters().get_opt("dev").await.unwrap().is_none()).await;
        self.house.nothing_left().await;
    }

    /// A long time passes, and the cluster is there still.
    async fn stays(&self) {
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(self.house.clusters().get_opt("dev").await.unwrap().is_some(), "it went, and nobody looked at docker");
    }

    fn is_empty(&self) -> bool {
        let listing = self.docker.hands().listing();
        listing.containers.is_empty() && listing.networks.is_empty() && listing.volumes.is_empty()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_whatever_a_runtime_says_that_it_was_never_on() {
    let two = Two::new(true).await;
    two.create("sim").await;
    two.house.ready("dev").await;
    assert_eq!(two.recorded().await.as_deref(), Some("sim"));
    two.goes().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_never_began_on_a_silent_runtime_goes() {
    let two = Two::new(true).await;
    two.create("docker").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!two.house.is_ready("dev").await);
    two.goes().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_moved_goes_though_the_runtime_that_it_left_falls_silent() {
    let two = Two::new(false).await;
    two.create("docker").await;
    two.house.ready("dev").await;
    assert_eq!(two.recorded().await.as_deref(), Some("docker"));
    two.house.patch("dev", json!({"spec": {"runtime": "sim"}})).await;
    two.house
        .until(300, "moved", async |house| {
            house.is_ready("dev").await && two.recorded().await.as_deref() == Some("sim")
        })
        .await;
    assert!(two.is_empty());
    two.house.is_quiet().await;
    two.docker_is_silent(true);
    two.goes().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_moves_stays_until_the_runtime_that_it_leaves_shows_nothing_of_it() {
    let two = Two::new(false).await;
    two.create("docker").await;
    two.house.ready("dev").await;
    two.docker_is_silent(true);
    two.house.patch("dev", json!({"spec": {"runtime": "sim"}})).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    two.goes_once_docker_answers().await;
    assert!(two.is_empty());
}

/// Of a Kina that kept no such record, or whose record somebody took away.
#[tokio::test(start_paused = true)]
async fn a_cluster_without_a_record_stays_until_every_runtime_shows_nothing_of_it() {
    let two = Two::new(true).await;
    two.create("sim").await;
    two.house.ready("dev").await;
    two.house.patch("dev", json!({"metadata": {"annotations": {annotations::RUNTIMES: null}}})).await;
    two.house.until(120, "recorded", async |_| two.recorded().await.as_deref() == Some("docker,sim")).await;
    two.goes_once_docker_answers().await;
}
