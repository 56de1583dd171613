//! Settings of nodes that kind's users know, under the names that kind gives them.
//!
//! Source: <https://kind.sigs.k8s.io/docs/user/configuration/>.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::is_false;

/// A file or directory of the host, inside a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostMount {
    /// Path on the host. A relative one is meant from the manifest's directory, and stored as an absolute one.
    #[schemars(length(min = 1, max = 4096))]
    pub host_path: String,
    /// Absolute path in the node.
    #[schemars(length(min = 1, max = 4096))]
    pub container_path: String,
    /// The node may only read it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Relabel it for SELinux.
    #[serde(default, skip_serializing_if = "is_false")]
    pub selinux_relabel: bool,
    /// Whether mounts made below it on one side show on the other. Default `None`.
    #[serde(default, skip_serializing_if = "MountPropagation::is_none")]
    pub propagation: MountPropagation,
}

/// Whether mounts made below a mount on one side show on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MountPropagation {
    /// They do not.
    #[default]
    None,
    /// The host's show in the node.
    HostToContainer,
    /// Both sides' show on the other.
    Bidirectional,
}

impl MountPropagation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A port of a node, reachable through the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMapping {
    /// Port in the node.
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: u16,
    /// Port of the host. Default: a free one, resolved once; 0 means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// Address of the host to listen on. Default `127.0.0.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_address: Option<String>,
    /// Default `TCP`.
    #[serde(default)]
    pub protocol: Protocol,
}

impl PortMapping {
    /// Whether the port of the host is left for Kina to choose.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.host_port.is_none_or(|port| port == 0)
    }

    /// Where it listens on the host. `None` for an address that is none, or while no port is chosen.
    #[must_use]
    pub fn listens_on(&self) -> Option<(IpAddr, u16)> {
        let address = match &self.listen_address {
            Some(text) => text.parse().ok()?,
            None => IpAddr::from([127, 0, 0, 1]),
        };
        Some((address, self.host_port.filter(|_| !self.is_open())?))
    }
}

/// Of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// How the machines' containerd reaches one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// The registry as names of images begin with it, such as `docker.io` or `localhost:5001`; `_default` for all others.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Addresses that are asked first, in this order, such as `http://cache:5000`; the registry itself is asked last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 2048)), length(max = 16))]
    pub mirrors: Vec<String>,
    /// Authorities, as PEM, that certify the registry and its mirrors. Default: those of the node image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_certificate: Option<String>,
    /// Accept any certificate of the registry and its mirrors.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure_skip_verify: bool,
}

/// A JSON patch (RFC 6902) of one of kubeadm's documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsonPatch6902 {
    /// API group of the document, such as `kubeadm.k8s.io`. Default: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// API version of the document, such as `v1beta4`. Default: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Kind of the document, such as `ClusterConfiguration`.
    pub kind: String,
    /// The patch: a list of operations in YAML or JSON.
    #[schemars(length(max = 65536))]
    pub patch: String,
}
