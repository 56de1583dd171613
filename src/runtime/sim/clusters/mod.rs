//! The Kubernetes side of simulated clusters: one API server over one store, a tenant for each cluster, and the work
//! that in a real cluster kubelets, scheduler and controllers do.

mod admission;
mod disruption;
mod engine;
mod families;
mod kubelets;
mod leader;
mod model;
mod nodes;
mod pods;
mod questions;
mod revisions;
mod services;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use serde_json::json;

use super::core::{Core, News, Ticket};
use super::kubeadm::Answer;
use super::options::Sockets;
use super::route::Backend;
use super::time::At;
use crate::apiserver::batch::Session;
use crate::apiserver::body::Body;
use crate::apiserver::store::Store;
use crate::apiserver::user::User;
use crate::apiserver::{ApiError, ApiServer, History, Tenant};
use engine::Scene;
use kubelets::Pulse;
use leader::Leaders;

/// Clusters looked at side by side: their writes share commits of up to 64 operations.
const ABREAST: usize = 64;
/// What watches of all clusters together can resume from: 1,000 events a resource, 8 MiB in all. A watch that falls
/// behind that starts anew, as on any cluster.
const HISTORY: History = History { events: 1000, bytes: 8 * 1024 * 1024 };
/// Groups whose members may do everything.
const ADMINISTRATORS: [&str; 2] = ["system:masters", "kubeadm:cluster-admins"];

/// All simulated clusters.
pub(super) struct Clusters {
    pub core: Arc<Core>,
    server: ApiServer,
    turns: AtomicUsize,
    /// Clusters to look at, with the time at which; woken by changes of their objects and by time.
    agenda: Arc<Mutex<Agenda>>,
    /// Which nodes have a heartbeat.
    pulse: Arc<Pulse>,
    /// Whose controllers work.
    leaders: Arc<Leaders>,
}

impl fmt::Debug for Clusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clusters").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Agenda {
    /// To be looked at as soon as possible: their objects changed.
    now: BTreeSet<String>,
    /// To be looked at if anything that they stand on is other than it was.
    moved: BTreeSet<String>,
    /// What clusters stood on when they were looked at last, as a hash.
    stood: BTreeMap<String, [u8; 32]>,
    /// When to look again.
    later: BTreeSet<(At, String)>,
    /// The entry of a cluster in `later`.
    when: BTreeMap<String, At>,
    /// Clusters that have their first namespaces: their API servers are open.
    open: BTreeSet<String>,
}

impl Agenda {
    fn schedule(&mut self, tenant: &str, at: Option<At>) {
        if let Some(old) = self.when.remove(tenant) {
            self.later.remove(&(old, tenant.to_owned()));
        }
        if let Some(at) = at {
            self.when.insert(tenant.to_owned(), at);
            self.later.insert((at, tenant.to_owned()));
        }
    }

    /// Clusters to look at, and whether in any case.
    fn due(&mut self, now: At) -> BTreeMap<String, bool> {
        let mut due: BTreeMap<String, bool> =
            std::mem::take(&mut self.moved).into_iter().map(|name| (name, false)).collect();
        due.extend(std::mem::take(&mut self.now).into_iter().map(|name| (name, true)));
        while let Some((at, tenant)) = self.later.first().cloned().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, tenant.clone()));
            self.when.remove(&tenant);
            due.insert(tenant, true);
        }
        due
    }
}

