//! `/scale`: the replicas of any kind that registers where it keeps them, as an `autoscaling/v1` Scale.

use serde_json::{Map, Value, json};

use super::patch::{self, Patch, json_patch};
use super::pipeline::Ownership;
use super::{Write, Written, to_served, update};
use crate::apiserver::kind::{FieldFault, ScalePaths};
use crate::apiserver::labels;
use crate::apiserver::object::{meta, meta_value};
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Stored, Txn};

const API_VERSION: &str = "autoscaling/v1";

/// What `/scale` of an object shows.
///
/// # Errors
/// 400 where its selector is none.
pub(crate) fn scale_of(paths: &ScalePaths, object: &Value) -> Result<Value, ApiError> {
    let at = |path: &str| object.pointer(&pointer(path)).cloned().unwrap_or_default();
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta_value(object, field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut scale = json!({"kind": "Scale", "apiVersion": API_VERSION, "metadata": metadata,
        "spec": {"replicas": at(&paths.spec_replicas).as_i64().unwrap_or_default()},
        "status": {"replicas": at(&paths.status_replicas).as_i64().unwrap_or_default()}});
    match paths.selector.as_deref().map(at).unwrap_or_default() {
        Value::Null => {}
        Value::String(text) => scale["status"]["selector"] = json!(text),
        selector => scale["status"]["selector"] = json!(labels::as_text(&selector)?),
    }
    Ok(scale)
}

/// Sets the replicas that a Scale names.
pub(crate) fn update(txn: &mut Txn<'_>, write: &Write, scale: &Value) -> Result<Written, ApiError> {
    let (paths, stored) = (paths(write)?, stored(txn, write)?);
    set(txn, write, paths, &stored, scale)
}

/// Patches a Scale. Its fields are no lists: a strategic merge is a merge.
pub(crate) fn patch(txn: &mut Txn<'_>, write: &Write, patch: &Patch) -> Result<Written, ApiError> {
    let (paths, stored) = (paths(write)?, stored(txn, write)?);
    let mut scale = scale_of(paths, &to_served(write.kind(), stored.value.clone()))?;
    match patch {
        Patch::Json(operations) => json_patch(&mut scale, operations)?,
        Patch::Merge(patch) | Patch::Strategic(patch) => ::json_patch::merge(&mut scale, patch),
        Patch::Apply(_) => {
            let accepted = patch::ACCEPTED.trim_end_matches(", application/apply-patch+yaml");
            return Err(ApiError::unsupported_media_type(accepted));
        }
    }
    set(txn, write, paths, &stored, &scale)
}

fn paths(write: &Write) -> Result<&ScalePaths, ApiError> {
    write.kind().scale.as_ref().ok_or_else(ApiError::no_such_path)
}

fn stored(txn: &Txn<'_>, write: &Write) -> Result<Stored, ApiError> {
    txn.object(&write.place(&write.name))?.ok_or_else(|| ApiError::not_found(write.kind(), &write.name))
}

fn set(
    txn: &mut Txn<'_>,
    write: &Write,
    paths: &ScalePaths,
    stored: &Stored,
    scale: &Value,
) -> Result<Written, ApiError> {
    check(write, scale)?;
    // Clients leave out what is zero.
    let replicas = scale.pointer("/spec/replicas").filter(|value| !value.is_null()).cloned().unwrap_or(json!(0));
    if replicas.as_i64().is_none_or(|replicas| !(0..=i64::from(i32::MAX)).contains(&replicas)) {
        let message = format!("Invalid value: {replicas}: must be a whole number, greater than or equal to 0");
        return Err(invalid(&write.name, "spec.replicas", message));
    }
    let mut object = to_served(write.kind(), stored.value.clone());
    for field in ["uid", "resourceVersion"] {
        let wanted = meta(scale, field);
        if !wanted.is_empty() && wanted != meta(&object, field) {
            return Err(ApiError::modified(write.kind(), &write.name));
        }
    }
    put(&mut object, &pointer(&paths.spec_replicas), replicas);
    let mut written = update::replace(txn, write, stored, object, Ownership::Track)?;
    written.object = scale_of(paths, &written.object)?;
    Ok(written)
}

fn check(write: &Write, scale: &Value) -> Result<(), ApiError> {
    let text = |field: &str| scale.get(field).and_then(Value::as_str).unwrap_or_default();
    if !matches!((text("apiVersion"), text("kind")), ("" | API_VERSION, "" | "Scale")) {
        let found = format!("{} {}", text("apiVersion"), text("kind"));
        return Err(ApiError::bad_request(format!("the body is a {found}: expected a {API_VERSION} Scale")));
    }
    let (name, namespace) = (meta(scale, "name"), meta(scale, "namespace"));
    if !name.is_empty() && name != write.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            write.name
        )));
    }
    if !namespace.is_empty() && Some(namespace) != write.namespace.as_deref() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

fn invalid(name: &str, field: &str, message: String) -> ApiError {
    let fault = FieldFault { field: field.to_owned(), reason: "FieldValueInvalid", message };
    ApiError::invalid_named("Scale", "autoscaling", name, vec![fault])
}

/// `.spec.replicas` as a JSON pointer: paths of scales have no arrays.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}
