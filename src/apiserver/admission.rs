//! Admission: functions that a kind registers, called inside the write, before anything is stored.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde_json::Value;

use super::kind::{FieldFault, ResourceId};
use super::user::User;

/// What a request is about to do to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The object does not exist yet.
    Create,
    /// The object exists and its content changes.
    Update,
    /// The object is to be deleted (first request only: a deletion already marked is not admitted again).
    Delete,
}

/// Reads other objects as they are inside the same transaction.
pub trait Reader {
    /// One object by name, `None` where it does not exist.
    fn get(&self, resource: &ResourceId, namespace: Option<&str>, name: &str) -> Option<Value>;
    /// All objects of a resource, in order of key.
    fn list(&self, resource: &ResourceId) -> Vec<Value>;
}

/// The write that asks for admission.
pub struct Request<'a> {
    /// Create, update or delete.
    pub operation: Operation,
    /// `Some("status")` for a write to a subresource.
    pub subresource: Option<&'a str>,
    /// What kind of object.
    pub resource: &'a ResourceId,
    /// Its name.
    pub name: &'a str,
    /// Its namespace, for namespaced kinds.
    pub namespace: Option<&'a str>,
    /// Who asks.
    pub user: &'a User,
    /// The stored object, for updates and deletions.
    pub old: Option<&'a Value>,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The field manager named by the request, if any.
    pub field_manager: Option<&'a str>,
    /// Other objects.
    pub reader: &'a dyn Reader,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("operation", &self.operation)
            .field("subresource", &self.subresource)
            .field("resource", &self.resource)
            .field("name", &self.name)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 403 `Forbidden`: the message says what forbids it and what to do instead.
    Forbidden {
        /// Whole sentence for a person.
        message: String,
        /// The fields concerned, if any.
        causes: Vec<FieldFault>,
    },
    /// 422 `Invalid`, with the faults.
    Invalid {
        /// At least one fault.
        faults: Vec<FieldFault>,
    },
    /// 409 `Conflict`.
    Conflict {
        /// Whole sentence for a person.
        message: String,
    },
}

/// What an admission function says besides yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Sent to the client as `Warning` headers.
    pub warnings: Vec<String>,
}

/// The object that is about to be stored, which knows whether anyone had it to change it: one that nobody touched is as it
/// was checked before.
#[derive(Debug)]
pub struct Draft<'o> {
    object: &'o mut Value,
    touched: bool,
}

impl<'o> Draft<'o> {
    /// Of an object.
    pub fn of(object: &'o mut Value) -> Self {
        Self { object, touched: false }
    }

    /// Whether anyone had the object to change it.
    pub fn is_touched(&self) -> bool {
        self.touched
    }
}

impl Deref for Draft<'_> {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.object
    }
}

impl DerefMut for Draft<'_> {
    fn deref_mut(&mut self) -> &mut Value {
        self.touched = true;
        self.object
    }
}

/// A function that may refuse a write, or complete the object that is about to be stored.
pub trait Admission: Send + Sync {
    /// `object` is the object as it would be stored; for a deletion, the object as it is (changes are ignored).
    ///
    /// # Errors
    /// [`Denied`] refuses the write; nothing is stored.
    fn admit(&self, request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied>;
}