impl Clusters {
    /// # Errors
    /// Where the store cannot be read.
    pub fn new(core: Arc<Core>, store: impl Store + 'static) -> Result<Arc<Self>, crate::apiserver::store::StoreError> {
        let agenda: Arc<Mutex<Agenda>> = Arc::default();
        let pulse = Arc::new(Pulse::new(Arc::clone(&core.world.clock)));
        let leaders = Arc::new(Leaders::new(Arc::clone(&core.world.clock)));
        let (waiting, waker) = (Arc::clone(&agenda), Arc::downgrade(&core));
        let observer = Arc::new(move |tenant: &str, resource: &str| {
            if model::concerns_engine(resource) {
                waiting.lock().unwrap_or_else(PoisonError::into_inner).now.insert(tenant.to_owned());
                if let Some(core) = waker.upgrade() {
                    core.wake.notify_one();
                }
            }
        });
        let server = ApiServer::builder(store, Arc::clone(&core.world.clock), Arc::clone(&core.world.random))
            .kinds(admission::kinds(&pulse, &leaders))
            .history(HISTORY)
            .authorizer(may)
            .observer(observer);
        // Where sockets are, real time passes, and the disk may be waited for on a thread.
        let server = if core.options.sockets == Sockets::Listen { server.threaded_writer() } else { server };
        let server = server.build()?;
        Ok(Arc::new(Self { core, server, turns: AtomicUsize::new(0), agenda, pulse, leaders }))
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which backend of a load balancer is next.
    pub fn next_turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a cluster's API server has made its first objects.
    pub fn is_open(&self, tenant: &str) -> bool {
        self.agenda().open.contains(tenant)
    }

    /// When something next happens by itself.
    pub fn next_due(&self) -> Option<At> {
        self.agenda().later.first().map(|(at, _)| *at)
    }

    /// Answers what units asked, and lets kubelets and controllers work where something changed. Returns whether there
    /// was anything to do.
    pub async fn work(self: &Arc<Self>, news: News) -> bool {
        let now = self.core.now();
        for tenant in &news.dropped {
            self.forget(tenant).await;
        }
        self.agenda().moved.extend(news.changed.difference(&news.dropped).cloned());
        let asked = self.answer_all(news.tickets).await;
        let due = self.agenda().due(now);
        let worked = !due.is_empty() || asked;
        let looking = due.into_iter().map(|(tenant, surely)| {
            let this = Arc::clone(self);
            async move { this.look(&tenant, surely).await }
        });
        futures::stream::iter(looking).buffered(ABREAST).for_each(|()| async {}).await;
        worked
    }

    async fn answer_all(self: &Arc<Self>, tickets: Vec<Ticket>) -> bool {
        let asked = !tickets.is_empty();
        let asking = tickets.into_iter().map(|ticket| {
            let this = Arc::clone(self);
            async move {
                let answer = this.ask(&ticket).await;
                (ticket, answer)
            }
        });
        let mut answers = futures::stream::iter(asking).buffered(ABREAST);
        while let Some((ticket, answer)) = answers.next().await {
            self.core.answer(&ticket, answer);
        }
        asked
    }

    async fn ask(&self, ticket: &Ticket) -> Answer {
        let tenant = self.tenant(&ticket.ask.tenant);
        if let Err(error) = self.open(&tenant).await {
            tracing::warn!(%error, "cannot write to a simulated cluster");
            return Answer::Away;
        }
        let question = ticket.ask.question.clone();
        match tenant.batch(move |session| questions::answer(session, question)).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "cannot write to a simulated cluster");
                Answer::Away
            }
        }
    }

    /// Makes what an API server makes when it first starts.
    async fn open(&self, tenant: &Tenant) -> Result<(), ApiError> {
        if !self.is_open(tenant.name()) {
            // Else a loss of power could leave objects of a cluster that nobody knows.
            if let Err(error) = self.core.durable().await {
                return Err(ApiError::internal(format!("cannot write the simulated world: {error}")));
            }
            tenant.batch(questions::begin).await?;
            self.agenda().open.insert(tenant.name().to_owned());
        }
        Ok(())
    }

    /// Lets a cluster's kubelets and controllers do what there is to do now; unless `surely`, only where something
    /// changed under it.
    async fn look(&self, name: &str, surely: bool) {
        let tenant = self.tenant(name);
        let now = self.core.now();
        let infra = self.core.read(|state| kubelets::infra(state, name));
        let Some(infra) = infra else {
            self.agenda().schedule(name, None);
            return;
        };
        let stands = infra.digest();
        let stood = self.agenda().stood.insert(name.to_owned(), stands);
        if !surely && stood == Some(stands) {
            return;
        }
        self.pulse.set(name, &infra, now);
        self.leaders.set(name, infra.serving, now, self.core.options.latency.election);
        if !infra.serving {
            return;
        }
        let (pulse, latency) = (Arc::clone(&self.pulse), self.core.options.latency.clone());
        let led_from = self.leaders.from(name);
        let unrecorded = self.leaders.is_unrecorded(name, now);
        let work = move |session: &mut Session<'_, '_>| {
            if unrecorded {
                leader::record(session, now)?;
            }
            engine::pass(session, &Scene { infra: &infra, pulse: &pulse, latency: &latency, led_from, now })
        };
        let result = match self.open(&tenant).await {
            Ok(()) => tenant.batch(work).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(pass) => {
                if unrecorded {
                    self.leaders.recorded(name);
                }
                self.core.registered(&pass.registered);
                self.agenda().schedule(name, pass.again);
            }
            Err(error) => {
                tracing::warn!(%error, cluster = name, "a simulated cluster stands still");
                self.agenda().stood.remove(name);
                self.agenda().schedule(name, Some(now.plus(std::time::Duration::from_secs(1))));
            }
        }
    }

    async fn forget(&self, name: &str) {
        match self.tenant(name).drop_all().await {
            Ok(()) => self.core.forget_cluster(name),
            // It is tried again when the world is opened the next time.
            Err(error) => tracing::warn!(%error, cluster = name, "cannot remove what a simulated cluster left"),
        }
        self.pulse.forget(name);
        self.leaders.forget(name);
        let mut agenda = self.agenda();
        agenda.schedule(name, None);
        agenda.now.remove(name);
        agenda.moved.remove(name);
        agenda.stood.remove(name);
        agenda.open.remove(name);
    }

    /// Closes the store of all objects.
    pub async fn close(&self) {
        self.server.close().await;
    }

    /// How many objects the store holds of a cluster.
    #[cfg(test)]
    pub async fn objects_of(&self, name: &str) -> usize {
        let tenant = self.tenant(name);
        let counted = tenant.batch(|session| {
            let mut count = 0;
            for kind in crate::apiserver::core::workload() {
                session.visit(&kind.resource, None, &mut |_, _| {
                    count += 1;
                    std::ops::ControlFlow::Continue(())
                })?;
            }
            Ok(count)
        });
        counted.await.unwrap()
    }

    /// The revision of the store: unchanged where nothing was written.
    #[cfg(test)]
    pub fn revision(&self) -> u64 {
        self.server.shared.core.hub.published()
    }

    fn tenant(&self, name: &str) -> Tenant {
        self.server.tenant(name)
    }

    /// Answers a request as the API server of a cluster. `None` is a client without a certificate of the cluster.
    pub async fn answer(&self, backend: &Backend, user: Option<&User>, request: Request<Bytes>) -> Response<Body> {
        let Some(user) = user else { return status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized") };
        self.tenant(&backend.tenant).reporting_version(&backend.version).handle(user, request).await
    }
}

/// Roles are not modelled: members of these groups may do everything, others nothing.
fn may(user: &User) -> bool {
    user.groups.iter().any(|group| ADMINISTRATORS.contains(&group.as_str()))
}

pub(super) fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": message, "reason": reason, "code": code.as_u16()});
    let mut response = Response::new(Body::whole(status.to_string()));
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
