//! `kina history`: what happened to a cluster and its machines, in order of time, from everything that the API keeps of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use super::get;
use super::output::{self, Document};
use super::session::{Need, Session};
use crate::api::{Cluster, Machine};
use crate::apiserver::table::age;
use crate::ui::table;
use crate::ui::view::Happening;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The cluster
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// At most so many entries, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Print it as a document for programs, with exact times
    #[arg(short, long, value_enum)]
    output: Option<Document>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    at: Timestamp,
    /// `Event`, `Condition`, `Write` or `Life`.
    kind: &'static str,
    object: String,
    what: String,
    message: String,
    is_warning: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let session = Session::open(context, Need::Read, None).await?;
    let client = session.client.clone();
    let entries = session.run(gather(&args.cluster, &client)).await?;
    let skipped = entries.len().saturating_sub(args.limit);
    let entries = &entries[skipped..];
    if let Some(format) = args.output {
        let value = json!({"cluster": args.cluster, "skipped": skipped,
            "entries": entries.iter().map(Entry::value).collect::<Vec<_>>()});
        return output::document(&mut context.printer, &value, format);
    }
    if skipped > 0 {
        context.printer.talk(&format!("note: {skipped} older entries are not shown (`--limit`)"));
    }
    let now = context.world.clock.now();
    let headings = ["AGO", "OBJECT", "WHAT", "MESSAGE"].map(str::to_owned).to_vec();
    let row = |entry: &Entry| {
        let mark = if entry.is_warning { "! " } else { "" };
        vec![age(entry.at, now), entry.object.clone(), format!("{mark}{}", entry.what), entry.message.clone()]
    };
    let rows: Vec<Vec<String>> = std::iter::once(headings).chain(entries.iter().map(row)).collect();
    output::lines(&mut context.printer, table::align(&rows))
}

impl Entry {
    fn value(&self) -> Value {
        json!({"at": self.at.to_string(), "kind": self.kind, "object": self.object, "what": self.what,
            "message": self.message, "warning": self.is_warning})
    }
}

/// Everything that happened to a cluster, as a document.
///
/// # Errors
/// Where it is not there, or the API does not answer.
pub async fn document(name: &str, client: &Client) -> Result<Value, CliError> {
    Ok(Value::Array(gather(name, client).await?.iter().map(Entry::value).collect()))
}

async fn gather(name: &str, client: &Client) -> Result<Vec<Entry>, CliError> {
    let found = Api::<Cluster>::all(client.clone()).get_opt(name).await;
    let found = found.map_err(|error| CliError::request(&format!("get cluster/{name}"), error))?;
    let Some(cluster) = found else { return Err(get::absent(client, name).await) };
    let params = ListParams::default().fields(&format!("spec.cluster={name}"));
    let machines = Api::<Machine>::all(client.clone()).list(&params).await;
    let machines = machines.map_err(|error| CliError::request("list machines", error))?.items;
    let others = Api::<Cluster>::all(client.clone()).list_metadata(&ListParams::default()).await;
    let others = others.map_err(|error| CliError::request("list clusters", error))?.items;
    let others: Vec<String> = others.iter().map(ResourceExt::name_any).collect();
    let events = Api::<Event>::all(client.clone()).list(&ListParams::default()).await;
    let events = events.map_err(|error| CliError::request("list events", error))?.items;

    let mut entries = Vec::new();
    let status = cluster.status.clone().unwrap_or_default();
    of_object(&format!("cluster/{name}"), &cluster, &status.conditions, &mut entries);
    writes(&format!("cluster/{name}"), &cluster, &mut entries);
    for machine in &machines {
        let status = machine.status.clone().unwrap_or_default();
        of_object(&format!("machine/{}", machine.name_any()), machine, &status.conditions, &mut entries);
    }
    entries.extend(events.iter().filter(|event| is_about(event, &cluster, &others)).filter_map(told));
    // Within a second, as things follow from each other.
    let rank = |entry: &Entry| ["Life", "Write", "Condition", "Event"].iter().position(|kind| *kind == entry.kind);
    entries.sort_by(|left, right| {
        (left.at, rank(left), &left.object, &left.what).cmp(&(right.at, rank(right), &right.object, &right.what))
    });
    Ok(entries)
}

/// Of a Cluster of this name that is gone, nothing counts; of machines that are gone, everything does.
fn is_about(event: &Event, cluster: &Cluster, others: &[String]) -> bool {
    let (about, name) = (&event.involved_object, cluster.name_any());
    match about.kind.as_deref() {
        Some("Cluster") => about.name.as_deref() == Some(&*name) && (about.uid.is_none() || about.uid == cluster.uid()),
        Some("Machine") => {
            let machine = about.name.as_deref().unwrap_or_default();
            let is_later = Happening::of(event)
                .zip(cluster.creation_timestamp())
                .is_some_and(|(happening, created)| happening.at >= created.0);
            // `a-b-c-0` is of the cluster `a-b` where there is one, and of `a` otherwise.
            let is_of = |name: &str| machine.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
            is_later && is_of(&name) && !others.iter().any(|other| other.len() > name.len() && is_of(other))
        }
        _ => false,
    }
}

fn told(event: &Event) -> Option<Entry> {
    let happening = Happening::of(event)?;
    let (kind, name) = happening.object.split_once('/')?;
    let times = if happening.count > 1 { format!(" ({} times)", happening.count) } else { String::new() };
    Some(Entry {
        at: happening.at,
        kind: "Event",
        object: format!("{}/{name}", kind.to_lowercase()),
        what: happening.reason,
        message: format!("{}{times}", happening.message),
        is_warning: happening.is_warning,
    })
}

/// When it was made, is to go, and when each of its conditions became what it is.
fn of_object<K: ResourceExt>(name: &str, object: &K, conditions: &[Condition], entries: &mut Vec<Entry>) {
    let mut add = |at: Timestamp, kind, what: String, message: String| {
        entries.push(Entry { at, kind, object: name.to_owned(), what, message, is_warning: false });
    };
    if let Some(created) = object.creation_timestamp() {
        add(created.0, "Life", "Created".to_owned(), String::new());
    }
    if let Some(deleted) = &object.meta().deletion_timestamp {
        add(deleted.0, "Life", "Deleting".to_owned(), String::new());
    }
    for condition in conditions {
        let Condition { type_, status, reason, message, last_transition_time, .. } = condition;
        let message = if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") };
        add(last_transition_time.0, "Condition", format!("{type_}={status}"), message);
    }
}

/// Who wrote the spec last, and when: one entry for each that did.
fn writes(name: &str, cluster: &Cluster, entries: &mut Vec<Entry>) {
    let generation = cluster.metadata.generation.unwrap_or_default();
    let managers = cluster.managed_fields();
    let spec_writers = managers.iter().filter(|entry| entry.subresource.is_none() && owns_spec(entry));
    let newest = spec_writers.clone().filter_map(|entry| entry.time.as_ref().map(|time| time.0)).max();
    for entry in spec_writers {
        let (Some(time), Some(manager)) = (&entry.time, &entry.manager) else { continue };
        let how = entry.operation.as_deref().unwrap_or("Update").to_lowercase();
        let is_newest = Some(time.0) == newest;
        let message = if is_newest { format!("generation {generation}") } else { String::new() };
        entries.push(Entry {
            at: time.0,
            kind: "Write",
            object: name.to_owned(),
            what: format!("Written by {manager}"),
            message: [how, message].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "),
            is_warning: false,
        });
    }
}

fn owns_spec(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:spec").is_some())
}
