//! `kina get kubeconfig` and `kina export kubeconfig`: how a cluster is reached, printed or written into a file.

use std::path::PathBuf;

use kube::Api;
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::get;
use super::output::{self, Document};
use super::session::{self, Need, Session};
use crate::api::Cluster;
use crate::api::defaults::Resolved;
use crate::api::names::ClusterName;
use crate::kubeadm::{API_PORT, pki};
use crate::kubeconfig::{self, ContextEntry, Current, Edit};

/// From where a cluster is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// This host: through the port that the load balancer publishes.
    Host,
    /// The network of the cluster's nodes: by the load balancer's name.
    Nodes,
}

/// Prints the kubeconfig of a cluster.
pub async fn print(name: &str, from: From, context: &mut Context) -> Result<(), CliError> {
    let entry = entry(name, from, context).await?;
    let encoded = |pem: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    let name = &entry.name;
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": entry.server,
            "certificate-authority-data": encoded(&entry.ca_pem),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": encoded(&entry.client_cert_pem),
            "client-key-data": encoded(&entry.client_key_pem),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    output::document(&mut context.printer, &document, Document::Yaml)
}

#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    #[command(subcommand)]
    what: Export,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Export {
    /// Write a cluster's context into a kubeconfig, and make it the current one
    Kubeconfig(ExportKubeconfig),
    /// Write the logs of a cluster's machines and pods, and what Kina knows of it, into a directory
    Logs(super::export_logs::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct ExportKubeconfig {
    /// The cluster
    #[arg(value_name = "CLUSTER", required_unless_present = "name", conflicts_with = "name")]
    cluster: Option<String>,
    /// The cluster, as kind takes it
    #[arg(long, value_name = "CLUSTER")]
    name: Option<String>,
    /// Into this file [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// As it is reached from within the network of its nodes
    #[arg(long)]
    internal: bool,
}

pub async fn export(args: ExportArgs, context: &mut Context) -> Result<(), CliError> {
    let args = match args.what {
        Export::Kubeconfig(args) => args,
        Export::Logs(args) => return super::export_logs::run(args, context).await,
    };
    let name = args.cluster.or(args.name).unwrap_or_default();
    let from = if args.internal { From::Nodes } else { From::Host };
    let entry = entry(&name, from, context).await?;
    let (target, context_name) = (session::target(context, args.kubeconfig.as_deref()), entry.name.clone());
    let edit = Edit::Merge { entry, current: Current::Set };
    let change = kubeconfig::apply(&*context.world.files, &target, &[edit])?;
    let files: Vec<String> = change.written.iter().map(|path| path.display().to_string()).collect();
    let told = if files.is_empty() { "already in the kubeconfig".to_owned() } else { files.join(", ") };
    context.printer.talk(&format!("context `{context_name}`: {told}; it is the current one"));
    Ok(())
}

/// What a kubeconfig says of a cluster: its address from the API, its keys from the home.
async fn entry(name: &str, from: From, context: &mut Context) -> Result<ContextEntry, CliError> {
    let session = Session::open(context, Need::Read, None).await?;
    let client = session.client.clone();
    let look = async {
        let api: Api<Cluster> = Api::all(client.clone());
        let cluster = api.get_opt(name).await;
        match cluster.map_err(|error| CliError::request(&format!("get cluster/{name}"), error))? {
            Some(cluster) => Ok(cluster),
            None => Err(get::absent(&client, name).await),
        }
    };
    let cluster = session.run(look).await?;
    let not_yet = || {
        CliError::new(Exit::Failure, format!("cluster `{name}` has no kubeconfig yet"))
            .hint(format!("`kina wait --for=condition=Ready cluster/{name}`"))
    };
    let (Some(identity), Some(resolved)) = (cluster.identity(), Resolved::of(&cluster.spec)) else {
        return Err(not_yet());
    };
    let keys = pki::find(&*context.world.files, &context.home.pki(), identity);
    let keys = keys.map_err(|error| CliError::new(Exit::Failure, "cannot read the cluster's keys").because(error))?;
    let Some(keys) = keys else { return Err(not_yet()) };
    let server = match from {
        From::Host => resolved.url(),
        From::Nodes => format!("https://{name}-lb:{API_PORT}"),
    };
    let context_name = ClusterName::parse(name).map(|name| name.context()).unwrap_or_default();
    Ok(ContextEntry {
        name: context_name,
        server,
        ca_pem: keys.ca.certificate.clone(),
        client_cert_pem: keys.admin.certificate.clone(),
        client_key_pem: keys.admin.key.clone(),
    })
}
