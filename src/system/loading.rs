//! Images of the host into the machines of a cluster: only what is missing, read once, into all of them at once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Deserialize;

use super::inside::{Inside, refused};
use crate::api::cluster::RuntimeName;
use crate::api::inside::{IMAGES_MAX, Load, LoadedMachine};
use crate::api::{Cluster, Machine};
use crate::apiserver::status::ApiError;
use crate::kubeadm::commands;
use crate::runtime::{ContainerId, ContainerState, ExecRequest, Runtime, RuntimeError, image_name};

/// Longest wait for a node's list of images.
const ASK_WITHIN: Duration = Duration::from_secs(20);

/// What a body asks for.
///
/// # Errors
/// What is wrong with it.
pub fn wanted(body: &[u8]) -> Result<Load, ApiError> {
    let wanted: Load = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body names no images: {error}")))?;
    if !(1..=IMAGES_MAX).contains(&wanted.images.len()) {
        return Err(ApiError::bad_request(format!("between 1 and {IMAGES_MAX} images can be loaded at once")));
    }
    match wanted.images.iter().find(|image| image.is_empty() || image.starts_with('-')) {
        Some(image) => Err(ApiError::bad_request(format!("\"{image}\" is no name of an image"))),
        None => Ok(wanted),
    }
}

/// Images that are there, and machines that may lack them.
pub struct Loading {
    /// With their ids.
    images: Vec<(String, String)>,
    runtime: Arc<dyn Runtime>,
    machines: Vec<Target>,
}

/// A machine, with its container if that can take images.
struct Target {
    machine: String,
    container: Result<ContainerId, String>,
}

/// Looks up who is to have what.
///
/// # Errors
/// Where the cluster, a machine or an image is not there.
pub async fn begin(inside: &Inside, cluster: &str, wanted: Load) -> Result<Loading, ApiError> {
    let not_found = |what: String| ApiError::new(StatusCode::NOT_FOUND, "NotFound", what);
    let known = Api::<Cluster>::all(inside.client.clone()).get_metadata_opt(cluster).await;
    if known.map_err(ApiError::internal)?.is_none() {
        return Err(not_found(format!("clusters.kina.dev \"{cluster}\" not found")));
    }
    let of_cluster = ListParams::default().fields(&format!("spec.cluster={cluster}"));
    let machines = Api::<Machine>::all(inside.client.clone()).list(&of_cluster).await.map_err(ApiError::internal)?;
    let machines = chosen(machines.items, &wanted.machines)
        .map_err(|name| not_found(format!("cluster \"{cluster}\" has no machine \"{name}\"")))?;
    let Some(name) = the_runtime(&machines) else {
        let message = format!("cluster \"{cluster}\" has no machines yet");
        return Err(ApiError::new(StatusCode::CONFLICT, "Conflict", message));
    };
    let runtime = inside.runtime(name)?;
    let mut images = Vec::new();
    for image in wanted.images {
        let id = runtime.image_id(&image).await.map_err(refused)?;
        let id = id.ok_or_else(|| not_found(format!("there is no image {image} on this host")))?;
        images.push((image, id));
    }
    let listing = runtime.list().await.map_err(refused)?;
    let machines = machines.into_iter().map(|machine| {
        let id = machine.status.as_ref().and_then(|status| status.container_id.clone());
        let container = id.and_then(|id| inside.ours(&listing, &id));
        let container = match container {
            Some(container) if container.state == ContainerState::Running => Ok(container.id.clone()),
            Some(_) => Err("it does not run".to_owned()),
            None => Err("it has no container".to_owned()),
        };
        Target { machine: machine.name_any(), container }
    });
    Ok(Loading { images, runtime, machines: machines.collect() })
}

/// The machines of these names; all where none is named.
fn chosen(mut machines: Vec<Machine>, names: &[String]) -> Result<Vec<Machine>, String> {
    if let Some(unknown) = names.iter().find(|name| machines.iter().all(|machine| machine.name_any() != **name)) {
        return Err(unknown.clone());
    }
    machines.retain(|machine| names.is_empty() || names.contains(&machine.name_any()));
    Ok(machines)
}

/// Machines of a cluster are all of one runtime.
fn the_runtime(machines: &[Machine]) -> Option<RuntimeName> {
    machines.first().map(|machine| machine.spec.runtime)
}

