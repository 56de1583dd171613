//! What Kina installs in a cluster: the pod network and the storage class that come with the node image, and what its user
//! wants besides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::act::effect;
use super::addon_drift::Key;
use super::observe::Subject;
use crate::api::addon::{self, FILE_BYTES_MAX};
use crate::api::annotations;
use crate::api::cluster::Cni;
use crate::api::machine::MachineRole;
use crate::controllers::clusters_api::call;
use crate::controllers::context::Shared;
use crate::controllers::host::{Host, Seen};
use crate::controllers::identity;
use crate::controllers::machine::container;
use crate::controllers::operations::Handle;
use crate::controllers::retry::EffectError;
use crate::kubeadm::{API_PORT, CNI_MANIFEST_PATH, STORAGE_MANIFEST_PATH};
use crate::runtime::{ContainerId, ContainerState};

/// Field manager of what is installed.
pub const MANAGER: &str = "kina-addons";
/// Written last: what is recorded here was applied as a whole.
const RECORD: &str = "kina-addons";
const STEP: &str = "ApplyingAddons";
/// What is remembered of those that come with the image, where they were applied alone.
pub const SYSTEM: &str = "system addons";

/// Applies everything, unless it is recorded as applied; then only what was found to differ. What is not wanted any more is
/// removed.
///
/// # Errors
/// The first object that is refused; what was applied before it stays.
pub async fn apply(shared: Arc<Shared>, subject: Subject, handle: Handle) -> Result<(), EffectError> {
    let client = shared.api.client(&subject.uid).ok_or(EffectError::Cancelled)?;
    let own = match Own::read(&shared, &subject) {
        Ok(own) => own,
        Err(error) => {
            // What the user wants besides must not keep nodes from their pod network.
            apply_system(&shared, &subject, &client, &handle).await?;
            return Err(error);
        }
    };
    let records: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let recorded =
        effect(&handle, &subject.name, STEP, || call("read the addons of", &subject.name, records.get_opt(RECORD)))
            .await?;
    let recorded = recorded.and_then(|record| record.data).unwrap_or_default();
    let is_applied = recorded.get("hash") == Some(&own.hash);
    let earlier: Vec<Key> =
        recorded.get("objects").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let differing: BTreeSet<Key> = shared.addons.differing(&subject.uid).into_iter().map(|(key, _)| key).collect();
    if !is_applied || !differing.is_empty() {
        let wanted = all(&shared, &subject, &own, &handle).await?;
        let keys: BTreeSet<Key> = wanted.iter().map(Key::of).collect();
        let unwanted: Vec<Key> = earlier.iter().filter(|key| !keys.contains(key)).cloned().collect();
        if !is_applied && (!own.objects.is_empty() || !unwanted.is_empty()) {
            // What is about to be there is recorded before: whoever goes on after a crash can take it back.
            let begun: BTreeSet<Key> = earlier.into_iter().chain(own.keys()).collect();
            let record = record("", &begun.into_iter().collect::<Vec<_>>());
            apply_one(&shared, &client, Key::of(&record), &record, &subject, &handle).await?;
        }
        for key in unwanted {
            remove_one(&shared, &client, &key, &subject, &handle).await?;
        }
        for object in wanted {
            let key = Key::of(&object);
            if !is_applied || differing.contains(&key) {
                apply_one(&shared, &client, key, &object, &subject, &handle).await?;
            }
        }
    }
    shared.memory.keep_text(&subject.uid, "addons", &own.hash);
    Ok(())
}

/// Applies what comes with the image, once a process: everything is applied, and recorded, as soon as all of it can be read.
async fn apply_system(
    shared: &Shared,
    subject: &Subject,
    client: &kube::Client,
    handle: &Handle,
) -> Result<(), EffectError> {
    let hash = subject.addons_hash(&[]);
    if shared.memory.text(&subject.uid, SYSTEM).as_ref() == Some(&hash) {
        return Ok(());
    }
    let (host, node) = node_with_manifests(shared, subject).ok_or(EffectError::Cancelled)?;
    for object in manifests(&host, &node, subject, handle).await? {
        apply_one(shared, client, Key::of(&object), &object, subject, handle).await?;
    }
    shared.memory.keep_text(&subject.uid, SYSTEM, &hash);
    Ok(())
}

/// All objects, the record last.
///
/// # Errors
/// Where manifests cannot be read.
pub async fn wanted(shared: &Shared, subject: &Subject, handle: &Handle) -> Result<Vec<Value>, EffectError> {
    all(shared, subject, &Own::read(shared, subject)?, handle).await
}

async fn all(shared: &Shared, subject: &Subject, own: &Own, handle: &Handle) -> Result<Vec<Value>, EffectError> {
    let (host, node) = node_with_manifests(shared, subject).ok_or_else(|| EffectError::Local {
        operation: "find a node with the addons of",
        object: subject.name.clone(),
        source: "no control plane runs".into(),
    })?;
    let mut objects = manifests(&host, &node, subject, handle).await?;
    // Who writes an object of Kina's by himself means his own.
    let keys: BTreeSet<Key> = own.keys().collect();
    objects.retain(|object| !keys.contains(&Key::of(object)));
    objects.extend(own.objects.iter().cloned());
    objects.push(record(&own.hash, &own.keys().collect::<Vec<_>>()));
    Ok(objects)
}

