//! What may be written to a Cluster, by whom, as long as a file declares it.

use serde_json::{Map, Value};

use crate::api::cluster::ClusterSpec;
use crate::api::{self, annotations, class, users};
use crate::apiserver::admission::{Admission, Admitted, Denied, Draft, Operation, Request};
use crate::apiserver::kind::{FieldFault, ResourceId};

/// While a file declares a Cluster, its spec is the file's and only its source deletes it; and nobody deletes what is
/// protected. Labels and annotations are free, but for those that say where a Cluster comes from.
#[derive(Clone, Copy, Debug)]
pub struct SourceOwnership;

/// What says where a Cluster comes from.
const OURS: [&str; 5] = [
    annotations::SOURCE,
    annotations::SOURCE_PATH,
    annotations::SOURCE_LINE,
    annotations::SOURCE_HASH,
    annotations::SOURCE_COMMIT,
];

impl Admission for SourceOwnership {
    fn admit(&self, request: &Request<'_>, object: &mut Draft<'_>) -> Result<Admitted, Denied> {
        if request.subresource.is_some() {
            return Ok(Admitted::default());
        }
        let by_sources = request.user.name == users::SOURCES;
        match (request.operation, request.old) {
            (Operation::Delete, _) => {
                let stored = request.old.unwrap_or(object);
                refuse_protected(request, stored)?;
                if by_sources { Ok(Admitted::default()) } else { refuse_declared(request, stored, "delete it") }
            }
            _ if by_sources => Ok(Admitted::default()),
            (Operation::Create, _) | (Operation::Update, None) => Ok(made_by_hand(object)),
            (Operation::Update, Some(old)) => {
                keep_origin(request, old, object)?;
                if is_same_spec(request, old, object) {
                    return Ok(Admitted::default());
                }
                refuse_declared(request, old, "change its spec")
            }
        }
    }
}

fn refuse_protected(request: &Request<'_>, stored: &Value) -> Result<(), Denied> {
    let by_spec = stored.pointer("/spec/protect").and_then(Value::as_bool) == Some(true);
    let by_annotation = annotation(stored, annotations::PROTECT) == Some("true");
    let (field, undo) = match (by_spec, by_annotation) {
        (true, _) => ("spec.protect".to_owned(), "set `spec.protect: false`"),
        (false, true) => (format!("metadata.annotations[{}]", annotations::PROTECT), "remove the annotation"),
        (false, false) => return Ok(()),
    };
    Err(Denied::Forbidden {
        message: format!("cluster {} is protected: {undo} before deleting it", request.name),
        causes: vec![cause(field, "protects the cluster from deletion")],
    })
}

/// Refuses where a file declares the Cluster.
fn refuse_declared(request: &Request<'_>, stored: &Value, what: &str) -> Result<Admitted, Denied> {
    let Some(source) = annotation(stored, annotations::SOURCE).filter(|source| *source != annotations::SOURCE_CLI)
    else {
        return Ok(Admitted::default());
    };
    let place = place(request, stored, source);
    let name = request.name;
    Err(Denied::Forbidden {
        message: format!(
            "cluster {name} is declared in {place}: to {what}, edit or remove it there, or `kina detach {name}`"
        ),
        causes: vec![cause(format!("metadata.annotations[{}]", annotations::SOURCE), &format!("declared in {place}"))],
    })
}

/// `FILE:LINE`, with the root of the source where that is known.
fn place(request: &Request<'_>, stored: &Value, source: &str) -> String {
    let resource =
        ResourceId { group: api::GROUP.to_owned(), version: api::VERSION.to_owned(), plural: "sources".to_owned() };
    let object = request.reader.get(&resource, None, source);
    let root = object.as_ref().and_then(|object| object.pointer("/spec/path")?.as_str());
    let path = annotation(stored, annotations::SOURCE_PATH).unwrap_or("?");
    let line = annotation(stored, annotations::SOURCE_LINE).unwrap_or("?");
    match root {
        Some(root) => format!("{}/{path}:{line}", root.trim_end_matches('/')),
        None => format!("{path}:{line}"),
    }
}

