//! One operation inside the writer's transaction: it sees what operations before it in the same batch wrote, and
//! stages its own writes, events and follow-up work, which are dropped as one if it fails.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admission::Reader;
use super::gc::{ObjectRef, OwnerState, Work, owner_state};
use super::hub::{Change, Event, TopicKey};
use super::kind::ResourceId;
use super::object::{FOREGROUND, ORPHAN, finalizers, from_bytes, is_deleting, later, meta, owners, set_meta, to_bytes};
use super::registry::{Registry, Served};
use super::status::ApiError;
use super::store::{Snapshot, visit_over};
use crate::world::Random;

/// Where an object is stored.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub tenant: Arc<str>,
    pub served: Served,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

impl Place {
    pub fn key(&self) -> String {
        object_key(&self.tenant, &self.served.stored, &self.namespace, &self.name)
    }
}

pub(crate) fn object_key(tenant: &str, stored: &str, namespace: &str, name: &str) -> String {
    format!("{tenant}/{stored}/{namespace}/{name}")
}

/// The prefix of a resource, or of its objects in one namespace.
pub(crate) fn resource_prefix(tenant: &str, stored: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{tenant}/{stored}/{namespace}/"),
        None => format!("{tenant}/{stored}/"),
    }
}

/// Rows `TENANT/~owners/UID/RESOURCE/NAMESPACE/NAME`: which objects name the owner with this UID. No resource's name
/// begins with a tilde.
pub(crate) fn owner_prefix(tenant: &str, uid: &str) -> String {
    // A client chooses the UID it names; a slash in it must not reach other rows.
    format!("{tenant}/~owners/{}/", uid.replace('/', "%2F"))
}

/// Rows `~ttl/SECONDS/KEY` with the revision that was written: when the object is due, unless written again. No
/// tenant's prefix begins with a tilde.
pub(crate) const TTL_PREFIX: &str = "~ttl/";

pub(crate) fn ttl_key(expires: Timestamp, key: &str) -> String {
    format!("{TTL_PREFIX}{:020}/{key}", expires.as_second().max(0))
}

/// What an operation, or the batch so far, wants to write.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub writes: BTreeMap<String, Option<Bytes>>,
    pub events: Vec<(TopicKey, Event)>,
    pub work: Vec<Work>,
    /// The topics that the server's observer is to be told of.
    pub observed: BTreeSet<TopicKey>,
}

impl Staged {
    /// Takes over what a successful operation staged.
    pub fn absorb(&mut self, mut other: Self) {
        self.writes.append(&mut other.writes);
        self.events.append(&mut other.events);
        self.work.append(&mut other.work);
        self.observed.append(&mut other.observed);
    }
}

/// A transaction in progress.
pub(crate) struct Txn<'a> {
    snapshot: &'a dyn Snapshot,
    before: &'a Staged,
    staged: Staged,
    revision: u64,
    pub kinds: &'a Registry,
    pub now: Timestamp,
    pub random: &'a dyn Random,
    /// The server's observer is not told of this operation: it is the observer's own.
    pub quiet: bool,
}

impl<'a> Txn<'a> {
    pub fn new(
        snapshot: &'a dyn Snapshot,
        before: &'a Staged,
        revision: u64,
        kinds: &'a Registry,
        now: Timestamp,
        random: &'a dyn Random,
    ) -> Self {
        Self { snapshot, before, staged: Staged::default(), revision, kinds, now, random, quiet: false }
    }

    /// What was staged and the revision reached, or nothing where nothing was written.
    pub fn into_staged(self) -> (Staged, u64) {
        let mut staged = self.staged;
        if !self.quiet {
            staged.observed = staged.events.iter().map(|(topic, _)| topic.clone()).collect();
        }
        (staged, self.revision)
    }

    /// The value of a key as this operation sees it.
    pub fn read(&self, key: &str) -> Result<Option<Bytes>, ApiError> {
        if let Some(value) = self.staged.writes.get(key).or_else(|| self.before.writes.get(key)) {
            return Ok(value.clone());
        }
        Ok(self.snapshot.get(key)?)
    }

