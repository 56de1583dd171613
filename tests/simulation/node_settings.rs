//! What kind's users write about nodes, and what becomes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use kina::api::annotations;
use kina::runtime::Container;

use crate::stories::{SOON, annotate, containers, manifest};
use crate::world::{self, Simulation};

/// kind's own way to say it.
const KIND: &str = r#"
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: app
featureGates: {SomeFeature: true}
runtimeConfig: {"api/alpha": "true"}
networking: {kubeProxyMode: nftables, dnsSearch: [corp.example.com]}
kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  apiServer: {extraArgs: {v: "4"}}
containerdConfigPatches:
- |
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors]
    "docker.io" = ["http://cache:5000"]
nodes:
- role: control-plane
  extraPortMappings: [{containerPort: 80}, {containerPort: 443, hostPort: 8443, listenAddress: 127.0.0.1}]
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration: {kubeletExtraArgs: {node-labels: ingress-ready=true}}
- role: worker
  labels: {tier: apps}
  extraMounts: [{hostPath: ../../data, containerPath: /data, readOnly: true}]
- role: worker
  labels: {tier: apps}
  extraMounts: [{hostPath: ../../data, containerPath: /data, readOnly: true}]
"#;

async fn container(simulation: &Simulation, name: &str) -> Arc<Container> {
    simulation.listing().await.containers.into_iter().find(|container| container.name == name).unwrap()
}

/// A file of a node, as text.
fn file(simulation: &Simulation, node: &str, path: &str) -> String {
    String::from_utf8(simulation.hands().file(node, path).unwrap_or_default()).unwrap()
}

/// Until a file of a node is so; one that is not there is empty.
async fn until_file(simulation: &Simulation, node: &str, path: &str, holds: impl Fn(&str) -> bool) {
    for _ in 0..SOON.as_secs() {
        if holds(&file(simulation, node, path)) {
            return;
        }
        simulation.advance(Duration::from_secs(1)).await;
    }
    panic!("{path} of {node}: {}", file(simulation, node, path));
}

#[test]
fn a_configuration_of_kind_is_a_cluster_with_everything_it_says() {
    world::run(61, |mut simulation: Simulation| async move {
        simulation.make_directory(Path::new("/home/me/data"));
        simulation.write("app.yaml", KIND);
        simulation.until_ready("app", 3, SOON).await;

        let plane = container(&simulation, "app-control-plane-0").await;
        let ports: Vec<String> =
            plane.ports.iter().map(|p| format!("{}:{}", p.host_address, p.container_port)).collect();
        assert_eq!(ports, ["0.0.0.0:80", "127.0.0.1:443"]);
        assert!(plane.ports[0].host_port > 0);
        assert_eq!(plane.ports[1].host_port, 8443);
        let worker = container(&simulation, "app-worker-1").await;
        assert_eq!(worker.host_mounts[0].host_path, "/home/me/data");
        assert!(worker.host_mounts[0].read_only);

        let kubeadm = file(&simulation, "app-control-plane-0", "/kind/kubeadm.conf");
        for wanted in [
            "value: SomeFeature=true",
            "value: api/alpha=true",
            "mode: nftables",
            "name: v\n    value: \"4\"",
            "value: ingress-ready=true",
        ] {
            assert!(kubeadm.contains(wanted), "{wanted} is not in\n{kubeadm}");
        }
        let joined = file(&simulation, "app-worker-0", "/kind/kubeadm.conf");
        assert!(!joined.contains("ingress-ready"), "{joined}");
        let containerd = file(&simulation, "app-worker-0", "/etc/containerd/config.toml");
        assert!(containerd.contains("http://cache:5000") && containerd.contains("sandbox_image"), "{containerd}");
        let labels =
            simulation.nodes("app").await.into_iter().filter(|node| node.labels().contains_key("tier")).count();
        assert_eq!(labels, 2);
        simulation
    });
}

#[test]
fn a_patch_of_containerd_is_rolled_out_machine_by_machine_with_data_kept() {
    world::run(62, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;
        let patch = "  containerdConfigPatches: ['[debug]\n\n    level = \"debug\"']\n";
        simulation.write("dev.yaml", &manifest("dev", 1, patch));
        let rolled = |listing: &kina::runtime::Listing| {
            listing.containers.iter().filter(|c| before.get(&c.name) != Some(&c.id.0)).count() == 2
        };
        simulation.until_listing(SOON, rolled).await;
        simulation.until_ready("dev", 2, SOON).await;
        for node in ["dev-control-plane-0", "dev-pool-0"] {
            simulation.until_machine(node, SOON, |machine| !machine.spec.containerd.is_empty()).await;
            assert!(file(&simulation, node, "/etc/containerd/config.toml").contains("level = \"debug\""), "{node}");
        }
        simulation
    });
}

