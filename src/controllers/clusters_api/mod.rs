//! The clusters themselves, as their own API servers show them.
//!
//! One client a cluster, made from Kina's own certificate, and watches of the few things that Kina judges by, kept as a
//! small view: some hundred bytes a node. An API server that is away shows as such and is asked again, at first often.

mod heard;
mod leader;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::heard::Heard;
use self::view::Known;
pub use self::view::{APPLIED, ApiView, CORDONED, NodeView, SeenTaint, Unwell};
use self::watch::Watch;
use super::retry::EffectError;
use super::wake::Waker;
use crate::runtime::{ClusterAccess, ClusterConnector};

/// Longest wait for one answer of a cluster's API server.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// All clusters. One entry a Cluster.
#[derive(Clone)]
pub struct ClustersApi {
    waker: Waker,
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    /// How many entries there are.
    crowd: Arc<AtomicUsize>,
}

struct Entry {
    access: ClusterAccess,
    client: kube::Client,
    known: Arc<Mutex<Known>>,
    renewals: Renewals,
    nudge: Arc<Notify>,
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
        Self { waker, entries: Arc::default(), crowd: Arc::default() }
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
        let service = connector.service(access).await.map_err(|error| EffectError::Local {
            operation: "make a client for",
            object: name.to_owned(),
            source: Box::new(error),
        })?;
        let (client, heard) = Heard::through(service);
        let end = CancellationToken::new();
        let (known, nudge) = (Arc::<Mutex<Known>>::default(), Arc::<Notify>::default());
        let watch = Watch {
            cluster: name.to_owned(),
            client: client.clone(),
            known: Arc::clone(&known),
            waker: self.waker.clone(),
            heard,
            crowd: Arc::clone(&self.crowd),
            nudge: Arc::clone(&nudge),
        };
        tokio::spawn(watch.run(end.clone()));
        let entry = Entry {
            access: access.clone(),
            client,
            known,
            renewals: Renewals::default(),
            nudge,
            _ends_watches: end.drop_guard(),
        };
        self.change(|entries| drop(entries.insert(uid.to_owned(), entry)));
        Ok(())
    }

    /// The API server of a cluster is about to come up: one that is away is tried again at once, and then often.
    pub fn nudge(&self, uid: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.nudge.notify_one();
        }
    }

    /// Ends watches and client of a cluster.
    pub fn forget(&self, uid: &str) {
        self.change(|entries| drop(entries.remove(uid)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) {
        let mut entries = self.lock();
        change(&mut entries);
        self.crowd.store(entries.len(), Ordering::Relaxed);
    }

    /// What is known; nothing for a cluster without a client.
    #[must_use]
    pub fn view(&self, uid: &str) -> ApiView {
        self.with(uid, ApiView::clone).unwrap_or_default()
    }

    /// A part of what is known.
    pub fn with<T>(&self, uid: &str, read: impl FnOnce(&ApiView) -> T) -> Option<T> {
        self.known(uid, |known| read(&known.view))
    }

    /// Kina changed a Node of a cluster: this is how its API server says it is now. Shown from now on, however late the
    /// watch is.
    pub fn wrote(&self, uid: &str, node: &Node) {
        self.known(uid, |known| known.wrote(node));
    }

    /// A Node of a cluster is gone, as its API server says.
    pub fn deleted(&self, uid: &str, name: &str, node_uid: &str) {
        self.known(uid, |known| known.deleted(name, node_uid));
    }

    fn known<T>(&self, uid: &str, with: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let known = Arc::clone(&self.lock().get(uid)?.known);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        Some(with(&mut known))
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

/// As [`call`], where it is as good that the object is gone already: `None`.
///
/// # Errors
/// As [`call`].
pub async fn call_unless_gone<T>(
    operation: &'static str,
    object: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, EffectError> {
    let forgiving = async {
        match request.await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            result => result.map(Some),
        }
    };
    call(operation, object, forgiving).await
}
