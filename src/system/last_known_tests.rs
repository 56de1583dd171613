use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::runtime::{Container, ContainerId, OwnerLabels};

const NOW: &str = "2026-01-01T01:00:00.5Z";
const INSTALLATION: &str = "0f7c9a10-aaaa";

fn machine(name: &str, runtime: &str, status: serde_json::Value) -> Machine {
    let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut all = json!({"phase": "Running", "containerId": "c1", "observedGeneration": 1,
        "conditions": [condition("Ready"), condition("NodeReady"), condition("ContainerReady"), condition("Bootstrapped")]});
    for (key, value) in status.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "ownerReferences": [
            {"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "name": "dev", "uid": "u1"}]},
        "spec": {"cluster": "dev", "pool": "default", "role": "worker", "ordinal": 0, "runtime": runtime, "image": "node",
            "kubernetesVersion": "v1.35.5", "address": "10.160.0.2", "bootstrap": {"method": "Join"}},
        "status": all}))
    .unwrap()
}

fn cluster(runtime: &str, phase: &str) -> Cluster {
    let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "AsWanted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    serde_json::from_value(
        json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "dev", "uid": "u1"},
        "spec": {"runtime": runtime},
        "status": {"phase": phase, "machines": {"desired": 2, "ready": 2, "summary": "2/2"},
            "conditions": [condition("Ready", "True"), condition("WorkersReady", "True"), condition("Drifted", "False"),
                condition("Stalled", "False")]}}),
    )
    .unwrap()
}

fn container(machine: &Machine, state: ContainerState) -> Container {
    let owner = owner(&InstallationId::parse(INSTALLATION).unwrap(), machine).unwrap();
    let labels = OwnerLabels { spec_hash: None, ..owner }.to_labels();
    Container {
        id: ContainerId("c1".into()),
        name: machine.name_any(),
        state,
        labels,
        image: "node".into(),
        network: None,
        address: None,
        ipv6_address: None,
        mounts: Vec::new(),
        host_mounts: Vec::new(),
        ports: Vec::new(),
        resources: Default::default(),
    }
}

fn sights(runtime: RuntimeName, containers: Vec<Container>) -> Sights {
    let containers = containers.into_iter().map(Arc::new).collect();
    let listing =
        Listing { began: Instant::now(), containers, networks: Vec::new(), volumes: Vec::new(), routes: Vec::new() };
    let sight = Sight::Seen { listing, ends_with_process: runtime == RuntimeName::Sim };
    Sights { installation: InstallationId::parse(INSTALLATION), hosts: [(runtime, sight)].into() }
}

/// `PHASE READY(REASON)` of the Cluster, what is waited for, and the phases of its Machines.
fn shown(sights: &Sights, mut cluster: Cluster, mut machines: Vec<Machine>) -> String {
    let now = NOW.parse().unwrap();
    sights.correct_clusters(std::slice::from_mut(&mut cluster), &machines, now);
    sights.correct_machines(&mut machines, now);
    let status = cluster.status.unwrap();
    let condition = |conditions: &[Condition], type_| {
        conditions::get(conditions, type_).map_or("-".to_owned(), |c| format!("{}({})", c.status, c.reason))
    };
    let mut lines = vec![format!(
        "{} {} workers {} drifted {} {}",
        status.phase.unwrap_or_default(),
        condition(&status.conditions, READY),
        condition(&status.conditions, WORKERS_READY),
        condition(&status.conditions, DRIFTED),
        status.machines.map(|counts| counts.summary).unwrap_or_default(),
    )];
    lines.push(status.waiting.unwrap().message);
    lines.extend(machines.iter().map(|machine| {
        let status = machine.status.clone().unwrap();
        format!(
            "{} {} container {}",
            status.phase.unwrap_or_default(),
            condition(&status.conditions, READY),
            condition(&status.conditions, CONTAINER_READY)
        )
    }));
    lines.join("\n")
}

