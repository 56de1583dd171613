//! Strategic merge patch: how kubectl and Go clients change built-in kinds
//! (`apimachinery/pkg/util/strategicpatch`; the merge keys are in the schemas, see [`super::core`]).

use serde_json::{Map, Value};

use super::schema::{Additional, Node, Schema};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// Neither `replace`, `delete` nor `merge`, or not a text.
    #[error("unknown $patch directive {0} in strategic merge patch")]
    Directive(String),
    /// An item of a list that merges by a key does not have it.
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoKey {
        /// The item.
        item: String,
        /// The key.
        key: String,
    },
    /// A directive that has to be a list is none, or a patch of an object is none.
    #[error("{0} in a strategic merge patch has the wrong type")]
    WrongType(String),
}

/// Applies a patch to an object.
///
/// # Errors
/// See [`StrategicError`]; the object is unspecified then.
pub fn strategic_merge(schema: &Schema, object: &mut Value, patch: &Value) -> Result<(), StrategicError> {
    let patch = patch.as_object().ok_or_else(|| StrategicError::WrongType("the patch".into()))?;
    let merged = merge_maps(Some(Node::root(schema)), object.as_object().cloned().unwrap_or_default(), patch)?;
    *object = Value::Object(merged);
    Ok(())
}

type Fields = Map<String, Value>;

fn field<'s>(node: Option<Node<'s>>, name: &str) -> Option<Node<'s>> {
    let node = node?;
    node.property(name).or_else(|| match node.additional() {
        Additional::Schema(schema) => Some(schema),
        _ => None,
    })
}

