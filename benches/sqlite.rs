//! How many fire times a second does the SQLite store take and finish, beside plain SQL?
//!
//! The sizes are those of the table of jobs, all of which are due. Each fire time is claimed, its job
//! moved on, its row put into the ledger in one commit, and closed in another. The floor does just
//! that with rusqlite, on tables of the same shape in a copy of the same file: once on a thread that
//! has nothing else to do, and once as asynchronous code has to, by a thread that may wait for a disk.

mod common;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::Utc;
use common::{
    Args,
    claims::{self, HORIZON, Node, Pace, TASK},
    figures,
};
use punctual::store::{SqliteStore, Synchronous};
use rusqlite::{Connection, TransactionBehavior, config::DbConfig};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];

fn main() {
    let args: Args = clap::Parser::parse();
    let runtime = common::runtime();
    let round = Duration::from_millis(if args.test() { 1 } else { 400 });
    println!("\nSQLite: fire times taken and finished; the floors do it with plain SQL");
    println!(
        "{:>9}  {:<7} {:>6} {:>9} {:>9} {:>9} {:>7} {:>7} {:>10} {:>10} {:>7} {:>10}",
        "jobs",
        "commit",
        "batch",
        "floor/s",
        "async/s",
        "ours/s",
        "ratio",
        "async",
        "floor CPU",
        "our CPU",
        "ratio",
        "4 nodes/s"
    );
    for size in args.sizes(&[10_000, 1_000_000]) {
        let folder = Folder::new();
        let [ours, floor, shared] = ["ours", "floor", "shared"].map(|name| folder.0.join(name));
        runtime.block_on(fill(&ours, size));
        for copy in [&floor, &shared] {
            std::fs::copy(&ours, copy).expect("there is room for a copy");
        }
        for synchronous in [Synchronous::Full, Synchronous::Normal] {
            let floor = Arc::new(Mutex::new(Floor::open(&floor, synchronous, size)));
            let mut one = runtime.block_on(join_all(1, &ours, synchronous, size));
            let mut four = runtime.block_on(join_all(4, &shared, synchronous, size));
            for batch in BATCHES {
                let name = format!("{synchronous:?} {batch}.");
                if !args.wants(&name) {
                    continue;
                }
                let [mut floors, mut asyncs, mut ones, mut fours] = [const { Vec::new() }; 4];
                for _ in 0..args.rounds(5) {
                    floors.push(Pace::of(|start| {
                        let mut done = 0;
                        let mut floor = floor.lock().expect("nothing panics");
                        while start.elapsed() < round {
                            done += floor.step(batch);
                        }
                        done
                    }));
                    asyncs.push(Pace::of(|start| {
                        runtime.block_on(async {
                            let mut done = 0;
                            while start.elapsed() < round {
                                done += Floor::step_async(&floor, batch).await;
                            }
                            done
                        })
                    }));
                    ones.push(Pace::of(|start| {
                        runtime.block_on(Node::go(&mut one, start, round, batch))
                    }));
                    fours.push(Pace::of(|start| {
                        runtime.block_on(Node::go(&mut four, start, round, batch))
                    }));
                }
                let [floor, asynchronous, one, four] =
                    [floors, asyncs, ones, fours].map(|paces| Pace::median(&paces));
                println!(
                    "{:>9}  {:<7} {:>6} {:>9} {:>9} {:>9} {:>7.2} {:>7.2} {:>7.0} µs {:>7.0} µs {:>7.2} {:>10}",
                    figures::grouped(size),
                    format!("{synchronous:?}"),
                    batch,
                    figures::short(floor.rate),
                    figures::short(asynchronous.rate),
                    figures::short(one.rate),
                    one.rate / floor.rate,
                    one.rate / asynchronous.rate,
                    floor.cpu,
                    one.cpu,
                    floor.cpu / one.cpu,
                    figures::short(four.rate),
                );
            }
        }
    }
}

/// A file with so many jobs.
async fn fill(path: &Path, size: usize) {
    let open = SqliteStore::builder(path).synchronous(Synchronous::Normal).open();
    claims::fill(&open.await.expect("the folder is new"), size).await;
    // All of it is to be in the file itself, which is copied.
    let connection = Connection::open(path).expect("the file is there");
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .expect("it is a pragma");
    assert_eq!(busy, 0, "nobody else reads or writes");
}

async fn join_all(
    count: usize,
    path: &Path,
    synchronous: Synchronous,
    size: usize,
) -> Vec<Node<SqliteStore>> {
    let open = SqliteStore::builder(path).synchronous(synchronous).open();
    let store = open.await.expect("the file is there");
    futures::future::join_all((0..count).map(|_| Node::join(store.clone(), size))).await
}

