//! Finalizers: kept before the first effect, let go after the last.
//!
//! By JSON patches that test what they change, so that finalizers of others stay.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::retry::EffectError;

/// Adds a finalizer to an object that has none of it; tells the object as it is then.
///
/// # Errors
/// What the API server says; also when the object has changed meanwhile.
pub async fn add<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<K, EffectError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    send(api, object, "add the finalizer of", addition(object, finalizer).into()).await
}

/// The same, and in the same write other annotations: an object never has the one without the other.
///
/// # Errors
/// What the API server says; also when the object has changed meanwhile.
pub async fn add_with_annotations<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    annotations: BTreeMap<String, String>,
) -> Result<K, EffectError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut patch = addition(object, finalizer);
    patch.extend([
        json!({ "op": "test", "path": "/metadata/annotations", "value": object.meta().annotations }),
        json!({ "op": "add", "path": "/metadata/annotations", "value": annotations }),
    ]);
    send(api, object, "add the finalizer of", patch.into()).await
}

/// Removes a finalizer. An object that is gone, or has none of it, is as wished. Tells the object as it is then; `None` where it
/// is gone.
///
/// # Errors
/// What the API server says.
pub async fn remove<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<Option<K>, EffectError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let name = object.name_any();
    let read = api.get_opt(&name).await.map_err(|error| EffectError::api("look at", &name, error))?;
    let Some(now) = read.filter(|now| now.uid() == object.uid()) else { return Ok(None) };
    let Some(index) = now.finalizers().iter().position(|found| found == finalizer) else { return Ok(Some(now)) };
    let path = format!("/metadata/finalizers/{index}");
    let patch = json!([
        { "op": "test", "path": "/metadata/uid", "value": now.uid() },
        { "op": "test", "path": path, "value": finalizer },
        { "op": "remove", "path": path },
    ]);
    match send(api, object, "remove the finalizer of", patch).await {
        Err(EffectError::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 404) => {
            Ok(None)
        }
        // One that is to go goes with its last finalizer.
        Ok(left) if left.finalizers().is_empty() && left.meta().deletion_timestamp.is_some() => Ok(None),
        result => result.map(Some),
    }
}

fn addition<K: Resource>(object: &K, finalizer: &str) -> Vec<Value> {
    let uid = json!({ "op": "test", "path": "/metadata/uid", "value": object.uid() });
    if object.finalizers().is_empty() {
        vec![
            uid,
            json!({ "op": "test", "path": "/metadata/finalizers", "value": null }),
            json!({ "op": "add", "path": "/metadata/finalizers", "value": [finalizer] }),
        ]
    } else {
        vec![
            uid,
            json!({ "op": "test", "path": "/metadata/finalizers", "value": object.finalizers() }),
            json!({ "op": "add", "path": "/metadata/finalizers/-", "value": finalizer }),
        ]
    }
}

async fn send<K>(api: &Api<K>, object: &K, operation: &'static str, patch: Value) -> Result<K, EffectError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let name = object.name_any();
    let patch: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|error| EffectError::api(operation, &name, kube::Error::SerdeError(error)))?;
    let sent = api.patch(&name, &PatchParams::default(), &Patch::Json::<()>(patch)).await;
    sent.map_err(|error| EffectError::api(operation, name, error))
}
