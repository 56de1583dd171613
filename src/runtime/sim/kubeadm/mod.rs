//! kubeadm inside a node: `init`, `join` and `reset`, phase by phase, each with its time.
//!
//! A run is recorded in its unit: which phase it is in and when that ends. So it goes on after a restart of Kina, and
//! ends with its container, leaving in the node what the phases before wrote.

mod config;
mod files;
mod init;
mod join;
mod reset;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::exec;
use super::options::Latency;
use super::routed;
use super::systemd::Unit;
use super::time::At;
use super::world::{State, Tx};
use config::Documents;

pub(super) use config::{Configurations, Token};

pub(super) const CONFIG_FILE: &str = "/kind/kubeadm.conf";
pub(super) const CA_FILE: &str = "/etc/kubernetes/pki/ca.crt";
pub(super) const CA_KEY: &str = "/etc/kubernetes/pki/ca.key";
pub(super) const API_SERVER_CERTIFICATE: &str = "/etc/kubernetes/pki/apiserver.crt";
pub(super) const API_SERVER_KEY: &str = "/etc/kubernetes/pki/apiserver.key";
pub(super) const API_SERVER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
pub(super) const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
pub(super) const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
pub(super) const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
pub(super) const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane:NoSchedule";

/// What surrounds a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub now: At,
    pub latency: &'a Latency,
}

/// A question to the API server of a cluster, asked on behalf of a unit.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub tenant: String,
    pub question: Question,
}

/// What kubeadm wants of an API server.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Write ConfigMaps: namespace, name, data. Also makes the namespaces.
    ConfigMaps(Vec<(&'static str, &'static str, BTreeMap<String, String>)>),
    /// Put labels and taints (`key=value:Effect`) on a node that the kubelet registered.
    MarkControlPlane { node: String, taints: Vec<String> },
    /// Create bootstrap tokens, and the `cluster-info` that joining nodes look for.
    BootstrapTokens { tokens: Vec<Token>, cluster_info: String },
    /// Install CoreDNS or kube-proxy, for this Kubernetes version.
    Addon { addon: Addon, version: String, replicas: u32, data: BTreeMap<String, String> },
    /// Validate a bootstrap token.
    Discover { id: String, secret: String },
    /// What `kubeadm init` stored of the cluster's configuration.
    ClusterConfiguration,
    /// Whether a node of this name is there, and Ready.
    NodeReady { node: String },
    /// Wait until the kubelet has registered the node.
    Registered { node: String },
}

/// The add-ons that kubeadm installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addon {
    CoreDns,
    KubeProxy,
}

/// What the API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Done, or yes.
    Yes,
    /// No.
    No,
    /// What was asked for.
    Told(String),
    /// It refuses, in these words.
    Refused(String),
    /// It does not answer.
    Away,
}

/// What a phase comes to.
#[derive(Debug)]
enum Progress {
    /// It ended; the next begins.
    Next,
    /// Something has to change first. Given up after so long in all, tried again in between where `retry` is set.
    Wait { limit: Duration, retry: Option<Duration>, otherwise: String },
    /// An API server has to answer first.
    Ask(Ask),
    /// The run fails.
    Fail(String),
}

/// Retries of what kubeadm itself polls: every 5 s (`constants.DiscoveryRetryInterval`).
const RETRY: Duration = Duration::from_secs(5);

/// Lines kept of a run that succeeded: thousands of nodes hold them.
const KEPT_LINES: usize = 5;

