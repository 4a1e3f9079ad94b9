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
//! (none) ────────────▶ Taken ────────────────▶ Closed(fate)
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
//! | [events](crate::What), [`JobInfo::store`](crate::JobInfo::store) | name the store |
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

mod actions;
mod cell;
mod change;
mod erased;
mod error;
mod fates;
mod memory;
mod record;
#[cfg(feature = "sqlite")]
mod sql;

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, BoxStream, StreamExt as _};

pub(crate) use self::change::Changes;
pub(crate) use self::erased::ErasedStore;
pub(crate) use self::record::{is_nothing, nothing, recoveries};
#[cfg(feature = "sqlite")]
pub use self::sql::{SqliteBuilder, SqliteStore, Synchronous};
pub use self::{
    actions::{Action, ActionCursor, ActionPage, LoggedAction},
    change::StoreChange,
    error::StoreError,
    fates::{FateCursor, FateFilter, FatePage},
    memory::MemoryStore,
    record::{
        Fate, Incarnation, NodeId, Record, RecordFilter, Row, RowKey, RowKind, RowState, RunEnd,
        Stamp, Tokens,
    },
};
use crate::{error::Error, job::JobId};

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
    /// neither a `next_fire` nor an open row is over, as in [`take`](Store::take). When such a job is
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
    ) -> impl Future<Output = Result<Vec<Written>, StoreError>> + Send;

    /// The record of this id, one of which only the end is remembered included.
    fn get(&self, id: JobId) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Up to `limit` records that pass the filter, in order of their ids' bytes, from the first one
    /// behind `after` on, and where the next page begins. It need not be a snapshot: a record that is
    /// there all along is listed once.
    fn list(
        &self,
        filter: RecordFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Of these incarnations and versions those that are no longer so: with the record as it is now,
    /// or `None` if that incarnation is gone.
    fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> impl Future<Output = Result<Vec<Changed>, StoreError>> + Send;

    // Fire times.

    /// Takes fire times for a node.
    ///
    /// Finds up to [`Take::limit`] jobs, or as many as bring [`Take::row_limit`] rows, those with waiting rows first, then in order of
    /// [`next_fire`](Record::next_fire), that
    /// - have a waiting row, or are not paused and have `next_fire ≤ horizon`; of a paused job count
    ///   only the waiting rows of [`RowKind::Requested`],
    /// - have a task that the node knows, and are not among [`Take::except`],
    /// - and of which no other node has a taken row, be it alive or not.
    ///
    /// For each it calls [`Take::decide`] with the record and its waiting rows that count, in order
    /// of their keys, maybe more than once; then, as one, while record and rows are still the same:
    /// - the record's [`fence`](Record::fence) is its [`next_fence`](Record::next_fence), and its
    ///   `next_fire` what was decided;
    /// - each row that was decided on is put into the ledger if it has none of that key, or takes the
    ///   place of one that is waiting; where the ledger has another already, it is left out, since
    ///   that fire time has been taken care of. A [`Taken`](RowState::Taken) row is marked with the
    ///   node (which its [`node`](Row::node) still names when it is closed), the fence, and the number of
    ///   this take;
    /// - a record that then has neither a `next_fire` nor an open row is over and goes, with a row of
    ///   [`RowKind::Ended`] that says [`Fate::Completed`]; see [`write`](Store::write) for those whose
    ///   end is remembered.
    ///
    /// [`Decision::Leave`] and [`Decision::Reject`] leave the job as it is, and it does not count for the
    /// limit; what was rejected is answered in [`Takings::rejected`].
    ///
    /// **Bounds.** However many jobs are left or rejected, a take is short. It looks at the jobs with
    /// waiting rows, in order of their incarnations, and at those that are due, each from
    /// [`Take::passed`] on, until [`Take::looks`] of either were looked at in vain. How far it got is
    /// [`Takings::passed`]: the next take that is given it goes on behind that, and
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
    /// **Idempotence.** [`Take::number`] counts a node's takes. The node's row keeps that of the last:
    /// asked again with the same number, the store answers with the rows that bear it and are still
    /// taken by the node; a lower number is refused, since nobody
    /// waits for the answer any more.
    fn take(&self, take: Take) -> impl Future<Output = Result<Takings, StoreError>> + Send;

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
    /// [`take`](Store::take), but ends as [`Finished::job_end`] says.
    ///
    /// **Idempotence.** A row that is closed under the same fence with another fate than *abandoned*
    /// stays as it is, and counts as accepted. A row that is not there has been pruned, and is
    /// refused. Jobs that were over before are not named again: [`changed`](Store::changed) tells.
    fn finish(
        &self,
        outcomes: Vec<Finished>,
    ) -> impl Future<Output = Result<Finishes, StoreError>> + Send;

    // Nodes.

    /// Says that a node is alive for another `ttl` from now on, and answers what the store's clock says
    /// now, as [`now`](Store::now) does: nodes measure by it how far theirs is off. The node's row has
    /// then a [count](NodeRow::beats) one higher, and its [`lease_until`](NodeRow::lease_until) set anew.
    /// `first` says that this is the node's first: then its row is made if there is none. Otherwise a
    /// node without a row is told [`StoreError::lease_lost`]. A scheduler that is not answered its first
    /// goes on as another node.
    ///
    /// A `ttl` of zero says that the node leaves: its row goes, if it has one, and what it still has
    /// taken is treated as by [`reap`](Store::reap).
    fn heartbeat(
        &self,
        beat: Beat,
    ) -> impl Future<Output = Result<DateTime<Utc>, StoreError>> + Send;

    /// The nodes that have a row, in any order.
    ///
    /// Those that live look at it with each heartbeat, and [bury](Store::reap) a node when its
    /// [count](NodeRow::beats) has stayed the same for its [`ttl`](NodeRow::ttl), by the elapsed time of
    /// whoever watches. So no clock that jumps makes a node seem dead.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeRow>, StoreError>> + Send;

    /// Buries those of the `suspects` whose row still has the [count](NodeRow::beats) that is given:
    /// their rows go. Of the rows that they, or nodes without a row, had taken, those that [recover](Row::recover) and have
    /// [recoveries](Row::recoveries) left are waiting again, with one recovery less and an
    /// [`attempt`](Row::attempt) one higher. Those that recover and have none left are closed as
    /// *abandoned: recovered too often*; the others, and those whose record is gone, as *abandoned*.
    /// A job that then has neither a `next_fire` nor an open row is over, as in [`take`](Store::take).
    ///
    /// A node and what it had taken is one commit, or the node's row goes first and the rest is done by
    /// whoever reaps next. At most [`Capabilities::max_batch`] rows at once.
    fn reap(
        &self,
        suspects: Vec<(NodeId, u64)>,
    ) -> impl Future<Output = Result<Reaped, StoreError>> + Send;

    /// The keys and fences of the rows that a node has taken and not closed, in order of the keys, behind
    /// `after`, at most `limit`.
    fn taken_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(RowKey, u64)>, StoreError>> + Send;

    /// Of these rows those that the node has taken and not closed, with their records; those whose
    /// record is gone are [orphans](Takings::orphans), for the node to close.
    ///
    /// No more than [`Capabilities::max_batch`] are asked for at once, in order of their keys.
    fn taken(
        &self,
        node: NodeId,
        rows: Vec<RowKey>,
    ) -> impl Future<Output = Result<Takings, StoreError>> + Send;

    /// When to take next: the earliest `next_fire` of those jobs that a take by this node would
    /// consider, or the beginning of time (`DateTime::<Utc>::MIN_UTC`) if there are waiting rows for
    /// it.
    fn next_due(
        &self,
        of: NextDue,
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
    ) -> impl Future<Output = Result<Pruned, StoreError>> + Send;
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

/// How many of the first of these sizes one operation takes, of at most so many and so many bytes: one at
/// least, if there are any.
pub(crate) fn fitting(sizes: impl Iterator<Item = usize>, most: usize, bytes: usize) -> usize {
    let mut left = bytes;
    let fits = sizes.take(most.max(1)).enumerate().take_while(|&(before, size)| {
        let fits = before == 0 || size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fits.count()
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

/// Where a page of [`Store::list`] ends: at an id, as the store itself has it. That may be no text,
/// where others write into the store, so it is not a [`JobId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Box<[u8]>);

impl Cursor {
    /// Behind the id of these bytes.
    pub fn new(id: impl Into<Box<[u8]>>) -> Cursor {
        Cursor(id.into())
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&JobId> for Cursor {
    fn from(id: &JobId) -> Cursor {
        Cursor::new(id.as_str().as_bytes())
    }
}

/// Some of the records of a store; see [`Store::list`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Behind what the next page begins, which may be empty; `None` if this is the last one.
    pub next: Option<Cursor>,
}

/// One change of a record: see [`Store::write`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Write {
    /// The record's id.
    pub id: JobId,
    /// What the record must be for the change to be made; `None` if there must be none.
    pub expected: Option<Stamp>,
    /// What it becomes; `None` removes it.
    pub record: Option<Record>,
    /// Closed rows, for fire times that the change passes over, and a waiting one for a run that is
    /// asked for.
    pub rows: Vec<Row>,
    /// Tells this write from all others, for when it is asked again: a random number of 63 bits.
    pub token: u64,
    /// What goes into the action log with it, if anything.
    pub action: Option<Action>,
}

impl Write {
    /// Adds a record, whose id must be free.
    pub fn add(record: Record, token: u64) -> Write {
        Write {
            id: record.id.clone(),
            expected: None,
            record: Some(record),
            rows: Vec::new(),
            token,
            action: None,
        }
    }

    /// Sets the record that bears this stamp to another, maybe of another incarnation.
    pub fn change(expected: Stamp, record: Record, token: u64) -> Write {
        Write { expected: Some(expected), ..Write::add(record, token) }
    }

    /// Removes the record that bears this stamp.
    pub fn remove(id: JobId, expected: Stamp, token: u64) -> Write {
        Write { id, expected: Some(expected), record: None, rows: Vec::new(), token, action: None }
    }

    /// The same write, with these rows.
    #[must_use]
    pub fn with_rows(self, rows: Vec<Row>) -> Write {
        Write { rows, ..self }
    }

    /// The same write, with this for the action log.
    #[must_use]
    pub fn with_action(self, action: Option<Action>) -> Write {
        Write { action, ..self }
    }
}

impl Write {
    /// About how many bytes it commits.
    pub(crate) fn size(&self) -> usize {
        let record = self.record.as_ref().map_or(0, |record| {
            let texts = [&record.task, &record.args, &record.trigger, &record.options];
            let others = [&record.name, &record.declared, &record.paused_by];
            texts.iter().map(|text| text.len()).sum::<usize>()
                + others.into_iter().flatten().map(String::len).sum::<usize>()
                + record.tags.iter().map(String::len).sum::<usize>()
                + record.extra.len()
        });
        ROW_SIZE + record + self.rows.len() * ROW_SIZE
    }
}

/// About how many bytes a row is, or a record without its texts.
pub(crate) const ROW_SIZE: usize = 512;

/// What came of one [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was done, now or when it was asked for before.
    Done,
    /// Nothing was: the write expected something else than this, the record as it is.
    Lost(Option<Box<Record>>),
}

/// A record that is not what somebody knew.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The incarnation that was known.
    pub incarnation: Incarnation,
    /// What became of it.
    pub now: Now,
}

/// What became of an incarnation.
#[derive(Clone, Debug)]
pub enum Now {
    /// It was changed.
    Changed(Box<Record>),
    /// It is gone, and this is why, if the ledger still has it.
    Gone(Option<Fate>),
}

/// What [`Store::take`] is asked for.
#[derive(Clone)]
pub struct Take {
    /// Who takes.
    pub node: NodeId,
    /// Counts the takes of this node, from 1.
    pub number: u64,
    /// Up to when jobs are to be due.
    pub horizon: DateTime<Utc>,
    /// The tasks that the node knows.
    pub tasks: Arc<HashSet<String>>,
    /// Jobs that it leaves out: those of which it has enough, and some thousand at most that it can't
    /// read.
    pub except: Arc<HashSet<Incarnation>>,
    /// How far the node has looked in vain before.
    pub passed: Passed,
    /// How many jobs are looked at in vain at most; see [`Store::take`].
    pub looks: usize,
    /// How many jobs at most.
    pub limit: usize,
    /// After how many rows it is enough: the job at hand gets all that was decided on.
    pub row_limit: usize,
    /// Says what becomes of a job's fire times.
    pub decide: Decide,
}

impl Take {
    /// What a take answers in [`Takings::next_due`], if it came so far and looked at these in vain.
    pub fn next_due(&self, passed: Passed, in_vain: &HashSet<Incarnation>) -> NextDue {
        let except = match in_vain.is_empty() {
            true => self.except.clone(),
            false => Arc::new(self.except.union(in_vain).copied().collect()),
        };
        NextDue { node: self.node, tasks: self.tasks.clone(), except, passed }
    }
}

/// Decides what becomes of a job's fire times by its record and its waiting rows. It takes some
/// microseconds and changes nothing but its own count of the room there is, so it may be called inside a
/// transaction, and again where that is tried again.
pub type Decide = Arc<dyn Fn(&Record, &[Row]) -> Decision + Send + Sync>;

/// What becomes of a job's fire times.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing, for this node, as things are: it has no room for it.
    Leave,
    /// Nothing, since this node can't read the record, or not run it.
    Reject(Error),
    /// These rows go into the ledger: taken ones, and closed ones that run for nothing.
    Take {
        /// The rows; those that were waiting have their old key.
        rows: Vec<Row>,
        /// The first fire time that is not among them.
        next_fire: Option<DateTime<Utc>>,
    },
}

/// What [`Store::take`] took, or [`Store::taken`] found.
#[derive(Clone, Debug, Default)]
pub struct Takings {
    /// The jobs and their rows, in the order in which they were found.
    pub jobs: Vec<Taken>,
    /// Rows whose record is gone since they were taken, for the node to close.
    pub orphans: Vec<Row>,
    /// Whether there may be more, for a take that goes on behind `passed`.
    pub more: bool,
    /// The jobs that were rejected.
    pub rejected: Vec<Rejected>,
    /// How many were left.
    pub left: usize,
    /// How far the take has looked in vain: at least as far as [`Take::passed`].
    pub passed: Passed,
    /// When to take next, if there is no more now: what [`Store::next_due`] answers to
    /// [`Take::next_due`].
    pub next_due: Option<DateTime<Utc>>,
}

/// How far a node has looked in vain: it passes over the jobs up to there. Nothing is passed by
/// default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Of the jobs with waiting rows, which come in order of their incarnations: the last.
    pub waiting: Option<Incarnation>,
    /// Of the jobs that are due, which come in order of their next fire times and incarnations: the
    /// last.
    pub due: Option<(DateTime<Utc>, Incarnation)>,
}

