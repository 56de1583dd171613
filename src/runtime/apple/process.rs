//! One call of the `container` command: a process of its own, with a deadline.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::world::FileSystem;

/// After the end was asked for: the command hands it on to what it runs in a container.
const END_WITHIN: Duration = Duration::from_secs(2);
/// After a process has ended its streams close, unless a child of it has them still. The command itself waits 3 s for what was
/// left behind in a container.
const CLOSED_WITHIN: Duration = Duration::from_secs(4);
/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What is given on standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Nothing: there is no input.
    #[default]
    Nothing,
    /// These bytes, through a pipe of its own: the command makes its input non-blocking.
    Bytes(Vec<u8>),
    /// A file of the host.
    File(PathBuf),
}

/// A call.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// Arguments: an array, never a line of a shell.
    pub arguments: Vec<String>,
    /// Standard input.
    pub input: Input,
    /// Time until the process is ended.
    pub within: Duration,
    /// Of each stream; what is more is read and forgotten.
    pub bytes_max: usize,
}

impl Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

/// What a call left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit code; of a process that a signal ended, 128 and the signal, as a shell tells it.
    pub code: i32,
    /// Standard output: results.
    pub stdout: Vec<u8>,
    /// Standard error: errors, warnings, progress.
    pub stderr: Vec<u8>,
    /// A stream was longer than it might be.
    pub is_cut: bool,
}

/// A call that has no output.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The program could not be started.
    #[error("the program could not be started")]
    Start(#[source] io::Error),
    /// It did not end in time, and was ended.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// Its streams could not be read.
    #[error("its output could not be read")]
    Streams(#[source] io::Error),
}

/// What runs the command. Tests have one that runs nothing.
#[async_trait]
pub trait Commands: Send + Sync + Debug {
    /// Runs one call to its end, or to its deadline.
    ///
    /// # Errors
    /// [`CallError`]. A command that ran and failed is no error.
    async fn run(&self, call: Call) -> Result<Output, CallError>;
}

/// The first program of this name in these directories.
#[must_use]
pub fn find(name: &str, directories: &[PathBuf], files: &dyn FileSystem) -> Option<PathBuf> {
    let mut found = directories.iter().map(|directory| directory.join(name));
    found.find(|path| files.metadata(path).is_ok_and(|found| found.mode & 0o111 != 0))
}

/// Runs a program for a person, who sees what it says while it runs, and tells its exit code. It asks nothing: it has no input.
///
/// # Errors
/// [`CallError`]. A program that ran and failed is no error.
pub async fn show(program: &Path, arguments: &[&str], within: Duration) -> Result<i32, CallError> {
    let mut command = Command::new(program);
    let mut child =
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).spawn().map_err(CallError::Start)?;
    let Ok(status) = tokio::time::timeout(within, child.wait()).await else {
        // It goes with this process at the latest.
        let _ = child.kill().await;
        return Err(CallError::Late(within));
    };
    Ok(status.map_err(CallError::Streams)?.code().unwrap_or(-1))
}

/// Runs a program of this host.
#[derive(Debug)]
pub struct Program(pub PathBuf);

#[async_trait]
impl Commands for Program {
    async fn run(&self, call: Call) -> Result<Output, CallError> {
        let stdin = match &call.input {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) => Stdio::piped(),
            Input::File(path) => std::fs::File::open(path).map_err(CallError::Start)?.into(),
        };
        let child = Command::new(&self.0)
            .args(&call.arguments)
            // With it every error comes with pages of talk.
            .env_remove("CONTAINER_DEBUG")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What is typed to end Kina is not meant for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(CallError::Start)?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let Call { input, within, bytes_max, .. } = call;
        let data = if let Input::Bytes(data) = input { data } else { Vec::new() };
        run(child, group, data, within, bytes_max).await
    }
}

