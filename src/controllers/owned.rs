//! Which objects of a host belong to which Cluster: kept beside the listing, so that a pass over one Cluster does not look
//! at what all the others have.

use std::collections::BTreeMap;

use crate::runtime::OwnerLabels;

/// What kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A container.
    Container,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

impl Kind {
    /// Its name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }
}

/// Objects by installation and UID of their Cluster, with how many have the name.
#[derive(Debug, Default)]
pub struct Owned {
    clusters: BTreeMap<(String, String), BTreeMap<(Kind, String), usize>>,
}

/// Name and owner of an object.
type Object<'a> = (&'a String, Option<OwnerLabels>);

impl Owned {
    /// An object came, went, or is another now.
    pub fn replace(&mut self, kind: Kind, was: Option<Object<'_>>, is: Option<Object<'_>>) {
        if let Some((name, Some(owner))) = was {
            self.remove(kind, name, &owner);
        }
        if let Some((name, Some(owner))) = is {
            *self.clusters.entry(key(&owner)).or_default().entry((kind, name.clone())).or_default() += 1;
        }
    }

    fn remove(&mut self, kind: Kind, name: &str, owner: &OwnerLabels) {
        let (cluster, object) = (key(owner), (kind, name.to_owned()));
        let Some(objects) = self.clusters.get_mut(&cluster) else { return };
        match objects.get_mut(&object) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(objects.remove(&object)),
        }
        if objects.is_empty() {
            self.clusters.remove(&cluster);
        }
    }

    /// All objects of a Cluster, as `(kind, name)`: containers, volumes, networks, each by name.
    #[must_use]
    pub fn of(&self, owner: &OwnerLabels) -> Vec<(&'static str, String)> {
        let objects = self.clusters.get(&key(owner)).into_iter().flatten();
        objects.flat_map(|((kind, name), count)| std::iter::repeat_n((kind.as_str(), name.clone()), *count)).collect()
    }
}

fn key(owner: &OwnerLabels) -> (String, String) {
    (owner.installation.to_string(), owner.cluster_uid.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::InstallationId;

    fn owner(cluster_uid: &str) -> OwnerLabels {
        OwnerLabels {
            installation: InstallationId::parse("0f7c9a10-aaaa").unwrap(),
            cluster: "dev".into(),
            cluster_uid: cluster_uid.into(),
            machine_uid: None,
            role: None,
            spec_hash: None,
        }
    }

    #[test]
    fn objects_are_found_by_their_cluster_until_they_go_or_belong_to_another() {
        let mut owned = Owned::default();
        let (a, b) = ("a".to_owned(), "b".to_owned());
        owned.replace(Kind::Network, None, Some((&a, Some(owner("1")))));
        owned.replace(Kind::Network, None, Some((&a, Some(owner("1")))));
        owned.replace(Kind::Container, None, Some((&b, Some(owner("1")))));
        owned.replace(Kind::Container, None, Some((&a, None)));
        let named = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(owned.of(&owner("1")), [named("container", "b"), named("network", "a"), named("network", "a")]);
        owned.replace(Kind::Container, Some((&b, Some(owner("1")))), Some((&b, Some(owner("2")))));
        owned.replace(Kind::Network, Some((&a, Some(owner("1")))), None);
        assert_eq!(
            (owned.of(&owner("1")), owned.of(&owner("2"))),
            (vec![named("network", "a")], vec![named("container", "b")])
        );
        owned.replace(Kind::Network, Some((&a, Some(owner("1")))), None);
        owned.replace(Kind::Container, Some((&b, Some(owner("2")))), None);
        assert!(owned.clusters.is_empty());
    }
}
