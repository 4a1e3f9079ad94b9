//! Which runs count as late.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    Outcome, Run, Scheduler,
    testing::ManualClock,
    trigger::{CustomTrigger, after, at, custom, every},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{SECOND, instant};

const MS: Duration = Duration::from_millis(1);

/// Real time, since Tokio's own timers are late.
#[tokio::test]
async fn an_ordinary_start_is_on_time_however_short_the_grace() {
    let scheduler = Scheduler::new();
    for grace in [Duration::ZERO, MS, 2 * MS] {
        let mut ran = 0;
        for _ in 0..20 {
            let add = scheduler.add_once(after(5 * MS), async {});
            ran += usize::from(add.misfire_grace_time(grace).await.unwrap().await.is_ok());
        }
        // The machine may be busy for longer than the timers are late, but rarely.
        assert!(ran >= 15, "{ran} of 20 ran with a grace of {grace:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_milliseconds_are_on_time_and_eleven_are_late() {
    for (late, grace, runs) in [(10, 0, true), (11, 0, false), (11, 11, true), (12, 11, false)] {
        let clock = ManualClock::new(instant("2026-01-01T00:00:00Z"));
        let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
        let mut add = scheduler.add(at(instant("2026-01-01T00:00:01Z")), || async {});
        let mut seen = add.runs();
        add.misfire_grace_time(grace * MS).await.unwrap();
        clock.advance(1000 * MS + late * MS);
        let outcome = seen.next().await.unwrap().outcome;
        let ran = matches!(outcome, Outcome::Succeeded);
        assert_eq!(ran, runs, "{late} ms late with a grace of {grace} ms: {outcome}");
    }
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

#[test]
fn a_stall_of_four_seconds_kills_no_job() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let scheduler = Scheduler::new();
        let mut add = scheduler.add(every(SECOND), || async {});
        let mut runs = add.runs();
        let _job = add.await.unwrap();
        // The stall must be real: the runtime's only thread is blocked.
        std::thread::sleep(4 * SECOND + SECOND / 2);
        let caught_up = runs.next().await.unwrap();
        assert_eq!(caught_up.coalesced, 3, "what came due meanwhile is one run, and says so");
        let next = runs.next().await.unwrap();
        assert_eq!(next.fire_time - caught_up.fire_time, TimeDelta::seconds(1));
        assert!(next.late_by < SECOND / 2);
    });
}

#[test]
fn jobs_that_are_always_due_leave_time_for_others() {
    /// Fires every millisecond, and is slow to compute that.
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
    // Real time, since the jobs compete for the real time of one thread.
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
