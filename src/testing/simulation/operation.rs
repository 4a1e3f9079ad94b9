//! Operations of the store as their commits: what one commit does, and where other operations can
//! come in between.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use chrono::{DateTime, Utc};

use super::verbs::{VerbAnswer, VerbRequest};
use crate::{
    core::mix,
    job::JobId,
    ledger::{
        ActionCursor, ActionPage, Claim, ClaimRequest, ClaimResult, FateCursor, FateFilter,
        FatePage, FinishReport, Heartbeat, Incarnation, Keep, NextDueRequest, NodeId, NodeRow,
        PruneReport, ReapReport, Record, RecordChange, RecordCursor, RecordFilter, RecordPage,
        Release, Row, RowKey, RowOutcome, RowState, StoreError, Write, WriteResult,
    },
    store::{Capabilities, Store},
};

/// More rows than a simulation has.
pub(super) const MOST: usize = 1_000_000;

/// The store, and how its operations are split.
pub(super) struct Operations<S> {
    pub(super) store: S,
    /// Whether an operation on several jobs is one commit for each.
    several_commits: bool,
    /// Whether the store refuses some outcomes for good.
    refuses: bool,
    /// The commits that the world has not observed.
    commits: Mutex<Vec<Commit>>,
    /// The last claim of each node, if claims are several commits.
    claims: Mutex<HashMap<NodeId, LastClaim>>,
}

/// The effect of one commit.
pub(super) enum Commit {
    Heartbeat {
        heartbeat: Heartbeat,
        lease_lost: bool,
        /// The rows of a node that deregisters, before and after.
        before: Vec<Row>,
        after: usize,
    },
    Reap(ReapReport),
    Claim(ClaimRequest, ClaimResult),
    Write {
        write: Box<Write>,
        written: WriteResult,
        before: Option<Box<Record>>,
        after: Option<Box<Record>>,
        /// The rows of the write that existed before, and their present state.
        rows: Vec<(Row, Option<Row>)>,
    },
    Finish(Vec<RowOutcome>, FinishReport),
    /// The store refuses this outcome, sent alone.
    Refuse(RowKey, u64),
    Release {
        node: NodeId,
        rows: Vec<Release>,
        /// The rows before and after.
        changes: Vec<(Option<Row>, Option<Row>)>,
    },
}

#[derive(Default)]
struct LastClaim {
    number: u64,
    /// How many commits the claim has had.
    parts: u64,
    claimed: Vec<Claim>,
}

/// More commits than a claim has.
const PARTS: u64 = 1 << 20;

impl<S: Store> Operations<S> {
    pub(super) fn new(store: S, several_commits: bool, refuses: bool) -> Operations<S> {
        let (commits, claims) = (Mutex::default(), Mutex::default());
        Operations { store, several_commits, refuses, commits, claims }
    }

    /// Returns the commits since the last call.
    pub(super) fn commits(&self) -> Vec<Commit> {
        std::mem::take(&mut *lock(&self.commits))
    }

    fn note(&self, commit: Commit) {
        lock(&self.commits).push(commit);
    }

    /// Carries out a request of a verb.
    pub(super) async fn perform_verb(
        &self,
        request: VerbRequest,
    ) -> Result<VerbAnswer, StoreError> {
        Ok(match request {
            VerbRequest::Get(id) => VerbAnswer::Got(self.boxed(id).await?),
            VerbRequest::Changed(id, incarnation, version) => {
                VerbAnswer::Changed(self.store.changed(vec![(id, incarnation, version)]).await?)
            }
            VerbRequest::Write(write, _) => VerbAnswer::Written(self.write_one(*write).await?),
        })
    }

