//! How a node joins, watches others, looks at all records, and what it does with outcomes that are
//! refused, on a store that answers as each test says.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Node, NodeEvent, NodeOptions, Reply, Request, claimer, closer, membership, pruner};
use crate::{
    clock::Reading,
    core::room::Room,
    ledger::{
        Claim, ClaimResult, Cursor, Fate, FinishReport, Heartbeat, Incarnation, Keep, NodeId,
        NodeRow, Page, Pruned, Reaped, Record, RowKey, RowKind, RowOutcome, RunEnd, StoreError,
        Write, Written,
    },
    trigger::{IntoTrigger as _, cron},
};

fn at(second: i64) -> Reading {
    let start: DateTime<Utc> = "2026-06-01T12:10:00Z".parse().unwrap();
    let elapsed = TimeDelta::seconds(second);
    Reading { wall: start + elapsed, elapsed, together: true }
}

fn options() -> NodeOptions {
    NodeOptions {
        name: "node".into(),
        lease: Duration::from_secs(30),
        claim_ahead: Duration::from_secs(10),
        poll: Duration::from_secs(60),
        keep: Keep::default(),
        correction: TimeDelta::hours(3),
        max_batch: 1000,
        max_bytes: usize::MAX,
        has_clock: true,
        seed: 1,
    }
}

/// A node that has joined its store, and looks at all records from now on.
fn node() -> Node {
    let mut node = Node::new(options(), HashSet::new(), Arc::new(|_, _| Ok(())), at(0));
    let request = poll(&mut node, 0).remove(0);
    let reply = empty_reply(&request, 0);
    node.answer(request, Ok(reply), at(0));
    node
}

/// What the node sends at this second, with no jobs and all room.
fn poll(node: &mut Node, second: i64) -> Vec<Request> {
    node.poll(at(second), 0, &HashSet::new(), Room::default, |_| Vec::new())
}

