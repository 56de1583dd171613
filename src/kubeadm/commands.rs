//! The commands that Kina runs in nodes, as argument arrays.

use super::units::Unit;
use super::{CONFIG_PATH, MARKER_PATH};

/// How a node becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootstrapCommand {
    /// `kubeadm init`.
    Init,
    /// `kubeadm join`.
    Join,
}

/// Asks systemd whether the node has booted.
#[must_use]
pub fn is_system_running() -> Vec<String> {
    words(&["systemctl", "is-system-running"])
}

/// Starts kubeadm as a unit that outlives Kina and cannot start twice. Its success leaves a marker on the volume, since
/// the unit is forgotten when the node restarts.
#[must_use]
pub fn start_bootstrap(command: BootstrapCommand) -> Vec<String> {
    let marker = format!("--property=ExecStartPost=/usr/bin/touch {MARKER_PATH}");
    let config = format!("--config={CONFIG_PATH}");
    let kubeadm: &[&str] = match command {
        BootstrapCommand::Init => &["kubeadm", "init", &config, "--skip-token-print"],
        BootstrapCommand::Join => &["kubeadm", "join", &config],
    };
    start(Unit::Bootstrap, &[&marker], kubeadm)
}

/// Starts `kubeadm reset`, which also takes the node's member out of etcd. It leaves the pod network's configuration, with which
/// the node would be Ready when it joins again, over the subnet of an earlier life.
#[must_use]
pub fn start_reset() -> Vec<String> {
    let network = "--property=ExecStartPost=-/usr/bin/find /etc/cni/net.d -mindepth 1 -delete";
    start(Unit::Reset, &[network], &["kubeadm", "reset", "--force"])
}

/// Restarts services of the node. Containers go on: their shims are no part of containerd's service.
#[must_use]
pub fn restart(services: &[&str]) -> Vec<String> {
    words(&[&["systemctl", "restart"], services].concat())
}

/// Lists the images that the node's containerd has for Kubernetes, a name a line.
#[must_use]
pub fn list_images() -> Vec<String> {
    words(&["ctr", "--namespace=k8s.io", "images", "ls", "-q"])
}

/// Lists the images that the node has for Kubernetes, with their ids, as JSON.
#[must_use]
pub fn list_image_ids() -> Vec<String> {
    words(&["crictl", "images", "--output=json"])
}

/// Removes files of the node; those that are not there are no error.
#[must_use]
pub fn remove_files(paths: &[String]) -> Vec<String> {
    words(&["rm", "-f", "--"]).into_iter().chain(paths.iter().cloned()).collect()
}

/// Asks systemd for a unit's state.
#[must_use]
pub fn show(unit: Unit) -> Vec<String> {
    words(&["systemctl", "show", unit.service(), "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus"])
}

/// Ends a unit; one that remained after its success is forgotten by it.
#[must_use]
pub fn stop(unit: Unit) -> Vec<String> {
    words(&["systemctl", "stop", unit.service()])
}

/// Makes systemd forget a failed unit.
#[must_use]
pub fn reset_failed(unit: Unit) -> Vec<String> {
    words(&["systemctl", "reset-failed", unit.service()])
}

/// The last lines that a unit wrote.
#[must_use]
pub fn journal(unit: Unit) -> Vec<String> {
    let unit = format!("--unit={}", unit.service());
    words(&["journalctl", &unit, "--lines=20", "--no-pager", "--output=cat"])
}

fn start(unit: Unit, properties: &[&str], command: &[&str]) -> Vec<String> {
    let name = format!("--unit={}", unit.name());
    let before: &[&str] = &["systemd-run", &name, "--property=Type=oneshot", "--property=RemainAfterExit=yes"];
    words(&[before, properties, &["--no-block", "--"], command].concat())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_is_a_unit_that_leaves_a_marker() {
        assert_eq!(
            start_bootstrap(BootstrapCommand::Init),
            [
                "systemd-run",
                "--unit=kina-bootstrap",
                "--property=Type=oneshot",
                "--property=RemainAfterExit=yes",
                "--property=ExecStartPost=/usr/bin/touch /etc/kubernetes/kina-bootstrapped",
                "--no-block",
                "--",
                "kubeadm",
                "init",
                "--config=/kind/kubeadm.conf",
                "--skip-token-print",
            ]
        );
        assert_eq!(start_bootstrap(BootstrapCommand::Join)[7..], ["kubeadm", "join", "--config=/kind/kubeadm.conf"]);
        assert_eq!(
            start_reset().join(" "),
            "systemd-run --unit=kina-reset --property=Type=oneshot --property=RemainAfterExit=yes \
             --property=ExecStartPost=-/usr/bin/find /etc/cni/net.d -mindepth 1 -delete --no-block -- kubeadm reset --force"
        );
    }
}
