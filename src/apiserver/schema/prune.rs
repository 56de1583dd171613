//! Removing what the schema does not name.

use serde_json::Value;

use super::node::{Additional, Node};
use super::rules::Schema;

/// Removes every field that the schema does not name, except below `x-kubernetes-preserve-unknown-fields`.
pub fn prune(schema: &Schema, object: &mut Value) {
    walk(Node::root(schema), object);
}

fn walk(node: Node<'_>, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let preserves = node.preserves_unknown();
            fields.retain(|name, field| match (node.property(name), node.additional()) {
                (Some(property), _) => {
                    walk(property, field);
                    true
                }
                (None, Additional::Schema(additional)) => {
                    walk(additional, field);
                    true
                }
                (None, Additional::Anything) => true,
                (None, Additional::Unspecified | Additional::Nothing) => preserves,
            });
        }
        Value::Array(items) => {
            if let Some(schema) = node.items() {
                items.iter_mut().for_each(|item| walk(schema, item));
            }
        }
        _ => {}
    }
}
