//! Which directories are watched, and what their Sources are called.

use std::path::{Path, PathBuf};

use super::manifest::hash;

/// The Source of the home's own directory.
pub const HOME_SOURCE: &str = "clusters";
/// Longest part of a directory's own name within a Source's name: with `-` and the hash it stays a DNS label.
const SLUG_MAX: usize = 40;

/// One watched directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// Name of its Source.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
}

impl Root {
    /// The home's own directory, `$KINA_HOME/clusters`.
    #[must_use]
    pub fn home(path: impl Into<PathBuf>) -> Self {
        Self { name: HOME_SOURCE.to_owned(), path: path.into() }
    }

    /// Another directory. Its name follows from its path alone, so that it is the same at every start, whatever else is
    /// watched.
    #[must_use]
    pub fn watched(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: name_of(&path), path }
    }
}

fn name_of(path: &Path) -> String {
    let last = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut slug = String::new();
    for letter in last.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= SLUG_MAX {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    let mut digest = hash(path.as_os_str().as_encoded_bytes());
    digest.truncate(6);
    format!("{}-{digest}", if slug.is_empty() { "source" } else { slug })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::schema::is_dns1123_label;

    #[test]
    fn names_are_labels_follow_from_the_path_and_differ() {
        let names: Vec<String> = ["/a/clusters", "/b/clusters", "/x/My Team's Clusters!", "/", "/ä", "/x/-.-", "/cli"]
            .into_iter()
            .chain([format!("/{}", "y".repeat(200)).as_str()])
            .map(|path| Root::watched(path).name)
            .collect();
        assert!(names.iter().all(|name| is_dns1123_label(name)), "{names:?}");
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert_eq!(Root::watched("/a/clusters"), Root::watched("/a/clusters"));
        assert!(names[2].starts_with("my-team-s-clusters-"), "{}", names[2]);
    }
}
