//! What a user would see; one file a story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests may")]

mod api_kubectl;
mod kubectl;
