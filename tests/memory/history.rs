//! Histories of jobs.

use std::time::Duration;

use punctual::{
    BoxError, Coalesce, Context, Run, Scheduler,
    testing::ManualClock,
    trigger::{after, every, now},
};
use tokio::time::sleep;

use crate::SECOND;

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_job_keeps_its_last_runs_with_the_text_of_their_errors() {
    let scheduler = Scheduler::new();
    let work = |cx: Context| async move {
        match cx.run_id().to_string().parse::<u32>()? {
            n if n % 2 == 0 => Err(BoxError::from(format!("{n} is even"))),
            _ => Ok(()),
        }
    };
    let job = scheduler.add(every(SECOND), work).history(3).await.unwrap();
    assert!(job.history().await.unwrap().is_empty());
    sleep(Duration::from_millis(5500)).await;
    let history = job.history().await.unwrap();
    let outcomes: Vec<_> = history.iter().map(|run| run.outcome.to_string()).collect();
    assert_eq!(outcomes, ["succeeded", "failed: 4 is even", "succeeded"]);
    assert!(history.windows(2).all(|two| two[0].fire_time < two[1].fire_time));
    let metrics = scheduler.metrics();
    assert_eq!((metrics.succeeded, metrics.failed, metrics.lateness.count()), (3, 2, 5));
    assert!(metrics.lateness.max() < Duration::from_millis(2), "{metrics:?}");
}

#[tokio::test(start_paused = true)]
async fn the_history_of_a_job_that_is_over_can_be_read_by_its_handle_and_for_a_while_by_its_id() {
    let scheduler = Scheduler::new();
    let fails = || async { Err::<(), _>("out of paper") };
    let mut job = scheduler.add(every(SECOND).times(6), fails).id("print").await.unwrap();
    (&mut job).await;
    let clone = job.clone();
    let texts = |history: Vec<Run>| -> Vec<String> {
        history.iter().map(|run| format!("{} {}", run.id, run.outcome)).collect()
    };
    let expected = ["3", "4", "5", "6"].map(|run| format!("{run} failed: out of paper"));
    assert_eq!(texts(job.history().await.unwrap()), expected);
    assert_eq!(texts(clone.history().await.unwrap()), expected);
    let by_id = scheduler.job("print");
    assert_eq!(texts(by_id.history().await.unwrap()), expected);
    assert!(by_id.get().await.unwrap_err().is_unknown_job());
    // The next job with this id has a history of its own.
    let next = scheduler.add(every(HOUR), || async {}).id("print").await.unwrap();
    assert!(by_id.history().await.unwrap().is_empty());
    next.remove().await.unwrap();
    sleep(11 * 60 * SECOND).await;
    assert!(by_id.history().await.unwrap_err().is_unknown_job());
    assert_eq!(job.history().await.unwrap().len(), 4);

    // Without an id, only the handle has the history, and only if one is kept.
    let mut unnamed = scheduler.add(after(SECOND), || async {}).await.unwrap();
    (&mut unnamed).await;
    assert_eq!(unnamed.history().await.unwrap().len(), 1);
    assert!(scheduler.job(unnamed.id()).history().await.unwrap_err().is_unknown_job());
    let mut none = scheduler.add(after(SECOND), || async {}).history(0).id("none").await.unwrap();
    (&mut none).await;
    assert!(none.history().await.unwrap().is_empty());
    assert!(scheduler.job("none").history().await.unwrap_err().is_unknown_job());
}

#[tokio::test(start_paused = true)]
async fn the_histories_of_the_last_thousand_jobs_are_kept() {
    let scheduler = Scheduler::new();
    for n in 0..1001 {
        let once = scheduler.add(now(), || async {}).id(format!("job-{n}"));
        once.await.unwrap().await;
    }
    let kept = async |n: u32| scheduler.job(format!("job-{n}")).history().await.is_ok();
    assert!(!kept(0).await && kept(1).await && kept(1000).await);
}

#[tokio::test(start_paused = true)]
async fn a_history_grows_during_a_backlog() {
    let clock = ManualClock::running("2026-01-01T00:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    let job = scheduler
        .add(every(SECOND).times(3), || sleep(10 * SECOND))
        .coalesce(Coalesce::All)
        .await
        .unwrap();
    clock.advance(5 * SECOND);
    sleep(25 * SECOND).await;
    assert_eq!(job.history().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_history_of_zero_keeps_nothing() {
    let scheduler = Scheduler::new();
    let job = scheduler.add(every(SECOND), || async {}).await.unwrap();
    sleep(3500 * MILLISECOND).await;
    job.modify(|settings| settings.history(0)).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(job.history().await.unwrap().len(), 0);
}
