//! Many reads and writes of one tenant in one transaction, past HTTP: for programs that play the part of a cluster's own
//! components and write in bulk. What they write is neither checked by schemas nor admitted, and leaves no field
//! manager: they are trusted as the server is.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kind::{Kind, ResourceId, Scope};
use super::object::{from_bytes, meta, rfc3339, set_meta};
use super::request::query::WriteOptions;
use super::server::Tenant;
use super::status::ApiError;
use super::txn::{Place, Stored, Txn, resource_prefix};
use super::user::User;
use super::verbs::delete::{self, DeleteOptions};
use super::verbs::{Part, Write, pipeline};
use super::writer::transact;
use crate::world::uuid;

impl Tenant {
    /// Runs `work` in a transaction: all that it writes is stored and seen at once, or, where it fails, nothing.
    ///
    /// # Errors
    /// What `work` fails with, or where the store fails or the server is gone.
    pub async fn batch<T, F>(&self, work: F) -> Result<T, ApiError>
    where
        F: FnOnce(&mut Session<'_, '_>) -> Result<T, ApiError> + Send + 'static,
        T: Send + 'static,
    {
        let tenant = Arc::clone(&self.name);
        transact(&self.shared.queue, move |txn| work(&mut Session { tenant, txn })).await
    }

    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A transaction over the objects of one tenant.
pub struct Session<'a, 't> {
    tenant: Arc<str>,
    txn: &'a mut Txn<'t>,
}

impl std::fmt::Debug for Session<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Session<'_, '_> {
    /// Keeps the server's observer from being told of this transaction: for the observer's own, after which it knows
    /// what there is.
    pub fn quiet(&mut self) {
        self.txn.quiet = true;
    }

    /// The tenant's name.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The time of the transaction.
    pub fn now(&self) -> Timestamp {
        self.txn.now
    }

    /// Visits the objects of a resource as they are stored, in order of their keys (namespace and name), until `visit`
    /// breaks.
    ///
    /// # Errors
    /// Where the store fails, or the resource is not served.
    pub fn visit(
        &self,
        resource: &ResourceId,
        namespace: Option<&str>,
        visit: &mut dyn FnMut(String, Bytes) -> ControlFlow<()>,
    ) -> Result<(), ApiError> {
        let served = self.txn.kinds.get(resource).ok_or_else(ApiError::no_such_path)?;
        let prefix = resource_prefix(&self.tenant, &served.stored, namespace);
        for (key, bytes) in self.txn.scan(&prefix, "", usize::MAX)? {
            if visit(key, bytes).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    ///
    /// # Errors
    /// Where the store fails, or the resource is not served.
    pub fn get(&self, resource: &ResourceId, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let place = self.place(resource, namespace, name)?;
        Ok(self.txn.object(&place)?.map(|stored| stored.value))
    }

    /// Stores an object: creates it, with UID and time, or replaces the one of its name, which keeps what the server
    /// owns. Returns its UID, and whether anything changed.
    ///
    /// # Errors
    /// Where the store fails, or the resource is not served.
    pub fn put(&mut self, resource: &ResourceId, mut object: Value) -> Result<(String, bool), ApiError> {
        let place = self.place(resource, meta(&object, "namespace"), meta(&object, "name"))?;
        let kind = Arc::clone(&place.served.kind);
        for (field, value) in [("apiVersion", kind.resource.api_version()), ("kind", kind.kind.clone())] {
            object[field] = json!(value);
        }
        let old = self.txn.object(&place)?;
        match &old {
            None => {
                set_meta(&mut object, "uid", Some(json!(uuid(self.txn.random))));
                set_meta(&mut object, "creationTimestamp", Some(json!(rfc3339(self.txn.now))));
                let generation = pipeline::has_generation(&self.write(&place)).then(|| json!(1));
                set_meta(&mut object, "generation", generation);
                self.txn.put(&place, None, &mut object)?;
                Ok((meta(&object, "uid").to_owned(), true))
            }
            Some(old) => Ok((meta(&old.value, "uid").to_owned(), self.replace(&place, old, object)?)),
        }
    }

    /// Changes an object that is there, as [`Session::put`] replaces one. Whether anything changed: nothing does where there
    /// is none of this name.
    ///
    /// # Errors
    /// Where the store fails, or the resource is not served.
    pub fn change(
        &mut self,
        resource: &ResourceId,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<bool, ApiError> {
        let place = self.place(resource, namespace, name)?;
        let Some(old) = self.txn.object(&place)? else { return Ok(false) };
        let mut object = old.value.clone();
        change(&mut object);
        self.replace(&place, &old, object)
    }

    fn replace(&mut self, place: &Place, old: &Stored, mut object: Value) -> Result<bool, ApiError> {
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"]
        {
            super::object::copy_meta(&old.value, &mut object, field);
        }
        let generation = pipeline::next_generation(&self.write(place), &old.value, &object);
        set_meta(&mut object, "generation", generation);
        if old.value == object {
            return Ok(false);
        }
        self.txn.put(place, Some(old), &mut object)?;
        Ok(true)
    }

    /// Deletes an object as a client would, with the kind's own grace where `grace_seconds` names none. What does not
    /// exist is gone already.
    ///
    /// # Errors
    /// Where the store fails, or the resource is not served.
    pub fn delete(
        &mut self,
        resource: &ResourceId,
        namespace: &str,
        name: &str,
        grace_seconds: Option<i64>,
    ) -> Result<(), ApiError> {
        let place = self.place(resource, namespace, name)?;
        let write = self.write(&place);
        match delete::delete(self.txn, &write, &DeleteOptions { grace_seconds, ..DeleteOptions::default() }) {
            Err(error) if error.code != 404 => Err(error),
            _ => Ok(()),
        }
    }

    /// Five random letters and digits, as names made from `generateName` end with.
    pub fn suffix(&self) -> String {
        super::verbs::create::suffix(self.txn.random)
    }

    /// Parses what [`Session::visit`] shows.
    ///
    /// # Errors
    /// Where the store holds something else than JSON.
    pub fn parse(bytes: &Bytes) -> Result<Value, ApiError> {
        from_bytes(bytes)
    }

    fn place(&self, resource: &ResourceId, namespace: &str, name: &str) -> Result<Place, ApiError> {
        let served = self.txn.kinds.get(resource).ok_or_else(ApiError::no_such_path)?.clone();
        let namespace = match served.kind.scope {
            Scope::Cluster => String::new(),
            Scope::Namespaced => namespace.to_owned(),
        };
        Ok(Place { tenant: Arc::clone(&self.tenant), served, namespace, name: name.to_owned() })
    }

    fn write(&self, place: &Place) -> Write {
        let kind: &Kind = &place.served.kind;
        Write {
            tenant: Arc::clone(&self.tenant),
            served: place.served.clone(),
            user: User::named("system:components"),
            namespace: (kind.scope == Scope::Namespaced).then(|| place.namespace.clone()),
            name: place.name.clone(),
            part: Part::Whole,
            is_patch: false,
            options: WriteOptions::for_deletion(false),
            manager: String::new(),
        }
    }
}
