//! The contract between a scheduler and the database that keeps its durable jobs.
//!
//! A [`Store`] keeps one [`Record`] for each job, and the *ledger*: one [`Row`] for each claimed
//! fire time, or for each stretch of fire times with one fate. One store may serve many schedulers,
//! its *nodes*. The store is their only coordinator: there is no leader, and nodes do not
//! communicate with each other.
//!
//! # Promises
//!
//! Every store keeps these promises, within the limits of its [`Durability`]:
//!
//! - A fire time is claimed exactly once, whatever the number of nodes and whatever crashes: a
//!   [`RowKey`] is unique in the ledger.
//! - A fire time runs at most once by default, or at least once with
//!   [`recover(true)`](crate::Add::recover). No fire time is lost silently: without `recover`, the
//!   fire time of a dead node is closed as *abandoned*.
//! - A dead node's rows are reclaimed within its lease and one heartbeat. The time counts from its
//!   death if another node is alive, and otherwise from the start of the next node.
//! - A clock step, at a node or at the store, never expires a live node.
//! - An operation that returned `Ok` is not lost. An operation whose response was lost may be
//!   retried.
//!
//! # Life of a fire time
//!
//! ```text
//!             claim                   finish
//! (none) ────────────▶ Claimed ────────────────────▶ Closed(fate)
//!   │                  ▲   │
//!   │ write, claim     │   │ release, reap (with `recover`)
//!   │                  │   ▼
//!   │            claim └─ Waiting ─────────────────▶ Closed(fate)
//!   │                              write, claim
//!   └──────────────────────────────────────────────▶ Closed(fate)
//!           claim, write (fire times without a run)
//! ```
//!
//! `reap` closes the claimed rows of a dead node as *abandoned* unless their job recovers.
//!
//! # Several stores
//!
//! A scheduler may have several stores, each under a name:
//! [`add_store`](crate::SchedulerBuilder::add_store) on its builder, or
//! [at run time](crate::Scheduler::add_store). The one of
//! [`store`](crate::SchedulerBuilder::store) is `default`. The scheduler is a node of each store,
//! with one lease per store, so an outage of one store stalls only the jobs in that store.
//!
//! | | with several stores |
//! |---|---|
//! | [`Add::store`](crate::Add::store) | names the store of a job. A task without a named store goes to `default`, or to memory if there is no `default` |
//! | an id | is in one store, or in memory. Adding the id to another store is an error, whatever [`OnConflict`](crate::OnConflict) is set. This check skips a store that is unavailable or does not respond within a second |
//! | [`Scheduler::job`](crate::Scheduler::job) | finds the job in any store. If two stores have the id, the verbs return an error ([`is_ambiguous`](crate::Error::is_ambiguous)) until [`Job::store`](crate::Job::store) names the store |
//! | [`jobs`](crate::Scheduler::jobs), [`unhandled`](crate::Scheduler::unhandled), [`export`](crate::Scheduler::export) | read all stores, and return an error that names a store that is unavailable; [`Jobs::store`](crate::Jobs::store) reads one store |
//! | [`remove_all`](crate::Scheduler::remove_all), the verbs of [`Jobs`](crate::Jobs) | act on the jobs of all available stores, then return an error if one store is unavailable |
//! | [`remove_store`](crate::Scheduler::remove_store) | deregisters the scheduler from one store; the jobs stay in the store |
//! | [events](crate::EventPayload), [`JobInfo::store`](crate::JobInfo::store) | name the store |
//!
//! # Implementing a store
//!
//! Implement the operations of [`Store`] as `async fn`s. The database needs two features: a
//! compare-and-swap of a record together with its new rows, and a unique key. The doc of each
//! operation says what is one commit. An operation on several jobs or rows may commit each of them
//! separately unless its doc says otherwise.
//!
//! - **Cancellation.** The future of an operation may be dropped at any `await`. The operation then
//!   takes effect, does not take effect, or takes effect a moment later. The scheduler retries the
//!   operation.
//! - **Idempotence.** Every operation may be retried with the same arguments. The doc of each
//!   operation says how the store recognizes a retry.
//! - **Errors.** The scheduler retries after [`StoreError::unavailable`], with backoff and without
//!   a limit. [`StoreError::refused`] is for errors that a retry cannot fix.
//!   [`StoreError::lease_lost`] is for a node whose row is gone.
//! - **Time** is the store's own clock, if it has one: [`now`](Store::now). Instants are whole
//!   milliseconds.
//!
//! `testing::store_conformance!` runs every case of the contract against a store, each as its own
//! test. `testing::Simulation` runs whole clusters on the store, with lost responses, crashes and
//! clock steps (feature `testing`).

