//! Single requests.

use futures::StreamExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::json;

use super::support::*;
use crate::apiserver::user::User;

const GARDENS: &str = "/apis/example.dev/v1/gardens";

fn body(name: &str, trees: u32) -> serde_json::Value {
    json!({ "apiVersion": "example.dev/v1", "kind": "Garden", "metadata": { "name": name }, "spec": { "trees": trees } })
}

#[tokio::test(start_paused = true)]
async fn an_object_is_made_read_changed_and_deleted() {
    let server = server();
    let api = gardens(&server.tenant("a"));
    let made = api.create(&PostParams::default(), &Garden::new("g", trees(1))).await.unwrap();
    assert_eq!(made.metadata.resource_version.as_deref(), Some("2"));
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(made.metadata.uid.as_ref().map(String::len), Some(36));
    assert_eq!(made.metadata.creation_timestamp.as_ref().unwrap().0.to_string(), "2026-01-01T00:00:00Z");

    let mut changed = made.clone();
    changed.spec.trees = 2;
    changed.status = Some(GardenStatus { phase: "ignored".into() });
    let changed = api.replace("g", &PostParams::default(), &changed).await.unwrap();
    assert_eq!((changed.metadata.generation, changed.status.clone()), (Some(2), None));
    assert_eq!(api.get("g").await.unwrap(), changed);
    let again = api.replace("g", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(again.metadata.resource_version, changed.metadata.resource_version, "nothing changed");
    let stale = api.replace("g", &PostParams::default(), &made).await.unwrap_err();
    let kube::Error::Api(stale) = stale else { panic!("{stale}") };
    insta::assert_snapshot!(stale.message, @r#"Operation cannot be fulfilled on gardens.example.dev "g": the object has been modified; please apply your changes to the latest version and try again"#);
    assert_eq!((stale.code, stale.reason.as_str(), stale.details.unwrap().kind.as_str()), (409, "Conflict", "gardens"));

    assert!(api.delete("g", &DeleteParams::default()).await.unwrap().is_right());
    assert!(api.get_opt("g").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn status_and_the_rest_are_written_apart() {
    let server = server();
    let api = gardens(&server.tenant("a"));
    let mut object = Garden::new("g", trees(1));
    object.status = Some(GardenStatus { phase: "ignored".into() });
    let made = api.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(made.status, None);
    let patch =
        json!({ "status": { "phase": "Green" }, "spec": { "trees": 9 }, "metadata": { "labels": { "a": "b" } } });
    let after = api.patch_status("g", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!((after.spec.trees, after.metadata.generation, after.metadata.labels), (1, Some(1), None));
    assert_eq!(after.status.unwrap().phase, "Green");
    let patch = json!({ "status": { "phase": "Grey" }, "spec": { "trees": 9 } });
    let after = api.patch("g", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!((after.spec.trees, after.metadata.generation), (9, Some(2)));
    assert_eq!(after.status.unwrap().phase, "Green");
}

#[tokio::test(start_paused = true)]
async fn tenants_do_not_see_each_other() {
    let server = server();
    let (a, b) = (server.tenant("a"), server.tenant("a/gardens.example.dev"));
    gardens(&a).create(&PostParams::default(), &Garden::new("g", trees(1))).await.unwrap();
    gardens(&b).create(&PostParams::default(), &Garden::new("g", trees(2))).await.unwrap();
    assert_eq!(gardens(&a).list(&ListParams::default()).await.unwrap().items.len(), 1);
    let (_, before) = call(&a, "GET", GARDENS, json!(null)).await;
    a.drop_all().await.unwrap();
    let version = before["metadata"]["resourceVersion"].as_str().unwrap();
    let lines = watch_lines(&a, &format!("{GARDENS}?watch=1&resourceVersion={version}")).await;
    assert_eq!(lines[0]["object"]["code"], 410, "what is gone cannot be followed");
    assert!(gardens(&a).list(&ListParams::default()).await.unwrap().items.is_empty());
    assert_eq!(gardens(&b).get("g").await.unwrap().spec.trees, 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_once_and_may_be_generated() {
    let server = server();
    let tenant = server.tenant("a");
    assert_eq!(call(&tenant, "POST", GARDENS, body("g", 1)).await.0, 201);
    let (code, status) = call(&tenant, "POST", GARDENS, body("g", 1)).await;
    assert_eq!((code, &status["reason"]), (409, &json!("AlreadyExists")));
    let mut unnamed = body("", 1);
    unnamed["metadata"] = json!({ "generateName": "g-" });
    let (code, made) = call(&tenant, "POST", GARDENS, unnamed).await;
    assert_eq!((code, made["metadata"]["name"].as_str().unwrap().len()), (201, 7));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_as_the_write_would_and_writes_nothing() {
    let server = server();
    let tenant = server.tenant("a");
    let (code, made) = call(&tenant, "POST", &format!("{GARDENS}?dryRun=All"), body("g", 1)).await;
    assert_eq!((code, &made["spec"]["trees"]), (201, &json!(1)));
    assert_eq!(call(&tenant, "GET", &format!("{GARDENS}/g"), json!(null)).await.0, 404);
    call(&tenant, "POST", GARDENS, body("g", 1)).await;
    let patch = json!({ "spec": { "trees": 5 } });
    let (_, patched) = call(&tenant, "PATCH", &format!("{GARDENS}/g?dryRun=All"), patch).await;
    assert_eq!(patched["spec"]["trees"], 5);
    assert_eq!(call(&tenant, "DELETE", &format!("{GARDENS}/g?dryRun=All"), json!(null)).await.0, 200);
    assert_eq!(call(&tenant, "DELETE", &format!("{GARDENS}/g"), json!({ "dryRun": ["All"] })).await.0, 200);
    assert_eq!(call(&tenant, "DELETE", &format!("{GARDENS}?dryRun=All"), json!(null)).await.0, 200);
    let (_, found) = call(&tenant, "GET", &format!("{GARDENS}/g"), json!(null)).await;
    assert_eq!(found["spec"]["trees"], 1);
    assert_eq!(call(&tenant, "POST", &format!("{GARDENS}?dryRun=yes"), body("h", 1)).await.0, 422);
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_a_deletion_and_none_is_added_meanwhile() {
    let server = server();
    let tenant = server.tenant("a");
    let mut object = body("g", 1);
    object["metadata"]["finalizers"] = json!(["example.dev/f"]);
    call(&tenant, "POST", GARDENS, object).await;
    let at = format!("{GARDENS}/g");
    let (code, marked) = call(&tenant, "DELETE", &at, json!(null)).await;
    assert_eq!((code, &marked["metadata"]["generation"]), (200, &json!(2)));
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    let (_, again) = call(&tenant, "DELETE", &at, json!(null)).await;
    assert_eq!(again, marked, "the second deletion changes nothing");
    let more = json!({ "metadata": { "finalizers": ["example.dev/f", "example.dev/g"] } });
    assert_eq!(call(&tenant, "PATCH", &at, more).await.0, 422);
    let (code, last) = call(&tenant, "PATCH", &at, json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!((code, &last["metadata"]["name"]), (200, &json!("g")));
    assert_eq!(call(&tenant, "GET", &at, json!(null)).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn preconditions_guard_a_deletion() {
    let server = server();
    let api = gardens(&server.tenant("a"));
    let made = api.create(&PostParams::default(), &Garden::new("g", trees(1))).await.unwrap();
    let with = |uid: &str, version: &str| {
        let preconditions = kube::api::Preconditions { uid: Some(uid.into()), resource_version: Some(version.into()) };
        DeleteParams {
            preconditions: Some(preconditions),
            propagation_policy: Some(PropagationPolicy::Background),
            ..Default::default()
        }
    };
    let (uid, version) = (made.metadata.uid.unwrap(), made.metadata.resource_version.unwrap());
    for params in [with("other", &version), with(&uid, "1")] {
        assert!(matches!(api.delete("g", &params).await, Err(kube::Error::Api(status)) if status.code == 409));
    }
    assert!(api.delete("g", &with(&uid, &version)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_revision_even_when_objects_change_in_between() {
    let server = server();
    let tenant = server.tenant("a");
    for index in 0..5 {
        call(&tenant, "POST", GARDENS, body(&format!("g{index}"), 1)).await;
    }
    let (_, first) = call(&tenant, "GET", &format!("{GARDENS}?limit=2"), json!(null)).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    call(&tenant, "DELETE", &format!("{GARDENS}/g3"), json!(null)).await;
    call(&tenant, "PATCH", &format!("{GARDENS}/g4"), json!({ "spec": { "trees": 7 } })).await;
    call(&tenant, "POST", GARDENS, body("g22", 1)).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = call(&tenant, "GET", &format!("{GARDENS}?continue={token}"), json!(null)).await;
    let names: Vec<_> = rest["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["g2", "g3", "g4"]);
    assert_eq!(rest["items"][2]["spec"]["trees"], 1);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let at = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{GARDENS}?resourceVersion={at}&resourceVersionMatch=Exact");
    let (_, exact) = call(&tenant, "GET", &exact, json!(null)).await;
    assert_eq!(exact["items"].as_array().unwrap().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn selectors_narrow_lists_and_deletions() {
    let server = server();
    let tenant = server.tenant("a");
    for (name, team, soil) in [("x", "red", "clay"), ("y", "blue", "sand"), ("z", "blue", "clay")] {
        let mut object = body(name, 1);
        object["metadata"]["labels"] = json!({ "team": team });
        object["spec"]["soil"] = json!(soil);
        call(&tenant, "POST", GARDENS, object).await;
    }
    let names = async |query: &str| {
        let (code, list) = call(&tenant, "GET", &format!("{GARDENS}?{query}"), json!(null)).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        (code, items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names("labelSelector=team%3Dblue").await, (200, "y z".into()));
    assert_eq!(names("labelSelector=team%20in%20(red,blue),team!=blue").await, (200, "x".into()));
    assert_eq!(names("fieldSelector=spec.soil%3Dclay").await, (200, "x z".into()));
    assert_eq!(names("fieldSelector=metadata.name%3Dy").await, (200, "y".into()));
    assert_eq!(names("labelSelector=team%3Dblue&limit=1").await, (200, "y".into()));
    assert_eq!(names("fieldSelector=spec.trees%3D1").await.0, 400);
    assert_eq!(call(&tenant, "DELETE", &format!("{GARDENS}?labelSelector=team%3Dnone"), json!(null)).await.0, 200);
    assert_eq!(call(&tenant, "DELETE", &format!("{GARDENS}?labelSelector=team%3Dblue"), json!(null)).await.0, 200);
    assert_eq!(names("").await, (200, "x".into()));
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_yet_to_come_is_waited_for_and_then_refused() {
    let server = server();
    let tenant = server.tenant("a");
    let (code, status) = call(&tenant, "GET", &format!("{GARDENS}?resourceVersion=99"), json!(null)).await;
    assert_eq!((code, &status["details"]["causes"][0]["reason"]), (504, &json!("ResourceVersionTooLarge")));
    let next = format!("{GARDENS}?resourceVersion=2");
    let (early, _) =
        tokio::join!(call(&tenant, "GET", &next, json!(null)), call(&tenant, "POST", GARDENS, body("g", 1)),);
    assert_eq!(early.1["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_supported_is_refused_with_a_status() {
    let server = server();
    let tenant = server.tenant("a");
    call(&tenant, "POST", GARDENS, body("g", 1)).await;
    let at = format!("{GARDENS}/g");
    let cases = [
        ("GET", format!("{GARDENS}?labelselector=a"), 400),
        ("GET", format!("{GARDENS}?resourceVersionMatch=Exact"), 422),
        ("GET", format!("{GARDENS}?continue=nonsense"), 400),
        ("GET", format!("{GARDENS}?watch=true&sendInitialEvents=true"), 422),
        ("GET", "/apis/example.dev/v2/gardens".into(), 404),
        ("GET", format!("{at}/scale"), 404),
        ("POST", at.clone(), 405),
        ("PUT", GARDENS.into(), 405),
        ("DELETE", format!("{at}?propagationPolicy=Sideways"), 422),
    ];
    for (method, path, code) in cases {
        let (found, status) = call(&tenant, method, &path, json!(null)).await;
        assert_eq!((found, &status["kind"]), (code, &json!("Status")), "{method} {path}");
    }
    let strategic = "application/strategic-merge-patch+json";
    let (code, status) = call_as(&tenant, "PATCH", &at, strategic, json!({})).await;
    assert_eq!(code, 415);
    assert!(status["message"].as_str().unwrap().contains("application/merge-patch+json"));
    let mut other = body("g", 1);
    other["kind"] = json!("Park");
    assert_eq!(call(&tenant, "POST", GARDENS, other).await.0, 400);
    assert_eq!(call(&tenant, "PUT", &at, body("g", 1)).await.0, 422, "a custom resource needs a resourceVersion");
    assert_eq!(call(&tenant, "PUT", &at, body("h", 1)).await.0, 400);
    let big = json!({ "spec": "x".repeat(3 * 1024 * 1024) });
    assert_eq!(call(&tenant, "POST", GARDENS, big).await.0, 413);
}

/// A Garden as a lean client of this tenant reads it: without its managed fields, everything else as it is stored.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_it_gets_objects_without_managed_fields_and_lists_of_the_newest() {
    let server = server();
    let tenant = server.tenant("a");
    let lean: kube::Api<Garden> = kube::Api::all(tenant.lean_client(User::named("tester")));
    let without = |mut garden: Garden| {
        garden.metadata.managed_fields = None;
        garden
    };
    for name in ["b", "c", "a"] {
        let made = lean.create(&PostParams::default(), &Garden::new(name, trees(1))).await.unwrap();
        assert_eq!(made, without(gardens(&tenant).get(name).await.unwrap()));
    }
    let merge = Patch::Merge(json!({ "spec": { "trees": 2 } }));
    let changed = lean.patch("b", &PatchParams::default(), &merge).await.unwrap();
    let whole = gardens(&tenant).get("b").await.unwrap();
    assert!(whole.metadata.managed_fields.as_ref().is_some_and(|managers| !managers.is_empty()));
    assert_eq!([&changed, &lean.get("b").await.unwrap()], [&without(whole.clone()); 2]);
    // What such a client writes back keeps what it has not seen.
    let replaced = lean.replace("b", &PostParams::default(), &changed).await.unwrap();
    assert_eq!((replaced, gardens(&tenant).get("b").await.unwrap()), (changed.clone(), whole));
    let listed = lean.list(&ListParams::default()).await.unwrap().items;
    assert!(
        listed.len() == 3
            && listed.contains(&changed)
            && listed.iter().all(|one| one.metadata.managed_fields.is_none())
    );
    let mut events = Box::pin(lean.watch(&kube::api::WatchParams::default(), "0").await.unwrap());
    let Some(Ok(kube::api::WatchEvent::Added(first))) = events.next().await else { panic!("an event") };
    assert!(listed.contains(&first));

    for (newest, names) in [("1", vec!["b"]), ("2", vec!["a", "b"]), ("9", vec!["a", "b", "c"])] {
        let request =
            http::Request::get(GARDENS).header(crate::apiserver::raw::NEWEST, newest).body(Vec::new()).unwrap();
        let listed: kube::api::ObjectList<Garden> =
            tenant.client(User::named("tester")).request(request).await.unwrap();
        assert_eq!(listed.items.iter().filter_map(|one| one.metadata.name.as_deref()).collect::<Vec<_>>(), names);
    }
}
