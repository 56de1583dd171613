//! What makes a cluster the one that it is: everything that cannot change without making it anew.

use sha2::{Digest, Sha256};

use crate::api::defaults::Resolved;

/// Annotation on a Machine: the fingerprint of the cluster that it was made for.
pub const FINGERPRINT: &str = "kina.dev/fingerprint";

/// Of everything that the machines of a cluster cannot change in place.
#[must_use]
pub fn of_machines(spec: &Resolved) -> String {
    hash(&format!(
        "{} {} {} {} {} {:?} {}",
        spec.version,
        spec.runtime.as_str(),
        spec.pod_subnet,
        spec.service_subnet,
        spec.node_subnet,
        spec.cni,
        spec.endpoint.ip()
    ))
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