/// What a store replies that is empty and does as it is told.
fn empty_reply(request: &Request, second: i64) -> Reply {
    match request.clone() {
        Request::Membership(request) => Reply::Membership(match request {
            membership::Request::Heartbeat(heartbeat) => {
                membership::Reply::Heartbeat { heartbeat, store_now: at(second).wall }
            }
            membership::Request::Nodes => membership::Reply::Nodes(Vec::new()),
            membership::Request::Reap(suspects) => {
                membership::Reply::Reap { suspects, reaped: Reaped::default() }
            }
            membership::Request::ClaimedBy { node, limit, .. } => {
                membership::Reply::ClaimedBy { node, limit, claims: Vec::new() }
            }
            membership::Request::Claimed { node, rows } => {
                let (asked, found) = (rows.len(), ClaimResult::default());
                membership::Reply::Claimed { node, asked, found }
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
            pruner::Request::Prune { .. } => pruner::Reply::Prune(Pruned::default()),
            pruner::Request::List { .. } => pruner::Reply::List(Page::default()),
            pruner::Request::Correct(writes) => {
                let written = vec![Written::Done; writes.len()];
                pruner::Reply::Correct { writes, written }
            }
        }),
    }
}

/// A job that a clock which was wrong by years has left.
fn left_behind() -> Record {
    let trigger = cron("*/30 * * * *").into_trigger().unwrap();
    Record {
        version: 1,
        trigger: serde_json::to_string(&trigger).unwrap(),
        next_fire: Some("2037-06-01T12:30:00Z".parse().unwrap()),
        ..Record::new("job", Incarnation(1), "task", at(0).wall)
    }
}

fn job() -> Cursor {
    Cursor::from(&"job".into())
}

fn last(records: Vec<Record>) -> Page {
    Page { records, next: None }
}

/// What the node asks next in the prune lane.
fn asks(node: &mut Node, second: i64) -> Option<pruner::Request> {
    poll(node, second).into_iter().find_map(|request| match request {
        Request::Prune(request) => Some(request),
        _ => None,
    })
}

fn answer(
    node: &mut Node,
    request: pruner::Request,
    reply: Result<pruner::Reply, StoreError>,
    second: i64,
) {
    node.answer(Request::Prune(request), reply.map(Reply::Prune), at(second));
}

fn corrected(writes: Vec<Write>, written: Written) -> Result<pruner::Reply, StoreError> {
    Ok(pruner::Reply::Correct { writes, written: vec![written] })
}

#[test]
fn a_first_heartbeat_is_sent_once_under_a_name() {
    let mut node = Node::new(options(), HashSet::new(), Arc::new(|_, _| Ok(())), at(0));
    let mut names = HashSet::new();
    for second in [0, 10, 20] {
        let request = poll(&mut node, second).remove(0);
        let Request::Membership(membership::Request::Heartbeat(heartbeat)) = &request else {
            panic!("it has not joined")
        };
        assert!(heartbeat.first && names.insert(heartbeat.node), "it may still take effect");
        node.answer(request, Err(StoreError::unavailable("no answer")), at(second));
    }
}

/// A store without a clock goes by the one here.
#[test]
fn a_step_of_the_machines_clock_is_acted_on_at_once() {
    let options = NodeOptions { has_clock: false, ..options() };
    let mut node = Node::new(options, HashSet::new(), Arc::new(|_, _| Ok(())), at(0));
    assert!(node.knows_clock());
    for second in 1..=2 {
        // What the store says is of no interest.
        live_beside(&mut node, second, &[]);
    }
    for (by, sooner) in [(-90, 0), (90, 0), (-4 * 3600, 4 * 3600)] {
        let now = Reading { wall: at(3).wall + TimeDelta::seconds(by), ..at(3) };
        let moved = node.clock_stepped(TimeDelta::seconds(by));
        assert_eq!((moved, node.store_now(now)), (TimeDelta::seconds(sooner), now.wall));
        assert_eq!(node.next_take(), TimeDelta::MIN, "what is due now is claimed");
    }
}

/// A node that the others see, after so many signs of life.
fn other(beats: u64) -> NodeRow {
    let ttl = Duration::from_secs(30);
    let heartbeat = Heartbeat::new(NodeId(7), "other", true, ttl);
    NodeRow { heartbeats: beats, ..NodeRow::new(&heartbeat, at(0).wall) }
}

/// Has the node live for a second, with others that look like this; says whom it reaps.
fn live_beside(node: &mut Node, second: i64, others: &[NodeRow]) -> Vec<(NodeId, u64)> {
    let mut reaped = Vec::new();
    for _ in 0..5 {
        for request in poll(node, second) {
            let Request::Membership(of) = &request else { continue };
            let reply = match of {
                membership::Request::Nodes => {
                    Reply::Membership(membership::Reply::Nodes(others.to_vec()))
                }
                membership::Request::Reap(suspects) => {
                    reaped.extend(suspects);
                    empty_reply(&request, second)
                }
                _ => empty_reply(&request, second),
            };
            node.answer(request, Ok(reply), at(second));
        }
    }
    reaped
}

#[test]
fn a_node_believes_itself_for_a_fifth_of_its_lease_less_than_others_do() {
    let mut node = node();
    live_beside(&mut node, 5, &[]);
    // Its last sign of life was sent when it joined, and counts for thirty seconds.
    assert!(node.is_trusted(at(23)));
    assert!(!node.is_trusted(at(24)));
}

#[test]
fn a_node_is_reaped_once_it_has_given_no_sign_of_life_for_its_lease() {
    let mut node = node();
    for second in 1..=30 {
        assert_eq!(live_beside(&mut node, second, &[other(1)]), [], "second {second}");
    }
    assert_eq!(node.wake_at(0, at(30)), Some(TimeDelta::seconds(31)), "and not a heartbeat later");
    assert_eq!(live_beside(&mut node, 31, &[other(1)]), [(NodeId(7), 1)]);
    // If the store has not buried it, it has lived: it is watched anew, and again when it lives on.
    for second in 32..=79 {
        let beats = if second < 45 { 2 } else { 3 };
        assert_eq!(live_beside(&mut node, second, &[other(beats)]), [], "second {second}");
    }
    assert_eq!(live_beside(&mut node, 80, &[other(3)]), [(NodeId(7), 3)]);
}

#[test]
fn outcomes_are_sent_in_parts_that_the_store_can_commit() {
    let options = NodeOptions { max_bytes: 5000, ..options() };
    let mut node = Node::new(options, HashSet::new(), Arc::new(|_, _| Ok(())), at(0));
    live_beside(&mut node, 0, &[]);
    for number in 0..10 {
        let key = RowKey { incarnation: Incarnation(1), kind: RowKind::Scheduled, number };
        let message = Some("x".repeat(if number == 9 { 10_000 } else { 1000 }));
        let outcome = RowOutcome {
            key,
            fence: 1,
            fate: Fate::Ran(RunEnd::Failed),
            attempt: 1,
            started_at: None,
            ended_at: at(0).wall,
            message,
            job_end: Fate::Completed,
        };
        node.finish(outcome, at(0));
    }
    let mut parts = Vec::new();
    for second in 1..10 {
        for request in poll(&mut node, second) {
            if let Request::Close(closer::Request::Finish(outcomes)) = &request {
                parts.push(outcomes.len());
                let reply = empty_reply(&request, second);
                node.answer(request, Ok(reply), at(second));
            }
        }
    }
    assert_eq!(parts, [3, 3, 3, 1]);
}

#[test]
fn a_record_that_somebody_else_changed_is_corrected_as_it_is_now() {
    let mut node = node();
    let list = asks(&mut node, 0).unwrap();
    answer(&mut node, list, Ok(pruner::Reply::List(last(vec![left_behind()]))), 0);
    for version in 1..100 {
        let Some(request @ pruner::Request::Correct(_)) = asks(&mut node, 0) else {
            panic!("version {version}")
        };
        let pruner::Request::Correct(writes) = request.clone() else { unreachable!() };
        assert_eq!(writes[0].expected.unwrap().version, version);
        let current = Some(Box::new(Record { version: version + 1, ..left_behind() }));
        answer(&mut node, request, corrected(writes, Written::Lost(current)), 0);
    }
    let Some(request @ pruner::Request::Correct(_)) = asks(&mut node, 0) else { panic!() };
    let pruner::Request::Correct(writes) = request.clone() else { unreachable!() };
    answer(&mut node, request, corrected(writes, Written::Lost(None)), 0);
    assert!(asks(&mut node, 0).is_none());
}

#[test]
fn a_clock_that_steps_during_a_look_begins_it_anew() {
    let mut node = node();
    let list = asks(&mut node, 0).unwrap();
    node.look_for_corrections();
    let page = Page { next: Some(job()), ..last(vec![left_behind(); 500]) };
    answer(&mut node, list, Ok(pruner::Reply::List(page)), 0);
    assert!(matches!(asks(&mut node, 0), Some(pruner::Request::List { after: None, .. })));

    let mut node = self::node();
    let list = asks(&mut node, 0).unwrap();
    answer(&mut node, list, Ok(pruner::Reply::List(last(vec![left_behind()]))), 0);
    let request = asks(&mut node, 0).unwrap();
    let pruner::Request::Correct(writes) = request.clone() else { panic!() };
    node.look_for_corrections();
    answer(&mut node, request, corrected(writes, Written::Done), 0);
    assert!(matches!(asks(&mut node, 0), Some(pruner::Request::List { after: None, .. })));
}

#[test]
fn corrections_that_the_store_refuses_are_given_up() {
    let mut node = node();
    let list = asks(&mut node, 0).unwrap();
    let page = Page { next: Some(job()), ..last(vec![left_behind(); 500]) };
    answer(&mut node, list, Ok(pruner::Reply::List(page)), 0);
    let correct = asks(&mut node, 0).unwrap();
    answer(&mut node, correct, Err(StoreError::refused("no")), 0);
    let mut seen = HashMap::new();
    for second in (10..100).step_by(10) {
        let request = asks(&mut node, second).unwrap();
        *seen.entry(std::mem::discriminant(&request)).or_insert(0) += 1;
        let reply = match &request {
            pruner::Request::List { after, .. } => {
                assert_eq!(*after, Some(job()));
                pruner::Reply::List(Page::default())
            }
            pruner::Request::Prune { .. } => pruner::Reply::Prune(Pruned::default()),
            pruner::Request::Correct(_) => panic!("it was given up"),
        };
        answer(&mut node, request, Ok(reply), second);
        if seen.len() == 2 {
            assert!(node.failing.is_empty());
            return;
        }
    }
    panic!("{}", seen.len());
}

#[test]
fn a_look_that_fails_lets_the_ledger_be_pruned() {
    let mut node = node();
    let mut asked = Vec::new();
    for second in (0..100).step_by(10) {
        let Some(request) = asks(&mut node, second) else { continue };
        asked.push(matches!(request, pruner::Request::Prune { .. }));
        answer(&mut node, request, Err(StoreError::refused("no")), second);
    }
    assert!(asked.windows(2).all(|two| two[0] != two[1]) && asked.len() > 4, "{asked:?}");
}

/// Answers what the node asks for so many seconds, as a store that refuses some outcomes. Returns those
/// that it accepted.
fn live(
    node: &mut Node,
    seconds: std::ops::Range<i64>,
    refuses: impl Fn(&RowOutcome) -> bool,
    news: &mut Vec<NodeEvent>,
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
            news.extend(node.answer(request, reply, at(second)));
        }
    }
    accepted
}

