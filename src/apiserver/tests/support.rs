//! A small kind and a server that serves it.

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::CustomResourceExt;
use kube::api::Api;
use serde_json::{Value, json};

use crate::apiserver::kind::Kind;
use crate::apiserver::store::RedbStore;
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, Builder, Tenant};
use crate::world::World;

#[derive(kube::CustomResource, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[kube(
    group = "example.dev",
    version = "v1",
    kind = "Garden",
    status = "GardenStatus",
    selectable = ".spec.soil",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct GardenSpec {
    pub trees: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soil: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct GardenStatus {
    #[serde(default)]
    pub phase: String,
}

pub fn garden() -> Kind {
    Kind::from_crd(&Garden::crd()).unwrap()
}

pub fn builder() -> Builder {
    let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
    ApiServer::builder(RedbStore::in_memory("store").unwrap(), world.clock, world.random).kind(garden())
}

pub fn server() -> ApiServer {
    builder().build().unwrap()
}

/// A tenant with the built-in kinds of a cluster, the namespace `default` and gardens.
pub async fn cluster() -> Tenant {
    let tenant = builder().kinds(crate::apiserver::core::workload()).build().unwrap().tenant("cluster");
    let namespace = json!({ "metadata": { "name": "default" } });
    assert_eq!(call(&tenant, "POST", "/api/v1/namespaces", namespace).await.0, 201);
    tenant
}

/// Lets follow-up work happen.
pub async fn settle() {
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
}

pub async fn get(tenant: &Tenant, path: &str) -> Option<Value> {
    let (code, body) = call(tenant, "GET", path, json!(null)).await;
    (code == 200).then_some(body)
}

pub fn gardens(tenant: &Tenant) -> Api<Garden> {
    Api::all(tenant.client(User::named("tester")))
}

pub fn trees(count: u32) -> GardenSpec {
    GardenSpec { trees: count, soil: None }
}

/// One request, its code and its body as JSON.
pub async fn call(tenant: &Tenant, method: &str, path: &str, body: Value) -> (u16, Value) {
    let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    call_as(tenant, method, path, content_type, body).await
}

pub async fn call_as(tenant: &Tenant, method: &str, path: &str, content_type: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
    let answer = tenant.handle(&User::named("tester"), request.body(body).unwrap()).await;
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
}

/// The lines of a watch that ends by itself.
pub async fn watch_lines(tenant: &Tenant, path: &str) -> Vec<Value> {
    let request = http::Request::get(path).body(Bytes::new()).unwrap();
    let answer = tenant.handle(&User::named("tester"), request).await;
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `TYPE name@resourceVersion` for each line.
pub fn briefly(lines: &[Value]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let metadata = &line["object"]["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            format!("{} {}@{}", text(&line["type"]), text(&metadata["name"]), text(&metadata["resourceVersion"]))
        })
        .collect()
}
