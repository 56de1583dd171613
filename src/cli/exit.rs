//! Exit codes. `docs/reference/exit-codes.md` is this page for people; a test keeps them equal.

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// What was asked for is done. Also when the reader of the output went away.
    Ok,
    /// It failed; the error says why.
    Failure,
    /// The command line was not understood.
    Usage,
    /// A manifest is not valid. Nothing was changed.
    Invalid,
    /// A rule forbids it: a file declares the object, it is protected, or a field cannot change in place.
    Refused,
    /// What was named does not exist.
    NotFound,
    /// `--timeout` passed before everything asked for was there. Work goes on if Kina runs.
    Timeout,
    /// Another process holds the home and does not answer.
    Busy,
    /// Ended by Ctrl-C or SIGTERM before it was done.
    Interrupted,
    /// A command that was run in a machine ended with this.
    Command(u8),
}

impl Exit {
    /// All of Kina's own, in order.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Invalid,
        Self::Refused,
        Self::NotFound,
        Self::Timeout,
        Self::Busy,
        Self::Interrupted,
    ];

    /// As the shell sees it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Refused => 4,
            Self::NotFound => 5,
            Self::Timeout => 6,
            Self::Busy => 7,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_line_in_the_reference() {
        let page = include_str!("../../docs/reference/exit-codes.md");
        let codes: Vec<u8> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.trim_matches('`').parse().ok())
            .collect();
        assert_eq!(codes, Exit::ALL.map(Exit::code));
    }
}
