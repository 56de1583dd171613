//! Containers that Docker gives another address at every start: nodes keep theirs, on top.

use std::collections::BTreeMap;

use super::lab::{Lab, SINGLE, Shape, THREE, docker};

/// What Docker says of each container.
fn below(lab: &Lab, containers: &[&str]) -> BTreeMap<String, String> {
    let format = format!("--format={{{{(index .NetworkSettings.Networks \"kina-{}\").IPAddress}}}}", lab.cluster);
    let address = |name: &&str| (name.to_string(), docker(&["inspect", &format, name]).unwrap().trim().to_owned());
    containers.iter().map(address).collect()
}

/// What Kubernetes says of each node.
fn above(lab: &Lab) -> String {
    let path =
        "-o=jsonpath={range .items[*]}{.metadata.name} {.status.addresses[?(@.type==\"InternalIP\")].address}\n{end}";
    lab.kubectl(&["get", "nodes", path])
}

/// Ends Kina as a crash would, stops all, lets others take their addresses, and starts Kina again. Tells the others.
fn shuffle(lab: &mut Lab, containers: &[&str]) -> Vec<String> {
    let before = below(lab, containers);
    let network = format!("--network=kina-{}", lab.cluster);
    lab.kill();
    docker(&[["kill"].as_slice(), containers].concat()).unwrap();
    let other = || docker(&["run", "--detach", &network, "--entrypoint=sleep", &lab.image, "3600"]).unwrap();
    let others: Vec<String> = containers.iter().map(|_| other().trim().to_owned()).collect();
    lab.serve();
    lab.running(containers);
    let after = below(lab, containers);
    assert!(before.iter().all(|(name, address)| after[name] != *address), "{before:?} {after:?}");
    others
}

fn survives(cluster: &str, shape: Shape<'_>, containers: &[&str]) {
    let Some(mut lab) = Lab::open_where_addresses_move(cluster) else { return };
    let machines = shape.control_planes + shape.workers;
    lab.declare(shape);
    lab.settled(machines);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    let stays = above(&lab);
    let subnet = lab.kina(&["get", "cluster", cluster, "-o=jsonpath={.spec.networking.nodeSubnet}"]);
    let prefix = subnet.trim().trim_end_matches("0/24").to_owned();
    assert!(stays.lines().all(|line| line.contains(&prefix)), "{stays} in {subnet}");
    let mut others = Vec::new();
    for _ in 0..2 {
        others.extend(shuffle(&mut lab, containers));
        lab.settled(machines);
        lab.kubectl(&["rollout", "status", "-n=kube-system", "deployment/coredns", "--timeout=300s"]);
        assert_eq!(above(&lab), stays);
        assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value");
    }
    for other in &others {
        docker(&["rm", "--force", other]).unwrap();
    }
    lab.remove();
}

#[test]
fn one_node_with_another_address_is_ready_again_with_its_data() {
    survives("move", SINGLE, &["move-control-plane-0", "move-lb"]);
}

#[test]
fn three_nodes_with_each_others_addresses_are_ready_again_with_their_data() {
    survives("moves", THREE, &["moves-control-plane-0", "moves-default-0", "moves-default-1", "moves-lb"]);
}
