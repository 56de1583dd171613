//! `kina drift`: what differs from what is wanted, now, and what was found lately.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::get;
use super::output::{self, Document};
use super::session::{Need, Session};
use crate::api::cluster::{Drift, Severity};
use crate::api::{Cluster, Machine, conditions};
use crate::apiserver::table::age;
use crate::ui::table;
use crate::ui::view::Happening;

/// The reason of events that tell of a difference.
const DRIFTED: &str = "Drifted";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only of these clusters
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    /// Also what was found within this time, as far as events tell, which are kept for an hour
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    since: Option<Duration>,
    /// Print it as a document for programs
    #[arg(short, long, value_enum)]
    output: Option<Document>,
}

/// As `diff`: 0 where nothing differs, 1 where something does, more where it could not be told.
pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let mut session = Session::open(context, Need::Read, None).await?;
    let (client, sights) = (session.client.clone(), session.sights.take());
    let work = async {
        let list = Api::<Cluster>::all(client.clone()).list(&ListParams::default()).await;
        let mut clusters = list.map_err(|error| CliError::request("list clusters", error))?.items;
        for name in &args.clusters {
            if !clusters.iter().any(|cluster| cluster.name_any() == *name) {
                return Err(get::absent(&client, name).await);
            }
        }
        if let Some(sights) = &sights {
            let machines = Api::<Machine>::all(client.clone()).list(&ListParams::default()).await;
            let machines = machines.map_err(|error| CliError::request("list machines", error))?.items;
            sights.correct_clusters(&mut clusters, &machines, context.world.clock.now());
        }
        clusters.retain(|cluster| args.clusters.is_empty() || args.clusters.contains(&cluster.name_any()));
        let lately = match args.since {
            Some(since) => lately(&clusters, since, context.world.clock.now(), &client).await?,
            None => Vec::new(),
        };
        let differs = tell(&args, &clusters, &lately, context)?;
        match clusters.iter().find_map(unknown) {
            Some(error) if !differs => Err(error),
            _ => Ok(differs),
        }
    };
    match session.run(work).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(CliError::silent(Exit::Failure)),
        Err(error) if error.exit() == Exit::Failure => Err(error.with_exit(Exit::Usage)),
        Err(error) => Err(error),
    }
}

/// What events tell, oldest first: each of when it was found last.
async fn lately(
    clusters: &[Cluster],
    since: Duration,
    now: Timestamp,
    client: &Client,
) -> Result<Vec<(String, Happening)>, CliError> {
    let list = Api::<Event>::all(client.clone()).list(&ListParams::default()).await;
    let events = list.map_err(|error| CliError::request("list events", error))?.items;
    let since = SignedDuration::try_from(since).ok().and_then(|since| now.checked_sub(since).ok());
    let since = since.unwrap_or(Timestamp::MIN);
    let of_cluster = |event: &Event| {
        let about = &event.involved_object;
        let mut known = clusters.iter().filter(|cluster| about.name.as_deref() == Some(&*cluster.name_any()));
        known.any(|cluster| about.uid.is_none() || about.uid == cluster.uid())
    };
    let drifted = events.iter().filter(|event| event.reason.as_deref() == Some(DRIFTED) && of_cluster(event));
    let mut found: Vec<(String, Happening)> = drifted
        .filter_map(|event| Some((event.involved_object.name.clone()?, Happening::of(event)?)))
        .filter(|(_, happening)| happening.at >= since)
        .collect();
    found.sort_by_key(|(_, happening)| happening.at);
    Ok(found)
}

