//! What the engine shows, in Kina's words.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, HostConfig, MountPoint, Network as EngineNetwork, PortMap,
    Volume as EngineVolume,
};

use super::create::{IMAGE, VOLUMES};
use crate::api::node::{HostMount, MountPropagation, Protocol};
use crate::runtime::{
    Container, ContainerId, ContainerState, Labels, Mount, Network, PublishedPort, Resources, Volume,
};

/// Mounts of the host that every node has, asked for by nobody.
const EVERY_NODES: [&str; 2] = ["/lib/modules", "/dev/mapper"];

/// A container of somebody else, of which only name, state and labels count.
#[must_use]
pub fn foreign(summary: ContainerSummary) -> Container {
    let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    let status = summary.state.map(|state| state.to_string()).unwrap_or_default();
    Container {
        id: ContainerId(summary.id.unwrap_or_default()),
        name: name.trim_start_matches('/').to_owned(),
        state: state(&status, None),
        labels: labels(summary.labels),
        image: summary.image.unwrap_or_default(),
        network: None,
        address: None,
        mounts: Vec::new(),
        host_mounts: Vec::new(),
        ports: Vec::new(),
        resources: Resources::default(),
    }
}

/// A container, whole.
#[must_use]
pub fn container(inspected: ContainerInspectResponse) -> Container {
    let config = inspected.config.unwrap_or_default();
    let host = inspected.host_config.unwrap_or_default();
    let points = inspected.mounts.unwrap_or_default();
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let wanted = host.network_mode.as_deref().unwrap_or_default();
    // One that somebody took off its network and put on another shows that other.
    let attached = networks.get_key_value(wanted).or_else(|| networks.iter().min_by_key(|(name, _)| name.as_str()));
    let address = attached.and_then(|(_, endpoint)| endpoint.ip_address.as_deref()?.parse::<Ipv4Addr>().ok());
    let (mounts, host_mounts) = mounts(&points);
    let labels = labels(config.labels);
    Container {
        id: ContainerId(inspected.id.unwrap_or_default()),
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        state: inspected.state.map_or(ContainerState::Unknown, |seen| {
            let status = seen.status.map(|status| status.to_string()).unwrap_or_default();
            state(&status, seen.exit_code.and_then(|code| i32::try_from(code).ok()))
        }),
        image: labels.get(IMAGE).cloned().or(config.image).unwrap_or_default(),
        labels,
        network: attached.map(|(name, _)| name.clone()),
        address,
        mounts,
        host_mounts,
        ports: host.port_bindings.as_ref().map(ports).unwrap_or_default(),
        resources: resources(&host),
    }
}

fn state(status: &str, exit_code: Option<i32>) -> ContainerState {
    match status {
        "created" => ContainerState::Created,
        "running" => ContainerState::Running,
        "exited" => ContainerState::Stopped { exit_code },
        // It does as little as one that is stopped, and goes on when it is started.
        "paused" => ContainerState::Stopped { exit_code: None },
        _ => ContainerState::Unknown,
    }
}

/// Directories of its own volumes, and paths of the host.
fn mounts(points: &[MountPoint]) -> (Vec<Mount>, Vec<HostMount>) {
    let volumes: BTreeMap<&str, &str> = points
        .iter()
        .filter_map(|point| {
            let volume = point.destination.as_deref()?.strip_prefix(VOLUMES)?.strip_prefix('/')?;
            Some((point.source.as_deref()?, volume))
        })
        .collect();
    let (mut own, mut host) = (Vec::new(), Vec::new());
    for point in points.iter().filter(|point| point.typ.as_deref() == Some("bind")) {
        let (Some(source), Some(target)) = (point.source.as_deref(), point.destination.as_deref()) else { continue };
        let of_volume = volumes.iter().find_map(|(directory, volume)| {
            let subdirectory = source.strip_prefix(directory)?.strip_prefix('/')?;
            Some(Mount {
                volume: (*volume).to_owned(),
                subdirectory: subdirectory.to_owned(),
                target: target.to_owned(),
            })
        });
        match of_volume {
            Some(mount) => own.push(mount),
            None if EVERY_NODES.contains(&target) && source == target => {}
            None => host.push(host_mount(source, target, point)),
        }
    }
    own.sort();
    host.sort();
    (own, host)
}

