//! Watches of one cluster, from its first answer to its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, select_all};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::heard::Heard;
use super::leader;
use super::view::{ApiView, Known, Listing, Unwell};
use crate::controllers::wake::Waker;

/// The first wait after an API server did not answer, and the longest: a cluster that comes up is seen soon, one that is
/// away costs little. Of many clusters each is tried less often, fifty a second in all; one that is about to come up is
/// tried at once.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
const AGAIN_EACH: Duration = Duration::from_millis(20);
const AGAIN_MOST: Duration = Duration::from_secs(30);
/// How long an API server may say nothing before it is asked whether it is there, and how long it may take to say so: one
/// that hangs is told after 23 s. Of many clusters each is asked less often, so that all together are asked eleven times a
/// second at most; and none that sends bookmarks once a minute, as Kubernetes does, is asked once there are 800 of them.
const QUIET: Duration = Duration::from_secs(15);
const QUIET_EACH: Duration = Duration::from_millis(90);
const QUIET_MAX: Duration = Duration::from_secs(90);
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(8);

pub(super) struct Watch {
    pub cluster: String,
    pub client: kube::Client,
    pub known: Arc<Mutex<Known>>,
    pub waker: Waker,
    /// When anything came through `client`.
    pub heard: Heard,
    /// How many clusters are watched in all.
    pub crowd: Arc<AtomicUsize>,
    /// Told when the API server is about to come up.
    pub nudge: Arc<Notify>,
}

/// How long each of so many API servers may say nothing.
fn quiet(clusters: usize) -> Duration {
    (QUIET_EACH * u32::try_from(clusters).unwrap_or(u32::MAX)).clamp(QUIET, QUIET_MAX)
}

/// The longest pause between two tries of one of so many API servers.
fn longest_pause(clusters: usize) -> Duration {
    (AGAIN_EACH * u32::try_from(clusters).unwrap_or(u32::MAX)).clamp(AGAIN_MAX, AGAIN_MOST)
}

/// What a probe tells.
enum Health {
    Well,
    Unwell(Unwell),
    Away,
}

pub(super) enum News {
    Node(watcher::Event<Node>),
    Dns(watcher::Event<Deployment>),
    Daemon(watcher::Event<DaemonSet>),
    /// The controllers work.
    Controlled,
}

