//! Node images: a base that was made for kind, with another Kubernetes in it.
//!
//! ```text
//! source (directory, tarball, version) ──► Supply ──► a container of the base ──► programs, images unpacked ──► image
//! ```
//!
//! What there is to decide is decided by pure functions: [`source`] what is meant, `layout` where it has everything, `arch`
//! whom a program is for, `images` what a node needs. [`build()`] does it, in a [`crate::runtime::workshop::Workshop`].

pub mod arch;
mod bench;
mod build;
#[cfg(test)]
mod build_tests;
pub mod images;
pub mod layout;
mod scripts;
pub mod source;
pub mod supply;

pub use build::{BuildError, Built, Event, GivenUp, Order, Outcome, build};
