//! `kina build node-image`: an image for nodes from a base and a Kubernetes, as kind makes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::fetch::{self, Url};
use crate::api::versions::{self, KubernetesVersion};
use crate::node_image::arch::{Arch, HEADER_BYTES, Machine};
use crate::node_image::images::is_image_name;
use crate::node_image::layout::{Layout, PLACES, PROGRAMS, layout};
use crate::node_image::source::{Source, SourceError, SourceKind, source};
use crate::node_image::supply::{Entry, Supply, SupplyError, pieces_of};
use crate::node_image::{self, BuildError, Built, Event, GivenUp, Order};
use crate::runtime::workshop::Workshop;
use crate::runtime::{Cause, RuntimeError};
use crate::world::{FileKind, FileSystem};

/// The container outlives whoever waits for it by no more than this.
const GRACE: Duration = Duration::from_secs(300);
/// Progress is told in such steps, in percent; of what has no known length, in such pieces.
const PERCENT: u64 = 20;
const PIECE_MIB: u64 = 200;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Make an image for nodes, of a base that was made for kind and a Kubernetes
    NodeImage(NodeImage),
}

#[derive(Clone, Debug, clap::Args)]
struct NodeImage {
    /// Kubernetes: a directory of its programs, a release's server tarball, the URL of one, or a version such as `v1.35.5`
    /// [default: the version that clusters get by default]
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// What SOURCE is, where its name alone would say something else
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    /// Name of the image [default: `kina-node`, with the version as its tag]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// What it is made of: any image that was made for kind. Its pod network and storage class stay [default: kind's image
    /// of the version that clusters get by default]
    #[arg(long, value_name = "IMAGE")]
    base_image: Option<String>,
    /// Whom it is for: `amd64`, `arm64`, `ppc64le` or `s390x` [default: this engine]
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    arch: Option<Arch>,
    /// Leave images of containers packed, for nodes whose snapshotter is not overlayfs
    #[arg(long)]
    packed: bool,
    /// Give it up after this long
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = super::duration)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// A directory that holds kubeadm, kubelet and kubectl, and archives of images
    Directory,
    /// A file: kubernetes-server-linux-ARCH.tar.gz
    File,
    /// A version, of which the tarball is fetched from dl.k8s.io
    Release,
    /// The same file elsewhere: `https://…`
    Url,
}

impl From<Kind> for SourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Directory => Self::Directory,
            Kind::File => Self::File,
            Kind::Release => Self::Release,
            Kind::Url => Self::Url,
        }
    }
}

fn arch(name: &str) -> Result<Arch, String> {
    Arch::parse(name).ok_or_else(|| format!("Kubernetes is released for {}", Arch::ALL.map(Arch::as_str).join(", ")))
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let What::NodeImage(args) = args.what;
    if let Some(image) = args.image.as_ref().filter(|image| !is_image_name(image)) {
        let error = CliError::new(Exit::Usage, format!("`{image}` is no name that an image can be given"));
        return Err(error.hint("lower case, a tag at most: `kina-node:v1.35.5`, `localhost:5000/node:dev`"));
    }
    let Some(workshop) = context.engine.workshop() else {
        let error = CliError::new(Exit::Failure, "cannot build a node image: no Docker Engine is installed here");
        return Err(error.hint("images are made in a container of Docker's; Apple Container can make none yet"));
    };
    let deadline = tokio::time::sleep(args.timeout);
    let mut deadline = std::pin::pin!(deadline);
    let interrupt = context.interrupt.clone();
    let prepared = tokio::select! {
        biased;
        () = interrupt.first() => return Err(interrupted()),
        () = &mut deadline => return Err(timed_out(args.timeout)),
        prepared = prepared(&args, workshop.as_ref(), context) => prepared?,
    };
    let (order, supply) = prepared;
    let given_up = async {
        tokio::select! {
            biased;
            () = interrupt.first() => GivenUp::Interrupted,
            () = deadline => GivenUp::TimedOut,
        }
    };
    let mut teller = Teller { context, told: 0 };
    let outcome =
        node_image::build(workshop.as_ref(), &order, supply, given_up, &mut |event| teller.tell(&event)).await;
    let left = outcome.left.map(|error| left(&order.bench, error));
    match outcome.built {
        Ok(built) => {
            told(&built, context)?;
            left.map_or(Ok(()), Err)
        }
        Err(error) => {
            if let Some(left) = left {
                context.report(&left);
            }
            Err(failed(error, &order, args.timeout))
        }
    }
}

