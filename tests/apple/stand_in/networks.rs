//! `container network`.

use serde_json::{Value, json};

use super::flags::{Words, one, parse, switch, value};
use super::say::Refusal;
use super::state::{NetworkState, State};
use super::{Answer, Said, Scene, engine, now};

const FORMAT: super::flags::Flag = value("format", ' ');
const ROLE: &str = "com.apple.container.resource.role";

pub fn run(scene: &Scene, verb: &str, arguments: &[String]) -> Answer {
    let command = format!("network {verb}");
    match verb {
        "list" | "ls" => {
            let line = parse(&command, &[FORMAT, switch("quiet", 'q')], Words::Mixed, arguments)?;
            scene.service(false)?;
            let all = shown(scene);
            match line.get("format") {
                Some("json") => Ok(Said::line(scene.encoding().line(&Value::from(all)))),
                _ => Ok(names(&all)),
            }
        }
        "inspect" => inspect(scene, arguments),
        "create" => create(scene, arguments),
        "delete" | "rm" => delete(scene, arguments),
        _ => Err(Refusal::usage("network", &format!("Unexpected argument '{verb}'"))),
    }
}

fn names(all: &[Value]) -> Said {
    let lines = all.iter().map(|network| format!("{}\n", network["id"].as_str().unwrap_or_default()));
    Said { stdout: lines.collect(), ..Said::default() }
}

/// The builtin one is there from the first start on.
pub fn ensure_default(scene: &Scene, state: &mut State) {
    const PREFIX: &str = "192.168.64";
    if state.networks.contains_key("default") {
        return;
    }
    if scene.control.docker
        && let Err(message) = engine::create_network(&scene.place, "default", PREFIX)
    {
        eprintln!("the default network: {message}");
    }
    let made = NetworkState {
        configuration: configuration("default", None, &json!({ ROLE: "builtin" })),
        prefix: PREFIX.to_owned(),
        next: 2,
        is_missing: false,
    };
    state.networks.insert("default".to_owned(), made);
}

fn configuration(name: &str, subnet: Option<&str>, labels: &Value) -> Value {
    let mut made = json!({
        "creationDate": now(), "labels": labels, "mode": "nat", "name": name, "options": {},
        "plugin": "container-network-vmnet",
    });
    if let Some(subnet) = subnet {
        made["ipv4Subnet"] = json!(subnet);
    }
    made
}

fn shown(scene: &Scene) -> Vec<Value> {
    scene.place.with(|state| {
        ensure_default(scene, state);
        let there = state.networks.iter().filter(|(_, network)| !network.is_missing);
        there.map(|(name, network)| document(scene, name, network)).collect()
    })
}

fn document(scene: &Scene, name: &str, network: &NetworkState) -> Value {
    let prefix = &network.prefix;
    let mut configuration = network.configuration.clone();
    if scene.version < (1, 1, 0) {
        configuration["options"] = json!({ "variant": "reserved" });
    }
    json!({
        "configuration": configuration, "id": name,
        "status": {
            "ipv4Gateway": format!("{prefix}.1"), "ipv4Subnet": format!("{prefix}.0/24"),
            "ipv6Subnet": "fd97:7f2f:97db:3103::/64",
        },
    })
}

fn inspect(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("network inspect", &[], Words::Mixed, arguments)?;
    scene.service(false)?;
    let all = shown(scene);
    let is_wanted = |network: &&Value| line.words.iter().any(|name| network["id"] == **name);
    let found: Vec<Value> = all.iter().filter(is_wanted).cloned().collect();
    let mut missing: Vec<&str> = line.words.iter().map(String::as_str).collect();
    missing.retain(|name| !found.iter().any(|network| network["id"] == *name));
    missing.sort_unstable();
    match missing.is_empty() {
        true => Ok(Said::line(scene.encoding().pretty(&Value::from(found)))),
        false => Err(Refusal::error(format!("network not found: {}", missing.join(", ")))),
    }
}

