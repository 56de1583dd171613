//! An event is one object with two faces: `v1` and `events.k8s.io/v1` (`pkg/apis/events/v1/conversion.go`).

use serde_json::Value;

/// Fields that both have under different names: in `v1`, in `events.k8s.io/v1`.
const NAMES: &[(&str, &str)] = &[
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

/// Turns an `events.k8s.io/v1` Event into a `v1` Event. An Event that is `v1` already stays as it is.
pub fn event_to_core(event: &mut Value) {
    convert(event, "v1", NAMES.iter().map(|(core, group)| (*group, *core)));
}

/// Turns a `v1` Event into an `events.k8s.io/v1` Event. One that is that already stays as it is.
pub fn event_to_events(event: &mut Value) {
    convert(event, "events.k8s.io/v1", NAMES.iter().copied());
}

fn convert<'n>(event: &mut Value, version: &str, names: impl Iterator<Item = (&'n str, &'n str)>) {
    let Some(fields) = event.as_object_mut() else { return };
    if fields.get("apiVersion").is_some_and(|found| found == version) {
        return;
    }
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.into(), value);
        }
    }
    fields.insert("apiVersion".into(), version.into());
}
