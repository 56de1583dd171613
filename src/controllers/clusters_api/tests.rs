//! How often API servers are asked whether they are there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use kube::client::Body;
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

/// A client of a cluster that counts what is asked, and whose server can fall silent.
#[derive(Clone)]
struct Line {
    client: kube::Client,
    probes: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
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
    probes: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
    end: CancellationToken,
}

impl Watched {
    fn among(clusters: usize) -> Self {
        let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
        let server = ApiServer::builder(RedbStore::in_memory("store").unwrap(), world.clock, world.random);
        let server = server.kinds(core::workload()).build().unwrap();
        let client = server.tenant("cluster").client(User::named("kina"));
        let (probes, silent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let line = Line { client, probes: Arc::clone(&probes), silent: Arc::clone(&silent) };
        let (client, heard) = Heard::through(api_service(line));
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
        Self { server, known, probes, silent, end }
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }

    fn answers(&self) -> Option<bool> {
        self.known.lock().unwrap().view.answers
    }
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
        watched.silent.store(true, Ordering::SeqCst);
        // Streams that are open break off with the server; new ones never begin.
        watched.server.shutdown();
        tokio::time::sleep(Duration::from_secs(within + 1)).await;
        assert_eq!(watched.answers(), None, "among {clusters}");
    }
}
