//! stdout is data, stderr is talk, and the exit code says how it ended.

use std::io::Read;
use std::process::Stdio;

use crate::environment::TestEnvironment;

#[test]
fn version_and_help_are_data() {
    let environment = TestEnvironment::new();
    let version = environment.kina(&["version"]).success();
    assert!(version.starts_with(&format!("kina {}\n", env!("CARGO_PKG_VERSION"))), "{version}");
    let json: serde_json::Value =
        serde_json::from_str(&environment.kina(&["version", "-o", "json"]).success()).unwrap();
    assert_eq!(json["kina"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["server"].is_null());
    let help = environment.kina(&["--help"]).success();
    for verb in [
        "up", "apply", "delete", "get", "describe", "status", "serve", "approve", "detach", "pause", "resume",
        "validate", "schema", "version",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb} is not in\n{help}");
        assert!(environment.kina(&[verb, "--help"]).success().contains("Usage: kina"), "{verb}");
    }
    assert!(!environment.path("home/.kina").exists(), "looking around makes no home");
}

#[test]
fn what_is_not_understood_is_a_usage_error_with_the_nearest_word() {
    let environment = TestEnvironment::new();
    insta::assert_snapshot!(environment.kina(&["aply"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: unrecognized subcommand 'aply'

      tip: a similar subcommand exists: 'apply'

    Usage: kina [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(environment.kina(&["get", "clutser"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: there is no kind `clutser`

    hint: did you mean `clusters`?
    ");
    insta::assert_snapshot!(environment.kina(&["apply"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: no manifest is given

    hint: name files, directories, an `https://` address or `-` with `-f`
    ");
    insta::assert_snapshot!(environment.kina(&["up", "-f", "x.yaml", "--timeout", "5"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: invalid value '5' for '--timeout <DURATION>': a duration is written like `90s`, `5m` or `1h30m`

    For more information, try '--help'.
    ");
}

#[test]
fn colour_is_for_terminals_and_on_request_and_never_under_no_color() {
    let environment = TestEnvironment::new();
    let coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = environment.command(arguments);
        command.envs(variables.iter().copied());
        String::from_utf8(command.output().unwrap().stderr).unwrap().contains('\x1b')
    };
    let missing = ["apply", "-f", "missing.yaml"];
    assert!(!coloured(&missing, &[]));
    assert!(coloured(&missing, &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&missing, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(coloured(&["--color", "always", "apply", "-f", "missing.yaml"], &[("NO_COLOR", "1")]));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let environment = TestEnvironment::new();
    // It meets the closed end, or was faster: neither is worth a word.
    let mut child =
        environment.command(&["schema", "cluster"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(said, "");
}

#[test]
fn a_log_filter_that_makes_no_sense_is_told() {
    let environment = TestEnvironment::new();
    let output = environment.command(&["version"]).env("KINA_LOG", "kina=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"
    error: cannot understand the log filter `kina=loud`
      Caused by: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5

    hint: unset or correct `KINA_LOG`
    "#);
}
