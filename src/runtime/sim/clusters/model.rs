//! Names of resources, and parts of objects as the engine reads them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;
use crate::apiserver::kind::ResourceId;

/// A resource of the core group, or of another one at `v1`.
pub(super) fn resource(group: &str, plural: &str) -> ResourceId {
    ResourceId { group: group.to_owned(), version: "v1".to_owned(), plural: plural.to_owned() }
}

pub(super) fn core(plural: &str) -> ResourceId {
    resource("", plural)
}

pub(super) fn apps(plural: &str) -> ResourceId {
    resource("apps", plural)
}

/// Whether a change of such objects gives kubelets or controllers something to do.
pub(super) fn concerns_engine(stored: &str) -> bool {
    matches!(
        stored,
        "nodes"
            | "pods"
            | "namespaces"
            | "serviceaccounts"
            | "daemonsets.apps"
            | "deployments.apps"
            | "replicasets.apps"
            | "poddisruptionbudgets.policy"
    )
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub deletion_timestamp: Option<jiff::Timestamp>,
    pub deletion_grace_period_seconds: i64,
    pub generation: i64,
    pub owner_references: Vec<OwnerReference>,
}

impl Meta {
    /// The UID of the controller that owns the object.
    pub fn controller(&self) -> Option<&str> {
        self.owner().map(|owner| owner.uid.as_str())
    }

    /// The controller that owns the object.
    pub fn owner(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnerReference {
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Toleration {
    pub key: String,
    pub operator: String,
    pub value: String,
    pub effect: String,
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let key = self.key.is_empty() || self.key == taint.key;
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        key && effect && (self.operator == "Exists" || (!self.key.is_empty() && self.value == taint.value))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    #[serde(rename = "lastTransitionTime")]
    pub since: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub metadata: Meta,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    pub conditions: Vec<Condition>,
}

impl Node {
    pub fn ready(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == "Ready")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub metadata: Meta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub node_name: String,
    pub host_network: bool,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    pub volumes: Vec<Volume>,
    pub containers: Vec<Container>,
    pub affinity: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Container {
    pub name: String,
    pub image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Volume {
    pub host_path: Option<HostPath>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HostPath {
    pub path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub phase: String,
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    pub conditions: Vec<Condition>,
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodIp {
    pub ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus {
    pub restart_count: i64,
    pub state: Value,
}

impl Pod {
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether its containers set up the node's pod network: they write where CNI configurations lie.
    pub fn sets_up_network(&self) -> bool {
        let paths = self.spec.volumes.iter().filter_map(|volume| volume.host_path.as_ref());
        self.spec.host_network && paths.into_iter().any(|host| host.path.trim_end_matches('/') == "/etc/cni/net.d")
    }

    /// When its containers started.
    pub fn started(&self) -> Option<jiff::Timestamp> {
        let state = &self.status.container_statuses.first()?.state;
        state.pointer("/running/startedAt")?.as_str()?.parse().ok()
    }
}

/// A Deployment, ReplicaSet or DaemonSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Workload {
    pub metadata: Meta,
    pub spec: WorkloadSpec,
    pub status: Value,
    /// What follows from the template, where anybody has asked.
    #[serde(skip)]
    derived: OnceCell<OfTemplate>,
}

/// What follows from the template of a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct OfTemplate {
    /// A hash, as it is part of names and labels.
    pub hash: String,
    /// The spec of its pods.
    pub pod: PodSpec,
}

impl Workload {
    pub fn of_template(&self) -> &OfTemplate {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.derived.get_or_init(|| {
            let template = &self.spec.template;
            let digest = Sha256::digest(template.to_string().as_bytes());
            let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
            OfTemplate {
                hash: digest.iter().take(10).map(letter).collect(),
                pod: template.get("spec").and_then(|spec| PodSpec::deserialize(spec).ok()).unwrap_or_default(),
            }
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkloadSpec {
    pub replicas: Option<i64>,
    pub paused: bool,
    pub selector: Selector,
    pub template: Value,
    pub strategy: Value,
    #[serde(rename = "updateStrategy")]
    pub update_strategy: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Selector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Expression>,
}

impl Selector {
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.holds(labels))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Expression {
    pub key: String,
    pub operator: String,
    pub values: Vec<String>,
}

impl Expression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => found.is_some_and(|value| self.values.contains(value)),
            "NotIn" => found.is_none_or(|value| !self.values.contains(value)),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    }
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Budget {
    pub metadata: Meta,
    pub spec: BudgetSpec,
    pub status: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BudgetSpec {
    pub min_available: Option<Value>,
    pub max_unavailable: Option<Value>,
    pub selector: Option<Selector>,
}

/// All objects of a resource that can be read in this form, in order of namespace and name.
pub(super) fn all<T: for<'de> Deserialize<'de>>(
    session: &Session<'_, '_>,
    id: &ResourceId,
) -> Result<Vec<T>, ApiError> {
    let mut found = Objects::default();
    found.read(session, id)?;
    Ok(found.all)
}

/// Objects of one resource as they were read last, with the keys and bytes that they were read from.
#[derive(Clone, Debug)]
pub(super) struct Objects<T> {
    all: Vec<T>,
    rows: Vec<(String, Bytes)>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { all: Vec::new(), rows: Vec::new() }
    }
}

impl<T> std::ops::Deref for Objects<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all
    }
}

impl<'o, T> IntoIterator for &'o Objects<T> {
    type Item = &'o T;
    type IntoIter = std::slice::Iter<'o, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl<T: for<'de> Deserialize<'de>> Objects<T> {
    /// Reads them as they are now. What is as it was is not parsed again.
    pub fn read(&mut self, session: &Session<'_, '_>, id: &ResourceId) -> Result<(), ApiError> {
        let (rows, all) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.all));
        let mut known = rows.into_iter().zip(all).peekable();
        session.visit(id, None, &mut |key, bytes| {
            // Both are in order of key.
            while known.next_if(|((known, _), _)| *known < key).is_some() {}
            let same = known.next_if(|((known, old), _)| *known == key && *old == bytes);
            // What cannot be read so was written past the schema: no component could do anything with it.
            if let Some(object) = same.map(|(_, object)| object).or_else(|| serde_json::from_slice(&bytes).ok()) {
                self.all.push(object);
                self.rows.push((key, bytes));
            }
            ControlFlow::Continue(())
        })
    }
}

/// The reference of a controller to what it owns.
pub(super) fn controller_reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true,
            "blockOwnerDeletion": true}])
}