/// Everything that has to be there before anything is made.
async fn prepared(
    args: &NodeImage,
    workshop: &dyn Workshop,
    context: &mut Context,
) -> Result<(Order, Supply), CliError> {
    let info = workshop.info().await.map_err(engine_failed)?;
    let own = Arch::parse(&info.architecture);
    let arch = args.arch.or(own).ok_or_else(|| {
        let message = format!("the engine's architecture is {}, for which there is no Kubernetes", info.architecture);
        CliError::new(Exit::Failure, message).hint("`--arch` names another, where the engine can run its programs")
    })?;
    let files = Arc::clone(&context.world.files);
    let name = args.source.clone().unwrap_or_else(|| versions::DEFAULT.to_string());
    let found = files.metadata(Path::new(&name)).ok().map(|found| found.kind);
    let source = source(&name, args.kind.map(SourceKind::from), found, arch).map_err(no_source)?;
    // A URL is opened last, or it would lie idle while the base is pulled.
    let (ready, url) = match &source {
        Source::Directory(directory) => (Some(of_directory(directory, arch, &files)?), None),
        Source::File(path) => (Some(of_file(path, &files).await?), None),
        Source::Url(url) => (None, Some(Url::parse(url)?)),
    };
    let image = args.base_image.clone().unwrap_or_else(|| versions::DEFAULT.node_image());
    context.printer.talk(&format!("base {image}, Kubernetes from {name}, for {arch}"));
    let mut teller = Teller { context, told: 0 };
    let pulled = &mut |done, total| teller.tell(&Event::Moved(done, Some(total)));
    let base = workshop.base(&image, &format!("linux/{arch}"), pulled).await;
    let base = base.map_err(|error| no_base(&image, error))?;
    let bench = format!("kina-build-{}", &crate::world::uuid(context.world.random.as_ref())[..8]);
    let order = Order {
        image: args.image.clone(),
        base,
        arch,
        is_foreign: own != Some(arch),
        packed: args.packed,
        bench,
        lifetime: args.timeout + GRACE,
    };
    let supply = match (ready, url) {
        (Some(supply), _) => supply,
        (None, Some(url)) => of_url(&url, context).await?,
        (None, None) => return Err(CliError::new(Exit::Failure, "cannot build a node image: nothing to make it of")),
    };
    Ok((order, supply))
}

