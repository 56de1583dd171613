//! `kubeadm join`, of a worker and of a further control plane.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::config::{Documents, split_token};
use super::init::{self, next_or_fail, supported};
use super::{Answer, Ask, CA_FILE, Phase, Progress, Question, RETRY, Run, files};
use crate::runtime::sim::etcd;
use crate::runtime::sim::route::{self, NoRoute};

const CONFIGURATION: &str = "JoinConfiguration";

pub(super) const WORKER: &[Phase] = &[
    ("preflight", preflight),
    ("discovery", discover),
    ("kubelet-start", check_node),
    ("kubelet-start", worker_kubelet_start),
    ("kubelet-wait-bootstrap", wait_registered),
];

pub(super) const CONTROL_PLANE: &[Phase] = &[
    ("preflight", preflight),
    ("discovery", discover),
    ("control-plane-prepare", prepare),
    ("kubelet-start", check_node),
    ("etcd-join", etcd_join),
    ("kubelet-start", control_plane_kubelet_start),
    ("wait-control-plane", wait_control_plane),
    ("control-plane-join/mark-control-plane", mark),
];

/// What the kubeconfig that `discovery.file` names says.
struct Discovery {
    /// `HOST:PORT`.
    endpoint: String,
    ca: String,
    /// The two parts of the token.
    token: (String, String),
}

fn discovery(run: &Run<'_, '_>) -> Result<Discovery, String> {
    let path = run
        .documents
        .text(CONFIGURATION, "/discovery/file/kubeConfigPath")
        .ok_or("discovery: Invalid value: \"\": bootstrapToken or file must be set (simulated nodes take file)")?;
    let malformed = |what: &str| format!("failed to load kubeconfig: {path}: {what}");
    let text = run.text(path).ok_or_else(|| malformed("no such file or directory"))?;
    let config: Value = serde_saphyr::from_str(&text).map_err(|error| malformed(&error.to_string()))?;
    let field = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let server = field("/clusters/0/cluster/server").and_then(|server| server.strip_prefix("https://"));
    let ca = field("/clusters/0/cluster/certificate-authority-data").and_then(|data| STANDARD.decode(data).ok());
    let ca = ca.and_then(|bytes| String::from_utf8(bytes).ok());
    let token =
        field("/users/0/user/token").ok_or("couldn't find authentication credentials for the TLS bootstrap process")?;
    let (id, secret) = split_token(token)?;
    Ok(Discovery {
        endpoint: server.ok_or_else(|| malformed("no server of https"))?.to_owned(),
        ca: ca.ok_or_else(|| malformed("no certificate authority"))?,
        token: (id.to_owned(), secret.to_owned()),
    })
}

fn endpoint(run: &Run<'_, '_>) -> String {
    discovery(run).map(|discovery| discovery.endpoint).unwrap_or_default()
}

fn preflight(run: &mut Run<'_, '_>) -> Progress {
    run.say("[preflight] Running pre-flight checks");
    if init::left_over(run) || run.text(super::KUBELET_KUBECONFIG).is_some() {
        return Progress::Fail(
            "[preflight] Some fatal errors occurred:\n\t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: \
             /etc/kubernetes/kubelet.conf already exists"
                .into(),
        );
    }
    Progress::Next
}

/// Looks for the cluster behind the endpoint, by the CA of the file, and reads the cluster's configuration by its token.
fn discover(run: &mut Run<'_, '_>) -> Progress {
    let found = run.documents.registration(CONFIGURATION, &run.host()).and_then(|_| discovery(run));
    let Discovery { endpoint, ca, token: (id, secret) } = match found {
        Ok(found) => found,
        Err(error) => return Progress::Fail(error),
    };
    let url = format!("https://{endpoint}/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s");
    let away = |what: &str| format!("Get {url:?}: {what}");
    match run.answer.take() {
        Some(Answer::Yes) => {
            run.say("[preflight] Reading configuration from the \"kubeadm-config\" ConfigMap in namespace \"kube-system\"...");
            return Progress::Next;
        }
        Some(Answer::No | Answer::Told(_)) => return undiscovered(run, "Unauthorized"),
        Some(Answer::Refused(error)) => return Progress::Fail(error),
        Some(Answer::Away) => return undiscovered(run, &away("net/http: request canceled")),
        None => {}
    }
    let backend = match route::from_container(run.tx.state, run.id, &endpoint) {
        Ok(backend) => backend,
        Err(NoRoute::NoHost) => return undiscovered(run, &away("dial tcp: lookup: no such host")),
        Err(NoRoute::Refused) => return undiscovered(run, &away("dial tcp: connect: connection refused")),
        Err(NoRoute::Reset) => return undiscovered(run, &away("EOF")),
    };
    if run.tx.state.text(&backend.container, CA_FILE).is_none_or(|theirs| theirs.trim() != ca.trim()) {
        let what = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
        return undiscovered(run, &away(what));
    }
    let version = super::version(run.tx.state, &backend.container);
    if let Err(error) = supported(&run.version(), &version) {
        return Progress::Fail(error);
    }
    Progress::Ask(Ask { tenant: backend.tenant, question: Question::Discover { id, secret } })
}

