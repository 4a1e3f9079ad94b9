//! A durable job fires, ends and leaves its ledger; what is not durable is volatile.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    End, EventKind, Outcome,
    store::{MemoryStore, RowKind, Store as _},
    trigger::every,
};

use crate::tasks::{Notes, RAN, event, fates, on, remember, rows};

const TENTH: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn it_runs_for_each_fire_time_and_ends_with_its_trigger() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut job = scheduler.add(every(TENTH).times(25), remember("tick")).id("tick");
    let runs = job.runs();
    let job = job.await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(60), job.clone()).await.unwrap();
    assert!(matches!(end, End::Completed), "{end:?}");
    assert_eq!(notes.len(), 25);
    assert!(notes.all().is_sorted_by_key(|note| note.fire_time));
    assert!(notes.all().is_sorted_by_key(|note| note.fence));
    let ran = fates(&rows(&store).await).into_iter().filter(|fate| *fate == RAN);
    assert_eq!(ran.count(), 25);
    let rows = store.rows(None, 100).await.unwrap();
    assert!(rows.iter().any(|row| row.key.kind == RowKind::Ended));
    assert_eq!(store.get("tick".into()).await.unwrap(), None);
    let runs: Vec<_> = runs.collect().await;
    assert_eq!(runs.len(), 25);
    assert!(runs.iter().all(|run| run.late_by.is_zero()), "{runs:?}");
    assert!(scheduler.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn events_and_history_are_those_of_any_job() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut executed = event(&scheduler, EventKind::Executed).await;
    let mut removed = event(&scheduler, EventKind::JobRemoved).await;
    let job = scheduler.add(every(TENTH).times(3), remember("tick")).history(2).await.unwrap();
    let id = job.id().clone();
    executed.next().await.unwrap();
    executed.next().await.unwrap();
    // The outcome reaches the store a moment later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let history = job.history().await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|run| matches!(run.outcome, Outcome::Succeeded)));
    assert!(history[0].fire_time < history[1].fire_time);
    assert_eq!(removed.next().await.unwrap().payload.job(), Some(&id));
    // The ledger keeps the history beyond the job's end.
    assert_eq!(job.history().await.unwrap().len(), 3);
    assert!(scheduler.job(&id).history().await.unwrap_err().is_unknown_job());
}

#[tokio::test(start_paused = true)]
async fn closures_stay_in_memory_and_say_so() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(TENTH), || async {}).id("closure").await.unwrap();
    scheduler.add(every(TENTH), remember("mine")).id("mine").in_memory().await.unwrap();
    scheduler.add(every(TENTH), remember("kept")).id("kept").await.unwrap();
    assert_eq!(scheduler.len(), 2);
    let jobs = scheduler.jobs().await.unwrap();
    let volatile: Vec<_> = jobs.iter().map(|job| (job.id.to_string(), job.volatile)).collect();
    let expected = [("closure", true), ("kept", false), ("mine", true)];
    for (id, is_volatile) in expected {
        assert!(volatile.contains(&(id.to_owned(), is_volatile)), "{volatile:?}");
    }
    assert!(jobs.iter().any(|job| job.to_string().contains("volatile")));
    let records = store.list(Default::default(), None, 10).await.unwrap().records;
    assert_eq!(records.len(), 1);

    // One namespace.
    let taken = scheduler.add(every(TENTH), remember("again")).id("closure").await;
    assert!(taken.unwrap_err().is_duplicate_id());
    let taken = scheduler.add(every(TENTH), || async {}).id("kept").await;
    assert!(taken.unwrap_err().is_duplicate_id());
    assert_eq!(scheduler.remove_all().await.unwrap(), 3);
    assert_eq!(scheduler.jobs().await.unwrap().len(), 0);
}
