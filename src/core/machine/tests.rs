//! The machine's parts, each with one input at a time.

use chrono::DateTime;

use super::*;
use crate::{
    core::{Reply, Request, change, claimer},
    job::{OnConflict, RunId},
    ledger::{
        Fate, Incarnation, Record, RecordChange, RecordStatus, StoreChange, Write, WriteResult,
    },
};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_738_800 + second, 0).unwrap()
}

fn record(incarnation: u64, version: u64) -> Record {
    Record { version, ..Record::new("job", Incarnation(incarnation), "task", at(0)) }
}

struct Wanted(bool);

impl Handles for Wanted {
    fn is_wanted(&self) -> bool {
        self.0
    }
}

#[test]
fn a_change_is_news_to_handles_of_older_versions() {
    let mut known = Known::default();
    let of = Incarnation(1);
    assert!(!known.is_news(StoreChange::Job(of, 2)));
    known.insert(&record(1, 2), Wanted(true));
    assert!(!known.is_news(StoreChange::Job(of, 2)));
    assert!(known.is_news(StoreChange::Job(of, 3)));
    assert!(known.is_news(StoreChange::Gone(of)));
    known.update_versions(&Reply::Claim(claimer::Reply::Changed(vec![RecordChange {
        incarnation: of,
        status: RecordStatus::Updated(Box::new(record(1, 3))),
    }])));
    assert!(!known.is_news(StoreChange::Job(of, 3)));
    known.insert(&record(1, 3), Wanted(false));
    assert!(!known.is_news(StoreChange::Gone(of)));
}

#[test]
fn a_change_of_a_job_that_is_being_added_is_found_once_it_is_added() {
    let mut known = Known::default();
    known.insert(&record(1, 0), Wanted(true));
    assert!(!known.is_news(StoreChange::Gone(Incarnation(1))));
    let (has_changed, _) = known.insert(&record(1, 1), Wanted(true));
    assert!(has_changed);
    assert!(known.remove_unadded(Incarnation(1)).is_none());
    known.insert(&record(2, 0), Wanted(true));
    assert!(known.remove_unadded(Incarnation(2)).is_some());
}

#[test]
fn a_request_for_changes_names_each_known_job_once() {
    let mut known = Known::default();
    for (incarnation, version, wanted) in [(1, 1, true), (2, 1, true), (3, 0, true), (4, 1, false)]
    {
        known.insert(&record(incarnation, version), Wanted(wanted));
    }
    let claimed = vec![("job".into(), Incarnation(2), 1)];
    let mut request =
        Request::Claim(claimer::Request::Changed { known: claimed.clone(), named: None });
    known.add_to(&mut request);
    let Request::Claim(claimer::Request::Changed { known: asked, .. }) = request else { panic!() };
    assert_eq!(asked, [claimed[0].clone(), ("job".into(), Incarnation(1), 1)]);
}

#[test]
fn a_result_waits_for_the_loop_only_while_the_loop_is_attentive() {
    let mut inbox = Inbox::default();
    let push = |inbox: &mut Inbox| {
        let result = RunResult::without_work(Outcome::Succeeded, at(0));
        inbox.push(RunKey { slot: 0, id: RunId(1) }, result)
    };
    assert_eq!(push(&mut inbox), Urgency::Now);
    inbox.attended = true;
    assert_eq!(push(&mut inbox), Urgency::CanWait);
    let last = (0..100).map(|_| push(&mut inbox)).last();
    assert_eq!(last, Some(Urgency::IfFree));
    let mut taken = Vec::new();
    inbox.take(&mut taken);
    assert_eq!(taken.len(), 102);
    assert_eq!(push(&mut inbox), Urgency::CanWait);
}

/// Returns an update that has found version 1 of incarnation 1, and pauses or removes it.
fn written(removes: bool) -> (Update, Write) {
    let mut update = Update::new("job".into(), None, None);
    let Step::Change(found) = update.found(Some(record(1, 1))) else { panic!("not found") };
    let change = if removes {
        change::remove(&found, Fate::Removed, at(1))
    } else {
        change::pause(&found, None).unwrap()
    };
    let Step::Write(write) = update.changed(Some(change), 7) else { panic!("not written") };
    (update, *write)
}

