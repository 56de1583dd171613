//! Performs a Machine's steps: in order, one effect at a time, each through `effect`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::facts::Peer;
use super::membership;
use super::network;
use super::observe::{Subject, volume_owner};
use super::plan::Step;
use crate::api::cluster::Cni;
use crate::api::defaults::Resolved;
use crate::api::machine::{BootstrapMethod, MachineRole};
use crate::api::{Cluster, Machine, annotations};
use crate::controllers::clusters_api::{CORDONED, call, call_unless_gone};
use crate::controllers::context::Shared;
use crate::controllers::derived::OfCluster;
use crate::controllers::finalizer;
use crate::controllers::forwarding;
use crate::controllers::operations::Handle;
use crate::controllers::retry::{EffectError, with_retries};
use crate::kubeadm::commands::{self, BootstrapCommand};
use crate::kubeadm::etcd::{self, MemberId};
use crate::kubeadm::kubelet::{self, Amount};
use crate::kubeadm::overlay::{self, Peers};
use crate::kubeadm::units::{self, Unit};
use crate::kubeadm::{
    BootstrapToken, CONFIG_PATH, ClusterFacts, DISCOVERY_PATH, KUBELET_PATCH_PATH, NodeConfig, NodeFacts, TaintFacts,
    config, containerd, routed, stored,
};
use crate::runtime::{Cause, ContainerId, ContainerSpec, ExecRequest, NodeFile, Resources, RuntimeError, VolumeSpec};

/// Field manager of what Machines write into their clusters.
const MANAGER: &str = "kina-machine";
/// Longest wait for a command that starts or ends something.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for `kubeadm init` to end, from when the API answers.
const FORMED_WITHIN: Duration = Duration::from_secs(120);
/// What `kubeadm init` makes for those that join.
const CLUSTER_INFO: &str = "cluster-info";
/// So many machines are named among what is reached without a proxy: 70 bytes each, of 128 KiB that one variable may have.
const NAMES_MAX: usize = 500;

/// One effect on the world: everything that a Machine does goes through here.
async fn effect<T, F>(
    handle: &Handle,
    machine: &str,
    step: &'static str,
    call: impl FnMut() -> F,
) -> Result<T, EffectError>
where
    F: Future<Output = Result<T, EffectError>>,
{
    handle.at(step);
    tracing::debug!(machine, step, "effect");
    with_retries(&handle.cancelled, call).await
}

/// Performs all steps, or as far as it goes.
///
/// # Errors
/// The first failure; what was done before it stays done.
pub async fn perform(
    shared: Arc<Shared>,
    subject: Subject,
    steps: Vec<Step>,
    handle: Handle,
) -> Result<(), EffectError> {
    let mut act = Act { shared, subject, handle, made: None };
    for step in steps {
        if act.perform(step).await? == Next::LookAgain {
            return Ok(());
        }
    }
    Ok(())
}

struct Act {
    shared: Arc<Shared>,
    subject: Subject,
    handle: Handle,
    /// The container that an earlier step made.
    made: Option<ContainerId>,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// With the next step.
    Go,
    /// The world is otherwise than planned: the next pass looks again.
    LookAgain,
}

