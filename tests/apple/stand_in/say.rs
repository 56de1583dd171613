//! Everything that is said: documents in the encoding of each version, errors in the command's own words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// What a command ends with when it fails.
#[derive(Debug)]
pub struct Refusal {
    /// Exit code.
    pub code: i32,
    /// On standard error.
    pub text: String,
}

impl Refusal {
    /// An ordinary failure.
    pub fn error(message: impl AsRef<str>) -> Self {
        Self { code: 1, text: format!("Error: {}\n", message.as_ref()) }
    }

    /// A command line that is not understood.
    pub fn usage(command: &str, message: &str) -> Self {
        let command = format!("container {command}");
        let help = format!("Usage: {command} ...\n  See '{command} --help' for more information.");
        Self { code: 64, text: format!("Error: {message}\n{help}\n") }
    }

    /// Several failures of one command, one a line.
    pub fn aggregate(failures: &[String]) -> Self {
        Self { code: 1, text: format!("Error: {}\n", failures.join("\n")) }
    }

    /// Nobody listens.
    pub fn no_service(via_list: bool) -> Self {
        let what = r#"interrupted: "XPC connection error: Connection invalid""#;
        let what = match via_list {
            true => format!(r#"internalError: "failed to list containers" (cause: "{what}")"#),
            false => what.to_owned(),
        };
        let next = "Ensure container system service has been started with `container system start`.";
        Self { code: 1, text: format!("Error: {what}\n{next}\n") }
    }
}

/// How a version prints JSON.
#[derive(Clone, Copy)]
pub struct Encoding {
    /// `\/`, before 1.4.1.
    pub escapes_slashes: bool,
}

impl Encoding {
    /// On one line, keys in order.
    pub fn line(self, value: &Value) -> String {
        let mut text = String::new();
        self.write(value, None, &mut text);
        text
    }

    /// As Apple prints it for people: a space before each colon, an empty line in what is empty.
    pub fn pretty(self, value: &Value) -> String {
        let mut text = String::new();
        self.write(value, Some(0), &mut text);
        text
    }

    fn write(self, value: &Value, depth: Option<usize>, text: &mut String) {
        match value {
            Value::Object(object) => {
                let sorted: BTreeMap<&String, &Value> = object.iter().collect();
                let colon = if depth.is_some() { " : " } else { ":" };
                self.block('{', '}', sorted.len(), depth, text, |index, inner, text| {
                    if let Some((key, value)) = sorted.iter().nth(index) {
                        self.string(key, text);
                        text.push_str(colon);
                        self.write(value, inner, text);
                    }
                });
            }
            Value::Array(array) => {
                self.block('[', ']', array.len(), depth, text, |index, inner, text| {
                    self.write(&array[index], inner, text);
                });
            }
            Value::String(string) => self.string(string, text),
            plain => {
                let _ = write!(text, "{plain}");
            }
        }
    }

    fn block(
        self,
        open: char,
        close: char,
        length: usize,
        depth: Option<usize>,
        text: &mut String,
        each: impl Fn(usize, Option<usize>, &mut String),
    ) {
        let inner = depth.map(|depth| depth + 1);
        text.push(open);
        if let (0, Some(_)) = (length, depth) {
            text.push('\n');
        }
        for index in 0..length {
            if index > 0 {
                text.push(',');
            }
            if let Some(inner) = inner {
                text.push('\n');
                text.push_str(&"  ".repeat(inner));
            }
            each(index, inner, text);
        }
        if let Some(depth) = depth {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        }
        text.push(close);
    }

    fn string(self, string: &str, text: &mut String) {
        let plain = Value::from(string).to_string();
        text.push_str(&if self.escapes_slashes { plain.replace('/', "\\/") } else { plain });
    }
}
