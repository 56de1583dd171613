//! Delete: at once, or marked and left to finalizers, grace and dependents. Decided inside the transaction.

use bytes::Bytes;
use serde_json::{Value, json};

use super::update::holds_content;
use super::{Write, pipeline, to_served};
use crate::apiserver::admission::{Draft, Operation};
use crate::apiserver::object::{
    FOREGROUND, ORPHAN, finalizers, grace_seconds, is_deleting, later, meta, meta_value, rfc3339, set_meta,
};
use crate::apiserver::request::body;
use crate::apiserver::request::query::{self, Query, option_fault, unsupported};
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Stored, Txn};

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after it.
    Background,
    /// It goes after them.
    Foreground,
    /// They stay.
    Orphan,
}

/// `DeleteOptions`, from body or query.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub propagation: Option<Propagation>,
    pub grace_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads options from the body where there is one, else from the query; both may ask for a dry run.
    pub fn parse(query: &Query, content_type: Option<&str>, bytes: &Bytes) -> Result<Self, ApiError> {
        let mut options =
            if bytes.is_empty() { Self::from_query(query)? } else { Self::from_body(content_type, bytes)? };
        options.dry_run |= query::dry_run(&query.all("dryRun"), "DeleteOptions")?;
        if options.grace_seconds.is_some_and(|seconds| seconds < 0) {
            let message = "Invalid value: must be greater than or equal to 0";
            return Err(option_fault("DeleteOptions", "gracePeriodSeconds", "FieldValueInvalid", message));
        }
        Ok(options)
    }

    fn from_query(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            propagation: propagation(query.get("propagationPolicy"), query.flag("orphanDependents")?)?,
            grace_seconds: query
                .number("gracePeriodSeconds")?
                .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
            ..Self::default()
        })
    }

    fn from_body(content_type: Option<&str>, bytes: &Bytes) -> Result<Self, ApiError> {
        Self::from_value(&body::object(content_type, bytes)?)
    }

    /// Reads options from an object.
    pub fn from_value(value: &Value) -> Result<Self, ApiError> {
        const KNOWN: [&str; 8] = [
            "apiVersion",
            "kind",
            "dryRun",
            "gracePeriodSeconds",
            "orphanDependents",
            "preconditions",
            "propagationPolicy",
            "ignoreStoreReadErrorWithClusterBreakingPotential",
        ];
        if let Some(unknown) = value.as_object().and_then(|map| map.keys().find(|key| !KNOWN.contains(&key.as_str()))) {
            return Err(ApiError::bad_request(format!("unknown field {unknown:?} in DeleteOptions")));
        }
        if value.get("ignoreStoreReadErrorWithClusterBreakingPotential").and_then(Value::as_bool) == Some(true) {
            let field = "ignoreStoreReadErrorWithClusterBreakingPotential";
            return Err(option_fault("DeleteOptions", field, "FieldValueForbidden", "Forbidden: not supported"));
        }
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let preconditions = value.get("preconditions").cloned().unwrap_or_default();
        let dry: Vec<&str> =
            value.get("dryRun").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        Ok(Self {
            propagation: propagation(
                value.get("propagationPolicy").and_then(Value::as_str),
                value.get("orphanDependents").and_then(Value::as_bool),
            )?,
            grace_seconds: value.get("gracePeriodSeconds").and_then(Value::as_i64),
            uid: text(&preconditions, "uid"),
            resource_version: text(&preconditions, "resourceVersion"),
            dry_run: query::dry_run(&dry, "DeleteOptions")?,
        })
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, ApiError> {
    match (policy, orphan) {
        (Some(_), Some(_)) => Err(option_fault(
            "DeleteOptions",
            "propagationPolicy",
            "FieldValueInvalid",
            "Invalid value: orphanDependents and deletionPropagation cannot be both set",
        )),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some(other), None) => Err(unsupported(
            "DeleteOptions",
            "propagationPolicy",
            other,
            "\"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        )),
        (None, None) => Ok(None),
    }
}

/// What a deletion came to.
#[derive(Clone, Debug)]
pub(crate) struct Deleted {
    /// The object, in the form of the kind asked for: as it was last, or as it waits to go.
    pub object: Value,
    /// It is gone; else it is marked and waits.
    pub gone: bool,
    pub warnings: Vec<String>,
}

/// Deletes one object.
pub(crate) fn delete(txn: &mut Txn<'_>, write: &Write, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let place = write.place(&write.name);
    let Some(stored) = txn.object(&place)? else { return Err(ApiError::not_found(write.kind(), &write.name)) };
    check_preconditions(write, &stored, options)?;
    let mut warnings = Vec::new();
    let first = !is_deleting(&stored.value);
    if first {
        let mut view = to_served(write.kind(), stored.value.clone());
        let old = view.clone();
        warnings = pipeline::admit(txn, write, Operation::Delete, Some(&old), &mut Draft::of(&mut view))?;
    }
    let mut object = stored.value.clone();
    set_dependents_finalizer(&mut object, options.propagation);
    let grace = grace(write, &stored.value, options);
    let gone = finalizers(&object).is_empty() && grace == 0 && !(write.is_namespace() && holds_content(&object));
    if !gone {
        mark(txn, write, &mut object, first, grace);
    }
    if !options.dry_run {
        if gone {
            txn.remove(&place, &stored, &mut object)?;
        } else if object != stored.value {
            txn.put(&place, Some(&stored), &mut object)?;
        }
    }
    Ok(Deleted { object: to_served(write.kind(), object), gone, warnings })
}

fn check_preconditions(write: &Write, stored: &Stored, options: &DeleteOptions) -> Result<(), ApiError> {
    let checks = [("UID", &options.uid, "uid"), ("ResourceVersion", &options.resource_version, "resourceVersion")];
    for (what, wanted, field) in checks {
        let found = meta(&stored.value, field);
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been deleted and then recreated"
            );
            return Err(ApiError::conflict(write.kind(), &write.name, &why));
        }
    }
    Ok(())
}

