//! Several stores in one scheduler: which store a job is in, and that the stores do not block each
//! other.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    Context, End, Error, Event, EventFilter, EventKind, EventPayload, JobInfo, OnConflict,
    Scheduler, SchedulerBuilder, Task,
    store::{MemoryStore, RowState, Store as _},
    testing::{Fault, FaultyStore, ManualClock, Operation},
    trigger::{after, every, now},
};
use serde::{Deserialize, Serialize};

use crate::tasks::{RAN, event, fates, rows};

const SECOND: Duration = Duration::from_secs(1);

/// The jobs that have run, in order.
#[derive(Clone, Default)]
struct Ran(Arc<Mutex<Vec<String>>>);

impl Ran {
    fn count(&self, job: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|it| *it == job).count()
    }
}

/// Runs for this many milliseconds, and then notes its job.
#[derive(Clone, Serialize, Deserialize)]
struct Work(u64);

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = ();

    async fn run(self, cx: Context) {
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        cx.state::<Ran>().0.lock().unwrap().push(cx.job_id().to_string());
    }
}

/// Removes the store of its own job.
#[derive(Serialize, Deserialize)]
struct RemovesArchive;

impl Task for RemovesArchive {
    const NAME: &'static str = "removes-archive";
    type Output = Result<(), Error>;

    async fn run(self, cx: Context) -> Result<(), Error> {
        cx.scheduler().remove_store("archive").await
    }
}

fn builder(ran: &Ran) -> SchedulerBuilder {
    Scheduler::builder().state(ran.clone()).task::<Work>().task::<RemovesArchive>()
}

/// A scheduler with a store that works, and a store that a test can make fail.
struct Two {
    scheduler: Scheduler,
    default: MemoryStore,
    archive: MemoryStore,
    faulty: FaultyStore<MemoryStore>,
    ran: Ran,
}

async fn two() -> Two {
    let (default, archive, ran) = (MemoryStore::new(), MemoryStore::new(), Ran::default());
    let faulty = FaultyStore::new(archive.clone());
    let builder = builder(&ran).store(default.clone()).add_store("archive", faulty.clone());
    let scheduler = builder.start().await.unwrap();
    Two { scheduler, default, archive, faulty, ran }
}

async fn has(store: &MemoryStore, id: &str) -> bool {
    store.get(id.into()).await.unwrap().is_some()
}

fn ids(jobs: &[JobInfo]) -> Vec<String> {
    let mut ids: Vec<_> = jobs.iter().map(|job| job.id.to_string()).collect();
    ids.sort();
    ids
}

async fn next(events: &mut (impl futures::Stream<Item = Event> + Unpin)) -> EventPayload {
    events.next().await.unwrap().payload
}

// The store of a job.

#[tokio::test(start_paused = true)]
async fn a_job_is_in_the_store_that_it_names_and_otherwise_in_the_default_one() {
    let Two { scheduler, default, archive, .. } = two().await;
    scheduler.add(every(SECOND), Work(0)).id("a").await.unwrap();
    let b = scheduler.add(every(SECOND), Work(0)).id("b").store("archive").await.unwrap();
    scheduler.add(every(SECOND), || async {}).id("c").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("d").in_memory().await.unwrap();
    assert!(has(&default, "a").await && !has(&archive, "a").await);
    assert!(has(&archive, "b").await && !has(&default, "b").await);
    let stores: Vec<_> = {
        let mut jobs = scheduler.jobs().await.unwrap();
        jobs.sort_by(|one, other| one.id.cmp(&other.id));
        jobs.into_iter().map(|job| (job.id.to_string(), job.store, job.volatile)).collect()
    };
    let expected = [
        ("a".into(), Some("default".into()), false),
        ("b".into(), Some("archive".into()), false),
        ("c".into(), None, true),
        ("d".into(), None, true),
    ];
    assert_eq!(stores, expected);
    assert!(b.get().await.unwrap().to_string().contains(", in store archive"));
    let a = scheduler.job("a").get().await.unwrap().to_string();
    assert!(!a.contains("store"), "{a}");
    let many = [
        scheduler.add(every(SECOND), Work(0)).id("e"),
        scheduler.add(every(SECOND), Work(0)).id("f").store("archive"),
        scheduler.add(every(SECOND), Work(0)).id("g").in_memory(),
    ];
    let handles = scheduler.add_all(many).await.unwrap();
    let mut stores = Vec::new();
    for handle in handles {
        stores.push(handle.get().await.unwrap().store.map(|store| store.to_string()));
    }
    assert_eq!(stores, [Some("default".into()), Some("archive".into()), None]);
}

