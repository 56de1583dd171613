//! The engine of the shipped program: the system in this process, or a client of the process that serves the home.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use tokio::time::Instant;

use super::engine::{Engine, Handle, Purpose, Start, Started};
use super::error::CliError;
use super::exit::Exit;
use crate::api::cluster::RuntimeName;
use crate::api::{Cluster, users};
use crate::controllers::proxies::Proxies;
use crate::controllers::{Runtimes, limit};
use crate::doctor::Facts;
use crate::doctor::facts::Holder;
use crate::doctor::gather::{Place, gather};
use crate::home::{Home, HomeError, HomeLock};
use crate::runtime::apple::{AppleRuntime, START_SERVICE, mac, process};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::docker::endpoint::Surroundings;
use crate::runtime::sim::{Latency, SimOptions, Sockets};
use crate::runtime::workshop::Workshop;
use crate::runtime::{Networks, Runtime};
use crate::sources::Root;
use crate::system::{self, ClientError, NoLayers, Objects, Options, Running, Storage, SystemError};
use crate::world::World;

/// How long a process that holds a home's lock may take until it answers: opening a store of a thousand clusters takes a
/// second on a slow disk.
const START: Duration = Duration::from_secs(10);
/// The first start of Apple Container's service fetches a kernel and an image, over a slow line.
const SERVICE: Duration = Duration::from_secs(880);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the real thing.
#[derive(Debug)]
pub struct LocalEngine {
    world: World,
    latency: Latency,
    runtimes: BTreeMap<RuntimeName, Arc<dyn Runtime>>,
    docker: Option<Arc<DockerRuntime>>,
    /// Where programs are.
    path: Vec<PathBuf>,
    /// What `auto` is to mean.
    named: Option<String>,
}

