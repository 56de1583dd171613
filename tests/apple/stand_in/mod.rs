//! A program that stands in for Apple's `container`: the same flags, words, documents, exit codes and awkwardness, and
//! containers that are directories. See the README beside it.

mod containers;
mod create;
pub mod engine;
pub mod flags;
mod images;
mod inside;
mod networks;
pub mod say;
pub mod state;
mod system;
mod volumes;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use say::{Encoding, Refusal};
use state::{Control, Fault, Place, What};

/// What a command has to say when all went well, and what it ends with.
#[derive(Debug, Default)]
pub struct Said {
    /// On standard output.
    pub stdout: String,
    /// On standard error.
    pub stderr: String,
    /// Exit code.
    pub code: i32,
}

impl Said {
    /// One line of result.
    pub fn line(text: impl AsRef<str>) -> Self {
        Self { stdout: format!("{}\n", text.as_ref()), ..Self::default() }
    }
}

/// What every command has.
pub struct Scene {
    /// Where everything is.
    pub place: Place,
    /// What a test wants.
    pub control: Control,
    /// The version that is played.
    pub version: (u16, u16, u16),
}

type Answer = Result<Said, Refusal>;

impl Scene {
    /// How this version prints JSON.
    pub fn encoding(&self) -> Encoding {
        Encoding { escapes_slashes: self.version < (1, 4, 1) }
    }

    /// Whether somebody listens.
    pub fn service(&self, via_list: bool) -> Result<(), Refusal> {
        match self.control.service.as_str() {
            "running" => Ok(()),
            _ => Err(Refusal::no_service(via_list)),
        }
    }

    /// Another order every time, from the seed.
    pub fn shuffled<T>(&self, mut all: Vec<T>) -> Vec<T> {
        let calls = self.place.with(|state| {
            state.calls += 1;
            state.calls
        });
        fastrand::Rng::with_seed(self.control.seed.wrapping_mul(0x9E37_79B9).wrapping_add(calls)).shuffle(&mut all);
        all
    }
}

/// Waits; a program of its own may.
#[expect(clippy::disallowed_methods, reason = "this is another program, in real time")]
pub fn wait(time: Duration) {
    std::thread::sleep(time);
}

fn for_ever() -> ! {
    loop {
        wait(Duration::from_secs(3600));
    }
}

/// What time it is, in whole seconds.
#[expect(clippy::disallowed_methods, reason = "this is another program, in real time")]
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The program.
pub fn main(arguments: &[String]) -> ExitCode {
    let place = Place::of_program(arguments.first().map_or("container", String::as_str));
    let arguments = arguments.get(1..).unwrap_or_default();
    place.note(arguments);
    let fault = place.control(|control| take_fault(control, arguments));
    // Under the lock: whoever comes meanwhile finds it restarted.
    place.control(|control| {
        if std::mem::take(&mut control.restart) {
            system::restart(&place, control.docker);
        }
    });
    let control = place.control(|control| std::mem::take(control).into_copy(control));
    let version = version(&control.version);
    let scene = Scene { place, control, version };
    match &fault {
        Some(What::Hang) => for_ever(),
        Some(What::Slow(milliseconds)) => wait(Duration::from_millis(*milliseconds)),
        Some(What::Fail(text)) => return end(Err(Refusal { code: 1, text: format!("{text}\n") })),
        _ => {}
    }
    let mut answer = run(&scene, arguments, fault.as_ref());
    match fault {
        Some(What::HangAfter) => for_ever(),
        Some(What::LoseReply) => {
            let refusal = Refusal::no_service(false);
            let text = refusal.text.replace("Connection invalid", "Connection interrupted");
            answer = Err(Refusal { text, ..refusal });
        }
        _ => {}
    }
    end(answer)
}

impl Control {
    /// The control itself stays as it is; a copy is handed on.
    fn into_copy(self, kept: &mut Self) -> Self {
        let copy = serde_json::to_value(&self).and_then(serde_json::from_value).expect("a copy");
        *kept = self;
        copy
    }
}

fn version(text: &str) -> (u16, u16, u16) {
    let mut parts = text.split('.').map(|part| part.parse().expect("a version"));
    (parts.next().unwrap_or(1), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn take_fault(control: &mut Control, arguments: &[String]) -> Option<What> {
    let line = arguments.join(" ");
    let fits = |fault: &Fault| line == fault.on || line.starts_with(&format!("{} ", fault.on));
    let index = control.faults.iter().position(fits)?;
    let what = control.faults[index].what.clone();
    control.faults[index].times = control.faults[index].times.saturating_sub(1);
    if control.faults[index].times == 0 {
        control.faults.remove(index);
    }
    Some(what)
}

/// Prints what there is to say.
pub fn end(answer: Answer) -> ExitCode {
    let said = answer.unwrap_or_else(|refusal| Said { stderr: refusal.text, code: refusal.code, ..Said::default() });
    // Whoever reads may have gone.
    let _ = std::io::stdout().write_all(said.stdout.as_bytes());
    let _ = std::io::stderr().write_all(said.stderr.as_bytes());
    ExitCode::from(u8::try_from(said.code).unwrap_or(1))
}

fn run(scene: &Scene, arguments: &[String], fault: Option<&What>) -> Answer {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rest = |skipped: usize| arguments.get(skipped..).unwrap_or_default();
    match words.as_slice() {
        ["--version", ..] => {
            let version = &scene.control.version;
            Ok(Said::line(format!("container CLI version {version} (build: release, commit: 0190097)")))
        }
        [] | ["--help" | "-h", ..] => Ok(Said::line("OVERVIEW: A container platform for macOS")),
        ["list" | "ls", ..] => containers::list(scene, rest(1), fault),
        ["inspect", ..] => containers::inspect(scene, rest(1)),
        ["create", ..] => create::create(scene, rest(1)),
        ["start", ..] => containers::start(scene, rest(1)),
        ["stop", ..] => containers::stop(scene, rest(1)),
        ["kill", ..] => containers::kill(scene, rest(1)),
        ["delete" | "rm", ..] => containers::delete(scene, rest(1)),
        ["logs", ..] => containers::logs(scene, rest(1)),
        ["exec", ..] => inside::exec(scene, rest(1)),
        ["copy" | "cp", ..] => inside::copy(scene, rest(1)),
        // Before macOS 26 there is no such command: the word is looked for among plugins, as any other.
        ["network" | "n", verb, ..] if scene.control.macos >= 26 => networks::run(scene, verb, rest(2)),
        ["volume" | "v", verb, ..] => volumes::run(scene, verb, rest(2)),
        ["image" | "i", verb, ..] => images::run(scene, verb, rest(2)),
        ["system" | "s", verb, ..] => system::run(scene, verb, rest(2)),
        [flag, ..] if flag.starts_with('-') => {
            let text = format!("Error: Unknown option '{flag}'\nUsage: container [--debug] <subcommand>\n");
            Err(Refusal { code: 64, text: format!("{text}  See 'container --help' for more information.\n") })
        }
        [other, ..] => {
            if scene.service(false).is_err() {
                let text = "Error: Plugins are unavailable. Start the container system services and retry:\n\n";
                return Err(Refusal { code: 1, text: format!("{text}    container system start\n") });
            }
            Err(Refusal { code: 64, text: format!("Error: Plugin 'container-{other}' not found.\n") })
        }
    }
}
