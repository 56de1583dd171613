//! From an address to the API server that answers there.

use std::net::{IpAddr, Ipv4Addr};

use super::etcd;
use super::kubeadm;
use super::world::{ContainerRecord, State};

/// The load balancer's script, and where it reads what it forwards to.
pub(super) const SCRIPT: &str = "/kina/balancer/run";
pub(super) const BACKENDS: &str = "/kina/balancer/backends";
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
    let (id, entry) = state.reached(from, address).ok_or(NoRoute::Refused)?;
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
    if record.balances() {
        // Its first process ends at once without its script.
        if state.file(id, SCRIPT).is_none() {
            return Err(NoRoute::Refused);
        }
        let answering: Vec<Backend> = state
            .backends(id)
            .iter()
            .filter_map(|host| {
                let address = resolve(state, record, host)?;
                let (container, _) = state.reached(id, address)?;
                let (tenant, version) = (answers(state, container)?, version(state, container));
                Some(Backend { entry: Some(id.to_owned()), container: container.to_owned(), tenant, version })
            })
            .collect();
        let next = turn.checked_rem(answering.len()).unwrap_or_default();
        return answering.into_iter().nth(next).ok_or(NoRoute::Reset);
    }
    let tenant = answers(state, id).ok_or(NoRoute::Refused)?;
    Ok(Backend { entry: None, container: id.to_owned(), tenant, version: version(state, id) })
}

fn version(state: &State, id: &str) -> String {
    state.containers.get(id).and_then(ContainerRecord::version).unwrap_or_default().to_owned()
}

/// The cluster whose API server runs and answers in this container.
pub(super) fn answers(state: &State, id: &str) -> Option<String> {
    let cluster = etcd::serving(state, id)?;
    let complete = [kubeadm::API_SERVER_MANIFEST, kubeadm::CA_FILE, kubeadm::API_SERVER_CERTIFICATE];
    complete.iter().all(|path| state.file(id, path).is_some()).then(|| cluster.id.clone())
}

/// The backends of a load balancer, in order; nobody where the file is not whole.
pub(super) fn parse_backends(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let whole = text.strip_suffix("end\n").unwrap_or_default();
    whole.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_backends_counts_only_as_a_whole() {
        assert_eq!(parse_backends(b"10.0.0.10\n10.0.0.11\nend\n"), ["10.0.0.10", "10.0.0.11"]);
        assert!(parse_backends(b"end\n").is_empty() && parse_backends(b"10.0.0.10\n").is_empty());
    }
}
