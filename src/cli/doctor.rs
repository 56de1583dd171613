//! `kina doctor`: what is missing for clusters on this host, in order, and what to do about it.

use std::io::IsTerminal;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use crate::doctor::{self, Finding, State};
use crate::runtime::apple::START_SERVICE;
use crate::ui::{Line, Span, Style, Tone};

/// Columns of the names of checks.
const CHECK_WIDTH: usize = 12;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

pub async fn run(context: &mut Context) -> Result<(), CliError> {
    let mut findings = look(context).await?;
    if doctor::lacks_service_alone(&findings) && a_person_is_there(context) && agrees(context).await? {
        context.engine.start_service().await?;
        findings = look(context).await?;
    }
    // What is missing has been told.
    if doctor::missing(&findings) == 0 { Ok(()) } else { Err(CliError::silent(Exit::Failure)) }
}

/// Looks, and shows what there is.
async fn look(context: &mut Context) -> Result<Vec<Finding>, CliError> {
    let findings = doctor::findings(&context.engine.examine(&context.home).await?);
    let lines = lines(&findings, context.printer.out_width(), context.printer.out_style());
    context.printer.data_lines(&lines)?;
    Ok(findings)
}

fn a_person_is_there(context: &Context) -> bool {
    std::io::stdin().is_terminal() && context.printer.out_is_terminal() && context.printer.err_is_terminal()
}

/// Asks; nothing but a yes is one.
async fn agrees(context: &mut Context) -> Result<bool, CliError> {
    context.printer.ask(&format!("\nStart it now with `{START_SERVICE}`? [y/N] "));
    // A thread of its own, which nobody waits for if the process is asked to end.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        biased;
        () = context.interrupt.first() => Err(CliError::silent(Exit::Interrupted)),
        answer = answer => Ok(answer.is_ok_and(|line| line.is_ok_and(|line| is_yes(&line)))),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// A line a finding, and one with what to do.
fn lines(findings: &[Finding], width: usize, style: Style) -> Vec<Line> {
    let glyphs = style.glyphs();
    let mut lines = Vec::new();
    let indent = Span::new(Tone::Plain, " ".repeat(CHECK_WIDTH + 4));
    for finding in findings {
        let (tone, glyph) = match finding.state {
            State::Ok => (Tone::Good, glyphs.good),
            State::Note | State::Skipped => (Tone::Faint, "-"),
            State::Warning => (Tone::Warn, glyphs.warn),
            State::Missing => (Tone::Bad, glyphs.bad),
        };
        let told = if finding.state == State::Skipped { Tone::Faint } else { Tone::Plain };
        let check = Span::new(Tone::Strong, format!("  {:CHECK_WIDTH$}", finding.check));
        let line =
            Line::new([Span::new(tone, glyph), check, Span::new(Tone::Plain, " "), Span::new(told, &finding.cause)]);
        lines.extend(line.wrap(width, &indent));
        if let Some(next) = &finding.next {
            let line = Line::new([indent.clone(), Span::new(Tone::Busy, "next: "), Span::new(Tone::Plain, next)]);
            lines.extend(line.wrap(width, &indent));
        }
    }
    lines.push(Line::default());
    lines.push(match doctor::missing(findings) {
        0 => Line::of(Tone::Good, "nothing is missing"),
        1 => Line::of(Tone::Bad, "1 thing is missing"),
        many => Line::of(Tone::Bad, format!("{many} things are missing")),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        let agreed = ["y\n", "Y", " yes \n", "YES\n"];
        let refused = ["", "\n", "n\n", "no", "yeah", "yy", "start"];
        assert!(agreed.iter().all(|answer| is_yes(answer)) && !refused.iter().any(|answer| is_yes(answer)));
    }
}