impl Act {
    async fn perform(&mut self, step: Step) -> Result<Next, EffectError> {
        let name = step.name();
        // What was known of the inside of its container counts no more, whatever comes of the step.
        self.shared.memory.touched(&self.subject.uid);
        match step {
            // Images are pulled by an operation of their own, which many machines share.
            Step::PullImage => Ok(Next::LookAgain),
            Step::CreateVolume => self.create_volume(name).await,
            Step::CreateContainer => self.create_container(name).await,
            Step::StartContainer => self.start_container(name).await,
            Step::Connect(peers) => self.connect(name, &peers).await,
            Step::ConfigureContainerd => self.configure_containerd(name).await,
            Step::WriteRoutes => self.write_routes(name).await,
            Step::OpenNetwork => self.open_network(name).await,
            Step::WriteFiles => self.write_files(name).await,
            Step::StartBootstrap => {
                let command = match self.subject.machine.spec.bootstrap.method {
                    BootstrapMethod::Init => BootstrapCommand::Init,
                    BootstrapMethod::Join => BootstrapCommand::Join,
                };
                self.start_unit(name, commands::start_bootstrap(command)).await
            }
            Step::StartReset => {
                network::forget(&self.shared, &self.subject);
                self.start_unit(name, commands::start_reset()).await
            }
            Step::ForgetUnits => self.forget_units(name).await,
            Step::RestartServices(services) => {
                self.run(name, commands::restart(services)).await?;
                self.shared.memory.restarted(&self.subject.uid);
                Ok(Next::Go)
            }
            Step::PatchNode(patch) => self.patch_node(name, patch).await,
            Step::Cordon => {
                let patch = json!({"metadata": {"annotations": {CORDONED: "true"}}, "spec": {"unschedulable": true}});
                self.patch_node(name, patch).await
            }
            Step::Uncordon => {
                let patch = json!({"metadata": {"annotations": {CORDONED: null}}, "spec": {"unschedulable": null}});
                self.patch_node(name, patch).await
            }
            Step::Evict(pods) => self.evict(name, pods).await,
            Step::RemoveMember { member, via, for_good } => self.remove_member(name, member, &via, for_good).await,
            Step::DeleteNode(uid) => self.delete_node(name, uid).await,
            Step::RemoveContainer => self.remove_container(name).await,
            Step::RemoveVolume => self.remove_volume(name).await,
            Step::RemoveFinalizer => self.remove_finalizer(name).await,
        }
    }

