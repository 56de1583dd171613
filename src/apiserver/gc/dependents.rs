//! Garbage collection by owner references, by the rules of Kubernetes' garbage collector
//! (`pkg/controller/garbagecollector`, `attemptToDeleteItem` and `attemptToOrphan`).

use serde_json::{Value, json};

use super::{ObjectRef, STEP, Step, place, write_as};
use crate::apiserver::kind::Scope;
use crate::apiserver::object::{
    FOREGROUND, ORPHAN, Owner, finalizers, grace_seconds, is_deleting, meta, meta_value, owners, set_meta,
};
use crate::apiserver::status::ApiError;
use crate::apiserver::txn::{Place, Stored, Txn, owner_prefix};
use crate::apiserver::verbs::delete::{DeleteOptions, Propagation, delete};
use crate::apiserver::verbs::update::holds_content;

/// The collector's name to admission functions.
const USER: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// Looks at the objects that named an owner which is gone.
pub(super) fn owner_gone(txn: &mut Txn<'_>, tenant: &str, uid: &str, after: &str) -> Result<Step, ApiError> {
    let (dependents, step) = dependents(txn, tenant, uid, after)?;
    for dependent in dependents {
        attend(txn, &dependent)?;
    }
    Ok(step)
}

/// Looks at an object that names an owner which was not there.
pub(super) fn look_for_owners(txn: &mut Txn<'_>, object: &ObjectRef) -> Result<Step, ApiError> {
    if let Some(place) = place(txn.kinds, object) {
        attend(txn, &place)?;
    }
    Ok(Step::Done)
}

/// Brings an object's deletion forward that waits for its dependents.
pub(super) fn waiting(txn: &mut Txn<'_>, object: &ObjectRef, after: &str) -> Result<Step, ApiError> {
    let Some(place) = place(txn.kinds, object) else { return Ok(Step::Done) };
    let Some(stored) = txn.object(&place)?.filter(|stored| is_deleting(&stored.value)) else { return Ok(Step::Done) };
    let uid = meta(&stored.value, "uid").to_owned();
    let names = finalizers(&stored.value);
    let finalizer = match (names.contains(&ORPHAN), names.contains(&FOREGROUND)) {
        (true, _) => ORPHAN,
        (false, true) => FOREGROUND,
        (false, false) => return Ok(Step::Done),
    };
    let (dependents, step) = dependents(txn, &object.tenant, &uid, after)?;
    for dependent in dependents {
        if finalizer == ORPHAN {
            release(txn, &dependent, &[&uid])?;
        } else {
            attend(txn, &dependent)?;
        }
    }
    if matches!(step, Step::Done) && !is_blocked(txn, &object.tenant, &uid)? {
        drop_finalizer(txn, &place, &stored, finalizer)?;
    }
    Ok(step)
}

/// Some of the objects that name an owner, from a key on.
fn dependents(txn: &Txn<'_>, tenant: &str, uid: &str, after: &str) -> Result<(Vec<Place>, Step), ApiError> {
    let prefix = owner_prefix(tenant, uid);
    let rows = txn.scan(&prefix, after, STEP)?;
    let step = match rows.last() {
        Some((last, _)) if rows.len() == STEP => Step::More(format!("{last}\0")),
        _ => Step::Done,
    };
    let places = rows.iter().filter_map(|(row, _)| {
        let key = format!("{tenant}/{}", row.strip_prefix(&prefix)?);
        place(txn.kinds, &ObjectRef::from_key(&key)?)
    });
    Ok((places.collect(), step))
}

/// Whether an object is left that names the owner and blocks its deletion.
fn is_blocked(txn: &Txn<'_>, tenant: &str, uid: &str) -> Result<bool, ApiError> {
    let mut after = String::new();
    loop {
        let (dependents, step) = dependents(txn, tenant, uid, &after)?;
        for dependent in dependents {
            let Some(stored) = txn.object(&dependent)? else { continue };
            if owners(&stored.value).iter().any(|owner| owner.uid == uid && owner.blocks) {
                return Ok(true);
            }
        }
        match step {
            Step::Done => return Ok(false),
            Step::More(key) => after = key,
        }
    }
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// It exists, or nobody here can tell.
    Solid,
    /// It waits for its dependents to go before it goes.
    Waiting,
    Absent,
}

