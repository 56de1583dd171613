//! The command line, as swift-argument-parser takes it apart: what the real command does not know is refused.

use super::say::Refusal;

/// An option.
#[derive(Clone, Copy)]
pub struct Flag {
    /// Without hyphens.
    pub long: &'static str,
    /// One letter, or a space.
    pub short: char,
    /// It is followed by a value.
    pub value: bool,
}

/// An option with a value.
pub const fn value(long: &'static str, short: char) -> Flag {
    Flag { long, short, value: true }
}

/// An option without.
pub const fn switch(long: &'static str, short: char) -> Flag {
    Flag { long, short, value: false }
}

/// A command line, taken apart.
#[derive(Debug, Default)]
pub struct Line {
    options: Vec<(&'static str, String)>,
    /// What is no option.
    pub words: Vec<String>,
}

impl Line {
    /// All values of an option.
    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// The last value of an option.
    pub fn get<'a>(&'a self, long: &'a str) -> Option<&'a str> {
        self.all(long).last()
    }

    /// Whether an option was given.
    pub fn has(&self, long: &str) -> bool {
        self.get(long).is_some()
    }
}

/// How a command takes its words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Options may stand anywhere.
    Mixed,
    /// From the first word on, everything is passed on as it is.
    PassedOn,
}

/// Takes a command line apart.
pub fn parse(command: &str, known: &[Flag], words: Words, arguments: &[String]) -> Result<Line, Refusal> {
    let mut line = Line::default();
    let mut rest = arguments.iter().cloned();
    let mut is_over = false;
    while let Some(argument) = rest.next() {
        if is_over || !argument.starts_with('-') || argument == "-" {
            line.words.push(argument);
            is_over |= words == Words::PassedOn;
        } else if argument == "--" {
            is_over = true;
        } else if let Some(long) = argument.strip_prefix("--") {
            let (name, given) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let flag = known.iter().find(|flag| flag.long == name);
            let flag = flag.ok_or_else(|| Refusal::usage(command, &format!("Unknown option '--{name}'")))?;
            let value = match (flag.value, given) {
                (true, Some(value)) => value,
                (true, None) => next(command, &format!("--{name} <{name}>"), &mut rest)?,
                (false, None) => String::new(),
                (false, Some(_)) => return Err(Refusal::usage(command, &format!("Unknown option '--{long}'"))),
            };
            line.options.push((flag.long, value));
        } else {
            let mut letters = argument[1..].chars();
            while let Some(letter) = letters.next() {
                let flag = known.iter().find(|flag| flag.short == letter);
                let flag = flag.ok_or_else(|| Refusal::usage(command, &format!("Unknown option '-{letter}'")))?;
                let mut value = String::new();
                if flag.value {
                    let attached: String = letters.by_ref().collect();
                    value = match attached.strip_prefix('=').map_or(attached.clone(), str::to_owned) {
                        given if !attached.is_empty() => given,
                        _ => next(command, &format!("-{letter} <{}>", flag.long), &mut rest)?,
                    };
                }
                line.options.push((flag.long, value));
            }
        }
    }
    if let Some(format) = line.get("format")
        && !["json", "table", "yaml", "toml"].contains(&format)
    {
        return Err(Refusal::usage(command, &format!("The value '{format}' is invalid for '--format <format>'")));
    }
    Ok(line)
}

fn next(command: &str, option: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, Refusal> {
    rest.next().ok_or_else(|| Refusal::usage(command, &format!("Missing value for '{option}'")))
}

/// The one word that a command wants.
pub fn one<'a>(command: &str, name: &str, line: &'a Line) -> Result<&'a str, Refusal> {
    match line.words.as_slice() {
        [word] => Ok(word),
        [] => Err(Refusal::usage(command, &format!("Missing expected argument '<{name}>'"))),
        [_, more, ..] => Err(Refusal::usage(command, &format!("Unexpected argument '{more}'"))),
    }
}
