//! What kubeadm writes into a node: certificates, kubeconfigs, manifests, the kubelet's configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::config::Registration;
use super::{
    API_SERVER_CERTIFICATE, API_SERVER_KEY, API_SERVER_MANIFEST, CA_FILE, CA_KEY, CONTROL_PLANE_TAINT, KUBELET_CONFIG,
    KUBELET_FLAGS, KUBELET_KUBECONFIG, Run,
};
use crate::runtime::sim::{etcd, manifests, pki};

const PKI: &str = "/etc/kubernetes/pki";
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// A CA that kubeadm needs: its files' common name, and its subject.
const AUTHORITIES: [(&str, &str); 3] =
    [("ca", "kubernetes"), ("front-proxy-ca", "front-proxy-ca"), ("etcd/ca", "etcd-ca")];

/// The certificate authorities: those found are used, and made where there are none (`init` only).
pub(super) fn authorities(run: &mut Run<'_, '_>, make: bool) -> Result<(), String> {
    for (name, subject) in AUTHORITIES {
        let (crt, key) = (format!("{PKI}/{name}.crt"), format!("{PKI}/{name}.key"));
        match (run.text(&crt), run.text(&key)) {
            (Some(certificate), Some(private)) => {
                if !pki::key_fits(&certificate, &private) {
                    return Err(format!(
                        "failure loading {name} certificate: the certificate and private key do not match: {crt}"
                    ));
                }
                run.say(format!("[certs] Using existing {name} certificate authority"));
            }
            (None, None) if make => {
                let pair = pki::new_ca(subject, run.context.now)?;
                run.tx.write(run.id, &crt, 0o644, pair.certificate);
                run.tx.write(run.id, &key, 0o600, pair.key);
                run.say(format!("[certs] Generating \"{name}\" certificate and key"));
            }
            (None, _) => {
                return Err(format!(
                    "failure loading certificate for CA: couldn't load the certificate file {crt}: open {crt}: no such file or directory"
                ));
            }
            (Some(_), None) => {
                return Err(format!(
                    "failure loading key for {name}: couldn't load the private key file {key}: open {key}: no such file or directory"
                ));
            }
        }
    }
    service_account_keys(run, make)
}

fn service_account_keys(run: &mut Run<'_, '_>, make: bool) -> Result<(), String> {
    let (public, private) = (format!("{PKI}/sa.pub"), format!("{PKI}/sa.key"));
    if run.text(&public).is_some() && run.text(&private).is_some() {
        run.say("[certs] Using the existing \"sa\" key");
        return Ok(());
    }
    if !make {
        return Err(format!(
            "failure loading key for service account: couldn't load the private key file {private}: open {private}: no such file or directory"
        ));
    }
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    run.tx.write(run.id, &private, 0o600, key.serialize_pem());
    run.tx.write(run.id, &public, 0o600, key.public_key_pem());
    run.say("[certs] Generating \"sa\" key and public key");
    Ok(())
}

fn authority(run: &Run<'_, '_>) -> Result<pki::Pair, String> {
    let get = |path: &str| run.text(path).ok_or_else(|| format!("open {path}: no such file or directory"));
    Ok(pki::Pair { certificate: get(CA_FILE)?, key: get(CA_KEY)? })
}

/// The API server's certificate. One that is there is used if this CA signed it.
pub(super) fn serving_certificate(run: &mut Run<'_, '_>, names: Vec<String>) -> Result<(), String> {
    let ca = authority(run)?;
    if let (Some(found), Some(_)) = (run.text(API_SERVER_CERTIFICATE), run.text(API_SERVER_KEY)) {
        if !signed_by(&ca.certificate, &found) {
            return Err("certificate apiserver is not signed by corresponding CA".to_owned());
        }
        run.say("[certs] Using existing apiserver certificate and key on disk");
        return Ok(());
    }
    let request = pki::Request { name: "kube-apiserver", organisations: &[], alternative_names: &names };
    let pair = pki::issue(&ca, request, run.context.now)?;
    run.tx.write(run.id, API_SERVER_CERTIFICATE, 0o644, pair.certificate);
    run.tx.write(run.id, API_SERVER_KEY, 0o600, pair.key);
    run.say("[certs] Generating \"apiserver\" certificate and key");
    run.say(format!("[certs] apiserver serving cert is signed for DNS names and IPs [{}]", names.join(" ")));
    Ok(())
}

