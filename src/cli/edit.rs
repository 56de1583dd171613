//! `kina edit`: a cluster in the user's editor, again and again until it is valid or given up. kubectl's loop.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::get;
use super::session::{Need, Session};
use crate::api::{API_VERSION, Cluster, Source, annotations};
use crate::sources::manifest::{Colour, FILE_BYTES_MAX, Manifest};
use crate::ui::Line;
use crate::world::uuid;

/// Field manager of what is edited: as with kubectl, an edit owns no field for good.
const FIELD_MANAGER: &str = "kina-edit";
/// Where no variable names one.
const DEFAULT_EDITOR: &str = "vi";
/// What kubectl tells, too.
const HEADER: &str = "\
# Edit the cluster below. Lines that begin with `#` are ignored, and an empty\n\
# file gives up. If what is saved cannot be applied, the file is opened again\n\
# with the error above it.\n#\n";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The cluster: `NAME`, `cluster/NAME` or `cluster NAME`
    #[arg(value_name = "CLUSTER", required = true, num_args = 1..=2)]
    what: Vec<String>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let name = named(&args.what)?;
    // The home is not kept from others for as long as a person types.
    let session = Session::open(context, Need::Read, None).await?;
    let client = session.client.clone();
    let cluster = session.run(read(&name, &client)).await?;
    edit(&name, &cluster, context).await
}

fn named(what: &[String]) -> Result<String, CliError> {
    let words: Vec<&str> = what.iter().flat_map(|word| word.split('/')).collect();
    let is_cluster = |word: &str| matches!(word.to_lowercase().as_str(), "cluster" | "clusters" | "cl");
    match words.as_slice() {
        [name] => Ok((*name).to_owned()),
        [kind, name] if is_cluster(kind) => Ok((*name).to_owned()),
        _ => Err(CliError::new(Exit::Usage, "one cluster can be edited").hint("`kina edit NAME`")),
    }
}

async fn read(name: &str, client: &Client) -> Result<Cluster, CliError> {
    let api: Api<Cluster> = Api::all(client.clone());
    let found = api.get_opt(name).await.map_err(|error| CliError::request(&format!("edit cluster/{name}"), error))?;
    let Some(cluster) = found else { return Err(get::absent(client, name).await) };
    match declared(&cluster, client).await? {
        Some(error) => Err(error),
        None => Ok(cluster),
    }
}

async fn edit(name: &str, cluster: &Cluster, context: &mut Context) -> Result<(), CliError> {
    let original = editable(cluster);
    let text = serde_saphyr::to_string(&original)
        .map_err(|error| CliError::new(Exit::Failure, format!("cannot edit cluster/{name}")).because(error))?;
    let path = context.environment.temporary.join(format!("kina-edit-{}.yaml", uuid(context.world.random.as_ref())));
    let mut draft = Draft { path, saved: format!("{HEADER}{text}"), is_first: true };
    loop {
        let edited = draft.open(context).await?;
        let content = without_comments(&edited);
        if content.trim().is_empty() {
            draft.discard(context);
            context.printer.talk("Edit cancelled: the saved file is empty.");
            return Ok(());
        }
        if content == without_comments(&draft.saved) {
            if draft.is_first {
                draft.discard(context);
                context.printer.talk("Edit cancelled: nothing was changed.");
                return Ok(());
            }
            let error = CliError::new(Exit::Invalid, "edit cancelled: no valid changes were saved");
            return Err(error.hint(draft.kept()));
        }
        let refused = match changes(name, &draft.path, &edited, &original) {
            Ok(patch) if patch == json!({}) => {
                draft.discard(context);
                context.printer.talk("Edit cancelled: nothing was changed.");
                return Ok(());
            }
            Ok(patch) => match send(name, &patch, context).await {
                Ok(()) => {
                    draft.discard(context);
                    return context.printer.data_line(&format!("cluster/{name} edited"));
                }
                // Only what is edited can mend these.
                Err(error) if matches!(error.exit(), Exit::Invalid | Exit::Refused) => plain(&error),
                Err(error) => return Err(error.hint(draft.kept())),
            },
            Err(faults) => faults,
        };
        draft.again(&refused, &content);
    }
}

/// Why a Cluster is not edited here: a file declares it.
async fn declared(cluster: &Cluster, client: &Client) -> Result<Option<CliError>, CliError> {
    let annotation = |key: &str| cluster.annotations().get(key).cloned();
    let Some(source) = annotation(annotations::SOURCE).filter(|source| source != annotations::SOURCE_CLI) else {
        return Ok(None);
    };
    let found = Api::<Source>::all(client.clone()).get_opt(&source).await;
    let root = found.map_err(|error| CliError::request(&format!("get source/{source}"), error))?;
    let path = annotation(annotations::SOURCE_PATH).unwrap_or_default();
    let path = root.map_or_else(|| PathBuf::from(&path), |root| Path::new(&root.spec.path).join(&path));
    let (name, path) = (cluster.name_any(), path.display());
    let line = annotation(annotations::SOURCE_LINE).unwrap_or_else(|| "1".to_owned());
    let error = CliError::new(Exit::Refused, format!("cluster {name} is declared in {path}:{line}, and edited there"));
    Ok(Some(error.hint(format!("`$EDITOR {path}`")).hint(format!("`kina detach {name}` lets go of the file"))))
}

