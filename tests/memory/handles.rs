//! The verbs of jobs, and the results of their handles.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    Coalesce, Context, End, EventFilter, EventKind, EventPayload, OnConflict, Retry, Run,
    Scheduler, SkipReason,
    testing::ManualClock,
    trigger::{after, at, cron, every, now},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{SECOND, counter, get};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Records when the work was called, in seconds after `start`, and for which fire time.
#[derive(Clone)]
pub(crate) struct Log {
    start: Instant,
    runs: Arc<Mutex<Vec<u64>>>,
}

impl Log {
    pub(crate) fn new() -> Log {
        Log { start: Instant::now(), runs: Arc::default() }
    }

    pub(crate) fn work(&self) -> impl FnOnce() -> std::future::Ready<()> + Clone + Send + 'static {
        let log = self.clone();
        move || {
            log.runs.lock().unwrap().push(log.start.elapsed().as_secs());
            std::future::ready(())
        }
    }

    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.runs.lock().unwrap())
    }
}

pub(crate) fn half() -> tokio::time::Sleep {
    sleep(SECOND / 2)
}

#[tokio::test(start_paused = true)]
async fn pausing_a_job_forgets_its_fire_times_and_resuming_computes_from_now() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let job = scheduler.add(every(2 * SECOND), log.work()).id("job").await.unwrap();
    half().await;
    sleep(2 * SECOND).await;
    job.pause().await.unwrap();
    job.pause().await.unwrap();
    assert_eq!(job.next_fire().await.unwrap(), None);
    assert!(job.get().await.unwrap().to_string().contains("paused"));
    let skipped = scheduler.events_matching(EventFilter::new().kinds([EventKind::Skipped]));
    sleep(5 * SECOND).await;
    job.run_now().await.unwrap();
    scheduler.job("job").resume().await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(log.take(), [2, 7, 8, 10]);
    scheduler.shutdown().await;
    let skipped: Vec<_> = skipped.collect().await;
    let EventPayload::Skipped { fire_times, reason: SkipReason::Paused, .. } = &skipped[0].payload
    else {
        panic!("{skipped:?}");
    };
    assert_eq!((fire_times.count, skipped.len()), (2, 1), "those of seconds 4 and 6");
}

#[tokio::test(start_paused = true)]
async fn a_date_that_passed_while_its_job_was_paused_is_still_due() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let job = scheduler.add(after(SECOND), log.work()).paused().await.unwrap();
    sleep(5 * SECOND).await;
    assert!(log.take().is_empty());
    job.resume().await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert_eq!(log.take(), [5]);
}

#[tokio::test(start_paused = true)]
async fn pausing_the_scheduler_keeps_fire_times_for_coalesce_and_grace() {
    let scheduler = Scheduler::builder().paused().start().await.unwrap();
    assert!(scheduler.is_paused());
    let (latest, all, strict) = (Log::new(), Log::new(), Log::new());
    let runs = {
        let mut add = scheduler.add(every(SECOND), latest.work());
        let runs = add.runs();
        add.await.unwrap();
        scheduler.add(every(SECOND), all.work()).coalesce(Coalesce::All).await.unwrap();
        scheduler.add(after(SECOND), strict.work()).misfire_grace_time(2 * SECOND).await.unwrap();
        runs
    };
    half().await;
    sleep(4 * SECOND).await;
    assert!(latest.take().is_empty(), "a scheduler that starts paused fires nothing");
    scheduler.job("nobody");
    scheduler.resume().await.unwrap();
    half().await;
    half().await;
    assert_eq!(latest.take(), [4, 5], "one run for four fire times, then on the grid again");
    assert_eq!(all.take(), [4, 4, 4, 4, 5]);
    assert!(strict.take().is_empty(), "later than its grace");
    drop(scheduler);
    let runs: Vec<Run> = runs.collect().await;
    assert_eq!(runs[0].coalesced, 3);
}