/// Whether the issuer named in a certificate is this CA, by name and key.
fn signed_by(ca: &str, certificate: &str) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (Some(ca), Some(leaf)) = (pki::der(ca), pki::der(certificate)) else { return false };
    let (Ok((_, ca)), Ok((_, leaf))) = (X509Certificate::from_der(&ca), X509Certificate::from_der(&leaf)) else {
        return false;
    };
    let key_id = |certificate: &X509Certificate<'_>| {
        certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
    };
    let authority_id = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    });
    leaf.issuer() == ca.subject() && (authority_id.is_none() || authority_id == key_id(&ca))
}

/// `admin.conf`, and the kubelet's kubeconfig, from the CA in the node.
pub(super) fn kubeconfigs(run: &mut Run<'_, '_>, endpoint: &str, node: &str) -> Result<(), String> {
    admin_kubeconfig(run, endpoint)?;
    kubelet_kubeconfig(run, endpoint, node)
}

/// `admin.conf`.
pub(super) fn admin_kubeconfig(run: &mut Run<'_, '_>, endpoint: &str) -> Result<(), String> {
    kubeconfig(run, ADMIN, endpoint, "kubernetes-admin", "kubeadm:cluster-admins")
}

/// The kubelet's kubeconfig, from the CA in the node.
pub(super) fn kubelet_kubeconfig(run: &mut Run<'_, '_>, endpoint: &str, node: &str) -> Result<(), String> {
    kubeconfig(run, KUBELET_KUBECONFIG, endpoint, &format!("system:node:{node}"), "system:nodes")
}

fn kubeconfig(run: &mut Run<'_, '_>, path: &str, endpoint: &str, user: &str, group: &str) -> Result<(), String> {
    let ca = authority(run)?;
    let encoded = STANDARD.encode(&ca.certificate);
    let server = format!("https://{endpoint}");
    if let Some(found) = run.text(path) {
        if !found.contains(&encoded) {
            return Err(format!("a kubeconfig file {path:?} exists already but has got the wrong CA cert"));
        }
        if !found.contains(&server) {
            return Err(format!("a kubeconfig file {path:?} exists already but has an unexpected API Server URL"));
        }
        run.say(format!("[kubeconfig] Using existing kubeconfig file: {path:?}"));
        return Ok(());
    }
    let request = pki::Request { name: user, organisations: &[group], alternative_names: &[] };
    let pair = pki::issue(&ca, request, run.context.now)?;
    run.tx.write(run.id, path, 0o600, kubeconfig_text(&encoded, &server, user, Some(&pair)));
    run.say(format!("[kubeconfig] Writing {:?} kubeconfig file", path.rsplit('/').next().unwrap_or_default()));
    Ok(())
}

pub(super) fn kubeconfig_text(ca: &str, server: &str, user: &str, pair: Option<&pki::Pair>) -> String {
    let credentials = pair.map_or_else(String::new, |pair| {
        let (certificate, key) = (STANDARD.encode(&pair.certificate), STANDARD.encode(&pair.key));
        format!(
            "contexts:\n- context:\n    cluster: kubernetes\n    user: {user}\n  name: {user}@kubernetes\n\
             current-context: {user}@kubernetes\nusers:\n- name: {user}\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        )
    });
    format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    \
         server: {server}\n  name: kubernetes\n{credentials}"
    )
}

/// The kubelet's kubeconfig on a worker, which holds the CA's certificate alone: the kubelet got its own by the token.
pub(super) fn worker_kubeconfig(run: &mut Run<'_, '_>, endpoint: &str, node: &str, ca: &str) {
    let text =
        kubeconfig_text(&STANDARD.encode(ca), &format!("https://{endpoint}"), &format!("system:node:{node}"), None);
    run.tx.write(run.id, KUBELET_KUBECONFIG, 0o600, text);
    run.tx.write(run.id, CA_FILE, 0o644, ca.to_owned());
}

