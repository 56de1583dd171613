//! Faults of a file: found at a span, placed at a line, shown with the text around them.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::tree::Span;
use crate::api::source::SourceError;

/// Longest line shown whole, in bytes. Of a longer one only what is around the fault is kept.
const LINE_BYTES_MAX: usize = 400;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences for a terminal.
    On,
    /// Plain text.
    Off,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named to the parser.
    pub path: String,
    /// Line, from 1; 0 where the fault has no place.
    pub line: u32,
    /// Column in characters, from 1; 0 where the fault has no place.
    pub column: u32,
    /// What is wrong and what was expected; no full stop.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The text cannot be read as YAML: whether it is a manifest at all cannot be known.
    pub syntax: bool,
    is_warning: bool,
    excerpt: Option<Excerpt>,
}

/// The lines around a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    first_line: usize,
    span: std::ops::Range<usize>,
    label: String,
    note: Option<(std::ops::Range<usize>, String)>,
}

impl Fault {
    /// A fault without a place in a text, such as a file that cannot be opened.
    #[must_use]
    pub fn of_file(path: &str, message: impl Into<String>) -> Self {
        Found::of_file(message.into()).placed(path, "")
    }

    /// As people read it, in the style of rustc.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::On => Renderer::styled(),
            Colour::Off => Renderer::plain(),
        };
        let level = if self.is_warning { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(self.message.as_str());
        let group = match &self.excerpt {
            None if self.path.is_empty() => Group::with_title(title),
            None => title.element(annotate_snippets::Origin::path(self.path.as_str())),
            Some(excerpt) => {
                let primary = AnnotationKind::Primary.span(excerpt.span.clone()).label(excerpt.label.as_str());
                let note = excerpt
                    .note
                    .iter()
                    .map(|(span, label)| AnnotationKind::Context.span(span.clone()).label(label.as_str()));
                let snippet = Snippet::source(excerpt.text.as_str())
                    .line_start(excerpt.first_line)
                    .path(self.path.as_str())
                    .fold(false)
                    .annotation(primary)
                    .annotations(note);
                title.element(snippet)
            }
        };
        let group = match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        renderer.render(&[group])
    }

    /// The same, as something that only should be known.
    pub(super) fn into_warning(mut self) -> Self {
        self.is_warning = true;
        self
    }

    /// As the API holds it.
    #[must_use]
    pub fn to_source_error(&self) -> SourceError {
        let message = match &self.help {
            Some(help) => format!("{} ({help})", self.message),
            None => self.message.clone(),
        };
        let snippet = if self.excerpt.is_some() { self.render(Colour::Off) } else { String::new() };
        SourceError { line: self.line, column: self.column, message, snippet }
    }
}

/// A fault at a span of a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    span: Option<Span>,
    message: String,
    label: String,
    help: Option<String>,
    note: Option<(Span, &'static str)>,
    syntax: bool,
}

impl Found {
    pub(super) fn at(span: Span, message: String) -> Self {
        Self { span: Some(span), message, label: String::new(), help: None, note: None, syntax: false }
    }

    pub(super) fn of_file(message: String) -> Self {
        Self { span: None, message, label: String::new(), help: None, note: None, syntax: true }
    }

    pub(super) fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn helped(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn noted(mut self, span: Span, label: &'static str) -> Self {
        self.note = Some((span, label));
        self
    }

    pub(super) fn syntax(mut self) -> Self {
        self.syntax = true;
        self
    }

    pub(super) fn start(&self) -> u32 {
        self.span.map_or(0, |span| span.start)
    }

    pub(super) fn placed(self, path: &str, text: &str) -> Fault {
        Lines::new(path, text).place(self)
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines<'t> {
    path: &'t str,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(path: &'t str, text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { path, text, starts: [0].into_iter().chain(breaks).collect() }
    }

    /// Line and column of an offset, from 1.
    pub(super) fn position(&self, offset: u32) -> (u32, u32) {
        let offset = self.boundary(offset as usize);
        let line = self.line_of(offset);
        let column = self.between(self.start_of(line), offset).chars().count() + 1;
        (u32::try_from(line + 1).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    pub(super) fn place(&self, found: Found) -> Fault {
        let mut fault = Fault {
            path: self.path.to_owned(),
            line: 0,
            column: 0,
            message: found.message,
            help: found.help,
            syntax: found.syntax,
            is_warning: false,
            excerpt: None,
        };
        let Some(span) = found.span else { return fault };
        let start = self.boundary(span.start as usize);
        let end = self.boundary(span.end as usize).max(start);
        let line = self.line_of(start);
        (fault.line, fault.column) = self.position(span.start);
        // Only the first line of what is wrong is marked: a block of fifty lines would fill the screen.
        let end = end.min(start + self.between(start, self.end_of(line)).trim_end().len());
        fault.excerpt = Some(self.excerpt(line, start..end, found.label, found.note));
        fault
    }

    fn excerpt(&self, line: usize, span: std::ops::Range<usize>, label: String, note: Option<(Span, &str)>) -> Excerpt {
        let note = note.map(|(at, label)| (self.boundary(at.start as usize)..self.boundary(at.end as usize), label));
        // A note close by is shown along; one far away would need everything between.
        let note = note.filter(|(at, _)| at.end <= span.start && line - self.line_of(at.start) <= 12);
        let first = note.as_ref().map_or(line, |(at, _)| self.line_of(at.start)).min(line.saturating_sub(2));
        let last = (line + 1).min(self.starts.len().saturating_sub(1));
        let (mut from, mut to) = (self.start_of(first), self.end_of(last));
        let mut first_line = first + 1;
        let mut note = note;
        if to - from > LINE_BYTES_MAX * 4 {
            from = self.boundary(span.start.saturating_sub(LINE_BYTES_MAX / 2)).max(self.start_of(line));
            to = self.boundary(span.end.min(span.start + LINE_BYTES_MAX) + LINE_BYTES_MAX / 2).min(self.end_of(line));
            first_line = line + 1;
            note = None;
        }
        let text = self.between(from, to).trim_end_matches(['\r', '\n']);
        let within = |at: usize| at.saturating_sub(from).min(text.len());
        Excerpt {
            span: within(span.start)..within(span.end),
            label,
            note: note.map(|(at, label)| (within(at.start)..within(at.end), label.to_owned())),
            text: text.to_owned(),
            first_line,
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    fn start_of(&self, line: usize) -> usize {
        self.starts.get(line).copied().unwrap_or(self.text.len())
    }

    fn end_of(&self, line: usize) -> usize {
        self.starts.get(line + 1).copied().unwrap_or(self.text.len())
    }

    fn between(&self, from: usize, to: usize) -> &'t str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The nearest start of a character at or before an offset.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}
