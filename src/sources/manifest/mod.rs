//! Manifests: from the bytes of a file to validated Clusters, each with its place.
//!
//! ```text
//! bytes ──► text ──► documents (spanned trees) ──► objects ──► Manifest
//!          encoding   tree.rs                      object.rs    documents, faults
//!                                                  schema.rs
//! ```
//!
//! Every fault of every document is found at once, with line, column, the text around it and what was expected. The same
//! parser serves `kina apply -f`, `kina validate` and the watched directories.

mod faults;
mod host_paths;
mod kind;
mod object;
pub mod place;
mod scalar;
mod schema;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::ClusterSpec;
use crate::api::source::SourceError;
use crate::host_mounts::Refused;
use faults::Lines;
pub use faults::{Colour, Fault};
use place::Place;

/// Largest manifest file, in bytes. A Cluster takes about 1 KiB, so a thousand of them fit; and a snapshot of a changed
/// source never holds more than this for a file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most faults reported of one file: more do not help anybody, and a Source's status must stay small (50 × ~1 KiB).
pub const FAULTS_MAX: usize = 50;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The Clusters it declares, in order of their lines. Complete only where there are no faults.
    pub documents: Vec<Document>,
    /// What is wrong, in order of place. With any fault, nothing of the file may be applied.
    pub faults: Vec<Fault>,
    /// What of the documents has no effect, in order of place.
    pub warnings: Vec<Fault>,
    /// Objects that are not Kina's, as `KIND (APIVERSION)`, at most ten: they are left alone.
    pub foreign: Vec<String>,
    /// Whether the text names Kina's API group, or that of kind's configuration. A file that does not, and cannot be read as YAML, is somebody else's.
    pub mentions_kina: bool,
    /// Whether the text ends amid a line, as one does that was cut off while it was written.
    pub ends_amid_line: bool,
}

/// Says why a path of the host may not be mounted.
type Judge<'a> = &'a dyn Fn(&Path) -> Option<Refused>;

/// How a manifest is read.
#[derive(Clone, Copy, Default)]
pub struct Reading<'a> {
    /// Where relative paths are meant from; `None` for what has no directory.
    pub directory: Option<&'a Path>,
    /// What this host may not mount, given as an absolute path. Without it, nothing is judged.
    pub judge: Option<Judge<'a>>,
    /// The same of files that are only read.
    pub judge_file: Option<Judge<'a>>,
}

/// Whether a text ends at the end of a line, or as JSON ends.
#[must_use]
pub fn ends_whole(bytes: &[u8]) -> bool {
    matches!(bytes.last(), None | Some(b'\n' | b'}' | b']'))
}

/// One declared Cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Name of the Cluster.
    pub name: String,
    /// Line of the document's first key, from 1.
    pub line: u32,
    /// SHA-256 of the document's text, in hexadecimal digits.
    pub hash: String,
    /// Labels, as written.
    pub labels: BTreeMap<String, String>,
    /// Annotations, as written.
    pub annotations: BTreeMap<String, String>,
    /// Exactly the fields that the document sets, for server-side apply.
    pub spec: Value,
    /// The same with defaults.
    pub typed: ClusterSpec,
    /// Where each field of `metadata` and `spec` is written, in order of place.
    pub places: Vec<Place>,
}

impl Manifest {
    /// Reads a text that has no directory. `path` is only shown in faults.
    #[must_use]
    pub fn parse(path: &str, bytes: &[u8]) -> Self {
        Self::read(path, Reading::default(), bytes)
    }

    /// Reads a file, which lies in this directory.
    #[must_use]
    pub fn parse_in(directory: &Path, path: &str, bytes: &[u8]) -> Self {
        Self::read(path, Reading { directory: Some(directory), ..Reading::default() }, bytes)
    }

