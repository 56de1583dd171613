//! Checking an object against its schema, worded as kube-apiserver words it (`kube-openapi/pkg/validation`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::composite;
use super::format;
use super::node::{Additional, Node};
use super::path::Path;
use super::rules::{Checks, ListType, Schema, Type};
use crate::apiserver::kind::FieldFault;

/// Every fault of an object: types, required fields, enumerations, bounds, lengths, patterns, formats, uniqueness in
/// lists of type `set` and `map`, and the types of `metadata`. Unknown fields are not faults: see [`super::unknown_fields`].
pub fn validate(schema: &Schema, object: &Value) -> Vec<FieldFault> {
    validate_change(schema, None, object)
}

/// As [`validate`], without looking at what is the same in `before`, where that is known: its faults, if it has any, are no
/// news.
pub fn validate_change(schema: &Schema, before: Option<&Value>, object: &Value) -> Vec<FieldFault> {
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
    if value.is_null() && (node.nullable() || *node.of_type() == Type::Any && !node.is_int_or_string()) {
        return;
    }
    if let Some(expected) = type_mismatch(node, value) {
        faults.push(wrong_type(path, expected, type_of(value)));
        return;
    }
    let checks = node.checks();
    if let Some(allowed) = checks.and_then(|checks| checks.one_of_values.as_ref())
        && !allowed.contains(value)
    {
        faults.push(unsupported_value(path, value, allowed));
    }
    match (value, checks) {
        (Value::Object(fields), _) => object(node, before, fields, path, faults),
        (Value::Array(items), _) => list(node, items, path, faults),
        (Value::String(text), Some(checks)) => string(checks, text, path, faults),
        (Value::Number(_), Some(checks)) => number(checks, value, path, faults),
        _ => {}
    }
    if let Some(checks) = checks {
        composite::check(checks, value, path, faults);
    }
}

/// The type that was expected, where the value has another.
fn type_mismatch<'s>(node: Node<'s>, value: &Value) -> Option<&'s str> {
    if node.is_int_or_string() {
        return (!value.is_string() && !is_integer(value)).then_some("integer,string");
    }
    let expected = node.of_type();
    let matches = match expected {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Integer => is_integer(value),
        Type::Number => value.is_number(),
        Type::Unknown(_) => false,
    };
    (!matches).then(|| expected.name())
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
    for name in node.checks().into_iter().flat_map(|checks| &checks.required) {
        if !fields.contains_key(&**name) {
            faults.push(FieldFault {
                field: Path::Field(path, name).to_string(),
                reason: "FieldValueRequired",
                message: "Required value".into(),
            });
        }
    }
    let count = fields.len() as u64;
    let limits = node.checks().map(|checks| checks.properties).unwrap_or_default();
    if let Some(least) = limits.least.filter(|least| count < *least) {
        faults.push(body(path, &count.into(), &format!("should have at least {least} properties")));
    }
    if let Some(most) = limits.most.filter(|most| count > *most) {
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
    let limits = node.checks().map(|checks| checks.items).unwrap_or_default();
    if let Some(least) = limits.least.filter(|least| count < *least) {
        faults.push(body(path, &count.into(), &format!("should have at least {least} items")));
    }
    if let Some(most) = limits.most.filter(|most| count > *most) {
        faults.push(too_many(path, count, most));
    }
    if let Some(schema) = node.items() {
        for (index, item) in items.iter().enumerate() {
            walk(schema, None, item, &Path::Item(path, index), faults);
        }
    }
    match node.list_type() {
        Some(ListType::Set) => unique(items, path, faults, Value::clone),
        Some(ListType::Map) => unique(items, path, faults, |item| {
            let found = node.list_map_keys().filter_map(|key| Some((key.to_owned(), key_of(node, item, key)?)));
            Value::Object(found.collect())
        }),
        None => {}
    }
}

/// The value of one key of an item, or its default.
fn key_of(list: Node<'_>, item: &Value, key: &str) -> Option<Value> {
    let default = || list.items()?.property(key)?.default().cloned();
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

fn string(checks: &Checks, text: &str, path: &Path<'_>, faults: &mut Vec<FieldFault>) {
    let value = || Value::from(text);
    let count = text.chars().count() as u64;
    if let Some(least) = checks.length.least.filter(|least| count < *least) {
        faults.push(body(path, &value(), &format!("should be at least {least} chars long")));
    }
    if let Some(most) = checks.length.most.filter(|most| count > *most) {
        faults.push(FieldFault {
            field: path.to_string(),
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {most} bytes"),
        });
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        faults.push(body(path, &value(), &format!("should match '{}'", pattern.expression)));
    }
    if let Some(name) = checks.format.as_deref()
        && !format::holds(name, text)
    {
        faults.push(FieldFault {
            field: path.to_string(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {path} in body must be of type {name}: {value}", value = value()),
        });
    }
}

fn number(checks: &Checks, value: &Value, path: &Path<'_>, faults: &mut Vec<FieldFault>) {
    let Some(number) = value.as_f64() else { return };
    let fits = match checks.format.as_deref() {
        Some("int32") => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
        Some("int64") => value.is_i64() || !value.is_u64(),
        _ => true,
    };
    if !fits {
        faults.push(wrong_type(path, checks.format.as_deref().unwrap_or_default(), "integer"));
    }
    if let Some(least) = checks.minimum.as_ref().filter(|least| least.as_f64().is_some_and(|least| number < least)) {
        faults.push(body(path, value, &format!("should be greater than or equal to {}", plain(least))));
    } else if let Some(least) = checks.minimum.as_ref().filter(|least| least.as_f64() == Some(number))
        && checks.exclusive_minimum
    {
        faults.push(body(path, value, &format!("should be greater than {}", plain(least))));
    }
    if let Some(most) = checks.maximum.as_ref().filter(|most| most.as_f64().is_some_and(|most| number > most)) {
        faults.push(body(path, value, &format!("should be less than or equal to {}", plain(most))));
    } else if let Some(most) = checks.maximum.as_ref().filter(|most| most.as_f64() == Some(number))
        && checks.exclusive_maximum
    {
        faults.push(body(path, value, &format!("should be less than {}", plain(most))));
    }
    if let Some(factor) = checks.multiple_of.filter(|factor| number % factor != 0.0) {
        faults.push(body(path, value, &format!("should be a multiple of {factor}")));
    }
}

/// A bound as Go prints it: `1`, not `1.0`.
fn plain(bound: &Value) -> String {
    bound.as_f64().map_or_else(|| bound.to_string(), |bound| bound.to_string())
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
