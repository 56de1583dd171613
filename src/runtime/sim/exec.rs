//! Commands that simulated nodes understand. All others are answered as missing.

use std::time::Duration;

use super::etcd;
use super::images;
use super::kubeadm;
use super::overlay;
use super::routed;
use super::systemd;
use super::time::At;
use super::world::Tx;
use crate::runtime::ExecOutput;

/// What a command left behind.
pub(super) type Output = ExecOutput;

/// Standard output kept, as the contract says.
const STREAM_LIMIT: usize = 1024 * 1024;

/// What running a command comes to.
#[derive(Debug)]
pub(super) enum Ran {
    /// It ended.
    Ended(Output),
    /// It ends, with success, after so long.
    Takes(Duration),
}

/// A command that succeeded and printed this.
pub(super) fn says(text: impl Into<Vec<u8>>) -> Output {
    Output { code: 0, stdout: text.into(), stderr: Vec::new() }
}

/// A command that failed and complained.
pub(super) fn fails(code: i32, text: impl Into<Vec<u8>>) -> Output {
    Output { code, stdout: Vec::new(), stderr: text.into() }
}

/// Runs a command in a container that runs.
pub(super) fn run(tx: &mut Tx<'_>, id: &str, command: &[String], stdin: Option<&[u8]>, now: At) -> Ran {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let Some((program, arguments)) = words.split_first() else {
        return Ran::Ended(fails(127, "no command specified\n"));
    };
    let node = tx.state.containers.get(id).is_some_and(|record| record.node_version().is_some());
    let program = program.rsplit('/').next().unwrap_or_default();
    let output = match (program, arguments) {
        ("sleep", [seconds]) => match seconds.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            Some(time) => return Ran::Takes(time),
            None => fails(1, format!("sleep: invalid time interval '{seconds}'\n")),
        },
        ("true", _) => says(""),
        ("false", _) => fails(1, ""),
        ("echo", words) => says(format!("{}\n", words.join(" "))),
        ("cat", paths) => cat(tx, id, paths, stdin),
        ("touch", paths) => {
            touch(tx, id, paths);
            says("")
        }
        ("rm", ["-f", "--", paths @ ..]) => {
            paths.iter().for_each(|path| tx.delete(id, path));
            says("")
        }
        ("hostname", []) => {
            says(tx.state.containers.get(id).map_or_else(String::new, |c| format!("{}\n", c.spec.name)))
        }
        ("ctr", ["--namespace=k8s.io", "images", "ls", "-q"]) if node => {
            says(tx.state.text(id, images::LOADED_PATH).unwrap_or_default())
        }
        ("crictl", ["images", "--output=json"]) if node => {
            says(images::as_crictl_says(&tx.state.text(id, images::LOADED_PATH).unwrap_or_default()))
        }
        ("crictl", ["images"]) if node => {
            let loaded = tx.state.text(id, images::LOADED_PATH).unwrap_or_default();
            says(format!("IMAGE\n{loaded}"))
        }
        ("sh", ["-c", script, "etcdctl", at, arguments @ ..]) if node && *script == crate::kubeadm::etcd::SCRIPT => {
            etcd::etcdctl(tx, id, at, arguments)
        }
        // Simulated pods have no containers.
        ("crictl", ["ps", "--all"]) if node => says("CONTAINER           IMAGE               STATE\n"),
        ("find", [directory, "-type", "f", "-name", name]) => {
            let suffix = name.trim_start_matches('*');
            let written = tx.state.written_below(id, directory);
            says(
                written
                    .iter()
                    .filter(|path| path.ends_with(suffix))
                    .map(|path| format!("{path}\n"))
                    .collect::<String>(),
            )
        }
        ("tail", [bytes, path]) if bytes.starts_with("--bytes=") => {
            let most = bytes.trim_start_matches("--bytes=").parse().unwrap_or(usize::MAX);
            let mut output = cat(tx, id, &[path], None);
            output.stdout.drain(..output.stdout.len().saturating_sub(most));
            output
        }
        ("bash", [overlay::SCRIPT_PATH, "peers"]) => {
            overlay::take_peers(tx, id, stdin.unwrap_or_default()).unwrap_or_else(|message| fails(1, message))
        }
        ("bash", [routed::SCRIPT, verb]) if node => routed::run(tx, id, verb, stdin),
        ("systemctl", arguments) if node => systemd::systemctl(tx, id, arguments, now),
        ("systemd-run", arguments) if node => systemd::systemd_run(tx, id, arguments, now),
        ("journalctl", arguments) if node => systemd::journalctl(tx.state, id, arguments),
        ("kubeadm", ["version", "-o", "short"] | ["version", "--output=short"]) if node => {
            says(format!("{}\n", kubeadm::version(tx.state, id)))
        }
        _ => fails(127, format!("exec: \"{program}\": executable file not found in $PATH\n")),
    };
    Ran::Ended(output)
}

/// Creates empty files where there are none.
pub(super) fn touch(tx: &mut Tx<'_>, id: &str, paths: &[&str]) {
    for path in paths {
        if tx.state.file(id, path).is_none() {
            tx.write(id, path, 0o644, "");
        }
    }
}

fn cat(tx: &Tx<'_>, id: &str, paths: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut output = says("");
    if paths.is_empty() {
        output.stdout.extend_from_slice(stdin.unwrap_or_default());
    }
    for path in paths {
        match *path {
            "-" | "/dev/stdin" => output.stdout.extend_from_slice(stdin.unwrap_or_default()),
            path => match tx.state.file(id, path) {
                Some(content) => output.stdout.extend_from_slice(&content),
                None => {
                    output.code = 1;
                    output.stderr.extend_from_slice(format!("cat: {path}: No such file or directory\n").as_bytes());
                }
            },
        }
    }
    output.stdout.truncate(STREAM_LIMIT);
    output
}
