//! The command line: one file a verb. Parses, asks the API, prints; what it knows of Kina it knows as a client.
//!
//! ```text
//! Cli ──► Context ──► Session (daemon, or the same system here) ──► verb ──► Printer ──► Exit
//! ```

mod apply;
mod approve;
mod build;
mod complete;
mod completion;
pub mod context;
mod create;
mod delete;
mod describe;
mod diff;
mod differing;
mod doctor;
mod drift;
mod edit;
mod elsewhere;
pub mod engine;
pub mod error;
mod exec;
pub mod exit;
mod explain;
mod export_logs;
mod fetch;
pub mod follow;
mod get;
mod history;
pub mod inputs;
pub mod interrupt;
pub mod kinds;
mod kubeconfig;
mod load;
pub mod local;
mod man;
mod marks;
mod nodes;
pub mod output;
mod plan;
mod plugin;
pub mod printer;
pub mod progress;
#[cfg(test)]
mod reference;
mod schema;
mod serve;
pub mod session;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod up;
mod validate;
mod version;
mod wait;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::json;

use crate::home::Home;
use crate::observability::logs;
use crate::world::World;
use context::{Context, Environment};
use engine::Engine;
use error::CliError;
use exit::Exit;
use interrupt::Interrupt;
use printer::{Colour, Printer};
use progress::Progress;

/// Kubernetes clusters as files
#[derive(Debug, Parser)]
#[command(name = "kina", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 invalid manifest, 4 refused, 5 not found, 6 timeout, 7 busy, 130 interrupted"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
struct Global {
    /// Kina's home [default: $KINA_HOME, then ~/.kina]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    home: Option<PathBuf>,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    color: Colour,
    /// Log what is done to stderr; twice and three times tell more (KINA_LOG takes exact filters)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Apply manifests and stay until everything is Ready
    Up(up::Args),
    /// Apply manifests
    Apply(apply::Args),
    /// Show what `kina apply` would change, or what differs about a cluster
    Diff(diff::Args),
    /// Show what will be done next, step by step, and what that disturbs
    Plan(plan::Args),
    /// Edit a cluster in your editor
    Edit(edit::Args),
    /// Make a cluster, as kind does
    Create(create::Args),
    /// Make an image for nodes
    Build(build::Args),
    /// Delete clusters
    Delete(delete::Args),
    /// Show clusters, machines, nodes, sources or events
    Get(get::Args),
    /// Show everything about one object
    Describe(describe::Args),
    /// The one picture of everything
    Status(status::Args),
    /// Show what happened to a cluster
    History(history::Args),
    /// Show what differs from what is wanted, now and lately
    Drift(drift::Args),
    /// Show the logs of machines
    Logs(exec::LogsArgs),
    /// Run a command in a machine
    Exec(exec::ExecArgs),
    /// Load images of this host into a cluster
    Load(load::Args),
    /// Wait until objects are as wished
    Wait(wait::Args),
    /// Write a cluster's context into a kubeconfig, or its logs into a directory
    Export(kubeconfig::ExportArgs),
    /// Keep everything converged, until Ctrl-C
    Serve(serve::Args),
    /// Let a held set of deletions or recreations happen, once
    Approve(approve::Args),
    /// Make a cluster independent of the file that declares it
    Detach(marks::Args),
    /// Change nothing of a cluster until `kina resume`
    Pause(marks::Args),
    /// End a `kina pause`
    Resume(marks::Args),
    /// Check manifests without applying them
    Validate(validate::Args),
    /// Tell what is missing for clusters on this host, in order
    Doctor(doctor::Args),
    /// Check, back up or restore what Kina remembers
    Store(store::Args),
    /// Explain a field of a manifest, and what it takes to change it
    Explain(explain::Args),
    /// Print or write the JSON Schemas of the kinds
    Schema(schema::Args),
    /// Print a script that completes commands and live names in your shell
    Completion(completion::Args),
    /// Print or write manual pages
    Man(man::Args),
    /// Print versions
    Version(version::Args),
    /// What may stand at the cursor: for the scripts of `kina completion`
    #[command(name = "__complete", hide = true)]
    Complete(complete::Args),
}

/// Runs the command line of this process, over an engine.
pub fn main(engine: Arc<dyn Engine>) -> ExitCode {
    let environment = Environment::of_process();
    let cli = match plugin::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let mut printer = Printer::standard(cli.global.color, environment.unicode);
    let options = logs::Options {
        directives: environment.log.clone(),
        verbosity: cli.global.verbose,
        is_daemon: matches!(cli.verb, Verb::Serve(_)),
        json: environment.log_json,
        colour: printer.err_style().colour,
    };
    if let Err(error) = logs::init(&options) {
        let error = CliError::new(Exit::Usage, error.to_string()).because(error).hint("unset or correct `KINA_LOG`");
        printer.talk_lines(&error.lines());
        return ExitCode::from(Exit::Usage.code());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let error = CliError::new(Exit::Failure, "cannot start the runtime").because(source);
            printer.talk_lines(&error.lines());
            return ExitCode::from(Exit::Failure.code());
        }
    };
    let exit = runtime.block_on(run(cli, printer, environment, engine));
    // What still runs has been asked to end; a thread that hangs must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(exit.code())
}

