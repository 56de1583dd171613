//! Defaults that depend on the host: resolved once, stored, and never looked up again.

use std::net::{IpAddr, Ipv4Addr};

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::adopt::{self, Remains};
use super::node_network;
use super::observe::Subject;
use super::wait::Wait;
use crate::api::cidr::{AnyCidr, Cidr, Subnets};
use crate::api::cluster::{ClusterSpec, NodeNetwork, RuntimeName};
use crate::api::defaults::{self, HostDefaults};
use crate::api::{Cluster, annotations, defaults::Resolved, ipv6};
use crate::controllers::context::Shared;
use crate::controllers::error::ReconcileError;
use crate::controllers::events::Tone;
use crate::controllers::host::{self, Host, Seen};

/// Field manager of resolved defaults.
const MANAGER: &str = "kina-defaults";
/// How often a port that another Cluster has is drawn again.
const DRAWS: usize = 32;

/// Resolves and stores what is missing; `Some` where it cannot be done now.
///
/// # Errors
/// Where Kina's own API refuses.
pub async fn resolve(shared: &Shared, subject: &Subject) -> Result<Option<Wait>, ReconcileError> {
    let mut spec = subject.cluster.spec.clone();
    let mut host = match host_defaults(shared, subject, &spec) {
        Ok(host) => host,
        Err(wait) => return Ok(Some(wait)),
    };
    let remains = match adopt::remains(shared, subject, host.runtime).await? {
        Ok(remains) => remains,
        Err(wait) => return Ok(Some(wait)),
    };
    if let Some(remains) = &remains {
        // What the spec leaves open is as it was.
        spec.kubernetes_version = spec.kubernetes_version.or_else(|| remains.version.clone());
        spec.image = spec.image.or_else(|| remains.image.clone());
        host.node_network = remains.node_network.unwrap_or(host.node_network);
        host.node_subnet = remains.node_subnet.unwrap_or(host.node_subnet);
        host.api_port = remains.port.unwrap_or(host.api_port);
    }
    let stored = defaults::resolve(&spec, &host);
    let Some(resolved) = Resolved::of(&stored) else {
        return Ok(Some(Wait::Unresolved("a value of the spec is not valid".to_owned())));
    };
    if let Some(Err(wait)) = remains.as_ref().map(|remains| remains.compare(&resolved)) {
        return Ok(Some(wait));
    }
    store(shared, subject, json!({ "spec": stored }), remains.as_ref()).await
}

/// Chooses ports of the host for mappings that came to a Cluster that is there. `Some` where it cannot be done now.
///
/// # Errors
/// Where Kina's own API refuses.
pub async fn ports(shared: &Shared, subject: &Subject) -> Result<Option<Wait>, ReconcileError> {
    let spec = &subject.cluster.spec;
    match host_defaults(shared, subject, spec) {
        Ok(host) => store(shared, subject, json!({ "spec": defaults::resolve(spec, &host) }), None).await,
        Err(wait) => Ok(Some(wait)),
    }
}

/// Adopts what an earlier Cluster of this name left, where this one has its defaults and nothing on the host: its record
/// comes from an older store. `Some` where it cannot be done now.
///
/// # Errors
/// Where Kina's own API refuses.
pub async fn adopt(shared: &Shared, subject: &Subject, spec: &Resolved) -> Result<Adopted, ReconcileError> {
    let remains = match adopt::remains(shared, subject, spec.runtime).await? {
        Ok(None) => return Ok(Adopted::Nothing),
        Ok(Some(remains)) => remains,
        Err(wait) => return Ok(Adopted::Wait(wait)),
    };
    if let Err(wait) = remains.compare(spec) {
        return Ok(Adopted::Wait(wait));
    }
    let stored = store(shared, subject, json!({}), Some(&remains)).await?;
    Ok(stored.map_or(Adopted::Stored, Adopted::Wait))
}

/// How far an adoption is.
#[derive(Clone, Debug, PartialEq)]
pub enum Adopted {
    /// There is nothing to adopt.
    Nothing,
    /// The Cluster has another identity now.
    Stored,
    /// It cannot be done, or not yet.
    Wait(Wait),
}

async fn store(
    shared: &Shared,
    subject: &Subject,
    mut patch: Value,
    remains: Option<&Remains>,
) -> Result<Option<Wait>, ReconcileError> {
    // Another writer may have changed the spec since it was read.
    patch["metadata"] = json!({ "uid": subject.uid, "resourceVersion": subject.cluster.metadata.resource_version });
    if let Some(remains) = remains {
        patch["metadata"]["annotations"] = json!({
            annotations::IDENTITY: remains.identity,
            // The earlier one may have been on others, too.
            annotations::RUNTIMES: null,
        });
    }
    let clusters: Api<Cluster> = Api::all(shared.context.client.clone());
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match clusters.patch(&subject.name, &params, &Patch::Merge(&patch)).await {
        Ok(stored) => {
            shared.clusters.wrote(stored);
            if let Some(Remains { identity, machines, .. }) = remains {
                let note = format!(
                    "adopted what an earlier cluster of this name left, with {machines} machines: its UID was {identity}"
                );
                shared.events.tell(&*subject.cluster, Tone::Normal, "Adopted", &note).await;
            }
            Ok(None)
        }
        // Changed or gone meanwhile: the next pass reads it again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Some(Wait::Observing)),
        Err(error) => Err(ReconcileError::api("store the defaults of", &subject.name, error)),
    }
}

