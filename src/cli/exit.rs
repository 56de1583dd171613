//! Exit codes. `docs/reference/exit-codes.md` is this page for people; a test keeps them equal.

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// What was asked for is done. Also when the reader of the output went away.
    Ok = 0,
    /// It failed; the error says why.
    Failure = 1,
    /// The command line was not understood.
    Usage = 2,
    /// A manifest is not valid. Nothing was changed.
    Invalid = 3,
    /// A rule forbids it: a file declares the object, it is protected, or a field cannot change in place.
    Refused = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// `--timeout` passed before everything asked for was there. Work goes on if Kina runs.
    Timeout = 6,
    /// Another process holds the home and does not answer.
    Busy = 7,
    /// Ended by Ctrl-C or SIGTERM before it was done.
    Interrupted = 130,
}

impl Exit {
    /// All of them, in order.
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
        self as u8
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
