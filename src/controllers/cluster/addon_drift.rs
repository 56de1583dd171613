//! Whether what Kina installed in a cluster is still as it was applied.
//!
//! An object whose resource version is the one that was found right before is right still, which costs one small request
//! an object. Of any other the API server tells by a dry run what applying it would change: only fields that Kina set
//! count, whatever defaults and other managers add.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::discovery::Scope;
use kube::{Api, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::addons::{self, MANAGER};
use super::observe::Subject;
use crate::api::addon::FILE_BYTES_MAX;
use crate::api::cluster::Cni;
use crate::controllers::clusters_api::call;
use crate::controllers::context::Shared;
use crate::controllers::operations::Handle;
use crate::controllers::retry::EffectError;
use crate::world::{FileSystem, Metadata};

/// All clusters together are compared at most twice a second: some 13 requests each, and next to nothing in all.
const APART: Duration = Duration::from_millis(500);
/// How soon after a comparison a change of a DaemonSet makes for another: whoever fights over one must not do so at full
/// speed.
const CALM: Duration = Duration::from_secs(10);
/// Fields that are named of one object.
const FIELDS_SHOWN: usize = 5;
/// Kinds whose resources are remembered; addons have some twelve.
const KINDS_MAX: usize = 256;
/// Files whose hashes are remembered: more than a thousand clusters have of addons.
const FILES_MAX: usize = 4096;

/// One object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// `GROUP/VERSION`, or the version alone.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of a manifest.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// What is known of the addons of all clusters. One entry a Cluster.
#[derive(Clone, Debug, Default)]
pub struct Addons {
    state: Arc<Mutex<State>>,
}

/// Kinds with the resource that serves them.
type Kinds = BTreeMap<(String, String), (ApiResource, Scope)>;

#[derive(Default)]
struct State {
    clusters: BTreeMap<String, Known>,
    kinds: Kinds,
    files: BTreeMap<PathBuf, (Metadata, String)>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "addons of {} clusters", self.clusters.len())
    }
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// Resource versions that were found right.
    right: BTreeMap<Key, String>,
    /// What differs, and how.
    differs: BTreeMap<Key, String>,
    compared: Option<Instant>,
    /// The DaemonSets at the time.
    daemons: BTreeMap<String, i64>,
    /// A NetworkPolicy, as `NAMESPACE/NAME`, that nobody enforces.
    policy: Option<String>,
}

impl Addons {
    /// Whether a comparison is due.
    #[must_use]
    pub fn is_due(&self, uid: &str, interval: Duration, daemons: &BTreeMap<String, i64>) -> bool {
        let state = self.lock();
        let share = APART * u32::try_from(state.clusters.len()).unwrap_or(u32::MAX);
        let Some(known) = state.clusters.get(uid) else { return true };
        let Some(compared) = known.compared else { return true };
        let pause = if known.daemons == *daemons { interval.max(share) } else { CALM };
        compared.elapsed() >= pause
    }

    /// What differs, and how.
    #[must_use]
    pub fn differing(&self, uid: &str) -> Vec<(Key, String)> {
        let state = self.lock();
        let known = state.clusters.get(uid);
        known.into_iter().flat_map(|known| known.differs.clone()).collect()
    }

    /// A NetworkPolicy that was seen where nobody enforces any.
    #[must_use]
    pub fn policy(&self, uid: &str) -> Option<String> {
        self.lock().clusters.get(uid)?.policy.clone()
    }

    /// An object was applied.
    pub fn applied(&self, uid: &str, key: Key, version: Option<String>) {
        let mut state = self.lock();
        let known = state.clusters.entry(uid.to_owned()).or_default();
        known.differs.remove(&key);
        if let Some(version) = version {
            known.right.insert(key, version);
        }
    }

    /// An object is gone that is not wanted any more.
    pub fn removed(&self, uid: &str, key: &Key) {
        if let Some(known) = self.lock().clusters.get_mut(uid) {
            known.right.remove(key);
            known.differs.remove(key);
        }
    }

