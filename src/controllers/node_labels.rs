//! Labels and taints of Nodes: what Kina set is Kina's, everything else is left alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clusters_api::{APPLIED, NodeView, SeenTaint};

/// The patch that brings a Node's labels and taints to what is wanted, leaving alone what Kina did not set; `None` where
/// there is nothing to do.
#[must_use]
pub fn node_patch(node: &NodeView, labels: &BTreeMap<String, String>, taints: &[SeenTaint]) -> Option<Value> {
    let (applied_labels, applied_taints) = node.applied.as_deref().map(read_applied).unwrap_or_default();
    let mut label_patch = serde_json::Map::new();
    for key in applied_labels.iter().filter(|key| !labels.contains_key(*key) && node.labels.contains_key(*key)) {
        label_patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in labels.iter().filter(|(key, value)| node.labels.get(*key) != Some(value)) {
        label_patch.insert(key.clone(), value.clone().into());
    }
    let is_set =
        |taint: &SeenTaint, in_list: &[SeenTaint]| in_list.iter().any(|t| (&t.0, &t.2) == (&taint.0, &taint.2));
    let mut merged: Vec<SeenTaint> =
        node.taints.iter().filter(|taint| !is_set(taint, &applied_taints) && !is_set(taint, taints)).cloned().collect();
    merged.extend(taints.iter().cloned());
    let sorted = |list: &[SeenTaint]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    let taints_differ = sorted(&merged) != sorted(&node.taints);
    let applied = write_applied(labels, taints);
    if label_patch.is_empty() && !taints_differ && node.applied.as_deref() == Some(applied.as_str()) {
        return None;
    }
    let mut patch = serde_json::json!({ "metadata": { "annotations": { APPLIED: applied } } });
    if !label_patch.is_empty() {
        patch["metadata"]["labels"] = Value::Object(label_patch);
    }
    if taints_differ {
        let list: Vec<Value> = merged
            .iter()
            .map(|(key, value, effect)| serde_json::json!({ "key": key, "value": value, "effect": effect }))
            .collect();
        patch["spec"] = serde_json::json!({ "taints": list });
    }
    Some(patch)
}

/// Whether what was set once is still what is wanted: where it is and the Node differs, somebody else changed the Node.
#[must_use]
pub fn was_applied(node: &NodeView, labels: &BTreeMap<String, String>, taints: &[SeenTaint]) -> bool {
    node.applied.as_deref() == Some(write_applied(labels, taints).as_str())
}

fn write_applied(labels: &BTreeMap<String, String>, taints: &[SeenTaint]) -> String {
    let mut taints = taints.to_vec();
    taints.sort();
    serde_json::json!({ "labels": labels, "taints": taints }).to_string()
}

fn read_applied(text: &str) -> (Vec<String>, Vec<SeenTaint>) {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let labels = value["labels"].as_object().map(|labels| labels.keys().cloned().collect()).unwrap_or_default();
    (labels, serde_json::from_value(value["taints"].clone()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn taint(key: &str) -> SeenTaint {
        (key.into(), String::new(), "NoSchedule".into())
    }

    /// What the API server makes of a merge patch, as far as it matters here.
    fn apply(node: &mut NodeView, patch: &Value) {
        node.applied = patch["metadata"]["annotations"][APPLIED].as_str().map(str::to_owned);
        for (key, value) in patch["metadata"]["labels"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => node.labels.insert(key.clone(), value.to_owned()),
                None => node.labels.remove(key),
            };
        }
        if let Some(taints) = patch["spec"]["taints"].as_array() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            node.taints = taints.iter().map(|t| (text(&t["key"]), text(&t["value"]), text(&t["effect"]))).collect();
        }
    }

    #[test]
    fn labels_and_taints_follow_the_spec_and_those_of_others_stay() {
        let mut node = NodeView {
            labels: map(&[("kubernetes.io/hostname", "n"), ("mine", "x")]),
            taints: vec![taint("node.kubernetes.io/not-ready")],
            ..NodeView::default()
        };
        let wanted = map(&[("tier", "apps"), ("zone", "a")]);
        let patch = node_patch(&node, &wanted, &[taint("dedicated")]).unwrap();
        apply(&mut node, &patch);
        assert_eq!(
            node.labels,
            map(&[("kubernetes.io/hostname", "n"), ("mine", "x"), ("tier", "apps"), ("zone", "a")])
        );
        assert_eq!(node.taints, [taint("node.kubernetes.io/not-ready"), taint("dedicated")]);
        assert_eq!(node_patch(&node, &wanted, &[taint("dedicated")]), None);
        assert!(was_applied(&node, &wanted, &[taint("dedicated")]));

        let less = map(&[("tier", "web")]);
        let patch = node_patch(&node, &less, &[]).unwrap();
        apply(&mut node, &patch);
        assert_eq!(node.labels, map(&[("kubernetes.io/hostname", "n"), ("mine", "x"), ("tier", "web")]));
        assert_eq!(node.taints, [taint("node.kubernetes.io/not-ready")]);
        assert_eq!(node_patch(&node, &less, &[]), None);
    }
}
