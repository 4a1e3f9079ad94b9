//! What counts as late.

use std::time::Duration;

use punctual::{
    Outcome, Scheduler,
    testing::ManualClock,
    trigger::{after, at},
};

use crate::instant;

const MS: Duration = Duration::from_millis(1);

/// Real time, since it is Tokio's own timers that are late.
#[tokio::test]
async fn an_ordinary_start_is_on_time_however_short_the_grace() {
    let scheduler = Scheduler::new();
    for grace in [Duration::ZERO, MS, 2 * MS] {
        let mut ran = 0;
        for _ in 0..20 {
            let add = scheduler.add_once(after(5 * MS), async {});
            ran += usize::from(add.misfire_grace_time(grace).await.unwrap().await.is_ok());
        }
        // The machine may be busy for longer than its timers are late, but not often.
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
