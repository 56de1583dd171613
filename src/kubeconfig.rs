//! Contexts in the user's kubeconfig, by client-go's rules (`tools/clientcmd`: `ModifyConfig`, `ClientConfigLoadingRules`).
//!
//! An entry is changed in the file that defines it and created in the first file of the list that exists, else in the
//! last; every file of the list is locked with `FILE.lock`, as client-go does. What Kina did not set stays as it is, in its
//! order. Everything is synchronous: whoever meets a lock of somebody else gets [`KubeconfigError::Busy`] and comes back.

mod document;
mod lock;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::world::{FileSystem, Metadata};
use document::Document;

/// Longest kubeconfig that is read. A cluster takes some 4 KB, so this is room for 16,000 of them.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The files that make up the user's kubeconfig.
#[derive(Clone, Debug)]
pub struct Target {
    files: Vec<PathBuf>,
    owner: Option<String>,
    /// Held during every look and change, so that a lock file with our own mark in it is always a leftover of a crash.
    cache: Arc<Mutex<Cache>>,
}

/// Files as they were read last. Parsing one with a thousand clusters takes longer than everything else a pass of a
/// controller does, so it is done once a change.
#[derive(Debug, Default)]
struct Cache {
    files: BTreeMap<PathBuf, Cached>,
}

#[derive(Debug)]
struct Cached {
    metadata: Metadata,
    content: Vec<u8>,
    document: Arc<Document>,
}

/// One cluster, user and context of the same name.
#[derive(Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// Name of all three, `kina-NAME`.
    pub name: String,
    /// URL of the API server.
    pub server: String,
    /// Certificate of the cluster's CA, PEM.
    pub ca_pem: String,
    /// The user's certificate, PEM.
    pub client_cert_pem: String,
    /// The user's key, PEM.
    pub client_key_pem: String,
}

/// Whether an entry becomes the current context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// What is current stays.
    Keep,
    /// Only when the entry is new and nothing is current: a cluster that comes by itself must not take over the context
    /// in which somebody is about to delete something.
    IfNone,
    /// It does.
    Set,
}

/// One wish for the kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Have this entry, as it is here.
    Merge {
        /// The entry.
        entry: ContextEntry,
        /// Whether it becomes the current context.
        current: Current,
    },
    /// Have no cluster, user and context of this name in any file.
    Remove {
        /// Name of all three, `kina-NAME`.
        name: String,
    },
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The files that were written; none where everything was as wished.
    pub written: Vec<PathBuf>,
}

/// How an entry in the files compares with the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Everything Kina sets is there.
    Same,
    /// No context of that name.
    Missing,
    /// These fields differ, such as `cluster.server`. Values are left out: some are secret.
    Differs(Vec<&'static str>),
}

/// The kubeconfig could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// Somebody else is changing the file, or died while doing so.
    #[error("{path} is locked by another program")]
    Busy {
        /// The file to be changed.
        path: PathBuf,
        /// The lock file. If no program is at work, it is a leftover and can be removed.
        lock: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read the kubeconfig {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Writing failed; the old content stays.
    #[error("cannot write the kubeconfig {path}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Not YAML. The file is left alone.
    #[error("the kubeconfig {path} is not valid YAML, line {line} column {column}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// YAML, but not a kubeconfig. The file is left alone.
    #[error("the kubeconfig {path} is not one: {message}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl KubeconfigError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Busy { lock, .. } => {
                format!("if no other program is changing it, remove the leftover lock `{}`", lock.display())
            }
            Self::Read { path, .. } | Self::Write { path, .. } => {
                format!("check owner and mode of `{}`, or choose another file with `--kubeconfig`", path.display())
            }
            Self::Syntax { path, .. } | Self::Shape { path, .. } => {
                format!("mend `{}` by hand: Kina changes no file that it cannot read", path.display())
            }
        }
    }

    /// Whether trying again later can help without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}

