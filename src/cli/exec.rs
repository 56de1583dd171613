//! `kina exec` and `kina logs`: into machines, through the process that has the runtimes.

use std::io::Read;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::get;
use super::kinds::Which;
use crate::api::inside::{
    Command, EXEC_SECONDS_MAX, Ended, LOG_LINES, LOG_LINES_MAX, MACHINES_PATH, STDIN_BYTES_MAX, decode, encode,
};
use crate::api::{Cluster, Machine};

/// What is kept of each stream of a command.
const STREAM_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, clap::Args)]
pub struct ExecArgs {
    /// The machine
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// Hand on stdin, whole: at most 2 MiB
    #[arg(short = 'i', long)]
    stdin: bool,
    /// A terminal: not supported
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Give the command up after this long, an hour at most
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = super::duration)]
    timeout: Duration,
    /// Program and arguments, after `--`; no shell sees them
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct LogsArgs {
    /// A machine, or a cluster for all its machines: `NAME`, `machine/NAME` or `cluster/NAME`
    #[arg(value_name = "NAME")]
    name: String,
    /// Going on: not supported
    #[arg(short, long, hide = true)]
    follow: bool,
    /// The last so many lines of each
    #[arg(long, value_name = "LINES", default_value_t = LOG_LINES)]
    tail: usize,
}

pub async fn exec(args: ExecArgs, context: &mut Context) -> Result<(), CliError> {
    if args.tty {
        let error = CliError::new(Exit::Usage, "not supported: `-t`, a terminal");
        return Err(error.hint("`-i` hands on stdin; what the command says is shown at its end"));
    }
    let seconds = args.timeout.as_secs().max(1);
    if seconds > EXEC_SECONDS_MAX {
        return Err(CliError::new(Exit::Usage, "a command is given up after an hour at most"));
    }
    let stdin = if args.stdin { Some(encode(&stdin()?)) } else { None };
    let client = daemon(context).await?;
    let machine = args.machine.strip_prefix("machine/").unwrap_or(&args.machine);
    let command = Command { command: args.command, stdin, timeout_seconds: Some(seconds) };
    let interrupt = context.interrupt.clone();
    let ended = tokio::select! {
        biased;
        () = interrupt.first() => {
            let error = CliError::new(Exit::Interrupted, "interrupted: the command goes on in the machine");
            return Err(error.hint("it is given up there after its `--timeout`"));
        }
        ended = run(&client, machine, &command) => ended?,
    };
    let attempted = format!("run the command in machine/{machine}");
    if let Some(why) = ended.error {
        return Err(CliError::new(Exit::Failure, format!("cannot {attempted}: {why}")));
    }
    let stream = |text: &str| {
        let broken =
            |error| CliError::new(Exit::Failure, format!("cannot {attempted}: the answer is broken")).because(error);
        decode(text).map_err(broken)
    };
    let (out, err) = (stream(&ended.stdout)?, stream(&ended.stderr)?);
    context.printer.data_bytes(&out)?;
    context.printer.talk_bytes(&err);
    if out.len().max(err.len()) >= STREAM_BYTES_MAX {
        context
            .printer
            .talk("note: of each stream only the first MiB is kept; write the rest to a file in the machine");
    }
    match ended.exit_code.unwrap_or_default() {
        0 => Ok(()),
        // As a shell sees it: its lowest eight bits.
        code => Err(CliError::silent(Exit::Command(u8::try_from(code & 0xff).unwrap_or(1)))),
    }
}

