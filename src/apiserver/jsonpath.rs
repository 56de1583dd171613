//! JSONPath as Kubernetes has it: paths of printer columns and of what is waited for, `.status.phase`, and the templates of
//! `-o jsonpath`, `{range .items[*]}{.metadata.name}{"\n"}{end}`.
//!
//! The dialect is that of `k8s.io/client-go/util/jsonpath`
//! (<https://kubernetes.io/docs/reference/kubectl/jsonpath/>). What is missing in an object is no error: it prints nothing.

use std::fmt;

use serde_json::Value;

/// Longest template. Templates are written by hand.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of ranges and filters.
const DEPTH_MAX: usize = 32;

/// A template, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

/// Where something leads in an object.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    from_root: bool,
    segments: Vec<Segment>,
}

/// Why a template cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {}", at + 1)]
pub struct JsonPathError {
    at: usize,
    message: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(JsonPath),
    Range(JsonPath, Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Field(String),
    All,
    /// The value and everything below it.
    Deep,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Index(i64),
    Union(Vec<Segment>),
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Where it is not one, with the place.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser::new(text)?;
        let (parts, end) = parser.parts(0)?;
        match end {
            None => Ok(Self(parts)),
            Some(at) => Err(JsonPathError { at, message: "`{end}` without `{range}`".to_owned() }),
        }
    }

    /// What it prints for an object.
    #[must_use]
    pub fn render(&self, object: &Value) -> String {
        let mut text = String::new();
        render(&self.0, object, object, &mut text);
        text
    }
}

impl JsonPath {
    /// Reads one path, which begins with a dot, a bracket, `$` or `@`.
    ///
    /// # Errors
    /// Where it is not one, with the place.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser::new(text)?;
        let path = parser.path(0)?;
        if parser.is_at_end() { Ok(path) } else { Err(parser.error("not a path")) }
    }

    /// Reads one path, with or without braces and the leading dot, as `custom-columns` and `wait` take it.
    ///
    /// # Errors
    /// Where it is not one, with the place.
    pub fn relaxed(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let starts = inner.starts_with(['.', '[', '$', '@']);
        let dotted = if starts { inner.to_owned() } else { format!(".{inner}") };
        Self::parse(&dotted)
    }

    /// Everything that it leads to.
    #[must_use]
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        self.find_from(object, object)
    }

    fn find_from<'a>(&self, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![if self.from_root { root } else { current }];
        for segment in &self.segments {
            found = found.into_iter().flat_map(|value| segment.step(root, value)).collect();
        }
        found
    }
}

/// How a value is printed: text as it is, everything else as JSON.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn render(parts: &[Part], root: &Value, current: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Path(path) => {
                let found: Vec<String> = path.find_from(root, current).into_iter().map(plain).collect();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, body) => {
                // As client-go: a list is gone through only where the path says so, `[*]`.
                for value in path.find_from(root, current) {
                    render(body, root, value, text);
                }
            }
        }
    }
}

impl Segment {
    fn step<'a>(&self, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => value.as_object().and_then(|map| map.get(name)).into_iter().collect(),
            Self::All => children(value).collect(),
            Self::Deep => {
                let mut all = Vec::new();
                descend(value, &mut all);
                all
            }
            Self::Index(index) => {
                value.as_array().and_then(|items| items.get(place(*index, items.len())?)).into_iter().collect()
            }
            Self::Slice { start, end, step } => slice(value, *start, *end, *step),
            Self::Union(members) => members.iter().flat_map(|member| member.step(root, value)).collect(),
            Self::Filter(left, rest) => {
                children(value).filter(|child| is_met(root, child, left, rest.as_ref())).collect()
            }
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'a>(value: &'a Value, all: &mut Vec<&'a Value>) {
    all.push(value);
    children(value).for_each(|child| descend(child, all));
}

/// Where an index is that may count from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let length_signed = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { index + length_signed } else { index }).ok().filter(|place| *place < length)
}