#[test]
fn an_update_is_written_over_the_version_that_it_found() {
    let (mut update, write) = written(false);
    assert_eq!((write.expected, write.token), (Some(record(1, 1).stamp()), 7));
    let Step::Done(updated) = update.written(WriteResult::Done, false) else { panic!("not done") };
    let new = updated.new.unwrap();
    assert!(new.paused && !updated.old.paused);
    assert_eq!((updated.old.version, new.version), (1, 2));
}

#[test]
fn a_write_that_was_repeated_may_be_older_than_the_record() {
    for (record, latest) in [
        (Some(record(1, 3)), Some(3)),
        (Some(record(1, 2)), None),
        (Some(record(2, 9)), None),
        (None, None),
    ] {
        let (mut update, _) = written(false);
        let Step::ReadAgain = update.written(WriteResult::Done, true) else { panic!("not read") };
        let Step::Done(updated) = update.read_again(record) else { panic!("not done") };
        assert_eq!(updated.new.unwrap().version, 2);
        assert_eq!(updated.latest.map(|latest| latest.version), latest);
    }
    let (mut removal, _) = written(true);
    assert!(matches!(removal.written(WriteResult::Done, true), Step::Done(_)));
}

#[test]
fn an_update_that_lost_goes_on_with_the_same_job_alone() {
    let (mut update, _) = written(false);
    let now = Box::new(record(1, 5));
    let Step::Change(found) = update.written(WriteResult::Lost(Some(now)), false) else {
        panic!("it ends")
    };
    assert_eq!(found.version, 5);
    let Step::Missing(Some(gone)) =
        update.written(WriteResult::Lost(Some(Box::new(record(2, 1)))), false)
    else {
        panic!("it goes on with another job");
    };
    assert_eq!(gone, Incarnation(1));
}

#[test]
fn a_removal_with_a_lost_response_is_distinguished_from_one_by_others() {
    for (fate, ours) in [(Fate::Removed, true), (Fate::Replaced, false)] {
        let (mut update, _) = written(true);
        let Step::ReadEnd(_, incarnation, 1) = update.written(WriteResult::Lost(None), false)
        else {
            panic!()
        };
        let status = RecordStatus::Removed(Some(fate));
        let step = update.ended(vec![RecordChange { incarnation, status }]);
        assert_eq!(matches!(step, Step::Done(_)), ours);
    }
}

#[test]
fn nothing_is_written_where_there_is_nothing_to_do() {
    let mut update = Update::new("job".into(), Some(Incarnation(1)), None);
    assert!(matches!(update.found(Some(record(2, 1))), Step::Missing(Some(Incarnation(1)))));
    assert!(matches!(update.found(Some(record(1, 1))), Step::Change(_)));
    let Step::Done(updated) = update.changed(None, 7) else { panic!("not done") };
    assert_eq!(updated.new.unwrap().version, updated.old.version);
}

#[test]
fn an_addition_gives_way_or_takes_the_place_of_what_is_there() {
    let mut keeps = Addition::new(record(2, 0), 7, OnConflict::Keep);
    let there = || Some(Box::new(record(1, 3)));
    keeps.written(WriteResult::Lost(there()), || at(1)).unwrap();
    // The write sets that the end is remembered.
    let kept = keeps.open_write().map(|write| write.record.clone().unwrap().incarnation);
    assert!(kept.is_none_or(|incarnation| incarnation == Incarnation(1)));
    assert!(!keeps.is_new());

    let mut replaces = Addition::new(record(2, 0), 7, OnConflict::Replace);
    replaces.written(WriteResult::Lost(there()), || at(1)).unwrap();
    let write = replaces.open_write().unwrap();
    assert_eq!((write.expected, write.token), (Some(record(1, 3).stamp()), 7));
    replaces.written(WriteResult::Done, || at(1)).unwrap();
    assert!(replaces.is_new() && replaces.is_written && replaces.open_write().is_none());
    assert_eq!(replaces.current.unwrap().incarnation, Incarnation(1));

    let mut fails = Addition::new(record(2, 0), 7, OnConflict::Error);
    assert!(fails.written(WriteResult::Lost(there()), || at(1)).is_err());
}
