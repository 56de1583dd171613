//! Images of the host that a node is to have before anybody asks for them.
//!
//! They are loaded beside everything else that is done about a Machine: a node that lacks one is Ready all the same, and its
//! Cluster says what is missing.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::facts::{Facts, Inside};
use super::observe::Subject;
use crate::api::conditions::{Holds, IMAGES_LOADED, Verdict};
use crate::controllers::context::Shared;
use crate::controllers::events::Tone;
use crate::controllers::identity;
use crate::controllers::operations::{Handle, Load, Progress};
use crate::controllers::retry::{EffectError, with_retries};
use crate::kubeadm::commands;
use crate::runtime::{ContainerId, ExecRequest, image_name};

/// After a failure: an image that is missing on the host is about to be built, or never comes.
const AGAIN: Duration = Duration::from_secs(30);
/// Longest wait for the list of a node's images.
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// Keys of what is remembered.
const PROOF: &str = "images";
const FAILURE: &str = "images failed";

/// How far a Machine's images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tended {
    /// What to tell; `None` where no images are wanted.
    pub verdict: Option<Verdict>,
    /// When to look again.
    pub again: Option<Duration>,
}

/// Sees to a Machine's images: starts to load them, or reads how that went.
pub async fn tend(shared: &Arc<Shared>, subject: &Subject, facts: &Facts, running: Option<&ContainerId>) -> Tended {
    let wanted = &subject.machine.spec.images;
    let (operation, waiter) = (format!("images/{}", subject.uid), format!("machine/{}", subject.name));
    let purpose = running.map_or_else(String::new, |id| format!("{id} {}", identity::hash(&wanted.join(" "))));
    shared.operations.cancel_unless(&operation, &purpose);
    if let Progress::Done { result, .. } = shared.operations.take(&operation, &waiter) {
        note(shared, subject, &result).await;
    }
    if wanted.is_empty() || facts.deleting {
        return Tended { verdict: None, again: None };
    }
    let verdict = |status, reason, message: String| Verdict { type_: IMAGES_LOADED, status, reason, message };
    let is_up = matches!(facts.inside, Inside::Up { .. } | Inside::NotAsked { bootstrapped: true });
    let Some(id) = running.filter(|_| is_up) else {
        let waits = verdict(Holds::Unknown, "NodeNotUp", "the node is not up yet".to_owned());
        return Tended { verdict: Some(waits), again: None };
    };
    if shared.memory.text(&subject.uid, PROOF).as_ref() == Some(&purpose) {
        return Tended { verdict: Some(verdict(Holds::True, "ImagesLoaded", String::new())), again: None };
    }
    let failure = shared.memory.text(&subject.uid, FAILURE);
    let mut again = None;
    if failure.is_some() {
        again = AGAIN.checked_sub(shared.memory.wished(&subject.uid, FAILURE).elapsed()).filter(|left| !left.is_zero());
    }
    if again.is_none() {
        shared.memory.unwish(&subject.uid, FAILURE);
        let (there, subject, id, proof) = (Arc::clone(shared), subject.clone(), id.clone(), purpose.clone());
        shared.operations.start(Load::Work, &operation, &purpose, &waiter, |handle| {
            async move {
                load(&subject, &id, &handle).await?;
                there.memory.keep_text(&subject.uid, PROOF, &proof);
                Ok(())
            }
            .boxed()
        });
    }
    let verdict = match failure {
        Some(message) => verdict(Holds::False, "ImagesNotLoaded", message),
        None => verdict(Holds::False, "LoadingImages", "images of the host are being loaded".to_owned()),
    };
    Tended { verdict: Some(verdict), again }
}

async fn note(shared: &Shared, subject: &Subject, result: &Result<(), Arc<EffectError>>) {
    match result {
        Ok(()) => shared.memory.drop_text(&subject.uid, FAILURE),
        Err(error) if matches!(**error, EffectError::Cancelled) => {}
        Err(error) => {
            let message = error.chain();
            let _ = shared.memory.wished(&subject.uid, FAILURE);
            if shared.memory.keep_text(&subject.uid, FAILURE, &message) {
                shared.events.tell(&*subject.machine, Tone::Warning, "ImagesNotLoaded", &message).await;
            }
        }
    }
}

/// Loads what the node does not have yet; all that can be, before the first failure is told.
async fn load(subject: &Subject, id: &ContainerId, handle: &Handle) -> Result<(), EffectError> {
    handle.at("LoadingImages");
    let runtime = &subject.host.runtime;
    let request = ExecRequest { command: commands::list_images(), stdin: None, timeout: ASK_WITHIN };
    let listed = with_retries(&handle.cancelled, || async { Ok(runtime.exec(id, &request).await?) }).await?;
    if listed.code != 0 {
        return Err(EffectError::Command {
            command: "ctr images".to_owned(),
            node: subject.name.clone(),
            code: listed.code,
            message: String::from_utf8_lossy(&listed.stderr).trim().to_owned(),
        });
    }
    let known = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut failed = None;
    for image in &subject.machine.spec.images {
        let full = image_name::full(image);
        if known.lines().any(|line| line.trim() == full) {
            continue;
        }
        let loaded = with_retries(&handle.cancelled, || async {
            let failed = runtime.load_images(std::slice::from_ref(id), std::slice::from_ref(image)).await?;
            failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
        })
        .await;
        match loaded {
            Ok(()) => {}
            Err(EffectError::Cancelled) => return Err(EffectError::Cancelled),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}
