//! A tree held against the schema of its kind: what it becomes as JSON, and every place where it does not fit.

use serde_json::{Map, Value};

use super::faults::Found;
use super::suggest;
use super::tree::{Node, Shape, Span};

/// Walks a tree; the value holds exactly what was written, without fields that were left empty.
pub(super) fn check(node: &Node, schema: &Value, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    if schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true) {
        return int_or_text(node, path, faults);
    }
    match (schema.get("type").and_then(Value::as_str).unwrap_or_default(), &node.shape) {
        (_, Shape::Ambiguous(text, why)) => {
            faults.push(ambiguous(node.span, path, text, why));
            None
        }
        ("object", Shape::Map(_)) if schema.get("additionalProperties").is_some_and(Value::is_object) => {
            free_map(node, schema, path, faults)
        }
        ("object", Shape::Map(_)) => object(node, schema, path, faults),
        ("array", Shape::List(items)) => list(items, schema, path, faults),
        ("string", Shape::Text(text)) => string(node, text, schema, path, faults),
        ("boolean", Shape::Bool(value)) => Some(Value::Bool(*value)),
        ("integer", Shape::Number(number, _)) if number.is_f64() => {
            wrong(node, "a whole number", path, faults);
            None
        }
        ("integer" | "number", Shape::Number(number, _)) => {
            bounds(node, &Value::Number(number.clone()), schema, path, faults)
        }
        ("integer" | "number" | "boolean", Shape::Text(text)) => {
            let expected = expectation(schema);
            let fault = Found::at(node.span, format!("`{path}` must be {expected}"));
            let fault = fault.labelled("this is a text");
            let unquoted =
                matches!(super::scalar::plain(text), super::scalar::Plain::Number(_) | super::scalar::Plain::Bool(_));
            faults.push(if unquoted { fault.helped(format!("write it without quotes: {text}")) } else { fault });
            None
        }
        ("string", Shape::Number(_, written)) => {
            let fault = Found::at(node.span, format!("`{path}` must be a text")).labelled("this is a number");
            faults.push(fault.helped(format!("put it in quotes: \"{written}\"")));
            None
        }
        ("string", Shape::Bool(value)) => {
            let fault = Found::at(node.span, format!("`{path}` must be a text")).labelled("this is a truth value");
            faults.push(fault.helped(format!("put it in quotes: \"{value}\"")));
            None
        }
        _ => {
            wrong(node, &expectation(schema), path, faults);
            None
        }
    }
}

/// The node at a path of keys and indices, or the nearest one above it that is there; with the place of its key.
pub(super) fn locate(root: &Node, path: &[String]) -> Span {
    let mut node = root;
    let mut span = root.span;
    for key in path {
        let next = match &node.shape {
            Shape::Map(_) => node.get(key).map(|entry| (&entry.value, entry.place)),
            Shape::List(items) => {
                key.parse::<usize>().ok().and_then(|index| items.get(index)).map(|item| (item, item.span))
            }
            _ => None,
        };
        let Some((value, place)) = next else { return span };
        let is_scalar = !matches!(value.shape, Shape::Map(_) | Shape::List(_) | Shape::Null);
        span = if is_scalar { value.span } else { place };
        node = value;
    }
    span
}

fn object(node: &Node, schema: &Value, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    let Shape::Map(entries) = &node.shape else { return None };
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let mut fields = Map::new();
    for entry in entries {
        let here = join(path, &entry.key);
        match properties.get(&entry.key) {
            None => faults.push(unknown_field(entry.place, path, &entry.key, properties.keys().map(String::as_str))),
            // An empty field is one that is not set.
            Some(_) if matches!(entry.value.shape, Shape::Null) => {}
            Some(property) => {
                if let Some(value) = check(&entry.value, property, &here, faults) {
                    fields.insert(entry.key.clone(), value);
                }
            }
        }
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let is_there = node.get(name).is_some_and(|entry| !matches!(entry.value.shape, Shape::Null));
        if !is_there {
            faults.push(
                Found::at(node.span, format!("`{}` is missing", join(path, name))).labelled(format!("needs `{name}`")),
            );
        }
    }
    Some(Value::Object(fields))
}

/// A map with keys of one's own, such as labels.
fn free_map(node: &Node, schema: &Value, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    let Shape::Map(entries) = &node.shape else { return None };
    let values = schema.get("additionalProperties")?;
    let mut fields = Map::new();
    for entry in entries {
        let here = join(path, &entry.key);
        if matches!(entry.value.shape, Shape::Null) {
            let fault = Found::at(entry.place, format!("`{here}` has no value")).labelled("no value");
            faults.push(fault.helped("write \"\" for an empty text, or remove the line"));
        } else if let Some(value) = check(&entry.value, values, &here, faults) {
            fields.insert(entry.key.clone(), value);
        }
    }
    Some(Value::Object(fields))
}