/// The same by hand, without leases, holders and repeated answers.
struct Floor {
    connection: Connection,
    period: i64,
}

impl Floor {
    fn open(path: &Path, synchronous: Synchronous, size: usize) -> Floor {
        let connection = Connection::open(path).expect("the file is there");
        let pragma =
            |name, value: &str| connection.pragma_update_and_check(None, name, value, |_| Ok(()));
        pragma("journal_mode", "WAL").expect("it is so already");
        let synchronous = match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous).expect("it is a name");
        connection.pragma_update(None, "cache_size", -32_768).expect("it is a number");
        // Else each take is prepared anew.
        let stable = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
        connection.set_db_config(stable, true).expect("it is a flag");
        Floor::forget_holders(&connection).expect("the statements are right");
        Floor { connection, period: size as i64 }
    }

    /// Leaves out what the store has so that nodes pass over what others hold. It is done anew each
    /// time the file is opened.
    fn forget_holders(connection: &Connection) -> rusqlite::Result<()> {
        let mut triggers =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")?;
        let triggers: Vec<String> =
            triggers.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for trigger in triggers {
            connection.execute_batch(&format!("DROP TRIGGER {trigger}"))?;
        }
        connection.execute_batch(
            "DROP INDEX punctual_jobs_due; \
             CREATE INDEX punctual_jobs_due ON punctual_jobs (task, next_fire) \
             WHERE paused = 0 AND next_fire IS NOT NULL; \
             DROP INDEX IF EXISTS punctual_jobs_ready; \
             DROP INDEX IF EXISTS punctual_ledger_closed;",
        )
    }

    fn step(&mut self, batch: usize) -> usize {
        let taken = self.claim(batch).expect("the statements are right");
        self.finish(&taken).expect("the statements are right");
        taken.len()
    }

    async fn step_async(floor: &Arc<Mutex<Floor>>, batch: usize) -> usize {
        let taken = Floor::on_a_thread(floor, move |floor| floor.claim(batch)).await;
        let done = taken.len();
        Floor::on_a_thread(floor, move |floor| floor.finish(&taken)).await;
        done
    }

    async fn on_a_thread<T: Send + 'static>(
        floor: &Arc<Mutex<Floor>>,
        work: impl FnOnce(&mut Floor) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        let floor = floor.clone();
        let work = move || work(&mut floor.lock().expect("nothing panics"));
        let done = tokio::task::spawn_blocking(work).await.expect("nothing panics");
        done.expect("the statements are right")
    }

    fn claim(&mut self, batch: usize) -> rusqlite::Result<Vec<(i64, i64, i64)>> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let due: Vec<(i64, String, String, i64, i64)> = transaction
            .prepare_cached(
                "SELECT incarnation, id, args, fence, next_fire FROM punctual_jobs \
                 WHERE task = ?1 AND paused = 0 AND next_fire <= ?2 ORDER BY next_fire LIMIT ?3",
            )?
            .query_map((TASK, HORIZON, batch as i64), |row| row.try_into())?
            .collect::<rusqlite::Result<_>>()?;
        let mut taken = Vec::with_capacity(due.len());
        let mut advance = transaction.prepare_cached(
            "UPDATE punctual_jobs SET fence = ?2, next_fire = ?3 WHERE incarnation = ?1",
        )?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO punctual_ledger (incarnation, kind, number, job, fire_time, last, count, \
             coalesced, node, fence, attempt, recover) \
             VALUES (?1, 0, ?2, ?3, ?2, ?2, 1, 0, 1, ?4, 1, 0)",
        )?;
        for (incarnation, id, args, fence, next_fire) in due {
            std::hint::black_box(args);
            advance.execute((incarnation, fence + 1, next_fire + self.period))?;
            insert.execute((incarnation, next_fire, id, fence + 1))?;
            taken.push((incarnation, next_fire, fence + 1));
        }
        drop((advance, insert));
        transaction.commit()?;
        Ok(taken)
    }

    fn finish(&mut self, taken: &[(i64, i64, i64)]) -> rusqlite::Result<()> {
        let now = Utc::now().timestamp_millis();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut close = transaction.prepare_cached(
            "UPDATE punctual_ledger SET node = NULL, fate = 'ran: succeeded', started_at = ?4, \
             ended_at = ?4 WHERE incarnation = ?1 AND kind = 0 AND number = ?2 AND fence = ?3",
        )?;
        for (incarnation, number, fence) in taken {
            let closed = close.execute((incarnation, number, fence, now))?;
            assert_eq!(closed, 1, "nothing else takes");
        }
        drop(close);
        transaction.commit()
    }
}

/// A folder for the files, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("punctual-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("files can be made");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