fn undiscovered(run: &Run<'_, '_>, what: &str) -> Progress {
    let limit = run.documents.timeout(CONFIGURATION, "discovery", Duration::from_secs(300));
    let otherwise = format!(
        "couldn't validate the identity of the API Server: abort reading the cluster-info ConfigMap after timeout of {} s: {what}",
        limit.as_secs()
    );
    Progress::Wait { limit, retry: Some(RETRY), otherwise }
}

/// Certificates and kubeconfigs of a control plane, from the CA files copied into the node.
fn prepare(run: &mut Run<'_, '_>) -> Progress {
    let endpoint = endpoint(run);
    let result = files::authorities(run, false)
        .and_then(|()| same_authority(run, &endpoint))
        .and_then(|()| {
            let mut names = init::names(run);
            names.extend(endpoint.rsplit_once(':').map(|(host, _)| host.to_owned()));
            names.sort();
            names.dedup();
            files::serving_certificate(run, names)
        })
        .and_then(|()| run.documents.registration(CONFIGURATION, &run.host()))
        .and_then(|_| files::admin_kubeconfig(run, &endpoint));
    if result.is_ok() {
        let mut arguments = run.documents.arguments("ClusterConfiguration", "/apiServer/extraArgs");
        arguments.insert("advertise-address".into(), run.advertised().unwrap_or(run.address()).to_string());
        files::control_plane_manifests(run, arguments);
    }
    next_or_fail(result)
}

fn same_authority(run: &Run<'_, '_>, endpoint: &str) -> Result<(), String> {
    let server = route::from_container(run.tx.state, run.id, endpoint);
    let theirs = server.ok().and_then(|backend| run.tx.state.text(&backend.container, CA_FILE));
    match theirs {
        Some(theirs) if run.text(CA_FILE).is_some_and(|own| own != theirs) => {
            Err("couldn't create a kubernetes client: tls: failed to verify certificate: x509: certificate signed by \
                 unknown authority"
                .into())
        }
        _ => Ok(()),
    }
}

/// kubeadm refuses a name that a Ready node has.
fn check_node(run: &mut Run<'_, '_>) -> Progress {
    let registration = match run.documents.registration(CONFIGURATION, &run.host()) {
        Ok(registration) => registration,
        Err(error) => return Progress::Fail(error),
    };
    match run.answer.take() {
        Some(Answer::No | Answer::Told(_)) => return Progress::Next,
        Some(Answer::Yes) => {
            return Progress::Fail(format!(
                "a Node with name {:?} and status \"Ready\" already exists in the cluster. You must delete the existing \
                 Node or change the name of this new joining Node",
                registration.name
            ));
        }
        Some(Answer::Refused(error)) => return Progress::Fail(error),
        Some(Answer::Away) => return away(run),
        None => {}
    }
    ask(run, Question::NodeReady { node: registration.name })
}

/// Asks through the endpoint, as a joining node does.
fn ask(run: &Run<'_, '_>, question: Question) -> Progress {
    match route::from_container(run.tx.state, run.id, &endpoint(run)) {
        Ok(backend) => Progress::Ask(Ask { tenant: backend.tenant, question }),
        Err(_) => away(run),
    }
}

fn away(run: &Run<'_, '_>) -> Progress {
    let limit = run.documents.timeout(CONFIGURATION, "kubernetesAPICall", Duration::from_secs(60));
    let endpoint = endpoint(run);
    let otherwise = format!("Get \"https://{endpoint}/api/v1\": context deadline exceeded");
    Progress::Wait { limit, retry: Some(Duration::from_secs(1)), otherwise }
}

