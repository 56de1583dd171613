//! `Table`: what `kubectl get` asks for, for single objects, lists and watch events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use super::kind::{Kind, PrinterColumn};

/// What stands beside the cells of a row (query parameter `includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as a `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// From the query parameter; empty is the default, unknown values are refused.
    pub fn parse(parameter: &str) -> Option<Self> {
        match parameter {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A `Table` of objects. `list_metadata` is the list's metadata (for a single object: its resourceVersion); `headers`
/// is false for all but the first event of a watch.
pub fn table<'o>(
    kind: &Kind,
    objects: impl IntoIterator<Item = &'o Value>,
    list_metadata: Value,
    include: IncludeObject,
    headers: bool,
    now: Timestamp,
) -> Value {
    let columns = Columns::of(kind);
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let mut row = json!({"cells": columns.cells(object, now)});
            match include {
                IncludeObject::None => {}
                IncludeObject::Metadata => {
                    row["object"] = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                        "metadata": object["metadata"]});
                }
                IncludeObject::Object => row["object"] = object.clone(),
            }
            row
        })
        .collect();
    let definitions = if headers { columns.definitions() } else { Vec::new() };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata,
        "columnDefinitions": definitions, "rows": rows})
}

/// The age of something as kubectl prints it (`apimachinery/pkg/util/duration.HumanDuration`).
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - since.as_second();
    let pair = |large: i64, large_unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// The columns of a kind, with their paths parsed.
struct Columns<'k> {
    kind: &'k Kind,
    paths: Vec<Option<JsonPath>>,
}

impl<'k> Columns<'k> {
    fn of(kind: &'k Kind) -> Self {
        let paths = kind.columns.iter().map(|column| JsonPath::parse(&column.json_path).ok()).collect();
        Self { kind, paths }
    }

    fn definitions(&self) -> Vec<Value> {
        if let Some(printer) = &self.kind.printer {
            return printer.columns.iter().map(definition).collect();
        }
        let name = column("Name", "string", "name", "Name must be unique within a namespace.");
        let age = column("Age", "date", "", "CreationTimestamp is the server time when this object was created.");
        let mut columns = vec![definition(&name)];
        if self.kind.columns.is_empty() {
            columns.push(definition(&age));
        } else {
            columns.extend(self.kind.columns.iter().map(definition));
        }
        columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        if let Some(printer) = &self.kind.printer {
            return (printer.row)(object, now);
        }
        let mut cells = vec![object["metadata"]["name"].clone()];
        if self.kind.columns.is_empty() {
            cells.push(date(&object["metadata"]["creationTimestamp"], now));
        }
        for (column, path) in self.kind.columns.iter().zip(&self.paths) {
            let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
            cells.push(cell(&column.type_, &found, now));
        }
        cells
    }
}

fn column(name: &str, type_: &str, format: &str, description: &str) -> PrinterColumn {
    PrinterColumn {
        name: name.into(),
        type_: type_.into(),
        format: format.into(),
        description: description.into(),
        priority: 0,
        json_path: String::new(),
    }
}

fn definition(column: &PrinterColumn) -> Value {
    json!({"name": column.name, "type": column.type_, "format": column.format, "description": column.description,
        "priority": column.priority})
}

/// One cell, null where there is nothing (`apiextensions-apiserver/pkg/registry/customresource/tableconvertor`).
fn cell(type_: &str, found: &[&Value], now: Timestamp) -> Value {
    let Some(first) = found.first() else { return Value::Null };
    match type_ {
        "date" => date(first, now),
        "integer" => first.as_i64().map_or(Value::Null, Value::from),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        _ if found.iter().all(|value| value.is_null()) => Value::Null,
        _ => found.iter().map(|value| text(value)).collect::<Vec<_>>().join(" ").into(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn date(value: &Value, now: Timestamp) -> Value {
    match value.as_str().map(str::parse::<Timestamp>) {
        Some(Ok(time)) => age(time, now).into(),
        Some(Err(_)) => "<invalid>".into(),
        None => "<unknown>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        let read = |seconds: i64| age(Timestamp::from_second(0).unwrap(), Timestamp::from_second(seconds).unwrap());
        let (hour, day) = (3600, 86_400);
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 61, "3h1m"),
            (8 * hour, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + hour, "2d1h"),
            (8 * day, "8d"),
            (729 * day, "729d"),
            (731 * day, "2y1d"),
            (9 * 365 * day, "9y"),
        ] {
            assert_eq!(read(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn cells_follow_the_type_of_their_column() {
        let now = Timestamp::from_second(60).unwrap();
        let object =
            json!({"when": "1970-01-01T00:00:00Z", "n": 3, "b": true, "s": "x", "l": ["a", "b"], "null": null});
        let cell = |type_, path: &str| cell(type_, &JsonPath::parse(path).unwrap().find(&object), now);
        assert_eq!(cell("date", ".when"), "60s");
        assert_eq!(cell("integer", ".n"), 3);
        assert_eq!(cell("string", ".n"), "3");
        assert_eq!(cell("integer", ".s"), Value::Null);
        assert_eq!(cell("boolean", ".b"), true);
        assert_eq!(cell("string", ".l"), r#"["a","b"]"#);
        assert_eq!(cell("string", ".l[*]"), "a b");
        assert_eq!(cell("string", ".null"), Value::Null);
        assert_eq!(cell("string", ".missing"), Value::Null);
    }
}
