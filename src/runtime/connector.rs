//! Clients of clusters that answer on a port of this host.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::client::ClientBuilder;
use kube::config::AuthInfo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::connect::{ApiService, service_of};
use super::{ClusterAccess, ClusterConnector, ConnectError};

/// Over loopback a connection is there at once, or nothing listens.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Makes clients with sockets.
#[derive(Debug)]
pub struct Connector;

#[async_trait]
impl ClusterConnector for Connector {
    async fn service(&self, access: &ClusterAccess) -> Result<ApiService, ConnectError> {
        let invalid = |source| ConnectError::Invalid { server: access.server.clone(), source };
        let url = access.server.parse().map_err(|error: http::uri::InvalidUri| invalid(Box::new(error).into()))?;
        let ca = CertificateDer::from_pem_slice(access.ca_certificate.as_bytes())
            .map_err(|error| invalid(Box::new(error).into()))?;
        let mut config = kube::Config::new(url);
        config.root_cert = Some(vec![ca.as_ref().to_vec()]);
        config.connect_timeout = Some(CONNECT_WITHIN);
        // A proxy of the host's is for the world, not for its own ports.
        config.proxy_url = None;
        config.auth_info = AuthInfo {
            client_certificate_data: Some(BASE64_STANDARD.encode(&access.client_certificate)),
            client_key_data: Some(BASE64_STANDARD.encode(&access.client_key).into()),
            ..AuthInfo::default()
        };
        let client = ClientBuilder::try_from(config).map_err(|error| invalid(Box::new(error).into()))?.build();
        Ok(service_of(client))
    }
}
