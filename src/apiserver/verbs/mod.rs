//! What clients can do to objects: each verb a function, those that write inside the writer's transaction.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod evict;
pub(crate) mod list;
pub(crate) mod patch;
pub(crate) mod pipeline;
pub(crate) mod scale;
pub(crate) mod update;
pub(crate) mod watch;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::kind::Kind;
use super::registry::Served;
use super::request::query::WriteOptions;
use super::txn::Place;
use super::user::User;

/// Which part of an object a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it, but for a status that is a subresource.
    Whole,
    /// `/status`.
    Status,
    /// `/scale`.
    Scale,
}

/// A write to one object.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub tenant: Arc<str>,
    pub served: Served,
    pub user: User,
    pub namespace: Option<String>,
    /// Empty for a creation.
    pub name: String,
    pub part: Part,
    /// By a patch.
    pub is_patch: bool,
    pub options: WriteOptions,
    /// The field manager: as asked for, or named after the client.
    pub manager: String,
}

impl Write {
    pub fn kind(&self) -> &Kind {
        &self.served.kind
    }

    pub fn subresource(&self) -> Option<&'static str> {
        match self.part {
            Part::Whole => None,
            Part::Status => Some("status"),
            Part::Scale => Some("scale"),
        }
    }

    pub fn place(&self, name: &str) -> Place {
        Place {
            tenant: Arc::clone(&self.tenant),
            served: self.served.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        }
    }

    pub fn is_namespace(&self) -> bool {
        self.served.kind.resource.group.is_empty() && self.served.kind.resource.plural == "namespaces"
    }
}

/// The answer to a write: an object in the form of the kind that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub object: Value,
    /// The same in JSON, where it was stored just so.
    pub bytes: Option<Bytes>,
    pub created: bool,
    pub warnings: Vec<String>,
}

/// A stored object in the form of `kind`: itself, where that is the form it is stored in.
pub(crate) fn served<'o>(kind: &Kind, stored: &'o Value) -> Cow<'o, Value> {
    if kind.stored_as.is_none() { Cow::Borrowed(stored) } else { Cow::Owned(to_served(kind, stored.clone())) }
}

/// A stored object in the form of `kind`.
pub(crate) fn to_served(kind: &Kind, mut object: Value) -> Value {
    if let Some(stored_as) = &kind.stored_as {
        (stored_as.from_stored)(&mut object);
    }
    object
}

/// An object of `kind` in the form it is stored in.
pub(crate) fn to_stored(kind: &Kind, mut object: Value) -> Value {
    if let Some(stored_as) = &kind.stored_as {
        (stored_as.to_stored)(&mut object);
    }
    object
}
