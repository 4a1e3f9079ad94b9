//! Several schedulers share a store, and a restart goes on where it was.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    Coalesce, Context, End, EventKind, EventPayload, Scheduler, Task,
    store::{Fate, MemoryStore, RowState, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every, now},
};
use serde::{Deserialize, Serialize};

use crate::tasks::{Notes, RAN, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn each_fire_time_runs_on_one_of_them() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).start().await.unwrap();
    let two = on(&store, &notes).start().await.unwrap();
    let three = on(&store, &notes).start().await.unwrap();
    for n in 0..20 {
        let trigger = every(Duration::from_millis(700 + n)).times(30);
        one.add(trigger, remember(&format!("{n}"))).id(format!("{n}")).await.unwrap();
    }
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(notes.len(), 600);
    let rows = rows(&store).await;
    assert_eq!(fates(&rows), vec![RAN; 600]);
    assert!(three.jobs().await.unwrap().is_empty());
    // What one of them changes the others follow.
    two.add(every(SECOND), remember("late")).id("late").await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    three.job("late").pause().await.unwrap();
    tokio::time::sleep(SECOND).await;
    let paused = notes.len();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(notes.len(), paused);
    one.job("late").remove().await.unwrap();
    assert!(two.job("late").get().await.unwrap_err().is_unknown_job());
}

#[tokio::test(start_paused = true)]
async fn what_a_busy_store_is_asked_for_grows_with_what_changed() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let one = on(&flaky, &notes).poll_interval(HOUR).start().await.unwrap();
    let other = on(&store, &notes).poll_interval(HOUR).start().await.unwrap();
    let mut handles = Vec::new();
    for n in 0..10_000 {
        handles.push(one.add(every(HOUR * 10), remember("x")).id(format!("{n}")).await.unwrap());
    }
    tokio::time::sleep(SECOND * 10).await;
    let known = |store: &FaultyStore<_>| store.batches(Operation::Changed).iter().sum::<usize>();
    let before = known(&flaky);
    for n in 0..300 {
        other.job(format!("{}", n % 100)).modify(|job| job.priority(n)).await.unwrap();
        tokio::time::sleep(SECOND / 50).await;
    }
    tokio::time::sleep(SECOND).await;
    let asked = known(&flaky) - before;
    assert!((100..=600).contains(&asked), "{asked} records were asked for, and 300 have changed");
    other.job("7").remove().await.unwrap();
    let end = tokio::time::timeout(SECOND, handles.swap_remove(7)).await.unwrap();
    assert!(matches!(end, End::Removed), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_sees_the_end_that_another_brings() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).start().await.unwrap();
    let two = on(&store, &notes).start().await.unwrap();
    let job = one.add(every(SECOND * 600), remember("x")).id("job").await.unwrap();
    two.job("job").remove().await.unwrap();
    let end = tokio::time::timeout(SECOND * 10, job).await.unwrap();
    assert!(matches!(end, End::Removed), "{end:?}");
}

/// Begins, and then takes its time.
#[derive(Serialize, Deserialize)]
struct Begin;

