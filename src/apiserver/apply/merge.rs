//! Merging a configuration into an object (`structured-merge-diff/typed/merge.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::Step;
use super::types::{List, MapType, Shape, Type};

/// Both merged, the right winning; `None` where nothing is left (no field on either side).
pub(super) fn merge(of: Type<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    // Where only one side has a value, its shape counts; where both differ, the right's.
    match of.shape(right.or(left)) {
        Shape::Map(map) => merge_maps(&map, left, right),
        Shape::List(list) => merge_lists(&list, left, right),
        Shape::Scalar(_) | Shape::Nothing => leaf(left, right),
    }
}

fn leaf(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    right.or(left).cloned()
}

fn merge_maps(map: &MapType<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let none = Map::new();
    let left_fields = left.and_then(Value::as_object).unwrap_or(&none);
    let right_fields = right.and_then(Value::as_object).unwrap_or(&none);
    // Two empty sides are a leaf, which keeps the difference between empty and null.
    if map.atomic || (left_fields.is_empty() && right_fields.is_empty()) {
        return leaf(left, right);
    }
    let names: BTreeSet<&String> = left_fields.keys().chain(right_fields.keys()).collect();
    let merged: Map<String, Value> = names
        .into_iter()
        .filter_map(|name| {
            let value = merge(map.field(name), left_fields.get(name), right_fields.get(name))?;
            Some((name.clone(), value))
        })
        .collect();
    (!merged.is_empty()).then_some(Value::Object(merged))
}

fn merge_lists(list: &List<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let left_items = left.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let right_items = right.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !list.associative || (left_items.is_empty() && right_items.is_empty()) {
        return leaf(left, right);
    }
    let merged = Lists::new(list, left_items, right_items).merge();
    (!merged.is_empty()).then_some(Value::Array(merged))
}

/// Two lists on their way into one. Shared items stand in the order of the right list; items that only the left has
/// stay behind the shared item that they followed.
struct Lists<'l, 's> {
    list: &'l List<'s>,
    left: Vec<(Step, &'l Value)>,
    right: Vec<(Step, &'l Value)>,
    /// Left items by identity; `None` for an identity that stands twice.
    left_by: BTreeMap<Step, Option<&'l Value>>,
    right_by: BTreeMap<Step, &'l Value>,
    merged: BTreeSet<Step>,
    out: Vec<Value>,
}

impl<'l, 's> Lists<'l, 's> {
    fn new(list: &'l List<'s>, left: &'l [Value], right: &'l [Value]) -> Self {
        let identified = |items: &'l [Value]| -> Vec<(Step, &'l Value)> {
            items.iter().filter_map(|item| Some((list.identity(item).ok()?, item))).collect()
        };
        let (left, right) = (identified(left), identified(right));
        let mut left_by = BTreeMap::new();
        for (step, item) in &left {
            let seen = left_by.contains_key(step);
            left_by.insert(step.clone(), (!seen).then_some(*item));
        }
        let right_by = right.iter().cloned().collect();
        Self { list, left, right, left_by, right_by, merged: BTreeSet::new(), out: Vec::new() }
    }

    fn merge(mut self) -> Vec<Value> {
        let (left, right) = (std::mem::take(&mut self.left), std::mem::take(&mut self.right));
        let shared: Vec<&Step> =
            right.iter().map(|(step, _)| step).filter(|step| self.left_by.contains_key(step)).collect();
        let mut shared = shared.into_iter();
        let mut next_shared = shared.next();
        let (mut l, mut r) = (0, 0);
        while l < left.len() || r < right.len() {
            if let (Some((left_step, _)), Some((right_step, _))) = (left.get(l), right.get(r)) {
                if left_step == right_step {
                    self.put_right(left_step);
                    l += 1;
                    r += 1;
                    next_shared = shared.next();
                    continue;
                }
                if self.right_by.contains_key(left_step) && next_shared.is_some_and(|next| next != left_step) {
                    // A shared item, but not the one whose turn it is.
                    l += 1;
                    continue;
                }
            }
            if let Some((step, item)) = left.get(l) {
                if !self.right_by.contains_key(step) {
                    self.put(Some(item), None);
                    l += 1;
                    continue;
                }
                if self.merged.contains(step) {
                    l += 1;
                }
            }
            if let Some((step, _)) = right.get(r) {
                self.put_right(step);
                r += 1;
                if next_shared == Some(step) {
                    next_shared = shared.next();
                }
            }
        }
        self.out
    }

    /// An item of the right list, merged with the left's of the same identity.
    fn put_right(&mut self, step: &Step) {
        self.merged.insert(step.clone());
        let left = self.left_by.get(step).copied().flatten();
        let right = self.right_by.get(step).copied();
        self.put(left, right);
    }

    fn put(&mut self, left: Option<&Value>, right: Option<&Value>) {
        self.out.extend(merge(self.list.element, left, right));
    }
}
