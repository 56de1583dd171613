//! The built program with Apple Container on its host.

use std::process::{Command, Output};

use crate::lab::Lab;
use crate::runner::Test;

pub const TESTS: &[Test] = &[
    ("wiring::a_cluster_that_names_apple_container_is_refused_with_the_reason_and_nothing_is_made", refused),
    ("wiring::elsewhere_than_on_a_mac_it_is_used_only_where_somebody_says_so", only_where_named),
    ("wiring::a_command_that_is_too_old_is_no_reason_to_destroy_anything", too_old),
];

const CLUSTER: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {name: dev}\n";

fn kina(lab: &Lab, runtime: &str, arguments: &[&str]) -> Output {
    let home = lab.path("user");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("dev.yaml"), CLUSTER).unwrap();
    let path = format!("{}:/usr/bin:/bin", lab.program().parent().unwrap().display());
    Command::new(env!("CARGO_BIN_EXE_kina"))
        .args(arguments)
        .current_dir(&home)
        .env_clear()
        .envs([("PATH", path.as_str()), ("KINA_RUNTIME", runtime), ("KINA_SIM_LATENCY", "none")])
        .env("HOME", &home)
        .env("KINA_HOME", lab.path("home"))
        // No engine of this host is meant.
        .env("DOCKER_HOST", format!("unix://{}", lab.path("no.sock").display()))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn refused() {
    let lab = Lab::with("1.2.2");
    let output = kina(&lab, "apple", &["up", "-f", "dev.yaml", "--timeout", "60s", "--exit"]);
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    let why = "the runtime `apple` gives a container another address at every start";
    assert!(said.contains("RuntimeUnsupported") || said.contains(why), "{said}");
    assert!(said.contains("`runtime: docker`"), "{said}");
    let changes = ["create", "network create", "volume create", "start", "image pull", "system start"];
    for call in lab.place.calls() {
        let line = call.join(" ");
        assert!(!changes.iter().any(|change| line.starts_with(change)), "{line}");
    }
    let all = kina(&lab, "apple", &["get", "clusters", "-o", "yaml"]);
    assert!(text(&all).contains("RuntimeUnsupported"), "{}", text(&all));
}

fn only_where_named() {
    if cfg!(target_os = "macos") {
        return;
    }
    let lab = Lab::with("1.2.2");
    let output = kina(&lab, "sim", &["up", "-f", "dev.yaml", "--timeout", "60s", "--exit"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(lab.place.calls().is_empty(), "a program of that name may be any");
    let wrong = kina(&lab, "podman", &["up", "-f", "dev.yaml"]);
    assert!(text(&wrong).contains("say `apple`, `docker`, `sim`"), "{}", text(&wrong));
}

fn too_old() {
    let lab = Lab::with("0.12.3");
    let output = kina(&lab, "apple", &["up", "-f", "dev.yaml", "--timeout", "5s", "--exit"]);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(lab.place.calls().iter().all(|call| call == &["--version"]));
}
