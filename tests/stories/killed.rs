//! `kill -9` of `kina serve` in the middle of its work, with a real process, a real disk and a real store.

use std::collections::BTreeSet;
use std::fs;

use kina::runtime::Runtime;
use kina::runtime::sim::{SimOptions, SimRuntime, SimStore};
use kina::world::World;
use serde_json::Value;

use super::environment::TestEnvironment;

/// Clusters made at once, of one control plane and one worker.
const CLUSTERS: usize = 20;
/// How often Kina is killed: at a fifth, two fifths, … of all machines having a container.
const KILLS: usize = 5;
/// Each look is a process of its own: this many take longer than twenty clusters ever should.
const LOOKS: usize = 3000;

fn machines(home: &TestEnvironment) -> Vec<Value> {
    let ran = home.kina(&["get", "machines", "-o", "json"]);
    let listed: Value = serde_json::from_str(&ran.success()).unwrap();
    listed["items"].as_array().unwrap().clone()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!((0..LOOKS).any(|_| holds()), "{what} did not happen");
}

#[test]
fn killed_five_times_amid_twenty_creations_all_are_ready_and_no_machine_is_there_twice() {
    let home = TestEnvironment::new();
    let clusters = home.path("home/.kina/clusters");
    fs::create_dir_all(&clusters).unwrap();
    for index in 0..CLUSTERS {
        let manifest = format!(
            "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: c{index}\nspec:\n  workers: [{{ name: w, replicas: 1 }}]\n"
        );
        fs::write(clusters.join(format!("c{index}.yaml")), manifest).unwrap();
    }
    for kill in 0..KILLS {
        let server = home.start(&["serve"], "Kina serves");
        let wanted = 2 * CLUSTERS * kill / KILLS;
        until("a part of the machines", || {
            machines(&home).iter().filter(|machine| machine["status"]["containerId"].is_string()).count() >= wanted
        });
        server.kill();
    }
    let server = home.start(&["serve"], "Kina serves");
    until("Ready of all", || {
        let ran = home.kina(&["get", "clusters", "-o", "json"]);
        let listed: Value = serde_json::from_str(&ran.success()).unwrap();
        let items = listed["items"].as_array().unwrap().clone();
        items.len() == CLUSTERS && items.iter().all(is_ready)
    });
    let machines = machines(&home);
    assert_eq!(machines.len(), 2 * CLUSTERS);
    let ids: BTreeSet<String> = machines.iter().map(|machine| machine["status"]["containerId"].to_string()).collect();
    assert_eq!(ids.len(), 2 * CLUSTERS, "every machine has a container of its own");
    assert_eq!(server.end(), 0);

    // What the host really has: the machines and a load balancer for each cluster, and nothing besides.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listing = runtime.block_on(async {
        let store = SimStore::File(home.path("home/.kina/sim"));
        let simulator = SimRuntime::open(World::real(), store, SimOptions::default()).unwrap();
        simulator.list().await.unwrap()
    });
    let names: BTreeSet<&str> = listing.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!((listing.containers.len(), names.len()), (3 * CLUSTERS, 3 * CLUSTERS));
    assert_eq!((listing.networks.len(), listing.volumes.len()), (CLUSTERS, 2 * CLUSTERS));
}
