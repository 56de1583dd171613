//! The simulated runtime: containers, networks, volumes and nodes in this process, needing nothing.
//!
//! It is the embedded default where no container runtime is found, and the world in which tests run. What takes time is
//! written down with the time at which it ends, so the world goes on after a restart of Kina as if it had never
//! stopped. Every effect goes through one [`Gate`], where latency and faults are decided.

mod clusters;
mod connect;
mod core;
mod durable;
mod etcd;
mod exec;
mod gate;
mod hands;
mod images;
mod kubeadm;
mod manifests;
mod node_files;
mod observed;
mod operations;
mod options;
mod overlay;
mod pki;
mod ports;
mod route;
mod routed;
mod state;
mod subnet;
mod systemd;
#[cfg(test)]
mod tests;
mod time;
mod world;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::{
    Capabilities, Cause, ClusterConnector, ContainerId, ContainerSpec, ExecOutput, ExecRequest, Image, Listing,
    NetworkSpec, NodeFile, Runtime, RuntimeError, RuntimeInfo, VolumeSpec,
};
use crate::api::cluster::NodeNetwork;
use crate::apiserver::serve::Limits;
use crate::apiserver::store::RedbStore;
use crate::world::{World, uuid};
use clusters::Clusters;
use connect::Connector;
use core::{Core, new_id};
use exec::Ran;
use operations::Refused;
use ports::Serving;
use state::{Journal, JournalFile};
use world::{Life, State};

pub use gate::{Fault, Gate, Lie, Open, Operation};
pub use hands::Hands;
pub use options::{Latency, SimOptions, Sockets};
pub use state::SimError;

/// Where the simulated world is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimStore {
    /// In files of this directory, which is made where it is missing.
    File(PathBuf),
    /// In memory: it ends with the [`SimRuntime`].
    Memory,
}

/// A container runtime in this process.
#[derive(Debug)]
pub struct SimRuntime {
    core: Arc<Core>,
    clusters: Arc<Clusters>,
}

/// The shortest wait of the world's own clock: what is due never keeps it from letting others run.
const TICK: Duration = Duration::from_millis(1);
/// Page cache of the store of all clusters' objects: a few thousand of 2 KB, twice.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The largest file that [`Runtime::read_file`] returns.
const READ_LIMIT: usize = 1024 * 1024;

impl SimRuntime {
    /// Opens the world, or begins a new one where there is none. Nothing happens in its clusters until
    /// [`SimRuntime::run`] is driven. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`SimError`] where the world's files are in use, damaged or cannot be opened.
    pub fn open(world: World, store: SimStore, options: SimOptions) -> Result<Arc<Self>, SimError> {
        let id = uuid(&*world.random);
        let (state, journal, objects) = match &store {
            SimStore::Memory => (State::default(), Journal::Memory, RedbStore::in_memory(&id)),
            SimStore::File(directory) => {
                let (file, state) = JournalFile::open(&directory.join("world"))?;
                let path = directory.join("clusters.redb");
                (state, Journal::File(file), RedbStore::open(&path, CACHE_BYTES, &id))
            }
        };
        let core = Core::new(world, options, state, journal);
        if core.options.networks.have(NodeNetwork::Default) {
            core.change(|tx, _| operations::ensure_default_network(tx)).map_err(|(_, why)| SimError::Network(why))?;
        }
        let clusters =
            objects.and_then(|objects| Clusters::new(Arc::clone(&core), objects)).map_err(SimError::Objects)?;
        Ok(Arc::new(Self { core, clusters }))
    }

    /// Lets time pass in the simulated world: what is due happens, clusters answer, kubelets and controllers work. Runs
    /// until it is dropped.
    pub async fn run(&self) {
        self.core.ask_again();
        let limits = Limits::default();
        let listens = self.core.options.sockets == Sockets::Listen;
        let _serving = Serving(&self.core.ports);
        if listens {
            self.core.ports.sync(&self.clusters, &limits);
        }
        let mut sync_at = None;
        loop {
            sync_at = self.keep_rhythm(sync_at).await;
            let news = self.core.take_news();
            if listens && news.ports {
                self.core.ports.sync(&self.clusters, &limits);
            }
            if self.clusters.work(news).await {
                continue;
            }
            let due = [self.core.next_due(), self.clusters.next_due()].into_iter().flatten().min();
            let wait = due.map(|due| due.since(self.core.now()));
            tokio::select! {
                biased;
                () = self.core.wake.notified() => {}
                () = tokio::time::sleep_until(sync_at.unwrap_or_else(Instant::now)), if sync_at.is_some() => {}
                () = rest(wait.unwrap_or_default().max(TICK)), if wait.is_some() => {}
            }
        }
    }

    /// Syncs what was written where it is time to, and returns when it is next.
    async fn keep_rhythm(&self, sync_at: Option<Instant>) -> Option<Instant> {
        if !self.core.is_dirty() {
            return None;
        }
        let at = sync_at.unwrap_or_else(|| Instant::now() + durable::RHYTHM);
        if Instant::now() < at {
            return Some(at);
        }
        if let Err(error) = self.core.durable().await {
            tracing::warn!(%error, "the simulated world would not survive a loss of power");
        }
        None
    }

