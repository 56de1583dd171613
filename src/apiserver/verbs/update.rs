//! Update, and what update, patch and apply have in common once the new object is known.

use serde_json::{Value, json};

use super::pipeline::{self, Ownership};
use super::{Part, Write, Written, served, to_served, to_stored};
use crate::apiserver::kind::{FieldFault, Flavor};
use crate::apiserver::object::{
    copy_meta, finalizers, grace_seconds, is_deleting, meta, meta_value, set_field, set_meta,
};
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Stored, Txn};

/// Replaces an object by another state of it.
pub(crate) fn update(txn: &mut Txn<'_>, write: &Write, object: Value) -> Result<Written, ApiError> {
    let kind = write.kind();
    let place = write.place(&write.name);
    let Some(stored) = txn.object(&place)? else { return Err(ApiError::not_found(kind, &write.name)) };
    if meta(&object, "resourceVersion").is_empty() && kind.flavor == Flavor::Custom {
        let fault = FieldFault {
            field: "metadata.resourceVersion".to_owned(),
            reason: "FieldValueInvalid",
            message: "Invalid value: 0: must be specified for an update".to_owned(),
        };
        return Err(ApiError::invalid(kind, &write.name, vec![fault]));
    }
    replace(txn, write, &stored, object, Ownership::Track)
}

/// Stores `new` in place of `stored`, by the rules of the resource or its subresource. `new` is in the form of the
/// kind asked for.
pub(crate) fn replace(
    txn: &mut Txn<'_>,
    write: &Write,
    stored: &Stored,
    new: Value,
    ownership: Ownership,
) -> Result<Written, ApiError> {
    let kind = write.kind();
    let live = served(kind, &stored.value);
    let live: &Value = &live;
    check_preconditions(write, live, &new)?;
    let mut new = merge_by_resource(write, live, new);
    let warnings = pipeline::admit_and_check(txn, write, Some(live), &mut new)?;
    let generation = pipeline::next_generation(write, live, &new);
    set_meta(&mut new, "generation", generation);
    pipeline::track(write, ownership, txn.now, Some(live), &mut new);
    if *live == new {
        return Ok(Written { object: new, bytes: None, created: false, warnings });
    }
    let place = write.place(&write.name);
    let ready_to_go = is_deleting(&new)
        && finalizers(&new).is_empty()
        && grace_seconds(&new) == 0
        && !(write.is_namespace() && holds_content(&new));
    let mut to_store = to_stored(kind, new);
    let mut bytes = None;
    if !write.options.dry_run {
        if ready_to_go {
            txn.remove(&place, stored, &mut to_store)?;
        } else {
            bytes = Some(txn.put(&place, Some(stored), &mut to_store)?).filter(|_| kind.stored_as.is_none());
        }
    }
    Ok(Written { object: to_served(kind, to_store), bytes, created: false, warnings })
}

/// A Namespace goes only when its contents are gone: until then it holds the finalizer in its spec.
pub(crate) fn holds_content(namespace: &Value) -> bool {
    let list = namespace.get("spec").and_then(|spec| spec.get("finalizers")).and_then(Value::as_array);
    list.is_some_and(|list| !list.is_empty())
}

fn check_preconditions(write: &Write, live: &Value, new: &Value) -> Result<(), ApiError> {
    let wanted = meta(new, "uid");
    if !wanted.is_empty() && wanted != meta(live, "uid") {
        let why =
            format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {}", meta(live, "uid"));
        return Err(ApiError::conflict(write.kind(), &write.name, &why));
    }
    let wanted = meta(new, "resourceVersion");
    if !wanted.is_empty() && wanted != meta(live, "resourceVersion") {
        return Err(ApiError::modified(write.kind(), &write.name));
    }
    Ok(())
}

/// What a client may change: on the resource everything but the status, on `/status` nothing but it. What the server
/// owns comes from the stored object.
fn merge_by_resource(write: &Write, live: &Value, mut new: Value) -> Value {
    if write.part == Part::Status {
        let managed = meta_value(&new, "managedFields").filter(|new| meta_value(live, "managedFields") != Some(*new));
        let managed = managed.cloned();
        restore(live, &mut new, |field| field != "status");
        if managed.is_some() {
            set_meta(&mut new, "managedFields", managed);
        }
    } else if write.kind().has_status {
        restore(live, &mut new, |field| field == "status");
    }
    if write.is_namespace() {
        // Contents decide about this finalizer, not clients (they would use `/finalize`, which is not served).
        set_field(&mut new, "spec", live.get("spec").cloned());
    }
    for field in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"]
    {
        copy_meta(live, &mut new, field);
    }
    set_meta(&mut new, "selfLink", None);
    set_meta(&mut new, "name", Some(json!(write.name)));
    set_meta(&mut new, "namespace", write.namespace.as_ref().map(|namespace| json!(namespace)));
    new
}

/// Makes these fields of an object what they are in the live one. Next to always they are already: what is the same is
/// not copied.
fn restore(live: &Value, new: &mut Value, is_meant: impl Fn(&str) -> bool) {
    let (Value::Object(live), Value::Object(new)) = (live, new) else { return };
    new.retain(|field, _| !is_meant(field) || live.contains_key(field));
    for (field, value) in live.iter().filter(|(field, _)| is_meant(field)) {
        if new.get(field) != Some(value) {
            new.insert(field.clone(), value.clone());
        }
    }
}
