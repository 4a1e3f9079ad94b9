//! The effects of claimed rows: given a state and one input, what the core does.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::MIN_ROW_CAP;
use crate::{
    clock::Reading,
    core::{
        Core, NodeOptions, Payload, Reply, Request, RunResult, Start, StoreKey, claimer, closer,
        membership, pruner,
    },
    event::{EventKind, EventPayload, KindSet},
    job::{End, Outcome, SkipReason},
    ledger::{
        ClaimRequest, ClaimResult, ClaimedJob, Fate, FinishReport, Incarnation, Keep, NodeId,
        PruneReport, ReapReport, Record, RecordPage, Release, Row, RowKey, RowKind, RowOutcome,
        RowState, RunEnd, StoreError, WriteResult,
    },
    trigger::{IntoTrigger as _, every},
};

#[derive(Clone)]
struct Nothing;

impl Payload for Nothing {
    fn set_standing(&self, _: Option<SkipReason>) {}

    fn wants_runs(&self) -> bool {
        false
    }

    fn want_output(&self) {}

    fn set_args(&self, _: u64, _: &str) {}

    fn rework(&self, _: Nothing) -> Nothing {
        Nothing
    }

    fn take_over(&self, _: &Nothing) {}

    fn is(&self, _: &Nothing) -> bool {
        true
    }
}

const JOB: Incarnation = Incarnation(1);

fn start() -> DateTime<Utc> {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(second)
}

/// A core with a node of one store, which replies as each test says.
struct Stage {
    core: Core<Nothing>,
    store: StoreKey,
    node: NodeId,
    second: i64,
    /// The time within the second.
    part: TimeDelta,
    /// Requests without a reply.
    sent: Vec<Request>,
    /// The collected effects, in order.
    starts: Vec<Start<Nothing>>,
    cancels: usize,
    events: Vec<EventPayload>,
}

impl Stage {
    /// A stage whose node has joined, and trusts its lease for at least 20 s.
    fn new() -> Stage {
        let reading = Reading { wall: start(), elapsed: TimeDelta::zero(), together: true };
        let mut core = Core::new(7, Arc::default(), false, reading);
        core.observe(KindSet::ALL);
        let options = NodeOptions {
            name: "node".into(),
            lease: Duration::from_secs(30),
            claim_ahead: Duration::from_secs(10),
            poll: Some(Duration::from_secs(3600)),
            notifies: true,
            keep: Keep::default(),
            correction: TimeDelta::hours(3),
            max_batch: 10_000,
            max_bytes: usize::MAX,
            has_clock: true,
            seed: 1,
        };
        let tasks = HashSet::from(["task".to_owned()]);
        let (store, _) = core.join("default".into(), options, tasks, Arc::new(|_, _| Ok(())));
        let (sent, starts, events) = (Vec::new(), Vec::new(), Vec::new());
        let node = NodeId(0);
        let part = TimeDelta::zero();
        let mut stage =
            Stage { core, store, node, second: 0, part, sent, starts, cancels: 0, events };
        stage.go_on();
        stage.events.clear();
        stage
    }

    fn now(&self) -> DateTime<Utc> {
        at(self.second) + self.part
    }

    fn reading(&self) -> Reading {
        let elapsed = self.now() - start();
        Reading { wall: self.now(), elapsed, together: true }
    }

    /// Collects the effects.
    fn collect(&mut self) {
        let now = self.now();
        self.core.read_clocks(self.reading());
        let requests = self.core.due_requests(now);
        self.sent.extend(requests.into_iter().map(|(_, request)| request));
        let out = self.core.outbox();
        self.starts.append(&mut out.starts);
        self.cancels += out.cancels.drain(..).count();
        self.events.extend(out.events.drain(..).map(|event| event.payload));
        let mut slots = std::mem::take(&mut out.dirty);
        slots.retain(|&slot| self.core.wake_at(slot).is_some_and(|due| due <= now));
        if !slots.is_empty() {
            self.core.sort(&mut slots);
            self.core.wake(&slots, now);
            self.collect();
        }
    }

