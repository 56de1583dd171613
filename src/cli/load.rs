//! `kina load image`: images of this host into the nodes of a cluster, through the process that has the runtimes.

use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::context::Context;
use super::error::CliError;
use super::exec::daemon;
use super::exit::Exit;
use super::get;
use super::kinds::Which;
use crate::api::Cluster;
use crate::api::inside::{CLUSTERS_PATH, IMAGES_MAX, Load, Loaded, LoadedMachine};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Load images of this host into the nodes of a cluster: only what is missing, into all at once
    #[command(visible_alias = "docker-image")]
    Image(Images),
}

#[derive(Clone, Debug, clap::Args)]
struct Images {
    /// The images, as the runtime names them
    #[arg(value_name = "IMAGE", required = true, num_args = 1..=IMAGES_MAX)]
    images: Vec<String>,
    /// The cluster [default: the only one there is]
    #[arg(long, value_name = "CLUSTER")]
    name: Option<String>,
    /// Into these machines only
    #[arg(long, value_name = "MACHINE", value_delimiter = ',')]
    nodes: Vec<String>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let What::Image(args) = args.what;
    let client = daemon(context).await?;
    let cluster = named_or_only_cluster(args.name, &client).await?;
    let attempted = format!("load images into cluster/{cluster}");
    let body = serde_json::to_vec(&Load { images: args.images.clone(), machines: args.nodes }).unwrap_or_default();
    let request = http::Request::post(format!("{CLUSTERS_PATH}{cluster}/images"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| CliError::new(Exit::Usage, format!("`{cluster}` is no name of a cluster")).because(error))?;
    let interrupt = context.interrupt.clone();
    let loaded = tokio::select! {
        biased;
        () = interrupt.first() => {
            return Err(CliError::new(Exit::Interrupted, "interrupted: what was begun is loaded to its end"));
        }
        loaded = client.request::<Loaded>(request) => loaded,
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return Err(missing(CliError::request(&attempted, error), &client, &cluster).await),
    };
    if let Some(why) = loaded.error {
        return Err(CliError::new(Exit::Failure, format!("cannot {attempted}: {why}")));
    }
    for image in &args.images {
        context.printer.data_line(&told(image, &loaded.machines))?;
    }
    let mut failed = false;
    for machine in &loaded.machines {
        if let Some(why) = &machine.error {
            failed = true;
            let error =
                CliError::new(Exit::Failure, format!("cannot load images into machine/{}: {why}", machine.machine));
            context.report(&error);
        }
    }
    if failed { Err(CliError::silent(Exit::Failure)) } else { Ok(()) }
}

/// What came of an image.
fn told(image: &str, machines: &[LoadedMachine]) -> String {
    let with = |list: fn(&LoadedMachine) -> &Vec<String>| {
        let machines = machines.iter().filter(|machine| list(machine).iter().any(|known| known == image));
        machines.map(|machine| machine.machine.clone()).collect::<Vec<_>>()
    };
    let (loaded, present) = (with(|machine| &machine.loaded), with(|machine| &machine.present));
    let parts = [("loaded into", loaded), ("already in", present)];
    let parts = parts.iter().filter(|(_, machines)| !machines.is_empty());
    let parts: Vec<String> = parts.map(|(what, machines)| format!("{what} {}", machines.join(", "))).collect();
    if parts.is_empty() { format!("{image}: not loaded") } else { format!("{image}: {}", parts.join("; ")) }
}

/// Who has one cluster need not name it.
///
/// # Errors
/// Where it is not named and there is none, or are several, or the API does not answer.
pub async fn named_or_only_cluster(name: Option<String>, client: &Client) -> Result<String, CliError> {
    if let Some(name) = name {
        return Ok(name);
    }
    let clusters = Api::<Cluster>::all(client.clone()).list_metadata(&ListParams::default()).await;
    let clusters = clusters.map_err(|error| CliError::request("list clusters", error))?.items;
    match &clusters[..] {
        [one] => Ok(one.name_any()),
        [] => Err(CliError::new(Exit::NotFound, "there is no cluster").hint("`kina create cluster`")),
        several => {
            let names: Vec<String> = several.iter().map(ResourceExt::name_any).collect();
            let error = CliError::new(Exit::Usage, "there are several clusters: say which");
            Err(error.hint(format!("`--name CLUSTER`, one of {}", names.join(", "))))
        }
    }
}

/// A cluster that is not there, with the nearest that is.
async fn missing(error: CliError, client: &Client, cluster: &str) -> CliError {
    let known = Api::<Cluster>::all(client.clone()).get_metadata_opt(cluster).await;
    match known {
        Ok(None) if error.exit() == Exit::NotFound => get::near(error, client, Which::Clusters, cluster).await,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_image_is_told_who_got_it_and_who_had_it() {
        let list = |images: &[&str]| images.iter().map(|image| (*image).to_owned()).collect::<Vec<_>>();
        let machine = |name: &str, present: &[&str], loaded: &[&str]| LoadedMachine {
            machine: name.to_owned(),
            present: list(present),
            loaded: list(loaded),
            error: None,
        };
        let machines = [machine("a", &["x"], &["y"]), machine("b", &[], &["x", "y"])];
        assert_eq!(told("x", &machines), "x: loaded into b; already in a");
        assert_eq!(told("y", &machines), "y: loaded into a, b");
        assert_eq!(told("z", &machines), "z: not loaded");
    }
}