impl LocalEngine {
    /// In the real world: the runtime that `$KINA_RUNTIME` names for `auto`, the latency of simulated clusters that
    /// `$KINA_SIM_LATENCY` names (`none` for benches).
    #[must_use]
    pub fn of_process() -> Self {
        let none = std::env::var("KINA_SIM_LATENCY").is_ok_and(|value| value == "none");
        let world = World::real();
        let surroundings = Surroundings::of_process();
        // An agent of launchd has little in its PATH; this is where Apple's installer and Homebrew put programs.
        let usual = cfg!(target_os = "macos").then(|| ["/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
        let path = surroundings.path.iter().cloned().chain(usual.into_iter().flatten()).collect();
        let docker = DockerRuntime::installed(surroundings, world.clone());
        let moves = std::env::var("KINA_DOCKER_PIN_ADDRESSES").is_ok_and(|value| value == "false");
        let docker = docker.map(|runtime| if moves { runtime.without_pinned_addresses() } else { runtime });
        let docker = docker.map(Arc::new);
        let runtime = docker.clone().map(|runtime| (RuntimeName::Docker, runtime as Arc<dyn Runtime>));
        Self {
            world,
            latency: if none { Latency::zero() } else { Latency::small() },
            runtimes: runtime.into_iter().collect(),
            docker,
            path,
            named: std::env::var("KINA_RUNTIME").ok().filter(|name| !name.is_empty() && name != "auto"),
        }
    }

    /// The runtime that somebody named.
    fn named(&self) -> Result<Option<RuntimeName>, CliError> {
        self.named.as_deref().map(named_runtime).transpose()
    }

    async fn apple(&self, home: &Home) -> Result<Option<AppleRuntime>, CliError> {
        // Elsewhere than on a Mac a program called `container` is another one, unless somebody says otherwise.
        let is_meant = cfg!(target_os = "macos") || self.named()? == Some(RuntimeName::Apple);
        let installed = || AppleRuntime::installed(&self.path, home.apple(), self.world.clone());
        let Some(apple) = is_meant.then(installed).flatten() else { return Ok(None) };
        // Which words the command knows depends on the Mac.
        let (mac, size) = mac::look(&self.path, self.world.files.as_ref()).await;
        Ok(Some(apple.on(mac, size)))
    }

    fn runtimes(&self, apple: Option<AppleRuntime>) -> Result<Runtimes, CliError> {
        let mut usable = self.runtimes.clone();
        usable.extend(apple.map(|apple| (RuntimeName::Apple, Arc::new(apple) as Arc<dyn Runtime>)));
        let proxies = Proxies::of(|name| std::env::var(name).ok());
        Ok(Runtimes { usable, named: self.named()?, proxies })
    }

    /// Who has the home, and the Clusters that are known there; `None` where they cannot be read.
    async fn known(&self, home: &Home) -> (Holder, Option<Vec<Cluster>>) {
        if self.world.files.metadata(&home.store()).is_err() {
            return (Holder::Nobody, Some(Vec::new()));
        }
        match self.connect(home).await {
            Ok(Some(client)) => (Holder::Kina, clusters(client).await),
            Ok(None) => match self.recorded(home).await {
                Ok(clusters) => (Holder::Nobody, clusters),
                Err(error) => (Holder::Unknown(error.message().to_owned()), None),
            },
            Err(error) => (Holder::Unknown(error.message().to_owned()), None),
        }
    }

    /// The Clusters that the store of a home holds which nobody serves.
    async fn recorded(&self, home: &Home) -> Result<Option<Vec<Cluster>>, CliError> {
        let _lock = self.take(home).await?;
        let objects = Objects::open(home, &self.world).await?;
        let clusters = clusters(objects.client(users::ADMIN)).await;
        objects.close().await;
        Ok(clusters)
    }

    /// Takes the home's lock. A command that looks into the store has it for a moment, and is waited for; a process that
    /// serves the home keeps it, and is an error.
    async fn take(&self, home: &Home) -> Result<HomeLock, CliError> {
        let files = self.world.files.as_ref();
        home.prepare(files, rustix::process::geteuid().as_raw())?;
        let deadline = Instant::now() + START;
        loop {
            match home.lock() {
                Err(HomeError::Busy { .. }) if Instant::now() < deadline => {}
                taken => return Ok(taken?),
            }
            if system::connect(home, files).await.is_ok() {
                return Ok(home.lock()?);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl Engine for LocalEngine {
    async fn connect(&self, home: &Home) -> Result<Option<Client>, CliError> {
        if self.world.files.metadata(home.root()).is_err() {
            return Ok(None);
        }
        home.check(self.world.files.as_ref(), rustix::process::geteuid().as_raw())?;
        let deadline = Instant::now() + START;
        loop {
            // The lock tells whether anybody serves; a command that looks into the store has it for a moment, too.
            match home.lock() {
                Ok(_) => return Ok(None),
                Err(HomeError::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match system::connect(home, self.world.files.as_ref()).await {
                Ok(client) => return Ok(Some(client)),
                Err(error) if Instant::now() >= deadline => return Err(silent(error)),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn peek(&self, home: &Home) -> Option<Client> {
        let files = self.world.files.as_ref();
        home.check(files, rustix::process::geteuid().as_raw()).ok()?;
        system::connect(home, files).await.ok()
    }

    async fn start(&self, start: &Start) -> Result<Started, CliError> {
        let lock = self.take(&start.home).await?;
        let apple = self.apple(&start.home).await?;
        let simulator = SimOptions { latency: self.latency.clone(), sockets: Sockets::Listen, ..SimOptions::default() };
        let mut roots = vec![Root::home(start.home.clusters())];
        roots.extend(start.watch.iter().map(Root::watched));
        let options = Options {
            home: start.home.clone(),
            world: self.world.clone(),
            roots,
            unwatch: start.unwatch.clone(),
            storage: Storage::Home(simulator),
            runtimes: self.runtimes(apple)?,
            kubeconfig: start.kubeconfig.clone(),
            sockets: true,
            parallelism: limit::simulated(),
            layers: Arc::new(NoLayers),
        };
        let running = Running::start(options).await?;
        let client = running.client(users::ADMIN);
        Ok(Started { client, handle: Box::new(Whole { running, _lock: lock }), sights: None })
    }

    async fn open(&self, home: &Home, purpose: Purpose) -> Result<Started, CliError> {
        let is_there = self.world.files.metadata(&home.store()).is_ok();
        let (objects, lock) = if is_there || purpose == Purpose::Write {
            let lock = self.take(home).await?;
            (Objects::open(home, &self.world).await?, Some(lock))
        } else {
            (Objects::empty(home, &self.world).await?, None)
        };
        let sights = match purpose {
            Purpose::Read => {
                let runtimes = self.runtimes(self.apple(home).await?)?;
                Some(system::look(home, &self.world, &runtimes).await)
            }
            Purpose::Write => None,
        };
        let client = objects.client(users::ADMIN);
        Ok(Started { client, handle: Box::new(Store { objects, _lock: lock }), sights })
    }

    async fn networks(&self, home: &Home, named: Option<RuntimeName>) -> Result<(RuntimeName, Networks), CliError> {
        let runtimes = self.runtimes(self.apple(home).await?)?;
        let name = named.filter(|name| !name.is_auto()).or_else(|| runtimes.auto()).unwrap_or(RuntimeName::Sim);
        let networks = runtimes.usable.get(&name).map(|runtime| runtime.capabilities().networks);
        Ok((name, networks.unwrap_or_default()))
    }

    async fn examine(&self, home: &Home) -> Result<Facts, CliError> {
        let (holder, clusters) = self.known(home).await;
        let place = Place {
            home,
            world: &self.world,
            directories: &self.path,
            named: self.named()?,
            docker: self.docker.as_deref(),
        };
        Ok(gather(&place, holder, clusters).await)
    }

    async fn start_service(&self) -> Result<(), CliError> {
        let failed = |message: String| CliError::new(Exit::Failure, message);
        let Some(program) = AppleRuntime::program(&self.path, &self.world) else {
            return Err(failed("there is no `container` any more".to_owned()));
        };
        let arguments: Vec<&str> = START_SERVICE.split(' ').skip(1).collect();
        match process::show(&program, &arguments, SERVICE).await {
            Ok(0) => Ok(()),
            Ok(code) => Err(failed(format!("`{START_SERVICE}` ended with {code}"))),
            Err(error) => Err(failed(format!("cannot run `{START_SERVICE}`")).because(error)),
        }
    }

    fn workshop(&self) -> Option<Arc<dyn Workshop>> {
        self.docker.clone().map(|docker| docker as Arc<dyn Workshop>)
    }
}

/// A whole system, and the right to run it.
struct Whole {
    running: Running,
    _lock: HomeLock,
}

#[async_trait]
impl Handle for Whole {
    async fn failed(&mut self) -> CliError {
        self.running.failed().await.into()
    }

    async fn stop(self: Box<Self>) {
        self.running.shutdown().await;
    }
}

/// A store with nothing that acts on it.
struct Store {
    objects: Objects,
    _lock: Option<HomeLock>,
}

#[async_trait]
impl Handle for Store {
    async fn failed(&mut self) -> CliError {
        std::future::pending().await
    }

    async fn stop(self: Box<Self>) {
        self.objects.close().await;
    }
}

async fn clusters(client: Client) -> Option<Vec<Cluster>> {
    let api: kube::Api<Cluster> = kube::Api::all(client);
    Some(api.list(&kube::api::ListParams::default()).await.ok()?.items)
}

fn named_runtime(name: &str) -> Result<RuntimeName, CliError> {
    let known = [RuntimeName::Apple, RuntimeName::Docker, RuntimeName::Sim];
    known.into_iter().find(|known| known.as_str() == name).ok_or_else(|| {
        CliError::new(Exit::Usage, format!("KINA_RUNTIME is {name:?}, which is no runtime that Kina can drive"))
            .hint("say `apple`, `docker`, `sim`, or nothing for the one that is installed")
    })
}

fn silent(error: ClientError) -> CliError {
    CliError::new(Exit::Busy, "a kina holds the home, and cannot be reached").because(error).hint(
        "wait until that process has started or ended; if it hangs, end it: clusters stay as they are, and nothing is lost",
    )
}

impl From<SystemError> for CliError {
    fn from(error: SystemError) -> Self {
        match error {
            SystemError::Home(error) => error.into(),
            SystemError::Store(error) => error.into(),
            error @ SystemError::NotWatched { .. } => CliError::new(Exit::NotFound, error.to_string())
                .hint("`kina get sources -o wide` lists the directories"),
            error => {
                let hint = room(&error);
                CliError::new(Exit::Failure, "cannot run Kina").because(error).hint(hint)
            }
        }
    }
}

/// What to do where a full disk is at the bottom of an error: every layer wraps it otherwise, and all keep its number.
fn room(error: &dyn std::error::Error) -> &'static str {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let is_full = causes.take(20).any(|error| error.to_string().contains("(os error 28)"));
    if is_full { "make room on the disk of the home" } else { "" }
}
