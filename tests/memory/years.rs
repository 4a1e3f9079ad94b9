//! Years of cron, of idling, of an outage, and of waiting for a fire time.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    End, EventFilter, EventKind, EventPayload, Scheduler,
    testing::ManualClock,
    trigger::{after, cron, every, now},
};
use tokio::time::{Instant, sleep};

use crate::{SECOND, counter, get, instant};

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
