//! Containers as real ones of Docker: what Kina does with Apple Container then ends in a real cluster.
//!
//! Names, states and addresses stay the stand-in's: it says which address a container has, and Docker gives it that one.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Said;
use super::say::Refusal;
use super::state::Place;

/// On everything that is made, with the directory of the stand-in that made it.
const LABEL: &str = "container.stand-in";

/// What Docker says, or why it does not.
fn docker(arguments: &[String]) -> Result<String, String> {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("docker: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Several stand-ins may be on one host.
fn name(place: &Place, id: &str) -> String {
    let path = place.path("").display().to_string();
    let hash = path.bytes().fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("stand-in-{hash:08x}-{id}")
}

fn label(place: &Place) -> String {
    format!("--label={LABEL}={}", place.path("").display())
}

fn texts(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

/// A machine of its own is a privileged container here, with what a container on another's kernel needs besides.
pub fn create(place: &Place, id: &str, configuration: &Value) -> Result<(), String> {
    let mut all = words(&["create", "--name", &name(place, id), "--hostname", id, &label(place)]);
    let network = configuration["networks"][0]["network"].as_str().unwrap_or("default");
    all.extend(words(&["--network", &name(place, network)]));
    let capabilities = texts(&configuration["capAdd"]);
    if capabilities.iter().any(|capability| capability == "ALL") {
        all.extend(words(&["--privileged", "--cgroupns=private", "--tmpfs=/tmp", "--tmpfs=/run", "--volume=/var"]));
    } else {
        all.extend(capabilities.iter().map(|each| format!("--cap-add={}", each.trim_start_matches("CAP_"))));
        if configuration["readonlyPaths"] == json!([]) {
            all.extend(words(&["--security-opt", "systempaths=unconfined"]));
        }
    }
    all.extend(texts(&configuration["initProcess"]["environment"]).into_iter().map(|pair| format!("--env={pair}")));
    all.extend(
        texts(&configuration["dns"]["searchDomains"]).into_iter().map(|domain| format!("--dns-search={domain}")),
    );
    for port in configuration["publishedPorts"].as_array().into_iter().flatten() {
        let address = port["hostAddress"].as_str().unwrap_or_default();
        let protocol = port["proto"].as_str().unwrap_or("tcp");
        all.push(format!("--publish={address}:{}:{}/{protocol}", port["hostPort"], port["containerPort"]));
    }
    for mount in configuration["mounts"].as_array().into_iter().flatten() {
        let target = mount["destination"].as_str().unwrap_or_default();
        let options = texts(&mount["options"]).join(",");
        let options = if options.is_empty() { options } else { format!(":{options}") };
        match mount["type"]["volume"]["name"].as_str() {
            Some(volume) => all.push(format!("--volume={}:{target}", place.volume(volume).display())),
            None if mount["type"].get("virtiofs").is_some() => {
                all.push(format!("--volume={}:{target}{options}", mount["source"].as_str().unwrap_or_default()));
            }
            None => all.push(format!("--tmpfs={target}")),
        }
    }
    let process = &configuration["initProcess"];
    all.push(format!("--entrypoint={}", process["executable"].as_str().unwrap_or_default()));
    all.push(configuration["image"]["reference"].as_str().unwrap_or_default().to_owned());
    all.extend(texts(&process["arguments"]));
    docker(&all).map(|_| ())
}

/// Starts it with the address that it is to have this time.
pub fn start(place: &Place, id: &str, attachments: &[Value]) -> Result<(), String> {
    let container = name(place, id);
    for attachment in attachments {
        let network = name(place, attachment["network"].as_str().unwrap_or_default());
        let address = attachment["ipv4Address"].as_str().unwrap_or_default();
        let address = address.split_once('/').map_or(address, |(address, _)| address);
        // It may be on it by its creation, or by its last start, or not any more.
        let _ = docker(&words(&["network", "disconnect", "--force", &network, &container]));
        docker(&words(&["network", "connect", "--ip", address, &network, &container]))?;
    }
    docker(&words(&["start", &container])).map(|_| ())
}

/// What its first process wrote.
pub fn log(place: &Place, id: &str) -> String {
    let output = Command::new("docker").args(["logs", &name(place, id)]).output();
    output
        .map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        .unwrap_or_default()
}

/// Whether its first process still runs.
pub fn runs(place: &Place, id: &str) -> bool {
    let state = docker(&words(&["inspect", "--format", "{{.State.Running}}", &name(place, id)]));
    state.is_ok_and(|state| state.trim() == "true")
}

pub fn stop(place: &Place, id: &str) {
    // One that is gone has stopped.
    let _ = docker(&words(&["stop", "--time", "10", &name(place, id)]));
}

pub fn kill(place: &Place, id: &str) {
    let _ = docker(&words(&["kill", &name(place, id)]));
}

pub fn delete(place: &Place, id: &str) {
    let _ = docker(&words(&["rm", "--force", "--volumes", &name(place, id)]));
}

pub fn create_network(place: &Place, network: &str, prefix: &str) -> Result<(), String> {
    let subnet = format!("--subnet={prefix}.0/24");
    docker(&words(&["network", "create", &label(place), &subnet, &name(place, network)])).map(|_| ())
}

pub fn delete_network(place: &Place, network: &str) {
    let _ = docker(&words(&["network", "rm", &name(place, network)]));
}

/// What an image says about its containers.
pub fn image(reference: &str) -> Value {
    let told = docker(&words(&["image", "inspect", "--format", "{{json .Config}}", reference]));
    told.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Writes images as Docker does.
pub fn save(references: &[String], file: &str) -> Result<(), String> {
    let mut all = words(&["save", "--output", file]);
    all.extend_from_slice(references);
    docker(&all).map(|_| ())
}

/// Runs a command in a container, with this program's own streams. `Ok(None)` where there is no such program.
pub fn exec(place: &Place, id: &str, is_interactive: bool, command: &[String]) -> Result<Option<Said>, Refusal> {
    let mut docker = Command::new("docker");
    docker.arg("exec").args(is_interactive.then_some("--interactive")).arg(name(place, id)).args(command);
    docker.stdin(if is_interactive { Stdio::inherit() } else { Stdio::null() });
    docker.stdout(Stdio::inherit()).stderr(Stdio::piped());
    let output = docker.spawn().and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|error| Refusal::error(format!("docker: {error}")))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if stderr.contains("executable file not found") {
        return Ok(None);
    }
    Ok(Some(Said { stdout: String::new(), stderr, code: output.status.code().unwrap_or(137) }))
}

/// A refusal in the words of a machine that does not boot.
pub fn refused<T>(result: Result<T, String>) -> Result<T, Refusal> {
    result.map_err(|message| Refusal::error(format!(r#"internalError: "{message}""#)))
}

/// Removes whatever a stand-in left.
pub fn sweep(place: &Place) {
    let filter = format!("--filter=label={LABEL}={}", place.path("").display());
    for (list, remove) in [
        (["ps", "--all", "--quiet"].as_slice(), ["rm", "--force", "--volumes"].as_slice()),
        (["network", "ls", "--quiet"].as_slice(), ["network", "rm"].as_slice()),
    ] {
        let found = docker(&[words(list), vec![filter.clone()]].concat()).unwrap_or_default();
        for id in found.split_whitespace() {
            let _ = docker(&[words(remove), words(&[id])].concat());
        }
    }
}
