//! What the engine is asked to make, as functions of what Kina wants.

use std::collections::BTreeMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    Ipam, IpamConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions,
    NetworkCreateRequest, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum, SystemInfo,
    VolumeCreateRequest,
};

use crate::api::node::{HostMount, MountPropagation, Protocol};
use crate::host_mounts::plain;
use crate::runtime::{ContainerSpec, NetworkSpec, Privileges, PublishedPort, VolumeSpec};

/// Where a container has its volumes as a whole. What is mounted elsewhere are directories of them, which alone would not
/// keep a volume from being removed.
pub const VOLUMES: &str = "/kina/volumes";
/// Label of a container: its image by the name it was asked for. Podman shows another, `localhost/node` for `node`.
pub const IMAGE: &str = "dev.kina.image";
/// Label of a container: mounts of the host that it would have anyway, and that its spec asks for, separated by commas.
pub const ASKED: &str = "dev.kina.mounts-asked";
/// Mounts of the host that every node has where nothing else is asked for.
pub const EVERY_NODES: [&str; 2] = ["/lib/modules", "/dev/mapper"];
/// Option of a bridge: the largest packet.
pub const MTU: &str = "com.docker.network.driver.mtu";

/// What is special about this engine, as far as nodes care. All of it as kind does it
/// (`pkg/cluster/internal/providers/docker/provision.go`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peculiarities {
    /// Users of containers are others on the host: privileged containers need the host's.
    pub maps_users: bool,
    /// It runs without root, and fuse stands in for what it may not mount.
    pub rootless: bool,
    /// Its storage shows devices of the device mapper, which the kubelet looks up.
    pub maps_devices: bool,
}

impl Peculiarities {
    /// As the engine tells them.
    #[must_use]
    pub fn of(info: &SystemInfo) -> Self {
        let options = info.security_options.as_deref().unwrap_or_default();
        let has =
            |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
        let backing = info.driver_status.as_deref().unwrap_or_default().iter().find_map(|row| match row.as_slice() {
            [key, value] if key == "Backing Filesystem" => Some(value.as_str()),
            _ => None,
        });
        let mapped = ["btrfs", "zfs", "devicemapper", "xfs"];
        let is_mapped = |name: Option<&str>| name.is_some_and(|name| mapped.contains(&name));
        let rootless = has("rootless");
        Self {
            maps_users: has("userns"),
            rootless,
            maps_devices: !rootless && (is_mapped(info.driver.as_deref()) || is_mapped(backing)),
        }
    }
}

/// A container. `directories` are the places of its volumes on the engine's host.
#[must_use]
pub fn container(
    spec: &ContainerSpec,
    directories: &BTreeMap<String, String>,
    peculiarities: Peculiarities,
) -> ContainerCreateBody {
    let (entrypoint, cmd) = match spec.command.split_first() {
        Some((program, arguments)) => (Some(vec![program.clone()]), Some(arguments.to_vec())),
        None => (None, None),
    };
    ContainerCreateBody {
        hostname: Some(spec.name.clone()),
        image: Some(spec.image.clone()),
        labels: Some(labels(spec).into_iter().collect()),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint,
        cmd,
        // Without a terminal systemd writes nothing that a log would show.
        tty: Some(spec.privileges == Privileges::Node),
        exposed_ports: Some(spec.ports.iter().map(exposed).collect()),
        host_config: Some(host_config(spec, directories, peculiarities)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(spec.network.clone(), endpoint(spec))].into_iter().collect()),
        }),
        ..ContainerCreateBody::default()
    }
}

fn labels(spec: &ContainerSpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.insert(IMAGE.to_owned(), spec.image.clone());
    let asked: Vec<&str> = EVERY_NODES.into_iter().filter(|target| takes(spec, target)).collect();
    if !asked.is_empty() {
        labels.insert(ASKED.to_owned(), asked.join(","));
    }
    labels
}

/// Whether something of the host is asked for at a place in a node.
fn takes(spec: &ContainerSpec, target: &str) -> bool {
    spec.host_mounts.iter().any(|mount| plain(Path::new(&mount.container_path)) == Path::new(target))
}

