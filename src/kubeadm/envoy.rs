//! The load balancer in front of the API servers: files for envoy, as kind writes them.
//!
//! Listener and backends lie in files of their own, which envoy watches: backends change without a restart.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::API_PORT;

/// The image that runs it.
pub const IMAGE: &str = "docker.io/envoyproxy/envoy:v1.36.2";
/// Where its files lie.
pub const DIRECTORY: &str = "/home/envoy";
/// The file that names the backends.
pub const BACKENDS_PATH: &str = "/home/envoy/cds.yaml";

/// Path and content of every file. JSON is YAML, and needs no quoting rules.
#[must_use]
pub fn files(cluster: &str, node: &str, backends: &[Ipv4Addr]) -> [(&'static str, String); 3] {
    [
        ("/home/envoy/envoy.yaml", render(&bootstrap(cluster, node))),
        (BACKENDS_PATH, backends_file(backends)),
        ("/home/envoy/lds.yaml", render(&listeners())),
    ]
}

/// The content of [`BACKENDS_PATH`].
#[must_use]
pub fn backends_file(backends: &[Ipv4Addr]) -> String {
    let endpoints: Vec<Value> = backends
        .iter()
        .map(|address| {
            json!({"endpoint": {"address": {"socket_address": {"address": address.to_string(), "port_value": API_PORT}}}})
        })
        .collect();
    let cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "kube_apiservers",
        "connect_timeout": "0.25s",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        // Without this envoy ignores health while fewer than half of the backends have it: all of the time in which the
        // first API servers come up.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [{
            "timeout": "3s",
            "interval": "2s",
            "no_traffic_interval": "1s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "http_health_check": {"path": "/healthz"},
        }],
        "transport_socket_matches": [{
            "match": {},
            "name": "tls",
            "transport_socket": {
                "name": "envoy.transport_sockets.raw_buffer",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
            },
        }],
        "load_assignment": {"cluster_name": "kube_apiservers", "endpoints": [{"lb_endpoints": endpoints}]},
    });
    render(&json!({"resources": [with_tls_health_checks(cluster)]}))
}

/// Traffic passes as it is; health checks alone speak TLS, to certificates that envoy does not verify.
fn with_tls_health_checks(mut cluster: Value) -> Value {
    let tls = json!({
        "name": "health",
        "match": {"health": true},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"validation_context": {"trust_chain_verification": "ACCEPT_UNTRUSTED"}},
            },
        },
    });
    if let Some(matches) = cluster.get_mut("transport_socket_matches").and_then(Value::as_array_mut) {
        matches.insert(0, tls);
    }
    if let Some(check) = cluster.pointer_mut("/health_checks/0").and_then(Value::as_object_mut) {
        check.insert("transport_socket_match_criteria".to_owned(), json!({"health": true}));
    }
    cluster
}

fn listeners() -> Value {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "kube_apiserver",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": API_PORT}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "kube_apiserver",
                "cluster": "kube_apiservers",
                // Watches are quiet for minutes.
                "idle_timeout": "0s",
            },
        }]}],
    }]})
}

fn bootstrap(cluster: &str, node: &str) -> Value {
    let file = |path: &str| json!({"path_config_source": {"path": path}});
    json!({
        "node": {"cluster": cluster, "id": node},
        "dynamic_resources": {
            "cds_config": file(BACKENDS_PATH),
            "lds_config": file("/home/envoy/lds.yaml"),
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}}},
    })
}

fn render(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_named_and_files_are_yaml() {
        let backends = [Ipv4Addr::new(10, 160, 0, 10), Ipv4Addr::new(10, 160, 0, 11)];
        for (path, content) in files("dev", "dev-lb", &backends) {
            let parsed: Value = serde_saphyr::from_str(&content).unwrap();
            assert!(parsed.is_object(), "{path}");
        }
        let backends = backends_file(&backends);
        assert!(backends.contains("10.160.0.10") && backends.contains("10.160.0.11"));
    }
}