impl Target {
    /// The files that `$KUBECONFIG` lists, or `HOME/.kube/config` where it is not set or empty.
    #[must_use]
    pub fn resolve(env_kubeconfig: Option<&str>, home: &Path) -> Self {
        let mut files: Vec<PathBuf> = Vec::new();
        for path in env_kubeconfig.unwrap_or_default().split(':').filter(|path| !path.is_empty()).map(PathBuf::from) {
            if !files.contains(&path) {
                files.push(path);
            }
        }
        if files.is_empty() {
            files.push(home.join(".kube").join("config"));
        }
        Self::of(files)
    }

    /// Exactly this file (`--kubeconfig`).
    #[must_use]
    pub fn explicit(path: impl Into<PathBuf>) -> Self {
        Self::of(vec![path.into()])
    }

    /// Marks lock files with `owner` (an installation id), so that one left by a crash is recognised and taken over. Only
    /// whoever is the one writer of that name may claim it.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// The files, in order of precedence.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn of(files: Vec<PathBuf>) -> Self {
        Self { files, owner: None, cache: Arc::default() }
    }
}

/// Has `entry` in the kubeconfig, and makes it the current context if asked to.
///
/// # Errors
/// [`KubeconfigError`]; nothing is lost then, and the same call can be made again.
pub fn merge(
    files: &dyn FileSystem,
    target: &Target,
    entry: &ContextEntry,
    set_current: bool,
) -> Result<Change, KubeconfigError> {
    let current = if set_current { Current::Set } else { Current::Keep };
    apply(files, target, &[Edit::Merge { entry: entry.clone(), current }])
}

/// Removes cluster, user and context `name` from every file, and the current context where it is that one.
///
/// # Errors
/// [`KubeconfigError`]; nothing is lost then, and the same call can be made again.
pub fn remove(files: &dyn FileSystem, target: &Target, name: &str) -> Result<Change, KubeconfigError> {
    apply(files, target, &[Edit::Remove { name: name.to_owned() }])
}

/// Carries out edits in order, writing each file at most once, and none that is as wished already.
///
/// # Errors
/// [`KubeconfigError`]; nothing is lost then, and the same call can be made again.
pub fn apply(files: &dyn FileSystem, target: &Target, edits: &[Edit]) -> Result<Change, KubeconfigError> {
    let cache = &mut *target.cache.lock().unwrap_or_else(PoisonError::into_inner);
    // A look without lock first: mostly there is nothing to do. A file that another program is just rewriting may look
    // broken now, so errors count only under the lock.
    if let Ok(mut seen) = cache.load(files, target, Trust::Metadata)
        && edit_all(&mut seen, edits).is_ok()
        && seen.iter().all(|file| !file.differs())
        && !lock::is_left_behind(files, target)
    {
        return Ok(Change::default());
    }
    let held = lock::acquire(files, target)?;
    let result = cache.load(files, target, Trust::Content).and_then(|mut seen| {
        edit_all(&mut seen, edits)?;
        cache.store(files, &seen)
    });
    let released = lock::release(files, &held);
    let change = result?;
    released?;
    Ok(change)
}

/// Compares the files with the entry that is wanted.
///
/// # Errors
/// [`KubeconfigError`] when a file cannot be read.
pub fn inspect(files: &dyn FileSystem, target: &Target, wanted: &ContextEntry) -> Result<Comparison, KubeconfigError> {
    let seen = target.cache.lock().unwrap_or_else(PoisonError::into_inner).load(files, target, Trust::Metadata)?;
    let find = |stanza: &Stanza| {
        let mut documents = seen.iter().filter_map(|file| file.now.as_ref());
        documents.find_map(|document| document.entry(stanza.list, stanza.body, &wanted.name))
    };
    let stanzas = stanzas(wanted);
    if stanzas.iter().all(|stanza| stanza.list != "contexts" || find(stanza).is_none()) {
        return Ok(Comparison::Missing);
    }
    let differing: Vec<&'static str> = stanzas
        .iter()
        .flat_map(|stanza| {
            let found = find(stanza);
            let differs = move |(key, value, _): &&(&'static str, String, &'static str)| {
                found.and_then(|body| body.get(key)).and_then(document::Node::text) != Some(value.as_str())
            };
            stanza.fields.iter().filter(differs).map(|(_, _, label)| *label).collect::<Vec<_>>()
        })
        .collect();
    Ok(if differing.is_empty() { Comparison::Same } else { Comparison::Differs(differing) })
}

