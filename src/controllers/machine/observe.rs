//! What is: the host's listing, the node itself, and its cluster's API.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::container;
use super::facts::{
    self, Ailing, ApiFacts, ClusterState, ContainerFacts, Containerd, Drain, Facts, HostFacts, Inside, NodeFacts,
};
use super::membership;
use super::network;
use super::wait::Wait;
use crate::api::cidr::Cidr;
use crate::api::cluster::{DeletionPolicy, DriftMode, NodeNetwork};
use crate::api::conditions::{self, BOOTSTRAPPED};
use crate::api::machine::{BootstrapMethod, MachineRole, Turn};
use crate::api::{Cluster, Machine, annotations};
use crate::controllers::clusters_api::{self, NodeView, SeenTaint};
use crate::controllers::context::Shared;
use crate::controllers::derived::OfCluster;
use crate::controllers::forwarding;
use crate::controllers::host::{self, Found, Host, Seen};
use crate::controllers::identity;
use crate::controllers::node_labels;
use crate::host_mounts::Declared;
use crate::kubeadm::units::{self, Boot, Unit, UnitState};
use crate::kubeadm::{CONTROL_PLANE_TAINT, MARKER_PATH, commands, containerd};
use crate::runtime::{
    Container, ContainerId, ContainerSpec, ContainerState, ExecRequest, Network, OwnerLabels, Runtime,
};

/// Longest wait for a command that only asks.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Longest drain, by the time that Kina saw; then the node goes with the pods that are left on it.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(300);
/// So many containers in succession are made anew since they are shown otherwise than they were asked for.
const MADE_ANEW_MAX: u32 = 3;
/// The other label of kubeadm's on control planes.
const EXCLUDE_FROM_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Written by kubeadm long before it has succeeded.
const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// Written by kubeadm before a control plane that joins becomes a member of etcd: from 1.33 on the kubelet's file comes after
/// that (`cmd/kubeadm/app/cmd/join.go`).
const API_SERVER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// A Machine with what belongs to it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The Machine.
    pub machine: Arc<Machine>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its Cluster, if it is known and the very one that owns it.
    pub cluster: Option<Arc<Cluster>>,
    /// The UID of the Cluster that owns it.
    pub cluster_uid: String,
    /// Labels of what is made for it.
    pub owner: OwnerLabels,
    /// The container it asks for.
    pub wanted: ContainerSpec,
    /// What that is made from, as a hash.
    pub hash: Arc<str>,
    /// What follows from its Cluster's spec, where that is known and has all defaults.
    pub of_cluster: Option<Arc<OfCluster>>,
    /// It goes, and its cluster [`facts::ends`], whatever the spec says by now.
    pub ends: bool,
    /// Where it runs.
    pub host: Arc<Host>,
}

impl Subject {
    /// `None` for a Machine that no Kina could have made: no owner, no address.
    #[must_use]
    pub fn of(shared: &Shared, machine: Arc<Machine>) -> Option<Self> {
        let name = machine.name_any();
        let uid = machine.uid()?;
        let cluster_uid = container::cluster_uid(&machine)?.to_owned();
        let cluster = shared.clusters.get(&machine.spec.cluster);
        let cluster = cluster.filter(|cluster| cluster.uid().as_deref() == Some(&*cluster_uid));
        let owner = container::owner(&shared.context.installation, &machine)?;
        let hash = shared.derived.container_hash(&machine)?;
        let mut wanted = container::wanted(&name, &machine.spec, &owner, &hash)?;
        wanted.labels.extend(container::node_labels(&machine));
        let host = Arc::clone(shared.host(machine.spec.runtime)?);
        let of_cluster = cluster.as_ref().and_then(|cluster| shared.derived.of_cluster(cluster));
        let ends = machine.metadata.deletion_timestamp.is_some() && ends(shared, &machine, &cluster_uid);
        Some(Self { machine, name, uid, cluster, cluster_uid, owner, wanted, hash, of_cluster, ends, host })
    }

