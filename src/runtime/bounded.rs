//! Deadlines for everything that is asked of a runtime, and of an API server.
//!
//! A runtime bounds its operations by itself. One that hangs all the same, as real ones do, must not hold up a whole
//! Cluster for ever: whoever waits here is told in time that nothing is known.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyStream, StreamBody};
use kube::client::Body;
use tower::ServiceExt;

use super::connect::{ApiService, BoxError, api_service, service_of};
use super::{
    Capabilities, Cause, ClusterAccess, ClusterConnector, ConnectError, ContainerId, ContainerSpec, ExecOutput,
    ExecRequest, Image, Listing, NetworkSpec, NodeFile, Runtime, RuntimeError, RuntimeInfo, VolumeSpec,
};

/// Questions.
const QUESTION: Duration = Duration::from_secs(30);
/// What changes something: twice as long as a runtime needs that stops a container by force after its grace period.
const CHANGE: Duration = Duration::from_secs(120);
/// Pulling an image over a slow line.
const PULL: Duration = Duration::from_secs(900);
/// Over a command's own time: it is the runtime that should end it.
const GRACE: Duration = Duration::from_secs(5);
/// An answer of an API server; of a watch, its beginning.
const REQUEST: Duration = Duration::from_secs(30);

/// A runtime whose every operation ends: after its limit with [`Cause::Timeout`], of which nothing follows.
#[derive(Debug)]
pub struct Bounded(Arc<dyn Runtime>);

impl Bounded {
    /// Bounds a runtime.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self(runtime)
    }
}

async fn within<T>(
    limit: Duration,
    operation: &'static str,
    object: &str,
    work: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", limit.as_secs());
        Err(RuntimeError::new(operation, object, Cause::Timeout, message))
    })
}

#[async_trait]
impl Runtime for Bounded {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        within(QUESTION, "ask the runtime", self.name(), self.0.info()).await
    }

    async fn list(&self) -> Result<Listing, RuntimeError> {
        within(QUESTION, "list", self.name(), self.0.list()).await
    }

    fn events(&self) -> BoxStream<'static, ()> {
        self.0.events()
    }

    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError> {
        within(PULL, "pull image", image, self.0.ensure_image(image)).await
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        within(QUESTION, "look up image", image, self.0.image_id(image)).await
    }

    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        within(PULL, "load images", &images.join(" "), self.0.load_images(ids, images)).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        within(CHANGE, "create network", &spec.name, self.0.create_network(spec)).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        within(CHANGE, "remove network", name, self.0.remove_network(name)).await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError> {
        within(CHANGE, "create volume", &spec.name, self.0.create_volume(spec)).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        within(CHANGE, "remove volume", name, self.0.remove_volume(name)).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        within(CHANGE, "create container", &spec.name, self.0.create_container(spec)).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        within(CHANGE, "start container", &id.0, self.0.start_container(id)).await
    }

    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        within(CHANGE, "stop container", &id.0, self.0.stop_container(id)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        within(CHANGE, "remove container", &id.0, self.0.remove_container(id)).await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        within(request.timeout + GRACE, "run command in", &id.0, self.0.exec(id, request)).await
    }

    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError> {
        within(CHANGE, "copy files into", &id.0, self.0.copy_in(id, files)).await
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        within(QUESTION, "read a file of", &id.0, self.0.read_file(id, path)).await
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        within(QUESTION, "read the log of", &id.0, self.0.logs(id, lines)).await
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        Arc::new(BoundedConnector(self.0.connector()))
    }
}

#[derive(Debug)]
struct BoundedConnector(Arc<dyn ClusterConnector>);

#[async_trait]
impl ClusterConnector for BoundedConnector {
    async fn service(&self, access: &ClusterAccess) -> Result<ApiService, ConnectError> {
        Ok(api_service(BoundedService(self.0.service(access).await?)))
    }
}

/// A client of whose every request the answer begins, and goes on, within 30 s, or it has failed. Of a watch only the
/// beginning is bounded: a stream that falls silent is kube-runtime's to notice.
#[must_use]
pub fn bounded_client(client: kube::Client) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    kube::Client::new(BoundedService(service_of(client)), namespace)
}

#[derive(Clone)]
struct BoundedService(ApiService);

type Frames = BoxStream<'static, Result<Frame<Bytes>, BoxError>>;

/// No answer in time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{method} {path}: no answer within {} s", REQUEST.as_secs())]
struct NoAnswer {
    method: http::Method,
    path: String,
}

impl BoundedService {
    async fn answer(self, request: Request<Body>) -> Result<Response<StreamBody<Frames>>, BoxError> {
        let late = NoAnswer { method: request.method().clone(), path: request.uri().path().to_owned() };
        let watches = watches(request.uri());
        let answer = tokio::time::timeout(REQUEST, self.0.oneshot(request)).await;
        let (head, body) = answer.map_err(|_| late.clone())??.into_parts();
        let body = BodyStream::new(body).boxed();
        let body = if watches { body } else { in_time(body, late) };
        Ok(Response::from_parts(head, StreamBody::new(body)))
    }
}

/// A body whose every part comes in time.
fn in_time(body: Frames, late: NoAnswer) -> Frames {
    futures::stream::unfold((body, late, false), |(mut body, late, over)| async move {
        if over {
            return None;
        }
        match tokio::time::timeout(REQUEST, body.next()).await {
            Ok(frame) => Some((frame?, (body, late, false))),
            Err(_) => Some((Err(late.clone().into()), (body, late, true))),
        }
    })
    .boxed()
}

/// Whether a request watches, by its query.
#[must_use]
pub fn watches(uri: &http::Uri) -> bool {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix("watch=")).any(|value| value != "false" && value != "0")
}

impl tower::Service<Request<Body>> for BoundedService {
    type Response = Response<StreamBody<Frames>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().answer(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Node;
    use kube::api::{Api, ListParams};

    use super::*;
    use crate::runtime::sim::{Fault, Gate, Operation, SimOptions, SimRuntime, SimStore};
    use crate::world::World;

    #[derive(Debug)]
    struct Hanging;

    impl Gate for Hanging {
        fn decide(&self, _: Operation, _: &str) -> Fault {
            Fault::Hang
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_hangs_is_given_up() {
        let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
        let options = SimOptions { gate: Arc::new(Hanging), ..SimOptions::default() };
        let runtime = Bounded::new(SimRuntime::open(world, SimStore::Memory, options).unwrap());
        let error = runtime.list().await.unwrap_err();
        assert_eq!((error.cause, error.to_string().as_str()), (Cause::Timeout, "list sim: no answer within 30 s"));
        let error = runtime.remove_volume("data").await.unwrap_err();
        assert_eq!(error.to_string(), "remove volume data: no answer within 120 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_given_up() {
        let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
        let client = bounded_client(kube::Client::new(silent, "default"));
        let nodes: Api<Node> = Api::all(client);
        let error = nodes.list(&ListParams::default()).await.unwrap_err();
        let message = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        assert!(message.contains("GET /api/v1/nodes: no answer within 30 s"), "{message}");
    }
}
