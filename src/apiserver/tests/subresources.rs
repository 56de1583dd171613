//! `/scale`, `/eviction`, and reviews of what one may do.

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::support::{builder, call, call_as, cluster, get};
use crate::apiserver::Tenant;
use crate::apiserver::user::User;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn deployment() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]},
        "template": {"metadata": {"labels": {"app": "web", "tier": "front"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}})
}

#[tokio::test(start_paused = true)]
async fn replicas_are_read_and_set_as_a_scale() {
    let tenant = cluster().await;
    assert_eq!(call(&tenant, "POST", DEPLOYMENTS, deployment()).await.0, 201);
    let path = format!("{WEB}/scale");
    let scale = get(&tenant, &path).await.unwrap();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(2), &json!("app=web,tier")));
    for content_type in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let (code, scale) = call_as(&tenant, "PATCH", &path, content_type, json!({"spec": {"replicas": 3}})).await;
        assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(3)), "{scale}");
    }
    let web = get(&tenant, WEB).await.unwrap();
    assert_eq!((&web["spec"]["replicas"], &web["metadata"]["generation"]), (&json!(3), &json!(2)));
    let managers = web["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|manager| manager["subresource"] == "scale"), "{managers:?}");
    // A Scale that was read earlier is refused, and so is what is no number of replicas.
    let (code, _) = call(&tenant, "PUT", &path, scale).await;
    assert_eq!(code, 409);
    let mut fresh = get(&tenant, &path).await.unwrap();
    fresh["spec"] = json!({});
    assert_eq!(call(&tenant, "PUT", &path, fresh).await.0, 200);
    assert_eq!(get(&tenant, WEB).await.unwrap()["spec"]["replicas"], 0, "Go leaves out what is zero");
    let (code, status) = call(&tenant, "PATCH", &path, json!({"spec": {"replicas": -1}})).await;
    assert_eq!((code, &status["details"]["kind"]), (422, &json!("Scale")));
    let dry = format!("{path}?dryRun=All");
    assert_eq!(call(&tenant, "PATCH", &dry, json!({"spec": {"replicas": 9}})).await.1["spec"]["replicas"], 9);
    assert_eq!(get(&tenant, WEB).await.unwrap()["spec"]["replicas"], 0);
    let apply =
        call_as(&tenant, "PATCH", &path, "application/apply-patch+yaml", json!({"spec": {"replicas": 1}})).await;
    assert_eq!(apply.0, 415);
}

#[tokio::test(start_paused = true)]
async fn built_in_kinds_have_the_status_that_go_always_writes() {
    let tenant = cluster().await;
    let (_, web) = call(&tenant, "POST", DEPLOYMENTS, deployment()).await;
    assert_eq!(web["status"], json!({}));
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}, "status": {"made": "up"}});
    let services = "/api/v1/namespaces/default/services";
    let (code, web) = call(&tenant, "POST", &format!("{services}?fieldValidation=Ignore"), service).await;
    assert_eq!((code, &web["status"]), (201, &json!({"loadBalancer": {}})));
    // What is deleted is answered with what it was, where Kubernetes does so.
    let (code, gone) = call(&tenant, "DELETE", &format!("{services}/web"), Value::Null).await;
    assert_eq!((code, &gone["kind"], &gone["metadata"]["name"]), (200, &json!("Service"), &json!("web")));
    let (code, gone) = call(&tenant, "DELETE", WEB, Value::Null).await;
    assert_eq!((code, &gone["kind"], &gone["status"]), (200, &json!("Status"), &json!("Success")));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_has_no_scale_says_so() {
    let tenant = cluster().await;
    call(&tenant, "POST", "/apis/example.dev/v1/gardens", json!({"metadata": {"name": "g"}, "spec": {"trees": 1}}))
        .await;
    for path in ["/apis/example.dev/v1/gardens/g/scale", "/apis/apps/v1/namespaces/default/daemonsets/x/scale"] {
        assert_eq!(call(&tenant, "PATCH", path, json!({"spec": {"replicas": 1}})).await.0, 404, "{path}");
    }
    assert_eq!(call(&tenant, "GET", &format!("{WEB}/scale"), Value::Null).await.0, 404);
}

