//! What the targets share: an API server in memory, and what must hold of every answer of it.

use std::cell::OnceCell;
use std::path::Path;

use http::{Method, Request};
use kina::api::Cluster;
use kina::api::cluster::ClusterSpec;
use kina::api::{class, validation};
use kina::apiserver::kind::Kind;
use kina::apiserver::store::RedbStore;
use kina::apiserver::user::User;
use kina::apiserver::{ApiServer, core};
use kina::sources::manifest::{Colour, FAULTS_MAX, Manifest};
use kina::world::World;
use kube::CustomResourceExt;
use tokio::runtime::Runtime;

/// A server with one object of a built-in kind and one of a custom kind, which patches are tried on.
struct House {
    runtime: Runtime,
    client: kube::Client,
    _server: ApiServer,
}

thread_local! {
    static HOUSE: OnceCell<House> = const { OnceCell::new() };
}

const OBJECTS: [(&str, &str); 3] = [
    ("/api/v1/namespaces", r#"{"metadata": {"name": "default"}}"#),
    (
        "/apis/apps/v1/namespaces/default/deployments",
        r#"{"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}}"#,
    ),
    (
        "/apis/kina.dev/v1alpha1/clusters",
        r#"{"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "a"}, "spec": {"workers": [{"name": "p", "taints": [{"key": "k", "effect": "NoSchedule"}]}]}}"#,
    ),
];

fn house() -> House {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (client, server) = runtime.block_on(async {
        let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().expect("a time"));
        let cluster = Kind::from_crd(&Cluster::crd()).expect("a kind");
        let store = RedbStore::in_memory("fuzz").expect("a store");
        let server = ApiServer::builder(store, world.clock, world.random)
            .kinds(core::workload())
            .kind(cluster)
            .build()
            .expect("a server");
        let client = server.tenant("fuzz").client(User::named("fuzz"));
        for (path, object) in OBJECTS {
            let made = send(&client, Method::POST, path, "application/json", object.as_bytes()).await;
            assert_eq!(made, Some(201), "{path}");
        }
        (client, server)
    });
    House { runtime, client, _server: server }
}

/// Sends a request; `None` where it is none. An answer that blames the server is a fault of the server's.
async fn send(client: &kube::Client, method: Method, path: &str, content_type: &str, body: &[u8]) -> Option<u16> {
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    let request = request.body(kube::client::Body::from(body.to_vec())).ok()?;
    let answer = client.send(request).await.expect("an answer");
    let status = answer.status().as_u16();
    // 504: a revision that is not there yet was waited for, as in Kubernetes.
    assert!(status < 500 || status == 504, "{status} for {path}");
    Some(status)
}

/// Puts a request to the server.
pub fn request(method: Method, path: &str, content_type: &str, body: &[u8]) {
    HOUSE.with(|cell| {
        let house = cell.get_or_init(house);
        house.runtime.block_on(async {
            send(&house.client, method, path, content_type, body).await;
        });
    });
}

/// Reads a manifest. Whatever comes of it can be shown, judged again and compared.
pub fn manifest(bytes: &[u8]) {
    let manifest = Manifest::parse_in(Path::new("/home/me"), "in.yaml", bytes);
    assert!(manifest.faults.len() <= FAULTS_MAX);
    let _ = manifest.render(Colour::Off);
    for warning in &manifest.warnings {
        let _ = warning.render(Colour::On);
    }
    if !manifest.faults.is_empty() {
        return;
    }
    for document in &manifest.documents {
        assert_eq!(validation::cluster(&document.name, &document.typed), [], "what is read is valid");
        let again: ClusterSpec = serde_json::from_value(document.spec.clone()).expect("a spec");
        assert!(class::changes(&document.typed, &again).is_empty(), "a spec differs from itself");
    }
}
