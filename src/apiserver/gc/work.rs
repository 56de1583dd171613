//! Work that commits leave to do. It is written in the same commit as its cause and removed in the commit that does
//! it, so that a crash in between loses nothing; in memory it only waits for its turn.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::apiserver::txn::Place;

/// Rows of work to do: `~work/` and the work as JSON. No tenant's name begins with a tilde.
pub(crate) const WORK_PREFIX: &str = "~work/";

/// An object, by where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ObjectRef {
    pub tenant: String,
    pub stored: String,
    pub namespace: String,
    pub name: String,
}

impl ObjectRef {
    pub fn of(place: &Place) -> Self {
        Self {
            tenant: place.tenant.to_string(),
            stored: place.served.stored.to_string(),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
        }
    }

    /// From `TENANT/RESOURCE/NAMESPACE/NAME`.
    pub fn from_key(key: &str) -> Option<Self> {
        let mut parts = key.split('/').map(str::to_owned);
        let (tenant, stored, namespace, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(Self { tenant, stored, namespace, name })
    }
}

/// Something to look at after a commit. The same item waits once, so there are never more than a few for each object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Work {
    /// An object was written that will expire: see which is the first.
    Expiry,
    /// The owner with this UID is gone: look at its dependents.
    OwnerGone { tenant: String, uid: String },
    /// The object names an owner that could not be found.
    Dependent(ObjectRef),
    /// The object waits for its dependents to go, or to be let go.
    Waiting(ObjectRef),
    /// The namespace is going away.
    Namespace { tenant: String, name: String },
}

impl Work {
    /// The row in which the work survives a restart. Expiry has rows of its own.
    pub fn row(&self) -> Option<String> {
        match self {
            Self::Expiry => None,
            work => serde_json::to_string(work).ok().map(|json| format!("{WORK_PREFIX}{json}")),
        }
    }

    pub fn from_row(key: &str) -> Option<Self> {
        serde_json::from_str(key.strip_prefix(WORK_PREFIX)?).ok()
    }
}

/// Work that waits for its turn.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    waiting: Mutex<BTreeSet<Work>>,
    added: Notify,
}

impl WorkQueue {
    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Work>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, work: impl IntoIterator<Item = Work>) {
        let mut waiting = self.waiting();
        let before = waiting.len();
        waiting.extend(work);
        if waiting.len() > before {
            self.added.notify_one();
        }
    }

    pub fn take(&self) -> Option<Work> {
        self.waiting().pop_first()
    }

    /// Returns when something was added since the last call.
    pub async fn added(&self) {
        self.added.notified().await;
    }
}

/// A place of the kind that is stored there, while that kind is served.
pub(crate) fn place(kinds: &crate::apiserver::registry::Registry, object: &ObjectRef) -> Option<Place> {
    Some(Place {
        tenant: Arc::from(object.tenant.as_str()),
        served: kinds.by_stored(&object.stored)?.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    })
}
