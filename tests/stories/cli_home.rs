//! Whoever holds the home's lock serves it; every other command is its client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::TestEnvironment;

const TOY: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: toy\nspec:\n  runtime: sim\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Waits for what must come, with a bound that only a broken Kina meets.
#[expect(clippy::disallowed_methods, reason = "a story waits for another process")]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn up_makes_a_cluster_here_and_delete_leaves_nothing() {
    let environment = TestEnvironment::new();
    environment.write("toy.yaml", TOY);
    let ran = environment.kina(&["up", "-f", "toy.yaml", "--exit", "--timeout", "60s"]);
    assert!(ran.err.contains("toy: Ready after"), "{}", ran.err);
    assert!(ran.err.contains("(simulated: no container of it is real)"), "{}", ran.err);
    assert!(ran.err.contains("simulated clusters do not answer while no kina runs"), "{}", ran.err);
    assert_eq!(ran.success(), "cluster/toy created\n");
    assert!(environment.kubeconfig().contains("name: kina-toy"));
    let mode = fs::metadata(environment.path("home/.kube/config")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let listed = environment.kina(&["get", "clusters", "-o", "json"]);
    assert!(listed.err.contains("no kina runs"), "{}", listed.err);
    assert_eq!(json(&listed.success())["items"][0]["spec"]["runtime"], "sim");
    // What was Ready does not answer any more, and is not shown as if it did.
    let world = fs::read(environment.path("home/.kina/sim/world")).unwrap();
    let status = environment.kina(&["status", "toy"]).success();
    assert!(status.contains("toy  Stopped") && status.contains("KinaNotRunning"), "{status}");
    assert!(status.contains("toy-control-plane-0  Stopped"), "{status}");
    fs::remove_file(environment.path("home/.kina/sim/world")).unwrap();
    let status = environment.kina(&["status", "toy"]).success();
    assert!(status.contains("toy-control-plane-0  Gone"), "{status}");
    assert!(!environment.path("home/.kina/sim/world").exists(), "whoever looks makes nothing");
    fs::write(environment.path("home/.kina/sim/world"), world).unwrap();

    assert_eq!(environment.kina(&["delete", "cluster", "toy", "--timeout", "60s"]).success(), "cluster/toy deleted\n");
    assert!(!environment.kubeconfig().contains("kina-toy"), "{}", environment.kubeconfig());
    let left = json(&environment.kina(&["status", "-o", "json"]).success());
    assert_eq!((&left["clusters"], &left["machines"]), (&Value::Array(vec![]), &Value::Array(vec![])));
}

#[test]
fn commands_are_clients_of_the_kina_that_serves_the_home() {
    let environment = TestEnvironment::new();
    environment.write("toy.yaml", TOY);
    let server = environment.start(&["serve"], "Ctrl-C ends it");
    let second = environment.kina(&["serve"]).fails(7);
    assert!(second.contains("another kina serves the home"), "{second}");
    let up = environment.kina(&["up", "-f", "toy.yaml", "--timeout", "60s"]);
    assert!(!up.err.contains("stays until"), "a daemon goes on answering: {}", up.err);
    assert_eq!(up.success(), "cluster/toy created\n");
    let listed = environment.kina(&["get", "clusters", "--no-headers"]);
    assert_eq!(listed.err, "");
    assert!(listed.success().starts_with("toy   Running   True"), "");
    let status = environment.kina(&["status"]).success();
    assert!(status.contains("toy  Running") && status.contains("simulated"), "{status}");
    assert!(environment.kina(&["describe", "cluster", "toy"]).success().contains("Simulated:"));
    assert_eq!(environment.kina(&["delete", "-f", "toy.yaml", "--timeout", "60s"]).success(), "cluster/toy deleted\n");
    assert_eq!(server.end(), 0);
}

