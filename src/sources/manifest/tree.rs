//! YAML documents as trees in which every node knows its place.
//!
//! This works on the parser's events rather than through serde, because only they tell a plain `010` from a quoted one,
//! and because one broken document does not end them.

use std::collections::BTreeMap;

use serde_json::Number;
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, StrInput};

use super::faults::Found;
use super::scalar::{self, Plain};

/// Deepest nesting. A Cluster nests seven deep; the tree is walked recursively.
const DEPTH_MAX: usize = 32;
/// Most nodes of a file, with every alias expanded. 1 MiB of ordinary manifests has about 60,000; a node takes about
/// 100 bytes, so that no file costs more than some 20 MiB while it is read.
const NODES_MAX: usize = 200_000;
/// Most documents of a file: ten times what a file of 1 MiB holds of Clusters.
const DOCUMENTS_MAX: usize = 10_000;

/// A range of bytes of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The whole of a line, from 1, without its break.
    pub(super) fn line(text: &str, line: u32) -> Self {
        let mut start = 0;
        for (number, content) in (1..).zip(text.split_inclusive('\n')) {
            if number == line {
                let end = start + content.trim_end().len();
                return Self { start: index(start), end: index(end) };
            }
            start += content.len();
        }
        Self { start: index(start), end: index(start) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub span: Span,
    pub shape: Shape,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    Null,
    Bool(bool),
    /// A number, and how it was written.
    Number(Number, String),
    /// A text, and whether it was written in quotes (or as a block).
    Text(String),
    /// A plain scalar that YAML 1.1 and 1.2 read differently, and how.
    Ambiguous(String, &'static str),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Span,
    pub value: Node,
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.shape {
            Shape::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.shape {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }

    fn size(&self) -> usize {
        match &self.shape {
            Shape::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Shape::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.value.size()).sum::<usize>(),
            _ => 1,
        }
    }

    fn depth(&self) -> usize {
        match &self.shape {
            Shape::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or_default(),
            Shape::Map(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or_default(),
            _ => 0,
        }
    }
}

/// One document.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Its text, from the end of the document before it.
    pub text: Span,
    /// `None` where it cannot be read.
    pub root: Option<Node>,
    /// What is wrong with it as YAML.
    pub faults: Vec<Found>,
}

/// Every document of a text. After one that is broken, reading goes on with the next.
pub(super) fn documents(text: &str) -> Vec<Parsed> {
    let mut found = Vec::new();
    let mut nodes = 0;
    for piece in pieces(text) {
        let mut reader = Reader::new(text, piece, nodes);
        let is_fatal = reader.documents(&mut found);
        nodes = reader.nodes;
        if found.len() >= DOCUMENTS_MAX {
            let fault = Found::of_file(format!("the file has more than {DOCUMENTS_MAX} documents"));
            found.push(Parsed { text: Span { start: piece.end, end: piece.end }, root: None, faults: vec![fault] });
        }
        if is_fatal || found.len() >= DOCUMENTS_MAX {
            break;
        }
    }
    found
}

/// The text cut before every line `---`. YAML allows such a line nowhere inside a document, not even in a block or in
/// quotes (rule `c-forbidden`), so that a document that is broken cannot swallow the next.
fn pieces(text: &str) -> Vec<Span> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(&start, end)| Span { start: index(start), end: index(end) }).collect()
}

struct Reader<'t> {
    /// Where the piece lies in the text.
    piece: Span,
    parser: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    faults: Vec<Found>,
}

/// Why a document ends early.
struct Stop {
    fault: Found,
    /// The rest of the file is not read either.
    fatal: bool,
}

type Read<T> = Result<T, Box<Stop>>;

