//! The world over restarts of Kina.

use std::time::Duration;

use super::cluster::{ready, settle};
use super::lab::{Lab, NODE, drive, file, init_config, world};
use crate::runtime::Runtime;
use crate::runtime::sim::{Latency, SimOptions, SimRuntime, SimStore};

#[tokio::test(start_paused = true)]
async fn a_world_in_a_file_goes_on_where_it_stopped_at_any_time() {
    // A kill after so many milliseconds: amid a pull, a boot, an init, a join, before and after readiness.
    for kill in [1, 300, 900, 1_400, 1_900, 2_400, 2_900, 3_400, 4_000, 5_000, 6_500, 9_000] {
        let home = tempfile::tempdir().unwrap();
        let store = SimStore::File(home.path().join("sim"));
        let world = world();
        let sim = SimRuntime::open(world.clone(), store.clone(), SimOptions::default()).unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(kill), build(Lab::bare(sim, world.clone()))).await;
        // `build` was dropped with all that it held.
        let mut sim = SimRuntime::open(world.clone(), store.clone(), SimOptions::default());
        for _ in 0..100 {
            if sim.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
            sim = SimRuntime::open(world.clone(), store.clone(), SimOptions::default());
        }
        let lab = build(Lab::bare(sim.unwrap(), world)).await;
        settle(15).await;
        assert_eq!(ready(&lab.client().await).await, ["cp", "w"], "killed after {kill} ms");
        let listing = lab.sim.list().await.unwrap();
        assert_eq!((listing.containers.len(), listing.networks.len(), listing.volumes.len()), (3, 1, 2));
    }
}

/// Makes a cluster by looking what is there first, as Kina does. The CA is the same each time.
async fn build(mut lab: Lab) -> Lab {
    lab.server = drive(&lab.sim);
    lab.furnish().await;
    lab.load_balancer(&[10]).await;
    lab.start("cp", 10, NODE).await;
    lab.start("w", 11, NODE).await;
    for (name, verb) in [("cp", "init"), ("w", "join")] {
        lab.booted(name).await;
        let marker = lab.sim.read_file(&lab.ids[name], "/etc/kubernetes/kina-bootstrapped").await.unwrap();
        if marker.is_none() {
            if verb == "init" {
                lab.copy_pki(name).await;
                lab.copy(name, &[file("/kind/kubeadm.conf", &init_config(&[("cp", 10)]))]).await;
            } else {
                lab.copy(name, &lab.join_files(false)).await;
            }
            // It may run already.
            lab.bootstrap(name, verb).await;
            assert_eq!(lab.outcome(name).await, "active", "{}", lab.journal(name).await);
        }
    }
    lab.apply_manifest("cp", "/kind/manifests/default-cni.yaml").await;
    lab
}

#[tokio::test(start_paused = true)]
async fn an_open_world_is_refused_to_a_second_process() {
    let home = tempfile::tempdir().unwrap();
    let store = SimStore::File(home.path().join("sim"));
    let options = SimOptions { latency: Latency::zero(), ..SimOptions::default() };
    let first = SimRuntime::open(world(), store.clone(), options.clone()).unwrap();
    let second = SimRuntime::open(world(), store, options);
    assert!(matches!(second, Err(crate::runtime::sim::SimError::InUse { .. })));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_is_on_the_disk_when_its_maker_is_told_and_the_rest_soon_after() {
    let home = tempfile::tempdir().unwrap();
    let options = SimOptions { latency: Latency::zero(), ..SimOptions::default() };
    let sim = SimRuntime::open(world(), SimStore::File(home.path().join("sim")), options).unwrap();
    let lab = Lab::bare(sim, world());
    lab.furnish().await;
    assert!(!lab.sim.core.is_dirty(), "nothing that was made waits for the disk");
    // An image that is pulled is not waited for: it would be pulled again.
    lab.sim.ensure_image("docker.io/kindest/node:v1.34.3").await.unwrap();
    assert!(lab.sim.core.is_dirty());
    let driven = drive(&lab.sim);
    settle(1).await;
    assert!(!lab.sim.core.is_dirty(), "the rhythm has taken it");
    driven.abort();
}

#[tokio::test(start_paused = true)]
async fn a_closed_world_is_opened_again_at_once() {
    let home = tempfile::tempdir().unwrap();
    let store = SimStore::File(home.path().join("sim"));
    let options = SimOptions { latency: Latency::zero(), ..SimOptions::default() };
    for _ in 0..3 {
        let sim = SimRuntime::open(world(), store.clone(), options.clone()).unwrap();
        sim.close().await;
        let mut raw = redb::Database::builder();
        raw.set_repair_callback(|_| panic!("it has to be repaired"));
        drop(raw.open(home.path().join("sim/clusters.redb")).unwrap());
        drop(sim);
    }
}
