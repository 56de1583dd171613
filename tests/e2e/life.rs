//! A cluster comes, changes with its file, and goes.

use serde_json::Value;

use super::lab::{Lab, SINGLE, Shape, THREE, docker};

/// Where nobody listens: whatever asks it for what is inside of a cluster fails.
const PROXY: &str = "http://127.0.0.1:9";

#[test]
fn a_file_becomes_a_cluster_of_one_node_that_knows_the_hosts_proxy_and_its_end_leaves_nothing() {
    let Some(lab) = Lab::open_with("one", &[("HTTP_PROXY", PROXY), ("https_proxy", PROXY)]) else { return };
    lab.declare(SINGLE);
    lab.settled(1);
    lab.kubectl(&["wait", "--for=condition=Available", "deployment/coredns", "-n=kube-system", "--timeout=10s"]);
    assert!(lab.kubectl(&["get", "--raw=/readyz"]).contains("ok"));
    let subnet = lab.kina(&["get", "cluster", "one", "-o=jsonpath={.spec.networking.nodeSubnet}"]);
    for program in ["kubelet", "containerd"] {
        let environ = format!("tr '\\0' '\\n' < /proc/$(pidof -s {program})/environ");
        let environ = lab.kina(&["exec", "one-control-plane-0", "--", "sh", "-c", &environ]);
        let is_set = |name: &str, part: &str| {
            environ.lines().any(|line| line.strip_prefix(name).is_some_and(|value| value.contains(part)))
        };
        assert!(is_set("HTTP_PROXY=", PROXY) && is_set("HTTPS_PROXY=", PROXY), "{program}: {environ}");
        assert!(is_set("NO_PROXY=", subnet.trim()) && is_set("no_proxy=", ".svc"), "{program}: {environ}");
    }
    lab.remove();
}

#[test]
fn three_control_planes_come_up_together_and_answer_without_one() {
    let Some(mut lab) = Lab::open("ha") else { return };
    lab.declare(Shape { control_planes: 3, ..SINGLE });
    lab.settled(3);
    // While nobody repairs it.
    lab.kill();
    docker(&["pause", "ha-control-plane-1"]).unwrap();
    // Whoever is sent to the one that froze waits in vain, until the load balancer has noticed.
    let answers = |timeout: &str| lab.kubectl_works(&["get", "nodes", &format!("--request-timeout={timeout}")]);
    assert!((0..20).any(|_| (0..6).all(|_| answers("10s"))), "the API answers again");
    for _ in 0..20 {
        assert!(answers("20s"), "the API answers without one of three");
    }
    lab.serve();
    lab.settled(3);
    lab.remove();
}

#[test]
fn one_control_plane_becomes_three_of_which_one_is_killed_and_one_loses_its_data_and_then_one_again() {
    let Some(mut lab) = Lab::open("grown") else { return };
    lab.declare(SINGLE);
    lab.settled(1);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    lab.declare(Shape { control_planes: 3, ..SINGLE });
    lab.settled(3);
    let members = |lab: &Lab| {
        let pki = |file: &str| format!("/etc/kubernetes/pki/etcd/{file}");
        let options = [("cacert", pki("ca.crt")), ("cert", pki("server.crt")), ("key", pki("server.key"))];
        let options = options.map(|(name, file)| format!("--{name}={file}"));
        let pod = ["exec", "-n=kube-system", "etcd-grown-control-plane-0", "--", "etcdctl", "member", "list"];
        let list = lab.kubectl(&[&pod[..], &options.each_ref().map(String::as_str)].concat());
        list.lines().filter(|line| line.contains(", started,")).count()
    };
    assert_eq!(members(&lab), 3);
    docker(&["rm", "--force", "grown-control-plane-2"]).unwrap();
    lab.until(|| docker(&["inspect", "grown-control-plane-2"]).is_some(), "made anew");
    lab.settled(3);
    assert_eq!(members(&lab), 3);
    // At once: what is made anew in between would hold its volume.
    lab.kill();
    docker(&["rm", "--force", "grown-control-plane-1"]).unwrap();
    docker(&["volume", "rm", "grown-control-plane-1"]).unwrap();
    lab.serve();
    // A minute after it was missed.
    lab.running(&["grown-control-plane-3"]);
    lab.settled(3);
    assert_eq!(members(&lab), 3);
    assert!(!lab.kubectl_works(&["get", "node", "grown-control-plane-1"]));
    lab.declare(SINGLE);
    lab.settled(1);
    assert_eq!(members(&lab), 1);
    assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value");
    lab.remove();
}

