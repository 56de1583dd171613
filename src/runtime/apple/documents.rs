//! The documents that the `container` command prints, in every shape that is known: what is needed is typed, what is not is
//! passed over, and what is missing though it is needed is an error, never a guess.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::version::Version;

/// A document that could not be understood.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be understood: {source}")]
pub struct DocumentError {
    what: &'static str,
    #[source]
    source: serde_json::Error,
}

fn decode<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(text).map_err(|source| DocumentError { what, source })
}

fn invalid(what: &'static str, message: &str) -> DocumentError {
    DocumentError { what, source: serde_json::Error::custom(message) }
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerDocument {
    /// Its name, too.
    pub id: String,
    /// What it was made with.
    pub configuration: Configuration,
    /// An object; before 1.0 a word.
    status: Value,
    /// Before 1.0 here, since then in the status.
    networks: Vec<Attachment>,
}

/// What a container was made with.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Configuration {
    id: String,
    /// Image.
    pub image: ImageReference,
    /// Mounts.
    pub mounts: Vec<MountDocument>,
    /// Published ports.
    pub published_ports: Vec<PortDocument>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Networks that were asked for.
    pub networks: Vec<NetworkReference>,
    /// First process.
    pub init_process: Process,
    /// Limits.
    pub resources: ResourcesDocument,
}

/// An image, named.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImageReference {
    /// Whole name.
    pub reference: String,
}

/// A mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MountDocument {
    /// An object with one key, which is the kind.
    #[serde(rename = "type")]
    kind: BTreeMap<String, Value>,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// `ro`.
    pub options: Vec<String>,
}

impl MountDocument {
    /// A directory or file of the host.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        self.kind.contains_key("virtiofs")
    }

    /// The name of the volume.
    #[must_use]
    pub fn volume(&self) -> Option<&str> {
        self.kind.get("volume")?.get("name")?.as_str()
    }
}

/// A published port, or several in a row.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortDocument {
    /// Where it listens.
    pub host_address: String,
    /// First port of the host.
    pub host_port: u16,
    /// First port in the container.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub proto: String,
    /// How many.
    pub count: Option<u16>,
}

/// A network, named.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetworkReference {
    /// Its name.
    pub network: String,
}

/// A process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its arguments, without the program.
    pub arguments: Vec<String>,
}

/// Limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourcesDocument {
    /// Whole CPUs.
    pub cpus: Option<u64>,
    /// Bytes.
    pub memory_in_bytes: Option<u64>,
}

/// A network that a running container is attached to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// In CIDR form.
    ipv4_address: Option<String>,
    /// The same, before 0.9.
    address: Option<String>,
}

impl Attachment {
    /// The address, without its network's length.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        let whole = self.ipv4_address.as_deref().or(self.address.as_deref())?;
        whole.split('/').next()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    state: String,
    networks: Vec<Attachment>,
    started_date: Option<Value>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doing {
    /// `running`, `stopped`.
    pub state: String,
    /// It has run since the service was started.
    pub was_started: bool,
}

impl ContainerDocument {
    fn checked(mut self) -> Result<(Self, Doing), DocumentError> {
        const WHAT: &str = "the list of containers";
        if self.id.is_empty() {
            self.id = self.configuration.id.clone();
        }
        if self.id.is_empty() {
            return Err(invalid(WHAT, "a container has no id"));
        }
        let status: Status = match std::mem::take(&mut self.status) {
            Value::String(state) => Status { state, ..Status::default() },
            status @ Value::Object(_) => {
                serde_json::from_value(status).map_err(|source| DocumentError { what: WHAT, source })?
            }
            _ => return Err(invalid(WHAT, &format!("the container {} has no status", self.id))),
        };
        if status.state.is_empty() {
            return Err(invalid(WHAT, &format!("the container {} has no state", self.id)));
        }
        if !status.networks.is_empty() {
            self.networks = status.networks;
        }
        Ok((self, Doing { state: status.state, was_started: status.started_date.is_some() }))
    }

    /// What it is attached to now.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.networks
    }
}

