//! What a source should do next, decided without touching anything.
//!
//! ```text
//! files ──► declarations ──► detachments ──► applications ──► removals ──► status
//!           who declares     let go of       create, change,  missing,     conditions,
//!           what; errors                     adopt, expire    budget, hold files, events
//! ```
//!
//! Everything that must outlive a crash stands in the Source's status, which is written *before* the actions are
//! carried out: a document that will be ignored, a deletion that is granted. What is carried out then is idempotent, so
//! that the next pass goes on wherever the last one ended.

mod applications;
mod budget;
mod declarations;
mod differences;
mod removals;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::manifest::{Document, Manifest};
use super::scan::{Problem, Root};
use super::settle::Settled;
use crate::api::source::SourceStatus;
use crate::api::{Cluster, ClusterSpec, annotations};
use declarations::Declarations;
pub use differences::Compared;

/// How long a Cluster must have been declared nowhere before that counts as a wish to delete it. A file that is moved to
/// another root, a checkout or a copy by hand has put it back by then.
pub const ABSENCE: Duration = Duration::from_secs(2);

/// A Cluster as the API has it: what a source needs of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// UID.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Its deletion has begun.
    pub is_deleting: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: ClusterSpec,
}

/// Where a Cluster is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, for people: relative to its root, or with the root where it is another one.
    pub path: String,
    /// Line of the document, from 1.
    pub line: u32,
}

/// The API's refusal of a document, remembered until the document changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Hash of the document.
    pub hash: String,
    /// Why, for people.
    pub message: String,
    /// Line and column of what it is about.
    pub place: (u32, u32),
    /// It may be tried once more: what it was refused for may be gone.
    pub is_due: bool,
}

/// Everything a plan follows from. Durations are since any fixed beginning, the same for all.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Name of the Source.
    pub source: &'a str,
    /// Its status as it is stored.
    pub status: &'a SourceStatus,
    /// Generation of the Source.
    pub generation: Option<i64>,
    /// The id that its approval annotation names.
    pub approve: Option<&'a str>,
    /// The directory itself.
    pub root: &'a Root,
    /// What could not be seen below it.
    pub problems: &'a [Problem],
    /// What is in motion.
    pub settled: &'a Settled,
    /// Files in their settled state.
    pub files: &'a BTreeMap<String, Arc<Manifest>>,
    /// Hashes of the same.
    pub hashes: &'a BTreeMap<String, String>,
    /// Commit that is checked out.
    pub commit: Option<&'a str>,
    /// Clusters in the API.
    pub clusters: &'a BTreeMap<String, Arc<Live>>,
    /// Clusters that other sources declare.
    pub elsewhere: &'a BTreeMap<String, Place>,
    /// Names of the other sources.
    pub others: &'a BTreeSet<String>,
    /// When the last look of every other source had begun; `None` while one has not looked yet.
    pub others_looked: Option<Duration>,
    /// What the API refused.
    pub refusals: &'a BTreeMap<String, Refusal>,
    /// Since when Clusters have been declared nowhere, from the plan before.
    pub absent: &'a BTreeMap<String, Duration>,
    /// What was found out about them by plans before: it spares work, and changes nothing.
    pub compared: &'a Compared,
    /// What time it is.
    pub now: Timestamp,
    /// The same on the clock that never jumps.
    pub uptime: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status to store before anything else.
    pub status: SourceStatus,
    /// What to carry out, in this order.
    pub actions: Vec<Action>,
    /// What to tell people.
    pub notices: Vec<Notice>,
    /// Since when Clusters have been declared nowhere.
    pub absent: BTreeMap<String, Duration>,
    /// When to plan again even if nothing happens.
    pub wake: Option<Duration>,
}

/// One thing to carry out.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Lets go of a Cluster: it belongs to whoever works by hand from now on.
    Release {
        /// Its name.
        cluster: String,
        /// Its UID.
        uid: String,
        /// Why.
        why: Release,
    },
    /// Applies a document.
    Apply {
        /// The file, relative to the root.
        path: String,
        /// The document.
        document: Box<Document>,
        /// What it does to the Cluster that is there.
        effect: Effect,
    },
    /// Deletes a Cluster.
    Delete {
        /// Its name.
        cluster: String,
        /// Its UID: no other Cluster of that name is meant.
        uid: String,
        /// Why.
        why: Removal,
    },
    /// Removes the approval annotation from the Source: an approval counts once.
    ClearApproval,
}

