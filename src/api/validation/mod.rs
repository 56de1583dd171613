//! Rules of a Cluster that its schema cannot say. Every fault is found at once, each at its field.

mod addons;
mod ports;
mod registries;
mod settings;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use super::cidr::{AnyCidr, Cidr, Subnets};
use super::cluster::{ClusterSpec, Cni, IpFamily, MachineResources, Networking, PoolSettings, Taint, WorkerPool};
use super::defaults::POD_SUBNET;
use super::ipv6;
use super::names::{ClusterName, PoolName};
use super::quantity;
use super::versions::{KubernetesVersion, NEWEST_MINOR, OLDEST_MINOR};

/// One fault at one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path as a sequence of keys and indices: `["spec", "workers", "0", "name"]`.
    pub path: Vec<String>,
    /// What is wrong and what was expected; lower case, no full stop.
    pub message: String,
}

impl Fault {
    fn new(path: &[&str], message: impl ToString) -> Self {
        Self { path: path.iter().map(|&key| key.to_owned()).collect(), message: message.to_string() }
    }

    /// Dotted path, `spec.workers[0].name`.
    #[must_use]
    pub fn field(&self) -> String {
        let mut text = String::new();
        for key in &self.path {
            if key.bytes().all(|b| b.is_ascii_digit()) {
                text.push_str(&format!("[{key}]"));
            } else {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
        }
        text
    }

    /// JSON pointer (RFC 6901), `/spec/workers/0/name`.
    #[must_use]
    pub fn pointer(&self) -> String {
        self.path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
    }
}

/// Every fault of a Cluster with this name and spec.
#[must_use]
pub fn cluster(name: &str, spec: &ClusterSpec) -> Vec<Fault> {
    let mut faults = Faults::default();
    if let Err(error) = ClusterName::parse(name) {
        faults.add(&["metadata", "name"], error);
    }
    version(&mut faults, spec);
    images(&mut faults, spec);
    control_plane(&mut faults, spec);
    workers(&mut faults, &spec.workers);
    networking(&mut faults, spec);
    ports::check(&mut faults, spec);
    settings::components(&mut faults, spec);
    registries::check(&mut faults, spec);
    settings::images(&mut faults, &spec.images);
    addons::check(&mut faults, &spec.addons);
    times(&mut faults, spec);
    faults.0
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &[&str], message: impl ToString) {
        self.0.push(Fault::new(path, message));
    }
}

fn version(faults: &mut Faults, spec: &ClusterSpec) {
    let Some(text) = &spec.kubernetes_version else { return };
    let path = &["spec", "kubernetesVersion"];
    match KubernetesVersion::parse(text) {
        None => faults.add(path, format!("`{text}` is not a version such as `v1.35.5`")),
        Some(version) if !version.is_supported() => faults.add(
            path,
            format!("Kubernetes {version} is not supported, only v1.{OLDEST_MINOR} to v1.{NEWEST_MINOR} are"),
        ),
        Some(_) => {}
    }
}

/// The image decides what runs: one whose name says another version is a mistake.
fn images(faults: &mut Faults, spec: &ClusterSpec) {
    let pools = spec.workers.iter().enumerate().map(|(index, pool)| {
        (vec!["spec".to_owned(), "workers".to_owned(), index.to_string(), "image".to_owned()], &pool.image)
    });
    let path = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
    let first = [
        (path(&["spec", "image"]), &spec.image),
        (path(&["spec", "controlPlane", "image"]), &spec.control_plane.image),
    ];
    let of_image = |image: &Option<String>| image.as_deref().and_then(KubernetesVersion::of_image);
    let named = spec.kubernetes_version.as_deref().and_then(KubernetesVersion::parse);
    let named = named.or_else(|| of_image(&spec.image)).or_else(|| of_image(&spec.control_plane.image));
    for (path, image) in first.into_iter().chain(pools) {
        let Some(image) = image else { continue };
        let Some(version) = KubernetesVersion::of_image(image) else { continue };
        let message = match named {
            _ if !version.is_supported() => {
                format!("Kubernetes {version} is not supported, only v1.{OLDEST_MINOR} to v1.{NEWEST_MINOR} are")
            }
            Some(wanted) if wanted != version => format!("the image is of {version}, and the cluster is of {wanted}"),
            _ => continue,
        };
        faults.0.push(Fault { path, message });
    }
}

