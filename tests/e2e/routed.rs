//! `cni: routed`: pods reach each other over routes that Kina tells the nodes.

use super::lab::{Lab, docker};

/// Made by `tests/node-image/build`.
const IMAGE: &str = "kina-node-workload:1";

/// A server and a client on every worker, and a Service. `IMAGE` has busybox.
const OBJECTS: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
        - name: web
          image: 'IMAGE'
          imagePullPolicy: Never
          env: [{ name: ADDRESS, valueFrom: { fieldRef: { fieldPath: status.podIP } } }]
          command: [/bin/sh, -c, 'echo hello from $(ADDRESS) > /tmp/index.html; exec busybox httpd -f -p 8080 -h /tmp']
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
";

fn spec(workers: u32, image: &str) -> String {
    format!(
        "  images: ['{image}']\n  networking: {{ cni: routed }}\n  workers:\n    - name: default\n      replicas: {workers}\n"
    )
}

/// Pods of the servers, with node and address.
fn servers(lab: &Lab) -> Vec<(String, String, String)> {
    lab.kubectl(&["rollout", "status", "daemonset/web", "--timeout=120s"]);
    let pods = lab.object(&["pods", "-l", "app=web"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]), text(&pod["status"]["podIP"])))
        .collect()
}

/// Every server is reached from every other one, under its own address, and all of them by the Service's name.
fn expect_reached(lab: &Lab, nodes: usize) {
    let servers = servers(lab);
    assert_eq!(servers.len(), nodes, "{servers:?}");
    for (from, node, _) in &servers {
        for (_, other, address) in &servers {
            let url = format!("http://{address}:8080/");
            let answer = lab.kubectl(&["exec", from, "--", "timeout", "10", "busybox", "wget", "-q", "-O-", &url]);
            assert_eq!(answer.trim(), format!("hello from {address}"), "from {node} to {other}");
        }
        let by_name = lab.kubectl(&[
            "exec",
            from,
            "--",
            "timeout",
            "20",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://web.default.svc.cluster.local/",
        ]);
        assert!(by_name.starts_with("hello from 10.244."), "{by_name}");
    }
}

fn routes(node: &str) -> usize {
    let shown = docker(&["exec", node, "ip", "route", "show", "proto", "75"]).unwrap();
    shown.lines().filter(|line| line.contains(" via ")).count()
}

#[test]
fn pods_reach_each_other_over_routes_that_outlive_restarts_and_go_with_their_nodes() {
    let Some(mut lab) = Lab::open("routed") else { return };
    let image = std::env::var("KINA_E2E_WORKLOAD_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
    if docker(&["image", "inspect", &image]).is_none() {
        eprintln!(
            "SKIPPED, a routed pod network: {image} is not on this host (`KINA_E2E_WORKLOAD_IMAGE` names another one)"
        );
        return;
    }
    lab.declare_spec(&spec(2, &image));
    lab.settled(3);
    for worker in ["routed-default-0", "routed-default-1"] {
        lab.kina(&["wait", "--for=condition=ImagesLoaded", &format!("machine/{worker}"), "--timeout=120s"]);
    }
    let daemons = lab.kubectl(&["get", "daemonsets", "-n=kube-system", "-o=name"]);
    assert_eq!(daemons.trim(), "daemonset.apps/kube-proxy", "there is no other daemon");
    lab.apply(&OBJECTS.replace("IMAGE", &image));
    expect_reached(&lab, 2);
    for (node, range) in [("control-plane-0", "0"), ("default-0", "1"), ("default-1", "2")] {
        let node = lab.object(&["node", &format!("routed-{node}")]);
        assert_eq!(node["spec"]["podCIDR"], format!("10.244.{range}.0/24"));
    }

    // While nobody repairs anything a node starts anew: a unit in it restores its routes before the kubelet runs.
    lab.kill();
    docker(&["restart", "routed-default-0"]).unwrap();
    lab.running(&["routed-default-0"]);
    // That its Node is Ready says nothing: it still was from before.
    let has_kubelet = || docker(&["exec", "routed-default-0", "systemctl", "is-active", "kubelet"]).is_some();
    lab.until(has_kubelet, "the kubelet runs again");
    assert_eq!(routes("routed-default-0"), 2);
    lab.kubectl(&["wait", "--for=condition=Ready", "node/routed-default-0", "--timeout=120s"]);
    lab.serve();
    lab.settled(3);
    lab.kubectl(&["delete", "pods", "-l", "app=web", "--wait", "--timeout=120s"]);
    expect_reached(&lab, 2);

    // One that goes is forgotten by the others, and its range is there for the next.
    lab.declare_spec(&spec(1, &image));
    lab.settled(2);
    let is_forgotten = || routes("routed-control-plane-0") == 1 && routes("routed-default-0") == 1;
    lab.until(is_forgotten, "the routes of a node that is gone go");
    lab.declare_spec(&spec(2, &image));
    lab.settled(3);
    expect_reached(&lab, 2);
    lab.remove();
}
