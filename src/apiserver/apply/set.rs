//! Sets of fields, and their form on the wire, `FieldsV1` (`structured-merge-diff/fieldpath`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// One step of a path, in the form that `FieldsV1` gives it: `f:NAME` a field, `k:{…}` a list item by its keys,
/// `v:…` a set's item by its value, `i:N` a list item by position. Keys and values are canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step(String);

impl Step {
    pub(super) fn field(name: &str) -> Self {
        Self(format!("f:{name}"))
    }

    pub(super) fn keys(keys: Map<String, Value>) -> Self {
        Self(format!("k:{}", Value::Object(keys)))
    }

    pub(super) fn item(value: &Value) -> Self {
        Self(format!("v:{value}"))
    }

    /// The name, where the step is a field.
    pub(super) fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Whether the step is a list item by its keys.
    pub(super) fn is_keys(&self) -> bool {
        self.0.starts_with("k:")
    }

    /// Reads a step; keys and values are brought into canonical form. `None` for kinds of steps that are not known.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" | "i" => Some(Self(text.to_owned())),
            "k" => serde_json::from_str::<Map<String, Value>>(rest).ok().map(Self::keys),
            "v" => serde_json::from_str::<Value>(rest).ok().map(|value| Self::item(&value)),
            _ => None,
        }
    }

    /// As conflicts print it: `.name`, `[name="x"]`, `[="x"]`, `[0]`.
    fn print(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self.0.split_once(':') {
            Some(("f", name)) => write!(out, ".{name}"),
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(out, "[{}]", keys.join(","))
            }
            Some(("v", value)) => write!(out, "[={value}]"),
            Some((_, index)) => write!(out, "[{index}]"),
            None => Ok(()),
        };
    }
}

/// A set of fields, as a tree. A node is there only if it is a member or has members below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<Step, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    children: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds the field at a path. The whole object (an empty path) is never a member.
    pub(super) fn insert(&mut self, path: &[Step]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.children.insert(rest);
        }
    }

    /// Whether the field right below is a member.
    pub(super) fn has(&self, step: &Step) -> bool {
        self.nodes.get(step).is_some_and(|node| node.member)
    }

    /// The members below a step, if there are any.
    pub(super) fn below(&self, step: &Step) -> Option<&Set> {
        self.nodes.get(step).map(|node| &node.children).filter(|children| !children.is_empty())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.absorb(other.clone());
        all
    }

    /// Takes over the members of another set.
    pub(super) fn absorb(&mut self, other: Self) {
        for (step, node) in other.nodes {
            let own = self.nodes.entry(step).or_default();
            own.member |= node.member;
            own.children.absorb(node.children);
        }
    }

    /// Drops the members of another set; what is below one of them stays.
    pub(super) fn remove(&mut self, other: &Self) {
        for (step, gone) in &other.nodes {
            let Some(own) = self.nodes.get_mut(step) else { continue };
            own.member &= !gone.member;
            own.children.remove(&gone.children);
            if own.is_empty() {
                self.nodes.remove(step);
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(|step, node| {
            let other = other.nodes.get(step)?;
            let children = node.children.intersection(&other.children);
            Some(Node { member: node.member && other.member, children })
        })
    }

    /// Members that are not members of the other set; what is below a member of the other set stays.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.remove(other);
        left
    }

    fn combine(&self, of: impl Fn(&Step, &Node) -> Option<Node>) -> Self {
        let nodes = self.nodes.iter().filter_map(|(step, node)| {
            let node = of(step, node)?;
            (!node.is_empty()).then(|| (step.clone(), node))
        });
        Self { nodes: nodes.collect() }
    }

    /// The same set, where `promote(parent context, step)` says which inner nodes become members, and gives the
    /// context of what is below.
    pub(super) fn promoted<C: Copy>(&self, context: C, promote: &impl Fn(C, &Step) -> (bool, C)) -> Self {
        let nodes = self.nodes.iter().map(|(step, node)| {
            let (member, below) = promote(context, step);
            let member = node.member || (member && !node.children.is_empty());
            (step.clone(), Node { member, children: node.children.promoted(below, promote) })
        });
        Self { nodes: nodes.collect() }
    }

    /// Every member's path, in order.
    pub(super) fn paths(&self) -> Vec<Vec<Step>> {
        let mut found = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut found);
        found
    }

    fn collect_paths(&self, prefix: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
        for (step, node) in &self.nodes {
            prefix.push(step.clone());
            if node.member {
                found.push(prefix.clone());
            }
            node.children.collect_paths(prefix, found);
            prefix.pop();
        }
    }

    /// The `fieldsV1` of a managed fields entry.
    pub(super) fn into_fields(self) -> Value {
        let fields = self.nodes.into_iter().map(|(step, node)| {
            let is_above = node.member && !node.children.is_empty();
            let mut fields = node.children.into_fields();
            if is_above {
                fields["."] = Value::Object(Map::new());
            }
            (step.0, fields)
        });
        Value::Object(fields.collect())
    }

    /// Reads `fieldsV1`. Steps of a kind that is not known are dropped, as Kubernetes drops them.
    pub(super) fn from_fields(fields: &Value) -> Self {
        let fields = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ".");
        let nodes = fields.filter_map(|(name, below)| {
            let children = Self::from_fields(below);
            let member = children.is_empty() || below.get(".").is_some();
            Some((Step::parse(name)?, Node { member, children }))
        });
        Self { nodes: nodes.collect() }
    }
}

/// A path as conflicts print it.
pub(super) fn print_path(path: &[Step]) -> String {
    path.iter().fold(String::new(), |mut out, step| {
        step.print(&mut out);
        out
    })
}
