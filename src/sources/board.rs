//! What each root declares, for the others to see: a Cluster has one source, and one that moves from root to root is not
//! deleted on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::plan::{Live, Place};
use crate::api::annotations;

/// Declarations of all roots of one process.
#[derive(Debug, Default)]
pub(super) struct Board {
    roots: Mutex<BTreeMap<String, Entry>>,
    /// Somebody misses a Cluster since then, and wants everybody to look.
    asked: Mutex<Duration>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// `None` while the files have not been seen whole: the API then tells what they declared before.
    declared: Option<BTreeMap<String, Place>>,
    looked: Option<Duration>,
}

/// What one root sees of the others.
#[derive(Debug, Default)]
pub(super) struct View {
    pub elsewhere: BTreeMap<String, Place>,
    pub others: BTreeSet<String>,
    pub looked: Option<Duration>,
}

impl Board {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let roots = names.map(|name| (name.to_owned(), Entry::default())).collect();
        Self { roots: Mutex::new(roots), asked: Mutex::default() }
    }

    /// Wants every root to look once more after this time. Whether that is news.
    pub(super) fn ask(&self, since: Duration) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *asked < since;
        *asked = since.max(*asked);
        is_news
    }

    /// Whether somebody wants a look after this one.
    pub(super) fn is_asked(&self, looked: Duration) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) > looked
    }

    /// Puts up what a root declares, as of a look that began then. Whether anything is new for the others.
    pub(super) fn post(&self, name: &str, declared: Option<BTreeMap<String, Place>>, looked: Duration) -> bool {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = roots.get_mut(name) else { return false };
        let is_news = declared.is_some() && entry.declared != declared || entry.looked.is_none();
        if declared.is_some() {
            entry.declared = declared;
        }
        entry.looked = Some(looked);
        is_news
    }

    /// What the others declare.
    pub(super) fn view(&self, name: &str, clusters: &BTreeMap<String, Arc<Live>>) -> View {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = View::default();
        let others = || roots.iter().filter(|(other, _)| *other != name);
        view.others = others().map(|(other, _)| other.clone()).collect();
        view.looked = others().map(|(_, entry)| entry.looked).min().flatten();
        for (other, entry) in others() {
            match &entry.declared {
                Some(declared) => view.elsewhere.extend(declared.clone()),
                None => view.elsewhere.extend(declared_before(other, clusters)),
            }
        }
        view
    }
}

fn declared_before(source: &str, clusters: &BTreeMap<String, Arc<Live>>) -> BTreeMap<String, Place> {
    let of_source = clusters.iter().filter(|(_, live)| live.source() == Some(source));
    let place = |live: &Live| Place {
        path: format!("{source}:{}", live.annotations.get(annotations::SOURCE_PATH).map_or("?", String::as_str)),
        line: live.annotations.get(annotations::SOURCE_LINE).and_then(|line| line.parse().ok()).unwrap_or_default(),
    };
    of_source.map(|(name, live)| (name.clone(), place(live))).collect()
}

/// A place as people of another root read it.
pub(super) fn outside(root: &Path, path: &str, line: u32) -> Place {
    Place { path: root.join(path).display().to_string(), line }
}
