//! The ledger is pruned at its pace, alongside a search for records that a wrong clock has set.

use super::{
    super::tests::{now, options},
    *,
};
use crate::{
    ledger::Incarnation,
    trigger::{IntoTrigger as _, cron},
};

/// A pruner, with the other arguments of its calls.
struct Stage {
    pruner: Pruner,
    numbers: Numbers,
    events: Vec<NodeEvent>,
}

/// A pruner that prunes from the fifth second on.
fn stage() -> Stage {
    let mut pruner = Pruner::new(Arc::new(options()));
    pruner.start(TimeDelta::zero());
    Stage { pruner, numbers: Numbers::new(1), events: Vec::new() }
}

/// A pruner that searches.
fn searching() -> Stage {
    let mut stage = stage();
    stage.pruner.search();
    stage
}

impl Stage {
    fn poll(&mut self, second: i64) -> Option<Request> {
        self.pruner.poll(now(second))
    }

    fn accept(&mut self, reply: Reply, second: i64) {
        self.pruner.accept(reply, now(second), &mut self.numbers, &mut self.events);
    }

    fn refuse(&mut self, request: &Request, second: i64) {
        let error = StoreError::refused("no");
        self.pruner.fail(request, &error, now(second), &mut self.numbers);
    }

    /// Sends a request for a page of records. Returns its start position.
    fn lists(&mut self, second: i64) -> Option<RecordCursor> {
        match self.poll(second) {
            Some(Request::List { after, .. }) => after,
            _ => panic!("no list at {second} s"),
        }
    }

    /// Sends corrections.
    fn corrects(&mut self, second: i64) -> Vec<Write> {
        match self.poll(second) {
            Some(Request::Correct(writes)) => writes,
            _ => panic!("no corrections at {second} s"),
        }
    }
}

/// A job whose record a wrong clock has set, years ahead.
fn left_behind(version: u64) -> Record {
    let trigger = cron("*/30 * * * *").into_trigger().unwrap();
    Record {
        version,
        trigger: serde_json::to_string(&trigger).unwrap(),
        next_fire: Some("2037-06-01T12:30:00Z".parse().unwrap()),
        ..Record::new("job", Incarnation(1), "task", now(0).store)
    }
}

fn last(records: Vec<Record>) -> Reply {
    Reply::List(RecordPage { records, next: None })
}

fn behind() -> RecordCursor {
    RecordCursor::from(&"job".into())
}

#[test]
fn the_ledger_is_pruned_as_often_as_it_grows() {
    let mut stage = stage();
    // Others may have left rows.
    let (mut at, mut pauses) = (0, Vec::new());
    for new_rows in [0, 100, 1, 99, 1000, 0, 0] {
        stage.pruner.count(new_rows);
        let next = stage.pruner.wake_at().unwrap().num_seconds();
        assert!(stage.poll(next - 1).is_none());
        assert!(matches!(stage.poll(next), Some(Request::Prune { limit: PRUNED, .. })));
        stage.accept(Reply::Prune(PruneReport::default()), next);
        pauses.push(next - at);
        at = next;
    }
    assert_eq!(pauses, [5, 5, 60, 60, 5, 600, 600]);
}

#[test]
fn pruning_goes_on_at_once_while_there_is_more() {
    let mut stage = stage();
    for more in [true, true, false] {
        assert!(matches!(stage.poll(5), Some(Request::Prune { .. })));
        stage.accept(Reply::Prune(PruneReport { more, ..PruneReport::default() }), 5);
    }
    assert!(stage.poll(5).is_none());
}

#[test]
fn a_prune_that_fails_is_sent_again_in_its_time() {
    let mut stage = stage();
    let request = stage.poll(5).unwrap();
    stage.refuse(&request, 5);
    assert!(stage.pruner.is_failing() && stage.poll(9).is_none());
    assert!(matches!(stage.poll(10), Some(Request::Prune { .. })));
    stage.accept(Reply::Prune(PruneReport::default()), 10);
    assert!(!stage.pruner.is_failing());
}

#[test]
fn a_search_lists_all_records_page_by_page() {
    let mut stage = searching();
    assert_eq!(stage.lists(0), None);
    stage.accept(Reply::List(RecordPage { records: Vec::new(), next: Some(behind()) }), 0);
    assert_eq!(stage.lists(0), Some(behind()));
    stage.accept(last(Vec::new()), 0);
    assert_eq!(stage.pruner.wake_at(), Some(TimeDelta::seconds(5)), "it has ended");
}

#[test]
fn records_that_need_no_correction_are_left_alone() {
    let mut stage = searching();
    stage.lists(0);
    let next_fire = Some(now(1200).store);
    let unreadable = Record { trigger: "no trigger".into(), ..left_behind(1) };
    stage.accept(last(vec![Record { next_fire, ..left_behind(1) }, unreadable]), 0);
    assert!(stage.poll(0).is_none());
}

