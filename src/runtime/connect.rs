//! How a client reaches the API server of a cluster.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// Any error of a service.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Body of an answer.
pub type ApiBody = UnsyncBoxBody<Bytes, BoxError>;
/// What answers requests to one API server. Layers are put around it, and one client over all of them: each client has a
/// queue, whose 20 KB count where there are a thousand clusters.
pub type ApiService = BoxCloneSyncService<Request<Body>, Response<ApiBody>, BoxError>;

/// A service whose answers have any body, as an [`ApiService`].
pub fn api_service<S, B>(service: S) -> ApiService
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let whole = |answer: Response<B>| answer.map(|body| body.map_err(Into::into).boxed_unsync());
    ApiService::new(service.map_response(whole).map_err(Into::into))
}

/// A client as a service, to put layers around it.
#[must_use]
pub fn service_of(client: kube::Client) -> ApiService {
    api_service(tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    }))
}

/// Everything a client needs, rebuilt from parsed fields: a kubeconfig out of a node is never trusted as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterAccess {
    /// URL as seen from the host, `https://ADDRESS:PORT`.
    pub server: String,
    /// CA certificate of the cluster, PEM.
    pub ca_certificate: String,
    /// Client certificate, PEM.
    pub client_certificate: String,
    /// Key of the client certificate, PEM. A secret.
    pub client_key: String,
}

impl Debug for ClusterAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterAccess").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Certificates, key or URL are unusable.
    #[error("the access data of {server} is unusable")]
    Invalid {
        /// URL asked for.
        server: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes clients of clusters' API servers. Making one performs no I/O: an API server that is away shows at the first
/// request.
#[async_trait]
pub trait ClusterConnector: Send + Sync + Debug {
    /// A way to the API server with these credentials.
    ///
    /// # Errors
    /// [`ConnectError`] when the access data is unusable.
    async fn service(&self, access: &ClusterAccess) -> Result<ApiService, ConnectError>;

    /// A client with these credentials.
    ///
    /// # Errors
    /// [`ConnectError`] when the access data is unusable.
    async fn connect(&self, access: &ClusterAccess) -> Result<kube::Client, ConnectError> {
        Ok(kube::Client::new(self.service(access).await?, "default"))
    }
}
