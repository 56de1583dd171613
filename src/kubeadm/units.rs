//! What systemd says about Kina's units inside a node.

/// A transient unit of Kina's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `kubeadm init` or `kubeadm join`.
    Bootstrap,
    /// `kubeadm reset`.
    Reset,
}

impl Unit {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "kina-bootstrap",
            Self::Reset => "kina-reset",
        }
    }

    /// Its name as systemd tells it.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Bootstrap => "kina-bootstrap.service",
            Self::Reset => "kina-reset.service",
        }
    }
}

/// How far a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// There is none: never started, or the node restarted since.
    Absent,
    /// It runs.
    Running,
    /// Its command succeeded.
    Succeeded,
    /// Its command failed.
    Failed {
        /// Exit code of the command, where systemd tells one.
        code: Option<i32>,
    },
}

/// Reads the output of `systemctl show`. `None` for what is no such output.
#[must_use]
pub fn parse_show(output: &str) -> Option<UnitState> {
    let get = |key: &str| output.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    let active = get("ActiveState")?;
    Some(match (get("LoadState"), active, get("Result")) {
        (_, "failed", _) => UnitState::Failed { code: get("ExecMainStatus").and_then(|code| code.parse().ok()) },
        (_, "activating" | "reloading" | "deactivating", _) => UnitState::Running,
        (_, "active", Some("success") | None) => UnitState::Succeeded,
        (_, "active", Some(_)) => UnitState::Failed { code: get("ExecMainStatus").and_then(|code| code.parse().ok()) },
        _ => UnitState::Absent,
    })
}

/// How far a node's boot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// systemd is still starting, or not there yet.
    Starting,
    /// Everything that matters has started. `degraded` counts: node images have units that fail in containers.
    Done,
    /// systemd is on its way down, or in rescue mode.
    Broken,
}

/// Reads the output of `systemctl is-system-running`. Its exit code says less than its word.
#[must_use]
pub fn parse_boot(output: &str) -> Boot {
    match output.trim() {
        "running" | "degraded" => Boot::Done,
        "stopping" | "maintenance" => Boot::Broken,
        _ => Boot::Starting,
    }
}

/// The last lines of a log, bounded for a status: at most `lines` lines and 1,000 characters, the end being what tells.
#[must_use]
pub fn tail(output: &str, lines: usize) -> String {
    let kept: Vec<&str> = output.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let text = kept[kept.len().saturating_sub(lines)..].join("\n");
    let skip = text.chars().count().saturating_sub(1_000);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_are_read_from_what_systemd_prints() {
        let show = |active: &str, result: &str, code: &str| {
            format!("LoadState=loaded\nActiveState={active}\nSubState=x\nResult={result}\nExecMainStatus={code}\n")
        };
        assert_eq!(parse_show(&show("activating", "success", "0")), Some(UnitState::Running));
        assert_eq!(parse_show(&show("active", "success", "0")), Some(UnitState::Succeeded));
        assert_eq!(parse_show(&show("failed", "exit-code", "1")), Some(UnitState::Failed { code: Some(1) }));
        let absent = "LoadState=not-found\nActiveState=inactive\nSubState=dead\n";
        assert_eq!(parse_show(absent), Some(UnitState::Absent));
        assert_eq!(parse_show("Failed to connect to bus"), None);
    }

    #[test]
    fn a_degraded_system_has_booted() {
        assert_eq!(parse_boot("degraded\n"), Boot::Done);
        assert_eq!(parse_boot("starting\n"), Boot::Starting);
        assert_eq!(parse_boot(""), Boot::Starting);
        assert_eq!(parse_boot("maintenance"), Boot::Broken);
    }

    proptest! {
        #[test]
        fn no_output_breaks_the_parsers(output in "\\PC{0,200}") {
            let _ = (parse_show(&output), parse_boot(&output));
            prop_assert!(tail(&output, 3).chars().count() <= 1_000);
        }
    }
}
