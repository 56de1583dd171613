//! The built-in kinds: what every Kubernetes API server has and a client expects.
//!
//! Schemas are made from `k8s-openapi`'s types once a process and shared by every server in it.

mod columns;
mod events;
mod merge;
mod reviews;
mod structural;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1 as events_v1;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::schemars::JsonSchema;
use serde_json::{Value, json};

pub use events::{event_to_core, event_to_events};
pub(crate) use structural::structural;

use super::kind::{FieldFault, Flavor, Kind, Printer, ResourceId, ScalePaths, Scope, StoredAs};
use super::schema::Schema;

/// What Kina's own API serves besides its own kinds: Event (in both groups), Lease, Namespace, and the reviews by which
/// users ask what they may do and who they are.
pub fn control() -> Vec<Kind> {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    let own = || vec![namespace(), event(), event_in_group(), lease()].into_iter().chain(reviews::kinds()).collect();
    KINDS.get_or_init(own).clone()
}

/// What a simulated cluster serves: [`control`], and Node, Pod, Service, ConfigMap, Secret, ServiceAccount,
/// Deployment, ReplicaSet, DaemonSet, PodDisruptionBudget and NetworkPolicy.
pub fn workload() -> Vec<Kind> {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    let own = KINDS.get_or_init(|| {
        vec![
            node(),
            pod(),
            service(),
            config_map(),
            secret(),
            service_account(),
            deployment(),
            replica_set(),
            daemon_set(),
            pod_disruption_budget(),
            network_policy(),
        ]
    });
    control().into_iter().chain(own.iter().cloned()).collect()
}

/// What the kinds have in common; the rest is set by the callers.
fn built_in<T: JsonSchema>(group: &str, kind: &str, scope: Scope, short_names: &[&str], printer: Printer) -> Kind {
    let singular = kind.to_lowercase();
    Kind {
        resource: ResourceId { group: group.into(), version: "v1".into(), plural: format!("{singular}s") },
        kind: kind.into(),
        singular,
        short_names: short_names.iter().map(|name| (*name).into()).collect(),
        categories: Vec::new(),
        scope,
        flavor: Flavor::BuiltIn,
        schema: Arc::new(Schema::of(schema_of::<T>())),
        has_status: false,
        scale: None,
        evictable: false,
        answer: None,
        columns: Vec::new(),
        printer: Some(printer),
        selectable_fields: Vec::new(),
        admission: Vec::new(),
        validation: None,
        stored_as: None,
        ttl: None,
        grace: None,
        status_on_create: false,
        first_status: None,
        returns_deleted: false,
        view: None,
    }
}

/// The schema of a built-in kind. In a status nothing is required: `required` stands for fields that Go always
/// writes, and a server takes a status without them.
fn schema_of<T: JsonSchema>() -> Value {
    let mut schema = structural::<T>();
    if let Some(status) = schema.pointer_mut("/properties/status") {
        structural::require_nothing(status);
    }
    schema
}

impl Kind {
    /// A `/status`, with what it is at first: the fields that Go writes even when they are zero.
    fn with_status(mut self, first: Value) -> Self {
        (self.has_status, self.first_status) = (true, Some(first));
        self
    }

    /// As `ReturnDeletedObject` has it in `pkg/registry/core`.
    fn returning_deleted(mut self) -> Self {
        self.returns_deleted = true;
        self
    }

    fn in_all(mut self) -> Self {
        self.categories = vec!["all".into()];
        self
    }

    /// `/scale`, where workloads of `apps` have it.
    fn scalable(mut self) -> Self {
        self.scale = Some(ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: Some(".spec.selector".into()),
        });
        self
    }

    /// Fields that selectors may name, as `pkg/registry/*/strategy.go` lists them.
    fn selectable(mut self, fields: &[&str]) -> Self {
        self.selectable_fields = fields.iter().map(|field| format!(".{field}")).collect();
        self
    }
}

fn namespace() -> Kind {
    built_in::<core::Namespace>("", "Namespace", Scope::Cluster, &["ns"], columns::namespace())
        .with_status(json!({"phase": "Active"}))
        .selectable(&["status.phase"])
}

/// How long events live (kube-apiserver's `--event-ttl`).
const EVENT_TTL: Duration = Duration::from_secs(3600);

fn event() -> Kind {
    let mut kind = built_in::<core::Event>("", "Event", Scope::Namespaced, &["ev"], columns::event());
    kind.ttl = Some(EVENT_TTL);
    kind.selectable(&[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ])
}

