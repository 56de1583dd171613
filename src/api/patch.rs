//! Patches of kubeadm's and containerd's configuration, as people write them: parsed and checked, with what they mean.
//!
//! The rules are kind's (<https://kind.sigs.k8s.io/docs/user/configuration/#kubeadm-config-patches>), but for one: a patch
//! that can fit nothing is an error, where kind drops it without a word.

use serde_json::Value;

use super::node::JsonPatch6902;

/// The documents of kubeadm's configuration, with the API group of each.
const DOCUMENTS: [(&str, &str); 5] = [
    ("ClusterConfiguration", "kubeadm.k8s.io"),
    ("InitConfiguration", "kubeadm.k8s.io"),
    ("JoinConfiguration", "kubeadm.k8s.io"),
    ("KubeletConfiguration", "kubelet.config.k8s.io"),
    ("KubeProxyConfiguration", "kubeproxy.config.k8s.io"),
];
/// Versions of kubeadm's own documents that patches are written for. v1beta3 has arguments as a map, v1beta4 as a list: both
/// are understood.
const KUBEADM_VERSIONS: [&str; 2] = ["v1beta3", "v1beta4"];

/// A merge patch (RFC 7386) of one kind of document.
#[derive(Clone, Debug, PartialEq)]
pub struct MergePatch {
    /// Kind of the document.
    pub kind: String,
    /// What is merged: the patch without `apiVersion`, `kind` and `metadata`.
    pub fields: Value,
}

/// The merge patches of a text: one or several YAML documents, each with the kind that it is for.
///
/// # Errors
/// What is wrong, in words for a person.
pub fn merge_patches(text: &str) -> Result<Vec<MergePatch>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("is not valid YAML: {}", first_line(&error)))?;
    let patches: Vec<MergePatch> =
        documents.into_iter().filter(|document| !document.is_null()).map(merge_patch).collect::<Result<_, _>>()?;
    if patches.is_empty() { Err("is empty".to_owned()) } else { Ok(patches) }
}

fn merge_patch(mut document: Value) -> Result<MergePatch, String> {
    let Some(fields) = document.as_object_mut() else { return Err("is not a map of fields".to_owned()) };
    let mut text = |key: &str| match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a `{key}` that is no text")),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let kind = kind.ok_or("names no `kind`: nobody knows which document it is for")?;
    // kind's own examples carry it for matching alone.
    fields.remove("metadata");
    fits(&kind, version.as_deref())?;
    Ok(MergePatch { kind, fields: document })
}

/// The operations of a JSON patch, and which document they are for.
///
/// # Errors
/// What is wrong, in words for a person.
pub fn json_patch(patch: &JsonPatch6902) -> Result<json_patch::Patch, String> {
    let version = match (patch.group.as_str(), patch.version.as_str()) {
        ("", _) => None,
        (group, "") => Some(group.to_owned()),
        (group, version) => Some(format!("{group}/{version}")),
    };
    fits(&patch.kind, version.as_deref())?;
    operations(&patch.patch)
}

/// The operations of a JSON patch of containerd's configuration.
///
/// # Errors
/// What is wrong, in words for a person.
pub fn operations(text: &str) -> Result<json_patch::Patch, String> {
    serde_saphyr::from_str(text)
        .map_err(|error| format!("is not a list of JSON patch operations: {}", first_line(&error)))
}

/// The table of a TOML patch of containerd's configuration.
///
/// # Errors
/// What is wrong, in words for a person.
pub fn containerd_patch(text: &str) -> Result<toml::Table, String> {
    text.parse().map_err(|error: toml::de::Error| format!("is not valid TOML: {}", first_line(&error.message())))
}

/// Whether there is such a document at all.
fn fits(kind: &str, api_version: Option<&str>) -> Result<(), String> {
    let Some((_, group)) = DOCUMENTS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = DOCUMENTS.iter().map(|(kind, _)| *kind).collect();
        return Err(format!(
            "is for the kind `{kind}`, which kubeadm's configuration does not have: {}",
            known.join(", ")
        ));
    };
    let Some(api_version) = api_version else { return Ok(()) };
    let (named, version) = api_version.split_once('/').unwrap_or((api_version, ""));
    if named != *group {
        return Err(format!("is for {kind} of `{api_version}`, but that kind belongs to `{group}`"));
    }
    if named == "kubeadm.k8s.io" && !version.is_empty() && !KUBEADM_VERSIONS.contains(&version) {
        return Err(format!("is for `{api_version}`: only {} are understood", KUBEADM_VERSIONS.join(" and ")));
    }
    Ok(())
}

/// What a parser says, without the picture of the text around it.
pub(super) fn first_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_which_document_it_is_for() {
        let text = "kind: ClusterConfiguration\napiServer: {extraArgs: {v: '4'}}\n---\nkind: InitConfiguration\nmetadata: {name: config}\nskipPhases: []\n";
        let patches = merge_patches(text).unwrap();
        assert_eq!(patches.len(), 2);
        assert_eq!(patches[0].kind, "ClusterConfiguration");
        assert_eq!(patches[1].fields, serde_json::json!({"skipPhases": []}));
    }

    #[test]
    fn a_patch_that_can_fit_nothing_is_refused() {
        let error = |text: &str| merge_patches(text).unwrap_err();
        insta::assert_snapshot!([
            error("kind: ClusterConfig\n"),
            error("apiServer: {}\n"),
            error("kind: KubeletConfiguration\napiVersion: kubeadm.k8s.io/v1beta3\n"),
            error("kind: InitConfiguration\napiVersion: kubeadm.k8s.io/v1beta2\n"),
            error("- op: add\n"),
            error("# nothing\n"),
            error("kind: [\n"),
            error("kind: 5\n"),
        ].join("\n"), @r"
        is for the kind `ClusterConfig`, which kubeadm's configuration does not have: ClusterConfiguration, InitConfiguration, JoinConfiguration, KubeletConfiguration, KubeProxyConfiguration
        names no `kind`: nobody knows which document it is for
        is for KubeletConfiguration of `kubeadm.k8s.io/v1beta3`, but that kind belongs to `kubelet.config.k8s.io`
        is for `kubeadm.k8s.io/v1beta2`: only v1beta3 and v1beta4 are understood
        is not a map of fields
        is empty
        is not valid YAML: error: line 1 column 7: unclosed bracket '['
        has a `kind` that is no text
        ");
    }

    #[test]
    fn json_patches_may_be_written_as_yaml() {
        let patch = JsonPatch6902 {
            group: "kubeadm.k8s.io".into(),
            version: "v1beta3".into(),
            kind: "ClusterConfiguration".into(),
            patch: "- op: add\n  path: /apiServer/certSANs/-\n  value: my-hostname\n".into(),
        };
        assert_eq!(json_patch(&patch).unwrap().0.len(), 1);
        let elsewhere = JsonPatch6902 { group: "apps".into(), ..patch.clone() };
        assert!(json_patch(&elsewhere).unwrap_err().contains("belongs to `kubeadm.k8s.io`"));
        let broken = JsonPatch6902 { patch: "op: add".into(), ..patch };
        assert!(json_patch(&broken).unwrap_err().starts_with("is not a list of JSON patch operations"));
    }
}
