//! What is known of Kina's own objects: the caches that watches fill, with our own writes visible at once.
//!
//! A pass that acts on a cache older than its last write repeats itself, or grants one turn twice (kube KEP-5647, "stale
//! controller handling"). So every object that a write returns is kept here until the watch has caught up with it.
//! Resource versions are comparable numbers (KEP-5504).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use tokio::sync::SetOnce;

use crate::api::{Cluster, Machine};

/// One kind.
pub struct View<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store: Store<K>,
    ahead: Arc<Mutex<Ahead<K>>>,
    /// Whether a first list is complete. The store has a signal of its own, which wakes only the last of several that
    /// wait for it (kube-runtime 5.0, `DelayedInit` polls one oneshot channel for all), so a pass could wait for ever.
    listed: Arc<SetOnce<()>>,
}

struct Ahead<K> {
    /// Written by us and not seen by the watch yet.
    written: BTreeMap<String, Arc<K>>,
    /// UIDs of what is gone, by name, though the watch has not shown it yet. What is gone never comes back under its UID.
    gone: BTreeMap<String, String>,
    /// Names in the store, by group.
    groups: BTreeMap<String, BTreeSet<String>>,
    /// The same while a list is under way.
    listing: Option<BTreeMap<String, BTreeSet<String>>>,
}

impl<K> Clone for View<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), ahead: Arc::clone(&self.ahead), listed: Arc::clone(&self.listed) }
    }
}

impl<K> fmt::Debug for View<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// What a kind is looked up by, besides its name.
pub trait Grouped {
    /// The group of an object: for Machines their Cluster.
    fn group(&self) -> String;
}

impl Grouped for Machine {
    fn group(&self) -> String {
        self.spec.cluster.clone()
    }
}

impl Grouped for Cluster {
    fn group(&self) -> String {
        String::new()
    }
}

