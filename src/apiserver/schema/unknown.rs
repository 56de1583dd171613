//! Naming what the schema does not name.

use serde_json::Value;

use super::node::{Additional, Node};
use super::path::Path;
use super::rules::Schema;

/// The paths of all fields that [`super::prune`] would remove, in dotted form (`spec.list[0].field`), in order of path.
pub fn unknown_fields(schema: &Schema, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(Node::root(schema), object, &Path::Root, &mut found);
    found
}

fn walk(node: Node<'_>, value: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = Path::Field(path, name);
                match (node.property(name), node.additional()) {
                    (Some(property), _) => walk(property, field, &path, found),
                    (None, Additional::Schema(additional)) => walk(additional, field, &path, found),
                    (None, Additional::Anything) => {}
                    (None, Additional::Unspecified | Additional::Nothing) => {
                        if !node.preserves_unknown() {
                            found.push(path.to_string());
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = node.items() {
                for (index, item) in items.iter().enumerate() {
                    walk(schema, item, &Path::Item(path, index), found);
                }
            }
        }
        _ => {}
    }
}
