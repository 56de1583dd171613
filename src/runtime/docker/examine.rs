//! A look at the engine, for people: `kina doctor`. Nothing is changed.

use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum as Cgroups, SystemVersion};

use super::DockerRuntime;
use super::create::Peculiarities;
use super::endpoint::{Endpoint, Found};
use super::failure::failed;
use crate::runtime::{Cause, Listing, Runtime, RuntimeError};

/// An engine that works answers within milliseconds.
const ANSWER: Duration = Duration::from_secs(12);

/// What the look showed. What comes after a failure was not looked at.
#[derive(Debug)]
pub struct Examination {
    /// Where the engine is: socket or address.
    pub place: Option<String>,
    /// What it says of itself.
    pub engine: Result<EngineFacts, RuntimeError>,
    /// Everything there is.
    pub listing: Option<Result<Listing, RuntimeError>>,
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// `Docker` or `Podman`.
    pub name: &'static str,
    /// Version.
    pub version: String,
    /// Of its API.
    pub api_version: String,
    /// The system that it runs on.
    pub operating_system: String,
    /// Release of the kernel that containers have.
    pub kernel: String,
    /// 1 or 2; `None` where it does not say.
    pub cgroup_version: Option<u8>,
    /// It runs without root.
    pub rootless: bool,
    /// What stacks images.
    pub storage: String,
    /// Where it keeps everything, on the host that it runs on.
    pub root: Option<PathBuf>,
    /// CPUs that containers see.
    pub cpus: Option<u64>,
    /// Bytes of memory that containers see.
    pub memory_bytes: Option<u64>,
}

impl EngineFacts {
    fn of(version: SystemVersion, info: SystemInfo) -> Self {
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.starts_with("Podman"));
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
        Self {
            name: if is_podman { "Podman" } else { "Docker" },
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            rootless: Peculiarities::of(&info).rootless,
            operating_system: info.operating_system.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            cgroup_version: match info.cgroup_version {
                Some(Cgroups::_1) => Some(1),
                Some(Cgroups::_2) => Some(2),
                _ => None,
            },
            storage: info.driver.unwrap_or_default(),
            root: info.docker_root_dir.map(PathBuf::from),
            cpus: count(info.ncpu),
            memory_bytes: count(info.mem_total),
        }
    }
}

impl DockerRuntime {
    /// Looks at the engine and at what there is, within a deadline.
    pub async fn examine(&self) -> Examination {
        let place = match self.surroundings.find(self.world.files.as_ref()) {
            Found::Here(Endpoint::Socket(path)) => Some(path.display().to_string()),
            Found::Here(Endpoint::Tcp(address)) => Some(format!("tcp://{address}")),
            Found::Unusable(_) | Found::Nothing => None,
        };
        let engine = match tokio::time::timeout(ANSWER, self.facts()).await {
            Ok(engine) => engine,
            Err(_) => Err(late()),
        };
        let listing = match engine {
            Ok(_) => Some(tokio::time::timeout(ANSWER, self.list()).await.unwrap_or_else(|_| Err(late()))),
            Err(_) => None,
        };
        Examination { place, engine, listing }
    }

    async fn facts(&self) -> Result<EngineFacts, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let version = docker.version().await.map_err(|error| failed("ask", "docker", error))?;
        let info = docker.info().await.map_err(|error| failed("ask", "docker", error))?;
        Ok(EngineFacts::of(version, info))
    }
}

fn late() -> RuntimeError {
    let message = format!("no answer of the engine within {} s", ANSWER.as_secs());
    RuntimeError::new("ask", "docker", Cause::Timeout, message)
}
