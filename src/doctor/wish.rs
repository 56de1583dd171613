//! How much memory the machines of all Clusters are to have together.

use super::facts::Subject;
use crate::api::Cluster;
use crate::api::cluster::{ClusterSpec, RuntimeName};
use crate::controllers::machine::container;
use crate::runtime::apple::{HostSize, size};

/// Of a load balancer on Apple Container, and what each machine there has besides its own.
const BALANCER_BYTES: u64 = 512 << 20;
const MACHINE_BYTES: u64 = 128 << 20;

/// What is wished for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Machines.
    pub machines: u64,
    /// Those of them whose memory has no limit.
    pub unlimited: u64,
    /// Bytes of memory of all others.
    pub memory_bytes: u64,
}

/// Of all Clusters on this runtime; those that leave it open are on it.
#[must_use]
pub fn wished(clusters: &[Cluster], subject: &Subject, host: HostSize) -> Wish {
    let (runtime, default, more) = match subject {
        Subject::Apple(_) => (RuntimeName::Apple, size::of_node(host).memory_bytes, MACHINE_BYTES),
        Subject::Docker(_) => (RuntimeName::Docker, None, 0),
        Subject::Simulator => return Wish::default(),
    };
    let mut wish = Wish::default();
    let here = |spec: &&ClusterSpec| spec.runtime.is_none_or(|name| name.is_auto() || name == runtime);
    for spec in clusters.iter().map(|cluster| &cluster.spec).filter(here) {
        let workers = spec.workers.iter().map(|pool| (pool.replicas, pool.resources.as_ref()));
        for (replicas, resources) in
            workers.chain([(spec.control_plane.replicas, spec.control_plane.resources.as_ref())])
        {
            let replicas = u64::from(replicas);
            wish.machines += replicas;
            match container::resources(resources).memory_bytes.or(default) {
                Some(bytes) => wish.memory_bytes += replicas.saturating_mul(bytes + more),
                None => wish.unlimited += replicas,
            }
        }
        if runtime == RuntimeName::Apple {
            wish.memory_bytes += BALANCER_BYTES + more;
        }
    }
    wish
}
