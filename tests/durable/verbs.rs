//! The verbs of durable jobs.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    Coalesce, End, EventKind, JobInfo, OnConflict, Overlap, SkipReason,
    store::{Fate, MemoryStore, RowKind, Store as _, Write},
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every},
};
use tokio::time::sleep;

use crate::tasks::{Notes, RAN, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn who_does_what_and_why_is_noted_if_it_is_said() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND * 600), remember("tick")).id("tick").await.unwrap();
    let (job, ops) = (scheduler.job("tick"), scheduler.job("tick").by("ops"));
    job.pause().await.unwrap();
    job.resume().await.unwrap();
    let record = || async { store.get("tick".into()).await.unwrap().unwrap() };
    assert_eq!(record().await.paused_by, None);
    ops.because("the host moves").pause().await.unwrap();
    let paused = record().await;
    let (by, because) = (paused.paused_by.as_deref(), paused.paused_because.as_deref());
    assert_eq!((by, because), (Some("ops"), Some("the host moves")));
    tokio::time::sleep(SECOND).await;
    ops.run_now().await.unwrap();
    assert_eq!(rows(&store).await[0].requested_by.as_deref(), Some("ops"));
    tokio::time::sleep(SECOND).await;
    job.by("ada").resume().await.unwrap();
    let resumed = record().await;
    assert_eq!((resumed.paused_by, resumed.paused_because), (None, None));
    tokio::time::sleep(SECOND).await;
    ops.remove().await.unwrap();
    let log = store.actions(Some("tick".into()), None, 10).await.unwrap().actions;
    let log: Vec<_> = log.iter().map(|it| (&*it.action.by, &*it.action.what)).collect();
    let expected = [("ops", "remove"), ("ada", "resume"), ("ops", "run_now"), ("ops", "pause")];
    assert_eq!(log, expected, "what nobody says is not noted");

    for bad in [job.by(""), job.because("of that"), job.by("a\0b"), job.by("b".repeat(256))] {
        let error = bad.pause().await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_later_version_keeps_of_a_job_is_carried_along() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = |text| {
        scheduler.add(every(SECOND), remember(text)).id("job").on_conflict(OnConflict::Reconcile)
    };
    add("x").await.unwrap();
    let record = || async { store.get("job".into()).await.unwrap().unwrap() };
    let current = record().await;
    let mut later = current.clone();
    later.extra = r#"{"owner":"billing","quota":1e400}"#.into();
    let extra = later.extra.clone();
    store.write(vec![Write::change(current.stamp(), later, 7)]).await.unwrap();
    let job = scheduler.job("job");
    tokio::time::sleep(SECOND * 3).await;
    job.pause().await.unwrap();
    job.run_now().await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    job.resume().await.unwrap();
    job.modify(|settings| settings.name("renamed")).await.unwrap();
    job.reschedule(every(SECOND * 2)).await.unwrap();
    add("y").await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(record().await.extra, extra);
    let document = scheduler.export().await.unwrap();
    job.remove().await.unwrap();
    scheduler.import(&document, OnConflict::Error).await.unwrap();
    assert_eq!(record().await.extra, extra);
}

#[tokio::test(start_paused = true)]
async fn another_trigger_and_other_options_take_effect_at_once() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    tokio::time::sleep(SECOND * 3 + SECOND / 2).await;
    assert_eq!(notes.len(), 3);
    // Fire times that were claimed for the old trigger do not run any more.
    job.reschedule(every(SECOND * 60)).await.unwrap();
    tokio::time::sleep(SECOND * 50).await;
    assert_eq!(notes.len(), 3);
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(notes.len(), 4);
    job.modify(|settings| settings.priority(7).max_instances(3).name("minutely")).await.unwrap();
    let JobInfo { name, priority, max_instances, task, .. } = job.get().await.unwrap();
    assert_eq!((name.as_deref(), priority, max_instances), (Some("minutely"), 7, 3));
    assert_eq!(task.as_deref(), Some("remember"));
    let named = scheduler.jobs().name("minutely").await.unwrap();
    assert_eq!(named.len(), 1);
    let refused = job.modify(|settings| settings.max_instances(0)).await;
    assert!(refused.unwrap_err().is_invalid_option());
}

