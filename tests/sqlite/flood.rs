//! Jobs with unreadable records, however many, do not prevent other jobs from running.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    Context, EventFilter, EventKind, Scheduler, Task,
    store::{Incarnation, Record, SqliteStore, Store as _, Synchronous, Write},
    trigger::{after, every},
};
use serde::{Deserialize, Serialize};

use crate::fixture::{Folder, connect};

#[derive(Serialize, Deserialize)]
struct Tick;

impl Task for Tick {
    const NAME: &'static str = "tick";
    type Output = ();

    async fn run(self, _: Context) {}
}

/// Returns the number of jobs, and how long the healthy job is watched: `PUNCTUAL_FLOOD=500000` is
/// for measuring.
fn size() -> (u64, Duration) {
    match std::env::var("PUNCTUAL_FLOOD").ok().map(|text| text.parse()) {
        None => (4000, Duration::from_secs(3)),
        Some(size) => (size.expect("`PUNCTUAL_FLOOD` is a number"), Duration::from_secs(40)),
    }
}

/// Half of the jobs have unreadable arguments, the others unreadable triggers; they have been due
/// for as many milliseconds as there are jobs.
async fn fill(store: &SqliteStore, size: u64) {
    let now = Utc::now();
    let numbers: Vec<u64> = (1..=size).collect();
    for numbers in numbers.chunks(1000) {
        let write = |&number: &u64| {
            let incarnation = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
            let id = format!("poison-{number}");
            let mut record = Record::new(id, Incarnation(incarnation), Tick::NAME, now);
            record.trigger = r#"{"interval":{"every":"1h","start":"2023-11-14T22:13:20Z"}}"#.into();
            record.args = "null".into();
            match number % 2 {
                0 => record.args = r#"{"of":"a newer version"}"#.into(),
                _ => record.trigger = r#"{"moon":{"phase":"full"}}"#.into(),
            }
            record.next_fire = Some(now - TimeDelta::milliseconds(number as i64));
            Write::add(record, incarnation)
        };
        store.write(numbers.iter().map(write).collect()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_records_block_nothing() {
    let (size, watched) = size();
    let folder = Folder::new();
    let open = SqliteStore::builder(folder.file()).synchronous(Synchronous::Normal).open();
    let store = open.await.unwrap();
    fill(&store, size).await;
    let scheduler = Scheduler::builder().store(store.clone()).task::<Tick>().start().await.unwrap();
    let executed = EventFilter::new().kinds([EventKind::Executed]).job("healthy");
    let mut runs = scheduler.events_matching(executed).boxed();
    let period = Duration::from_millis(500);
    scheduler.add(every(period), Tick).id("healthy").await.unwrap();
    let connection = connect(&folder.file());
    let node = || -> Option<i64> {
        connection.query_row("SELECT max(node) FROM punctual_nodes", [], |row| row.get(0)).unwrap()
    };
    while node().is_none() {
        // It joins by itself, on the system's clock.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = node();
    let (start, mut slowest, mut count) = (Instant::now(), Duration::ZERO, 0);
    // The test shows that nothing waits for a disk or a thread that is busy with these jobs.
    while start.elapsed() < watched {
        let asked = Instant::now();
        scheduler.add(after(Duration::from_secs(3600)), Tick).await.unwrap();
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Ok(Some(_)) = tokio::time::timeout(Duration::ZERO, runs.next()).await {
        count += 1;
    }
    let due = watched.as_millis() / period.as_millis();
    println!("{size} poisoned: {count} of {due} runs; the slowest add took {slowest:?}");
    assert!(count + 2 >= due, "{count} of {due} runs");
    assert!(slowest < Duration::from_secs(1), "an add took {slowest:?}");
    assert_eq!(node(), before, "the lease was lost");
}
