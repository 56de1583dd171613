//! Which network the machines of a cluster are in: a function of what the runtime has and what is asked for (decision 0029).

use super::wait::Wait;
use crate::api::cluster::{ClusterSpec, NodeNetwork};
use crate::runtime::Networks;

/// How many machines a spec asks for.
#[must_use]
pub fn machines(spec: &ClusterSpec) -> u32 {
    let workers = spec.workers.iter().map(|pool| pool.replicas);
    workers.fold(spec.control_plane.replicas, u32::saturating_add)
}

/// The network of so many machines. `wanted` is what the spec says, or what was chosen when it was resolved: that stays,
/// whatever the runtime has by then.
///
/// # Errors
/// Why there is none for them here, and what would do.
pub fn choose(
    runtime: &'static str,
    networks: Networks,
    wanted: Option<NodeNetwork>,
    machines: u32,
) -> Result<NodeNetwork, Wait> {
    let usual = if networks.have(NodeNetwork::Cluster) { NodeNetwork::Cluster } else { NodeNetwork::Default };
    match wanted.unwrap_or(usual) {
        network if !networks.have(network) => Err(Wait::NetworkUnsupported(runtime, network)),
        // On that network nobody would reach anybody.
        NodeNetwork::Default if machines != 1 => Err(match usual {
            NodeNetwork::Default => Wait::NodesUnsupported(runtime, machines),
            NodeNetwork::Cluster => Wait::SingleNode(machines),
        }),
        network => Ok(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster::WorkerPool;

    const ALL: [Networks; 3] = [Networks::PerCluster, Networks::PerClusterOrDefault, Networks::OnlyDefault];

    #[test]
    fn a_cluster_has_a_network_of_its_own_wherever_one_can_be_made() {
        for networks in [Networks::PerCluster, Networks::PerClusterOrDefault] {
            for machines in [1, 2, 9] {
                assert_eq!(choose("apple", networks, None, machines), Ok(NodeNetwork::Cluster));
            }
        }
    }

    #[test]
    fn where_none_can_be_made_one_machine_is_in_the_default_network_and_more_are_refused() {
        assert_eq!(choose("apple", Networks::OnlyDefault, None, 1), Ok(NodeNetwork::Default));
        let wait = choose("apple", Networks::OnlyDefault, None, 2).unwrap_err();
        assert_eq!((wait.reason(), wait.stalls()), ("RuntimeUnsupported", true));
        insta::assert_snapshot!(wait.message(), @"on this host machines of the runtime `apple` do not reach each other (Apple Container needs macOS 26 for that): a cluster is one control plane alone here, and 2 machines are asked for. Ask for one, update macOS, or use `runtime: docker`");
        let own = choose("apple", Networks::OnlyDefault, Some(NodeNetwork::Cluster), 1).unwrap_err();
        assert_eq!((own.reason(), own.stalls()), ("RuntimeUnsupported", true));
        insta::assert_snapshot!(own.message(), @"on this host the runtime `apple` cannot give a cluster a network of its own: Apple Container needs macOS 26 for that. Update macOS, use `runtime: docker`, or, for one control plane alone, leave `networking.nodeNetwork` out");
    }

    #[test]
    fn what_was_chosen_stays_when_the_runtime_has_more_networks_and_grows_only_by_being_made_anew() {
        let wanted = Some(NodeNetwork::Default);
        assert_eq!(choose("apple", Networks::PerClusterOrDefault, wanted, 1), Ok(NodeNetwork::Default));
        let wait = choose("apple", Networks::PerClusterOrDefault, wanted, 3).unwrap_err();
        assert_eq!((wait.reason(), wait.stalls()), ("SingleNode", true));
        insta::assert_snapshot!(wait.message(), @"the cluster was made on the runtime's network `default`, on which it is one control plane alone, and 3 machines are asked for. Ask for one, or have the cluster made anew, without its data, on a network of its own: `networking.nodeNetwork: cluster` and `allowRecreate: true`");
    }

    #[test]
    fn the_default_network_of_a_runtime_that_is_not_meant_for_it_is_refused() {
        let wait = choose("docker", Networks::PerCluster, Some(NodeNetwork::Default), 1).unwrap_err();
        assert_eq!((wait.reason(), wait.stalls()), ("RuntimeUnsupported", true));
        insta::assert_snapshot!(wait.message(), @"the runtime `docker` has no network `default` for machines: leave `networking.nodeNetwork` out");
    }

    #[test]
    fn nothing_is_ever_chosen_that_a_runtime_lacks_or_that_machines_cannot_reach_each_other_on() {
        for networks in ALL {
            for wanted in [None, Some(NodeNetwork::Cluster), Some(NodeNetwork::Default)] {
                for machines in 0..4 {
                    let Ok(network) = choose("sim", networks, wanted, machines) else { continue };
                    assert!(networks.have(network) && wanted.is_none_or(|wanted| wanted == network));
                    assert!(network == NodeNetwork::Cluster || machines == 1);
                }
            }
        }
    }

    #[test]
    fn machines_are_control_planes_and_workers_of_every_pool() {
        let mut spec = ClusterSpec::default();
        assert_eq!(machines(&spec), 1);
        let pool = |replicas| WorkerPool { replicas, ..WorkerPool::default() };
        spec.workers = vec![pool(0), pool(2), pool(u32::MAX)];
        assert_eq!(machines(&spec), u32::MAX);
    }
}
