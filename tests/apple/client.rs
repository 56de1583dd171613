//! Kina's client against the stand-in: the contract at every supported version, and what real installations have reported.

use std::time::Duration;

use kina::runtime::{
    Cause, ContainerId, ContainerSpec, ContainerState, ExecRequest, InstallationId, Mount, NetworkSpec, Networks,
    NodeFile, OwnerLabels, Privileges, Resources, Runtime, RuntimeError, VolumeSpec,
};

use crate::contract::{self, Setup};
use crate::lab::{IMAGE, Lab};
use crate::runner::Test;
use crate::stand_in::state::What;

pub const TESTS: &[Test] = &[
    ("client::the_contract_is_kept_by_1_0_0", || keeps_the_contract("1.0.0")),
    ("client::the_contract_is_kept_by_1_1_0", || keeps_the_contract("1.1.0")),
    ("client::the_contract_is_kept_by_1_2_0", || keeps_the_contract("1.2.0")),
    ("client::the_contract_is_kept_by_1_2_2", || keeps_the_contract("1.2.2")),
    ("client::the_contract_is_kept_by_1_3_1", || keeps_the_contract("1.3.1")),
    ("client::the_contract_is_kept_by_1_4_1", || keeps_the_contract("1.4.1")),
    ("client::the_contract_is_kept_by_1_5_0", || keeps_the_contract("1.5.0")),
    ("client::a_version_that_is_too_old_is_refused_with_what_to_do", too_old),
    ("client::another_program_of_that_name_is_not_driven", another_program),
    ("client::a_service_that_is_down_is_unavailable_and_says_how_to_start_it", service_is_down),
    ("client::a_kernel_that_is_missing_is_told_with_what_to_do", no_kernel),
    ("client::a_command_that_hangs_is_ended_and_its_children_too", hangs),
    ("client::changes_are_made_one_at_a_time", one_at_a_time),
    ("client::a_look_up_that_times_out_before_anything_began_is_made_again", transient),
    ("client::a_reply_that_is_lost_is_an_error_and_the_next_look_shows_what_was_done", lost_reply),
    ("client::a_container_has_another_address_after_every_start_and_its_data", restarts),
    ("client::what_is_written_before_a_start_is_not_written_again_by_the_next", staged_once),
    ("client::a_machine_that_lives_on_although_it_is_listed_as_stopped_is_not_a_second_one", lists_that_lie),
    ("client::a_network_that_did_not_come_up_is_told_when_a_container_starts", missing_network),
    ("client::a_network_without_addresses_is_exhausted", no_addresses),
    ("client::before_macos_26_only_the_network_that_is_there_is_known_and_used", default_network),
    ("client::a_network_that_cannot_be_deleted_is_listed_until_it_is", undeletable_network),
    ("client::a_subnet_that_changed_is_shown_as_it_is_and_not_as_it_was_asked_for", changed_subnet),
    ("client::a_command_that_says_error_is_not_a_failure_of_the_client", error_of_a_command),
    ("client::a_container_of_somebody_else_that_took_a_name_is_not_touched", foreign),
    ("client::an_image_of_the_host_is_loaded_into_nodes", load_images),
    ("client::nothing_reaches_a_shell", no_shell),
];

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let within = async { tokio::time::timeout(Duration::from_secs(180), work).await };
    runtime.block_on(within).expect("an end within three minutes")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn default_network() {
    for version in ["1.0.0", "1.2.2", "1.5.0"] {
        let lab = Lab::with(version);
        lab.mac("15.7.1", true);
        block_on(async {
            let runtime = lab.runtime_on_mac().await;
            assert_eq!(runtime.capabilities().networks, Networks::OnlyDefault);
            let labels = spec("dev-1").labels;
            let network =
                NetworkSpec { name: "kina-dev".into(), subnet: None, ipv6_subnet: None, labels: labels.clone() };
            says(runtime.create_network(&network).await, Cause::Invalid, &["since macOS 26"]);
            runtime.create_volume(&VolumeSpec { name: "dev-1".into(), labels }).await.unwrap();
            runtime.ensure_image(IMAGE).await.unwrap();
            says(runtime.create_container(&spec("dev-1")).await, Cause::Unknown, &["requires macOS 26 or newer"]);
            let lone = ContainerSpec { network: "default".into(), ..spec("dev-1") };
            let id = runtime.create_container(&lone).await.unwrap();
            runtime.start_container(&id).await.unwrap();
            let listing = runtime.list().await.unwrap();
            let networks: Vec<&str> = listing.networks.iter().map(|network| network.name.as_str()).collect();
            assert_eq!((networks, listing.networks[0].owner()), (vec!["default"], None));
            assert_eq!(listing.containers[0].network.as_deref(), Some("default"));
            assert!(listing.containers[0].address.is_some());
            runtime.remove_container(&id).await.unwrap();
        });
        assert!(!lab.place.calls().iter().any(|call| call[0] == "network"), "there is no such command");
    }
    let lab = Lab::with("1.2.2");
    lab.mac("15.7.1", true);
    let (code, said) = lab.refuse(&["network", "create", "kina-dev"]);
    assert_eq!((code, said.as_str()), (64, "Error: Plugin 'container-network' not found.\n"));
}

