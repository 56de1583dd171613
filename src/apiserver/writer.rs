//! The one writer: operations wait in a bounded queue, run one after another in a transaction that takes all that
//! wait, are committed once, seen by watchers, and only then answered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::documents::Documents;
use super::gc::WorkQueue;
use super::hub::Hub;
use super::registry::Registry;
use super::server::Observer;
use super::status::ApiError;
use super::store::{Batch, Store};
use super::txn::{Staged, Txn};
use crate::world::{Clock, Random};

/// Operations that wait before senders have to: four batches. At 3 MiB a body at most they hold 768 MiB in theory, and
/// 512 KiB with objects of usual size (2 KB).
pub(crate) const QUEUE: usize = 256;
/// Operations in one commit: 64 cost 1.9 ms together where one costs 0.3 ms (a durable commit), so a reader of its own
/// write waits no longer than a few milliseconds.
const BATCH: usize = 64;

/// What the writer and the readers share.
pub(crate) struct Core {
    pub store: Arc<dyn Store>,
    pub hub: Hub,
    pub kinds: Registry,
    pub documents: Documents,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub work: WorkQueue,
    pub observer: Option<Observer>,
}

/// Something the writer does.
pub(crate) enum Request {
    /// Runs within a batch.
    Operation(Box<dyn Operation>),
    /// Removes every key of a tenant, in a commit of its own.
    DropTenant { tenant: String, reply: oneshot::Sender<Result<(), ApiError>> },
    /// Closes the store, after all that came before.
    Close { reply: oneshot::Sender<()> },
}

pub(crate) trait Operation: Send {
    /// Runs the operation; its writes are kept if it says so.
    fn run(&mut self, txn: &mut Txn<'_>) -> bool;
    /// Answers, after the commit.
    fn finish(self: Box<Self>, commit: Result<(), ApiError>);
}

struct Call<F, T> {
    body: Option<F>,
    outcome: Option<Result<T, ApiError>>,
    reply: oneshot::Sender<Result<T, ApiError>>,
}

impl<F, T> Operation for Call<F, T>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, ApiError> + Send,
    T: Send,
{
    fn run(&mut self, txn: &mut Txn<'_>) -> bool {
        let outcome = self.body.take().map(|body| body(txn));
        let keep = matches!(outcome, Some(Ok(_)));
        self.outcome = outcome;
        keep
    }

    fn finish(self: Box<Self>, commit: Result<(), ApiError>) {
        let outcome = self.outcome.unwrap_or_else(|| Err(ApiError::internal("the operation did not run")));
        // Who asked may have gone; the operation is done all the same.
        let _ = self.reply.send(commit.and(outcome));
    }
}

/// Hands an operation to the writer and waits for its commit.
pub(crate) async fn transact<T, F>(queue: &mpsc::Sender<Request>, body: F) -> Result<T, ApiError>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, ApiError> + Send + 'static,
    T: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let call = Call { body: Some(body), outcome: None, reply };
    queue.send(Request::Operation(Box::new(call))).await.map_err(|_| ApiError::shutting_down())?;
    answer.await.map_err(|_| ApiError::shutting_down())?
}

/// Removes all of a tenant and waits for the commit.
pub(crate) async fn drop_tenant(queue: &mpsc::Sender<Request>, tenant: String) -> Result<(), ApiError> {
    let (reply, answer) = oneshot::channel();
    queue.send(Request::DropTenant { tenant, reply }).await.map_err(|_| ApiError::shutting_down())?;
    answer.await.map_err(|_| ApiError::shutting_down())?
}

/// The writer as a task: everything happens between two awaits, so that one thread gives one order.
pub(crate) async fn run_as_task(core: Arc<Core>, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while requests.recv_many(&mut waiting, BATCH).await > 0 {
        if core.process(&mut waiting) {
            break;
        }
    }
}

/// The writer as a thread of its own: waits for the disk, while readers go on.
pub(crate) fn run_as_thread(core: &Core, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while requests.blocking_recv_many(&mut waiting, BATCH) > 0 {
        if core.process(&mut waiting) {
            break;
        }
    }
}

/// Closes the store after what was accepted before.
pub(crate) async fn close(queue: &mpsc::Sender<Request>) {
    let (reply, answer) = oneshot::channel();
    // Where nobody takes or answers it, the writer has ended already.
    if queue.send(Request::Close { reply }).await.is_ok() {
        let _ = answer.await;
    }
}

impl Core {
    /// Does what waits; whether it was told to close, after which there is nothing more to do. What came later is
    /// dropped, and so answered as by a server that shuts down.
    fn process(&self, waiting: &mut Vec<Request>) -> bool {
        let mut batch = Vec::new();
        for request in waiting.drain(..) {
            match request {
                Request::Operation(operation) => batch.push(operation),
                Request::DropTenant { tenant, reply } => {
                    self.commit(std::mem::take(&mut batch));
                    let _ = reply.send(self.drop_tenant(&tenant));
                }
                Request::Close { reply } => {
                    self.commit(batch);
                    self.store.close();
                    let _ = reply.send(());
                    return true;
                }
            }
        }
        self.commit(batch);
        false
    }

    fn commit(&self, mut operations: Vec<Box<dyn Operation>>) {
        if operations.is_empty() {
            return;
        }
        let result = self.run_and_commit(&mut operations);
        for operation in operations {
            operation.finish(result.clone());
        }
    }

    fn run_and_commit(&self, operations: &mut [Box<dyn Operation>]) -> Result<(), ApiError> {
        let snapshot = self.store.snapshot()?;
        if snapshot.revision() > self.hub.published() {
            // A commit that was reported as failed has been made after all: nobody was told of its events.
            self.hub.reset(snapshot.revision());
        }
        let mut all = Staged::default();
        let mut revision = snapshot.revision();
        for operation in operations {
            let now = self.clock.now();
            let mut txn = Txn::new(&*snapshot, &all, revision, &self.kinds, now, &*self.random);
            if operation.run(&mut txn) {
                let (staged, reached) = txn.into_staged();
                all.absorb(staged);
                revision = reached;
            }
        }
        if !all.writes.is_empty() {
            let writes: Vec<(String, Option<Bytes>)> = all.writes.into_iter().collect();
            drop(snapshot);
            self.store.commit(Batch { revision, dropped: Vec::new(), writes })?;
            self.hub.publish(all.events, revision);
            if let Some(observer) = &self.observer {
                all.observed.iter().for_each(|(tenant, resource)| observer(tenant, resource));
            }
        }
        self.work.add(all.work);
        Ok(())
    }

    fn drop_tenant(&self, tenant: &str) -> Result<(), ApiError> {
        // A revision of its own: what was listed before it cannot be followed past it.
        let revision = self.store.snapshot()?.revision() + 1;
        let prefix = format!("{tenant}/");
        self.store.commit(Batch { revision, dropped: vec![prefix], writes: Vec::new() })?;
        self.hub.drop_tenant(tenant, revision);
        Ok(())
    }
}
