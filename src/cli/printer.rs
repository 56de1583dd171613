//! Where output goes: data to stdout, talk to stderr. Nothing else in Kina writes to either.

use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;

use super::error::CliError;
use super::exit::Exit;
use crate::ui::{Line, Style, screen};

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One output: a stream, what it can show, and whether a person looks at it.
pub struct Output {
    stream: Box<dyn Write + Send>,
    style: Style,
    is_terminal: bool,
}

/// Both outputs of a command.
pub struct Printer {
    out: Output,
    err: Output,
}

impl Printer {
    /// The process's own streams.
    #[must_use]
    pub fn standard(colour: Colour, unicode: bool) -> Self {
        let style = |detected: ColorChoice| Style {
            colour: match colour {
                Colour::Auto => detected != ColorChoice::Never,
                Colour::Always => true,
                Colour::Never => false,
            },
            unicode,
        };
        // `choice` weighs NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM and whether it is a terminal.
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            out: Output {
                style: style(anstream::AutoStream::choice(&out)),
                is_terminal: out.is_terminal(),
                stream: Box::new(out),
            },
            err: Output {
                style: style(anstream::AutoStream::choice(&err)),
                is_terminal: err.is_terminal(),
                stream: Box::new(err),
            },
        }
    }

    /// Outputs for tests.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        let output = |stream| Output { stream, style: Style::default(), is_terminal: false };
        Self { out: output(Box::new(out)), err: output(Box::new(err)) }
    }

    /// Writes data to stdout, as it is.
    ///
    /// # Errors
    /// When it cannot be written. A reader who went away is [`Exit::Ok`] without a word.
    pub fn data(&mut self, text: &str) -> Result<(), CliError> {
        self.data_bytes(text.as_bytes())
    }

    /// Writes data to stdout that need not be text.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn data_bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let written = self.out.stream.write_all(bytes).and_then(|()| self.out.stream.flush());
        written.map_err(|source| Self::lost("stdout", source))
    }

    /// Hands on what another program said on its stderr.
    pub fn talk_bytes(&mut self, bytes: &[u8]) {
        let _ = self.err.stream.write_all(bytes);
    }

    /// Writes one line of data to stdout.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn data_line(&mut self, text: &str) -> Result<(), CliError> {
        self.data(&format!("{text}\n"))
    }

    /// Writes lines of data to stdout, in its style.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn data_lines(&mut self, lines: &[Line]) -> Result<(), CliError> {
        let style = self.out.style;
        let text: String = lines.iter().map(|line| line.render(style) + "\n").collect();
        self.data(&text)
    }

    /// Says something to the person, on stderr. If that cannot be written, nobody is there to be told so.
    pub fn talk(&mut self, text: &str) {
        let _ = self.err.stream.write_all(format!("{text}\n").as_bytes());
    }

    /// Says the beginning of a line to the person, on stderr: the person ends it.
    pub fn ask(&mut self, text: &str) {
        let _ = self.err.stream.write_all(text.as_bytes()).and_then(|()| self.err.stream.flush());
    }

    /// Says lines to the person, on stderr, in its style.
    pub fn talk_lines(&mut self, lines: &[Line]) {
        let style = self.err.style;
        for line in lines {
            self.talk(&line.render(style));
        }
    }

    /// What stdout can show.
    #[must_use]
    pub fn out_style(&self) -> Style {
        self.out.style
    }

    /// What stderr can show.
    #[must_use]
    pub fn err_style(&self) -> Style {
        self.err.style
    }

    /// Columns of stdout: those of the terminal, where it is one.
    #[must_use]
    pub fn out_width(&self) -> usize {
        if self.out.is_terminal { screen::size().0 } else { screen::FALLBACK.0 }
    }

    /// Whether a person looks at stdout.
    #[must_use]
    pub fn out_is_terminal(&self) -> bool {
        self.out.is_terminal
    }

    /// Whether a person looks at stderr.
    #[must_use]
    pub fn err_is_terminal(&self) -> bool {
        self.err.is_terminal
    }

    /// The stream of an output, for what draws itself.
    pub fn stream(&mut self, which: Stream) -> &mut dyn Write {
        match which {
            Stream::Out => &mut self.out.stream,
            Stream::Err => &mut self.err.stream,
        }
    }

    /// An output's failure as an error.
    pub(super) fn lost(stream: &str, source: io::Error) -> CliError {
        if source.kind() == io::ErrorKind::BrokenPipe {
            // As for ripgrep: whoever read the output has read enough.
            return CliError::silent(Exit::Ok);
        }
        CliError::new(Exit::Failure, format!("cannot write to {stream}")).because(source)
    }
}

/// One of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("out", &self.out.style).field("err", &self.err.style).finish_non_exhaustive()
    }
}
