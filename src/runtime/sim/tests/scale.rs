//! Many clusters, and the same seed twice.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;

use super::cluster::{ready, settle, whole_cluster};
use super::lab::{BALANCER, Lab, NODE, TOKEN, command, drive, file, init_config, join_files, world};
use crate::runtime::sim::pki::{self, Pair, Request};
use crate::runtime::sim::time::At;
use crate::runtime::sim::{Latency, SimOptions, SimRuntime, SimStore};
use crate::runtime::{ClusterAccess, Labels, NetworkSpec, Runtime, VolumeSpec};
use crate::world::World;

/// Everything that a client can see at the end, certificates aside.
async fn trace() -> String {
    let lab = whole_cluster(Latency::small()).await;
    settle(100).await;
    let client = lab.client().await;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::all(client.clone());
    let pods = pods.list(&Default::default()).await.unwrap();
    let listing = lab.sim.list().await.unwrap();
    format!("{:?} {} {:?}", ready(&client).await, serde_json::to_string(&pods).unwrap(), listing.containers)
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_history_down_to_resource_versions() {
    // kube's own randomness is no part of this world; nothing here retries.
    assert_eq!(trace().await, trace().await);
}

/// Makes one of many clusters of 1+3 through the runtime, as Kina does, and sees it Ready.
async fn one_of_many(sim: &SimRuntime, world: &World, cas: &BTreeMap<&'static str, Pair>, number: u16) {
    let cluster = format!("c{number}");
    let [a, b] = number.to_be_bytes();
    let network = NetworkSpec {
        name: format!("kina-{cluster}"),
        subnet: Some(format!("10.{a}.{b}.0/24")),
        ipv6_subnet: None,
        labels: Labels::new(),
    };
    sim.create_network(&network).await.unwrap();
    let balancer = format!("{cluster}-lb");
    let spec = |name: &str, last: u8, image: &str| {
        let mut spec = Lab::spec(name, last, image);
        spec.network.clone_from(&network.name);
        spec.address = Some([10, a, b, last].into());
        spec.hosts = [(balancer.clone(), [10, a, b, 2].into())].into();
        spec.ports.iter_mut().for_each(|port| port.host_port = 20_000 + number);
        spec
    };
    let id = sim.create_container(&spec(&balancer, 2, BALANCER)).await.unwrap();
    sim.start_container(&id).await.unwrap();
    let backends = file("/kina/balancer/backends", &format!("10.{a}.{b}.10\nend\n"));
    sim.copy_in(&id, &[backends, file("/kina/balancer/run", "#!/bin/bash\n")]).await.unwrap();
    for (node, last) in [("cp", 10_u8), ("w0", 11), ("w1", 12), ("w2", 13)] {
        let name = format!("{cluster}-{node}");
        sim.create_volume(&VolumeSpec { name: name.clone(), labels: Labels::new() }).await.unwrap();
        let id = sim.create_container(&spec(&name, last, NODE)).await.unwrap();
        sim.start_container(&id).await.unwrap();
        let verb = if node == "cp" { "init" } else { "join" };
        let mut files = join_files(&balancer, &cas["ca"].certificate, TOKEN, false).to_vec();
        if verb == "init" {
            let config = init_config(&[(&name, last)]).replace("https://10.160.0.", &format!("https://10.{a}.{b}."));
            files = vec![file("/kind/kubeadm.conf", &config.replace("dev-lb", &balancer))];
            for (ca, pair) in cas {
                files.push(file(&format!("/etc/kubernetes/pki/{ca}.crt"), &pair.certificate));
                files.push(file(&format!("/etc/kubernetes/pki/{ca}.key"), &pair.key));
            }
            files.push(file("/etc/kubernetes/pki/sa.pub", "public"));
            files.push(file("/etc/kubernetes/pki/sa.key", "private"));
        }
        sim.copy_in(&id, &files).await.unwrap();
        let words = [
            "systemd-run",
            "--unit=kina-bootstrap",
            "--property=Type=oneshot",
            "--property=RemainAfterExit=yes",
            "--no-block",
            "--",
            "kubeadm",
            verb,
            "--config=/kind/kubeadm.conf",
        ];
        assert_eq!(sim.exec(&id, &command(&words)).await.unwrap().code, 0);
        let active = ["systemctl", "is-active", "kina-bootstrap"];
        while sim.exec(&id, &command(&active)).await.unwrap().stdout != b"active\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let now = At::of(world.clock.now());
    let request = Request { name: "admin", organisations: &["system:masters"], alternative_names: &[] };
    let admin = pki::issue(&cas["ca"], request, now).unwrap();
    let access = ClusterAccess {
        server: format!("https://127.0.0.1:{}", 20_000 + number),
        ca_certificate: cas["ca"].certificate.clone(),
        client_certificate: admin.certificate,
        client_key: admin.key,
    };
    let client = sim.connector().connect(&access).await.unwrap();
    let cni = crate::runtime::sim::node_files::of_image("v1.35.5", "/kind/manifests/default-cni.yaml");
    let text = String::from_utf8(cni.unwrap().to_vec()).unwrap().replace("{{ .PodSubnet }}", "10.244.0.0/16");
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let set = documents.into_iter().find(|document| document["kind"] == "DaemonSet").unwrap();
    let sets: kube::Api<k8s_openapi::api::apps::v1::DaemonSet> = kube::Api::namespaced(client.clone(), "kube-system");
    sets.create(&Default::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    while ready(&client).await.len() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn many(sim: &SimRuntime, world: &World, count: u16) {
    for image in [NODE, BALANCER] {
        sim.ensure_image(image).await.unwrap();
    }
    let now = At::of(world.clock.now());
    let cas = ["ca", "front-proxy-ca", "etcd/ca"].map(|name| (name, pki::new_ca(name, now).unwrap())).into();
    let all = (1..=count).map(|number| one_of_many(sim, world, &cas, number));
    futures::stream::iter(all).buffer_unordered(64).for_each(|()| async {}).await;
}

#[tokio::test(start_paused = true)]
async fn clusters_share_one_world_without_seeing_each_other() {
    let options = SimOptions { latency: Latency::zero(), ..SimOptions::default() };
    let sim = SimRuntime::open(world(), SimStore::Memory, options).unwrap();
    let driver = drive(&sim);
    many(&sim, &sim.core.world, 5).await;
    let clusters: Vec<String> = sim.core.read(|state| state.etcd.keys().cloned().collect());
    assert_eq!(clusters.len(), 5);
    settle(5).await;
    let mut counts = Vec::new();
    for cluster in &clusters {
        counts.push(sim.clusters.objects_of(cluster).await);
    }
    assert!(counts.iter().all(|count| *count == counts[0] && *count > 30), "{counts:?}");
    // A settled world is still: nothing is written, nothing but lost heartbeats would wake it.
    let before = sim.clusters.revision();
    settle(3600).await;
    assert_eq!(sim.clusters.revision(), before);
    driver.abort();
}

/// `KINA_SCALE=1000 cargo test --release --lib a_thousand -- --ignored --nocapture` tells seconds and peak memory.
#[tokio::test]
#[ignore = "a measurement"]
async fn a_thousand_clusters() {
    use std::io::Write;
    let count = std::env::var("KINA_SCALE").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let home = tempfile::tempdir().unwrap();
    let options = SimOptions { latency: Latency::zero(), ..SimOptions::default() };
    let world = World::real();
    let sim = SimRuntime::open(world.clone(), SimStore::File(home.path().join("sim")), options).unwrap();
    let driver = drive(&sim);
    let begun = tokio::time::Instant::now();
    many(&sim, &world, count).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let times = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: Vec<&str> = times.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let now = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let size = |name: &str| std::fs::metadata(home.path().join("sim").join(name)).map_or(0, |found| found.len() >> 10);
    let held: usize = sim.core.read(|state| {
        let files = state.files.values().flat_map(BTreeMap::values).map(|file| file.content.len());
        files.sum::<usize>() >> 10
    });
    writeln!(
        std::io::stderr(),
        "{count} clusters of 1+3 Ready in {:?}; {peak} {now}; CPU ticks (10 ms) user {} system {}; KiB: world {} objects {} \
         files {held}",
        begun.elapsed(), ticks.get(11).unwrap_or(&""), ticks.get(12).unwrap_or(&""), size("world"),
        size("clusters.redb")
    )
    .unwrap();
    driver.abort();
}
