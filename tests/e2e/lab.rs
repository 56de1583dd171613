//! A home of its own, a kina that serves it, and what it leaves behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Where no image is named.
const IMAGE: &str = "docker.io/kindest/node:v1.35.0";
/// For everything that is waited for. A machine under load takes some ten times as long as one that is idle.
const WITHIN: &str = "--timeout=300s";

/// One story at a time: a host has room for one cluster.
static TURN: Mutex<()> = Mutex::new(());

/// A home, and a kina that serves it.
pub struct Lab {
    root: TempDir,
    /// Name of the cluster.
    pub cluster: String,
    /// Of its nodes.
    pub image: String,
    /// Of Kubernetes, as the image says.
    pub version: String,
    /// What its kina is told besides.
    environment: Vec<(&'static str, &'static str)>,
    serving: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

/// What a cluster's file says, apart from its name and image.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    pub control_planes: u32,
    pub workers: u32,
    /// More lines of the worker pool, indented by six.
    pub pool: &'a str,
}

/// One node.
pub const SINGLE: Shape<'static> = Shape { control_planes: 1, workers: 0, pool: "" };
/// A control plane and two workers.
pub const THREE: Shape<'static> = Shape { workers: 2, ..SINGLE };

impl Lab {
    /// A kina that serves an empty home; `None`, and a line that says why, where there can be none.
    pub fn open(cluster: &str) -> Option<Self> {
        Self::open_with(cluster, &[])
    }

    /// The same, with containers left to whatever address Docker gives them at each start.
    pub fn open_where_addresses_move(cluster: &str) -> Option<Self> {
        Self::open_with(cluster, &[("KINA_DOCKER_PIN_ADDRESSES", "false")])
    }

