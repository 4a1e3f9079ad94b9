//! Runs that recover: after a death, a lapse, a shutdown or a pause.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    Context, EventFilter, EventKind, EventPayload, Overlap, Task,
    store::{Fate, MemoryStore, RowState, RunEnd, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every, now},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::tasks::{Lasting, Notes, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

/// Notes its begin, and then continues for a while.
#[derive(Serialize, Deserialize)]
struct Begin;

impl Task for Begin {
    const NAME: &'static str = "begin";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().add(&cx, "begin");
        tokio::time::sleep(SECOND * 3600).await;
    }
}

fn attempts(notes: &Notes) -> Vec<u32> {
    notes.all().iter().map(|note| note.attempt).collect()
}

#[tokio::test(start_paused = true)]
async fn attempts_go_on_counting_when_a_lapse_is_followed_by_a_death() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let one = on(&flaky, &notes).task::<Begin>().start().await.unwrap();
    let mut lapsed = event(&one, EventKind::LeaseLapsed).await;
    one.add(after(SECOND), Begin).id("job").recover(true).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    flaky.set_all(Fault::Unavailable);
    lapsed.next().await.unwrap();
    flaky.heal();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(attempts(&notes), [1, 2], "it begins again once the node believes itself");
    flaky.set_all(Fault::Unavailable);
    let other = on(&store, &notes).task::<Begin>().start().await.unwrap();
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(attempts(&notes), [1, 2, 3]);
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_shutdown_releases_is_counted_and_costs_no_recovery() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    for attempt in 1..=5 {
        let scheduler = on(&store, &notes).task::<Begin>().start().await.unwrap();
        if attempt == 1 {
            scheduler.add(after(SECOND), Begin).id("job").recover(true).await.unwrap();
        }
        tokio::time::sleep(SECOND * 5).await;
        scheduler.shutdown().within(SECOND).await;
        let row = rows(&store).await.remove(0);
        assert_eq!((row.state, row.attempt), (RowState::Waiting, attempt + 1));
        assert_eq!(row.recoveries, 3, "no node died of it");
    }
    assert_eq!(attempts(&notes), [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_to_be_run_again_is_abandoned_when_its_job_goes() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).task::<Begin>().start().await.unwrap();
    one.add(after(SECOND), Begin).id("job").recover(true).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    one.shutdown().within(SECOND).await;
    // This node does not know the task.
    let other = on(&store, &notes).start().await.unwrap();
    other.job("job").remove().await.unwrap();
    assert_eq!(fates(&rows(&store).await), [Fate::Abandoned]);
    assert_eq!(attempts(&notes), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_in_line_to_be_run_again_is_abandoned_when_its_job_goes() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).task::<Begin>().start().await.unwrap();
    one.add(after(SECOND), Begin).id("job").recover(true).group("one", 1).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    one.shutdown().within(SECOND).await;
    let other = on(&store, &notes).task::<Begin>().start().await.unwrap();
    let mut abandoned = event(&other, EventKind::Abandoned).await;
    other.add(now(), Begin).in_memory().group("one", 1).await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    other.job("job").remove().await.unwrap();
    let EventPayload::Abandoned(run) = abandoned.next().await.unwrap().payload else {
        unreachable!()
    };
    assert_eq!((run.attempt, run.started_at), (2, None));
    tokio::time::sleep(SECOND).await;
    assert_eq!(fates(&rows(&store).await), [Fate::Abandoned]);
}

#[tokio::test(start_paused = true)]
async fn what_was_abandoned_of_a_job_that_is_over_stays_so() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).claim_ahead(SECOND * 60).start().await.unwrap();
    let mut skipped = event(&scheduler, EventKind::Skipped).await;
    scheduler.add(after(SECOND * 50), remember("x")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(matches!(rows(&store).await[0].state, RowState::Claimed(_)));
    // The node learns that the job is over before it learns that it has expired itself.
    let node = store.nodes().await.unwrap().remove(0);
    assert_eq!(store.reap(vec![(node.id, node.heartbeats)]).await.unwrap().abandoned.len(), 1);
    tokio::time::sleep(SECOND * 100).await;
    assert_eq!(fates(&rows(&store).await), [Fate::Abandoned]);
    assert!(skipped.next().now_or_never().is_none(), "nobody removed it");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_shuts_its_scheduler_down_is_not_run_again() {
    for recover in [false, true] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).task::<ShutDownFromRun>().start().await.unwrap();
        scheduler.add(after(SECOND), ShutDownFromRun).id("job").recover(recover).await.unwrap();
        sleep(SECOND * 30).await;
        assert_eq!(notes.texts(), ["begin", "end"]);
        let state = rows(&store).await[0].state.clone();
        let second = on(&store, &notes).task::<ShutDownFromRun>().start().await.unwrap();
        sleep(SECOND * 60).await;
        let then = rows(&store).await[0].state.clone();
        assert_eq!(notes.len(), 2, "recover {recover}: it ran again: {:?}", notes.all());
        assert_eq!(
            then,
            RowState::Closed(Fate::Ran(RunEnd::Succeeded)),
            "recover {recover}; before: {state:?}"
        );
        drop(second);
    }
}

