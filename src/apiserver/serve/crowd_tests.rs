//! Clients that take more than their share, in virtual time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::*;

/// Connections that were made in this process.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(pipe) => Ok(pipe),
            None => std::future::pending().await,
        }
    }
}

/// A server and the way to it.
struct Crowd {
    pipes: mpsc::UnboundedSender<DuplexStream>,
    client: Arc<rustls::ClientConfig>,
}

impl Crowd {
    /// Answers with the length of the body; `/forever` never, `/flood` without an end.
    #[expect(clippy::disallowed_methods, reason = "certificates are checked by the real clock")]
    fn new(limits: Limits) -> Self {
        let now = jiff::Timestamp::now();
        let user = User { name: "kina:admin".into(), groups: Vec::new() };
        let credentials = credentials(&user, now, Duration::from_secs(3600)).unwrap();
        let authority = &credentials.authority.pair.certificate;
        let tls = server_config(authority, &credentials.server.certificate, &credentials.server.key).unwrap();
        let answer = |_: User, request: Request<RequestBody>| async move {
            let path = request.uri().path().to_owned();
            if path == "/forever" {
                std::future::pending::<()>().await;
            }
            let text = match request.into_body().collect().await {
                Ok(body) => format!("{} bytes", body.to_bytes().len()),
                Err(error) => format!("no body: {error}"),
            };
            let size = if path == "/flood" { 64 * 1024 * 1024 } else { 0 };
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text + &"x".repeat(size)))))
        };
        let (pipes, listener) = mpsc::unbounded_channel();
        tokio::spawn(serve(Pipes(listener), tls, answer, limits, std::future::pending()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let certificate = CertificateDer::from_pem_slice(credentials.client.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(credentials.client.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        Self { pipes, client: Arc::new(client) }
    }

    /// A connection that says nothing yet.
    fn silent(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.pipes.send(theirs).unwrap();
        ours
    }

    /// A connection of a client that is known.
    async fn known(&self) -> io::Result<TlsStream<DuplexStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::clone(&self.client)).connect(name, self.silent()).await
    }

    /// What one request on a connection of its own is answered with.
    async fn ask(&self, path: &str) -> String {
        let mut connection = self.known().await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A peer that closes without a word of TLS is heard all the same.
        let _ = connection.read_to_string(&mut answer).await;
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_keep_nobody_out() {
    let crowd = Crowd::new(Limits::connections(2));
    let began = Instant::now();
    let mut silent: Vec<DuplexStream> = (0..300).map(|_| crowd.silent()).collect();
    assert!(crowd.ask("/").await.contains("200 OK"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // The oldest had to go; the newest have until the end of their handshake.
    assert_eq!(silent[0].read(&mut [0]).await.unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(silent[299].read(&mut [0]).await.unwrap(), 0);
    assert!(began.elapsed() >= HANDSHAKE);
}

#[tokio::test(start_paused = true)]
async fn a_client_more_than_there_is_room_for_waits_for_its_turn() {
    let crowd = Crowd::new(Limits::connections(1));
    let mut first = crowd.known().await.unwrap();
    first.write_all(b"GET /forever HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let asked = crowd.ask("/");
    tokio::pin!(asked);
    assert!(tokio::time::timeout(Duration::from_secs(5), asked.as_mut()).await.is_err());
    drop(first);
    assert!(asked.await.contains("200 OK"));
}

#[tokio::test(start_paused = true)]
async fn a_request_too_many_is_refused_and_may_come_again() {
    let crowd = Crowd::new(Limits::connections(9).requests(2));
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut connection = crowd.known().await.unwrap();
        connection.write_all(b"GET /forever HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        busy.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = crowd.ask("/").await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains(r#""reason":"TooManyRequests""#), "{refused}");
    busy.pop();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(crowd.ask("/").await.contains("200 OK"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_loses_its_connection() {
    let crowd = Crowd::new(Limits::connections(1));
    let mut deaf = crowd.known().await.unwrap();
    deaf.write_all(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // There is one place, and it is free again without a word from who had it.
    let began = Instant::now();
    assert!(crowd.ask("/").await.contains("200 OK"));
    assert!(began.elapsed() <= Duration::from_secs(61), "{:?}", began.elapsed());
    drop(deaf);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_by_drops_has_a_minute() {
    let crowd = Crowd::new(Limits::connections(1));
    let mut slow = crowd.known().await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n").await.unwrap();
    let began = Instant::now();
    let mut answer = [0; 4096];
    let read = loop {
        match tokio::time::timeout(Duration::from_secs(10), slow.read(&mut answer)).await {
            Ok(read) => break read.unwrap(),
            Err(_) => slow.write_all(b"x").await.unwrap(),
        }
    };
    assert!(String::from_utf8_lossy(&answer[..read]).contains("more than 60 seconds"));
    assert_eq!(began.elapsed().as_secs(), 60);
}
