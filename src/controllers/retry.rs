//! Errors by type, and the one table of retries.
//!
//! Retries live inside named operations and bridge what passes within seconds. Everything longer is the business of the
//! next pass, behind the object's own [`super::backoff`].

use std::time::Duration;

use crate::api::machine::FailureClass;
use crate::runtime::{Cause, RuntimeError};

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It is tried again.
    Transient,
    /// It waits for another spec.
    Terminal,
    /// It waits for a person: something of somebody else is in the way.
    Foreign,
    /// Nothing is known; it is tried again, by the next pass alone.
    Unknown,
}

impl Class {
    /// As status shows it.
    #[must_use]
    pub fn for_status(self) -> FailureClass {
        match self {
            Self::Transient | Self::Unknown => FailureClass::Transient,
            Self::Terminal => FailureClass::Terminal,
            Self::Foreign => FailureClass::Foreign,
        }
    }
}

/// A row of the table: a kind of trouble that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The runtime does not answer just now.
    RuntimeHiccup,
    /// No answer in time.
    NetworkTimeout,
    /// An image could not be pulled this time.
    ImagePull,
    /// Anything else: not tried again here.
    Other,
}

/// No delay between two tries of one call is longer.
pub const DELAY_MAX: Duration = Duration::from_secs(30);

impl Trouble {
    /// The delays between tries; one more try than delays.
    #[must_use]
    pub fn delays(self) -> Vec<Duration> {
        let (tries, first, factor) = match self {
            Self::RuntimeHiccup => (3, Duration::from_secs(1), 2),
            Self::NetworkTimeout => (5, Duration::from_secs(2), 1),
            Self::ImagePull => (3, Duration::from_secs(5), 2),
            Self::Other => (1, Duration::ZERO, 1),
        };
        std::iter::successors(Some(first), |delay| Some((*delay * factor).min(DELAY_MAX))).take(tries - 1).collect()
    }
}

/// An effect that failed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// An API server refused, Kina's own or a cluster's.
    #[error("could not {operation} {object}")]
    Api {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("{operation} {object}: no answer within {} s", after.as_secs())]
    Timeout {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// The bound.
        after: Duration,
    },
    /// A command in a node failed.
    #[error("{command} in {node} failed with code {code}: {message}")]
    Command {
        /// The program and its verb.
        command: String,
        /// The node.
        node: String,
        /// Exit code.
        code: i32,
        /// The end of what it wrote.
        message: String,
    },
    /// Something else has the wanted name, and is not ours.
    #[error("{what} {name} exists and was not made by this Kina for this object")]
    Foreign {
        /// `container`, `network`, `volume`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Files or keys on this host.
    #[error("could not {operation} {object}")]
    Local {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object changed or goes: what was begun is not wanted any more.
    #[error("not wanted any more")]
    Cancelled,
}

impl EffectError {
    /// A failed call of an API server.
    pub fn api(operation: &'static str, object: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { operation, object: object.into(), source: Box::new(source) }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Runtime(error) => match error.cause {
                Cause::Invalid => Class::Terminal,
                Cause::Unknown => Class::Unknown,
                // A taken host port or address: Kina chose it as free, so somebody else has it now.
                Cause::Conflict => Class::Foreign,
                _ => Class::Transient,
            },
            Self::Foreign { .. } => Class::Foreign,
            Self::Api { .. } | Self::Timeout { .. } | Self::Command { .. } | Self::Local { .. } | Self::Cancelled => {
                Class::Transient
            }
        }
    }

    /// Its row of the table.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Runtime(error) => match error.cause {
                Cause::Unavailable => Trouble::RuntimeHiccup,
                Cause::Timeout => Trouble::NetworkTimeout,
                Cause::ImagePull => Trouble::ImagePull,
                _ => Trouble::Other,
            },
            Self::Timeout { .. } => Trouble::NetworkTimeout,
            _ => Trouble::Other,
        }
    }

    /// One word in CamelCase, for status and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Runtime(error) => match error.cause {
                Cause::NotFound => "RuntimeObjectGone",
                Cause::AlreadyExists => "NameTaken",
                Cause::Conflict => "AddressOrPortTaken",
                Cause::InUse => "StillInUse",
                Cause::NotRunning => "ContainerNotRunning",
                Cause::Unavailable => "RuntimeUnavailable",
                Cause::Timeout => "RuntimeTimeout",
                Cause::ImagePull => "ImagePullFailed",
                Cause::Invalid => "RuntimeRefused",
                Cause::Exhausted => "HostExhausted",
                Cause::Unknown => "RuntimeFailed",
            },
            Self::Api { .. } => "ApiFailed",
            Self::Timeout { .. } => "Timeout",
            Self::Command { .. } => "CommandFailed",
            Self::Foreign { .. } => "NameTakenByOthers",
            Self::Local { .. } => "HostFailed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// What a person can do about it, where that follows from its kind.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Runtime(error) => match error.cause {
                Cause::Conflict => Some("end whoever has it, or choose another port or address"),
                Cause::Exhausted => Some("make room on this host"),
                _ => None,
            },
            _ => None,
        }
    }

    /// The error and its causes, as one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Performs an effect, again where the table says so, until `cancelled` tells that it is not wanted any more. An effect
