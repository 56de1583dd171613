//! What kubeadm asks of an API server, answered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::kubeadm::{Addon, Answer, Question, Token};
use super::super::time::At;
use super::families;
use super::model::{self, apps, core};
use super::nodes;
use crate::apiserver::ApiError;
use crate::apiserver::batch::Session;

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// What an API server makes when it first starts: its namespaces, and the Service by which pods find it.
pub(super) fn begin(session: &mut Session<'_, '_>) -> Result<(), ApiError> {
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        if session.get(&core("namespaces"), "", name)?.is_none() {
            let namespace = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            session.put(&core("namespaces"), namespace)?;
        }
    }
    Ok(())
}

pub(super) fn answer(session: &mut Session<'_, '_>, question: Question) -> Result<Answer, ApiError> {
    match question {
        Question::ConfigMaps(maps) => {
            for (namespace, name, data) in maps {
                config_map(session, namespace, name, &data)?;
            }
            Ok(Answer::Yes)
        }
        Question::MarkControlPlane { node, taints } => mark(session, &node, &taints),
        Question::BootstrapTokens { tokens, cluster_info } => {
            let data = BTreeMap::from([("kubeconfig".to_owned(), cluster_info)]);
            config_map(session, "kube-public", "cluster-info", &data)?;
            for token in tokens {
                bootstrap_token(session, &token)?;
            }
            Ok(Answer::Yes)
        }
        Question::Addon { addon: Addon::CoreDns, version, replicas, data } => {
            config_map(session, "kube-system", "coredns", &data)?;
            coredns(session, &version, replicas)?;
            Ok(Answer::Yes)
        }
        Question::Addon { addon: Addon::KubeProxy, version, data, .. } => {
            config_map(session, "kube-system", "kube-proxy", &data)?;
            kube_proxy(session, &version)?;
            Ok(Answer::Yes)
        }
        Question::Discover { id, secret } => discover(session, &id, &secret),
        Question::ClusterConfiguration => {
            let found = session.get(&core("configmaps"), "kube-system", "kubeadm-config")?;
            let text = found.as_ref().and_then(|map| map["data"]["ClusterConfiguration"].as_str());
            Ok(text.map_or(Answer::No, |text| Answer::Told(text.to_owned())))
        }
        Question::NodeReady { node } => {
            let found = session.get(&core("nodes"), "", &node)?;
            let ready = found.as_ref().is_some_and(nodes::is_ready);
            Ok(if ready { Answer::Yes } else { Answer::No })
        }
        Question::Registered { node } => {
            let found = session.get(&core("nodes"), "", &node)?.is_some();
            Ok(if found { Answer::Yes } else { Answer::No })
        }
    }
}

fn config_map(
    session: &mut Session<'_, '_>,
    namespace: &str,
    name: &str,
    data: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let mut object = session
        .get(&core("configmaps"), namespace, name)?
        .unwrap_or_else(|| json!({"metadata": {"name": name, "namespace": namespace}}));
    object["data"] = json!(data);
    session.put(&core("configmaps"), object).map(drop)
}

fn service_account(session: &mut Session<'_, '_>, name: &str) -> Result<(), ApiError> {
    if session.get(&core("serviceaccounts"), "kube-system", name)?.is_none() {
        session.put(&core("serviceaccounts"), json!({"metadata": {"name": name, "namespace": "kube-system"}}))?;
    }
    Ok(())
}

/// Puts labels and taints of a control plane on its node. The kubelet may register a moment later.
fn mark(session: &mut Session<'_, '_>, node: &str, taints: &[String]) -> Result<Answer, ApiError> {
    let Some(mut object) = session.get(&core("nodes"), "", node)? else { return Ok(Answer::No) };
    let labels = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        for key in [CONTROL_PLANE, "node.kubernetes.io/exclude-from-external-load-balancers"] {
            labels.insert(key.to_owned(), json!(""));
        }
    }
    let mut all = object.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    for taint in taints.iter().filter_map(|taint| nodes::taint(taint)) {
        if !all.iter().any(|old| old["key"] == taint["key"] && old["effect"] == taint["effect"]) {
            all.push(taint);
        }
    }
    if !all.is_empty() {
        object["spec"]["taints"] = Value::Array(all);
    }
    session.put(&core("nodes"), object)?;
    Ok(Answer::Yes)
}

