//! Many clusters, and the same seed twice.

use super::cluster::{ready, settle, whole_cluster};
use crate::runtime::Runtime;
use crate::runtime::sim::Latency;

/// Everything that a client can see at the end, certificates aside.
async fn trace() -> String {
    let lab = whole_cluster(Latency::small()).await;
    settle(100).await;
    let client = lab.client().await;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::all(client.clone());
    let pods = pods.list(&Default::default()).await.unwrap();
    let listing = lab.sim.list().await.unwrap();
    format!("{:?} {} {:?}", ready(&client).await, serde_json::to_string(&pods).unwrap(), listing.containers)
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_history_down_to_resource_versions() {
    // kube's own randomness is no part of this world; nothing here retries.
    assert_eq!(trace().await, trace().await);
}
