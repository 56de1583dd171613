//! `kina man`: manual pages, generated from the commands' definitions.

use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::Cli;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Write all pages into this directory, such as `/usr/local/share/man/man1`; without it, `kina(1)` is printed, for `man -l -`
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let pages = pages()?;
    let Some(directory) = &args.write else {
        let page = pages.first().map(|(_, page)| page.as_slice()).unwrap_or_default();
        return context.printer.data_bytes(page);
    };
    for (name, page) in pages {
        let path = directory.join(name);
        let failed =
            |source| CliError::new(Exit::Failure, format!("cannot write `{}`", path.display())).because(source);
        context.world.files.create_directories(directory, 0o755).map_err(failed)?;
        context.world.files.write(&path, &page, 0o644).map_err(failed)?;
        context.printer.data_line(&path.display().to_string())?;
    }
    Ok(())
}

/// All pages with the names of their files: `kina.1`, `kina-create-cluster.1`.
fn pages() -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(&command, "kina", &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), CliError> {
    let mut page = Vec::new();
    let source = concat!("kina ", env!("CARGO_PKG_VERSION"));
    let rendered = Man::new(command.clone().display_name(name)).source(source).manual("Kina").render(&mut page);
    rendered.map_err(|error| CliError::new(Exit::Failure, format!("cannot render {name}(1)")).because(error))?;
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        collect(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["kina.1", "kina-apply.1", "kina-create-cluster.1", "kina-store-backup.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("__")));
        let first = String::from_utf8(pages[0].1.clone()).unwrap();
        assert!(first.contains(".TH kina 1") && first.contains("Kubernetes clusters as files"), "{first}");
    }
}
