//! What a run can do with its own scheduler and job.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual::{
    Context, End, EventKind, EventPayload, OnConflict, Scheduler, SkipReason,
    trigger::{after, every, now},
};
use tokio::time::{Instant, sleep};

use crate::{
    SECOND, counter, get,
    handles::{Log, half},
};

#[tokio::test(start_paused = true)]
async fn a_run_has_the_handle_of_its_own_job_and_not_of_the_one_that_took_its_place() {
    let scheduler = Scheduler::new();
    let limited = |cx: Context| async move {
        if cx.run_id().to_string() == "3" {
            cx.job().remove().await.unwrap();
        }
    };
    let job = scheduler.add(every(SECOND), limited).await.unwrap();
    assert!(matches!(job.await, End::Removed));

    let (sender, removed) = tokio::sync::oneshot::channel();
    let replaced = scheduler.add_once(now(), |cx: Context| async move {
        cx.cancelled().await;
        sender.send(cx.job().remove().await.unwrap_err()).unwrap();
    });
    replaced.id("job").await.unwrap();
    half().await;
    let next = scheduler.add(every(SECOND), || async {}).id("job");
    let next = next.on_conflict(OnConflict::Replace).await.unwrap();
    assert!(removed.await.unwrap().is_gone());
    assert!(next.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_once_more_when_its_run_asks_for_that() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let note = log.work();
    // The request keeps a job alive whose trigger has no fire time left.
    let thrice = {
        let note = note.clone();
        move |cx: Context| {
            let note = note.clone();
            async move {
                note().await;
                assert_eq!(cx.on_request(), cx.run_id().to_string() != "1");
                if cx.run_id().to_string() != "3" {
                    cx.again_in(10 * SECOND).unwrap();
                }
            }
        }
    };
    let job = scheduler.add(after(SECOND), thrice).await.unwrap();
    sleep(2 * SECOND).await;
    let next = job.next_fire().await.unwrap().unwrap();
    assert_eq!(scheduler.next_fire().await.unwrap(), Some(next));
    assert!(matches!(job.await, End::Completed));
    assert_eq!(log.take(), [1, 11, 21]);
}

#[tokio::test(start_paused = true)]
async fn an_extra_run_leaves_the_fire_times_alone_and_waits_for_its_turn() {
    let scheduler = Scheduler::new();
    let runs = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let log = runs.clone();
    let work = move |cx: Context| {
        let log = log.clone();
        async move {
            log.lock().unwrap().push((start.elapsed().as_secs(), cx.on_request()));
            if !cx.on_request() {
                // The earlier request counts, and waits for this run to end.
                cx.again_in(4 * SECOND).unwrap();
                cx.again_in(Duration::ZERO).unwrap();
                cx.again_in(8 * SECOND).unwrap();
                sleep(3 * SECOND).await;
            }
        }
    };
    let job = scheduler.add(every(10 * SECOND), work).await.unwrap();
    sleep(25 * SECOND).await;
    let expected = [(10, false), (13, true), (20, false), (23, true)];
    assert_eq!(*runs.lock().unwrap(), expected);
    job.remove().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn repeated_requests_of_a_run_make_one_extra_run() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let note = log.work();
    let work = move |cx: Context| {
        let note = note.clone();
        async move {
            note().await;
            for _ in 0..500 {
                if !cx.on_request() {
                    cx.again_in(SECOND / 1000).unwrap();
                }
                sleep(SECOND / 100).await;
            }
        }
    };
    let job = scheduler.add(after(SECOND), work).await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert_eq!(log.take(), [1, 6]);
}

#[tokio::test(start_paused = true)]
async fn an_extra_run_stays_due_while_paused_and_ends_with_its_job() {
    let scheduler = Scheduler::new();
    let log = Log::new();
    let again = {
        let note = log.work();
        move |cx: Context| {
            let note = note.clone();
            async move {
                note().await;
                if !cx.on_request() {
                    cx.again_in(2 * SECOND).unwrap();
                }
            }
        }
    };
    let job = scheduler.add(after(SECOND), again.clone()).await.unwrap();
    half().await;
    sleep(SECOND).await;
    job.pause().await.unwrap();
    sleep(4 * SECOND).await;
    assert_eq!(log.take(), [1]);
    job.resume().await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert_eq!(log.take(), [5]);

    let start = Instant::now();
    let job = scheduler.add(after(SECOND), again.clone()).await.unwrap();
    sleep(SECOND + SECOND / 2).await;
    scheduler.pause().await.unwrap();
    sleep(4 * SECOND).await;
    scheduler.resume().await.unwrap();
    job.await;
    assert_eq!(start.elapsed().as_secs(), 5);
    log.take();

    let mut skipped = scheduler.events_matching(EventKind::Skipped);
    let job = scheduler.add(after(SECOND), again).await.unwrap();
    sleep(SECOND + SECOND / 2).await;
    scheduler.pause().await.unwrap();
    sleep(4 * SECOND).await;
    job.remove().await.unwrap();
    // The requested run was due and had not begun.
    let EventPayload::Skipped { reason: SkipReason::Removed, fire_times, .. } =
        skipped.next().await.unwrap().payload
    else {
        panic!("another fate")
    };
    assert_eq!(fire_times.count, 1);
    assert_eq!(log.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn running_again_is_an_error_where_it_is_impossible() {
    let scheduler = Scheduler::new();
    let once = scheduler.add_once(now(), |cx: Context| async move { cx.again_in(SECOND) });
    let error = once.await.unwrap().await.unwrap().unwrap_err();
    assert!(error.is_invalid_option() && error.to_string().contains("use `add`"), "{error}");

    let (sender, contexts) = std::sync::mpsc::channel();
    let job = scheduler.add(now(), move |cx: Context| {
        let sender = sender.clone();
        async move { sender.send(cx).unwrap() }
    });
    job.await.unwrap().await;
    let over = contexts.recv().unwrap();
    assert!(over.again_in(SECOND).unwrap_err().is_gone());
    assert!(over.again_in(Duration::MAX).unwrap_err().is_invalid_option());
    scheduler.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_removes_itself_ends_after_that_run() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let job = scheduler
        .add(every(SECOND), move |cx: Context| async move {
            work().await;
            cx.scheduler().job(cx.job_id()).remove().await
        })
        .await
        .unwrap();
    assert!(matches!(job.await, End::Removed));
    sleep(5 * SECOND).await;
    assert_eq!(get(&count), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_adds_another() {
    let scheduler = Scheduler::new();
    let answer = scheduler
        .add_once(after(SECOND), |cx: Context| async move {
            cx.scheduler().add_once(after(SECOND), async { 42 }).await
        })
        .await
        .unwrap();
    assert_eq!(answer.await.unwrap().unwrap().await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn a_context_does_not_keep_its_scheduler_open() {
    let scheduler = Scheduler::new();
    let job = scheduler.add(every(SECOND), || async {}).await.unwrap();
    scheduler
        .add(now(), |cx: Context| async move {
            let scheduler = cx.scheduler();
            sleep(3600 * SECOND).await;
            assert!(scheduler.add(now(), || async {}).await.unwrap_err().is_shut_down());
        })
        .await
        .unwrap();
    sleep(2 * SECOND).await;
    drop(scheduler);
    let started = Instant::now();
    assert!(matches!(job.await, End::ShutDown));
    assert_eq!(started.elapsed(), Duration::ZERO);
}
