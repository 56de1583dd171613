//! What a document is: nothing, another tool's object, or a Cluster.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::faults::Found;
use super::schema::{self, join};
use super::tree::{Entry, Node, Shape, Span};
use super::{Document, Reading, host_paths, kind, suggest};
use crate::api::cluster::spec_schema;
use crate::api::names::ClusterName;
use crate::api::{API_VERSION, ClusterSpec, GROUP, annotations, validation};
use crate::apiserver::schema::{is_label_value, is_qualified_name};

pub(super) enum Object {
    /// No content.
    Empty,
    /// Not Kina's; named for people.
    Foreign(String),
    /// Meant to be Kina's, but not a Cluster.
    Faulty(Vec<Found>),
    /// A Cluster, with what is wrong with it.
    Cluster(Box<Read>, Vec<Found>),
}

/// A Cluster as it was read. Line, hash, places and warnings are filled in by the caller.
pub(super) struct Read {
    pub document: Document,
    /// Where fields are written, for a document that was converted.
    pub origin: Option<kind::Origin>,
    pub warnings: Vec<Found>,
}

/// Annotations that only Kina writes, or that ask for something once: a file would ask for it again and again.
const REFUSED_ANNOTATIONS: [(&str, &str); 8] = [
    (annotations::SOURCE, "is written by Kina"),
    (annotations::SOURCE_PATH, "is written by Kina"),
    (annotations::SOURCE_LINE, "is written by Kina"),
    (annotations::SOURCE_HASH, "is written by Kina"),
    (annotations::SOURCE_COMMIT, "is written by Kina"),
    (annotations::DETACH, "asks for something once, which a file cannot: use `kina detach`"),
    (annotations::APPROVE, "asks for something once, which a file cannot: use `kina approve`"),
    (annotations::RECREATE, "asks for something once, which a file cannot: use `spec.allowRecreate`"),
];

pub(super) fn read(root: &Node, reading: Reading<'_>) -> Object {
    match &root.shape {
        Shape::Null => return Object::Empty,
        Shape::Map(_) => {}
        _ => return Object::Foreign("a document that is no object".to_owned()),
    }
    let version = root.get("apiVersion").map(|entry| &entry.value);
    let kind_node = root.get("kind").map(|entry| &entry.value);
    let (version_text, kind_text) = (version.and_then(Node::text), kind_node.and_then(Node::text));
    let group = version_text.map(|text| text.split_once('/').map_or(text, |(group, _)| group));
    if let Some(fault) = misspelt(root, version_text, group, kind_text) {
        return Object::Faulty(vec![fault]);
    }
    if group == Some(kind::GROUP) {
        return of_kind(root, reading, version, kind_node);
    }
    if group != Some(GROUP) {
        if holds_clusters(root) {
            let message = "a List is not accepted in manifests".to_owned();
            let fault =
                Found::at(root.span, message).helped("write each Cluster as a document of its own, after a line `---`");
            return Object::Faulty(vec![fault]);
        }
        let name = |text: Option<&str>| text.unwrap_or("?").chars().take(60).collect::<String>();
        return Object::Foreign(format!("{} ({})", name(kind_text), name(version_text)));
    }
    let mut faults = Vec::new();
    if version_text != Some(API_VERSION) {
        let span = version.map_or(root.span, |node| node.span);
        faults.push(Found::at(span, format!("`apiVersion` must be `{API_VERSION}`")).labelled("unknown version"));
    }
    match kind_text {
        Some("Cluster") => cluster(root, reading, faults),
        _ => {
            faults.push(wrong_kind(root, kind_node));
            Object::Faulty(faults)
        }
    }
}

/// A Cluster of somebody who mistyped the group, or left it out: not somebody else's object.
fn misspelt(root: &Node, version: Option<&str>, group: Option<&str>, kind: Option<&str>) -> Option<Found> {
    if kind != Some("Cluster") {
        return None;
    }
    let Some(group) = group else {
        let entry = root.get("apiVersion").or_else(|| root.get("kind"));
        let fault = Found::at(entry.map_or(root.span, |entry| entry.place), "`apiVersion` is missing".to_owned());
        return Some(fault.labelled("of which API?").helped(format!("add `apiVersion: {API_VERSION}`")));
    };
    let is_near = group != GROUP && group.len() < 64 && suggest::distance(group, GROUP) <= 2;
    is_near.then(|| {
        let span = root.get("apiVersion").map_or(root.span, |entry| entry.value.span);
        let fault = Found::at(span, format!("`{}` is not an API that Kina knows", version.unwrap_or_default()));
        fault.labelled("unknown API").helped(format!("did you mean `{API_VERSION}`?"))
    })
}

