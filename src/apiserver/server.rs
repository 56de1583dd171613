//! The server: what it is built from, and the handle of one tenant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::Body;
use super::documents::Documents;
use super::gc::{self, WorkQueue};
use super::hub::{History, Hub};
use super::kind::Kind;
use super::registry::Registry;
use super::service::{self, TenantService};
use super::status::ApiError;
use super::store::{Contents, Store, StoreError};
use super::user::User;
use super::writer::{self, Core, QUEUE, Request};
use crate::world::{Clock, Random};

/// The version of Kubernetes whose API this server follows (that of `k8s-openapi`'s types), and its own.
const VERSION: &str = concat!("v1.37.0+kina-", env!("CARGO_PKG_VERSION"));

/// A Kubernetes-style API server over a store. Cloning is cheap; it ends when the last clone, tenant, client and watch
/// is dropped, or with [`ApiServer::shutdown`].
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub core: Arc<Core>,
    pub queue: mpsc::Sender<Request>,
    pub closing: CancellationToken,
    /// Documents of others, by path.
    pub pages: BTreeMap<&'static str, Page>,
    authorizer: Option<Authorizer>,
    /// The thread that writes, where there is one, until it is waited for.
    writer: Mutex<Option<JoinHandle<()>>>,
    _ends_tasks: DropGuard,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("store", &self.shared.core.store.id()).finish_non_exhaustive()
    }
}

/// What a server is built from.
pub struct Builder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    kinds: Vec<Arc<Kind>>,
    history: History,
    threaded: bool,
    observer: Option<Observer>,
    pages: BTreeMap<&'static str, Page>,
    authorizer: Option<Authorizer>,
}

/// A document that is made when it is asked for: its media type, and its text.
pub type Page = Arc<dyn Fn() -> (&'static str, String) + Send + Sync>;

/// Told, after a commit, of each object that it changed: its tenant and its resource (`pods`, `deployments.apps`).
/// Called by the writer: it must be quick, and must not call the server.
pub type Observer = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Whether a user may do anything at all: there are no roles. All may discover, and ask what they may do.
pub type Authorizer = fn(&User) -> bool;

impl Shared {
    pub fn permits(&self, user: &User) -> bool {
        self.authorizer.is_none_or(|permits| permits(user))
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("store", &self.store.id())
            .field("threaded", &self.threaded)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Serves a kind, to every tenant.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(Arc::new(kind));
        self
    }

    /// Serves kinds, to every tenant.
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        self.kinds.extend(kinds.into_iter().map(Arc::new));
        self
    }

    /// How much history watches can resume from.
    #[must_use]
    pub fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Writes on a thread of its own, so that the runtime's threads never wait for the disk. Without it the writer is
    /// a task like any other, and one thread gives one order of events.
    #[must_use]
    pub fn threaded_writer(mut self) -> Self {
        self.threaded = true;
        self
    }

    /// Tells of every change, of all tenants.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Serves a document at a path that is no resource's, to every tenant and user, such as `/metrics`.
    #[must_use]
    pub fn page(mut self, path: &'static str, page: Page) -> Self {
        self.pages.insert(path, page);
        self
    }

    /// Asks who may do anything; without it, everyone may.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Authorizer) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// Starts the server on the current tokio runtime.
    ///
    /// # Errors
    /// Where the store cannot be read, or no thread can be started.
    pub fn build(self) -> Result<ApiServer, StoreError> {
        let revision = self.store.snapshot()?.revision();
        let kinds = Registry::new(self.kinds);
        let documents = Documents::new(kinds.kinds());
        let core = Arc::new(Core {
            store: self.store,
            hub: Hub::new(self.history, revision),
            kinds,
            documents,
            clock: self.clock,
            random: self.random,
            work: WorkQueue::default(),
            observer: self.observer,
        });
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = if self.threaded {
            let core = Arc::clone(&core);
            let thread = std::thread::Builder::new().name("apiserver-writer".to_owned());
            let started = thread.spawn(move || writer::run_as_thread(&core, requests));
            Some(started.map_err(|error| StoreError::Write(error.into()))?)
        } else {
            tokio::spawn(writer::run_as_task(Arc::clone(&core), requests));
            None
        };
        let closing = CancellationToken::new();
        tokio::spawn(gc::run(Arc::clone(&core), queue.downgrade(), closing.clone()));
        let shared = Shared {
            core,
            queue,
            authorizer: self.authorizer,
            writer: Mutex::new(writer),
            _ends_tasks: closing.clone().drop_guard(),
            closing,
            pages: self.pages,
        };
        Ok(ApiServer { shared: Arc::new(shared) })
    }
}

impl ApiServer {
    /// Begins a server over a store, with a clock for time stamps and randomness for names and UIDs.
    pub fn builder(store: impl Store + 'static, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Builder {
        Self::builder_over(Arc::new(store), clock, random)
    }

    /// As [`ApiServer::builder`], over a store that others hold too.
    pub fn builder_over(store: Arc<dyn Store>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Builder {
        Builder {
            store,
            clock,
            random,
            kinds: Vec::new(),
            history: History::default(),
            threaded: false,
            observer: None,
            pages: BTreeMap::new(),
            authorizer: None,
        }
    }

    /// The handle of a tenant: its own world of objects under the server's kinds. It exists by having objects.
    pub fn tenant(&self, name: &str) -> Tenant {
        Tenant { shared: Arc::clone(&self.shared), name: Arc::from(escape(name)), version: Arc::from(VERSION) }
    }

    /// Everything in the store, of all tenants, as of its last commit.
    ///
    /// # Errors
    /// Where the store cannot be read, or is too large.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        Contents::of(&*self.shared.core.store)
    }

    /// Ends all watches and follow-up work; what was accepted is still written.
    pub fn shutdown(&self) {
        self.shared.closing.cancel();
    }

    /// Shuts down, and closes the store once what was accepted is written: when this returns, the store can be opened
    /// again, by another process too, and needs no repair. What is asked later is answered with 503.
    pub async fn close(&self) {
        self.shutdown();
        writer::close(&self.shared.queue).await;
        let thread = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It has answered as the last thing that it does.
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the store has failed");
        }
    }
}

/// Tenants are prefixes of keys: what separates keys must not be in their names.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F").replace('~', "%7E")
}

/// One tenant of a server. Cloning is cheap.
#[derive(Clone)]
pub struct Tenant {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenant").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tenant {
    /// What `/version` says, such as `v1.35.5`; without it, the Kubernetes version whose API the server follows.
    #[must_use]
    pub fn reporting_version(mut self, git_version: &str) -> Self {
        self.version = Arc::from(git_version);
        self
    }

    /// Answers one HTTP request in the name of a user. Never fails: errors are `Status` objects.
    pub async fn handle(&self, user: &User, request: http::Request<Bytes>) -> http::Response<Body> {
        service::handle(self, user, request).await
    }

    /// The tenant as a service for in-process clients, in the name of a user.
    pub fn service(&self, user: User) -> TenantService {
        TenantService::new(self.clone(), user)
    }

    /// A client of this tenant without a socket, whose default namespace is `default`.
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(self.service(user), "default")
    }

    /// As [`Tenant::client`], for one that never asks who set which field of an object.
    pub fn lean_client(&self, user: User) -> kube::Client {
        kube::Client::new(self.service(user).lean(), "default")
    }

    /// Removes everything of this tenant, without finalizers or events; its watches end as expired.
    ///
    /// # Errors
    /// Where the store fails, or the server is gone.
    pub async fn drop_all(&self) -> Result<(), ApiError> {
        writer::drop_tenant(&self.shared.queue, self.name.to_string()).await
    }
}
