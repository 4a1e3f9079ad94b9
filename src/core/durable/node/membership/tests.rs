//! A node joins, trusts its lease, watches other nodes, lists its own claims, and leaves.

use super::{
    super::tests::{at, options},
    *,
};
use crate::ledger::{Incarnation, RowKind};

const LEASE: Duration = Duration::from_secs(30);

fn joining() -> (Membership, Numbers) {
    let mut numbers = Numbers::new(1);
    (Membership::new(Arc::new(options()), &mut numbers, at(0)), numbers)
}

/// A node that has joined at the start.
fn live() -> (Membership, Numbers) {
    let (mut node, numbers) = joining();
    let events = confirm_heartbeat(&mut node, 0);
    assert!(matches!(events[..], [NodeEvent::Trusted]), "{events:?}");
    (node, numbers)
}

fn heartbeat(node: &mut Membership, second: i64) -> Heartbeat {
    match node.poll(false, at(second)) {
        Some(Request::Heartbeat(heartbeat)) => heartbeat,
        _ => panic!("no heartbeat at {second} s"),
    }
}

/// Has the store confirm a heartbeat.
fn confirm_heartbeat(node: &mut Membership, second: i64) -> Vec<NodeEvent> {
    let (heartbeat, mut events) = (heartbeat(node, second), Vec::new());
    let reply = Reply::Heartbeat { heartbeat, store_now: at(second).wall };
    node.accept(reply, at(second), &mut events);
    events
}

/// The row of another node, after this many heartbeats.
fn other(heartbeats: u64) -> NodeRow {
    let heartbeat = Heartbeat::new(NodeId(7), "other", true, LEASE);
    NodeRow { heartbeats, ..NodeRow::new(&heartbeat, at(0).wall) }
}

/// Replies to the node's requests at this second, with these nodes in the store. Returns the nodes
/// that it reaps.
fn live_beside(node: &mut Membership, second: i64, others: &[NodeRow]) -> Vec<(NodeId, u64)> {
    let mut reaped = Vec::new();
    while let Some(request) = node.poll(false, at(second)) {
        let reply = match request {
            Request::Heartbeat(heartbeat) => {
                Reply::Heartbeat { heartbeat, store_now: at(second).wall }
            }
            Request::Nodes => Reply::Nodes(others.to_vec()),
            Request::Reap(suspects) => {
                reaped.extend(&suspects);
                Reply::Reap { suspects, reaped: ReapReport::default() }
            }
            Request::ClaimedBy { node, limit, .. } => {
                Reply::ClaimedBy { node, limit, claims: Vec::new() }
            }
            Request::Claimed { .. } => panic!("nothing is unknown"),
        };
        node.accept(reply, at(second), &mut Vec::new());
    }
    reaped
}

fn key(number: i64) -> RowKey {
    RowKey { incarnation: Incarnation(1), kind: RowKind::Scheduled, number }
}

fn claims(numbers: std::ops::Range<i64>) -> Vec<Claim> {
    numbers.map(|number| Claim { key: key(number), fence: 1 }).collect()
}

#[test]
fn a_lost_first_heartbeat_is_not_sent_again_under_its_id() {
    let (mut node, mut numbers) = joining();
    let mut ids = Vec::new();
    for second in [0, 10, 20] {
        let heartbeat = heartbeat(&mut node, second);
        assert!(heartbeat.first && !ids.contains(&heartbeat.node), "it may still take effect");
        ids.push(heartbeat.node);
        let error = StoreError::unavailable("no reply");
        node.fail(&Request::Heartbeat(heartbeat), &error, at(second), &mut numbers);
    }
}

#[test]
fn a_lost_later_heartbeat_is_sent_again_under_its_id() {
    let (mut node, mut numbers) = live();
    let (id, lost) = (node.id(), heartbeat(&mut node, 10));
    let error = StoreError::unavailable("no reply");
    node.fail(&Request::Heartbeat(lost), &error, at(10), &mut numbers);
    let again = heartbeat(&mut node, 11);
    assert_eq!((again.node, again.first), (id, false));
}

