//! Who declares what, and which files may not be applied.

use std::collections::{BTreeMap, BTreeSet};

use super::{Input, Place};
use crate::api::annotations;
use crate::api::source::SourceError;
use crate::sources::manifest::{Document, Manifest};

/// A document of a file that may be applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declared<'a> {
    pub path: &'a str,
    pub document: &'a Document,
}

pub(super) struct Declarations<'a> {
    /// What may be applied, by name of the Cluster.
    pub good: BTreeMap<&'a str, Declared<'a>>,
    /// Everything that any file names, whether it may be applied or not.
    pub named: BTreeSet<&'a str>,
    /// What is wrong, by file.
    pub errors: BTreeMap<&'a str, Vec<SourceError>>,
}

impl<'a> Declarations<'a> {
    pub(super) fn of(input: &Input<'a>) -> Self {
        let mut places: BTreeMap<&'a str, Vec<Place>> = BTreeMap::new();
        for (path, manifest) in input.files {
            for document in &manifest.documents {
                let place = Place { path: path.clone(), line: document.line };
                places.entry(&document.name).or_default().push(place);
            }
        }
        let mut before: BTreeMap<&'a str, Vec<&'a str>> = BTreeMap::new();
        for (name, live) in input.mine() {
            if let Some(path) = live.annotation(annotations::SOURCE_PATH) {
                before.entry(path).or_default().push(name);
            }
        }
        let mut errors: BTreeMap<&'a str, Vec<SourceError>> = BTreeMap::new();
        for (path, manifest) in input.files {
            let declared_before = before.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
            let found = faults(input, path, manifest, &places, declared_before);
            if !found.is_empty() {
                errors.insert(path, found);
            }
        }
        let mut good = BTreeMap::new();
        for (path, manifest) in input.files.iter().filter(|(path, _)| !errors.contains_key(path.as_str())) {
            for document in &manifest.documents {
                good.insert(document.name.as_str(), Declared { path, document });
            }
        }
        for (path, found) in refused(input, &good) {
            errors.entry(path).or_default().push(found);
        }
        Self { good, named: places.into_keys().collect(), errors }
    }
}

fn faults(
    input: &Input<'_>,
    path: &str,
    manifest: &Manifest,
    places: &BTreeMap<&str, Vec<Place>>,
    declared_before: &[&str],
) -> Vec<SourceError> {
    if manifest.is_foreign() && declared_before.is_empty() {
        return Vec::new();
    }
    let mut found = manifest.errors();
    if found.is_empty() && (manifest.documents.is_empty() || manifest.ends_amid_line) {
        let is_elsewhere = |name: &&str| places.contains_key(name) || input.elsewhere.contains_key(*name);
        let lost: Vec<&str> = declared_before.iter().copied().filter(|name| !is_elsewhere(name)).collect();
        found.extend(if manifest.documents.is_empty() { emptied(&lost) } else { cut_off(&lost) });
    }
    for document in &manifest.documents {
        let others = places.get(document.name.as_str()).into_iter().flatten().filter(|place| place.path != path);
        let outside = input.elsewhere.get(&document.name);
        found.extend(others.chain(outside).next().map(|other| second(document, other)));
    }
    found
}

/// A file that is empty now may be one that is about to be written, or one that a crash of the machine emptied.
fn emptied(lost: &[&str]) -> Option<SourceError> {
    let names = lost.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let error = SourceError {
        message: format!(
            "the file declared {names} and declares nothing now (to delete what it declared, remove the file; to keep it without a file, `kina detach NAME`)"
        ),
        ..SourceError::default()
    };
    (!lost.is_empty()).then_some(error)
}

/// A file that ends amid a line may be one of which the rest is still to be written, or was lost: `name: de` is a good name
/// too.
fn cut_off(lost: &[&str]) -> Option<SourceError> {
    let names = lost.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let message = format!(
        "the file declared {names}, does not any more, and ends amid a line: it looks cut off (if it is as you wish, end it with a newline)"
    );
    (!lost.is_empty()).then_some(SourceError { message, ..SourceError::default() })
}

fn second(document: &Document, other: &Place) -> SourceError {
    SourceError {
        line: document.line,
        column: 1,
        message: format!(
            "cluster `{}` is declared in {}:{} too (remove it from one of the two)",
            document.name, other.path, other.line
        ),
        snippet: String::new(),
    }
}

/// Documents that the API refused. The rest of their file was applied; the next change is a new try.
fn refused<'a>(input: &Input<'a>, good: &BTreeMap<&str, Declared<'a>>) -> Vec<(&'a str, SourceError)> {
    let refusals = input.refusals.iter().filter_map(|(name, refusal)| Some((good.get(name.as_str())?, refusal)));
    let current = refusals.filter(|(declared, refusal)| declared.document.hash == refusal.hash);
    let error = |(declared, refusal): (&Declared<'a>, &super::Refusal)| {
        let error = SourceError {
            line: refusal.place.0,
            column: refusal.place.1,
            message: refusal.message.clone(),
            snippet: String::new(),
        };
        (declared.path, error)
    };
    current.map(error).collect()
}
