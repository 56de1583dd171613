//! `kina plan`: what Kina will do next, step by step, told by the planner that does it.

use std::sync::Arc;

use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::apply;
use super::context::{Context, Failures};
use super::engine::Engine;
use super::error::CliError;
use super::exit::Exit;
use super::get;
use super::inputs::{self, Origin};
use super::output::{self, Document as Format};
use super::session::{Need, Runs, Session};
use crate::api::cidr::Cidr;
use crate::api::class::{self, Class};
use crate::api::cluster::{ClusterSpec, NodeNetwork, RuntimeName};
use crate::api::conditions;
use crate::api::defaults::{self, HostDefaults, Resolved};
use crate::api::machine::MachineRole;
use crate::api::{Cluster, Machine, annotations};
use crate::controllers::cluster::forecast::{self, Action, Forecast};
use crate::controllers::cluster::node_network;
use crate::controllers::cluster::wait::Wait;
use crate::home::Home;
use crate::sources::manifest::Document;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Clusters as they are wanted now; all of them without names and manifests
    #[arg(value_name = "CLUSTER", conflicts_with = "filenames")]
    clusters: Vec<String>,
    #[command(flatten)]
    inputs: inputs::Options,
    /// Print it as a document for programs
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Where clusters are planned.
struct Place<'a> {
    client: &'a Client,
    engine: Arc<dyn Engine>,
    home: Home,
}

/// What will be done about one cluster.
#[derive(Clone, Debug)]
struct Planned {
    name: String,
    /// What the manifest asks for takes; `None` where nothing was asked for.
    class: Option<Class>,
    /// It is there already.
    is_there: bool,
    /// Control planes that there are, or will be.
    planes: usize,
    /// Differences that were found and are dealt with besides.
    drift: usize,
    /// Machines that are not Ready, each with why.
    under_way: Vec<(String, String)>,
    forecast: Forecast,
}

/// What keeps a Machine from being Ready; `None` where it is.
fn under_way(machine: &Machine) -> Option<(String, String)> {
    let status = machine.status.clone().unwrap_or_default();
    if conditions::is_true(&status.conditions, conditions::READY) {
        return None;
    }
    let failure = status.failure.map(|failure| format!("{}: {}", failure.reason, failure.message));
    let waiting = status.waiting.map(|waiting| format!("{}: {}", waiting.reason, waiting.message));
    Some((machine.name_any(), failure.or(waiting).unwrap_or_else(|| "not begun".to_owned())))
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let inputs = match args.inputs.filenames.is_empty() {
        true => None,
        false => Some(apply::read(&args.inputs, context).await?),
    };
    let session = Session::open(context, Need::Read, None).await?;
    if session.runs() == Runs::Nothing {
        context.printer.talk("note: planned from what is recorded: what stopped or is gone since is seen to first");
    }
    let client = session.client.clone();
    let place = Place { client: &client, engine: Arc::clone(&context.engine), home: context.home.clone() };
    let work = async {
        let mut failures = Failures::default();
        let mut all = Vec::new();
        match inputs {
            Some(inputs) => {
                for (origin, document) in &inputs.documents {
                    match of_document(&place, origin, document).await {
                        Ok(planned) => all.push(planned),
                        Err(error) => failures.add(context, error)?,
                    }
                }
            }
            None => {
                for name in named(&args.clusters, &client).await? {
                    match of_cluster(&place, &name).await {
                        Ok(planned) => all.push(planned),
                        Err(error) => failures.add(context, error)?,
                    }
                }
            }
        }
        if all.is_empty() && args.clusters.is_empty() && args.output.is_none() {
            context.printer.talk("No clusters.");
        }
        print(context, &all, args.output)?;
        failures.end()
    };
    session.run(work).await
}

fn print(context: &mut Context, all: &[Planned], format: Option<Format>) -> Result<(), CliError> {
    if let Some(format) = format {
        let value = json!({"clusters": all.iter().map(Planned::value).collect::<Vec<_>>()});
        return output::document(&mut context.printer, &value, format);
    }
    context.printer.data(&all.iter().map(Planned::told).collect::<Vec<_>>().join("\n"))
}

