//! `kina get`: objects as tables or documents.

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::kinds::{self, Which};
use super::kubeconfig;
use super::nodes::{self, Nodes};
use super::output::{self, Format, Headings};
use super::session::{Need, Session};
use super::watch;
use crate::api::{Cluster, Machine};
use crate::apiserver::kind::Kind;
use crate::sources::manifest::suggest;
use crate::system::last_known::Sights;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// `clusters`, `machines`, `nodes`, `sources` or `events`, and names; or `TYPE/NAME`; or `kubeconfig CLUSTER`
    #[arg(value_name = "WHAT", required = true)]
    what: Vec<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true, value_parser = Format::parse, help = Format::HELP)]
    output: Format,
    /// Only objects with these labels, as `kubectl get -l` takes them
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Only objects with these fields, such as `metadata.name=dev`
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,
    /// Go on printing what changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// As `--watch`, without what is there already
    #[arg(long)]
    watch_only: bool,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// Of `kubeconfig`: as the cluster is reached from within the network of its nodes
    #[arg(long)]
    internal: bool,
    /// Of `kubeconfig` and `nodes`: the cluster, as kind takes it
    #[arg(long, value_name = "CLUSTER")]
    name: Option<String>,
    /// Of `nodes`: those of all clusters, as without `--name`
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_clusters: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    if let Some(cluster) = kubeconfig_of(&args)? {
        let from = if args.internal { kubeconfig::From::Nodes } else { kubeconfig::From::Host };
        return kubeconfig::print(&cluster, from, context).await;
    }
    let nodes = nodes_of(&args)?;
    let targets = if nodes.is_some() { Vec::new() } else { kinds::targets(&args.what)? };
    let selection = Selection { labels: args.selector.clone(), fields: args.field_selector.clone() };
    if selection != Selection::default() && targets.iter().any(|(_, name)| name.is_some()) {
        return Err(CliError::new(Exit::Usage, "names and a selector exclude each other"));
    }
    let style = (args.output, if args.no_headers { Headings::Hidden } else { Headings::Shown });
    if args.watch || args.watch_only {
        let watch = watch::Watch::of(targets, selection, style, args.watch_only)?;
        return watch::run(&watch, context).await;
    }
    let mut session = Session::open(context, Need::Read, None).await?;
    let reader = Reader { client: session.client.clone(), sights: session.sights.take() };
    if let Some(names) = nodes {
        let wanted = Nodes { cluster: args.name, names, selection };
        return session.run(nodes::show(&wanted, &style, context, &reader)).await;
    }
    session.run(show(&selection, &style, targets, context, &reader)).await
}

/// The cluster whose kubeconfig is asked for: `kubeconfig dev`, or `kubeconfig --name dev`.
fn kubeconfig_of(args: &Args) -> Result<Option<String>, CliError> {
    let usage = |message: &str| {
        let error = CliError::new(Exit::Usage, message);
        Err(error.hint("`kina get kubeconfig CLUSTER`"))
    };
    match args.what.as_slice() {
        [what, names @ ..] if what == "kubeconfig" => match (names, &args.name) {
            ([name], None) => Ok(Some(name.clone())),
            ([], Some(name)) => Ok(Some(name.clone())),
            _ => usage("a kubeconfig is of one cluster"),
        },
        _ if args.internal => usage("`--internal` goes with `kubeconfig`"),
        _ => Ok(None),
    }
}

/// The names of nodes that are asked for, all if none is named; `None` where nodes are not what is asked for.
fn nodes_of(args: &Args) -> Result<Option<Vec<String>>, CliError> {
    let (what, names) = args.what.split_first().map_or(("", args.what.as_slice()), |(what, names)| (what, names));
    let is_nodes = matches!(what.to_lowercase().as_str(), "nodes" | "node" | "no");
    let usage = |message: &str, hint: &str| Err(CliError::new(Exit::Usage, message).hint(hint));
    match is_nodes {
        true if args.watch || args.watch_only => usage("nodes are not watched", "`kina get machines -w`"),
        true => Ok(Some(names.to_vec())),
        false if args.name.is_some() => {
            usage("`--name` goes with `nodes` and `kubeconfig`", "`kina get clusters NAME`")
        }
        false if args.all_clusters => {
            usage("`-A` goes with `nodes`", "clusters, machines and sources have no namespace: all are shown")
        }
        false => Ok(None),
    }
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// With these labels.
    pub labels: Option<String>,
    /// With these fields.
    pub fields: Option<String>,
}

/// Reads objects as they are to be shown.
pub struct Reader {
    /// The API.
    pub client: Client,
    /// What the runtimes show, where no Kina keeps current what the API says.
    pub sights: Option<Sights>,
}

impl Reader {
    /// Corrects objects of a kind by what the runtimes show.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn correct(&self, which: Which, objects: &mut [Value], now: Timestamp) -> Result<(), CliError> {
        let Some(sights) = &self.sights else { return Ok(()) };
        match which {
            Which::Clusters => {
                let machines = Api::<Machine>::all(self.client.clone()).list(&ListParams::default()).await;
                let machines = machines.map_err(|error| CliError::request("list machines", error))?.items;
                correct(objects, |clusters| sights.correct_clusters(clusters, &machines, now))
            }
            Which::Machines => correct(objects, |machines| sights.correct_machines(machines, now)),
            Which::Sources | Which::Events => Ok(()),
        }
    }
}

