//! What users, hosts and other programs do behind Kina's back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kina::api::{Cluster, Machine, annotations};
use kina::kubeadm::MARKER_PATH;
use kina::runtime::{Container, ContainerSpec, NetworkSpec};
use kina::world::FileSystem;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::effect::Upset;
use super::run::{FOREIGN, OTHERS, Run};
use super::workload;
use crate::world::others_container;

/// What is broken stays so for at most this long.
const FOR: Duration = Duration::from_secs(45);

/// What mends itself after a while.
#[derive(Debug)]
pub enum Mend {
    Content { path: PathBuf, content: Vec<u8> },
    Readable { path: PathBuf },
    Back { from: PathBuf, to: PathBuf },
    Foreign { name: String },
}

fn chosen<T>(mut list: Vec<T>, random: u64) -> Option<T> {
    if list.is_empty() {
        return None;
    }
    let index = usize::try_from(random % list.len() as u64).unwrap();
    Some(list.swap_remove(index))
}

impl Run {
    /// Upsets the world, where there is something to upset.
    pub async fn upset(&mut self, upset: Upset, random: u64) {
        self.gate.note(&format!("upset: {upset:?}"));
        let files = std::sync::Arc::clone(&self.files);
        let hands = self.simulator.hands();
        // Refused hands reach for what is not there: then nothing is upset.
        match upset {
            Upset::RuntimeRestarted => drop(hands.restart_runtime(true)),
            Upset::RuntimeStopped => drop(hands.restart_runtime(false)),
            Upset::ContainerRemoved => {
                if let Some(container) = chosen(self.ours(), random) {
                    drop(hands.remove_container(&container.name));
                }
            }
            Upset::ContainerStopped => {
                if let Some(container) = chosen(self.ours(), random) {
                    drop(hands.stop_container(&container.name));
                }
            }
            Upset::ContainerAltered => {
                if let Some(container) = chosen(self.ours(), random) {
                    self.gate.oracle.permit_replacement();
                    let alter = |spec: &mut ContainerSpec| spec.resources.memory_bytes = Some(64 << 20);
                    drop(hands.alter_container(&container.name, alter));
                }
            }
            Upset::MarkerRemoved => {
                for container in self.ours() {
                    drop(hands.remove_file(&container.name, MARKER_PATH));
                }
            }
            Upset::NetworkRemoved => {
                let listing = hands.listing();
                if let Some(network) = chosen(
                    listing
                        .networks
                        .into_iter()
                        .filter(|network| network.name.starts_with("kina-") && network.name != "kina-other")
                        .collect(),
                    random,
                ) {
                    for container in self.ours().iter().filter(|c| c.network.as_ref() == Some(&network.name)) {
                        drop(hands.stop_container(&container.name));
                    }
                    drop(hands.remove_network(&network.name));
                }
            }
            Upset::NameTaken => {
                let names: Vec<String> = self.desired_containers();
                let there = hands.listing();
                let absent = names.into_iter().filter(|name| there.containers.iter().all(|c| c.name != *name));
                if let Some(name) = chosen(absent.collect(), random) {
                    // Refused where the network is there already.
                    drop(hands.add_network(&NetworkSpec {
                        name: FOREIGN.into(),
                        subnet: Some("192.168.7.0/24".into()),
                        ipv6_subnet: None,
                        labels: BTreeMap::new(),
                    }));
                    drop(hands.add_container(&foreign(&name)));
                    self.mend_later(Mend::Foreign { name });
                }
            }
            Upset::FileHalfWritten => {
                if let Some(path) = chosen(self.manifest_paths(), random)
                    && let Ok(content) = files.read(&path, 1 << 20)
                {
                    let half = usize::try_from(random % content.len().max(1) as u64).unwrap();
                    files.write(&path, workload::half(&content, half), 0o600).unwrap();
                    self.mend_later(Mend::Content { path, content });
                }
            }
            Upset::FileUnreadable => {
                if let Some(path) = chosen(self.manifest_paths(), random) {
                    files.set_failure(&path, Some(io::ErrorKind::PermissionDenied));
                    self.mend_later(Mend::Readable { path });
                }
            }
            Upset::RootUnreadable => {
                let path = self.home.clusters();
                files.set_failure(&path, Some(io::ErrorKind::PermissionDenied));
                self.mend_later(Mend::Readable { path });
            }
            Upset::RootAway => {
                let (from, to) = (PathBuf::from("/home/me/away"), self.home.clusters());
                // Not twice: what Kina makes in its place meanwhile would be moved over it.
                if files.metadata(&from).is_err() && files.rename(&to, &from).is_ok() {
                    self.mend_later(Mend::Back { from, to });
                }
            }
            Upset::FileSwapped => {
                if let Some(path) = chosen(self.manifest_paths(), random)
                    && let Ok(content) = files.read(&path, 1 << 20)
                {
                    let beside = self.home.clusters().join(".swap");
                    files.write(&beside, &content, 0o600).unwrap();
                    files.rename(&beside, &path).unwrap();
                }
            }
            Upset::Slept => {
                self.gate.oracle.sleeps();
                self.shared_offset.fetch_add(8 * 3600, Ordering::Relaxed);
            }
            Upset::ClockBack => {
                self.own_offset.fetch_sub(300, Ordering::Relaxed);
            }
            Upset::ClientEdits | Upset::ClientDeletes | Upset::MachineDeleted | Upset::StatusWiped => {
                self.client_upset(upset, random).await;
            }
        }
    }

