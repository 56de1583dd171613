//! OpenAPI v2: one document for everything, made from those of v3. Clients of before Kubernetes 1.27 ask for it, to check
//! objects, to explain fields, and to learn whether the server knows `dryRun`.
//!
//! Version 2 cannot say all that version 3 can: what a value may be besides its type is left out, as Kubernetes leaves it
//! out for custom kinds. Servers enforce it all the same.

use serde_json::{Map, Value, json};

/// The document of all the documents of version 3.
pub(crate) fn document(documents: &[Value]) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for document in documents {
        for (path, item) in entries(&document["paths"]) {
            paths.insert(path.clone(), path_item(item));
        }
        for (name, schema) in entries(&document["components"]["schemas"]) {
            definitions.insert(name.clone(), definition(schema));
        }
    }
    json!({"swagger": "2.0", "info": {"title": "Kina", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths, "definitions": definitions})
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn path_item(item: &Value) -> Value {
    let member = |(name, value): (&String, &Value)| {
        let found = match name.as_str() {
            "parameters" => parameters(value).into(),
            _ => operation(value),
        };
        (name.clone(), found)
    };
    Value::Object(entries(item).map(member).collect())
}

fn operation(operation: &Value) -> Value {
    let mut found = Map::new();
    for name in ["operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind"] {
        found.insert(name.into(), operation[name].clone());
    }
    let mut known = parameters(&operation["parameters"]);
    let bodies = &operation["requestBody"]["content"];
    let consumes: Vec<&String> = entries(bodies).map(|(media, _)| media).collect();
    if let Some((_, body)) = entries(bodies).next() {
        found.insert("consumes".into(), json!(consumes));
        known.push(json!({"name": "body", "in": "body", "required": true, "schema": definition(&body["schema"])}));
    }
    let answer = definition(&operation["responses"]["200"]["content"]["application/json"]["schema"]);
    found.insert("produces".into(), json!(["application/json"]));
    found.insert("parameters".into(), known.into());
    found.insert("responses".into(), json!({"200": {"description": "OK", "schema": answer}}));
    Value::Object(found)
}

/// Parameters, whose type stands in them and not in a schema.
fn parameters(list: &Value) -> Vec<Value> {
    let parameter = |parameter: &Value| {
        let mut found = parameter.clone();
        if let Value::Object(found) = &mut found
            && let Some(Value::Object(schema)) = found.remove("schema")
        {
            found.extend(schema);
        }
        found
    };
    list.as_array().into_iter().flatten().map(parameter).collect()
}

/// A schema as version 2 has it.
fn definition(schema: &Value) -> Value {
    let mut found = Map::new();
    for (name, value) in entries(schema) {
        if name == "description" || name == "format" || name.starts_with("x-kubernetes-") {
            found.insert(name.clone(), value.clone());
        }
    }
    if let Some(name) = refers_to(schema).or_else(|| refers_to(&schema["allOf"][0])) {
        found.insert("$ref".into(), format!("#/definitions/{name}").into());
        return found.into();
    }
    if schema["x-kubernetes-int-or-string"] == true {
        found.extend([("type", "string"), ("format", "int-or-string")].map(|(name, text)| (name.into(), text.into())));
        return found.into();
    }
    // That null is allowed cannot be said, nor which fields besides the known ones.
    if schema["nullable"] == true {
        return found.into();
    }
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match schema["type"].as_str() {
        Some("array") => {
            found.insert("type".into(), "array".into());
            found.insert("items".into(), definition(&schema["items"]));
        }
        Some(name) => {
            found.insert("type".into(), name.into());
        }
        None => {}
    }
    if schema["properties"].is_object() && !open {
        let properties = entries(&schema["properties"]).map(|(name, schema)| (name.clone(), definition(schema)));
        found.insert("properties".into(), Value::Object(properties.collect()));
        found.extend(schema.get("required").map(|required| ("required".to_owned(), required.clone())));
    }
    if schema["additionalProperties"].is_object() && !open {
        found.insert("additionalProperties".into(), definition(&schema["additionalProperties"]));
    }
    found.into()
}

/// The name of the schema that a reference names.
fn refers_to(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/components/schemas/")
}