#[tokio::test(start_paused = true)]
async fn rescheduling_computes_the_next_fire_from_now() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let job = scheduler.add(every(10 * SECOND), log.work()).await.unwrap();
    sleep(3 * SECOND).await;
    job.reschedule(every(2 * SECOND).times(2)).await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert_eq!(log.take(), [5, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_far_wake_up_gives_way_to_a_near_one_and_back() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let job = scheduler.add(after(1000 * SECOND), log.work()).await.unwrap();
    half().await;
    job.reschedule(after(SECOND)).await.unwrap();
    job.reschedule(after(2000 * SECOND)).await.unwrap();
    sleep(1500 * SECOND).await;
    assert!(log.take().is_empty());
    job.reschedule(after(SECOND)).await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(log.take(), [1501]);
}

#[tokio::test(start_paused = true)]
async fn run_now_is_an_extra_run_subject_to_overlap() {
    let scheduler = Scheduler::new();
    let mut add = scheduler.add(every(10 * SECOND), || sleep(3 * SECOND));
    let mut runs = add.runs();
    let job = add.await.unwrap();
    let next = job.next_fire().await.unwrap();
    let id = job.run_now().await.unwrap();
    half().await;
    let refused = job.run_now().await.unwrap_err();
    assert!(refused.is_overlap(), "{refused}");
    let run = runs.next().await.unwrap();
    assert_eq!((run.id, run.on_request), (id, true));
    assert_eq!(job.next_fire().await.unwrap(), next, "it never moves the next fire time");
    job.modify(|settings| settings.max_instances(2)).await.unwrap();
    job.run_now().await.unwrap();
    job.run_now().await.unwrap();
    assert!(job.run_now().await.unwrap_err().is_overlap());
    assert_eq!(job.get().await.unwrap().running, 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_runs_once_yields_its_value_or_says_why_not() {
    let scheduler = Scheduler::new();
    let value = scheduler.add_once(every(SECOND), || async { "once" }).await.unwrap();
    assert_eq!(value.await.unwrap(), "once");
    assert!(scheduler.is_empty(), "though its trigger would go on");

    let started = Instant::now();
    let now = scheduler.add_once(after(3600 * SECOND), async { 7 }).await.unwrap();
    now.run_now().await.unwrap();
    assert_eq!(now.await.unwrap(), 7);
    assert_eq!(started.elapsed(), Duration::ZERO);

    let not_a_number = |text: &'static str| async move { text.parse::<u8>() };
    let failed = scheduler.try_add_once(after(SECOND), not_a_number("x")).await.unwrap();
    let error = failed.await.unwrap_err();
    assert!(error.is_failed());
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "invalid digit found in string");
    let fine = scheduler.try_add_once(after(SECOND), not_a_number("8")).await.unwrap();
    assert_eq!(fine.await.unwrap(), 8);

    let panicked =
        scheduler.add_once(after(SECOND), async { assert_eq!(1, 2, "sums") }).await.unwrap();
    let error = panicked.await.unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("sums"), "{error}");

    let removed = scheduler.add_once(after(SECOND), async {}).await.unwrap();
    removed.remove().await.unwrap();
    assert!(removed.await.unwrap_err().is_cancelled());

    let past: DateTime<Utc> = "2020-01-01T00:00:00Z".parse().unwrap();
    let missed = scheduler.add_once(at(past), async {}).misfire_grace_time(SECOND).await.unwrap();
    assert!(missed.await.unwrap_err().is_missed());

    let mut twice = scheduler.add_once(after(SECOND), async { 9 }).await.unwrap();
    assert_eq!((&mut twice).await.unwrap(), 9);
    assert!(twice.await.is_err());

    let left = scheduler.add_once(after(SECOND), async {}).await.unwrap();
    drop(scheduler);
    assert!(left.await.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn awaiting_a_handle_can_be_given_up_and_taken_up_again() {
    let scheduler = Scheduler::new();
    let mut job = scheduler.add(after(10 * SECOND), || async {}).await.unwrap();
    for _ in 0..5 {
        assert!(tokio::time::timeout(SECOND, &mut job).await.is_err());
    }
    let clone = job.clone();
    let (one, two) = tokio::join!(&mut job, clone);
    assert!(matches!((one, two), (End::Completed, End::Completed)));
    assert!(matches!(job.await, End::Completed), "also when it is over");
}

#[tokio::test(start_paused = true)]
async fn a_handle_resolves_after_the_last_run_and_its_events() {
    let scheduler = Scheduler::new();
    let mut events = scheduler.events();
    let job = scheduler.add(now(), || sleep(5 * SECOND)).await.unwrap();
    sleep(SECOND).await;
    job.remove().await.unwrap();
    let started = Instant::now();
    assert!(matches!(job.await, End::Removed));
    assert_eq!(started.elapsed(), 4 * SECOND, "removing lets going runs finish");
    let mut seen = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        seen.push(event.payload.kind());
    }
    assert_eq!(
        seen,
        [EventKind::JobAdded, EventKind::Submitted, EventKind::JobRemoved, EventKind::Executed]
    );
}

#[tokio::test(start_paused = true)]
async fn what_work_captured_is_dropped_when_its_job_is_over() {
    let scheduler = Scheduler::new();
    let captured = Arc::new(());
    let held = captured.clone();
    let job = scheduler
        .add(every(SECOND).times(2), move || {
            let _held = held.clone();
            async {}
        })
        .await
        .unwrap();
    let handle = job.clone();
    job.await;
    assert_eq!(Arc::strong_count(&captured), 1, "although a handle is left");
    let held = captured.clone();
    let job = scheduler.add_once(after(SECOND), async move { drop(held) }).await.unwrap();
    job.remove().await.unwrap();
    assert_eq!(Arc::strong_count(&captured), 1);
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn work_may_own_what_calls_the_scheduler_when_it_is_dropped() {
    struct AddsOnDrop(Scheduler, Arc<AtomicUsize>);
    impl Drop for AddsOnDrop {
        fn drop(&mut self) {
            let work = self.1.clone();
            let add = self.0.add(now(), move || {
                work.fetch_add(1, Ordering::SeqCst);
                async {}
            });
            add.into_future().now_or_never().unwrap().unwrap();
        }
    }
    let scheduler = Scheduler::new();
    let count = Arc::new(AtomicUsize::new(0));
    let bomb = Arc::new(AddsOnDrop(scheduler.clone(), count.clone()));
    let job = scheduler
        .add(every(SECOND), move || {
            let _bomb = bomb.clone();
            async {}
        })
        .id("bomb")
        .await
        .unwrap();
    job.remove().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // Work that is refused, or not needed, is dropped without the lock, too.
    for on_conflict in [OnConflict::Error, OnConflict::Keep] {
        let bomb = Arc::new(AddsOnDrop(scheduler.clone(), Arc::default()));
        scheduler.add(every(SECOND), || async {}).id("there").await.ok();
        let work = move || {
            let _bomb = bomb.clone();
            async {}
        };
        let added = scheduler.add(every(SECOND), work).id("there").on_conflict(on_conflict).await;
        assert_eq!(added.is_ok(), on_conflict == OnConflict::Keep);
    }
    scheduler.add(every(SECOND), || async {}).id("taken").await.unwrap();
    let bomb = Arc::new(AddsOnDrop(scheduler.clone(), count.clone()));
    let refused = scheduler.add_all([
        scheduler.add(every(SECOND), move || {
            let _bomb = bomb.clone();
            async {}
        }),
        scheduler.add(every(SECOND), || async {}).id("taken"),
    ]);
    assert!(refused.await.unwrap_err().is_duplicate_id());
    sleep(SECOND).await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn jobs_are_listed_in_order_and_found_by_name_tag_and_pause() {
    let clock = ManualClock::new("2026-11-20T12:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock).start().await.unwrap();
    let report = scheduler
        .add(cron("30 8 * * MON-FRI").in_tz("Europe/Berlin"), || async {})
        .id("report")
        .name("Daily report")
        .tag("mail")
        .tag("daily");
    report.await.unwrap();
    scheduler.add(every(5 * SECOND), || async {}).id("ping").await.unwrap();
    scheduler.add(every(5 * SECOND), || async {}).id("idle").tag("mail").paused().await.unwrap();
    let lines = |jobs: Vec<punctual::JobInfo>| -> Vec<String> {
        jobs.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(scheduler.jobs().await.unwrap()),
        [
            "ping: every 5s, next 2026-11-20T12:00:05Z, 0/1 running",
            "report \"Daily report\": 30 8 * * MON-FRI (Europe/Berlin), next 2026-11-23T07:30:00Z, 0/1 running, tags mail, daily",
            "idle: every 5s, paused, 0/1 running, tags mail",
        ]
    );
    let ids = |jobs: Vec<punctual::JobInfo>| -> Vec<String> {
        jobs.iter().map(|job| job.id.to_string()).collect()
    };
    assert_eq!(ids(scheduler.jobs().tag("mail").await.unwrap()), ["report", "idle"]);
    assert_eq!(ids(scheduler.jobs().name("Daily report").await.unwrap()), ["report"]);
    assert_eq!(ids(scheduler.jobs().paused(true).await.unwrap()), ["idle"]);
    assert_eq!(ids(scheduler.jobs().tag("mail").paused(false).await.unwrap()), ["report"]);
    let job = scheduler.job("report");
    job.modify(|settings| settings.name("Report").tags(["pdf"])).await.unwrap();
    assert!(scheduler.jobs().tag("mail").name("Report").await.unwrap().is_empty());
    assert_eq!(scheduler.jobs().tag("pdf").await.unwrap().len(), 1);
    assert_eq!(scheduler.remove_all().await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_many_jobs_is_complete() {
    let scheduler = Scheduler::new();
    let jobs = (1..=5000).map(|n| scheduler.add(after(n * SECOND), || async {}));
    scheduler.add_all(jobs).await.unwrap();
    let listed = scheduler.jobs().await.unwrap();
    assert_eq!(listed.len(), 5000);
    assert!(listed.windows(2).all(|pair| pair[0].next_fire < pair[1].next_fire));
}

#[tokio::test(start_paused = true)]
async fn ids_that_the_scheduler_made_lead_to_their_job_and_to_no_other() {
    let scheduler = Scheduler::new();
    let first = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let text = first.id().to_string();
    assert_eq!(scheduler.job(text.as_str()).get().await.unwrap().id, *first.id());
    first.remove().await.unwrap();
    // The next job may reuse its slot, but not its id.
    let second = scheduler.add(every(SECOND), || async {}).await.unwrap();
    assert!(scheduler.job(text).get().await.unwrap_err().is_unknown_job());
    assert_ne!(first.id(), second.id());
    assert!(first.pause().await.unwrap_err().is_gone());
}

#[tokio::test(start_paused = true)]
async fn replacing_cancels_the_active_run_and_keeping_keeps_the_job() {
    let scheduler = Scheduler::new();
    let old = scheduler
        .add(now(), |cx: Context| async move { cx.cancelled().await })
        .id("job")
        .await
        .unwrap();
    sleep(SECOND).await;
    let log = Log::new();
    let new = scheduler
        .add(every(SECOND), log.work())
        .id("job")
        .on_conflict(OnConflict::Replace)
        .await
        .unwrap();
    let old = timeout(HOUR, old).await.expect("the run sees that its job is replaced");
    assert!(matches!(old, End::Replaced));
    let kept = scheduler
        .add(every(SECOND), || async { assert_eq!(1, 2, "it is not added") })
        .id("job")
        .on_conflict(OnConflict::Keep)
        .await
        .unwrap();
    sleep(2 * SECOND + SECOND / 2).await;
    assert_eq!(log.take(), [1, 2]);
    kept.remove().await.unwrap();
    assert!(matches!(new.await, End::Removed));
}

#[tokio::test(start_paused = true)]
async fn an_immediate_interval_and_one_with_a_start_keep_their_grids() {
    let clock = ManualClock::running("2026-11-20T12:00:00.250Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock).start().await.unwrap();
    let fire_times = |trigger| {
        let mut add = scheduler.add(trigger, || async {});
        let runs = add.runs();
        async move {
            add.await.unwrap();
            let times: Vec<_> = runs.take(3).map(|run| run.fire_time).collect().await;
            times.iter().map(|time| time.format("%T%.3f").to_string()).collect::<Vec<_>>()
        }
    };
    let start: DateTime<Utc> = "2026-11-20T11:59:59Z".parse().unwrap();
    assert_eq!(
        fire_times(every(SECOND).immediately()).await,
        ["12:00:00.250", "12:00:01.250", "12:00:02.250"]
    );
    assert_eq!(
        fire_times(every(TimeDelta::seconds(2)).starting_at(start)).await,
        ["12:00:03.000", "12:00:05.000", "12:00:07.000"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_filter_are_paused_resumed_changed_run_and_removed_together() {
    let scheduler = Scheduler::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let work = || {
        let runs = runs.clone();
        move || {
            runs.fetch_add(1, Ordering::SeqCst);
            async {}
        }
    };
    let add = |n: u64| {
        let job = scheduler.add(every(SECOND), work()).id(format!("job-{n}"));
        if n.is_multiple_of(2) { job.tag("even") } else { job }
    };
    scheduler.add_all((0..3000).map(add)).await.unwrap();
    let even = || scheduler.jobs().tag("even");
    assert_eq!(even().run_now().await.unwrap(), 1500);
    half().await;
    assert_eq!(runs.swap(0, Ordering::SeqCst), 1500);
    assert_eq!(even().pause().await.unwrap(), 1500);
    assert_eq!(even().pause().await.unwrap(), 1500);
    assert_eq!(even().paused(false).pause().await.unwrap(), 0);
    sleep(SECOND).await;
    assert_eq!(runs.swap(0, Ordering::SeqCst), 1500);
    assert_eq!(even().resume().await.unwrap(), 1500);
    sleep(SECOND).await;
    assert_eq!(runs.swap(0, Ordering::SeqCst), 3000);
    let changed = tokio::spawn(even().modify(|job| job.name("changed").max_instances(2))).await;
    assert_eq!(changed.unwrap().unwrap(), 1500);
    let listed = scheduler.jobs().name("changed").await.unwrap();
    assert!(listed.len() == 1500 && listed.iter().all(|job| job.tags.len() == 1));
    let wrong = even().modify(|job| job.max_instances(0)).await.unwrap_err().to_string();
    assert!(wrong.contains("max_instances"), "{wrong}");
    // Other tasks may call it.
    let removed = tokio::spawn(even().remove()).await.unwrap();
    assert_eq!((removed.unwrap(), scheduler.len()), (1500, 1500));
    assert_eq!(even().remove().await.unwrap(), 0);
    assert!(scheduler.jobs().await.unwrap().iter().all(|job| job.tags.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_filter_counts_only_the_runs_that_it_makes_and_jobs_that_end_are_no_error() {
    let scheduler = Scheduler::new();
    let busy = scheduler.add(every(HOUR), std::future::pending::<()>).tag("x").await.unwrap();
    busy.run_now().await.unwrap();
    let once = scheduler.add_once(after(HOUR), async {}).tag("x").await.unwrap();
    scheduler.add(punctual::trigger::after_any(once.id()), || async {}).tag("x").await.unwrap();
    assert_eq!(scheduler.jobs().tag("x").run_now().await.unwrap(), 2);
    half().await;
    // The job that ran once is over, and so is its follower.
    assert_eq!(scheduler.jobs().tag("x").pause().await.unwrap(), 1);
    let first = scheduler.add(every(HOUR), || async {}).tag("y").await.unwrap();
    scheduler.add(punctual::trigger::after_any(first.id()), || async {}).tag("y").await.unwrap();
    assert_eq!(scheduler.jobs().tag("y").remove().await.unwrap(), 2);
    scheduler.shutdown().within(Duration::ZERO).await;
    assert!(scheduler.jobs().remove().await.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn the_next_fire_time_of_all_jobs_and_whether_they_fire() {
    let scheduler = Scheduler::new();
    assert_eq!(scheduler.next_fire().await.unwrap(), None);
    let later = scheduler.add(after(2 * HOUR), || async {}).await.unwrap();
    let jobs = (0..2000).map(|_| scheduler.add(every(3 * HOUR), || async {}));
    scheduler.add_all(jobs).await.unwrap();
    let first = scheduler.add(after(HOUR), || async {}).await.unwrap();
    let next = async || scheduler.next_fire().await.unwrap();
    assert_eq!(next().await, first.next_fire().await.unwrap());
    first.pause().await.unwrap();
    assert_eq!(next().await, later.next_fire().await.unwrap());

    assert!(scheduler.is_running());
    scheduler.pause().await.unwrap();
    assert!(!scheduler.is_running());
    assert_eq!(next().await, later.next_fire().await.unwrap());
    scheduler.resume().await.unwrap();
    assert!(scheduler.is_running());
    scheduler.shutdown().await;
    assert!(!scheduler.is_running());
    assert_eq!(next().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_id_has_a_text_whoever_made_it() {
    let scheduler = Scheduler::new();
    let given = scheduler.add(every(HOUR), || async {}).id("report").await.unwrap();
    let made = scheduler.add(every(HOUR), || async {}).await.unwrap();
    assert_eq!(given.id().as_str(), "report");
    assert_eq!(made.id().as_str(), made.id().to_string());
    assert_eq!(scheduler.job(&*made.id().as_str()).get().await.unwrap().id, *made.id());
}

/// The declaration of a job without an id could never be recognized again.
#[tokio::test(start_paused = true)]
async fn on_conflict_without_an_id_is_an_error() {
    let scheduler = Scheduler::new();
    for on_conflict in [OnConflict::Replace, OnConflict::Keep, OnConflict::Reconcile] {
        let add = || scheduler.add(every(SECOND), || async {}).on_conflict(on_conflict);
        let mut errors = vec![add().await.unwrap_err()];
        errors.push(scheduler.add_all([add()]).await.unwrap_err());
        let once = scheduler.add_once(every(SECOND), async {}).on_conflict(on_conflict);
        errors.push(once.await.unwrap_err());
        for error in errors {
            assert!(error.is_invalid_option(), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("{on_conflict:?}")) && text.contains(".id("), "{text}");
        }
    }
    assert!(scheduler.jobs().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_is_drained_when_no_job_is_left_and_no_run_is_under_way() {
    let scheduler = Scheduler::new();
    scheduler.drained().await;
    let start = Instant::now();
    scheduler.add(every(SECOND).times(3), || async {}).await.unwrap();
    scheduler.add(after(5 * SECOND), || sleep(2 * SECOND)).await.unwrap();
    // Dropped early, the future has no cost.
    assert!(timeout(SECOND, scheduler.drained()).await.is_err());
    tokio::join!(scheduler.drained(), scheduler.drained());
    assert_eq!(start.elapsed(), 7 * SECOND);
    assert!(scheduler.is_empty());

    let paused = scheduler.add(after(SECOND), || async {}).paused().await.unwrap();
    assert!(timeout(HOUR, scheduler.drained()).await.is_err());
    paused.remove().await.unwrap();
    scheduler.drained().await;

    // A run may add the next job.
    let adds =
        |cx: Context| async move { cx.scheduler().add(after(HOUR), || async {}).await.map(drop) };
    scheduler.add(now(), adds).await.unwrap();
    let start = Instant::now();
    scheduler.drained().await;
    assert_eq!(start.elapsed(), HOUR);

    scheduler.add(every(SECOND), || async {}).await.unwrap();
    let drained = scheduler.drained();
    let shutdown = async { scheduler.shutdown().await };
    timeout(SECOND, async { tokio::join!(drained, shutdown) }).await.unwrap();
    scheduler.drained().await;
}

#[tokio::test(start_paused = true)]
async fn unknown_ids_say_so() {
    let scheduler = Scheduler::new();
    let job = scheduler.job("nobody");
    for error in [
        job.remove().await.unwrap_err(),
        job.pause().await.unwrap_err(),
        job.resume().await.unwrap_err(),
        job.run_now().await.unwrap_err(),
        job.get().await.unwrap_err(),
        job.reschedule("* * * * *").await.unwrap_err(),
        job.modify(|settings| settings).await.unwrap_err(),
    ] {
        assert!(error.is_unknown_job(), "{error}");
        assert!(error.to_string().contains("`nobody`"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_run_is_seen_by_runs_taken_on_the_builder() {
    let scheduler = Scheduler::new();
    let mut add = scheduler.add(every(SECOND).immediately(), || async {});
    let mut runs = add.runs();
    let added = Utc::now();
    add.await.unwrap();
    sleep(3 * SECOND).await;
    let first = runs.next().await.unwrap();
    assert!((first.fire_time - added).abs() < TimeDelta::seconds(1));
    assert_eq!(runs.next().await.unwrap().fire_time - first.fire_time, TimeDelta::seconds(1));
}

#[tokio::test(start_paused = true)]
async fn handles_of_a_replaced_job_say_that_it_is_gone() {
    let scheduler = Scheduler::new();
    let old = scheduler.add(every(SECOND), || async {}).id("job").await.unwrap();
    let token = old.cancel_token();
    let (count, work) = counter();
    let new = scheduler
        .add(every(2 * SECOND), work)
        .id("job")
        .on_conflict(OnConflict::Replace)
        .await
        .unwrap();
    assert!(token.is_cancelled());
    assert!(old.pause().await.unwrap_err().is_gone());
    assert!(old.run_now().await.unwrap_err().is_gone());
    assert!(old.remove().await.unwrap_err().is_gone());
    assert!(matches!(old.clone().await, End::Replaced));
    // A token that is made late is cancelled as well, and cancels no other job.
    old.cancel_token().cancel();
    sleep(3 * SECOND).await;
    assert_eq!(get(&count), 1);
    assert_eq!(scheduler.job("job").get().await.unwrap().id, *new.id());
}

#[tokio::test(start_paused = true)]
async fn a_burst_then_remove_leaves_nothing_behind() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let jobs = (0..10_000).map(|_| scheduler.add(every(SECOND), work.clone()));
    let handles = scheduler.add_all(jobs).await.unwrap();
    for handle in &handles {
        handle.remove().await.unwrap();
    }
    assert!(scheduler.is_empty());
    sleep(5 * SECOND).await;
    assert_eq!(get(&count), 0);
    for handle in handles {
        assert!(matches!(handle.await, End::Removed));
    }
}

struct Calls(Scheduler);

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.0.len();
    }
}

#[test]
fn a_retry_condition_may_own_what_calls_the_scheduler_when_it_is_dropped() {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
            async {
                let scheduler = Scheduler::new();
                let calls = Calls(scheduler.clone());
                let retry = Retry::fixed(SECOND).only_if(move |_| {
                    let _ = &calls;
                    true
                });
                let job = scheduler.add(every(SECOND), || async {}).retry(retry).await.unwrap();
                job.remove().await.unwrap();
            },
        );
        done.send(()).unwrap();
    });
    wait.recv_timeout(5 * SECOND).expect("deadlock");
}
