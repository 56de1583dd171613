//! `container volume`.

use std::fs;

use serde_json::{Value, json};

use super::flags::{Words, one, parse, switch, value};
use super::say::Refusal;
use super::state::{Place, State};
use super::{Answer, Said, Scene, now};

pub fn run(scene: &Scene, verb: &str, arguments: &[String]) -> Answer {
    match verb {
        "list" | "ls" => {
            let known = [value("format", ' '), switch("quiet", 'q')];
            let line = parse("volume list", &known, Words::Mixed, arguments)?;
            scene.service(false)?;
            let all: Vec<Value> = scene.place.with(|state| state.volumes.values().cloned().collect());
            let all = scene.shuffled(all);
            match line.get("format") {
                Some("json") => Ok(Said::line(scene.encoding().line(&Value::from(all)))),
                _ => {
                    let lines = all.iter().map(|volume| format!("{}\n", volume["id"].as_str().unwrap_or_default()));
                    Ok(Said { stdout: lines.collect(), ..Said::default() })
                }
            }
        }
        "inspect" => {
            let line = parse("volume inspect", &[], Words::Mixed, arguments)?;
            let name = one("volume inspect", "names", &line)?;
            scene.service(false)?;
            let found = scene.place.with(|state| state.volumes.get(name).cloned());
            let found = found.ok_or_else(|| Refusal::error(format!("volume not found: {name}")))?;
            Ok(Said::line(scene.encoding().pretty(&json!([found]))))
        }
        "create" => create(scene, arguments),
        "delete" | "rm" => delete(scene, arguments),
        _ => Err(Refusal::usage("volume", &format!("Unexpected argument '{verb}'"))),
    }
}

fn create(scene: &Scene, arguments: &[String]) -> Answer {
    const COMMAND: &str = "volume create";
    let known = [value("size", 's'), value("label", 'l'), value("opt", ' ')];
    let line = parse(COMMAND, &known, Words::Mixed, arguments)?;
    let name = one(COMMAND, "name", &line)?;
    scene.service(false)?;
    let labels: serde_json::Map<String, Value> = line
        .all("label")
        .map(|label| label.split_once('=').unwrap_or((label, "")))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let _api = scene.place.lock("apiserver.lock");
    scene.place.with(|state| {
        if state.volumes.contains_key(name) {
            return Err(Refusal::error(format!("volume '{name}' already exists")));
        }
        make(&scene.place, state, name, Value::Object(labels));
        Ok(Said::line(name))
    })
}

/// A file system of its own, fresh.
pub fn make(place: &Place, state: &mut State, name: &str, labels: Value) {
    fs::create_dir_all(place.volume(name).join("lost+found")).expect("a volume");
    let source = format!("/Users/dev/Library/Application Support/com.apple.container/volumes/{name}/volume.img");
    let configuration = json!({
        "creationDate": now(), "driver": "local", "format": "ext4", "labels": labels, "name": name, "options": {},
        "sizeInBytes": 549_755_813_888_u64, "source": source,
    });
    state.volumes.insert(name.to_owned(), json!({ "configuration": configuration, "id": name }));
}

fn delete(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("volume delete", &[switch("all", 'a')], Words::Mixed, arguments)?;
    if line.words.is_empty() && !line.has("all") {
        return Err(Refusal::error("no volumes specified and --all not supplied"));
    }
    scene.service(false)?;
    let _api = scene.place.lock("apiserver.lock");
    scene.place.with(|state| {
        let unknown: Vec<&String> =
            line.words.iter().filter(|name| !state.volumes.contains_key(name.as_str())).collect();
        if !unknown.is_empty() {
            return Err(Refusal::error(format!("failed to delete one or more volumes: {unknown:?}")));
        }
        let mut stdout = String::new();
        for name in &line.words {
            let has = |mount: &Value| mount["type"]["volume"]["name"] == **name;
            let in_use = state.containers.values().any(|container| {
                let mounts = container.configuration["mounts"].as_array().cloned().unwrap_or_default();
                mounts.iter().any(has)
            });
            if in_use {
                let why = format!(
                    "invalidArgument: \"volume '{name}' is currently in use and cannot be accessed by another container, or \
                     deleted\""
                );
                let first = format!("failed to delete volume: [\"error\": {why}, \"id\": {name}]\n");
                let text = format!("{first}Error: delete failed for one or more volumes: [{name:?}]\n");
                return Err(Refusal { code: 1, text });
            }
            state.volumes.remove(name);
            let _ = fs::remove_dir_all(scene.place.volume(name));
            stdout.push_str(&format!("{name}\n"));
        }
        Ok(Said { stdout, ..Said::default() })
    })
}