    /// All Machines of its cluster, itself among them.
    #[must_use]
    pub fn of_its_cluster(&self, shared: &Shared) -> Vec<Arc<Machine>> {
        of_cluster_uid(shared, &self.machine.spec.cluster, &self.cluster_uid)
    }

    /// Whether it is to go.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.machine.metadata.deletion_timestamp.is_some()
    }

    /// The container of ours that the last listing shows.
    #[must_use]
    pub fn container(&self) -> Option<Arc<Container>> {
        let Seen::Known(listing) = self.host.seen() else { return None };
        host::container(&listing, &self.name, &self.owner).ours().cloned()
    }

    /// Its address that stays, where the runtime has others for it.
    #[must_use]
    pub fn overlay_address(&self) -> Option<Ipv4Addr> {
        self.wanted.address.filter(|_| !self.host.runtime.capabilities().pins_addresses)
    }

    /// What its Cluster is about.
    #[must_use]
    pub fn cluster_state(&self) -> ClusterState {
        let Some(cluster) = &self.cluster else { return ClusterState::Gone };
        if cluster.metadata.deletion_timestamp.is_some() {
            return ClusterState::Deleting { orphan: cluster.spec.deletion_policy == DeletionPolicy::Orphan };
        }
        if is_paused(cluster) {
            return ClusterState::Paused;
        }
        // One of a pool that is made anew leaves a cluster that lives; so does a control plane, until all of them go.
        let fits = self.of_cluster.as_ref().is_some_and(|cluster| identity::fits(&self.machine, cluster));
        if self.ends || !fits && !self.deleting() { ClusterState::Recreating } else { ClusterState::Live }
    }

    /// Whether it runs the control plane.
    #[must_use]
    pub fn is_control_plane(&self) -> bool {
        self.machine.spec.role == MachineRole::ControlPlane
    }

    /// Labels of its Node: those of the spec, and the role that kubeadm gave it and a Node that registers anew lacks.
    #[must_use]
    pub fn node_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.machine.spec.labels.clone();
        if self.is_control_plane() {
            labels.insert(CONTROL_PLANE_TAINT.to_owned(), String::new());
        }
        labels
    }

    /// Taints of its Node.
    #[must_use]
    pub fn node_taints(&self) -> Vec<SeenTaint> {
        let taints = self.machine.spec.taints.iter();
        taints.map(|taint| (taint.key.clone(), taint.value.clone(), format!("{:?}", taint.effect))).collect()
    }

    /// How differences are treated.
    #[must_use]
    pub fn drift_mode(&self) -> DriftMode {
        self.cluster.as_ref().map(|cluster| cluster.spec.drift.mode).unwrap_or_default()
    }
}

/// Whether its cluster [`facts::ends`]. Where no control plane is recorded, one may be there all the same.
fn ends(shared: &Shared, machine: &Machine, cluster_uid: &str) -> bool {
    let all = of_cluster_uid(shared, &machine.spec.cluster, cluster_uid);
    let is_away = || shared.api.with(cluster_uid, |view| view.answers).flatten() == Some(false);
    facts::ends(all.iter().map(|machine| facts::going(machine)))
        && (all.iter().any(|machine| machine.spec.role == MachineRole::ControlPlane) || is_away())
}

fn of_cluster_uid(shared: &Shared, cluster: &str, uid: &str) -> Vec<Arc<Machine>> {
    let is_ours = |machine: &Arc<Machine>| container::cluster_uid(machine) == Some(uid);
    shared.machines.of(cluster).into_iter().filter(is_ours).collect()
}

/// Whether a Cluster is paused, by its spec or by an annotation.
#[must_use]
pub fn is_paused(cluster: &Cluster) -> bool {
    cluster.spec.paused || cluster.annotations().get(annotations::PAUSED).is_some_and(|value| value == "true")
}