/// Why the runtime cannot have such a cluster, which was resolved; `None` where it can.
pub fn unsupported(shared: &Shared, resolved: &Resolved, spec: &ClusterSpec) -> Option<Wait> {
    let host = shared.host(resolved.runtime)?;
    network(resolved.runtime, host, spec, Some(resolved.node_network)).err()
}

/// The network for machines of such a spec. `chosen` is the one that was resolved already.
fn network(
    runtime: RuntimeName,
    host: &Host,
    spec: &ClusterSpec,
    chosen: Option<NodeNetwork>,
) -> Result<NodeNetwork, Wait> {
    let (name, capabilities) = (runtime.as_str(), host.runtime.capabilities());
    if let Some(wait) = Wait::for_family(name, capabilities, spec.networking.family()) {
        return Err(wait);
    }
    let wanted = spec.networking.node_network.or(chosen);
    node_network::choose(name, capabilities.networks, wanted, node_network::machines(spec))
}

fn host_defaults(shared: &Shared, subject: &Subject, spec: &ClusterSpec) -> Result<HostDefaults, Wait> {
    let runtime = match spec.runtime.filter(|name| !name.is_auto()) {
        Some(name) => name,
        None => {
            let none = || Wait::Unresolved("no container runtime is installed".to_owned());
            shared.context.runtimes.auto().ok_or_else(none)?
        }
    };
    let Some(host) = shared.host(runtime) else {
        return Err(Wait::RuntimeUnsupported(runtime.as_str()));
    };
    let chosen = subject.resolved().map(|resolved| resolved.node_network);
    let node_network = network(runtime, host, spec, chosen)?;
    let listing = match host.seen() {
        Seen::Known(listing) => listing,
        Seen::Unknown(message) => return Err(Wait::RuntimeSilent(message)),
    };
    let (subnets, ports) = taken(shared, subject, spec);
    let mut subnets: Vec<Cidr> = subnets.into_iter().chain(host::subnets(&listing)).collect();
    if spec.networking.family().has_v6() {
        subnets.extend(host::ipv6_subnets(&listing).into_iter().filter_map(ipv6::taken_by));
    }
    let address = spec.networking.api_server.address.as_deref().and_then(|text| text.parse().ok());
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let draw = |reserved: &[u16]| {
        let found = (0..DRAWS).map(|_| shared.context.world.ports.free_port(address));
        let mut free =
            found.filter(|port| !matches!(port, Ok(port) if ports.contains(port) || reserved.contains(port)));
        free.next().unwrap_or_else(|| Err(std::io::ErrorKind::AddrInUse.into()))
    };
    match shared.reservations.reserve(&subject.uid, &subnets, 1 + defaults::open_ports(spec), draw) {
        Ok(Some((node_subnet, ports))) => {
            let mut ports = ports.into_iter();
            let api_port = ports.next().unwrap_or_default();
            Ok(HostDefaults { runtime, node_network, node_subnet, api_port, mapped_ports: ports.collect() })
        }
        Ok(None) => Err(Wait::Unresolved(format!("no /24 of {} is free on this host", defaults::NODE_SUBNETS))),
        Err(error) => Err(Wait::Unresolved(format!("no port of {address} is free: {error}"))),
    }
}

/// Subnets and ports that Clusters have, this one's own pods and services among them.
fn taken(shared: &Shared, subject: &Subject, spec: &ClusterSpec) -> (Vec<Cidr>, Vec<u16>) {
    let (mut subnets, mut ports) = (Vec::new(), Vec::new());
    let family = spec.networking.family();
    let (pods, services) = defaults::subnets(family);
    let own = [
        spec.networking.pod_subnet.clone().unwrap_or(pods),
        spec.networking.service_subnet.clone().unwrap_or(services),
    ];
    let each = own.iter().filter_map(|text| Subnets::parse(text, family).ok()).flat_map(Subnets::each);
    subnets.extend(each.filter_map(|subnet| match subnet {
        AnyCidr::V4(subnet) => Some(subnet),
        AnyCidr::V6(_) => None,
    }));
    for other in shared.clusters.of("") {
        if other.metadata.uid.as_deref() == Some(&*subject.uid) {
            continue;
        }
        let networking = &other.spec.networking;
        subnets.extend(networking.node_subnet.as_deref().and_then(|text| text.parse::<Cidr>().ok()));
        ports.extend(networking.api_server.port);
        ports.extend(defaults::mappings(&other.spec).filter_map(|mapping| mapping.host_port));
    }
    (subnets, ports)
}
