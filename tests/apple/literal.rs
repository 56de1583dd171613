//! The stand-in against what the real command prints, by its sources and by what others have published of it.

use std::path::Path;

use serde_json::Value;

use crate::lab::{IMAGE, Lab, NODE};
use crate::runner::Test;
use crate::stand_in::say::Encoding;
use crate::stand_in::state::What;

pub const TESTS: &[Test] = &[
    ("literal::a_running_control_plane_is_listed_as_1_2_2_lists_it", control_plane),
    ("literal::documents_for_people_are_indented_as_apple_does", pretty),
    ("literal::what_versions_print_differs_where_they_do", versions),
    ("literal::networks_and_volumes_are_listed_as_1_2_2_lists_them", networks_and_volumes),
    ("literal::errors_are_the_commands_own_words", errors),
    ("literal::options_that_do_not_exist_are_refused", options),
    ("literal::a_service_that_is_down_says_so_in_two_ways", service),
    ("literal::two_containers_cannot_have_one_port_or_one_volume", conflicts),
    ("literal::every_start_gives_another_address", addresses),
    ("literal::a_command_in_a_container_has_its_own_code_and_no_input_unless_asked", exec),
    ("literal::files_are_copied_into_running_containers_alone", copy),
    ("literal::a_restart_of_the_service_stops_everything_and_forgets_when_it_began", restart),
];

const CONTROL_PLANE: &str = include_str!("literals/control-plane.json");
const CONTROL_PLANE_PRETTY: &str = include_str!("literals/control-plane-pretty.json");
const NETWORKS: &str = include_str!("literals/networks.json");
const VOLUMES: &str = include_str!("literals/volumes.json");

/// A host on which the control plane of the literal runs.
fn with_control_plane(version: &str) -> (Lab, String) {
    let lab = Lab::with(version);
    let shared = lab.path("shared");
    std::fs::create_dir(&shared).unwrap();
    lab.say(&["network", "create", "--subnet", "192.168.66.0/24", "--label", "dev.example.cluster=demo", "demo"]);
    lab.say(&["volume", "create", "--label", "dev.example.cluster=demo", "demo-etcd"]);
    let bound = format!("{}:/var/local:ro", shared.display());
    let mut create = vec![
        "create",
        "--name",
        "demo-control-plane",
        "--memory",
        "4g",
        "--cap-add",
        "ALL",
        "-l",
        "dev.example.cluster=demo",
        "-l",
        "dev.example.role=control-plane",
        "-p127.0.0.1:6445:6443",
        "--ulimit=nofile=1048576:1048576",
        "-v",
        &bound,
        "-v",
        "demo-etcd:/var/lib/etcd",
        "--tmpfs",
        "/tmp",
        "--network",
        "demo,mac=02:42:AC:11:00:02,mtu=1500",
    ];
    if !["1.0.0", "1.1.0", "1.2.0"].contains(&version) {
        create.extend(["--masked-path", "NONE", "--read-only-path", "NONE"]);
    }
    create.push(NODE);
    assert_eq!(lab.say(&create), "demo-control-plane\n");
    assert_eq!(lab.say(&["start", "demo-control-plane"]), "demo-control-plane\n");
    let shared = shared.display().to_string();
    (lab, shared)
}

