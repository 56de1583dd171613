//! What is known of a Cluster when its next steps are planned.

use super::adopt::Adoption;
use super::reach::Reach;
use crate::api::MachineSpec;
use crate::api::cluster::{ClusterSpec, MachineResources};
use crate::api::defaults::Resolved;
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::controllers::clusters_api::Unwell;
use crate::controllers::host::Found;
use crate::controllers::machine::facts::ends;
use crate::controllers::machine::wait::WAITING_FOR_REPLACEMENT;
use crate::kubeadm::overlay::Peers;
use crate::runtime::ContainerState;

/// Everything that is known when planning.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the Cluster.
    pub name: String,
    /// What is wanted.
    pub spec: ClusterSpec,
    /// The same, in types; `None` while a Cluster that goes was never resolved.
    pub resolved: Option<Resolved>,
    /// It is to go.
    pub deleting: bool,
    /// What is on the host stays there when it goes.
    pub orphan: bool,
    /// Nothing is to be changed on the host.
    pub paused: bool,
    /// Fields that need everything made anew may change.
    pub may_recreate: bool,
    /// Its time is over, and no file declares it.
    pub expired: bool,
    /// Which runtimes may have something of it.
    pub reach: Reach,
    /// What is on the host.
    pub host: HostFacts,
    /// Whether the load balancer's image is on the host.
    pub image_present: bool,
    /// Whether the load balancer knows the control planes.
    pub backends_current: bool,
    /// What a new machine has where its pool names no limits; `None` where it then has none.
    pub node_resources: Option<MachineResources>,
    /// Its machines, in order of name.
    pub machines: Vec<MachineFacts>,
    /// Whether its API server answers; `None` where nobody knows.
    pub api_answers: Option<bool>,
    /// Why nobody knows, where it can be reached all the same.
    pub api_unwell: Option<Unwell>,
    /// Pod network and storage class are applied.
    pub addons_applied: bool,
    /// They are to be compared.
    pub addons_due: bool,
    /// What of them differs: kind, name, and how.
    pub addons_differing: Vec<(String, String, String)>,
    /// A NetworkPolicy in it, where its pod network enforces none.
    pub policy: Option<String>,
    /// Its certificates are kept.
    pub has_certificates: bool,
    /// Its context in the kubeconfig was brought to what is wanted: there, or gone when it goes.
    pub context_done: bool,
    /// What somebody else made of it since.
    pub context_altered: Option<String>,
    /// Nodes in it that no Machine stands behind; the first few.
    pub foreign_nodes: Vec<String>,
    /// What an earlier Cluster or Machine left.
    pub adoption: Adoption,
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
        /// Its network.
        network: Found<NetworkFacts>,
        /// Its load balancer.
        balancer: Found<BalancerFacts>,
        /// What carries its labels, as `(runtime, kind, name)`, that no Machine and no plan accounts for.
        left: Vec<Left>,
    },
}

/// Something on a host that carries the Cluster's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The runtime.
    pub runtime: crate::api::cluster::RuntimeName,
    /// `container`, `volume` or `network`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    /// It has the wanted subnet.
    pub current: bool,
    /// The subnet that it has.
    pub subnet: String,
}

/// The load balancer's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerFacts {
    /// What it does.
    pub state: ContainerState,
    /// It was made from the spec as it is now, and nobody changed it.
    pub current: bool,
    /// Where the machines are, if it runs and does not know.
    pub untold: Option<Peers>,
}

/// One Machine, as its status tells.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineFacts {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What it is.
    pub spec: MachineSpec,
    /// It is to go.
    pub deleting: bool,
    /// It was made for the cluster as it is now.
    pub of_this_cluster: bool,
    /// Everything about it works.
    pub ready: bool,
    /// kubeadm has succeeded on it; `None` where nobody knows.
    pub bootstrapped: Option<bool>,
    /// Its container was made from another spec than the one now, or changed by somebody.
    pub outdated: bool,
    /// It was adopted a moment ago: whether it is wanted is about to be told, where the record is older than the wish.
    pub just_adopted: bool,
    /// The word for what it waits for, empty where for nothing.
    pub waiting: String,
}

impl MachineFacts {
    /// A machine that was just recorded.
    #[must_use]
    pub fn recorded(name: &str, uid: &str, spec: &MachineSpec) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
            spec: spec.clone(),
            deleting: false,
            of_this_cluster: true,
            ready: false,
            bootstrapped: Some(false),
            outdated: false,
            just_adopted: false,
            waiting: "WaitingForTurn".to_owned(),
        }
    }

    /// Whether it runs the control plane.
    #[must_use]
    pub fn is_control_plane(&self) -> bool {
        self.spec.role == MachineRole::ControlPlane
    }

    /// Whether what it kept is gone: nothing repairs that.
    #[must_use]
    pub fn has_lost_data(&self) -> bool {
        matches!(self.waiting.as_str(), "VolumeLost" | "VolumeMissing" | WAITING_FOR_REPLACEMENT)
    }

    /// Whether it asks for repair.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.waiting == "WaitingForRepair"
    }
}

/// Whether an etcd of this cluster's was ever formed, as far as anybody knows. Without a control plane there is none: who
/// answered is gone, and that is about to be noticed.
#[must_use]
pub fn is_formed(facts: &Facts) -> bool {
    let mut planes = facts.machines.iter().filter(|machine| machine.is_control_plane());
    planes.any(|plane| facts.api_answers == Some(true) || plane.bootstrapped == Some(true))
}

/// Whether it [`ends`].
#[must_use]
pub fn is_ending(facts: &Facts) -> bool {
    ends(facts.machines.iter().map(|machine| (machine.spec.role, machine.deleting)))
}

/// Whether a control plane comes, goes or is being made anew.
#[must_use]
pub fn control_plane_in_work(facts: &Facts) -> Option<&MachineFacts> {
    facts.machines.iter().filter(|machine| machine.is_control_plane()).find(|machine| {
        let joins = machine.spec.bootstrap.method == BootstrapMethod::Join
            && machine.spec.turn == Some(Turn::Bootstrap)
            && !machine.ready;
        machine.deleting || joins || matches!(machine.spec.turn, Some(Turn::Roll | Turn::Repair))
    })
}
