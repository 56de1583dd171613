//! What there is, in a directory, and what a test wants to go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything there is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// By name.
    pub containers: BTreeMap<String, ContainerState>,
    /// By name.
    pub networks: BTreeMap<String, NetworkState>,
    /// By name.
    pub volumes: BTreeMap<String, Value>,
    /// Names of those that are here.
    pub images: BTreeSet<String>,
    /// Calls so far: every one shuffles otherwise.
    pub calls: u64,
}

/// A container.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ContainerState {
    /// What it was made with, as the newest version shows it.
    pub configuration: Value,
    /// Its machine runs.
    pub runs: bool,
    /// When it was started, until the service is started anew.
    pub started: Option<String>,
    /// What it is attached to, in order.
    pub attachments: Vec<Value>,
    /// What its first process wrote since it was started; none before.
    pub log: Option<String>,
}

/// A network.
#[derive(Debug, Serialize, Deserialize)]
pub struct NetworkState {
    /// As it is shown.
    pub configuration: Value,
    /// `192.168.64`: all are /24.
    pub prefix: String,
    /// The last part of the address that is given next.
    pub next: u8,
    /// Its helper did not come up: it is listed nowhere.
    #[serde(default)]
    pub is_missing: bool,
}

/// What a test wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// The version that is played: `1.2.2`.
    pub version: String,
    /// The first part of the version of macOS below.
    pub macos: u16,
    /// Shuffles what has no order.
    pub seed: u64,
    /// `running`, `not running`, `unregistered`.
    pub service: String,
    /// The service is started anew before the next call.
    pub restart: bool,
    /// The version that the service runs as, where it is another than the command's.
    pub service_version: Option<String>,
    /// The directory that the service says is its own, kept as it says where it is there.
    pub root: String,
    /// There is a default kernel.
    pub has_kernel: bool,
    /// How long a machine takes to boot; others wait meanwhile.
    pub boot_milliseconds: u64,
    /// Images that a registry has. Everything else is a 404.
    pub registry: BTreeSet<String>,
    /// What goes wrong, in order.
    pub faults: Vec<Fault>,
    /// Containers are real ones of Docker.
    pub docker: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            version: "1.2.2".to_owned(),
            macos: 26,
            seed: 1,
            service: "running".to_owned(),
            restart: false,
            service_version: None,
            root: "/Users/dev/Library/Application Support/com.apple.container/".to_owned(),
            has_kernel: true,
            boot_milliseconds: 0,
            registry: BTreeSet::new(),
            faults: Vec::new(),
            docker: false,
        }
    }
}

/// Something that goes wrong, for so many calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// How the command line begins: `start`, `network create`.
    pub on: String,
    /// For so many calls.
    pub times: u32,
    /// What.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// No answer, ever; nothing is done.
    Hang,
    /// It is done, and then there is no answer, ever.
    HangAfter,
    /// Nothing is done; these words, and exit code 1.
    Fail(String),
    /// It is done, and the service goes away before it says so.
    LoseReply,
    /// Containers are listed as stopped, whether they run or not.
    ListStopped,
    /// It takes so many milliseconds more.
    Slow(u64),
}

/// The directory of one stand-in.
pub struct Place(pub PathBuf);

impl Place {
    /// The directory that the environment names, else the one beside the program.
    pub fn of_program(program: &str) -> Self {
        let beside = || {
            let program = Path::new(program);
            program.parent().unwrap_or(Path::new(".")).join("container.state")
        };
        Self(std::env::var_os("CONTAINER_STAND_IN").map_or_else(beside, PathBuf::from))
    }

    /// This directory.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Holds a lock until it is dropped.
    pub fn lock(&self, name: &str) -> File {
        fs::create_dir_all(&self.0).expect("the directory of the stand-in");
        let file = File::create(self.path(name)).expect("a lock");
        file.lock().expect("the lock");
        file
    }

    fn read<T: Default + for<'a> Deserialize<'a>>(&self, name: &str) -> T {
        match fs::read(self.path(name)) {
            Ok(text) => serde_json::from_slice(&text).expect("a file of the stand-in"),
            Err(_) => T::default(),
        }
    }

    fn write(&self, name: &str, content: &impl Serialize) {
        let text = serde_json::to_vec_pretty(content).expect("JSON");
        let temporary = self.path(&format!("{name}.new-{}", std::process::id()));
        fs::write(&temporary, text).expect("a file of the stand-in");
        fs::rename(temporary, self.path(name)).expect("a file of the stand-in");
    }

    /// Changes what there is, or looks at it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let _lock = self.lock("state.lock");
        let mut state: State = self.read("state.json");
        let result = change(&mut state);
        self.write("state.json", &state);
        result
    }

    /// Changes what a test wants, or looks at it.
    pub fn control<T>(&self, change: impl FnOnce(&mut Control) -> T) -> T {
        let _lock = self.lock("control.lock");
        let mut control: Control = self.read("control.json");
        let result = change(&mut control);
        self.write("control.json", &control);
        result
    }

    /// The directory that stands for a container's own file system.
    pub fn root(&self, container: &str) -> PathBuf {
        self.path("containers").join(container)
    }

    /// The directory that stands for a volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.path("volumes").join(name)
    }

    /// Notes a command line, for tests that look at what was asked.
    pub fn note(&self, arguments: &[String]) {
        use std::io::Write;
        fs::create_dir_all(&self.0).expect("the directory of the stand-in");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path("calls")).expect("calls");
        // Scripts have many lines; a call has one.
        let line = serde_json::to_string(arguments).expect("JSON") + "\n";
        // At once: others write, too.
        file.write_all(line.as_bytes()).expect("calls");
    }

    /// Every command line so far. One that is just being written has no end yet, and is left to the next look: who reads
    /// a file sees the pages of a single `write` one by one.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let written = fs::read(self.path("calls")).unwrap_or_default();
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = written[..whole].split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| serde_json::from_slice(line).expect("a call")).collect()
    }
}