fn keeps_the_contract(version: &str) {
    let lab = Lab::with(version);
    let setup = Setup {
        image: IMAGE.to_owned(),
        missing_image: "localhost:5001/nobody/nothing:v1".to_owned(),
        prefix: "kina-contract".to_owned(),
        subnet: (231, 17),
        port: free_port(),
        has_ipv6: true,
    };
    block_on(contract::run(lab.runtime().as_ref(), &setup));
    let left = std::fs::read_dir(lab.stages()).unwrap().count();
    assert_eq!(left, 0, "nothing stays of what was staged");
    assert!(lab.place.calls().iter().all(|call| call.iter().all(|word| word != "--debug")));
}

fn spec(name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: IMAGE.to_owned(),
        labels: OwnerLabels {
            installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            cluster: "dev".to_owned(),
            cluster_uid: "uid-1".to_owned(),
            machine_uid: None,
            role: None,
            spec_hash: None,
        }
        .to_labels(),
        network: "kina-dev".to_owned(),
        address: None,
        ipv6_address: None,
        environment: Default::default(),
        mounts: Vec::new(),
        host_mounts: Vec::new(),
        ports: Vec::new(),
        resources: Resources::default(),
        hosts: Default::default(),
        dns_search: None,
        privileges: Privileges::Node,
        command: Vec::new(),
    }
}

fn command(words: &[&str], seconds: u64) -> ExecRequest {
    let command = words.iter().map(|&word| word.to_owned()).collect();
    ExecRequest { command, stdin: None, timeout: Duration::from_secs(seconds) }
}

fn file(path: &str, content: &str) -> NodeFile {
    NodeFile { path: path.to_owned(), mode: 0o600, content: content.into() }
}

/// An image, a network and a volume.
async fn prepare(runtime: &dyn Runtime) {
    runtime.ensure_image(IMAGE).await.unwrap();
    let labels = spec("any").labels;
    let network = NetworkSpec {
        name: "kina-dev".into(),
        subnet: Some("10.9.8.0/24".into()),
        ipv6_subnet: None,
        labels: labels.clone(),
    };
    runtime.create_network(&network).await.unwrap();
    runtime.create_volume(&VolumeSpec { name: "dev-1".into(), labels }).await.unwrap();
}

/// A container that runs, with a directory of the volume.
async fn node(runtime: &dyn Runtime, name: &str) -> ContainerId {
    let mount = Mount { volume: "dev-1".into(), subdirectory: "etcd".into(), target: "/var/lib/etcd".into() };
    let id = runtime.create_container(&ContainerSpec { mounts: vec![mount], ..spec(name) }).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    id
}

fn says<T: std::fmt::Debug>(result: Result<T, RuntimeError>, cause: Cause, words: &[&str]) {
    let error = result.expect_err("a refusal");
    assert_eq!(error.cause, cause, "{error}");
    let text = error.to_string();
    words.iter().for_each(|word| assert!(text.contains(word), "{text}"));
}

