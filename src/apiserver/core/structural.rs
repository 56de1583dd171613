//! From a type's JSON Schema to a structural schema: no references, no meta keywords.

use std::collections::BTreeMap;

use k8s_openapi::schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::merge;

/// The structural schema of a type, with every reference replaced by what it refers to.
///
/// The types here are not recursive; a reference that contains itself would be left open (an object of any fields).
pub(crate) fn structural<T: JsonSchema>() -> Value {
    // Not `openapi3`: that wraps every reference in an `allOf`.
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None);
    let mut root = settings.into_generator().into_root_schema_for::<T>().to_value();
    let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
    if let Some(found) = root.as_object_mut().and_then(|root| root.remove("$defs"))
        && let Value::Object(found) = found
    {
        definitions.extend(found);
    }
    for (name, schema) in &mut definitions {
        merge::annotate(name, schema);
    }
    merge::annotate(&T::schema_name(), &mut root);
    inline(&mut root, &definitions, &mut Vec::new());
    if let Some(root) = root.as_object_mut() {
        root.remove("title");
        // `metadata` is implied in every object, and a client may leave out what the server fills in.
        if let Some(Value::Array(required)) = root.get_mut("required") {
            required.retain(|name| name != "metadata");
            if required.is_empty() {
                root.remove("required");
            }
        }
    }
    root
}

/// Replaces references below a schema; `open` are the definitions being replaced around it.
fn inline<'d>(schema: &mut Value, definitions: &'d BTreeMap<String, Value>, open: &mut Vec<&'d str>) {
    let Value::Object(keywords) = schema else { return };
    let mut entered = false;
    if let Some(Value::String(reference)) = keywords.remove("$ref") {
        let name = reference.rsplit('/').next().unwrap_or_default();
        match definitions.get_key_value(name).filter(|_| !open.contains(&name)) {
            Some((name, Value::Object(definition))) => {
                // What stands beside the reference (a description) is about this use, and wins.
                for (keyword, value) in definition {
                    keywords.entry(keyword.clone()).or_insert_with(|| value.clone());
                }
                open.push(name);
                entered = true;
            }
            _ => {
                keywords.insert("type".into(), "object".into());
                keywords.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
            }
        }
    }
    if keywords.get("type").is_some_and(|kind| kind == "object")
        && !keywords.contains_key("properties")
        && !keywords.contains_key("additionalProperties")
    {
        keywords.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    children(keywords, |child| inline(child, definitions, open));
    if entered {
        open.pop();
    }
}

/// Removes `required` from a schema and everything below it.
pub(super) fn require_nothing(schema: &mut Value) {
    if let Value::Object(keywords) = schema {
        keywords.remove("required");
        children(keywords, require_nothing);
    }
}

fn children(keywords: &mut Map<String, Value>, mut visit: impl FnMut(&mut Value)) {
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(&mut visit),
            ("items" | "additionalProperties" | "not", value) => visit(value),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => branches.iter_mut().for_each(&mut visit),
            _ => {}
        }
    }
}