pub(crate) fn owner_state(txn: &Txn<'_>, dependent: &Place, owner: &Owner) -> Result<OwnerState, ApiError> {
    // Objects of kinds that are not served here may well exist.
    let Some(served) = txn.kinds.by_kind(&owner.group, &owner.kind) else { return Ok(OwnerState::Solid) };
    if served.kind.scope == Scope::Namespaced && dependent.namespace.is_empty() {
        // A cluster-scoped object cannot name an owner in a namespace: such a reference can never be resolved, and
        // the object is never collected (since Kubernetes 1.20).
        return Ok(OwnerState::Solid);
    }
    let place = Place {
        tenant: dependent.tenant.clone(),
        served: served.clone(),
        namespace: served.namespace_for(&dependent.namespace),
        name: owner.name.clone(),
    };
    Ok(match txn.object(&place)? {
        Some(stored) if meta(&stored.value, "uid") == owner.uid => {
            let waits = is_deleting(&stored.value) && finalizers(&stored.value).contains(&FOREGROUND);
            if waits { OwnerState::Waiting } else { OwnerState::Solid }
        }
        _ => OwnerState::Absent,
    })
}

/// Deletes an object that has no owner left, or takes the owners that are gone from its references.
fn attend(txn: &mut Txn<'_>, dependent: &Place) -> Result<(), ApiError> {
    let Some(stored) = txn.object(dependent)? else { return Ok(()) };
    let named = owners(&stored.value);
    if named.is_empty() || is_deleting(&stored.value) {
        return Ok(());
    }
    let (mut solid, mut waiting, mut gone) = (0, 0, Vec::new());
    for owner in &named {
        match owner_state(txn, dependent, owner)? {
            OwnerState::Solid => solid += 1,
            OwnerState::Waiting => {
                waiting += 1;
                gone.push(owner.uid.as_str());
            }
            OwnerState::Absent => gone.push(owner.uid.as_str()),
        }
    }
    if solid > 0 {
        return if gone.is_empty() { Ok(()) } else { release(txn, dependent, &gone) };
    }
    let has_dependents = !txn.scan(&owner_prefix(&dependent.tenant, meta(&stored.value, "uid")), "", 1)?.is_empty();
    let propagation =
        if waiting > 0 && has_dependents { Some(Propagation::Foreground) } else { own_policy(&stored.value) };
    let options =
        DeleteOptions { propagation, uid: Some(meta(&stored.value, "uid").to_owned()), ..DeleteOptions::default() };
    match delete(txn, &write_as(USER, dependent), &options) {
        Ok(_) => Ok(()),
        // A refusal stays one until the object changes: trying again would not help.
        Err(error) if error.code < 500 => {
            tracing::warn!(%error, key = dependent.key(), "an object without owners cannot be collected");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn own_policy(object: &Value) -> Option<Propagation> {
    let names = finalizers(object);
    if names.contains(&ORPHAN) {
        Some(Propagation::Orphan)
    } else if names.contains(&FOREGROUND) {
        Some(Propagation::Foreground)
    } else {
        Some(Propagation::Background)
    }
}

/// Takes owners from an object's references.
fn release(txn: &mut Txn<'_>, dependent: &Place, uids: &[&str]) -> Result<(), ApiError> {
    let Some(stored) = txn.object(dependent)? else { return Ok(()) };
    let mut references =
        meta_value(&stored.value, "ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    references.retain(|reference| !reference.get("uid").and_then(Value::as_str).is_some_and(|uid| uids.contains(&uid)));
    let mut object = stored.value.clone();
    set_meta(&mut object, "ownerReferences", (!references.is_empty()).then_some(Value::Array(references)));
    if object != stored.value {
        txn.put(dependent, Some(&stored), &mut object)?;
    }
    Ok(())
}

/// Takes a finalizer from an object, which goes if nothing else holds it.
fn drop_finalizer(txn: &mut Txn<'_>, place: &Place, stored: &Stored, finalizer: &str) -> Result<(), ApiError> {
    let left: Vec<&str> = finalizers(&stored.value).into_iter().filter(|name| *name != finalizer).collect();
    let mut object = stored.value.clone();
    set_meta(&mut object, "finalizers", (!left.is_empty()).then(|| json!(left)));
    let is_namespace = &*place.served.stored == "namespaces";
    if left.is_empty() && grace_seconds(&object) == 0 && !(is_namespace && holds_content(&object)) {
        txn.remove(place, stored, &mut object)
    } else {
        txn.put(place, Some(stored), &mut object).map(drop)
    }
}
