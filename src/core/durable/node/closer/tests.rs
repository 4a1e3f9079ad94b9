//! Outcomes and releases are sent in batches, in turns, until the store acknowledges them.

use super::{
    super::tests::{at, at_ms, options},
    *,
};
use crate::ledger::{Fate, RowKey, RowKind, RunEnd};

const NODE: NodeId = NodeId(1);

/// A closer, with the other arguments of its calls.
struct Stage {
    closer: Closer,
    numbers: Numbers,
    last_heartbeat: TimeDelta,
    events: Vec<NodeEvent>,
}

fn stage() -> Stage {
    let last_heartbeat = TimeDelta::zero();
    let closer = Closer::new(Arc::new(options()));
    Stage { closer, numbers: Numbers::new(1), last_heartbeat, events: Vec::new() }
}

impl Stage {
    fn poll(&mut self, now: Reading) -> Option<Request> {
        self.closer.poll(NODE, false, now)
    }

    /// Sends outcomes. Returns the numbers of their rows.
    fn sends(&mut self, now: Reading) -> Vec<i64> {
        match self.poll(now) {
            Some(Request::Finish(outcomes)) => outcomes.iter().map(|it| it.key.number).collect(),
            Some(Request::Release { .. }) => panic!("a release"),
            None => Vec::new(),
        }
    }

    fn acknowledge(&mut self, request: &Request, now: Reading) {
        let reply = match request {
            Request::Finish(outcomes) => {
                Reply::Finish { count: outcomes.len(), report: FinishReport::default() }
            }
            Request::Release { node, rows } => Reply::Release { node: *node, count: rows.len() },
        };
        self.closer.accept(reply, NODE, now, &mut self.events);
    }

    fn fail(&mut self, request: &Request, error: &StoreError, now: Reading) {
        let Stage { closer, numbers, last_heartbeat, events } = self;
        closer.fail(request, error, now, *last_heartbeat, numbers, events);
    }

    /// Sends the next request, and has the store refuse it.
    fn refuse(&mut self, now: Reading) -> Request {
        let request = self.poll(now).unwrap();
        self.fail(&request, &StoreError::refused("no such text"), now);
        request
    }
}

fn key(number: i64) -> RowKey {
    RowKey { incarnation: Incarnation(1), kind: RowKind::Scheduled, number }
}

fn claim(number: i64) -> Claim {
    Claim { key: key(number), fence: 1 }
}

fn outcome(number: i64, message: Option<&str>) -> RowOutcome {
    RowOutcome {
        key: key(number),
        fence: 1,
        fate: Fate::Ran(RunEnd::Failed),
        attempt: 1,
        started_at: None,
        ended_at: at(0).wall,
        message: message.map(str::to_owned),
        job_end: Fate::Completed,
    }
}

fn release(number: i64) -> Release {
    Release::new(key(number), 1, 1)
}

fn is_finish(request: &Request) -> bool {
    matches!(request, Request::Finish(_))
}

#[test]
fn outcomes_are_gathered_for_ten_milliseconds() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, None), TimeDelta::zero());
    assert_eq!(stage.closer.wake_at(false), Some(TimeDelta::milliseconds(10)));
    assert!(stage.poll(at_ms(9)).is_none());
    stage.closer.finish(outcome(2, None), TimeDelta::milliseconds(9));
    assert_eq!(stage.sends(at_ms(10)), [1, 2]);
}

#[test]
fn a_full_batch_is_sent_at_once() {
    let mut stage = stage();
    for number in 0..99 {
        stage.closer.finish(outcome(number, None), TimeDelta::zero());
    }
    assert!(stage.poll(at(0)).is_none());
    stage.closer.finish(outcome(99, None), TimeDelta::zero());
    assert_eq!(stage.sends(at(0)).len(), 100);
}

#[test]
fn a_node_that_leaves_sends_its_outcomes_at_once() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, None), TimeDelta::zero());
    assert!(stage.closer.poll(NODE, true, at(0)).is_some_and(|request| is_finish(&request)));
}

