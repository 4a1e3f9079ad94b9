//! The common parts of the cases: two clients of one store, nodes, and jobs.

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::{job::JobId, store::*};

/// The task of all jobs, except in cases about tasks.
pub(super) const TASK: &str = "send-invoice";

/// Longer than any case takes.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// A store, empty at the start, with two clients.
pub(super) struct Stage<S> {
    pub(super) store: Client<S>,
    pub(super) other: Client<S>,
    /// The time of the store's clock at the start.
    pub(super) now: DateTime<Utc>,
}

impl<S: Store> Stage<S> {
    pub(super) async fn set(open: &impl AsyncFn() -> S) -> Stage<S> {
        let (store, other) = (Client(Arc::new(open().await)), Client(Arc::new(open().await)));
        let now = store.time().await;
        Stage { store, other, now }
    }
}

/// A client of the store.
pub(super) struct Client<S>(Arc<S>);

impl<S> Clone for Client<S> {
    fn clone(&self) -> Client<S> {
        Client(self.0.clone())
    }
}

impl<S> Deref for Client<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Store> Client<S> {
    pub(super) async fn time(&self) -> DateTime<Utc> {
        self.now().await.unwrap().trunc_subsecs(3)
    }

    /// Adds a job and returns its record.
    pub(super) async fn add(&self, record: Record) -> Record {
        self.done(vec![insert(&record)]).await;
        self.record(&record.id).await
    }

    /// Adds a job with a waiting row.
    pub(super) async fn add_waiting(&self, record: Record, row: Row) -> Record {
        let row = Row { state: RowState::Waiting, ..row };
        self.done(vec![Write { rows: vec![row], ..insert(&record) }]).await;
        self.record(&record.id).await
    }

    /// Changes the current record.
    pub(super) async fn change(&self, id: &JobId, change: impl FnOnce(&mut Record)) -> Record {
        let current = self.record(id).await;
        let mut record = current.clone();
        change(&mut record);
        self.done(vec![update(&current, record)]).await;
        self.record(id).await
    }

    pub(super) async fn done(&self, writes: Vec<Write>) {
        let count = writes.len();
        assert_eq!(self.write(writes).await.unwrap(), vec![WriteResult::Done; count]);
    }

    /// Asserts that a write is lost, and returns the current record.
    pub(super) async fn lost(&self, write: Write) -> Option<Record> {
        match self.write_one(write).await {
            WriteResult::Done => {
                panic!("the write was done, although the current record is another one")
            }
            WriteResult::Lost(current) => current.map(|record| *record),
        }
    }

    pub(super) async fn write_one(&self, write: Write) -> WriteResult {
        let mut written = self.write(vec![write]).await.unwrap();
        assert_eq!(written.len(), 1, "there is one result per write");
        written.remove(0)
    }

    pub(super) async fn record(&self, id: &JobId) -> Record {
        let record = self.get(id.clone()).await.unwrap();
        record.unwrap_or_else(|| panic!("there is no record of `{id}`"))
    }

    pub(super) async fn is_there(&self, record: &Record) -> bool {
        let there = self.get(record.id.clone()).await.unwrap();
        there.is_some_and(|there| there.incarnation == record.incarnation)
    }

    pub(super) async fn row(&self, key: RowKey) -> Row {
        let rows = self.all_rows().await;
        let row = rows.into_iter().find(|row| row.key == key);
        row.unwrap_or_else(|| panic!("there is no row {key:?}"))
    }

    /// The fate of an incarnation, from the ledger.
    pub(super) async fn end(&self, record: &Record) -> Option<Fate> {
        let rows = self.all_rows().await;
        let row = rows.into_iter().find(|row| row.key == RowKey::end_of(record.incarnation))?;
        assert_eq!(row.job, record.id);
        match row.state {
            RowState::Closed(fate) => Some(fate),
            open => panic!("the end of a job is {open:?}"),
        }
    }

