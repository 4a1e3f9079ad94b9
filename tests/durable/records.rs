//! Records that cannot run here are kept and listed; all jobs can be exported as JSON and imported
//! again.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    Context, EventKind, OnConflict, Scheduler, Task, named_task,
    store::{Incarnation, MemoryStore, Record, Store as _, Write, WriteResult},
    trigger::every,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::tasks::{Notes, Remember, event, on, remember};

const SECOND: Duration = Duration::from_secs(1);

async fn put(store: &MemoryStore, record: Record) {
    let token = record.incarnation.0;
    let written = store.write(vec![Write::add(record, token)]).await.unwrap();
    assert_eq!(written, [WriteResult::Done]);
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
    // The other jobs are not blocked, and nothing of these jobs was claimed.
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
    // A node that knows the task runs it, coalesced.
    let other = Scheduler::builder().store(store.clone()).state(notes.clone()).task::<Remember>();
    drop(other);
}

/// Its argument is a document that is not parsed.
#[derive(Serialize, Deserialize)]
struct Raw(Box<RawValue>);

impl Task for Raw {
    const NAME: &'static str = "raw";
    type Output = ();

    async fn run(self, _: Context) {}
}

#[tokio::test(start_paused = true)]
async fn arguments_that_nest_too_deep_or_are_too_long_are_errors_of_adding() {
    let store = MemoryStore::new();
    let scheduler = on(&store, &Notes::default()).task::<Raw>().start().await.unwrap();
    let add = |json: String| {
        let raw = Raw(RawValue::from_string(json).unwrap());
        scheduler.add(every(SECOND * 60), raw).id("raw").on_conflict(OnConflict::Reconcile)
    };
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let long = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    for (json, reason) in
        [(deep(100_000), "nests 100000 levels"), (long(10 << 20), "10485762 bytes")]
    {
        let error = add(json.clone()).await.unwrap_err();
        assert!(error.is_invalid_task() && error.to_string().contains(reason), "{error}");
        if reason.starts_with("nests") {
            // Long arguments are no problem in memory.
            let error = add(json.clone()).in_memory().await.unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let named = named_task("raw", &RawValue::from_string(json.clone()).unwrap());
        let error = scheduler.add(every(SECOND), named).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let job = add(deep(120)).await.unwrap();
    let document = scheduler.export().await.unwrap();
    let deeper = document.replace(&deep(120), &deep(100_000));
    let error = scheduler.import(&deeper, OnConflict::Replace).await.unwrap_err();
    assert!(error.to_string().contains("nests 100000 levels"), "{error}");

    let too_deep = || RawValue::from_string(deep(100_000)).unwrap();
    let error = job.modify(|job| job.arguments(Raw(too_deep()))).await.unwrap_err();
    assert!(error.to_string().contains("nests 100000 levels"), "{error}");

    // A record by another writer is kept, and runs nowhere.
    let mut record = store.get("raw".into()).await.unwrap().unwrap();
    (record.id, record.incarnation) = ("other".into(), Incarnation(1));
    record.args = deep(100_000);
    put(&store, record).await;
    let unhandled = scheduler.unhandled().await.unwrap();
    assert_eq!(unhandled.len(), 1);
    assert!(unhandled[0].to_string().contains("nests 100000 levels"), "{}", unhandled[0]);
}
