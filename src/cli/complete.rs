//! What may stand where a person pressed Tab: verbs, options and values from the command line's own definition, names from
//! a kina that runs. Takes no lock, waits for nobody, and says nothing of what fails.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::context::Context;
use super::error::CliError;
use super::kinds::{self, Which};
use super::{Cli, explain};
use crate::api::Source;
use crate::home::Home;

/// Whoever pressed Tab waits: names that take longer are left out.
const DEADLINE: Duration = Duration::from_secs(1);
/// More names than this help nobody.
const NAMES_MAX: u32 = 500;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The words after `kina`, with the one that is being written last
    #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
    /// It is answered as kubectl asks its plugins
    #[arg(skip)]
    for_kubectl: bool,
}

impl Args {
    /// As kubectl asks.
    pub fn of_kubectl(words: Vec<String>) -> Self {
        Self { words, for_kubectl: true }
    }
}

/// What may stand at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Paths: the shell knows them.
    Files,
    /// These words, each with what it means.
    Words(Vec<(String, String)>),
    /// Names of these kinds.
    Names(Vec<Which>),
    /// A kind, or a kind and a name: `cluster/dev`.
    Targets,
    /// Ids of what is held.
    Held,
    /// A field: `cluster.spec.workers`.
    Fields,
}

/// What is to be completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What may stand there.
    pub wanted: Wanted,
    /// What is written already.
    pub written: String,
    /// What stands before it in the same word: `--name=`.
    pub before: String,
    /// The home that the words name.
    pub home: Option<PathBuf>,
}

/// Prints `:files`, or `:words` and a line for each: the word, a tab, what it means.
pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let text = answer(&args.words, context).await;
    let text = if args.for_kubectl { for_kubectl(&text) } else { text };
    // A shell that went away is no failure, and nothing else may be told.
    let _ = context.printer.data(&text);
    Ok(())
}

/// The same as kubectl's protocol for its plugins has it: candidates, then what to do without any.
fn for_kubectl(text: &str) -> String {
    let (kind, words) = text.split_once('\n').unwrap_or_default();
    // cobra: 0 lets the shell complete paths, 4 does not.
    let directive = if kind == ":files" { ":0" } else { ":4" };
    format!("{words}{directive}\n")
}

async fn answer(words: &[String], context: &Context) -> String {
    let place = place(words);
    let found = match &place.wanted {
        Wanted::Files => return ":files\n".to_owned(),
        Wanted::Words(words) => words.clone(),
        Wanted::Fields => explain::fields(&place.written).into_iter().map(|field| (field, String::new())).collect(),
        Wanted::Names(_) | Wanted::Targets | Wanted::Held => {
            let home = place.home.clone().map_or_else(|| context.home.clone(), Home::at);
            names(&place, &home, context).await
        }
    };
    let matching = found.into_iter().filter(|(word, _)| word.starts_with(&place.written));
    let line = |(word, meaning): (String, String)| {
        let meaning = meaning.lines().next().unwrap_or_default().to_owned();
        format!("{}{word}\t{meaning}\n", place.before)
    };
    format!(":words\n{}", matching.map(line).collect::<String>())
}

/// Names from a kina that runs; none where there is none, or where it does not answer at once.
async fn names(place: &Place, home: &Home, context: &Context) -> Vec<(String, String)> {
    let found = async {
        let of = match &place.wanted {
            Wanted::Targets => match place.written.split_once('/') {
                None => return targets(),
                Some((kind, _)) => Which::parse(kind).into_iter().collect(),
            },
            Wanted::Names(kinds) => kinds.clone(),
            _ => Vec::new(),
        };
        let Some(client) = context.engine.peek(home).await else { return Vec::new() };
        if place.wanted == Wanted::Held {
            return held(&client).await;
        }
        let mut found = Vec::new();
        for which in of {
            let Ok(kind) = which.kind() else { continue };
            let listed = kinds::api(&client, &kind).list_metadata(&ListParams::default().limit(NAMES_MAX)).await;
            let before = match (&place.wanted, place.written.split_once('/')) {
                (Wanted::Targets, Some((kind, _))) => format!("{kind}/"),
                _ => String::new(),
            };
            let names = listed.into_iter().flat_map(|list| list.items);
            found.extend(names.map(|object| (format!("{before}{}", object.name_any()), kind.singular.clone())));
        }
        found
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap_or_default()
}

fn targets() -> Vec<(String, String)> {
    let kinds = [Which::Clusters, Which::Machines, Which::Sources, Which::Events];
    let plural = |which: Which| Some((which.kind().ok()?.resource.plural, "kind".to_owned()));
    kinds.into_iter().filter_map(plural).collect()
}

async fn held(client: &Client) -> Vec<(String, String)> {
    let sources = Api::<Source>::all(client.clone()).list(&ListParams::default().limit(NAMES_MAX)).await;
    let held =
        sources.into_iter().flat_map(|list| list.items).flat_map(|source| source.status.unwrap_or_default().held);
    held.map(|set| (set.id, set.clusters.join(", "))).collect()
}

/// What is asked for by these words, of which the last is being written.
#[must_use]
pub fn place(words: &[String]) -> Place {
    let mut command = Cli::command();
    command.build();
    let (written, words) = words.split_last().map_or_else(Default::default, |(last, rest)| (last.clone(), rest));
    let mut walk = Walk {
        command: &command,
        path: Vec::new(),
        positionals: Vec::new(),
        pending: None,
        home: None,
        is_literal: false,
    };
    for word in words {
        walk.word(word);
    }
    walk.end(written)
}

/// The way through the words.
struct Walk<'a> {
    command: &'a Command,
    /// Verbs so far.
    path: Vec<String>,
    /// Words so far that are no options.
    positionals: Vec<String>,
    /// An option that waits for its value.
    pending: Option<&'a Arg>,
    home: Option<PathBuf>,
    /// After `--`.
    is_literal: bool,
}