fn tell(
    args: &Args,
    clusters: &[Cluster],
    lately: &[(String, Happening)],
    context: &mut Context,
) -> Result<bool, CliError> {
    let now = context.world.clock.now();
    let found: Vec<(String, Drift)> = clusters
        .iter()
        .flat_map(|cluster| {
            let drift = cluster.status.as_ref().map(|status| status.drift.clone()).unwrap_or_default();
            drift.into_iter().map(|drift| (cluster.name_any(), drift))
        })
        .collect();
    let differs = !found.is_empty() || !lately.is_empty();
    if let Some(format) = args.output {
        let now_found = found.iter().map(|(cluster, drift)| json!({"cluster": cluster, "drift": drift}));
        let before = lately.iter().map(|(cluster, happening)| {
            json!({"cluster": cluster, "at": happening.at.to_string(), "message": happening.message,
                "count": happening.count})
        });
        let value = json!({"now": now_found.collect::<Vec<_>>(), "lately": before.collect::<Vec<_>>()});
        output::document(&mut context.printer, &value, format)?;
        return Ok(differs);
    }
    if !differs && !clusters.iter().any(|cluster| unknown(cluster).is_some()) {
        context.printer.talk("Nothing differs.");
    }
    if !found.is_empty() {
        let all: Vec<Drift> = found.iter().map(|(_, drift)| drift.clone()).collect();
        context.printer.data_line(&format!("Now: {}", summary(&all)))?;
        context.printer.data(&found_now(&found, now))?;
    }
    if !lately.is_empty() {
        context.printer.data_line(if found.is_empty() { "Lately:" } else { "\nLately:" })?;
        let row = |(cluster, happening): &(String, Happening)| {
            let times = if happening.count > 1 { format!(" ({} times)", happening.count) } else { String::new() };
            vec![age(happening.at, now), cluster.clone(), format!("{}{times}", happening.message)]
        };
        output::lines(&mut context.printer, table::align(&lately.iter().map(row).collect::<Vec<_>>()))?;
    }
    Ok(differs)
}

/// Two lines each, so that they fit everywhere. What matters most is read first.
fn found_now(found: &[(String, Drift)], now: Timestamp) -> String {
    let mut found: Vec<&(String, Drift)> = found.iter().collect();
    found.sort_by_key(|(cluster, drift)| (std::cmp::Reverse(drift.severity), cluster.clone(), drift.layer));
    let text = |(cluster, drift): &&(String, Drift)| {
        let Drift { object, field, desired, observed, action, .. } = drift;
        let (layer, severity, since) = (layer(drift), severity(drift.severity), age(drift.since.0, now));
        format!(
            "  {cluster}  {severity}  {layer}  {object}\n      {field}: wanted {desired}, is {observed} (for {since}; {action})\n"
        )
    };
    found.iter().map(text).collect()
}

fn layer(drift: &Drift) -> String {
    serde_json::to_value(drift.layer).ok().and_then(|layer| layer.as_str().map(str::to_owned)).unwrap_or_default()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "Info",
        Severity::Warning => "Warning",
        Severity::Critical => "Critical",
    }
}

/// Why nobody knows what differs about a Cluster, where nobody does.
#[must_use]
pub fn unknown(cluster: &Cluster) -> Option<CliError> {
    let conditions = &cluster.status.as_ref()?.conditions;
    let drifted = conditions::get(conditions, conditions::DRIFTED).filter(|condition| condition.status == "Unknown")?;
    let why = if drifted.message.is_empty() { &drifted.reason } else { &drifted.message };
    let message = format!("cannot tell what differs about cluster/{}: {why}", cluster.name_any());
    Some(CliError::new(Exit::Failure, message).hint("`kina serve` looks, and goes on looking"))
}

/// `3 differences (2 critical, 1 info)`.
#[must_use]
pub fn summary(found: &[Drift]) -> String {
    let mut by_severity: BTreeMap<Severity, usize> = BTreeMap::new();
    for drift in found {
        *by_severity.entry(drift.severity).or_default() += 1;
    }
    let parts: Vec<String> =
        by_severity.iter().rev().map(|(of, number)| format!("{number} {}", severity(*of).to_lowercase())).collect();
    let noun = if found.len() == 1 { "difference" } else { "differences" };
    format!("{} {noun} ({})", found.len(), parts.join(", "))
}

/// A difference in a line.
#[must_use]
pub fn line(drift: &Drift, now: Timestamp) -> String {
    let Drift { object, field, desired, observed, action, .. } = drift;
    let (layer, severity, since) = (layer(drift), severity(drift.severity), age(drift.since.0, now));
    format!("{object} {field}: wanted {desired}, is {observed}  ({layer}, {severity}, for {since}; {action})")
}