/// Whoever has a directory of the programs hears what is wrong with it before anything is made.
fn of_directory(directory: &Path, arch: Arch, files: &Arc<dyn FileSystem>) -> Result<Supply, CliError> {
    let shown = directory.display();
    let unreadable =
        |path: &Path, error| CliError::new(Exit::Failure, format!("cannot read {}", path.display())).because(error);
    let mut names = Vec::new();
    for place in PLACES {
        let place_path = directory.join(place);
        if files.metadata(&place_path).is_ok_and(|found| found.kind == FileKind::Directory) {
            let listed = files.list(&place_path).map_err(|error| unreadable(&place_path, error))?;
            names.extend(listed.into_iter().map(|name| format!("{place}{name}")));
        }
    }
    names.retain(|name| files.metadata(&directory.join(name)).is_ok_and(|found| found.kind == FileKind::File));
    let found = layout(&names).map_err(|missing| {
        let error =
            CliError::new(Exit::NotFound, format!("{shown} is no directory of Kubernetes' programs: {missing}"));
        let is_checkout = files.metadata(&directory.join("cmd/kubeadm")).is_ok();
        if is_checkout {
            error.hint(
                "sources are not built: `make quick-release` there, and its kubernetes-server-linux-*.tar.gz here",
            )
        } else {
            error.hint("a release's server tarball has them: `kina build node-image v1.35.5` fetches it")
        }
    })?;
    for (name, path) in PROGRAMS.iter().zip(found.programs()) {
        let path = directory.join(path);
        let header = header(&path, files.as_ref()).map_err(|error| unreadable(&path, error))?;
        let machine = Arch::of_program(&header);
        if machine != Machine::Known(arch) {
            let message = format!("{shown}: {name} is {machine}, and the image is for {arch}");
            return Err(CliError::new(Exit::Invalid, message).hint(wrong_arch(machine)));
        }
    }
    let Layout { archives, .. } = &found;
    let entries = found.programs().into_iter().chain(archives.iter().cloned()).map(|name| {
        let path = directory.join(&name);
        let bytes = files.metadata(&path).map_err(|error| unreadable(&path, error))?.length;
        Ok(Entry { path, name, bytes })
    });
    Ok(Supply::of_files(entries.collect::<Result<_, CliError>>()?, Arc::clone(files)))
}

fn header(path: &Path, files: &dyn FileSystem) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut header = Vec::new();
    files.open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(header)
}

fn wrong_arch(machine: Machine) -> String {
    match machine {
        Machine::Known(arch) => format!("`--arch {arch}` makes an image for that"),
        Machine::Other(_) | Machine::NoProgram => "programs of a release for Linux are needed".to_owned(),
    }
}

async fn of_file(path: &Path, files: &Arc<dyn FileSystem>) -> Result<Supply, CliError> {
    let bytes = files.metadata(path).ok().map(|found| found.length);
    let supply = Supply::of_archive(pieces_of(PathBuf::from(path), Arc::clone(files)), bytes).await;
    supply.map_err(|error| no_archive(&path.display().to_string(), error))
}

async fn of_url(url: &Url, context: &mut Context) -> Result<Supply, CliError> {
    context.printer.talk(&format!("fetches {url}"));
    let (pieces, bytes) = fetch::open(url).await?;
    Supply::of_archive(pieces, bytes).await.map_err(|error| no_archive(&url.to_string(), error))
}

/// Tells what happens, a line each; how far it is, now and then.
struct Teller<'a> {
    context: &'a mut Context,
    /// How much was told of what is going on.
    told: u64,
}

impl Teller<'_> {
    fn tell(&mut self, event: &Event) {
        match event {
            Event::Step(what) => {
                self.told = 0;
                self.context.printer.talk(what);
            }
            Event::Note(what) => self.context.printer.talk(&format!("note: {what}")),
            Event::Moved(done, total) => {
                if let Some((mark, text)) = moved(*done, *total).filter(|(mark, _)| *mark > self.told) {
                    self.told = mark;
                    self.context.printer.talk(&format!("  {text}"));
                }
            }
        }
    }
}

/// How far something is, and which of the marks that is; `None` before the first.
fn moved(done: u64, total: Option<u64>) -> Option<(u64, String)> {
    let mib = done >> 20;
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let mark = done.saturating_mul(100) / total / PERCENT;
            (mark > 0).then(|| (mark, format!("{} % of {} MiB", (mark * PERCENT).min(100), total >> 20)))
        }
        None => (mib >= PIECE_MIB).then(|| (mib / PIECE_MIB, format!("{mib} MiB"))),
    }
}

fn told(built: &Built, context: &mut Context) -> Result<(), CliError> {
    context.printer.talk(&next(built));
    context.printer.data_line(&built.image)
}