mod cell;
mod changes;
mod erased;
mod memory;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;

use std::{future::Future, time::Duration};

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt as _};

pub use self::memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use self::sql::{MySqlBuilder, MySqlStore};
#[cfg(feature = "postgres")]
pub use self::sql::{PostgresBuilder, PostgresStore};
#[cfg(feature = "sqlite")]
pub use self::sql::{SqliteBuilder, SqliteStore, Synchronous};
pub(crate) use self::{changes::Changes, erased::ErasedStore};
use crate::job::JobId;
pub use crate::ledger::{
    Action, ActionCursor, ActionPage, Claim, ClaimCursor, ClaimRequest, ClaimResult, ClaimedJob,
    Decide, Decision, Fate, FateCursor, FateFilter, FatePage, FinishReport, Heartbeat, Incarnation,
    InsertStatement, Keep, LoggedAction, NextDueRequest, NodeId, NodeRow, PruneReport, ReapReport,
    Record, RecordChange, RecordCursor, RecordFilter, RecordPage, RecordStatus, RejectedJob,
    Release, Row, RowKey, RowKind, RowOutcome, RowState, RunEnd, Stamp, StoreChange, StoreError,
    Tokens, Write, WriteResult,
};

/// A database that keeps durable jobs. See the [module](self) for its promises and for how to
/// implement a store.
pub trait Store: Send + Sync + 'static {
    /// Returns the properties and limits of this store.
    fn capabilities(&self) -> Capabilities;

    /// Returns the time of the store's clock, or of the local clock if the store has none.
    ///
    /// Nodes measure the offset of their own clocks against this time, and schedule by the store's
    /// clock.
    fn now(&self) -> impl Future<Output = Result<DateTime<Utc>, StoreError>> + Send;

    // Jobs.

    /// Adds, changes, replaces and removes records.
    ///
    /// Each of `writes` is one commit, independent of the others: a lost write does not undo or
    /// prevent another. No two writes have the same id. Returns one [`WriteResult`] per write, in the
    /// order of `writes`.
    ///
    /// Each write is a compare-and-swap. The record of [`Write::id`] must have the stamp
    /// [`Write::expected`], or must be absent if that is `None`; otherwise the write is lost and
    /// changes nothing. In one commit, the write then
    /// - sets the record to [`Write::record`], or deletes the record if that is `None`;
    /// - sets [`version`](Record::version) one higher, or to 1 for a new incarnation;
    /// - adds the write's token to the record's [`tokens`](Record::tokens), which are empty before
    ///   for a new incarnation;
    /// - inserts each of [`Write::rows`] into the ledger unless the ledger has a row with that key;
    /// - appends the write's [`action`](Write::action), if any, to the action log: see
    ///   [`actions`](Store::actions).
    ///
    /// A write that removes an incarnation also closes its [`Waiting`](RowState::Waiting) rows, as
    /// *skipped: removed*, or as *skipped: replaced* if a new incarnation replaces the old one.
    /// Rows whose work may have been called are closed as *abandoned* (see [`Fate::called_off`]).
    ///
    /// **Remembered ends.** A job is over when its record has neither a `next_fire` nor an open
    /// row: see [`claim`](Store::claim). If the record then has [`remember`](Record::remember) set,
    /// the store keeps the record, with [`ended_at`](Record::ended_at) set and a version one
    /// higher. [`get`](Store::get) returns a kept record, and a write compares and swaps it by its
    /// stamp; every other operation treats the record as gone. The kept record is deleted by a
    /// write that removes it, or by [`prune`](Store::prune) after [`Keep::ENDED`].
    ///
    /// **Idempotence.** A write whose token is among the record's tokens was done before, also if
    /// up to seven other writes followed. A write that adds an incarnation was done before if the
    /// ledger has a [`RowKind::Ended`] row for that incarnation. Both return [`WriteResult::Done`] and
    /// change nothing. A retried removal returns [`WriteResult::Lost`], with the record that has the id
    /// now, if any.
    ///
    /// **Errors.** If the writes would make more jobs than [`Capabilities::max_jobs`], all writes
    /// are [refused](StoreError::refused).
    ///
    /// **Bounds.** At most [`Capabilities::max_batch`] writes.
    fn write(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<Vec<WriteResult>, StoreError>> + Send;

    /// Returns the statement with which an application adds this record in a transaction of its own:
    /// see [`Add::prepare`](crate::Add::prepare).
    ///
    /// The statement has the effect of a [`write`](Store::write) that adds the record, whose
    /// [`version`](Record::version) and [`tokens`](Record::tokens) are those after the write. If the
    /// id is in use, the statement fails. Default: `None`, for a store without SQL.
    fn insert_statement(&self, record: &Record) -> Option<InsertStatement> {
        let _ = record;
        None
    }

    /// Returns the record with this id, including a record that is kept only as a [remembered
    /// end](Store::write).
    fn get(&self, id: JobId) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Returns up to `limit` records that pass the filter, and where the next page begins.
    ///
    /// Records are in order of the bytes of their ids, starting after `after`. A page need not be a
    /// snapshot, but a record that exists throughout is listed exactly once.
    fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<RecordPage, StoreError>> + Send;

    /// Returns the given incarnations that have changed.
    ///
    /// An incarnation has changed if its version is not the given one, or if it is gone.
    /// [`RecordStatus::Updated`] has the current record.
    fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> impl Future<Output = Result<Vec<RecordChange>, StoreError>> + Send;

    // Fire times.

    /// Claims fire times for a node.
    ///
    /// **Candidates.** A job is a candidate if
    /// - it has a waiting row, or is not paused and has `next_fire ≤ horizon`; for a paused job
    ///   only waiting rows of [`RowKind::Requested`] count,
    /// - its task is one of [`ClaimRequest::tasks`], and the job is not in
    ///   [`ClaimRequest::except`],
    /// - and no other node has a claimed row of the job, whether that node is alive or dead.
    ///
    /// Candidates with waiting rows come first, then the others in order of
    /// [`next_fire`](Record::next_fire). The claim ends after [`ClaimRequest::limit`] jobs or
    /// [`ClaimRequest::row_limit`] rows.
    ///
    /// **Decision.** For each candidate the store calls [`ClaimRequest::decide`], possibly more
    /// than once, with the record and its waiting rows that count, in order of their keys: the first
    /// [`ClaimRequest::MOST_WAITING`], if there are more. Later claims get the others.
    /// [`Decision::Leave`] and [`Decision::Reject`] leave the job unchanged and do not count
    /// towards the limits. Rejected jobs are in [`ClaimResult::rejected`].
    ///
    /// **Commit.** Each job is one commit, which requires that record and rows are unchanged since
    /// the decision. The commit
    /// - sets the record's [`fence`](Record::fence) to its [`next_fence`](Record::next_fence), and
    ///   its `next_fire` to the decided one;
    /// - inserts each decided row, or updates it if the ledger has a waiting row with that key; a
    ///   decided row is left out if the ledger has any other row with that key, since another
    ///   commit has covered that fire time. A [`Claimed`](RowState::Claimed) row gets the node
    ///   (also as [`node`](Row::node), which stays when the row is closed), the fence, and the
    ///   number of this claim;
    /// - removes the record if it now has neither a `next_fire` nor an open row: the job is over.
    ///   The ledger gets a [`RowKind::Ended`] row with [`Fate::Completed`]. [`write`](Store::write)
    ///   describes records that are remembered.
    ///
    /// **Idempotence.** [`ClaimRequest::number`] counts the claims of a node, and the node's row
    /// keeps the number of the last claim. A retry with the same number returns the rows of that
    /// claim that the node still has claimed. A lower number is [refused](StoreError::refused),
    /// since its node no longer waits for the response.
    ///
    /// **Errors.** A node without a row gets [`StoreError::lease_lost`] and claims nothing; this
    /// check is part of the commit. The end of the lease is not checked: [`reap`](Store::reap)
    /// handles rows that an expired node claims.
    ///
    /// **Bounds.** The cost of a claim is bounded, however many candidates are left or rejected, and
    /// however many waiting rows a job has.
    /// The claim scans the jobs with waiting rows, in order of their incarnations, and the due
    /// jobs, each list from [`ClaimRequest::passed`] on, and stops in a list after
    /// [`ClaimRequest::looks`] jobs that it left or rejected. [`ClaimResult::passed`] is the
    /// position that the scan reached. The next claim continues after that position, and
    /// [`next_due`](Store::next_due) ignores the jobs before it. Since a claimable job may appear
    /// before the position, a claim also scans an eighth of `looks` jobs from the start of each
    /// list, and an eighth of `looks` due jobs from the newest backwards. Without a position, and
    /// with no job left or rejected, a claim finds all candidates.
    ///
    /// If no more candidates remain, [`ClaimResult::next_due`] has the instant of the next claim,
    /// as [`next_due`](Store::next_due) returns it.
    fn claim(
        &self,
        request: ClaimRequest,
    ) -> impl Future<Output = Result<ClaimResult, StoreError>> + Send;

    /// Releases claimed rows of this node.
    ///
    /// A claimed row with the fence of its [`Release`] becomes waiting, with the release's
    /// [`attempt`](Row::attempt), and any node may claim it. Other rows are left unchanged. If the
    /// record is gone, the row is instead closed as *skipped: removed*, or as *abandoned* if its
    /// work may have been called (see [`Fate::called_off`]).
    ///
    /// **Idempotence.** A released row is not claimed any more, so a retry leaves it unchanged.
    fn release(
        &self,
        node: NodeId,
        rows: Vec<Release>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Closes claimed rows with their outcomes.
    ///
    /// An outcome is accepted if the ledger's row has the outcome's fence. Otherwise another claim
    /// has taken over the row, or the row was pruned, and the outcome is in
    /// [`FinishReport::refused`]. The node need not have a row. A row that was closed as
    /// [abandoned](Fate::is_abandoned) in the meantime is closed again, with the outcome's fate.
    ///
    /// A job that now has neither a `next_fire` nor an open row is over, as in
    /// [`claim`](Store::claim), but its fate is [`RowOutcome::job_end`].
    ///
    /// **Idempotence.** A row that is already closed under the same fence, with a fate other than
    /// *abandoned*, stays unchanged and counts as accepted. A retry does not list jobs in
    /// [`FinishReport::over`] that were over before; [`changed`](Store::changed) returns them.
    fn finish(
        &self,
        outcomes: Vec<RowOutcome>,
    ) -> impl Future<Output = Result<FinishReport, StoreError>> + Send;

    // Nodes.

    /// Renews the lease of a node for `ttl` from now on, and returns the store's
    /// [`now`](Store::now).
    ///
    /// The node's row gets a [heartbeat count](NodeRow::heartbeats) one higher and a new
    /// [`lease_until`](NodeRow::lease_until). With `first`, a missing row is inserted. A scheduler
    /// whose first heartbeat gets no response retries under a new node id. Nodes measure the offset
    /// of their clocks against the returned time.
    ///
    /// A `ttl` of zero deregisters the node: its row is deleted, if present, and its claimed rows
    /// are treated as in [`reap`](Store::reap).
    ///
    /// **Errors.** Without `first`, a node without a row gets [`StoreError::lease_lost`].
    fn heartbeat(
        &self,
        heartbeat: Heartbeat,
    ) -> impl Future<Output = Result<DateTime<Utc>, StoreError>> + Send;

    /// Returns the rows of all nodes, in any order.
    ///
    /// With each heartbeat, a live node reads these rows, and [expires](Store::reap) a node whose
    /// [heartbeat count](NodeRow::heartbeats) has not changed for the [`ttl`](NodeRow::ttl) of that
    /// node. The live node measures this in elapsed time, so no clock step makes a node look dead.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeRow>, StoreError>> + Send;

    /// Expires dead nodes and reclaims their rows.
    ///
    /// A suspect is dead if its row still has the given [heartbeat count](NodeRow::heartbeats). The
    /// row of a dead node is deleted. Each claimed row of a dead node, or of a node without a row,
    /// is reclaimed:
    /// - if the row [recovers](Row::recover) and has [recoveries](Row::recoveries) left, it becomes
    ///   waiting, with one recovery less and an [`attempt`](Row::attempt) one higher;
    /// - if the row recovers and has no recovery left, it is closed as *abandoned: recovered too
    ///   often*;
    /// - otherwise, or if the record is gone, the row is closed as *abandoned*.
    ///
    /// A job that now has neither a `next_fire` nor an open row is over, as in
    /// [`claim`](Store::claim).
    ///
    /// A node and its claimed rows are one commit; alternatively the node's row is deleted first,
    /// and later calls reclaim the rest.
    ///
    /// **Bounds.** At most [`Capabilities::max_batch`] rows per call; [`ReapReport::more`] says whether
    /// rows are left.
    fn reap(
        &self,
        suspects: Vec<(NodeId, u64)>,
    ) -> impl Future<Output = Result<ReapReport, StoreError>> + Send;

    /// Returns up to `limit` rows that a node has claimed and not closed, in
    /// order of their keys, starting after `after`.
    fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Claim>, StoreError>> + Send;

    /// Returns those of the given rows that the node has claimed and not closed, with their
    /// records.
    ///
    /// Rows whose record is gone are [orphans](ClaimResult::orphans): the node closes them.
    ///
    /// **Bounds.** At most [`Capabilities::max_batch`] rows, in order of their keys.
    fn claimed(
        &self,
        node: NodeId,
        rows: Vec<RowKey>,
    ) -> impl Future<Output = Result<ClaimResult, StoreError>> + Send;

    /// Returns the instant of the next claim: the earliest `next_fire` of the jobs that are
    /// candidates for a [`claim`](Store::claim) by this node, or `DateTime::<Utc>::MIN_UTC` if
    /// there is a waiting row for the node.
    ///
    /// Returns `None` if there is no candidate. The cost does not depend on the number of jobs that
    /// other nodes have claimed.
    fn next_due(
        &self,
        of: NextDueRequest,
    ) -> impl Future<Output = Result<Option<DateTime<Utc>>, StoreError>> + Send;

    /// Returns a stream of the changes that [`next_due`](Store::next_due) or
    /// [`changed`](Store::changed) would return, from now on.
    ///
    /// A node reads only what a change names. A change that the store cannot name, and changes that
    /// a slow receiver missed, are [`StoreChange::Unknown`]. A store may leave out some changes,
    /// such as the end of a job that fires once, since nodes also poll every few seconds. The
    /// stream lasts as long as the store; a scheduler reopens a stream that ended.
    ///
    /// Default: a stream without items.
    fn changes(&self) -> BoxStream<'static, StoreChange> {
        stream::pending().boxed()
    }

    // The ledger.

    /// Returns up to `limit` rows of one incarnation, the latest fire times first.
    fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Returns up to `limit` rows of the whole ledger, in order of their keys, starting after
    /// `after`.
    fn rows(
        &self,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Returns up to `limit` closed rows, of all jobs, that pass the filter, and where the next
    /// page begins.
    ///
    /// Rows are in order of their ends, the latest first, starting after `after`. A page need not
    /// be a snapshot, but a row that is closed throughout is listed exactly once.
    ///
    /// **Bounds.** The cost depends on the page, and not on the number of rows. A store may end a
    /// page early, after it has scanned some thousand rows that do not pass the filter.
    fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<FatePage, StoreError>> + Send;

    /// Returns up to `limit` entries of the action log, of one job or of all jobs, and where the
    /// next page begins.
    ///
    /// Entries are in order of time, the latest first, starting after `after`. A page may end
    /// early, as in [`fates`](Store::fates).
    ///
    /// The log has the actions of [writes](Write::action). [`prune`](Store::prune) deletes entries
    /// that are older than [`Keep::ACTIONS`], and all but the latest [`Keep::MOST_ACTIONS`].
    fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<ActionPage, StoreError>> + Send;

    /// Returns up to `limit` [`Waiting`](RowState::Waiting) rows of the given incarnations, in
    /// order of their keys, starting after `after`.
    ///
    /// **Bounds.** At most [`Capabilities::max_batch`] incarnations. The cost does not depend on
    /// the number of other rows.
    fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Finishes pending work when a scheduler that used the store has shut down.
    ///
    /// When the future resolves, all that the store has acknowledged survives this process.
    /// Default: does nothing.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Deletes up to `limit` closed rows and up to `limit` entries of the [action
    /// log](Store::actions) that are not to be [kept](Keep), and forgets up to `limit` ended jobs
    /// that are no longer to be [remembered](Keep::ENDED).
    ///
    /// **Bounds.** A store need count the rows of a job only if one of them was closed since the
    /// last call, so the cost depends on the number of deleted and new rows, and not on the number
    /// of kept rows.
    fn prune(
        &self,
        keep: Keep,
        limit: usize,
    ) -> impl Future<Output = Result<PruneReport, StoreError>> + Send;
}

/// The properties and limits of a store, which schedulers and the conformance suite rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The precision of instants. Default: 1 ms, which is also the coarsest allowed.
    pub time_precision: Duration,
    /// Whether [`Store::changes`] reports the changes of other nodes. Default: `false`.
    pub notifies: bool,
    /// Whether the store has a clock of its own, against which nodes measure theirs. Default:
    /// `true`.
    ///
    /// Without a store clock, each node uses its local clock. The clocks of all nodes must agree,
    /// and a node acts on a step of its clock at once.
    pub has_clock: bool,
    /// What committed data survives. Default: [`Durability::Disk`].
    pub durability: Durability,
    /// What a failover of the store may lose. Default: [`Failover::Absent`].
    pub failover: Failover,
    /// The maximum number of jobs or rows of one operation. Default: 1000.
    pub max_batch: usize,
    /// The maximum size of one operation's commit, in bytes, as far as its writes, outcomes or rows
    /// determine the size. Schedulers split larger operations. Default: no limit.
    pub max_bytes: Option<usize>,
    /// The maximum number of jobs. An add beyond this limit is [refused](StoreError::refused),
    /// together with the other writes of the same call. Default: no limit.
    pub max_jobs: Option<u64>,
    /// The maximum number of rows in the ledger. Schedulers [keep](Keep::total) no more rows than
    /// this. Default: no limit.
    pub max_rows: Option<u64>,
    /// The minimum lease. A scheduler with a shorter lease does not start. Default: zero.
    pub min_lease: Duration,
}

impl Default for Capabilities {
    fn default() -> Capabilities {
        Capabilities {
            time_precision: Duration::from_millis(1),
            notifies: false,
            has_clock: true,
            durability: Durability::Disk,
            failover: Failover::Absent,
            max_batch: 1000,
            max_bytes: None,
            max_jobs: None,
            max_rows: None,
            min_lease: Duration::ZERO,
        }
    }
}

/// The error text for an add to a store that has reached [`Capabilities::max_jobs`].
pub(crate) fn full(max_jobs: u64) -> String {
    format!("the store holds at most {max_jobs} jobs: remove some jobs, or raise `max_jobs`")
}

/// What a store may lose when it fails over to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failover {
    /// The store has no replica.
    Absent,
    /// Nothing: the replica has each commit before the store acknowledges it.
    Complete,
    /// The latest commits: the replica follows with a short delay. Fire times that were claimed in
    /// that delay are claimed again and may run twice. Fences still grow.
    Lossy,
}

/// What the committed data of a store survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: the data is lost when the process ends.
    Process,
    /// The end of the process. A power failure may undo the latest commits.
    System,
    /// A power failure.
    Disk,
}
