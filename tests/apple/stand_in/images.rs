//! `container image`.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::flags::{Line, Words, one, parse, switch, value};
use super::say::Refusal;
use super::{Answer, Said, Scene, engine};

/// A name as it is stored: whole, and without the tag where there is a digest.
pub fn reference(name: &str) -> String {
    let whole = kina::runtime::image_name::full(name);
    match whole.split_once('@') {
        Some((name, digest)) => {
            let slash = name.rfind('/').map_or(0, |slash| slash + 1);
            let tag = name[slash..].find(':').map_or(name.len(), |colon| slash + colon);
            format!("{}@{digest}", &name[..tag])
        }
        None => whole,
    }
}

fn digest(name: &str) -> String {
    let of_name = || {
        let hash = Sha256::digest(name.as_bytes());
        format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    name.split_once('@').map_or_else(of_name, |(_, digest)| digest.to_owned())
}

pub fn descriptor(name: &str) -> Value {
    json!({ "digest": digest(name), "mediaType": "application/vnd.oci.image.index.v1+json", "size": 741 })
}

/// What an image says about its containers: those of nodes as `kindest/node` does, others run a shell.
pub fn config(scene: &Scene, name: &str) -> Value {
    if scene.control.docker {
        return engine::image(name);
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match name.contains("/node") {
        true => json!({
            "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"], "Env": [path, "container=docker"],
            "StopSignal": "SIGRTMIN+3", "WorkingDir": "/",
        }),
        false => json!({ "Cmd": ["/bin/sh"], "Env": [path] }),
    }
}

fn document(scene: &Scene, name: &str) -> Value {
    let digest = digest(name);
    let config = json!({
        "architecture": "arm64", "config": config(scene, name), "created": "2026-05-28T10:02:11.123456789Z", "os": "linux",
        "rootfs": { "diff_ids": [digest], "type": "layers" },
    });
    let platform = json!({ "architecture": "arm64", "os": "linux" });
    json!({
        "configuration": { "creationDate": "2026-05-28T10:02:11Z", "descriptor": descriptor(name), "name": name },
        "id": digest.trim_start_matches("sha256:"),
        "variants": [{ "config": config, "digest": digest, "platform": platform, "size": 412_345_678 }],
    })
}

pub fn run(scene: &Scene, verb: &str, arguments: &[String]) -> Answer {
    let command = format!("image {verb}");
    let known = [
        value("format", ' '),
        switch("quiet", 'q'),
        switch("verbose", 'v'),
        value("platform", ' '),
        value("arch", 'a'),
        value("os", ' '),
        value("scheme", ' '),
        value("max-concurrent-downloads", ' '),
        value("progress", ' '),
        value("output", 'o'),
    ];
    let own: &[&str] = match verb {
        "list" | "ls" => &["format", "quiet", "verbose"],
        "inspect" => &[],
        "pull" => &["platform", "arch", "os", "scheme", "max-concurrent-downloads", "progress"],
        "save" => &["platform", "arch", "os", "output"],
        _ => return Err(Refusal::usage("image", &format!("Unexpected argument '{verb}'"))),
    };
    let known: Vec<_> = known.into_iter().filter(|flag| own.contains(&flag.long)).collect();
    let line = parse(&command, &known, Words::Mixed, arguments)?;
    scene.service(false)?;
    if verb == "list" || verb == "ls" {
        let all: Vec<Value> = scene
            .place
            .with(|state| state.images.iter().cloned().collect::<Vec<_>>())
            .iter()
            .map(|name| document(scene, name))
            .collect();
        return Ok(Said::line(scene.encoding().line(&Value::from(all))));
    }
    if verb == "save" {
        return save(scene, &line);
    }
    let name = reference(one(&command, "reference", &line)?);
    let is_here = scene.place.with(|state| state.images.contains(&name));
    match verb {
        "inspect" if is_here => Ok(Said::line(scene.encoding().pretty(&json!([document(scene, &name)])))),
        "inspect" => Err(Refusal::error(format!("image not found: {name}"))),
        "pull" => {
            if line.get("scheme") == Some("auto") && scene.version >= (1, 3, 0) {
                return Err(Refusal::usage(&command, "The value 'auto' is invalid for '--scheme <scheme>'"));
            }
            pull_one(scene, &name)?;
            let stderr = match line.get("progress") {
                Some("none") => String::new(),
                _ => "[0/2] [0s]\n[1/2] Fetching image [0s]\n[2/2] Unpacking image [0s]\n".to_owned(),
            };
            Ok(Said { stderr, ..Said::default() })
        }
        _ => Err(Refusal::usage("image", &format!("Unexpected argument '{verb}'"))),
    }
}

fn save(scene: &Scene, line: &Line) -> Answer {
    if line.words.is_empty() {
        return Err(Refusal::usage("image save", "Missing expected argument '<references>'"));
    }
    let names: Vec<String> = line.words.iter().map(|name| reference(name)).collect();
    let missing = scene.place.with(|state| names.iter().find(|name| !state.images.contains(*name)).cloned());
    if let Some(missing) = missing {
        return Err(Refusal::error(format!("image not found: {missing}")));
    }
    let content = format!("an OCI archive of {}\n", names.join(" "));
    let printed = names.join("\n");
    match line.get("output") {
        Some(file) if scene.control.docker => {
            engine::refused(engine::save(&names, file)).map(|()| Said::line(&printed))
        }
        Some(file) => {
            fs::write(file, content).map_err(|error| Refusal::error(error.to_string()))?;
            Ok(Said::line(&printed))
        }
        // 1.0 mixes both.
        None if scene.version < (1, 1, 0) => Ok(Said::line(format!("{content}{printed}"))),
        None => Ok(Said { stdout: content, stderr: format!("{printed}\n"), code: 0 }),
    }
}

/// Fetches what the registry has.
pub fn pull_one(scene: &Scene, name: &str) -> Result<(), Refusal> {
    if !scene.control.registry.iter().any(|known| reference(known) == name) {
        let (registry, rest) = name.split_once('/').unwrap_or(("docker.io", name));
        let registry = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let (path, tag) = rest.split_once('@').or_else(|| rest.rsplit_once(':')).unwrap_or((rest, "latest"));
        let url = format!("https://{registry}/v2/{path}/manifests/{tag}");
        let message = format!("HTTP request to {url} failed with response: 404 Not Found. Reason: Unknown");
        return Err(Refusal::error(message));
    }
    scene.place.with(|state| state.images.insert(name.to_owned()));
    Ok(())
}
