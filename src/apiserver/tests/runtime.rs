//! Watches, and the stock machinery of `kube::runtime` over them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event as Finalizer, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, watcher};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::support::*;
use crate::apiserver::store::RedbStore;
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, History};

const GARDENS: &str = "/apis/example.dev/v1/gardens";

fn body(name: &str, team: &str) -> serde_json::Value {
    json!({ "metadata": { "name": name, "labels": { "team": team } }, "spec": { "trees": 1 } })
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_list_sees_every_later_change_once_and_in_order() {
    let server = server();
    let tenant = server.tenant("a");
    call(&tenant, "POST", GARDENS, body("x", "red")).await;
    call(&tenant, "POST", GARDENS, body("y", "red")).await;
    call(&tenant, "PATCH", &format!("{GARDENS}/x"), json!({ "spec": { "trees": 2 } })).await;
    call(&tenant, "DELETE", &format!("{GARDENS}/y"), json!(null)).await;
    let lines = watch_lines(&tenant, &format!("{GARDENS}?watch=1&resourceVersion=2&timeoutSeconds=5")).await;
    assert_eq!(briefly(&lines), ["ADDED y@3", "MODIFIED x@4", "DELETED y@5"]);
    assert_eq!(lines[2]["object"]["spec"]["trees"], 1, "the last state comes with the deletion");
    let lines = watch_lines(&tenant, &format!("{GARDENS}?watch=1&timeoutSeconds=5")).await;
    assert_eq!(briefly(&lines), ["ADDED x@4"], "without a version the state comes first");
    let by_name = format!("{GARDENS}?watch=1&resourceVersion=1&timeoutSeconds=5&fieldSelector=metadata.name%3Dy");
    assert_eq!(briefly(&watch_lines(&tenant, &by_name).await), ["ADDED y@3", "DELETED y@5"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_watcher_is_given_at_a_time_is_small_however_much_there_is() {
    let server = server();
    let tenant = server.tenant("a");
    for name in 0..20 {
        let mut big = body(&format!("big-{name:02}"), "red");
        big["metadata"]["annotations"] = json!({ "a": "x".repeat(20_000) });
        call(&tenant, "POST", GARDENS, big).await;
    }
    // What was there before, and what came since: in pieces, and all of it.
    for since in ["", "&resourceVersion=1"] {
        let request = http::Request::get(format!("{GARDENS}?watch=1&timeoutSeconds=5{since}"));
        let response = tenant.handle(&User::named("tester"), request.body(Bytes::new()).unwrap()).await;
        let mut pieces = response.into_body().into_data_stream();
        let (mut largest, mut text) = (0, String::new());
        while let Some(Ok(piece)) = pieces.next().await {
            largest = largest.max(piece.len());
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        assert!((64 * 1024..90 * 1024).contains(&largest), "{largest}");
        let seen: Vec<_> = text.lines().filter(|line| line.contains("ADDED")).collect();
        assert_eq!(seen.len(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_leaves_a_selector_is_deleted_for_its_watchers() {
    let server = server();
    let tenant = server.tenant("a");
    call(&tenant, "POST", GARDENS, body("x", "red")).await;
    for team in ["blue", "green", "red"] {
        call(&tenant, "PATCH", &format!("{GARDENS}/x"), json!({ "metadata": { "labels": { "team": team } } })).await;
    }
    let red = format!("{GARDENS}?watch=1&resourceVersion=1&timeoutSeconds=5&labelSelector=team%3Dred");
    let lines = watch_lines(&tenant, &red).await;
    assert_eq!(briefly(&lines), ["ADDED x@2", "DELETED x@3", "ADDED x@5"]);
    assert_eq!(lines[1]["object"]["metadata"]["labels"]["team"], "red");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_each_minute_and_at_the_end_with_the_newest_revision() {
    let server = server();
    let tenant = server.tenant("a");
    call(&tenant, "POST", GARDENS, body("x", "red")).await;
    let query = "watch=1&resourceVersion=2&allowWatchBookmarks=true&timeoutSeconds=150";
    let lines = watch_lines(&tenant, &format!("{GARDENS}?{query}")).await;
    assert_eq!(briefly(&lines), ["BOOKMARK -@2", "BOOKMARK -@2", "BOOKMARK -@2"]);
    assert_eq!(
        (&lines[0]["object"]["kind"], &lines[0]["object"]["apiVersion"]),
        (&json!("Garden"), &json!("example.dev/v1"))
    );
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=5";
    let lines = watch_lines(&tenant, &format!("{GARDENS}?{query}")).await;
    assert_eq!(briefly(&lines), ["ADDED x@2", "BOOKMARK -@2", "BOOKMARK -@2"]);
    assert_eq!(lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(lines[2]["object"]["metadata"]["annotations"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_no_longer_known_ends_in_an_expired_error() {
    let server = builder().history(History { events: 2, bytes: usize::MAX }).build().unwrap();
    let tenant = server.tenant("a");
    for name in ["a", "b", "c", "d"] {
        call(&tenant, "POST", GARDENS, body(name, "red")).await;
    }
    for version in [0, 1, 2, 99].iter().skip(1) {
        let lines = watch_lines(&tenant, &format!("{GARDENS}?watch=1&resourceVersion={version}")).await;
        assert_eq!((lines.len(), &lines[0]["type"], &lines[0]["object"]["code"]), (1, &json!("ERROR"), &json!(410)));
        assert_eq!(lines[0]["object"]["reason"], "Expired");
    }
    let (code, status) =
        call(&tenant, "GET", &format!("{GARDENS}?resourceVersion=2&resourceVersionMatch=Exact"), json!(null)).await;
    assert_eq!((code, &status["reason"]), (410, &json!("Expired")));
}

#[tokio::test(start_paused = true)]
async fn a_stock_watcher_follows_lists_and_streams() {
    for streaming in [false, true] {
        let server = server();
        let tenant = server.tenant("a");
        let api = gardens(&tenant);
        api.create(&PostParams::default(), &Garden::new("x", trees(1))).await.unwrap();
        let config = if streaming { watcher::Config::default().streaming_lists() } else { watcher::Config::default() };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, source) = (Arc::clone(&seen), watcher(api.clone(), config));
        let follow = tokio::spawn(async move {
            let mut source = std::pin::pin!(source);
            while let Some(event) = source.try_next().await.unwrap() {
                log.lock().unwrap().push(match event {
                    watcher::Event::Init => "init".to_owned(),
                    watcher::Event::InitApply(object) => format!("initial {}", object.name_any()),
                    watcher::Event::InitDone => "ready".to_owned(),
                    watcher::Event::Apply(object) => format!("apply {} {}", object.name_any(), object.spec.trees),
                    watcher::Event::Delete(object) => format!("delete {}", object.name_any()),
                });
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        api.patch("x", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "trees": 3 } }))).await.unwrap();
        // Over several ends of the watch by its timeout.
        tokio::time::sleep(Duration::from_secs(1000)).await;
        api.delete("x", &DeleteParams::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        follow.abort();
        assert_eq!(
            *seen.lock().unwrap(),
            ["init", "initial x", "ready", "apply x 3", "delete x"],
            "streaming: {streaming}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stock_controller_with_a_finalizer_works_over_the_api() {
    let server = server();
    let tenant = server.tenant("a");
    let api = gardens(&tenant);
    let log = Arc::new(Mutex::new(Vec::new()));
    let context = Arc::new((api.clone(), Arc::clone(&log)));
    type Context = Arc<(Api<Garden>, Arc<Mutex<Vec<String>>>)>;
    async fn reconcile(
        object: Arc<Garden>,
        context: Context,
    ) -> Result<Action, kube::runtime::finalizer::Error<kube::Error>> {
        let api = context.0.clone();
        let log = Arc::clone(&context.1);
        finalizer(&context.0, "example.dev/tend", object, |event| async move {
            let (what, object) = match event {
                Finalizer::Apply(object) => ("tend", object),
                Finalizer::Cleanup(object) => ("clear", object),
            };
            log.lock().unwrap().push(format!("{what} {}", object.name_any()));
            if what == "tend" {
                let status = Patch::Merge(json!({ "status": { "phase": "Green" } }));
                api.patch_status(&object.name_any(), &PatchParams::default(), &status).await?;
            }
            Ok(Action::await_change())
        })
        .await
    }
    let controller = Controller::new(api.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, _: &kube::runtime::finalizer::Error<kube::Error>, _| Action::requeue(Duration::from_secs(1)),
            context,
        )
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);
    api.create(&PostParams::default(), &Garden::new("x", trees(1))).await.unwrap();
    let green = |object: Option<&Garden>| object.and_then(|g| g.status.as_ref()).is_some_and(|s| s.phase == "Green");
    let object = await_condition(api.clone(), "x", green).await.unwrap().unwrap();
    assert_eq!(object.meta().finalizers.as_deref(), Some(&["example.dev/tend".to_owned()][..]));
    api.delete("x", &DeleteParams::default()).await.unwrap();
    await_condition(api.clone(), "x", conditions::is_deleted(&object.uid().unwrap())).await.unwrap();
    controller.abort();
    let log = log.lock().unwrap().clone();
    assert!(log.starts_with(&["tend x".to_owned()]) && log.ends_with(&["clear x".to_owned()]), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_watches_end_when_the_server_shuts_down() {
    let server = server();
    let tenant = server.tenant("a");
    let closing = server.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        closing.shutdown();
    });
    assert!(watch_lines(&tenant, &format!("{GARDENS}?watch=1")).await.is_empty());
}

#[tokio::test]
async fn a_closed_server_leaves_a_store_that_opens_at_once_and_needs_no_repair() {
    for threaded in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store.redb");
        let store = RedbStore::open(&path, 1 << 20, "s").unwrap();
        let world = crate::world::World::real();
        let builder = ApiServer::builder(store, world.clock, world.random).kind(garden());
        let server = if threaded { builder.threaded_writer() } else { builder }.build().unwrap();
        let tenant = server.tenant("a");
        // Clients and watches that are still there keep nothing open.
        let request = http::Request::get(format!("{GARDENS}?watch=1")).body(Bytes::new()).unwrap();
        let watch = tenant.handle(&User::named("t"), request).await;
        let api = gardens(&tenant);
        let writes = (0..20).map(|number| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &Garden::new(&format!("g{number}"), trees(1))).await }
        });
        let written = futures::future::join_all(writes).await;
        assert!(written.iter().all(Result::is_ok));
        server.close().await;
        let (code, _) = call(&tenant, "GET", GARDENS, serde_json::Value::Null).await;
        assert_eq!(code, 503);
        assert_eq!(
            call(&tenant, "POST", GARDENS, serde_json::json!({"metadata": {"name": "late"}, "spec": {"trees": 1}}))
                .await
                .0,
            503
        );
        server.close().await;

        let repaired = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut raw = redb::Database::builder();
        let saw = Arc::clone(&repaired);
        raw.set_repair_callback(move |_| saw.store(true, std::sync::atomic::Ordering::SeqCst));
        drop(raw.open(&path).unwrap());
        assert!(!repaired.load(std::sync::atomic::Ordering::SeqCst), "threaded: {threaded}");
        let store = RedbStore::open(&path, 1 << 20, "s").unwrap();
        let world = crate::world::World::real();
        let server = ApiServer::builder(store, world.clock, world.random).kind(garden()).build().unwrap();
        assert_eq!(gardens(&server.tenant("a")).list(&kube::api::ListParams::default()).await.unwrap().items.len(), 20);
        drop(watch);
    }
}
