//! The built program with Apple Container on its host.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use notify::{Event, RecursiveMode, Watcher as _};
use tokio::time::Instant;

use crate::lab::Lab;
use crate::runner::Test;

pub const TESTS: &[Test] = &[
    ("wiring::a_cluster_is_made_by_the_command_1_0_0_and_goes_again", || goes("1.0.0")),
    ("wiring::a_cluster_is_made_by_the_command_1_1_0", || drop(made("1.1.0"))),
    ("wiring::a_cluster_is_made_by_the_command_1_2_0", || drop(made("1.2.0"))),
    ("wiring::a_cluster_is_made_by_the_command_1_2_2_and_goes_again", || goes("1.2.2")),
    ("wiring::a_cluster_is_made_by_the_command_1_3_1", || drop(made("1.3.1"))),
    ("wiring::a_cluster_is_made_by_the_command_1_4_1", || drop(made("1.4.1"))),
    ("wiring::a_cluster_is_made_by_the_command_1_5_0_and_goes_again", || goes("1.5.0")),
    ("wiring::before_macos_26_a_cluster_of_one_node_is_made_on_the_default_network_and_goes_again", single_node_goes),
    ("wiring::before_macos_26_a_cluster_of_more_nodes_is_refused_and_nothing_is_made", before_networks),
    ("wiring::before_macos_26_more_nodes_for_a_cluster_that_is_there_are_refused_and_it_stays", grows_not),
    ("wiring::a_cluster_of_before_macos_26_goes_on_as_it_is_on_macos_26", updated),
    ("wiring::a_node_without_limits_has_a_share_of_its_host_and_keeps_it_when_the_host_grows", share_of_the_host),
    ("wiring::elsewhere_than_on_a_mac_it_is_used_only_where_somebody_says_so", only_where_named),
    ("wiring::a_command_that_is_too_old_is_no_reason_to_destroy_anything", too_old),
];

/// Longest wait for another program.
const WITHIN: Duration = Duration::from_secs(60);

const CLUSTER: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {name: dev}\n";

/// The built program, in a home of the lab's, with no other runtime than this one.
pub fn command(lab: &Lab, runtime: &str) -> Command {
    let home = lab.path("user");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("dev.yaml"), CLUSTER).unwrap();
    let path = format!("{}:/usr/bin:/bin", lab.program().parent().unwrap().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_kina"));
    command
        .current_dir(&home)
        .env_clear()
        .envs([("PATH", path.as_str()), ("KINA_RUNTIME", runtime), ("KINA_SIM_LATENCY", "none")])
        .env("HOME", &home)
        .env("KINA_HOME", lab.path("home"))
        // No engine of this host is meant.
        .env("DOCKER_HOST", format!("unix://{}", lab.path("no.sock").display()));
    command
}

fn kina(lab: &Lab, runtime: &str, arguments: &[&str]) -> Output {
    command(lab, runtime).args(arguments).output().unwrap()
}

/// A kina that runs meanwhile, and is ended as people end it.
struct Running(Child);

