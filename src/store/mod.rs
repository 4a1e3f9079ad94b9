//! The contract between a scheduler and what keeps its durable jobs.
//!
//! A [`Store`] holds two things: one [`Record`] for each job, and the *ledger*, one [`Row`] for each
//! fire time that was taken (or for each stretch of them that met its fate together). One store may
//! serve many schedulers, its *nodes*; it is the only thing that they have in common. There is no
//! leader, and nodes never talk to each other.
//!
//! # Promises
//!
//! The same on every store, as far as its [`Durability`] goes:
//!
//! - A fire time is taken exactly once, whatever the number of nodes and whatever crashes: the
//!   ledger has no two rows of one [`RowKey`].
//! - It runs at most once; or at least once, if its job says
//!   [`recover(true)`](crate::Add::recover). No fire time is lost silently either way: if its node
//!   dies, one that runs at most once is *abandoned*, and says so.
//! - A dead node's work is taken over within its lease and one heartbeat: of its death if another node
//!   lives, and otherwise of the start of the next one, which has to watch for as long.
//! - A clock that jumps, at a node or at the store, expires nobody who lives.
//! - What was answered `Ok` is not lost, and an answer that was lost may be asked for again.
//!
//! # Life of a fire time
//!
//! ```text
//!             take                    finish
//! (none) ────────────▶ ClaimedJob ────────────────▶ Closed(fate)
//!   │                  ▲   │
//!   │ write, take      │   │ release, reap (if it recovers)
//!   │                  │   ▼
//!   │             take └─ Waiting ─────────────▶ Closed(fate)
//!   │                         write, take
//!   └─────────────────────────────────────────▶ Closed(fate)
//!           take, write (stretches that run for nothing)
//! ```
//!
//! `reap` closes what a dead node had taken as *abandoned*, unless it recovers.
//!
//! # Several stores
//!
//! A scheduler may have several stores, each under a name:
//! [`add_store`](crate::SchedulerBuilder::add_store) on its builder, or
//! [at run time](crate::Scheduler::add_store). The one of
//! [`store`](crate::SchedulerBuilder::store) is `default`. The scheduler is a node of each, with a lease of
//! its own, so one that is down stalls its own jobs only.
//!
//! | | with several stores |
//! |---|---|
//! | [`Add::store`](crate::Add::store) | names the store of a job; tasks that name none go to `default`, and are in memory where there is no `default` |
//! | an id | is in one of them, or in memory: adding it to another is an error, whatever [`OnConflict`](crate::OnConflict) says. A store that is down, or does not answer within a second, is passed over |
//! | [`Scheduler::job`](crate::Scheduler::job) | is the job wherever it is; if two have the id, its verbs are an error ([`is_ambiguous`](crate::Error::is_ambiguous)) until [`Job::store`](crate::Job::store) says which is meant |
//! | [`jobs`](crate::Scheduler::jobs), [`unhandled`](crate::Scheduler::unhandled), [`export`](crate::Scheduler::export) | read all of them, and are an error that names one that is down; [`Jobs::store`](crate::Jobs::store) reads one alone |
//! | [`remove_all`](crate::Scheduler::remove_all), the verbs of [`Jobs`](crate::Jobs) | act on the jobs of all that work, and are an error then if one is down |
//! | [`remove_store`](crate::Scheduler::remove_store) | takes leave of one; its jobs stay in it |
//! | [events](crate::EventPayload), [`JobInfo::store`](crate::JobInfo::store) | name the store |
//!
//! # For those who write a store
//!
//! Write the operations of [`Store`] as `async fn`s. Two abilities of the database suffice: to
//! compare and swap a record together with the rows it brings, and a unique key. Each operation says
//! what it does as one; where it handles several jobs or rows, each of them may be a commit of its
//! own unless it says otherwise.
//!
//! - **Cancellation.** The future of an operation may be dropped at any `await`. Then the operation
//!   took effect or did not, or will a moment later; it will be asked again.
//! - **Idempotence.** Every operation may be asked again with the same arguments, and says how it
//!   knows.
//! - **Errors.** [`StoreError::unavailable`] is tried again, with backoff, for as long as it takes.
//!   [`StoreError::refused`] is for what will not get better by trying.
//!   [`StoreError::lease_lost`] is what a node hears whose row is gone.
//! - **Time** is the store's own, where it has a clock: [`now`](Store::now). Instants are whole
//!   milliseconds.
//!
//! `testing::store_conformance!` runs every case of the contract against a store as a test of its own,
//! and `testing::Simulation` runs whole clusters on it, with lost answers, crashes and clocks that
//! step (feature `testing`).

