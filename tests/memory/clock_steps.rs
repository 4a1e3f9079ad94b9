//! The wall clock is stepped while jobs wait, or the machine is suspended.

use std::{sync::atomic::Ordering, time::Duration};

use chrono::TimeDelta;
use punctual::{
    Overlap, Scheduler,
    testing::ManualClock,
    trigger::{after, after_any, at, cron, every, now},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{SECOND, counter, instant, scheduler_at};

#[tokio::test(start_paused = true)]
async fn a_clock_stepped_forward_an_hour_makes_no_job_late_or_early() {
    let (clock, scheduler) = scheduler_at("2026-06-01T12:00:00Z").await;
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

    // An interval without a start follows elapsed time.
    elapsed.next().await.unwrap();
    let second = elapsed.next().await.unwrap();
    elapsed.next().await.unwrap();
    assert_eq!(second.late_by, Duration::ZERO);
    assert_eq!(started.elapsed(), 1800 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_clock_stepped_back_an_hour_fires_nothing_twice() {
    let (clock, scheduler) = scheduler_at("2026-06-01T12:00:00Z").await;
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
    // The interval has continued all the while.
    let mut fired = 0;
    while let Some(Some(run)) = futures::FutureExt::now_or_never(elapsed.next()) {
        assert!(run.late_by.is_zero());
        fired += 1;
    }
    assert!((79..=80).contains(&fired), "{fired}");
}

#[tokio::test(start_paused = true)]
async fn a_suspend_makes_a_date_late_and_says_by_how_much() {
    let (clock, scheduler) = scheduler_at("2026-06-01T12:00:00Z").await;
    let mut add = scheduler.add(at(instant("2026-06-01T12:05:00Z")), || async {});
    let mut runs = add.runs();
    add.await.unwrap();
    sleep(60 * SECOND).await;
    // The machine sleeps for eight hours: the wall clock continues, elapsed time does not.
    clock.step(TimeDelta::hours(8));
    let run = runs.next().await.unwrap();
    assert_eq!(run.fire_time, instant("2026-06-01T12:05:00Z"));
    let late = 8 * 3600 * SECOND - 4 * 60 * SECOND;
    assert!(run.late_by >= late && run.late_by <= late + SECOND, "{:?}", run.late_by);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_expires_before_a_step_is_noticed_does_not_count_the_step_twice() {
    let clock = ManualClock::running(instant("2026-01-01T00:00:00Z"));
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
    let clock = ManualClock::running(instant("2026-01-01T00:00:00Z"));
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    for step in [TimeDelta::hours(8), TimeDelta::hours(-20)] {
        sleep(10 * SECOND).await;
        clock.step(step);
        // Without a job, the clock is not watched.
        sleep(600 * SECOND).await;
        let started = Instant::now();
        scheduler.add_once(after(60 * SECOND), async {}).await.unwrap().await.unwrap();
        assert_eq!(started.elapsed(), 60 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn one_manual_clock_moves_all_schedulers_that_have_it() {
    let clock = ManualClock::new(instant("2026-01-01T00:00:00Z"));
    let start = || Scheduler::builder().clock(clock.clone()).start();
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    let first = one.add_once(after(SECOND), async { 1 }).await.unwrap();
    let second = two.add_once(after(SECOND), async { 2 }).await.unwrap();
    clock.advance(10 * SECOND);
    let both = async { (first.await.unwrap(), second.await.unwrap()) };
    assert_eq!(timeout(SECOND, both).await.unwrap(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_clock_step_does_not_make_a_run_late_that_waits_for_room() {
    let clock = ManualClock::running("2026-01-01T00:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    scheduler.add(now(), || sleep(10 * SECOND)).group("g", 1).await.unwrap();
    sleep(SECOND).await;
    let mut job = scheduler
        .add(every(SECOND).times(1), || async {})
        .group("g", 1)
        .misfire_grace_time(60 * SECOND);
    let mut runs = job.runs();
    job.await.unwrap();
    sleep(5 * SECOND).await;
    clock.step(TimeDelta::hours(1));
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{} {:?}", run.outcome, run.late_by);
}

#[tokio::test(start_paused = true)]
async fn a_clock_step_does_not_make_a_run_late_that_waits_for_its_job() {
    let clock = ManualClock::running("2026-01-01T00:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    let mut job = scheduler
        .add(every(SECOND).times(2), || sleep(10 * SECOND))
        .overlap(Overlap::Queue(5))
        .misfire_grace_time(60 * SECOND);
    let mut runs = job.runs();
    job.await.unwrap();
    sleep(5 * SECOND).await;
    clock.step(TimeDelta::hours(1));
    runs.next().await.unwrap();
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{} {:?}", run.outcome, run.late_by);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_a_step_ends_takes_its_followers_along_and_no_other_job() {
    let (clock, scheduler) = scheduler_at("2026-06-01T12:00:00Z").await;
    let end = instant("2026-06-01T12:30:00Z");
    let leader = scheduler.add(every(600 * SECOND).until(end), || async {}).id("leader");
    let leader = leader.await.unwrap();
    let follower = scheduler.add(after_any("leader"), || async {}).await.unwrap();
    let other = scheduler.add(at(instant("2026-06-01T14:00:00Z")), || async {});
    let mut other = other.await.unwrap();
    clock.step(TimeDelta::hours(1));
    let started = Instant::now();
    timeout(5 * SECOND, leader).await.unwrap();
    timeout(5 * SECOND, follower).await.unwrap();
    timeout(3601 * SECOND, &mut other).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 3600);
    assert!(other.history().await.unwrap()[0].late_by.is_zero());
}
