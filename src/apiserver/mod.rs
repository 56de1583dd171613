//! The embedded Kubernetes-style API server: store, watch, patch, discovery, serving.
//!
//! It knows nothing of clusters: it serves the kinds that are registered with it.

pub mod admission;
pub mod apply;
pub mod core;
pub mod jsonpath;
pub mod kind;
pub mod schema;
pub mod table;
pub mod user;
