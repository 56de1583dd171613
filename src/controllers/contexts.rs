//! Contexts in the user's kubeconfig: many clusters, one file, few writes.
//!
//! A kubeconfig of 1,000 clusters is some 4 MB. Written once for each of them it would be read and written 1,000 times;
//! so wishes are collected for a moment and carried out together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::wake::Waker;
use crate::kubeconfig::{self, Edit, KubeconfigError, Target};
use crate::world::World;

/// How long wishes are collected.
const COLLECT: Duration = Duration::from_millis(30);
/// How soon a file that somebody else is changing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The one writer of the user's kubeconfig. One entry a Cluster.
#[derive(Clone, Debug)]
pub struct Contexts {
    world: World,
    target: Target,
    waker: Waker,
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// By Cluster.
    wanted: BTreeMap<String, Edit>,
    /// By Cluster: the last edit, and why it failed if it did.
    done: BTreeMap<String, (Edit, Option<String>)>,
}

/// How far a wish is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wished {
    /// It is carried out.
    Done,
    /// It is about to be.
    Pending,
    /// It cannot be, for this reason.
    Failed(String),
}

impl Contexts {
    /// Nothing wished yet.
    #[must_use]
    pub fn new(world: World, target: Target, waker: Waker) -> Self {
        Self { world, target, waker, state: Arc::default(), news: Arc::default() }
    }

    /// How far a wish is, without wishing it.
    #[must_use]
    pub fn look(&self, cluster: &str, edit: &Edit) -> Wished {
        let state = self.lock();
        match state.done.get(cluster) {
            Some((done, None)) if done == edit => Wished::Done,
            Some((done, Some(error))) if done == edit => Wished::Failed(error.clone()),
            _ => Wished::Pending,
        }
    }

    /// Wishes an edit; the Cluster is woken when it is carried out, or failed. One that failed is tried again.
    pub fn wish(&self, cluster: &str, edit: Edit) {
        self.lock().wanted.insert(cluster.to_owned(), edit);
        self.news.notify_one();
    }

    /// A Cluster is gone.
    pub fn forget(&self, cluster: &str) {
        let mut state = self.lock();
        state.wanted.remove(cluster);
        state.done.remove(cluster);
    }

    /// Carries out wishes, until the end.
    pub async fn run(self, end: CancellationToken) {
        loop {
            let mut pause = COLLECT;
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = self.news.notified() => {}
            }
            loop {
                tokio::time::sleep(pause).await;
                if !self.carry_out() {
                    break;
                }
                pause = AGAIN;
            }
        }
    }

    /// `true` where it is to be tried again.
    fn carry_out(&self) -> bool {
        let wanted: Vec<(String, Edit)> =
            self.lock().wanted.iter().map(|(cluster, edit)| (cluster.clone(), edit.clone())).collect();
        if wanted.is_empty() {
            return false;
        }
        let edits: Vec<Edit> = wanted.iter().map(|(_, edit)| edit.clone()).collect();
        let files = &*self.world.files;
        let error = match kubeconfig::apply(files, &self.target, &edits) {
            Ok(_) => None,
            Err(error) if error.is_transient() => return true,
            Err(error) => Some(describe(&error)),
        };
        let mut state = self.lock();
        for (cluster, edit) in wanted {
            if state.wanted.get(&cluster) == Some(&edit) {
                state.wanted.remove(&cluster);
            }
            state.done.insert(cluster.clone(), (edit, error.clone()));
            self.waker.clusters.wake(&cluster);
        }
        !state.wanted.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(error: &KubeconfigError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause} ({})", error.hint())
}