#[test]
fn no_wait_records_and_the_next_serve_carries_it_out() {
    let environment = TestEnvironment::new();
    environment.write("toy.yaml", TOY);
    let ran = environment.kina(&["apply", "-f", "toy.yaml", "--no-wait"]);
    assert!(ran.err.contains("nothing happens until `kina serve`"), "{}", ran.err);
    assert_eq!(ran.success(), "cluster/toy created\n");
    let server = environment.start(&["serve"], "Ctrl-C ends it");
    eventually("Ready", || {
        environment.kina(&["get", "cluster", "toy", "--no-headers"]).success().contains("Running   True")
    });
    server.kill();
    // The lock goes with the process, however it ended.
    assert_eq!(environment.kina(&["delete", "cluster", "toy", "--timeout", "60s"]).success(), "cluster/toy deleted\n");
}

#[test]
fn a_directory_stays_watched_until_it_is_said_otherwise() {
    let environment = TestEnvironment::new();
    environment.write("team/toy.yaml", TOY);
    let source = |environment: &TestEnvironment| {
        let sources = json(&environment.kina(&["get", "sources", "-o", "json"]).success());
        let sources: Vec<Value> = sources["items"].as_array().unwrap().clone();
        sources.into_iter().find(|source| source["metadata"]["name"] != "clusters")
    };
    let declared = |environment: &TestEnvironment| {
        let ran = environment.kina(&["get", "cluster", "toy", "-o", "json"]);
        (ran.code == 0).then(|| json(&ran.out)["metadata"]["annotations"]["kina.dev/source"].clone())
    };
    let first = environment.start(&["serve", "--watch", "team"], "Ctrl-C ends it");
    eventually("the cluster", || declared(&environment).is_some());
    environment.kina(&["detach", "toy"]).success();
    eventually("the ignored document", || {
        source(&environment).is_some_and(|source| source["status"]["ignored"][0]["cluster"] == "toy")
    });
    assert_eq!(first.end(), 0);

    // A flag that is left out takes nothing away, and what must be remembered is.
    let second = environment.start(&["serve"], "/work/team");
    assert_eq!(source(&environment).unwrap()["status"]["ignored"][0]["cluster"], "toy");
    assert_eq!(second.end(), 0);

    environment.kina(&["serve", "--unwatch", "other"]).fails(5);
    let third = environment.start(&["serve", "--unwatch", "team"], "Ctrl-C ends it");
    eventually("the end of the source", || source(&environment).is_none());
    assert_eq!(declared(&environment).unwrap(), "cli", "its cluster stays");
    assert_eq!(third.end(), 0);
    for (path, mode) in [("store.redb", 0o600), ("sim", 0o700)] {
        let found = fs::metadata(environment.path("home/.kina").join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
}

#[test]
fn a_home_of_others_is_refused() {
    let environment = TestEnvironment::new();
    environment.write("toy.yaml", TOY);
    fs::create_dir(environment.path("home/.kina")).unwrap();
    fs::set_permissions(environment.path("home/.kina"), fs::Permissions::from_mode(0o777)).unwrap();
    insta::assert_snapshot!(environment.kina(&["up", "-f", "toy.yaml", "--exit", "--timeout", "60s"]).shown(), @r"
    exit 1
    --- stdout
    --- stderr
    error: the home $TMP/home/.kina is writable by others (mode 0777)

    hint: chmod go-w $TMP/home/.kina
    ");
}

#[test]
fn looking_at_nothing_makes_nothing() {
    let environment = TestEnvironment::new();
    insta::assert_snapshot!(environment.kina(&["get", "clusters"]).shown(), @r"
    exit 0
    --- stdout
    --- stderr
    note: no kina runs: this is what the last one recorded, corrected by one look at the containers
    No clusters.
    ");
    insta::assert_snapshot!(environment.kina(&["status"]).shown(), @r"
    exit 0
    --- stdout
    No clusters.
    --- stderr
    note: no kina runs: this is what the last one recorded, corrected by one look at the containers
    ");
    assert!(!environment.path("home/.kina").exists());
}
