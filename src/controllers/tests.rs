//! Both controllers over the embedded API and the simulated runtime, in one thread and paused time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

mod two_runtimes;

use super::proxies::Proxies;
use super::{Context, Runtimes, run};
use crate::api::cluster::RuntimeName;
use crate::api::conditions::{self, READY};
use crate::api::{Cluster, Machine, users};
use crate::apiserver::ApiServer;
use crate::apiserver::core;
use crate::apiserver::kind::Kind;
use crate::apiserver::store::RedbStore;
use crate::apiserver::user::User;
use crate::kubeconfig::{self, Target};
use crate::runtime::sim::{Latency, SimOptions, SimRuntime, SimStore};
use crate::runtime::{ClusterAccess, ContainerState, InstallationId, Listing, Runtime};
use crate::system::admission::{ClusterRules, MachineRules};
use crate::world::World;

const PKI: &str = "/home/me/.kina/pki";
const KUBECONFIG: &str = "/home/me/.kube/config";

/// A whole Kina but for its sources.
struct House {
    world: World,
    sim: Arc<SimRuntime>,
    client: kube::Client,
    context: Context,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
        Self::with(SimOptions::default()).await
    }

    async fn with(options: SimOptions) -> Self {
        Self::with_others(options, |_| BTreeMap::new()).await
    }

    /// With more runtimes than the simulator.
    async fn with_others(
        options: SimOptions,
        others: impl FnOnce(&World) -> BTreeMap<RuntimeName, Arc<dyn Runtime>>,
    ) -> Self {
        if std::env::var("KINA_TEST_LOG").is_ok() {
            let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("kina=debug").try_init();
        }
        let world = World::simulated(7, "2026-01-01T00:00:00Z".parse().unwrap());
        for directory in ["/home/me/.kina", "/home/me/.kube"] {
            world.files.create_directories(Path::new(directory), 0o700).unwrap();
        }
        let sim = SimRuntime::open(world.clone(), SimStore::Memory, options).unwrap();
        let driven = Arc::clone(&sim);
        tokio::spawn(async move { driven.run().await });
        let cluster = Kind::from_crd(&Cluster::crd()).unwrap().with_admission(Arc::new(ClusterRules::default()));
        let machine = Kind::from_crd(&Machine::crd()).unwrap().with_admission(Arc::new(MachineRules));
        let store = RedbStore::in_memory("store").unwrap();
        let server = ApiServer::builder(store, world.clock.clone(), world.random.clone())
            .kinds(core::control())
            .kinds([cluster, machine])
            .build()
            .unwrap();
        let tenant = server.tenant("kina");
        let client = tenant.client(User::named(users::ADMIN));
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let default = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        namespaces.create(&PostParams::default(), &default).await.unwrap();
        let runtime: Arc<dyn Runtime> = sim.clone();
        let mut usable = others(&world);
        usable.insert(RuntimeName::Sim, runtime);
        let context = Context {
            client: tenant.client(User::named(users::CONTROLLERS)),
            world: world.clone(),
            runtimes: Runtimes { usable, named: None, proxies: Proxies::default() },
            installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            pki_directory: PKI.into(),
            mounts: crate::host_mounts::MountPolicy::default(),
            kubeconfig: Target::explicit(KUBECONFIG),
            parallelism: 4,
            metrics: crate::observability::Metrics::new(),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(context.clone(), shutdown.clone()));
        Self { world, sim, client, context, shutdown, running }
    }

    fn clusters(&self) -> Api<Cluster> {
        Api::all(self.client.clone())
    }

    fn machines(&self) -> Api<Machine> {
        Api::all(self.client.clone())
    }

    async fn create(&self, name: &str, spec: Value) {
        let cluster: Cluster = serde_json::from_value(json!({
            "apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap();
        self.clusters().create(&PostParams::default(), &cluster).await.unwrap();
    }

    async fn patch(&self, name: &str, patch: Value) {
        self.clusters().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until something holds, for at most so many seconds of virtual time.
    async fn until(&self, seconds: u64, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let start = tokio::time::Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let clusters = self.clusters().list(&ListParams::default()).await.unwrap();
        let machines = self.machines().list(&ListParams::default()).await.unwrap();
        let mut seen = String::new();
        for cluster in clusters {
            seen += &format!("{} {:#}\n", cluster.name_any(), json!({"spec": cluster.spec, "status": cluster.status}));
        }
        for machine in machines {
            let (turn, deleting) = (machine.spec.turn, machine.metadata.deletion_timestamp.clone());
            let shown = json!({"turn": turn, "deleting": deleting, "status": machine.status});
            seen += &format!("{} {shown:#}\n", machine.name_any());
        }
        panic!("not within {seconds} s: {what}\n{seen}{:#?}", self.listing().await);
    }

    async fn cluster(&self, name: &str) -> Cluster {
        self.clusters().get(name).await.unwrap()
    }

    async fn is_ready(&self, name: &str) -> bool {
        let cluster = self.cluster(name).await;
        let status = cluster.status.unwrap_or_default();
        status.observed_generation == cluster.metadata.generation && conditions::is_true(&status.conditions, READY)
    }

    async fn ready(&self, name: &str) {
        self.until(120, &format!("{name} Ready"), async |house| house.is_ready(name).await).await;
    }

    async fn gone(&self, name: &str) {
        self.until(120, &format!("{name} gone"), async |house| house.clusters().get_opt(name).await.unwrap().is_none())
            .await;
    }

    async fn listing(&self) -> Listing {
        self.sim.list().await.unwrap()
    }

    async fn machine_names(&self) -> Vec<String> {
        let machines = self.machines().list(&ListParams::default()).await.unwrap();
        machines.iter().map(ResourceExt::name_any).collect()
    }

    fn kubeconfig(&self) -> String {
        let content = self.world.files.read(Path::new(KUBECONFIG), 1 << 20).unwrap_or_default();
        String::from_utf8(content).unwrap()
    }

    /// A client by what Kina keeps for itself.
    async fn inside(&self, name: &str) -> kube::Client {
        let cluster = self.cluster(name).await;
        let uid = cluster.uid().unwrap();
        let pki = crate::kubeadm::pki::find(&*self.world.files, Path::new(PKI), &uid).unwrap().unwrap();
        let access = ClusterAccess {
            server: cluster.status.unwrap().endpoint.unwrap(),
            ca_certificate: pki.ca.certificate.clone(),
            client_certificate: pki.admin.certificate.clone(),
            client_key: pki.admin.key.clone(),
        };
        self.sim.connector().connect(&access).await.unwrap()
    }

    async fn nodes(&self, name: &str) -> Vec<Node> {
        let nodes: Api<Node> = Api::all(self.inside(name).await);
        nodes.list(&ListParams::default()).await.unwrap().items
    }

    /// Nothing is written while nothing happens.
    async fn is_quiet(&self) {
        let versions = async || {
            let clusters = self.clusters().list(&ListParams::default()).await.unwrap();
            let machines = self.machines().list(&ListParams::default()).await.unwrap();
            let of_clusters = clusters.iter().map(|c| c.resource_version());
            let all: Vec<_> = of_clusters.chain(machines.iter().map(|m| m.resource_version())).collect();
            all
        };
        tokio::time::sleep(Duration::from_secs(20)).await;
        let before = versions().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(versions().await, before, "something is written again and again");
    }

    async fn nothing_left(&self) {
        assert!(self.machine_names().await.is_empty());
        let listing = self.listing().await;
        let ours = listing.containers.iter().map(|c| &c.name).chain(listing.networks.iter().map(|n| &n.name));
        let ours: Vec<_> = ours.chain(listing.volumes.iter().map(|v| &v.name)).collect();
        assert!(ours.is_empty(), "{ours:?}");
        let pki = self.world.files.list(Path::new(PKI)).unwrap_or_default();
        assert!(pki.is_empty(), "{pki:?}");
        assert!(!self.kubeconfig().contains("kina-"), "{}", self.kubeconfig());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_comes_up_becomes_ready_and_goes_without_a_trace() {
    let house = House::new().await;
    house.create("dev", json!({"workers": [{"name": "apps", "replicas": 2, "labels": {"tier": "apps"}}]})).await;
    house.ready("dev").await;
    let cluster = house.cluster("dev").await;
    let status = cluster.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.machines.unwrap().summary, "3/3");
    assert_eq!(status.version.as_deref(), Some("v1.35.5"));
    assert_eq!(cluster.spec.runtime, Some(RuntimeName::Sim));
    assert_eq!(cluster.spec.networking.node_subnet.as_deref(), Some("10.160.0.0/24"));
    assert_eq!(house.machine_names().await, ["dev-apps-0", "dev-apps-1", "dev-control-plane-0"]);
    let nodes = house.nodes("dev").await;
    assert_eq!(nodes.len(), 3);
    let labelled = nodes.iter().filter(|node| node.labels().get("tier").map(String::as_str) == Some("apps"));
    assert_eq!(labelled.count(), 2);
    assert!(house.kubeconfig().contains("kina-dev"));
    house.is_quiet().await;
    house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
    house.gone("dev").await;
    house.nothing_left().await;
}

fn one_worker() -> Value {
    json!({"workers": [{"name": "apps", "replicas": 1}]})
}

#[tokio::test(start_paused = true)]
async fn three_control_planes_start_together_and_later_ones_come_and_go_one_at_a_time() {
    let house = House::new().await;
    house.create("ha", json!({"controlPlane": {"replicas": 3}})).await;
    house.ready("ha").await;
    assert_eq!(house.nodes("ha").await.len(), 3);
    house.patch("ha", json!({"spec": {"controlPlane": {"replicas": 5}}})).await;
    house.ready("ha").await;
    assert_eq!(house.nodes("ha").await.len(), 5);
    house.patch("ha", json!({"spec": {"controlPlane": {"replicas": 1}}})).await;
    house.ready("ha").await;
    // A Node goes before its container does.
    let is_alone =
        async |house: &House| house.nodes("ha").await.len() == 1 && house.listing().await.containers.len() == 2;
    house.until(60, "one node", is_alone).await;
    house.is_quiet().await;
    house.clusters().delete("ha", &DeleteParams::default()).await.unwrap();
    house.gone("ha").await;
    house.nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn pools_grow_shrink_come_and_go() {
    let house = House::new().await;
    house.create("dev", one_worker()).await;
    house.ready("dev").await;
    house.patch("dev", json!({"spec": {"workers": [{"name": "apps", "replicas": 3}, {"name": "more"}]}})).await;
    house.ready("dev").await;
    assert_eq!(house.nodes("dev").await.len(), 5);
    house.patch("dev", json!({"spec": {"workers": [{"name": "apps", "replicas": 2}]}})).await;
    house.ready("dev").await;
    house.until(60, "three nodes", async |house| house.nodes("dev").await.len() == 3).await;
    house
        .until(60, "three machines", async |house| {
            house.machine_names().await == ["dev-apps-0", "dev-apps-1", "dev-control-plane-0"]
        })
        .await;
    house.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn labels_and_taints_change_in_place() {
    let house = House::new().await;
    house.create("dev", one_worker()).await;
    house.ready("dev").await;
    let before = house.listing().await.containers;
    let taint = json!({"key": "dedicated", "effect": "NoSchedule"});
    let pool = json!({"name": "apps", "replicas": 1, "labels": {"tier": "web"}, "taints": [taint]});
    house.patch("dev", json!({"spec": {"workers": [pool]}})).await;
    let worker = async |house: &House| {
        let nodes = house.nodes("dev").await;
        nodes.into_iter().find(|node| node.name_any() == "dev-apps-0").unwrap()
    };
    house
        .until(20, "label and taint", async |house| {
            let node = worker(house).await;
            let taints = node.spec.clone().unwrap().taints.unwrap_or_default();
            node.labels().get("tier").map(String::as_str) == Some("web") && taints.iter().any(|t| t.key == "dedicated")
        })
        .await;
    house.patch("dev", json!({"spec": {"workers": [{"name": "apps", "replicas": 1}]}})).await;
    house
        .until(20, "neither", async |house| {
            let node = worker(house).await;
            let taints = node.spec.clone().unwrap().taints.unwrap_or_default();
            !node.labels().contains_key("tier") && taints.iter().all(|t| t.key != "dedicated")
        })
        .await;
    assert_eq!(house.listing().await.containers, before);
}

#[tokio::test(start_paused = true)]
async fn other_resources_roll_one_machine_at_a_time_and_data_stays() {
    let house = House::new().await;
    house.create("dev", json!({"workers": [{"name": "apps", "replicas": 2}]})).await;
    house.ready("dev").await;
    let uids = |nodes: Vec<Node>| nodes.iter().map(|node| node.uid().unwrap()).collect::<Vec<_>>();
    let nodes = uids(house.nodes("dev").await);
    let pool = json!({"name": "apps", "replicas": 2, "resources": {"memory": "2Gi"}});
    let spec = json!({"controlPlane": {"resources": {"cpus": 2}}, "workers": [pool]});
    house.patch("dev", json!({"spec": spec})).await;
    house
        .until(240, "rolled", async |house| {
            let listing = house.listing().await;
            let rolled = listing
                .containers
                .iter()
                .filter(|c| c.resources.memory_bytes.is_some() || c.resources.cpu_millis.is_some());
            rolled.count() == 3 && house.is_ready("dev").await
        })
        .await;
    assert_eq!(uids(house.nodes("dev").await), nodes);
    let cordoned = house
        .nodes("dev")
        .await
        .into_iter()
        .filter(|node| node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true));
    assert_eq!(cordoned.count(), 0);
    house.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_removed_or_altered_is_repaired() {
    let house = House::new().await;
    house.create("dev", json!({"workers": [{"name": "apps", "replicas": 2}]})).await;
    house.ready("dev").await;
    house.sim.hands().stop_container("dev-apps-0").unwrap();
    house.until(20, "seen", async |house| !house.is_ready("dev").await).await;
    house.ready("dev").await;
    house.sim.hands().remove_container("dev-apps-1").unwrap();
    house.until(20, "seen", async |house| !house.is_ready("dev").await).await;
    house.ready("dev").await;
    house.sim.hands().stop_container("dev-control-plane-0").unwrap();
    house.until(20, "seen", async |house| !house.is_ready("dev").await).await;
    house.ready("dev").await;
    house.sim.hands().remove_container("dev-lb").unwrap();
    house.until(20, "seen", async |house| !house.is_ready("dev").await).await;
    house.ready("dev").await;
    house.sim.hands().alter_container("dev-apps-0", |spec| spec.resources.cpu_millis = Some(100)).unwrap();
    house
        .until(120, "as wanted again", async |house| {
            let listing = house.listing().await;
            let container = listing.containers.iter().find(|container| container.name == "dev-apps-0");
            container.is_some_and(|c| c.resources.cpu_millis.is_none()) && house.is_ready("dev").await
        })
        .await;
    assert_eq!(house.cluster("dev").await.status.unwrap().drift, []);
    house.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn everything_restarted_at_once_comes_back() {
    let house = House::new().await;
    house.create("ha", json!({"controlPlane": {"replicas": 3}, "workers": [{"name": "apps", "replicas": 2}]})).await;
    house.ready("ha").await;
    house.sim.hands().restart_runtime(false).unwrap();
    house.until(20, "seen", async |house| !house.is_ready("ha").await).await;
    house.ready("ha").await;
    house.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn where_drift_is_audited_it_is_told_and_left() {
    let house = House::new().await;
    house.create("dev", json!({"drift": {"mode": "Audit"}, "workers": [{"name": "apps"}]})).await;
    house.ready("dev").await;
    house.sim.hands().stop_container("dev-apps-0").unwrap();
    house
        .until(20, "told", async |house| {
            let status = house.cluster("dev").await.status.unwrap();
            status.drift.iter().any(|drift| drift.object == "container dev-apps-0" && drift.action == "reported")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let listing = house.listing().await;
    let container = listing.containers.iter().find(|container| container.name == "dev-apps-0").unwrap();
    assert!(matches!(container.state, ContainerState::Stopped { .. }));
    house.patch("dev", json!({"spec": {"drift": {"mode": "Enforce"}}})).await;
    house.ready("dev").await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_cluster_is_left_alone_until_it_goes_on() {
    let house = House::new().await;
    house.create("dev", one_worker()).await;
    house.ready("dev").await;
    house.patch("dev", json!({"metadata": {"annotations": {"kina.dev/paused": "true"}}})).await;
    house
        .until(20, "paused", async |house| {
            house.cluster("dev").await.status.unwrap().phase.as_deref() == Some("Paused")
        })
        .await;
    let before = house.listing().await.containers;
    house.patch("dev", json!({"spec": {"workers": [{"name": "apps", "replicas": 3}]}})).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(house.listing().await.containers, before);
    house.patch("dev", json!({"metadata": {"annotations": {"kina.dev/paused": null}}})).await;
    house
        .until(60, "four nodes", async |house| house.nodes("dev").await.len() == 4 && house.is_ready("dev").await)
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_new_cluster_makes_one() {
    let house = House::new().await;
    house.create("dev", json!({"allowRecreate": true, "workers": [{"name": "apps"}]})).await;
    house.ready("dev").await;
    let before: Vec<_> = house.nodes("dev").await.iter().map(|node| node.uid()).collect();
    let networking = json!({"podSubnet": "10.100.0.0/16", "nodeSubnet": "10.170.0.0/24"});
    house.patch("dev", json!({"spec": {"networking": networking}})).await;
    house
        .until(120, "made anew", async |house| {
            let network = house.listing().await.networks.first().and_then(|network| network.subnet.clone());
            network.as_deref() == Some("10.170.0.0/24") && house.is_ready("dev").await
        })
        .await;
    let after: Vec<_> = house.nodes("dev").await.iter().map(|node| node.uid()).collect();
    assert!(before.iter().all(|uid| !after.contains(uid)));
    house.patch("dev", json!({"spec": {"networking": {"apiServer": {"port": 45_000}}}})).await;
    house
        .until(60, "another port", async |house| house.kubeconfig().contains("45000") && house.is_ready("dev").await)
        .await;
    assert_eq!(house.nodes("dev").await.iter().map(|node| node.uid()).collect::<Vec<_>>(), after);
    house.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_orphaned_cluster_stays_on_the_host() {
    let house = House::new().await;
    house.create("dev", json!({"deletionPolicy": "Orphan", "workers": [{"name": "apps"}]})).await;
    house.ready("dev").await;
    let before = house.listing().await.containers;
    house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
    house.gone("dev").await;
    assert_eq!(house.listing().await.containers, before);
    assert!(house.machine_names().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_time_is_over_goes_by_itself() {
    let house = House::new().await;
    house.create("dev", json!({"ttl": "10m"})).await;
    house.ready("dev").await;
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert!(house.is_ready("dev").await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    house.gone("dev").await;
    house.nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_others_is_told_and_never_touched() {
    let house = House::new().await;
    let mut foreign = crate::runtime::ContainerSpec {
        name: "dev-apps-0".into(),
        image: "docker.io/library/busybox:1".into(),
        labels: BTreeMap::new(),
        network: "theirs".into(),
        address: None,
        ipv6_address: None,
        environment: BTreeMap::new(),
        mounts: vec![],
        ports: vec![],
        resources: crate::runtime::Resources::default(),
        hosts: BTreeMap::new(),
        dns_search: None,
        host_mounts: Vec::new(),
        privileges: crate::runtime::Privileges::None,
        command: vec![],
    };
    let network = crate::runtime::NetworkSpec {
        name: "theirs".into(),
        subnet: Some("10.160.0.0/24".into()),
        ipv6_subnet: None,
        labels: BTreeMap::new(),
    };
    house.sim.hands().add_network(&network).unwrap();
    house.sim.hands().add_container(&foreign).unwrap();
    house.create("dev", one_worker()).await;
    house
        .until(60, "told", async |house| {
            let cluster = house.cluster("dev").await;
            let stalled =
                cluster.status.as_ref().and_then(|s| conditions::get(&s.conditions, conditions::STALLED).cloned());
            stalled.is_some_and(|stalled| stalled.status == "True" && stalled.message.contains("dev-apps-0"))
        })
        .await;
    let cluster = house.cluster("dev").await;
    assert_eq!(cluster.spec.networking.node_subnet.as_deref(), Some("10.160.1.0/24"));
    assert_eq!(cluster.status.unwrap().phase.as_deref(), Some("Failed"));
    house.is_quiet().await;
    house.sim.hands().remove_container("dev-apps-0").unwrap();
    house.ready("dev").await;
    foreign.name = "dev-x".into();
    house.sim.hands().add_container(&foreign).unwrap();
    house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
    house.gone("dev").await;
    let listing = house.listing().await;
    assert_eq!(listing.containers.len(), 1);
    assert_eq!(listing.networks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn kina_killed_at_any_time_goes_on_where_it_was() {
    for after in [30, 400, 1300, 2600, 4000] {
        let mut house = House::new().await;
        house
            .create("dev", json!({"controlPlane": {"replicas": 3}, "workers": [{"name": "apps", "replicas": 2}]}))
            .await;
        tokio::time::sleep(Duration::from_millis(after)).await;
        house.kill().await;
        house.ready("dev").await;
        let listing = house.listing().await;
        assert_eq!((listing.containers.len(), listing.volumes.len()), (6, 5), "killed after {after} ms");
        assert_eq!(house.nodes("dev").await.len(), 5);
        house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(after / 4)).await;
        house.kill().await;
        house.gone("dev").await;
        house.nothing_left().await;
    }
}

impl House {
    /// Ends the controllers as `kill -9` does, and starts them again.
    async fn kill(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
        self.running = tokio::spawn(run(self.context.clone(), self.shutdown.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn many_clusters_come_up_side_by_side() {
    let house = House::with(SimOptions { latency: Latency::zero(), ..SimOptions::default() }).await;
    for index in 0..10 {
        house.create(&format!("c{index}"), json!({"workers": [{"name": "apps", "replicas": 3}]})).await;
    }
    for index in 0..10 {
        house.ready(&format!("c{index}")).await;
    }
    for index in 0..10 {
        house.clusters().delete(&format!("c{index}"), &DeleteParams::default()).await.unwrap();
    }
    for index in 0..10 {
        house.gone(&format!("c{index}")).await;
    }
    house.nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_deleted_while_it_comes_up_goes() {
    for after in [1, 200, 900, 2000] {
        let house = House::new().await;
        house.create("dev", one_worker()).await;
        tokio::time::sleep(Duration::from_millis(after)).await;
        house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
        house.gone("dev").await;
        house.nothing_left().await;
        assert_eq!(kubeconfig::current_context(&*house.world.files, &Target::explicit(KUBECONFIG)).unwrap(), None);
    }
}

/// Fails some of everything, by a sequence of its own, until it is told to stop.
#[derive(Debug)]
struct Unreliable {
    random: crate::world::SeededRandom,
    until: std::sync::atomic::AtomicBool,
}

impl crate::runtime::sim::Gate for Unreliable {
    fn decide(&self, _: crate::runtime::sim::Operation, _: &str) -> crate::runtime::sim::Fault {
        use crate::runtime::Cause;
        use crate::runtime::sim::Fault;
        use crate::world::Random;
        if !self.until.load(std::sync::atomic::Ordering::Relaxed) {
            return Fault::None;
        }
        match self.random.next_u64() % 100 {
            0..=4 => Fault::FailBefore(Cause::Unavailable),
            5..=7 => Fault::FailBefore(Cause::Unknown),
            8..=11 => Fault::ReplyLost,
            12..=13 => Fault::Slow(Duration::from_secs(3)),
            14 => Fault::Timeout,
            _ => Fault::None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_fails_now_and_then_is_lived_with() {
    for seed in 0..4 {
        let until = std::sync::atomic::AtomicBool::new(true);
        let gate = Arc::new(Unreliable { random: crate::world::SeededRandom::new(seed), until });
        let house = House::with(SimOptions { gate: gate.clone(), ..SimOptions::default() }).await;
        house
            .create("dev", json!({"controlPlane": {"replicas": 3}, "workers": [{"name": "apps", "replicas": 2}]}))
            .await;
        house.until(1800, "Ready", async |house| house.is_ready("dev").await).await;
        house.patch("dev", json!({"spec": {"controlPlane": {"replicas": 1}, "workers": [{"name": "apps"}]}})).await;
        house.until(1800, "smaller", async |house| house.machine_names().await.len() == 2).await;
        house.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
        house.until(1800, "gone", async |house| house.clusters().get_opt("dev").await.unwrap().is_none()).await;
        gate.until.store(false, std::sync::atomic::Ordering::Relaxed);
        house.nothing_left().await;
    }
}
