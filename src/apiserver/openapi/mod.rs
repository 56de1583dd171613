//! OpenAPI v3: one document for each group and version, which kubectl reads to explain fields, and to learn that the
//! server knows `dryRun` and `fieldValidation`. `v2` is the same for older clients, `wire` the form in which they read it.

pub(crate) mod v2;
pub(crate) mod wire;

use serde_json::{Map, Value, json};

use super::kind::{Kind, Scope};
use super::schema::object_meta;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Where a group and version is found, without a leading slash: `api/v1` or `apis/GROUP/VERSION`.
pub(crate) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The document of a group and version.
pub(crate) fn document(group: &str, version: &str, kinds: &[&Kind]) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.insert(META.into(), object_meta().document().clone());
    for kind in kinds {
        let name = component(kind);
        schemas.insert(name.clone(), object_schema(kind));
        schemas.insert(format!("{name}List"), list_schema(kind, &name));
        add_paths(kind, &name, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": format!("Kina {}", root(group, version)), "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// The name of a kind's schema, as Kubernetes forms it: the group reversed, version, kind.
fn component(kind: &Kind) -> String {
    let group: Vec<&str> = kind.resource.group.rsplit('.').filter(|part| !part.is_empty()).collect();
    let group = if group.is_empty() { "io.k8s.api.core".to_owned() } else { group.join(".") };
    format!("{group}.{}.{}", kind.resource.version, kind.kind)
}

fn gvk(kind: &Kind, suffix: &str) -> Value {
    json!({"group": kind.resource.group, "version": kind.resource.version, "kind": format!("{}{suffix}", kind.kind)})
}

/// The schema of an object, with what the server adds to it.
fn object_schema(kind: &Kind) -> Value {
    let mut schema = kind.schema.document().clone();
    let text = |description: &str| json!({"type": "string", "description": description});
    schema["properties"]["apiVersion"] = text(
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized \
         schemas to the latest internal value, and may reject unrecognized values.",
    );
    schema["properties"]["kind"] = text(
        "Kind is a string value representing the REST resource this object represents. Cannot be updated. In CamelCase.",
    );
    schema["properties"]["metadata"] = json!({"description": "Standard object's metadata.",
        "allOf": [{"$ref": format!("#/components/schemas/{META}")}]});
    schema["x-kubernetes-group-version-kind"] = json!([gvk(kind, "")]);
    schema
}

fn list_schema(kind: &Kind, name: &str) -> Value {
    json!({"description": format!("{}List is a list of {}", kind.kind, kind.kind), "type": "object",
        "required": ["items"], "x-kubernetes-group-version-kind": [gvk(kind, "List")], "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"continue": {"type": "string"},
                "remainingItemCount": {"type": "integer", "format": "int64"}, "resourceVersion": {"type": "string"}}},
            "items": {"type": "array", "items": reference(name)}}})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn add_paths(kind: &Kind, name: &str, paths: &mut Map<String, Value>) {
    let resource = &kind.resource;
    let root = root(&resource.group, &resource.version);
    let (collection, namespaced) = match kind.scope {
        Scope::Cluster => (format!("/{root}/{}", resource.plural), false),
        Scope::Namespaced => (format!("/{root}/namespaces/{{namespace}}/{}", resource.plural), true),
    };
    if kind.answer.is_some() {
        let post = with_body(operation(kind, "post", name, &WRITE), &JSON, name);
        paths.insert(collection, json!({"post": post, "parameters": path_parameters(namespaced, false)}));
        return;
    }
    let list = format!("{name}List");
    if namespaced {
        paths.insert(
            format!("/{root}/{}", resource.plural),
            json!({"get": operation(kind, "list", &list, &LIST), "parameters": []}),
        );
    }
    paths.insert(
        collection.clone(),
        json!({
            "get": operation(kind, "list", &list, &LIST),
            "post": with_body(operation(kind, "post", name, &WRITE), &JSON, name),
            "delete": operation(kind, "deletecollection", &list, &DELETE_COLLECTION),
            "parameters": path_parameters(namespaced, false),
        }),
    );
    let patch: &[&str] = match kind.flavor {
        super::kind::Flavor::Custom => &PATCH,
        super::kind::Flavor::BuiltIn => &PATCH_BUILT_IN,
    };
    let mut subresources = vec![""];
    if kind.has_status {
        subresources.push("/status");
    }
    for subresource in subresources {
        let mut item = json!({
            "get": operation(kind, "get", name, &[]),
            "put": with_body(operation(kind, "put", name, &WRITE), &JSON, name),
            "patch": with_body(operation(kind, "patch", name, &WRITE_PATCH), patch, name),
            "parameters": path_parameters(namespaced, true),
        });
        if subresource.is_empty() {
            item["delete"] = operation(kind, "delete", name, &DELETE);
        }
        paths.insert(format!("{collection}/{{name}}{subresource}"), item);
    }
}

const JSON: [&str; 1] = ["application/json"];
const PATCH: [&str; 3] =
    ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
const PATCH_BUILT_IN: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
const WRITE_PATCH: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: [&str; 4] = ["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const DELETE_COLLECTION: [&str; 6] =
    ["dryRun", "fieldSelector", "gracePeriodSeconds", "labelSelector", "orphanDependents", "propagationPolicy"];

fn operation(kind: &Kind, action: &str, answer: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters.iter().map(|name| query_parameter(name)).collect();
    let content = json!({"application/json": {"schema": reference(answer)}});
    json!({"operationId": format!("{action}{}", component(kind)), "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(kind, ""), "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": content}}})
}

fn with_body(mut operation: Value, types: &[&str], name: &str) -> Value {
    let content: Map<String, Value> =
        types.iter().map(|media| ((*media).to_owned(), json!({"schema": reference(name)}))).collect();
    operation["requestBody"] = json!({"required": true, "content": content});
    operation
}

fn query_parameter(name: &str) -> Value {
    let kind = match name {
        "allowWatchBookmarks" | "sendInitialEvents" | "watch" | "force" | "orphanDependents" => "boolean",
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        _ => "string",
    };
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn path_parameters(namespaced: bool, named: bool) -> Vec<Value> {
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let mut parameters = Vec::new();
    if named {
        parameters.push(parameter("name"));
    }
    if namespaced {
        parameters.push(parameter("namespace"));
    }
    parameters
}