    /// Hash of a file of the user's. It is read again only where it was changed; of one that cannot be read, why.
    #[must_use]
    pub fn file_hash(&self, files: &dyn FileSystem, path: &Path) -> String {
        let metadata = match files.metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return error.to_string(),
        };
        let known = self.lock().files.get(path).filter(|(seen, _)| *seen == metadata).map(|(_, hash)| hash.clone());
        if let Some(hash) = known {
            return hash;
        }
        let content = match files.read(path, FILE_BYTES_MAX) {
            Ok(content) => content,
            Err(error) => return error.to_string(),
        };
        let hash = addons::content_hash(&String::from_utf8_lossy(&content));
        let mut state = self.lock();
        if state.files.len() >= FILES_MAX {
            state.files.clear();
        }
        state.files.insert(path.to_owned(), (metadata, hash.clone()));
        hash
    }

    /// A Cluster is gone, or made anew.
    pub fn forget(&self, uid: &str) {
        self.lock().clusters.remove(uid);
    }

    /// The resource that serves a kind, once somebody has looked it up.
    #[must_use]
    pub fn kind(&self, key: &Key) -> Option<(ApiResource, Scope)> {
        self.lock().kinds.get(&(key.api_version.clone(), key.kind.clone())).cloned()
    }

    /// Remembers it.
    pub fn know_kind(&self, key: &Key, resource: ApiResource, scope: Scope) {
        let mut state = self.lock();
        if state.kinds.len() >= KINDS_MAX {
            state.kinds.clear();
        }
        state.kinds.insert((key.api_version.clone(), key.kind.clone()), (resource, scope));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares all objects. What cannot be seen is not different: it is looked at the next time.
///
/// # Errors
/// None of the cluster's; only that it is not wanted any more.
pub async fn compare(shared: Arc<Shared>, subject: Subject, handle: Handle) -> Result<(), EffectError> {
    let daemons = shared.api.with(&subject.uid, |view| view.daemons.clone()).unwrap_or_default();
    let before = shared.addons.lock().clusters.get(&subject.uid).cloned().unwrap_or_default();
    let mut known = match look(&shared, &subject, &handle, before.clone()).await {
        Ok(known) => known,
        Err(EffectError::Cancelled) => return Err(EffectError::Cancelled),
        Err(error) => {
            tracing::debug!(cluster = subject.name, error = %error.chain(), "the addons cannot be compared");
            before
        }
    };
    known.policy = unenforced(&shared, &subject, known.policy).await;
    (known.compared, known.daemons) = (Some(Instant::now()), daemons);
    shared.addons.lock().clusters.insert(subject.uid.clone(), known);
    Ok(())
}

/// A NetworkPolicy in a cluster whose pod network enforces none. Where nobody can tell, what was known stays.
async fn unenforced(shared: &Shared, subject: &Subject, before: Option<String>) -> Option<String> {
    if subject.resolved().is_none_or(|spec| spec.cni != Cni::Routed) {
        return None;
    }
    let client = shared.api.client(&subject.uid)?;
    let policies: Api<NetworkPolicy> = Api::all(client);
    let one = ListParams::default().limit(1);
    let listed = call("list the NetworkPolicies of", &subject.name, policies.list_metadata(&one)).await;
    match listed {
        Ok(listed) => {
            listed.items.first().map(|found| format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any()))
        }
        // An API server that does not know them has none.
        Err(error) if addons::is_unknown_kind(&error) => None,
        Err(_) => before,
    }
}

