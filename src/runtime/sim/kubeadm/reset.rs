//! `kubeadm reset --force`.

use super::{Phase, Progress, Run};
use crate::runtime::sim::etcd;

pub(super) const PHASES: &[Phase] =
    &[("preflight", preflight), ("remove-etcd-member", remove_etcd_member), ("cleanup-node", cleanup_node)];

fn preflight(run: &mut Run<'_, '_>) -> Progress {
    run.say("[preflight] Running pre-flight checks");
    Progress::Next
}

/// As kubeadm does: a member that cannot be removed is a warning, and the node is cleaned all the same, its data first
/// (`cmd/kubeadm/app/cmd/phases/reset/removeetcdmember.go`).
fn remove_etcd_member(run: &mut Run<'_, '_>) -> Progress {
    if run.text(etcd::MANIFEST).is_some()
        && let Err(error) = etcd::remove_own_member(run.tx, run.id)
    {
        run.say(format!(
            "[reset] Failed to remove etcd member: {error}, please manually remove this etcd member using etcdctl"
        ));
    }
    Progress::Next
}

fn cleanup_node(run: &mut Run<'_, '_>) -> Progress {
    run.say("[reset] Stopping the kubelet service");
    run.tx.update(run.id, |record| {
        let inside = &mut record.inside;
        (inside.kubelet, inside.static_pods, inside.static_pods_due, inside.etcd_failure) = (None, false, None, None);
        // The kubelet that a later init or join starts is another process, and registers its node itself.
        inside.registered = false;
    });
    for directory in ["/var/lib/etcd", "/etc/kubernetes/manifests", "/etc/kubernetes/pki", "/var/lib/kubelet"] {
        run.say(format!("[reset] Deleting contents of directories: [{directory}]"));
        run.tx.delete(run.id, directory);
    }
    for name in ["admin", "super-admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler"] {
        run.tx.delete(run.id, &format!("/etc/kubernetes/{name}.conf"));
    }
    Progress::Next
}
