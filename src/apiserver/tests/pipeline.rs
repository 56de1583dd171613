//! Schema, ownership, admission and forms of answers, through the whole server.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::{Value, json};

use super::support::*;
use crate::apiserver::admission::{Admission, Admitted, Denied, Draft, Operation, Request};
use crate::apiserver::kind::FieldFault;
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, Tenant};

const GARDENS: &str = "/apis/example.dev/v1/gardens";

fn body(name: &str) -> Value {
    json!({ "apiVersion": "example.dev/v1", "kind": "Garden", "metadata": { "name": name }, "spec": { "trees": 1 } })
}

#[tokio::test(start_paused = true)]
async fn an_object_that_breaks_its_schema_is_refused_with_each_fault() {
    let server = server();
    let tenant = server.tenant("a");
    let mut wrong = body("Upper");
    wrong["spec"] = json!({ "trees": -1, "soil": 5 });
    let (code, status) = call(&tenant, "POST", GARDENS, wrong).await;
    assert_eq!((code, &status["reason"], &status["details"]["kind"]), (422, &json!("Invalid"), &json!("Garden")));
    let fields: Vec<_> = status["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert!(fields.contains(&json!("spec.trees")) && fields.contains(&json!("spec.soil")), "{status}");
    let (code, status) = call(&tenant, "POST", GARDENS, body("Upper")).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("metadata.name")));
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_refused_warned_of_or_dropped_as_asked() {
    let server = server();
    let tenant = server.tenant("a");
    let mut typo = body("g");
    typo["spec"]["treez"] = json!(1);
    let (code, status) = call(&tenant, "POST", &format!("{GARDENS}?fieldValidation=Strict"), typo.clone()).await;
    assert_eq!(code, 400);
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @r#"Garden in version "v1" cannot be handled as a Garden: strict decoding error: unknown field "spec.treez""#);
    let request = http::Request::post(GARDENS).header("content-type", "application/json");
    let answer = tenant.handle(&User::named("t"), request.body(Bytes::from(typo.to_string())).unwrap()).await;
    assert_eq!(answer.headers()["warning"], r#"299 - "unknown field \"spec.treez\"""#);
    let made = get(&tenant, &format!("{GARDENS}/g")).await.unwrap();
    assert_eq!(made["spec"], json!({ "trees": 1 }));
    let twice = Bytes::from(r#"{"metadata":{"name":"h"},"spec":{"trees":1,"trees":2}}"#);
    let request = http::Request::post(format!("{GARDENS}?fieldValidation=Strict")).body(twice).unwrap();
    assert_eq!(tenant.handle(&User::named("t"), request).await.status(), 400);
    let patch = json!({ "spec": { "treez": 3 } });
    let (code, _) = call(&tenant, "PATCH", &format!("{GARDENS}/g?fieldValidation=Strict"), patch).await;
    assert_eq!(code, 422);
}

#[tokio::test(start_paused = true)]
async fn applies_own_their_fields_and_conflict_with_other_owners() {
    let server = server();
    let api = gardens(&server.tenant("a"));
    let config = |trees: u32| {
        Patch::Apply(json!({
            "apiVersion": "example.dev/v1", "kind": "Garden", "metadata": { "name": "g" }, "spec": { "trees": trees, "soil": "clay" },
        }))
    };
    let made = api.patch("g", &PatchParams::apply("files"), &config(1)).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let again = api.patch("g", &PatchParams::apply("files"), &config(1)).await.unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version, "nothing changed");
    let Err(kube::Error::Api(conflict)) = api.patch("g", &PatchParams::apply("other"), &config(2)).await else {
        panic!("a conflict is expected")
    };
    insta::assert_snapshot!(conflict.message, @r#"Apply failed with 1 conflict: conflict with "files": .spec.trees"#);
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    let forced = api.patch("g", &PatchParams::apply("other").force(), &config(2)).await.unwrap();
    assert_eq!((forced.spec.trees, forced.metadata.generation), (2, Some(2)));
    let less = Patch::Apply(json!({
        "apiVersion": "example.dev/v1", "kind": "Garden", "metadata": { "name": "g" }, "spec": { "trees": 2 },
    }));
    api.patch("g", &PatchParams::apply("other"), &less).await.unwrap();
    let left = api.patch("g", &PatchParams::apply("files").force(), &less).await.unwrap();
    assert_eq!(left.spec.soil, None, "what no configuration names any more is gone");
    let status = Patch::Apply(json!({
        "apiVersion": "example.dev/v1", "kind": "Garden", "status": { "phase": "Green" },
    }));
    let after = api.patch_status("g", &PatchParams::apply("controller"), &status).await.unwrap();
    assert_eq!((after.status.unwrap().phase.as_str(), after.metadata.generation), ("Green", left.metadata.generation));
}

#[tokio::test(start_paused = true)]
async fn an_apply_has_to_name_manager_kind_and_object() {
    let server = server();
    let tenant = server.tenant("a");
    let apply = async |path: &str, config: Value| {
        call_as(&tenant, "PATCH", path, "application/apply-patch+yaml", config).await.0
    };
    assert_eq!(apply(&format!("{GARDENS}/g"), body("g")).await, 422);
    assert_eq!(apply(&format!("{GARDENS}/g?fieldManager=m"), body("h")).await, 400);
    assert_eq!(apply(&format!("{GARDENS}/g?fieldManager=m"), json!({ "spec": {} })).await, 400);
    let mut with_uid = body("g");
    with_uid["metadata"]["uid"] = json!("u");
    assert_eq!(apply(&format!("{GARDENS}/g?fieldManager=m"), with_uid).await, 409);
    assert_eq!(apply(&format!("{GARDENS}/g/status?fieldManager=m"), body("g")).await, 404);
    assert_eq!(apply(&format!("{GARDENS}/g?fieldManager=m&dryRun=All"), body("g")).await, 201);
    assert_eq!(apply(&format!("{GARDENS}/g?fieldManager=m"), body("g")).await, 201);
    let merge = format!("{GARDENS}/g?force=true");
    assert_eq!(call(&tenant, "PATCH", &merge, json!({})).await.0, 422, "only an apply can be forced");
}

/// Refuses to delete what is protected, sets the soil, warns of many trees.
struct Keeper;

impl Admission for Keeper {
    fn admit(&self, request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied> {
        if request.operation == Operation::Delete && object["metadata"]["labels"]["protect"] == "true" {
            let message = "it is protected".to_owned();
            return Err(Denied::Forbidden { message, causes: Vec::new() });
        }
        if request.reader.list(request.resource).len() > 2 && request.operation == Operation::Create {
            return Err(Denied::Conflict { message: "there are enough".to_owned() });
        }
        if object["spec"]["soil"].is_null() {
            object["spec"]["soil"] = json!("loam");
        }
        let many = object["spec"]["trees"].as_u64() > Some(100);
        Ok(Admitted { warnings: if many { vec!["that is a forest".to_owned()] } else { Vec::new() } })
    }
}

fn kept() -> ApiServer {
    let validation = |object: &Value| {
        let fault =
            FieldFault { field: "spec.trees".into(), reason: "FieldValueInvalid", message: "13 is not allowed".into() };
        if object["spec"]["trees"] == 13 { vec![fault] } else { Vec::new() }
    };
    let kind = garden().with_admission(Arc::new(Keeper)).with_validation(Arc::new(validation));
    let world = crate::world::World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
    let store = crate::apiserver::store::RedbStore::in_memory("s").unwrap();
    ApiServer::builder(store, world.clock, world.random).kind(kind).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn admission_completes_warns_and_refuses_inside_the_write() {
    let server = kept();
    let tenant = server.tenant("a");
    let mut protected = body("g");
    protected["metadata"]["labels"] = json!({ "protect": "true" });
    let (_, made) = call(&tenant, "POST", GARDENS, protected).await;
    assert_eq!(made["spec"]["soil"], "loam");
    let (code, status) = call(&tenant, "DELETE", &format!("{GARDENS}/g"), json!(null)).await;
    assert_eq!(code, 403);
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @r#"gardens.example.dev "g" is forbidden: it is protected"#);
    let patch = json!({ "spec": { "trees": 13 } });
    let (code, status) = call(&tenant, "PATCH", &format!("{GARDENS}/g"), patch).await;
    assert_eq!(code, 422);
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @r#"Garden.example.dev "g" is invalid: spec.trees: 13 is not allowed"#);
    // Operations of one batch see each other's writes.
    let (h, i, j) = tokio::join!(
        call(&tenant, "POST", GARDENS, body("h")),
        call(&tenant, "POST", GARDENS, body("i")),
        call(&tenant, "POST", GARDENS, body("j")),
    );
    assert_eq!((h.0, i.0, j.0), (201, 201, 409));
}

async fn with_accept(tenant: &Tenant, path: &str, accept: &str) -> String {
    let request = http::Request::get(path).header("accept", accept).body(Bytes::new()).unwrap();
    let answer = tenant.handle(&User::named("t"), request).await;
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn tables_and_metadata_are_served_for_objects_lists_and_watches() {
    let server = server();
    let tenant = server.tenant("a");
    for name in ["x", "y"] {
        call(&tenant, "POST", GARDENS, body(name)).await;
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let list: Value = serde_json::from_str(&with_accept(&tenant, GARDENS, table).await).unwrap();
    assert_eq!((&list["kind"], list["rows"].as_array().unwrap().len()), (&json!("Table"), 2));
    assert_eq!((&list["rows"][0]["cells"][0], &list["metadata"]["resourceVersion"]), (&json!("x"), &json!("3")));
    let watch = format!("{GARDENS}?watch=1&timeoutSeconds=1");
    let lines = with_accept(&tenant, &watch, table).await;
    let headers: Vec<usize> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["object"]["columnDefinitions"].as_array().unwrap().len())
        .collect();
    assert!(headers[0] > 0 && headers[1] == 0, "{headers:?}");
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list: Value = serde_json::from_str(&with_accept(&tenant, GARDENS, metadata).await).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][1]["metadata"]["name"]),
        (&json!("PartialObjectMetadataList"), &json!("y"))
    );
    assert!(list["items"][1]["spec"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_stock_recorder_publishes_events_that_both_groups_show() {
    let server = builder().kinds(crate::apiserver::core::control()).build().unwrap();
    let tenant = server.tenant("a");
    let namespace = json!({ "metadata": { "name": "default" } });
    call(&tenant, "POST", "/api/v1/namespaces", namespace).await;
    let api = gardens(&tenant);
    let garden = api.create(&PostParams::default(), &Garden::new("g", trees(1))).await.unwrap();
    let recorder = Recorder::new(tenant.client(User::named("c")), Reporter { controller: "c".into(), instance: None });
    let event = Event {
        type_: EventType::Normal,
        reason: "Planted".into(),
        note: Some("one tree".into()),
        action: "Plant".into(),
        secondary: None,
    };
    let about = kube::Resource::object_ref(&garden, &());
    recorder.publish(&event, &about).await.unwrap();
    recorder.publish(&event, &about).await.unwrap();
    let core = get(&tenant, "/api/v1/events?fieldSelector=involvedObject.name%3Dg").await.unwrap();
    let event = &core["items"][0];
    assert_eq!((&event["message"], &event["involvedObject"]["kind"]), (&json!("one tree"), &json!("Garden")));
    assert_eq!((&event["apiVersion"], core["items"].as_array().unwrap().len()), (&json!("v1"), 1));
    let group = get(&tenant, "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dg").await.unwrap();
    let event = &group["items"][0];
    assert_eq!((&event["note"], &event["series"]["count"]), (&json!("one tree"), &json!(2)));
    assert_eq!(event["apiVersion"], "events.k8s.io/v1");
    let lines = watch_lines(&tenant, "/apis/events.k8s.io/v1/events?watch=1&resourceVersion=1&timeoutSeconds=1").await;
    assert_eq!(lines.iter().map(|line| line["object"]["note"].clone()).collect::<Vec<_>>(), ["one tree", "one tree"]);
}
