//! Containers: listed, started, stopped, deleted.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::flags::{Words, one, parse, switch, value};
use super::inside;
use super::say::Refusal;
use super::state::{ContainerState, State, What};
use super::{Answer, Said, Scene, engine, now, wait};

/// As this version shows a container.
fn document(scene: &Scene, id: &str, container: &ContainerState, lies: bool) -> Value {
    let mut configuration = container.configuration.clone();
    if scene.version < (1, 2, 0)
        && let Some(configuration) = configuration.as_object_mut()
    {
        configuration.remove("maskedPaths");
        configuration.remove("readonlyPaths");
    }
    let runs = container.runs && !lies;
    let mut attachments = if runs { container.attachments.clone() } else { Vec::new() };
    if scene.version < (1, 1, 0) {
        for attachment in attachments.iter_mut().filter_map(Value::as_object_mut) {
            attachment.remove("variant");
        }
    }
    let mut status = json!({ "networks": attachments, "state": if runs { "running" } else { "stopped" } });
    if let Some(started) = &container.started {
        status["startedDate"] = json!(started);
    }
    json!({ "configuration": configuration, "id": id, "status": status })
}

pub fn list(scene: &Scene, arguments: &[String], fault: Option<&What>) -> Answer {
    let known = [switch("all", 'a'), value("format", ' '), switch("quiet", 'q'), switch("debug", ' ')];
    let line = parse("list", &known, Words::Mixed, arguments)?;
    scene.service(true)?;
    let lies = fault == Some(&What::ListStopped);
    let all: Vec<Value> = scene.place.with(|state| {
        if scene.control.docker {
            // A first process may have ended by itself.
            let ended =
                |(id, container): &(&String, &mut ContainerState)| container.runs && !engine::runs(&scene.place, id);
            for (_, container) in state.containers.iter_mut().filter(ended) {
                container.runs = false;
                container.attachments.clear();
            }
        }
        let shown = state.containers.iter().filter(|(_, container)| line.has("all") || (container.runs && !lies));
        let shown =
            shown.filter(|(_, container)| container.configuration["labels"]["com.apple.container.plugin"] != "machine");
        shown.map(|(id, container)| document(scene, id, container, lies)).collect()
    });
    let all = scene.shuffled(all);
    match line.get("format") {
        Some("json") => Ok(Said::line(scene.encoding().line(&Value::from(all)))),
        _ if line.has("quiet") => {
            let lines = all.iter().map(|found| format!("{}\n", found["id"].as_str().unwrap_or_default()));
            Ok(Said { stdout: lines.collect(), ..Said::default() })
        }
        _ => Ok(Said::line("ID  IMAGE  OS  ARCH  STATE  IP  CPUS  MEMORY  STARTED")),
    }
}

pub fn inspect(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("inspect", &[], Words::Mixed, arguments)?;
    scene.service(true)?;
    let mut ids = line.words.clone();
    ids.sort_unstable();
    ids.dedup();
    let (found, missing) = scene.place.with(|state| {
        let missing: Vec<String> = ids.iter().filter(|id| !state.containers.contains_key(*id)).cloned().collect();
        let found = ids.iter().filter_map(|id| Some(document(scene, id, state.containers.get(id)?, false)));
        (found.collect::<Vec<_>>(), missing)
    });
    match missing.is_empty() {
        true => Ok(Said::line(scene.encoding().pretty(&Value::from(scene.shuffled(found))))),
        false => Err(Refusal::error(format!("container not found: {}", missing.join(", ")))),
    }
}

