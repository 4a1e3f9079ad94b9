//! Stores as schedulers use them: fire times claimed and finished, in batches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use punctual::store::{
    ClaimCursor, ClaimRequest, Decision, Fate, Heartbeat, Incarnation, NodeId, Record, Row, RowKey,
    RowKind, RowOutcome, RowState, RunEnd, Store, Write,
};

use super::{Usage, figures};

pub(crate) const TASK: &str = "send-invoice";

/// When the first job is due; each of the others a millisecond after the one before.
pub(crate) const FIRST: i64 = 1_700_000_000_000;

/// Later than all that is due.
pub(crate) const HORIZON: i64 = 4 * FIRST;

/// The throughput of something.
pub(crate) struct Pace {
    /// Fire times a second.
    pub(crate) rate: f64,
    /// The CPU time of this process for each, in microseconds.
    pub(crate) cpu: f64,
}

impl Pace {
    /// Measures work that returns how many fire times it did.
    pub(crate) fn of(work: impl FnOnce(Instant) -> usize) -> Pace {
        let (usage, start) = (Usage::now(), Instant::now());
        let done = work(start) as f64;
        Pace {
            rate: done / start.elapsed().as_secs_f64(),
            cpu: Usage::since(usage).cpu.as_secs_f64() * 1e6 / done,
        }
    }

    pub(crate) fn median(paces: &[Pace]) -> Pace {
        Pace {
            rate: figures::median(paces.iter().map(|pace| pace.rate)),
            cpu: figures::median(paces.iter().map(|pace| pace.cpu)),
        }
    }
}

pub(crate) fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).expect("it is within this century")
}

/// Adds so many jobs, all of which are due.
pub(crate) async fn fill(store: &impl Store, size: usize) {
    let numbers: Vec<u64> = (0..size as u64).collect();
    for numbers in numbers.chunks(1000) {
        let writes = numbers.iter().map(|&number| adding(number)).collect();
        store.write(writes).await.expect("there is room");
    }
}

fn adding(number: u64) -> Write {
    // Spread as random numbers are.
    let incarnation = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
    let id = format!("invoice-{number}");
    let mut record = Record::new(id, Incarnation(incarnation), TASK, instant(FIRST));
    record.args = format!(r#"{{"customer":{number}}}"#);
    record.trigger = r#"{"interval":{"every":"1h","start":"2023-11-14T22:13:20Z"}}"#.into();
    record.options = r#"{"max_instances":2}"#.into();
    record.next_fire = Some(instant(FIRST + number as i64));
    Write::add(record, incarnation)
}

/// A scheduler as the store sees it.
pub(crate) struct Node<S> {
    store: S,
    request: ClaimRequest,
}

impl<S: Store> Node<S> {
    /// A node whose jobs fire again after all the others, of which there are `size`.
    pub(crate) async fn join(store: S, size: usize) -> Node<S> {
        let node = NodeId(random());
        let lease = Duration::from_secs(86_400);
        let heartbeat = Heartbeat::new(node, "bench", true, lease);
        store.heartbeat(heartbeat).await.expect("the store is open");
        let period = TimeDelta::milliseconds(size as i64);
        let decide = move |record: &Record, _: &[Row]| {
            let fire_time = record.next_fire.expect("it is due");
            let (incarnation, number) = (record.incarnation, fire_time.timestamp_millis());
            let key = RowKey { incarnation, kind: RowKind::Scheduled, number };
            let mut row = Row::new(key, record.id.clone(), fire_time, RowState::Claimed(node));
            row.recover = record.recover;
            Decision::Claim { rows: vec![row], next_fire: Some(fire_time + period) }
        };
        let request = ClaimRequest {
            node,
            number: 0,
            horizon: instant(HORIZON),
            tasks: Arc::new([TASK.to_owned()].into()),
            except: Arc::default(),
            passed: ClaimCursor::default(),
            looks: usize::MAX,
            limit: 0,
            row_limit: usize::MAX,
            decide: Arc::new(decide),
        };
        Node { store, request }
    }

    /// Lets nodes claim at the same time, and returns how many fire times they did.
    pub(crate) async fn go(
        nodes: &mut [Node<S>],
        start: Instant,
        round: Duration,
        batch: usize,
    ) -> usize {
        let each = nodes.iter_mut().map(async |node| {
            let mut done = 0;
            while start.elapsed() < round {
                done += node.step(batch).await;
            }
            done
        });
        join_all(each).await.into_iter().sum()
    }

    async fn step(&mut self, batch: usize) -> usize {
        self.request.number += 1;
        self.request.limit = batch;
        let claim_result = self.store.claim(self.request.clone()).await.expect("the node lives");
        let now = Utc::now();
        let rows = claim_result.jobs.iter().flat_map(|claimed| &claimed.rows);
        let outcomes: Vec<RowOutcome> = rows
            .map(|row| RowOutcome {
                key: row.key,
                fence: row.fence,
                fate: Fate::Ran(RunEnd::Succeeded),
                attempt: 1,
                started_at: Some(now),
                ended_at: now,
                message: None,
                job_end: Fate::Completed,
            })
            .collect();
        let done = outcomes.len();
        let report = self.store.finish(outcomes).await.expect("the store is open");
        assert!(report.refused.is_empty(), "nobody else claims what is held");
        done
    }
}

/// A number that is another in each call and run: nodes are told apart by it.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    RandomState::new().hash_one(0) >> 1
}