impl Task for Begin {
    const NAME: &'static str = "begin";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().add(&cx);
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
async fn a_run_that_a_shutdown_gives_back_is_counted_and_costs_no_recovery() {
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
    // This one does not know the task.
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
async fn a_graceful_restart_abandons_nothing_and_goes_on() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let first = on(&store, &notes).start().await.unwrap();
    first.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    first.add(every(SECOND), Slow(300)).id("slow").await.unwrap();
    tokio::time::sleep(SECOND * 5 + SECOND / 10).await;
    assert!(first.shutdown().await.is_clean());
    assert!(
        rows(&store)
            .await
            .iter()
            .all(|row| row.state != punctual::store::RowState::Closed(Fate::Abandoned))
    );
    // An hour later; what passed is coalesced into one run.
    tokio::time::sleep(SECOND * 3600).await;
    let before = notes.len();
    let second = on(&store, &notes).start().await.unwrap();
    let mut coalesced = event(&second, EventKind::Coalesced).await;
    let event = coalesced.next().await.unwrap();
    assert!(event.to_string().contains("coalesced") || event.payload.job().is_some());
    tokio::time::sleep(SECOND * 5).await;
    let ran = notes.len() - before;
    assert!((10..=14).contains(&ran), "{ran}");
    let rows = rows(&store).await;
    let covered: u64 = rows.iter().filter(|row| row.job == "tick").map(|row| row.count).sum();
    assert!((3609..=3612).contains(&covered), "{covered}");
    assert!(!fates(&rows).contains(&Fate::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_all_is_made_up_for_after_an_outage() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let first = on(&store, &notes).start().await.unwrap();
    let job = first.add(every(SECOND), remember("tick")).id("tick");
    job.coalesce(Coalesce::All).max_catch_up(10).await.unwrap();
    first.shutdown().await;
    tokio::time::sleep(SECOND * 100 + SECOND / 2).await;
    let second = on(&store, &notes).start().await.unwrap();
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!(notes.len(), 10);
    let rows = rows(&store).await;
    let covered: u64 = rows.iter().filter(|row| !row.state.is_open()).map(|row| row.count).sum();
    assert_eq!(covered, 100);
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_dead_are_taken_over_within_the_lease() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let lonely = FaultyStore::new(store.clone());
    let lease = SECOND * 9;
    let dying = on(&lonely, &notes).lease(lease).start().await.unwrap();
    let recovers = dying.add(every(SECOND * 2).times(1), Slow(1000)).id("recovers");
    recovers.recover(true).await.unwrap();
    dying.add(every(SECOND * 2).times(1), Slow(1001)).id("abandoned").await.unwrap();
    tokio::time::sleep(SECOND * 2 + SECOND / 2).await;
    // As far as the others see it is dead: its runs go on until it doubts itself.
    lonely.set_all(Fault::Unavailable);
    let other = on(&store, &notes).lease(lease).start().await.unwrap();
    let mut died = event(&other, EventKind::NodesDied).await;
    let mut abandoned = event(&other, EventKind::Abandoned).await;
    tokio::time::timeout(lease + lease / 3, died.next()).await.unwrap().unwrap();
    assert_eq!(abandoned.next().await.unwrap().payload.job().unwrap(), &"abandoned");
    tokio::time::sleep(SECOND * 2).await;
    let recovered: Vec<_> = notes.all().into_iter().filter(|note| note.attempt == 2).collect();
    assert_eq!(recovered.len(), 1, "{:?}", notes.all());
    // Back again it hears that it was dead, and that its outcomes came too late.
    let mut lost = event(&dying, EventKind::LeaseLost).await;
    lonely.heal();
    tokio::time::timeout(SECOND * 10, lost.next()).await.unwrap().unwrap();
    tokio::time::sleep(SECOND * 20).await;
    assert!(rows(&store).await.iter().all(|row| !row.state.is_open()));
}

#[tokio::test(start_paused = true)]
async fn what_was_abandoned_of_a_job_that_is_over_stays_so() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).claim_ahead(SECOND * 60).start().await.unwrap();
    let mut skipped = event(&scheduler, EventKind::Skipped).await;
    scheduler.add(after(SECOND * 50), remember("x")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(matches!(rows(&store).await[0].state, RowState::Claimed(_)));
    // It learns that the job is over before it learns that it was taken for dead.
    let node = store.nodes().await.unwrap().remove(0);
    assert_eq!(store.reap(vec![(node.id, node.heartbeats)]).await.unwrap().abandoned.len(), 1);
    tokio::time::sleep(SECOND * 100).await;
    assert_eq!(fates(&rows(&store).await), [Fate::Abandoned]);
    assert!(skipped.next().now_or_never().is_none(), "nobody removed it");
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_a_claim_is_answered_is_noticed() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let slow = FaultyStore::new(store.clone());
    let scheduler = on(&slow, &notes).poll_interval(SECOND * 3600).start().await.unwrap();
    let other = Scheduler::builder().store(store).start().await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    slow.after(Operation::Claim, async move {
        other.job("x").pause().await.unwrap();
        // The notification arrives first.
        tokio::time::sleep(SECOND / 20).await;
    });
    scheduler.add(after(SECOND), remember("x")).id("x").await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(notes.len(), 0, "it was paused half a second before it was due");
}

#[tokio::test(start_paused = true)]
async fn a_handle_sees_an_end_that_comes_before_its_job_was_answered() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let slow = FaultyStore::new(store.clone());
    let adding = on(&slow, &notes).poll_interval(SECOND * 3600).start().await.unwrap();
    let running = on(&store, &notes).start().await.unwrap();
    adding.pause().await.unwrap();
    tokio::time::sleep(SECOND).await;
    slow.after(Operation::Write, tokio::time::sleep(SECOND));
    let job = adding.add(now(), remember("x")).await.unwrap();
    assert_eq!(notes.len(), 1, "it has run already");
    let end = tokio::time::timeout(SECOND * 10, job).await.unwrap();
    assert!(matches!(end, End::Completed), "{end:?}");
    running.shutdown().await;
}
