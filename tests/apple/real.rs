//! A real cluster by way of the command: Kina drives the stand-in, whose containers are Docker's.
//!
//! Runs where Docker answers and a node image is on the host that `KINA_E2E_NODE_IMAGE` names; says so where it does not.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::lab::Lab;
use crate::runner::Test;
use crate::stand_in::engine;

pub const TESTS: &[Test] =
    &[("real::a_cluster_of_three_is_made_restarted_with_other_addresses_and_deleted_by_the_command", cluster)];

/// Real Kubernetes on a busy host.
const WITHIN: &str = "--timeout=600s";

struct Host {
    lab: Lab,
    serving: Option<Child>,
}

impl Host {
    fn command(&self, arguments: &[&str]) -> Command {
        let path = format!("{}:{}", self.bin().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_kina"));
        command
            .args(arguments)
            .envs([("PATH", path.as_str()), ("KINA_RUNTIME", "apple"), ("NO_COLOR", "1"), ("KINA_LOG", "kina=debug")])
            .env("HOME", self.lab.path("user"))
            .env("KINA_HOME", self.lab.path("home"))
            .env("KUBECONFIG", self.lab.path("kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    fn bin(&self) -> PathBuf {
        self.lab.program().parent().unwrap().to_owned()
    }

    fn kina(&self, arguments: &[&str]) -> String {
        said(&mut self.command(arguments))
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.lab.path("kubeconfig")).arg("--context=kina-dev").args(arguments);
        said(command.stdin(Stdio::null()))
    }

    fn ready(&self) {
        for wanted in [
            "--for=condition=Ready",
            "--for=jsonpath={.status.machines.ready}=3",
            "--for=jsonpath={.status.phase}=Running",
        ] {
            self.kina(&["wait", wanted, "cluster/dev", WITHIN]);
        }
        self.kubectl(&["wait", "--for=condition=Ready", "node", "--all", WITHIN]);
        self.kubectl(&["rollout", "status", "-n=kube-system", "deployment/coredns", WITHIN]);
    }

    /// What the command says of each container that runs.
    fn addresses(&self) -> Vec<String> {
        let listed: serde_json::Value = serde_json::from_str(&self.lab.say(&["list", "--format", "json"])).unwrap();
        let line =
            |found: &serde_json::Value| format!("{} {}", found["id"], found["status"]["networks"][0]["ipv4Address"]);
        let mut lines: Vec<String> = listed.as_array().unwrap().iter().map(line).collect();
        lines.sort_unstable();
        lines
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.command(&["status"]).output().unwrap();
            eprintln!("{}", String::from_utf8_lossy(&status.stdout));
            let log = std::fs::read_to_string(self.lab.path("serve.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        if let Some(mut serving) = self.serving.take() {
            let _ = serving.kill();
            let _ = serving.wait();
        }
        engine::sweep(&self.lab.place);
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// The image, and its version of Kubernetes.
fn node_image() -> Result<(String, String), String> {
    let image =
        std::env::var("KINA_E2E_NODE_IMAGE").map_err(|_| "KINA_E2E_NODE_IMAGE names no node image".to_owned())?;
    let works = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    works("kubectl", &["version", "--client"]).ok_or("there is no kubectl")?;
    let version = works("docker", &["run", "--rm", "--pull=never", "--entrypoint=cat", &image, "/kind/version"]);
    Ok((kina::runtime::image_name::full(&image), version.ok_or(format!("Docker has no {image}"))?))
}

fn cluster() {
    let (image, version) = match node_image() {
        Ok(found) => found,
        Err(why) => return eprintln!("SKIPPED, a real cluster through the stand-in: {why}"),
    };
    let lab = Lab::with("1.5.0");
    lab.control(|control| {
        control.docker = true;
        control.registry.insert(image.clone());
    });
    let mut host = Host { lab, serving: None };
    let clusters = host.lab.path("home/clusters");
    std::fs::create_dir_all(&clusters).unwrap();
    std::fs::create_dir_all(host.lab.path("user")).unwrap();
    let manifest = format!(
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: dev}}\nspec:\n  runtime: apple\n  image: {image}\n  \
         kubernetesVersion: {version}\n  workers: [{{name: pool, replicas: 2}}]\n"
    );
    std::fs::write(clusters.join("dev.yaml"), manifest).unwrap();
    let log = std::fs::File::create(host.lab.path("serve.log")).unwrap();
    host.serving = Some(host.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let waited = "--timeout=60s";
    assert!(
        (0..60).any(|_| host.command(&["wait", "--for=create", "cluster/dev", waited]).status().unwrap().success())
    );
    host.ready();
    host.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]);
    let (stay, before) =
        (host.kubectl(&["get", "nodes", "-o=jsonpath={.items[*].status.addresses}"]), host.addresses());

    // The service of Apple Container begins anew: everything is stopped, and nothing starts by itself.
    host.lab.control(|control| control.restart = true);
    assert_eq!(host.addresses(), Vec::<String>::new());
    host.kina(&["wait", "--for=condition=Ready=False", "cluster/dev", WITHIN]);
    host.ready();
    let after = host.addresses();
    assert!(after.len() == 4 && before.iter().all(|line| !after.contains(line)), "{before:?} {after:?}");
    assert_eq!(host.kubectl(&["get", "nodes", "-o=jsonpath={.items[*].status.addresses}"]), stay);
    assert_eq!(host.kubectl(&["get", "configmap", "kept", "-o=jsonpath={.data.key}"]), "value");

    std::fs::remove_file(clusters.join("dev.yaml")).unwrap();
    host.kina(&["wait", "--for=delete", "cluster/dev", WITHIN]);
    assert_eq!(host.lab.say(&["list", "--all", "--quiet"]), "");
    assert_eq!(host.lab.say(&["network", "list", "--quiet"]), "default\n");
    assert_eq!(host.lab.say(&["volume", "list", "--quiet"]), "");
}
