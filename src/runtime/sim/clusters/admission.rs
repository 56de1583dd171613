//! The kinds that simulated clusters serve, with what a cluster sets by itself when objects are created.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::families;
use super::kubelets::Pulse;
use super::leader::Leaders;
use super::model;
use super::services;
use crate::apiserver::admission::{Admission, Admitted, Denied, Draft, Operation, Request};
use crate::apiserver::core;
use crate::apiserver::kind::{Kind, View};

/// The built-in kinds, completed.
pub(super) fn kinds(pulse: &Arc<Pulse>, leaders: &Arc<Leaders>) -> Vec<Kind> {
    let complete = |mut kind: Kind| {
        match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
            ("", "nodes") => {
                let pulse = Arc::clone(pulse);
                let view: View = Arc::new(move |tenant, node| pulse.show_node(tenant, node));
                kind.view = Some(view);
            }
            ("coordination.k8s.io", "leases") => {
                let (pulse, leaders) = (Arc::clone(pulse), Arc::clone(leaders));
                let view: View = Arc::new(move |tenant, lease| {
                    pulse.show_lease(tenant, lease);
                    leaders.show(tenant, lease);
                });
                kind.view = Some(view);
            }
            ("", "pods") => kind.admission.push(Arc::new(PodDefaults)),
            ("", "services") => kind.admission.push(Arc::new(ServiceAddress)),
            ("apps", "deployments" | "replicasets") => kind.admission.push(Arc::new(Replicas)),
            _ => {}
        }
        kind
    };
    core::workload().into_iter().map(complete).collect()
}

fn default(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(map) = object
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value);
    }
}

/// What defaulting and the admission plugins `ServiceAccount` and `DefaultTolerationSeconds` set on a pod.
struct PodDefaults;

impl Admission for PodDefaults {
    fn admit(&self, request: &Request<'_>, pod: &mut Draft<'_>) -> Result<Admitted, Denied> {
        if request.operation == Operation::Create {
            complete_pod(pod);
        }
        Ok(Admitted::default())
    }
}

/// Sets what a pod's author left to the cluster.
pub(super) fn complete_pod(pod: &mut Value) {
    default(pod, "spec", json!({}));
    default(pod, "status", json!({}));
    default(&mut pod["status"], "phase", json!("Pending"));
    default(&mut pod["status"], "qosClass", json!("BestEffort"));
    let spec = &mut pod["spec"];
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "serviceAccountName", json!("default"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "tolerations", json!([]));
    let Some(tolerations) = spec["tolerations"].as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
            let key_fits = text("key") == key || (text("key").is_empty() && text("operator") == "Exists");
            key_fits && matches!(text("effect"), "" | "NoExecute")
        };
        if !tolerations.iter().any(covers) {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// One replica, where none is asked for.
struct Replicas;

impl Admission for Replicas {
    fn admit(&self, _request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied> {
        if object.get("spec").is_some_and(Value::is_object) {
            default(&mut object["spec"], "replicas", json!(1));
        }
        Ok(Admitted::default())
    }
}

/// Gives a Service its families, and an address of each from the cluster's service subnets.
struct ServiceAddress;

impl Admission for ServiceAddress {
    fn admit(&self, request: &Request<'_>, service: &mut Draft<'_>) -> Result<Admitted, Denied> {
        if request.operation == Operation::Delete {
            return Ok(Admitted::default());
        }
        default(service, "spec", json!({}));
        let spec = &mut service["spec"];
        default(spec, "type", json!("ClusterIP"));
        default(spec, "sessionAffinity", json!("None"));
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default(port, "protocol", json!("TCP"));
            let number = port.get("port").cloned().unwrap_or_default();
            default(port, "targetPort", number);
        }
        let config = request.reader.get(&model::core("configmaps"), Some("kube-system"), "kubeadm-config");
        let subnets = families::service_subnets(config.as_ref());
        let old = request.old.and_then(|old| old.get("spec"));
        let mut taken = None;
        let free = |subnet| services::free_address(subnet, taken.get_or_insert_with(|| addresses(request)));
        services::place(spec, old, &subnets, free).map_err(|fault| Denied::Invalid { faults: vec![fault] })?;
        Ok(Admitted::default())
    }
}

/// What Services have.
fn addresses(request: &Request<'_>) -> BTreeSet<String> {
    let of = |service: &Value| service.pointer("/spec/clusterIPs").and_then(Value::as_array).cloned();
    let services = request.reader.list(&model::core("services"));
    let all = services.iter().filter_map(of).flatten();
    all.filter_map(|address| Some(address.as_str()?.to_owned())).collect()
}
