//! Waking: which objects are to be looked at again. Never why, and never with content: every pass re-reads the world.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio::sync::Notify;

/// Names to wake. A set: bounded by the number of objects, however often each is woken.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    names: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Wakes {
    /// Wakes one object.
    pub fn wake(&self, name: &str) {
        if self.lock().insert(name.to_owned()) {
            self.shared.news.notify_one();
        }
    }

    /// The stream of names, for one controller.
    pub fn stream<K>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
    where
        K: Lookup<DynamicType = ()> + 'static,
    {
        futures::stream::unfold(self.clone(), |wakes| async move {
            loop {
                let next = wakes.lock().pop_first();
                if let Some(name) = next {
                    return Some((ObjectRef::new(&name), wakes));
                }
                wakes.shared.news.notified().await;
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both controllers' wakes.
#[derive(Clone, Debug, Default)]
pub struct Waker {
    /// Clusters by name.
    pub clusters: Wakes,
    /// Machines by name.
    pub machines: Wakes,
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::api::Cluster;

    #[tokio::test(start_paused = true)]
    async fn an_object_woken_often_is_looked_at_once() {
        let wakes = Wakes::default();
        for _ in 0..100 {
            wakes.wake("a");
        }
        wakes.wake("b");
        let mut stream = Box::pin(wakes.stream::<Cluster>());
        assert_eq!(stream.next().await.unwrap().name, "a");
        assert_eq!(stream.next().await.unwrap().name, "b");
        let quiet = tokio::time::timeout(std::time::Duration::from_secs(1), stream.next()).await;
        assert!(quiet.is_err());
    }
}
