use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn schema() -> Schema {
    Schema::of(json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["mode"], "properties": {
            "mode": {"type": "string", "enum": ["Fast", "Slow"]},
            "replicas": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 5, "default": 1},
            "size": {"type": "object", "default": {}, "properties": {
                "cpus": {"type": "integer", "default": 2},
                "memory": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            }},
            "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
            "when": {"type": "string", "format": "date-time", "nullable": true},
            "pools": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "weight": {"type": "integer", "default": 7}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {}}}},
            "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}))
}

fn told(object: &Value) -> String {
    let faults = validate(&schema(), object);
    faults.iter().map(|fault| format!("{}: {}\n", fault.field, fault.message)).collect()
}

#[test]
fn faults_read_as_those_of_kubernetes() {
    let object = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x", "labels": {"a": 1}}, "spec": {
        "replicas": 0, "mode": "Odd", "name": "ABCDE", "when": "yesterday", "size": {"cpus": "two", "memory": true},
        "pools": [{"name": "a"}, {"name": "a"}, {"weight": 1}], "tags": ["x", "x"], "labels": {"k": 1},
        "either": {"a": "1", "b": "2"}, "template": {"metadata": {"name": 3}},
    }});
    assert_snapshot!(told(&object), @r#"
    metadata.labels.a: Invalid value: "integer": metadata.labels.a in body must be of type string: "integer"
    spec.either: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives
    spec.labels.k: Invalid value: "integer": spec.labels.k in body must be of type string: "integer"
    spec.mode: Unsupported value: "Odd": supported values: "Fast", "Slow"
    spec.name: Too long: may not be more than 4 bytes
    spec.name: Invalid value: "ABCDE": spec.name in body should match '^[a-z]+$'
    spec.pools: Too many: 3: must have at most 2 items
    spec.pools[2].name: Required value
    spec.pools[1]: Duplicate value: {"name":"a"}
    spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1
    spec.size.cpus: Invalid value: "string": spec.size.cpus in body must be of type integer: "string"
    spec.size.memory: Invalid value: "boolean": spec.size.memory in body must be of type integer,string: "boolean"
    spec.tags[1]: Duplicate value: "x"
    spec.template.metadata.name: Invalid value: "integer": spec.template.metadata.name in body must be of type string: "integer"
    spec.when: Invalid value: "yesterday": spec.when in body must be of type date-time: "yesterday"
    "#);
}

#[test]
fn a_missing_required_field_is_named() {
    assert_snapshot!(told(&json!({"metadata": {}})), @"spec: Required value");
    assert_snapshot!(told(&json!({"metadata": {}, "spec": {"either": {}}})), @r#"
    spec.mode: Required value
    spec.either: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found none valid
    spec.either.a: Required value
    "#);
}

#[test]
fn null_is_a_value_only_where_it_is_allowed() {
    assert_snapshot!(told(&json!({"spec": {"mode": "Fast", "when": null}})), @"");
    assert_snapshot!(told(&json!({"spec": {"mode": "Fast", "name": null}})), @r#"spec.name: Invalid value: "null": spec.name in body must be of type string: "null""#);
}

#[test]
fn an_integer_out_of_its_format_is_refused() {
    assert_snapshot!(told(&json!({"spec": {"mode": "Fast", "replicas": 4_294_967_296_i64}})), @r#"
    spec.replicas: Invalid value: "integer": spec.replicas in body must be of type int32: "integer"
    spec.replicas: Invalid value: 4294967296: spec.replicas in body should be less than or equal to 5
    "#);
}

#[test]
fn pruning_removes_what_the_schema_does_not_name() {
    let mut object = json!({"apiVersion": "a/v1", "kind": "A", "extra": 1, "metadata": {"name": "x", "typo": 1},
        "spec": {"mode": "Fast", "mod": "x", "pools": [{"name": "a", "x": 1}], "labels": {"any": "thing"},
            "free": {"any": {"thing": 1}, "known": {"unknown": 1}},
            "template": {"apiVersion": "v1", "kind": "P", "metadata": {"name": "t", "typo": 1}, "data": 1}},
        "status": {"any": 1}});
    let unknown = unknown_fields(&schema(), &object);
    assert_eq!(
        unknown,
        [
            "extra",
            "metadata.typo",
            "spec.free.known.unknown",
            "spec.mod",
            "spec.pools[0].x",
            "spec.template.metadata.typo"
        ]
    );
    prune(&schema(), &mut object);
    assert_eq!(
        object,
        json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"},
            "spec": {"mode": "Fast", "pools": [{"name": "a"}], "labels": {"any": "thing"},
                "free": {"any": {"thing": 1}, "known": {}},
                "template": {"apiVersion": "v1", "kind": "P", "metadata": {"name": "t"}, "data": 1}},
            "status": {"any": 1}})
    );
    assert_eq!(unknown_fields(&schema(), &object), Vec::<String>::new());
}

#[test]
fn defaults_fill_what_is_missing_below_what_is_there() {
    let mut object = json!({"spec": {"replicas": null, "when": null, "name": null, "pools": [{"name": "a"}]}});
    default(&schema(), &mut object);
    assert_eq!(
        object,
        json!({"spec": {"replicas": 1, "when": null, "size": {"cpus": 2}, "pools": [{"name": "a", "weight": 7}]}})
    );
    let mut without = json!({"metadata": {}});
    default(&schema(), &mut without);
    assert_eq!(without, json!({"metadata": {}}));
}

#[test]
fn a_key_that_stands_twice_is_found_at_any_depth() {
    let body = br#"{"a":1,"spec":{"x":[{"y":1,"y":2},{"y":1}],"z":1,"z":2,"z":3},"a":{"b":1,"b":1}}"#;
    assert_eq!(duplicate_fields(body), ["spec.x[0].y", "spec.z", "a"]);
    assert_eq!(duplicate_fields(br#"{"a":{"a":1},"b":[1,1.5,null,true,"x",-1]}"#), Vec::<String>::new());
}

#[test]
fn rules_that_are_not_enforced_are_told() {
    assert_eq!(unsupported(schema().document()), Vec::<String>::new());
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [], "properties": {
            "x": {"$ref": "#/x"}, "properties": {"type": "string", "pattern": "("}, "l": {"type": "array",
                "items": {"type": "string", "uniqueItems": true}}}}}});
    assert_eq!(
        unsupported(&schema),
        ["spec.l[]: uniqueItems", "spec.properties: pattern (", "spec.x: $ref", "spec: x-kubernetes-validations"]
    );
}

