//! What is missing for clusters on this host, in the order in which it has to be there.
//!
//! ```text
//! host, runtime, home, API ──► gather ──► Facts ──► findings (pure) ──► a screen
//! ```
//!
//! Nothing is changed: a look is all it is. What was not looked at, since something before it is missing, is told as that.

mod apple;
mod engine;
pub mod facts;
pub mod gather;
mod home;
mod host;
mod remains;
#[cfg(test)]
mod tests;
mod wish;

pub use facts::{Facts, Subject};

use crate::runtime::RuntimeError;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Ok,
    /// Worth knowing.
    Note,
    /// It was not looked at.
    Skipped,
    /// It will be in the way of something.
    Warning,
    /// Without it there are no clusters.
    Missing,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found, or why it was not looked at.
    pub cause: String,
    /// What to do.
    pub next: Option<String>,
    /// Starting Apple Container's service is what to do.
    pub is_of_service: bool,
}

impl Finding {
    fn new(check: &'static str, state: State, cause: impl Into<String>) -> Self {
        Self { check, state, cause: cause.into(), next: None, is_of_service: false }
    }

    fn ok(check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(check, State::Ok, cause)
    }

    fn note(check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(check, State::Note, cause)
    }

    fn skipped(check: &'static str, why: &str) -> Self {
        Self::new(check, State::Skipped, format!("not looked at: {why}"))
    }

    fn warning(check: &'static str, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..Self::new(check, State::Warning, cause) }
    }

    fn missing(check: &'static str, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..Self::new(check, State::Missing, cause) }
    }

    /// What a runtime did not do. Its message ends with what to do, where anybody knows.
    fn failed(check: &'static str, error: &RuntimeError) -> Self {
        match error.message.rsplit_once("; ") {
            Some((cause, next)) => Self::missing(check, cause, next),
            None => Self::new(check, State::Missing, &error.message),
        }
    }
}

/// All findings, in the order in which things are needed.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = match &facts.subject {
        Subject::Apple(apple) => apple::findings(apple),
        Subject::Docker(docker) => engine::findings(docker.as_ref(), &facts.host),
        Subject::Simulator => {
            vec![Finding::note("runtime", "`KINA_RUNTIME` names the simulator: no container of a cluster is real")]
        }
    };
    found.extend(host::findings(facts));
    found.extend(home::findings(&facts.home));
    found.extend(host::conveniences(facts));
    found.extend(remains::findings(facts));
    found
}

/// How many things are missing.
#[must_use]
pub fn missing(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.state == State::Missing).count()
}

/// Whether nothing is missing but that Apple Container's service runs.
#[must_use]
pub fn lacks_service_alone(findings: &[Finding]) -> bool {
    missing(findings) == 1 && findings.iter().any(|finding| finding.is_of_service && finding.state == State::Missing)
}