    fn reply(&mut self, request: Request, reply: Result<Reply, StoreError>) {
        let records = reply.as_ref().map_or(0, |reply| reply.records().len());
        let payloads = vec![Nothing; records];
        let now = self.now();
        self.core.answer(self.store, request, reply, payloads, now);
        self.collect();
    }

    /// Replies to all requests except claims, releases and outcomes, like a store without jobs.
    fn go_on(&mut self) {
        self.collect();
        let is_plain = |request: &Request| {
            !matches!(request, Request::Claim(claimer::Request::Claim(_)) | Request::Close(_))
        };
        while let Some(place) = self.sent.iter().position(is_plain) {
            let request = self.sent.remove(place);
            let reply = self.plain_reply(&request);
            self.reply(request, Ok(reply));
        }
    }

    fn plain_reply(&mut self, request: &Request) -> Reply {
        match request.clone() {
            Request::Membership(request) => Reply::Membership(match request {
                membership::Request::Heartbeat(heartbeat) => {
                    self.node = heartbeat.node;
                    membership::Reply::Heartbeat { heartbeat, store_now: self.now() }
                }
                membership::Request::Nodes => membership::Reply::Nodes(Vec::new()),
                membership::Request::Reap(suspects) => {
                    membership::Reply::Reap { suspects, reaped: ReapReport::default() }
                }
                membership::Request::ClaimedBy { node, limit, .. } => {
                    membership::Reply::ClaimedBy { node, limit, claims: Vec::new() }
                }
                membership::Request::Claimed { node, rows } => {
                    let (requested, found) = (rows.len(), ClaimResult::default());
                    membership::Reply::Claimed { node, requested, found }
                }
            }),
            Request::Claim(claimer::Request::NextDue(_)) => {
                Reply::Claim(claimer::Reply::NextDue(None))
            }
            Request::Claim(claimer::Request::Changed { .. }) => {
                Reply::Claim(claimer::Reply::Changed(Vec::new()))
            }
            Request::Prune(request) => Reply::Prune(match request {
                pruner::Request::Prune { .. } => pruner::Reply::Prune(PruneReport::default()),
                pruner::Request::List { .. } => pruner::Reply::List(RecordPage::default()),
                pruner::Request::Correct(writes) => {
                    let written = vec![WriteResult::Done; writes.len()];
                    pruner::Reply::Correct { writes, written }
                }
            }),
            Request::Claim(claimer::Request::Claim(_)) | Request::Close(_) => {
                unreachable!("each test replies to these itself")
            }
        }
    }

    fn take(&mut self, is_wanted: impl Fn(&Request) -> bool) -> Option<Request> {
        let place = self.sent.iter().position(is_wanted)?;
        Some(self.sent.remove(place))
    }

    /// Returns the next claim of the node.
    fn claim_request(&mut self) -> ClaimRequest {
        self.core.note_due(self.store, Some(self.now()));
        self.go_on();
        let is_claim = |it: &Request| matches!(it, Request::Claim(claimer::Request::Claim(_)));
        match self.take(is_claim) {
            Some(Request::Claim(claimer::Request::Claim(claim))) => claim,
            _ => panic!("the node claims nothing"),
        }
    }

    /// Replies to a claim with these rows of this job.
    fn claimed(&mut self, claim: ClaimRequest, record: Record, rows: Vec<Row>) {
        let jobs = vec![ClaimedJob { record, rows }];
        let result = ClaimResult { jobs, ..ClaimResult::default() };
        let reply = claimer::Reply::Claim { node: claim.node, result };
        self.reply(Request::Claim(claimer::Request::Claim(claim)), Ok(Reply::Claim(reply)));
    }

