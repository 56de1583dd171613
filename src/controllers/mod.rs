//! The controllers: one folder a kind.
pub mod backoff;
pub mod clusters_api;
pub mod events;
pub mod host;
pub mod limit;
pub mod operations;
pub mod retry;
pub mod subnets;
pub mod views;
pub mod wake;
