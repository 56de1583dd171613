//! Where the engine listens: what `docker` itself would talk to, or else a socket of Podman's.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::world::FileSystem;

/// Docker's own name for "no context".
const DEFAULT_CONTEXT: &str = "default";
/// A configuration of the `docker` command is a few hundred bytes; a context's a few more.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A way to an engine on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Socket(PathBuf),
    /// `HOST:PORT` without TLS, which is for this host alone.
    Tcp(String),
}

/// What decides where the engine is, as the process was started with it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_directory: Option<PathBuf>,
    /// Directories of `PATH`.
    pub path: Vec<PathBuf>,
}

/// Whether there is an engine here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is one.
    Here(Endpoint),
    /// One is installed or named, and cannot be used: why, and what to do.
    Unusable(String),
    /// None is installed.
    Nothing,
}

impl Surroundings {
    /// Of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = text("HOME").map(PathBuf::from);
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config: text("DOCKER_CONFIG")
                .map(PathBuf::from)
                .or_else(|| home.as_ref().map(|home| home.join(".docker"))),
            home,
            runtime_directory: text("XDG_RUNTIME_DIR").map(PathBuf::from),
            path: std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        }
    }

    /// Where the engine is, in the order in which `docker` decides it: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context,
    /// the default sockets; then Podman's sockets.
    #[must_use]
    pub fn find(&self, files: &dyn FileSystem) -> Found {
        if let Some(host) = &self.docker_host {
            return at(host, "DOCKER_HOST");
        }
        let named = self.docker_context.clone().or_else(|| self.current_context(files));
        if let Some(context) = named.filter(|context| context != DEFAULT_CONTEXT) {
            let origin = format!("the docker context {context}");
            return match self.context_host(files, &context) {
                Some(host) => at(&host, &origin),
                None => Found::Unusable(format!("{origin} has no endpoint: `docker context inspect {context}`")),
            };
        }
        if let Some(socket) = self.sockets().into_iter().find(|path| files.metadata(path).is_ok()) {
            return Found::Here(Endpoint::Socket(socket));
        }
        if self.has_program(files, "dockerd") {
            return Found::Unusable(
                "dockerd is installed and has no socket: start it (`sudo systemctl start docker`)".to_owned(),
            );
        }
        if self.has_program(files, "podman") {
            return Found::Unusable(
                "podman is installed and has no socket: start it (`systemctl --user start podman.socket`)".to_owned(),
            );
        }
        Found::Nothing
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let below = |directory: &Option<PathBuf>, name: &str| directory.as_ref().map(|path| path.join(name));
        let all = [
            Some(PathBuf::from("/var/run/docker.sock")),
            below(&self.runtime_directory, "docker.sock"),
            below(&self.home, ".docker/run/docker.sock"),
            below(&self.runtime_directory, "podman/podman.sock"),
            Some(PathBuf::from("/run/podman/podman.sock")),
        ];
        all.into_iter().flatten().collect()
    }

    fn has_program(&self, files: &dyn FileSystem, name: &str) -> bool {
        self.path.iter().any(|directory| files.metadata(&directory.join(name)).is_ok())
    }

    fn current_context(&self, files: &dyn FileSystem) -> Option<String> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default, rename = "currentContext")]
            current_context: Option<String>,
        }
        let text = files.read(&self.docker_config.as_ref()?.join("config.json"), FILE_BYTES_MAX).ok()?;
        serde_json::from_slice::<Config>(&text).ok()?.current_context.filter(|name| !name.is_empty())
    }

    /// The host of a context. Its directory is named by the hash of its name (docker/cli, `cli/context/store`).
    fn context_host(&self, files: &dyn FileSystem, context: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "Endpoints")]
            endpoints: Endpoints,
        }
        #[derive(Deserialize)]
        struct Endpoints {
            docker: Docker,
        }
        #[derive(Deserialize)]
        struct Docker {
            #[serde(rename = "Host")]
            host: String,
        }
        let id: String = Sha256::digest(context.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.docker_config.as_ref()?.join("contexts/meta").join(id).join("meta.json");
        let meta: Meta = serde_json::from_slice(&files.read(&path, FILE_BYTES_MAX).ok()?).ok()?;
        Some(meta.endpoints.docker.host).filter(|host| !host.is_empty())
    }
}

