//! The making of an image: one container, from its start to its removal.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::arch::{Arch, HEADER_BYTES, Machine};
use super::bench::{ADDRESS, Bench, LONG, SCRATCH, SHORT, SOURCE, said, words};
use super::images::{self, Document};
use super::layout::{Layout, Missing, PROGRAMS, layout};
use super::source::{Packing, is_version};
use super::supply::{Pieces, Supply};
use super::{images::tag, scripts};
use crate::runtime::workshop::{BaseImage, BenchSpec, ImageSpec, Workshop};
use crate::runtime::{Labels, RuntimeError};

/// Says what a container or image is for: on the one that is worked in `building`, on the image the Kubernetes version.
const LABEL: &str = "dev.kina.node-image";
const BUILDING: &str = "building";
/// What containers of an image run whose base does not say it; as kind has it.
const ENTRYPOINT: [&str; 2] = ["/usr/local/bin/entrypoint", "/sbin/init"];
/// Between two looks at how far something is.
const TICK: Duration = Duration::from_secs(1);
/// Of directories that a base must not have as volumes, since the image is made of what is written there.
const KEPT: [&str; 4] = ["/var", "/usr", "/kind", "/opt"];

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Name of the image; that of its version where none is given.
    pub image: Option<String>,
    /// What it is made of.
    pub base: BaseImage,
    /// Whom it is for.
    pub arch: Arch,
    /// Whether that is another than the host's own.
    pub is_foreign: bool,
    /// Leave images of containers packed, for snapshotters other than overlayfs.
    pub packed: bool,
    /// Name of the container.
    pub bench: String,
    /// The container's time, whatever happens here.
    pub lifetime: Duration,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something was begun.
    Step(String),
    /// So many bytes of it are done, and of how many.
    Moved(u64, Option<u64>),
    /// Something that whoever uses the image should know.
    Note(String),
}

/// Hears what happens.
pub type Tell<'a> = &'a mut (dyn FnMut(Event) + Send);

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub image: String,
    /// Its id.
    pub id: String,
    /// Of Kubernetes.
    pub version: String,
}

/// Why it is not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Somebody wants it to end.
    Interrupted,
    /// Its time is over.
    TimedOut,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The image.
    pub built: Result<Built, BuildError>,
    /// Why the container may be there still.
    pub left: Option<RuntimeError>,
}

/// An image that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// It was given up.
    #[error("given up")]
    GivenUp(GivenUp),
    /// The base is none that a node can be made of.
    #[error("the base is not made for kind: it lacks {}", .0.join(", "))]
    Base(Vec<String>),
    /// What is written into the base is lost.
    #[error("the base has {0} as a volume: what is put there comes into no image")]
    Volume(String),
    /// The source could not be read to its end.
    #[error("the source could not be read: {0}")]
    Source(#[source] io::Error),
    /// It has not what it should.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It has programs for others.
    #[error("{name} is {machine}, and the image is for {arch}")]
    Machine {
        /// Which.
        name: String,
        /// What it is.
        machine: Machine,
        /// Whom the image is for.
        arch: Arch,
    },
    /// A program does not tell its version.
    #[error("{program} says that its version is `{said}`, which is none")]
    Version {
        /// Which.
        program: &'static str,
        /// What it says.
        said: String,
    },
    /// Programs are of different versions.
    #[error("kubeadm is of {kubeadm}, and {program} of {other}")]
    Mixed {
        /// Of kubeadm.
        kubeadm: String,
        /// Which is of another.
        program: &'static str,
        /// Of that.
        other: String,
    },
    /// Images that are nowhere, each with the reason.
    #[error("images of containers are neither in the base nor in the source, and could not be pulled")]
    Images(Vec<String>),
    /// An image that `ctr` shows otherwise than expected.
    #[error("the image {0} has nothing for {1}")]
    Image(String, Arch),
    /// A command in the container.
    #[error("{what} ended with {code}: {said}")]
    Command {
        /// Which.
        what: String,
        /// Its code.
        code: i32,
        /// What it said.
        said: String,
    },
}