fn endpoint(spec: &ContainerSpec) -> EndpointSettings {
    let pinned = EndpointIpamConfig {
        ipv4_address: spec.address.map(|address| address.to_string()),
        ipv6_address: spec.ipv6_address.map(|address| address.to_string()),
        ..EndpointIpamConfig::default()
    };
    let pins = spec.address.is_some() || spec.ipv6_address.is_some();
    EndpointSettings { ipam_config: pins.then_some(pinned), ..EndpointSettings::default() }
}

/// What a node's kernel has to do for pods of IPv6: hosts and engines switch it off in containers (as kind does).
const IPV6_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv6.conf.all.disable_ipv6", "0"), ("net.ipv6.conf.all.forwarding", "1")];

fn host_config(
    spec: &ContainerSpec,
    directories: &BTreeMap<String, String>,
    peculiarities: Peculiarities,
) -> HostConfig {
    let mut binds: Vec<String> = spec
        .mounts
        .iter()
        .filter_map(|mount| Some((mount, directories.get(&mount.volume)?)))
        // The engine makes the directory where it is missing.
        .map(|(mount, directory)| format!("{directory}/{}:{}", mount.subdirectory, mount.target))
        .collect();
    let mut mounts: Vec<Mount> = directories.keys().map(|volume| whole(volume)).collect();
    for mount in &spec.host_mounts {
        // Only the older of the two forms can relabel, and only the newer says that a path is missing.
        if mount.selinux_relabel { binds.push(relabelled(mount)) } else { mounts.push(of_host(mount)) }
    }
    let memory = spec.resources.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let config = HostConfig {
        network_mode: Some(spec.network.clone()),
        port_bindings: Some(spec.ports.iter().map(|port| (exposed(port), Some(vec![binding(port)]))).collect()),
        extra_hosts: Some(spec.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        dns_search: spec.dns_search.clone(),
        nano_cpus: spec.resources.cpu_millis.and_then(|millis| i64::try_from(millis * 1_000_000).ok()),
        memory,
        // No swap on top: a node that swaps is slower than one that says it is full.
        memory_swap: memory,
        // After a restart of the engine, and once after a crash; more is Kina's to decide.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: Some(1),
        }),
        init: Some(false),
        ..HostConfig::default()
    };
    match spec.privileges {
        Privileges::None => HostConfig { binds: Some(binds), mounts: Some(mounts), ..config },
        Privileges::Network => HostConfig {
            binds: Some(binds),
            mounts: Some(mounts),
            cap_add: Some(vec!["NET_ADMIN".to_owned()]),
            sysctls: Some([("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into_iter().collect()),
            ..config
        },
        Privileges::Node => {
            let [modules, mapper] = EVERY_NODES;
            if !takes(spec, modules) {
                binds.push(format!("{modules}:{modules}:ro"));
            }
            if peculiarities.maps_devices && !takes(spec, mapper) {
                binds.push(format!("{mapper}:{mapper}"));
            }
            if !takes(spec, "/var") {
                mounts.push(own_var(spec));
            }
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let sysctls = spec.ipv6_address.map(|_| IPV6_SYSCTLS.map(owned).into_iter().collect());
            as_node(HostConfig { binds: Some(binds), mounts: Some(mounts), sysctls, ..config }, peculiarities)
        }
    }
}

fn as_node(config: HostConfig, peculiarities: Peculiarities) -> HostConfig {
    let fuse = || DeviceMapping {
        path_on_host: Some("/dev/fuse".to_owned()),
        path_in_container: Some("/dev/fuse".to_owned()),
        cgroup_permissions: Some("rwm".to_owned()),
    };
    HostConfig {
        privileged: Some(true),
        security_opt: Some(vec!["seccomp=unconfined".to_owned(), "apparmor=unconfined".to_owned()]),
        // systemd wants to write there before anything is mounted.
        tmpfs: Some(["/tmp", "/run"].map(|path| (path.to_owned(), String::new())).into_iter().collect()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        userns_mode: peculiarities.maps_users.then(|| "host".to_owned()),
        devices: peculiarities.rootless.then(|| vec![fuse()]),
        ..config
    }
}

/// A volume without a name goes with its container. It bears the container's labels: one that is left over is known.
/// overlayfs, which containerd needs there, does not lie on an overlayfs.
fn own_var(spec: &ContainerSpec) -> Mount {
    Mount {
        target: Some("/var".to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

fn whole(volume: &str) -> Mount {
    Mount {
        source: Some(volume.to_owned()),
        target: Some(format!("{VOLUMES}/{volume}")),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    }
}

fn of_host(mount: &HostMount) -> Mount {
    Mount {
        source: Some(mount.host_path.clone()),
        target: Some(mount.container_path.clone()),
        typ: Some(MountType::BIND),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions { propagation: propagation(mount), ..MountBindOptions::default() }),
        ..Mount::default()
    }
}

fn relabelled(mount: &HostMount) -> String {
    let mode = if mount.read_only { "Z,ro" } else { "Z" };
    let propagation = propagation(mount).map(|propagation| format!(",{propagation}")).unwrap_or_default();
    format!("{}:{}:{mode}{propagation}", mount.host_path, mount.container_path)
}

/// `None` leaves it to the engine, as kind does: it is `rprivate`, but for paths that hold the engine's own data, for which
/// Docker takes nothing that would keep them from being unmounted (`validateBindDaemonRoot`).
fn propagation(mount: &HostMount) -> Option<MountBindOptionsPropagationEnum> {
    match mount.propagation {
        MountPropagation::None => None,
        MountPropagation::HostToContainer => Some(MountBindOptionsPropagationEnum::RSLAVE),
        MountPropagation::Bidirectional => Some(MountBindOptionsPropagationEnum::RSHARED),
    }
}

fn exposed(port: &PublishedPort) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.container_port)
}

fn binding(port: &PublishedPort) -> PortBinding {
    PortBinding { host_ip: Some(port.host_address.to_string()), host_port: Some(port.host_port.to_string()) }
}

/// A network, with the largest packet of the engine's own bridge: on a host behind a tunnel a larger one would be lost
/// without a word.
#[must_use]
pub fn network(spec: &NetworkSpec, mtu: Option<&str>) -> NetworkCreateRequest {
    let masquerade = ("com.docker.network.bridge.enable_ip_masquerade".to_owned(), "true".to_owned());
    let pool = |subnet: &String| IpamConfig { subnet: Some(subnet.clone()), ..IpamConfig::default() };
    let pools: Vec<IpamConfig> = spec.subnet.iter().chain(&spec.ipv6_subnet).map(pool).collect();
    let mtu = mtu.map(|mtu| (MTU.to_owned(), mtu.to_owned()));
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        enable_ipv6: Some(spec.ipv6_subnet.is_some()),
        ipam: Some(Ipam { config: (!pools.is_empty()).then_some(pools), ..Ipam::default() }),
        options: Some(std::iter::once(masquerade).chain(mtu).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

/// A volume.
#[must_use]
pub fn volume(spec: &VolumeSpec) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: Some(spec.name.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Resources;

    fn node(ipv6_address: Option<&str>) -> ContainerSpec {
        ContainerSpec {
            name: "dev-control-plane-0".into(),
            image: "kindest/node:v1.35.5".into(),
            labels: BTreeMap::new(),
            network: "kina-dev".into(),
            address: Some([10, 160, 0, 10].into()),
            ipv6_address: ipv6_address.map(|address| address.parse().unwrap()),
            environment: BTreeMap::new(),
            mounts: Vec::new(),
            host_mounts: Vec::new(),
            ports: Vec::new(),
            resources: Resources::default(),
            hosts: BTreeMap::new(),
            dns_search: None,
            privileges: Privileges::Node,
            command: Vec::new(),
        }
    }

    /// `IPV4 IPV6 SYSCTLS`, as the engine is asked for them.
    fn asked(spec: &ContainerSpec) -> String {
        let body = container(spec, &BTreeMap::new(), Peculiarities::default());
        let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
        let pinned = endpoints["kina-dev"].ipam_config.clone().unwrap_or_default();
        let sysctls: BTreeMap<_, _> = body.host_config.unwrap().sysctls.unwrap_or_default().into_iter().collect();
        format!("{:?} {:?} {sysctls:?}", pinned.ipv4_address, pinned.ipv6_address)
    }

    #[test]
    fn both_addresses_are_pinned_and_a_nodes_kernel_forwards_in_ipv6() {
        let told = [
            asked(&node(None)),
            asked(&node(Some("fd6b:696e:610a:a000::a"))),
            asked(&ContainerSpec { privileges: Privileges::Network, ..node(Some("fd6b:696e:610a:a000::2")) }),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        Some("10.160.0.10") None {}
        Some("10.160.0.10") Some("fd6b:696e:610a:a000::a") {"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.all.forwarding": "1"}
        Some("10.160.0.10") Some("fd6b:696e:610a:a000::2") {"net.ipv4.ip_forward": "1"}
        "#);
    }

    #[test]
    fn what_every_node_has_is_mounted_once_and_noted_where_it_is_asked_for() {
        let mapped = Peculiarities { maps_devices: true, ..Peculiarities::default() };
        let asked = |paths: &[&str]| {
            let mount = |path: &&str| HostMount {
                host_path: (*path).to_owned(),
                container_path: (*path).to_owned(),
                ..HostMount::default()
            };
            let spec = ContainerSpec { host_mounts: paths.iter().map(mount).collect(), ..node(None) };
            let body = container(&spec, &BTreeMap::new(), mapped);
            let host = body.host_config.unwrap();
            let bound: Vec<_> =
                host.mounts.unwrap().into_iter().filter(|mount| mount.typ == Some(MountType::BIND)).collect();
            assert!(bound.iter().all(|mount| mount.bind_options.as_ref().unwrap().propagation.is_none()));
            let bound: Vec<_> = bound.into_iter().map(|mount| mount.target.unwrap()).collect();
            let noted = body.labels.unwrap().into_iter().find(|(name, _)| name == ASKED).map(|(_, asked)| asked);
            (host.binds.unwrap(), bound, noted)
        };
        let (modules, mapper) = ("/lib/modules:/lib/modules:ro".to_owned(), "/dev/mapper:/dev/mapper".to_owned());
        assert_eq!(asked(&["/data"]), (vec![modules, mapper.clone()], vec!["/data".to_owned()], None));
        let noted = Some("/lib/modules".to_owned());
        assert_eq!(asked(&["/lib/modules/"]), (vec![mapper], vec!["/lib/modules/".to_owned()], noted));
        let noted = Some("/lib/modules,/dev/mapper".to_owned());
        let both = vec!["/dev/mapper".to_owned(), "/lib/modules".to_owned()];
        assert_eq!(asked(&["/dev/mapper", "/lib/modules"]), (Vec::new(), both, noted));
    }

    #[test]
    fn a_network_has_a_pool_of_each_family_that_is_asked_for() {
        let asked = |ipv6_subnet: Option<&str>| {
            let spec = NetworkSpec {
                name: "kina-dev".into(),
                subnet: Some("10.160.0.0/24".into()),
                ipv6_subnet: ipv6_subnet.map(str::to_owned),
                labels: BTreeMap::new(),
            };
            let request = network(&spec, None);
            let pools: Vec<_> = request.ipam.unwrap().config.unwrap().into_iter().map(|pool| pool.subnet).collect();
            (request.enable_ipv6, pools)
        };
        let pool = |text: &str| Some(text.to_owned());
        assert_eq!(asked(None), (Some(false), vec![pool("10.160.0.0/24")]));
        let six = "fd6b:696e:610a:a000::/64";
        assert_eq!(asked(Some(six)), (Some(true), vec![pool("10.160.0.0/24"), pool(six)]));
    }
}
