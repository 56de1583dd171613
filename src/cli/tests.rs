//! Commands over an API in memory, with a hand that plays the controllers.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use clap::Parser;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::context::{Context, Environment};
use super::engine::{Engine, Handle, Purpose, Start, Started};
use super::error::CliError;
use super::exit::Exit;
use super::interrupt::Interrupt;
use super::printer::Printer;
use super::{Cli, command};
use crate::api::cluster::RuntimeName;
use crate::api::{Cluster, Machine, Source, users};
use crate::apiserver::kind::Kind;
use crate::apiserver::store::RedbStore;
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, core};
use crate::doctor::Facts;
use crate::home::Home;
use crate::runtime::workshop::Workshop;
use crate::runtime::{Listing, Networks};
use crate::system::admission::ClusterRules;
use crate::system::last_known::{Sight, Sights};
use crate::world::World;

mod asking;
mod bad_inputs;
mod creating;
mod looking;

const NOW: &str = "2026-01-01T00:00:00Z";

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// Who serves the home in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    /// Another process.
    Daemon,
    /// Nobody: commands start their own.
    Nobody,
}

/// An engine over one API in memory.
struct Rig {
    client: Client,
    serving: Serving,
    log: Arc<Mutex<Vec<&'static str>>>,
}

struct Held(Arc<Mutex<Vec<&'static str>>>);

#[async_trait]
impl Handle for Held {
    async fn failed(&mut self) -> CliError {
        std::future::pending().await
    }
    async fn stop(self: Box<Self>) {
        self.0.lock().unwrap().push("stop");
    }
}

impl Rig {
    fn started(&self, what: &'static str) -> Started {
        self.log.lock().unwrap().push(what);
        Started { client: self.client.clone(), handle: Box::new(Held(Arc::clone(&self.log))), sights: None }
    }
}

#[async_trait]
impl Engine for Rig {
    async fn connect(&self, _: &Home) -> Result<Option<Client>, CliError> {
        Ok((self.serving == Serving::Daemon).then(|| self.client.clone()))
    }
    async fn peek(&self, _: &Home) -> Option<Client> {
        (self.serving == Serving::Daemon).then(|| self.client.clone())
    }
    async fn start(&self, _: &Start) -> Result<Started, CliError> {
        Ok(self.started("start"))
    }
    async fn open(&self, _: &Home, purpose: Purpose) -> Result<Started, CliError> {
        Ok(Started { sights: (purpose == Purpose::Read).then(nothing_there), ..self.started("open") })
    }
    async fn networks(&self, _: &Home, named: Option<RuntimeName>) -> Result<(RuntimeName, Networks), CliError> {
        let name = named.filter(|name| !name.is_auto()).unwrap_or(RuntimeName::Sim);
        Ok((name, Networks::PerCluster))
    }
    async fn examine(&self, _: &Home) -> Result<Facts, CliError> {
        unreachable!("its own tests have facts of their own")
    }
    async fn start_service(&self) -> Result<(), CliError> {
        unreachable!("nobody is asked")
    }
    fn workshop(&self) -> Option<Arc<dyn Workshop>> {
        None
    }
}

/// The simulated world is there, and empty.
fn nothing_there() -> Sights {
    let began = tokio::time::Instant::now();
    let listing =
        Listing { began, containers: Vec::new(), networks: Vec::new(), volumes: Vec::new(), routes: Vec::new() };
    let sight = Sight::Seen { listing, ends_with_process: true };
    Sights { installation: None, hosts: [(RuntimeName::Sim, sight)].into() }
}

/// A house with one API, and everything that a command says in it.
struct House {
    client: Client,
    _server: ApiServer,
    world: World,
    serving: Serving,
    log: Arc<Mutex<Vec<&'static str>>>,
    signals: watch::Sender<u32>,
    interrupt: Interrupt,
}

/// What a command did.
#[must_use]
struct Done {
    exit: Exit,
    out: String,
    err: String,
}

impl Done {
    fn ok(self) -> String {
        assert_eq!(self.exit, Exit::Ok, "{}", self.err);
        self.out
    }
    fn shown(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.exit.code(), self.out, self.err)
    }
}