/// that has begun is never broken off: what it does would still happen, unseen.
///
/// # Errors
/// The last error, or [`EffectError::Cancelled`].
pub async fn with_retries<T, F>(
    cancelled: &tokio_util::sync::CancellationToken,
    mut effect: impl FnMut() -> F,
) -> Result<T, EffectError>
where
    F: Future<Output = Result<T, EffectError>>,
{
    let mut failures = 0;
    loop {
        if cancelled.is_cancelled() {
            return Err(EffectError::Cancelled);
        }
        let error = match effect().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        // The delays of the trouble at hand, not of the first one: each row bounds how often it alone goes on.
        let Some(delay) = error.trouble().delays().get(failures).copied() else { return Err(error) };
        failures += 1;
        tracing::debug!(error = %error.chain(), ?delay, "trying again");
        tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(EffectError::Cancelled),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn seconds(trouble: Trouble) -> Vec<u64> {
        trouble.delays().iter().map(Duration::as_secs).collect()
    }

    #[test]
    fn the_table_is_as_documented_and_stays_below_its_bound() {
        assert_eq!(seconds(Trouble::RuntimeHiccup), [1, 2]);
        assert_eq!(seconds(Trouble::NetworkTimeout), [2, 2, 2, 2]);
        assert_eq!(seconds(Trouble::ImagePull), [5, 10]);
        assert_eq!(seconds(Trouble::Other), [0; 0]);
        for trouble in [Trouble::RuntimeHiccup, Trouble::NetworkTimeout, Trouble::ImagePull, Trouble::Other] {
            assert!(trouble.delays().iter().all(|delay| *delay <= DELAY_MAX));
        }
    }

    fn failing(cause: Cause) -> EffectError {
        RuntimeError::new("create container", "dev-a-0", cause, "no").into()
    }

    async fn tries(cause: Cause) -> (u32, u64) {
        let (count, start) = (Cell::new(0), Instant::now());
        let result: Result<(), _> = with_retries(&CancellationToken::new(), || {
            count.set(count.get() + 1);
            async { Err(failing(cause)) }
        })
        .await;
        assert!(result.is_err());
        (count.get(), start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_tried_as_often_and_as_late_as_the_table_says() {
        assert_eq!(tries(Cause::Unavailable).await, (3, 3));
        assert_eq!(tries(Cause::Timeout).await, (5, 8));
        assert_eq!(tries(Cause::ImagePull).await, (3, 15));
        assert_eq!(tries(Cause::Unknown).await, (1, 0));
        assert_eq!(tries(Cause::Invalid).await, (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_operation_does_not_try_again() {
        let cancelled = CancellationToken::new();
        let count = Cell::new(0);
        let result: Result<(), _> = with_retries(&cancelled, || {
            count.set(count.get() + 1);
            cancelled.cancel();
            async { Err(failing(Cause::Unavailable)) }
        })
        .await;
        assert!(matches!(result, Err(EffectError::Cancelled)));
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn errors_are_classed_by_type() {
        assert_eq!(failing(Cause::Unavailable).class(), Class::Transient);
        assert_eq!(failing(Cause::Invalid).class(), Class::Terminal);
        assert_eq!(failing(Cause::Conflict).class(), Class::Foreign);
        assert_eq!(failing(Cause::Unknown).class(), Class::Unknown);
        let foreign = EffectError::Foreign { what: "container", name: "dev-a-0".into() };
        assert_eq!((foreign.class(), foreign.reason()), (Class::Foreign, "NameTakenByOthers"));
    }
}