/// A job whose record a take could not read.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Which it is.
    pub job: JobId,
    /// Its record as it was.
    pub stamp: Stamp,
    /// What is wrong with it.
    pub error: Error,
}

/// A job of which a node has taken rows.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The record as it is now.
    pub record: Record,
    /// The rows that this take put into the ledger as was decided: those taken, and those closed.
    pub rows: Vec<Row>,
}

/// A row that a node gives back; see [`Store::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// Which row.
    pub key: RowKey,
    /// The fence under which it was taken.
    pub fence: u64,
    /// Which call of the work comes next, from 1: one more than the last one that was made.
    pub attempt: u32,
}

impl Release {
    /// Gives back a row that was taken under this fence, for this attempt to come.
    pub fn new(key: RowKey, fence: u64, attempt: u32) -> Release {
        Release { key, fence, attempt }
    }
}

/// The end of a row.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which row.
    pub key: RowKey,
    /// The fence under which it was taken.
    pub fence: u64,
    /// What became of it.
    pub fate: Fate,
    /// How often the work was called, or was to be.
    pub attempt: u32,
    /// When the work was called, if it was; the last time.
    pub started_at: Option<DateTime<Utc>>,
    /// When that was known.
    pub ended_at: DateTime<Utc>,
    /// The error of a run that failed, at most a kilobyte.
    pub message: Option<String>,
    /// How the job ended, if it is over with this: *completed*, or *cancelled* where its token was
    /// cancelled while the run was going.
    pub job_end: Fate,
}

