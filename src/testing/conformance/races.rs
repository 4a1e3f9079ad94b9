//! Cases of concurrent nodes, on separate threads: one wins, and nothing is lost.

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

/// Eight nodes that claim, finish and release run each fire time of 200 jobs once, and lose none.
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
                // Lets the case time out on a store whose futures are always ready.
                tokio::task::yield_now().await;
                let decide = fire(now, move |at| (at < last).then(|| at + secs(1)));
                let limit = 5 + 3 * number;
                let claimed = node.claim(ClaimRequest { decide, limit, ..node.request(now) }).await;
                let rows: Vec<_> = claimed.into_iter().flat_map(|claimed| claimed.rows).collect();
                // Every fifth row is released after its first claim.
                let is_released = |row: &&Row| {
                    row.key.incarnation.0.is_multiple_of(5) && given.lock().unwrap().insert(row.key)
                };
                let (back, run): (Vec<_>, Vec<_>) = rows.iter().partition(is_released);
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
    assert_eq!(rows.len() as u64, JOBS * (FIRES as u64 + 1), "fire times and ends of jobs");
    for row in rows {
        let expected = match row.key.kind {
            RowKind::Ended => Fate::Completed,
            _ => succeeded(),
        };
        assert_eq!(row.state, RowState::Closed(expected));
    }
}

/// Of eight writes that add one id, or change one version, one is done; the others get its record.
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

/// Sends all writes concurrently; returns the token of the one that was done.
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

/// A job that is changed during claims loses neither a change nor a fire time.
pub(super) async fn a_write_and_a_claim_lose_nothing<S: Store>(stage: Stage<S>) {
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
                let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
                let rows: Vec<_> = claimed.into_iter().flat_map(|claimed| claimed.rows).collect();
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
        // Lets the claiming task run, on a store whose futures are always ready.
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

/// Jobs that are removed during claims leave no waiting row, and no duplicate.
pub(super) async fn a_removal_and_a_claim_leave_nothing<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..15 {
        let record = job(round, now);
        let record = store.add_waiting(record.clone(), requested(&record, 1, now)).await;
        let taking = tokio::spawn({
            let (store, request) = (store.clone(), node.request(now));
            async move { store.claim(request).await.unwrap().jobs }
        });
        let removing = tokio::spawn({
            let (other, id) = (other.clone(), record.id.clone());
            async move {
                // A removal that lost against the claim is retried.
                while let Some(current) = other.get(id.clone()).await.unwrap() {
                    other.write(vec![remove(&current, Fate::Removed)]).await.unwrap();
                }
            }
        });
        let claimed = taking.await.unwrap();
        removing.await.unwrap();
        assert_eq!(store.end(&record).await, Some(Fate::Removed));
        let mut rows = store.history(record.incarnation, 10).await.unwrap();
        rows.retain(|row| row.key.kind != RowKind::Ended);
        rows.sort_by_key(|row| row.key);
        if claimed.is_empty() {
            assert_eq!(rows.len(), 1);
            assert!(!rows[0].state.is_open(), "{rows:?}");
        } else {
            assert_eq!(keys(&claimed), rows.iter().map(|row| row.key).collect::<Vec<_>>());
            assert!(rows.iter().all(|row| row.state == RowState::Claimed(node.id)), "{rows:?}");
        }
    }
}

