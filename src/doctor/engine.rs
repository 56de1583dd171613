//! Docker, or what speaks as it does, and the kernel below it.

use super::facts::{HostFacts, LinuxFacts};
use super::{Finding, State};
use crate::api::cidr::Cidr;
use crate::api::defaults::NODE_SUBNETS;
use crate::api::versions;
use crate::controllers::{host, subnets};
use crate::runtime::Listing;
use crate::runtime::docker::{EngineFacts, Examination};

/// Of Docker 20.10.
const API: (u16, u16) = (1, 41);
/// From this minor version on a kubelet refuses cgroup v1 unless it is told not to, as Kina tells it.
const CGROUPS_MINOR: u32 = 35;
/// What kind asks for: nodes watch many files, and all of them as one user of the host.
const INSTANCES: u64 = 512;
const WATCHES: u64 = 524_288;
const CHECKS: [&str; 6] = ["engine", "cgroups", "privileges", "inotify", "overlay", "subnets"];

/// What there is, each thing only where those before it are there.
pub fn findings(facts: Option<&Examination>, host: &HostFacts) -> Vec<Finding> {
    let skipped = |why: &'static str| CHECKS[1..].iter().map(move |check| Finding::skipped(check, why));
    let Some(examination) = facts else {
        let cause = "no container runtime is installed: clusters would be simulated, with no container behind them";
        let next = "install Docker or Podman, and start it";
        return std::iter::once(Finding::missing("engine", cause, next)).chain(skipped("there is no engine")).collect();
    };
    let engine = match &examination.engine {
        Ok(engine) => engine,
        Err(error) => {
            return std::iter::once(silent(examination, &error.message))
                .chain(skipped("the engine does not answer"))
                .collect();
        }
    };
    // A kernel that is not this host's is one of a virtual machine: its settings are not to be seen from here.
    let linux = host.linux.as_ref().filter(|linux| linux.release == engine.kernel);
    vec![
        version(examination, engine),
        cgroups(engine),
        privileges(engine),
        inotify(linux),
        overlay(engine, linux),
        free_subnets(examination.listing.as_ref()),
    ]
}

fn silent(examination: &Examination, message: &str) -> Finding {
    let place = examination.place.as_deref();
    let cause = match place {
        Some(place) if !message.contains(place) => format!("{place}: {message}"),
        _ => message.to_owned(),
    };
    if message.to_lowercase().contains("permission denied") {
        let next =
            "be in the group `docker` (and log in again), or use an engine of your own: `DOCKER_HOST`, a context";
        return Finding::missing("engine", cause, next);
    }
    match place {
        Some(_) => {
            Finding::missing("engine", cause, "start the engine: `sudo systemctl start docker`, or Podman's socket")
        }
        // It says itself what to do.
        None => Finding::new("engine", State::Missing, cause),
    }
}

fn version(examination: &Examination, engine: &EngineFacts) -> Finding {
    let place = examination.place.as_deref().unwrap_or("?");
    let EngineFacts { name, version, api_version, operating_system, .. } = engine;
    let told = format!("{name} {version} (API {api_version}) at {place}, on {operating_system}");
    let mut parts = api_version.split('.').map(|part| part.parse::<u16>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) < API => {
            let cause = format!("{told}: older than what Kina was tried on");
            Finding::warning("engine", cause, "update it to Docker 20.10 or newer")
        }
        _ => Finding::ok("engine", told),
    }
}

fn cgroups(engine: &EngineFacts) -> Finding {
    match engine.cgroup_version {
        Some(1) => {
            let cause = format!(
                "version 1: Kubernetes 1.{CGROUPS_MINOR} and newer, {} by default, are not made for it any more",
                versions::DEFAULT
            );
            let next = format!(
                "boot with cgroup v2 (`systemd.unified_cgroup_hierarchy=1`), or say `kubernetesVersion: v1.{}.…`",
                CGROUPS_MINOR - 1
            );
            Finding::warning("cgroups", cause, next)
        }
        Some(version) => Finding::ok("cgroups", format!("version {version}")),
        None => Finding::note("cgroups", "the engine does not say which version"),
    }
}

fn privileges(engine: &EngineFacts) -> Finding {
    match (engine.rootless, engine.cgroup_version) {
        (false, _) => Finding::ok("privileges", "the engine runs as root: nodes may be privileged containers"),
        (true, Some(1)) => Finding::missing(
            "privileges",
            "the engine runs without root, and cgroup v1 hands no limits on to it",
            "boot with cgroup v2, or use an engine with root",
        ),
        (true, _) => Finding::warning(
            "privileges",
            "the engine runs without root: nodes need the controllers cpu, cpuset, io, memory and pids delegated",
            "see https://kind.sigs.k8s.io/docs/user/rootless",
        ),
    }
}

fn inotify(linux: Option<&LinuxFacts>) -> Finding {
    const CHECK: &str = "inotify";
    let Some(linux) = linux else { return elsewhere(CHECK) };
    let (Some(instances), Some(watches)) = (linux.inotify_instances, linux.inotify_watches) else {
        return Finding::skipped(CHECK, "the kernel does not tell its limits");
    };
    let told = format!("max_user_instances {instances}, max_user_watches {watches}");
    if instances >= INSTANCES && watches >= WATCHES {
        return Finding::ok(CHECK, told);
    }
    let raised = [("instances", instances, INSTANCES), ("watches", watches, WATCHES)];
    let raised = raised.iter().filter(|(_, has, wants)| has < wants);
    let words: Vec<String> = raised.map(|(what, _, wants)| format!("fs.inotify.max_user_{what}={wants}")).collect();
    let cause = format!("{told}: with several nodes kubelets and systemd fail with `too many open files`");
    let next = format!("`sudo sysctl {}`, and the same in /etc/sysctl.d", words.join(" "));
    Finding::warning(CHECK, cause, next)
}

fn overlay(engine: &EngineFacts, linux: Option<&LinuxFacts>) -> Finding {
    const CHECK: &str = "overlay";
    let Some(linux) = linux else { return elsewhere(CHECK) };
    match (linux.knows_overlay, engine.storage.as_str()) {
        (true, storage) => Finding::ok(CHECK, format!("the kernel stacks images; the engine uses {storage}")),
        (false, storage) => Finding::warning(
            CHECK,
            format!("the kernel does not know overlayfs now; the engine uses {storage}"),
            "`sudo modprobe overlay`; without it nodes cannot stack images",
        ),
    }
}

fn elsewhere(check: &'static str) -> Finding {
    Finding::skipped(check, "the engine has a kernel of its own, in a virtual machine")
}

fn free_subnets(listing: Option<&Result<Listing, crate::runtime::RuntimeError>>) -> Finding {
    const CHECK: &str = "subnets";
    let listing = match listing {
        Some(Ok(listing)) => listing,
        Some(Err(error)) => return Finding::failed(CHECK, error),
        None => return Finding::skipped(CHECK, "nothing was listed"),
    };
    let taken: Vec<Cidr> = host::subnets(listing);
    match subnets::free_subnet(taken.iter()) {
        Some(subnet) => Finding::ok(CHECK, format!("{subnet} is free for a cluster's machines")),
        None => Finding::missing(
            CHECK,
            format!("no /24 of {NODE_SUBNETS} is free: networks and routes of this host have them all"),
            "say `networking.nodeSubnet` in the manifest, or remove networks",
        ),
    }
}
