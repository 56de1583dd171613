//! Apple Container, through its `container` command. What there is to decide is decided by pure functions: `create` what is
//! asked of it, `documents` and `observed` what it shows, `failure` what a refusal means, `inside` what runs in containers on
//! Kina's behalf. `process` alone starts anything.
//!
//! Nothing of this was ever run on a Mac: `docs/apple-container.md` lists what it rests on.

mod calls;
mod create;
mod documents;
mod examine;
mod failure;
pub mod inside;
mod load;
pub mod mac;
mod observed;
pub mod process;
pub mod size;
#[cfg(test)]
mod tests;
pub mod version;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use self::calls::{CHANGE, CommandLine, DOCUMENT_BYTES_MAX, PULL, QUESTION};
use self::create::{ARCHITECTURE, PLATFORM};
use self::documents::{ContainerDocument, Doing, ImageDocument};
pub use self::examine::{Examination, Service};
pub use self::failure::START_SERVICE;
use self::failure::{failed, failed_pull, is_no_program, is_of_command, unreadable};
use self::inside::READY;
use self::mac::{Mac, NETWORKS_SINCE};
use self::process::{Call, Commands, Input, Program};
pub use self::size::HostSize;
use super::{
    Capabilities, Cause, ClusterConnector, Container, ContainerId, ContainerSpec, ExecOutput, ExecRequest, Image,
    Listing, Network, NetworkSpec, NodeFile, OwnerLabels, Runtime, RuntimeError, RuntimeInfo, VolumeSpec, archive,
    connector, image_name,
};
use crate::api::cluster::NodeNetwork;
use crate::world::World;

/// The command.
const PROGRAM: &str = "container";
/// What a service says of itself that runs.
const RUNNING: &str = "running";
/// Between the request to end and the force: a control plane writes down what it knows.
const GRACE_SECONDS: &str = "30";
/// A container that was started is in its place after milliseconds, unless its image is slow to unpack files.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The first that a container does when it starts is to take back that everything is in its place.
const SAME_WITHIN: Duration = Duration::from_secs(3);
/// An identifier.
const MARK_BYTES_MAX: u64 = 1 << 10;
/// How often that is looked at on the host, and how often the container itself.
const READY_LOOK: Duration = Duration::from_millis(20);
const ALIVE_LOOK: u32 = 50;
/// Of a file that is read, and of each stream of a command.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Of a program that is not there, as shells tell it.
const NO_PROGRAM: i32 = 127;
/// What is written for containers is nobody else's to read.
const STAGE_MODE: u32 = 0o700;
const STAGED_MODE: u32 = 0o600;

/// Apple Container on this Mac, or what speaks as it does.
#[derive(Debug)]
pub struct AppleRuntime {
    command: CommandLine,
    world: World,
    /// Directory of the host with one directory a container, for what is written while it does not run.
    stages: PathBuf,
    /// The Mac below it, where it is known to be one.
    mac: Option<Mac>,
    size: HostSize,
}

impl AppleRuntime {
    /// The command in one of these directories. `None` where there is none. `stages` is a directory of Kina's own.
    #[must_use]
    pub fn installed(directories: &[PathBuf], stages: PathBuf, world: World) -> Option<Self> {
        let program = Self::program(directories, &world)?;
        Some(Self::with(Arc::new(Program(program)), stages, world))
    }

    /// Where the command is, if it is in one of these directories.
    #[must_use]
    pub fn program(directories: &[PathBuf], world: &World) -> Option<PathBuf> {
        process::find(PROGRAM, directories, world.files.as_ref())
    }

    fn with(commands: Arc<dyn Commands>, stages: PathBuf, world: World) -> Self {
        Self { command: CommandLine::new(commands), world, stages, mac: None, size: HostSize::default() }
    }

    /// On this host: what a node has, and whether clusters can have networks, follows from it.
    #[must_use]
    pub fn on(self, mac: Option<Mac>, size: HostSize) -> Self {
        Self { mac, size, ..self }
    }

    /// All containers.
    async fn containers(&self, operation: &'static str) -> Result<Vec<(ContainerDocument, Doing)>, RuntimeError> {
        let text = self.command.document(operation, &["list", "--all", "--format", "json"]).await?;
        documents::containers(&text).map_err(|error| unreadable(operation, "apple", &error))
    }

