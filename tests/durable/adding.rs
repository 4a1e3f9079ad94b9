//! Adding durable jobs: conflicts, one namespace, all or none, and what is refused.

use std::time::Duration;

use punctual::{
    Coalesce, Context, End, Error, OnConflict, Overlap, Retry, Scheduler, Task,
    store::{MemoryStore, RowKind, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{CustomTrigger, after, after_success, custom, every},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::tasks::{Lasting, Notes, Remember, on, remember};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn adding_many_is_all_or_none() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(after(TENTH * 100), remember("there")).id("7").await.unwrap();
    let jobs = |from: u32| {
        let ids = from..from + 10;
        let add = |n| scheduler.add(after(TENTH * 100), remember("x")).id(format!("{n}"));
        ids.map(add).collect::<Vec<_>>()
    };
    assert!(scheduler.add_all(jobs(0)).await.unwrap_err().is_duplicate_id());
    assert_eq!(store.list(Default::default(), None, 100).await.unwrap().records.len(), 1);
    let mixed =
        jobs(20).into_iter().chain([scheduler.add(every(TENTH), || async {}).id("closure")]);
    let handles = scheduler.add_all(mixed).await.unwrap();
    let ids: Vec<_> = handles.iter().map(|handle| handle.id().to_string()).collect();
    assert_eq!(ids.first().map(String::as_str), Some("20"));
    assert_eq!(ids.last().map(String::as_str), Some("closure"));
    assert_eq!(scheduler.jobs().await.unwrap().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_handled_as_specified() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = |text: &str, on_conflict| {
        scheduler.add(every(TENTH * 100), remember(text)).id("job").on_conflict(on_conflict)
    };
    let first = add("first", OnConflict::Error).await.unwrap();
    assert!(add("second", OnConflict::Error).await.unwrap_err().is_duplicate_id());
    let kept = add("second", OnConflict::Keep).await.unwrap();
    assert_eq!(kept.get().await.unwrap().next_fire, first.get().await.unwrap().next_fire);

    // An unchanged declaration keeps the anchor.
    tokio::time::sleep(TENTH * 50).await;
    let anchor = first.next_fire().await.unwrap();
    let same = add("first", OnConflict::Reconcile).await.unwrap();
    assert_eq!(same.next_fire().await.unwrap(), anchor);
    // A declaration with other arguments changes the job in place, and keeps the anchor, too.
    let other = add("other", OnConflict::Reconcile).await.unwrap();
    assert_eq!(other.next_fire().await.unwrap(), anchor);
    assert_eq!(first.next_fire().await.unwrap(), anchor);
    let token = other.cancel_token();
    let third = add("third", OnConflict::Replace).await.unwrap();
    token.cancelled().await;
    assert!(matches!(other.await, End::Replaced));
    assert!(matches!(first.clone().await, End::Replaced));
    assert!(first.get().await.unwrap_err().is_gone());
    assert_eq!(third.id(), "job");
    let fates = store.rows(None, 100).await.unwrap();
    assert_eq!(fates.iter().filter(|row| row.key.kind == RowKind::Ended).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn on_conflict_without_an_id_is_an_error() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    for on_conflict in [OnConflict::Replace, OnConflict::Keep, OnConflict::Reconcile] {
        let add = || scheduler.add(every(TENTH), remember("tick")).on_conflict(on_conflict);
        for error in [add().await.unwrap_err(), scheduler.add_all([add()]).await.unwrap_err()] {
            assert!(error.is_invalid_option() && error.to_string().contains(".id("), "{error}");
        }
    }
    assert!(scheduler.jobs().await.unwrap().is_empty());
}

#[derive(Debug)]
struct Never;

impl CustomTrigger for Never {
    fn next_after(
        &self,
        _: punctual::chrono::DateTime<punctual::chrono::Utc>,
    ) -> Option<punctual::chrono::DateTime<punctual::chrono::Utc>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_cannot_keep_is_an_error_at_add() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(TENTH), || async {}).id("other").await.unwrap();
    let refused = |error: Error| assert!(error.to_string().contains("in_memory"), "{error}");
    refused(scheduler.add(custom(Never), remember("x")).await.unwrap_err());
    refused(scheduler.add(after_success("other"), remember("x")).await.unwrap_err());
    let retry = Retry::fixed(TENTH).only_if(|_| true);
    refused(scheduler.add(every(TENTH), remember("x")).retry(retry).await.unwrap_err());
    assert!(store.list(Default::default(), None, 10).await.unwrap().records.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keeping_a_job_keeps_its_arguments() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let first = on(&store, &notes).start().await.unwrap();
    first.add(every(SECOND), remember("stored")).id("job").await.unwrap();
    first.shutdown().await;
    let second = on(&store, &notes).start().await.unwrap();
    let kept = second
        .add(every(SECOND), remember("given now"))
        .id("job")
        .on_conflict(OnConflict::Keep)
        .await
        .unwrap();
    sleep(SECOND * 5).await;
    assert!(notes.texts().iter().all(|text| text == "stored"), "{:?}", notes.texts());
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn adding_a_mixed_batch_is_all_or_none() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND), remember("x")).id("there").await.unwrap();
    let jobs = [
        scheduler.add(every(SECOND), remember("new")).id("new"),
        scheduler.add(every(SECOND), || async {}).id("there"),
    ];
    assert!(scheduler.add_all(jobs).await.is_err());
    assert_eq!(
        store.list(Default::default(), None, 10).await.unwrap().records.len(),
        1,
        "the task was added nevertheless"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closure_and_a_task_that_are_added_at_once_share_one_namespace() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    faulty.set(Operation::Get, Fault::AnswerDelayed(Duration::from_millis(5)));
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let closure = scheduler.add(every(SECOND), || async {}).id("same").into_future();
    let task = scheduler.add(every(SECOND), remember("x")).id("same").into_future();
    let (closure, task) = tokio::join!(closure, task);
    assert!(
        closure.is_err() || task.is_err(),
        "both were added: {:?}",
        scheduler.jobs().await.unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn groups_that_contradict_each_other_are_refused() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = |n| scheduler.add(every(SECOND), Lasting(10_000)).group("db", n);
    add(1).in_memory().id("a").await.unwrap();
    assert!(add(5).in_memory().await.is_err());
    let other = add(5).id("b").max_instances(9).await;
    sleep(SECOND * 6).await;
    let begun = notes.texts().iter().filter(|it| *it == "begin").count();
    assert!(other.is_err(), "it was added, and {begun} runs go on in a group of one");
}

#[tokio::test(start_paused = true)]
async fn extreme_options_are_refused_or_hold_up_no_other_job() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).claim_ahead(SECOND * 60).start().await.unwrap();
    let long = Duration::MAX;
    let year = SECOND * 31_536_000;
    scheduler.add(every(SECOND), remember("good")).id("good").await.unwrap();
    let is_told = |error: Error| {
        error.is_invalid_option() || error.is_invalid_trigger() || error.never_fires()
    };
    for (n, trigger) in [
        every(SECOND),
        every(Duration::from_millis(1)),
        every(long),
        every(year * 1000),
        every(SECOND).times(1),
    ]
    .into_iter()
    .enumerate()
    {
        for option in 0..8 {
            let add = scheduler
                .add(trigger.clone(), remember("odd"))
                .id(format!("{n}-{option}-{}", "x".repeat(200)));
            let add = match option {
                0 => add.jitter(long),
                1 => add.jitter(year),
                2 => add.misfire_grace_time(long),
                3 => add.timeout(long),
                4 => add.coalesce(Coalesce::All).max_catch_up(10_000),
                5 => add.priority(i32::MIN),
                6 => add.overlap(Overlap::Queue(u32::MAX)),
                _ => add.retry(Retry::fixed(long)),
            };
            if let Err(error) = add.await {
                assert!(is_told(error.clone()), "{n} {option}: {error:?}");
            }
        }
    }
    for add in [after(long), after(year * 1000), after(year * 300_000)] {
        if let Err(error) = scheduler.add(add, remember("far")).await {
            assert!(is_told(error.clone()), "{error:?}");
        }
    }
    sleep(SECOND * 3).await;
    let good = notes.texts().iter().filter(|it| *it == "good").count();
    assert!(good >= 2, "{good}");
}

#[test]
fn adding_works_outside_the_runtime() {
    for with_store in [false, true] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let notes = Notes::default();
        let scheduler = runtime.block_on(async {
            let builder = Scheduler::builder().state(notes.clone()).task::<Remember>();
            let builder = if with_store { builder.store(MemoryStore::new()) } else { builder };
            builder.start().await.unwrap()
        });
        let added = std::thread::spawn(move || {
            futures::executor::block_on(
                scheduler.add(every(SECOND), || async {}).id("x").into_future(),
            )
            .is_ok()
        });
        assert!(added.join().unwrap_or(false), "with a store: {with_store}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_declarations_of_one_job_at_once_both_succeed() {
    for on_conflict in [OnConflict::Keep, OnConflict::Reconcile, OnConflict::Replace] {
        for in_memory in [true, false] {
            let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
            let scheduler = on(&store, &notes).start().await.unwrap();
            let add = || {
                let add = scheduler.add(every(SECOND), remember("x")).id("job");
                let add = if in_memory { add.in_memory() } else { add };
                add.on_conflict(on_conflict).into_future()
            };
            let (one, other) = futures::future::join(add(), add()).await;
            assert!(
                one.is_ok() && other.is_ok(),
                "{on_conflict:?}, in memory: {in_memory}: {one:?} {other:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_that_can_not_be_read_back_are_an_error_at_add() {
    #[derive(Serialize, Deserialize)]
    struct Ratio(f64);

    impl Task for Ratio {
        const NAME: &'static str = "ratio";
        type Output = ();

        async fn run(self, cx: Context) {
            cx.state::<Notes>().add(&cx, &self.0.to_string());
        }
    }

    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).task::<Ratio>().start().await.unwrap();
    let added = scheduler.add(after(SECOND), Ratio(f64::NAN)).id("job").await;
    sleep(SECOND * 60).await;
    assert!(added.is_err() || notes.len() == 1, "it was added, and never runs");
}
