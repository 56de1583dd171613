//! What every write goes through between the request and the store: the object is completed and checked by its
//! schema, admitted by the kind's functions, and checked as a whole.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Write;
use crate::apiserver::admission::{Operation, Request};
use crate::apiserver::kind::{FieldFault, Flavor};
use crate::apiserver::object::{copy_meta, finalizers, is_deleting, meta, meta_value, set_field};
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Txn, TxnReader};

/// Completes, admits and checks an object that is about to be stored. `old` is the stored object, for updates. Returns
/// the warnings of admission.
pub(crate) fn admit_and_check(
    txn: &Txn<'_>,
    write: &Write,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    complete(write, object);
    check(write, old, object)?;
    let before = object.clone();
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let warnings = admit(txn, write, operation, old, object)?;
    if *object != before {
        complete(write, object);
        check(write, old, object)?;
    }
    if let Some(validation) = &write.kind().validation {
        refuse(write, object, validation(object))?;
    }
    Ok(warnings)
}

fn complete(write: &Write, object: &mut Value) {
    set_field(object, "apiVersion", Some(json!(write.kind().resource.api_version())));
    set_field(object, "kind", Some(json!(write.kind().kind)));
}

fn check(write: &Write, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    let Some(old) = old.filter(|old| is_deleting(old)) else { return Ok(()) };
    let known = finalizers(old);
    let added: Vec<String> =
        finalizers(object).iter().filter(|name| !known.contains(name)).map(|name| format!("{name:?}")).collect();
    if added.is_empty() {
        return Ok(());
    }
    let fault = FieldFault {
        field: "metadata.finalizers".to_owned(),
        reason: "FieldValueForbidden",
        message: format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        ),
    };
    refuse(write, object, vec![fault])
}

fn refuse(write: &Write, object: &Value, faults: Vec<FieldFault>) -> Result<(), ApiError> {
    if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(write.kind(), meta(object, "name"), faults)) }
}

/// Asks the kind's admission functions.
pub(crate) fn admit(
    txn: &Txn<'_>,
    write: &Write,
    operation: Operation,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    let reader = TxnReader::new(txn, &write.tenant);
    for admission in &write.kind().admission {
        let name = meta(object, "name").to_owned();
        let request = Request {
            operation,
            subresource: write.subresource(),
            resource: &write.kind().resource,
            name: &name,
            namespace: write.namespace.as_deref(),
            user: &write.user,
            old,
            dry_run: write.options.dry_run,
            field_manager: write.options.field_manager.as_deref(),
            reader: &reader,
        };
        let answer =
            admission.admit(&request, object).map_err(|denied| ApiError::denied(write.kind(), &name, denied))?;
        warnings.extend(answer.warnings);
    }
    reader.finish()?;
    Ok(warnings)
}

/// The generation after a change: one more where something outside metadata and status differs. Built-in kinds without
/// a status (ConfigMap, Secret, Lease, …) have none.
pub(crate) fn next_generation(write: &Write, live: &Value, new: &Value) -> Option<Value> {
    let current = meta_value(live, "generation").and_then(Value::as_i64);
    if current.is_none() && !has_generation(write) {
        return None;
    }
    let current = current.unwrap_or(1);
    Some(json!(if same_desire(live, new) { current } else { current + 1 }))
}

pub(crate) fn has_generation(write: &Write) -> bool {
    write.kind().flavor == Flavor::Custom || write.kind().has_status
}

fn same_desire(live: &Value, new: &Value) -> bool {
    let (Value::Object(live), Value::Object(new)) = (live, new) else { return live == new };
    let desire = |key: &&String| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status");
    live.keys().filter(desire).eq(new.keys().filter(desire))
        && live.iter().filter(|(key, _)| desire(key)).all(|(key, value)| new.get(key) == Some(value))
}

/// Records who set which fields.
pub(crate) fn track(_write: &Write, _now: Timestamp, old: Option<&Value>, new: &mut Value) {
    if meta_value(new, "managedFields").is_none() {
        if let Some(old) = old {
            copy_meta(old, new, "managedFields");
        }
    }
}

/// Whether a write changes nothing: then the stored object, and its resourceVersion, stay. The time at which a manager
/// last set its fields alone is no change.
pub(crate) fn unchanged(live: &Value, new: &Value) -> bool {
    let (Value::Object(left), Value::Object(right)) = (live, new) else { return live == new };
    let empty = Value::Null;
    left.keys().eq(right.keys())
        && left.iter().all(|(key, value)| {
            let other = right.get(key).unwrap_or(&empty);
            if key == "metadata" { unchanged_metadata(value, other) } else { value == other }
        })
}

fn unchanged_metadata(live: &Value, new: &Value) -> bool {
    let (Value::Object(left), Value::Object(right)) = (live, new) else { return live == new };
    let plain = |key: &&String| key.as_str() != "managedFields";
    left.keys().filter(plain).eq(right.keys().filter(plain))
        && left.iter().filter(|(key, _)| plain(key)).all(|(key, value)| right.get(key) == Some(value))
        && without_times(left.get("managedFields")) == without_times(right.get("managedFields"))
}

fn without_times(entries: Option<&Value>) -> Vec<Value> {
    let mut entries = entries.and_then(Value::as_array).cloned().unwrap_or_default();
    for entry in &mut entries {
        set_field(entry, "time", None);
    }
    entries
}
