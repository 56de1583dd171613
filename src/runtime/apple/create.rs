//! What the command is asked to make, as functions of what Kina wants: options first, then the image, then its arguments.
//! What Apple cannot do is refused here, with the reason.

use std::net::IpAddr;
use std::path::Path;

use super::inside::{self, Kernel, STAGE, VOLUMES};
use super::observed::{ASKED, Asked, cpus, mebibytes};
use super::version::Version;
use crate::api::node::{HostMount, MountPropagation, Protocol};
use crate::runtime::{ContainerSpec, Labels, NetworkSpec, Privileges, PublishedPort, VolumeSpec};

/// All machines that Apple makes.
pub const PLATFORM: &str = "linux/arm64";
/// Of those, as images spell it.
pub const ARCHITECTURE: &str = "arm64";
/// What a node has where nobody says how much: Apple's own 1 GiB is less than a control plane needs to start.
const NODE_MEMORY: &str = "2048m";
/// What anything else has: a load balancer is a shell and what it calls.
const SMALL_MEMORY: &str = "512m";
/// Largest packet of a machine's network, as anywhere else: Apple's own 1280 is little for what nodes wrap into each other.
const MTU: u16 = 1500;
const NO_IPV6: &str = "Apple Container keeps no address of IPv6 over a restart";
/// Longest name since 1.2.0.
const NAME_MAX: usize = 63;

/// Arguments that create a container. `first` is what the image would run by itself, `stage` the directory of the host with
/// what is written before it runs.
///
/// # Errors
/// What cannot be had, and why.
pub fn container(
    spec: &ContainerSpec,
    first: &[String],
    version: Version,
    stage: &Path,
) -> Result<Vec<String>, String> {
    let named = spec.name.len() >= 2 && spec.name.len() <= NAME_MAX;
    if !named {
        return Err(format!("Apple Container takes names of 2 to {NAME_MAX} characters"));
    }
    let first = if spec.command.is_empty() { first } else { &spec.command };
    if first.is_empty() {
        return Err(format!("the image {} does not say what it runs", spec.image));
    }
    if spec.ipv6_address.is_some() {
        return Err(NO_IPV6.to_owned());
    }
    if spec.privileges != Privileges::Node && !spec.mounts.is_empty() {
        return Err("only a node may mount a directory of a volume".to_owned());
    }
    let mut all = vec!["create".to_owned()];
    let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
    option("--name", spec.name.clone());
    option("--platform", PLATFORM.to_owned());
    match spec.resources.cpu_millis {
        Some(millis) => option("--cpus", cpus(millis).to_string()),
        None if spec.privileges == Privileges::Node => {}
        None => option("--cpus", "1".to_owned()),
    }
    let unlimited = if spec.privileges == Privileges::Node { NODE_MEMORY } else { SMALL_MEMORY };
    let memory = spec.resources.memory_bytes.map(|bytes| format!("{}m", mebibytes(bytes)));
    option("--memory", memory.unwrap_or_else(|| unlimited.to_owned()));
    option("--network", format!("{},mtu={MTU}", spec.network));
    let asked = (ASKED.to_owned(), Asked::of(spec).to_label());
    for (key, value) in spec.labels.iter().chain([(&asked.0, &asked.1)]) {
        option("--label", label(key, value)?);
    }
    for (name, value) in &spec.environment {
        option("-e", format!("{name}={value}"));
    }
    for port in &spec.ports {
        option("-p", published(port)?);
    }
    for domain in spec.dns_search.iter().flatten() {
        option("--dns-search", domain.clone());
    }
    let mut volumes: Vec<&str> = spec.mounts.iter().map(|mount| mount.volume.as_str()).collect();
    volumes.sort_unstable();
    volumes.dedup();
    for volume in volumes {
        option("-v", format!("{volume}:{VOLUMES}/{volume}"));
    }
    option("-v", bound(&stage.to_string_lossy(), STAGE, false)?);
    for mount in &spec.host_mounts {
        option("-v", of_host(mount)?);
    }
    let kernel = privileges(spec.privileges, version, &mut option);
    option("--entrypoint", "/bin/sh".to_owned());
    all.push(spec.image.clone());
    all.extend(inside::start(spec, kernel, first));
    Ok(all)
}

/// There is no flag that allows everything at once: capabilities, and paths of `/proc` that are hidden or read-only.
fn privileges(privileges: Privileges, version: Version, option: &mut impl FnMut(&str, String)) -> Kernel {
    let capabilities: &[&str] = match privileges {
        Privileges::None => return Kernel::default(),
        Privileges::Network if version.masks() && !version.can_unmask() => &["NET_ADMIN", "SYS_ADMIN"],
        Privileges::Network => &["NET_ADMIN"],
        Privileges::Node => &["ALL"],
    };
    for capability in capabilities {
        option("--cap-add", (*capability).to_owned());
    }
    if version.can_unmask() {
        option("--read-only-path", "NONE".to_owned());
        if privileges == Privileges::Node {
            option("--masked-path", "NONE".to_owned());
        }
    }
    let node = privileges == Privileges::Node;
    Kernel { remount: version.masks() && !version.can_unmask(), forward: true, node }
}

fn label(key: &str, value: &str) -> Result<String, String> {
    match value.contains('=') || key.contains('=') {
        true => Err(format!("the label {key} has a `=`, which Apple Container does not take")),
        false => Ok(format!("{key}={value}")),
    }
}

fn labels(labels: &Labels, all: &mut Vec<String>) -> Result<(), String> {
    for (key, value) in labels {
        all.extend(["--label".to_owned(), label(key, value)?]);
    }
    Ok(())
}

fn published(port: &PublishedPort) -> Result<String, String> {
    let PublishedPort { host_address, host_port, container_port, protocol } = port;
    let host = match host_address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => return Err(format!("port {container_port}: Apple Container does not forward SCTP")),
    };
    Ok(format!("{host}:{host_port}:{container_port}/{protocol}"))
}

fn of_host(mount: &HostMount) -> Result<String, String> {
    let refused = |what: &str| Err(format!("the mount {}: Apple Container {what}", mount.container_path));
    if mount.propagation != MountPropagation::None {
        return refused("does not hand on mounts that are made later; leave `propagation` out");
    }
    if mount.selinux_relabel {
        return refused("knows no SELinux; leave `selinuxRelabel` out");
    }
    bound(&mount.host_path, &mount.container_path, mount.read_only)
}

fn bound(source: &str, target: &str, read_only: bool) -> Result<String, String> {
    if source.contains(':') || target.contains(':') {
        return Err(format!("the path {source} has a `:`, which Apple Container cannot mount"));
    }
    Ok(format!("{source}:{target}{}", if read_only { ":ro" } else { "" }))
}

/// Arguments that create a network.
///
/// # Errors
/// What cannot be had, and why.
pub fn network(spec: &NetworkSpec) -> Result<Vec<String>, String> {
    if spec.ipv6_subnet.is_some() {
        return Err(NO_IPV6.to_owned());
    }
    let mut all = ["network", "create"].map(str::to_owned).to_vec();
    all.extend(spec.subnet.iter().flat_map(|subnet| ["--subnet".to_owned(), subnet.clone()]));
    labels(&spec.labels, &mut all)?;
    all.push(spec.name.clone());
    Ok(all)
}

/// Arguments that create a volume.
///
/// # Errors
/// What cannot be had, and why.
pub fn volume(spec: &VolumeSpec) -> Result<Vec<String>, String> {
    let mut all = ["volume", "create"].map(str::to_owned).to_vec();
    labels(&spec.labels, &mut all)?;
    all.push(spec.name.clone());
    Ok(all)
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
