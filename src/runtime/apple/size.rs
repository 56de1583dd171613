//! How much of the host a node has where nobody says how much.

use crate::runtime::Resources;

/// What a control plane needs to start is a little less.
const MEMORY_GIB_MIN: u64 = 2;
/// More helps a cluster that somebody tries things on little, and memory that a machine had once the host does not get back.
const MEMORY_GIB_MAX: u64 = 8;
/// kubeadm asks for two.
const CPUS_MIN: u64 = 2;
/// What Apple gives, where it is not told.
const CPUS_MAX: u64 = 4;
const GIB: u64 = 1 << 30;

/// A host; 0 where something is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSize {
    /// CPUs.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What a node has. Apple's own plugin takes a quarter of the memory, for the only node of its clusters; a cluster of Kina's
/// has several as a rule, so it is an eighth. A CPU is only lent: it is a quarter of them.
#[must_use]
pub fn of_node(host: HostSize) -> Resources {
    let gib = (host.memory_bytes / GIB / 8).clamp(MEMORY_GIB_MIN, MEMORY_GIB_MAX);
    let cpus = (host.cpus / 4).clamp(CPUS_MIN, CPUS_MAX);
    Resources { cpu_millis: Some(cpus * 1000), memory_bytes: Some(gib * GIB) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_an_eighth_of_the_memory_and_a_quarter_of_the_cpus_within_limits() {
        let told = |cpus, gib| {
            let Resources { cpu_millis, memory_bytes } = of_node(HostSize { cpus, memory_bytes: gib * GIB });
            (cpu_millis.unwrap() / 1000, memory_bytes.unwrap() / GIB)
        };
        assert_eq!(told(0, 0), (2, 2), "of an unknown host");
        assert_eq!(told(8, 8), (2, 2));
        assert_eq!(told(10, 16), (2, 2));
        assert_eq!(told(12, 36), (3, 4));
        assert_eq!(told(16, 64), (4, 8));
        assert_eq!(told(32, 512), (4, 8));
    }

    #[test]
    fn three_nodes_and_a_load_balancer_leave_a_host_of_eight_gib_something() {
        let node = of_node(HostSize { cpus: 8, memory_bytes: 8 * GIB }).memory_bytes.unwrap();
        assert!(3 * node + GIB / 2 < 8 * GIB);
    }
}
