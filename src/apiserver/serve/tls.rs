//! TLS: who connects is known by a certificate, or not heard.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::apiserver::user::User;

/// Certificates or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("cannot read the PEM of the {what}")]
    Pem {
        /// Which of the parameters.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// Certificates or key do not fit each other, or are of an unknown kind.
    #[error("cannot use the {what}")]
    Unusable {
        /// Which of the parameters.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
    /// No client could ever be verified.
    #[error("cannot verify clients with this authority")]
    Verifier {
        /// Why.
        source: VerifierBuilderError,
    },
}

/// The configuration of a server with this certificate and key, that hears clients with a certificate of this
/// authority only. All are PEM; the certificate may be followed by intermediate ones.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(authority: &str, certificate: &str, key: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |what| move |source| TlsError::Unusable { what, source };
    let mut roots = RootCertStore::empty();
    for root in certificates(authority, "authority")? {
        roots.add(root).map_err(unusable("authority"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|source| TlsError::Verifier { source })?;
    let chain = certificates(certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|source| TlsError::Pem { what: "key", source })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable("TLS versions"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable("certificate and key"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A thousand servers must not hold a cache of sessions each; a handshake on loopback takes a millisecond.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(text: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Pem { what, source: pem::Error::NoItemsFound }),
        Ok(found) => Ok(found),
        Err(source) => Err(TlsError::Pem { what, source }),
    }
}

/// One for all servers.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// Who is at the other end, by the certificate that was verified in the handshake.
pub(super) fn user(connection: &ServerConnection) -> Option<User> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    (!name.is_empty()).then(|| User { name: name.to_owned(), groups: groups.map(str::to_owned).collect() })
}
