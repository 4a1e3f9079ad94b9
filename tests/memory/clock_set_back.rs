//! The wall clock is set back: by little, and jobs wait; by much, and they continue from now.

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    EventFilter, EventKind, EventPayload, Runs, Scheduler,
    trigger::{IntoTrigger, Trigger, at, cron, every, or},
};
use tokio::time::{Instant, sleep};

use crate::{SECOND, instant, scheduler_at};

/// Triggers that follow the wall clock and fire at :00 and :30.
fn half_hourly() -> Vec<Trigger> {
    vec![
        cron("*/30 * * * *").into_trigger().unwrap(),
        or((cron("0 * * * *"), cron("30 * * * *"))).into_trigger().unwrap(),
        every(1800 * SECOND).starting_at(instant("2000-01-01T00:00:00Z")).into_trigger().unwrap(),
    ]
}

async fn added(scheduler: &Scheduler) -> Vec<Runs> {
    let mut all = Vec::new();
    for trigger in half_hourly() {
        let mut add = scheduler.add(trigger, || async {});
        all.push(add.runs());
        add.await.unwrap();
    }
    all
}

async fn next(runs: &mut [Runs]) -> Vec<DateTime<Utc>> {
    let mut fire_times = Vec::new();
    for runs in runs {
        fire_times.push(runs.next().await.unwrap().fire_time);
    }
    fire_times
}

#[tokio::test(start_paused = true)]
async fn after_three_hours_or_less_nothing_repeats() {
    let (clock, scheduler) = scheduler_at("2026-06-01T11:59:59Z").await;
    let mut events = scheduler.events_matching(EventFilter::new().kinds([EventKind::ClockStepped]));
    let mut runs = added(&scheduler).await;
    assert_eq!(next(&mut runs).await, [instant("2026-06-01T12:00:00Z"); 3]);
    let started = Instant::now();
    clock.step(-TimeDelta::hours(3));
    assert_eq!(next(&mut runs).await, [instant("2026-06-01T12:30:00Z"); 3]);
    assert_eq!(started.elapsed(), 3 * 3600 * SECOND + 1800 * SECOND);
    let what = events.next().await.unwrap().payload;
    assert!(matches!(what, EventPayload::ClockStepped { corrected: false, .. }), "{what:?}");
}

#[tokio::test(start_paused = true)]
async fn a_longer_step_is_a_correction_and_jobs_go_on_from_now() {
    // A machine without a battery for its clock.
    let (clock, scheduler) = scheduler_at("2037-06-01T11:59:59Z").await;
    let mut events = scheduler.events_matching(EventFilter::new().kinds([EventKind::ClockStepped]));
    let mut runs = added(&scheduler).await;
    let paused = scheduler.add(cron("*/30 * * * *"), || async {}).paused().await.unwrap();
    let date = scheduler.add(at(instant("2037-06-01T13:00:00Z")), || async {}).await.unwrap();
    next(&mut runs).await;
    clock.step(instant("2026-06-01T12:10:00Z") - clock.now());
    let what = events.next().await.unwrap().payload;
    assert!(matches!(what, EventPayload::ClockStepped { corrected: true, .. }), "{what:?}");
    assert_eq!(next(&mut runs).await, [instant("2026-06-01T12:30:00Z"); 3]);
    assert_eq!(next(&mut runs).await, [instant("2026-06-01T13:00:00Z"); 3]);
    paused.resume().await.unwrap();
    assert_eq!(paused.next_fire().await.unwrap(), Some(instant("2026-06-01T13:00:00Z")));
    assert_eq!(date.next_fire().await.unwrap(), Some(instant("2037-06-01T13:00:00Z")));
}