impl Watch {
    /// After every failure all is listed anew: a watch that goes on where it was says nothing until something changes,
    /// not even that the server is back.
    pub async fn run(self, end: CancellationToken) {
        let mut again = AGAIN_FIRST;
        loop {
            let pause = tokio::select! {
                biased;
                () = end.cancelled() => return,
                pause = self.follow(&mut again) => pause,
            };
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = self.nudge.notified() => again = AGAIN_FIRST,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Follows until the first failure; tells how long to pause after it.
    async fn follow(&self, again: &mut Duration) -> Duration {
        let began = Instant::now();
        // One that was away is asked once, not by each list.
        if self.lock().view.answers == Some(false) && matches!(self.probe().await, Health::Away) {
            return self.next_pause(again);
        }
        let mut news = self.streams();
        let mut listing = Listing::default();
        let mut last = began;
        loop {
            let next = match tokio::time::timeout_at(self.patience(last), news.next()).await {
                Ok(Some(next)) => next,
                Ok(None) => return AGAIN_MAX,
                Err(_) if Instant::now() < self.patience(last) => continue,
                Err(_) => tokio::select! {
                    biased;
                    next = news.next() => match next {
                        Some(next) => next,
                        None => return AGAIN_MAX,
                    },
                    health = self.probe() => match health {
                        Health::Well if self.lock().view.listed => {
                            last = Instant::now();
                            continue;
                        }
                        // A list that was lost on the way.
                        Health::Well => return AGAIN_FIRST,
                        // Listing tells, unless it is back by then.
                        Health::Away => {
                            self.change(|known| known.view.controlled = false);
                            return AGAIN_FIRST;
                        }
                        Health::Unwell(why) => {
                            self.change(|known| known.lost(None, Some(why)));
                            return AGAIN_FIRST;
                        }
                    },
                },
            };
            last = Instant::now();
            let failed = next.is_err();
            self.change(|known| match next {
                Ok(news) => listing.take(known, news),
                Err(error) => {
                    tracing::debug!(cluster = self.cluster, %error, "the API server does not answer");
                    if !matches!(error, watcher::Error::WatchError(_)) {
                        known.lost(Some(false), None);
                    }
                }
            });
            if failed {
                // Only what has lasted is forgotten: a server that lists and then fails is as good as away.
                if began.elapsed() > AGAIN_MAX {
                    *again = AGAIN_FIRST;
                }
                return self.next_pause(again);
            }
        }
    }

    /// How long to pause now; the next pause is longer.
    fn next_pause(&self, again: &mut Duration) -> Duration {
        let pause = *again;
        *again = (pause * 3 / 2).min(longest_pause(self.crowd.load(Ordering::Relaxed)));
        pause
    }

    /// Until when nothing needs to be heard, where the last news came at `last`.
    fn patience(&self, last: Instant) -> Instant {
        let known = self.lock();
        match (known.view.unwell, known.view.listed) {
            // While it is not well, the lists that have just begun are themselves what asks.
            (Some(_), _) => last + PROBE_WITHIN,
            (None, false) => last + QUIET,
            (None, true) => last.max(self.heard.last()) + quiet(self.crowd.load(Ordering::Relaxed)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view, and wakes whom it concerns.
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let (before, changed) = {
            let mut known = self.lock();
            let before = known.view.clone();
            change(&mut known);
            let changed = known.view != before;
            (before, changed)
        };
        if changed {
            self.wake(&before);
        }
    }

    /// Asks the API server whether it is ready.
    async fn probe(&self) -> Health {
        let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return Health::Away };
        match tokio::time::timeout(PROBE_WITHIN, self.client.request_text(request)).await {
            Err(_) => {
                tracing::warn!(cluster = self.cluster, "the API server takes requests and answers none");
                Health::Unwell(Unwell::Silent)
            }
            Ok(Err(kube::Error::Api(status))) if status.code >= 500 => Health::Unwell(Unwell::NotReady),
            // Whoever refuses has answered.
            Ok(Ok(_) | Err(kube::Error::Api(_))) => Health::Well,
            Ok(Err(_)) => Health::Away,
        }
    }

    fn streams(&self) -> BoxStream<'static, Result<News, watcher::Error>> {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let nodes = watcher(Api::<Node>::all(self.client.clone()), watcher::Config::default());
        let system: Api<Deployment> = Api::namespaced(self.client.clone(), "kube-system");
        let dns = watcher(system, named("coredns"));
        let system: Api<DaemonSet> = Api::namespaced(self.client.clone(), "kube-system");
        let daemons = watcher(system, watcher::Config::default());
        let controlled = if self.lock().view.controlled {
            stream::empty().boxed()
        } else {
            leader::leads(self.client.clone(), Arc::clone(&self.crowd))
                .map(|()| Ok(News::Controlled))
                .into_stream()
                .boxed()
        };
        select_all([
            nodes.map(|event| event.map(News::Node)).boxed(),
            dns.map(|event| event.map(News::Dns)).boxed(),
            daemons.map(|event| event.map(News::Daemon)).boxed(),
            controlled,
        ])
        .boxed()
    }

    /// Wakes the Cluster, and the Machines whose Node differs; all of them where the API server comes or goes.
    fn wake(&self, before: &ApiView) {
        let known = self.lock();
        let view = &known.view;
        self.waker.clusters.wake(&self.cluster);
        let all = view.answers != before.answers || view.listed != before.listed;
        for name in view.nodes.keys().chain(before.nodes.keys()) {
            if all || view.nodes.get(name) != before.nodes.get(name) {
                self.waker.machines.wake(name);
            }
        }
    }
}
