//! A steady stream of fires of jobs in a store, beside the same jobs in memory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use punctual::{
    Add, Context, Scheduler, SchedulerBuilder, Task,
    store::{MemoryStore, SqliteStore, Synchronous},
    trigger::{at, every},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::steady::{Flow, Log, Stream, mid_millisecond};
use crate::common::{
    jobs,
    postgres::{self, Database},
    seen_to, stop,
};

/// How long the jobs have to be in the store before the first is due: so long, and for each of them.
const LEAD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_micros(400));

/// Where jobs are kept.
#[derive(Clone, Copy)]
enum Kept {
    InMemory,
    MemoryStore,
    Sqlite(Synchronous),
    /// Where a server is named.
    Postgres,
}

const CONTENDERS: [(&str, Kept); 5] = [
    ("in memory", Kept::InMemory),
    ("MemoryStore", Kept::MemoryStore),
    ("SQLite, NORMAL", Kept::Sqlite(Synchronous::Normal)),
    ("SQLite, FULL", Kept::Sqlite(Synchronous::Full)),
    ("PostgreSQL", Kept::Postgres),
];

/// Lets them take turns; says what came of each round of those that are wanted.
pub(crate) fn turns(
    runtime: &Runtime,
    stream: Stream,
    rounds: usize,
    wants: impl Fn(&str) -> bool,
) -> Vec<(&'static str, Vec<Flow>)> {
    let is_there = |kept: Kept| !matches!(kept, Kept::Postgres) || postgres::url().is_some();
    let wanted = CONTENDERS.into_iter().filter(|(name, kept)| wants(name) && is_there(*kept));
    let mut all: Vec<_> = wanted.map(|(name, kept)| (name, kept, Vec::new())).collect();
    for _ in 0..rounds {
        for (_, kept, flows) in &mut all {
            flows.push(watch(runtime, stream, *kept));
        }
    }
    all.into_iter().map(|(name, _, flows)| (name, flows)).collect()
}

fn watch(runtime: &Runtime, stream: Stream, kept: Kept) -> Flow {
    let folder = Folder::new();
    let database = postgres::url().filter(|_| matches!(kept, Kept::Postgres));
    let database = database.map(|url| runtime.block_on(Database::create(&url)));
    let (scheduler, log) = runtime.block_on(async {
        let builder = kept.builder(&folder, database.as_ref()).await;
        mid_millisecond();
        let (lead, for_each) = LEAD;
        let log = Log::new(stream, lead + for_each * stream.jobs() as u32);
        let scheduler = builder.state(log.clone()).task::<Mark>().start().await;
        let scheduler = scheduler.expect("there is a runtime");
        let all = jobs(stream.jobs()).map(|job| kept.add(&scheduler, stream, &log, job));
        drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
        seen_to(&scheduler).await;
        (scheduler, log)
    });
    let flow = log.watch();
    runtime.block_on(async {
        scheduler.remove_all().await.expect("the scheduler is open");
        stop(scheduler).await;
        if let Some(database) = database {
            database.remove(&[]).await;
        }
    });
    flow
}

impl Kept {
    async fn builder(self, folder: &Folder, database: Option<&Database>) -> SchedulerBuilder {
        let builder = Scheduler::builder();
        match self {
            Kept::InMemory => builder,
            Kept::MemoryStore => builder.store(MemoryStore::new()),
            Kept::Sqlite(synchronous) => {
                let store = SqliteStore::builder(folder.0.join("jobs.db")).synchronous(synchronous);
                builder.store(store.open().await.expect("the folder is there"))
            }
            Kept::Postgres => builder.store(database.expect("it is wanted").store.clone()),
        }
    }

    fn add(self, scheduler: &Scheduler, stream: Stream, log: &Log, job: u32) -> Add {
        let first = log.wall + Duration::from_millis(stream.phase(job));
        match stream.times() {
            1 => scheduler.add(at(first), Mark { job }),
            _ => scheduler.add(every(stream.period).starting_at(first), Mark { job }),
        }
    }
}

/// Marks its fire time with how late it is.
#[derive(Serialize, Deserialize)]
struct Mark {
    job: u32,
}

impl Task for Mark {
    const NAME: &'static str = "mark";
    type Output = ();

    async fn run(self, cx: Context) {
        let log = cx.state::<Arc<Log>>();
        log.ran(self.job, (cx.fire_time() - log.wall).num_milliseconds() as u64);
    }
}

/// A folder that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("punctual-durable-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("there is a folder for temporary files");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
