//! What differs between two objects, field by field (`structured-merge-diff/typed/compare.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{Set, Step};
use super::types::{List, MapType, Shape, Type};

/// The fields that a change touches; none is in two sets.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// Compares two objects of one type.
pub(super) fn compare(of: Type<'_>, left: &Value, right: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.compare(of, Some(left), Some(right));
    walk.found
}

/// Equality of values, where numbers are equal when their values are.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

struct Walk {
    path: Vec<Step>,
    found: Comparison,
}

impl Walk {
    fn compare(&mut self, of: Type<'_>, left: Option<&Value>, right: Option<&Value>) {
        let shape = of.shape(right.or(left));
        let mut leaf = false;
        if left.is_some() && right.is_some() {
            // A value that changes its shape (where any may stand) goes as what it was, and comes as what it is.
            let before = of.shape(left);
            if std::mem::discriminant(&before) != std::mem::discriminant(&shape) {
                leaf = self.inside(&before, left, right);
            }
        }
        leaf |= self.inside(&shape, left, right);
        match (left, right) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            (Some(left), Some(right)) if leaf && !equal(left, right) => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    /// Compares what is inside two values; true where they count as a whole.
    fn inside(&mut self, shape: &Shape<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
        match shape {
            Shape::Map(map) => self.maps(map, left, right),
            Shape::List(list) => self.lists(list, left, right),
            Shape::Scalar(_) | Shape::Nothing => true,
        }
    }

    /// Compares field by field; true where the maps count as a whole.
    fn maps(&mut self, map: &MapType<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
        let none = Map::new();
        let left = left.and_then(Value::as_object).unwrap_or(&none);
        let right = right.and_then(Value::as_object).unwrap_or(&none);
        if map.atomic || (left.is_empty() && right.is_empty()) {
            return true;
        }
        // What is the same in both has nothing to tell: a path is made for what differs alone.
        let differs = |name: &&String| left.get(*name) != right.get(*name);
        let names: BTreeSet<&String> = left.keys().chain(right.keys()).filter(differs).collect();
        for name in names {
            self.path.push(Step::field(name));
            self.compare(map.field(name), left.get(name), right.get(name));
            self.path.pop();
        }
        false
    }

    /// Compares item by item; true where the lists count as a whole.
    fn lists(&mut self, list: &List<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
        let left = left.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let right = right.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if !list.associative || (left.is_empty() && right.is_empty()) {
            return true;
        }
        let (left, right) = (by_identity(list, left), by_identity(list, right));
        let steps: BTreeSet<&Step> = left.keys().chain(right.keys()).collect();
        for step in steps {
            let left = left.get(step).map(Vec::as_slice).unwrap_or_default();
            let right = right.get(step).map(Vec::as_slice).unwrap_or_default();
            self.items(list, step, left, right);
        }
        false
    }

    /// Items of one identity. More than one is against the rules, but can stand in stored objects: then they count
    /// as one whole.
    fn items(&mut self, list: &List<'_>, step: &Step, left: &[&Value], right: &[&Value]) {
        self.path.push(step.clone());
        match (left, right) {
            ([] | [_], [] | [_]) => self.compare(list.element, left.first().copied(), right.first().copied()),
            ([_, _, ..], [_, _, ..]) => {
                let same = left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right));
                if !same {
                    self.found.modified.insert(&self.path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(item) = right.first() {
                    self.compare(list.element, None, Some(item));
                }
                self.found.removed.insert(&self.path);
            }
            _ => {
                if let Some(item) = left.first() {
                    self.compare(list.element, Some(item), None);
                }
                self.found.added.insert(&self.path);
            }
        }
        self.path.pop();
    }
}

fn by_identity<'v>(list: &List<'_>, items: &'v [Value]) -> BTreeMap<Step, Vec<&'v Value>> {
    let mut found: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
    for item in items {
        if let Ok(step) = list.identity(item) {
            found.entry(step).or_default().push(item);
        }
    }
    found
}
