//! What users do that nobody thought of: corners in which runs, permits or jobs were once lost.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context as Cx, Wake, Waker},
    time::Duration,
};

use futures::FutureExt as _;
use punctual::{
    BlockingPool, BoxError, Coalesce, Context, End, EventFilter, EventKind, EventPayload,
    OnConflict, Overlap, Retry, Scheduler, blocking,
    chrono::TimeDelta,
    testing::ManualClock,
    trigger::{after, after_any, after_success, every, now},
};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn shutdown_with_an_idle_follower() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let b = scheduler.add(after_success(&a), || async {}).await.unwrap();
    let report = timeout(60 * SECOND, scheduler.shutdown()).await.unwrap();
    assert!(report.is_clean());
    assert!(matches!(b.await, End::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn remove_all_with_an_idle_follower() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let b = scheduler.add(after_success(&a), || async {}).await.unwrap();
    assert_eq!(scheduler.remove_all().await.unwrap(), 2);
    assert!(matches!(b.await, End::Removed));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_scheduler_with_an_idle_follower() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let b = scheduler.add(after_success(&a), || async {}).await.unwrap();
    drop(scheduler);
    assert!(matches!(timeout(SECOND, b).await.unwrap(), End::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn a_once_job_that_follows_runs_once_and_ends() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND).times(3), || async {}).await.unwrap();
    let mut once = scheduler.add_once(after_success(&a), async { 7 });
    let mut runs = once.runs();
    let once = once.await.unwrap();
    let began = tokio::time::Instant::now();
    let value = once.await;
    let took = began.elapsed();
    let mut outcomes = Vec::new();
    while let Some(run) = runs.next().await {
        outcomes.push(run.outcome.to_string());
    }
    assert_eq!((value.unwrap(), outcomes), (7, vec!["succeeded".to_owned()]));
    assert!(took < 2 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn run_now_of_a_once_job_that_follows() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let once = scheduler.add_once(after_success(&a), async { 7 }).await.unwrap();
    once.run_now().await.unwrap();
}

#[tokio::test]
async fn modify_to_an_executor_of_the_wrong_kind_is_refused() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let mut job = scheduler.add(
        every(20 * MS).times(2),
        blocking(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }),
    );
    let mut runs = job.runs();
    let job = job.await.unwrap();
    let modified = job.modify(|settings| settings.executor("default")).await;
    job.await;
    let outcome = runs.next().await.unwrap().outcome.to_string();
    assert!(modified.is_err(), "modified; the run: {outcome}, calls: {calls:?}");
}

struct Calls(Scheduler);

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.0.len();
    }
}

#[test]
fn options_dropped_under_the_lock_deadlock() {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
            async {
                let scheduler = Scheduler::new();
                let calls = Calls(scheduler.clone());
                let retry = Retry::fixed(SECOND).only_if(move |_| {
                    let _ = &calls;
                    true
                });
                let job = scheduler.add(every(SECOND), || async {}).retry(retry).await.unwrap();
                job.remove().await.unwrap();
            },
        );
        done.send(()).unwrap();
    });
    wait.recv_timeout(5 * SECOND).expect("deadlock");
}

struct Panics;

