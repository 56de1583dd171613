//! Label and field selectors.

use serde_json::Value;

use crate::apiserver::kind::{Flavor, Kind};
use crate::apiserver::object::meta;
use crate::apiserver::status::ApiError;

/// A label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let fail = |why: String| ApiError::bad_request(format!("unable to parse requirement: {why}"));
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text).map_err(fail)? {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(fail(format!("found '', expected: identifier in {text:?}")));
            }
            requirements.push(Requirement::parse(part).map_err(fail)?);
        }
        Ok(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        self.requirements.iter().all(|requirement| {
            requirement.holds(labels.and_then(|labels| labels.get(&requirement.key)).and_then(Value::as_str))
        })
    }
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_prefix('!') {
            return Self::new(key, Condition::Absent);
        }
        if let Some((head, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            let mut words = head.split_whitespace();
            let (key, operator, rest) = (words.next(), words.next(), words.next());
            let values = values.split(',').map(|value| label_value(value.trim())).collect::<Result<Vec<_>, _>>()?;
            return match (key, operator, rest) {
                (Some(key), Some("in"), None) => Self::new(key, Condition::In(values)),
                (Some(key), Some("notin"), None) => Self::new(key, Condition::NotIn(values)),
                _ => Err(format!("found {text:?}, expected: KEY in (…) or KEY notin (…)")),
            };
        }
        let Some(at) = text.find(['=', '!', '<', '>']) else { return Self::new(text, Condition::Exists) };
        let (key, rest) = text.split_at(at);
        let number = |value: &str| {
            value
                .trim()
                .parse::<i64>()
                .map_err(|_| format!("for '<' and '>' operators the value must be an integer, found {value:?}"))
        };
        let condition = if let Some(value) = rest.strip_prefix("!=") {
            Condition::NotIn(vec![label_value(value.trim())?])
        } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            Condition::In(vec![label_value(value.trim())?])
        } else if let Some(value) = rest.strip_prefix('>') {
            Condition::Above(number(value)?)
        } else if let Some(value) = rest.strip_prefix('<') {
            Condition::Below(number(value)?)
        } else {
            return Err(format!("found {rest:?}, expected: =, ==, !=, in, notin, <, >"));
        };
        Self::new(key, condition)
    }

    fn new(key: &str, condition: Condition) -> Result<Self, String> {
        let key = key.trim();
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        if !is_label_name(name) || (key.contains('/') && prefix.is_empty()) || !prefix.chars().all(is_label_char) {
            return Err(format!("invalid label key {key:?}"));
        }
        Ok(Self { key: key.to_owned(), condition })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match (&self.condition, value) {
            (Condition::Exists, value) => value.is_some(),
            (Condition::Absent, value) => value.is_none(),
            (Condition::In(values), Some(value)) => values.iter().any(|wanted| wanted == value),
            (Condition::NotIn(values), Some(value)) => values.iter().all(|wanted| wanted != value),
            (Condition::NotIn(_), None) => true,
            (Condition::Above(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value > *bound),
            (Condition::Below(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
            (_, None) => false,
        }
    }
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_label_name(name: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(is_label_char)
        && name.starts_with(ends)
        && name.ends_with(ends)
}

fn label_value(value: &str) -> Result<String, String> {
    if value.is_empty() || is_label_name(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("invalid label value {value:?}"))
    }
}

fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if open => return Err(format!("found '(' inside parentheses in {text:?}")),
            '(' => open = true,
            ')' if !open => return Err(format!("found ')' without '(' in {text:?}")),
            ')' => open = false,
            ',' if !open => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(format!("missing ')' in {text:?}"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// A field selector: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector {
    conditions: Vec<FieldCondition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldCondition {
    /// Dotted path without a leading dot.
    path: String,
    value: String,
    equal: bool,
    /// What an object counts as that does not have the field.
    absent: &'static str,
}

impl FieldSelector {
    /// Reads `metadata.name=a,spec.x!=b`; only fields that `kind` declares selectable are known.
    pub fn parse(text: &str, kind: &Kind) -> Result<Self, ApiError> {
        let mut conditions = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let mut condition = FieldCondition::parse(part).ok_or_else(|| {
                ApiError::bad_request(format!("invalid selector: {part:?}; can't understand {part:?}"))
            })?;
            let known = matches!(condition.path.as_str(), "metadata.name" | "metadata.namespace")
                || kind.selectable_fields.iter().any(|field| field.trim_start_matches('.') == condition.path);
            if !known {
                return Err(ApiError::bad_request(format!(
                    "Unable to find {:?} that match label selector \"\", field selector {text:?}: field label not supported: {}",
                    kind.resource.to_string(),
                    condition.path
                )));
            }
            condition.absent = absent(kind, &condition.path);
            conditions.push(condition);
        }
        Ok(Self { conditions })
    }

    /// The selector for one name.
    pub fn name(name: &str) -> Self {
        let path = "metadata.name".to_owned();
        let condition = FieldCondition { path, value: name.to_owned(), equal: true, absent: "" };
        Self { conditions: vec![condition] }
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The one name that can match, where the selector names one.
    pub fn single_name(&self) -> Option<&str> {
        self.conditions.iter().find(|c| c.equal && c.path == "metadata.name").map(|c| c.value.as_str())
    }

    /// Whether name and namespace alone decide.
    pub fn by_key_alone(&self) -> bool {
        self.conditions.iter().all(|c| c.path.starts_with("metadata."))
    }

    /// Whether the conditions on name and namespace hold.
    pub fn matches_key(&self, namespace: &str, name: &str) -> bool {
        self.conditions.iter().all(|condition| match condition.path.as_str() {
            "metadata.name" => condition.equal == (condition.value == name),
            "metadata.namespace" => condition.equal == (condition.value == namespace),
            _ => true,
        })
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.conditions.iter().all(|condition| {
            let found = match condition.path.as_str() {
                "metadata.name" => meta(object, "name").to_owned(),
                "metadata.namespace" => meta(object, "namespace").to_owned(),
                path => text_at(object, path).unwrap_or_else(|| condition.absent.to_owned()),
            };
            condition.equal == (condition.value == found)
        })
    }
}

impl FieldCondition {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['=', '!'])?;
        let (path, rest) = text.split_at(at);
        let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
            (false, value)
        } else {
            (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?)
        };
        Some(Self { path: path.trim().to_owned(), value: unescape(value)?, equal, absent: "" })
    }
}

/// Objects of built-in kinds are Go's structs to a Kubernetes server, where what is missing is zero; other objects are
/// trees.
fn absent(kind: &Kind, path: &str) -> &'static str {
    if kind.flavor == Flavor::Custom {
        return "";
    }
    let field = path.split('.').try_fold(kind.schema.document(), |schema, name| schema.get("properties")?.get(name));
    match field.and_then(|schema| schema.get("type")).and_then(Value::as_str) {
        Some("boolean") => "false",
        Some("integer") => "0",
        _ => "",
    }
}