impl<'a> Walk<'a> {
    fn word(&mut self, word: &str) {
        // Bash splits `--name=dev` into three.
        if word == "=" && self.pending.is_some() {
            return;
        }
        if let Some(arg) = self.pending.take() {
            if arg.get_id() == "home" {
                self.home = Some(PathBuf::from(word));
            }
        } else if self.is_literal {
            self.positionals.push(word.to_owned());
        } else if word == "--" {
            self.is_literal = true;
        } else if word.starts_with('-') && word.len() > 1 {
            let is_whole = !word.contains('=');
            self.pending = self.option(word).filter(|arg| is_whole && arg.get_action().takes_values());
        } else if let Some(sub) = self.command.find_subcommand(word).filter(|_| self.positionals.is_empty()) {
            self.command = sub;
            self.path.push(word.to_owned());
        } else {
            self.positionals.push(word.to_owned());
        }
    }

    /// The option that a word names: `--name`, `--name=x`, `-f`, `-fx`.
    fn option(&self, word: &str) -> Option<&'a Arg> {
        let name = word.split('=').next().unwrap_or_default();
        let mut options = self.command.get_arguments().filter(|arg| !arg.is_positional());
        match name.strip_prefix("--") {
            Some(long) => options.find(|arg| arg.get_long() == Some(long)),
            // Of `-Rf x` the last letter waits for a value.
            None => options.find(|arg| arg.get_short().is_some() && arg.get_short() == name.chars().last()),
        }
    }

    fn end(mut self, written: String) -> Place {
        let home = self.home.take();
        let place = |wanted, written: String, before: String| Place { wanted, written, before, home };
        if let Some(arg) = self.pending {
            let written = if written == "=" { String::new() } else { written };
            return place(self.value(arg), written, String::new());
        }
        if self.is_literal || !written.starts_with('-') {
            return place(self.positional(), written, String::new());
        }
        match written.split_once('=') {
            Some((option, value)) => {
                let wanted = self.option(option).map_or(Wanted::Words(Vec::new()), |arg| self.value(arg));
                place(wanted, value.to_owned(), format!("{option}="))
            }
            None => place(self.options(), written, String::new()),
        }
    }

    fn options(&self) -> Wanted {
        let mut words = BTreeSet::new();
        for arg in self.command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            words.extend(arg.get_long().map(|long| (format!("--{long}"), help)));
        }
        Wanted::Words(words.into_iter().collect())
    }

    /// What an option takes.
    fn value(&self, arg: &Arg) -> Wanted {
        if let Some(words) = possible(arg) {
            return words;
        }
        let plain =
            |words: &[&str]| Wanted::Words(words.iter().map(|&word| (word.to_owned(), String::new())).collect());
        match (arg.get_id().as_str(), self.path.first().map(String::as_str)) {
            ("name", Some("create")) => plain(&[]),
            ("name", _) => Wanted::Names(vec![Which::Clusters]),
            ("output", Some("get" | "apply")) => {
                plain(&["table", "wide", "name", "json", "yaml", "jsonpath=", "custom-columns="])
            }
            ("wish", _) => plain(&["condition=Ready", "condition=", "create", "delete", "jsonpath="]),
            ("filenames" | "config" | "kubeconfig" | "home" | "watch" | "unwatch" | "write" | "check", _) => {
                Wanted::Files
            }
            _ => plain(&[]),
        }
    }

    /// What a word that is no option may be.
    fn positional(&self) -> Wanted {
        let words = |words: Vec<(String, String)>| Wanted::Words(words);
        let subcommands: Vec<(String, String)> = self
            .command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
            .map(|sub| (sub.get_name().to_owned(), sub.get_about().map(ToString::to_string).unwrap_or_default()))
            .collect();
        if !subcommands.is_empty() && self.positionals.is_empty() {
            return words(subcommands);
        }
        let clusters = Wanted::Names(vec![Which::Clusters]);
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match (path.as_slice(), self.positionals.as_slice()) {
            (["get"], []) => Wanted::Targets,
            (["get"], [what, ..]) if what == "kubeconfig" => clusters,
            (["get"], [what, ..]) if matches!(what.as_str(), "nodes" | "node" | "no") => {
                Wanted::Names(vec![Which::Machines])
            }
            (["describe" | "delete" | "wait"], []) => Wanted::Targets,
            (["get" | "describe" | "delete" | "wait"], [first, ..]) if first.contains('/') => Wanted::Targets,
            (["get" | "describe" | "delete" | "wait"], [first, ..]) => {
                Wanted::Names(Which::parse(first).into_iter().collect())
            }
            (["status" | "diff" | "plan" | "drift" | "pause" | "resume" | "detach"], _)
            | (["edit" | "history"], [])
            | (["export", "kubeconfig"], []) => clusters,
            (["exec"], []) if !self.is_literal => Wanted::Names(vec![Which::Machines]),
            (["export", "logs"], []) => Wanted::Files,
            (["logs"], []) => Wanted::Names(vec![Which::Clusters, Which::Machines]),
            (["approve"], []) => Wanted::Held,
            (["explain"], []) => Wanted::Fields,
            (["validate"], _) | (["store", _], []) => Wanted::Files,
            _ => {
                let next = self.command.get_positionals().nth(self.positionals.len());
                next.and_then(possible).unwrap_or(Wanted::Words(Vec::new()))
            }
        }
    }
}