/// Makes an image in a container that is there no longer when this ends, whatever happens.
pub async fn build(
    workshop: &dyn Workshop,
    order: &Order,
    supply: Supply,
    given_up: impl Future<Output = GivenUp> + Send,
    tell: Tell<'_>,
) -> Outcome {
    if let Some(volume) = order.base.volumes.iter().find(|volume| is_kept(volume)) {
        return Outcome { built: Err(BuildError::Volume(volume.clone())), left: None };
    }
    let spec = BenchSpec {
        name: order.bench.clone(),
        image: order.base.id.clone(),
        platform: order.is_foreign.then(|| format!("linux/{}", order.arch)),
        labels: Labels::from([(LABEL.to_owned(), BUILDING.to_owned())]),
        scratch: SCRATCH.to_owned(),
        lifetime: order.lifetime,
    };
    // Not given up in the middle: whoever asked would not know what is there.
    let built = match workshop.open(&spec).await {
        Err(error) => Err(error.into()),
        Ok(()) => {
            let bench = Bench { workshop, name: &order.bench, tell };
            tokio::select! {
                biased;
                why = given_up => Err(BuildError::GivenUp(why)),
                built = assembled(bench, order, supply) => built,
            }
        }
    };
    Outcome { built, left: workshop.close(&order.bench).await.err() }
}

fn is_kept(volume: &str) -> bool {
    let volume = volume.trim_end_matches('/');
    KEPT.iter().any(|kept| volume == *kept || volume.is_empty() || volume.starts_with(&format!("{kept}/")))
}

async fn assembled(mut bench: Bench<'_>, order: &Order, supply: Supply) -> Result<Built, BuildError> {
    let missing = match bench.script("looking for programs", scripts::MISSING, &scripts::NEEDED, SHORT).await {
        // As engines say it of a program that cannot be started.
        Err(BuildError::Command { code: 126 | 127, .. }) => vec!["bash".to_owned()],
        missing => missing?.split_whitespace().map(str::to_owned).collect(),
    };
    if !missing.is_empty() {
        return Err(BuildError::Base(missing));
    }
    unpack(&mut bench, supply).await?;
    let found = found(&bench).await?;
    let version = programs(&mut bench, &found, order.arch).await?;
    container_images(&mut bench, &found, &version, order).await?;
    bench.put(&["cp", "/dev/stdin", "/kind/version"], Some(format!("{version}\n").into_bytes()), SHORT).await?;
    let image = order.image.clone().unwrap_or_else(|| format!("kina-node:{}", tag(&version)));
    let (repository, tag) = images::repository_and_tag(&image);
    bench.step(format!("commits {repository}:{tag}"));
    let BaseImage { entrypoint, command, .. } = order.base.clone();
    let entrypoint = if entrypoint.is_empty() { ENTRYPOINT.map(str::to_owned).to_vec() } else { entrypoint };
    let labels = Labels::from([(LABEL.to_owned(), version.clone())]);
    let spec = ImageSpec { repository: repository.clone(), tag: tag.clone(), entrypoint, command, labels };
    let id = bench.workshop.commit(bench.name, &spec).await?;
    Ok(Built { image: format!("{repository}:{tag}"), id, version })
}

async fn unpack(bench: &mut Bench<'_>, supply: Supply) -> Result<(), BuildError> {
    bench.step("unpacks the source");
    let Supply { packing, bytes, pieces } = supply;
    let flag = if packing == Packing::Gzip { "z" } else { "" };
    let (done, fault) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
    let input = unbroken(pieces, Arc::clone(&done), Arc::clone(&fault));
    let command = words(scripts::UNPACK, &[SOURCE, flag]);
    let (workshop, name) = (bench.workshop, bench.name);
    let mut unpacking = std::pin::pin!(workshop.feed(name, &command, input, LONG));
    let mut ticks = tokio::time::interval(TICK);
    let unpacked = loop {
        tokio::select! {
            biased;
            unpacked = &mut unpacking => break unpacked,
            _ = ticks.tick() => (bench.tell)(Event::Moved(done.load(Ordering::Relaxed), bytes)),
        }
    };
    // What broke the source explains what is said about its end.
    if let Some(error) = fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(BuildError::Source(error));
    }
    said("unpacking the source", unpacked?).map(drop)
}

/// Pieces until one could not be read, why it could not, and how many bytes there were.
fn unbroken(pieces: Pieces, done: Arc<AtomicU64>, fault: Arc<Mutex<Option<io::Error>>>) -> BoxStream<'static, Bytes> {
    pieces
        .map(move |piece| match piece {
            Ok(piece) => {
                done.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Some(piece)
            }
            Err(error) => {
                *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        })
        .take_while(|piece| std::future::ready(piece.is_some()))
        .filter_map(std::future::ready)
        .boxed()
}