fn outcome(number: i64, message: Option<&str>) -> RowOutcome {
    let key = RowKey { incarnation: Incarnation(1), kind: RowKind::Scheduled, number };
    RowOutcome {
        key,
        fence: 1,
        fate: Fate::Ran(RunEnd::Failed),
        attempt: 1,
        started_at: None,
        ended_at: at(0).wall,
        message: message.map(str::to_owned),
        job_end: Fate::Completed,
    }
}

#[test]
fn an_outcome_that_the_store_refuses_is_closed_without_its_message_or_given_up() {
    let (mut node, mut news) = (node(), Vec::new());
    for (number, message) in [(1, Some("fine")), (2, Some("\u{1}")), (3, None), (4, Some("fine"))] {
        node.finish(outcome(number, message), at(1));
    }
    let refuses = |it: &RowOutcome| it.key.number == 3 || it.message.as_deref() == Some("\u{1}");
    let mut accepted = live(&mut node, 1..90, refuses, &mut news);
    accepted.sort_by_key(|outcome| outcome.key);
    let closed: Vec<_> = accepted.iter().map(|it| (it.key.number, it.message.as_deref())).collect();
    assert_eq!(closed, [(1, Some("fine")), (2, None), (4, Some("fine"))]);
    let key = outcome(3, None).key;
    let given_up = |it: &NodeEvent| matches!(it, NodeEvent::GivenUp(row, _) if *row == key);
    assert_eq!(news.iter().filter(|it| given_up(it)).count(), 1);
    assert!(node.is_settled(Claim { key, fence: 1 }), "the store has it as taken by this node");
    node.leave();
    live(&mut node, 90..100, |_| true, &mut news);
    assert!(node.has_left());
}

