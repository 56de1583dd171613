//! The look itself: the only part of this room that asks the host.

use std::path::{Path, PathBuf};

use super::facts::{AppleFacts, CommandFacts, Disk, Facts, Holder, HomeFacts, HostFacts, LinuxFacts, Subject, Usable};
use crate::api::Cluster;
use crate::api::cluster::RuntimeName;
use crate::home::{Home, HomeError};
use crate::runtime::apple::mac::Mac;
use crate::runtime::apple::process::find;
use crate::runtime::apple::{AppleRuntime, HostSize, mac};
use crate::runtime::docker::DockerRuntime;
use crate::world::World;

/// Files of `/proc` that hold a line or two, or some fifty.
const LINES_BYTES_MAX: u64 = 16 << 10;
/// File systems of a network, as Linux numbers them (`statfs(2)`).
#[cfg(target_os = "linux")]
const NETWORK_FILE_SYSTEMS: [(u64, &str); 5] =
    [(0x6969, "NFS"), (0x517b, "SMB"), (0xfe53_4d42, "SMB"), (0xff53_4d42, "CIFS"), (0x0102_1997, "9p")];

/// Where to look.
#[derive(Debug)]
pub struct Place<'a> {
    /// Kina's home.
    pub home: &'a Home,
    /// Files and ports.
    pub world: &'a World,
    /// Where programs are.
    pub directories: &'a [PathBuf],
    /// What `auto` means by somebody's word.
    pub named: Option<RuntimeName>,
    /// Docker, where it is installed.
    pub docker: Option<&'a DockerRuntime>,
}

/// Everything. Who has the home and what Clusters there are was found out by the caller.
pub async fn gather(place: &Place<'_>, holder: Holder, clusters: Option<Vec<Cluster>>) -> Facts {
    let files = place.world.files.as_ref();
    let (mac, size) = mac::look(place.directories, files).await;
    let container = AppleRuntime::program(place.directories, place.world);
    let subject = match place.named {
        Some(RuntimeName::Sim) => Subject::Simulator,
        Some(RuntimeName::Apple) => Subject::Apple(apple(place, container, mac, size).await),
        None | Some(RuntimeName::Auto)
            if cfg!(target_os = "macos") && (container.is_some() || place.docker.is_none()) =>
        {
            Subject::Apple(apple(place, container, mac, size).await)
        }
        _ => Subject::Docker(match place.docker {
            Some(docker) => Some(docker.examine().await),
            None => None,
        }),
    };
    let host = host(place, &subject, size);
    let installation = place.home.known_installation(files).ok().flatten();
    Facts { home: home(place, holder), host, installation, clusters, subject }
}

async fn apple(place: &Place<'_>, container: Option<PathBuf>, mac: Option<Mac>, size: HostSize) -> AppleFacts {
    let runtime = AppleRuntime::installed(place.directories, place.home.apple(), place.world.clone());
    let command = match container.zip(runtime.map(|runtime| runtime.on(mac.clone(), size))) {
        Some((path, runtime)) => Some(CommandFacts { path, found: runtime.examine().await }),
        None => None,
    };
    AppleFacts { mac, command }
}

fn host(place: &Place<'_>, subject: &Subject, own: HostSize) -> HostFacts {
    let engine = match subject {
        Subject::Docker(Some(found)) => found.engine.as_ref().ok(),
        _ => None,
    };
    let linux = linux(place.world);
    let is_here = engine.is_some_and(|engine| linux.as_ref().is_some_and(|linux| linux.release == engine.kernel));
    let root = engine.and_then(|engine| engine.root.as_deref()).filter(|_| is_here);
    // What containers see counts: an engine in a virtual machine has less than the host.
    let size = engine.map_or(own, |engine| HostSize {
        cpus: engine.cpus.unwrap_or(own.cpus),
        memory_bytes: engine.memory_bytes.unwrap_or(own.memory_bytes),
    });
    let address = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    HostFacts {
        size,
        disks: disks(place, root),
        linux,
        port_error: place.world.ports.free_port(address).err().map(|error| error.to_string()),
        kubectl: find("kubectl", place.directories, place.world.files.as_ref()),
    }
}

fn linux(world: &World) -> Option<LinuxFacts> {
    let read = |path: &str| {
        let text = world.files.read(Path::new(path), LINES_BYTES_MAX).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let number = |path: &str| read(path)?.parse().ok();
    Some(LinuxFacts {
        release: read("/proc/sys/kernel/osrelease")?,
        inotify_instances: number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches: number("/proc/sys/fs/inotify/max_user_watches"),
        knows_overlay: read("/proc/filesystems").is_some_and(|text| text.lines().any(|line| line.ends_with("overlay"))),
    })
}

/// One of each disk.
fn disks(place: &Place<'_>, engine_root: Option<&Path>) -> Vec<Disk> {
    let files = place.world.files.as_ref();
    let mut found: Vec<(u64, Disk)> = Vec::new();
    for (of, path) in [("the home", Some(place.home.root())), ("the engine", engine_root)] {
        let Some(path) = path.and_then(|path| existing(place, path)) else { continue };
        let (Ok(metadata), Ok(told)) = (files.metadata(&path), rustix::fs::statvfs(&path)) else { continue };
        let device = metadata.identity.device;
        if found.iter().all(|(other, _)| *other != device) {
            found.push((device, Disk { of, free_bytes: told.f_bavail.saturating_mul(told.f_frsize), path }));
        }
    }
    found.into_iter().map(|(_, disk)| disk).collect()
}

/// The path, or the nearest above it that is there.
fn existing(place: &Place<'_>, path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|path| place.world.files.metadata(path).is_ok()).map(Path::to_owned)
}

fn home(place: &Place<'_>, holder: Holder) -> HomeFacts {
    let path = place.home.root().to_owned();
    let user = rustix::process::geteuid().as_raw();
    let usable = match place.home.check(place.world.files.as_ref(), user) {
        Ok(()) if may_write(&path) => Usable::Yes,
        Ok(()) => no(&unwritable(&path)),
        Err(HomeError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            match existing(place, &path).filter(|above| may_write(above)) {
                Some(_) => Usable::NotYet,
                None => no(&unwritable(&path)),
            }
        }
        Err(error) => no(&error),
    };
    HomeFacts { network_file_system: existing(place, &path).and_then(|path| network(&path)), path, usable, holder }
}

fn no(error: &HomeError) -> Usable {
    Usable::No(error.to_string(), error.hint().unwrap_or_else(|| "set KINA_HOME to a directory of your own".to_owned()))
}

fn unwritable(path: &Path) -> HomeError {
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    HomeError::Io { operation: "write into", path: path.to_owned(), source }
}

fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(target_os = "linux")]
fn network(path: &Path) -> Option<&'static str> {
    let number = u64::try_from(rustix::fs::statfs(path).ok()?.f_type).ok()?;
    NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

#[cfg(not(target_os = "linux"))]
fn network(_: &Path) -> Option<&'static str> {
    None
}
