//! The images that exist: a rule, not a table.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::runtime::image_name;

/// Kubernetes minor versions that there are node images of.
const MINORS: std::ops::RangeInclusive<u32> = 25..=36;

/// Names of the images that were loaded into a node, in the node itself.
pub(super) const LOADED_PATH: &str = "/var/lib/containerd/kina-loaded";

/// Whether the simulated host has an image: any that could be, but none of a registry that cannot (`.invalid`, RFC 2606).
pub(super) fn is_on_host(image: &str) -> bool {
    let registry = image.split_once('/').map_or("", |(first, _)| first);
    let registry = registry.split_once(':').map_or(registry, |(host, _)| host);
    !registry.ends_with(".invalid")
}

/// The Kubernetes version of a node image, such as `v1.35.5`; `None` where there is no such image.
pub(super) fn version_of(image: &str) -> Option<&str> {
    let (name, digest) = split_digest(image);
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return None;
    }
    let (repository, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let is_node = repository.contains('/') && repository.rsplit('/').next() == Some("node");
    (is_node && is_version(tag)).then_some(tag)
}

/// The digest of an image: the one its name carries, else one derived from the name.
pub(super) fn digest_of(image: &str) -> String {
    match split_digest(image) {
        (_, Some(digest)) => digest.to_owned(),
        (name, None) => format!("sha256:{}", hex(&Sha256::digest(name.as_bytes()))),
    }
}

/// The id of an image of the host: that of its configuration, where a node's containerd lists it, too.
pub(super) fn id_of(image: &str) -> String {
    digest_of(&image_name::full(image))
}

/// What `crictl images -o json` says in a node into which these were loaded.
pub(super) fn as_crictl_says(loaded: &str) -> String {
    let images = loaded.lines().map(|name| json!({"id": id_of(name), "repoTags": [name], "repoDigests": []}));
    format!("{:#}\n", json!({"images": images.collect::<Vec<_>>()}))
}

fn split_digest(image: &str) -> (&str, Option<&str>) {
    image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_version(tag: &str) -> bool {
    let parts: Vec<Option<u32>> = tag.strip_prefix('v').unwrap_or_default().split('.').map(number).collect();
    matches!(parts[..], [Some(1), Some(minor), Some(_)] if MINORS.contains(&minor))
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_images_of_known_versions_exist_and_nothing_else() {
        let digest = format!("@sha256:{}", "ab".repeat(32));
        for (image, version) in [
            ("kindest/node:v1.35.5", "v1.35.5"),
            ("docker.io/kindest/node:v1.25.0", "v1.25.0"),
            ("ghcr.io/a/b/node:v1.36.12", "v1.36.12"),
        ] {
            assert_eq!(version_of(image), Some(version));
            assert_eq!(version_of(&format!("{image}{digest}")), Some(version));
        }
        for image in [
            "kindest/node:v1.24.9",
            "kindest/node:v1.37.0",
            "kindest/node:latest",
            "kindest/node",
            "node:v1.35.5",
            "nginx:1",
            "kindest/node:v1.35.5@sha256:12",
            "kindest/node:v1.35",
            "kindest/node:v1.35.05",
            "",
        ] {
            assert_eq!(version_of(image), None, "{image}");
        }
    }

    #[test]
    fn a_digest_is_the_one_named_or_follows_from_the_name() {
        let named = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(digest_of(&format!("kindest/node:v1.35.5@{named}")), named);
        assert_eq!(digest_of("kindest/node:v1.35.5"), digest_of("kindest/node:v1.35.5"));
        assert_ne!(digest_of("kindest/node:v1.35.5"), digest_of("kindest/node:v1.35.6"));
    }
}