fn holds_clusters(root: &Node) -> bool {
    let Some(Shape::List(items)) = root.get("items").map(|entry| &entry.value.shape) else { return false };
    items.iter().any(|item| {
        let version = item.get("apiVersion").and_then(|entry| entry.value.text());
        version.and_then(|text| text.split_once('/')).is_some_and(|(group, _)| group == GROUP)
    })
}

fn wrong_kind(root: &Node, kind: Option<&Node>) -> Found {
    let span = kind.map_or(root.span, |node| node.span);
    match kind.and_then(Node::text) {
        Some(kind @ ("Machine" | "Source")) => {
            let fault = Found::at(span, format!("a {kind} cannot be declared: Kina makes it by itself"));
            fault.labelled("only a Cluster can be declared")
        }
        Some(_) => Found::at(span, "`kind` must be `Cluster`".to_owned()).labelled("unknown kind"),
        None => Found::at(span, "`kind` must be `Cluster`".to_owned()),
    }
}

/// kind's configuration.
fn of_kind(root: &Node, reading: Reading<'_>, version: Option<&Node>, kind_node: Option<&Node>) -> Object {
    if version.and_then(Node::text) != Some(kind::API_VERSION) {
        let span = version.map_or(root.span, |node| node.span);
        let fault = Found::at(span, format!("`apiVersion` of a configuration of kind must be `{}`", kind::API_VERSION));
        return Object::Faulty(vec![fault.labelled("unknown version")]);
    }
    if kind_node.and_then(Node::text) != Some("Cluster") {
        return Object::Faulty(vec![wrong_kind(root, kind_node)]);
    }
    let mut faults = Vec::new();
    let Some(kind::Converted { name, spec, origin, warnings }) = kind::convert(root, &mut faults) else {
        return Object::Faulty(faults);
    };
    if let Err(error) = ClusterName::parse(&name) {
        faults.push(Found::at(schema::locate(root, &["name".to_owned()]), format!("`name`: {error}")));
    }
    let metadata = Metadata { name: Some(name), ..Metadata::default() };
    let place = |path: &[String]| schema::locate(root, &origin.of(path));
    let document = document(metadata, spec, reading, place, &mut faults);
    Object::Cluster(Box::new(Read { document, origin: Some(origin), warnings }), faults)
}

fn cluster(root: &Node, reading: Reading<'_>, mut faults: Vec<Found>) -> Object {
    let Shape::Map(entries) = &root.shape else { return Object::Empty };
    let mut metadata = Metadata::default();
    let mut spec = None;
    for entry in entries {
        match entry.key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => metadata = Metadata::read(&entry.value, &mut faults),
            "spec" if matches!(entry.value.shape, Shape::Null) => {}
            "spec" => spec = schema::check(&entry.value, spec_schema(), "spec", &mut faults),
            "status" => {
                let fault = Found::at(entry.place, "`status` is written by Kina".to_owned());
                faults.push(fault.labelled("not allowed here").helped("remove it"));
            }
            other => {
                let known = ["apiVersion", "kind", "metadata", "spec"];
                faults.push(schema::unknown_field(entry.place, "", other, known.into_iter()));
            }
        }
    }
    if root.get("metadata").is_none() || metadata.name.is_none() && metadata.may_lack_name {
        let span = root.get("metadata").map_or(root.span, |entry| entry.place);
        faults.push(Found::at(span, "`metadata.name` is missing".to_owned()).helped("give the Cluster a name"));
    }
    let spec = spec.unwrap_or_else(|| Value::Object(Map::new()));
    let document = document(metadata, spec, reading, |path| schema::locate(root, path), &mut faults);
    Object::Cluster(Box::new(Read { document, origin: None, warnings: Vec::new() }), faults)
}

