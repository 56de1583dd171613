//! A stand-in of one's own, and Kina's client of it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use kina::runtime::Runtime;
use kina::runtime::apple::{AppleRuntime, mac};
use kina::world::World;

use crate::stand_in::state::{Control, Fault, Place, What};

/// A host with Apple Container.
pub struct Lab {
    directory: tempfile::TempDir,
    /// What there is on it.
    pub place: Place,
}

impl Lab {
    /// With this version.
    pub fn with(version: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), bin.join("container")).unwrap();
        let place = Place::at(&bin.join("container.state"));
        std::fs::create_dir(bin.join("container.state")).unwrap();
        let lab = Self { directory, place };
        lab.control(|control| {
            control.version = version.to_owned();
            control.registry = [IMAGE.to_owned(), NODE.to_owned()].into();
        });
        lab
    }

    /// A Mac below it, as its own programs tell: a version of macOS, and whether the processor is Apple's.
    pub fn mac(&self, version: &str, has_apple_silicon: bool) {
        let major = version.split('.').next().and_then(|major| major.parse().ok());
        self.control(|control| control.macos = major.unwrap_or(control.macos));
        self.script("sw_vers", &format!("[ \"$1\" = -productVersion ] && echo {version}"));
        let arm = if has_apple_silicon { "echo hw.optional.arm64: 1" } else { "echo unknown oid >&2; exit 1" };
        self.script("sysctl", &format!("echo hw.memsize: 34359738368; echo hw.logicalcpu: 12; {arm}"));
    }

    /// Another program beside the command.
    pub fn script(&self, name: &str, line: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The service's own directory, with or without a kernel in it.
    pub fn kernel(&self, is_there: bool) {
        let kernels = self.path("root/kernels");
        std::fs::create_dir_all(&kernels).unwrap();
        if is_there {
            std::fs::write(kernels.join("default.kernel-arm64"), "").unwrap();
        }
        let root = self.path("root/").display().to_string();
        self.control(|control| (control.root, control.has_kernel) = (root, is_there));
    }

    /// Where the program is.
    pub fn program(&self) -> PathBuf {
        self.directory.path().join("bin/container")
    }

    /// Where Kina stages files.
    pub fn stages(&self) -> PathBuf {
        self.directory.path().join("home/apple")
    }

    /// A directory for anything else.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Changes what is to happen.
    pub fn control(&self, change: impl FnOnce(&mut Control)) {
        self.place.control(change);
    }

    /// Lets the next such call go wrong.
    pub fn fault(&self, on: &str, what: What) {
        self.faults(on, 1, what);
    }

    /// Lets so many such calls go wrong.
    pub fn faults(&self, on: &str, times: u32, what: What) {
        self.control(|control| control.faults.push(Fault { on: on.to_owned(), times, what }));
    }

    /// Runs the program as a person would.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(self.program()).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs it where it has to work, and tells what it printed.
    pub fn say(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it where it has to fail, and tells code and error.
    pub fn refuse(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Whether the program runs, as Linux tells it.
    pub fn has_processes(&self) -> bool {
        let program = self.program().display().to_string();
        let all = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
        all.into_iter().any(|line| String::from_utf8_lossy(&line).starts_with(&program))
    }

    /// Kina's client.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.client())
    }

    /// The same, which knows on which Mac it is.
    pub async fn runtime_on_mac(&self) -> Arc<dyn Runtime> {
        let world = World::real();
        let (mac, size) = mac::look(&[self.directory.path().join("bin")], world.files.as_ref()).await;
        Arc::new(self.client().on(mac, size))
    }

    fn client(&self) -> AppleRuntime {
        AppleRuntime::installed(&[self.directory.path().join("bin")], self.stages(), World::real()).unwrap()
    }
}

/// A small image.
pub const IMAGE: &str = "docker.io/library/busybox:1.37";
/// A node's.
pub const NODE: &str = "docker.io/kindest/node@sha256:ce977ae6d65918d0b58a5f8b5e940429c2ce42fa3a5619ec2bbc60b949c0ac95";
