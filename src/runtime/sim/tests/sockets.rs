//! A simulated cluster reached over TLS, by a client that knows nothing of it.

use std::net::TcpListener;

use kube::Api;
use kube::api::ListParams;

use super::lab::{Lab, NODE};
use crate::runtime::sim::{Latency, SimOptions, SimRuntime, SimStore, Sockets};
use crate::runtime::{Cause, Runtime};
use crate::world::World;

#[tokio::test]
async fn a_client_over_tls_sees_nodes_until_the_load_balancer_stops() {
    let world = World::real();
    let options = SimOptions { latency: Latency::zero(), sockets: Sockets::Listen, ..SimOptions::default() };
    let sim = SimRuntime::open(world.clone(), SimStore::Memory, options).unwrap();
    let port = world.ports.free_port([127, 0, 0, 1].into()).unwrap();
    let mut lab = Lab::over(sim, world).await;
    lab.port = port;
    lab.cluster(&[("cp", 10)], &[("w", 11)]).await;
    let access = lab.access();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": access.server, "certificate-authority-data": base64(&access.ca_certificate)}}],
        "users": [{"name": "c", "user": {"client-certificate-data": base64(&access.client_certificate), "client-key-data": base64(&access.client_key)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client);
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 2);
    // The port is the container's as long as it runs.
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    lab.sim.stop_container(&lab.ids["dev-lb"]).await.unwrap();
    assert!(nodes.list(&ListParams::default()).await.is_err());
    let taken = loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(taken) => break taken,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(lab.sim.start_container(&lab.ids["dev-lb"]).await.unwrap_err().cause, Cause::Conflict);
    drop(taken);
    lab.sim.start_container(&lab.ids["dev-lb"]).await.unwrap();
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 2);
    assert!(lab.sim.list().await.unwrap().containers.iter().any(|container| container.image == NODE));
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