/// A store whose operations are a commit for each row may be at it for longer than is waited.
#[test]
fn outcomes_that_are_not_answered_are_sent_in_smaller_batches() {
    let mut node = node();
    for number in 0..100 {
        node.finish(outcome(number, None), at(1));
    }
    let (mut second, mut sizes, mut told) = (1, Vec::new(), 0);
    while told < 100 && second < 1000 {
        second += 10;
        for request in poll(&mut node, second) {
            let reply = match &request {
                Request::Close(closer::Request::Finish(sent)) if sent.len() <= 20 => {
                    (told, _) = (told + sent.len(), sizes.push(sent.len()));
                    Ok(empty_reply(&request, second))
                }
                Request::Close(closer::Request::Finish(sent)) => {
                    sizes.push(sent.len());
                    Err(StoreError::unavailable("no answer"))
                }
                Request::Membership(membership::Request::Heartbeat(_)) => {
                    Ok(empty_reply(&request, second))
                }
                _ => continue,
            };
            node.answer(request, reply, at(second));
        }
    }
    assert_eq!(told, 100, "{sizes:?}");
    assert_eq!(sizes[..5], [100, 50, 25, 13, 26]);
}

#[test]
fn outcomes_beside_some_that_are_refused_are_told_all_the_same() {
    let (mut node, mut news) = (node(), Vec::new());
    for number in 0..200 {
        node.finish(outcome(number, None), at(1));
    }
    // Each second one request: to find one of them takes some, and then a moment until it is asked again.
    let mut accepted = Vec::new();
    let mut second = 1;
    while accepted.len() < 195 && second < 1000 {
        accepted.extend(live(
            &mut node,
            second..second + 1,
            |it| it.key.number % 40 == 7,
            &mut news,
        ));
        second += 1;
    }
    assert!(accepted.len() == 195 && second < 120, "{} in {second} s", accepted.len());
}

#[test]
fn while_the_store_refuses_everything_no_outcome_is_given_up() {
    let (mut node, mut news) = (node(), Vec::new());
    node.finish(outcome(1, Some("fine")), at(1));
    for second in 1..60 {
        for request in poll(&mut node, second) {
            news.extend(node.answer(request, Err(StoreError::refused("read-only")), at(second)));
        }
    }
    let accepted = live(&mut node, 60..90, |_| false, &mut news);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].message.as_deref(), Some("fine"));
}
