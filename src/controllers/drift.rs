//! What differs from what Kina made, in containers and networks: told apart from what is only not there yet.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::cluster::{Drift, DriftLayer, DriftMode, Severity};
use crate::api::conditions::whole_seconds;
use crate::runtime::ContainerState;

/// One difference, as a planner finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub layer: DriftLayer,
    /// What kind of object: `container`, `volume`, `network`.
    pub what: Cow<'static, str>,
    /// Its name, where it is not the one of the object that it is told of.
    pub name: Option<String>,
    /// What differs.
    pub field: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wanted.
    pub desired: String,
    /// What is.
    pub observed: String,
    /// What is done about it where it is repaired.
    pub repair: Repair,
}

/// What is done about a difference where drift is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Started again.
    Restart,
    /// Made anew, with its data kept.
    Replace,
    /// Set again.
    Reset,
    /// Nothing: it is only told.
    None,
}

impl Finding {
    /// Something that was there is gone.
    #[must_use]
    pub fn gone(what: &'static str) -> Self {
        let layer = if what == "network" { DriftLayer::Network } else { DriftLayer::Container };
        Self {
            layer,
            what: what.into(),
            name: None,
            field: "state",
            severity: Severity::Critical,
            desired: "present".to_owned(),
            observed: "gone".to_owned(),
            repair: Repair::Replace,
        }
    }

    /// A container that should run does not.
    #[must_use]
    pub fn stopped(state: ContainerState) -> Self {
        let observed = match state {
            ContainerState::Created => "created, not started".to_owned(),
            ContainerState::Stopped { exit_code: Some(code) } => format!("stopped with exit code {code}"),
            ContainerState::Stopped { exit_code: None } => "stopped".to_owned(),
            ContainerState::Running => "running".to_owned(),
            ContainerState::Unknown => "unknown".to_owned(),
        };
        Self {
            layer: DriftLayer::Container,
            what: "container".into(),
            name: None,
            field: "state",
            severity: Severity::Critical,
            desired: "running".to_owned(),
            observed,
            repair: Repair::Restart,
        }
    }

    /// A container was changed by somebody else.
    #[must_use]
    pub fn altered(field: &'static str, wanted: &str, seen: &str) -> Self {
        Self {
            layer: DriftLayer::Container,
            what: "container".into(),
            name: None,
            field,
            severity: Severity::Warning,
            desired: wanted.to_owned(),
            observed: seen.to_owned(),
            repair: Repair::Replace,
        }
    }

    /// A network was changed by somebody else; it is made anew only with everything in it.
    #[must_use]
    pub fn network_altered(wanted: &str, seen: &str) -> Self {
        Self {
            layer: DriftLayer::Network,
            what: "network".into(),
            name: None,
            field: "subnet",
            severity: Severity::Critical,
            desired: wanted.to_owned(),
            observed: seen.to_owned(),
            repair: Repair::None,
        }
    }

    /// A machine has no Node.
    #[must_use]
    pub fn missing_node(repair: Repair) -> Self {
        Self {
            layer: DriftLayer::Kubernetes,
            what: "node".into(),
            name: None,
            field: "state",
            severity: Severity::Critical,
            desired: "registered".to_owned(),
            observed: "missing".to_owned(),
            repair,
        }
    }

    /// A Node that is not Ready for too long.
    #[must_use]
    pub fn node_not_ready(message: &str, repair: Repair) -> Self {
        Self {
            layer: DriftLayer::Kubernetes,
            what: "node".into(),
            name: None,
            field: "Ready",
            severity: Severity::Critical,
            desired: "True".to_owned(),
            observed: if message.is_empty() { "not Ready".to_owned() } else { message.to_owned() },
            repair,
        }
    }

    /// Labels or taints that Kina set were changed by somebody else.
    #[must_use]
    pub fn node_changed() -> Self {
        Self {
            layer: DriftLayer::Kubernetes,
            what: "node".into(),
            name: None,
            field: "labels and taints",
            severity: Severity::Warning,
            desired: "as in the spec".to_owned(),
            observed: "changed".to_owned(),
            repair: Repair::Reset,
        }
    }

    /// A node that no Machine stands behind. It is somebody's, and left alone.
    #[must_use]
    pub fn foreign_node(name: &str) -> Self {
        Self {
            layer: DriftLayer::Kubernetes,
            what: "node".into(),
            name: Some(name.to_owned()),
            field: "owner",
            severity: Severity::Info,
            desired: "a machine of this cluster".to_owned(),
            observed: "somebody else".to_owned(),
            repair: Repair::None,
        }
    }

    /// The context in the kubeconfig was removed or changed.
    #[must_use]
    pub fn context(name: &str, observed: &str) -> Self {
        Self {
            layer: DriftLayer::Kubeconfig,
            what: "context".into(),
            name: Some(name.to_owned()),
            field: "entry",
            severity: Severity::Warning,
            desired: "as Kina wrote it".to_owned(),
            observed: observed.to_owned(),
            repair: Repair::Reset,
        }
    }

    /// An object that Kina installed in the cluster was removed or changed.
    #[must_use]
    pub fn addon(kind: &str, name: &str, observed: &str) -> Self {
        let gone = observed == "gone";
        Self {
            layer: DriftLayer::Addons,
            what: kind.to_ascii_lowercase().into(),
            name: Some(name.to_owned()),
            field: if gone { "state" } else { "fields" },
            severity: if gone { Severity::Critical } else { Severity::Warning },
            desired: "as Kina applied it".to_owned(),
            observed: observed.to_owned(),
            repair: Repair::Reset,
        }
    }

    /// As status lists it; the time since when comes from what status listed before.
    #[must_use]
    pub fn told(&self, name: &str, mode: DriftMode, before: &[Drift], now: Timestamp) -> Drift {
        let object = format!("{} {}", self.what, self.name.as_deref().unwrap_or(name));
        let same =
            before.iter().find(|old| old.object == object && old.field == self.field && old.observed == self.observed);
        let action = match (mode, self.repair) {
            (DriftMode::Enforce, Repair::Restart) => "restarting",
            (DriftMode::Enforce, Repair::Replace) => "replacing, with its data kept",
            (DriftMode::Enforce, Repair::Reset) => "setting again",
            (DriftMode::Enforce, Repair::None) | (DriftMode::Audit, _) => "reported",
            (DriftMode::Monitor, _) => "counted",
        };
        Drift {
            layer: self.layer,
            object,
            field: self.field.to_owned(),
            severity: self.severity,
            desired: self.desired.clone(),
            observed: self.observed.clone(),
            since: same.map_or_else(|| Time(whole_seconds(now)), |old| old.since.clone()),
            action: action.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_keeps_its_beginning_while_it_lasts_and_tells_what_is_done() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let finding = Finding::stopped(ContainerState::Stopped { exit_code: Some(137) });
        let first = finding.told("dev-a-0", DriftMode::Enforce, &[], at("2026-01-01T00:00:00Z"));
        let later = finding.told("dev-a-0", DriftMode::Audit, std::slice::from_ref(&first), at("2026-01-01T01:00:00Z"));
        assert_eq!(later.since, first.since);
        assert_eq!((first.object.as_str(), first.action.as_str()), ("container dev-a-0", "restarting"));
        assert_eq!((later.observed.as_str(), later.action.as_str()), ("stopped with exit code 137", "reported"));
        let counted = finding.told("dev-a-0", DriftMode::Monitor, &[], at("2026-01-01T01:00:00Z"));
        assert_eq!(counted.action, "counted");
    }
}
