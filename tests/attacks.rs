//! What a hostile reader tried: steps, floods, ids, tokens and panics in the wrong moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    Context, End, EventKind, OnConflict, Scheduler,
    testing::ManualClock,
    trigger::{CustomTrigger, after, custom, every, now},
};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn new_year() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn counter() -> (Arc<AtomicUsize>, impl FnOnce() -> std::future::Ready<()> + Clone + Send) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (count, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_expires_before_a_step_is_noticed_does_not_count_the_step_twice() {
    let clock = ManualClock::running(new_year());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    let (count, work) = counter();
    scheduler.add(every(Duration::from_millis(100)), work).await.unwrap();
    sleep(10 * SECOND + Duration::from_millis(50)).await;
    assert_eq!(count.load(Ordering::SeqCst), 100);
    for step in [TimeDelta::hours(8), TimeDelta::hours(-3)] {
        clock.step(step);
        sleep(10 * SECOND).await;
        let ran = count.swap(0, Ordering::SeqCst);
        assert!(ran >= 100, "{ran} runs by ten seconds after a step of {step}");
        count.store(0, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_added_after_a_step_nobody_noticed_is_on_time() {
    let clock = ManualClock::running(new_year());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    for step in [TimeDelta::hours(8), TimeDelta::hours(-20)] {
        sleep(10 * SECOND).await;
        clock.step(step);
        // Without a job there is nothing to watch the clock for.
        sleep(600 * SECOND).await;
        let started = Instant::now();
        scheduler.add_once(after(60 * SECOND), async {}).await.unwrap().await.unwrap();
        assert_eq!(started.elapsed(), 60 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn one_manual_clock_moves_all_schedulers_that_have_it() {
    let clock = ManualClock::new(new_year());
    let start = || Scheduler::builder().clock(clock.clone()).start();
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    let first = one.add_once(after(SECOND), async { 1 }).await.unwrap();
    let second = two.add_once(after(SECOND), async { 2 }).await.unwrap();
    clock.advance(10 * SECOND);
    let both = async { (first.await.unwrap(), second.await.unwrap()) };
    assert_eq!(timeout(SECOND, both).await.unwrap(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_idled_for_years_still_sets_timers() {
    let scheduler = Scheduler::new();
    for _ in 0..3 {
        sleep(Duration::from_secs(1000 * 86400)).await;
        assert_eq!(scheduler.add_once(after(SECOND), async { 1 }).await.unwrap().await.unwrap(), 1);
    }
    let job = scheduler.add(now(), std::future::pending::<()>).await.unwrap();
    sleep(Duration::from_secs(1000 * 86400)).await;
    assert_eq!(scheduler.shutdown().within(SECOND).await.dropped.len(), 1);
    assert!(matches!(job.await, End::ShutDown));
}

#[test]
fn jobs_that_are_always_due_leave_time_for_others() {
    /// Fires every millisecond and takes its time to say so.
    #[derive(Debug)]
    struct Slow;
    impl CustomTrigger for Slow {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_micros(100) {
                std::hint::spin_loop();
            }
            Some(t + TimeDelta::milliseconds(1))
        }
    }
    // Real time, since it is the one thread's real time that is fought for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let scheduler = Scheduler::new();
        for _ in 0..40 {
            scheduler.add(custom(Slow), || async {}).await.unwrap();
        }
        timeout(10 * SECOND, sleep(SECOND / 20)).await.unwrap();
        timeout(10 * SECOND, scheduler.shutdown()).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn an_id_that_looks_like_one_of_the_schedulers_own_is_an_id_like_any_other() {
    let scheduler = Scheduler::new();
    let made = scheduler.add(every(SECOND), || async {}).await.unwrap().id().to_string();
    for id in ["20261120-3-15", made.as_str()] {
        let add = || scheduler.add(every(SECOND), || async {}).id(id);
        if id != made {
            add().await.unwrap();
        }
        assert!(add().await.unwrap_err().is_duplicate_id(), "{id}");
        assert_eq!(scheduler.job(id).get().await.unwrap().id, *id);
        scheduler.job(id).remove().await.unwrap();
        assert!(scheduler.job(id).get().await.unwrap_err().is_unknown_job());
        add().await.unwrap().remove().await.unwrap();
    }
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn adding_many_is_all_or_none_whatever_their_conflicts() {
    let scheduler = Scheduler::new();
    let add =
        |on_conflict| scheduler.add(every(SECOND), || async {}).id("same").on_conflict(on_conflict);
    for first in [OnConflict::Replace, OnConflict::Keep, OnConflict::Error] {
        let error = scheduler.add_all([add(first), add(OnConflict::Error)]).await.unwrap_err();
        assert!(error.is_duplicate_id());
        assert!(scheduler.is_empty(), "{first:?}");
    }
    let error = scheduler
        .add_once(every(SECOND), async { 1 })
        .on_conflict(OnConflict::Keep)
        .await
        .unwrap_err();
    assert!(error.is_invalid_option(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn tokens_work_when_the_scheduler_is_closed() {
    let polite = |cx: Context| async move { cx.cancelled().await };
    // While it shuts down …
    let scheduler = Scheduler::new();
    let job = scheduler.add(now(), polite).await.unwrap();
    let token = job.cancel_token();
    sleep(SECOND).await;
    let started = Instant::now();
    let shutdown = tokio::spawn(scheduler.shutdown().within(30 * SECOND).into_future());
    sleep(SECOND).await;
    token.cancel();
    shutdown.await.unwrap();
    assert_eq!(started.elapsed(), SECOND);
    // … and when it was dropped.
    let scheduler = Scheduler::new();
    let job = scheduler.add(now(), polite).await.unwrap();
    let token = job.cancel_token();
    sleep(SECOND).await;
    drop(scheduler);
    sleep(SECOND).await;
    token.cancel();
    assert!(timeout(SECOND, job).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_context_does_not_keep_its_scheduler_open() {
    let scheduler = Scheduler::new();
    let job = scheduler.add(every(SECOND), || async {}).await.unwrap();
    scheduler
        .add(now(), |cx: Context| async move {
            let scheduler = cx.scheduler();
            sleep(3600 * SECOND).await;
            assert!(scheduler.add(now(), || async {}).await.unwrap_err().is_shut_down());
        })
        .await
        .unwrap();
    sleep(2 * SECOND).await;
    drop(scheduler);
    let started = Instant::now();
    assert!(matches!(job.await, End::ShutDown));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_shuts_down_has_its_fate_told() {
    let scheduler = Scheduler::new();
    let events = scheduler.events();
    let job = scheduler
        .add_once(after(SECOND), |cx: Context| async move {
            cx.scheduler().shutdown().await;
            sleep(SECOND).await;
        })
        .await
        .unwrap();
    job.await.unwrap();
    let kinds: Vec<_> = events.map(|event| event.payload.kind()).collect().await;
    assert!(kinds.ends_with(&[EventKind::ShutDown, EventKind::Executed]), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_displayed_or_dropped_is_that_runs_trouble_alone() {
    #[derive(Debug)]
    struct Vicious;
    impl std::fmt::Display for Vicious {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("when displayed")
        }
    }
    impl std::error::Error for Vicious {}
    impl Drop for Vicious {
        fn drop(&mut self) {
            panic!("when dropped");
        }
    }
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::sink)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let job = scheduler
        .add(every(SECOND).times(5), move || async move {
            work().await;
            Err::<(), _>(Vicious)
        })
        .await
        .unwrap();
    assert!(matches!(timeout(60 * SECOND, job).await, Ok(End::Completed)));
    assert_eq!(count.load(Ordering::SeqCst), 5);
    assert!(scheduler.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_instances_of_a_job_end_in_time() {
    let scheduler = Scheduler::new();
    let job =
        scheduler.add(every(3600 * SECOND), || sleep(SECOND)).max_instances(50_000).await.unwrap();
    for _ in 0..50_000 {
        job.run_now().await.unwrap();
    }
    let begun = std::time::Instant::now();
    sleep(2 * SECOND).await;
    assert_eq!(job.get().await.unwrap().running, 0);
    // Quadratic work took minutes; this takes a fraction of a second.
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
}
