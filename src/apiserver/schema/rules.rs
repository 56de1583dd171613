//! A schema, read once: what walks ask of each of its nodes, in fields.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;
use serde_json::{Map, Value};

/// A structural schema: the document that clients are shown, and what was read from it for walks over objects.
pub struct Schema {
    document: Value,
    root: Rules,
}

impl Schema {
    /// Reads the OpenAPI v3 schema of a whole object. What is asked for and not enforced is told by [`super::unsupported`].
    #[must_use]
    pub fn of(document: Value) -> Self {
        let root = Reader::default().rules(&document);
        Self { document, root }
    }

    /// What it was read from.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.root
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.document).finish()
    }
}

/// What one node says.
#[derive(Default)]
pub(super) struct Rules {
    pub of_type: Type,
    pub int_or_string: bool,
    pub preserves_unknown: bool,
    pub nullable: bool,
    pub embedded_resource: bool,
    /// Whether any of the properties has a default.
    pub has_defaults: bool,
    pub properties: BTreeMap<Box<str>, Rules>,
    pub additional: AdditionalRules,
    pub items: Option<Box<Rules>>,
    /// Null is none.
    pub default: Option<Value>,
    /// Most nodes have none.
    pub checks: Option<Box<Checks>>,
    /// Most nodes have none.
    pub merging: Option<Box<Merging>>,
}

/// The keyword `type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Type {
    /// None is given.
    #[default]
    Any,
    Object,
    Array,
    String,
    Boolean,
    Integer,
    Number,
    /// One that no value has.
    Unknown(Box<str>),
}

impl Type {
    fn of(name: &str) -> Self {
        match name {
            "" => Self::Any,
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            other => Self::Unknown(other.into()),
        }
    }

    /// As the schema has it.
    pub fn name(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Unknown(name) => name,
        }
    }
}

/// The keyword `additionalProperties`.
#[derive(Default)]
pub(super) enum AdditionalRules {
    #[default]
    Unspecified,
    Anything,
    Nothing,
    Schema(Box<Rules>),
}

/// What a value has to be, besides its type.
#[derive(Default)]
pub(super) struct Checks {
    pub one_of_values: Option<Vec<Value>>,
    pub required: Vec<Box<str>>,
    pub properties: Limits,
    pub items: Limits,
    pub length: Limits,
    pub pattern: Option<Pattern>,
    pub format: Option<Box<str>>,
    pub minimum: Option<Value>,
    pub exclusive_minimum: bool,
    pub maximum: Option<Value>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub all_of: Vec<Rules>,
    pub any_of: Vec<Rules>,
    pub one_of: Vec<Rules>,
    pub not: Option<Rules>,
}

/// How few and how many.
#[derive(Clone, Copy, Default)]
pub(super) struct Limits {
    pub least: Option<u64>,
    pub most: Option<u64>,
}

/// A regular expression.
pub(super) struct Pattern {
    pub expression: Box<str>,
    /// Absent where it does not compile, which nothing matches then.
    regex: Option<Regex>,
}

impl Pattern {
    /// Whether it is found anywhere in a text, as ECMA 262 and Go have it.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// How values merge.
#[derive(Default, PartialEq)]
pub(super) struct Merging {
    pub list: Option<ListType>,
    pub keys: Vec<Box<str>>,
    pub map_is_atomic: bool,
    pub strategic_merge: bool,
    pub strategic_key: Option<Box<str>>,
}

/// The keyword `x-kubernetes-list-type`, where it says more than that a list is one whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListType {
    /// Items are scalars, each once.
    Set,
    /// Items are told apart by some of their fields.
    Map,
}

/// Reads nodes. An expression that stands more than once is compiled once.
#[derive(Default)]
struct Reader {
    patterns: BTreeMap<String, Option<Regex>>,
}

