//! `kina status`: the one picture of everything.

use http::HeaderValue;
use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, ObjectList};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::follow::{self, Follow, Goal};
use super::get;
use super::output::{self, Document};
use super::printer::Stream;
use super::session::{Need, Session};
use crate::api::{Cluster, Machine, Source};
use crate::apiserver::raw;
use crate::system::last_known::Sights;
use crate::ui::{View, tree};

/// Events shown.
const EVENTS: usize = 8;
/// Events that are read for them: the newest by their time are among those that were written last. As many as the picture
/// keeps.
const EVENTS_READ: usize = 100;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only these clusters
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    /// Go on showing what changes, until Ctrl-C
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,
    /// Print everything as a document for programs
    #[arg(short, long, value_enum)]
    output: Option<Document>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let mut session = Session::open(context, Need::Read, None).await?;
    let (client, sights) = (session.client.clone(), session.sights.take());
    session.run(show(&args, context, &client, sights.as_ref())).await
}

async fn show(args: &Args, context: &mut Context, client: &Client, sights: Option<&Sights>) -> Result<(), CliError> {
    if args.watch && sights.is_some() {
        // Watching would keep the home from the very process that could change something.
        context.printer.talk("note: nothing changes while no kina runs: shown once");
    } else if args.watch {
        let follow = Follow {
            goal: Goal::Never,
            stream: Stream::Out,
            only: args.clusters.clone(),
            timeout: None,
            is_fresh: false,
        };
        return follow::follow(context, client, &follow).await?.into_result();
    }
    let everything = args.output.is_some() || sights.is_some();
    let (clusters, sources, events) = tokio::join!(
        list::<Cluster>(client, "clusters", None),
        list::<Source>(client, "sources", None),
        list::<Event>(client, "events", (!everything).then_some(EVENTS_READ)),
    );
    let (mut clusters, sources, events) = (clusters?, sources?, events?);
    // Of a thousand Clusters the Machines are most of what there is to read: 200 ms of it.
    let mut machines = match everything || tree::shows_machines(&clusters, &args.clusters) {
        true => list::<Machine>(client, "machines", None).await?,
        false => Vec::new(),
    };
    if let Some(sights) = sights {
        sights.correct_clusters(&mut clusters, &machines, context.world.clock.now());
        sights.correct_machines(&mut machines, context.world.clock.now());
    }
    for name in &args.clusters {
        if !clusters.iter().any(|cluster| cluster.name_any() == *name) {
            return Err(get::absent(client, name).await);
        }
    }
    if let Some(format) = args.output {
        let value = json!({"kinaRuns": sights.is_none(), "clusters": clusters, "machines": machines,
            "sources": sources, "events": events});
        return output::document(&mut context.printer, &value, format);
    }
    let view = View::of(clusters, machines, sources, events);
    let options = tree::Options {
        width: context.printer.out_width(),
        style: context.printer.out_style(),
        now: context.world.clock.now(),
        only: args.clusters.clone(),
        events: EVENTS,
        folded: false,
    };
    context.printer.data_lines(&tree::lines(&view, &options))
}

/// All objects of a kind, or the newest so many, without the bookkeeping of field managers.
async fn list<K>(client: &Client, plural: &str, newest: Option<usize>) -> Result<Vec<K>, CliError>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let failed = |error| CliError::request(&format!("list {plural}"), error);
    let request = kube::core::Request::new(K::url_path(&(), None)).list(&ListParams::default());
    let mut request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    request.headers_mut().insert(raw::OMIT, HeaderValue::from_static(raw::MANAGERS));
    if let Some(newest) = newest {
        request.headers_mut().insert(raw::NEWEST, HeaderValue::from(newest));
    }
    Ok(client.request::<ObjectList<K>>(request).await.map_err(failed)?.items)
}
