//! `kina explain`: what a field of a manifest means, and what it takes to change it. kubectl's layout.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::kinds::Which;
use super::schema;
use crate::api::{API_VERSION, Cluster, GROUP, Machine, Source, VERSION, class};
use crate::sources::manifest::suggest;
use crate::ui::{Line, Span, Tone};

/// Columns of a line of prose.
const WIDTH: usize = 80;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// `cluster`, `machine` or `source`, and a path below it: `cluster.spec.networking`
    #[arg(value_name = "KIND.FIELD")]
    path: String,
    /// All fields below it, in short
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Version of the API
    #[arg(long, value_name = "VERSION", value_parser = [API_VERSION], hide = true)]
    api_version: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let mut words = args.path.split('.');
    let kind = words.next().unwrap_or_default();
    let Some((name, crd)) = definition(Which::parse(kind)?) else {
        let error = CliError::new(Exit::Usage, "events are Kubernetes' own");
        return Err(error.hint("`kubectl explain events`"));
    };
    let root = schema::of(&crd);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let (path, schema) = descend(&root, kind, &words)?;
    context.printer.data(&page(name, &path, schema, args.recursive))
}

/// Kind and definition; `None` for what is not Kina's.
fn definition(which: Which) -> Option<(&'static str, CustomResourceDefinition)> {
    match which {
        Which::Clusters => Some(("Cluster", Cluster::crd())),
        Which::Machines => Some(("Machine", Machine::crd())),
        Which::Sources => Some(("Source", Source::crd())),
        Which::Events => None,
    }
}

/// The schema at a path. Lists and their elements are the same, as for kubectl.
fn descend<'a>(root: &'a Value, kind: &str, words: &[&str]) -> Result<(Vec<String>, &'a Value), CliError> {
    let (mut path, mut schema): (Vec<String>, &Value) = (Vec::new(), root);
    for word in words {
        let word = word.trim_end_matches("[]");
        let known = properties(schema);
        let Some((name, found)) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) else {
            let at = std::iter::once(kind).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
            let error = CliError::new(Exit::NotFound, format!("`{at}` has no field `{word}`"));
            let near = suggest::nearest(word, known.iter().map(|(name, _)| name.as_str()));
            return Err(match near {
                Some(near) => error.hint(format!("did you mean `{at}.{near}`?")),
                None if known.is_empty() => error.hint("it has no fields at all"),
                None => error.hint(format!("`kina explain {at}` lists its fields")),
            });
        };
        path.push(name.clone());
        schema = found;
    }
    Ok((path, schema))
}

/// Paths that begin as one that is being written: its siblings, as long as it names one.
#[must_use]
pub fn fields(written: &str) -> Vec<String> {
    let Some((before, _)) = written.rsplit_once('.') else {
        return ["cluster", "machine", "source"].map(str::to_owned).to_vec();
    };
    let mut words = before.split('.');
    let kind = words.next().unwrap_or_default();
    let Some((_, crd)) = Which::parse(kind).ok().and_then(definition) else { return Vec::new() };
    let (root, words) = (schema::of(&crd), words.collect::<Vec<_>>());
    let Ok((_, schema)) = descend(&root, kind, &words) else { return Vec::new() };
    properties(schema).into_iter().map(|(name, _)| format!("{before}.{name}")).collect()
}

fn properties(schema: &Value) -> Vec<(String, &Value)> {
    let own = schema["properties"].as_object().or_else(|| schema["items"]["properties"].as_object());
    own.into_iter().flatten().map(|(name, schema)| (name.clone(), schema)).collect()
}

/// What it takes to change a field of a Cluster; `None` for what holds fields, or is not people's to change.
fn class_of(kind: &str, path: &[String], schema: &Value) -> Option<&'static str> {
    let is_branch = !properties(schema).is_empty();
    match (kind, path.split_first()) {
        ("Cluster", Some((spec, rest))) if spec == "spec" && !rest.is_empty() && !is_branch => {
            class::of_field(&rest.join(".")).map(class::Class::as_str)
        }
        _ => None,
    }
}

