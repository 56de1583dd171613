//! Follow-up work: garbage collection by owner references, contents of deleted namespaces, expiry. Driven by what
//! commits leave to do, one item at a time, each step a transaction that looks again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::object::{FOREGROUND, ORPHAN, finalizers, meta, owners};
use super::registry::Registry;
use super::txn::Place;

/// An object, by where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectRef {
    pub tenant: Arc<str>,
    pub stored: Arc<str>,
    pub namespace: String,
    pub name: String,
}

impl ObjectRef {
    fn of(place: &Place) -> Self {
        Self {
            tenant: Arc::clone(&place.tenant),
            stored: Arc::clone(&place.served.stored),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
        }
    }
}

/// Something to look at after a commit. The same item waits once, so there are never more than a few for each object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Objects have an expiry: sleep until the first.
    Expire,
    /// The owner with this UID is gone: look at its dependents.
    OwnerGone { tenant: Arc<str>, uid: String },
    /// The object names owners: see that one exists.
    Dependent(ObjectRef),
    /// The object waits for its dependents to go, or to be let go.
    Waiting(ObjectRef),
    /// The namespace is going away.
    Namespace { tenant: Arc<str>, name: String },
}

impl Work {
    pub fn dependent(place: &Place) -> Self {
        Self::Dependent(ObjectRef::of(place))
    }

    /// What the removal of an object leaves to do.
    pub fn after_removal(place: &Place, old: &Value, kinds: &Registry) -> Vec<Self> {
        let tenant = &place.tenant;
        let mut work = vec![Self::OwnerGone { tenant: Arc::clone(tenant), uid: meta(old, "uid").to_owned() }];
        for owner in owners(old).into_iter().filter(|owner| owner.blocks) {
            if let Some(served) = kinds.by_kind(&owner.group, &owner.kind) {
                work.push(Self::Waiting(ObjectRef {
                    tenant: Arc::clone(tenant),
                    stored: Arc::clone(&served.stored),
                    namespace: served.namespace_for(&place.namespace),
                    name: owner.name,
                }));
            }
        }
        if !place.namespace.is_empty() && kinds.namespaces().is_some() {
            work.push(Self::Namespace { tenant: Arc::clone(tenant), name: place.namespace.clone() });
        }
        work
    }

    /// What an object that is marked for deletion leaves to do.
    pub fn after_marking(place: &Place, object: &Value) -> Vec<Self> {
        let mut work = Vec::new();
        if finalizers(object).iter().any(|name| [FOREGROUND, ORPHAN].contains(name)) {
            work.push(Self::Waiting(ObjectRef::of(place)));
        }
        if &*place.served.stored == "namespaces" {
            work.push(Self::Namespace { tenant: Arc::clone(&place.tenant), name: place.name.clone() });
        }
        work
    }
}

/// Work that waits.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    waiting: Mutex<BTreeSet<Work>>,
    added: Notify,
}

impl WorkQueue {
    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Work>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, work: Vec<Work>) {
        if !work.is_empty() {
            self.waiting().extend(work);
            self.added.notify_one();
        }
    }
}
