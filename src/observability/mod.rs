//! What Kina tells about itself: logs for people who look for a cause, metrics for programs.
//!
//! Both are handed down by value. Only the binary makes the logs global, once, in [`logs::init`].

pub mod logs;
pub mod metrics;

pub use metrics::Metrics;