#[test]
fn a_simulated_cluster_is_stopped_while_no_kina_runs() {
    let machines = vec![machine("dev-a-0", "sim", json!({})), machine("dev-a-1", "sim", json!({}))];
    let containers = machines.iter().map(|machine| container(machine, ContainerState::Running)).collect();
    insta::assert_snapshot!(shown(&sights(RuntimeName::Sim, containers), cluster("sim", "Running"), machines), @r"
    Stopped False(KinaNotRunning) workers Unknown(KinaNotRunning) drifted Unknown(KinaNotRunning) 0/2
    simulated clusters answer only while Kina runs (`kina serve`); last known: Running
    Stopped False(KinaNotRunning) container False(KinaNotRunning)
    Stopped False(KinaNotRunning) container False(KinaNotRunning)
    ");
}

#[test]
fn a_simulated_cluster_whose_containers_are_gone_says_that_too() {
    let machines = vec![machine("dev-a-0", "sim", json!({})), machine("dev-a-1", "sim", json!({}))];
    let containers = vec![container(&machines[0], ContainerState::Running)];
    insta::assert_snapshot!(shown(&sights(RuntimeName::Sim, containers), cluster("sim", "Running"), machines), @r"
    Stopped False(KinaNotRunning) workers Unknown(KinaNotRunning) drifted Unknown(KinaNotRunning) 0/2
    simulated clusters answer only while Kina runs (`kina serve`); 1 of 2 containers is gone; last known: Running
    Stopped False(KinaNotRunning) container False(KinaNotRunning)
    Gone False(ContainerMissing) container False(ContainerMissing)
    ");
}

#[test]
fn containers_that_run_do_not_make_a_cluster_ready() {
    let machines = vec![machine("dev-a-0", "docker", json!({})), machine("dev-a-1", "docker", json!({}))];
    let containers = machines.iter().map(|machine| container(machine, ContainerState::Running)).collect();
    insta::assert_snapshot!(shown(&sights(RuntimeName::Docker, containers), cluster("docker", "Running"), machines), @r"
    Unknown Unknown(KinaNotRunning) workers Unknown(KinaNotRunning) drifted Unknown(KinaNotRunning) 0/2
    2 of 2 containers run, and nobody looks after them until `kina serve` does; last known: Running
    Unknown Unknown(KinaNotRunning) container True(Running)
    Unknown Unknown(KinaNotRunning) container True(Running)
    ");
}

#[test]
fn stopped_and_foreign_containers_are_not_running_ones() {
    let machines = vec![machine("dev-a-0", "docker", json!({})), machine("dev-a-1", "docker", json!({}))];
    let mut foreign = container(&machines[1], ContainerState::Running);
    foreign.labels.clear();
    let containers = vec![container(&machines[0], ContainerState::Stopped { exit_code: Some(137) }), foreign];
    insta::assert_snapshot!(shown(&sights(RuntimeName::Docker, containers), cluster("docker", "Running"), machines), @r"
    Stopped False(ContainersNotRunning) workers Unknown(ContainersNotRunning) drifted Unknown(KinaNotRunning) 0/2
    1 of 2 containers has stopped; 1 of 2 containers is gone; last known: Running
    Stopped False(ContainerStopped) container False(ContainerStopped)
    Gone False(ContainerMissing) container False(ContainerMissing)
    ");
}

#[test]
fn a_runtime_that_cannot_be_looked_at_leaves_everything_unknown() {
    let machines = vec![machine("dev-a-0", "apple", json!({}))];
    insta::assert_snapshot!(shown(&Sights::default(), cluster("apple", "Running"), machines), @r"
    Unknown Unknown(RuntimeSilent) workers Unknown(RuntimeSilent) drifted Unknown(KinaNotRunning) 0/2
    apple could not be looked at (this version of Kina cannot look at apple); last known: Running
    Unknown Unknown(RuntimeSilent) container Unknown(RuntimeSilent)
    ");
}

#[test]
fn what_was_wrong_before_stays_told_and_what_was_never_made_is_not_gone() {
    let not_ready = json!([{"type": "Ready", "status": "False", "reason": "ImagePulling", "message": "pulling", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let unmade = machine("dev-a-0", "sim", json!({"phase": "Pending", "containerId": null, "conditions": not_ready}));
    let mut pending = cluster("sim", "Pending");
    let status = pending.status.as_mut().unwrap();
    status.waiting = Some(Waiting {
        reason: "MachinesJoining".into(),
        message: "1 of 1".into(),
        since: Time("2026-01-01T00:00:00Z".parse().unwrap()),
    });
    status.conditions.retain(|condition| condition.type_ != READY);
    status.conditions.extend(serde_json::from_value::<Vec<Condition>>(not_ready.clone()).unwrap());
    insta::assert_snapshot!(shown(&sights(RuntimeName::Sim, vec![]), pending, vec![unmade]), @r"
    Pending False(ImagePulling) workers Unknown(KinaNotRunning) drifted Unknown(KinaNotRunning) 0/2
    nothing happens until `kina serve` runs; last known: Pending, MachinesJoining: 1 of 1
    Pending False(ImagePulling) container -
    ");
}

#[test]
fn a_wish_that_no_kina_has_seen_yet_waits_for_one() {
    let mut new = cluster("auto", "Running");
    new.status = None;
    insta::assert_snapshot!(shown(&Sights::default(), new, vec![]), @r"
     - workers - drifted - 
    nothing happens until `kina serve` runs
    ");
}

#[test]
fn correcting_twice_changes_nothing_more() {
    let mut machines = vec![machine("dev-a-0", "sim", json!({}))];
    let sights = sights(RuntimeName::Sim, vec![container(&machines[0], ContainerState::Running)]);
    let now = NOW.parse().unwrap();
    sights.correct_machines(&mut machines, now);
    let once = machines.clone();
    sights.correct_machines(&mut machines, now);
    assert_eq!(serde_json::to_value(&once).unwrap(), serde_json::to_value(&machines).unwrap());
}
