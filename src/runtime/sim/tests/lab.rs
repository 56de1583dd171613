//! A simulated world with a cluster in it, made as Kina makes one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::api::node::Protocol;
use crate::runtime::sim::pki::{self, Pair, Request};
use crate::runtime::sim::time::At;
use crate::runtime::sim::{Latency, SimOptions, SimRuntime, SimStore};
use crate::runtime::{
    Cause, ClusterAccess, ContainerId, ContainerSpec, ExecOutput, ExecRequest, Labels, Mount, NetworkSpec, NodeFile,
    PublishedPort, Resources, Runtime, VolumeSpec,
};
use crate::world::World;

pub const NODE: &str = "docker.io/kindest/node:v1.35.5";
/// A node image, too: which container is the load balancer, its command says.
pub const BALANCER: &str = "docker.io/kindest/node:v1.35.4";
pub const TOKEN: &str = "abcdef.0123456789abcdef";

pub struct Lab {
    pub sim: Arc<SimRuntime>,
    pub ids: BTreeMap<String, ContainerId>,
    pub cas: BTreeMap<&'static str, Pair>,
    pub world: World,
    pub server: tokio::task::JoinHandle<()>,
    pub port: u16,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn world() -> World {
    World::simulated(7, "2026-01-01T00:00:00Z".parse().unwrap())
}

pub fn command(words: &[&str]) -> ExecRequest {
    ExecRequest {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        stdin: None,
        timeout: Duration::from_secs(30),
    }
}

pub fn drive(sim: &Arc<SimRuntime>) -> tokio::task::JoinHandle<()> {
    let sim = Arc::clone(sim);
    tokio::spawn(async move { sim.run().await })
}

impl Lab {
    pub async fn new(options: SimOptions) -> Self {
        let world = world();
        let sim = SimRuntime::open(world.clone(), SimStore::Memory, options).unwrap();
        Self::over(sim, world).await
    }

    /// A lab over a world that is there, with images and network.
    pub async fn over(sim: Arc<SimRuntime>, world: World) -> Self {
        let mut lab = Self::bare(sim, world);
        lab.server = drive(&lab.sim);
        lab.furnish().await;
        lab
    }

    /// A lab over a world that nobody drives. Its CAs are the same in all labs of a thread.
    pub fn bare(sim: Arc<SimRuntime>, world: World) -> Self {
        thread_local! {
            static CAS: BTreeMap<&'static str, Pair> = ["ca", "front-proxy-ca", "etcd/ca"]
                .map(|name| (name, pki::new_ca(name, At::of(super::lab::world().clock.now())).unwrap())).into();
        }
        let server = tokio::spawn(async {});
        Self { sim, ids: BTreeMap::new(), cas: CAS.with(Clone::clone), world, server, port: 40_001 }
    }

    /// Images and network, where they are not there.
    pub async fn furnish(&self) {
        for image in [NODE, BALANCER] {
            self.sim.ensure_image(image).await.unwrap();
        }
        let network = NetworkSpec {
            name: "kina-dev".into(),
            subnet: Some("10.160.0.0/24".into()),
            ipv6_subnet: None,
            labels: Labels::new(),
        };
        match self.sim.create_network(&network).await {
            Err(error) if error.cause != Cause::AlreadyExists => panic!("{error}"),
            _ => {}
        }
    }

    pub async fn zero() -> Self {
        Self::new(SimOptions { latency: Latency::zero(), ..SimOptions::default() }).await
    }

    pub fn spec(name: &str, address: u8, image: &str) -> ContainerSpec {
        let mount = |subdirectory: &str, target: &str| Mount {
            volume: name.into(),
            subdirectory: subdirectory.into(),
            target: target.into(),
        };
        let mounts = vec![
            mount("etc-kubernetes", "/etc/kubernetes"),
            mount("etcd", "/var/lib/etcd"),
            mount("kubelet", "/var/lib/kubelet"),
        ];
        let node = image != BALANCER;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port =
            PublishedPort { host_address: loopback, host_port: 40_001, container_port: 6443, protocol: Protocol::Tcp };
        ContainerSpec {
            name: name.into(),
            image: image.into(),
            labels: Labels::new(),
            network: "kina-dev".into(),
            address: Some(Ipv4Addr::new(10, 160, 0, address)),
            ipv6_address: None,
            environment: BTreeMap::new(),
            mounts: if node { mounts } else { Vec::new() },
            ports: if node { Vec::new() } else { vec![port] },
            resources: Resources::default(),
            hosts: [("dev-lb".to_owned(), Ipv4Addr::new(10, 160, 0, 2))].into(),
            dns_search: None,
            host_mounts: Vec::new(),
            privileges: if node { crate::runtime::Privileges::Node } else { crate::runtime::Privileges::None },
            command: if node { Vec::new() } else { vec!["/bin/bash".into(), "/kina/balancer/run".into()] },
        }
    }

