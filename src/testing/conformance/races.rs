//! Cases of several nodes at once, on threads of their own: who wins, and that nothing is lost.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use futures::future::join_all;
use tokio::sync::Barrier;

use super::stage::*;
use crate::store::*;

/// Eight nodes that take, finish and give back run each fire time of 200 jobs once and forget none.
pub(super) async fn each_fire_time_is_run_once<S: Store>(stage: Stage<S>) {
    const JOBS: u64 = 200;
    const FIRES: i64 = 3;
    let Stage { store, other, now } = stage;
    let first = now - secs(60);
    for number in 0..JOBS {
        store.add(job(number, first)).await;
    }
    let last = first + secs(FIRES - 1);
    let runs = Arc::new(Mutex::new(HashMap::<RowKey, u32>::new()));
    let given = Arc::new(Mutex::new(HashSet::<RowKey>::new()));
    let barrier = Arc::new(Barrier::new(8));
    let takers = (0..8).map(|number| {
        let store = [&store, &other][number % 2].clone();
        let (runs, given, barrier) = (runs.clone(), given.clone(), barrier.clone());
        tokio::spawn(async move {
            let node = Node::join(&store, number as u64).await;
            barrier.wait().await;
            loop {
                // So that the case can end, should this never, on a store that answers at once.
                tokio::task::yield_now().await;
                let decide = fire(now, move |at| (at < last).then(|| at + secs(1)));
                let limit = 5 + 3 * number;
                let taken = node.claim(ClaimRequest { decide, limit, ..node.ask(now) }).await;
                let rows: Vec<_> = taken.into_iter().flat_map(|taken| taken.rows).collect();
                // Every fifth is given back the first time it is taken.
                let give_back = |row: &&Row| {
                    row.key.incarnation.0.is_multiple_of(5) && given.lock().unwrap().insert(row.key)
                };
                let (back, run): (Vec<_>, Vec<_>) = rows.iter().partition(give_back);
                for row in &run {
                    *runs.lock().unwrap().entry(row.key).or_default() += 1;
                }
                node.release(&back.iter().map(|row| row.claim()).collect::<Vec<_>>()).await;
                let outcomes = run.iter().map(|row| finished(row, succeeded(), now)).collect();
                assert_eq!(store.finish(outcomes).await.unwrap().refused, []);
                let some = RecordFilter::default();
                if rows.is_empty() && store.list(some, None, 1).await.unwrap().records.is_empty() {
                    return;
                }
            }
        })
    });
    for taker in join_all(takers).await {
        taker.unwrap();
    }
    let runs = runs.lock().unwrap().clone();
    assert_eq!(runs.len() as u64, JOBS * FIRES as u64);
    assert!(runs.values().all(|times| *times == 1), "{runs:?}");
    let rows = store.all_rows().await;
    assert_eq!(rows.len() as u64, JOBS * (FIRES as u64 + 1), "fire times and ends");
    for row in rows {
        let expected = match row.key.kind {
            RowKind::Ended => Fate::Completed,
            _ => succeeded(),
        };
        assert_eq!(row.state, RowState::Closed(expected));
    }
}

/// Of eight that add one id, or change one version, one wins; the others hear who.
pub(super) async fn one_of_several_writers_wins<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for round in 0..20 {
        let record = job(round, now);
        let mut rivals = Vec::new();
        for rival in 0..8 {
            let incarnation = Incarnation(record.incarnation.0 - 1000 * (rival + 1));
            rivals.push(insert(&Record { incarnation, ..record.clone() }));
        }
        let won = race(&store, &other, rivals).await;
        let current = store.record(&record.id).await;
        assert_eq!((current.version, current.tokens.as_slice()), (1, &[won][..]));
        let first = won;

        let rivals =
            (0..8).map(|requests| update(&current, Record { requests, ..current.clone() }));
        let won = race(&store, &other, rivals.collect()).await;
        let current = store.record(&record.id).await;
        assert_eq!((current.version, current.tokens.as_slice()), (2, &[won, first][..]));
    }
}

/// Writes all of them at once; returns the token of the one that won.
async fn race<S: Store>(store: &Client<S>, other: &Client<S>, rivals: Vec<Write>) -> u64 {
    let barrier = Arc::new(Barrier::new(rivals.len()));
    let rivals = rivals.into_iter().enumerate().map(|(place, write)| {
        let store = [store, other][place % 2].clone();
        let barrier = barrier.clone();
        tokio::spawn(async move {
            barrier.wait().await;
            (write.token, store.write_one(write).await)
        })
    });
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for answer in join_all(rivals).await {
        match answer.unwrap() {
            (token, WriteResult::Done) => won.push(token),
            (_, WriteResult::Lost(current)) => lost.extend(current),
        }
    }
    assert_eq!(won.len(), 1, "{} writers won", won.len());
    assert_eq!(lost.len(), 7);
    assert!(lost.iter().all(|current| current.tokens.as_slice()[0] == won[0]));
    won[0]
}

