//! What Kina does to its world, and what can go wrong with it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A kind of effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Effect {
    Info,
    List,
    EnsureImage,
    CreateNetwork,
    RemoveNetwork,
    CreateVolume,
    RemoveVolume,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    Exec,
    CopyIn,
    ReadFile,
    Logs,
    /// A request to a cluster's API that reads, one that writes, one that watches.
    ClusterRead,
    ClusterWrite,
    ClusterWatch,
    /// The same to Kina's own API, by controllers and sources.
    ApiRead,
    ApiWrite,
    ApiWatch,
    FileRead,
    /// Listing a directory, asking for a file's metadata, resolving links.
    FileLook,
    FileWrite,
    FileRemove,
    /// A commit of Kina's store.
    Commit,
}

impl Effect {
    pub const ALL: [Self; 26] = [
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
        Self::ClusterRead,
        Self::ClusterWrite,
        Self::ClusterWatch,
        Self::ApiRead,
        Self::ApiWrite,
        Self::ApiWatch,
        Self::FileRead,
        Self::FileLook,
        Self::FileWrite,
        Self::FileRemove,
        Self::Commit,
    ];

    /// Whether it changes the world.
    pub fn changes(self) -> bool {
        !matches!(
            self,
            Self::Info
                | Self::List
                | Self::ReadFile
                | Self::Logs
                | Self::ClusterRead
                | Self::ClusterWatch
                | Self::ApiRead
                | Self::ApiWatch
                | Self::FileRead
                | Self::FileLook
        )
    }

    /// Whether it takes place between two awaits, so that it can neither be slow nor hang.
    pub fn is_synchronous(self) -> bool {
        matches!(self, Self::FileRead | Self::FileLook | Self::FileWrite | Self::FileRemove | Self::Commit)
    }

    /// Whether it is one of files.
    pub fn is_file(self) -> bool {
        matches!(self, Self::FileRead | Self::FileLook | Self::FileWrite | Self::FileRemove)
    }

    fn is_watch(self) -> bool {
        matches!(self, Self::ClusterWatch | Self::ApiWatch)
    }

    /// When whoever performs it gives up by itself.
    pub fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::EnsureImage => 300,
            Self::StopContainer | Self::RemoveContainer => 60,
            _ => 30,
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What goes wrong with one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// It fails and has no effect.
    FailBefore,
    /// It takes effect, and the answer is an error of which nothing follows.
    ReplyLost,
    /// It has no effect, and fails after its own time limit.
    Timeout,
    /// It takes much longer.
    Slow,
    /// It never answers, and has no effect.
    Hang,
    /// It takes effect, and never answers.
    HangAfter,
    /// It happens twice, as when a layer below tries again; the second answer is the one that counts.
    Repeat,
    /// It answers as if all were well, and lies: a listing shows the listing before; a start is followed by the
    /// container's end; a stop or removal did nothing.
    Lie,
    /// Kina is killed before it, or after it before it hears of it.
    CrashBefore,
    CrashAfter,
    /// Kina is killed and the machine loses power amid a commit: of what was not synced some is kept.
    Torn,
    /// The disk is full.
    Full,
    /// It fails, and so does every one like it on the same object for some minutes.
    Outage,
    /// A watch ends in the middle, has expired, or brings everything late.
    Cut,
    Expired,
    Late,
    /// Just before it, the world changes behind Kina's back.
    Upset(Upset),
}

/// What users, hosts and other programs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Upset {
    /// The runtime restarts: containers end and start again.
    RuntimeRestarted,
    /// The runtime restarts, and nothing starts again by itself.
    RuntimeStopped,
    ContainerRemoved,
    ContainerStopped,
    ContainerAltered,
    /// Somebody removes the files by which Kina knows that kubeadm has succeeded on nodes.
    MarkerRemoved,
    /// All containers of a network are stopped, and the network is removed.
    NetworkRemoved,
    /// A foreign container takes the name of one of ours that is not there.
    NameTaken,
    /// A file is half written for a while.
    FileHalfWritten,
    /// A file cannot be read for a while.
    FileUnreadable,
    /// The watched directory cannot be read for a while.
    RootUnreadable,
    /// The watched directory is moved away and back.
    RootAway,
    /// A file is replaced by rename with the same content.
    FileSwapped,
    /// Somebody labels a Cluster, and tries to change its spec.
    ClientEdits,
    /// Somebody tries to delete a Cluster that a file declares.
    ClientDeletes,
    /// Somebody deletes a Machine.
    MachineDeleted,
    /// Somebody empties a Cluster's and its Machines' status.
    StatusWiped,
    /// The host sleeps for eight hours: wall clocks go on, nothing else.
    Slept,
    /// Kina's wall clock goes back by five minutes.
    ClockBack,
}

impl Upset {
    pub const ALL: [Self; 19] = [
        Self::RuntimeRestarted,
        Self::RuntimeStopped,
        Self::ContainerRemoved,
        Self::ContainerStopped,
        Self::ContainerAltered,
        Self::MarkerRemoved,
        Self::NetworkRemoved,
        Self::NameTaken,
        Self::FileHalfWritten,
        Self::FileUnreadable,
        Self::RootUnreadable,
        Self::RootAway,
        Self::FileSwapped,
        Self::ClientEdits,
        Self::ClientDeletes,
        Self::MachineDeleted,
        Self::StatusWiped,
        Self::Slept,
        Self::ClockBack,
    ];
}

impl Fault {
    pub const CALLS: [Self; 16] = [
        Self::FailBefore,
        Self::ReplyLost,
        Self::Timeout,
        Self::Slow,
        Self::Hang,
        Self::HangAfter,
        Self::Repeat,
        Self::Lie,
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Torn,
        Self::Full,
        Self::Outage,
        Self::Cut,
        Self::Expired,
        Self::Late,
    ];

    /// Every fault.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::CALLS.into_iter().chain(Upset::ALL.into_iter().map(Self::Upset))
    }

    /// Whether it happens to the world, and not to the effect itself.
    pub fn is_upset(self) -> bool {
        matches!(self, Self::Upset(_))
    }

    /// Whether the fault can happen to the effect.
    pub fn fits(self, effect: Effect) -> bool {
        match self {
            Self::FailBefore | Self::Outage | Self::CrashBefore => true,
            // Of a question nobody can tell whether it was asked.
            Self::ReplyLost | Self::CrashAfter => effect.changes(),
            Self::Repeat => effect.changes() && effect != Effect::Commit,
            Self::Timeout | Self::Slow | Self::Hang => !effect.is_synchronous(),
            Self::HangAfter => effect.changes() && !effect.is_synchronous(),
            Self::Lie => matches!(
                effect,
                Effect::List
                    | Effect::StartContainer
                    | Effect::StopContainer
                    | Effect::RemoveContainer
                    | Effect::RemoveVolume
                    | Effect::RemoveNetwork
            ),
            Self::Torn => effect == Effect::Commit,
            Self::Full => matches!(effect, Effect::Commit | Effect::FileWrite),
            Self::Cut | Self::Expired | Self::Late => effect.is_watch(),
            Self::Upset(_) => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upset(upset) => fmt::Debug::fmt(upset, f),
            other => fmt::Debug::fmt(other, f),
        }
    }
}
