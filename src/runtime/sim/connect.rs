//! Clients of simulated clusters, without sockets.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::clusters::Clusters;
use super::gate::{Fault, Operation};
use super::kubeadm::{API_SERVER_CERTIFICATE, CA_FILE};
use super::route::{self, Backend, NoRoute};
use super::time::At;
use super::{pki, rest};
use crate::apiserver::body::Body as ApiBody;
use crate::apiserver::user::User;
use crate::runtime::connect::{ApiService, BoxError, api_service};
use crate::runtime::{ClusterAccess, ClusterConnector, ConnectError};

/// Makes clients that find their way through the simulated world at every request.
pub(super) struct Connector {
    pub clusters: Arc<Clusters>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

#[async_trait]
impl ClusterConnector for Connector {
    async fn service(&self, access: &ClusterAccess) -> Result<ApiService, ConnectError> {
        let invalid = |source: String| ConnectError::Invalid { server: access.server.clone(), source: source.into() };
        let (address, port) = endpoint(&access.server).ok_or_else(|| invalid("not https://ADDRESS:PORT".into()))?;
        if pki::fingerprint(&access.ca_certificate).is_none() {
            return Err(invalid("the CA is no certificate".into()));
        }
        if !pki::key_fits(&access.client_certificate, &access.client_key) {
            return Err(invalid("the client's key does not fit its certificate".into()));
        }
        let client = Client {
            clusters: Arc::clone(&self.clusters),
            address,
            port,
            access: Arc::new(access.clone()),
            known: Arc::default(),
        };
        Ok(api_service(client))
    }
}

fn endpoint(server: &str) -> Option<(IpAddr, u16)> {
    let uri: Uri = server.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
    (uri.scheme_str() == Some("https")).then(|| Some((host.parse().ok()?, uri.port_u16().unwrap_or(443))))?
}

/// Who a client is to a server, as long as that shows the same certificates.
#[derive(Clone)]
struct Known {
    ca: Bytes,
    serving: Bytes,
    user: Option<User>,
}

/// A client's way to one URL.
#[derive(Clone)]
struct Client {
    clusters: Arc<Clusters>,
    address: IpAddr,
    port: u16,
    access: Arc<ClusterAccess>,
    known: Arc<Mutex<Option<Known>>>,
}

/// A connection that was made: to which cluster, and what ends it.
struct Connection {
    backend: Backend,
    user: Option<User>,
    cuts: Vec<CancellationToken>,
}

impl Client {
    /// What TCP and TLS do before a request is sent.
    fn dial(&self) -> Result<Connection, BoxError> {
        let core = &self.clusters.core;
        let turn = self.clusters.next_turn();
        let found = core.attach(|state| {
            let backend = route::from_host(state, self.address, self.port, turn)?;
            let ca = state.file(&backend.container, CA_FILE).ok_or(NoRoute::Refused)?;
            let serving = state.file(&backend.container, API_SERVER_CERTIFICATE).ok_or(NoRoute::Refused)?;
            Ok((backend, (ca, serving)))
        });
        let (backend, (ca, serving), cuts) = found.map_err(|error| match error {
            NoRoute::NoHost | NoRoute::Refused => refused(),
            NoRoute::Reset => io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer"),
        })?;
        if !self.clusters.is_open(&backend.tenant) {
            return Err(refused().into());
        }
        let user = self.handshake(ca, serving, core.now())?;
        Ok(Connection { backend, user, cuts })
    }

    /// Checks the server's certificate as a client does, and the client's as a server does.
    fn handshake(&self, ca: Bytes, serving: Bytes, now: At) -> Result<Option<User>, BoxError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.ca == ca && known.serving == serving) {
            return Ok(known.user.clone());
        }
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        pki::server(&self.access.ca_certificate, &text(&serving), self.address, now).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("invalid peer certificate: {error}"))
        })?;
        let user = pki::client(&text(&ca), &self.access.client_certificate, now);
        *known = Some(Known { ca, serving, user: user.clone() });
        Ok(user)
    }

    async fn answer(self, request: Request<kube::client::Body>) -> Result<Response<Cut>, BoxError> {
        let core = Arc::clone(&self.clusters.core);
        let object = format!("{} {}{}", request.method(), self.access.server, request.uri().path());
        let latency = &core.options.latency;
        let mut time = latency.of(Operation::ClusterRequest);
        if !time.is_zero() {
            time = latency.jittered(time, core.world.random.next_u64());
        }
        let fault = core.options.gate.decide(Operation::ClusterRequest, &object);
        rest(time).await;
        match fault {
            Fault::None | Fault::ReplyLost | Fault::Lie(_) => {}
            Fault::FailBefore(cause) => return Err(io::Error::other(format!("injected failure: {cause:?}")).into()),
            Fault::Slow(more) => rest(more).await,
            Fault::Hang => std::future::pending().await,
            Fault::Timeout => {
                rest(Operation::ClusterRequest.limit()).await;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "operation timed out").into());
            }
        }
        let connection = self.dial()?;
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?.to_bytes();
        let request = Request::from_parts(head, body);
        let response = self.clusters.answer(&connection.backend, connection.user.as_ref(), request).await;
        if fault == Fault::ReplyLost {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer").into());
        }
        Ok(response.map(|body| Cut::new(body, connection.cuts)))
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, "tcp connect error: Connection refused (os error 111)")
}

impl tower::Service<Request<kube::client::Body>> for Client {
    type Response = Response<Cut>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

/// A body that breaks off when what it comes through goes away.
pub(super) struct Cut {
    body: ApiBody,
    cuts: Vec<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Cut {
    pub fn new(body: ApiBody, cuts: Vec<CancellationToken>) -> Self {
        // A body that is all there has arrived.
        let cuts = if body.is_stream() { cuts } else { Vec::new() };
        Self { body, cuts: cuts.into_iter().map(|cut| Box::pin(cut.cancelled_owned())).collect() }
    }
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        for cut in &mut self.cuts {
            if cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "connection reset by peer",
                ))));
            }
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