fn host_mount(source: &str, target: &str, point: &MountPoint) -> HostMount {
    HostMount {
        host_path: source.to_owned(),
        container_path: target.to_owned(),
        read_only: point.rw == Some(false),
        selinux_relabel: point.mode.as_deref().is_some_and(|mode| mode.split(',').any(|option| option == "Z")),
        propagation: match point.propagation.as_deref() {
            Some("rslave" | "slave") => MountPropagation::HostToContainer,
            Some("rshared" | "shared") => MountPropagation::Bidirectional,
            _ => MountPropagation::None,
        },
    }
}

fn ports(bindings: &PortMap) -> Vec<PublishedPort> {
    let mut ports: Vec<PublishedPort> = bindings
        .iter()
        .flat_map(|(port, bindings)| bindings.iter().flatten().map(move |binding| (port, binding)))
        .filter_map(|(port, binding)| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let address = binding.host_ip.as_deref().filter(|address| !address.is_empty()).unwrap_or("0.0.0.0");
            Some(PublishedPort {
                host_address: address.parse::<IpAddr>().ok()?,
                host_port: binding.host_port.as_deref()?.parse().ok()?,
                container_port: number.parse().ok()?,
                protocol: match protocol {
                    "udp" => Protocol::Udp,
                    "sctp" => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
            })
        })
        .collect();
    ports.sort_unstable();
    ports
}

fn resources(host: &HostConfig) -> Resources {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    Resources {
        cpu_millis: positive(host.nano_cpus).map(|nanos| nanos / 1_000_000),
        memory_bytes: positive(host.memory),
    }
}

/// A network.
#[must_use]
pub fn network(seen: EngineNetwork) -> Network {
    let pools = seen.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let subnet = pools.into_iter().filter_map(|pool| pool.subnet).find(|subnet| !subnet.contains(':'));
    Network { name: seen.name.unwrap_or_default(), subnet, labels: labels(seen.labels) }
}

/// A volume.
#[must_use]
pub fn volume(seen: EngineVolume) -> Volume {
    Volume { name: seen.name, labels: seen.labels.into_iter().collect() }
}

fn labels(seen: Option<impl IntoIterator<Item = (String, String)>>) -> Labels {
    seen.into_iter().flatten().collect()
}

/// Subnets that this host has routes to, `/proc/net/route` of Linux; its default route is none. A network over one of them
/// would cut the host off from it.
#[must_use]
pub fn routes(table: &str) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            // Little-endian, as the kernel has it in memory.
            let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
            let (destination, mask) = (number(columns.get(1)?)?, number(columns.get(7)?)?);
            (mask != 0).then(|| format!("{}/{}", Ipv4Addr::from(destination), mask.leading_ones()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     broken\n";
        assert_eq!(routes(table), ["192.168.0.0/24", "172.17.0.0/16"]);
    }

    #[test]
    fn directories_of_volumes_are_told_from_mounts_of_the_host() {
        let point = |typ: &str, source: &str, target: &str, propagation: &str| MountPoint {
            typ: Some(typ.to_owned()),
            source: Some(source.to_owned()),
            destination: Some(target.to_owned()),
            propagation: Some(propagation.to_owned()),
            rw: Some(target != "/ro"),
            ..MountPoint::default()
        };
        let data = "/var/lib/docker/volumes/dev-1/_data";
        let (own, host) = mounts(&[
            point("volume", data, "/kina/volumes/dev-1", ""),
            point("bind", &format!("{data}/etcd"), "/var/lib/etcd", "rprivate"),
            point("bind", "/lib/modules", "/lib/modules", "rprivate"),
            point("volume", "/var/lib/docker/volumes/4f/_data", "/var", ""),
            point("bind", "/data", "/ro", "rslave"),
        ]);
        assert_eq!(
            own,
            [Mount { volume: "dev-1".into(), subdirectory: "etcd".into(), target: "/var/lib/etcd".into() }]
        );
        assert_eq!(
            host,
            [HostMount {
                host_path: "/data".into(),
                container_path: "/ro".into(),
                read_only: true,
                selinux_relabel: false,
                propagation: MountPropagation::HostToContainer,
            }]
        );
    }
}