fn bootstrap_token(session: &mut Session<'_, '_>, token: &Token) -> Result<(), ApiError> {
    use base64::Engine;
    let mut data: BTreeMap<&str, String> = [
        ("token-id", token.id.clone()),
        ("token-secret", token.secret.clone()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token".to_owned()),
    ]
    .into();
    if let Some(ttl) = token.ttl {
        data.insert("expiration", At::of(session.now()).plus(ttl).rfc3339());
    }
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let data: BTreeMap<&str, String> = data.into_iter().map(|(key, text)| (key, encode(text))).collect();
    let secret = json!({
        "metadata": {"name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token", "data": data,
    });
    session.put(&core("secrets"), secret).map(drop)
}

/// Looks for a token as an API server does: it is there, has this secret, and has not expired. Then at what it may read,
/// which `kubeadm init` lets those that join.
fn discover(session: &mut Session<'_, '_>, id: &str, secret: &str) -> Result<Answer, ApiError> {
    use base64::Engine;
    let found = session.get(&core("secrets"), "kube-system", &format!("bootstrap-token-{id}"))?;
    let Some(found) = found else { return Ok(Answer::No) };
    let data = |key: &str| {
        let text = found["data"][key].as_str()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        String::from_utf8(bytes).ok()
    };
    let expired = data("expiration")
        .is_some_and(|text| text.parse::<jiff::Timestamp>().map_or(true, |expires| expires <= session.now()));
    let is_usable = found["type"] == "bootstrap.kubernetes.io/token"
        && data("token-id").as_deref() == Some(id)
        && data("token-secret").as_deref() == Some(secret)
        && data("usage-bootstrap-authentication").as_deref() == Some("true")
        && !expired;
    if !is_usable {
        return Ok(Answer::No);
    }
    // The right to read it, and those to become a node, come with the last phases.
    if session.get(&core("configmaps"), "kube-public", "cluster-info")?.is_none() {
        return Ok(Answer::Refused(format!(
            "failed to get config map: configmaps \"kubeadm-config\" is forbidden: User \"system:bootstrap:{id}\" cannot \
             get resource \"configmaps\" in API group \"\" in the namespace \"kube-system\""
        )));
    }
    Ok(Answer::Yes)
}

fn coredns(session: &mut Session<'_, '_>, version: &str, replicas: u32) -> Result<(), ApiError> {
    service_account(session, "coredns")?;
    let labels = json!({"k8s-app": "kube-dns"});
    if session.get(&core("services"), "kube-system", "kube-dns")?.is_none() {
        let mut spec = place(session, 10)?;
        spec["selector"] = labels.clone();
        spec["ports"] = json!([{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                               {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                               {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153}]);
        let service = json!({
            "metadata": {"name": "kube-dns", "namespace": "kube-system",
                         "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true",
                                    "kubernetes.io/name": "CoreDNS"}},
            "spec": spec,
            "status": {"loadBalancer": {}},
        });
        session.put(&core("services"), service)?;
        let mut spec = place(session, 1)?;
        spec["ports"] = json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]);
        let service = json!({
            "metadata": {"name": "kubernetes", "namespace": "default",
                         "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": spec,
            "status": {"loadBalancer": {}},
        });
        session.put(&core("services"), service)?;
    }
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": "coredns", "priorityClassName": "system-cluster-critical", "dnsPolicy": "Default",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"},
                            {"key": CONTROL_PLANE, "effect": "NoSchedule"}],
            "containers": [{"name": "coredns", "image": coredns_image(version), "args": ["-conf", "/etc/coredns/Corefile"]}],
        },
    });
    // An installed one keeps what others changed in it, as kubeadm applies only its own version's changes.
    let mut deployment = session.get(&apps("deployments"), "kube-system", "coredns")?.unwrap_or_else(|| {
        json!({"metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
               "spec": {"replicas": replicas, "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
                        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": "25%"}}}})
    });
    deployment["spec"]["template"] = template;
    session.put(&apps("deployments"), deployment).map(drop)
}

/// The CoreDNS that belongs to a Kubernetes version (kubeadm's `constants.CoreDNSVersion`).
fn coredns_image(version: &str) -> String {
    let minor: u32 = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_default();
    let tag = match minor {
        ..=31 => "v1.11.3",
        32 => "v1.11.3",
        33 => "v1.12.0",
        34 => "v1.12.1",
        35 => "v1.13.1",
        _ => "v1.14.2",
    };
    format!("registry.k8s.io/coredns/coredns:{tag}")
}

fn kube_proxy(session: &mut Session<'_, '_>, version: &str) -> Result<(), ApiError> {
    service_account(session, "kube-proxy")?;
    let mut object = session.get(&apps("daemonsets"), "kube-system", "kube-proxy")?.unwrap_or_else(|| {
        json!({"metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}},
               "spec": {"selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
                        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}})
    });
    object["spec"]["template"] = json!({
        "metadata": {"labels": {"k8s-app": "kube-proxy"}},
        "spec": {
            "serviceAccountName": "kube-proxy", "priorityClassName": "system-node-critical", "hostNetwork": true,
            "nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "kube-proxy", "image": format!("registry.k8s.io/kube-proxy:{version}"),
                            "command": ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf"]}],
        },
    });
    session.put(&apps("daemonsets"), object).map(drop)
}

/// A Service's nth address of the primary service subnet, and what says so in its spec.
fn place(session: &Session<'_, '_>, nth: u32) -> Result<Value, ApiError> {
    let config = session.get(&core("configmaps"), "kube-system", "kubeadm-config")?;
    let primary = families::service_subnets(config.as_ref()).into_iter().next();
    let address = primary.and_then(|subnet| subnet.address(nth));
    Ok(json!({
        "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": [primary.map(families::name)],
        "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
    }))
}

/// Makes the ServiceAccount `default` where a namespace has none.
pub(super) fn default_accounts(session: &mut Session<'_, '_>) -> Result<(), ApiError> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Named {
        metadata: model::Meta,
    }
    let accounts: Vec<Named> = model::all(session, &core("serviceaccounts"))?;
    for namespace in model::all::<Named>(session, &core("namespaces"))? {
        let name = &namespace.metadata.name;
        let has =
            accounts.iter().any(|account| account.metadata.namespace == *name && account.metadata.name == "default");
        if !has && namespace.metadata.deletion_timestamp.is_none() {
            session.put(&core("serviceaccounts"), json!({"metadata": {"name": "default", "namespace": name}}))?;
        }
    }
    Ok(())
}