/// Runs one command, tells its error, and returns its code. After a second Ctrl-C at once.
async fn run(cli: Cli, printer: Printer, environment: Environment, engine: Arc<dyn Engine>) -> Exit {
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(_) => return Exit::Failure,
    };
    let root = cli.global.home.clone().or_else(|| environment.home.clone());
    let root = root.unwrap_or_else(|| environment.user_home.join(".kina"));
    // A relative home is meant from here; a path that cannot be made absolute fails where it is used, by name.
    let home = Home::at(std::path::absolute(&root).unwrap_or(root)).allowing_mounts(environment.allowed_mounts.clone());
    let world = World::real();
    let abort = interrupt.clone();
    let mut context = Context { printer, progress: Progress::Auto, world, environment, home, interrupt, engine };
    tokio::select! {
        biased;
        () = abort.second() => Exit::Interrupted,
        exit = command(cli.verb, &mut context) => exit,
    }
}

async fn command(verb: Verb, context: &mut Context) -> Exit {
    let exit = match dispatch(verb, context).await {
        Ok(()) => Exit::Ok,
        Err(error) => {
            context.report(&error);
            error.exit()
        }
    };
    // A reader who went away has read enough.
    let _ = context.tell(json!({"type": "end", "exitCode": exit.code()}));
    exit
}

async fn dispatch(verb: Verb, context: &mut Context) -> Result<(), CliError> {
    match verb {
        Verb::Up(args) => up::run(args, context).await,
        Verb::Apply(args) => apply::run(args, context).await,
        Verb::Diff(args) => diff::run(args, context).await,
        Verb::Plan(args) => plan::run(args, context).await,
        Verb::Edit(args) => edit::run(args, context).await,
        Verb::History(args) => history::run(args, context).await,
        Verb::Drift(args) => drift::run(args, context).await,
        Verb::Logs(args) => exec::logs(args, context).await,
        Verb::Exec(args) => exec::exec(args, context).await,
        Verb::Explain(args) => explain::run(&args, context),
        Verb::Wait(args) => wait::run(args, context).await,
        Verb::Load(args) => load::run(args, context).await,
        Verb::Export(args) => kubeconfig::export(args, context).await,
        Verb::Create(args) => create::run(args, context).await,
        Verb::Build(args) => build::run(args, context).await,
        Verb::Delete(args) => delete::run(args, context).await,
        Verb::Get(args) => get::run(args, context).await,
        Verb::Describe(args) => describe::run(args, context).await,
        Verb::Status(args) => status::run(args, context).await,
        Verb::Serve(args) => serve::run(args, context).await,
        Verb::Approve(args) => approve::run(args, context).await,
        Verb::Detach(args) => marks::run(args, marks::Mark::Detach, context).await,
        Verb::Pause(args) => marks::run(args, marks::Mark::Pause, context).await,
        Verb::Resume(args) => marks::run(args, marks::Mark::Resume, context).await,
        Verb::Validate(args) => validate::run(&args, context).await,
        Verb::Doctor(doctor::Args {}) => doctor::run(context).await,
        Verb::Store(args) => store::run(args, context).await,
        Verb::Schema(args) => schema::run(&args, context),
        Verb::Completion(args) => completion::run(&args, context),
        Verb::Man(args) => man::run(&args, context),
        Verb::Version(args) => version::run(args, context).await,
        Verb::Complete(args) => complete::run(args, context).await,
    }
}

/// What clap has to say: help and version are data, the rest is a usage error.
fn usage(mut error: clap::Error) -> ExitCode {
    let hint = elsewhere::hint(&error);
    if hint.is_some() {
        // To take `-w` for a name is no help.
        error.remove(clap::error::ContextKind::Suggested);
    }
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A reader who went away has read enough.
    let _ = error.print();
    if let Some(hint) = hint {
        let _ = writeln!(std::io::stderr(), "\nhint: {hint}");
    }
    ExitCode::from(if is_help { Exit::Ok } else { Exit::Usage }.code())
}

/// Reads a duration, where `0` is one as well, for clap.
fn duration_or_zero(text: &str) -> Result<std::time::Duration, String> {
    if matches!(text, "0" | "0s") { Ok(std::time::Duration::ZERO) } else { duration(text) }
}

/// Reads a duration, such as `5m` or `1h30m`, for clap.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::api::quantity::duration(text).ok_or_else(|| "a duration is written like `90s`, `5m` or `1h30m`".to_owned())
}
