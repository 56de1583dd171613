//! The kubelets of a cluster, as the world outside its API knows them, and their heartbeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::kubeadm;
use super::super::time::At;
use super::super::world::{ContainerRecord, State};
use super::super::{etcd, pki};
use super::super::{route, routed};
use crate::world::Clock;

/// How often a kubelet renews its Lease (`nodeLeaseDurationSeconds` of 40, a quarter of it).
const BEAT: Duration = Duration::from_secs(10);
/// After how long without a heartbeat a node counts as lost (`node-monitor-grace-period`, as of kubelet's Lease).
pub(super) const GRACE: Duration = Duration::from_secs(40);

/// A kubelet that runs.
#[derive(Clone, Debug)]
pub(super) struct Kubelet {
    /// Id of its container.
    pub container: String,
    /// Name of its node.
    pub node: String,
    pub since: At,
    /// It already registered its node; it does so once in its life.
    pub registered: bool,
    /// It reaches the API server.
    pub connected: bool,
    /// Its static pods run.
    pub static_pods: bool,
    pub control_plane: bool,
    /// Its node's, the primary one first.
    pub addresses: Vec<String>,
    pub version: String,
    pub labels: BTreeMap<String, String>,
    /// `key=value:Effect`
    pub taints: Vec<String>,
    pub provider_id: String,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    /// The addresses of its pods, where it finds a configuration that Kina wrote.
    pub pod_range: Option<String>,
}

/// What the engine has to know of the world under a cluster.
#[derive(Clone, Debug)]
pub(super) struct Infra {
    /// The API server answers, so scheduler and controllers work.
    pub serving: bool,
    pub kubelets: Vec<Kubelet>,
}

impl Kubelet {
    /// The address by which its node is known first.
    pub fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }
}

impl Infra {
    /// Tells this from what there was before. That a kubelet registered is no difference: the engine itself did that.
    pub fn digest(&self) -> [u8; 32] {
        let mut normal = self.clone();
        normal.kubelets.iter_mut().for_each(|kubelet| kubelet.registered = true);
        Sha256::digest(format!("{normal:?}")).into()
    }
}

/// `None` where there is no such cluster (any more).
pub(super) fn infra(state: &State, tenant: &str) -> Option<Infra> {
    let cluster = state.etcd.get(tenant).filter(|cluster| !cluster.gone)?;
    let here = || state.in_network(&cluster.network);
    let serving = here().any(|(id, _)| route::answers(state, id).as_deref() == Some(tenant));
    let kubelets = here().filter_map(|(id, record)| kubelet(state, tenant, &cluster.cluster_ca, id, record)).collect();
    Some(Infra { serving, kubelets })
}

fn kubelet(state: &State, tenant: &str, ca: &str, id: &str, record: &ContainerRecord) -> Option<Kubelet> {
    let since = record.inside.kubelet.filter(|_| record.runs())?;
    if pki::fingerprint(&state.text(id, kubeadm::CA_FILE)?)? != ca {
        return None;
    }
    let config = state.text(id, kubeadm::KUBELET_KUBECONFIG)?;
    let server = config.lines().find_map(|line| line.trim().strip_prefix("server: https://"))?;
    let connected = route::from_container(state, id, server).is_ok_and(|backend| backend.tenant == tenant);
    let flags = flags(&state.text(id, kubeadm::KUBELET_FLAGS)?);
    let flag = |name: &str| flags.get(name).cloned().unwrap_or_default();
    let list = |name: &str| {
        flag(name).split(',').filter(|entry| !entry.is_empty()).map(str::to_owned).collect::<Vec<String>>()
    };
    let pair =
        |entry: String| entry.split_once('=').map_or((entry.clone(), String::new()), |(k, v)| (k.into(), v.into()));
    let node = Some(flag("hostname-override")).filter(|name| !name.is_empty());
    Some(Kubelet {
        container: id.to_owned(),
        node: node.unwrap_or_else(|| record.spec.name.clone()),
        since,
        registered: record.inside.registered,
        connected,
        static_pods: record.inside.static_pods,
        control_plane: state.file(id, etcd::MANIFEST).is_some(),
        addresses: addresses(state, id, &list("node-ip")),
        version: record.node_version()?.to_owned(),
        labels: list("node-labels").into_iter().map(pair).collect(),
        taints: list("register-with-taints"),
        provider_id: flag("provider-id"),
        cpu_millis: record.spec.resources.cpu_millis.unwrap_or(4000),
        memory_bytes: record.spec.resources.memory_bytes.unwrap_or(8 << 30),
        pod_range: routed::range(state, id),
    })
}

