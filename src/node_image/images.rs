//! Images of containers in a node's containerd: which it needs, and how they get their names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::arch::Arch;

/// What `ctr` prints of images that are there: names and the digests that they stand for. The names that CRI gives to
/// configurations, and those that an import makes up, are none that anybody asks for.
#[must_use]
pub fn listed(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace();
        let (name, digest) = (columns.next()?, columns.nth(1)?);
        Some((name.to_owned(), digest.to_owned()))
    });
    lines.filter(|(name, digest)| is_name(name) && digest.starts_with("sha256:")).collect()
}

fn is_name(name: &str) -> bool {
    !name.starts_with("sha256:") && !name.starts_with("import-") && !name.contains('@')
}

/// What kubeadm asks for, with the pause image of containerd in the place of kubeadm's own: it is containerd that starts it.
#[must_use]
pub fn of_kubeadm(printed: &str, pause: Option<&str>) -> BTreeSet<String> {
    let asked = printed.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_pause = |image: &str| repository(image).rsplit('/').next() == Some("pause");
    asked.map(|image| pause.filter(|_| is_pause(image)).unwrap_or(image).to_owned()).collect()
}

/// The pause image that containerd's configuration names, in any of its versions.
#[must_use]
pub fn pause_of(config: &str) -> Option<String> {
    let config: toml::Table = config.parse().ok()?;
    let plugins = config.get("plugins")?;
    let older = plugins.get("io.containerd.grpc.v1.cri").and_then(|cri| cri.get("sandbox_image"));
    let newer = plugins.get("io.containerd.cri.v1.images").and_then(|cri| cri.get("pinned_images")?.get("sandbox"));
    older.or(newer)?.as_str().filter(|image| !image.is_empty()).map(str::to_owned)
}

/// Images that a manifest names. It may be a template, as kind's are, so that it need not be YAML.
#[must_use]
pub fn of_manifest(manifest: &str) -> BTreeSet<String> {
    let named = manifest.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ").trim_start();
        // A comment may stand behind it.
        let image = line.strip_prefix("image:")?.split_whitespace().next()?.trim_matches(['"', '\'']);
        (!image.is_empty() && !image.contains(['{', '}'])).then_some(image)
    });
    named.map(crate::runtime::image_name::full).collect()
}

/// A name without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// The name by which kubeadm asks for an image of a release: archives of releases have the architecture in theirs.
/// `None` where it has its name already.
#[must_use]
pub fn renamed(image: &str, arch: Arch) -> Option<String> {
    let name = repository(image);
    let bare = name.strip_suffix(&format!("-{arch}"))?;
    Some(format!("{bare}{}", &image[name.len()..]))
}

/// Images of another version of what kubeadm asks for: nothing in the node would use them.
#[must_use]
pub fn outdated<'a>(present: impl IntoIterator<Item = &'a String>, asked: &BTreeSet<String>) -> Vec<String> {
    let repositories: BTreeSet<&str> = asked.iter().map(|image| repository(image)).collect();
    let other = |image: &&String| repositories.contains(repository(image)) && !asked.contains(*image);
    present.into_iter().filter(other).cloned().collect()
}

/// What the document behind an image's digest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A manifest: its layers, by digest.
    Manifest(Vec<String>),
    /// An index: the manifest for this architecture, by digest.
    Index(String),
}