    /// Creates and starts a container, with its volume where it is a node.
    pub async fn start(&mut self, name: &str, address: u8, image: &str) -> ContainerId {
        if image != BALANCER {
            let volume = VolumeSpec { name: name.into(), labels: Labels::new() };
            // One that is there is a node's that comes again.
            let _ = self.sim.create_volume(&volume).await;
        }
        let mut spec = Self::spec(name, address, image);
        spec.ports.iter_mut().for_each(|port| port.host_port = self.port);
        let there = self.sim.list().await.unwrap().containers.into_iter().find(|container| container.name == name);
        let id = match there {
            Some(there) => there.id.clone(),
            None => self.sim.create_container(&spec).await.unwrap(),
        };
        self.sim.start_container(&id).await.unwrap();
        self.ids.insert(name.into(), id.clone());
        id
    }

    pub async fn load_balancer(&mut self, backends: &[u8]) {
        let id = self.start("dev-lb", 2, BALANCER).await;
        let addresses: String = backends.iter().map(|last| format!("10.160.0.{last}\n")).collect();
        let files = [
            file("/kina/balancer/backends", &format!("{addresses}end\n")),
            file("/kina/balancer/run", "#!/bin/bash\n"),
        ];
        self.sim.copy_in(&id, &files).await.unwrap();
    }

    pub async fn copy(&self, name: &str, files: &[NodeFile]) {
        self.sim.copy_in(&self.ids[name], files).await.unwrap();
    }

    pub async fn copy_pki(&self, name: &str) {
        let mut files = Vec::new();
        for (ca, pair) in &self.cas {
            files.push(file(&format!("/etc/kubernetes/pki/{ca}.crt"), &pair.certificate));
            files.push(file(&format!("/etc/kubernetes/pki/{ca}.key"), &pair.key));
        }
        files.push(file("/etc/kubernetes/pki/sa.pub", "public"));
        files.push(file("/etc/kubernetes/pki/sa.key", "private"));
        self.copy(name, &files).await;
    }

    pub async fn exec(&self, name: &str, words: &[&str]) -> ExecOutput {
        self.sim.exec(&self.ids[name], &command(words)).await.unwrap()
    }

