//! A whole Kina in one thread, in virtual time, from one seed: no sockets, no disk, no threads.
//!
//! Every run has a fresh thread of its own, since the standard library keeps per-thread hash keys. The first test is the
//! one that all others rest on: the same seed gives the same run, call by call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may"
)]

mod addons;
mod adoption;
mod backend;
mod drift;
mod entropy;
mod families;
mod faults;
mod faults_tests;
mod moving;
mod node_settings;
mod routed;
mod single_node;
mod stories;
mod world;

use std::time::Duration;

use world::{Run, Simulation};

/// As the program itself has it: a long search is processor time, and much of that is allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of the meta-test. A leak of entropy or of real time shows within a few.
const SEEDS: std::ops::Range<u64> = 1..9;

const DEV: &str = "
apiVersion: kina.dev/v1alpha1
kind: Cluster
metadata:
  name: dev
spec:
  workers:
    - name: default
      replicas: 2
";

const HA: &str = "
apiVersion: kina.dev/v1alpha1
kind: Cluster
metadata:
  name: ha
spec:
  controlPlane:
    replicas: 3
";

#[test]
fn one_seed_gives_one_run() {
    for seed in SEEDS {
        let (first, second) = (life_of_two_clusters(seed), life_of_two_clusters(seed));
        if first.trace != second.trace {
            let at = first.trace.iter().zip(&second.trace).position(|(left, right)| left != right);
            let at = at.unwrap_or_else(|| first.trace.len().min(second.trace.len()));
            let around = |run: &Run| run.trace[at.saturating_sub(3)..run.trace.len().min(at + 3)].join("\n  ");
            panic!(
                "seed {seed} gave two runs, parting at step {at}:\n  {}\nand\n  {}",
                around(&first),
                around(&second)
            );
        }
    }
}

#[test]
fn another_seed_gives_another_run_with_the_same_end() {
    let (left, right) = (life_of_two_clusters(1), life_of_two_clusters(2));
    assert_ne!(left.trace, right.trace);
    assert_eq!(left.left_behind, Vec::<String>::new());
    assert_eq!(right.left_behind, Vec::<String>::new());
}

/// Two files come, one is changed, both go: Ready in between, nothing left in the end.
fn life_of_two_clusters(seed: u64) -> Run {
    world::run(seed, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", DEV);
        simulation.write("ha.yaml", HA);
        simulation.until_ready("dev", 3, Duration::from_secs(120)).await;
        simulation.until_ready("ha", 3, Duration::from_secs(120)).await;
        simulation.write("dev.yaml", &DEV.replace("replicas: 2", "replicas: 3"));
        simulation.until_ready("dev", 4, Duration::from_secs(120)).await;
        simulation.remove("ha.yaml");
        simulation.until_gone("ha", Duration::from_secs(120)).await;
        // Two deletions within an hour are more than the budget of one.
        tokio::time::advance(Duration::from_secs(3700)).await;
        simulation.remove("dev.yaml");
        simulation.until_gone("dev", Duration::from_secs(120)).await;
        simulation
    })
}