/// The words that an argument is one of, if it is.
fn possible(arg: &Arg) -> Option<Wanted> {
    let values = arg.get_possible_values();
    let words: Vec<(String, String)> = values
        .iter()
        .map(|value| (value.get_name().to_owned(), value.get_help().map(ToString::to_string).unwrap_or_default()))
        .collect();
    // What is on or off takes no value.
    (!words.is_empty() && arg.get_action().takes_values()).then_some(Wanted::Words(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(words: &str) -> Place {
        place(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn words(line: &str) -> Vec<String> {
        let place = at(line);
        let Wanted::Words(words) = place.wanted else { panic!("{line}: {:?}", place.wanted) };
        words.into_iter().map(|(word, _)| word).filter(|word| word.starts_with(&place.written)).collect()
    }

    #[test]
    fn every_place_is_told_from_the_words_before_it() {
        assert_eq!(words("ap"), ["apply", "approve"]);
        assert!(!words("").iter().any(|word| word.starts_with('_') || word == "help"));
        assert_eq!(words("create "), ["cluster"]);
        assert_eq!(words("create cluster --re"), ["--retain"]);
        assert_eq!(words("--color a"), ["auto", "always"]);
        assert_eq!(words("status -o "), ["json", "yaml"]);
        assert_eq!(words("get clusters -o y"), ["yaml"]);
        let clusters = Wanted::Names(vec![Which::Clusters]);
        for line in ["status ", "pause a ", "get clusters ", "delete cluster a ", "export kubeconfig --name ", "plan d"]
        {
            assert_eq!(at(line).wanted, clusters, "{line}");
        }
        assert_eq!(at("get ").wanted, Wanted::Targets);
        assert_eq!(at("describe cluster/").wanted, Wanted::Targets);
        assert_eq!(at("exec ").wanted, Wanted::Names(vec![Which::Machines]));
        assert_eq!(words("exec m -- "), Vec::<String>::new());
        assert_eq!(at("approve ").wanted, Wanted::Held);
        assert_eq!(at("explain clu").wanted, Wanted::Fields);
        for line in ["apply -f ", "apply -Rf ", "create cluster --config ", "validate ", "store backup ", "--home "] {
            assert_eq!(at(line).wanted, Wanted::Files, "{line}");
        }
    }

    #[test]
    fn values_are_completed_after_an_equals_sign_however_the_shell_splits() {
        let joined = at("--home=/x get nodes --name=de");
        assert_eq!((joined.before.as_str(), joined.written.as_str()), ("--name=", "de"));
        assert_eq!(joined.wanted, Wanted::Names(vec![Which::Clusters]));
        let split = at("--home /x get nodes --name = de");
        assert_eq!((split.before.as_str(), split.written.as_str()), ("", "de"));
        assert_eq!((split.wanted, split.home), (joined.wanted, Some("/x".into())));
        assert_eq!(at("get nodes --name =").written, "");
    }

    #[test]
    fn nothing_is_completed_where_anything_may_stand() {
        for line in ["create cluster ", "create cluster --name ", "nope ", "get -l ", "history a ", "--nope "] {
            let place = at(line);
            assert!(
                place.wanted == Wanted::Words(Vec::new()) || line == "nope " || line == "--nope ",
                "{line}: {place:?}"
            );
        }
        assert_eq!(place(&[]).written, "");
    }
}
