//! Cancellation tokens of jobs.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    Context, End, EventFilter, EventKind, Run, Scheduler,
    trigger::{after, now},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{SECOND, counter, get};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn cancelling_is_seen_by_the_run_which_is_dropped_after_its_grace() {
    let scheduler = Scheduler::new();
    let polite = scheduler
        .add(now(), |cx: Context| async move {
            assert!(!cx.is_cancelled());
            cx.cancelled().await;
            assert!(cx.is_cancelled());
        })
        .await
        .unwrap();
    let mut add = scheduler.add(now(), std::future::pending::<()>).cancel_grace(2 * SECOND);
    let stubborn_runs = add.runs();
    let stubborn = add.await.unwrap();
    sleep(SECOND).await;
    let started = Instant::now();
    polite.cancel_token().cancel();
    stubborn.cancel_token().cancel();
    let polite = timeout(HOUR, polite).await.expect("the run sees that it is cancelled");
    assert!(matches!(polite, End::Cancelled));
    assert_eq!(started.elapsed(), Duration::ZERO);
    let stubborn = timeout(HOUR, stubborn).await.expect("what does not is dropped");
    assert!(matches!(stubborn, End::Cancelled));
    assert_eq!(started.elapsed(), 2 * SECOND);
    let runs: Vec<Run> = stubborn_runs.collect().await;
    assert_eq!(runs[0].outcome.to_string(), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_token_cancelled_at_the_instant_of_a_fire_time_leaves_one_fate() {
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
async fn tokens_work_when_the_scheduler_is_closed() {
    let polite = |cx: Context| async move { cx.cancelled().await };
    // During the shutdown …
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
    // … and after the scheduler was dropped.
    let scheduler = Scheduler::new();
    let job = scheduler.add(now(), polite).await.unwrap();
    let token = job.cancel_token();
    sleep(SECOND).await;
    drop(scheduler);
    sleep(SECOND).await;
    token.cancel();
    assert!(timeout(SECOND, job).await.is_ok());
}
