//! Rules of registries and their mirrors.

use std::collections::BTreeSet;

use super::Faults;
use crate::api::cluster::ClusterSpec;
use crate::api::patch;

/// Stands for every registry that has no entry of its own, as in containerd.
const DEFAULT: &str = "_default";
/// Tables of containerd's older way to name mirrors, which it refuses beside the one that Kina uses.
const OLDER: [&str; 2] = ["mirrors", "configs"];

pub(super) fn check(faults: &mut Faults, spec: &ClusterSpec) {
    let mut seen = BTreeSet::new();
    for (index, registry) in spec.registries.iter().enumerate() {
        let index = index.to_string();
        let here = ["spec", "registries", &index];
        let host = &registry.host;
        if host != DEFAULT && !is_host(host) {
            let message =
                format!("`{host}` is not a registry such as `docker.io` or `localhost:5001`, without a scheme");
            faults.add(&[&here[..], &["host"]].concat(), message);
        }
        if !seen.insert(host) {
            faults.add(&[&here[..], &["host"]].concat(), format!("a second entry is for `{host}`"));
        }
        for (at, mirror) in registry.mirrors.iter().enumerate() {
            if !is_address(mirror) {
                let message = format!(
                    "`{mirror}` is not an address such as `http://cache:5000` or `https://mirror.example/team`"
                );
                faults.add(&[&here[..], &["mirrors", &at.to_string()]].concat(), message);
            }
        }
        let is_pem =
            |text: &String| text.contains("-----BEGIN CERTIFICATE-----") && text.contains("-----END CERTIFICATE-----");
        if registry.ca_certificate.as_ref().is_some_and(|text| !is_pem(text)) {
            faults.add(&[&here[..], &["caCertificate"]].concat(), "this is not a certificate in PEM");
        }
        if registry.mirrors.is_empty() && registry.ca_certificate.is_none() && !registry.insecure_skip_verify {
            faults.add(
                &here,
                format!("nothing is said about `{host}`: `mirrors`, `caCertificate` or `insecureSkipVerify`"),
            );
        }
    }
    if !spec.registries.is_empty() {
        refuse_older_mirrors(faults, spec);
    }
}

fn refuse_older_mirrors(faults: &mut Faults, spec: &ClusterSpec) {
    for (index, text) in spec.containerd_config_patches.iter().enumerate() {
        let Ok(table) = patch::containerd_patch(text) else { continue };
        let plugins = table.get("plugins").and_then(toml::Value::as_table).into_iter().flatten();
        let registries = plugins.filter_map(|(_, plugin)| plugin.get("registry"));
        let older = registries.flat_map(|registry| OLDER.into_iter().filter(|key| registry.get(key).is_some())).next();
        if let Some(key) = older {
            let message =
                format!("containerd takes `registry.{key}` only where there are no `registries`: say it there");
            faults.add(&["spec", "containerdConfigPatches", &index.to_string()], message);
        }
    }
}

/// `HOST` or `HOST:PORT`: also the name of a directory in the node.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.split('.').all(is_part) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/' | b'~');
    is_host(host) && path.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::super::cluster;
    use crate::api::ClusterSpec;
    use crate::api::node::Registry;

    fn faults(spec: &ClusterSpec) -> String {
        let found = cluster("dev", spec);
        found.iter().map(|fault| format!("{}: {}\n", fault.field(), fault.message)).collect()
    }

    #[test]
    fn registries_are_named_as_images_name_them_and_mirrors_by_address() {
        let registry = |host: &str, mirrors: &[&str]| Registry {
            host: host.into(),
            mirrors: mirrors.iter().map(|&mirror| mirror.into()).collect(),
            ..Registry::default()
        };
        let good = ["docker.io", "localhost:5001", "_default", "a-b.example:443", "127.0.0.1:5000"];
        let mut spec = ClusterSpec {
            registries: good.map(|host| registry(host, &["http://cache:5000", "https://m.example/a/b"])).into(),
            ..ClusterSpec::default()
        };
        assert_eq!(faults(&spec), "");
        let pem = Registry { ca_certificate: Some("MIIB".into()), ..registry("c.example", &[]) };
        spec.registries = vec![
            registry("https://docker.io", &["cache:5000"]),
            registry("../etc", &["http://user:secret@cache"]),
            registry("docker.io:0", &["http://cache\"]"]),
            registry("quay.io", &[]),
            pem,
            registry("quay.io", &["http://c?x=1"]),
        ];
        spec.containerd_config_patches =
            vec!["[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = []\n".into()];
        insta::assert_snapshot!(faults(&spec));
    }
}
