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

#[test]
fn images_of_the_host_are_loaded_where_they_are_missing() {
    let environment = TestEnvironment::new();
    environment.write("dev.yaml", MANIFEST);
    assert!(environment.kina(&["load", "image", "app:dev"]).fails(1).contains("no kina runs"));
    let mut serve = environment.command(&["serve"]);
    let _running = environment.start_command(serve.env("KINA_SIM_LATENCY", "none"), "Ctrl-C ends it");
    assert!(environment.kina(&["load", "image", "app:dev"]).fails(5).contains("there is no cluster"));
    let _ = environment.kina(&["up", "-f", "dev.yaml"]).success();
    let load = |words: &[&str]| environment.kina(&[&["load", "image"], words].concat());
    assert_eq!(load(&["app:dev"]).success(), "app:dev: loaded into dev-control-plane-0, dev-default-0\n");
    let both = load(&["app:dev", "me/other:1", "--nodes", "dev-default-0"]).success();
    assert_eq!(both, "app:dev: already in dev-default-0\nme/other:1: loaded into dev-default-0\n");
    let other = load(&["me/other:1", "--name", "dev"]).success();
    assert_eq!(other, "me/other:1: loaded into dev-control-plane-0; already in dev-default-0\n");
    let kinds = environment.kina(&["load", "docker-image", "app:dev", "--name", "dev"]).success();
    assert_eq!(kinds, "app:dev: already in dev-control-plane-0, dev-default-0\n");
    let listed = environment.kina(&["exec", "dev-default-0", "--", "ctr", "--namespace=k8s.io", "images", "ls", "-q"]);
    assert_eq!(listed.success(), "docker.io/library/app:dev\ndocker.io/me/other:1\n");

    let told = load(&["registry.invalid/x"]).fails(5);
    assert!(told.contains("there is no image registry.invalid/x on this host"), "{told}");
    let told = load(&["app:dev", "--nodes", "dev-default-7"]).fails(5);
    assert!(told.contains("has no machine \"dev-default-7\""), "{told}");
    assert!(load(&["app:dev", "--name", "dve"]).fails(5).contains("did you mean `dev`?"));
    environment.write("two.yaml", &MANIFEST.replace("name: dev", "name: two"));
    let _ = environment.kina(&["up", "-f", "two.yaml"]).success();
    assert!(load(&["app:dev"]).fails(2).contains("`--name CLUSTER`, one of dev, two"));
}

#[test]
fn logs_of_a_cluster_and_what_kina_knows_of_it_are_exported() {
    let environment = TestEnvironment::new();
    environment.write("dev.yaml", MANIFEST);
    let mut serve = environment.command(&["serve"]);
    let _running = environment.start_command(serve.env("KINA_SIM_LATENCY", "none"), "Ctrl-C ends it");
    let _ = environment.kina(&["up", "-f", "dev.yaml"]).success();
    // Simulated pods write none themselves.
    let log = "/var/log/pods/default_web_1/web/0.log";
    let _ = environment.kina(&["exec", "dev-default-0", "--", "touch", log]).success();
    let told = environment.kina(&["export", "logs", "out", "--name", "dev"]).success();
    assert!(told.trim_end().ends_with("out"), "{told}");
    let read = |file: &str| std::fs::read_to_string(environment.path(&format!("work/out/{file}"))).unwrap();
    assert!(read("kina-version.txt").starts_with(env!("CARGO_PKG_VERSION")));
    assert!(read("cluster.yaml").contains("kind: Cluster") && read("history.yaml").contains("cluster/dev"));
    assert!(read("machines.yaml").contains("name: dev-default-0"));
    for machine in ["dev-control-plane-0", "dev-default-0"] {
        let read = |file: &str| read(&format!("{machine}/{file}"));
        assert!(read("serial.log").contains("Reached target"));
        assert!(!read("bootstrap.log").contains("No entries"));
        assert!(read("kubernetes-version.txt").starts_with("v1."));
        for file in ["journal.log", "kubelet.log", "containerd.log", "images.log", "containers.log"] {
            assert!(!read(file).is_empty(), "{file}");
        }
    }
    assert_eq!(read("dev-default-0/pods/default_web_1/web/0.log"), "");
    let told = environment.kina(&["export", "logs", "--name", "dve"]).fails(5);
    assert!(told.contains("did you mean `dev`?"), "{told}");
    environment.write("file", "");
    let told = environment.kina(&["export", "logs", "file"]).fails(1);
    assert!(told.contains("cannot write"), "{told}");
}
