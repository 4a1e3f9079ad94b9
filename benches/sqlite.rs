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
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use common::{Args, Usage, figures};
use futures::future::join_all;
use punctual::store::{
    ClaimCursor, ClaimRequest, Decision, Fate, Heartbeat, Incarnation, NodeId, Record, Row, RowKey,
    RowKind, RowOutcome, RowState, RunEnd, SqliteStore, Store, Synchronous, Write,
};
use rusqlite::{Connection, TransactionBehavior, config::DbConfig};

const TASK: &str = "send-invoice";
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
            let mut one = runtime.block_on(Node::join_all(1, &ours, synchronous, size));
            let mut four = runtime.block_on(Node::join_all(4, &shared, synchronous, size));
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
                    [floors, asyncs, ones, fours].map(Pace::median);
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

/// How fast it went.
struct Pace {
    /// Fire times a second.
    rate: f64,
    /// CPU time for each, in microseconds.
    cpu: f64,
}

impl Pace {
    /// Of what says how many fire times it did.
    fn of(work: impl FnOnce(Instant) -> usize) -> Pace {
        let (usage, start) = (Usage::now(), Instant::now());
        let done = work(start) as f64;
        Pace {
            rate: done / start.elapsed().as_secs_f64(),
            cpu: Usage::since(usage).cpu.as_secs_f64() * 1e6 / done,
        }
    }

    fn median(paces: Vec<Pace>) -> Pace {
        Pace {
            rate: figures::median(paces.iter().map(|pace| pace.rate)),
            cpu: figures::median(paces.iter().map(|pace| pace.cpu)),
        }
    }
}

fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).expect("it is within this century")
}

/// When the first job is due; each of the others a millisecond after the one before.
const FIRST: i64 = 1_700_000_000_000;

async fn fill(path: &Path, size: usize) {
    let open = SqliteStore::builder(path).synchronous(Synchronous::Normal).open();
    let store = open.await.expect("the folder is new");
    let numbers: Vec<u64> = (0..size as u64).collect();
    for numbers in numbers.chunks(1000) {
        let writes = numbers.iter().map(|&number| adding(number)).collect();
        store.write(writes).await.expect("there is room");
    }
    // All of it is to be in the file itself, which is copied.
    let connection = Connection::open(path).expect("the file is there");
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .expect("it is a pragma");
    assert_eq!(busy, 0, "nobody else reads or writes");
}

fn adding(number: u64) -> Write {
    // Spread as random numbers are.
    let incarnation = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
    let id = format!("invoice-{number}");
    let mut record = Record::new(id, Incarnation(incarnation), TASK, instant(FIRST));
    record.args = format!(r#"{{"customer":{number}}}"#);
    record.trigger = r#"{"interval":{"every":"1h","start":"2023-11-14T22:13:20Z"}}"#.into();
    record.options = r#"{"max_instances":2}"#.into();
    record.next_fire = Some(instant(FIRST + number as i64));
    Write::add(record, incarnation)
}

/// A scheduler as the store sees it.
struct Node {
    store: SqliteStore,
    take: ClaimRequest,
}

impl Node {
    async fn join_all(
        count: usize,
        path: &Path,
        synchronous: Synchronous,
        size: usize,
    ) -> Vec<Node> {
        let open = SqliteStore::builder(path).synchronous(synchronous).open();
        let store = open.await.expect("the file is there");
        join_all((0..count).map(|_| Node::join(&store, size))).await
    }

    /// Lets nodes take at the same time, and says how many fire times they did.
    async fn go(nodes: &mut [Node], start: Instant, round: Duration, batch: usize) -> usize {
        let each = nodes.iter_mut().map(async |node| {
            let mut done = 0;
            while start.elapsed() < round {
                done += node.step(batch).await;
            }
            done
        });
        join_all(each).await.into_iter().sum()
    }

    async fn join(store: &SqliteStore, size: usize) -> Node {
        let node = NodeId(rand());
        let ttl = Duration::from_secs(86_400);
        let heartbeat = Heartbeat::new(node, "bench", true, ttl);
        store.heartbeat(heartbeat).await.expect("the store is open");
        let period = TimeDelta::milliseconds(size as i64);
        let decide = move |record: &Record, _: &[Row]| {
            let fire_time = record.next_fire.expect("it is due");
            let (incarnation, number) = (record.incarnation, fire_time.timestamp_millis());
            let key = RowKey { incarnation, kind: RowKind::Scheduled, number };
            let mut row = Row::new(key, record.id.clone(), fire_time, RowState::Claimed(node));
            row.recover = record.recover;
            Decision::Claim { rows: vec![row], next_fire: Some(fire_time + period) }
        };
        let take = ClaimRequest {
            node,
            number: 0,
            horizon: instant(4 * FIRST),
            tasks: Arc::new([TASK.to_owned()].into()),
            except: Arc::default(),
            passed: ClaimCursor::default(),
            looks: usize::MAX,
            limit: 0,
            row_limit: usize::MAX,
            decide: Arc::new(decide),
        };
        Node { store: store.clone(), take }
    }

    async fn step(&mut self, batch: usize) -> usize {
        self.take.number += 1;
        self.take.limit = batch;
        let claim_result = self.store.claim(self.take.clone()).await.expect("the node lives");
        let now = Utc::now();
        let rows = claim_result.jobs.iter().flat_map(|taken| &taken.rows);
        let outcomes: Vec<RowOutcome> = rows
            .map(|row| RowOutcome {
                key: row.key,
                fence: row.fence,
                fate: Fate::Ran(RunEnd::Succeeded),
                attempt: 1,
                started_at: Some(now),
                ended_at: now,
                message: None,
                job_end: Fate::Completed,
            })
            .collect();
        let done = outcomes.len();
        let report = self.store.finish(outcomes).await.expect("the store is open");
        assert!(report.refused.is_empty(), "nobody else takes what is held");
        done
    }
}

/// A number that is another in each call and run: nodes are told apart by it.
fn rand() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    RandomState::new().hash_one(0) >> 1
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
            .query_map((TASK, 4 * FIRST, batch as i64), |row| row.try_into())?
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
