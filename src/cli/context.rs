//! What every command works with.

use std::path::PathBuf;
use std::sync::Arc;

use super::engine::Engine;
use super::error::CliError;
use super::exit::Exit;
use super::interrupt::Interrupt;
use super::printer::Printer;
use super::progress::Progress;
use crate::home::Home;
use crate::world::World;

/// What the process was started with, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$HOME`, or what the system knows of the user.
    pub user_home: PathBuf,
    /// `$KINA_HOME`. Read here and not by clap, which would name `--home` in every message about usage.
    pub home: Option<PathBuf>,
    /// `$KINA_ALLOW_HOST_MOUNTS`, split at `:`.
    pub allowed_mounts: Vec<PathBuf>,
    /// `$KUBECONFIG`.
    pub kubeconfig: Option<String>,
    /// `$KUBE_EDITOR`, `$VISUAL` or `$EDITOR`, the first that is set.
    pub editor: Option<String>,
    /// Where temporary files go.
    pub temporary: PathBuf,
    /// Whether the locale shows more than ASCII.
    pub unicode: bool,
    /// `$KINA_LOG`.
    pub log: Option<String>,
    /// `$KINA_LOG_FORMAT` is `json`.
    pub log_json: bool,
}

/// What every command works with.
pub struct Context {
    /// Where output goes.
    pub printer: Printer,
    /// For whom progress is shown; a verb sets it.
    pub progress: Progress,
    /// Clock, files, randomness.
    pub world: World,
    /// What the process was started with.
    pub environment: Environment,
    /// The home in use.
    pub home: Home,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// The rest of Kina.
    pub engine: Arc<dyn Engine>,
}

impl Context {
    /// Tells an error.
    pub fn report(&mut self, error: &CliError) {
        for block in error.before() {
            self.printer.talk(&format!("{block}\n"));
        }
        self.printer.talk_lines(&error.lines());
        if let Some(event) = error.event() {
            let _ = self.tell(event);
        }
    }
}

/// Failures of several objects: each told when it happens, the worst decides how the command ends.
#[derive(Debug, Default)]
pub struct Failures {
    first: Option<Exit>,
}

impl Failures {
    /// Tells one and remembers it. An end without failure, such as a reader that went away, ends the command instead.
    ///
    /// # Errors
    /// Those that are no failures.
    pub fn add(&mut self, context: &mut Context, error: CliError) -> Result<(), CliError> {
        if error.exit() == Exit::Ok {
            return Err(error);
        }
        context.report(&error);
        self.first.get_or_insert(error.exit());
        Ok(())
    }

    /// The end of the command.
    ///
    /// # Errors
    /// With the code of the first failure, all being told already.
    pub fn end(self) -> Result<(), CliError> {
        self.first.map_or(Ok(()), |exit| Err(CliError::silent(exit)))
    }
}

impl Environment {
    /// Reads the process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = text("LC_ALL").or_else(|| text("LC_CTYPE")).or_else(|| text("LANG"));
        let shows = |locale: &String| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        };
        Self {
            user_home: etcetera::home_dir().unwrap_or_else(|_| PathBuf::from("/")),
            home: std::env::var_os("KINA_HOME").filter(|value| !value.is_empty()).map(PathBuf::from),
            allowed_mounts: std::env::var_os("KINA_ALLOW_HOST_MOUNTS")
                .map(|paths| std::env::split_paths(&paths).filter_map(|path| std::path::absolute(path).ok()).collect())
                .unwrap_or_default(),
            kubeconfig: text("KUBECONFIG"),
            editor: ["KUBE_EDITOR", "VISUAL", "EDITOR"].into_iter().find_map(text),
            temporary: std::env::temp_dir(),
            // macOS sets no locale in some shells, and always shows Unicode.
            unicode: locale.as_ref().map_or(cfg!(target_os = "macos"), shows),
            log: text("KINA_LOG"),
            log_json: text("KINA_LOG_FORMAT").as_deref() == Some("json"),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("home", &self.home).finish_non_exhaustive()
    }
}
