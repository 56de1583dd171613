//! Calls of the command: none before its version is known, those that change something one at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use super::failure::{failed, is_transient, unreadable};
use super::process::{Call, CallError, Commands, Input, Output};
use super::version::{OLDEST, Version};
use crate::runtime::{Cause, RuntimeError};

/// Of a question: the command itself gives up after ten.
pub const QUESTION: Duration = Duration::from_secs(12);
/// Of a change. The command waits for some things without end; a machine that starts takes seconds, and the service starts one
/// at a time.
pub const CHANGE: Duration = Duration::from_secs(90);
/// Of a pull over a slow line.
pub const PULL: Duration = Duration::from_secs(880);
/// A container's document has some 3 KiB: five thousand containers.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// What a command that changes something prints is a name.
const NAME_BYTES_MAX: usize = 64 << 10;
/// How often a call is made that fails before it has begun, and how long to wait before the next: what it runs into, a network
/// that is being made, takes about a second.
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_millis(700);

/// The command of this host.
#[derive(Debug)]
pub struct CommandLine {
    commands: Arc<dyn Commands>,
    /// Forgotten where a call is not understood: the command may have been replaced.
    version: Mutex<Option<Version>>,
    /// The service makes one change at a time, and those that wait make it fail.
    changes: Mutex<()>,
}

/// The right to change something.
pub struct Turn<'a> {
    command: &'a CommandLine,
    _guard: MutexGuard<'a, ()>,
}

impl CommandLine {
    /// Over what runs it.
    #[must_use]
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands, version: Mutex::default(), changes: Mutex::default() }
    }

    /// Its version, which is one that Kina can drive.
    ///
    /// # Errors
    /// [`Cause::Unavailable`] for one that is too old, or is something else.
    pub async fn version(&self) -> Result<Version, RuntimeError> {
        const OPERATION: &str = "ask";
        let mut known = self.version.lock().await;
        if let Some(version) = *known {
            return Ok(version);
        }
        let call = Call {
            arguments: vec!["--version".to_owned()],
            input: Input::Nothing,
            within: QUESTION,
            bytes_max: NAME_BYTES_MAX,
        };
        let result = self.commands.run(call).await;
        let output = match result {
            Ok(output) if output.code == 0 => output,
            result => return Err(failed(OPERATION, "apple", &result)),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let unusable = |why: String| RuntimeError::new(OPERATION, "apple", Cause::Unavailable, why);
        let version = Version::parse(&text).filter(|_| text.starts_with("container CLI"));
        let version = version.ok_or_else(|| {
            let said: String = text.lines().next().unwrap_or_default().chars().take(80).collect();
            unusable(format!("the program `container` is not Apple Container: its version is {said:?}"))
        })?;
        if version < OLDEST {
            let message =
                format!("`container` {version} is older than {OLDEST}, the oldest that Kina drives: update it");
            return Err(unusable(message));
        }
        *known = Some(version);
        Ok(version)
    }

    /// Runs a call, whatever comes of it.
    ///
    /// # Errors
    /// Where the version is not one that can be driven.
    pub async fn run(&self, call: Call) -> Result<Result<Output, CallError>, RuntimeError> {
        self.version().await?;
        let result = self.commands.run(call).await;
        if result.as_ref().is_ok_and(|output| output.code == 64) {
            *self.version.lock().await = None;
        }
        Ok(result)
    }

    /// Asks something.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn ask(
        &self,
        arguments: &[&str],
        within: Duration,
        bytes_max: usize,
    ) -> Result<Result<Output, CallError>, RuntimeError> {
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        self.run(Call { arguments, input: Input::Nothing, within, bytes_max }).await
    }

    /// Asks for a document, whole.
    ///
    /// # Errors
    /// Whatever comes instead.
    pub async fn document(&self, operation: &'static str, arguments: &[&str]) -> Result<Vec<u8>, RuntimeError> {
        match self.ask(arguments, QUESTION, DOCUMENT_BYTES_MAX).await? {
            Ok(output) if output.code == 0 && output.is_cut => {
                let error = std::io::Error::other(format!("it is longer than {DOCUMENT_BYTES_MAX} bytes"));
                Err(unreadable(operation, "apple", &error))
            }
            Ok(output) if output.code == 0 => Ok(output.stdout),
            result => Err(failed(operation, "apple", &result)),
        }
    }

    /// Waits for the right to change something.
    pub async fn turn(&self) -> Turn<'_> {
        Turn { command: self, _guard: self.changes.lock().await }
    }
}

impl Turn<'_> {
    /// Changes something. A call that failed before it had begun is made again.
    ///
    /// # Errors
    /// With the cause, as far as the words tell.
    pub async fn change(
        &self,
        operation: &'static str,
        object: &str,
        arguments: Vec<String>,
        within: Duration,
    ) -> Result<(), RuntimeError> {
        let call = Call { arguments, input: Input::Nothing, within, bytes_max: NAME_BYTES_MAX };
        let mut tries = 1;
        loop {
            let result = self.command.run(call.clone()).await?;
            match result {
                Ok(output) if output.code == 0 => return Ok(()),
                result if tries < TRIES && is_transient(&result) => {
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                result => return Err(failed(operation, object, &result)),
            }
        }
    }
}