/// A phase: its name in kubeadm, and what it does at its end.
type Phase = (&'static str, fn(&mut Run<'_, '_>) -> Progress);

/// A run of kubeadm, as a phase sees it.
struct Run<'a, 't> {
    tx: &'a mut Tx<'t>,
    context: Context<'a>,
    /// The container.
    id: &'a str,
    documents: Arc<Documents>,
    /// The answer to what the phase asked.
    answer: Option<Answer>,
    lines: Vec<String>,
}

impl Run<'_, '_> {
    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn text(&self, path: &str) -> Option<String> {
        self.tx.state.text(self.id, path)
    }

    fn host(&self) -> String {
        self.tx.state.containers.get(self.id).map(|record| record.spec.name.clone()).unwrap_or_default()
    }

    fn version(&self) -> String {
        version(self.tx.state, self.id)
    }

    /// The address that kubeadm finds by itself.
    fn address(&self) -> IpAddr {
        let address = self.tx.state.address_of(self.id);
        IpAddr::V4(address.unwrap_or(Ipv4Addr::UNSPECIFIED))
    }

    /// The address of the API server and of etcd on this node: as its document says, or the one that kubeadm finds.
    fn advertised(&self) -> Result<IpAddr, String> {
        let (kind, base) = match self.documents.kind("JoinConfiguration") {
            Some(_) => ("JoinConfiguration", "/controlPlane/localAPIEndpoint"),
            None => ("InitConfiguration", "/localAPIEndpoint"),
        };
        self.documents.advertise_address(kind, base, self.address())
    }
}

/// Which command a unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Init,
    Join,
    Reset,
}

impl Verb {
    fn of(command: &[impl AsRef<str>]) -> Option<Self> {
        let words: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
        let (program, rest) = words.split_first()?;
        if program.rsplit('/').next() != Some("kubeadm") {
            return None;
        }
        let config = format!("--config={CONFIG_FILE}");
        let known = |flag: &str| flag == config.as_str() || flag == "--skip-token-print" || flag.starts_with("--v=");
        match rest {
            ["init", flags @ ..] if flags.contains(&config.as_str()) && flags.iter().all(|f| known(f)) => {
                Some(Self::Init)
            }
            ["join", flags @ ..] if flags.contains(&config.as_str()) && flags.iter().all(|f| known(f)) => {
                Some(Self::Join)
            }
            ["reset", "--force" | "-f"] => Some(Self::Reset),
            _ => None,
        }
    }

    fn phases(self, documents: &Documents) -> &'static [Phase] {
        match self {
            Self::Init => init::PHASES,
            Self::Join
                if documents.kind("JoinConfiguration").is_some_and(|join| join.get("controlPlane").is_some()) =>
            {
                join::CONTROL_PLANE
            }
            Self::Join => join::WORKER,
            Self::Reset => reset::PHASES,
        }
    }

    fn configuration(self) -> &'static str {
        match self {
            Self::Join => "JoinConfiguration",
            Self::Init | Self::Reset => "InitConfiguration",
        }
    }
}

/// Whether this is a kubeadm command that can run in a unit.
pub(super) fn understands(command: &[&str]) -> bool {
    Verb::of(command).is_some()
}

/// The version of a node's kubeadm.
pub(super) fn version(state: &State, id: &str) -> String {
    state.containers.get(id).and_then(|record| record.version()).unwrap_or_default().to_owned()
}

/// Lets a unit go on as far as it can. Returns what it asks of an API server, if that is what it waits for.
pub(super) fn resume(
    tx: &mut Tx<'_>,
    context: Context<'_>,
    id: &str,
    name: &str,
    mut answer: Option<Answer>,
) -> Option<Ask> {
    loop {
        let mut unit = tx.state.containers.get(id)?.inside.units.get(name)?.clone();
        if unit.outcome.is_some() || (unit.asked && answer.is_none()) {
            return None;
        }
        unit.asked = false;
        let (verb, file) = (Verb::of(&unit.command)?, tx.state.file(id, CONFIG_FILE));
        let documents = match (verb, file) {
            (Verb::Reset, _) => Ok(Arc::default()),
            (_, None) => Err(format!(
                "unable to read config from \"{CONFIG_FILE}\": open {CONFIG_FILE}: no such file or directory"
            )),
            // Every phase of a real kubeadm has what was read at first.
            (_, Some(file)) => {
                let version = tx.state.containers.get(id)?.version().map(str::to_owned);
                tx.state.configurations.read(id, &file).and_then(|documents| documents.known_to(version.as_deref()))
            }
        };
        let mut run = Run { tx, context, id, documents: Arc::default(), answer: answer.take(), lines: Vec::new() };
        let progress = match documents {
            Err(error) => Progress::Fail(error),
            Ok(documents) => {
                run.documents = documents;
                step(&mut run, verb, &unit)
            }
        };
        let phases = verb.phases(&run.documents).len();
        let lines = std::mem::take(&mut run.lines);
        lines.into_iter().for_each(|line| unit.note(line));
        let outcome = settle(&mut unit, progress, context, phases);
        let ended = unit.outcome;
        tx.update(id, |record| drop(record.inside.units.insert(name.to_owned(), unit)));
        if let Some(code) = ended {
            tx.state.configurations.forget(id);
            end(tx, id, name, code);
        }
        match outcome {
            After::Again => {}
            After::Later => return None,
            After::Ask(ask) => return Some(ask),
        }
    }
}

