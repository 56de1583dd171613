//! `kina describe`: everything about an object, with its events.

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::context::{Context, Failures};
use super::error::CliError;
use super::get::{self, Reader, Selection};
use super::kinds::{self, Which};
use super::output;
use super::session::{Need, Session};
use crate::ui::describe::describe;
use crate::ui::view::Happening;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// `TYPE`, `TYPE NAME...` or `TYPE/NAME...`
    #[arg(value_name = "WHAT", required = true)]
    what: Vec<String>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let targets = kinds::targets(&args.what)?;
    let mut session = Session::open(context, Need::Read, None).await?;
    let reader = Reader { client: session.client.clone(), sights: session.sights.take() };
    session.run(show(targets, context, &reader)).await
}

async fn show(targets: Vec<(Which, Option<String>)>, context: &mut Context, reader: &Reader) -> Result<(), CliError> {
    let client = &reader.client;
    let mut failures = Failures::default();
    let mut objects = Vec::new();
    for (which, name) in targets {
        let mut found = Vec::new();
        match name {
            None => found = get::list(client, which, &Selection::default()).await?,
            Some(name) => match get::one(client, which, &name).await {
                Ok(object) => found.push(object),
                Err(error) => failures.add(context, error)?,
            },
        }
        reader.correct(which, &mut found, context.world.clock.now()).await?;
        objects.extend(found);
    }
    let events: Vec<Event> = if objects.is_empty() {
        Vec::new()
    } else {
        let list = Api::<Event>::all(client.clone()).list(&ListParams::default()).await;
        list.map_err(|error| CliError::request("list events", error))?.items
    };
    for (index, object) in objects.iter().enumerate() {
        let mut happenings: Vec<Happening> =
            events.iter().filter(|event| is_about(event, object)).filter_map(Happening::of).collect();
        happenings.sort_by_key(|happening| happening.at);
        let mut text = if index == 0 { String::new() } else { "\n".to_owned() };
        for line in describe(object, &happenings, context.world.clock.now()) {
            text.push_str(&line);
            text.push('\n');
        }
        context.printer.data(&text)?;
    }
    failures.end()
}

/// By UID where both have one: an event about an earlier object of the same name is not about this one.
fn is_about(event: &Event, object: &Value) -> bool {
    let regarded = &event.involved_object;
    let same_name = regarded.kind.as_deref() == object["kind"].as_str()
        && regarded.name.as_deref() == Some(output::name_of(object));
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    same_name && (regarded.uid.is_none() || uid.is_none() || regarded.uid.as_deref() == uid)
}