    async fn create_volume(&self, step: &'static str) -> Result<Next, EffectError> {
        let mut labels = volume_owner(&self.subject.owner).to_labels();
        labels.extend(super::container::node_labels(&self.subject.machine));
        let spec = VolumeSpec { name: self.subject.name.clone(), labels };
        let runtime = &self.subject.host.runtime;
        let made = effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.create_volume(&spec).await?) });
        taken_is_seen_later(made.await)
    }

    async fn create_container(&mut self, step: &'static str) -> Result<Next, EffectError> {
        let runtime = &self.subject.host.runtime;
        let wanted = self.with_proxies();
        let made =
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.create_container(&wanted).await?) })
                .await;
        match made {
            Ok(id) => {
                self.made = Some(id);
                Ok(Next::Go)
            }
            Err(error) => {
                if cause(&error) == Some(Cause::NotFound) {
                    self.shared.memory.image_missing(self.subject.machine.spec.runtime.as_str(), &wanted.image);
                }
                taken_is_seen_later(Err(error))
            }
        }
    }

    /// The container it asks for, with the host's proxies as they are now. The hash in its labels is without them: a host
    /// whose proxies change is no reason to make nodes anew.
    fn with_proxies(&self) -> ContainerSpec {
        let mut wanted = self.subject.wanted.clone();
        let cluster = &self.subject.machine.spec.cluster;
        let machines = self.shared.machines.of(cluster).into_iter().take(NAMES_MAX).map(|machine| machine.name_any());
        if let Some(OfCluster { resolved, .. }) = self.subject.of_cluster.as_deref() {
            let names = std::iter::once(format!("{cluster}-lb")).chain(machines);
            wanted.environment.extend(self.shared.context.runtimes.proxies.environment(resolved, names));
        }
        wanted
    }

    async fn start_container(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::LookAgain) };
        let runtime = &self.subject.host.runtime;
        let name = &self.subject.name;
        let mut files: Vec<NodeFile> = self.reservation(step).await?.into_iter().collect();
        if let Some(address) = self.subject.overlay_address() {
            files.extend(overlay::node_files(address).into_iter().map(|(path, content)| readable(path, content)));
        }
        if let Some(book) = network::book(&self.shared, &self.subject) {
            files.extend(network_files(&book.of(name)));
        }
        network::forget(&self.shared, &self.subject);
        if !files.is_empty() {
            effect(&self.handle, name, step, || async { Ok(runtime.copy_in(&id, &files).await?) }).await?;
        }
        effect(&self.handle, name, step, || async { Ok(runtime.start_container(&id).await?) }).await?;
        Ok(Next::Go)
    }

    /// Everything that restores the routes when the node starts is written as well: an earlier Kina wrote it otherwise.
    async fn write_routes(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::LookAgain) };
        // As it is now: the plan's own may have changed since.
        let Some(book) = network::book(&self.shared, &self.subject) else { return Ok(Next::LookAgain) };
        let (runtime, name) = (&self.subject.host.runtime, &self.subject.name);
        let text = book.of(name);
        // The command writes the book itself, once it is read as a whole.
        let mut files = network_files(&text);
        files.retain(|file| file.path != routed::BOOK_PATH);
        effect(&self.handle, name, step, || async { Ok(runtime.copy_in(&id, &files).await?) }).await?;
        self.run_with(step, routed::set(), Some(text.into_bytes())).await?;
        network::told(&self.shared, &self.subject, &id, &book);
        Ok(Next::Go)
    }

    async fn open_network(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::LookAgain) };
        let peers = network::peers(&self.shared, &self.subject);
        let names: String = peers.iter().map(|peer| format!("{}\n", peer.name)).collect();
        self.run_with(step, routed::open(), Some(names.into_bytes())).await?;
        network::opened(&self.shared, &self.subject, &id);
        Ok(Next::Go)
    }

    /// What tells the kubelet how much of the host is not its own, where its container has limits.
    async fn reservation(&self, step: &'static str) -> Result<Option<NodeFile>, EffectError> {
        let Resources { cpu_millis, memory_bytes } = self.subject.wanted.resources;
        if cpu_millis.is_none() && memory_bytes.is_none() {
            return Ok(None);
        }
        let runtime = &self.subject.host.runtime;
        let host = effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.info().await?) }).await?;
        let host = Amount { cpu_millis: host.cpus * 1_000, memory_bytes: host.memory_bytes };
        let file = |reserved| readable(kubelet::DROP_IN_PATH, kubelet::drop_in(reserved));
        Ok(kubelet::reserved(host, cpu_millis, memory_bytes).map(file))
    }

    async fn connect(&self, step: &'static str, peers: &Peers) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::LookAgain) };
        self.run_with(step, overlay::command(), Some(overlay::text(peers).into_bytes())).await?;
        forwarding::told(&self.shared.memory, &self.subject.uid, &id, peers);
        Ok(Next::Go)
    }

    /// The container of ours: the one just made, or the one that the last listing shows.
    fn id(&self) -> Option<ContainerId> {
        self.made.clone().or_else(|| self.subject.container().map(|container| container.id.clone()))
    }

    /// Brings containerd's configuration and what it knows of registries to what is wanted, and says so in the node: whoever
    /// is stopped in between begins again with the image's. containerd is restarted only where its own configuration is to
    /// be another; registries it looks up whenever it pulls.
    async fn configure_containerd(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::LookAgain) };
        let (runtime, name, spec) = (&self.subject.host.runtime, &self.subject.name, &self.subject.machine.spec);
        let registries = spec.registries.as_deref().unwrap_or_default();
        let read = async |path: &'static str| {
            effect(&self.handle, name, step, || async { Ok(runtime.read_file(&id, path).await?) }).await
        };
        let write = async |files: Vec<NodeFile>| {
            effect(&self.handle, name, step, || async { Ok(runtime.copy_in(&id, &files).await?) }).await
        };
        let file = |path: &str, content: Vec<u8>| NodeFile { path: path.to_owned(), mode: 0o644, content };
        let local = |source: Box<dyn std::error::Error + Send + Sync>| EffectError::Local {
            operation: "configure containerd of",
            object: name.clone(),
            source,
        };
        let missing = || local(format!("the node image has no {}", containerd::CONFIG_PATH).into());
        let now = read(containerd::CONFIG_PATH).await?.ok_or_else(missing)?;
        let original = match read(containerd::ORIGINAL_PATH).await? {
            Some(original) => original,
            None => {
                write(vec![file(containerd::ORIGINAL_PATH, now.clone())]).await?;
                now.clone()
            }
        };
        let text = containerd::patched(&String::from_utf8_lossy(&original), &spec.containerd);
        let text =
            text.and_then(|text| if registries.is_empty() { Ok(text) } else { containerd::with_registries(&text) });
        let text = text.map_err(|error| local(Box::new(error)))?;
        let before = read(containerd::MARKER_PATH).await?.map(|found| containerd::Marker::parse(&found));
        // Without a marker nothing was changed yet; without a hash it is not known what containerd was started with.
        let is_started = before.as_ref().is_none_or(|before| !before.hash.is_empty());
        let earlier = before.map(|before| before.registries).unwrap_or_default();
        let described = registries.iter().flat_map(containerd::registry_files);
        let files: Vec<NodeFile> = described.map(|(path, content)| file(&path, content.into_bytes())).collect();
        let unwanted = earlier.iter().flat_map(|host| containerd::registry_paths(host));
        let unwanted: Vec<String> = unwanted.filter(|path| files.iter().all(|file| file.path != *path)).collect();
        let hosts: Vec<String> = registries.iter().map(|registry| registry.host.clone()).collect();
        let mark = |hash: String, registries: Vec<String>| {
            let marker = containerd::Marker { hash, registries };
            vec![file(containerd::MARKER_PATH, marker.to_string().into_bytes())]
        };
        // What is begun is known before it is there: whoever goes on takes it back, or brings it to an end.
        write(mark(String::new(), [earlier, hosts.clone()].concat())).await?;
        if !files.is_empty() {
            write(files).await?;
        }
        if !unwanted.is_empty() {
            self.run(step, commands::remove_files(&unwanted)).await?;
        }
        if !is_started || !containerd::is_same(&text, &String::from_utf8_lossy(&now)) {
            write(vec![file(containerd::CONFIG_PATH, text.into_bytes())]).await?;
            self.run(step, commands::restart(&[containerd::SERVICE])).await?;
        }
        write(mark(super::container::containerd_settings_hash(spec), hosts)).await?;
        Ok(Next::Go)
    }

    async fn write_files(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::LookAgain) };
        self.handle.at(step);
        let files = self.files().await?;
        let runtime = &self.subject.host.runtime;
        effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.copy_in(&id, &files).await?) }).await?;
        Ok(Next::Go)
    }

    async fn files(&self) -> Result<Vec<NodeFile>, EffectError> {
        let machine = &self.subject.machine;
        let local = |source: Box<dyn std::error::Error + Send + Sync>| EffectError::Local {
            operation: "write the configuration of",
            object: self.subject.name.clone(),
            source,
        };
        let known = self.subject.cluster.as_deref().and_then(|cluster| facts(cluster, machine));
        let Some((cluster, node, members)) = known else { return Err(EffectError::Cancelled) };
        let pki = self.shared.certificates(&self.subject.owner.cluster_uid)?;
        let file =
            |path: &str, text: String| NodeFile { path: path.to_owned(), mode: 0o600, content: text.into_bytes() };
        let mut files = Vec::new();
        let text = match machine.spec.bootstrap.method {
            BootstrapMethod::Init => config::init_file(&cluster, &node, &members),
            BootstrapMethod::Join => {
                self.nodes_may_join().await?;
                if machine.spec.role == MachineRole::ControlPlane {
                    self.forget_first_members().await?;
                }
                let token = self.new_token().await?;
                files.push(file(DISCOVERY_PATH, config::discovery(&cluster, &token, &pki.ca.certificate)));
                config::join_file(&cluster, &node)
            }
        };
        let NodeConfig { text, kubelet_patch } = text.map_err(|error| local(Box::new(error)))?;
        files.push(file(CONFIG_PATH, text));
        files.extend(kubelet_patch.map(|patch| file(KUBELET_PATCH_PATH, patch)));
        if machine.spec.role == MachineRole::ControlPlane {
            files.extend(pki.node_files().into_iter().map(|(path, mode, content)| NodeFile {
                path: path.to_owned(),
                mode,
                content: content.as_bytes().to_vec(),
            }));
        }
        Ok(files)
    }

    /// Waits until `kubeadm init` has come so far: a token opens nothing before. `cluster-info` is the last that it makes for
    /// those that join but for who may read it (`cmd/kubeadm/app/cmd/phases/init/bootstraptoken.go`).
    async fn nodes_may_join(&self) -> Result<(), EffectError> {
        let (operation, name) = ("wait for kubeadm init before", &self.subject.name);
        let maps: Api<ConfigMap> = Api::namespaced(self.client()?, "kube-public");
        if call(operation, name, maps.get_metadata_opt(CLUSTER_INFO)).await?.is_some() {
            return Ok(());
        }
        let failed = |source| EffectError::Local { operation, object: name.clone(), source };
        tokio::select! {
            biased;
            () = self.handle.cancelled.cancelled() => Err(EffectError::Cancelled),
            found = await_condition(maps, CLUSTER_INFO, |map: Option<&ConfigMap>| map.is_some()) => {
                found.map(drop).map_err(|error| failed(Box::new(error)))
            }
            () = tokio::time::sleep(FORMED_WITHIN) => {
                Err(failed(format!("it has made no {CLUSTER_INFO} within {} s", FORMED_WITHIN.as_secs()).into()))
            }
        }
    }

    /// Takes out of what `kubeadm init` stored what the first members of etcd were told: others would not start with it.
    async fn forget_first_members(&self) -> Result<(), EffectError> {
        let (operation, name) = ("look at what kubeadm stored before", &self.subject.name);
        let maps: Api<ConfigMap> = Api::namespaced(self.client()?, "kube-system");
        let Some(map) = call(operation, name, maps.get_opt(stored::CONFIG_MAP)).await? else { return Ok(()) };
        let document = map.data.as_ref().and_then(|data| data.get(stored::KEY));
        let without = document.map(|document| stored::without_first_members(document)).transpose();
        let failed = |source| EffectError::Local { operation, object: name.clone(), source: Box::new(source) };
        let Some(document) = without.map_err(failed)?.flatten() else { return Ok(()) };
        let version = map.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "data": { stored::KEY: document } });
        let patch = Patch::Merge(&patch);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = maps.patch(stored::CONFIG_MAP, &params, &patch);
        call("change what kubeadm stored before", name, patched).await.map(drop)
    }

    /// A token that is valid for this join alone, for a while.
    async fn new_token(&self) -> Result<BootstrapToken, EffectError> {
        let client = self.client()?;
        let token = BootstrapToken::generate().ok_or_else(|| EffectError::Local {
            operation: "make a token for",
            object: self.subject.name.clone(),
            source: "the host gives no random numbers".into(),
        })?;
        let secret: Secret =
            serde_json::from_value(token.secret(self.shared.context.world.clock.now())).map_err(|error| {
                EffectError::api("make a token for", &self.subject.name, kube::Error::SerdeError(error))
            })?;
        let secrets: Api<Secret> = Api::namespaced(client, "kube-system");
        call("make a token for", &self.subject.name, secrets.create(&PostParams::default(), &secret)).await?;
        Ok(token)
    }

    async fn start_unit(&self, step: &'static str, command: Vec<String>) -> Result<Next, EffectError> {
        match self.run(step, command).await {
            // It runs already: started by an earlier attempt whose answer was lost.
            Err(EffectError::Command { message, .. }) if message.contains("was already loaded") => Ok(Next::Go),
            result => result.map(|_| Next::Go),
        }
    }

    /// A failed unit is forgotten by one command, one that remained by the other; neither matters where there is none.
    async fn forget_units(&self, step: &'static str) -> Result<Next, EffectError> {
        for unit in [Unit::Bootstrap, Unit::Reset] {
            for command in [commands::stop(unit), commands::reset_failed(unit)] {
                match self.run(step, command).await {
                    Ok(()) | Err(EffectError::Command { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Next::Go)
    }

    async fn remove_member(
        &self,
        step: &'static str,
        member: MemberId,
        via: &Peer,
        for_good: bool,
    ) -> Result<Next, EffectError> {
        let (command, what) = (etcd::remove_member(&via.name, member), "etcdctl member remove");
        match self.run_in((&via.name, &via.container), step, what, command, None).await {
            Ok(()) => {}
            // By an earlier attempt whose answer was lost.
            Err(EffectError::Command { message, .. }) if message.contains(etcd::NOT_FOUND) => {}
            Err(error) => return Err(error),
        }
        if for_good {
            membership::left(&self.shared, &self.subject);
        }
        Ok(Next::Go)
    }

    async fn run(&self, step: &'static str, command: Vec<String>) -> Result<(), EffectError> {
        self.run_with(step, command, None).await
    }

    async fn run_with(
        &self,
        step: &'static str,
        command: Vec<String>,
        stdin: Option<Vec<u8>>,
    ) -> Result<(), EffectError> {
        let Some(id) = self.id() else { return Err(EffectError::Cancelled) };
        let words: Vec<&str> = command.iter().map(String::as_str).take(2).collect();
        let what = words.join(" ");
        self.run_in((&self.subject.name, &id), step, &what, command, stdin).await
    }

    /// Runs a command in a node, its own or another one.
    async fn run_in(
        &self,
        (node, id): (&str, &ContainerId),
        step: &'static str,
        what: &str,
        command: Vec<String>,
        stdin: Option<Vec<u8>>,
    ) -> Result<(), EffectError> {
        let runtime = &self.subject.host.runtime;
        let request = ExecRequest { command, stdin, timeout: COMMAND_WITHIN };
        let output =
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.exec(id, &request).await?) }).await?;
        if output.code == 0 {
            return Ok(());
        }
        let wrote = [output.stderr, output.stdout].concat();
        Err(EffectError::Command {
            command: what.to_owned(),
            node: node.to_owned(),
            code: output.code,
            message: units::tail(&String::from_utf8_lossy(&wrote), 3),
        })
    }

    async fn patch_node(&self, step: &'static str, patch: serde_json::Value) -> Result<Next, EffectError> {
        let nodes: Api<Node> = Api::all(self.client()?);
        let name = &self.subject.name;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let changed = effect(&self.handle, name, step, || {
            call_unless_gone("change the Node", name, nodes.patch(name, &params, &patch))
        })
        .await?;
        if let Some(node) = changed {
            self.shared.api.wrote(&self.subject.cluster_uid, &node);
        }
        Ok(Next::Go)
    }

    async fn evict(&self, step: &'static str, pods: Vec<(String, String)>) -> Result<Next, EffectError> {
        let client = self.client()?;
        for (namespace, name) in pods {
            let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let evicted = effect(&self.handle, &self.subject.name, step, || {
                call("evict", &name, async {
                    match api.evict(&name, &EvictParams::default()).await {
                        // 429: a budget forbids it for now; the next pass asks again.
                        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => Ok(()),
                        result => result.map(|_| ()),
                    }
                })
            });
            evicted.await?;
        }
        Ok(Next::Go)
    }

    async fn delete_node(&self, step: &'static str, uid: Option<String>) -> Result<Next, EffectError> {
        let nodes: Api<Node> = Api::all(self.client()?);
        let name = &self.subject.name;
        let very_one = uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions: very_one, ..DeleteParams::default() };
        let deleted =
            effect(&self.handle, name, step, || call_unless_gone("delete the Node", name, nodes.delete(name, &params)))
                .await?;
        // One that is only marked waits for somebody's finalizer, and is there still.
        if let Some(uid) = uid
            && deleted.is_none_or(|answer| answer.is_right())
        {
            self.shared.api.deleted(&self.subject.cluster_uid, name, &uid);
        }
        Ok(Next::Go)
    }

    async fn remove_container(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.id() else { return Ok(Next::Go) };
        let runtime = &self.subject.host.runtime;
        let removed =
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.remove_container(&id).await?) });
        gone_is_good(removed.await)
    }

    async fn remove_volume(&self, step: &'static str) -> Result<Next, EffectError> {
        let runtime = &self.subject.host.runtime;
        let name = &self.subject.name;
        gone_is_good(effect(&self.handle, name, step, || async { Ok(runtime.remove_volume(name).await?) }).await)
    }

    async fn remove_finalizer(&self, step: &'static str) -> Result<Next, EffectError> {
        let machines: Api<Machine> = Api::all(self.shared.context.client.clone());
        let machine = &self.subject.machine;
        let left = effect(&self.handle, &self.subject.name, step, || {
            finalizer::remove(&machines, &**machine, annotations::MACHINE_FINALIZER)
        })
        .await?;
        self.shared.machines.left(machine, left);
        self.shared.waker.clusters.wake(&machine.spec.cluster);
        Ok(Next::Go)
    }

    fn client(&self) -> Result<kube::Client, EffectError> {
        self.shared.api.client(&self.subject.cluster_uid).ok_or(EffectError::Cancelled)
    }
}

