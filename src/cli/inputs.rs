//! `-f`: manifests from files, directories and stdin.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::fetch::{self, Url};
use super::printer::Printer;
use crate::host_mounts::{Declared, MountPolicy};
use crate::sources::is_manifest;
use crate::sources::manifest::{Colour, Document, FILE_BYTES_MAX, Manifest, Reading};
use crate::world::{FileKind, FileSystem};

/// Most files taken from the directories of one command, as for a watched directory's worst day.
const FILES_MAX: usize = 10_000;
/// Deepest directory below one that is named.
const DEPTH_MAX: usize = 32;

/// What manifests to read.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// File or directory with manifests, `https://...`, or `-` for stdin; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub filenames: Vec<PathBuf>,
    /// Also read the directories below those given
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// What manifests from the web may mount, where what they say is to happen.
    #[arg(skip)]
    pub mounts: Option<MountPolicy>,
}

/// Paths of the host that may be mounted although they are sensitive, or declared elsewhere.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AllowedMounts {
    /// Let clusters mount this path of the host: `/`, Kina's home and sockets of container runtimes by their own names, and
    /// for manifests from git or the web everything below it; may be given several times [default: $KINA_ALLOW_HOST_MOUNTS]
    #[arg(long = "allow-host-mount", value_name = "PATH")]
    allowed: Vec<PathBuf>,
}

impl AllowedMounts {
    /// Takes them over for the Kina that this command may run, and for what it reads itself.
    ///
    /// # Errors
    /// Where a relative path has no directory that it could be meant from.
    pub fn allow(&self, context: &mut Context) -> Result<(), CliError> {
        let absolute = |path: &PathBuf| {
            let failed = || CliError::new(Exit::Usage, format!("cannot allow `{}` to be mounted", path.display()));
            std::path::absolute(path).map_err(|source| failed().because(source))
        };
        let allowed = self.allowed.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        context.home = context.home.clone().allowing_mounts(allowed);
        Ok(())
    }
}

/// Where a manifest comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Stdin.
    Stdin,
    /// A web server. What it declares is not this host's word.
    Url(String),
    /// The flags of a command.
    Flags,
}

impl Origin {
    /// A place in it, as messages name it.
    #[must_use]
    pub fn place(&self, line: u32, column: u32) -> String {
        match self {
            Self::Flags => self.to_string(),
            Self::File(_) | Self::Stdin | Self::Url(_) => format!("{self}:{line}:{column}"),
        }
    }
}

impl Origin {
    /// Where relative paths of a manifest are meant from; `None` for what is no file.
    fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => std::path::absolute(path).ok()?.parent().map(Path::to_owned),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("stdin"),
            Self::Url(url) => f.write_str(url),
            Self::Flags => f.write_str("the flags of this command"),
        }
    }
}

/// Manifests, read and found to be good.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The Clusters, each with where it is declared.
    pub documents: Vec<(Origin, Document)>,
    /// What is not Kina's, as a sentence each.
    pub foreign: Vec<String>,
    /// What has no effect, each with the lines around it.
    pub warnings: Vec<String>,
    /// How many Clusters each file declares, in the order read.
    pub files: Vec<(String, usize)>,
}

impl Inputs {
    /// Says what is left alone, and what has no effect.
    pub fn tell(&self, printer: &mut Printer) {
        for warning in &self.warnings {
            printer.talk(warning);
        }
        for line in &self.foreign {
            printer.talk(&format!("note: {line}"));
        }
    }
}

impl Options {
    /// Reads everything, and fails with every fault of every file if there is one.
    ///
    /// # Errors
    /// [`Exit::Invalid`] with the faults, [`Exit::NotFound`] for a path or page that is not there.
    pub async fn read(&self, context: &Context) -> Result<Inputs, CliError> {
        let style = context.printer.err_style();
        let mut inputs = Inputs::default();
        let mut faults = Vec::new();
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        for (origin, bytes) in self.contents(context).await? {
            let label = origin.to_string();
            let mounts = self.mounts.as_ref().filter(|_| matches!(origin, Origin::Url(_)));
            let judge = |path: &Path| mounts?.refuse(&*context.world.files, path, Declared::Web);
            let directory = origin.directory();
            let reading = Reading { directory: directory.as_deref(), judge: Some(&judge), judge_file: Some(&judge) };
            let manifest = Manifest::read(&label, reading, &bytes);
            let colour = if style.colour { Colour::On } else { Colour::Off };
            if !manifest.faults.is_empty() {
                faults.push(manifest.render(colour));
                continue;
            }
            inputs
                .foreign
                .extend(manifest.foreign.iter().map(|what| format!("{label}: {what} is left alone: it is not Kina's")));
            inputs.warnings.extend(manifest.warnings.iter().map(|warning| warning.render(colour)));
            inputs.files.push((label.clone(), manifest.documents.len()));
            for document in manifest.documents {
                let place = format!("{label}:{}", document.line);
                if let Some(other) = first.get(&document.name) {
                    faults.push(format!("error: cluster `{}` is declared in {other} and in {place}", document.name));
                } else {
                    first.insert(document.name.clone(), place);
                    inputs.documents.push((origin.clone(), document));
                }
            }
        }
        match faults.len() {
            0 => Ok(inputs),
            number => {
                let what = if number == 1 { "a manifest is" } else { "manifests are" };
                Err(CliError::new(Exit::Invalid, format!("{what} not valid: nothing was changed")).preceded_by(faults))
            }
        }
    }

