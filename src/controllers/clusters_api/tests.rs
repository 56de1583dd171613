//! How often API servers are asked whether they are there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::client::Body;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::heard::Heard;
use super::view::Known;
use super::watch::Watch;
use crate::apiserver::store::RedbStore;
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, core};
use crate::controllers::wake::Waker;
use crate::runtime::connect::api_service;
use crate::world::World;

/// A client of a cluster that counts what is asked, and whose server can fall silent or go away.
#[derive(Clone)]
struct Line {
    client: kube::Client,
    probes: Arc<AtomicUsize>,
    leases: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
}

impl tower::Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, kube::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if request.uri().path() == "/readyz" {
                this.probes.fetch_add(1, Ordering::SeqCst);
            }
            if request.uri().path().ends_with("/leases/kube-controller-manager") {
                this.leases.fetch_add(1, Ordering::SeqCst);
            }
            if this.away.load(Ordering::SeqCst) {
                return Err(kube::Error::Service(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()));
            }
            if this.silent.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            this.client.send(request).await
        })
    }
}

/// One cluster among so many, watched.
struct Watched {
    server: ApiServer,
    known: Arc<std::sync::Mutex<Known>>,
    line: Line,
    end: CancellationToken,
}

impl Watched {
    fn among(clusters: usize) -> Self {
        Self::over(server(), clusters)
    }

    /// One of few, whose controllers were led by somebody who renewed last at second 100.
    async fn led_before() -> Self {
        Self::led_before_among(3).await
    }

    async fn led_before_among(clusters: usize) -> Self {
        let server = server();
        let namespaces: Api<Namespace> = Api::all(server.tenant("cluster").client(User::named("admin")));
        let system = serde_json::from_value(json!({"metadata": {"name": "kube-system"}})).unwrap();
        namespaces.create(&PostParams::default(), &system).await.unwrap();
        renew(&server, 0, 50, 100).await;
        Self::over(server, clusters)
    }

    fn over(server: ApiServer, clusters: usize) -> Self {
        let client = server.tenant("cluster").client(User::named("kina"));
        let (probes, leases) = (Arc::default(), Arc::default());
        let line = Line { client, probes, leases, silent: Arc::default(), away: Arc::default() };
        let (client, heard) = Heard::through(api_service(line.clone()));
        let (known, end) = (Arc::<std::sync::Mutex<Known>>::default(), CancellationToken::new());
        let watch = Watch {
            cluster: "dev".to_owned(),
            client,
            known: Arc::clone(&known),
            waker: Waker::default(),
            heard,
            crowd: Arc::new(AtomicUsize::new(clusters)),
            nudge: Arc::default(),
        };
        tokio::spawn(watch.run(end.clone()));
        Self { server, known, line, end }
    }

    fn probes(&self) -> usize {
        self.line.probes.load(Ordering::SeqCst)
    }

    /// How often it was asked whether somebody leads its controllers.
    fn leases(&self) -> usize {
        self.line.leases.load(Ordering::SeqCst)
    }

    fn is_controlled(&self) -> bool {
        self.known.lock().unwrap().view.controlled
    }

    fn answers(&self) -> Option<bool> {
        self.known.lock().unwrap().view.answers
    }
}

fn server() -> ApiServer {
    let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::builder(RedbStore::in_memory("store").unwrap(), world.clock, world.random);
    server.kinds(core::workload()).build().unwrap()
}

/// kube-controller-manager says that it leads since a second, and still at another one, after so many others.
async fn renew(server: &ApiServer, others: i32, since: i64, now: i64) {
    let leases: Api<Lease> = Api::namespaced(server.tenant("cluster").client(User::named("kcm")), "kube-system");
    let time = |second| jiff::Timestamp::from_second(second).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let spec = json!({"leaseTransitions": others, "acquireTime": time(since), "renewTime": time(now)});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec});
    let params = PatchParams::apply("kcm").force();
    leases.patch("kube-controller-manager", &params, &Patch::Apply(lease)).await.unwrap();
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_is_an_answer_and_one_of_a_thousand_clusters_is_not_asked_besides() {
    let watched = Watched::among(1000);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!((watched.probes(), watched.answers()), (0, Some(true)));
}

#[tokio::test(start_paused = true)]
async fn one_of_few_clusters_is_asked_as_soon_as_it_was_quiet_for_a_quarter_of_a_minute() {
    let watched = Watched::among(3);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!((30..=40).contains(&watched.probes()), "{}", watched.probes());
    assert_eq!(watched.answers(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn one_that_falls_silent_is_noticed_among_few_and_among_many() {
    for (clusters, within) in [(3, 23), (1000, 98)] {
        let watched = Watched::among(clusters);
        tokio::time::sleep(Duration::from_secs(100)).await;
        watched.line.silent.store(true, Ordering::SeqCst);
        // Streams that are open break off with the server; new ones never begin.
        watched.server.shutdown();
        tokio::time::sleep(Duration::from_secs(within + 1)).await;
        assert_eq!(watched.answers(), None, "among {clusters}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_leader_was_ever_elected_nothing_that_controllers_say_is_old() {
    let watched = Watched::among(3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((watched.answers(), watched.is_controlled()), (Some(true), true));
}

#[tokio::test(start_paused = true)]
async fn controllers_that_go_on_working_are_believed_as_soon_as_they_are_seen_to() {
    let watched = Watched::led_before().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!watched.is_controlled());
    renew(&watched.server, 0, 50, 102).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(watched.is_controlled());
}

#[tokio::test(start_paused = true)]
async fn controllers_that_took_over_are_believed_after_a_while_and_no_more_once_the_server_was_away() {
    let watched = Watched::led_before().await;
    for (others, since, now, controlled) in
        [(0, 50, 100, false), (1, 115, 115, false), (1, 115, 117, false), (1, 115, 119, true)]
    {
        renew(&watched.server, others, since, now).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(watched.is_controlled(), controlled, "renewed at {now}");
    }
    watched.line.away.store(true, Ordering::SeqCst);
    watched.server.shutdown();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((watched.answers(), watched.is_controlled()), (Some(false), false));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_comes_after_an_hour_is_seen_all_the_same_and_was_not_asked_for_all_the_time() {
    let watched = Watched::led_before().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!watched.is_controlled());
    assert!((350..400).contains(&watched.leases()), "{}", watched.leases());
    renew(&watched.server, 1, 200, 210).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(watched.is_controlled());
}

#[tokio::test(start_paused = true)]
async fn of_many_clusters_each_is_asked_less_often_whether_its_controllers_work() {
    let watched = Watched::led_before_among(2000).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!((5..=7).contains(&watched.leases()), "{}", watched.leases());
}
