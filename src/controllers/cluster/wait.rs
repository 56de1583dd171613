//! Why a Cluster waits: typed, so that status, events and people are told the same.

use crate::api::cluster::{IpFamily, NodeNetwork};
use crate::runtime::Capabilities;
use crate::runtime::apple::mac::NETWORKS_SINCE;

/// Why a Cluster waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is paused.
    Paused,
    /// A default could not be resolved.
    Unresolved(String),
    /// This Kina cannot drive the runtime that the spec names.
    RuntimeUnsupported(&'static str),
    /// The runtime gives containers no addresses of the family that the spec names.
    FamilyUnsupported(&'static str, &'static str),
    /// The runtime has no such network for machines.
    NetworkUnsupported(&'static str, NodeNetwork),
    /// So many machines would not reach each other on the only network that the runtime has.
    NodesUnsupported(&'static str, u32),
    /// The cluster is in the runtime's own network, where so many machines cannot be.
    SingleNode(u32),
    /// The runtime does not answer.
    RuntimeSilent(String),
    /// What was done last is not seen yet.
    Observing,
    /// Something of somebody else has the name.
    NameTaken(&'static str, String),
    /// What an earlier cluster of this name left cannot be adopted.
    NotAdopted(String),
    /// The node image is being pulled, which the load balancer runs, too.
    PullingImage,
    /// An operation is under way.
    Working(&'static str),
    /// Everything is being made anew: so many machines still go.
    Recreating(usize),
    /// Everything would have to be made anew, and that is not permitted.
    RecreateNotAllowed,
    /// These machines are to go still.
    MachinesLeaving(usize),
    /// No address is left for another machine, or no range for its pods.
    NoAddress,
    /// The API server does not answer.
    ControlPlane,
    /// Control planes come and go one at a time, while all others are Ready.
    ControlPlaneTurn(String),
    /// A roll goes on only while all others are Ready.
    RollHeld(String),
    /// A machine is being made anew.
    Rolling(String),
    /// Machines that are not Ready.
    Machines(Vec<String>),
    /// The context in the kubeconfig.
    Kubeconfig,
    /// Pod network and storage class.
    Addons,
    /// Name resolution, or system pods.
    SystemPods(String),
    /// Addons or images of the user's are missing: the reason, and what is wrong.
    Wanted(&'static str, String),
}

impl Wait {
    /// Why a runtime that can do so much cannot give machines addresses of this family that they keep; `None` where it can.
    #[must_use]
    pub fn for_family(runtime: &'static str, capabilities: Capabilities, family: IpFamily) -> Option<Self> {
        let able = capabilities.pins_addresses && capabilities.supports_ipv6;
        (family.has_v6() && !able).then(|| Self::FamilyUnsupported(runtime, family.as_str()))
    }

    /// One word in CamelCase.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::Unresolved(_) => "DefaultsUnresolved",
            Self::RuntimeUnsupported(_)
            | Self::FamilyUnsupported(..)
            | Self::NetworkUnsupported(..)
            | Self::NodesUnsupported(..) => "RuntimeUnsupported",
            Self::SingleNode(_) => "SingleNode",
            Self::RuntimeSilent(_) => "RuntimeSilent",
            Self::Observing => "Observing",
            Self::NameTaken(..) => "NameTakenByOthers",
            Self::NotAdopted(_) => "NotAdopted",
            Self::PullingImage => "ImagePulling",
            Self::Working(step) => step,
            Self::Recreating(_) => "Recreating",
            Self::RecreateNotAllowed => "RecreateNotAllowed",
            Self::MachinesLeaving(_) => "MachinesLeaving",
            Self::NoAddress => "NoAddressFree",
            Self::ControlPlane => "ControlPlaneAway",
            Self::ControlPlaneTurn(_) => "ControlPlaneTurn",
            Self::RollHeld(_) => "RollHeld",
            Self::Rolling(_) => "Rolling",
            Self::Machines(_) => "MachinesNotReady",
            Self::Kubeconfig => "KubeconfigPending",
            Self::Addons => "AddonsPending",
            Self::SystemPods(_) => "SystemPodsNotReady",
            Self::Wanted(reason, _) => reason,
        }
    }

    /// For a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Paused => "the cluster is paused: nothing is changed on the host".to_owned(),
            Self::Unresolved(message) => message.clone(),
            Self::RuntimeUnsupported(name) => {
                format!(
                    "this version of Kina cannot drive the runtime `{name}`, or it is not installed: use another one"
                )
            }
            Self::FamilyUnsupported(name, family) => format!(
                "the runtime `{name}` cannot give machines addresses of IPv6 that they keep, which `ipFamily: {family}` asks \
                 for: use `ipFamily: ipv4`, or `runtime: docker`"
            ),
            Self::NetworkUnsupported(name, NodeNetwork::Cluster) => format!(
                "on this host the runtime `{name}` cannot give a cluster a network of its own: Apple Container needs macOS \
                 {NETWORKS_SINCE} for that. Update macOS, use `runtime: docker`, or, for one control plane alone, leave \
                 `networking.nodeNetwork` out"
            ),
            Self::NetworkUnsupported(name, NodeNetwork::Default) => {
                format!(
                    "the runtime `{name}` has no network `default` for machines: leave `networking.nodeNetwork` out"
                )
            }
            Self::NodesUnsupported(name, machines) => format!(
                "on this host machines of the runtime `{name}` do not reach each other (Apple Container needs macOS \
                 {NETWORKS_SINCE} for that): a cluster is one control plane alone here, and {machines} machines are asked for. \
                 Ask for one, update macOS, or use `runtime: docker`"
            ),
            Self::SingleNode(machines) => format!(
                "the cluster was made on the runtime's network `default`, on which it is one control plane alone, and \
                 {machines} machines are asked for. Ask for one, or have the cluster made anew, without its data, on a network \
                 of its own: `networking.nodeNetwork: cluster` and `allowRecreate: true`"
            ),
            Self::RuntimeSilent(message) => format!("the container runtime does not answer: {message}"),
            Self::Observing => "looking at what the last step did".to_owned(),
            Self::NameTaken(what, name) => {
                format!("a {what} named {name} exists that Kina did not make for this cluster: rename or remove it")
            }
            Self::NotAdopted(why) => format!(
                "what is left of an earlier cluster of this name cannot be adopted: {why}. Nothing of it is touched: make \
                 that right, or remove what is left"
            ),
            Self::PullingImage => "the node image is being pulled".to_owned(),
            Self::Working(step) => format!("under way: {step}"),
            Self::Recreating(count) => format!("the cluster is being made anew; {count} machines still go"),
            Self::RecreateNotAllowed => {
                "the spec asks for what only a new cluster can give: set `allowRecreate: true`, or go back".to_owned()
            }
            Self::MachinesLeaving(count) => format!("{count} machines still go"),
            Self::NoAddress => {
                "no address is free for another machine, or no range for its pods: it comes once another has gone"
                    .to_owned()
            }
            Self::ControlPlane => "the cluster's API server does not answer yet".to_owned(),
            Self::ControlPlaneTurn(other) => {
                format!("control planes come and go one at a time while all others are Ready; {other} is not")
            }
            Self::RollHeld(other) => format!("machines are made anew only while all others are Ready; {other} is not"),
            Self::Rolling(machine) => format!("{machine} is being made anew"),
            Self::Machines(names) => format!("not Ready: {}", some_of(names)),
            Self::Kubeconfig => "the context is not in the kubeconfig yet".to_owned(),
            Self::Addons => "pod network and storage class are not applied yet".to_owned(),
            Self::SystemPods(what) | Self::Wanted(_, what) => what.clone(),
        }
    }

    /// Whether it is about the network of machines.
    #[must_use]
    pub fn is_of_network(&self) -> bool {
        matches!(
            self,
            Self::NameTaken(..) | Self::NetworkUnsupported(..) | Self::NodesUnsupported(..) | Self::SingleNode(_)
        )
    }

    /// Whether nothing gets better without a person or another spec.
    #[must_use]
    pub fn stalls(&self) -> bool {
        matches!(
            self,
            Self::NameTaken(..)
                | Self::NotAdopted(_)
                | Self::RecreateNotAllowed
                | Self::RuntimeUnsupported(_)
                | Self::FamilyUnsupported(..)
                | Self::NetworkUnsupported(..)
                | Self::NodesUnsupported(..)
                | Self::SingleNode(_)
        )
    }
}

/// The first few of many names.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Networks;

    #[test]
    fn a_family_is_refused_where_a_runtime_pins_no_addresses_of_it() {
        let can = |pins_addresses, supports_ipv6| Capabilities {
            networks: Networks::PerCluster,
            node_resources: None,
            supports_events: true,
            pins_addresses,
            supports_ipv6,
            ends_with_process: false,
            reads_stopped: true,
        };
        for family in [IpFamily::Ipv4, IpFamily::Ipv6, IpFamily::Dual] {
            assert_eq!(Wait::for_family("docker", can(true, true), family), None);
            for unable in [can(true, false), can(false, true), can(false, false)] {
                let wait = Wait::for_family("apple", unable, family);
                assert_eq!(wait.is_some(), family != IpFamily::Ipv4);
                assert!(wait.is_none_or(|wait| wait.stalls() && wait.reason() == "RuntimeUnsupported"));
            }
        }
        let wait = Wait::for_family("apple", can(false, false), IpFamily::Dual).unwrap();
        insta::assert_snapshot!(wait.message(), @"the runtime `apple` cannot give machines addresses of IPv6 that they keep, which `ipFamily: dual` asks for: use `ipFamily: ipv4`, or `runtime: docker`");
    }
}
