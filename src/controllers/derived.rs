//! What follows from a spec alone, worked out once a generation: an object is looked at far more often than its spec
//! changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::identity;
use super::machine::container;
use crate::api::defaults::Resolved;
use crate::api::{Cluster, ClusterSpec, Machine};

/// What follows from the spec of a Cluster.
#[derive(Debug)]
pub struct OfCluster {
    /// The spec in types.
    pub resolved: Resolved,
    /// What its machines share that cannot change in place.
    pub fingerprint: String,
}

impl OfCluster {
    /// `None` while defaults are missing.
    #[must_use]
    pub fn of(spec: &ClusterSpec) -> Option<Self> {
        let resolved = Resolved::of(spec)?;
        let fingerprint = identity::of_machines(&resolved);
        Some(Self { resolved, fingerprint })
    }
}

/// By UID and generation; objects without these are worked out each time.
#[derive(Debug, Default)]
pub struct Derived {
    clusters: Once<Option<Arc<OfCluster>>>,
    containers: Once<Option<Arc<str>>>,
}

impl Derived {
    /// Of a Cluster; `None` while defaults are missing.
    #[must_use]
    pub fn of_cluster(&self, cluster: &Cluster) -> Option<Arc<OfCluster>> {
        self.clusters.get(&cluster.metadata, || OfCluster::of(&cluster.spec).map(Arc::new))
    }

    /// The hash of the container that a Machine asks for; `None` where its address is none.
    #[must_use]
    pub fn container_hash(&self, machine: &Machine) -> Option<Arc<str>> {
        let hash = || container::wanted_hash(&machine.name_any(), &machine.spec).map(Arc::from);
        self.containers.get(&machine.metadata, hash)
    }

    /// An object is gone.
    pub fn forget(&self, uid: &str) {
        self.clusters.forget(uid);
        self.containers.forget(uid);
    }
}

/// Of each object, a value and the generation that it is of.
#[derive(Debug, Default)]
struct Once<T>(Mutex<BTreeMap<String, (i64, T)>>);

impl<T: Clone> Once<T> {
    fn get(&self, of: &ObjectMeta, make: impl FnOnce() -> T) -> T {
        let (Some(uid), Some(generation)) = (&of.uid, of.generation) else { return make() };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = known.get(uid).filter(|(known, _)| *known == generation) {
            return value.clone();
        }
        // Two who find nothing make the same; nobody else waits for them.
        drop(known);
        let value = make();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(uid.clone(), (generation, value.clone()));
        value
    }

    fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, generation: Option<i64>) -> ObjectMeta {
        ObjectMeta { uid: Some(uid.to_owned()), generation, ..ObjectMeta::default() }
    }

    #[test]
    fn a_generation_is_worked_out_once_and_what_is_gone_is_forgotten() {
        let once = Once::default();
        let made = |of: &ObjectMeta, value: i32| once.get(of, || value);
        assert_eq!([made(&meta("a", Some(1)), 1), made(&meta("a", Some(1)), 2)], [1, 1]);
        assert_eq!([made(&meta("b", Some(1)), 3), made(&meta("a", Some(2)), 4)], [3, 4]);
        // An older state of an object, from a watch that is behind.
        assert_eq!(made(&meta("a", Some(1)), 5), 5);
        assert_eq!([made(&meta("c", None), 6), made(&meta("c", None), 7)], [6, 7]);
        once.forget("a");
        once.forget("b");
        assert!(once.0.lock().unwrap().is_empty());
    }
}