/// Looks at everything that the plan needs. Takes a few seconds at most.
pub async fn observe(shared: &Shared, subject: &Subject) -> Facts {
    let (host, running) = on_host(shared, subject);
    let mut api = shared.api.with(&subject.cluster_uid, |view| api_facts(subject, view)).unwrap_or_default();
    let mut recorded =
        subject.machine.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, BOOTSTRAPPED));
    let mut was_node = recorded || api.node.is_some();
    let inside = match &running {
        Some(container) => in_node(shared, subject, container).await,
        None => Inside::NotAsked { bootstrapped: false },
    };
    was_node |= matches!(inside, Inside::NotAsked { bootstrapped: true } | Inside::Up { marker: true, .. });
    if subject.machine.spec.role == MachineRole::Worker && has_lost_its_data(&inside) {
        (was_node, recorded) = (false, false);
    }
    // From the first pass that sees the container run: the first renewal of a new node then counts.
    let running_since = running
        .as_ref()
        .map(|container| shared.memory.running(&subject.uid, &container.id, shared.context.world.clock.now()));
    if let (Some(node), Some(since)) = (&mut api.node, running_since) {
        node.renewed = node.ready && shared.api.has_renewed(&subject.cluster_uid, &subject.name, since).await;
    }
    let ailing = ailing(shared, subject, api.ailment(&inside));
    let drain = match &api.node {
        Some(node) if node.cordoned_by_kina && wants_drain(subject) => drain(shared, subject).await,
        _ => Drain::NotAsked,
    };
    let place = running.as_ref().map(|container| &container.id).zip(running_since);
    let network = network::look(shared, subject, place, api.node.as_ref());
    let spec = &subject.machine.spec;
    let mut facts = Facts {
        role: spec.role,
        method: spec.bootstrap.method,
        turn: spec.turn,
        deleting: subject.deleting(),
        membership: membership::remembered(shared, subject),
        cluster: subject.cluster_state(),
        host,
        image_present: shared.memory.has_image(spec.runtime.as_str(), &spec.image),
        was_node,
        recorded,
        inside,
        api,
        ailing,
        drain,
        has_place: true,
        containerd: match &running {
            Some(container) => containerd(shared, subject, container).await,
            None => Containerd::Current,
        },
        network,
        stops_before_kubernetes: subject.cluster.as_ref().is_some_and(|cluster| cluster.spec.stop_before_kubernetes),
        unmountable: unmountable(shared, subject, running.is_some()),
        replaceable: None,
    };
    facts.replaceable = replaceable(shared, subject, &facts);
    facts
}

/// For how long its data has been seen to be gone, where another control plane may take its place.
fn replaceable(shared: &Shared, subject: &Subject, facts: &Facts) -> Option<Duration> {
    const LOST: &str = "data lost";
    if !facts.has_lost_data() {
        shared.memory.unwish(&subject.uid, LOST);
        return None;
    }
    let since = shared.memory.wished(&subject.uid, LOST);
    // What answers has a majority of those that keep the data, and this one is none of them.
    let has_others = facts.api.answers == Some(true) && membership::has_others(shared, subject);
    let may_be = subject.drift_mode() == DriftMode::Enforce && has_others;
    may_be.then(|| since.elapsed())
}

/// How containerd was started in a container that runs. Where the node does not answer, nothing is known.
async fn containerd(shared: &Shared, subject: &Subject, container: &Container) -> Containerd {
    const KEY: &str = "containerd";
    let spec = &subject.machine.spec;
    if spec.containerd.is_empty() && spec.registries.is_none() || subject.deleting() {
        return Containerd::Current;
    }
    let wanted = container::containerd_settings_hash(spec);
    let proof = format!("{} {wanted}", container.id);
    if shared.memory.text(&subject.uid, KEY).as_ref() == Some(&proof) {
        return Containerd::Current;
    }
    let runtime = &*subject.host.runtime;
    let Ok(boot) = ask(runtime, &container.id, commands::is_system_running()).await else { return Containerd::Current };
    match units::parse_boot(&boot) {
        Boot::Starting => return Containerd::Booting,
        Boot::Broken => return Containerd::Current,
        Boot::Done => {}
    }
    let Ok(found) = runtime.read_file(&container.id, containerd::MARKER_PATH).await else { return Containerd::Current };
    let is_as_the_image = spec.containerd.is_empty() && spec.registries.as_ref().is_some_and(Vec::is_empty);
    let is_current = match found {
        Some(found) => containerd::Marker::parse(&found).hash == wanted,
        // A container that was made since the last of them went.
        None => is_as_the_image,
    };
    if !is_current {
        return Containerd::Outdated;
    }
    shared.memory.keep_text(&subject.uid, KEY, &proof);
    Containerd::Current
}

