//! Who asks: the identity that a request carries.

/// The identity behind a request. In-process clients are made with one; TLS clients get it from their certificate
/// (common name and organisations, as in Kubernetes).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// Name, such as `kina:controllers` or `kina:admin`.
    pub name: String,
    /// Groups, such as `system:masters`.
    pub groups: Vec<String>,
}

impl User {
    /// A user without groups.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), groups: Vec::new() }
    }
}
