//! Verbs and options that people know from kubectl and kind, and what serves here in their place.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What to do instead of what was not understood, where that is known.
pub fn hint(error: &clap::Error) -> Option<&'static str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => verb(text(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => option(text(ContextKind::InvalidArg)?),
        _ => None,
    }
}

fn verb(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "help" => "`kina --help`, `kina VERB --help`",
        "run" => "a cluster is made from a manifest, `kina up -f FILE`, or by `kina create cluster NAME`",
        "rm" | "remove" | "destroy" | "down" => "`kina delete cluster NAME`, or remove the file that declares it",
        "ls" | "list" => "`kina get clusters`",
        "start" => "`kina serve` keeps every cluster running",
        "stop" => "`kina pause NAME` leaves a cluster alone; Ctrl-C ends `kina serve`",
        "patch" | "label" | "annotate" | "replace" | "scale" | "watch" => {
            "Kina's API answers kubectl: `kubectl --kubeconfig ~/.kina/kubeconfig`"
        }
        _ => return None,
    })
}

fn option(option: &str) -> Option<&'static str> {
    Some(match option {
        "-w" | "--watch" => "`kina status -w` and `kina get -w` go on showing what changes",
        "--dry-run" => "`kina apply --dry-run=server` and `kina diff` change nothing",
        "-A" | "--all-namespaces" | "-n" | "--namespace" => {
            "clusters, machines and sources have no namespace; kind's `-n` is `--name` here"
        }
        "--name" => "the name is in the manifest: `metadata.name`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn who_comes_from_kind_or_kubectl_is_told_what_serves_here() {
        let told = |line: &str| hint(&Cli::try_parse_from(line.split(' ')).unwrap_err());
        assert!(told("kina run dev").unwrap().contains("`kina create cluster NAME`"));
        assert_eq!(told("kina help"), Some("`kina --help`, `kina VERB --help`"));
        assert!(told("kina describe clusters -w").unwrap().contains("`kina get -w`"));
        assert!(told("kina up --dry-run -f x.yaml").unwrap().contains("`kina diff`"));
        assert_eq!(told("kina gte clusters"), None, "clap names what is similar");
    }
}