/// Runs a command in a machine.
///
/// # Errors
/// Where it is not there, or the API does not answer.
pub async fn run(client: &Client, machine: &str, command: &Command) -> Result<Ended, CliError> {
    let attempted = format!("run the command in machine/{machine}");
    let body = serde_json::to_vec(command).unwrap_or_default();
    let request = http::Request::post(format!("{MACHINES_PATH}{machine}/exec"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| CliError::new(Exit::Usage, format!("`{machine}` is no name of a machine")).because(error))?;
    match client.request::<Ended>(request).await {
        Ok(ended) => Ok(ended),
        Err(error) => Err(missing(CliError::request(&attempted, error), client, machine).await),
    }
}

pub async fn logs(args: LogsArgs, context: &mut Context) -> Result<(), CliError> {
    if args.follow {
        let error = CliError::new(Exit::Usage, "not supported: `-f`, following a log");
        return Err(error.hint("`--tail LINES` shows its end as it is now"));
    }
    let client = daemon(context).await?;
    let machines = machines(&args.name, &client).await?;
    let mut failures = Failures::default();
    for (index, machine) in machines.iter().enumerate() {
        match log(&client, machine, args.tail.min(LOG_LINES_MAX)).await {
            Ok(text) => {
                if machines.len() > 1 {
                    let gap = if index == 0 { "" } else { "\n" };
                    context.printer.data(&format!("{gap}==> {machine} <==\n"))?;
                }
                let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                context.printer.data(&format!("{text}{end}"))?;
            }
            Err(error) => failures.add(context, error)?,
        }
    }
    failures.end()
}

/// The machines that a name stands for.
async fn machines(name: &str, client: &Client) -> Result<Vec<String>, CliError> {
    let (kind, name) = name.split_once('/').map_or((None, name), |(kind, name)| (Some(kind), name));
    let kind = kind.map(Which::parse).transpose()?;
    let is_cluster = match kind {
        Some(Which::Clusters) => true,
        Some(Which::Machines) => false,
        Some(_) => return Err(CliError::new(Exit::Usage, "machines and clusters have logs")),
        None => {
            let cluster = Api::<Cluster>::all(client.clone()).get_metadata_opt(name).await;
            cluster.map_err(|error| CliError::request(&format!("get cluster/{name}"), error))?.is_some()
        }
    };
    if !is_cluster {
        return Ok(vec![name.to_owned()]);
    }
    let params = ListParams::default().fields(&format!("spec.cluster={name}"));
    let list = Api::<Machine>::all(client.clone()).list_metadata(&params).await;
    let list = list.map_err(|error| CliError::request("list machines", error))?;
    if list.items.is_empty() {
        return Err(get::absent(client, name).await);
    }
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

/// The end of a machine's log.
///
/// # Errors
/// Where it is not there, or the API does not answer.
pub async fn log(client: &Client, machine: &str, lines: usize) -> Result<String, CliError> {
    let request = http::Request::get(format!("{MACHINES_PATH}{machine}/log?tailLines={lines}"))
        .body(Vec::new())
        .map_err(|error| CliError::new(Exit::Usage, format!("`{machine}` is no name of a machine")).because(error))?;
    match client.request_text(request).await {
        Ok(text) => Ok(text),
        Err(error) => {
            Err(missing(CliError::request(&format!("read the log of machine/{machine}"), error), client, machine).await)
        }
    }
}

/// A machine that is not there, with the nearest that is.
async fn missing(error: CliError, client: &Client, name: &str) -> CliError {
    if error.exit() == Exit::NotFound { get::near(error, client, Which::Machines, name).await } else { error }
}

/// Only a kina that runs has the runtimes.
pub async fn daemon(context: &Context) -> Result<Client, CliError> {
    context.engine.connect(&context.home).await?.ok_or_else(|| {
        CliError::new(Exit::Failure, "no kina runs, and only one that runs reaches into machines")
            .hint("`kina serve` in another terminal")
    })
}

fn stdin() -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(STDIN_BYTES_MAX).unwrap_or(u64::MAX);
    let read = std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::new(Exit::Failure, "cannot read stdin").because(error))?;
    if bytes.len() > STDIN_BYTES_MAX {
        return Err(
            CliError::new(Exit::Usage, "more than 2 MiB on stdin").hint("hand large files in by a volume or image")
        );
    }
    Ok(bytes)
}