fn readable(path: &str, content: String) -> NodeFile {
    NodeFile { path: path.to_owned(), mode: 0o644, content: content.into_bytes() }
}

fn network_files(book: &str) -> Vec<NodeFile> {
    let file = |(path, mode, content): (&str, u32, String)| NodeFile {
        path: path.to_owned(),
        mode,
        content: content.into_bytes(),
    };
    routed::files(book).into_iter().map(file).collect()
}

fn cause(error: &EffectError) -> Option<Cause> {
    match error {
        EffectError::Runtime(RuntimeError { cause, .. }) => Some(*cause),
        _ => None,
    }
}

/// A name that is taken may be taken by ourselves, in an attempt whose answer was lost: the next listing tells.
fn taken_is_seen_later(result: Result<(), EffectError>) -> Result<Next, EffectError> {
    match result {
        Ok(()) => Ok(Next::Go),
        Err(error) if cause(&error) == Some(Cause::AlreadyExists) => Ok(Next::LookAgain),
        Err(error) => Err(error),
    }
}

fn gone_is_good(result: Result<(), EffectError>) -> Result<Next, EffectError> {
    match result {
        Err(error) if cause(&error) == Some(Cause::NotFound) => Ok(Next::Go),
        result => result.map(|()| Next::Go),
    }
}