    /// Splits into commits: neighbours with one key, or everything together.
    fn split<T: Clone, K: PartialEq>(&self, all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<Vec<T>> {
        match (self.several_commits, all.is_empty()) {
            (_, true) => Vec::new(),
            (false, _) => vec![all],
            (true, _) => all.chunk_by(|a, b| key(a) == key(b)).map(<[T]>::to_vec).collect(),
        }
    }

    /// Lets other operations run between two commits.
    async fn between(&self) {
        if self.several_commits {
            tokio::task::yield_now().await;
        }
    }

    async fn boxed(&self, id: JobId) -> Result<Option<Box<Record>>, StoreError> {
        Ok(self.store.get(id).await?.map(Box::new))
    }

    async fn rows_of(&self, incarnation: Incarnation) -> Result<Vec<Row>, StoreError> {
        self.store.history(incarnation, MOST).await
    }

    async fn row(&self, key: RowKey) -> Result<Option<Row>, StoreError> {
        Ok(self.rows_of(key.incarnation).await?.into_iter().find(|row| row.key == key))
    }

    async fn heartbeat_once(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        let (store, leaves) = (&self.store, heartbeat.ttl.is_zero());
        let (mut before, mut after) = (Vec::new(), 0);
        if leaves {
            let keys = store.claimed_by(heartbeat.node, None, MOST).await?;
            let keys = keys.into_iter().map(|claim| claim.key).collect();
            let ClaimResult { jobs, orphans, .. } = store.claimed(heartbeat.node, keys).await?;
            before = jobs.into_iter().flat_map(|claimed| claimed.rows).chain(orphans).collect();
        }
        let result = store.heartbeat(heartbeat.clone()).await;
        if leaves {
            after = store.claimed_by(heartbeat.node, None, 10).await?.len();
        }
        let lease_lost = result.as_ref().is_err_and(StoreError::is_lease_lost);
        if result.is_ok() || lease_lost {
            self.note(Commit::Heartbeat { heartbeat, lease_lost, before, after });
        }
        result
    }

    async fn reap_each(&self, suspects: Vec<(NodeId, u64)>) -> Result<ReapReport, StoreError> {
        if !self.several_commits || suspects.is_empty() {
            return self.reap_once(suspects).await;
        }
        let mut all = ReapReport::default();
        for suspect in suspects {
            let ReapReport { nodes, handed_out, abandoned, over, more } =
                self.reap_once(vec![suspect]).await?;
            all.nodes.extend(nodes);
            all.handed_out.extend(handed_out);
            all.abandoned.extend(abandoned);
            all.over.extend(over);
            all.more |= more;
            self.between().await;
        }
        Ok(all)
    }

    async fn reap_once(&self, suspects: Vec<(NodeId, u64)>) -> Result<ReapReport, StoreError> {
        let reaped = self.store.reap(suspects).await?;
        self.note(Commit::Reap(reaped.clone()));
        Ok(reaped)
    }

    async fn claim_each(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        if !self.several_commits {
            return self.claim_once(request).await;
        }
        let (node, number) = (request.node, request.number);
        let last = lock(&self.claims).get(&node).map_or(0, |last| last.number);
        if number < last {
            return Err(StoreError::refused(format!("take {number} comes after take {last}")));
        }
        if number == last {
            return self.claimed_again(request).await;
        }
        let mut all = ClaimResult { passed: request.passed, ..ClaimResult::default() };
        let mut except = request.except.clone();
        let mut rows = 0;
        for part in 0..PARTS {
            let one = ClaimRequest {
                number: number * PARTS + part,
                limit: 1,
                row_limit: request.row_limit - rows,
                passed: all.passed,
                except: except.clone(),
                ..request.clone()
            };
            let ClaimResult { jobs, orphans, more, rejected, left, passed, next_due } =
                self.claim_once(one).await?;
            let found = jobs.iter().flat_map(|job| &job.rows);
            rows += found.clone().count();
            let found = found.filter(|row| matches!(row.state, RowState::Claimed(_)));
            let found: Vec<_> = found.map(Row::claim).collect();
            self.note_claimed(node, number, part, found);
            let rejects = rejected.iter().map(|rejected| rejected.stamp.incarnation);
            except = Arc::new(except.iter().copied().chain(rejects).collect());
            let ends = jobs.is_empty() || !more;
            all.jobs.extend(jobs);
            all.orphans.extend(orphans);
            all.rejected.extend(rejected);
            all.left += left;
            (all.more, all.passed, all.next_due) = (more, passed, next_due);
            if ends || all.jobs.len() >= request.limit || rows >= request.row_limit {
                break;
            }
            self.between().await;
        }
        Ok(all)
    }

    /// Notes the progress of a claim.
    fn note_claimed(&self, node: NodeId, number: u64, part: u64, found: Vec<Claim>) {
        let mut claims = lock(&self.claims);
        let last = claims.entry(node).or_default();
        if last.number != number {
            *last = LastClaim { number, ..LastClaim::default() };
        }
        last.parts = part;
        last.claimed.extend(found);
    }

    /// Returns the rows of a claim that is retried.
    async fn claimed_again(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        let (parts, claimed) = {
            let claims = lock(&self.claims);
            let last = claims.get(&request.node);
            last.map(|last| (last.parts, last.claimed.clone())).unwrap_or_default()
        };
        let last = ClaimRequest { number: request.number * PARTS + parts, ..request.clone() };
        // Only checks that the node has a row.
        self.store.claim(last).await?;
        let keys = claimed.iter().map(|claim| claim.key).collect();
        let mut again = self.store.claimed(request.node, keys).await?;
        for job in &mut again.jobs {
            job.rows.retain(|row| claimed.contains(&row.claim()));
        }
        again.jobs.retain(|job| !job.rows.is_empty());
        again.orphans.retain(|row| claimed.contains(&row.claim()));
        Ok(ClaimResult { more: true, passed: request.passed, ..again })
    }

    async fn claim_once(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        let claim_result = self.store.claim(request.clone()).await?;
        self.note(Commit::Claim(request, claim_result.clone()));
        Ok(claim_result)
    }

    async fn finish_once(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        if self.refuses && outcomes.iter().any(|outcome| is_poison(outcome.key)) {
            if let [outcome] = &outcomes[..] {
                self.note(Commit::Refuse(outcome.key, outcome.fence));
            }
            return Err(StoreError::refused("there is something about one of them"));
        }
        let report = self.store.finish(outcomes.clone()).await?;
        self.note(Commit::Finish(outcomes, report.clone()));
        Ok(report)
    }

    async fn release_once(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        let mut before = Vec::new();
        for Release { key, .. } in &rows {
            before.push(self.row(*key).await?);
        }
        self.store.release(node, rows.clone()).await?;
        let mut changes = Vec::new();
        for (Release { key, .. }, before) in rows.iter().zip(before) {
            changes.push((before, self.row(*key).await?));
        }
        self.note(Commit::Release { node, rows, changes });
        Ok(())
    }

    async fn write_one(&self, write: Write) -> Result<WriteResult, StoreError> {
        let before = self.boxed(write.id.clone()).await?;
        let mut there = Vec::new();
        for row in &write.rows {
            there.extend(self.row(row.key).await?);
        }
        let mut written = self.store.write(vec![write.clone()]).await?;
        let Some(written) = written.pop() else {
            return Err(StoreError::refused("it has not answered"));
        };
        let after = self.boxed(write.id.clone()).await?;
        let mut rows = Vec::new();
        for row in there {
            let now = self.row(row.key).await?;
            rows.push((row, now));
        }
        let (write, answer) = (Box::new(write), written.clone());
        self.note(Commit::Write { write, written: answer, before, after, rows });
        Ok(written)
    }
}

/// The store as nodes see it: operations on several jobs may be several commits.
impl<S: Store> Store for Operations<S> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.store.now().await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteResult>, StoreError> {
        let mut written = Vec::new();
        for write in writes {
            written.push(self.write_one(write).await?);
            self.between().await;
        }
        Ok(written)
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.store.get(id).await
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        self.store.list(filter, after, limit).await
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<RecordChange>, StoreError> {
        self.store.changed(known).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        self.claim_each(request).await
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        for rows in self.split(rows, |row| row.key) {
            self.release_once(node, rows).await?;
            self.between().await;
        }
        Ok(())
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        let mut report = FinishReport::default();
        for outcomes in self.split(outcomes, |outcome| outcome.key) {
            let FinishReport { refused, over } = self.finish_once(outcomes).await?;
            report.refused.extend(refused);
            report.over.extend(over);
            self.between().await;
        }
        Ok(report)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        self.heartbeat_once(heartbeat).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.store.nodes().await
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Result<ReapReport, StoreError> {
        self.reap_each(suspects).await
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        self.store.claimed_by(node, after, limit).await
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Result<ClaimResult, StoreError> {
        self.store.claimed(node, rows).await
    }

    async fn next_due(&self, of: NextDueRequest) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.store.next_due(of).await
    }

    async fn history(&self, of: Incarnation, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.history(of, limit).await
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.rows(after, limit).await
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> Result<FatePage, StoreError> {
        self.store.fates(filter, after, limit).await
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> Result<ActionPage, StoreError> {
        self.store.actions(job, after, limit).await
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.store.waiting(of, after, limit).await
    }

    async fn prune(&self, keep: Keep, limit: usize) -> Result<PruneReport, StoreError> {
        self.store.prune(keep, limit).await
    }
}

/// Whether the outcome of a row is refused for good, if some are.
pub(super) fn is_poison(key: RowKey) -> bool {
    mix(key.number.cast_unsigned() ^ key.incarnation.0).is_multiple_of(300)
}

/// An operation in progress.
pub(super) type Operation<T> = Pin<Box<dyn Future<Output = T>>>;

/// Continues an operation until it is done or yields to other operations. Blocks while other
/// threads work for it.
pub(super) fn step<T>(operation: &mut Operation<T>) -> Poll<T> {
    let bell = Arc::new(Bell { of: thread::current(), yields: false.into(), rings: false.into() });
    let waker = Waker::from(bell.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = operation.as_mut().poll(&mut context) {
            return Poll::Ready(done);
        }
        if bell.yields.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        while !bell.rings.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Wakes the thread that polls an operation.
struct Bell {
    of: Thread,
    /// Whether the operation woke itself, to yield to other operations.
    yields: AtomicBool,
    rings: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if thread::current().id() == self.of.id() {
            self.yields.store(true, Ordering::SeqCst);
        }
        self.rings.store(true, Ordering::SeqCst);
        self.of.unpark();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it has the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
