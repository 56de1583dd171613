//! `container create`: its options, and the configuration that they make.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::flags::{Flag, Line, Words, parse, switch, value};
use super::say::Refusal;
use super::state::{ContainerState, State};
use super::{Answer, Said, Scene, engine, images, networks, now, volumes};

const MIB: u64 = 1 << 20;

/// The options of this version. What it does not have is unknown to it.
fn known((major, minor, patch): (u16, u16, u16)) -> Vec<Flag> {
    let mut all = vec![
        value("name", ' '),
        value("cpus", 'c'),
        value("memory", 'm'),
        value("env", 'e'),
        value("env-file", ' '),
        value("workdir", 'w'),
        value("user", 'u'),
        value("uid", ' '),
        value("gid", ' '),
        switch("interactive", 'i'),
        switch("tty", 't'),
        value("ulimit", ' '),
        value("entrypoint", ' '),
        value("label", 'l'),
        value("network", ' '),
        value("publish", 'p'),
        value("publish-socket", ' '),
        value("volume", 'v'),
        value("mount", ' '),
        value("tmpfs", ' '),
        value("cap-add", ' '),
        value("cap-drop", ' '),
        value("kernel", 'k'),
        value("dns", ' '),
        value("dns-domain", ' '),
        value("dns-search", ' '),
        value("dns-option", ' '),
        switch("no-dns", ' '),
        value("shm-size", ' '),
        switch("init", ' '),
        value("init-image", ' '),
        switch("read-only", ' '),
        switch("rm", ' '),
        value("cidfile", ' '),
        switch("ssh", ' '),
        switch("rosetta", ' '),
        switch("virtualization", ' '),
        value("runtime", ' '),
        value("arch", 'a'),
        value("os", ' '),
        value("platform", ' '),
        value("scheme", ' '),
        value("max-concurrent-downloads", ' '),
        switch("detach", 'd'),
        switch("debug", ' '),
    ];
    if (major, minor) >= (1, 2) {
        all.push(value("kernel-arg", ' '));
    }
    if (major, minor, patch) >= (1, 2, 1) {
        all.extend([value("masked-path", ' '), value("read-only-path", ' ')]);
    }
    all
}