#[test]
fn joining_is_reported_to_the_other_lanes_once() {
    let (mut node, _) = joining();
    let mut findings = Vec::new();
    for second in [0, 10] {
        let heartbeat = heartbeat(&mut node, second);
        let reply = Reply::Heartbeat { heartbeat, store_now: at(second).wall };
        findings.push(node.accept(reply, at(second), &mut Vec::new()));
        live_beside(&mut node, second, &[]);
    }
    let joined = Findings { joined: true, ..Findings::default() };
    assert_eq!(findings, [joined, Findings::default()]);
}

#[test]
fn a_node_trusts_its_lease_for_a_fifth_less_than_others_do() {
    let (node, _) = live();
    assert!(node.is_trusted(at(23)));
    assert!(!node.is_trusted(at(24)));
}

#[test]
fn trust_counts_from_when_the_heartbeat_was_sent() {
    let (mut node, _) = joining();
    let heartbeat = heartbeat(&mut node, 0);
    let reply = Reply::Heartbeat { heartbeat, store_now: at(10).wall };
    node.accept(reply, at(20), &mut Vec::new());
    assert!(node.is_trusted(at(23)) && !node.is_trusted(at(24)));
}

#[test]
fn a_lease_lapses_once_and_the_next_heartbeat_renews_it() {
    let (mut node, _) = live();
    assert_eq!(node.wake_at(false, at(0)), Some(TimeDelta::zero()), "it looks around first");
    assert!(!node.lapse(at(23)));
    assert!(node.lapse(at(24)));
    assert!(!node.lapse(at(25)), "that is reported once");
    assert!(node.has_joined() && node.lease().epoch().lapses == 1);
    assert!(matches!(confirm_heartbeat(&mut node, 26)[..], [NodeEvent::Trusted]));
    assert!(node.is_trusted(at(49)) && !node.lapse(at(49)));
}

#[test]
fn a_clock_that_is_set_back_does_not_renew_a_lapsed_lease() {
    let (mut node, _) = live();
    assert!(node.lapse(at(24)));
    assert!(!node.is_trusted(at(1)));
}

#[test]
fn a_confirmation_that_comes_too_late_brings_no_trust() {
    let (mut node, _) = joining();
    let (heartbeat, mut events) = (heartbeat(&mut node, 0), Vec::new());
    let reply = Reply::Heartbeat { heartbeat, store_now: at(0).wall };
    let findings = node.accept(reply, at(30), &mut events);
    assert!(findings.joined && !node.is_trusted(at(30)) && !node.lapse(at(30)));
    assert!(!events.iter().any(|event| matches!(event, NodeEvent::Trusted)), "{events:?}");
}

#[test]
fn an_expired_node_joins_again_under_another_id() {
    let (mut node, mut numbers) = live();
    let id = node.id();
    node.lose(false, &mut numbers);
    assert!(node.id() != id && !node.has_joined() && !node.is_trusted(at(1)));
    assert_eq!(node.lease().epoch().expiries, 1);
    let again = heartbeat(&mut node, 1);
    assert!(again.first && again.node == node.id(), "{again:?}");
}

