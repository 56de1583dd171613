//! What an image is made from, as people name it.

use std::path::PathBuf;

use super::arch::Arch;
use crate::world::FileKind;

/// Where releases of Kubernetes are published.
const RELEASES: &str = "https://dl.k8s.io";

/// What a source is, where its name alone would say something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A directory of programs.
    Directory,
    /// The tarball of a release, on this host.
    File,
    /// A version.
    Release,
    /// The tarball of a release, elsewhere.
    Url,
}

/// Where Kubernetes comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of programs.
    Directory(PathBuf),
    /// The tarball of a release.
    File(PathBuf),
    /// The same, by its address.
    Url(String),
}

/// A name that means no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing is called so.
    #[error("there is no file or directory `{0}`, and it is no version, such as v1.35.5, and no URL")]
    Unknown(String),
    /// It should be a version.
    #[error("`{0}` is no version of a release: it is written like v1.35.5")]
    NoVersion(String),
    /// It should be on this host.
    #[error("there is no {what} `{name}`")]
    NotThere {
        /// File or directory.
        what: &'static str,
        /// Its path.
        name: String,
    },
}

/// Tells what is meant by `name`, which leads to `found` on this host. Programs are wanted for `arch`.
///
/// # Errors
/// Where it is nothing that an image can be made from.
pub fn source(
    name: &str,
    kind: Option<SourceKind>,
    found: Option<FileKind>,
    arch: Arch,
) -> Result<Source, SourceError> {
    let path = || PathBuf::from(name);
    let no = |what| SourceError::NotThere { what, name: name.to_owned() };
    match (kind, found) {
        (Some(SourceKind::Url), _) => Ok(Source::Url(name.to_owned())),
        (Some(SourceKind::Release), _) => {
            release(name, arch).ok_or_else(|| SourceError::NoVersion(name.to_owned())).map(Source::Url)
        }
        (Some(SourceKind::Directory), Some(FileKind::Directory)) => Ok(Source::Directory(path())),
        (Some(SourceKind::Directory), _) => Err(no("directory")),
        (Some(SourceKind::File), Some(FileKind::File)) => Ok(Source::File(path())),
        (Some(SourceKind::File), _) => Err(no("file")),
        (None, _) if name.contains("://") => Ok(Source::Url(name.to_owned())),
        (None, Some(FileKind::Directory)) => Ok(Source::Directory(path())),
        (None, Some(FileKind::File)) => Ok(Source::File(path())),
        (None, _) => release(name, arch).ok_or_else(|| SourceError::Unknown(name.to_owned())).map(Source::Url),
    }
}

/// Where the programs of a version are.
fn release(version: &str, arch: Arch) -> Option<String> {
    is_version(version).then(|| format!("{RELEASES}/{version}/kubernetes-server-linux-{arch}.tar.gz"))
}

/// Whether a text is a version of Kubernetes, also one before a release or between two: `v1.36.0-rc.1`,
/// `v1.36.0-alpha.1.23+0123abc`.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else { return false };
    let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
    let (numbers, before) = rest.split_once('-').map_or((rest, None), |(numbers, before)| (numbers, Some(before)));
    let plain = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let words = |text: Option<&str>| text.is_none_or(|text| text.split('.').all(plain));
    let number = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 64
        && numbers.split('.').count() == 3
        && numbers.split('.').all(number)
        && words(before)
        && words(build)
}

/// How a source that is one file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// A tar archive.
    Tar,
    /// One, compressed by gzip.
    Gzip,
}

/// So many bytes tell how something is packed.
pub const PACKING_BYTES: usize = 512;

impl Packing {
    /// By the first [`PACKING_BYTES`]; `None` for everything else, such as a web page.
    #[must_use]
    pub fn of(first: &[u8]) -> Option<Self> {
        match first {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            _ if first.get(257..262) == Some(b"ustar") => Some(Self::Tar),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meant(name: &str, found: Option<FileKind>) -> Result<Source, SourceError> {
        source(name, None, found, Arch::Arm64)
    }

    #[test]
    fn a_source_is_told_by_its_name_and_what_is_there() {
        let release = "https://dl.k8s.io/v1.34.4/kubernetes-server-linux-arm64.tar.gz".to_owned();
        assert_eq!(meant("v1.34.4", None), Ok(Source::Url(release.clone())));
        assert_eq!(meant("bin", Some(FileKind::Directory)), Ok(Source::Directory("bin".into())));
        assert_eq!(meant("k.tar.gz", Some(FileKind::File)), Ok(Source::File("k.tar.gz".into())));
        assert_eq!(meant("https://x/y", None), Ok(Source::Url("https://x/y".into())));
        // What is there counts before what it could mean elsewhere, unless it is said.
        assert_eq!(meant("v1.34.4", Some(FileKind::Directory)), Ok(Source::Directory("v1.34.4".into())));
        let said = source("v1.34.4", Some(SourceKind::Release), Some(FileKind::Directory), Arch::Arm64);
        assert_eq!(said, Ok(Source::Url(release)));
    }

    #[test]
    fn what_means_nothing_is_told() {
        assert!(matches!(meant("1.34.4", None), Err(SourceError::Unknown(_))));
        assert!(matches!(meant("pipe", Some(FileKind::Other)), Err(SourceError::Unknown(_))));
        let directory = |found| source("x", Some(SourceKind::Directory), found, Arch::Amd64).unwrap_err().to_string();
        assert_eq!(directory(Some(FileKind::File)), "there is no directory `x`");
        let release = source("latest", Some(SourceKind::Release), None, Arch::Amd64);
        assert_eq!(release, Err(SourceError::NoVersion("latest".into())));
    }

    #[test]
    fn versions_between_releases_are_versions() {
        for good in ["v1.34.4", "v1.36.0-rc.1", "v1.36.0-alpha.1.23+0123abc"] {
            assert!(is_version(good), "{good}");
        }
        for bad in
            ["1.34.4", "v1.34", "v1.34.4.1", "v1.34.x", "v1.34.4-", "v1.34.4-a..b", "v1.34.4+/../x", "v1..4", "v"]
        {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn packing_is_told_by_the_first_bytes() {
        let mut tar = vec![0; PACKING_BYTES];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Packing::of(&tar), Some(Packing::Tar));
        assert_eq!(Packing::of(&[0x1f, 0x8b, 8]), Some(Packing::Gzip));
        assert_eq!(Packing::of(b"<!DOCTYPE html>"), None);
    }

    proptest! {
        #[test]
        fn a_version_leads_nowhere_else(text in ".{0,70}") {
            if is_version(&text) {
                prop_assert!(!text.contains('/') && !text.contains(".."));
            }
        }
    }
}
