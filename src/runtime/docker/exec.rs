//! Commands in containers.

use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use crate::runtime::{ExecOutput, ExecRequest};

/// Of each stream.
const STREAM_BYTES_MAX: usize = 1 << 20;
/// The engine closes the streams of a command a moment before it has noted its end.
const NOTED_WITHIN: u32 = 50;
const NOTED_AGAIN: Duration = Duration::from_millis(20);

/// A command as it is named in messages: its program and first argument.
pub fn title(request: &ExecRequest) -> String {
    request.command.iter().take(2).cloned().collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end.
pub async fn run(docker: &Docker, container: &str, request: &ExecRequest) -> Result<ExecOutput, Error> {
    let input = request.stdin.clone().map(|data| futures::stream::iter([Bytes::from(data)]));
    feed(docker, container, &request.command, input).await
}

/// Runs a command to its end, with a stream for its standard input, if any.
pub async fn feed(
    docker: &Docker,
    container: &str,
    command: &[String],
    stdin: Option<impl Stream<Item = Bytes>>,
) -> Result<ExecOutput, Error> {
    let config = ExecConfig {
        attach_stdin: Some(stdin.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // With all that the container itself may do.
        privileged: Some(true),
        cmd: Some(command.to_vec()),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(container, config).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let StartExecResults::Attached { mut output, mut input } =
        docker.start_exec(&exec.id, None::<StartExecOptions>).await?
    {
        let write = async {
            let mut parts = pin!(futures::stream::iter(stdin).flatten());
            while let Some(part) = parts.next().await {
                // A command that does not read to the end is its own affair.
                if input.write_all(&part).await.is_err() {
                    break;
                }
            }
            let _ = input.shutdown().await;
            Ok::<_, Error>(())
        };
        let read = async {
            while let Some(part) = output.next().await {
                match part? {
                    LogOutput::StdErr { message } => keep(&mut stderr, &message),
                    part => keep(&mut stdout, part.as_ref()),
                }
            }
            Ok::<_, Error>(())
        };
        tokio::try_join!(write, read)?;
    }
    let code = ended(docker, &exec.id).await?;
    Ok(ExecOutput { code, stdout, stderr })
}

async fn ended(docker: &Docker, exec: &str) -> Result<i32, Error> {
    for _ in 0..NOTED_WITHIN {
        let seen = docker.inspect_exec(exec).await?;
        let code = seen.exit_code.filter(|_| seen.running != Some(true));
        if let Some(code) = code.and_then(|code| i32::try_from(code).ok()) {
            return Ok(code);
        }
        tokio::time::sleep(NOTED_AGAIN).await;
    }
    Err(Error::RequestTimeoutError)
}

fn keep(stream: &mut Vec<u8>, part: &[u8]) {
    let room = STREAM_BYTES_MAX.saturating_sub(stream.len());
    stream.extend_from_slice(&part[..part.len().min(room)]);
}
