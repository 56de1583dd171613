//! One kubeconfig file as an ordered tree, so that what is not understood survives a round.

use std::fmt;
use std::path::Path;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{KubeconfigError, Stanza};

/// A kubeconfig file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    fields: Vec<(String, Node)>,
}

/// Any YAML value with text keys, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];
const CURRENT: &str = "current-context";

impl Document {
    /// An empty kubeconfig, its fields in kubectl's order.
    pub(super) fn new() -> Self {
        let text = |text: &str| Node::Text(text.to_owned());
        let fields = [
            ("apiVersion", text("v1")),
            ("clusters", Node::List(Vec::new())),
            ("contexts", Node::List(Vec::new())),
            (CURRENT, text("")),
            ("kind", text("Config")),
            ("users", Node::List(Vec::new())),
        ];
        Self { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    /// Reads a file. One without content is an empty kubeconfig, as for client-go.
    pub(super) fn parse(path: &Path, content: &[u8]) -> Result<Self, KubeconfigError> {
        let shape = |message: String| KubeconfigError::Shape { path: path.to_path_buf(), message };
        if content.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::new());
        }
        let text = std::str::from_utf8(content).map_err(|_| shape("it is not UTF-8 text".into()))?;
        let options = serde_saphyr::options! {
            // 64 MiB of our own entries are some 400,000 nodes; the defaults would refuse a file that Kina wrote.
            budget: serde_saphyr::budget! { max_nodes: 2_000_000, max_events: 4_000_000 },
            with_snippet: false,
        };
        let node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let message = plain(&error.without_snippet().to_string());
            match error.location() {
                Some(place) => KubeconfigError::Syntax {
                    path: path.to_path_buf(),
                    line: place.line(),
                    column: place.column(),
                    message,
                },
                None => shape(message),
            }
        })?;
        match node {
            Node::Null => Ok(Self::new()),
            Node::Map(fields) => {
                let document = Self { fields };
                document.check().map_err(shape)?;
                Ok(document)
            }
            _ => Err(shape("it is not a mapping".into())),
        }
    }

    pub(super) fn render(&self) -> Result<String, String> {
        // One line for every text: base64 must not be folded, and kubectl writes it so too.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&MapRef(&self.fields), options).map_err(|error| error.to_string())
    }

    /// The body of an entry.
    pub(super) fn entry(&self, list: &str, body: &str, name: &str) -> Option<&Node> {
        let Some(Node::List(entries)) = find(&self.fields, list) else { return None };
        entries.iter().find(|entry| entry.get("name").and_then(Node::text) == Some(name))?.get(body)
    }

    /// Whether an entry is there with exactly these fields, and none that contradicts them.
    pub(super) fn has_entry(&self, stanza: &Stanza, name: &str) -> bool {
        self.entry(stanza.list, stanza.body, name).is_some_and(|body| {
            let has = |(key, value, _): &(&str, String, &str)| body.get(key).and_then(Node::text) == Some(value);
            stanza.fields.iter().all(has) && stanza.contradicting.iter().all(|key| body.get(key).is_none())
        })
    }

    /// Whether there is a cluster, context or user of a name, or it is the current context.
    pub(super) fn names(&self, name: &str) -> bool {
        let is_named = |entry: &Node| entry.get("name").and_then(Node::text) == Some(name);
        self.current_context() == Some(name)
            || LISTS.iter().any(
                |list| matches!(find(&self.fields, list), Some(Node::List(entries)) if entries.iter().any(is_named)),
            )
    }

    /// Sets the fields of an entry, which is made where it is missing; its other fields stay.
    pub(super) fn set_entry(&mut self, stanza: &Stanza, name: &str) -> Result<(), String> {
        let list = slot(&mut self.fields, stanza.list, || Node::List(Vec::new()));
        if *list == Node::Null {
            *list = Node::List(Vec::new());
        }
        let Node::List(entries) = list else { return Err(format!("`{}` is not a list", stanza.list)) };
        let index = match entries.iter().position(|entry| entry.get("name").and_then(Node::text) == Some(name)) {
            Some(index) => index,
            None => {
                let body = (stanza.body.to_owned(), Node::Map(Vec::new()));
                entries.push(Node::Map(vec![body, ("name".to_owned(), Node::Text(name.to_owned()))]));
                entries.len() - 1
            }
        };
        let Some(Node::Map(entry)) = entries.get_mut(index) else {
            return Err(format!("an entry of `{}` is not a mapping", stanza.list));
        };
        let body = slot(entry, stanza.body, || Node::Map(Vec::new()));
        if *body == Node::Null {
            *body = Node::Map(Vec::new());
        }
        let Node::Map(body) = body else { return Err(format!("`{}` of `{name}` is not a mapping", stanza.body)) };
        body.retain(|(key, _)| !stanza.contradicting.contains(&key.as_str()));
        for (key, value, _) in &stanza.fields {
            *slot(body, key, || Node::Null) = Node::Text(value.clone());
        }
        Ok(())
    }

    /// Removes cluster, context and user of a name, and the current context where it is that one.
    pub(super) fn remove(&mut self, name: &str) {
        for list in LISTS {
            if let Some((_, Node::List(entries))) = self.fields.iter_mut().find(|(key, _)| key == list) {
                entries.retain(|entry| entry.get("name").and_then(Node::text) != Some(name));
            }
        }
        if self.current_context() == Some(name) {
            self.set_current_context("");
        }
    }

    pub(super) fn current_context(&self) -> Option<&str> {
        find(&self.fields, CURRENT).and_then(Node::text).filter(|name| !name.is_empty())
    }

    pub(super) fn set_current_context(&mut self, name: &str) {
        *slot(&mut self.fields, CURRENT, || Node::Null) = Node::Text(name.to_owned());
    }

    #[cfg(test)]
    pub(super) fn put_for_test(&mut self, key: &str, value: Node) {
        *slot(&mut self.fields, key, || Node::Null) = value;
    }

    fn check(&self) -> Result<(), String> {
        for list in LISTS {
            match find(&self.fields, list) {
                None | Some(Node::Null) => {}
                Some(Node::List(entries)) if entries.iter().all(|entry| matches!(entry, Node::Map(_))) => {}
                Some(_) => return Err(format!("`{list}` is not a list of mappings")),
            }
        }
        match find(&self.fields, "kind") {
            None | Some(Node::Null) => Ok(()),
            Some(Node::Text(kind)) if kind.is_empty() || kind == "Config" => Ok(()),
            Some(_) => Err("its `kind` is not `Config`".to_owned()),
        }
    }
}