impl House {
    fn new(serving: Serving) -> Self {
        let world = World::simulated(1, NOW.parse().unwrap());
        let store = RedbStore::in_memory("store").unwrap();
        let mut kinds = [Cluster::crd(), Machine::crd(), Source::crd()].map(|crd| Kind::from_crd(&crd).unwrap());
        let rules = ClusterRules { mounts: Home::at("/home/me/.kina").mount_policy() };
        kinds[0] = kinds[0].clone().with_admission(Arc::new(rules));
        let server = ApiServer::builder(store, world.clock.clone(), world.random.clone())
            .kinds(kinds)
            .kinds(core::control())
            .build()
            .unwrap();
        let client = server.tenant("kina").client(User::named(users::ADMIN));
        world.files.create_directories(Path::new("/proj"), 0o755).unwrap();
        let (signals, interrupt) = Interrupt::manual();
        Self { client, _server: server, world, serving, log: Arc::default(), signals, interrupt }
    }

    fn write(&self, path: &str, text: &str) {
        let path = Path::new(path);
        self.world.files.create_directories(path.parent().unwrap(), 0o755).unwrap();
        self.world.files.write(path, text.as_bytes(), 0o600).unwrap();
    }

    async fn kina(&self, words: &str) -> Done {
        self.words(&words.split_whitespace().collect::<Vec<_>>()).await
    }

    async fn words(&self, words: &[&str]) -> Done {
        let cli = Cli::try_parse_from(std::iter::once("kina").chain(words.iter().copied())).unwrap();
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut context = Context {
            printer: Printer::to(out.clone(), err.clone()),
            progress: super::progress::Progress::Auto,
            world: self.world.clone(),
            environment: Environment { user_home: "/home/me".into(), ..Environment::default() },
            home: Home::at("/home/me/.kina"),
            interrupt: self.interrupt.clone(),
            engine: Arc::new(Rig { client: self.client.clone(), serving: self.serving, log: Arc::clone(&self.log) }),
        };
        let exit = command(cli.verb, &mut context).await;
        Done { exit, out: out.take(), err: err.take() }
    }

