//! The generated parts of `docs/`: fields from the kinds' schemas and their classes, commands from their definitions. They
//! stand between two marks, with text of people around them; a test fails while they are not current.
//!
//! `KINA_WRITE_DOCS=1 cargo test --lib cli::reference` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use kube::CustomResourceExt;
use serde_json::Value;

use super::Cli;
use crate::api::class::{self, Class};
use crate::api::{Cluster, Machine, Source};
use crate::observability::Metrics;

/// Fields in the order in which manifests have them; what is not named here comes last, by name.
const ORDER: [&str; 42] = [
    "phase",
    "observedGeneration",
    "conditions",
    "kubernetesVersion",
    "image",
    "runtime",
    "controlPlane",
    "workers",
    "networking",
    "featureGates",
    "runtimeConfig",
    "drift",
    "deletionPolicy",
    "paused",
    "protect",
    "allowRecreate",
    "ttl",
    "name",
    "cluster",
    "role",
    "pool",
    "ordinal",
    "replicas",
    "resources",
    "labels",
    "taints",
    "extraMounts",
    "extraPortMappings",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "podSubnet",
    "serviceSubnet",
    "nodeSubnet",
    "cni",
    "apiServer",
    "kubeProxyMode",
    "dnsSearch",
    "hostPath",
    "containerPort",
    "mode",
    "interval",
    "key",
];

/// One field of a kind.
struct Field {
    /// Such as `workers[].taints[].key`.
    path: String,
    schema: Value,
}

impl Field {
    fn text(&self, key: &str) -> &str {
        self.schema[key].as_str().unwrap_or_default()
    }

    /// What it means, and the sentence about its default.
    fn description(&self) -> (String, Option<String>) {
        let text = self.text("description").split_whitespace().collect::<Vec<_>>().join(" ");
        match text.split_once(" Default") {
            Some((meaning, default)) => {
                let default = default.trim_start_matches(':').trim().trim_end_matches('.');
                (meaning.to_owned(), Some(default.to_owned()))
            }
            None => (text, None),
        }
    }

    fn default(&self) -> String {
        if let Some(default) = self.description().1 {
            return default;
        }
        match (&self.schema["default"], self.text("type")) {
            (Value::Null, "boolean") => "`false`".to_owned(),
            (Value::Null | Value::Object(_), _) => String::new(),
            (Value::String(text), _) => format!("`{text}`"),
            (value, _) => format!("`{value}`"),
        }
    }

    fn kind(&self) -> String {
        if self.schema["x-kubernetes-int-or-string"] == true {
            return "number or text".to_owned();
        }
        if let Some(words) = self.schema["enum"].as_array() {
            let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
            return words.join(", ");
        }
        let bound = |key: &str| self.schema[key].as_f64();
        match (self.text("type"), bound("minimum"), bound("maximum")) {
            ("integer", Some(least), Some(most)) => format!("integer, {least} to {most}"),
            ("integer", ..) => "integer".to_owned(),
            ("string", ..) if self.text("format") == "date-time" => "time".to_owned(),
            ("string", ..) => "text".to_owned(),
            ("boolean", ..) => "`true`, `false`".to_owned(),
            ("array", ..) if self.schema["items"]["type"] == "string" => "list of texts".to_owned(),
            ("array", ..) => "list".to_owned(),
            ("object", ..) if self.schema["additionalProperties"]["type"] == "boolean" => {
                "map of truth values".to_owned()
            }
            ("object", ..) if self.schema["additionalProperties"].is_object() => "map of texts".to_owned(),
            _ => "map".to_owned(),
        }
    }

    /// Whether it holds fields of its own, and has no value apart from them.
    fn is_branch(&self) -> bool {
        self.schema["properties"].is_object() || self.path == "workers"
    }
}

/// All fields below a schema, parents first.
fn fields(schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect("", schema, &mut found);
    found
}

