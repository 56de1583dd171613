//! Names, parsed at the border.

use std::fmt;

/// Longest name of a Cluster: with the longest pool and ordinal a node name stays within 63 characters (RFC 1123).
pub const CLUSTER_NAME_MAX: usize = 32;
/// Longest name of a pool.
pub const POOL_NAME_MAX: usize = 20;
/// The pool of the control planes; no pool of workers may have this name.
pub const CONTROL_PLANE_POOL: &str = "control-plane";

/// A name that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a DNS label.
    #[error(
        "`{name}` must consist of lower case letters, digits and `-`, and start and end with a letter or digit (such as `dev` or `team-a`)"
    )]
    NotALabel {
        /// The name.
        name: String,
    },
    /// Too long.
    #[error("`{}` is {length} characters long, at most {max} are allowed", clipped(.name))]
    TooLong {
        /// The name.
        name: String,
        /// Its length.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// Has a meaning of its own.
    #[error("`{name}` is reserved")]
    Reserved {
        /// The name.
        name: String,
    },
}

/// As much of a name as a message needs.
fn clipped(name: &str) -> String {
    match name.char_indices().nth(CLUSTER_NAME_MAX) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// Name of a Cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

/// Name of a pool of machines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

/// Name of a Machine, of its container and of its Node: `CLUSTER-POOL-N`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

impl ClusterName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] names the rule that is broken.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        label(name, CLUSTER_NAME_MAX).map(Self)
    }

    /// The name of its network on the host.
    #[must_use]
    pub fn network(&self) -> String {
        format!("kina-{}", self.0)
    }

    /// The name of its load balancer's container, and of its endpoint inside its network.
    #[must_use]
    pub fn load_balancer(&self) -> String {
        format!("{}-lb", self.0)
    }

    /// The name of its context, cluster and user in a kubeconfig.
    #[must_use]
    pub fn context(&self) -> String {
        format!("kina-{}", self.0)
    }
}

impl PoolName {
    /// Checks the name of a pool of workers.
    ///
    /// # Errors
    /// [`NameError`] names the rule that is broken.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name == CONTROL_PLANE_POOL {
            return Err(NameError::Reserved { name: name.to_owned() });
        }
        label(name, POOL_NAME_MAX).map(Self)
    }

    /// The pool of the control planes.
    #[must_use]
    pub fn control_plane() -> Self {
        Self(CONTROL_PLANE_POOL.to_owned())
    }
}

impl MachineName {
    /// The name of a slot.
    #[must_use]
    pub fn new(cluster: &ClusterName, pool: &PoolName, ordinal: u32) -> Self {
        Self(format!("{cluster}-{pool}-{ordinal}"))
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text!(ClusterName, PoolName, MachineName);

/// Whether machines of these two clusters could get one name: `a` with pool `b-c`, and `a-b` with pool `c`.
#[must_use]
pub fn collide(left: (&str, &[&str]), right: (&str, &[&str])) -> Option<String> {
    let names = |(cluster, pools): (&str, &[&str])| -> Vec<String> {
        pools.iter().copied().chain([CONTROL_PLANE_POOL]).map(|pool| format!("{cluster}-{pool}")).collect()
    };
    let right = names(right);
    names(left).into_iter().find(|name| right.contains(name))
}

/// Lower case letters, digits and `-` inside (RFC 1123), at most so many.
pub(super) fn label(name: &str, max: usize) -> Result<String, NameError> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = bytes.first().copied().is_some_and(inner) && bytes.last().copied().is_some_and(inner);
    if !ends || !bytes.iter().all(|&b| inner(b) || b == b'-') {
        return Err(NameError::NotALabel { name: name.to_owned() });
    }
    if bytes.len() > max {
        return Err(NameError::TooLong { name: name.to_owned(), length: bytes.len(), max });
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_is_far_too_long_does_not_fill_the_screen() {
        let error = ClusterName::parse(&"a".repeat(300)).unwrap_err().to_string();
        assert_eq!(error, format!("`{}...` is 300 characters long, at most 32 are allowed", "a".repeat(32)));
    }

    #[test]
    fn bad_names_are_refused_by_the_rule_they_break() {
        for name in ["", "-a", "a-", "A", "a.b", "a/b", "../x", "-rf", "$(id)", "ä"] {
            assert!(matches!(ClusterName::parse(name), Err(NameError::NotALabel { .. })), "{name}");
        }
        assert!(matches!(ClusterName::parse(&"a".repeat(33)), Err(NameError::TooLong { length: 33, .. })));
        assert!(matches!(PoolName::parse("control-plane"), Err(NameError::Reserved { .. })));
    }

    #[test]
    fn clusters_whose_machines_would_share_a_name_collide() {
        assert_eq!(collide(("a", &["b-c"]), ("a-b", &["c"])), Some("a-b-c".into()));
        assert_eq!(collide(("a", &["b"]), ("c", &["b"])), None);
    }

    proptest! {
        #[test]
        fn every_accepted_name_is_a_dns_label(name in "\\PC{0,40}") {
            if let Ok(name) = ClusterName::parse(&name) {
                let machine = MachineName::new(&name, &PoolName::control_plane(), u32::MAX);
                prop_assert!(machine.as_str().len() <= 63);
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }
    }
}