    async fn networks(&self, operation: &'static str) -> Result<Vec<Network>, RuntimeError> {
        // Where none can be made, the command does not list them either: it has no word for networks.
        if !self.makes_networks() {
            return Ok(vec![observed::builtin_network()]);
        }
        let text = self.command.document(operation, &["network", "list", "--format", "json"]).await?;
        let all = documents::networks(&text).map_err(|error| unreadable(operation, "apple", &error))?;
        Ok(all.into_iter().map(observed::network).collect())
    }

    fn makes_networks(&self) -> bool {
        mac::networks(self.mac.as_ref()).have(NodeNetwork::Cluster)
    }

    async fn volumes(&self, operation: &'static str) -> Result<Vec<documents::VolumeDocument>, RuntimeError> {
        let text = self.command.document(operation, &["volume", "list", "--format", "json"]).await?;
        documents::volumes(&text).map_err(|error| unreadable(operation, "apple", &error))
    }

    /// One container.
    async fn find(&self, operation: &'static str, id: &str) -> Result<(ContainerDocument, Doing), RuntimeError> {
        let all = self.containers(operation).await?;
        let found = all.into_iter().find(|(document, _)| document.id == id);
        found.ok_or_else(|| RuntimeError::new(operation, id, Cause::NotFound, "there is no such container"))
    }

    /// One that a Kina made. Containers have no ids here: one of somebody else may have taken the name since it was listed.
    async fn own(&self, operation: &'static str, id: &str) -> Result<(ContainerDocument, Doing), RuntimeError> {
        let found = self.find(operation, id).await?;
        match OwnerLabels::from_labels(&found.0.configuration.labels) {
            Some(_) => Ok(found),
            None => {
                let message = "there is another container of that name, which no Kina made";
                Err(RuntimeError::new(operation, id, Cause::NotFound, message))
            }
        }
    }

    /// An image that is here, for the machines that Apple makes. `None` where it is here for others only.
    async fn image(&self, operation: &'static str, image: &str) -> Result<Option<ImageDocument>, RuntimeError> {
        let name = image_name::full(image);
        let result = self.command.ask(&["image", "inspect", &name], QUESTION, DOCUMENT_BYTES_MAX).await?;
        match result {
            Ok(output) if output.code == 0 => {
                documents::image(&output.stdout, ARCHITECTURE).map_err(|error| unreadable(operation, image, &error))
            }
            result => Err(failed(operation, image, &result)),
        }
    }

    /// Where this Kina stages what is written for a container. Names of containers have no separators.
    fn own_stage(&self, name: &str) -> Option<PathBuf> {
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        is_name.then(|| self.stages.join(name))
    }

    /// Where a container looks for what is staged: it may be another Kina's that was adopted.
    fn stage_of(document: &ContainerDocument) -> Option<PathBuf> {
        observed::stage(&document.configuration).map(PathBuf::from)
    }

    fn forget_stage(&self, name: &str) {
        let Some(stage) = self.own_stage(name) else { return };
        if self.world.files.metadata(&stage).is_ok()
            && let Err(error) = self.world.files.remove_directory(&stage)
        {
            tracing::warn!(path = %stage.display(), %error, "what was staged for a container could not be removed");
        }
    }

    /// What a container wrote when it last had everything in its place.
    fn mark(&self, stage: Option<&Path>) -> Option<Vec<u8>> {
        self.world.files.read(&stage?.join(READY), MARK_BYTES_MAX).ok()
    }

    /// Waits until a container that runs has everything in its place, and says so otherwise than `before`. One that goes on
    /// saying the same ran already, whatever the list says.
    async fn ready(
        &self,
        operation: &'static str,
        id: &str,
        stage: Option<&Path>,
        before: Option<Vec<u8>>,
    ) -> Result<(), RuntimeError> {
        if stage.is_none() {
            return Ok(());
        }
        let began = Instant::now();
        for look in 1_u32.. {
            let now = self.mark(stage);
            if now.is_some() && (now != before || began.elapsed() >= SAME_WITHIN) {
                return Ok(());
            }
            if began.elapsed() >= READY_WITHIN {
                break;
            }
            tokio::time::sleep(READY_LOOK).await;
            if look % ALIVE_LOOK == 0 && self.find(operation, id).await?.1.state != "running" {
                let message = format!("its first process ended at once: `container logs {id}` may say why");
                return Err(RuntimeError::new(operation, id, Cause::NotRunning, message));
            }
        }
        let message = format!("it did not come to its first process within {} s", READY_WITHIN.as_secs());
        Err(RuntimeError::new(operation, id, Cause::Timeout, message))
    }

