//! `kina diff CLUSTER`: what of a cluster is not as its spec says, and what its file says that is not taken over yet.

use std::path::{Path, PathBuf};

use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::context::{Context, Failures};
use super::diff;
use super::drift;
use super::error::CliError;
use super::get;
use super::session::{Need, Session};
use crate::api::class;
use crate::api::{Cluster, Machine, Source, annotations};
use crate::sources::manifest::{Colour, FILE_BYTES_MAX, Manifest};

/// Tells it of each; true where anything differs.
///
/// # Errors
/// Where a cluster is not there, or could not be compared.
pub async fn all(names: &[String], context: &mut Context) -> Result<bool, CliError> {
    let mut session = Session::open(context, Need::Read, None).await?;
    let (client, sights) = (session.client.clone(), session.sights.take());
    let work = async {
        let mut failures = Failures::default();
        let mut differs = false;
        for name in names {
            let found = Api::<Cluster>::all(client.clone()).get_opt(name).await;
            let found = found.map_err(|error| CliError::request(&format!("get cluster/{name}"), error))?;
            let Some(mut cluster) = found else {
                failures.add(context, get::absent(&client, name).await)?;
                continue;
            };
            if let Some(sights) = &sights {
                let params = ListParams::default().fields(&format!("spec.cluster={name}"));
                let machines = Api::<Machine>::all(client.clone()).list(&params).await;
                let machines = machines.map_err(|error| CliError::request("list machines", error))?.items;
                let now = context.world.clock.now();
                sights.correct_clusters(std::slice::from_mut(&mut cluster), &machines, now);
            }
            let told = live(&cluster, context) + &declared(&cluster, &client, context).await?;
            differs |= !told.is_empty();
            context.printer.data(&told)?;
            if let Some(error) = drift::unknown(&cluster) {
                failures.add(context, error)?;
            }
        }
        failures.end().map(|()| differs)
    };
    session.run(work).await
}

/// What is not as the spec says.
fn live(cluster: &Cluster, context: &Context) -> String {
    let status = cluster.status.clone().unwrap_or_default();
    let name = cluster.name_any();
    let mut text = String::new();
    if status.observed_generation.is_some_and(|seen| Some(seen) < cluster.metadata.generation) {
        text.push_str(&format!("cluster/{name}: its newest spec is not taken up yet\n"));
    }
    if !status.drift.is_empty() {
        text.push_str(&format!("cluster/{name}: {}\n", drift::summary(&status.drift)));
        let now = context.world.clock.now();
        text.extend(status.drift.iter().map(|found| format!("  {}\n", drift::line(found, now))));
    }
    text
}

/// What its file says otherwise. A file that is as it was when it was taken over says nothing new.
async fn declared(cluster: &Cluster, client: &Client, context: &mut Context) -> Result<String, CliError> {
    let Some(path) = file_of(cluster, client).await? else { return Ok(String::new()) };
    let (name, shown) = (cluster.name_any(), path.display().to_string());
    let bytes = match context.world.files.read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(format!("cluster/{name}: its file cannot be read: {shown}: {error}\n")),
    };
    let manifest = Manifest::parse(&shown, &bytes);
    if !manifest.faults.is_empty() {
        context.printer.talk(&manifest.render(Colour::Off));
        return Ok(format!("cluster/{name}: its file is not valid, and what was taken over last stays: {shown}\n"));
    }
    let Some(document) = manifest.documents.iter().find(|document| document.name == name) else {
        return Ok(format!("cluster/{name}: {shown} does not declare it any more\n"));
    };
    if cluster.annotations().get(annotations::SOURCE_HASH) == Some(&document.hash) {
        return Ok(String::new());
    }
    let wanted = class::keep_resolved(&cluster.spec, document.typed.clone());
    let changes = class::changes(&cluster.spec, &wanted);
    if changes.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("{shown}:{} is not taken over yet\n{}", document.line, diff::fields(&name, &changes)))
}

/// The file that declares a Cluster.
async fn file_of(cluster: &Cluster, client: &Client) -> Result<Option<PathBuf>, CliError> {
    let annotation = |key: &str| cluster.annotations().get(key);
    let source = annotation(annotations::SOURCE).filter(|source| *source != annotations::SOURCE_CLI);
    let (Some(source), Some(path)) = (source, annotation(annotations::SOURCE_PATH)) else { return Ok(None) };
    let found = Api::<Source>::all(client.clone()).get_opt(source).await;
    let found = found.map_err(|error| CliError::request(&format!("get source/{source}"), error))?;
    Ok(found.map(|source| Path::new(&source.spec.path).join(path)))
}
