//! How a node looks at all records, on a store that answers as each test says.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Answer, Lane, Node, NodeOptions, Request};
use crate::{
    clock::Reading,
    store::{Incarnation, Keep, Record, StoreError, Written},
    trigger::{IntoTrigger as _, cron},
};

fn at(second: i64) -> Reading {
    let start: DateTime<Utc> = "2026-06-01T12:10:00Z".parse().unwrap();
    let elapsed = TimeDelta::seconds(second);
    Reading { wall: start + elapsed, elapsed, together: true }
}

/// A node that has joined its store, and looks at all records from now on.
fn node() -> Node {
    let options = NodeOptions {
        name: "node".into(),
        lease: Duration::from_secs(30),
        claim_ahead: Duration::from_secs(10),
        poll: Duration::from_secs(60),
        keep: Keep { rows: 100, age: Duration::from_secs(3600) },
        correction: TimeDelta::hours(3),
        max_batch: 1000,
        seed: 1,
    };
    let mut node = Node::new(options, HashSet::new(), Arc::new(|_, _| Ok(())), at(0));
    let beat = node.poll(at(0), 0, &HashSet::new(), Vec::new).remove(0);
    node.answer(beat, Ok(Answer::Beat(at(0).wall)), at(0));
    node
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

/// What the node asks next in the lane of looks.
fn asks(node: &mut Node, second: i64) -> Option<Request> {
    let asked = node.poll(at(second), 0, &HashSet::new(), Vec::new);
    asked.into_iter().find_map(|(lane, request)| (lane == Lane::Prune).then_some(request))
}

fn answer(node: &mut Node, request: Request, answer: Result<Answer, StoreError>, second: i64) {
    node.answer((Lane::Prune, request), answer, at(second));
}

#[test]
fn a_record_that_somebody_else_changed_is_corrected_as_it_is_now() {
    let mut node = node();
    let list = asks(&mut node, 0).unwrap();
    answer(&mut node, list, Ok(Answer::Listed(vec![left_behind()])), 0);
    for version in 1..100 {
        let Some(Request::Correct(writes)) = asks(&mut node, 0) else {
            panic!("version {version}")
        };
        assert_eq!(writes[0].expected.unwrap().version, version);
        let current = Some(Box::new(Record { version: version + 1, ..left_behind() }));
        let lost = Answer::Corrected(vec![Written::Lost(current)]);
        answer(&mut node, Request::Correct(writes), Ok(lost), 0);
    }
    let Some(Request::Correct(writes)) = asks(&mut node, 0) else { panic!() };
    let lost = Answer::Corrected(vec![Written::Lost(None)]);
    answer(&mut node, Request::Correct(writes), Ok(lost), 0);
    assert!(asks(&mut node, 0).is_none());
}

#[test]
fn a_clock_that_steps_during_a_look_begins_it_anew() {
    let mut node = node();
    let list = asks(&mut node, 0).unwrap();
    node.look_for_corrections();
    answer(&mut node, list, Ok(Answer::Listed(vec![left_behind(); 500])), 0);
    assert!(matches!(asks(&mut node, 0), Some(Request::List(None, _))));

    let mut node = self::node();
    let list = asks(&mut node, 0).unwrap();
    answer(&mut node, list, Ok(Answer::Listed(vec![left_behind()])), 0);
    let correct = asks(&mut node, 0).unwrap();
    node.look_for_corrections();
    answer(&mut node, correct, Ok(Answer::Corrected(vec![Written::Done])), 0);
    assert!(matches!(asks(&mut node, 0), Some(Request::List(None, _))));
}

#[test]
fn corrections_that_the_store_refuses_are_given_up() {
    let mut node = node();
    let list = asks(&mut node, 0).unwrap();
    answer(&mut node, list, Ok(Answer::Listed(vec![left_behind(); 500])), 0);
    let correct = asks(&mut node, 0).unwrap();
    answer(&mut node, correct, Err(StoreError::refused("no")), 0);
    let mut seen = HashMap::new();
    for second in (10..100).step_by(10) {
        let request = asks(&mut node, second).unwrap();
        *seen.entry(std::mem::discriminant(&request)).or_insert(0) += 1;
        let said = match &request {
            Request::List(after, _) => {
                assert_eq!(*after, Some("job".into()));
                Answer::Listed(Vec::new())
            }
            Request::Prune(..) => Answer::Pruned(crate::store::Pruned::default()),
            _ => panic!("it was given up"),
        };
        answer(&mut node, request, Ok(said), second);
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
        asked.push(matches!(request, Request::Prune(..)));
        answer(&mut node, request, Err(StoreError::refused("no")), second);
    }
    assert!(asked.windows(2).all(|two| two[0] != two[1]) && asked.len() > 4, "{asked:?}");
}