impl Node {
    /// The value of a key, in a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Self::Map(fields) => find(fields, key),
            _ => None,
        }
    }

    /// The text, of a text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The parser's message without the place, which is told apart, and without advice to programmers.
fn plain(message: &str) -> String {
    [" at line ", "; use ", ", set "]
        .iter()
        .fold(message, |rest, end| rest.split(end).next().unwrap_or(rest))
        .to_owned()
}

fn find<'a>(fields: &'a [(String, Node)], key: &str) -> Option<&'a Node> {
    fields.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// The value of a key, appended where it is missing.
fn slot<'a>(fields: &'a mut Vec<(String, Node)>, key: &str, default: impl FnOnce() -> Node) -> &'a mut Node {
    let index = fields.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
        fields.push((key.to_owned(), default()));
        fields.len() - 1
    });
    &mut fields[index].1
}

struct MapRef<'a>(&'a [(String, Node)]);

impl Serialize for MapRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(value)?;
                }
                list.end()
            }
            Self::Map(fields) => MapRef(fields).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(u64::try_from(value).map_or(Node::Signed(value), Node::Unsigned))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Unsigned(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Node::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Node>()? {
                    let Node::Text(key) = key else { return Err(A::Error::custom("a key is not a text")) };
                    fields.push((key, map.next_value()?));
                }
                Ok(Node::Map(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