    /// Writes files for a container that does not run: it takes them when it starts.
    fn stage(&self, operation: &'static str, id: &str, stage: &Path, packed: &[u8]) -> Result<(), RuntimeError> {
        let files = self.world.files.as_ref();
        let unusable = |error: std::io::Error| {
            RuntimeError::new(operation, id, Cause::Unknown, format!("{}: {error}", stage.display()))
        };
        files.create_directories(stage, STAGE_MODE).map_err(unusable)?;
        let names = files.list(stage).map_err(unusable)?;
        let last = names.iter().filter_map(|name| name.strip_suffix(".tar")?.parse::<u32>().ok()).max();
        let name = format!("{:06}.tar", last.unwrap_or_default() + 1);
        files.write(&stage.join(name), packed, STAGED_MODE).map_err(unusable)
    }

    /// Runs a command in a container. A program that is not there is one that failed.
    async fn run_inside(
        &self,
        operation: &'static str,
        id: &str,
        command: &[String],
        input: Input,
        within: Duration,
        bytes_max: usize,
    ) -> Result<ExecOutput, RuntimeError> {
        let mut arguments = vec!["exec".to_owned()];
        if input != Input::Nothing {
            arguments.push("-i".to_owned());
        }
        arguments.push(id.to_owned());
        arguments.extend_from_slice(command);
        let result = self.command.run(Call { arguments, input, within, bytes_max }).await?;
        match result {
            Ok(output) if is_of_command(id, &output) => Err(failed(operation, id, &Ok(output))),
            Ok(output) => {
                let code = if is_no_program(id, &output) { NO_PROGRAM } else { output.code };
                Ok(ExecOutput { code, stdout: output.stdout, stderr: output.stderr })
            }
            result => Err(failed(operation, id, &result)),
        }
    }
}

