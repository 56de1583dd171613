//! What is known of a Machine when its next steps are planned.

use std::time::Duration;

use serde_json::Value;

use super::wait::Wait;
use crate::api::Machine;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::host::Found;
use crate::kubeadm::etcd::MemberId;
use crate::kubeadm::overlay::Peers;
use crate::kubeadm::units::UnitState;
use crate::runtime::{ContainerId, ContainerState};

/// Everything that is known when planning.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What it is.
    pub role: MachineRole,
    /// How it becomes a node.
    pub method: BootstrapMethod,
    /// What its Cluster granted.
    pub turn: Option<Turn>,
    /// It is to go.
    pub deleting: bool,
    /// Whether etcd counts it.
    pub membership: Membership,
    /// What its Cluster is about.
    pub cluster: ClusterState,
    /// What is on the host.
    pub host: HostFacts,
    /// Whether its image is on the host.
    pub image_present: bool,
    /// There is evidence that it has been a node: its Node, its marker, or what status said.
    pub was_node: bool,
    /// Status says that kubeadm had succeeded. Unlike a Node, which a kubelet registers in the middle of kubeadm's work,
    /// this is said only where it was seen.
    pub recorded: bool,
    /// What is inside its container.
    pub inside: Inside,
    /// What its cluster's API server shows.
    pub api: ApiFacts,
    /// For how long its data has been seen to be gone, where other control planes have them and drift is repaired.
    pub replaceable: Option<Duration>,
    /// For how long its Node is missing or not Ready, as far as Kina saw.
    pub ailing: Ailing,
    /// How far a drain is.
    pub drain: Drain,
    /// It may use the host's processors now.
    pub has_place: bool,
    /// How its containerd was started.
    pub containerd: Containerd,
    /// How far its pod network is.
    pub network: PodNetwork,
    /// Its Cluster wants machines without Kubernetes.
    pub stops_before_kubernetes: bool,
    /// Why what it mounts of the host cannot be mounted; looked at while a container of it is to be made.
    pub unmountable: Option<Wait>,
}

impl Facts {
    /// Whether nothing in it can make it a member of etcd by itself.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let is_known = |container: &Found<ContainerFacts>| {
            container.ours().is_none_or(|container| container.state != ContainerState::Unknown)
        };
        match self.inside {
            Inside::NotAsked { .. } => matches!(&self.host, HostFacts::Known { container, .. } if is_known(container)),
            Inside::Up { bootstrap, .. } => bootstrap != UnitState::Running,
            Inside::Silent(_) | Inside::Booting | Inside::Broken => false,
        }
    }

    /// Whether what a control plane kept is gone: its volume, or all that was on it. An empty one in its place would be a
    /// cluster without its data.
    #[must_use]
    pub fn has_lost_data(&self) -> bool {
        let HostFacts::Known { volume, container, .. } = &self.host else { return false };
        let is_empty =
            matches!(self.inside, Inside::Up { marker: false, leftovers: false, bootstrap: UnitState::Absent, .. });
        let is_lost = match container {
            Found::Foreign => false,
            Found::Absent => self.was_node && *volume == Found::Absent,
            Found::Ours(container) => match container.state {
                ContainerState::Running => self.recorded && is_empty,
                ContainerState::Created | ContainerState::Stopped { .. } => self.was_node && *volume == Found::Absent,
                ContainerState::Unknown => false,
            },
        };
        self.role == MachineRole::ControlPlane && is_lost
    }
}

/// Whether a control plane is a member of its cluster's etcd, as another one says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// Nobody was asked yet.
    #[default]
    NotAsked,
    /// There is no other control plane.
    Alone,
    /// None of the others tells.
    Unknown(String),
    /// It is none now.
    Absent,
    /// It was said to be none, and nothing in it can make it one again.
    Left,
    /// It is one.
    Present {
        /// Which one.
        member: MemberId,
        /// Who said so.
        via: Peer,
    },
}

/// Another control plane of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its container, which runs.
    pub container: ContainerId,
}

/// How a node's containerd was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Containerd {
    /// As wanted, or nobody can tell now.
    #[default]
    Current,
    /// The node is booting still.
    Booting,
    /// With another configuration than its patches ask for.
    Outdated,
}

/// How far the pod network of a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// As wanted, not Kina's, or nobody can tell now.
    #[default]
    Current,
    /// It is not known to have the routes to the pods of all other nodes.
    Outdated,
    /// It has, and these others are not known to have the route to its own.
    Untold(Vec<String>),
    /// All have them; the node is not known to be told so.
    Closed,
}

/// What a Machine's Cluster is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It is not known.
    Gone,
    /// It is to go as a whole.
    Deleting {
        /// What is on the host stays there.
        orphan: bool,
    },
    /// It is to be made anew and the Machine is to go with it, or it [`ends`] and the Machine goes already.
    Recreating,
    /// Nothing is to be changed.
    Paused,
    /// It lives.
    Live,
}

