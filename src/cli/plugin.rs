//! As a plugin of kubectl: a link or copy named `kubectl-kina` in the `PATH` makes `kubectl kina …` work, and one named
//! `kubectl_complete-kina` completes it. Which it is follows from the name that it was started by.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::{Cli, Verb, complete};

/// Reads the command line; usage texts say what was typed.
///
/// # Errors
/// As clap.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.collect();
    let started_by = arguments.first().and_then(|path| Path::new(path).file_stem()).unwrap_or_default();
    let command = Cli::command();
    if started_by == OsStr::new("kubectl_complete-kina") {
        let words = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        // What kubectl has to say of itself is not given: the verb takes any words.
        let mut cli = Cli::from_arg_matches(&command.try_get_matches_from(["kina", "__complete"])?)?;
        cli.verb = Verb::Complete(complete::Args::of_kubectl(words));
        return Ok(cli);
    }
    let command = match started_by == OsStr::new("kubectl-kina") {
        true => command.name("kubectl-kina").bin_name("kubectl kina"),
        false => command,
    };
    Cli::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> String {
        parse(words.iter().map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn usage_says_what_was_typed() {
        let usage = told(&["/usr/local/bin/kubectl-kina", "status", "--nope"]);
        assert!(usage.contains("Usage: kubectl kina status"), "{usage}");
        let usage = told(&["/usr/local/bin/kina", "status", "--nope"]);
        assert!(usage.contains("Usage: kina status"), "{usage}");
        let help = told(&["kubectl-kina", "create", "--help"]);
        assert!(help.contains("Usage: kubectl kina create"), "{help}");
    }

    #[test]
    fn kubectl_asks_by_another_name_what_may_stand_at_the_cursor() {
        let cli = parse(["kubectl_complete-kina", "get", "--na"].map(OsString::from).into_iter()).unwrap();
        assert!(matches!(cli.verb, Verb::Complete(_)));
    }
}
