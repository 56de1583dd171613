//! Create.

use serde_json::{Map, Value, json};

use super::pipeline::{self, Ownership};
use super::{Write, Written, to_served, to_stored};
use crate::apiserver::object::{is_deleting, meta, meta_value, rfc3339, set_field, set_meta};
use crate::apiserver::status::{ApiError, Cause};
use crate::apiserver::txn::{Place, Txn};
use crate::world::{Random, uuid};

/// Letters of generated names: no vowels, so no words; no 0, 1, 3, which look like letters (apimachinery's rand).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// A generated name has at most 63 characters (apiserver's names.SimpleNameGenerator).
const GENERATED_BASE: usize = 63 - 5;
/// How often another name is drawn where the first exists (registry/generic store).
const NAME_TRIES: usize = 8;

pub(crate) fn create(
    txn: &mut Txn<'_>,
    write: &Write,
    mut object: Value,
    ownership: Ownership,
) -> Result<Written, ApiError> {
    if !meta(&object, "resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    check_namespace(txn, write)?;
    let place = name_it(txn, write, &mut object)?;
    set_meta(&mut object, "namespace", write.namespace.as_ref().map(|namespace| json!(namespace)));
    set_meta(&mut object, "uid", Some(json!(uuid(txn.random))));
    set_meta(&mut object, "creationTimestamp", Some(json!(rfc3339(txn.now))));
    set_meta(&mut object, "generation", pipeline::has_generation(write).then(|| json!(1)));
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        set_meta(&mut object, field, None);
    }
    if write.kind().has_status && !write.kind().status_on_create {
        set_field(&mut object, "status", write.kind().first_status.clone());
    }
    if write.is_namespace() {
        begin_namespace(&mut object, &place.name);
    }
    let warnings = pipeline::admit_and_check(txn, write, None, &mut object)?;
    pipeline::track(write, ownership, txn.now, None, &mut object);
    if txn.object(&place)?.is_some() {
        return Err(ApiError::already_exists(write.kind(), &place.name));
    }
    let mut stored = to_stored(write.kind(), object);
    let mut bytes = None;
    if !write.options.dry_run {
        bytes = Some(txn.put(&place, None, &mut stored)?).filter(|_| write.kind().stored_as.is_none());
    }
    Ok(Written { object: to_served(write.kind(), stored), bytes, created: true, warnings })
}

/// The name asked for, or one made from `generateName` that is free.
fn name_it(txn: &Txn<'_>, write: &Write, object: &mut Value) -> Result<Place, ApiError> {
    let base = meta(object, "generateName").to_owned();
    if !meta(object, "name").is_empty() || base.is_empty() {
        return Ok(write.place(meta(object, "name")));
    }
    let base: String = base.chars().take(GENERATED_BASE).collect();
    let mut place = write.place(&format!("{base}{}", suffix(txn.random)));
    for _ in 1..NAME_TRIES {
        if txn.read(&place.key())?.is_none() {
            break;
        }
        place.name = format!("{base}{}", suffix(txn.random));
    }
    set_meta(object, "name", Some(json!(place.name)));
    Ok(place)
}

pub(crate) fn suffix(random: &dyn Random) -> String {
    // 27^5 names; the remainder's bias over 2^64 is of no account.
    let mut number = random.next_u64();
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        let at = usize::try_from(number % 27).unwrap_or_default();
        text.push(ALPHABET.get(at).copied().map_or('x', char::from));
        number /= 27;
    }
    text
}

/// Where Namespaces are served, an object needs one that exists and is not going away.
fn check_namespace(txn: &Txn<'_>, write: &Write) -> Result<(), ApiError> {
    let (Some(namespace), Some(served)) = (&write.namespace, txn.kinds.namespaces()) else { return Ok(()) };
    let place = Place {
        tenant: write.tenant.clone(),
        served: served.clone(),
        namespace: String::new(),
        name: namespace.clone(),
    };
    let Some(found) = txn.object(&place)? else { return Err(ApiError::not_found(&served.kind, namespace)) };
    if !is_deleting(&found.value) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(write.kind(), &write.name, &why);
    error.details.get_or_insert_default().causes = vec![Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    }];
    Err(error)
}

/// What the Namespace strategy and the admission of a Kubernetes server set.
fn begin_namespace(object: &mut Value, name: &str) {
    set_field(object, "spec", Some(json!({ "finalizers": ["kubernetes"] })));
    set_field(object, "status", Some(json!({ "phase": "Active" })));
    let mut labels = meta_value(object, "labels").and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
    set_meta(object, "labels", Some(Value::Object(labels)));
}