    async fn contents(&self, context: &Context) -> Result<Vec<(Origin, Vec<u8>)>, CliError> {
        let files = &*context.world.files;
        let mut contents = Vec::new();
        for path in &self.filenames {
            if let Some(text) = path.to_str().filter(|text| Url::is_meant(text)) {
                contents.push((Origin::Url(text.to_owned()), fetched(text, context).await?));
                continue;
            }
            if path == Path::new("-") {
                contents.push((Origin::Stdin, stdin()?));
                continue;
            }
            let metadata = files.metadata(path).map_err(|error| unreadable(path, error))?;
            if metadata.kind == FileKind::Directory {
                let mut found = Vec::new();
                self.list(files, path, 0, &mut found)?;
                if found.is_empty() {
                    let error = CliError::new(Exit::NotFound, format!("there is no manifest in `{}`", path.display()));
                    return Err(error
                        .hint("manifests end in `.yaml`, `.yml` or `.json`; `-R` also reads the directories below"));
                }
                for file in found {
                    let bytes = read(files, &file)?;
                    contents.push((Origin::File(file), bytes));
                }
            } else {
                contents.push((Origin::File(path.clone()), read(files, path)?));
            }
        }
        Ok(contents)
    }

    fn list(
        &self,
        files: &dyn FileSystem,
        directory: &Path,
        depth: usize,
        found: &mut Vec<PathBuf>,
    ) -> Result<(), CliError> {
        for name in files.list(directory).map_err(|error| unreadable(directory, error))? {
            let path = directory.join(&name);
            if name.starts_with('.') {
                continue;
            }
            let metadata = files.metadata(&path).map_err(|error| unreadable(&path, error))?;
            match metadata.kind {
                FileKind::Directory if self.recursive && depth < DEPTH_MAX => {
                    self.list(files, &path, depth + 1, found)?
                }
                FileKind::File if is_manifest(&name) => found.push(path),
                _ => {}
            }
            if found.len() > FILES_MAX {
                let message = format!("there are more than {FILES_MAX} manifests in `{}`", directory.display());
                return Err(CliError::new(Exit::Failure, message));
            }
        }
        Ok(())
    }
}

fn read(files: &dyn FileSystem, path: &Path) -> Result<Vec<u8>, CliError> {
    files.read(path, FILE_BYTES_MAX).map_err(|error| unreadable(path, error))
}

fn stdin() -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser sees that it is too large, and says so.
    io::stdin()
        .lock()
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::new(Exit::Failure, "cannot read stdin").because(error))?;
    Ok(bytes)
}

/// Reads from a web server, until Ctrl-C.
async fn fetched(url: &str, context: &Context) -> Result<Vec<u8>, CliError> {
    let url = Url::parse(url)?;
    tokio::select! {
        biased;
        () = context.interrupt.first() => Err(CliError::silent(Exit::Interrupted)),
        fetched = fetch::fetch(&url) => fetched,
    }
}

fn unreadable(path: &Path, error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        let most = FILE_BYTES_MAX >> 20;
        let message = format!("`{}` is larger than {most} MiB, the most that a manifest may have", path.display());
        return CliError::new(Exit::Invalid, message).hint("several files may be given, and directories");
    }
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failure };
    let hint = match error.kind() {
        // What a shell makes of `<(…)` is a pipe.
        io::ErrorKind::InvalidInput => "what is no file can be piped in: `-f -`",
        _ => "",
    };
    CliError::new(exit, format!("cannot read `{}`", path.display())).because(error).hint(hint)
}