impl Reader {
    fn rules(&mut self, schema: &Value) -> Rules {
        let flag = |keyword: &str| schema.get(keyword).and_then(Value::as_bool).unwrap_or(false);
        let properties: BTreeMap<Box<str>, Rules> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, property)| (name.as_str().into(), self.rules(property)))
            .collect();
        Rules {
            of_type: Type::of(schema.get("type").and_then(Value::as_str).unwrap_or_default()),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserves_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            nullable: flag("nullable"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            has_defaults: properties.values().any(|property| property.default.is_some()),
            properties,
            additional: match schema.get("additionalProperties") {
                None => AdditionalRules::Unspecified,
                Some(Value::Bool(true)) => AdditionalRules::Anything,
                Some(Value::Bool(false)) => AdditionalRules::Nothing,
                Some(additional) => AdditionalRules::Schema(Box::new(self.rules(additional))),
            },
            items: schema.get("items").filter(|items| items.is_object()).map(|items| Box::new(self.rules(items))),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            checks: schema.as_object().and_then(|keywords| self.checks(keywords)),
            merging: schema.as_object().and_then(merging),
        }
    }

    /// Nothing where no keyword is one of a check.
    fn checks(&mut self, keywords: &Map<String, Value>) -> Option<Box<Checks>> {
        let (mut checks, mut is_any) = (Checks::default(), false);
        for (keyword, value) in keywords {
            match keyword.as_str() {
                "allOf" => checks.all_of = self.branches(value),
                "anyOf" => checks.any_of = self.branches(value),
                "enum" => checks.one_of_values = value.as_array().cloned(),
                "exclusiveMaximum" => checks.exclusive_maximum = value == true,
                "exclusiveMinimum" => checks.exclusive_minimum = value == true,
                "format" => checks.format = value.as_str().map(Into::into),
                "maxItems" => checks.items.most = value.as_u64(),
                "maxLength" => checks.length.most = value.as_u64(),
                "maxProperties" => checks.properties.most = value.as_u64(),
                "maximum" => checks.maximum = Some(value.clone()),
                "minItems" => checks.items.least = value.as_u64(),
                "minLength" => checks.length.least = value.as_u64(),
                "minProperties" => checks.properties.least = value.as_u64(),
                "minimum" => checks.minimum = Some(value.clone()),
                "multipleOf" => checks.multiple_of = value.as_f64(),
                "not" => checks.not = Some(self.rules(value)),
                "oneOf" => checks.one_of = self.branches(value),
                "pattern" => checks.pattern = value.as_str().map(|expression| self.pattern(expression)),
                "required" => checks.required = texts(value),
                _ => continue,
            }
            is_any = true;
        }
        is_any.then(|| Box::new(checks))
    }

    fn branches(&mut self, branches: &Value) -> Vec<Rules> {
        branches.as_array().into_iter().flatten().map(|branch| self.rules(branch)).collect()
    }

    fn pattern(&mut self, expression: &str) -> Pattern {
        let regex = match self.patterns.get(expression) {
            Some(known) => known.clone(),
            None => {
                let regex = Regex::new(expression).ok();
                self.patterns.insert(expression.to_owned(), regex.clone());
                regex
            }
        };
        Pattern { expression: expression.into(), regex }
    }
}

fn merging(keywords: &Map<String, Value>) -> Option<Box<Merging>> {
    let text = |keyword: &str| keywords.get(keyword).and_then(Value::as_str);
    let merging = Merging {
        list: match text("x-kubernetes-list-type") {
            Some("set") => Some(ListType::Set),
            Some("map") => Some(ListType::Map),
            _ => None,
        },
        keys: keywords.get("x-kubernetes-list-map-keys").map(texts).unwrap_or_default(),
        map_is_atomic: text("x-kubernetes-map-type") == Some("atomic"),
        strategic_merge: text("x-kubernetes-patch-strategy") == Some("merge"),
        strategic_key: text("x-kubernetes-patch-merge-key").map(Into::into),
    };
    (merging != Merging::default()).then(|| Box::new(merging))
}

fn texts(list: &Value) -> Vec<Box<str>> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}
