//! Clients of the process that serves a home.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::home::Home;
use crate::runtime::bounded_client;
use crate::world::FileSystem;

/// A server on this host answers within milliseconds; one that does not within this time is not there.
const ANSWER: Duration = Duration::from_secs(5);
/// The home's kubeconfig is some 3 KiB long.
const KUBECONFIG_BYTES_MAX: u64 = 1 << 20;

/// The process that serves a home cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig that it should have written is not there or cannot be read.
    #[error("could not read {path}")]
    Read {
        /// Path of the kubeconfig.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kubeconfig is none.
    #[error("{path} is not a usable kubeconfig")]
    Unusable {
        /// Path of the kubeconfig.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not answer.
    #[error("the kina that serves {home} does not answer")]
    Silent {
        /// Path of the home.
        home: PathBuf,
        /// The cause, where the connection was refused rather than silent.
        #[source]
        source: Option<Box<kube::Error>>,
    },
}

/// A client of the process that serves a home, once it has answered.
///
/// # Errors
/// [`ClientError`]: also while that process is still starting; ask again.
pub async fn connect(home: &Home, files: &dyn FileSystem) -> Result<kube::Client, ClientError> {
    let path = home.kubeconfig();
    let unusable =
        |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Unusable { path: path.clone(), source };
    let text =
        files.read(&path, KUBECONFIG_BYTES_MAX).map_err(|source| ClientError::Read { path: path.clone(), source })?;
    let text = String::from_utf8(text).map_err(|source| unusable(source.into()))?;
    let kubeconfig = Kubeconfig::from_yaml(&text).map_err(|source| unusable(source.into()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|source| unusable(source.into()))?;
    // A server that is killed amid a request leaves its client waiting.
    let client = bounded_client(prompt(&config).map_err(|source| unusable(source.into()))?);
    let silent = |source| ClientError::Silent { home: home.root().to_owned(), source };
    match tokio::time::timeout(ANSWER, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(client),
        Ok(Err(error)) => Err(silent(Some(Box::new(error)))),
        Err(_) => Err(silent(None)),
    }
}

/// A client that sends at once what it has to say. kube's own connects without `TCP_NODELAY`: then each request on a new
/// connection waits for the acknowledgement of the handshake's end, 40 ms as Linux delays it (80 of the 95 ms that `kina
/// status` took).
fn prompt(config: &kube::Config) -> Result<kube::Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(tower::BoxError::from)
        .service(client);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}
