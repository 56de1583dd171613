//! The one model behind every picture: what the watch streams have told so far.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::runtime::watcher;

use crate::api::{Cluster, Machine, Source};

/// Events kept: what happened lately, and no more. 100 × ~1 KB.
const EVENTS_MAX: usize = 100;

/// News from one of the watch streams.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "each is taken apart where it arrives; none is kept")]
pub enum Update {
    /// Of Clusters.
    Cluster(watcher::Event<Cluster>),
    /// Of Machines.
    Machine(watcher::Event<Machine>),
    /// Of Sources.
    Source(watcher::Event<Source>),
    /// Of Events.
    Event(watcher::Event<Event>),
}

/// Everything that was seen, by name.
#[derive(Clone, Debug, Default)]
pub struct View {
    clusters: Seen<Cluster>,
    machines: Seen<Machine>,
    sources: Seen<Source>,
    events: Seen<Event>,
}

/// Something that happened, as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When it happened last.
    pub at: Timestamp,
    /// Whether it is a warning.
    pub is_warning: bool,
    /// `Kind/name`.
    pub object: String,
    /// One word in CamelCase.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// How often.
    pub count: i32,
}

impl View {
    /// A picture of what is now.
    #[must_use]
    pub fn of(clusters: Vec<Cluster>, machines: Vec<Machine>, sources: Vec<Source>, events: Vec<Event>) -> Self {
        let mut view = Self {
            clusters: Seen::of(clusters),
            machines: Seen::of(machines),
            sources: Seen::of(sources),
            events: Seen::of(events),
        };
        view.forget_old_events();
        view
    }

    /// Takes news in. True if anything can look different now.
    pub fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Cluster(event) => self.clusters.apply(event),
            Update::Machine(event) => self.machines.apply(event),
            Update::Source(event) => self.sources.apply(event),
            Update::Event(event) => {
                let changed = self.events.apply(event);
                self.forget_old_events();
                changed
            }
        }
    }

    /// Whether every stream has told everything that was there at its start.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.clusters.complete && self.machines.complete && self.sources.complete && self.events.complete
    }

    /// All Clusters in order of name.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.objects.values()
    }

    /// One Cluster.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.objects.get(name)
    }

    /// All Machines in order of name.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.objects.values()
    }

    /// The Machines of a Cluster: control planes first, then by pool and slot.
    #[must_use]
    pub fn machines_of(&self, cluster: &str) -> Vec<&Machine> {
        // Their names begin with the Cluster's, and so do those of some others.
        let beginning = format!("{cluster}-");
        let named = self.machines.objects.range(beginning.clone()..);
        let named = named.take_while(|(name, _)| name.starts_with(&beginning)).map(|(_, machine)| machine);
        let mut machines: Vec<&Machine> = named.filter(|machine| machine.spec.cluster == cluster).collect();
        machines.sort_by_key(|machine| (machine.spec.role, machine.spec.pool.as_str(), machine.spec.ordinal));
        machines
    }

    /// All Sources in order of name.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.objects.values()
    }

    /// What happened lately, newest first.
    #[must_use]
    pub fn happenings(&self) -> Vec<Happening> {
        let mut happenings: Vec<Happening> = self.events.objects.values().filter_map(Happening::of).collect();
        happenings.sort_by(|left, right| right.at.cmp(&left.at).then_with(|| left.object.cmp(&right.object)));
        happenings
    }

    fn forget_old_events(&mut self) {
        if self.events.objects.len() <= EVENTS_MAX {
            return;
        }
        let mut times: Vec<Timestamp> =
            self.events.objects.values().filter_map(Happening::of).map(|event| event.at).collect();
        times.sort_unstable_by(|left, right| right.cmp(left));
        if let Some(oldest) = times.get(EVENTS_MAX - 1).copied() {
            self.events.objects.retain(|_, event| Happening::of(event).is_some_and(|event| event.at >= oldest));
        }
    }
}

impl Happening {
    /// Reads an Event; `None` for one without any time.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let series = event.series.as_ref();
        let at = series
            .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
            .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
            .or_else(|| event.event_time.as_ref().map(|time| time.0))
            .or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
            .or_else(|| event.creation_timestamp().map(|time| time.0))?;
        let object = &event.involved_object;
        Some(Self {
            at,
            is_warning: event.type_.as_deref() == Some("Warning"),
            object: format!(
                "{}/{}",
                object.kind.as_deref().unwrap_or("Object"),
                object.name.as_deref().unwrap_or_default()
            ),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
        })
    }
}

/// The objects of one kind, as one watch stream tells them.
#[derive(Clone, Debug)]
struct Seen<K> {
    objects: BTreeMap<String, K>,
    /// Objects of a list that is still being told; the old ones count until it is whole.
    coming: Option<BTreeMap<String, K>>,
    complete: bool,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), coming: None, complete: false }
    }
}

impl<K: ResourceExt> Seen<K> {
    fn of(objects: Vec<K>) -> Self {
        let objects = objects.into_iter().map(|object| (object.name_any(), object)).collect();
        Self { objects, coming: None, complete: true }
    }

    fn apply(&mut self, event: watcher::Event<K>) -> bool {
        match event {
            watcher::Event::Init => {
                self.coming = Some(BTreeMap::new());
                false
            }
            watcher::Event::InitApply(object) => {
                self.coming.get_or_insert_default().insert(object.name_any(), object);
                false
            }
            watcher::Event::InitDone => {
                self.objects = self.coming.take().unwrap_or_default();
                self.complete = true;
                true
            }
            watcher::Event::Apply(object) => {
                let version = object.resource_version();
                let before = self.objects.insert(object.name_any(), object);
                before.is_none_or(|before| before.resource_version() != version)
            }
            watcher::Event::Delete(object) => self.objects.remove(&object.name_any()).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> Cluster {
        Cluster::new(name, Default::default())
    }

    #[test]
    fn a_list_that_is_told_again_replaces_what_was_known_only_when_it_is_whole() {
        let mut view = View::default();
        let mut tell = |event| view.apply(Update::Cluster(event));
        assert!(!tell(watcher::Event::Init));
        assert!(!tell(watcher::Event::InitApply(cluster("a"))));
        assert!(tell(watcher::Event::InitDone));
        assert!(!tell(watcher::Event::Init));
        assert!(!tell(watcher::Event::InitApply(cluster("b"))));
        assert!(view.cluster("a").is_some());
        assert!(view.apply(Update::Cluster(watcher::Event::InitDone)));
        assert!(view.cluster("a").is_none() && view.cluster("b").is_some());
        assert!(!view.is_complete(), "the other streams have told nothing yet");
    }

    #[test]
    fn old_events_are_forgotten() {
        let event = |n: i64| Event {
            metadata: kube::api::ObjectMeta { name: Some(format!("e{n}")), ..Default::default() },
            last_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                Timestamp::from_second(n).unwrap(),
            )),
            ..Event::default()
        };
        let mut view = View::of(vec![], vec![], vec![], (0..150).map(event).collect());
        assert_eq!(view.happenings().len(), EVENTS_MAX);
        view.apply(Update::Event(watcher::Event::Apply(event(1000))));
        let happenings = view.happenings();
        assert_eq!(happenings.len(), EVENTS_MAX);
        assert_eq!(happenings[0].at.as_second(), 1000);
    }
}
