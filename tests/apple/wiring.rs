//! The built program with Apple Container on its host.

use std::process::{Command, Output};

use crate::lab::Lab;
use crate::runner::Test;

pub const TESTS: &[Test] = &[
    ("wiring::a_cluster_on_apple_container_has_its_network_machines_and_balancer_made_by_the_command", made),
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

/// Nothing runs in a container of the stand-in: what is made on the host is all there is to see.
fn made() {
    let lab = Lab::with("1.2.2");
    lab.control(|control| {
        control.registry.insert("docker.io/kindest/node:v1.35.5".to_owned());
    });
    let output = kina(&lab, "apple", &["up", "-f", "dev.yaml", "--timeout", "20s", "--exit"]);
    assert!(!output.status.success(), "{}", text(&output));
    let calls: Vec<String> = lab.place.calls().iter().map(|call| call.join(" ")).collect();
    let asked = |beginning: &str| calls.iter().find(|line| line.starts_with(beginning));
    let network = asked("network create").unwrap();
    assert!(network.ends_with("kina-dev") && !network.contains("--subnet"), "{network}");
    for name in ["dev-lb", "dev-control-plane-0"] {
        let create = asked(&format!("create --name {name}")).unwrap();
        assert!(
            create.contains("--network kina-dev,mtu=1500") && create.contains("--platform linux/arm64"),
            "{create}"
        );
        assert!(asked(&format!("start {name}")).is_some());
    }
    assert!(calls.iter().all(|line| !line.starts_with("system start")), "nobody asked for that");
    let volume = lab.place.volume("dev-control-plane-0");
    assert!(volume.join("etcd").is_dir() && volume.join("lost+found").is_dir());
    let root = lab.place.root("dev-control-plane-0");
    let address = std::fs::read_to_string(root.join("kina/overlay/config")).unwrap();
    assert!(address.starts_with("10.160.0.10/24 "), "{address}");
    assert!(root.join("etc/systemd/system/kubelet.service.d/05-kina-overlay.conf").exists());
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
