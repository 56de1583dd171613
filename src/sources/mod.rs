//! Where desired state comes from: watched directories, git checkouts, `apply -f`.
//!
//! ```text
//! directory ──► scan ──► settle ──► manifest ──► plan (pure) ──► reconcile ──► API
//!               files    quiet?     documents    rules           apply, delete, status, events
//! ```

pub mod admission;
mod git;
pub mod manifest;
pub mod plan;
pub mod scan;
pub mod settle;
