//! The kinds that people write and read: [`Cluster`], [`Machine`] and [`Source`], group `kina.dev`, version `v1alpha1`.
//!
//! Types, their rules, and pure functions over them. Nothing here performs I/O or knows how a kind is served.

pub mod addon;
pub mod annotations;
pub mod cidr;
pub mod class;
pub mod cluster;
pub mod conditions;
pub mod defaults;
pub mod inside;
pub mod ipv6;
pub mod machine;
pub mod names;
pub mod node;
pub mod patch;
pub mod quantity;
pub mod source;
pub mod users;
pub mod validation;
pub mod versions;

pub use cluster::{Cluster, ClusterSpec, ClusterStatus};
pub use machine::{Machine, MachineSpec, MachineStatus};
pub use source::{Source, SourceSpec, SourceStatus};

/// The API group of Kina's kinds.
pub const GROUP: &str = "kina.dev";
/// The version of Kina's kinds.
pub const VERSION: &str = "v1alpha1";
/// `GROUP/VERSION`.
pub const API_VERSION: &str = "kina.dev/v1alpha1";
