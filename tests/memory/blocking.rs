//! Work that blocks its thread.

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use punctual::{
    BlockingPool, BoxError, Context, EventFilter, EventKind, Scheduler, blocking,
    chrono::TimeDelta,
    trigger::{after, after_any, every, now},
};
use tokio::time::{sleep, timeout};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test]
async fn blocking_work_that_runs_once_yields_its_value() {
    let scheduler = Scheduler::new();
    let soon = || after(Duration::from_millis(1));
    let sum: u64 =
        scheduler.add_once(soon(), blocking(|| (1..=9).sum())).await.unwrap().await.unwrap();
    assert_eq!(sum, 45);

    struct NoClone(String);
    let no_clone = NoClone("moved".into());
    let work = blocking(move |cx: Context| (cx.attempt(), no_clone.0));
    let value = scheduler.add_once(soon(), work).await.unwrap().await.unwrap();
    assert_eq!(value, (1, "moved".to_owned()));

    let port = |text: &'static str| blocking(move || text.parse::<u16>());
    let good = scheduler.try_add_once(soon(), port("8080")).await.unwrap().await;
    assert_eq!(good.unwrap(), 8080);
    let bad = scheduler.try_add_once(soon(), port("http")).await.unwrap().await.unwrap_err();
    assert!(bad.is_failed() && bad.source().unwrap().is::<std::num::ParseIntError>(), "{bad:?}");

    let fails = blocking(|| -> u32 { panic!("no sum") });
    let error = scheduler.add_once(soon(), fails).await.unwrap().await.unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("no sum"), "{error}");

    let wrong = scheduler.add_once(soon(), blocking(|| 1)).executor("default").await;
    assert!(wrong.unwrap_err().is_invalid_option());
}

#[tokio::test]
async fn outputs_of_blocking_work_are_kept_as_well() {
    let scheduler = Scheduler::new();
    let work = blocking(|| Ok::<_, BoxError>(String::from("line")));
    let mut job = scheduler.add(now(), work);
    let mut runs = job.runs();
    job.await.unwrap();
    assert_eq!(runs.next().await.unwrap().output::<String>().unwrap(), "line");
}

#[tokio::test]
async fn modify_to_an_executor_of_the_wrong_kind_is_refused() {
    let scheduler = Scheduler::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let mut job = scheduler.add(
        every(20 * MILLISECOND).times(2),
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
        blocking(|| tokio::runtime::Handle::current().block_on(async { sleep(MILLISECOND).await })),
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
    let stepped = timeout(MILLISECOND, events.next()).await;
    assert!(stepped.is_err(), "{stepped:?}");
    let off = run.started_at.map(|at| at - next);
    assert!(off.is_some_and(|off| off.abs() < TimeDelta::seconds(5)), "{off:?} {}", run.outcome);
}

#[tokio::test(start_paused = true)]
async fn real_time_that_passed_under_paused_time_makes_no_blocking_run_late() {
    // Real time passes while paused time stands still: a slow setup.
    let scheduler = Scheduler::new();
    std::thread::sleep(1500 * MILLISECOND);
    let mut job =
        scheduler.add(after(10 * MILLISECOND), blocking(|| {})).misfire_grace_time(SECOND);
    let mut runs = job.runs();
    job.await.unwrap();
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{} {:?}", run.outcome, run.late_by);
}

#[test]
fn a_runtime_that_is_dropped_lets_blocking_runs_finish() {
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
                        std::thread::sleep(300 * MILLISECOND);
                        count.fetch_add(1, Ordering::SeqCst);
                    }),
                )
                .timeout(10 * SECOND)
                .await
                .unwrap();
            scheduler.add(after_any(&job), || async {}).await.unwrap();
            sleep(50 * MILLISECOND).await;
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

#[tokio::test]
async fn a_thread_name_with_a_zero_byte_is_an_error() {
    let pool = BlockingPool::new(1).thread_name("a\0b");
    let error = Scheduler::new().add_executor("pool", pool).await.unwrap_err();
    assert!(error.is_invalid_option(), "{error}");
}
