//! The world of a run, what is done to it, and what is written down of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use serde_json::Value;

use kina::api::conditions;
use kina::api::{Cluster, Machine, Source, SourceStatus, users};
use kina::apiserver::store::RedbStore;
use kina::home::Home;
use kina::kubeconfig::Target;
use kina::runtime::sim::{Fault, Gate, Hands, Operation, SimOptions, SimRuntime, SimStore};
use kina::runtime::{ClusterAccess, ContainerSpec, Labels, Listing, Networks, Resources, Runtime};
use kina::sources::Root;
use kina::system::{NoLayers, Options, Running, Storage};
use kina::world::{FileSystem, MemoryFiles, World};

use crate::backend::SharedBytes;
use crate::entropy;

/// What a run leaves: every step that could be seen from outside, and what was left on the host at its end.
pub struct Run {
    pub trace: Vec<String>,
    pub left_behind: Vec<String>,
}

/// A running Kina in a world of its own.
pub struct Simulation {
    system: Running,
    world: World,
    files: Arc<MemoryFiles>,
    home: Home,
    store: SharedBytes,
    simulator: Arc<SimRuntime>,
    trace: Trace,
    faults: Faults,
}

/// What can be done while Kina is down.
pub struct Meanwhile<'a> {
    world: &'a World,
    home: &'a Home,
}

impl Meanwhile<'_> {
    pub fn remove(&self, name: &str) {
        self.world.files.remove_file(&self.home.clusters().join(name)).unwrap();
    }

    pub fn write(&self, name: &str, content: &str) {
        self.world.files.write(&self.home.clusters().join(name), content.as_bytes(), 0o600).unwrap();
    }

    /// Removes the keys of all clusters.
    pub fn remove_keys(&self) {
        self.world.files.remove_directory(&self.home.pki()).unwrap();
    }
}

/// How often is looked whether a condition holds.
const LOOK: Duration = Duration::from_millis(100);
/// Pages of the store kept in memory: any number does.
const CACHE_BYTES: usize = 1 << 20;

async fn system(world: &World, home: &Home, store: &SharedBytes, simulator: &Arc<SimRuntime>) -> Running {
    let store = Arc::new(RedbStore::with_backend(store.clone(), CACHE_BYTES, "a-store").unwrap());
    let options = Options {
        home: home.clone(),
        world: world.clone(),
        roots: vec![Root::home(home.clusters())],
        unwatch: Vec::new(),
        storage: Storage::Given { store, simulator: Arc::clone(simulator) },
        kubeconfig: Target::resolve(None, Path::new("/home/me")),
        sockets: false,
        runtimes: kina::controllers::Runtimes::default(),
        parallelism: 2,
        layers: Arc::new(NoLayers),
    };
    Running::start(options).await.unwrap()
}

/// Lines with the virtual time since the start.
#[derive(Clone, Debug)]
struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    start: tokio::time::Instant,
}