#[test]
fn one_request_is_in_flight_at_a_time() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, None), TimeDelta::zero());
    let first = stage.poll(at(1)).unwrap();
    stage.closer.finish(outcome(2, None), at(1).elapsed);
    assert!(stage.poll(at(2)).is_none() && stage.closer.wake_at(false).is_none());
    stage.acknowledge(&first, at(3));
    assert_eq!(stage.sends(at(3)), [2]);
}

#[test]
fn outcomes_are_sent_in_parts_that_the_store_can_commit() {
    let mut stage = stage();
    stage.closer = Closer::new(Arc::new(NodeOptions { max_bytes: 5000, ..options() }));
    for number in 0..10 {
        let message = "x".repeat(if number == 9 { 10_000 } else { 1000 });
        stage.closer.finish(outcome(number, Some(&message)), TimeDelta::zero());
    }
    let mut parts = Vec::new();
    while let Some(request) = stage.poll(at(1)) {
        let Request::Finish(outcomes) = &request else { panic!() };
        parts.push(outcomes.len());
        stage.acknowledge(&request, at(1));
    }
    assert_eq!(parts, [3, 3, 3, 1]);
}

/// A store that commits each row separately may take longer than the timeout.
#[test]
fn batches_without_a_reply_halve_and_grow_again() {
    let mut stage = stage();
    for number in 0..100 {
        stage.closer.finish(outcome(number, None), TimeDelta::zero());
    }
    let mut sizes = Vec::new();
    for second in (0..100).step_by(10) {
        let Some(request) = stage.poll(at(second)) else { break };
        let Request::Finish(sent) = &request else { panic!() };
        sizes.push(sent.len());
        if sent.len() <= 20 {
            stage.acknowledge(&request, at(second))
        } else {
            stage.fail(&request, &StoreError::unavailable("no reply"), at(second))
        }
    }
    assert_eq!(sizes[..5], [100, 50, 25, 13, 26]);
}

#[test]
fn a_refused_batch_is_halved_without_a_wait_and_a_refused_outcome_lets_the_others_go_first() {
    let mut stage = stage();
    for number in 0..4 {
        stage.closer.finish(outcome(number, None), TimeDelta::zero());
    }
    assert!(is_finish(&stage.refuse(at(1))), "four");
    assert_eq!(stage.closer.wake_at(false), Some(at(1).elapsed));
    assert!(is_finish(&stage.refuse(at(1))), "two");
    let Request::Finish(sent) = stage.refuse(at(1)) else { panic!() };
    assert_eq!((sent.len(), sent[0].key.number), (1, 0));
    assert!(stage.poll(at(2)).is_none(), "a refusal of one is waited for");
    assert_eq!(stage.sends(at(10)), [1]);
}

#[test]
fn a_refused_outcome_loses_its_message_and_is_given_up_after_a_heartbeat() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, Some("\u{1}")), TimeDelta::zero());
    stage.refuse(at(1));
    // No heartbeat was confirmed since, so the store itself may be at fault.
    let Request::Finish(sent) = stage.refuse(at(10)) else { panic!() };
    assert_eq!(sent[0].message.as_deref(), Some("\u{1}"));
    stage.last_heartbeat = at(11).elapsed;
    stage.refuse(at(20));
    let Request::Finish(sent) = stage.refuse(at(30)) else { panic!() };
    assert_eq!(sent[0].message, None);
    assert!(stage.events.is_empty() && stage.closer.is_failing());
    stage.last_heartbeat = at(31).elapsed;
    stage.refuse(at(40));
    let [NodeEvent::GivenUp(row, _), NodeEvent::Acknowledged { claims, over }] = &stage.events[..]
    else {
        panic!("{:?}", stage.events)
    };
    assert_eq!((*row, &claims[..], &over[..]), (key(1), &[claim(1)][..], &[][..]));
    assert!(stage.closer.is_drained() && !stage.closer.is_failing());
    stage.closer.forget_acknowledged();
    assert!(stage.closer.has_closed(claim(1)), "the store shows it as claimed by this node");
    assert_eq!(stage.closer.unacknowledged(), 1);
}