/// What kubeadm is told of a cluster and a machine, and the first members of etcd.
fn facts(cluster: &Cluster, machine: &Machine) -> Option<(ClusterFacts, NodeFacts, BTreeMap<String, IpAddr>)> {
    let spec = Resolved::of(&cluster.spec)?;
    let name = cluster.metadata.name.clone()?;
    let endpoint = super::container::endpoint_address(&machine.spec)?;
    let addresses = spec.addresses(machine.spec.address.parse().ok()?);
    // etcd speaks over the address that the API server has, which kubeadm takes for both.
    let primary = |(name, address): (&String, &String)| {
        let all = spec.addresses(address.parse().ok()?);
        Some((name.clone(), *all.first()?))
    };
    let members = machine.spec.bootstrap.members.iter().map(primary).collect::<Option<_>>()?;
    let cluster = ClusterFacts {
        endpoint_host: format!("{name}-lb"),
        endpoint_addresses: spec.all_addresses(endpoint),
        host_address: spec.endpoint.ip().to_string(),
        name,
        version: spec.version.to_string(),
        ip_family: spec.ip_family,
        pod_subnet: spec.pod_subnet.to_string(),
        service_subnet: spec.service_subnet.to_string(),
        gives_ranges: spec.cni == Cni::Routed,
        components: spec.components,
    };
    let taints = machine.spec.taints.iter().map(|taint| TaintFacts {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: format!("{:?}", taint.effect),
    });
    let node = NodeFacts {
        name: machine.metadata.name.clone()?,
        addresses,
        control_plane: machine.spec.role == MachineRole::ControlPlane,
        labels: machine.spec.labels.clone(),
        taints: taints.collect(),
        runtime: machine.spec.runtime.as_str().to_owned(),
        patches: match machine.spec.role {
            MachineRole::ControlPlane => cluster.components.control_plane.clone(),
            MachineRole::Worker => cluster.components.workers.get(&machine.spec.pool).cloned().unwrap_or_default(),
        },
    };
    Some((cluster, node, members))
}
