//! Many simulated clusters of one control plane and three workers, with the real program: from files to Ready, at rest,
//! one change among all, `kina status`, and a start on what is there. How to run it: docs/benchmarks.md.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Parser;
use common::{Place, Serving, Usage};
use serde_json::Value;
use tokio::time::Instant;

#[derive(Parser, Debug)]
struct Args {
    /// How many clusters, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 100, 1000])]
    clusters: Vec<usize>,
    /// Latency of the simulated runtime: `none`, or anything else for the default
    #[arg(long, value_delimiter = ',', default_values_t = ["none".to_owned(), "default".to_owned()])]
    latency: Vec<String>,
    /// How long it is watched at rest, in seconds
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// How long it is left alone before that
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// Changes of one cluster each
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// How often `kina status` is called
    #[arg(long, default_value_t = 20)]
    status: usize,
    /// What is counted while it rests is printed, too
    #[arg(long)]
    counters: bool,
    /// Few clusters and short times: whether everything here works at all
    #[arg(long)]
    smoke: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Longest wait for all clusters to be Ready, and for the first call that follows from a change.
const READY_WITHIN: Duration = Duration::from_secs(900);
const CALL_WITHIN: Duration = Duration::from_secs(20);
/// What is logged while changes are timed: each call of the runtime when it begins.
const CALLS: &str = "warn,kina::runtime::calls=trace";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = Args::parse();
    if args.smoke {
        (args.clusters, args.latency) = (vec![3], vec!["none".to_owned()]);
        (args.idle, args.settle, args.changes, args.status) = (2, 1, 3, 2);
    }
    println!("{} ({})", common::binary().display(), common::machine());
    println!(
        "| clusters | latency | files to Ready | CPU | peak RSS | at rest | one change p50 / p99 | `kina status` | start | start to at rest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for latency in &args.latency {
        for count in &args.clusters {
            run(&args, *count, latency).await;
        }
    }
}

fn name(number: usize) -> String {
    format!("c{number:04}")
}

fn manifest(number: usize, workers: usize) -> String {
    format!(
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {}\nspec:\n  runtime: sim\n  workers:\n    - \
         name: default\n      replicas: {workers}\n",
        name(number)
    )
}

async fn run(args: &Args, count: usize, latency: &str) {
    let place = Place::new();
    for number in 0..count {
        place.write(&name(number), &manifest(number, 3));
    }
    let serving = Serving::start(&place, latency, "warn");
    let client = common::client(&place).await;
    let ready = ready(&client, count, serving.began).await;
    let made = serving.usage();
    tokio::time::sleep(Duration::from_secs(args.settle)).await;
    let idle = idle(args, &serving, &client).await;
    let status = status(args, &place);
    let peak = serving.usage().peak_kib;
    serving.end();

    let again = Serving::start(&place, latency, CALLS);
    let (start, rest) = (again.started, at_rest(&again).await);
    let changed = changes(args, &place, &again, count).await;
    let cores = |share: f64| format!("{:.2} % of a core", share * 100.0);
    println!(
        "| {count} | {latency} | {:.1} s | {:.1} s | {} MiB | {}, {} MiB | {:.0} / {:.0} ms | {:.0} ms | {:.0} ms | {:.1} s, {:.1} s CPU, {} MiB |",
        ready.as_secs_f64(),
        made.cpu.as_secs_f64(),
        peak / 1024,
        cores(idle.0),
        idle.1.now_kib / 1024,
        millis(common::quantile(&changed, 0.5)),
        millis(common::quantile(&changed, 0.99)),
        millis(status),
        millis(start),
        rest.0.as_secs_f64(),
        rest.1.cpu.as_secs_f64(),
        rest.1.peak_kib / 1024,
    );
    again.end();
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Waits until all clusters are Ready, as `kubectl get clusters` prints it; since `began`.
async fn ready(client: &kube::Client, count: usize, began: Instant) -> Duration {
    // Asking costs the server some milliseconds a hundred clusters: no more than a hundredth of the time.
    let pause = Duration::from_millis(u64::try_from(2 * count).unwrap_or(u64::MAX).clamp(20, 2000));
    loop {
        let ready = table(client).await.iter().filter(|cells| cells.get(2) == Some(&Value::from("True"))).count();
        let after = began.elapsed();
        if ready >= count {
            return after;
        }
        assert!(after < READY_WITHIN, "{ready} of {count} clusters are Ready after {after:?}");
        tokio::time::sleep(pause).await;
    }
}

/// Cells of all rows of `kubectl get clusters`.
async fn table(client: &kube::Client) -> Vec<Vec<Value>> {
    let request = http::Request::get("/apis/kina.dev/v1alpha1/clusters?includeObject=None")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .expect("a request");
    let table: Value = client.request(request).await.expect("a list of clusters");
    let rows = table["rows"].as_array().cloned().unwrap_or_default();
    rows.into_iter().filter_map(|row| row["cells"].as_array().cloned()).collect()
}

/// The share of one core that nothing costs.
async fn idle(args: &Args, serving: &Serving, client: &kube::Client) -> (f64, Usage) {
    let (before, counted) = (serving.usage(), common::counters(client).await);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(args.idle)).await;
    let (after, elapsed) = (serving.usage(), began.elapsed());
    if args.counters {
        println!("{}", moved(&counted, &common::counters(client).await));
    }
    ((after.cpu - before.cpu).as_secs_f64() / elapsed.as_secs_f64(), after)
}

fn moved(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for (name, now) in after {
        let more = now - before.get(name).copied().unwrap_or_default();
        if more > 0.0 {
            let _ = writeln!(text, "    {more:>10.3} {name}");
        }
    }
    text
}

/// The shortest of several calls: what the machine does besides can only add.
fn status(args: &Args, place: &Place) -> Duration {
    let once = |_| {
        let began = Instant::now();
        let done = place.command(&["status"]).output().expect("kina status");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        began.elapsed()
    };
    (0..args.status).map(once).min().unwrap_or_default()
}

/// From the start until it did next to nothing for a second.
async fn at_rest(serving: &Serving) -> (Duration, Usage) {
    let mut before = serving.usage();
    let mut since = (serving.began.elapsed(), before);
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = serving.usage();
        if (now.cpu - before.cpu) > Duration::from_millis(20) {
            since = (serving.began.elapsed(), now);
        } else if serving.began.elapsed() > since.0 + Duration::from_secs(1) {
            break;
        }
        before = now;
    }
    since
}

/// One worker more in one cluster after the other: from the renamed file to the first call of the runtime for it.
async fn changes(args: &Args, place: &Place, serving: &Serving, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    let step = (count / args.changes.max(1)).max(1);
    for change in 0..args.changes {
        let (number, workers) = ((change * step) % count, 4 + change * step / count);
        while serving.lines.try_recv().is_ok() {}
        let wanted = format!("{}-default-{}", name(number), workers - 1);
        let began = Instant::now();
        place.write(&name(number), &manifest(number, workers));
        let called = loop {
            let left = CALL_WITHIN.saturating_sub(began.elapsed());
            match serving.lines.recv_timeout(left) {
                Ok((at, line)) if line.contains(&wanted) => break at - began,
                Ok(_) => {}
                Err(_) => panic!("no call of the runtime for {wanted} within {CALL_WITHIN:?}"),
            }
        };
        times.push(called);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    times
}
