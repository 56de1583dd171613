//! From an address to the API server that answers there.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::etcd;
use super::images::ImageKind;
use super::kubeadm;
use super::world::{ContainerRecord, State};

/// Where envoy keeps what it forwards to, and what it listens on.
pub(super) const ENVOY: &str = "/home/envoy/envoy.yaml";
pub(super) const BACKENDS: &str = "/home/envoy/cds.yaml";
pub(super) const LISTENERS: &str = "/home/envoy/lds.yaml";
/// The port of API servers.
pub(super) const API_PORT: u16 = 6443;

/// An API server that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    /// The load balancer that was gone through, if any.
    pub entry: Option<String>,
    /// Id of the control plane's container.
    pub container: String,
    /// The cluster, by the id of its etcd.
    pub tenant: String,
    /// What the API server says that it is, such as `v1.35.5`.
    pub version: String,
}

/// Nothing answers there: what a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No such host.
    NoHost,
    /// Connection refused.
    Refused,
    /// Connected to a load balancer none of whose backends answers.
    Reset,
}

/// From the host, through a published port. `turn` says which of several backends is next.
pub(super) fn from_host(state: &State, address: IpAddr, port: u16, turn: usize) -> Result<Backend, NoRoute> {
    let publishes = |record: &ContainerRecord| {
        record.runs()
            && record
                .spec
                .ports
                .iter()
                .find(|published| {
                    published.host_port == port
                        && (published.host_address == address || published.host_address.is_unspecified())
                })
                .is_some_and(|published| published.container_port == API_PORT)
    };
    let (id, record) = state.publishing(port).find(|(_, record)| publishes(record)).ok_or(NoRoute::Refused)?;
    enter(state, id, record, turn)
}

/// From inside a container, to `HOST:PORT`.
pub(super) fn from_container(state: &State, from: &str, target: &str) -> Result<Backend, NoRoute> {
    let (host, port) = target.rsplit_once(':').unwrap_or((target, "6443"));
    let record = state.containers.get(from).ok_or(NoRoute::NoHost)?;
    if port.parse() != Ok(API_PORT) {
        return Err(NoRoute::Refused);
    }
    let address = resolve(state, record, host).ok_or(NoRoute::NoHost)?;
    let (id, entry) = state.at_address(&record.spec.network, address).ok_or(NoRoute::Refused)?;
    enter(state, id, entry, 0)
}

fn resolve(state: &State, from: &ContainerRecord, host: &str) -> Option<Ipv4Addr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    if host == from.spec.name {
        return from.address;
    }
    let named = || state.by_name(host).filter(|(_, record)| record.spec.network == from.spec.network);
    from.spec.hosts.get(host).copied().or_else(|| named().and_then(|(_, record)| record.address))
}

/// Through a load balancer, or to an API server itself.
fn enter(state: &State, id: &str, record: &ContainerRecord, turn: usize) -> Result<Backend, NoRoute> {
    match record.image() {
        Some(ImageKind::Envoy) => {
            let listens =
                state.file(id, ENVOY).is_some() && state.text(id, LISTENERS).is_some_and(|lds| lds.contains("6443"));
            if !listens {
                return Err(NoRoute::Refused);
            }
            let answering: Vec<Backend> = state
                .backends(id)
                .iter()
                .filter_map(|host| {
                    let address = resolve(state, record, host)?;
                    let (container, _) = state.at_address(&record.spec.network, address)?;
                    let (tenant, version) = (answers(state, container)?, version(state, container));
                    Some(Backend { entry: Some(id.to_owned()), container: container.to_owned(), tenant, version })
                })
                .collect();
            let next = turn.checked_rem(answering.len()).unwrap_or_default();
            answering.into_iter().nth(next).ok_or(NoRoute::Reset)
        }
        Some(ImageKind::Node(_)) => {
            let tenant = answers(state, id).ok_or(NoRoute::Refused)?;
            Ok(Backend { entry: None, container: id.to_owned(), tenant, version: version(state, id) })
        }
        None => Err(NoRoute::Refused),
    }
}

fn version(state: &State, id: &str) -> String {
    state.containers.get(id).and_then(ContainerRecord::version).unwrap_or_default()
}

/// The cluster whose API server runs and answers in this container.
pub(super) fn answers(state: &State, id: &str) -> Option<String> {
    let cluster = etcd::serving(state, id)?;
    let complete = [kubeadm::API_SERVER_MANIFEST, kubeadm::CA_FILE, kubeadm::API_SERVER_CERTIFICATE];
    complete.iter().all(|path| state.file(id, path).is_some()).then(|| cluster.id.clone())
}

/// The hosts of envoy's only cluster, in order.
pub(super) fn parse_backends(cds: &[u8]) -> Vec<String> {
    let Some(document) = std::str::from_utf8(cds).ok().and_then(|text| serde_saphyr::from_str::<Value>(text).ok())
    else {
        return Vec::new();
    };
    let lists = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let endpoints = lists(&document, "resources").into_iter().flat_map(|cluster| {
        cluster.get("load_assignment").map(|assignment| lists(assignment, "endpoints")).unwrap_or_default()
    });
    let address = |endpoint: Value| {
        let address = endpoint.pointer("/endpoint/address/socket_address")?;
        let port = address.get("port_value")?.as_u64()?;
        (port == u64::from(API_PORT)).then(|| address.get("address")?.as_str().map(str::to_owned))?
    };
    endpoints.flat_map(|locality| lists(&locality, "lb_endpoints")).filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_read_as_envoy_reads_them() {
        let cds = "resources:\n- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: kube_apiservers\n  \
                   load_assignment:\n    cluster_name: kube_apiservers\n    endpoints:\n    - lb_endpoints:\n      \
                   - endpoint:\n          address:\n            socket_address:\n              address: 10.0.0.10\n              \
                   port_value: 6443\n      - endpoint: {address: {socket_address: {address: b, port_value: 6443}}}\n";
        assert_eq!(parse_backends(cds.as_bytes()), ["10.0.0.10", "b"]);
        assert!(parse_backends(b"resources: []").is_empty() && parse_backends(b": [").is_empty());
    }
}
