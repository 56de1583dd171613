//! The API alone, of the real program over its socket: durable creates beside etcd, a long list, a change that a thousand
//! watch, and what objects and watches cost. How to run it: docs/benchmarks.md.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use common::etcd::{self, Etcd};
use common::wire::Connection;
use common::{Place, Serving, Usage};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

#[derive(Parser, Debug)]
struct Args {
    /// Objects that are created and listed
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Clients that create them side by side
    #[arg(long, default_value_t = 32)]
    writers: usize,
    /// Watches that are told of one change
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// How often what can be repeated is; the best is told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Few of everything: whether everything here works at all
    #[arg(long)]
    smoke: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
/// Watches that share a connection: Kubernetes allows 250 streams on one.
const ON_ONE_CONNECTION: usize = 200;
/// How long a change may take to reach all.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = Args::parse();
    if args.smoke {
        (args.objects, args.writers, args.watchers, args.rounds) = (200, 4, 20, 1);
    }
    println!("{} ({})", common::binary().display(), common::machine());
    println!("| what | figure |\n|---|---|");
    let mut best = 0.0_f64;
    for round in 0..args.rounds {
        let place = Place::new();
        let serving = Serving::start(&place, "none", "warn");
        let kubeconfig = place.kina_home().join("kubeconfig");
        let before = serving.usage();
        let file = || std::fs::metadata(place.kina_home().join("store.redb")).map_or(0, |store| store.len());
        let empty = file();
        let mut connections = Vec::new();
        for _ in 0..args.writers {
            connections.push(Connection::of_kubeconfig(&kubeconfig).await);
        }
        let (took, latencies) = side_by_side(&args, connections, async |connection: &Connection, number| {
            connection.call("POST", LEASES, lease(number)).await;
        })
        .await;
        let rate = args.objects as f64 / took.as_secs_f64();
        best = best.max(rate);
        let after = serving.usage();
        println!(
            "| {} creates from {} writers (round {round}) | {rate:.0} a second, p50 {:.1} ms, p99 {:.1} ms, {:.0} µs CPU each |",
            args.objects,
            args.writers,
            millis(common::quantile(&latencies, 0.5)),
            millis(common::quantile(&latencies, 0.99)),
            (after.cpu - before.cpu).as_secs_f64() * 1e6 / args.objects as f64,
        );
        if round + 1 == args.rounds {
            sizes(&args, before, after, empty, file());
            let connection = Connection::of_kubeconfig(&kubeconfig).await;
            list(&args, &serving, &connection).await;
            fan_out(&args, &serving, &kubeconfig).await;
        }
        serving.end();
    }
    beside_etcd(&args, best).await;
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// An object of the size that leases have.
fn lease(number: usize) -> Bytes {
    let spec = json!({"holderIdentity": format!("node-{number}"), "leaseDurationSeconds": 40,
        "renewTime": "2026-01-01T00:00:00.000000Z"});
    let metadata = json!({"name": format!("bench-{number:06}"), "labels": {"bench": "yes"}});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
    Bytes::from(lease.to_string())
}

/// Creates all objects, each writer one after another; how long all took, and each.
async fn side_by_side<F, C>(args: &Args, connections: Vec<C>, create: F) -> (Duration, Vec<Duration>)
where
    F: AsyncFn(&C, usize),
{
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let writers = connections.iter().map(|connection| {
        let (next, create) = (&next, &create);
        async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= args.objects {
                    return latencies;
                }
                let began = Instant::now();
                create(connection, number).await;
                latencies.push(began.elapsed());
            }
        }
    });
    let latencies = futures::future::join_all(writers).await.concat();
    (began.elapsed(), latencies)
}

fn sizes(args: &Args, before: Usage, after: Usage, empty: u64, file: u64) {
    println!(
        "| an object of {} bytes | {} bytes of memory with what creating left, {} bytes of the store's file |",
        lease(0).len(),
        after.now_kib.saturating_sub(before.now_kib) * 1024 / args.objects as u64,
        file.saturating_sub(empty) / args.objects as u64,
    );
}