/// Judged again where a container is to be made: what a path leads to, and what is allowed, may have changed.
fn unmountable(shared: &Shared, subject: &Subject, is_running: bool) -> Option<Wait> {
    if subject.deleting() || is_running && subject.machine.spec.turn != Some(Turn::Roll) {
        return None;
    }
    let files = &*shared.context.world.files;
    let is_from_git = |cluster: &Arc<Cluster>| cluster.annotations().contains_key(annotations::SOURCE_COMMIT);
    let declared = if subject.cluster.as_ref().is_some_and(is_from_git) { Declared::Git } else { Declared::Here };
    subject.machine.spec.extra_mounts.iter().find_map(|mount| {
        let path = Path::new(&mount.host_path);
        if let Some(refused) = shared.context.mounts.refuse(files, path, declared) {
            return Some(Wait::HostPathRefused { why: refused.why, hint: refused.hint });
        }
        let is_missing = files.metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        is_missing.then(|| Wait::HostPathMissing(mount.host_path.clone()))
    })
}

/// For how long the Node ails.
fn ailing(shared: &Shared, subject: &Subject, how: Option<&'static str>) -> Ailing {
    let Some(how) = how else {
        shared.memory.healed(&subject.uid);
        return Ailing::default();
    };
    let (lasted, restarts) = shared.memory.ails(&subject.uid, how);
    Ailing { lasted, restarts }
}

/// From which moment on a listing counts for what destroys something.
fn wish(shared: &Shared, subject: &Subject) -> Instant {
    let memory = &shared.memory;
    if subject.deleting() {
        return memory.wished(&subject.uid, "delete");
    }
    match subject.machine.spec.turn {
        Some(Turn::Roll) => memory.wished(&subject.uid, "roll"),
        _ => {
            memory.unwish(&subject.uid, "roll");
            memory.unwish(&subject.uid, "drain");
            // A container that was never a node and is outdated: the wish is as old as the spec was seen.
            memory.wished(&subject.uid, "spec")
        }
    }
}

fn on_host(shared: &Shared, subject: &Subject) -> (HostFacts, Option<Arc<Container>>) {
    let listing = match subject.host.seen() {
        Seen::Unknown(message) => return (HostFacts::Unknown(message), None),
        Seen::Known(listing) => listing,
    };
    if shared.memory.settled(&subject.uid).is_some_and(|settled| listing.began <= settled) {
        return (HostFacts::Stale, None);
    }
    let cluster_owner = OwnerLabels { machine_uid: None, role: None, ..subject.owner.clone() };
    let container = host::container(&listing, &subject.name, &subject.owner);
    let running = container.ours().filter(|container| container.state == ContainerState::Running).cloned();
    if running.is_none() {
        shared.memory.stopped(&subject.uid);
    }
    let facts = match &container {
        Found::Absent => Found::Absent,
        Found::Foreign => Found::Foreign,
        Found::Ours(container) => {
            let untold = subject.overlay_address().and_then(|own| {
                forwarding::untold(&shared.memory, &subject.uid, &listing, &cluster_owner, container, own)
            });
            let facts = container_facts(subject, container);
            let in_vain = is_made_anew_in_vain(shared, subject, container, &facts);
            Found::Ours(ContainerFacts { untold, in_vain, ..facts })
        }
    };
    let volume = match host::volume(&listing, &subject.name, &volume_owner(&subject.owner)) {
        Found::Absent => Found::Absent,
        Found::Foreign => Found::Foreign,
        Found::Ours(_) => Found::Ours(()),
    };
    let known = HostFacts::Known {
        fresh: listing.began > wish(shared, subject),
        network: has_network(subject, host::network(&listing, &subject.wanted.network, &cluster_owner)),
        volume,
        container: facts,
    };
    (known, running)
}

