//! Published ports of load balancers, listened on: where clients that we did not write reach simulated clusters.
//!
//! A port is one task that waits for connections; certificates are looked for when the first one comes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clusters::{self, Clusters};
use super::connect::Cut;
use super::kubeadm::{API_SERVER_CERTIFICATE, API_SERVER_KEY, CA_FILE};
use super::route::{self, API_PORT, Backend, NoRoute};
use super::world::{Change, State};
use crate::apiserver::serve::{self, Limits, Listener, RequestBody, server_config};
use crate::apiserver::user::User;

/// The largest body of a request that is read: Kubernetes' own limit (`MaxRequestBodyBytes`) and a byte, so that the
/// server can refuse what is larger.
const BODY_LIMIT: usize = 3 * 1024 * 1024 + 1;
/// After a failure to listen or to accept, how long until the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// The ports that are listened on.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Bound when their containers started, not yet served.
    bound: Mutex<BTreeMap<SocketAddr, std::net::TcpListener>>,
    served: Mutex<BTreeMap<SocketAddr, JoinHandle<()>>>,
}

/// Ends the tasks of all ports when dropped: they end with whoever drives the world.
#[derive(Debug)]
pub(super) struct Serving<'a>(pub &'a Ports);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        for (_, task) in std::mem::take(&mut *self.0.served()) {
            task.abort();
        }
    }
}

/// The ports that a running load balancer, as the world is, listens on.
fn wanted(state: &State) -> Vec<SocketAddr> {
    let balancers = state.containers.values().filter(|record| record.runs() && !record.spec.ports.is_empty());
    balancers
        .filter(|record| record.balances())
        .flat_map(|record| &record.spec.ports)
        .filter(|port| port.container_port == API_PORT)
        .map(|port| SocketAddr::new(port.host_address, port.host_port))
        .collect()
}

/// Whether a change can open or close ports.
pub(super) fn concerns(change: &Change) -> bool {
    match change {
        Change::Container { record: Some(record), .. } => !record.spec.ports.is_empty(),
        Change::Container { record: None, .. } => true,
        _ => false,
    }
}

impl Ports {
    fn bound(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, std::net::TcpListener>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, JoinHandle<()>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a port of this host, for a container that is about to start.
    ///
    /// # Errors
    /// What the system says, such as that the port is in use.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        if self.served().contains_key(&address) || self.bound().contains_key(&address) {
            return Ok(());
        }
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        self.bound().insert(address, listener);
        Ok(())
    }

    /// Listens on the ports of all load balancers that run, and on no others.
    pub fn sync(&self, clusters: &Arc<Clusters>, limits: &Limits) {
        let wanted = clusters.core.read(wanted);
        self.bound().retain(|address, _| wanted.contains(address));
        let mut served = self.served();
        served.retain(|address, task| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        for address in wanted {
            served.entry(address).or_insert_with(|| {
                let bound = self.bound().remove(&address);
                let port = Port { address, clusters: Arc::clone(clusters), limits: limits.clone() };
                tokio::spawn(port.serve(bound))
            });
        }
    }
}

/// One port.
struct Port {
    address: SocketAddr,
    clusters: Arc<Clusters>,
    limits: Limits,
}

/// A listener that was already asked for its first connection.
struct Primed {
    first: Option<TcpStream>,
    listener: Arc<TcpListener>,
}

impl Listener for Primed {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => {
                let (stream, _) = self.listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        }
    }
}

/// The API server behind a port.
struct Behind {
    backend: Backend,
    tls: Arc<rustls::ServerConfig>,
    cuts: Vec<CancellationToken>,
}

impl Port {
    async fn serve(self, bound: Option<std::net::TcpListener>) {
        let listener = Arc::new(self.listen(bound).await);
        loop {
            match listener.accept().await {
                // With nothing behind it, the load balancer refuses at once.
                Ok((first, _)) => {
                    if let Some(behind) = self.behind() {
                        self.serve_one(Primed { first: Some(first), listener: Arc::clone(&listener) }, behind).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn listen(&self, bound: Option<std::net::TcpListener>) -> TcpListener {
        let mut bound = bound.map(TcpListener::from_std);
        loop {
            let tried = match bound.take() {
                Some(bound) => bound,
                None => TcpListener::bind(self.address).await,
            };
            match tried {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "cannot listen for a simulated cluster");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn behind(&self) -> Option<Behind> {
        let turn = self.clusters.next_turn();
        let attached = self.clusters.core.attach(|state| {
            let backend = route::from_host(state, self.address.ip(), self.address.port(), turn)?;
            let file = |path: &str| state.text(&backend.container, path).ok_or(NoRoute::Refused);
            let files = (file(CA_FILE)?, file(API_SERVER_CERTIFICATE)?, file(API_SERVER_KEY)?);
            Ok((backend, files))
        });
        let (backend, (ca, certificate, key), cuts) = attached.ok()?;
        let tls = server_config(&ca, &certificate, &key)
            .inspect_err(|error| tracing::warn!(%error, "a simulated API server has unusable certificates"))
            .ok()?;
        self.clusters.is_open(&backend.tenant).then_some(Behind { backend, tls, cuts })
    }

    /// Serves until the API server behind the port goes away.
    async fn serve_one(&self, listener: Primed, behind: Behind) {
        let Behind { backend, tls, cuts } = behind;
        let (clusters, ends) = (Arc::clone(&self.clusters), cuts.clone());
        let backend = Arc::new(backend);
        let answer = move |user: User, request: Request<RequestBody>| {
            let (clusters, backend, cuts) = (Arc::clone(&clusters), Arc::clone(&backend), ends.clone());
            async move {
                Ok::<_, Infallible>(answer(&clusters, &backend, &user, request).await.map(|body| Cut::new(body, cuts)))
            }
        };
        let gone = futures::future::select_all(cuts.into_iter().map(|cut| Box::pin(cut.cancelled_owned())));
        let limits = self.limits.clone().drain(Duration::ZERO);
        serve::serve(listener, tls, answer, limits, async { drop(gone.await) }).await;
    }
}

async fn answer(
    clusters: &Clusters,
    backend: &Backend,
    user: &User,
    request: Request<RequestBody>,
) -> Response<crate::apiserver::body::Body> {
    let (head, body) = request.into_parts();
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => clusters.answer(backend, Some(user), Request::from_parts(head, body.to_bytes())).await,
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            clusters::status(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "request body too large")
        }
        Err(error) => {
            clusters::status(StatusCode::BAD_REQUEST, "BadRequest", &format!("cannot read the body: {error}"))
        }
    }
}
