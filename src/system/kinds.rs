//! The kinds that Kina's own API serves, with the rules that guard them.

use std::sync::{Arc, OnceLock};

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
    let [cluster, machine, source] = defined()?;
    let cluster = cluster
        .with_admission(Arc::new(SourceOwnership))
        .with_admission(Arc::new(ClusterRules { mounts }))
        .with_validation(Arc::new(validate_cluster));
    let machine = machine.with_admission(Arc::new(MachineRules));
    let source = source.with_admission(Arc::new(SourceRules));
    Ok(core::control().into_iter().chain([cluster, machine, source]).collect())
}

/// Kina's own kinds as their types define them: made once a process, as those that are built in.
fn defined() -> Result<[Kind; 3], KindError> {
    static KINDS: OnceLock<[Kind; 3]> = OnceLock::new();
    if let Some(kinds) = KINDS.get() {
        return Ok(kinds.clone());
    }
    let kinds = [Kind::from_crd(&Cluster::crd())?, Kind::from_crd(&Machine::crd())?, Kind::from_crd(&Source::crd())?];
    Ok(KINDS.get_or_init(|| kinds).clone())
}