/// What differs from one machine to the next is put as the literal has it.
fn as_published(text: &str, shared: &str) -> String {
    let shared = if text.contains("\\/") { shared.replace('/', "\\/") } else { shared.to_owned() };
    let users = if text.contains("\\/") { "\\/Users\\/dev\\/shared" } else { "/Users/dev/shared" };
    let text = text.replace(&shared, users);
    let dates = regex::Regex::new(r#"("(?:creation|started)Date" ?: ?)"[0-9TZ:-]{20}""#).unwrap();
    dates.replace_all(&text, "${1}DATE").into_owned()
}

fn control_plane() {
    let (lab, shared) = with_control_plane("1.2.2");
    let printed = as_published(&lab.say(&["list", "--all", "--format", "json"]), &shared);
    assert_eq!(printed, as_published(CONTROL_PLANE, "/Users/dev/shared"));
    assert_eq!(lab.say(&["ls", "-q"]), "demo-control-plane\n");
}

fn pretty() {
    let (lab, shared) = with_control_plane("1.2.2");
    let printed = as_published(&lab.say(&["inspect", "demo-control-plane"]), &shared);
    assert_eq!(printed, as_published(CONTROL_PLANE_PRETTY, "/Users/dev/shared"));
    let empty = Encoding { escapes_slashes: false }.pretty(&serde_json::json!([{ "a": {}, "b": [] }]));
    assert_eq!(empty, "[\n  {\n    \"a\" : {\n\n    },\n    \"b\" : [\n\n    ]\n  }\n]");
}

fn versions() {
    for (version, slashes, variant, masked, nested) in [
        ("1.0.0", true, false, false, false),
        ("1.1.0", true, true, false, false),
        ("1.2.0", true, true, false, false),
        ("1.2.2", true, true, true, false),
        ("1.3.1", true, true, true, false),
        ("1.4.1", false, true, true, true),
        ("1.5.0", false, true, true, true),
    ] {
        let (lab, _) = with_control_plane(version);
        let printed = lab.say(&["list", "--format=json"]);
        let says = |text: &str| printed.contains(text);
        assert_eq!(
            (says("\\/sbin\\/init"), says("variant"), says("maskedPaths")),
            (slashes, variant, masked),
            "{version}"
        );
        let status: Value = serde_json::from_str(&lab.say(&["system", "status", "--format", "json"])).unwrap();
        assert_eq!((status["status"].as_str(), status.get("server").is_some()), (Some("running"), nested), "{version}");
        let first = lab.say(&["--version"]);
        assert!(first.starts_with(&format!("container CLI version {version} (build: release")), "{first}");
        let (code, again) = lab.refuse(&["create", "--name", "demo-control-plane", NODE]);
        let old = r#"failed to create container (cause: "exists: "container already exists: demo-control-plane"")"#;
        let new = "container already exists: demo-control-plane";
        let expected = if ["1.0.0", "1.1.0"].contains(&version) { old } else { new };
        assert_eq!((code, again), (1, format!("Error: {expected}\n")), "{version}");
    }
}

fn networks_and_volumes() {
    let (lab, shared) = with_control_plane("1.2.2");
    let networks = as_published(&lab.say(&["network", "list", "--format", "json"]), &shared);
    assert_eq!(without_ipv6(&networks), without_ipv6(&as_published(NETWORKS, "/Users/dev/shared")));
    lab.say(&["volume", "create", "other"]);
    lab.say(&["volume", "delete", "other"]);
    let printed = as_published(&lab.say(&["volume", "list", "--format", "json"]), &shared);
    // The published one has a size of its own.
    let published = VOLUMES.replace("{\"size\":\"8G\"}", "{}").replace("8589934592", "549755813888");
    assert_eq!(printed, as_published(&published, "/Users/dev/shared"));
}

fn without_ipv6(text: &str) -> String {
    regex::Regex::new(r#""fd97[^"]*""#).unwrap().replace_all(text, "IPV6").into_owned()
}

fn errors() {
    let (lab, _) = with_control_plane("1.2.2");
    lab.say(&["create", "--name", "spare", "--network", "demo", NODE]);
    let cause = |verb: &str, cause: &str| {
        format!("Error: internalError: \"failed to {verb} container\" (cause: \"{cause}\")\n")
    };
    let gone = "notFound: \"container with ID gone not found\"";
    for (arguments, expected) in [
        (&["exec", "gone", "true"][..], "Error: get failed: container gone not found\n".to_owned()),
        (&["start", "gone"], "Error: get failed: container gone not found\n".to_owned()),
        (&["inspect", "spare", "gone", "away"], "Error: container not found: away, gone\n".to_owned()),
        (&["stop", "gone"], cause("stop", gone)),
        (&["kill", "gone"], cause("kill", gone)),
        (&["delete", "gone"], cause("delete", gone)),
        (&["kill", "spare"], cause("kill", "invalidState: \"no runtime client exists: container is stopped\"")),
        (
            &["delete", "demo-control-plane"],
            cause("delete", "invalidState: \"container demo-control-plane is running and can not be deleted\""),
        ),
        (&["exec", "spare", "true"], "Error: container spare is not running\n".to_owned()),
        (&["exec", "demo-control-plane"], "Error: no command specified for exec\n".to_owned()),
        (&["stop"], "Error: no containers specified and --all not supplied\n".to_owned()),
        (
            &["stop", "--all", "spare"],
            "Error: explicitly supplied container ID(s) conflict with the --all flag\n".to_owned(),
        ),
        (&["create", "--name", "_x", IMAGE], "Error: container ID _x is not a valid container ID\n".to_owned()),
        (
            &["create", "-m", "100m", IMAGE],
            "Error: minimum memory amount allowed is 200 MiB (got 104857600 bytes)\n".to_owned(),
        ),
        (&["create", "-m", "foo", IMAGE], "Error: invalid size\n".to_owned()),
        (&["create", "-l", "a=b=c", IMAGE], "Error: invalid label format a=b=c\n".to_owned()),
        (&["create", "-v", "/nowhere:/x", IMAGE], "Error: path '/nowhere' does not exist\n".to_owned()),
        (&["create", "--network", "other", IMAGE], "Error: network other not found\n".to_owned()),
        (
            &["create", "-p", "1000:3", "-p", "1000:2", IMAGE],
            "Error: host ports for different publish port specs may not overlap\n".to_owned(),
        ),
        (&["network", "inspect", "other"], "Error: network not found: other\n".to_owned()),
        (&["network", "delete", "other"], "Error: failed to delete one or more networks: [\"other\"]\n".to_owned()),
        (&["network", "delete", "default"], "Error: cannot delete a builtin network: default\n".to_owned()),
        (&["network", "create", "demo"], "Error: network demo already exists\n".to_owned()),
        (&["network", "create", "none"], "Error: network none is not a valid name\n".to_owned()),
        (&["network", "create", "Demo"], "Error: invalid network name: Demo\n".to_owned()),
        (
            &["network", "create", "--subnet", "192.168.66.0/24", "more"],
            "Error: IPv4 subnet 192.168.66.0/24 overlaps an existing network with subnet 192.168.66.0/24\n".to_owned(),
        ),
        (&["volume", "create", "demo-etcd"], "Error: volume 'demo-etcd' already exists\n".to_owned()),
        (&["volume", "inspect", "other"], "Error: volume not found: other\n".to_owned()),
        (&["image", "inspect", "a/b"], "Error: image not found: docker.io/a/b:latest\n".to_owned()),
        (
            &["image", "pull", "alpine:nosuchtag"],
            "Error: HTTP request to https://registry-1.docker.io/v2/library/alpine/manifests/nosuchtag failed with \
             response: 404 Not Found. Reason: Unknown\n"
                .to_owned(),
        ),
        (
            &["cp", "/a", "/b"],
            "Error: one of source or destination must be a container reference (container_id:path)\n".to_owned(),
        ),
    ] {
        assert_eq!(lab.refuse(arguments), (1, expected), "{arguments:?}");
    }
    let (_, in_use) = lab.refuse(&["network", "delete", "demo"]);
    let (first, second) = in_use.split_once('\n').unwrap();
    let users = "invalidState: \"cannot delete subnet demo with referring containers: demo-control-plane, spare\"";
    assert!(first.starts_with("failed to delete network: [") && first.contains(users), "{first}");
    assert_eq!(second, "Error: delete failed for one or more networks: [\"demo\"]\n");
    let (_, in_use) = lab.refuse(&["volume", "delete", "demo-etcd"]);
    let words = "\"volume 'demo-etcd' is currently in use and cannot be accessed by another container, or deleted\"";
    assert!(in_use.contains(words), "{in_use}");
    lab.say(&["stop", "spare", "spare"]);
}

fn options() {
    let lab = Lab::with("1.2.0");
    for unknown in ["--privileged", "--restart", "--hostname", "--ip", "--add-host", "--sysctl", "--masked-path"] {
        let (code, text) = lab.refuse(&["create", unknown, "x", IMAGE]);
        let expected = format!("Error: Unknown option '{unknown}'\nUsage: container create");
        assert!(code == 64 && text.starts_with(&expected), "{text}");
    }
    for (arguments, words) in [
        (&["create"][..], "Missing expected argument '<image>'"),
        (&["create", "--name"], "Missing value for '--name <name>'"),
        (&["list", "--format", "xml"], "The value 'xml' is invalid for '--format <format>'"),
        (&["network", "create", "--subnet", "x", "net"], "The value 'x' is invalid for '--subnet <subnet>'"),
        (&["start", "a1", "b1"], "Unexpected argument 'b1'"),
        (&["events"], "Plugin 'container-events' not found."),
    ] {
        let (code, text) = lab.refuse(arguments);
        assert!(code == 64 && text.contains(words), "{arguments:?}: {text}");
    }
    lab.control(|control| control.version = "1.3.0".to_owned());
    assert_eq!(lab.refuse(&["image", "pull", "--scheme", "auto", IMAGE]).0, 64);
    let pulled = lab.run(&["image", "pull", "--platform", "linux/arm64", IMAGE]);
    assert!(pulled.stdout.is_empty() && String::from_utf8_lossy(&pulled.stderr).starts_with("[0/2] [0s]\n"));
}

fn service() {
    let lab = Lab::with("1.2.2");
    lab.control(|control| control.service = "unregistered".to_owned());
    let next = "Ensure container system service has been started with `container system start`.\n";
    let plain = format!("Error: interrupted: \"XPC connection error: Connection invalid\"\n{next}");
    let listed = format!(
        "Error: internalError: \"failed to list containers\" (cause: \"interrupted: \"XPC connection error: Connection \
         invalid\"\")\n{next}"
    );
    assert_eq!(lab.refuse(&["list"]), (1, listed));
    assert_eq!(lab.refuse(&["network", "list"]), (1, plain));
    let down = lab.run(&["system", "status", "--format", "json"]);
    let expected = "{\"apiServerAppName\":\"\",\"apiServerBuild\":\"\",\"apiServerCommit\":\"\",\"apiServerVersion\":\"\",\
                    \"appRoot\":\"\",\"installRoot\":\"\",\"status\":\"unregistered\"}\n";
    assert_eq!((down.status.code(), String::from_utf8(down.stdout).unwrap().as_str()), (Some(1), expected));
    lab.control(|control| control.has_kernel = false);
    assert_eq!(lab.refuse(&["system", "start"]).0, 1, "it would wait for an answer");
    lab.say(&["system", "start", "--enable-kernel-install"]);
    assert_eq!(lab.say(&["list", "--format", "json"]), "[]\n");
    assert_eq!(lab.say(&["list", "--quiet"]), "");
}

fn conflicts() {
    let (lab, _) = with_control_plane("1.3.1");
    lab.say(&["create", "--name", "dup", "-p", "127.0.0.1:6445:80", IMAGE]);
    let port = "Error: failed to bootstrap container (cause: \"internalError: \"failed to bootstrap container dup (cause: \
                \"unknown: \"bind(descriptor:ptr:bytes:): Address already in use) (errno: 48)\"\")\"\")\n";
    assert_eq!(lab.refuse(&["start", "dup"]), (1, port.to_owned()));
    lab.say(&["create", "--name", "b.vz", "-v", "demo-etcd:/data", IMAGE]);
    let (_, volume) = lab.refuse(&["start", "b.vz"]);
    let words = "(cause: \"unknown: \"Error Domain=VZErrorDomain Code=2 \"The storage device attachment is invalid.\" \
                 UserInfo={NSLocalizedFailure=Invalid virtual machine configuration., NSLocalizedFailureReason=The \
                 storage device attachment is invalid.}\"\")\"\")\n";
    assert!(volume.ends_with(words), "{volume}");
}

fn addresses() {
    let lab = Lab::with("1.2.2");
    lab.say(&["create", "--name", "one", IMAGE]);
    let address = || {
        lab.say(&["start", "one"]);
        let all: Value = serde_json::from_str(&lab.say(&["list", "--format", "json"])).unwrap();
        lab.say(&["stop", "one"]);
        all[0]["status"]["networks"][0]["ipv4Address"].as_str().unwrap().to_owned()
    };
    assert_eq!([address(), address()], ["192.168.64.2/24", "192.168.64.3/24"]);
    let stopped: Value = serde_json::from_str(&lab.say(&["list", "--all", "--format", "json"])).unwrap();
    assert_eq!(stopped[0]["status"]["networks"], Value::Array(Vec::new()));
    assert!(stopped[0]["status"]["startedDate"].is_string(), "it is known when it began");
    let orders: std::collections::BTreeSet<String> = (0..20)
        .map(|index| {
            if index < 3 {
                lab.say(&["create", "--name", &format!("more-{index}"), IMAGE]);
            }
            lab.say(&["list", "--all", "--quiet"])
        })
        .filter(|order| order.lines().count() == 4)
        .collect();
    assert!(orders.len() > 1, "lists have no order");
}

fn exec() {
    let lab = Lab::with("1.2.2");
    lab.say(&["create", "--name", "one", IMAGE]);
    lab.say(&["start", "one"]);
    assert_eq!(lab.say(&["exec", "one", "echo", "a b", "--", "-x"]), "a b -- -x\n");
    assert_eq!(lab.refuse(&["exec", "one", "sh", "-c", "exit 7"]).0, 7);
    let (code, text) = lab.refuse(&["exec", "one", "--", "true"]);
    assert!(code == 1 && text.starts_with("Error: failed to start process "), "{text}");
    let fed = |interactive: bool| {
        let mut command = std::process::Command::new(lab.program());
        command.arg("exec").args(interactive.then_some("-i")).args(["one", "cat"]);
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"data");
        child.wait_with_output().unwrap().stdout
    };
    assert_eq!((fed(true), fed(false)), (b"data".to_vec(), Vec::new()));
}

fn copy() {
    let lab = Lab::with("1.1.0");
    lab.say(&["create", "--name", "one", IMAGE]);
    let file = lab.path("file");
    std::fs::write(&file, "content").unwrap();
    let source = file.display().to_string();
    let stopped =
        "Error: failed to copy into container one (cause: \"invalidState: \"container one is not running\"\")\n";
    assert_eq!(lab.refuse(&["cp", &source, "one:/opt/new/file"]), (1, stopped.to_owned()));
    lab.say(&["start", "one"]);
    assert_eq!(lab.say(&["cp", &source, "one:/opt/new/file"]), "one:/opt/new/file\n");
    assert_eq!(lab.say(&["exec", "one", "cat", "/opt/new/file"]), "content");
    let back = lab.path("back").display().to_string();
    assert_eq!(lab.say(&["cp", "one:/opt/new/file", &back]), format!("{back}\n"));
    assert_eq!(std::fs::read_to_string(Path::new(&back)).unwrap(), "content");
    lab.control(|control| control.version = "1.0.0".to_owned());
    assert_eq!(lab.say(&["cp", &source, "one:/opt/other"]), "");
}

fn restart() {
    let (lab, _) = with_control_plane("1.2.2");
    lab.control(|control| control.restart = true);
    let all: Value = serde_json::from_str(&lab.say(&["list", "--all", "--format", "json"])).unwrap();
    assert_eq!(all[0]["status"], serde_json::json!({ "networks": [], "state": "stopped" }));
    lab.say(&["start", "demo-control-plane"]);
    lab.fault("list", What::ListStopped);
    let lied: Value = serde_json::from_str(&lab.say(&["list", "--all", "--format", "json"])).unwrap();
    assert_eq!(lied[0]["status"]["state"], "stopped");
    assert_eq!(lab.say(&["exec", "demo-control-plane", "echo", "alive"]), "alive\n");
}
