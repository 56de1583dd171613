//! How a client reaches the API server of a cluster.

use std::fmt::{self, Debug};

use async_trait::async_trait;

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
    /// A client with these credentials.
    ///
    /// # Errors
    /// [`ConnectError`] when the access data is unusable.
    async fn connect(&self, access: &ClusterAccess) -> Result<kube::Client, ConnectError>;
}
