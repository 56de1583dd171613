//! A whole Kina in one process: server, sources, controllers and runtimes, wired together. What `kina serve` runs, and
//! what tests run in a simulated world.

pub mod admission;
mod clients;
mod inside;
mod kinds;
pub mod last_known;
mod layers;
mod loading;
mod look;
mod metered;
mod serving;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use clients::{ClientError, connect};
pub use kinds::kinds;
pub use layers::{Layers, NoLayers};
pub use look::look;
pub use serving::{Serving, ServingError};

use inside::Inside;
use metered::MeteredStore;

use crate::api::cluster::RuntimeName;
use crate::api::{Source, users};
use crate::apiserver::kind::KindError;
use crate::apiserver::store::{RedbStore, Store, StoreError};
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, History, Tenant};
use crate::controllers::{self, Runtimes};
use crate::home::{Home, HomeError};
use crate::kubeconfig::Target;
use crate::observability::Metrics;
use crate::runtime::sim::{SimError, SimOptions, SimRuntime, SimStore};
use crate::runtime::{Bounded, Metered, Runtime, bounded_client};
use crate::sources::{self, HOME_SOURCE, Root};
use crate::world::{World, uuid};

/// Where the metrics are.
const METRICS: &str = "/metrics";
/// The tenant of Kina's own objects: the store has no other.
const TENANT: &str = "kina";
/// Namespaces that clients of Kubernetes expect.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];
/// Pages of the store kept in memory. A thousand Clusters with their machines are some 20 MB; what is read often (lists of
/// one kind) is far less.
const STORE_CACHE_BYTES: usize = 8 << 20;
/// What watches can resume from: half of what the server keeps unless told otherwise, and still 4,000 states of a Machine
/// (4 KB). A watch that falls behind that lists anew.
const HISTORY: History = History { events: 4096, bytes: 16 << 20 };
/// How long a store may stay in use by a process that has let go of the home: it has nothing left to do but to end.
const ENDING: Duration = Duration::from_secs(5);
/// Between two tries meanwhile.
const AGAIN: Duration = Duration::from_millis(20);
/// How long parts may take to end by themselves; what still runs then is cut off, which no part may mind.
const DRAIN: Duration = Duration::from_secs(10);

/// Where objects, and the simulated world, are kept.
pub enum Storage {
    /// In files of the home.
    Home(SimOptions),
    /// In what the caller opened, for tests that crash and restart a system in one process.
    Given {
        /// The store of Kina's objects.
        store: Arc<dyn Store>,
        /// The simulated runtime, whose world outlives the system.
        simulator: Arc<SimRuntime>,
    },
}

impl Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Home(_) => "Home",
            Self::Given { .. } => "Given",
        })
    }
}

/// What a system is made of.
#[derive(Debug)]
pub struct Options {
    /// Paths of the home, which is prepared, and locked by the caller where others could want it.
    pub home: Home,
    /// Clock, randomness, files and ports.
    pub world: World,
    /// Directories to watch, besides those that were watched before: these stay until somebody says otherwise.
    pub roots: Vec<Root>,
    /// Directories not to watch any more. Their clusters stay, and belong to whoever works by hand.
    pub unwatch: Vec<PathBuf>,
    /// Where objects, and the simulated world, are kept.
    pub storage: Storage,
    /// Container runtimes of the host, besides the simulator that every Kina has.
    pub runtimes: Runtimes,
    /// Where contexts of clusters go.
    pub kubeconfig: Target,
    /// Whether others are answered on a socket, or only clients in this process.
    pub sockets: bool,
    /// At most so many machines in work at once.
    pub parallelism: usize,
    /// What stands between the system and its world.
    pub layers: Arc<dyn Layers>,
}

