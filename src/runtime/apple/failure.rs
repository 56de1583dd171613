//! What a failure of the command means. It says so in prose, without codes: the words are its own, and pinned by tests
//! against texts that its sources have, or that others have published.

use std::error::Error;

use super::process::{CallError, Output};
use super::version::RECOMMENDED;
use crate::runtime::{Cause, RuntimeError};

/// Exit code of a command line that was not understood.
const USAGE: i32 = 64;

macro_rules! start_service {
    () => {
        "container system start --enable-kernel-install"
    };
}

/// Starts the service. Without the option it may ask, and wait for an answer.
pub const START_SERVICE: &str = start_service!();
const START_IT: &str = concat!("start it: `", start_service!(), "`");
const START_ANEW: &str = concat!("start the service anew: `container system stop`, then `", start_service!(), "`");

/// Words, what they mean, and what to do. The first that fit count: several errors quote others.
const WORDS: [(&str, Cause, &str); 44] = [
    ("Plugins are unavailable", Cause::Unavailable, START_IT),
    ("XPC connection error", Cause::Unavailable, START_IT),
    ("unauthorized request", Cause::Unavailable, "the service belongs to another user: run Kina as that one"),
    ("/networkList\"", Cause::Timeout, START_ANEW),
    ("XPC timeout", Cause::Timeout, START_ANEW),
    ("default kernel not configured", Cause::Unavailable, "install it: `container system kernel set --recommended`"),
    // The service is of another version than the command.
    ("typeMismatch", Cause::Unavailable, START_ANEW),
    ("keyNotFound", Cause::Unavailable, START_ANEW),
    ("valueNotFound", Cause::Unavailable, START_ANEW),
    (
        "no free indices are available",
        Cause::Exhausted,
        "the network has no address left (252): remove containers from it",
    ),
    ("no space left on device", Cause::Exhausted, "make room on the disk"),
    ("(errno: 28)", Cause::Exhausted, "make room on the disk"),
    ("cannot allocate memory", Cause::Exhausted, "the host has no memory left: stop other containers"),
    ("insufficient memory", Cause::Exhausted, "the host has no memory left: stop other containers"),
    ("not enough memory", Cause::Exhausted, "the host has no memory left: stop other containers"),
    ("(errno: 12)", Cause::Exhausted, "the host has no memory left: stop other containers"),
    (
        "storage device attachment is invalid",
        Cause::InUse,
        "another virtual machine has one of its volumes, maybe its own of before: `container list --all`, and stop that one",
    ),
    (
        "ExitMonitor already setup",
        Cause::Unavailable,
        "its virtual machine of before is there still: `container stop` it",
    ),
    (
        "expected to be in created state",
        Cause::Unavailable,
        "its virtual machine of before is there still: `container stop` it",
    ),
    ("already exist", Cause::AlreadyExists, ""),
    ("overlaps an existing network", Cause::Conflict, ""),
    ("failed to create vmnet network", Cause::Conflict, "macOS has that subnet in use, or does not allow it"),
    ("failed to set subnet", Cause::Conflict, "macOS has that subnet in use, or does not allow it"),
    ("Address already in use", Cause::Conflict, "another program listens on that port of the host"),
    ("specs may not overlap", Cause::Conflict, ""),
    ("Permission denied while binding", Cause::Invalid, "choose a port of 1024 or above"),
    ("referring containers", Cause::InUse, ""),
    ("currently in use", Cause::InUse, ""),
    ("can not be deleted", Cause::InUse, ""),
    ("has a pending operation", Cause::Unavailable, ""),
    (
        "no network for id",
        Cause::NotFound,
        "its network did not come up with the service: `container system stop`, then start it again",
    ),
    ("is not running", Cause::NotRunning, ""),
    ("no runtime client exists", Cause::NotRunning, ""),
    ("not found", Cause::NotFound, ""),
    ("no such container", Cause::NotFound, ""),
    ("failed to delete one or more", Cause::NotFound, ""),
    ("invalid label", Cause::Invalid, ""),
    ("LabelError", Cause::Invalid, ""),
    ("invalid publish", Cause::Invalid, ""),
    ("is not a valid", Cause::Invalid, ""),
    ("invalid entity name", Cause::Invalid, ""),
    ("minimum memory amount", Cause::Invalid, ""),
    ("does not exist", Cause::Invalid, ""),
    ("cannot delete a builtin", Cause::Invalid, ""),
];

