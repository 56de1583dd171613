//! A block of lines at the cursor, redrawn in place.
//!
//! Plain ANSI, in the normal screen and without raw mode: what was drawn last stays in the scroll-back, Ctrl-C works as
//! everywhere, and a terminal that is left in the middle is not left broken.

use std::io::{self, Write};

use super::paint::{Line, Style, Tone};

/// A terminal's size where it cannot be asked.
pub const FALLBACK: (usize, usize) = (80, 24);

/// Columns and rows of the terminal, or [`FALLBACK`].
#[must_use]
pub fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(FALLBACK, |(width, height)| (width.0.into(), height.0.into()))
}

/// Whether all of these lines can be shown at once.
#[must_use]
pub fn fits(lines: &[Line], size: (usize, usize)) -> bool {
    lines.len() <= rows(size)
}

/// One row is left to the cursor.
fn rows((_, height): (usize, usize)) -> usize {
    height.saturating_sub(1).max(1)
}

/// Draws a block and remembers how tall it is.
#[derive(Debug, Default)]
pub struct Screen {
    drawn: usize,
}

impl Screen {
    /// Draws the lines over those drawn before. Never more than fit, so that moving up finds the first again: the last row
    /// then says how many are left out.
    ///
    /// # Errors
    /// What the output says.
    pub fn draw(&mut self, out: &mut dyn Write, lines: &[Line], size: (usize, usize), style: Style) -> io::Result<()> {
        let (width, rows) = (size.0, rows(size));
        let mut shown: Vec<Line> = lines.iter().take(rows).cloned().collect();
        if lines.len() > rows {
            let left_out = lines.len() - rows + 1;
            shown.truncate(rows - 1);
            shown.push(Line::of(
                Tone::Faint,
                format!("({left_out} more lines: make the terminal taller, or pipe this)"),
            ));
        }
        // Between the marks of a synchronised update (DEC 2026) a terminal shows nothing; one that does not know them
        // ignores them.
        let mut text = String::from("\x1b[?2026h");
        text.push_str(&Self::to_start(self.drawn));
        for line in &shown {
            text.push_str(&line.clone().truncate(width, style).render(style));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J\x1b[?2026l");
        self.drawn = shown.len();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Takes the block away, for lines that are to stay.
    ///
    /// # Errors
    /// What the output says.
    pub fn clear(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let text = format!("{}\x1b[J", Self::to_start(self.drawn));
        self.drawn = 0;
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn to_start(rows: usize) -> String {
        if rows == 0 { String::from("\r") } else { format!("\x1b[{rows}A\r") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(screen: &mut Screen, lines: &[&str], size: (usize, usize)) -> String {
        let lines: Vec<Line> = lines.iter().map(|line| Line::of(Tone::Plain, line)).collect();
        let mut out = Vec::new();
        screen.draw(&mut out, &lines, size, Style::default()).unwrap();
        String::from_utf8(out).unwrap().replace('\x1b', "^")
    }

    #[test]
    fn a_block_is_drawn_over_the_one_before() {
        let mut screen = Screen::default();
        assert_eq!(drawn(&mut screen, &["one", "two"], (80, 24)), "^[?2026h\rone^[K\ntwo^[K\n^[J^[?2026l");
        assert_eq!(drawn(&mut screen, &["three"], (80, 24)), "^[?2026h^[2A\rthree^[K\n^[J^[?2026l");
        assert_eq!(drawn(&mut screen, &[], (80, 24)), "^[?2026h^[1A\r^[J^[?2026l");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let mut screen = Screen::default();
        let text = drawn(&mut screen, &["a long line", "b", "c", "d"], (6, 4));
        assert!(text.contains("a lon>^[K\nb^[K\n(2 mo>"), "{text}");
        assert!(drawn(&mut screen, &[], (6, 4)).contains("^[3A"));
    }
}
