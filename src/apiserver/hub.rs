//! The watch hub: committed events, kept for a while in a bounded ring for each tenant and resource.
//!
//! Writers append and wake, and never wait for a watcher. A watcher holds nothing but its position; where that falls
//! below the floor of the ring, it is told so (410) and lists again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::wake::Wake;

/// What a commit did to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One object changed by one commit. The bytes are shared with whoever reads them.
#[derive(Debug)]
pub(crate) struct Event {
    pub revision: u64,
    pub change: Change,
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// The object after the change; for a deletion the last object, with the revision of its deletion.
    pub object: Bytes,
    /// The object before the change.
    pub previous: Option<Bytes>,
    /// The revision of the change before, where there was one.
    pub previous_revision: Option<u64>,
    /// Whether `previous` is held by an older event as well.
    pub shares_previous: bool,
}

impl Event {
    /// Memory that the ring accounts to the event. What it shares with an older event is counted there; 160 bytes stand for
    /// the struct and its names.
    fn cost(&self) -> usize {
        let previous = self.previous.as_ref().filter(|_| !self.shares_previous);
        self.object.len() + previous.map_or(0, Bytes::len) + 160
    }
}

/// Limits of the history that watches resume from.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Events kept for one resource of one tenant. At least 1.
    pub events: usize,
    /// Bytes of objects kept over all resources and tenants.
    pub bytes: usize,
}

impl Default for History {
    /// 4096 events a resource (some ten minutes of a busy cluster), 32 MiB in all (16 000 Pods of 2 KB).
    fn default() -> Self {
        Self { events: 4096, bytes: 32 * 1024 * 1024 }
    }
}

/// The events of one resource of one tenant.
#[derive(Debug)]
pub(crate) struct Topic {
    ring: Mutex<Ring>,
    /// Tells of events to come.
    pub wake: Wake,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// Events up to this revision are no longer (or never were) here.
    floor: u64,
}

impl Ring {
    /// The object that an earlier event made of what `event` is about.
    fn object(&self, revision: u64, event: &Event) -> Option<Bytes> {
        let from = self.events.partition_point(|earlier| earlier.revision < revision);
        let mut at = self.events.iter().skip(from).take_while(|earlier| earlier.revision == revision);
        let earlier = at.find(|earlier| earlier.name == event.name && earlier.namespace == event.namespace)?;
        (earlier.change != Change::Deleted).then(|| earlier.object.clone())
    }
}

/// The history a watcher asked for is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub floor: u64,
}

