//! The client with a command that is only a list of answers.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use super::process::{CallError, Output};
use super::*;
use crate::runtime::{Bounded, ContainerState, Resources};

/// Answers to calls by how they begin; everything else hangs.
#[derive(Debug, Default)]
struct Scripted {
    answers: Mutex<VecDeque<(&'static str, Output)>>,
    calls: Mutex<Vec<String>>,
}

#[async_trait]
impl Commands for Scripted {
    async fn run(&self, call: Call) -> Result<Output, CallError> {
        let line = call.arguments.join(" ");
        self.calls.lock().unwrap().push(line.clone());
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            let found = answers.iter().position(|(start, _)| line.starts_with(start));
            found.and_then(|index| answers.remove(index))
        };
        match answer {
            Some((_, output)) => Ok(output),
            None => {
                tokio::time::sleep(call.within).await;
                Err(CallError::Late(call.within))
            }
        }
    }
}

fn printed(text: &str) -> Output {
    Output { stdout: text.as_bytes().to_vec(), ..Output::default() }
}

fn refused(text: &str) -> Output {
    Output { code: 1, stderr: text.as_bytes().to_vec(), ..Output::default() }
}

fn runtime(answers: &[(&'static str, Output)]) -> (Arc<Scripted>, AppleRuntime) {
    let version = ("--version", printed("container CLI version 1.2.2 (build: release, commit: 0190097)\n"));
    let answers = std::iter::once(version).chain(answers.iter().cloned()).collect();
    let commands = Arc::new(Scripted { answers: Mutex::new(answers), calls: Mutex::default() });
    let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
    (Arc::clone(&commands), AppleRuntime::with(commands, "/home/apple".into(), world))
}

const CONTROL_PLANE: &str = include_str!("../../../tests/apple/literals/control-plane.json");

#[tokio::test(start_paused = true)]
async fn one_list_that_is_missing_makes_no_shorter_listing() {
    let (_, runtime) = runtime(&[("list", printed(CONTROL_PLANE)), ("network list", printed("[]"))]);
    let error = runtime.list().await.unwrap_err();
    assert_eq!(error.cause, Cause::Timeout, "{error}");
    let (_, runtime) = self::runtime(&[
        ("list", printed(CONTROL_PLANE)),
        ("network list", printed("[]")),
        ("volume list", printed("[{}]")),
    ]);
    let error = runtime.list().await.unwrap_err();
    assert!(error.to_string().contains("a volume has no id"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_over_before_whoever_asks_gives_up() {
    let (_, runtime) = runtime(&[]);
    let error = Bounded::new(Arc::new(runtime)).list().await.unwrap_err();
    assert!(error.message.contains("no answer of `container` within 12 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_hangs_is_given_up_and_the_next_gets_its_turn() {
    let (commands, runtime) = runtime(&[("network delete two", printed("two\n"))]);
    let (hung, removed) = tokio::join!(runtime.remove_network("one"), runtime.remove_network("two"));
    assert_eq!(hung.unwrap_err().cause, Cause::Timeout);
    removed.unwrap();
    assert_eq!(commands.calls.lock().unwrap()[1..], ["network delete one", "network delete two"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_understood_makes_the_version_be_asked_again() {
    let usage = Output { code: 64, ..refused("Error: Unknown option '-t'\nUsage: container network delete ...\n") };
    let (commands, runtime) =
        runtime(&[("network delete", usage), ("--version", printed("container CLI version 0.9.0 (build: release)\n"))]);
    assert_eq!(runtime.remove_network("one").await.unwrap_err().cause, Cause::Invalid);
    let error = runtime.remove_network("one").await.unwrap_err();
    assert!(error.message.contains("0.9.0 is older than 1.0.0"), "{error}");
    assert_eq!(commands.calls.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_shown_with_all_that_counts() {
    let (_, runtime) =
        runtime(&[("list", printed(CONTROL_PLANE)), ("network list", printed("[]")), ("volume list", printed("[]"))]);
    let listing = runtime.list().await.unwrap();
    let seen = &listing.containers[0];
    assert_eq!((seen.name.as_str(), seen.state), ("demo-control-plane", ContainerState::Running));
    assert_eq!((seen.network.as_deref(), seen.address), (Some("demo"), Some(Ipv4Addr::new(192, 168, 66, 2))));
    assert_eq!(seen.labels["dev.example.cluster"], "demo");
    assert_eq!(seen.resources, Resources { cpu_millis: Some(4000), memory_bytes: Some(4 << 30) });
    assert_eq!((seen.ports[0].host_port, seen.ports[0].container_port), (6445, 6443));
    let mount = &seen.host_mounts[0];
    assert_eq!((mount.container_path.as_str(), mount.read_only), ("/var/local", true));
    assert_eq!((seen.host_mounts.len(), seen.mounts.len()), (1, 0), "a whole volume is none of Kina's directories");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_at_once_is_no_container_that_started() {
    let stopped = CONTROL_PLANE.replace("\"running\"", "\"stopped\"").replace("\\/var\\/local", "\\/kina\\/stage");
    let owner =
        r#""labels":{"dev.kina.installation":"contract-suite","dev.kina.cluster":"demo","dev.kina.cluster-uid":"u1","#;
    let stopped = stopped.replacen(r#""labels":{"#, owner, 1);
    let (_, runtime) = runtime(&[
        ("list", printed(&stopped)),
        ("start", printed("demo-control-plane\n")),
        ("list", printed(&stopped)),
    ]);
    let error = runtime.start_container(&ContainerId("demo-control-plane".into())).await.unwrap_err();
    assert_eq!(error.cause, Cause::NotRunning);
    assert!(error.message.contains("container logs demo-control-plane"), "{error}");
}

#[test]
fn it_is_installed_where_a_program_of_that_name_is() {
    let directory = tempfile::tempdir().unwrap();
    let installed = || {
        let directories = [directory.path().join("nowhere"), directory.path().to_owned()];
        AppleRuntime::installed(&directories, "/stages".into(), World::real()).is_some()
    };
    assert!(!installed());
    std::fs::write(directory.path().join("container"), "no program").unwrap();
    assert!(!installed());
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory.path().join("container"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(installed());
}