/// How a cluster is made of an image.
fn next(Built { image, version, .. }: &Built) -> String {
    let is_supported = KubernetesVersion::parse(version).is_some_and(KubernetesVersion::is_supported);
    let is_told = KubernetesVersion::of_tag(image).is_some_and(|(_, tag)| tag.to_string() == *version);
    match (is_supported, is_told) {
        (false, _) => format!(
            "note: Kina makes clusters of v1.{} to v1.{}, and not of {version}",
            versions::OLDEST_MINOR,
            versions::NEWEST_MINOR
        ),
        (true, true) => format!("`kina create cluster --image {image}` makes a cluster of it"),
        // The tag does not say it.
        (true, false) => format!("a cluster is made of it by `image: {image}` with `kubernetesVersion: {version}`"),
    }
}

fn interrupted() -> CliError {
    CliError::new(Exit::Interrupted, "interrupted before the image was made")
}

fn timed_out(timeout: Duration) -> CliError {
    let message = format!("no image was made within {} s", timeout.as_secs());
    CliError::new(Exit::Timeout, message).hint("`--timeout` gives it longer")
}

fn no_source(error: SourceError) -> CliError {
    let exit = if matches!(error, SourceError::NoVersion(_)) { Exit::Usage } else { Exit::NotFound };
    CliError::new(exit, format!("cannot build a node image: {error}"))
}

fn no_archive(name: &str, error: SupplyError) -> CliError {
    match error {
        SupplyError::NoArchive => {
            CliError::new(Exit::Invalid, format!("`{name}` is no tarball: neither `.tar` nor `.tar.gz`"))
                .hint("a release has `kubernetes-server-linux-ARCH.tar.gz`")
        }
        SupplyError::Read(error) => CliError::new(Exit::Failure, format!("cannot read `{name}`")).because(error),
    }
}

fn engine_failed(error: RuntimeError) -> CliError {
    let hint =
        if error.cause == Cause::Unavailable { "start Docker, or name another engine by `DOCKER_HOST`" } else { "" };
    CliError::new(Exit::Failure, "cannot build a node image: the engine does not answer").because(error).hint(hint)
}

fn no_base(image: &str, error: RuntimeError) -> CliError {
    let exit = if error.cause == Cause::Invalid { Exit::NotFound } else { Exit::Failure };
    let error = CliError::new(exit, format!("cannot have the base {image}")).because(error);
    error.hint("`--base-image` names another that was made for kind; one that is on this host is not pulled")
}

fn left(bench: &str, error: RuntimeError) -> CliError {
    let message = format!("the container {bench} may be there still");
    CliError::new(Exit::Failure, message).because(error).hint(format!("`docker rm --force --volumes {bench}`"))
}

