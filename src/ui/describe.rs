//! One object in full, as `kubectl describe` has it: names first, then spec and status, conditions as a table, events last.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::table::align;
use super::view::Happening;
use crate::apiserver::table::age;

/// Everything about an object.
#[must_use]
pub fn describe(object: &Value, happenings: &[Happening], now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut head = vec![
        vec!["Name:".to_owned(), text(&metadata["name"])],
        vec!["Kind:".to_owned(), text(&object["kind"])],
        vec!["API version:".to_owned(), text(&object["apiVersion"])],
    ];
    if object.pointer("/spec/runtime").and_then(Value::as_str) == Some("sim") {
        head.push(vec![
            "Simulated:".to_owned(),
            "yes: no container of it is real, and it answers while Kina runs".to_owned(),
        ]);
    }
    for (title, key) in [("Created:", "creationTimestamp"), ("Deleting since:", "deletionTimestamp")] {
        if let Some(time) = metadata[key].as_str().and_then(|time| time.parse::<Timestamp>().ok()) {
            head.push(vec![title.to_owned(), format!("{time} ({} ago)", age(time, now))]);
        }
    }
    for (title, key) in [("Labels:", "labels"), ("Annotations:", "annotations")] {
        for (index, (name, value)) in metadata[key].as_object().into_iter().flatten().enumerate() {
            let title = if index == 0 { title } else { "" };
            head.push(vec![title.to_owned(), format!("{name}={}", text(value))]);
        }
    }
    lines.extend(align(&head));
    for (title, key) in [("Spec:", "spec"), ("Status:", "status")] {
        let Some(fields) = object[key].as_object().filter(|fields| !fields.is_empty()) else { continue };
        lines.push(title.to_owned());
        let mut rest = fields.clone();
        let conditions = rest.remove("conditions");
        tree(&Value::Object(rest), 2, &mut lines);
        if let Some(Value::Array(conditions)) = conditions {
            lines.push("  conditions:".to_owned());
            lines.extend(conditions_table(&conditions, now).into_iter().map(|line| format!("    {line}")));
        }
    }
    lines.push("Events:".to_owned());
    if happenings.is_empty() {
        lines.push("  none".to_owned());
    }
    let rows: Vec<Vec<String>> = happenings.iter().map(|event| happening_row(event, now)).collect();
    lines.extend(align(&rows).into_iter().map(|line| format!("  {line}")));
    lines.into_iter().map(|line| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()).collect()
}

fn happening_row(event: &Happening, now: Timestamp) -> Vec<String> {
    let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
    vec![
        age(event.at, now),
        if event.is_warning { "Warning" } else { "Normal" }.to_owned(),
        event.reason.clone(),
        format!("{}{times}", event.message),
    ]
}

fn conditions_table(conditions: &[Value], now: Timestamp) -> Vec<String> {
    let mut rows = vec![["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"].map(str::to_owned).to_vec()];
    for condition in conditions {
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        let since = condition["lastTransitionTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let since = since.map(|since| age(since, now)).unwrap_or_default();
        rows.push(vec![text("type"), text("status"), text("reason"), since, text("message")]);
    }
    align(&rows)
}

/// A value as indented `key: value` lines, lists with dashes.
fn tree(value: &Value, indent: usize, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| field(key, value, indent, lines)),
        Value::Array(values) => values.iter().for_each(|value| item(value, indent, lines)),
        scalar => lines.extend(scalar_text(scalar).lines().map(|line| format!("{:indent$}{line}", ""))),
    }
}

fn field(key: &str, value: &Value, indent: usize, lines: &mut Vec<String>) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if fields.is_empty() => lines.push(format!("{pad}{key}: {{}}")),
        Value::Array(values) if values.is_empty() => lines.push(format!("{pad}{key}: []")),
        Value::Object(_) | Value::Array(_) => {
            lines.push(format!("{pad}{key}:"));
            tree(value, indent + 2, lines);
        }
        Value::String(text) if text.contains('\n') => {
            lines.push(format!("{pad}{key}:"));
            tree(value, indent + 2, lines);
        }
        scalar => lines.push(format!("{pad}{key}: {}", scalar_text(scalar))),
    }
}

fn item(value: &Value, indent: usize, lines: &mut Vec<String>) {
    let start = lines.len();
    tree(value, indent + 2, lines);
    if let Some(first) = lines.get_mut(start) {
        first.replace_range(indent..=indent, "-");
    } else {
        lines.push(format!("{:indent$}- {}", "", if matches!(value, Value::Object(Map { .. })) { "{}" } else { "[]" }));
    }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{busy_house, cluster, condition, now};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cluster_is_described_in_full() {
        let status = json!({"phase": "Running", "machines": {"desired": 3, "ready": 3, "summary": "3/3"},
            "conditions": [condition("Ready", "True", "AllReady", "everything works"), condition("Drifted", "False", "None", "")],
            "drift": [{"object": "a", "since": "b"}, {"object": "c"}], "empty": [], "text": "one\ntwo"});
        let mut object = cluster("toy", "sim", status);
        object["metadata"]["annotations"] = json!({"kina.dev/source": "clusters", "kina.dev/source-path": "toy.yaml"});
        let happenings = busy_house().happenings();
        insta::assert_snapshot!(describe(&object, &happenings[..2], now()).join("\n"), @r"
        Name:          toy
        Kind:          Cluster
        API version:   kina.dev/v1alpha1
        Simulated:     yes: no container of it is real, and it answers while Kina runs
        Created:       2026-01-01T00:57:55Z (2m5s ago)
        Annotations:   kina.dev/source=clusters
                       kina.dev/source-path=toy.yaml
        Spec:
          kubernetesVersion: v1.35.5
          runtime: sim
          workers:
            - name: default
              replicas: 2
        Status:
          drift:
            - object: a
              since: b
            - object: c
          empty: []
          machines:
            desired: 3
            ready: 3
            summary: 3/3
          phase: Running
          text:
            one
            two
          conditions:
            TYPE      STATUS   REASON     SINCE   MESSAGE
            Ready     True     AllReady   8s      everything works
            Drifted   False    None       8s
        Events:
          5s     Normal    Bootstrapping   kubeadm join has started
          5m1s   Warning   ContainerGone   container prod-default-1 is gone
        ");
    }
}
