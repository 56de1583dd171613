//! What makes a cluster the one that it is: everything that cannot change without making it anew.

use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::derived::OfCluster;
use crate::api::Machine;
use crate::api::cluster::NodeNetwork;
use crate::api::defaults::{Components, Resolved};

/// Annotation on a Machine: the fingerprint of the cluster that it was made for.
pub const FINGERPRINT: &str = "kina.dev/fingerprint";

/// Of everything that the machines of a cluster cannot change in place.
#[must_use]
pub fn of_machines(spec: &Resolved) -> String {
    // Pools come and go without the rest.
    let own = |components: &Components| {
        let Components { feature_gates, runtime_config, proxy_mode, patches, control_plane, workers: _ } = components;
        format!("{feature_gates:?} {runtime_config:?} {proxy_mode:?} {patches:?} {control_plane:?}")
    };
    let mut text = format!(
        "{} {} {} {} {} {:?} {}",
        spec.version,
        spec.runtime.as_str(),
        spec.pod_subnet,
        spec.service_subnet,
        spec.node_subnet,
        spec.cni,
        spec.endpoint.ip(),
    );
    if spec.node_network != NodeNetwork::Cluster {
        text.push_str(&format!(" {}", spec.node_network.as_str()));
    }
    let components = own(&spec.components);
    // What nobody sets is no part of it: clusters from before there was such a setting stay the same.
    if components != own(&Components::default()) {
        text.push_str(&components);
    }
    hash(&text)
}

/// Of everything that the machines of one pool cannot change in place: the cluster's, and a part of its own where the
/// pool has patches.
#[must_use]
pub fn of_pool(cluster: &OfCluster, pool: &str) -> String {
    let fingerprint = &cluster.fingerprint;
    match cluster.resolved.components.workers.get(pool) {
        None => fingerprint.clone(),
        Some(patches) => format!("{fingerprint}-{}", hash(&format!("{patches:?}"))),
    }
}

/// Whether a Machine was made for the cluster, and the pool, as they are wanted now.
#[must_use]
pub fn fits(machine: &Machine, cluster: &OfCluster) -> bool {
    machine.annotations().get(FINGERPRINT) == Some(&of_pool(cluster, &machine.spec.pool))
}

/// The part of a machine's fingerprint that all machines of its cluster share.
#[must_use]
pub fn of_cluster(fingerprint: &str) -> &str {
    fingerprint.split('-').next().unwrap_or(fingerprint)
}

/// Of what the network is made from.
#[must_use]
pub fn of_network(spec: &Resolved) -> String {
    let subnets = std::iter::once(spec.node_subnet.to_string()).chain(spec.node_subnet6().map(|cidr| cidr.to_string()));
    hash(&subnets.collect::<Vec<_>>().join(","))
}

/// Of any text; 16 hexadecimal digits.
#[must_use]
pub fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    let beginning = digest.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ClusterSpec;
    use crate::api::cluster::{NodeNetwork, RuntimeName};
    use crate::api::defaults::{HostDefaults, resolve};

    fn derived(spec: &ClusterSpec) -> OfCluster {
        let node_subnet = "10.160.0.0/24".parse().unwrap();
        let host = HostDefaults {
            runtime: RuntimeName::Sim,
            node_network: NodeNetwork::Cluster,
            node_subnet,
            api_port: 40_000,
            mapped_ports: Vec::new(),
        };
        OfCluster::of(&resolve(spec, &host)).unwrap()
    }

    fn resolved(spec: &ClusterSpec) -> Resolved {
        derived(spec).resolved
    }

    #[test]
    fn settings_that_nobody_uses_are_no_part_of_a_cluster_and_those_of_a_pool_are_the_pools() {
        let mut spec = ClusterSpec::default();
        let plain = of_machines(&resolved(&spec));
        assert_eq!(plain, hash("v1.35.5 sim 10.244.0.0/16 10.96.0.0/16 10.160.0.0/24 Auto 127.0.0.1"));
        let patch = vec!["kind: JoinConfiguration".to_owned()];
        spec.workers.push(crate::api::cluster::WorkerPool {
            name: "a".into(),
            kubeadm_config_patches: patch.clone(),
            ..Default::default()
        });
        assert_eq!(of_machines(&resolved(&spec)), plain);
        assert_eq!(of_cluster(&of_pool(&derived(&spec), "a")), plain);
        assert_ne!(of_pool(&derived(&spec), "a"), plain);
        spec.kubeadm_config_patches = patch;
        assert_ne!(of_machines(&resolved(&spec)), plain);
        let mut lone = ClusterSpec::default();
        lone.networking.node_network = Some(NodeNetwork::Cluster);
        assert_eq!(of_machines(&resolved(&lone)), plain);
        lone.networking.node_network = Some(NodeNetwork::Default);
        assert_ne!(of_machines(&resolved(&lone)), plain);
    }
}
