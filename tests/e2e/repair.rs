//! What is broken behind Kina's back is mended.

use std::process::Command;

use super::lab::{Lab, SINGLE, Shape, THREE, docker};

#[test]
fn nodes_that_are_stopped_start_again_and_those_that_are_gone_are_replaced_with_their_data() {
    let Some(lab) = Lab::open("mend") else { return };
    lab.declare(Shape { workers: 1, ..THREE });
    lab.settled(2);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    for broken in [
        ["kill", "mend-default-0"].as_slice(),
        &["rm", "--force", "mend-default-0"],
        &["kill", "mend-control-plane-0"],
        &["rm", "--force", "mend-control-plane-0"],
        &["rm", "--force", "mend-lb"],
    ] {
        docker(broken).unwrap();
        lab.running(&["mend-default-0", "mend-control-plane-0", "mend-lb"]);
        lab.settled(2);
        assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value", "after {broken:?}");
    }
    lab.remove();
}

#[test]
fn a_network_that_is_gone_is_made_again_and_the_cluster_with_its_data_is_back() {
    let Some(lab) = Lab::open("net") else { return };
    lab.declare(SINGLE);
    lab.settled(1);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    for container in ["net-lb", "net-control-plane-0"] {
        docker(&["network", "disconnect", "--force", "kina-net", container]).unwrap();
    }
    docker(&["network", "rm", "kina-net"]).unwrap();
    lab.running(&["net-lb", "net-control-plane-0"]);
    lab.settled(1);
    assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value");
    lab.remove();
}

#[test]
fn everything_stopped_at_once_as_by_a_reboot_comes_back() {
    let Some(lab) = Lab::open("reboot") else { return };
    lab.declare(Shape { control_planes: 3, ..SINGLE });
    lab.settled(3);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    let all = ["reboot-control-plane-0", "reboot-control-plane-1", "reboot-control-plane-2", "reboot-lb"];
    docker(&[["kill"].as_slice(), &all].concat()).unwrap();
    lab.running(&all);
    lab.settled(3);
    assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value");
    lab.remove();
}

#[test]
fn a_kina_killed_amid_the_making_and_amid_the_deletion_leaves_nothing_in_the_end() {
    let Some(mut lab) = Lab::open("crash") else { return };
    lab.declare(Shape { workers: 1, ..THREE });
    lab.kina(&["wait", "--for=create", "machine/crash-default-0", "--timeout=300s"]);
    lab.kill();
    lab.serve();
    lab.kina(&["wait", "--for=condition=Bootstrapped", "machine/crash-control-plane-0", "--timeout=300s"]);
    lab.kill();
    lab.serve();
    lab.settled(2);
    lab.begin_removal();
    lab.kill();
    lab.serve();
    lab.removed();
}

/// Only where `KINA_E2E_ENGINE_CRASH` says how the engine is killed and started again: others may have containers on it.
#[test]
fn an_engine_killed_amid_the_making_and_amid_the_deletion_leaves_nothing_in_the_end() {
    let Ok(crash) = std::env::var("KINA_E2E_ENGINE_CRASH") else {
        eprintln!("SKIPPED, an engine that is killed: `KINA_E2E_ENGINE_CRASH` is the command that kills and starts it");
        return;
    };
    let Some(lab) = Lab::open("engine") else { return };
    let crash = || assert!(Command::new("sh").args(["-c", &crash]).status().unwrap().success(), "{crash}");
    lab.declare(Shape { workers: 1, ..THREE });
    lab.kina(&["wait", "--for=create", "machine/engine-default-0", "--timeout=300s"]);
    crash();
    lab.running(&["engine-control-plane-0"]);
    crash();
    lab.settled(2);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    crash();
    lab.running(&["engine-control-plane-0", "engine-default-0", "engine-lb"]);
    lab.settled(2);
    assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value");
    lab.begin_removal();
    crash();
    lab.removed();
}
