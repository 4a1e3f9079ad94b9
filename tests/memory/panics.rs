//! A panic, wherever it happens, is the failure of one run and no other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Cx, Wake, Waker},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    BoxError, End, Outcome, Retry, Run, Scheduler, blocking,
    trigger::{CustomTrigger, after, custom, every, now},
};
use tokio::time::{sleep, timeout};

use crate::{SECOND, counter, get};

/// Panics at every other call, beginning with the first.
fn every_other_time(turn: &AtomicUsize, place: &str) {
    assert!(turn.fetch_add(1, Ordering::SeqCst) % 2 == 1, "{place}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_kills_no_job_wherever_it_happens() {
    struct Grenade(Arc<AtomicUsize>);
    impl Clone for Grenade {
        fn clone(&self) -> Grenade {
            every_other_time(&self.0, "while cloned");
            Grenade(self.0.clone())
        }
    }

    let scheduler = Scheduler::new();
    let turns = || Arc::new(AtomicUsize::new(0));
    let trigger = || every(SECOND).times(4);
    let turn = turns();
    let in_future = scheduler.add(trigger(), move || async move {
        tokio::task::yield_now().await;
        every_other_time(&turn, "in the future");
    });
    let turn = turns();
    let in_closure = scheduler.add(trigger(), move || {
        every_other_time(&turn, "in the closure");
        async {}
    });
    let grenade = Grenade(turns());
    let in_clone = scheduler.add(trigger(), move || {
        let _grenade = grenade;
        async {}
    });
    for (mut add, place) in
        [(in_future, "in the future"), (in_closure, "in the closure"), (in_clone, "while cloned")]
    {
        let runs = add.runs();
        let end = add.await.unwrap().await;
        assert!(matches!(end, End::Completed), "{place}: {end}");
        let outcomes: Vec<String> = runs.map(|run| run.outcome.to_string()).collect().await;
        let panicked = format!("panicked: {place}");
        assert_eq!(outcomes, [&*panicked, "succeeded", &*panicked, "succeeded"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_cancelled_run_is_dropped_is_that_runs_alone() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("while dropped");
        }
    }
    let scheduler = Scheduler::new();
    let mut add = scheduler.add(now(), || async {
        let _bomb = PanicsOnDrop;
        std::future::pending::<()>().await;
    });
    let runs = add.runs();
    let job = add.await.unwrap();
    sleep(SECOND).await;
    job.cancel_token().cancel();
    assert!(matches!(job.await, End::Cancelled));
    let runs: Vec<Run> = runs.collect().await;
    assert!(matches!(&runs[0].outcome, Outcome::Panicked(_)), "{:?}", runs[0].outcome);
    assert!(scheduler.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_work_of_a_job_is_dropped_affects_no_other_job() {
    #[derive(Clone)]
    struct PanicsWhenLast(Arc<()>);
    impl Drop for PanicsWhenLast {
        fn drop(&mut self) {
            assert!(Arc::strong_count(&self.0) > 1, "the last of it is dropped");
        }
    }
    let work = || {
        let last = PanicsWhenLast(Arc::new(()));
        move || {
            let _last = &last;
            async {}
        }
    };
    let scheduler = Scheduler::new();
    let removed = scheduler.add(every(SECOND), work()).await.unwrap();
    let cancelled = scheduler.add(every(SECOND), work()).await.unwrap();
    let completed = scheduler.add(every(SECOND).times(2), work()).await.unwrap();
    removed.remove().await.unwrap();
    cancelled.cancel_token().cancel();
    assert!(matches!(removed.await, End::Removed));
    assert!(matches!(cancelled.await, End::Cancelled));
    assert!(matches!(completed.await, End::Completed));
    let (count, work) = counter();
    scheduler.add(now(), work).await.unwrap().await;
    assert_eq!(get(&count), 1, "the driver lives");
}

#[tokio::test(start_paused = true)]
async fn a_custom_trigger_that_panics_ends_its_job_with_an_error_and_no_other() {
    #[derive(Debug)]
    struct Broken(DateTime<Utc>);
    impl CustomTrigger for Broken {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            assert!(t < self.0 + TimeDelta::seconds(3), "I can't count further");
            Some(t + TimeDelta::seconds(1))
        }
    }
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let broken = scheduler.add(custom(Broken(Utc::now())), work).await.unwrap();
    let (fine, work) = counter();
    scheduler.add(every(SECOND), work).await.unwrap();
    let End::TriggerFailed(error) = broken.await else { panic!("it ended otherwise") };
    assert!(error.is_invalid_trigger() && error.to_string().contains("panicked"), "{error}");
    assert!(get(&count) >= 3);
    let before = get(&fine);
    sleep(10 * SECOND).await;
    assert_eq!(get(&fine), before + 10);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_displayed_or_dropped_affects_no_other_run() {
    #[derive(Debug)]
    struct Vicious;
    impl std::fmt::Display for Vicious {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("when displayed")
        }
    }
    impl std::error::Error for Vicious {}
    impl Drop for Vicious {
        fn drop(&mut self) {
            panic!("when dropped");
        }
    }
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::sink)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let job = scheduler
        .add(every(SECOND).times(5), move || async move {
            work().await;
            Err::<(), _>(Vicious)
        })
        .await
        .unwrap();
    assert!(matches!(timeout(60 * SECOND, job).await, Ok(End::Completed)));
    assert_eq!(count.load(Ordering::SeqCst), 5);
    assert!(scheduler.shutdown().await.is_clean());
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
async fn a_condition_that_panics_when_dropped_affects_no_other_job() {
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
    // The driver itself calls this verb.
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

struct PanicWake;

impl Wake for PanicWake {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_on_a_handle_affects_no_other_job() {
    let scheduler = Scheduler::new();
    let mut job = scheduler.add(after(SECOND), || async {}).await.unwrap();
    let waker = Waker::from(Arc::new(PanicWake));
    assert!(job.poll_unpin(&mut Cx::from_waker(&waker)).is_pending());
    let other = scheduler.add(every(SECOND).times(5), || async {}).await.unwrap();
    let end = timeout(60 * SECOND, other).await.unwrap();
    assert!(matches!(end, End::Completed), "{end}");
}

/// Work that blocks cannot be stopped, so it may return its value after its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_comes_too_late_and_panics_when_dropped_costs_no_other_job() {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("while dropped");
        }
    }

    let scheduler = Scheduler::new();
    let late = blocking(|| {
        std::thread::sleep(Duration::from_millis(60));
        Grenade
    });
    let late = scheduler.add_once(now(), late).timeout(Duration::from_millis(20));
    let late = late.await.unwrap();
    let ended = timeout(10 * SECOND, late).await.expect("its handle resolves");
    assert!(ended.is_err(), "it took too long");
    // The scheduler goes on.
    let other = scheduler.add(after(Duration::from_millis(1)), || async {}).await.unwrap();
    assert!(matches!(timeout(10 * SECOND, other).await.unwrap(), End::Completed));
    let report = timeout(10 * SECOND, scheduler.shutdown()).await.unwrap();
    assert!(report.is_clean());
}