/// A ready Pod of the workload `web`.
async fn pod(tenant: &Tenant, name: &str, ready: bool) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "a"}]}});
    assert_eq!(call(tenant, "POST", PODS, pod).await.0, 201);
    let ready = if ready { "True" } else { "False" };
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    assert_eq!(call(tenant, "PATCH", &format!("{PODS}/{name}/status"), status).await.0, 200);
}

/// A budget whose controller has seen so many healthy pods of those that it wants.
async fn budget(tenant: &Tenant, name: &str, healthy: i64, desired: i64) {
    let budget = json!({"metadata": {"name": name}, "spec": {"minAvailable": desired,
        "selector": {"matchLabels": {"app": "web"}}}});
    assert_eq!(call(tenant, "POST", BUDGETS, budget).await.0, 201);
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": healthy - desired,
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": healthy,
        "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let (code, answer) = call(tenant, "PATCH", &format!("{BUDGETS}/{name}/status"), status).await;
    assert_eq!(code, 200, "{answer}");
}

async fn evict(tenant: &Tenant, name: &str) -> (u16, Value) {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    call(tenant, "POST", &format!("{PODS}/{name}/eviction"), eviction).await
}

#[tokio::test(start_paused = true)]
async fn a_budget_lets_as_many_pods_go_as_it_allows() {
    let tenant = cluster().await;
    for name in ["a", "b", "c"] {
        pod(&tenant, name, true).await;
    }
    budget(&tenant, "web", 3, 2).await;
    let (code, status) = evict(&tenant, "a").await;
    assert_eq!((code, &status["status"]), (201, &json!("Success")), "{status}");
    assert!(get(&tenant, &format!("{PODS}/a")).await.unwrap()["metadata"]["deletionTimestamp"].is_string());
    let spent = get(&tenant, &format!("{BUDGETS}/web")).await.unwrap();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert_eq!(spent["status"]["conditions"][0]["reason"], "InsufficientPods");
    let (code, status) = evict(&tenant, "b").await;
    assert_eq!((code, &status["reason"]), (429, &json!("TooManyRequests")));
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(cause["message"], "The disruption budget web does not allow evicting pods currently");
    // Deleting is not evicting, and what is on its way may be asked to go again.
    assert_eq!(evict(&tenant, "a").await.0, 201);
    assert_eq!(call(&tenant, "DELETE", &format!("{PODS}/b"), Value::Null).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_its_controller_has_not_seen_allows_nothing_yet() {
    let tenant = cluster().await;
    pod(&tenant, "a", true).await;
    budget(&tenant, "web", 1, 0).await;
    let change = json!({"spec": {"minAvailable": 1}});
    assert_eq!(call(&tenant, "PATCH", &format!("{BUDGETS}/web"), change).await.0, 200);
    let (code, status) = evict(&tenant, "a").await;
    assert_eq!((code, &status["details"]["retryAfterSeconds"]), (429, &json!(10)));
    budget(&tenant, "other", 1, 0).await;
    let (code, status) = evict(&tenant, "a").await;
    assert_eq!(code, 500, "{status}");
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_not_healthy_may_go_where_enough_others_are() {
    let tenant = cluster().await;
    pod(&tenant, "sick", false).await;
    budget(&tenant, "web", 2, 2).await;
    assert_eq!(evict(&tenant, "sick").await.0, 201);
    let tenant = cluster().await;
    pod(&tenant, "sick", false).await;
    budget(&tenant, "web", 1, 2).await;
    let (code, status) = evict(&tenant, "sick").await;
    let expected = "The disruption budget web needs 2 healthy pods and has 1 currently";
    assert_eq!((code, &status["details"]["causes"][0]["message"]), (429, &json!(expected)));
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    assert_eq!(call(&tenant, "PATCH", &format!("{BUDGETS}/web"), always).await.0, 200);
    assert_eq!(evict(&tenant, "sick").await.0, 201);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_says_what_it_evicts_and_can_be_tried() {
    let tenant = cluster().await;
    pod(&tenant, "a", true).await;
    let path = format!("{PODS}/a/eviction");
    let eviction =
        |version: &str, name: &str| json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": name}});
    assert_eq!(call(&tenant, "POST", &path, eviction("policy/v1", "b")).await.0, 400);
    assert_eq!(call(&tenant, "POST", &path, eviction("policy/v2", "a")).await.0, 400);
    assert_eq!(call(&tenant, "GET", &path, Value::Null).await.0, 405);
    // As clients of before Kubernetes 1.22 name it.
    let mut dry = eviction("policy/v1beta1", "a");
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    assert_eq!(call(&tenant, "POST", &path, dry).await.0, 201);
    assert!(get(&tenant, &format!("{PODS}/a")).await.unwrap()["metadata"]["deletionTimestamp"].is_null());
    let mut other = eviction("policy/v1", "a");
    other["deleteOptions"] = json!({"preconditions": {"uid": "another"}});
    assert_eq!(call(&tenant, "POST", &path, other).await.0, 409);
    assert_eq!(call(&tenant, "POST", &format!("{PODS}/z/eviction"), eviction("policy/v1", "z")).await.0, 404);
    let both = json!({"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "maxUnavailable": 1}});
    assert_eq!(call(&tenant, "POST", BUDGETS, both).await.0, 422);
}

#[tokio::test(start_paused = true)]
async fn discovery_tells_clients_of_scales_and_evictions() {
    let tenant = cluster().await;
    let found = |list: &Value, name: &str| {
        list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned().unwrap()
    };
    let core = get(&tenant, "/api/v1").await.unwrap();
    let eviction = json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
        "version": "v1", "kind": "Eviction", "verbs": ["create"]});
    assert_eq!(found(&core, "pods/eviction"), eviction);
    let apps = get(&tenant, "/apis/apps/v1").await.unwrap();
    assert_eq!(found(&apps, "deployments/scale")["group"], "autoscaling");
    assert_eq!(found(&apps, "deployments/scale")["kind"], "Scale");
    let reviews = get(&tenant, "/apis/authorization.k8s.io/v1").await.unwrap();
    assert_eq!(found(&reviews, "selfsubjectaccessreviews")["verbs"], json!(["create"]));
}

async fn as_user(tenant: &Tenant, user: &User, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let answer = tenant.handle(user, http::Request::builder().method(method).uri(path).body(body).unwrap()).await;
    let code = answer.status().as_u16();
    (code, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn everyone_may_ask_what_they_may_do_and_no_more_unless_they_are_let() {
    let kinds = crate::apiserver::core::workload();
    let tenant = builder().kinds(kinds).authorizer(|user| user.name == "root").build().unwrap().tenant("a");
    let (root, guest) = (User::named("root"), User { name: "guest".into(), groups: vec!["visitors".into()] });
    let (may, rules, who) = (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    );
    let pods = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    for (user, allowed) in [(&root, true), (&guest, false)] {
        let (code, review) = as_user(&tenant, user, "POST", may, pods.clone()).await;
        assert_eq!((code, &review["status"]["allowed"]), (201, &json!(allowed)), "{review}");
        let (_, review) = as_user(&tenant, user, "POST", rules, json!({"spec": {"namespace": "default"}})).await;
        assert_eq!(review["status"]["resourceRules"].as_array().unwrap().len(), usize::from(allowed));
        assert_eq!(as_user(&tenant, user, "GET", "/version", Value::Null).await.0, 200);
        let code = if allowed { 200 } else { 403 };
        assert_eq!(as_user(&tenant, user, "GET", PODS, Value::Null).await.0, code);
    }
    let (_, review) = as_user(&tenant, &guest, "POST", who, json!({})).await;
    let info = json!({"username": "guest", "groups": ["visitors", "system:authenticated"]});
    assert_eq!(review["status"]["userInfo"], info);
    let (_, status) = as_user(&tenant, &guest, "DELETE", &format!("{PODS}/a"), Value::Null).await;
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @r#"pods "a" is forbidden: User "guest" cannot delete resource "pods" in API group "" in the namespace "default""#);
    assert_eq!(as_user(&tenant, &root, "POST", may, json!({"spec": {}})).await.0, 422);
    assert_eq!(as_user(&tenant, &root, "GET", may, Value::Null).await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn nobody_acts_in_the_name_of_another() {
    let tenant = cluster().await;
    let request = http::Request::get(PODS).header("Impersonate-User", "bob").body(Bytes::new()).unwrap();
    assert_eq!(tenant.handle(&User::named("root"), request).await.status(), 403);
}
