//! The kinds that Kina's own API serves, with the rules that guard them.

use std::sync::Arc;

use kube::CustomResourceExt;

use super::admission::{ClusterRules, MachineRules, SourceRules, validate_cluster};
use crate::api::{Cluster, Machine, Source};
use crate::apiserver::core;
use crate::apiserver::kind::{Kind, KindError};
use crate::host_mounts::MountPolicy;
use crate::sources::admission::SourceOwnership;

/// Cluster, Machine and Source, and what Kubernetes' clients need besides: events, leases, namespaces.
///
/// Ownership is asked before the other rules: who declares a Cluster in a file is told so first, and what its file may
/// not do either is told next.
///
/// # Errors
/// Only if a derived definition were incomplete.
pub fn kinds(mounts: MountPolicy) -> Result<Vec<Kind>, KindError> {
    let cluster = Kind::from_crd(&Cluster::crd())?
        .with_admission(Arc::new(SourceOwnership))
        .with_admission(Arc::new(ClusterRules { mounts }))
        .with_validation(Arc::new(validate_cluster));
    let machine = Kind::from_crd(&Machine::crd())?.with_admission(Arc::new(MachineRules));
    let source = Kind::from_crd(&Source::crd())?.with_admission(Arc::new(SourceRules));
    Ok(core::control().into_iter().chain([cluster, machine, source]).collect())
}
