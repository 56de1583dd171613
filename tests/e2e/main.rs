//! Real Kubernetes: clusters of containers, by the built `kina`, seen with kubectl and docker. One test a story.
//!
//! They run where Docker answers, kubectl is at hand, and a node image is on the host: `KINA_E2E_NODE_IMAGE`, or else the
//! kindest/node release below. Where one of them is missing, every test says that it was skipped, and why.
//! `tests/node-image/build` makes an image from nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests may")]

mod images;
mod lab;
mod life;
mod moving;
mod repair;
mod routed;
mod workloads;
