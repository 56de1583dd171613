//! What containers do here: nothing runs in them. A directory is their file system, and a few programs are played.

use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use kina::runtime::apple::inside::{self, NO_FILE, READY, STAGE};
use serde_json::Value;

use super::flags::{Words, parse, switch, value};
use super::say::Refusal;
use super::state::Place;
use super::{Answer, Said, Scene, engine, wait};

/// A name that nothing else has.
pub fn uuid(scene: &Scene) -> String {
    let calls = scene.place.with(|state| {
        state.calls += 1;
        state.calls
    });
    format!("{:08x}-0000-4000-8000-{calls:012x}", scene.control.seed)
}

/// The file systems of a container.
struct Tree<'a> {
    place: &'a Place,
    id: &'a str,
    /// Where in the container, and where on the host.
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Tree<'a> {
    fn of(place: &'a Place, id: &'a str, configuration: &Value) -> Self {
        let mut mounts = Vec::new();
        for mount in configuration["mounts"].as_array().into_iter().flatten() {
            let target = PathBuf::from(mount["destination"].as_str().unwrap_or_default());
            if let Some(volume) = mount["type"]["volume"]["name"].as_str() {
                mounts.push((target, place.volume(volume)));
            } else if mount["type"].get("virtiofs").is_some() {
                mounts.push((target, PathBuf::from(mount["source"].as_str().unwrap_or_default())));
            }
        }
        for mount in inside::mounts(&arguments(configuration)) {
            mounts.push((PathBuf::from(mount.target), place.volume(&mount.volume).join(mount.subdirectory)));
        }
        // The deepest first.
        mounts.sort_by_key(|(target, _)| std::cmp::Reverse(target.components().count()));
        Self { place, id, mounts }
    }

    fn path(&self, inner: &str) -> PathBuf {
        let inner = Path::new("/").join(inner);
        let under = self.mounts.iter().find_map(|(target, host)| Some(host.join(inner.strip_prefix(target).ok()?)));
        let plain: PathBuf = inner.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        under.unwrap_or_else(|| self.place.root(self.id).join(plain))
    }

    fn unpack(&self, archive: impl Read) -> std::io::Result<()> {
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = self.path(&entry.path()?.to_string_lossy());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            if entry.header().entry_type().is_dir() {
                fs::create_dir_all(&path)?;
            } else {
                entry.unpack(&path)?;
            }
        }
        Ok(())
    }
}

fn arguments(configuration: &Value) -> Vec<String> {
    serde_json::from_value(configuration["initProcess"]["arguments"].clone()).unwrap_or_default()
}

/// Starts the first process: of Kina's own script it does what that does. Tells what it wrote; an error if it ended.
pub fn begin(place: &Place, id: &str, configuration: &Value) -> Result<String, String> {
    let words = arguments(configuration);
    if words.get(1).is_none_or(|script| script != inside::START) {
        return Ok("started\n".to_owned());
    }
    let tree = Tree::of(place, id, configuration);
    for (_, host) in &tree.mounts {
        if !host.exists() {
            fs::create_dir_all(host).map_err(|error| error.to_string())?;
        }
    }
    let stage = tree.path(STAGE);
    let _ = fs::remove_file(stage.join(READY));
    let mut names: Vec<PathBuf> = fs::read_dir(&stage)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    names.sort_unstable();
    for name in names {
        let file = fs::File::open(&name).map_err(|error| error.to_string())?;
        tree.unpack(file).map_err(|error| format!("tar: {error}\n"))?;
        fs::remove_file(name).map_err(|error| error.to_string())?;
    }
    // No two starts are of one process.
    fs::write(stage.join(READY), std::process::id().to_string()).map_err(|error| error.to_string())?;
    Ok("started\n".to_owned())
}

