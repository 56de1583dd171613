//! `kubeadm init`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{
    API_SERVER_MANIFEST, Addon, Answer, Ask, CA_FILE, CONTROL_PLANE_TAINT, KUBELET_FLAGS, Phase, Progress, Question,
    Run, files,
};
use crate::runtime::sim::{etcd, route};

const CONFIGURATION: &str = "InitConfiguration";

pub(super) const PHASES: &[Phase] = &[
    ("preflight", preflight),
    ("certs", certs),
    ("kubeconfig", kubeconfig),
    ("etcd", local_etcd),
    ("control-plane", control_plane),
    ("kubelet-start", kubelet_start),
    ("wait-control-plane", wait_control_plane),
    ("upload-config", upload_config),
    ("mark-control-plane", mark_control_plane),
    ("bootstrap-token", bootstrap_token),
    ("addon/coredns", coredns),
    ("addon/kube-proxy", kube_proxy),
];

/// Kubernetes' rule: kubeadm deploys its own minor version and the one before.
pub(super) fn supported(kubeadm: &str, cluster: &str) -> Result<(), String> {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    match (minor(kubeadm), minor(cluster)) {
        (Some(own), Some(wanted)) if wanted + 1 < own => Err(format!(
            "this version of kubeadm only supports deploying clusters with the control plane version >= 1.{}.0. Current \
             version: {cluster}",
            own - 1
        )),
        (Some(own), Some(wanted)) if wanted > own => Err(format!(
            "the specified Kubernetes version {cluster:?} is higher than that of this kubeadm, {kubeadm:?}"
        )),
        (_, None) => Err(format!("couldn't parse Kubernetes version {cluster:?}")),
        _ => Ok(()),
    }
}

fn cluster_version(run: &Run<'_, '_>) -> String {
    run.documents.text("ClusterConfiguration", "/kubernetesVersion").map_or_else(|| run.version(), str::to_owned)
}

fn endpoint(run: &Run<'_, '_>) -> String {
    let own = || format!("{}:{}", run.address(), route::API_PORT);
    run.documents.text("ClusterConfiguration", "/controlPlaneEndpoint").map_or_else(own, str::to_owned)
}

fn node_name(run: &Run<'_, '_>) -> Result<String, String> {
    Ok(run.documents.registration(CONFIGURATION, &run.host())?.name)
}

/// Never skipped: what kubeadm refuses in a configuration.
fn validate(run: &Run<'_, '_>) -> Result<(), String> {
    let cluster = "ClusterConfiguration";
    if run.documents.kind(CONFIGURATION).is_none() && run.documents.kind(cluster).is_none() {
        return Err("no InitConfiguration or ClusterConfiguration kind was found in the YAML file".into());
    }
    supported(&run.version(), &cluster_version(run))?;
    run.documents.tokens()?;
    run.documents.registration(CONFIGURATION, &run.host())?;
    run.advertised()?;
    let directory = run.documents.text(cluster, "/certificatesDir").unwrap_or("/etc/kubernetes/pki");
    if directory != "/etc/kubernetes/pki" {
        return Err(format!("simulated nodes keep certificates in /etc/kubernetes/pki only, not in {directory:?}"));
    }
    if run.documents.kind(cluster).is_some_and(|cluster| cluster.pointer("/etcd/external").is_some()) {
        return Err("simulated nodes run no cluster with an external etcd".into());
    }
    Ok(())
}

fn preflight(run: &mut Run<'_, '_>) -> Progress {
    run.say("[preflight] Running pre-flight checks");
    let mut errors = Vec::new();
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] {
        let path = format!("/etc/kubernetes/manifests/{name}.yaml");
        if run.text(&path).is_some() {
            errors.push(format!("\t[ERROR FileAvailable-{}]: {path} already exists", path.replace('/', "-")));
        }
    }
    if !run.tx.state.below(run.id, "/var/lib/etcd").is_empty() {
        errors.push("\t[ERROR DirAvailable--var-lib-etcd]: /var/lib/etcd is not empty".to_owned());
    }
    if errors.is_empty() {
        return Progress::Next;
    }
    Progress::Fail(format!("[preflight] Some fatal errors occurred:\n{}", errors.join("\n")))
}

