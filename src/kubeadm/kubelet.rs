//! What a kubelet is told beside kubeadm's documents: how much of its machine is not its own.
//!
//! A kubelet in a container sees the whole host. What the container may not use is reserved, so that the scheduler sees what is
//! there. It is told by a file of the container, not of the volume: a container with other limits says other numbers.

/// Read by systemd before it starts the kubelet, after kubeadm's and kind's own (`10-kubeadm.conf`, `11-kind.conf`).
pub const DROP_IN_PATH: &str = "/etc/systemd/system/kubelet.service.d/20-kina.conf";

/// CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// What a kubelet is to leave alone on a host of this size (0 where it is not known), in a container with these limits.
/// `None` where everything is its own.
#[must_use]
pub fn reserved(host: Amount, cpu_millis: Option<u64>, memory_bytes: Option<u64>) -> Option<Amount> {
    let beyond = |host: u64, limit: Option<u64>| limit.map_or(0, |limit| host.saturating_sub(limit));
    let reserved = Amount {
        cpu_millis: beyond(host.cpu_millis, cpu_millis),
        memory_bytes: beyond(host.memory_bytes, memory_bytes),
    };
    (reserved != Amount::default()).then_some(reserved)
}

/// The content of [`DROP_IN_PATH`]. The variable is kubeadm's own, and stands on the kubelet's command line before what people
/// add (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/kubelet-integration/>).
#[must_use]
pub fn drop_in(reserved: Amount) -> String {
    let Amount { cpu_millis, memory_bytes } = reserved;
    format!(
        "# Written by Kina: what the limits of this container leave to others.\n[Service]\n\
         Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml \
         --system-reserved=cpu={cpu_millis}m,memory={memory_bytes}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Amount = Amount { cpu_millis: 8_000, memory_bytes: 16 << 30 };

    #[test]
    fn what_a_container_may_not_use_is_reserved() {
        let limited = reserved(HOST, Some(2_000), Some(4 << 30));
        assert_eq!(limited, Some(Amount { cpu_millis: 6_000, memory_bytes: 12 << 30 }));
        assert_eq!(reserved(HOST, None, Some(4 << 30)), Some(Amount { cpu_millis: 0, memory_bytes: 12 << 30 }));
    }

    #[test]
    fn nothing_is_reserved_without_limits_above_the_host_or_where_the_host_is_not_known() {
        assert_eq!(reserved(HOST, None, None), None);
        assert_eq!(reserved(HOST, Some(9_000), Some(32 << 30)), None);
        assert_eq!(reserved(Amount::default(), Some(2_000), Some(4 << 30)), None);
    }

    #[test]
    fn the_drop_in_is_one_of_systemds() {
        insta::assert_snapshot!(drop_in(Amount { cpu_millis: 6_000, memory_bytes: 12 << 30 }), @r#"
        # Written by Kina: what the limits of this container leave to others.
        [Service]
        Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml --system-reserved=cpu=6000m,memory=12884901888"
        "#);
    }
}
