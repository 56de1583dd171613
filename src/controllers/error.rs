//! Why a pass could not be made: only where Kina's own API refuses. What the world refuses is status.

use super::retry::EffectError;

/// A pass failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// An effect that a pass makes itself.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// An object could not be written as JSON.
    #[error("could not write an object as JSON")]
    Json(#[source] serde_json::Error),
}

impl ReconcileError {
    /// A failed call of Kina's API.
    pub fn api(operation: &'static str, object: impl Into<String>, source: kube::Error) -> Self {
        Self::Effect(EffectError::api(operation, object, source))
    }
}
