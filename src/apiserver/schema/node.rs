//! One node of a schema, with the questions that every walk asks of it.

use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

/// What a schema says about fields that it does not name.
#[derive(Clone, Copy)]
pub(crate) enum Additional<'s> {
    /// Nothing is said: they are unknown.
    Unspecified,
    /// `additionalProperties: true`.
    Anything,
    /// `additionalProperties: false`.
    Nothing,
    /// Each has this schema.
    Schema(Node<'s>),
}

/// A schema node; `resource` marks nodes that are Kubernetes objects, where `apiVersion`, `kind` and `metadata` are implied.
#[derive(Clone, Copy)]
pub(crate) struct Node<'s> {
    schema: &'s Value,
    resource: bool,
}

impl<'s> Node<'s> {
    /// The root of a kind's schema.
    pub(crate) fn root(schema: &'s Value) -> Self {
        Self { schema, resource: true }
    }

    /// A node below the root.
    pub(crate) fn inner(schema: &'s Value) -> Self {
        let resource = schema.get("x-kubernetes-embedded-resource").and_then(Value::as_bool).unwrap_or(false);
        Self { schema, resource }
    }

    /// The value of a keyword.
    pub(crate) fn keyword(&self, name: &str) -> Option<&'s Value> {
        self.schema.get(name)
    }

    /// A boolean keyword, false where it is absent.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.keyword(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The `type`, empty where none is given.
    pub(crate) fn type_name(&self) -> &'s str {
        self.keyword("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether this node is a Kubernetes object.
    pub(crate) fn is_resource(&self) -> bool {
        self.resource
    }

    /// Fields that the schema does not name are kept as they are.
    pub(crate) fn preserves_unknown(&self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
    }

    /// Whether null is a value.
    pub(crate) fn nullable(&self) -> bool {
        self.flag("nullable")
    }

    /// The named properties.
    pub(crate) fn properties(&self) -> Option<&'s Map<String, Value>> {
        self.keyword("properties").and_then(Value::as_object)
    }

    /// The schema of a named field, also of the implied ones.
    pub(crate) fn property(&self, name: &str) -> Option<Node<'s>> {
        if self.resource {
            match name {
                "metadata" => return Some(Node::inner(object_meta_schema())),
                "apiVersion" | "kind" => return Some(Node::inner(string_schema())),
                _ => {}
            }
        }
        self.properties().and_then(|properties| properties.get(name)).map(Node::inner)
    }

    /// What holds for fields that are not named.
    pub(crate) fn additional(&self) -> Additional<'s> {
        match self.keyword("additionalProperties") {
            None => Additional::Unspecified,
            Some(Value::Bool(true)) => Additional::Anything,
            Some(Value::Bool(false)) => Additional::Nothing,
            Some(schema) => Additional::Schema(Node::inner(schema)),
        }
    }

    /// The schema of list items.
    pub(crate) fn items(&self) -> Option<Node<'s>> {
        self.keyword("items").filter(|items| items.is_object()).map(Node::inner)
    }

    /// The keys of a list of type `map`.
    pub(crate) fn list_map_keys(&self) -> Vec<&'s str> {
        let keys = self.keyword("x-kubernetes-list-map-keys").and_then(Value::as_array);
        keys.map(|keys| keys.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }
}

fn string_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| json!({"type": "string"}))
}

/// The schema of `metadata`, the same for every kind.
pub(crate) fn object_meta_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(crate::apiserver::core::structural::<ObjectMeta>)
}
