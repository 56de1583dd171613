//! `-o`: how objects are printed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CliError;
use super::exit::Exit;
use super::kinds;
use super::printer::Printer;
use crate::apiserver::jsonpath::{self, JsonPath, Template};
use crate::apiserver::kind::Kind;
use crate::ui::table::{self, Columns};

/// The formats of `-o`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// `KIND.GROUP/NAME`, one a line.
    Name,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// What a template says.
    JsonPath(Template),
    /// Columns of the caller's choice: heading and path.
    Columns(Vec<(String, JsonPath)>),
}

/// Whether a table has headings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headings {
    /// It has.
    Shown,
    /// It has none.
    Hidden,
}

impl Format {
    /// What `-o` takes, for its help.
    pub const HELP: &'static str = "How to print them: `wide`, `name`, `json`, `yaml`, `jsonpath=TEMPLATE` or \
                                    `custom-columns=HEADING:PATH,...`, as kubectl takes them; `table` without it";

    /// Reads the value of `-o`, for clap.
    ///
    /// # Errors
    /// Where it is none of the formats, or its template cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
        Ok(match (name, argument) {
            ("table", None) => Self::Table,
            ("wide", None) => Self::Wide,
            ("name", None) => Self::Name,
            ("json", None) => Self::Json,
            ("yaml", None) => Self::Yaml,
            ("jsonpath", Some(template)) => {
                Self::JsonPath(Template::parse(template).map_err(|error| format!("in the template: {error}"))?)
            }
            ("custom-columns", Some(columns)) => Self::Columns(custom_columns(columns)?),
            ("jsonpath" | "custom-columns", None) => return Err(format!("`{name}` needs a value: `-o {name}=...`")),
            _ => {
                return Err(
                    "there are `table`, `wide`, `name`, `json`, `yaml`, `jsonpath=TEMPLATE` and `custom-columns=HEADING:PATH,...`"
                        .to_owned(),
                );
            }
        })
    }

    /// Whether it is a table, with columns of whoever's choice.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::Wide | Self::Columns(_))
    }
}

/// `NAME:.metadata.name,READY:.status.conditions[?(@.type=="Ready")].status`.
fn custom_columns(text: &str) -> Result<Vec<(String, JsonPath)>, String> {
    let column = |column: &str| -> Result<(String, JsonPath), String> {
        let (heading, path) =
            column.split_once(':').ok_or_else(|| format!("the column `{column}` is not `HEADING:PATH`"))?;
        let path = JsonPath::relaxed(path).map_err(|error| format!("in the column `{heading}`: {error}"))?;
        Ok((heading.to_owned(), path))
    };
    let mut columns = Vec::new();
    let mut begin = 0;
    let mut depth = 0_u32;
    // A comma amid brackets belongs to the path.
    for (at, character) in text.char_indices() {
        match character {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                columns.push(column(&text[begin..at])?);
                begin = at + 1;
            }
            _ => {}
        }
    }
    columns.push(column(&text[begin..])?);
    Ok(columns)
}

/// The formats of objects that are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Document {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Prints objects of one kind. `is_list` is false where one was asked for by name.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(
    printer: &mut Printer,
    kind: &Kind,
    mut objects: Vec<Value>,
    is_list: bool,
    (format, headings): (&Format, Headings),
    now: Timestamp,
) -> Result<(), CliError> {
    if let Some(rows) = rows(kind, &objects, (format, headings), now) {
        return lines(printer, table::align(&rows));
    }
    if *format == Format::Name {
        return lines(printer, objects.iter().map(|object| kinds::full(kind, name_of(object))).collect());
    }
    objects.iter_mut().for_each(tidy);
    let value = match objects.pop() {
        Some(object) if !is_list => object,
        last => {
            objects.extend(last);
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
        }
    };
    match format {
        // As kubectl: what the template prints and nothing else, not even the end of a line.
        Format::JsonPath(template) => printer.data(&template.render(&value)),
        Format::Json => document(printer, &value, Document::Json),
        _ => document(printer, &value, Document::Yaml),
    }
}

/// The cells of objects as a table, headings first; nothing in a format that is no table.
#[must_use]
pub fn rows(
    kind: &Kind,
    objects: &[Value],
    (format, headings): (&Format, Headings),
    now: Timestamp,
) -> Option<Vec<Vec<String>>> {
    let no_headers = headings == Headings::Hidden;
    match format {
        Format::Table | Format::Wide => {
            Some(table::rows(kind, objects, Columns { wide: *format == Format::Wide, no_headers }, now))
        }
        Format::Columns(columns) => {
            let heading = columns.iter().map(|(heading, _)| heading.clone()).collect();
            let cell = |object: &Value, path: &JsonPath| {
                let found: Vec<String> = path.find(object).into_iter().map(jsonpath::plain).collect();
                if found.is_empty() { "<none>".to_owned() } else { found.join(",") }
            };
            let row = |object: &Value| columns.iter().map(|(_, path)| cell(object, path)).collect();
            let headings: Vec<Vec<String>> = if no_headers { Vec::new() } else { vec![heading] };
            Some(headings.into_iter().chain(objects.iter().map(row)).collect())
        }
        Format::Name | Format::Json | Format::Yaml | Format::JsonPath(_) => None,
    }
}

/// Prints lines.
///
/// # Errors
/// When stdout cannot be written.
pub fn lines(printer: &mut Printer, lines: Vec<String>) -> Result<(), CliError> {
    printer.data(&lines.into_iter().map(|line| line + "\n").collect::<String>())
}

/// Prints a value as a document.
///
/// # Errors
/// When stdout cannot be written.
pub fn document(printer: &mut Printer, value: &Value, format: Document) -> Result<(), CliError> {
    let unprintable = |error: String| CliError::new(Exit::Failure, format!("cannot print the object: {error}"));
    let text = match format {
        Document::Json => serde_json::to_string_pretty(value).map_err(|error| unprintable(error.to_string()))?,
        Document::Yaml => serde_saphyr::to_string(value).map_err(|error| unprintable(error.to_string()))?,
    };
    printer.data(&format!("{}\n", text.trim_end()))
}

/// The name in an object's metadata.
#[must_use]
pub fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// Without the bookkeeping of field managers, as kubectl prints objects.
fn tidy(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_kubectls() {
        assert_eq!(Format::parse("wide"), Ok(Format::Wide));
        let Ok(Format::Columns(columns)) = Format::parse("custom-columns=A:.a[0,1],B:.b[?(@.c==\"x,y\")]") else {
            panic!("two columns");
        };
        assert_eq!(columns.iter().map(|(heading, _)| heading.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        for (text, message) in [
            ("jsonpath", "`jsonpath` needs a value: `-o jsonpath=...`"),
            ("jsonpath={.a", "in the template: `}` is expected at character 4"),
            ("custom-columns=A", "the column `A` is not `HEADING:PATH`"),
            ("custom-columns=A:.a[", "in the column `A`: an index, a name in quotes or `*` is expected at character 4"),
        ] {
            assert_eq!(Format::parse(text).unwrap_err(), message);
        }
        assert!(Format::parse("jsno").unwrap_err().contains("`json`"));
    }
}
