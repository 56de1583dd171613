//! Making images: a container of one image, in which something is done, and what comes of it as another image.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::{ExecOutput, ExecRequest, Labels, RuntimeError, RuntimeInfo};

/// An image that another one is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Its id.
    pub id: String,
    /// Of its programs, as images tell it: `amd64`.
    pub architecture: String,
    /// What its containers run.
    pub entrypoint: Vec<String>,
    /// Arguments of that.
    pub command: Vec<String>,
    /// Directories that are volumes in every container: what is written there comes into no image.
    pub volumes: Vec<String>,
}

/// A container to work in. It may do what unpacking images takes, and goes by itself after its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchSpec {
    /// Name.
    pub name: String,
    /// Of which image, by id.
    pub image: String,
    /// Operating system and architecture, where it is not the host's own: `linux/arm64`.
    pub platform: Option<String>,
    /// By which it is known while it is there.
    pub labels: Labels,
    /// A directory that lies on a volume of its own, and so comes into no image.
    pub scratch: String,
    /// It ends after this long, whoever forgets it.
    pub lifetime: Duration,
}

/// What an image is to be that is made of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
    /// Repository.
    pub repository: String,
    /// Tag: whatever had it before loses it.
    pub tag: String,
    /// What its containers run.
    pub entrypoint: Vec<String>,
    /// Arguments of that.
    pub command: Vec<String>,
    /// Labels besides those of its base: they stand for those of the container.
    pub labels: Labels,
}

/// Hears how far a pull is: bytes, and of how many.
pub type Pulled<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// A runtime in which images can be made.
#[async_trait]
pub trait Workshop: Send + Sync + Debug {
    /// Version and architecture.
    ///
    /// # Errors
    /// [`super::Cause::Unavailable`] when it does not answer.
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError>;

    /// An image for this platform (`linux/amd64`), pulled where it is not there for it.
    ///
    /// # Errors
    /// [`super::Cause::ImagePull`] for a passing failure, [`super::Cause::Invalid`] where there is no such image.
    async fn base(&self, image: &str, platform: &str, pulled: Pulled<'_>) -> Result<BaseImage, RuntimeError>;

    /// Makes a container and starts it.
    ///
    /// # Errors
    /// Where it cannot be. It may be there, all the same.
    async fn open(&self, spec: &BenchSpec) -> Result<(), RuntimeError>;

    /// Runs a command in it to its end.
    ///
    /// # Errors
    /// [`super::Cause::Timeout`], or where it cannot be run. A command that ran and failed is no error.
    async fn run(&self, bench: &str, request: &ExecRequest) -> Result<ExecOutput, RuntimeError>;

    /// Runs a command in it to its end, with a stream for its standard input.
    ///
    /// # Errors
    /// As [`Workshop::run`].
    async fn feed(
        &self,
        bench: &str,
        command: &[String],
        input: BoxStream<'static, Bytes>,
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError>;

    /// Starts a command in it that goes on.
    ///
    /// # Errors
    /// Where it cannot be run.
    async fn launch(&self, bench: &str, command: &[String]) -> Result<(), RuntimeError>;

    /// Makes an image of it as it is, and tells its id.
    ///
    /// # Errors
    /// Where it cannot be made.
    async fn commit(&self, bench: &str, spec: &ImageSpec) -> Result<String, RuntimeError>;

    /// Removes it, with its volume. One that is not there is no error.
    ///
    /// # Errors
    /// Where it may be there still.
    async fn close(&self, bench: &str) -> Result<(), RuntimeError>;
}