#[tokio::test(start_paused = true)]
async fn how_much_is_a_correction_is_an_option() {
    let clock = punctual::testing::ManualClock::running(instant("2026-06-01T11:59:59Z"));
    let builder = || Scheduler::builder().clock(clock.clone());
    let scheduler = builder().clock_correction(600 * SECOND).start().await.unwrap();
    let mut runs = added(&scheduler).await;
    next(&mut runs).await;
    clock.step(-TimeDelta::minutes(20));
    assert_eq!(next(&mut runs).await, [instant("2026-06-01T12:00:00Z"); 3]);
    let error = builder().clock_correction(366 * 24 * 3600 * SECOND).start().await.unwrap_err();
    assert!(error.is_invalid_option() && error.to_string().contains("clock_correction"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_fires_so_many_times_has_as_many_left_after_a_correction() {
    let limited = [
        cron("*/30 * * * *").times(3).into_trigger().unwrap(),
        or((cron("0 * * * *"), cron("30 * * * *"))).times(3).into_trigger().unwrap(),
    ];
    for trigger in limited {
        let (clock, scheduler) = scheduler_at("2037-06-01T11:59:59Z").await;
        let mut add = scheduler.add(trigger, || async {});
        let mut runs = add.runs();
        let job = add.await.unwrap();
        runs.next().await.unwrap();
        clock.step(instant("2026-06-01T12:10:00Z") - clock.now());
        job.await;
        let rest: Vec<_> = runs.map(|run| run.fire_time).collect().await;
        assert_eq!(rest, [instant("2026-06-01T12:30:00Z"), instant("2026-06-01T13:00:00Z")]);
    }
}

/// Returns the fire times of all runs of a job whose clock is set back after the first run.
async fn runs_through_a_correction(trigger: Trigger) -> Vec<DateTime<Utc>> {
    let (clock, scheduler) = scheduler_at("2037-06-01T11:59:59Z").await;
    let mut add = scheduler.add(trigger, || async {});
    let mut runs = add.runs();
    let job = add.await.unwrap();
    let mut all = vec![runs.next().await.unwrap().fire_time];
    clock.step(instant("2026-06-01T12:10:00Z") - clock.now());
    job.await;
    all.extend(runs.map(|run| run.fire_time).collect::<Vec<_>>().await);
    all
}

#[tokio::test(start_paused = true)]
async fn so_has_a_combination_and_each_of_its_members() {
    let noon = || cron("0 * * * *").times(1);
    let half_past = || cron("30 * * * *");
    for (trigger, after) in [
        // The only fire time of one member was before the correction.
        (or((noon(), half_past().times(2))).into_trigger().unwrap(), vec!["12:30", "13:30"]),
        (or([or((noon(), half_past())).times(3)]).into_trigger().unwrap(), vec!["12:30", "13:30"]),
        // A grid of elapsed time moves, and a pattern does not.
        (
            or((every(600 * SECOND).until(1200 * SECOND), cron("0 * * * *")))
                .times(4)
                .into_trigger()
                .unwrap(),
            vec!["12:19", "12:29", "13:00"],
        ),
    ] {
        let runs = runs_through_a_correction(trigger.clone()).await;
        let runs: Vec<_> = runs[1..].iter().map(|run| run.format("%H:%M").to_string()).collect();
        assert_eq!(runs, after, "{trigger}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_counts_from_the_adding_is_as_far_as_before() {
    let half_hourly = cron("*/30 * * * *").until(5400 * SECOND).into_trigger().unwrap();
    let runs = runs_through_a_correction(half_hourly).await;
    assert_eq!(runs[1..], ["2026-06-01T12:30:00Z", "2026-06-01T13:00:00Z"].map(instant));
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_its_jitter_is_one_of_so_many() {
    let hourly = |times| cron("0 * * * *").times(times);
    for (times, trigger) in [
        (1, hourly(1).into_trigger().unwrap()),
        (2, hourly(2).into_trigger().unwrap()),
        (1, or([hourly(1)]).into_trigger().unwrap()),
        (2, or([hourly(2)]).into_trigger().unwrap()),
    ] {
        let (clock, scheduler) = scheduler_at("2026-06-01T11:59:59Z").await;
        let mut add = scheduler.add(trigger, || async {}).id("hourly").jitter(600 * SECOND);
        let mut runs = add.runs();
        let job = add.await.unwrap();
        sleep(2 * SECOND).await;
        clock.step(-TimeDelta::hours(5));
        assert_eq!(runs.next().await.unwrap().fire_time, instant("2026-06-01T12:00:00Z"));
        job.await;
        let rest: Vec<_> = runs.map(|run| run.fire_time).collect().await;
        assert_eq!(rest, ["2026-06-01T08:00:00Z"].map(instant)[..times - 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn elapsed_time_moves_with_the_clock() {
    let (clock, scheduler) = scheduler_at("2037-06-01T11:59:59Z").await;
    let mut add = scheduler.add(every(60 * SECOND), || async {});
    let mut runs = add.runs();
    add.await.unwrap();
    runs.next().await.unwrap();
    sleep(20 * SECOND).await;
    let started = Instant::now();
    clock.step(-TimeDelta::days(4000));
    runs.next().await.unwrap();
    assert_eq!(started.elapsed(), 40 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_fire_time_that_had_come_still_runs_after_a_correction() {
    let (clock, scheduler) = scheduler_at("2026-06-01T11:59:59Z").await;
    let mut all = Vec::new();
    for job in 0..10 {
        let hourly = cron("0 * * * *");
        let mut add = scheduler.add(hourly, || async {}).id(format!("{job}")).jitter(600 * SECOND);
        all.push(add.runs());
        add.await.unwrap();
    }
    sleep(2 * SECOND).await;
    clock.step(-TimeDelta::hours(5));
    let noon = instant("2026-06-01T12:00:00Z");
    let started = Instant::now();
    assert_eq!(next(&mut all).await, [noon; 10]);
    assert!(started.elapsed() <= 600 * SECOND, "{:?}", started.elapsed());
    assert_eq!(next(&mut all).await, [instant("2026-06-01T08:00:00Z"); 10]);
}
