//! Empties namespaces that are going away, and lets them go.

use serde_json::{Value, json};

use super::{ObjectRef, STEP, Step, place, write_as};
use crate::apiserver::object::{finalizers, is_deleting, set_field};
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Txn, resource_prefix};
use crate::apiserver::verbs::delete::{DeleteOptions, Propagation, delete};

/// The namespace controller's name to admission functions.
const USER: &str = "system:serviceaccount:kube-system:namespace-controller";

/// Deletes what a namespace holds, some objects at a time; `after` is the key to go on after. When nothing is left,
/// the namespace goes. What waits for its finalizers wakes this again when it is gone.
pub(super) fn empty(txn: &mut Txn<'_>, tenant: &str, name: &str, after: &str) -> Result<Step, ApiError> {
    let object = ObjectRef {
        tenant: tenant.to_owned(),
        stored: "namespaces".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let Some(namespace) = place(txn.kinds, &object) else { return Ok(Step::Done) };
    let Some(stored) = txn.object(&namespace)?.filter(|stored| is_deleting(&stored.value)) else {
        return Ok(Step::Done);
    };
    // Kinds in order of their stored names: a key tells both the kind and the object to go on with.
    let mut left = STEP;
    let mut prefixes: Vec<String> =
        txn.kinds.namespaced().map(|served| resource_prefix(tenant, &served.stored, Some(name))).collect();
    prefixes.sort();
    for prefix in prefixes.iter().filter(|prefix| prefix.as_str() >= after || after.starts_with(prefix.as_str())) {
        let rows = txn.scan(prefix, after, left)?;
        for (key, bytes) in &rows {
            let Some(place) = ObjectRef::from_key(key).and_then(|object| place(txn.kinds, &object)) else { continue };
            let object: Value = crate::apiserver::object::from_bytes(bytes)?;
            if is_deleting(&object) {
                continue;
            }
            let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
            match delete(txn, &write_as(USER, &place), &options) {
                Err(error) if error.code >= 500 => return Err(error),
                Err(error) => tracing::warn!(%error, key, "an object holds up the deletion of its namespace"),
                Ok(_) => {}
            }
        }
        left = left.saturating_sub(rows.len());
        if left == 0 {
            let last = rows.last().map(|(key, _)| format!("{key}\0")).unwrap_or_default();
            return Ok(Step::More(last));
        }
    }
    for prefix in &prefixes {
        if !txn.scan(prefix, "", 1)?.is_empty() {
            return Ok(Step::Done);
        }
    }
    let mut object = stored.value.clone();
    set_field(&mut object, "spec", Some(json!({})));
    if finalizers(&object).is_empty() {
        txn.remove(&namespace, &stored, &mut object)?;
    } else if object != stored.value {
        txn.put(&namespace, Some(&stored), &mut object)?;
    }
    Ok(Step::Done)
}
