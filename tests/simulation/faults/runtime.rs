//! The container runtime behind the gate.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use kina::kubeadm::commands;
use kina::runtime::connect::{ApiService, service_of};
use kina::runtime::sim::SimRuntime;
use kina::runtime::{
    Capabilities, Cause, ClusterAccess, ClusterConnector, ConnectError, ContainerId, ContainerSpec, ExecOutput,
    ExecRequest, Image, Listing, NetworkSpec, NodeFile, Runtime, RuntimeError, RuntimeInfo, VolumeSpec,
};
use tokio::time::Instant;

use super::effect::Effect;
use super::gate::{Failure, Life};
use super::http::{Gated, Side};

#[derive(Debug)]
pub struct GatedRuntime {
    pub life: Life,
    pub inner: Arc<dyn Runtime>,
    /// To look at the world without asking.
    pub simulator: Arc<SimRuntime>,
    /// What a lying list shows.
    pub previous: Mutex<Option<Listing>>,
}

fn failed(operation: &'static str, object: &str) -> impl Fn(Failure) -> RuntimeError {
    move |failure| {
        let cause = match failure {
            Failure::Refused => Cause::Unavailable,
            Failure::TimedOut => Cause::Timeout,
            Failure::Full => Cause::Exhausted,
            Failure::Lost | Failure::Dead => Cause::Unknown,
        };
        RuntimeError::new(operation, object, cause, format!("injected: {failure:?}"))
    }
}

impl GatedRuntime {
    fn name_of(&self, id: &ContainerId) -> String {
        let listing = self.simulator.hands().listing();
        let found = listing.containers.into_iter().find(|container| container.id == *id);
        found.map_or_else(|| "(gone)".to_owned(), |container| container.name.clone())
    }

    fn look(&self) -> Listing {
        self.simulator.hands().listing()
    }
}

#[async_trait]
impl Runtime for GatedRuntime {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        self.life.perform(Effect::Info, "", failed("info", ""), None, || self.inner.info()).await
    }

    async fn list(&self) -> Result<Listing, RuntimeError> {
        let lie = async {
            let previous = self.previous.lock().unwrap().clone();
            match previous {
                Some(previous) => Ok(Listing { began: Instant::now(), ..previous }),
                None => self.inner.list().await,
            }
        };
        let listed = self.life.perform(Effect::List, "", failed("list", ""), Some(lie.boxed()), || self.inner.list());
        let listing = listed.await?;
        // When the runtime looked, which may be long after it was asked to.
        self.life.gate.oracle.listed(listing.began);
        *self.previous.lock().unwrap() = Some(listing.clone());
        Ok(listing)
    }

    fn events(&self) -> BoxStream<'static, ()> {
        self.inner.events()
    }

    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError> {
        self.life
            .perform(Effect::EnsureImage, image, failed("pull image", image), None, || self.inner.ensure_image(image))
            .await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        let name = &spec.name;
        self.life
            .perform(Effect::CreateNetwork, name, failed("create network", name), None, || {
                self.inner.create_network(spec)
            })
            .await
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        let act = || {
            self.life.gate.oracle.removes_network(&self.look(), name);
            self.inner.remove_network(name)
        };
        let lie = async { Ok(()) }.boxed();
        self.life.perform(Effect::RemoveNetwork, name, failed("remove network", name), Some(lie), act).await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError> {
        let name = &spec.name;
        self.life
            .perform(Effect::CreateVolume, name, failed("create volume", name), None, || self.inner.create_volume(spec))
            .await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        let act = || {
            self.life.gate.oracle.removes_volume(&self.look(), name);
            self.inner.remove_volume(name)
        };
        let lie = async { Ok(()) }.boxed();
        self.life.perform(Effect::RemoveVolume, name, failed("remove volume", name), Some(lie), act).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        let act = || {
            async {
                let created = self.inner.create_container(spec).await;
                self.life.gate.oracle.created_container(&self.look());
                created
            }
            .boxed()
        };
        self.life.perform(Effect::CreateContainer, &spec.name, failed("create container", &spec.name), None, act).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        // It ends as soon as it has started.
        let lie = async {
            self.inner.start_container(id).await?;
            // Gone in between is as good as ended.
            let _ = self.simulator.hands().stop_container(&name);
            Ok(())
        };
        self.life
            .perform(Effect::StartContainer, &name, failed("start container", &name), Some(lie.boxed()), || {
                self.inner.start_container(id)
            })
            .await
    }

    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        let act = || {
            self.life.gate.oracle.stops_container(&self.look(), id);
            self.inner.stop_container(id)
        };
        let lie = async { Ok(()) }.boxed();
        self.life.perform(Effect::StopContainer, &name, failed("stop container", &name), Some(lie), act).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        let act = || {
            self.life.gate.oracle.removes_container(&self.look(), id);
            self.inner.remove_container(id)
        };
        let lie = async { Ok(()) }.boxed();
        self.life.perform(Effect::RemoveContainer, &name, failed("remove container", &name), Some(lie), act).await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let name = self.name_of(id);
        let act = || {
            if request.command == commands::start_reset() {
                self.life.gate.oracle.resets(&self.look(), id);
            }
            self.inner.exec(id, request)
        };
        let effect = self.life.perform(Effect::Exec, &name, failed("run command in", &name), None, act);
        // The contract: an exec is bounded by its own time.
        match tokio::time::timeout(request.timeout, effect).await {
            Ok(output) => output,
            Err(_) => {
                Err(RuntimeError::new("run command in", &name, Cause::Timeout, "the command did not end in time"))
            }
        }
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        self.inner.image_id(image).await
    }

    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        let names: Vec<String> = ids.iter().map(|id| self.name_of(id)).collect();
        let what = images.join(" ");
        let act = || self.inner.load_images(ids, images);
        self.life.perform(Effect::CopyIn, &names.join(" "), failed("load images", &what), None, act).await
    }

    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError> {
        let name = self.name_of(id);
        self.life
            .perform(Effect::CopyIn, &name, failed("copy files into", &name), None, || self.inner.copy_in(id, files))
            .await
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        let name = self.name_of(id);
        self.life
            .perform(Effect::ReadFile, &name, failed("read a file of", &name), None, || self.inner.read_file(id, path))
            .await
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        let name = self.name_of(id);
        self.life
            .perform(Effect::Logs, &name, failed("read the log of", &name), None, || self.inner.logs(id, lines))
            .await
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        Arc::new(GatedConnector { life: self.life.clone(), inner: self.inner.connector() })
    }
}

#[derive(Debug)]
struct GatedConnector {
    life: Life,
    inner: Arc<dyn ClusterConnector>,
}

#[async_trait]
impl ClusterConnector for GatedConnector {
    async fn service(&self, access: &ClusterAccess) -> Result<ApiService, ConnectError> {
        let client = self.inner.connect(access).await?;
        Ok(service_of(Gated::client(self.life.clone(), Side::Cluster, client)))
    }
}
