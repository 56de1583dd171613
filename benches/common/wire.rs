//! Plain HTTP/2 connections: what a client costs is not what is measured here.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One connection.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    scheme: &'static str,
}

impl Connection {
    /// Without TLS, as etcd listens on loopback by default.
    pub async fn plain(authority: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Self { sender: over(stream).await, authority: authority.to_owned(), scheme: "http" })
    }

    /// To the server of a kubeconfig, with its client certificate.
    pub async fn of_kubeconfig(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a kubeconfig");
        let kubeconfig: serde_json::Value = serde_saphyr::from_str(&text).expect("a kubeconfig in YAML");
        let field =
            |path: &str| kubeconfig.pointer(path).and_then(|field| field.as_str()).expect("a field of a kubeconfig");
        let decode = |path: &str| base64::engine::general_purpose::STANDARD.decode(field(path)).expect("base64");
        let ca = decode("/clusters/0/cluster/certificate-authority-data");
        let certificate = decode("/users/0/user/client-certificate-data");
        let key = decode("/users/0/user/client-key-data");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).expect("a CA in PEM")).expect("a CA");
        let chain = vec![CertificateDer::from_pem_slice(&certificate).expect("a certificate in PEM")];
        let key = PrivateKeyDer::from_pem_slice(&key).expect("a key in PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a client certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let authority = field("/clusters/0/cluster/server").replace("https://", "");
        let stream = TcpStream::connect(&authority).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        Self { sender: over(stream).await, authority, scheme: "https" }
    }

    /// Sends a request; its answer has begun when this returns.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> impl Future<Output = Response<Incoming>> + use<> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}://{}{path}", self.scheme, self.authority))
            .header("content-type", content_type)
            .header("te", "trailers")
            .body(Full::new(body))
            .expect("a request");
        let mut sender = self.sender.clone();
        async move {
            sender.ready().await.expect("a connection that takes requests");
            sender.send_request(request).await.expect("an answer")
        }
    }

    /// Sends a request and reads its answer whole.
    pub async fn call(&self, method: &str, path: &str, body: Bytes) -> Bytes {
        let answer = self.send(method, path, "application/json", body).await;
        let (status, body) = (answer.status(), whole(answer).await);
        assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        body
    }
}

/// The body of an answer.
pub async fn whole(answer: Response<Incoming>) -> Bytes {
    answer.into_body().collect().await.expect("a whole answer").to_bytes()
}

async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> SendRequest<Full<Bytes>> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}
