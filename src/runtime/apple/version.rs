//! Versions of the `container` command, and what differs between them.

use std::fmt;

/// The oldest that is driven: before it documents, dates and errors had other shapes.
pub const OLDEST: Version = Version(1, 0, 0);
/// The newest of which anything is known.
pub const NEWEST: Version = Version(1, 5, 0);
/// The first with all that a node needs.
pub const RECOMMENDED: Version = Version(1, 2, 2);

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Out of what `container --version` prints: `container CLI version 1.2.2 (build: release, commit: 0190097)`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_number(text.split_once("version ")?.1)
    }

    /// Out of a text that begins with the number itself.
    #[must_use]
    pub fn of_number(number: &str) -> Option<Self> {
        let end = number.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(number.len());
        let mut parts = number[..end].split('.').map(|part| part.parse().ok());
        Some(Self(parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?))
    }

    /// It has flags that give a container all of `/proc`.
    #[must_use]
    pub fn can_unmask(self) -> bool {
        self >= Self(1, 2, 1)
    }

    /// `/proc/sys` is read-only unless a flag says otherwise.
    #[must_use]
    pub fn masks(self) -> bool {
        self >= Self(1, 2, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_command_prints_them() {
        for (text, version) in [
            ("container CLI version 1.2.2 (build: release, commit: 0190097)\n", Some(Version(1, 2, 2))),
            ("container CLI version 1.5.0", Some(Version(1, 5, 0))),
            ("container CLI version 0.12.3 (build: release, commit: unspeci)", Some(Version(0, 12, 3))),
            ("container CLI version 1.6 (build: debug)", Some(Version(1, 6, 0))),
            ("container 3", None),
            ("container CLI version unknown", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), version, "{text}");
        }
    }

    #[test]
    fn one_version_alone_masks_and_cannot_unmask() {
        let odd = |version: Version| version.masks() && !version.can_unmask();
        let all = [Version(1, 0, 0), Version(1, 1, 0), Version(1, 2, 0), Version(1, 2, 1), Version(1, 5, 0)];
        assert_eq!(all.map(odd), [false, false, true, false, false]);
    }
}