    /// Has the node claim these rows of this job.
    fn claim(&mut self, record: Record, rows: Vec<Row>) {
        let claim = self.claim_request();
        self.claimed(claim, record, rows);
    }

    fn advance_to(&mut self, second: i64) {
        (self.second, self.part) = (second, TimeDelta::zero());
        self.core.rearm_all();
        self.go_on();
    }

    /// Advances to `second` while all heartbeats are lost.
    fn advance_without_heartbeats(&mut self, second: i64) {
        (self.second, self.part) = (second, TimeDelta::zero());
        self.core.rearm_all();
        self.collect();
    }

    /// Ends a run with this outcome.
    fn finish(&mut self, start: &Start<Nothing>, outcome: Outcome) {
        let now = self.now();
        let result = RunResult::without_work(outcome, now);
        self.core.finish(start.run, RunResult { started_at: Some(now), ..result }, now);
        self.collect();
    }

    /// An attempt of a run was not made, since the lease had lapsed.
    fn put_back(&mut self, start: &Start<Nothing>) {
        let now = self.now();
        let result = RunResult::without_work(Outcome::Skipped(SkipReason::Shutdown), now);
        self.core.finish(start.run, RunResult { put_back: true, ..result }, now);
        self.collect();
    }

    /// The store replies to the next heartbeat that the node has expired.
    fn lose_lease(&mut self) {
        let is_heartbeat =
            |it: &Request| matches!(it, Request::Membership(membership::Request::Heartbeat(_)));
        let heartbeat = self.take(is_heartbeat).expect("the node renews its lease");
        self.reply(heartbeat, Err(StoreError::lease_lost()));
        assert!(self.kinds().contains(&EventKind::LeaseLost));
    }

    /// Returns the outcomes that are sent, and acknowledges them; the jobs in `over` are over with
    /// them.
    fn finished(&mut self, over: &[Incarnation]) -> Vec<RowOutcome> {
        // Outcomes are gathered for a while before they are sent.
        self.part += TimeDelta::milliseconds(20);
        self.collect();
        let is_finish = |it: &Request| matches!(it, Request::Close(closer::Request::Finish(_)));
        let Some(request) = self.take(is_finish) else { return Vec::new() };
        let Request::Close(closer::Request::Finish(outcomes)) = request.clone() else {
            unreachable!("it was looked for")
        };
        let report = FinishReport { over: over.to_vec(), ..FinishReport::default() };
        let reply = closer::Reply::Finish { count: outcomes.len(), report };
        self.reply(request, Ok(Reply::Close(reply)));
        outcomes
    }

    /// Returns the released rows, and acknowledges them.
    fn released(&mut self) -> Vec<Release> {
        self.collect();
        let is_release =
            |it: &Request| matches!(it, Request::Close(closer::Request::Release { .. }));
        let Some(request) = self.take(is_release) else { return Vec::new() };
        let Request::Close(closer::Request::Release { node, rows }) = request.clone() else {
            unreachable!("it was looked for")
        };
        let reply = closer::Reply::Release { node, count: rows.len() };
        self.reply(request, Ok(Reply::Close(reply)));
        rows
    }

    fn row(&self, second: i64, fence: u64) -> Row {
        let number = at(second).timestamp_millis();
        let key = RowKey { incarnation: JOB, kind: RowKind::Scheduled, number };
        let state = RowState::Claimed(self.node);
        Row { fence, ..Row::new(key, "job".into(), at(second), state) }
    }

    /// Returns the fire times of the started runs, in seconds.
    fn started(&self) -> Vec<i64> {
        self.starts.iter().map(|start| (start.fire_time - at(0)).num_seconds()).collect()
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events.iter().map(EventPayload::kind).collect()
    }
}

