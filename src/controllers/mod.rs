//! The controllers: one folder a kind, each with the same four rooms in the order in which data flows.
//!
//! ```text
//! observe (what is) ──► plan (pure: what to do) ──► act (do it) ──► report (status, events)
//! ```
//!
//! Events only wake: every pass re-reads the world, and the next pass is the retry. No pass waits; what takes long is an
//! [operation](operations) with a name, observed by later passes. The Cluster controller alone grants turns, and a
//! Machine never reasons about its siblings.

pub mod backoff;
pub mod cluster;
pub mod clusters_api;
pub mod context;
pub mod contexts;
pub mod derived;
pub mod drift;
pub mod error;
pub mod events;
pub mod finalizer;
pub mod forwarding;
pub mod host;
pub mod identity;
pub mod limit;
pub mod machine;
pub mod memory;
pub mod node_labels;
pub mod operations;
mod owned;
pub mod proxies;
pub mod retry;
mod run;
pub mod subnets;
#[cfg(test)]
mod tests;
pub mod views;
pub mod wake;

pub use context::{Context, Runtimes};
pub use run::run;