fn certs(run: &mut Run<'_, '_>) -> Progress {
    run.say(format!("[init] Using Kubernetes version: {}", cluster_version(run)));
    let result = validate(run).and_then(|()| files::authorities(run, true)).and_then(|()| {
        let names = names(run);
        files::serving_certificate(run, names)
    });
    next_or_fail(result)
}

/// The names that the API server answers to, as kubeadm collects them.
pub(super) fn names(run: &Run<'_, '_>) -> Vec<String> {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
            .map(str::to_owned)
            .into();
    let endpoint = run.documents.text("ClusterConfiguration", "/controlPlaneEndpoint");
    let host = endpoint.map(|endpoint| endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).to_owned());
    names.push(run.host());
    names.push(run.advertised().unwrap_or(run.address()).to_string());
    names.extend(host);
    names.extend(run.documents.texts("ClusterConfiguration", "/apiServer/certSANs"));
    names.sort();
    names.dedup();
    names
}

fn kubeconfig(run: &mut Run<'_, '_>) -> Progress {
    let endpoint = endpoint(run);
    let result = node_name(run).and_then(|node| files::kubeconfigs(run, &endpoint, &node));
    next_or_fail(result)
}

fn local_etcd(run: &mut Run<'_, '_>) -> Progress {
    let extra = run.documents.arguments("ClusterConfiguration", "/etcd/local/extraArgs");
    files::etcd_manifest(run, extra);
    Progress::Next
}

fn control_plane(run: &mut Run<'_, '_>) -> Progress {
    run.say("[control-plane] Using manifest folder \"/etc/kubernetes/manifests\"");
    let mut arguments = run.documents.arguments("ClusterConfiguration", "/apiServer/extraArgs");
    arguments.insert("advertise-address".into(), run.advertised().unwrap_or(run.address()).to_string());
    files::control_plane_manifests(run, arguments);
    Progress::Next
}

fn kubelet_start(run: &mut Run<'_, '_>) -> Progress {
    match run.documents.registration(CONFIGURATION, &run.host()) {
        Ok(registration) => {
            files::start_kubelet(run, &registration, true);
            Progress::Next
        }
        Err(error) => Progress::Fail(error),
    }
}

pub(super) fn wait_control_plane(run: &mut Run<'_, '_>) -> Progress {
    if let Some(tenant) = route::answers(run.tx.state, run.id) {
        run.say(format!("[control-plane-check] kube-apiserver is healthy (cluster {tenant})"));
        return Progress::Next;
    }
    let limit = run.documents.timeout(CONFIGURATION, "controlPlaneComponentHealthCheck", Duration::from_secs(240));
    let inside = run.tx.state.containers.get(run.id).map(|record| record.inside.clone()).unwrap_or_default();
    let cause = inside.etcd_failure.map_or_else(String::new, |failure| format!("\netcd: {failure}"));
    Progress::Wait {
        limit,
        retry: None,
        otherwise: format!(
            "[control-plane-check] kube-apiserver is not healthy after {}s\n\nA control plane component may have crashed or \
             exited when started by the container runtime.{cause}\nfailed while waiting for the control plane to start: \
             failed to call the API server /livez endpoint: context deadline exceeded",
            limit.as_secs()
        ),
    }
}

/// Asks the API server that runs in this node. While it is away, kubeadm keeps trying.
pub(super) fn ask_own(run: &mut Run<'_, '_>, question: Question, done: &str) -> Progress {
    match run.answer.take() {
        Some(Answer::Yes) => {
            run.say(done);
            return Progress::Next;
        }
        Some(Answer::Refused(error)) => return Progress::Fail(error),
        Some(Answer::No | Answer::Told(_) | Answer::Away) => return kept_away(run),
        None => {}
    }
    match route::answers(run.tx.state, run.id) {
        Some(tenant) => Progress::Ask(Ask { tenant, question }),
        None => kept_away(run),
    }
}

fn kept_away(run: &Run<'_, '_>) -> Progress {
    // `timeouts.kubernetesAPICall`, 1 minute by default.
    let limit = run.documents.timeout(CONFIGURATION, "kubernetesAPICall", Duration::from_secs(60));
    let otherwise =
        format!("the API server at https://{}:6443 does not answer: context deadline exceeded", run.address());
    Progress::Wait { limit, retry: Some(Duration::from_secs(1)), otherwise }
}

