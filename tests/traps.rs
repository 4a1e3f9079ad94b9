//! The traps that other schedulers fell into, each a test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, future::join_all};
use punctual::{
    Context, End, EventFilter, EventKind, EventPayload, OnConflict, Outcome, Run, Scheduler,
    SkipReason,
    testing::ManualClock,
    trigger::{CustomTrigger, after, at, cron, custom, every, now},
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A counter, and work that counts.
fn counter() -> (Arc<AtomicUsize>, impl FnOnce() -> std::future::Ready<()> + Clone + Send) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (count, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
}

fn get(count: &AtomicUsize) -> usize {
    count.load(Ordering::SeqCst)
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sequential_adds_all_run() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let mut handles = Vec::new();
    for _ in 0..10_000 {
        handles.push(scheduler.add(now(), work.clone()).await.unwrap());
    }
    join_all(handles).await;
    assert_eq!(get(&count), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_concurrent_adds_all_run() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let adds = (0..5_000).map(|n| {
        let (scheduler, work) = (scheduler.clone(), work.clone());
        tokio::spawn(async move {
            let job = scheduler.add(after(Duration::from_millis(n % 7)), work).await.unwrap();
            assert!(matches!(job.await, End::Completed));
        })
    });
    for add in join_all(adds).await {
        add.unwrap();
    }
    assert_eq!(get(&count), 5_000);
    assert!(scheduler.is_empty());
}

#[test]
fn a_stall_of_four_seconds_kills_no_job() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let scheduler = Scheduler::new();
        let mut add = scheduler.add(every(SECOND), || async {});
        let mut runs = add.runs();
        let _job = add.await.unwrap();
        // The stall has to be real: it is the runtime's only thread that is blocked.
        std::thread::sleep(4 * SECOND + SECOND / 2);
        let caught_up = runs.next().await.unwrap();
        assert_eq!(caught_up.coalesced, 3, "what came due meanwhile is one run, and says so");
        let next = runs.next().await.unwrap();
        assert_eq!(next.fire_time - caught_up.fire_time, TimeDelta::seconds(1));
        assert!(next.late_by < SECOND / 2);
    });
}