    /// Reads a text as it is said. `path` is only shown in faults.
    #[must_use]
    pub fn read(path: &str, reading: Reading<'_>, bytes: &[u8]) -> Self {
        let mentions = |group: &str| bytes.windows(group.len()).any(|window| window == group.as_bytes());
        let mentions_kina = mentions(crate::api::GROUP) || mentions(kind::GROUP);
        let text = match text_of(bytes) {
            Ok(text) => text,
            Err(fault) => return Self { faults: vec![fault.placed(path, "")], mentions_kina, ..Self::default() },
        };
        let mut manifest = Self { mentions_kina, ends_amid_line: !ends_whole(bytes), ..Self::default() };
        let mut found = Vec::new();
        let lines = Lines::new(path, text);
        for parsed in tree::documents(text) {
            manifest.take(text, &lines, reading, parsed, &mut found);
        }
        found.extend(second_declarations(text, &manifest.documents));
        found.sort_by_key(faults::Found::start);
        manifest.warnings.sort_by_key(|warning| (warning.line, warning.column));
        let more = found.len().saturating_sub(FAULTS_MAX);
        manifest.faults = found.into_iter().take(FAULTS_MAX).map(|fault| lines.place(fault)).collect();
        if more > 0
            && let Some(last) = manifest.faults.last_mut()
        {
            last.message.push_str(&format!(" (and {more} more faults in this file)"));
        }
        manifest
    }

    /// Whether it says nothing to Kina: other tools' YAML, templates that are no YAML, empty files.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.documents.is_empty()
            && (self.faults.is_empty() || !self.mentions_kina && self.faults.iter().all(|f| f.syntax))
    }

    /// The faults as the API holds them.
    #[must_use]
    pub fn errors(&self) -> Vec<SourceError> {
        self.faults.iter().map(Fault::to_source_error).collect()
    }

    /// The faults as people read them, one after the other with an empty line between.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        self.faults.iter().map(|fault| fault.render(colour)).collect::<Vec<_>>().join("\n\n")
    }

    fn take(
        &mut self,
        text: &str,
        lines: &Lines<'_>,
        reading: Reading<'_>,
        parsed: tree::Parsed,
        found: &mut Vec<faults::Found>,
    ) {
        let source = text.get(parsed.text.start as usize..parsed.text.end as usize).unwrap_or_default();
        let Some(root) = parsed.root else {
            // What cannot be read as YAML may be a template of another tool: whose it is, is decided for the file.
            found.extend(parsed.faults);
            return;
        };
        match object::read(&root, reading) {
            object::Object::Empty => {}
            object::Object::Foreign(name) => {
                if self.foreign.len() < 10 {
                    self.foreign.push(name);
                }
            }
            object::Object::Faulty(faults) => {
                found.extend(parsed.faults);
                found.extend(faults);
            }
            object::Object::Cluster(read, faults) => {
                if faults.is_empty() && parsed.faults.is_empty() {
                    let object::Read { mut document, origin, warnings } = *read;
                    document.line = lines.position(root.span.start).0;
                    document.places = match origin {
                        None => place::of(&root, lines),
                        Some(origin) => place::of_converted(&root, &document.spec, &origin, lines),
                    };
                    document.hash = hash(source.trim().as_bytes());
                    self.documents.push(document);
                    self.warnings.extend(warnings.into_iter().map(|warning| lines.place(warning).into_warning()));
                }
                found.extend(parsed.faults);
                found.extend(faults);
            }
        }
    }
}

/// SHA-256 in hexadecimal digits.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a file, without its byte order mark.
fn text_of(bytes: &[u8]) -> Result<&str, faults::Found> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(faults::Found::of_file(format!(
            "the file is larger than {} KiB, the most that Kina reads",
            FILE_BYTES_MAX >> 10
        )));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(faults::Found::of_file("the file is encoded as UTF-16: save it as UTF-8".to_owned()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (end, problem) = match std::str::from_utf8(bytes) {
        Ok(text) => match text.find('\0') {
            None => return Ok(text),
            Some(at) => (at, "a NUL byte, which no manifest may hold"),
        },
        Err(error) => (error.valid_up_to(), "a byte that is not UTF-8"),
    };
    let before = bytes.get(..end).unwrap_or_default();
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').filter(|byte| *byte & 0xc0 != 0x80).count() + 1;
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    Err(faults::Found::of_file(format!("{problem}, at line {line}, column {column}")))
}

/// Faults for Clusters that the file declares twice.
fn second_declarations(text: &str, documents: &[Document]) -> Vec<faults::Found> {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    let mut found = Vec::new();
    for document in documents {
        match first.get(document.name.as_str()) {
            None => drop(first.insert(&document.name, document.line)),
            Some(line) => {
                let message = format!("cluster `{}` is declared a second time, first on line {line}", document.name);
                found.push(
                    faults::Found::at(tree::Span::line(text, document.line), message)
                        .labelled("second declaration")
                        .helped("remove one of the two documents"),
                );
            }
        }
    }
    found
}