/// Manifests of API server, controller manager and scheduler. Those that are there are overwritten, as kubeadm does.
pub(super) fn control_plane_manifests(run: &mut Run<'_, '_>, arguments: BTreeMap<String, String>) {
    let version = run.version();
    let mut all: BTreeMap<String, String> = arguments;
    all.entry("client-ca-file".into()).or_insert_with(|| CA_FILE.into());
    all.entry("secure-port".into()).or_insert_with(|| "6443".into());
    all.entry("tls-cert-file".into()).or_insert_with(|| API_SERVER_CERTIFICATE.into());
    for (name, arguments) in [
        ("kube-apiserver", all.into_iter().collect::<Vec<_>>()),
        ("kube-controller-manager", vec![]),
        ("kube-scheduler", vec![]),
    ] {
        let text = manifests::static_pod(name, &format!("registry.k8s.io/{name}:{version}"), &arguments);
        let path = format!("/etc/kubernetes/manifests/{name}.yaml");
        debug_assert!(name != "kube-apiserver" || path == API_SERVER_MANIFEST);
        run.tx.write(run.id, &path, 0o600, text);
        run.say(format!("[control-plane] Creating static Pod manifest for {name:?}"));
    }
}

/// The manifest of the local etcd member.
pub(super) fn etcd_manifest(run: &mut Run<'_, '_>, extra: BTreeMap<String, String>) {
    let (name, address) = (run.host(), run.advertised().unwrap_or(run.address()));
    // With brackets around an address of IPv6.
    let url = |port| format!("https://{}", SocketAddr::new(address, port));
    let mut arguments: BTreeMap<String, String> = [
        ("name".to_owned(), name.clone()),
        ("initial-advertise-peer-urls".to_owned(), url(2380)),
        ("listen-peer-urls".to_owned(), url(2380)),
        ("advertise-client-urls".to_owned(), url(2379)),
        ("initial-cluster".to_owned(), format!("{name}={}", url(2380))),
        ("data-dir".to_owned(), "/var/lib/etcd".to_owned()),
    ]
    .into();
    arguments.extend(extra);
    let arguments: Vec<(String, String)> = arguments.into_iter().collect();
    let text = manifests::static_pod("etcd", "registry.k8s.io/etcd:3.6.6-0", &arguments);
    run.tx.write(run.id, etcd::MANIFEST, 0o600, text);
    run.say("[etcd] Creating static Pod manifest for local etcd in \"/etc/kubernetes/manifests\"");
}

/// With the patch in the directory that the node's own document names. kubeadm reads several forms; this one is Kina's.
fn patched_kubelet(run: &Run<'_, '_>, mut config: serde_json::Value) -> serde_json::Value {
    let directory = |kind| run.documents.text(kind, "/patches/directory");
    let Some(directory) = directory("InitConfiguration").or_else(|| directory("JoinConfiguration")) else {
        return config;
    };
    let patch = run.tx.state.text(run.id, &format!("{directory}/kubeletconfiguration0+merge.json"));
    if let Some(patch) = patch.and_then(|text| serde_json::from_str(&text).ok()) {
        json_patch::merge(&mut config, &patch);
    }
    config
}

/// The kubelet's configuration and flags; then it runs, with its static pods after a while.
pub(super) fn start_kubelet(run: &mut Run<'_, '_>, registration: &Registration, control_plane: bool) {
    let taints = registration
        .taints
        .clone()
        .unwrap_or_else(|| control_plane.then(|| CONTROL_PLANE_TAINT.to_owned()).into_iter().collect());
    let mut flags: BTreeMap<&str, String> = [("hostname-override", registration.name.clone())].into();
    if !taints.is_empty() {
        flags.insert("register-with-taints", taints.join(","));
    }
    for (name, value) in &registration.kubelet_arguments {
        flags.insert(name, value.clone());
    }
    let flags: Vec<String> = flags.iter().map(|(name, value)| format!("--{name}={value}")).collect();
    run.tx.write(run.id, KUBELET_FLAGS, 0o644, format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", flags.join(" ")));
    let config = run.documents.kind("KubeletConfiguration").cloned().unwrap_or_else(
        || serde_json::json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}),
    );
    let config = patched_kubelet(run, config);
    // JSON is YAML.
    run.tx.write(run.id, KUBELET_CONFIG, 0o644, format!("{config}\n"));
    run.say("[kubelet-start] Writing kubelet configuration to file \"/var/lib/kubelet/config.yaml\"");
    run.say("[kubelet-start] Starting the kubelet");
    let context = run.context;
    run.tx.update(run.id, |record| {
        record.inside.kubelet = Some(context.now);
        record.inside.static_pods = false;
        record.inside.static_pods_due = control_plane.then(|| context.now.plus(context.latency.control_plane));
    });
}