#[tokio::test(start_paused = true)]
async fn without_a_default_store_tasks_that_name_none_are_kept_in_memory() {
    let (archive, ran) = (MemoryStore::new(), Ran::default());
    let builder = builder(&ran).add_store("archive", archive.clone());
    let scheduler = builder.start().await.unwrap();
    let job = scheduler.add(every(SECOND), Work(0)).id("a").await.unwrap();
    assert!(job.get().await.unwrap().volatile && !has(&archive, "a").await);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_is_refused_with_its_remedy() {
    let store = MemoryStore::new;
    let builder = || builder(&Ran::default());
    for (named_twice, name) in [
        (builder().store(store()).store(store()), "`default`"),
        (builder().store(store()).add_store("default", store()), "`default`"),
        (builder().add_store("x", store()).add_store("x", store()), "`x`"),
    ] {
        let error = named_twice.start().await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("add_store"));
    }
    for name in ["", "a\0b", &"n".repeat(256)] {
        let error = builder().add_store(name, store()).start().await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
    }
    let scheduler = two().await.scheduler;
    for name in ["", "a\0b", &"n".repeat(256), "default", "archive"] {
        let error = scheduler.add_store(name, store()).await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
    }

    let error = scheduler.add(every(SECOND), Work(0)).store("attic").await.unwrap_err();
    assert!(error.is_invalid_option());
    assert_eq!(
        error.to_string(),
        "there is no store `attic`, but `default`, `archive`: add it first, with `scheduler.add_store(\"attic\", ..)`"
    );
    let error = scheduler.job("a").store("attic").get().await.unwrap_err().to_string();
    assert!(error.starts_with("there is no store `attic`, but `default`, `archive`"), "{error}");
    let error = scheduler.jobs().store("attic").await.unwrap_err().to_string();
    assert!(error.starts_with("there is no store `attic`"), "{error}");
    let error = scheduler.remove_store("attic").await.unwrap_err().to_string();
    assert!(error.starts_with("there is no store `attic`"), "{error}");

    let error = scheduler.add(every(SECOND), || async {}).store("archive").await.unwrap_err();
    assert!(error.is_invalid_task() && error.to_string().contains("`archive`"), "{error}");
    let both = scheduler.add(every(SECOND), Work(0)).in_memory().store("archive");
    let error = both.await.unwrap_err();
    assert!(error.is_invalid_option() && error.to_string().contains("`.in_memory()`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_elsewhere_is_refused_for_every_on_conflict() {
    let Two { scheduler, default, archive, .. } = two().await;
    scheduler.add(every(SECOND), Work(0)).id("here").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("there").store("archive").await.unwrap();
    scheduler.add(every(SECOND), || async {}).id("closure").await.unwrap();
    let all = [OnConflict::Error, OnConflict::Replace, OnConflict::Keep, OnConflict::Reconcile];
    for on_conflict in all {
        let add = |id: &str| scheduler.add(every(SECOND), Work(0)).id(id).on_conflict(on_conflict);
        for (add, place) in [
            (add("there"), "store `archive`"),
            (add("here").store("archive"), "store `default`"),
            (add("closure"), "memory"),
            (add("closure").store("archive"), "memory"),
            (add("here").in_memory(), "store `default`"),
            (add("there").in_memory(), "store `archive`"),
        ] {
            let error = add.await.unwrap_err();
            assert!(error.is_duplicate_id() && error.to_string().contains(place), "{error}");
        }
        let together = [add("new"), add("here").store("archive")];
        let error = scheduler.add_all(together).await.unwrap_err();
        assert!(error.is_duplicate_id(), "{error}");
        assert!(on_conflict != OnConflict::Error || !has(&default, "new").await);
    }
    assert!(!has(&archive, "here").await && !has(&default, "there").await);
    // In its own store, the job can be replaced.
    let replace = scheduler.add(every(SECOND), Work(0)).id("there").store("archive");
    replace.on_conflict(OnConflict::Replace).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_is_found_by_its_id_in_whichever_store_it_is() {
    let Two { scheduler, ran, .. } = two().await;
    scheduler.add(every(SECOND), Work(0)).id("a").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("b").store("archive").await.unwrap();
    for id in ["a", "b"] {
        let job = scheduler.job(id);
        job.pause().await.unwrap();
        assert!(job.get().await.unwrap().paused);
        job.resume().await.unwrap();
        job.reschedule(every(SECOND * 3600)).await.unwrap();
        job.modify(|settings| settings.name("renamed")).await.unwrap();
        assert_eq!(job.get().await.unwrap().name.as_deref(), Some("renamed"));
        job.run_now().await.unwrap();
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(ran.count(id), 1);
        // Fire times that were claimed ahead for the previous trigger are in the history, too, as
        // skipped.
        let history = job.history().await.unwrap();
        assert_eq!(history.iter().filter(|run| run.outcome.is_success()).count(), 1);
        assert!(fates(&job.ledger(10).await.unwrap()).contains(&RAN));
        job.remove().await.unwrap();
        assert!(job.get().await.unwrap_err().is_unknown_job());
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_two_stores_have_is_ambiguous_until_one_of_them_is_named() {
    let Two { scheduler, archive, ran, .. } = two().await;
    let other = builder(&ran).store(archive.clone()).start().await.unwrap();
    scheduler.add(every(SECOND * 3600), Work(0)).id("x").await.unwrap();
    other.add(every(SECOND * 3600), Work(0)).id("x").await.unwrap();
    for error in [
        scheduler.job("x").get().await.unwrap_err(),
        scheduler.job("x").pause().await.unwrap_err(),
        scheduler.job("x").run_now().await.unwrap_err(),
        scheduler.job("x").remove().await.unwrap_err(),
    ] {
        assert!(error.is_ambiguous());
        assert_eq!(
            error.to_string(),
            "there is a job `x` in store `default` and in store `archive`: name the store, with `scheduler.job(\"x\").store(..)`"
        );
    }
    scheduler.job("x").store("archive").pause().await.unwrap();
    assert!(scheduler.job("x").store("archive").get().await.unwrap().paused);
    assert!(!scheduler.job("x").store("default").get().await.unwrap().paused);
    scheduler.jobs().paused(true).modify(|job| job.priority(7)).await.unwrap();
    assert_eq!(scheduler.job("x").store("archive").get().await.unwrap().priority, 7);
    scheduler.job("x").store("archive").remove().await.unwrap();
    assert_eq!(scheduler.job("x").get().await.unwrap().store.as_deref(), Some("default"));
}

#[tokio::test(start_paused = true)]
async fn lists_and_commands_for_all_jobs_cover_all_stores() {
    let Two { scheduler, default, archive, ran, .. } = two().await;
    scheduler.add(every(SECOND), Work(0)).id("a").tag("t").await.unwrap();
    scheduler.add(every(SECOND * 60), Work(0)).id("b").tag("t").store("archive").await.unwrap();
    scheduler.add(every(SECOND * 60), || async {}).id("c").tag("t").await.unwrap();
    assert_eq!(ids(&scheduler.jobs().await.unwrap()), ["a", "b", "c"]);
    assert_eq!(ids(&scheduler.jobs().store("archive").await.unwrap()), ["b"]);
    assert_eq!(ids(&scheduler.jobs().store("default").tag("t").await.unwrap()), ["a"]);
    let first = scheduler.job("a").next_fire().await.unwrap();
    assert_eq!(scheduler.next_fire().await.unwrap(), first);

    // A pause of the scheduler applies to all stores.
    scheduler.pause().await.unwrap();
    tokio::time::sleep(SECOND * 120).await;
    assert_eq!((ran.count("a"), ran.count("b")), (0, 0));
    scheduler.resume().await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!((ran.count("a"), ran.count("b")), (1, 1));

    assert_eq!(scheduler.jobs().tag("t").pause().await.unwrap(), 3);
    assert_eq!(scheduler.jobs().store("archive").resume().await.unwrap(), 1);
    assert_eq!(ids(&scheduler.jobs().paused(true).await.unwrap()), ["a", "c"]);

    // A scheduler that knows no task lists and exports the jobs of both stores.
    let other = Scheduler::builder().store(default.clone()).add_store("archive", archive.clone());
    let other = other.start().await.unwrap();
    let unhandled = other.unhandled().await.unwrap();
    let lines: Vec<_> = unhandled.iter().map(ToString::to_string).collect();
    assert!(
        lines[0].starts_with("a: ") && lines[1].starts_with("b in store archive: "),
        "{lines:?}"
    );
    let document = other.export().await.unwrap();
    assert_eq!(scheduler.remove_all().await.unwrap(), 3);
    assert!(!has(&default, "a").await && !has(&archive, "b").await);
    assert_eq!(other.import(&document, OnConflict::Error).await.unwrap(), 2);
    assert!(has(&default, "a").await && has(&archive, "b").await);
    assert_eq!(other.jobs().store("archive").remove().await.unwrap(), 1);
    assert!(has(&default, "a").await && !has(&archive, "b").await);
    let alone = Scheduler::builder().store(MemoryStore::new()).start().await.unwrap();
    let error = alone.import(&document, OnConflict::Error).await.unwrap_err().to_string();
    assert!(error.starts_with("there is no store `archive`, but `default`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn drained_waits_for_the_jobs_of_all_stores() {
    let Two { scheduler, ran, .. } = two().await;
    scheduler.add(after(SECOND * 3), Work(0)).id("a").await.unwrap();
    scheduler.add(after(SECOND * 30), Work(0)).id("b").store("archive").await.unwrap();
    scheduler.drained().await;
    assert_eq!((ran.count("a"), ran.count("b")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_values_of_jobs_come_from_any_store() {
    let Two { scheduler, .. } = two().await;
    for store in ["default", "archive"] {
        let job = scheduler.add_once(after(SECOND), Work(0)).store(store).await.unwrap();
        job.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_job_name_its_store() {
    let Two { scheduler, .. } = two().await;
    let mut events = scheduler.events();
    for (id, store) in [("a", Some("default")), ("b", Some("archive")), ("c", None)] {
        let add = scheduler.add(after(SECOND), Work(0)).id(id);
        let job = match store {
            Some(store) => add.store(store).await,
            None => add.in_memory().await,
        };
        job.unwrap().await;
        let mut kinds = Vec::new();
        while kinds.last() != Some(&EventKind::JobRemoved) {
            let event = events.next().await.unwrap();
            if event.payload.job().is_some() {
                assert_eq!(event.store.as_deref(), store, "{event}");
                assert_eq!(event.to_string().contains(" b in store archive"), id == "b", "{event}");
                kinds.push(event.payload.kind());
            }
        }
        use EventKind::{Executed, JobAdded, JobRemoved, Submitted};
        assert_eq!(kinds, [JobAdded, Submitted, Executed, JobRemoved], "{id}");
    }
}

// An outage of one store.

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_stalls_its_own_jobs_only() {
    let Two { scheduler, default, faulty, ran, .. } = two().await;
    let mut failing = event(&scheduler, EventKind::StoreFailing).await;
    let mut working = event(&scheduler, EventKind::StoreWorking).await;
    let mut lapsed = event(&scheduler, EventKind::LeaseLapsed).await;
    scheduler.add(every(SECOND), Work(0)).id("here").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("there").store("archive").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("memory").in_memory().await.unwrap();
    tokio::time::sleep(SECOND * 3 + SECOND / 2).await;
    faulty.set_all(Fault::Hangs);
    tokio::time::sleep(SECOND * 30).await;
    let stalled = ran.count("there");
    assert!(stalled <= 5, "{stalled}");
    assert_eq!((ran.count("here"), ran.count("memory")), (33, 33));
    let EventPayload::StoreFailing { store, .. } = next(&mut failing).await else { panic!() };
    assert_eq!(&*store, "archive");
    let EventPayload::LeaseLapsed { store } = next(&mut lapsed).await else { panic!() };
    assert_eq!(&*store, "archive");

    // Adds, verbs and lists of the other stores.
    let begun = tokio::time::Instant::now();
    let job = scheduler.add(every(SECOND * 60), Work(0)).id("new").await.unwrap();
    assert!(has(&default, "new").await);
    scheduler.add(every(SECOND * 60), || async {}).id("closure").await.unwrap();
    scheduler.add(every(SECOND * 60), || async {}).await.unwrap();
    job.pause().await.unwrap();
    scheduler.job("new").resume().await.unwrap();
    scheduler.job("new").store("default").remove().await.unwrap();
    scheduler.job("closure").remove().await.unwrap();
    assert_eq!(ids(&scheduler.jobs().store("default").await.unwrap()), ["here"]);
    assert!(begun.elapsed() <= SECOND / 10, "{:?}", begun.elapsed());
    // An id that is in no other store may be in this one.
    let error = scheduler.job("there").get().await.unwrap_err();
    assert!(error.is_store_unavailable() && error.to_string().contains("`archive`"), "{error}");
    // A list of all stores names the store that is down.
    let error = scheduler.jobs().await.unwrap_err();
    assert!(error.is_store_unavailable() && error.to_string().contains("`archive`"), "{error}");
    let error = scheduler.jobs().pause().await.unwrap_err();
    assert!(error.is_store_unavailable() && error.to_string().contains("`archive`"), "{error}");
    assert!(scheduler.job("here").get().await.unwrap().paused);
    scheduler.job("here").resume().await.unwrap();

    faulty.heal();
    let EventPayload::StoreWorking { store } = next(&mut working).await else { panic!() };
    assert_eq!(&*store, "archive");
    tokio::time::sleep(SECOND * 10).await;
    assert!(ran.count("there") >= stalled + 9, "{}", ran.count("there"));
    scheduler.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn events_of_a_node_have_the_name_of_the_store() {
    let Two { scheduler, archive, faulty, ran, .. } = two().await;
    let kinds = EventKind::LeaseLost | EventKind::NodesDied;
    let mut events = scheduler.events_matching(kinds);
    // Another scheduler expires because it cannot reach its store.
    let dying = FaultyStore::new(archive.clone());
    let other = builder(&ran).store(dying.clone()).start().await.unwrap();
    tokio::time::sleep(SECOND * 20).await;
    dying.set_all(Fault::Hangs);
    let event = events.next().await.unwrap();
    assert!(event.to_string().contains(" NodesDied archive: "), "{event}");
    faulty.once(Operation::Heartbeat, Fault::LeaseLost);
    let event = events.next().await.unwrap();
    assert!(event.to_string().ends_with(" LeaseLost archive"), "{event}");
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_each_store_and_does_not_wait_long_for_one_that_is_down() {
    let Two { scheduler, default, archive, faulty, .. } = two().await;
    scheduler.add(every(SECOND), Work(0)).await.unwrap();
    scheduler.add(every(SECOND), Work(0)).store("archive").await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(
        (default.nodes().await.unwrap().len(), archive.nodes().await.unwrap().len()),
        (1, 1)
    );
    faulty.set_all(Fault::Hangs);
    let begun = tokio::time::Instant::now();
    let shutdown = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.shutdown().await }
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(default.nodes().await.unwrap(), [], "the other has been left at once");
    shutdown.await.unwrap();
    assert!(begun.elapsed() <= SECOND * 11, "{:?}", begun.elapsed());

    let Two { scheduler, default, archive, .. } = two().await;
    tokio::time::sleep(SECOND).await;
    scheduler.shutdown().await;
    assert_eq!((default.nodes().await.unwrap(), archive.nodes().await.unwrap()), (vec![], vec![]));
}

// Adding and removing stores.

#[tokio::test(start_paused = true)]
async fn a_store_that_is_added_runs_what_is_in_it() {
    let Two { scheduler: earlier, archive, .. } = two().await;
    earlier.add(every(SECOND), Work(0)).id("old").store("archive").await.unwrap();
    earlier.shutdown().await;
    let ran = Ran::default();
    let scheduler = builder(&ran).start().await.unwrap();
    let mut added = event(&scheduler, EventKind::StoreAdded).await;
    scheduler.add_store("attic", archive.clone()).await.unwrap();
    let EventPayload::StoreAdded { store } = next(&mut added).await else { panic!() };
    assert_eq!(&*store, "attic");
    scheduler.add(every(SECOND), Work(0)).id("new").store("attic").await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    assert!(ran.count("old") >= 4 && ran.count("new") >= 4, "{:?}", ran.0);
}

#[tokio::test(start_paused = true)]
async fn a_removed_store_receives_the_outcomes_and_keeps_its_jobs() {
    let Two { scheduler, archive, ran, .. } = two().await;
    let mut submitted = event(&scheduler, EventKind::Submitted).await;
    let mut removed = event(&scheduler, EventKind::StoreRemoved).await;
    let slow = scheduler.add(every(SECOND), Work(5000)).id("slow").store("archive").await.unwrap();
    let idle = scheduler.add(every(SECOND * 3600), Work(0)).id("idle").store("archive");
    let idle = idle.await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("here").await.unwrap();
    while !matches!(next(&mut submitted).await, EventPayload::Submitted { job, .. } if job.as_str() == "slow")
    {
    }
    let begun = tokio::time::Instant::now();
    scheduler.remove_store("archive").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= SECOND * 4 && took <= SECOND * 6, "{took:?}");
    let EventPayload::StoreRemoved { store } = next(&mut removed).await else { panic!() };
    assert_eq!(&*store, "archive");
    assert_eq!(ran.count("slow"), 1);
    // The outcome is stored, nothing is claimed, no node is alive, and the jobs are kept.
    let left = rows(&archive).await;
    assert_eq!(fates(&left).iter().filter(|fate| **fate == RAN).count(), 1, "{left:?}");
    assert!(left.iter().all(|row| !matches!(row.state, RowState::Claimed(_))), "{left:?}");
    assert_eq!(archive.nodes().await.unwrap(), []);
    assert!(has(&archive, "slow").await && has(&archive, "idle").await);
    for job in [slow, idle] {
        assert!(job.get().await.unwrap_err().is_gone());
        assert!(job.run_now().await.unwrap_err().is_gone());
        assert!(matches!(job.now_or_never(), Some(End::ShutDown)));
    }
    assert!(scheduler.job("idle").get().await.unwrap_err().is_unknown_job());
    assert_eq!(ids(&scheduler.jobs().await.unwrap()), ["here"]);
    let error = scheduler.add(every(SECOND), Work(0)).store("archive").await.unwrap_err();
    assert!(error.to_string().starts_with("there is no store `archive`, but `default`"), "{error}");
    let error = scheduler.remove_store("archive").await.unwrap_err();
    assert!(error.is_invalid_option(), "{error}");

    // Under the same name, the scheduler is a new node.
    scheduler.add_store("archive", archive.clone()).await.unwrap();
    tokio::time::sleep(SECOND * 8).await;
    assert!(ran.count("slow") >= 2);
    assert_eq!(archive.nodes().await.unwrap().len(), 1);
    scheduler.job("idle").remove().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_of_a_removed_store_and_has_not_started_is_released() {
    let Two { scheduler, archive, ran, .. } = two().await;
    scheduler.add(after(SECOND * 2), Work(0)).id("soon").store("archive").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1700)).await;
    let claimed = rows(&archive).await;
    assert!(claimed.iter().any(|row| matches!(row.state, RowState::Claimed(_))), "{claimed:?}");
    scheduler.remove_store("archive").await.unwrap();
    let released = rows(&archive).await;
    assert!(released.iter().all(|row| row.state == RowState::Waiting), "{released:?}");
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(ran.count("soon"), 0);
    let other = builder(&ran).store(archive.clone()).start().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(ran.count("soon"), 1);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_store_is_removed_while_a_heartbeat_or_a_claim_is_unanswered() {
    for operation in [Operation::Heartbeat, Operation::Claim] {
        let Two { scheduler, archive, faulty, ran, .. } = two().await;
        scheduler.add(every(SECOND), Work(2500)).id("job").store("archive").await.unwrap();
        tokio::time::sleep(SECOND * 2).await;
        faulty.set(operation, Fault::AnswerDelayed(SECOND * 3));
        tokio::time::sleep(SECOND * 6).await;
        let before = ran.count("job");
        faulty.set(operation, Fault::AnswerDelayed(SECOND * 3));
        scheduler.remove_store("archive").await.unwrap();
        faulty.heal();
        let left = rows(&archive).await;
        assert!(left.iter().all(|row| !matches!(row.state, RowState::Claimed(_))), "{left:?}");
        assert_eq!(archive.nodes().await.unwrap(), []);
        assert!(before >= 1);
        let after = ran.count("job");
        tokio::time::sleep(SECOND * 10).await;
        assert_eq!(ran.count("job"), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_given_up_when_it_is_removed() {
    let Two { scheduler, archive, faulty, ran, .. } = two().await;
    let job = scheduler.add(every(SECOND), Work(2500)).id("job").store("archive").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("here").await.unwrap();
    tokio::time::sleep(SECOND + SECOND / 2).await;
    faulty.set_all(Fault::Hangs);
    let begun = tokio::time::Instant::now();
    scheduler.remove_store("archive").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= SECOND * 5 && took <= SECOND * 13, "{took:?}");
    assert_eq!(ran.count("job"), 1);
    assert!(matches!(job.await, End::ShutDown));
    assert!(ran.count("here") >= 5);
    // The store can be added again, and its jobs are reclaimed as from any dead node.
    faulty.heal();
    scheduler.add_store("archive", archive.clone()).await.unwrap();
    tokio::time::sleep(SECOND * 60).await;
    assert!(ran.count("job") >= 2, "{:?}", ran.0);
    assert!(scheduler.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_removal_of_a_store_does_not_stop_it() {
    let Two { scheduler, archive, .. } = two().await;
    let mut removed = event(&scheduler, EventKind::StoreRemoved).await;
    let mut submitted = event(&scheduler, EventKind::Submitted).await;
    scheduler.add(now(), Work(3000)).id("job").store("archive").await.unwrap();
    next(&mut submitted).await;
    assert!(scheduler.remove_store("archive").now_or_never().is_none());
    // Meanwhile the name is reserved, and nothing can be added to the store.
    let error = scheduler.add_store("archive", MemoryStore::new()).await.unwrap_err();
    assert!(error.to_string().contains("is being removed"), "{error}");
    assert!(scheduler.add(now(), Work(0)).store("archive").await.is_err());
    // Another call waits for the same removal.
    scheduler.remove_store("archive").await.unwrap();
    next(&mut removed).await;
    assert_eq!(archive.nodes().await.unwrap(), []);
    scheduler.add_store("archive", MemoryStore::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn runs_that_outlast_the_removal_of_their_store_are_cancelled() {
    let Two { scheduler, archive, .. } = two().await;
    let mut submitted = event(&scheduler, EventKind::Submitted).await;
    scheduler.add(now(), Work(3_600_000)).id("job").store("archive").await.unwrap();
    next(&mut submitted).await;
    let begun = tokio::time::Instant::now();
    scheduler.remove_store("archive").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= SECOND * 30 && took <= SECOND * 40, "{took:?}");
    let rows = rows(&archive).await;
    assert!(rows.iter().all(|row| matches!(row.state, RowState::Closed(_))), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_may_remove_the_store_of_its_own_job() {
    let Two { scheduler, archive, .. } = two().await;
    let mut removed = event(&scheduler, EventKind::StoreRemoved).await;
    let executed = EventFilter::new().kinds([EventKind::Executed]);
    let mut executed = scheduler.events_matching(executed);
    scheduler.add(now(), RemovesArchive).store("archive").await.unwrap();
    executed.next().await.unwrap();
    next(&mut removed).await;
    assert_eq!(fates(&rows(&archive).await), [RAN]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_removal() {
    let Two { scheduler, archive, .. } = two().await;
    let mut submitted = event(&scheduler, EventKind::Submitted).await;
    scheduler.add(now(), Work(3000)).id("job").store("archive").await.unwrap();
    next(&mut submitted).await;
    let removing = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.remove_store("archive").await }
    });
    tokio::task::yield_now().await;
    assert!(scheduler.shutdown().await.is_clean());
    removing.await.unwrap().unwrap();
    assert_eq!(archive.nodes().await.unwrap(), []);
    assert!(scheduler.add_store("attic", MemoryStore::new()).await.unwrap_err().is_shut_down());
    assert!(scheduler.remove_store("default").await.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn each_store_keeps_as_much_history_as_the_builder_says() {
    let (default, archive, ran) = (MemoryStore::new(), MemoryStore::new(), Ran::default());
    let builder = builder(&ran).store(default.clone()).keep_history(10, SECOND * 3600);
    let scheduler = builder.start().await.unwrap();
    scheduler.add_store("archive", archive.clone()).await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("a").await.unwrap();
    scheduler.add(every(SECOND), Work(0)).id("b").store("archive").await.unwrap();
    tokio::time::sleep(SECOND * 600).await;
    assert!(ran.count("a") > 590 && ran.count("b") > 590);
    // The rows of the last minute are kept in any case, and what grows slowly is pruned every minute.
    assert!(rows(&default).await.len() < 140 && rows(&archive).await.len() < 140);
}

#[tokio::test(start_paused = true)]
async fn commands_for_all_stores_can_be_spawned() {
    let Two { scheduler, .. } = two().await;
    scheduler.add(every(SECOND * 60), Work(0)).id("a").await.unwrap();
    scheduler.add(every(SECOND * 60), Work(0)).id("b").store("archive").await.unwrap();
    let jobs = || scheduler.jobs();
    assert_eq!(tokio::spawn(jobs().pause()).await.unwrap().unwrap(), 2);
    assert_eq!(tokio::spawn(jobs().modify(|job| job.priority(1))).await.unwrap().unwrap(), 2);
    assert_eq!(tokio::spawn(jobs().run_now()).await.unwrap().unwrap(), 2);
    assert_eq!(tokio::spawn(jobs().into_future()).await.unwrap().unwrap().len(), 2);
    assert_eq!(tokio::spawn(jobs().store("archive").remove()).await.unwrap().unwrap(), 1);
    let clone = scheduler.clone();
    let rest = tokio::spawn(async move {
        clone.job("a").resume().await?;
        clone.next_fire().await?;
        clone.unhandled().await?;
        clone.export().await?;
        clone.add_store("attic", MemoryStore::new()).await?;
        clone.remove_store("attic").await?;
        clone.remove_all().await
    });
    assert_eq!(rest.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_store_goes_by_its_own_clock() {
    let start = "2026-06-01T12:00:00Z".parse().unwrap();
    let clock = ManualClock::running(start);
    let ahead = ManualClock::running(start + TimeDelta::hours(1));
    let (default, ran) = (MemoryStore::with_clock(clock.clone()), Ran::default());
    let archive = MemoryStore::with_clock(ahead.clone());
    let builder = builder(&ran).store(default).add_store("archive", archive.clone());
    let scheduler = builder.clock(clock.clone()).start().await.unwrap();
    scheduler.add(after(SECOND * 10), Work(0)).id("a").await.unwrap();
    scheduler.add(after(SECOND * 10), Work(0)).id("b").store("archive").await.unwrap();
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!((ran.count("a"), ran.count("b")), (0, 0));
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!((ran.count("a"), ran.count("b")), (1, 1));

    // Both clocks are set forward: the fire times that they pass are due.
    scheduler.add(after(SECOND * 10), Work(0)).id("a").await.unwrap();
    scheduler.add(after(SECOND * 10), Work(0)).id("b").store("archive").await.unwrap();
    tokio::time::sleep(SECOND).await;
    clock.step(TimeDelta::hours(1));
    ahead.step(TimeDelta::hours(1));
    tokio::time::sleep(SECOND).await;
    assert_eq!((ran.count("a"), ran.count("b")), (2, 2));
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_and_a_store_in_memory_work_beside_each_other() {
    use punctual::store::SqliteStore;

    let folder = std::env::temp_dir().join(format!("punctual-stores-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("archive.db");
    let (default, ran) = (MemoryStore::new(), Ran::default());
    let sqlite = SqliteStore::open(&file).await.unwrap();
    let builder = builder(&ran).store(default.clone()).add_store("archive", sqlite);
    let scheduler = builder.start().await.unwrap();
    let fast = Duration::from_millis(50);
    scheduler.add(every(fast).times(3), Work(0)).id("a").await.unwrap();
    let b = scheduler.add(every(fast).times(3), Work(0)).id("b").store("archive").await.unwrap();
    scheduler.add(every("1h"), Work(0)).id("c").store("archive").await.unwrap();
    b.await;
    scheduler.job("a").history().await.ok();
    assert_eq!(ran.count("b"), 3);
    assert_eq!(ids(&scheduler.jobs().store("archive").await.unwrap()), ["c"]);
    scheduler.remove_store("archive").await.unwrap();
    // The store is closed: everything is in the main file, and the file can be opened again.
    assert!(!folder.join("archive.db-wal").exists());
    scheduler.add_store("archive", SqliteStore::open(&file).await.unwrap()).await.unwrap();
    assert_eq!(ids(&scheduler.jobs().store("archive").await.unwrap()), ["c"]);
    scheduler.shutdown().await;
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test(start_paused = true)]
async fn a_place_under_a_limit_that_stores_share_is_used_by_either() {
    let ran = Ran::default();
    let stores = builder(&ran).store(MemoryStore::new()).add_store("archive", MemoryStore::new());
    let scheduler = stores.poll_interval(SECOND * 3600).start().await.unwrap();
    scheduler.add(now(), Work(5000)).id("x").group("db", 1).await.unwrap();
    let late = scheduler.add(after(SECOND), Work(0)).id("y").group("db", 1);
    late.store("archive").await.unwrap();
    tokio::time::sleep(SECOND * 4).await;
    assert_eq!(ran.count("y"), 0);
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!((ran.count("x"), ran.count("y")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_is_not_mistaken_for_one_in_a_store_that_does_not_reply() {
    let Two { scheduler, archive, faulty, ran, .. } = two().await;
    let once = scheduler.add(now(), Work(0)).id("x").on_conflict(OnConflict::Keep);
    once.await.unwrap().await;
    let other = builder(&ran).store(archive).start().await.unwrap();
    other.add(every(SECOND * 3600), Work(0)).id("x").await.unwrap();
    faulty.set(Operation::Get, Fault::Hangs);
    let error = scheduler.job("x").remove().await.unwrap_err();
    assert!(error.is_store_unavailable(), "{error}");
    assert!(other.job("x").get().await.is_ok());
}

/// A store that is refused is the caller's again, whose code its `Drop` may run.
#[tokio::test]
async fn a_refused_store_is_dropped_without_the_scheduler_being_locked() {
    struct LooksAtJobs(Scheduler, std::sync::mpsc::Sender<usize>);
    impl Drop for LooksAtJobs {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.len());
        }
    }

    let scheduler = Scheduler::builder().store(MemoryStore::new()).start().await.unwrap();
    let (sends, receives) = std::sync::mpsc::channel();
    let refused = FaultyStore::new(MemoryStore::new());
    let looks = LooksAtJobs(scheduler.clone(), sends);
    refused.before(Operation::Now, async move { drop(looks) });
    let runtime = tokio::runtime::Handle::current();
    let adds = scheduler.clone();
    std::thread::spawn(move || {
        let added = runtime.block_on(async { adds.add_store("default", refused).await });
        assert!(added.is_err());
    });
    let looked = tokio::task::spawn_blocking(move || receives.recv_timeout(10 * SECOND));
    assert_eq!(looked.await.unwrap(), Ok(0));
}
