//! From kubectl's client-side apply to its server-side apply, without conflicts with itself
//! (`managedfields/internal/lastappliedmanager.go`, `lastappliedupdater.go`). It concerns the manager `kubectl` only.

use serde_json::Value;

use super::Conflict;
use super::compare::compare;
use super::fields::{fields_of, mistyped};
use super::set::print_path;
use super::types::Type;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The conflicts that remain when fields that kubectl applied itself, and that are as it left them, are taken over.
pub(super) fn not_allowed(of: Type<'_>, live: &Value, conflicts: &[Conflict]) -> Vec<Conflict> {
    let last: Option<Value> = annotation(live).and_then(|text| serde_json::from_str(text).ok());
    let Some(last) = last.filter(|last| last["apiVersion"] == live["apiVersion"] && mistyped(of, last).is_empty())
    else {
        return conflicts.to_vec();
    };
    let changed = compare(of, &last, live);
    let own =
        fields_of(of, &last).difference(&changed.modified).difference(&changed.added).difference(&changed.removed);
    let own: Vec<String> = own.paths().iter().map(|path| print_path(path)).collect();
    conflicts.iter().filter(|conflict| !own.contains(&conflict.field)).cloned().collect()
}

/// Brings the annotation up to date where there is one.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    object["metadata"]["annotations"][ANNOTATION] = format!("{config}\n").into();
}

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}
