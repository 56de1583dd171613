//! What makes a cluster the one that it is: everything that cannot change without making it anew.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::api::defaults::{Components, Resolved};

/// Annotation on a Machine: the fingerprint of the cluster that it was made for.
pub const FINGERPRINT: &str = "kina.dev/fingerprint";

/// Of everything that the machines of a cluster cannot change in place.
#[must_use]
pub fn of_machines(spec: &Resolved) -> String {
    // Pools come and go without the rest.
    let components = Components { workers: BTreeMap::new(), ..spec.components.clone() };
    hash(&format!(
        "{} {} {} {} {} {:?} {} {components:?}",
        spec.version,
        spec.runtime.as_str(),
        spec.pod_subnet,
        spec.service_subnet,
        spec.node_subnet,
        spec.cni,
        spec.endpoint.ip(),
    ))
}

/// Of everything that the machines of one pool cannot change in place: the cluster's, and a part of its own where the
/// pool has patches.
#[must_use]
pub fn of_pool(spec: &Resolved, pool: &str) -> String {
    let cluster = of_machines(spec);
    match spec.components.workers.get(pool) {
        None => cluster,
        Some(patches) => format!("{cluster}-{}", hash(&format!("{patches:?}"))),
    }
}

/// The part of a machine's fingerprint that all machines of its cluster share.
#[must_use]
pub fn of_cluster(fingerprint: &str) -> &str {
    fingerprint.split('-').next().unwrap_or(fingerprint)
}

/// Of what the network is made from.
#[must_use]
pub fn of_network(spec: &Resolved) -> String {
    hash(&spec.node_subnet.to_string())
}

/// Of any text; 16 hexadecimal digits.
#[must_use]
pub fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
