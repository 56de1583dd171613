//! The contract, and what is special about Docker, against a real engine. Where none answers, or no image can be had, the
//! tests say that they were skipped.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Json, Router};
use serde_json::json;

use super::*;
use crate::api::node::HostMount;
use crate::runtime::contract::{self, Setup};
use crate::runtime::{InstallationId, Privileges, Resources, Role};

/// An image with the commands that the contract uses; `.ci/run` builds one from Debian's busybox.
const IMAGE: &str = "docker.io/library/busybox:1.37";

struct Lab {
    runtime: DockerRuntime,
    image: String,
    /// Answers as a registry that has nothing.
    registry: String,
}

async fn lab() -> Option<Lab> {
    let skipped = |why: &str| {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED, Docker: {why}\n"));
        None
    };
    let Some(runtime) = DockerRuntime::installed(Surroundings::of_process(), World::real()) else {
        return skipped("none is installed");
    };
    if let Err(error) = runtime.info().await {
        return skipped(&error.to_string());
    }
    let image = std::env::var("KINA_TEST_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
    if let Err(error) = runtime.ensure_image(&image).await {
        return skipped(&error.to_string());
    }
    Some(Lab { runtime, image, registry: empty_registry().await })
}

async fn empty_registry() -> String {
    let missing = || async {
        let body = json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown" }] });
        (StatusCode::NOT_FOUND, Json(body)).into_response()
    };
    let app = Router::new().route("/v2/", axum::routing::get(|| async { "{}" })).fallback(missing);
    // Podman talks to a registry without TLS only where its configuration names it.
    let address = std::env::var("KINA_TEST_REGISTRY").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address.to_string()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_keeps_the_contract() {
    keeps_the_contract(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_keeps_the_contract_where_it_is_not_asked_to_pin_addresses() {
    keeps_the_contract(false).await;
}

async fn keeps_the_contract(pins_addresses: bool) {
    let Some(mut lab) = lab().await else { return };
    if !pins_addresses {
        lab.runtime = lab.runtime.without_pinned_addresses();
    }
    let setup = Setup {
        image: lab.image.clone(),
        missing_image: format!("{}/nobody/nothing:v1", lab.registry),
        prefix: format!("kina-contract-{pins_addresses}-{}", std::process::id()),
        subnet: (231, 17 + u8::from(pins_addresses)),
        port: free_port(),
        has_ipv6: std::path::Path::new("/proc/net/if_inet6").exists(),
    };
    let whole = tokio::time::timeout(Duration::from_secs(180), contract::run(&lab.runtime, &setup));
    whole.await.expect("the contract within three minutes");
}

#[tokio::test]
async fn an_engine_that_is_away_is_unavailable_and_says_how_it_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let surroundings = Surroundings { docker_host: Some(host), ..Surroundings::default() };
    let runtime = DockerRuntime::installed(surroundings, World::real()).unwrap();
    let error = runtime.list().await.unwrap_err();
    assert_eq!(error.cause, Cause::Unavailable, "{error}");
    assert!(error.to_string().contains(&socket.display().to_string()), "{error}");
}

/// Kina's own mount of the same path is shown to nobody; the data of the engine itself is never mounted `rprivate`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(target_os = "linux"), ignore = "the engine has another file system than this test")]
async fn mounts_of_the_host_are_seen_as_they_were_asked_for() {
    let Some(lab) = lab().await else { return };
    let labels = OwnerLabels {
        installation: InstallationId::parse("mounts-of-the-host").unwrap(),
        cluster: "dev".into(),
        cluster_uid: "uid-1".into(),
        machine_uid: Some("uid-2".into()),
        role: Some(Role::Worker),
        spec_hash: None,
    };
    let mount = |host_path: &str, container_path: &str| HostMount {
        host_path: host_path.to_owned(),
        container_path: container_path.to_owned(),
        read_only: true,
        ..HostMount::default()
    };
    let spec = ContainerSpec {
        name: format!("kina-mounts-of-the-host-{}", std::process::id()),
        image: lab.image.clone(),
        labels: labels.to_labels(),
        network: "bridge".into(),
        address: None,
        ipv6_address: None,
        environment: BTreeMap::new(),
        mounts: Vec::new(),
        host_mounts: vec![
            mount("/lib/modules", "/lib/modules/"),
            mount("/etc//", "/host-etc"),
            mount("/var/lib", "/engine"),
        ],
        ports: Vec::new(),
        resources: Resources::default(),
        hosts: BTreeMap::new(),
        dns_search: None,
        privileges: Privileges::Node,
        command: Vec::new(),
    };
    let _ = std::fs::create_dir_all("/lib/modules");
    let id = lab.runtime.create_container(&spec).await.unwrap();
    let listing = lab.runtime.list().await.unwrap();
    lab.runtime.remove_container(&id).await.unwrap();
    let seen = listing.containers.iter().find(|container| container.id == id).unwrap();
    let paths = |mount: &HostMount| format!("{}:{}:{}", mount.host_path, mount.container_path, mount.read_only);
    let mut seen: Vec<String> = seen.host_mounts.iter().map(paths).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["/etc:/host-etc:true", "/lib/modules:/lib/modules:true", "/var/lib:/engine:true"]);
}