fn slice(value: &Value, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<&Value> {
    let Value::Array(items) = value else { return Vec::new() };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let bound = |at: i64| usize::try_from(if at < 0 { at + length } else { at }.clamp(0, length)).unwrap_or_default();
    let (start, end) = (bound(start.unwrap_or(0)), bound(end.unwrap_or(length)));
    let step = usize::try_from(step).unwrap_or(1).max(1);
    items.get(start..end.max(start)).unwrap_or_default().iter().step_by(step).collect()
}

fn is_met(root: &Value, item: &Value, left: &Operand, rest: Option<&(Comparison, Operand)>) -> bool {
    let resolve = |operand: &Operand| -> Option<Value> {
        match operand {
            Operand::Value(value) => Some(value.clone()),
            Operand::Path(path) => path.find_from(root, item).into_iter().next().cloned(),
        }
    };
    let Some((comparison, right)) = rest else { return resolve(left).is_some() };
    let (Some(left), Some(right)) = (resolve(left), resolve(right)) else { return false };
    let order = match (&left, &right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match (comparison, order) {
        (Comparison::NotEqual, None) => true,
        (_, None) => false,
        (Comparison::Equal, Some(order)) => order.is_eq(),
        (Comparison::NotEqual, Some(order)) => order.is_ne(),
        (Comparison::Less, Some(order)) => order.is_lt(),
        (Comparison::LessOrEqual, Some(order)) => order.is_le(),
        (Comparison::Greater, Some(order)) => order.is_gt(),
        (Comparison::GreaterOrEqual, Some(order)) => order.is_ge(),
    }
}

struct Parser {
    characters: Vec<char>,
    at: usize,
}

impl Parser {
    fn new(text: &str) -> Result<Self, JsonPathError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let message = format!("longer than {} KiB", TEMPLATE_BYTES_MAX >> 10);
            return Err(JsonPathError { at: 0, message });
        }
        Ok(Self { characters: text.chars().collect(), at: 0 })
    }

    fn error(&self, message: impl fmt::Display) -> JsonPathError {
        JsonPathError { at: self.at, message: message.to_string() }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.characters.len()
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    /// Takes this text, if it comes next.
    fn takes(&mut self, text: &str) -> bool {
        let comes = text.chars().enumerate().all(|(index, c)| self.characters.get(self.at + index) == Some(&c));
        if comes {
            self.at += text.chars().count();
        }
        comes
    }

    fn expect(&mut self, text: &str) -> Result<(), JsonPathError> {
        if self.takes(text) { Ok(()) } else { Err(self.error(format_args!("`{text}` is expected"))) }
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Up to the end, or with an `{end}`, whose place is told.
    fn parts(&mut self, depth: usize) -> Result<(Vec<Part>, Option<usize>), JsonPathError> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        while let Some(character) = self.peek() {
            if character != '{' {
                literal.push(character);
                self.at += 1;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            let begin = self.at;
            self.at += 1;
            self.skip_spaces();
            if self.takes("end") {
                self.skip_spaces();
                self.expect("}")?;
                return Ok((parts, Some(begin)));
            }
            if self.takes("range") {
                self.skip_spaces();
                let path = self.path(depth)?;
                self.skip_spaces();
                self.expect("}")?;
                let (body, Some(_)) = self.parts(depth + 1)? else {
                    return Err(JsonPathError { at: begin, message: "`{range}` without `{end}`".to_owned() });
                };
                parts.push(Part::Range(path, body));
                continue;
            }
            // Several things in one pair of braces are printed one after the other.
            while !self.takes("}") {
                match self.peek() {
                    None => return Err(self.error("`}` is expected")),
                    Some('"' | '\'') => parts.push(Part::Text(self.quoted()?)),
                    Some(_) => parts.push(Part::Path(self.path(depth)?)),
                }
                self.skip_spaces();
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok((parts, None))
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let Some(quote) = self.peek() else { return Err(self.error("a text is expected")) };
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(character) = self.peek() else { return Err(self.error(format_args!("`{quote}` is expected"))) };
            self.at += 1;
            match character {
                '\\' => {
                    let escaped = self.peek().ok_or_else(|| self.error("a character is expected"))?;
                    self.at += 1;
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    });
                }
                end if end == quote => return Ok(text),
                other => text.push(other),
            }
        }
    }

    fn path(&mut self, depth: usize) -> Result<JsonPath, JsonPathError> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        let begin = self.at;
        let from_root = self.takes("$");
        if !from_root {
            self.takes("@");
        }
        let mut segments = Vec::new();
        loop {
            if self.takes("..") {
                segments.push(Segment::Deep);
                match self.peek() {
                    Some('[') => {}
                    Some('*') => {
                        self.at += 1;
                        segments.push(Segment::All);
                    }
                    _ => segments.push(Segment::Field(self.field()?)),
                }
            } else if self.takes(".") {
                match self.peek() {
                    Some('*') => {
                        self.at += 1;
                        segments.push(Segment::All);
                    }
                    // `.` alone, and `.['a']`, are the object itself.
                    None | Some('[' | '}' | ')' | ' ' | '=' | '!' | '<' | '>') => {}
                    Some(_) => segments.push(Segment::Field(self.field()?)),
                }
            } else if self.takes("[") {
                segments.push(self.subscript(depth)?);
            } else {
                break;
            }
        }
        if self.at == begin {
            return Err(self.error("a path begins with `.`, `[`, `$` or `@`"));
        }
        Ok(JsonPath { from_root, segments })
    }

    /// A name after a dot: `\.` stands for a dot in it.
    fn field(&mut self) -> Result<String, JsonPathError> {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            match character {
                '\\' => {
                    self.at += 1;
                    name.push(self.peek().ok_or_else(|| self.error("a character is expected"))?);
                }
                '.' | '[' | ']' | '{' | '}' | '(' | ')' | '=' | '!' | '<' | '>' | ',' | '"' | '\'' => break,
                space if space.is_whitespace() => break,
                other => name.push(other),
            }
            self.at += 1;
        }
        if name.is_empty() { Err(self.error("a name is expected")) } else { Ok(name) }
    }

    /// After `[`, up to and with `]`.
    fn subscript(&mut self, depth: usize) -> Result<Segment, JsonPathError> {
        self.skip_spaces();
        if self.takes("?(") {
            let filter = self.filter(depth + 1)?;
            self.skip_spaces();
            self.expect(")")?;
            self.skip_spaces();
            self.expect("]")?;
            return Ok(filter);
        }
        let mut members = Vec::new();
        loop {
            self.skip_spaces();
            members.push(match self.peek() {
                Some('*') => {
                    self.at += 1;
                    Segment::All
                }
                Some('"' | '\'') => Segment::Field(self.quoted()?),
                _ => self.index()?,
            });
            self.skip_spaces();
            if self.takes("]") {
                break;
            }
            self.expect(",")?;
        }
        Ok(match <[Segment; 1]>::try_from(members) {
            Ok([only]) => only,
            Err(members) => Segment::Union(members),
        })
    }

    /// `3`, `-1`, `1:3`, `:2`, `::2`.
    fn index(&mut self) -> Result<Segment, JsonPathError> {
        let start = self.integer()?;
        if !self.takes(":") {
            return start
                .map(Segment::Index)
                .ok_or_else(|| self.error("an index, a name in quotes or `*` is expected"));
        }
        let end = self.integer()?;
        let step = if self.takes(":") { self.integer()?.unwrap_or(1) } else { 1 };
        if step < 1 {
            return Err(self.error("a step is 1 or more"));
        }
        Ok(Segment::Slice { start, end, step })
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        let begin = self.at;
        self.takes("-");
        while self.peek().is_some_and(|character| character.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == begin {
            return Ok(None);
        }
        let digits: String = self.characters[begin..self.at].iter().collect();
        digits.parse().map(Some).map_err(|_| self.error("not a number"))
    }

    fn filter(&mut self, depth: usize) -> Result<Segment, JsonPathError> {
        self.skip_spaces();
        let left = self.operand(depth)?;
        self.skip_spaces();
        // Longer ones first.
        const ALL: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (text, comparison) in ALL {
            if self.takes(text) {
                self.skip_spaces();
                let right = self.operand(depth)?;
                return Ok(Segment::Filter(left, Some((comparison, right))));
            }
        }
        Ok(Segment::Filter(left, None))
    }

    fn operand(&mut self, depth: usize) -> Result<Operand, JsonPathError> {
        match self.peek() {
            Some('"' | '\'') => Ok(Operand::Value(self.quoted()?.into())),
            Some('@' | '.' | '$' | '[') => Ok(Operand::Path(self.path(depth)?)),
            _ => {
                let begin = self.at;
                while self.peek().is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '.')) {
                    self.at += 1;
                }
                let word: String = self.characters[begin..self.at].iter().collect();
                let value = serde_json::from_str(&word);
                value.map(Operand::Value).map_err(|_| self.error("a path, a number or a text in quotes is expected"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {"name": "dev", "labels": {"kina.dev/cluster": "dev"}},
            "items": [
                {"name": "a", "size": 1, "ready": true, "tags": ["x", "y"]},
                {"name": "b", "size": 2, "ready": false, "tags": []},
                {"name": "c", "size": 3},
            ],
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]},
        })
    }

    fn rendered(template: &str) -> String {
        Template::parse(template).unwrap().render(&object())
    }

    /// What `kubectl -o jsonpath` prints (client-go, `util/jsonpath`).
    #[test]
    fn templates_print_as_kubectl_prints_them() {
        for (template, expected) in [
            ("{.metadata.name}", "dev"),
            ("{ .metadata.name }", "dev"),
            ("name: {.metadata.name}!", "name: dev!"),
            ("{.items[*].name}", "a b c"),
            ("{.items[0].name}", "a"),
            ("{.items[-1].name}", "c"),
            ("{.items[0:2].name}", "a b"),
            ("{.items[::2].name}", "a c"),
            ("{.items[0,2].name}", "a c"),
            ("{.items[0]['name','size']}", "a 1"),
            ("{.metadata.labels.kina\\.dev/cluster}", "dev"),
            ("{.metadata.labels['kina.dev/cluster']}", "dev"),
            ("{.items[?(@.name==\"b\")].size}", "2"),
            ("{.items[?(@.size>=2)].name}", "b c"),
            ("{.items[?(@.size != 2)].name}", "a c"),
            ("{.items[?(@.ready)].name}", "a b"),
            ("{.items[?(@.ready==true)].name}", "a"),
            ("{.status.conditions[?(@.type=='Ready')].status}", "True"),
            ("{range .items[*]}{.name}={.size}{\"\\n\"}{end}", "a=1\nb=2\nc=3\n"),
            ("{range .items[*]}{.name}:{range .tags[*]}{@},{end};{end}", "a:x,y,;b:;c:;"),
            ("{range .items}{.name} {end}done", " done"),
            ("{.items.name}", ""),
            ("{range .items[*]}{$.metadata.name}/{.name} {end}", "dev/a dev/b dev/c "),
            ("{..name}", "dev a b c"),
            ("{.items[0].tags}", "[\"x\",\"y\"]"),
            ("{.items[1]}", "{\"name\":\"b\",\"ready\":false,\"size\":2,\"tags\":[]}"),
            ("{.missing.entirely}", ""),
            ("{.items[9].name}", ""),
            ("plain", "plain"),
            ("", ""),
        ] {
            let mut found = rendered(template);
            if template == "{..name}" {
                // Maps have no order to rely on.
                let mut words: Vec<&str> = found.split(' ').collect();
                words.sort_unstable_by_key(|word| (*word != "dev", *word));
                found = words.join(" ");
            }
            assert_eq!(found, expected, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        for (template, message) in [
            ("{.a", "`}` is expected at character 4"),
            ("{.a[}", "an index, a name in quotes or `*` is expected at character 5"),
            ("{.a[0}", "`,` is expected at character 6"),
            ("{range .a}x", "`{range}` without `{end}` at character 1"),
            ("x{end}", "`{end}` without `{range}` at character 2"),
            ("{\"a}", "`\"` is expected at character 5"),
            ("{name}", "a path begins with `.`, `[`, `$` or `@` at character 2"),
            ("{.a[?(@.b=1)]}", "`)` is expected at character 10"),
            ("{.a[::0]}", "a step is 1 or more at character 8"),
        ] {
            assert_eq!(Template::parse(template).unwrap_err().to_string(), message, "{template}");
        }
    }

    #[test]
    fn a_path_goes_without_braces_too() {
        for text in ["metadata.name", ".metadata.name", "{.metadata.name}", "{metadata.name}"] {
            assert_eq!(JsonPath::relaxed(text).unwrap().find(&object()), [&json!("dev")], "{text}");
        }
        assert!(JsonPath::relaxed(".a .b").is_err());
        assert!(JsonPath::relaxed("").is_ok_and(|path| path.find(&json!(1)) == [&json!(1)]));
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_read_or_refused(template in "[{}\\[\\].$@*?():,'\"\\\\ a-c0-3=<>!-]{0,40}|.{0,40}") {
            if let Ok(template) = Template::parse(&template) {
                let _ = template.render(&object());
            }
            if let Ok(path) = JsonPath::relaxed(&template) {
                let _ = path.find(&object());
            }
        }
    }
}
