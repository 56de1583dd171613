//! Server-side apply: merging configurations by schema, and remembering who manages which field.
//!
//! The semantics are those of `sigs.k8s.io/structured-merge-diff` (v6) and `apimachinery/pkg/util/managedfields`.
//! One simplification: a kind here has one version, so sets are never converted between versions.

mod compare;
mod fields;
mod last_applied;
mod managers;
mod merge;
mod set;
#[cfg(test)]
mod tests;
mod types;
mod update;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use managers::{Manager, Managers};
use types::Type;

use crate::apiserver::kind::FieldFault;
use crate::apiserver::schema::Schema;

/// One field that another manager has set to something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager as Kubernetes prints it: `"kubectl" using v1`.
    pub manager: String,
    /// The field's path, such as `.spec.replicas`.
    pub field: String,
}

/// Why a configuration cannot be applied. Messages are worded as Kubernetes words them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409: other managers own fields that would change; at least one conflict.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 400: the configuration carries managed fields.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// 400: the configuration does not have the types of its schema.
    #[error("failed to create typed patch object ({object}): {}", .faults.join("\n"))]
    Typed {
        /// Namespace, name and kind of the object.
        object: String,
        /// At least one fault, each with its path.
        faults: Vec<String>,
    },
}

impl ApplyError {
    /// The causes of a `Status`: one per conflict, of type `FieldManagerConflict`; none for other errors.
    pub fn causes(&self) -> Vec<FieldFault> {
        let Self::Conflicts(conflicts) = self else { return Vec::new() };
        let causes = conflicts.iter().map(|conflict| FieldFault {
            field: conflict.field.clone(),
            reason: "FieldManagerConflict",
            message: format!("conflict with {}", conflict.manager),
        });
        causes.collect()
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut lines = vec![];
    for (index, conflict) in conflicts.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| conflicts.get(before));
        if before.is_none_or(|before| before.manager != conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Fields of `metadata` that a configuration cannot set: the server's own, and preconditions.
const NOT_APPLIED: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Applies a configuration to an object as it is (`None`: it does not exist), and returns the object as it is to be
/// stored, with its managed fields. An apply that changes nothing returns `live` as it is.
///
/// The caller checks before that name and kind fit and that `metadata.uid` and `metadata.resourceVersion` of the
/// configuration (preconditions) hold; where a kind has a status subresource it removes `status` from a configuration
/// that is not for `status`. With `subresource: Some("status")` everything but `status` is left out here. After it,
/// the caller defaults, validates, and calls [`keep_times_if_unchanged`].
///
/// # Errors
/// See [`ApplyError`]; with `force` there are no conflicts.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: Option<&str>,
    now: Timestamp,
) -> Result<Value, ApplyError> {
    if config["metadata"].get("managedFields").is_some_and(|entries| !entries.is_null()) {
        return Err(ApplyError::ManagedFields);
    }
    let of = Type::root(schema);
    let config = applicable(config, subresource);
    let faults = fields::mistyped(of, &config);
    if !faults.is_empty() {
        return Err(ApplyError::Typed { object: identity(&config), faults });
    }
    let nothing = json!({"apiVersion": config["apiVersion"], "kind": config["kind"]});
    let (live, mut managers) = take_managers(live.unwrap_or(&nothing));
    let api_version = config["apiVersion"].as_str().unwrap_or_default();
    let at = update::At { of, api_version, time: stamp(now) };
    if managers.0.is_empty() {
        // The object was never tracked: what is there belongs to a manager of its own from now on.
        let before = Manager::updater("before-first-apply", api_version, subresource);
        update::update(&at, &nothing, &live, &mut managers, before);
    }
    let id = Manager::applier(manager, subresource);
    let mut applied = update::apply(&at, &live, &config, &managers, &id, force);
    if let Err(ApplyError::Conflicts(conflicts)) = &applied
        && manager == "kubectl"
    {
        let left = last_applied::not_allowed(of, &live, conflicts);
        applied = if left.is_empty() {
            update::apply(&at, &live, &config, &managers, &id, true)
        } else {
            Err(ApplyError::Conflicts(left))
        };
    }
    let (mut object, managers) = applied?;
    if manager == "kubectl" {
        last_applied::refresh(&mut object, &config);
    }
    put_managers(&mut object, managers);
    Ok(object)
}

/// Records who changed what in a create, update or patch, into `new`'s managed fields. `new` is the object as it is
/// to be stored: what a request may not change is already reset.
///
/// `metadata.managedFields` that came with the request are taken over (except through a subresource); a list with one
/// empty entry resets them.
pub fn track_update(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: Option<&str>,
    now: Timestamp,
) {
    let given = new.get_mut("metadata").and_then(Value::as_object_mut).and_then(|meta| meta.remove("managedFields"));
    let stored = || old.and_then(|old| Managers::decode(&old["metadata"]["managedFields"])).unwrap_or_default();
    let given = given.filter(|_| subresource.is_none());
    let mut managers = match &given {
        Some(entries) if is_reset(entries) => Managers::default(),
        Some(entries) => Managers::decode(entries).filter(|given| !given.0.is_empty()).unwrap_or_else(stored),
        None => stored(),
    };
    let api_version = new["apiVersion"].as_str().unwrap_or_default().to_owned();
    // An object without managed fields is not tracked before someone applies to it.
    let tracked = old.is_none() || !managers.0.is_empty();
    if tracked {
        let nothing = json!({"apiVersion": new["apiVersion"], "kind": new["kind"]});
        let at = update::At { of: Type::root(schema), api_version: &api_version, time: stamp(now) };
        let id = Manager::updater(manager, &api_version, subresource);
        update::update(&at, old.unwrap_or(&nothing), new, &mut managers, id);
        managers.cap();
    }
    put_managers(new, managers);
    if let Some(old) = old {
        keep_times_if_unchanged(old, new);
    }
}

/// Takes over the old managed fields where a write changes nothing but their times, so that it can be seen as no
/// change at all.
pub fn keep_times_if_unchanged(old: &Value, new: &mut Value) {
    fn entries(object: &Value) -> &[Value] {
        object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
    // Next to every write changes something else: that is found soonest.
    let takes_over =
        same_elsewhere(old, new) && entries(old) != entries(new) && same_but_for_times(entries(old), entries(new));
    if takes_over {
        new["metadata"]["managedFields"] = Value::Array(entries(old).to_vec());
    }
}

/// Whether two objects are the same but for their managed fields.
fn same_elsewhere(old: &Value, new: &Value) -> bool {
    same_but("metadata", old, new)
        && match (old.get("metadata"), new.get("metadata")) {
            (Some(old), Some(new)) => same_but("managedFields", old, new),
            (old, new) => old == new,
        }
}

/// Whether two maps have the same fields but for one.
fn same_but(left_out: &str, old: &Value, new: &Value) -> bool {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return compare::equal(old, new) };
    let count = |fields: &Map<String, Value>| fields.len() - usize::from(fields.contains_key(left_out));
    count(old) == count(new)
        && old
            .iter()
            .filter(|(name, _)| *name != left_out)
            .all(|(name, old)| new.get(name).is_some_and(|new| compare::equal(old, new)))
}

/// Whether managed fields differ in nothing but their times, and the order that follows from them.
fn same_but_for_times(old: &[Value], new: &[Value]) -> bool {
    fn in_order(entries: &[Value]) -> Vec<&Value> {
        let mut entries: Vec<&Value> = entries.iter().collect();
        entries.sort_by_key(|entry| {
            ["manager", "operation", "subresource", "apiVersion"].map(|field| entry[field].as_str().unwrap_or_default())
        });
        entries
    }
    let (old, new) = (in_order(old), in_order(new));
    old.len() == new.len() && old.into_iter().zip(new).all(|(old, new)| same_but("time", old, new))
}

/// The configuration without what cannot be applied.
fn applicable(config: &Value, subresource: Option<&str>) -> Value {
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.retain(|name, _| !NOT_APPLIED.contains(&name.as_str()));
        if subresource.is_some() {
            metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace"));
        }
    }
    if let (Some(subresource), Some(fields)) = (subresource, config.as_object_mut()) {
        fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || name == subresource);
    }
    config
}

/// An object without its managed fields, and those. Malformed ones count as none.
fn take_managers(object: &Value) -> (Value, Managers) {
    let mut object = object.clone();
    let entries =
        object.get_mut("metadata").and_then(Value::as_object_mut).and_then(|meta| meta.remove("managedFields"));
    (object, entries.and_then(|entries| Managers::decode(&entries)).unwrap_or_default())
}

fn put_managers(object: &mut Value, managers: Managers) {
    if managers.0.is_empty() {
        return;
    }
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("managedFields".into(), managers.encode());
    }
}

fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(|entry| entry.values().all(|value| value.is_null())),
        _ => false,
    }
}

fn identity(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    format!("{namespace}/{name}; {}, Kind={}", text(&object["apiVersion"]), text(&object["kind"]))
}

/// RFC 3339 in seconds, as `metav1.Time`.
fn stamp(now: Timestamp) -> String {
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    second.to_string()
}