fn collect(prefix: &str, schema: &Value, found: &mut Vec<Field>) {
    let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    let mut properties: Vec<(&String, &Value)> = schema["properties"].as_object().into_iter().flatten().collect();
    properties.sort_by_key(|(name, _)| (rank(name), (*name).clone()));
    for (name, property) in properties {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        found.push(Field { path: path.clone(), schema: property.clone() });
        // Conditions are Kubernetes' own.
        if name != "conditions" {
            collect(&path, property, found);
            collect(&format!("{path}[]"), &property["items"], found);
        }
    }
}

fn schema_of(crd: &Value, part: &str) -> Value {
    let pointer = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}");
    crd.pointer(&pointer).unwrap().clone()
}

fn crd<K: CustomResourceExt>() -> Value {
    serde_json::to_value(K::crd()).unwrap()
}

fn class_of(field: &Field) -> Class {
    class::of_field(&field.path.replace("[]", "")).unwrap_or_else(|| panic!("{} has no class", field.path))
}

fn row(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn cluster_spec() -> String {
    let mut text = row(&["Field", "Type", "Default", "Class", "Meaning"]) + "|---|---|---|---|---|\n";
    for field in fields(&schema_of(&crd::<Cluster>(), "spec")) {
        let class = if field.is_branch() { "" } else { class_of(&field).as_str() };
        let name = format!("`{}`", field.path);
        text += &row(&[&name, &field.kind(), &field.default(), class, &field.description().0]);
    }
    text
}

fn plain(schema: &Value) -> String {
    let mut text = row(&["Field", "Type", "Meaning"]) + "|---|---|---|\n";
    for field in fields(schema) {
        text += &row(&[&format!("`{}`", field.path), &field.kind(), &field.description().0]);
    }
    text
}

fn classes() -> String {
    let mut by_class: BTreeMap<Class, Vec<String>> = BTreeMap::new();
    for field in fields(&schema_of(&crd::<Cluster>(), "spec")) {
        // A limit, a taint, a mount, a mapping or a patch is told with its parent.
        let parts = [
            "resources.",
            "taints[].",
            "extraMounts[].",
            "extraPortMappings[].",
            "JSON6902[].",
            "registries[].",
            "addons[].",
        ];
        let is_part = parts.iter().any(|part| field.path.contains(part));
        if !field.is_branch() && !is_part {
            by_class.entry(class_of(&field)).or_default().push(format!("`{}`", field.path));
        }
        if field.path.ends_with("resources") {
            by_class.entry(Class::Roll).or_default().push(format!("`{}`", field.path));
        }
    }
    let mut text = row(&["Class", "Fields of `spec`"]) + "|---|---|\n";
    for (class, fields) in by_class {
        text += &row(&[&format!("*{}*", class.as_str()), &fields.join(", ")]);
    }
    text
}

fn commands() -> String {
    // Neither the terminal nor the environment of whoever renders it shows.
    let mut cli = Cli::command().term_width(100);
    cli.build();
    let mut text = help(&mut cli, "kina");
    let verbs: Vec<String> = cli.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for verb in verbs {
        let command = cli.find_subcommand_mut(&verb).unwrap();
        text += &help(&mut command.clone().term_width(100), &format!("kina {verb}"));
        for part in
            command.get_subcommands().map(|part| (part.get_name(), part.clone())).filter(|(name, _)| *name != "help")
        {
            text += &help(&mut part.1.term_width(100), &format!("kina {verb} {}", part.0));
        }
    }
    text
}

fn help(command: &mut clap::Command, title: &str) -> String {
    let shown = command.render_long_help().to_string();
    // The same everywhere: told once, with `kina` itself.
    let shown = if title == "kina" { shown.as_str() } else { shown.split("Global options:").next().unwrap() };
    let lines: Vec<&str> = shown.trim_end().lines().map(str::trim_end).collect();
    format!("## `{title}`\n\n```text\n{}\n```\n\n", lines.join("\n"))
}

/// All metrics, as they show once each has been counted.
fn metrics() -> String {
    let text = Metrics::one_of_each().encode();
    let mut table = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, meaning) = line.split_once(' ').unwrap();
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let series = text.lines().find(|line| line.starts_with(name)).unwrap();
        let labels = series.split(['{', '}']).nth(1).unwrap_or_default().split(',');
        let labels = labels.filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        let labels: Vec<String> = labels.filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
        let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        table += &format!("| `{shown}` | {kind} | {} | {} |\n", labels.join(", "), meaning);
    }
    table
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text with the block of that name replaced.
fn with_block(text: &str, name: &str, block: &str) -> String {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no block {name}"));
    let (_, after) = rest.split_once(end).unwrap();
    format!("{before}{begin}\n{}\n\n{end}{after}", block.trim())
}