/// An endpoint as `docker` spells it. Kina reaches nodes through ports of this host, so an engine elsewhere is none for it.
fn at(host: &str, origin: &str) -> Found {
    if let Some(path) = host.strip_prefix("unix://").filter(|path| Path::new(path).is_absolute()) {
        return Found::Here(Endpoint::Socket(PathBuf::from(path)));
    }
    if let Some(address) = host.strip_prefix("tcp://").map(|address| address.trim_end_matches('/')) {
        let name = address.rsplit_once(':').map_or(address, |(name, _)| name);
        if matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
            return Found::Here(Endpoint::Tcp(address.to_owned()));
        }
    }
    Found::Unusable(format!(
        "{origin} is {host}, and Kina works with an engine on this host only: unix:///PATH, or tcp://127.0.0.1:PORT"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    fn files() -> std::sync::Arc<dyn FileSystem> {
        World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap()).files
    }

    fn put(files: &dyn FileSystem, path: &str, text: &str) {
        let path = Path::new(path);
        files.create_directories(path.parent().unwrap(), 0o755).unwrap();
        files.write(path, text.as_bytes(), 0o644).unwrap();
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            docker_config: Some("/home/u/.docker".into()),
            home: Some("/home/u".into()),
            runtime_directory: Some("/run/user/1000".into()),
            path: vec!["/usr/bin".into()],
            ..Surroundings::default()
        }
    }

    fn socket(path: &str) -> Found {
        Found::Here(Endpoint::Socket(path.into()))
    }

    #[test]
    fn nothing_installed_is_no_error() {
        assert_eq!(surroundings().find(&*files()), Found::Nothing);
    }

    #[test]
    fn docker_comes_before_podman_and_the_default_socket_before_a_users_own() {
        let files = files();
        put(&*files, "/run/podman/podman.sock", "");
        assert_eq!(surroundings().find(&*files), socket("/run/podman/podman.sock"));
        put(&*files, "/run/user/1000/podman/podman.sock", "");
        assert_eq!(surroundings().find(&*files), socket("/run/user/1000/podman/podman.sock"));
        put(&*files, "/run/user/1000/docker.sock", "");
        assert_eq!(surroundings().find(&*files), socket("/run/user/1000/docker.sock"));
        put(&*files, "/var/run/docker.sock", "");
        assert_eq!(surroundings().find(&*files), socket("/var/run/docker.sock"));
    }

    #[test]
    fn a_context_counts_before_sockets_and_the_environment_before_a_context() {
        let files = files();
        put(&*files, "/var/run/docker.sock", "");
        put(&*files, "/home/u/.docker/config.json", r#"{"auths": {}, "currentContext": "colima"}"#);
        let id = "f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16";
        let meta = r#"{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///home/u/.colima/docker.sock","SkipTLSVerify":false}}}"#;
        put(&*files, &format!("/home/u/.docker/contexts/meta/{id}/meta.json"), meta);
        assert_eq!(surroundings().find(&*files), socket("/home/u/.colima/docker.sock"));
        let mut named = surroundings();
        named.docker_context = Some("default".into());
        assert_eq!(named.find(&*files), socket("/var/run/docker.sock"));
        named.docker_context = Some("lost".into());
        assert!(matches!(named.find(&*files), Found::Unusable(why) if why.contains("docker context inspect lost")));
        named.docker_host = Some("tcp://127.0.0.1:2375".into());
        assert_eq!(named.find(&*files), Found::Here(Endpoint::Tcp("127.0.0.1:2375".into())));
    }

    #[test]
    fn an_engine_elsewhere_is_refused_with_what_would_do() {
        for host in ["ssh://me@far", "tcp://10.0.0.1:2376", "npipe:////./pipe/docker", "unix://relative"] {
            let named = Surroundings { docker_host: Some(host.into()), ..surroundings() };
            let Found::Unusable(why) = named.find(&*files()) else { panic!("{host} is accepted") };
            assert!(why.starts_with(&format!("DOCKER_HOST is {host}")) && why.contains("unix:///PATH"), "{why}");
        }
    }

    #[test]
    fn an_engine_that_is_installed_and_not_started_is_told() {
        let files = files();
        put(&*files, "/usr/bin/podman", "");
        assert!(matches!(surroundings().find(&*files), Found::Unusable(why) if why.contains("podman.socket")));
        put(&*files, "/usr/bin/dockerd", "");
        assert!(matches!(surroundings().find(&*files), Found::Unusable(why) if why.contains("start docker")));
    }
}
