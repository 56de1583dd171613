//! Where the fields of a document are written: for what the API refuses of it, by the name of a field.

use kube::core::Status;
use serde_json::Value;

use super::faults::Lines;
use super::schema::{self, join};
use super::tree::{Node, Shape};
use super::{Document, kind};

/// Where a field is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path, as the API names fields: `spec.workers[0].replicas`.
    pub field: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Document {
    /// Line and column of what the API refused: of the first field that it names, or of the nearest one around it that
    /// the document has. The document's own place where it names none.
    #[must_use]
    pub fn place_of(&self, status: &Status) -> (u32, u32) {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let named = causes.map(|cause| cause.field.as_str()).filter(|field| !field.is_empty());
        let place = named.filter_map(|field| self.nearest(field)).next();
        place.map_or((self.line, 1), |place| (place.line, place.column))
    }

    /// `metadata` or `spec` alone tells nobody anything.
    fn nearest(&self, field: &str) -> Option<&Place> {
        let mut field = field;
        while field.contains('.') {
            if let Some(place) = self.places.iter().find(|place| place.field == field) {
                return Some(place);
            }
            field = &field[..field.rfind(['.', '['])?];
        }
        None
    }
}

/// The places of everything below `metadata` and `spec`.
pub(super) fn of(root: &Node, lines: &Lines<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for key in ["metadata", "spec"] {
        if let Some(entry) = root.get(key) {
            below(&entry.value, key, lines, &mut places);
        }
    }
    places
}

/// The places of the fields of a Cluster that was converted from another configuration.
pub(super) fn of_converted(root: &Node, spec: &Value, origin: &kind::Origin, lines: &Lines<'_>) -> Vec<Place> {
    let mut paths = vec![vec!["metadata".to_owned(), "name".to_owned()]];
    paths_below(spec, &mut vec!["spec".to_owned()], &mut paths);
    let place = |path: &Vec<String>| {
        let (line, column) = lines.position(schema::locate(root, &origin.of(path)).start);
        let field = path.iter().fold(String::new(), |field, key| match key.parse::<usize>() {
            Ok(index) => format!("{field}[{index}]"),
            Err(_) => join(&field, key),
        });
        Place { field, line, column }
    };
    paths.iter().map(place).collect()
}

fn paths_below(value: &Value, path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in children {
        path.push(key);
        paths.push(path.clone());
        paths_below(value, path, paths);
        path.pop();
    }
}

fn below(node: &Node, path: &str, lines: &Lines<'_>, places: &mut Vec<Place>) {
    let mut add = |field: String, offset: u32, value: &Node| {
        let (line, column) = lines.position(offset);
        places.push(Place { field: field.clone(), line, column });
        below(value, &field, lines, places);
    };
    match &node.shape {
        Shape::Map(entries) => {
            entries.iter().for_each(|entry| add(join(path, &entry.key), entry.place.start, &entry.value));
        }
        Shape::List(items) => {
            items.iter().enumerate().for_each(|(index, item)| add(format!("{path}[{index}]"), item.span.start, item));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Manifest;
    use super::*;

    const TEXT: &str = "\
# two clusters
apiVersion: kina.dev/v1alpha1
kind: Cluster
metadata: {name: a}
---
apiVersion: kina.dev/v1alpha1
kind: Cluster
metadata:
  name: b
spec:
  networking:
    podSubnet: 10.9.0.0/16
  workers:
    - name: small
    - name: large
      replicas: 2
";

    fn place(fields: &[&str]) -> (u32, u32) {
        let causes: Vec<_> = fields.iter().map(|field| json!({"field": field, "message": "", "reason": ""})).collect();
        let status: Status = serde_json::from_value(json!({"status": "Failure", "code": 422, "reason": "Invalid",
            "metadata": {}, "message": "no", "details": {"causes": causes}}))
        .unwrap();
        Manifest::parse("two.yaml", TEXT.as_bytes()).documents[1].place_of(&status)
    }

    #[test]
    fn a_refusal_is_placed_at_the_field_that_it_names() {
        assert_eq!(place(&["spec.networking.podSubnet"]), (12, 5));
        assert_eq!(place(&["spec.workers[1].replicas"]), (16, 7));
        assert_eq!(place(&["metadata.name"]), (9, 3));
    }

    #[test]
    fn a_field_that_the_document_leaves_out_is_placed_at_what_is_around_it() {
        assert_eq!(place(&["spec.networking.serviceSubnet"]), (11, 3));
        assert_eq!(place(&["spec.workers[0].labels"]), (14, 7));
        assert_eq!(place(&["spec.image", "spec.workers"]), (13, 3));
        assert_eq!(place(&["spec.image"]), (6, 1));
        assert_eq!(place(&["metadata.annotations[kina.dev/source]"]), (6, 1));
        assert_eq!(place(&[]), (6, 1));
    }
}