/// A policy that is named puts its finalizer and takes away the other; without one, what the object has stays.
fn set_dependents_finalizer(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let others = finalizers(object).into_iter().filter(|name| ![FOREGROUND, ORPHAN].contains(name));
    let list: Vec<&str> = others.chain(wanted).collect();
    let list = if list.is_empty() { None } else { Some(json!(list)) };
    if list.as_ref() != meta_value(object, "finalizers") {
        set_meta(object, "finalizers", list);
    }
}

/// Seconds of grace that are left to give: never more than a deletion in progress has.
fn grace(write: &Write, stored: &Value, options: &DeleteOptions) -> i64 {
    let Some(default) = write.kind().grace.as_ref().map(|grace| i64::from(grace(stored))) else { return 0 };
    // A kind's 0 for this object (a Pod that no node runs) is final.
    let asked = if default == 0 { 0 } else { options.grace_seconds.unwrap_or(default) };
    if is_deleting(stored) { asked.min(grace_seconds(stored)) } else { asked }
}

fn mark(txn: &Txn<'_>, write: &Write, object: &mut Value, first: bool, grace: i64) {
    if first || grace != grace_seconds(object) {
        set_meta(object, "deletionTimestamp", Some(json!(rfc3339(later(txn.now, grace)))));
        set_meta(object, "deletionGracePeriodSeconds", Some(json!(grace)));
    }
    if first {
        // Marking counts as a change of desire (registry/rest/delete.go).
        if let Some(generation) = meta_value(object, "generation").and_then(Value::as_i64) {
            set_meta(object, "generation", Some(json!(generation + 1)));
        }
        if write.is_namespace() {
            object["status"] = json!({ "phase": "Terminating" });
        }
    }
}