pub fn create(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("create", &known(scene.version), Words::PassedOn, arguments)?;
    let Some((image, command)) = line.words.split_first() else {
        return Err(Refusal::usage("create", "Missing expected argument '<image>'"));
    };
    if line.get("scheme") == Some("auto") && scene.version >= (1, 3, 0) {
        return Err(Refusal::usage("create", "The value 'auto' is invalid for '--scheme <scheme>'"));
    }
    scene.service(false)?;
    let name = name(scene, &line)?;
    // As the real one does: what is not here is pulled.
    let image = images::reference(image);
    if !scene.place.with(|state| state.images.contains(&image)) {
        images::pull_one(scene, &image)?;
    }
    if !scene.control.has_kernel {
        let message = "default kernel not configured for architecture arm64, please use the `container system kernel set` \
                       command to configure it";
        return Err(Refusal::error(message));
    }
    let mut stderr = String::new();
    let _api = scene.place.lock("apiserver.lock");
    scene.place.with(|state| {
        networks::ensure_default(scene, state);
        let configuration = configuration(scene, state, &name, &line, &image, command, &mut stderr)?;
        if state.containers.contains_key(&name) {
            return Err(Refusal::error(match scene.version >= (1, 2, 0) {
                true => format!("container already exists: {name}"),
                false => format!(r#"failed to create container (cause: "exists: "container already exists: {name}"")"#),
            }));
        }
        std::fs::create_dir_all(scene.place.root(&name)).expect("a container");
        if scene.control.docker {
            engine::refused(engine::create(&scene.place, &name, &configuration))?;
        }
        state.containers.insert(name.clone(), ContainerState { configuration, ..ContainerState::default() });
        Ok(Said { stdout: format!("{name}\n"), stderr, code: 0 })
    })
}

fn name(scene: &Scene, line: &Line) -> Result<String, Refusal> {
    let Some(name) = line.get("name") else { return Ok(super::inside::uuid(scene)) };
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let mut valid = name.len() >= 2 && name.chars().all(fits) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    valid &= scene.version < (1, 2, 0) || name.len() <= 63;
    match valid {
        true => Ok(name.to_owned()),
        false if scene.version >= (1, 2, 0) => {
            Err(Refusal::error(format!("container ID {name} is not a valid container ID")))
        }
        false => Err(Refusal::error(format!("invalid entity name {name}"))),
    }
}

fn configuration(
    scene: &Scene,
    state: &mut State,
    name: &str,
    line: &Line,
    image: &str,
    command: &[String],
    stderr: &mut String,
) -> Result<Value, Refusal> {
    let config = images::config(scene, image);
    let image_words = |key: &str| -> Vec<String> { serde_json::from_value(config[key].clone()).unwrap_or_default() };
    let words: Vec<String> = match line.get("entrypoint") {
        Some(program) => [vec![program.to_owned()], command.to_vec()].concat(),
        None if command.is_empty() => [image_words("Entrypoint"), image_words("Cmd")].concat(),
        None => [image_words("Entrypoint"), command.to_vec()].concat(),
    };
    let mut environment = image_words("Env");
    environment.extend(line.all("env").filter(|pair| pair.contains('=')).map(str::to_owned));
    let cpus: u64 = line.get("cpus").unwrap_or("4").parse().map_err(|_| Refusal::usage("create", "bad --cpus"))?;
    let mut made = json!({
        "capAdd": capabilities(line, "cap-add"), "capDrop": capabilities(line, "cap-drop"), "creationDate": now(),
        "id": name,
        "image": { "descriptor": images::descriptor(image), "reference": image },
        "initProcess": {
            "arguments": words.get(1..).unwrap_or_default(), "environment": environment,
            "executable": words.first().cloned().unwrap_or_default(), "rlimits": rlimits(line),
            "supplementalGroups": [], "terminal": line.has("tty"), "user": { "id": { "gid": 0, "uid": 0 } },
            "workingDirectory": "/",
        },
        "labels": labels(line)?, "mounts": mounts(scene, state, line, stderr)?,
        "networks": attachments(scene, state, name, line)?,
        "platform": { "architecture": "arm64", "os": "linux" },
        "publishedPorts": ports(line)?, "publishedSockets": [], "readOnly": line.has("read-only"),
        "resources": { "cpuOverhead": 1, "cpus": cpus, "memoryInBytes": memory(line.get("memory"))? },
        "rosetta": line.has("rosetta"), "runtimeHandler": "container-runtime-linux", "ssh": line.has("ssh"),
        "sysctls": {}, "useInit": line.has("init"), "virtualization": line.has("virtualization"),
    });
    let whole = |option| line.all(option).map(str::to_owned).collect::<Vec<_>>();
    if !line.has("no-dns") {
        made["dns"] = json!({
            "nameservers": whole("dns"), "options": whole("dns-option"), "searchDomains": whole("dns-search"),
        });
    }
    if let Some(signal) = config.get("StopSignal") {
        made["stopSignal"] = signal.clone();
    }
    for (option, key) in [("masked-path", "maskedPaths"), ("read-only-path", "readonlyPaths")] {
        let mut paths = whole(option);
        if let Some(cleared) = paths.iter().rposition(|path| path == "NONE") {
            paths.drain(..=cleared);
            made[key] = json!(paths);
        } else if !paths.is_empty() {
            made[key] = json!(paths);
        }
    }
    Ok(made)
}

fn capabilities(line: &Line, option: &str) -> Vec<String> {
    let whole = |name: &str| match name.to_uppercase() {
        name if name == "ALL" || name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    line.all(option).map(whole).collect()
}

fn rlimits(line: &Line) -> Vec<Value> {
    let each = |text: &str| {
        let (name, limits) = text.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard): (u64, u64) = (soft.parse().ok()?, hard.parse().ok()?);
        Some(json!({ "hard": hard, "limit": format!("RLIMIT_{}", name.to_uppercase()), "soft": soft }))
    };
    line.all("ulimit").filter_map(each).collect()
}

fn labels(line: &Line) -> Result<Value, Refusal> {
    let mut labels = Map::new();
    for label in line.all("label") {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            return Err(Refusal::error("label cannot be an empty string"));
        }
        if value.contains('=') {
            return Err(Refusal::error(format!("invalid label format {label}")));
        }
        labels.insert(key.to_owned(), json!(value));
    }
    Ok(Value::Object(labels))
}

fn memory(text: Option<&str>) -> Result<u64, Refusal> {
    let Some(text) = text else { return Ok(1024 * MIB) };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| Refusal::error("invalid size"))?;
    let unit = text[end..].to_lowercase();
    let power = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(Refusal::error(format!("invalid symbol: {unit}"))),
    };
    let bytes = (number << (10 * power)) / MIB * MIB;
    match bytes >= 200 * MIB {
        true => Ok(bytes),
        false => Err(Refusal::error(format!(
            "minimum memory amount allowed is 200 MiB (got {} bytes)",
            number << (10 * power)
        ))),
    }
}

