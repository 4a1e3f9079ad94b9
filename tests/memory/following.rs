//! Jobs that follow the runs of other jobs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use punctual::{
    BoxError, Context, End, EventFilter, EventKind, EventPayload, OnConflict, Retry, Scheduler,
    SkipReason,
    chrono::{TimeDelta, Utc},
    stateful,
    trigger::{
        IntoTrigger as _, Trigger, after, after_all, after_any, after_failure, after_success, and,
        every,
    },
};
use tokio::time::{sleep, timeout};

use crate::SECOND;

const MILLISECOND: Duration = Duration::from_millis(1);

/// The runs of a job that follows `orders` and `prices`, each with its fire time and the outputs
/// that it received.
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
    // The jobs end with the job that they follow.
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
    // The followers of a replaced job follow its replacement.
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
    // A failure does not undo a success, and of several successes the latest counts.
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

    // The same triggers result from text and JSON.
    for trigger in
        [all(&["a", "b, \"c\"\u{200b}"]).unwrap(), after_any("a").into_trigger().unwrap()]
    {
        assert_eq!(trigger.to_string().parse::<Trigger>().unwrap(), trigger);
        let json = serde_json::to_string(&trigger).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_follower_that_waits() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let b = scheduler.add(after_success(&a), || async {}).await.unwrap();
    let report = timeout(60 * SECOND, scheduler.shutdown()).await.unwrap();
    assert!(report.is_clean());
    assert!(matches!(b.await, End::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn removing_all_ends_a_follower_that_waits() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let b = scheduler.add(after_success(&a), || async {}).await.unwrap();
    assert_eq!(scheduler.remove_all().await.unwrap(), 2);
    assert!(matches!(b.await, End::Removed));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_scheduler_ends_a_follower_that_waits() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let b = scheduler.add(after_success(&a), || async {}).await.unwrap();
    drop(scheduler);
    assert!(matches!(timeout(SECOND, b).await.unwrap(), End::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_paused_follower_of_a_run_that_backs_off() {
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
async fn a_once_job_that_follows_can_be_run_now() {
    let scheduler = Scheduler::new();
    let a = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let once = scheduler.add_once(after_success(&a), async { 7 }).await.unwrap();
    once.run_now().await.unwrap();
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
    sleep(1500 * MILLISECOND).await;
    assert_eq!(*seen.lock().unwrap(), Some(Some(17)));
}

#[tokio::test(start_paused = true)]
async fn followers_of_runs_requested_while_paused_are_bounded() {
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
        sleep(MILLISECOND).await;
    }
    scheduler.resume().await.unwrap();
    sleep(SECOND).await;
    let calls = calls.load(Ordering::SeqCst);
    assert!(
        calls <= 100,
        "Overlap::Skip, max_instances(1), and {calls} runs of the follower were queued"
    );
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