pub fn start(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("start", &[switch("attach", 'a'), switch("interactive", 'i')], Words::Mixed, arguments)?;
    let id = one("start", "container-id", &line)?;
    scene.service(true)?;
    let found = scene.place.with(|state| state.containers.get(id).map(|container| container.runs));
    match found {
        None => return Err(Refusal::error(format!("get failed: container {id} not found"))),
        Some(true) if line.has("attach") || line.has("interactive") => {
            return Err(Refusal::error("attach is currently unsupported on already running containers"));
        }
        Some(true) => return Ok(Said::line(id)),
        Some(false) => {}
    }
    // Machines boot one at a time.
    let _api = scene.place.lock("apiserver.lock");
    wait(Duration::from_millis(scene.control.boot_milliseconds));
    scene.place.with(|state| {
        let Some(container) = state.containers.get(id) else {
            return Err(Refusal::error(format!("get failed: container {id} not found")));
        };
        let configuration = container.configuration.clone();
        check_mounts(&configuration)?;
        let bootstrap = |cause: &str| {
            let inner = format!(r#"failed to bootstrap container {id} (cause: "{cause}")"#);
            Refusal::error(format!(r#"failed to bootstrap container (cause: "internalError: "{inner}"")"#))
        };
        if let Some(cause) = in_the_way(state, id, &configuration) {
            return Err(bootstrap(&cause));
        }
        let attachments = attach(state, &configuration).map_err(|cause| bootstrap(&cause))?;
        let log = match scene.control.docker {
            true => {
                engine::start(&scene.place, id, &attachments).map_err(|cause| bootstrap(&cause))?;
                Ok("started\n".to_owned())
            }
            false => inside::begin(&scene.place, id, &configuration),
        };
        let Some(container) = state.containers.get_mut(id) else { return Ok(Said::line(id)) };
        container.runs = log.is_ok();
        container.started = Some(now());
        container.attachments = attachments;
        container.log = Some(log.unwrap_or_else(|error| error));
        Ok(Said::line(id))
    })
}

fn check_mounts(configuration: &Value) -> Result<(), Refusal> {
    for mount in configuration["mounts"].as_array().into_iter().flatten() {
        let source = mount["source"].as_str().unwrap_or_default();
        if mount["type"].get("virtiofs").is_some() && !std::path::Path::new(source).exists() {
            return Err(Refusal::error(format!("mount source path '{source}' does not exist")));
        }
    }
    Ok(())
}

/// What keeps a machine from booting: another has its ports, or its disks.
fn in_the_way(state: &State, id: &str, configuration: &Value) -> Option<String> {
    let entries = |configuration: &Value, key: &str| configuration[key].as_array().cloned().unwrap_or_default();
    let others = || state.containers.iter().filter(|(other, container)| *other != id && container.runs);
    for port in entries(configuration, "publishedPorts") {
        let same = |other: &Value| other["hostPort"] == port["hostPort"] && other["proto"] == port["proto"];
        let of_another = others().any(|(_, other)| entries(&other.configuration, "publishedPorts").iter().any(same));
        let address = port["hostAddress"].as_str().unwrap_or_default();
        let number = port["hostPort"].as_u64().unwrap_or_default();
        let of_host = port["proto"] == "tcp" && TcpListener::bind(format!("{address}:{number}")).is_err();
        if of_another || of_host {
            return Some(r#"unknown: "bind(descriptor:ptr:bytes:): Address already in use) (errno: 48)""#.to_owned());
        }
    }
    for mount in entries(configuration, "mounts") {
        let name = &mount["type"]["volume"]["name"];
        let same = |other: &Value| !name.is_null() && other["type"]["volume"]["name"] == *name;
        if others().any(|(_, other)| entries(&other.configuration, "mounts").iter().any(same)) {
            let info = "NSLocalizedFailure=Invalid virtual machine configuration., NSLocalizedFailureReason=The storage \
                        device attachment is invalid.";
            return Some(format!(
                r#"unknown: "Error Domain=VZErrorDomain Code=2 "The storage device attachment is invalid." UserInfo={{{info}}}""#
            ));
        }
    }
    None
}

/// Gives addresses: the next ones, whatever the container had before.
fn attach(state: &mut State, configuration: &Value) -> Result<Vec<Value>, String> {
    let held: Vec<String> = state
        .containers
        .values()
        .filter(|container| container.runs)
        .flat_map(|container| &container.attachments)
        .filter_map(|attachment| attachment["ipv4Address"].as_str().map(str::to_owned))
        .collect();
    let mut all = Vec::new();
    for wanted in configuration["networks"].as_array().into_iter().flatten() {
        let name = wanted["network"].as_str().unwrap_or_default();
        let index = state.networks.keys().position(|network| network == name).unwrap_or_default();
        let Some(network) = state.networks.get_mut(name).filter(|network| !network.is_missing) else {
            return Err(format!(r#"notFound: "no network for id {name}""#));
        };
        let mut address = None;
        for _ in 2..=253 {
            let candidate = format!("{}.{}/24", network.prefix, network.next);
            network.next = if network.next >= 253 { 2 } else { network.next + 1 };
            if !held.contains(&candidate) {
                address = Some(candidate);
                break;
            }
        }
        let Some(address) = address else {
            return Err(r#"internalError: "no free indices are available for allocation""#.to_owned());
        };
        let last = network.next;
        let mac = wanted["options"]["macAddress"].as_str().map_or(format!("fa:61:5e:f2:f4:{last:02x}"), str::to_owned);
        all.push(json!({
            "hostname": wanted["options"]["hostname"], "ipv4Address": address,
            "ipv4Gateway": format!("{}.1", network.prefix),
            "ipv6Address": ipv6(&mac, index), "macAddress": mac, "mtu": wanted["options"]["mtu"], "network": name,
            "variant": "reserved",
        }));
    }
    Ok(all)
}

/// Derived from the hardware address.
fn ipv6(mac: &str, network: usize) -> String {
    let parts: Vec<u16> = mac.split(':').map(|part| u16::from_str_radix(part, 16).unwrap_or_default()).collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    let words = [
        0xfd97,
        0x7f2f,
        0x97db,
        0x3103 + u16::try_from(network).unwrap_or_default(),
        (part(0) ^ 2) << 8 | part(1),
        part(2) << 8 | 0xff,
        0xfe00 | part(3),
        part(4) << 8 | part(5),
    ];
    format!("{}/64", std::net::Ipv6Addr::from(words))
}

/// Runs a command over several containers, each by itself.
fn each(
    scene: &Scene,
    line: &super::flags::Line,
    what: &str,
    change: impl Fn(&mut State, &str) -> Result<(), String>,
) -> Answer {
    if line.words.is_empty() && !line.has("all") {
        return Err(Refusal::error("no containers specified and --all not supplied"));
    }
    if !line.words.is_empty() && line.has("all") {
        return Err(Refusal::error("explicitly supplied container ID(s) conflict with the --all flag"));
    }
    scene.service(true)?;
    let (mut stdout, mut failures) = (String::new(), Vec::new());
    scene.place.with(|state| {
        let ids = match line.has("all") {
            true => state.containers.keys().cloned().collect(),
            false => line.words.clone(),
        };
        for id in scene_order(ids) {
            let result = match state.containers.contains_key(&id) {
                true => change(state, &id),
                false => Err(format!(r#"notFound: "container with ID {id} not found""#)),
            };
            match result {
                Ok(()) => stdout.push_str(&format!("{id}\n")),
                Err(cause) => {
                    failures.push(format!(r#"internalError: "failed to {what} container" (cause: "{cause}")"#))
                }
            }
        }
    });
    let stderr = if failures.is_empty() { String::new() } else { Refusal::aggregate(&failures).text };
    Ok(Said { stdout, stderr, code: i32::from(!failures.is_empty()) })
}

/// They end in any order; one that is not the given one will do.
fn scene_order(mut ids: Vec<String>) -> Vec<String> {
    ids.reverse();
    ids
}

fn halt(state: &mut State, id: &str) {
    if let Some(container) = state.containers.get_mut(id) {
        container.runs = false;
        container.attachments.clear();
    }
}

pub fn stop(scene: &Scene, arguments: &[String]) -> Answer {
    let known = [switch("all", 'a'), value("signal", 's'), value("time", 't')];
    let line = parse("stop", &known, Words::Mixed, arguments)?;
    each(scene, &line, "stop", |state, id| {
        if scene.control.docker {
            engine::stop(&scene.place, id);
        }
        halt(state, id);
        Ok(())
    })
}

pub fn kill(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("kill", &[switch("all", 'a'), value("signal", 's')], Words::Mixed, arguments)?;
    each(scene, &line, "kill", |state, id| {
        if state.containers.get(id).is_none_or(|container| !container.runs) {
            return Err(r#"invalidState: "no runtime client exists: container is stopped""#.to_owned());
        }
        if scene.control.docker {
            engine::kill(&scene.place, id);
        }
        halt(state, id);
        Ok(())
    })
}

pub fn delete(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("delete", &[switch("all", 'a'), switch("force", 'f')], Words::Mixed, arguments)?;
    let _api = scene.place.lock("apiserver.lock");
    each(scene, &line, "delete", |state, id| {
        let runs = state.containers.get(id).is_some_and(|container| container.runs);
        if runs && !line.has("force") {
            return Err(format!(r#"invalidState: "container {id} is running and can not be deleted""#));
        }
        if scene.control.docker {
            engine::delete(&scene.place, id);
        }
        state.containers.remove(id);
        let _ = std::fs::remove_dir_all(scene.place.root(id));
        Ok(())
    })
}

pub fn logs(scene: &Scene, arguments: &[String]) -> Answer {
    let known = [switch("boot", ' '), switch("follow", 'f'), value("n", 'n')];
    let line = parse("logs", &known, Words::Mixed, arguments)?;
    let id = one("logs", "container-id", &line)?;
    scene.service(true)?;
    let found = scene.place.with(|state| state.containers.get(id).map(|container| container.log.clone()));
    let refused = |cause: &str| {
        let inner = format!("failed to open container logs: {cause}");
        Refusal::error(format!(r#"failed to get logs for container {id} (cause: "internalError: "{inner}"")"#))
    };
    let log = found.ok_or_else(|| refused(&format!(r#"notFound: "container with ID {id} not found""#)))?;
    let mut log = log.ok_or_else(|| refused("no such file"))?;
    if scene.control.docker {
        log = engine::log(&scene.place, id);
    }
    let lines: Vec<&str> = log.trim_matches('\n').lines().collect();
    let kept = match line.get("n").and_then(|count| count.parse::<usize>().ok()) {
        Some(count) => &lines[lines.len().saturating_sub(count)..],
        None => &lines[..],
    };
    Ok(Said::line(kept.join("\n")))
}
