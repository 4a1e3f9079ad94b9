//! A shutdown joins all runs, and reports their outcomes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use punctual::{
    Context, End, EventFilter, EventKind, EventPayload, Scheduler, SkipReason,
    trigger::{after, every, now},
};
use tokio::time::{Instant, sleep};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn the_report_says_which_was_which() {
    let scheduler = Scheduler::builder().cancel_grace(2 * SECOND).start().await.unwrap();
    scheduler.add(now(), || sleep(3 * SECOND)).id("quick").await.unwrap();
    scheduler
        .add(now(), |cx: Context| async move { cx.cancelled().await })
        .id("polite")
        .await
        .unwrap();
    let stubborn = scheduler.add(now(), std::future::pending::<()>).id("stubborn").await.unwrap();
    let never = scheduler.add(after(60 * SECOND), || async {}).await.unwrap();
    sleep(SECOND).await;
    let started = Instant::now();
    let report = scheduler.shutdown().within(10 * SECOND).await;
    assert_eq!(started.elapsed(), 12 * SECOND);
    let jobs = |runs: &[punctual::Run]| -> Vec<String> {
        runs.iter().map(|run| run.job.to_string()).collect()
    };
    assert_eq!(jobs(&report.finished), ["quick"]);
    assert_eq!(jobs(&report.cancelled), ["polite"]);
    assert_eq!(jobs(&report.dropped), ["stubborn"]);
    assert!(report.abandoned.is_empty() && !report.is_clean());
    assert!(matches!(stubborn.await, End::ShutDown));
    assert!(matches!(never.await, End::ShutDown));
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_ends_as_soon_as_the_last_run_does() {
    let scheduler = Scheduler::new();
    scheduler.add(now(), || sleep(3 * SECOND)).await.unwrap();
    sleep(SECOND).await;
    let started = Instant::now();
    assert!(scheduler.shutdown().await.is_clean());
    assert_eq!(started.elapsed(), 2 * SECOND);
    assert!(Scheduler::new().shutdown().await.is_clean());
    assert_eq!(started.elapsed(), 2 * SECOND, "and at once if nothing is going");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_once_it_has_begun_and_what_was_due_says_so() {
    let scheduler = Scheduler::builder().paused().start().await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let fates = scheduler
        .events_matching(EventFilter::new().kinds([EventKind::Skipped, EventKind::Executed]));
    scheduler
        .add(every(SECOND), move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async {}
        })
        .await
        .unwrap();
    sleep(3 * SECOND).await;
    scheduler.shutdown().await;
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let fates: Vec<_> = fates.collect().await;
    let EventPayload::Skipped { fire_times, reason: SkipReason::Shutdown, .. } = fates[0].payload
    else {
        panic!("{fates:?}");
    };
    assert_eq!((fates.len(), fire_times.count), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn giving_up_on_it_leaves_it_going_and_the_shortest_wait_counts() {
    let scheduler = Scheduler::new();
    let job = scheduler
        .add(now(), std::future::pending::<()>)
        .cancel_grace(Duration::ZERO)
        .await
        .unwrap();
    sleep(SECOND).await;
    let started = Instant::now();
    assert!(
        tokio::time::timeout(SECOND, scheduler.shutdown().within(Duration::MAX)).await.is_err()
    );
    let (one, two) = tokio::join!(
        scheduler.shutdown().within(3600 * SECOND).into_future(),
        scheduler.shutdown().within(4 * SECOND).into_future(),
    );
    assert_eq!(started.elapsed(), 5 * SECOND);
    assert_eq!((one.dropped.len(), two.dropped.len()), (1, 1));
    assert!(matches!(job.await, End::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_scheduler_lets_active_runs_finish() {
    let scheduler = Scheduler::new();
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    let going = scheduler
        .add(now(), move |cx: Context| async move {
            sleep(3 * SECOND).await;
            assert!(!cx.is_cancelled());
            assert!(cx.scheduler().add(now(), || async {}).await.unwrap_err().is_shut_down());
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .await
        .unwrap();
    let waiting = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let clone = scheduler.clone();
    sleep(SECOND / 2).await;
    drop(scheduler);
    assert!(waiting.get().await.is_ok(), "a clone is left");
    drop(clone);
    assert!(waiting.pause().await.unwrap_err().is_shut_down());
    assert!(matches!(waiting.await, End::ShutDown));
    let started = Instant::now();
    assert!(matches!(going.await, End::ShutDown));
    assert_eq!(started.elapsed(), 2 * SECOND + SECOND / 2);
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[test]
fn a_run_that_blocks_its_thread_is_abandoned_and_counted_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let scheduler = Scheduler::builder().cancel_grace(Duration::ZERO).start().await.unwrap();
        let events = scheduler.events();
        // The thread is really blocked for as long as the shutdown takes.
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = Arc::new(std::sync::Mutex::new(blocked));
        let (started, mut has_started) = tokio::sync::mpsc::channel(1);
        let job = scheduler
            .add(now(), move || async move {
                started.send(()).await.unwrap();
                let _ = blocked.lock().unwrap().recv();
            })
            .await
            .unwrap();
        has_started.recv().await.unwrap();
        let report = scheduler.shutdown().within(Duration::ZERO).await;
        assert_eq!(report.abandoned.len(), 1, "{report}");
        assert!(matches!(job.await, End::ShutDown));
        drop(release);
        let outcomes = events.filter(|event| {
            let kind = event.payload.kind();
            std::future::ready(matches!(kind, EventKind::Abandoned | EventKind::Executed))
        });
        assert_eq!(outcomes.count().await, 1);
    });
}

/// Returns the log of this thread from here on, as text.
fn logged() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines.0, tracing::subscriber::set_default(subscriber))
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_scheduler_with_jobs_left_is_logged_once() {
    let (lines, _guard) = logged();
    let take = || String::from_utf8(std::mem::take(&mut *lines.lock().unwrap())).unwrap();
    {
        let scheduler = Scheduler::new();
        let clone = scheduler.clone();
        scheduler.add(every(SECOND), || async {}).await.unwrap();
        clone.add(after(SECOND), || async {}).await.unwrap();
        drop(scheduler);
        assert_eq!(take(), "");
    }
    let line = take();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in
        ["WARN punctual", "2 jobs were left", "keep the `Scheduler`", "`shutdown()`", "jobs=2"]
    {
        assert!(line.contains(part), "{line} does not say {part}");
    }
    // Ended jobs, and an orderly shutdown, log nothing.
    let scheduler = Scheduler::new();
    scheduler.add(after(SECOND), || async {}).await.unwrap().await;
    drop(scheduler);
    let scheduler = Scheduler::new();
    scheduler.add(every(SECOND), || async {}).await.unwrap();
    scheduler.shutdown().await;
    drop(scheduler);
    assert_eq!(take(), "");
}

/// In a debug build, removing a timer from Tokio's queue takes time in proportion to the length of
/// the queue: removing these one by one took 17 s.
#[tokio::test]
async fn a_hundred_thousand_jobs_are_shut_down_or_removed_at_once() {
    const JOBS: usize = 100_000;
    let filled = async || {
        let scheduler = Scheduler::new();
        // All timers are in one slot of the queue.
        let add = (0..JOBS).map(|_| scheduler.add(after(3600 * SECOND), || async {}));
        scheduler.add_all(add).await.unwrap();
        // When this job has run, the driver has set the timers.
        scheduler.add(now(), || async {}).await.unwrap().await;
        scheduler
    };
    let scheduler = filled().await;
    let started = Instant::now();
    assert!(scheduler.shutdown().await.is_clean());
    assert!(started.elapsed() < 3 * SECOND, "{:?}", started.elapsed());

    let scheduler = filled().await;
    let started = Instant::now();
    scheduler.remove_all().await.unwrap();
    // The driver handles due jobs after it has removed the timers.
    scheduler.add(now(), || async {}).await.unwrap().await;
    assert!(started.elapsed() < 3 * SECOND, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_shuts_the_scheduler_down_is_not_waited_for() {
    let scheduler = Scheduler::new();
    let other = scheduler.add(now(), || sleep(3 * SECOND)).await.unwrap();
    let report = scheduler
        .add_once(after(SECOND), |cx: Context| async move { cx.scheduler().shutdown().await })
        .await
        .unwrap();
    let report = report.await.unwrap();
    assert_eq!(report.finished.len(), 1, "{report}");
    assert!(matches!(other.await, End::ShutDown | End::Completed));
    assert!(scheduler.add(now(), || async {}).await.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_shuts_down_its_scheduler_has_its_fate_in_an_event() {
    let scheduler = Scheduler::new();
    let events = scheduler.events();
    let job = scheduler
        .add_once(after(SECOND), |cx: Context| async move {
            cx.scheduler().shutdown().await;
            sleep(SECOND).await;
        })
        .await
        .unwrap();
    job.await.unwrap();
    let kinds: Vec<_> = events.map(|event| event.payload.kind()).collect().await;
    assert!(kinds.ends_with(&[EventKind::ShutDown, EventKind::Executed]), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_cancel_grace_in_a_shutdown() {
    let scheduler = Scheduler::new();
    let job = scheduler
        .add(every(SECOND), |cx: Context| async move {
            cx.cancelled().await;
            sleep(5 * SECOND).await;
        })
        .cancel_grace(10 * SECOND)
        .await
        .unwrap();
    sleep(1500 * MILLISECOND).await;
    job.modify(|settings| settings.cancel_grace(Duration::ZERO)).await.unwrap();
    let report = scheduler.shutdown().within(SECOND).await;
    assert_eq!(
        report.to_string(),
        "0 finished, 1 cancelled, 0 dropped, 0 abandoned, 0 not started"
    );
}