pub fn exec(scene: &Scene, arguments: &[String]) -> Answer {
    let known = [
        switch("detach", 'd'),
        switch("interactive", 'i'),
        switch("tty", 't'),
        value("env", 'e'),
        value("env-file", ' '),
        value("user", 'u'),
        value("uid", ' '),
        value("gid", ' '),
        value("workdir", 'w'),
    ];
    let line = parse("exec", &known, Words::PassedOn, arguments)?;
    let Some((id, command)) = line.words.split_first() else {
        return Err(Refusal::usage("exec", "Missing expected argument '<container-id>'"));
    };
    if command.is_empty() {
        return Err(Refusal::error("no command specified for exec"));
    }
    scene.service(true)?;
    let found = scene.place.with(|state| {
        let container = state.containers.get(id)?;
        Some((container.runs, container.configuration.clone()))
    });
    let configuration = match found {
        None => return Err(Refusal::error(format!("get failed: container {id} not found"))),
        Some((false, _)) => return Err(Refusal::error(format!("container {id} is not running"))),
        Some((true, configuration)) => configuration,
    };
    // A process starts when no machine boots.
    drop(scene.place.lock("apiserver.lock"));
    let played = match scene.control.docker {
        true => engine::exec(&scene.place, id, line.has("interactive"), command)?,
        false => {
            let tree = Tree::of(&scene.place, id, &configuration);
            let mut input = Vec::new();
            if line.has("interactive") {
                let _ = std::io::stdin().read_to_end(&mut input);
            }
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            play(&tree, &words, &input).map(|(code, stdout, stderr)| {
                let _ = std::io::stdout().write_all(&stdout);
                Said { stdout: String::new(), stderr, code }
            })
        }
    };
    played.ok_or_else(|| {
        let program = &command[0];
        let inner = format!(
            r#"startProcess: failed to start process: internalError: "vmexec error: failed to find target executable {program}""#
        );
        let cause = format!(r#"internalError: "failed to start process (cause: "internalError: "{inner}"")"#);
        let uuid = uuid(scene);
        Refusal::error(format!(r#"failed to start process {uuid} in container {id} (cause: "{cause}")"#))
    })
}

type Played = (i32, Vec<u8>, String);

/// Plays a program. `None` where there is none of that name.
fn play(tree: &Tree<'_>, words: &[&str], input: &[u8]) -> Option<Played> {
    let done = |stdout: Vec<u8>| Some((0, stdout, String::new()));
    match words {
        ["true"] => done(Vec::new()),
        ["false"] => Some((1, Vec::new(), String::new())),
        ["echo", rest @ ..] => done(format!("{}\n", rest.join(" ")).into_bytes()),
        ["sleep", seconds] => {
            wait(Duration::from_secs(seconds.parse().unwrap_or_default()));
            done(Vec::new())
        }
        ["cat"] => done(input.to_vec()),
        ["cat", path] => Some(match fs::read(tree.path(path)) {
            Ok(content) => (0, content, String::new()),
            Err(_) => (1, Vec::new(), format!("cat: can't open '{path}': No such file or directory\n")),
        }),
        ["tar", "-x", "-p", "-f", "-", "-C", "/"] => Some(match tree.unpack(input) {
            Ok(()) => (0, Vec::new(), String::new()),
            Err(error) => (2, Vec::new(), format!("tar: {error}\n")),
        }),
        ["ctr", "--namespace=k8s.io", "images", "import", ..] => {
            let _ = fs::create_dir_all(tree.path("/var/lib/containerd"));
            let _ = fs::write(tree.path("/var/lib/containerd/imported"), input);
            done(Vec::new())
        }
        ["sh", "-c", script, rest @ ..] => Some(shell(tree, script, rest)),
        _ => None,
    }
}

/// The few scripts that are known.
fn shell(tree: &Tree<'_>, script: &str, rest: &[&str]) -> Played {
    let nothing = (0, Vec::new(), String::new());
    if script == inside::READ {
        let [_, path, limit] = rest else { return (2, Vec::new(), "sh: bad parameters\n".to_owned()) };
        let path = tree.path(path);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return (NO_FILE, Vec::new(), String::new());
        }
        let mut content = fs::read(path).unwrap_or_default();
        content.truncate(limit.parse().unwrap_or_default());
        return (0, content, String::new());
    }
    match script.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["exit", code] => (code.parse().unwrap_or(2), Vec::new(), String::new()),
        ["echo", "Error:", words @ .., ">&2;", "exit", "1"] => (1, Vec::new(), format!("Error: {}\n", words.join(" "))),
        ["true"] => nothing,
        _ => (127, Vec::new(), format!("sh: this stand-in does not know the script {script:?}\n")),
    }
}

pub fn copy(scene: &Scene, arguments: &[String]) -> Answer {
    let line = parse("copy", &[], Words::Mixed, arguments)?;
    let [source, target] = line.words.as_slice() else {
        return Err(Refusal::usage("copy", "Missing expected argument '<destination>'"));
    };
    scene.service(true)?;
    let (id, inner, host, is_into) = match (source.split_once(':'), target.split_once(':')) {
        (None, Some((id, inner))) => (id, inner, source, true),
        (Some((id, inner)), None) => (id, inner, target, false),
        _ => {
            let message = "one of source or destination must be a container reference (container_id:path)";
            return Err(Refusal::error(message));
        }
    };
    let direction = if is_into { "into" } else { "from" };
    let refused =
        |cause: String| Refusal::error(format!(r#"failed to copy {direction} container {id} (cause: "{cause}")"#));
    let found = scene.place.with(|state| {
        let container = state.containers.get(id)?;
        Some((container.runs, container.configuration.clone()))
    });
    let (runs, configuration) =
        found.ok_or_else(|| refused(format!(r#"notFound: "container with ID {id} not found""#)))?;
    if !runs {
        return Err(refused(format!(r#"invalidState: "container {id} is not running""#)));
    }
    let tree = Tree::of(&scene.place, id, &configuration);
    let (mut inner_path, mut host_path) = (tree.path(inner), PathBuf::from(host));
    let name = |path: &str| Path::new(path).file_name().map(PathBuf::from).unwrap_or_default();
    if is_into && inner_path.is_dir() {
        inner_path.push(name(host));
    } else if is_into && inner.ends_with('/') {
        return Err(refused(format!(r#"notFound: "destination directory does not exist: {inner}""#)));
    } else if !is_into && host_path.is_dir() {
        host_path.push(name(inner));
    }
    let (from, to) = if is_into { (&host_path, &inner_path) } else { (&inner_path, &host_path) };
    if let Some(parent) = to.parent() {
        let _ = fs::create_dir_all(parent);
    }
    fs::copy(from, to).map_err(|error| refused(format!(r#"internalError: "{error}""#)))?;
    if is_into {
        use std::os::unix::fs::PermissionsExt;
        // Single files lose the bit that makes them programs.
        let _ = fs::set_permissions(to, fs::Permissions::from_mode(0o644));
    }
    match scene.version >= (1, 1, 0) {
        true if is_into => Ok(Said::line(format!("{id}:{inner}"))),
        true => Ok(Said::line(host_path.display().to_string())),
        false => Ok(Said::default()),
    }
}