/// Whether what has the name of its network is that.
fn has_network(subject: &Subject, found: Found<Arc<Network>>) -> bool {
    match (subject.machine.spec.network(), found) {
        (_, Found::Absent) | (NodeNetwork::Cluster, Found::Foreign) => false,
        // The runtime's own is nobody's.
        (NodeNetwork::Default, Found::Foreign | Found::Ours(_)) => true,
        (NodeNetwork::Cluster, Found::Ours(network)) => {
            let subnet = network.subnet.as_deref().and_then(|subnet| subnet.parse::<Cidr>().ok());
            // One that is about to be made anew has another subnet still; where addresses move, any does.
            subject.overlay_address().is_some()
                || subnet.is_none_or(|subnet| subject.wanted.address.is_none_or(|address| subnet.contains(address)))
        }
    }
}

/// Labels of a Machine's volume: the container's, without a role.
#[must_use]
pub fn volume_owner(owner: &OwnerLabels) -> OwnerLabels {
    OwnerLabels { role: None, spec_hash: None, ..owner.clone() }
}

fn container_facts(subject: &Subject, container: &Container) -> ContainerFacts {
    let hash = container.owner().and_then(|owner| owner.spec_hash);
    let current = hash.as_deref() == Some(&*subject.hash);
    // One that was made from another spec differs as it should.
    let altered = if current { container::altered(&subject.wanted, container) } else { Vec::new() };
    ContainerFacts { state: container.state, current, altered, in_vain: false, untold: None }
}

/// Whether enough containers were made anew since the runtime shows them otherwise than they were asked for. Some do so for
/// good, and such a container works as well as the next one.
fn is_made_anew_in_vain(shared: &Shared, subject: &Subject, container: &Container, facts: &ContainerFacts) -> bool {
    if !facts.altered.is_empty() {
        return shared.memory.altered(&subject.uid, &container.id) > MADE_ANEW_MAX;
    }
    if facts.current {
        shared.memory.as_asked(&subject.uid);
    }
    false
}

fn api_facts(subject: &Subject, view: &clusters_api::ApiView) -> ApiFacts {
    ApiFacts {
        answers: view.answers,
        listed: view.listed,
        node: view.nodes.get(&subject.name).map(|node| node_facts(subject, node)),
    }
}

fn node_facts(subject: &Subject, node: &NodeView) -> NodeFacts {
    let (labels, taints) = (subject.node_labels(), subject.node_taints());
    let by_others = node_labels::was_applied(node, &labels, &taints);
    let mut patch = node_labels::node_patch(node, &labels, &taints);
    if let Some(patch) = patch.as_mut().filter(|_| node.applied.is_none() && subject.is_control_plane()) {
        // kubeadm's mark on a Node that registers anew is gone; whoever takes it off later has a reason.
        patch["metadata"]["labels"][EXCLUDE_FROM_BALANCERS] = "".into();
    }
    if let Some(range) = subject.machine.spec.pod_cidr.as_ref().filter(|_| node.pod_cidr.is_empty()) {
        // It can be set once, and never changed.
        let patch = patch.get_or_insert_with(|| serde_json::json!({}));
        patch["spec"]["podCIDR"] = range.as_str().into();
        patch["spec"]["podCIDRs"] = serde_json::json!([range]);
    }
    NodeFacts {
        uid: node.uid.clone(),
        ready: node.ready == Some(true),
        renewed: false,
        lacks_network: node.ready == Some(false) && node.message.contains("NetworkReady=false"),
        message: node.message.clone(),
        patch,
        patch_is_drift_to_report: by_others && subject.drift_mode() != DriftMode::Enforce,
        cordoned: node.unschedulable,
        cordoned_by_kina: node.cordoned_by_kina,
    }
}