    /// Closes the world's files, for whoever opens them next. Nothing happens in it any more.
    pub async fn close(&self) {
        if let Err(error) = self.core.durable().await {
            tracing::warn!(%error, "the simulated world would not survive a loss of power");
        }
        self.clusters.close().await;
    }

    /// Hands inside the world, behind Kina's back: for tests.
    #[must_use]
    pub fn hands(&self) -> Hands<'_> {
        Hands::new(&self.core)
    }

    /// Lets an operation pass the gate and take its time, with `act` as its only effect.
    async fn pass<T>(
        &self,
        operation: Operation,
        object: &str,
        act: impl FnOnce(Option<Lie>) -> Result<T, Refused>,
    ) -> Result<T, RuntimeError> {
        let fault = self.core.options.gate.decide(operation, object);
        let failed = |(cause, message): Refused| RuntimeError::new(operation.as_str(), object, cause, message);
        let base = self.core.options.latency.of(operation);
        let latency = if base.is_zero() {
            base
        } else {
            self.core.options.latency.jittered(base, self.core.world.random.next_u64())
        };
        // Three quarters on the way there, one back: a caller can go away while the effect is done and not yet told.
        rest(latency * 3 / 4).await;
        let lie = match fault {
            Fault::None => None,
            Fault::ReplyLost => {
                // Also a refusal is not heard of.
                drop(act(None));
                rest(latency / 4).await;
                return Err(failed((Cause::Unknown, "the connection was closed before the answer came".into())));
            }
            Fault::FailBefore(cause) => {
                return Err(failed((cause, format!("injected failure: {cause:?}"))));
            }
            Fault::Timeout => {
                rest(operation.limit()).await;
                return Err(failed((Cause::Timeout, format!("no answer within {} s", operation.limit().as_secs()))));
            }
            Fault::Slow(more) => {
                rest(more).await;
                None
            }
            Fault::Hang => std::future::pending().await,
            Fault::Lie(lie) => Some(lie),
        };
        let mut result = act(lie);
        if operation.makes_or_removes()
            && result.is_ok()
            && let Err(error) = self.core.durable().await
        {
            result = Err((Cause::Exhausted, format!("cannot write the simulated world: {error}")));
        }
        rest(latency / 4).await;
        result.map_err(failed)
    }

    /// What there is in a world that nobody runs: its containers are as they were left, and go on when it is opened. The
    /// caller sees to it that nobody has it open. Reads a file, and writes nothing.
    ///
    /// # Errors
    /// [`SimError`] where the world's file is damaged or cannot be read.
    pub fn look(directory: &Path) -> Result<Listing, SimError> {
        let began = Instant::now();
        Ok(state::read(&directory.join("world"))?.observed.listing(began))
    }

    fn name_of(&self, id: &ContainerId) -> String {
        self.core
            .read(|state| state.containers.get(&id.0).map_or_else(|| id.0.clone(), |record| record.spec.name.clone()))
    }

    fn listing(&self, began: Instant) -> Listing {
        self.core.read(|state| state.observed.listing(began))
    }
}

/// Waits; not at all where there is nothing to wait for.
async fn rest(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Runs a command's time within its limit.
async fn within(limit: Duration, work: impl Future<Output = ()>) -> Result<(), Refused> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| (Cause::Timeout, format!("the command did not end within {} s", limit.as_secs())))
}

#[async_trait]
impl Runtime for SimRuntime {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn capabilities(&self) -> Capabilities {
        let pins_addresses = self.core.options.pins_addresses;
        Capabilities {
            supports_events: true,
            pins_addresses,
            supports_ipv6: pins_addresses,
            networks: self.core.options.networks,
            node_resources: None,
            ends_with_process: true,
            reads_stopped: true,
        }
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        self.pass(Operation::Info, self.name(), |_| {
            Ok(RuntimeInfo {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                architecture: std::env::consts::ARCH.to_owned(),
                cpus: 0,
                memory_bytes: 0,
            })
        })
        .await
    }

    async fn list(&self) -> Result<Listing, RuntimeError> {
        let began = Instant::now();
        self.pass(Operation::List, self.name(), |lie| {
            let listing = self.listing(began);
            let previous = if self.core.options.gate.may_lie() { self.core.remember(&listing) } else { None };
            Ok(match (lie, previous) {
                (Some(Lie::StaleList), Some(previous)) => Listing { began, ..previous },
                _ => listing,
            })
        })
        .await
    }