fn document(
    metadata: Metadata,
    mut spec: Value,
    reading: Reading<'_>,
    place: impl Fn(&[String]) -> Span,
    faults: &mut Vec<Found>,
) -> Document {
    let name = metadata.name.unwrap_or_default();
    host_paths::resolve(&mut spec, reading, &place, faults);
    let typed = match serde_json::from_value::<ClusterSpec>(spec.clone()) {
        Ok(typed) => typed,
        Err(error) => {
            // Where the schema already said what is wrong, the type adds nothing.
            if faults.is_empty() {
                let span = place(&["spec".to_owned()]);
                faults.push(Found::at(span, format!("`spec` does not fit: {error}")));
            }
            ClusterSpec::default()
        }
    };
    if faults.is_empty() {
        let found = validation::cluster(&name, &typed).into_iter();
        faults
            .extend(found.map(|fault| Found::at(place(&fault.path), fault.message).labelled(fault_label(&fault.path))));
    }
    Document {
        name,
        line: 0,
        hash: String::new(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        spec,
        typed,
        places: Vec::new(),
    }
}

/// What the place is, where the message does not say it: the last key of the path.
fn fault_label(path: &[String]) -> String {
    let is_index = |key: &&String| !key.bytes().all(|b| b.is_ascii_digit());
    path.iter().rev().find(is_index).cloned().unwrap_or_default()
}

#[derive(Default)]
struct Metadata {
    name: Option<String>,
    /// No fault was found with the name itself.
    may_lack_name: bool,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Metadata {
    fn read(node: &Node, faults: &mut Vec<Found>) -> Self {
        let mut metadata = Self { may_lack_name: true, ..Self::default() };
        let Shape::Map(entries) = &node.shape else {
            if !matches!(node.shape, Shape::Null) {
                faults.push(Found::at(node.span, "`metadata` must be a map".to_owned()));
                metadata.may_lack_name = false;
            }
            return metadata;
        };
        for entry in entries.iter().filter(|entry| !matches!(entry.value.shape, Shape::Null)) {
            match entry.key.as_str() {
                "name" => metadata.read_name(entry, faults),
                "labels" => metadata.labels = texts(entry, "metadata.labels", faults, check_label),
                "annotations" => metadata.annotations = texts(entry, "metadata.annotations", faults, check_annotation),
                other => faults.push(refused_metadata(entry.place, other)),
            }
        }
        metadata
    }

    fn read_name(&mut self, entry: &Entry, faults: &mut Vec<Found>) {
        self.may_lack_name = false;
        let schema = serde_json::json!({"type": "string"});
        let Some(Value::String(name)) = schema::check(&entry.value, &schema, "metadata.name", faults) else { return };
        match ClusterName::parse(&name) {
            Ok(_) => self.name = Some(name),
            Err(error) => faults.push(Found::at(entry.value.span, format!("`metadata.name`: {error}"))),
        }
    }
}

fn refused_metadata(place: Span, key: &str) -> Found {
    let path = join("metadata", key);
    match key {
        "namespace" => Found::at(place, format!("`{path}` makes no sense: a Cluster belongs to no namespace"))
            .labelled("not allowed here")
            .helped("remove it"),
        "generateName" => Found::at(place, format!("`{path}` cannot be declared: a file names its Cluster"))
            .labelled("not allowed here")
            .helped("use `name`"),
        "uid"
        | "resourceVersion"
        | "generation"
        | "creationTimestamp"
        | "deletionTimestamp"
        | "managedFields"
        | "deletionGracePeriodSeconds"
        | "selfLink"
        | "finalizers"
        | "ownerReferences" => {
            Found::at(place, format!("`{path}` is written by Kina")).labelled("not allowed here").helped("remove it")
        }
        _ => schema::unknown_field(place, "metadata", key, ["name", "labels", "annotations"].into_iter()),
    }
}

fn texts(
    entry: &Entry,
    path: &str,
    faults: &mut Vec<Found>,
    rule: fn(&str, &str) -> Result<(), String>,
) -> BTreeMap<String, String> {
    let schema = serde_json::json!({"type": "object", "additionalProperties": {"type": "string"}});
    let Some(Value::Object(fields)) = schema::check(&entry.value, &schema, path, faults) else {
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (key, value) in fields {
        let value = value.as_str().unwrap_or_default().to_owned();
        if let Err(message) = rule(&key, &value) {
            let place = entry.value.get(&key).map_or(entry.place, |entry| entry.place);
            faults.push(Found::at(place, message));
        }
        found.insert(key, value);
    }
    found
}

fn check_label(key: &str, value: &str) -> Result<(), String> {
    check_key(key)?;
    if key.starts_with("kina.dev/") {
        return Err(format!("the label `{key}` is written by Kina"));
    }
    if !is_label_value(value) {
        return Err(format!(
            "`{value}` is not a label value: at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends"
        ));
    }
    Ok(())
}

fn check_annotation(key: &str, _: &str) -> Result<(), String> {
    check_key(key)?;
    match REFUSED_ANNOTATIONS.iter().find(|(refused, _)| *refused == key) {
        Some((_, why)) => Err(format!("the annotation `{key}` {why}")),
        None => Ok(()),
    }
}

fn check_key(key: &str) -> Result<(), String> {
    if is_qualified_name(key) {
        return Ok(());
    }
    let key: String = key.chars().take(80).collect();
    Err(format!("`{key}` is not a key such as `tier` or `example.com/tier`"))
}
