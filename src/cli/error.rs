//! Errors as people read them: what failed on what, why, and what to do next.
//!
//! Library errors say what they know; here it is decided whose fault it is, and so with which code the command ends.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use serde_json::{Value, json};

use super::exit::Exit;
use crate::apiserver::store::StoreError;
use crate::backup::BackupError;
use crate::home::HomeError;
use crate::kubeconfig::KubeconfigError;
use crate::ui::{Line, Span, Tone};

/// The end of a command that did not do what was asked.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    /// Blocks told before, as they are.
    before: Vec<String>,
    /// Empty for an end without a word.
    message: String,
    /// More about it, line by line.
    details: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl CliError {
    /// An error with a message: lower case, what was attempted on what, without the cause.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, before: Vec::new(), message: message.into(), details: Vec::new(), source: None, hints: Vec::new() }
    }

    /// An end without a word.
    #[must_use]
    pub fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// With a cause.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// With a chain of causes that cannot be moved, or that name themselves too often.
    #[must_use]
    pub fn because_of(self, error: &(dyn StdError + 'static)) -> Self {
        self.because(Flat::of(error))
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !hint.is_empty() && !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// With more about it, a line each.
    #[must_use]
    pub fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// With blocks of text that are told before it, as they are: faults of manifests, drawn already.
    #[must_use]
    pub fn preceded_by(mut self, blocks: Vec<String>) -> Self {
        self.before = blocks;
        self
    }

    /// A request that the API answered with an error, or did not answer. `attempted` is what for, such as `apply
    /// cluster/dev`.
    #[must_use]
    pub fn request(attempted: &str, error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::new(Exit::Failure, format!("cannot {attempted}: the API did not answer"))
                .because(Flat::of(&error))
                .hint("`kina status` tells whether Kina runs; its log tells why it does not answer");
        };
        let exit = match status.reason.as_str() {
            "NotFound" => Exit::NotFound,
            "Forbidden" | "Conflict" => Exit::Refused,
            "Invalid" | "BadRequest" => Exit::Invalid,
            _ => Exit::Failure,
        };
        let causes: Vec<String> = status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .filter(|cause| !cause.field.is_empty())
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let message =
            if exit == Exit::NotFound { status.message } else { format!("cannot {attempted}: {}", status.message) };
        let room =
            if message.contains("no space left for the store") { "make room on the disk of the home" } else { "" };
        Self::new(exit, message).details(causes).hint(room)
    }

    /// With another code: of a verb whose codes have meanings of their own.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// For programs; `None` for an end without a word.
    #[must_use]
    pub fn event(&self) -> Option<Value> {
        let mut causes = Vec::new();
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause.filter(|_| causes.len() < 20) {
            causes.push(error.to_string());
            cause = error.source();
        }
        let said = !self.message.is_empty();
        said.then(|| {
            json!({"type": "error", "exitCode": self.exit.code(), "message": self.message, "details": self.details,
                "faults": self.before, "causes": causes, "hints": self.hints})
        })
    }

    /// What was attempted on what.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What is told before it.
    #[must_use]
    pub fn before(&self) -> &[String] {
        &self.before
    }

    /// Everything to say, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        if self.message.is_empty() {
            return Vec::new();
        }
        let mut lines =
            vec![Line::new([Span::new(Tone::Bad, "error"), Span::new(Tone::Plain, format!(": {}", self.message))])];
        lines.extend(self.details.iter().map(|detail| Line::of(Tone::Plain, format!("  {detail}"))));
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        let mut said = self.message.clone();
        // Chains are short; the bound is against one that is a ring.
        for _ in 0..20 {
            let Some(error) = cause else { break };
            let text = error.to_string();
            // Some libraries print their source in their own text too: everything is said once.
            if !text.is_empty() && !said.contains(&text) {
                lines.push(Line::new([Span::new(Tone::Faint, "  Caused by: "), Span::new(Tone::Plain, &text)]));
                said = text;
            }
            cause = error.source();
        }
        if !self.hints.is_empty() {
            lines.push(Line::default());
        }
        let hint =
            |hint: &String| Line::new([Span::new(Tone::Busy, "hint"), Span::new(Tone::Plain, format!(": {hint}"))]);
        lines.extend(self.hints.iter().map(hint));
        lines
    }
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        let exit = if matches!(error, HomeError::Busy { .. }) { Exit::Busy } else { Exit::Failure };
        let hint = error.hint().unwrap_or_default();
        let message = error.to_string();
        let mut this = Self::new(exit, message).hint(hint);
        this.source = Some(Box::new(error));
        this
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let exit = if matches!(error, StoreError::InUse { .. }) { Exit::Busy } else { Exit::Failure };
        Self::new(exit, error.to_string()).hint(error.hint().unwrap_or_default()).because(error)
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let exit = match &error {
            BackupError::Home(HomeError::Busy { .. }) | BackupError::Store(StoreError::InUse { .. }) => Exit::Busy,
            BackupError::Occupied { .. } | BackupError::OtherInstallation { .. } => Exit::Refused,
            BackupError::Damaged { .. } | BackupError::Newer { .. } => Exit::Invalid,
            BackupError::Io { operation: "read", source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::NotFound
            }
            _ => Exit::Failure,
        };
        Self::new(exit, error.to_string()).hint(error.hint().unwrap_or_default()).because(error)
    }
}