    fn engine(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    fn clusters(&self) -> Api<Cluster> {
        Api::all(self.client.clone())
    }

    async fn set_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.clusters().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Plays the controllers: every Cluster gets this status, with the generation it asks for.
    fn play(&self, status: impl Fn(&Cluster) -> Value + Send + 'static) -> tokio::task::JoinHandle<()> {
        let api = self.clusters();
        tokio::spawn(async move {
            let mut clusters = watcher(api.clone(), watcher::Config::default()).applied_objects().boxed();
            while let Some(Ok(cluster)) = clusters.next().await {
                let mut status = status(&cluster);
                status["observedGeneration"] = json!(cluster.metadata.generation);
                let before = serde_json::to_value(&cluster.status).unwrap();
                if before["conditions"] != status["conditions"]
                    || before["observedGeneration"] != status["observedGeneration"]
                {
                    let patch = Patch::Merge(json!({"status": status}));
                    let _ = api.patch_status(&cluster.name_any(), &PatchParams::default(), &patch).await;
                }
            }
        })
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": NOW})
}

fn ready(_: &Cluster) -> Value {
    json!({"phase": "Running", "machines": {"desired": 1, "ready": 1, "summary": "1/1"},
        "conditions": [condition("Ready", "True", "AllReady", "")]})
}

fn manifest(name: &str, runtime: &str) -> String {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\nspec:\n  runtime: {runtime}\n")
}

#[tokio::test(start_paused = true)]
async fn apply_tells_what_it_did_with_each_cluster() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    assert_eq!(house.kina("apply -f /proj/dev.yaml").await.ok(), "cluster/dev created\n");
    assert_eq!(house.kina("apply -f /proj/dev.yaml").await.ok(), "cluster/dev unchanged\n");
    house.write("/proj/dev.yaml", &(manifest("dev", "docker") + "  protect: true\n"));
    assert_eq!(house.kina("apply -f /proj/dev.yaml").await.ok(), "cluster/dev configured\n");
    assert_eq!(house.kina("apply -f /proj/dev.yaml -o name").await.ok(), "cluster.kina.dev/dev\n");
    assert!(house.engine().is_empty(), "a daemon serves: nothing is started here");
}

#[tokio::test(start_paused = true)]
async fn directories_are_read_with_their_depth_and_what_is_not_kinas_is_left_alone() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/a.yaml", &manifest("a", "docker"));
    house.write("/proj/.hidden.yaml", "{");
    house.write("/proj/#edited.yaml", "{");
    house.write("/proj/b.YAML", &manifest("b", "docker"));
    house.write("/proj/notes.txt", "no manifest");
    house.write("/proj/cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n");
    house.write(
        "/proj/deep/b.json",
        &json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"}}).to_string(),
    );
    let flat = house.kina("apply -f /proj").await;
    insta::assert_snapshot!(flat.shown(), @r"
    exit 0
    --- stdout
    cluster/a created
    cluster/b created
    --- stderr
    note: /proj/cm.yaml: ConfigMap (v1) is left alone: it is not Kina's
    ");
    assert_eq!(
        house.kina("apply -R -f /proj").await.ok(),
        "cluster/a unchanged\ncluster/b unchanged\ncluster/c created\n"
    );
}

#[tokio::test(start_paused = true)]
async fn with_one_bad_manifest_nothing_is_applied_and_every_fault_is_told() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/a.yaml", &manifest("a", "docker"));
    house.write("/proj/b.yaml", &(manifest("b", "docker") + "  workerz: []\n"));
    house.write("/proj/c.yaml", &manifest("a", "docker"));
    let done = house.kina("apply -f /proj").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 3
    --- stdout
    --- stderr
    error: `spec.workerz` is not a field
     --> /proj/b.yaml:7:3
      |
    5 | spec:
    6 |   runtime: docker
    7 |   workerz: []
      |   ^^^^^^^ unknown field
      |
      = help: did you mean `workers`?

    error: cluster `a` is declared in /proj/a.yaml:1 and in /proj/c.yaml:1

    error: manifests are not valid: nothing was changed
    ");
    assert!(house.clusters().get_opt("a").await.unwrap().is_none());
    assert_eq!(house.kina("validate /proj").await.exit, Exit::Invalid);
    assert_eq!(house.kina("validate /proj/a.yaml").await.ok(), "/proj/a.yaml: valid, 1 cluster\n");
}

