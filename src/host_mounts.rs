//! Which paths of this host machines may mount.
//!
//! A node is privileged: who has `/`, Kina's home or the socket of a container runtime in it has the host. Such a path is
//! mounted only where whoever runs Kina named that very path; and what a manifest from elsewhere (a git checkout, a web
//! page) mounts has to lie below a path that was named. Paths are judged by where they lead, so that neither links nor
//! `..` nor a second mount of the same directory get past.

use std::path::{Component, Path, PathBuf};

use crate::world::{FileIdentity, FileKind, FileSystem};

/// What container runtimes call the sockets that they are driven through.
const SOCKETS: [&str; 8] = [
    "docker.sock",
    "docker.raw.sock",
    "podman.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "buildkitd.sock",
    "crio.sock",
    "cri-dockerd.sock",
];
/// Where they lie by default; `/run/user` holds a directory for each user, with those of runtimes without root.
const SOCKET_PLACES: [&str; 8] = [
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/user/UID/podman/podman.sock",
    "/var/run/docker.sock",
    "/private/var/run/docker.sock",
];
/// Where such a socket lies in a directory that a runtime keeps for it.
const SOCKET_DIRECTORIES: [&str; 4] = ["", "podman", "containerd", "run"];

/// What may be mounted: the home in use, and what was allowed by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPolicy {
    home: PathBuf,
    allowed: Vec<PathBuf>,
}

/// Where a mount is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// By whoever works on this host.
    Here,
    /// In a git checkout: whoever can push to it wrote it.
    Git,
    /// On a web page.
    Web,
}

/// Why a path is not mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it is; no full stop.
    pub why: String,
    /// What to do if it is meant.
    pub hint: String,
}

impl MountPolicy {
    /// For one home, with the paths that whoever runs Kina named.
    #[must_use]
    pub fn new(home: &Path, allowed: &[PathBuf]) -> Self {
        Self { home: plain(home), allowed: allowed.iter().map(|path| plain(path)).collect() }
    }

    /// What can be said without looking at the host: for the API, which must wait for no disk.
    #[must_use]
    pub fn refuse_text(&self, path: &Path) -> Option<Refused> {
        let written = plain(path);
        let why = self.sensitive(&written)?;
        (!self.allowed.contains(&written)).then(|| refused(path, &written, &why))
    }

    /// Everything: where the path leads counts, too.
    #[must_use]
    pub fn refuse(&self, files: &dyn FileSystem, path: &Path, declared: Declared) -> Option<Refused> {
        let (written, real) = (plain(path), real(files, path));
        let allowed: Vec<PathBuf> = self.allowed.iter().map(|allowed| self::real(files, allowed)).collect();
        let why = self.sensitive(&written).or_else(|| self.sensitive(&real));
        if let Some(why) = why.or_else(|| self.sensitive_place(files, &real)) {
            return (!allowed.contains(&real)).then(|| refused(path, &real, &why));
        }
        let what = match declared {
            Declared::Here => return None,
            Declared::Git => "a git checkout",
            Declared::Web => "the web",
        };
        let is_below = allowed.iter().any(|allowed| real.starts_with(allowed));
        (!is_below).then(|| refused(path, &real, &format!("is not for a manifest from {what} unless it is allowed")))
    }

    /// What a path is by its text, as the end of a sentence.
    fn sensitive(&self, path: &Path) -> Option<String> {
        if path == Path::new("/") {
            return Some("is this whole host".to_owned());
        }
        if let Some(why) = self.of_home(path) {
            return Some(why.to_owned());
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if SOCKETS.contains(&name) {
            return Some("is the socket of a container runtime, which commands this host".to_owned());
        }
        let holds = SOCKET_PLACES.iter().any(|place| is_at_or_above(path, Path::new(place)));
        holds.then(|| "holds sockets of container runtimes, which command this host".to_owned())
    }

    fn of_home(&self, path: &Path) -> Option<&'static str> {
        match () {
            () if self.home.as_os_str().is_empty() => None,
            () if self.home == path => Some("is Kina's home, with the keys of every cluster"),
            () if self.home.starts_with(path) => Some("holds Kina's home, with the keys of every cluster"),
            // With what is watched there: who may write a manifest may have any other path mounted.
            () if path.starts_with(&self.home) => Some("lies in Kina's home"),
            () => None,
        }
    }