impl<'t> Reader<'t> {
    fn new(text: &'t str, piece: Span, nodes: usize) -> Self {
        let mut options = granit_parser::options! {
            disallow_directives: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        options.set_emit_comments(false);
        let content = text.get(piece.start as usize..piece.end as usize).unwrap_or_default();
        let parser = Parser::new_from_str_with_options(content, options);
        Self { piece, parser, anchors: BTreeMap::new(), nodes, faults: Vec::new() }
    }

    /// Adds the documents of the piece: mostly one, more where they are separated by `...`. Whether to stop there.
    fn documents(&mut self, found: &mut Vec<Parsed>) -> bool {
        let mut start = self.piece.start;
        while found.len() < DOCUMENTS_MAX {
            let outcome = self.document();
            let mut faults = std::mem::take(&mut self.faults);
            self.anchors.clear();
            match outcome {
                Ok(None) => break,
                Ok(Some((root, end))) => {
                    found.push(Parsed { text: Span { start, end }, root: Some(root), faults });
                    start = end;
                }
                Err(stop) => {
                    faults.push(stop.fault);
                    let next = if stop.fatal { None } else { self.next_document() };
                    let end = next.unwrap_or(self.piece.end);
                    found.push(Parsed { text: Span { start, end }, root: None, faults });
                    start = end;
                    if next.is_none() {
                        return stop.fatal;
                    }
                }
            }
        }
        false
    }

    /// The next document, and where it ends. `None` at the end of the piece.
    fn document(&mut self) -> Read<Option<(Node, u32)>> {
        let mut root = None;
        loop {
            match self.event()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentEnd, span)) => return Ok(Some((root.unwrap_or(NULL), span.start))),
                Some((Event::StreamStart | Event::DocumentStart(..), _)) => {}
                Some((event, span)) => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    /// Skips what is left of a broken document; where the next one begins.
    fn next_document(&mut self) -> Option<u32> {
        if !self.parser.proceed_next_document().unwrap_or(false) {
            return None;
        }
        match self.parser.peek() {
            Some(Ok((_, span))) => span.byte_range().map(|range| self.piece.start + index(range.start)),
            // What is wrong with the next document is said when it is read.
            Some(Err(error)) => error.marker().byte_offset().map(|at| self.piece.start + index(at)),
            None => None,
        }
    }

    fn event(&mut self) -> Read<Option<(Event<'t>, Span)>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let range = span.byte_range().unwrap_or_default();
                let (start, end) = (self.piece.start + index(range.start), self.piece.start + index(range.end));
                Ok(Some((event, Span { start, end })))
            }
            Some(Err(error)) => Err(Box::new(Stop { fault: self.syntax(&error), fatal: false })),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Read<Node> {
        self.count(1, span)?;
        if depth > DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(Box::new(Stop { fault: Found::at(span, message).syntax(), fatal: false }));
        }
        if let Some(tag) = event.tag()
            && !(tag.is_yaml_core_schema_tag("str") && matches!(event, Event::Scalar(..)))
        {
            let fault = Found::at(span, format!("the tag `{}` is not supported", tag.original()));
            self.faults.push(fault.helped("remove it; to write a text that looks like a number, use quotes"));
        }
        let (anchor, shape, span) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.is_some()), span),
            Event::SequenceStart(_, anchor, _) => {
                let (shape, span) = self.list(span, depth)?;
                (anchor, shape, span)
            }
            Event::MappingStart(_, anchor, _) => {
                let (shape, span) = self.map(span, depth)?;
                (anchor, shape, span)
            }
            Event::Alias(id) => return self.alias(id, span, depth),
            _ => (0, Shape::Null, span),
        };
        let node = Node { span, shape };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// A copy of what an alias refers to. Its places are those of the original: that is where a fault is to be mended.
    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Read<Node> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            let fault = Found::at(span, "this alias refers to a node that holds itself".to_owned());
            return Err(Box::new(Stop { fault: fault.syntax(), fatal: false }));
        };
        if depth + node.depth() > DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(Box::new(Stop { fault: Found::at(span, message).syntax(), fatal: false }));
        }
        self.count(node.size(), span)?;
        Ok(node)
    }

    fn list(&mut self, start: Span, depth: usize) -> Read<(Shape, Span)> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                None => return Err(self.unfinished(start)),
                Some((Event::SequenceEnd, _)) => break,
                Some((event, span)) => items.push(self.node(event, span, depth + 1)?),
            }
        }
        let span = items.first().filter(|_| start.start == start.end).map_or(start, |first| first.span);
        Ok((Shape::List(items), span))
    }

    fn map(&mut self, start: Span, depth: usize) -> Read<(Shape, Span)> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, place) = match self.event()? {
                None => return Err(self.unfinished(start)),
                Some((Event::MappingEnd, _)) => break,
                Some(event) => event,
            };
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let key = self.node(event, place, depth + 1)?;
            let Some((event, span)) = self.event()? else { return Err(self.unfinished(start)) };
            let value = self.node(event, span, depth + 1)?;
            if merge {
                merges.push(value);
                continue;
            }
            let Some(key) = self.key(key) else { continue };
            match places.get(&key).and_then(|&first| entries.get(first)) {
                Some(first) => {
                    let fault = Found::at(place, format!("`{key}` is set a second time"))
                        .labelled("second value")
                        .noted(first.place, "first set here")
                        .helped("keep one of the two");
                    self.faults.push(fault);
                }
                None => {
                    places.insert(key.clone(), entries.len());
                    entries.push(Entry { key, place, value });
                }
            }
        }
        for merged in merges {
            self.merge(merged, &mut entries, &mut places);
        }
        let span = entries.first().filter(|_| start.start == start.end).map_or(start, |first| first.place);
        Ok((Shape::Map(entries), span))
    }

    /// `<<`: what is not set beside it comes from there (<https://yaml.org/type/merge.html>).
    fn merge(&mut self, from: Node, entries: &mut Vec<Entry>, places: &mut BTreeMap<String, usize>) {
        match from.shape {
            Shape::Map(merged) => {
                for entry in merged {
                    if !places.contains_key(&entry.key) {
                        places.insert(entry.key.clone(), entries.len());
                        entries.push(entry);
                    }
                }
            }
            Shape::List(items) if items.iter().all(|item| matches!(item.shape, Shape::Map(_))) => {
                for item in items {
                    self.merge(item, entries, places);
                }
            }
            _ => self.faults.push(Found::at(from.span, "`<<` takes a map, or a list of maps".to_owned())),
        }
    }

    fn key(&mut self, node: Node) -> Option<String> {
        match node.shape {
            Shape::Text(text) => Some(text),
            Shape::Number(_, written) => Some(written),
            Shape::Bool(value) => Some(value.to_string()),
            Shape::Ambiguous(text, why) => {
                let fault = Found::at(node.span, format!("the key `{text}` {why}"));
                self.faults.push(fault.labelled("ambiguous").helped(format!("put it in quotes: \"{text}\"")));
                Some(text)
            }
            Shape::Null | Shape::List(_) | Shape::Map(_) => {
                self.faults.push(Found::at(node.span, "a key must be a text".to_owned()));
                None
            }
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Read<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            let message = format!("the file has more than {NODES_MAX} values, counted with every alias expanded");
            return Err(Box::new(Stop { fault: Found::at(span, message), fatal: true }));
        }
        Ok(())
    }

    fn unfinished(&self, start: Span) -> Box<Stop> {
        Box::new(Stop { fault: Found::at(start, "this is never closed".to_owned()).syntax(), fatal: false })
    }

    fn syntax(&self, error: &ScanError) -> Found {
        let at =
            error.marker().byte_offset().map_or(self.piece.end, |at| self.piece.start + index(at)).min(self.piece.end);
        let message = error.info();
        let help = if message.contains("tab") {
            Some("indent with spaces")
        } else if message.contains("directives") {
            Some("remove the line that begins with `%`")
        } else if message.contains("<document start>") {
            Some("begin every further document with a line `---`")
        } else if message.contains("mapping values are not allowed") {
            Some("check the indentation of this line and the one above; a text that holds `: ` needs quotes")
        } else {
            None
        };
        let fault = Found::at(Span { start: at, end: at }, format!("not valid YAML: {message}")).syntax();
        match help {
            Some(help) => fault.helped(help),
            None => fault,
        }
    }
}

const NULL: Node = Node { span: Span { start: 0, end: 0 }, shape: Shape::Null };

fn scalar(text: &str, style: ScalarStyle, is_text: bool) -> Shape {
    if style != ScalarStyle::Plain || is_text {
        return Shape::Text(text.to_owned());
    }
    match scalar::plain(text) {
        Plain::Null => Shape::Null,
        Plain::Bool(value) => Shape::Bool(value),
        Plain::Number(number) => Shape::Number(number, text.to_owned()),
        Plain::Text => Shape::Text(text.to_owned()),
        Plain::Ambiguous(why) => Shape::Ambiguous(text.to_owned(), why),
    }
}

/// Texts are at most 1 MiB long.
fn index(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
