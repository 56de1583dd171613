//! Apple Container: a program that stands in for its `container` command, tests of that program, and Kina's client against it.
//!
//! One program is both, so that neither is ever older than the other: called by the name `container` it is the stand-in, called
//! by any other it runs the tests. That takes a `main` of its own instead of the one that Rust gives tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may"
)]

mod client;
#[allow(dead_code, reason = "the contract is the library's, and says what it needs")]
#[path = "../../src/runtime/contract.rs"]
mod contract;
mod doctor;
mod lab;
mod literal;
mod real;
mod runner;
mod stand_in;
mod wiring;

/// What the contract calls the room above it.
pub use kina::runtime::*;

/// And the house.
pub mod api {
    pub use kina::api::*;
}

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let program = arguments.first().map(std::path::Path::new).and_then(std::path::Path::file_name);
    if program.is_some_and(|name| name == "container") {
        return stand_in::main(&arguments);
    }
    let all: Vec<(&str, fn())> = [literal::TESTS, client::TESTS, wiring::TESTS, doctor::TESTS, real::TESTS].concat();
    runner::run(&arguments, &all)
}
