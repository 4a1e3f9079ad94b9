//! The limits of runs and their queues: overlap, groups, executors; and the errors of misuse.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use punctual::{
    AsyncExecutor, BlockingPool, Context, EventFilter, EventKind, EventPayload, OnConflict,
    Outcome, Overlap, Run, Scheduler, SkipReason, blocking,
    chrono::{TimeDelta, Utc},
    trigger::{after, after_success, at, every, now},
};
use tokio::time::sleep;

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

/// When each job began and ended, in seconds since the start.
#[derive(Clone, Default)]
struct Log {
    said: Arc<Mutex<Vec<Said>>>,
}

/// A job, its event, and the second of the event since the start.
type Said = (String, &'static str, i64);

impl Log {
    fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.said.lock().unwrap())
    }

    /// Work that takes this many seconds. It logs its begin, its end, and its drop.
    fn work(
        &self,
        seconds: u64,
    ) -> impl FnOnce(Context) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    + Clone
    + Send
    + 'static {
        struct Dropped(Option<(Log, String, tokio::time::Instant)>, tokio::time::Instant);
        impl Drop for Dropped {
            fn drop(&mut self) {
                if let Some((log, id, began)) = self.0.take() {
                    let t = (began - self.1 + began.elapsed()).as_secs() as i64;
                    log.said.lock().unwrap().push((id, "dropped", t));
                }
            }
        }
        let (log, zero) = (self.clone(), tokio::time::Instant::now());
        move |cx: Context| {
            Box::pin(async move {
                let id = cx.job_id().to_string();
                let since = |t: tokio::time::Instant| (t - zero).as_secs() as i64;
                let began = tokio::time::Instant::now();
                log.said.lock().unwrap().push((id.clone(), "began", since(began)));
                let mut dropped = Dropped(Some((log.clone(), id.clone(), began)), zero);
                sleep(SECOND * seconds as u32).await;
                dropped.0 = None;
                log.said.lock().unwrap().push((id, "ended", since(tokio::time::Instant::now())));
            })
        }
    }
}

