//! Docker Engine, over its API. What there is to decide is decided by pure functions: [`endpoint`] where the engine is,
//! `create` what is asked of it, `observed` what it shows, `failure` what a refusal means.

mod create;
pub mod endpoint;
mod examine;
mod exec;
mod failure;
mod load;
mod observed;
#[cfg(test)]
mod tests;
mod workshop;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, Network as EngineNetwork};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder,
    EventsOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptions,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions, StopContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker, body_full};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::create::{MTU, Peculiarities};
use self::endpoint::{Endpoint, Found, Surroundings};
pub use self::examine::{EngineFacts, Examination};
use self::failure::{failed, failed_pull};
use super::{
    Capabilities, Cause, ClusterConnector, Container, ContainerId, ContainerSpec, ExecOutput, ExecRequest, Image,
    Listing, NetworkSpec, Networks, NodeFile, OwnerLabels, Runtime, RuntimeError, RuntimeInfo, VolumeSpec, archive,
    connector, image_name,
};
use crate::world::World;

/// Longest time until an answer of the engine begins. What takes longer, as a pull does, answers bit by bit.
const ANSWER_SECONDS: u64 = 120;
/// Between the request to end and the force.
const GRACE_SECONDS: i32 = 10;
/// So many containers are inspected at once.
const INSPECTED_AT_ONCE: usize = 8;
/// Of a file that is read.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Around a file in an archive: headers, and padding.
const ARCHIVE_BYTES_MORE: usize = 64 << 10;
/// Of a log that is read.
const LOG_BYTES_MAX: usize = 1 << 20;
/// What changes something that a listing shows. Commands in containers are events, too, and change nothing.
const EVENTS: [&str; 12] = [
    "create",
    "start",
    "die",
    "stop",
    "destroy",
    "pause",
    "unpause",
    "rename",
    "update",
    "connect",
    "disconnect",
    "remove",
];
/// Events of so long ago are told again: two clocks never agree.
const EVENTS_BEFORE: SignedDuration = SignedDuration::from_secs(1);
/// Where Linux tells its routes.
const ROUTES: &str = "/proc/net/route";
/// And those of IPv6.
const IPV6_ROUTES: &str = "/proc/net/ipv6_route";
/// A table of some ten thousand routes.
const ROUTES_BYTES_MAX: u64 = 2 << 20;

/// Docker Engine on this host, or what speaks as it does.
#[derive(Debug)]
pub struct DockerRuntime {
    surroundings: Surroundings,
    world: World,
    pins_addresses: bool,
    engine: OnceCell<Engine>,
}

/// An engine that has answered.
#[derive(Clone, Debug)]
struct Engine {
    docker: Docker,
    peculiarities: Peculiarities,
    /// Of its own bridge, where it was told one.
    mtu: Option<String>,
    /// By how much its clock is before ours: in a virtual machine it has its own.
    ahead: SignedDuration,
}

impl DockerRuntime {
    /// The engine of these surroundings, which may be there later only: it is looked for until it answers. `None` where
    /// none is installed.
    #[must_use]
    pub fn installed(surroundings: Surroundings, world: World) -> Option<Self> {
        match surroundings.find(world.files.as_ref()) {
            Found::Nothing => None,
            Found::Here(_) | Found::Unusable(_) => {
                Some(Self { surroundings, world, pins_addresses: true, engine: OnceCell::new() })
            }
        }
    }

    /// The same, with containers left to whatever address the engine gives them at each start: for trying how clusters fare
    /// on a runtime that can do no better.
    #[must_use]
    pub fn without_pinned_addresses(self) -> Self {
        Self { pins_addresses: false, ..self }
    }

