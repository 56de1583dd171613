//! One look at a cluster: everything is read, what kubelets, scheduler and controllers would do now is done, until
//! nothing more follows, all in one transaction. Level-triggered: nothing is remembered between looks.

use std::collections::BTreeMap;

use super::super::options::Latency;
use super::super::time::At;
use super::kubelets::{Infra, Kubelet, Pulse};
use super::model::{Budget, Node, Objects, Pod, Workload, apps, core};
use super::nodes::Verdict;
use super::{disruption, nodes, pods, questions, workloads};
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;

/// Rounds in one look. What is left after them is done by the next look, which the writes of this one bring about.
const ROUNDS: usize = 12;

/// What a look came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Pass {
    /// Containers whose kubelets have registered their nodes.
    pub registered: Vec<String>,
    /// When to look again.
    pub again: Option<At>,
    /// What nodes were judged to be in this look.
    pub judged: BTreeMap<String, Verdict>,
}

impl Pass {
    /// Asks for another look at this time, or earlier.
    pub fn again_at(&mut self, at: At) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }
}

/// What surrounds a look.
pub(super) struct Scene<'a> {
    pub infra: &'a Infra,
    pub pulse: &'a Pulse,
    pub latency: &'a Latency,
    /// From when on controllers and scheduler work.
    pub led_from: Option<At>,
    pub now: At,
}

impl Scene<'_> {
    /// Whether controllers and scheduler work.
    pub fn is_led(&self) -> bool {
        self.led_from.is_some_and(|from| from <= self.now)
    }

    /// The kubelet of a node, if it runs and reaches the API server.
    pub fn kubelet(&self, node: &str) -> Option<&Kubelet> {
        self.infra.kubelets.iter().find(|kubelet| kubelet.node == node && kubelet.connected)
    }
}

/// The objects of a cluster that the engine works on.
#[derive(Default)]
pub(super) struct View {
    pub nodes: Objects<Node>,
    pub pods: Objects<Pod>,
    pub daemon_sets: Objects<Workload>,
    pub deployments: Objects<Workload>,
    pub replica_sets: Objects<Workload>,
    pub budgets: Objects<Budget>,
}

impl View {
    /// Reads everything as it is now.
    fn read(&mut self, session: &Session<'_, '_>) -> Result<(), ApiError> {
        self.nodes.read(session, &core("nodes"))?;
        self.pods.read(session, &core("pods"))?;
        self.daemon_sets.read(session, &apps("daemonsets"))?;
        self.deployments.read(session, &apps("deployments"))?;
        self.replica_sets.read(session, &apps("replicasets"))?;
        self.budgets.read(session, &disruption::budgets())
    }

    /// Whether a node's pod network is set up.
    pub fn has_network(&self, kubelet: &Kubelet) -> bool {
        let node = &kubelet.node;
        kubelet.pod_range.is_some()
            || self.pods.iter().any(|pod| pod.spec.node_name == *node && pod.sets_up_network() && pod.is_ready())
    }
}

/// Looks at a cluster.
pub(super) fn pass(session: &mut Session<'_, '_>, scene: &Scene<'_>) -> Result<Pass, ApiError> {
    session.quiet();
    let (mut registered, mut judged) = (Vec::new(), BTreeMap::new());
    questions::default_accounts(session)?;
    let mut view = View::default();
    view.read(session)?;
    for round in 1..=ROUNDS {
        let mut pass = Pass { judged, again: scene.led_from.filter(|_| !scene.is_led()), ..Pass::default() };
        let mut wrote = false;
        for step in [nodes::sync, control, pods::run] {
            if step(session, scene, &view, &mut pass)? {
                view.read(session)?;
                wrote = true;
            }
        }
        registered.append(&mut pass.registered);
        if !wrote {
            return Ok(Pass { registered, ..pass });
        }
        if round == ROUNDS {
            pass.again_at(scene.now);
            return Ok(Pass { registered, ..pass });
        }
        judged = pass.judged;
    }
    Ok(Pass { registered, ..Pass::default() })
}

/// What scheduler and controllers do.
fn control(session: &mut Session<'_, '_>, scene: &Scene<'_>, view: &View, _: &mut Pass) -> Result<bool, ApiError> {
    if !scene.is_led() {
        return Ok(false);
    }
    let mut wrote = workloads::daemon_sets(session, scene, view)?;
    wrote |= workloads::deployments(session, view)?;
    wrote |= workloads::replica_sets(session, view)?;
    wrote |= pods::schedule(session, scene, view)?;
    wrote |= disruption::sync(session, scene, view)?;
    Ok(wrote)
}
