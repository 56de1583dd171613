//! The clusters themselves, as their own API servers show them.
//!
//! One client a cluster, made from Kina's own certificate, and watches of the few things that Kina judges by, kept as a
//! small view: some hundred bytes a node. An API server that is away shows as such and is asked again, at first often.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::retry::EffectError;
use super::wake::Waker;
use crate::runtime::{ClusterAccess, ClusterConnector};

/// Longest wait for one answer of a cluster's API server.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The first wait after an API server did not answer, and the longest: a cluster that comes up is seen soon, one that is
/// away costs little.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long watches may say nothing before the API server is asked whether it is there, and how long it may take to say
/// so: one that hangs is told after 23 s. A thousand idle clusters are asked 67 times a second in all.
const QUIET: Duration = Duration::from_secs(15);
const PROBE_WITHIN: Duration = Duration::from_secs(8);
/// Annotation on a Node: the labels and taints that Kina has set there, as JSON.
pub const APPLIED: &str = "kina.dev/applied";
/// Annotation on a Node that Kina cordoned: only its own cordons does it lift.
pub const CORDONED: &str = "kina.dev/cordoned";

/// A taint as seen on a Node: key, value, effect.
pub type SeenTaint = (String, String, String);

/// What is known of one Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its UID.
    pub uid: String,
    /// Its Ready condition; `None` where it says Unknown or nothing.
    pub ready: Option<bool>,
    /// Why it is not Ready, in its own words.
    pub message: String,
    /// No new pods are to come.
    pub unschedulable: bool,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// All its taints.
    pub taints: Vec<SeenTaint>,
    /// The annotation [`APPLIED`].
    pub applied: Option<String>,
    /// It has the annotation [`CORDONED`].
    pub cordoned_by_kina: bool,
    /// Version of its kubelet.
    pub version: String,
}

/// Why nothing is known of a cluster whose API server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwell {
    /// It takes requests and answers none.
    Silent,
    /// It says itself that it is not ready.
    NotReady,
}

impl Unwell {
    /// One word in CamelCase.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Silent => "ApiSilent",
            Self::NotReady => "ApiNotReady",
        }
    }

    /// For a person.
    #[must_use]
    pub fn message(self) -> String {
        match self {
            Self::Silent => {
                format!("the cluster's API server takes requests and answers none within {} s", PROBE_WITHIN.as_secs())
            }
            Self::NotReady => "the cluster's API server says that it is not ready".to_owned(),
        }
    }
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiView {
    /// Whether its API server answers; `None` before the first answer or failure, and while it is [`Self::unwell`].
    pub answers: Option<bool>,
    /// It can be reached, and what it knows cannot be had.
    pub unwell: Option<Unwell>,
    /// All its Nodes, where it answers.
    pub nodes: BTreeMap<String, NodeView>,
    /// Whether the nodes were listed as a whole since the API server answers.
    pub listed: bool,
    /// CoreDNS: whether it is Available; `None` where there is no such Deployment.
    pub dns: Option<bool>,
    /// DaemonSets of `kube-system` that are not ready on every node.
    pub daemons_unready: BTreeMap<String, String>,
    /// All DaemonSets of `kube-system`, with the generation of their specs.
    pub daemons: BTreeMap<String, i64>,
}

/// All clusters. One entry a Cluster.
#[derive(Clone)]
pub struct ClustersApi {
    waker: Waker,
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
}

struct Entry {
    access: ClusterAccess,
    client: kube::Client,
    view: Arc<Mutex<ApiView>>,
    renewals: Renewals,
    _ends_watches: DropGuard,
}

/// For each Node: the renewal seen first since its machine runs.
type Renewals = Arc<Mutex<BTreeMap<String, Renewal>>>;

#[derive(Clone, Debug)]
struct Renewal {
    since: Timestamp,
    first: Option<Timestamp>,
    confirmed: bool,
}

