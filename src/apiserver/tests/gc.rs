//! What the server does by itself: garbage, namespaces, expiry.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::*;
use crate::apiserver::Tenant;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GARDENS: &str = "/apis/example.dev/v1/gardens";

async fn config_map(tenant: &Tenant, name: &str, owners: Value) -> Value {
    let body = json!({ "metadata": { "name": name, "ownerReferences": owners } });
    let (code, made) = call(tenant, "POST", MAPS, body).await;
    assert_eq!(code, 201, "{made}");
    made
}

fn owner(object: &Value, blocks: bool) -> Value {
    let metadata = &object["metadata"];
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "name": metadata["name"], "uid": metadata["uid"],
        "blockOwnerDeletion": blocks,
    })
}

async fn names(tenant: &Tenant, path: &str) -> Vec<String> {
    let list = get(tenant, path).await.unwrap();
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn delete(tenant: &Tenant, path: &str, policy: &str) -> u16 {
    call(tenant, "DELETE", path, json!({ "propagationPolicy": policy })).await.0
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_last_owner_in_the_background() {
    let tenant = cluster().await;
    let (a, b) = (config_map(&tenant, "a", json!([])).await, config_map(&tenant, "b", json!([])).await);
    let both = config_map(&tenant, "of-both", json!([owner(&a, false), owner(&b, false)])).await;
    config_map(&tenant, "grandchild", json!([owner(&both, false)])).await;
    assert_eq!(delete(&tenant, &format!("{MAPS}/a"), "Background").await, 200);
    settle().await;
    let left = get(&tenant, &format!("{MAPS}/of-both")).await.unwrap();
    assert_eq!(left["metadata"]["ownerReferences"].as_array().unwrap().len(), 1, "the owner that is gone is forgotten");
    assert_eq!(delete(&tenant, &format!("{MAPS}/b"), "Background").await, 200);
    settle().await;
    assert!(names(&tenant, MAPS).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_foreground_deletion_waits_for_blocking_dependents() {
    let tenant = cluster().await;
    let top = config_map(&tenant, "top", json!([])).await;
    config_map(&tenant, "child", json!([owner(&top, true)])).await;
    let hold = json!({ "metadata": { "finalizers": ["example.dev/hold"] } });
    call(&tenant, "PATCH", &format!("{MAPS}/child"), hold).await;
    assert_eq!(delete(&tenant, &format!("{MAPS}/top"), "Foreground").await, 200);
    settle().await;
    assert_eq!(names(&tenant, MAPS).await, ["child", "top"]);
    let child = get(&tenant, &format!("{MAPS}/child")).await.unwrap();
    assert!(child["metadata"]["deletionTimestamp"].is_string());
    call(&tenant, "PATCH", &format!("{MAPS}/child"), json!({ "metadata": { "finalizers": null } })).await;
    settle().await;
    assert!(names(&tenant, MAPS).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_orphaning_deletion_lets_dependents_live_without_owner() {
    let tenant = cluster().await;
    let top = config_map(&tenant, "top", json!([])).await;
    for index in 0..100 {
        config_map(&tenant, &format!("child-{index:03}"), json!([owner(&top, true)])).await;
    }
    assert_eq!(delete(&tenant, &format!("{MAPS}/top"), "Orphan").await, 200);
    settle().await;
    assert_eq!(names(&tenant, MAPS).await.len(), 100);
    let list = get(&tenant, MAPS).await.unwrap();
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["metadata"]["ownerReferences"].is_null()));
}

#[tokio::test(start_paused = true)]
async fn what_names_an_owner_that_never_was_is_collected_and_what_cannot_be_told_is_kept() {
    let tenant = cluster().await;
    let unknown = json!({ "apiVersion": "other.dev/v1", "kind": "Thing", "name": "t", "uid": "u" });
    config_map(&tenant, "of-unknown-kind", json!([unknown])).await;
    let absent = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "u" });
    config_map(&tenant, "of-absent", json!([absent])).await;
    // A cluster-scoped object that names an owner in a namespace is never collected.
    let garden = json!({ "metadata": { "name": "g", "ownerReferences": [absent] }, "spec": { "trees": 1 } });
    call(&tenant, "POST", GARDENS, garden).await;
    let (_, owner_garden) =
        call(&tenant, "POST", GARDENS, json!({ "metadata": { "name": "o" }, "spec": { "trees": 1 } })).await;
    let mut wrong_uid = owner(&owner_garden, false);
    wrong_uid["uid"] = json!("another");
    config_map(&tenant, "of-namesake", json!([wrong_uid])).await;
    config_map(&tenant, "of-garden", json!([owner(&owner_garden, false)])).await;
    settle().await;
    assert_eq!(names(&tenant, MAPS).await, ["of-garden", "of-unknown-kind"]);
    assert_eq!(names(&tenant, GARDENS).await, ["g", "o"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_takes_its_contents_with_it() {
    let tenant = cluster().await;
    let at = "/api/v1/namespaces/shop";
    assert_eq!(call(&tenant, "POST", &format!("{at}/configmaps"), json!({ "metadata": { "name": "x" } })).await.0, 404);
    call(&tenant, "POST", "/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
    let made = get(&tenant, at).await.unwrap();
    assert_eq!((&made["status"]["phase"], &made["spec"]["finalizers"]), (&json!("Active"), &json!(["kubernetes"])));
    for index in 0..150 {
        let body = json!({ "metadata": { "name": format!("x{index}") } });
        assert_eq!(call(&tenant, "POST", &format!("{at}/configmaps"), body).await.0, 201);
    }
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.dev/hold"] } });
    call(&tenant, "POST", &format!("{at}/secrets"), held).await;
    let (code, going) = call(&tenant, "DELETE", at, json!(null)).await;
    assert_eq!((code, &going["status"]["phase"]), (200, &json!("Terminating")));
    let (code, status) =
        call(&tenant, "POST", &format!("{at}/secrets"), json!({ "metadata": { "name": "late" } })).await;
    assert_eq!((code, &status["details"]["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    settle().await;
    assert!(names(&tenant, &format!("{at}/configmaps")).await.is_empty());
    assert!(get(&tenant, at).await.is_some(), "a finalizer holds the last object");
    call(&tenant, "PATCH", &format!("{at}/secrets/held"), json!({ "metadata": { "finalizers": null } })).await;
    settle().await;
    assert!(get(&tenant, at).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn events_expire_an_hour_after_they_were_last_written() {
    let tenant = cluster().await;
    let at = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = |name: &str| {
        json!({
            "metadata": { "name": name }, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "A", "reason": "R", "note": "n",
            "type": "Normal", "reportingController": "c", "reportingInstance": "i", "regarding": { "kind": "Node", "name": "n" },
        })
    };
    assert_eq!(call(&tenant, "POST", at, event("once")).await.0, 201);
    assert_eq!(call(&tenant, "POST", at, event("again")).await.0, 201);
    tokio::time::sleep(Duration::from_secs(1800)).await;
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:30:00.000000Z" } });
    assert_eq!(call(&tenant, "PATCH", &format!("{at}/again"), series).await.0, 200);
    tokio::time::sleep(Duration::from_secs(1830)).await;
    assert_eq!(names(&tenant, at).await, ["again"]);
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert!(names(&tenant, at).await.is_empty());
    let lines = watch_lines(&tenant, "/api/v1/events?watch=1&resourceVersion=2&timeoutSeconds=1").await;
    assert_eq!(lines.iter().filter(|line| line["type"] == "DELETED").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_node_is_given_time_to_end() {
    let tenant = cluster().await;
    let at = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, node: &str| {
        json!({
            "metadata": { "name": name }, "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
        })
    };
    call(&tenant, "POST", at, pod("placed", "n")).await;
    call(&tenant, "POST", at, pod("waiting", "")).await;
    let (code, gone) = call(&tenant, "DELETE", &format!("{at}/waiting"), json!(null)).await;
    assert_eq!((code, gone["metadata"].get("deletionTimestamp")), (200, None));
    assert_eq!(names(&tenant, at).await, ["placed"]);
    let (_, marked) = call(&tenant, "DELETE", &format!("{at}/placed"), json!(null)).await;
    let metadata = &marked["metadata"];
    assert_eq!(
        (&metadata["deletionGracePeriodSeconds"], &metadata["deletionTimestamp"]),
        (&json!(30), &json!("2026-01-01T00:00:30Z"))
    );
    let (_, shorter) = call(&tenant, "DELETE", &format!("{at}/placed?gracePeriodSeconds=5"), json!(null)).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let (_, longer) = call(&tenant, "DELETE", &format!("{at}/placed?gracePeriodSeconds=9"), json!(null)).await;
    assert_eq!(longer, shorter);
    call(&tenant, "DELETE", &format!("{at}/placed?gracePeriodSeconds=0"), json!(null)).await;
    assert!(names(&tenant, at).await.is_empty());
}
