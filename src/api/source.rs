//! Source: one watched directory or checkout.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A watched directory: where desired state comes from, and the home of everything that belongs to no Cluster yet.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kina.dev",
    version = "v1alpha1",
    kind = "Source",
    doc = "A watched directory: where desired state comes from, and the home of everything that belongs to no Cluster yet.",
    shortname = "src",
    category = "kina",
    status = "SourceStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Path","type":"string","jsonPath":".spec.path"}"#,
    printcolumn = r#"{"name":"Available","type":"string","jsonPath":".status.conditions[?(@.type==\"Available\")].status"}"#,
    printcolumn = r#"{"name":"Settled","type":"string","jsonPath":".status.conditions[?(@.type==\"Settled\")].status"}"#,
    printcolumn = r#"{"name":"Clusters","type":"integer","jsonPath":".status.clusters"}"#,
    printcolumn = r#"{"name":"Errors","type":"integer","jsonPath":".status.errors"}"#,
    printcolumn = r#"{"name":"Held","type":"integer","jsonPath":".status.heldCount"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceSpec {
    /// Absolute path of the directory.
    pub path: String,
}

/// What is known of a Source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The generation of the spec that this status reflects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Available, Settled, Held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Device and inode of the root when it was first seen, `DEVICE:INODE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// When content last differed from the scan before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<Time>,
    /// Hash of all manifests together at the last scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Commit that is checked out, in a git checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How many Clusters are declared.
    #[serde(default)]
    pub clusters: u32,
    /// How many errors the files have.
    #[serde(default)]
    pub errors: u32,
    /// How many deletions and recreations are held.
    #[serde(default)]
    pub held_count: u32,
    /// Every manifest file, with what it declares and what is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub files: Vec<SourceFile>,
    /// Deletions and recreations beyond the budget, until they are approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub held: Vec<HeldSet>,
    /// Clusters that no file declares any more, and that stay because they are protected. No approval deletes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub protected: Vec<ProtectedCluster>,
    /// Documents that are not applied until they change: their Cluster was detached, or its time was over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ignored: Vec<IgnoredDocument>,
    /// What was deleted or recreated within the last hour, counted against the budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub spent: Vec<SpentBudget>,
}

/// One manifest file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceFile {
    /// Path, relative to the root.
    pub path: String,
    /// Names of the Clusters it declares, as of its last good state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<SourceError>,
}

/// One fault of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceError {
    /// Line, from 1; 0 where the fault has no place.
    #[serde(default)]
    pub line: u32,
    /// Column, from 1; 0 where the fault has no place.
    #[serde(default)]
    pub column: u32,
    /// What is wrong and what was expected.
    pub message: String,
    /// The text around the place, as people read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub snippet: String,
}

/// Deletions or recreations that wait for an approval: `kina approve ID` carries out exactly this set, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldSet {
    /// Follows from the content of the set: another set has another id.
    pub id: String,
    /// What is held.
    pub action: HeldAction,
    /// The Clusters concerned.
    pub clusters: Vec<String>,
    /// Why it is held.
    pub message: String,
    /// Since when.
    pub since: Time,
}

/// A Cluster that no file declares any more, and that stays because it is protected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedCluster {
    /// Its name.
    pub cluster: String,
    /// Since when no file declares it.
    pub since: Time,
}

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeldAction {
    /// The files are gone.
    Delete,
    /// The files ask for what needs a new cluster.
    Recreate,
}

/// A document that is not applied until it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IgnoredDocument {
    /// Name of the Cluster it declares.
    pub cluster: String,
    /// Path of the file, relative to the root.
    pub path: String,
    /// SHA-256 of the document.
    pub hash: String,
    /// `Detached` or `Expired`.
    pub reason: IgnoredReason,
}

/// Why a document is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IgnoredReason {
    /// Its Cluster was detached.
    Detached,
    /// Its Cluster's time was over.
    Expired,
}

/// One deletion or recreation that counts against the budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpentBudget {
    /// The Cluster.
    pub cluster: String,
    /// What was granted.
    pub action: HeldAction,
    /// What exactly: the UID of the Cluster for a deletion, the hash of the document for a recreation. With it a deletion
    /// that a crash interrupted goes on, and another one of the same name is not granted along.
    pub key: String,
    /// When.
    pub at: Time,
}
