//! Logs on stderr. Quiet by default, so that the live view stays clean; `KINA_LOG` and `-v` ask for more.

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How much is logged, and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Directives as of `RUST_LOG`, such as `kina=debug,kube=info` (`KINA_LOG`). They win over `verbosity`.
    pub directives: Option<String>,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// A process that people do not look at all the time: it logs from `info` on without being asked.
    pub is_daemon: bool,
    /// One JSON object a line (`KINA_LOG_FORMAT=json`).
    pub json: bool,
    /// With colours.
    pub colour: bool,
}

/// `KINA_LOG` cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("cannot understand the log filter `{directives}`")]
pub struct FilterError {
    /// What was given.
    pub directives: String,
    /// What is wrong with it.
    #[source]
    pub source: tracing_subscriber::filter::ParseError,
}

impl Options {
    /// The directives in force.
    #[must_use]
    pub fn effective(&self) -> &str {
        match (&self.directives, self.verbosity, self.is_daemon) {
            (Some(directives), _, _) => directives,
            (None, 0, false) => "off",
            (None, 0, true) => "warn,kina=info",
            (None, 1, _) => "warn,kina=info",
            (None, 2, _) => "warn,kina=debug",
            (None, 3, _) => "info,kina=trace",
            (None, _, _) => "trace",
        }
    }
}

/// A subscriber that writes to `writer`.
///
/// # Errors
/// [`FilterError`] when the directives cannot be understood.
pub fn subscriber<W>(options: &Options, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, FilterError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = options.effective();
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::OFF.into())
        .parse(directives)
        .map_err(|source| FilterError { directives: directives.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(options.colour);
    Ok(if options.json { Box::new(lines.json().finish()) } else { Box::new(lines.finish()) })
}

/// Makes this process log to stderr. The second call in a process does nothing.
///
/// # Errors
/// [`FilterError`] when the directives cannot be understood.
pub fn init(options: &Options) -> Result<(), FilterError> {
    let subscriber = subscriber(options, std::io::stderr)?;
    // Fails only when one is set already, as in a test that runs several commands.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: &Options) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(options, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "kina::test", cluster = "dev", "told");
            tracing::debug!(target: "kina::test", "detail");
            tracing::info!(target: "hyper", "noise");
        });
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_command_is_quiet_unless_asked_and_a_daemon_tells_what_it_does() {
        assert_eq!(logged(&Options::default()), "");
        let daemon = logged(&Options { is_daemon: true, ..Options::default() });
        assert!(daemon.contains("told") && !daemon.contains("detail") && !daemon.contains("noise"), "{daemon}");
        let verbose = logged(&Options { verbosity: 2, ..Options::default() });
        assert!(verbose.contains("detail") && !verbose.contains("noise"), "{verbose}");
    }

    #[test]
    fn directives_win_over_flags() {
        let options = Options { directives: Some("hyper=info".into()), verbosity: 3, ..Options::default() };
        let text = logged(&options);
        assert!(text.contains("noise") && !text.contains("told"), "{text}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(&Options { verbosity: 1, json: true, ..Options::default() });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["fields"]["cluster"], "dev");
    }

    #[test]
    fn directives_that_make_no_sense_are_an_error() {
        let options = Options { directives: Some("kina=loud".into()), ..Options::default() };
        let error = subscriber(&options, std::io::sink).err().unwrap();
        assert_eq!(error.to_string(), "cannot understand the log filter `kina=loud`");
    }
}
