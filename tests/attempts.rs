//! What happens after a run: other attempts, timeouts, jobs that follow, history and counts; and
//! named tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use punctual::{
    BoxError, Context, End, EventFilter, EventKind, EventPayload, OnConflict, Outcome, Retry,
    Scheduler, SkipReason, Task,
    chrono::{TimeDelta, Utc},
    named_task, stateful,
    trigger::{
        IntoTrigger, Trigger, after, after_all, after_any, after_failure, after_success, and,
        every, now,
    },
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Work that fails so many times before it succeeds, and counts its calls.
fn fails(
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
    // At 1, then 1, 2 and 4 s later.
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

#[tokio::test(start_paused = true)]
async fn jobs_follow_the_runs_of_others_with_their_fire_times_and_outputs() {
    let scheduler = Scheduler::new();
    let (failures, any) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    // Succeeds, fails, succeeds.
    let count = Arc::new(AtomicU32::new(0));
    let first = scheduler
        .add(every(SECOND).times(3), move || async move {
            match count.fetch_add(1, Ordering::SeqCst) {
                1 => Err(BoxError::from("odd")),
                n => Ok(format!("run {n}")),
            }
        })
        .id("first")
        .await
        .unwrap();
    let mut second = scheduler.add(after_success(&first), |cx: Context| async move {
        let preceding = cx.preceding().unwrap();
        assert_eq!(preceding.run().fire_time, cx.fire_time());
        assert_eq!(preceding.run().job, "first");
        let said: &String = preceding.output().expect("what the first one returned");
        assert!(preceding.output::<u32>().is_none());
        Ok::<_, BoxError>(said.clone())
    });
    let mut second_runs = second.runs();
    let second = second.id("second").await.unwrap();
    let third = scheduler.add(after_success("second"), || async {}).await.unwrap();
    let counter = |count: &Arc<AtomicU32>| {
        let count = count.clone();
        move || async move {
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    let on_failure = scheduler.add(after_failure("first"), counter(&failures)).await.unwrap();
    let on_any = scheduler.add(after_any("first"), counter(&any)).await.unwrap();
    assert_eq!(
        on_any.get().await.unwrap().to_string().split(": ").nth(1),
        Some("after any run of first, no further fire, 0/1 running")
    );
    // They end with the job that they follow.
    for job in [first, second, third, on_failure, on_any] {
        assert!(matches!(job.await, End::Completed));
    }
    let mut fire_times = Vec::new();
    while let Some(run) = second_runs.next().await {
        assert!(run.outcome.is_success(), "{}", run.outcome);
        fire_times.push(run.fire_time);
    }
    assert_eq!((fire_times[1] - fire_times[0]).num_seconds(), 2);
    assert_eq!(fire_times.len(), 2);
    assert_eq!((failures.load(Ordering::SeqCst), any.load(Ordering::SeqCst)), (1, 3));
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_chain_must_hang_on_something_and_not_close() {
    let scheduler = Scheduler::new();
    let add = |trigger: Trigger, id: &str| {
        scheduler.add(trigger, || async {}).id(id).on_conflict(OnConflict::Replace)
    };
    let follow = |id: &str| after_any(id).into_trigger().unwrap();
    let unknown = add(follow("nobody"), "a").await.unwrap_err();
    assert!(unknown.is_unknown_job() && unknown.to_string().contains("`nobody`"), "{unknown}");
    let a = add(every(SECOND).into_trigger().unwrap(), "a").await.unwrap();
    let b = add(follow("a"), "b").await.unwrap();
    add(follow("b"), "c").await.unwrap();
    for circle in [add(follow("c"), "a"), add(follow("b"), "b"), add(follow("c"), "b")] {
        let error = circle.await.unwrap_err();
        assert!(
            error.is_invalid_trigger() && error.to_string().contains("follow itself"),
            "{error}"
        );
    }
    assert!(a.reschedule(after_success("c")).await.unwrap_err().is_invalid_trigger());
    // One that takes the place of the first is followed as that was.
    let again = add(every(SECOND).into_trigger().unwrap(), "a").await.unwrap();
    assert!(matches!(a.await, End::Replaced));
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(b.history().await.unwrap().len(), 1);
    again.remove().await.unwrap();
    assert!(matches!(b.await, End::Completed));
    assert!(scheduler.is_empty());

    let bounded = after_any("a").until(Utc::now()).into_trigger().unwrap_err();
    assert!(bounded.is_invalid_trigger(), "{bounded}");
    assert!(and([follow("a")]).into_trigger().unwrap_err().is_invalid_trigger());
    for text in ["after success of a; b", "after any run of x", "after failure of [y"] {
        let trigger: Trigger = text.parse().unwrap();
        assert_eq!(trigger.to_string(), text);
        let json = serde_json::to_string(&trigger).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_keeps_its_last_runs_with_the_text_of_their_errors() {
    let scheduler = Scheduler::new();
    let work = |cx: Context| async move {
        match cx.run_id().to_string().parse::<u32>()? {
            n if n % 2 == 0 => Err(BoxError::from(format!("{n} is even"))),
            _ => Ok(()),
        }
    };
    let job = scheduler.add(every(SECOND), work).history(3).await.unwrap();
    assert!(job.history().await.unwrap().is_empty());
    sleep(Duration::from_millis(5500)).await;
    let history = job.history().await.unwrap();
    let outcomes: Vec<_> = history.iter().map(|run| run.outcome.to_string()).collect();
    assert_eq!(outcomes, ["succeeded", "failed: 4 is even", "succeeded"]);
    assert!(history.windows(2).all(|two| two[0].fire_time < two[1].fire_time));
    let metrics = scheduler.metrics();
    assert_eq!((metrics.succeeded, metrics.failed, metrics.lateness.count()), (3, 2, 5));
    assert!(metrics.lateness.max() < Duration::from_millis(2), "{metrics:?}");
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

/// Another one of that name.
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

    // What a task wants and was not given is its run's failure.
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

/// Which runs a job that follows `orders` and `prices` had, each with its fire time and what it saw.
type Seen = Arc<std::sync::Mutex<Vec<(i64, String, Option<u32>, Option<u32>)>>>;

fn report(seen: &Seen) -> impl FnOnce(Context) -> std::future::Ready<()> + Clone + Send + 'static {
    let seen = seen.clone();
    move |cx: Context| {
        let output = |job| cx.preceding_of(job).and_then(|run| run.output::<u32>().copied());
        let last = cx.preceding().map_or_else(String::new, |run| run.run().job.to_string());
        let at = cx.fire_time().timestamp();
        seen.lock().unwrap().push((at, last, output("orders"), output("prices")));
        std::future::ready(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_follows_several_runs_when_each_has_succeeded_since_its_last_run() {
    let scheduler = Scheduler::new();
    let zero = Utc::now();
    let numbered = |fails: &'static [u32]| {
        let mut n = 0;
        stateful(move || {
            n += 1;
            std::future::ready(if fails.contains(&n) { Err(BoxError::from("no")) } else { Ok(n) })
        })
    };
    let at = |seconds: i64| every(SECOND).starting_at(zero + TimeDelta::seconds(seconds));
    // At 1, 2, 3, 4, 5 and 6 s, of which the second and the fifth fail; and at 3 and 6 s.
    let orders = scheduler.add(at(1).times(6), numbered(&[2, 5])).id("orders").await.unwrap();
    let prices = every(3 * SECOND).starting_at(zero + TimeDelta::seconds(3)).times(2);
    let prices = scheduler.add(prices, numbered(&[])).id("prices").await.unwrap();
    let seen = Seen::default();
    let job = scheduler.add(after_all([&orders, &prices]), report(&seen)).await.unwrap();
    let line = job.get().await.unwrap().to_string();
    assert!(line.contains(r#"after all of ["orders","prices"]"#), "{line}");
    assert!(matches!(job.await, End::Completed), "it ends with the jobs that it follows");
    let seen: Vec<_> = seen.lock().unwrap().clone();
    // A failure takes no success back, and of several successes the latest counts.
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!((seen[0].2, seen[0].3), (Some(3), Some(1)));
    assert_eq!((seen[1].2, seen[1].3), (Some(6), Some(2)));
    assert_eq!(seen[1].0 - seen[0].0, 3);
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_has_ended_counts_with_its_success_and_then_ends_who_follows_several() {
    let scheduler = Scheduler::new();
    let once = |seconds: u32| {
        scheduler.add(after(SECOND * seconds), move || async move { Ok::<_, BoxError>(seconds) })
    };
    once(1).id("orders").await.unwrap();
    once(3).id("prices").await.unwrap();
    let seen = Seen::default();
    let job = scheduler.add(after_all(["orders", "prices"]), report(&seen)).await.unwrap();
    assert!(matches!(job.await, End::Completed));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((&*seen[0].1, seen[0].2, seen[0].3), ("prices", Some(1), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_without_success_ends_who_follows_several() {
    let scheduler = Scheduler::new();
    let failing = || async { Err::<(), _>(BoxError::from("no")) };
    scheduler.add(after(2 * SECOND), failing).id("orders").await.unwrap();
    let prices = scheduler.add(every(SECOND), || async {}).id("prices").await.unwrap();
    let seen = Seen::default();
    let job = scheduler.add(after_all(["orders", "prices"]), report(&seen)).await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert!(seen.lock().unwrap().is_empty());
    prices.remove().await.unwrap();
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_while_paused_starts_the_set_afresh() {
    let scheduler = Scheduler::new();
    scheduler.add(every(2 * SECOND), || async {}).id("orders").await.unwrap();
    scheduler.add(every(3 * SECOND), || async {}).id("prices").await.unwrap();
    let seen = Seen::default();
    let job = scheduler.add(after_all(["orders", "prices"]), report(&seen)).await.unwrap();
    job.pause().await.unwrap();
    let events = EventFilter::new().kinds([EventKind::Skipped]).job(job.id());
    let mut skipped = scheduler.events_matching(events);
    // Both have succeeded by second 3; then again by 6.
    tokio::time::sleep(7 * SECOND / 2).await;
    job.resume().await.unwrap();
    assert!(seen.lock().unwrap().is_empty());
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(seen.lock().unwrap().len(), 1);
    let what = skipped.next().await.unwrap().payload;
    assert!(matches!(what, EventPayload::Skipped { reason: SkipReason::Paused, .. }), "{what:?}");
}

#[tokio::test(start_paused = true)]
async fn jobs_that_follow_several_close_no_circle() {
    let scheduler = Scheduler::new();
    let all = |jobs: &[&str]| after_all(jobs.iter().copied()).into_trigger();
    let add = |trigger: Trigger, id: &str| {
        scheduler.add(trigger, || async {}).id(id).on_conflict(OnConflict::Replace)
    };
    add(every(SECOND).into_trigger().unwrap(), "a").await.unwrap();
    add(every(SECOND).into_trigger().unwrap(), "b").await.unwrap();
    add(all(&["a", "b"]).unwrap(), "c").await.unwrap();
    add(all(&["b", "c"]).unwrap(), "d").await.unwrap();
    for (circle, id) in [(&["a", "d"][..], "b"), (&["a", "d"], "c"), (&["d", "c"], "a")] {
        let error = add(all(circle).unwrap(), id).await.unwrap_err();
        assert!(error.to_string().contains("follow itself"), "{error}");
    }
    let unknown = add(all(&["a", "nobody"]).unwrap(), "e").await.unwrap_err();
    assert!(unknown.is_unknown_job(), "{unknown}");
    assert!(all(&[]).unwrap_err().is_invalid_trigger());
    assert_eq!(all(&["a", "a"]).unwrap(), after_success("a").into_trigger().unwrap());

    // As text and as JSON they are the same again.
    for trigger in
        [all(&["a", "b, \"c\"\u{200b}"]).unwrap(), after_any("a").into_trigger().unwrap()]
    {
        assert_eq!(trigger.to_string().parse::<Trigger>().unwrap(), trigger);
        let json = serde_json::to_string(&trigger).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
    }
}
