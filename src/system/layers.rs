//! What stands between a system and its world: nothing, unless a test puts something there.

use std::fmt::Debug;
use std::sync::Arc;

use crate::runtime::Runtime;

/// Wraps the ways on which a system acts on its world, so that a test can watch them, and let them fail. Clock,
/// randomness, files and store are given as such in [`super::Options`].
pub trait Layers: Debug + Send + Sync {
    /// The way to a container runtime, and through its connector to the clusters in it.
    fn runtime(&self, runtime: Arc<dyn Runtime>) -> Arc<dyn Runtime>;

    /// The way of controllers and sources to Kina's own API.
    fn client(&self, client: kube::Client) -> kube::Client;
}

/// Nothing in between.
#[derive(Clone, Copy, Debug)]
pub struct NoLayers;

impl Layers for NoLayers {
    fn runtime(&self, runtime: Arc<dyn Runtime>) -> Arc<dyn Runtime> {
        runtime
    }

    fn client(&self, client: kube::Client) -> kube::Client {
        client
    }
}
