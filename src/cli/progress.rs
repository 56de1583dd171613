//! `--progress json`: what a command does, for programs: one JSON object a line on stdout. `docs/reference/progress.md` says
//! which, and promises it.

use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use crate::ui::steps::{State, Step};

/// For whom progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// For people, on stderr: a live tree on a terminal, a line a step elsewhere
    #[default]
    Auto,
    /// For programs, on stdout: one JSON object a line
    Json,
}

/// The option of verbs that go on for a while.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Flag {
    /// How to show what happens
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub progress: Progress,
}

impl Context {
    /// Tells a program, where one reads. `event` is an object with a `type`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn tell(&mut self, mut event: Value) -> Result<(), CliError> {
        if self.progress == Progress::Auto {
            return Ok(());
        }
        event["time"] = json!(self.world.clock.now().to_string());
        self.printer.data_line(&event.to_string())
    }

    /// Whether a program reads.
    #[must_use]
    pub fn is_read_by_a_program(&self) -> bool {
        self.progress == Progress::Json
    }
}

/// A step.
#[must_use]
pub fn step(step: &Step) -> Value {
    let state = match step.state() {
        State::Working => "working",
        State::Ready => "ready",
        State::Failed => "failed",
        State::Gone => "gone",
    };
    json!({"type": "step", "object": step.key, "state": state, "reason": step.reason, "message": step.text})
}
