//! Names under which Kina's own parts, and people, speak to the API.

/// The file source: the only one that may write source annotations and specs of declared Clusters.
pub const SOURCES: &str = "kina:sources";
/// The Cluster and Machine controllers.
pub const CONTROLLERS: &str = "kina:controllers";
/// Whoever has this home's client certificate: the command line, kubectl.
pub const ADMIN: &str = "kina:admin";
