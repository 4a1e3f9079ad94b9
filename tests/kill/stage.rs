//! The stage of the nodes: a folder with the database and the log, and the span of the jobs.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use chrono::Utc;
use rusqlite::{Connection, OpenFlags};

use crate::{jobs::Span, log::Who, node::Setup, process::Process};

pub(crate) const DATABASE: &str = "jobs.db";
pub(crate) const LOG: &str = "log";

/// How long after the last fire time everything must be done.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    folder: PathBuf,
    pub(crate) span: Span,
    lease: Duration,
    pub(crate) rng: Rng,
    started: u32,
}

impl Stage {
    /// Creates a stage whose jobs fire soon, for at least this long.
    pub(crate) fn new(
        name: &str,
        lease: Duration,
        lasts: impl FnOnce(&mut Rng) -> Duration,
    ) -> Stage {
        let seed = std::env::var("PUNCTUAL_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|| Utc::now().timestamp_micros().cast_unsigned());
        println!("{name}: PUNCTUAL_SEED={seed}");
        let mut rng = Rng(seed);
        let folder = std::env::temp_dir().join(format!("punctual-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = (Utc::now().timestamp() + 2) * 1000;
        let last = first + (lasts(&mut rng).as_secs() as i64 + 1) * 1000;
        Stage { folder, span: Span { first, last }, lease, rng, started: 0 }
    }

    /// Starts another node.
    pub(crate) fn start(&mut self) -> Process {
        self.started += 1;
        // The claim ahead decides between abandoned and late.
        let claim_ahead = [0, 50, 300, 1000][self.rng.below(4) as usize];
        Process::start(&Setup {
            folder: self.folder.clone(),
            span: self.span,
            name: format!("node {}", self.started),
            lease: self.lease,
            claim_ahead: Duration::from_millis(claim_ahead),
        })
    }

    /// Returns a random duration up to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.rng.below(most.as_millis() as u64))
    }

    /// Sleeps until this long after the first fire time.
    pub(crate) fn sleep_until(&self, after: Duration) {
        let at = self.span.first + after.as_millis() as i64;
        let wait = at - Utc::now().timestamp_millis();
        std::thread::sleep(Duration::from_millis(wait.try_into().unwrap_or_default()));
    }

    /// Returns the rows that a node has claimed.
    pub(crate) fn held_by(&self, node: &str) -> HashSet<Held> {
        let database = self.database();
        let mut rows = database
            .prepare(
                "SELECT job, number, fence FROM punctual_ledger JOIN punctual_nodes USING (node) \
                 WHERE name = ?1",
            )
            .unwrap();
        let held = rows.query_map([node], |row| {
            let fence: i64 = row.get(2)?;
            Ok(Held { job: row.get(0)?, fire_time: row.get(1)?, fence: fence.cast_unsigned() })
        });
        held.unwrap().map(Result::unwrap).collect()
    }

    /// Has a node run until nothing is left to do.
    pub(crate) fn come_to_rest(&mut self) {
        let node = self.start();
        self.sleep_until(Duration::from_millis((self.span.last - self.span.first) as u64));
        let (database, since) = (self.database(), Instant::now());
        let jobs = || {
            let count = "SELECT count(*) FROM punctual_jobs";
            database.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        while jobs() > 0 {
            assert!(since.elapsed() < PATIENCE, "{} jobs are not over", jobs());
            std::thread::sleep(Duration::from_millis(20));
        }
        node.close();
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    fn database(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(self.database_path(), flags).unwrap();
        database.busy_timeout(PATIENCE).unwrap();
        database
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A row that a node had claimed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) job: String,
    pub(crate) fire_time: i64,
    pub(crate) fence: u64,
}

impl Held {
    pub(crate) fn of(who: &Who) -> Held {
        Held { job: who.job.clone(), fire_time: who.fire_time, fence: who.fence }
    }
}

/// A generator of random numbers.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}
