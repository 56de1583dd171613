//! The making of an image, in a workshop that only says what a real one would.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::arch::Arch;
use super::source::Packing;
use super::supply::Supply;
use super::{BuildError, Event, GivenUp, Order, Outcome, build};
use crate::runtime::workshop::{BaseImage, BenchSpec, ImageSpec, Pulled, Workshop};
use crate::runtime::{Cause, ExecOutput, ExecRequest, Labels, RuntimeError, RuntimeInfo};

const ASKED: &str = "registry.k8s.io/kube-proxy:v1.34.4\nregistry.k8s.io/pause:3.10\n";

/// What there is, and what was done.
#[derive(Debug, Default)]
struct Scene {
    /// Which call fails, if any.
    failing: Option<usize>,
    /// Calls, each by what tells it from others.
    calls: Mutex<Vec<String>>,
    /// Names in containerd.
    images: Mutex<BTreeSet<String>>,
    /// Names that no registry has.
    nowhere: bool,
    /// A layer of every image removes files.
    removing: bool,
    committed: Mutex<Option<ImageSpec>>,
}

fn digest(name: &str) -> String {
    let number = name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("sha256:{number:064x}")
}

fn output(code: i32, stdout: &str, stderr: &str) -> ExecOutput {
    ExecOutput { code, stdout: stdout.into(), stderr: stderr.into() }
}

impl Scene {
    fn of_base(images: &[&str]) -> Self {
        let images = images.iter().map(|&name| name.to_owned()).collect();
        Self { images: Mutex::new(images), ..Self::default() }
    }