#[derive(Serialize, Deserialize)]
struct ShutDownFromRun;

impl Task for ShutDownFromRun {
    const NAME: &'static str = "shut-down";
    type Output = ();
    async fn run(self, cx: Context) {
        let notes = cx.state::<Notes>();
        notes.add(&cx, "begin");
        cx.scheduler().shutdown().await;
        notes.add(&cx, "end");
    }
}

#[tokio::test(start_paused = true)]
async fn what_ran_while_releases_failed_does_not_run_again() {
    let (memory, notes) = (MemoryStore::new(), Notes::default());
    let store = FaultyStore::new(memory.clone());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND), remember("tick")).id("tick").recover(true).await.unwrap();
    let paused = scheduler.add(every(SECOND), remember("paused")).id("paused").await.unwrap();
    sleep(SECOND * 3 + SECOND * 3 / 4).await;
    store.set(Operation::Release, Fault::Refused);
    paused.pause().await.unwrap();
    sleep(SECOND * 30).await;
    scheduler.shutdown().await;
    store.heal();
    let _next = on(&store, &notes).start().await.unwrap();
    sleep(SECOND * 60).await;
    let mut times = BTreeMap::<DateTime<Utc>, Vec<u32>>::new();
    for ran in notes.all().into_iter().filter(|ran| ran.text == "tick") {
        times.entry(ran.fire_time).or_default().push(ran.attempt);
    }
    let twice = times.values().filter(|attempts| attempts.len() > 1).count();
    assert_eq!(twice, 0, "of {} fire times {twice} ran more than once", times.len());
}

/// A lapse of the lease cancels a run. The run waits behind another one to be called again, and the job or
/// the scheduler is paused for a moment.
async fn is_called_again_after_a_pause(of_the_job: bool) {
    for _ in 0..50 {
        let (memory, notes) = (MemoryStore::new(), Notes::default());
        let store = FaultyStore::new(memory.clone());
        let scheduler = on(&store, &notes).start().await.unwrap();
        let job = scheduler
            .add(every(SECOND).times(2), Lasting(30_000))
            .id("job")
            .recover(true)
            .overlap(Overlap::Queue(5))
            .await
            .unwrap();
        sleep(SECOND * 3).await;
        let first = notes.all()[0].fire_time;
        let kinds = [EventKind::LeaseLapsed];
        let mut lapsed = scheduler.events_matching(EventFilter::new().kinds(kinds));
        let operations = [
            Operation::Heartbeat,
            Operation::Claim,
            Operation::Finish,
            Operation::Release,
            Operation::Reap,
            Operation::ClaimedBy,
            Operation::Changed,
        ];
        for operation in operations {
            store.set(operation, Fault::Unavailable);
        }
        lapsed.next().await.unwrap();
        sleep(SECOND / 2).await;
        store.heal();
        sleep(SECOND * 5).await;
        // By now the second run is active and the first one waits for it, or not: that depends on when
        // the node retries, which is random.
        let begun = || notes.all().into_iter().filter(|note| note.text == "begin");
        let attempts: Vec<_> =
            begun().map(|note| (note.fire_time == first, note.attempt)).collect();
        if attempts != [(true, 1), (false, 1)] {
            continue;
        }
        if of_the_job {
            job.pause().await.unwrap();
            sleep(SECOND).await;
            job.resume().await.unwrap();
        } else {
            scheduler.pause().await.unwrap();
            sleep(SECOND).await;
            scheduler.resume().await.unwrap();
        }
        sleep(SECOND * 600).await;
        let again = begun().filter(|note| note.fire_time == first && note.attempt > 1).count();
        let ledger: Vec<_> = rows(&memory).await.into_iter().map(|row| row.state).collect();
        assert_eq!(again, 1, "ten minutes later; the ledger says {ledger:?}");
        return;
    }
    panic!("the scene was not set in fifty tries");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_to_be_called_again_outlives_a_pause_of_the_scheduler() {
    is_called_again_after_a_pause(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_to_be_called_again_outlives_a_pause_of_the_job() {
    is_called_again_after_a_pause(true).await;
}
