//! Manifests of static pods.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The manifest of a static pod that runs one command on the host's network.
pub(super) fn static_pod(name: &str, image: &str, arguments: &[(String, String)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    component: {name}\n    tier: control-plane\n  name: {name}\n  \
         namespace: kube-system\nspec:\n  containers:\n  - name: {name}\n    image: {image}\n    command:\n    - {name}\n"
    );
    for (name, value) in arguments {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    - --{name}={value}");
    }
    text.push_str("  hostNetwork: true\n  priorityClassName: system-node-critical\n");
    text
}

/// The `--name=value` arguments of a static pod's command.
pub(super) fn arguments(manifest: &str) -> BTreeMap<String, String> {
    let argument = |line: &str| {
        let (name, value) = line.trim().strip_prefix("- --")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    manifest.lines().filter_map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_from_a_manifest_that_is_yaml() {
        let given =
            [("name".to_owned(), "a".to_owned()), ("initial-cluster".to_owned(), "a=https://10.0.0.1:2380".to_owned())];
        let manifest = static_pod("etcd", "registry.k8s.io/etcd:3.6.6-0", &given);
        assert_eq!(arguments(&manifest), given.into());
        let pod: serde_json::Value = serde_saphyr::from_str(&manifest).unwrap();
        assert_eq!(pod["spec"]["containers"][0]["command"][1], "--name=a");
    }
}
