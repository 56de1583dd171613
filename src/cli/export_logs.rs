//! `kina export logs`: everything that tells what a cluster did, into a directory.

use std::path::{Component, Path, PathBuf};

use kube::{Api, ResourceExt};
use kube::{Client, api::ListParams};
use serde_json::Value;

use super::context::{Context, Failures};
use super::error::CliError;
use super::exec::{self, daemon};
use super::exit::Exit;
use super::get::{self, Selection};
use super::history;
use super::kinds::Which;
use super::load::named_or_only_cluster;
use crate::api::Machine;
use crate::api::inside::{Command, LOG_LINES_MAX, decode};

/// Longest time of one command in a machine, in seconds.
const SECONDS: u64 = 60;
/// Most logs of containers that are read of one machine.
const POD_LOGS_MAX: usize = 500;
/// Where the kubelet keeps the logs of containers.
const POD_LOGS: &str = "/var/log/pods";
/// What is asked of each machine: the name of a file, and the command whose output goes there. As kind has them.
const ASKED: [(&str, &[&str]); 7] = [
    ("kubernetes-version.txt", &["cat", "/kind/version"]),
    ("journal.log", &["journalctl", "--no-pager", "--lines=5000"]),
    ("kubelet.log", &["journalctl", "--no-pager", "--lines=5000", "--unit=kubelet.service"]),
    ("containerd.log", &["journalctl", "--no-pager", "--lines=5000", "--unit=containerd.service"]),
    ("bootstrap.log", &["journalctl", "--no-pager", "--lines=5000", "--unit=kina-bootstrap.service"]),
    ("images.log", &["crictl", "images"]),
    ("containers.log", &["crictl", "ps", "--all"]),
];

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to [default: a new directory among those for temporary files]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The cluster [default: the only one there is]
    #[arg(long, value_name = "CLUSTER")]
    name: Option<String>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let client = daemon(context).await?;
    let name = named_or_only_cluster(args.name, &client).await?;
    get::expect_cluster(&client, &name).await?;
    let directory = args.directory.unwrap_or_else(|| {
        let at = context.world.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
        std::env::temp_dir().join(format!("kina-{name}-logs-{at}"))
    });
    let mut into = Into { context, directory, failures: Failures::default() };
    into.cluster(&name, &client).await?;
    let of_cluster = ListParams::default().fields(&format!("spec.cluster={name}"));
    let machines = Api::<Machine>::all(client.clone()).list_metadata(&of_cluster).await;
    let machines = machines.map_err(|error| CliError::request("list machines", error))?;
    for machine in &machines.items {
        into.machine(&machine.name_any(), &client).await?;
    }
    let Into { directory, failures, context } = into;
    context.printer.data_line(&directory.display().to_string())?;
    failures.end()
}

/// Where everything goes.
struct Into<'a> {
    context: &'a mut Context,
    directory: PathBuf,
    failures: Failures,
}

impl Into<'_> {
    /// What Kina itself knows.
    async fn cluster(&mut self, name: &str, client: &Client) -> Result<(), CliError> {
        self.write(Path::new("kina-version.txt"), concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes())?;
        let of = |field: String| Selection { fields: Some(field), ..Selection::default() };
        let clusters = get::list(client, Which::Clusters, &of(format!("metadata.name={name}"))).await?;
        self.document("cluster.yaml", &Value::Array(clusters))?;
        let machines = get::list(client, Which::Machines, &of(format!("spec.cluster={name}"))).await?;
        self.document("machines.yaml", &Value::Array(machines))?;
        self.document("history.yaml", &history::document(name, client).await?)
    }

    async fn machine(&mut self, machine: &str, client: &Client) -> Result<(), CliError> {
        let directory = PathBuf::from(machine);
        match exec::log(client, machine, LOG_LINES_MAX).await {
            Ok(log) => self.write(&directory.join("serial.log"), log.as_bytes())?,
            // Nothing else will be had of it.
            Err(error) => return self.failures.add(self.context, error),
        }
        for (file, command) in ASKED {
            if let Some(output) = self.ask(machine, command, client).await? {
                self.write(&directory.join(file), &output)?;
            }
        }
        let find = ["find", POD_LOGS, "-type", "f", "-name", "*.log"];
        let Some(found) = self.ask(machine, &find, client).await? else { return Ok(()) };
        let found = String::from_utf8_lossy(&found).into_owned();
        let logs: Vec<(&str, PathBuf)> = found.lines().filter_map(|path| Some((path, below(path)?))).collect();
        if logs.len() > POD_LOGS_MAX {
            let left = logs.len() - POD_LOGS_MAX;
            self.context.printer.talk(&format!("note: machine/{machine}: {left} logs of containers are left out"));
        }
        for (path, file) in logs.into_iter().take(POD_LOGS_MAX) {
            if let Some(output) = self.ask(machine, &["tail", "--bytes=900000", path], client).await? {
                self.write(&directory.join("pods").join(file), &output)?;
            }
        }
        Ok(())
    }

    /// Everything that a command says; `None` where it could not be run, which is told.
    async fn ask(&mut self, machine: &str, command: &[&str], client: &Client) -> Result<Option<Vec<u8>>, CliError> {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let title = words.join(" ");
        let request = Command { command: words, stdin: None, timeout_seconds: Some(SECONDS) };
        let ended = match exec::run(client, machine, &request).await {
            Ok(ended) => ended,
            Err(error) => return self.failures.add(self.context, error).map(|()| None),
        };
        if let Some(why) = ended.error {
            let error = CliError::new(Exit::Failure, format!("cannot run `{title}` in machine/{machine}: {why}"));
            return self.failures.add(self.context, error).map(|()| None);
        }
        let mut output = decode(&ended.stdout).unwrap_or_default();
        output.extend(decode(&ended.stderr).unwrap_or_default());
        Ok(Some(output))
    }

    fn document(&mut self, file: &str, value: &Value) -> Result<(), CliError> {
        let text = serde_saphyr::to_string(value)
            .map_err(|error| CliError::new(Exit::Failure, format!("cannot print {file}")).because(error))?;
        self.write(Path::new(file), text.as_bytes())
    }

    fn write(&mut self, file: &Path, content: &[u8]) -> Result<(), CliError> {
        let path = self.directory.join(file);
        let failed = |error| CliError::new(Exit::Failure, format!("cannot write {}", path.display())).because(error);
        let files = &self.context.world.files;
        // What pods log is nobody else's business.
        files.create_directories(path.parent().unwrap_or(&self.directory), 0o700).map_err(failed)?;
        files.write(&path, content, 0o600).map_err(failed)
    }
}

/// The place of a container's log below a machine's: nothing that a node says leads out of it.
fn below(path: &str) -> Option<PathBuf> {
    let rest = Path::new(path).strip_prefix(POD_LOGS).ok()?;
    rest.components().all(|part| matches!(part, Component::Normal(_))).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_pods_stay_below_their_machine() {
        assert_eq!(below("/var/log/pods/a_b_c/d/0.log"), Some(PathBuf::from("a_b_c/d/0.log")));
        for path in ["/var/log/pods/../x.log", "/etc/passwd", "var/log/pods/a.log", ""] {
            assert_eq!(below(path), None, "{path}");
        }
    }
}
