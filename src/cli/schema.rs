//! `kina schema`: JSON Schemas for editors, generated from the kinds.

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::output::{self, Document};
use crate::api::{API_VERSION, Cluster, Machine, Source};
use crate::world::FileSystem;

/// Largest schema file that is read to be compared.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which kind to print
    #[arg(value_name = "KIND", value_parser = ["cluster", "machine", "source"], default_value = "cluster")]
    kind: String,
    /// Write `cluster.json`, `machine.json` and `source.json` into this directory instead
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Fail unless the files in this directory are what `--write` would write
    #[arg(long, value_name = "DIR", conflicts_with = "write")]
    check: Option<PathBuf>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if let Some(directory) = &args.write {
        return write(directory, context);
    }
    if let Some(directory) = &args.check {
        return check(directory, &*context.world.files);
    }
    let schemas = all();
    let schema = schemas.iter().find(|(name, _)| *name == args.kind).map(|(_, schema)| schema);
    output::document(&mut context.printer, schema.unwrap_or(&Value::Null), Document::Json)
}

fn write(directory: &Path, context: &mut Context) -> Result<(), CliError> {
    for (name, schema) in all() {
        let path = directory.join(format!("{name}.json"));
        let failed =
            |source| CliError::new(Exit::Failure, format!("cannot write `{}`", path.display())).because(source);
        context.world.files.create_directories(directory, 0o755).map_err(failed)?;
        context.world.files.write(&path, text(&schema).as_bytes(), 0o644).map_err(failed)?;
        context.printer.data_line(&path.display().to_string())?;
    }
    Ok(())
}

fn check(directory: &Path, files: &dyn FileSystem) -> Result<(), CliError> {
    let is_stale = |(name, schema): &(&str, Value)| {
        let path = directory.join(format!("{name}.json"));
        files.read(&path, FILE_BYTES_MAX).ok().as_deref() != Some(text(schema).as_bytes())
    };
    let stale: Vec<String> =
        all().iter().filter(|named| is_stale(named)).map(|(name, _)| format!("{name}.json")).collect();
    if stale.is_empty() {
        return Ok(());
    }
    let error = CliError::new(
        Exit::Failure,
        format!("the schemas in `{}` are not current: {}", directory.display(), stale.join(", ")),
    );
    Err(error.hint(format!("write them anew with `kina schema --write {}`", directory.display())))
}

fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

fn all() -> [(&'static str, Value); 3] {
    [("cluster", of(&Cluster::crd())), ("machine", of(&Machine::crd())), ("source", of(&Source::crd()))]
}

/// The schema of a kind as an editor wants it: draft 2020-12, with every unknown field an error.
pub fn of(crd: &CustomResourceDefinition) -> Value {
    let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    close(&mut schema);
    let kind = &crd.spec.names.kind;
    let own = |key: &str| schema.pointer(&format!("/properties/{key}")).cloned().unwrap_or_default();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("https://kina.dev/schemas/{}.json", kind.to_lowercase()),
        "title": format!("{kind} ({API_VERSION})"),
        "description": schema.get("description").cloned().unwrap_or_default(),
        "type": "object",
        "properties": {
            "apiVersion": {"description": "Always `kina.dev/v1alpha1`.", "const": API_VERSION},
            "kind": {"description": format!("Always `{kind}`."), "const": kind},
            "metadata": metadata(kind),
            "spec": own("spec"),
            "status": own("status"),
        },
        "required": ["apiVersion", "kind", "metadata"],
        "additionalProperties": false,
    })
}

fn metadata(kind: &str) -> Value {
    let longest = if kind == "Cluster" { crate::api::names::CLUSTER_NAME_MAX } else { 253 };
    let texts = |description: &str| json!({"description": description, "type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "description": "Name, labels and annotations; the rest is written by the API.",
        "type": "object",
        "properties": {
            "name": {"description": "Name, unique among objects of this kind.", "type": "string",
                "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": longest},
            "labels": texts("Texts to select by."),
            "annotations": texts("Texts for tools."),
        },
        "required": ["name"],
    })
}

