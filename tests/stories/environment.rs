//! A clean place to run the built binary in.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Temporary `HOME` and `KINA_HOME`, and an environment with nothing else in it.
pub struct TestEnvironment {
    root: TempDir,
}

/// What a command did.
#[must_use = "look at the exit code: `.success()`, `.fails(code)`, or snapshot `.shown()`"]
pub struct Ran {
    /// The exit code; 128 + the number of the signal that ended it.
    pub code: i32,
    /// stdout, normalised.
    pub out: String,
    /// stderr, normalised.
    pub err: String,
}

/// A command that runs beside the test, ended with it.
pub struct Running {
    child: Child,
    root: PathBuf,
}

impl TestEnvironment {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("kina-story-").tempdir().unwrap();
        let this = Self { root };
        fs::DirBuilder::new().mode(0o700).create(this.path("home")).unwrap();
        fs::create_dir(this.path("work")).unwrap();
        this
    }

    /// A path in the temporary directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// The user's kubeconfig, empty where there is none.
    pub fn kubeconfig(&self) -> String {
        fs::read_to_string(self.path("home/.kube/config")).unwrap_or_default()
    }

    /// Writes a file below the working directory.
    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path("work").join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command in this environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Another build of it, such as a released one, for long runs.
        let binary = std::env::var_os("KINA_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kina").into());
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("KINA_HOME", self.path("home/.kina"))
            .env("KINA_RUNTIME", "sim")
            // No runtime must be found: stories are simulated unless they say otherwise.
            .env("PATH", self.path("bin"))
            .env("LC_ALL", "C")
            .current_dir(self.path("work"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs `kina` to its end.
    pub fn kina(&self, arguments: &[&str]) -> Ran {
        self.ran(self.command(arguments).output().unwrap())
    }

    /// Runs `kina` to its end, with something on stdin.
    pub fn kina_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        self.ran(child.wait_with_output().unwrap())
    }

    /// Starts `kina` and waits for a line of its stderr that contains `sign`.
    pub fn start(&self, arguments: &[&str], sign: &str) -> Running {
        self.start_command(&mut self.command(arguments), sign)
    }

    /// Starts a command and waits for a line of its stderr that contains `sign`.
    pub fn start_command(&self, command: &mut Command, sign: &str) -> Running {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.lines().any(|line| line.contains(sign)) {
            if lines.read_line(&mut said).unwrap() == 0 {
                panic!("{command:?} ended without saying `{sign}`:\n{said}");
            }
        }
        // What it says from now on must go somewhere, or it would block.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Running { child, root: self.root.path().to_path_buf() }
    }

    /// What a command did that ran to its end.
    pub fn ran(&self, output: Output) -> Ran {
        ran(self.root.path(), output)
    }
}

impl Ran {
    /// stdout of a command that must succeed.
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.out
    }

    /// stderr of a command that must end with this code.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.err
    }

    /// Everything, for a snapshot.
    pub fn shown(self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Running {
    /// Sends a signal by number.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success());
    }

    /// Asks it to end, and waits; its exit code.
    pub fn end(mut self) -> i32 {
        self.signal("TERM");
        code(self.child.wait().unwrap())
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended where the test came to its end; a failed one must leave nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(self.root.is_absolute());
    }
}

fn ran(root: &Path, output: Output) -> Ran {
    let normal = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap().replace(&root.display().to_string(), "$TMP");
        // Ages and durations differ from run to run.
        text.replace(env!("CARGO_MANIFEST_DIR"), "$KINA")
    };
    Ran { code: code(output.status), out: normal(output.stdout), err: normal(output.stderr) }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