/// All processes of a call; they are ended where nobody waits for them any more.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Those that have ended already need none.
            let _ = kill_process_group(group, signal);
        }
    }

    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn run(
    mut child: Child,
    mut group: Group,
    data: Vec<u8>,
    within: Duration,
    bytes_max: usize,
) -> Result<Output, CallError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read to the end is its own affair.
            let _ = stdin.write_all(&data).await;
            let _ = stdin.shutdown().await;
        }
    };
    // Both are read at once and to their end: a command whose output nobody takes for 3 s fails.
    let streams = async { tokio::try_join!(take(stdout, bytes_max), take(stderr, bytes_max)) };
    let mut streams = Box::pin(async { tokio::join!(streams, feed).0 });
    let deadline = tokio::time::Instant::now() + within;
    let mut read = None;
    let status = tokio::time::timeout_at(deadline, async {
        loop {
            tokio::select! {
                biased;
                status = child.wait() => return status,
                result = &mut streams, if read.is_none() => read = Some(result),
            }
        }
    });
    let status = match status.await {
        Ok(status) => status.map_err(CallError::Streams)?,
        Err(_) => {
            group.signal(Signal::TERM);
            let ended = tokio::time::timeout(END_WITHIN, child.wait()).await;
            if ended.is_err() {
                group.signal(Signal::KILL);
                let _ = child.wait().await;
            }
            return Err(CallError::Late(within));
        }
    };
    let read = match read {
        Some(read) => read,
        None => tokio::time::timeout(CLOSED_WITHIN, streams).await.map_err(|_| CallError::Late(within))?,
    };
    let ((stdout, out_cut), (stderr, err_cut)) = read.map_err(CallError::Streams)?;
    group.has_ended();
    let signalled = || std::os::unix::process::ExitStatusExt::signal(&status).map_or(-1, |signal| 128 + signal);
    Ok(Output { code: status.code().unwrap_or_else(signalled), stdout, stderr, is_cut: out_cut || err_cut })
}

/// Reads a stream to its end, and keeps its beginning; also whether there was more.
async fn take(stream: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> io::Result<(Vec<u8>, bool)> {
    let (mut kept, mut is_cut) = (Vec::new(), false);
    let Some(mut stream) = stream else { return Ok((kept, is_cut)) };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Ok((kept, is_cut));
        }
        let room = bytes_max.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&chunk[..room]);
        is_cut |= room < length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within: Duration) -> (Program, Call) {
        let arguments = ["-c", script].map(str::to_owned).to_vec();
        (Program("/bin/sh".into()), Call { arguments, input: Input::Nothing, within, bytes_max: 1 << 20 })
    }

    #[tokio::test]
    async fn a_call_has_its_streams_apart_and_its_code() {
        let (program, call) = shell("cat; echo talk >&2; exit 7", Duration::from_secs(30));
        let output = program.run(Call { input: Input::Bytes(b"data\0".to_vec()), ..call }).await.unwrap();
        let expected = Output { code: 7, stdout: b"data\0".to_vec(), stderr: b"talk\n".to_vec(), is_cut: false };
        assert_eq!(output, expected);
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_end_and_kept_to_its_limit() {
        let (program, call) = shell("head -c 300000 /dev/zero; echo done >&2", Duration::from_secs(30));
        let output = program.run(Call { bytes_max: 1000, ..call }).await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.as_slice(), output.is_cut), (1000, b"done\n".as_slice(), true));
    }

    #[tokio::test]
    async fn what_hangs_is_ended_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("pid");
        let script = format!("trap '' TERM; sleep 600 & echo $! >{}; wait; wait", note.display());
        let (program, call) = shell(&script, Duration::from_secs(1));
        let error = program.run(call).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 1 s");
        let child: i32 = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
        // It was killed: it is gone in a moment, or waits only for whoever is its parent now to take note.
        let gone = async {
            loop {
                let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                if state.is_empty() || state.contains(") Z ") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("no child is left");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_says_so() {
        let (_, call) = shell("", Duration::from_secs(1));
        let error = Program("/nowhere/container".into()).run(call).await.unwrap_err();
        assert!(matches!(error, CallError::Start(_)), "{error}");
    }
}