#[test]
fn formats_accept_what_go_accepts() {
    for (format, good, bad) in [
        ("date-time", "2024-02-29T10:00:00.5+02:00", "2024-02-30T10:00:00Z"),
        ("date-time", "2024-02-29T10:00:00Z", "2024-02-29 10:00:00Z"),
        ("duration", "1h30m", "1 hour"),
        ("duration", "1.5ms", "1"),
        ("duration", "0", ""),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("cidr", "fd00::/64", "fd00::"),
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("byte", "aGk=", "a!"),
        ("made-up", "anything", ""),
    ] {
        let check = |text: &str| {
            let schema = Schema::of(json!({"properties": {"x": {"type": "string", "format": format}}}));
            validate(&schema, &json!({"x": text})).is_empty()
        };
        assert!(check(good), "{format} accepts {good}");
        assert!(!check(bad) || format == "made-up", "{format} refuses {bad}");
    }
}

fn kind(scope: crate::apiserver::kind::Scope) -> crate::apiserver::kind::Kind {
    use crate::apiserver::kind::{Flavor, Kind, ResourceId};
    Kind {
        resource: ResourceId { group: "a.dev".into(), version: "v1".into(), plural: "as".into() },
        kind: "A".into(),
        singular: "a".into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        flavor: Flavor::Custom,
        schema: std::sync::Arc::new(schema()),
        has_status: true,
        columns: Vec::new(),
        printer: None,
        selectable_fields: Vec::new(),
        admission: Vec::new(),
        validation: None,
        stored_as: None,
        ttl: None,
        grace: None,
        status_on_create: false,
        first_status: None,
        returns_deleted: false,
        view: None,
        scale: None,
        evictable: false,
        answer: None,
    }
}

#[test]
fn metadata_follows_the_rules_of_kubernetes() {
    use crate::apiserver::kind::Scope;
    let fields = |scope, metadata: Value| -> Vec<String> {
        let faults = validate_metadata(&kind(scope), &json!({"metadata": metadata}));
        faults.into_iter().map(|fault| fault.field).collect()
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(fields(Scope::Cluster, json!({"name": "a.b-c"})), none);
    assert_eq!(
        fields(Scope::Cluster, json!({"name": "A_b", "namespace": "x"})),
        ["metadata.name", "metadata.namespace"]
    );
    assert_eq!(fields(Scope::Namespaced, json!({})), ["metadata.name", "metadata.namespace"]);
    let wrong = json!({"name": "a", "labels": {"k/": "v", "k": "-"}, "annotations": {"Ok/Key": "any thing", "a b": ""},
        "finalizers": ["a.dev/ok", "orphan", "nope"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "", "controller": true},
            {"apiVersion": "v1", "kind": "K", "name": "m", "uid": "2", "controller": true}]});
    assert_eq!(
        fields(Scope::Cluster, wrong),
        [
            "metadata.labels",
            "metadata.labels",
            "metadata.annotations",
            "metadata.ownerReferences[0].uid",
            "metadata.ownerReferences",
            "metadata.finalizers[2]"
        ]
    );
    let large = json!({"name": "a", "annotations": {"k": "x".repeat(256 * 1024)}});
    assert_eq!(fields(Scope::Cluster, large), ["metadata.annotations"]);
}

#[test]
fn no_finalizer_is_added_to_what_is_being_deleted() {
    let old = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "t", "finalizers": ["a/a", "a/b"]}});
    let fewer = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "t", "finalizers": ["a/b"]}});
    assert!(validate_metadata_update(&old, &fewer).is_empty());
    let more = json!({"metadata": {"name": "a", "uid": "2", "deletionTimestamp": "t", "finalizers": ["a/b", "a/c"]}});
    let faults = validate_metadata_update(&old, &more);
    let told: String = faults.iter().map(|fault| format!("{}: {}\n", fault.field, fault.message)).collect();
    assert_snapshot!(told, @r#"
    metadata.uid: Invalid value: "2": field is immutable
    metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"a/c"}
    "#);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,5}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("spec"),
        Just("status"),
        Just("metadata"),
        Just("pools"),
        Just("name"),
        Just("size"),
        Just("free"),
        Just("template"),
        Just("known"),
        Just("other"),
        Just("labels"),
        Just("when"),
        Just("kind"),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(String::from), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_settle_at_once(object in any_json()) {
        let schema = schema();
        let mut once = object;
        prune(&schema, &mut once);
        default(&schema, &mut once);
        prop_assert!(unknown_fields(&schema, &once).is_empty());
        let mut twice = once.clone();
        prune(&schema, &mut twice);
        default(&schema, &mut twice);
        prop_assert_eq!(&once, &twice);
        let _ = validate(&schema, &once);
    }
}
