//! systemd inside a node: whether it is up, and the transient units that Kina runs.

use serde::{Deserialize, Serialize};

use super::exec::{Output, fails, says};
use super::kubeadm;
use super::time::At;
use super::world::{State, Tx};

/// Lines that a unit's journal keeps: kubeadm's phases write some forty.
const JOURNAL_LINES: usize = 100;

/// A transient unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    /// Its main command.
    pub command: Vec<String>,
    /// Commands run when the main one succeeded.
    pub post: Vec<Vec<String>>,
    /// It stays after its command ended.
    pub remain: bool,
    /// How far the command is: the index of the phase it is in.
    pub step: usize,
    /// When the phase ends, or a wait is given up or tried again; `None` while it waits for a change alone, and when
    /// the unit has ended.
    pub due: Option<At>,
    /// It waits for something to change.
    pub waiting: bool,
    /// When the wait it is in is given up.
    pub deadline: Option<At>,
    /// What it waits for was asked of an API server. Not kept: after a restart it is asked again.
    #[serde(skip)]
    pub asked: bool,
    /// Exit code, once ended.
    pub outcome: Option<i32>,
    /// Its newest lines.
    pub journal: Vec<String>,
}

impl Unit {
    /// Notes a line, dropping the oldest where there are too many.
    pub fn note(&mut self, line: impl Into<String>) {
        if self.journal.len() >= JOURNAL_LINES {
            self.journal.remove(0);
        }
        self.journal.push(line.into());
    }
}

/// `systemctl …`
pub(super) fn systemctl(tx: &mut Tx<'_>, id: &str, arguments: &[&str], now: At) -> Output {
    match arguments {
        ["is-system-running"] => is_system_running(tx.state, id),
        ["show", unit, rest @ ..] => show(tx.state, id, unit, rest),
        ["is-active", unit] => {
            let state = unit_state(tx.state, id, unit);
            Output { code: if state.active == "active" { 0 } else { 3 }, ..says(format!("{}\n", state.active)) }
        }
        ["reset-failed", unit] => reset_failed(tx, id, unit),
        ["stop", unit] => stop(tx, id, unit),
        ["restart", services @ ..] if !services.is_empty() => restart(tx, id, services, now),
        _ => fails(1, format!("Unknown command verb {:?}, or not one that simulated nodes know.\n", arguments.first())),
    }
}

fn is_system_running(state: &State, id: &str) -> Output {
    let inside = state.containers.get(id).map(|record| &record.inside);
    let failed =
        inside.is_some_and(|inside| inside.units.values().any(|unit| unit.outcome.is_some_and(|code| code != 0)));
    match inside.map(|inside| inside.boot_due.is_some()) {
        Some(false) if failed => Output { code: 1, ..says("degraded\n") },
        Some(false) => says("running\n"),
        _ => Output { code: 1, ..says("starting\n") },
    }
}

struct UnitState {
    load: &'static str,
    active: &'static str,
    sub: &'static str,
    result: &'static str,
    code: i32,
}

fn unit_state(state: &State, id: &str, unit: &str) -> UnitState {
    let none = UnitState { load: "not-found", active: "inactive", sub: "dead", result: "success", code: 0 };
    let Some(inside) = state.containers.get(id).map(|record| &record.inside) else { return none };
    let loaded =
        |active, sub| UnitState { load: "loaded", active, sub, ..UnitState { result: "success", code: 0, ..none } };
    match unit {
        "kubelet" | "kubelet.service" if inside.kubelet.is_some() => return loaded("active", "running"),
        "kubelet" | "kubelet.service" => return loaded("inactive", "dead"),
        "containerd" | "containerd.service" if inside.boot_due.is_none() => return loaded("active", "running"),
        "containerd" | "containerd.service" => return loaded("inactive", "dead"),
        _ => {}
    }
    match inside.units.get(base(unit)).map(|unit| unit.outcome) {
        None => none,
        Some(None) => loaded("activating", "start"),
        Some(Some(0)) => loaded("active", "exited"),
        Some(Some(code)) => UnitState { result: "exit-code", code, ..loaded("failed", "failed") },
    }
}

fn show(state: &State, id: &str, unit: &str, options: &[&str]) -> Output {
    let found = unit_state(state, id, unit);
    let code = found.code.to_string();
    let all = [
        ("LoadState", found.load),
        ("ActiveState", found.active),
        ("SubState", found.sub),
        ("Result", found.result),
        ("ExecMainStatus", code.as_str()),
    ];
    let wanted: Option<Vec<&str>> = match options {
        [] => None,
        [option] => match option.strip_prefix("--property=") {
            Some(names) => Some(names.split(',').collect()),
            None => return fails(1, format!("unrecognized option '{option}'\n")),
        },
        _ => return fails(1, "simulated nodes take one --property option\n"),
    };
    // As systemd does: properties in its own order, unknown ones left out.
    let shown = all.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)));
    says(shown.map(|(name, value)| format!("{name}={value}\n")).collect::<String>())
}

