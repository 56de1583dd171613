//! Performs a Cluster's steps: in order, one effect at a time, each through `effect`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use super::balancer;
use super::facts::Left;
use super::observe::Subject;
use super::plan::Step;
use super::reach;
use crate::api::machine::MachineRole;
use crate::api::{API_VERSION, Cluster, Machine, MachineSpec, annotations};
use crate::controllers::context::Shared;
use crate::controllers::finalizer;
use crate::controllers::forwarding;
use crate::controllers::host::{Host, Seen, container};
use crate::controllers::identity;
use crate::controllers::machine::container::LOAD_BALANCER_INDEX;
use crate::controllers::operations::Handle;
use crate::controllers::retry::{EffectError, with_retries};
use crate::kubeadm::overlay::{self, Peers};
use crate::kubeadm::units;
use crate::runtime::{Cause, ContainerId, ExecRequest, RuntimeError};

/// Longest wait for the load balancer to take where the machines are.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// One effect on the world: everything that a Cluster does goes through here.
pub(super) async fn effect<T, F>(
    handle: &Handle,
    cluster: &str,
    step: &'static str,
    call: impl FnMut() -> F,
) -> Result<T, EffectError>
where
    F: Future<Output = Result<T, EffectError>>,
{
    handle.at(step);
    tracing::debug!(cluster, step, "effect");
    with_retries(&handle.cancelled, call).await
}

/// Writes one record into Kina's own API.
///
/// # Errors
/// What the API says. A record that is as wished already is no error.
pub async fn record(shared: &Shared, subject: &Subject, step: &Step) -> Result<(), EffectError> {
    tracing::debug!(cluster = subject.name, step = step.name(), "record");
    let machines: Api<Machine> = Api::all(shared.context.client.clone());
    match step {
        Step::RecordReach(runtimes) => {
            let annotations = json!({ annotations::RUNTIMES: reach::text(runtimes) });
            let patch = json!({ "metadata": { "uid": subject.uid, "annotations": annotations } });
            let clusters: Api<Cluster> = Api::all(shared.context.client.clone());
            let patched = clusters.patch(&subject.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            let patched = patched.map_err(|error| EffectError::api("record the runtimes of", &subject.name, error))?;
            shared.clusters.wrote(patched);
            Ok(())
        }
        Step::CreateMachine(name, spec) => create_machine(shared, subject, &machines, name, spec).await,
        Step::UpdateMachine(name, uid, spec) => {
            let patch = json!([
                { "op": "test", "path": "/metadata/uid", "value": uid },
                { "op": "replace", "path": "/spec", "value": spec },
            ]);
            let patch: json_patch::Patch = serde_json::from_value(patch)
                .map_err(|error| EffectError::api("update machine", name, kube::Error::SerdeError(error)))?;
            match machines.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
                Ok(machine) => shared.machines.wrote(machine),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(EffectError::api("update machine", name, error)),
            }
            Ok(())
        }
        Step::DeleteMachine(name, uid) => {
            let deleted = machines.delete(name, &very_one(uid)).await;
            match deleted {
                // An object with a finalizer is returned as it is then.
                Ok(found) => {
                    found.map_left(|machine| shared.machines.wrote(machine)).map_right(|_| ()).either(|()| (), |()| ())
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(EffectError::api("delete machine", name, error)),
            }
            Ok(())
        }
        Step::Expire => {
            let clusters: Api<Cluster> = Api::all(shared.context.client.clone());
            match clusters.delete(&subject.name, &very_one(&subject.uid)).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                Err(error) => Err(EffectError::api("delete cluster", &subject.name, error)),
            }
        }
        _ => Ok(()),
    }
}

