//! A store that fails when it is told to, in front of one that works.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio_util::sync::CancellationToken;

use crate::{
    job::JobId,
    ledger::{
        ActionCursor, ActionPage, Claim, ClaimRequest, ClaimResult, Cursor, FateCursor, FateFilter,
        FatePage, FinishReport, Heartbeat, Incarnation, Keep, NextDue, NodeId, NodeRow, Page,
        Pruned, Reaped, Record, RecordChange, RecordFilter, Release, Row, RowKey, RowOutcome,
        StoreChange, StoreError, Write, Written,
    },
    store::{Capabilities, Store},
};

/// A store that fails, loses its answers, dawdles or hangs when a test tells it to, in front of one
/// that works. Clones are the same; the store behind it may be shared by others that do not notice.
///
/// ```
/// use punctual::{
///     store::{MemoryStore, Store},
///     testing::{Fault, FaultyStore, Operation},
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let store = FaultyStore::new(MemoryStore::new());
/// store.set(Operation::Get, Fault::Unavailable);
/// assert!(store.get("report".into()).await.is_err());
/// assert_eq!(store.calls(Operation::Get), 1);
/// store.heal();
/// assert_eq!(store.get("report".into()).await.unwrap(), None);
/// # }
/// ```
pub struct FaultyStore<S> {
    store: Arc<S>,
    plan: Arc<Mutex<Plan>>,
}

/// What goes wrong with an operation of a [`FaultyStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not done, and the error is [`StoreError::unavailable`].
    Unavailable,
    /// It is not done, and the error is [`StoreError::refused`].
    Refused,
    /// It is not done, and the error is [`StoreError::lease_lost`].
    LeaseLost,
    /// It is done, and the error is [`StoreError::unavailable`].
    AnswerLost,
    /// It is done so much later.
    Late(Duration),
    /// It is done, and answered so much later.
    AnswerLate(Duration),
    /// It is neither done nor answered.
    Hangs,
}

/// Which operation of a store; they are named as in [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are named like what they are")]
#[non_exhaustive]
pub enum Operation {
    Now,
    Write,
    Get,
    List,
    Changed,
    Claim,
    Release,
    Finish,
    Heartbeat,
    Nodes,
    Reap,
    ClaimedBy,
    Claimed,
    NextDue,
    History,
    Rows,
    Fates,
    Actions,
    Waiting,
    Prune,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 20] = [
        Operation::Now,
        Operation::Write,
        Operation::Get,
        Operation::List,
        Operation::Changed,
        Operation::Claim,
        Operation::Release,
        Operation::Finish,
        Operation::Heartbeat,
        Operation::Nodes,
        Operation::Reap,
        Operation::ClaimedBy,
        Operation::Claimed,
        Operation::NextDue,
        Operation::History,
        Operation::Rows,
        Operation::Fates,
        Operation::Actions,
        Operation::Waiting,
        Operation::Prune,
    ];
}

#[derive(Default)]
struct Plan {
    faults: HashMap<Operation, Fault>,
    next: HashMap<Operation, Fault>,
    /// What happens after an operation took effect, and before it is answered.
    between: HashMap<Operation, BoxFuture<'static, ()>>,
    calls: HashMap<Operation, u64>,
    /// How many records `changed` was asked for.
    known: u64,
    /// Ends the streams of changes.
    changes_end: CancellationToken,
    /// What it says that it can, if that is not what the store behind it says.
    capabilities: Option<Capabilities>,
}

impl<S> FaultyStore<S> {
    /// In front of this store; nothing goes wrong yet.
    pub fn new(store: S) -> FaultyStore<S> {
        FaultyStore { store: Arc::new(store), plan: Arc::default() }
    }

    /// The store behind it.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// From now on this goes wrong with each such operation.
    pub fn set(&self, operation: Operation, fault: Fault) {
        self.plan().faults.insert(operation, fault);
    }

    /// From now on this goes wrong with every operation.
    pub fn set_all(&self, fault: Fault) {
        self.plan().faults.extend(Operation::ALL.map(|operation| (operation, fault)));
    }

    /// This goes wrong with the next such operation, and not with those after it.
    pub fn once(&self, operation: Operation, fault: Fault) {
        self.plan().next.insert(operation, fault);
    }

