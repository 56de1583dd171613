//! What every write goes through between the request and the store: the object is completed and checked by its
//! schema, admitted by the kind's functions, and checked as a whole.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Write;
use crate::apiserver::admission::{Draft, Operation, Request};
use crate::apiserver::kind::{FieldFault, Flavor};
use crate::apiserver::object::{meta, meta_value, set_field};
use crate::apiserver::request::query::FieldValidation;
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Txn, TxnReader};
use crate::apiserver::{apply, schema};

/// Completes, admits and checks an object that is about to be stored. `old` is the stored object, for updates. Returns
/// the warnings.
pub(crate) fn admit_and_check(
    txn: &Txn<'_>,
    write: &Write,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    set_field(object, "apiVersion", Some(json!(write.kind().resource.api_version())));
    set_field(object, "kind", Some(json!(write.kind().kind)));
    let mut warnings = unknown_fields(write, object)?;
    complete(write, object);
    check(write, old, object)?;
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let mut draft = Draft::of(object);
    warnings.extend(admit(txn, write, operation, old, &mut draft)?);
    if draft.is_touched() {
        complete(write, object);
        check(write, old, object)?;
    }
    if let Some(validation) = &write.kind().validation {
        refuse_new(write, object, validation(object), || old.map(|old| validation(old)).unwrap_or_default())?;
    }
    Ok(warnings)
}

/// Completes and checks an object that is answered and not stored. Returns the warnings.
pub(crate) fn check_alone(write: &Write, object: &mut Value) -> Result<Vec<String>, ApiError> {
    set_field(object, "apiVersion", Some(json!(write.kind().resource.api_version())));
    set_field(object, "kind", Some(json!(write.kind().kind)));
    let warnings = unknown_fields(write, object)?;
    complete(write, object);
    refuse(write, object, schema::validate(&write.kind().schema, object))?;
    Ok(warnings)
}

/// What is wrong with a body, by the client's wish an error, a warning or nothing.
pub(crate) fn field_faults(write: &Write, faults: Vec<String>) -> Result<Vec<String>, ApiError> {
    match write.options.field_validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(faults),
        FieldValidation::Strict if faults.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => {
            let kind = write.kind();
            let error = format!("strict decoding error: {}", faults.join(", "));
            if write.is_patch {
                let fault = FieldFault {
                    field: "patch".to_owned(),
                    reason: "FieldValueInvalid",
                    message: format!("Invalid value: {error}"),
                };
                return Err(ApiError::invalid(kind, &write.name, vec![fault]));
            }
            Err(ApiError::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {error}",
                kind.kind, kind.resource.version, kind.kind
            )))
        }
    }
}

fn unknown_fields(write: &Write, object: &Value) -> Result<Vec<String>, ApiError> {
    if write.options.field_validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let unknown = schema::unknown_fields(&write.kind().schema, object);
    field_faults(write, unknown.iter().map(|field| format!("unknown field {field:?}")).collect())
}

fn complete(write: &Write, object: &mut Value) {
    schema::prune(&write.kind().schema, object);
    schema::default(&write.kind().schema, object);
}

fn check(write: &Write, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    let kind = write.kind();
    let faults = |before: Option<&Value>, object: &Value| {
        let mut faults = schema::validate_change(&kind.schema, before, object);
        if before.is_none_or(|before| before.get("metadata") != object.get("metadata")) {
            faults.extend(schema::validate_metadata(kind, object));
        }
        faults
    };
    refuse_new(write, object, faults(old, object), || old.map(|old| faults(None, old)).unwrap_or_default())?;
    refuse(write, object, old.map(|old| schema::validate_metadata_update(old, object)).unwrap_or_default())
}

/// Refuses what is wrong and was not before: an object stored under older rules can still be changed elsewhere, and its
/// status written (as CRD validation ratcheting does).
fn refuse_new(
    write: &Write,
    object: &Value,
    mut faults: Vec<FieldFault>,
    before: impl FnOnce() -> Vec<FieldFault>,
) -> Result<(), ApiError> {
    if !faults.is_empty() {
        let before = before();
        faults.retain(|fault| !before.contains(fault));
    }
    refuse(write, object, faults)
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
    object: &mut Draft<'_>,
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

/// How a write's fields come to be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Whoever writes owns what it changes.
    Track,
    /// An apply has set the owners.
    Applied,
}

/// Records who set which fields. Objects that soon expire are not tracked: it would double their size to no use.
pub(crate) fn track(write: &Write, ownership: Ownership, now: Timestamp, old: Option<&Value>, new: &mut Value) {
    match (ownership, old) {
        (Ownership::Track, _) if write.kind().ttl.is_some() => {}
        (Ownership::Track, _) => {
            apply::track_update(&write.kind().schema, old, new, &write.manager, write.subresource(), now);
        }
        (Ownership::Applied, Some(old)) => apply::keep_times_if_unchanged(old, new),
        (Ownership::Applied, None) => {}
    }
}