#[test]
fn a_pool_grows_and_shrinks_with_its_file_and_pods_move() {
    let Some(lab) = Lab::open("pool") else { return };
    lab.declare(Shape { workers: 1, ..THREE });
    lab.settled(2);
    lab.declare(THREE);
    lab.settled(3);
    let taint = "      taints: [{ key: apps, effect: PreferNoSchedule }]\n      labels: { tier: apps }\n";
    let before = docker(&["inspect", "--format={{.Id}}", "pool-default-0"]).unwrap();
    lab.declare(Shape { pool: taint, ..THREE });
    lab.settled(3);
    lab.kubectl(&["wait", "--for=jsonpath={.metadata.labels.tier}=apps", "node/pool-default-0", "--timeout=60s"]);
    lab.kubectl(&["wait", "--for=jsonpath={.spec.taints[0].key}=apps", "node/pool-default-1", "--timeout=60s"]);
    assert_eq!(docker(&["inspect", "--format={{.Id}}", "pool-default-0"]).unwrap(), before, "changed in place");
    lab.declare(Shape { workers: 1, ..THREE });
    lab.settled(2);
    assert!(
        docker(&["inspect", "pool-default-1"]).is_none() && docker(&["volume", "inspect", "pool-default-1"]).is_none()
    );
    lab.remove();
}

#[test]
fn a_new_mount_rolls_a_node_that_keeps_name_address_and_data() {
    let Some(lab) = Lab::open("roll") else { return };
    let shared = lab.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("greeting"), "from the host").unwrap();
    lab.declare(SINGLE);
    lab.settled(1);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    let address = |lab: &Lab| lab.object(&["node", "roll-control-plane-0"])["status"]["addresses"][0].clone();
    let (before, container) =
        (address(&lab), docker(&["inspect", "--format={{.Id}}", "roll-control-plane-0"]).unwrap());
    let mounts = format!(
        "  controlPlane: {{ replicas: 1, extraMounts: [{{ hostPath: {}, containerPath: /shared }}] }}\n",
        shared.display()
    );
    lab.declare_spec(&mounts);
    lab.settled(1);
    assert_ne!(docker(&["inspect", "--format={{.Id}}", "roll-control-plane-0"]).unwrap(), container);
    assert_eq!(docker(&["exec", "roll-control-plane-0", "cat", "/shared/greeting"]).as_deref(), Some("from the host"));
    assert_eq!(address(&lab), before);
    assert_eq!(lab.object(&["configmap", "kept"])["data"]["key"], "value");
    lab.remove();
}

#[test]
fn a_node_with_limits_tells_the_scheduler_what_it_really_has() {
    let Some(lab) = Lab::open("limits") else { return };
    let pool = "      resources: { cpus: 1, memory: 1Gi }\n";
    lab.declare(Shape { workers: 1, pool, ..THREE });
    lab.settled(2);
    let node = lab.object(&["node", "limits-default-0"]);
    assert_eq!(node["status"]["allocatable"]["cpu"], "1");
    assert_eq!(node["status"]["allocatable"]["memory"], "1Gi");
    let limited: Value = serde_json::from_str(&docker(&["inspect", "limits-default-0"]).unwrap()).unwrap();
    assert_eq!(limited[0]["HostConfig"]["NanoCpus"], 1_000_000_000_u64);
    lab.remove();
}