fn worker_kubelet_start(run: &mut Run<'_, '_>) -> Progress {
    let endpoint = endpoint(run);
    let registration = match run.documents.registration(CONFIGURATION, &run.host()) {
        Ok(registration) => registration,
        Err(error) => return Progress::Fail(error),
    };
    let Ok(backend) = route::from_container(run.tx.state, run.id, &endpoint) else { return away(run) };
    let Some(ca) = run.tx.state.text(&backend.container, CA_FILE) else { return away(run) };
    files::worker_kubeconfig(run, &endpoint, &registration.name, &ca);
    files::start_kubelet(run, &registration, false);
    Progress::Next
}

fn etcd_join(run: &mut Run<'_, '_>) -> Progress {
    let stored = match run.answer.take() {
        Some(Answer::Told(text)) => Documents::parse(&text),
        Some(Answer::Refused(error)) => return Progress::Fail(error),
        Some(Answer::Yes | Answer::No | Answer::Away) => return away(run),
        None => return ask(run, Question::ClusterConfiguration),
    };
    // What is stored goes before what kubeadm computes, whether it fits this member or not.
    let stored = match stored {
        Ok(documents) => documents.arguments("ClusterConfiguration", "/etcd/local/extraArgs"),
        Err(error) => return Progress::Fail(error),
    };
    let endpoint = endpoint(run);
    let Ok(backend) = route::from_container(run.tx.state, run.id, &endpoint) else { return away(run) };
    let (name, address) = (run.host(), run.advertised().unwrap_or(run.address()));
    match etcd::add_member(run.tx, &backend.tenant, &name, address) {
        Ok(initial_cluster) => {
            let mut extra: BTreeMap<String, String> = [
                ("initial-cluster".to_owned(), initial_cluster),
                ("initial-cluster-state".to_owned(), "existing".to_owned()),
            ]
            .into();
            extra.extend(stored);
            files::etcd_manifest(run, extra);
            run.say("[etcd] Announced new etcd member joining to the existing etcd cluster");
            Progress::Next
        }
        Err(error) => {
            let limit = run.documents.timeout(CONFIGURATION, "etcdAPICall", Duration::from_secs(120));
            let otherwise = format!("error creating local etcd static pod manifest file: {error}");
            Progress::Wait { limit, retry: Some(Duration::from_secs(1)), otherwise }
        }
    }
}

/// The kubelet's kubeconfig comes after the member of etcd, as from kubeadm 1.33 on.
fn control_plane_kubelet_start(run: &mut Run<'_, '_>) -> Progress {
    let endpoint = endpoint(run);
    let started = run.documents.registration(CONFIGURATION, &run.host()).and_then(|registration| {
        files::kubelet_kubeconfig(run, &endpoint, &registration.name)?;
        files::start_kubelet(run, &registration, true);
        Ok(())
    });
    next_or_fail(started)
}

fn wait_control_plane(run: &mut Run<'_, '_>) -> Progress {
    init::wait_control_plane(run)
}

fn mark(run: &mut Run<'_, '_>) -> Progress {
    let progress = init::mark(run, CONFIGURATION);
    if matches!(progress, Progress::Next) {
        run.say("This node has joined the cluster and a new control plane instance was created");
    }
    progress
}

/// Until the kubelet has registered the node: `timeouts.tlsBootstrap`, 5 minutes by default.
fn wait_registered(run: &mut Run<'_, '_>) -> Progress {
    let name = match run.documents.registration(CONFIGURATION, &run.host()) {
        Ok(registration) => registration.name,
        Err(error) => return Progress::Fail(error),
    };
    match run.answer.take() {
        Some(Answer::Yes) => {
            run.say("This node has joined the cluster");
            Progress::Next
        }
        Some(_) => {
            let limit = run.documents.timeout(CONFIGURATION, "tlsBootstrap", Duration::from_secs(300));
            let otherwise = "failed while waiting for TLS bootstrap: context deadline exceeded".to_owned();
            Progress::Wait { limit, retry: Some(Duration::from_millis(500)), otherwise }
        }
        None => ask(run, Question::Registered { node: name }),
    }
}