#[test]
fn the_generated_parts_of_the_documentation_are_current() {
    let (cluster, machine, source) = (crd::<Cluster>(), crd::<Machine>(), crd::<Source>());
    let blocks = [
        ("reference/manifest.md", "cluster-spec", cluster_spec()),
        ("reference/manifest.md", "cluster-status", plain(&schema_of(&cluster, "status"))),
        ("reference/manifest.md", "machine-spec", plain(&schema_of(&machine, "spec"))),
        ("reference/manifest.md", "machine-status", plain(&schema_of(&machine, "status"))),
        ("reference/manifest.md", "source-status", plain(&schema_of(&source, "status"))),
        ("reference/commands.md", "commands", commands()),
        ("user-guide.md", "classes", classes()),
        ("reference/metrics.md", "metrics", metrics()),
    ];
    let is_writing = std::env::var_os("KINA_WRITE_DOCS").is_some();
    let mut stale = Vec::new();
    for (file, name, block) in &blocks {
        let path = docs().join(file);
        let before = read(&path);
        let after = with_block(&before, name, block);
        if before != after {
            stale.push(format!("{file}: {name}"));
            if is_writing {
                std::fs::write(&path, after).unwrap();
            }
        }
    }
    assert!(
        stale.is_empty() || is_writing,
        "not current: {stale:?}; `KINA_WRITE_DOCS=1 cargo test --lib cli::reference`"
    );
}

/// Where words stand that people see as a phase, a condition's reason, a wait, a step or an event: files and directories.
const SPOKEN: [&str; 6] = [
    "controllers/cluster",
    "controllers/machine",
    "controllers/retry.rs",
    "sources/plan",
    "sources/run/mod.rs",
    "system/last_known.rs",
];

fn spoken_files() -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let below = |path: PathBuf| match std::fs::read_dir(&path) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![path],
    };
    let is_test = |path: &PathBuf| path.to_string_lossy().ends_with("tests.rs");
    SPOKEN.iter().flat_map(|path| below(source.join(path))).filter(|path| !is_test(path)).collect()
}

/// Words in CamelCase that stand alone in quotes, outside tests.
fn spoken(code: &str) -> BTreeSet<&str> {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_word = |text: &&str| {
        text.len() > 4
            && text.starts_with(|letter: char| letter.is_ascii_uppercase())
            && text.chars().all(|letter| letter.is_ascii_alphabetic())
            && text.contains(|letter: char| letter.is_ascii_lowercase())
    };
    // Kinds, phases of pods, policies of budgets and statuses of conditions are no reasons.
    let others = [
        "Cluster",
        "Machine",
        "Source",
        "Node",
        "ConfigMap",
        "DaemonSet",
        "Namespace",
        "CustomResourceDefinition",
        "Succeeded",
        "AlwaysAllow",
        "False",
    ];
    let is_reason = |text: &&str| !others.contains(text);
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(is_word)
        .filter(is_reason)
        .collect()
}

#[test]
fn every_reason_is_explained() {
    let page = read(&docs().join("reference/manifest.md"));
    let mut missing = Vec::new();
    for file in spoken_files() {
        let code = read(&file);
        let words = spoken(&code);
        missing.extend(words.into_iter().filter(|word| !page.contains(&format!("`{word}`"))).map(str::to_owned));
    }
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "docs/reference/manifest.md says nothing of {missing:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("CONTRIBUTING.md"), root.join("README.md")];
    for directory in ["docs", "docs/reference", "docs/decisions"] {
        let entries = std::fs::read_dir(root.join(directory)).unwrap();
        pages.extend(
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    for page in pages.iter().filter(|page| page.exists()) {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_elsewhere = link.contains("://") || target.is_empty();
            if !is_elsewhere && !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