mod cell;
mod changes;
mod erased;
mod memory;
#[cfg(feature = "sqlite")]
mod sql;

use std::{future::Future, time::Duration};

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt as _};

pub use self::memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use self::sql::{SqliteBuilder, SqliteStore, Synchronous};
pub(crate) use self::{changes::Changes, erased::ErasedStore};
use crate::job::JobId;
pub use crate::ledger::{
    Action, ActionCursor, ActionPage, Claim, ClaimCursor, ClaimRequest, ClaimResult, ClaimedJob,
    Decide, Decision, Fate, FateCursor, FateFilter, FatePage, FinishReport, Heartbeat, Incarnation,
    Keep, LoggedAction, NextDueRequest, NodeId, NodeRow, PruneReport, ReapReport, Record,
    RecordChange, RecordCursor, RecordFilter, RecordPage, RecordStatus, RejectedJob, Release, Row,
    RowKey, RowKind, RowOutcome, RowState, RunEnd, Stamp, StoreChange, StoreError, Tokens, Write,
    WriteResult,
};
#[doc(hidden)]
pub use crate::ledger::{Cursor, NextDue, Page, Passed, Pruned, Reaped, Rejected, Written};

/// What keeps durable jobs. See the [module](self) for the promises, and for how to write one.
pub trait Store: Send + Sync + 'static {
    /// How this store differs from others.
    fn capabilities(&self) -> Capabilities;

    /// What the store's clock says, or the machine's if the store has none.
    ///
    /// Nodes measure how far their clocks are from it, and schedule by it.
    fn now(&self) -> impl Future<Output = Result<DateTime<Utc>, StoreError>> + Send;

    // Jobs.

    /// Adds, changes, replaces and removes records: each of `writes`, of which no two are of one id,
    /// as one and by itself. The answers come in the order of the writes; one that is lost keeps none
    /// of the others from being done.
    ///
    /// Each compares and swaps: the record of [`Write::id`] must bear the stamp
    /// [`Write::expected`], or there must be none. If so, the record is set to
    /// [`Write::record`] with a [`version`](Record::version) one higher (1 if its incarnation is
    /// new) and the token of the write added to its [`tokens`](Record::tokens) (the only one if its
    /// incarnation is new), or is deleted; the rows of [`Write::rows`] go into the ledger, except where
    /// it has one of the same key already.
    ///
    /// Where the record of an incarnation goes, its [`Waiting`](RowState::Waiting) rows are closed
    /// as *skipped: removed*, or as *skipped: replaced* if another takes its place; those of which the
    /// work may have been called, as *abandoned* (see [`Fate::called_off`]).
    ///
    /// **Ends that are remembered.** A record that says [`remember`](Record::remember) and then has
    /// neither a `next_fire` nor an open row is over, as in [`claim`](Store::claim). When such a job is
    /// over its record is kept by its id, with [`ended_at`](Record::ended_at) and a version one
    /// higher: [`get`](Store::get) answers it, a write compares and swaps it by its stamp like any
    /// record, and for all else it is gone. It is forgotten when a write removes it, and by [`prune`](Store::prune) after
    /// [`Keep::ENDED`].
    ///
    /// A write that bears an [`action`](Write::action) and is done puts it into the action log, in the same
    /// commit: see [`actions`](Store::actions).
    ///
    /// **Idempotence.** A write whose token is among those of the record has been done before, also if
    /// up to seven others came after it, and so has one that adds an incarnation, be it in the place of
    /// another, of which the ledger has a row of [`RowKind::Ended`]: it counts as done, and changes
    /// nothing. A removal that was done is lost to nothing when it is asked again, or to what has taken
    /// the id since.
    ///
    /// No more than [`Capabilities::max_batch`] are asked for at once. Those that would make more jobs than
    /// [`Capabilities::max_jobs`] are refused, and then none of the writes is done.
    fn write(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<Vec<WriteResult>, StoreError>> + Send;

    /// The record of this id, one of which only the end is remembered included.
    fn get(&self, id: JobId) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Up to `limit` records that pass the filter, in order of their ids' bytes, from the first one
    /// behind `after` on, and where the next page begins. It need not be a snapshot: a record that is
    /// there all along is listed once.
    fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<RecordPage, StoreError>> + Send;

    /// Of these incarnations and versions those that are no longer so: with the record as it is now,
    /// or `None` if that incarnation is gone.
    fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> impl Future<Output = Result<Vec<RecordChange>, StoreError>> + Send;

    // Fire times.

    /// Takes fire times for a node.
    ///
    /// Finds up to [`ClaimRequest::limit`] jobs, or as many as bring [`ClaimRequest::row_limit`] rows, those with waiting rows first, then in order of
    /// [`next_fire`](Record::next_fire), that
    /// - have a waiting row, or are not paused and have `next_fire ≤ horizon`; of a paused job count
    ///   only the waiting rows of [`RowKind::Requested`],
    /// - have a task that the node knows, and are not among [`ClaimRequest::except`],
    /// - and of which no other node has a taken row, be it alive or not.
    ///
    /// For each it calls [`ClaimRequest::decide`] with the record and its waiting rows that count, in order
    /// of their keys, maybe more than once; then, as one, while record and rows are still the same:
    /// - the record's [`fence`](Record::fence) is its [`next_fence`](Record::next_fence), and its
    ///   `next_fire` what was decided;
    /// - each row that was decided on is put into the ledger if it has none of that key, or takes the
    ///   place of one that is waiting; where the ledger has another already, it is left out, since
    ///   that fire time has been taken care of. A [`Claimed`](RowState::Claimed) row is marked with the
    ///   node (which its [`node`](Row::node) still names when it is closed), the fence, and the number of
    ///   this take;
    /// - a record that then has neither a `next_fire` nor an open row is over and goes, with a row of
    ///   [`RowKind::Ended`] that says [`Fate::Completed`]; see [`write`](Store::write) for those whose
    ///   end is remembered.
    ///
    /// [`Decision::Leave`] and [`Decision::Reject`] leave the job as it is, and it does not count for the
    /// limit; what was rejected is answered in [`ClaimResult::rejected`].
    ///
    /// **Bounds.** However many jobs are left or rejected, a take is short. It looks at the jobs with
    /// waiting rows, in order of their incarnations, and at those that are due, each from
    /// [`ClaimRequest::passed`] on, until [`ClaimRequest::looks`] of either were looked at in vain. How far it got is
    /// [`ClaimResult::passed`]: the next take that is given it goes on behind that, and
    /// [`next_due`](Store::next_due) passes over what it passes over. So what was passed is excluded by
    /// its place, in whatever number. Jobs that can be taken may come to stand before that place, so a
    /// take looks at an eighth as many from the very beginning, and of those that are due at an eighth
    /// as many from the newest backwards. Where nothing was passed, and nothing is left or rejected,
    /// a take finds all that there is.
    ///
    /// Where there is no more, it says when to take next, as [`next_due`](Store::next_due) does.
    ///
    /// **Lease.** A node whose row is gone is told [`StoreError::lease_lost`], and takes nothing. That is
    /// judged in the same commit. When its lease ends does not matter: what such a node takes, and does
    /// not live to run, is seen to when it is buried.
    ///
    /// **Idempotence.** [`ClaimRequest::number`] counts a node's takes. The node's row keeps that of the last:
    /// asked again with the same number, the store answers with the rows that bear it and are still
    /// taken by the node; a lower number is refused, since nobody
    /// waits for the answer any more.
    fn claim(
        &self,
        take: ClaimRequest,
    ) -> impl Future<Output = Result<ClaimResult, StoreError>> + Send;

    /// Gives back rows that this node has taken: each waits for any node, if it bears the fence of its
    /// [`Release`], with the [`attempt`](Row::attempt) that the release has. Others are left alone. If
    /// the record is gone, no node could take the row: it is closed as *skipped: removed*, or as
    /// *abandoned* where its work may have been called (see [`Fate::called_off`]).
    fn release(
        &self,
        node: NodeId,
        rows: Vec<Release>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Closes rows, each if the ledger's row bears the same fence: otherwise it has been taken again
    /// since, and the outcome is refused. It does not matter whether the node has a row,
    /// nor whether the row was closed meanwhile as [abandoned](Fate::is_abandoned): then it is closed
    /// anew.
    ///
    /// A job that then has neither a `next_fire` nor an open row is over, as in
    /// [`claim`](Store::claim), but ends as [`RowOutcome::job_end`] says.
    ///
    /// **Idempotence.** A row that is closed under the same fence with another fate than *abandoned*
    /// stays as it is, and counts as accepted. A row that is not there has been pruned, and is
    /// refused. Jobs that were over before are not named again: [`changed`](Store::changed) tells.
    fn finish(
        &self,
        outcomes: Vec<RowOutcome>,
    ) -> impl Future<Output = Result<FinishReport, StoreError>> + Send;

    // Nodes.

    /// Says that a node is alive for another `ttl` from now on, and answers what the store's clock says
    /// now, as [`now`](Store::now) does: nodes measure by it how far theirs is off. The node's row has
    /// then a [count](NodeRow::heartbeats) one higher, and its [`lease_until`](NodeRow::lease_until) set anew.
    /// `first` says that this is the node's first: then its row is made if there is none. Otherwise a
    /// node without a row is told [`StoreError::lease_lost`]. A scheduler that is not answered its first
    /// goes on as another node.
    ///
    /// A `ttl` of zero says that the node leaves: its row goes, if it has one, and what it still has
    /// taken is treated as by [`reap`](Store::reap).
    fn heartbeat(
        &self,
        heartbeat: Heartbeat,
    ) -> impl Future<Output = Result<DateTime<Utc>, StoreError>> + Send;

    /// The nodes that have a row, in any order.
    ///
    /// Those that live look at it with each heartbeat, and [bury](Store::reap) a node when its
    /// [count](NodeRow::heartbeats) has stayed the same for its [`ttl`](NodeRow::ttl), by the elapsed time of
    /// whoever watches. So no clock that jumps makes a node seem dead.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeRow>, StoreError>> + Send;

    /// Buries those of the `suspects` whose row still has the [count](NodeRow::heartbeats) that is given:
    /// their rows go. Of the rows that they, or nodes without a row, had taken, those that [recover](Row::recover) and have
    /// [recoveries](Row::recoveries) left are waiting again, with one recovery less and an
    /// [`attempt`](Row::attempt) one higher. Those that recover and have none left are closed as
    /// *abandoned: recovered too often*; the others, and those whose record is gone, as *abandoned*.
    /// A job that then has neither a `next_fire` nor an open row is over, as in [`claim`](Store::claim).
    ///
    /// A node and what it had taken is one commit, or the node's row goes first and the rest is done by
    /// whoever reaps next. At most [`Capabilities::max_batch`] rows at once.
    fn reap(
        &self,
        suspects: Vec<(NodeId, u64)>,
    ) -> impl Future<Output = Result<ReapReport, StoreError>> + Send;

    /// The rows that a node has claimed and not closed, in order of their keys, behind `after`, at most
    /// `limit`.
    fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Claim>, StoreError>> + Send;

    /// Of these rows those that the node has taken and not closed, with their records; those whose
    /// record is gone are [orphans](ClaimResult::orphans), for the node to close.
    ///
    /// No more than [`Capabilities::max_batch`] are asked for at once, in order of their keys.
    fn claimed(
        &self,
        node: NodeId,
        rows: Vec<RowKey>,
    ) -> impl Future<Output = Result<ClaimResult, StoreError>> + Send;

    /// When to take next: the earliest `next_fire` of those jobs that a take by this node would
    /// consider, or the beginning of time (`DateTime::<Utc>::MIN_UTC`) if there are waiting rows for
    /// it.
    fn next_due(
        &self,
        of: NextDueRequest,
    ) -> impl Future<Output = Result<Option<DateTime<Utc>>, StoreError>> + Send;

    /// Notifies of what [`next_due`](Store::next_due) or [`changed`](Store::changed) would show, from here
    /// on: nodes look at what is named, and at nothing else. What a store can't name, or what is more than a
    /// slow listener keeps up with, is [`StoreChange::Unknown`]. Some changes may be left out, such as the
    /// end of a job that fires once: nodes ask every few seconds besides. The stream does not end while the
    /// store lasts; a scheduler opens an ended one again. By default nothing is notified of.
    fn changes(&self) -> BoxStream<'static, StoreChange> {
        stream::pending().boxed()
    }

    // The ledger.

    /// Up to `limit` rows of one incarnation, the latest fire times first.
    fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Up to `limit` rows of the whole ledger, in order of their keys, behind `after`.
    fn rows(
        &self,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Up to `limit` closed rows of all jobs that pass the filter, the latest to end first, from the
    /// first one behind `after` on, and where the next page begins. It need not be a snapshot: a row that
    /// is closed there all along is listed once.
    ///
    /// It costs in proportion to the page, however many rows there are: a store may look at some thousand
    /// rows that do not pass, and then ends the page.
    fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<FatePage, StoreError>> + Send;

    /// Up to `limit` lines of the action log, of one job or of all, the latest first, from the first one
    /// behind `after` on, and where the next page begins. A page may end early, as those of
    /// [`fates`](Store::fates) do.
    ///
    /// The log has what writes have put there. [`prune`](Store::prune) deletes what is older than
    /// [`Keep::ACTIONS`] and what is beyond the latest [`Keep::MOST_ACTIONS`].
    fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<ActionPage, StoreError>> + Send;

    /// Up to `limit` [`Waiting`](RowState::Waiting) rows of these incarnations, in order of their keys,
    /// behind `after`. It costs the same however many other rows there are.
    ///
    /// No more incarnations than [`Capabilities::max_batch`] are asked for at once.
    fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// A scheduler that had the store has shut down and needs it no more. Afterwards what was answered
    /// `Ok` needs nothing of this process. By default nothing is done.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Deletes up to `limit` closed rows that are not to be kept, and as many of the
    /// [action log](Store::actions), and forgets up to `limit` ends of jobs
    /// that are not to be [remembered](Keep::ENDED). Which rows of a job are too many need be found only
    /// where one of its rows has ended since the last time, so that it costs by what is deleted and what
    /// is new, and not by what is kept.
    fn prune(
        &self,
        keep: Keep,
        limit: usize,
    ) -> impl Future<Output = Result<PruneReport, StoreError>> + Send;
}

/// How a store differs from others: what its users, and the tests of the contract, may expect of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// To what part of a second it keeps instants. Default: a millisecond, which is the coarsest.
    pub time_precision: Duration,
    /// Whether [`Store::changes`] tells what other nodes changed. Default: no.
    pub notifies: bool,
    /// Whether it has a clock of its own, against which nodes measure theirs. Without one it goes by the
    /// machine's, and each node by its own, which must agree with those of the others; a step of that is
    /// acted on at once. Default: yes.
    pub has_clock: bool,
    /// What survives what. Default: [`Durability::Disk`].
    pub durability: Durability,
    /// What a failover of the store may lose. Default: [`Failover::Absent`].
    pub failover: Failover,
    /// How many jobs or rows one operation may be asked for. Default: 1000.
    pub max_batch: usize,
    /// How many bytes one operation may commit, as far as its writes, outcomes or rows tell: schedulers ask
    /// in parts that are no larger. Default: no limit.
    pub max_bytes: Option<usize>,
    /// How many jobs it holds. An add beyond that is [refused](StoreError::refused), with all that it was
    /// asked for with. Default: no limit.
    pub max_jobs: Option<u64>,
    /// How many rows its ledger holds: schedulers have it [keep](Keep::total) no more than that. Default: no
    /// limit.
    pub max_rows: Option<u64>,
    /// How long a lease is at least; a scheduler whose lease is shorter does not start. Default: zero.
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

/// Why an add is refused to a store that holds as many jobs as it may.
pub(crate) fn full(most: u64) -> String {
    format!("it holds at most {most} jobs: remove some, or raise its `max_jobs`")
}

/// What a store loses of its answers when it fails over to a copy of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failover {
    /// There is no copy that it could fail over to.
    Absent,
    /// Nothing: the copy has what was answered, before it was.
    Complete,
    /// The last of them: the copy follows a moment later. What was claimed in that moment is claimed again,
    /// and may run twice; fences grow all the same.
    Lossy,
}

/// What a store's answers survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// They are gone with the process.
    Process,
    /// They survive the process, but the last of them may be undone by a loss of power.
    System,
    /// They survive a loss of power.
    Disk,
}
