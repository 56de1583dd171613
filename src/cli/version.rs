//! `kina version`.

use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::output::{self, Document};
use crate::api::versions;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print it as a document for programs
    #[arg(short, long, value_enum)]
    output: Option<Document>,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let kina = env!("CARGO_PKG_VERSION");
    let newest = format!("v1.{}", versions::NEWEST_MINOR);
    let oldest = format!("v1.{}", versions::OLDEST_MINOR);
    // A daemon that does not answer does not make this command fail: its version is then not known.
    let server = match context.engine.connect(&context.home).await {
        Ok(Some(client)) => client.apiserver_version().await.ok().map(|version| version.git_version),
        _ => None,
    };
    if let Some(format) = args.output {
        let value = json!({
            "kina": {"version": kina},
            "server": server.map(|version| json!({"gitVersion": version})),
            "kubernetes": {"default": versions::DEFAULT.to_string(), "oldest": oldest, "newest": newest},
        });
        return output::document(&mut context.printer, &value, format);
    }
    let mut text = format!("kina {kina}\nKubernetes {} ({oldest} to {newest})\n", versions::DEFAULT);
    if let Some(server) = server {
        text.push_str(&format!("running kina's API {server}\n"));
    }
    context.printer.data(&text)
}
