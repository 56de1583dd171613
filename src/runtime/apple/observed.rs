//! What the command shows, in Kina's words.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::documents::{
    Configuration, ContainerDocument, Doing, NetworkDocument, PortDocument, ResourcesDocument, VolumeDocument,
};
use super::inside::{self, STAGE};
use crate::api::cluster::NodeNetwork;
use crate::api::node::{HostMount, MountPropagation, Protocol};
use crate::runtime::{
    Container, ContainerId, ContainerSpec, ContainerState, Labels, Network, PublishedPort, Resources, Volume,
    image_name,
};

/// Label: what was asked for where Apple keeps it in other words.
pub const ASKED: &str = "dev.kina.asked";
/// Memory is given in these.
pub const MIB: u64 = 1 << 20;
/// The least that a container may have.
pub const MEMORY_MIB_MIN: u64 = 200;

/// What a container was asked to have. Apple rounds limits up, gives some to everybody, and completes names of images: with
/// this a container is known to be what was asked for, as long as it is what that becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Asked {
    /// As the specification spells it.
    pub image: String,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
}

impl Asked {
    /// Of a specification.
    #[must_use]
    pub fn of(spec: &ContainerSpec) -> Self {
        let Resources { cpu_millis, memory_bytes } = spec.resources;
        Self { image: spec.image.clone(), cpu_millis, memory_bytes }
    }

    /// As the value of a label, which may hold anything but `=`. Objects of JSON hold none but in strings.
    #[must_use]
    pub fn to_label(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn from_labels(labels: &Labels) -> Option<Self> {
        serde_json::from_str(labels.get(ASKED)?).ok()
    }
}

/// Whole CPUs for so many thousandths.
#[must_use]
pub fn cpus(millis: u64) -> u64 {
    millis.div_ceil(1000).max(1)
}

/// Whole mebibytes for so many bytes.
#[must_use]
pub fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(MIB).max(MEMORY_MIB_MIN)
}

/// A container.
#[must_use]
pub fn container(document: ContainerDocument, doing: &Doing) -> Container {
    let attached = document.attachments().first().cloned().unwrap_or_default();
    let address = attached.address().and_then(|address| address.parse::<Ipv4Addr>().ok());
    let ContainerDocument { id, configuration, .. } = document;
    // What it runs in counts; of one that is stopped only what was asked for is known.
    let asked_network = configuration.networks.first().map(|network| network.network.clone());
    let network = Some(attached.network).filter(|name| !name.is_empty()).or(asked_network);
    let asked = Asked::from_labels(&configuration.labels);
    Container {
        name: id.clone(),
        id: ContainerId(id),
        state: state(doing),
        image: image(&configuration.image.reference, asked.as_ref()),
        network,
        address,
        ipv6_address: None,
        mounts: mounts(&configuration),
        host_mounts: host_mounts(&configuration),
        ports: ports(&configuration.published_ports),
        resources: resources(&configuration.resources, asked.as_ref()),
        labels: configuration.labels,
    }
}

fn state(doing: &Doing) -> ContainerState {
    match doing.state.as_str() {
        "running" => ContainerState::Running,
        "stopped" if doing.was_started => ContainerState::Stopped { exit_code: None },
        // After a restart of the service nobody knows whether it ever ran.
        "stopped" => ContainerState::Created,
        _ => ContainerState::Unknown,
    }
}

/// As it was asked for, where that is what it has.
fn image(reference: &str, asked: Option<&Asked>) -> String {
    let stored = |name: &str| {
        let whole = image_name::full(name);
        // A tag beside a digest is dropped.
        match whole.split_once('@') {
            Some((name, digest)) => {
                let last = name.rsplit('/').next().unwrap_or_default();
                let tag = last.split_once(':').map_or(0, |(_, tag)| tag.len() + 1);
                format!("{}@{digest}", &name[..name.len() - tag])
            }
            None => whole,
        }
    };
    let asked = asked.filter(|asked| !asked.image.is_empty() && stored(&asked.image) == stored(reference));
    asked.map_or_else(|| reference.to_owned(), |asked| asked.image.clone())
}

fn resources(seen: &ResourcesDocument, asked: Option<&Asked>) -> Resources {
    let Some(asked) = asked else {
        return Resources { cpu_millis: seen.cpus.map(|cpus| cpus * 1000), memory_bytes: seen.memory_in_bytes };
    };
    // Without a limit asked for it has one all the same, which nobody chose.
    let kept = |asked: Option<u64>, becomes: fn(u64) -> u64, seen: Option<u64>, unit: u64| {
        let asked = asked?;
        if seen == Some(becomes(asked)) { Some(asked) } else { seen.map(|seen| seen.saturating_mul(unit)) }
    };
    Resources {
        cpu_millis: kept(asked.cpu_millis, cpus, seen.cpus, 1000),
        memory_bytes: kept(asked.memory_bytes, mebibytes, seen.memory_in_bytes.map(|bytes| bytes / MIB), MIB),
    }
}

/// Directories of volumes, of those volumes that it has.
fn mounts(configuration: &Configuration) -> Vec<crate::runtime::Mount> {
    let mut all = inside::mounts(&configuration.init_process.arguments);
    all.retain(|mount| configuration.mounts.iter().any(|seen| seen.volume() == Some(&mount.volume)));
    all.sort();
    all
}