/// From Kubernetes' dialect (OpenAPI 3.0) to JSON Schema, closing every object whose fields are known.
fn close(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    let is_open = fields.remove("x-kubernetes-preserve-unknown-fields") == Some(Value::Bool(true));
    if fields.remove("x-kubernetes-int-or-string") == Some(Value::Bool(true)) {
        fields.insert("type".to_owned(), json!(["integer", "number", "string"]));
    }
    if fields.remove("nullable") == Some(Value::Bool(true)) {
        allow_null(fields);
    }
    fields.retain(|key, _| !key.starts_with("x-kubernetes-"));
    // Formats of numbers are OpenAPI's own; the bounds beside them say the same.
    if matches!(
        fields.get("format").and_then(Value::as_str),
        Some("int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64")
    ) {
        fields.remove("format");
    }
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") && !is_open {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = fields.get_mut(key) {
            close(inner);
        }
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        // Parts of a whole say nothing of fields that the others know.
        if let Some(Value::Array(parts)) = fields.get_mut(key) {
            for part in parts.iter_mut().filter(|part| part.get("properties").is_none()) {
                close(part);
            }
        }
    }
}

fn allow_null(fields: &mut Map<String, Value>) {
    if let Some(Value::String(type_)) = fields.get("type").cloned() {
        fields.insert("type".to_owned(), json!([type_, "null"]));
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Disk;

    fn schema(name: &str) -> Value {
        all().into_iter().find(|(kind, _)| *kind == name).unwrap().1
    }

    /// Calls `visit` with every property and its path.
    fn properties(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            visit(&path, property);
            properties(&path, property, visit);
        }
        if schema.get("items").is_some() {
            properties(&format!("{path}[]"), &schema["items"], visit);
        }
    }

    #[test]
    fn the_schemas_in_the_repository_are_current() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        check(&directory, &Disk).map_err(|error| error.lines()).unwrap();
    }

    #[test]
    fn every_field_has_a_description() {
        let mut missing = Vec::new();
        for (name, schema) in all() {
            properties(name, &schema, &mut |path, property| {
                if property["description"].as_str().unwrap_or_default().is_empty() {
                    missing.push(path.to_owned());
                }
            });
        }
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn schemas_are_valid_and_refuse_what_does_not_exist() {
        let cluster = schema("cluster");
        assert!(jsonschema::meta::is_valid(&cluster));
        let validator = jsonschema::validator_for(&cluster).unwrap();
        let mut manifest = json!({"apiVersion": API_VERSION, "kind": "Cluster", "metadata": {"name": "dev"},
            "spec": {"controlPlane": {"replicas": 3, "resources": {"cpus": 2, "memory": "4Gi"}}, "workers": [{"name": "a"}]}});
        assert!(validator.is_valid(&manifest), "{:?}", validator.iter_errors(&manifest).collect::<Vec<_>>());
        manifest["spec"]["workerz"] = json!([]);
        assert!(!validator.is_valid(&manifest));
        assert!(jsonschema::meta::is_valid(&schema("machine")) && jsonschema::meta::is_valid(&schema("source")));
    }

    #[test]
    fn every_example_is_valid_by_the_schema_and_names_it() {
        let validator = jsonschema::validator_for(&schema("cluster")).unwrap();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let names = Disk.list(&directory).unwrap();
        assert!(names.iter().any(|name| name == "dev.yaml"));
        // That one is kind's: its schema is kind's, too.
        for name in names.iter().filter(|name| name.ends_with(".yaml") && *name != "kind.yaml") {
            let text = String::from_utf8(Disk.read(&directory.join(name), FILE_BYTES_MAX).unwrap()).unwrap();
            assert!(text.starts_with("# yaml-language-server: $schema=../schemas/cluster.json\n"), "{name}");
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            for document in documents {
                assert_eq!(document["apiVersion"], API_VERSION, "{name}");
                let errors: Vec<_> = validator.iter_errors(&document).collect();
                assert!(errors.is_empty(), "{name}: {errors:?}");
            }
        }
    }
}