    /// After the next such operation took effect, and before it is answered, this is awaited.
    pub fn between(&self, operation: Operation, hook: impl Future<Output = ()> + Send + 'static) {
        self.plan().between.insert(operation, Box::pin(hook));
    }

    /// From now on it says that this is what it can do. It does what the store behind it does.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.plan().capabilities = Some(capabilities);
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.faults.clear();
        plan.next.clear();
    }

    /// How many such operations were asked for.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.plan().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Ends the streams of [`changes`](Store::changes) that there are; those that are opened later go on.
    pub fn end_changes(&self) {
        std::mem::take(&mut self.plan().changes_end).cancel();
    }

    /// How many records [`changed`](Store::changed) was asked for, in all calls together.
    pub fn known(&self) -> u64 {
        self.plan().known
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Nothing panics while it holds the lock.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T>(
        &self,
        operation: Operation,
        ask: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let fault = {
            let mut plan = self.plan();
            *plan.calls.entry(operation).or_default() += 1;
            let next = plan.next.remove(&operation);
            next.or_else(|| plan.faults.get(&operation).copied())
        };
        match fault {
            Some(Fault::Unavailable) => {
                return Err(StoreError::unavailable("the test makes it fail"));
            }
            Some(Fault::Refused) => return Err(StoreError::refused("the test makes it refuse")),
            Some(Fault::LeaseLost) => return Err(StoreError::lease_lost()),
            Some(Fault::Hangs) => std::future::pending::<()>().await,
            Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::AnswerLost | Fault::AnswerLate(_)) | None => {}
        }
        let answer = ask.await;
        let between = self.plan().between.remove(&operation);
        if let Some(hook) = between {
            hook.await;
        }
        match fault {
            Some(Fault::AnswerLost) => Err(StoreError::unavailable("the test loses the answer")),
            Some(Fault::AnswerLate(delay)) => {
                tokio::time::sleep(delay).await;
                answer
            }
            _ => answer,
        }
    }
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> FaultyStore<S> {
        FaultyStore { store: self.store.clone(), plan: self.plan.clone() }
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.plan().capabilities.unwrap_or_else(|| self.store.capabilities())
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.ask(Operation::Now, self.store.now()).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Written>, StoreError> {
        self.ask(Operation::Write, self.store.write(writes)).await
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.ask(Operation::Get, self.store.get(id)).await
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.ask(Operation::List, self.store.list(filter, after, limit)).await
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<RecordChange>, StoreError> {
        self.plan().known += known.len() as u64;
        self.ask(Operation::Changed, self.store.changed(known)).await
    }

    async fn claim(&self, take: ClaimRequest) -> Result<ClaimResult, StoreError> {
        self.ask(Operation::Claim, self.store.claim(take)).await
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        self.ask(Operation::Release, self.store.release(node, rows)).await
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        self.ask(Operation::Finish, self.store.finish(outcomes)).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        self.ask(Operation::Heartbeat, self.store.heartbeat(heartbeat)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.ask(Operation::Nodes, self.store.nodes()).await
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Result<Reaped, StoreError> {
        self.ask(Operation::Reap, self.store.reap(suspects)).await
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        self.ask(Operation::ClaimedBy, self.store.claimed_by(node, after, limit)).await
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Result<ClaimResult, StoreError> {
        self.ask(Operation::Claimed, self.store.claimed(node, rows)).await
    }

    async fn next_due(&self, of: NextDue) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.ask(Operation::NextDue, self.store.next_due(of)).await
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        let end = self.plan().changes_end.clone();
        self.store.changes().take_until(end.cancelled_owned()).boxed()
    }

    async fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.ask(Operation::History, self.store.history(incarnation, limit)).await
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.ask(Operation::Rows, self.store.rows(after, limit)).await
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> Result<FatePage, StoreError> {
        self.ask(Operation::Fates, self.store.fates(filter, after, limit)).await
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> Result<ActionPage, StoreError> {
        self.ask(Operation::Actions, self.store.actions(job, after, limit)).await
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.ask(Operation::Waiting, self.store.waiting(of, after, limit)).await
    }

    async fn prune(&self, keep: Keep, limit: usize) -> Result<Pruned, StoreError> {
        self.ask(Operation::Prune, self.store.prune(keep, limit)).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
