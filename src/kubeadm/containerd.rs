//! containerd's configuration of a node, with patches.

use serde_json::Value;

use crate::api::machine::ContainerdPatches;
use crate::api::node::Registry;
use crate::api::patch;

/// containerd's configuration in a node.
pub const CONFIG_PATH: &str = "/etc/containerd/config.toml";
/// The one that came with the image: patches are applied to this, however often.
pub const ORIGINAL_PATH: &str = "/etc/containerd/config.toml.image";
/// Holds the hash of the patches that the running containerd was started with.
pub const MARKER_PATH: &str = "/etc/containerd/kina-patches";
/// Its service.
pub const SERVICE: &str = "containerd.service";

/// What is in it for each registry.
const REGISTRIES_PATH: &str = "/etc/containerd/certs.d";

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

/// What the running containerd was told, in the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// Hash of all of it.
    pub hash: String,
    /// The registries that were described.
    pub registries: Vec<String>,
}

impl Marker {
    /// Reads one.
    #[must_use]
    pub fn parse(content: &[u8]) -> Self {
        let text = String::from_utf8_lossy(content);
        let mut lines = text.lines().map(str::to_owned);
        Self { hash: lines.next().unwrap_or_default(), registries: lines.collect() }
    }
}

impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hash)?;
        self.registries.iter().try_for_each(|registry| write!(f, "\n{registry}"))
    }
}

/// Applies patches to the image's configuration: tables are merged, everything else is replaced. As in kind, a TOML patch
/// with a `version` is meant for configurations of that version only.
///
/// # Errors
/// Where one of them is not what it should be, or a JSON patch does not fit.
pub fn patched(original: &str, patches: &ContainerdPatches) -> Result<String, ContainerdError> {
    let mut config = table(original)?;
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

/// The same, looking for registries where Kina describes them. Images of kind's say so by themselves since containerd 2.
///
/// # Errors
/// Where the text is no TOML.
pub fn with_registries(text: &str) -> Result<String, ContainerdError> {
    let mut config = table(text)?;
    let is_new = config.get("version").and_then(toml::Value::as_integer).is_some_and(|version| version >= 3);
    let plugin = if is_new { "io.containerd.cri.v1.images" } else { "io.containerd.grpc.v1.cri" };
    let known = config.get("plugins").and_then(|plugins| plugins.get(plugin)?.get("registry")?.get("config_path"));
    if known.and_then(toml::Value::as_str).is_some_and(|paths| paths.split(':').any(|path| path == REGISTRIES_PATH)) {
        return Ok(text.to_owned());
    }
    let mut more = toml::Table::from_iter([("config_path".to_owned(), REGISTRIES_PATH.into())]);
    for key in ["registry", plugin, "plugins"] {
        more = toml::Table::from_iter([(key.to_owned(), toml::Value::Table(more))]);
    }
    merge(&mut config, more);
    Ok(config.to_string())
}

/// Whether two texts say the same.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    matches!((table(one), table(other)), (Ok(one), Ok(other)) if one == other)
}

fn table(text: &str) -> Result<toml::Table, ContainerdError> {
    text.parse().map_err(|error: toml::de::Error| ContainerdError::Original(error.message().to_owned()))
}

/// What containerd reads about a registry, whenever it pulls (containerd's `docs/hosts.md`): path and content.
#[must_use]
pub fn registry_files(registry: &Registry) -> Vec<(String, String)> {
    let [hosts_path, ca_path] = registry_paths(&registry.host);
    let mut trust = toml::Table::new();
    if registry.insecure_skip_verify {
        trust.insert("skip_verify".to_owned(), true.into());
    }
    if registry.ca_certificate.is_some() {
        trust.insert("ca".to_owned(), ca_path.as_str().into());
    }
    // In order: containerd asks the mirrors as they are written, so no map may sort them.
    let mut text = trust.to_string();
    for mirror in &registry.mirrors {
        let mut host = trust.clone();
        host.insert("capabilities".to_owned(), toml::Value::Array(vec!["pull".into(), "resolve".into()]));
        text.push_str(&format!("\n[host.{}]\n{host}", toml::Value::from(mirror.as_str())));
    }
    let ca = registry.ca_certificate.iter().map(|ca| (ca_path.clone(), ca.clone()));
    ca.chain([(hosts_path, text)]).collect()
}

/// The files that [`registry_files`] may have written for a registry.
#[must_use]
pub fn registry_paths(host: &str) -> [String; 2] {
    ["hosts.toml", "ca.crt"].map(|name| format!("{REGISTRIES_PATH}/{host}/{name}"))
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
    fn registries_are_looked_for_where_they_are_described_whatever_the_version() {
        let older = with_registries(ORIGINAL).unwrap();
        let config: toml::Table = older.parse().unwrap();
        let cri = &config["plugins"]["io.containerd.grpc.v1.cri"];
        assert_eq!(cri["registry"]["config_path"].as_str(), Some("/etc/containerd/certs.d"));
        assert_eq!(cri["sandbox_image"].as_str(), Some("pause:3.10"));
        assert_eq!(with_registries(&older).unwrap(), older, "nothing to say twice");
        let newer: toml::Table = with_registries("version = 3\n").unwrap().parse().unwrap();
        let images = &newer["plugins"]["io.containerd.cri.v1.images"];
        assert_eq!(images["registry"]["config_path"].as_str(), Some("/etc/containerd/certs.d"));
    }

    #[test]
    fn mirrors_are_asked_in_their_order_and_certificates_lie_beside() {
        let registry = Registry {
            host: "docker.io".into(),
            mirrors: vec!["https://z.example/team".into(), "http://a:5000".into()],
            ca_certificate: Some("PEM".into()),
            insecure_skip_verify: false,
        };
        let files = registry_files(&registry);
        assert_eq!(files[0], ("/etc/containerd/certs.d/docker.io/ca.crt".into(), "PEM".into()));
        insta::assert_snapshot!(files[1].1);
        let insecure = Registry { insecure_skip_verify: true, host: "r:5000".into(), ..Registry::default() };
        assert_eq!(
            registry_files(&insecure),
            [("/etc/containerd/certs.d/r:5000/hosts.toml".into(), "skip_verify = true\n".into())]
        );
        let text = registry_files(&registry).pop().unwrap().1;
        assert!(text.parse::<toml::Table>().is_ok());
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
