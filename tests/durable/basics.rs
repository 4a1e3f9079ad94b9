//! A durable job fires, ends and leaves its ledger; what is not durable is volatile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use punctual::{
    AsyncExecutor, End, Error, EventKind, OnConflict, Outcome, Retry,
    store::{Fate, MemoryStore, RowKind, Store as _},
    trigger::{CustomTrigger, after, after_success, custom, every},
};

use crate::tasks::{Notes, RAN, Slow, event, fates, on, remember, rows};

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
    // The store hears of it a moment later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let history = job.history().await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|run| matches!(run.outcome, Outcome::Succeeded)));
    assert!(history[0].fire_time < history[1].fire_time);
    assert_eq!(removed.next().await.unwrap().payload.job(), Some(&id));
    // The ledger keeps it beyond the job's end.
    assert_eq!(job.history().await.unwrap().len(), 3);
    assert!(scheduler.job(&id).history().await.unwrap_err().is_unknown_job());
}

#[tokio::test(start_paused = true)]
async fn the_ledger_of_a_job_that_is_over_is_read_by_its_handle() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = || scheduler.add(every(TENTH).times(3), remember("tick")).id("past");
    let mut first = add().await.unwrap();
    (&mut first).await;
    let rows_of_first = first.ledger(5).await.unwrap();
    assert_eq!(fates(&rows_of_first).into_iter().filter(|fate| *fate == RAN).count(), 3);
    // Without a handle its end must be remembered: the error says how.
    for error in [
        scheduler.job("past").ledger(5).await.unwrap_err(),
        scheduler.job("past").history().await.unwrap_err(),
    ] {
        assert!(error.is_unknown_job(), "{error}");
        assert!(error.to_string().contains("`on_conflict(OnConflict::Keep)`"), "{error}");
    }
    for on_conflict in [OnConflict::Keep, OnConflict::Reconcile] {
        let _ = scheduler.job("past").remove().await;
        add().on_conflict(on_conflict).await.unwrap().await;
        let rows = scheduler.job("past").ledger(5).await.unwrap();
        assert_eq!(fates(&rows).into_iter().filter(|fate| *fate == RAN).count(), 3);
        assert_eq!(scheduler.job("past").history().await.unwrap().len(), 3);
    }
    // A handle reads the rows of its own job, whichever has the id by then.
    assert_eq!(first.ledger(5).await.unwrap(), rows_of_first);
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_is_drained_when_its_store_has_nothing_left_that_can_run_here() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let other = on(&store, &notes).start().await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(TENTH).times(3), remember("tick")).await.unwrap();
    other.add(every(TENTH * 200).times(1), remember("late")).await.unwrap();
    scheduler.drained().await;
    assert_eq!(notes.len(), 4);
    assert!(scheduler.jobs().await.unwrap().is_empty());

    // What runs on another scheduler alone is not waited for.
    let stranger = scheduler.add(every(TENTH), remember("tick")).id("stranger").await.unwrap();
    let document = scheduler.export().await.unwrap().replace("\"task\": \"", "\"task\": \"un");
    stranger.remove().await.unwrap();
    scheduler.import(&document, punctual::OnConflict::Error).await.unwrap();
    assert_eq!(scheduler.unhandled().await.unwrap().len(), 1);
    scheduler.drained().await;
    other.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_job_in_a_store_has_its_handle_and_is_told_how_to_run_again() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).task::<Removes>().start().await.unwrap();
    let job = scheduler.add(every(TENTH), Removes).id("removes").await.unwrap();
    assert!(matches!(job.await, punctual::End::Removed));
}

/// Can't run again, and removes its job.
#[derive(serde::Serialize, serde::Deserialize)]
struct Removes;

impl punctual::Task for Removes {
    const NAME: &'static str = "removes";
    type Output = ();

    async fn run(self, cx: punctual::Context) {
        let error = cx.again_in(TENTH).unwrap_err();
        assert!(error.to_string().contains("cx.scheduler().add(after(delay)"), "{error}");
        cx.job().remove().await.unwrap();
    }
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

#[derive(Debug)]
struct Never;

impl CustomTrigger for Never {
    fn next_after(
        &self,
        _: punctual::chrono::DateTime<punctual::chrono::Utc>,
    ) -> Option<punctual::chrono::DateTime<punctual::chrono::Utc>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_cannot_keep_is_an_error_at_add() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(TENTH), || async {}).id("other").await.unwrap();
    let refused = |error: Error| assert!(error.to_string().contains("in_memory"), "{error}");
    refused(scheduler.add(custom(Never), remember("x")).await.unwrap_err());
    refused(scheduler.add(after_success("other"), remember("x")).await.unwrap_err());
    let retry = Retry::fixed(TENTH).only_if(|_| true);
    refused(scheduler.add(every(TENTH), remember("x")).retry(retry).await.unwrap_err());
    assert!(store.list(Default::default(), None, 10).await.unwrap().records.is_empty());
}

