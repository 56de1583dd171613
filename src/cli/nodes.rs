//! `kina get nodes`: the nodes of clusters as their Machines tell, also where a cluster does not answer.

use jiff::Timestamp;
use serde_json::Value;

use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::get::{self, Reader, Selection};
use super::kinds::Which;
use super::output::{self, Format, Headings};
use crate::apiserver::table::age;
use crate::ui::table;

/// Which nodes.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// Of this cluster; of all without.
    pub cluster: Option<String>,
    /// Of these names; all without.
    pub names: Vec<String>,
    /// With these labels and fields.
    pub selection: Selection,
}

/// Prints them.
///
/// # Errors
/// Where a cluster or a node is not there, or the API does not answer.
pub async fn show(
    wanted: &Nodes,
    (format, headings): &(Format, Headings),
    context: &mut Context,
    reader: &Reader,
) -> Result<(), CliError> {
    if let Some(cluster) = &wanted.cluster {
        get::expect_cluster(&reader.client, cluster).await?;
    }
    let mut selection = wanted.selection.clone();
    if let Some(cluster) = &wanted.cluster {
        let own = format!("spec.cluster={cluster}");
        selection.fields = Some(selection.fields.map_or(own.clone(), |fields| format!("{fields},{own}")));
    }
    let mut machines = get::list(&reader.client, Which::Machines, &selection).await?;
    let mut failures = Failures::default();
    for name in &wanted.names {
        if !machines.iter().any(|machine| output::name_of(machine) == name) {
            let error = CliError::new(Exit::NotFound, format!("there is no node `{name}`"));
            failures.add(context, error.hint("`kina get nodes` lists them"))?;
        }
    }
    if !wanted.names.is_empty() {
        machines.retain(|machine| wanted.names.iter().any(|name| name == output::name_of(machine)));
    }
    let now = context.world.clock.now();
    reader.correct(Which::Machines, &mut machines, now).await?;
    if machines.is_empty() && format.is_table() {
        if wanted.names.is_empty() {
            let of = wanted.cluster.as_ref().map(|cluster| format!(" in cluster {cluster}"));
            context.printer.talk(&format!("No nodes{}.", of.unwrap_or_default()));
        }
        return failures.end();
    }
    match format {
        // As kind prints them, for loops of a shell.
        Format::Name => {
            let names = machines.iter().map(|machine| output::name_of(machine).to_owned()).collect();
            output::lines(&mut context.printer, names)?;
        }
        Format::Table | Format::Wide => {
            let rows = rows(&machines, *format == Format::Wide, *headings, now);
            output::lines(&mut context.printer, table::align(&rows))?;
        }
        _ => {
            let is_list = wanted.names.len() != 1;
            let kind = Which::Machines.kind()?;
            output::print(&mut context.printer, &kind, machines, is_list, (format, *headings), now)?;
        }
    }
    failures.end()
}

fn rows(machines: &[Value], wide: bool, headings: Headings, now: Timestamp) -> Vec<Vec<String>> {
    let row = |cells: Vec<String>, more: Vec<String>| if wide { [cells, more].concat() } else { cells };
    let titles = |titles: &[&str]| titles.iter().map(|&title| title.to_owned()).collect::<Vec<String>>();
    let heading =
        row(titles(&["NAME", "CLUSTER", "ROLE", "STATUS", "VERSION", "AGE"]), titles(&["ADDRESS", "RUNTIME", "IMAGE"]));
    let text = |machine: &Value, field: &str| machine["spec"][field].as_str().unwrap_or_default().to_owned();
    let of = |machine: &Value| {
        let made = machine["metadata"]["creationTimestamp"].as_str().and_then(|time| time.parse().ok());
        let cells = vec![
            output::name_of(machine).to_owned(),
            text(machine, "cluster"),
            text(machine, "role"),
            status(machine),
            text(machine, "kubernetesVersion"),
            made.map(|made| age(made, now)).unwrap_or_default(),
        ];
        row(cells, ["address", "runtime", "image"].map(|field| text(machine, field)).to_vec())
    };
    let headings = if headings == Headings::Shown { vec![heading] } else { Vec::new() };
    headings.into_iter().chain(machines.iter().map(of)).collect()
}

/// `Ready`, or what it is instead.
fn status(machine: &Value) -> String {
    let mut conditions = machine["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let phase = machine["status"]["phase"].as_str().unwrap_or("Pending");
    if !machine["metadata"]["deletionTimestamp"].is_null() {
        "Deleting".to_owned()
    } else if is_ready {
        "Ready".to_owned()
    } else if phase == "Running" {
        "NotReady".to_owned()
    } else {
        phase.to_owned()
    }
}
