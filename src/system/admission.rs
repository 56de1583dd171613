//! What may be written to Kina's kinds, beyond their schemas: the rules of [`crate::api`] as admission functions.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::api::class::{self, Class};
use crate::api::cluster::ClusterSpec;
use crate::api::{annotations, names, users, validation};
use crate::apiserver::admission::{Admission, Admitted, Denied, Draft, Operation, Request};
use crate::apiserver::kind::FieldFault;
use crate::host_mounts::{MountPolicy, Refused};

/// Rules of Clusters: what is resolved stays resolved, names do not collide, and what needs a new cluster is asked for
/// twice; and what would hand over the host is not mounted.
#[derive(Clone, Debug, Default)]
pub struct ClusterRules {
    /// What may be mounted.
    pub mounts: MountPolicy,
}

/// Rules of Machines: they belong to their Cluster, and only controllers write them.
#[derive(Clone, Copy, Debug)]
pub struct MachineRules;

/// Rules of Sources: only the file source writes them, people annotate them.
#[derive(Clone, Copy, Debug)]
pub struct SourceRules;

impl Admission for ClusterRules {
    fn admit(&self, request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied> {
        if request.subresource.is_some() || request.operation == Operation::Delete {
            return Ok(Admitted::default());
        }
        let new = spec_of(object)?;
        let new = match request.old {
            Some(old) => {
                let old_spec = spec_of(old)?;
                self.refuse_mounts(request, Some(&old_spec), &new)?;
                let kept = class::keep_resolved(&old_spec, new);
                permit_recreation(request, old, object, &old_spec, &kept)?;
                kept
            }
            None => {
                self.refuse_mounts(request, None, &new)?;
                new
            }
        };
        keep_identity(request, object)?;
        refuse_collisions(request, &new)?;
        write_spec(object, &new)?;
        Ok(Admitted::default())
    }
}

impl ClusterRules {
    /// What was mounted before stays: it was allowed then, and is judged again before it is mounted anew.
    fn refuse_mounts(&self, request: &Request<'_>, old: Option<&ClusterSpec>, new: &ClusterSpec) -> Result<(), Denied> {
        let known: BTreeSet<&str> = old.into_iter().flat_map(host_paths).map(|(_, path)| path).collect();
        let fresh = host_paths(new).filter(|(_, path)| !known.contains(path));
        let refused: Vec<(String, Refused)> =
            fresh.filter_map(|(field, path)| Some((field, self.mounts.refuse_text(Path::new(path))?))).collect();
        let Some((_, first)) = refused.first() else { return Ok(()) };
        let cause = |(field, refused): &(String, Refused)| FieldFault {
            field: field.clone(),
            reason: "FieldValueForbidden",
            message: refused.why.clone(),
        };
        Err(Denied::Forbidden {
            message: format!("cluster {} may not mount this: {} ({})", request.name, first.why, first.hint),
            causes: refused.iter().map(cause).collect(),
        })
    }
}

/// Every path of the host that a Cluster mounts, with its field.
fn host_paths(spec: &ClusterSpec) -> impl Iterator<Item = (String, &str)> {
    let planes = spec.control_plane.extra_mounts.iter().enumerate();
    let planes = planes.map(|(index, mount)| (format!("spec.controlPlane.extraMounts[{index}].hostPath"), mount));
    let workers = spec.workers.iter().enumerate().flat_map(|(pool, workers)| {
        let mounts = workers.extra_mounts.iter().enumerate();
        mounts.map(move |(index, mount)| (format!("spec.workers[{pool}].extraMounts[{index}].hostPath"), mount))
    });
    planes.chain(workers).map(|(field, mount)| (field, mount.host_path.as_str()))
}

impl Admission for MachineRules {
    fn admit(&self, request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied> {
        let by_controllers = request.user.name == users::CONTROLLERS;
        let spec_is_same = request.old.is_some_and(|old| old.get("spec") == object.get("spec"));
        match request.operation {
            _ if by_controllers => Ok(Admitted::default()),
            Operation::Update if request.subresource.is_none() && spec_is_same => Ok(Admitted::default()),
            _ => Err(Denied::Forbidden {
                message: format!(
                    "machine {} belongs to its cluster and is written by Kina alone: change the pool in the Cluster instead",
                    request.name
                ),
                causes: Vec::new(),
            }),
        }
    }
}

impl Admission for SourceRules {
    fn admit(&self, request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied> {
        let by_sources = request.user.name == users::SOURCES;
        let spec_is_same = request.old.is_some_and(|old| old.get("spec") == object.get("spec"));
        match request.operation {
            _ if by_sources => Ok(Admitted::default()),
            Operation::Update if request.subresource.is_none() && spec_is_same => Ok(Admitted::default()),
            _ => Err(Denied::Forbidden {
                message: format!(
                    "source {} is written by Kina alone: it follows from the directories that `kina serve` watches",
                    request.name
                ),
                causes: Vec::new(),
            }),
        }
    }
}

/// The check that [`crate::api::validation`] makes, in the server's terms.
#[must_use]
pub fn validate_cluster(object: &Value) -> Vec<FieldFault> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match spec_of(object) {
        Ok(spec) => validation::cluster(name, &spec).into_iter().map(into_field_fault).collect(),
        Err(Denied::Invalid { faults }) => faults,
        Err(_) => Vec::new(),
    }
}

fn into_field_fault(fault: validation::Fault) -> FieldFault {
    FieldFault { field: fault.field(), reason: "FieldValueInvalid", message: fault.message }
}

fn spec_of(object: &Value) -> Result<ClusterSpec, Denied> {
    let spec = object.get("spec").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_json::from_value(spec).map_err(|error| Denied::Invalid {
        faults: vec![FieldFault { field: "spec".to_owned(), reason: "FieldValueInvalid", message: error.to_string() }],
    })
}

/// Writes back only what the rules complete, so that fields are not re-ordered or re-written in vain.
fn write_spec(object: &mut Value, spec: &ClusterSpec) -> Result<(), Denied> {
    if spec_of(object)? == *spec {
        return Ok(());
    }
    let value = serde_json::to_value(spec).map_err(|error| Denied::Conflict { message: error.to_string() })?;
    if let Some(object) = object.as_object_mut() {
        object.insert("spec".to_owned(), value);
    }
    Ok(())
}

fn permit_recreation(
    request: &Request<'_>,
    old: &Value,
    object: &Value,
    old_spec: &ClusterSpec,
    new: &ClusterSpec,
) -> Result<(), Denied> {
    let changes = class::changes(old_spec, new);
    let recreating: Vec<_> = changes.iter().filter(|change| change.class == Class::Recreate).collect();
    if recreating.is_empty() {
        return Ok(());
    }
    let causes = || -> Vec<FieldFault> {
        let cause = |change: &&class::Change| FieldFault {
            field: change.field.clone(),
            reason: "FieldValueForbidden",
            message: format!("cannot change in place from {} to {}", change.from, change.to),
        };
        recreating.iter().map(cause).collect()
    };
    let fields = recreating.iter().map(|change| change.field.as_str()).collect::<Vec<_>>().join(", ");
    // The protection that is stored counts, not the one that the same write would lift: lifting it is a wish of its own.
    if old_spec.protect || annotation(old, annotations::PROTECT) == Some("true") {
        let message = format!("cluster {} is protected: {fields} cannot change without making it anew", request.name);
        return Err(Denied::Forbidden { message, causes: causes() });
    }
    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let by_annotation = annotation(object, annotations::RECREATE) == Some(generation.to_string().as_str());
    if new.allow_recreate || by_annotation {
        return Ok(());
    }
    Err(Denied::Forbidden {
        message: format!(
            "{fields} cannot change in place: cluster {} would have to be made anew, with loss of its data (set `spec.allowRecreate: true` to permit it)",
            request.name
        ),
        causes: causes(),
    })
}

/// Under which UID a Cluster's things on the host are known is found out by controllers alone.
fn keep_identity(request: &Request<'_>, object: &mut Value) -> Result<(), Denied> {
    if request.user.name == users::CONTROLLERS {
        return Ok(());
    }
    let old = request.old.and_then(|old| annotation(old, annotations::IDENTITY));
    match (old, annotation(object, annotations::IDENTITY)) {
        (old, new) if old == new => Ok(()),
        (Some(old), None) => {
            let old = old.to_owned();
            object["metadata"]["annotations"][annotations::IDENTITY] = Value::String(old);
            Ok(())
        }
        _ => Err(Denied::Forbidden {
            message: format!(
                "the annotation {} of cluster {} is written by Kina alone: leave it out",
                annotations::IDENTITY,
                request.name
            ),
            causes: Vec::new(),
        }),
    }
}

fn refuse_collisions(request: &Request<'_>, new: &ClusterSpec) -> Result<(), Denied> {
    let pools: Vec<&str> = new.workers.iter().map(|pool| pool.name.as_str()).collect();
    for other in others(request, &pools) {
        let other_pools: Vec<&str> = other.1.workers.iter().map(|pool| pool.name.as_str()).collect();
        if let Some(name) = names::collide((request.name, &pools), (&other.0, &other_pools)) {
            return Err(Denied::Invalid {
                faults: vec![FieldFault {
                    field: "metadata.name".to_owned(),
                    reason: "FieldValueInvalid",
                    message: format!(
                        "machines named `{name}-N` would belong to cluster {} and to cluster {}: rename one, or its pool",
                        request.name, other.0
                    ),
                }],
            });
        }
    }
    Ok(())
}

/// Clusters whose machines' names could meet those of this one. One name is then the other's beginning, and what is
/// left is the beginning of a pool's name: few look-ups, however many Clusters there are.
fn others(request: &Request<'_>, pools: &[&str]) -> Vec<(String, ClusterSpec)> {
    let shorter = beginnings(request.name).map(str::to_owned);
    let longer = pools
        .iter()
        .copied()
        .chain([names::CONTROL_PLANE_POOL])
        .flat_map(beginnings)
        .map(|rest| format!("{}-{rest}", request.name));
    let found = shorter.chain(longer).filter_map(|name| {
        let object = request.reader.get(request.resource, None, &name)?;
        Some((name, spec_of(&object).ok()?))
    });
    found.collect()
}

/// What stands before each `-` of a name.
fn beginnings(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('-').map(|(at, _)| &name[..at])
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::admission::Reader;
    use crate::apiserver::kind::ResourceId;
    use crate::apiserver::user::User;

    struct Stored(Vec<Value>);

    impl Reader for Stored {
        fn get(&self, _: &ResourceId, _: Option<&str>, name: &str) -> Option<Value> {
            self.0.iter().find(|object| object["metadata"]["name"] == name).cloned()
        }
        fn list(&self, _: &ResourceId) -> Vec<Value> {
            self.0.clone()
        }
    }

    fn admit(
        rules: &dyn Admission,
        user: &str,
        old: Option<&Value>,
        new: &mut Value,
        stored: Vec<Value>,
    ) -> Result<Admitted, Denied> {
        let resource = ResourceId { group: "kina.dev".into(), version: "v1alpha1".into(), plural: "clusters".into() };
        let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap().to_owned();
        let request = Request {
            operation: if old.is_some() { Operation::Update } else { Operation::Create },
            subresource: None,
            resource: &resource,
            name: &name,
            namespace: None,
            user: &User::named(user),
            old,
            dry_run: false,
            field_manager: None,
            reader: &Stored(stored),
        };
        rules.admit(&request, &mut Draft::of(new))
    }

    fn cluster(name: &str, spec: Value) -> Value {
        json!({"metadata": {"name": name, "generation": 4}, "spec": spec})
    }

    #[test]
    fn a_write_that_drops_resolved_fields_keeps_them() {
        let old = cluster("dev", json!({"kubernetesVersion": "v1.35.5", "runtime": "sim"}));
        let mut new = cluster("dev", json!({"workers": [{"name": "a"}]}));
        admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut new, vec![]).unwrap();
        assert_eq!(new["spec"]["kubernetesVersion"], "v1.35.5");
        assert_eq!(new["spec"]["runtime"], "sim");
        assert_eq!(new["spec"]["workers"][0]["name"], "a");
    }

