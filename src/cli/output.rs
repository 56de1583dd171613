//! `-o`: how objects are printed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CliError;
use super::exit::Exit;
use super::kinds;
use super::printer::Printer;
use crate::apiserver::kind::Kind;
use crate::ui::table::{self, Columns};

/// The formats of `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
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
    (format, no_headers): (Format, bool),
    now: Timestamp,
) -> Result<(), CliError> {
    match format {
        Format::Table | Format::Wide => {
            let columns = Columns { wide: format == Format::Wide, no_headers };
            let lines = table::render(kind, &objects, columns, now);
            printer.data(&lines.into_iter().map(|line| line + "\n").collect::<String>())
        }
        Format::Name => {
            let names: String = objects.iter().map(|object| kinds::full(kind, name_of(object)) + "\n").collect();
            printer.data(&names)
        }
        Format::Json | Format::Yaml => {
            objects.iter_mut().for_each(tidy);
            let value = match objects.pop() {
                Some(object) if !is_list => object,
                last => {
                    objects.extend(last);
                    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
                }
            };
            document(printer, &value, if format == Format::Json { Document::Json } else { Document::Yaml })
        }
    }
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
