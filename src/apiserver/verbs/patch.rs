//! Patch: JSON patch, merge patch, strategic merge patch, server-side apply.

use bytes::Bytes;
use json_patch::PatchOperation;
use serde_json::Value;

use super::pipeline::Ownership;
use super::{Part, Write, Written, create, served, update};
use crate::apiserver::apply::{self, ApplyError};
use crate::apiserver::kind::Flavor;
use crate::apiserver::object::{meta, set_field};
use crate::apiserver::request::query::option_fault;
use crate::apiserver::status::{ApiError, Cause, Details};
use crate::apiserver::strategic::strategic_merge;
use crate::apiserver::txn::Txn;

pub(crate) const ACCEPTED: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
/// What built-in kinds take besides.
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Operations in one JSON patch (apiserver's maxJSONPatchOperations).
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that the `copy` operations of one patch may add together (apiserver's JSONPatchMaxCopyBytes).
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// A patch as it was sent.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(Vec<PatchOperation>),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Reads a patch of a content type.
    pub fn parse(content_type: &str, body: &Bytes) -> Result<Self, ApiError> {
        match content_type {
            "application/json-patch+json" => {
                let operations: Vec<PatchOperation> = serde_json::from_slice(body)
                    .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
                if operations.len() > MAX_OPERATIONS {
                    let mut error = ApiError::too_large(MAX_OPERATIONS);
                    error.message = format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                        operations.len()
                    );
                    return Err(error);
                }
                Ok(Self::Json(operations))
            }
            "application/merge-patch+json" | STRATEGIC => {
                let patch: Value = serde_json::from_slice(body)
                    .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
                if !patch.is_object() {
                    return Err(ApiError::bad_request("error decoding patch: a merge patch of an object is an object"));
                }
                Ok(if content_type == STRATEGIC { Self::Strategic(patch) } else { Self::Merge(patch) })
            }
            "application/apply-patch+yaml" | "application/apply-patch" => {
                let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
                crate::apiserver::request::body::from_yaml(text).map(Self::Apply)
            }
            _ => Err(ApiError::unsupported_media_type(ACCEPTED)),
        }
    }
}

/// Patches one object.
pub(crate) fn patch(txn: &mut Txn<'_>, write: &Write, patch: &Patch) -> Result<Written, ApiError> {
    if let Patch::Apply(config) = patch {
        return apply(txn, write, config);
    }
    if write.options.force.is_some() {
        let message = "Forbidden: may not be specified for non-apply patch";
        return Err(option_fault("PatchOptions", "force", "FieldValueForbidden", message));
    }
    let place = write.place(&write.name);
    let Some(stored) = txn.object(&place)? else { return Err(ApiError::not_found(write.kind(), &write.name)) };
    let mut object = served(write.kind(), &stored.value).into_owned();
    match patch {
        Patch::Json(operations) => json_patch(&mut object, operations)?,
        Patch::Merge(patch) => json_patch::merge(&mut object, patch),
        Patch::Strategic(_) if write.kind().flavor == Flavor::Custom => {
            return Err(ApiError::unsupported_media_type(ACCEPTED));
        }
        Patch::Strategic(patch) => strategic_merge(&write.kind().schema, &mut object, patch)
            .map_err(|error| ApiError::bad_request(error.to_string()))?,
        Patch::Apply(_) => {}
    }
    check_identity(write, &object)?;
    update::replace(txn, write, &stored, object, Ownership::Track)
}

/// Server-side apply: makes the object where there is none.
fn apply(txn: &mut Txn<'_>, write: &Write, config: &Value) -> Result<Written, ApiError> {
    let kind = write.kind();
    if kind.stored_as.is_some() {
        return Err(ApiError::unsupported_media_type("application/json-patch+json, application/merge-patch+json"));
    }
    if write.options.field_manager.is_none() {
        let message = "Required value: is required for apply patch";
        return Err(option_fault("PatchOptions", "fieldManager", "FieldValueRequired", message));
    }
    let stored = txn.object(&write.place(&write.name))?;
    let live = stored.as_ref().map(|stored| &stored.value);
    if live.is_none() && write.part == Part::Status {
        return Err(ApiError::not_found(kind, &write.name));
    }
    check_preconditions(write, live, config)?;
    let mut config = config.clone();
    if kind.has_status && write.part != Part::Status {
        set_field(&mut config, "status", None);
    }
    let force = write.options.force.unwrap_or(false);
    let manager = &write.manager;
    let applied = apply::apply(&kind.schema, live, &config, manager, force, write.subresource(), txn.now);
    let object = applied.map_err(|error| refused(&error))?;
    match &stored {
        Some(stored) => update::replace(txn, write, stored, object, Ownership::Applied),
        None => create::create(txn, write, object, Ownership::Applied),
    }
}