/// Returns a job that fires every second, with these options.
fn record(options: &str) -> Record {
    let trigger = every(Duration::from_secs(1)).into_trigger().unwrap();
    let trigger = trigger.anchored(at(0), chrono_tz::Tz::UTC).unwrap();
    Record {
        version: 1,
        trigger: serde_json::to_string(&trigger).unwrap(),
        options: options.to_owned(),
        next_fire: Some(at(60)),
        ..Record::new("job", JOB, "task", at(0))
    }
}

fn seconds(rows: impl IntoIterator<Item = RowKey>) -> Vec<i64> {
    rows.into_iter().map(|key| (key.number - at(0).timestamp_millis()) / 1000).collect()
}

#[test]
fn claimed_rows_become_runs_in_order_when_they_are_due() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(3, 5), stage.row(1, 4), stage.row(2, 6)];
    stage.claim(record(r#"{"max_instances":10}"#), rows);
    assert_eq!(stage.started(), [0_i64; 0]);
    stage.advance_to(1);
    stage.advance_to(2);
    assert_eq!(stage.started(), [1, 2]);
    stage.advance_to(3);
    let fences: Vec<_> = stage.starts.iter().map(|start| (start.fence, start.attempt)).collect();
    assert_eq!((stage.started(), fences), (vec![1, 2, 3], vec![(4, 1), (6, 1), (5, 1)]));
}

#[test]
fn rows_that_come_due_together_become_one_run_and_the_others_are_closed() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4), stage.row(2, 5), stage.row(3, 6)];
    stage.claim(record("{}"), rows);
    stage.advance_to(4);
    assert_eq!(stage.started(), [3]);
    assert_eq!(stage.starts[0].coalesced, 2);
    let closed = stage.finished(&[]);
    assert_eq!(seconds(closed.iter().map(|outcome| outcome.key)), [1, 2]);
    assert!(closed.iter().all(|outcome| outcome.fate == Fate::Coalesced(at(3))));
}

#[test]
fn a_row_that_began_on_another_node_is_not_coalesced() {
    let mut stage = Stage::new();
    let recovered = Row { attempt: 2, recover: true, ..stage.row(1, 4) };
    let rows = vec![recovered, stage.row(2, 5)];
    stage.claim(record(r#"{"max_instances":2}"#), rows);
    stage.advance_to(3);
    let attempts: Vec<_> = stage.starts.iter().map(|start| start.attempt).collect();
    assert_eq!((stage.started(), attempts), (vec![1, 2], vec![2, 1]));
}

#[test]
fn a_row_whose_job_was_removed_meanwhile_is_closed() {
    let mut stage = Stage::new();
    let claim = stage.claim_request();
    stage.core.forget(stage.store, JOB, &End::Removed, at(0));
    let rows = vec![stage.row(1, 4)];
    stage.claimed(claim, record("{}"), rows);
    let closed = stage.finished(&[]);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].fate, Fate::Skipped(SkipReason::Removed));
    assert_eq!(stage.core.len(), 0);
    stage.advance_to(2);
    assert_eq!(stage.started(), [0_i64; 0]);
}

#[test]
fn rows_of_a_record_that_cannot_be_read_are_released() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4), stage.row(2, 5)];
    stage.claim(Record { trigger: "{".into(), ..record("{}") }, rows);
    let released = stage.released();
    assert_eq!(seconds(released.iter().map(|row| row.key)), [1, 2]);
    assert_eq!(stage.core.len(), 0);
}

#[test]
fn pausing_the_job_releases_what_has_not_come_due() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4), stage.row(5, 5)];
    stage.claim(record("{}"), rows);
    stage.advance_to(1);
    let paused = Record { paused: true, version: 2, ..record("{}") };
    stage.core.adopt(stage.store, &paused, None, at(1));
    let released = stage.released();
    assert_eq!(seconds(released.iter().map(|row| row.key)), [5]);
    // The run continues, and its outcome is sent.
    let start = stage.starts.remove(0);
    stage.finish(&start, Outcome::Succeeded);
    assert_eq!(stage.finished(&[])[0].fate, Fate::Ran(RunEnd::Succeeded));
}