impl ClusterState {
    /// Whether single machines can go without a thought for the others.
    #[must_use]
    pub fn ends(self) -> bool {
        matches!(self, Self::Gone | Self::Deleting { .. } | Self::Recreating)
    }
}

/// Whether a cluster ends, of whose machines each has a role and goes or not: all its control planes go, and with them
/// everything that it is; or they are gone, and whoever is left goes, too. That happens where it is made anew, and cannot be
/// taken back: what joined later would wait for an etcd that is gone.
pub fn ends(machines: impl Iterator<Item = (MachineRole, bool)>) -> bool {
    let (planes, workers): (Vec<_>, Vec<_>) = machines.partition(|(role, _)| *role == MachineRole::ControlPlane);
    let deciding = if planes.is_empty() { workers } else { planes };
    !deciding.is_empty() && deciding.into_iter().all(|(_, goes)| goes)
}

/// What [`ends`] asks of a Machine.
#[must_use]
pub fn going(machine: &Machine) -> (MachineRole, bool) {
    (machine.spec.role, machine.metadata.deletion_timestamp.is_some())
}

/// What is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFacts {
    /// Nobody knows.
    Unknown(String),
    /// What is known is older than what was done last.
    Stale,
    /// As of a listing.
    Known {
        /// It began after the wish for what destroys something.
        fresh: bool,
        /// The cluster's network is there.
        network: bool,
        /// The Machine's volume.
        volume: Found<()>,
        /// The Machine's container.
        container: Found<ContainerFacts>,
    },
}

/// A container of the Machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    /// What it does.
    pub state: ContainerState,
    /// It was made from the spec as it is now.
    pub current: bool,
    /// What is shown otherwise than it was asked for, mostly since somebody else changed it: field, wanted, seen.
    pub altered: Vec<(&'static str, String, String)>,
    /// So many containers in succession were shown otherwise: another one would be, too.
    pub in_vain: bool,
    /// Where the others are, if it runs and does not know.
    pub untold: Option<Peers>,
}

/// What is inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// It was not asked: it does not run, or what matters is known.
    NotAsked {
        /// kubeadm has succeeded in it.
        bootstrapped: bool,
    },
    /// It does not answer.
    Silent(String),
    /// systemd is starting.
    Booting,
    /// systemd gave up.
    Broken,
    /// It is up.
    Up {
        /// kubeadm has succeeded, once.
        marker: bool,
        /// Something of an earlier attempt is there.
        leftovers: bool,
        /// kubeadm's unit.
        bootstrap: UnitState,
        /// The reset's unit.
        reset: UnitState,
        /// The end of what the failed unit wrote.
        log: String,
    },
}

/// What the cluster's API server shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiFacts {
    /// It answers; `None` where nobody knows.
    pub answers: Option<bool>,
    /// The nodes were listed since it answers.
    pub listed: bool,
    /// This Machine's Node.
    pub node: Option<NodeFacts>,
}

impl ApiFacts {
    /// Whether it answers and its nodes are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.answers == Some(true) && self.listed
    }

    /// What is wrong with the Node of a machine, if anything: what cannot be seen is not, nor is what a machine is not yet
    /// that only becomes a node.
    #[must_use]
    pub fn ailment(&self, inside: &Inside) -> Option<&'static str> {
        let is_node = matches!(inside, Inside::NotAsked { bootstrapped: true } | Inside::Up { marker: true, .. });
        match &self.node {
            _ if !is_node || !self.is_known() => None,
            None => Some("missing"),
            Some(node) if !node.ready => Some("not Ready"),
            Some(_) => None,
        }
    }
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its UID.
    pub uid: String,
    /// It says that it is Ready.
    pub ready: bool,
    /// Its lease was renewed since its machine runs.
    pub renewed: bool,
    /// Its kubelet itself says that only the pod network is missing.
    pub lacks_network: bool,
    /// In its own words.
    pub message: String,
    /// What would bring labels and taints to what is wanted.
    pub patch: Option<Value>,
    /// Somebody else changed labels or taints that Kina set, and Kina is only to report it.
    pub patch_is_drift_to_report: bool,
    /// No new pods come.
    pub cordoned: bool,
    /// Kina cordoned it.
    pub cordoned_by_kina: bool,
}

/// What Kina saw of a Node that is missing or not Ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ailing {
    /// For how long, since the services were restarted last.
    pub lasted: Duration,
    /// How often they were restarted for it.
    pub restarts: u32,
}

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nobody looked: none is wanted.
    NotAsked,
    /// The pods could not be listed.
    Unknown,
    /// These pods are still there.
    Left {
        /// `NAMESPACE/NAME` of those not on their way yet that may go.
        to_evict: Vec<(String, String)>,
        /// How many are there in all.
        count: usize,
        /// `NAMESPACE/NAME` of PodDisruptionBudgets that let none of them go now.
        budgets: Vec<String>,
        /// The time for it is over.
        overdue: bool,
    },
}