fn upload_config(run: &mut Run<'_, '_>) -> Progress {
    let text = |kind: &str| run.documents.kind(kind).map(|document| format!("{document}\n"));
    let configuration = text("ClusterConfiguration").unwrap_or_else(|| {
        format!(
            "{}\n",
            json!({"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration",
                               "kubernetesVersion": cluster_version(run)})
        )
    });
    let kubelet = text("KubeletConfiguration").unwrap_or_else(|| "{}\n".to_owned());
    let data = |name: &str, text: String| BTreeMap::from([(name.to_owned(), text)]);
    let maps = vec![
        ("kube-system", "kubeadm-config", data("ClusterConfiguration", configuration)),
        ("kube-system", "kubelet-config", data("kubelet", kubelet)),
    ];
    let done = "[upload-config] Storing the configuration used in ConfigMap \"kubeadm-config\" in the \"kube-system\" Namespace";
    ask_own(run, Question::ConfigMaps(maps), done)
}

fn mark_control_plane(run: &mut Run<'_, '_>) -> Progress {
    mark(run, CONFIGURATION)
}

/// Labels and taints of a control plane, on the node that the kubelet registered.
pub(super) fn mark(run: &mut Run<'_, '_>, configuration: &str) -> Progress {
    let registration = match run.documents.registration(configuration, &run.host()) {
        Ok(registration) => registration,
        Err(error) => return Progress::Fail(error),
    };
    let taints = registration.taints.unwrap_or_else(|| vec![CONTROL_PLANE_TAINT.to_owned()]);
    let done = format!(
        "[mark-control-plane] Marking the node {} as control-plane by adding the labels: \
         [node-role.kubernetes.io/control-plane node.kubernetes.io/exclude-from-external-load-balancers]",
        registration.name
    );
    ask_own(run, Question::MarkControlPlane { node: registration.name, taints }, &done)
}

fn bootstrap_token(run: &mut Run<'_, '_>) -> Progress {
    use base64::Engine;
    let tokens = match run.documents.tokens() {
        Ok(tokens) => tokens,
        Err(error) => return Progress::Fail(error),
    };
    let ca = run.text(CA_FILE).unwrap_or_default();
    let encoded = base64::engine::general_purpose::STANDARD.encode(ca);
    let cluster_info = files::kubeconfig_text(&encoded, &format!("https://{}", endpoint(run)), "", None);
    let done = "[bootstrap-token] Creating the \"cluster-info\" ConfigMap in the \"kube-public\" namespace";
    ask_own(run, Question::BootstrapTokens { tokens, cluster_info }, done)
}

fn coredns(run: &mut Run<'_, '_>) -> Progress {
    let data = BTreeMap::from([("Corefile".to_owned(), COREFILE.to_owned())]);
    let question = Question::Addon { addon: Addon::CoreDns, version: cluster_version(run), replicas: 2, data };
    ask_own(run, question, "[addons] Applied essential addon: CoreDNS")
}

/// The Corefile that kubeadm installs.
const COREFILE: &str = ".:53 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local \
                        in-addr.arpa ip6.arpa {\n       pods insecure\n       fallthrough in-addr.arpa ip6.arpa\n       ttl \
                        30\n    }\n    prometheus :9153\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    \
                        }\n    cache 30\n    loop\n    reload\n    loadbalance\n}\n";

fn kube_proxy(run: &mut Run<'_, '_>) -> Progress {
    let config = run.documents.kind("KubeProxyConfiguration").map_or_else(|| "{}\n".to_owned(), |d| format!("{d}\n"));
    let data = BTreeMap::from([("config.conf".to_owned(), config)]);
    let question = Question::Addon { addon: Addon::KubeProxy, version: cluster_version(run), replicas: 0, data };
    let progress = ask_own(run, question, "[addons] Applied essential addon: kube-proxy");
    if matches!(progress, Progress::Next) {
        run.say("");
        run.say("Your Kubernetes control-plane has initialized successfully!");
    }
    progress
}

pub(super) fn next_or_fail(result: Result<(), String>) -> Progress {
    result.map_or_else(Progress::Fail, |()| Progress::Next)
}

/// Files that say a control plane was set up here before.
pub(super) fn left_over(run: &Run<'_, '_>) -> bool {
    [API_SERVER_MANIFEST, etcd::MANIFEST, KUBELET_FLAGS].iter().any(|path| run.text(path).is_some())
}