fn said(log: &[(&str, &'static str, i64)]) -> Vec<Said> {
    log.iter().map(|&(id, what, t)| (id.to_owned(), what, t)).collect()
}

/// Collects skipped fire times, in seconds since the start, with the reasons.
fn skips(scheduler: &Scheduler) -> Arc<Mutex<Vec<(i64, SkipReason)>>> {
    let skips = Arc::new(Mutex::new(Vec::new()));
    let start = Utc::now();
    let sink = skips.clone();
    scheduler
        .on_event(EventFilter::new().kinds([EventKind::Skipped]), move |event| {
            if let EventPayload::Skipped { fire_times, reason, .. } = event.payload {
                let second = (fire_times.first - start).num_seconds();
                sink.lock().unwrap().push((second, reason));
            }
        })
        .unwrap();
    skips
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_permit_waits_in_line_and_what_finds_no_line_is_skipped() {
    let scheduler = Scheduler::new();
    let (log, skips) = (Log::default(), skips(&scheduler));
    // Due at 1, 2, 3, 4 and 5; each takes 3 s.
    let job = scheduler
        .add(every(SECOND).times(5), log.work(3))
        .id("a")
        .overlap(Overlap::Queue(2))
        .await
        .unwrap();
    job.await;
    tokio::task::yield_now().await;
    let began: Vec<i64> =
        log.take().into_iter().filter(|said| said.1 == "began").map(|said| said.2).collect();
    // 1 begins at once; 2 and 3 are queued; 4 comes just as the first ends, and is queued or not; 5
    // is not.
    assert_eq!(began[..3], [1, 4, 7]);
    let skips = skips.lock().unwrap();
    assert!(skips.iter().all(|(_, reason)| *reason == SkipReason::QueueFull), "{skips:?}");
    assert_eq!(began.len() + skips.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_previous_run_is_cancelled_and_the_newest_waits_first_in_line() {
    let scheduler = Scheduler::new();
    let (log, skips) = (Log::default(), skips(&scheduler));
    // Due at 2, 4 and 6; the runs ignore that they are cancelled for their grace of 3 s.
    let job = scheduler
        .add(every(2 * SECOND).times(3), log.work(100))
        .id("a")
        .overlap(Overlap::CancelPrevious)
        .cancel_grace(3 * SECOND)
        .await
        .unwrap();
    sleep(Duration::from_millis(12_500)).await;
    job.cancel_token().cancel();
    job.await;
    // At 4 the first run is cancelled; at 6 the fire time of 4 still waits and is superseded; at 7
    // the first run is dropped, and the last begins.
    assert_eq!(
        log.take(),
        said(&[("a", "began", 2), ("a", "dropped", 7), ("a", "began", 7), ("a", "dropped", 15)])
    );
    let skips = skips.lock().unwrap();
    assert_eq!(skips.len(), 1);
    assert_eq!(skips[0].1, SkipReason::Superseded);
}

#[tokio::test(start_paused = true)]
async fn a_group_has_room_for_so_many_in_order_of_fire_time_then_priority() {
    let scheduler = Scheduler::new();
    let log = Log::default();
    let due = Utc::now() + TimeDelta::seconds(1);
    let job = |id: &str, later: i64, priority: i32| {
        let trigger = at(due + TimeDelta::milliseconds(later));
        scheduler.add(trigger, log.work(10)).id(id).group("db", 1).priority(priority)
    };
    let jobs = [job("late", 20, 9), job("first", 0, 5), job("low", 10, 1), job("high", 10, 2)];
    let jobs = scheduler.add_all(jobs).await.unwrap();
    for job in jobs {
        job.await;
    }
    let order: Vec<_> = log.take().into_iter().filter(|said| said.1 == "began").collect();
    assert_eq!(
        order,
        said(&[
            ("first", "began", 1),
            ("high", "began", 11),
            ("low", "began", 21),
            ("late", "began", 31)
        ])
    );
    // The group is removed with its last job, and may be created with another limit.
    let again = scheduler.add(now(), || async {}).group("db", 2).await.unwrap();
    let other = scheduler.add(now(), || async {}).group("db", 3).await;
    let error = other.unwrap_err();
    assert!(
        error.is_invalid_option() && error.to_string().contains("a limit of 2, not 3"),
        "{error}"
    );
    again.await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_too_long_for_room_is_missed() {
    let scheduler = Scheduler::builder()
        .add_executor("one", AsyncExecutor::new().max_running(1))
        .start()
        .await
        .unwrap();
    let log = Log::default();
    let job = |grace: u64| {
        scheduler
            .add(after(SECOND), log.work(10))
            .executor("one")
            .misfire_grace_time(Duration::from_secs(grace))
    };
    let (first, mut patient, mut hasty) = (job(1).await.unwrap(), job(10), job(9));
    let (mut patient_runs, mut hasty_runs) = (patient.runs(), hasty.runs());
    let (patient, hasty) = (patient.await.unwrap(), hasty.await.unwrap());
    first.await;
    hasty.await;
    patient.await;
    assert!(matches!(patient_runs.next().await.unwrap().outcome, Outcome::Succeeded));
    assert!(matches!(hasty_runs.next().await.unwrap().outcome, Outcome::Missed));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_room_is_skipped_when_its_job_is_paused_or_removed() {
    let scheduler = Scheduler::new();
    let (log, skips) = (Log::default(), skips(&scheduler));
    let job = |id: &str| scheduler.add(after(SECOND), log.work(10)).id(id).group("g", 1);
    let going = job("going").await.unwrap();
    let paused = job("paused").await.unwrap();
    let removed = job("removed").await.unwrap();
    sleep(2 * SECOND).await;
    paused.pause().await.unwrap();
    removed.remove().await.unwrap();
    removed.await;
    going.await;
    tokio::task::yield_now().await;
    assert_eq!(log.take(), said(&[("going", "began", 1), ("going", "ended", 11)]));
    let reasons: Vec<_> = skips.lock().unwrap().iter().map(|skip| skip.1).collect();
    assert_eq!(reasons, [SkipReason::Paused, SkipReason::Removed]);
}

#[tokio::test]
async fn a_blocking_pool_has_named_threads_and_runs_so_many_at_once() {
    let scheduler = Scheduler::new();
    let pool = BlockingPool::new(2).thread_name("crunch");
    scheduler.add_executor("crunch", pool).await.unwrap();
    let (going, most) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (enter, leave) = std::sync::mpsc::channel::<()>();
    let leave = Arc::new(Mutex::new(leave));
    let jobs = (0..6).map(|_| {
        let (going, most, leave) = (going.clone(), most.clone(), leave.clone());
        let work = blocking(move || {
            assert_eq!(std::thread::current().name(), Some("crunch"));
            let now = {
                let mut going = going.lock().unwrap();
                *going += 1;
                *going
            };
            let mut most = most.lock().unwrap();
            *most = now.max(*most);
            drop(most);
            // Two runs at a time continue.
            leave.lock().unwrap().recv().unwrap();
            *going.lock().unwrap() -= 1;
        });
        scheduler.add(now(), work).executor("crunch")
    });
    let jobs = scheduler.add_all(jobs).await.unwrap();
    for _ in 0..6 {
        enter.send(()).unwrap();
    }
    for job in jobs {
        job.await;
    }
    assert!((1..=2).contains(&*most.lock().unwrap()), "{most:?}");
    assert_eq!(scheduler.metrics().succeeded, 6);
    scheduler.remove_executor("crunch").await.unwrap();
}

#[tokio::test]
async fn work_that_blocks_sees_that_it_is_cancelled_and_may_time_out() {
    let scheduler = Scheduler::new();
    let until_cancelled = || {
        blocking(|cx: Context| {
            while !cx.is_cancelled() {
                std::thread::yield_now();
            }
        })
    };
    let mut timed_out = scheduler.add(now(), until_cancelled()).timeout(Duration::from_millis(20));
    let mut runs = timed_out.runs();
    timed_out.await.unwrap().await;
    assert!(matches!(runs.next().await.unwrap().outcome, Outcome::TimedOut));

    let job = scheduler.add(now(), until_cancelled()).await.unwrap();
    while job.get().await.unwrap().running == 0 {
        tokio::task::yield_now().await;
    }
    job.cancel_token().cancel();
    job.await;

    let mut panics = scheduler.add(now(), blocking(|| -> () { panic!("off") }));
    let mut runs = panics.runs();
    panics.await.unwrap().await;
    let Some(run) = runs.next().await else { panic!("one run") };
    assert!(matches!(run.outcome, Outcome::Panicked(said) if &*said == "off"));
}

#[tokio::test(start_paused = true)]
async fn misuse_says_what_is_wrong() {
    let scheduler = Scheduler::new();
    let refused = async |add: punctual::Add| {
        let error = add.await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
        error.to_string()
    };
    let plain = || scheduler.add(every(SECOND), || async {});
    let text = refused(plain().executor("nowhere")).await;
    assert_eq!(
        text,
        "there is no executor `nowhere`, but `blocking`, `default`: add it first, with `scheduler.add_executor(\"nowhere\", ..)`"
    );
    let text = refused(plain().executor("blocking")).await;
    assert!(text.contains("an async closure can't run on a blocking pool"), "{text}");
    let text = refused(scheduler.add(now(), blocking(|| {})).executor("default")).await;
    assert!(text.contains("work that blocks can't run on an async executor"), "{text}");
    refused(plain().overlap(Overlap::Queue(0))).await;
    refused(plain().timeout(Duration::ZERO)).await;
    refused(plain().group("g", 0)).await;
    refused(plain().history(1001)).await;

    let taken = scheduler.add_executor("default", AsyncExecutor::new()).await.unwrap_err();
    assert!(taken.to_string().contains("already"), "{taken}");
    let empty = scheduler.add_executor("none", BlockingPool::new(0)).await.unwrap_err();
    assert!(empty.is_invalid_option(), "{empty}");
    scheduler.add_executor("mine", AsyncExecutor::new()).await.unwrap();
    let job = plain().executor("mine").await.unwrap();
    let used = scheduler.remove_executor("mine").await.unwrap_err();
    assert!(used.to_string().contains("is used by jobs"), "{used}");
    job.modify(|settings| settings.executor("default")).await.unwrap();
    scheduler.remove_executor("mine").await.unwrap();
    assert!(scheduler.remove_executor("mine").await.is_err());
    let wrong = job.modify(|settings| settings.executor("mine")).await.unwrap_err();
    assert!(wrong.is_invalid_option(), "{wrong}");

    let unknown = Scheduler::builder().executor("nowhere").start().await.unwrap_err();
    assert!(unknown.is_invalid_option(), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_goes_by_the_options_that_its_job_is_given_meanwhile() {
    let scheduler = Scheduler::new();
    let log = Log::default();
    let going = scheduler.add(after(SECOND), log.work(10)).id("going").group("g", 1).await.unwrap();
    let waits = scheduler.add(after(SECOND), log.work(1)).id("waits").group("g", 1).await.unwrap();
    sleep(2 * SECOND).await;
    waits.modify(|settings| settings.group("h", 1)).await.unwrap();
    waits.await;
    going.await;
    let began = said(&[("going", "began", 1), ("waits", "began", 2)]);
    assert_eq!(log.take()[..2], began);
}

#[tokio::test(start_paused = true)]
async fn a_body_longer_than_its_interval_skips_and_says_so() {
    let scheduler = Scheduler::new();
    let skipped = scheduler.events_matching(EventFilter::new().kinds([EventKind::Skipped]));
    let mut add = scheduler.add(every(SECOND).times(10), || sleep(Duration::from_millis(2500)));
    let runs = add.runs();
    add.await.unwrap().await;
    let runs: Vec<Run> = runs.collect().await;
    let grid: Vec<_> = runs.windows(2).map(|w| w[1].fire_time - w[0].fire_time).collect();
    assert_eq!(grid, [TimeDelta::seconds(3); 3], "it runs at every third fire time");
    scheduler.shutdown().await;
    let reasons: Vec<_> = skipped
        .map(|event| match event.payload {
            EventPayload::Skipped { reason, .. } => reason,
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(reasons, [SkipReason::MaxInstances; 6]);
}

#[tokio::test(start_paused = true)]
async fn run_now_starts_while_the_scheduler_is_paused_although_a_fire_time_waits() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let job = scheduler
        .add(every(SECOND).times(2), move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(5 * SECOND).await;
        })
        .overlap(Overlap::Queue(5))
        .await
        .unwrap();
    sleep(3 * SECOND).await; // one runs, one waits
    scheduler.pause().await.unwrap();
    job.run_now().await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "`run_now` still works while paused");
}

#[tokio::test(start_paused = true)]
async fn more_instances_given_while_paused_count_on_resume() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let job = scheduler
        .add(every(SECOND).times(2), move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(3600 * SECOND).await;
        })
        .overlap(Overlap::Queue(5))
        .await
        .unwrap();
    sleep(3 * SECOND).await; // one runs, one waits
    scheduler.pause().await.unwrap();
    job.modify(|settings| settings.max_instances(2)).await.unwrap();
    scheduler.resume().await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "there is a permit, and somebody waits for it");
}

#[tokio::test(start_paused = true)]
async fn cancel_previous_after_a_change_of_overlap_cancels_the_previous() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let job = scheduler
        .add(every(SECOND).times(4), move |cx: Context| async move {
            count.fetch_add(1, Ordering::SeqCst);
            cx.cancelled().await;
        })
        .overlap(Overlap::Queue(5))
        .await
        .unwrap();
    sleep(2500 * MILLISECOND).await; // one runs, one waits
    job.modify(|settings| settings.overlap(Overlap::CancelPrevious)).await.unwrap();
    sleep(60 * SECOND).await;
    assert!(calls.load(Ordering::SeqCst) > 1, "nobody was cancelled");
}

#[tokio::test(start_paused = true)]
async fn cancel_previous_holds_after_a_pause_of_the_scheduler() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(3600 * SECOND), || async {}).await.unwrap();
    let b = scheduler
        .add(after_success(&a), |cx: Context| async move { cx.cancelled().await })
        .overlap(Overlap::CancelPrevious)
        .await
        .unwrap();
    a.run_now().await.unwrap();
    sleep(SECOND).await;
    scheduler.pause().await.unwrap();
    a.run_now().await.unwrap();
    sleep(SECOND).await;
    scheduler.resume().await.unwrap();
    sleep(SECOND).await;
    a.run_now().await.unwrap();
    sleep(60 * SECOND).await;
    let history = b.history().await.unwrap();
    assert!(!history.is_empty(), "the run of b was never cancelled");
}

#[tokio::test(start_paused = true)]
async fn queues_resume_in_order_of_adding() {
    let scheduler = Scheduler::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in 0..30_u64 {
        let order = order.clone();
        let job = scheduler
            .add(after(100 * SECOND), move |cx: Context| async move {
                if cx.on_request() {
                    sleep(150 * SECOND).await;
                } else {
                    order.lock().unwrap().push(n);
                }
            })
            .overlap(Overlap::Queue(5))
            .await
            .unwrap();
        job.run_now().await.unwrap();
    }
    sleep(120 * SECOND).await; // due at 100: all wait
    scheduler.pause().await.unwrap();
    sleep(60 * SECOND).await; // those asked for end at 150
    scheduler.resume().await.unwrap();
    sleep(SECOND).await;
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 30);
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn jobs_of_one_instant_start_by_priority_then_order_of_adding() {
    let scheduler = Scheduler::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    let jobs: Vec<_> = (0..1000)
        .map(|n| {
            let order = order.clone();
            scheduler
                .add(after(SECOND), move || {
                    order.lock().unwrap().push(n);
                    std::future::ready(())
                })
                .priority(if n == 999 { 10 } else { 0 })
        })
        .collect();
    scheduler.add_all(jobs).await.unwrap();
    sleep(2 * SECOND).await;
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 1000);
    let first = order.iter().position(|&n| n == 999);
    assert!(first == Some(0), "the one of priority 10 came at {first:?}; {:?} ..", &order[..5]);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_group_can_be_changed_by_its_only_job() {
    let scheduler = Scheduler::new();
    let job = scheduler.add(every(SECOND), || async {}).group("db", 4).id("x").await.unwrap();
    let replaced = scheduler
        .add(every(SECOND), || async {})
        .group("db", 8)
        .id("x")
        .on_conflict(OnConflict::Replace)
        .await;
    let modified = job.modify(|settings| settings.group("db", 8)).await;
    assert!(replaced.is_ok(), "{replaced:?}; {modified:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_a_group_its_job_has_left() {
    let scheduler = Scheduler::new();
    scheduler.add(now(), || sleep(3600 * SECOND)).group("g", 1).await.unwrap();
    sleep(SECOND).await;
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let job = scheduler
        .add(every(SECOND), move || async move {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .group("g", 1)
        .await
        .unwrap();
    sleep(5 * SECOND).await;
    job.modify(|settings| settings.group("h", 8)).await.unwrap();
    sleep(100 * SECOND).await;
    assert!(calls.load(Ordering::SeqCst) > 90, "{calls:?} runs in 100 s");
}

#[tokio::test(start_paused = true)]
async fn fifty_thousand_instances_of_a_job_end_in_time() {
    let scheduler = Scheduler::new();
    let job =
        scheduler.add(every(3600 * SECOND), || sleep(SECOND)).max_instances(50_000).await.unwrap();
    for _ in 0..50_000 {
        job.run_now().await.unwrap();
    }
    let begun = std::time::Instant::now();
    sleep(2 * SECOND).await;
    assert_eq!(job.get().await.unwrap().running, 0);
    // Quadratic work took minutes; this takes a fraction of a second.
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
}
