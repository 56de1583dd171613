//! `/eviction`: a deletion that a PodDisruptionBudget may forbid (`pkg/registry/core/pod/storage/eviction.go`).
//!
//! Budget and Pod change in one transaction, so what was granted is never granted twice: nothing has to be remembered in
//! the budget's `disruptedPods`.

use serde_json::{Value, json};

use super::delete::{DeleteOptions, Deleted, delete};
use super::{Part, Write};
use crate::apiserver::kind::ResourceId;
use crate::apiserver::labels;
use crate::apiserver::object::{from_bytes, is_deleting, meta, meta_value, rfc3339};
use crate::apiserver::registry::Served;
use crate::apiserver::request::query::WriteOptions;
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Place, Txn, resource_prefix};

/// What an Eviction of `name` asks for.
///
/// # Errors
/// 400 where the body is none, or names another Pod.
pub(crate) fn options(eviction: &Value, name: &str, dry_run: bool) -> Result<DeleteOptions, ApiError> {
    let text = |field: &str| eviction.get(field).and_then(Value::as_str).unwrap_or_default();
    // As everywhere, what a body leaves out is what the path says. The older version means the same, and is taken as
    // Kubernetes takes it (`EvictionREST.AcceptsGroupVersion`): kubectl before 1.22 knows no other.
    if !matches!((text("apiVersion"), text("kind")), ("" | "policy/v1" | "policy/v1beta1", "" | "Eviction")) {
        let found = format!("{} {}", text("apiVersion"), text("kind"));
        return Err(ApiError::bad_request(format!("the body is a {found}: expected a policy/v1 Eviction")));
    }
    if meta(eviction, "name") != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = match eviction.get("deleteOptions") {
        None | Some(Value::Null) => DeleteOptions::default(),
        Some(found) => DeleteOptions::from_value(found)?,
    };
    options.dry_run |= dry_run;
    Ok(options)
}

/// Deletes a Pod, unless that breaks a budget.
pub(crate) fn evict(txn: &mut Txn<'_>, write: &Write, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let place = write.place(&write.name);
    let Some(pod) = txn.object(&place)? else { return Err(ApiError::not_found(write.kind(), &write.name)) };
    let pod = pod.value;
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    // Nothing that runs is lost with these.
    let idle = is_deleting(&pod) || matches!(phase, "Succeeded" | "Failed" | "Pending");
    if !idle && let Some((served, budget)) = budget_of(txn, write, &pod)? {
        spend(txn, write, options.dry_run, served, budget, &pod)?;
    }
    delete(txn, write, options)
}

/// The budget that selects a Pod.
fn budget_of(txn: &Txn<'_>, write: &Write, pod: &Value) -> Result<Option<(Served, Value)>, ApiError> {
    let id = ResourceId { group: "policy".into(), version: "v1".into(), plural: "poddisruptionbudgets".into() };
    let Some(served) = txn.kinds.get(&id).cloned() else { return Ok(None) };
    let prefix = resource_prefix(&write.tenant, &served.stored, write.namespace.as_deref());
    let mut found = None;
    for (_, bytes) in txn.scan(&prefix, "", usize::MAX)? {
        let budget: Value = from_bytes(&bytes)?;
        // Without a selector a budget selects nothing.
        let selector = budget.pointer("/spec/selector").filter(|selector| selector.is_object());
        if selector.map(|selector| labels::selects(selector, pod)).transpose()?.unwrap_or(false)
            && found.replace((served.clone(), budget)).is_some()
        {
            return Err(ApiError::internal(
                "this pod has more than one PodDisruptionBudget, which the eviction subresource does not support",
            ));
        }
    }
    Ok(found)
}

/// Takes one disruption from a budget, or says why it gives none.
fn spend(
    txn: &mut Txn<'_>,
    write: &Write,
    dry_run: bool,
    served: Served,
    mut budget: Value,
    pod: &Value,
) -> Result<(), ApiError> {
    let name = meta(&budget, "name").to_owned();
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    let (allowed, current, desired) = (count("disruptionsAllowed"), count("currentHealthy"), count("desiredHealthy"));
    if !is_ready(pod) {
        // A pod that is not healthy is not counted: it may go where enough others are.
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || (current >= desired && desired > 0) {
            return Ok(());
        }
    }
    let generation = meta_value(&budget, "generation").and_then(Value::as_i64).unwrap_or_default();
    if count("observedGeneration") < generation {
        // As Kubernetes does: in 10 seconds its controller has surely seen the budget.
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::budget_spent(REFUSED, cause, Some(10)));
    }
    if allowed <= 0 {
        return Err(ApiError::budget_spent(REFUSED, why(&budget, &name, current, desired), None));
    }
    budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
    if allowed == 1 {
        let conditions = budget["status"]["conditions"].as_array_mut().into_iter().flatten();
        for condition in conditions.filter(|condition| condition["type"] == "DisruptionAllowed") {
            condition["status"] = json!("False");
            condition["reason"] = json!("InsufficientPods");
            condition["lastTransitionTime"] = json!(rfc3339(txn.now));
        }
    }
    let place =
        Place { tenant: write.tenant.clone(), served, namespace: write.namespace.clone().unwrap_or_default(), name };
    let stored = txn.object(&place)?;
    if !dry_run {
        txn.put(&place, stored.as_ref(), &mut budget)?;
    }
    Ok(())
}

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

fn why(budget: &Value, name: &str, current: i64, desired: i64) -> String {
    let conditions = budget.pointer("/status/conditions").and_then(Value::as_array);
    let failed = conditions.into_iter().flatten().find(|condition| condition["reason"] == "SyncFailed");
    if let Some(failed) = failed {
        let message = failed["message"].as_str().unwrap_or_default();
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        );
    }
    if current <= desired {
        return format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently");
    }
    format!("The disruption budget {name} does not allow evicting pods currently")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// How an eviction is written down: as a deletion of the whole Pod.
pub(crate) fn as_deletion(mut write: Write, dry_run: bool) -> Write {
    write.part = Part::Whole;
    write.options = WriteOptions::for_deletion(dry_run);
    write
}
