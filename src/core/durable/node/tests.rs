//! Tests of several lanes of a node, on a store that replies as each test says; and the shared
//! helpers of the lanes' tests.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Node, NodeEvent, NodeOptions, Now, Reply, Request, claimer, closer, membership, pruner,
};
use crate::{
    clock::Reading,
    core::durable::allowance::Allowance,
    ledger::{
        Claim, ClaimResult, Fate, FinishReport, Incarnation, Keep, PruneReport, ReapReport,
        RecordPage, Release, RowKey, RowKind, RowOutcome, RunEnd, StoreError, WriteResult,
    },
};

/// Returns the local clocks this many milliseconds after the start.
pub(super) fn at_ms(millis: i64) -> Reading {
    let start: DateTime<Utc> = "2026-06-01T12:10:00Z".parse().unwrap();
    let elapsed = TimeDelta::milliseconds(millis);
    Reading { wall: start + elapsed, elapsed, together: true }
}

pub(super) fn at(second: i64) -> Reading {
    at_ms(1000 * second)
}

/// Returns the same, with a store on the same clock.
pub(super) fn now_ms(millis: i64) -> Now {
    Now { local: at_ms(millis), store: at_ms(millis).wall }
}

pub(super) fn now(second: i64) -> Now {
    now_ms(1000 * second)
}

pub(super) fn options() -> NodeOptions {
    NodeOptions {
        name: "node".into(),
        lease: Duration::from_secs(30),
        claim_ahead: Duration::from_secs(10),
        poll: Some(Duration::from_secs(60)),
        notifies: true,
        keep: Keep::default(),
        correction: TimeDelta::hours(3),
        max_batch: 1000,
        max_bytes: usize::MAX,
        has_clock: true,
        seed: 1,
    }
}

fn node_with(options: NodeOptions) -> Node {
    let tasks = HashSet::from(["task".to_owned()]);
    Node::new(options, tasks, Arc::new(|_, _| Ok(())), at(0))
}

/// A node that has joined its store.
fn node() -> Node {
    let mut node = node_with(options());
    let request = poll(&mut node, 0).remove(0);
    let reply = empty_reply(&request, 0);
    node.answer(request, Ok(reply), at(0));
    node
}

/// Returns the requests of this second, of a node without jobs and with free slots.
fn poll(node: &mut Node, second: i64) -> Vec<Request> {
    node.poll(at(second), 0, &HashSet::new(), Allowance::default, |_| Vec::new())
}