async fn list(args: &Args, serving: &Serving, connection: &Connection) {
    let (mut best, mut bytes) = (Duration::MAX, 0);
    for _ in 0..args.rounds.max(1) {
        let began = Instant::now();
        bytes = connection.call("GET", LEASES, Bytes::new()).await.len();
        best = best.min(began.elapsed());
    }
    let peak = serving.usage().peak_kib / 1024;
    println!(
        "| a list of {} ({} KiB of JSON) | {:.0} ms; peak RSS so far {peak} MiB |",
        args.objects,
        bytes / 1024,
        millis(best)
    );
}

/// One change, seen by everyone who watches.
async fn fan_out(args: &Args, serving: &Serving, kubeconfig: &std::path::Path) {
    // From now on: what there is already has been listed by whoever watches.
    let first =
        Connection::of_kubeconfig(kubeconfig).await.call("GET", &format!("{LEASES}?limit=1"), Bytes::new()).await;
    let first: serde_json::Value = serde_json::from_slice(&first).expect("a list");
    let revision = first["metadata"]["resourceVersion"].as_str().expect("a revision");
    let watch = format!("{LEASES}?watch=true&resourceVersion={revision}&labelSelector=fan%3Dout");
    let (told, mut heard) = mpsc::unbounded_channel();
    let before = serving.usage();
    let mut connections = Vec::new();
    for watcher in 0..args.watchers {
        if watcher % ON_ONE_CONNECTION == 0 {
            connections.push(Connection::of_kubeconfig(kubeconfig).await);
        }
        let answer = connections[watcher / ON_ONE_CONNECTION].send("GET", &watch, "", Bytes::new()).await;
        assert!(answer.status().is_success(), "a watch: {}", answer.status());
        let told = told.clone();
        tokio::spawn(async move {
            let mut body = answer.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                // A line an event, and an event a change.
                let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                for _ in 0..lines {
                    let _ = told.send(Instant::now());
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let watching = serving.usage();
    println!(
        "| a watch | {} bytes of memory |",
        watching.now_kib.saturating_sub(before.now_kib) * 1024 / args.watchers as u64
    );
    let writer = Connection::of_kubeconfig(kubeconfig).await;
    let (mut best_all, mut best_half) = (Duration::MAX, Duration::MAX);
    for round in 0..args.rounds.max(1) * 3 {
        let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": format!("fan-{round}"), "labels": {"fan": "out"}}, "spec": {}});
        let began = Instant::now();
        writer.call("POST", LEASES, Bytes::from(object.to_string())).await;
        let mut moments = Vec::new();
        while moments.len() < args.watchers {
            let moment = tokio::time::timeout(TOLD_WITHIN, heard.recv()).await;
            moments.push(moment.expect("everyone is told in time").expect("watches go on") - began);
        }
        best_all = best_all.min(common::quantile(&moments, 1.0));
        best_half = best_half.min(common::quantile(&moments, 0.5));
    }
    println!(
        "| a create until {} watches have it | half after {:.1} ms, all after {:.1} ms |",
        args.watchers,
        millis(best_half),
        millis(best_all)
    );
}

async fn beside_etcd(args: &Args, best: f64) {
    let mut rates = Vec::new();
    for round in 0..args.rounds {
        let Some(etcd) = Etcd::start().await else {
            println!("| the same beside etcd | SKIPPED: no etcd in the PATH, and none named by ETCD |");
            return;
        };
        let before = Usage::of(etcd.pid());
        let mut connections = Vec::new();
        for _ in 0..args.writers {
            connections.push(Connection::plain(&etcd.client).await.expect("a connection to etcd"));
        }
        let (took, latencies) = side_by_side(args, connections, async |connection: &Connection, number| {
            let key = format!("/registry/leases/default/bench-{number:06}");
            assert!(etcd::put(connection, &key, &lease(number)).await, "etcd refused a put");
        })
        .await;
        let rate = args.objects as f64 / took.as_secs_f64();
        rates.push(rate);
        println!(
            "| the same as puts into {} (round {round}) | {rate:.0} a second, p50 {:.1} ms, p99 {:.1} ms, {:.0} µs CPU each |",
            etcd.version,
            millis(common::quantile(&latencies, 0.5)),
            millis(common::quantile(&latencies, 0.99)),
            (Usage::of(etcd.pid()).cpu - before.cpu).as_secs_f64() * 1e6 / args.objects as f64,
        );
    }
    let of_etcd = rates.into_iter().fold(0.0, f64::max);
    println!("| Kina's best round beside etcd's best | {:.0} % |", 100.0 * best / of_etcd);
}