    /// What a path is by what is there: the same directory under another name, or a runtime's socket.
    fn sensitive_place(&self, files: &dyn FileSystem, path: &Path) -> Option<String> {
        let identity = |path: &Path| -> Option<FileIdentity> { files.metadata(path).ok().map(|found| found.identity) };
        let here = identity(path);
        if here.is_some() && here == identity(Path::new("/")) {
            return Some("is this whole host".to_owned());
        }
        if !self.home.as_os_str().is_empty() {
            let home = real(files, &self.home);
            let moved = Self { home: home.clone(), allowed: Vec::new() };
            if let Some(why) = moved.of_home(path) {
                return Some(why.to_owned());
            }
            if here.is_some() && home.ancestors().any(|above| identity(above) == here) {
                return Some("holds Kina's home, with the keys of every cluster".to_owned());
            }
            let own = identity(&home);
            if own.is_some() && path.ancestors().any(|above| identity(above) == own) {
                return Some("lies in Kina's home".to_owned());
            }
        }
        let is_socket = |path: &Path| files.metadata(path).is_ok_and(|found| found.kind == FileKind::Other);
        let mut places =
            SOCKET_DIRECTORIES.iter().flat_map(|directory| SOCKETS.map(|name| path.join(directory).join(name)));
        places
            .any(|place| is_socket(&place))
            .then(|| "holds sockets of container runtimes, which command this host".to_owned())
    }
}

fn refused(written: &Path, real: &Path, why: &str) -> Refused {
    let (shown, leads) = (written.display(), real.display());
    let through = if written == real { String::new() } else { format!(" leads to `{leads}`, which") };
    Refused {
        why: format!("`{shown}`{through} {why}"),
        hint: format!("if that is meant, run Kina with `--allow-host-mount {leads}`"),
    }
}

/// Whether a path is another one, or above it. `UID` stands for any name.
fn is_at_or_above(path: &Path, place: &Path) -> bool {
    let mut parts = place.components();
    path.components().all(|part| parts.next().is_some_and(|known| known == part || known.as_os_str() == "UID"))
}

