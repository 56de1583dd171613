//! The families of addresses of a cluster, as the ConfigMap `kubeadm-config` tells them.

use serde_json::Value;

use crate::api::cidr::{AnyCidr, Cidr};

/// Subnets of services, the primary one first.
pub(super) fn service_subnets(kubeadm_config: Option<&Value>) -> Vec<AnyCidr> {
    subnets(kubeadm_config, "serviceSubnet", [10, 96, 0, 0])
}

/// Subnets of pods.
pub(super) fn pod_subnets(kubeadm_config: Option<&Value>) -> Vec<AnyCidr> {
    subnets(kubeadm_config, "podSubnet", [10, 244, 0, 0])
}

/// As Services name it.
pub(super) fn name(subnet: AnyCidr) -> &'static str {
    if subnet.is_v6() { "IPv6" } else { "IPv4" }
}

/// Whether the controller manager is told to give nodes no ranges of pod addresses.
pub(super) fn gives_no_ranges(kubeadm_config: &Value) -> bool {
    let arguments = configuration(kubeadm_config)
        .and_then(|document| document.pointer("/controllerManager/extraArgs")?.as_array().cloned());
    let is_off = |argument: &Value| argument["name"] == "allocate-node-cidrs" && argument["value"] == "false";
    arguments.is_some_and(|arguments| arguments.iter().any(is_off))
}

fn configuration(kubeadm_config: &Value) -> Option<Value> {
    let text = kubeadm_config.pointer("/data/ClusterConfiguration")?.as_str()?;
    serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str(text).ok())
}

fn subnets(kubeadm_config: Option<&Value>, field: &str, default: [u8; 4]) -> Vec<AnyCidr> {
    let told = kubeadm_config.and_then(|config| {
        let subnets = configuration(config)?.get("networking")?.get(field)?.as_str()?.to_owned();
        subnets.split(',').map(|subnet| subnet.parse().ok()).collect::<Option<Vec<AnyCidr>>>()
    });
    told.unwrap_or_else(|| vec![AnyCidr::V4(Cidr::containing(default.into(), 16))])
}