fn step(run: &mut Run<'_, '_>, verb: Verb, unit: &Unit) -> Progress {
    let phases = verb.phases(&run.documents);
    let Some((phase, act)) = phases.get(unit.step) else { return Progress::Next };
    if run.documents.skips(verb.configuration(), phase) { Progress::Next } else { act(run) }
}

enum After {
    Again,
    Later,
    Ask(Ask),
}

/// Records in the unit what a phase came to.
fn settle(unit: &mut Unit, progress: Progress, context: Context<'_>, phases: usize) -> After {
    match progress {
        Progress::Next => {
            unit.step += 1;
            (unit.waiting, unit.deadline, unit.due) = (false, None, None);
            if unit.step >= phases {
                unit.outcome = Some(0);
                unit.journal = unit.journal.split_off(unit.journal.len().saturating_sub(KEPT_LINES));
                return After::Later;
            }
            let due = context.now.plus(context.latency.kubeadm_phase);
            if due <= context.now {
                return After::Again;
            }
            unit.due = Some(due);
            After::Later
        }
        Progress::Wait { limit, retry, otherwise } => {
            let deadline = *unit.deadline.get_or_insert(context.now.plus(limit));
            if context.now >= deadline {
                return settle(unit, Progress::Fail(otherwise), context, phases);
            }
            // What is tried again after a while is not woken by changes: each of its own answers is one.
            unit.waiting = retry.is_none();
            unit.due = Some(retry.map_or(deadline, |retry| context.now.plus(retry).min(deadline)));
            After::Later
        }
        Progress::Ask(ask) => {
            (unit.waiting, unit.asked, unit.due) = (true, true, None);
            After::Ask(ask)
        }
        Progress::Fail(error) => {
            for line in error.lines() {
                unit.note(line);
            }
            unit.note("To see the stack trace of this error execute with --v=5 or higher");
            (unit.outcome, unit.waiting, unit.due, unit.deadline) = (Some(1), false, None, None);
            After::Later
        }
    }
}

/// systemd is up: the kubelet starts where it is configured, and with it the static pods that are there. So a container
/// made anew over the same volumes is the same node.
pub(super) fn boot(tx: &mut Tx<'_>, id: &str, now: At, latency: &Latency) {
    let configured = [KUBELET_CONFIG, KUBELET_KUBECONFIG].iter().all(|path| tx.state.file(id, path).is_some());
    let pods = tx.state.file(id, API_SERVER_MANIFEST).is_some();
    tx.update(id, |record| {
        record.inside.boot_due = None;
        record.inside.kubelet = configured.then_some(now);
        record.inside.static_pods_due = (configured && pods).then(|| now.plus(latency.control_plane));
    });
    routed::restore(tx, id);
}

/// The kubelet ends, and starts again where it is configured.
pub(super) fn restart_kubelet(tx: &mut Tx<'_>, id: &str, now: At) {
    let configured = [KUBELET_CONFIG, KUBELET_KUBECONFIG].iter().all(|path| tx.state.file(id, path).is_some());
    tx.update(id, |record| {
        record.inside.kubelet = configured.then_some(now);
        record.inside.registered = false;
    });
}

/// What follows the end of a unit's command.
fn end(tx: &mut Tx<'_>, id: &str, name: &str, code: i32) {
    let Some(unit) = tx.state.containers.get(id).and_then(|record| record.inside.units.get(name)).cloned() else {
        return;
    };
    if code == 0 {
        for post in &unit.post {
            let words: Vec<&str> = post.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["/usr/bin/touch" | "touch", paths @ ..] => exec::touch(tx, id, paths),
                ["-/usr/bin/find", directory, "-mindepth", "1", "-delete"] => routed::forget(tx, id, directory),
                _ => {}
            }
        }
        if !unit.remain {
            tx.update(id, |record| drop(record.inside.units.remove(name)));
        }
    }
}
