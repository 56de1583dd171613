//! What differs from what Kina made, in containers and networks: told apart from what is only not there yet.

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
    /// What kind of object: `container`, `volume`, `network`; its name is added when it is told.
    pub what: &'static str,
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
            what,
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
            what: "container",
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
            what: "container",
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
            what: "network",
            field: "subnet",
            severity: Severity::Critical,
            desired: wanted.to_owned(),
            observed: seen.to_owned(),
            repair: Repair::None,
        }
    }

    /// A machine has no Node.
    #[must_use]
    pub fn missing_node() -> Self {
        Self {
            layer: DriftLayer::Kubernetes,
            what: "node",
            field: "state",
            severity: Severity::Critical,
            desired: "registered".to_owned(),
            observed: "missing".to_owned(),
            repair: Repair::None,
        }
    }

    /// Labels or taints that Kina set were changed by somebody else.
    #[must_use]
    pub fn node_changed() -> Self {
        Self {
            layer: DriftLayer::Kubernetes,
            what: "node",
            field: "labels and taints",
            severity: Severity::Warning,
            desired: "as in the spec".to_owned(),
            observed: "changed".to_owned(),
            repair: Repair::Reset,
        }
    }

    /// As status lists it; the time since when comes from what status listed before.
    #[must_use]
    pub fn told(&self, name: &str, mode: DriftMode, before: &[Drift], now: Timestamp) -> Drift {
        let object = format!("{} {name}", self.what);
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
