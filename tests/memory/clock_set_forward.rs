//! The wall clock is set forward: some members of a combination move with it, and the fire times of
//! the others are due.

use chrono::TimeDelta;
use futures::StreamExt as _;
use punctual::trigger::{cron, every, or};

use crate::{SECOND, instant, scheduler_at};

#[tokio::test(start_paused = true)]
async fn what_a_step_has_passed_is_due_and_one_of_so_many() {
    let (clock, scheduler) = scheduler_at("2026-06-01T11:59:59Z").await;
    let both = or((every(600 * SECOND), cron("0 * * * *"))).times(8);
    let mut add = scheduler.add(both, || async {});
    let mut runs = add.runs();
    let job = add.await.unwrap();
    assert_eq!(runs.next().await.unwrap().fire_time, instant("2026-06-01T12:00:00Z"));
    clock.step(TimeDelta::hours(5));
    let due = runs.next().await.unwrap();
    assert_eq!((due.fire_time, due.coalesced), (instant("2026-06-01T17:00:00Z"), 4));
    job.await;
    let rest: Vec<_> = runs.map(|run| run.fire_time.format("%H:%M:%S").to_string()).collect().await;
    assert_eq!(rest, ["17:09:59", "17:19:59"]);
}
