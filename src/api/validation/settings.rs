//! Rules of what kind's users set: mounts, feature gates, APIs and patches.

use std::collections::BTreeSet;

use super::Faults;
use crate::api::cluster::ClusterSpec;
use crate::api::node::{HostMount, JsonPatch6902};
use crate::api::patch;

/// Directories of a node that its machine's volume holds, or that it cannot do without.
const OWN_PATHS: [&str; 7] =
    ["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/containerd", "/kind", "/run", "/usr/local/bin"];

pub(super) fn mounts(faults: &mut Faults, path: &[&str], mounts: &[HostMount]) {
    let mut seen = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let index = index.to_string();
        let here = [path, &["extraMounts", &index]].concat();
        if !mount.host_path.starts_with('/') {
            let message = format!("`{}` is relative: only a file can say from where", mount.host_path);
            faults.add(&[&here[..], &["hostPath"]].concat(), message);
        }
        let written = &mount.container_path;
        let target = written.trim_end_matches('/');
        let container_path = [&here[..], &["containerPath"]].concat();
        if !target.starts_with('/') || target.split('/').any(|part| matches!(part, "." | "..")) {
            faults.add(&container_path, format!("`{written}` is not an absolute path in a node, such as `/data`"));
        } else if let Some(own) = hidden_by(target) {
            faults.add(&container_path, format!("`{written}` would hide `{own}`, which the node itself needs"));
        }
        if !seen.insert(target) {
            faults.add(&container_path, format!("a second mount goes to `{written}`"));
        }
    }
}

fn hidden_by(target: &str) -> Option<&'static str> {
    OWN_PATHS.into_iter().find(|own| *own == target || own.starts_with(&format!("{target}/")))
}

/// Feature gates, APIs and patches of the whole cluster.
pub(super) fn components(faults: &mut Faults, spec: &ClusterSpec) {
    for gate in spec.feature_gates.keys() {
        if gate.is_empty() || !gate.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            faults.add(&["spec", "featureGates", gate], format!("`{gate}` is not the name of a feature gate"));
        }
    }
    for (api, value) in &spec.runtime_config {
        if api.is_empty() || api.contains([',', '=', ' ']) || value.contains([',', '=', ' ']) {
            let message =
                format!("`{api}: {value}` is not an API with `\"true\"` or `\"false\"`, such as `api/alpha: \"true\"`");
            faults.add(&["spec", "runtimeConfig", api], message);
        }
    }
    kubeadm_patches(faults, &["spec"], &spec.kubeadm_config_patches, &spec.kubeadm_config_patches_json6902);
    let found = spec.containerd_config_patches.iter().map(|text| patch::containerd_patch(text).err());
    each(faults, &["spec"], "containerdConfigPatches", found);
    let found = spec.containerd_config_patches_json6902.iter().map(|text| patch::operations(text).err());
    each(faults, &["spec"], "containerdConfigPatchesJSON6902", found);
}

/// Images of the host: names as engines take them.
pub(super) fn images(faults: &mut Faults, images: &[String]) {
    let mut seen = BTreeSet::new();
    for (index, image) in images.iter().enumerate() {
        let here = ["spec", "images", &index.to_string()];
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'@');
        let is_name = image.bytes().all(is_plain) && image.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !is_name || image.contains("//") || image.ends_with(['/', ':', '@']) {
            faults.add(&here, format!("`{image}` is not the name of an image such as `myapp:dev`"));
        }
        if !seen.insert(image) {
            faults.add(&here, format!("`{image}` is named a second time"));
        }
    }
}

pub(super) fn kubeadm_patches(faults: &mut Faults, path: &[&str], merge: &[String], json: &[JsonPatch6902]) {
    each(faults, path, "kubeadmConfigPatches", merge.iter().map(|text| patch::merge_patches(text).err()));
    each(faults, path, "kubeadmConfigPatchesJSON6902", json.iter().map(|text| patch::json_patch(text).err()));
}

fn each(faults: &mut Faults, path: &[&str], field: &str, found: impl Iterator<Item = Option<String>>) {
    for (index, message) in found.enumerate() {
        if let Some(message) = message {
            faults.add(&[path, &[field, &index.to_string()]].concat(), format!("the patch {message}"));
        }
    }
}

pub(super) fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_inner)
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}
