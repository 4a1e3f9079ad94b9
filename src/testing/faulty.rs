//! A store whose operations fail, wait, panic or lose their answers when a test asks for it.

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
        ActionCursor, ActionPage, Claim, ClaimRequest, ClaimResult, FateCursor, FateFilter,
        FatePage, FinishReport, Heartbeat, Incarnation, InsertStatement, Keep, NextDueRequest,
        NodeId, NodeRow, PruneReport, ReapReport, Record, RecordChange, RecordCursor, RecordFilter,
        RecordPage, Release, Row, RowKey, RowOutcome, StoreChange, StoreError, Write, WriteResult,
    },
    store::{Capabilities, Store},
};

/// A store for tests: each of its operations can fail, wait, panic or lose its answer.
///
/// It wraps any store and passes every operation on to that store until a test sets a [`Fault`]. Clones
/// share the wrapped store and the faults. Other schedulers may use the wrapped store directly: the faults
/// do not reach them, as a broken network reaches one host and not the next.
///
/// A test of what a service answers while its database is down:
///
/// ```
/// use std::time::Duration;
///
/// use punctual::{
///     Context, Scheduler, Task,
///     store::MemoryStore,
///     testing::{Fault, FaultyStore},
///     trigger::after,
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendInvoice {
///     customer: u64,
/// }
///
/// impl Task for SendInvoice {
///     const NAME: &'static str = "send-invoice";
///     type Output = ();
///
///     async fn run(self, _: Context) {}
/// }
///
/// /// The service's own code: the HTTP status with which it answers an order.
/// async fn order(scheduler: &Scheduler, customer: u64) -> u16 {
///     match scheduler.add(after(Duration::from_secs(60)), SendInvoice { customer }).await {
///         Ok(_) => 201,
///         Err(error) if error.is_store_unavailable() => 503,
///         Err(_) => 500,
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let database = FaultyStore::new(MemoryStore::new());
/// let scheduler =
///     Scheduler::builder().store(database.clone()).task::<SendInvoice>().start().await?;
///
/// database.set_all(Fault::Unavailable);
/// assert_eq!(order(&scheduler, 7).await, 503);
///
/// database.heal();
/// assert_eq!(order(&scheduler, 7).await, 201);
/// # Ok(()) }
/// ```
///
/// Each operation yields to the runtime once before it is done, as one that goes over a network does.
pub struct FaultyStore<S> {
    store: Arc<S>,
    plan: Arc<Mutex<Plan>>,
}

/// What goes wrong with an operation of a [`FaultyStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The operation is not done, and fails as [`StoreError::unavailable`].
    Unavailable,
    /// The operation is not done, and fails as [`StoreError::refused`].
    Refused,
    /// The operation is not done, and fails as [`StoreError::lease_lost`].
    LeaseLost,
    /// The operation is done, and fails as [`StoreError::unavailable`].
    AnswerLost,
    /// The operation is done after this delay.
    Delayed(Duration),
    /// The operation is done, and answers after this delay.
    AnswerDelayed(Duration),
    /// The operation is not done, and never answers.
    Hangs,
    /// The operation is not done, and panics.
    Panics,
    /// The operation is done, and the options of each [`Record`] in its answer are unreadable.
    ///
    /// Affects [`Operation::Get`], [`Operation::List`], [`Operation::Claim`] and [`Operation::Claimed`].
    Garbled,
    /// The operation is done, and answers that the store's clock stands at this instant.
    ///
    /// Affects [`Operation::Now`] and [`Operation::Heartbeat`].
    ClockAt(DateTime<Utc>),
}

/// An operation of a store, named like the method of [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the methods")]
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
    /// Every operation.
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

type Changes = dyn Fn() -> BoxStream<'static, StoreChange> + Send;

#[derive(Default)]
struct Plan {
    operations: HashMap<Operation, State>,
    /// Ends the streams of changes.
    changes_end: CancellationToken,
    /// The streams of changes that are opened instead of those of the wrapped store.
    changes: Option<Box<Changes>>,
    /// The capabilities that are claimed instead of those of the wrapped store.
    capabilities: Option<Capabilities>,
}

/// What is to happen to one operation, and what has happened so far.
#[derive(Default)]
struct State {
    fault: Option<Fault>,
    /// Takes precedence over `fault` in the next call.
    next_fault: Option<Fault>,
    before: Option<BoxFuture<'static, ()>>,
    after: Option<BoxFuture<'static, ()>>,
    calls: u64,
    batches: Vec<usize>,
}

