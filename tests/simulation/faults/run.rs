//! One run of a plan: a world, Kina in it through all its lives, a user, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Node;
use kina::api::{Cluster, Source, annotations, users};
use kina::home::Home;
use kina::kubeconfig::Target;
use kina::runtime::sim::{SimOptions, SimRuntime, SimStore};
use kina::runtime::{ClusterAccess, Container, ContainerState, NetworkSpec, Runtime, VolumeSpec};
use kina::sources::Root;
use kina::system::{Layers, Options, Running, Storage};
use kina::world::{FileSystem, MemoryFiles, SeededRandom, SequentialPorts, VirtualClock, World};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::clock::SettableClock;
use super::effect::Effect;
use super::files::GatedFiles;
use super::gate::{Gate, Life, Report};
use super::http::{Gated, Side};
use super::neighbour::{self, Neighbour};
use super::oracle::{Ground, Oracle, Wish};
use super::plan::{Faults, Plan, mixed};
use super::runtime::GatedRuntime;
use super::store::{Disk, GatedStore};
use super::upset::Mend;
use super::workload::{self, Shape, Step};
use crate::entropy;
use crate::world::others_container;

/// How often is looked whether the world is as it should be.
const LOOK: Duration = Duration::from_millis(250);
/// Everything is as it should be within this, whatever a single fault did: two image pulls that hang, and the longest backoff.
const SETTLED_WITHIN: Duration = Duration::from_secs(1800);
/// For so long nothing changes afterwards.
const STILL: Duration = Duration::from_secs(600);
/// A process that does not come up is started again so often, a second apart: for longer than anything is out.
const STARTS_MAX: u32 = 400;
/// Whatever users do has been noticed by then.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// A run.
pub struct Run {
    plan: Plan,
    pub gate: Arc<Gate>,
    life: Life,
    system: Option<Running>,
    pub simulator: Arc<SimRuntime>,
    pub files: Arc<MemoryFiles>,
    pub home: Home,
    base: VirtualClock,
    pub shared_offset: Arc<AtomicI64>,
    pub own_offset: Arc<AtomicI64>,
    ports: Arc<SequentialPorts>,
    disk: Disk,
    lives: u64,
    declared: BTreeMap<String, Vec<Shape>>,
    applied: BTreeMap<String, Shape>,
    neighbour: Option<Neighbour>,
    /// How many commits there were when somebody last looked for what is held.
    looked: u64,
    pub mends: Vec<(Instant, Mend)>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub violations: Vec<String>,
    pub report: Report,
    /// Everything there was when all had settled, without what differs from run to run.
    pub end: Vec<String>,
    pub virtual_seconds: u64,
    pub lives: u64,
    /// Tasks of the process when all had settled.
    pub tasks: usize,
}

impl Outcome {
    pub fn failed(&self) -> bool {
        !self.violations.is_empty()
    }
}

/// What is made once a process, by whoever needs it first, draws from the entropy of that run alone. So the first run of a
/// process is one that nobody looks at.
static FIRST: Once = Once::new();

/// Carries a plan out, in a fresh thread whose entropy follows from its seed.
pub fn execute(plan: &Plan) -> Outcome {
    FIRST.call_once(|| drop(carry_out(&Plan { seed: 0, workload: workload::drawn(0), faults: Faults::Drawn })));
    carry_out(plan)
}

fn carry_out(plan: &Plan) -> Outcome {
    let plan = plan.clone();
    let name = format!("{}-{}", plan.workload.name, plan.seed);
    let last: Arc<Mutex<Option<Arc<Gate>>>> = Arc::default();
    let shared = Arc::clone(&last);
    let body = move || {
        entropy::seed_thread(plan.seed);
        // For whoever looks at one run: RUST_LOG=kina=debug.
        let _logs = std::env::var("RUST_LOG").ok().map(|filter| {
            let logs = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr);
            tracing::subscriber::set_default(logs.finish())
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let run = Run::new(plan).await;
            *shared.lock().unwrap() = Some(Arc::clone(&run.gate));
            run.go().await
        })
    };
    let thread = std::thread::Builder::new().name(name).stack_size(8 << 20).spawn(body).unwrap();
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let gate = last.lock().unwrap().take().expect("a run begins with its gate");
            let mut violations = gate.oracle.violations();
            violations.push(format!("panic: {}", text.unwrap_or_default()));
            Outcome { violations, report: gate.report(), end: Vec::new(), virtual_seconds: 0, lives: 0, tasks: 0 }
        }
    }
}