fn list(items: &[Node], schema: &Value, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    let unknown = Value::Null;
    let inner = schema.get("items").unwrap_or(&unknown);
    let checked = items.iter().enumerate().map(|(index, item)| check(item, inner, &format!("{path}[{index}]"), faults));
    // All are checked before any is missed.
    checked.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
}

fn string(node: &Node, text: &str, schema: &Value, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    let count = text.chars().count() as u64;
    let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
    if limit("minLength").is_some_and(|least| count < least) {
        faults.push(Found::at(node.span, format!("`{path}` must not be empty")));
        return None;
    }
    if let Some(most) = limit("maxLength").filter(|&most| count > most) {
        let message = format!("`{path}` is {count} characters long, at most {most} are allowed");
        faults.push(Found::at(node.span, message));
        return None;
    }
    let allowed: Vec<&str> = words(schema);
    if !allowed.is_empty() && !allowed.contains(&text) {
        let message = format!("`{path}` must be {}", one_of(&allowed));
        let fault = Found::at(node.span, message).labelled("not one of them");
        faults.push(match suggest::nearest(text, allowed) {
            Some(word) => fault.helped(format!("did you mean `{word}`?")),
            None => fault,
        });
        return None;
    }
    Some(Value::String(text.to_owned()))
}

fn bounds(node: &Node, value: &Value, schema: &Value, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    let number = value.as_f64().unwrap_or_default();
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
        return Some(value.clone());
    }
    let range = match (least, most) {
        (Some(least), Some(most)) => format!("from {least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => return Some(value.clone()),
    };
    faults.push(Found::at(node.span, format!("`{path}` must be {range}")).labelled("out of range"));
    None
}

/// A quantity: a number, or a text with a unit. A fraction becomes a text, as the API takes none.
fn int_or_text(node: &Node, path: &str, faults: &mut Vec<Found>) -> Option<Value> {
    match &node.shape {
        Shape::Text(text) => Some(Value::String(text.clone())),
        Shape::Number(number, written) if number.is_f64() => Some(Value::String(written.clone())),
        Shape::Number(number, _) => Some(Value::Number(number.clone())),
        Shape::Ambiguous(text, why) => {
            faults.push(ambiguous(node.span, path, text, why));
            None
        }
        _ => {
            wrong(node, "a number, or a text with a unit", path, faults);
            None
        }
    }
}

fn wrong(node: &Node, expected: &str, path: &str, faults: &mut Vec<Found>) {
    let found = match &node.shape {
        Shape::Null => "there is nothing here",
        Shape::Bool(_) => "this is a truth value",
        Shape::Number(number, _) if number.is_f64() => "this is a fraction",
        Shape::Number(..) => "this is a number",
        Shape::Text(_) | Shape::Ambiguous(..) => "this is a text",
        Shape::List(_) => "this is a list",
        Shape::Map(_) => "this is a map",
    };
    faults.push(Found::at(node.span, format!("`{path}` must be {expected}")).labelled(found));
}

fn expectation(schema: &Value) -> String {
    match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
        "object" => "a map".to_owned(),
        "array" => "a list".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        _ => match words(schema) {
            allowed if allowed.is_empty() => "a text".to_owned(),
            allowed => one_of(&allowed),
        },
    }
}

fn words(schema: &Value) -> Vec<&str> {
    schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

pub(super) fn ambiguous(span: Span, path: &str, text: &str, why: &str) -> Found {
    let fault = Found::at(span, format!("`{path}` is ambiguous: `{text}` {why}"));
    fault.labelled("ambiguous").helped(format!("for a text, put it in quotes: \"{text}\"; otherwise write it out"))
}

pub(super) fn unknown_field<'k>(place: Span, path: &str, key: &str, known: impl Iterator<Item = &'k str>) -> Found {
    let known: Vec<&str> = known.collect();
    let key: String = key.chars().take(80).collect();
    let fault = Found::at(place, format!("`{}` is not a field", join(path, &key))).labelled("unknown field");
    match suggest::nearest(&key, known.iter().copied()) {
        Some(word) => fault.helped(format!("did you mean `{word}`?")),
        None => fault.helped(format!("expected {}", one_of(&known))),
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
