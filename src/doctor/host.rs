//! Memory, disks, ports: what clusters need whatever runs them; and what is only convenient.

use super::Finding;
use super::facts::{Disk, Facts, Subject};
use super::wish::{Wish, wished};
use crate::runtime::apple::{HostSize, size};

const GIB: u64 = 1 << 30;
/// kubeadm asks for 1,700 MiB; the host wants some, too.
const MEMORY_MIN: u64 = 3 * GIB;
/// kubeadm asks for two.
const CPUS_MIN: u64 = 2;
/// A node image takes some 1.5 GiB, unpacked and packed, and each node grows by as much.
const DISK_MIN: u64 = 4 * GIB;
const DISK_FEW: u64 = 15 * GIB;

/// Memory, CPUs and disks.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    if matches!(facts.subject, Subject::Simulator) {
        return Vec::new();
    }
    let mut found = vec![memory(facts), cpus(facts.host.size)];
    found.extend(facts.host.disks.iter().map(disk));
    found
}

fn memory(facts: &Facts) -> Finding {
    const CHECK: &str = "memory";
    let size = facts.host.size;
    if size.memory_bytes == 0 {
        return Finding::skipped(CHECK, "the host does not tell how much it has");
    }
    let has = gib(size.memory_bytes);
    let node = match facts.subject {
        Subject::Apple(_) => {
            let bytes = size::of_node(size).memory_bytes.unwrap_or_default();
            format!("; a node has {} where nobody says how much", gib(bytes))
        }
        _ => String::new(),
    };
    let wish = facts.clusters.as_deref().map(|clusters| wished(clusters, &facts.subject, size)).unwrap_or_default();
    let Wish { machines, unlimited, memory_bytes } = wish;
    if memory_bytes > size.memory_bytes {
        let cause = format!("{has}, and {} machines are to have {} together", machines - unlimited, gib(memory_bytes));
        return Finding::warning(CHECK, cause, "have fewer machines, or give them less: `resources.memory`");
    }
    if size.memory_bytes < MEMORY_MIN {
        let cause = format!("{has}: a control plane alone needs 1.7 GiB");
        return Finding::warning(CHECK, cause, "a cluster may come up and be slow; one machine is what fits");
    }
    Finding::ok(CHECK, format!("{has}{node}"))
}

fn cpus(size: HostSize) -> Finding {
    match size.cpus {
        0 => Finding::skipped("CPUs", "the host does not tell how many it has"),
        few if few < CPUS_MIN => {
            Finding::warning("CPUs", format!("{few}: kubeadm asks for {CPUS_MIN}"), "clusters come up, slowly")
        }
        many => Finding::ok("CPUs", many.to_string()),
    }
}

fn disk(disk: &Disk) -> Finding {
    let told = format!("{} free for {} ({})", gib(disk.free_bytes), disk.of, disk.path.display());
    match disk.free_bytes {
        few if few < DISK_MIN => {
            Finding::missing("disk", format!("{told}: a node image and a node take that"), "make room on it")
        }
        few if few < DISK_FEW => {
            Finding::warning("disk", told, "make room on it: a cluster of three takes some 10 GiB")
        }
        _ => Finding::ok("disk", told),
    }
}

/// Ports and kubectl.
pub fn conveniences(facts: &Facts) -> Vec<Finding> {
    let ports = match &facts.host.port_error {
        None => Finding::ok("ports", "127.0.0.1 has free ones"),
        Some(why) => Finding::missing("ports", format!("no port of 127.0.0.1 can be had: {why}"), "free some"),
    };
    let kubectl = match &facts.host.kubectl {
        Some(path) => Finding::ok("kubectl", path.display().to_string()),
        None => Finding::note(
            "kubectl",
            "it is not in the PATH: Kina needs none, you may (https://kubernetes.io/docs/tasks/tools)",
        ),
    };
    vec![ports, kubectl]
}

/// Bytes as people say them: `7.6 GiB`.
fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / GIB;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} GiB"),
        (whole, part) => format!("{whole}.{part} GiB"),
    }
}
