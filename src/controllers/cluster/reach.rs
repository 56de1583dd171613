//! Which runtimes may have something of a Cluster. It is recorded on the Cluster before anything is made on one, and taken
//! back only once nothing is left there: a Cluster goes when those have nothing any more, whatever others say or do not say.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use crate::api::cluster::RuntimeName;
use crate::api::{Cluster, annotations};

/// Runtimes that may have something of a Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// As recorded; `None` where nothing is, and it may be any.
    pub recorded: Option<BTreeSet<RuntimeName>>,
    /// As it has to be recorded before anything else is done.
    pub wanted: BTreeSet<RuntimeName>,
}

impl Reach {
    /// `hosts` are the runtimes there are, `main` is where the Cluster is to be, and in `emptied` nothing of it is left.
    #[must_use]
    pub fn new(
        recorded: Option<BTreeSet<RuntimeName>>,
        hosts: impl IntoIterator<Item = RuntimeName>,
        main: Option<RuntimeName>,
        emptied: &BTreeSet<RuntimeName>,
    ) -> Self {
        let before = recorded.clone().unwrap_or_else(|| hosts.into_iter().collect());
        let wanted = before.difference(emptied).copied().chain(main).collect();
        Self { recorded, wanted }
    }

    /// That of a Cluster for which nothing was made, and which is to be nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { recorded: Some(BTreeSet::new()), wanted: BTreeSet::new() }
    }

    /// What has to be recorded, if it is not.
    #[must_use]
    pub fn to_record(&self) -> Option<&BTreeSet<RuntimeName>> {
        (self.recorded.as_ref() != Some(&self.wanted)).then_some(&self.wanted)
    }
}

/// What the Cluster's record says. `None` where it has none, or one that this Kina does not understand.
#[must_use]
pub fn recorded(cluster: &Cluster) -> Option<BTreeSet<RuntimeName>> {
    let text = cluster.annotations().get(annotations::RUNTIMES)?;
    text.split(',').filter(|name| !name.is_empty()).map(RuntimeName::named).collect()
}

/// The annotations of a Cluster for which nothing was made yet. One that has taken over an identity has no record: what was
/// made for that may be anywhere.
#[must_use]
pub fn at_first(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut kept = cluster.annotations().clone();
    kept.remove(annotations::RUNTIMES);
    if !kept.contains_key(annotations::IDENTITY) {
        kept.insert(annotations::RUNTIMES.to_owned(), text(&BTreeSet::new()));
    }
    kept
}

/// As it is recorded.
#[must_use]
pub fn text(runtimes: &BTreeSet<RuntimeName>) -> String {
    let names: Vec<&str> = runtimes.iter().map(|name| name.as_str()).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [RuntimeName; 3] = [RuntimeName::Apple, RuntimeName::Docker, RuntimeName::Sim];

    fn recorded_as(text: &str) -> Option<BTreeSet<RuntimeName>> {
        let mut cluster = Cluster::new("dev", crate::api::ClusterSpec::default());
        cluster.annotations_mut().insert(annotations::RUNTIMES.to_owned(), text.to_owned());
        recorded(&cluster)
    }

    #[test]
    fn a_cluster_without_a_record_may_be_anywhere() {
        let without = Cluster::new("dev", crate::api::ClusterSpec::default());
        assert_eq!(recorded(&without), None);
        assert_eq!(recorded_as("docker,something-newer"), None);
        let reach = Reach::new(None, ALL, Some(RuntimeName::Docker), &BTreeSet::new());
        assert_eq!(reach.to_record(), Some(&BTreeSet::from(ALL)));
    }

    #[test]
    fn one_that_was_just_made_is_nowhere() {
        assert_eq!(recorded_as(""), Some(BTreeSet::new()));
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read_again(runtimes in prop::collection::btree_set(prop::sample::select(&ALL[..]), 0..=3)) {
            prop_assert_eq!(recorded_as(&text(&runtimes)), Some(runtimes));
        }

        #[test]
        fn only_what_is_proven_empty_is_taken_back(
            recorded in prop::option::of(prop::collection::btree_set(prop::sample::select(&ALL[..]), 0..=3)),
            emptied in prop::collection::btree_set(prop::sample::select(&ALL[..]), 0..=3),
            main in prop::option::of(prop::sample::select(&ALL[..])),
        ) {
            let reach = Reach::new(recorded.clone(), ALL, main, &emptied);
            let before = recorded.clone().unwrap_or_else(|| BTreeSet::from(ALL));
            for name in ALL {
                let is_wanted = reach.wanted.contains(&name);
                prop_assert_eq!(is_wanted, Some(name) == main || before.contains(&name) && !emptied.contains(&name));
            }
            prop_assert_eq!(reach.to_record().is_none(), recorded == Some(reach.wanted.clone()));
        }
    }
}
