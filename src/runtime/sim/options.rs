//! How a simulated runtime behaves: how long things take, and through which gate its effects go.

use std::sync::Arc;
use std::time::Duration;

use super::gate::{Gate, Open, Operation};
use crate::runtime::Networks;

/// Settings of a [`super::SimRuntime`].
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// How long things take.
    pub latency: Latency,
    /// What every effect passes.
    pub gate: Arc<dyn Gate>,
    /// Two networks of one name are allowed, as Docker allows them.
    pub duplicate_network_names: bool,
    /// Containers keep the addresses that they are made with, as on Docker; otherwise they are given another one at every
    /// start, as by Apple Container.
    pub pins_addresses: bool,
    /// Which networks machines can be in. On the one called `default`, where there is one, nobody reaches anybody but itself, as
    /// by Apple Container before macOS 26.
    pub networks: Networks,
    /// Whether simulated clusters answer on sockets of this host.
    pub sockets: Sockets,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            latency: Latency::small(),
            gate: Arc::new(Open),
            duplicate_network_names: false,
            pins_addresses: true,
            networks: Networks::PerCluster,
            sockets: Sockets::None,
        }
    }
}

/// Whether published ports are listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// No sockets: clusters are reached through the connector alone. For tests.
    None,
    /// Load balancers listen on the ports that they publish.
    Listen,
}

/// How long things take in the simulated world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Questions: info, list, read, logs.
    pub question: Duration,
    /// Creating and removing networks, volumes and containers, and copying into them.
    pub change: Duration,
    /// Starting a container.
    pub start: Duration,
    /// Stopping a running container.
    pub stop: Duration,
    /// Starting a command in a container; what the command itself takes comes on top.
    pub exec: Duration,
    /// Pulling an image.
    pub pull: Duration,
    /// From a container's start until systemd reports that it is up.
    pub boot: Duration,
    /// One phase of kubeadm.
    pub kubeadm_phase: Duration,
    /// From the kubelet's start until etcd and the API server run.
    pub control_plane: Duration,
    /// From a pod's scheduling until it is ready.
    pub pod_start: Duration,
    /// From a pod's deletion until its containers have ended (never longer than its grace period).
    pub pod_stop: Duration,
    /// From when the API server of a cluster that ran before answers until its controllers and its scheduler work: the Lease of
    /// those before has to run out.
    pub election: Duration,
    /// Each latency is lengthened by up to this share of itself, drawn from the world's random numbers.
    pub jitter_percent: u32,
}

impl Latency {
    /// Small and realistic: a cluster of three nodes is ready after some seconds.
    #[must_use]
    pub fn small() -> Self {
        Self {
            question: Duration::from_millis(2),
            change: Duration::from_millis(8),
            start: Duration::from_millis(60),
            stop: Duration::from_millis(120),
            exec: Duration::from_millis(10),
            pull: Duration::from_millis(800),
            boot: Duration::from_millis(400),
            kubeadm_phase: Duration::from_millis(150),
            control_plane: Duration::from_millis(900),
            pod_start: Duration::from_millis(700),
            pod_stop: Duration::from_millis(300),
            election: Duration::from_secs(15),
            jitter_percent: 25,
        }
    }

    /// Nothing takes time; for benches.
    #[must_use]
    pub fn zero() -> Self {
        let none = Duration::ZERO;
        Self {
            question: none,
            change: none,
            start: none,
            stop: none,
            exec: none,
            pull: none,
            boot: none,
            kubeadm_phase: none,
            control_plane: none,
            pod_start: none,
            pod_stop: none,
            election: none,
            jitter_percent: 0,
        }
    }

    /// How long an operation takes by itself, before jitter.
    pub(super) fn of(&self, operation: Operation) -> Duration {
        match operation {
            Operation::Info | Operation::List | Operation::ReadFile | Operation::Logs | Operation::ClusterRequest => {
                self.question
            }
            Operation::CreateNetwork
            | Operation::RemoveNetwork
            | Operation::CreateVolume
            | Operation::RemoveVolume
            | Operation::CreateContainer
            | Operation::RemoveContainer
            | Operation::CopyIn => self.change,
            Operation::StartContainer => self.start,
            Operation::StopContainer => self.stop,
            Operation::Exec => self.exec,
            // A pull's time is recorded with the image, so that it goes on after a restart.
            Operation::EnsureImage => Duration::ZERO,
        }
    }

    /// `base` lengthened by the jitter that this random number stands for.
    pub(super) fn jittered(&self, base: Duration, random: u64) -> Duration {
        if self.jitter_percent == 0 || base.is_zero() {
            return base;
        }
        // 0..=1023 thousandths-or-so of the jitter: fine enough, and exact in integers.
        let share = u32::try_from(random % 1024).unwrap_or_default();
        base + base * self.jitter_percent / 100 * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_lengthens_and_stays_within_its_share() {
        let latency = Latency { jitter_percent: 50, ..Latency::small() };
        let base = Duration::from_millis(100);
        for random in [0, 1, 511, 1023, u64::MAX] {
            let lengthened = latency.jittered(base, random);
            assert!(lengthened >= base && lengthened <= base * 3 / 2, "{lengthened:?}");
        }
        assert_eq!(Latency::zero().jittered(Duration::ZERO, 77), Duration::ZERO);
    }
}
