//! `/kind/kubeadm.conf`, read as kubeadm reads it: several documents, each with its own kind.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::api::versions::KubernetesVersion;

/// The API versions of kubeadm's own documents that kubeadm reads, the newer one from 1.31 on.
const VERSIONS: [&str; 2] = ["kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta3"];
const NEWER_SINCE_MINOR: u32 = 31;

/// All documents of a configuration file.
#[derive(Clone, Debug, Default)]
pub(super) struct Documents {
    by_kind: BTreeMap<String, Value>,
}

/// Configurations that runs under way have read: some ten phases of a run each ask for it. As many as run at once where
/// nothing else bounds them; some 25 KB each.
const CONFIGURATIONS_MAX: usize = 64;

/// What was read of configuration files, the last ones by container.
#[derive(Debug, Default)]
pub(in super::super) struct Configurations {
    read: VecDeque<(String, Bytes, Arc<Documents>)>,
}

impl Configurations {
    /// What a container's configuration says, parsed unless it is the same as the last time.
    ///
    /// # Errors
    /// In kubeadm's words.
    pub(super) fn read(&mut self, container: &str, content: &Bytes) -> Result<Arc<Documents>, String> {
        let same = self.read.iter().find(|(id, known, _)| id == container && known == content);
        if let Some((_, _, documents)) = same {
            return Ok(Arc::clone(documents));
        }
        let text = std::str::from_utf8(content).map_err(|error| format!("error unmarshaling YAML: {error}"))?;
        let documents = Arc::new(Documents::parse(text)?);
        self.forget(container);
        if self.read.len() >= CONFIGURATIONS_MAX {
            self.read.pop_front();
        }
        self.read.push_back((container.to_owned(), content.clone(), Arc::clone(&documents)));
        Ok(documents)
    }

    /// A run in a container has ended.
    pub(super) fn forget(&mut self, container: &str) {
        self.read.retain(|(id, _, _)| id != container);
    }
}

/// What `nodeRegistration` says.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub name: String,
    /// `KEY=VALUE` pairs, as the kubelet's command line takes them.
    pub kubelet_arguments: BTreeMap<String, String>,
    /// `key=value:Effect`; `None` for kubeadm's default.
    pub taints: Option<Vec<String>>,
}

/// A bootstrap token to create.
#[derive(Clone, Debug)]
pub(in super::super) struct Token {
    pub id: String,
    pub secret: String,
    /// `None` for one that never expires.
    pub ttl: Option<Duration>,
}

