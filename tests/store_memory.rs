//! The store in memory keeps the contract of stores, uses the given clock, and claims as fast from
//! many jobs as from few.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _};
use punctual::{
    store::{
        ClaimCursor, ClaimRequest, ClaimResult, Decide, Decision, Heartbeat, Incarnation,
        MemoryStore, NodeId, Record, Store, Write,
    },
    testing::{ManualClock, store_conformance},
};

store_conformance!(bounded, async || {
    let store = MemoryStore::with_max_jobs(12_000);
    async move || store.clone()
});

store_conformance!(memory, async || {
    let store = MemoryStore::new();
    async move || store.clone()
});

const NODE: NodeId = NodeId(1);

#[tokio::test]
async fn leases_go_by_the_clock_that_is_given() {
    let clock = ManualClock::new("2026-01-01T00:00:00.0005Z".parse().unwrap());
    let store = MemoryStore::with_clock(clock.clone());
    // Instants are whole milliseconds.
    assert_eq!(
        store.now().await.unwrap(),
        "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap()
    );
    join(&store, Duration::from_secs(15)).await;
    let rows = store.nodes().await.unwrap();
    let until: DateTime<Utc> = "2026-01-01T00:00:15Z".parse().unwrap();
    assert_eq!((rows.len(), rows[0].lease_until), (1, until));
}

#[tokio::test(start_paused = true)]
async fn paused_time_is_followed() {
    let store = MemoryStore::new();
    let before = store.now().await.unwrap();
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(store.now().await.unwrap() - before, TimeDelta::days(1));
}

#[tokio::test]
async fn changes_end_with_the_store() {
    let store = MemoryStore::new();
    let mut changes = store.changes();
    assert_eq!(changes.next().now_or_never(), None);
    drop(store);
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn a_decision_that_panics_changes_nothing() {
    let store = MemoryStore::new();
    let now = store.now().await.unwrap();
    join(&store, Duration::from_secs(60)).await;
    add(&store, 0..2, "task", now).await;
    let decide: Decide = Arc::new(|_, _| panic!("on purpose"));
    let panicking = ClaimRequest { decide, ..ask(1, now) };
    let take = AssertUnwindSafe(|| store.claim(panicking).now_or_never());
    assert!(catch_unwind(take).is_err());
    assert_eq!(store.claim(ask(1, now)).await.unwrap().jobs.len(), 2);
}

/// A scan would cost a hundred times as much, and so would one over jobs of unknown tasks.
#[tokio::test]
async fn a_claim_costs_the_same_with_many_jobs() {
    let few = cost_of_a_claim(1_000).await;
    let many = cost_of_a_claim(100_000).await;
    assert!(many < few * 15, "a take took {few:?} with few jobs, and {many:?} with many");
}

/// Returns the fastest of several claims of ten jobs, beside `jobs` later and `jobs` unknown ones.
async fn cost_of_a_claim(jobs: u64) -> Duration {
    let store = MemoryStore::new();
    let now = store.now().await.unwrap();
    join(&store, Duration::from_secs(600)).await;
    add(&store, 0..200, "task", now).await;
    add(&store, 200..200 + jobs, "task", now + TimeDelta::days(1)).await;
    add(&store, 200 + jobs..200 + 2 * jobs, "unknown", now - TimeDelta::days(1)).await;
    let mut fastest = Duration::MAX;
    for number in 1..=20 {
        let take = ClaimRequest { limit: 10, ..ask(number, now) };
        let start = Instant::now();
        let ClaimResult { jobs, .. } = store.claim(take).await.unwrap();
        fastest = fastest.min(start.elapsed());
        assert_eq!(jobs.len(), 10);
    }
    fastest
}

async fn join(store: &MemoryStore, ttl: Duration) {
    store.heartbeat(Heartbeat::new(NODE, "node", true, ttl)).await.unwrap();
}

async fn add(store: &MemoryStore, numbers: std::ops::Range<u64>, task: &str, at: DateTime<Utc>) {
    let insert = |number: u64| {
        let mut record = Record::new(format!("job-{number}"), Incarnation(number), task, at);
        record.next_fire = Some(at);
        Write::add(record, number + 1)
    };
    store.write(numbers.map(insert).collect()).await.unwrap();
}

/// A claim after which the jobs are over.
fn ask(number: u64, horizon: DateTime<Utc>) -> ClaimRequest {
    ClaimRequest {
        node: NODE,
        number,
        horizon,
        tasks: Arc::new(["task".to_owned()].into()),
        except: Arc::default(),
        passed: ClaimCursor::default(),
        looks: usize::MAX,
        limit: 100,
        row_limit: usize::MAX,
        decide: Arc::new(|_, _| Decision::Claim { rows: Vec::new(), next_fire: None }),
    }
}
