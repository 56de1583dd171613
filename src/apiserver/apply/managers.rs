//! Who manages which fields: `metadata.managedFields` (`apimachinery/pkg/util/managedfields/internal`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::set::Set;

/// As many entries of updates are kept; beyond it the oldest are merged (`DefaultMaxUpdateManagers`).
const MOST_UPDATERS: usize = 10;

/// Under which name the oldest entries are merged.
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What distinguishes managers: appliers by name and subresource, updaters by API version too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    name: String,
    operation: Operation,
    /// Empty for appliers.
    api_version: String,
    subresource: String,
}

impl Manager {
    pub(super) fn applier(name: &str, subresource: Option<&str>) -> Self {
        Self::new(name, Operation::Apply, "", subresource)
    }

    pub(super) fn updater(name: &str, api_version: &str, subresource: Option<&str>) -> Self {
        Self::new(name, Operation::Update, api_version, subresource)
    }

    fn new(name: &str, operation: Operation, api_version: &str, subresource: Option<&str>) -> Self {
        let name = if name.is_empty() { "unknown" } else { name };
        Self {
            name: name.into(),
            operation,
            api_version: api_version.into(),
            subresource: subresource.unwrap_or_default().into(),
        }
    }

    /// As conflicts print it.
    pub(super) fn print(&self) -> String {
        let mut printed = Value::from(self.name.as_str()).to_string();
        if !self.subresource.is_empty() {
            printed.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == Operation::Update {
            printed.push_str(&format!(" using {}", self.api_version));
        }
        printed
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) set: Set,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
}

/// All managers of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers(pub(super) BTreeMap<Manager, Entry>);

impl Managers {
    /// Reads an object's managed fields. `None`: they are malformed.
    pub(super) fn decode(entries: &Value) -> Option<Self> {
        let mut managers = BTreeMap::new();
        for entry in entries.as_array().into_iter().flatten() {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let id = Manager {
                name: text("manager").into(),
                operation,
                api_version: if operation == Operation::Apply { String::new() } else { api_version.into() },
                subresource: text("subresource").into(),
            };
            let set = Set::from_fields(&entry["fieldsV1"]);
            let time = entry["time"].as_str().map(str::to_owned);
            managers.insert(id, Entry { set, api_version: api_version.into(), time });
        }
        Some(Self(managers))
    }

    /// Writes managed fields: appliers first, then by time.
    pub(super) fn encode(self) -> Value {
        let mut entries: Vec<(Manager, Entry)> = self.0.into_iter().collect();
        entries.sort_by(|(one, of_one), (other, of_other)| {
            let order = |id: &Manager, entry: &Entry| (id.operation, entry.seconds());
            order(one, of_one)
                .cmp(&order(other, of_other))
                .then_with(|| one.name.cmp(&other.name))
                .then_with(|| of_one.api_version.cmp(&of_other.api_version))
                .then_with(|| one.subresource.cmp(&other.subresource))
        });
        let entries = entries.into_iter().map(|(id, entry)| {
            let fields = [
                ("manager", Some(Value::from(id.name))),
                ("operation", Some(id.operation.name().into())),
                ("apiVersion", Some(entry.api_version.into())),
                ("fieldsType", Some("FieldsV1".into())),
                ("fieldsV1", Some(entry.set.into_fields())),
                ("time", entry.time.map(Value::from)),
                ("subresource", Some(id.subresource).filter(|name| !name.is_empty()).map(Value::from)),
            ];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(fields.collect())
        });
        Value::Array(entries.collect())
    }

    /// Merges the oldest entries of updates until there are no more than [`MOST_UPDATERS`].
    pub(super) fn cap(&mut self) {
        let updaters = |managers: &Self| -> Vec<Manager> {
            let mut found: Vec<(Manager, i64)> = managers
                .0
                .iter()
                .filter(|(id, _)| id.operation == Operation::Update)
                .map(|(id, entry)| (id.clone(), entry.seconds()))
                .collect();
            found.sort_by(|(a, a_time), (b, b_time)| (a_time, a).cmp(&(b_time, b)));
            found.into_iter().map(|(id, _)| id).collect()
        };
        let oldest = updaters(self);
        let mut excess = oldest.len().saturating_sub(MOST_UPDATERS);
        let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
        for id in oldest {
            if excess == 0 {
                break;
            }
            let Some(first) = first_of.get(&id.api_version).cloned() else {
                first_of.insert(id.api_version.clone(), id);
                continue;
            };
            let bucket = Manager::updater(ANCIENT, &id.api_version, None);
            let Some(entry) = self.0.remove(&id) else { continue };
            if !self.0.contains_key(&bucket)
                && let Some(first) = self.0.remove(&first)
            {
                self.0.insert(bucket.clone(), first);
            }
            if let Some(merged) = self.0.get_mut(&bucket) {
                merged.set = merged.set.union(&entry.set);
                merged.time = entry.time;
            }
            excess -= 1;
        }
    }
}

impl Entry {
    fn seconds(&self) -> i64 {
        let time = self.time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        time.map_or(0, Timestamp::as_second)
    }
}
