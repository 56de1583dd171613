//! What is: hosts' listings, the Machines, and the cluster's API.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kube::ResourceExt;
use tokio::time::Instant;

use super::adopt::Adoption;
use super::facts::{BalancerFacts, Facts, HostFacts, Left, MachineFacts, NetworkFacts};
use super::reach::{self, Reach};
use super::{COMPARE, addons, balancer};
use crate::api::cluster::{ClusterSpec, DeletionPolicy, RuntimeName};
use crate::api::conditions::{self, BOOTSTRAPPED, READY};
use crate::api::defaults::Resolved;
use crate::api::{Cluster, Machine, annotations};
use crate::controllers::clusters_api::ApiView;
use crate::controllers::context::Shared;
use crate::controllers::contexts::Wished;
use crate::controllers::derived::OfCluster;
use crate::controllers::forwarding;
use crate::controllers::host::{self, Found, Host, Seen};
use crate::controllers::identity;
use crate::controllers::machine::container::{self, LOAD_BALANCER_INDEX};
use crate::controllers::machine::observe::is_paused;
use crate::kubeconfig::{ContextEntry, Current, Edit};
use crate::runtime::{ClusterAccess, Container, ContainerSpec, Network, OwnerLabels};

/// A Cluster with what belongs to it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The Cluster.
    pub cluster: Arc<Cluster>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What follows from its spec; `None` while defaults are missing.
    pub of_cluster: Option<Arc<OfCluster>>,
    /// Labels of what is made for it. Their UID is its identity: its own, or that of an earlier Cluster that it adopted.
    pub owner: OwnerLabels,
    /// Its Machines, in order of name.
    pub machines: Vec<Arc<Machine>>,
}

impl Subject {
    /// `None` for a Cluster without a UID, which no server returns.
    #[must_use]
    pub fn of(shared: &Shared, cluster: Arc<Cluster>) -> Option<Self> {
        let (name, uid) = (cluster.name_any(), cluster.uid()?);
        let identity = cluster.identity()?.to_owned();
        let owner = OwnerLabels {
            installation: shared.context.installation.clone(),
            cluster: name.clone(),
            cluster_uid: identity,
            machine_uid: None,
            role: None,
            spec_hash: None,
        };
        let machines = shared.machines.of(&name);
        let machines = machines.into_iter().filter(|machine| container::cluster_uid(machine) == Some(&*uid)).collect();
        let of_cluster = shared.derived.of_cluster(&cluster);
        Some(Self { cluster, name, uid, of_cluster, owner, machines })
    }

    /// Its spec, in types; `None` while defaults are missing.
    #[must_use]
    pub fn resolved(&self) -> Option<&Resolved> {
        self.of_cluster.as_ref().map(|of_cluster| &of_cluster.resolved)
    }

    /// Whether it is to go.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.cluster.metadata.deletion_timestamp.is_some()
    }

    /// Where its machines run.
    #[must_use]
    pub fn host<'a>(&self, shared: &'a Shared) -> Option<&'a Arc<Host>> {
        shared.host(self.resolved()?.runtime)
    }

    /// The context that it has, or had, in the kubeconfig.
    #[must_use]
    pub fn context_name(&self) -> String {
        format!("kina-{}", self.name)
    }

    /// What is wished of the kubeconfig. `None` while there is nothing to write there.
    #[must_use]
    pub fn context_edit(&self, access: Option<&ClusterAccess>) -> Option<Edit> {
        if self.deleting() {
            return Some(Edit::Remove { name: self.context_name() });
        }
        let access = access?;
        let entry = ContextEntry {
            name: self.context_name(),
            server: access.server.clone(),
            ca_pem: access.ca_certificate.clone(),
            client_cert_pem: access.client_certificate.clone(),
            client_key_pem: access.client_key.clone(),
        };
        Some(Edit::Merge { entry, current: Current::IfNone })
    }

    /// What the addons in the cluster are made from; `contents` has the hashes of those of the user's.
    #[must_use]
    pub fn addons_hash(&self, contents: &[String]) -> String {
        let spec = self.resolved();
        let image = format!("{:?}", spec.map(|spec| (&spec.image, spec.pod_subnet, spec.cni)));
        match contents {
            [] => identity::hash(&image),
            contents => identity::hash(&format!("{image} {}", contents.join(" "))),
        }
    }

    /// The same, with what the user's addons are now.
    fn addons_hash_now(&self, shared: &Shared) -> String {
        let files = &*shared.context.world.files;
        let addons = self.cluster.spec.addons.iter();
        let contents: Vec<String> = addons
            .map(|addon| match (&addon.path, &addon.manifest) {
                (Some(path), _) => shared.addons.file_hash(files, Path::new(path)),
                (None, manifest) => addons::content_hash(manifest.as_deref().unwrap_or_default()),
            })
            .collect();
        self.addons_hash(&contents)
    }

    /// What the load balancer is told.
    #[must_use]
    pub fn backends_hash(&self, balancer: &str) -> String {
        identity::hash(&format!("{balancer} {:?}", balancer::backends(self.machines.iter().map(|machine| &**machine))))
    }
}

