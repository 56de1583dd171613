//! A store that fails, a server that ends at any time, and a writer on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};

use super::support::*;
use crate::apiserver::store::tests::{Medium, on};
use crate::apiserver::store::{Batch, RedbStore, Snapshot, Store, StoreError};
use crate::apiserver::{ApiServer, Tenant, core};
use crate::world::World;

const GARDENS: &str = "/apis/example.dev/v1/gardens";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn body(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "trees": 1 } })
}

fn serve(store: impl Store + 'static) -> Tenant {
    let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::builder(store, world.clock, world.random).kind(garden()).kinds(core::control());
    server.kinds(core::workload()).build().unwrap().tenant("a")
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_writes_with_507_and_still_answers_reads() {
    let medium = Medium::default();
    let tenant = serve(on(&medium).unwrap());
    assert_eq!(call(&tenant, "POST", GARDENS, body("x")).await.0, 201);
    medium.full.store(true, Ordering::SeqCst);
    let (code, status) = call(&tenant, "POST", GARDENS, body("y")).await;
    assert_eq!((code, &status["kind"], &status["code"]), (507, &json!("Status"), &json!(507)));
    assert!(get(&tenant, &format!("{GARDENS}/x")).await.is_some());
    assert!(get(&tenant, &format!("{GARDENS}/y")).await.is_none());
    medium.full.store(false, Ordering::SeqCst);
    assert_eq!(call(&tenant, "POST", GARDENS, body("y")).await.0, 201);
    let lines = watch_lines(&tenant, &format!("{GARDENS}?watch=1&resourceVersion=1&timeoutSeconds=1")).await;
    assert_eq!(briefly(&lines), ["ADDED x@2", "ADDED y@3"]);
}

/// Makes commits and, when told to, says that they failed.
struct Liar {
    store: RedbStore,
    lies: Arc<AtomicBool>,
}

impl Store for Liar {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.commit(batch)?;
        if self.lies.load(Ordering::SeqCst) { Err(StoreError::Write("a lie".into())) } else { Ok(()) }
    }

    fn id(&self) -> &str {
        self.store.id()
    }

    fn close(&self) {
        self.store.close();
    }
}

#[tokio::test(start_paused = true)]
async fn watchers_are_sent_back_to_a_list_when_a_failed_commit_was_made_after_all() {
    let lies = Arc::new(AtomicBool::new(false));
    let tenant = serve(Liar { store: RedbStore::in_memory("s").unwrap(), lies: Arc::clone(&lies) });
    let watch = {
        let tenant = tenant.clone();
        let path = format!("{GARDENS}?watch=1&resourceVersion=1&timeoutSeconds=60");
        tokio::spawn(async move { watch_lines(&tenant, &path).await })
    };
    call(&tenant, "POST", GARDENS, body("x")).await;
    lies.store(true, Ordering::SeqCst);
    assert_eq!(call(&tenant, "POST", GARDENS, body("y")).await.0, 500);
    lies.store(false, Ordering::SeqCst);
    assert_eq!(call(&tenant, "POST", GARDENS, body("z")).await.0, 201);
    let lines = watch.await.unwrap();
    assert_eq!(briefly(&lines)[0], "ADDED x@2");
    assert_eq!((&lines[1]["type"], &lines[1]["object"]["code"], lines.len()), (&json!("ERROR"), &json!(410), 2));
    let (_, list) = call(&tenant, "GET", GARDENS, json!(null)).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
}

/// Makes so many commits and no more.
struct Ends {
    store: RedbStore,
    left: AtomicU64,
}

impl Store for Ends {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if self.left.load(Ordering::SeqCst) == 0 {
            return Err(StoreError::Write("the process ended".into()));
        }
        self.left.fetch_sub(1, Ordering::SeqCst);
        self.store.commit(batch)
    }

    fn id(&self) -> &str {
        self.store.id()
    }

    fn close(&self) {
        self.store.close();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_restart_goes_on_with_revisions_and_with_work_that_was_left() {
    let medium = Medium::default();
    let left = runtime().block_on(async {
        // The process ends before the collector's first commit.
        let tenant = serve(Ends { store: on(&medium).unwrap(), left: AtomicU64::new(4) });
        call(&tenant, "POST", "/api/v1/namespaces", json!({ "metadata": { "name": "default" } })).await;
        let (_, owner) = call(&tenant, "POST", MAPS, json!({ "metadata": { "name": "owner" } })).await;
        let reference =
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"] }]);
        let owned = json!({ "metadata": { "name": "owned", "ownerReferences": reference } });
        call(&tenant, "POST", MAPS, owned).await;
        call(&tenant, "DELETE", &format!("{MAPS}/owner"), json!(null)).await;
        get(&tenant, MAPS).await.unwrap()
    });
    assert_eq!(left["items"][0]["metadata"]["name"], "owned");
    runtime().block_on(async {
        let tenant = serve(on(&medium).unwrap());
        settle().await;
        let list = get(&tenant, MAPS).await.unwrap();
        assert!(list["items"].as_array().unwrap().is_empty());
        let version = |list: &Value| list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(version(&list), version(&left) + 1);
        let old = format!("{MAPS}?watch=1&resourceVersion=2&timeoutSeconds=1");
        assert_eq!(watch_lines(&tenant, &old).await[0]["object"]["code"], 410, "history begins with the server");
        let snapshot = tenant.shared.core.store.snapshot().unwrap();
        let mut rows = 0;
        snapshot
            .visit("~", "", &mut |_, _| {
                rows += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(rows, 0, "work that is done leaves nothing");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_on_a_thread_of_its_own_serves_many_at_once() {
    let home = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&home.path().join("s.redb"), 1 << 20, "s").unwrap();
    let world = World::real();
    let server = ApiServer::builder(store, world.clock, world.random).kind(garden()).threaded_writer().build().unwrap();
    let tenant = server.tenant("a");
    let answers = join_all((0..200).map(|index| {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            let (_, made) = call(&tenant, "POST", GARDENS, body(&format!("g{index}"))).await;
            let version: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            let read = get(&tenant, &format!("{GARDENS}?resourceVersion={version}&resourceVersionMatch=Exact")).await;
            (version, read.unwrap()["items"].as_array().unwrap().len() as u64)
        })
    }))
    .await;
    let mut seen: Vec<(u64, u64)> = answers.into_iter().map(Result::unwrap).collect();
    seen.sort_unstable();
    let expected: Vec<(u64, u64)> = (1..=200).map(|count| (count + 1, count)).collect();
    assert_eq!(seen, expected, "each has a revision of its own and sees exactly what was there at it");
}
