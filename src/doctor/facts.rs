//! What was found on the host, as plain data.

use std::path::PathBuf;

use crate::api::Cluster;
use crate::runtime::apple::mac::Mac;
use crate::runtime::apple::version::Version;
use crate::runtime::apple::{self, HostSize};
use crate::runtime::{InstallationId, Listing, docker};

/// Everything that findings follow from.
#[derive(Debug)]
pub struct Facts {
    /// The runtime that `auto` means here, or that there should be.
    pub subject: Subject,
    /// The host.
    pub host: HostFacts,
    /// Kina's home.
    pub home: HomeFacts,
    /// Which Kina this is; `None` where the home never made anything.
    pub installation: Option<InstallationId>,
    /// The Clusters that Kina knows; `None` where they could not be read.
    pub clusters: Option<Vec<Cluster>>,
}

/// The runtime that is looked at.
#[derive(Debug)]
pub enum Subject {
    /// Apple Container.
    Apple(AppleFacts),
    /// Docker, or what speaks as it does; `None` where neither is installed.
    Docker(Option<docker::Examination>),
    /// The simulator, by somebody's word.
    Simulator,
}

impl Subject {
    /// Everything that the runtime shows, where it could be listed.
    #[must_use]
    pub fn listing(&self) -> Option<&Listing> {
        match self {
            Self::Apple(apple) => apple.command.as_ref()?.found.listing.as_ref()?.0.as_ref().ok(),
            Self::Docker(found) => found.as_ref()?.listing.as_ref()?.as_ref().ok(),
            Self::Simulator => None,
        }
    }
}

/// Apple Container, and the Mac for it.
#[derive(Debug)]
pub struct AppleFacts {
    /// The Mac; `None` where this is none.
    pub mac: Option<Mac>,
    /// The command, where there is one.
    pub command: Option<CommandFacts>,
}

/// The command.
#[derive(Debug)]
pub struct CommandFacts {
    /// Where it is.
    pub path: PathBuf,
    /// What it shows.
    pub found: apple::Examination,
}

impl CommandFacts {
    /// Its version, if it is one that can be driven.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.found.version.as_ref().ok().copied()
    }
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// CPUs and memory.
    pub size: HostSize,
    /// Room on the disks that things lie on.
    pub disks: Vec<Disk>,
    /// The kernel of this host, where it is Linux.
    pub linux: Option<LinuxFacts>,
    /// Why no port of 127.0.0.1 can be had.
    pub port_error: Option<String>,
    /// Where kubectl is.
    pub kubectl: Option<PathBuf>,
}

/// Room on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What lies on it: `the home`.
    pub of: &'static str,
    /// Where that is.
    pub path: PathBuf,
    /// Bytes that are free.
    pub free_bytes: u64,
}

/// A kernel of Linux.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxFacts {
    /// Its release.
    pub release: String,
    /// `fs.inotify.max_user_instances`.
    pub inotify_instances: Option<u64>,
    /// `fs.inotify.max_user_watches`.
    pub inotify_watches: Option<u64>,
    /// Whether it knows `overlay` now; a module may come when it is needed.
    pub knows_overlay: bool,
}

/// Kina's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeFacts {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it can be used.
    pub usable: Usable,
    /// The network file system that it lies on, by name.
    pub network_file_system: Option<&'static str>,
    /// Who has it.
    pub holder: Holder,
}

/// Whether something can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It is there and as it should be.
    Yes,
    /// It will be made.
    NotYet,
    /// It cannot: why, and what to do.
    No(String, String),
}

/// Who has the home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A Kina that answers.
    Kina,
    /// Somebody who does not answer, or it could not be found out.
    Unknown(String),
}