/// Looks at everything that the plan needs. Performs no call of any server.
#[must_use]
pub fn observe(shared: &Shared, subject: &Subject, access: Option<&ClusterAccess>, adoption: Adoption) -> Facts {
    let cluster = &subject.cluster;
    let recorded = reach::recorded(cluster);
    let emptied = emptied(shared, subject, recorded.as_ref());
    let (host, balancer) = on_hosts(shared, subject, recorded.as_ref());
    let edit = subject.context_edit(access);
    let context = edit.map_or(Wished::Pending, |edit| shared.contexts.look(&subject.name, &edit));
    let (api_answers, api_unwell) =
        shared.api.with(&subject.uid, |view: &ApiView| (view.answers, view.unwell)).unwrap_or_default();
    Facts {
        name: subject.name.clone(),
        spec: cluster.spec.clone(),
        resolved: subject.resolved().cloned(),
        deleting: subject.deleting(),
        orphan: cluster.spec.deletion_policy == DeletionPolicy::Orphan,
        paused: is_paused(cluster),
        may_recreate: cluster.spec.allow_recreate || cluster.annotations().contains_key(annotations::RECREATE),
        expired: is_expired(shared, cluster, &cluster.spec),
        reach: Reach::new(
            recorded,
            shared.hosts.keys().copied(),
            subject.resolved().map(|spec| spec.runtime),
            &emptied,
        ),
        host,
        image_present: subject
            .resolved()
            .is_some_and(|spec| shared.memory.has_image(spec.runtime.as_str(), balancer::image(spec))),
        backends_current: balancer
            .is_some_and(|id| shared.memory.text(&subject.uid, "backends") == Some(subject.backends_hash(&id))),
        node_resources: subject
            .host(shared)
            .and_then(|host| host.runtime.capabilities().node_resources)
            .map(container::machine_resources),
        machines: subject.machines.iter().filter_map(|machine| machine_facts(shared, subject, machine)).collect(),
        api_answers,
        api_unwell,
        addons_applied: shared.memory.text(&subject.uid, "addons") == Some(subject.addons_hash_now(shared)),
        addons_due: shared.addons.is_due(
            &subject.uid,
            subject.resolved().map_or(COMPARE, |spec| spec.drift_interval),
            &shared.api.with(&subject.uid, |view| view.daemons.clone()).unwrap_or_default(),
        ),
        addons_differing: shared
            .addons
            .differing(&subject.uid)
            .into_iter()
            .map(|(key, how)| (key.kind.clone(), key.to_string(), how))
            .collect(),
        policy: shared.addons.policy(&subject.uid),
        has_certificates: shared.has_certificates(&subject.owner.cluster_uid),
        context_done: matches!(context, Wished::Done | Wished::Undone(_)),
        context_altered: match context {
            Wished::Undone(how) => Some(how),
            _ => None,
        },
        foreign_nodes: shared.api.with(&subject.uid, |view| foreign_nodes(subject, view)).unwrap_or_default(),
        adoption,
    }
}

/// Nodes of somebody else's. What cannot be seen is not there.
fn foreign_nodes(subject: &Subject, view: &ApiView) -> Vec<String> {
    /// As many as are worth reading.
    const SHOWN: usize = 20;
    let is_ours = |name: &str| subject.machines.iter().any(|machine| machine.metadata.name.as_deref() == Some(name));
    let seen = view.nodes.keys().filter(|_| view.answers == Some(true) && view.listed);
    seen.filter(|name| !is_ours(name)).take(SHOWN).cloned().collect()
}

/// When a Cluster's time is over. Clusters that a file declares are ended by their source.
#[must_use]
pub fn ends(cluster: &Cluster, spec: &ClusterSpec) -> Option<jiff::Timestamp> {
    let source = cluster.annotations().get(annotations::SOURCE);
    if source.is_some_and(|source| source != annotations::SOURCE_CLI) {
        return None;
    }
    let ttl = crate::api::quantity::duration(spec.ttl.as_ref()?)?;
    let created = cluster.creation_timestamp()?.0;
    created.checked_add(jiff::SignedDuration::try_from(ttl).ok()?).ok()
}