    fn call(&self, what: &str) -> Result<(), RuntimeError> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(what.to_owned());
        if Some(calls.len()) == self.failing {
            return Err(RuntimeError::new("call", what, Cause::Unavailable, "the engine went away"));
        }
        Ok(())
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn ctr(&self, words: &[&str]) -> ExecOutput {
        let mut images = self.images.lock().unwrap();
        match words {
            ["images", "list"] => {
                let line = |name: &String| {
                    format!("{name} application/vnd.oci.image.manifest.v1+json {} 1 B -\n", digest(name))
                };
                output(
                    0,
                    &format!("REF TYPE DIGEST SIZE PLATFORMS\n{}", images.iter().map(line).collect::<String>()),
                    "",
                )
            }
            ["images", "import", .., path] => {
                images.insert(
                    if path.ends_with("kube-proxy.tar") {
                        "registry.k8s.io/kube-proxy-amd64:v1.34.4"
                    } else {
                        "other:1"
                    }
                    .to_owned(),
                );
                output(0, "", "")
            }
            ["images", "tag", "--force", _, name] => {
                images.insert((*name).to_owned());
                output(0, "", "")
            }
            ["images", "remove", name] => {
                images.remove(*name);
                output(0, "", "")
            }
            ["content", "fetch", .., name] if self.nowhere => {
                output(1, "", &format!("trying\nctr: {name}: no such host"))
            }
            ["content", "fetch", .., name] => {
                images.insert((*name).to_owned());
                output(0, "", "")
            }
            ["content", "get", _] => output(0, &format!(r#"{{"layers": [{{"digest": "{}"}}]}}"#, digest("layer")), ""),
            _ => output(0, "", ""),
        }
    }
}

#[async_trait]
impl Workshop for Scene {
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        unreachable!("asked before an image is made")
    }

    async fn base(&self, _: &str, _: &str, _: Pulled<'_>) -> Result<BaseImage, RuntimeError> {
        unreachable!("asked before an image is made")
    }

    async fn open(&self, spec: &BenchSpec) -> Result<(), RuntimeError> {
        self.call(&format!("open {}", spec.name))
    }

    async fn run(&self, _: &str, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
        // A script's first line, and a command but for the way to containerd.
        let shown: Vec<&str> = match words.as_slice() {
            ["ctr", _, _, _, _, rest @ ..] => [&["ctr"], rest].concat(),
            ["bash", "-c", script, ..] => vec!["bash", script.lines().nth(1).unwrap_or(script)],
            other => other.to_vec(),
        };
        self.call(&shown.join(" "))?;
        Ok(match words.as_slice() {
            ["ctr", _, _, _, _, rest @ ..] => self.ctr(rest),
            ["find", ..] => output(
                0,
                "kubernetes/server/bin/kubeadm\nkubernetes/server/bin/kubelet\n\
                kubernetes/server/bin/kubectl\nkubernetes/server/bin/kube-proxy.tar\n",
                "",
            ),
            ["od", ..] => output(0, " 7f 45 4c 46 02 01 01 00 00 00 00 00 00 00 00 00\n 02 00 3e 00\n", ""),
            ["/usr/bin/kubeadm", "version", ..] => output(0, "v1.34.4\n", ""),
            ["/usr/bin/kubelet", ..] => output(0, "Kubernetes v1.34.4\n", ""),
            ["/usr/bin/kubectl", ..] => output(0, r#"{"clientVersion": {"gitVersion": "v1.34.4"}}"#, ""),
            ["/usr/bin/kubeadm", "config", ..] => output(0, ASKED, "a warning"),
            ["bash", "-c", script, _, _, layers @ ..] if *script == super::scripts::REMOVING && self.removing => {
                output(0, &layers.join("\n"), "")
            }
            ["bash", "-c", script, ..] if *script == super::scripts::MANIFESTS => {
                output(0, "kind: DaemonSet\n  image: example.org/net:1\n", "")
            }
            _ => output(0, "", ""),
        })
    }

    async fn feed(
        &self,
        _: &str,
        _: &[String],
        input: BoxStream<'static, Bytes>,
        _: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        self.call("unpack")?;
        let bytes = input.map(|piece| piece.len()).fold(0, |sum, more| std::future::ready(sum + more)).await;
        Ok(if bytes == 4 { output(0, "", "") } else { output(2, "", "tar: Unexpected EOF in archive") })
    }

    async fn launch(&self, _: &str, _: &[String]) -> Result<(), RuntimeError> {
        self.call("launch")
    }

    async fn commit(&self, _: &str, spec: &ImageSpec) -> Result<String, RuntimeError> {
        self.call("commit")?;
        *self.committed.lock().unwrap() = Some(spec.clone());
        Ok("sha256:new".to_owned())
    }

    async fn close(&self, bench: &str) -> Result<(), RuntimeError> {
        self.call(&format!("close {bench}"))
    }
}

fn order() -> Order {
    Order {
        image: None,
        base: BaseImage {
            id: "sha256:base".into(),
            architecture: "amd64".into(),
            entrypoint: vec!["/entry".into(), "/sbin/init".into()],
            command: Vec::new(),
            volumes: Vec::new(),
        },
        arch: Arch::Amd64,
        is_foreign: false,
        packed: false,
        bench: "kina-build-1".into(),
        lifetime: Duration::from_secs(60),
    }
}

fn supply(pieces: Vec<std::io::Result<Bytes>>) -> Supply {
    Supply { packing: Packing::Tar, bytes: Some(4), pieces: futures::stream::iter(pieces).boxed() }
}

fn whole() -> Supply {
    supply(vec![Ok(Bytes::from_static(b"so")), Ok(Bytes::from_static(b"me"))])
}

async fn made(scene: &Scene, order: &Order, supply: Supply) -> (Outcome, Vec<Event>) {
    let mut events = Vec::new();
    let outcome = build(scene, order, supply, std::future::pending(), &mut |event| events.push(event)).await;
    (outcome, events)
}

const BASE: [&str; 3] = ["registry.k8s.io/kube-proxy:v1.33.0", "registry.k8s.io/pause:3.10", "example.org/net:1"];

#[tokio::test]
async fn an_image_holds_what_its_version_asks_for_and_runs_what_its_base_ran() {
    let scene = Scene::of_base(&BASE);
    let (outcome, events) = made(&scene, &order(), whole()).await;
    let built = outcome.built.unwrap();
    assert!(outcome.left.is_none());
    assert_eq!((built.image.as_str(), built.version.as_str()), ("kina-node:v1.34.4", "v1.34.4"));
    let images: Vec<String> = scene.images.lock().unwrap().iter().cloned().collect();
    // Under kubeadm's name, and nothing of the version before.
    assert_eq!(images, ["example.org/net:1", "registry.k8s.io/kube-proxy:v1.34.4", "registry.k8s.io/pause:3.10"]);
    let committed = scene.committed.lock().unwrap().clone().unwrap();
    assert_eq!(committed.entrypoint, ["/entry", "/sbin/init"]);
    assert_eq!(committed.labels, Labels::from([("dev.kina.node-image".to_owned(), "v1.34.4".to_owned())]));
    let calls = scene.calls();
    let unpacked = calls.iter().filter(|call| call.starts_with("ctr snapshots --snapshotter overlayfs unpack")).count();
    assert_eq!(unpacked, 3);
    assert!(!calls.iter().any(|call| call.contains("fetch")), "everything is there: {calls:?}");
    assert_eq!(calls.last().map(String::as_str), Some("close kina-build-1"));
    assert!(!events.iter().any(|event| matches!(event, Event::Note(_))), "{events:?}");
}

#[tokio::test]
async fn nothing_is_left_whichever_call_fails_and_no_image_is_made_of_a_half() {
    let scene = Scene::of_base(&BASE);
    let (outcome, _) = made(&scene, &order(), whole()).await;
    outcome.built.unwrap();
    let all = scene.calls().len();
    assert!(all > 20);
    for failing in 1..all {
        let scene = Scene { failing: Some(failing), ..Scene::of_base(&BASE) };
        let (outcome, _) = made(&scene, &order(), whole()).await;
        assert!(matches!(outcome.built, Err(BuildError::Runtime(_))), "call {failing}: {:?}", outcome.built);
        let calls = scene.calls();
        assert_eq!(calls.last().map(String::as_str), Some("close kina-build-1"), "call {failing}");
        assert_eq!(calls.len(), failing + 1, "call {failing} is the last but one");
        assert!(scene.committed.lock().unwrap().is_none(), "call {failing}");
    }
    let scene = Scene { failing: Some(all), ..Scene::of_base(&BASE) };
    let (outcome, _) = made(&scene, &order(), whole()).await;
    assert!(outcome.built.is_ok() && outcome.left.is_some(), "the image is there, and so may the container be");
}

#[tokio::test]
async fn who_gives_up_leaves_nothing() {
    for why in [GivenUp::Interrupted, GivenUp::TimedOut] {
        let scene = Scene::of_base(&BASE);
        let outcome = build(&scene, &order(), whole(), std::future::ready(why), &mut |_| ()).await;
        assert!(matches!(outcome.built, Err(BuildError::GivenUp(given_up)) if given_up == why));
        assert_eq!(scene.calls(), ["open kina-build-1", "close kina-build-1"]);
    }
}

#[tokio::test]
async fn images_that_are_nowhere_are_told_all_at_once() {
    let scene = Scene { nowhere: true, ..Scene::default() };
    let (outcome, _) = made(&scene, &order(), whole()).await;
    let Err(BuildError::Images(told)) = outcome.built else { panic!("{:?}", outcome.built) };
    let wanted =
        ["example.org/net:1", "registry.k8s.io/pause:3.10"].map(|name| format!("{name}: ctr: {name}: no such host"));
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn what_cannot_be_unpacked_into_an_image_stays_packed() {
    let scene = Scene { removing: true, ..Scene::of_base(&BASE) };
    let (outcome, events) = made(&scene, &order(), whole()).await;
    outcome.built.unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Note(_))).count(), 3);
    let touched = |call: &String| call.contains("unpack sha256") || call.starts_with("ctr content label");
    assert!(!scene.calls().iter().any(touched), "{:?}", scene.calls());
    let scene = Scene::of_base(&BASE);
    let packed = Order { packed: true, ..order() };
    made(&scene, &packed, whole()).await.0.built.unwrap();
    assert!(!scene.calls().iter().any(touched));
}

#[tokio::test]
async fn a_source_that_breaks_off_is_told_as_that() {
    let broken = supply(vec![Ok(Bytes::from_static(b"so")), Err(std::io::Error::other("connection reset"))]);
    let (outcome, _) = made(&Scene::of_base(&BASE), &order(), broken).await;
    assert_eq!(outcome.built.unwrap_err().to_string(), "the source could not be read: connection reset");
}

#[tokio::test]
async fn a_base_whose_directories_are_volumes_is_refused_before_anything_is_made() {
    let mut order = order();
    order.base.volumes = vec!["/data".into(), "/var/lib/containerd".into()];
    let scene = Scene::default();
    let (outcome, _) = made(&scene, &order, whole()).await;
    assert!(matches!(outcome.built, Err(BuildError::Volume(volume)) if volume == "/var/lib/containerd"));
    assert!(scene.calls().is_empty());
}
