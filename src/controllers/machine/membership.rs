//! Whether etcd counts a control plane that is about to lose its data, or to join: another one is asked (decision 0032).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::ResourceExt;

use super::facts::{Membership, Peer};
use super::observe::Subject;
use crate::api::Machine;
use crate::api::conditions::{self, BOOTSTRAPPED};
use crate::api::machine::MachineRole;
use crate::controllers::context::Shared;
use crate::kubeadm::etcd::{self, MemberId};
use crate::kubeadm::units;
use crate::runtime::{ContainerState, ExecRequest};

/// Longest wait for the others.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// That a machine which goes has left.
const LEFT: &str = "left etcd";

/// What is remembered of a machine that goes.
pub fn remembered(shared: &Shared, subject: &Subject) -> Membership {
    let has_left = subject.deleting() && shared.memory.text(&subject.uid, LEFT).is_some();
    if has_left { Membership::Left } else { Membership::NotAsked }
}

/// A machine that goes was taken out.
pub fn left(shared: &Shared, subject: &Subject) {
    if subject.deleting() {
        shared.memory.keep_text(&subject.uid, LEFT, "");
    }
}

/// Asks, and remembers that a machine that goes is no member, where nothing in it can make it one.
pub async fn look(shared: &Shared, subject: &Subject, is_quiet: bool) -> Membership {
    match ask_others(shared, subject).await {
        Membership::Absent if is_quiet && subject.deleting() => {
            left(shared, subject);
            Membership::Left
        }
        membership => membership,
    }
}

/// Asks the other control planes side by side, and takes the first answer: they all tell what the majority knows.
async fn ask_others(shared: &Shared, subject: &Subject) -> Membership {
    let all = control_planes(shared, subject);
    if !all.iter().any(|other| may_be_node(other)) {
        return Membership::Alone;
    }
    let running = all.into_iter().filter_map(|other| peer(shared, other));
    let mut answers: FuturesUnordered<_> = running.map(|peer| ask(subject, peer)).collect();
    let mut why = "none of the other control planes runs".to_owned();
    while let Some((via, answer)) = answers.next().await {
        match answer {
            Ok(None) => return Membership::Absent,
            Ok(Some(member)) => return Membership::Present { member, via },
            Err(message) => why = format!("{}: {message}", via.name),
        }
    }
    Membership::Unknown(why)
}

/// Whether there is another control plane that may have become a node.
pub fn has_others(shared: &Shared, subject: &Subject) -> bool {
    control_planes(shared, subject).iter().any(|other| may_be_node(other))
}

/// The other control planes.
fn control_planes(shared: &Shared, subject: &Subject) -> Vec<Arc<Machine>> {
    let is_other =
        |machine: &Arc<Machine>| machine.name_any() != subject.name && machine.spec.role == MachineRole::ControlPlane;
    subject.of_its_cluster(shared).into_iter().filter(is_other).collect()
}

/// One that was adopted a moment ago has told nothing yet.
fn may_be_node(machine: &Machine) -> bool {
    let told = machine.status.as_ref().and_then(|status| conditions::get(&status.conditions, BOOTSTRAPPED));
    told.is_none_or(|told| told.status != "False")
}

fn peer(shared: &Shared, machine: Arc<Machine>) -> Option<Peer> {
    let other = Subject::of(shared, machine)?;
    let container = other.container().filter(|container| container.state == ContainerState::Running)?;
    Some(Peer { name: other.name, container: container.id.clone() })
}

async fn ask(subject: &Subject, peer: Peer) -> (Peer, Result<Option<MemberId>, String>) {
    let answer = members(subject, &peer).await;
    (peer, answer)
}

async fn members(subject: &Subject, peer: &Peer) -> Result<Option<MemberId>, String> {
    let request = ExecRequest { command: etcd::list_members(&peer.name), stdin: None, timeout: ASK_WITHIN };
    let output = subject.host.runtime.exec(&peer.container, &request).await.map_err(|error| error.to_string())?;
    if output.code != 0 {
        let wrote = [output.stderr, output.stdout].concat();
        return Err(units::tail(&String::from_utf8_lossy(&wrote), 2));
    }
    let address = subject.machine.spec.address.parse().map_err(|error| format!("its own address: {error}"))?;
    let addresses = subject.of_cluster.as_ref().map(|cluster| cluster.resolved.all_addresses(address));
    let addresses = addresses.unwrap_or_else(|| vec![address.into()]);
    let printed = String::from_utf8_lossy(&output.stdout);
    etcd::find_member(&printed, &peer.name, &subject.name, &addresses).map_err(|error| error.to_string())
}
