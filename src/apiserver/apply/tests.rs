use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn schema() -> Schema {
    Schema::of(json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer"},
            "mode": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic",
                "additionalProperties": {"type": "string"}},
            "args": {"type": "array", "items": {"type": "string"}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "pools": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "size": {"type": "integer"}, "zone": {"type": "string"}}}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}, "conditions": {"type": "array",
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": {"type": "object", "properties": {"type": {"type": "string"}, "status": {"type": "string"}}}}}},
    }}))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "a.dev/v1", "kind": "A", "metadata": {"name": "x"}});
    if spec != json!({}) {
        object["spec"] = spec;
    }
    object
}

/// An object as it passes through a server: applies and updates, one per second.
struct Story {
    live: Option<Value>,
    second: i64,
}

impl Story {
    fn new() -> Self {
        Self { live: None, second: 0 }
    }

    fn apply_with(&mut self, manager: &str, spec: Value, force: bool) -> Result<(), ApplyError> {
        self.second += 1;
        let config = object(spec);
        let mut new = apply(&schema(), self.live.as_ref(), &config, manager, force, None, at(self.second))?;
        new["metadata"]["uid"] = "1".into();
        // What is emptied is left as null, which the schema then takes away.
        crate::apiserver::schema::default(&schema(), &mut new);
        if let Some(old) = &self.live {
            keep_times_if_unchanged(old, &mut new);
        }
        self.live = Some(new);
        Ok(())
    }

    fn apply(&mut self, manager: &str, spec: Value) -> &mut Self {
        self.apply_with(manager, spec, false).unwrap();
        self
    }

    fn force(&mut self, manager: &str, spec: Value) -> &mut Self {
        self.apply_with(manager, spec, true).unwrap();
        self
    }

    fn refused(&mut self, manager: &str, spec: Value) -> ApplyError {
        self.apply_with(manager, spec, false).unwrap_err()
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        self.second += 1;
        let mut new = self.live.clone().unwrap_or_else(|| object(json!({})));
        change(&mut new);
        track_update(&schema(), self.live.as_ref(), &mut new, manager, None, at(self.second));
        new["metadata"]["uid"] = "1".into();
        self.live = Some(new);
        self
    }

    fn live(&self) -> Value {
        self.live.clone().unwrap()
    }

    fn spec(&self) -> Value {
        self.live()["spec"].clone()
    }

    /// Managers with operation, second and fields.
    fn managers(&self) -> String {
        let entries = self.live()["metadata"]["managedFields"].clone();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let entries = entries.iter().map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let second = text("time").parse::<Timestamp>().map_or(-1, Timestamp::as_second);
            format!("{} {} {second} {}\n", text("manager"), text("operation"), entry["fieldsV1"])
        });
        entries.collect()
    }
}

