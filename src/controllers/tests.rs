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
        let cluster = Kind::from_crd(&Cluster::crd()).unwrap().with_admission(Arc::new(ClusterRules));
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
        let context = Context {
            client: tenant.client(User::named(users::CONTROLLERS)),
            world: world.clone(),
            runtimes: Runtimes { usable: BTreeMap::from([(RuntimeName::Sim, runtime)]), silent: BTreeMap::new() },
            installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            pki_directory: PKI.into(),
            kubeconfig: Target::explicit(KUBECONFIG),
            parallelism: 4,
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
        for cluster in clusters {
            eprintln!("{} {:#}", cluster.name_any(), json!({"spec": cluster.spec, "status": cluster.status}));
        }
        for machine in machines {
            eprintln!("{} {:#}", machine.name_any(), json!({"turn": machine.spec.turn, "deleting": machine.metadata.deletion_timestamp, "status": machine.status}));
        }
        eprintln!("{:#?}", self.listing().await);
        panic!("not within {seconds} s: {what}");
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
        self.until(120, &format!("{name} gone"), async |house| {
            house.clusters().get_opt(name).await.unwrap().is_none()
        })
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
