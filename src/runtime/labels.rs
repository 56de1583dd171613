//! The labels by which Kina knows its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

/// Labels of a container, network or volume.
pub type Labels = BTreeMap<String, String>;

const INSTALLATION: &str = "dev.kina.installation";
const CLUSTER: &str = "dev.kina.cluster";
const CLUSTER_UID: &str = "dev.kina.cluster-uid";
const MACHINE_UID: &str = "dev.kina.machine-uid";
const ROLE: &str = "dev.kina.role";
const SPEC_HASH: &str = "dev.kina.spec-hash";
const ADDRESS: &str = "dev.kina.address";
const VERSION: &str = "dev.kina.kubernetes-version";
const FINGERPRINT: &str = "dev.kina.fingerprint";

/// Which Kina made something. Kept in the home beside the store, not in it, so that it survives a lost store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstallationId(String);

impl InstallationId {
    /// Takes the text of an id as it was stored: 8 to 64 letters, digits and hyphens.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A node that runs the control plane.
    ControlPlane,
    /// A node that runs workloads only.
    Worker,
    /// The load balancer in front of the API servers.
    LoadBalancer,
}

impl Role {
    /// The label's value, as kind spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::LoadBalancer => "external-load-balancer",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::ControlPlane, Self::Worker, Self::LoadBalancer].into_iter().find(|role| role.as_str() == text)
    }
}

/// Whose something is. Nothing without these labels is ever touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerLabels {
    /// The Kina that made it.
    pub installation: InstallationId,
    /// Name of its Cluster.
    pub cluster: String,
    /// UID of its Cluster.
    pub cluster_uid: String,
    /// UID of its Machine; networks and load balancers belong to the Cluster alone.
    pub machine_uid: Option<String>,
    /// What a container is for.
    pub role: Option<Role>,
    /// Hash of what it was made from: another hash means that it was made from another spec.
    pub spec_hash: Option<String>,
}

impl OwnerLabels {
    /// As labels.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        let all = [
            (INSTALLATION, Some(self.installation.to_string())),
            (CLUSTER, Some(self.cluster.clone())),
            (CLUSTER_UID, Some(self.cluster_uid.clone())),
            (MACHINE_UID, self.machine_uid.clone()),
            (ROLE, self.role.map(|role| role.as_str().to_owned())),
            (SPEC_HASH, self.spec_hash.clone()),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// From labels; `None` for what no Kina made.
    #[must_use]
    pub fn from_labels(labels: &Labels) -> Option<Self> {
        let get = |key: &str| labels.get(key).cloned();
        Some(Self {
            installation: InstallationId::parse(&get(INSTALLATION)?)?,
            cluster: get(CLUSTER)?,
            cluster_uid: get(CLUSTER_UID)?,
            machine_uid: get(MACHINE_UID),
            role: get(ROLE).as_deref().and_then(Role::parse),
            spec_hash: get(SPEC_HASH),
        })
    }
}

/// What never changes about a node, on its container and on its volume: with it a node is known again although the store
/// that had it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLabels {
    /// Its address for life.
    pub address: Ipv4Addr,
    /// Its Kubernetes version.
    pub version: String,
    /// Of everything that the machines of its cluster cannot change in place.
    pub fingerprint: String,
}

impl NodeLabels {
    /// As labels, to be added to those of the owner.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        let all = [
            (ADDRESS, self.address.to_string()),
            (VERSION, self.version.clone()),
            (FINGERPRINT, self.fingerprint.clone()),
        ];
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// From labels; `None` where one is missing, or is no valid one.
    #[must_use]
    pub fn from_labels(labels: &Labels) -> Option<Self> {
        Some(Self {
            address: labels.get(ADDRESS)?.parse().ok()?,
            version: labels.get(VERSION)?.clone(),
            fingerprint: labels.get(FINGERPRINT)?.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_changes_about_a_node_is_the_same_after_a_round_through_labels() {
        let node =
            NodeLabels { address: "10.160.0.10".parse().unwrap(), version: "v1.35.5".into(), fingerprint: "f".into() };
        let mut labels = node.to_labels();
        assert_eq!(NodeLabels::from_labels(&labels), Some(node));
        labels.insert(ADDRESS.into(), "somewhere".into());
        assert_eq!(NodeLabels::from_labels(&labels), None);
    }

    #[test]
    fn an_owner_is_the_same_after_a_round_through_labels() {
        let owner = OwnerLabels {
            installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            cluster: "dev".into(),
            cluster_uid: "u1".into(),
            machine_uid: Some("m1".into()),
            role: Some(Role::Worker),
            spec_hash: None,
        };
        assert_eq!(OwnerLabels::from_labels(&owner.to_labels()), Some(owner));
    }

    #[test]
    fn labels_without_an_installation_belong_to_nobody() {
        let labels = Labels::from([(CLUSTER.into(), "dev".into()), (CLUSTER_UID.into(), "u1".into())]);
        assert_eq!(OwnerLabels::from_labels(&labels), None);
    }
}
