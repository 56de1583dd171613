//! What the benches share: a Kina in a home of its own, and what it costs.

#![allow(dead_code, missing_docs)]

pub mod etcd;
pub mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// A temporary home with a directory of manifests beside it.
pub struct Place {
    root: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("kina-bench-").tempdir().expect("a temporary directory");
        fs::DirBuilder::new().mode(0o700).create(root.path().join("home")).expect("a home");
        fs::create_dir(root.path().join("clusters")).expect("a directory of manifests");
        Self { root }
    }

    pub fn manifest(&self, cluster: &str) -> PathBuf {
        self.root.path().join("clusters").join(format!("{cluster}.yaml"))
    }

    pub fn manifests(&self) -> PathBuf {
        self.root.path().join("clusters")
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub fn kina_home(&self) -> PathBuf {
        self.home().join(".kina")
    }

    /// Replaces a file at once, as editors do.
    pub fn write(&self, cluster: &str, text: &str) {
        let beside = self.manifest(cluster).with_extension("new");
        fs::write(&beside, text).expect("writing a manifest");
        fs::rename(beside, self.manifest(cluster)).expect("renaming a manifest");
    }

    /// `kina` in this place, with nothing else in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("HOME", self.home())
            .env("KINA_HOME", self.kina_home())
            .env("KINA_RUNTIME", "sim")
            // No runtime must be found: everything is simulated.
            .env("PATH", self.home())
            .env("LC_ALL", "C")
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

/// `KINA_BIN`, or what cargo built for this bench.
pub fn binary() -> PathBuf {
    std::env::var_os("KINA_BIN").map_or_else(|| env!("CARGO_BIN_EXE_kina").into(), PathBuf::from)
}

/// `kina serve`, ended with this.
pub struct Serving {
    child: Child,
    /// Lines of its log with the moment at which they were read.
    pub lines: Receiver<(Instant, String)>,
    pub began: Instant,
    /// From its start until it said that it serves.
    pub started: Duration,
}

impl Serving {
    pub fn start(place: &Place, latency: &str, log: &str) -> Self {
        let began = Instant::now();
        let manifests = place.manifests();
        let mut command = place.command(&["serve", "--watch", manifests.to_str().expect("a path in UTF-8")]);
        command.env("KINA_LOG", log).env("KINA_SIM_LATENCY", latency).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting kina");
        let mut reader = BufReader::new(child.stderr.take().expect("its stderr"));
        let mut said = String::new();
        while !said.contains("Ctrl-C ends it") {
            let read = reader.read_line(&mut said).expect("reading what kina says");
            assert!(read > 0, "kina serve ended:\n{said}");
        }
        let started = began.elapsed();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, began, started }
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// Asks it to end, and waits.
    pub fn end(mut self) {
        let kill = format!("kill -TERM {}", self.child.id());
        let _ = Command::new("/bin/sh").args(["-c", &kill]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used so far. Zero where there is no `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub peak_kib: u64,
    pub now_kib: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Self {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        Self { cpu: cpu(&proc.join("stat")), peak_kib: kib("VmHWM"), now_kib: kib("VmRSS") }
    }
}

/// User and system time, in hundredths of a second on every Linux.
fn cpu(stat: &Path) -> Duration {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = |field: usize| after_name.split_whitespace().nth(field).and_then(|text| text.parse::<u64>().ok());
    Duration::from_millis(10 * (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()))
}

/// The value at a share of all, 0 where there is none.
pub fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).ceil() as usize).copied().unwrap_or_default()
}

/// How busy the machine is, and with how many cores.
pub fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, load {load}")
}

/// Counters of the metrics page, by name and labels.
pub async fn counters(client: &kube::Client) -> BTreeMap<String, f64> {
    let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
    let text = client.request_text(request).await.unwrap_or_default();
    let counter = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        (name.contains("_total") || name.contains("_sum")).then(|| Some((name.to_owned(), value.parse().ok()?)))?
    };
    text.lines().filter_map(counter).collect()
}

/// A client of a Kina by what it wrote into its home.
pub async fn client(place: &Place) -> kube::Client {
    use kube::config::{KubeConfigOptions, Kubeconfig};
    let text = fs::read_to_string(place.kina_home().join("kubeconfig")).expect("Kina's own kubeconfig");
    let kubeconfig = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.expect("a configuration")).expect("a client")
}
