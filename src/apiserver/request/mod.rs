//! Reading a request: path, query, headers.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod selector;
