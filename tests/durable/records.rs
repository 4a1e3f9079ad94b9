//! Records that cannot run here are kept and listed; all jobs go out as JSON and come back.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    EventKind, OnConflict, Scheduler,
    store::{Incarnation, MemoryStore, Record, Store as _, Write, Written},
    trigger::every,
};

use crate::tasks::{Notes, Remember, event, on, remember};

const SECOND: Duration = Duration::from_secs(1);

async fn put(store: &MemoryStore, record: Record) {
    let token = record.incarnation.0;
    let written = store.write(vec![Write::add(record, token)]).await.unwrap();
    assert_eq!(written, [Written::Done]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_here_is_reported_and_kept() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut unreadable = event(&scheduler, EventKind::JobUnreadable).await;
    scheduler.add(every(SECOND), remember("tick")).id("good").await.unwrap();
    let good = store.get("good".into()).await.unwrap().unwrap();
    type Spoil = fn(&mut Record);
    let bad: [(&str, Spoil); 5] = [
        ("trigger", |record| record.trigger = "{\"type\":\"moon\"}".into()),
        ("options", |record| record.options = "{\"max_instances\":0}".into()),
        ("args", |record| record.args = "[1".into()),
        ("executor", |record| record.options = "{\"executor\":\"gpu\"}".into()),
        ("task", |record| record.task = "of-tomorrow".into()),
    ];
    for (number, (id, spoil)) in (1000..).zip(bad) {
        let mut record = good.clone();
        (record.id, record.incarnation) = (id.into(), Incarnation(number));
        spoil(&mut record);
        put(&store, record).await;
    }
    tokio::time::sleep(SECOND * 5).await;
    // The others are not held up, and nothing was taken of these.
    assert!(notes.len() >= 4, "{}", notes.len());
    for _ in 0..4 {
        unreadable.next().await.unwrap();
    }
    let unhandled = scheduler.unhandled().await.unwrap();
    let ids: Vec<_> = unhandled.iter().map(|job| job.record.id.to_string()).collect();
    assert_eq!(ids, ["args", "executor", "options", "task", "trigger"]);
    for job in &unhandled {
        let stored = store.get(job.record.id.clone()).await.unwrap().unwrap();
        assert_eq!((stored.fence, stored.next_fire), (good.fence, good.next_fire), "{job}");
    }
    // Each is reported once.
    tokio::time::sleep(SECOND * 60).await;
    assert!(unreadable.next().now_or_never().is_none());
    // Whoever knows the task runs it, coalesced.
    let other = Scheduler::builder().store(store.clone()).state(notes.clone()).task::<Remember>();
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn jobs_go_out_as_json_and_come_back() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = |id: &str| scheduler.add(every(SECOND * 60), remember("tick")).id(id);
    add("a").tag("x").priority(3).recover(true).await.unwrap();
    add("b").name("paused").paused().await.unwrap();
    let document = scheduler.export().await.unwrap();
    assert!(document.contains("\"type\":\"interval\""), "{document}");
    let count = |result: Result<usize, punctual::Error>| result.unwrap();
    assert!(scheduler.import(&document, OnConflict::Error).await.unwrap_err().is_duplicate_id());
    assert_eq!(count(scheduler.import(&document, OnConflict::Keep).await), 0);
    assert_eq!(count(scheduler.import(&document, OnConflict::Reconcile).await), 0);

    let (other_store, other_notes) = (MemoryStore::new(), Notes::default());
    let other = on(&other_store, &other_notes).start().await.unwrap();
    assert_eq!(count(other.import(&document, OnConflict::Error).await), 2);
    let (from, to) = (scheduler.jobs().await.unwrap(), other.jobs().await.unwrap());
    let lines =
        |jobs: &[punctual::JobInfo]| jobs.iter().map(|job| job.to_string()).collect::<Vec<_>>();
    assert_eq!(lines(&from), lines(&to));
    assert!(other_store.get("a".into()).await.unwrap().unwrap().recover);
    tokio::time::sleep(SECOND * 61).await;
    assert_eq!((notes.len(), other_notes.len()), (1, 1));

    for broken in ["", "[]", "{\"punctual_jobs\":2,\"jobs\":[]}", "{\"punctual_jobs\":1}"] {
        let error = other.import(broken, OnConflict::Keep).await.unwrap_err();
        assert!(error.is_unreadable(), "{error}");
    }
}