fn reset_failed(tx: &mut Tx<'_>, id: &str, unit: &str) -> Output {
    let failed = unit_state(tx.state, id, unit);
    match failed.active {
        "failed" => {
            let name = base(unit).to_owned();
            // A transient unit that failed is unloaded with its failure.
            tx.update(id, |record| drop(record.inside.units.remove(&name)));
            says("")
        }
        _ if failed.load == "not-found" => {
            fails(1, format!("Failed to reset failed state of unit {unit}: Unit {unit} not loaded.\n"))
        }
        _ => says(""),
    }
}

fn stop(tx: &mut Tx<'_>, id: &str, unit: &str) -> Output {
    let name = base(unit).to_owned();
    let known = tx.state.containers.get(id).is_some_and(|record| record.inside.units.contains_key(&name));
    if !known {
        return fails(5, format!("Failed to stop {unit}: Unit {unit} not loaded.\n"));
    }
    tx.update(id, |record| {
        // A failed unit stays failed until that is reset; anything else is gone with its stop.
        let failed = record.inside.units.get(&name).and_then(|unit| unit.outcome).is_some_and(|code| code != 0);
        if !failed {
            record.inside.units.remove(&name);
        }
    });
    says("")
}

/// Restarts services. Containers, and with them static pods, go on; a kubelet registers its Node when it starts, and only
/// then.
fn restart(tx: &mut Tx<'_>, id: &str, services: &[&str], now: At) -> Output {
    if let Some(unknown) = services.iter().find(|service| !matches!(base(service), "kubelet" | "containerd")) {
        return fails(5, format!("Failed to restart {unknown}: Unit {unknown} not found.\n"));
    }
    if tx.state.containers.get(id).is_none_or(|record| record.inside.boot_due.is_some()) {
        return fails(1, "Failed to connect to bus: No such file or directory\n");
    }
    if services.iter().any(|service| base(service) == "kubelet") {
        kubeadm::restart_kubelet(tx, id, now);
    }
    says("")
}

/// `systemd-run …`: starts a transient unit, without waiting for it.
pub(super) fn systemd_run(tx: &mut Tx<'_>, id: &str, arguments: &[&str], now: At) -> Output {
    let Some(split) = arguments.iter().position(|argument| *argument == "--") else {
        return fails(1, "Simulated nodes want \"--\" before the command.\n");
    };
    let (options, command) = (&arguments[..split], &arguments[split + 1..]);
    let (mut name, mut no_block, mut oneshot, mut remain, mut post) = (None, false, false, false, Vec::new());
    for option in options {
        match option.split_once('=') {
            Some(("--unit", unit)) => name = Some(base(unit).to_owned()),
            None if *option == "--no-block" => no_block = true,
            Some(("--property", "Type=oneshot")) => oneshot = true,
            Some(("--property", "RemainAfterExit=yes")) => remain = true,
            Some(("--property", property)) => match property.strip_prefix("ExecStartPost=") {
                Some(line) => post.push(line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()),
                None => return fails(1, format!("Unknown assignment: {property}\n")),
            },
            _ => return fails(1, format!("unrecognized option '{option}'\n")),
        }
    }
    let (Some(name), true, true) = (name, no_block, oneshot) else {
        return fails(1, "Simulated nodes run named oneshot units with --no-block only.\n");
    };
    let Some(record) = tx.state.containers.get(id) else { return fails(1, "no container\n") };
    if record.inside.boot_due.is_some() {
        return fails(1, "Failed to connect to bus: No such file or directory\n");
    }
    if record.inside.units.contains_key(&name) {
        return fails(
            1,
            format!(
                "Failed to start transient service unit: Unit {name}.service was already loaded or has a fragment file.\n"
            ),
        );
    }
    if !kubeadm::understands(command) {
        return fails(1, format!("Failed to find executable {}: No such file or directory\n", command.join(" ")));
    }
    let unit = Unit {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        post,
        remain,
        step: 0,
        due: Some(now),
        waiting: false,
        deadline: None,
        asked: false,
        outcome: None,
        journal: Vec::new(),
    };
    tx.update(id, |record| drop(record.inside.units.insert(name.clone(), unit)));
    Output { code: 0, stdout: Vec::new(), stderr: format!("Running as unit: {name}.service\n").into_bytes() }
}

/// `journalctl …`: the last lines of a unit.
pub(super) fn journalctl(state: &State, id: &str, arguments: &[&str]) -> Output {
    let (mut unit, mut lines) = (None, JOURNAL_LINES);
    for argument in arguments {
        match argument.split_once('=') {
            Some(("--unit", name)) => unit = Some(base(name)),
            Some(("--lines", count)) => match count.parse() {
                Ok(count) => lines = count,
                Err(_) => return fails(1, format!("Failed to parse lines '{count}'\n")),
            },
            Some(("--output", "cat")) => {}
            None if *argument == "--no-pager" => {}
            _ => return fails(1, format!("unrecognized option '{argument}'\n")),
        }
    }
    let units = state.containers.get(id).map(|record| &record.inside.units);
    match units.and_then(|units| units.get(unit?)) {
        Some(unit) => {
            let skipped = unit.journal.len().saturating_sub(lines);
            says(unit.journal[skipped..].iter().map(|line| format!("{line}\n")).collect::<String>())
        }
        None => says("-- No entries --\n"),
    }
}

/// A unit's name without its suffix.
fn base(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}