async fn look(shared: &Shared, subject: &Subject, handle: &Handle, before: Known) -> Result<Known, EffectError> {
    let client = shared.api.client(&subject.uid).ok_or(EffectError::Cancelled)?;
    let mut known = before;
    let mut unsure = known.right.is_empty() || !known.differs.is_empty();
    let right: Vec<(Key, String)> = known.right.iter().map(|(key, version)| (key.clone(), version.clone())).collect();
    for (key, version) in right {
        let api = addons::api(shared, &client, &key, subject).await?;
        let found = call("look at", &key.name, api.get_metadata_opt(&key.name)).await?;
        if found.and_then(|found| found.metadata.resource_version).as_deref() != Some(version.as_str()) {
            known.right.remove(&key);
            unsure = true;
        }
    }
    if !unsure {
        return Ok(known);
    }
    known.differs.clear();
    for object in addons::wanted(shared, subject, handle).await? {
        let key = Key::of(&object);
        if known.right.contains_key(&key) {
            continue;
        }
        let api = addons::api(shared, &client, &key, subject).await?;
        let Some(live) = call("look at", &key.name, api.get_opt(&key.name)).await? else {
            known.differs.insert(key, "gone".to_owned());
            continue;
        };
        let version = live.resource_version();
        let params = PatchParams::apply(MANAGER).force().dry_run();
        let patch = Patch::Apply(&object);
        let applied = call("compare", &key.name, api.patch(&key.name, &params, &patch)).await?;
        let fields = differing_fields(&live, &applied);
        match version.filter(|_| fields.is_empty()) {
            Some(version) => drop(known.right.insert(key, version)),
            None => drop(known.differs.insert(key, format!("changed: {}", fields.join(", ")))),
        }
    }
    Ok(known)
}

/// Names of fields in which two states of an object differ, without what the server itself keeps.
fn differing_fields(live: &DynamicObject, applied: &DynamicObject) -> Vec<String> {
    let value = |object: &DynamicObject| {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            for own in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"] {
                metadata.remove(own);
            }
        }
        value
    };
    let mut found = Vec::new();
    differing("", &value(live), &value(applied), &mut found);
    found.truncate(FIELDS_SHOWN);
    found
}

fn differing(path: &str, live: &Value, applied: &Value, found: &mut Vec<String>) {
    if live == applied || found.len() >= FIELDS_SHOWN {
        return;
    }
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            let keys: std::collections::BTreeSet<&String> = live.keys().chain(applied.keys()).collect();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differing(&below, &value(live), &value(applied), found);
            }
        }
        (Value::Array(live), Value::Array(applied)) if live.len() == applied.len() => {
            for (index, (live, applied)) in live.iter().zip(applied).enumerate() {
                differing(&format!("{path}[{index}]"), live, applied, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differing_fields_are_named_and_what_the_server_keeps_is_not() {
        let object = |value: Value| serde_json::from_value::<DynamicObject>(value).unwrap();
        let live = object(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "status": {"numberReady": 1},
            "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "1"}},
            "spec": {"containers": [{"name": "c", "image": "evil"}]},
        }));
        let applied = object(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "status": {"numberReady": 2},
            "metadata": {"name": "a", "resourceVersion": "8", "labels": {"x": "1"}},
            "spec": {"containers": [{"name": "c", "image": "good"}], "minReadySeconds": 1},
        }));
        assert_eq!(differing_fields(&live, &applied), ["spec.containers[0].image", "spec.minReadySeconds"]);
        assert_eq!(differing_fields(&live, &live), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn many_clusters_are_compared_less_often_and_a_change_soon() {
        let (addons, interval) = (Addons::default(), Duration::from_secs(30));
        let daemons = |generation: i64| BTreeMap::from([("kindnet".to_owned(), generation)]);
        assert!(addons.is_due("a", interval, &daemons(1)));
        for index in 0..1000 {
            let known = Known { compared: Some(Instant::now()), daemons: daemons(1), ..Known::default() };
            addons.lock().clusters.insert(format!("c{index}"), known);
        }
        tokio::time::advance(Duration::from_secs(250)).await;
        assert!(!addons.is_due("c0", interval, &daemons(1)));
        assert!(addons.is_due("c0", interval, &daemons(2)));
        tokio::time::advance(Duration::from_secs(250)).await;
        assert!(addons.is_due("c0", interval, &daemons(1)));
    }
}