/// Containers, of `list` or `inspect`.
///
/// # Errors
/// [`DocumentError`].
pub fn containers(text: &[u8]) -> Result<Vec<(ContainerDocument, Doing)>, DocumentError> {
    let all: Vec<ContainerDocument> = decode("the list of containers", text)?;
    all.into_iter().map(ContainerDocument::checked).collect()
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDocument {
    /// Its name.
    pub name: String,
    /// Subnet that it has, else the one that was asked for.
    pub subnet: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNetwork {
    id: String,
    #[serde(alias = "config")]
    configuration: RawNetworkConfiguration,
    status: RawNetworkStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNetworkConfiguration {
    ipv4_subnet: Option<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNetworkStatus {
    #[serde(alias = "address")]
    ipv4_subnet: Option<String>,
}

/// Networks.
///
/// # Errors
/// [`DocumentError`].
pub fn networks(text: &[u8]) -> Result<Vec<NetworkDocument>, DocumentError> {
    const WHAT: &str = "the list of networks";
    let all: Vec<RawNetwork> = decode(WHAT, text)?;
    let checked = |raw: RawNetwork| match raw.id.is_empty() {
        true => Err(invalid(WHAT, "a network has no id")),
        false => Ok(NetworkDocument {
            name: raw.id,
            subnet: raw.status.ipv4_subnet.or(raw.configuration.ipv4_subnet),
            labels: raw.configuration.labels,
        }),
    };
    all.into_iter().map(checked).collect()
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeDocument {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVolume {
    #[serde(alias = "name")]
    id: String,
    labels: BTreeMap<String, String>,
    configuration: RawVolumeConfiguration,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVolumeConfiguration {
    labels: BTreeMap<String, String>,
}

/// Volumes.
///
/// # Errors
/// [`DocumentError`].
pub fn volumes(text: &[u8]) -> Result<Vec<VolumeDocument>, DocumentError> {
    const WHAT: &str = "the list of volumes";
    let all: Vec<RawVolume> = decode(WHAT, text)?;
    let checked = |raw: RawVolume| match raw.id.is_empty() {
        true => Err(invalid(WHAT, "a volume has no id")),
        false => {
            let labels = if raw.labels.is_empty() { raw.configuration.labels } else { raw.labels };
            Ok(VolumeDocument { name: raw.id, labels })
        }
    };
    all.into_iter().map(checked).collect()
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDocument {
    /// `sha256:…` of its index.
    pub digest: String,
    /// `sha256:…` of its manifest for one platform, where it is told.
    pub manifest: Option<String>,
    /// What its containers run, unless they are told otherwise: the entry point and its arguments, for one platform.
    pub command: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawImage {
    configuration: RawImageConfiguration,
    variants: Vec<RawVariant>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawImageConfiguration {
    descriptor: Descriptor,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Descriptor {
    digest: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVariant {
    platform: Platform,
    digest: Option<String>,
    config: RawConfig,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConfig {
    config: Option<ImageConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ImageConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// The one image that was asked for, for Linux on this architecture. `None` where it is there for others only.
///
/// # Errors
/// [`DocumentError`].
pub fn image(text: &[u8], architecture: &str) -> Result<Option<ImageDocument>, DocumentError> {
    const WHAT: &str = "the image";
    let all: Vec<RawImage> = decode(WHAT, text)?;
    let raw = all.into_iter().next().ok_or_else(|| invalid(WHAT, "there is none in the list"))?;
    let digest = raw.configuration.descriptor.digest;
    if digest.is_empty() {
        return Err(invalid(WHAT, "it has no digest"));
    }
    let fits = |variant: &RawVariant| variant.platform.os == "linux" && variant.platform.architecture == architecture;
    let variant = raw.variants.into_iter().find(fits);
    Ok(variant.map(|variant| {
        let config = variant.config.config.unwrap_or_default();
        let command = [config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default()].concat();
        ImageDocument { digest, manifest: variant.digest, command }
    }))
}

/// The service, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDocument {
    /// `running`, `not running`, `unregistered`.
    pub status: String,
    /// Its version, where it runs: a sentence, or a number.
    pub version: Option<Version>,
    /// Where it keeps everything, where it runs.
    pub root: Option<PathBuf>,
}

/// Whether the service runs, and which. Since 1.4.1 that document has another shape.
///
/// # Errors
/// [`DocumentError`].
pub fn service(text: &[u8]) -> Result<ServiceDocument, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole {
        status: String,
        api_server_version: Option<String>,
        app_root: Option<String>,
        server: Option<Server>,
        paths: Option<Paths>,
    }
    #[derive(Deserialize)]
    struct Server {
        version: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Paths {
        app_root: Option<String>,
    }
    let whole = decode::<Whole>("the state of the service", text)?;
    let version = whole.api_server_version.or(whole.server.and_then(|server| server.version));
    let version = version.and_then(|text| Version::parse(&text).or_else(|| Version::of_number(&text)));
    let root = whole.app_root.or(whole.paths.and_then(|paths| paths.app_root)).filter(|root| !root.is_empty());
    Ok(ServiceDocument { status: whole.status, version, root: root.map(PathBuf::from) })
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
