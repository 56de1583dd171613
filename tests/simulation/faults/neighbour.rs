//! Another installation of Kina on the same runtime. Nothing of it is ever ours to touch, and nothing of ours is its.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kina::home::Home;
use kina::kubeconfig::Target;
use kina::runtime::sim::SimRuntime;
use kina::runtime::{ContainerState, OwnerLabels};
use kina::sources::Root;
use kina::system::{NoLayers, Options, Running, Storage};
use kina::world::{FileSystem, MemoryFiles, World};

use super::gate::{Gate, Life};
use super::oracle::{Ground, Oracle};
use super::plan::{Faults, Plan};
use super::store::{Disk, GatedStore};
use super::workload::{self, Shape};

/// The directory of its user.
pub const HOME: &str = "/home/you";
/// Its cluster is up within this.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked whether it is.
const STEP: Duration = Duration::from_millis(250);

pub struct Neighbour {
    pub installation: String,
    system: Running,
    simulator: Arc<SimRuntime>,
    containers: Vec<String>,
}

impl Neighbour {
    /// Brings it up, with one cluster of one node.
    pub async fn settle(simulator: &Arc<SimRuntime>, files: &Arc<MemoryFiles>, world: World) -> Self {
        let home = Home::at(format!("{HOME}/.kina"));
        home.prepare(files.as_ref(), 1000).unwrap();
        files.write(&home.clusters().join("near.yaml"), Shape::new("near", 0).manifest().as_bytes(), 0o600).unwrap();
        // No fault ever meets it: its store goes through a gate of its own only because there is one kind of store.
        let ground = Ground {
            simulator: Arc::clone(simulator),
            files: files.clone(),
            home: home.clone(),
            kubeconfig: Path::new(HOME).join(".kube/config"),
            slept: Arc::default(),
        };
        let calm = Plan { seed: 0, workload: workload::drawn(0), faults: Faults::List(Vec::new()) };
        let life = Life::begin(&Gate::new(&calm, Oracle::new(ground)));
        let store = GatedStore::open(life, &Disk::default()).unwrap();
        let options = Options {
            roots: vec![Root::home(home.clusters())],
            home: home.clone(),
            world,
            unwatch: Vec::new(),
            storage: Storage::Given { store: Arc::new(store), simulator: Arc::clone(simulator) },
            kubeconfig: Target::resolve(None, Path::new(HOME)),
            sockets: false,
            runtimes: kina::controllers::Runtimes::default(),
            parallelism: 2,
            layers: Arc::new(NoLayers),
        };
        let system = Running::start(options).await.unwrap();
        let mut waited = Duration::ZERO;
        while Self::running(simulator).len() < 2 {
            assert!(waited < UP_WITHIN, "the neighbour's cluster does not come up");
            tokio::time::sleep(STEP).await;
            waited += STEP;
        }
        let listing = simulator.hands().listing();
        let owner = listing.containers.iter().find(|c| c.name.starts_with("near-")).and_then(|c| c.owner());
        let installation = owner.expect("what Kina makes is labelled").installation.to_string();
        Self { installation, system, simulator: Arc::clone(simulator), containers: Self::running(simulator) }
    }

    fn running(simulator: &SimRuntime) -> Vec<String> {
        let listing = simulator.hands().listing();
        let near = listing.containers.into_iter().filter(|c| c.name.starts_with("near-"));
        let mut names: Vec<String> = near
            .filter(|container| container.state == ContainerState::Running)
            .map(|container| format!("{} {}", container.name, container.id))
            .collect();
        names.sort();
        names
    }

    pub fn owns(&self, owner: Option<OwnerLabels>) -> bool {
        owner.is_some_and(|owner| owner.installation.to_string() == self.installation)
    }

    /// What is not as it was.
    pub fn disturbed(&self) -> Option<String> {
        let now = Self::running(&self.simulator);
        (now != self.containers).then(|| format!("the neighbour has {now:?} instead of {:?}", self.containers))
    }

    pub async fn leave(self) {
        self.system.shutdown().await;
    }
}
