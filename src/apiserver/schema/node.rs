//! One node of a schema, with the questions that every walk asks of it.

use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::rules::{AdditionalRules, Checks, ListType, Merging, Rules, Schema, Type};

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
    rules: &'s Rules,
    resource: bool,
}

impl<'s> Node<'s> {
    /// The root of a kind's schema.
    pub(crate) fn root(schema: &'s Schema) -> Self {
        Self { rules: schema.rules(), resource: true }
    }

    /// A node below the root.
    pub(super) fn inner(rules: &'s Rules) -> Self {
        Self { rules, resource: rules.embedded_resource }
    }

    /// The `type`.
    pub(crate) fn of_type(&self) -> &'s Type {
        &self.rules.of_type
    }

    /// Whether this node is a Kubernetes object.
    pub(crate) fn is_resource(&self) -> bool {
        self.resource
    }

    /// An integer or a text, whatever the type says.
    pub(super) fn is_int_or_string(&self) -> bool {
        self.rules.int_or_string
    }

    /// Fields that the schema does not name are kept as they are.
    pub(crate) fn preserves_unknown(&self) -> bool {
        self.rules.preserves_unknown
    }

    /// Whether null is a value.
    pub(super) fn nullable(&self) -> bool {
        self.rules.nullable
    }

    /// What a value is where it is not given.
    pub(crate) fn default(&self) -> Option<&'s Value> {
        self.rules.default.as_ref()
    }

    /// The `format`, empty where none is given.
    pub(crate) fn format(&self) -> &'s str {
        self.checks().and_then(|checks| checks.format.as_deref()).unwrap_or_default()
    }

    /// What a value has to be besides its type.
    pub(super) fn checks(&self) -> Option<&'s Checks> {
        self.rules.checks.as_deref()
    }

    /// Whether any properties are named.
    pub(crate) fn names_properties(&self) -> bool {
        !self.rules.properties.is_empty()
    }

    /// Names of properties and their defaults, of those that have one.
    pub(super) fn defaults(&self) -> impl Iterator<Item = (&'s str, &'s Value)> + use<'s> {
        let properties = self.rules.has_defaults.then_some(&self.rules.properties);
        properties.into_iter().flatten().filter_map(|(name, property)| Some((&**name, property.default.as_ref()?)))
    }

    /// The schema of a named field, also of the implied ones.
    pub(crate) fn property(&self, name: &str) -> Option<Node<'s>> {
        if self.resource {
            match name {
                "metadata" => return Some(Node::inner(object_meta().rules())),
                "apiVersion" | "kind" => return Some(Node::inner(string().rules())),
                _ => {}
            }
        }
        self.rules.properties.get(name).map(Node::inner)
    }

    /// What holds for fields that are not named.
    pub(crate) fn additional(&self) -> Additional<'s> {
        match &self.rules.additional {
            AdditionalRules::Unspecified => Additional::Unspecified,
            AdditionalRules::Anything => Additional::Anything,
            AdditionalRules::Nothing => Additional::Nothing,
            AdditionalRules::Schema(rules) => Additional::Schema(Node::inner(rules)),
        }
    }

    /// The schema of list items.
    pub(crate) fn items(&self) -> Option<Node<'s>> {
        self.rules.items.as_deref().map(Node::inner)
    }

    /// How a list tells its items apart; `None` where it is one whole.
    pub(crate) fn list_type(&self) -> Option<ListType> {
        self.merging().and_then(|merging| merging.list)
    }

    /// The keys of a list of type `map`.
    pub(crate) fn list_map_keys(&self) -> impl Iterator<Item = &'s str> + use<'s> {
        self.merging().into_iter().flat_map(|merging| merging.keys.iter().map(|key| &**key))
    }

    /// Whether a map is one whole.
    pub(crate) fn map_is_atomic(&self) -> bool {
        self.merging().is_some_and(|merging| merging.map_is_atomic)
    }

    /// Whether a strategic merge patch merges this list.
    pub(crate) fn strategic_merge(&self) -> bool {
        self.merging().is_some_and(|merging| merging.strategic_merge)
    }

    /// The field by which it tells items apart.
    pub(crate) fn strategic_key(&self) -> Option<&'s str> {
        self.merging().and_then(|merging| merging.strategic_key.as_deref())
    }

    fn merging(&self) -> Option<&'s Merging> {
        self.rules.merging.as_deref()
    }
}

fn string() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::of(json!({"type": "string"})))
}

/// The schema of `metadata`, the same for every kind.
pub(crate) fn object_meta() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::of(crate::apiserver::core::structural::<ObjectMeta>()))
}
