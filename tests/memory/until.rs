//! Jitter ends with the trigger.

use std::time::Duration;

use punctual::{
    Scheduler, Task,
    store::MemoryStore,
    testing::ManualClock,
    trigger::{IntoTrigger, Trigger, and, cron, every, or},
};
use serde::{Deserialize, Serialize};

use crate::{SECOND, instant, scheduler_at};

const END: &str = "2026-06-01T12:00:03Z";

/// Triggers whose last fire time is at noon, and that end three seconds later.
fn ending() -> Vec<Trigger> {
    let noon = || cron("0 12 * * *");
    // From 11:59 on.
    let counted = Duration::from_secs(63);
    vec![
        noon().until(instant(END)).into_trigger().unwrap(),
        noon().until(counted).into_trigger().unwrap(),
        or([noon().until(counted)]).into_trigger().unwrap(),
        every(60 * SECOND).until(counted).into_trigger().unwrap(),
        and((noon().until(instant(END)), cron("0 * * * *"))).into_trigger().unwrap(),
        or((noon().until(instant(END)), cron("0 11 * * *").until(instant(END))))
            .into_trigger()
            .unwrap(),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_run_starts_after_the_end() {
    for (number, trigger) in ending().into_iter().enumerate() {
        let (_, scheduler) = scheduler_at("2026-06-01T11:59:00Z").await;
        let mut starts = Vec::new();
        for job in 0..30 {
            let id = format!("{number}-{job}");
            let mut add = scheduler.add(trigger.clone(), || async {}).id(id).jitter(600 * SECOND);
            starts.push(add.runs());
            add.await.unwrap();
        }
        let mut spread = 0;
        for mut runs in starts {
            let run = runs.next().await.unwrap();
            assert_eq!(run.fire_time, instant("2026-06-01T12:00:00Z"));
            let started_at = run.started_at.unwrap();
            assert!(started_at <= instant(END), "{trigger} starts at {started_at}");
            spread += usize::from(started_at > run.fire_time);
        }
        assert!(spread > 0, "there is jitter up to the end");
    }
}

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Task for Nothing {
    const NAME: &'static str = "nothing";
    type Output = ();

    async fn run(self, _: punctual::Context) {}
}

#[tokio::test(start_paused = true)]
async fn nor_of_a_job_in_a_store() {
    let clock = ManualClock::running(instant("2026-06-01T11:59:00Z"));
    let builder = Scheduler::builder().clock(clock.clone()).task::<Nothing>();
    let scheduler = builder.store(MemoryStore::with_clock(clock)).start().await.unwrap();
    let mut started = Vec::new();
    for trigger in ending() {
        let mut add = scheduler.add(trigger, Nothing).jitter(Duration::from_secs(600));
        let runs = add.runs();
        started.push((add.await.unwrap(), runs));
    }
    for (_job, mut runs) in started {
        let run = runs.next().await.unwrap();
        assert!(run.started_at.unwrap() <= instant(END), "{run:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_moves_no_fire_time_past_the_end() {
    let (clock, scheduler) = scheduler_at("2026-06-01T11:00:00Z").await;
    let hourly = every(3600 * SECOND).until(instant("2026-06-01T12:30:00Z"));
    let mut add = scheduler.add(hourly, || async {});
    let mut runs = add.runs();
    let job = add.await.unwrap();
    clock.step(chrono::TimeDelta::hours(2));
    assert!(matches!(job.await, punctual::End::Completed));
    assert!(runs.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_counts_from_the_adding_moves_with_its_grid() {
    for hourly in [every(3600 * SECOND).immediately(), every(3600 * SECOND).starting_at(SECOND)] {
        for by in [chrono::TimeDelta::hours(2), -chrono::TimeDelta::days(4000)] {
            let (clock, scheduler) = scheduler_at("2037-06-01T11:00:00Z").await;
            let mut add = scheduler.add(hourly.clone().until(5400 * SECOND), || async {});
            let mut runs = add.runs();
            let job = add.await.unwrap();
            runs.next().await.unwrap();
            clock.step(by);
            assert!(matches!(job.await, punctual::End::Completed));
            assert!(runs.next().await.is_some());
            assert!(runs.next().await.is_none());
        }
    }
}