impl From<KubeconfigError> for CliError {
    fn from(error: KubeconfigError) -> Self {
        let exit = if error.is_transient() { Exit::Busy } else { Exit::Failure };
        let mut this = Self::new(exit, error.to_string()).hint(error.hint());
        this.source = Some(Box::new(error));
        this
    }
}

/// A chain of causes as texts, for errors that cannot be moved or name themselves too often.
#[derive(Debug)]
struct Flat {
    text: String,
    source: Option<Box<Flat>>,
}

impl Flat {
    fn of(error: &dyn StdError) -> Self {
        let mut texts = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next.filter(|_| texts.len() < 20) {
            texts.push(error.to_string());
            next = error.source();
        }
        // "ServiceError: connect: refused" over "connect: refused" over "refused": the innermost says it all.
        let texts: Vec<&String> = texts
            .iter()
            .enumerate()
            .filter(|(index, text)| {
                !texts[index + 1..].iter().any(|inner| !inner.is_empty() && text.contains(inner.as_str()))
            })
            .map(|(_, text)| text)
            .collect();
        let chain =
            texts.into_iter().rev().fold(None, |source, text| Some(Box::new(Flat { text: text.clone(), source })));
        chain.map_or_else(|| Flat { text: String::new(), source: None }, |flat| *flat)
    }
}

impl fmt::Display for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Flat {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn shown(error: &CliError) -> String {
        error.lines().iter().map(Line::plain).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_error_tells_what_why_and_what_next_each_once() {
        let source = HomeError::Io {
            operation: "open",
            path: "/home/me/.kina/lock".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        insta::assert_snapshot!(shown(&CliError::from(source)), @r"
        error: could not open /home/me/.kina/lock
          Caused by: permission denied

        hint: the home must be writable; KINA_HOME or `--home DIR` names another
        ");
        let busy = CliError::from(HomeError::Busy { path: "/home/me/.kina".into() });
        assert_eq!(busy.exit(), Exit::Busy);
        insta::assert_snapshot!(shown(&busy), @r"
        error: another kina serves the home /home/me/.kina

        hint: every other command talks to that one (`kina status`); end it first, or take another home with `--home DIR`
        ");
    }

    #[test]
    fn what_the_api_refuses_is_told_with_its_fields_and_ends_with_a_code_of_its_own() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": 403, "reason": "Forbidden", "metadata": {},
            "message": "clusters.kina.dev \"dev\" is forbidden: spec.networking.podSubnet cannot change in place",
            "details": {"causes": [{"field": "spec.networking.podSubnet", "reason": "FieldValueForbidden",
                "message": "cannot change in place from 10.1.0.0/16 to 10.2.0.0/16"}]}}))
        .unwrap();
        let error = CliError::request("apply cluster/dev", kube::Error::Api(Box::new(status)));
        assert_eq!(error.exit(), Exit::Refused);
        insta::assert_snapshot!(shown(&error), @r#"
        error: cannot apply cluster/dev: clusters.kina.dev "dev" is forbidden: spec.networking.podSubnet cannot change in place
          spec.networking.podSubnet: cannot change in place from 10.1.0.0/16 to 10.2.0.0/16
        "#);
    }

    #[test]
    fn a_server_that_is_away_is_told_without_repetition() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = CliError::request("list clusters", kube::Error::Service(Box::new(refused)));
        insta::assert_snapshot!(shown(&error), @r"
        error: cannot list clusters: the API did not answer
          Caused by: connection refused

        hint: `kina status` tells whether Kina runs; its log tells why it does not answer
        ");
    }

    #[test]
    fn a_reader_who_went_away_is_no_failure() {
        let error = super::super::printer::Printer::lost("stdout", io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.exit(), Exit::Ok);
        assert_eq!(shown(&error), "");
    }
}
