//! What is known of a cluster: what Kina judges by, out of what its API server shows.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher;

use super::watch::{News, PROBE_WITHIN};

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
    /// The addresses of its pods, empty where nobody has given it any.
    pub pod_cidr: String,
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
    /// Its controllers work since the API server answers: what Deployments and DaemonSets say is not from before.
    pub controlled: bool,
    /// CoreDNS: whether it is Available; `None` where there is no such Deployment.
    pub dns: Option<bool>,
    /// DaemonSets of `kube-system` that are not ready on every node.
    pub daemons_unready: BTreeMap<String, String>,
    /// All DaemonSets of `kube-system`, with the generation of their specs.
    pub daemons: BTreeMap<String, i64>,
}

/// What is known, and how new it is: watches bring it, and the answers to what Kina writes itself.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub view: ApiView,
    /// UID and resource version of each Node as it was last seen, since its last list began.
    newest: BTreeMap<String, (String, u64)>,
    /// Nodes that Kina itself wrote since their last list began: the list may show them as they were.
    written: BTreeSet<String>,
}

/// Nothing is newer: a Node that is gone does not come back under its UID.
const GONE: u64 = u64::MAX;

impl Known {
    /// The API server answers no more: `Some(false)` where it is away, `None` where nobody knows why.
    pub fn lost(&mut self, answers: Option<bool>, unwell: Option<Unwell>) {
        let view = &mut self.view;
        (view.answers, view.unwell) = (answers, unwell);
        (view.listed, view.controlled) = (false, false);
    }

    /// Kina changed a Node: it is so from now on, whenever watches come to show it. A controller that waited for a watch
    /// that is late would write the same again and again.
    pub fn wrote(&mut self, node: &Node) {
        let name = node.name_any();
        if self.view.nodes.contains_key(&name) && self.is_news(node) {
            self.view.nodes.insert(name.clone(), node_view(node));
            self.written.insert(name);
        }
    }

    /// Kina deleted the Node of this UID, or found it gone.
    pub fn deleted(&mut self, name: &str, uid: &str) {
        if self.view.nodes.get(name).is_some_and(|node| node.uid == uid) {
            self.view.nodes.remove(name);
            self.newest.insert(name.to_owned(), (uid.to_owned(), GONE));
            self.written.insert(name.to_owned());
        }
    }

    /// Whether a Node is not older than what is known of it; that it is known then.
    fn is_news(&mut self, node: &Node) -> bool {
        // One that cannot be compared is taken as it comes.
        let (Some(uid), Some(revision)) = (node.metadata.uid.clone(), revision(node)) else { return true };
        let name = node.name_any();
        if self.newest.get(&name).is_some_and(|(seen, newest)| *seen == uid && revision < *newest) {
            return false;
        }
        self.newest.insert(name, (uid, revision));
        true
    }

    /// The end of a Node, unless another one has its name by now.
    fn ended(&mut self, node: &Node) {
        let name = node.name_any();
        let is_it = |uid: &str| node.metadata.uid.as_deref() == Some(uid);
        if self.newest.get(&name).is_some_and(|(uid, _)| is_it(uid)) {
            self.newest.remove(&name);
        }
        if self.view.nodes.get(&name).is_some_and(|seen| is_it(&seen.uid)) {
            self.view.nodes.remove(&name);
        }
    }
}

/// Resource versions of one resource can be compared as numbers, as of Kubernetes 1.35 by contract and before by practice
/// (KEP-5504).
fn revision(node: &Node) -> Option<u64> {
    node.metadata.resource_version.as_deref()?.parse().ok()
}

/// What a list under way has shown so far.
#[derive(Default)]
pub(super) struct Listing {
    nodes: BTreeMap<String, NodeView>,
    daemons: BTreeMap<String, String>,
    generations: BTreeMap<String, i64>,
    dns: Option<bool>,
}