/// Reads the document behind an image's digest. `None` where it is none, or has nothing for this architecture.
#[must_use]
pub fn document(text: &str, arch: Arch) -> Option<Document> {
    let document: Value = serde_json::from_str(text).ok()?;
    let digest = |entry: &Value| entry["digest"].as_str().filter(|digest| is_digest(digest)).map(str::to_owned);
    if let Some(layers) = document["layers"].as_array() {
        return layers.iter().map(digest).collect::<Option<Vec<_>>>().map(Document::Manifest);
    }
    let manifests = document["manifests"].as_array()?;
    let fits = |entry: &&Value| {
        let platform = &entry["platform"];
        platform["os"] == "linux" && platform["architecture"] == arch.as_str()
    };
    let only = manifests.first().filter(|entry| manifests.len() == 1 && entry["platform"].is_null());
    manifests.iter().find(fits).or(only).and_then(digest).map(Document::Index)
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The name of an image, apart into repository and tag: `latest` where it has none.
#[must_use]
pub fn repository_and_tag(image: &str) -> (String, String) {
    let name = repository(image);
    let tag = image[name.len()..].strip_prefix(":").unwrap_or_default();
    (name.to_owned(), if tag.is_empty() { "latest" } else { tag }.to_owned())
}

/// Whether a text can be the name of an image that is made: what engines take, without a digest.
#[must_use]
pub fn is_image_name(image: &str) -> bool {
    let (name, tag) = repository_and_tag(image);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("", name.as_str()),
    };
    let part = |part: &str| {
        part.bytes().all(plain)
            && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && part.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    let in_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let in_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    image.len() <= 255
        && !image.contains('@')
        && !image.ends_with(':')
        && host.bytes().all(in_host)
        && path.split('/').all(part)
        && tag.len() <= 128
        && tag.bytes().all(in_tag)
        && !tag.starts_with(['.', '-'])
}

/// A version as a tag: `+` is none of its letters.
#[must_use]
pub fn tag(version: &str) -> String {
    version.replace('+', "_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn what_ctr_lists_is_read() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let printed = format!(
            "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
             registry.k8s.io/pause:3.10 application/vnd.oci.image.index.v1+json {digest} 1.0 KiB linux/amd64 -\n\
             sha256:aa application/vnd.oci.image.index.v1+json {digest} 1.0 KiB linux/amd64 -\n\
             import-2026-01-01@sha256:aa application/vnd.oci.image.index.v1+json {digest} 1.0 KiB linux/amd64 -\n\
             broken\n"
        );
        assert_eq!(listed(&printed), BTreeMap::from([("registry.k8s.io/pause:3.10".to_owned(), digest)]));
    }

    #[test]
    fn the_pause_image_is_containerds() {
        let asked = "registry.k8s.io/kube-proxy:v1.34.4\nregistry.k8s.io/pause:3.10.1\n\n";
        assert_eq!(
            of_kubeadm(asked, Some("registry.k8s.io/pause:3.9")),
            set(&["registry.k8s.io/kube-proxy:v1.34.4", "registry.k8s.io/pause:3.9"])
        );
        assert_eq!(of_kubeadm(asked, None).len(), 2);
        let older = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"a/pause:1\"\n";
        let newer = "version = 3\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = 'a/pause:2'\n";
        assert_eq!(pause_of(older).as_deref(), Some("a/pause:1"));
        assert_eq!(pause_of(newer).as_deref(), Some("a/pause:2"));
        assert_eq!(pause_of("version = 2"), None);
        assert_eq!(pause_of("[["), None);
    }

    #[test]
    fn images_of_templates_are_found() {
        let manifest = "spec:\n  containers:\n  - image: docker.io/kindest/kindnetd:v2026\n    args: {{ .PodSubnet }}\n\
                        data:\n  pod.yaml: |-\n    image: \"busybox\" # small\n    imagePullPolicy: IfNotPresent\n  image: {{ .X }}\n  image:\n";
        assert_eq!(
            of_manifest(manifest),
            set(&["docker.io/kindest/kindnetd:v2026", "docker.io/library/busybox:latest"])
        );
    }

    #[test]
    fn architectures_go_from_names_and_other_versions_go_altogether() {
        let name = "registry.k8s.io/kube-proxy-amd64:v1.34.4";
        assert_eq!(renamed(name, Arch::Amd64).as_deref(), Some("registry.k8s.io/kube-proxy:v1.34.4"));
        assert_eq!(renamed(name, Arch::Arm64), None);
        assert_eq!(renamed("localhost:5000/x-amd64", Arch::Amd64).as_deref(), Some("localhost:5000/x"));
        let asked = set(&["r/kube-proxy:v1.34.4", "r/etcd:3"]);
        let present = ["r/kube-proxy:v1.34.4", "r/kube-proxy:v1.33.0", "r/etcd:2", "r/kindnetd:1"].map(str::to_owned);
        assert_eq!(outdated(&present, &asked), ["r/kube-proxy:v1.33.0", "r/etcd:2"]);
    }

    #[test]
    fn layers_are_those_of_the_architecture() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let manifest = format!(r#"{{"layers": [{{"digest": "{}"}}, {{"digest": "{}"}}]}}"#, digest("1"), digest("2"));
        assert_eq!(document(&manifest, Arch::Amd64), Some(Document::Manifest(vec![digest("1"), digest("2")])));
        let index = format!(
            r#"{{"manifests": [{{"digest": "{}", "platform": {{"os": "linux", "architecture": "arm64"}}}},
                {{"digest": "{}", "platform": {{"os": "linux", "architecture": "amd64"}}}}]}}"#,
            digest("a"),
            digest("b")
        );
        assert_eq!(document(&index, Arch::Amd64), Some(Document::Index(digest("b"))));
        assert_eq!(document(&index, Arch::S390x), None);
        assert_eq!(document(r#"{"layers": [{"digest": "sha256:../../x"}]}"#, Arch::Amd64), None);
        assert_eq!(document("<html>", Arch::Amd64), None);
    }

    #[test]
    fn names_are_taken_apart() {
        let apart = |image: &str| {
            let (name, tag) = repository_and_tag(image);
            format!("{name} {tag}")
        };
        assert_eq!(apart("kina-node"), "kina-node latest");
        assert_eq!(apart("localhost:5000/node"), "localhost:5000/node latest");
        assert_eq!(apart("localhost:5000/node:v1"), "localhost:5000/node v1");
        assert_eq!(tag("v1.36.0-alpha.1+abc"), "v1.36.0-alpha.1_abc");
        for good in ["kina-node:v1.34.4", "kindest/node", "localhost:5000/a/b:x_y", "ghcr.io/a/b.c:1"] {
            assert!(is_image_name(good), "{good}");
        }
        for bad in ["", "Node", "a//b", "a:b:c", "a b", "-a", "node:", "a@sha256:00", "a:.b", "a:b@sha256:00"] {
            assert!(!is_image_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_breaks_a_reader(text in ".{0,200}") {
            let _ = (listed(&text), pause_of(&text), of_manifest(&text), document(&text, Arch::Amd64));
            let _ = (renamed(&text, Arch::Amd64), is_image_name(&text));
        }
    }
}
