//! Completion in a real bash, and Kina as a plugin of a real kubectl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::{Ran, TestEnvironment};

/// A program of the path of whoever runs the tests, or of a variable.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.exists()))
}

fn link(environment: &TestEnvironment, name: &str) {
    let bin = environment.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let binary: PathBuf = std::env::var_os("KINA_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kina").into()).into();
    std::os::unix::fs::symlink(std::path::absolute(binary).unwrap(), bin.join(name)).unwrap();
}

fn serving(environment: &TestEnvironment) -> crate::environment::Running {
    let mut serve = environment.command(&["serve"]);
    let running = environment.start_command(serve.env("KINA_SIM_LATENCY", "none"), "Ctrl-C ends it");
    let _ = environment.kina(&["create", "cluster", "dev", "--wait", "0"]).success();
    running
}

/// What bash would offer after these words.
fn offered(environment: &TestEnvironment, bash: &Path, words: &[&str]) -> Vec<String> {
    let script = "source <(kina completion bash) && COMP_WORDS=(\"$@\") && COMP_CWORD=$(($# - 1)) && _kina && printf '%s\\n' \"${COMPREPLY[@]}\"";
    let command = environment.command(&[]);
    let variables: Vec<_> =
        command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
    let mut shell = Command::new(bash);
    shell.env_clear().current_dir(environment.path("work")).args(["-c", script, "bash"]).args(words);
    shell.envs(variables.into_iter().filter_map(|(key, value)| Some((key, value?))));

    let ran: Ran = environment.ran(shell.output().unwrap());
    assert_eq!(ran.err, "", "completion says nothing");
    ran.out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_options_files_and_live_names() {
    let Some(bash) = program("BASH_PROGRAM", "bash") else {
        eprintln!("skipped: there is no bash");
        return;
    };
    let environment = TestEnvironment::new();
    link(&environment, "kina");
    let offered = |words: &[&str]| offered(&environment, &bash, words);
    assert_eq!(offered(&["kina", "ap"]), ["apply", "approve"]);
    assert_eq!(offered(&["kina", "--color", "=", "al"]), ["always"]);
    assert_eq!(offered(&["kina", "status", ""]), [""; 0], "nobody runs, and no home is made");
    assert!(!environment.path("home/.kina").exists());
    environment.write("dev.yaml", "");
    assert_eq!(offered(&["kina", "apply", "-f", "d"]), ["dev.yaml"]);
    let _running = serving(&environment);
    assert_eq!(offered(&["kina", "status", ""]), ["dev"]);
    assert_eq!(offered(&["kina", "delete", "cluster", "d"]), ["dev"]);
    assert_eq!(offered(&["kina", "describe", "cluster/"]), ["cluster/dev"]);
    assert_eq!(
        offered(&["kina", "explain", "cluster.spec.drift."]),
        ["cluster.spec.drift.interval", "cluster.spec.drift.mode"]
    );
}

#[test]
fn kina_is_a_plugin_of_kubectl() {
    let Some(kubectl) = program("KUBECTL", "kubectl") else {
        eprintln!("skipped: there is no kubectl");
        return;
    };
    let environment = TestEnvironment::new();
    link(&environment, "kubectl-kina");
    link(&environment, "kubectl_complete-kina");
    let kubectl = |arguments: &[&str]| {
        let template = environment.command(arguments);
        let mut command = Command::new(&kubectl);
        command.env_clear().args(arguments).current_dir(environment.path("work"));
        command.envs(template.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
        environment.ran(command.output().unwrap())
    };
    let _running = serving(&environment);
    assert_eq!(kubectl(&["kina", "get", "clusters", "-o", "name"]).success(), "cluster.kina.dev/dev\n");
    assert!(kubectl(&["plugin", "list"]).success().contains("kubectl-kina"));
    let usage = kubectl(&["kina", "status", "--nope"]).fails(2);
    assert!(usage.contains("Usage: kubectl kina status"), "{usage}");
    let completed = kubectl(&["__complete", "kina", "status", "d"]).success();
    assert!(completed.starts_with("dev\tcluster\n") && completed.contains(":4"), "{completed}");
}