fn merge_maps(node: Option<Node<'_>>, mut fields: Fields, patch: &Fields) -> Result<Fields, StrategicError> {
    match directive(patch)? {
        Some("replace") => {
            return Ok(patch
                .iter()
                .filter(|(name, _)| *name != DIRECTIVE)
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect());
        }
        Some("delete") => return Ok(Fields::new()),
        _ => {}
    }
    if let Some(keys) = patch.get(RETAIN_KEYS) {
        let keys = keys.as_array().ok_or_else(|| StrategicError::WrongType(RETAIN_KEYS.into()))?;
        fields.retain(|name, _| keys.iter().any(|key| key == name));
    }
    for (name, change) in patch {
        if name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(ELEMENT_ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_FROM_LIST) {
            let gone = change.as_array().ok_or_else(|| StrategicError::WrongType(name.clone()))?;
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        let before = fields.remove(name);
        if let Some(after) = merge(field(node, name), before, change)? {
            fields.insert(name.clone(), after);
        }
    }
    for (name, order) in patch {
        let Some(list) = name.strip_prefix(ELEMENT_ORDER) else { continue };
        let order = order.as_array().ok_or_else(|| StrategicError::WrongType(name.clone()))?;
        let key = field(node, list).and_then(|node| node.strategic_key());
        if let Some(Value::Array(items)) = fields.get_mut(list) {
            sort(items, order, key);
        }
    }
    Ok(fields)
}

/// A field after a change; `None` where it is removed.
fn merge(node: Option<Node<'_>>, before: Option<Value>, change: &Value) -> Result<Option<Value>, StrategicError> {
    Ok(match (before, change) {
        (_, Value::Null) => None,
        (Some(Value::Object(before)), Value::Object(change)) => Some(Value::Object(merge_maps(node, before, change)?)),
        (_, Value::Object(change)) => Some(Value::Object(merge_maps(node, Fields::new(), change)?)),
        (before, Value::Array(change)) => {
            let items = match before {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            Some(Value::Array(merge_lists(node, items, change)?))
        }
        (_, scalar) => Some(scalar.clone()),
    })
}

fn merge_lists(node: Option<Node<'_>>, before: Vec<Value>, change: &[Value]) -> Result<Vec<Value>, StrategicError> {
    let Some(node) = node.filter(Node::strategic_merge) else { return Ok(change.to_vec()) };
    let Some(key) = node.strategic_key() else {
        let mut items = before;
        for item in change {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return Ok(items);
    };
    let replaces =
        change.iter().filter_map(Value::as_object).any(|item| item.get(DIRECTIVE).is_some_and(|d| d == "replace"));
    let mut items = if replaces { Vec::new() } else { before };
    for item in change {
        let fields = item.as_object().ok_or_else(|| StrategicError::WrongType(item.to_string()))?;
        let directive = directive(fields)?;
        if directive == Some("replace") && fields.len() == 1 {
            continue;
        }
        let Some(identity) = fields.get(key) else {
            return Err(StrategicError::NoKey { item: item.to_string(), key: key.to_owned() });
        };
        let found = items.iter().position(|item| item.get(key) == Some(identity));
        match (directive, found) {
            (Some("delete"), _) => items.retain(|item| item.get(key) != Some(identity)),
            (_, Some(found)) => {
                if let Some(place) = items.get_mut(found) {
                    let before = place.as_object().cloned().unwrap_or_default();
                    *place = Value::Object(merge_maps(node.items(), before, fields)?);
                }
            }
            (_, None) => items.push(Value::Object(merge_maps(node.items(), Fields::new(), fields)?)),
        }
    }
    Ok(items)
}

fn directive(patch: &Fields) -> Result<Option<&str>, StrategicError> {
    match patch.get(DIRECTIVE) {
        None => Ok(None),
        Some(Value::String(found)) if matches!(found.as_str(), "replace" | "delete" | "merge") => Ok(Some(found)),
        Some(other) => Err(StrategicError::Directive(other.to_string())),
    }
}

/// Brings the items that are named into the given order; others stay behind the item that they followed.
fn sort(items: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let identity = |item: &Value| match key {
        Some(key) => item.get(key).cloned().unwrap_or_default(),
        None => item.clone(),
    };
    let order: Vec<Value> = order.iter().map(identity).collect();
    let mut groups: Vec<(Option<usize>, Vec<Value>)> = vec![(None, Vec::new())];
    for item in items.drain(..) {
        match order.iter().position(|wanted| *wanted == identity(&item)) {
            Some(place) => groups.push((Some(place), vec![item])),
            None => {
                if let Some((_, group)) = groups.last_mut() {
                    group.push(item);
                }
            }
        }
    }
    groups.sort_by_key(|(place, _)| *place);
    items.extend(groups.into_iter().flat_map(|(_, group)| group));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::core;

    fn patched(spec: Value, patch: Value) -> Value {
        let pod = core::workload().into_iter().find(|kind| kind.kind == "Pod").unwrap();
        let mut object = json!({"metadata": {"name": "p"}, "spec": spec});
        strategic_merge(&pod.schema, &mut object, &json!({"spec": patch})).unwrap();
        object["spec"].clone()
    }

    #[test]
    fn items_merge_by_their_key_and_others_stay() {
        let spec = json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]});
        let patch = json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"},
            {"name": "a", "args": ["y"], "image": null}]});
        let containers =
            json!([{"name": "a", "args": ["y"]}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]);
        assert_eq!(patched(spec, patch), json!({"containers": containers}));
    }

    #[test]
    fn directives_delete_replace_and_retain() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"x": "1", "y": "2"}});
        let patch = json!({"containers": [{"name": "a", "$patch": "delete"}],
            "nodeSelector": {"$patch": "replace", "z": "3"}});
        assert_eq!(patched(spec.clone(), patch), json!({"containers": [{"name": "b"}], "nodeSelector": {"z": "3"}}));
        let patch = json!({"containers": [{"$patch": "replace"}, {"name": "c"}], "nodeSelector": null});
        assert_eq!(patched(spec.clone(), patch), json!({"containers": [{"name": "c"}]}));
        let patch = json!({"nodeSelector": {"$retainKeys": ["y"], "y": "3"}});
        assert_eq!(patched(spec, patch)["nodeSelector"], json!({"y": "3"}));
    }

    #[test]
    fn the_order_that_is_asked_for_is_made() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "injected"}, {"name": "b"}]});
        let patch = json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            "containers": [{"name": "c"}]});
        let names = [json!({"name": "c"}), json!({"name": "b"}), json!({"name": "a"}), json!({"name": "injected"})];
        assert_eq!(patched(spec, patch)["containers"], json!(names));
    }

    #[test]
    fn sets_of_scalars_grow_and_shrink() {
        let schema = core::workload().remove(0).schema;
        let mut object = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}});
        let patch = json!({"metadata": {"finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"],
            "labels": {"x": null, "y": "2"}}});
        strategic_merge(&schema, &mut object, &patch).unwrap();
        assert_eq!(object, json!({"metadata": {"finalizers": ["a", "c"], "labels": {"y": "2"}}}));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let pod = core::workload().into_iter().find(|kind| kind.kind == "Pod").unwrap();
        let refused = |patch: Value| strategic_merge(&pod.schema, &mut json!({}), &patch).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"$patch": "explode"})),
            "unknown $patch directive \"explode\" in strategic merge patch"
        );
        let error = refused(json!({"spec": {"containers": [{"image": "1"}]}}));
        assert_eq!(error, "map: {\"image\":\"1\"} does not contain declared merge key: name");
        assert_eq!(refused(json!([])), "the patch in a strategic merge patch has the wrong type");
    }
}