fn too_old() {
    let lab = Lab::with("0.12.3");
    let runtime = lab.runtime();
    let words = ["`container` 0.12.3 is older than 1.0.0", "update it"];
    block_on(async {
        says(runtime.list().await, Cause::Unavailable, &words);
        says(runtime.create_container(&spec("one")).await, Cause::Unavailable, &words);
    });
    assert!(lab.place.calls().iter().all(|call| call == &["--version"]), "nothing else is asked of it");
    lab.control(|control| control.version = "1.2.2".to_owned());
    block_on(async { runtime.list().await.expect("it was updated") });
}

fn another_program() {
    let lab = Lab::with("1.2.2");
    lab.fault("--version", What::Fail("usage: container FILE".to_owned()));
    let runtime = lab.runtime();
    block_on(async { says(runtime.info().await, Cause::Unknown, &["usage: container FILE"]) });
}

fn service_is_down() {
    let lab = Lab::with("1.4.1");
    lab.control(|control| control.service = "unregistered".to_owned());
    let runtime = lab.runtime();
    let next = ["container system start --enable-kernel-install"];
    block_on(async {
        says(runtime.info().await, Cause::Unavailable, &["its service is unregistered", next[0]]);
        says(runtime.list().await, Cause::Unavailable, &["XPC connection error", next[0]]);
        says(runtime.ensure_image(IMAGE).await, Cause::Unavailable, &next);
        says(runtime.exec(&ContainerId("one".into()), &command(&["true"], 5)).await, Cause::Unavailable, &next);
        lab.control(|control| control.service = "running".to_owned());
        assert_eq!(runtime.info().await.unwrap().version, "1.4.1");
    });
}

fn no_kernel() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        lab.control(|control| control.has_kernel = false);
        let made = runtime.create_container(&spec("one")).await;
        says(made, Cause::Unavailable, &["container system kernel set --recommended"]);
    });
}

fn hangs() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        let slow = runtime.exec(&id, &command(&["sleep", "600"], 1)).await;
        says(slow, Cause::Timeout, &["sleep 600 did not end within 1 s"]);
        lab.fault("list", What::Hang);
        // One that gives up waits no longer than it said, whatever the command does.
        let listed = tokio::time::timeout(Duration::from_secs(1), runtime.list()).await;
        assert!(listed.is_err());
        // Elsewhere there is no such list of processes to look into.
        if cfg!(target_os = "linux") {
            let ended = async {
                while lab.has_processes() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), ended).await.expect("no process is left");
        }
        assert_eq!(runtime.list().await.unwrap().containers.len(), 1);
    });
}

fn one_at_a_time() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        for name in ["w1", "w2", "w3"] {
            runtime.create_container(&spec(name)).await.unwrap();
        }
        lab.control(|control| control.boot_milliseconds = 150);
        let began = tokio::time::Instant::now();
        let ids = ["w1", "w2", "w3"].map(|name| ContainerId(name.into()));
        let (one, two, three, listed) = tokio::join!(
            runtime.start_container(&ids[0]),
            runtime.start_container(&ids[1]),
            runtime.start_container(&ids[2]),
            runtime.list(),
        );
        [one, two, three].into_iter().for_each(|started| started.unwrap());
        assert!(listed.is_ok() && began.elapsed() >= Duration::from_millis(450));
    });
}

fn transient() {
    const STUCK: &str = "Error: failed to list networks (cause: \"internalError: \"XPC timeout for request to \
                         com.apple.container.apiserver/networkList\"\")";
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        lab.faults("network create", 2, What::Fail(STUCK.to_owned()));
        prepare(runtime.as_ref()).await;
        lab.faults("create", 3, What::Fail(STUCK.to_owned()));
        let made = runtime.create_container(&spec("one")).await;
        says(made, Cause::Timeout, &["networkList", "container system stop"]);
        runtime.create_container(&spec("one")).await.unwrap();
    });
}

