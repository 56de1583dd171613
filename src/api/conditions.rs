//! Condition types and reasons, and how a list of conditions changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything asked for is there and works.
pub const READY: &str = "Ready";
/// The cluster's network and load balancer are there.
pub const NETWORK_READY: &str = "NetworkReady";
/// Every control plane machine is Ready and the API answers.
pub const CONTROL_PLANE_READY: &str = "ControlPlaneReady";
/// Every worker machine is Ready.
pub const WORKERS_READY: &str = "WorkersReady";
/// The context is in the kubeconfig and works.
pub const KUBECONFIG_READY: &str = "KubeconfigReady";
/// Pod network and DNS work.
pub const ADDONS_READY: &str = "AddonsReady";
/// Something differs from what is wanted.
pub const DRIFTED: &str = "Drifted";
/// Nothing will get better without a person.
pub const STALLED: &str = "Stalled";

/// On a Machine: its container runs.
pub const CONTAINER_READY: &str = "ContainerReady";
/// On a Machine: kubeadm has made it a node.
pub const BOOTSTRAPPED: &str = "Bootstrapped";
/// On a Machine: its Node is Ready.
pub const NODE_READY: &str = "NodeReady";

/// On a Machine of a Cluster with `images`: its node has them.
pub const IMAGES_LOADED: &str = "ImagesLoaded";

/// On a Source: its root is there and can be read.
pub const AVAILABLE: &str = "Available";
/// On a Source: every file was applied as it is now.
pub const SETTLED: &str = "Settled";
/// On a Source: deletions or recreations wait for an approval.
pub const HELD: &str = "Held";

/// Why nothing happens right now: the typed answer, in status and in events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// One word in CamelCase, such as `Bootstrapping` or `ImagePulling`.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// Since when it is waited for this.
    pub since: Time,
}

/// What a condition should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Type, one of the constants here.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Holds,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows: the default for everything not seen.
    Unknown,
}

impl Holds {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Sets one condition, in place. The transition time moves only when the status does (API conventions, "Typical status
/// properties").
pub fn set(conditions: &mut Vec<Condition>, verdict: &Verdict, generation: Option<i64>, now: Timestamp) {
    let status = verdict.status.as_str();
    let previous = conditions.iter().find(|condition| condition.type_ == verdict.type_);
    let since = match previous {
        Some(previous) if previous.status == status => previous.last_transition_time.clone(),
        // Kubernetes stores seconds; storing more would make an equal time look changed after a round.
        _ => Time(whole_seconds(now)),
    };
    let condition = Condition {
        type_: verdict.type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|condition| condition.type_ == verdict.type_) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}

/// The condition of a type.
#[must_use]
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is there and True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// A time stamp as Kubernetes stores it.
#[must_use]
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let verdict = |status, reason| Verdict { type_: READY, status, reason, message: String::new() };
        let mut conditions = Vec::new();
        set(&mut conditions, &verdict(Holds::False, "A"), Some(1), at(10));
        set(&mut conditions, &verdict(Holds::False, "B"), Some(2), at(20));
        assert_eq!(conditions[0].last_transition_time.0, at(10));
        assert_eq!(conditions[0].reason, "B");
        set(&mut conditions, &verdict(Holds::True, "C"), Some(2), at(30));
        assert_eq!(conditions[0].last_transition_time.0, at(30));
        assert_eq!(conditions.len(), 1);
    }
}
