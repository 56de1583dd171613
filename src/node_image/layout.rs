//! Where a source has what goes into an image.

use std::fmt;

/// What a node runs of Kubernetes outside of containers.
pub const PROGRAMS: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];
/// Where a source may have them: by themselves, or as a release has them, unpacked or packed.
pub const PLACES: [&str; 3] = ["", "server/bin/", "kubernetes/server/bin/"];

/// Where everything is, by paths from the source's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The directory that holds the programs: empty, or with a `/` at its end.
    pub place: &'static str,
    /// Archives of containers' images beside them, in order.
    pub archives: Vec<String>,
}

impl Layout {
    /// The programs, by their paths.
    #[must_use]
    pub fn programs(&self) -> Vec<String> {
        PROGRAMS.iter().map(|name| format!("{}{name}", self.place)).collect()
    }
}

/// Programs that a source does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Missing {
    /// Where the others are.
    place: &'static str,
    /// Each of them.
    programs: Vec<&'static str>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.programs.len() == 1 { "is" } else { "are" };
        write!(f, "{} {verb} not there", self.programs.join(", "))?;
        if self.programs.len() == PROGRAMS.len() {
            return f.write_str(": neither by themselves, nor in `server/bin` or `kubernetes/server/bin`");
        }
        if self.place.is_empty() { Ok(()) } else { write!(f, ", in `{}`", self.place.trim_end_matches('/')) }
    }
}

/// Finds everything among the files of a source.
///
/// # Errors
/// Where no place has all of the programs: the one that has the most counts.
pub fn layout(files: &[String]) -> Result<Layout, Missing> {
    let has = |path: &str| files.iter().any(|file| file == path);
    let missing = |place: &&'static str| -> Vec<&'static str> {
        PROGRAMS.into_iter().filter(|name| !has(&format!("{place}{name}"))).collect()
    };
    let place = PLACES.into_iter().min_by_key(|place| missing(place).len()).unwrap_or_default();
    let programs = missing(&place);
    if !programs.is_empty() {
        return Err(Missing { place, programs });
    }
    let beside = |file: &&String| {
        file.strip_prefix(place).is_some_and(|name| name.ends_with(".tar") && !name.contains('/') && name.len() > 4)
    };
    let mut archives: Vec<String> = files.iter().filter(beside).cloned().collect();
    archives.sort_unstable();
    Ok(Layout { place, archives })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_release_and_a_directory_of_programs_are_both_known() {
        let release = files(&[
            "kubernetes/LICENSES",
            "kubernetes/server/bin/kube-proxy.tar",
            "kubernetes/server/bin/kube-apiserver.tar",
            "kubernetes/server/bin/kube-apiserver.docker_tag",
            "kubernetes/server/bin/kubeadm",
            "kubernetes/server/bin/kubectl",
            "kubernetes/server/bin/kubelet",
            "kubernetes/addons/other.tar",
        ]);
        let found = layout(&release).unwrap();
        assert_eq!(
            found.archives,
            ["kubernetes/server/bin/kube-apiserver.tar", "kubernetes/server/bin/kube-proxy.tar"]
        );
        assert_eq!(found.programs()[1], "kubernetes/server/bin/kubelet");
        let bare = layout(&files(&["kubelet", "kubectl", "kubeadm", "kube-apiserver", "below/x.tar", ".tar"])).unwrap();
        assert_eq!((bare.place, bare.archives.len()), ("", 0));
    }

    #[test]
    fn what_is_missing_is_named_one_by_one() {
        let told = |names: &[&str]| layout(&files(names)).unwrap_err().to_string();
        assert_eq!(told(&["kubeadm", "kube-apiserver"]), "kubelet, kubectl are not there");
        assert_eq!(told(&["server/bin/kubeadm", "server/bin/kubectl"]), "kubelet is not there, in `server/bin`");
        assert_eq!(
            told(&["README.md"]),
            "kubeadm, kubelet, kubectl are not there: neither by themselves, nor in `server/bin` or `kubernetes/server/bin`"
        );
    }
}
