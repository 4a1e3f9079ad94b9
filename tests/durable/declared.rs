//! Jobs that are declared in code at each start of a program: changed in place, and ended once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    Context, End, EventKind, JobHandle, OnConflict, Scheduler, SkipReason, Task,
    store::{Fate, MemoryStore, Store as _},
    testing::ManualClock,
    trigger::{IntoTrigger, after, after_success, at, cron, every},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::tasks::{Notes, Remember, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Starts a program that declares a job, lets it run for a while, and stops it.
async fn start(
    store: &MemoryStore,
    notes: &Notes,
    trigger: impl IntoTrigger,
    on_conflict: OnConflict,
) -> Option<End> {
    let scheduler = on(store, notes).start().await.unwrap();
    let add = scheduler.add(trigger, remember("once")).id("job").on_conflict(on_conflict);
    let job = add.await.unwrap();
    let end = tokio::time::timeout(5 * SECOND, job).await.ok();
    scheduler.shutdown().await;
    end
}

#[tokio::test(start_paused = true)]
async fn a_date_runs_once_whatever_the_number_of_starts() {
    for on_conflict in [OnConflict::Reconcile, OnConflict::Keep] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let date = store.now().await.unwrap() + TimeDelta::seconds(1);
        for _ in 0..5 {
            let end = start(&store, &notes, at(date), on_conflict).await;
            assert!(matches!(end, Some(End::Completed)), "{end:?}");
        }
        assert_eq!(notes.len(), 1, "{on_conflict:?}");
        // Another declaration is another job.
        let end = start(&store, &notes, at(date + TimeDelta::milliseconds(1)), on_conflict).await;
        assert!(matches!(end, Some(End::Completed)), "{end:?}");
        assert_eq!(notes.len(), 2, "{on_conflict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_three_times_runs_three_times() {
    for on_conflict in [OnConflict::Reconcile, OnConflict::Keep] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        for _ in 0..5 {
            start(&store, &notes, every(SECOND).times(3), on_conflict).await;
        }
        assert_eq!(notes.len(), 3, "{on_conflict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn replacing_and_adding_begin_anew() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    start(&store, &notes, after(SECOND), OnConflict::Reconcile).await;
    start(&store, &notes, after(SECOND), OnConflict::Error).await;
    start(&store, &notes, after(SECOND), OnConflict::Replace).await;
    assert_eq!(notes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn removing_what_is_over_forgets_that() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    start(&store, &notes, after(SECOND), OnConflict::Reconcile).await;
    let scheduler = on(&store, &notes).start().await.unwrap();
    assert!(scheduler.jobs().await.unwrap().is_empty());
    assert!(scheduler.job("job").get().await.unwrap_err().is_unknown_job());
    scheduler.job("job").remove().await.unwrap();
    assert!(scheduler.job("job").remove().await.unwrap_err().is_unknown_job());
    scheduler.shutdown().await;
    start(&store, &notes, after(SECOND), OnConflict::Reconcile).await;
    assert_eq!(notes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_has_passed_keeps_no_program_from_starting() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let over = || cron("0 9 * * *").until(instant("2020-01-01T00:00:00Z"));
    for on_conflict in [OnConflict::Reconcile, OnConflict::Keep] {
        for _ in 0..2 {
            let end = start(&store, &notes, over(), on_conflict).await;
            assert!(matches!(end, Some(End::Completed)), "{end:?}");
        }
    }
    let scheduler = on(&store, &notes).start().await.unwrap();
    for on_conflict in [OnConflict::Error, OnConflict::Replace] {
        let add = scheduler.add(over(), remember("never")).id("other").on_conflict(on_conflict);
        assert!(add.await.unwrap_err().never_fires());
    }
    // The same in memory.
    for on_conflict in [OnConflict::Reconcile, OnConflict::Keep] {
        let add = scheduler.add(over(), || async {}).id("memory").on_conflict(on_conflict);
        assert!(matches!(add.await.unwrap().await, End::Completed));
        assert!(scheduler.add(over(), || async {}).await.unwrap_err().never_fires());
    }
    assert_eq!((notes.len(), scheduler.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_live_job_declared_as_over_ends_after_its_active_runs() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let declare = |until: &str| {
        let trigger = cron("* * * * * *").until(instant(until));
        scheduler.add(trigger, remember("tick")).id("tick").on_conflict(OnConflict::Reconcile)
    };
    let job = declare("2100-01-01T00:00:00Z").await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    declare("2020-01-01T00:00:00Z").await.unwrap();
    assert!(matches!(tokio::time::timeout(20 * SECOND, job).await, Ok(End::Completed)));
    let ran = notes.len();
    assert!((3..=5).contains(&ran), "{ran}");
    assert!(store.get("tick".into()).await.unwrap().is_some_and(|it| it.ended_at.is_some()));
}

/// A scheduler at a quarter past, and a job that fires on the hour with half an hour of jitter.
async fn in_jitter() -> (ManualClock, MemoryStore, Notes, Scheduler) {
    let clock = ManualClock::running(instant("2026-06-01T11:59:00Z"));
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    declare(&scheduler, "0 * * * *", "one", OnConflict::Error).await;
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(notes.len(), 0, "it waits for its jitter");
    (clock, store, notes, scheduler)
}

async fn declare(
    scheduler: &Scheduler,
    expression: &str,
    text: &str,
    on_conflict: OnConflict,
) -> JobHandle {
    let add = scheduler.add(cron(expression), remember(text)).id("hourly");
    add.jitter(1700 * SECOND).on_conflict(on_conflict).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn saving_during_jitter_runs_what_is_due_once() {
    let slot = instant("2026-06-01T12:00:00Z");
    for (expression, text) in [("0 * * * *", "other"), ("30 3 * * *", "one"), ("30 3 * * *", "x")] {
        let (_clock, _, notes, scheduler) = in_jitter().await;
        declare(&scheduler, expression, text, OnConflict::Reconcile).await;
        tokio::time::sleep(1800 * SECOND).await;
        let fire_times: Vec<_> = notes.all().iter().map(|note| note.fire_time).collect();
        assert_eq!(fire_times, [slot], "{expression} {text}");
        scheduler.shutdown().await;

        let (_clock, _, notes, scheduler) = in_jitter().await;
        scheduler.job("hourly").reschedule(expression).await.unwrap();
        tokio::time::sleep(1800 * SECOND).await;
        let fire_times: Vec<_> = notes.all().iter().map(|note| note.fire_time).collect();
        assert_eq!(fire_times, [slot], "{expression}");
        scheduler.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn replacing_during_jitter_skips_what_is_due_as_replaced() {
    let (_clock, store, notes, scheduler) = in_jitter().await;
    declare(&scheduler, "0 * * * *", "other", OnConflict::Replace).await;
    tokio::time::sleep(1800 * SECOND).await;
    assert_eq!(notes.len(), 0);
    let fates = fates(&rows(&store).await);
    assert_eq!(fates, [Fate::Skipped(SkipReason::Replaced)]);
}

#[tokio::test(start_paused = true)]
async fn reconciling_changes_the_job_in_place() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut modified = event(&scheduler, EventKind::JobModified).await;
    let declare = |text: &str, name: &str| {
        let add = scheduler.add(every(60 * SECOND), remember(text)).id("job").name(name);
        add.on_conflict(OnConflict::Reconcile)
    };
    let job = declare("one", "first").await.unwrap();
    let before = store.get("job".into()).await.unwrap().unwrap();
    tokio::time::sleep(30 * SECOND).await;
    job.pause().await.unwrap();
    let again = declare("two", "second").await.unwrap();
    let record = store.get("job".into()).await.unwrap().unwrap();
    assert_eq!((record.incarnation, record.next_fire), (before.incarnation, before.next_fire));
    assert_eq!((&*record.args, record.name.as_deref()), (r#""two""#, Some("second")));
    assert!(record.paused, "whether it is paused is no part of its declaration");
    modified.next().await.unwrap();
    again.resume().await.unwrap();
    tokio::time::sleep(31 * SECOND).await;
    assert_eq!(notes.len(), 1);
    // Both handles reference the same job.
    job.remove().await.unwrap();
    assert!(matches!((job.await, again.await), (End::Removed, End::Removed)));
}

#[tokio::test(start_paused = true)]
async fn what_runs_once_is_not_reconciled_in_a_store() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let declare = |on_conflict| {
        scheduler.add_once(after(SECOND), remember("once")).id("job").on_conflict(on_conflict)
    };
    for on_conflict in [OnConflict::Reconcile, OnConflict::Keep] {
        let error = declare(on_conflict).await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
        assert!(error.to_string().contains("use `OnConflict::Replace`"), "{error}");
    }
    declare(OnConflict::Replace).await.unwrap().await.unwrap();
    declare(OnConflict::Reconcile).in_memory().await.unwrap().await.unwrap();
    assert_eq!(notes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_outlives_that_of_another_declaration() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let first = scheduler.add(after(60 * SECOND), remember("job")).id("job").await.unwrap();
    let add = scheduler.add(after(60 * SECOND), Slow(1)).id("job");
    drop(add.on_conflict(OnConflict::Reconcile).await.unwrap());
    scheduler.job("job").remove().await.unwrap();
    let end = tokio::time::timeout(3600 * SECOND, first).await;
    assert!(matches!(end, Ok(End::Removed)), "{end:?}");
}

/// A scheduler without a store, and one on a store.
async fn in_memory_and_on_a_store(notes: &Notes) -> [Scheduler; 2] {
    let memory = Scheduler::builder().state(notes.clone()).task::<Remember>().start();
    [memory.await.unwrap(), on(&MemoryStore::new(), notes).start().await.unwrap()]
}

#[tokio::test(start_paused = true)]
async fn what_is_over_stays_over_within_a_process_in_memory_and_on_a_store() {
    for on_conflict in [OnConflict::Reconcile, OnConflict::Keep] {
        let notes = Notes::default();
        for scheduler in in_memory_and_on_a_store(&notes).await {
            let before = notes.len();
            let ran = || notes.len() - before;
            let mut added = event(&scheduler, EventKind::JobAdded).await;
            let declare = |id: &str| {
                let trigger = match id {
                    "date" => at(instant("2020-01-01T00:00:00Z")).into_trigger(),
                    "times" => every(SECOND).times(3).into_trigger(),
                    _ => cron("0 9 * * *").until(instant("2020-01-01T00:00:00Z")).into_trigger(),
                };
                let add = scheduler.add(trigger.unwrap(), remember(id)).id(id);
                add.on_conflict(on_conflict)
            };
            let ids = ["date", "times", "never"];
            let handles = scheduler.add_all(ids.map(declare)).await.unwrap();
            futures::future::join_all(handles).await;
            let once = ran();
            assert_eq!(once, 4);
            for _ in 0..3 {
                // The handle of an ended job resolves at once.
                for handle in scheduler.add_all(ids.map(declare)).await.unwrap() {
                    let end = tokio::time::timeout(SECOND, handle.clone()).await;
                    assert!(matches!(end, Ok(End::Completed)), "{end:?}");
                    assert!(handle.get().await.unwrap_err().is_gone());
                }
                for id in ids {
                    assert!(matches!(declare(id).await.unwrap().await, End::Completed));
                }
                tokio::time::sleep(5 * SECOND).await;
            }
            assert_eq!(ran(), once, "{on_conflict:?}");
            assert_eq!(declare("times").await.unwrap().history().await.unwrap().len(), 3);

            // Another declaration is another job, and so is a declaration after a removal.
            declare("times").name("other").await.unwrap().await;
            assert_eq!(ran(), once + 3);
            declare("times").name("other").await.unwrap().await;
            assert_eq!(ran(), once + 3);
            scheduler.job("times").remove().await.unwrap();
            assert!(scheduler.job("times").remove().await.unwrap_err().is_unknown_job());
            declare("times").name("other").await.unwrap().await;
            assert_eq!(ran(), once + 6);
            // A job that is removed before its end may be declared again, too.
            let removed = declare("times").await.unwrap();
            removed.remove().await.unwrap();
            declare("times").await.unwrap().await;
            assert_eq!(ran(), once + 9);
            let adds = std::iter::from_fn(|| added.next().now_or_never()).flatten().count();
            assert_eq!(adds, 3 + 4, "what stays over is not added");
            scheduler.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_declaration_that_has_not_changed_leaves_what_was_modified() {
    let notes = Notes::default();
    for scheduler in in_memory_and_on_a_store(&notes).await {
        let declare = || {
            let add = scheduler.add(every(60 * SECOND), remember("declared")).id("job");
            add.max_instances(2).on_conflict(OnConflict::Reconcile)
        };
        let job = declare().await.unwrap();
        job.modify(|settings| settings.max_instances(3).name("modified")).await.unwrap();
        declare().await.unwrap();
        let info = job.get().await.unwrap();
        assert_eq!((info.max_instances, info.name.as_deref()), (3, Some("modified")));
        declare().priority(1).await.unwrap();
        let info = job.get().await.unwrap();
        assert_eq!((info.max_instances, info.name), (2, None));
        scheduler.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_memory_an_end_is_remembered_for_as_long_as_the_history() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (scheduler, runs) = (Scheduler::new(), Arc::new(AtomicUsize::new(0)));
    let declare = |id: &str| {
        let runs = runs.clone();
        let count = move || {
            runs.fetch_add(1, Ordering::SeqCst);
            async {}
        };
        // Conditions cannot be compared.
        let add = scheduler.add(after(SECOND), count).id(id).when(|| true);
        add.on_conflict(OnConflict::Keep)
    };
    declare("job").await.unwrap().await;
    for _ in 0..3 {
        tokio::time::sleep(9 * MINUTE).await;
        let declared = declare("job").await.unwrap();
        assert_eq!(declared.history().await.unwrap().len(), 1);
        declared.await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    tokio::time::sleep(10 * MINUTE).await;
    declare("job").await.unwrap().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    // A job that follows an ended job is over as well.
    let follow = || {
        let add = scheduler.add(after_success("job"), || async {}).id("follower");
        add.on_conflict(OnConflict::Keep)
    };
    tokio::time::sleep(10 * MINUTE).await;
    let handles = scheduler.add_all([declare("job"), follow()]).await.unwrap();
    futures::future::join_all(handles).await;
    for handle in scheduler.add_all([declare("job"), follow()]).await.unwrap() {
        assert!(matches!(handle.await, End::Completed));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

/// Each process writes these arguments in another order.
#[derive(Serialize, Deserialize)]
struct Mapped(std::collections::HashMap<String, u32>);

impl Task for Mapped {
    const NAME: &'static str = "mapped";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().add(&cx, "mapped");
    }
}

/// "A daily deploy does not put off a daily job for ever."
#[tokio::test(start_paused = true)]
async fn arguments_in_another_order_are_the_same_declaration() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    for _ in 0..10 {
        let scheduler = on(&store, &notes).task::<Mapped>().start().await.unwrap();
        let map = (0..10).map(|n| (format!("key {n}"), n)).collect();
        let add = scheduler.add(every(SECOND * 86_400), Mapped(map)).id("daily");
        add.on_conflict(OnConflict::Reconcile).await.unwrap();
        // A deploy every twenty hours.
        sleep(SECOND * 72_000).await;
        scheduler.shutdown().await;
    }
    assert!(notes.len() >= 7, "in 8 days of deploys the daily job ran {} times", notes.len());
}

#[tokio::test(start_paused = true)]
async fn another_zone_is_another_declaration() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let declare = async |zone: &'static str| {
        let scheduler = on(&store, &notes).time_zone(zone).start().await.unwrap();
        let add = scheduler.add(cron("0 7 * * *"), remember("morning")).id("morning");
        add.on_conflict(OnConflict::Reconcile).await.unwrap();
        let job = scheduler.job("morning").get().await.unwrap();
        scheduler.shutdown().await;
        job.trigger.to_string()
    };
    let before = declare("Europe/Berlin").await;
    let then = declare("America/New_York").await;
    assert_ne!(before, then, "the zone of the scheduler was changed, the job's was not");
}
