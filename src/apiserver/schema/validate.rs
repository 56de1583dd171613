//! Checking an object against its schema, worded as kube-apiserver words it (`kube-openapi/pkg/validation`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::composite;
use super::node::{Additional, Node};
use super::path::Path;
use super::{format, pattern};
use crate::apiserver::kind::FieldFault;

/// Every fault of an object: types, required fields, enumerations, bounds, lengths, patterns, formats, uniqueness in
/// lists of type `set` and `map`, and the types of `metadata`. Unknown fields are not faults: see [`super::unknown_fields`].
pub fn validate(schema: &Value, object: &Value) -> Vec<FieldFault> {
    validate_change(schema, None, object)
}

/// As [`validate`], without looking at what is the same in `before`, where that is known: its faults, if it has any, are no
/// news.
pub fn validate_change(schema: &Value, before: Option<&Value>, object: &Value) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    walk(Node::root(schema), before, object, &Path::Root, &mut faults);
    faults
}

pub(super) fn walk(
    node: Node<'_>,
    before: Option<&Value>,
    value: &Value,
    path: &Path<'_>,
    faults: &mut Vec<FieldFault>,
) {
    if before == Some(value) {
        return;
    }
    if value.is_null() && (node.nullable() || node.type_name().is_empty() && !node.flag("x-kubernetes-int-or-string")) {
        return;
    }
    if let Some(expected) = type_mismatch(node, value) {
        faults.push(wrong_type(path, expected, type_of(value)));
        return;
    }
    if let Some(allowed) = node.keyword("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        faults.push(unsupported_value(path, value, allowed));
    }
    match value {
        Value::Object(fields) => object(node, before, fields, path, faults),
        Value::Array(items) => list(node, items, path, faults),
        Value::String(text) => string(node, text, path, faults),
        Value::Number(_) => number(node, value, path, faults),
        Value::Null | Value::Bool(_) => {}
    }
    composite::check(node, value, path, faults);
}

/// The type that was expected, where the value has another.
fn type_mismatch<'s>(node: Node<'s>, value: &Value) -> Option<&'s str> {
    if node.flag("x-kubernetes-int-or-string") {
        return (!value.is_string() && !is_integer(value)).then_some("integer,string");
    }
    let name = node.type_name();
    let matches = match name {
        "" => true,
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_integer(value),
        "number" => value.is_number(),
        _ => false,
    };
    (!matches).then_some(name)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn object(
    node: Node<'_>,
    before: Option<&Value>,
    fields: &Map<String, Value>,
    path: &Path<'_>,
    faults: &mut Vec<FieldFault>,
) {
    for name in node.keyword("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            faults.push(FieldFault {
                field: Path::Field(path, name).to_string(),
                reason: "FieldValueRequired",
                message: "Required value".into(),
            });
        }
    }
    let count = fields.len() as u64;
    if let Some(least) = limit(node, "minProperties").filter(|least| count < *least) {
        faults.push(body(path, &count.into(), &format!("should have at least {least} properties")));
    }
    if let Some(most) = limit(node, "maxProperties").filter(|most| count > *most) {
        faults.push(too_many(path, count, most));
    }
    for (name, field) in fields {
        let (before, path) = (before.and_then(|before| before.get(name)), Path::Field(path, name));
        match (node.property(name), node.additional()) {
            (Some(property), _) => walk(property, before, field, &path, faults),
            (None, Additional::Schema(additional)) => walk(additional, before, field, &path, faults),
            _ => {}
        }
    }
}

fn list(node: Node<'_>, items: &[Value], path: &Path<'_>, faults: &mut Vec<FieldFault>) {
    let count = items.len() as u64;
    if let Some(least) = limit(node, "minItems").filter(|least| count < *least) {
        faults.push(body(path, &count.into(), &format!("should have at least {least} items")));
    }
    if let Some(most) = limit(node, "maxItems").filter(|most| count > *most) {
        faults.push(too_many(path, count, most));
    }
    if let Some(schema) = node.items() {
        for (index, item) in items.iter().enumerate() {
            walk(schema, None, item, &Path::Item(path, index), faults);
        }
    }
    match node.keyword("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => unique(items, path, faults, Value::clone),
        Some("map") => {
            let keys = node.list_map_keys();
            unique(items, path, faults, |item| {
                let found = keys.iter().filter_map(|key| Some(((*key).to_owned(), key_of(node, item, key)?)));
                Value::Object(found.collect())
            });
        }
        _ => {}
    }
}

/// The value of one key of an item, or its default.
fn key_of(list: Node<'_>, item: &Value, key: &str) -> Option<Value> {
    let default = || list.items()?.property(key)?.keyword("default").cloned();
    item.get(key).cloned().or_else(default)
}

