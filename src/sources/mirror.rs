//! What the API holds, kept up to date by watching it: Clusters as far as sources need them, and Sources.
//!
//! It may lag behind. Applying by it is harmless; before anything is deleted the object itself is read.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client};
use tokio::sync::watch;

use super::plan::Live;
use crate::api::{Cluster, Source, annotations};

/// Clusters and Sources as they were last seen.
#[derive(Debug)]
pub(super) struct Mirror {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<String, (u64, Arc<Live>)>,
    sources: BTreeMap<String, (u64, Arc<Source>)>,
    clusters_listed: bool,
    sources_listed: bool,
    /// Names seen in a list that is still coming in.
    listing_clusters: BTreeSet<String>,
    listing_sources: BTreeSet<String>,
    /// The newest deletion that was seen: an answer to a write before it may be of an object that is gone.
    deleted: u64,
}

impl Mirror {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Follows the API for as long as it is polled.
    pub(super) fn follow(&self, client: &Client) -> impl Future<Output = ()> + use<'_> {
        let mut clusters = objects::<Cluster>(client).boxed();
        let mut sources = objects::<Source>(client).boxed();
        async move {
            loop {
                tokio::select! {
                    biased;
                    Some(event) = sources.next() => self.sources_event(event),
                    Some(event) = clusters.next() => self.clusters_event(event),
                    else => return,
                }
            }
        }
    }

    /// Changes its value whenever something that matters to sources has changed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn wake(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until everything has been listed once.
    pub(super) async fn listed(&self) {
        let mut changes = self.changes();
        loop {
            {
                let state = self.lock();
                if state.clusters_listed && state.sources_listed {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn clusters(&self) -> BTreeMap<String, Arc<Live>> {
        self.lock().clusters.iter().map(|(name, (_, live))| (name.clone(), Arc::clone(live))).collect()
    }

    /// UID and version of a Cluster.
    pub(super) fn identity(&self, name: &str) -> Option<(String, u64)> {
        self.lock().clusters.get(name).map(|(version, live)| (live.uid.clone(), *version))
    }

    pub(super) fn sources(&self) -> Vec<String> {
        self.lock().sources.keys().cloned().collect()
    }

    pub(super) fn source(&self, name: &str) -> Option<Arc<Source>> {
        self.lock().sources.get(name).map(|(_, source)| Arc::clone(source))
    }

    /// Takes over what a write answered, so that the next plan does not wait for the watch.
    pub(super) fn answered(&self, cluster: &Cluster) {
        let is_gone = version(&cluster.metadata) < self.lock().deleted;
        if !is_gone {
            self.put_cluster(cluster);
        }
    }

    /// A Cluster turned out to be gone: it is not deleted, and told of, again until the watch shows so.
    pub(super) fn gone(&self, name: &str, uid: &str) {
        let mut state = self.lock();
        if state.clusters.get(name).is_some_and(|(_, live)| live.uid == uid) {
            state.clusters.remove(name);
        }
    }

    fn put_cluster(&self, cluster: &Cluster) {
        let (Some(name), version) = (cluster.metadata.name.clone(), version(&cluster.metadata)) else { return };
        let live = Live::of(cluster);
        let mut state = self.lock();
        let known = state.clusters.get(&name);
        if known.is_some_and(|(known, _)| *known >= version) {
            return;
        }
        // The same object as long as nothing that matters has changed: what was found out about it holds.
        let same = known.map(|(_, known)| Arc::clone(known)).filter(|known| **known == live);
        let is_news = same.is_none();
        state.clusters.insert(name, (version, same.unwrap_or_else(|| Arc::new(live))));
        drop(state);
        if is_news {
            self.wake();
        }
    }

    /// As [`Self::put_cluster`]. Of a Source only what people ask for is news: its status is written here.
    pub(super) fn put_source(&self, source: Source) {
        let (Some(name), version) = (source.metadata.name.clone(), version(&source.metadata)) else { return };
        let mut state = self.lock();
        let known = state.sources.get(&name);
        if known.is_some_and(|(known, _)| *known >= version) {
            return;
        }
        let approval = |source: &Source| source.metadata.annotations.as_ref()?.get(annotations::APPROVE).cloned();
        let is_news = known.is_none_or(|(_, known)| approval(known) != approval(&source) || known.spec != source.spec);
        state.sources.insert(name, (version, Arc::new(source)));
        drop(state);
        if is_news {
            self.wake();
        }
    }

    fn clusters_event(&self, event: watcher::Result<Event<Cluster>>) {
        match event {
            Ok(Event::Apply(cluster)) => self.put_cluster(&cluster),
            Ok(Event::InitApply(cluster)) => {
                self.lock().listing_clusters.extend(cluster.metadata.name.clone());
                self.put_cluster(&cluster);
            }
            Ok(Event::Delete(cluster)) => {
                let name = cluster.metadata.name.clone().unwrap_or_default();
                let version = version(&cluster.metadata);
                let mut state = self.lock();
                remove(&mut state.clusters, &name, version);
                state.deleted = state.deleted.max(version);
                drop(state);
                self.wake();
            }
            Ok(Event::Init) => self.lock().listing_clusters.clear(),
            Ok(Event::InitDone) => {
                let mut state = self.lock();
                let listed = std::mem::take(&mut state.listing_clusters);
                state.clusters.retain(|name, _| listed.contains(name));
                state.clusters_listed = true;
                drop(state);
                self.wake();
            }
            Err(error) => tracing::debug!(%error, "the watch of clusters broke and is taken up again"),
        }
    }

    fn sources_event(&self, event: watcher::Result<Event<Source>>) {
        match event {
            Ok(Event::Apply(source)) => self.put_source(source),
            Ok(Event::InitApply(source)) => {
                self.lock().listing_sources.extend(source.metadata.name.clone());
                self.put_source(source);
            }
            Ok(Event::Delete(source)) => {
                let name = source.metadata.name.clone().unwrap_or_default();
                remove(&mut self.lock().sources, &name, version(&source.metadata));
                self.wake();
            }
            Ok(Event::Init) => self.lock().listing_sources.clear(),
            Ok(Event::InitDone) => {
                let mut state = self.lock();
                let listed = std::mem::take(&mut state.listing_sources);
                state.sources.retain(|name, _| listed.contains(name));
                state.sources_listed = true;
                drop(state);
                self.wake();
            }
            Err(error) => tracing::debug!(%error, "the watch of sources broke and is taken up again"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A deletion that is older than what is known is of an object before.
fn remove<T>(objects: &mut BTreeMap<String, (u64, T)>, name: &str, version: u64) {
    if objects.get(name).is_some_and(|(known, _)| *known <= version) {
        objects.remove(name);
    }
}

/// Resource versions of Kina's own server, and of etcd's, are numbers that grow (KEP-5504 makes that a promise).
pub(super) fn version(metadata: &kube::api::ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn objects<K>(client: &Client) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    watch_objects(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff()
}
