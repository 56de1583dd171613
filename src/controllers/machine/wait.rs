//! Why a Machine waits: typed, so that status, events and people are told the same.

use crate::api::machine::Turn;
use crate::controllers::cluster::wait::some_of;

/// The word for [`Wait::Replacement`], by which its Cluster knows it.
pub const WAITING_FOR_REPLACEMENT: &str = "WaitingForReplacement";

/// Why a Machine waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its Cluster is paused.
    Paused,
    /// Its Cluster is not known.
    ClusterGone,
    /// The runtime does not answer.
    RuntimeSilent(String),
    /// What was done last is not seen yet.
    Observing,
    /// The cluster's network is not there yet.
    Network,
    /// Something of somebody else has the name.
    NameTaken(&'static str),
    /// Its data is gone, and it cannot be made anew by itself.
    VolumeLost,
    /// Its data is gone, and others have it: it is to be replaced in a moment.
    VolumeMissing,
    /// Its data is gone, and others have it: its Cluster is to replace it.
    Replacement,
    /// The image is being pulled.
    PullingImage,
    /// The runtime does not say what the container does.
    ContainerUnknown,
    /// The node does not answer.
    NodeSilent(String),
    /// A path of the host that it mounts is not there.
    HostPathMissing(String),
    /// A path of the host that it mounts is not allowed to be.
    HostPathRefused {
        /// What the path is.
        why: String,
        /// What to do if it is meant.
        hint: String,
    },
    /// systemd is starting.
    Booting,
    /// systemd gave up.
    BootBroken,
    /// Others are in work.
    Queued,
    /// Its Cluster has not granted the turn.
    Turn(Turn),
    /// Its Cluster wants machines without Kubernetes.
    BeforeKubernetes,
    /// kubeadm is at work.
    Bootstrapping,
    /// kubeadm takes back what it did.
    Resetting,
    /// kubeadm failed.
    BootstrapFailed(String),
    /// The cluster's API server does not answer.
    ApiAway,
    /// No other control plane tells who the members of etcd are.
    EtcdSilent(String),
    /// There is no Node of its name.
    NodeMissing,
    /// The Node is not Ready.
    NodeNotReady(String),
    /// The Node says Ready, from before its machine started.
    LeaseNotRenewed,
    /// These other nodes are to be told of its pods before it is Ready.
    Peers(Vec<String>),
    /// Pods are on their way to other nodes.
    Draining(usize),
    /// Pods may not leave now.
    DisruptionBudget {
        /// `NAMESPACE/NAME` of the budgets that forbid it.
        budgets: Vec<String>,
        /// How many pods are still there.
        count: usize,
    },
    /// An operation is under way.
    Working(&'static str),
}

impl Wait {
    /// One word in CamelCase.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::ClusterGone => "ClusterGone",
            Self::RuntimeSilent(_) => "RuntimeSilent",
            Self::Observing => "Observing",
            Self::Network => "NetworkMissing",
            Self::NameTaken(_) => "NameTakenByOthers",
            Self::VolumeLost => "VolumeLost",
            Self::VolumeMissing => "VolumeMissing",
            Self::Replacement => WAITING_FOR_REPLACEMENT,
            Self::PullingImage => "ImagePulling",
            Self::ContainerUnknown => "ContainerUnknown",
            Self::NodeSilent(_) => "NodeSilent",
            Self::HostPathMissing(_) => "HostPathMissing",
            Self::HostPathRefused { .. } => "HostPathRefused",
            Self::Booting => "Booting",
            Self::BootBroken => "BootBroken",
            Self::Queued => "Queued",
            Self::Turn(Turn::Bootstrap) => "WaitingForTurn",
            Self::Turn(Turn::Roll) => "WaitingForRoll",
            Self::Turn(Turn::Repair) => "WaitingForRepair",
            Self::BeforeKubernetes => "StoppedBeforeKubernetes",
            Self::Bootstrapping => "Bootstrapping",
            Self::Resetting => "Resetting",
            Self::BootstrapFailed(_) => "BootstrapFailed",
            Self::ApiAway => "ApiAway",
            Self::EtcdSilent(_) => "EtcdSilent",
            Self::NodeMissing => "NodeMissing",
            Self::NodeNotReady(_) => "NodeNotReady",
            Self::LeaseNotRenewed => "LeaseNotRenewed",
            Self::Peers(_) => "WaitingForPeers",
            Self::Draining(_) => "Draining",
            Self::DisruptionBudget { .. } => "DisruptionBudget",
            Self::Working(step) => step,
        }
    }

    /// For a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Paused => "the cluster is paused".to_owned(),
            Self::ClusterGone => "the cluster it belongs to is not known".to_owned(),
            Self::RuntimeSilent(message) => format!("the container runtime does not answer: {message}"),
            Self::Observing => "looking at what the last step did".to_owned(),
            Self::Network => "the cluster's network is not there yet".to_owned(),
            Self::NameTaken(what) => {
                format!("a {what} of this name exists that Kina did not make for this machine: rename or remove it")
            }
            Self::VolumeLost => {
                "its volume is gone, and with it the data of this control plane: restore the volume, bring the others back \
                 if they have its data, or delete the cluster and make it again"
                    .to_owned()
            }
            Self::VolumeMissing => {
                "its volume is gone, and with it the data of this control plane, which others have: restored within a \
                 minute it goes on, then another one takes its place"
                    .to_owned()
            }
            Self::Replacement => {
                "its volume is gone, and with it the data of this control plane, which others have: another one takes its \
                 place"
                    .to_owned()
            }
            Self::PullingImage => "its image is being pulled".to_owned(),
            Self::ContainerUnknown => "the container runtime does not say what its container does".to_owned(),
            Self::NodeSilent(message) => format!("commands in the node fail: {message}"),
            Self::HostPathMissing(path) => format!("it mounts `{path}` of this host, which is not there: make it"),
            Self::HostPathRefused { why, hint } => format!("it may not mount a path of this host: {why}; {hint}"),
            Self::Booting => "the node is booting".to_owned(),
            Self::BootBroken => "the node's systemd has given up".to_owned(),
            Self::Queued => "other machines are in work on this host".to_owned(),
            Self::Turn(Turn::Bootstrap) => "its cluster has not granted its turn to become a node".to_owned(),
            Self::Turn(Turn::Roll) => "it was made from an older spec; its cluster has not granted the roll".to_owned(),
            Self::Turn(Turn::Repair) => "it needs repair; its cluster has not granted it".to_owned(),
            Self::BeforeKubernetes => {
                "it is up, without Kubernetes: its cluster has `stopBeforeKubernetes: true`".to_owned()
            }
            Self::Bootstrapping => "kubeadm is at work".to_owned(),
            Self::Resetting => "kubeadm takes back what it did".to_owned(),
            Self::BootstrapFailed(log) => format!("kubeadm failed: {log}"),
            Self::ApiAway => "the cluster's API server does not answer".to_owned(),
            Self::EtcdSilent(message) => {
                format!("no other control plane tells whether etcd counts this one, which it must not lose: {message}")
            }
            Self::NodeMissing => "the cluster has no Node of this name".to_owned(),
            Self::NodeNotReady(message) if message.is_empty() => "its Node is not Ready".to_owned(),
            Self::NodeNotReady(message) => format!("its Node is not Ready: {message}"),
            Self::LeaseNotRenewed => "its Node has not renewed its lease since the machine started".to_owned(),
            Self::Peers(names) => {
                format!("other nodes are to be told of its pods before it is Ready: {}", some_of(names))
            }
            Self::Draining(count) => format!("{count} pods are still on their way to other nodes"),
            Self::DisruptionBudget { budgets, count } => format!(
                "no pod may leave it now by the PodDisruptionBudget {}: {count} are still there; it goes with them five minutes \
                 after its drain began, or sooner once the budget allows it",
                budgets.join(", ")
            ),
            Self::Working(step) => format!("under way: {step}"),
        }
    }

    /// Whether nothing gets better without a person or another spec.
    #[must_use]
    pub fn stalls(&self) -> bool {
        matches!(self, Self::NameTaken(_) | Self::VolumeLost | Self::HostPathMissing(_) | Self::HostPathRefused { .. })
    }
}
