//! Container runtimes behind one trait.
//!
//! A runtime knows containers, networks, volumes and images; it never reads a Cluster. What it can and cannot do is
//! data ([`Capabilities`]), not an `if` on its name. All implementations pass the same contract suite.

pub mod apple;
mod archive;
mod bounded;
pub mod connect;
mod connector;
#[cfg(test)]
pub(crate) mod contract;
pub mod docker;
mod error;
pub mod image_name;
mod import;
mod labels;
mod metered;
pub mod sim;
mod spec;
pub mod workshop;

use std::fmt::Debug;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use bounded::{Bounded, bounded_client, watches};
pub use connect::{ClusterAccess, ClusterConnector, ConnectError};
pub use error::{Cause, RuntimeError};
pub use labels::{InstallationId, Labels, NodeLabels, OwnerLabels, Role};
pub use metered::Metered;
pub use spec::{
    Capabilities, Container, ContainerId, ContainerSpec, ContainerState, ExecOutput, ExecRequest, Image, Listing,
    Mount, Network, NetworkSpec, Networks, NodeFile, Privileges, PublishedPort, Resources, RuntimeInfo, Volume,
    VolumeSpec,
};

/// One container runtime of this host.
///
/// Every operation is idempotent where its documentation says so, bounded by a timeout of its own, and answers with the
/// cause of a failure by type. None retries: retries belong to whoever knows what the operation is for.
#[async_trait]
pub trait Runtime: Send + Sync + Debug {
    /// The name used in manifests: `sim`, `docker`, `apple`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Version and state of the runtime itself.
    ///
    /// # Errors
    /// [`Cause::Unavailable`] when it does not answer.
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError>;

    /// Everything there is: containers, networks and volumes, also those that are not Kina's. A listing that could not
    /// be completed is an error, never a shorter listing.
    ///
    /// # Errors
    /// [`Cause::Unavailable`] or [`Cause::Timeout`].
    async fn list(&self) -> Result<Listing, RuntimeError>;

    /// A stream that yields whenever something changed, if [`Capabilities::supports_events`]. It carries no content:
    /// whoever receives it lists again. It ends when the runtime goes away.
    fn events(&self) -> BoxStream<'static, ()>;

    /// Makes an image present and tells its digest. Idempotent. May take minutes: call it from a named operation.
    ///
    /// # Errors
    /// [`Cause::ImagePull`] for a passing failure, [`Cause::Invalid`] where there is no such image.
    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError>;

    /// The id of an image of the host, as containerd tells ids to Kubernetes: the digest of its configuration, or, from an
    /// engine that does not know that one, of its manifest. `None` where the host has no such image: it is not pulled.
    ///
    /// # Errors
    /// [`Cause::Invalid`] from a runtime that cannot tell yet.
    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        let message = format!("the runtime {} cannot look up images of the host yet", self.name());
        Err(RuntimeError::new("look up image", image, Cause::Invalid, message))
    }

    /// Loads images of the host into the nodes in running containers, where their containerd keeps those of Kubernetes: read
    /// once, and handed to all of them at once. One that is there already is replaced. Tells which nodes did not take them,
    /// and why. May take minutes: call it from a named operation.
    ///
    /// # Errors
    /// Where the images cannot be read: [`Cause::NotFound`] for one that is not there, since it is not pulled;
    /// [`Cause::Invalid`] from a runtime that cannot do it yet.
    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        let _ = ids;
        let message = format!("the runtime {} cannot load images of the host yet", self.name());
        Err(RuntimeError::new("load images", images.join(" "), Cause::Invalid, message))
    }

    /// Creates a network.
    ///
    /// # Errors
    /// [`Cause::AlreadyExists`] where the name is taken, by whomever; [`Cause::Conflict`] where the subnet is.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError>;

    /// Removes a network.
    ///
    /// # Errors
    /// [`Cause::NotFound`], or [`Cause::InUse`] while containers are attached.
    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError>;

    /// Creates a volume.
    ///
    /// # Errors
    /// [`Cause::AlreadyExists`].
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError>;

    /// Removes a volume with its data.
    ///
    /// # Errors
    /// [`Cause::NotFound`], or [`Cause::InUse`] while a container has it.
    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError>;

    /// Creates a container, not started, with its labels in the same call.
    ///
    /// # Errors
    /// [`Cause::AlreadyExists`] where the name is taken; [`Cause::NotFound`] for a missing image, network or volume;
    /// [`Cause::Conflict`] for a taken address or host port.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError>;

    /// Starts a container; one that runs stays as it is.
    ///
    /// # Errors
    /// [`Cause::NotFound`]; [`Cause::Conflict`] for a host port that is taken.
    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Stops a container, forcibly after the runtime's grace period; one that is stopped stays as it is.
    ///
    /// # Errors
    /// [`Cause::NotFound`].
    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Removes a container, running or not. Its named volumes stay.
    ///
    /// # Errors
    /// [`Cause::NotFound`].
    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Runs a command in a running container and waits for its end (bounded by [`ExecRequest::timeout`]).
    ///
    /// # Errors
    /// [`Cause::NotFound`], [`Cause::NotRunning`], [`Cause::Timeout`]. A command that ran and failed is no error.
    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError>;

    /// Writes files into a container, started or not, replacing those there. All or, after a failure, some are written.
    ///
    /// # Errors
    /// [`Cause::NotFound`].
    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError>;

    /// Reads one regular file of at most 1 MiB from a container.
    ///
    /// # Errors
    /// [`Cause::NotFound`] for the container; `Ok(None)` where there is no such file. [`Cause::NotRunning`] from a runtime that
    /// reads none of a stopped one ([`Capabilities::reads_stopped`]).
    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError>;

    /// The last `lines` lines that the container's first process wrote.
    ///
    /// # Errors
    /// [`Cause::NotFound`].
    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError>;

    /// How clients reach the API servers that run in this runtime's containers.
    fn connector(&self) -> std::sync::Arc<dyn ClusterConnector>;
}
