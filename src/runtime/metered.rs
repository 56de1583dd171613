//! A runtime that counts and times what is asked of it, and of the clusters in it.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::{Method, Request, Response};
use kube::client::Body;
use tower::ServiceExt;

use super::connect::{ApiBody, ApiService, BoxError, api_service};
use super::{
    Capabilities, Cause, ClusterAccess, ClusterConnector, ConnectError, ContainerId, ContainerSpec, ExecOutput,
    ExecRequest, Image, Listing, NetworkSpec, NodeFile, Runtime, RuntimeError, RuntimeInfo, VolumeSpec, watches,
};
use crate::observability::Metrics;
use crate::observability::metrics::Outcome;

/// What calls are logged as, each when it begins.
const CALLS: &str = "kina::runtime::calls";

/// A runtime whose operations are counted.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Runtime>,
    metrics: Metrics,
}

impl Metered {
    /// Counts what is asked of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Runtime>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }

    async fn counted<T>(
        &self,
        operation: &'static str,
        object: &str,
        call: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        tracing::trace!(target: CALLS, operation, object, "calls the runtime");
        let timed = self.metrics.begin("runtime", operation);
        let result = call.await;
        timed.end(result.as_ref().map_or_else(|error| outcome(error.cause), |_| Outcome::Ok));
        result
    }
}

fn outcome(cause: Cause) -> Outcome {
    match cause {
        Cause::NotFound | Cause::AlreadyExists | Cause::InUse | Cause::NotRunning => Outcome::Refused,
        Cause::Conflict => Outcome::Foreign,
        Cause::Invalid => Outcome::Terminal,
        Cause::Timeout => Outcome::Timeout,
        Cause::Unavailable | Cause::ImagePull | Cause::Exhausted | Cause::Unknown => Outcome::Transient,
    }
}

#[async_trait]
impl Runtime for Metered {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        self.counted("info", "", self.inner.info()).await
    }

    async fn list(&self) -> Result<Listing, RuntimeError> {
        self.counted("list", "", self.inner.list()).await
    }

    fn events(&self) -> BoxStream<'static, ()> {
        self.inner.events()
    }

    async fn ensure_image(&self, image: &str) -> Result<Image, RuntimeError> {
        self.counted("ensure_image", image, self.inner.ensure_image(image)).await
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        self.counted("image_id", image, self.inner.image_id(image)).await
    }

    async fn load_images(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        self.counted("load_images", &images.join(" "), self.inner.load_images(ids, images)).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        self.counted("create_network", &spec.name, self.inner.create_network(spec)).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        self.counted("remove_network", name, self.inner.remove_network(name)).await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), RuntimeError> {
        self.counted("create_volume", &spec.name, self.inner.create_volume(spec)).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        self.counted("remove_volume", name, self.inner.remove_volume(name)).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        self.counted("create_container", &spec.name, self.inner.create_container(spec)).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.counted("start_container", &id.0, self.inner.start_container(id)).await
    }

    async fn stop_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.counted("stop_container", &id.0, self.inner.stop_container(id)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.counted("remove_container", &id.0, self.inner.remove_container(id)).await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        self.counted("exec", &id.0, self.inner.exec(id, request)).await
    }

    async fn copy_in(&self, id: &ContainerId, files: &[NodeFile]) -> Result<(), RuntimeError> {
        self.counted("copy_in", &id.0, self.inner.copy_in(id, files)).await
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        self.counted("read_file", &id.0, self.inner.read_file(id, path)).await
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        self.counted("logs", &id.0, self.inner.logs(id, lines)).await
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        Arc::new(MeteredConnector { inner: self.inner.connector(), metrics: self.metrics.clone() })
    }
}

#[derive(Debug)]
struct MeteredConnector {
    inner: Arc<dyn ClusterConnector>,
    metrics: Metrics,
}

#[async_trait]
impl ClusterConnector for MeteredConnector {
    async fn service(&self, access: &ClusterAccess) -> Result<ApiService, ConnectError> {
        let service = self.inner.service(access).await?;
        Ok(api_service(MeteredService { service, metrics: self.metrics.clone() }))
    }
}

/// A service whose requests are counted, each until its answer begins.
#[derive(Clone)]
struct MeteredService {
    service: ApiService,
    metrics: Metrics,
}

impl Debug for MeteredService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeteredService").finish_non_exhaustive()
    }
}

impl tower::Service<Request<Body>> for MeteredService {
    type Response = Response<ApiBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ApiBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let timed = self.metrics.begin("cluster", operation(request.method(), request.uri()));
        let service = self.service.clone();
        Box::pin(async move {
            let result = service.oneshot(request).await;
            timed.end(match &result {
                Ok(answer) if answer.status().is_server_error() || answer.status() == 429 => Outcome::Transient,
                Ok(answer) if answer.status().is_client_error() => Outcome::Refused,
                Ok(_) => Outcome::Ok,
                Err(_) => Outcome::Transient,
            });
            result
        })
    }
}

/// What a request is about: a word out of few.
fn operation(method: &Method, uri: &http::Uri) -> &'static str {
    let says = |text: &str| uri.query().unwrap_or_default().split('&').any(|part| part.starts_with(text));
    match *method {
        Method::GET if watches(uri) => "watch",
        Method::GET if uri.path() == "/readyz" => "probe",
        Method::GET => "read",
        Method::POST => "create",
        Method::PATCH if says("dryRun=") => "compare",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_what_they_are_about() {
        let of = |method: Method, uri: &str| operation(&method, &uri.parse().unwrap());
        assert_eq!(of(Method::GET, "/api/v1/nodes?limit=500"), "read");
        assert_eq!(of(Method::GET, "/api/v1/nodes?&watch=true&timeoutSeconds=290"), "watch");
        assert_eq!(of(Method::GET, "/readyz"), "probe");
        assert_eq!(of(Method::PATCH, "/api/v1/nodes/a?&force=true&dryRun=All"), "compare");
        assert_eq!(of(Method::PATCH, "/api/v1/nodes/a?&force=true"), "patch");
    }
}