async fn named(names: &[String], client: &Client) -> Result<Vec<String>, CliError> {
    if !names.is_empty() {
        return Ok(names.to_vec());
    }
    let list = Api::<Cluster>::all(client.clone()).list_metadata(&ListParams::default()).await;
    let list = list.map_err(|error| CliError::request("list clusters", error))?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

async fn of_cluster(place: &Place<'_>, name: &str) -> Result<Planned, CliError> {
    let client = place.client;
    let found = Api::<Cluster>::all(client.clone()).get_opt(name).await;
    let found = found.map_err(|error| CliError::request(&format!("get cluster/{name}"), error))?;
    let Some(cluster) = found else { return Err(get::absent(client, name).await) };
    let spec = cluster.spec.clone();
    planned(place, name, spec, Some(&cluster), None).await
}

async fn of_document(place: &Place<'_>, origin: &Origin, document: &Document) -> Result<Planned, CliError> {
    let client = place.client;
    let name = document.name.as_str();
    let attempted = format!("plan cluster/{name}");
    let api: Api<Cluster> = Api::all(client.clone());
    let before = api.get_opt(name).await.map_err(|error| CliError::request(&attempted, error))?;
    let is_declared = |cluster: &Cluster| {
        cluster.annotations().get(annotations::SOURCE).is_some_and(|source| source != annotations::SOURCE_CLI)
    };
    let after = match &before {
        // Nobody but its file may change it, and a plan is no change.
        Some(before) if is_declared(before) => class::keep_resolved(&before.spec, document.typed.clone()),
        _ => match apply::send(&api, &attempted, origin, document, &apply::params().dry_run()).await {
            Ok(after) => after.spec,
            Err(error) if error.exit() == Exit::Refused && before.is_some() => {
                // What is not permitted is planned as far as it goes, which is what a plan is for.
                class::keep_resolved(
                    &before.as_ref().map(|b| b.spec.clone()).unwrap_or_default(),
                    document.typed.clone(),
                )
            }
            Err(error) => return Err(error),
        },
    };
    let class = before.as_ref().and_then(|before| class::heaviest(&class::changes(&before.spec, &after)));
    planned(place, name, after, before.as_ref(), class).await
}

async fn planned(
    place: &Place<'_>,
    name: &str,
    spec: ClusterSpec,
    cluster: Option<&Cluster>,
    class: Option<Class>,
) -> Result<Planned, CliError> {
    let params = ListParams::default().fields(&format!("spec.cluster={name}"));
    let machines = Api::<Machine>::all(place.client.clone()).list(&params).await;
    let machines = machines.map_err(|error| CliError::request("list machines", error))?.items;
    let network = network(place, &spec).await?;
    let spec = resolved(&spec, network.clone().unwrap_or_default())?;
    let planes = machines.iter().filter(|machine| machine.spec.role == MachineRole::ControlPlane).count();
    let facts = forecast::presumed(name, &spec, cluster, &machines);
    let forecast = match network {
        // Nothing is done about what cannot be there.
        Err(wait) if !facts.deleting && !facts.paused => Forecast { wait: Some(wait), ..Forecast::default() },
        Ok(_) | Err(_) => forecast::forecast(facts),
    };
    Ok(Planned {
        name: name.to_owned(),
        class,
        is_there: cluster.is_some(),
        planes,
        drift: cluster.and_then(|cluster| cluster.status.as_ref()).map_or(0, |status| status.drift.len()),
        under_way: machines.iter().filter_map(under_way).collect(),
        forecast,
    })
}

/// The network of its machines on this host, or why there is none.
async fn network(place: &Place<'_>, spec: &ClusterSpec) -> Result<Result<NodeNetwork, Wait>, CliError> {
    let (runtime, networks) = place.engine.networks(&place.home, spec.runtime).await?;
    let wanted = spec.networking.node_network;
    let wanted = wanted.or_else(|| Resolved::of(spec).map(|resolved| resolved.node_network));
    Ok(node_network::choose(runtime.as_str(), networks, wanted, node_network::machines(spec)))
}

/// With some value for what else only the host can tell: no step depends on which.
fn resolved(spec: &ClusterSpec, node_network: NodeNetwork) -> Result<ClusterSpec, CliError> {
    let broken = || CliError::new(Exit::Failure, "cannot plan: a default is not valid");
    let node_subnet = "10.160.0.0/24".parse::<Cidr>().map_err(|_| broken())?;
    // Which ports are free is for the day of its creation.
    let mapped_ports = (1..=u16::MAX).take(defaults::open_ports(spec)).collect();
    let host = HostDefaults { runtime: RuntimeName::Sim, node_network, node_subnet, api_port: 6443, mapped_ports };
    Ok(defaults::resolve(spec, &host))
}

impl Planned {
    /// What a step does, on what, and what is disturbed by it.
    fn step(&self, action: &Action) -> (&'static str, String, Option<&'static str>) {
        let is_plane = |name: &str| name.starts_with(&format!("{}-control-plane-", self.name));
        let machine = |name: &String| format!("machine/{name}");
        match action {
            Action::Host(what) => (*what, format!("cluster/{}", self.name), None),
            Action::Create(name) => ("make", machine(name), None),
            Action::Bootstrap(name) => ("bring up", machine(name), None),
            Action::Update(name) => ("set labels and taints of", machine(name), None),
            Action::Roll(name) if is_plane(name) && self.planes == 1 => {
                ("roll", machine(name), Some("the cluster's API is away for seconds"))
            }
            Action::Roll(name) => ("roll", machine(name), Some("drained; name, address and data stay")),
            Action::Repair(name) => ("repair", machine(name), Some("restarted or made anew; its data stays")),
            Action::Delete(name) => ("delete", machine(name), Some("drained before; its data goes with it")),
            Action::Discard(name) => ("discard", machine(name), Some("ITS DATA IS LOST")),
        }
    }

    fn told(&self) -> String {
        let Self { name, forecast, .. } = self;
        let summary = match (self.is_there, self.class, forecast.actions.is_empty()) {
            (false, ..) => "would be created".to_owned(),
            (true, Some(class), _) => format!("would change, {}", class.as_str()),
            (true, None, true) if !self.under_way.is_empty() => "nothing new to do; under way".to_owned(),
            (true, None, true) => "nothing to do".to_owned(),
            (true, None, false) => "not as wanted yet".to_owned(),
        };
        let mut text = format!("cluster/{name}: {summary}\n");
        let steps = forecast.actions.iter().map(|action| (action, self.step(action)));
        for (index, (action, (verb, object, disturbed))) in steps.enumerate() {
            let what = if matches!(action, Action::Host(_)) { verb.to_owned() } else { format!("{verb} {object}") };
            let disturbed = disturbed.map(|disturbed| format!("  ({disturbed})")).unwrap_or_default();
            text.push_str(&format!("{:>4}. {what}{disturbed}\n", index + 1));
        }
        if let Some(wait) = &forecast.wait {
            text.push_str(&format!("      then it waits: {}: {}\n", wait.reason(), wait.message()));
        }
        if forecast.is_cut {
            text.push_str("      … and more\n");
        }
        for (machine, why) in &self.under_way {
            text.push_str(&format!("      machine/{machine} is not Ready: {why}\n"));
        }
        if self.drift > 0 {
            let what = if self.drift == 1 { "1 difference was" } else { "differences were" };
            text.push_str(&format!("      besides, {what} found: `kina drift {name}`\n"));
        }
        text
    }

    fn value(&self) -> Value {
        let step = |action: &Action| {
            let (verb, object, disruption) = self.step(action);
            json!({"step": verb, "object": object, "disruption": disruption})
        };
        let wait = self.forecast.wait.as_ref();
        json!({
            "cluster": self.name,
            "exists": self.is_there,
            "class": self.class.map(Class::as_str),
            "steps": self.forecast.actions.iter().map(step).collect::<Vec<_>>(),
            "complete": !self.forecast.is_cut,
            "waiting": wait.map(|wait| json!({"reason": wait.reason(), "message": wait.message()})),
            "drift": self.drift,
            "underWay": self.under_way.iter().map(|(name, why)| json!({"machine": name, "why": why})).collect::<Vec<_>>(),
        })
    }
}