/// The context that is current, by the first file that names one.
///
/// # Errors
/// [`KubeconfigError`] when a file cannot be read.
pub fn current_context(files: &dyn FileSystem, target: &Target) -> Result<Option<String>, KubeconfigError> {
    let seen = target.cache.lock().unwrap_or_else(PoisonError::into_inner).load(files, target, Trust::Metadata)?;
    Ok(current(&seen).map(str::to_owned))
}

/// One file: as it was read, and as it is to be.
struct Seen {
    path: PathBuf,
    before: Option<Arc<Document>>,
    now: Option<Arc<Document>>,
}

impl Seen {
    fn differs(&self) -> bool {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now) && before != now,
            (before, now) => before.is_some() != now.is_some(),
        }
    }

    /// The document, for a change of it.
    fn edit(&mut self) -> &mut Document {
        Arc::make_mut(self.now.get_or_insert_with(|| Arc::new(Document::new())))
    }
}

/// What shows that a file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Inode, length and time of change: enough to look.
    Metadata,
    /// The content itself: for a change of the file.
    Content,
}

/// One of the three parts of an entry: which list, which body, which fields, and which fields contradict them.
struct Stanza {
    list: &'static str,
    body: &'static str,
    /// Key, value, and what a difference is called.
    fields: Vec<(&'static str, String, &'static str)>,
    contradicting: &'static [&'static str],
}

fn stanzas(entry: &ContextEntry) -> [Stanza; 3] {
    let encoded = |pem: &str| STANDARD.encode(pem);
    [
        Stanza {
            list: "clusters",
            body: "cluster",
            fields: vec![
                ("certificate-authority-data", encoded(&entry.ca_pem), "cluster.certificate-authority-data"),
                ("server", entry.server.clone(), "cluster.server"),
            ],
            // client-go refuses a CA beside `insecure-skip-tls-verify`.
            contradicting: &["certificate-authority", "insecure-skip-tls-verify"],
        },
        Stanza {
            list: "contexts",
            body: "context",
            fields: vec![
                ("cluster", entry.name.clone(), "context.cluster"),
                ("user", entry.name.clone(), "context.user"),
            ],
            contradicting: &[],
        },
        Stanza {
            list: "users",
            body: "user",
            fields: vec![
                ("client-certificate-data", encoded(&entry.client_cert_pem), "user.client-certificate-data"),
                ("client-key-data", encoded(&entry.client_key_pem), "user.client-key-data"),
            ],
            contradicting: &["client-certificate", "client-key"],
        },
    ]
}

impl Cache {
    fn load(&mut self, files: &dyn FileSystem, target: &Target, trust: Trust) -> Result<Vec<Seen>, KubeconfigError> {
        let look = |path: &PathBuf| {
            let document = self.file(files, path, trust)?;
            Ok(Seen { path: path.clone(), before: document.clone(), now: document })
        };
        target.files.iter().map(look).collect()
    }