    /// What a person does through the API. All of it may be refused.
    async fn client_upset(&self, upset: Upset, random: u64) {
        let Some(client) = self.client() else { return };
        let clusters: Api<Cluster> = Api::all(client.clone());
        let machines: Api<Machine> = Api::all(client);
        let names = |resource: &str| -> Vec<String> {
            let objects = self.gate.oracle.objects(resource);
            objects.iter().filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned())).collect()
        };
        let parameters = PatchParams::default();
        match upset {
            Upset::ClientEdits => {
                if let Some(name) = chosen(names("clusters"), random) {
                    let label = json!({"metadata": {"labels": {"team": "a"}}});
                    drop(clusters.patch(&name, &parameters, &Patch::Merge(&label)).await);
                    let spec = json!({"spec": {"workers": [{"name": "pool", "replicas": 5}]}});
                    if self.is_declared(&name)
                        && self.owns(&name)
                        && clusters.patch(&name, &parameters, &Patch::Merge(&spec)).await.is_ok()
                    {
                        self.gate.oracle.violated(format!("the spec of {name} was changed against its file"));
                    }
                }
            }
            Upset::ClientDeletes => {
                if let Some(name) = chosen(names("clusters"), random)
                    && self.is_declared(&name)
                    && self.owns(&name)
                    && clusters.delete(&name, &DeleteParams::default()).await.is_ok()
                {
                    self.gate.oracle.violated(format!("{name} was deleted against its file"));
                }
            }
            Upset::MachineDeleted => {
                if let Some(name) =
                    chosen(names("machines").into_iter().filter(|n| n.contains("-pool-")).collect(), random)
                {
                    drop(machines.delete(&name, &DeleteParams::default()).await);
                }
            }
            _ => {
                let wiped = json!({"status": null});
                for name in names("clusters") {
                    drop(clusters.patch_status(&name, &parameters, &Patch::Merge(&wiped)).await);
                }
                for name in names("machines") {
                    drop(machines.patch_status(&name, &parameters, &Patch::Merge(&wiped)).await);
                }
            }
        }
    }

    /// Whether the file source has a Cluster by now.
    fn owns(&self, name: &str) -> bool {
        self.gate.oracle.objects("clusters").iter().any(|cluster| {
            let source = cluster["metadata"]["annotations"][annotations::SOURCE].as_str();
            cluster["metadata"]["name"] == name && source.is_some_and(|source| source != annotations::SOURCE_CLI)
        })
    }

    pub fn ours(&self) -> Vec<Arc<Container>> {
        let is_ours = |container: &Arc<Container>| {
            let installation = container.owner().map(|owner| owner.installation.to_string());
            installation.is_some_and(|installation| installation != OTHERS && !self.is_neighbours(&installation))
        };
        self.simulator.hands().listing().containers.into_iter().filter(is_ours).collect()
    }

    fn mend_later(&mut self, mend: Mend) {
        self.mends.push((Instant::now() + FOR, mend));
    }

    /// Mends what is due, or everything. What is not where it was while the directory is away waits until it is back, and
    /// the content of a file until it can be read.
    pub fn mend(&mut self, everything: bool) {
        let now = Instant::now();
        let (mut due, mut later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.mends).into_iter().partition(|(at, _)| everything || *at <= now);
        due.sort_by_key(|(_, mend)| mend.rank());
        for (at, mend) in due {
            let away = later.iter().find_map(|(back, mend)| match mend {
                Mend::Back { to, .. } => Some((*back, to)),
                _ => None,
            });
            let unreadable = later.iter().find_map(|(readable, later)| match (&mend, later) {
                (Mend::Content { path, .. }, Mend::Readable { path: other }) if path == other => Some(*readable),
                _ => None,
            });
            let gone = away.filter(|(_, root)| mend.path().is_some_and(|path| path.starts_with(root)));
            match gone.map(|(back, _)| back).or(unreadable) {
                Some(first) => later.push((at.max(first), mend)),
                None => self.mend_now(mend),
            }
        }
        self.mends = later;
    }

    fn mend_now(&self, mend: Mend) {
        self.gate.note(&format!("mended: {mend:?}").replace('\n', " "));
        match mend {
            // Only where the user has not written it anew, or removed it, meanwhile.
            Mend::Content { path, content } => {
                let now = self.files.read(&path, 1 << 20).unwrap_or_else(|_| b"-".to_vec());
                if content.starts_with(&now) {
                    self.files.write(&path, &content, 0o600).unwrap();
                }
            }
            Mend::Readable { path } => self.files.set_failure(&path, None),
            Mend::Back { from, to } => drop(self.files.rename(&from, &to)),
            Mend::Foreign { name } => {
                let found = self.simulator.hands().listing().containers.into_iter().find(|c| c.name == name);
                match found {
                    Some(container) if container.owner().is_none() => {
                        drop(self.simulator.hands().remove_container(&name));
                    }
                    _ => self.gate.oracle.violated(format!("the foreign container {name} was destroyed")),
                }
            }
        }
    }
}

impl Mend {
    /// In this order: a file must be where it was, and be readable, before its content can be compared.
    fn rank(&self) -> u8 {
        match self {
            Self::Back { .. } => 0,
            Self::Readable { .. } => 1,
            Self::Content { .. } => 2,
            Self::Foreign { .. } => 3,
        }
    }

    /// The file or directory that it is about, where it is one that may be away.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Content { path, .. } | Self::Readable { path } => Some(path),
            Self::Back { .. } | Self::Foreign { .. } => None,
        }
    }
}

fn foreign(name: &str) -> ContainerSpec {
    let labels = BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]);
    others_container(name, "docker.io/library/postgres:18", FOREIGN, labels)
}