impl<K> View<K>
where
    K: kube::Resource<DynamicType = ()> + Grouped + Clone + fmt::Debug + 'static,
{
    /// A view over a store.
    #[must_use]
    pub fn new(store: Store<K>) -> Self {
        let ahead = Ahead { written: BTreeMap::new(), gone: BTreeMap::new(), groups: BTreeMap::new(), listing: None };
        Self { store, ahead: Arc::new(Mutex::new(ahead)), listed: Arc::new(SetOnce::new()) }
    }

    /// Waits for the first complete list.
    pub async fn ready(&self) {
        self.listed.wait().await;
    }

    /// The newest known state of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        let stored = self.store.get(&ObjectRef::new(name));
        let ahead = self.lock();
        let is_there =
            |object: &Arc<K>| ahead.gone.get(name).is_none_or(|gone| object.meta().uid.as_ref() != Some(gone));
        match (stored.filter(is_there), ahead.written.get(name).filter(|written| is_there(written))) {
            (Some(stored), Some(written)) if version(&*stored) >= version(&**written) => Some(stored),
            (_, Some(written)) => Some(Arc::clone(written)),
            (stored, None) => stored,
        }
    }

    /// How many there are, without what the watch has not shown yet.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// All objects of a group, in order of name.
    #[must_use]
    pub fn of(&self, group: &str) -> Vec<Arc<K>> {
        let names: BTreeSet<String> = {
            let ahead = self.lock();
            let written =
                ahead.written.iter().filter(|(_, object)| object.group() == group).map(|(name, _)| name.clone());
            ahead.groups.get(group).into_iter().flatten().cloned().chain(written).collect()
        };
        names.iter().filter_map(|name| self.get(name)).collect()
    }

    /// Notes what a write returned.
    pub fn wrote(&self, object: K) {
        let name = object.name_any();
        let mut ahead = self.lock();
        let stored = self.store.get(&ObjectRef::new(&name));
        if stored.is_some_and(|stored| version(&*stored) >= version(&object)) {
            return;
        }
        ahead.written.insert(name, Arc::new(object));
    }

    /// Notes what a write has left of an object: as it is now, or nothing.
    pub fn left(&self, object: &K, left: Option<K>) {
        match left {
            Some(left) => self.wrote(left),
            None => self.gone(object),
        }
    }

    /// Notes that an object is gone.
    fn gone(&self, object: &K) {
        let Some(uid) = object.meta().uid.clone() else { return };
        let name = object.name_any();
        let mut ahead = self.lock();
        let is_stored =
            self.store.get(&ObjectRef::new(&name)).is_some_and(|stored| stored.meta().uid.as_ref() == Some(&uid));
        // Where the watch has shown it already nothing would forget it again.
        if is_stored || ahead.written.get(&name).is_some_and(|written| written.meta().uid.as_ref() == Some(&uid)) {
            ahead.gone.insert(name, uid);
        }
    }

    /// Notes what the watch says. To be called after the store has it.
    pub fn saw(&self, event: &Event<K>) {
        let mut ahead = self.lock();
        match event {
            Event::Apply(object) => {
                let name = object.name_any();
                ahead.caught_up(&name, version(object));
                ahead.groups.entry(object.group()).or_default().insert(name);
            }
            Event::Delete(object) => {
                let name = object.name_any();
                ahead.caught_up(&name, version(object));
                if ahead.gone.get(&name).is_some_and(|gone| object.meta().uid.as_ref() == Some(gone)) {
                    ahead.gone.remove(&name);
                }
                let group = object.group();
                if let Some(names) = ahead.groups.get_mut(&group) {
                    names.remove(&name);
                    if names.is_empty() {
                        ahead.groups.remove(&group);
                    }
                }
            }
            Event::Init => ahead.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let name = object.name_any();
                ahead.caught_up(&name, version(object));
                if let Some(listing) = &mut ahead.listing {
                    listing.entry(object.group()).or_default().insert(name);
                }
            }
            Event::InitDone => {
                ahead.groups = ahead.listing.take().unwrap_or_default();
                // A list shows everything that was written before it, but for what came while it was under way; that is
                // read again by its own event.
                ahead.written.clear();
                // A list that was made before something went still has it.
                let Ahead { gone, groups, .. } = &mut *ahead;
                gone.retain(|name, _| groups.values().any(|names| names.contains(name)));
                // Later lists find it set.
                let _ = self.listed.set(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ahead<K>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: kube::Resource<DynamicType = ()>> Ahead<K> {
    fn caught_up(&mut self, name: &str, seen: u64) {
        if self.written.get(name).is_some_and(|written| version(&**written) <= seen) {
            self.written.remove(name);
        }
    }
}

fn version<K: kube::Resource<DynamicType = ()>>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;

    use super::*;

    fn cluster(name: &str, version: u64) -> Cluster {
        let mut cluster = Cluster::new(name, Default::default());
        cluster.metadata.resource_version = Some(version.to_string());
        cluster
    }

    #[tokio::test]
    async fn everyone_who_waits_for_the_first_list_is_woken() {
        let (reader, mut writer) = store::<Cluster>();
        let view = View::new(reader);
        let waiting = [view.clone(), view.clone()].map(|view| tokio::spawn(async move { view.ready().await }));
        tokio::task::yield_now().await;
        for event in [Event::Init, Event::InitDone] {
            writer.apply_watcher_event(&event);
            view.saw(&event);
        }
        for waits in waiting {
            tokio::time::timeout(std::time::Duration::from_secs(5), waits).await.unwrap().unwrap();
        }
    }

    #[test]
    fn what_is_gone_is_not_seen_again_however_late_the_watch_is() {
        let (reader, mut writer) = store::<Cluster>();
        let view = View::new(reader);
        let mut see = |event: Event<Cluster>| {
            writer.apply_watcher_event(&event);
            view.saw(&event);
        };
        let of = |uid: &str, version: u64| {
            let mut cluster = cluster("a", version);
            cluster.metadata.uid = Some(uid.to_owned());
            cluster
        };
        for event in [Event::Init, Event::InitApply(of("first", 5)), Event::InitDone] {
            see(event);
        }
        view.gone(&of("first", 5));
        assert!(view.get("a").is_none() && view.of("").is_empty());
        // Late news, and a list from before.
        see(Event::Apply(of("first", 6)));
        for event in [Event::Init, Event::InitApply(of("first", 6)), Event::InitDone] {
            see(event);
        }
        assert!(view.get("a").is_none() && view.of("").is_empty());
        // Another of its name.
        see(Event::Delete(of("first", 7)));
        see(Event::Apply(of("second", 8)));
        assert_eq!(view.get("a").and_then(|cluster| cluster.metadata.uid.clone()).as_deref(), Some("second"));
        view.gone(&of("first", 7));
        assert!(view.lock().gone.is_empty(), "nothing is kept of what the watch has shown");
    }

    #[test]
    fn own_writes_are_visible_until_the_watch_has_caught_up() {
        let (reader, mut writer) = store::<Cluster>();
        let view = View::new(reader);
        let mut see = |event: Event<Cluster>| {
            writer.apply_watcher_event(&event);
            view.saw(&event);
        };
        let seen = |name: &str| view.get(name).and_then(|cluster| cluster.metadata.resource_version.clone());
        see(Event::Init);
        see(Event::InitApply(cluster("a", 5)));
        see(Event::InitDone);
        view.wrote(cluster("a", 9));
        view.wrote(cluster("b", 10));
        assert_eq!(seen("a").as_deref(), Some("9"));
        assert_eq!(view.of("").len(), 2);
        see(Event::Apply(cluster("a", 7)));
        assert_eq!(seen("a").as_deref(), Some("9"));
        see(Event::Apply(cluster("a", 12)));
        assert_eq!(seen("a").as_deref(), Some("12"));
        see(Event::Apply(cluster("b", 10)));
        see(Event::Delete(cluster("b", 11)));
        assert_eq!(seen("b"), None);
        assert_eq!(view.of("").len(), 1);
    }
}