#[test]
fn an_apply_creates_and_remembers_what_it_set() {
    let mut story = Story::new();
    story.apply(
        "a",
        json!({"replicas": 1, "labels": {"x": "y"}, "pools": [{"name": "p", "size": 2}], "tags": ["t"],
        "args": ["1", "2"], "whole": {"k": "v"}}),
    );
    assert_snapshot!(story.managers(), @r#"a Apply 1 {"f:spec":{"f:args":{},"f:labels":{"f:x":{}},"f:pools":{"k:{\"name\":\"p\"}":{".":{},"f:name":{},"f:size":{}}},"f:replicas":{},"f:tags":{"v:\"t\"":{}},"f:whole":{}}}"#);
}

#[test]
fn applying_the_same_again_changes_nothing_at_all() {
    let mut story = Story::new();
    let spec = json!({"replicas": 1, "pools": [{"name": "p", "size": 2}], "free": {"a": {"b": [1, {"c": 2}]}}});
    let before = story.apply("a", spec.clone()).live();
    assert_eq!(story.apply("a", spec).live(), before);
}

#[test]
fn a_field_left_out_goes_when_nobody_else_has_it() {
    let mut story = Story::new();
    story.apply("a", json!({"replicas": 1, "mode": "x", "labels": {"one": "1", "two": "2"}}));
    story.apply("b", json!({"mode": "x"}));
    story.apply("a", json!({"labels": {"one": "1"}}));
    assert_eq!(story.spec(), json!({"mode": "x", "labels": {"one": "1"}}));
}

#[test]
fn what_others_changed_conflicts_until_forced() {
    let mut story = Story::new();
    story.apply("a", json!({"replicas": 1, "pools": [{"name": "p", "size": 1}]}));
    story.update("kubectl-edit", |new| new["spec"]["mode"] = "x".into());
    let error = story.refused("b", json!({"replicas": 2}));
    assert_snapshot!(error, @r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#);
    let error = story.refused("b", json!({"replicas": 2, "mode": "y", "pools": [{"name": "p", "size": 2}]}));
    assert_snapshot!(error, @r#"
    Apply failed with 3 conflicts: conflicts with "a":
    - .spec.pools[name="p"].size
    - .spec.replicas
    conflicts with "kubectl-edit" using a.dev/v1:
    - .spec.mode
    "#);
    assert_eq!(error.causes().len(), 3);
    assert_eq!(error.causes()[0].reason, "FieldManagerConflict");
    story.force("b", json!({"replicas": 2}));
    assert_eq!(story.spec()["replicas"], 2);
    assert_snapshot!(story.managers(), @r#"
    a Apply 1 {"f:spec":{"f:pools":{"k:{\"name\":\"p\"}":{".":{},"f:name":{},"f:size":{}}}}}
    b Apply 5 {"f:spec":{"f:replicas":{}}}
    kubectl-edit Update 2 {"f:spec":{"f:mode":{}}}
    "#);
}

#[test]
fn items_of_a_keyed_list_are_owned_one_by_one() {
    let mut story = Story::new();
    story.apply("a", json!({"pools": [{"name": "p", "size": 1}, {"name": "q", "size": 1}]}));
    story.apply("b", json!({"pools": [{"name": "r", "size": 3}, {"name": "p", "zone": "z"}]}));
    story.apply("a", json!({"pools": [{"name": "q", "size": 1}]}));
    // `p` stays with `b`, without the size that was `a`'s.
    assert_eq!(
        story.spec(),
        json!({"pools": [{"name": "r", "size": 3}, {"name": "p", "zone": "z"}, {"name": "q", "size": 1}]})
    );
}

#[test]
fn keys_that_are_left_out_count_with_their_default() {
    let mut story = Story::new();
    story.apply("a", json!({"ports": [{"port": 80, "name": "web"}]}));
    story.apply(
        "b",
        json!({"ports": [{"port": 80, "protocol": "TCP", "name": "web"}, {"port": 80, "protocol": "UDP"}]}),
    );
    assert_eq!(story.spec()["ports"].as_array().unwrap().len(), 2);
}

#[test]
fn an_update_takes_what_it_changes_and_no_more() {
    let mut story = Story::new();
    story.apply("a", json!({"replicas": 1, "mode": "x"}));
    story.update("edit", |new| new["spec"]["replicas"] = 2.into());
    assert_snapshot!(story.managers(), @r#"
    a Apply 1 {"f:spec":{"f:mode":{}}}
    edit Update 2 {"f:spec":{"f:replicas":{}}}
    "#);
    let before = story.live();
    story.update("edit", |_| {});
    assert_eq!(story.live(), before);
}

#[test]
fn an_object_without_managed_fields_is_tracked_from_the_first_apply() {
    let mut story = Story::new();
    story.live = Some(json!({"apiVersion": "a.dev/v1", "kind": "A", "metadata": {"name": "x", "uid": "1"},
        "spec": {"replicas": 1, "mode": "x"}}));
    story.update("edit", |new| new["spec"]["mode"] = "y".into());
    assert_eq!(story.managers(), "");
    assert_snapshot!(story.refused("a", json!({"replicas": 2})), @r#"Apply failed with 1 conflict: conflict with "before-first-apply" using a.dev/v1: .spec.replicas"#);
    story.apply("a", json!({"replicas": 1}));
    assert_snapshot!(story.managers(), @r#"
    a Apply 3 {"f:spec":{"f:replicas":{}}}
    before-first-apply Update 3 {"f:spec":{".":{},"f:mode":{},"f:replicas":{}}}
    "#);
}

#[test]
fn managed_fields_can_be_reset_but_not_lost() {
    let mut story = Story::new();
    story.apply("a", json!({"replicas": 1}));
    story.update("edit", |new| new["metadata"]["managedFields"] = Value::Null);
    assert!(story.managers().contains("a Apply"));
    story.update("edit", |new| new["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(story.managers(), "");
}

#[test]
fn the_oldest_updates_are_merged() {
    let mut story = Story::new();
    story.apply("a", json!({"replicas": 1}));
    for index in 0..14 {
        let name = format!("u{index}");
        story.update(&name.clone(), move |new| new["spec"]["labels"][name] = "x".into());
    }
    let managers = story.managers();
    assert_eq!(managers.lines().count(), 11, "{managers}");
    assert_snapshot!(managers.lines().nth(1).unwrap(), @r#"ancient-changes Update 6 {"f:spec":{"f:labels":{".":{},"f:u0":{},"f:u1":{},"f:u2":{},"f:u3":{},"f:u4":{}}}}"#);
}

#[test]
fn status_has_managers_of_its_own() {
    let schema = schema();
    let live = apply(&schema, None, &object(json!({"replicas": 1})), "a", false, None, at(1)).unwrap();
    let status = json!({"apiVersion": "a.dev/v1", "kind": "A", "metadata": {"name": "x", "labels": {"no": "no"}},
        "spec": {"replicas": 9}, "status": {"ready": 1, "conditions": [{"type": "Ready", "status": "True"}]}});
    let live = apply(&schema, Some(&live), &status, "a", false, Some("status"), at(2)).unwrap();
    assert_eq!(live["spec"], json!({"replicas": 1}));
    assert_eq!(live["status"], status["status"]);
    assert!(live["metadata"].get("labels").is_none());
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    let same = apply(&schema, Some(&live), &status, "a", false, Some("status"), at(3)).unwrap();
    assert_eq!(same, live);
    let less = json!({"apiVersion": "a.dev/v1", "kind": "A", "metadata": {"name": "x"}, "status": {"ready": 1}});
    let live = apply(&schema, Some(&live), &less, "a", false, Some("status"), at(4)).unwrap();
    assert_eq!(live["status"], json!({"ready": 1}));
}

#[test]
fn a_configuration_of_the_wrong_type_is_refused() {
    let mut story = Story::new();
    let error = story.refused("a", json!({"replicas": "1", "mod": "x", "pools": [{"size": 1}], "tags": ["a", "a"]}));
    assert_snapshot!(error, @r#"
    failed to create typed patch object (/x; a.dev/v1, Kind=A): .spec.mod: field not declared in schema
    .spec.pools: element 0: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)
    .spec.replicas: expected numeric (int or float), got "1"
    .spec.tags: duplicate entries for key [="a"]
    "#);
    let config = json!({"apiVersion": "a.dev/v1", "kind": "A", "metadata": {"name": "x", "managedFields": []}});
    assert_eq!(apply(&schema(), None, &config, "a", false, None, at(1)), Err(ApplyError::ManagedFields));
}

#[test]
fn what_the_server_sets_is_never_applied() {
    let mut story = Story::new();
    story.apply("a", json!({"replicas": 1}));
    let config = json!({"apiVersion": "a.dev/v1", "kind": "A", "metadata": {"name": "x", "uid": "9",
        "resourceVersion": "7", "generation": 4, "creationTimestamp": null, "finalizers": ["a/b"]}});
    let new = apply(&schema(), story.live.as_ref(), &config, "b", false, None, at(2)).unwrap();
    assert_eq!(new["metadata"]["uid"], "1");
    assert!(new["metadata"].get("generation").is_none() && new["metadata"].get("creationTimestamp").is_none());
    assert_eq!(new["metadata"]["finalizers"], json!(["a/b"]));
}

#[test]
fn kubectl_moves_from_client_side_to_server_side_without_conflict() {
    let annotation = object(json!({"replicas": 1})).to_string();
    let mut live = object(json!({"replicas": 1, "mode": "x"}));
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": annotation});
    track_update(&schema(), None, &mut live, "kubectl-client-side-apply", None, at(1));
    live["metadata"]["uid"] = "1".into();
    let mut config = object(json!({"replicas": 2}));
    assert!(apply(&schema(), Some(&live), &config, "other", false, None, at(2)).is_err());
    let new = apply(&schema(), Some(&live), &config, "kubectl", false, None, at(2)).unwrap();
    assert_eq!(new["spec"], json!({"replicas": 2, "mode": "x"}));
    let text = new["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["spec"]["replicas"], 2);
    config["spec"]["mode"] = "y".into();
    assert!(apply(&schema(), Some(&live), &config, "kubectl", false, None, at(2)).is_err());
}

fn spec() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["a", "b", "c"]);
    let pool = (text(), prop::option::of(0..3), prop::option::of(text()))
        .prop_map(|(name, size, zone)| (name, json!({"name": name, "size": size, "zone": zone})));
    let port = (80..82, prop::option::of(prop::sample::select(vec!["TCP", "UDP"])), prop::option::of(text()))
        .prop_map(|(port, protocol, name)| json!({"port": port, "protocol": protocol, "name": name}));
    let free = prop_oneof![
        text().prop_map(|text| json!({"t": text})),
        (0..2).prop_map(|number| json!({"t": {"n": number}})),
        prop::collection::vec(0..2, 0..2).prop_map(|numbers| json!({"t": numbers, "u": {}})),
    ];
    let labels = || prop::collection::btree_map(text(), text(), 0..3);
    (
        prop::option::of(0..3),
        prop::option::of(text()),
        prop::option::of(labels()),
        prop::option::of(labels()),
        prop::option::of(prop::collection::vec(text(), 0..3)),
        prop::option::of(prop::sample::subsequence(vec!["a", "b", "c"], 0..3).prop_shuffle()),
        prop::option::of(prop::collection::vec(pool, 0..4)),
        prop::option::of(prop::collection::vec(port, 0..3)),
        prop::option::of(free),
    )
        .prop_map(|(replicas, mode, labels, whole, args, tags, pools, ports, free)| {
            let unique = |pools: Vec<(&str, Value)>| {
                let mut seen = std::collections::BTreeSet::new();
                pools.into_iter().filter(|(name, _)| seen.insert(*name)).map(|(_, pool)| pool).collect::<Vec<_>>()
            };
            let mut ports: Option<Vec<Value>> = ports;
            if let Some(ports) = &mut ports {
                let mut seen = std::collections::BTreeSet::new();
                ports.retain(|port| {
                    seen.insert(format!("{}{}", port["port"], port["protocol"].as_str().unwrap_or("TCP")))
                });
            }
            let mut spec = json!({"replicas": replicas, "mode": mode, "labels": labels, "whole": whole, "args": args,
                "tags": tags, "pools": pools.map(unique), "ports": ports, "free": free});
            without_nulls(&mut spec);
            spec
        })
}

/// A spec without empty lists and maps: those have no members, so nobody owns them (as in Kubernetes).
fn full_spec() -> impl Strategy<Value = Value> {
    spec().prop_map(|mut spec| {
        without_empty(&mut spec);
        spec
    })
}

fn without_empty(value: &mut Value) {
    let empty =
        |value: &Value| value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(without_empty);
        fields.retain(|_, field| !empty(field));
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in full_spec(), other in full_spec(), again in full_spec()) {
        let mut story = Story::new();
        story.apply("a", first).force("b", other).force("a", again.clone());
        let before = story.live();
        prop_assert_eq!(story.force("a", again).live(), before);
    }

    #[test]
    fn an_apply_sets_what_it_says(first in spec(), other in full_spec()) {
        let mut story = Story::new();
        story.apply("a", first).force("b", other.clone());
        let schema = schema();
        let live = story.live();
        let merged = merge::merge(Type::root(&schema), Some(&live), Some(&object(other))).unwrap();
        prop_assert!(compare::equal(&merged, &live), "{merged} {live}");
    }

    #[test]
    fn a_sole_owner_that_applies_nothing_leaves_nothing(first in full_spec()) {
        let mut story = Story::new();
        story.apply("a", first).apply("a", json!({}));
        let mut left = story.spec();
        without_nulls(&mut left);
        prop_assert!(left.is_null() || left == json!({}), "{left}");
    }

    #[test]
    fn what_two_own_stays_until_both_let_go(shared in full_spec()) {
        let mut story = Story::new();
        story.apply("a", shared.clone()).apply("b", shared);
        let both = story.spec();
        story.apply("a", json!({}));
        prop_assert_eq!(story.spec(), both);
    }

    #[test]
    fn managers_of_different_fields_never_conflict(first in full_spec(), second in full_spec()) {
        let part = |spec: &Value, names: &[&str]| {
            let fields = spec.as_object().unwrap().clone();
            Value::Object(fields.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect())
        };
        let first = part(&first, &["replicas", "labels", "pools", "free"]);
        let second = part(&second, &["mode", "whole", "args", "tags", "ports"]);
        let mut story = Story::new();
        story.apply("a", first.clone()).apply("b", second.clone());
        let empty = json!({});
        prop_assert!(story.apply_with("a", empty, false).is_ok());
        prop_assert!(story.apply_with("a", first, false).is_ok());
        let empty = json!({});
        prop_assert!(story.apply_with("b", empty, false).is_ok());
    }

    #[test]
    fn fields_survive_their_form_on_the_wire(first in spec()) {
        let of = schema();
        let set = fields::fields_of(Type::root(&of), &object(first));
        prop_assert_eq!(set::Set::from_fields(&set.clone().into_fields()), set);
    }

    #[test]
    fn every_field_changed_by_an_update_is_its_managers(first in spec(), second in spec()) {
        let mut story = Story::new();
        story.apply("a", first).update("u", |new| new["spec"] = second.clone());
        story.update("v", |_| {});
        prop_assert!(!story.managers().contains("v Update"));
    }
}