/// A system could not be started, or a part of it ended.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The store.
    #[error("could not open the store")]
    Store(#[from] StoreError),
    /// A kind.
    #[error("could not register a kind")]
    Kind(#[from] KindError),
    /// A namespace.
    #[error("could not make the namespace {name}")]
    Namespace {
        /// Its name.
        name: &'static str,
        /// What the API answered.
        #[source]
        source: Box<kube::Error>,
    },
    /// The directories that were watched before.
    #[error("could not list the sources")]
    Sources(#[source] Box<kube::Error>),
    /// A directory that is not to be watched any more, and is not.
    #[error("{path} is not a directory that `--watch` made Kina watch")]
    NotWatched {
        /// The directory.
        path: PathBuf,
    },
    /// The simulated runtime.
    #[error("could not open the simulated runtime")]
    Simulator(#[from] SimError),
    /// Serving the API.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// A part ended that should run as long as the process.
    #[error("the {part} ended unexpectedly")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why, where it is known.
        #[source]
        source: Option<JoinError>,
    },
}

/// The objects of a home, with a server over them and nothing that acts on them.
#[derive(Clone, Debug)]
pub struct Objects {
    server: ApiServer,
    tenant: Tenant,
}

impl Objects {
    /// Opens the home's store and starts the server on the current tokio runtime.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn open(home: &Home, world: &World) -> Result<Self, SystemError> {
        Self::over(Arc::new(Self::store(home, world).await?), home, world, true, &Metrics::new()).await
    }

    /// The home's store. A process that ends lets go of the home a moment before the operating system takes the store
    /// from it; that moment is waited for.
    async fn store(home: &Home, world: &World) -> Result<RedbStore, SystemError> {
        let deadline = Instant::now() + ENDING;
        loop {
            match RedbStore::open(&home.store(), STORE_CACHE_BYTES, &uuid(world.random.as_ref())) {
                Err(StoreError::InUse { .. }) if Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
                opened => {
                    let store = opened?;
                    home.restrict()?;
                    return Ok(store);
                }
            }
        }
    }

    /// No objects at all, in memory.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn empty(home: &Home, world: &World) -> Result<Self, SystemError> {
        let store = RedbStore::in_memory(&uuid(world.random.as_ref()))?;
        Self::over(Arc::new(store), home, world, false, &Metrics::new()).await
    }

    async fn over(
        store: Arc<dyn Store>,
        home: &Home,
        world: &World,
        threaded: bool,
        metrics: &Metrics,
    ) -> Result<Self, SystemError> {
        let store = Arc::new(MeteredStore::new(store, metrics.clone()));
        let shown = metrics.clone();
        let mut builder = ApiServer::builder_over(store, Arc::clone(&world.clock), Arc::clone(&world.random))
            .kinds(kinds(home.mount_policy())?)
            .history(HISTORY)
            .page(METRICS, Arc::new(move || (Metrics::CONTENT_TYPE, shown.encode())));
        if threaded {
            builder = builder.threaded_writer();
        }
        let server = builder.build()?;
        let objects = Self { tenant: server.tenant(TENANT), server };
        objects.make_namespaces().await?;
        Ok(objects)
    }

    /// Events of cluster-scoped objects lie in `default`, as in Kubernetes.
    async fn make_namespaces(&self) -> Result<(), SystemError> {
        let namespaces: Api<Namespace> = Api::all(self.client(users::CONTROLLERS));
        for name in NAMESPACES {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let namespace = Namespace { metadata, ..Namespace::default() };
            match namespaces.create(&PostParams::default(), &namespace).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(source) => return Err(SystemError::Namespace { name, source: Box::new(source) }),
            }
        }
        Ok(())
    }

    /// The directories of all Sources.
    async fn known_roots(&self) -> Result<Vec<Root>, SystemError> {
        let sources: Api<Source> = Api::all(self.client(users::SOURCES));
        let listed =
            sources.list(&ListParams::default()).await.map_err(|source| SystemError::Sources(Box::new(source)))?;
        let root = |source: Source| Some(Root { name: source.metadata.name?, path: source.spec.path.into() });
        Ok(listed.items.into_iter().filter_map(root).collect())
    }

    /// Ends watches; what is asked is still answered.
    fn shutdown(&self) {
        self.server.shutdown();
    }

    /// Ends the server and closes the store: what was acknowledged is stored, and whoever opens it next finds it whole.
    pub async fn close(&self) {
        self.server.close().await;
    }

    /// A client in this process, in the name of a user.
    #[must_use]
    pub fn client(&self, user: &str) -> kube::Client {
        self.tenant.client(administrator(user))
    }

    /// As [`Self::client`], for one that never asks who set which field.
    fn lean_client(&self, user: &str) -> kube::Client {
        self.tenant.lean_client(administrator(user))
    }
}

fn administrator(user: &str) -> User {
    User { name: user.to_owned(), groups: vec!["system:masters".to_owned()] }
}

/// A system at work. Dropping it ends it as a crash would; [`Running::shutdown`] ends it gently.
pub struct Running {
    objects: Objects,
    simulator: Arc<SimRuntime>,
    /// Sources and controllers: they end first, while the rest still answers them.
    acting: JoinSet<&'static str>,
    answering: JoinSet<&'static str>,
    stop: CancellationToken,
    serving: CancellationToken,
}

