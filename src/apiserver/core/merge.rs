//! How lists and maps of the built-in kinds merge, and what their fields default to.
//!
//! `k8s-openapi`'s schemas carry neither. The lists are those of `client-go/applyconfigurations/internal/internal.go`
//! (0.36), for the definitions that the kinds here reach; the defaults are those of `pkg/apis/*/v1/defaults.go`.

use serde_json::{Value, json};

/// Lists that merge item by item: definition (without `io.k8s.`), property, keys (none: a set of scalars).
const LISTS: &[(&str, &str, &[&str])] = &[
    ("api.apps.v1.DaemonSetStatus", "conditions", &["type"]),
    ("api.apps.v1.DeploymentStatus", "conditions", &["type"]),
    ("api.apps.v1.ReplicaSetStatus", "conditions", &["type"]),
    ("api.core.v1.Container", "env", &["name"]),
    ("api.core.v1.Container", "ports", &["containerPort", "protocol"]),
    ("api.core.v1.Container", "volumeDevices", &["devicePath"]),
    ("api.core.v1.Container", "volumeMounts", &["mountPath"]),
    ("api.core.v1.ContainerRestartRuleOnExitCodes", "values", &[]),
    ("api.core.v1.ContainerStatus", "allocatedResourcesStatus", &["name"]),
    ("api.core.v1.ContainerStatus", "volumeMounts", &["mountPath"]),
    ("api.core.v1.EphemeralContainer", "env", &["name"]),
    ("api.core.v1.EphemeralContainer", "ports", &["containerPort", "protocol"]),
    ("api.core.v1.EphemeralContainer", "volumeDevices", &["devicePath"]),
    ("api.core.v1.EphemeralContainer", "volumeMounts", &["mountPath"]),
    ("api.core.v1.NamespaceStatus", "conditions", &["type"]),
    ("api.core.v1.NodeAllocatableResourceClaimStatus", "containers", &[]),
    ("api.core.v1.NodeSpec", "podCIDRs", &[]),
    ("api.core.v1.NodeStatus", "addresses", &["type"]),
    ("api.core.v1.NodeStatus", "conditions", &["type"]),
    ("api.core.v1.PodSpec", "containers", &["name"]),
    ("api.core.v1.PodSpec", "ephemeralContainers", &["name"]),
    ("api.core.v1.PodSpec", "hostAliases", &["ip"]),
    ("api.core.v1.PodSpec", "imagePullSecrets", &["name"]),
    ("api.core.v1.PodSpec", "initContainers", &["name"]),
    ("api.core.v1.PodSpec", "resourceClaims", &["name"]),
    ("api.core.v1.PodSpec", "schedulingGates", &["name"]),
    ("api.core.v1.PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("api.core.v1.PodSpec", "volumes", &["name"]),
    ("api.core.v1.PodStatus", "conditions", &["type"]),
    ("api.core.v1.PodStatus", "podIPs", &["ip"]),
    ("api.core.v1.PodStatus", "resourceClaimStatuses", &["name"]),
    ("api.core.v1.ResourceRequirements", "claims", &["name"]),
    ("api.core.v1.ResourceStatus", "resources", &["resourceID"]),
    ("api.core.v1.ServiceAccount", "secrets", &["name"]),
    ("api.core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    ("api.core.v1.ServiceStatus", "conditions", &["type"]),
    ("api.discovery.v1.Endpoint", "addresses", &[]),
    ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", &[]),
    ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", &["uid"]),
];

/// Objects that are replaced as a whole, wherever they stand.
const ATOMIC: &[&str] = &[
    "api.core.v1.ConfigMapKeySelector",
    "api.core.v1.FileKeySelector",
    "api.core.v1.LocalObjectReference",
    "api.core.v1.NodeSelector",
    "api.core.v1.NodeSelectorTerm",
    "api.core.v1.ObjectFieldSelector",
    "api.core.v1.ObjectReference",
    "api.core.v1.ResourceFieldSelector",
    "api.core.v1.SecretKeySelector",
    "api.core.v1.TypedLocalObjectReference",
    "api.discovery.v1.EndpointPort",
    "apimachinery.pkg.apis.meta.v1.LabelSelector",
    "apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Maps that are replaced as a whole.
const ATOMIC_FIELDS: &[(&str, &str)] =
    &[("api.core.v1.PodSpec", "nodeSelector"), ("api.core.v1.ServiceSpec", "selector")];

/// Writes what is known of a definition into its schema. `name` is the definition's full name.
pub(super) fn annotate(name: &str, schema: &mut Value) {
    let Some(name) = name.strip_prefix("io.k8s.") else { return };
    if ATOMIC.contains(&name) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    for (_, property, keys) in LISTS.iter().filter(|(definition, ..)| *definition == name) {
        let Some(list) = schema.pointer_mut(&format!("/properties/{property}")) else { continue };
        list["x-kubernetes-patch-strategy"] = "merge".into();
        if let Some(first) = keys.first() {
            list["x-kubernetes-list-type"] = "map".into();
            list["x-kubernetes-list-map-keys"] = json!(keys);
            list["x-kubernetes-patch-merge-key"] = (*first).into();
        } else {
            list["x-kubernetes-list-type"] = "set".into();
        }
    }
    for (_, property) in ATOMIC_FIELDS.iter().filter(|(definition, _)| *definition == name) {
        if let Some(map) = schema.pointer_mut(&format!("/properties/{property}")) {
            map["x-kubernetes-map-type"] = "atomic".into();
        }
    }
    for (property, default) in defaults(name) {
        if let Some(field) = schema.pointer_mut(&format!("/properties/{property}")) {
            field["default"] = default;
        }
    }
}

/// The defaults of one definition that do not depend on other fields.
fn defaults(definition: &str) -> Vec<(&'static str, Value)> {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
    match definition {
        "api.apps.v1.DeploymentSpec" => vec![
            ("replicas", json!(1)),
            ("revisionHistoryLimit", json!(10)),
            ("progressDeadlineSeconds", json!(600)),
            ("strategy", rolling),
        ],
        "api.apps.v1.DeploymentStrategy" | "api.apps.v1.DaemonSetUpdateStrategy" => {
            vec![("type", json!("RollingUpdate"))]
        }
        "api.apps.v1.ReplicaSetSpec" => vec![("replicas", json!(1))],
        "api.apps.v1.DaemonSetSpec" => vec![
            ("revisionHistoryLimit", json!(10)),
            ("updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})),
        ],
        "api.core.v1.PodSpec" => vec![
            ("restartPolicy", json!("Always")),
            ("dnsPolicy", json!("ClusterFirst")),
            ("schedulerName", json!("default-scheduler")),
            ("securityContext", json!({})),
            ("terminationGracePeriodSeconds", json!(30)),
        ],
        "api.core.v1.Container" | "api.core.v1.EphemeralContainer" => vec![
            ("resources", json!({})),
            ("terminationMessagePath", json!("/dev/termination-log")),
            ("terminationMessagePolicy", json!("File")),
        ],
        "api.core.v1.ContainerPort" | "api.core.v1.ServicePort" => vec![("protocol", json!("TCP"))],
        "api.core.v1.Probe" => vec![
            ("failureThreshold", json!(3)),
            ("periodSeconds", json!(10)),
            ("successThreshold", json!(1)),
            ("timeoutSeconds", json!(1)),
        ],
        "api.core.v1.HTTPGetAction" => vec![("path", json!("/")), ("scheme", json!("HTTP"))],
        "api.core.v1.SecretVolumeSource" | "api.core.v1.ConfigMapVolumeSource" => vec![("defaultMode", json!(420))],
        "api.core.v1.ServiceSpec" => vec![
            ("type", json!("ClusterIP")),
            ("sessionAffinity", json!("None")),
            ("internalTrafficPolicy", json!("Cluster")),
        ],
        "api.core.v1.Secret" => vec![("type", json!("Opaque"))],
        "api.core.v1.NamespaceStatus" => vec![("phase", json!("Active"))],
        "api.core.v1.Namespace" => {
            vec![("spec", json!({"finalizers": ["kubernetes"]})), ("status", json!({"phase": "Active"}))]
        }
        "api.core.v1.PodStatus" => vec![("phase", json!("Pending"))],
        "api.core.v1.Pod" => vec![("status", json!({"phase": "Pending"}))],
        _ => Vec::new(),
    }
}