#[tokio::test(start_paused = true)]
async fn adding_many_is_all_or_none() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(after(TENTH * 100), remember("there")).id("7").await.unwrap();
    let jobs = |from: u32| {
        let ids = from..from + 10;
        let add = |n| scheduler.add(after(TENTH * 100), remember("x")).id(format!("{n}"));
        ids.map(add).collect::<Vec<_>>()
    };
    assert!(scheduler.add_all(jobs(0)).await.unwrap_err().is_duplicate_id());
    assert_eq!(store.list(Default::default(), None, 100).await.unwrap().records.len(), 1);
    let mixed =
        jobs(20).into_iter().chain([scheduler.add(every(TENTH), || async {}).id("closure")]);
    let handles = scheduler.add_all(mixed).await.unwrap();
    let ids: Vec<_> = handles.iter().map(|handle| handle.id().to_string()).collect();
    assert_eq!(ids.first().map(String::as_str), Some("20"));
    assert_eq!(ids.last().map(String::as_str), Some("closure"));
    assert_eq!(scheduler.jobs().await.unwrap().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_settled_as_asked() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = |text: &str, on_conflict| {
        scheduler.add(every(TENTH * 100), remember(text)).id("job").on_conflict(on_conflict)
    };
    let first = add("first", OnConflict::Error).await.unwrap();
    assert!(add("second", OnConflict::Error).await.unwrap_err().is_duplicate_id());
    let kept = add("second", OnConflict::Keep).await.unwrap();
    assert_eq!(kept.get().await.unwrap().next_fire, first.get().await.unwrap().next_fire);

    // Declared just the same: its anchor stays.
    tokio::time::sleep(TENTH * 50).await;
    let anchor = first.next_fire().await.unwrap();
    let same = add("first", OnConflict::Reconcile).await.unwrap();
    assert_eq!(same.next_fire().await.unwrap(), anchor);
    // Declared with other arguments: it is changed in place, and its anchor stays, too.
    let other = add("other", OnConflict::Reconcile).await.unwrap();
    assert_eq!(other.next_fire().await.unwrap(), anchor);
    assert_eq!(first.next_fire().await.unwrap(), anchor);
    let token = other.cancel_token();
    let third = add("third", OnConflict::Replace).await.unwrap();
    token.cancelled().await;
    assert!(matches!(other.await, End::Replaced));
    assert!(matches!(first.clone().await, End::Replaced));
    assert!(first.get().await.unwrap_err().is_gone());
    assert_eq!(third.id(), "job");
    let fates = store.rows(None, 100).await.unwrap();
    assert_eq!(fates.iter().filter(|row| row.key.kind == RowKind::Ended).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_cancels_the_job_and_its_run() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut started = event(&scheduler, EventKind::Submitted).await;
    let mut cancelled = event(&scheduler, EventKind::Cancelled).await;
    let job = scheduler.add(every(TENTH), Slow(3_600_000)).id("slow").await.unwrap();
    let token = job.cancel_token();
    started.next().await.unwrap();
    token.cancel();
    cancelled.next().await.unwrap();
    assert!(matches!(job.await, End::Cancelled));
    assert_eq!(store.get("slow".into()).await.unwrap(), None);
    tokio::time::sleep(TENTH).await;
    let fates = fates(&rows(&store).await);
    assert!(fates.contains(&Fate::Ran(punctual::store::RunEnd::Cancelled)), "{fates:?}");
    assert!(rows(&store).await.iter().all(|row| !row.state.is_open()));
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_an_id_that_is_taken_can_not_be_said_without_an_id() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    for on_conflict in [OnConflict::Replace, OnConflict::Keep, OnConflict::Reconcile] {
        let add = || scheduler.add(every(TENTH), remember("tick")).on_conflict(on_conflict);
        for error in [add().await.unwrap_err(), scheduler.add_all([add()]).await.unwrap_err()] {
            assert!(error.is_invalid_option() && error.to_string().contains(".id("), "{error}");
        }
    }
    assert!(scheduler.jobs().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executors_of_the_builder_are_there_before_jobs_are_taken() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let unreadable = Arc::new(AtomicUsize::new(0));
    for n in 0..300 {
        let count = unreadable.clone();
        let scheduler = on(&store, &notes)
            .add_executor("reports", AsyncExecutor::new())
            .on_event(EventKind::JobUnreadable, move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .start()
            .await
            .unwrap();
        if n == 0 {
            let job = scheduler.add(every(TENTH / 100), remember("tick"));
            job.executor("reports").await.unwrap();
        }
        tokio::time::sleep(TENTH / 50).await;
        scheduler.shutdown().await;
    }
    assert_eq!(unreadable.load(Ordering::SeqCst), 0);
}
