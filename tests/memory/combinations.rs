//! Every combination of overlap, coalescing, `max_instances`, retry, timeout and executor: each run
//! has exactly one outcome, each fire time exactly one fate, and all permits are released.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use punctual::{
    AsyncExecutor, BlockingPool, BoxError, Coalesce, Context, End, Event, EventFilter,
    EventPayload, JobHandle, Overlap, Retry, RunId, Scheduler, blocking,
    chrono::{DateTime, Utc},
    testing::ManualClock,
    trigger::{IntoTrigger, every},
};

const FIRE_TIMES: u64 = 24;
const PERIOD: Duration = Duration::from_millis(100);
const GROUP: u32 = 2;

#[derive(Clone, Copy, Debug)]
struct Case {
    overlap: Overlap,
    coalesce: Coalesce,
    max_instances: u32,
    retry: bool,
    timeout: bool,
    executor: &'static str,
}

fn cases(executors: &[&'static str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for overlap in [Overlap::Skip, Overlap::Queue(2), Overlap::CancelPrevious] {
        for coalesce in [Coalesce::Latest, Coalesce::Earliest, Coalesce::All] {
            for max_instances in [1, 3] {
                for (retry, timeout) in [(false, false), (false, true), (true, false), (true, true)]
                {
                    for &executor in executors {
                        cases.push(Case {
                            overlap,
                            coalesce,
                            max_instances,
                            retry,
                            timeout,
                            executor,
                        });
                    }
                }
            }
        }
    }
    cases
}

/// The outcomes of the runs and the fates of the fire times of one job.
#[derive(Default)]
struct Fates {
    submitted: BTreeMap<RunId, u32>,
    /// How often each run ended.
    outcomes: BTreeMap<RunId, u32>,
    fire_times: BTreeMap<DateTime<Utc>, u32>,
}

impl Fates {
    fn see(&mut self, event: Event) {
        let mut ended = |run: Option<RunId>, first: DateTime<Utc>, count: u64| {
            if let Some(run) = run {
                *self.outcomes.entry(run).or_default() += 1;
            }
            for n in 0..count {
                *self.fire_times.entry(first + PERIOD * n as u32).or_default() += 1;
            }
        };
        match event.payload {
            EventPayload::Submitted { run, .. } => *self.submitted.entry(run).or_default() += 1,
            EventPayload::Executed(run)
            | EventPayload::Failed(run)
            | EventPayload::TimedOut(run)
            | EventPayload::Cancelled(run)
            | EventPayload::Abandoned(run) => {
                ended(Some(run.id), run.fire_time, 1);
            }
            EventPayload::Missed { run, fire_times, .. }
            | EventPayload::Skipped { run, fire_times, .. } => {
                ended(run, fire_times.first, fire_times.count);
            }
            EventPayload::Coalesced { fire_times, .. } => {
                ended(None, fire_times.first, fire_times.count)
            }
            _ => {}
        }
    }

    fn check(&self, case: Case) {
        for (run, submitted) in &self.submitted {
            assert_eq!(
                (*submitted, self.outcomes.get(run)),
                (1, Some(&1)),
                "run {run} of {case:?}"
            );
        }
        let twice: Vec<_> = self.fire_times.iter().filter(|(_, fates)| **fates != 1).collect();
        assert!(twice.is_empty(), "{twice:?} of {case:?}");
        assert_eq!(self.fire_times.len() as u64, FIRE_TIMES, "fire times of {case:?}");
    }
}

async fn set_up(clock: Option<ManualClock>) -> Scheduler {
    let mut builder = Scheduler::builder()
        .misfire_grace_time(Duration::from_millis(450))
        .cancel_grace(Duration::from_millis(50))
        .group("all", GROUP)
        .event_buffer(100_000)
        .add_executor("one", AsyncExecutor::new().max_running(1))
        .add_executor("pool", BlockingPool::new(2));
    if let Some(clock) = clock {
        builder = builder.clock(clock);
    }
    builder.start().await.unwrap()
}

fn watch(scheduler: &Scheduler, job: &str) -> (Arc<Mutex<Fates>>, tokio::task::JoinHandle<()>) {
    let fates = Arc::new(Mutex::new(Fates::default()));
    let sink = fates.clone();
    let task = scheduler
        .on_event(EventFilter::new().job(job), move |event| sink.lock().unwrap().see(event))
        .unwrap();
    (fates, task)
}

