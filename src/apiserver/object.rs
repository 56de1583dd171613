//! Reading and writing an object's metadata in its JSON form.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::status::ApiError;

/// The finalizer of a foreground deletion: the object waits for its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that lets dependents live.
pub(crate) const ORPHAN: &str = "orphan";

/// Text at `metadata.FIELD`, empty where there is none.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn meta_value<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata").and_then(|metadata| metadata.get(field)).filter(|value| !value.is_null())
}

/// Sets `metadata.FIELD`; `None` removes it.
pub(crate) fn set_meta(object: &mut Value, field: &str, value: Option<Value>) {
    let Value::Object(map) = object else { return };
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    set_field(metadata, field, value);
}

/// Copies a field of the metadata, or its absence.
pub(crate) fn copy_meta(from: &Value, to: &mut Value, field: &str) {
    set_meta(to, field, meta_value(from, field).cloned());
}

pub(crate) fn set_field(object: &mut Value, field: &str, value: Option<Value>) {
    if let Value::Object(map) = object {
        match value {
            Some(value) => map.insert(field.to_owned(), value),
            None => map.remove(field),
        };
    }
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = meta_value(object, "finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// Seconds of grace of a deletion in progress; 0 where it has none.
pub(crate) fn grace_seconds(object: &Value) -> i64 {
    meta_value(object, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0)
}

/// An owner named by an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub blocks: bool,
}

pub(crate) fn owners(object: &Value) -> Vec<Owner> {
    let list = meta_value(object, "ownerReferences").and_then(Value::as_array);
    let text = |owner: &Value, field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    list.into_iter()
        .flatten()
        .map(|owner| {
            let version = text(owner, "apiVersion");
            Owner {
                group: version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default(),
                kind: text(owner, "kind"),
                name: text(owner, "name"),
                uid: text(owner, "uid"),
                blocks: owner.get("blockOwnerDeletion").and_then(Value::as_bool).unwrap_or(false),
            }
        })
        .filter(|owner| !owner.uid.is_empty())
        .collect()
}

/// RFC 3339 with seconds, as Kubernetes' `Time`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time some seconds later, as text; at the end of time the time itself.
pub(crate) fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(time)
}

pub(crate) fn to_bytes(object: &Value) -> Result<Bytes, ApiError> {
    // It stays in memory for as long as its event does, without the room that it had to grow.
    serde_json::to_vec(object).map(|bytes| Bytes::from(bytes.into_boxed_slice())).map_err(ApiError::internal)
}

/// Parses an object that the store holds.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::internal(format!("a stored object is no JSON: {error}")))
}