/// What was applied, in the cluster itself: the hash of all of it, and the objects of the user's.
fn record(hash: &str, own: &[Key]) -> Value {
    let mut data = json!({ "hash": hash });
    if !own.is_empty() {
        data["objects"] = json!(serde_json::to_string(own).unwrap_or_default());
    }
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": RECORD, "namespace": "kube-system" },
        "data": data,
    })
}

/// The objects that the user wants, in the order in which they are applied.
struct Own {
    objects: Vec<Value>,
    /// Of everything that is installed.
    hash: String,
}

impl Own {
    /// Reads them all, or none.
    fn read(shared: &Shared, subject: &Subject) -> Result<Self, EffectError> {
        let mut objects: BTreeMap<Key, (String, Value)> = BTreeMap::new();
        let (mut order, mut contents) = (Vec::new(), Vec::new());
        for addon in &subject.cluster.spec.addons {
            let failed = |source: Box<dyn std::error::Error + Send + Sync>| EffectError::Local {
                operation: "read the addon",
                object: match &addon.path {
                    Some(path) => format!("{} ({path})", addon.name),
                    None => addon.name.clone(),
                },
                source,
            };
            let text = match (&addon.path, &addon.manifest) {
                (Some(path), _) => {
                    let read = shared.context.world.files.read(Path::new(path), FILE_BYTES_MAX);
                    String::from_utf8_lossy(&read.map_err(|error| failed(Box::new(error)))?).into_owned()
                }
                (None, manifest) => manifest.clone().unwrap_or_default(),
            };
            for mut object in addon::objects(&text).map_err(|message| failed(format!("it {message}").into()))? {
                let key = Key::of(&object);
                if let Some((other, _)) = objects.get(&key) {
                    let message = format!("{} {key} is in the addon {other}, too", key.kind);
                    return Err(failed(message.into()));
                }
                mark(&mut object, &addon.name);
                order.push(key.clone());
                objects.insert(key, (addon.name.clone(), object));
            }
            contents.push(content_hash(&text));
        }
        // What others lie in, or are of, comes first.
        order.sort_by_key(|key| match key.kind.as_str() {
            "Namespace" => 0,
            "CustomResourceDefinition" => 1,
            _ => 2,
        });
        let objects = order.into_iter().filter_map(|key| Some(objects.remove(&key)?.1)).collect();
        Ok(Self { objects, hash: subject.addons_hash(&contents) })
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.objects.iter().map(Key::of)
    }
}

/// Says in an object which addon it is of. Fields alone do not tell: an object with none but its name has no manager.
fn mark(object: &mut Value, addon: &str) {
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[annotations::ADDON] = addon.into();
}

/// Of what an addon says.
#[must_use]
pub fn content_hash(text: &str) -> String {
    identity::hash(text)
}

/// A control plane whose container runs.
fn node_with_manifests(shared: &Shared, subject: &Subject) -> Option<(Arc<Host>, ContainerId)> {
    let host = subject.host(shared)?;
    let Seen::Known(listing) = host.seen() else { return None };
    let planes = subject.machines.iter().filter(|machine| machine.spec.role == MachineRole::ControlPlane);
    planes
        .filter_map(|machine| {
            let owner = container::owner(&shared.context.installation, machine)?;
            let found = crate::controllers::host::container(&listing, &machine.name_any(), &owner);
            found.ours().filter(|found| found.state == ContainerState::Running).map(|found| found.id.clone())
        })
        .next()
        .map(|id| (Arc::clone(host), id))
}

async fn manifests(
    host: &Host,
    node: &ContainerId,
    subject: &Subject,
    handle: &Handle,
) -> Result<Vec<Value>, EffectError> {
    let spec = subject.resolved().ok_or(EffectError::Cancelled)?;
    let mut paths = Vec::new();
    if spec.cni == Cni::Auto {
        paths.push(CNI_MANIFEST_PATH);
    }
    paths.push(STORAGE_MANIFEST_PATH);
    let mut objects = Vec::new();
    for path in paths {
        let read =
            effect(handle, &subject.name, STEP, || async { Ok(host.runtime.read_file(node, path).await?) }).await?;
        let Some(content) = read else {
            if path == CNI_MANIFEST_PATH {
                return Err(EffectError::Local {
                    operation: "read the pod network of",
                    object: subject.name.clone(),
                    source: format!("the node image has no {path}").into(),
                });
            }
            continue;
        };
        let text = String::from_utf8_lossy(&content);
        let endpoint = format!("{}-lb:{API_PORT}", subject.name);
        let parsed = parse(&text, &spec.pod_subnet.to_string(), &endpoint).map_err(|error| EffectError::Local {
            operation: "read the addons of",
            object: format!("{} ({path})", subject.name),
            source: Box::new(error),
        })?;
        objects.extend(parsed);
    }
    Ok(objects)
}