/// Whether its time is over. What is protected or paused does not end by itself; it does once that is lifted.
fn is_expired(shared: &Shared, cluster: &Cluster, spec: &ClusterSpec) -> bool {
    let is_protected =
        spec.protect || cluster.annotations().get(annotations::PROTECT).is_some_and(|value| value == "true");
    if is_protected || is_paused(cluster) {
        return false;
    }
    ends(cluster, spec).is_some_and(|end| shared.context.world.clock.now() >= end)
}

/// From which moment on a listing counts for what destroys something.
fn wish(shared: &Shared, subject: &Subject) -> Instant {
    let what = if subject.deleting() { "delete" } else { "spec" };
    shared.memory.wished(&subject.uid, what)
}

/// Runtimes of the record, but the one it is to be on, where nothing of the Cluster is left as of a listing that began after
/// everything it ever did there. Where it is at home there is none to look at.
fn emptied(shared: &Shared, subject: &Subject, recorded: Option<&BTreeSet<RuntimeName>>) -> BTreeSet<RuntimeName> {
    let main = subject.resolved().map(|spec| spec.runtime);
    let is_asked = |name: RuntimeName| Some(name) != main && recorded.is_none_or(|recorded| recorded.contains(&name));
    let since = shared.memory.settled(&subject.uid).max(Some(wish(shared, subject)));
    let is_in_use = |name: RuntimeName| subject.machines.iter().any(|machine| machine.spec.runtime == name);
    let hosts = shared.hosts.iter().filter(|(name, _)| is_asked(**name) && !is_in_use(**name));
    let emptied = hosts.filter(|(_, host)| match host.seen_of(&subject.owner) {
        (Seen::Known(listing), owned) => owned.is_empty() && Some(listing.began) > since,
        (Seen::Unknown(_), _) => false,
    });
    emptied.map(|(name, _)| *name).collect()
}

/// What all hosts show. While it lives, a Cluster needs the one it is to be on; when it goes, those that may have something
/// of it, which are all where nothing is recorded.
fn on_hosts(
    shared: &Shared,
    subject: &Subject,
    recorded: Option<&BTreeSet<RuntimeName>>,
) -> (HostFacts, Option<String>) {
    let settled = shared.memory.settled(&subject.uid);
    let wished = wish(shared, subject);
    let main = subject.resolved().map(|spec| spec.runtime);
    let is_clean = |name: RuntimeName| subject.deleting() && recorded.is_some_and(|recorded| !recorded.contains(&name));
    let mut needed = main
        .iter()
        .filter(|name| !is_clean(**name))
        .chain(recorded.into_iter().flatten().filter(|_| subject.deleting()));
    if let Some(name) = needed.find(|name| !shared.hosts.contains_key(name)) {
        return (HostFacts::Unknown(format!("the runtime {} is not there", name.as_str())), None);
    }
    let (mut fresh, mut left) = (true, Vec::new());
    let (mut network, mut balancer, mut balancer_id) = (Found::Absent, Found::Absent, None);
    for (name, host) in shared.hosts.iter().filter(|(name, _)| !is_clean(**name)) {
        let (seen, owned) = host.seen_of(&subject.owner);
        let listing = match seen {
            Seen::Known(listing) => listing,
            Seen::Unknown(message) if Some(*name) == main || subject.deleting() => {
                return (HostFacts::Unknown(message), None);
            }
            Seen::Unknown(_) => continue,
        };
        if settled.is_some_and(|settled| listing.began <= settled) {
            return (HostFacts::Stale, None);
        }
        fresh &= listing.began > wished;
        if Some(*name) == main {
            let found = host::network(&listing, &format!("kina-{}", subject.name), &subject.owner);
            let pins = host.runtime.capabilities().pins_addresses;
            network = map(found, |network| network_facts(subject, network, pins));
            let found = host::container(&listing, &format!("{}-lb", subject.name), &subject.owner);
            balancer_id = found.ours().map(|container| container.id.to_string());
            balancer = map(found, |container| {
                let address = subject.resolved().and_then(|spec| spec.node_subnet.address(LOAD_BALANCER_INDEX.into()));
                let untold = address.filter(|_| !pins).and_then(|own| {
                    forwarding::untold(&shared.memory, &subject.uid, &listing, &subject.owner, container, own)
                });
                BalancerFacts { untold, ..balancer_facts(subject, container) }
            });
        }
        let accounted = accounted_for(subject, Some(*name) == main);
        let others = owned.into_iter().filter(|(_, object)| !accounted.contains(object));
        // While it lives, what a Machine without a record left is not told apart from what one is just making.
        let others = others.filter(|(kind, _)| subject.deleting() || (Some(*name) != main && *kind != "volume"));
        left.extend(others.map(|(kind, object)| Left { runtime: *name, kind, name: object }));
    }
    if !subject.deleting() {
        left.retain(|left| is_of_cluster_alone(shared, subject, left));
    }
    (HostFacts::Known { fresh, network, balancer, left }, balancer_id)
}

