//! What the engine shows, in Kina's words.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, HostConfig, MountPoint, Network as EngineNetwork, PortMap,
    Volume as EngineVolume,
};

use super::create::{ASKED, EVERY_NODES, IMAGE, VOLUMES};
use crate::api::node::{HostMount, MountPropagation, Protocol};
use crate::runtime::{
    Container, ContainerId, ContainerState, Labels, Mount, Network, PublishedPort, Resources, Volume,
};

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
        ipv6_address: None,
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
    let ipv6 = attached.and_then(|(_, endpoint)| endpoint.global_ipv6_address.as_deref()?.parse::<Ipv6Addr>().ok());
    let labels = labels(config.labels);
    let (mounts, host_mounts) = mounts(&points, labels.get(ASKED).map_or("", String::as_str));
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
        ipv6_address: ipv6,
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

/// Directories of its own volumes, and paths of the host that were asked for.
fn mounts(points: &[MountPoint], asked: &str) -> (Vec<Mount>, Vec<HostMount>) {
    let is_every_nodes = |target: &str| EVERY_NODES.contains(&target) && !asked.split(',').any(|asked| asked == target);
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
            None if is_every_nodes(target) && source == target => {}
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
    let of = |is_v6: bool| pools.iter().filter_map(|pool| pool.subnet.clone()).find(|text| text.contains(':') == is_v6);
    Network {
        name: seen.name.unwrap_or_default(),
        subnet: of(false),
        ipv6_subnet: of(true),
        labels: labels(seen.labels),
    }
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

/// The same of IPv6, `/proc/net/ipv6_route`; neither its default route nor what no network of containers could have: this host's
/// own addresses, those of a link, and those of groups.
#[must_use]
pub fn ipv6_routes(table: &str) -> Vec<String> {
    let routes = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(columns.next()?, 16).ok()?);
        let length = u8::from_str_radix(columns.next()?, 16).ok().filter(|length| (1..128).contains(length))?;
        (!address.is_multicast() && !address.is_unicast_link_local()).then(|| format!("{address}/{length}"))
    });
    let mut routes: Vec<String> = routes.collect();
    routes.dedup();
    routes
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
    fn routes_of_ipv6_are_read_as_the_kernel_writes_them() {
        let rest =
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001";
        let table: String = [
            "fd6b696e610abffa0000000000000000 40",
            "fe800000000000000000000000000000 40",
            "fd6b696e610abffa0000000000000001 80",
            "ff000000000000000000000000000000 08",
            "00000000000000000000000000000000 00",
            "broken",
        ]
        .map(|route| format!("{route} {rest}     eth0\n"))
        .concat();
        assert_eq!(ipv6_routes(&table), ["fd6b:696e:610a:bffa::/64"]);
    }

    #[test]
    fn a_network_shows_a_subnet_of_each_family() {
        let pool = |subnet: &str| bollard::models::IpamConfig { subnet: Some(subnet.into()), ..Default::default() };
        let seen = |pools: &[&str]| {
            let ipam = bollard::models::Ipam {
                config: Some(pools.iter().map(|subnet| pool(subnet)).collect()),
                ..Default::default()
            };
            let found = network(EngineNetwork { ipam: Some(ipam), ..EngineNetwork::default() });
            (found.subnet, found.ipv6_subnet)
        };
        let (four, six) = ("10.160.0.0/24", "fd6b:696e:610a:a000::/64");
        assert_eq!(seen(&[four]), (Some(four.to_owned()), None));
        assert_eq!(seen(&[six, four]), (Some(four.to_owned()), Some(six.to_owned())));
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
        let points = [
            point("volume", data, "/kina/volumes/dev-1", ""),
            point("bind", &format!("{data}/etcd"), "/var/lib/etcd", "rprivate"),
            point("bind", "/lib/modules", "/lib/modules", "rprivate"),
            point("volume", "/var/lib/docker/volumes/4f/_data", "/var", ""),
            point("bind", "/data", "/ro", "rslave"),
        ];
        let (own, host) = mounts(&points, "");
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
        // What every node has is shown where somebody asked for it.
        let asked = mounts(&points, "/dev/mapper,/lib/modules").1;
        assert_eq!(asked.iter().map(|mount| mount.host_path.as_str()).collect::<Vec<_>>(), ["/data", "/lib/modules"]);
    }
}