/// The objects of a manifest from a node image, with what kind puts into them (kind.md: "would you kindly …").
fn parse(text: &str, pod_subnet: &str, endpoint: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let is_patched = text.contains("would you kindly patch this file");
    let text = text.replace("{{ .PodSubnet }}", pod_subnet).replace("{{.PodSubnet}}", pod_subnet);
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    objects.retain(Value::is_object);
    if is_patched {
        for daemon in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
            if let Some(container) =
                daemon.pointer_mut("/spec/template/spec/containers/0").and_then(Value::as_object_mut)
            {
                let env = container.entry("env").or_insert_with(|| json!([]));
                if let Some(env) = env.as_array_mut() {
                    env.push(json!({ "name": "CONTROL_PLANE_ENDPOINT", "value": endpoint }));
                }
            }
        }
    }
    Ok(objects)
}

async fn apply_one(
    shared: &Shared,
    client: &kube::Client,
    key: Key,
    object: &Value,
    subject: &Subject,
    handle: &Handle,
) -> Result<(), EffectError> {
    let api = effect(handle, &subject.name, STEP, || api(shared, client, &key, subject)).await?;
    let what = format!("{} {key} in {}", key.kind, subject.name);
    let applied = effect(handle, &subject.name, STEP, || {
        let (api, name, params) = (&api, &key.name, PatchParams::apply(MANAGER).force());
        call("apply", &what, async move { api.patch(name, &params, &Patch::Apply(object)).await })
    })
    .await?;
    shared.addons.applied(&subject.uid, key, applied.resource_version());
    Ok(())
}

/// Removes what was applied by an addon that is not wanted any more, unless it is somebody else's by now.
async fn remove_one(
    shared: &Shared,
    client: &kube::Client,
    key: &Key,
    subject: &Subject,
    handle: &Handle,
) -> Result<(), EffectError> {
    let api = match effect(handle, &subject.name, STEP, || api(shared, client, key, subject)).await {
        Ok(api) => api,
        // Its kind is gone, and everything of it.
        Err(error) if is_unknown_kind(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let what = format!("{} {key} in {}", key.kind, subject.name);
    let found = effect(handle, &subject.name, STEP, || call("look at", &what, api.get_metadata_opt(&key.name))).await?;
    let Some(found) = found else { return Ok(()) };
    let is_ours = found.annotations().contains_key(annotations::ADDON);
    let (Some(uid), true) = (found.uid(), is_ours) else { return Ok(()) };
    let preconditions = Preconditions { uid: Some(uid), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    effect(handle, &subject.name, STEP, || {
        call("remove", &what, async {
            match api.delete(&key.name, &params).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                deleted => deleted.map(drop),
            }
        })
    })
    .await?;
    shared.addons.removed(&subject.uid, key);
    Ok(())
}

/// Whether a cluster knows no such kind.
pub(super) fn is_unknown_kind(error: &EffectError) -> bool {
    match error {
        EffectError::Api { source, .. } => match &**source {
            kube::Error::Api(status) => status.code == 404,
            kube::Error::Discovery(_) => true,
            _ => false,
        },
        _ => false,
    }
}

/// The resource that an object belongs to.
///
/// # Errors
/// Where the cluster does not say which one that is.
pub async fn api(
    shared: &Shared,
    client: &kube::Client,
    key: &Key,
    subject: &Subject,
) -> Result<Api<DynamicObject>, EffectError> {
    let (resource, scope) = match shared.addons.kind(key) {
        Some(known) => known,
        None => {
            let (group, version) = key.api_version.split_once('/').unwrap_or(("", &key.api_version));
            let gvk = GroupVersionKind::gvk(group, version, &key.kind);
            let found = call("look up a kind in", &subject.name, discovery::pinned_kind(client, &gvk)).await?;
            shared.addons.know_kind(key, found.0.clone(), found.1.scope.clone());
            (found.0, found.1.scope)
        }
    };
    let namespace = Some(key.namespace.as_str()).filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    Ok(match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_network_is_told_subnet_and_endpoint() {
        let text = "# would you kindly template this file\n# would you kindly patch this file\n---\nkind: DaemonSet\n\
                    spec: {template: {spec: {containers: [{name: a, env: [{name: POD_SUBNET, value: '{{ .PodSubnet }}'}]}]}}}\n---\n";
        let objects = parse(text, "10.244.0.0/16", "dev-lb:6443").unwrap();
        assert_eq!(objects.len(), 1);
        let env = objects[0].pointer("/spec/template/spec/containers/0/env").unwrap();
        assert_eq!(env[0]["value"], "10.244.0.0/16");
        assert_eq!(env[1]["value"], "dev-lb:6443");
    }
}
