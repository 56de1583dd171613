//! The JSONPath of printer columns and selectable fields: a subset of `client-go/util/jsonpath`.

use serde_json::Value;

/// A parsed path: fields (`.a`, `['a.b']`, `.a\.b`), indices (`[0]`, `[-1]`), all items (`[*]`) and equality filters
/// (`[?(@.type=="Ready")]`, also `!=`). Recursive descent, slices and unions are refused.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// A path that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse JSONPath {path:?} at character {at}: expected {expected}")]
pub struct JsonPathError {
    /// The whole path.
    pub path: String,
    /// Position of what was not understood, in characters from 0.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: JsonPath, equal: bool, value: Value },
}

impl JsonPath {
    /// Parses a path with a leading dot or bracket.
    ///
    /// # Errors
    /// The path uses what is not supported here, or is malformed.
    pub fn parse(path: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser { path, rest: path };
        let parsed = parser.steps()?;
        if parser.rest.is_empty() { Ok(parsed) } else { Err(parser.error("`.` or `[`")) }
    }

    /// Everything the path leads to, in order.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        self.steps.iter().fold(vec![root], |found, step| found.into_iter().flat_map(|value| step.find(value)).collect())
    }
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let index = if *index < 0 { items.len() as i64 + index } else { *index };
                usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().collect()
            }
            Self::All => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(fields) => fields.values().collect(),
                _ => Vec::new(),
            },
            Self::Filter { path, equal, value: wanted } => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let keeps = |item: &&Value| path.find(item).first().is_some_and(|found| (*found == wanted) == *equal);
                items.iter().filter(keeps).collect()
            }
        }
    }
}

struct Parser<'p> {
    path: &'p str,
    rest: &'p str,
}

impl<'p> Parser<'p> {
    fn error(&self, expected: &'static str) -> JsonPathError {
        let at = self.path.chars().count() - self.rest.chars().count();
        JsonPathError { path: self.path.to_owned(), at, expected }
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn steps(&mut self) -> Result<JsonPath, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat(".") {
                // `.` alone is the object itself; `.[` is allowed by client-go.
                if self.rest.is_empty() && steps.is_empty() {
                    return Ok(JsonPath { steps });
                }
                if !self.rest.starts_with('[') {
                    steps.push(self.field()?);
                }
            } else {
                return Ok(JsonPath { steps });
            }
        }
    }

    fn field(&mut self) -> Result<Step, JsonPathError> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
                '.' | '[' | ']' | ')' | '=' | '!' | ' ' | '*' | '{' | '}' | '<' | '>' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        if name.is_empty() {
            return Err(self.error("a field name"));
        }
        self.rest = self.rest.get(end..).unwrap_or_default();
        Ok(Step::Field(name))
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        let step = if self.eat("*") {
            Step::All
        } else if self.eat("?(") {
            self.filter()?
        } else if self.rest.starts_with(['\'', '"']) {
            Step::Field(self.quoted()?)
        } else {
            let end = self.rest.find(']').unwrap_or(self.rest.len());
            let (index, rest) = self.rest.split_at(end);
            let index = index.trim().parse().map_err(|_| self.error("an index, `*`, a quoted name or a filter"))?;
            self.rest = rest;
            Step::Index(index)
        };
        if self.eat("]") { Ok(step) } else { Err(self.error("`]`")) }
    }

    fn filter(&mut self) -> Result<Step, JsonPathError> {
        if !self.eat("@") {
            return Err(self.error("`@`"));
        }
        let path = self.steps()?;
        self.rest = self.rest.trim_start();
        let equal = if self.eat("==") {
            true
        } else if self.eat("!=") {
            false
        } else {
            return Err(self.error("`==` or `!=`"));
        };
        self.rest = self.rest.trim_start();
        let value = if self.rest.starts_with(['\'', '"']) {
            Value::from(self.quoted()?)
        } else {
            let (literal, rest) = self.rest.split_at(self.rest.find(')').unwrap_or(self.rest.len()));
            let value =
                serde_json::from_str(literal.trim()).map_err(|_| self.error("a quoted text, number or boolean"))?;
            self.rest = rest;
            value
        };
        self.rest = self.rest.trim_start();
        if self.eat(")") { Ok(Step::Filter { path, equal, value }) } else { Err(self.error("`)`")) }
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let quote = self.rest.chars().next().unwrap_or('"');
        let inner = self.rest.get(1..).unwrap_or_default();
        let end = inner.find(quote).ok_or_else(|| self.error("a closing quote"))?;
        let (text, rest) = inner.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str) -> Vec<String> {
        let object = json!({"a": {"b": [1, 2, 3]}, "x.y": {"z": true}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        let path = JsonPath::parse(path).unwrap();
        path.find(&object).into_iter().map(Value::to_string).collect()
    }

    #[test]
    fn paths_lead_where_client_go_leads() {
        assert_eq!(found(".a.b"), ["[1,2,3]"]);
        assert_eq!(found(".a.b[0]"), ["1"]);
        assert_eq!(found(".a.b[-1]"), ["3"]);
        assert_eq!(found(".a.b[*]"), ["1", "2", "3"]);
        assert_eq!(found(".a.b[9]"), Vec::<String>::new());
        assert_eq!(found(r".x\.y.z"), ["true"]);
        assert_eq!(found("['x.y'].z"), ["true"]);
        assert_eq!(found(r#".status.conditions[?(@.type=="Ready")].status"#), [r#""True""#]);
        assert_eq!(found(".status.conditions[?(@.type != 'Ready')].status"), [r#""False""#]);
        assert_eq!(found(".missing.more"), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_place() {
        let at = |path: &str| JsonPath::parse(path).map_err(|error| error.at);
        assert_eq!(at("..a"), Err(1));
        assert_eq!(at(".a[0:2]"), Err(3));
        assert_eq!(at("a"), Err(0));
        assert_eq!(at(".a[?(@.b>1)]"), Err(8));
        assert_eq!(at(".a['b]"), Err(3));
    }
}