async fn found(bench: &Bench<'_>) -> Result<Layout, BuildError> {
    let printed = bench.say(&["find", SOURCE, "-type", "f", "-printf", "%P\\n"], SHORT).await?;
    let files: Vec<String> = printed.lines().map(str::to_owned).collect();
    Ok(layout(&files)?)
}

/// Puts the programs in, and tells their version.
async fn programs(bench: &mut Bench<'_>, found: &Layout, arch: Arch) -> Result<String, BuildError> {
    let paths: Vec<String> = found.programs().iter().map(|path| format!("{SOURCE}/{path}")).collect();
    for (name, path) in PROGRAMS.iter().zip(&paths) {
        // Printed as text, since what a command prints is taken for that.
        let bytes = HEADER_BYTES.to_string();
        let header = bench.say(&["od", "-An", "-v", "-tx1", "-N", &bytes, path], SHORT).await?;
        let header: Vec<u8> = header.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let machine = Arch::of_program(&header);
        if machine != Machine::Known(arch) {
            return Err(BuildError::Machine { name: (*name).to_owned(), machine, arch });
        }
    }
    let mut install = vec!["install", "-m", "0755", "-o", "root", "-g", "root", "-t", "/usr/bin"];
    install.extend(paths.iter().map(String::as_str));
    bench.say(&install, SHORT).await?;
    let version = version_of(bench, "kubeadm", &["/usr/bin/kubeadm", "version", "--output=short"]).await?;
    let client = ["/usr/bin/kubectl", "version", "--client", "--output=json"];
    for (program, command) in [("kubelet", ["/usr/bin/kubelet", "--version"].as_slice()), ("kubectl", &client)] {
        let other = version_of(bench, program, command).await?;
        if other != version {
            return Err(BuildError::Mixed { kubeadm: version, program, other });
        }
    }
    bench.step(format!("puts kubeadm, kubelet and kubectl {version} in"));
    Ok(version)
}

/// `v1.34.4`, `Kubernetes v1.34.4`, or JSON.
async fn version_of(bench: &Bench<'_>, program: &'static str, command: &[&str]) -> Result<String, BuildError> {
    let printed = bench.say(command, SHORT).await?;
    let client: Option<serde_json::Value> = serde_json::from_str(&printed).ok();
    let of_client = client.and_then(|client| client["clientVersion"]["gitVersion"].as_str().map(str::to_owned));
    let version = of_client.unwrap_or_else(|| printed.trim().trim_start_matches("Kubernetes ").to_owned());
    if is_version(&version) { Ok(version) } else { Err(BuildError::Version { program, said: version }) }
}

async fn container_images(
    bench: &mut Bench<'_>,
    found: &Layout,
    version: &str,
    order: &Order,
) -> Result<(), BuildError> {
    bench.workshop.launch(bench.name, &words(scripts::CONTAINERD, &[SCRATCH, ADDRESS])).await?;
    bench.script("starting containerd", scripts::READY, &[SCRATCH, ADDRESS], LONG).await?;
    for archive in &found.archives {
        bench.step(format!("imports {}", archive.rsplit('/').next().unwrap_or(archive)));
        let path = format!("{SOURCE}/{archive}");
        bench.ctr(&["images", "import", "--no-unpack", "--all-platforms", &path], LONG).await?;
    }
    for (name, bare) in listed(bench).await?.keys().filter_map(|name| Some((name, images::renamed(name, order.arch)?)))
    {
        bench.ctr(&["images", "tag", "--force", name, &bare], SHORT).await?;
        bench.ctr(&["images", "remove", name], SHORT).await?;
    }
    let (asked, applied) = needed(bench, version).await?;
    let present = listed(bench).await?;
    for name in images::outdated(present.keys(), &asked) {
        bench.ctr(&["images", "remove", &name], SHORT).await?;
    }
    fetch(bench, asked.union(&applied).filter(|name| !present.contains_key(*name)), order.arch).await?;
    let present = listed(bench).await?;
    for name in present.keys() {
        // As containerd marks those that it pulls for Kubernetes itself; and the kubelet never removes them.
        let labels = ["io.cri-containerd.image=managed", "io.cri-containerd.pinned=pinned"];
        bench.ctr(&["images", "label", name, labels[0], labels[1]], SHORT).await?;
    }
    if !order.packed {
        unpack_images(bench, &present, order.arch).await?;
    }
    bench.script("ending containerd", scripts::STOP, &[SCRATCH], SHORT).await?;
    bench.step("puts images of containers in");
    bench.script("putting images in", scripts::INSTALL, &[SCRATCH], LONG).await.map(drop)
}