fn control_plane(faults: &mut Faults, spec: &ClusterSpec) {
    let replicas = spec.control_plane.replicas;
    if replicas.is_multiple_of(2) || replicas > 7 {
        faults.add(
            &["spec", "controlPlane", "replicas"],
            format!("{replicas} control planes cannot keep a quorum: use 1, 3, 5 or 7"),
        );
    }
    pool(faults, &["spec", "controlPlane"], spec.control_plane.settings());
}

fn workers(faults: &mut Faults, pools: &[WorkerPool]) {
    let mut seen = BTreeSet::new();
    for (index, pool) in pools.iter().enumerate() {
        let index = index.to_string();
        let path = ["spec", "workers", &index];
        if let Err(error) = PoolName::parse(&pool.name) {
            faults.add(&[&path[..], &["name"]].concat(), error);
        }
        if !seen.insert(&pool.name) {
            faults.add(&[&path[..], &["name"]].concat(), format!("a second pool is named `{}`", pool.name));
        }
        if pool.replicas > 1000 {
            faults.add(&[&path[..], &["replicas"]].concat(), format!("{} is more than 1000", pool.replicas));
        }
        self::pool(faults, &path, pool.settings());
    }
}

fn pool(faults: &mut Faults, path: &[&str], pool: PoolSettings<'_>) {
    resources(faults, path, pool.resources.as_ref());
    labels(faults, path, pool.labels.iter());
    taints(faults, path, pool.taints);
    settings::mounts(faults, path, pool.extra_mounts);
    settings::kubeadm_patches(faults, path, pool.kubeadm_config_patches, pool.kubeadm_config_patches_json6902);
}

fn resources(faults: &mut Faults, path: &[&str], resources: Option<&MachineResources>) {
    let Some(resources) = resources else { return };
    if let Some(cpus) = resources.cpus.as_ref().filter(|cpus| quantity::cpu_millis(&cpus.0).is_none()) {
        let message = format!("`{}` is not an amount of CPUs such as `2`, `0.5` or `1500m`", cpus.0);
        faults.add(&[path, &["resources", "cpus"]].concat(), message);
    }
    if let Some(memory) = resources.memory.as_ref().filter(|memory| quantity::bytes(&memory.0).is_none()) {
        let message = format!("`{}` is not an amount of memory such as `4Gi` or `512Mi`", memory.0);
        faults.add(&[path, &["resources", "memory"]].concat(), message);
    }
}

/// Prefixes of labels that a kubelet may not set on its own Node (NodeRestriction admission plugin). Kina sets labels as
/// an administrator, but those of the system's own prefixes belong to the system.
const RESERVED_PREFIXES: [&str; 2] = ["kubernetes.io", "k8s.io"];

fn labels<'a>(faults: &mut Faults, path: &[&str], labels: impl Iterator<Item = (&'a String, &'a String)>) {
    for (key, value) in labels {
        let here = [path, &["labels", key]].concat();
        if !is_qualified_name(key) {
            faults.add(&here, format!("`{key}` is not a label key such as `tier` or `example.com/tier`"));
        } else if let Some(prefix) = reserved_prefix(key) {
            faults.add(&here, format!("labels of `{prefix}` belong to Kubernetes itself"));
        }
        if !is_label_value(value) {
            let message = format!(
                "`{value}` is not a label value: at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends"
            );
            faults.add(&here, message);
        }
    }
}

fn reserved_prefix(key: &str) -> Option<&'static str> {
    let (prefix, _) = key.split_once('/')?;
    // node-role and the like are what people set by hand on kind, too.
    if prefix == "node-role.kubernetes.io" || prefix == "node.kubernetes.io" {
        return None;
    }
    RESERVED_PREFIXES
        .into_iter()
        .find(|reserved| prefix == *reserved || prefix.strip_suffix(reserved).is_some_and(|rest| rest.ends_with('.')))
}

fn taints(faults: &mut Faults, path: &[&str], taints: &[Taint]) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let index = index.to_string();
        let here = [path, &["taints", &index]].concat();
        if !is_qualified_name(&taint.key) {
            let message = format!("`{}` is not a taint key such as `dedicated`", taint.key);
            faults.add(&[&here[..], &["key"]].concat(), message);
        }
        if !is_label_value(&taint.value) {
            faults.add(&[&here[..], &["value"]].concat(), format!("`{}` is not a taint value", taint.value));
        }
        if !seen.insert((&taint.key, taint.effect)) {
            faults.add(&here, format!("a second taint has the key `{}` and this effect", taint.key));
        }
    }
}