    pub async fn booted(&self, name: &str) {
        while self.exec(name, &["systemctl", "is-system-running"]).await.code != 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts kubeadm as Kina does.
    pub async fn bootstrap(&self, name: &str, verb: &str) -> ExecOutput {
        self.booted(name).await;
        let mut words = vec![
            "systemd-run",
            "--unit=kina-bootstrap",
            "--property=Type=oneshot",
            "--property=RemainAfterExit=yes",
            "--property=ExecStartPost=/usr/bin/touch /etc/kubernetes/kina-bootstrapped",
            "--no-block",
            "--",
            "kubeadm",
            verb,
            "--config=/kind/kubeadm.conf",
        ];
        if verb == "init" {
            words.push("--skip-token-print");
        }
        self.exec(name, &words).await
    }

    /// `ActiveState` of the bootstrap unit, once it is no longer activating.
    pub async fn outcome(&self, name: &str) -> String {
        loop {
            let words = ["systemctl", "show", "kina-bootstrap.service", "--property=LoadState,ActiveState"];
            let shown = String::from_utf8(self.exec(name, &words).await.stdout).unwrap();
            let state = shown.lines().find_map(|line| line.strip_prefix("ActiveState=")).unwrap().to_owned();
            if state != "activating" {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub async fn journal(&self, name: &str) -> String {
        let words = ["journalctl", "--unit=kina-bootstrap.service", "--lines=20", "--no-pager", "--output=cat"];
        String::from_utf8(self.exec(name, &words).await.stdout).unwrap()
    }

    /// A cluster of these nodes: names with the last part of their addresses.
    pub async fn cluster(&mut self, control_planes: &[(&str, u8)], workers: &[(&str, u8)]) {
        let backends: Vec<u8> = control_planes.iter().map(|(_, address)| *address).collect();
        self.load_balancer(&backends).await;
        for (name, address) in control_planes {
            self.start(name, *address, NODE).await;
            self.copy_pki(name).await;
            self.copy(name, &[file("/kind/kubeadm.conf", &init_config(control_planes))]).await;
            assert_eq!(self.bootstrap(name, "init").await.code, 0);
        }
        for (name, _) in control_planes {
            assert_eq!(self.outcome(name).await, "active", "{}", self.journal(name).await);
        }
        for (name, address) in workers {
            self.start(name, *address, NODE).await;
            self.copy(name, &self.join_files(false)).await;
            assert_eq!(self.bootstrap(name, "join").await.code, 0);
        }
        for (name, _) in workers {
            assert_eq!(self.outcome(name).await, "active", "{}", self.journal(name).await);
        }
    }

    pub fn join_files(&self, control_plane: bool) -> [NodeFile; 2] {
        join_files("dev-lb", &self.cas["ca"].certificate, TOKEN, control_plane)
    }

    pub fn access(&self) -> ClusterAccess {
        let request = Request {
            name: "kubernetes-admin",
            organisations: &["kubeadm:cluster-admins", "system:masters"],
            alternative_names: &[],
        };
        let admin = pki::issue(&self.cas["ca"], request, At::of(self.world.clock.now())).unwrap();
        ClusterAccess {
            server: format!("https://127.0.0.1:{}", self.port),
            ca_certificate: self.cas["ca"].certificate.clone(),
            client_certificate: admin.certificate,
            client_key: admin.key,
        }
    }

    pub async fn client(&self) -> kube::Client {
        self.sim.connector().connect(&self.access()).await.unwrap()
    }

    /// Applies what Kina applies of a manifest in a node.
    pub async fn apply_manifest(&self, node: &str, path: &str) {
        let text = self.sim.read_file(&self.ids[node], path).await.unwrap().unwrap();
        let text = String::from_utf8(text).unwrap().replace("{{ .PodSubnet }}", "10.244.0.0/16");
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            self.apply(document).await;
        }
    }

    pub async fn apply(&self, document: serde_json::Value) {
        let object: kube::api::DynamicObject = serde_json::from_value(document).unwrap();
        let types = object.types.clone().unwrap();
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let gvk = kube::api::GroupVersionKind::gvk(group, version, &types.kind);
        let resource = kube::api::ApiResource::from_gvk(&gvk);
        let client = self.client().await;
        let api: kube::Api<kube::api::DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => kube::Api::namespaced_with(client, namespace, &resource),
            None => kube::Api::all_with(client, &resource),
        };
        let name = object.metadata.name.clone().unwrap();
        api.patch(&name, &kube::api::PatchParams::apply("kina-addons"), &kube::api::Patch::Apply(&object))
            .await
            .unwrap();
    }
}

pub fn file(path: &str, content: &str) -> NodeFile {
    NodeFile { path: path.into(), mode: 0o600, content: content.into() }
}

pub fn init_config(control_planes: &[(&str, u8)]) -> String {
    let members: Vec<String> =
        control_planes.iter().map(|(name, last)| format!("{name}=https://10.160.0.{last}:2380")).collect();
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.35.5\nclusterName: dev\n\
         controlPlaneEndpoint: dev-lb:6443\napiServer: {{certSANs: [localhost, 127.0.0.1]}}\n\
         networking: {{podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}}\netcd:\n  local:\n    extraArgs:\n    \
         - {{name: initial-cluster, value: '{}'}}\n    - {{name: initial-cluster-state, value: new}}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nskipPhases: [preflight]\nbootstrapTokens:\n- token: {TOKEN}\n\
         nodeRegistration:\n  kubeletExtraArgs:\n  - {{name: node-labels, value: 'pool=control-plane'}}\n---\n\
         apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n",
        members.join(",")
    )
}

pub fn join_files(balancer: &str, ca: &str, token: &str, control_plane: bool) -> [NodeFile; 2] {
    let role = if control_plane { "controlPlane: {localAPIEndpoint: {bindPort: 6443}}\n" } else { "" };
    let config = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\nskipPhases: [preflight]\n{role}discovery:\n  file:\n    \
         kubeConfigPath: /kind/discovery.conf\nnodeRegistration:\n  kubeletExtraArgs:\n  \
         - {{name: node-labels, value: 'tier=apps'}}\n  taints: []\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n\
         kubernetesVersion: v1.35.5\ncontrolPlaneEndpoint: {balancer}:6443\napiServer: {{certSANs: [127.0.0.1]}}\n"
    );
    let ca = STANDARD.encode(ca);
    let discovery = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: dev\n  cluster:\n    server: https://{balancer}:6443\n    \
         certificate-authority-data: {ca}\nusers:\n- name: joining\n  user:\n    token: {token}\n"
    );
    [file("/kind/kubeadm.conf", &config), file("/kind/discovery.conf", &discovery)]
}