    /// Up to `limit` keys with a prefix, from a key on, in order, as this operation sees them.
    pub fn scan(&self, prefix: &str, from: &str, limit: usize) -> Result<Vec<(String, Bytes)>, ApiError> {
        let mut overlay = BTreeMap::new();
        for staged in [self.before, &self.staged] {
            let rows = staged.writes.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            overlay.extend(rows.map(|(key, value)| (key.as_str(), value.as_deref())));
        }
        let mut out = Vec::new();
        visit_over(self.snapshot, overlay, prefix, from, &mut |key, value| {
            if out.len() < limit {
                out.push((key.to_owned(), Bytes::copy_from_slice(value)));
            }
            if out.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(out)
    }

    /// The object at a place, parsed.
    pub fn object(&self, place: &Place) -> Result<Option<Stored>, ApiError> {
        self.read(&place.key())?.map(|bytes| Ok(Stored { value: from_bytes(&bytes)?, bytes })).transpose()
    }

    /// Writes an object under a new revision, which is set in its metadata. `old` is the object as it is stored now. Returns
    /// what is stored.
    pub fn put(&mut self, place: &Place, old: Option<&Stored>, object: &mut Value) -> Result<Bytes, ApiError> {
        self.revision += 1;
        set_meta(object, "resourceVersion", Some(json!(self.revision.to_string())));
        let bytes = to_bytes(object)?;
        let key = place.key();
        self.index_owners(place, old.map(|old| &old.value), Some(object))?;
        if let Some(ttl) = place.served.kind.ttl {
            let due = later(self.now, i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
            self.staged.writes.insert(ttl_key(due, &key), Some(Bytes::from(self.revision.to_string())));
            self.follow_up(Work::Expiry);
        }
        let change = if old.is_some() { Change::Modified } else { Change::Added };
        self.emit(place, change, bytes.clone(), old);
        self.staged.writes.insert(key, Some(bytes.clone()));
        self.after_marking(place, object);
        Ok(bytes)
    }

    /// Removes an object under a new revision, which its last state is given.
    pub fn remove(&mut self, place: &Place, old: &Stored, last: &mut Value) -> Result<(), ApiError> {
        self.revision += 1;
        set_meta(last, "resourceVersion", Some(json!(self.revision.to_string())));
        let bytes = to_bytes(last)?;
        self.index_owners(place, Some(&old.value), None)?;
        self.emit(place, Change::Deleted, bytes, Some(old));
        self.staged.writes.insert(place.key(), None);
        self.after_removal(place, &old.value)
    }

    /// Asks for follow-up work after the commit.
    fn follow_up(&mut self, work: Work) {
        if let Some(row) = work.row() {
            self.staged.writes.insert(row, Some(Bytes::new()));
        }
        self.staged.work.push(work);
    }

    /// An object that is marked for deletion may wait for its dependents, or its contents.
    fn after_marking(&mut self, place: &Place, object: &Value) {
        if !is_deleting(object) {
            return;
        }
        if finalizers(object).iter().any(|name| [FOREGROUND, ORPHAN].contains(name)) {
            self.follow_up(Work::Waiting(ObjectRef::of(place)));
        }
        if &*place.served.stored == "namespaces" {
            self.follow_up(Work::Namespace { tenant: place.tenant.to_string(), name: place.name.clone() });
        }
    }

    /// An object that is gone may leave dependents, and a namespace that waited for it.
    fn after_removal(&mut self, place: &Place, old: &Value) -> Result<(), ApiError> {
        let (tenant, uid) = (place.tenant.to_string(), meta(old, "uid").to_owned());
        if !self.scan(&owner_prefix(&tenant, &uid), "", 1)?.is_empty() {
            self.follow_up(Work::OwnerGone { tenant: tenant.clone(), uid });
        }
        if place.namespace.is_empty() {
            return Ok(());
        }
        let Some(served) = self.kinds.namespaces() else { return Ok(()) };
        let namespace = Place {
            tenant: Arc::clone(&place.tenant),
            served: served.clone(),
            namespace: String::new(),
            name: place.namespace.clone(),
        };
        if self.object(&namespace)?.is_some_and(|stored| is_deleting(&stored.value)) {
            self.follow_up(Work::Namespace { tenant, name: place.namespace.clone() });
        }
        Ok(())
    }

    /// Removes a row that is no object.
    pub fn remove_row(&mut self, key: String) {
        self.staged.writes.insert(key, None);
    }

    fn emit(&mut self, place: &Place, change: Change, object: Bytes, previous: Option<&Stored>) {
        let event = Event {
            revision: self.revision,
            change,
            namespace: place.namespace.as_str().into(),
            name: place.name.as_str().into(),
            object,
            previous: previous.map(|previous| previous.bytes.clone()),
            previous_revision: previous.and_then(|previous| meta(&previous.value, "resourceVersion").parse().ok()),
            shares_previous: false,
        };
        self.staged.events.push(((Arc::clone(&place.tenant), Arc::clone(&place.served.stored)), event));
    }

    /// Keeps the rows that lead from owners to dependents, and looks at what a change of owners leaves to do.
    fn index_owners(&mut self, place: &Place, old: Option<&Value>, new: Option<&Value>) -> Result<(), ApiError> {
        let (before, after) = (old.map(owners).unwrap_or_default(), new.map(owners).unwrap_or_default());
        if before == after {
            return Ok(());
        }
        let row = |uid: &str| {
            let prefix = owner_prefix(&place.tenant, uid);
            format!("{prefix}{}/{}/{}", place.served.stored, place.namespace, place.name)
        };
        for owner in &before {
            self.staged.writes.insert(row(&owner.uid), None);
        }
        for owner in &after {
            self.staged.writes.insert(row(&owner.uid), Some(Bytes::new()));
        }
        for owner in before.iter().filter(|owner| owner.blocks && !after.contains(owner)) {
            if owner_state(self, place, owner)? == OwnerState::Waiting
                && let Some(served) = self.kinds.by_kind(&owner.group, &owner.kind)
            {
                self.follow_up(Work::Waiting(ObjectRef {
                    tenant: place.tenant.to_string(),
                    stored: served.stored.to_string(),
                    namespace: served.namespace_for(&place.namespace),
                    name: owner.name.clone(),
                }));
            }
        }
        for owner in after.iter().filter(|owner| !before.contains(owner)) {
            if owner_state(self, place, owner)? != OwnerState::Solid {
                self.follow_up(Work::Dependent(ObjectRef::of(place)));
            }
        }
        Ok(())
    }
}

/// An object as stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub value: Value,
    pub bytes: Bytes,
}

/// Other objects for admission functions. A failed read is remembered and fails the operation: an object that could
/// not be read must never look absent.
pub(crate) struct TxnReader<'a, 'b> {
    txn: &'a Txn<'b>,
    tenant: &'a str,
    failure: RefCell<Option<ApiError>>,
}

impl<'a, 'b> TxnReader<'a, 'b> {
    pub fn new(txn: &'a Txn<'b>, tenant: &'a str) -> Self {
        Self { txn, tenant, failure: RefCell::new(None) }
    }

    pub fn finish(self) -> Result<(), ApiError> {
        self.failure.into_inner().map_or(Ok(()), Err)
    }

    fn note<T: Default>(&self, result: Result<T, ApiError>) -> T {
        result.unwrap_or_else(|error| {
            self.failure.replace(Some(error));
            T::default()
        })
    }
}

impl Reader for TxnReader<'_, '_> {
    fn get(&self, resource: &ResourceId, namespace: Option<&str>, name: &str) -> Option<Value> {
        let served = self.txn.kinds.get(resource)?;
        let key = object_key(self.tenant, &served.stored, namespace.unwrap_or_default(), name);
        self.note(self.txn.read(&key).and_then(|bytes| bytes.map(|bytes| from_bytes(&bytes)).transpose()))
    }

    fn list(&self, resource: &ResourceId) -> Vec<Value> {
        let Some(served) = self.txn.kinds.get(resource) else { return Vec::new() };
        let prefix = resource_prefix(self.tenant, &served.stored, None);
        let rows = self.txn.scan(&prefix, "", usize::MAX);
        self.note(rows.and_then(|rows| rows.iter().map(|(_, bytes)| from_bytes(bytes)).collect()))
    }
}
