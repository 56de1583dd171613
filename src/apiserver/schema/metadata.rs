//! The rules of `metadata` (`apimachinery/pkg/api/validation/objectmeta.go`).

use serde_json::Value;

use super::names::{is_dns1035_label, is_dns1123_label, is_dns1123_subdomain, is_label_value, is_qualified_name};
use crate::apiserver::kind::{FieldFault, Kind, Scope};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
    and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), of at most 63 characters";

/// Keys and values of all annotations together, in bytes (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Checks the metadata of an object that is about to be stored: name and namespace, labels, annotations, owner
/// references and finalizers. Its types are [`super::validate`]'s business, which runs before.
pub fn validate_metadata(kind: &Kind, object: &Value) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let metadata = &object["metadata"];
    name(kind, metadata, &mut faults);
    namespace(kind, metadata, &mut faults);
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified_name(key) {
            faults.push(invalid("metadata.labels", key, QUALIFIED));
        }
        let value = value.as_str().unwrap_or_default();
        if !is_label_value(value) {
            faults.push(invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    annotations(metadata, &mut faults);
    owners(metadata, &mut faults);
    for (index, finalizer) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        let field = format!("metadata.finalizers[{index}]");
        if !is_qualified_name(finalizer) {
            faults.push(invalid(&field, finalizer, QUALIFIED));
        } else if !finalizer.contains('/') && !matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes") {
            faults.push(invalid(
                &field,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    faults
}

/// Checks what may not change in the metadata of a stored object. A name, UID or namespace that differs is a fault;
/// one that is missing in the new object has to be taken over from the old one before.
pub fn validate_metadata_update(old: &Value, new: &Value) -> Vec<FieldFault> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    let mut faults = Vec::new();
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if old[field] != new[field] {
            faults.push(FieldFault {
                field: format!("metadata.{field}"),
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {}: field is immutable", new[field]),
            });
        }
    }
    if !old["deletionTimestamp"].is_null() {
        let known = old["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let added = new["finalizers"].as_array().into_iter().flatten().filter(|name| !known.contains(name));
        let added: Vec<String> = added.map(Value::to_string).collect();
        if !added.is_empty() {
            faults.push(FieldFault {
                field: "metadata.finalizers".into(),
                reason: "FieldValueForbidden",
                message: format!(
                    "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{}}}",
                    added.join(", ")
                ),
            });
        }
    }
    faults
}

fn name(kind: &Kind, metadata: &Value, faults: &mut Vec<FieldFault>) {
    let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) else {
        faults.push(FieldFault {
            field: "metadata.name".into(),
            reason: "FieldValueRequired",
            message: "Required value: name or generateName is required".into(),
        });
        return;
    };
    // As the built-in kinds do it: core/validation ValidateNamespaceName, ValidateServiceName; everything else that
    // is served here takes subdomains (as custom resources do).
    let (valid, rule) = match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        ("", "namespaces") => (is_dns1123_label(name), LABEL),
        ("", "services") => (is_dns1035_label(name), LABEL_1035),
        _ => (is_dns1123_subdomain(name), SUBDOMAIN),
    };
    if !valid {
        faults.push(invalid("metadata.name", name, rule));
    }
}

fn namespace(kind: &Kind, metadata: &Value, faults: &mut Vec<FieldFault>) {
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    match (kind.scope, namespace) {
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => faults.push(FieldFault {
            field: "metadata.namespace".into(),
            reason: "FieldValueForbidden",
            message: "Forbidden: not allowed on this type".into(),
        }),
        (Scope::Namespaced, "") => faults.push(FieldFault {
            field: "metadata.namespace".into(),
            reason: "FieldValueRequired",
            message: "Required value".into(),
        }),
        (Scope::Namespaced, namespace) if !is_dns1123_label(namespace) => {
            faults.push(invalid("metadata.namespace", namespace, LABEL));
        }
        (Scope::Namespaced, _) => {}
    }
}

fn annotations(metadata: &Value, faults: &mut Vec<FieldFault>) {
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        // Kubernetes checks the key in lower case.
        if !is_qualified_name(&key.to_lowercase()) {
            faults.push(invalid("metadata.annotations", key, QUALIFIED));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        faults.push(FieldFault {
            field: "metadata.annotations".into(),
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"),
        });
    }
}

fn owners(metadata: &Value, faults: &mut Vec<FieldFault>) {
    let mut controllers = 0;
    for (index, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                faults.push(FieldFault {
                    field: format!("metadata.ownerReferences[{index}].{field}"),
                    reason: "FieldValueRequired",
                    message: "Required value: must not be empty".into(),
                });
            }
        }
        controllers += usize::from(owner["controller"].as_bool().unwrap_or_default());
    }
    if controllers > 1 {
        faults.push(FieldFault {
            field: "metadata.ownerReferences".into(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {controllers}: only one reference can have Controller set to true"),
        });
    }
}

fn invalid(field: &str, value: &str, rule: &str) -> FieldFault {
    FieldFault {
        field: field.into(),
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {}: {rule}", Value::from(value)),
    }
}