fn host_mounts(configuration: &Configuration) -> Vec<HostMount> {
    let of_host = configuration.mounts.iter().filter(|mount| mount.is_of_host() && mount.destination != STAGE);
    let mut all: Vec<HostMount> = of_host
        .map(|mount| HostMount {
            host_path: mount.source.clone(),
            container_path: mount.destination.clone(),
            read_only: mount.options.iter().any(|option| option == "ro"),
            selinux_relabel: false,
            propagation: MountPropagation::None,
        })
        .collect();
    all.sort();
    all
}

/// The directory of the host that a container finds what was written for it in.
#[must_use]
pub fn stage(configuration: &Configuration) -> Option<&str> {
    let stage = configuration.mounts.iter().find(|mount| mount.is_of_host() && mount.destination == STAGE)?;
    Some(&stage.source)
}

fn ports(published: &[PortDocument]) -> Vec<PublishedPort> {
    let each = |port: &PortDocument| {
        let protocol = if port.proto == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let address = port.host_address.parse().ok();
        let (host, inner) = (port.host_port, port.container_port);
        (0..port.count.unwrap_or(1).max(1)).filter_map(move |offset| {
            Some(PublishedPort {
                host_address: address?,
                host_port: host.checked_add(offset)?,
                container_port: inner.checked_add(offset)?,
                protocol,
            })
        })
    };
    let mut all: Vec<PublishedPort> = published.iter().flat_map(each).collect();
    all.sort_unstable();
    all
}

/// A network.
#[must_use]
pub fn network(document: NetworkDocument) -> Network {
    // It gives every network a subnet of IPv6, which nobody asked for.
    Network { name: document.name, subnet: document.subnet, ipv6_subnet: None, labels: document.labels }
}

/// The network that is there from the service's first start on, where the command does not show it. Its subnet is known only
/// once a container is in it.
#[must_use]
pub fn builtin_network() -> Network {
    let name = NodeNetwork::Default.as_str().to_owned();
    Network { name, subnet: None, ipv6_subnet: None, labels: Labels::new() }
}

/// A volume.
#[must_use]
pub fn volume(document: VolumeDocument) -> Volume {
    Volume { name: document.name, labels: document.labels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cpus: u64, mebibytes: u64) -> ResourcesDocument {
        ResourcesDocument { cpus: Some(cpus), memory_in_bytes: Some(mebibytes * MIB) }
    }

    #[test]
    fn limits_that_were_rounded_up_are_what_was_asked_for() {
        let asked = Asked { image: "x".into(), cpu_millis: Some(1500), memory_bytes: Some(300 * MIB + 1) };
        let shown = |document: &ResourcesDocument, asked: Option<&Asked>| {
            let Resources { cpu_millis, memory_bytes } = resources(document, asked);
            (cpu_millis, memory_bytes)
        };
        assert_eq!(shown(&seen(2, 301), Some(&asked)), (Some(1500), Some(300 * MIB + 1)));
        assert_eq!(shown(&seen(4, 512), Some(&asked)), (Some(4000), Some(512 * MIB)), "somebody made it otherwise");
        let nothing = Asked { image: "x".into(), ..Asked::default() };
        assert_eq!(shown(&seen(4, 1024), Some(&nothing)), (None, None));
        assert_eq!(shown(&seen(4, 1024), None), (Some(4000), Some(1024 * MIB)));
        assert_eq!((cpus(0), cpus(1), cpus(1001)), (1, 1, 2));
        assert_eq!((mebibytes(1), mebibytes(200 * MIB), mebibytes(200 * MIB + 1)), (200, 200, 201));
    }

    #[test]
    fn an_image_is_named_as_it_was_asked_for_where_it_is_that_one() {
        let digest = "sha256:ce977ae6d65918d0b58a5f8b5e940429c2ce42fa3a5619ec2bbc60b949c0ac95";
        let with = |reference: &str, asked: &str| {
            image(reference, Some(&Asked { image: asked.to_owned(), ..Asked::default() }))
        };
        assert_eq!(with("docker.io/library/alpine:latest", "alpine"), "alpine");
        let pinned = format!("kindest/node:v1.35.5@{digest}");
        assert_eq!(with(&format!("docker.io/kindest/node@{digest}"), &pinned), pinned);
        assert_eq!(with("docker.io/kindest/node:v1.34.0", "kindest/node:v1.35.5"), "docker.io/kindest/node:v1.34.0");
        assert_eq!(image("docker.io/library/alpine:latest", None), "docker.io/library/alpine:latest");
    }

    #[test]
    fn a_container_that_has_not_run_since_the_service_began_is_as_good_as_new() {
        let state = |name: &str, was_started| state(&Doing { state: name.to_owned(), was_started });
        assert_eq!(state("stopped", false), ContainerState::Created);
        assert_eq!(state("stopped", true), ContainerState::Stopped { exit_code: None });
        assert_eq!(state("running", true), ContainerState::Running);
        assert_eq!(state("stopping", true), ContainerState::Unknown);
        assert_eq!(state("something new", true), ContainerState::Unknown);
    }

    #[test]
    fn ports_in_a_row_are_ports() {
        let row = PortDocument {
            host_address: "127.0.0.1".into(),
            host_port: 65534,
            container_port: 80,
            proto: "udp".into(),
            count: Some(3),
        };
        let shown: Vec<(u16, u16)> = ports(&[row]).iter().map(|port| (port.host_port, port.container_port)).collect();
        assert_eq!(shown, [(65534, 80), (65535, 81)], "no port is made up");
    }
}
