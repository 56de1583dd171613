//! Into machines, while a kina runs.

use crate::environment::TestEnvironment;

const MANIFEST: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  runtime: sim\n  workers: [{name: default, replicas: 1}]\n";

#[test]
fn commands_run_in_machines_and_their_code_is_kinas() {
    let environment = TestEnvironment::new();
    environment.write("dev.yaml", MANIFEST);
    let told = environment.kina(&["exec", "dev-default-0", "--", "true"]).fails(1);
    assert!(told.contains("no kina runs"), "{told}");
    let mut serve = environment.command(&["serve"]);
    let _running = environment.start_command(serve.env("KINA_SIM_LATENCY", "none"), "Ctrl-C ends it");
    let _ = environment.kina(&["up", "-f", "dev.yaml"]).success();
    let exec = |words: &[&str]| environment.kina(&[&["exec", "dev-default-0", "--"], words].concat());
    assert_eq!(exec(&["hostname"]).success(), "dev-default-0\n");
    assert_eq!(exec(&["systemctl", "is-active", "kubelet"]).success(), "active\n");
    // No shell: a word is a word.
    assert_eq!(exec(&["echo", "$HOME", "a;b", "--", "-x"]).success(), "$HOME a;b -- -x\n");
    assert_eq!(exec(&["false"]).code, 1);
    let missing = exec(&["nope"]);
    assert!(missing.err.contains("executable file not found"), "{}", missing.err);
    assert_eq!(missing.code, 127);
    assert_eq!(environment.kina_with(&["exec", "machine/dev-default-0", "-i", "--", "cat"], "hi\n").success(), "hi\n");
    let told = environment.kina(&["exec", "dev-default-0", "--timeout", "1s", "--", "sleep", "60"]).fails(1);
    assert!(told.contains("did not end within"), "{told}");
    let told = environment.kina(&["exec", "dev-default-1", "--", "true"]).fails(5);
    assert!(told.contains("did you mean `dev-default-0`?"), "{told}");
    let told = environment.kina(&["exec", "-it", "dev-default-0", "--", "sh"]).fails(2);
    assert!(told.contains("not supported: `-t`"), "{told}");

    let one = environment.kina(&["logs", "dev-default-0", "--tail", "1"]).success();
    assert_eq!(one.lines().count(), 1, "{one}");
    let all = environment.kina(&["logs", "dev"]).success();
    assert!(all.starts_with("==> dev-control-plane-0 <==\n") && all.contains("\n==> dev-default-0 <==\n"), "{all}");
    assert!(environment.kina(&["logs", "-f", "dev"]).fails(2).contains("not supported: `-f`"));
    let _ = environment.kina(&["logs", "nope"]).fails(5);
}
