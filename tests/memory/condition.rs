//! Runs that start only if a condition of the user holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use punctual::{
    BoxError, Context, EventFilter, EventKind, EventPayload, Outcome, Retry, Run, Scheduler,
    SkipReason, Task, blocking,
    store::MemoryStore,
    trigger::{after, after_any, every},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::SECOND;

/// Holds at every other call, beginning with the first.
fn alternating() -> impl Fn() -> bool + Send + Sync + 'static {
    let asked = AtomicU32::new(0);
    move || asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)
}

#[tokio::test(start_paused = true)]
async fn a_fire_time_whose_condition_does_not_hold_is_skipped_for_that_reason() {
    let scheduler = Scheduler::new();
    let skipped = scheduler.events_matching(EventFilter::new().kinds([EventKind::Skipped]));
    let mut job = scheduler.add(every(SECOND).times(4), || async {}).when(alternating());
    let runs = job.runs();
    let job = job.id("job").await.unwrap();
    let follower = Arc::new(AtomicU32::new(0));
    let followed = follower.clone();
    let count = move || async move {
        followed.fetch_add(1, Ordering::SeqCst);
    };
    scheduler.add(after_any("job"), count).await.unwrap();
    sleep(7 * SECOND / 2).await;
    let history = job.history().await.unwrap();
    assert_eq!(history[1].outcome.to_string(), "skipped: condition");
    job.await;

    let runs: Vec<Run> = runs.collect().await;
    let texts: Vec<String> = runs.iter().map(|run| run.outcome.to_string()).collect();
    assert_eq!(texts, ["succeeded", "skipped: condition", "succeeded", "skipped: condition"]);
    assert_eq!(runs[1].started_at, None);
    let metrics = scheduler.metrics();
    assert_eq!((metrics.succeeded, metrics.skipped), (4, 2), "with those of the follower");
    assert_eq!(follower.load(Ordering::SeqCst), 2, "what did not run is not followed");
    scheduler.shutdown().await;
    let reasons: Vec<_> = skipped.map(|event| event.payload).collect().await;
    assert_eq!(reasons.len(), 2);
    for what in reasons {
        let EventPayload::Skipped { reason, fire_times, .. } = what else { panic!("{what:?}") };
        assert_eq!((reason, fire_times.count), (SkipReason::Condition, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_requested_run_ignores_the_condition() {
    let scheduler = Scheduler::new();
    let mut job = scheduler.add(every(SECOND).times(1), || async {}).when(|| false);
    let runs = job.runs();
    let job = job.await.unwrap();
    job.run_now().await.unwrap();
    job.await;
    let runs: Vec<_> = runs.map(|run| (run.on_request, run.outcome.is_success())).collect().await;
    assert_eq!(runs, [(true, true), (false, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_panics_is_the_failure_of_that_run() {
    let scheduler = Scheduler::new();
    let asked = AtomicU32::new(0);
    let called = Arc::new(AtomicU32::new(0));
    let count = called.clone();
    let work = move || async move {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let condition = move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => panic!("no idea"),
        _ => true,
    };
    let mut job = scheduler.add(every(SECOND).times(2), work).when(condition);
    let runs = job.runs();
    job.await.unwrap().await;
    let runs: Vec<Outcome> = runs.map(|run| run.outcome).collect().await;
    assert!(matches!(&runs[0], Outcome::Panicked(text) if text.contains("no idea")), "{runs:?}");
    assert!(runs[1].is_success());
    assert_eq!(called.load(Ordering::SeqCst), 1);
    assert_eq!(scheduler.metrics().panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn another_attempt_asks_again_and_without_it_the_last_error_stays() {
    let scheduler = Scheduler::new();
    let work = || async { Err::<(), _>(BoxError::from("no")) };
    let mut job = scheduler
        .add(every(SECOND).times(1), work)
        .when(alternating())
        .retry(Retry::fixed(SECOND).times(5));
    let mut runs = job.runs();
    job.await.unwrap();
    let run = runs.next().await.unwrap();
    assert_eq!((run.attempt, run.outcome.to_string()), (1, "failed: no".to_owned()));
}

#[tokio::test]
async fn it_is_asked_before_blocking_work_and_may_be_changed() {
    let scheduler = Scheduler::new();
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let mut job = scheduler
        .add(every(Duration::from_millis(5)).times(200), blocking(|| {}))
        .when(move || gate.load(Ordering::SeqCst));
    let mut runs = job.runs();
    let job = job.await.unwrap();
    let outcome = async |runs: &mut punctual::Runs| runs.next().await.unwrap().outcome;
    assert!(matches!(outcome(&mut runs).await, Outcome::Skipped(SkipReason::Condition)));
    open.store(true, Ordering::SeqCst);
    while !outcome(&mut runs).await.is_success() {}
    job.modify(|settings| settings.when(|| false)).await.unwrap();
    while outcome(&mut runs).await.is_success() {}
    job.remove().await.unwrap();
}

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Task for Nothing {
    const NAME: &'static str = "nothing";
    type Output = ();

    async fn run(self, _: Context) {}
}

#[tokio::test(start_paused = true)]
async fn a_store_can_not_keep_it() {
    let store = MemoryStore::new();
    let scheduler = Scheduler::builder().store(store).task::<Nothing>().start().await.unwrap();
    let error = scheduler.add(every(SECOND), Nothing).when(|| true).await.unwrap_err();
    assert!(error.is_invalid_option(), "{error}");
    assert!(error.to_string().contains("`when`") && error.to_string().contains("`.in_memory()`"));
    let job = scheduler.add(every(SECOND), Nothing).await.unwrap();
    let error = job.modify(|settings| settings.when(|| true)).await.unwrap_err();
    assert!(error.to_string().contains("`when`"), "{error}");

    // The remedy.
    let once = scheduler.add_once(after(SECOND), Nothing).when(|| false).in_memory();
    let error = once.await.unwrap().await.unwrap_err();
    assert!(error.is_cancelled() && error.to_string().contains("condition"), "{error}");
    scheduler.shutdown().await;
}