/// Kina's own pod network gives every machine a /24 of the pods' subnet.
fn routed(faults: &mut Faults, spec: &ClusterSpec) {
    const RANGE: u8 = 24;
    let networking = &spec.networking;
    if networking.cni != Some(Cni::Routed) {
        return;
    }
    if networking.ip_family.is_some_and(|family| family != IpFamily::Ipv4) {
        faults.add(&["spec", "networking", "cni"], "`routed` is for `ipFamily: ipv4` only");
    }
    let pods = networking.pod_subnet.as_deref().unwrap_or(POD_SUBNET).parse::<Cidr>();
    let Some(more) = pods.ok().and_then(|pods| RANGE.checked_sub(pods.length())) else { return };
    let machines =
        spec.workers.iter().map(|pool| u64::from(pool.replicas)).sum::<u64>() + u64::from(spec.control_plane.replicas);
    let ranges = 1_u64 << more;
    if machines > ranges {
        let message = format!(
            "it has {ranges} ranges (/{RANGE}) for pods, one a machine, and there are to be {machines} machines"
        );
        faults.add(&["spec", "networking", "podSubnet"], message);
    }
}

fn networking(faults: &mut Faults, spec: &ClusterSpec) {
    let networking = &spec.networking;
    routed(faults, spec);
    for (index, domain) in networking.dns_search.iter().flatten().enumerate() {
        if !settings::is_domain(domain) {
            let message = format!("`{domain}` is not a domain such as `corp.example.com`");
            faults.add(&["spec", "networking", "dnsSearch", &index.to_string()], message);
        }
    }
    subnets(faults, networking);
    if let Some(address) = &networking.api_server.address {
        let path = ["spec", "networking", "apiServer", "address"];
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) | Err(_) => {
                faults.add(&path, format!("`{address}` is not an address of this host such as `127.0.0.1`"));
            }
            // The load balancer forwards in IPv4, and where it has an address of IPv6 as well an engine leads to that one.
            Ok(IpAddr::V6(_)) if networking.family().has_v6() => {
                let message = "is reached in IPv4 also where machines have IPv6: use an address such as `127.0.0.1`";
                faults.add(&path, format!("the API server {message}"));
            }
            Ok(_) => {}
        }
    }
}

/// Which lengths of subnets of IPv4 and of IPv6 are allowed. A node's range is a /24 of IPv4 and a /64 of IPv6, and at most
/// 65,536 of them are handed out (`node-cidr-mask-size-ipv6` of the controller manager); services of IPv6 have at most 20
/// bits (`service-cluster-ip-range` of the API server).
struct Lengths(RangeInclusive<u8>, RangeInclusive<u8>);

const POD_LENGTHS: Lengths = Lengths(8..=24, 48..=64);
const SERVICE_LENGTHS: Lengths = Lengths(8..=27, 108..=123);

fn subnets(faults: &mut Faults, networking: &Networking) {
    let family = networking.family();
    let each = |text: &str| Subnets::parse(text, family).map(|found| found.each().collect::<Vec<_>>());
    let nodes = |text: &str| text.parse().map(|cidr| vec![AnyCidr::V4(cidr)]);
    let fields = [
        ("podSubnet", &networking.pod_subnet, POD_LENGTHS),
        ("serviceSubnet", &networking.service_subnet, SERVICE_LENGTHS),
        ("nodeSubnet", &networking.node_subnet, Lengths(24..=24, 64..=64)),
    ];
    let mut known: Vec<(&str, AnyCidr)> = Vec::new();
    if let (true, Ok(reserved)) = (family.has_v6(), ipv6::NODE_SUBNETS.parse()) {
        known.push(("the addresses of machines", AnyCidr::V6(reserved)));
    }
    for (field, text, lengths) in fields {
        let Some(text) = text else { continue };
        let path = ["spec", "networking", field];
        let found = if field == "nodeSubnet" { nodes(text) } else { each(text) };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                faults.add(&path, error);
                continue;
            }
        };
        for cidr in found {
            let allowed = if cidr.is_v6() { &lengths.1 } else { &lengths.0 };
            if !allowed.contains(&cidr.length()) {
                let (length, least, most) = (cidr.length(), allowed.start(), allowed.end());
                faults.add(&path, format!("`{cidr}` has length {length}, from {least} to {most} are allowed"));
                continue;
            }
            if let Some((other, taken)) = known.iter().find(|(_, taken)| taken.overlaps(cidr)) {
                faults.add(&path, format!("`{cidr}` overlaps with {other} `{taken}`"));
            }
            known.push((field, cidr));
        }
    }
}

