//! Clusters of each family of addresses: from manifest to Ready, and what keeps its address.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::stories::{SOON, containers, manifest};
use crate::world::{self, Simulation};

/// kind's own way to say it, with an etcd of several members.
const KIND_IPV6: &str = "
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: six
networking: {ipFamily: ipv6}
nodes:
- role: control-plane
- role: control-plane
- role: control-plane
- role: worker
  extraPortMappings: [{containerPort: 80, hostPort: 8080}]
";

/// `NAME: INTERNAL IPS; POD CIDRS`, a node a line.
fn told(nodes: &[Node]) -> String {
    let one = |node: &Node| {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal =
            addresses.filter(|address| address.type_ == "InternalIP").map(|address| address.address.as_str());
        let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        format!("{}: {}; {}", node.name_any(), internal.collect::<Vec<_>>().join(" "), ranges.join(" "))
    };
    nodes.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// `POLICY: FAMILIES; ADDRESSES` of a Service.
fn placed(service: &Service) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let words = |list: Option<Vec<String>>| list.unwrap_or_default().join(" ");
    let policy = spec.ip_family_policy.unwrap_or_default();
    format!("{policy}: {}; {}", words(spec.ip_families), words(spec.cluster_ips))
}

/// Addresses of the pods of a workload, each pod's in their order.
async fn addresses_of(client: &Client, app: &str) -> Vec<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let of_app = pods.list(&ListParams::default().labels(&format!("k8s-app={app}"))).await.unwrap();
    let of_pod = |pod: &Pod| {
        let ips = pod.status.as_ref().and_then(|status| status.pod_ips.clone()).unwrap_or_default();
        ips.into_iter().map(|address| address.ip).collect::<Vec<String>>()
    };
    let mut found: Vec<Vec<String>> = of_app.iter().map(of_pod).collect();
    found.sort();
    found
}

async fn service(client: &Client, namespace: &str, name: &str) -> Service {
    Api::namespaced(client.clone(), namespace).get(name).await.unwrap()
}

/// Rolls every machine of `dev`, then takes a container down and has it up again.
async fn roll_and_restart(simulation: &mut Simulation, networking: &str) {
    let before = containers(simulation).await;
    let patch = "  containerdConfigPatches: ['[debug]\n\n    level = \"debug\"']\n";
    simulation.write("dev.yaml", &manifest("dev", 1, &format!("{networking}{patch}")));
    let rolled = |listing: &kina::runtime::Listing| {
        listing.containers.iter().filter(|c| before.get(&c.name) != Some(&c.id.0)).count() == 2
    };
    simulation.until_listing(SOON, rolled).await;
    simulation.until_ready("dev", 2, SOON).await;
    for name in ["dev-control-plane-0", "dev-pool-0"] {
        simulation.hands().stop_container(name).unwrap();
        simulation.until_machine(name, SOON, |machine| !is_ready(machine)).await;
        simulation.until_ready("dev", 2, SOON).await;
    }
}

fn is_ready(machine: &kina::api::Machine) -> bool {
    let status = machine.status.clone().unwrap_or_default();
    kina::api::conditions::is_true(&status.conditions, kina::api::conditions::READY)
}

