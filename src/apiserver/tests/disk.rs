//! A disk that does not come back from a sync: who waits for it, and who does not.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use serde_json::json;

use super::support::{call, garden};
use crate::apiserver::ApiServer;
use crate::apiserver::store::{DEFAULT_CACHE_BYTES, RedbStore};
use crate::apiserver::user::User;
use crate::world::World;

/// Far longer than anything takes that does not wait for the disk.
const AT_ONCE: Duration = Duration::from_secs(20);

/// What a sync waits for.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<Held>, Condvar)>);

#[derive(Debug, Default)]
struct Held {
    is_shut: bool,
    waiting: usize,
}

impl Gate {
    fn set(&self, is_shut: bool) {
        self.0.0.lock().unwrap().is_shut = is_shut;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut held = self.0.0.lock().unwrap();
        held.waiting += 1;
        self.0.1.notify_all();
        held = self.0.1.wait_while(held, |held| held.is_shut).unwrap();
        held.waiting -= 1;
    }

    /// Waits until somebody waits.
    fn until_reached(&self) {
        let held = self.0.0.lock().unwrap();
        let (_held, late) = self.0.1.wait_timeout_while(held, AT_ONCE, |held| held.waiting == 0).unwrap();
        assert!(!late.timed_out(), "nobody syncs");
    }
}

#[derive(Debug)]
struct Disk {
    memory: InMemoryBackend,
    gate: Gate,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.memory.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// Reads, lists, opens a watch and hears from one, all while a write waits for its sync.
async fn read_while_a_write_waits(gate: Gate) {
    let disk = Disk { memory: InMemoryBackend::new(), gate: gate.clone() };
    let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
    let store = RedbStore::with_backend(disk, DEFAULT_CACHE_BYTES, "store").unwrap();
    let server = ApiServer::builder(store, world.clock, world.random).kind(garden()).threaded_writer();
    let tenant = server.build().unwrap().tenant("t");
    let gardens = "/apis/example.dev/v1/gardens";
    let one = |name: &str| json!({"apiVersion": "example.dev/v1", "kind": "Garden", "metadata": {"name": name}, "spec": {"trees": 1}});
    assert_eq!(call(&tenant, "POST", gardens, one("first")).await.0, 201);
    let watch = || async {
        let request = http::Request::get(format!("{gardens}?watch=true&resourceVersion=0")).body(Bytes::new());
        tenant.handle(&User::named("watcher"), request.unwrap()).await.into_body()
    };
    let mut open = watch().await;
    assert!(line(&mut open).await.contains("first"));

    gate.set(true);
    let (writer, path) = (tenant.clone(), one("second"));
    let write = tokio::spawn(async move { call(&writer, "POST", gardens, path).await.0 });
    tokio::task::yield_now().await;
    tokio::task::spawn_blocking({
        let gate = gate.clone();
        move || gate.until_reached()
    })
    .await
    .unwrap();

    assert_eq!(call(&tenant, "GET", &format!("{gardens}/first"), json!(null)).await.0, 200);
    let (code, listed) = call(&tenant, "GET", gardens, json!(null)).await;
    assert_eq!((code, listed["items"].as_array().map(Vec::len)), (200, Some(1)), "what is not durable is not seen");
    assert!(line(&mut watch().await).await.contains("first"), "a watch begins");
    assert!(!write.is_finished(), "the write itself waits");

    gate.set(false);
    assert_eq!(write.await.unwrap(), 201);
    assert!(line(&mut open).await.contains("second"));
}

async fn line(body: &mut crate::apiserver::body::Body) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8_lossy(frame.data_ref().unwrap()).into_owned()
}

#[test]
fn no_reader_and_no_watcher_waits_for_a_sync() {
    let gate = Gate::default();
    let (done, told) = std::sync::mpsc::channel();
    let there = gate.clone();
    // A reader that waits for the disk would hold up the whole thread: it is looked at from outside.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(read_while_a_write_waits(there));
        done.send(()).unwrap();
    });
    let ended = told.recv_timeout(AT_ONCE);
    gate.set(false);
    assert!(thread.join().is_ok(), "see above");
    ended.expect("somebody waited for the disk who must not");
}