fn very_one(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

async fn create_machine(
    shared: &Shared,
    subject: &Subject,
    machines: &Api<Machine>,
    name: &str,
    spec: &MachineSpec,
) -> Result<(), EffectError> {
    let mut machine = Machine::new(name, spec.clone());
    let role = match spec.role {
        MachineRole::ControlPlane => "control-plane",
        MachineRole::Worker => "worker",
    };
    machine.metadata.labels = Some(BTreeMap::from([
        (annotations::CLUSTER_LABEL.to_owned(), subject.name.clone()),
        (annotations::POOL_LABEL.to_owned(), spec.pool.clone()),
        (annotations::ROLE_LABEL.to_owned(), role.to_owned()),
    ]));
    let of_cluster = subject.of_cluster.as_ref();
    let fingerprint = of_cluster.map(|of_cluster| identity::of_pool(of_cluster, &spec.pool)).unwrap_or_default();
    machine.metadata.annotations = Some(BTreeMap::from([(identity::FINGERPRINT.to_owned(), fingerprint)]));
    machine.metadata.finalizers = Some(vec![annotations::MACHINE_FINALIZER.to_owned()]);
    machine.metadata.owner_references = Some(vec![OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "Cluster".to_owned(),
        name: subject.name.clone(),
        uid: subject.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    match machines.create(&PostParams::default(), &machine).await {
        Ok(made) => shared.machines.wrote(made),
        // Made by an attempt whose answer was lost, or there still from before: the watch tells which.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(EffectError::api("create machine", name, error)),
    }
    Ok(())
}

/// Performs all steps on the host, or as far as it goes.
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
    /// The load balancer that an earlier step made.
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
        match step {
            Step::MakeCertificates => self.shared.make_certificates(&self.subject.owner.cluster_uid).map(|()| Next::Go),
            Step::CreateNetwork => self.create_network(name).await,
            Step::CreateBalancer => self.create_balancer(name).await,
            Step::WriteBackends => self.write_backends(name).await,
            Step::Connect(peers) => self.connect(name, &peers).await,
            Step::StartBalancer => self.start_balancer(name).await,
            Step::RemoveBalancer => match self.balancer() {
                Some(id) => self.remove_container(name, &id).await,
                None => Ok(Next::Go),
            },
            Step::RemoveNetwork => self.remove_network(name).await,
            Step::RemoveLeft(left) => self.remove_left(name, &left).await,
            Step::RemoveCertificates => {
                self.shared.remove_certificates(&self.subject.owner.cluster_uid).map(|()| Next::Go)
            }
            Step::RemoveFinalizer => {
                let clusters: Api<Cluster> = Api::all(self.shared.context.client.clone());
                let cluster = &self.subject.cluster;
                let left = effect(&self.handle, &self.subject.name, name, || {
                    finalizer::remove(&clusters, &**cluster, annotations::CLUSTER_FINALIZER)
                })
                .await?;
                self.shared.clusters.left(cluster, left);
                Ok(Next::Go)
            }
            // Records are written by the pass itself; images, addons and contexts have operations of their own.
            Step::PullImage
            | Step::ApplyAddons
            | Step::CompareAddons
            | Step::WriteContext
            | Step::RecordReach(_)
            | Step::CreateMachine(..)
            | Step::UpdateMachine(..)
            | Step::DeleteMachine(..)
            | Step::Expire => Ok(Next::Go),
        }
    }

    fn host(&self) -> Result<&Arc<Host>, EffectError> {
        self.subject.host(&self.shared).ok_or(EffectError::Cancelled)
    }

    async fn create_network(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(spec) = self.subject.resolved() else { return Ok(Next::LookAgain) };
        let runtime = &self.host()?.runtime;
        let pins = runtime.capabilities().pins_addresses;
        let network = balancer::network(&self.subject.name, spec, &self.subject.owner, pins);
        let made =
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.create_network(&network).await?) })
                .await;
        taken_is_seen_later(made)
    }

    async fn create_balancer(&mut self, step: &'static str) -> Result<Next, EffectError> {
        let Some(spec) = self.subject.resolved() else { return Ok(Next::LookAgain) };
        let wanted = balancer::wanted(&self.subject.name, spec, &self.subject.owner);
        let runtime = Arc::clone(&self.host()?.runtime);
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
                    self.shared.memory.image_missing(spec.runtime.as_str(), &wanted.image);
                }
                taken_is_seen_later(Err(error))
            }
        }
    }

    fn balancer(&self) -> Option<ContainerId> {
        if let Some(id) = &self.made {
            return Some(id.clone());
        }
        let Seen::Known(listing) = self.host().ok()?.seen() else { return None };
        let name = format!("{}-lb", self.subject.name);
        container(&listing, &name, &self.subject.owner).ours().map(|container| container.id.clone())
    }

    async fn write_backends(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.balancer() else { return Ok(Next::LookAgain) };
        // As they are now: the plan's own records may have been written since.
        let Some(now) = Subject::of(&self.shared, Arc::clone(&self.subject.cluster)) else {
            return Ok(Next::LookAgain);
        };
        let backends = balancer::backends(now.machines.iter().map(|machine| &**machine));
        let runtime = &self.host()?.runtime;
        let address = now.resolved().and_then(|spec| spec.node_subnet.address(LOAD_BALANCER_INDEX.into()));
        let stays = address.filter(|_| !runtime.capabilities().pins_addresses);
        let files = balancer::files(&backends, stays);
        effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.copy_in(&id, &files).await?) }).await?;
        self.shared.memory.keep_text(&self.subject.uid, "backends", &now.backends_hash(&id.to_string()));
        Ok(Next::Go)
    }

    async fn connect(&self, step: &'static str, peers: &Peers) -> Result<Next, EffectError> {
        let Some(id) = self.balancer() else { return Ok(Next::LookAgain) };
        let runtime = &self.host()?.runtime;
        let stdin = Some(overlay::text(peers).into_bytes());
        let request = ExecRequest { command: overlay::command(), stdin, timeout: CONNECT_WITHIN };
        let name = format!("{}-lb", self.subject.name);
        let output =
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.exec(&id, &request).await?) });
        let output = output.await?;
        if output.code != 0 {
            let message = units::tail(&String::from_utf8_lossy(&output.stderr), 3);
            let command = "tell where the machines are".to_owned();
            return Err(EffectError::Command { command, node: name, code: output.code, message });
        }
        forwarding::told(&self.shared.memory, &self.subject.uid, &id, peers);
        Ok(Next::Go)
    }

    async fn start_balancer(&self, step: &'static str) -> Result<Next, EffectError> {
        let Some(id) = self.balancer() else { return Ok(Next::LookAgain) };
        let runtime = &self.host()?.runtime;
        effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.start_container(&id).await?) }).await?;
        Ok(Next::Go)
    }

    async fn remove_container(&self, step: &'static str, id: &ContainerId) -> Result<Next, EffectError> {
        let runtime = &self.host()?.runtime;
        gone_is_good(
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.remove_container(id).await?) }).await,
        )
    }

    async fn remove_network(&self, step: &'static str) -> Result<Next, EffectError> {
        let name = format!("kina-{}", self.subject.name);
        let runtime = &self.host()?.runtime;
        gone_is_good(
            effect(&self.handle, &self.subject.name, step, || async { Ok(runtime.remove_network(&name).await?) }).await,
        )
    }

    /// Only what carries the Cluster's UID and this installation is ever found as left.
    async fn remove_left(&self, step: &'static str, left: &Left) -> Result<Next, EffectError> {
        let Some(host) = self.shared.host(left.runtime) else { return Ok(Next::LookAgain) };
        let runtime = &host.runtime;
        let removed = effect(&self.handle, &self.subject.name, step, || async {
            match left.kind {
                "container" => {
                    let Seen::Known(listing) = host.seen() else { return Ok(()) };
                    let ours = listing.containers.iter().filter(|container| {
                        container.name == left.name
                            && container.owner().is_some_and(|owner| {
                                owner.installation == self.subject.owner.installation
                                    && owner.cluster_uid == self.subject.owner.cluster_uid
                            })
                    });
                    for container in ours {
                        runtime.remove_container(&container.id).await?;
                    }
                    Ok(())
                }
                "volume" => Ok(runtime.remove_volume(&left.name).await?),
                _ => Ok(runtime.remove_network(&left.name).await?),
            }
        });
        gone_is_good(removed.await)
    }
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
