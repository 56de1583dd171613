//! `container system`, and what a start of the service does.

use serde_json::{Value, json};

use super::flags::{Words, parse, switch, value};
use super::say::Refusal;
use super::state::Place;
use super::{Answer, Said, Scene, engine};

const COMMIT: &str = "0190097d06df0b9065f4c2d2c7873c649d81d493";

pub fn run(scene: &Scene, verb: &str, arguments: &[String]) -> Answer {
    match verb {
        "status" => status(scene, arguments),
        "version" => {
            parse("system version", &[value("format", ' ')], Words::Mixed, arguments)?;
            Ok(Said::line(scene.encoding().line(&Value::from(versions(scene)))))
        }
        "start" => start(scene, arguments),
        "stop" => {
            parse("system stop", &[value("prefix", 'p')], Words::Mixed, arguments)?;
            restart(&scene.place, scene.control.docker);
            scene.place.control(|control| control.service = "unregistered".to_owned());
            let line = "info com.apple.container.cli: [ContainerCommands] checking if APIServer is alive";
            Ok(Said::line(format!("{} {line}", super::now())))
        }
        _ => Err(Refusal::usage("system", &format!("Unexpected argument '{verb}'"))),
    }
}

/// The service begins anew: it knows of no machine that runs, nor that any ever did.
pub fn restart(place: &Place, is_real: bool) {
    place.with(|state| {
        for (id, container) in &mut state.containers {
            if is_real && container.runs {
                engine::kill(place, id);
            }
            container.runs = false;
            container.started = None;
            container.attachments.clear();
        }
    });
}

/// The version that the service runs as.
fn served(scene: &Scene) -> &str {
    scene.control.service_version.as_deref().unwrap_or(&scene.control.version)
}

fn sentence(scene: &Scene) -> String {
    format!("container-apiserver version {} (build: release, commit: 0190097)", served(scene))
}

fn versions(scene: &Scene) -> Vec<Value> {
    let of = |name: &str, version: &str| json!({ "appName": name, "buildType": "release", "commit": COMMIT, "version": version });
    let mut all = vec![of("container", &scene.control.version)];
    if scene.control.service == "running" {
        all.push(of("container-apiserver", &sentence(scene)));
    }
    all
}

fn status(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("system status", &[value("prefix", 'p'), value("format", ' ')], Words::Mixed, arguments)?;
    let status = scene.control.service.as_str();
    let runs = status == "running";
    let code = i32::from(!runs);
    if line.get("format") != Some("json") {
        let stdout = match status {
            "running" => "apiserver is running\n",
            "unregistered" => "apiserver is not running and not registered with launchd\n",
            _ => "apiserver is not running\n",
        };
        return Ok(Said { stdout: stdout.to_owned(), stderr: String::new(), code });
    }
    let or_empty = |text: &str| if runs { text.to_owned() } else { String::new() };
    let root = scene.control.root.as_str();
    let document = match scene.version >= (1, 4, 1) {
        true if !runs => json!({ "status": status }),
        true => {
            let of = |name: &str, version: &str| json!({ "appName": name, "build": "release", "commit": COMMIT, "version": version });
            json!({
                "client": of("container", &scene.control.version), "server": of("container-apiserver", served(scene)),
                "status": status,
                "host": { "architecture": "arm64", "cpus": 12, "operatingSystem": "Version 26.5.1 (Build 25F80)" },
                "paths": { "appRoot": root, "installRoot": "/usr/local/" },
                "resources": { "containersRunning": 0, "containersTotal": 0, "images": 0 },
            })
        }
        false => json!({
            "apiServerAppName": or_empty("container-apiserver"), "apiServerBuild": or_empty("release"),
            "apiServerCommit": or_empty(COMMIT), "apiServerVersion": or_empty(&sentence(scene)),
            "appRoot": or_empty(root), "installRoot": or_empty("/usr/local/"), "status": status,
        }),
    };
    Ok(Said { stdout: format!("{}\n", scene.encoding().line(&document)), stderr: String::new(), code })
}

fn start(scene: &Scene, arguments: &[String]) -> Answer {
    let known = [
        switch("enable-kernel-install", ' '),
        switch("disable-kernel-install", ' '),
        value("app-root", ' '),
        value("install-root", ' '),
        value("log-root", ' '),
        value("timeout", ' '),
    ];
    let line = parse("system start", &known, Words::Mixed, arguments)?;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    if scene.control.service != "running" {
        stderr.push_str("Launching container-apiserver...\nTesting access to container-apiserver...\n");
        let third = "Verifying machine API server is running...\n";
        if scene.version < (1, 2, 0) { &mut stdout } else { &mut stderr }.push_str(third);
    }
    scene.place.control(|control| {
        control.service = "running".to_owned();
        control.service_version = None;
    });
    if !scene.control.has_kernel {
        if line.has("enable-kernel-install") {
            scene.place.control(|control| control.has_kernel = true);
        } else if !line.has("disable-kernel-install") {
            // It would wait for somebody's answer.
            stdout.push_str("No default kernel configured.\nInstall the recommended default kernel? [Y/n]: ");
            return Ok(Said { stdout, stderr: format!("{stderr}Error: no answer\n"), code: 1 });
        }
    }
    Ok(Said { stdout, stderr, code: 0 })
}