impl Listing {
    /// Takes one piece of news. All of it is an answer but for `Init`, which is told before any request.
    pub fn take(&mut self, known: &mut Known, news: News) {
        match news {
            News::Node(watcher::Event::Init) => {
                self.nodes.clear();
                // A list that begins now knows everything up to now, and may be of a cluster that was set back.
                known.newest.clear();
                known.written.clear();
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
                known.is_news(&node);
                self.nodes.insert(node.name_any(), node_view(&node));
            }
            News::Node(watcher::Event::InitDone) => {
                for name in std::mem::take(&mut known.written) {
                    match known.view.nodes.remove(&name) {
                        Some(written) => drop(self.nodes.insert(name, written)),
                        None => drop(self.nodes.remove(&name)),
                    }
                }
                known.view.nodes = std::mem::take(&mut self.nodes);
                known.view.listed = true;
            }
            News::Node(watcher::Event::Apply(node)) => {
                if known.is_news(&node) {
                    known.view.nodes.insert(node.name_any(), node_view(&node));
                }
            }
            News::Node(watcher::Event::Delete(node)) => known.ended(&node),
            News::Dns(watcher::Event::InitApply(dns)) => self.dns = Some(is_available(&dns)),
            News::Dns(watcher::Event::InitDone) => known.view.dns = self.dns,
            News::Dns(watcher::Event::Apply(dns)) => known.view.dns = Some(is_available(&dns)),
            News::Dns(watcher::Event::Delete(_)) => known.view.dns = None,
            News::Daemon(watcher::Event::InitApply(set)) => {
                note_daemon(&mut self.daemons, &mut self.generations, &set);
            }
            News::Daemon(watcher::Event::InitDone) => {
                known.view.daemons_unready = std::mem::take(&mut self.daemons);
                known.view.daemons = std::mem::take(&mut self.generations);
            }
            News::Daemon(watcher::Event::Apply(set)) => {
                note_daemon(&mut known.view.daemons_unready, &mut known.view.daemons, &set);
            }
            News::Daemon(watcher::Event::Delete(set)) => {
                known.view.daemons_unready.remove(&set.name_any());
                known.view.daemons.remove(&set.name_any());
            }
            News::Controlled => known.view.controlled = true,
        }
        (known.view.answers, known.view.unwell) = (Some(true), None);
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
        pod_cidr: spec.and_then(|spec| spec.pod_cidr.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(uid: &str, revision: &str, tier: &str) -> Node {
        let metadata = json!({"name": "dev-pool-0", "uid": uid, "resourceVersion": revision, "labels": {"tier": tier}});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})).unwrap()
    }

    fn listed(nodes: &[Node]) -> Vec<News> {
        let applied = nodes.iter().cloned().map(watcher::Event::InitApply);
        std::iter::once(watcher::Event::Init).chain(applied).chain([watcher::Event::InitDone]).map(News::Node).collect()
    }

    fn take(known: &mut Known, news: Vec<News>) {
        let mut listing = Listing::default();
        news.into_iter().for_each(|news| listing.take(known, news));
    }

    fn tier(known: &Known) -> Option<&str> {
        known.view.nodes.get("dev-pool-0").map(|node| node.labels["tier"].as_str())
    }

    #[test]
    fn what_kina_wrote_is_seen_at_once_and_a_late_watch_does_not_take_it_back() {
        let mut known = Known::default();
        take(&mut known, listed(&[node("u", "10", "web")]));
        known.wrote(&node("u", "12", "apps"));
        assert_eq!(tier(&known), Some("apps"));
        take(&mut known, vec![News::Node(watcher::Event::Apply(node("u", "11", "web")))]);
        assert_eq!(tier(&known), Some("apps"));
        take(&mut known, vec![News::Node(watcher::Event::Apply(node("u", "13", "others")))]);
        assert_eq!(tier(&known), Some("others"));
    }

    #[test]
    fn an_answer_that_comes_after_a_newer_event_changes_nothing() {
        let mut known = Known::default();
        take(&mut known, listed(&[node("u", "10", "web")]));
        take(&mut known, vec![News::Node(watcher::Event::Apply(node("u", "14", "apps")))]);
        known.wrote(&node("u", "12", "web"));
        assert_eq!(tier(&known), Some("apps"));
    }

    #[test]
    fn a_list_that_began_before_a_write_does_not_take_it_back_and_one_that_began_later_counts() {
        let mut known = Known::default();
        take(&mut known, listed(&[node("u", "10", "web")]));
        for at in 1..=2 {
            let (mut listing, mut list) = (Listing::default(), listed(&[node("u", "10", "web")]));
            let rest = list.split_off(at);
            list.into_iter().for_each(|news| listing.take(&mut known, news));
            known.wrote(&node("u", "12", "apps"));
            rest.into_iter().for_each(|news| listing.take(&mut known, news));
            assert_eq!(tier(&known), Some("apps"));
        }
        // As after a restore of etcd.
        take(&mut known, listed(&[node("u", "5", "web")]));
        assert_eq!(tier(&known), Some("web"));
    }

    #[test]
    fn a_node_that_kina_deleted_is_gone_until_another_of_its_name_registers() {
        let mut known = Known::default();
        take(&mut known, listed(&[node("u", "10", "web")]));
        known.deleted("dev-pool-0", "u");
        assert_eq!(tier(&known), None);
        take(&mut known, vec![News::Node(watcher::Event::Apply(node("u", "11", "web")))]);
        assert_eq!(tier(&known), None);
        take(&mut known, vec![News::Node(watcher::Event::Apply(node("w", "13", "new")))]);
        assert_eq!(tier(&known), Some("new"));
        // The end of the old one is no news about the new one.
        take(&mut known, vec![News::Node(watcher::Event::Delete(node("u", "12", "web")))]);
        assert_eq!(tier(&known), Some("new"));
    }
}