fn failed(error: BuildError, order: &Order, timeout: Duration) -> CliError {
    let (exit, hint) = match &error {
        BuildError::GivenUp(GivenUp::Interrupted) => return interrupted(),
        BuildError::GivenUp(GivenUp::TimedOut) => return timed_out(timeout),
        BuildError::Base(_) | BuildError::Volume(_) => {
            (Exit::Invalid, "`--base-image` names another: kindest/base, kindest/node, or what was made of them")
        }
        BuildError::Missing(_) | BuildError::Mixed { .. } | BuildError::Version { .. } => {
            (Exit::Invalid, "a release has `kubernetes-server-linux-ARCH.tar.gz`, with all of them")
        }
        BuildError::Machine { machine, .. } => {
            let hint = wrong_arch(*machine);
            return CliError::new(Exit::Invalid, format!("cannot build a node image: {error}")).hint(hint);
        }
        BuildError::Images(images) => {
            let told = CliError::new(Exit::Failure, format!("cannot build a node image: {error}"));
            return told.details(images.clone()).hint(
                "archives of them beside the programs are taken (`docker save --output NAME.tar IMAGE`); or a base that has them",
            );
        }
        BuildError::Command { said, .. } if said.contains("xec format error") => {
            (Exit::Failure, "this engine cannot run programs of that architecture; binfmt_misc with qemu lets it")
        }
        BuildError::Command { .. } if !order.packed => {
            (Exit::Failure, "where it is the unpacking of images, `--packed` leaves it out")
        }
        _ => (Exit::Failure, ""),
    };
    CliError::new(exit, format!("cannot build a node image: {error}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Line;
    use crate::world::World;

    fn program(machine: u8) -> Vec<u8> {
        let mut program = b"\x7fELF\x02\x01".to_vec();
        program.resize(18, 0);
        program.extend([machine, 0]);
        program.resize(100, 1);
        program
    }

    fn shown(error: &CliError) -> String {
        error.lines().iter().map(Line::plain).collect::<Vec<_>>().join("\n")
    }

    fn directory(names: &[(&str, u8)]) -> Result<Supply, CliError> {
        let files = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap()).files;
        for (name, machine) in names {
            let path = Path::new("/bin").join(name);
            files.create_directories(path.parent().unwrap(), 0o755).unwrap();
            files.write(&path, &program(*machine), 0o755).unwrap();
        }
        of_directory(Path::new("/bin"), Arch::Amd64, &files)
    }

    #[tokio::test]
    async fn a_directory_is_looked_through_before_anything_is_made() {
        let all = [("kubeadm", 0x3e), ("kubelet", 0x3e), ("kubectl", 0x3e), ("etcd.tar", 0), ("kube-apiserver", 0x3e)];
        let supply = directory(&all).unwrap();
        // Four files of a block each, each with a header, and the end; what is not needed is not sent.
        assert_eq!(supply.bytes, Some(4 * 1024 + 1024));
        let told = |names: &[(&str, u8)]| shown(&directory(names).err().unwrap());
        insta::assert_snapshot!(told(&[("kubeadm", 0x3e), ("kubectl", 0x3e)]), @r"
        error: /bin is no directory of Kubernetes' programs: kubelet is not there

        hint: a release's server tarball has them: `kina build node-image v1.35.5` fetches it
        ");
        insta::assert_snapshot!(told(&[("kubeadm", 0x3e), ("kubectl", 0xb7), ("kubelet", 0x3e)]), @r"
        error: /bin: kubectl is a program for arm64, and the image is for amd64

        hint: `--arch arm64` makes an image for that
        ");
        insta::assert_snapshot!(told(&[("cmd/kubeadm/main.go", 0)]), @r"
        error: /bin is no directory of Kubernetes' programs: kubeadm, kubelet, kubectl are not there: neither by themselves, nor in `server/bin` or `kubernetes/server/bin`

        hint: sources are not built: `make quick-release` there, and its kubernetes-server-linux-*.tar.gz here
        ");
    }

    #[test]
    fn what_makes_a_cluster_of_an_image_depends_on_its_tag() {
        let told = |image: &str, version: &str| {
            next(&Built { image: image.to_owned(), id: String::new(), version: version.to_owned() })
        };
        assert!(told("kina-node:v1.35.5", "v1.35.5").contains("`kina create cluster --image kina-node:v1.35.5`"));
        assert!(told("me/node:dev", "v1.35.5").contains("`kubernetesVersion: v1.35.5`"));
        assert!(told("me/node:v1.99.0", "v1.99.0").starts_with("note: Kina makes clusters of v1."));
    }

    #[test]
    fn progress_is_told_now_and_then() {
        let mark = |done, total| moved(done, total).map(|(mark, text)| format!("{mark} {text}"));
        assert_eq!(mark(19, Some(100)), None);
        assert_eq!(mark(500 << 20, Some(1000 << 20)).as_deref(), Some("2 40 % of 1000 MiB"));
        assert_eq!(mark(1100 << 20, Some(1000 << 20)).as_deref(), Some("5 100 % of 1000 MiB"));
        assert_eq!(mark(401 << 20, None).as_deref(), Some("2 401 MiB"));
        assert_eq!(mark(5, Some(0)), None);
    }
}