#[test]
fn a_cluster_of_kinds_ipv6_has_nothing_of_ipv4_that_kubernetes_knows() {
    let run = world::run(81, |mut simulation: Simulation| async move {
        simulation.write("six.yaml", KIND_IPV6);
        simulation.until_ready("six", 4, SOON).await;
        insta::assert_snapshot!(told(&simulation.nodes("six").await), @r"
        six-control-plane-0: fd6b:696e:610a:a000::a; fd00:10:244::/64
        six-control-plane-1: fd6b:696e:610a:a000::b; fd00:10:244:1::/64
        six-control-plane-2: fd6b:696e:610a:a000::c; fd00:10:244:2::/64
        six-worker-0: fd6b:696e:610a:a000::d; fd00:10:244:3::/64
        ");
        let client = simulation.cluster_client("six").await;
        let kubernetes = service(&client, "default", "kubernetes").await;
        assert_eq!(placed(&kubernetes), "SingleStack: IPv6; fd00:10:96::1");
        assert_eq!(placed(&service(&client, "kube-system", "kube-dns").await), "SingleStack: IPv6; fd00:10:96::a");
        for addresses in addresses_of(&client, "kube-dns").await {
            assert!(addresses.len() == 1 && addresses[0].starts_with("fd00:10:244:"), "{addresses:?}");
        }

        let listing = simulation.listing().await;
        let network = listing.networks.iter().find(|network| network.name == "kina-six").unwrap();
        let subnets = (network.subnet.as_deref(), network.ipv6_subnet.as_deref());
        assert_eq!(subnets, (Some("10.160.0.0/24"), Some("fd6b:696e:610a:a000::/64")));
        let addresses: BTreeMap<_, _> = listing
            .containers
            .iter()
            .map(|found| (found.name.as_str(), (found.address.unwrap().to_string(), found.ipv6_address.unwrap())))
            .collect();
        assert_eq!(addresses["six-lb"], ("10.160.0.2".to_owned(), "fd6b:696e:610a:a000::2".parse().unwrap()));
        assert_eq!(addresses["six-worker-0"], ("10.160.0.13".to_owned(), "fd6b:696e:610a:a000::d".parse().unwrap()));
        let worker = listing.containers.iter().find(|container| container.name == "six-worker-0").unwrap();
        assert_eq!(
            worker.ports[0].host_address.to_string(),
            "::",
            "where pods have only IPv6, that is what leads to them"
        );

        // A member of etcd that was away finds the others where they were.
        simulation.hands().stop_container("six-control-plane-1").unwrap();
        simulation.until_machine("six-control-plane-1", SOON, |machine| !is_ready(machine)).await;
        simulation.until_ready("six", 4, SOON).await;
        let kubeadm = simulation.hands().file("six-control-plane-1", "/kind/kubeadm.conf").unwrap();
        let kubeadm = String::from_utf8(kubeadm).unwrap();
        assert!(kubeadm.contains("six-control-plane-0=https://[fd6b:696e:610a:a000::a]:2380"), "{kubeadm}");
        simulation.remove("six.yaml");
        simulation.until_gone("six", SOON).await;
        simulation
    });
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn nodes_of_a_dual_cluster_keep_both_addresses_and_services_ask_for_theirs() {
    world::run(82, |mut simulation: Simulation| async move {
        let networking = "  networking: {ipFamily: dual}\n";
        simulation.write("dev.yaml", &manifest("dev", 1, networking));
        simulation.until_ready("dev", 2, SOON).await;
        let nodes = told(&simulation.nodes("dev").await);
        insta::assert_snapshot!(nodes, @r"
        dev-control-plane-0: 10.160.0.10 fd6b:696e:610a:a000::a; 10.244.0.0/24 fd00:10:244::/64
        dev-pool-0: 10.160.0.11 fd6b:696e:610a:a000::b; 10.244.1.0/24 fd00:10:244:1::/64
        ");
        let client = simulation.cluster_client("dev").await;
        assert_eq!(placed(&service(&client, "default", "kubernetes").await), "SingleStack: IPv4; 10.96.0.1");
        let services: Api<Service> = Api::namespaced(client.clone(), "default");
        let make = |name: &str, policy: Option<&str>| {
            let spec = json!({"selector": {"app": name}, "ports": [{"port": 80}], "ipFamilyPolicy": policy});
            serde_json::from_value::<Service>(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let plain = services.create(&PostParams::default(), &make("plain", None)).await.unwrap();
        assert_eq!(placed(&plain), "SingleStack: IPv4; 10.96.0.11");
        let both = services.create(&PostParams::default(), &make("both", Some("PreferDualStack"))).await.unwrap();
        assert_eq!(placed(&both), "PreferDualStack: IPv4 IPv6; 10.96.0.12 fd00:10:96::b");
        for addresses in addresses_of(&client, "kube-dns").await {
            assert!(addresses[0].starts_with("10.244.") && addresses[1].starts_with("fd00:10:244:"), "{addresses:?}");
        }
        roll_and_restart(&mut simulation, networking).await;
        assert_eq!(told(&simulation.nodes("dev").await), nodes);
        assert_eq!(placed(&services.get("both").await.unwrap()), placed(&both));
        simulation
    });
}

#[test]
fn the_first_service_subnet_says_which_family_is_primary() {
    world::run(83, |mut simulation: Simulation| async move {
        let networking = "  networking: {ipFamily: dual, serviceSubnet: 'fd00:10:96::/112,10.96.0.0/16'}\n";
        simulation.write("dev.yaml", &manifest("dev", 1, networking));
        simulation.until_ready("dev", 2, SOON).await;
        let nodes = told(&simulation.nodes("dev").await);
        insta::assert_snapshot!(nodes, @r"
        dev-control-plane-0: fd6b:696e:610a:a000::a 10.160.0.10; 10.244.0.0/24 fd00:10:244::/64
        dev-pool-0: fd6b:696e:610a:a000::b 10.160.0.11; 10.244.1.0/24 fd00:10:244:1::/64
        ");
        let client = simulation.cluster_client("dev").await;
        assert_eq!(placed(&service(&client, "default", "kubernetes").await), "SingleStack: IPv6; fd00:10:96::1");
        for addresses in addresses_of(&client, "kube-dns").await {
            assert!(addresses[0].starts_with("fd00:10:244:") && addresses[1].starts_with("10.244."), "{addresses:?}");
        }
        roll_and_restart(&mut simulation, networking).await;
        assert_eq!(told(&simulation.nodes("dev").await), nodes);
        simulation
    });
}

#[test]
fn another_family_needs_a_new_cluster_and_brings_its_own_default_subnets() {
    world::run(84, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        assert_eq!(
            told(&simulation.nodes("dev").await),
            "dev-control-plane-0: 10.160.0.10; 10.244.0.0/24\ndev-pool-0: 10.160.0.11; 10.244.1.0/24"
        );
        let dual = "  networking: {ipFamily: dual}\n";
        simulation.write("dev.yaml", &manifest("dev", 1, dual));
        let source = simulation.until_source(SOON, |source| source.errors == 1).await;
        let message = &source.files[0].errors[0].message;
        assert!(message.contains("spec.networking.ipFamily cannot change in place"), "{message}");

        let before = containers(&simulation).await;
        simulation.write("dev.yaml", &manifest("dev", 1, &format!("{dual}  allowRecreate: true\n")));
        let anew = |listing: &kina::runtime::Listing| {
            listing.containers.iter().filter(|c| before.get(&c.name) != Some(&c.id.0)).count() == 3
        };
        simulation.until_listing(SOON, anew).await;
        simulation.until_ready("dev", 2, SOON).await;
        let networking = simulation.cluster("dev").await.spec.networking;
        assert_eq!(networking.pod_subnet.as_deref(), Some("10.244.0.0/16,fd00:10:244::/56"));
        assert_eq!(networking.service_subnet.as_deref(), Some("10.96.0.0/16,fd00:10:96::/112"));
        let nodes = told(&simulation.nodes("dev").await);
        assert!(nodes.starts_with("dev-control-plane-0: 10.160.0.10 fd6b:696e:610a:a000::a; "), "{nodes}");
        simulation
    });
}
