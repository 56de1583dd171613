//! Where in an object a walk is.

use std::fmt;

/// A path that lies on the walk's own stack, and is written out only where there is something to tell of it: walks are
/// most of what a write costs besides parsing, and next to none finds anything.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    /// The whole object.
    Root,
    /// A field of what is there.
    Field(&'p Path<'p>, &'p str),
    /// An item of the list that is there.
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    /// In dotted form: `spec.list[0].field`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_with_dots_and_brackets() {
        let (spec, empty) = (Path::Field(&Path::Root, "spec"), Path::Field(&Path::Root, ""));
        let item = Path::Item(&Path::Field(&spec, "list"), 3).to_string();
        assert_eq!([item, Path::Root.to_string(), Path::Field(&empty, "a").to_string()], ["spec.list[3]", "", ".a"]);
    }
}
