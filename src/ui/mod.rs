//! What people see: tables, descriptions, and the live tree of everything.
//!
//! ```text
//! watch streams ──► feed ──► View ──► tree  ──► lines ──► screen (redrawn in place) or stdout (once)
//!                                └──► steps ──► a line a step (piped)
//! ```
//!
//! Everything but `feed` and `screen` is pure: objects and a time in, [`paint::Line`]s out. No meaning is in colour alone.

pub mod describe;
pub mod feed;
#[cfg(test)]
mod fixtures;
pub mod paint;
pub mod screen;
pub mod steps;
pub mod table;
pub mod tree;
pub mod view;

pub use paint::{Line, Span, Style, Tone};
pub use view::{Update, View};
