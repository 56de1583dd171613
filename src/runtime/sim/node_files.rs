//! The files that images bring.

use bytes::Bytes;

/// A file of the image of a Kubernetes version; `None` where it brings no such file.
pub(super) fn of_image(version: &str, path: &str) -> Option<Bytes> {
    match path {
        "/kind/version" => Some(Bytes::copy_from_slice(version.as_bytes())),
        "/etc/containerd/config.toml" => Some(Bytes::from_static(CONTAINERD.as_bytes())),
        "/kind/manifests/default-cni.yaml" => Some(Bytes::from_static(CNI.as_bytes())),
        "/kind/manifests/default-storage.yaml" => Some(Bytes::from_static(STORAGE.as_bytes())),
        _ => None,
    }
}

/// containerd's configuration, with the tables that patches of kind's users reach for.
const CONTAINERD: &str = include_str!("node_files/containerd.toml");

/// The network add-on, in the form in which kind's images bring it: a template over `.PodSubnet`. Roles are left out:
/// simulated clusters authorise by certificate alone and serve no RBAC kinds.
const CNI: &str = include_str!("node_files/default-cni.yaml");

/// The storage add-on. A StorageClass is left out for the same reason: simulated clusters serve no volumes.
const STORAGE: &str = include_str!("node_files/default-storage.yaml");
