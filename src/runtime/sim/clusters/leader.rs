//! Whether the controllers and the scheduler of a cluster work. Those that begin while the Lease of others has not run out
//! wait until it has, as after every restart of a cluster.
//!
//! Which node they run on is not modelled: while an API server answers, somebody leads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::time::At;
use super::kubelets::micro_time;
use super::model::resource;
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;
use crate::world::Clock;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-controller-manager";
/// How often one that leads renews its Lease (`leaderElection.retryPeriod`).
const RENEWED_EVERY: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, Default)]
struct Leader {
    /// Since when one leads, or from when on it will; `None` while no API server answers.
    from: Option<At>,
    /// When the one before last renewed the Lease.
    before: Option<At>,
    /// How many led before.
    earlier: u32,
    /// The Lease is there.
    recorded: bool,
}

impl Leader {
    /// Since when one leads now.
    fn since(&self, now: At) -> Option<At> {
        self.from.filter(|from| *from <= now)
    }

    fn last_renewal(&self, now: At) -> Option<At> {
        match self.since(now) {
            Some(from) => Some(from.last_of_every(RENEWED_EVERY, now)),
            None => self.before,
        }
    }
}

/// Those of all clusters. Renewals are computed where Leases are read, and not written.
pub(super) struct Leaders {
    clock: Arc<dyn Clock>,
    all: Mutex<BTreeMap<String, Leader>>,
}

impl Leaders {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Leader>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of whether an API server of a cluster answers now; the Lease of those before runs out so long after one
    /// does. Clusters that are met for the first time have worked all along, or are new.
    pub fn set(&self, tenant: &str, serving: bool, now: At, lease: Duration) {
        let mut all = self.lock();
        let leader = all.entry(tenant.to_owned()).or_default();
        match (leader.from, serving) {
            (None, true) => leader.from = Some(leader.before.map_or(now, |_| now.plus(lease))),
            (Some(_), false) => {
                leader.earlier += u32::from(leader.since(now).is_some());
                (leader.before, leader.from) = (leader.last_renewal(now), None);
            }
            _ => {}
        }
    }

    /// From when on one leads; `None` where nobody is about to.
    pub fn from(&self, tenant: &str) -> Option<At> {
        self.lock().get(tenant)?.from
    }

    /// Whether one leads, and its Lease is not known to be there.
    pub fn is_unrecorded(&self, tenant: &str, now: At) -> bool {
        self.lock().get(tenant).is_some_and(|leader| !leader.recorded && leader.since(now).is_some())
    }

    pub fn recorded(&self, tenant: &str) {
        if let Some(leader) = self.lock().get_mut(tenant) {
            leader.recorded = true;
        }
    }

    pub fn forget(&self, tenant: &str) {
        self.lock().remove(tenant);
    }

    /// Shows the Lease as last renewed.
    pub fn show(&self, tenant: &str, lease: &mut Value) {
        if lease["metadata"]["namespace"] != NAMESPACE || lease["metadata"]["name"] != NAME {
            return;
        }
        let leader = self.lock().get(tenant).copied().unwrap_or_default();
        let now = At::of(self.clock.now());
        let Some(renewed) = leader.last_renewal(now) else { return };
        lease["spec"]["renewTime"] = json!(micro_time(renewed));
        if let Some(since) = leader.since(now).filter(|_| leader.earlier > 0) {
            lease["spec"]["acquireTime"] = json!(micro_time(since));
            lease["spec"]["leaseTransitions"] = json!(leader.earlier);
        }
    }
}

/// Makes the Lease of the one that leads, where there is none.
pub(super) fn record(session: &mut Session<'_, '_>, now: At) -> Result<(), ApiError> {
    let leases = resource("coordination.k8s.io", "leases");
    if session.get(&leases, NAMESPACE, NAME)?.is_some() {
        return Ok(());
    }
    let spec = json!({
        "holderIdentity": format!("{NAME}_{}", session.suffix()), "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": micro_time(now), "renewTime": micro_time(now),
    });
    session.put(&leases, json!({"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec})).map(drop)
}