#[test]
fn pausing_the_scheduler_releases_what_has_not_come_due() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(4, 4), stage.row(5, 5)];
    stage.claim(record("{}"), rows);
    stage.core.pause_all(at(0)).unwrap();
    let released = stage.released();
    assert_eq!(seconds(released.iter().map(|row| row.key)), [4, 5]);
    assert!(released.iter().all(|row| row.attempt == 1), "none of them has begun");
    stage.advance_to(6);
    assert_eq!((stage.started(), stage.core.len()), (vec![], 0));
}

#[test]
fn shutting_down_releases_what_has_not_started_and_waits_for_what_has() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4), stage.row(5, 5)];
    stage.claim(record("{}"), rows);
    stage.advance_to(1);
    stage.core.close(at(1));
    let released = stage.released();
    assert_eq!(seconds(released.iter().map(|row| row.key)), [5]);
    assert!(!stage.core.has_left());
    let start = stage.starts.remove(0);
    stage.finish(&start, Outcome::Succeeded);
    assert_eq!(seconds(stage.finished(&[]).iter().map(|outcome| outcome.key)), [1]);
    assert_eq!(stage.core.len(), 0);
}

#[test]
fn a_lapsed_lease_stops_runs_that_others_may_start_again() {
    let mut stage = Stage::new();
    let recovering = Row { recover: true, ..stage.row(1, 4) };
    stage.claim(record(r#"{"max_instances":10}"#), vec![recovering]);
    stage.advance_to(1);
    assert_eq!((stage.started(), stage.cancels), (vec![1], 0));
    stage.advance_without_heartbeats(40);
    assert_eq!(stage.cancels, 1);
    assert!(stage.kinds().contains(&EventKind::LeaseLapsed));
}

#[test]
fn a_lapsed_lease_leaves_runs_that_no_node_starts_again() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4)];
    stage.claim(record(r#"{"max_instances":10}"#), rows);
    stage.advance_to(1);
    stage.advance_without_heartbeats(40);
    assert_eq!((stage.started(), stage.cancels), (vec![1], 0));
}

#[test]
fn nothing_starts_while_the_lease_has_lapsed() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(5, 4)];
    stage.claim(record("{}"), rows);
    stage.advance_without_heartbeats(40);
    assert_eq!(stage.started(), [0_i64; 0]);
    // The heartbeat gets through.
    stage.go_on();
    stage.advance_to(41);
    assert_eq!(stage.started(), [5]);
}

#[test]
fn an_acknowledged_row_is_forgotten_and_its_job_with_it() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4)];
    stage.claim(Record { next_fire: None, ..record("{}") }, rows);
    stage.advance_to(1);
    let start = stage.starts.remove(0);
    stage.finish(&start, Outcome::Succeeded);
    assert!(stage.core.has_claimed(stage.store, JOB), "the store may not know yet");
    stage.finished(&[JOB]);
    assert!(!stage.core.has_claimed(stage.store, JOB));
    assert_eq!(stage.core.len(), 0);
    assert!(stage.kinds().contains(&EventKind::JobRemoved));
}

#[test]
fn a_known_row_is_not_accepted_again() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4)];
    stage.claim(record("{}"), rows.clone());
    stage.advance_to(1);
    stage.claim(record("{}"), rows);
    stage.advance_to(2);
    assert_eq!(stage.started(), [1]);
}

#[test]
fn a_job_with_very_many_rows_is_left_out_until_half_of_them_are_closed() {
    let mut stage = Stage::new();
    let count = i64::try_from(MIN_ROW_CAP).unwrap();
    let rows: Vec<Row> = (0..count).map(|second| stage.row(1 + second, 4)).collect();
    stage.claim(record("{}"), rows);
    assert!(stage.claim_request().except.contains(&JOB));
    let mut stage = Stage::new();
    let rows: Vec<Row> = (0..count - 1).map(|second| stage.row(1 + second, 4)).collect();
    stage.claim(record("{}"), rows);
    assert!(!stage.claim_request().except.contains(&JOB));
}

