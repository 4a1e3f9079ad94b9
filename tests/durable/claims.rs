//! What a node claims, when, and how many requests it sends to the store.

use std::{collections::HashMap, time::Duration};

use punctual::{
    Coalesce, End, Scheduler,
    store::{MemoryStore, NodeId, RowState, Store as _},
    testing::{FaultyStore, Operation},
    trigger::{after, every},
};
use tokio::time::sleep;

use crate::tasks::{Notes, RAN, Slow, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The number of rows that each node has claimed and not closed.
async fn taken(store: &MemoryStore) -> HashMap<NodeId, usize> {
    let (mut taken, mut after) = (HashMap::new(), None);
    loop {
        let rows = store.rows(after, 1000).await.unwrap();
        for row in &rows {
            if let RowState::Claimed(node) = row.state {
                *taken.entry(node).or_default() += 1;
            }
        }
        match rows.last() {
            Some(last) if rows.len() == 1000 => after = Some(last.key),
            _ => return taken,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_leaves_what_it_cannot_start_to_others() {
    let count = 20_000;
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).start().await.unwrap();
    let two = on(&store, &notes).start().await.unwrap();
    // Ten at once on each node, a hundred in a second.
    for _ in 0..count {
        one.add(after(MILLISECOND * 3000), Slow(100)).group("db", 10).await.unwrap();
    }
    tokio::time::sleep(MILLISECOND * 2990).await;
    let ahead = taken(&store).await;
    assert!(
        ahead.len() == 2 && ahead.values().all(|&rows| rows <= 10),
        "{ahead:?} are due at once"
    );
    let mut most = 0;
    for _ in 0..20 {
        tokio::time::sleep(MILLISECOND * 100).await;
        most = most.max(taken(&store).await.into_values().max().unwrap_or_default());
    }
    assert!((50..=120).contains(&most), "{most} rows were claimed by one node");
    // A new node gets a share.
    let three = on(&store, &notes).start().await.unwrap();
    tokio::time::sleep(MILLISECOND * 1500).await;
    let taken = taken(&store).await;
    assert!(taken.len() == 3 && taken.values().all(|&rows| rows <= 120), "{taken:?}");
    while notes.len() < count {
        tokio::time::sleep(MILLISECOND * 100).await;
    }
    drop((one, two, three));
}

#[tokio::test(start_paused = true)]
async fn each_fire_time_runs_on_one_node() {
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
    // The other nodes follow a change by one of them.
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
async fn requests_to_a_busy_store_grow_with_the_changes() {
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
async fn no_operation_is_asked_for_more_than_max_batch() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let jobs: Vec<_> =
        (0..3_000).map(|_| scheduler.add(after(SECOND * 86_400), remember("far"))).collect();
    let _handles = scheduler.add_all(jobs).await.unwrap();
    sleep(SECOND * 12).await;
    let most = faulty.batches(Operation::Changed).into_iter().max().unwrap_or(0);
    assert!(most <= faulty.capabilities().max_batch, "`changed` was asked for {most}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_sends_few_requests() {
    let asked = |store: &FaultyStore<MemoryStore>| -> u64 {
        Operation::ALL.iter().map(|operation| store.calls(*operation)).sum()
    };
    for ahead in [Duration::from_secs(1), Duration::from_secs(60)] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let (one, two) = (FaultyStore::new(store.clone()), FaultyStore::new(store.clone()));
        let a = on(&one, &notes).claim_ahead(ahead).start().await.unwrap();
        let b = on(&two, &notes).claim_ahead(ahead).start().await.unwrap();
        a.add(after(SECOND * 1_000_000), remember("far")).await.unwrap();
        sleep(SECOND * 60).await;
        let before = asked(&one);
        sleep(SECOND * 600).await;
        let all = asked(&one) - before;
        drop((a, b));
        assert!(all < 900, "claim_ahead {ahead:?}: {all} operations of an idle node in 600 s");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_are_on_time_without_claiming_ahead() {
    let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
    let scheduler = on(&store, &notes).claim_ahead(Duration::ZERO).start().await.unwrap();
    scheduler.add(every(SECOND), remember("x")).id("job").await.unwrap();
    sleep(SECOND * 600).await;
    let late = notes.all().iter().map(|ran| ran.late_by).max();
    assert!(notes.len() > 595 && late < Some(MILLISECOND * 50), "{} runs, {late:?}", notes.len());
}