#[derive(Debug)]
struct GatedLayers {
    life: Life,
    simulator: Arc<SimRuntime>,
}

impl Layers for GatedLayers {
    fn runtime(&self, inner: Arc<dyn Runtime>) -> Arc<dyn Runtime> {
        let (life, simulator) = (self.life.clone(), Arc::clone(&self.simulator));
        Arc::new(GatedRuntime { life, inner, simulator, previous: Mutex::default() })
    }

    fn client(&self, client: kube::Client) -> kube::Client {
        Gated::client(self.life.clone(), Side::Own, client)
    }
}

impl Run {
    async fn new(plan: Plan) -> Self {
        let base = VirtualClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let (shared_offset, own_offset) = (Arc::<AtomicI64>::default(), Arc::<AtomicI64>::default());
        let clock = Arc::new(SettableClock::new(base, vec![Arc::clone(&shared_offset)]));
        let files = Arc::new(MemoryFiles::new(clock.clone()));
        let ports = Arc::new(SequentialPorts::default());
        let home = Home::at("/home/me/.kina");
        home.prepare(files.as_ref(), 1000).unwrap();
        let world = World {
            clock,
            random: Arc::new(SeededRandom::new(mixed(plan.seed))),
            files: files.clone(),
            ports: ports.clone(),
        };
        let options = SimOptions { pins_addresses: !plan.workload.moving, ..SimOptions::default() };
        let simulator = SimRuntime::open(world, SimStore::Memory, options).unwrap();
        let ground = Ground {
            simulator: Arc::clone(&simulator),
            files: files.clone(),
            home: home.clone(),
            kubeconfig: PathBuf::from(KUBECONFIG),
            slept: Arc::clone(&shared_offset),
        };
        let gate = Gate::new(&plan, Oracle::new(ground));
        add_bystanders(&simulator);
        Self {
            life: Life::begin(&gate),
            plan,
            gate,
            system: None,
            simulator,
            files,
            home,
            base,
            shared_offset,
            own_offset,
            ports,
            disk: Disk::default(),
            lives: 0,
            declared: BTreeMap::new(),
            applied: BTreeMap::new(),
            neighbour: None,
            looked: 0,
            mends: Vec::new(),
        }
    }

    async fn go(mut self) -> Outcome {
        let began = Instant::now();
        let tasks_before = alive_tasks();
        self.ensure_running().await;
        for step in self.plan.workload.steps.clone() {
            self.gate.note(&format!("step: {step:?}").replace('\n', " "));
            self.step(step).await;
        }
        self.gate.arm(false);
        self.mend(true);
        let end = self.come_to_rest().await;
        let tasks = alive_tasks();
        self.tear_down().await;
        if let Some(system) = self.system.take() {
            system.shutdown().await;
        }
        // What a killed process was about ends with it, and stays here as tasks that nothing wakes any more.
        if self.lives == 1 && self.neighbour.is_none() && alive_tasks() > tasks_before {
            let left = alive_tasks() - tasks_before;
            self.gate.oracle.violated(format!("{left} tasks are left after Kina has ended"));
        }
        self.check_nothing_left();
        self.check_bounds();
        if let Some(neighbour) = self.neighbour.take() {
            neighbour.leave().await;
        }
        Outcome {
            violations: self.gate.oracle.violations(),
            report: self.gate.report(),
            end,
            virtual_seconds: began.elapsed().as_secs(),
            lives: self.lives,
            tasks,
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Faults => self.gate.arm(true),
            Step::Write { file, shapes } => {
                let text: Vec<String> = shapes.iter().map(Shape::manifest).collect();
                for shape in &shapes {
                    self.gate.oracle.wish(&shape.name, None);
                    if self.desired().iter().any(|now| now.name == shape.name && now.memory != shape.memory) {
                        self.gate.oracle.permit_replacement();
                    }
                }
                self.write(&file, &text.join("---\n"));
                self.declared.insert(file, shapes);
            }
            Step::Remove { file } => self.remove(&file),
            Step::Rename { from, to } => {
                // Where an upset has moved the directory away, the user has to wait.
                self.mend(true);
                self.files.rename(&self.path(&from), &self.path(&to)).unwrap();
                if let Some(shapes) = self.declared.remove(&from) {
                    self.declared.insert(to, shapes);
                }
            }
            Step::Apply { shape } => self.apply_by_hand(shape).await,
            Step::Settle => {
                // What the step before has changed may not have been seen yet: all would look settled.
                self.drive(SEEN_WITHIN, |_| false).await;
                let settled = self.drive(SETTLED_WITHIN, Self::is_settled).await;
                if !settled {
                    self.gate.note("did not settle");
                    self.note_objects();
                }
            }
            Step::Wait { millis } => {
                self.drive(Duration::from_millis(millis), |_| false).await;
            }
            Step::LoseStore => {
                self.life.kill();
                self.bury().await;
                self.disk = Disk::default();
                self.gate.oracle.lost_store();
                self.ensure_running().await;
            }
            Step::RestartRuntime => self.simulator.hands().restart_runtime(true).unwrap(),
            Step::Neighbour => {
                self.neighbour = Some(Neighbour::settle(&self.simulator, &self.files, self.world()).await)
            }
            Step::Restart { removing } => {
                self.life.kill();
                self.bury().await;
                if let Some(file) = removing {
                    self.remove(&file);
                }
                self.ensure_running().await;
            }
        }
    }

