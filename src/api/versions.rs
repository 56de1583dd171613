//! The Kubernetes versions that Kina knows.

use std::fmt;

/// A version such as `v1.35.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    /// Major version, 1.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Patch version.
    pub patch: u32,
}

/// The oldest minor version whose kubeadm patches the kubelet's configuration of a node, as pools with settings of their own
/// need it (kubeadm 1.25).
pub const OLDEST_MINOR: u32 = 25;
/// The newest minor version that Kina was made for.
pub const NEWEST_MINOR: u32 = 36;
/// What a Cluster gets that names no version.
pub const DEFAULT: KubernetesVersion = KubernetesVersion { major: 1, minor: 35, patch: 5 };

impl KubernetesVersion {
    /// Reads `vMAJOR.MINOR.PATCH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.strip_prefix('v')?.split('.').map(|number| {
            let plain = !number.is_empty() && number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| number.parse().ok())?
        });
        let version = Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }

    /// Whether Kina can make clusters of it.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self.major == 1 && (OLDEST_MINOR..=NEWEST_MINOR).contains(&self.minor)
    }

    /// The version that the name of a node image tells: of kind's own images, or those that Kina builds.
    #[must_use]
    pub fn of_image(image: &str) -> Option<Self> {
        let (repository, version) = Self::of_tag(image)?;
        (repository == "kindest/node" || repository.ends_with("/kindest/node")).then_some(version)
    }

    /// The repository of an image and the version in its tag: `kindest/node:v1.35.5@sha256:…`.
    #[must_use]
    pub fn of_tag(image: &str) -> Option<(&str, Self)> {
        let image = image.split_once('@').map_or(image, |(name, _)| name);
        let (repository, tag) = image.rsplit_once(':')?;
        Some((repository, Self::parse(tag)?))
    }

    /// The node image that carries it.
    #[must_use]
    pub fn node_image(self) -> String {
        format!("docker.io/kindest/node:{self}")
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_images_tell_their_version() {
        let version = |image: &str| KubernetesVersion::of_image(image).map(|version| version.to_string());
        assert_eq!(version("kindest/node:v1.33.1@sha256:0500").as_deref(), Some("v1.33.1"));
        assert_eq!(version("docker.io/kindest/node:v1.34.0").as_deref(), Some("v1.34.0"));
        for unknown in ["localhost:5000/node:v1.34.0", "kindest/node", "kindest/node:latest", "kindest/node@sha256:05"]
        {
            assert_eq!(version(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn versions_are_read_and_written() {
        let version = KubernetesVersion::parse("v1.35.5").unwrap();
        assert_eq!(version, DEFAULT);
        assert_eq!(version.to_string(), "v1.35.5");
        assert_eq!(version.node_image(), "docker.io/kindest/node:v1.35.5");
        for bad in ["1.35.5", "v1.35", "v1.35.5-rc.1", "v1.35.5.1", "v1..5", "v1.+5.1", ""] {
            assert_eq!(KubernetesVersion::parse(bad), None, "{bad}");
        }
    }
}