fn lost_reply() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        lab.fault("create", What::LoseReply);
        says(runtime.create_container(&spec("one")).await, Cause::Unavailable, &["Connection interrupted"]);
        says(runtime.create_container(&spec("one")).await, Cause::AlreadyExists, &[]);
        let id = ContainerId("one".into());
        lab.fault("start", What::LoseReply);
        says(runtime.start_container(&id).await, Cause::Unavailable, &[]);
        runtime.start_container(&id).await.expect("it runs");
        assert_eq!(runtime.list().await.unwrap().containers[0].state, ContainerState::Running);
        lab.fault("delete", What::LoseReply);
        says(runtime.remove_container(&id).await, Cause::Unavailable, &[]);
        says(runtime.remove_container(&id).await, Cause::NotFound, &[]);
        assert_eq!(std::fs::read_dir(lab.stages()).unwrap().count(), 0);
    });
}

fn restarts() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        let address = async || runtime.list().await.unwrap().containers[0].address.unwrap();
        let first = address().await;
        runtime.copy_in(&id, &[file("/var/lib/etcd/member", "data"), file("/etc/own", "own")]).await.unwrap();
        lab.control(|control| control.restart = true);
        assert_eq!(runtime.list().await.unwrap().containers[0].state, ContainerState::Created);
        runtime.start_container(&id).await.unwrap();
        assert_ne!(address().await, first);
        for (path, content) in [("/var/lib/etcd/member", "data"), ("/etc/own", "own")] {
            assert_eq!(runtime.read_file(&id, path).await.unwrap().unwrap(), content.as_bytes());
        }
        // What is on the volume is there for the next container, in its directory and beside `lost+found`.
        runtime.remove_container(&id).await.unwrap();
        let id = node(runtime.as_ref(), "dev-1-again").await;
        assert_eq!(runtime.read_file(&id, "/var/lib/etcd/member").await.unwrap().unwrap(), b"data");
        assert_eq!(runtime.read_file(&id, "/etc/own").await.unwrap(), None);
        assert!(lab.place.volume("dev-1").join("lost+found").exists());
    });
}

fn staged_once() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = runtime.create_container(&spec("one")).await.unwrap();
        runtime.copy_in(&id, &[file("/etc/one", "first"), file("/etc/two", "first")]).await.unwrap();
        runtime.copy_in(&id, &[file("/etc/two", "second")]).await.unwrap();
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(lab.stages().join("one")), mode(lab.stages().join("one/000001.tar"))), (0o700, 0o600));
        runtime.start_container(&id).await.unwrap();
        let read = async |path: &str| String::from_utf8(runtime.read_file(&id, path).await.unwrap().unwrap()).unwrap();
        assert_eq!((read("/etc/one").await, read("/etc/two").await), ("first".to_owned(), "second".to_owned()));
        runtime.copy_in(&id, &[file("/etc/one", "while it runs")]).await.unwrap();
        runtime.stop_container(&id).await.unwrap();
        runtime.start_container(&id).await.unwrap();
        assert_eq!(read("/etc/one").await, "while it runs");
    });
}

fn lists_that_lie() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        lab.fault("list", What::ListStopped);
        assert!(matches!(runtime.list().await.unwrap().containers[0].state, ContainerState::Stopped { .. }));
        lab.fault("list", What::ListStopped);
        runtime.start_container(&id).await.expect("it has run all the time");
        runtime.copy_in(&id, &[file("/etc/one", "content")]).await.expect("and goes on");
        assert_eq!(runtime.list().await.unwrap().containers[0].state, ContainerState::Running);
    });
}

fn missing_network() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = runtime.create_container(&spec("one")).await.unwrap();
        lab.place.with(|state| state.networks.get_mut("kina-dev").unwrap().is_missing = true);
        assert!(runtime.list().await.unwrap().networks.iter().all(|network| network.name != "kina-dev"));
        says(runtime.start_container(&id).await, Cause::NotFound, &["did not come up", "container system stop"]);
    });
}

fn no_addresses() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = runtime.create_container(&spec("one")).await.unwrap();
        lab.place.with(|state| {
            let address = |last: u16| serde_json::json!({ "ipv4Address": format!("10.9.8.{last}/24") });
            let attachments = (2..=253).map(address).collect();
            let hog = crate::stand_in::state::ContainerState { runs: true, attachments, ..Default::default() };
            state.containers.insert("hog".to_owned(), hog);
        });
        lab.place
            .with(|state| state.containers.get_mut("hog").unwrap().configuration = serde_json::json!({ "id": "hog" }));
        says(runtime.start_container(&id).await, Cause::Exhausted, &["no address left"]);
    });
}