/// Names that Machines, or the plan itself, look after.
fn accounted_for(subject: &Subject, main: bool) -> Vec<String> {
    let mut names: Vec<String> = subject.machines.iter().map(|machine| machine.name_any()).collect();
    if main {
        names.extend([format!("kina-{}", subject.name), format!("{}-lb", subject.name)]);
    }
    names
}

/// Networks and load balancers in a runtime that the Cluster has left.
fn is_of_cluster_alone(shared: &Shared, subject: &Subject, left: &Left) -> bool {
    let busy = subject.machines.iter().any(|machine| machine.spec.runtime == left.runtime);
    let known = [format!("kina-{}", subject.name), format!("{}-lb", subject.name)];
    !busy && known.contains(&left.name) && shared.hosts.contains_key(&left.runtime)
}

fn map<T, U>(found: Found<T>, facts: impl FnOnce(&T) -> U) -> Found<U> {
    match found {
        Found::Absent => Found::Absent,
        Found::Foreign => Found::Foreign,
        Found::Ours(object) => Found::Ours(facts(&object)),
    }
}

fn network_facts(subject: &Subject, network: &Network, pins: bool) -> NetworkFacts {
    let spec = subject.resolved();
    let wanted = spec.map(|spec| spec.node_subnet.to_string());
    let wanted6 = spec.and_then(Resolved::node_subnet6).map(|subnet| subnet.to_string());
    let Network { subnet, ipv6_subnet, .. } = network;
    // One of IPv6 that nobody asked for is an engine's own habit.
    let is_wanted = (subnet.is_none() || *subnet == wanted) && (wanted6.is_none() || *ipv6_subnet == wanted6);
    let seen: Vec<&str> = [subnet, ipv6_subnet].into_iter().flatten().map(String::as_str).collect();
    NetworkFacts { current: !pins || is_wanted, subnet: seen.join(",") }
}

fn balancer_facts(subject: &Subject, container: &Container) -> BalancerFacts {
    let wanted = subject.resolved().map(|spec| balancer::wanted(&subject.name, spec, &subject.owner));
    let hash = container.owner().and_then(|owner| owner.spec_hash);
    let current = wanted.is_none_or(|wanted| {
        let wanted = ContainerSpec { image: container.image.clone(), ..wanted };
        hash == Some(balancer::hash(&wanted)) && container::altered(&wanted, container).is_empty()
    });
    BalancerFacts { state: container.state, current, untold: None }
}

fn machine_facts(shared: &Shared, subject: &Subject, machine: &Machine) -> Option<MachineFacts> {
    let name = machine.name_any();
    let status = machine.status.clone().unwrap_or_default();
    // One that no Kina could have made is none of the cluster's.
    container::owner(&shared.context.installation, machine)?;
    let wanted = shared.derived.container_hash(machine);
    let bootstrapped = conditions::get(&status.conditions, BOOTSTRAPPED).map(|condition| condition.status.as_str());
    let altered = status
        .drift
        .iter()
        .any(|drift| drift.layer == crate::api::cluster::DriftLayer::Container && drift.field != "state");
    Some(MachineFacts {
        name,
        uid: machine.uid()?,
        deleting: machine.metadata.deletion_timestamp.is_some(),
        of_this_cluster: subject.of_cluster.as_ref().is_none_or(|of_cluster| identity::fits(machine, of_cluster)),
        ready: conditions::is_true(&status.conditions, READY),
        bootstrapped: match bootstrapped {
            Some("True") => Some(true),
            Some("False") => Some(false),
            _ => None,
        },
        outdated: altered && subject.cluster.spec.drift.mode == crate::api::cluster::DriftMode::Enforce
            || status.container_hash.is_some() && status.container_hash.as_deref() != wanted.as_deref(),
        just_adopted: is_just_adopted(shared, machine),
        waiting: status.waiting.map(|waiting| waiting.reason).unwrap_or_default(),
        spec: machine.spec.clone(),
    })
}

/// An older store may know less machines than are wanted. After a start, sources have looked at their files long before
/// this is over.
const ADOPTED_FOR: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

fn is_just_adopted(shared: &Shared, machine: &Machine) -> bool {
    let since = machine.creation_timestamp().map(|created| shared.context.world.clock.now().duration_since(created.0));
    machine.spec.identity.machine.is_some() && since.is_some_and(|since| since < ADOPTED_FOR)
}

/// All runtimes that a Cluster's objects may be in.
#[must_use]
pub fn runtimes(shared: &Shared) -> Vec<RuntimeName> {
    shared.hosts.keys().copied().collect()
}
