//! Manifests that a Cluster's user wants in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::patch::first_line;

/// Largest file of an addon, in bytes: the custom resources of a large operator are some two MiB.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most objects of one addon.
const OBJECTS_MAX: usize = 1000;

/// Objects that are applied in the cluster, and kept as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addon {
    /// Name, unique in the Cluster.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// File of this host with the objects, as YAML or JSON. A relative one is meant from the manifest's directory, and stored as
    /// an absolute one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
    /// The objects themselves, as YAML or JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub manifest: Option<String>,
}

/// The objects of a text, those of lists among them. Each names its kind and itself.
///
/// # Errors
/// What is wrong, in words for a person.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("is not valid YAML: {}", first_line(&error)))?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match document {
            Value::Object(mut fields) if is_list => match fields.remove("items") {
                Some(Value::Array(items)) => objects.extend(items),
                _ => return Err("has a list without `items`".to_owned()),
            },
            object => objects.push(object),
        }
    }
    if objects.is_empty() {
        return Err("holds no object".to_owned());
    }
    if objects.len() > OBJECTS_MAX {
        return Err(format!("holds more than {OBJECTS_MAX} objects"));
    }
    for (index, object) in objects.iter().enumerate() {
        for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
            let found = object.pointer(pointer).and_then(Value::as_str);
            if found.is_none_or(str::is_empty) {
                let field = pointer.trim_start_matches('/').replace('/', ".");
                return Err(format!("has no `{field}` in object {}", index + 1));
            }
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_from_documents_and_lists() {
        let text = "---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n";
        let names: Vec<String> = objects(text).unwrap().iter().map(|o| o["metadata"]["name"].to_string()).collect();
        assert_eq!(names, ["\"a\"", "\"b\""]);
    }

    #[test]
    fn what_is_no_object_is_told() {
        let error = |text: &str| objects(text).unwrap_err();
        insta::assert_snapshot!(
            [
                error(""),
                error("a: ["),
                error("just a text"),
                error("kind: List\n"),
                error("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n"),
            ]
            .join("\n")
        );
    }
}
