//! Tables as `kubectl get` prints them, from the same columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::apiserver::kind::Kind;
use crate::apiserver::table::{IncludeObject, table};

/// Spaces between columns, as kubectl has them.
const GAP: usize = 3;

/// Which columns a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Those of lower priority too (`-o wide`).
    pub wide: bool,
    /// No headings.
    pub no_headers: bool,
}

/// The cells of objects of one kind, a row an object, under a row of headings.
#[must_use]
pub fn rows(kind: &Kind, objects: &[Value], columns: Columns, now: Timestamp) -> Vec<Vec<String>> {
    let table = table(kind, objects, Value::Null, IncludeObject::None, true, now);
    let definitions = array(&table, "columnDefinitions");
    let shown: Vec<usize> = (0..definitions.len())
        .filter(|&index| columns.wide || definitions[index]["priority"].as_i64().unwrap_or_default() == 0)
        .collect();
    let headings = shown.iter().map(|&index| text(&definitions[index]["name"]).to_uppercase()).collect();
    let mut rows: Vec<Vec<String>> = if columns.no_headers { Vec::new() } else { vec![headings] };
    for row in array(&table, "rows") {
        let cells = array(row, "cells");
        rows.push(shown.iter().map(|&index| cells.get(index).map(text).unwrap_or_default()).collect());
    }
    rows
}

/// Rows of cells as lines, with every column as wide as its widest cell.
#[must_use]
pub fn align(rows: &[Vec<String>]) -> Vec<String> {
    Widths::default().align(rows)
}

/// How wide columns are so far: rows that come later are aligned with those before, as far as they fit.
#[derive(Clone, Debug, Default)]
pub struct Widths(Vec<usize>);

impl Widths {
    /// Rows of cells as lines.
    #[must_use]
    pub fn align(&mut self, rows: &[Vec<String>]) -> Vec<String> {
        for row in rows {
            self.0.resize(self.0.len().max(row.len()), 0);
            for (width, cell) in self.0.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.0) {
                line.push_str(&format!("{cell:width$}{:GAP$}", "", width = *width));
            }
            line.truncate(line.trim_end().len());
            line
        };
        rows.iter().map(line).collect()
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A cell as kubectl prints it; what is not there yet is empty.
fn text(cell: &Value) -> String {
    let text = match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::json;

    use super::*;
    use crate::api::{Cluster, Machine};

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn clusters() -> Vec<Value> {
        vec![
            json!({"metadata": {"name": "dev", "creationTimestamp": "2026-01-01T00:50:00Z"},
                "spec": {"runtime": "sim"},
                "status": {"phase": "Running", "version": "v1.35.5", "endpoint": "https://127.0.0.1:40001",
                    "machines": {"desired": 3, "ready": 3, "summary": "3/3"},
                    "source": {"name": "clusters", "path": "dev.yaml"},
                    "conditions": [{"type": "Ready", "status": "True", "reason": "AllReady"}]}}),
            json!({"metadata": {"name": "a-new-one", "creationTimestamp": "2026-01-01T00:59:57Z"}, "spec": {}}),
        ]
    }

    fn shown(kind: &Kind, objects: &[Value], columns: Columns) -> String {
        align(&rows(kind, objects, columns, NOW.parse().unwrap())).join("\n")
    }

    #[test]
    fn clusters_are_shown_as_kubectl_shows_them_with_their_runtime() {
        let kind = Kind::from_crd(&Cluster::crd()).unwrap();
        insta::assert_snapshot!(shown(&kind, &clusters(), Columns::default()), @r"
        NAME        PHASE     READY   MACHINES   VERSION   RUNTIME   AGE
        dev         Running   True    3/3        v1.35.5   sim       10m
        a-new-one                                                    3s
        ");
        insta::assert_snapshot!(shown(&kind, &clusters(), Columns { wide: true, no_headers: false }), @r"
        NAME        PHASE     READY   MACHINES   VERSION   RUNTIME   AGE   ENDPOINT                  SOURCE     REASON
        dev         Running   True    3/3        v1.35.5   sim       10m   https://127.0.0.1:40001   dev.yaml   AllReady
        a-new-one                                                    3s
        ");
        insta::assert_snapshot!(shown(&kind, &clusters()[..1], Columns { wide: false, no_headers: true }), @"dev   Running   True   3/3   v1.35.5   sim   10m");
    }

    #[test]
    fn machines_have_their_columns() {
        let kind = Kind::from_crd(&Machine::crd()).unwrap();
        let machine = json!({"metadata": {"name": "dev-default-0", "creationTimestamp": "2026-01-01T00:59:00Z"},
            "spec": {"cluster": "dev", "role": "worker", "kubernetesVersion": "v1.35.5"},
            "status": {"phase": "Bootstrapping", "conditions": [{"type": "Ready", "status": "False"}]}});
        insta::assert_snapshot!(shown(&kind, &[machine], Columns::default()), @r"
        NAME            CLUSTER   ROLE     PHASE           READY   VERSION   AGE
        dev-default-0   dev       worker   Bootstrapping   False   v1.35.5   60s
        ");
    }
}
