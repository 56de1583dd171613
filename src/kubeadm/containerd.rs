//! containerd's configuration of a node, with patches.

use serde_json::Value;

use crate::api::machine::ContainerdPatches;
use crate::api::patch;

/// containerd's configuration in a node.
pub const CONFIG_PATH: &str = "/etc/containerd/config.toml";
/// The one that came with the image: patches are applied to this, however often.
pub const ORIGINAL_PATH: &str = "/etc/containerd/config.toml.image";
/// Holds the hash of the patches that the running containerd was started with.
pub const MARKER_PATH: &str = "/etc/containerd/kina-patches";
/// Its service.
pub const SERVICE: &str = "containerd.service";

/// A configuration that could not be patched.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The image's own configuration.
    #[error("{CONFIG_PATH} of the node image is no TOML with a `version`: {0}")]
    Original(String),
    /// A patch.
    #[error("patch {number} of containerd's configuration {message}")]
    Patch {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        message: String,
    },
}

/// Applies patches to the image's configuration: tables are merged, everything else is replaced. As in kind, a TOML patch
/// with a `version` is meant for configurations of that version only.
///
/// # Errors
/// Where one of them is not what it should be, or a JSON patch does not fit.
pub fn patched(original: &str, patches: &ContainerdPatches) -> Result<String, ContainerdError> {
    let mut config: toml::Table =
        original.parse().map_err(|error: toml::de::Error| ContainerdError::Original(error.message().to_owned()))?;
    let Some(version) = config.get("version").cloned() else {
        return Err(ContainerdError::Original("it has no version".to_owned()));
    };
    for (index, text) in patches.merge.iter().enumerate() {
        let failed = |message| ContainerdError::Patch { number: index + 1, message };
        let patch = patch::containerd_patch(text).map_err(failed)?;
        if patch.get("version").is_none_or(|wanted| *wanted == version) {
            merge(&mut config, patch);
        }
    }
    if patches.json.is_empty() {
        return Ok(config.to_string());
    }
    let mut tree = serde_json::to_value(&config).map_err(|error| ContainerdError::Original(error.to_string()))?;
    for (index, text) in patches.json.iter().enumerate() {
        apply(&mut tree, text).map_err(|message| ContainerdError::Patch { number: index + 1, message })?;
    }
    toml::to_string(&tree).map_err(|error| ContainerdError::Original(error.to_string()))
}

fn apply(tree: &mut Value, text: &str) -> Result<(), String> {
    let operations = patch::operations(text)?;
    json_patch::patch(tree, &operations).map_err(|error| format!("does not fit: {error}"))
}

fn merge(config: &mut toml::Table, patch: toml::Table) {
    for (key, value) in patch {
        match (config.get_mut(&key), value) {
            (Some(toml::Value::Table(now)), toml::Value::Table(more)) => merge(now, more),
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause:3.10\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"\n";

    fn patched_with(merge: &[&str], json: &[&str]) -> Result<toml::Table, String> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let patches = ContainerdPatches { merge: texts(merge), json: texts(json) };
        patched(ORIGINAL, &patches).map(|text| text.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn tables_are_merged_and_the_rest_is_replaced() {
        let registry =
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";
        let config = patched_with(
            &[registry, "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n"],
            &[],
        )
        .unwrap();
        let cri = &config["plugins"]["io.containerd.grpc.v1.cri"];
        assert_eq!(cri["registry"]["config_path"].as_str(), Some("/etc/containerd/certs.d"));
        assert_eq!(cri["containerd"]["snapshotter"].as_str(), Some("native"));
        assert_eq!(cri["sandbox_image"].as_str(), Some("pause:3.10"));
    }

    #[test]
    fn a_patch_for_another_version_is_not_for_this_image() {
        let config =
            patched_with(&["version = 3\n[plugins.x]\na = 1\n", "version = 2\n[plugins.y]\na = 1\n"], &[]).unwrap();
        assert!(config["plugins"].get("x").is_none() && config["plugins"].get("y").is_some());
    }

    #[test]
    fn a_json_patch_that_does_not_fit_is_an_error() {
        let remove = "[{\"op\": \"remove\", \"path\": \"/plugins/io.containerd.grpc.v1.cri/sandbox_image\"}]";
        let config = patched_with(&[], &[remove]).unwrap();
        assert!(config["plugins"]["io.containerd.grpc.v1.cri"].get("sandbox_image").is_none());
        let error = patched_with(&[], &[remove, remove]).unwrap_err();
        assert!(error.starts_with("patch 2 of containerd's configuration does not fit"), "{error}");
    }

    #[test]
    fn a_configuration_without_a_version_cannot_be_patched() {
        let error = patched("[plugins]\n", &ContainerdPatches::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/etc/containerd/config.toml of the node image is no TOML with a `version`: it has no version"
        );
    }
}
