//! Between objects and sets of fields: which fields an object has, and an object without some of its fields
//! (`structured-merge-diff/typed/tofieldset.go`, `remove.go`, `validate.go`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::set::{Set, Step, print_path};
use super::types::{List, MapType, Scalar, Shape, Type};

/// Every field that an object has: leaves, list items, and fields of maps.
pub(super) fn fields_of(of: Type<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    collect(of, value, &mut Vec::new(), &mut set);
    set
}

fn collect(of: Type<'_>, value: &Value, path: &mut Vec<Step>, set: &mut Set) {
    match of.shape(Some(value)) {
        Shape::Map(map) if map.atomic => set.insert(path),
        Shape::Map(map) => {
            for (name, field) in value.as_object().into_iter().flatten() {
                path.push(Step::field(name));
                collect(map.field(name), field, path, set);
                let empty = field.is_null() || field.as_object().is_some_and(Map::is_empty);
                if empty || map.named(name).is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Shape::List(list) if !list.associative => set.insert(path),
        Shape::List(list) => collect_items(&list, value, path, set),
        Shape::Scalar(_) | Shape::Nothing => set.insert(path),
    }
}

fn collect_items(list: &List<'_>, value: &Value, path: &mut Vec<Step>, set: &mut Set) {
    let items = value.as_array().into_iter().flatten();
    let items: Vec<(Step, &Value)> = items.filter_map(|item| Some((list.identity(item).ok()?, item))).collect();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&Step> = items.iter().map(|(step, _)| step).filter(|step| !seen.insert(*step)).collect();
    for (step, item) in &items {
        path.push(step.clone());
        if !twice.contains(step) {
            collect(list.element, item, path, set);
        }
        set.insert(path);
        path.pop();
    }
}

/// The set, with every named field above a member being a member too, so that removing the last member below removes it.
pub(super) fn with_named_fields(of: Type<'_>, set: &Set) -> Set {
    set.promoted(of, &|of, step| {
        let shapes = of.shapes();
        match (step.field_name(), shapes.map, shapes.list) {
            (Some(name), Some(map), _) => (map.named(name).is_some(), map.field(name)),
            (None, _, Some(list)) if step.is_keys() => (false, list.element),
            _ => (false, Type::Undeclared),
        }
    })
}

/// The value without the fields and items of a set; null where nothing of it is left.
pub(super) fn without(of: Type<'_>, value: &Value, set: &Set) -> Value {
    match of.shape(Some(value)) {
        Shape::Map(map) => fields_without(&map, value, set),
        Shape::List(list) => items_without(&list, value, set),
        Shape::Scalar(_) | Shape::Nothing => value.clone(),
    }
}

fn fields_without(map: &MapType<'_>, value: &Value, set: &Set) -> Value {
    let Some(fields) = value.as_object().filter(|_| !map.atomic) else { return Value::Null };
    let kept = fields.iter().filter_map(|(name, field)| {
        let step = Step::field(name);
        if set.has(&step) {
            return None;
        }
        let field = set.below(&step).map_or_else(|| field.clone(), |below| without(map.field(name), field, below));
        Some((name.clone(), field))
    });
    let kept: Map<String, Value> = kept.collect();
    if kept.is_empty() { Value::Null } else { Value::Object(kept) }
}

fn items_without(list: &List<'_>, value: &Value, set: &Set) -> Value {
    let Some(items) = value.as_array().filter(|_| list.associative) else { return Value::Null };
    let kept = items.iter().filter_map(|item| {
        let Ok(step) = list.identity(item) else { return Some(item.clone()) };
        if set.has(&step) {
            return None;
        }
        Some(set.below(&step).map_or_else(|| item.clone(), |below| without(list.element, item, below)))
    });
    let kept: Vec<Value> = kept.collect();
    if kept.is_empty() { Value::Null } else { Value::Array(kept) }
}

/// Why an object does not have its type, each with its path: what a configuration must not be.
pub(super) fn mistyped(of: Type<'_>, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(of, value, &mut Vec::new(), &mut errors);
    errors
}

fn check(of: Type<'_>, value: &Value, path: &mut Vec<Step>, errors: &mut Vec<String>) {
    let mut tell = |expected: &str| errors.push(format!("{}: expected {expected}, got {value}", print_path(path)));
    match of.shape(Some(value)) {
        _ if value.is_null() => {}
        Shape::Map(map) => match value {
            Value::Object(fields) => check_fields(&map, fields, path, errors),
            _ => tell("map"),
        },
        Shape::List(list) => match value {
            Value::Array(items) => check_items(&list, items, path, errors),
            _ => tell("list"),
        },
        Shape::Scalar(Scalar::Numeric) if !value.is_number() => tell("numeric (int or float)"),
        Shape::Scalar(Scalar::String) if !value.is_string() => tell("string"),
        Shape::Scalar(Scalar::Boolean) if !value.is_boolean() => tell("boolean"),
        Shape::Scalar(Scalar::Any) if value.is_object() || value.is_array() => tell("any scalar"),
        Shape::Scalar(_) => {}
        Shape::Nothing => errors.push(format!("{}: field not declared in schema", print_path(path))),
    }
}

fn check_fields(map: &MapType<'_>, fields: &Map<String, Value>, path: &mut Vec<Step>, errors: &mut Vec<String>) {
    for (name, field) in fields {
        path.push(Step::field(name));
        let of = map.field(name);
        if matches!(of, Type::Undeclared) {
            errors.push(format!("{}: field not declared in schema", print_path(path)));
        } else {
            check(of, field, path, errors);
        }
        path.pop();
    }
}

fn check_items(list: &List<'_>, items: &[Value], path: &mut Vec<Step>, errors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if !list.associative {
            check(list.element, item, path, errors);
            continue;
        }
        match list.identity(item) {
            Ok(step) => {
                path.push(step.clone());
                check(list.element, item, path, errors);
                path.pop();
                if !seen.insert(step.clone()) {
                    let at = print_path(path);
                    errors.push(format!("{at}: duplicate entries for key {}", print_path(&[step])));
                }
            }
            Err(error) => errors.push(format!("{}: element {index}: {error}", print_path(path))),
        }
    }
}
