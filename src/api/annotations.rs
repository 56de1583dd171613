//! Annotations, labels and finalizers that carry meaning.

/// On a Cluster: the Source that declares it, or [`SOURCE_CLI`]. Written by sources only.
pub const SOURCE: &str = "kina.dev/source";
/// On a Cluster: path of the declaring file, relative to its Source's root. Written by sources only.
pub const SOURCE_PATH: &str = "kina.dev/source-path";
/// On a Cluster: line of the declaring document in its file, from 1. Written by sources only.
pub const SOURCE_LINE: &str = "kina.dev/source-line";
/// On a Cluster: SHA-256 of the declaring document. Written by sources only.
pub const SOURCE_HASH: &str = "kina.dev/source-hash";
/// On a Cluster: git commit that was checked out when the declaring document was last applied. Written by sources only.
pub const SOURCE_COMMIT: &str = "kina.dev/source-commit";
/// On a Cluster: asks its Source to let go of it (`kina detach`). The value is ignored.
pub const DETACH: &str = "kina.dev/detach";
/// On a Source: the id of a held set to carry out (`kina approve`).
pub const APPROVE: &str = "kina.dev/approve";
/// On a Cluster: `true` pauses it as `spec.paused` does, without touching a spec that a file declares (`kina pause`).
pub const PAUSED: &str = "kina.dev/paused";
/// On a Cluster: `true` forbids what `spec.protect` forbids, without touching a spec that a file declares.
pub const PROTECT: &str = "kina.dev/protect";
/// On a Cluster: permits recreation for the spec generation it names, once (`kina recreate`-like commands).
pub const RECREATE: &str = "kina.dev/recreate";
/// On a Cluster: UID of the earlier Cluster whose things on the host it adopted. Written by controllers only.
pub const IDENTITY: &str = "kina.dev/identity";
/// On a Cluster: the runtimes that may have something of it, such as `apple,docker`; where it is missing, any may. Written by
/// controllers only, before anything is made.
pub const RUNTIMES: &str = "kina.dev/runtimes";

/// On an object in a cluster: the addon of the Cluster that it was applied by. It says that Kina may take it back.
pub const ADDON: &str = "kina.dev/addon";

/// Value of [`SOURCE`] for what was applied by hand.
pub const SOURCE_CLI: &str = "cli";

/// Label on a Machine: name of its Cluster.
pub const CLUSTER_LABEL: &str = "kina.dev/cluster";
/// Label on a Machine: its pool.
pub const POOL_LABEL: &str = "kina.dev/pool";
/// Label on a Machine: `control-plane` or `worker`.
pub const ROLE_LABEL: &str = "kina.dev/role";

/// Held on a Cluster until nothing of it is left on the host.
pub const CLUSTER_FINALIZER: &str = "kina.dev/cluster";
/// Held on a Machine until its node, container and volume are gone.
pub const MACHINE_FINALIZER: &str = "kina.dev/machine";