#[tokio::test(start_paused = true)]
async fn a_requested_run_is_extra() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND * 60), remember("tick")).await.unwrap();
    let mut executed = event(&scheduler, EventKind::Executed).await;
    let run = job.run_now().await.unwrap();
    let event = executed.next().await.unwrap();
    assert!(event.to_string().contains(&format!("run {run} ")), "{event} is not of run {run}");
    job.pause().await.unwrap();
    job.run_now().await.unwrap();
    executed.next().await.unwrap();
    assert!(notes.all().iter().all(|note| note.on_request));
    tokio::time::sleep(SECOND).await;
    let requested = rows(&store).await;
    assert!(requested.iter().all(|row| row.key.kind == RowKind::Requested));
    assert_eq!(fates(&requested), [RAN, RAN]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_would_be_skipped_is_an_error_where_that_is_known() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut started = event(&scheduler, EventKind::Submitted).await;
    let job = scheduler.add(every(SECOND), Slow(100_000)).await.unwrap();
    started.next().await.unwrap();
    assert!(job.run_now().await.unwrap_err().is_overlap());
    assert_eq!(job.get().await.unwrap().running, 1);
}

#[tokio::test(start_paused = true)]
async fn overlap_is_judged_as_in_memory() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND).times(6), Slow(2500)).id("skips").await.unwrap();
    let queued = scheduler.add(every(SECOND).times(6), Slow(2500)).id("queues");
    let queued = queued.overlap(Overlap::Queue(10)).await.unwrap();
    assert!(matches!(queued.await, End::Completed));
    let rows = rows(&store).await;
    let of =
        |id: &str| fates(&rows.iter().filter(|row| row.job == id).cloned().collect::<Vec<_>>());
    assert_eq!(of("queues"), vec![RAN; 6]);
    let skipped = Fate::Skipped(SkipReason::MaxInstances);
    assert_eq!(of("skips").iter().filter(|fate| **fate == skipped).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_filter_are_acted_on_in_memory_and_in_the_store() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    for n in 0..20 {
        let tick = scheduler.add(every(SECOND), remember("tick")).id(format!("stored-{n}"));
        tick.tag(if n < 5 { "few" } else { "many" }).await.unwrap();
    }
    scheduler.add(every(SECOND), || async {}).id("closure").tag("few").await.unwrap();
    let few = || scheduler.jobs().tag("few");
    assert_eq!(scheduler.next_fire().await.unwrap(), few().await.unwrap()[0].next_fire);
    assert_eq!(few().run_now().await.unwrap(), 6);
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(notes.len(), 5);
    assert_eq!(few().pause().await.unwrap(), 6);
    assert!(few().await.unwrap().iter().all(|job| job.paused && job.next_fire.is_none()));
    assert_eq!(few().resume().await.unwrap(), 6);
    assert_eq!(few().modify(|job| job.name("changed")).await.unwrap(), 6);
    assert_eq!(scheduler.jobs().name("changed").await.unwrap().len(), 6);
    assert_eq!(few().paused(true).resume().await.unwrap(), 0);
    assert_eq!(few().remove().await.unwrap(), 6);
    assert_eq!(scheduler.jobs().await.unwrap().len(), 15);
    assert_eq!(few().remove().await.unwrap(), 0);
}

/// While the scheduler is paused, nothing that comes due is claimed.
#[tokio::test(start_paused = true)]
async fn what_is_due_when_a_job_is_rescheduled_is_coalesced_as_ever() {
    for (coalesce, ran) in [(Coalesce::Latest, 1), (Coalesce::Earliest, 1), (Coalesce::All, 3)] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).start().await.unwrap();
        let add = scheduler.add(every(SECOND), remember("tick")).id("tick");
        let job = add.coalesce(coalesce).max_catch_up(3).await.unwrap();
        scheduler.pause().await.unwrap();
        tokio::time::sleep(SECOND * 5 + SECOND / 2).await;
        job.reschedule(every(SECOND * 3600)).await.unwrap();
        scheduler.resume().await.unwrap();
        tokio::time::sleep(SECOND * 5).await;
        assert_eq!(notes.len(), ran, "{coalesce:?}");
        let covered: u64 = rows(&store).await.iter().map(|row| row.count).sum();
        assert_eq!(covered, 5, "{coalesce:?}: each fire time has its fate");
        scheduler.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_its_way_brings_nothing_of_the_previous_trigger() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let often = every(Duration::from_millis(100));
    let job = scheduler.add(often, remember("x")).id("job").await.unwrap();
    sleep(SECOND * 3).await;
    faulty.set(Operation::Claim, Fault::AnswerDelayed(SECOND * 2 / 5));
    faulty.set(Operation::Release, Fault::Delayed(SECOND));
    // During a claim, at one of these moments.
    for moment in 1..20 {
        sleep(Duration::from_millis(moment * 37)).await;
        job.reschedule(after(SECOND * 100)).await.unwrap();
        let before = notes.len();
        sleep(SECOND * 5).await;
        assert_eq!(notes.len(), before, "at moment {moment}");
        job.reschedule(every(Duration::from_millis(100))).await.unwrap();
        sleep(SECOND * 2).await;
        assert!(notes.len() > before);
    }
}