/// Panics every other time it is asked, beginning with the first.
fn every_other_time(turn: &AtomicUsize, place: &str) {
    assert!(turn.fetch_add(1, Ordering::SeqCst) % 2 == 1, "{place}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_kills_no_job_wherever_it_happens() {
    struct Grenade(Arc<AtomicUsize>);
    impl Clone for Grenade {
        fn clone(&self) -> Grenade {
            every_other_time(&self.0, "while cloned");
            Grenade(self.0.clone())
        }
    }

    let scheduler = Scheduler::new();
    let turns = || Arc::new(AtomicUsize::new(0));
    let trigger = || every(SECOND).times(4);
    let turn = turns();
    let in_future = scheduler.add(trigger(), move || async move {
        tokio::task::yield_now().await;
        every_other_time(&turn, "in the future");
    });
    let turn = turns();
    let in_closure = scheduler.add(trigger(), move || {
        every_other_time(&turn, "in the closure");
        async {}
    });
    let grenade = Grenade(turns());
    let in_clone = scheduler.add(trigger(), move || {
        let _grenade = grenade;
        async {}
    });
    for (mut add, place) in
        [(in_future, "in the future"), (in_closure, "in the closure"), (in_clone, "while cloned")]
    {
        let runs = add.runs();
        let end = add.await.unwrap().await;
        assert!(matches!(end, End::Completed), "{place}: {end}");
        let outcomes: Vec<String> = runs.map(|run| run.outcome.to_string()).collect().await;
        let panicked = format!("panicked: {place}");
        assert_eq!(outcomes, [&*panicked, "succeeded", &*panicked, "succeeded"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_cancelled_run_is_dropped_is_that_runs_alone() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("while dropped");
        }
    }
    let scheduler = Scheduler::new();
    let mut add = scheduler.add(now(), || async {
        let _bomb = PanicsOnDrop;
        std::future::pending::<()>().await;
    });
    let runs = add.runs();
    let job = add.await.unwrap();
    sleep(SECOND).await;
    job.cancel_token().cancel();
    assert!(matches!(job.await, End::Cancelled));
    let runs: Vec<Run> = runs.collect().await;
    assert!(matches!(&runs[0].outcome, Outcome::Panicked(_)), "{:?}", runs[0].outcome);
    assert!(scheduler.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_work_of_a_job_is_dropped_is_nobody_elses_trouble() {
    #[derive(Clone)]
    struct PanicsWhenLast(Arc<()>);
    impl Drop for PanicsWhenLast {
        fn drop(&mut self) {
            assert!(Arc::strong_count(&self.0) > 1, "the last of it is dropped");
        }
    }
    let work = || {
        let last = PanicsWhenLast(Arc::new(()));
        move || {
            let _last = &last;
            async {}
        }
    };
    let scheduler = Scheduler::new();
    let removed = scheduler.add(every(SECOND), work()).await.unwrap();
    let cancelled = scheduler.add(every(SECOND), work()).await.unwrap();
    let completed = scheduler.add(every(SECOND).times(2), work()).await.unwrap();
    removed.remove().await.unwrap();
    cancelled.cancel_token().cancel();
    assert!(matches!(removed.await, End::Removed));
    assert!(matches!(cancelled.await, End::Cancelled));
    assert!(matches!(completed.await, End::Completed));
    let (count, work) = counter();
    scheduler.add(now(), work).await.unwrap().await;
    assert_eq!(get(&count), 1, "the driver lives");
}

#[tokio::test(start_paused = true)]
async fn a_custom_trigger_that_panics_ends_its_job_with_an_error_and_no_other() {
    #[derive(Debug)]
    struct Broken(DateTime<Utc>);
    impl CustomTrigger for Broken {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            assert!(t < self.0 + TimeDelta::seconds(3), "I can't count further");
            Some(t + TimeDelta::seconds(1))
        }
    }
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let broken = scheduler.add(custom(Broken(Utc::now())), work).await.unwrap();
    let (fine, work) = counter();
    scheduler.add(every(SECOND), work).await.unwrap();
    let End::TriggerFailed(error) = broken.await else { panic!("it ended otherwise") };
    assert!(error.is_invalid_trigger() && error.to_string().contains("panicked"), "{error}");
    assert!(get(&count) >= 3);
    let before = get(&fine);
    sleep(10 * SECOND).await;
    assert_eq!(get(&fine), before + 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_longer_than_its_interval_skips_and_says_so() {
    let scheduler = Scheduler::new();
    let skipped = scheduler.events_matching(EventFilter::new().kinds([EventKind::Skipped]));
    let mut add = scheduler.add(every(SECOND).times(10), || sleep(Duration::from_millis(2500)));
    let runs = add.runs();
    add.await.unwrap().await;
    let runs: Vec<Run> = runs.collect().await;
    let grid: Vec<_> = runs.windows(2).map(|w| w[1].fire_time - w[0].fire_time).collect();
    assert_eq!(grid, [TimeDelta::seconds(3); 3], "it runs at every third fire time");
    scheduler.shutdown().await;
    let reasons: Vec<_> = skipped
        .map(|event| match event.payload {
            EventPayload::Skipped { reason, .. } => reason,
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(reasons, [SkipReason::MaxInstances; 6]);
}

#[tokio::test(start_paused = true)]
async fn intervals_of_200_ms_and_1_9_s_keep_their_period() {
    let scheduler = Scheduler::new();
    for millis in [200, 1900] {
        let period = Duration::from_millis(millis);
        let mut add = scheduler.add(every(period).times(50), || sleep(Duration::from_millis(150)));
        let runs = add.runs();
        let started = Instant::now();
        add.await.unwrap().await;
        let runs: Vec<Run> = runs.collect().await;
        assert_eq!(runs.len(), 50);
        assert!(runs.iter().all(|run| run.late_by.is_zero()));
        assert_eq!(
            runs[49].fire_time - runs[0].fire_time,
            TimeDelta::milliseconds(49 * millis as i64)
        );
        assert_eq!(started.elapsed(), 50 * period + Duration::from_millis(150));
    }
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

#[tokio::test(start_paused = true)]
async fn a_job_ten_years_away_fires_on_its_millisecond() {
    let scheduler = Scheduler::new();
    let decade = Duration::from_secs(3653 * 86400);
    let started = Instant::now();
    let mut add = scheduler.add(after(decade), || async {});
    let mut runs = add.runs();
    add.await.unwrap();
    let run = runs.next().await.unwrap();
    assert_eq!(run.late_by, Duration::ZERO);
    assert_eq!(started.elapsed(), decade);
}

/// A scheduler on a clock that runs with Tokio's paused time, watched as the system's would be.
async fn stepped() -> (ManualClock, Scheduler) {
    let clock = ManualClock::running(instant("2026-06-01T12:00:00Z"));
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    (clock, scheduler)
}

#[tokio::test(start_paused = true)]
async fn a_clock_stepped_forward_an_hour_makes_no_job_late_or_early() {
    let (clock, scheduler) = stepped().await;
    let mut add = scheduler.add(cron("30 * * * *"), || async {});
    let mut wall = add.runs();
    add.await.unwrap();
    let mut add = scheduler.add(every(600 * SECOND), || async {});
    let mut elapsed = add.runs();
    add.await.unwrap();
    let started = Instant::now();
    sleep(60 * SECOND).await;

    clock.step(TimeDelta::hours(1));
    let run = wall.next().await.unwrap();
    assert_eq!(run.fire_time, instant("2026-06-01T12:30:00Z"));
    assert!(started.elapsed() <= 61 * SECOND, "a step is noticed within a second");
    let run = wall.next().await.unwrap();
    assert_eq!(run.fire_time, instant("2026-06-01T13:30:00Z"));
    assert_eq!(run.late_by, Duration::ZERO);

    // An interval without a start is elapsed time.
    elapsed.next().await.unwrap();
    let second = elapsed.next().await.unwrap();
    elapsed.next().await.unwrap();
    assert_eq!(second.late_by, Duration::ZERO);
    assert_eq!(started.elapsed(), 1800 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_clock_stepped_back_an_hour_fires_nothing_twice() {
    let (clock, scheduler) = stepped().await;
    let mut add = scheduler.add(cron("*/10 * * * *"), || async {});
    let mut runs = add.runs();
    add.await.unwrap();
    let mut add = scheduler.add(every(60 * SECOND), || async {});
    let mut elapsed = add.runs();
    add.await.unwrap();
    // The first fire time is not earlier than now, and may be now.
    assert_eq!(runs.next().await.unwrap().fire_time, instant("2026-06-01T12:00:00Z"));
    assert_eq!(runs.next().await.unwrap().fire_time, instant("2026-06-01T12:10:00Z"));
    let before = Instant::now();
    clock.step(TimeDelta::hours(-1));
    let run = runs.next().await.unwrap();
    assert_eq!(run.fire_time, instant("2026-06-01T12:20:00Z"), "and not 12:10 again");
    assert_eq!(run.late_by, Duration::ZERO);
    assert_eq!(before.elapsed(), 70 * 60 * SECOND);
    // The interval has gone on all the while.
    let mut fired = 0;
    while let Some(Some(run)) = futures::FutureExt::now_or_never(elapsed.next()) {
        assert!(run.late_by.is_zero());
        fired += 1;
    }
    assert!((79..=80).contains(&fired), "{fired}");
}

#[tokio::test(start_paused = true)]
async fn a_suspend_makes_a_date_late_and_says_by_how_much() {
    let (clock, scheduler) = stepped().await;
    let mut add = scheduler.add(at(instant("2026-06-01T12:05:00Z")), || async {});
    let mut runs = add.runs();
    add.await.unwrap();
    sleep(60 * SECOND).await;
    // The machine sleeps for eight hours: the wall clock goes on, elapsed time does not.
    clock.step(TimeDelta::hours(8));
    let run = runs.next().await.unwrap();
    assert_eq!(run.fire_time, instant("2026-06-01T12:05:00Z"));
    let late = 8 * 3600 * SECOND - 4 * 60 * SECOND;
    assert!(run.late_by >= late && run.late_by <= late + SECOND, "{:?}", run.late_by);
}

#[test]
fn it_works_on_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let scheduler = Scheduler::new();
        let (count, work) = counter();
        // Real time, since that is what is shown here: 50 ms of it.
        let job = scheduler.add(every(Duration::from_millis(10)).times(5), work).await.unwrap();
        job.await;
        assert_eq!(get(&count), 5);
        assert!(scheduler.shutdown().await.is_clean());
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_that_removes_itself_ends_after_that_run() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let job = scheduler
        .add(every(SECOND), move |cx: Context| async move {
            work().await;
            cx.scheduler().job(cx.job_id()).remove().await
        })
        .await
        .unwrap();
    assert!(matches!(job.await, End::Removed));
    sleep(5 * SECOND).await;
    assert_eq!(get(&count), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_adds_another() {
    let scheduler = Scheduler::new();
    let answer = scheduler
        .add_once(after(SECOND), |cx: Context| async move {
            cx.scheduler().add_once(after(SECOND), async { 42 }).await
        })
        .await
        .unwrap();
    assert_eq!(answer.await.unwrap().unwrap().await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_shuts_the_scheduler_down_is_not_waited_for() {
    let scheduler = Scheduler::new();
    let other = scheduler.add(now(), || sleep(3 * SECOND)).await.unwrap();
    let report = scheduler
        .add_once(after(SECOND), |cx: Context| async move { cx.scheduler().shutdown().await })
        .await
        .unwrap();
    let report = report.await.unwrap();
    assert_eq!(report.finished.len(), 1, "{report}");
    assert!(matches!(other.await, End::ShutDown | End::Completed));
    assert!(scheduler.add(now(), || async {}).await.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn two_schedulers_in_a_process_know_nothing_of_each_other() {
    let (one, two) = (Scheduler::new(), Scheduler::new());
    let (count, work) = counter();
    one.add(every(SECOND), work.clone()).id("same").await.unwrap();
    let second = two.add(every(SECOND), work.clone()).id("same").await.unwrap();
    let made = one.add(every(SECOND), work).await.unwrap();
    assert!(two.job(made.id()).get().await.unwrap_err().is_unknown_job());
    one.shutdown().await;
    sleep(3 * SECOND + SECOND / 2).await;
    assert_eq!(get(&count), 3);
    assert!(second.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn dropping_every_handle_does_nothing() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    drop(scheduler.add(every(SECOND), work).await.unwrap());
    sleep(3 * SECOND + SECOND / 2).await;
    assert_eq!(get(&count), 3);
}

#[tokio::test(start_paused = true)]
async fn a_year_of_minutely_cron_under_paused_time() {
    let scheduler = Scheduler::builder().event_buffer(600_000).start().await.unwrap();
    let (count, work) = counter();
    let mut add = scheduler.add(cron("* * * * *"), work);
    let runs = add.runs();
    add.await.unwrap();
    sleep(Duration::from_secs(365 * 86400)).await;
    assert!((525_599..=525_600).contains(&get(&count)), "{}", get(&count));
    scheduler.shutdown().await;
    let late = runs.filter(|run| std::future::ready(!run.late_by.is_zero())).count().await;
    assert_eq!(late, 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_cancelled_at_the_very_instant_of_the_fire() {
    for order in 0..20 {
        let scheduler = Scheduler::new();
        let (count, work) = counter();
        let skipped = scheduler
            .events_matching(EventFilter::new().kinds([EventKind::Skipped, EventKind::Executed]));
        let job = scheduler.add(after(SECOND), work).await.unwrap();
        let token = job.cancel_token();
        if order % 2 == 0 {
            sleep(SECOND).await;
        } else {
            tokio::time::advance(SECOND).await;
        }
        for _ in 0..order / 4 {
            tokio::task::yield_now().await;
        }
        let ran = get(&count);
        token.cancel();
        let end = job.await;
        scheduler.shutdown().await;
        let fates: Vec<_> = skipped.collect().await;
        assert_eq!(fates.len(), 1, "one fate: {fates:?}");
        assert_eq!(get(&count), ran, "nothing starts after a cancel");
        assert!(matches!(end, End::Cancelled | End::Completed));
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
    // A token that is asked for late is cancelled as well, and cancels nobody else.
    old.cancel_token().cancel();
    sleep(3 * SECOND).await;
    assert_eq!(get(&count), 1);
    assert_eq!(scheduler.job("job").get().await.unwrap().id, *new.id());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_ten_years_is_one_run_and_one_record() {
    let clock = ManualClock::new(instant("2026-01-01T00:00:00Z"));
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    let mut coalesced = scheduler.events_matching(EventFilter::new().kinds([EventKind::Coalesced]));
    let mut add = scheduler.add(every(SECOND), || async {});
    let mut runs = add.runs();
    add.await.unwrap();
    clock.advance(Duration::from_secs(3653 * 86400));
    let run = runs.next().await.unwrap();
    assert_eq!(run.late_by, Duration::ZERO);
    assert_eq!(run.coalesced, 3653 * 86400 - 1);
    let EventPayload::Coalesced { fire_times, into, .. } = coalesced.next().await.unwrap().payload
    else {
        panic!("another event");
    };
    assert_eq!(fire_times.count, 3653 * 86400 - 1);
    assert_eq!(into, run.fire_time);
}