    /// The same, with more in the environment.
    pub fn open_with(cluster: &str, environment: &[(&'static str, &'static str)]) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = |why: String| {
            eprintln!("SKIPPED, real Kubernetes: {why}");
            None
        };
        if docker(&["info"]).is_none() {
            return skipped("no Docker answers".to_owned());
        }
        if !Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|output| output.status.success()) {
            return skipped("there is no kubectl".to_owned());
        }
        let image = std::env::var("KINA_E2E_NODE_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
        let Some(version) = docker(&["run", "--rm", "--pull=never", "--entrypoint=cat", &image, "/kind/version"])
        else {
            return skipped(format!("{image} is not on this host (`KINA_E2E_NODE_IMAGE` names another one)"));
        };
        let mut lab = Self {
            root: tempfile::Builder::new().prefix("kina-e2e-").tempdir().unwrap(),
            cluster: cluster.to_owned(),
            image,
            version: version.trim().to_owned(),
            environment: environment.to_vec(),
            serving: None,
            _turn: turn,
        };
        lab.serve();
        Some(lab)
    }

    /// Starts the kina that serves.
    pub fn serve(&mut self) {
        let mut log = fs::File::options().create(true).append(true).open(self.path("serve.log")).unwrap();
        let mut command = self.command(&["serve"]);
        let command = command.env("KINA_LOG", "kina=debug").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (serves, is_serving) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writeln!(log, "{line}").unwrap();
                if line.contains("Ctrl-C ends it") {
                    // Said once; nobody may listen any more.
                    let _ = serves.send(());
                }
            }
        });
        self.serving = Some(child);
        is_serving.recv_timeout(Duration::from_secs(60)).expect("kina serves within a minute");
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let mut serving = self.serving.take().unwrap();
        serving.kill().unwrap();
        serving.wait().unwrap();
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let binary = std::env::var_os("KINA_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kina").into());
        let mut command = Command::new(binary);
        command
            .env("HOME", self.root.path())
            .env("KINA_HOME", self.path("home"))
            .env("KINA_RUNTIME", "docker")
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().copied())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// What `kina` prints; it must succeed.
    pub fn kina(&self, arguments: &[&str]) -> String {
        said(self, &mut self.command(arguments))
    }

    /// The exit code of `kina`.
    pub fn kina_exits(&self, arguments: &[&str]) -> Option<i32> {
        self.command(arguments).output().unwrap().status.code()
    }

    /// What `kubectl` prints in the cluster; it must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        said(self, &mut self.kubectl_command(arguments))
    }

    /// Whether `kubectl` succeeds in the cluster.
    pub fn kubectl_works(&self, arguments: &[&str]) -> bool {
        self.kubectl_command(arguments).output().unwrap().status.success()
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", self.path("kubeconfig"))
            .arg(format!("--context=kina-{}", self.cluster))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Applies objects in the cluster.
    pub fn apply(&self, manifest: &str) {
        let path = self.path("objects.yaml");
        fs::write(&path, manifest).unwrap();
        self.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }

    fn file(&self) -> PathBuf {
        self.path("home/clusters").join(format!("{}.yaml", self.cluster))
    }

    /// Writes the cluster's file, and waits until Kina has heard of it.
    pub fn declare(&self, shape: Shape<'_>) {
        let Shape { control_planes, workers, pool } = shape;
        let workers = match workers {
            0 => String::new(),
            count => format!("  workers:\n    - name: default\n      replicas: {count}\n{pool}"),
        };
        self.declare_spec(&format!("  controlPlane: {{ replicas: {control_planes} }}\n{workers}"));
    }

    /// The same of a spec, whose lines are indented by two.
    pub fn declare_spec(&self, spec: &str) {
        let Self { cluster, image, version, .. } = self;
        let text = format!(
            "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {cluster}\nspec:\n  runtime: docker\n  \
             kubernetesVersion: {version}\n  image: {image}\n{spec}"
        );
        let is_new = !self.file().exists();
        let before = if is_new { 0 } else { self.number("{.metadata.generation}") };
        fs::create_dir_all(self.path("home/clusters")).unwrap();
        fs::write(self.file(), text).unwrap();
        let wanted = if is_new {
            "--for=create".to_owned()
        } else {
            format!("--for=jsonpath={{.metadata.generation}}={}", before + 1)
        };
        self.kina(&["wait", &wanted, &format!("cluster/{cluster}"), WITHIN]);
    }

    fn number(&self, path: &str) -> i64 {
        let printed = self.kina(&["get", "cluster", &self.cluster, &format!("-o=jsonpath={path}")]);
        printed.trim().parse().unwrap_or_else(|_| panic!("{path} is {printed:?}"))
    }

    /// Waits until the cluster is what its file says, with so many machines.
    pub fn settled(&self, machines: u32) {
        let cluster = format!("cluster/{}", self.cluster);
        for wanted in [
            format!("--for=jsonpath={{.status.observedGeneration}}={}", self.number("{.metadata.generation}")),
            format!("--for=jsonpath={{.status.machines.desired}}={machines}"),
            format!("--for=jsonpath={{.status.machines.ready}}={machines}"),
            "--for=condition=Ready".to_owned(),
            // Nothing is being done any more, such as taking a machine away.
            "--for=jsonpath={.status.phase}=Running".to_owned(),
        ] {
            self.kina(&["wait", &wanted, &cluster, WITHIN]);
        }
        self.kubectl(&["wait", "--for=condition=Ready", "node", "--all", WITHIN]);
        assert_eq!(self.kubectl(&["get", "nodes", "-o=name"]).lines().count(), machines as usize);
    }

    /// Waits until these containers run, in the cluster's network.
    pub fn running(&self, containers: &[&str]) {
        let network = format!("{{{{with index .NetworkSettings.Networks \"kina-{}\"}}}}", self.cluster);
        let format = format!("--format={{{{.State.Running}}}} {network}{{{{.IPAddress}}}}{{{{end}}}}");
        // Nobody sends: this is a clock.
        let (_keep, never) = mpsc::channel::<()>();
        for name in containers {
            let runs = || {
                docker(&["inspect", &format, name])
                    .is_some_and(|said| said.trim().strip_prefix("true ").is_some_and(|address| !address.is_empty()))
            };
            let tries = (0..600)
                .take_while(|_| !runs())
                .filter(|_| never.recv_timeout(Duration::from_millis(500)).is_err())
                .count();
            assert!(tries < 600, "{name} does not run");
        }
    }

    /// Waits until something holds.
    pub fn until(&self, holds: impl Fn() -> bool, what: &str) {
        // Nobody sends: this is a clock.
        let (_keep, never) = mpsc::channel::<()>();
        let tries = (0..120)
            .take_while(|_| !holds())
            .filter(|_| never.recv_timeout(Duration::from_millis(500)).is_err())
            .count();
        assert!(tries < 120, "{what}");
    }

    /// An object in the cluster.
    pub fn object(&self, arguments: &[&str]) -> Value {
        let printed = self.kubectl(&[&["get", "-o=json"], arguments].concat());
        serde_json::from_str(&printed).unwrap()
    }

    /// Removes the file, and waits until everything is gone that it stood for.
    pub fn remove(&self) {
        self.begin_removal();
        self.removed();
    }

    /// Removes the file, and waits until Kina has begun.
    pub fn begin_removal(&self) {
        fs::remove_file(self.file()).unwrap();
        let phase = "--for=jsonpath={.status.phase}=Deleting";
        // It may be gone before anybody looks.
        let _ = self.command(&["wait", phase, &format!("cluster/{}", self.cluster), WITHIN]).output().unwrap();
    }

    /// Waits until it is gone, with everything that it stood for.
    pub fn removed(&self) {
        self.kina(&["wait", "--for=delete", &format!("cluster/{}", self.cluster), WITHIN]);
        self.leaves_nothing();
    }

    /// Nothing on the host carries this home's mark, and nothing in it speaks of a cluster.
    pub fn leaves_nothing(&self) {
        assert_eq!(self.leftovers(), Vec::<String>::new());
        assert!(!fs::read_to_string(self.path("kubeconfig")).unwrap_or_default().contains("kina-"));
        let keys = fs::read_dir(self.path("home/pki")).map(|found| found.count()).unwrap_or_default();
        assert_eq!(keys, 0, "keys of clusters that are gone");
    }

    fn leftovers(&self) -> Vec<String> {
        let Ok(installation) = fs::read_to_string(self.path("home/installation-id")) else { return Vec::new() };
        let ours = format!("label=dev.kina.installation={}", installation.trim());
        [
            ["ps", "-aq", "--filter", &ours].as_slice(),
            &["network", "ls", "-q", "--filter", &ours],
            &["volume", "ls", "-q", "--filter", &ours],
        ]
        .into_iter()
        .flat_map(|arguments| {
            let kind = arguments[0];
            docker(arguments).unwrap().lines().map(|id| format!("{kind} {id}")).collect::<Vec<_>>()
        })
        .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("serve.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            let shown = self.command(&["status"]).output().unwrap();
            eprintln!("--- status:\n{}", String::from_utf8_lossy(&shown.stdout));
        }
        if let Some(mut serving) = self.serving.take() {
            let _ = serving.kill();
            let _ = serving.wait();
        }
        // What a failed story left; a good one has left nothing.
        for left in self.leftovers() {
            match left.split_once(' ') {
                Some(("ps", id)) => docker(&["rm", "-f", "-v", id]),
                Some((kind, id)) => docker(&[kind, "rm", id]),
                None => None,
            };
        }
    }
}

/// What `docker` prints; `None` where it fails.
pub fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn said(lab: &Lab, command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} in {}\n{out}\n{err}", lab.cluster);
    out.into_owned()
}