#[test]
fn without_a_reply_no_outcome_is_given_up() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, Some("fine")), TimeDelta::zero());
    for second in (0..100).step_by(10) {
        stage.last_heartbeat = at(second).elapsed;
        let Some(request) = stage.poll(at(second + 1)) else { panic!("{second}") };
        let Request::Finish(sent) = &request else { panic!() };
        assert_eq!(sent[0].message.as_deref(), Some("fine"));
        stage.fail(&request, &StoreError::unavailable("no reply"), at(second + 1));
    }
    assert!(stage.events.is_empty());
}

#[test]
fn outcomes_and_releases_take_turns() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, None), TimeDelta::zero());
    stage.closer.release(release(2));
    let mut finishes = Vec::new();
    for second in (1..80).step_by(10) {
        let request = stage.poll(at(second)).unwrap();
        finishes.push(is_finish(&request));
        stage.fail(&request, &StoreError::unavailable("no reply"), at(second));
    }
    assert!(finishes.windows(2).all(|two| two[0] != two[1]), "{finishes:?}");
}

#[test]
fn releases_are_not_gathered() {
    let mut stage = stage();
    stage.closer.release(release(1));
    assert_eq!(stage.closer.wake_at(false), Some(TimeDelta::zero()));
    let Some(Request::Release { node, rows }) = stage.poll(at(0)) else { panic!() };
    assert_eq!((node, &rows[..]), (NODE, &[release(1)][..]));
}

#[test]
fn what_is_closed_stays_so_until_requests_show_it() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, None), TimeDelta::zero());
    stage.closer.release(release(2));
    assert!(stage.closer.has_closed(claim(1)) && stage.closer.has_closed(claim(2)));
    assert!(!stage.closer.has_closed(Claim { fence: 2, ..claim(1) }), "it was claimed again");
    while let Some(request) = stage.poll(at(1)) {
        stage.acknowledge(&request, at(1));
    }
    assert!(stage.closer.is_drained());
    assert!(stage.closer.has_closed(claim(1)) && stage.closer.has_closed(claim(2)));
    stage.closer.forget_acknowledged();
    assert!(!stage.closer.has_closed(claim(1)) && !stage.closer.has_closed(claim(2)));
}

#[test]
fn a_reply_names_the_claims_that_it_acknowledges_and_the_jobs_that_are_over() {
    let mut stage = stage();
    stage.closer.finish(outcome(1, None), TimeDelta::zero());
    stage.closer.finish(outcome(2, None), TimeDelta::zero());
    assert_eq!(stage.sends(at(1)), [1, 2]);
    let report = FinishReport { over: vec![Incarnation(1)], ..FinishReport::default() };
    stage.closer.accept(Reply::Finish { count: 2, report }, NODE, at(1), &mut stage.events);
    let [NodeEvent::Acknowledged { claims, over }] = &stage.events[..] else { panic!() };
    assert_eq!((&claims[..], &over[..]), (&[claim(1), claim(2)][..], &[Incarnation(1)][..]));
    assert_eq!(stage.closer.pending_outcomes(), 0);
}

#[test]
fn another_life_has_nothing_to_release_and_keeps_its_outcomes() {
    let mut stage = stage();
    stage.closer.release(release(1));
    let late = stage.poll(at(0)).unwrap();
    stage.closer.finish(outcome(2, None), TimeDelta::zero());
    let next = NodeId(2);
    stage.closer.restart(next, &mut stage.events);
    let [NodeEvent::Acknowledged { claims, .. }] = &stage.events[..] else { panic!() };
    assert_eq!(claims[..], [claim(1)]);
    // The old incarnation's release does not acknowledge rows of the new one.
    stage.closer.release(release(3));
    let Request::Release { node, rows } = late else { panic!() };
    let reply = Reply::Release { node, count: rows.len() };
    stage.closer.accept(reply, next, at(1), &mut stage.events);
    assert_eq!(stage.events.len(), 1);
    assert!(stage.closer.has_closed(claim(3)));
    assert_eq!(stage.closer.pending_outcomes(), 1);
}
