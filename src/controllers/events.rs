//! Events: what happened, for people. The same thing is told once, not a thousand times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use tokio::time::Instant;

use crate::world::{World, uuid};

/// As long as this the same event of the same object is not told again.
const QUIET_FOR: Duration = Duration::from_secs(600);
/// Events remembered for that: some tens a minute of trouble on a large host. Beyond, the oldest are forgotten first.
const REMEMBERED_MAX: usize = 4_096;
/// Longest note (events.k8s.io/v1: "maximal length of the note is 1kB").
const NOTE_MAX: usize = 1_000;

/// When an event was told last: by UID, reason and note.
type Told = BTreeMap<(String, &'static str, String), Instant>;

/// Tells events of Kina's objects.
#[derive(Clone)]
pub struct Events {
    api: Api<Event>,
    world: World,
    told: Arc<Mutex<Told>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is.
    Normal,
    /// It is not.
    Warning,
}

impl Events {
    /// Told through this client. Events of cluster-scoped objects live in the namespace `default`.
    #[must_use]
    pub fn new(client: kube::Client, world: World) -> Self {
        Self { api: Api::namespaced(client, "default"), world, told: Arc::default() }
    }

    /// Tells one event. That it could not be told is no reason to stop.
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, of: &K, tone: Tone, reason: &'static str, note: &str) {
        let reference = of.object_ref(&());
        let uid = reference.uid.clone().unwrap_or_default();
        if !self.is_new((uid, reason, note.to_owned())) {
            return;
        }
        let event = self.event(of.name_any(), reference, tone, reason, note);
        if let Err(error) = self.api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, reason, "an event could not be told");
        }
    }

    fn is_new(&self, key: (String, &'static str, String)) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.get(&key).is_some_and(|when| now.duration_since(*when) < QUIET_FOR) {
            return false;
        }
        if told.len() >= REMEMBERED_MAX {
            told.retain(|_, when| now.duration_since(*when) < QUIET_FOR);
            if told.len() >= REMEMBERED_MAX {
                told.pop_first();
            }
        }
        told.insert(key, now);
        true
    }

    fn event(&self, name: String, of: ObjectReference, tone: Tone, reason: &str, note: &str) -> Event {
        let type_ = match tone {
            Tone::Normal => "Normal",
            Tone::Warning => "Warning",
        };
        let unique = uuid(&*self.world.random);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{}", &unique[..8])),
                namespace: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(self.world.clock.now())),
            action: Some("Reconciling".to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(note.chars().take(NOTE_MAX).collect()),
            type_: Some(type_.to_owned()),
            regarding: Some(of),
            reporting_controller: Some("kina.dev/controllers".to_owned()),
            reporting_instance: Some("kina".to_owned()),
            ..Event::default()
        }
    }
}