impl Finished {
    /// About how many bytes it commits.
    pub(crate) fn size(&self) -> usize {
        ROW_SIZE + self.message.as_ref().map_or(0, String::len)
    }
}

/// What came of [`Store::finish`].
#[derive(Clone, Debug, Default)]
pub struct Finishes {
    /// The outcomes that were refused, since their rows have been taken again, or pruned.
    pub refused: Vec<RowKey>,
    /// The jobs that are over with this.
    pub over: Vec<Incarnation>,
}

/// A sign of life; see [`Store::heartbeat`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Beat {
    /// Whose.
    pub node: NodeId,
    /// For people: which program on which machine.
    pub name: Arc<str>,
    /// Whether it is the first.
    pub first: bool,
    /// For how long.
    pub ttl: Duration,
    /// For people: the version of this crate that the node is built with.
    pub version: Arc<str>,
    /// For people: how far the node's wall clock is ahead of the store's, where that is known.
    pub clock_offset: Option<TimeDelta>,
}

impl Beat {
    /// A sign of life of a node that is built with this version of the crate.
    pub fn new(node: NodeId, name: impl Into<Arc<str>>, first: bool, ttl: Duration) -> Beat {
        let version = env!("CARGO_PKG_VERSION").into();
        Beat { node, name: name.into(), first, ttl, version, clock_offset: None }
    }
}