#[tokio::test(start_paused = true)]
async fn without_a_daemon_apply_runs_kina_until_everything_is_ready() {
    let house = House::new(Serving::Nobody);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    let _controllers = house.play(ready);
    let done = house.kina("apply -f /proj/dev.yaml").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 0
    --- stdout
    cluster/dev created
    --- stderr
    dev: Ready after 0s, 1 machine
    note: what drifts is not repaired while no kina runs (`kina serve`)
    ");
    assert_eq!(house.engine(), ["start", "stop"]);
    let done = house.kina("apply -f /proj/dev.yaml --no-wait").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 0
    --- stdout
    cluster/dev unchanged
    --- stderr
    note: no kina runs: wishes are recorded, and nothing happens until `kina serve`
    ");
    assert_eq!(house.engine(), ["open", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn up_stays_for_simulated_clusters_until_it_is_told_to_go() {
    let house = House::new(Serving::Nobody);
    house.write("/proj/toy.yaml", &manifest("toy", "sim"));
    let _controllers = house.play(ready);
    let signals = house.signals.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
        signals.send_modify(|count| *count += 1);
    });
    let begin = tokio::time::Instant::now();
    let done = house.kina("up -f /proj/toy.yaml").await;
    assert!(begin.elapsed().as_secs() >= 3600);
    insta::assert_snapshot!(done.shown(), @r"
    exit 0
    --- stdout
    cluster/toy created
    --- stderr
    toy: Ready after 0s, 1 machine, simulated
    cluster/toy is Ready (simulated: no container of it is real): `kubectl --context kina-toy get nodes`
    Simulated clusters answer only while Kina runs: it stays until Ctrl-C (`--exit` leaves).
    ");
    assert_eq!(house.engine(), ["start", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn up_leaves_when_asked_to_when_a_daemon_runs_and_when_nothing_is_simulated() {
    let house = House::new(Serving::Nobody);
    house.write("/proj/toy.yaml", &manifest("toy", "sim"));
    house.write("/proj/real.yaml", &manifest("real", "docker"));
    let _controllers = house.play(ready);
    let done = house.kina("up -f /proj/toy.yaml --exit").await;
    assert!(done.err.contains("simulated clusters do not answer while no kina runs"), "{}", done.err);
    let _ = done.ok();
    let done = house.kina("up -f /proj/real.yaml").await;
    assert!(done.err.contains("what drifts is not repaired while no kina runs"), "{}", done.err);
    let _ = done.ok();
    let house = House { serving: Serving::Daemon, ..house };
    let _ = house.kina("up -f /proj/toy.yaml").await.ok();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_reason_at_the_timeout_and_when_nothing_can_get_better() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    let controllers = house.play(|_| {
        json!({"phase": "Provisioning", "conditions": [condition("Ready", "False", "ImagePulling", "pulling the node image")]})
    });
    let done = house.kina("apply -f /proj/dev.yaml --wait --timeout 90s").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 6
    --- stdout
    cluster/dev created
    --- stderr
    dev: Provisioning
    error: gave up after 90s
      cluster/dev is not Ready: ImagePulling: pulling the node image
    ");
    controllers.abort();
    let _controllers = house.play(|_| {
        json!({"phase": "Failed", "conditions": [condition("Stalled", "True", "NameTaken", "a container named dev-control-plane-0 is not Kina's")]})
    });
    let done = house.kina("up -f /proj/dev.yaml").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 1
    --- stdout
    cluster/dev unchanged
    --- stderr
    dev: stalled, NameTaken: a container named dev-control-plane-0 is not Kina's
    error: it does not get any further by itself
      cluster/dev: NameTaken: a container named dev-control-plane-0 is not Kina's

    hint: `kina describe cluster NAME` tells everything about one
    ");
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_ends_waiting_with_130_and_lets_go_of_the_home() {
    let house = House::new(Serving::Nobody);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    house.signals.send_modify(|count| *count += 1);
    let done = house.kina("up -f /proj/dev.yaml").await;
    assert_eq!(done.exit, Exit::Interrupted);
    assert!(done.shown().contains("the wish stays recorded"), "{}", done.shown());
    assert_eq!(house.engine(), ["start", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn delete_waits_until_a_cluster_is_gone_and_an_absent_one_is_an_error_unless_ignored() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    let _ = house.kina("apply -f /proj/dev.yaml").await.ok();
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["kina.dev/cluster"]}}));
    house.clusters().patch("dev", &PatchParams::default(), &hold).await.unwrap();
    let done = house.kina("delete cluster dev --timeout 1m").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 6
    --- stdout
    --- stderr
    dev: Deleting
    error: gave up after 60s
      cluster/dev is still there
    ");
    let api = house.clusters();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch("dev", &PatchParams::default(), &release).await.unwrap();
    });
    assert_eq!(house.kina("delete -f /proj/dev.yaml").await.ok(), "cluster/dev deleted\n");
    assert_eq!(house.kina("delete cluster dev").await.exit, Exit::NotFound);
    assert_eq!(house.kina("delete cluster/dev --ignore-not-found").await.ok(), "");
    assert_eq!(house.kina("delete machine dev-default-0").await.exit, Exit::Refused);
}

#[tokio::test(start_paused = true)]
async fn get_prints_tables_names_and_documents() {
    let house = House::new(Serving::Nobody);
    let empty = house.kina("get clusters").await;
    insta::assert_snapshot!(empty.shown(), @r"
    exit 0
    --- stdout
    --- stderr
    note: no kina runs: this is what the last one recorded, corrected by one look at the containers
    No clusters.
    ");
    assert_eq!(house.engine(), ["open", "stop"]);
    house.write("/proj/all.yaml", &[manifest("dev", "docker"), manifest("toy", "sim")].join("---\n"));
    let house = House { serving: Serving::Daemon, ..house };
    let _ = house.kina("apply -f /proj/all.yaml").await.ok();
    house.set_status("dev", ready(&Cluster::new("dev", Default::default()))).await;
    insta::assert_snapshot!(house.kina("get cl").await.ok(), @r"
    NAME   PHASE     READY   MACHINES   VERSION   RUNTIME   AGE
    dev    Running   True    1/1                  docker    0s
    toy                                           sim       0s
    ");
    assert_eq!(house.kina("get clusters -o name").await.ok(), "cluster.kina.dev/dev\ncluster.kina.dev/toy\n");
    insta::assert_snapshot!(house.kina("get cluster/toy --no-headers").await.ok(), @"toy               sim   0s");
    let list: Value = serde_json::from_str(&house.kina("get clusters -o json").await.ok()).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 2));
    assert_eq!(list["items"][0]["kind"], "Cluster");
    let one: Value = serde_saphyr::from_str(&house.kina("get cluster dev -o yaml").await.ok()).unwrap();
    assert_eq!(one["spec"]["runtime"], "docker");
    assert!(one["metadata"].get("managedFields").is_none());
    let missing = house.kina("get cluster dve toy -o name").await;
    insta::assert_snapshot!(missing.shown(), @r#"
    exit 5
    --- stdout
    cluster.kina.dev/toy
    --- stderr
    error: clusters.kina.dev "dve" not found

    hint: did you mean `dev`?
    "#);
    insta::assert_snapshot!(house.kina("get clutsers").await.shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: there is no kind `clutsers`

    hint: did you mean `clusters`?
    ");
}

#[tokio::test(start_paused = true)]
async fn status_draws_everything_or_prints_it_for_programs() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/toy.yaml", &manifest("toy", "sim"));
    let _ = house.kina("apply -f /proj/toy.yaml").await.ok();
    house.set_status("toy", ready(&Cluster::new("toy", Default::default()))).await;
    insta::assert_snapshot!(house.kina("status").await.ok(), @"+ toy  Running  simulated  1/1 machines  0s");
    let all: Value = serde_json::from_str(&house.kina("status -o json").await.ok()).unwrap();
    assert_eq!(all["clusters"][0]["metadata"]["name"], "toy");
    assert_eq!(house.kina("status tyo").await.exit, Exit::NotFound);
    assert!(house.kina("describe cluster toy").await.ok().contains("Simulated:"));
}

#[tokio::test(start_paused = true)]
async fn while_no_kina_runs_nothing_is_shown_as_if_it_were_so_now() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/toy.yaml", &manifest("toy", "sim"));
    let _ = house.kina("apply -f /proj/toy.yaml").await.ok();
    house.set_status("toy", ready(&Cluster::new("toy", Default::default()))).await;
    let live: Value = serde_json::from_str(&house.kina("status -o json").await.ok()).unwrap();
    assert_eq!((&live["kinaRuns"], &live["clusters"][0]["status"]["phase"]), (&json!(true), &json!("Running")));
    let machine: Machine = serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
        "metadata": {"name": "toy-control-plane-0"}, "spec": {"cluster": "toy", "pool": "control-plane",
            "role": "control-plane", "ordinal": 0, "runtime": "sim", "image": "node", "kubernetesVersion": "v1.35.5",
            "address": "10.160.0.2", "bootstrap": {"method": "Init"}}}))
    .unwrap();
    let machines: Api<Machine> = Api::all(house.client.clone());
    machines.create(&Default::default(), &machine).await.unwrap();
    let status = Patch::Merge(json!({"status": {"phase": "Running", "containerId": "c1",
        "conditions": [condition("Ready", "True", "Ready", "")]}}));
    machines.patch_status("toy-control-plane-0", &PatchParams::default(), &status).await.unwrap();

    let house = House { serving: Serving::Nobody, ..house };
    insta::assert_snapshot!(house.kina("status -w").await.shown(), @r"
    exit 0
    --- stdout
    ! toy  Stopped  simulated  0/1 machines  0s
      |  waiting  KinaNotRunning: simulated clusters answer only while Kina runs
      |    (`kina serve`); 1 of 1 containers is gone; last known: Running
      `- control-plane  0/1 ready
         `- ! toy-control-plane-0  Gone  10.160.0.2
    --- stderr
    note: no kina runs: this is what the last one recorded, corrected by one look at the containers
    note: nothing changes while no kina runs: shown once
    ");
    insta::assert_snapshot!(house.kina("get cl,ma").await.ok(), @r"
    NAME   PHASE     READY   MACHINES   VERSION   RUNTIME   AGE
    toy    Stopped   False   0/1                  sim       0s
    
    NAME                  CLUSTER   ROLE            PHASE   READY   VERSION   AGE
    toy-control-plane-0   toy       control-plane   Gone    False   v1.35.5   0s
    ");
    let all: Value = serde_json::from_str(&house.kina("status -o json").await.ok()).unwrap();
    assert_eq!(all["kinaRuns"], false);
    let status = &all["clusters"][0]["status"];
    assert_eq!((&status["phase"], &status["machines"]["summary"]), (&json!("Stopped"), &json!("0/1")));
    assert_eq!(
        (&status["conditions"][0]["status"], &status["waiting"]["reason"]),
        (&json!("False"), &json!("KinaNotRunning"))
    );
    let described = house.kina("describe machine toy-control-plane-0").await.ok();
    assert!(described.contains("ContainerMissing"), "{described}");
    let kept = house.clusters().get("toy").await.unwrap().status.unwrap();
    assert_eq!(kept.phase.as_deref(), Some("Running"), "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_piped_watch_is_a_line_a_step_until_ctrl_c() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/toy.yaml", &manifest("toy", "sim"));
    let _ = house.kina("apply -f /proj/toy.yaml").await.ok();
    let (signals, api) = (house.signals.clone(), house.clusters());
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let cluster = api.get("toy").await.unwrap();
        let patch = Patch::Merge(json!({"status": ready(&cluster)}));
        api.patch_status("toy", &PatchParams::default(), &patch).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        signals.send_modify(|count| *count += 1);
    });
    let done = house.kina("status -w").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 130
    --- stdout
    toy: Pending
    toy: Ready after 0s, 1 machine, simulated
    --- stderr
    ");
}

