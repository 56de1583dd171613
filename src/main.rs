//! Parse, run, exit code: nothing else.

use std::process::ExitCode;
use std::sync::Arc;

use kina::cli::{self, local::LocalEngine};

/// A quarter of all processor time of many clusters is allocation (docs/benchmarks.md). On one loaded host a thousand of them took
/// 184 s of processor time with the system's allocator, and 148 s with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One provider of cryptography, chosen here: with none chosen, rustls would panic at its first use.
    let chosen = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(chosen.is_ok(), "nobody else chooses");
    cli::main(Arc::new(LocalEngine::of_process()))
}
