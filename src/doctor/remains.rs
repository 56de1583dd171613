//! What carries Kina's labels on the host, and belongs to no Cluster of this home.

use std::collections::BTreeMap;

use super::Finding;
use super::facts::{Facts, Subject};
use crate::api::Cluster;
use crate::runtime::{InstallationId, Listing, OwnerLabels};

/// Whose something is: its installation, its cluster's name and UID.
type Owner = (InstallationId, String, String);

/// Containers, networks and volumes of one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    containers: usize,
    networks: usize,
    volumes: usize,
}

/// One finding for each cluster of which there is something, and no Cluster.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "remains";
    let tool = match facts.subject {
        Subject::Apple(_) => "container",
        Subject::Docker(_) => "docker",
        Subject::Simulator => return Vec::new(),
    };
    let Some(listing) = facts.subject.listing() else {
        return vec![Finding::skipped(CHECK, "nothing could be listed")];
    };
    let all = counted(listing);
    let other = all.iter().filter(|((installation, ..), _)| Some(installation) != facts.installation.as_ref());
    let mut found: Vec<Finding> = other
        .map(|((installation, cluster, _), count)| {
            let cause = format!("cluster {cluster} of another Kina (installation {installation}): {}", count.told());
            Finding::note(CHECK, format!("{cause}; only that one touches it"))
        })
        .collect();
    let Some(clusters) = &facts.clusters else {
        found.push(Finding::skipped(CHECK, "what Kina remembers could not be read"));
        return found;
    };
    let own = all.iter().filter(|((installation, ..), _)| Some(installation) == facts.installation.as_ref());
    for ((_, cluster, uid), count) in own.filter(|((.., uid), _)| !is_known(clusters, uid)) {
        let cause = format!("cluster {cluster} (UID {uid}), which Kina does not know: {}", count.told());
        let next = format!("apply a Cluster of this name, which adopts it; or remove it with `{tool}`");
        found.push(Finding::warning(CHECK, cause, next));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "nothing of Kina's is here that no Cluster has"));
    }
    found
}

fn is_known(clusters: &[Cluster], uid: &str) -> bool {
    clusters.iter().any(|cluster| cluster.identity() == Some(uid))
}

fn counted(listing: &Listing) -> BTreeMap<Owner, Count> {
    let mut all: BTreeMap<Owner, Count> = BTreeMap::new();
    let mut count = |owner: Option<OwnerLabels>, one: fn(&mut Count)| {
        if let Some(owner) = owner {
            one(all.entry((owner.installation, owner.cluster, owner.cluster_uid)).or_default());
        }
    };
    listing.containers.iter().for_each(|container| count(container.owner(), |count| count.containers += 1));
    listing.networks.iter().for_each(|network| count(network.owner(), |count| count.networks += 1));
    listing.volumes.iter().for_each(|volume| count(volume.owner(), |count| count.volumes += 1));
    all
}

impl Count {
    fn told(self) -> String {
        let Self { containers, networks, volumes } = self;
        let each = [(containers, "container"), (networks, "network"), (volumes, "volume")];
        let told = each.into_iter().filter(|(count, _)| *count > 0);
        let told = told.map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        told.collect::<Vec<_>>().join(", ")
    }
}