#[tokio::test(start_paused = true)]
async fn marks_are_annotations_and_approvals_name_exactly_one_set() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    let _ = house.kina("apply -f /proj/dev.yaml").await.ok();
    assert_eq!(house.kina("pause dev").await.ok(), "cluster/dev paused\n");
    let paused = |cluster: Cluster| cluster.annotations().get("kina.dev/paused").cloned();
    assert_eq!(paused(house.clusters().get("dev").await.unwrap()).as_deref(), Some("true"));
    assert_eq!(house.kina("resume dev").await.ok(), "cluster/dev resumed\n");
    assert_eq!(paused(house.clusters().get("dev").await.unwrap()), None);
    assert_eq!(house.kina("detach dev").await.ok(), "cluster/dev unchanged: no file declares it\n");
    house.set_status("dev", json!({"source": {"name": "clusters", "path": "dev.yaml"}})).await;
    assert_eq!(house.kina("detach dev").await.ok(), "cluster/dev detached\n");

    let sources: Api<Source> = Api::all(house.client.clone());
    let source: Source = serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Source",
        "metadata": {"name": "clusters"}, "spec": {"path": "/home/me/.kina/clusters"}}))
    .unwrap();
    sources.create(&Default::default(), &source).await.unwrap();
    assert_eq!(house.kina("approve h-1").await.exit, Exit::NotFound);
    let held = json!({"status": {"held": [{"id": "h-1", "action": "Delete", "clusters": ["a", "b"], "message": "", "since": NOW}]}});
    sources.patch_status("clusters", &PatchParams::default(), &Patch::Merge(held)).await.unwrap();
    insta::assert_snapshot!(house.kina("approve h-2").await.shown(), @r"
    exit 5
    --- stdout
    --- stderr
    error: nothing is held under the id `h-2`

    hint: held are `h-1`; `kina status` tells what they are
    ");
    assert_eq!(house.kina("approve h-1").await.ok(), "source/clusters approved: deletion of a, b\n");
    assert_eq!(sources.get("clusters").await.unwrap().annotations()["kina.dev/approve"], "h-1");
}