impl<S> FaultyStore<S> {
    /// Wraps a store. No fault is set.
    pub fn new(store: S) -> FaultyStore<S> {
        FaultyStore { store: Arc::new(store), plan: Arc::default() }
    }

    /// The wrapped store, whose operations have no faults.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Sets the fault of an operation, until [`heal`](FaultyStore::heal) is called or another fault is set.
    pub fn set(&self, operation: Operation, fault: Fault) {
        self.plan().state(operation).fault = Some(fault);
    }

    /// Sets the fault of every operation, as [`set`](FaultyStore::set) does for one.
    pub fn set_all(&self, fault: Fault) {
        for operation in Operation::ALL {
            self.set(operation, fault);
        }
    }

    /// Sets the fault of the next call of an operation alone.
    pub fn once(&self, operation: Operation, fault: Fault) {
        self.plan().state(operation).next_fault = Some(fault);
    }

    /// Removes every fault. Calls that already hang or wait go on doing so.
    pub fn heal(&self) {
        for state in self.plan().operations.values_mut() {
            state.fault = None;
            state.next_fault = None;
        }
    }

    /// Awaits `hook` in the next call of an operation, before the operation is done.
    ///
    /// A hook that waits for a signal holds the operation until the test sends that signal:
    ///
    /// ```
    /// use punctual::{store::{MemoryStore, Store}, testing::{FaultyStore, Operation}};
    /// use tokio::sync::oneshot;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let store = FaultyStore::new(MemoryStore::new());
    /// let (signal, signaled) = oneshot::channel();
    /// store.before(Operation::Get, async { signaled.await.unwrap() });
    /// let get = tokio::spawn({
    ///     let store = store.clone();
    ///     async move { store.get("report".into()).await }
    /// });
    /// tokio::task::yield_now().await;
    /// assert_eq!((store.calls(Operation::Get), get.is_finished()), (1, false));
    /// signal.send(()).unwrap();
    /// assert_eq!(get.await.unwrap().unwrap(), None);
    /// # }
    /// ```
    pub fn before(&self, operation: Operation, hook: impl Future<Output = ()> + Send + 'static) {
        self.plan().state(operation).before = Some(Box::pin(hook));
    }

    /// Awaits `hook` in the next call of an operation, after the operation is done and before it answers.
    ///
    /// Use it for what happens while an answer is on its way, such as a change by another scheduler. A call
    /// that is not done, because of a fault, leaves the hook to the next one.
    pub fn after(&self, operation: Operation, hook: impl Future<Output = ()> + Send + 'static) {
        self.plan().state(operation).after = Some(Box::pin(hook));
    }