    async fn engine(&self) -> Result<&Engine, RuntimeError> {
        self.engine.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Engine, RuntimeError> {
        let unusable = |message: String| RuntimeError::new("connect to", "docker", Cause::Unavailable, message);
        let endpoint = match self.surroundings.find(self.world.files.as_ref()) {
            Found::Here(endpoint) => endpoint,
            Found::Unusable(why) => return Err(unusable(why)),
            Found::Nothing => return Err(unusable("it is not installed any more".to_owned())),
        };
        let docker = match &endpoint {
            Endpoint::Socket(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION)
            }
            Endpoint::Tcp(address) => {
                Docker::connect_with_http(&format!("tcp://{address}"), ANSWER_SECONDS, API_DEFAULT_VERSION)
            }
        };
        let object = match &endpoint {
            Endpoint::Socket(path) => path.display().to_string(),
            Endpoint::Tcp(address) => address.clone(),
        };
        let failed = |error| failed("connect to", &object, error);
        let docker = docker.map_err(failed)?.negotiate_version().await.map_err(failed)?;
        let info = docker.info().await.map_err(failed)?;
        let clock = info.system_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        let ahead = clock.map(|clock| clock.duration_since(self.world.clock.now())).unwrap_or_default();
        let bridge = docker.inspect_network("bridge", None).await;
        let mtu = bridge.ok().and_then(|bridge| bridge.options?.remove(MTU));
        Ok(Engine { docker, peculiarities: Peculiarities::of(&info), mtu, ahead })
    }

    /// Networks of exactly this name: Docker may have several.
    async fn networks(&self, operation: &'static str, name: &str) -> Result<Vec<EngineNetwork>, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let filters = [("name", vec![name])].into_iter().collect();
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let mut found = docker.list_networks(Some(options)).await.map_err(|error| failed(operation, name, error))?;
        found.retain(|network| network.name.as_deref() == Some(name));
        Ok(found)
    }

    /// One of ours, whole. `None` where it went since it was listed.
    async fn inspect(&self, docker: &Docker, summary: ContainerSummary) -> Result<Option<Container>, RuntimeError> {
        let labels = summary.labels.clone().unwrap_or_default().into_iter().collect();
        if OwnerLabels::from_labels(&labels).is_none() {
            return Ok(Some(observed::foreign(summary)));
        }
        let id = summary.id.unwrap_or_default();
        match docker.inspect_container(&id, None).await {
            Ok(inspected) => Ok(Some(observed::container(inspected))),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(failed("inspect container", &id, error)),
        }
    }

    /// Directories of the volumes that a container is to have, on the engine's host.
    async fn directories(&self, spec: &ContainerSpec) -> Result<BTreeMap<String, String>, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let mut directories = BTreeMap::new();
        for mount in &spec.mounts {
            if !directories.contains_key(&mount.volume) {
                // The engine would make one that is missing, without labels.
                let volume = docker.inspect_volume(&mount.volume).await;
                let volume = volume.map_err(|error| failed("create container", &spec.name, error))?;
                directories.insert(mount.volume.clone(), volume.mountpoint);
            }
        }
        Ok(directories)
    }

    /// Those of `directories` that a container does not have.
    async fn missing(&self, docker: &Docker, id: &str, directories: Vec<String>) -> Result<Vec<String>, RuntimeError> {
        let mut missing: Vec<String> = Vec::new();
        for directory in directories {
            let is_below = missing.iter().any(|outer| directory.starts_with(&format!("{outer}/")));
            let options = bollard::query_parameters::ContainerArchiveInfoOptionsBuilder::new().path(&directory).build();
            let is_missing = is_below
                || match docker.get_container_archive_info(id, Some(options)).await {
                    Ok(_) => false,
                    Err(Error::DockerResponseServerError { status_code: 404, message })
                        if !is_no_container(&message) =>
                    {
                        true
                    }
                    Err(error) => return Err(failed("copy files into", id, error)),
                };
            if is_missing {
                missing.push(directory);
            }
        }
        Ok(missing)
    }
}

/// A 404 says that a path is missing, or a container.
fn is_no_container(message: &str) -> bool {
    message.to_lowercase().contains("no such container") || message.to_lowercase().contains("no container with")
}