/// Why a Cluster is let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Somebody asked for it.
    Detached,
    /// Its Source is not watched any more.
    SourceRemoved,
}

/// What an application does to the Cluster that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Makes it.
    Create,
    /// Follows the file.
    Update,
    /// Takes over what was made by hand.
    Adopt,
    /// Takes back what somebody changed: these fields.
    Revert(Vec<String>),
}

/// Why a Cluster is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// No file declares it any more.
    Undeclared,
    /// Its time is over.
    Expired,
}

/// What to tell people: becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// About this Cluster, or about the Source.
    pub cluster: Option<String>,
    /// Whether something is wrong.
    pub is_warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// To whom a Cluster belongs, as one source sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Mine,
    /// Whoever works by hand, or a source that is not there any more.
    Hand,
    Other,
}

impl Live {
    /// What a source needs of a Cluster.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let metadata = &cluster.metadata;
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_deleting: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            spec: cluster.spec.clone(),
        }
    }

    /// The Source that declares it, as its annotation says.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.annotation(annotations::SOURCE)
    }

    /// Whether it may be neither deleted nor recreated.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.spec.protect || self.annotation(annotations::PROTECT) == Some("true")
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

impl<'a> Input<'a> {
    fn owner(&self, live: &Live) -> Owner {
        match live.source() {
            Some(source) if source == self.source => Owner::Mine,
            Some(source) if self.others.contains(source) => Owner::Other,
            _ => Owner::Hand,
        }
    }

    /// Clusters of this source whose deletion has not begun.
    fn mine(&self) -> impl Iterator<Item = (&'a String, &'a Live)> {
        self.clusters
            .iter()
            .map(|(name, live)| (name, live.as_ref()))
            .filter(|(_, live)| !live.is_deleting && self.owner(live) == Owner::Mine)
    }
}

impl Plan {
    fn new(input: &Input<'_>) -> Self {
        Self {
            status: input.status.clone(),
            actions: Vec::new(),
            notices: Vec::new(),
            absent: BTreeMap::new(),
            wake: None,
        }
    }

    fn wake_at(&mut self, uptime: Duration) {
        self.wake = Some(self.wake.map_or(uptime, |earlier| earlier.min(uptime)));
    }

    fn notice(&mut self, cluster: Option<&str>, is_warning: bool, reason: &'static str, message: String) {
        self.notices.push(Notice { cluster: cluster.map(str::to_owned), is_warning, reason, message });
    }
}

/// Decides what a source should do next.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::new(input);
    input.compared.keep(input.clusters);
    match input.root {
        Root::Present(identity) => {
            let declarations = Declarations::of(input);
            applications::detach(input, Some(&declarations), &mut plan);
            applications::apply(input, &declarations, &mut plan);
            let identity = format!("{}:{}", identity.device, identity.inode);
            let is_confirming = removals::remove(input, &declarations, &identity, &mut plan);
            report::present(input, &declarations, &identity, is_confirming, &mut plan);
        }
        Root::Unavailable(why) => {
            applications::detach(input, None, &mut plan);
            report::unavailable(input, why, &mut plan);
        }
        Root::GitOperation(operation) => {
            applications::detach(input, None, &mut plan);
            report::git_operation(input, operation, &mut plan);
        }
    }
    plan
}

/// What becomes of Clusters whose Source is not watched any more: they belong to whoever works by hand.
#[must_use]
pub fn release_all(source: &str, clusters: &BTreeMap<String, Arc<Live>>) -> Vec<Action> {
    let mine = clusters.iter().filter(|(_, live)| live.source() == Some(source));
    mine.map(|(name, live)| Action::Release {
        cluster: name.clone(),
        uid: live.uid.clone(),
        why: Release::SourceRemoved,
    })
    .collect()
}