fn attachments(scene: &Scene, state: &State, name: &str, line: &Line) -> Result<Vec<Value>, Refusal> {
    let asked: Vec<&str> = match line.has("network") {
        true => line.all("network").collect(),
        false => vec!["default"],
    };
    let is_default = |text: &&str| text.split(',').next() == Some("default");
    if scene.control.macos < 26 && !(asked.len() == 1 && asked.iter().all(is_default)) {
        return Err(Refusal::error("non-default network configuration requires macOS 26 or newer"));
    }
    let each = |text: &&str| {
        let mut parts = text.split(',');
        let network = parts.next().unwrap_or_default();
        if state.networks.get(network).is_none_or(|found| found.is_missing) {
            return Err(Refusal::error(format!("network {network} not found")));
        }
        let mut options = json!({ "hostname": name, "mtu": 1280 });
        for part in parts {
            match part.split_once('=') {
                Some(("mac", mac)) => options["macAddress"] = json!(mac.to_lowercase()),
                Some(("mtu", mtu)) => options["mtu"] = json!(mtu.parse::<u32>().unwrap_or(1280)),
                _ => return Err(Refusal::error(format!("invalid network option: {part}"))),
            }
        }
        Ok(json!({ "network": network, "options": options }))
    };
    asked.iter().map(each).collect()
}

fn mounts(scene: &Scene, state: &mut State, line: &Line, stderr: &mut String) -> Result<Vec<Value>, Refusal> {
    let mut all = Vec::new();
    for volume in line.all("volume") {
        let mut parts = volume.split(':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
            return Err(Refusal::error(format!("invalid volume format: {volume}")));
        };
        let options: Vec<&str> = parts.next().map(|options| options.split(',').collect()).unwrap_or_default();
        if source.contains('/') || source.starts_with('.') {
            if !Path::new(source).exists() {
                return Err(Refusal::error(format!("path '{source}' does not exist")));
            }
            let kind = json!({ "virtiofs": {} });
            all.push(json!({ "destination": target, "options": options, "source": source, "type": kind }));
            continue;
        }
        if !state.volumes.contains_key(source) {
            volumes::make(&scene.place, state, source, json!({}));
            stderr.push_str(&format!("named volume was automatically created: [\"volume\": {source}]\n"));
        }
        let image = state.volumes[source]["configuration"]["source"].clone();
        let kind = json!({
            "volume": { "cache": { "on": {} }, "format": "ext4", "name": source, "sync": { "fsync": {} } },
        });
        all.push(json!({ "destination": target, "options": options, "source": image, "type": kind }));
    }
    let tmpfs = |path: &str| json!({ "destination": path, "options": [], "source": "tmpfs", "type": { "tmpfs": {} } });
    all.extend(line.all("tmpfs").map(tmpfs));
    Ok(all)
}

fn ports(line: &Line) -> Result<Vec<Value>, Refusal> {
    let all: Result<Vec<Value>, Refusal> = line.all("publish").map(port).collect();
    let all = all?;
    if all.len() > 64 {
        return Err(Refusal::error("cannot exceed more than 64 port publish descriptors"));
    }
    let mut taken: Vec<(&Value, &Value, &Value)> =
        all.iter().map(|port| (&port["hostAddress"], &port["hostPort"], &port["proto"])).collect();
    let asked = taken.len();
    taken.sort_by_key(|port| format!("{port:?}"));
    taken.dedup();
    match taken.len() == asked {
        true => Ok(all),
        false => Err(Refusal::error("host ports for different publish port specs may not overlap")),
    }
}

fn port(text: &str) -> Result<Value, Refusal> {
    let (numbers, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    if !["tcp", "udp"].contains(&protocol) {
        return Err(Refusal::error(format!("invalid publish protocol: {protocol}")));
    }
    let (hosts, inner) =
        numbers.rsplit_once(':').ok_or_else(|| Refusal::error(format!("invalid publish value: {text}")))?;
    let (address, host) = hosts.rsplit_once(':').unwrap_or(("0.0.0.0", hosts));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address.parse::<std::net::IpAddr>().is_err() {
        return Err(Refusal::error(format!("invalid publish IPv4 address: {address}")));
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 1);
    let (Some(host), Some(inner)) = (number(host), number(inner)) else {
        return Err(Refusal::error(format!("invalid publish host port: {host}")));
    };
    Ok(json!({ "containerPort": inner, "count": 1, "hostAddress": address, "hostPort": host, "proto": protocol }))
}
