//! The host's way out, for nodes.

use std::collections::BTreeMap;

use crate::api::defaults::Resolved;
use crate::api::ipv6;

/// Besides the cluster's own subnets: names of Services.
const SERVICES: [&str; 3] = [".svc", ".svc.cluster", ".svc.cluster.local"];

/// Proxies of this host, as the process was started with them. A URL may hold a password: it is shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    no: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("any", &self.any()).finish_non_exhaustive()
    }
}

impl Proxies {
    /// Out of an environment: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_lowercase()))
        };
        Self { http: get("HTTP_PROXY"), https: get("HTTPS_PROXY"), no: get("NO_PROXY") }
    }

    fn any(&self) -> bool {
        self.http.is_some() || self.https.is_some()
    }

    /// For the first process of a node, in both spellings, since programs differ in which they read. What is inside of a
    /// cluster is reached without a proxy: its subnets, Services, and `names`. Nothing where the host has no proxy.
    #[must_use]
    pub fn environment(&self, spec: &Resolved, names: impl IntoIterator<Item = String>) -> BTreeMap<String, String> {
        if !self.any() {
            return BTreeMap::new();
        }
        let subnets = [spec.node_subnet.to_string(), spec.service_subnet.to_string(), spec.pod_subnet.to_string()];
        let subnets =
            subnets.into_iter().chain(spec.ip_family.has_v6().then(|| ipv6::node_subnet(spec.node_subnet).to_string()));
        let inside = self.no.clone().into_iter().chain(subnets).chain(names);
        let inside: Vec<String> = inside.chain(SERVICES.map(str::to_owned)).collect();
        let all = [
            ("HTTP_PROXY", self.http.clone()),
            ("HTTPS_PROXY", self.https.clone()),
            ("NO_PROXY", Some(inside.join(","))),
        ];
        let set = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster::NodeNetwork;
    use crate::api::cluster::{ClusterSpec, RuntimeName};
    use crate::api::defaults::{HostDefaults, resolve};

    fn spec() -> Resolved {
        let host = HostDefaults {
            runtime: RuntimeName::Docker,
            node_network: NodeNetwork::Cluster,
            node_subnet: "10.160.3.0/24".parse().unwrap(),
            api_port: 6443,
            mapped_ports: Vec::new(),
        };
        Resolved::of(&resolve(&ClusterSpec::default(), &host)).unwrap()
    }

    fn of(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxies::of(find).environment(&spec(), ["dev-lb".to_owned()])
    }

    #[test]
    fn a_cluster_is_reached_without_the_hosts_proxy() {
        let told = of(&[("https_proxy", "http://proxy:3128"), ("NO_PROXY", "corp.example")]);
        let names: Vec<&str> = told.keys().map(String::as_str).collect();
        assert_eq!(names, ["HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy"]);
        assert_eq!(told["HTTPS_PROXY"], "http://proxy:3128");
        let inside =
            "corp.example,10.160.3.0/24,10.96.0.0/16,10.244.0.0/16,dev-lb,.svc,.svc.cluster,.svc.cluster.local";
        assert_eq!(told["no_proxy"], inside);
    }

    #[test]
    fn a_host_without_a_proxy_tells_nothing() {
        assert!(of(&[]).is_empty() && of(&[("NO_PROXY", "a"), ("HTTP_PROXY", "")]).is_empty());
    }

    #[test]
    fn passwords_in_proxies_are_not_shown() {
        let proxies = Proxies::of(|_| Some("http://me:secret@proxy".to_owned()));
        assert_eq!(format!("{proxies:?}"), "Proxies { any: true, .. }");
    }
}
