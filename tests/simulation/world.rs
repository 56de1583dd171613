//! The world of a run, what is done to it, and what is written down of it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::watcher;
use kube::ResourceExt;

use kina::api::{Cluster, Machine, Source, users};
use kina::api::conditions;
use kina::home::Home;
use kina::kubeconfig::Target;
use kina::runtime::Runtime;
use kina::runtime::sim::{Fault, Gate, Operation, SimOptions};
use kina::sources::Root;
use kina::system::{Options, Running, Storage};
use kina::world::World;

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
    home: Home,
    trace: Trace,
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
        self.lines.lock().unwrap().push(format!("{at:>8} {line}"));
    }
}

/// A gate that lets everything pass and writes it down.
#[derive(Debug)]
struct Recording(Trace);

impl Gate for Recording {
    fn decide(&self, operation: Operation, object: &str) -> Fault {
        self.0.note(format_args!("{} {object}", operation.as_str()));
        Fault::None
    }
}

/// Runs a story in a fresh thread whose entropy follows from the seed.
pub fn run<F, Fut>(seed: u64, story: F) -> Run
where
    F: FnOnce(Simulation) -> Fut + Send + 'static,
    Fut: Future<Output = Simulation>,
{
    let body = move || {
        entropy::seed_thread(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let simulation = Simulation::start(seed).await;
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
    async fn start(seed: u64) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let world = World::simulated(seed, start);
        let home = Home::at("/home/me/.kina");
        home.prepare(world.files.as_ref(), 1000).unwrap();
        let trace = Trace { lines: Arc::default(), start: tokio::time::Instant::now() };
        let options = Options {
            home: home.clone(),
            world: world.clone(),
            roots: vec![Root { name: "clusters".into(), path: home.clusters() }],
            storage: Storage::Memory,
            simulator: SimOptions { gate: Arc::new(Recording(trace.clone())), ..SimOptions::default() },
            kubeconfig: Target::resolve(None, Path::new("/home/me")),
            sockets: false,
            parallelism: 2,
        };
        let system = Running::start(options).await.unwrap();
        let simulation = Self { system, world, home, trace };
        simulation.record::<Cluster>("cluster");
        simulation.record::<Machine>("machine");
        simulation.record::<Source>("source");
        simulation
    }

    /// Writes down every change of every object of a kind.
    fn record<K>(&self, kind: &'static str)
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
    {
        let api: Api<K> = Api::all(self.system.client(users::ADMIN));
        let trace = self.trace.clone();
        tokio::spawn(async move {
            let changes = watcher(api, watcher::Config::default());
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
            current && conditions::is_true(&status.conditions, conditions::READY) && (desired, ready) == (machines, machines)
        };
        self.until(&clusters, name, "Ready", ready, limit).await;
        self.trace.note(format_args!("{name} is Ready with {machines} machines"));
    }

    pub async fn until_gone(&mut self, name: &str, limit: Duration) {
        let clusters: Api<Cluster> = Api::all(self.system.client(users::ADMIN));
        self.until(&clusters, name, "gone", |cluster| cluster.is_none(), limit).await;
        self.trace.note(format_args!("{name} is gone"));
    }

    /// Waits for a condition of one Cluster; a part of the system that ends is a failure at once.
    async fn until(
        &mut self,
        clusters: &Api<Cluster>,
        name: &str,
        what: &str,
        holds: impl Fn(&Option<Cluster>) -> bool,
        limit: Duration,
    ) {
        let seen = async {
            loop {
                if holds(&clusters.get_opt(name).await.unwrap()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let outcome = tokio::select! {
            biased;
            failed = self.system.failed() => Err(format!("{failed}")),
            outcome = tokio::time::timeout(limit, seen) => outcome.map_err(|_| format!("not within {limit:?}")),
        };
        if let Err(cause) = outcome {
            let last = self.trace.lines.lock().unwrap().iter().rev().take(40).rev().cloned().collect::<Vec<_>>();
            let machines: Api<Machine> = Api::all(self.system.client(users::ADMIN));
            let machines = machines.list(&Default::default()).await.unwrap().items;
            let state: Vec<String> =
                machines.iter().map(|machine| format!("{}: {:?}", machine.name_any(), machine.status)).collect();
            let cluster = clusters.get_opt(name).await.unwrap().and_then(|cluster| cluster.status);
            panic!("{name} was not {what}: {cause}\n{cluster:#?}\n{}\n{}", state.join("\n"), last.join("\n"));
        }
    }

    /// Ends the run: what is left in the runtime, in the kubeconfig and in the home.
    async fn end(self) -> Run {
        let listing = self.system.simulator().list().await.unwrap();
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
        let machines = machines.list(&Default::default()).await.unwrap().items;
        left_behind.extend(machines.iter().map(|machine| format!("machine {}", machine.name_any())));
        self.system.shutdown().await;
        let trace = self.trace.lines.lock().unwrap().clone();
        Run { trace, left_behind }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.clusters().join(name)
    }
}