/// Gives objects the status that typed ones get.
fn correct<K>(objects: &mut [Value], act: impl FnOnce(&mut [K])) -> Result<(), CliError>
where
    K: Serialize + DeserializeOwned,
{
    let unreadable = |error: serde_json::Error| CliError::new(Exit::Failure, "cannot read an object").because(error);
    let typed = objects.iter().map(|object| serde_json::from_value(object.clone()));
    let mut typed: Vec<K> = typed.collect::<Result<_, _>>().map_err(unreadable)?;
    act(&mut typed);
    for (object, typed) in objects.iter_mut().zip(&typed) {
        let corrected = serde_json::to_value(typed).map_err(unreadable)?;
        if let Some(status) = corrected.get("status").filter(|status| !status.is_null()) {
            object["status"] = status.clone();
        }
    }
    Ok(())
}

async fn show(
    selection: &Selection,
    (format, headings): &(Format, Headings),
    targets: Vec<(Which, Option<String>)>,
    context: &mut Context,
    reader: &Reader,
) -> Result<(), CliError> {
    let client = &reader.client;
    let mut failures = Failures::default();
    // One table a kind, in the order in which kinds are named.
    let mut groups: Vec<(Which, Vec<Option<String>>)> = Vec::new();
    for (which, name) in targets {
        match groups.iter_mut().find(|(kind, _)| *kind == which) {
            Some((_, names)) => names.push(name),
            None => groups.push((which, vec![name])),
        }
    }
    let is_table = format.is_table();
    let mut has_printed = false;
    for (which, names) in groups {
        let kind = which.kind()?;
        let mut objects = Vec::new();
        for name in &names {
            match name {
                None => objects.extend(list(client, which, selection).await?),
                Some(name) => match one(client, which, name).await {
                    Ok(object) => objects.push(object),
                    Err(error) => failures.add(context, error)?,
                },
            }
        }
        reader.correct(which, &mut objects, context.world.clock.now()).await?;
        let is_list = names.len() > 1 || names == [None];
        if objects.is_empty() {
            if names == [None] && is_table {
                context.printer.talk(&format!("No {}.", kind.resource.plural));
                continue;
            }
            if !is_list {
                continue;
            }
        }
        if is_table && std::mem::replace(&mut has_printed, true) {
            context.printer.data("\n")?;
        }
        let now = context.world.clock.now();
        output::print(&mut context.printer, &kind, objects, is_list, (format, *headings), now)?;
    }
    failures.end()
}

/// All objects of a kind; events in order of time.
pub async fn list(client: &Client, which: Which, selection: &Selection) -> Result<Vec<Value>, CliError> {
    let kind = which.kind()?;
    let (label_selector, field_selector) = (selection.labels.clone(), selection.fields.clone());
    let params = ListParams { label_selector, field_selector, ..ListParams::default() };
    let attempted = format!("list {}", kind.resource.plural);
    let list = kinds::api(client, &kind).list(&params).await.map_err(|error| CliError::request(&attempted, error))?;
    let mut objects: Vec<Value> = list.items.into_iter().filter_map(|object| typed(&kind, &object)).collect();
    if which == Which::Events {
        objects.sort_by(|left, right| happened(left).cmp(happened(right)));
    }
    Ok(objects)
}

/// An object as a value with its type, which items of lists and watches do not carry.
#[must_use]
pub fn typed(kind: &Kind, object: &DynamicObject) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    value["apiVersion"] = kind.resource.api_version().into();
    value["kind"] = kind.kind.clone().into();
    Some(value)
}

/// When an event happened, as text: RFC 3339 in UTC sorts by time.
fn happened(event: &Value) -> &str {
    ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .find_map(|pointer| event.pointer(pointer).and_then(Value::as_str))
        .unwrap_or_default()
}

/// One object by name. Events are looked for in the namespace where Kina's are.
pub async fn one(client: &Client, which: Which, name: &str) -> Result<Value, CliError> {
    let kind = which.kind()?;
    let attempted = format!("get {}", kinds::short(&kind, name));
    let api = match which {
        Which::Events => kinds::api_in(client, &kind, "default"),
        _ => kinds::api(client, &kind),
    };
    match api.get(name).await {
        Ok(object) => serde_json::to_value(object)
            .map_err(|error| CliError::new(Exit::Failure, format!("cannot {attempted}")).because(error)),
        Err(error) => {
            let error = CliError::request(&attempted, error);
            Err(if error.exit() == Exit::NotFound { near(error, client, which, name).await } else { error })
        }
    }
}

/// A Cluster of this name has to be there.
///
/// # Errors
/// Where it is not, with the nearest that is, or the API does not answer.
pub async fn expect_cluster(client: &Client, name: &str) -> Result<(), CliError> {
    let found = Api::<Cluster>::all(client.clone()).get_metadata_opt(name).await;
    match found.map_err(|error| CliError::request(&format!("get cluster/{name}"), error))? {
        Some(_) => Ok(()),
        None => Err(absent(client, name).await),
    }
}

/// There is no Cluster of this name.
pub async fn absent(client: &Client, name: &str) -> CliError {
    let error = CliError::new(Exit::NotFound, format!("there is no cluster `{name}`"));
    near(error, client, Which::Clusters, name).await
}

/// The error with a hint at the nearest name, if there is one.
pub async fn near(error: CliError, client: &Client, which: Which, name: &str) -> CliError {
    let Ok(kind) = which.kind() else { return error };
    let Ok(list) = kinds::api(client, &kind).list_metadata(&ListParams::default()).await else { return error };
    let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
    match suggest::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}