    /// All rows of the ledger.
    pub(super) async fn all_rows(&self) -> Vec<Row> {
        let limit = self.capabilities().max_batch;
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let page = self.rows(rows.last().map(|row| row.key), limit).await.unwrap();
            let is_last = page.len() < limit;
            let ordered = rows.last().zip(page.first()).is_none_or(|(a, b)| a.key < b.key);
            assert!(ordered, "a page of rows does not start after the previous one");
            rows.extend(page);
            if is_last {
                return rows;
            }
        }
    }

    /// Prunes the whole ledger, `limit` rows at a time. Returns the number of deleted rows.
    pub(super) async fn prune_all(&self, keep: Keep, limit: usize) -> u64 {
        let mut deleted = 0;
        for _ in 0..1000 {
            let pruned = self.prune(keep, limit).await.unwrap();
            assert!(pruned.deleted <= limit as u64);
            deleted += pruned.deleted;
            if !pruned.more {
                return deleted;
            }
        }
        panic!("pruning does not end");
    }

    pub(super) async fn finish_one(&self, row: &Row, fate: Fate) -> FinishReport {
        self.finish(vec![finished(row, fate, self.time().await)]).await.unwrap()
    }

    /// The row of a node, if any.
    pub(super) async fn node_row(&self, node: NodeId) -> Option<NodeRow> {
        let rows = self.nodes().await.unwrap();
        assert!(rows.iter().filter(|row| row.id == node).count() <= 1, "{rows:#?}");
        rows.into_iter().find(|row| row.id == node)
    }

    /// The suspects for `reap` after no heartbeats of these nodes for long enough.
    pub(super) async fn suspects<const N: usize>(&self, nodes: [NodeId; N]) -> Vec<(NodeId, u64)> {
        let rows = self.nodes().await.unwrap();
        let rows = rows.into_iter().filter(|row| nodes.contains(&row.id));
        rows.map(|row| (row.id, row.heartbeats)).collect()
    }

    /// Expires a node and reclaims its rows.
    pub(super) async fn expire<T>(&self, node: &Node<T>) -> ReapReport {
        self.reap(self.suspects([node.id]).await).await.unwrap()
    }

    /// Waits until this instant, by the store's clock.
    pub(super) async fn wait_until(&self, instant: DateTime<Utc>) {
        while self.time().await <= instant {
            // Polled, since only the store knows its clock.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A node that stays alive until it expires.
pub(super) struct Node<S> {
    store: Client<S>,
    pub(super) id: NodeId,
    claims: AtomicU64,
}

impl<S: Store> Node<S> {
    pub(super) async fn join(store: &Client<S>, number: u64) -> Node<S> {
        let id = NodeId((1 << 62) + number);
        let node = Node { store: store.clone(), id, claims: AtomicU64::new(0) };
        node.heartbeat(true, LONG).await.unwrap();
        node
    }

    pub(super) async fn heartbeat(
        &self,
        first: bool,
        ttl: Duration,
    ) -> Result<DateTime<Utc>, StoreError> {
        self.store.heartbeat(Heartbeat::new(self.id, "node", first, ttl)).await
    }

    /// Lets the lease end; the node keeps its row.
    pub(super) async fn lapse(&self) {
        let ttl = TimeDelta::milliseconds(1);
        let at = self.heartbeat(false, ttl.to_std().unwrap()).await.unwrap();
        self.store.wait_until(at + ttl).await;
    }

    pub(super) async fn deregister(&self) {
        self.heartbeat(false, Duration::ZERO).await.unwrap();
    }

    /// A request for the jobs that are due at `horizon`, each of which fires for the last time.
    pub(super) fn request(&self, horizon: DateTime<Utc>) -> ClaimRequest {
        ClaimRequest {
            node: self.id,
            number: self.claims.fetch_add(1, Ordering::Relaxed) + 1,
            horizon,
            tasks: tasks([TASK]),
            except: Arc::default(),
            passed: ClaimCursor::default(),
            looks: 10_000,
            limit: 100,
            row_limit: 1000,
            decide: fire(horizon, |_| None),
        }
    }

    pub(super) async fn claim(&self, request: ClaimRequest) -> Vec<ClaimedJob> {
        self.store.claim(request).await.unwrap().jobs
    }

    /// Claims the only candidate row.
    pub(super) async fn claim_one(&self, horizon: DateTime<Utc>) -> Row {
        self.claim_one_of(self.request(horizon)).await.1
    }

    /// Claims the only candidate row with this request; returns the record too.
    pub(super) async fn claim_one_of(&self, request: ClaimRequest) -> (Record, Row) {
        let mut claimed = self.claim(request).await;
        assert_eq!(claimed.len(), 1, "there is one candidate: {claimed:#?}");
        let ClaimedJob { record, mut rows } = claimed.remove(0);
        assert_eq!(rows.len(), 1, "there is one row: {rows:#?}");
        (record, rows.remove(0))
    }

    /// Releases claims whose work was not called.
    pub(super) async fn release(&self, rows: &[Claim]) {
        self.release_rows(
            rows.iter().map(|&Claim { key, fence }| Release::new(key, fence, 1)).collect(),
        )
        .await;
    }

    pub(super) async fn release_rows(&self, rows: Vec<Release>) {
        self.store.release(self.id, rows).await.unwrap();
    }

    pub(super) async fn claimed_keys(&self) -> Vec<RowKey> {
        let limit = self.store.capabilities().max_batch;
        let listed = self.store.claimed_by(self.id, None, limit).await.unwrap();
        listed.into_iter().map(|claim| claim.key).collect()
    }

    pub(super) fn due(&self) -> NextDueRequest {
        NextDueRequest {
            node: self.id,
            tasks: tasks([TASK]),
            except: Arc::default(),
            passed: ClaimCursor::default(),
        }
    }
}

/// A decision that claims the waiting rows and the due fire time; `next` is the fire time after it.
pub(super) fn fire(
    horizon: DateTime<Utc>,
    next: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>> + Send + Sync + 'static,
) -> Decide {
    Arc::new(move |record, waiting| {
        let claimed = |row: &Row| Row { state: RowState::Claimed(NodeId(0)), ..row.clone() };
        let mut rows: Vec<_> = waiting.iter().map(claimed).collect();
        let mut next_fire = record.next_fire;
        if let Some(at) = record.next_fire.filter(|at| !record.paused && *at <= horizon) {
            rows.push(scheduled(record, at));
            next_fire = next(at);
        }
        Decision::Claim { rows, next_fire }
    })
}

/// A constant decision.
pub(super) fn always(rows: Vec<Row>, next_fire: Option<DateTime<Utc>>) -> Decide {
    Arc::new(move |_, _| Decision::Claim { rows: rows.clone(), next_fire })
}

pub(super) fn tasks<const N: usize>(names: [&str; N]) -> Arc<HashSet<String>> {
    Arc::new(names.map(String::from).into())
}

/// A job, with an id for this number.
pub(super) fn job(number: u64, next_fire: impl Into<Option<DateTime<Utc>>>) -> Record {
    // The highest values, to detect a store without 63 bits.
    let incarnation = Incarnation(i64::MAX as u64 - number);
    Record {
        args: r#"{"customer":7}"#.to_owned(),
        trigger: r#"{"every":"1h"}"#.to_owned(),
        next_fire: next_fire.into(),
        ..Record::new(format!("job-{number:04}"), incarnation, TASK, DateTime::UNIX_EPOCH)
    }
}

/// Another incarnation of a job's id.
pub(super) fn next_incarnation(record: &Record) -> Record {
    let incarnation = Incarnation(record.incarnation.0 - (1 << 40));
    Record { incarnation, version: 0, fence: 0, tokens: Tokens::default(), ..record.clone() }
}

pub(super) fn insert(record: &Record) -> Write {
    change(None, Some(record.clone()), &record.id)
}

pub(super) fn update(current: &Record, record: Record) -> Write {
    change(Some(current.stamp()), Some(record), &current.id)
}

pub(super) fn remove(current: &Record, fate: Fate) -> Write {
    let rows = vec![Row::ended(current, fate, current.added_at)];
    Write { rows, ..change(Some(current.stamp()), None, &current.id) }
}

pub(super) fn replace(current: &Record, record: Record) -> Write {
    let rows = vec![Row::ended(current, Fate::Replaced, current.added_at)];
    Write { rows, ..update(current, record) }
}

fn change(expected: Option<Stamp>, record: Option<Record>, id: &JobId) -> Write {
    static TOKENS: AtomicU64 = AtomicU64::new(1 << 62);
    let token = TOKENS.fetch_add(1, Ordering::Relaxed);
    Write { id: id.clone(), expected, record, rows: Vec::new(), token, action: None }
}

/// The claimed row of a fire time, as in a decision.
pub(super) fn scheduled(record: &Record, at: DateTime<Utc>) -> Row {
    row(record, RowKind::Scheduled, at.timestamp_millis(), at)
}

/// The claimed row of a requested run, as in a decision.
pub(super) fn requested(record: &Record, number: i64, at: DateTime<Utc>) -> Row {
    row(record, RowKind::Requested, number, at)
}

fn row(record: &Record, kind: RowKind, number: i64, at: DateTime<Utc>) -> Row {
    let key = RowKey { incarnation: record.incarnation, kind, number };
    let row = Row::new(key, record.id.clone(), at, RowState::Claimed(NodeId(0)));
    Row { recover: record.recover, ..row }
}

pub(super) fn closed(row: Row, fate: Fate, ended_at: DateTime<Utc>) -> Row {
    Row { state: RowState::Closed(fate), ended_at: Some(ended_at), ..row }
}

pub(super) fn finished(row: &Row, fate: Fate, ended_at: DateTime<Utc>) -> RowOutcome {
    RowOutcome {
        key: row.key,
        fence: row.fence,
        fate,
        attempt: row.attempt,
        started_at: Some(ended_at - TimeDelta::seconds(1)),
        ended_at,
        message: None,
        job_end: Fate::Completed,
    }
}

pub(super) fn succeeded() -> Fate {
    Fate::Ran(RunEnd::Succeeded)
}

/// The keys of all rows, in order.
pub(super) fn keys(claimed: &[ClaimedJob]) -> Vec<RowKey> {
    let mut keys: Vec<_> =
        claimed.iter().flat_map(|claimed| &claimed.rows).map(|row| row.key).collect();
    keys.sort();
    keys
}

/// The ids of the jobs, in their order.
pub(super) fn ids(claimed: &[ClaimedJob]) -> Vec<String> {
    claimed.iter().map(|claimed| claimed.record.id.as_str().into_owned()).collect()
}

pub(super) fn secs(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}