/// What a store knows of a node that has joined and neither left nor been buried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRow {
    /// Which one.
    pub id: NodeId,
    /// For people: which program on which machine.
    pub name: Arc<str>,
    /// How many signs of life it has given.
    pub beats: u64,
    /// For how long the last of them counts.
    pub ttl: Duration,
    /// For people: when that is over, by the store's clock.
    pub lease_until: DateTime<Utc>,
    /// For people: the version of this crate that it is built with; empty if it did not say.
    pub version: Arc<str>,
    /// For people: how far its wall clock is ahead of the store's, as far as it knows.
    pub clock_offset: Option<TimeDelta>,
}

impl NodeRow {
    /// The row of a node after its first sign of life, `beat`, at `now` by the store's clock.
    pub fn new(beat: &Beat, now: DateTime<Utc>) -> NodeRow {
        let mut row = NodeRow {
            id: beat.node,
            name: beat.name.clone(),
            beats: 0,
            ttl: Duration::ZERO,
            lease_until: now,
            version: beat.version.clone(),
            clock_offset: beat.clock_offset,
        };
        row.beat(beat, now);
        row
    }

    /// Takes another sign of life into account.
    pub fn beat(&mut self, beat: &Beat, now: DateTime<Utc>) {
        let ttl = TimeDelta::from_std(beat.ttl).unwrap_or(TimeDelta::MAX);
        self.lease_until = now.checked_add_signed(ttl).unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.name = beat.name.clone();
        self.ttl = beat.ttl;
        self.version = beat.version.clone();
        self.clock_offset = beat.clock_offset;
        self.beats += 1;
    }
}

