//! Kubernetes clusters as files.
//!
//! ```text
//! files ──► sources ──► API ──► controllers ──► runtime + kubeadm
//! ```
//!
//! The rooms of the house, in the order in which data flows, each knowing only those to its right in
//! `cli → {sources, controllers, ui} → {runtime, kubeadm, kubeconfig} → {apiserver, api, world}`.
#![forbid(unsafe_code)]

pub mod api;
pub mod apiserver;
pub mod backup;
pub mod cli;
pub mod controllers;
pub mod doctor;
pub mod home;
pub mod host_mounts;
pub mod kubeadm;
pub mod kubeconfig;
pub mod node_image;
pub mod observability;
pub mod runtime;
pub mod sources;
pub mod system;
pub mod ui;
pub mod world;