fn page(kind: &str, path: &[String], schema: &Value, recursive: bool) -> String {
    let mut text = format!("GROUP:      {GROUP}\nKIND:       {kind}\nVERSION:    {VERSION}\n\n");
    if let Some(name) = path.last() {
        text.push_str(&format!("FIELD: {name} <{}>\n", type_of(schema)));
        if let Some(class) = class_of(kind, path, schema) {
            text.push_str(&format!("CLASS: {class}, {}\n", meaning(class)));
        }
        if let Some(words) = words_of(schema) {
            text.push_str(&format!("ENUM: {words}\n"));
        }
        text.push('\n');
    }
    text.push_str("DESCRIPTION:\n");
    text.push_str(&prose(schema["description"].as_str().unwrap_or("<empty>"), 4));
    let fields = properties(schema);
    if !fields.is_empty() {
        text.push_str("\nFIELDS:\n");
        if recursive {
            outline(kind, path, schema, 2, &mut text);
        } else {
            for (name, field) in &fields {
                text.push_str(&format!("  {name}\t<{}>{}\n", type_of(field), remarks(kind, path, name, field, schema)));
                text.push_str(&prose(field["description"].as_str().unwrap_or("<no description>"), 4));
                text.push('\n');
            }
        }
    }
    format!("{}\n", text.trim_end())
}

fn outline(kind: &str, path: &[String], schema: &Value, indent: usize, text: &mut String) {
    for (name, field) in properties(schema) {
        let pad = " ".repeat(indent);
        text.push_str(&format!("{pad}{name}\t<{}>{}\n", type_of(field), remarks(kind, path, &name, field, schema)));
        let below: Vec<String> = path.iter().cloned().chain([name]).collect();
        outline(kind, &below, field, indent + 2, text);
    }
}

/// What stands behind a field's type.
fn remarks(kind: &str, path: &[String], name: &str, field: &Value, parent: &Value) -> String {
    let required = parent["required"].as_array().or_else(|| parent["items"]["required"].as_array());
    let is_required = required.is_some_and(|names| names.iter().any(|required| required == name));
    let path: Vec<String> = path.iter().cloned().chain([name.to_owned()]).collect();
    let mut text = if is_required { " -required-".to_owned() } else { String::new() };
    if let Some(class) = class_of(kind, &path, field) {
        text.push_str(&format!(" ({class})"));
    }
    text
}

fn meaning(class: &str) -> &'static str {
    match class {
        "live" => "changed in place",
        "roll" => "machines are made anew one by one, with their data kept",
        _ => "the cluster is made anew, with loss of its data",
    }
}

/// Types in kubectl's words.
fn type_of(schema: &Value) -> String {
    let of = |schema: &Value| match &schema["type"] {
        Value::String(type_) => match type_.as_str() {
            "object" => match &schema["additionalProperties"] {
                Value::Object(value) => {
                    format!("map[string]{}", value.get("type").and_then(Value::as_str).unwrap_or("Object"))
                }
                _ => "Object".to_owned(),
            },
            other => other.to_owned(),
        },
        Value::Array(types) => {
            let types: Vec<&str> = types.iter().filter_map(Value::as_str).filter(|type_| *type_ != "null").collect();
            match types.as_slice() {
                ["object"] => "Object".to_owned(),
                [type_] => (*type_).to_owned(),
                _ => "integer-or-string".to_owned(),
            }
        }
        _ if schema.get("const").is_some() => "string".to_owned(),
        _ => "Object".to_owned(),
    };
    let type_ = of(schema);
    if type_ == "array" { format!("[]{}", of(&schema["items"])) } else { type_ }
}

fn words_of(schema: &Value) -> Option<String> {
    let words: Vec<&str> = schema["enum"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Text as a block.
fn prose(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let line = Line::of(Tone::Plain, text.split_whitespace().collect::<Vec<_>>().join(" "));
    let lines = line.wrap(WIDTH - indent, &Span::new(Tone::Plain, ""));
    lines.into_iter().map(|line| format!("{pad}{}\n", line.plain().trim_end())).collect()
}