async fn in_node(shared: &Shared, subject: &Subject, container: &Container) -> Inside {
    let runtime = &*subject.host.runtime;
    if shared.memory.is_bootstrapped(&subject.uid, &container.id) {
        return Inside::NotAsked { bootstrapped: true };
    }
    // Only Kina begins something in it: while it may not, nothing changes there.
    if let Some(leftovers) =
        shared.memory.is_untouched(&subject.uid, &container.id).filter(|_| !may_begin(shared, subject))
    {
        return untouched(leftovers);
    }
    match look_inside(runtime, &container.id, subject.is_control_plane()).await {
        Ok(inside) => {
            if let Inside::Up { leftovers, .. } = &inside
                && inside == untouched(*leftovers)
            {
                shared.memory.untouched(&subject.uid, &container.id, *leftovers);
            }
            if matches!(inside, Inside::Up { marker: true, .. } | Inside::Up { bootstrap: UnitState::Succeeded, .. }) {
                shared.memory.bootstrapped(&subject.uid, &container.id);
            }
            inside
        }
        Err(message) => Inside::Silent(message),
    }
}

/// A node that is up, in which nothing is at work, and nothing was.
fn untouched(leftovers: bool) -> Inside {
    let (bootstrap, reset) = (UnitState::Absent, UnitState::Absent);
    Inside::Up { marker: false, leftovers, bootstrap, reset, log: String::new() }
}

/// Whether something could be begun in the node now: it has its turn, what it joins answers, and there is a place.
fn may_begin(shared: &Shared, subject: &Subject) -> bool {
    let spec = &subject.machine.spec;
    let answers = || shared.api.with(&subject.cluster_uid, |view| view.answers).flatten() == Some(true);
    subject.deleting()
        || spec.turn.is_some()
            && (spec.bootstrap.method == BootstrapMethod::Init || answers())
            && subject.host.places.has_room(&super::place_holder(subject))
}

async fn look_inside(runtime: &dyn Runtime, id: &ContainerId, is_control_plane: bool) -> Result<Inside, String> {
    let marker = runtime.read_file(id, MARKER_PATH).await.map_err(|error| error.to_string())?.is_some();
    if marker {
        let (bootstrap, reset) = (UnitState::Absent, UnitState::Absent);
        return Ok(Inside::Up { marker, leftovers: false, bootstrap, reset, log: String::new() });
    }
    match units::parse_boot(&ask(runtime, id, commands::is_system_running()).await?) {
        Boot::Starting => return Ok(Inside::Booting),
        Boot::Broken => return Ok(Inside::Broken),
        Boot::Done => {}
    }
    let state = async |unit| {
        let shown = ask(runtime, id, commands::show(unit)).await?;
        units::parse_show(&shown).ok_or_else(|| format!("systemd answers {:?}", units::tail(&shown, 1)))
    };
    let bootstrap = state(Unit::Bootstrap).await?;
    if bootstrap == UnitState::Running {
        let reset = UnitState::Absent;
        return Ok(Inside::Up { marker, leftovers: true, bootstrap, reset, log: String::new() });
    }
    let reset = state(Unit::Reset).await?;
    let log = match bootstrap {
        UnitState::Failed { .. } => units::tail(&ask(runtime, id, commands::journal(Unit::Bootstrap)).await?, 5),
        _ => String::new(),
    };
    let exists =
        async |path| Ok::<_, String>(runtime.read_file(id, path).await.map_err(|error| error.to_string())?.is_some());
    let leftovers = is_control_plane && exists(API_SERVER_MANIFEST).await? || exists(KUBELET_CONFIG).await?;
    Ok(Inside::Up { marker, leftovers, bootstrap, reset, log })
}