/// A call that failed, or did not end.
#[must_use]
pub fn failed(operation: &'static str, object: &str, result: &Result<Output, CallError>) -> RuntimeError {
    let (cause, message) = match result {
        Ok(output) => explained(output),
        Err(CallError::Late(within)) => {
            let message = format!(
                "no answer of `container` within {} s; if it hangs by itself, too, {START_ANEW}",
                within.as_secs()
            );
            (Cause::Timeout, message)
        }
        Err(error @ (CallError::Start(source) | CallError::Streams(source))) => {
            (Cause::Unavailable, format!("{error}: {source}"))
        }
    };
    RuntimeError::new(operation, object, cause, message)
}

/// What the command did not print as it should have.
#[must_use]
pub fn unreadable(operation: &'static str, object: &str, error: &dyn Error) -> RuntimeError {
    let message = format!("{error}; this version of Kina may not know this version of `container`");
    RuntimeError::new(operation, object, Cause::Unknown, message)
}

fn explained(output: &Output) -> (Cause, String) {
    let said = said(output);
    if output.code == USAGE {
        let message = format!("{said}; `container` {RECOMMENDED} or newer has all that Kina needs: update it");
        return (Cause::Invalid, message);
    }
    let lower = said.to_lowercase();
    let found = WORDS.iter().find(|(words, ..)| lower.contains(&words.to_lowercase()));
    match found {
        Some((_, cause, "")) => (*cause, said),
        Some((_, cause, next)) => (*cause, format!("{said}; {next}")),
        None => (Cause::Unknown, said),
    }
}

/// Its own words: without the prefix, the help after a wrong usage, and progress.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let kept: Vec<&str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("Error: "))
        .filter(|line| !line.is_empty() && !is_noise(line))
        .collect();
    match kept.is_empty() {
        true => format!("it ended with {} and said nothing", output.code),
        false => kept.join("; "),
    }
}

fn is_noise(line: &str) -> bool {
    line.starts_with("Usage: ")
        || line.starts_with("See 'container ")
        || line.starts_with("Warning! Running debug build")
        // Kina says what to do in its own words.
        || line.starts_with("Ensure container system service")
        || line.starts_with("named volume was automatically created")
        || line.split_once("] ").is_some_and(|(step, _)| step.starts_with('[') && step.contains('/'))
}

/// A pull that failed. Where the registry answers that there is no such image, none will come.
#[must_use]
pub fn failed_pull(image: &str, result: &Result<Output, CallError>) -> RuntimeError {
    let error = failed("pull image", image, result);
    let never = ["404 Not Found", "does not support required platforms", "invalid reference", "400 Bad Request"];
    let platform = format!("platform {}", super::create::PLATFORM);
    let cause = match error.cause {
        Cause::Unavailable | Cause::Timeout | Cause::Exhausted => error.cause,
        _ if never.iter().any(|words| error.message.contains(words)) => Cause::Invalid,
        _ if error.message == platform => Cause::Invalid,
        _ => Cause::ImagePull,
    };
    RuntimeError { cause, ..error }
}

/// Whether nothing has happened yet and the same call may succeed at once: the look-up of networks that precedes some calls
/// is given a single second, which another call that makes a network can use up.
#[must_use]
pub fn is_transient(result: &Result<Output, CallError>) -> bool {
    let Ok(output) = result else { return false };
    output.code != 0 && String::from_utf8_lossy(&output.stderr).contains("com.apple.container.apiserver/networkList")
}

/// Whether the command itself failed, rather than what it ran in a container: that may end with 1, too, and say anything.
#[must_use]
pub fn is_of_command(id: &str, output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let Some(line) = stderr.lines().find_map(|line| line.strip_prefix("Error: ")) else { return false };
    let own = [
        format!("get failed: container {id} not found"),
        format!("container {id} is not running"),
        "failed to create process in container".to_owned(),
        "failed to list containers".to_owned(),
        "failed to exec process".to_owned(),
        "interrupted: \"XPC connection error".to_owned(),
        "internalError: \"failed to ".to_owned(),
    ];
    output.code == USAGE && stderr.contains("Usage: container ")
        || output.code == 1 && own.iter().any(|own| line.starts_with(own.as_str()))
}

/// Whether there is no such program in the container.
#[must_use]
pub fn is_no_program(id: &str, output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find_map(|line| line.strip_prefix("Error: failed to start process "));
    output.code == 1 && line.is_some_and(|line| line.contains(&format!("in container {id} ")))
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