/// A scalar as text.
fn text_at(object: &Value, path: &str) -> Option<String> {
    match path.split('.').try_fold(object, |value, part| value.get(part))? {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `\\`, `\,` and `\=` stand for themselves; a bare one of them is an error (fields.UnescapeValue in apimachinery).
fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(&json!({ "metadata": { "labels": labels } }))
    }

    #[test]
    fn equality_and_sets_select_as_in_kubernetes() {
        let labels = json!({ "app": "web", "tier": "front", "n": "5", "kina.dev/cluster": "dev" });
        for selector in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "missing!=x",
            "app in (web, db)",
            "app notin (db)",
            "missing notin (a)",
            "app",
            "!missing",
            "n>4",
            "n<6",
            "app=web,tier=front",
            "kina.dev/cluster=dev",
            "x notin (a,b),app in (web)",
        ] {
            assert!(selects(selector, labels.clone()), "{selector}");
        }
        for selector in [
            "app=db",
            "app!=web",
            "app in (a,b)",
            "app notin (web)",
            "missing",
            "!app",
            "n>5",
            "app=web,tier=back",
            "missing in (a)",
        ] {
            assert!(!selects(selector, labels.clone()), "{selector}");
        }
    }

    #[test]
    fn malformed_label_selectors_are_refused() {
        for selector in
            ["a=b,", ",", "a in b", "a in (b", "a)", "=b", "a=b=c", "a in ((b))", "a~b", "-a", "n>x", "/a", "a b"]
        {
            assert_eq!(LabelSelector::parse(selector).map_err(|error| error.code), Err(400), "{selector}");
        }
    }

    #[test]
    fn a_field_that_is_not_there_is_zero_in_a_built_in_kind() {
        let kinds = crate::apiserver::core::workload();
        let matches = |kind: &str, selector: &str, object: Value| {
            let kind = kinds.iter().find(|known| known.kind == kind).unwrap();
            FieldSelector::parse(selector, kind).unwrap().matches(&object)
        };
        assert!(matches("Node", "spec.unschedulable==false", json!({"spec": {}})));
        assert!(!matches("Node", "spec.unschedulable=true", json!({"spec": {}})));
        assert!(!matches("Node", "spec.unschedulable=false", json!({"spec": {"unschedulable": true}})));
        assert!(matches("Pod", "spec.nodeName=,spec.hostNetwork!=true", json!({"spec": {}})));
        assert!(matches("ReplicaSet", "status.replicas=0", json!({})));
    }
}
