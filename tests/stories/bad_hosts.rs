//! Hosts that are not as they should be: each is told with its place and the next step, and ends with a code of its own.

#[cfg(target_os = "linux")]
use std::{fs, net::TcpListener, process::Command};

use crate::environment::{Ran, TestEnvironment};

const TOY: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: toy\nspec:\n  runtime: sim\n";
const UP: [&str; 6] = ["up", "-f", "toy.yaml", "--exit", "--timeout", "60s"];

/// What is said at the end, without the progress before it.
fn end(ran: Ran) -> String {
    let (code, err) = (ran.code, ran.err);
    let begin = err.find("error: ").unwrap_or_default();
    format!("exit {code}\n{}", &err[begin..])
}

/// `up` with a home elsewhere.
fn up_in(environment: &TestEnvironment, home: &str) -> String {
    let ran = environment.command(&UP).env("KINA_HOME", home).output().unwrap();
    end(environment.ran(ran))
}

#[test]
fn a_home_that_cannot_be_is_told() {
    let environment = TestEnvironment::new();
    environment.write("toy.yaml", TOY);
    std::os::unix::fs::symlink("/nowhere/at/all", environment.path("work/dangling")).unwrap();
    let below = environment.path("work/toy.yaml/home").display().to_string();
    let dangling = environment.path("work/dangling").display().to_string();
    let file = environment.path("work/toy.yaml").display().to_string();
    // Nobody may make a directory there, not even root.
    #[cfg(target_os = "linux")]
    insta::assert_snapshot!(up_in(&environment, "/sys/kina"), @r"
    exit 1
    error: could not create /sys/kina
      Caused by: Operation not permitted (os error 1)

    hint: the home must be writable; KINA_HOME or `--home DIR` names another
    ");
    insta::assert_snapshot!([below, dangling, file].map(|home| up_in(&environment, &home)).join("\n"), @r"
    exit 1
    error: could not create $TMP/work/toy.yaml/home
      Caused by: Not a directory (os error 20)

    hint: KINA_HOME or `--home DIR` names another home

    exit 1
    error: could not create $TMP/work/dangling
      Caused by: File exists (os error 17)

    hint: KINA_HOME or `--home DIR` names another home

    exit 1
    error: the home $TMP/work/toy.yaml is not a directory

    hint: set KINA_HOME to a directory of your own
    ");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_what_is_there_stays() {
    let environment = TestEnvironment::new();
    environment.write("toy.yaml", TOY);
    environment.write("other.yaml", &TOY.replace("toy", "other"));
    fs::create_dir(environment.path("work/small")).unwrap();
    let binary = environment.command(&[]).get_program().to_owned();
    // A file system of its own, in a namespace of its own, which ends with it.
    let script = "mount -t tmpfs -o size=$1 tmpfs small || exit 99\nexport KINA_HOME=$PWD/small/home KINA_SIM_LATENCY=none\n\
                  [ $1 = 64k ] && exec \"$0\" up -f toy.yaml --exit\n\"$0\" apply -f toy.yaml --no-wait >/dev/null 2>&1\n\
                  dd if=/dev/zero of=small/fill bs=4k 2>/dev/null\n\"$0\" apply -f other.yaml --no-wait; code=$?\n\
                  \"$0\" get clusters --no-headers 2>/dev/null\nexit $code";
    let run = |size: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&binary).arg(size);
        command.env("HOME", environment.path("home")).current_dir(environment.path("work"));
        command
            .output()
            .ok()
            .map(|output| environment.ran(output))
            .filter(|ran| !ran.err.contains("unshare") && ran.code != 99)
    };
    let (Some(never), Some(later)) = (run("64k"), run("2m")) else {
        eprintln!("skipped: no namespace for a small disk can be had here");
        return;
    };
    let never = end(never);
    assert!(
        never.starts_with("exit 1\nerror: cannot run Kina\n") && never.contains("No space left on device"),
        "{never}"
    );
    assert!(never.ends_with("hint: make room on the disk of the home\n"), "{never}");
    assert!(later.out.starts_with("toy "), "{}", later.out);
    insta::assert_snapshot!(end(later), @r"
    exit 1
    error: cannot apply cluster/other: no space left for the store: I/O error: No space left on device (os error 28)
      in other.yaml:1:1

    hint: make room on the disk of the home
    ");
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_of_another_program_and_a_path_that_is_missing_are_told() {
    let environment = TestEnvironment::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let told = |spec: &str| {
        environment.write("toy.yaml", &format!("{TOY}{spec}"));
        let ran = environment.command(&UP).env("KINA_SIM_LATENCY", "none").output().unwrap();
        let shown = end(environment.ran(ran)).replace(&port.to_string(), "$PORT");
        environment.kina(&["delete", "cluster", "toy", "--timeout", "60s"]).success();
        shown
    };
    insta::assert_snapshot!(told(&format!("  networking: {{apiServer: {{port: {port}}}}}\n")), @r"
    exit 1
    error: it does not get any further by itself
      cluster/toy: Foreign: start container toy-lb: failed to bind host port 127.0.0.1:$PORT: Address already in use (os error 98): end whoever has it, or choose another port or address

    hint: `kina describe cluster NAME` tells everything about one
    ");
    insta::assert_snapshot!(told("  controlPlane: {extraMounts: [{hostPath: ./nothing, containerPath: /x}]}\n"), @r"
    exit 1
    error: it does not get any further by itself
      cluster/toy: MachineStalled: toy-control-plane-0: it mounts `$TMP/work/nothing` of this host, which is not there: make it

    hint: `kina describe cluster NAME` tells everything about one
    ");
}
