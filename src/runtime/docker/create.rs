//! What the engine is asked to make, as functions of what Kina wants.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    Ipam, IpamConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions,
    NetworkCreateRequest, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum, SystemInfo,
    VolumeCreateRequest,
};

use crate::api::node::{HostMount, MountPropagation, Protocol};
use crate::runtime::{ContainerSpec, NetworkSpec, Privileges, PublishedPort, VolumeSpec};

/// Where a container has its volumes as a whole. What is mounted elsewhere are directories of them, which alone would not
/// keep a volume from being removed.
pub const VOLUMES: &str = "/kina/volumes";
/// Label of a container: its image by the name it was asked for. Podman shows another, `localhost/node` for `node`.
pub const IMAGE: &str = "dev.kina.image";
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
        labels: Some(spec.labels.clone().into_iter().chain([(IMAGE.to_owned(), spec.image.clone())]).collect()),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint,
        cmd,
        // Without a terminal systemd writes nothing that a log would show.
        tty: Some(spec.privileges == Privileges::Node),
        exposed_ports: Some(spec.ports.iter().map(exposed).collect()),
        host_config: Some(host_config(spec, directories, peculiarities)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(spec.network.clone(), endpoint(spec.address))].into_iter().collect()),
        }),
        ..ContainerCreateBody::default()
    }
}

fn endpoint(address: Option<Ipv4Addr>) -> EndpointSettings {
    let pinned = |address: Ipv4Addr| EndpointIpamConfig {
        ipv4_address: Some(address.to_string()),
        ..EndpointIpamConfig::default()
    };
    EndpointSettings { ipam_config: address.map(pinned), ..EndpointSettings::default() }
}

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
            let taken = |target: &str| spec.host_mounts.iter().any(|mount| mount.container_path == target);
            if !taken("/lib/modules") {
                binds.push("/lib/modules:/lib/modules:ro".to_owned());
            }
            if peculiarities.maps_devices {
                binds.push("/dev/mapper:/dev/mapper".to_owned());
            }
            if !taken("/var") {
                mounts.push(own_var(spec));
            }
            as_node(HostConfig { binds: Some(binds), mounts: Some(mounts), ..config }, peculiarities)
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
        bind_options: Some(MountBindOptions { propagation: Some(propagation(mount)), ..MountBindOptions::default() }),
        ..Mount::default()
    }
}

fn relabelled(mount: &HostMount) -> String {
    let mode = if mount.read_only { "Z,ro" } else { "Z" };
    format!("{}:{}:{mode},{}", mount.host_path, mount.container_path, propagation(mount))
}

fn propagation(mount: &HostMount) -> MountBindOptionsPropagationEnum {
    match mount.propagation {
        MountPropagation::None => MountBindOptionsPropagationEnum::RPRIVATE,
        MountPropagation::HostToContainer => MountBindOptionsPropagationEnum::RSLAVE,
        MountPropagation::Bidirectional => MountBindOptionsPropagationEnum::RSHARED,
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
    let mtu = mtu.map(|mtu| (MTU.to_owned(), mtu.to_owned()));
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: spec
                .subnet
                .clone()
                .map(|subnet| vec![IpamConfig { subnet: Some(subnet), ..IpamConfig::default() }]),
            ..Ipam::default()
        }),
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
