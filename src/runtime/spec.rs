//! What is asked of a runtime, and what it shows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::labels::{Labels, OwnerLabels};
use crate::api::cluster::NodeNetwork;
use crate::api::node::{HostMount, Protocol};

/// What a runtime can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`super::Runtime::events`] yields; otherwise it is polled.
    pub supports_events: bool,
    /// A container keeps the address it was created with. Otherwise it is given another one at every start, and
    /// [`ContainerSpec::address`] is not heeded.
    pub pins_addresses: bool,
    /// Networks have a subnet of IPv6 besides, and containers an address in it that they keep.
    pub supports_ipv6: bool,
    /// Which networks machines can be in.
    pub networks: Networks,
    /// What a node has where nobody says how much; `None` where it then has what the host has.
    pub node_resources: Option<Resources>,
    /// API servers answer only while this process runs, since they run in it.
    pub ends_with_process: bool,
    /// Files of a container are read also while it does not run.
    pub reads_stopped: bool,
}

/// Which networks the machines of a cluster can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Networks {
    /// One that is made for the cluster, on which they reach each other.
    #[default]
    PerCluster,
    /// Such a one; or the one that the runtime has by itself, which is called `default`.
    PerClusterOrDefault,
    /// Only the latter: the host reaches each machine, and they do not reach each other.
    OnlyDefault,
}

impl Networks {
    /// Whether machines can be in such a one.
    #[must_use]
    pub fn have(self, network: NodeNetwork) -> bool {
        match network {
            NodeNetwork::Cluster => self != Self::OnlyDefault,
            NodeNetwork::Default => self != Self::PerCluster,
        }
    }
}

/// The runtime itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Its version.
    pub version: String,
    /// Of the machines that containers see, as `uname -m` says it.
    pub architecture: String,
    /// CPUs that containers see; 0 where it is not known.
    pub cpus: u64,
    /// Bytes of memory that containers see; 0 where it is not known.
    pub memory_bytes: u64,
}

/// A container's id, chosen by the runtime.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Limits of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU; `None` for no limit.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory; `None` for no limit.
    pub memory_bytes: Option<u64>,
}

/// A directory of a named volume inside a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mount {
    /// Name of the volume.
    pub volume: String,
    /// Directory inside the volume, made where it is missing: `etc-kubernetes`.
    pub subdirectory: String,
    /// Absolute path in the container.
    pub target: String,
}

/// A port of a container, reachable from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address of the host to listen on.
    pub host_address: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// Of the port.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What a container may do to the host's kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Privileges {
    /// Nothing.
    #[default]
    None,
    /// What concerns its own network: addresses, routes, packet filters.
    Network,
    /// Everything that a node needs, which runs containers itself: it boots a system, and has a `/var` of its own.
    Node,
}

/// A container to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name, and the host name inside.
    pub name: String,
    /// Image with tag or digest.
    pub image: String,
    /// Owner labels, given in the creating call.
    pub labels: Labels,
    /// Network to attach to.
    pub network: String,
    /// Address in that network, where the runtime can pin one.
    pub address: Option<Ipv4Addr>,
    /// Address in that network's subnet of IPv6, where it has one and the runtime can pin one.
    #[serde(default)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Environment of the first process.
    pub environment: BTreeMap<String, String>,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// Files and directories of the host, by absolute paths.
    #[serde(default)]
    pub host_mounts: Vec<HostMount>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Limits.
    pub resources: Resources,
    /// Names resolved to addresses inside the container, besides its own.
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// DNS search domains; the runtime's own where it is `None`.
    #[serde(default)]
    pub dns_search: Option<Vec<String>>,
    /// What it may do to the host's kernel.
    pub privileges: Privileges,
    /// Command in place of the image's own; empty for the image's own.
    pub command: Vec<String>,
}

/// A network to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Name.
    pub name: String,
    /// Subnet in CIDR form, such as `10.160.3.0/24`; without one the runtime chooses.
    pub subnet: Option<String>,
    /// Subnet of IPv6 besides, in CIDR form.
    #[serde(default)]
    pub ipv6_subnet: Option<String>,
    /// Owner labels.
    pub labels: Labels,
}

/// A volume to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Name.
    pub name: String,
    /// Owner labels.
    pub labels: Labels,
}

/// An image that is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The name asked for.
    pub name: String,
    /// `sha256:…` of its manifest.
    pub digest: String,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process ended.
    Stopped {
        /// With this code, where the runtime knows it.
        exit_code: Option<i32>,
    },
    /// In a state that the runtime did not explain.
    Unknown,
}

/// A container as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Id.
    pub id: ContainerId,
    /// Name.
    pub name: String,
    /// What it does.
    pub state: ContainerState,
    /// All its labels.
    pub labels: Labels,
    /// Image as given at creation.
    pub image: String,
    /// Network and address in it; the address is there while it runs.
    pub network: Option<String>,
    /// Address in that network.
    pub address: Option<Ipv4Addr>,
    /// Address in that network's subnet of IPv6.
    pub ipv6_address: Option<Ipv6Addr>,
    /// Volumes mounted.
    pub mounts: Vec<Mount>,
    /// Files and directories of the host mounted.
    pub host_mounts: Vec<HostMount>,
    /// Ports published.
    pub ports: Vec<PublishedPort>,
    /// Limits.
    pub resources: Resources,
}

/// A network as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Name; a runtime may allow two of one name.
    pub name: String,
    /// Subnet in CIDR form.
    pub subnet: Option<String>,
    /// Subnet of IPv6 in CIDR form.
    pub ipv6_subnet: Option<String>,
    /// All its labels.
    pub labels: Labels,
}

/// A volume as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// All its labels.
    pub labels: Labels,
}

macro_rules! owned {
    ($($kind:ty),*) => {$(
        impl $kind {
            /// Whose it is; `None` for what no Kina made.
            #[must_use]
            pub fn owner(&self) -> Option<OwnerLabels> {
                OwnerLabels::from_labels(&self.labels)
            }
        }
    )*};
}
owned!(Container, Network, Volume);

/// Everything in a runtime at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// When the listing began: what was wished before that is reflected, what was wished later may not be.
    pub began: Instant,
    /// Containers in order of name. What is as it was may be the very same as in the listing before.
    pub containers: Vec<Arc<Container>>,
    /// Networks in order of name.
    pub networks: Vec<Arc<Network>>,
    /// Volumes in order of name.
    pub volumes: Vec<Arc<Volume>>,
    /// Subnets in CIDR form that the host reaches, whoever made them.
    pub routes: Vec<String>,
}

/// A command to run in a container: an argument array, never a shell line.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Data for its standard input; the only way for data.
    pub stdin: Option<Vec<u8>>,
    /// Time until it is given up.
    pub timeout: Duration,
}

impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecRequest").field("command", &self.command).finish_non_exhaustive()
    }
}

/// What a command left behind. Each stream is cut after its first 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A file to write into a container.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Absolute path; directories are made.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content, maybe secret.
    pub content: Vec<u8>,
}

impl fmt::Debug for NodeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeFile").field("path", &self.path).finish_non_exhaustive()
    }
}