    /// The number of calls of an operation so far, those with a fault included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.plan().state(operation).calls
    }

    /// The number of items in each call of an operation so far: writes, outcomes, releases, or the rows,
    /// nodes and records that are asked about. Empty for operations that take no list.
    pub fn batches(&self, operation: Operation) -> Vec<usize> {
        self.plan().state(operation).batches.clone()
    }

    /// Replaces the [`capabilities`](Store::capabilities). What the operations do stays the same.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.plan().capabilities = Some(capabilities);
    }

    /// Replaces the streams of [`changes`](Store::changes) that are opened from now on. A stream that is
    /// pending notifies of nothing, as a store without notifications does.
    pub fn set_changes(
        &self,
        changes: impl Fn() -> BoxStream<'static, StoreChange> + Send + 'static,
    ) {
        self.plan().changes = Some(Box::new(changes));
    }

    /// Ends the open streams of [`changes`](Store::changes). A stream that is opened later is not affected.
    pub fn end_changes(&self) {
        std::mem::take(&mut self.plan().changes_end).cancel();
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Nothing panics while it holds the lock.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does an operation that takes no list and whose answer can't be spoiled.
    async fn ask<T>(
        &self,
        operation: Operation,
        ask: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.ask_and_spoil(operation, ask, |_, _| {}).await
    }

    /// Does an operation that takes a list of so many items.
    async fn ask_about<T>(
        &self,
        operation: Operation,
        items: usize,
        ask: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.plan().state(operation).batches.push(items);
        self.ask(operation, ask).await
    }

    /// Does an operation whose answer `spoil` makes wrong in the way of a fault.
    async fn ask_and_spoil<T>(
        &self,
        operation: Operation,
        ask: impl Future<Output = Result<T, StoreError>> + Send,
        spoil: impl FnOnce(&mut T, Fault) + Send,
    ) -> Result<T, StoreError> {
        let (fault, before) = {
            let mut plan = self.plan();
            let state = plan.state(operation);
            state.calls += 1;
            (state.next_fault.take().or(state.fault), state.before.take())
        };
        tokio::task::yield_now().await;
        if let Some(hook) = before {
            hook.await;
        }
        match fault {
            Some(Fault::Unavailable) => {
                return Err(StoreError::unavailable("the test makes it fail"));
            }
            Some(Fault::Refused) => return Err(StoreError::refused("the test makes it refuse")),
            Some(Fault::LeaseLost) => return Err(StoreError::lease_lost()),
            Some(Fault::Hangs) => std::future::pending::<()>().await,
            Some(Fault::Panics) => panic!("the test makes it panic"),
            Some(Fault::Delayed(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let mut answer = ask.await;
        let after = self.plan().state(operation).after.take();
        if let Some(hook) = after {
            hook.await;
        }
        match (fault, &mut answer) {
            (Some(Fault::AnswerLost), _) => {
                return Err(StoreError::unavailable("the test loses the answer"));
            }
            (Some(Fault::AnswerDelayed(delay)), _) => tokio::time::sleep(delay).await,
            (Some(fault), Ok(answer)) => spoil(answer, fault),
            _ => {}
        }
        answer
    }
}

impl Plan {
    fn state(&mut self, operation: Operation) -> &mut State {
        self.operations.entry(operation).or_default()
    }
}

/// Makes the options of records unreadable, if that is the fault.
fn garble<'a>(records: impl IntoIterator<Item = &'a mut Record>, fault: Fault) {
    if fault == Fault::Garbled {
        for record in records {
            record.options = "garbled by the test".into();
        }
    }
}

fn garble_claims(result: &mut ClaimResult, fault: Fault) {
    garble(result.jobs.iter_mut().map(|job| &mut job.record), fault);
}

/// Replaces what a clock answered, if that is the fault.
fn set_clock(clock: &mut DateTime<Utc>, fault: Fault) {
    if let Fault::ClockAt(instant) = fault {
        *clock = instant;
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
        self.ask_and_spoil(Operation::Now, self.store.now(), set_clock).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteResult>, StoreError> {
        self.ask_about(Operation::Write, writes.len(), self.store.write(writes)).await
    }

    fn insert_statement(&self, record: &Record) -> Option<InsertStatement> {
        self.store.insert_statement(record)
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.ask_and_spoil(Operation::Get, self.store.get(id), |record, fault| {
            garble(record, fault)
        })
        .await
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        let list = self.store.list(filter, after, limit);
        self.ask_and_spoil(Operation::List, list, |page, fault| garble(&mut page.records, fault))
            .await
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<RecordChange>, StoreError> {
        self.ask_about(Operation::Changed, known.len(), self.store.changed(known)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        self.ask_and_spoil(Operation::Claim, self.store.claim(request), garble_claims).await
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        self.ask_about(Operation::Release, rows.len(), self.store.release(node, rows)).await
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        self.ask_about(Operation::Finish, outcomes.len(), self.store.finish(outcomes)).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        self.ask_and_spoil(Operation::Heartbeat, self.store.heartbeat(heartbeat), set_clock).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.ask(Operation::Nodes, self.store.nodes()).await
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Result<ReapReport, StoreError> {
        self.ask_about(Operation::Reap, suspects.len(), self.store.reap(suspects)).await
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
        self.plan().state(Operation::Claimed).batches.push(rows.len());
        let claimed = self.store.claimed(node, rows);
        self.ask_and_spoil(Operation::Claimed, claimed, garble_claims).await
    }

    async fn next_due(&self, of: NextDueRequest) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.ask(Operation::NextDue, self.store.next_due(of)).await
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        let plan = self.plan();
        let changes = match &plan.changes {
            Some(changes) => changes(),
            None => self.store.changes(),
        };
        changes.take_until(plan.changes_end.clone().cancelled_owned()).boxed()
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
        self.ask_about(Operation::Waiting, of.len(), self.store.waiting(of, after, limit)).await
    }

    async fn prune(&self, keep: Keep, limit: usize) -> Result<PruneReport, StoreError> {
        self.ask(Operation::Prune, self.store.prune(keep, limit)).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