fn foreign() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        lab.say(&["delete", "--force", "dev-1"]);
        lab.say(&["create", "--name", "dev-1", IMAGE]);
        let words = ["which no Kina made"];
        says(runtime.start_container(&id).await, Cause::NotFound, &words);
        lab.say(&["start", "dev-1"]);
        says(runtime.stop_container(&id).await, Cause::NotFound, &words);
        says(runtime.remove_container(&id).await, Cause::NotFound, &words);
        assert_eq!(lab.say(&["list", "--quiet"]), "dev-1\n");
        let foreign = runtime.create_container(&spec("dev-1")).await;
        says(foreign, Cause::AlreadyExists, &[]);
    });
}

fn undeletable_network() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let stuck = "Error: delete failed for one or more networks: [\"kina-dev\"]";
        lab.fault("network delete", What::Fail(stuck.to_owned()));
        says(runtime.remove_network("kina-dev").await, Cause::Unknown, &["delete failed"]);
        let is_listed =
            async || runtime.list().await.unwrap().networks.iter().any(|network| network.name == "kina-dev");
        assert!(is_listed().await);
        runtime.remove_network("kina-dev").await.unwrap();
        assert!(!is_listed().await);
    });
}

fn changed_subnet() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        lab.control(|control| control.restart = true);
        lab.place.with(|state| state.networks.get_mut("kina-dev").unwrap().prefix = "192.168.70".to_owned());
        runtime.start_container(&id).await.unwrap();
        let listing = runtime.list().await.unwrap();
        let network = listing.networks.iter().find(|network| network.name == "kina-dev").unwrap();
        assert_eq!(network.subnet.as_deref(), Some("192.168.70.0/24"));
        assert_eq!(listing.containers[0].address.unwrap().octets()[..3], [192, 168, 70]);
    });
}

fn error_of_a_command() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        let script = "echo Error: container x not found >&2; exit 1";
        let output = runtime.exec(&id, &command(&["sh", "-c", script], 10)).await.unwrap();
        assert_eq!((output.code, output.stderr), (1, b"Error: container x not found\n".to_vec()));
        let missing = runtime.exec(&id, &command(&["no-such-program"], 10)).await.unwrap();
        assert_eq!(missing.code, 127);
    });
}

fn load_images() {
    let lab = Lab::with("1.0.0");
    let runtime = lab.runtime();
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        let (stopped, image) = (runtime.create_container(&spec("two")).await.unwrap(), IMAGE.to_owned());
        let failed = runtime.load_images(&[id.clone(), stopped.clone()], std::slice::from_ref(&image)).await.unwrap();
        assert_eq!(failed.len(), 1);
        assert_eq!((&failed[0].0, failed[0].1.cause), (&stopped, Cause::NotRunning));
        let imported = runtime.read_file(&id, "/var/lib/containerd/imported").await.unwrap().unwrap();
        assert_eq!(imported, format!("an OCI archive of {IMAGE}\n").into_bytes());
        says(runtime.load_images(&[id], &["nobody/nothing".to_owned()]).await, Cause::NotFound, &[]);
        assert!(runtime.image_id(IMAGE).await.unwrap().unwrap().starts_with("sha256:"));
        assert_eq!(runtime.image_id("nobody/nothing").await.unwrap(), None);
        runtime.remove_container(&stopped).await.unwrap();
        let names: Vec<_> = std::fs::read_dir(lab.stages()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["dev-1"], "the archive was for that call alone");
    });
}

fn no_shell() {
    let lab = Lab::with("1.2.2");
    let runtime = lab.runtime();
    let evil = "$(touch /tmp/owned); `id` 'quoted' \"twice\"\nline";
    block_on(async {
        prepare(runtime.as_ref()).await;
        let id = node(runtime.as_ref(), "dev-1").await;
        let output = runtime.exec(&id, &command(&["echo", evil, "--help", "-i"], 10)).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{evil} --help -i\n"));
    });
    let calls = lab.place.calls();
    let exec = calls.iter().find(|call| call[0] == "exec").unwrap();
    assert_eq!(exec[1..4], ["dev-1", "echo", evil], "options are before what is no option");
}