impl fmt::Debug for ClustersApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClustersApi").finish_non_exhaustive()
    }
}

impl ClustersApi {
    /// No clusters yet.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self { waker, entries: Arc::default() }
    }

    /// Has a client and watches of a cluster; they stay while the access stays the same.
    ///
    /// # Errors
    /// Where the access data is unusable.
    pub async fn ensure(
        &self,
        uid: &str,
        name: &str,
        access: &ClusterAccess,
        connector: &dyn ClusterConnector,
    ) -> Result<(), EffectError> {
        if self.lock().get(uid).is_some_and(|entry| entry.access == *access) {
            return Ok(());
        }
        let client = connector.connect(access).await.map_err(|error| EffectError::Local {
            operation: "make a client for",
            object: name.to_owned(),
            source: Box::new(error),
        })?;
        let end = CancellationToken::new();
        let view = Arc::new(Mutex::new(ApiView::default()));
        let watch = Watch {
            cluster: name.to_owned(),
            client: client.clone(),
            view: Arc::clone(&view),
            waker: self.waker.clone(),
        };
        tokio::spawn(watch.run(end.clone()));
        let entry = Entry {
            access: access.clone(),
            client,
            view,
            renewals: Renewals::default(),
            _ends_watches: end.drop_guard(),
        };
        self.lock().insert(uid.to_owned(), entry);
        Ok(())
    }

    /// Ends watches and client of a cluster.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// What is known; nothing for a cluster without a client.
    #[must_use]
    pub fn view(&self, uid: &str) -> ApiView {
        self.with(uid, ApiView::clone).unwrap_or_default()
    }

    /// A part of what is known.
    pub fn with<T>(&self, uid: &str, read: impl FnOnce(&ApiView) -> T) -> Option<T> {
        let view = Arc::clone(&self.lock().get(uid)?.view);
        let view = view.lock().unwrap_or_else(PoisonError::into_inner);
        Some(read(&view))
    }

    /// The client of a cluster.
    #[must_use]
    pub fn client(&self, uid: &str) -> Option<kube::Client> {
        self.lock().get(uid).map(|entry| entry.client.clone())
    }

    /// Whether a Node renewed its lease since `since`, when its machine was first seen to run: a Node that was Ready
    /// before a restart says so until somebody notices. Asked of the API server until it is so, and not again.
    pub async fn has_renewed(&self, uid: &str, node: &str, since: Timestamp) -> bool {
        let Some((client, renewals)) =
            self.lock().get(uid).map(|entry| (entry.client.clone(), Arc::clone(&entry.renewals)))
        else {
            return false;
        };
        let known = {
            let mut renewals = renewals.lock().unwrap_or_else(PoisonError::into_inner);
            let renewal = renewals.entry(node.to_owned()).or_insert(Renewal { since, first: None, confirmed: false });
            if renewal.since != since {
                *renewal = Renewal { since, first: None, confirmed: false };
            }
            renewal.clone()
        };
        if known.confirmed {
            return true;
        }
        let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
        let Ok(Ok(lease)) = tokio::time::timeout(ANSWER_WITHIN, leases.get_opt(node)).await else { return false };
        let Some(renewed) = lease.and_then(|lease| lease.spec?.renew_time).map(|time| time.0) else { return false };
        let mut renewals = renewals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(renewal) = renewals.get_mut(node) else { return false };
        // Another clock may show another time; a renewal that moved was made while we looked, whatever the clocks say.
        let moved = renewal.first.is_some_and(|first| first != renewed);
        renewal.first.get_or_insert(renewed);
        renewal.confirmed = moved || renewed >= renewal.since;
        renewal.confirmed
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watch {
    cluster: String,
    client: kube::Client,
    view: Arc<Mutex<ApiView>>,
    waker: Waker,
}

/// What a probe tells.
enum Health {
    Well,
    Unwell(Unwell),
    Away,
}

enum News {
    Node(watcher::Event<Node>),
    Dns(watcher::Event<Deployment>),
    Daemon(watcher::Event<DaemonSet>),
}

impl Watch {
    /// After every failure all is listed anew: a watch that goes on where it was says nothing until something changes,
    /// not even that the server is back.
    async fn run(self, end: CancellationToken) {
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
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Follows until the first failure; tells how long to pause after it.
    async fn follow(&self, again: &mut Duration) -> Duration {
        let began = tokio::time::Instant::now();
        let mut news = self.streams();
        let mut listing = Listing::default();
        // While it is not well, the lists that have just begun are themselves what asks.
        let mut patience = if self.lock().unwell.is_some() { PROBE_WITHIN } else { QUIET };
        loop {
            let next = match tokio::time::timeout(patience, news.next()).await {
                Ok(Some(next)) => next,
                Ok(None) => return AGAIN_MAX,
                Err(_) => tokio::select! {
                    biased;
                    next = news.next() => match next {
                        Some(next) => next,
                        None => return AGAIN_MAX,
                    },
                    health = self.probe() => match health {
                        Health::Well if self.lock().listed => continue,
                        // A list that was lost on the way, or a server that went away: listing tells.
                        Health::Well | Health::Away => return AGAIN_FIRST,
                        Health::Unwell(why) => {
                            self.change(|view| {
                                (view.answers, view.listed, view.unwell) = (None, false, Some(why));
                            });
                            return AGAIN_FIRST;
                        }
                    },
                },
            };
            patience = QUIET;
            let failed = next.is_err();
            self.change(|view| match next {
                Ok(news) => listing.take(view, news),
                Err(error) => {
                    tracing::debug!(cluster = self.cluster, %error, "the API server does not answer");
                    if !matches!(error, watcher::Error::WatchError(_)) {
                        (view.answers, view.listed, view.unwell) = (Some(false), false, None);
                    }
                }
            });
            if failed {
                // Only what has lasted is forgotten: a server that lists and then fails is as good as away.
                let pause = if began.elapsed() > AGAIN_MAX { AGAIN_FIRST } else { *again };
                *again = (pause * 3 / 2).min(AGAIN_MAX);
                return pause;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ApiView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view, and wakes whom it concerns.
    fn change(&self, change: impl FnOnce(&mut ApiView)) {
        let (before, changed) = {
            let mut view = self.lock();
            let before = view.clone();
            change(&mut view);
            let changed = *view != before;
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
        select_all([
            nodes.map(|event| event.map(News::Node)).boxed(),
            dns.map(|event| event.map(News::Dns)).boxed(),
            daemons.map(|event| event.map(News::Daemon)).boxed(),
        ])
        .boxed()
    }

    /// Wakes the Cluster, and the Machines whose Node differs; all of them where the API server comes or goes.
    fn wake(&self, before: &ApiView) {
        let view = self.lock();
        self.waker.clusters.wake(&self.cluster);
        let all = view.answers != before.answers || view.listed != before.listed;
        for name in view.nodes.keys().chain(before.nodes.keys()) {
            if all || view.nodes.get(name) != before.nodes.get(name) {
                self.waker.machines.wake(name);
            }
        }
    }
}

/// What a list under way has shown so far.
#[derive(Default)]
struct Listing {
    nodes: BTreeMap<String, NodeView>,
    daemons: BTreeMap<String, String>,
    generations: BTreeMap<String, i64>,
    dns: Option<bool>,
}

impl Listing {
    /// Takes one piece of news. All of it is an answer but for `Init`, which is told before any request.
    fn take(&mut self, view: &mut ApiView, news: News) {
        match news {
            News::Node(watcher::Event::Init) => {
                self.nodes.clear();
                return;
            }
            News::Dns(watcher::Event::Init) => {
                self.dns = None;
                return;
            }
            News::Daemon(watcher::Event::Init) => {
                self.daemons.clear();
                self.generations.clear();
                return;
            }
            News::Node(watcher::Event::InitApply(node)) => {
                self.nodes.insert(node.name_any(), node_view(&node));
            }
            News::Node(watcher::Event::InitDone) => {
                view.nodes = std::mem::take(&mut self.nodes);
                view.listed = true;
            }
            News::Node(watcher::Event::Apply(node)) => {
                view.nodes.insert(node.name_any(), node_view(&node));
            }
            News::Node(watcher::Event::Delete(node)) => {
                view.nodes.remove(&node.name_any());
            }
            News::Dns(watcher::Event::InitApply(dns)) => self.dns = Some(is_available(&dns)),
            News::Dns(watcher::Event::InitDone) => view.dns = self.dns,
            News::Dns(watcher::Event::Apply(dns)) => view.dns = Some(is_available(&dns)),
            News::Dns(watcher::Event::Delete(_)) => view.dns = None,
            News::Daemon(watcher::Event::InitApply(set)) => {
                note_daemon(&mut self.daemons, &mut self.generations, &set);
            }
            News::Daemon(watcher::Event::InitDone) => {
                view.daemons_unready = std::mem::take(&mut self.daemons);
                view.daemons = std::mem::take(&mut self.generations);
            }
            News::Daemon(watcher::Event::Apply(set)) => {
                note_daemon(&mut view.daemons_unready, &mut view.daemons, &set);
            }
            News::Daemon(watcher::Event::Delete(set)) => {
                view.daemons_unready.remove(&set.name_any());
                view.daemons.remove(&set.name_any());
            }
        }
        (view.answers, view.unwell) = (Some(true), None);
    }
}

fn note_daemon(unready: &mut BTreeMap<String, String>, all: &mut BTreeMap<String, i64>, set: &DaemonSet) {
    let name = set.name_any();
    all.insert(name.clone(), set.metadata.generation.unwrap_or_default());
    let status = set.status.as_ref();
    let wanted = status.map_or(0, |status| status.desired_number_scheduled);
    let ready = status.map_or(0, |status| status.number_ready);
    let current = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
    if current && ready >= wanted {
        unready.remove(&name);
    } else {
        unready.insert(name, format!("{ready} of {wanted} ready"));
    }
}

fn is_available(deployment: &Deployment) -> bool {
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter().any(|condition| {
            condition.type_.as_deref() == Some("Available") && condition.status.as_deref() == Some("True")
        })
    })
}

fn node_view(node: &Node) -> NodeView {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let spec = node.spec.as_ref();
    let taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    NodeView {
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ready: match ready.map(|condition| condition.status.as_str()) {
            Some("True") => Some(true),
            Some("False") => Some(false),
            _ => None,
        },
        message: ready.and_then(|condition| condition.message.clone()).unwrap_or_default(),
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: taints.into_iter().map(|taint| (taint.key, taint.value.unwrap_or_default(), taint.effect)).collect(),
        applied: node.annotations().get(APPLIED).cloned(),
        cordoned_by_kina: node.annotations().contains_key(CORDONED),
        version: node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.kubelet_version.clone())
            .unwrap_or_default(),
    }
}

/// A call of a cluster's API server, bounded in time.
///
/// # Errors
/// What the API server says, or [`EffectError::Timeout`].
pub async fn call<T>(
    operation: &'static str,
    object: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, EffectError> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(EffectError::api(operation, object, error)),
        Err(_) => Err(EffectError::Timeout { operation, object: object.to_owned(), after: ANSWER_WITHIN }),
    }
}

/// As [`call`], where it is as good that the object is gone already.
///
/// # Errors
/// As [`call`].
pub async fn call_unless_gone(
    operation: &'static str,
    object: &str,
    request: impl Future<Output = Result<(), kube::Error>>,
) -> Result<(), EffectError> {
    let forgiving = async {
        match request.await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result,
        }
    };
    call(operation, object, forgiving).await
}