fn check_preconditions(write: &Write, live: Option<&Value>, config: &Value) -> Result<(), ApiError> {
    let Some(live) = live else {
        let uid = meta(config, "uid");
        if uid.is_empty() {
            return Ok(());
        }
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(ApiError::conflict(write.kind(), &write.name, &why));
    };
    for field in ["uid", "resourceVersion"] {
        let wanted = meta(config, field);
        if !wanted.is_empty() && wanted != meta(live, field) {
            return Err(ApiError::modified(write.kind(), &write.name));
        }
    }
    Ok(())
}

fn refused(error: &ApplyError) -> ApiError {
    let mut refused = ApiError::bad_request(error.to_string());
    if let ApplyError::Conflicts(_) = error {
        (refused.code, refused.reason) = (409, "Conflict");
        let causes = error.causes().into_iter().map(Cause::from).collect();
        refused.details = Some(Box::new(Details { causes, ..Details::default() }));
    }
    refused
}

fn check_identity(write: &Write, object: &Value) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request("the patched object is no object"));
    }
    let name = meta(object, "name");
    if name != write.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            write.name
        )));
    }
    Ok(())
}

/// RFC 6902, with the rule of Kubernetes' library (evanphx/json-patch) that `test` for null passes where the key is
/// missing: kube-rs' `finalizer()` relies on it.
pub(super) fn json_patch(object: &mut Value, operations: &[PatchOperation]) -> Result<(), ApiError> {
    let mut copied = 0;
    for operation in operations {
        match operation {
            PatchOperation::Test(test) if test.value.is_null() && key_is_missing(object, test.path.as_str()) => {
                continue;
            }
            PatchOperation::Copy(copy) => {
                copied += object.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
                if copied > MAX_COPIED {
                    return Err(ApiError::too_large(MAX_COPIED));
                }
            }
            _ => {}
        }
        json_patch::patch(object, std::slice::from_ref(operation)).map_err(|error| {
            let mut refused = ApiError::bad_request(format!(
                "the server rejected our request due to an error in our request: {error}"
            ));
            (refused.code, refused.reason) = (422, "Invalid");
            refused
        })?;
    }
    Ok(())
}

fn key_is_missing(object: &Value, path: &str) -> bool {
    let Some((parent, key)) = path.rsplit_once('/') else { return false };
    let key = key.replace("~1", "/").replace("~0", "~");
    matches!(object.pointer(parent), Some(Value::Object(map)) if !map.contains_key(&key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut object: Value, operations: Value) -> Result<Value, u16> {
        let patch = Patch::parse("application/json-patch+json", &Bytes::from(operations.to_string()));
        let Patch::Json(operations) = patch.map_err(|error| error.code)? else { return Err(0) };
        json_patch(&mut object, &operations).map_err(|error| error.code)?;
        Ok(object)
    }

    #[test]
    fn testing_a_missing_key_for_null_passes() {
        let object = json!({ "metadata": { "a/b": 1 } });
        let test = |path: &str, value: Value| json!([{ "op": "test", "path": path, "value": value }]);
        assert!(patched(object.clone(), test("/metadata/finalizers", json!(null))).is_ok());
        assert!(patched(object.clone(), test("/metadata/a~1b", json!(1))).is_ok());
        assert_eq!(patched(object.clone(), test("/metadata/a~1b", json!(null))), Err(422));
        assert_eq!(patched(object.clone(), test("/metadata/finalizers", json!([]))), Err(422));
        assert_eq!(patched(object, test("/spec/finalizers", json!(null))), Err(422));
    }

    #[test]
    fn a_patch_that_grows_without_bound_is_refused() {
        let big = "x".repeat(1024 * 1024);
        let copy = |n: u32| json!({ "op": "copy", "from": "/a", "path": format!("/b{n}") });
        assert!(patched(json!({ "a": big }), json!([copy(1), copy(2)])).is_ok());
        assert_eq!(patched(json!({ "a": big }), json!([copy(1), copy(2), copy(3)])), Err(413));
        let many: Vec<Value> = (0..10_001).map(|_| json!({ "op": "test", "path": "/a", "value": 1 })).collect();
        assert_eq!(patched(json!({ "a": 1 }), json!(many)), Err(413));
        assert_eq!(patched(json!({}), json!({ "op": "add" })), Err(400));
    }
}