/// Without `.`, `..` and slashes too many, as far as that follows from the text alone.
#[must_use]
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Where a path leads; of one that is not there, where it would lie.
#[must_use]
pub fn real(files: &dyn FileSystem, path: &Path) -> PathBuf {
    if let Ok(found) = files.canonical(path) {
        return found;
    }
    // A link that leads nowhere may lead somewhere later: it is followed by hand no further, and judged again before it is
    // mounted.
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(files, parent).join(name),
        _ => plain(path),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::world::{Disk, MemoryFiles, SystemClock};

    const HOME: &str = "/home/me/.kina";

    fn files() -> MemoryFiles {
        let files = MemoryFiles::new(Arc::new(SystemClock));
        for directory in
            ["/home/me/.kina/clusters/data", "/home/me/.kina/pki", "/home/me/data", "/run/user/1000", "/srv/team"]
        {
            files.create_directories(Path::new(directory), 0o700).unwrap();
        }
        files
    }

    fn judged(policy: &MountPolicy, path: &str, declared: Declared) -> Option<String> {
        policy.refuse(&files(), Path::new(path), declared).map(|refused| refused.why)
    }

    #[test]
    fn the_host_the_home_and_sockets_are_refused_and_everything_else_is_not() {
        let policy = MountPolicy::new(Path::new(HOME), &[]);
        let mut told = String::new();
        for path in [
            "/",
            "//",
            "/..",
            "/home",
            "/home/me",
            HOME,
            "/home/me/.kina/pki",
            "/home/me/.kina/clusters/data",
            "/home/me/data/../.kina/store.redb",
            "/run",
            "/var/run",
            "/var",
            "/var/run/docker.sock",
            "/run/user",
            "/run/user/1000",
            "/run/user/1000/podman",
            "/opt/mine/podman.sock",
            "/run/containerd",
        ] {
            let refused = policy.refuse(&files(), Path::new(path), Declared::Here);
            assert!(policy.refuse_text(Path::new(path)).is_some(), "{path}");
            told.push_str(&format!("{}\n", refused.expect(path).why));
        }
        insta::assert_snapshot!(told);
        for path in ["/home/me/data", "/srv", "/home/me/.kinas", "/run/lock", "/var/lib/x", "/etc"] {
            assert_eq!(judged(&policy, path, Declared::Here), None, "{path}");
            assert_eq!(policy.refuse_text(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn links_are_judged_by_where_they_lead() {
        let policy = MountPolicy::new(Path::new(HOME), &[PathBuf::from("/srv/team")]);
        let files = files();
        for (target, link) in [
            ("/", "/srv/team/root"),
            ("../../home/me/.kina", "/srv/team/keys"),
            ("/var/run/docker.sock", "/srv/team/socket"),
            ("/etc", "/srv/team/etc"),
        ] {
            files.link(Path::new(target), Path::new(link)).unwrap();
        }
        files.create_directories(Path::new("/var/run"), 0o755).unwrap();
        files.write(Path::new("/var/run/docker.sock"), b"", 0o600).unwrap();
        files.create_directories(Path::new("/etc"), 0o755).unwrap();
        let why = |path: &str, declared| policy.refuse(&files, Path::new(path), declared).map(|refused| refused.why);
        for link in ["root", "keys", "keys/pki", "socket", "root/home/me/.kina/pki"] {
            let path = format!("/srv/team/{link}");
            assert!(why(&path, Declared::Here).is_some_and(|why| why.contains("leads to")), "{path}");
        }
        assert_eq!(why("/srv/team/etc", Declared::Here), None);
        assert_eq!(
            why("/srv/team/etc", Declared::Git).unwrap(),
            "`/srv/team/etc` leads to `/etc`, which is not for a manifest from a git checkout unless it is allowed"
        );
        assert_eq!(why("/srv/team/new/sub", Declared::Git), None);
        assert!(why("/srv/team/../other", Declared::Git).is_some());
    }

    #[test]
    fn what_is_sensitive_has_to_be_allowed_by_its_own_name() {
        let above = MountPolicy::new(Path::new(HOME), &[PathBuf::from("/"), PathBuf::from("/home/me")]);
        assert_eq!(judged(&above, "/", Declared::Here), None);
        assert_eq!(judged(&above, "/home/me", Declared::Git), None);
        assert!(judged(&above, HOME, Declared::Here).is_some());
        assert!(judged(&above, "/var/run/docker.sock", Declared::Here).is_some());
        let socket = MountPolicy::new(Path::new(HOME), &[PathBuf::from("/var/run/docker.sock")]);
        assert_eq!(judged(&socket, "/var/run/docker.sock", Declared::Here), None);
        assert_eq!(socket.refuse_text(Path::new("/var/run/./docker.sock")), None);
        assert!(judged(&socket, "/var/run", Declared::Here).is_some());
    }

    #[test]
    fn mounts_from_elsewhere_have_to_lie_below_what_is_allowed() {
        let policy = MountPolicy::new(Path::new(HOME), &[PathBuf::from("/srv/team/")]);
        for declared in [Declared::Git, Declared::Web] {
            assert_eq!(judged(&policy, "/srv/team/data", declared), None);
            assert_eq!(judged(&policy, "/srv/team", declared), None);
            assert!(judged(&policy, "/srv/teams", declared).is_some());
            assert!(judged(&policy, "/srv", declared).is_some());
        }
    }

    #[test]
    fn a_socket_and_a_home_are_known_on_a_disk_under_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/home/pki")).unwrap();
        std::os::unix::fs::symlink(root.join("real/home"), root.join("home")).unwrap();
        std::fs::create_dir(root.join("user")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("user/podman.sock")).unwrap();
        let policy = MountPolicy::new(&root.join("home"), &[]);
        let refused = |path: &str| policy.refuse(&Disk, &root.join(path), Declared::Here).is_some();
        assert!(refused("user") && refused("user/podman.sock"));
        assert!(refused("home") && refused("real/home") && refused("real/home/pki") && refused("real"));
        assert!(refused("real/home/not/there"));
        assert!(!refused("other"));
    }
}