    fn file(
        &mut self,
        files: &dyn FileSystem,
        path: &Path,
        trust: Trust,
    ) -> Result<Option<Arc<Document>>, KubeconfigError> {
        let failed = |source| KubeconfigError::Read { path: path.to_path_buf(), source };
        // Before the content: if the file changes in between, it is only read once more the next time.
        let metadata = match files.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(failed)?,
        };
        let known = self.files.get(path);
        if let Some(known) = known.filter(|known| trust == Trust::Metadata && known.metadata == metadata) {
            return Ok(Some(Arc::clone(&known.document)));
        }
        let content = match files.read(path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content.map_err(failed)?,
        };
        let document = match known.filter(|known| known.content == content) {
            Some(known) => Arc::clone(&known.document),
            None => Arc::new(Document::parse(path, &content)?),
        };
        self.files.insert(path.to_path_buf(), Cached { metadata, content, document: Arc::clone(&document) });
        Ok(Some(document))
    }

    fn store(&mut self, files: &dyn FileSystem, seen: &[Seen]) -> Result<Change, KubeconfigError> {
        let mut change = Change::default();
        for file in seen.iter().filter(|file| file.differs()) {
            let (path, Some(document)) = (&file.path, &file.now) else { continue };
            let content =
                document.render().map_err(|message| KubeconfigError::Shape { path: path.clone(), message })?;
            files
                .write(path, content.as_bytes(), 0o600)
                .map_err(|source| KubeconfigError::Write { path: path.clone(), source })?;
            change.written.push(path.clone());
            self.remember(files, path, content.into_bytes(), document);
        }
        Ok(change)
    }

    /// Knows what was just written without parsing it, if that is what is there: some editors heed no lock.
    fn remember(&mut self, files: &dyn FileSystem, path: &Path, content: Vec<u8>, document: &Arc<Document>) {
        if let Ok(metadata) = files.metadata(path)
            && files.read(path, FILE_BYTES_MAX).is_ok_and(|found| found == content)
        {
            self.files.insert(path.to_path_buf(), Cached { metadata, content, document: Arc::clone(document) });
        }
    }
}

fn edit_all(seen: &mut [Seen], edits: &[Edit]) -> Result<(), KubeconfigError> {
    for edit in edits {
        match edit {
            Edit::Merge { entry, current } => merge_into(seen, entry, *current)?,
            Edit::Remove { name } => {
                for file in seen.iter_mut().filter(|file| file.now.as_ref().is_some_and(|now| now.names(name))) {
                    file.edit().remove(name);
                }
            }
        }
    }
    Ok(())
}

fn merge_into(seen: &mut [Seen], entry: &ContextEntry, wanted: Current) -> Result<(), KubeconfigError> {
    let is_new = !seen.iter().any(|file| file.now.as_ref().is_some_and(|now| now.names(&entry.name)));
    // `GetDefaultFilename`: the first that exists, else the last.
    let fallback = seen.iter().position(|file| file.now.is_some()).unwrap_or(seen.len().saturating_sub(1));
    for stanza in stanzas(entry) {
        let holds = |file: &Seen| {
            file.now.as_ref().is_some_and(|document| document.entry(stanza.list, stanza.body, &entry.name).is_some())
        };
        let index = seen.iter().position(holds).unwrap_or(fallback);
        if let Some(file) = seen.get_mut(index)
            && !file.now.as_ref().is_some_and(|now| now.has_entry(&stanza, &entry.name))
        {
            let path = file.path.clone();
            file.edit().set_entry(&stanza, &entry.name).map_err(|message| KubeconfigError::Shape { path, message })?;
        }
    }
    let become_current = match wanted {
        Current::Keep => false,
        Current::IfNone => is_new && current(seen).is_none_or(str::is_empty),
        Current::Set => true,
    };
    if become_current
        && current(seen) != Some(&entry.name)
        && let Some(file) = seen.get_mut(fallback)
    {
        file.edit().set_current_context(&entry.name);
    }
    Ok(())
}

fn current(seen: &[Seen]) -> Option<&str> {
    seen.iter().find_map(|file| file.now.as_ref()?.current_context())
}

impl fmt::Debug for ContextEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key: entries end up in traces.
        f.debug_struct("ContextEntry").field("name", &self.name).field("server", &self.server).finish_non_exhaustive()
    }
}