/// Returns the reply of an empty store that refuses nothing.
fn empty_reply(request: &Request, second: i64) -> Reply {
    match request.clone() {
        Request::Membership(request) => Reply::Membership(match request {
            membership::Request::Heartbeat(heartbeat) => {
                membership::Reply::Heartbeat { heartbeat, store_now: at(second).wall }
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
        Request::Claim(request) => Reply::Claim(match request {
            claimer::Request::Claim(claim) => {
                claimer::Reply::Claim { node: claim.node, result: ClaimResult::default() }
            }
            claimer::Request::NextDue(_) => claimer::Reply::NextDue(None),
            claimer::Request::Changed { .. } => claimer::Reply::Changed(Vec::new()),
        }),
        Request::Close(request) => Reply::Close(match request {
            closer::Request::Finish(outcomes) => {
                closer::Reply::Finish { count: outcomes.len(), report: FinishReport::default() }
            }
            closer::Request::Release { node, rows } => {
                closer::Reply::Release { node, count: rows.len() }
            }
        }),
        Request::Prune(request) => Reply::Prune(match request {
            pruner::Request::Prune { .. } => pruner::Reply::Prune(PruneReport::default()),
            pruner::Request::List { .. } => pruner::Reply::List(RecordPage::default()),
            pruner::Request::Correct(writes) => {
                let written = vec![WriteResult::Done; writes.len()];
                pruner::Reply::Correct { writes, written }
            }
        }),
    }
}

/// Replies to the node's requests in these seconds, as a store that refuses some outcomes. Returns
/// the accepted outcomes.
fn live(
    node: &mut Node,
    seconds: std::ops::Range<i64>,
    refuses: impl Fn(&RowOutcome) -> bool,
    events: &mut Vec<NodeEvent>,
) -> Vec<RowOutcome> {
    let mut accepted = Vec::new();
    for second in seconds {
        for request in poll(node, second) {
            let reply = match &request {
                Request::Close(closer::Request::Finish(sent)) if sent.iter().any(&refuses) => {
                    Err(StoreError::refused("no such text"))
                }
                Request::Close(closer::Request::Finish(sent)) => {
                    accepted.extend(sent.iter().cloned());
                    Ok(empty_reply(&request, second))
                }
                _ => Ok(empty_reply(&request, second)),
            };
            events.extend(node.answer(request, reply, at(second)));
        }
    }
    accepted
}

fn key(number: i64) -> RowKey {
    RowKey { incarnation: Incarnation(1), kind: RowKind::Scheduled, number }
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

fn is_claim(request: &Request) -> bool {
    matches!(request, Request::Claim(claimer::Request::Claim(_)))
}

#[test]
fn a_node_that_has_not_joined_sends_nothing_but_its_heartbeat() {
    let mut node = node_with(options());
    node.release(Release::new(key(1), 1, 1));
    let requests = poll(&mut node, 0);
    let heartbeat = |request: &&Request| matches!(request, Request::Membership(_));
    assert_eq!(requests.iter().filter(heartbeat).count(), 1);
    assert!(!requests.iter().any(|it| matches!(it, Request::Claim(_) | Request::Prune(_))));
    assert_eq!(requests.len(), 2, "what it has is closed all the same");
}

#[test]
fn the_lanes_do_not_wait_for_each_other() {
    let mut node = node();
    node.finish(outcome(1, None), at(0));
    let requests = poll(&mut node, 1);
    assert_eq!(requests.len(), 4, "one request of each lane");
    assert!(
        poll(&mut node, 2).is_empty() && node.wake_at(0, at(2)) == Some(TimeDelta::seconds(24))
    );
    let close = requests.into_iter().find(|it| matches!(it, Request::Close(_))).unwrap();
    let reply = empty_reply(&close, 2);
    node.answer(close, Ok(reply), at(2));
    node.release(Release::new(key(2), 1, 1));
    assert_eq!(poll(&mut node, 2).len(), 1);
}

#[test]
fn nothing_is_claimed_without_trust() {
    let mut node = node();
    assert!(!node.lapse(at(23)));
    assert!(node.lapse(at(24)));
    let requests = poll(&mut node, 24);
    assert!(!requests.iter().any(|it| matches!(it, Request::Claim(_))));
    let mut events = Vec::new();
    for request in requests {
        let reply = empty_reply(&request, 24);
        events.extend(node.answer(request, Ok(reply), at(24)));
    }
    assert!(events.iter().any(|it| matches!(it, NodeEvent::Trusted)), "{events:?}");
    assert!(poll(&mut node, 24).iter().any(|it| matches!(it, Request::Claim(_))));
}

#[test]
fn an_expired_node_begins_another_life_on_all_lanes() {
    let (mut node, mut events) = (node(), Vec::new());
    let id = node.id();
    node.release(Release::new(key(1), 1, 1));
    node.finish(outcome(2, None), at(0));
    let requests = poll(&mut node, 1);
    for (index, request) in requests.into_iter().enumerate() {
        // The first error ends the incarnation; the others come too late.
        let error = if index == 0 { StoreError::lease_lost() } else { StoreError::refused("late") };
        events.extend(node.answer(request, Err(error), at(1)));
    }
    let lost = |event: &&NodeEvent| matches!(event, NodeEvent::Lost);
    assert_eq!(events.iter().filter(lost).count(), 1, "{events:?}");
    let [NodeEvent::Acknowledged { claims, .. }, NodeEvent::Lost, ..] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(claims[..], [Claim { key: key(1), fence: 1 }], "what it would release is others'");
    assert!(node.id() != id && node.pending_outcomes() == 1);
    let first = poll(&mut node, 10).remove(0);
    let Request::Membership(membership::Request::Heartbeat(heartbeat)) = first else { panic!() };
    assert!(heartbeat.first && heartbeat.node == node.id());
}

#[test]
fn a_store_is_reported_as_failing_once_and_as_working_once() {
    let (mut node, mut events) = (node(), Vec::new());
    for second in (1..20).step_by(5) {
        for request in poll(&mut node, second) {
            events.extend(node.answer(request, Err(StoreError::unavailable("down")), at(second)));
        }
    }
    assert!(matches!(events[..], [NodeEvent::Failing(_)]) && node.is_down(), "{events:?}");
    events.clear();
    live(&mut node, 25..60, |_| false, &mut events);
    let works = |event: &&NodeEvent| matches!(event, NodeEvent::Working | NodeEvent::Failing(_));
    assert_eq!(events.iter().filter(works).count(), 1, "{events:?}");
    assert!(!node.is_down());
}

#[test]
fn a_node_leaves_once_its_claims_are_known_and_its_outcomes_acknowledged() {
    let (mut node, mut events) = (node(), Vec::new());
    live(&mut node, 0..1, |_| false, &mut events);
    node.claimer.set_local_due(TimeDelta::zero());
    let mut claim = None;
    for request in poll(&mut node, 1) {
        if is_claim(&request) {
            claim = Some(request);
            continue;
        }
        let reply = empty_reply(&request, 1);
        node.answer(request, Ok(reply), at(1));
    }
    let claim = claim.expect("something may be due");
    node.finish(outcome(1, None), at(1));
    node.deregister();
    live(&mut node, 2..5, |_| false, &mut events);
    assert!(node.pending_outcomes() == 0 && !node.has_left(), "what it claims it must release");
    let reply = empty_reply(&claim, 5);
    node.answer(claim, Ok(reply), at(5));
    live(&mut node, 5..7, |_| false, &mut events);
    assert!(node.has_left() && node.wake_at(0, at(7)).is_none());
}

#[test]
fn what_others_change_while_a_reply_is_awaited_is_kept_until_requests_show_it() {
    let mut node = node();
    let requests = poll(&mut node, 0);
    node.overtake(Incarnation(1), None);
    assert!(matches!(node.overtaken(Incarnation(1)), Some(None)));
    poll(&mut node, 1);
    assert!(node.overtaken(Incarnation(1)).is_some());
    for request in requests {
        let reply = empty_reply(&request, 1);
        node.answer(request, Ok(reply), at(1));
    }
    poll(&mut node, 1);
    assert!(node.overtaken(Incarnation(1)).is_none());
}

/// A store without a clock uses the local one.
#[test]
fn a_step_of_the_machines_clock_is_acted_on_at_once() {
    let mut node = node_with(NodeOptions { has_clock: false, ..options() });
    assert!(node.knows_clock());
    live(&mut node, 0..3, |_| false, &mut Vec::new());
    for (by, sooner) in [(-90, 0), (90, 0), (-4 * 3600, 4 * 3600)] {
        let now = Reading { wall: at(3).wall + TimeDelta::seconds(by), ..at(3) };
        let moved = node.clock_stepped(TimeDelta::seconds(by));
        assert_eq!((moved, node.store_now(now)), (TimeDelta::seconds(sooner), now.wall));
        assert_eq!(node.claimer.next_claim(), TimeDelta::MIN, "what is due now is claimed");
    }
}

#[test]
fn an_outcome_that_the_store_refuses_is_closed_without_its_message_or_given_up() {
    let (mut node, mut events) = (node(), Vec::new());
    for (number, message) in [(1, Some("fine")), (2, Some("\u{1}")), (3, None), (4, Some("fine"))] {
        node.finish(outcome(number, message), at(1));
    }
    let refuses = |it: &RowOutcome| it.key.number == 3 || it.message.as_deref() == Some("\u{1}");
    let mut accepted = live(&mut node, 1..90, refuses, &mut events);
    accepted.sort_by_key(|outcome| outcome.key);
    let closed: Vec<_> = accepted.iter().map(|it| (it.key.number, it.message.as_deref())).collect();
    assert_eq!(closed, [(1, Some("fine")), (2, None), (4, Some("fine"))]);
    let given_up = |it: &&NodeEvent| matches!(it, NodeEvent::GivenUp(row, _) if *row == key(3));
    assert_eq!(events.iter().filter(given_up).count(), 1);
    let claim = Claim { key: key(3), fence: 1 };
    assert!(node.has_closed(claim), "the store shows it as claimed by this node");
    node.deregister();
    live(&mut node, 90..100, |_| true, &mut events);
    assert!(node.has_left());
}

#[test]
fn outcomes_beside_some_that_are_refused_are_acknowledged_all_the_same() {
    let (mut node, mut events) = (node(), Vec::new());
    for number in 0..200 {
        node.finish(outcome(number, None), at(1));
    }
    // One request per second: finding a refused outcome takes some requests, and each retry has a
    // wait.
    let (mut accepted, mut second) = (Vec::new(), 1);
    while accepted.len() < 195 && second < 1000 {
        let refuses = |it: &RowOutcome| it.key.number % 40 == 7;
        accepted.extend(live(&mut node, second..second + 1, refuses, &mut events));
        second += 1;
    }
    assert!(accepted.len() == 195 && second < 120, "{} in {second} s", accepted.len());
}

#[test]
fn while_the_store_refuses_everything_no_outcome_is_given_up() {
    let (mut node, mut events) = (node(), Vec::new());
    node.finish(outcome(1, Some("fine")), at(1));
    for second in 1..60 {
        for request in poll(&mut node, second) {
            let error = StoreError::refused("read-only");
            events.extend(node.answer(request, Err(error), at(second)));
        }
    }
    let accepted = live(&mut node, 60..90, |_| false, &mut events);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].message.as_deref(), Some("fine"));
}
