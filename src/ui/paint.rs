//! Text with tones, wrapped to a width and written with or without colour.

use anstyle::{AnsiColor, Effects};

/// How a piece of text is meant. What a tone says must also be said in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// What a line is about.
    Strong,
    /// Beside the point.
    Faint,
    /// As wished.
    Good,
    /// On its way.
    Busy,
    /// Needs a look.
    Warn,
    /// Broken.
    Bad,
}

/// What the output can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
}

/// Signs that precede names, and the branches of trees.
#[derive(Clone, Copy, Debug)]
pub struct Glyphs {
    /// As wished.
    pub good: &'static str,
    /// On its way.
    pub busy: &'static str,
    /// Needs a look.
    pub warn: &'static str,
    /// Broken.
    pub bad: &'static str,
    /// A child with more after it.
    pub branch: &'static str,
    /// The last child.
    pub last: &'static str,
    /// Below a child with more after it.
    pub through: &'static str,
    /// Below the last child.
    pub blank: &'static str,
}

impl Style {
    /// The signs for this output.
    #[must_use]
    pub fn glyphs(self) -> Glyphs {
        if self.unicode {
            Glyphs {
                good: "✓",
                busy: "…",
                warn: "!",
                bad: "✗",
                branch: "├─ ",
                last: "└─ ",
                through: "│  ",
                blank: "   ",
            }
        } else {
            Glyphs {
                good: "+",
                busy: "~",
                warn: "!",
                bad: "x",
                branch: "|- ",
                last: "`- ",
                through: "|  ",
                blank: "   ",
            }
        }
    }
}

/// A piece of text in one tone, without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    tone: Tone,
    text: String,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    spans: Vec<Span>,
}

impl Span {
    /// Text in a tone. Control characters become spaces: texts come from files and other programs, and must neither break
    /// the tree nor speak to the terminal.
    #[must_use]
    pub fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().trim_end_matches('\n');
        Self { tone, text: text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl Line {
    /// A line of spans.
    #[must_use]
    pub fn new(spans: impl IntoIterator<Item = Span>) -> Self {
        Self { spans: spans.into_iter().filter(|span| !span.text.is_empty()).collect() }
    }

    /// A line in one tone.
    #[must_use]
    pub fn of(tone: Tone, text: impl AsRef<str>) -> Self {
        Self::new([Span::new(tone, text)])
    }

    /// How many columns it takes, taking every character for one.
    #[must_use]
    pub fn width(&self) -> usize {
        self.spans.iter().map(Span::width).sum()
    }

    /// Without colour.
    #[must_use]
    pub fn plain(&self) -> String {
        self.spans.iter().map(|span| span.text.as_str()).collect::<String>().trim_end().to_owned()
    }

    /// As written to an output of this style.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        if !style.colour {
            return self.plain();
        }
        let mut text = String::new();
        for span in &self.spans {
            let ansi = ansi(span.tone);
            text.push_str(&format!("{ansi}{}{ansi:#}", span.text));
        }
        text
    }

    /// Breaks the line at spaces, so that no part is wider than `width` where that is possible. What follows a break
    /// starts with `continuation`.
    #[must_use]
    pub fn wrap(self, width: usize, continuation: &Span) -> Vec<Line> {
        if self.width() <= width {
            return vec![self];
        }
        let indent = continuation.width();
        let mut lines = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        let (mut column, mut start) = (0, 0);
        for (tone, word) in words(&self.spans) {
            let length = word.chars().count();
            if column + word.trim_end().chars().count() > width && column > start {
                trim(&mut spans);
                lines.push(Line { spans: std::mem::take(&mut spans) });
                spans.push(continuation.clone());
                (column, start) = (indent, indent);
            }
            match spans.last_mut() {
                Some(last) if last.tone == tone && column > start => last.text.push_str(word),
                _ => spans.push(Span { tone, text: word.to_owned() }),
            }
            column += length;
        }
        trim(&mut spans);
        lines.push(Line { spans });
        lines
    }

    /// At most `width` columns, the last one telling that more follows.
    #[must_use]
    pub fn truncate(mut self, width: usize, style: Style) -> Line {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        for span in &mut self.spans {
            span.text = span.text.chars().take(left).collect();
            left -= span.width();
        }
        let more = if style.unicode { "…" } else { ">" };
        self.spans.push(Span { tone: Tone::Faint, text: more.to_owned() });
        Line::new(self.spans)
    }
}

/// Takes the spaces before a break away, which would count as columns.
fn trim(spans: &mut [Span]) {
    if let Some(last) = spans.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
}

/// Words with the spaces that follow them.
fn words(spans: &[Span]) -> impl Iterator<Item = (Tone, &str)> {
    spans.iter().flat_map(|span| {
        let mut rest = span.text.as_str();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let word = rest.find(' ').unwrap_or(rest.len());
            let end = rest[word..].find(|c| c != ' ').map_or(rest.len(), |spaces| word + spaces);
            let (taken, left) = rest.split_at(end.max(1));
            rest = left;
            Some((span.tone, taken))
        })
    })
}

fn ansi(tone: Tone) -> anstyle::Style {
    match tone {
        Tone::Plain => anstyle::Style::new(),
        Tone::Strong => anstyle::Style::new().effects(Effects::BOLD),
        Tone::Faint => anstyle::Style::new().effects(Effects::DIMMED),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Busy => AnsiColor::Cyan.on_default(),
        Tone::Warn => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wrapped_line_keeps_every_word_and_hangs() {
        let line =
            Line::new([Span::new(Tone::Strong, "dev  "), Span::new(Tone::Plain, "waits for the machine to boot")]);
        let lines: Vec<String> = line.wrap(16, &Span::new(Tone::Faint, "  | ")).iter().map(Line::plain).collect();
        assert_eq!(lines, ["dev  waits for", "  | the machine", "  | to boot"]);
    }

    #[test]
    fn texts_of_others_cannot_speak_to_the_terminal() {
        assert_eq!(Line::of(Tone::Plain, "a\x1b[2Jb\nc\r").plain(), "a [2Jb c");
    }

    #[test]
    fn colour_is_only_around_words() {
        let line = Line::of(Tone::Bad, "broken");
        assert_eq!(line.render(Style { colour: true, unicode: true }), "\u{1b}[31mbroken\u{1b}[0m");
        assert_eq!(line.render(Style::default()), "broken");
    }

    #[test]
    fn a_line_that_is_cut_says_so() {
        let style = Style { colour: false, unicode: true };
        assert_eq!(Line::of(Tone::Plain, "abcdef").truncate(4, style).plain(), "abc…");
        assert_eq!(Line::of(Tone::Plain, "abcd").truncate(4, style).plain(), "abcd");
    }

    proptest! {
        #[test]
        fn wrapping_loses_nothing_and_stays_within_the_width(text in "([a-z]{1,9} {1,2}){0,20}", width in 14_usize..40) {
            let lines = Line::of(Tone::Plain, &text).wrap(width, &Span::new(Tone::Faint, "> "));
            let joined: String = lines.iter().map(Line::plain).collect::<Vec<_>>().join(" ").replace("> ", "");
            prop_assert_eq!(
                joined.split_whitespace().collect::<Vec<_>>(),
                text.split_whitespace().collect::<Vec<_>>()
            );
            for line in &lines {
                prop_assert!(line.width() <= width, "{:?}", line);
            }
        }
    }
}