/// What is not made by a source is made by hand, whatever it says.
fn made_by_hand(object: &mut Value) -> Admitted {
    let claimed = annotation(object, annotations::SOURCE).is_some_and(|source| source != annotations::SOURCE_CLI);
    let Some(annotations) = annotations_of(object) else { return Admitted::default() };
    for key in OURS {
        annotations.remove(key);
    }
    annotations.insert(annotations::SOURCE.to_owned(), annotations::SOURCE_CLI.into());
    let warning = format!("the annotation {} is written by Kina: the cluster belongs to no file", annotations::SOURCE);
    Admitted { warnings: if claimed { vec![warning] } else { Vec::new() } }
}

/// A write that leaves them out keeps them; one that changes them is refused.
fn keep_origin(request: &Request<'_>, old: &Value, object: &mut Value) -> Result<(), Denied> {
    for key in OURS {
        let before = annotation(old, key).map(str::to_owned);
        let after = annotation(object, key);
        match (before, after) {
            (before, after) if before.as_deref() == after => {}
            (Some(before), None) => {
                if let Some(annotations) = annotations_of(object) {
                    annotations.insert(key.to_owned(), before.into());
                }
            }
            _ => {
                let message = format!(
                    "the annotation {key} of cluster {name} is written by Kina: to let go of a file, `kina detach {name}`",
                    name = request.name
                );
                let field = format!("metadata.annotations[{key}]");
                return Err(Denied::Forbidden { message, causes: vec![cause(field, "is written by Kina")] });
            }
        }
    }
    Ok(())
}

/// Whether the spec asks for the same as before. A controller may also resolve what the file leaves open.
fn is_same_spec(request: &Request<'_>, old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (spec(old), spec(new)) else {
        return old.get("spec") == new.get("spec");
    };
    let resolves = || request.user.name == users::CONTROLLERS && class::keep_resolved(&new, old.clone()) == new;
    class::keep_resolved(&old, new.clone()) == old || resolves()
}

fn spec(object: &Value) -> Option<ClusterSpec> {
    let spec = object.get("spec").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    serde_json::from_value(spec).ok()
}

fn annotation<'o>(object: &'o Value, key: &str) -> Option<&'o str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

fn annotations_of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let annotations = metadata.as_object_mut()?.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    annotations.as_object_mut()
}