impl Topic {
    fn new(floor: u64) -> Self {
        Self { ring: Mutex::new(Ring { events: VecDeque::new(), floor }), wake: Wake::default() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to `limit` events after a revision, in order.
    pub fn after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<Event>>, Expired> {
        let ring = self.ring();
        if revision < ring.floor {
            return Err(Expired { floor: ring.floor });
        }
        let start = ring.events.partition_point(|event| event.revision <= revision);
        Ok(ring.events.iter().skip(start).take(limit).cloned().collect())
    }
}

/// Tenant and stored resource.
pub(crate) type TopicKey = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Topics {
    by_key: BTreeMap<TopicKey, Arc<Topic>>,
    /// Topics in the order of their events, to find the oldest event of all when memory runs short.
    order: VecDeque<(Arc<Topic>, u64)>,
    bytes: usize,
    /// The revision the server started at: what happened before is not known here.
    started: u64,
}

impl Topics {
    fn topic(&mut self, key: TopicKey) -> Arc<Topic> {
        let started = self.started;
        Arc::clone(self.by_key.entry(key).or_insert_with(|| Arc::new(Topic::new(started))))
    }
}

/// All topics. One that was never written or watched costs nothing.
#[derive(Debug)]
pub(crate) struct Hub {
    limits: History,
    topics: Mutex<Topics>,
    /// Everything up to this revision has been appended.
    published: watch::Sender<u64>,
}

impl Hub {
    pub fn new(limits: History, revision: u64) -> Self {
        let topics = Topics { by_key: BTreeMap::new(), order: VecDeque::new(), bytes: 0, started: revision };
        Self { limits, topics: Mutex::new(topics), published: watch::channel(revision).0 }
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn topic(&self, tenant: &str, resource: &str) -> Arc<Topic> {
        let key = (Arc::from(tenant), Arc::from(resource));
        self.topics().topic(key)
    }

    /// The revision up to which every event can be seen here.
    pub fn published(&self) -> u64 {
        *self.published.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Appends the events of a commit and wakes the watchers of their topics, then lets `revision` be seen.
    pub fn publish(&self, events: Vec<(TopicKey, Event)>, revision: u64) {
        let mut touched: Vec<Arc<Topic>> = Vec::new();
        {
            let mut topics = self.topics();
            for (key, event) in events {
                let topic = topics.topic(key);
                self.append(&mut topics, &topic, event);
                touched.push(topic);
            }
            while topics.bytes > self.limits.bytes {
                let Some((topic, revision)) = topics.order.pop_front() else { break };
                topics.bytes = topics.bytes.saturating_sub(evict(&topic, revision));
            }
        }
        for topic in touched {
            topic.wake.tell();
        }
        self.published.send_replace(revision);
    }

    fn append(&self, topics: &mut Topics, topic: &Arc<Topic>, mut event: Event) {
        let mut ring = topic.ring();
        if let Some(before) = event.previous_revision.and_then(|revision| ring.object(revision, &event)) {
            (event.previous, event.shares_previous) = (Some(before), true);
        }
        topics.bytes += event.cost();
        topics.order.push_back((Arc::clone(topic), event.revision));
        ring.events.push_back(Arc::new(event));
        while ring.events.len() > self.limits.events.max(1) {
            if let Some(old) = ring.events.pop_front() {
                ring.floor = old.revision;
                topics.bytes = topics.bytes.saturating_sub(old.cost());
            }
        }
        drop(ring);
        // Entries of events that a full ring let go stay in `order`; they are skipped when their turn comes, and their
        // number is bounded by compacting once they are the larger part.
        if topics.order.len() > 1024 && topics.order.len() > 2 * (topics.bytes / 160) {
            topics.order.retain(|(topic, revision)| topic.ring().floor < *revision);
        }
    }

    /// Forgets all history up to a revision, where events are missing from it: every watcher behind has to list again.
    pub fn reset(&self, revision: u64) {
        let mut topics = self.topics();
        for topic in topics.by_key.values() {
            let mut ring = topic.ring();
            ring.events.clear();
            ring.floor = ring.floor.max(revision);
            drop(ring);
            topic.wake.tell();
        }
        topics.order.clear();
        topics.bytes = 0;
        topics.started = revision;
        drop(topics);
        self.published.send_replace(revision);
    }

    /// Forgets everything of a tenant, as of a revision. Its watchers find their history gone, and so do those that
    /// come back later with an older position: topics made from now on begin here.
    pub fn drop_tenant(&self, tenant: &str, revision: u64) {
        let mut topics = self.topics();
        topics.started = revision;
        topics.by_key.retain(|(owner, _), topic| {
            if &**owner != tenant {
                return true;
            }
            let mut ring = topic.ring();
            ring.events.clear();
            ring.floor = u64::MAX;
            drop(ring);
            topic.wake.tell();
            false
        });
        topics.order.retain(|(topic, _)| topic.ring().floor != u64::MAX);
        topics.bytes = topics.by_key.values().map(|t| t.ring().events.iter().map(|e| e.cost()).sum::<usize>()).sum();
        drop(topics);
        self.published.send_replace(revision);
    }
}

/// Lets go of the event of this revision if it is still the oldest; returns the memory it was accounted.
fn evict(topic: &Topic, revision: u64) -> usize {
    let mut ring = topic.ring();
    if ring.events.front().is_none_or(|event| event.revision != revision) {
        return 0;
    }
    ring.floor = revision;
    let cost = ring.events.pop_front().map_or(0, |event| event.cost());
    if ring.events.is_empty() {
        ring.events.shrink_to_fit();
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, size: usize) -> Event {
        Event {
            revision,
            change: Change::Added,
            namespace: "".into(),
            name: "a".into(),
            object: Bytes::from(vec![b'x'; size]),
            previous: None,
            previous_revision: None,
            shares_previous: false,
        }
    }

    fn key(resource: &str) -> TopicKey {
        (Arc::from("t"), Arc::from(resource))
    }

    #[test]
    fn a_position_below_the_floor_is_expired() {
        let hub = Hub::new(History { events: 2, bytes: usize::MAX }, 1);
        for revision in 2..=5 {
            hub.publish(vec![(key("a"), event(revision, 1))], revision);
        }
        let topic = hub.topic("t", "a");
        assert_eq!(topic.after(2, 10).unwrap_err(), Expired { floor: 3 });
        assert_eq!(topic.after(3, 10).unwrap().iter().map(|e| e.revision).collect::<Vec<_>>(), [4, 5]);
        assert!(hub.topic("t", "b").after(1, 10).unwrap().is_empty());
        assert!(hub.topic("t", "b").after(0, 10).is_err());
    }

    #[test]
    fn memory_over_all_topics_is_bounded_and_the_oldest_event_goes_first() {
        let hub = Hub::new(History { events: 100, bytes: 3 * 1160 }, 1);
        for revision in 2..=9 {
            let resource = if revision % 2 == 0 { "even" } else { "odd" };
            hub.publish(vec![(key(resource), event(revision, 1000))], revision);
        }
        let even = hub.topic("t", "even");
        assert_eq!(even.after(6, 9).unwrap().len(), 1);
        assert!(even.after(5, 9).is_err());
        assert_eq!(hub.topic("t", "odd").after(5, 9).unwrap().len(), 2);
    }

    #[test]
    fn what_an_object_was_is_held_once() {
        let hub = Hub::new(History { events: 100, bytes: usize::MAX }, 1);
        hub.publish(vec![(key("a"), event(2, 1000))], 2);
        let after = Event { previous: Some(vec![b'x'; 1000].into()), previous_revision: Some(2), ..event(3, 1000) };
        hub.publish(vec![(key("a"), after)], 3);
        let events = hub.topic("t", "a").after(1, 9).unwrap();
        let previous = events[1].previous.as_ref().unwrap();
        assert_eq!((previous.as_ptr(), hub.topics().bytes), (events[0].object.as_ptr(), 2 * 1160));
        // Of another object, and of none that is known.
        let other = Event { previous: Some(vec![b'y'; 10].into()), previous_revision: Some(3), ..event(4, 1000) };
        let unknown = Event { previous: Some(vec![b'y'; 10].into()), previous_revision: Some(1), ..event(5, 1000) };
        hub.publish(vec![(key("a"), Event { name: "b".into(), ..other }), (key("a"), unknown)], 5);
        assert_eq!(hub.topics().bytes, 2 * 1160 + 2 * 1170);
    }

    #[test]
    fn the_order_of_events_does_not_grow_where_rings_let_go() {
        let hub = Hub::new(History { events: 1, bytes: usize::MAX }, 1);
        for revision in 2..20_000 {
            hub.publish(vec![(key("a"), event(revision, 1))], revision);
        }
        assert!(hub.topics().order.len() <= 1026);
    }

    #[test]
    fn a_dropped_tenant_leaves_nothing_and_ends_its_watchers() {
        let hub = Hub::new(History::default(), 1);
        hub.publish(vec![(key("a"), event(2, 1))], 2);
        let topic = hub.topic("t", "a");
        hub.drop_tenant("t", 3);
        assert!(topic.after(2, 1).is_err());
        assert!(hub.topic("t", "a").after(2, 1).is_err());
        assert!(hub.topic("t", "a").after(3, 1).is_ok());
        assert_eq!(hub.topics().bytes, 0);
        assert!(hub.topics().order.is_empty());
    }
}