/// What [`Store::reap`] did.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// The nodes that are dead.
    pub nodes: Vec<NodeId>,
    /// Their rows that are waiting again.
    pub handed_out: Vec<Row>,
    /// Their rows that were closed.
    pub abandoned: Vec<Row>,
    /// The jobs that are over with this.
    pub over: Vec<Incarnation>,
    /// Whether there is more to do.
    pub more: bool,
}

/// What [`Store::next_due`] is asked for; as in [`Take`].
#[derive(Clone, Debug)]
pub struct NextDue {
    /// Who asks.
    pub node: NodeId,
    /// The tasks that the node knows.
    pub tasks: Arc<HashSet<String>>,
    /// Jobs that it leaves out.
    pub except: Arc<HashSet<Incarnation>>,
    /// How far the node has looked in vain: jobs up to there do not count.
    pub passed: Passed,
}

/// Which closed rows are kept: those that every bound leaves. What ended only now is kept in any case, see
/// [`Keep::at_least`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many of each incarnation and kind, the newest. Default: 1000.
    pub rows: u32,
    /// For how long after their end. Default: 30 days.
    pub age: Duration,
    /// For how long after the end of their job. Default: 7 days.
    pub ended: Duration,
    /// How many in all, the latest to end; of those beyond it only what ended in the last minute is kept.
    /// Default: a million. A store may delete a tenth more than it must.
    pub total: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Keep { rows: 1000, age: 30 * DAY, ended: 7 * DAY, total: 1_000_000 }
    }
}

impl Keep {
    /// For how long it is remembered that a job is over which may be declared again: a year. A program
    /// that declares it begins that anew.
    pub const ENDED: TimeDelta = TimeDelta::days(365);

    /// For how long the action log is kept: 90 days.
    pub const ACTIONS: TimeDelta = TimeDelta::days(90);

    /// How many actions it keeps, the latest.
    pub const MOST_ACTIONS: usize = 10_000;

    /// How many such ends are remembered, the latest.
    pub const MOST_ENDED: usize = 100_000;

    /// Before when the rows of a kind have ended that are too old, be it by a bound of this age.
    pub(crate) fn oldest(age: Duration, kind: RowKind, now: DateTime<Utc>) -> DateTime<Utc> {
        let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
        let oldest = now.checked_sub_signed(age.max(Keep::at_least(kind)));
        oldest.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// How many of so many closed rows are to go, so that there is room for some time.
    pub(crate) fn surplus(&self, closed: u64) -> u64 {
        let begins = self.total - self.total / 20;
        if closed <= begins { 0 } else { closed - (self.total - self.total / 10) }
    }

    /// For how long what has ended is kept in any case: what says how a job ended for two hours, since
    /// nodes may ask as seldom as once an hour, and all else for a minute.
    pub fn at_least(kind: RowKind) -> TimeDelta {
        match kind {
            RowKind::Ended => TimeDelta::hours(2),
            RowKind::Scheduled | RowKind::Requested => TimeDelta::minutes(1),
        }
    }
}

/// What [`Store::prune`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many rows it deleted.
    pub deleted: u64,
    /// How many ends of jobs it forgot.
    pub forgotten: u64,
    /// Whether there is more to do.
    pub more: bool,
}