impl Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("parts", &(self.acting.len() + self.answering.len())).finish_non_exhaustive()
    }
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// [`SystemError`]; nothing runs then.
    pub async fn start(options: Options) -> Result<Self, SystemError> {
        let Options { home, world, mut roots, unwatch, storage, runtimes, kubeconfig, sockets, parallelism, layers } =
            options;
        let metrics = Metrics::new();
        let installation = home.installation(world.files.as_ref(), world.random.as_ref())?;
        let (objects, simulator) = match storage {
            Storage::Home(options) => {
                let simulator = SimRuntime::open(world.clone(), SimStore::File(home.simulator()), options)?;
                let store = Arc::new(Objects::store(&home, &world).await?);
                (Objects::over(store, &home, &world, true, &metrics).await?, simulator)
            }
            Storage::Given { store, simulator } => {
                (Objects::over(store, &home, &world, false, &metrics).await?, simulator)
            }
        };
        roots.extend(objects.known_roots().await?);
        for path in unwatch {
            if !roots.iter().any(|root| root.path == path && root.name != HOME_SOURCE) {
                return Err(SystemError::NotWatched { path });
            }
            roots.retain(|root| root.path != path);
        }
        let serving = if sockets { Some(Serving::open(&home, &world).await?) } else { None };
        // Nearer to who asks than what a test puts in between: what is given up counts as a failure, too.
        let bounded = |runtime: Arc<dyn Runtime>| -> Arc<dyn Runtime> {
            Arc::new(Metered::new(Arc::new(Bounded::new(layers.runtime(runtime))), metrics.clone()))
        };
        let mut usable: BTreeMap<_, _> =
            runtimes.usable.into_iter().map(|(name, runtime)| (name, bounded(runtime))).collect();
        usable.insert(RuntimeName::Sim, bounded(simulator.clone()));
        let context = controllers::Context {
            client: bounded_client(layers.client(objects.lean_client(users::CONTROLLERS))),
            world: world.clone(),
            runtimes: Runtimes { usable, ..runtimes },
            pki_directory: home.pki(),
            mounts: home.mount_policy(),
            // One process a home: a lock of a kubeconfig with this mark was left by a crash of ours.
            kubeconfig: kubeconfig.owned_by(installation.to_string()),
            installation,
            parallelism,
            metrics: metrics.clone(),
        };
        let inside = Inside {
            client: objects.client(users::CONTROLLERS),
            runtimes: context.runtimes.clone(),
            installation: context.installation.clone(),
        };
        let mut running = Self {
            objects,
            simulator,
            acting: JoinSet::new(),
            answering: JoinSet::new(),
            stop: CancellationToken::new(),
            serving: CancellationToken::new(),
        };
        let (simulator, serving_ends) = (Arc::clone(&running.simulator), running.serving.clone());
        spawn(&mut running.answering, "simulated runtime", async move {
            // Its world is consistent after every step: there is nothing to finish.
            tokio::select! {
                biased;
                () = serving_ends.cancelled() => {}
                () = simulator.run() => {}
            }
        });
        spawn(&mut running.acting, "controllers", controllers::run(context, running.stop.clone()));
        let watched =
            metered::watch_sources(running.objects.lean_client(users::SOURCES), metrics, running.stop.clone());
        spawn(&mut running.acting, "metrics", watched);
        let source_client = bounded_client(layers.client(running.objects.client(users::SOURCES)));
        let stop = running.stop.clone().cancelled_owned();
        spawn(&mut running.acting, "sources", sources::run(source_client, world, roots, home.mount_policy(), stop));
        if let Some(serving) = serving {
            let served = serving.run(running.objects.clone(), inside, running.serving.clone());
            spawn(&mut running.answering, "API", served);
        }
        Ok(running)
    }

    /// A client in this process, in the name of a user.
    #[must_use]
    pub fn client(&self, user: &str) -> kube::Client {
        self.objects.client(user)
    }

    /// The simulated runtime, for tests that reach into its world.
    #[must_use]
    pub fn simulator(&self) -> &Arc<SimRuntime> {
        &self.simulator
    }

    /// Waits until a part ends, which none should.
    pub async fn failed(&mut self) -> SystemError {
        let ended = tokio::select! {
            biased;
            Some(ended) = self.acting.join_next() => ended,
            Some(ended) = self.answering.join_next() => ended,
            else => std::future::pending().await,
        };
        match ended {
            Ok(part) => SystemError::Ended { part, source: None },
            Err(source) => SystemError::Ended { part: "system", source: Some(source) },
        }
    }

    /// Ends sources and controllers, then what answers, then the server and the simulated world, both of which are closed
    /// when this returns. What was acknowledged is stored.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        drain(&mut self.acting).await;
        self.objects.shutdown();
        self.serving.cancel();
        drain(&mut self.answering).await;
        self.simulator.close().await;
        self.objects.close().await;
    }
}

fn spawn(parts: &mut JoinSet<&'static str>, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        part.await;
        name
    });
}

/// Lets parts end by themselves for a while; what still runs then is cut off, which no part may mind.
async fn drain(parts: &mut JoinSet<&'static str>) {
    let drained = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("parts that did not end in time are cut off");
        parts.shutdown().await;
    }
}