/// What a person may change of a Cluster.
fn editable(cluster: &Cluster) -> Value {
    let mut metadata = json!({"name": cluster.name_any()});
    let written: Vec<(&String, &String)> = cluster.annotations().iter().filter(|(key, _)| !is_kinas(key)).collect();
    if !written.is_empty() {
        metadata["annotations"] = written.into_iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    }
    if !cluster.labels().is_empty() {
        metadata["labels"] = json!(cluster.labels());
    }
    json!({"apiVersion": API_VERSION, "kind": "Cluster", "metadata": metadata, "spec": cluster.spec})
}

/// Annotations that Kina writes.
fn is_kinas(key: &str) -> bool {
    key.starts_with(annotations::SOURCE) || key == annotations::IDENTITY
}

/// What differs, as a merge patch; where it cannot be read, why.
fn changes(name: &str, path: &Path, edited: &str, original: &Value) -> Result<Value, String> {
    let manifest = Manifest::parse(&path.display().to_string(), edited.as_bytes());
    if !manifest.faults.is_empty() {
        return Err(manifest.render(Colour::Off));
    }
    let [document] = manifest.documents.as_slice() else {
        return Err("error: exactly one Cluster is expected here".to_owned());
    };
    if document.name != name {
        return Err(format!("error: the name of a cluster cannot change: `{name}` is expected"));
    }
    let mut wanted = json!({"metadata": {}, "spec": document.spec});
    for (key, map) in [("labels", &document.labels), ("annotations", &document.annotations)] {
        wanted["metadata"][key] = json!(map);
    }
    let mut before = json!({"metadata": {}, "spec": original["spec"]});
    for key in ["labels", "annotations"] {
        before["metadata"][key] = original["metadata"].get(key).cloned().unwrap_or_else(|| json!({}));
    }
    Ok(difference(&before, &wanted))
}

/// The merge patch (RFC 7386) from one value to another.
fn difference(before: &Value, after: &Value) -> Value {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else { return after.clone() };
    let mut patch = serde_json::Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(other) if other.is_object() && value.is_object() => {
                let inner = difference(other, value);
                if inner != json!({}) {
                    patch.insert(key.clone(), inner);
                }
            }
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

async fn send(name: &str, patch: &Value, context: &mut Context) -> Result<(), CliError> {
    let session = Session::open(context, Need::Record, None).await?;
    let api: Api<Cluster> = Api::all(session.client.clone());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    let sent = async {
        let sent = api.patch(name, &params, &patch).await;
        sent.map(drop).map_err(|error| CliError::request(&format!("edit cluster/{name}"), error))
    };
    session.run(sent).await
}

fn plain(error: &CliError) -> String {
    error.lines().iter().map(Line::plain).collect::<Vec<_>>().join("\n")
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// The file that is edited.
struct Draft {
    path: PathBuf,
    /// As it is written before the editor opens it.
    saved: String,
    is_first: bool,
}

impl Draft {
    /// Writes the file, has it edited, and reads it.
    async fn open(&self, context: &Context) -> Result<String, CliError> {
        let shown = self.path.display();
        let failed = |what: &str| CliError::new(Exit::Failure, format!("cannot {what} `{shown}`"));
        let files = &*context.world.files;
        files.write(&self.path, self.saved.as_bytes(), 0o600).map_err(|error| failed("write").because(error))?;
        let editor = context.environment.editor.as_deref().unwrap_or(DEFAULT_EDITOR);
        // Split at spaces (`code --wait`) and never given to a shell.
        let mut words = editor.split_whitespace();
        let mut command = tokio::process::Command::new(words.next().unwrap_or(DEFAULT_EDITOR));
        command.args(words).arg(&self.path).stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let ended = command.status().await.map_err(|error| {
            CliError::new(Exit::Failure, format!("cannot run the editor `{editor}`"))
                .because(error)
                .hint("set `KUBE_EDITOR`, `VISUAL` or `EDITOR`")
        })?;
        if !ended.success() {
            return Err(
                CliError::new(Exit::Failure, format!("the editor `{editor}` failed: {ended}")).hint(self.kept())
            );
        }
        let bytes = files.read(&self.path, FILE_BYTES_MAX).map_err(|error| failed("read").because(error))?;
        String::from_utf8(bytes).map_err(|error| failed("read").because(error).hint(self.kept()))
    }

    /// To be opened again, with what was wrong above it.
    fn again(&mut self, why: &str, content: &str) {
        let why: String = why.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
        self.saved = format!("{HEADER}# What was saved cannot be applied:\n#\n{why}#\n{content}");
        self.is_first = false;
    }

    fn kept(&self) -> String {
        format!("what was edited is kept in {}", self.path.display())
    }

    /// A file that stays is no harm, and in nobody's way.
    fn discard(&self, context: &Context) {
        let _ = context.world.files.remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_least_that_leads_from_one_to_the_other() {
        let before = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 1});
        let after = json!({"a": {"b": 1, "c": 3}, "d": [1, 2], "f": 1});
        let patch = difference(&before, &after);
        assert_eq!(patch, json!({"a": {"c": 3}, "d": [1, 2], "e": null, "f": 1}));
        let mut merged = before;
        json_patch::merge(&mut merged, &patch);
        assert_eq!(merged, after);
        assert_eq!(difference(&after, &after), json!({}));
    }

    #[test]
    fn what_is_named_is_one_cluster() {
        let name = |words: &[&str]| named(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).ok();
        for words in [&["dev"][..], &["cluster/dev"], &["cl", "dev"]] {
            assert_eq!(name(words).as_deref(), Some("dev"));
        }
        assert!(name(&["machine/dev"]).is_none() && name(&["a", "b"]).is_none());
    }
}