    fn write(&mut self, file: &str, text: &str) {
        self.mend(true);
        self.files.write(&self.path(file), text.as_bytes(), 0o600).unwrap();
    }

    fn remove(&mut self, file: &str) {
        self.mend(true);
        self.files.remove_file(&self.path(file)).unwrap();
        for shape in self.declared.remove(file).unwrap_or_default() {
            self.gate.oracle.wish(&shape.name, Some(Wish::File));
        }
    }

    async fn apply_by_hand(&mut self, shape: Shape) {
        let object: Value = serde_saphyr::from_str(&shape.manifest()).unwrap();
        let object: Cluster = serde_json::from_value(object).unwrap();
        let clusters: Api<Cluster> = Api::all(self.client().unwrap());
        clusters.create(&PostParams::default(), &object).await.unwrap();
        self.applied.insert(shape.name.clone(), shape);
    }

    fn path(&self, file: &str) -> PathBuf {
        self.home.clusters().join(file)
    }

    /// Paths of all manifests.
    pub fn manifest_paths(&self) -> Vec<PathBuf> {
        self.declared.keys().map(|file| self.path(file)).collect()
    }

    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.values().flatten().any(|shape| shape.name == name)
    }

    /// What clusters there should be.
    fn desired(&self) -> Vec<Shape> {
        let mut all: BTreeMap<String, Shape> = self.applied.clone();
        all.extend(self.declared.values().flatten().map(|shape| (shape.name.clone(), shape.clone())));
        all.into_values().collect()
    }

    /// What containers there should be.
    pub fn desired_containers(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for shape in self.desired() {
            let name = &shape.name;
            names.push(format!("{name}-lb"));
            names.extend((0..shape.control_planes).map(|index| format!("{name}-control-plane-{index}")));
            names.extend((0..shape.workers).map(|index| format!("{name}-pool-{index}")));
        }
        names.sort();
        names
    }

    /// A client in the name of a person, past the gate.
    pub fn client(&self) -> Option<kube::Client> {
        self.system.as_ref().map(|system| system.client(users::ADMIN))
    }

    async fn ensure_running(&mut self) {
        for _ in 0..STARTS_MAX {
            if self.system.is_some() || self.gate.is_exhausted() {
                return;
            }
            self.lives += 1;
            self.life = Life::begin(&self.gate);
            match self.start().await {
                Ok(system) => self.system = Some(system),
                Err(error) => {
                    self.gate.note(&format!("did not start: {error}"));
                    self.life.kill();
                    self.bury().await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        if self.system.is_none() && self.gate.is_armed() {
            // Faults may keep it from starting for as long as they like, and not longer.
            self.gate.arm(false);
            return Box::pin(self.ensure_running()).await;
        }
        if self.system.is_none() && !self.gate.is_exhausted() {
            self.gate.oracle.violated("Kina does not start any more");
        }
    }

    pub fn is_neighbours(&self, installation: &str) -> bool {
        self.neighbour.as_ref().is_some_and(|neighbour| neighbour.installation == installation)
    }

    /// The world of another installation on the same host.
    fn world(&self) -> World {
        World {
            clock: Arc::new(SettableClock::new(self.base, vec![Arc::clone(&self.shared_offset)])),
            random: Arc::new(SeededRandom::new(mixed(self.plan.seed ^ 0x2e16))),
            files: self.files.clone(),
            ports: self.ports.clone(),
        }
    }

    async fn start(&self) -> Result<Running, String> {
        let life = self.life.clone();
        let store = GatedStore::open(life.clone(), &self.disk).map_err(|error| error.to_string())?;
        let offsets = vec![Arc::clone(&self.shared_offset), Arc::clone(&self.own_offset)];
        let files = Arc::new(GatedFiles { life: life.clone(), inner: self.files.clone() });
        let world = World {
            clock: Arc::new(SettableClock::new(self.base, offsets)),
            random: Arc::new(SeededRandom::new(mixed(self.plan.seed ^ mixed(self.lives)))),
            files,
            ports: self.ports.clone(),
        };
        let options = Options {
            home: self.home.clone(),
            world,
            roots: vec![Root::home(self.home.clusters())],
            unwatch: Vec::new(),
            storage: Storage::Given { store: Arc::new(store), simulator: Arc::clone(&self.simulator) },
            kubeconfig: Target::resolve(None, Path::new("/home/me")),
            sockets: false,
            runtimes: kina::controllers::Runtimes::default(),
            parallelism: 2,
            layers: Arc::new(GatedLayers { life, simulator: Arc::clone(&self.simulator) }),
        };
        tokio::select! {
            biased;
            started = Running::start(options) => started.map_err(|error| error.to_string()),
            () = self.killed() => Err("killed".to_owned()),
        }
    }

    async fn killed(&self) {
        while !self.life.is_dead() {
            self.gate.news.notified().await;
        }
    }

    /// Clears away a dead process.
    async fn bury(&mut self) {
        drop(self.system.take());
        // Tasks of the dead process end when they are next polled.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.disk = self.disk.after_death(mixed(self.plan.seed ^ self.lives));
    }

    /// Lets the world go on, until something holds or the time is over.
    async fn drive(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.gate.is_exhausted() {
                return false;
            }
            while let Some((upset, random)) = self.gate.next_upset() {
                self.upset(upset, random).await;
            }
            if self.life.is_dead() {
                self.bury().await;
                self.ensure_running().await;
            }
            self.mend(false);
            if self.mends.is_empty() && holds(self) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.approve_held().await;
            let Some(system) = self.system.as_mut() else { return false };
            tokio::select! {
                biased;
                () = self.gate.news.notified() => {}
                ended = system.failed() => {
                    if !self.life.is_dead() {
                        self.gate.oracle.violated(format!("a part of Kina ended: {ended}"));
                        self.life.kill();
                    }
                }
                () = tokio::time::sleep(LOOK.min(deadline - Instant::now())) => {}
            }
        }
    }

    /// A person approves what is held.
    async fn approve_held(&mut self) {
        let commits = self.gate.oracle.count_of_commits();
        if std::mem::replace(&mut self.looked, commits) == commits {
            return;
        }
        for source in self.gate.oracle.objects("sources") {
            let held = source["status"]["held"].as_array().cloned().unwrap_or_default();
            for set in held {
                let (Some(id), Some(client)) = (set["id"].as_str(), self.client()) else { continue };
                let names = set["clusters"].as_array().into_iter().flatten();
                let names: Vec<String> = names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
                // Nobody approves what he did not wish for.
                if names.iter().any(|name| self.is_declared(name)) {
                    continue;
                }
                // Refused, or lost with the process: it is looked for again.
                self.looked = 0;
                self.gate.oracle.approve(&names);
                let sources: Api<Source> = Api::all(client);
                let approve = json!({"metadata": {"annotations": {annotations::APPROVE: id}}});
                drop(sources.patch("clusters", &PatchParams::default(), &Patch::Merge(&approve)).await);
            }
        }
    }

    /// Whether everything is as files say, in the API and on the host.
    fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// What is not as it should be, if anything.
    fn unsettled(&self) -> Option<String> {
        let clusters = self.gate.oracle.objects("clusters");
        let desired = self.desired();
        let names: Vec<&str> = clusters.iter().filter_map(|cluster| cluster["metadata"]["name"].as_str()).collect();
        if names != desired.iter().map(|shape| shape.name.as_str()).collect::<Vec<_>>() {
            return Some(format!("clusters are {names:?}"));
        }
        for (cluster, shape) in clusters.iter().zip(&desired) {
            let machines = json!({"desired": shape.machines(), "ready": shape.machines()});
            let status = &cluster["status"];
            let workers = cluster["spec"]["workers"][0].clone();
            let as_wished = cluster["metadata"]["deletionTimestamp"].is_null()
                && workers["replicas"].as_u64().unwrap_or(0) == u64::from(shape.workers)
                && workers["labels"]["tier"].as_str() == shape.tier.as_deref().filter(|_| shape.workers > 0)
                && workers["resources"]["memory"].as_str() == shape.memory.as_deref().filter(|_| shape.workers > 0)
                && cluster["spec"]["controlPlane"]["replicas"] == shape.control_planes;
            if !as_wished {
                return Some(format!("{} has another spec", shape.name));
            }
            let ready = status["conditions"].as_array().into_iter().flatten();
            let mut ready = ready.filter(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            if status["observedGeneration"] != cluster["metadata"]["generation"] || ready.next().is_none() {
                return Some(format!("{} is not Ready", shape.name));
            }
            if status["machines"]["desired"] != machines["desired"] || status["machines"]["ready"] != machines["ready"]
            {
                return Some(format!("{} has machines {}", shape.name, status["machines"]));
            }
        }
        let machines: u32 = desired.iter().map(Shape::machines).sum();
        let found = self.gate.oracle.objects("machines");
        if found.len() != machines as usize {
            return Some(format!("{} machine objects, not {machines}", found.len()));
        }
        if let Some(machine) = found.iter().find(|machine| !machine["status"]["waiting"].is_null()) {
            return Some(format!("{} waits: {}", machine["metadata"]["name"], machine["status"]["waiting"]));
        }
        let ours = self.ours();
        let mut running: Vec<&str> = ours
            .iter()
            .filter(|c| c.state == ContainerState::Running)
            .map(|container| container.name.as_str())
            .collect();
        running.sort_unstable();
        let wanted = self.desired_containers();
        (pools(&running) != pools(&wanted)).then(|| format!("containers are {running:?}"))
    }

    /// When faults have stopped: as wished within bounded time, and then still. Tells the end state.
    async fn come_to_rest(&mut self) -> Vec<String> {
        let mut settled = self.drive(SETTLED_WITHIN, Self::is_settled).await;
        if settled {
            // What is in flight lands, and may be told of only meanwhile.
            self.drive(Duration::from_secs(120), |_| false).await;
            settled = self.drive(SETTLED_WITHIN, Self::is_settled).await;
        }
        if !settled {
            let why = self.unsettled().unwrap_or_default();
            self.note_objects();
            self.gate
                .oracle
                .violated(format!("not settled {} s after the last fault: {why}", SETTLED_WITHIN.as_secs()));
            return Vec::new();
        }
        let (commits, before, spent) = (self.gate.oracle.count_of_commits(), self.marks(), self.spent());
        self.drive(STILL, |_| false).await;
        let written = self.gate.oracle.count_of_commits() - commits;
        // An hour after a deletion its Source says so no more, which is one write each at most.
        let written = written.saturating_sub(spent.saturating_sub(self.spent()));
        if written > 0 || self.marks() != before {
            let after = self.marks();
            let changed: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
            self.gate.oracle.violated(format!("not still: {written} commits in ten minutes, {changed:?}"));
        }
        if let Some(why) = self.unsettled() {
            self.gate.oracle.violated(format!("settled, and then not: {why}"));
        }
        self.end_state().await
    }

    /// Writes into the trace where everything stands, for whoever has to find out why it does not go on.
    fn note_objects(&self) {
        for resource in ["sources", "clusters", "machines"] {
            for object in self.gate.oracle.objects(resource) {
                let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
                let conditions = status["conditions"].as_array().into_iter().flatten();
                let conditions: Vec<String> = conditions
                    .map(|c| format!("{}={} {} {}", c["type"], c["status"], c["reason"], c["message"]).replace('"', ""))
                    .collect();
                self.gate.note(&format!(
                    "{resource} {}: deleted {}, turn {}, method {}, waiting {}, failure {}, drift {}, {}",
                    metadata["name"],
                    metadata["deletionTimestamp"],
                    spec["turn"],
                    spec["bootstrap"]["method"],
                    status["waiting"],
                    status["failure"],
                    status["drift"],
                    conditions.join("; ")
                ));
            }
        }
        for container in self.simulator.hands().listing().containers {
            self.gate.note(&format!("container {} {:?}", container.name, container.state));
        }
    }

    /// Deletions and recreations that count against a budget.
    fn spent(&self) -> u64 {
        let sources = self.gate.oracle.objects("sources");
        sources.iter().filter_map(|source| Some(source["status"]["spent"].as_array()?.len() as u64)).sum()
    }

    /// What changes only where Kina changes something.
    fn marks(&self) -> Vec<String> {
        let listing = self.simulator.hands().listing();
        let objects = ["clusters", "machines", "sources"].map(|resource| self.gate.oracle.objects(resource));
        let revision =
            |object: &Value| format!("{} {}", object["metadata"]["name"], object["metadata"]["resourceVersion"]);
        let ids = listing.containers.iter().map(|container| format!("{} {}", container.name, container.id));
        objects.iter().flatten().map(revision).chain(ids).collect()
    }

    /// Everything there is, without what differs from run to run: UIDs, addresses, ports, times.
    async fn end_state(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for resource in ["clusters", "machines"] {
            for object in self.gate.oracle.objects(resource) {
                let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let conditions: Vec<String> =
                    conditions.iter().map(|c| format!("{}={}", c["type"], c["status"]).replace('"', "")).collect();
                lines.push(format!(
                    "{resource} {} finalizers {} phase {} {}",
                    object["metadata"]["name"],
                    object["metadata"]["finalizers"],
                    object["status"]["phase"],
                    conditions.join(" ")
                ));
            }
        }
        let listing = self.simulator.hands().listing();
        for container in &listing.containers {
            let mounts = container.mounts.len();
            let memory = container.resources.memory_bytes;
            let (name, image, state) = (&container.name, &container.image, container.state);
            lines.push(format!("container {name} {image} {state:?} {mounts} mounts, memory {memory:?}"));
        }
        let networks = listing.networks.iter().filter(|network| network.name != FOREIGN);
        lines.extend(networks.map(|network| format!("network {}", network.name)));
        lines.extend(listing.volumes.iter().map(|volume| format!("volume {}", volume.name)));
        for shape in self.desired() {
            if shape.routed {
                self.check_routes(&shape.name);
            }
            match self.nodes(&shape.name).await {
                Ok(nodes) => lines.extend(nodes),
                Err(error) => self.gate.oracle.violated(format!("{} does not answer: {error}", shape.name)),
            }
        }
        lines
    }

    /// Nodes of a pod network of Kina's own have routes to each other, and to nobody else.
    fn check_routes(&self, cluster: &str) {
        let listing = self.simulator.hands().listing();
        let network = format!("kina-{cluster}");
        let is_node = |container: &&Arc<Container>| {
            container.network.as_ref() == Some(&network) && !container.name.ends_with("-lb")
        };
        let nodes: Vec<&Arc<Container>> = listing.containers.iter().filter(is_node).collect();
        for node in &nodes {
            let others = nodes.iter().filter(|other| other.name != node.name);
            let wanted: BTreeSet<Ipv4Addr> = others.filter_map(|other| other.address).collect();
            let hands = self.simulator.hands();
            let routes = hands.routes(&node.name).unwrap_or_default();
            let is_configured = hands.file(&node.name, "/etc/cni/net.d/10-kina.conflist").is_some();
            let found: BTreeSet<Ipv4Addr> = routes.values().copied().collect();
            if found != wanted || routes.len() != wanted.len() || !is_configured {
                self.gate.oracle.violated(format!("{} has routes {routes:?}, configured: {is_configured}", node.name));
            }
        }
    }

    async fn nodes(&self, cluster: &str) -> Result<Vec<String>, String> {
        let kubeconfig = self.files.read(Path::new(KUBECONFIG), 1 << 20).map_err(|error| error.to_string())?;
        let kubeconfig: Value =
            serde_saphyr::from_str(&String::from_utf8_lossy(&kubeconfig)).map_err(|error| error.to_string())?;
        let named = |list: &str, key: &str| -> Option<Value> {
            let entries = kubeconfig[list].as_array()?;
            Some(entries.iter().find(|entry| entry["name"] == format!("kina-{cluster}"))?[key].clone())
        };
        let (Some(server), Some(user)) = (named("clusters", "cluster"), named("users", "user")) else {
            return Err("it has no context".to_owned());
        };
        let decoded = |data: &Value| {
            String::from_utf8(STANDARD.decode(data.as_str().unwrap_or_default()).unwrap_or_default())
                .unwrap_or_default()
        };
        let access = ClusterAccess {
            server: server["server"].as_str().unwrap_or_default().to_owned(),
            ca_certificate: decoded(&server["certificate-authority-data"]),
            client_certificate: decoded(&user["client-certificate-data"]),
            client_key: decoded(&user["client-key-data"]),
        };
        let client = self.simulator.connector().connect(&access).await.map_err(|error| error.to_string())?;
        let nodes: Api<Node> = Api::all(client);
        let nodes = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let line = |node: &Node| {
            let spec = node.spec.clone().unwrap_or_default();
            let taints: Vec<String> = spec.taints.unwrap_or_default().into_iter().map(|taint| taint.key).collect();
            let (tier, cordoned) = (node.labels().get("tier"), spec.unschedulable);
            format!("node {} tier {tier:?} taints {taints:?} cordoned {cordoned:?}", node.name_any())
        };
        Ok(nodes.iter().map(line).collect())
    }

    /// Everything is removed.
    async fn tear_down(&mut self) {
        for file in self.declared.keys().cloned().collect::<Vec<_>>() {
            self.remove(&file);
        }
        let applied = std::mem::take(&mut self.applied);
        let taken_over = |name: &str| {
            self.gate.oracle.objects("clusters").iter().any(|cluster| {
                cluster["metadata"]["name"] == name
                    && cluster["metadata"]["annotations"][annotations::SOURCE] != annotations::SOURCE_CLI
                    && cluster["metadata"]["annotations"][annotations::SOURCE].is_string()
            })
        };
        for name in applied.keys().filter(|name| !taken_over(name)) {
            self.gate.oracle.wish(name, Some(Wish::Person));
            let Some(client) = self.client() else { continue };
            let clusters: Api<Cluster> = Api::all(client);
            drop(clusters.delete(name, &DeleteParams::default()).await);
        }
        if !self.drive(SETTLED_WITHIN, |run| run.gate.oracle.objects("clusters").is_empty()).await {
            let why = self.unsettled().unwrap_or_default();
            self.gate.oracle.violated(format!("not gone {} s after deletion: {why}", SETTLED_WITHIN.as_secs()));
        }
    }

    fn check_nothing_left(&self) {
        let mut listing = self.simulator.hands().listing();
        if let Some(neighbour) = &self.neighbour {
            if let Some(why) = neighbour.disturbed() {
                self.gate.oracle.violated(why);
            }
            listing.containers.retain(|container| !neighbour.owns(container.owner()));
            listing.networks.retain(|network| !neighbour.owns(network.owner()));
            listing.volumes.retain(|volume| !neighbour.owns(volume.owner()));
        }
        let mut left: Vec<String> = Vec::new();
        left.extend(listing.containers.iter().map(|container| format!("container {}", container.name)));
        left.extend(listing.networks.iter().map(|network| format!("network {}", network.name)));
        left.extend(listing.volumes.iter().map(|volume| format!("volume {}", volume.name)));
        left.retain(|what| *what != format!("network {FOREIGN}"));
        if left != BYSTANDERS {
            self.gate.oracle.violated(format!("left in the runtime: {left:?}"));
        }
        let mut files = Vec::new();
        walk(self.files.as_ref(), Path::new("/"), &mut files);
        files.retain(|file| !FILES.contains(&file.as_str()) && !file.starts_with(neighbour::HOME));
        if !files.is_empty() {
            self.gate.oracle.violated(format!("left in the file system: {files:?}"));
        }
        let kubeconfig = self.files.read(Path::new(KUBECONFIG), 1 << 20).unwrap_or_default();
        if String::from_utf8_lossy(&kubeconfig).contains("kina-") {
            self.gate.oracle.violated("a context is left in the kubeconfig");
        }
        for resource in ["clusters", "machines"] {
            let left = self.gate.oracle.objects(resource).len();
            if left > 0 {
                self.gate.oracle.violated(format!("{left} {resource} are left in the store"));
            }
        }
    }

    /// No object is worked on without bound, also in permanent failure.
    fn check_bounds(&self) {
        for (effect, (count, object)) in &self.gate.report().busiest {
            let most = match effect {
                Effect::List => 1500,
                Effect::FileLook | Effect::FileRead => 600,
                Effect::Commit => 1500,
                Effect::ApiRead | Effect::ApiWrite | Effect::ClusterRead | Effect::ClusterWrite => 150,
                Effect::Exec | Effect::ReadFile => 240,
                _ => 60,
            };
            if *count > most {
                self.gate.oracle.violated(format!("{count} times {effect} {object} within a minute"));
            }
        }
    }
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

const KUBECONFIG: &str = "/home/me/.kube/config";
/// The installation that others' things are labelled with.
pub const OTHERS: &str = "another-installation";
/// The network of what others bring.
pub const FOREIGN: &str = "foreign";
/// What is there before Kina, of others.
const BYSTANDERS: [&str; 3] = ["container dev-pool-9", "network kina-other", "volume dev-control-plane-9"];
/// Files that may stay.
const FILES: [&str; 3] = ["/home/me/.kina/installation-id", "/home/me/.kube/config", "/home/me/.kina/clusters"];

/// Look-alikes: names as Kina's, and the labels of another installation.
fn add_bystanders(simulator: &SimRuntime) {
    let labels: BTreeMap<String, String> = [
        ("dev.kina.installation", OTHERS),
        ("dev.kina.cluster", "dev"),
        ("dev.kina.cluster-uid", "00000000-0000-4000-8000-000000000000"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let hands = simulator.hands();
    let network = NetworkSpec {
        name: "kina-other".into(),
        subnet: Some("192.168.9.0/24".into()),
        ipv6_subnet: None,
        labels: labels.clone(),
    };
    hands.add_network(&network).unwrap();
    hands.add_volume(&VolumeSpec { name: "dev-control-plane-9".into(), labels: labels.clone() }).unwrap();
    let image = "docker.io/kindest/node:v1.35.5";
    let container = others_container("dev-pool-9", image, "kina-other", labels);
    hands.add_container(&container).unwrap();
}

/// Names without ordinals: a slot that is being emptied is not free yet, and another one is taken meanwhile.
fn pools(containers: &[impl AsRef<str>]) -> Vec<&str> {
    let is_ordinal = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    let pool = |name: &str| name.rsplit_once('-').filter(|(_, end)| is_ordinal(end)).map(|(pool, _)| pool.len());
    let names = containers.iter().map(AsRef::as_ref);
    let mut pools: Vec<&str> = names.map(|name| &name[..pool(name).unwrap_or(name.len())]).collect();
    pools.sort_unstable();
    pools
}

fn walk(files: &dyn FileSystem, directory: &Path, out: &mut Vec<String>) {
    for name in files.list(directory).unwrap_or_default() {
        let path = directory.join(name);
        if files.list(&path).is_ok() {
            walk(files, &path, out);
        } else {
            out.push(path.to_string_lossy().into_owned());
        }
    }
}
