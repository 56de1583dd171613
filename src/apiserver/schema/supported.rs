//! Telling what a schema asks for that this server does not enforce.

use regex::Regex;
use serde_json::Value;

/// Keywords that are enforced, or that say nothing about validity.
const KNOWN: &[&str] = &[
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-group-version-kind",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-preserve-unknown-fields",
];

/// What a schema demands that is not enforced here, each as `path: keyword`: a kind with such a schema must not be
/// served, since its rules would be ignored. Among them are `$ref` and CEL rules (`x-kubernetes-validations`).
pub fn unsupported(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, "", &mut found);
    found
}

fn walk(schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else { return };
    let here = if path.is_empty() { "." } else { path };
    for (keyword, value) in keywords {
        if !KNOWN.contains(&keyword.as_str()) {
            found.push(format!("{here}: {keyword}"));
        }
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.iter().for_each(|(name, property)| walk(property, &join(path, name), found));
            }
            ("additionalProperties", schema) => walk(schema, &join(path, "*"), found),
            ("items", schema) => walk(schema, &format!("{path}[]"), found),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter().for_each(|branch| walk(branch, path, found));
            }
            ("not", schema) => walk(schema, path, found),
            ("pattern", Value::String(expression)) if Regex::new(expression).is_err() => {
                found.push(format!("{here}: pattern {expression}"));
            }
            _ => {}
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
