//! Whether etcd counts a control plane that is to leave it, or to begin anew: another control plane is asked (decision 0032).

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use super::container;
use super::facts::{ApiFacts, Inside, Membership};
use super::observe::Subject;
use crate::api::Machine;
use crate::api::conditions::{self, BOOTSTRAPPED};
use crate::api::machine::{BootstrapMethod, MachineRole};
use crate::controllers::context::Shared;
use crate::kubeadm::etcd;
use crate::kubeadm::units::{self, UnitState};
use crate::runtime::{ContainerId, ContainerState, ExecRequest};

/// Longest wait for one of the others.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Asks, where it matters: of a machine that goes while its cluster stays, and of one that is about to be reset, or to join.
/// While the API is away etcd has no majority, and nothing can be changed.
pub async fn look(shared: &Shared, subject: &Subject, api: &ApiFacts, inside: &Inside) -> Membership {
    let goes = subject.deleting() && !subject.cluster_state().ends();
    let begins =
        !subject.deleting() && subject.machine.spec.bootstrap.method == BootstrapMethod::Join && may_begin(inside);
    if !subject.is_control_plane() || api.answers != Some(true) || !(goes || begins) {
        return Membership::NotAsked;
    }
    let others = others(shared, subject);
    if others.is_empty() {
        return Membership::NotAsked;
    }
    let mut why = "none of the other control planes runs".to_owned();
    for other in others {
        let Some(via) = running(shared, other) else { continue };
        match ask(subject, &via).await {
            Ok(None) => return Membership::Absent,
            Ok(Some(member)) => return Membership::Present { member, via },
            Err(message) => why = message,
        }
    }
    Membership::Unknown(why)
}

/// kubeadm is not at work in it, and has not succeeded.
fn may_begin(inside: &Inside) -> bool {
    matches!(inside, Inside::Up { marker: false, bootstrap: UnitState::Absent | UnitState::Failed { .. }, .. })
}

/// The other control planes, but for those known never to have become nodes; those that stay come first.
pub fn others(shared: &Shared, subject: &Subject) -> Vec<Arc<Machine>> {
    // One that was adopted a moment ago has told nothing yet.
    let is_none = |machine: &Machine| {
        let told = machine.status.as_ref().and_then(|status| conditions::get(&status.conditions, BOOTSTRAPPED));
        told.is_some_and(|told| told.status == "False")
    };
    let is_other = |machine: &Arc<Machine>| {
        machine.name_any() != subject.name
            && machine.spec.role == MachineRole::ControlPlane
            && container::cluster_uid(machine) == Some(&*subject.cluster_uid)
            && !is_none(machine)
    };
    let mut others: Vec<Arc<Machine>> =
        shared.machines.of(&subject.machine.spec.cluster).into_iter().filter(is_other).collect();
    others.sort_by_key(|machine| (machine.metadata.deletion_timestamp.is_some(), machine.name_any()));
    others
}

fn running(shared: &Shared, machine: Arc<Machine>) -> Option<ContainerId> {
    let container = Subject::of(shared, machine)?.container()?;
    (container.state == ContainerState::Running).then(|| container.id.clone())
}

async fn ask(subject: &Subject, via: &ContainerId) -> Result<Option<etcd::MemberId>, String> {
    let request = ExecRequest { command: etcd::list_members(), stdin: None, timeout: ASK_WITHIN };
    let output = subject.host.runtime.exec(via, &request).await.map_err(|error| error.to_string())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.code != 0 {
        let wrote = [output.stderr, output.stdout.clone()].concat();
        return Err(units::tail(&String::from_utf8_lossy(&wrote), 2));
    }
    let address = subject.machine.spec.address.parse().map_err(|error| format!("its own address: {error}"))?;
    let addresses = subject.of_cluster.as_ref().map(|cluster| cluster.resolved.all_addresses(address));
    let addresses = addresses.unwrap_or_else(|| vec![address.into()]);
    etcd::find_member(&printed, &subject.name, &addresses)
        .map_err(|error| format!("etcdctl answers what is no list: {error}"))
}