fn event_in_group() -> Kind {
    let mut kind = built_in::<events_v1::Event>("events.k8s.io", "Event", Scope::Namespaced, &["ev"], columns::event());
    kind.ttl = Some(EVENT_TTL);
    kind.stored_as =
        Some(StoredAs { resource: event().resource, to_stored: event_to_core, from_stored: event_to_events });
    kind.selectable(&[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ])
}

fn lease() -> Kind {
    built_in::<coordination::Lease>("coordination.k8s.io", "Lease", Scope::Namespaced, &[], columns::lease())
}

fn node() -> Kind {
    let mut kind = built_in::<core::Node>("", "Node", Scope::Cluster, &["no"], columns::node());
    // A kubelet registers itself with its capacity (nodeStrategy.PrepareForCreate leaves the status).
    kind.status_on_create = true;
    kind.with_status(json!({})).selectable(&["spec.unschedulable"])
}

/// podStrategy.CheckGracefulDelete: a Pod that no kubelet runs needs no grace.
fn pod_grace(pod: &Value) -> u32 {
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    if unscheduled || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return 0;
    }
    pod["spec"]["terminationGracePeriodSeconds"].as_u64().and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(30)
}

fn pod() -> Kind {
    let mut kind = built_in::<core::Pod>("", "Pod", Scope::Namespaced, &["po"], columns::pod());
    kind.grace = Some(Arc::new(pod_grace));
    kind.evictable = true;
    kind.with_status(json!({"phase": "Pending"})).returning_deleted().in_all().selectable(&[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ])
}

fn service() -> Kind {
    built_in::<core::Service>("", "Service", Scope::Namespaced, &["svc"], columns::service())
        .with_status(json!({"loadBalancer": {}}))
        .returning_deleted()
        .in_all()
        .selectable(&["spec.clusterIP", "spec.type"])
}

fn config_map() -> Kind {
    built_in::<core::ConfigMap>("", "ConfigMap", Scope::Namespaced, &["cm"], columns::config_map())
}

fn secret() -> Kind {
    built_in::<core::Secret>("", "Secret", Scope::Namespaced, &[], columns::secret()).selectable(&["type"])
}

fn service_account() -> Kind {
    built_in::<core::ServiceAccount>("", "ServiceAccount", Scope::Namespaced, &["sa"], columns::service_account())
        .returning_deleted()
}

fn deployment() -> Kind {
    built_in::<apps::Deployment>("apps", "Deployment", Scope::Namespaced, &["deploy"], columns::deployment())
        .with_status(json!({}))
        .scalable()
        .in_all()
}

fn replica_set() -> Kind {
    built_in::<apps::ReplicaSet>("apps", "ReplicaSet", Scope::Namespaced, &["rs"], columns::replica_set())
        .with_status(json!({"replicas": 0}))
        .scalable()
        .in_all()
        .selectable(&["status.replicas"])
}

fn daemon_set() -> Kind {
    built_in::<apps::DaemonSet>("apps", "DaemonSet", Scope::Namespaced, &["ds"], columns::daemon_set())
        .with_status(json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0
        }))
        .in_all()
}

fn pod_disruption_budget() -> Kind {
    let printer = columns::pod_disruption_budget();
    let kind =
        built_in::<policy::PodDisruptionBudget>("policy", "PodDisruptionBudget", Scope::Namespaced, &["pdb"], printer);
    let none = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    kind.with_status(none).with_validation(Arc::new(one_bound))
}

fn network_policy() -> Kind {
    let printer = columns::network_policy();
    let mut kind = built_in::<networking::NetworkPolicy>(
        "networking.k8s.io",
        "NetworkPolicy",
        Scope::Namespaced,
        &["netpol"],
        printer,
    );
    kind.resource.plural = "networkpolicies".into();
    kind
}

/// `ValidatePodDisruptionBudgetSpec`: a budget has one bound at most.
fn one_bound(budget: &Value) -> Vec<FieldFault> {
    let set = |name: &str| budget["spec"].get(name).is_some_and(|bound| !bound.is_null());
    if !(set("minAvailable") && set("maxUnavailable")) {
        return Vec::new();
    }
    vec![FieldFault {
        field: "spec".into(),
        reason: "FieldValueInvalid",
        message: "Invalid value: minAvailable and maxUnavailable cannot be both set".into(),
    }]
}
