//! What the system itself counts: commits of the store, and what stands in Sources.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::api::Source;
use crate::apiserver::store::{Batch, Snapshot, Store, StoreError};
use crate::observability::Metrics;
use crate::observability::metrics::Outcome;

/// A store whose commits are counted and timed.
pub(super) struct MeteredStore {
    inner: Arc<dyn Store>,
    metrics: Metrics,
}

impl MeteredStore {
    pub(super) fn new(inner: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }
}

impl Store for MeteredStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let timed = self.metrics.begin("store", "commit");
        let result = self.inner.commit(batch);
        timed.end(if result.is_ok() { Outcome::Ok } else { Outcome::Transient });
        result
    }

    fn id(&self) -> &str {
        self.inner.id()
    }

    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// Shows errors and held deletions of all Sources, until the end.
pub(super) async fn watch_sources(client: kube::Client, metrics: Metrics, end: CancellationToken) {
    let mut listed = BTreeSet::new();
    let mut known = BTreeSet::new();
    let events = watcher(Api::<Source>::all(client), watcher::Config::default()).default_backoff();
    let shown = events.take_until(end.cancelled_owned()).for_each(|event| {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(source)) => {
                show(&metrics, &source);
                listed.insert(source.name_any());
            }
            Ok(watcher::Event::InitDone) => {
                known.difference(&listed).for_each(|gone: &String| metrics.forget_source(gone));
                known.clone_from(&listed);
            }
            Ok(watcher::Event::Apply(source)) => {
                show(&metrics, &source);
                known.insert(source.name_any());
            }
            Ok(watcher::Event::Delete(source)) => {
                known.remove(&source.name_any());
                metrics.forget_source(&source.name_any());
            }
            Err(error) => tracing::debug!(%error, "the sources cannot be watched"),
        }
        ready(())
    });
    shown.await;
}

fn show(metrics: &Metrics, source: &Source) {
    let status = source.status.as_ref();
    let errors = status.map_or(0, |status| status.errors);
    metrics.source(
        &source.name_any(),
        usize::try_from(errors).unwrap_or(usize::MAX),
        status.map_or(0, |s| s.held.len()),
    );
}