#[async_trait]
impl Runtime for AppleRuntime {
    fn name(&self) -> &'static str {
        "apple"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            supports_events: false,
            pins_addresses: false,
            supports_ipv6: false,
            networks: mac::networks(self.mac.as_ref()),
            node_resources: Some(size::of_node(self.size)),
            ends_with_process: false,
            reads_stopped: false,
        }
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        let version = self.command.version().await?;
        let service = self.service().await?;
        if !service.runs() {
            let message = format!("its service is {}: start it with `{START_SERVICE}`", service.status);
            return Err(RuntimeError::new("ask", "apple", Cause::Unavailable, message));
        }
        // Every container is a machine of its own: what it sees are its own limits.
        let architecture = "aarch64".to_owned();
        Ok(RuntimeInfo { version: version.to_string(), architecture, cpus: 0, memory_bytes: 0 })
    }

    async fn list(&self) -> Result<Listing, RuntimeError> {
        const OPERATION: &str = "list";
        let began = Instant::now();
        self.command.version().await?;
        let (containers, networks, volumes) =
            tokio::try_join!(self.containers(OPERATION), self.networks(OPERATION), self.volumes(OPERATION))?;
        // Their order is another one every time.
        let mut containers: Vec<Arc<Container>> =
            containers.into_iter().map(|(document, doing)| Arc::new(observed::container(document, &doing))).collect();
        let mut networks: Vec<_> = networks.into_iter().map(Arc::new).collect();
        let mut volumes: Vec<_> = volumes.into_iter().map(observed::volume).map(Arc::new).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { began, containers, networks, volumes, routes: Vec::new() })
    }

    fn events(&self) -> BoxStream<'static, ()> {
        futures::stream::empty().boxed()
    }

    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError> {
        const OPERATION: &str = "look up image";
        let here = match self.image(OPERATION, image).await {
            Err(error) if error.cause == Cause::NotFound => None,
            here => here?,
        };
        let here = match here {
            Some(here) => here,
            None => {
                // Without a platform it takes all of them.
                let name = image_name::full(image);
                let pull = ["image", "pull", "--platform", PLATFORM, "--progress", "none", &name];
                match self.command.ask(&pull, PULL, FILE_BYTES_MAX).await? {
                    Ok(output) if output.code == 0 => {}
                    result => return Err(failed_pull(image, &result)),
                }
                self.image(OPERATION, image).await?.ok_or_else(|| {
                    let message = format!("there is none for {PLATFORM}");
                    RuntimeError::new(OPERATION, image, Cause::Invalid, message)
                })?
            }
        };
        Ok(Image { name: image.to_owned(), digest: here.digest })
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        match self.image("look up image", image).await {
            Ok(here) => Ok(here.and_then(|here| here.manifest)),
            Err(error) if error.cause == Cause::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        self.load(ids, images).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        const OPERATION: &str = "create network";
        let refused = |why| RuntimeError::new(OPERATION, &spec.name, Cause::Invalid, why);
        if !self.makes_networks() {
            return Err(refused(format!("Apple Container makes networks since macOS {NETWORKS_SINCE}")));
        }
        let arguments = create::network(spec).map_err(refused)?;
        self.command.turn().await.change(OPERATION, &spec.name, arguments, CHANGE).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        let arguments = ["network", "delete", name].map(str::to_owned).to_vec();
        self.command.turn().await.change("remove network", name, arguments, CHANGE).await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError> {
        const OPERATION: &str = "create volume";
        let refused = |why| RuntimeError::new(OPERATION, &spec.name, Cause::Invalid, why);
        let arguments = create::volume(spec).map_err(refused)?;
        self.command.turn().await.change(OPERATION, &spec.name, arguments, CHANGE).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        const OPERATION: &str = "remove volume";
        let turn = self.command.turn().await;
        let volumes = self.volumes(OPERATION).await?;
        if !volumes.iter().any(|volume| volume.name == name) {
            return Err(RuntimeError::new(OPERATION, name, Cause::NotFound, "there is no such volume"));
        }
        // Whether the service refuses one that only a stopped container has is nowhere said.
        let containers = self.containers(OPERATION).await?;
        let has = |document: &ContainerDocument| {
            document.configuration.mounts.iter().any(|mount| mount.volume() == Some(name))
        };
        if let Some((user, _)) = containers.iter().find(|(document, _)| has(document)) {
            let message = format!("the container {} has it", user.id);
            return Err(RuntimeError::new(OPERATION, name, Cause::InUse, message));
        }
        let arguments = ["volume", "delete", name].map(str::to_owned).to_vec();
        turn.change(OPERATION, name, arguments, CHANGE).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        const OPERATION: &str = "create container";
        let refused = |cause, why: String| Err(RuntimeError::new(OPERATION, &spec.name, cause, why));
        let version = self.command.version().await?;
        // It would be pulled, for minutes and for every platform.
        let Some(image) = self.image(OPERATION, &spec.image).await? else {
            return refused(Cause::NotFound, format!("the image {} is not here for {PLATFORM}", spec.image));
        };
        let Some(stage) = self.own_stage(&spec.name) else {
            return refused(Cause::Invalid, "that is no name of a container".to_owned());
        };
        let arguments = match create::container(spec, &image.command, version, &stage) {
            Ok(arguments) => arguments,
            Err(why) => return refused(Cause::Invalid, why),
        };
        let turn = self.command.turn().await;
        if self.containers(OPERATION).await?.iter().any(|(document, _)| document.id == spec.name) {
            return refused(Cause::AlreadyExists, "the name is taken".to_owned());
        }
        // One that is missing would be made, without labels.
        let volumes = if spec.mounts.is_empty() { Vec::new() } else { self.volumes(OPERATION).await? };
        let is_here = |name: &str| volumes.iter().any(|volume| volume.name == name);
        if let Some(missing) = spec.mounts.iter().find(|mount| !is_here(&mount.volume)) {
            return refused(Cause::NotFound, format!("there is no volume {}", missing.volume));
        }
        self.forget_stage(&spec.name);
        if let Err(error) = self.world.files.create_directories(&stage, STAGE_MODE) {
            return refused(Cause::Unknown, format!("{}: {error}", stage.display()));
        }
        let made = turn.change(OPERATION, &spec.name, arguments, CHANGE).await;
        if matches!(&made, Err(error) if matches!(error.cause, Cause::NotFound | Cause::Conflict | Cause::Invalid)) {
            self.forget_stage(&spec.name);
        }
        made.map(|()| ContainerId(spec.name.clone()))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        const OPERATION: &str = "start container";
        let turn = self.command.turn().await;
        let (document, doing) = self.own(OPERATION, &id.0).await?;
        let stage = Self::stage_of(&document);
        let mut before = None;
        if doing.state != "running" {
            before = self.mark(stage.as_deref());
            if let Some(stage) = &stage {
                // Without it the container does not start: a home that was restored has it no more.
                let made = self.world.files.create_directories(stage, STAGE_MODE);
                made.map_err(|error| {
                    RuntimeError::new(OPERATION, &id.0, Cause::Unknown, format!("{}: {error}", stage.display()))
                })?;
            }
            turn.change(OPERATION, &id.0, ["start", &id.0].map(str::to_owned).to_vec(), CHANGE).await?;
        }
        drop(turn);
        self.ready(OPERATION, &id.0, stage.as_deref(), before).await
    }

    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        const OPERATION: &str = "stop container";
        let arguments = ["stop", "-t", GRACE_SECONDS, &id.0].map(str::to_owned).to_vec();
        let turn = self.command.turn().await;
        self.own(OPERATION, &id.0).await?;
        turn.change(OPERATION, &id.0, arguments, CHANGE).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        const OPERATION: &str = "remove container";
        let arguments = ["delete", "-f", &id.0].map(str::to_owned).to_vec();
        let turn = self.command.turn().await;
        let removed = match self.own(OPERATION, &id.0).await {
            Ok(_) => turn.change(OPERATION, &id.0, arguments, CHANGE).await,
            Err(error) => Err(error),
        };
        if removed.as_ref().err().is_none_or(|error| error.cause == Cause::NotFound) {
            self.forget_stage(&id.0);
        }
        removed
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        const OPERATION: &str = "run a command in";
        let input = request.stdin.clone().map_or(Input::Nothing, Input::Bytes);
        let ran = self.run_inside(OPERATION, &id.0, &request.command, input, request.timeout, FILE_BYTES_MAX);
        ran.await.map_err(|error| match error.cause {
            Cause::Timeout => {
                let title: Vec<&str> = request.command.iter().take(2).map(String::as_str).collect();
                let message = format!("{} did not end within {} s", title.join(" "), request.timeout.as_secs());
                RuntimeError { message, ..error }
            }
            _ => error,
        })
    }

    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError> {
        const OPERATION: &str = "copy files into";
        let (document, doing) = self.find(OPERATION, &id.0).await?;
        let packed = archive::pack(files, &[])
            .map_err(|error| RuntimeError::new(OPERATION, &id.0, Cause::Invalid, error.to_string()))?;
        let stage = Self::stage_of(&document);
        if doing.state != "running" {
            return match stage {
                Some(stage) => self.stage(OPERATION, &id.0, &stage, &packed),
                None => Err(RuntimeError::new(OPERATION, &id.0, Cause::NotRunning, "it does not run")),
            };
        }
        self.ready(OPERATION, &id.0, stage.as_deref(), None).await?;
        let unpack = inside::unpack();
        let output = self.run_inside(OPERATION, &id.0, &unpack, Input::Bytes(packed), CHANGE, FILE_BYTES_MAX).await?;
        if output.code == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let full = said.to_lowercase().contains("no space left on device");
        let cause = if full { Cause::Exhausted } else { Cause::Unknown };
        Err(RuntimeError::new(OPERATION, &id.0, cause, format!("tar ended with {}: {said}", output.code)))
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        const OPERATION: &str = "read a file of";
        let read = inside::read(path, FILE_BYTES_MAX);
        let output = self.run_inside(OPERATION, &id.0, &read, Input::Nothing, QUESTION, FILE_BYTES_MAX).await?;
        match output.code {
            0 => Ok(Some(output.stdout)),
            inside::NO_FILE => Ok(None),
            code => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                let message = format!("{path}: reading ended with {code}: {said}");
                Err(RuntimeError::new(OPERATION, &id.0, Cause::Unknown, message))
            }
        }
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        let lines = lines.to_string();
        match self.command.ask(&["logs", "-n", &lines, &id.0], QUESTION, FILE_BYTES_MAX).await? {
            Ok(output) if output.code == 0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            result => Err(failed("read the log of", &id.0, &result)),
        }
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        Arc::new(connector::Connector)
    }
}
