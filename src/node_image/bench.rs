//! The container in which an image is made, as commands see it.

use std::time::Duration;

use super::build::{BuildError, Event, Tell};
use crate::runtime::workshop::Workshop;
use crate::runtime::{ExecOutput, ExecRequest};

/// A directory on a volume: what is in it comes into no image. A node has a file system of its own over `/run`, so that not
/// even the empty directory shows.
pub const SCRATCH: &str = "/run/kina-build";
/// Where the source lies.
pub const SOURCE: &str = "/run/kina-build/source";
/// Where containerd listens.
pub const ADDRESS: &str = "/run/kina-build/containerd.sock";

/// What takes a moment.
pub const SHORT: Duration = Duration::from_secs(60);
/// What moves up to some gigabytes on a slow disk.
pub const LONG: Duration = Duration::from_secs(1800);

/// Of what a command said, in an error.
const SAID_CHARS_MAX: usize = 600;

/// The container, and who hears of it.
pub struct Bench<'a> {
    pub workshop: &'a dyn Workshop,
    pub name: &'a str,
    pub tell: Tell<'a>,
}

impl Bench<'_> {
    pub fn step(&mut self, what: impl Into<String>) {
        (self.tell)(Event::Step(what.into()));
    }

    pub fn note(&mut self, what: impl Into<String>) {
        (self.tell)(Event::Note(what.into()));
    }

    /// What a command prints; it must succeed.
    pub async fn say(&self, command: &[&str], timeout: Duration) -> Result<String, BuildError> {
        self.put(command, None, timeout).await
    }

    /// The same, with something for its standard input.
    pub async fn put(&self, command: &[&str], stdin: Option<Vec<u8>>, timeout: Duration) -> Result<String, BuildError> {
        let words = command.iter().map(|&word| word.to_owned()).collect();
        let request = ExecRequest { command: words, stdin, timeout };
        let output = self.workshop.run(self.name, &request).await?;
        said(&title(command), output)
    }

    /// What a script prints; it must succeed.
    pub async fn script(
        &self,
        what: &'static str,
        script: &str,
        arguments: &[&str],
        timeout: Duration,
    ) -> Result<String, BuildError> {
        let words = words(script, arguments);
        let output = self.workshop.run(self.name, &ExecRequest { command: words, stdin: None, timeout }).await?;
        said(what, output)
    }

    /// What `ctr` prints of the containerd that was started here.
    pub async fn ctr(&self, arguments: &[&str], timeout: Duration) -> Result<String, BuildError> {
        let all = [&["ctr", "--address", ADDRESS, "--namespace", "k8s.io"], arguments].concat();
        let words = all.iter().map(|&word| word.to_owned()).collect();
        let output = self.workshop.run(self.name, &ExecRequest { command: words, stdin: None, timeout }).await?;
        said(&format!("ctr {}", title(arguments)), output)
    }
}

/// A script as a command.
pub fn words(script: &str, arguments: &[&str]) -> Vec<String> {
    ["bash", "-c", script, "kina-build"].iter().chain(arguments).map(|&word| word.to_owned()).collect()
}

fn title(command: &[&str]) -> String {
    command.iter().take(3).copied().collect::<Vec<_>>().join(" ")
}

/// What a command printed, or that it failed.
pub fn said(what: &str, output: ExecOutput) -> Result<String, BuildError> {
    if output.code == 0 {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    // What went wrong stands at the end.
    let from = said.char_indices().rev().nth(SAID_CHARS_MAX).map_or(0, |(at, _)| at);
    Err(BuildError::Command { what: what.to_owned(), code: output.code, said: said[from..].to_owned() })
}
