//! Patches over kubeadm's documents, with the meaning that kind gives them.
//!
//! The cluster's come first, then the node's; of each, merge patches before JSON patches. Arguments, which v1beta4 has as
//! lists of name and value and v1beta3 as maps, are merged by name, and may be written in either form; names and addresses
//! for the API server's certificate are added, never replaced.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::documents::ConfigVersion;
use crate::api::defaults::Patches;
use crate::api::patch;

/// A patch that could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("a patch of {kind} {message}")]
pub struct PatchError {
    /// Kind of the document.
    pub kind: String,
    /// What is wrong.
    pub message: String,
}

/// Applies patches to documents, in order. A patch of a document that this node does not have is for other nodes.
///
/// # Errors
/// [`PatchError`] where a patch is none, or a JSON patch does not fit its document.
pub fn apply(documents: &mut [Value], patches: &[&Patches]) -> Result<(), PatchError> {
    for patches in patches {
        for text in &patches.merge {
            let merges = patch::merge_patches(text)
                .map_err(|message| PatchError { kind: "kubeadm's configuration".to_owned(), message })?;
            for patch in merges {
                of_kind(documents, &patch.kind).for_each(|document| {
                    let is_older = document["apiVersion"] == ConfigVersion::V1beta3.api_version();
                    let version = if is_older { ConfigVersion::V1beta3 } else { ConfigVersion::V1beta4 };
                    merge(document, &patch.fields, version);
                });
            }
        }
        for patch in &patches.json {
            let failed = |message: String| PatchError { kind: patch.kind.clone(), message };
            let operations = patch::json_patch(patch).map_err(failed)?;
            for document in of_kind(documents, &patch.kind) {
                json_patch::patch(document, &operations).map_err(|error| failed(format!("does not fit: {error}")))?;
            }
        }
    }
    Ok(())
}

/// The merge patch (RFC 7386) that makes `to` of `from`; `None` where they are alike.
#[must_use]
pub fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Some(before), Some(after)) = (from.as_object(), to.as_object()) else {
        return (from != to).then(|| to.clone());
    };
    let removed = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = after.iter().filter_map(|(key, value)| {
        let change = before.get(key).map_or_else(|| Some(value.clone()), |before| difference(before, value))?;
        Some((key.clone(), change))
    });
    let patch: Map<String, Value> = removed.chain(changed).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn of_kind<'a>(documents: &'a mut [Value], kind: &'a str) -> impl Iterator<Item = &'a mut Value> {
    documents.iter_mut().filter(move |document| document["kind"] == kind)
}

/// RFC 7386, but for the fields that are lists with names.
fn merge(document: &mut Value, patch: &Value, version: ConfigVersion) {
    let Some(fields) = patch.as_object() else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Some(target) = document.as_object_mut() else { return };
    for (key, value) in fields {
        let now = target.entry(key.clone()).or_insert(Value::Null);
        match key.as_str() {
            "extraArgs" | "kubeletExtraArgs" if !value.is_null() => merge_arguments(now, value, version),
            "certSANs" if value.is_array() => add_missing(now, value),
            _ if value.is_null() => {}
            _ => merge(now, value, version),
        }
        if value.is_null() {
            target.remove(key);
        }
    }
}

/// By name; a value that is `null` takes the argument away. Of a name that comes twice in a patch, both stay in a list:
/// components may be given an argument several times. A map has the last of them.
fn merge_arguments(now: &mut Value, patch: &Value, version: ConfigVersion) {
    let given = arguments(patch);
    let replaced: BTreeSet<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    let kept = arguments(now).into_iter().filter(|(name, _)| !replaced.contains(name.as_str()));
    let set = given.iter().filter(|(_, value)| !value.is_null());
    let set = set.map(|(name, value)| {
        (name.clone(), Value::String(value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    });
    let all = kept.chain(set);
    *now = match version {
        ConfigVersion::V1beta3 => Value::Object(all.collect()),
        ConfigVersion::V1beta4 => {
            Value::Array(all.map(|(name, value)| json!({ "name": name, "value": value })).collect())
        }
    };
}

/// Names and values, of either form.
fn arguments(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        Value::Array(list) => {
            list.iter().filter_map(|item| Some((item["name"].as_str()?.to_owned(), item["value"].clone()))).collect()
        }
        _ => Vec::new(),
    }
}

fn add_missing(now: &mut Value, more: &Value) {
    let mut all = now.as_array().cloned().unwrap_or_default();
    for item in more.as_array().into_iter().flatten() {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    *now = Value::Array(all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::node::JsonPatch6902;

    fn documents() -> Vec<Value> {
        vec![
            json!({"kind": "ClusterConfiguration", "apiServer": {"certSANs": ["localhost"]},
                   "controllerManager": {"extraArgs": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}}),
            json!({"kind": "KubeletConfiguration", "failSwapOn": false}),
        ]
    }

    fn patched(merge: &[&str], json: &[JsonPatch6902]) -> Result<Vec<Value>, String> {
        let mut documents = documents();
        let merge = merge.iter().map(|text| (*text).to_owned()).collect();
        apply(&mut documents, &[&Patches { merge, json: json.to_vec() }]).map_err(|error| error.to_string())?;
        Ok(documents)
    }

    #[test]
    fn arguments_are_merged_by_name_in_either_form() {
        let map = "kind: ClusterConfiguration\ncontrollerManager: {extraArgs: {b: '3', c: true, a: null}}\n";
        let list = "kind: ClusterConfiguration\ncontrollerManager: {extraArgs: [{name: b, value: '3'}, {name: c, value: 'true'}, {name: a, value: null}]}\n";
        let wanted = json!([{"name": "b", "value": "3"}, {"name": "c", "value": "true"}]);
        for text in [map, list] {
            assert_eq!(patched(&[text], &[]).unwrap()[0]["controllerManager"]["extraArgs"], wanted, "{text}");
        }
    }

    #[test]
    fn names_of_the_certificate_are_added() {
        let text = "kind: ClusterConfiguration\napiServer: {certSANs: [kina.local, localhost]}\n";
        assert_eq!(patched(&[text], &[]).unwrap()[0]["apiServer"]["certSANs"], json!(["localhost", "kina.local"]));
    }

    #[test]
    fn other_fields_follow_rfc_7386() {
        let text =
            "kind: KubeletConfiguration\nfailSwapOn: null\nmaxPods: 20\nevictionHard: {memory.available: 100Mi}\n";
        let wanted =
            json!({"kind": "KubeletConfiguration", "maxPods": 20, "evictionHard": {"memory.available": "100Mi"}});
        assert_eq!(patched(&[text], &[]).unwrap()[1], wanted);
        // Of a document that this node has not.
        assert_eq!(patched(&["kind: JoinConfiguration\nskipPhases: [preflight]\n"], &[]).unwrap(), documents());
    }

    #[test]
    fn a_json_patch_that_does_not_fit_is_an_error() {
        let patch = |text: &str| JsonPatch6902 {
            kind: "ClusterConfiguration".into(),
            patch: text.into(),
            ..JsonPatch6902::default()
        };
        let added = patched(&[], &[patch("- {op: add, path: /apiServer/certSANs/-, value: more}")]).unwrap();
        assert_eq!(added[0]["apiServer"]["certSANs"][1], "more");
        let error = patched(&[], &[patch("- {op: remove, path: /scheduler/extraArgs}")]).unwrap_err();
        assert!(error.starts_with("a patch of ClusterConfiguration does not fit: "), "{error}");
    }
}