#[test]
fn a_record_that_a_wrong_clock_has_left_goes_on_from_now() {
    let mut stage = searching();
    stage.lists(0);
    stage.accept(last(vec![left_behind(3)]), 0);
    let writes = stage.corrects(0);
    let record = writes[0].record.clone().unwrap();
    assert_eq!(record.next_fire, Some("2026-06-01T12:30:00Z".parse().unwrap()));
    stage.accept(Reply::Correct { writes, written: vec![WriteResult::Done] }, 0);
    let [NodeEvent::Corrected(corrected)] = &stage.events[..] else { panic!() };
    assert_eq!(corrected[..], [Record { version: 4, ..record }]);
    assert!(stage.poll(0).is_none());
}

#[test]
fn a_record_that_lost_to_another_write_is_corrected_as_it_is_now() {
    let mut stage = searching();
    stage.lists(0);
    stage.accept(last(vec![left_behind(1)]), 0);
    for version in 1..100 {
        let writes = stage.corrects(0);
        assert_eq!(writes[0].expected.unwrap().version, version);
        let current = Some(Box::new(left_behind(version + 1)));
        stage.accept(Reply::Correct { writes, written: vec![WriteResult::Lost(current)] }, 0);
    }
    let writes = stage.corrects(0);
    stage.accept(Reply::Correct { writes, written: vec![WriteResult::Lost(None)] }, 0);
    assert!(stage.poll(0).is_none() && stage.events.is_empty());
}

#[test]
fn a_record_that_others_change_all_the_time_is_not_followed_for_ever() {
    let mut stage = searching();
    stage.lists(0);
    stage.accept(last(vec![left_behind(1)]), 0);
    let mut times = 0;
    while let Some(Request::Correct(writes)) = stage.poll(0) {
        times += 1;
        let current = Some(Box::new(left_behind(times + 1)));
        stage.accept(Reply::Correct { writes, written: vec![WriteResult::Lost(current)] }, 0);
    }
    assert_eq!(times, MAX_LOST as u64 + 1);
}

#[test]
fn a_clock_that_is_set_back_during_a_search_begins_it_anew() {
    let mut stage = searching();
    stage.lists(0);
    stage.pruner.search();
    stage
        .accept(Reply::List(RecordPage { records: vec![left_behind(1)], next: Some(behind()) }), 0);
    assert_eq!(stage.lists(0), None, "the page was judged by another clock");

    stage.accept(last(vec![left_behind(1)]), 0);
    let writes = stage.corrects(0);
    stage.pruner.search();
    stage.accept(Reply::Correct { writes, written: vec![WriteResult::Done] }, 0);
    assert!(matches!(stage.events[..], [NodeEvent::Corrected(_)]), "that was done all the same");
    assert_eq!(stage.lists(0), None);
}

#[test]
fn corrections_that_the_store_refuses_are_given_up_and_the_search_goes_on() {
    let mut stage = searching();
    stage.lists(0);
    let page = RecordPage { records: vec![left_behind(1); 500], next: Some(behind()) };
    stage.accept(Reply::List(page), 0);
    let request = stage.poll(0).unwrap();
    assert!(matches!(&request, Request::Correct(writes) if writes.len() == 500));
    stage.refuse(&request, 0);
    assert!(stage.pruner.is_failing());
    // The next operation shows whether the store works.
    stage.pruner.forgive_corrections();
    assert!(!stage.pruner.is_failing());
    assert!(matches!(stage.poll(5), Some(Request::Prune { .. })));
    stage.accept(Reply::Prune(PruneReport::default()), 5);
    assert_eq!(stage.lists(5), Some(behind()));
}

#[test]
fn corrections_without_a_reply_are_sent_again() {
    let mut stage = searching();
    stage.lists(0);
    stage.accept(last(vec![left_behind(1)]), 0);
    let writes = stage.corrects(0);
    let error = StoreError::unavailable("no reply");
    stage.pruner.fail(&Request::Correct(writes), &error, now(0), &mut stage.numbers);
    stage.pruner.forgive_corrections();
    assert!(stage.pruner.is_failing(), "they are not given up");
    assert_eq!(stage.corrects(1).len(), 1);
}

#[test]
fn a_search_that_fails_lets_the_ledger_be_pruned() {
    let mut stage = searching();
    let mut prunes = Vec::new();
    for second in (5..100).step_by(10) {
        let Some(request) = stage.poll(second) else { continue };
        prunes.push(matches!(request, Request::Prune { .. }));
        stage.refuse(&request, second);
    }
    assert!(prunes.windows(2).all(|two| two[0] != two[1]) && prunes.len() > 4, "{prunes:?}");
}