/// A job that is changed while it is taken loses neither a change nor a fire time.
pub(super) async fn a_write_and_a_take_both_count<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    const WRITES: u64 = 30;
    let record = store.add(job(1, now)).await;
    let over = Arc::new(AtomicBool::new(false));
    let taker = tokio::spawn({
        let (store, over) = (store.clone(), over.clone());
        async move {
            let node = Node::join(&store, 1).await;
            let mut fire_times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
                let decide = fire(now, |at| Some(at - secs(1)));
                let taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
                let rows: Vec<_> = taken.into_iter().flat_map(|taken| taken.rows).collect();
                fire_times.extend(rows.iter().map(|row| row.fire_time));
                let outcomes = rows.iter().map(|row| finished(row, succeeded(), now)).collect();
                store.finish(outcomes).await.unwrap();
            }
            fire_times
        }
    });
    let mut written = 0;
    while written < WRITES {
        let current = other.record(&record.id).await;
        let change = Record { requests: current.requests + 1, ..current.clone() };
        if let WriteResult::Done = other.write_one(update(&current, change)).await {
            written += 1;
        }
        // Lets the taker have its turn, on a store that answers at once.
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    over.store(true, Ordering::Relaxed);
    let fire_times = taker.await.unwrap();
    let current = store.record(&record.id).await;
    assert_eq!((current.requests, current.version), (WRITES, WRITES + 1));
    assert!(current.fence >= fire_times.len() as u64);
    let expected = (0..).map(|number| now - secs(number)).take(fire_times.len());
    assert_eq!(fire_times, expected.collect::<Vec<_>>());
    assert_eq!(current.next_fire, Some(now - secs(fire_times.len() as i64)));
    assert_eq!(store.all_rows().await.len(), fire_times.len());
}

/// Jobs that are removed while they are taken leave nothing behind that waits, and nothing twice.
pub(super) async fn a_removal_and_a_take_leave_nothing<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..15 {
        let record = job(round, now);
        let record = store.add_waiting(record.clone(), requested(&record, 1, now)).await;
        let taking = tokio::spawn({
            let (store, ask) = (store.clone(), node.ask(now));
            async move { store.claim(ask).await.unwrap().jobs }
        });
        let removing = tokio::spawn({
            let (other, id) = (other.clone(), record.id.clone());
            async move {
                // A removal that lost against the take is asked for once more.
                while let Some(current) = other.get(id.clone()).await.unwrap() {
                    other.write(vec![remove(&current, Fate::Removed)]).await.unwrap();
                }
            }
        });
        let taken = taking.await.unwrap();
        removing.await.unwrap();
        assert_eq!(store.end(&record).await, Some(Fate::Removed));
        let mut rows = store.history(record.incarnation, 10).await.unwrap();
        rows.retain(|row| row.key.kind != RowKind::Ended);
        rows.sort_by_key(|row| row.key);
        if taken.is_empty() {
            assert_eq!(rows.len(), 1);
            assert!(!rows[0].state.is_open(), "{rows:?}");
        } else {
            assert_eq!(keys(&taken), rows.iter().map(|row| row.key).collect::<Vec<_>>());
            assert!(rows.iter().all(|row| row.state == RowState::Claimed(node.id)), "{rows:?}");
        }
    }
}