fn cause(field: String, message: &str) -> FieldFault {
    FieldFault { field, reason: "FieldValueForbidden", message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::admission::Reader;
    use crate::apiserver::user::User;

    struct OneSource;

    impl Reader for OneSource {
        fn get(&self, resource: &ResourceId, _: Option<&str>, name: &str) -> Option<Value> {
            let is_it = resource.plural == "sources" && name == "clusters";
            is_it.then(|| json!({"spec": {"path": "/home/me/.kina/clusters"}}))
        }
        fn list(&self, _: &ResourceId) -> Vec<Value> {
            Vec::new()
        }
    }

    fn admit(operation: Operation, user: &str, old: Option<&Value>, object: &mut Value) -> Result<Admitted, Denied> {
        let resource = ResourceId { group: "kina.dev".into(), version: "v1alpha1".into(), plural: "clusters".into() };
        let request = Request {
            operation,
            subresource: None,
            resource: &resource,
            name: "dev",
            namespace: None,
            user: &User::named(user),
            old,
            dry_run: false,
            field_manager: None,
            reader: &OneSource,
        };
        SourceOwnership.admit(&request, &mut Draft::of(object))
    }

    fn declared(spec: Value) -> Value {
        json!({
            "metadata": {"name": "dev", "annotations": {
                "kina.dev/source": "clusters", "kina.dev/source-path": "dev.yaml", "kina.dev/source-line": "3", "kina.dev/source-hash": "abc",
            }},
            "spec": spec,
        })
    }

    fn message(result: Result<Admitted, Denied>) -> String {
        match result {
            Err(Denied::Forbidden { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_its_source_deletes_what_a_file_declares() {
        let old = declared(json!({}));
        for user in [users::ADMIN, users::CONTROLLERS] {
            let refused = message(admit(Operation::Delete, user, Some(&old), &mut old.clone()));
            assert_eq!(
                refused,
                "cluster dev is declared in /home/me/.kina/clusters/dev.yaml:3: to delete it, edit or remove it there, or `kina detach dev`"
            );
        }
        admit(Operation::Delete, users::SOURCES, Some(&old), &mut old.clone()).unwrap();
        let mut by_hand = old;
        by_hand["metadata"]["annotations"] = json!({"kina.dev/source": "cli"});
        admit(Operation::Delete, users::ADMIN, Some(&by_hand), &mut by_hand.clone()).unwrap();
    }

    #[test]
    fn nobody_deletes_what_is_protected() {
        let by_spec = declared(json!({"protect": true}));
        let mut by_annotation = declared(json!({}));
        by_annotation["metadata"]["annotations"]["kina.dev/protect"] = json!("true");
        for user in [users::ADMIN, users::CONTROLLERS, users::SOURCES] {
            for old in [&by_spec, &by_annotation] {
                assert!(message(admit(Operation::Delete, user, Some(old), &mut old.clone())).contains("is protected"));
            }
        }
    }

    #[test]
    fn another_spec_is_refused_with_file_and_line_and_the_same_is_not() {
        let old = declared(json!({"workers": [{"name": "a"}], "runtime": "sim"}));
        let mut new = declared(json!({"workers": [{"name": "a", "replicas": 5}], "runtime": "sim"}));
        let refused = message(admit(Operation::Update, users::ADMIN, Some(&old), &mut new));
        assert!(refused.contains("clusters/dev.yaml:3: to change its spec"), "{refused}");
        admit(Operation::Update, users::SOURCES, Some(&old), &mut new).unwrap();
        // The same with defaults written out, and without what was resolved.
        let mut same = declared(json!({"workers": [{"name": "a", "replicas": 1}]}));
        admit(Operation::Update, users::ADMIN, Some(&old), &mut same).unwrap();
    }

    #[test]
    fn controllers_resolve_what_the_file_leaves_open_and_nothing_else() {
        let old = declared(json!({"runtime": "auto", "networking": {"apiServer": {"port": 0}}}));
        let mut resolved = declared(json!({
            "runtime": "sim", "kubernetesVersion": "v1.35.5", "networking": {"apiServer": {"port": 40001}, "podSubnet": "10.244.0.0/16"},
        }));
        admit(Operation::Update, users::CONTROLLERS, Some(&old), &mut resolved.clone()).unwrap();
        assert!(admit(Operation::Update, users::ADMIN, Some(&old), &mut resolved).is_err());
        let mut other = declared(json!({"runtime": "sim", "paused": true}));
        assert!(admit(Operation::Update, users::CONTROLLERS, Some(&old), &mut other).is_err());
    }

    #[test]
    fn labels_and_annotations_are_free_but_for_those_of_origin() {
        let old = declared(json!({}));
        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"a": "b"});
        new["metadata"]["annotations"]["kina.dev/detach"] = json!("");
        admit(Operation::Update, users::ADMIN, Some(&old), &mut new).unwrap();
        let mut without = old.clone();
        without["metadata"]["annotations"] = json!({"mine": "x"});
        admit(Operation::Update, users::ADMIN, Some(&old), &mut without).unwrap();
        assert_eq!(without["metadata"]["annotations"]["kina.dev/source-path"], "dev.yaml");
        let mut stolen = old.clone();
        stolen["metadata"]["annotations"]["kina.dev/source"] = json!("cli");
        assert!(message(admit(Operation::Update, users::ADMIN, Some(&old), &mut stolen)).contains("kina detach dev"));
    }

    #[test]
    fn what_is_made_by_hand_says_so() {
        let mut new = json!({"metadata": {"name": "dev"}, "spec": {}});
        assert_eq!(admit(Operation::Create, users::ADMIN, None, &mut new).unwrap(), Admitted::default());
        assert_eq!(new["metadata"]["annotations"], json!({"kina.dev/source": "cli"}));
        let mut copied = declared(json!({}));
        assert_eq!(admit(Operation::Create, users::ADMIN, None, &mut copied).unwrap().warnings.len(), 1);
        assert_eq!(copied["metadata"]["annotations"], json!({"kina.dev/source": "cli"}));
        let mut by_source = declared(json!({}));
        admit(Operation::Create, users::SOURCES, None, &mut by_source).unwrap();
        assert_eq!(by_source, declared(json!({})));
    }
}