#[test]
fn a_late_outcome_replaces_abandoned() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4), stage.row(5, 5)];
    stage.claim(record(r#"{"max_instances":2}"#), rows);
    stage.advance_to(1);
    stage.advance_without_heartbeats(40);
    stage.lose_lease();
    // Another node has claimed the unstarted row; the started run still sends its outcome.
    let start = stage.starts.remove(0);
    stage.finish(&start, Outcome::Succeeded);
    stage.go_on();
    let outcomes = stage.finished(&[]);
    assert_eq!(seconds(outcomes.iter().map(|outcome| outcome.key)), [1]);
    assert_eq!((outcomes[0].fence, &outcomes[0].fate), (4, &Fate::Ran(RunEnd::Succeeded)));
    stage.advance_to(45);
    assert_eq!(stage.started(), [0_i64; 0]);
}

#[test]
fn a_row_that_was_claimed_again_does_not_get_the_outcome_of_before() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4)];
    stage.claim(record(r#"{"max_instances":2}"#), rows);
    stage.advance_to(1);
    let again = Row { attempt: 2, ..stage.row(1, 9) };
    stage.claim(record(r#"{"max_instances":2}"#), vec![again]);
    stage.advance_to(2);
    let start = stage.starts.remove(0);
    assert_eq!(start.fence, 4);
    stage.finish(&start, Outcome::Succeeded);
    assert!(stage.finished(&[]).is_empty());
}

#[test]
fn a_run_that_was_put_back_starts_when_the_lease_is_renewed() {
    let mut stage = Stage::new();
    let rows = vec![stage.row(1, 4)];
    stage.claim(record(r#"{"max_instances":2}"#), rows);
    stage.advance_to(1);
    stage.advance_without_heartbeats(40);
    let start = stage.starts.remove(0);
    stage.put_back(&start);
    assert_eq!(stage.started(), [0_i64; 0]);
    stage.go_on();
    assert_eq!(stage.started(), [1]);
}

#[test]
fn a_run_that_was_put_back_does_not_start_once_others_have_its_row() {
    for recover in [false, true] {
        let mut stage = Stage::new();
        let rows = vec![Row { recover, ..stage.row(1, 4) }];
        stage.claim(record(r#"{"max_instances":2}"#), rows);
        stage.advance_to(1);
        stage.advance_without_heartbeats(40);
        let start = stage.starts.remove(0);
        stage.lose_lease();
        stage.put_back(&start);
        stage.go_on();
        stage.advance_to(45);
        assert_eq!(stage.started(), [0_i64; 0]);
        let fates: Vec<_> = stage.finished(&[]).into_iter().map(|outcome| outcome.fate).collect();
        assert_eq!(fates, if recover { vec![] } else { vec![Fate::Abandoned] });
    }
}

#[test]
fn a_run_that_was_put_back_is_released_once_nothing_starts_any_more() {
    for removed in [false, true] {
        let mut stage = Stage::new();
        let rows = vec![Row { recover: true, ..stage.row(1, 4) }];
        stage.claim(record(r#"{"max_instances":2}"#), rows);
        stage.advance_to(1);
        stage.advance_without_heartbeats(40);
        let start = stage.starts.remove(0);
        if removed {
            stage.core.removed_from_store(stage.store, &record("{}"), &End::Removed, at(40));
        } else {
            stage.core.close(at(40));
        }
        stage.put_back(&start);
        let released = stage.released();
        assert_eq!(seconds(released.iter().map(|row| row.key)), [1]);
        assert_eq!(released[0].attempt, 1, "it has not begun");
        assert_eq!((stage.started(), stage.core.len()), (vec![], 0));
    }
}
