//! How one command reaches the API: through the process that serves the home, or as that process itself.

use kube::Client;

use super::context::Context;
use super::engine::{Handle, Purpose, Start, Started};
use super::error::CliError;
use super::exit::Exit;
use crate::kubeconfig::Target;
use crate::system::last_known::Sights;

/// A connection to the API, for the time of one command.
pub struct Session {
    /// The client.
    pub client: Client,
    /// What the runtimes show, where no Kina keeps current what the API says.
    pub sights: Option<Sights>,
    handle: Option<Box<dyn Handle>>,
    runs: Runs,
}

/// What keeps clusters converged while the session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Another process.
    Daemon,
    /// This one.
    Here,
    /// Nothing: the store alone is open.
    Nothing,
}

/// What a command wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Look.
    Read,
    /// Write down a wish, and leave it to whoever runs.
    Record,
    /// Write down a wish, and see it through.
    Converge,
}

impl Session {
    /// Opens what the command needs. `kubeconfig` is the file named with `--kubeconfig`.
    ///
    /// # Errors
    /// When the home cannot be had, or its process cannot be reached.
    pub async fn open(
        context: &mut Context,
        need: Need,
        kubeconfig: Option<&std::path::Path>,
    ) -> Result<Self, CliError> {
        if let Some(client) = context.engine.connect(&context.home).await? {
            if kubeconfig.is_some() {
                let error =
                    CliError::new(Exit::Usage, "`--kubeconfig` has no effect here: a running kina writes the contexts");
                return Err(error.hint("give it to `kina serve` instead"));
            }
            return Ok(Self { client, sights: None, handle: None, runs: Runs::Daemon });
        }
        if need == Need::Converge {
            let start = Start {
                home: context.home.clone(),
                kubeconfig: target(context, kubeconfig),
                watch: Vec::new(),
                unwatch: Vec::new(),
            };
            return Ok(Self::here(context.engine.start(&start).await?, Runs::Here));
        }
        let purpose = if need == Need::Read { Purpose::Read } else { Purpose::Write };
        let started = context.engine.open(&context.home, purpose).await?;
        let note = match need {
            Need::Read => "no kina runs: this is what the last one recorded, corrected by one look at the containers",
            Need::Record | Need::Converge => {
                "no kina runs: wishes are recorded, and nothing happens until `kina serve`"
            }
        };
        context.printer.talk(&format!("note: {note}"));
        Ok(Self::here(started, Runs::Nothing))
    }

    /// What keeps clusters converged.
    #[must_use]
    pub fn runs(&self) -> Runs {
        self.runs
    }

    /// Does the work of a command, unless what was started for it fails meanwhile; then ends what was started.
    ///
    /// # Errors
    /// Those of the work, or why Kina failed.
    pub async fn run<T>(mut self, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        let Some(mut handle) = self.handle.take() else { return work.await };
        let result = tokio::select! {
            biased;
            result = work => result,
            error = handle.failed() => Err(error),
        };
        handle.stop().await;
        result
    }

    fn here(started: Started, runs: Runs) -> Self {
        Self { client: started.client, sights: started.sights, handle: Some(started.handle), runs }
    }
}

/// Where contexts go: the file named, else what `$KUBECONFIG` says, else `~/.kube/config`.
pub(super) fn target(context: &Context, explicit: Option<&std::path::Path>) -> Target {
    match explicit {
        Some(path) => Target::explicit(path),
        None => Target::resolve(context.environment.kubeconfig.as_deref(), &context.environment.user_home),
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("runs", &self.runs).finish_non_exhaustive()
    }
}
