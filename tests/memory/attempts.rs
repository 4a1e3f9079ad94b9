//! After a run: further attempts, timeouts, following jobs, history and counts; and named tasks.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use punctual::{
    BoxError, Context, EventFilter, EventKind, EventPayload, Outcome, Retry, Scheduler, Task,
    named_task,
    trigger::{after, every, now},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::SECOND;

/// Work that fails this many times before it succeeds, and counts its calls.
pub(crate) fn fails(
    times: u32,
    calls: &Arc<AtomicU32>,
) -> impl FnOnce(Context) -> std::future::Ready<Result<u32, BoxError>> + Clone + Send + 'static {
    let calls = calls.clone();
    move |cx: Context| {
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(cx.attempt(), call);
        std::future::ready(if call <= times { Err("not yet".into()) } else { Ok(call) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_tried_again_after_growing_delays_and_is_one_run() {
    let scheduler = Scheduler::new();
    let calls = Arc::default();
    let mut retrying = scheduler.events_matching(EventFilter::new().kinds([EventKind::Retrying]));
    let start = Instant::now();
    let mut job =
        scheduler.add(after(SECOND), fails(3, &calls)).retry(Retry::exponential(SECOND).times(5));
    let mut runs = job.runs();
    job.await.unwrap().await;
    // At 1 s, then 1, 2 and 4 s later.
    assert_eq!((calls.load(Ordering::SeqCst), start.elapsed().as_secs()), (4, 8));
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success());
    assert_eq!((run.attempt, run.late_by), (4, Duration::ZERO), "late is the first attempt alone");
    assert!(runs.next().await.is_none());
    for delay in [1, 2, 4] {
        let punctual::EventPayload::Retrying { run, delay: said } =
            retrying.next().await.unwrap().payload
        else {
            panic!("only these were asked for")
        };
        assert_eq!((said, run.outcome.to_string()), (SECOND * delay, "failed: not yet".to_owned()));
    }
    let metrics = scheduler.metrics();
    assert_eq!(
        (metrics.submitted, metrics.succeeded, metrics.failed, metrics.retried),
        (1, 1, 0, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_error_counts_when_attempts_or_their_condition_run_out() {
    let scheduler = Scheduler::new();
    let outcome = async |retry: Retry| {
        let calls = Arc::default();
        let mut job = scheduler.add(now(), fails(9, &calls)).retry(retry);
        let mut runs = job.runs();
        job.await.unwrap().await;
        (calls.load(Ordering::SeqCst), runs.next().await.unwrap().outcome.to_string())
    };
    let failed = |calls| (calls, "failed: not yet".to_owned());
    assert_eq!(outcome(Retry::fixed(SECOND)).await, failed(4));
    assert_eq!(outcome(Retry::fixed(Duration::ZERO).times(1)).await, failed(2));
    assert_eq!(
        outcome(
            Retry::fixed(SECOND).only_if(|outcome| { matches!(outcome, Outcome::Panicked(_)) })
        )
        .await,
        failed(1)
    );
    assert_eq!(outcome(Retry::fixed(SECOND).only_if(|_| panic!("no"))).await, failed(1));
    let wrong = scheduler.add(now(), || async {}).retry(Retry::exponential(SECOND).factor(0.5));
    assert!(wrong.await.unwrap_err().is_invalid_option());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_backs_off_keeps_its_permit_and_frees_its_group() {
    let scheduler = Scheduler::new();
    let calls = Arc::default();
    let job = scheduler
        .add(after(SECOND), fails(1, &calls))
        .retry(Retry::fixed(10 * SECOND))
        .group("g", 1)
        .await
        .unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(job.get().await.unwrap().running, 1);
    let start = Instant::now();
    scheduler.add(now(), || async {}).group("g", 1).await.unwrap().await;
    assert!(start.elapsed() < SECOND, "the group has room meanwhile");
    job.await;
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn removing_a_job_or_shutting_down_ends_a_run_that_backs_off_with_its_last_error() {
    for shut_down in [false, true] {
        let scheduler = Scheduler::new();
        let calls = Arc::default();
        let mut job =
            scheduler.add(after(SECOND), fails(9, &calls)).retry(Retry::fixed(60 * SECOND));
        let mut runs = job.runs();
        let job = job.await.unwrap();
        sleep(2 * SECOND).await;
        if shut_down {
            assert!(scheduler.shutdown().await.is_clean());
        } else {
            job.remove().await.unwrap();
        }
        job.await;
        let run = runs.next().await.unwrap();
        assert_eq!((run.attempt, run.outcome.to_string()), (1, "failed: not yet".to_owned()));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_work_each_attempt_anew() {
    let scheduler = Scheduler::new();
    let start = Instant::now();
    let mut job = scheduler
        .add(now(), || async { sleep(60 * SECOND).await })
        .timeout(5 * SECOND)
        .retry(Retry::fixed(SECOND).times(1));
    let mut runs = job.runs();
    job.await.unwrap().await;
    assert_eq!(start.elapsed().as_secs(), 11, "5 s, a delay of 1 s, and 5 s");
    let run = runs.next().await.unwrap();
    assert!(matches!(run.outcome, Outcome::TimedOut));
    assert_eq!((run.attempt, run.took.as_secs()), (2, 5));
    let error = scheduler.add_once(now(), sleep(60 * SECOND)).timeout(SECOND).await.unwrap().await;
    assert!(error.unwrap_err().is_timed_out());
    assert_eq!(scheduler.metrics().timed_out, 2);
}

#[derive(Serialize, Deserialize)]
struct Add {
    number: u32,
}

impl Task for Add {
    const NAME: &'static str = "add";
    type Output = Result<u32, BoxError>;

    async fn run(self, cx: Context) -> Result<u32, BoxError> {
        let sum = cx.state::<Arc<AtomicU32>>();
        Ok(sum.fetch_add(self.number, Ordering::SeqCst) + self.number)
    }
}

/// Another task with the same name.
#[derive(Serialize, Deserialize)]
struct Impostor;

impl Task for Impostor {
    const NAME: &'static str = "add";
    type Output = ();

    async fn run(self, _: Context) {}
}

#[tokio::test(start_paused = true)]
async fn tasks_run_with_their_arguments_and_misuse_says_so_at_add() {
    let sum = Arc::new(AtomicU32::new(0));
    let scheduler = Scheduler::builder().task::<Add>().state(sum.clone()).start().await.unwrap();
    scheduler.add(every(SECOND).times(2), Add { number: 10 }).await.unwrap().await;
    let args = serde_json::json!({ "number": 5 });
    scheduler.add(now(), named_task("add", &args)).await.unwrap().await;
    assert_eq!(sum.load(Ordering::SeqCst), 25);

    let refused = async |add: punctual::Add| {
        let error = add.await.unwrap_err();
        assert!(error.is_invalid_task(), "{error}");
        error.to_string()
    };
    let text = refused(scheduler.add(now(), named_task("add", &"five"))).await;
    assert!(text.starts_with("the arguments do not match task `add`: "), "{text}");
    let text = refused(scheduler.add(now(), named_task("sub", &args))).await;
    assert!(text.starts_with("no task `sub` is registered"), "{text}");
    refused(scheduler.add(now(), Impostor)).await;
    refused(Scheduler::new().add(now(), Add { number: 1 })).await;
    let twice = Scheduler::builder().task::<Add>().task::<Impostor>().start().await.unwrap_err();
    assert!(twice.to_string().contains("two tasks are named `add`"), "{twice}");
    assert!(Scheduler::builder().task::<Add>().task::<Add>().start().await.is_ok());

    // A task that requests a missing state fails its run.
    let poor = Scheduler::builder().task::<Add>().start().await.unwrap();
    let mut job = poor.add(now(), Add { number: 1 });
    let mut runs = job.runs();
    job.await.unwrap().await;
    let outcome = runs.next().await.unwrap().outcome;
    assert!(matches!(&outcome, Outcome::Panicked(said) if said.contains("AtomicU32")), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn work_that_runs_once_is_not_called_again() {
    let scheduler = Scheduler::new();
    let retry = Retry::fixed(SECOND);
    let wrong = scheduler.add_once(now(), async {}).retry(retry.clone()).await.unwrap_err();
    assert!(wrong.is_invalid_option() && wrong.to_string().contains("only once"), "{wrong}");
    let scheduler = Scheduler::builder().retry(retry).start().await.unwrap();
    let failed = scheduler.try_add_once(now(), async { Err::<(), _>("no") }).timeout(SECOND);
    assert!(failed.await.unwrap().await.unwrap_err().is_failed());
    assert_eq!(scheduler.metrics().retried, 0);
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
async fn a_run_whose_token_is_cancelled_is_not_tried_again() {
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

#[tokio::test(start_paused = true)]
async fn a_run_whose_token_is_cancelled_while_it_backs_off_is_not_tried_again() {
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
