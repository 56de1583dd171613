//! Follow-up work: garbage collection by owner references, contents of deleted namespaces, expiry.
//!
//! One task, driven by what commits leave to do, never by polling. Each step is a transaction that looks again, so it
//! does not matter how old the reason is, nor how often it comes.

mod dependents;
mod namespace;
mod work;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::object::meta;
use super::request::query::WriteOptions;
use super::status::ApiError;
use super::txn::{Place, TTL_PREFIX, Txn};
use super::user::User;
use super::verbs::{Part, Write};
use super::writer::{Core, Request, transact};

pub(crate) use dependents::{OwnerState, owner_state};
pub(crate) use work::{ObjectRef, WORK_PREFIX, Work, WorkQueue, place};

/// Objects that one step looks at: bounds the time that others wait for the writer.
const STEP: usize = 64;
/// Objects that expire within this time go together, up to so much late.
const EXPIRY_SLACK: Duration = Duration::from_secs(10);
/// After a failed step (the store is full, say): doubled with each failure up to the last.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(60);

/// How a step ends.
pub(super) enum Step {
    Done,
    /// There is more: go on after this key.
    More(String),
}

struct Collector {
    core: Arc<Core>,
    queue: mpsc::WeakSender<Request>,
    next_expiry: Option<Instant>,
}

/// Runs until the server closes.
pub(crate) async fn run(core: Arc<Core>, queue: mpsc::WeakSender<Request>, closing: CancellationToken) {
    let mut collector = Collector { core, queue, next_expiry: None };
    let work = async {
        let mut delay = FIRST_DELAY;
        while let Err(error) = collector.recall() {
            tracing::warn!(%error, "cannot read what is left to do");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LAST_DELAY);
        }
        collector.work().await;
    };
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = work => {}
    }
}

impl Collector {
    /// Takes up what an earlier life of the server left.
    fn recall(&mut self) -> Result<(), ApiError> {
        let mut found = vec![Work::Expiry];
        self.core.store.snapshot()?.visit(WORK_PREFIX, "", &mut |key, _| {
            found.extend(Work::from_row(key));
            ControlFlow::Continue(())
        })?;
        self.core.work.add(found);
        Ok(())
    }

    async fn work(&mut self) {
        let mut delay = FIRST_DELAY;
        loop {
            let Some(work) = self.core.work.take() else {
                self.wait().await;
                continue;
            };
            match self.attend(&work).await {
                Ok(()) => delay = FIRST_DELAY,
                Err(error) if error.reason == ApiError::shutting_down().reason => return,
                Err(error) => {
                    tracing::warn!(%error, ?work, "follow-up work failed, trying again later");
                    self.core.work.add([work]);
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_DELAY);
                }
            }
        }
    }

    async fn wait(&mut self) {
        let expiry = self.next_expiry;
        tokio::select! {
            biased;
            () = self.core.work.added() => {}
            () = async {
                match expiry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => self.core.work.add([Work::Expiry]),
        }
    }

    async fn attend(&mut self, work: &Work) -> Result<(), ApiError> {
        if *work == Work::Expiry {
            return self.expire().await;
        }
        let mut after = String::new();
        loop {
            let (what, from) = (work.clone(), after);
            let step = self.transact(move |txn| {
                let step = match &what {
                    Work::Expiry => Step::Done,
                    Work::OwnerGone { tenant, uid } => dependents::owner_gone(txn, tenant, uid, &from)?,
                    Work::Dependent(object) => dependents::look_for_owners(txn, object)?,
                    Work::Waiting(object) => dependents::waiting(txn, object, &from)?,
                    Work::Namespace { tenant, name } => namespace::empty(txn, tenant, name, &from)?,
                };
                if let (Step::Done, Some(row)) = (&step, what.row()) {
                    txn.remove_row(row);
                }
                Ok(step)
            });
            match step.await? {
                Step::Done => return Ok(()),
                Step::More(key) => after = key,
            }
        }
    }

    async fn transact<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut Txn<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let queue = self.queue.upgrade().ok_or_else(ApiError::shutting_down)?;
        transact(&queue, body).await
    }

    /// Removes what is due, and notes when to look again.
    async fn expire(&mut self) -> Result<(), ApiError> {
        while let Some(due) = self.first_expiry()? {
            let now = self.core.clock.now();
            if due > now {
                let wait = Duration::try_from(due.duration_since(now)).unwrap_or_default();
                self.next_expiry = Some(Instant::now() + wait + EXPIRY_SLACK);
                return Ok(());
            }
            self.transact(expire_step).await?;
        }
        self.next_expiry = None;
        Ok(())
    }

    fn first_expiry(&self) -> Result<Option<Timestamp>, ApiError> {
        let mut first = None;
        self.core.store.snapshot()?.visit(TTL_PREFIX, "", &mut |key, _| {
            first = due_time(key);
            if first.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(first)
    }
}

fn due_time(row: &str) -> Option<Timestamp> {
    let (seconds, _) = row.strip_prefix(TTL_PREFIX)?.split_once('/')?;
    Timestamp::from_second(seconds.parse().ok()?).ok()
}

fn expire_step(txn: &mut Txn<'_>) -> Result<(), ApiError> {
    for (row, revision) in txn.scan(TTL_PREFIX, "", STEP)? {
        let key = row.strip_prefix(TTL_PREFIX).and_then(|rest| rest.split_once('/')).map(|(_, key)| key);
        if due_time(&row).is_some_and(|due| due > txn.now) {
            break;
        }
        let place = key.and_then(ObjectRef::from_key).and_then(|object| place(txn.kinds, &object));
        if let Some(place) = place
            && let Some(stored) = txn.object(&place)?
            && meta(&stored.value, "resourceVersion").as_bytes() == revision.as_ref()
        {
            // Written again since, it has a later row.
            txn.remove(&place, &stored, &mut stored.value.clone())?;
        }
        txn.remove_row(row);
    }
    Ok(())
}

/// A deletion in the server's own name.
pub(super) fn write_as(user: &str, place: &Place) -> Write {
    Write {
        tenant: Arc::clone(&place.tenant),
        served: place.served.clone(),
        user: User::named(user),
        namespace: Some(place.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: place.name.clone(),
        part: Part::Whole,
        is_patch: false,
        options: WriteOptions::for_deletion(false),
        manager: user.to_owned(),
    }
}
