//! A million jobs, and a thousand a second: memory and the ledger stay within bounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use punctual::{
    Coalesce, Context, EventFilter, EventKind, OnConflict, Scheduler, Task,
    store::{SqliteStore, Synchronous},
    trigger::{after, every, now},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    fixture::{Folder, connect},
    tasks::{Notes, on, remember},
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Invoice {
    customer: u64,
}

impl Task for Invoice {
    const NAME: &'static str = "invoice";
    type Output = ();

    async fn run(self, _: Context) {}
}

/// Counts its runs.
#[derive(Serialize, Deserialize)]
struct Counted(u64);

impl Task for Counted {
    const NAME: &'static str = "counted";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Arc<AtomicU64>>().fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the peak memory of the process since the last call, in megabytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kilobytes / 1024
}

async fn scheduler(folder: &Folder) -> Scheduler {
    let store = SqliteStore::builder(folder.file()).synchronous(Synchronous::Normal).open();
    Scheduler::builder().store(store.await.unwrap()).task::<Invoice>().start().await.unwrap()
}

#[tokio::test]
#[ignore = "it takes minutes, and measures the memory of the process: run it alone"]
async fn a_million_jobs_take_bounded_memory() {
    let folder = Folder::new();
    let scheduler = scheduler(&folder).await;
    peak();
    let before = peak();
    let begun = Instant::now();
    for batch in 0..1000_u64 {
        let jobs = (0..1000).map(|n| {
            let invoice = Invoice { customer: batch * 1000 + n };
            scheduler.add(after(Duration::from_secs(100_000)), invoice)
        });
        scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
    }
    let added = peak();
    println!("adding: {} MB more, {:?}", added - before, begun.elapsed());
    let begun = Instant::now();
    let listed = scheduler.jobs().stream().try_fold(0, async |n, _| Ok(n + 1)).await.unwrap();
    let streamed = peak();
    println!("listing: {} MB more, {:?}", streamed - before, begun.elapsed());
    let begun = Instant::now();
    let pieces = scheduler.export_stream().unwrap();
    let bytes = pieces.try_fold(0, async |n, piece| Ok(n + piece.len())).await.unwrap();
    let exported = peak();
    println!("export: {} MB more, {bytes} bytes, {:?}", exported - before, begun.elapsed());
    assert_eq!(listed, 1_000_000);
    assert!([added, streamed, exported].iter().all(|peak| peak - before <= 200));
    let begun = Instant::now();
    assert_eq!(scheduler.remove_all().await.unwrap(), 1_000_000);
    let removed = peak();
    println!("removing: {} MB more, {:?}", removed - before, begun.elapsed());
    assert!(removed - before <= 200);
    scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes, and measures rates: run it alone"]
async fn a_million_jobs_that_are_due_at_once_all_run() {
    const COUNT: u64 = 1_000_000;
    let (folder, ran) = (Folder::new(), Arc::new(AtomicU64::new(0)));
    let store = SqliteStore::builder(folder.file()).synchronous(Synchronous::Normal).open();
    let builder = Scheduler::builder().store(store.await.unwrap()).state(ran.clone()).paused();
    let scheduler = builder.task::<Counted>().start().await.unwrap();
    let begun = Instant::now();
    for batch in 0..COUNT / 1000 {
        let jobs = (0..1000).map(|n| scheduler.add(now(), Counted(batch * 1000 + n)));
        scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
    }
    let rate = |took: Duration| COUNT as f64 / took.as_secs_f64();
    println!("adding: {:.0} a second", rate(begun.elapsed()));
    let begun = Instant::now();
    scheduler.resume().await.unwrap();
    while ran.load(Ordering::Relaxed) < COUNT {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("draining: {:.0} a second", rate(begun.elapsed()));
    scheduler.shutdown().await;
    assert_eq!(ran.load(Ordering::Relaxed), COUNT);
}

#[tokio::test]
async fn a_thousand_declarations_that_have_not_changed_write_nothing() {
    let folder = Folder::new();
    let scheduler = scheduler(&folder).await;
    let declare = async || {
        let jobs = (0..1000).map(|customer| {
            let add = scheduler.add("0 9 1 1 *", Invoice { customer });
            add.id(format!("invoice-{customer}")).on_conflict(OnConflict::Reconcile)
        });
        let begun = Instant::now();
        scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
        begun.elapsed()
    };
    let connection = connect(&folder.file());
    let versions = || -> (i64, i64) {
        let sum = "SELECT count(*), sum(version) FROM punctual_jobs";
        connection.query_row(sum, [], |row| row.try_into()).unwrap()
    };
    let first = declare().await;
    assert_eq!(versions(), (1000, 1000));
    let again = [declare().await, declare().await, declare().await];
    println!("a thousand declarations: {first:?} at first, {again:?} again");
    assert_eq!(versions(), (1000, 1000));
    scheduler.shutdown().await;
}

#[tokio::test]
#[ignore = "it takes ten minutes"]
async fn the_ledger_stays_within_its_bound_at_a_thousand_one_shots_a_second() {
    let folder = Folder::new();
    let scheduler = scheduler(&folder).await;
    let (begun, mut longest, mut tick) =
        (Instant::now(), 0, tokio::time::interval(Duration::from_secs(1)));
    for second in 0..600 {
        tick.tick().await;
        let jobs = (0..1000).map(|customer| scheduler.add(now(), Invoice { customer }));
        scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
        if second % 10 == 0 {
            let rows: i64 = connect(&folder.file())
                .query_row("SELECT count(*) FROM punctual_ledger", [], |row| row.get(0))
                .unwrap();
            longest = longest.max(rows);
        }
    }
    println!("{longest} rows at most, {:?}", begun.elapsed());
    assert!(longest <= 1_000_000);
    scheduler.shutdown().await;
}

/// A hundred jobs catch up on three hours.
#[tokio::test]
async fn a_catch_up_does_not_cost_the_lease() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let first = on(&store, &notes).paused().start().await.unwrap();
    let jobs = (0..100).map(|n| {
        let add = first.add(every(SECOND), remember("x")).id(format!("{n}"));
        add.coalesce(Coalesce::All).max_catch_up(3000).max_instances(1)
    });
    first.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
    first.shutdown().await;
    // As if no node had been alive for three hours.
    folder.change("UPDATE punctual_jobs SET next_fire = next_fire - 10800000");
    folder.change(
        "UPDATE punctual_jobs SET trigger = json_set(trigger, '$.start', '2020-01-01T00:00:00Z')",
    );
    let scheduler = on(&store, &notes).lease(SECOND * 5).start().await.unwrap();
    let kinds = [EventKind::LeaseLost, EventKind::LeaseLapsed];
    let mut events = scheduler.events_matching(EventFilter::new().kinds(kinds));
    let mut told = Vec::new();
    for _ in 0..12 {
        sleep(SECOND).await;
        while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
            told.push(format!("{:?}", event.payload));
        }
    }
    let closed = "SELECT fate, count(*) FROM punctual_ledger GROUP BY fate";
    let connection = rusqlite::Connection::open(folder.file()).unwrap();
    let mut statement = connection.prepare(closed).unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?));
    let fates: Vec<(Option<String>, i64)> =
        statement.query_map([], read).unwrap().map(Result::unwrap).collect();
    assert!(told.is_empty(), "{told:?}; {} ran; {fates:?}", notes.len());
}