fn times(faults: &mut Faults, spec: &ClusterSpec) {
    if let Some(ttl) = &spec.ttl
        && quantity::duration(ttl).is_none_or(|ttl| ttl.is_zero())
    {
        faults.add(&["spec", "ttl"], format!("`{ttl}` is not a duration such as `8h` or `30m`"));
    }
    let interval = &spec.drift.interval;
    if quantity::duration(interval).is_none_or(|interval| interval.as_secs() < 5) {
        faults.add(
            &["spec", "drift", "interval"],
            format!("`{interval}` is not a duration of at least 5 seconds, such as `30s`"),
        );
    }
}

/// `[PREFIX/]NAME` as for labels: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>.
fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name_part(text),
        Some((prefix, name)) => {
            let labels = prefix.split('.').all(|label| {
                let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let bytes = label.as_bytes();
                bytes.first().copied().is_some_and(inner)
                    && bytes.last().copied().is_some_and(inner)
                    && bytes.iter().all(|&b| inner(b) || b == b'-')
            });
            prefix.len() <= 253 && labels && is_name_part(name)
        }
    }
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

fn is_name_part(text: &str) -> bool {
    let ends = |b: u8| b.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().copied().is_some_and(ends)
        && bytes.last().copied().is_some_and(ends)
        && bytes.iter().all(|&b| ends(b) || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::super::cluster::{Quantity, TaintEffect};
    use super::*;

    fn messages(name: &str, spec: &ClusterSpec) -> Vec<String> {
        cluster(name, spec).into_iter().map(|fault| format!("{}: {}", fault.field(), fault.message)).collect()
    }

    #[test]
    fn the_default_spec_has_no_fault() {
        assert_eq!(messages("dev", &ClusterSpec::default()), [""; 0]);
    }

    #[test]
    fn a_routed_pod_network_has_room_for_every_machine_and_is_of_ipv4() {
        let mut spec = ClusterSpec::default();
        spec.networking.cni = Some(Cni::Routed);
        spec.workers = vec![WorkerPool { name: "a".into(), replicas: 4, ..Default::default() }];
        assert_eq!(messages("dev", &spec), [""; 0]);
        spec.networking.pod_subnet = Some("10.1.0.0/22".into());
        assert_eq!(
            messages("dev", &spec),
            [
                "spec.networking.podSubnet: it has 4 ranges (/24) for pods, one a machine, and there are to be 5 machines"
            ]
        );
        spec.workers[0].replicas = 3;
        assert_eq!(messages("dev", &spec), [""; 0]);
        spec.networking.ip_family = Some(IpFamily::Dual);
        assert!(
            messages("dev", &spec).contains(&"spec.networking.cni: `routed` is for `ipFamily: ipv4` only".to_owned())
        );
    }

    #[test]
    fn every_fault_is_found_at_once_with_its_field() {
        let mut spec =
            ClusterSpec { kubernetes_version: Some("1.35".into()), ttl: Some("soon".into()), ..Default::default() };
        spec.control_plane.replicas = 2;
        spec.control_plane.labels.insert("kubernetes.io/arch".into(), "z80".into());
        let resources = MachineResources { cpus: Some(Quantity("many".into())), memory: Some(Quantity("4gi".into())) };
        let taint = Taint { key: "a b".into(), value: String::new(), effect: TaintEffect::NoSchedule };
        let pool = WorkerPool {
            name: "control-plane".into(),
            replicas: 1,
            resources: Some(resources),
            taints: vec![taint],
            ..Default::default()
        };
        spec.workers = vec![pool];
        spec.networking.pod_subnet = Some("10.96.0.0/12".into());
        spec.networking.service_subnet = Some("10.96.0.0/16".into());
        spec.networking.api_server.address = Some("localhost".into());
        insta::assert_snapshot!(messages("Dev_1", &spec).join("\n"), @r"
        metadata.name: `Dev_1` must consist of lower case letters, digits and `-`, and start and end with a letter or digit (such as `dev` or `team-a`)
        spec.kubernetesVersion: `1.35` is not a version such as `v1.35.5`
        spec.controlPlane.replicas: 2 control planes cannot keep a quorum: use 1, 3, 5 or 7
        spec.controlPlane.labels.kubernetes.io/arch: labels of `kubernetes.io` belong to Kubernetes itself
        spec.workers[0].name: `control-plane` is reserved
        spec.workers[0].resources.cpus: `many` is not an amount of CPUs such as `2`, `0.5` or `1500m`
        spec.workers[0].resources.memory: `4gi` is not an amount of memory such as `4Gi` or `512Mi`
        spec.workers[0].taints[0].key: `a b` is not a taint key such as `dedicated`
        spec.networking.serviceSubnet: `10.96.0.0/16` overlaps with podSubnet `10.96.0.0/12`
        spec.networking.apiServer.address: `localhost` is not an address of this host such as `127.0.0.1`
        spec.ttl: `soon` is not a duration such as `8h` or `30m`
        ");
    }

    #[test]
    fn subnets_are_of_the_family_that_is_asked_for() {
        use super::super::cluster::IpFamily::{self, Dual, Ipv4, Ipv6};
        let mut told = String::new();
        let mut tell = |family: IpFamily, pods: &str, services: &str| {
            let mut spec = ClusterSpec::default();
            spec.networking.ip_family = Some(family);
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            (spec.networking.pod_subnet, spec.networking.service_subnet) = (text(pods), text(services));
            told.push_str(&format!("{}: {:?}\n", family.as_str(), messages("dev", &spec)));
        };
        tell(Ipv6, "", "");
        tell(Dual, "10.1.0.0/16,fd00:1::/56", "fd00:2::/112,10.2.0.0/16");
        tell(Ipv4, "fd00:1::/56", "10.1.0.0/16,fd00:1::/112");
        tell(Ipv6, "10.1.0.0/16", "fd00:2::/64");
        tell(Dual, "10.1.0.0/16", "10.1.0.0/16,10.2.0.0/16");
        tell(Dual, "fd00:1::/40,10.1.0.0/16", "10.1.2.0/24,fd6b:696e:610a::/112");
        tell(Ipv6, "fd00:1::/56", "fd00:1::/112");
        insta::assert_snapshot!(told, @r#"
        ipv6: []
        dual: []
        ipv4: ["spec.networking.podSubnet: `fd00:1::/56` is not an IPv4 subnet such as `10.244.0.0/16`", "spec.networking.serviceSubnet: `10.1.0.0/16,fd00:1::/112` is not an IPv4 subnet such as `10.244.0.0/16`"]
        ipv6: ["spec.networking.podSubnet: `10.1.0.0/16` is not an IPv6 subnet such as `fd00:10:244::/56`", "spec.networking.serviceSubnet: `fd00:2::/64` has length 64, from 108 to 123 are allowed"]
        dual: ["spec.networking.podSubnet: `10.1.0.0/16` is not a subnet of each family such as `10.244.0.0/16,fd00:10:244::/56`", "spec.networking.serviceSubnet: `10.1.0.0/16,10.2.0.0/16` is not a subnet of each family such as `10.244.0.0/16,fd00:10:244::/56`"]
        dual: ["spec.networking.podSubnet: `fd00:1::/40` has length 40, from 48 to 64 are allowed", "spec.networking.serviceSubnet: `10.1.2.0/24` overlaps with podSubnet `10.1.0.0/16`", "spec.networking.serviceSubnet: `fd6b:696e:610a::/112` overlaps with the addresses of machines `fd6b:696e:6100::/40`"]
        ipv6: ["spec.networking.serviceSubnet: `fd00:1::/112` overlaps with podSubnet `fd00:1::/56`"]
        "#);
        let mut spec = ClusterSpec::default();
        spec.networking.api_server.address = Some("::1".into());
        assert_eq!(messages("dev", &spec), [""; 0]);
        spec.networking.ip_family = Some(Dual);
        insta::assert_snapshot!(messages("dev", &spec).join("\n"), @"spec.networking.apiServer.address: the API server is reached in IPv4 also where machines have IPv6: use an address such as `127.0.0.1`");
    }
}