impl Drop for Panics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("when dropped");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_panics_when_dropped_kills_nobody_else() {
    let scheduler = Scheduler::new();
    let panics = Panics;
    let retry = Retry::fixed(SECOND).only_if(move |_| {
        let _ = &panics;
        true
    });
    let other = scheduler.add(every(10 * SECOND).times(2), || async {}).await.unwrap();
    let paused = scheduler
        .add(after(SECOND), || async {})
        .retry(retry)
        .misfire_grace_time(SECOND)
        .await
        .unwrap();
    let token = paused.cancel_token();
    drop(paused);
    // The driver's own verb.
    token.cancel();
    assert!(matches!(timeout(60 * SECOND, other).await.unwrap(), End::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_condition_whose_panic_payload_panics_loses_no_run() {
    let scheduler = Scheduler::new();
    let retry = Retry::fixed(SECOND).only_if(|_| std::panic::panic_any(Panics));
    let mut job =
        scheduler.add(now(), || async { Err::<(), _>(BoxError::from("no")) }).retry(retry);
    let mut runs = job.runs();
    let job = job.await.unwrap();
    assert!(timeout(60 * SECOND, job).await.is_ok(), "the run's end was lost");
    assert!(runs.next().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn add_all_adds_none_if_its_groups_disagree() {
    let scheduler = Scheduler::new();
    let jobs = [
        scheduler.add(every(SECOND), || async {}).group("db", 4),
        scheduler.add(every(SECOND), || async {}).group("db", 5),
    ];
    assert!(scheduler.add_all(jobs).await.is_err());
    assert_eq!(scheduler.len(), 0, "all of them, or none");
}

#[tokio::test(start_paused = true)]
async fn a_clock_step_does_not_make_a_run_late_that_waits_for_room() {
    let clock = ManualClock::running("2026-01-01T00:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    scheduler.add(now(), || sleep(10 * SECOND)).group("g", 1).await.unwrap();
    sleep(SECOND).await;
    let mut job = scheduler
        .add(every(SECOND).times(1), || async {})
        .group("g", 1)
        .misfire_grace_time(60 * SECOND);
    let mut runs = job.runs();
    job.await.unwrap();
    sleep(5 * SECOND).await;
    clock.step(TimeDelta::hours(1));
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{} {:?}", run.outcome, run.late_by);
}

#[tokio::test(start_paused = true)]
async fn the_same_in_the_queue_of_the_job() {
    let clock = ManualClock::running("2026-01-01T00:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    let mut job = scheduler
        .add(every(SECOND).times(2), || sleep(10 * SECOND))
        .overlap(Overlap::Queue(5))
        .misfire_grace_time(60 * SECOND);
    let mut runs = job.runs();
    job.await.unwrap();
    sleep(5 * SECOND).await;
    clock.step(TimeDelta::hours(1));
    runs.next().await.unwrap();
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{} {:?}", run.outcome, run.late_by);
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
async fn a_replaced_job_is_followed_with_its_output() {
    let scheduler = Scheduler::new();
    let work = || async { Ok::<u32, BoxError>(17) };
    scheduler.add(every(3600 * SECOND), work).id("a").await.unwrap();
    let seen = Arc::new(Mutex::new(None));
    let sink = seen.clone();
    scheduler
        .add(after_success("a"), move |cx: Context| async move {
            *sink.lock().unwrap() = cx.preceding().map(|p| p.output::<u32>().copied());
        })
        .await
        .unwrap();
    scheduler.add(every(SECOND), work).id("a").on_conflict(OnConflict::Replace).await.unwrap();
    sleep(1500 * MS).await;
    assert_eq!(*seen.lock().unwrap(), Some(Some(17)));
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_runs_token_asks_it_to_stop_for_good() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let job = scheduler
        .add(now(), move |cx: Context| async move {
            count.fetch_add(1, Ordering::SeqCst);
            let token = cx.cancellation_token();
            tokio::spawn(async move {
                sleep(SECOND).await;
                token.cancel();
            });
            cx.cancelled().await;
            Err::<(), _>(BoxError::from("asked to stop"))
        })
        .retry(Retry::fixed(SECOND).times(2))
        .await
        .unwrap();
    job.await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn blocking_work_may_spawn_and_block_on_the_runtime() {
    let scheduler = Scheduler::new();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let mut job = scheduler.add(
        now(),
        blocking(move || {
            let sender = sender.lock().unwrap().take().unwrap();
            tokio::spawn(async move { sender.send(()) });
        }),
    );
    let mut runs = job.runs();
    job.await.unwrap().await;
    assert!(runs.next().await.unwrap().outcome.is_success());
    assert!(
        matches!(timeout(SECOND, receiver).await, Ok(Ok(()))),
        "what was spawned is never polled"
    );
}

#[tokio::test]
async fn blocking_work_may_sleep_by_the_handle() {
    let scheduler = Scheduler::new();
    let mut job = scheduler.add(
        now(),
        blocking(|| tokio::runtime::Handle::current().block_on(async { sleep(MS).await })),
    );
    let mut runs = job.runs();
    job.await.unwrap().await;
    let outcome = runs.next().await.unwrap().outcome;
    assert!(outcome.is_success(), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn blocking_work_under_paused_time_is_no_clock_step() {
    let scheduler = Scheduler::new();
    let mut events = scheduler.events_matching(EventFilter::new().kinds([EventKind::ClockStepped]));
    sleep(3600 * SECOND).await;
    let mut job =
        scheduler.add(every(SECOND).times(2), blocking(|| {})).misfire_grace_time(60 * SECOND);
    let mut runs = job.runs();
    let info = job.await.unwrap();
    let next = info.get().await.unwrap().next_fire.unwrap();
    let run = runs.next().await.unwrap();
    let stepped = timeout(MS, events.next()).await;
    assert!(stepped.is_err(), "{stepped:?}");
    let off = run.started_at.map(|at| at - next);
    assert!(off.is_some_and(|off| off.abs() < TimeDelta::seconds(5)), "{off:?} {}", run.outcome);
}

#[tokio::test(start_paused = true)]
async fn blocking_runs_late_by_real_time() {
    // Real time passes while paused time stands: a slow setup.
    let scheduler = Scheduler::new();
    std::thread::sleep(1500 * MS);
    let mut job = scheduler.add(after(10 * MS), blocking(|| {})).misfire_grace_time(SECOND);
    let mut runs = job.runs();
    job.await.unwrap();
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{} {:?}", run.outcome, run.late_by);
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
    sleep(2500 * MS).await; // one runs, one waits
    job.modify(|settings| settings.overlap(Overlap::CancelPrevious)).await.unwrap();
    sleep(60 * SECOND).await;
    assert!(calls.load(Ordering::SeqCst) > 1, "nobody was cancelled");
}

#[tokio::test(start_paused = true)]
async fn followers_of_runs_asked_for_while_paused_are_bounded() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let a = scheduler.add(every(3600 * SECOND), || async {}).await.unwrap();
    scheduler
        .add(after_success(&a), move || async move {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .await
        .unwrap();
    scheduler.pause().await.unwrap();
    for _ in 0..1000 {
        a.run_now().await.unwrap();
        sleep(MS).await;
    }
    scheduler.resume().await.unwrap();
    sleep(SECOND).await;
    let calls = calls.load(Ordering::SeqCst);
    assert!(
        calls <= 100,
        "Overlap::Skip, max_instances(1), and {calls} runs of the follower were queued"
    );
}

#[tokio::test(start_paused = true)]
async fn history_during_a_backlog() {
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
async fn what_failed_together_does_not_come_again_together() {
    let scheduler = Scheduler::new();
    let mut retrying = scheduler.events_matching(EventFilter::new().kinds([EventKind::Retrying]));
    for _ in 0..100 {
        scheduler
            .add(after(SECOND), || async { Err::<(), _>(BoxError::from("down")) })
            .retry(Retry::fixed(10 * SECOND).jitter().times(1))
            .await
            .unwrap();
    }
    let mut delays = HashSet::new();
    for _ in 0..100 {
        let EventPayload::Retrying { delay, .. } = retrying.next().await.unwrap().payload else {
            panic!()
        };
        delays.insert(delay);
    }
    assert!(delays.len() > 50, "{} different delays of 100: {delays:?}", delays.len());
}

#[tokio::test(start_paused = true)]
async fn history_of_zero_keeps_nothing() {
    let scheduler = Scheduler::new();
    let job = scheduler.add(every(SECOND), || async {}).await.unwrap();
    sleep(3500 * MS).await;
    job.modify(|settings| settings.history(0)).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(job.history().await.unwrap().len(), 0);
}

// Runtime dropped with blocking runs going.
#[test]
fn runtime_dropped_with_blocking_runs_going() {
    for multi in [false, true] {
        let runtime = if multi {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
        } else {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
        };
        let done = Arc::new(AtomicU32::new(0));
        let count = done.clone();
        let (job, scheduler) = runtime.block_on(async {
            let scheduler = Scheduler::new();
            let job = scheduler
                .add(
                    now(),
                    blocking(move |_cx: Context| {
                        std::thread::sleep(300 * MS);
                        count.fetch_add(1, Ordering::SeqCst);
                    }),
                )
                .timeout(10 * SECOND)
                .await
                .unwrap();
            scheduler.add(after_any(&job), || async {}).await.unwrap();
            sleep(50 * MS).await;
            (job, scheduler)
        });
        runtime.shutdown_background();
        let end = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { timeout(5 * SECOND, job).await });
        println!("{end:?}");
        assert_eq!(done.load(Ordering::SeqCst), 1);
        drop(scheduler);
    }
}

// Waits for a group while its job's options name another by now.
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

// Cancel of the handle of a run that backs off.
#[tokio::test(start_paused = true)]
async fn a_token_cancelled_while_the_run_backs_off() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let token = Arc::new(Mutex::new(None));
    let slot = token.clone();
    let job = scheduler
        .add(now(), move |cx: Context| async move {
            count.fetch_add(1, Ordering::SeqCst);
            *slot.lock().unwrap() = Some(cx.cancellation_token());
            Err::<(), _>(BoxError::from("down"))
        })
        .retry(Retry::fixed(10 * SECOND))
        .await
        .unwrap();
    sleep(SECOND).await;
    token.lock().unwrap().take().unwrap().cancel();
    job.await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn overlap_of_a_paused_queue_and_cancel_previous() {
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
    let _ = matches!(End::Completed, End::Completed);
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

struct PanicWake;

impl Wake for PanicWake {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_on_a_handle_costs_nobody_else() {
    let scheduler = Scheduler::new();
    let mut job = scheduler.add(after(SECOND), || async {}).await.unwrap();
    let waker = Waker::from(Arc::new(PanicWake));
    assert!(job.poll_unpin(&mut Cx::from_waker(&waker)).is_pending());
    let other = scheduler.add(every(SECOND).times(5), || async {}).await.unwrap();
    let end = timeout(60 * SECOND, other).await.unwrap();
    assert!(matches!(end, End::Completed), "{end}");
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
    sleep(1500 * Duration::from_millis(1)).await;
    job.modify(|settings| settings.cancel_grace(Duration::ZERO)).await.unwrap();
    let report = scheduler.shutdown().within(SECOND).await;
    assert_eq!(
        report.to_string(),
        "0 finished, 1 cancelled, 0 dropped, 0 abandoned, 0 not started"
    );
}

#[tokio::test(start_paused = true)]
async fn a_once_job_that_follows_an_endless_one_yields_its_value() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let once = scheduler.add_once(after_success(&a), async { 7 }).await.unwrap();
    assert_eq!(timeout(3600 * SECOND, once).await.expect("its one run was at 1 s").unwrap(), 7);
}

fn chain(length: usize) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::spawn(async move {
            let scheduler = Scheduler::new();
            let first = scheduler.add(every(3600 * SECOND), || async {}).await.unwrap();
            let mut last = first.clone();
            for _ in 0..length {
                last = scheduler.add(after_success(&last), || async {}).await.unwrap();
            }
            first.remove().await.unwrap();
            assert!(matches!(last.await, End::Completed));
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_long_chain_of_followers_ends() {
    chain(8000);
}

#[tokio::test]
async fn a_thread_name_with_a_zero_byte_is_an_error() {
    let pool = BlockingPool::new(1).thread_name("a\0b");
    let error = Scheduler::new().add_executor("pool", pool).await.unwrap_err();
    assert!(error.is_invalid_option(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_a_run_backs_off_whose_follower_is_paused() {
    let scheduler = Scheduler::new();
    let fails = scheduler
        .add(after(SECOND), || async { Err::<(), _>(BoxError::from("no")) })
        .retry(Retry::fixed(60 * SECOND))
        .await
        .unwrap();
    let paused = scheduler.add_once(after_any(&fails), async {}).paused().await.unwrap();
    sleep(2 * SECOND).await;
    let report = timeout(60 * SECOND, scheduler.shutdown()).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(timeout(SECOND, paused).await.unwrap().is_err(), "it never ran");
}