/// A node that takes while it is buried keeps nothing that it was answered, nor is anything lost.
pub(super) async fn a_take_and_a_burial_lose_nothing<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let rounds = 15;
    for round in 0..rounds {
        for number in 0..6 {
            store.add(job(round * 10 + number, now)).await;
        }
        let dying = Node::join(&store, round).await;
        let suspects = store.suspects([dying.id]).await;
        let until = store.time().await + TimeDelta::milliseconds(4);
        let taking = tokio::spawn({
            let store = store.clone();
            async move {
                loop {
                    match store.claim(ClaimRequest { limit: 1, ..dying.ask(now) }).await {
                        Ok(_) => tokio::task::yield_now().await,
                        Err(error) if error.is_lease_lost() => return dying,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
        let burying = tokio::spawn({
            let other = other.clone();
            async move {
                while other.time().await <= until {
                    other.reap(Vec::new()).await.unwrap();
                }
                assert_eq!(other.reap(suspects).await.unwrap().nodes.len(), 1);
            }
        });
        let dead = taking.await.unwrap();
        burying.await.unwrap();
        // What it took until it heard of its death, if that came before its burial.
        store.reap(Vec::new()).await.unwrap();
        assert_eq!(dead.holds().await, []);

        let heir = Node::join(&other, 1000 + round).await;
        for row in heir.claim(heir.ask(now)).await.into_iter().flat_map(|taken| taken.rows) {
            assert_eq!(heir_of(&store, &row).await, heir.id);
            store.finish_one(&row, succeeded()).await;
        }
        heir.leave().await;
    }
    let rows = store.all_rows().await;
    let fires: Vec<_> = rows.iter().filter(|row| row.key.kind == RowKind::Scheduled).collect();
    assert_eq!(fires.len() as u64, rounds * 6);
    for row in fires {
        let fates = [succeeded(), Fate::Abandoned].map(RowState::Closed);
        assert!(fates.contains(&row.state), "{row:?}");
    }
    assert_eq!(store.list(RecordFilter::default(), None, 1).await.unwrap().records, []);
}

async fn heir_of<S: Store>(store: &Client<S>, row: &Row) -> NodeId {
    match store.row(row.key).await.state {
        RowState::Claimed(node) => node,
        state => panic!("{state:?}"),
    }
}

/// The outcomes of runs whose node is buried meanwhile are kept, whichever comes first.
pub(super) async fn a_finish_and_a_burial_keep_the_outcome<S: Store>(stage: Stage<S>) {
    const ROWS: u64 = 30;
    let Stage { store, other, now } = stage;
    for round in 0..10 {
        let node = Node::join(&store, round).await;
        for number in 0..ROWS {
            let recover = number % 2 == 0;
            store.add(Record { recover, ..job(round * ROWS + number, now) }).await;
        }
        let taken = node.claim(node.ask(now)).await;
        let suspects = store.suspects([node.id]).await;
        let (begun, begins) = tokio::sync::oneshot::channel();
        let finishing = tokio::spawn({
            let (store, taken) = (store.clone(), taken.clone());
            async move {
                let mut begun = Some(begun);
                for (place, row) in (0..).zip(taken.iter().flat_map(|taken| &taken.rows)) {
                    // The burial begins after one more of them in each round.
                    if place == round
                        && let Some(begun) = begun.take()
                    {
                        begun.send(()).unwrap();
                    }
                    assert_eq!(store.finish_one(row, succeeded()).await.refused, []);
                    tokio::task::yield_now().await;
                }
            }
        });
        let burying = tokio::spawn({
            let other = other.clone();
            async move {
                begins.await.unwrap();
                other.reap(suspects).await.unwrap()
            }
        });
        finishing.await.unwrap();
        burying.await.unwrap();
        for key in keys(&taken) {
            assert_eq!(store.row(key).await.state, RowState::Closed(succeeded()));
        }
        assert_eq!(store.list(RecordFilter::default(), None, 1).await.unwrap().records, []);
    }
}

/// A node that asks twice at once for the same take gets no fire time twice.
pub(super) async fn a_take_asked_twice_at_once_is_one<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..15 {
        for number in 0..10 {
            store.add(job(round * 10 + number, now)).await;
        }
        let ask = ClaimRequest { limit: 5, ..node.ask(now) };
        let takes = [&store, &other].map(|store| {
            let (store, ask) = (store.clone(), ask.clone());
            tokio::spawn(async move { store.claim(ask).await })
        });
        for take in takes {
            take.await.unwrap().unwrap();
        }
        let taken = node.claim(ask).await;
        assert_eq!(keys(&taken), node.holds().await);
        assert_eq!(taken.len(), 5);
        let rest = node.claim(node.ask(now)).await;
        assert_eq!(rest.len(), 5);
        let rows = taken.iter().chain(&rest).flat_map(|taken| &taken.rows);
        let outcomes = rows.map(|row| finished(row, succeeded(), now)).collect();
        store.finish(outcomes).await.unwrap();
    }
}

/// While others write and take, a list names each record once that is there all along.
pub(super) async fn a_list_misses_nothing_meanwhile<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..40 {
        store.add(job(number * 2, now + secs(1000))).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let churn = tokio::spawn({
        let (over, count) = (over.clone(), count.clone());
        async move {
            while !over.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
                let number = count.fetch_add(1, Ordering::Relaxed);
                let passing = Record {
                    incarnation: Incarnation(number + 1),
                    ..job(number % 40 * 2 + 1, None)
                };
                let record = store.add(passing).await;
                store.done(vec![remove(&record, Fate::Removed)]).await;
            }
        }
    });
    while count.load(Ordering::Relaxed) < 40 {
        let (mut listed, mut after) = (Vec::<Record>::new(), None);
        loop {
            let page = other.list(RecordFilter::default(), after, 3).await.unwrap();
            listed.extend(page.records);
            assert!(listed.len() <= 80, "the pages come to no end");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let staying = listed.iter().filter(|record| record.next_fire.is_some());
        let staying: Vec<_> = staying.map(|record| record.id.clone()).collect();
        let expected: Vec<_> = (0..40).map(|number| job(number * 2, None).id).collect();
        assert_eq!(staying, expected);
    }
    over.store(true, Ordering::Relaxed);
    churn.await.unwrap();
}
