//! The watch streams that feed a [`View`](super::View).

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::view::Update;
use crate::api::{Cluster, Machine, Source};

/// News of Clusters, Machines, Sources and Events, without end. Streams that break are taken up again with backoff; the
/// errors in between are told, so that a reader can say that the server is away.
pub fn feed(client: &Client) -> BoxStream<'static, Result<Update, watcher::Error>> {
    let config = watcher::Config::default;
    let clusters = watcher(Api::<Cluster>::all(client.clone()), config());
    let machines = watcher(Api::<Machine>::all(client.clone()), config());
    let sources = watcher(Api::<Source>::all(client.clone()), config());
    let events = watcher(Api::<Event>::all(client.clone()), config());
    select_all([
        clusters.default_backoff().map(|event| event.map(Update::Cluster)).boxed(),
        machines.default_backoff().map(|event| event.map(Update::Machine)).boxed(),
        sources.default_backoff().map(|event| event.map(Update::Source)).boxed(),
        events.default_backoff().map(|event| event.map(Update::Event)).boxed(),
    ])
    .boxed()
}
