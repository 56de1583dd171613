//! Structural schemas: what the server does to an object with the OpenAPI v3 schema of its kind.
//!
//! The order in a write is [`unknown_fields`] (reported or refused), [`prune`], [`default`], [`validate`], as in
//! Kubernetes (`apiextensions-apiserver/pkg/apiserver/schema`). Every function takes the [`Schema`] of a whole object:
//! at its root, and wherever `x-kubernetes-embedded-resource` stands, `apiVersion`, `kind` and `metadata` are implied.
//! Schemas are ours (generated from types), so their depth is bounded; the depth of values is bounded by the JSON
//! parser (128 levels, `serde_json`'s limit).

mod composite;
mod defaults;
mod duplicates;
mod format;
mod metadata;
mod names;
mod node;
mod path;
mod prune;
mod rules;
mod supported;
#[cfg(test)]
mod tests;
mod unknown;
mod validate;

pub use defaults::default;
pub use duplicates::duplicate_fields;
pub use metadata::{validate_metadata, validate_metadata_update};
pub use names::{is_dns1035_label, is_dns1123_label, is_dns1123_subdomain, is_label_value, is_qualified_name};
pub(crate) use node::{Additional, Node, object_meta};
pub use prune::prune;
pub use rules::Schema;
pub(crate) use rules::{ListType, Type};
pub use supported::unsupported;
pub use unknown::unknown_fields;
pub use validate::{validate, validate_change};
