//! Where desired state comes from: watched directories, git checkouts, `apply -f`.
//!
//! ```text
//! directory ──► scan ──► settle ──► manifest ──► plan (pure) ──► run, act ──► API
//!               files    quiet?     documents    rules           status first, then applications and deletions
//! ```
//!
//! [`run`] is the whole of it for any number of directories. [`manifest`] alone serves `kina apply -f` and
//! `kina validate`; [`admission`] guards what a file declares against everybody else.

mod act;
pub mod admission;
mod board;
mod events;
mod git;
pub mod manifest;
mod mirror;
pub mod plan;
mod roots;
mod run;
pub mod scan;
pub mod settle;
mod watched;

pub use act::{FIELD_MANAGER, HAND_FIELD_MANAGER};
pub use roots::{HOME_SOURCE, Root};
pub use run::run;
pub use scan::is_manifest;
