//! Serving over TLS on loopback: who may connect, who is asking, and bounds on everything a client may take.
//!
//! One listener is one task and holds nothing but its TLS configuration, so that a thousand can be open; connections
//! of all of them are counted together ([`Limits`]).

mod guard;
mod kubeconfig;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use kubeconfig::kubeconfig;
pub use patience::RequestBody;
pub use pki::{Authority, Credentials, Issued, PkiError, credentials};
pub use tls::{TlsError, server_config};

use super::user::User;

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
/// How long requests may go on after shutdown began, unless said otherwise.
const DRAIN: Duration = Duration::from_secs(5);
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

/// What all listeners that hold a clone share.
#[derive(Clone, Debug)]
pub struct Limits {
    connections: Arc<Semaphore>,
    drain: Duration,
}

impl Limits {
    /// At most so many connections at a time; further ones wait to be accepted.
    pub fn connections(most: usize) -> Self {
        Self { connections: Arc::new(Semaphore::new(most)), drain: DRAIN }
    }

    /// How long requests may go on after shutdown began; 5 seconds without this.
    #[must_use]
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }
}

impl Default for Limits {
    /// 512 connections: a file descriptor each, half of the usual limit of 1,024.
    fn default() -> Self {
        Self::connections(512)
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
            accepted = accept(&mut listener, &limits) => accepted,
        };
        match accepted {
            Ok((io, permit)) => {
                let connection = connection(acceptor.clone(), io, answer.clone(), closing.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
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

async fn accept<L: Listener>(listener: &mut L, limits: &Limits) -> io::Result<(L::Io, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&limits.connections).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, permit))
}

async fn connection<I, A, F, B>(acceptor: TlsAcceptor, io: I, answer: A, closing: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(User, Request<RequestBody>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(io)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "refused a connection"),
        Err(_) => return tracing::debug!("a client took too long for its handshake"),
    };
    let Some(user) = tls::user(stream.get_ref().1) else {
        return tracing::debug!("refused a client whose certificate has no common name");
    };
    let service = hyper::service::service_fn(move |request| guard::guarded(user.clone(), request, answer.clone()));
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