/// What is as it is wished is no failure: 304 says so.
fn unless_so_already(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
        result => result,
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn capabilities(&self) -> Capabilities {
        let pins_addresses = self.pins_addresses;
        Capabilities {
            supports_events: true,
            pins_addresses,
            supports_ipv6: pins_addresses,
            networks: Networks::PerCluster,
            node_resources: None,
            ends_with_process: false,
            reads_stopped: true,
        }
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let version = docker.version().await.map_err(|error| failed("ask", "docker", error))?;
        let info = docker.info().await.map_err(|error| failed("ask", "docker", error))?;
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
        Ok(RuntimeInfo {
            version: version.version.unwrap_or_default(),
            architecture: info.architecture.unwrap_or_default(),
            cpus: count(info.ncpu),
            memory_bytes: count(info.mem_total),
        })
    }

    async fn list(&self) -> Result<Listing, RuntimeError> {
        let began = Instant::now();
        let docker = &self.engine().await?.docker;
        let failed = |error| failed("list", "docker", error);
        let everything = ListContainersOptionsBuilder::new().all(true).build();
        let summaries = docker.list_containers(Some(everything)).await.map_err(failed)?;
        let mut containers: Vec<Arc<Container>> = futures::stream::iter(summaries)
            .map(|summary| self.inspect(docker, summary))
            .buffered(INSPECTED_AT_ONCE)
            .try_filter_map(|container| async move { Ok(container.map(Arc::new)) })
            .try_collect()
            .await?;
        let networks = docker.list_networks(None).await.map_err(failed)?;
        let volumes =
            docker.list_volumes(None::<ListVolumesOptions>).await.map_err(failed)?.volumes.unwrap_or_default();
        let mut networks: Vec<_> = networks.into_iter().map(observed::network).map(Arc::new).collect();
        let mut volumes: Vec<_> = volumes.into_iter().map(observed::volume).map(Arc::new).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let routes = self.world.files.read(Path::new(ROUTES), ROUTES_BYTES_MAX).unwrap_or_default();
        let mut routes = observed::routes(&String::from_utf8_lossy(&routes));
        let ipv6 = self.world.files.read(Path::new(IPV6_ROUTES), ROUTES_BYTES_MAX).unwrap_or_default();
        routes.extend(observed::ipv6_routes(&String::from_utf8_lossy(&ipv6)));
        Ok(Listing { began, containers, networks, volumes, routes })
    }

    fn events(&self) -> BoxStream<'static, ()> {
        // One that has not answered yet has nothing to tell; whoever listens looks again.
        let Some(engine) = self.engine.get() else { return futures::stream::empty().boxed() };
        let kinds = vec!["container", "network", "volume"];
        let filters = [("type", kinds), ("event", EVENTS.to_vec())].into_iter().collect();
        // From now on, not from when the engine hears of it.
        let since = self.world.clock.now().saturating_add(engine.ahead - EVENTS_BEFORE).unwrap_or(Timestamp::MIN);
        let options = EventsOptionsBuilder::new().filters(&filters).since(&since.as_second().to_string()).build();
        let docker = engine.docker.clone();
        futures::stream::once(async move { docker.events(Some(options)) })
            .flatten()
            .take_while(|event| std::future::ready(event.is_ok()))
            .map(|_| ())
            .boxed()
    }

    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError> {
        let docker = &self.engine().await?.docker;
        match docker.inspect_image(image).await {
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                // Docker takes a name without a tag for all of its tags.
                let options = CreateImageOptionsBuilder::new().from_image(&image_name::full(image)).build();
                let mut pull = docker.create_image(Some(options), None, None);
                while let Some(progress) = pull.next().await {
                    let progress = progress.map_err(|error| failed_pull(image, error))?;
                    tracing::debug!(image, layer = progress.id, status = progress.status, "pulls");
                }
            }
            Err(error) => return Err(failed("look up image", image, error)),
            Ok(_) => {}
        }
        let seen = docker.inspect_image(image).await.map_err(|error| failed("look up image", image, error))?;
        let of_registry = seen.repo_digests.unwrap_or_default().into_iter().next();
        let digest = of_registry.and_then(|digest| Some(digest.split_once('@')?.1.to_owned()));
        // One that was built or loaded here has no manifest of a registry: it is known by its configuration.
        Ok(Image { name: image.to_owned(), digest: digest.or(seen.id).unwrap_or_default() })
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        match self.engine().await?.docker.inspect_image(image).await {
            Ok(seen) => Ok(seen.id),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(failed("look up image", image, error)),
        }
    }

    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        load::images(&self.engine().await?.docker, ids, images).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        const OPERATION: &str = "create network";
        let Engine { docker, mtu, .. } = self.engine().await?;
        let taken = || RuntimeError::new(OPERATION, &spec.name, Cause::AlreadyExists, "the name is taken");
        if !self.networks(OPERATION, &spec.name).await?.is_empty() {
            return Err(taken());
        }
        let request = create::network(spec, mtu.as_deref());
        let made = docker.create_network(request).await.map_err(|error| failed(OPERATION, &spec.name, error))?;
        // Older engines let two be made at once.
        if self.networks(OPERATION, &spec.name).await?.len() > 1 {
            docker.remove_network(&made.id).await.map_err(|error| failed(OPERATION, &spec.name, error))?;
            return Err(taken());
        }
        Ok(())
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        const OPERATION: &str = "remove network";
        let docker = &self.engine().await?.docker;
        let filters = [("network", vec![name])].into_iter().collect();
        let users = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let users = docker.list_containers(Some(users)).await.map_err(|error| failed(OPERATION, name, error))?;
        // The engine itself counts only those that run.
        if let Some(user) = users.first() {
            let user = user.names.as_deref().and_then(<[String]>::first).cloned().unwrap_or_default();
            let message = format!("the container {} is attached to it", user.trim_start_matches('/'));
            return Err(RuntimeError::new(OPERATION, name, Cause::InUse, message));
        }
        docker.remove_network(name).await.map_err(|error| failed(OPERATION, name, error))
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError> {
        const OPERATION: &str = "create volume";
        let docker = &self.engine().await?.docker;
        let taken = || RuntimeError::new(OPERATION, &spec.name, Cause::AlreadyExists, "the name is taken");
        // The engine answers with the one that is there.
        match docker.inspect_volume(&spec.name).await {
            Ok(_) => return Err(taken()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed(OPERATION, &spec.name, error)),
        }
        let made =
            docker.create_volume(create::volume(spec)).await.map_err(|error| failed(OPERATION, &spec.name, error))?;
        let labels: BTreeMap<String, String> = made.labels.into_iter().collect();
        if labels == spec.labels { Ok(()) } else { Err(taken()) }
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        let docker = &self.engine().await?.docker;
        docker
            .remove_volume(name, None::<RemoveVolumeOptions>)
            .await
            .map_err(|error| failed("remove volume", name, error))
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        const OPERATION: &str = "create container";
        let Engine { docker, peculiarities, .. } = self.engine().await?;
        // The engine would notice only when it starts.
        if self.networks(OPERATION, &spec.network).await?.is_empty() {
            let message = format!("there is no network {}", spec.network);
            return Err(RuntimeError::new(OPERATION, &spec.name, Cause::NotFound, message));
        }
        let directories = self.directories(spec).await?;
        let options = CreateContainerOptionsBuilder::new().name(&spec.name).build();
        let spec = &ContainerSpec { address: spec.address.filter(|_| self.pins_addresses), ..spec.clone() };
        let body = create::container(spec, &directories, *peculiarities);
        let made = docker.create_container(Some(options), body).await;
        made.map(|made| ContainerId(made.id)).map_err(|error| failed(OPERATION, &spec.name, error))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        const OPERATION: &str = "start container";
        let docker = &self.engine().await?.docker;
        let started = match docker.start_container(&id.0, None).await {
            Err(Error::DockerResponseServerError { message, .. }) if message.contains("paused") => {
                docker.unpause_container(&id.0).await
            }
            started => started,
        };
        unless_so_already(started).map_err(|error| failed(OPERATION, &id.0, error))
    }

    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let docker = &self.engine().await?.docker;
        let options = StopContainerOptionsBuilder::new().t(GRACE_SECONDS).build();
        let stopped = docker.stop_container(&id.0, Some(options)).await;
        unless_so_already(stopped).map_err(|error| failed("stop container", &id.0, error))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let docker = &self.engine().await?.docker;
        // With the volumes that have no name.
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        docker.remove_container(&id.0, Some(options)).await.map_err(|error| failed("remove container", &id.0, error))
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let docker = &self.engine().await?.docker;
        match tokio::time::timeout(request.timeout, exec::run(docker, &id.0, request)).await {
            Ok(result) => result.map_err(|error| failed("run a command in", &id.0, error)),
            Err(_) => {
                let message = format!("{} did not end within {} s", exec::title(request), request.timeout.as_secs());
                Err(RuntimeError::new("run a command in", &id.0, Cause::Timeout, message))
            }
        }
    }

    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError> {
        const OPERATION: &str = "copy files into";
        let docker = &self.engine().await?.docker;
        // The engine would make them for everybody to write into.
        let missing = self.missing(docker, &id.0, archive::parents(files)).await?;
        let seen = docker.inspect_container(&id.0, None).await.map_err(|error| failed(OPERATION, &id.0, error))?;
        let mounts: Vec<String> =
            seen.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.destination).collect();
        let mut places: BTreeMap<&str, (Vec<NodeFile>, Vec<String>)> = BTreeMap::new();
        for file in files {
            let place = archive::mount_of(&file.path, &mounts);
            let path = archive::below(&file.path, place).to_owned();
            places.entry(place).or_default().0.push(NodeFile { path, ..file.clone() });
        }
        for directory in &missing {
            let place = archive::mount_of(directory, &mounts);
            places.entry(place).or_default().1.push(archive::below(directory, place).to_owned());
        }
        for (place, (files, directories)) in places {
            let packed = archive::pack(&files, &directories)
                .map_err(|error| RuntimeError::new(OPERATION, &id.0, Cause::Invalid, error.to_string()))?;
            let options = UploadToContainerOptionsBuilder::new().path(place).build();
            let copied = docker.upload_to_container(&id.0, Some(options), body_full(packed.into())).await;
            copied.map_err(|error| failed(OPERATION, &id.0, error))?;
        }
        Ok(())
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        const OPERATION: &str = "read a file of";
        let docker = &self.engine().await?.docker;
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut download = Box::pin(docker.download_from_container(&id.0, Some(options)));
        let mut packed = Vec::new();
        while let Some(part) = download.next().await {
            match part {
                Ok(part) => packed.extend_from_slice(&part),
                Err(Error::DockerResponseServerError { status_code: 404, message }) if !is_no_container(&message) => {
                    return Ok(None);
                }
                Err(error) => return Err(failed(OPERATION, &id.0, error)),
            }
            // A directory may be of any size, and is none that is asked for.
            if packed.len() > FILE_BYTES_MAX + ARCHIVE_BYTES_MORE {
                break;
            }
        }
        archive::unpack(&packed, FILE_BYTES_MAX as u64)
            .map_err(|error| RuntimeError::new(OPERATION, &id.0, Cause::Unknown, format!("{path}: {error}")))
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut log = Box::pin(docker.logs(&id.0, Some(options)));
        let mut text = Vec::new();
        while let Some(part) = log.next().await {
            text.extend_from_slice(part.map_err(|error| failed("read the log of", &id.0, error))?.as_ref());
            if text.len() > LOG_BYTES_MAX {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        Arc::new(connector::Connector)
    }
}
