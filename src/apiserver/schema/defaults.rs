//! Filling in defaults.

use serde_json::Value;

use super::node::{Additional, Node};
use super::rules::{Schema, Type};

/// Sets every missing field that has a `default`, at any depth below fields that are present, and removes nulls
/// where the schema does not allow them (which then take the default, if there is one).
pub fn default(schema: &Schema, object: &mut Value) {
    walk(Node::root(schema), object);
}

fn walk(node: Node<'_>, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| !field.is_null() || !forbids_null(node, name));
            for (name, default) in node.defaults() {
                let is_implied = node.is_resource() && matches!(name, "apiVersion" | "kind" | "metadata");
                if !is_implied && !fields.contains_key(name) {
                    fields.insert(name.to_owned(), default.clone());
                }
            }
            for (name, field) in fields.iter_mut() {
                match (node.property(name), node.additional()) {
                    (Some(property), _) => walk(property, field),
                    (None, Additional::Schema(additional)) => walk(additional, field),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = node.items() {
                items.iter_mut().for_each(|item| walk(schema, item));
            }
        }
        _ => {}
    }
}

/// Whether a field of this name has a schema, and that schema does not allow null.
fn forbids_null(node: Node<'_>, name: &str) -> bool {
    let schema = match (node.property(name), node.additional()) {
        (Some(property), _) => property,
        (None, Additional::Schema(additional)) => additional,
        _ => return false,
    };
    let untyped = *schema.of_type() == Type::Any && schema.preserves_unknown();
    !schema.nullable() && !untyped
}