async fn add<W: punctual::Work<M, Output: punctual::WorkOutput>, M: 'static>(
    scheduler: &Scheduler,
    case: Case,
    start: DateTime<Utc>,
    work: W,
) -> JobHandle {
    let trigger = every(PERIOD).starting_at(start + PERIOD).times(FIRE_TIMES).into_trigger();
    let retry = Retry::fixed(Duration::from_millis(30)).times(2);
    scheduler
        .add(trigger.unwrap(), work)
        .id("job")
        .overlap(case.overlap)
        .coalesce(case.coalesce)
        .max_catch_up(4)
        .max_instances(case.max_instances)
        .retry(case.retry.then_some(retry))
        .timeout(case.timeout.then_some(Duration::from_millis(120)))
        .executor(case.executor)
        .await
        .unwrap()
}

/// Checks that all slots of the group are free: as many runs as it has slots are active at once,
/// and end.
async fn has_room(scheduler: &Scheduler, case: Case) {
    let barrier = Arc::new(tokio::sync::Barrier::new(GROUP as usize));
    let mut jobs = Vec::new();
    for _ in 0..GROUP {
        let barrier = barrier.clone();
        let work = move || async move {
            barrier.wait().await;
        };
        jobs.push(scheduler.add(punctual::trigger::now(), work).await.unwrap());
    }
    for job in jobs {
        let ended = tokio::time::timeout(Duration::from_secs(60), job).await;
        assert!(ended.is_ok(), "the group has lost permits: {case:?}");
    }
}

#[test]
fn async_work_in_all_combinations() {
    for case in cases(&["default", "one"]) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
            let clock = ManualClock::running(start);
            let scheduler = set_up(Some(clock.clone())).await;
            let (fates, listener) = watch(&scheduler, "job");
            let calls = Arc::new(AtomicU32::new(0));
            let job = add(&scheduler, case, start, move |cx: Context| async move {
                // Short, long, failing, panicking, and responding to a cancellation.
                match calls.fetch_add(1, Ordering::SeqCst) % 7 {
                    0 | 1 => {}
                    2 => tokio::time::sleep(Duration::from_millis(90)).await,
                    3 => return Err(BoxError::from("odd")),
                    4 => panic!("odder"),
                    5 => tokio::time::sleep(Duration::from_millis(310)).await,
                    _ => tokio::select! {
                        () = cx.cancelled() => {}
                        () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    },
                }
                Ok(())
            })
            .await;
            tokio::time::sleep(Duration::from_millis(520)).await;
            // Nothing executes for a while, so several fire times come due together.
            clock.advance(Duration::from_millis(730));
            tokio::time::sleep(Duration::from_millis(240)).await;
            assert!(matches!(job.await, End::Completed));
            has_room(&scheduler, case).await;
            assert!(scheduler.shutdown().await.is_clean());
            listener.await.unwrap();
            fates.lock().unwrap().check(case);
        });
    }
}

/// In real time, since threads have no other: all combinations at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_work_in_all_combinations() {
    let cases = cases(&["pool"]).into_iter().map(|case| async move {
        let scheduler = set_up(None).await;
        let (fates, listener) = watch(&scheduler, "job");
        let calls = Arc::new(AtomicU32::new(0));
        let work = blocking(move |cx: Context| {
            let until = |millis| {
                let end = std::time::Instant::now() + Duration::from_millis(millis);
                while std::time::Instant::now() < end && !cx.is_cancelled() {
                    // The thread is what is tested here, so it must really block.
                    std::thread::sleep(Duration::from_millis(2));
                }
            };
            match calls.fetch_add(1, Ordering::SeqCst) % 6 {
                0 | 1 => {}
                2 => until(90),
                3 => return Err(BoxError::from("odd")),
                4 => panic!("odder"),
                _ => until(250),
            }
            Ok(())
        });
        let start = Utc::now() + Duration::from_millis(50);
        let start =
            start - Duration::from_nanos((start.timestamp_subsec_nanos() % 1_000_000).into());
        let job = add(&scheduler, case, start, work).await;
        assert!(matches!(job.await, End::Completed));
        has_room(&scheduler, case).await;
        assert!(scheduler.shutdown().await.is_clean());
        listener.await.unwrap();
        fates.lock().unwrap().check(case);
    });
    futures::future::join_all(cases).await;
}
