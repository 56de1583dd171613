//! What can go wrong with a runtime.

/// Why an operation failed, as far as the runtime tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// There is no such object.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// An address, subnet or host port is taken.
    Conflict,
    /// Something still uses it.
    InUse,
    /// The container does not run.
    NotRunning,
    /// The runtime does not answer, or answers that it cannot now.
    Unavailable,
    /// No answer within the operation's time.
    Timeout,
    /// An image could not be pulled this time.
    ImagePull,
    /// The request can never succeed as it is.
    Invalid,
    /// The host's disk or memory is used up.
    Exhausted,
    /// Anything else; nothing is known about what happened.
    Unknown,
}

/// A failed operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {message}")]
pub struct RuntimeError {
    /// What was attempted: `create container`.
    pub operation: &'static str,
    /// On what: a name, or the runtime's own name.
    pub object: String,
    /// Why it failed.
    pub cause: Cause,
    /// In the runtime's own words.
    pub message: String,
}

impl RuntimeError {
    /// A failure of `operation` on `object`.
    pub fn new(operation: &'static str, object: impl Into<String>, cause: Cause, message: impl Into<String>) -> Self {
        Self { operation, object: object.into(), cause, message: message.into() }
    }
}
