//! `kubeadm join`, of a worker and of a further control plane.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::split_token;
use super::init::{self, next_or_fail, supported};
use super::{Answer, Ask, CA_FILE, Phase, Progress, Question, RETRY, Run, files};
use crate::runtime::sim::route::{self, NoRoute};
use crate::runtime::sim::{etcd, pki};

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

fn endpoint<'a>(run: &'a Run<'_, '_>) -> Option<&'a str> {
    run.documents.text(CONFIGURATION, "/discovery/bootstrapToken/apiServerEndpoint")
}

fn validate(run: &Run<'_, '_>) -> Result<(), String> {
    let documents = &run.documents;
    let join = documents.kind(CONFIGURATION).ok_or("no JoinConfiguration found in the supplied config")?;
    if join.pointer("/discovery/bootstrapToken").is_none() {
        return Err(
            "discovery: Invalid value: \"\": bootstrapToken or file must be set (simulated nodes take bootstrapToken)"
                .into(),
        );
    }
    let token = documents.text(CONFIGURATION, "/discovery/bootstrapToken/token").unwrap_or_default();
    split_token(token).map_err(|error| format!("discovery.bootstrapToken.token: Invalid value: {error}"))?;
    endpoint(run).ok_or("discovery.bootstrapToken.apiServerEndpoint: Required value: APIServerEndpoint is not set")?;
    let hashes = documents.texts(CONFIGURATION, "/discovery/bootstrapToken/caCertHashes");
    let unsafe_skip = join.pointer("/discovery/bootstrapToken/unsafeSkipCAVerification") == Some(&true.into());
    if hashes.is_empty() && !unsafe_skip {
        return Err("discovery.bootstrapToken.caCertHashes: Invalid value: \"\": using token-based discovery without \
                    caCertHashes can be unsafe. Set unsafeSkipCAVerification as true in your kubeadm config file or pass \
                    --discovery-token-unsafe-skip-ca-verification flag to continue"
            .into());
    }
    documents.registration(CONFIGURATION, &run.host())?;
    Ok(())
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

/// Looks for the cluster behind the endpoint, checks its CA against what is pinned, and shows it the token.
fn discover(run: &mut Run<'_, '_>) -> Progress {
    if let Err(error) = validate(run) {
        return Progress::Fail(error);
    }
    let endpoint = endpoint(run).unwrap_or_default().to_owned();
    let url = format!("https://{endpoint}/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s");
    let token = run.documents.text(CONFIGURATION, "/discovery/bootstrapToken/token").unwrap_or_default().to_owned();
    let Ok((id, secret)) = split_token(&token) else { return Progress::Fail("invalid token".into()) };
    let away = |what: &str| format!("Get {url:?}: {what}");
    match run.answer.take() {
        Some(Answer::Yes) => {
            run.say("[preflight] Reading configuration from the \"kubeadm-config\" ConfigMap in namespace \"kube-system\"...");
            return Progress::Next;
        }
        Some(Answer::No) => {
            let what = format!("could not find a JWS signature in the cluster-info ConfigMap for token ID {id:?}");
            return undiscovered(run, &what);
        }
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
    if let Err(error) = pinned(run, &backend.container) {
        return Progress::Fail(error);
    }
    let version = super::version(run.tx.state, &backend.container);
    if let Err(error) = supported(&run.version(), &version) {
        return Progress::Fail(error);
    }
    Progress::Ask(Ask { tenant: backend.tenant, question: Question::Discover { id: id.into(), secret: secret.into() } })
}

fn undiscovered(run: &Run<'_, '_>, what: &str) -> Progress {
    let limit = run.documents.timeout(CONFIGURATION, "discovery", Duration::from_secs(300));
    let otherwise = format!(
        "couldn't validate the identity of the API Server: failed to request the cluster-info ConfigMap: {what}"
    );
    Progress::Wait { limit, retry: Some(RETRY), otherwise }
}

fn pinned(run: &Run<'_, '_>, server: &str) -> Result<(), String> {
    let hashes = run.documents.texts(CONFIGURATION, "/discovery/bootstrapToken/caCertHashes");
    let ca = run.tx.state.text(server, CA_FILE).ok_or("the API server has no CA")?;
    let found = pki::public_key_hash(&ca).ok_or("the API server's CA is no certificate")?;
    if hashes.is_empty() || hashes.contains(&found) {
        return Ok(());
    }
    Err(format!(
        "couldn't validate the identity of the API Server: cluster CA found in cluster-info ConfigMap is invalid: none of \
         the public keys {found:?} are pinned"
    ))
}

/// Certificates and kubeconfigs of a control plane, from the CA files copied into the node.
fn prepare(run: &mut Run<'_, '_>) -> Progress {
    let endpoint = endpoint(run).unwrap_or_default().to_owned();
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
        .and_then(|registration| files::kubeconfigs(run, &endpoint, &registration.name));
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
        Some(Answer::No) => return Progress::Next,
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
    match route::from_container(run.tx.state, run.id, endpoint(run).unwrap_or_default()) {
        Ok(backend) => Progress::Ask(Ask { tenant: backend.tenant, question }),
        Err(_) => away(run),
    }
}

fn away(run: &Run<'_, '_>) -> Progress {
    let limit = run.documents.timeout(CONFIGURATION, "kubernetesAPICall", Duration::from_secs(60));
    let endpoint = endpoint(run).unwrap_or_default();
    let otherwise = format!("Get \"https://{endpoint}/api/v1\": context deadline exceeded");
    Progress::Wait { limit, retry: Some(Duration::from_secs(1)), otherwise }
}

fn worker_kubelet_start(run: &mut Run<'_, '_>) -> Progress {
    let endpoint = endpoint(run).unwrap_or_default().to_owned();
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
    let endpoint = endpoint(run).unwrap_or_default().to_owned();
    let Ok(backend) = route::from_container(run.tx.state, run.id, &endpoint) else { return away(run) };
    let (name, address) = (run.host(), run.advertised().unwrap_or(run.address()));
    match etcd::add_member(run.tx, &backend.tenant, &name, address) {
        Ok(initial_cluster) => {
            let extra: BTreeMap<String, String> = [
                ("initial-cluster".to_owned(), initial_cluster),
                ("initial-cluster-state".to_owned(), "existing".to_owned()),
            ]
            .into();
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

fn control_plane_kubelet_start(run: &mut Run<'_, '_>) -> Progress {
    match run.documents.registration(CONFIGURATION, &run.host()) {
        Ok(registration) => {
            files::start_kubelet(run, &registration, true);
            Progress::Next
        }
        Err(error) => Progress::Fail(error),
    }
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
