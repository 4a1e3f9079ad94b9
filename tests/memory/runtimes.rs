//! Kinds of runtimes, and several schedulers on one runtime.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    End, EventFilter, EventKind, Outcome, Scheduler,
    trigger::{after, every, now},
};
use tokio::time::sleep;

use crate::{SECOND, counter, get};

#[test]
fn jobs_run_on_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let scheduler = Scheduler::new();
        let (count, work) = counter();
        // 50 ms of real time, since the test is about real time.
        let job = scheduler.add(every(Duration::from_millis(10)).times(5), work).await.unwrap();
        job.await;
        assert_eq!(get(&count), 5);
        assert!(scheduler.shutdown().await.is_clean());
    });
}

#[tokio::test(start_paused = true)]
async fn two_schedulers_in_a_process_know_nothing_of_each_other() {
    let (one, two) = (Scheduler::new(), Scheduler::new());
    let (count, work) = counter();
    one.add(every(SECOND), work.clone()).id("same").await.unwrap();
    let second = two.add(every(SECOND), work.clone()).id("same").await.unwrap();
    let made = one.add(every(SECOND), work).await.unwrap();
    assert!(two.job(made.id()).get().await.unwrap_err().is_unknown_job());
    one.shutdown().await;
    sleep(3 * SECOND + SECOND / 2).await;
    assert_eq!(get(&count), 3);
    assert!(second.get().await.is_ok());
}

#[test]
fn a_runtime_that_goes_away_resolves_every_handle() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (scheduler, going, waiting, runs) = runtime.block_on(async {
        let scheduler = Scheduler::new();
        let mut add = scheduler.add(now(), std::future::pending::<()>);
        let runs = add.runs();
        let mut submitted =
            scheduler.events_matching(EventFilter::new().kinds([EventKind::Submitted]));
        let going = add.await.unwrap();
        let waiting = scheduler.add(after(SECOND), || async {}).await.unwrap();
        submitted.next().await.unwrap();
        (scheduler, going, waiting, runs)
    });
    drop(runtime);
    assert!(matches!(waiting.now_or_never(), Some(End::ShutDown)));
    // The only run may have been dropped before the driver.
    assert!(matches!(going.now_or_never(), Some(End::ShutDown | End::Completed)));
    let runs = runs.collect::<Vec<_>>().now_or_never().unwrap();
    assert!(matches!(runs[0].outcome, Outcome::Cancelled | Outcome::Skipped(_)), "{runs:?}");
    // Another runtime can wait for the shutdown, which is over.
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    other.block_on(async {
        assert!(scheduler.add(now(), || async {}).await.unwrap_err().is_shut_down());
        scheduler.shutdown().await;
    });
}
