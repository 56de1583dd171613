//! The one gate through which every effect of the simulated runtime goes.

use std::fmt::{self, Debug};
use std::time::Duration;

use crate::runtime::Cause;

/// What is asked of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`crate::runtime::Runtime::info`].
    Info,
    /// [`crate::runtime::Runtime::list`].
    List,
    /// [`crate::runtime::Runtime::ensure_image`].
    EnsureImage,
    /// [`crate::runtime::Runtime::create_network`].
    CreateNetwork,
    /// [`crate::runtime::Runtime::remove_network`].
    RemoveNetwork,
    /// [`crate::runtime::Runtime::create_volume`].
    CreateVolume,
    /// [`crate::runtime::Runtime::remove_volume`].
    RemoveVolume,
    /// [`crate::runtime::Runtime::create_container`].
    CreateContainer,
    /// [`crate::runtime::Runtime::start_container`].
    StartContainer,
    /// [`crate::runtime::Runtime::stop_container`].
    StopContainer,
    /// [`crate::runtime::Runtime::remove_container`].
    RemoveContainer,
    /// [`crate::runtime::Runtime::exec`].
    Exec,
    /// [`crate::runtime::Runtime::copy_in`].
    CopyIn,
    /// [`crate::runtime::Runtime::read_file`].
    ReadFile,
    /// [`crate::runtime::Runtime::logs`].
    Logs,
    /// A request to the API server of a simulated cluster.
    ClusterRequest,
}

impl Operation {
    /// Every operation, for tables over operations and faults.
    pub const ALL: [Self; 16] = [
        Self::Info,
        Self::List,
        Self::EnsureImage,
        Self::CreateNetwork,
        Self::RemoveNetwork,
        Self::CreateVolume,
        Self::RemoveVolume,
        Self::CreateContainer,
        Self::StartContainer,
        Self::StopContainer,
        Self::RemoveContainer,
        Self::Exec,
        Self::CopyIn,
        Self::ReadFile,
        Self::Logs,
        Self::ClusterRequest,
    ];

    /// Whether it is told to have been done only when that is on the disk: containers, networks and volumes that came or
    /// went.
    pub(super) fn makes_or_removes(self) -> bool {
        matches!(
            self,
            Self::CreateNetwork
                | Self::RemoveNetwork
                | Self::CreateVolume
                | Self::RemoveVolume
                | Self::CreateContainer
                | Self::RemoveContainer
        )
    }

    /// What was attempted, as errors say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "ask the runtime",
            Self::List => "list",
            Self::EnsureImage => "pull image",
            Self::CreateNetwork => "create network",
            Self::RemoveNetwork => "remove network",
            Self::CreateVolume => "create volume",
            Self::RemoveVolume => "remove volume",
            Self::CreateContainer => "create container",
            Self::StartContainer => "start container",
            Self::StopContainer => "stop container",
            Self::RemoveContainer => "remove container",
            Self::Exec => "run command in",
            Self::CopyIn => "copy files into",
            Self::ReadFile => "read a file of",
            Self::Logs => "read the log of",
            Self::ClusterRequest => "ask the API server",
        }
    }

    /// The operation's own time limit, as the contract demands one; an exec brings its own.
    pub(super) fn limit(self) -> Duration {
        match self {
            Self::EnsureImage => Duration::from_secs(300),
            Self::StopContainer | Self::RemoveContainer => Duration::from_secs(60),
            _ => Duration::from_secs(30),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it runs as it should.
    None,
    /// It fails with this cause, and has no effect.
    FailBefore(Cause),
    /// It takes effect, but the answer is an error of cause [`Cause::Unknown`].
    ReplyLost,
    /// It has no effect, and fails after the operation's own time limit.
    Timeout,
    /// It takes so much longer.
    Slow(Duration),
    /// It never answers and has no effect; only the caller's own deadline ends it.
    Hang,
    /// It answers as if all were well, and lies. A lie that does not fit the operation is none.
    Lie(Lie),
}

/// The lies that runtimes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A listing shows what the listing before it showed.
    StaleList,
    /// A stop reports success, and the container goes on.
    StopNoop,
}

/// Decides for each operation what happens to it. Called once an operation, in the order in which they begin.
pub trait Gate: Send + Sync + Debug {
    /// `object` is the name of the container, network, volume or image concerned; the runtime's own name for questions
    /// about all; `METHOD SERVER/PATH` for requests to a cluster.
    fn decide(&self, operation: Operation, object: &str) -> Fault;

    /// Whether it may ever answer [`Fault::Lie`]: what was told before is kept only then.
    fn may_lie(&self) -> bool {
        true
    }
}

/// A gate that is always open.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Gate for Open {
    fn decide(&self, _operation: Operation, _object: &str) -> Fault {
        Fault::None
    }

    fn may_lie(&self) -> bool {
        false
    }
}