#[test]
fn replies_to_an_earlier_life_change_nothing() {
    let (mut node, mut numbers) = live();
    let late = heartbeat(&mut node, 10);
    node.lose(false, &mut numbers);
    let (reply, mut events) =
        (Reply::Heartbeat { heartbeat: late, store_now: at(10).wall }, vec![]);
    assert_eq!(node.accept(reply, at(11), &mut events), Findings::default());
    assert!(events.is_empty() && !node.has_joined());

    let (mut node, mut numbers) = live();
    let (mut of, mut events) = (None, Vec::new());
    while let Some(request) = node.poll(false, at(0)) {
        let reply = match request {
            Request::Nodes => Reply::Nodes(Vec::new()),
            Request::Reap(suspects) => Reply::Reap { suspects, reaped: ReapReport::default() },
            Request::ClaimedBy { node, .. } => {
                of = Some(node);
                break;
            }
            _ => panic!(),
        };
        node.accept(reply, at(0), &mut Vec::new());
    }
    node.lose(false, &mut numbers);
    let reply = Reply::ClaimedBy { node: of.unwrap(), limit: 1000, claims: claims(0..3) };
    node.accept(reply, at(1), &mut events);
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn a_reply_that_is_not_awaited_changes_nothing() {
    let (mut node, mut events) = (joining().0, Vec::new());
    let heartbeat = Heartbeat::new(node.id(), "node", true, LEASE);
    let reply = Reply::Heartbeat { heartbeat, store_now: at(0).wall };
    assert_eq!(node.accept(reply, at(0), &mut events), Findings::default());
    assert!(events.is_empty() && !node.has_joined());
}

#[test]
fn a_heartbeat_is_sent_again_at_once_if_the_machine_slept_meanwhile() {
    let (mut node, _) = joining();
    let heartbeat = heartbeat(&mut node, 0);
    let awake = Reading { elapsed: at(1).elapsed, ..at(3) };
    let reply = Reply::Heartbeat { heartbeat, store_now: at(3).wall };
    node.accept(reply, awake, &mut Vec::new());
    assert!(matches!(node.poll(false, awake), Some(Request::Heartbeat(_))));
}

#[test]
fn a_step_of_the_wall_clock_is_followed_by_a_heartbeat() {
    let (mut node, _) = live();
    live_beside(&mut node, 1, &[]);
    assert!(node.poll(false, at(2)).is_none());
    node.wall_stepped(TimeDelta::seconds(3600));
    assert!(matches!(node.poll(false, at(2)), Some(Request::Heartbeat(_))));
}

#[test]
fn a_clock_of_the_store_that_is_set_back_is_found_by_a_heartbeat() {
    let (mut node, _) = live();
    let (heartbeat, mut events) = (heartbeat(&mut node, 10), Vec::new());
    let reply = Reply::Heartbeat { heartbeat, store_now: at(-50).wall };
    let findings = node.accept(reply, at(10), &mut events);
    assert!(findings.clock_set_back && findings.due_changed && !findings.joined);
    let [NodeEvent::ClockMoved(moved)] = events[..] else { panic!("{events:?}") };
    assert!((moved + TimeDelta::seconds(60)).abs() < TimeDelta::milliseconds(1), "{moved}");
    assert_eq!(node.read(at(11)).store.timestamp(), at(-49).wall.timestamp());
}

#[test]
fn a_node_is_reaped_once_it_has_sent_no_heartbeat_for_its_lease() {
    let (mut node, _) = live();
    for second in 1..=30 {
        assert_eq!(live_beside(&mut node, second, &[other(1)]), [], "second {second}");
    }
    assert_eq!(node.wake_at(false, at(30)), Some(TimeDelta::seconds(31)), "not a heartbeat later");
    assert_eq!(live_beside(&mut node, 31, &[other(1)]), [(NodeId(7), 1)]);
    // If the store has not expired it, it was alive: it is watched anew, and again after its next
    // heartbeat.
    for second in 32..=79 {
        let heartbeats = if second < 45 { 2 } else { 3 };
        assert_eq!(live_beside(&mut node, second, &[other(heartbeats)]), [], "second {second}");
    }
    assert_eq!(live_beside(&mut node, 80, &[other(3)]), [(NodeId(7), 3)]);
}

#[test]
fn what_a_node_had_that_is_gone_may_be_due() {
    let (mut node, _) = live();
    let mut see = |nodes: Vec<NodeRow>| {
        assert!(matches!(node.poll(false, at(0)), Some(Request::Nodes)));
        let findings = node.accept(Reply::Nodes(nodes), at(0), &mut Vec::new());
        node.list_nodes = true;
        findings.due_changed
    };
    assert_eq!([see(vec![other(1)]), see(vec![other(2)]), see(vec![])], [false, false, true]);
}

#[test]
fn reaping_goes_on_while_there_is_more() {
    let (mut node, _) = live();
    assert!(matches!(node.poll(false, at(0)), Some(Request::Nodes)));
    node.accept(Reply::Nodes(Vec::new()), at(0), &mut Vec::new());
    for more in [true, true, false] {
        let Some(Request::Reap(suspects)) = node.poll(false, at(0)) else { panic!() };
        let reaped = ReapReport { more, ..ReapReport::default() };
        node.accept(Reply::Reap { suspects, reaped }, at(0), &mut Vec::new());
    }
    assert!(matches!(node.poll(false, at(0)), Some(Request::ClaimedBy { .. })));
}

/// A node that is about to list its own claims.
fn listing() -> (Membership, Numbers) {
    let (mut node, numbers) = live();
    node.poll(false, at(0));
    node.accept(Reply::Nodes(Vec::new()), at(0), &mut Vec::new());
    node.poll(false, at(0));
    let reply = Reply::Reap { suspects: Vec::new(), reaped: ReapReport::default() };
    node.accept(reply, at(0), &mut Vec::new());
    (node, numbers)
}

#[test]
fn a_node_lists_its_own_claims_page_by_page_and_fetches_those_it_does_not_know() {
    let (mut node, _) = listing();
    let (mut events, mut listed) = (Vec::new(), 0);
    for page in [0..1000, 1000..1003] {
        let Some(Request::ClaimedBy { node: of, after, limit }) = node.poll(false, at(0)) else {
            panic!()
        };
        assert_eq!(after, (page.start > 0).then(|| key(page.start - 1)));
        let claims = claims(page.clone());
        node.fetch(claims.iter().take(2).map(|claim| claim.key));
        listed += claims.len();
        node.accept(Reply::ClaimedBy { node: of, limit, claims }, at(0), &mut events);
    }
    assert!(listed == 1003 && events.iter().all(|it| matches!(it, NodeEvent::Listed(_))));
    // All at once, since rows of one job are judged together.
    let Some(Request::Claimed { node: of, rows }) = node.poll(false, at(0)) else { panic!() };
    assert_eq!(rows, [0, 1, 1000, 1001].map(key));
    let reply = Reply::Claimed { node: of, requested: 4, found: ClaimResult::default() };
    node.accept(reply, at(0), &mut events);
    assert!(matches!(events.last(), Some(NodeEvent::Fetched(_))));
    assert!(node.poll(false, at(0)).is_none());
}

#[test]
fn a_fetch_that_fails_waits_for_the_next_list() {
    let (mut node, mut numbers) = listing();
    let Some(Request::ClaimedBy { node: of, limit, .. }) = node.poll(false, at(0)) else {
        panic!()
    };
    node.fetch([key(1)].into_iter());
    node.accept(Reply::ClaimedBy { node: of, limit, claims: claims(1..2) }, at(0), &mut Vec::new());
    let fetch = node.poll(false, at(0)).unwrap();
    assert!(matches!(fetch, Request::Claimed { .. }));
    node.fail(&fetch, &StoreError::unavailable("no reply"), at(0), &mut numbers);
    assert!(node.poll(false, at(9)).is_none() && node.is_down());
    assert!(matches!(node.poll(false, at(10)), Some(Request::Heartbeat(_))));
}

#[test]
fn a_node_that_leaves_renews_its_lease_until_the_other_lanes_are_done() {
    let (mut node, _) = live();
    node.deregister();
    assert!(node.poll(false, at(9)).is_none(), "others are of no interest any more");
    let heartbeat = heartbeat(&mut node, 10);
    assert_eq!(heartbeat.ttl, LEASE);
    let reply = Reply::Heartbeat { heartbeat, store_now: at(10).wall };
    node.accept(reply, at(10), &mut Vec::new());
    let Some(Request::Heartbeat(heartbeat)) = node.poll(true, at(11)) else { panic!() };
    assert!(heartbeat.ttl.is_zero() && !node.has_left());
    node.accept(Reply::Heartbeat { heartbeat, store_now: at(11).wall }, at(11), &mut Vec::new());
    assert!(node.has_left() && node.poll(true, at(40)).is_none());
    assert_eq!(node.wake_at(true, at(40)), None);
}

#[test]
fn a_node_that_leaves_before_it_has_joined_does_not_join() {
    let (mut node, _) = joining();
    node.deregister();
    assert!(node.poll(false, at(0)).is_none() && node.wake_at(false, at(0)).is_none());
    let Some(Request::Heartbeat(heartbeat)) = node.poll(true, at(0)) else { panic!() };
    assert!(heartbeat.ttl.is_zero());
}

#[test]
fn an_expired_node_that_leaves_has_left_unless_it_has_outcomes() {
    for has_outcomes in [false, true] {
        let (mut node, mut numbers) = live();
        node.deregister();
        node.lose(has_outcomes, &mut numbers);
        assert_eq!(node.has_left(), !has_outcomes);
    }
}
