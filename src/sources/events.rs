//! Notices to people, as Kubernetes events: one for each thing that happened, however often it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::manifest::hash;
use super::plan::Notice;
use crate::api::API_VERSION;
use crate::world::World;

/// The same notice within this time is not sent again.
const AGAIN: Duration = Duration::from_secs(60);
/// Most notices remembered; more at a time are sent again sooner.
const REMEMBERED_MAX: usize = 4096;
/// Longest text of an event, as in Kubernetes.
const MESSAGE_MAX: usize = 1024;
/// Who reports.
const COMPONENT: &str = "kina-source";

/// Sends notices and remembers which.
#[derive(Debug)]
pub(super) struct Events {
    events: Api<Event>,
    source: String,
    sent: BTreeMap<String, Duration>,
}

impl Events {
    pub(super) fn new(client: &Client, source: &str) -> Self {
        // Events of kinds that belong to no namespace are kept in `default`, as Kubernetes does.
        Self { events: Api::namespaced(client.clone(), "default"), source: source.to_owned(), sent: BTreeMap::new() }
    }

    /// Sends a notice. An event that cannot be written is lost: nothing depends on it, and status says the same.
    pub(super) async fn send(&mut self, world: &World, notice: &Notice, uid: Option<String>, uptime: Duration) {
        let (kind, name) = match &notice.cluster {
            Some(cluster) => ("Cluster", cluster.as_str()),
            None => ("Source", self.source.as_str()),
        };
        let mut digest = hash(format!("{kind} {} {}", notice.reason, notice.message).as_bytes());
        digest.truncate(16);
        let event_name = format!("{name}.{digest}");
        if self.sent.get(&event_name).is_some_and(|&at| uptime.saturating_sub(at) < AGAIN) {
            return;
        }
        if self.sent.len() >= REMEMBERED_MAX {
            self.sent.clear();
        }
        self.sent.insert(event_name.clone(), uptime);
        let now = Time(crate::api::conditions::whole_seconds(world.clock.now()));
        let involved_object = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            uid,
            ..ObjectReference::default()
        };
        let event = Event {
            metadata: ObjectMeta { name: Some(event_name.clone()), ..ObjectMeta::default() },
            involved_object,
            reason: Some(notice.reason.to_owned()),
            message: Some(notice.message.chars().take(MESSAGE_MAX).collect()),
            type_: Some(if notice.is_warning { "Warning" } else { "Normal" }.to_owned()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now.clone()),
            source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
            reporting_component: Some(COMPONENT.to_owned()),
            ..Event::default()
        };
        let sent = match self.events.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.code == 409 => self.count(&event_name, &now).await,
            result => result.map(drop),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, reason = notice.reason, "an event could not be written");
        }
    }

    /// The same happened before: the event that is there counts it.
    async fn count(&self, name: &str, now: &Time) -> kube::Result<()> {
        let count = self.events.get(name).await?.count.unwrap_or(1).saturating_add(1);
        let patch = serde_json::json!({ "count": count, "lastTimestamp": now });
        self.events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}