#[tokio::test(start_paused = true)]
async fn a_kubeconfig_for_a_kina_that_runs_already_is_refused() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    let done = house.kina("up -f /proj/dev.yaml --kubeconfig /proj/config").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: `--kubeconfig` has no effect here: a running kina writes the contexts

    hint: give it to `kina serve` instead
    ");
}

#[tokio::test(start_paused = true)]
async fn serve_runs_until_it_is_told_to_go() {
    let house = House::new(Serving::Nobody);
    let signals = house.signals.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        signals.send_modify(|count| *count += 1);
    });
    let done = house.kina("serve --watch /proj").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 0
    --- stdout
    --- stderr
    Kina serves /home/me/.kina
      watches    /home/me/.kina/clusters
                 /proj
      API        kubectl --kubeconfig /home/me/.kina/kubeconfig
    Ctrl-C ends it; clusters stay as they are.
    Ending: what is being written is finished first (Ctrl-C again aborts).
    ");
    assert_eq!(house.engine(), ["start", "stop"]);
    assert_eq!(house.kina("serve --watch /proj --unwatch /proj").await.exit, Exit::Usage);
    let absent = house.kina("serve --watch /none").await.shown();
    assert!(
        absent.contains("note: /none is not there: it is watched once it is; `kina serve --unwatch /none`"),
        "{absent}"
    );
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[tokio::test(start_paused = true)]
async fn a_name_without_its_kind_is_not_deleted_and_the_way_is_told() {
    let house = House::new(Serving::Daemon);
    insta::assert_snapshot!(house.kina("delete dev").await.shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: there is no kind `dev`

    hint: there are `clusters`, `machines`, `sources` and `events`
    hint: to delete a cluster: `kina delete cluster dev`
    ");
    assert_eq!(house.kina("delete cluster").await.exit, Exit::Usage);
    let sources = house.kina("delete source clusters").await;
    assert!(sources.shown().contains("--unwatch"), "{}", sources.shown());
    assert_eq!(house.kina("store check /proj/none.tar").await.exit, Exit::NotFound);
    house.write("/proj/one.yaml", &manifest("one", "sim"));
    assert_eq!(house.kina("serve --watch /proj/one.yaml").await.exit, Exit::Usage, "a file is no directory");
}
