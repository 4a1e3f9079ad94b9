//! The kinds of work, the state between runs, and the returned values.

use std::{
    cell::Cell,
    collections::HashSet,
    error::Error as _,
    future::IntoFuture as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::DateTime;
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    BoxError, Coalesce, Context, EventFilter, EventKind, EventPayload, OnConflict, Outcome,
    Overlap, Retry, Run, Runs, Scheduler, Task, blocking, named_task, stateful,
    store::MemoryStore,
    trigger::{after, at, every, now},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::SECOND;

type Log<T> = Arc<Mutex<Vec<T>>>;

async fn outcomes(runs: Runs) -> Vec<String> {
    runs.map(|run: Run| run.outcome.to_string()).collect().await
}

#[tokio::test(start_paused = true)]
async fn a_closure_starts_afresh_each_run_unless_it_is_stateful() {
    let scheduler = Scheduler::new();
    let (afresh, kept) = (Log::<u32>::default(), Log::<u32>::default());

    let (mut n, log) = (0, afresh.clone());
    let count = move || {
        n += 1;
        log.lock().unwrap().push(n);
        std::future::ready(())
    };
    scheduler.add(every(SECOND).times(3), count).await.unwrap().await;

    let (mut n, log) = (0, kept.clone());
    let count = move || {
        n += 1;
        log.lock().unwrap().push(n);
        async {}
    };
    scheduler.add(every(SECOND).times(3), stateful(count)).await.unwrap().await;

    assert_eq!(*afresh.lock().unwrap(), [1, 1, 1]);
    assert_eq!(*kept.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn a_stateful_closure_may_block_take_a_context_and_hold_what_is_no_clone() {
    struct NoClone(HashSet<u64>);

    let scheduler = Scheduler::new();
    let trigger = || every(Duration::from_millis(5)).times(3);
    // On a busy machine, a run may come due while another is active.
    let queue = Overlap::Queue(3);
    let (sizes, seen) = (Log::<usize>::default(), Log::<usize>::default());

    let (mut ids, log) = (NoClone(HashSet::new()), sizes.clone());
    let remember = stateful(move |cx: Context| {
        ids.0.insert(cx.run_id().to_string().parse().unwrap());
        log.lock().unwrap().push(ids.0.len());
        async { Ok::<_, BoxError>(()) }
    });
    let add = scheduler.add(trigger(), remember).coalesce(Coalesce::All);
    add.overlap(queue).await.unwrap().await;
    assert_eq!(*sizes.lock().unwrap(), [1, 2, 3]);

    let (mut lines, log) = (Vec::new(), seen.clone());
    let collect = blocking(stateful(move || {
        lines.push("a line");
        log.lock().unwrap().push(lines.len());
    }));
    let add = scheduler.add(trigger(), collect).coalesce(Coalesce::All);
    add.overlap(queue).await.unwrap().await;
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_stateful_closure_are_in_turn_and_their_futures_may_overlap() {
    let scheduler = Scheduler::new();
    let active = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let (mut n, count, high) = (0, active.clone(), most.clone());
    let work = stateful(move || {
        n += 1;
        let (count, high) = (count.clone(), high.clone());
        async move {
            high.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(3 * SECOND / 2).await;
            count.fetch_sub(1, Ordering::SeqCst);
            Ok::<u32, BoxError>(n)
        }
    });
    scheduler.add(every(SECOND).times(4), work).max_instances(2).await.unwrap().await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn calls_of_a_stateful_closure_that_blocks_never_overlap() {
    let scheduler = Scheduler::new();
    let inside = Arc::new(AtomicU32::new(0));
    let gate = inside.clone();
    let work = blocking(stateful(move || {
        assert_eq!(gate.fetch_add(1, Ordering::SeqCst), 0, "another call is under way");
        // Real time, since threads do not follow Tokio's.
        std::thread::sleep(Duration::from_millis(20));
        gate.fetch_sub(1, Ordering::SeqCst);
    }));
    let trigger = every(Duration::from_millis(5)).times(6);
    let mut job = scheduler.add(trigger, work).max_instances(4).overlap(Overlap::Queue(6));
    let runs = job.runs();
    job.await.unwrap();
    let outcomes = outcomes(runs).await;
    assert!(
        !outcomes.is_empty() && outcomes.iter().all(|text| text == "succeeded"),
        "{outcomes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stateful_closure_that_panicked_goes_on_from_where_it_was() {
    let scheduler = Scheduler::new();
    let mut n = 0;
    let work = stateful(move || {
        n += 1;
        assert!(n != 2, "two");
        let failed = n == 4;
        async move {
            if failed {
                return Err(BoxError::from("four"));
            }
            Ok(())
        }
    });
    let mut job = scheduler.add(every(SECOND).times(4), work).retry(Retry::fixed(SECOND / 4));
    let runs = job.runs();
    job.await.unwrap();
    let runs: Vec<(u32, bool)> =
        runs.map(|run| (run.attempt, run.outcome.is_success())).collect().await;
    assert_eq!(runs, [(1, true), (2, true), (2, true), (1, true)]);
}

/// Divides a hundred by a number.
#[derive(Serialize, Deserialize)]
struct Divide {
    by: u32,
}

impl Task for Divide {
    const NAME: &'static str = "divide";
    type Output = Result<u32, BoxError>;

    async fn run(self, cx: Context) -> Result<u32, BoxError> {
        match cx.attempt() {
            1 if self.by == 7 => Err("not at the first attempt".into()),
            _ => 100_u32.checked_div(self.by).ok_or_else(|| "division by zero".into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_runs_once_yields_its_value_in_memory_and_on_a_store() {
    let memory = Scheduler::builder().task::<Divide>().start().await.unwrap();
    let store = MemoryStore::new();
    let stored = Scheduler::builder().store(store.clone()).task::<Divide>().start().await.unwrap();
    for scheduler in [memory, stored] {
        let divide = |by| scheduler.add_once(after(SECOND), Divide { by });
        assert_eq!(divide(20).await.unwrap().await.unwrap(), 5);

        // An error of a task fails its run.
        let mut failing = divide(0);
        let runs = failing.runs();
        let error = failing.await.unwrap().await.unwrap_err();
        assert!(error.is_failed(), "{error:?}");
        assert_eq!(error.source().unwrap().to_string(), "division by zero");
        assert_eq!(outcomes(runs).await, ["failed: division by zero"]);

        // Unlike a closure, a task can be called again.
        let retried = divide(7).retry(Retry::fixed(SECOND));
        assert_eq!(retried.await.unwrap().await.unwrap(), 14);

        // One run, with any trigger.
        let repeated = scheduler.add_once(every(SECOND), Divide { by: 50 }).await.unwrap();
        assert_eq!(repeated.await.unwrap(), 2);
        let immediate = scheduler.add_once(now(), Divide { by: 25 }).await.unwrap();
        assert_eq!(immediate.await.unwrap(), 4);

        let removed = scheduler.add_once(after(60 * SECOND), Divide { by: 1 }).await.unwrap();
        removed.remove().await.unwrap();
        assert!(removed.await.unwrap_err().is_cancelled());

        let late = at(DateTime::UNIX_EPOCH);
        let missed = scheduler.add_once(late, Divide { by: 1 }).misfire_grace_time(SECOND);
        assert!(missed.await.unwrap().await.is_err());

        let unknown = scheduler.add(now(), named_task("multiply", &1)).await.unwrap_err();
        assert!(unknown.is_invalid_task());
        scheduler.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_another_scheduler_has_is_no_silent_loss() {
    let store = MemoryStore::new();
    let start = || Scheduler::builder().store(store.clone()).task::<Divide>().start();
    let (here, there) = (start().await.unwrap(), start().await.unwrap());
    here.pause().await.unwrap();
    let job = here.add_once(after(SECOND), Divide { by: 4 }).await.unwrap();
    let error = job.await.unwrap_err();
    assert!(error.is_elsewhere(), "{error}");
    there.shutdown().await;
    here.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn outputs_are_kept_for_streams_of_runs_and_on_request_for_events() {
    let scheduler = Scheduler::new();
    let kinds = EventFilter::new().kinds([EventKind::Executed]);
    let mut executed = scheduler.events_matching(kinds);
    let measure = || async { Ok::<u32, BoxError>(7) };

    // Nothing receives the output.
    let plain = scheduler.add(every(SECOND).times(2), measure).await.unwrap();
    let history = plain.clone();
    sleep(3 * SECOND / 2).await;
    assert!(history.history().await.unwrap()[0].output::<u32>().is_none());
    // From here on, a stream receives it.
    let runs = plain.runs();
    plain.await;
    let outputs: Vec<_> = runs.map(|run| run.output::<u32>().copied()).collect().await;
    assert_eq!(outputs, [Some(7)]);

    let kept = scheduler.add(every(SECOND).times(1), measure).keep_output().await.unwrap();
    kept.await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let EventPayload::Executed(run) = executed.next().await.unwrap().payload else { panic!() };
        assert!(run.output::<String>().is_none(), "another type");
        seen.push(run.output::<u32>().copied());
    }
    assert_eq!(seen, [None, Some(7), Some(7)]);
}

#[tokio::test(start_paused = true)]
async fn outputs_of_a_task_in_a_store_are_kept_where_it_ran() {
    let store = MemoryStore::new();
    let scheduler = Scheduler::builder().store(store).task::<Divide>().start().await.unwrap();
    let kinds = EventFilter::new().kinds([EventKind::Executed]);
    let mut executed = scheduler.events_matching(kinds);
    let job = scheduler.add(every(SECOND).times(2), Divide { by: 4 }).await.unwrap();
    let runs = job.runs();
    job.await;
    let outputs: Vec<_> = runs.map(|run| run.output::<u32>().copied()).collect().await;
    assert_eq!(outputs, [Some(25), Some(25)]);

    // The job has no handles.
    drop(scheduler.add(every(SECOND).times(1), Divide { by: 5 }).keep_output().await.unwrap());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let EventPayload::Executed(run) = executed.next().await.unwrap().payload else { panic!() };
        seen.push(run.output::<u32>().copied());
    }
    assert_eq!(seen, [Some(25), Some(25), Some(20)]);
    scheduler.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_no_error_type_is_text() {
    let scheduler = Scheduler::new();
    let mut job = scheduler.add(now(), || async { Err::<(), &str>("plain text") });
    let mut runs = job.runs();
    job.await.unwrap();
    let run = runs.next().await.unwrap();
    assert!(matches!(&run.outcome, Outcome::Failed(error) if error.to_string() == "plain text"));
}

/// Takes a while, and returns its argument.
#[derive(Serialize, Deserialize)]
struct Say {
    text: String,
}

impl Task for Say {
    const NAME: &'static str = "say";
    type Output = Result<String, BoxError>;

    async fn run(self, _: Context) -> Result<String, BoxError> {
        sleep(SECOND / 2).await;
        Ok(self.text)
    }
}

fn say(text: &str) -> Say {
    Say { text: text.into() }
}

#[tokio::test(start_paused = true)]
async fn arguments_of_a_task_change_for_runs_that_begin_later() {
    let memory = Scheduler::builder().task::<Say>().task::<Divide>().start().await.unwrap();
    let store = MemoryStore::new();
    let builder = Scheduler::builder().store(store.clone()).task::<Say>().task::<Divide>();
    let stored = builder.start().await.unwrap();
    for scheduler in [memory, stored] {
        let trigger = every(SECOND).times(3);
        let job = scheduler.add(trigger, say("one")).id("say").await.unwrap();
        let runs = job.runs();
        // The first run is active.
        sleep(SECOND * 5 / 4).await;
        job.modify(|settings| settings.arguments(say("two")).name("renamed")).await.unwrap();
        assert_eq!(job.get().await.unwrap().name.as_deref(), Some("renamed"));
        sleep(SECOND).await;
        // By id, and by the name of the task.
        let by_name = |settings: punctual::JobSettings| {
            settings.arguments(named_task("say", &serde_json::json!({ "text": "three" })))
        };
        scheduler.job("say").modify(by_name).await.unwrap();
        // An invalid change changes nothing.
        let wrong = job.modify(|settings| settings.arguments(Divide { by: 1 }).name("x")).await;
        let wrong = wrong.unwrap_err();
        assert!(wrong.is_invalid_task() && wrong.to_string().contains("`divide`"), "{wrong}");
        let unfit = job.modify(|settings| settings.arguments(named_task("say", &1))).await;
        assert!(unfit.unwrap_err().is_invalid_task());
        assert_eq!(job.get().await.unwrap().name.as_deref(), Some("renamed"));
        job.await;
        let said: Vec<String> =
            runs.map(|run| run.output::<String>().cloned().unwrap_or_default()).collect().await;
        assert_eq!(said, ["one", "two", "three"]);

        let closure = scheduler.add(every(SECOND), || async {}).await.unwrap();
        let no_task = closure.modify(|settings| settings.arguments(say("no"))).await.unwrap_err();
        assert!(
            no_task.is_invalid_task() && no_task.to_string().contains("is not a task"),
            "{no_task}"
        );
        scheduler.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_are_changed_of_the_task_that_the_job_has_meanwhile() {
    let memory = Scheduler::builder().task::<Say>().start().await.unwrap();
    let builder = Scheduler::builder().store(MemoryStore::new()).task::<Say>();
    for scheduler in [memory, builder.start().await.unwrap()] {
        let declare = |text: &str| {
            let add = scheduler.add(every(SECOND).times(1), say(text)).id("say");
            add.on_conflict(OnConflict::Reconcile)
        };
        let job = declare("first").await.unwrap();
        let runs = job.runs();
        let calls = Cell::new(0);
        let change = |settings: punctual::JobSettings| {
            if calls.replace(calls.get() + 1) == 0 {
                // Another caller declares the job at the same time: on a store, during the first
                // poll.
                declare("second").into_future().now_or_never().expect("it need not wait").unwrap();
            }
            settings.arguments(say("third"))
        };
        job.modify(change).await.unwrap();
        assert_eq!(calls.get(), 2, "it is judged by what the job is now");
        job.await;
        let said: Vec<_> = runs.map(|run| run.output::<String>().cloned()).collect().await;
        assert_eq!(said, [Some("third".to_owned())]);
        scheduler.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn changed_arguments_reach_the_scheduler_that_has_claimed_the_job() {
    let store = MemoryStore::new();
    let start = || Scheduler::builder().store(store.clone()).task::<Say>().start();
    let (here, there) = (start().await.unwrap(), start().await.unwrap());
    let job = here.add(every(SECOND).times(6), say("old")).id("say").await.unwrap();
    let runs = job.runs();
    there.pause().await.unwrap();
    sleep(SECOND * 9 / 4).await;
    let other = there.job("say");
    other.modify(|settings| settings.arguments(say("new"))).await.unwrap();
    job.await;
    let said: Vec<String> =
        runs.map(|run| run.output::<String>().cloned().unwrap_or_default()).collect().await;
    assert_eq!((&*said[0], &*said[1], &*said[5]), ("old", "old", "new"), "{said:?}");
    for scheduler in [here, there] {
        scheduler.shutdown().await;
    }
}