impl Loading {
    /// Loads what is missing.
    ///
    /// # Errors
    /// Where the images cannot be read.
    pub async fn run(self) -> Result<Vec<LoadedMachine>, RuntimeError> {
        let asked = self.machines.iter().map(|target| self.held(target));
        let held: Vec<Result<Held, String>> = join_all(asked).await;
        let judged = self.machines.iter().zip(held).map(|(target, held)| self.judge(target, held));
        let mut outcomes: Vec<LoadedMachine> = judged.collect();
        let wanted = |image: &String| outcomes.iter().any(|outcome| outcome.loaded.contains(image));
        let missing: Vec<String> = self.images.iter().map(|(image, _)| image.clone()).filter(wanted).collect();
        let lacking = self.machines.iter().zip(&outcomes).filter(|(_, outcome)| !outcome.loaded.is_empty());
        let ids: Vec<ContainerId> = lacking.filter_map(|(target, _)| target.container.clone().ok()).collect();
        if ids.is_empty() {
            return Ok(outcomes);
        }
        for (id, error) in self.runtime.load_images(&ids, &missing).await? {
            let of = self.machines.iter().position(|target| target.container.as_ref() == Ok(&id));
            if let Some(outcome) = of.and_then(|index| outcomes.get_mut(index)) {
                outcome.loaded.clear();
                outcome.error = Some(error.to_string());
            }
        }
        Ok(outcomes)
    }

    /// What a machine has already, and what it is to get.
    fn judge(&self, target: &Target, held: Result<Held, String>) -> LoadedMachine {
        let machine = target.machine.clone();
        let held = match held {
            Ok(held) => held,
            Err(why) => return LoadedMachine { machine, error: Some(why), ..LoadedMachine::default() },
        };
        let (present, missing): (Vec<_>, Vec<_>) =
            self.images.iter().partition(|(image, id)| held.has(&image_name::full(image), id));
        let names = |images: Vec<&(String, String)>| images.into_iter().map(|(image, _)| image.clone()).collect();
        LoadedMachine { machine, present: names(present), loaded: names(missing), error: None }
    }

    /// What a machine has.
    async fn held(&self, target: &Target) -> Result<Held, String> {
        let id = target.container.clone()?;
        let request = ExecRequest { command: commands::list_image_ids(), stdin: None, timeout: ASK_WITHIN };
        let listed = self.runtime.exec(&id, &request).await.map_err(|error| error.to_string())?;
        if listed.code != 0 {
            let said = String::from_utf8_lossy(&listed.stderr).trim().to_owned();
            return Err(format!("its images cannot be listed: crictl ended with {}: {said}", listed.code));
        }
        Held::parse(&listed.stdout).map_err(|error| format!("its images cannot be listed: {error}"))
    }
}

/// The images of a node, as `crictl images --output=json` has them.
#[derive(Debug, Default, Deserialize)]
struct Held {
    #[serde(default)]
    images: Vec<HeldImage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeldImage {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
}

impl Held {
    fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Whether an image has this name, and is the very one of this id.
    fn has(&self, name: &str, id: &str) -> bool {
        self.images.iter().any(|image| {
            let of_manifest = |digest: &String| digest.rsplit_once('@').is_some_and(|(_, digest)| digest == id);
            let is_named = image.repo_tags.iter().chain(&image.repo_digests).any(|known| known == name);
            is_named && (image.id == id || image.repo_digests.iter().any(of_manifest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_there_where_both_its_name_and_its_content_are() {
        let held = Held::parse(
            br#"{"images": [
                {"id": "sha256:aa", "repoTags": ["docker.io/library/app:dev"], "repoDigests": ["docker.io/library/app@sha256:bb"],
                 "size": "1", "uid": {"value": "0"}, "pinned": false},
                {"id": "sha256:cc", "repoTags": [], "repoDigests": []}]}"#,
        )
        .unwrap();
        assert!(held.has("docker.io/library/app:dev", "sha256:aa"));
        assert!(held.has("docker.io/library/app:dev", "sha256:bb"), "of an engine that knows manifests only");
        assert!(held.has("docker.io/library/app@sha256:bb", "sha256:aa"));
        assert!(!held.has("docker.io/library/app:dev", "sha256:dd"), "it was built anew");
        assert!(!held.has("docker.io/library/app:other", "sha256:aa"));
        assert!(!Held::parse(b"{}").unwrap().has("docker.io/library/app:dev", "sha256:aa"));
        assert!(Held::parse(b"crictl: command not found").is_err());
    }

    #[test]
    fn what_is_asked_for_is_read_and_what_is_wrong_with_it_is_told() {
        let read = wanted(br#"{"images": ["app:dev"], "machines": ["dev-pool-0"]}"#).unwrap();
        assert_eq!((read.images, read.machines), (vec!["app:dev".to_owned()], vec!["dev-pool-0".to_owned()]));
        for (body, told) in [
            (r#"{"images": []}"#, "between 1 and 64 images"),
            (r#"{"images": ["--all"]}"#, "is no name of an image"),
            (r#"{"image": "app"}"#, "unknown field `image`"),
            ("", "names no images"),
        ] {
            let message = wanted(body.as_bytes()).unwrap_err().to_body();
            assert!(message.contains(told), "{message}");
        }
    }
}