    fn events(&self) -> BoxStream<'static, ()> {
        let changes = self.core.events.subscribe();
        futures::stream::unfold(
            changes,
            |mut changes| async move { changes.changed().await.ok().map(|()| ((), changes)) },
        )
        .boxed()
    }

    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError> {
        let latency = &self.core.options.latency;
        let present = self
            .pass(Operation::EnsureImage, image, |_| {
                let pull = latency.jittered(latency.pull, self.core.world.random.next_u64());
                self.core.change(|tx, now| operations::pull(tx, image, now.plus(pull)))
            })
            .await?;
        rest(present.since(self.core.now())).await;
        Ok(Image { name: image.to_owned(), digest: images::digest_of(image) })
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        Ok(images::is_on_host(image).then(|| images::id_of(image)))
    }

    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        const OPERATION: &str = "load images";
        if let Some(image) = images.iter().find(|image| !images::is_on_host(image)) {
            let message = format!("there is no image {image} on this host");
            return Err(RuntimeError::new(OPERATION, image, Cause::NotFound, message));
        }
        let mut failed = Vec::new();
        for id in ids {
            let name = self.name_of(id);
            let loaded = self
                .pass(Operation::CopyIn, &name, |_| {
                    self.core.change(|tx, _| operations::load_images(tx, &id.0, images))
                })
                .await;
            if let Err(error) = loaded {
                failed.push((id.clone(), RuntimeError { operation: OPERATION, object: images.join(" "), ..error }));
            }
        }
        Ok(failed)
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        let SimOptions { duplicate_network_names: duplicates, networks, .. } = self.core.options;
        self.pass(Operation::CreateNetwork, &spec.name, |_| {
            if !networks.have(NodeNetwork::Cluster) {
                return Err((Cause::Invalid, "this simulated runtime makes no networks".to_owned()));
            }
            self.core.change(|tx, _| operations::create_network(tx, spec, duplicates))
        })
        .await
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        self.pass(Operation::RemoveNetwork, name, |_| self.core.change(|tx, _| operations::remove_network(tx, name)))
            .await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError> {
        self.pass(Operation::CreateVolume, &spec.name, |_| {
            self.core.change(|tx, _| operations::create_volume(tx, spec))
        })
        .await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        self.pass(Operation::RemoveVolume, name, |_| self.core.change(|tx, _| operations::remove_volume(tx, name)))
            .await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        let id = new_id(&*self.core.world.random);
        let address = spec.address.filter(|_| self.core.options.pins_addresses);
        let spec = ContainerSpec { address, ..spec.clone() };
        self.pass(Operation::CreateContainer, &spec.name, |_| {
            self.core.change(|tx, now| operations::create_container(tx, id.clone(), &spec, now))
        })
        .await?;
        Ok(ContainerId(id))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        self.pass(Operation::StartContainer, &name, |_| self.core.start(&id.0)).await
    }

    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        self.pass(Operation::StopContainer, &name, |lie| match lie {
            Some(Lie::StopNoop) => self.core.read(|state| operations::the_container(state, &id.0).map(drop)),
            // A node's init ends with 130 on SIGRTMIN+3, the stop signal of its image.
            _ => self.core.change(|tx, _| operations::stop_container(tx, &id.0, 130)),
        })
        .await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        self.pass(Operation::RemoveContainer, &name, |_| {
            self.core.change(|tx, _| operations::remove_container(tx, &id.0))
        })
        .await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let name = self.name_of(id);
        let started = Instant::now();
        let failed = |(cause, message): Refused| RuntimeError::new(Operation::Exec.as_str(), &name, cause, message);
        let passing = self.pass(Operation::Exec, &name, |_| {
            self.core.change(|tx, now| {
                let record = operations::the_container(tx.state, &id.0)?;
                if !matches!(record.life, Life::Running { .. }) {
                    return Err((Cause::NotRunning, format!("container {name} is not running")));
                }
                Ok(exec::run(tx, &id.0, &request.command, request.stdin.as_deref(), now))
            })
        });
        let ran = tokio::time::timeout(request.timeout, passing).await.unwrap_or_else(|_| {
            let message = format!("the command did not end within {} s", request.timeout.as_secs());
            Err(failed((Cause::Timeout, message)))
        })?;
        match ran {
            Ran::Ended(output) => Ok(output),
            Ran::Takes(time) => {
                let left = request.timeout.saturating_sub(started.elapsed());
                within(left, rest(time)).await.map_err(failed)?;
                Ok(exec::says(""))
            }
        }
    }

    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        self.pass(Operation::CopyIn, &name, |_| self.core.change(|tx, _| operations::copy_in(tx, &id.0, files))).await
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        let name = self.name_of(id);
        self.pass(Operation::ReadFile, &name, |_| {
            self.core.read(|state| {
                operations::the_container(state, &id.0)?;
                match state.file(&id.0, path) {
                    Some(content) if content.len() > READ_LIMIT => {
                        Err((Cause::Invalid, format!("{path} is larger than {READ_LIMIT} bytes")))
                    }
                    found => Ok(found.map(|content| content.to_vec())),
                }
            })
        })
        .await
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        let name = self.name_of(id);
        self.pass(Operation::Logs, &name, |_| self.core.read(|state| operations::logs(state, &id.0, lines))).await
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        Arc::new(Connector { clusters: Arc::clone(&self.clusters) })
    }
}