/// A node that claims while it expires keeps none of its claims, and nothing is lost.
pub(super) async fn a_claim_and_a_reap_lose_nothing<S: Store>(stage: Stage<S>) {
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
                    match store.claim(ClaimRequest { limit: 1, ..dying.request(now) }).await {
                        Ok(_) => tokio::task::yield_now().await,
                        Err(error) if error.is_lease_lost() => return dying,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
        let reaping = tokio::spawn({
            let other = other.clone();
            async move {
                while other.time().await <= until {
                    other.reap(Vec::new()).await.unwrap();
                }
                assert_eq!(other.reap(suspects).await.unwrap().nodes.len(), 1);
            }
        });
        let dead = taking.await.unwrap();
        reaping.await.unwrap();
        // The claims until it got `lease_lost`, if that came before the reap.
        store.reap(Vec::new()).await.unwrap();
        assert_eq!(dead.claimed_keys().await, []);

        let heir = Node::join(&other, 1000 + round).await;
        for row in heir.claim(heir.request(now)).await.into_iter().flat_map(|claimed| claimed.rows)
        {
            assert_eq!(heir_of(&store, &row).await, heir.id);
            store.finish_one(&row, succeeded()).await;
        }
        heir.deregister().await;
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

/// The outcomes of runs whose node expires meanwhile are kept, in either order.
pub(super) async fn a_finish_and_a_reap_keep_the_outcome<S: Store>(stage: Stage<S>) {
    const ROWS: u64 = 30;
    let Stage { store, other, now } = stage;
    for round in 0..10 {
        let node = Node::join(&store, round).await;
        for number in 0..ROWS {
            let recover = number % 2 == 0;
            store.add(Record { recover, ..job(round * ROWS + number, now) }).await;
        }
        let claimed = node.claim(node.request(now)).await;
        let suspects = store.suspects([node.id]).await;
        let (begun, begins) = tokio::sync::oneshot::channel();
        let finishing = tokio::spawn({
            let (store, claimed) = (store.clone(), claimed.clone());
            async move {
                let mut begun = Some(begun);
                for (place, row) in (0..).zip(claimed.iter().flat_map(|claimed| &claimed.rows)) {
                    // The reap starts one outcome later in each round.
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
        let reaping = tokio::spawn({
            let other = other.clone();
            async move {
                begins.await.unwrap();
                other.reap(suspects).await.unwrap()
            }
        });
        finishing.await.unwrap();
        reaping.await.unwrap();
        for key in keys(&claimed) {
            assert_eq!(store.row(key).await.state, RowState::Closed(succeeded()));
        }
        assert_eq!(store.list(RecordFilter::default(), None, 1).await.unwrap().records, []);
    }
}

/// A node that sends the same claim twice at once gets no fire time twice.
pub(super) async fn concurrent_retries_of_a_claim_are_one<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..15 {
        for number in 0..10 {
            store.add(job(round * 10 + number, now)).await;
        }
        let request = ClaimRequest { limit: 5, ..node.request(now) };
        let claims = [&store, &other].map(|store| {
            let (store, request) = (store.clone(), request.clone());
            tokio::spawn(async move { store.claim(request).await })
        });
        for claim in claims {
            claim.await.unwrap().unwrap();
        }
        let claimed = node.claim(request).await;
        assert_eq!(keys(&claimed), node.claimed_keys().await);
        assert_eq!(claimed.len(), 5);
        let rest = node.claim(node.request(now)).await;
        assert_eq!(rest.len(), 5);
        let rows = claimed.iter().chain(&rest).flat_map(|claimed| &claimed.rows);
        let outcomes = rows.map(|row| finished(row, succeeded(), now)).collect();
        store.finish(outcomes).await.unwrap();
    }
}

/// However slow a decision is, no two nodes claim rows of one job, also if it is due again at once.
pub(super) async fn slow_claims_share_no_job<S: Store>(stage: Stage<S>) {
    const JOBS: u64 = 12;
    let Stage { store, other, now } = stage;
    for round in 0..6 {
        for number in 0..JOBS {
            store.add(job(round * JOBS + number, now - secs(100))).await;
        }
        let barrier = Arc::new(Barrier::new(4));
        let claims = (0..4).map(|number| {
            let (store, barrier) = ([&store, &other][number % 2].clone(), barrier.clone());
            tokio::spawn(async move {
                let node = Node::join(&store, round * 10 + number as u64).await;
                barrier.wait().await;
                let mut fire_times = Vec::new();
                for _ in 0..3 {
                    let decide: Decide = Arc::new(move |record, _| {
                        // The others decide meanwhile, where the store lets them.
                        std::thread::sleep(Duration::from_micros(300));
                        let first = record.next_fire.unwrap_or(now);
                        let rows = (0..3).map(|number| scheduled(record, first + secs(number)));
                        Decision::Claim { rows: rows.collect(), next_fire: Some(first + secs(3)) }
                    });
                    let limit = 3 + 2 * number;
                    let request = ClaimRequest { decide, limit, ..node.request(now) };
                    let claimed = node.claim(request).await;
                    fire_times.extend(keys(&claimed));
                }
                (node, fire_times)
            })
        });
        let (mut claimed, mut nodes) = (Vec::new(), Vec::new());
        for claim in join_all(claims).await {
            let (node, keys) = claim.unwrap();
            claimed.extend(keys);
            nodes.push(node);
        }
        let count = claimed.len();
        let distinct: HashSet<RowKey> = claimed.into_iter().collect();
        assert_eq!(distinct.len(), count, "a fire time was claimed twice");
        let mut holders = HashMap::<Incarnation, HashSet<NodeId>>::new();
        for row in store.all_rows().await {
            if let RowState::Claimed(node) = row.state {
                holders.entry(row.key.incarnation).or_default().insert(node);
            }
        }
        assert!(holders.values().all(|nodes| nodes.len() == 1), "{holders:?}");
        for node in nodes {
            node.deregister().await;
        }
        let listed = store.list(RecordFilter::default(), None, 100).await.unwrap().records;
        let removals = listed.iter().map(|record| remove(record, Fate::Removed));
        store.done(removals.collect()).await;
    }
}

/// A claim whose job is written while it decides does not commit what it decided.
pub(super) async fn a_claim_decides_the_current_record<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..15 {
        let record = store.add(job(round, now)).await;
        let (begun, begins) = tokio::sync::oneshot::channel();
        let begun = Mutex::new(Some(begun));
        let fire = fire(now, |_| None);
        let decide: Decide = Arc::new(move |record, waiting| {
            if let Some(begun) = begun.lock().unwrap().take() {
                // The writer may have gone.
                let _ = begun.send(());
                // Time for the write, where the store lets it.
                std::thread::sleep(Duration::from_millis(10));
            }
            fire(record, waiting)
        });
        let claiming = tokio::spawn({
            let (store, request) = (store.clone(), ClaimRequest { decide, ..node.request(now) });
            async move { store.claim(request).await.unwrap().jobs }
        });
        begins.await.unwrap();
        let later = Record { next_fire: Some(now + secs(60)), ..record.clone() };
        let written = other.write_one(update(&record, later)).await;
        let claimed = claiming.await.unwrap();
        if written == WriteResult::Done {
            assert_eq!(keys(&claimed), [], "the job was not due any more");
            let current = store.record(&record.id).await;
            assert_eq!(current.next_fire, Some(now + secs(60)));
            store.done(vec![remove(&current, Fate::Removed)]).await;
        } else {
            assert_eq!(keys(&claimed), [scheduled(&record, now).key]);
            store.finish_one(&claimed[0].rows[0], succeeded()).await;
        }
    }
}

/// The last outcome of a job and a requested run of it: either the job ends first, and the request
/// is lost, or it goes on.
pub(super) async fn a_finish_and_a_request_agree<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..30 {
        let record = store.add(job(round, now)).await;
        let row = node.claim_one(now).await;
        let current = store.record(&record.id).await;
        let mut request = update(&current, Record { requests: 1, ..current.clone() });
        let asked = requested(&record, 1, now);
        request.rows = vec![Row { state: RowState::Waiting, ..asked.clone() }];
        let finishing = tokio::spawn({
            let (store, row) = (store.clone(), row.clone());
            async move { store.finish_one(&row, succeeded()).await }
        });
        let requesting = tokio::spawn({
            let other = other.clone();
            async move { other.write_one(request).await }
        });
        let report = finishing.await.unwrap();
        assert_eq!(report.refused, []);
        match requesting.await.unwrap() {
            WriteResult::Done => {
                assert_eq!(report.over, []);
                let row = node.claim_one(now).await;
                assert_eq!(row.key, asked.key);
                assert_eq!(store.finish_one(&row, succeeded()).await.over, [record.incarnation]);
            }
            WriteResult::Lost(current) => {
                assert_eq!((current, report.over), (None, vec![record.incarnation]));
            }
        }
        assert!(!store.is_there(&record).await);
        assert_eq!(store.end(&record).await, Some(Fate::Completed));
    }
    assert!(store.all_rows().await.iter().all(|row| !row.state.is_open()));
}

/// Whoever closes the last two rows of a job at once, one of them ends it.
pub(super) async fn the_last_two_outcomes_end_a_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for round in 0..30 {
        let record = store.add(job(round, now)).await;
        let rows = vec![scheduled(&record, now - secs(1)), scheduled(&record, now)];
        let request = ClaimRequest { decide: always(rows, None), ..node.request(now) };
        let claimed = node.claim(request).await.remove(0).rows;
        let barrier = Arc::new(Barrier::new(2));
        let outcomes = claimed.into_iter().zip([&store, &other]).map(|(row, store)| {
            let (store, barrier) = (store.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                store.finish_one(&row, succeeded()).await.over
            })
        });
        let mut over = Vec::new();
        for outcome in join_all(outcomes).await {
            over.extend(outcome.unwrap());
        }
        assert_eq!(over, [record.incarnation]);
        assert!(!store.is_there(&record).await);
        assert_eq!(store.end(&record).await, Some(Fate::Completed));
    }
}

/// A job that is replaced during claims leaves no waiting row, and any node may claim the new one.
pub(super) async fn a_replacement_and_a_claim_lose_nothing<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    for round in 0..20 {
        let record = job(round, now);
        let record = store.add_waiting(record.clone(), requested(&record, 1, now)).await;
        // Not due before the others have looked.
        let new = Record { next_fire: Some(now + secs(60)), ..next_incarnation(&record) };
        let claiming = tokio::spawn({
            let (store, request) = (store.clone(), node.request(now));
            async move { store.claim(request).await.unwrap().jobs }
        });
        let replacing = tokio::spawn({
            let (other, new) = (other.clone(), new.clone());
            async move {
                loop {
                    // It lost against the claim.
                    let current = other.record(&new.id).await;
                    if other.write_one(replace(&current, new.clone())).await == WriteResult::Done {
                        break;
                    }
                }
            }
        });
        let claimed = claiming.await.unwrap();
        replacing.await.unwrap();
        assert_eq!(store.end(&record).await, Some(Fate::Replaced));
        let current = store.record(&new.id).await;
        assert_eq!((current.incarnation, current.next_fire), (new.incarnation, new.next_fire));
        let rows = store.history(record.incarnation, 10).await.unwrap();
        let open = rows.iter().filter(|row| row.state.is_open());
        assert!(open.clone().all(|row| row.state == RowState::Claimed(node.id)), "{rows:?}");
        let mut open: Vec<_> = open.map(|row| row.key).collect();
        open.sort();
        assert_eq!(keys(&claimed), open);
        let row = rival.claim_one(now + secs(60)).await;
        assert_eq!(row.key, scheduled(&new, now + secs(60)).key);
        store.finish_one(&row, succeeded()).await;
        for row in claimed.iter().flat_map(|claimed| &claimed.rows) {
            assert_eq!(store.finish_one(row, succeeded()).await.over, []);
        }
    }
    assert!(store.all_rows().await.iter().all(|row| !row.state.is_open()));
}

/// During concurrent writes and claims, a list returns each record once that exists throughout.
pub(super) async fn a_list_during_changes_misses_nothing<S: Store>(stage: Stage<S>) {
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
            assert!(listed.len() <= 80, "the pages do not end");
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