fn create(scene: &Scene, arguments: &[String]) -> Answer {
    const COMMAND: &str = "network create";
    let known = [
        switch("internal", ' '),
        value("label", 'l'),
        value("option", ' '),
        value("plugin", ' '),
        value("subnet", ' '),
        value("subnet-v6", ' '),
    ];
    let line = parse(COMMAND, &known, Words::Mixed, arguments)?;
    let name = one(COMMAND, "name", &line)?;
    let prefix = match line.get("subnet") {
        Some(subnet) => Some(prefix(subnet).ok_or_else(|| {
            let message = format!("The value '{subnet}' is invalid for '--subnet <subnet>': invalid CIDR");
            Refusal::usage(COMMAND, &message)
        })?),
        None => None,
    };
    scene.service(false)?;
    if name == "none" {
        return Err(Refusal::error("network none is not a valid name"));
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.len() <= 63 && name.starts_with(inner) && name.ends_with(inner);
    if !fits || !name.chars().all(|c| inner(c) || "._-".contains(c)) {
        return Err(Refusal::error(format!("invalid network name: {name}")));
    }
    let mut labels = serde_json::Map::new();
    for label in line.all("label") {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if !key.chars().all(|c| inner(c) || "-./".contains(c)) || key.len() > 128 || label.len() > 4096 {
            let text =
                format!(r#"LabelError(code: ContainerResource.LabelError.Code.invalid_label_key_content, "{key}")"#);
            return Err(Refusal::error(text));
        }
        labels.insert(key.to_owned(), json!(value));
    }
    let _api = scene.place.lock("apiserver.lock");
    scene.place.with(|state| {
        ensure_default(scene, state);
        if state.networks.contains_key(name) {
            return Err(Refusal::error(format!("network {name} already exists")));
        }
        let is_taken = |prefix: &str| state.networks.values().any(|network| network.prefix == prefix);
        if let Some(subnet) = line.get("subnet")
            && prefix.as_deref().is_some_and(is_taken)
        {
            let message = format!("IPv4 subnet {subnet} overlaps an existing network with subnet {subnet}");
            return Err(Refusal::error(message));
        }
        let free = || (65..128_u8).map(|part| format!("192.168.{part}")).find(|prefix| !is_taken(prefix));
        let Some(prefix) = prefix.or_else(free) else {
            return Err(Refusal::error("failed to create vmnet network with status vmnet_return_t(rawValue: 1001)"));
        };
        if scene.control.docker {
            engine::refused(engine::create_network(&scene.place, name, &prefix))?;
        }
        let configuration = configuration(name, line.get("subnet"), &Value::Object(labels));
        let made = NetworkState { configuration, prefix, next: 2, is_missing: false };
        state.networks.insert(name.to_owned(), made);
        Ok(Said::line(name))
    })
}

/// `10.1.2` of `10.1.2.0/24`.
fn prefix(subnet: &str) -> Option<String> {
    let (address, length) = subnet.split_once('/')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let [a, b, c, _] = address.octets();
    (length == "24").then(|| format!("{a}.{b}.{c}"))
}

fn delete(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("network delete", &[switch("all", 'a')], Words::Mixed, arguments)?;
    if line.words.is_empty() && !line.has("all") {
        return Err(Refusal::error("no networks specified and --all not supplied"));
    }
    scene.service(false)?;
    let _api = scene.place.lock("apiserver.lock");
    scene.place.with(|state| {
        ensure_default(scene, state);
        let unknown: Vec<&String> =
            line.words.iter().filter(|name| !state.networks.contains_key(name.as_str())).collect();
        if !unknown.is_empty() {
            return Err(Refusal::error(format!("failed to delete one or more networks: {unknown:?}")));
        }
        if line.words.iter().any(|name| name == "default") {
            return Err(Refusal::error("cannot delete a builtin network: default"));
        }
        let (mut stdout, mut stderr, mut failed) = (String::new(), String::new(), Vec::new());
        for name in &line.words {
            let mut users: Vec<&str> = state
                .containers
                .iter()
                .filter(|(_, container)| {
                    let networks = container.configuration["networks"].as_array().cloned().unwrap_or_default();
                    networks.iter().any(|network| network["network"] == **name)
                })
                .map(|(user, _)| user.as_str())
                .collect();
            users.sort_unstable();
            if users.is_empty() {
                state.networks.remove(name);
                if scene.control.docker {
                    engine::delete_network(&scene.place, name);
                }
                stdout.push_str(&format!("{name}\n"));
                continue;
            }
            let why = format!(
                r#"invalidState: "cannot delete subnet {name} with referring containers: {}""#,
                users.join(", ")
            );
            // A dictionary has no order.
            let both = scene.control.seed.is_multiple_of(2);
            stderr.push_str(&match both {
                true => format!("failed to delete network: [\"error\": {why}, \"id\": {name}]\n"),
                false => format!("failed to delete network: [\"id\": {name}, \"error\": {why}]\n"),
            });
            failed.push(name);
        }
        if failed.is_empty() {
            return Ok(Said { stdout, stderr, code: 0 });
        }
        stderr.push_str(&format!("Error: delete failed for one or more networks: {failed:?}\n"));
        Ok(Said { stdout, stderr, code: 1 })
    })
}