#[test]
fn registries_change_in_machines_that_run_and_are_taken_back() {
    world::run(68, |mut simulation: Simulation| async move {
        let of = |registries: &str| manifest("dev", 1, &format!("  registries: [{registries}]\n"));
        let mirror = "{host: docker.io, mirrors: ['http://b:5000', 'http://a:5000']}";
        simulation.write("dev.yaml", &of(mirror));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;
        let docker = "/etc/containerd/certs.d/docker.io/hosts.toml";
        let quay = "/etc/containerd/certs.d/quay.io/hosts.toml";
        for node in ["dev-control-plane-0", "dev-pool-0"] {
            let text = file(&simulation, node, docker);
            assert!(
                text.find("http://b:5000") < text.find("http://a:5000") && text.contains("http://a:5000"),
                "{text}"
            );
        }
        let is_told = |wanted: &'static str| {
            move |machine: &kina::api::Machine| {
                let known = machine.spec.registries.iter().flatten().map(|registry| registry.host.as_str());
                known.collect::<Vec<_>>().join(" ") == wanted
            }
        };
        simulation.write("dev.yaml", &of("{host: quay.io, insecureSkipVerify: true}"));
        simulation.until_machine("dev-pool-0", SOON, is_told("quay.io")).await;
        until_file(&simulation, "dev-pool-0", quay, |text| text == "skip_verify = true\n").await;
        until_file(&simulation, "dev-pool-0", docker, str::is_empty).await;
        // Everything goes, and stays gone in a container that is made anew.
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        until_file(&simulation, "dev-pool-0", quay, str::is_empty).await;
        assert_eq!(containers(&simulation).await, before, "nothing was rolled");
        simulation.hands().remove_container("dev-pool-0").unwrap();
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn images_of_the_host_are_loaded_into_every_machine_and_what_is_missing_is_told() {
    world::run(69, |mut simulation: Simulation| async move {
        let loaded = "/var/lib/containerd/kina-loaded";
        let of = |images: &str| manifest("dev", 1, &format!("  images: [{images}]\n"));
        simulation.write("dev.yaml", &of("'app:dev', registry.internal/team/tool"));
        simulation.until_ready("dev", 2, SOON).await;
        let all = "docker.io/library/app:dev\nregistry.internal/team/tool:latest\n";
        for node in ["dev-control-plane-0", "dev-pool-0"] {
            assert_eq!(file(&simulation, node, loaded), all);
        }
        let before = containers(&simulation).await;
        // What is not there keeps nobody from working, and is told by name.
        simulation.write("dev.yaml", &of("'app:dev', nowhere.invalid/none, 'more:1'"));
        let tells = |cluster: &kina::api::Cluster| {
            let status = cluster.status.as_ref().unwrap();
            let found = kina::api::conditions::get(&status.conditions, "AddonsReady").unwrap();
            found.reason == "ImagesNotLoaded" && found.message.contains("no image nowhere.invalid/none on this host")
        };
        let cluster = simulation.until_cluster("dev", "with an image that is missing", SOON, tells).await;
        assert_eq!(cluster.status.unwrap().machines.unwrap().ready, 2);
        until_file(&simulation, "dev-pool-0", loaded, |text| text.contains("library/more:1")).await;
        simulation.write("dev.yaml", &of("'app:dev'"));
        simulation.until_ready("dev", 2, SOON).await;
        assert_eq!(containers(&simulation).await, before, "nothing was rolled");
        // A container that is made anew has nothing of it.
        simulation.hands().remove_container("dev-pool-0").unwrap();
        until_file(&simulation, "dev-pool-0", loaded, |text| text == "docker.io/library/app:dev\n").await;
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn a_machine_waits_for_what_it_mounts() {
    world::run(63, |mut simulation: Simulation| async move {
        let mounts = "      extraMounts: [{hostPath: /srv/data, containerPath: /data}]\n";
        simulation.write("dev.yaml", &manifest("dev", 1, mounts));
        let waits = |machine: &kina::api::Machine| {
            let waiting = machine.status.as_ref().and_then(|status| status.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason == "HostPathMissing" && waiting.message.contains("/srv/data"))
        };
        simulation.until_machine("dev-pool-0", SOON, waits).await;
        simulation.make_directory(Path::new("/srv/data"));
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn a_path_that_leads_elsewhere_later_is_not_mounted_and_what_works_stays() {
    world::run(67, |mut simulation: Simulation| async move {
        let mounts = |path: &str| format!("      extraMounts: [{{hostPath: {path}, containerPath: /data}}]\n");
        simulation.make_directory(Path::new("/srv/data"));
        simulation.link(Path::new("/srv/data"), Path::new("/srv/link"));
        simulation.link(Path::new("/srv/data"), Path::new("/srv/later"));
        simulation.write("dev.yaml", &manifest("dev", 1, &mounts("/srv/link")));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;

        // Judged when it was declared, and judged again before the roll takes away what works.
        annotate(&simulation, "dev", annotations::PAUSED, Some("true")).await;
        simulation.write("dev.yaml", &manifest("dev", 1, &mounts("/srv/later")));
        let declares = |path: &'static str| {
            move |cluster: &kina::api::Cluster| cluster.spec.workers[0].extra_mounts[0].host_path == path
        };
        simulation.until_cluster("dev", "with the other mount", SOON, declares("/srv/later")).await;
        simulation.link(Path::new("/home/me/.kina/pki"), Path::new("/srv/later"));
        annotate(&simulation, "dev", annotations::PAUSED, None).await;
        let refused = |machine: &kina::api::Machine| {
            let waiting = machine.status.as_ref().and_then(|status| status.waiting.as_ref());
            waiting.is_some_and(|waiting| {
                waiting.reason == "HostPathRefused" && waiting.message.contains("lies in Kina's home")
            })
        };
        simulation.until_machine("dev-pool-0", SOON, refused).await;
        assert_eq!(containers(&simulation).await, before, "the machine that works stays");
        simulation.link(Path::new("/srv/data"), Path::new("/srv/later"));
        let rolled = |listing: &kina::runtime::Listing| {
            listing.containers.iter().any(|c| c.name == "dev-pool-0" && before.get(&c.name) != Some(&c.id.0))
        };
        simulation.until_listing(SOON, rolled).await;
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn a_port_that_was_chosen_stays_whatever_else_changes_in_the_file() {
    world::run(64, |mut simulation: Simulation| async move {
        let ports = "      extraPortMappings: [{containerPort: 80}]\n";
        simulation.write("dev.yaml", &manifest("dev", 1, ports));
        simulation.until_ready("dev", 2, SOON).await;
        let chosen = container(&simulation, "dev-pool-0").await.ports[0].host_port;
        let more = "      extraPortMappings: [{containerPort: 80}, {containerPort: 90}]\n";
        simulation.write("dev.yaml", &manifest("dev", 1, more));
        let two = |listing: &kina::runtime::Listing| {
            listing.containers.iter().any(|container| container.name == "dev-pool-0" && container.ports.len() == 2)
        };
        simulation.until_listing(SOON, two).await;
        simulation.until_ready("dev", 2, SOON).await;
        let ports = container(&simulation, "dev-pool-0").await.ports.clone();
        assert_eq!(ports[0].host_port, chosen);
        assert_ne!(ports[1].host_port, chosen);
        let uid = simulation.cluster("dev").await.uid();
        simulation.advance(Duration::from_secs(120)).await;
        assert_eq!(container(&simulation, "dev-pool-0").await.ports, ports);
        assert_eq!(simulation.cluster("dev").await.uid(), uid);
        simulation
    });
}

#[test]
fn machines_without_kubernetes_get_it_when_the_file_says_so() {
    world::run(65, |mut simulation: Simulation| async move {
        simulation.write("dev.yaml", &manifest("dev", 1, "  stopBeforeKubernetes: true\n"));
        let stopped = |machine: &kina::api::Machine| {
            let waiting = machine.status.as_ref().and_then(|status| status.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason == "StoppedBeforeKubernetes")
        };
        simulation.until_machine("dev-control-plane-0", SOON, stopped).await;
        simulation.until_machine("dev-pool-0", SOON, stopped).await;
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        simulation
    });
}

#[test]
fn patches_of_a_pool_that_change_make_that_pool_anew_and_only_where_that_is_allowed() {
    world::run(66, |mut simulation: Simulation| async move {
        let patched = |more: &str| {
            let patch =
                "      kubeadmConfigPatches: ['kind: JoinConfiguration\n\n          skipPhases: [preflight]']\n";
            manifest("dev", 1, &format!("{patch}{more}"))
        };
        simulation.write("dev.yaml", &manifest("dev", 1, ""));
        simulation.until_ready("dev", 2, SOON).await;
        let before = containers(&simulation).await;
        simulation.write("dev.yaml", &patched(""));
        simulation
            .until_source(SOON, |status| {
                !status.held.is_empty() || status.files.iter().any(|file| !file.errors.is_empty())
            })
            .await;
        simulation.advance(Duration::from_secs(60)).await;
        assert_eq!(containers(&simulation).await, before);
        simulation.write("dev.yaml", &patched("  allowRecreate: true\n"));
        let anew = |listing: &kina::runtime::Listing| {
            listing.containers.iter().any(|c| c.name == "dev-pool-0" && before.get(&c.name) != Some(&c.id.0))
        };
        simulation.until_listing(SOON, anew).await;
        simulation.until_ready("dev", 2, SOON).await;
        let after = containers(&simulation).await;
        assert_eq!(after.get("dev-control-plane-0"), before.get("dev-control-plane-0"));
        simulation
    });
}