async fn listed(bench: &Bench<'_>) -> Result<BTreeMap<String, String>, BuildError> {
    Ok(images::listed(&bench.ctr(&["images", "list"], SHORT).await?))
}

/// What kubeadm will ask for, and what manifests of the base name.
async fn needed(bench: &mut Bench<'_>, version: &str) -> Result<(BTreeSet<String>, BTreeSet<String>), BuildError> {
    let config = bench.say(&["cat", "/etc/containerd/config.toml"], SHORT).await?;
    let kubeadm = ["/usr/bin/kubeadm", "config", "images", "list", "--kubernetes-version", version];
    let asked = images::of_kubeadm(&bench.say(&kubeadm, SHORT).await?, images::pause_of(&config).as_deref());
    let manifests = bench.script("reading manifests", scripts::MANIFESTS, &[], SHORT).await?;
    if !manifests.contains("kind:") {
        bench.note(
            "the base has no manifests in /kind/manifests: clusters of this image need a pod network of their own \
             (`networking.cni`; with kind, `disableDefaultCNI`)",
        );
    }
    Ok((asked, images::of_manifest(&manifests)))
}

/// Gets images from their registries, in the container, as kind does.
async fn fetch(bench: &mut Bench<'_>, missing: impl Iterator<Item = &String>, arch: Arch) -> Result<(), BuildError> {
    let platform = format!("linux/{arch}");
    let mut failed = Vec::new();
    for name in missing {
        bench.step(format!("pulls {name}"));
        match bench.ctr(&["content", "fetch", "--platform", &platform, name], LONG).await {
            Ok(_) => {}
            Err(BuildError::Command { said, .. }) => {
                failed.push(format!("{name}: {}", said.lines().last().unwrap_or_default().trim()));
            }
            Err(error) => return Err(error),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(BuildError::Images(failed)) }
}

/// Unpacks images, and lets go of their layers. One that cannot be taken into another image unpacked stays as it is, and
/// is unpacked by the node that starts it.
async fn unpack_images(
    bench: &mut Bench<'_>,
    present: &BTreeMap<String, String>,
    arch: Arch,
) -> Result<(), BuildError> {
    bench.step("unpacks images of containers");
    let mut seen = BTreeSet::new();
    for (name, digest) in present.iter().filter(|(_, digest)| seen.insert((*digest).clone())) {
        let (manifest, layers) = layers(bench, name, digest, arch).await?;
        let hex: Vec<&str> = layers.iter().map(|layer| layer.trim_start_matches("sha256:")).collect();
        let arguments = [&[SCRATCH], hex.as_slice()].concat();
        let removing = bench.script("reading layers", scripts::REMOVING, &arguments, LONG).await?;
        if !removing.trim().is_empty() {
            bench.note(format!("{name} stays packed: a layer of it removes files of another"));
            continue;
        }
        bench.ctr(&["snapshots", "--snapshotter", "overlayfs", "unpack", digest], LONG).await?;
        // An empty value removes a label: nothing holds the layers any more.
        let holds: Vec<String> =
            (0..layers.len()).map(|number| format!("containerd.io/gc.ref.content.l.{number}=")).collect();
        let mut label = vec!["content", "label", manifest.as_str()];
        label.extend(holds.iter().map(String::as_str));
        bench.ctr(&label, SHORT).await?;
    }
    // To end a lease and wait for that collects what nothing holds.
    bench.ctr(&["leases", "create", "--id", "kina-build"], SHORT).await?;
    bench.ctr(&["leases", "delete", "--sync", "kina-build"], LONG).await.map(drop)
}

/// The manifest of an image, and its layers.
async fn layers(bench: &Bench<'_>, name: &str, digest: &str, arch: Arch) -> Result<(String, Vec<String>), BuildError> {
    let mut digest = digest.to_owned();
    // An index may name an index; nobody makes a third.
    for _ in 0..3 {
        match images::document(&bench.ctr(&["content", "get", &digest], SHORT).await?, arch) {
            Some(Document::Manifest(layers)) => return Ok((digest, layers)),
            Some(Document::Index(next)) => digest = next,
            None => break,
        }
    }
    Err(BuildError::Image(name.to_owned(), arch))
}
