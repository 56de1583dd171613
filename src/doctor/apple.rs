//! Apple Container: the Mac, the command, its service, and what that shows.

use super::Finding;
use super::facts::{AppleFacts, CommandFacts};
use crate::runtime::apple::mac::{Mac, NETWORKS_SINCE};
use crate::runtime::apple::version::{NEWEST, OLDEST, RECOMMENDED};
use crate::runtime::apple::{START_SERVICE, Service};

/// A listing takes milliseconds.
const SLOW_SECONDS: u64 = 3;
/// macOS gives networks a /24 each out of `192.168.64.0` to `192.168.127.0` (as seen by others), and `default` has one.
const NETWORKS: usize = 64;
const NETWORKS_MANY: usize = 56;
const RELEASES: &str = "https://github.com/apple/container/releases";
const CHECKS: [&str; 5] = ["container", "service", "kernel", "listing", "networks"];

/// What there is, each thing only where those before it are there.
pub fn findings(facts: &AppleFacts) -> Vec<Finding> {
    let mut found = vec![mac(facts.mac.as_ref())];
    let why = match &facts.command {
        None => {
            let next = format!("install it: {RELEASES}");
            found.push(Finding::missing("container", "Apple Container's command is not installed", next));
            Some("there is no `container`")
        }
        Some(command) => {
            let makes_networks = facts.mac.as_ref().is_none_or(Mac::has_networks);
            command_findings(command, makes_networks, &mut found)
        }
    };
    if let Some(why) = why {
        let seen = found.len() - 1;
        found.extend(CHECKS[seen..].iter().map(|check| Finding::skipped(check, why)));
    }
    found
}

fn mac(mac: Option<&Mac>) -> Finding {
    const CHECK: &str = "macOS";
    let Some(mac) = mac else {
        return Finding::note(CHECK, "this is no Mac: `container` is what `KINA_RUNTIME` says it is");
    };
    if mac.has_apple_silicon == Some(false) {
        let next = "use Docker or Podman on this Mac: `KINA_RUNTIME=docker`";
        return Finding::missing(
            CHECK,
            "this Mac has a processor of Intel's; Apple Container needs Apple silicon",
            next,
        );
    }
    match mac.major() {
        Some(_) if !mac.has_networks() => {
            let cause = format!(
                "{}: before macOS {NETWORKS_SINCE} containers do not reach each other: clusters of one control plane alone work",
                mac.version
            );
            let next = format!("for more nodes update to macOS {NETWORKS_SINCE}, or use Docker: `KINA_RUNTIME=docker`");
            Finding::warning(CHECK, cause, next)
        }
        Some(_) => Finding::ok(CHECK, format!("{} on Apple silicon", mac.version)),
        None => Finding::note(CHECK, format!("its version could not be understood: {:?}", mac.version)),
    }
}

/// Tells why the rest was not looked at, where it was not.
fn command_findings(command: &CommandFacts, makes_networks: bool, found: &mut Vec<Finding>) -> Option<&'static str> {
    let path = command.path.display();
    let version = match &command.found.version {
        Ok(version) => *version,
        Err(error) => {
            let failed = Finding::failed("container", error);
            let next = failed.next.clone().unwrap_or_else(|| format!("install {RECOMMENDED} or newer: {RELEASES}"));
            found.push(Finding { cause: format!("{path}: {}", failed.cause), next: Some(next), ..failed });
            return Some("the command cannot be driven");
        }
    };
    found.push(if version < RECOMMENDED {
        let cause = format!("{version} at {path}: it works, and {RECOMMENDED} is the first with all that nodes need");
        Finding::warning("container", cause, format!("update it: {RELEASES}"))
    } else if version > NEWEST {
        Finding::note("container", format!("{version} at {path}; Kina knows {OLDEST} to {NEWEST}"))
    } else {
        Finding::ok("container", format!("{version} at {path}"))
    });
    let service = match command.found.service.as_ref()? {
        Ok(service) if !service.runs() => {
            let cause = format!("Apple Container's service does not run: it is {}", service.status);
            let start = format!("start it: `{START_SERVICE}`");
            found.push(Finding { is_of_service: true, ..Finding::missing("service", cause, start) });
            return Some("the service does not run");
        }
        Ok(service) => service,
        Err(error) => {
            found.push(Finding::failed("service", error));
            return Some("the service does not answer");
        }
    };
    found.push(of_service(service, command));
    found.push(kernel(service));
    found.extend(listing(command, makes_networks));
    None
}

fn of_service(service: &Service, command: &CommandFacts) -> Finding {
    match (service.version, command.version()) {
        (Some(served), Some(version)) if served != version => Finding::warning(
            "service",
            format!("it runs as {served}, and the command is {version}: what one says the other may not understand"),
            format!("start it anew, which stops containers: `container system stop`, `{START_SERVICE}`"),
        ),
        (Some(served), _) => Finding::ok("service", format!("it runs, {served}")),
        (None, _) => Finding::ok("service", "it runs"),
    }
}

fn kernel(service: &Service) -> Finding {
    match service.has_kernel {
        Some(true) => Finding::ok("kernel", "machines have one"),
        Some(false) => Finding::missing(
            "kernel",
            "no kernel is installed for machines",
            "install it: `container system kernel set --recommended`",
        ),
        None => Finding::note("kernel", "the service's directory cannot be seen: the first start of a machine tells"),
    }
}

fn listing(command: &CommandFacts, makes_networks: bool) -> Vec<Finding> {
    let Some((listing, took)) = &command.found.listing else { return Vec::new() };
    let listing = match listing {
        Ok(listing) => listing,
        Err(error) => {
            return vec![Finding::failed("listing", error), Finding::skipped("networks", "nothing could be listed")];
        }
    };
    let seconds = took.as_secs();
    let count = format!("{} containers, {} volumes", listing.containers.len(), listing.volumes.len());
    let listed = if seconds >= SLOW_SECONDS {
        let cause = format!("{count}, after {seconds} s: the service is busy, or hangs now and then");
        Finding::warning("listing", cause, "if it stays so: `container system stop`, then start it again")
    } else {
        Finding::ok("listing", count)
    };
    let networks = listing.networks.len();
    let many = format!("{networks} networks: macOS has room for some {NETWORKS}, one a cluster");
    let of_networks = match networks {
        _ if !makes_networks => {
            Finding::note("networks", "the default one alone: the only node of each cluster is in it")
        }
        NETWORKS_MANY.. => {
            Finding::warning("networks", many, "remove those that nobody uses: `container network list`")
        }
        1 => Finding::ok("networks", "1 network; each cluster gets one of its own"),
        _ => Finding::ok("networks", format!("{networks} networks; each cluster gets one of its own")),
    };
    vec![listed, of_networks]
}