/// What a command that only asks prints, whatever its exit code.
async fn ask(runtime: &dyn Runtime, id: &ContainerId, command: Vec<String>) -> Result<String, String> {
    let request = ExecRequest { command, stdin: None, timeout: ASK_WITHIN };
    let output = runtime.exec(id, &request).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A node is up and nothing in it says that it was ever a node: whatever is recorded was about another volume.
fn has_lost_its_data(inside: &Inside) -> bool {
    match inside {
        Inside::Up { marker: false, bootstrap: UnitState::Failed { .. }, .. } => true,
        Inside::Up { marker: false, bootstrap: UnitState::Absent, leftovers, .. } => !leftovers,
        _ => false,
    }
}

fn wants_drain(subject: &Subject) -> bool {
    subject.deleting() || subject.machine.spec.turn == Some(Turn::Roll)
}

async fn drain(shared: &Shared, subject: &Subject) -> Drain {
    let Some(client) = shared.api.client(&subject.cluster_uid) else { return Drain::Unknown };
    let since = shared.memory.wished(&subject.uid, "drain");
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={}", subject.name));
    let listed = clusters_api::call("list the pods on", &subject.name, pods.list(&on_node)).await;
    let Ok(listed) = listed else { return Drain::Unknown };
    let left: Vec<&Pod> = listed.items.iter().filter(|pod| has_to_leave(pod)).collect();
    let staying: Vec<&Pod> = left.iter().copied().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    let budgets = if staying.is_empty() { Vec::new() } else { budgets(client, subject).await };
    let name = |pod: &&Pod| (pod.namespace().unwrap_or_default(), pod.name_any());
    Drain::Left {
        // Asking for what is refused would be asked for again at once.
        to_evict: staying.iter().filter(|pod| !budgets.iter().any(|budget| forbids(budget, pod))).map(name).collect(),
        budgets: budgets
            .iter()
            .filter(|budget| staying.iter().any(|pod| forbids(budget, pod)))
            .map(|budget| format!("{}/{}", budget.namespace().unwrap_or_default(), budget.name_any()))
            .collect(),
        count: left.len(),
        overdue: since.elapsed() >= DRAIN_WITHIN,
    }
}

/// The budgets of a cluster. A listing that fails names none: whether a pod may go is for the server to say.
async fn budgets(client: kube::Client, subject: &Subject) -> Vec<PodDisruptionBudget> {
    let budgets: Api<PodDisruptionBudget> = Api::all(client);
    let everything = ListParams::default();
    let listed = clusters_api::call("list the budgets of", &subject.name, budgets.list(&everything)).await;
    listed.map(|listed| listed.items).unwrap_or_default()
}

/// Whether a budget lets a pod not go now, as the eviction of Kubernetes decides it.
fn forbids(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let Some(selector) = selector.and_then(|selector| Selector::try_from(selector).ok()) else { return false };
    if pod.namespace() != budget.namespace() || !selector.matches(pod.labels()) {
        return false;
    }
    let status = pod.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()) == Some("Pending") {
        return false;
    }
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let Some(status) = &budget.status else { return true };
    let count = |count: Option<i32>| count.unwrap_or_default();
    let (current, desired) = (count(status.current_healthy), count(status.desired_healthy));
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    if !ready && (policy == Some("AlwaysAllow") || (current >= desired && desired > 0)) {
        return false;
    }
    count(status.disruptions_allowed) <= 0 || status.observed_generation < budget.metadata.generation
}

/// As `kubectl drain` sees it: DaemonSets would put their pods there again, mirror pods follow the node's own files, and
/// what has ended needs no place.
fn has_to_leave(pod: &Pod) -> bool {
    let daemon = pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node");
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !daemon && !mirror && !matches!(phase, Some("Succeeded" | "Failed"))
}