    #[test]
    fn a_change_that_needs_a_new_cluster_is_refused_unless_permitted() {
        let old = cluster("dev", json!({"networking": {"podSubnet": "10.1.0.0/16"}}));
        let changed = json!({"networking": {"podSubnet": "10.2.0.0/16"}});
        let refused =
            admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut cluster("dev", changed.clone()), vec![]);
        let Err(Denied::Forbidden { message, causes }) = refused else { panic!("{refused:?}") };
        assert!(message.starts_with("spec.networking.podSubnet cannot change in place"), "{message}");
        assert_eq!(causes[0].field, "spec.networking.podSubnet");

        let mut permitted = cluster("dev", changed.clone());
        permitted["spec"]["allowRecreate"] = json!(true);
        admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut permitted, vec![]).unwrap();

        let mut once = cluster("dev", changed);
        once["metadata"]["annotations"] = json!({"kina.dev/recreate": "4"});
        admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut once, vec![]).unwrap();
    }

    #[test]
    fn what_would_hand_over_the_host_is_mounted_only_where_it_was_allowed_or_is_mounted_already() {
        let mount = |path: &str| json!({"workers": [{"name": "a", "extraMounts": [{"hostPath": path, "containerPath": "/x"}]}]});
        let home = crate::home::Home::at("/home/me/.kina");
        let rules = ClusterRules { mounts: home.mount_policy() };
        let refused = admit(&rules, users::ADMIN, None, &mut cluster("dev", mount("/home/me/.kina/pki")), vec![]);
        let Err(Denied::Forbidden { message, causes }) = refused else { panic!("{refused:?}") };
        assert_eq!(
            message,
            "cluster dev may not mount this: `/home/me/.kina/pki` lies in Kina's home (if that is meant, run Kina with `--allow-host-mount /home/me/.kina/pki`)"
        );
        assert_eq!(causes[0].field, "spec.workers[0].extraMounts[0].hostPath");
        let mut socket = cluster("dev", mount("/var/run/docker.sock"));
        assert!(admit(&rules, users::SOURCES, None, &mut socket.clone(), vec![]).is_err());
        let allowed = home.allowing_mounts(["/var/run/docker.sock".into()]);
        let allowing = ClusterRules { mounts: allowed.mount_policy() };
        admit(&allowing, users::SOURCES, None, &mut socket.clone(), vec![]).unwrap();
        // A later Kina that was not told so leaves alone what is there.
        let old = socket.clone();
        socket["spec"]["paused"] = json!(true);
        admit(&rules, users::CONTROLLERS, Some(&old), &mut socket, vec![]).unwrap();
        socket["spec"]["workers"][0]["extraMounts"][0]["hostPath"] = json!("/");
        assert!(admit(&rules, users::ADMIN, Some(&old), &mut socket, vec![]).is_err());
    }

    #[test]
    fn a_protected_cluster_is_not_recreated_even_where_recreation_is_allowed() {
        let old = cluster("dev", json!({"protect": true, "allowRecreate": true, "runtime": "sim"}));
        let mut new = cluster("dev", json!({"protect": false, "allowRecreate": true, "runtime": "docker"}));
        let refused = admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut new, vec![]);
        assert!(matches!(refused, Err(Denied::Forbidden { message, .. }) if message.contains("is protected")));
    }

    #[test]
    fn clusters_whose_machines_would_share_names_are_refused() {
        let stored = vec![cluster("a-b", json!({"workers": [{"name": "c"}]}))];
        let mut new = cluster("a", json!({"workers": [{"name": "b-c"}]}));
        let refused = admit(&ClusterRules::default(), users::ADMIN, None, &mut new, stored.clone());
        assert!(matches!(refused, Err(Denied::Invalid { faults }) if faults[0].message.contains("`a-b-c-N`")));
        admit(&ClusterRules::default(), users::ADMIN, None, &mut cluster("x", json!({})), stored).unwrap();

        let stored = vec![cluster("a", json!({"workers": [{"name": "b-c"}]}))];
        let mut longer = cluster("a-b", json!({"workers": [{"name": "c"}]}));
        assert!(admit(&ClusterRules::default(), users::ADMIN, None, &mut longer, stored).is_err());
    }

    #[test]
    fn the_identity_of_a_cluster_is_written_by_controllers_alone() {
        let mut old = cluster("dev", json!({}));
        old["metadata"]["annotations"] = json!({"kina.dev/identity": "u1"});
        let mut without = cluster("dev", json!({"paused": true}));
        admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut without, vec![]).unwrap();
        assert_eq!(without["metadata"]["annotations"]["kina.dev/identity"], "u1");
        let mut other = old.clone();
        other["metadata"]["annotations"]["kina.dev/identity"] = json!("u2");
        assert!(admit(&ClusterRules::default(), users::ADMIN, Some(&old), &mut other, vec![]).is_err());
        assert!(admit(&ClusterRules::default(), users::SOURCES, None, &mut other, vec![]).is_err());
        admit(&ClusterRules::default(), users::CONTROLLERS, Some(&old), &mut other, vec![]).unwrap();
    }

    #[test]
    fn people_may_annotate_machines_but_not_write_them() {
        let old = json!({"metadata": {"name": "dev-a-0"}, "spec": {"ordinal": 0}});
        let mut annotated = json!({"metadata": {"name": "dev-a-0", "annotations": {"x": "y"}}, "spec": {"ordinal": 0}});
        admit(&MachineRules, users::ADMIN, Some(&old), &mut annotated, vec![]).unwrap();
        let mut changed = json!({"metadata": {"name": "dev-a-0"}, "spec": {"ordinal": 1}});
        assert!(admit(&MachineRules, users::ADMIN, Some(&old), &mut changed, vec![]).is_err());
        admit(&MachineRules, users::CONTROLLERS, Some(&old), &mut changed, vec![]).unwrap();
    }
}