/// Those of the container that the kubelet is told to use (`--node-ip`); the first one where it is told nothing.
fn addresses(state: &State, id: &str, told: &[String]) -> Vec<String> {
    let own: Vec<String> = state.addresses_of(id).map(|address| address.to_string()).collect();
    let used: Vec<String> = told.iter().filter(|address| own.contains(address)).cloned().collect();
    if used.is_empty() { own.into_iter().take(1).collect() } else { used }
}

/// The arguments in `kubeadm-flags.env`: `KUBELET_KUBEADM_ARGS="--a=b --c=d"`.
fn flags(text: &str) -> BTreeMap<String, String> {
    let quoted = text.split('"').nth(1).unwrap_or_default();
    let flag = |word: &str| {
        let (name, value) = word.strip_prefix("--")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    quoted.split_whitespace().filter_map(flag).collect()
}

/// The heartbeat of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heart {
    /// It beats since then.
    Beats(At),
    /// It stopped then, after a last beat that was heard, if any was.
    Silent { since: At, beat: Option<At> },
}

/// The heartbeats of all nodes: what readers of Nodes and Leases see is computed from them, not written.
pub(super) struct Pulse {
    clock: Arc<dyn Clock>,
    hearts: Mutex<BTreeMap<String, BTreeMap<String, Heart>>>,
}

impl Pulse {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, hearts: Mutex::default() }
    }

    fn hearts(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Heart>>> {
        self.hearts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of which kubelets of a cluster are connected now.
    pub fn set(&self, tenant: &str, infra: &Infra, now: At) {
        let mut all = self.hearts();
        let hearts = all.entry(tenant.to_owned()).or_default();
        for (node, heart) in hearts.iter_mut() {
            let connected = infra.kubelets.iter().any(|kubelet| kubelet.node == *node && kubelet.connected);
            if let (Heart::Beats(since), false) = (*heart, connected) {
                *heart = Heart::Silent { since: now, beat: Some(since.last_of_every(BEAT, now)) };
            }
        }
        for kubelet in infra.kubelets.iter().filter(|kubelet| kubelet.connected) {
            let heart = hearts.entry(kubelet.node.clone()).or_insert(Heart::Beats(now));
            if let Heart::Silent { .. } = heart {
                *heart = Heart::Beats(now);
            }
        }
    }

    /// Since when a node is silent, and when it was heard last; `None` for one whose heart beats. One that was never
    /// heard is silent from `now` on: after a restart of Kina every judgement starts anew.
    pub fn silent_since(&self, tenant: &str, node: &str, now: At) -> Option<(At, Option<At>)> {
        let mut all = self.hearts();
        let hearts = all.entry(tenant.to_owned()).or_default();
        match hearts.entry(node.to_owned()).or_insert(Heart::Silent { since: now, beat: None }) {
            Heart::Beats(_) => None,
            Heart::Silent { since, beat } => Some((*since, *beat)),
        }
    }

    pub fn forget(&self, tenant: &str) {
        self.hearts().remove(tenant);
    }

    /// When a node's heart last beat.
    fn last_beat(&self, tenant: &str, node: &str) -> Option<At> {
        match self.hearts().get(tenant)?.get(node)? {
            Heart::Beats(since) => Some(since.last_of_every(BEAT, At::of(self.clock.now()))),
            Heart::Silent { beat, .. } => *beat,
        }
    }

    /// Shows a Node with the time of its last heartbeat.
    pub fn show_node(&self, tenant: &str, node: &mut Value) {
        let Some(beat) = node["metadata"]["name"].as_str().and_then(|name| self.last_beat(tenant, name)) else {
            return;
        };
        let conditions = node.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            condition["lastHeartbeatTime"] = json!(beat.rfc3339());
        }
    }

    /// Shows a node's Lease as last renewed with its last heartbeat.
    pub fn show_lease(&self, tenant: &str, lease: &mut Value) {
        if lease["metadata"]["namespace"] != "kube-node-lease" {
            return;
        }
        let Some(beat) = lease["metadata"]["name"].as_str().and_then(|name| self.last_beat(tenant, name)) else {
            return;
        };
        lease["spec"]["renewTime"] = json!(micro_time(beat));
    }
}

/// As Kubernetes writes `MicroTime`.
pub(super) fn micro_time(at: At) -> String {
    at.timestamp().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
