//! Serving over TLS on loopback: who may connect, who is asking, and bounds on everything a client may take.
//!
//! One listener is one task and holds nothing but its TLS configuration, so that a thousand can be open; connections
//! of all of them are counted together ([`Limits`]).

#[cfg(test)]
mod crowd_tests;
mod guard;
mod kubeconfig;
mod limits;
mod patience;
mod pki;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use kubeconfig::kubeconfig;
pub use limits::Limits;
pub use patience::RequestBody;
pub use pki::{Authority, Credentials, Issued, PkiError, credentials};
pub use tls::{TlsError, server_config};

use super::user::User;
use limits::Unknown;
use patience::Impatient;

/// The longest that a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest that a client may take for the head of a request; over HTTP/1.1 also how long a connection may idle.
const HEAD: Duration = Duration::from_secs(90);
/// The largest head of a request: 64 KiB; Kubernetes' own clients stay far below 16 KiB.
const HEAD_BYTES: u32 = 64 * 1024;
/// Requests at a time on one HTTP/2 connection, as Kubernetes allows (`http2-max-streams-per-connection`).
const STREAMS: u32 = 250;
/// A silent HTTP/2 connection is asked after so long whether it lives, and closed when it does not answer.
const PING: Duration = Duration::from_secs(30);
/// After a failure to accept (no file descriptors left), how long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Where connections come from.
pub trait Listener: Send {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. Must be safe to cancel.
    ///
    /// # Errors
    /// When none can be accepted now; it is tried again after a while.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // Watch events are small and must not wait for an acknowledgement.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Serves until `shutdown` is done, then lets requests end for a while. Streams (watches) have to be ended by
/// the caller, at best just before; what still runs then is cut off.
///
/// Only clients with a certificate of the CA in `tls` are heard; `answer` is called with who they are (common name and
/// organisations). A request whose `Host` is not loopback, or that has an `Origin` (a browser), is refused with 403
/// before its body is read.
pub async fn serve<L, A, F, B>(
    mut listener: L,
    tls: Arc<rustls::ServerConfig>,
    answer: A,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) where
    L: Listener,
    A: Fn(User, Request<RequestBody>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let acceptor = TlsAcceptor::from(tls);
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(io) => {
                // Here, so that who came first is the oldest: tasks begin in any order.
                let unknown = limits.begin();
                let shared = (acceptor.clone(), answer.clone(), limits.clone(), closing.clone());
                connections.spawn(connection(io, unknown, shared));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::select! {
                    biased;
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    closing.cancel();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection<I, A, F, B>(
    io: I,
    unknown: Unknown,
    (acceptor, answer, limits, closing): (TlsAcceptor, A, Limits, CancellationToken),
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(User, Request<RequestBody>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let known = async {
        let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(Impatient::new(io))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "refused a connection");
                return None;
            }
            Err(_) => {
                tracing::debug!("a client took too long for its handshake");
                return None;
            }
        };
        let Some(user) = tls::user(stream.get_ref().1) else {
            tracing::debug!("refused a client whose certificate has no common name");
            return None;
        };
        let place = Arc::clone(&limits.connections).acquire_owned().await.ok()?;
        Some((stream, user, place))
    };
    let known = tokio::select! {
        biased;
        () = closing.cancelled() => return,
        () = unknown.out.cancelled() => return tracing::debug!("a client that is not known gave way to newer ones"),
        known = known => known,
    };
    let Some((stream, user, _place)) = known else { return };
    drop(unknown);
    let service = hyper::service::service_fn(move |request| {
        guard::guarded(user.clone(), request, answer.clone(), limits.clone())
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
