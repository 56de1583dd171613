//! Rules of ports of the host: each has one owner.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Fault, Faults};
use crate::api::cluster::ClusterSpec;
use crate::api::node::{PortMapping, Protocol};

/// A port of the host, and the field that asks for it.
struct Taken {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    field: String,
}

pub(super) fn check(faults: &mut Faults, spec: &ClusterSpec) {
    let endpoint = &spec.networking.api_server;
    let endpoint =
        PortMapping { host_port: endpoint.port, listen_address: endpoint.address.clone(), ..PortMapping::default() };
    let mut taken: Vec<Taken> = Vec::new();
    if let Some((address, port)) = endpoint.listens_on() {
        let field = "spec.networking.apiServer.port".to_owned();
        taken.push(Taken { protocol: Protocol::Tcp, address, port, field });
    }
    let plane = &spec.control_plane;
    of_pool(faults, &["spec", "controlPlane"], plane.replicas, &plane.extra_port_mappings, &mut taken);
    for (index, pool) in spec.workers.iter().enumerate() {
        let path = ["spec", "workers", &index.to_string()];
        of_pool(faults, &path, pool.replicas, &pool.extra_port_mappings, &mut taken);
    }
}

fn of_pool(faults: &mut Faults, path: &[&str], replicas: u32, mappings: &[PortMapping], taken: &mut Vec<Taken>) {
    if replicas > 1 && !mappings.is_empty() {
        let message = format!("{replicas} machines cannot share a port of the host: use a pool of one machine");
        faults.add(&[path, &["extraPortMappings"]].concat(), message);
    }
    let mut seen = BTreeSet::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let index = index.to_string();
        let here = [path, &["extraPortMappings", &index]].concat();
        let field = |name| [&here[..], &[name]].concat();
        if mapping.container_port == 0 {
            faults.add(&field("containerPort"), "0 is not a port");
        } else if !seen.insert((mapping.container_port, mapping.protocol)) {
            let message = format!("port {} of the machine is mapped a second time", mapping.container_port);
            faults.add(&field("containerPort"), message);
        }
        if let Some(text) = mapping.listen_address.as_ref().filter(|text| text.parse::<IpAddr>().is_err()) {
            faults.add(&field("listenAddress"), format!("`{text}` is not an address such as `127.0.0.1`"));
        }
        let Some((address, port)) = mapping.listens_on() else { continue };
        let clashes = |other: &&Taken| {
            let overlaps = other.address == address || other.address.is_unspecified() || address.is_unspecified();
            other.protocol == mapping.protocol && other.port == port && overlaps
        };
        if let Some(owner) = taken.iter().find(clashes) {
            faults.add(&field("hostPort"), format!("port {port} of the host is taken by `{}`", owner.field));
        }
        taken.push(Taken { protocol: mapping.protocol, address, port, field: Fault::new(&here, "").field() });
    }
}