impl Documents {
    /// # Errors
    /// In kubeadm's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| format!("error unmarshaling YAML: {error}"))?;
        let mut by_kind = BTreeMap::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            let (version, kind) = (text_at(&document, "/apiVersion"), text_at(&document, "/kind"));
            let (Some(version), Some(kind)) = (version, kind) else {
                return Err("kind and apiVersion is mandatory information that must be specified".into());
            };
            if version.starts_with("kubeadm.k8s.io/") && !VERSIONS.contains(&version) {
                return Err(unknown(version, kind));
            }
            if by_kind.insert(kind.to_owned(), document.clone()).is_some() {
                return Err(format!("invalid configuration: kind {kind:?} is specified twice in YAML file"));
            }
        }
        Ok(Self { by_kind })
    }

    /// # Errors
    /// In kubeadm's words, where the one of a Kubernetes version is older than a document.
    pub fn known_to(self: Arc<Self>, kubernetes: Option<&str>) -> Result<Arc<Self>, String> {
        let minor = kubernetes.and_then(KubernetesVersion::parse).map(|version| version.minor);
        if minor.is_some_and(|minor| minor < NEWER_SINCE_MINOR) {
            let newer = self.by_kind.iter().find(|(_, document)| document["apiVersion"] == VERSIONS[0]);
            if let Some((kind, _)) = newer {
                return Err(unknown(VERSIONS[0], kind));
            }
        }
        Ok(self)
    }

    pub fn kind(&self, kind: &str) -> Option<&Value> {
        self.by_kind.get(kind)
    }

    /// A text of a document, by JSON pointer.
    pub fn text(&self, kind: &str, pointer: &str) -> Option<&str> {
        self.kind(kind).and_then(|document| text_at(document, pointer)).filter(|text| !text.is_empty())
    }

    pub fn texts(&self, kind: &str, pointer: &str) -> Vec<String> {
        let list = self.kind(kind).and_then(|document| document.pointer(pointer)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    pub fn arguments(&self, kind: &str, pointer: &str) -> BTreeMap<String, String> {
        self.kind(kind).and_then(|document| document.pointer(pointer)).map(arguments).unwrap_or_default()
    }

    /// `timeouts.NAME` of v1beta4.
    pub fn timeout(&self, kind: &str, name: &str, default: Duration) -> Duration {
        self.text(kind, &format!("/timeouts/{name}")).and_then(duration).unwrap_or(default)
    }

    /// Whether a phase, or the one it is part of, is to be skipped.
    pub fn skips(&self, kind: &str, phase: &str) -> bool {
        let skipped = self.texts(kind, "/skipPhases");
        skipped.iter().any(|skip| phase == skip || phase.starts_with(&format!("{skip}/")))
    }

    pub fn registration(&self, kind: &str, host_name: &str) -> Result<Registration, String> {
        let taints = match self.kind(kind).and_then(|document| document.pointer("/nodeRegistration/taints")) {
            None | Some(Value::Null) => None,
            Some(Value::Array(taints)) => Some(taints.iter().map(taint).collect::<Result<_, _>>()?),
            Some(_) => return Err("nodeRegistration.taints: expected a list".into()),
        };
        Ok(Registration {
            name: self.text(kind, "/nodeRegistration/name").unwrap_or(host_name).to_owned(),
            kubelet_arguments: self.arguments(kind, "/nodeRegistration/kubeletExtraArgs"),
            taints,
        })
    }

    pub fn advertise_address(&self, kind: &str, base: &str, own: IpAddr) -> Result<IpAddr, String> {
        match self.text(kind, &format!("{base}/advertiseAddress")) {
            None => Ok(own),
            Some(text) => text.parse().map_err(|_| format!("couldn't use {text:?} as \"apiserver-advertise-address\"")),
        }
    }

    pub fn tokens(&self) -> Result<Vec<Token>, String> {
        let list = self.kind("InitConfiguration").and_then(|document| document.pointer("/bootstrapTokens"));
        let parse = |token: &Value| {
            let text = text_at(token, "/token").unwrap_or_default();
            let (id, secret) = split_token(text)?;
            let ttl = text_at(token, "/ttl").map_or(Some(Duration::from_secs(24 * 3600)), duration);
            Ok(Token { id: id.into(), secret: secret.into(), ttl: ttl.filter(|ttl| !ttl.is_zero()) })
        };
        list.and_then(Value::as_array).into_iter().flatten().map(parse).collect()
    }
}

fn unknown(version: &str, kind: &str) -> String {
    format!("your configuration file uses an old or unknown API spec: {version:?} (kind: {kind:?})")
}

/// The two parts of a bootstrap token.
///
/// # Errors
/// In kubeadm's words.
pub(super) fn split_token(token: &str) -> Result<(&str, &str), String> {
    let fits =
        |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    token.split_once('.').filter(|(id, secret)| fits(id, 6) && fits(secret, 16)).ok_or_else(|| {
        "the bootstrap token is not of the form \"\\\\A([a-z0-9]{6})\\\\.([a-z0-9]{16})\\\\z\"".to_owned()
    })
}

/// `key=value:Effect`, as `--register-with-taints` takes it.
fn taint(taint: &Value) -> Result<String, String> {
    let effect = text_at(taint, "/effect").ok_or("nodeRegistration.taints: a taint needs key and effect")?;
    let key = text_at(taint, "/key").ok_or("nodeRegistration.taints: a taint needs key and effect")?;
    Ok(match text_at(taint, "/value").filter(|value| !value.is_empty()) {
        Some(value) => format!("{key}={value}:{effect}"),
        None => format!("{key}:{effect}"),
    })
}

/// Extra arguments: a list of `name` and `value` (v1beta4), or a map (v1beta3).
fn arguments(value: &Value) -> BTreeMap<String, String> {
    let pair = |entry: &Value| Some((text_at(entry, "/name")?.to_owned(), text_at(entry, "/value")?.to_owned()));
    match value {
        Value::Array(list) => list.iter().filter_map(pair).collect(),
        Value::Object(map) => {
            map.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A Go duration such as `4m0s` or `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        total += unit.checked_mul(u32::try_from(number).ok()?)?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_by_kind_and_old_ones_refused() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nskipPhases: [preflight, addon]\n\
                    timeouts: {controlPlaneComponentHealthCheck: 1m30s}\nnodeRegistration:\n  kubeletExtraArgs:\n  \
                    - {name: node-labels, value: 'a=b'}\n  taints: [{key: k, effect: NoSchedule}]\n---\n\
                    apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let documents = Documents::parse(text).unwrap();
        assert!(
            documents.skips("InitConfiguration", "addon/coredns") && !documents.skips("InitConfiguration", "certs")
        );
        let timeout = documents.timeout("InitConfiguration", "controlPlaneComponentHealthCheck", Duration::ZERO);
        assert_eq!(timeout, Duration::from_secs(90));
        let registration = documents.registration("InitConfiguration", "host").unwrap();
        assert_eq!(registration.name, "host");
        assert_eq!(registration.kubelet_arguments["node-labels"], "a=b");
        assert_eq!(registration.taints, Some(vec!["k:NoSchedule".to_owned()]));
        let old = Documents::parse("apiVersion: kubeadm.k8s.io/v1beta2\nkind: InitConfiguration\n");
        assert!(old.unwrap_err().contains("old or unknown API spec"));
        let newer =
            || Arc::new(Documents::parse("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n").unwrap());
        assert!(newer().known_to(Some("v1.31.0")).is_ok() && newer().known_to(Some("v1.30.14")).is_err());
        assert!(Documents::parse("kind: X\n").is_err() && Documents::parse(": [").is_err());
    }

    #[test]
    fn a_configuration_is_read_once_for_as_long_as_it_stays_the_same() {
        let mut configurations = Configurations::default();
        let text = |kind: &str| Bytes::from(format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: {kind}\n"));
        let first = configurations.read("a", &text("InitConfiguration")).unwrap();
        assert!(Arc::ptr_eq(&first, &configurations.read("a", &text("InitConfiguration")).unwrap()));
        let changed = configurations.read("a", &text("JoinConfiguration")).unwrap();
        assert!(changed.kind("JoinConfiguration").is_some() && changed.kind("InitConfiguration").is_none());
        for other in 0..2 * CONFIGURATIONS_MAX {
            configurations.read(&other.to_string(), &text("InitConfiguration")).unwrap();
        }
        assert_eq!(configurations.read.len(), CONFIGURATIONS_MAX);
        configurations.forget("127");
        assert_eq!(configurations.read.len(), CONFIGURATIONS_MAX - 1);
        assert!(configurations.read("b", &Bytes::from_static(b": [")).is_err());
    }

    #[test]
    fn a_token_has_its_form() {
        assert_eq!(split_token("abcdef.0123456789abcdef"), Ok(("abcdef", "0123456789abcdef")));
        assert!(split_token("abcdef.0123").is_err() && split_token("").is_err());
    }
}
