//! Wires both controllers, on stock `kube::runtime`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::store::Writer;
use kube::runtime::{Controller, WatchStreamExt, reflector, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::{Context, Shared};
use super::error::ReconcileError;
use super::views::{Grouped, View};
use super::{cluster, machine};
use crate::api::{Cluster, Machine};
use crate::observability::metrics::Outcome;

/// Passes of one controller at once. They wait for little, and share one thread's worth of work; the bound is for the
/// commands that they ask of nodes.
const PASSES: u16 = 64;
/// How soon an object is looked at again whose pass Kina's own API refused.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs both controllers until `shutdown` is cancelled; passes under way come to their end, and operations that have
/// begun an effect are left to it.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let (cluster_store, cluster_writer) = reflector::store::<Cluster>();
    let (machine_store, machine_writer) = reflector::store::<Machine>();
    let clusters = View::new(cluster_store.clone());
    let machines = View::new(machine_store.clone());
    let shared = Arc::new(Shared::new(context, clusters.clone(), machines.clone()));
    let client = &shared.context.client;

    let hosts = shared.hosts.values().map(|host| Arc::clone(host).watch(shared.waker.clone(), shutdown.clone()));
    let hosts = futures::future::join_all(hosts);
    let contexts = shared.contexts.clone().run(shutdown.clone());

    let watched = Arc::clone(&shared);
    let stream = watch(Api::<Cluster>::all(client.clone()), cluster_writer, clusters.clone(), move |gone| {
        watched.context.metrics.forget_cluster(&gone.name_any());
        if let Some(uid) = gone.uid() {
            cluster::forget(&watched, &gone.name_any(), &uid);
        }
    });
    let clusters_run = Controller::for_stream(only_wishes(stream), cluster_store)
        .reconcile_on(shared.waker.clusters.stream())
        .graceful_shutdown_on(end(&shutdown))
        .with_config(Config::default().concurrency(PASSES))
        .run(when_ready("cluster", cluster::reconcile), error_policy, Arc::clone(&shared))
        .for_each(|_| std::future::ready(()));

    let watched = Arc::clone(&shared);
    let stream = watch(Api::<Machine>::all(client.clone()), machine_writer, machines.clone(), move |gone| {
        machine::forget(&watched, gone);
        watched.waker.clusters.wake(&gone.spec.cluster);
    });
    let watched = Arc::clone(&shared);
    let stream = stream.inspect_ok(move |machine| watched.waker.clusters.wake(&machine.spec.cluster));
    let machines_run = Controller::for_stream(only_wishes(stream), machine_store)
        .reconcile_on(shared.waker.machines.stream())
        .graceful_shutdown_on(end(&shutdown))
        .with_config(Config::default().concurrency(PASSES))
        .run(when_ready("machine", machine::reconcile), error_policy, Arc::clone(&shared))
        .for_each(|_| std::future::ready(()));

    futures::join!(clusters_run, machines_run, hosts, contexts);
}

fn end(shutdown: &CancellationToken) -> impl Future<Output = ()> + Send + Sync + 'static {
    let shutdown = shutdown.clone();
    async move { shutdown.cancelled_owned().await }
}

/// A pass begins once both kinds were listed as a whole: a Cluster that sees none of its Machines would make them again.
fn when_ready<K, F>(
    controller: &'static str,
    reconcile: fn(Arc<K>, Arc<Shared>) -> F,
) -> impl FnMut(Arc<K>, Arc<Shared>) -> futures::future::BoxFuture<'static, Result<Action, ReconcileError>>
where
    K: Send + Sync + 'static,
    F: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    move |object, shared| {
        Box::pin(async move {
            shared.clusters.ready().await;
            shared.machines.ready().await;
            let began = Instant::now();
            let metrics = shared.context.metrics.clone();
            let result = reconcile(object, shared).await;
            let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Transient };
            metrics.reconcile(controller, outcome, began.elapsed());
            result
        })
    }
}

/// A watch that fills a store and a view. The objects come out; what is gone goes to `gone`.
fn watch<K>(
    api: Api<K>,
    writer: Writer<K>,
    view: View<K>,
    gone: impl Fn(&K) + Send + 'static,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Grouped + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    watcher(api, watcher::Config::default())
        .default_backoff()
        // Who set which field is most of an object, and no pass asks for it.
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect_ok(move |event| {
            view.saw(event);
            if let watcher::Event::Delete(object) = event {
                gone(object);
            }
        })
        .applied_objects()
}

/// Leaves out what only status changed: what a pass writes itself is no reason for another pass.
fn only_wishes<K>(
    stream: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    // One entry an object; those that are gone are forgotten with the last write before.
    let seen: Mutex<BTreeMap<String, String>> = Mutex::default();
    stream.try_filter(move |object| {
        let meta = object.meta();
        let wish = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            meta.uid, meta.generation, meta.deletion_timestamp, meta.annotations, meta.finalizers
        );
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        let news = if last {
            seen.remove(&object.name_any());
            true
        } else {
            seen.insert(object.name_any(), wish.clone()).as_deref() != Some(wish.as_str())
        };
        std::future::ready(news)
    })
}

fn error_policy<K>(object: Arc<K>, error: &ReconcileError, _: Arc<Shared>) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(object = object.name_any(), %error, cause, "a pass failed");
    Action::requeue(AGAIN)
}
