//! `kina validate`: every fault of every manifest, and nothing else.

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::inputs;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files or directories with manifests, `https://...`, or `-` for stdin
    #[arg(value_name = "PATH")]
    paths: Vec<std::path::PathBuf>,
    #[command(flatten)]
    inputs: inputs::Options,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let mut options = args.inputs.clone();
    options.filenames.extend(args.paths.iter().cloned());
    if options.filenames.is_empty() {
        return Err(CliError::new(Exit::Usage, "no manifest is given").hint("name files, directories or `-`"));
    }
    let inputs = options.read(context).await?;
    inputs.tell(&mut context.printer);
    let line = |(file, clusters): &(String, usize)| match clusters {
        1 => format!("{file}: valid, 1 cluster\n"),
        clusters => format!("{file}: valid, {clusters} clusters\n"),
    };
    context.printer.data(&inputs.files.iter().map(line).collect::<String>())
}