impl Running {
    fn up(lab: &Lab) -> Self {
        let mut up = command(lab, "apple");
        Self(up.args(["up", "-f", "dev.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn end(&mut self) {
        let id = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn calls(lab: &Lab) -> Vec<String> {
    lab.place.calls().iter().map(|call| call.join(" ")).collect()
}

/// Waits until calls show something.
fn until<T>(lab: &Lab, what: &str, found: impl Fn(&[String]) -> Option<T>) -> T {
    let (sender, news) = mpsc::channel();
    let told = move |event: notify::Result<Event>| {
        // To look at the calls is an access, too.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told).unwrap();
    watcher.watch(&lab.place.0, RecursiveMode::NonRecursive).unwrap();
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = found(&calls(lab)) {
            return found;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(news.recv_timeout(left).is_ok(), "never {what}: {:#?}", calls(lab));
    }
}

/// Waits until there is such a call, and tells it.
fn asked(lab: &Lab, beginning: &str) -> String {
    let found = |calls: &[String]| calls.iter().find(|line| line.starts_with(beginning)).cloned();
    until(lab, &format!("asked for {beginning}"), found)
}

fn text(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Nothing runs in a container of the stand-in: what is made on the host is all there is to see.
fn made(version: &str) -> Lab {
    let lab = Lab::with(version);
    lab.control(|control| {
        control.registry.insert("docker.io/kindest/node:v1.35.5".to_owned());
    });
    let mut up = Running::up(&lab);
    // Its device is told where the others are after it has started.
    asked(&lab, "start dev-control-plane-0");
    asked(&lab, "exec -i dev-control-plane-0");
    let network = asked(&lab, "network create");
    assert!(network.ends_with("kina-dev") && !network.contains("--subnet"), "{network}");
    let number: Vec<u16> = version.split('.').map(|part| part.parse().unwrap()).collect();
    for name in ["dev-lb", "dev-control-plane-0"] {
        let create = asked(&lab, &format!("create --name {name}"));
        let of_all = create.contains("--network kina-dev,mtu=1500") && create.contains("--platform linux/arm64");
        assert!(of_all, "{create}");
        assert_eq!(create.contains("--read-only-path NONE"), number >= vec![1, 2, 1], "{create}");
        asked(&lab, &format!("start {name}"));
    }
    let volume = lab.place.volume("dev-control-plane-0");
    assert!(volume.join("etcd").is_dir() && volume.join("lost+found").is_dir());
    let root = lab.place.root("dev-control-plane-0");
    let address = std::fs::read_to_string(root.join("kina/overlay/config")).unwrap();
    assert!(address.starts_with("10.160.0.10/24 "), "{address}");
    assert!(root.join("etc/systemd/system/kubelet.service.d/05-kina-overlay.conf").exists());
    up.end();
    assert!(calls(&lab).iter().all(|line| !line.starts_with("system start")), "nobody asked for that");
    lab
}

fn goes(version: &str) {
    let lab = made(version);
    // Docker is silent, and was never meant: it does not matter.
    let gone = kina(&lab, "apple", &["delete", "cluster", "dev", "--timeout", "60s"]);
    assert!(gone.status.success(), "{}", text(&gone));
    let left = lab.say(&["list", "--all", "--format", "json"])
        + &lab.say(&["network", "list", "--format", "json"])
        + &lab.say(&["volume", "list", "--format", "json"]);
    assert!(!left.contains("dev"), "{left}");
}

const WORKERS: &str = "spec: {workers: [{name: default, replicas: 1}]}\n";

fn on_macos_15() -> Lab {
    let lab = Lab::with("1.2.2");
    lab.mac("15.7.1", true);
    lab.control(|control| {
        control.registry.insert("docker.io/kindest/node:v1.35.5".to_owned());
    });
    lab
}

/// One control plane alone, on the network that is there.
fn single_node() -> Lab {
    let lab = on_macos_15();
    let mut up = Running::up(&lab);
    let create = asked(&lab, "create --name dev-control-plane-0");
    assert!(create.contains("--network default,mtu=1500 "), "{create}");
    let port = create.split(" -p ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(port.starts_with("127.0.0.1:") && port.ends_with(":6443/tcp"), "{create}");
    // What is called as the load balancer elsewhere is the node itself.
    assert!(create.contains(" dev-lb 10.160.0.10 "), "{create}");
    asked(&lab, "start dev-control-plane-0");
    asked(&lab, "exec -i dev-control-plane-0");
    up.end();
    let root = lab.place.root("dev-control-plane-0");
    let address = std::fs::read_to_string(root.join("kina/overlay/config")).unwrap();
    assert!(address.starts_with("10.160.0.10/24 "), "{address}");
    let other = |line: &String| line.starts_with("network") || line.contains("--name dev-lb");
    assert!(!calls(&lab).iter().any(other), "{:#?}", calls(&lab));
    lab
}

fn single_node_goes() {
    let lab = single_node();
    let gone = kina(&lab, "apple", &["delete", "cluster", "dev", "--timeout", "60s"]);
    assert!(gone.status.success(), "{}", text(&gone));
    assert!(!calls(&lab).iter().any(|line| line.starts_with("network")), "{:#?}", calls(&lab));
    let left = lab.say(&["list", "--all", "--format", "json"]) + &lab.say(&["volume", "list", "--format", "json"]);
    assert!(!left.contains("dev"), "{left}");
    // Nothing but a newer macOS shows it.
    lab.mac("26.1", true);
    assert_eq!(lab.say(&["network", "list", "--quiet"]).trim(), "default");
}

/// A manifest of one control plane and one worker.
fn with_worker(lab: &Lab) -> &'static str {
    std::fs::create_dir_all(lab.path("user")).unwrap();
    std::fs::write(lab.path("user/two.yaml"), format!("{CLUSTER}{WORKERS}")).unwrap();
    "two.yaml"
}

fn before_networks() {
    let lab = on_macos_15();
    let two = with_worker(&lab);
    let planned = kina(&lab, "apple", &["plan", "-f", two]);
    assert!(text(&planned).contains("then it waits: RuntimeUnsupported: "), "{}", text(&planned));
    let output = kina(&lab, "apple", &["up", "-f", two, "--timeout", "30s", "--exit"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = text(&output);
    assert!(
        told.contains("RuntimeUnsupported: ") && told.contains("(Apple Container needs macOS 26 for that)"),
        "{told}"
    );
    assert!(told.contains("a cluster is one control plane alone here, and 2 machines are asked for"), "{told}");
    assert!(told.contains("hint: `kina doctor` explains what is missing on this host"), "{told}");
    let made = |line: &String| line.contains("create") || line.contains("delete");
    assert!(!calls(&lab).iter().any(made), "{:#?}", calls(&lab));
    let one = text(&kina(&lab, "apple", &["plan", "-f", "dev.yaml"]));
    assert!(one.contains("make machine/dev-control-plane-0"), "{one}");
    assert!(!one.contains("make the network") && !one.contains("make the load balancer"), "{one}");
}

fn grows_not() {
    let lab = single_node();
    let two = with_worker(&lab);
    let before = calls(&lab).len();
    let output = kina(&lab, "apple", &["up", "-f", two, "--timeout", "30s", "--exit"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("RuntimeUnsupported: "), "{}", text(&output));
    let changes = |line: &&String| line.starts_with("create") || line.starts_with("delete") || line.starts_with("stop");
    let all = calls(&lab);
    assert_eq!(all[before..].iter().filter(changes).count(), 0, "{all:#?}");
    let listed = lab.say(&["list", "--all", "--format", "json"]);
    assert!(listed.contains("dev-control-plane-0") && !listed.contains("dev-default-0"), "{listed}");
}

fn updated() {
    let lab = single_node();
    lab.mac("26.1", true);
    let before = calls(&lab).len();
    let mut up = Running::up(&lab);
    // It is at work again, and makes nothing anew.
    until(&lab, "listed three times more", |calls| {
        (calls[before..].iter().filter(|line| line.starts_with("network list")).count() >= 3).then_some(())
    });
    assert!(up.0.try_wait().unwrap().is_none(), "kina has ended");
    up.end();
    let changes = |line: &&String| line.contains("create") || line.contains("delete") || line.starts_with("stop");
    let all = calls(&lab);
    assert_eq!(all[before..].iter().filter(changes).count(), 0, "{all:#?}");
    // More of it is a cluster to be made anew, and nothing is destroyed for it.
    let two = with_worker(&lab);
    let output = kina(&lab, "apple", &["up", "-f", two, "--timeout", "30s", "--exit"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("SingleNode: "), "{}", text(&output));
    assert!(text(&output).contains("`networking.nodeNetwork: cluster` and `allowRecreate: true`"), "{}", text(&output));
    let all = calls(&lab);
    assert_eq!(all[before..].iter().filter(changes).count(), 0, "{all:#?}");
}

fn share_of_the_host() {
    let lab = Lab::with("1.2.2");
    lab.mac("26.1", true);
    lab.control(|control| {
        control.registry.insert("docker.io/kindest/node:v1.35.5".to_owned());
    });
    let mut up = Running::up(&lab);
    let create = asked(&lab, "create --name dev-control-plane-0");
    assert!(create.contains("--cpus 3 --memory 4096m"), "of 12 CPUs and 32 GiB: {create}");
    asked(&lab, "start dev-control-plane-0");
    up.end();
    lab.script("sysctl", "echo hw.memsize: 68719476736; echo hw.logicalcpu: 16; echo hw.optional.arm64: 1");
    let kept = kina(&lab, "apple", &["get", "machine", "dev-control-plane-0", "-o", "yaml"]);
    let kept = text(&kept);
    assert!(kept.contains("defaultResources: true") && kept.contains("memory: 4Gi"), "{kept}");
    let mut up = Running::up(&lab);
    let before = calls(&lab).len();
    // It is at work again, and makes nothing anew.
    until(&lab, "listed three times more", |calls| {
        (calls[before..].iter().filter(|line| line.starts_with("list --all")).count() >= 3).then_some(())
    });
    assert!(up.0.try_wait().unwrap().is_none(), "kina has ended");
    up.end();
    let all = calls(&lab);
    assert_eq!(all.iter().filter(|line| line.starts_with("create --name dev-control-plane-0")).count(), 1);
    assert!(all.iter().all(|line| !line.starts_with("delete")), "{all:#?}");
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