fn unique(items: &[Value], path: &Path<'_>, faults: &mut Vec<FieldFault>, identity: impl Fn(&Value) -> Value) {
    if items.len() < 2 {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = identity(item).to_string();
        if seen.contains(&identity) {
            faults.push(FieldFault {
                field: Path::Item(path, index).to_string(),
                reason: "FieldValueDuplicate",
                message: format!("Duplicate value: {identity}"),
            });
        }
        seen.insert(identity);
    }
}

fn string(node: Node<'_>, text: &str, path: &Path<'_>, faults: &mut Vec<FieldFault>) {
    let value = || Value::from(text);
    let count = text.chars().count() as u64;
    if let Some(least) = limit(node, "minLength").filter(|least| count < *least) {
        faults.push(body(path, &value(), &format!("should be at least {least} chars long")));
    }
    if let Some(most) = limit(node, "maxLength").filter(|most| count > *most) {
        faults.push(FieldFault {
            field: path.to_string(),
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {most} bytes"),
        });
    }
    if let Some(expression) = node.keyword("pattern").and_then(Value::as_str)
        && pattern::matches(expression, text) != Some(true)
    {
        faults.push(body(path, &value(), &format!("should match '{expression}'")));
    }
    if let Some(name) = node.keyword("format").and_then(Value::as_str)
        && !format::holds(name, text)
    {
        faults.push(FieldFault {
            field: path.to_string(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {path} in body must be of type {name}: {value}", value = value()),
        });
    }
}

fn number(node: Node<'_>, value: &Value, path: &Path<'_>, faults: &mut Vec<FieldFault>) {
    let Some(number) = value.as_f64() else { return };
    let fits = match node.keyword("format").and_then(Value::as_str) {
        Some("int32") => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
        Some("int64") => value.is_i64() || !value.is_u64(),
        _ => true,
    };
    if !fits {
        let format = node.keyword("format").and_then(Value::as_str).unwrap_or_default();
        faults.push(wrong_type(path, format, "integer"));
    }
    if let Some(least) = node.keyword("minimum").filter(|least| least.as_f64().is_some_and(|least| number < least)) {
        faults.push(body(path, value, &format!("should be greater than or equal to {}", plain(least))));
    } else if let Some(least) = node.keyword("minimum").filter(|least| least.as_f64() == Some(number))
        && node.flag("exclusiveMinimum")
    {
        faults.push(body(path, value, &format!("should be greater than {}", plain(least))));
    }
    if let Some(most) = node.keyword("maximum").filter(|most| most.as_f64().is_some_and(|most| number > most)) {
        faults.push(body(path, value, &format!("should be less than or equal to {}", plain(most))));
    } else if let Some(most) = node.keyword("maximum").filter(|most| most.as_f64() == Some(number))
        && node.flag("exclusiveMaximum")
    {
        faults.push(body(path, value, &format!("should be less than {}", plain(most))));
    }
    if let Some(factor) = node.keyword("multipleOf").and_then(Value::as_f64).filter(|factor| number % factor != 0.0) {
        faults.push(body(path, value, &format!("should be a multiple of {factor}")));
    }
}

/// A bound as Go prints it: `1`, not `1.0`.
fn plain(bound: &Value) -> String {
    bound.as_f64().map_or_else(|| bound.to_string(), |bound| bound.to_string())
}

fn limit(node: Node<'_>, keyword: &str) -> Option<u64> {
    node.keyword(keyword).and_then(Value::as_u64)
}

fn body(path: &Path<'_>, value: &Value, rule: &str) -> FieldFault {
    FieldFault {
        field: path.to_string(),
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {value}: {path} in body {rule}"),
    }
}

fn wrong_type(path: &Path<'_>, expected: &str, found: &str) -> FieldFault {
    FieldFault {
        field: path.to_string(),
        reason: "FieldValueTypeInvalid",
        message: format!("Invalid value: \"{found}\": {path} in body must be of type {expected}: \"{found}\""),
    }
}

fn too_many(path: &Path<'_>, count: u64, most: u64) -> FieldFault {
    FieldFault {
        field: path.to_string(),
        reason: "FieldValueTooMany",
        message: format!("Too many: {count}: must have at most {most} items"),
    }
}

fn unsupported_value(path: &Path<'_>, value: &Value, allowed: &[Value]) -> FieldFault {
    let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
    FieldFault {
        field: path.to_string(),
        reason: "FieldValueNotSupported",
        message: format!("Unsupported value: {value}: supported values: {}", allowed.join(", ")),
    }
}