impl Trace {
    fn note(&self, line: std::fmt::Arguments<'_>) {
        let at = self.start.elapsed().as_millis();
        let line = format!("{at:>8} {line}");
        // For whoever looks for where a run hangs.
        if std::env::var_os("KINA_SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.lines.lock().unwrap().push(line);
    }
}

/// What happens to operations whose object begins so.
type Faults = Arc<Mutex<Vec<(Operation, String, Fault)>>>;

/// A gate that lets everything pass but what a story says, and writes it down.
#[derive(Debug)]
struct Recording(Trace, Faults);

impl Gate for Recording {
    fn decide(&self, operation: Operation, object: &str) -> Fault {
        self.0.note(format_args!("{} {object}", operation.as_str()));
        let faults = self.1.lock().unwrap();
        let found = faults.iter().find(|(of, begins, _)| *of == operation && object.starts_with(begins.as_str()));
        found.map_or(Fault::None, |(_, _, fault)| *fault)
    }
}

/// Runs a story in a fresh thread whose entropy follows from the seed.
pub fn run<F, Fut>(seed: u64, story: F) -> Run
where
    F: FnOnce(Simulation) -> Fut + Send + 'static,
    Fut: Future<Output = Simulation>,
{
    run_on(seed, SimOptions::default(), story)
}

/// The same, on a runtime that gives a container another address at every start.
pub fn run_where_addresses_move<F, Fut>(seed: u64, story: F) -> Run
where
    F: FnOnce(Simulation) -> Fut + Send + 'static,
    Fut: Future<Output = Simulation>,
{
    run_on(seed, SimOptions { pins_addresses: false, ..SimOptions::default() }, story)
}

/// The same, on a runtime that has these networks, as Apple Container.
pub fn run_with_networks<F, Fut>(seed: u64, networks: Networks, story: F) -> Run
where
    F: FnOnce(Simulation) -> Fut + Send + 'static,
    Fut: Future<Output = Simulation>,
{
    run_on(seed, SimOptions { pins_addresses: false, networks, ..SimOptions::default() }, story)
}

fn run_on<F, Fut>(seed: u64, options: SimOptions, story: F) -> Run
where
    F: FnOnce(Simulation) -> Fut + Send + 'static,
    Fut: Future<Output = Simulation>,
{
    let body = move || {
        entropy::seed_thread(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let simulation = Simulation::start(seed, options).await;
            story(simulation).await.end().await
        })
    };
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(8 << 20).spawn(body).unwrap();
    match thread.join() {
        Ok(run) => run,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Simulation {
    async fn start(seed: u64, options: SimOptions) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut world = World::simulated(seed, start);
        let files = Arc::new(MemoryFiles::new(Arc::clone(&world.clock)));
        world.files = Arc::clone(&files) as Arc<dyn FileSystem>;
        let home = Home::at("/home/me/.kina");
        home.prepare(world.files.as_ref(), 1000).unwrap();
        let trace = Trace { lines: Arc::default(), start: tokio::time::Instant::now() };
        let faults = Faults::default();
        let gate = Arc::new(Recording(trace.clone(), Arc::clone(&faults)));
        let options = SimOptions { gate, ..options };
        let simulator = SimRuntime::open(world.clone(), SimStore::Memory, options).unwrap();
        let store = SharedBytes::default();
        let system = system(&world, &home, &store, &simulator).await;
        let simulation = Self { system, world, files, home, store, simulator, trace, faults };
        simulation.record_all();
        simulation
    }

    /// Ends Kina as `kill -9` does, and starts it anew over what it left.
    pub async fn crash(self) -> Self {
        self.crash_and(|_| ()).await
    }

    /// As [`Self::crash`], with something happening while Kina is down.
    pub async fn crash_and(mut self, meanwhile: impl FnOnce(&Meanwhile<'_>)) -> Self {
        self.trace.note(format_args!("crash"));
        drop(self.system);
        // Tasks of the dead system end when they are next polled; one that sleeps is polled later only, and holds its store
        // open meanwhile. What it still writes must not reach the bytes that the next one has: two stores over the same
        // bytes ruin them, which no crash of a process can.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.store = self.store.copy();
        meanwhile(&Meanwhile { world: &self.world, home: &self.home });
        self.system = system(&self.world, &self.home, &self.store, &self.simulator).await;
        self.record_all();
        self
    }

    /// From now on this happens to operations whose object begins so; before what was said earlier.
    pub fn fault(&self, operation: Operation, begins: &str, fault: Fault) {
        self.trace.note(format_args!("{} {begins}… meets {fault:?}", operation.as_str()));
        self.faults.lock().unwrap().insert(0, (operation, begins.to_owned(), fault));
    }

    /// Everything works again.
    pub fn no_more_faults(&self) {
        self.trace.note(format_args!("no more faults"));
        self.faults.lock().unwrap().clear();
    }

    /// Ends Kina, loses its store while it is down, and starts it over an empty one. The home stays.
    pub async fn lose_store(self) -> Self {
        self.lose_store_and(|_| ()).await
    }

    /// As [`Self::lose_store`], with something happening while Kina is down.
    pub async fn lose_store_and(mut self, meanwhile: impl FnOnce(&Meanwhile<'_>)) -> Self {
        self.trace.note(format_args!("the store is lost"));
        self.store = SharedBytes::default();
        self.crash_and(meanwhile).await
    }

    /// The store as it is now, to be restored later.
    pub fn back_up_store(&self) -> SharedBytes {
        self.store.copy()
    }

    /// Ends Kina, and starts it over an older store.
    pub async fn restore_store(mut self, backup: &SharedBytes) -> Self {
        self.trace.note(format_args!("an older store is restored"));
        self.store = backup.copy();
        self.crash().await
    }

    fn record_all(&self) {
        self.record::<Cluster>("cluster");
        self.record::<Machine>("machine");
        self.record::<Source>("source");
    }

    /// A client in the name of a person.
    pub fn client(&self) -> kube::Client {
        self.system.client(users::ADMIN)
    }

    /// The metrics, as a client of Kina's API reads them.
    pub async fn metrics(&self) -> String {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        self.client().request_text(request).await.unwrap()
    }

    /// What reaches into the simulated world behind Kina's back.
    pub fn hands(&self) -> Hands<'_> {
        self.simulator.hands()
    }

    /// Writes down every change of every object of a kind.
    fn record<K>(&self, kind: &'static str)
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
    {
        let api: Api<K> = Api::all(self.system.client(users::ADMIN));
        let trace = self.trace.clone();
        tokio::spawn(async move {
            let changes = watcher(api, watcher::Config::default()).default_backoff();
            let noted = changes.try_for_each(|event| {
                let (what, object) = match &event {
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => ("is", Some(object)),
                    watcher::Event::Delete(object) => ("is gone", Some(object)),
                    watcher::Event::Init | watcher::Event::InitDone => ("", None),
                };
                if let Some(object) = object {
                    let revision = object.resource_version().unwrap_or_default();
                    trace.note(format_args!("{kind} {} {what} at {revision}", object.name_any()));
                }
                async { Ok(()) }
            });
            let _ = noted.await;
        });
    }

    pub fn write(&self, name: &str, content: &str) {
        self.trace.note(format_args!("write {name}"));
        self.world.files.write(&self.path(name), content.as_bytes(), 0o600).unwrap();
    }

    /// Removes files, and gives Kina no chance to look in between.
    pub fn remove_all(&self, names: &[&str]) {
        for name in names {
            self.remove(name);
        }
    }

    /// Removes the watched directory itself.
    pub fn remove_root(&self) {
        self.trace.note(format_args!("remove the root"));
        self.world.files.remove_directory(&self.home.clusters()).unwrap();
    }

    pub fn make_directory(&self, path: &Path) {
        self.trace.note(format_args!("make {}", path.display()));
        self.world.files.create_directories(path, 0o700).unwrap();
    }

    /// Makes a symbolic link, in place of one that is there.
    pub fn link(&self, target: &Path, path: &Path) {
        self.trace.note(format_args!("link {} to {}", path.display(), target.display()));
        self.files.link(target, path).unwrap();
    }

    /// The text of a file.
    pub fn read(&self, path: &Path) -> String {
        String::from_utf8(self.world.files.read(path, 1 << 20).unwrap()).unwrap()
    }

    /// Writes a file as somebody else does.
    pub fn replace(&self, path: &Path, content: &str) {
        self.trace.note(format_args!("somebody writes {}", path.display()));
        self.world.files.write(path, content.as_bytes(), 0o600).unwrap();
    }

    /// Until a file says so.
    pub async fn until_text(&self, path: &Path, limit: Duration, holds: impl Fn(&str) -> bool) {
        let seen = async {
            while !holds(&self.read(path)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let seen = tokio::time::timeout(limit, seen).await;
        assert!(seen.is_ok(), "not within {limit:?}:\n{}\n{}", self.read(path), self.last_lines());
    }

    /// Lets time pass with everything at work.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Everything in the runtime.
    pub async fn listing(&self) -> Listing {
        self.simulator.list().await.unwrap()
    }

    pub async fn cluster(&self, name: &str) -> Cluster {
        Api::all(self.client()).get(name).await.unwrap()
    }

    pub async fn cluster_names(&self) -> Vec<String> {
        let clusters: Api<Cluster> = Api::all(self.client());
        clusters.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
    }

    /// Revisions of everything, and ids of all containers: what stays the same while nothing is changed.
    pub async fn quiet_marks(&self) -> Vec<String> {
        let mut marks = Vec::new();
        let clusters: Api<Cluster> = Api::all(self.client());
        let machines: Api<Machine> = Api::all(self.client());
        let sources: Api<Source> = Api::all(self.client());
        let list = ListParams::default();
        let noted = |object: &dyn Fn() -> (String, Option<String>)| format!("{:?}", object());
        for object in clusters.list(&list).await.unwrap() {
            marks.push(noted(&|| (object.name_any(), object.resource_version())));
        }
        for object in machines.list(&list).await.unwrap() {
            marks.push(noted(&|| (object.name_any(), object.resource_version())));
        }
        for object in sources.list(&list).await.unwrap() {
            marks.push(noted(&|| (object.name_any(), object.resource_version())));
        }
        marks.extend(self.listing().await.containers.iter().map(|container| container.id.0.clone()));
        marks
    }

    /// A client of a cluster, with what its context in the kubeconfig says.
    pub async fn cluster_client(&self, name: &str) -> kube::Client {
        let kubeconfig: Value = serde_saphyr::from_str(&self.read(Path::new("/home/me/.kube/config"))).unwrap();
        let named = |list: &str, key: &str| -> Value {
            let entries = kubeconfig[list].as_array().unwrap();
            entries.iter().find(|entry| entry["name"] == format!("kina-{name}")).unwrap()[key].clone()
        };
        let (server, user) = (named("clusters", "cluster"), named("users", "user"));
        let decoded = |data: &Value| String::from_utf8(STANDARD.decode(data.as_str().unwrap()).unwrap()).unwrap();
        let access = ClusterAccess {
            server: server["server"].as_str().unwrap().to_owned(),
            ca_certificate: decoded(&server["certificate-authority-data"]),
            client_certificate: decoded(&user["client-certificate-data"]),
            client_key: decoded(&user["client-key-data"]),
        };
        self.simulator.connector().connect(&access).await.unwrap()
    }

    pub async fn nodes(&self, name: &str) -> Vec<Node> {
        let nodes: Api<Node> = Api::all(self.cluster_client(name).await);
        nodes.list(&ListParams::default()).await.unwrap().items
    }

    pub async fn until_node(&mut self, cluster: &str, name: &str, limit: Duration, holds: impl Fn(&Node) -> bool) {
        let nodes: Api<Node> = Api::all(self.cluster_client(cluster).await);
        self.until(&nodes, name, "as wanted", |node| node.as_ref().is_some_and(&holds), limit).await;
    }

    /// Until an object of a cluster's, or of Kina's, is so, or is not there.
    pub async fn until_object<K>(
        &mut self,
        api: &Api<K>,
        name: &str,
        limit: Duration,
        holds: impl Fn(&Option<K>) -> bool,
    ) where
        K: Clone + Debug + DeserializeOwned,
    {
        self.until(api, name, "as wanted", holds, limit).await;
    }

    pub async fn until_machine(&mut self, name: &str, limit: Duration, holds: impl Fn(&Machine) -> bool) {
        let machines: Api<Machine> = Api::all(self.client());
        self.until(&machines, name, "as wanted", |machine| machine.as_ref().is_some_and(&holds), limit).await;
    }

    pub async fn until_cluster(
        &mut self,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Cluster) -> bool,
    ) -> Cluster {
        let clusters: Api<Cluster> = Api::all(self.client());
        self.until(&clusters, name, what, |cluster| cluster.as_ref().is_some_and(&holds), limit).await.unwrap()
    }

    /// Until the status of the source `clusters` is so.
    pub async fn until_source(&mut self, limit: Duration, holds: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
        let sources: Api<Source> = Api::all(self.client());
        let status = |source: &Option<Source>| source.as_ref().and_then(|source| source.status.clone());
        let holds = |source: &Option<Source>| status(source).as_ref().is_some_and(&holds);
        status(&self.until(&sources, "clusters", "as wanted", holds, limit).await).unwrap()
    }

    pub async fn until_listing(&mut self, limit: Duration, holds: impl Fn(&Listing) -> bool) {
        let seen = async {
            while !holds(&self.simulator.list().await.unwrap()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(limit, seen).await.is_err() {
            let listing = self.listing().await;
            panic!("the runtime did not come to be as wanted: {listing:#?}\n{}", self.last_lines());
        }
    }

    pub fn remove(&self, name: &str) {
        self.trace.note(format_args!("remove {name}"));
        self.world.files.remove_file(&self.path(name)).unwrap();
    }

    /// Until the Cluster is Ready with so many machines.
    pub async fn until_ready(&mut self, name: &str, machines: u32, limit: Duration) {
        let clusters: Api<Cluster> = Api::all(self.system.client(users::ADMIN));
        let ready = |cluster: &Option<Cluster>| {
            let Some(status) = cluster.as_ref().and_then(|cluster| cluster.status.as_ref()) else { return false };
            let counts = status.machines.clone().unwrap_or_default();
            let current = status.observed_generation == cluster.as_ref().and_then(|c| c.metadata.generation);
            let (desired, ready) = (counts.desired, counts.ready);
            current
                && conditions::is_true(&status.conditions, conditions::READY)
                && (desired, ready) == (machines, machines)
        };
        self.until(&clusters, name, "Ready", ready, limit).await;
        self.trace.note(format_args!("{name} is Ready with {machines} machines"));
    }

    pub async fn until_gone(&mut self, name: &str, limit: Duration) {
        let clusters: Api<Cluster> = Api::all(self.client());
        self.until(&clusters, name, "gone", |cluster| cluster.is_none(), limit).await;
        self.trace.note(format_args!("{name} is gone"));
    }

    /// Waits for a condition of one object; a part of the system that ends is a failure at once.
    pub async fn until<K>(
        &mut self,
        api: &Api<K>,
        name: &str,
        what: &str,
        holds: impl Fn(&Option<K>) -> bool,
        limit: Duration,
    ) -> Option<K>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let seen = async {
            loop {
                // A cluster's own API may be away for a while.
                match api.get_opt(name).await {
                    Ok(object) if holds(&object) => return object,
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let outcome = tokio::select! {
            biased;
            failed = self.system.failed() => Err(format!("{failed}")),
            outcome = tokio::time::timeout(limit, seen) => outcome.map_err(|_| format!("not within {limit:?}")),
        };
        match outcome {
            Ok(object) => object,
            Err(cause) => {
                let machines: Api<Machine> = Api::all(self.client());
                let machines = machines.list(&ListParams::default()).await.unwrap().items;
                let state: Vec<String> =
                    machines.iter().map(|machine| format!("{}: {:?}", machine.name_any(), machine.status)).collect();
                let last = api.get_opt(name).await;
                panic!("{name} was not {what}: {cause}\n{last:#?}\n{}\n{}", state.join("\n"), self.last_lines());
            }
        }
    }

    fn last_lines(&self) -> String {
        let lines = self.trace.lines.lock().unwrap();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Ends the run: what is left in the runtime, in the kubeconfig and in the home.
    async fn end(self) -> Run {
        let listing = self.simulator.list().await.unwrap();
        let mut left_behind: Vec<String> = Vec::new();
        left_behind.extend(listing.containers.into_iter().map(|container| format!("container {}", container.name)));
        left_behind.extend(listing.networks.into_iter().map(|network| format!("network {}", network.name)));
        left_behind.extend(listing.volumes.into_iter().map(|volume| format!("volume {}", volume.name)));
        let pki = self.world.files.list(&self.home.pki()).unwrap_or_default();
        left_behind.extend(pki.into_iter().map(|name| format!("keys {name}")));
        let kubeconfig = self.world.files.read(Path::new("/home/me/.kube/config"), 1 << 20).unwrap_or_default();
        if String::from_utf8_lossy(&kubeconfig).contains("kina-") {
            left_behind.push("a context".to_owned());
        }
        let machines: Api<Machine> = Api::all(self.system.client(users::ADMIN));
        let machines = machines.list(&ListParams::default()).await.unwrap().items;
        left_behind.extend(machines.iter().map(|machine| format!("machine {}", machine.name_any())));
        self.system.shutdown().await;
        let trace = self.trace.lines.lock().unwrap().clone();
        Run { trace, left_behind }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.clusters().join(name)
    }
}

/// A container that Kina did not make.
pub fn others_container(name: &str, image: &str, network: &str, labels: Labels) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: image.into(),
        labels,
        network: network.into(),
        address: None,
        ipv6_address: None,
        environment: BTreeMap::new(),
        mounts: vec![],
        ports: vec![],
        resources: Resources::default(),
        hosts: BTreeMap::new(),
        dns_search: None,
        host_mounts: Vec::new(),
        privileges: kina::runtime::Privileges::None,
        command: vec![],
    }
}
