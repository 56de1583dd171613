//! What `kubeadm init` stores of the cluster's configuration, in the ConfigMap `kubeadm-config`, for those that join.

use serde_json::Value;

/// Name of the ConfigMap, in `kube-system`.
pub const CONFIG_MAP: &str = "kubeadm-config";
/// The key of the document in it.
pub const KEY: &str = "ClusterConfiguration";

/// What only the first members of etcd are told.
const FIRST_MEMBERS: [&str; 2] = ["initial-cluster", "initial-cluster-state"];

/// The stored document is none.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It could not be read.
    #[error("the {KEY} of {CONFIG_MAP} is no YAML")]
    Read(#[source] serde_saphyr::Error),
    /// It could not be written.
    #[error("the {KEY} of {CONFIG_MAP} could not be written")]
    Write(#[source] serde_saphyr::ser_error::Error),
}

/// The document without what the first members of etcd were told of each other; `None` where nothing of that is in it.
///
/// What `kubeadm init` was given is stored as it was, and `kubeadm join` lets arguments that are stored go before those that
/// it computes: etcd of a control plane that joins would be told of a cluster without itself, and not start ("couldn't find
/// local name in the initial cluster configuration").
///
/// # Errors
/// [`StoredError`] where the document is none.
pub fn without_first_members(document: &str) -> Result<Option<String>, StoredError> {
    let mut value: Value = serde_saphyr::from_str(document).map_err(StoredError::Read)?;
    let is_told = match value.pointer_mut("/etcd/local/extraArgs") {
        // v1beta4: a list of names and values.
        Some(Value::Array(arguments)) => {
            let before = arguments.len();
            arguments.retain(|argument| !argument["name"].as_str().is_some_and(|name| FIRST_MEMBERS.contains(&name)));
            arguments.len() < before
        }
        // v1beta3: a map.
        Some(Value::Object(arguments)) => {
            let before = arguments.len();
            arguments.retain(|name, _| !FIRST_MEMBERS.contains(&name.as_str()));
            arguments.len() < before
        }
        _ => false,
    };
    is_told.then(|| serde_saphyr::to_string(&value).map_err(StoredError::Write)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(document: &str) -> Value {
        let value: Value = serde_saphyr::from_str(document).unwrap();
        value["etcd"]["local"]["extraArgs"].clone()
    }

    #[test]
    fn first_members_go_and_everything_else_stays() {
        let document = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: dev\netcd:\n  local:\n    dataDir: /var/lib/etcd\n    extraArgs:\n    - name: initial-cluster\n      value: dev-control-plane-0=https://10.160.0.10:2380\n    - name: quota-backend-bytes\n      value: '8589934592'\n    - name: initial-cluster-state\n      value: new\n";
        let without = without_first_members(document).unwrap().unwrap();
        let quota = serde_json::json!([{"name": "quota-backend-bytes", "value": "8589934592"}]);
        assert_eq!(arguments(&without), quota);
        let value: Value = serde_saphyr::from_str(&without).unwrap();
        assert_eq!(
            (&value["clusterName"], &value["etcd"]["local"]["dataDir"]),
            (&"dev".into(), &"/var/lib/etcd".into())
        );
        assert_eq!(without_first_members(&without).unwrap(), None, "nothing is written a second time");
    }

    #[test]
    fn of_the_older_version_likewise() {
        let document = "kind: ClusterConfiguration\netcd: {local: {extraArgs: {initial-cluster: a=b, initial-cluster-state: new, v: '2'}}}\n";
        let without = without_first_members(document).unwrap().unwrap();
        assert_eq!(arguments(&without), serde_json::json!({"v": "2"}));
    }

    #[test]
    fn where_nobody_was_told_nothing_changes() {
        for document in
            ["kind: ClusterConfiguration\n", "etcd: {external: {endpoints: [a]}}\n", "etcd: {local: {extraArgs: []}}\n"]
        {
            assert_eq!(without_first_members(document).unwrap(), None, "{document}");
        }
        assert!(matches!(without_first_members("a: [").unwrap_err(), StoredError::Read(_)));
    }
}
